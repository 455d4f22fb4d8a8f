//! All mailboxes of a run together: what is through, what is under way, how fast, how long it will take. The whole is that
//! of the plan: mailboxes count whose turn has not come yet, and so does what earlier runs brought.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::pace::Pace;
use crate::api::MailboxMigrationStatus;
use crate::api::mailboxmigration::MailboxPhase;
use crate::model::address::Address;
use crate::model::record::MailboxRecord;
use crate::plan::Decision;
use crate::transfer::progress::{MailboxProgress, Reading};

/// The sums of a run.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    pace: Option<Pace>,
    /// The share of every mailbox of the plan while nobody works on it.
    still: BTreeMap<Address, Share>,
    under_way: BTreeMap<Address, (Arc<MailboxProgress>, Pace)>,
    /// The messages and bytes of this run's attempts that are over.
    passed: (u64, u64),
}

/// One mailbox's part of the whole.
#[derive(Debug, Clone, Copy, Default)]
struct Share {
    messages: u64,
    done: u64,
    bytes: u64,
    bytes_done: u64,
    through: bool,
}

impl Share {
    fn of(status: &MailboxMigrationStatus) -> Self {
        let counts = status.messages.unwrap_or_default();
        let (bytes, done) = (status.bytes.unwrap_or_default(), counts.source.saturating_sub(counts.pending));
        let share = u128::from(bytes) * u128::from(done) / u128::from(counts.source.max(1));
        Self {
            messages: counts.source,
            done,
            bytes,
            bytes_done: u64::try_from(share).unwrap_or(bytes),
            through: status.phase == Some(MailboxPhase::Verified),
        }
    }
}

/// The sums at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Sums {
    /// Mailboxes of the plan.
    pub(super) mailboxes: usize,
    /// Mailboxes whose pass came to its end.
    pub(super) through: usize,
    /// Messages and bytes of all of them; of this run, what passed lately.
    pub(super) reading: Reading,
    /// How long that took.
    pub(super) elapsed: Duration,
}

impl Tally {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A mailbox begins.
    pub(super) fn begin(&self, mailbox: &Address, progress: Arc<MailboxProgress>) {
        let (mut state, now) = (self.state(), Instant::now());
        state.pace.get_or_insert_with(|| Pace::begin(now));
        state.under_way.insert(mailbox.clone(), (progress, Pace::begin(now)));
    }

    /// A mailbox's attempt ended.
    pub(super) fn end(&self, mailbox: &Address, record: &MailboxRecord) {
        let mut state = self.state();
        let Some((progress, _)) = state.under_way.remove(mailbox) else { return };
        let reading = progress.read();
        state.passed.0 += reading.passed;
        state.passed.1 += reading.bytes_passed;
        let through = record.failure.is_none();
        // All messages that there are were dealt with, whatever was forecast.
        let messages = if through { record.counts.source } else { reading.expected };
        let done = if through { messages } else { record.counts.source - record.counts.pending };
        let bytes = if through { reading.bytes } else { reading.bytes_expected };
        let share = Share { messages, done, bytes, bytes_done: reading.bytes.min(bytes), through };
        state.still.insert(mailbox.clone(), share);
    }

    /// A decision lists every mailbox, once there is a plan.
    pub(super) fn count(&self, decision: &Decision) {
        let mut state = self.state();
        if state.still.is_empty() && decision.plan.is_some() {
            let shares = decision.mailboxes.iter();
            state.still =
                shares.map(|(planned, _, status)| (planned.source.clone(), Share::of(status))).collect();
        }
    }

    /// The mailboxes under way, each with its counters, of which those of this run are of the last while, and how long
    /// that was.
    pub(super) fn under_way(&self) -> Vec<(Address, Reading, Duration)> {
        let (mut state, now) = (self.state(), Instant::now());
        let read = |(mailbox, (progress, pace)): (&Address, &mut (Arc<MailboxProgress>, Pace))| {
            let mut reading = progress.read();
            let elapsed = pace.narrow(&mut reading, now);
            (mailbox.clone(), reading, elapsed)
        };
        state.under_way.iter_mut().map(read).collect()
    }

    /// The sums now.
    pub(super) fn sums(&self) -> Sums {
        let mut state = self.state();
        let (passed, bytes_passed) = state.passed;
        let unknown = state.under_way.keys().filter(|mailbox| !state.still.contains_key(mailbox)).count();
        let mut sums = Sums {
            mailboxes: state.still.len() + unknown,
            through: 0,
            reading: Reading { passed, bytes_passed, ..Reading::default() },
            elapsed: Duration::ZERO,
        };
        let reading = &mut sums.reading;
        for (_, share) in state.still.iter().filter(|(mailbox, _)| !state.under_way.contains_key(mailbox)) {
            sums.through += usize::from(share.through);
            reading.expected += share.messages;
            reading.done += share.done;
            reading.bytes_expected += share.bytes;
            reading.bytes += share.bytes_done;
        }
        for (progress, _) in state.under_way.values() {
            let one = progress.read();
            reading.expected += one.expected;
            reading.done += one.done;
            reading.bytes_expected += one.bytes_expected;
            reading.bytes += one.bytes;
            reading.passed += one.passed;
            reading.bytes_passed += one.bytes_passed;
        }
        if let Some(pace) = &mut state.pace {
            sums.elapsed = pace.narrow(&mut sums.reading, Instant::now());
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::failure::Failure;
    use crate::model::progress::MessageCounts;

    fn address(name: &str) -> Address {
        format!("{name}@old.test").parse().unwrap()
    }

    fn share(messages: u64, done: u64, through: bool) -> Share {
        Share { messages, done, bytes: messages * 100, bytes_done: done * 100, through }
    }

    #[test]
    fn the_whole_is_that_of_the_plan_from_the_beginning() {
        let tally = Tally::default();
        let [anna, bert, carl] = ["anna", "bert", "carl"].map(address);
        tally.state().still = [
            (anna.clone(), share(100, 0, false)),
            (bert.clone(), share(50, 20, false)),
            (carl.clone(), share(10, 10, true)),
        ]
        .into();
        let told = || {
            let sums = tally.sums();
            let reading = sums.reading;
            (sums.through, sums.mailboxes, reading.done, reading.expected, reading.bytes, reading.passed)
        };
        assert_eq!(told(), (1, 3, 30, 160, 3_000, 0));
        let progress = Arc::new(MailboxProgress::default());
        progress.forecast(50, 5_000);
        tally.begin(&bert, Arc::clone(&progress));
        let counts = MessageCounts { source: 50, copied: 20, pending: 30, ..MessageCounts::default() };
        progress.resume(counts, 2_000);
        assert_eq!(told(), (1, 3, 30, 160, 3_000, 0), "what was there before is no progress of this run");
        progress.expect(30, 3_000);
        for _ in 0..5 {
            progress.finish_message();
            progress.pass_bytes(100);
        }
        assert_eq!(told(), (1, 3, 35, 160, 3_500, 5));
        let counts = MessageCounts { copied: 25, pending: 25, ..counts };
        let failure = Some(Failure::internal("a session ended"));
        tally.end(&bert, &MailboxRecord { counts, failure, ..MailboxRecord::default() });
        assert_eq!(told(), (1, 3, 35, 160, 3_500, 5));
        let counts = MessageCounts { source: 50, copied: 50, ..MessageCounts::default() };
        let again = Arc::new(MailboxProgress::default());
        again.resume(counts, 5_000);
        tally.begin(&bert, again);
        tally.end(&bert, &MailboxRecord { counts, ..MailboxRecord::default() });
        assert_eq!(told(), (2, 3, 60, 160, 6_000, 5));
    }
}
