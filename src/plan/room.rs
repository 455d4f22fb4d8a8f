//! The room for steps: how many mailboxes may be at work at the same time, and which of them not beside each other.

use std::collections::{BTreeMap, BTreeSet};

use super::decide::{Standing, Step, Stood};
use super::mailboxes::PlannedMailbox;
use super::observed::{Observed, Patience};
use crate::api::MailMigrationSpec;
use crate::model::address::Address;
use crate::model::purpose::Purpose;

/// The room that is left.
pub(super) struct Room<'a> {
    spec: &'a MailMigrationSpec,
    observed: &'a Observed,
    /// Mailboxes that may still begin.
    free: usize,
    together: Together<'a>,
}

impl<'a> Room<'a> {
    /// The room beside those that are at work, whether they are carried or verified.
    pub(super) fn of(spec: &'a MailMigrationSpec, observed: &'a Observed, standings: &'a [Stood]) -> Self {
        let is_at_work = |stood: &&Stood| stood.standing == Standing::Running || stood.verifying;
        let at_work = standings.iter().filter(is_at_work).count();
        let free = match observed.patience {
            Patience::Command => (spec.workers.concurrency as usize).saturating_sub(at_work),
            Patience::Resident => usize::MAX,
        };
        let taken = standings.iter().filter(is_at_work).map(destination_of).collect();
        Self { spec, observed, free, together: Together::of(standings, taken) }
    }

    /// Whether one more mailbox may begin.
    pub(super) fn is_free(&self) -> bool {
        self.free > 0
    }

    /// The step that verifies a mailbox once more, if it waits for that and there is room.
    pub(super) fn begin_verification(&mut self, stood: &Stood) -> Option<Step> {
        if stood.is_to_be_verified { self.begin(stood, Purpose::Verify) } else { None }
    }

    /// The step that begins a mailbox; `None` where there is no room for it, or no way to read it.
    pub(super) fn begin(&mut self, stood: &Stood, purpose: Purpose) -> Option<Step> {
        let endpoint = stood.endpoint.clone()?;
        if !self.is_free() || !self.together.lets_in(stood) {
            return None;
        }
        self.free -= 1;
        let (domain, mut mailbox) = (stood.domain, self.together.begin(stood));
        // A pod, which looks at nothing itself, was told before.
        let name = &self.spec.domains[domain].name;
        mailbox.authorities = self.observed.authorities_of(name).or(mailbox.authorities);
        let seen = self.observed.domains.get(name);
        let found = seen.and_then(|seen| seen.find(&mailbox.source));
        mailbox.logins = found.and_then(|found| found.logins.clone()).or(mailbox.logins);
        Some(Step::Sync { domain, mailbox, endpoint, purpose })
    }
}

/// Mailboxes that arrive in the same one: one of them at a time is at work, so that none takes what another is just
/// sending for its own.
struct Together<'a> {
    /// By their destination, those of which there are several.
    sources: BTreeMap<String, Vec<&'a Address>>,
    /// Destinations of those that are at work.
    taken: BTreeSet<String>,
}

impl<'a> Together<'a> {
    fn of(standings: &'a [Stood], taken: BTreeSet<String>) -> Self {
        let mut sources: BTreeMap<String, Vec<&Address>> = BTreeMap::new();
        for stood in standings {
            sources.entry(destination_of(stood)).or_default().push(&stood.mailbox.source);
        }
        sources.retain(|_, sources| sources.len() > 1);
        Self { sources, taken }
    }

    fn lets_in(&self, stood: &Stood) -> bool {
        !self.taken.contains(&destination_of(stood))
    }

    /// The mailbox, told which others arrive in the same one. A pod, which knows its own share only, was told before.
    fn begin(&mut self, stood: &Stood) -> PlannedMailbox {
        let destination = destination_of(stood);
        let mut mailbox = stood.mailbox.clone();
        let others = self.sources.get(&destination).into_iter().flatten().copied();
        mailbox.beside.extend(others.filter(|other| **other != mailbox.source).cloned());
        mailbox.beside.sort_unstable();
        mailbox.beside.dedup();
        self.taken.insert(destination);
        mailbox
    }
}

fn destination_of(stood: &Stood) -> String {
    stood.mailbox.destination.to_string().to_lowercase()
}
