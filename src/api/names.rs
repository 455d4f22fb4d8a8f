//! Names that others rely on: group, version, labels, field managers, and the names of objects that we make.

use crate::model::address::Address;

/// The API group of our kinds.
pub const GROUP: &str = "mailferry.dev";
/// The version of our kinds.
pub const VERSION: &str = "v1alpha1";
/// Group and version as `apiVersion` shows them.
pub const API_VERSION: &str = "mailferry.dev/v1alpha1";

/// Label: the `MailMigration` that an object belongs to.
pub const LABEL_MIGRATION: &str = "mailferry.dev/migration";
/// Label: the domain that an object is about.
pub const LABEL_DOMAIN: &str = "mailferry.dev/domain";
/// The recommended label that says what an object was made by; its value is [`MANAGED_BY`].
pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The value of [`LABEL_MANAGED_BY`].
pub const MANAGED_BY: &str = "mailferry";

/// Field manager of status and conditions.
pub const MANAGER_STATUS: &str = "mailferry/status";
/// Field manager of objects that we make.
pub const MANAGER_OBJECTS: &str = "mailferry/objects";
/// Field manager of a worker's progress.
pub const MANAGER_PROGRESS: &str = "mailferry/progress";

/// The longest name of an object that is also used as a label's value or a host name (RFC 1123).
const NAME_MAX: usize = 63;
/// Hexadecimal digits of the digest in a name. Names can only clash where the local parts are alike, so 32 bits are plenty.
const HASH_LEN: usize = 8;
/// The part of a migration's name that is always kept.
const MIGRATION_MAX: usize = 30;

/// The name of the `MailboxMigration` of a mailbox: `<migration>-<local part>-<digest>`, a DNS label (RFC 1123) that is
/// the same in every run. The digest is over the whole migration name and address, so cutting makes no two names equal.
pub fn mailbox_migration(migration: &str, source: &Address) -> String {
    let identity = format!("{migration}\n{source}");
    let digest = blake3::hash(identity.as_bytes()).to_hex();
    let hash = &digest[..HASH_LEN];
    let migration = slug(migration, MIGRATION_MAX);
    let local = slug(source.local_part(), NAME_MAX - HASH_LEN - 2 - migration.len());
    [migration.as_str(), local.as_str(), hash]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("-")
}

/// Small letters, digits and single hyphens in between, at most `max` of them; what does not fit becomes a hyphen.
fn slug(text: &str, max: usize) -> String {
    let mut slug = String::with_capacity(max);
    for c in text.chars().map(|c| c.to_ascii_lowercase()) {
        if slug.len() == max {
            break;
        }
        if c.is_ascii_alphanumeric() {
            slug.push(c);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.truncate(slug.trim_end_matches('-').len());
    slug
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(migration: &str, address: &str) -> String {
        mailbox_migration(migration, &address.parse().unwrap())
    }

    #[test]
    fn names_are_stable_readable_and_different() {
        assert_eq!(name("contoso", "Anna.B@contoso.example"), "contoso-anna-b-aae57e21");
        assert_ne!(name("contoso", "anna.b@contoso.example"), name("contoso", "anna-b@contoso.example"));
        assert_ne!(name("contoso", "anna@a.example"), name("contoso", "anna@b.example"));
        assert!(name("contoso", "ä@b.example").starts_with("contoso-"));
    }

    proptest! {
        #[test]
        fn every_name_is_a_dns_label(migration in "[a-z0-9]([-a-z0-9.]{0,80}[a-z0-9])?", local in "[^\\s@\"(),;:<>\\[\\]\\\\\\p{C}]{1,40}") {
            prop_assume!(local.len() <= 64);
            let name = name(&migration, &format!("{local}@b.example"));
            let label = regex::Regex::new("^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$").unwrap();
            prop_assert!(label.is_match(&name), "{name}");
        }
    }
}
