//! The facts that a decision looks at. Both platforms fill the same values.

use std::collections::BTreeMap;

use super::mailboxes::PlannedMailbox;
use crate::model::address::Address;
use crate::model::evidence::DomainDiscovery;
use crate::model::failure::Failure;
use crate::model::record::MailboxRecord;

/// Everything that is known of a migration at one moment.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// The pass that is wanted now; the first is 1.
    pub pass: u32,
    /// Each domain of the spec, by its name there.
    pub domains: BTreeMap<String, DomainObserved>,
    /// Each mailbox that was ever looked at, by its address at the source.
    pub mailboxes: BTreeMap<Address, MailboxObserved>,
}

/// What is known of a domain.
#[derive(Debug, Clone, Default)]
pub struct DomainObserved {
    /// Its mailboxes in the order of the manifest, or why they cannot be listed.
    pub mailboxes: Option<Result<Vec<PlannedMailbox>, Failure>>,
    /// Whether discovery is at work on it.
    pub discovering: bool,
    /// What discovery saw for this pass.
    pub discovery: Option<DomainDiscovery>,
}

impl DomainObserved {
    /// Its mailboxes, as far as they could be listed.
    pub fn planned(&self) -> &[PlannedMailbox] {
        match &self.mailboxes {
            Some(Ok(mailboxes)) => mailboxes,
            _ => &[],
        }
    }
}

/// What is known of a mailbox.
#[derive(Debug, Clone, Default)]
pub struct MailboxObserved {
    /// Whether a worker is at work on it.
    pub running: bool,
    /// What is remembered of it.
    pub record: MailboxRecord,
}
