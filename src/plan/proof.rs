//! Whether what arrived may be called verified, and what speaks against it: one place for the status, for how a run ends, for
//! `mailferry verify` and for the report.

use std::ops::AddAssign;

use super::findings::is_acknowledged;
use crate::api::MailMigrationSpec;
use crate::api::condition::Reason;
use crate::model::failure::Class;
use crate::model::finding::Code;
use crate::model::record::MailboxRecord;
use crate::model::text::{counted, whole_sentence};

/// Messages that speak against it, and that nobody acknowledged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Open {
    /// Those that could not be carried.
    pub failed: u64,
    /// Those that a verification no longer found at the destination.
    pub missing: u64,
    /// Those that a verification found with other bytes than they had when they arrived.
    pub changed: u64,
    /// Those of which the destination keeps only a part.
    pub truncated: u64,
    /// Those that a verification found with other flags or dates.
    pub differing: u64,
    /// Folders that it did not find.
    pub absent: u64,
    /// Those that are still to be carried although a pass is through.
    pub waiting: u64,
    /// Those that the last verification could not look for, because a folder could not be opened.
    pub unchecked: u64,
}

impl Open {
    /// Of a mailbox whose pass is through. A pilot leaves messages waiting on purpose.
    pub fn of(spec: &MailMigrationSpec, domain: &str, record: &MailboxRecord) -> Self {
        let unless = |code, n| if is_acknowledged(spec, code, domain) { 0 } else { n };
        let last = record.last_verification();
        let (differing, absent) =
            last.map_or((0, 0), |shown| (shown.differing_messages(), shown.absent_folders));
        Self {
            failed: unless(Code::MessagesQuarantined, record.counts.failed),
            missing: unless(Code::ArrivalsMissing, record.missing),
            changed: unless(Code::ArrivalsChanged, record.changed),
            truncated: unless(Code::MessagesTruncated, record.truncated),
            differing: unless(Code::ArrivalsDiffer, differing),
            absent: unless(Code::ArrivalsDiffer, absent),
            waiting: if spec.policy.pilot.is_some() { 0 } else { record.counts.pending },
            unchecked: last.map_or(0, |shown| shown.unchecked),
        }
    }

    /// Whether nothing speaks against it.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a run that is through is not a success: mail is lost or not as it was, and nobody agreed to that.
    pub fn is_loss(&self) -> bool {
        self.failed + self.missing + self.changed + self.truncated > 0
    }

    /// The class of failure that a verification ends with that found it.
    pub fn class(&self) -> Class {
        let is_different = self.is_loss() || self.differing + self.absent > 0;
        if is_different { Class::Message } else { Class::Refused }
    }

    /// Why it is not verified: the reason of a condition.
    pub fn reason(&self) -> &'static str {
        if self.failed > 0 {
            Class::Message.reason()
        } else if self.missing + self.changed + self.truncated + self.differing + self.absent > 0 {
            Reason::Differences.as_str()
        } else {
            Reason::Waiting.as_str()
        }
    }

    /// The reasons against it, as a list of clauses.
    pub fn clauses(&self) -> String {
        let are = |n: u64, words: &str| format!("{} {words}", counted(n, "message is", "messages are"));
        let clauses = [
            (
                self.failed,
                format!("{} not be carried", counted(self.failed, "message could", "messages could")),
            ),
            (self.missing, are(self.missing, "no longer at the destination")),
            (
                self.changed,
                format!(
                    "{} found changed by a verification",
                    counted(self.changed, "message was", "messages were")
                ),
            ),
            (
                self.truncated,
                format!("{} stored only in part", counted(self.truncated, "message was", "messages were")),
            ),
            (self.differing, are(self.differing, "there with other flags or dates")),
            (
                self.absent,
                format!("{} not at the destination", counted(self.absent, "folder is", "folders are")),
            ),
            (self.waiting, are(self.waiting, "still to be carried")),
            (
                self.unchecked,
                format!("{} not be checked", counted(self.unchecked, "message could", "messages could")),
            ),
        ];
        clauses.into_iter().filter(|(n, _)| *n > 0).map(|(_, words)| words).collect::<Vec<_>>().join(", ")
    }

    /// The remedy for it. Each says what it is about, since the next is about something else.
    pub fn remedy(&self) -> String {
        let losses = [
            (
                self.missing,
                "if nobody removed those that are no longer at the destination on purpose, send them again with \
                 `mailferry verify -f … --state … --repair`; else acknowledge ArrivalsMissing in spec.acknowledge",
            ),
            (
                self.failed,
                "the report has the reason of each that could not be carried, and the next run tries them again; acknowledge \
                 MessagesQuarantined in spec.acknowledge if they may stay behind",
            ),
            (
                self.changed,
                "the report names those that were found changed, and the originals are at the source; acknowledge ArrivalsChanged in \
                 spec.acknowledge if that is right",
            ),
            (
                self.truncated,
                "the report names those that were stored only in part, and the originals are at the source; have the destination's \
                 operator find what cuts them, or acknowledge MessagesTruncated in spec.acknowledge",
            ),
        ];
        let losses: Vec<&str> = losses.into_iter().filter(|(n, _)| *n > 0).map(|(_, words)| words).collect();
        if !losses.is_empty() {
            let whole = |(at, words): (usize, &&str)| match at {
                0 => (*words).to_owned(),
                _ => whole_sentence(words),
            };
            return losses.iter().enumerate().map(whole).collect::<Vec<_>>().join(". ");
        }
        let other = if self.waiting > 0 {
            "run the migration again to carry them"
        } else if self.differing + self.absent == 0 {
            "verify again once the folders that are named can be opened"
        } else {
            "users may have changed them since; acknowledge ArrivalsDiffer in spec.acknowledge if that is right"
        };
        other.to_owned()
    }
}

