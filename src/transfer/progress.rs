//! How far a mailbox has come, for whoever shows it. All of it is counted, what earlier passes brought as well: a mailbox
//! that was half through when a run was killed is half through when the next one begins. Reading never waits.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::model::folder::FolderPath;
use crate::model::progress::MessageCounts;
use crate::model::text::printable;

/// The state of one mailbox's pass. Only what is there before the pass is set; everything else goes up.
#[derive(Debug, Default)]
pub struct MailboxProgress {
    before: Mutex<Option<MessageCounts>>,
    through: AtomicU64,
    bytes_through: AtomicU64,
    expected: AtomicU64,
    bytes_expected: AtomicU64,
    done: AtomicU64,
    bytes: AtomicU64,
    forecast: AtomicU64,
    bytes_forecast: AtomicU64,
    sent: AtomicU64,
    recognised: AtomicU64,
    place: Mutex<Doing>,
}

/// The place or the wait that a pass is at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Doing {
    /// It has not begun.
    #[default]
    Nothing,
    /// A folder of the source, made printable.
    Folder(String),
    /// Something that it waits for, in our words.
    Waiting(String),
}

impl Doing {
    /// Its words for a person; empty while nothing has begun.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Nothing => "",
            Self::Folder(words) | Self::Waiting(words) => words,
        }
    }
}

/// A reading of [`MailboxProgress`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// Messages of the mailbox: found so far, or forecast.
    pub expected: u64,
    /// Messages of it that were dealt with, in this pass or before.
    pub done: u64,
    /// Bytes of the mailbox, as the source announces them.
    pub bytes_expected: u64,
    /// Bytes of it that were dealt with, in this pass or before.
    pub bytes: u64,
    /// Messages that this pass has dealt with.
    pub passed: u64,
    /// Bytes that have passed in this pass.
    pub bytes_passed: u64,
    /// Messages that the destination took in this pass.
    pub sent: u64,
    /// Messages that were recognised at the destination in this pass.
    pub recognised: u64,
    /// The folder, or what is being waited for.
    pub place: Doing,
}

impl MailboxProgress {
    /// Says what the pass waits for. The name of a folder in it comes from a peer and is made printable.
    pub fn enter_phase(&self, words: &str) {
        self.enter(Doing::Waiting(printable(words)));
    }

    /// Says in which folder the pass is.
    pub fn enter_folder(&self, path: &FolderPath) {
        self.enter(Doing::Folder(printable(&path.to_string())));
    }

    fn enter(&self, place: Doing) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = place;
    }

    /// Says how much the mailbox is likely to hold, as discovery counted it, before its folders are looked into.
    pub fn forecast(&self, messages: u64, bytes: u64) {
        self.forecast.store(messages, Ordering::Relaxed);
        self.bytes_forecast.store(bytes, Ordering::Relaxed);
    }

    /// Says what was dealt with as far as is remembered; the ledger knows it for certain, and is asked where there is
    /// something to carry.
    pub fn suppose(&self, messages: u64, bytes: u64) {
        self.through.store(messages, Ordering::Relaxed);
        self.bytes_through.store(bytes, Ordering::Relaxed);
    }

    /// Says what the ledger knew when the pass began, and the bytes of all that it had dealt with.
    pub fn resume(&self, counts: MessageCounts, bytes: u64) {
        self.suppose(counts.source.saturating_sub(counts.pending), bytes);
        *self.before.lock().unwrap_or_else(PoisonError::into_inner) = Some(counts);
    }

    /// The ledger's counts when the pass began; `None` while nothing was to be carried.
    pub fn before(&self) -> Option<MessageCounts> {
        *self.before.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// More messages were found to carry.
    pub fn expect(&self, messages: u64, bytes: u64) {
        self.expected.fetch_add(messages, Ordering::Relaxed);
        self.bytes_expected.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A message that an earlier pass had dealt with, in that it was refused, is tried once more: it is to be carried again, and the
    /// whole does not get larger.
    pub fn take_up_again(&self, bytes: u64) {
        let less = |counter: &AtomicU64, n: u64| {
            let _ =
                counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |was| Some(was.saturating_sub(n)));
        };
        less(&self.through, 1);
        less(&self.bytes_through, bytes);
        self.expect(1, bytes);
    }

    /// Messages were found that a rule leaves out: they are dealt with, and no time is needed for them.
    pub fn leave_out(&self, messages: u64, bytes: u64) {
        self.through.fetch_add(messages, Ordering::Relaxed);
        self.bytes_through.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A message was dealt with.
    pub fn finish_message(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    /// Bytes passed.
    pub fn pass_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The destination took so many messages.
    pub fn send(&self, messages: u64) {
        self.sent.fetch_add(messages, Ordering::Relaxed);
    }

    /// Messages were recognised at the destination.
    pub fn recognise(&self, messages: u64) {
        self.recognised.fetch_add(messages, Ordering::Relaxed);
    }

    /// Reads all counters.
    pub fn read(&self) -> Reading {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (through, bytes_through) = (of(&self.through), of(&self.bytes_through));
        Reading {
            expected: (through + of(&self.expected)).max(of(&self.forecast)),
            done: through + of(&self.done),
            bytes_expected: (bytes_through + of(&self.bytes_expected)).max(of(&self.bytes_forecast)),
            bytes: bytes_through + of(&self.bytes),
            passed: of(&self.done),
            bytes_passed: of(&self.bytes),
            sent: of(&self.sent),
            recognised: of(&self.recognised),
            place: self.place.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(progress: &MailboxProgress) -> (u64, u64, u64, u64) {
        let reading = progress.read();
        (reading.done, reading.expected, reading.bytes, reading.bytes_expected)
    }

    #[test]
    fn what_earlier_passes_brought_is_counted_and_is_not_work_of_this_one() {
        let progress = MailboxProgress::default();
        progress.forecast(10, 1_000);
        assert_eq!(read(&progress), (0, 10, 0, 1_000));
        progress.suppose(2, 200);
        assert_eq!((read(&progress), progress.before()), ((2, 10, 200, 1_000), None));
        // A run was killed after six.
        progress.resume(MessageCounts { source: 10, copied: 6, pending: 4, ..MessageCounts::default() }, 600);
        assert_eq!(read(&progress), (6, 10, 600, 1_000));
        progress.expect(3, 300);
        progress.leave_out(1, 100);
        for _ in 0..3 {
            progress.pass_bytes(100);
            progress.finish_message();
        }
        assert_eq!(read(&progress), (10, 10, 1_000, 1_000));
        assert_eq!((progress.read().passed, progress.read().bytes_passed), (3, 300));
        // One that was refused by an earlier pass and is tried again does not.
        progress.take_up_again(100);
        assert_eq!(read(&progress), (9, 10, 900, 1_000));
        progress.pass_bytes(100);
        progress.finish_message();
        // Mail that came to the source since it was counted makes the whole larger.
        progress.expect(2, 50);
        assert_eq!(read(&progress), (10, 12, 1_000, 1_050));
    }
}
