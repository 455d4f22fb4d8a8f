//! The last verification of a mailbox, as its status keeps it: the figures that the operator judges by, and why one could not be
//! made. Which messages differ is in the report.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::mailboxmigration::MailboxFailure;
use super::policy::Verify;
use crate::model::record::{MailboxRecord, Verification};

/// The last verification of a mailbox.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct VerificationStatus {
    /// Which verification was tried last, as status.pass.verification of the MailMigration counts them.
    pub number: u32,
    /// The figures of the last one that was made. Absent: none was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<VerificationFigures>,
    /// Why the last one could not be made. The figures are then of one before, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<MailboxFailure>,
}

/// The figures of a verification: checked = identical + sameSize + alike + altered + missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerificationFigures {
    /// When it was made.
    pub finished: Timestamp,
    /// How deep it went: Sizes, Sampled or Full.
    pub depth: Verify,
    /// Messages that were looked for at the destination.
    pub checked: u64,
    /// Messages that were read at both sides and are the same, byte for byte.
    #[serde(default)]
    pub identical: u64,
    /// Messages that were found by size and date, and not read.
    #[serde(default)]
    pub same_size: u64,
    /// Messages that are the same but for line ends, lines that transport adds, or how they are encoded.
    #[serde(default)]
    pub alike: u64,
    /// Messages that the destination holds with other bytes.
    #[serde(default)]
    pub altered: u64,
    /// Messages that are no longer there.
    #[serde(default)]
    pub missing: u64,
    /// Messages that are there with other flags, keywords or dates.
    #[serde(default)]
    pub differing: u64,
    /// Folders that are not there.
    #[serde(default)]
    pub absent_folders: u64,
    /// Messages that nobody could look for, since a folder could not be opened. They are not among the checked ones.
    #[serde(default)]
    pub unchecked: u64,
}

impl From<&Verification> for VerificationFigures {
    fn from(shown: &Verification) -> Self {
        Self {
            finished: shown.at,
            depth: shown.depth.into(),
            checked: shown.checked,
            identical: shown.identical,
            same_size: shown.same_size,
            alike: shown.alike,
            altered: shown.altered,
            missing: shown.missing,
            differing: shown.differing_messages(),
            absent_folders: shown.absent_folders,
            unchecked: shown.unchecked,
        }
    }
}

impl From<&VerificationFigures> for Verification {
    fn from(told: &VerificationFigures) -> Self {
        Self {
            depth: told.depth.into(),
            checked: told.checked,
            identical: told.identical,
            same_size: told.same_size,
            alike: told.alike,
            altered: told.altered,
            missing: told.missing,
            differing: told.differing + told.absent_folders,
            absent_folders: told.absent_folders,
            unchecked: told.unchecked,
            ..Self::begun(told.finished)
        }
    }
}

impl VerificationStatus {
    /// The last verification that a record knows of; `None` where there was none.
    pub(super) fn of(record: &MailboxRecord) -> Option<Self> {
        let told = Self {
            number: record.verification_number,
            found: record.last_verification().map(VerificationFigures::from),
            failure: record.unverified.as_ref().map(MailboxFailure::from),
        };
        (told != Self::default()).then_some(told)
    }

    /// Writes into a record what is known of the last verification.
    pub(super) fn tell(&self, record: &mut MailboxRecord) {
        record.verification_number = self.number;
        record.verification = self.found.as_ref().map(Verification::from);
        record.unverified = self.failure.as_ref().map(MailboxFailure::failure);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::MailboxMigrationStatus;
    use crate::model::failure::{Class, Failure};
    use crate::model::record::Depth;

    #[test]
    fn the_figures_that_are_judged_by_outlast_the_operator() {
        let shown = Verification {
            depth: Depth::Full,
            checked: 9,
            identical: 5,
            same_size: 1,
            alike: 1,
            altered: 1,
            missing: 1,
            differing: 3,
            absent_folders: 1,
            unchecked: 2,
            ..Verification::begun(Timestamp::UNIX_EPOCH)
        };
        let mut record = MailboxRecord { pass: 1, ..MailboxRecord::default() };
        assert_eq!(MailboxMigrationStatus::told_by_worker(&record).verification, None);
        record.keep_verification(shown, Vec::new());
        record.verification_number = 3;
        let again = |record: &MailboxRecord| MailboxMigrationStatus::told_by_worker(record).record();
        assert_eq!(again(&record).last_verification(), Some(&shown));
        // One that could not be made takes no figures back.
        record.give_up_verification(4, Failure::new(Class::Unreachable, "it was away").hint("wait"));
        let known = again(&record);
        assert_eq!((known.verification_number, known.last_verification()), (4, Some(&shown)));
        assert_eq!(known.unverified.unwrap().what, "it was away");
        let old: MailboxMigrationStatus = serde_json::from_str(r#"{"phase": "Verified"}"#).unwrap();
        assert_eq!(old.record(), MailboxRecord::default());
    }
}
