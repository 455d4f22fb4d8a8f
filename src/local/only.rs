//! Some mailboxes of the manifest, when a command is about these alone. The plan stays that of all: only what is carried
//! and checked is less.

use std::sync::Arc;

use super::run::{Reach, tools_for};
use super::secrets::Secrets;
use super::state::StateDir;
use crate::api::MailMigration;
use crate::api::schema::nearest;
use crate::model::address::Address;
use crate::model::failure::{Failure, Result};
use crate::plan::mailboxes::PlannedMailbox;

/// Which mailboxes a command is about.
#[derive(Debug, Clone, Default)]
pub struct Only(Vec<String>);

impl Only {
    /// These; all when there is none. Upper and lower case are one, as everywhere in lists.
    pub fn these(addresses: &[Address]) -> Self {
        Self(addresses.iter().map(|address| address.to_string().to_lowercase()).collect())
    }

    /// Whether it is about all mailboxes.
    pub fn is_all(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a mailbox is among them, by either of its addresses.
    pub fn takes(&self, mailbox: &PlannedMailbox) -> bool {
        self.is_all() || self.0.iter().any(|wanted| names(mailbox).contains(wanted))
    }

    /// The migrations that have one of them.
    ///
    /// # Errors
    /// A failure that names an address that is in none of the manifest's lists.
    pub async fn choose(
        &self,
        migrations: Vec<MailMigration>,
        secrets: &Arc<Secrets>,
        state: &StateDir,
        reach: &Reach,
    ) -> Result<Vec<MailMigration>> {
        if self.is_all() {
            return Ok(migrations);
        }
        let mut chosen = Vec::new();
        let (mut listed, mut unlisted): (Vec<PlannedMailbox>, Option<Failure>) = (Vec::new(), None);
        for migration in migrations {
            let tools = tools_for(&migration, secrets, state, reach).await?;
            let before = listed.len();
            for at in 0..migration.spec.domains.len() {
                match tools.list_mailboxes(at) {
                    Ok(mailboxes) => listed.extend(mailboxes),
                    Err(failure) => {
                        unlisted.get_or_insert(failure);
                    }
                }
            }
            if listed[before..].iter().any(|mailbox| self.takes(mailbox)) {
                chosen.push(migration);
            }
        }
        let unknown =
            self.0.iter().find(|wanted| !listed.iter().any(|mailbox| names(mailbox).contains(wanted)));
        match (unknown, unlisted) {
            (None, _) => Ok(chosen),
            // It may be in the list that cannot be read.
            (Some(_), Some(failure)) => Err(failure),
            (Some(unknown), None) => Err(absent(unknown, &listed)),
        }
    }
}

fn names(mailbox: &PlannedMailbox) -> [String; 2] {
    [&mailbox.source, &mailbox.destination].map(|address| address.to_string().to_lowercase())
}

fn absent(unknown: &str, listed: &[PlannedMailbox]) -> Failure {
    let known: Vec<String> = listed.iter().flat_map(names).collect();
    let near = nearest(unknown, known.iter().map(String::as_str));
    let meant = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
    Failure::configuration(format!("--only {unknown}: no mailbox of the manifest has this address{meant}"))
        .hint("give the address as the list of the manifest has it, at the source or at the destination")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailbox(source: &str, destination: &str) -> PlannedMailbox {
        PlannedMailbox {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            login_name: source.to_owned(),
            login_name_is_given: false,
            logins: None,
            authorities: None,
            beside: Vec::new(),
        }
    }

    #[test]
    fn a_mailbox_is_named_by_either_address_in_either_case() {
        let anna = mailbox("Anna@old.test", "anna.b@new.test");
        let only = |text: &str| Only::these(&[text.parse().unwrap()]);
        for (text, taken) in [
            ("anna@OLD.test", true),
            ("ANNA.B@new.test", true),
            ("anna@new.test", false),
            ("bert@old.test", false),
        ] {
            assert_eq!(only(text).takes(&anna), taken, "{text}");
        }
        assert!(Only::default().takes(&anna), "all");
        let failure = absent("ana@old.test", &[anna]);
        assert!(failure.what.contains("did you mean anna@old.test?"), "{failure}");
    }
}