impl AddAssign for Open {
    fn add_assign(&mut self, other: Self) {
        self.failed += other.failed;
        self.missing += other.missing;
        self.changed += other.changed;
        self.truncated += other.truncated;
        self.differing += other.differing;
        self.absent += other.absent;
        self.waiting += other.waiting;
        self.unchecked += other.unchecked;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::progress::MessageCounts;
    use crate::model::record::Verification;

    fn spec(extra: &serde_json::Value) -> MailMigrationSpec {
        let mut spec = serde_json::json!({
            "destination": {"imap": {"host": "imap.new.test", "credentialsRef": {"name": "new"}}},
            "domains": [{"name": "a.test", "credentialsRef": {"name": "a"}}],
        });
        for (key, part) in extra.as_object().unwrap() {
            spec[key] = part.clone();
        }
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn what_could_not_be_looked_for_is_no_loss_and_no_proof() {
        let shown = Verification { unchecked: 2, ..Verification::begun(jiff::Timestamp::UNIX_EPOCH) };
        let record = MailboxRecord { verification: Some(shown), ..MailboxRecord::default() };
        let open = Open::of(&spec(&serde_json::json!({})), "a.test", &record);
        assert_eq!((open.is_none(), open.is_loss(), open.reason()), (false, false, "Waiting"));
        assert_eq!(open.clauses(), "2 messages could not be checked");
        assert!(open.remedy().starts_with("verify again"), "{}", open.remedy());
    }

    #[test]
    fn a_folder_that_is_not_there_is_no_message_with_other_flags() {
        let shown = Verification {
            differing: 3,
            absent_folders: 1,
            ..Verification::begun(jiff::Timestamp::UNIX_EPOCH)
        };
        let record = MailboxRecord { verification: Some(shown), ..MailboxRecord::default() };
        let open = Open::of(&spec(&serde_json::json!({})), "a.test", &record);
        assert_eq!(
            open.clauses(),
            "2 messages are there with other flags or dates, 1 folder is not at the destination"
        );
        let agreed =
            spec(&serde_json::json!({"acknowledge": [{"finding": "ArrivalsDiffer", "reason": "ok"}]}));
        assert!(Open::of(&agreed, "a.test", &record).is_none());
    }

    #[test]
    fn what_was_acknowledged_for_the_domain_or_for_all_speaks_against_nothing() {
        let counts =
            MessageCounts { source: 9, copied: 6, failed: 2, pending: 1, ..MessageCounts::default() };
        let record = MailboxRecord { counts, missing: 3, changed: 1, ..MailboxRecord::default() };
        let open = Open::of(&spec(&serde_json::json!({})), "a.test", &record);
        assert_eq!(open, Open { failed: 2, missing: 3, changed: 1, waiting: 1, ..Open::default() });
        assert_eq!((open.reason(), open.is_loss()), ("MessagesFailed", true));
        assert_eq!(
            open.clauses(),
            "2 messages could not be carried, 3 messages are no longer at the destination, 1 message was found changed by a verification, \
             1 message is still to be carried"
        );
        let remedy = open.remedy();
        for about in [
            "those that are no longer at the destination",
            "each that could not be carried",
            "those that were found changed",
        ] {
            assert!(remedy.contains(about), "{about}: {remedy}");
        }
        assert!(remedy.contains("`mailferry verify -f … --state … --repair`"), "{remedy}");
        let agreed = spec(&serde_json::json!({"acknowledge": [
            {"finding": "MessagesQuarantined", "domain": "a.test", "reason": "agreed"},
            {"finding": "ArrivalsMissing", "reason": "agreed"},
            {"finding": "ArrivalsChanged", "reason": "agreed"},
        ]}));
        let open = Open::of(&agreed, "a.test", &record);
        assert_eq!((open.is_loss(), open.reason(), open.waiting), (false, "Waiting", 1));
        assert_eq!(Open::of(&agreed, "b.test", &record).failed, 2, "agreed for another domain");
        let pilot = spec(&serde_json::json!({"policy": {"pilot": {"mailboxes": 1}}}));
        assert_eq!(Open::of(&pilot, "a.test", &record).waiting, 0);
        assert!(Open::of(&spec(&serde_json::json!({})), "a.test", &MailboxRecord::default()).is_none());
    }
}
