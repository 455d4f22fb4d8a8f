//! Names, labels and paths that the operator gives and workers find.

use sha2::{Digest as _, Sha256};

use crate::api::names::{LABEL_MANAGED_BY, LABEL_MIGRATION, MANAGED_BY};
use crate::model::purpose::Purpose;

/// Label: the digest of what an object was made for; when the spec asks for something else, the object is outdated.
pub const LABEL_INPUTS: &str = "mailferry.dev/inputs";
/// Label: what an object is for, `discover`, `sync`, `verify` or `results`.
pub const LABEL_TASK: &str = "mailferry.dev/task";
/// Label: a digest of the domain's name.
pub const LABEL_DOMAIN_DIGEST: &str = "mailferry.dev/domain-digest";
/// Label: the number of the pass, of the verification, or of the round of discovery.
pub const LABEL_NUMBER: &str = "mailferry.dev/number";
/// Label of a `MailboxMigration`: the ConfigMap that takes its results.
pub const LABEL_RESULTS: &str = "mailferry.dev/results";
/// Annotation of a Job: a digest of the settings that its pods were made with.
pub const ANNOTATION_SETTINGS: &str = "mailferry.dev/settings";
/// Annotation of a Job: the connections to one host that all its pods together may hold.
pub const ANNOTATION_CONNECTIONS: &str = "mailferry.dev/connections";
/// Kubernetes' label of a Job's pods: the name of the Job.
pub const LABEL_JOB_NAME: &str = "batch.kubernetes.io/job-name";
/// The recommended label that says what part of the product an object is.
pub const LABEL_COMPONENT: &str = "app.kubernetes.io/component";

/// The key of a work list in its ConfigMap.
pub const WORK_KEY: &str = "work.json.gz";
/// Where a pod finds its work list.
pub const WORK_DIR: &str = "/var/run/mailferry/work";
/// Where a pod finds its Secrets: a directory for each.
pub const SECRETS_DIR: &str = "/var/run/mailferry/secrets";
/// Where a pod finds its ConfigMaps: a directory for each.
pub const CONFIG_MAPS_DIR: &str = "/var/run/mailferry/configmaps";
/// Where a pod finds the volume of the ledgers.
pub const LEDGER_DIR: &str = "/var/lib/mailferry";
/// Where a pod finds the volumes with mail: one for each end that is in files, called as the end.
pub const VOLUMES_DIR: &str = "/var/run/mailferry/volumes";

/// The purpose of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// To find out what a domain speaks.
    Discover,
    /// To carry mailboxes of a domain.
    Sync,
    /// To verify mailboxes of a domain once more.
    Verify,
}

impl From<Purpose> for Kind {
    fn from(purpose: Purpose) -> Self {
        match purpose {
            Purpose::Delta => Self::Sync,
            Purpose::Verify => Self::Verify,
        }
    }
}

impl Kind {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Discover, Self::Sync, Self::Verify];

    /// The word in labels and names.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Discover => "discover",
            Self::Sync => "sync",
            Self::Verify => "verify",
        }
    }

    /// The command of its pods. One goes through mailboxes, whatever for; its work list says that.
    pub const fn command(self) -> &'static str {
        match self {
            Self::Discover => "discover",
            Self::Sync | Self::Verify => "sync",
        }
    }

    /// Whether its pods go through mailboxes.
    pub const fn has_mailboxes(self) -> bool {
        matches!(self, Self::Sync | Self::Verify)
    }
}

/// The first characters of a digest over `parts`: enough to tell apart the few objects of one migration.
pub fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_le_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().iter().take(5).fold(String::new(), |mut hex, byte| {
        use std::fmt::Write;
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// The name of a Job: the same for the same inputs, so that nothing is ever begun twice.
pub fn job_name(migration: &str, kind: Kind, inputs: &[&str]) -> String {
    format!("{}-{}-{}", short(migration), kind.as_str(), digest(inputs))
}

/// The ConfigMaps that take what discovery of a domain saw.
pub fn discovery_results(migration: &str, domain: &str, parts: usize) -> Vec<String> {
    (0..parts).map(|n| format!("{}-discovery-{}-{n}", short(migration), digest(&[domain]))).collect()
}

/// The ConfigMap that takes the results of the `group`-th group of a domain's mailboxes.
pub fn mailbox_results(migration: &str, domain: &str, group: usize) -> String {
    format!("{}-results-{}-{group}", short(migration), digest(&[domain]))
}

/// The volume claim of a migration's ledgers.
pub fn ledger_claim(migration: &str) -> String {
    format!("{}-ledger", short(migration))
}

/// The name as the beginning of other names. Job and pod names become labels and host names, which hold 63 characters and
/// no dots; the digest of the whole name keeps apart what is cut or changed.
fn short(migration: &str) -> String {
    if migration.len() <= 30 && !migration.contains('.') {
        return migration.to_owned();
    }
    let kept: String = migration.chars().take(19).map(|c| if c == '.' { '-' } else { c }).collect();
    format!("{}-{}", kept.trim_end_matches('-'), digest(&[migration]))
}

/// Which objects are ours, as a label selector.
pub fn ours() -> String {
    format!("{LABEL_MANAGED_BY}={MANAGED_BY}")
}

/// Which objects belong to a migration, as a label selector.
pub fn of_migration(migration: &str) -> String {
    format!("{LABEL_MIGRATION}={migration}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_stable_and_fit_a_label() {
        let long = "a".repeat(63);
        for name in ["contoso", "contoso.example", &long] {
            let job = job_name(name, Kind::Discover, &["x"]);
            assert!(!job.contains('.'), "{job}: it becomes a host name");
            assert!(job.len() <= 52, "{job}: an index and five random characters follow");
            assert_eq!(job, job_name(name, Kind::Discover, &["x"]));
            assert_ne!(job, job_name(name, Kind::Discover, &["y"]));
            assert!(mailbox_results(name, "a.test", 99_999).len() <= 63);
        }
        assert_ne!(digest(&["ab", "c"]), digest(&["a", "bc"]));
    }
}
