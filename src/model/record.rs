//! The memory of a mailbox between passes: how its last pass went and what it did in all of them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::difference::Difference;
use super::evidence::{Amount, MailboxSize};
use super::failure::Failure;
use super::finding::Finding;
use super::message::Verdict;
use super::progress::MessageCounts;

/// How closely arrivals are checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Depth {
    /// The size of every message, and the digest of those whose bytes servers are known to change.
    Sizes,
    /// As `Sizes`, and the digest of a sample of one in a hundred.
    #[default]
    Sampled,
    /// The digest of every message.
    Full,
}

/// The result of a verification of a mailbox: `checked = identical + same_size + alike + altered + missing`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    /// How deep it went.
    pub depth: Depth,
    /// When it was done.
    pub at: Timestamp,
    /// Messages that were looked for at the destination.
    pub checked: u64,
    /// Messages that were read back and compared by digest.
    pub read_back: u64,
    /// Messages that were read at both sides and are the same, byte for byte.
    pub identical: u64,
    /// Messages that were found by size and date, and not read.
    #[serde(default)]
    pub same_size: u64,
    /// Messages of which the destination holds the bytes that it was given, and the source shows others now: the same but for
    /// line ends, lines that transport adds, or how they are encoded.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub alike: u64,
    /// Messages that the destination holds with other bytes, whenever it changed them.
    pub altered: u64,
    /// Messages that are no longer there.
    pub missing: u64,
    /// Of those that are there, those whose flags, keywords or date are not the source's; and folders that are not there.
    #[serde(default)]
    pub differing: u64,
    /// Of the differing ones, folders that are not there.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub absent_folders: u64,
    /// Messages of the source that have not been carried yet; they are not among the checked ones.
    #[serde(default)]
    pub waiting: u64,
    /// Of those that are there, those that lie in another folder than they were carried to.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub moved: u64,
    /// Messages of the source that could not be carried and are not at the destination; they are not among the checked ones.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failed: u64,
    /// Messages that were carried and that nobody could look for, since a folder could not be opened at either side; they are not
    /// among the checked ones.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unchecked: u64,
    /// Messages at the destination that were carried and are there once more than at the source.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub extra: u64,
}

impl Verification {
    /// Nothing was looked for yet.
    pub fn begun(at: Timestamp) -> Self {
        Self {
            depth: Depth::default(),
            at,
            checked: 0,
            read_back: 0,
            identical: 0,
            same_size: 0,
            alike: 0,
            altered: 0,
            missing: 0,
            differing: 0,
            absent_folders: 0,
            waiting: 0,
            moved: 0,
            failed: 0,
            unchecked: 0,
            extra: 0,
        }
    }
}

impl Verification {
    /// Messages whose flags, keywords or date are not the source's.
    pub fn differing_messages(&self) -> u64 {
        self.differing.saturating_sub(self.absent_folders)
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn is_zero<N: Default + PartialEq>(number: &N) -> bool {
    *number == N::default()
}

/// The memory of a mailbox.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MailboxRecord {
    /// The pass that was tried last; the first is 1.
    pub pass: u32,
    /// How often that pass was tried.
    pub attempts: u32,
    /// The maker of the last attempt: the Job of a cluster; nobody in particular on a laptop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// When the last attempt began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// The ledger's counts.
    pub counts: MessageCounts,
    /// The bytes of the counted messages, without those that the manifest leaves out; 0 where the ledger was not asked.
    #[serde(skip_serializing_if = "is_zero")]
    pub bytes: u64,
    /// Of the copied messages, those that the destination changed.
    pub altered: u64,
    /// Of these, those that a verification found with other bytes than they had when they arrived.
    #[serde(skip_serializing_if = "is_zero")]
    pub changed: u64,
    /// Of the altered messages, those of which the destination keeps only a part.
    #[serde(skip_serializing_if = "is_zero")]
    pub truncated: u64,
    /// Of the copied messages, those that a verification no longer found at the destination.
    #[serde(skip_serializing_if = "is_zero")]
    pub missing: u64,
    /// Folders that the last pass went through.
    pub folders: u32,
    /// Messages that the last pass sent.
    pub sent: u64,
    /// Messages that the last pass recognised at the destination instead of sending them.
    pub recognised: u64,
    /// Bytes sent in all passes.
    pub bytes_sent: u64,
    /// Messages whose flags were brought up to date in all passes.
    pub flags_updated: u64,
    /// Arrivals whose size was compared, in all passes.
    pub sizes_checked: u64,
    /// Arrivals that were read back, in all passes.
    pub digests_checked: u64,
    /// Findings that a person should know, as of the last pass that came to its end.
    pub findings: Vec<Finding>,
    /// The result of the deepest verification, and of those that went as deep and looked at as much the last.
    pub verification: Option<Verification>,
    /// The result of a verification that was made after that one and went less deep, or looked at less.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rechecked: Option<Verification>,
    /// The number of the verification that was tried last, of those that `spec.trigger.verify` asks for; the first is 1.
    #[serde(skip_serializing_if = "is_zero")]
    pub verification_number: u32,
    /// Why the last verification could not be made; `None` once one was made, or a pass was let in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unverified: Option<Failure>,
    /// Flags, dates, folders and extra copies that the last verification found otherwise than they should be. Which messages
    /// are missing or altered is in the ledger.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
    /// The failure that ended the last attempt.
    pub failure: Option<Failure>,
}

impl MailboxRecord {
    /// The mailbox's messages. While a pass has not come to its end, what discovery counted and the ledger does not know
    /// yet is pending too, or excluded by the manifest's rules: a stopped pass must not make a mailbox look smaller than it is.
    pub fn messages(&self, pass: u32, seen: Option<&MailboxSize>) -> MessageCounts {
        let mut counts = self.counts;
        if let Some(seen) = seen.filter(|_| !self.finished(pass)) {
            let unlisted = (seen.messages + seen.left_out.messages).saturating_sub(counts.source);
            let excluded = seen.left_out.messages.saturating_sub(counts.excluded).min(unlisted);
            counts.add(&Verdict::Excluded(String::new()), excluded);
            counts.add(&Verdict::Pending, unlisted - excluded);
        }
        counts
    }

