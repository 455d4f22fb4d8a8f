//! All mailboxes of a run together: what is through, what is under way, how fast, how long it will take.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::api::MailMigrationStatus;
use crate::model::address::Address;
use crate::transfer::progress::{MailboxProgress, Reading};

/// The sums of a run.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    started: Option<Instant>,
    mailboxes: u32,
    through: u32,
    ended: Reading,
    under_way: BTreeMap<Address, (Arc<MailboxProgress>, Instant)>,
}

/// The sums at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Sums {
    /// Mailboxes of the run.
    pub(super) mailboxes: u32,
    /// Mailboxes whose pass came to its end.
    pub(super) through: u32,
    /// Messages and bytes of the passes that have begun.
    pub(super) reading: Reading,
    /// Since when.
    pub(super) elapsed: std::time::Duration,
}

impl Tally {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A mailbox begins.
    pub(super) fn begin(&self, mailbox: &Address, progress: Arc<MailboxProgress>) {
        let mut state = self.state();
        state.started.get_or_insert_with(Instant::now);
        state.under_way.insert(mailbox.clone(), (progress, Instant::now()));
    }

    /// A mailbox's attempt ended.
    pub(super) fn end(&self, mailbox: &Address) {
        let mut state = self.state();
        if let Some((progress, _)) = state.under_way.remove(mailbox) {
            let reading = progress.read();
            state.ended.expected += reading.done;
            state.ended.done += reading.done;
            state.ended.bytes_expected += reading.bytes;
            state.ended.bytes += reading.bytes;
        }
    }

    /// A decision counted the mailboxes.
    pub(super) fn count(&self, status: &MailMigrationStatus) {
        if let Some(counts) = status.counts {
            let mut state = self.state();
            state.mailboxes = counts.mailboxes;
            state.through = counts.synced;
        }
    }

    /// The mailboxes under way, each with its counters and since when.
    pub(super) fn under_way(&self) -> Vec<(Address, Reading, std::time::Duration)> {
        let state = self.state();
        state.under_way.iter().map(|(a, (p, since))| (a.clone(), p.read(), since.elapsed())).collect()
    }

    /// The sums now.
    pub(super) fn sums(&self) -> Sums {
        let state = self.state();
        let mut reading = state.ended.clone();
        for (progress, _) in state.under_way.values() {
            let one = progress.read();
            reading.expected += one.expected;
            reading.done += one.done;
            reading.bytes_expected += one.bytes_expected;
            reading.bytes += one.bytes;
        }
        Sums {
            mailboxes: state.mailboxes,
            through: state.through,
            reading,
            elapsed: state.started.map(|s| s.elapsed()).unwrap_or_default(),
        }
    }
}