    /// Messages that the manifest does not leave out, and their bytes: the ledger's where a pass came to its end, for mail came
    /// and went since discovery counted, or where discovery could not count.
    pub fn amount(&self, pass: u32, seen: Option<&MailboxSize>) -> Amount {
        let known = Amount { messages: self.counts.source - self.counts.excluded, bytes: self.bytes };
        match seen {
            Some(seen) if !self.finished(pass) || self.bytes == 0 => {
                Amount { messages: seen.messages, bytes: seen.bytes }
            }
            _ => known,
        }
    }

    /// Writes down that a verification was tried and could not be made. All that was proved before stays so.
    pub fn give_up_verification(&mut self, number: u32, failure: Failure) {
        self.verification_number = number;
        self.unverified = Some(failure);
    }

    /// The verification that was made last.
    pub fn last_verification(&self) -> Option<&Verification> {
        self.rechecked.as_ref().or(self.verification.as_ref())
    }

    /// Keeps what a verification showed. One that went less deep than an earlier one, or that could not look for messages
    /// which that one saw, is kept beside it: it takes nothing back that was proved.
    pub fn keep_verification(&mut self, shown: Verification, differences: Vec<Difference>) {
        self.differences = differences;
        self.unverified = None;
        let is_less =
            |before: &Verification| before.depth > shown.depth || before.unchecked < shown.unchecked;
        if self.verification.as_ref().is_some_and(is_less) {
            self.rechecked = Some(shown);
        } else {
            (self.verification, self.rechecked) = (Some(shown), None);
        }
    }

    /// Forgets what verifications found: the destination is another mailbox.
    pub fn forget_verifications(&mut self) {
        (self.verification, self.rechecked, self.unverified) = (None, None, None);
        self.differences.clear();
    }

    /// Whether a pass came to its end.
    pub fn finished(&self, pass: u32) -> bool {
        self.pass == pass && self.failure.is_none() && self.ended.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_pass_does_not_make_a_mailbox_smaller() {
        let counts = MessageCounts { source: 10, copied: 9, pending: 1, ..MessageCounts::default() };
        let seen = MailboxSize { messages: 20, ..MailboxSize::default() };
        let mut record =
            MailboxRecord { pass: 1, counts, ended: Some(Timestamp::UNIX_EPOCH), ..MailboxRecord::default() };
        assert_eq!(record.messages(1, Some(&seen)), counts, "a finished pass has looked into every folder");
        record.failure = Some(Failure::internal("stopped"));
        let stopped = record.messages(1, Some(&seen));
        assert_eq!((stopped.source, stopped.copied, stopped.pending), (20, 9, 11));
        assert!(stopped.balances());
        let seen = MailboxSize {
            messages: 15,
            left_out: Amount { messages: 5, bytes: 0 },
            ..MailboxSize::default()
        };
        let stopped = record.messages(1, Some(&seen));
        assert_eq!((stopped.source, stopped.excluded, stopped.pending), (20, 5, 6));
        assert!(stopped.balances());
    }

    #[test]
    fn the_ledger_knows_better_than_discovery_once_a_pass_is_through() {
        let counts = MessageCounts { source: 12, copied: 10, excluded: 2, ..MessageCounts::default() };
        let mut record = MailboxRecord {
            pass: 1,
            counts,
            bytes: 900,
            ended: Some(Timestamp::UNIX_EPOCH),
            ..MailboxRecord::default()
        };
        let seen = MailboxSize { messages: 9, bytes: 800, ..MailboxSize::default() };
        let amount = |messages, bytes| Amount { messages, bytes };
        assert_eq!(record.amount(1, Some(&seen)), amount(10, 900));
        assert_eq!(record.amount(2, Some(&seen)), amount(9, 800), "the second pass is not through");
        assert_eq!(record.amount(2, None), amount(10, 900), "a login that was refused counts nothing");
        record.bytes = 0;
        assert_eq!(record.amount(1, Some(&seen)), amount(9, 800), "an earlier version kept no bytes");
    }

    #[test]
    fn a_verification_that_looks_at_less_takes_no_proof_back() {
        let at = |depth, checked, unchecked| Verification {
            depth,
            checked,
            unchecked,
            ..Verification::begun(Timestamp::UNIX_EPOCH)
        };
        let kept = |first, second| {
            let mut record = MailboxRecord::default();
            record.keep_verification(first, Vec::new());
            record.keep_verification(second, Vec::new());
            let checked = record.verification.as_ref().map(|shown| shown.checked);
            (checked, record.last_verification().map(|shown| shown.checked))
        };
        assert_eq!(kept(at(Depth::Full, 9, 0), at(Depth::Full, 8, 0)), (Some(8), Some(8)));
        assert_eq!(kept(at(Depth::Full, 9, 0), at(Depth::Sizes, 8, 0)), (Some(9), Some(8)));
        assert_eq!(kept(at(Depth::Full, 9, 0), at(Depth::Full, 0, 9)), (Some(9), Some(0)));
        assert_eq!(kept(at(Depth::Full, 0, 9), at(Depth::Full, 9, 0)), (Some(9), Some(9)));
    }
}
