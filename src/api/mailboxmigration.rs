//! `MailboxMigration`: one mailbox of a migration. The product makes it and writes it; users read it.

use std::fmt;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::verification::VerificationStatus;
use crate::model::failure::{Class, Failure, FailureCode};
use crate::model::finding::{Code, Finding};
use crate::model::progress::MessageCounts;
use crate::model::protocol::Protocol;
use crate::model::record::MailboxRecord;
use crate::model::text::cut;

/// The most that [`MailboxMigrationStatus::bounded`] leaves, in bytes of JSON.
pub const STATUS_MAX: usize = 2048;
/// The most findings that a status keeps.
const FINDINGS_MAX: usize = 8;

/// Which mailbox it is about. It never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "mailferry.dev",
    version = "v1alpha1",
    kind = "MailboxMigration",
    namespaced,
    shortname = "mbm",
    category = "mailferry",
    status = "MailboxMigrationStatus",
    derive = "PartialEq",
    doc = "One mailbox of a MailMigration: made and kept by the operator, read by people.",
    printcolumn(
        name = "Source",
        type_ = "string",
        json_path = ".spec.source",
        description = "Address at the source"
    ),
    printcolumn(
        name = "Protocol",
        type_ = "string",
        json_path = ".status.protocol",
        description = "The protocol by which the mailbox is read",
        priority = 1
    ),
    printcolumn(
        name = "Phase",
        type_ = "string",
        json_path = ".status.phase",
        description = "The current activity"
    ),
    printcolumn(
        name = "Messages",
        type_ = "integer",
        json_path = ".status.messages.source",
        description = "Messages at the source"
    ),
    printcolumn(
        name = "Failed",
        type_ = "integer",
        json_path = ".status.messages.failed",
        description = "Messages that cannot be carried"
    ),
    printcolumn(
        name = "Last Pass",
        type_ = "date",
        json_path = ".status.lastPass.finished",
        description = "Since the last pass ended",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Since when it exists"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self == oldSelf").message("a MailboxMigration never changes: change the MailMigration, and delete this if its mailbox is not wanted any more"))]
pub struct MailboxMigrationSpec {
    /// Name of the MailMigration that it belongs to.
    #[schemars(length(min = 1, max = 253))]
    pub migration: String,
    /// The mail domain of the mailbox.
    #[schemars(length(min = 1, max = 253))]
    pub domain: String,
    /// Address of the mailbox at the source.
    #[schemars(length(min = 3, max = 320))]
    pub source: String,
    /// Address of the mailbox at the destination.
    #[schemars(length(min = 3, max = 320))]
    pub destination: String,
}

/// How a mailbox stands; at most 2 KiB.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MailboxMigrationStatus {
    /// The generation of the MailMigration's spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The protocol by which the mailbox is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// The server it is read from, host:port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 262))]
    pub server: Option<String>,
    /// The current activity, in a word for people; nothing branches on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<MailboxPhase>,
    /// Messages by what became of them: source = copied + excluded + failed + pending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<MessageCounts>,
    /// Folders that can hold messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folders: Option<u32>,
    /// Sum of the sizes at the source, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Of the copied messages, those that the destination changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub altered: Option<u64>,
    /// Of the altered messages, those that a verification found with other bytes than they had when they arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<u64>,
    /// Of the altered messages, those of which the destination keeps only a part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truncated: Option<u64>,
    /// Of the copied messages, those that a verification no longer found at the destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<u64>,
    /// Arrivals that were compared by size as they came, in all passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sizes_checked: Option<u64>,
    /// Arrivals that were read back as well and compared byte for byte, in all passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digests_checked: Option<u64>,
    /// Bytes sent in all passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_sent: Option<u64>,
    /// Messages whose flags were brought up to date, over all passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flags_updated: Option<u64>,
    /// The last pass over the mailbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_pass: Option<Pass>,
    /// The last verification of the mailbox, as spec.trigger.verify asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<VerificationStatus>,
    /// The failure that stopped the last pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<MailboxFailure>,
    /// Findings that a person should know of this mailbox, by code. At most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub findings: Vec<MailboxFinding>,
    /// Conditions: Ready, Synced, Verified.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// The activity of a mailbox, in a word for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub enum MailboxPhase {
    /// Nothing was tried yet.
    #[default]
    Pending,
    /// There is no way to read it; a finding says why.
    Blocked,
    /// Logins work; it waits for its turn.
    Ready,
    /// Its messages are being copied.
    Syncing,
    /// Its pass is through, and messages that came since are still to be carried.
    Partial,
    /// Its pass is through, and something speaks against calling it verified.
    Synced,
    /// Its arrivals were checked and are right.
    Verified,
    /// Its pass stopped before it was through.
    Failed,
}

impl MailboxPhase {
    /// All there are.
    pub const ALL: [Self; 8] = [
        Self::Pending,
        Self::Blocked,
        Self::Ready,
        Self::Syncing,
        Self::Partial,
        Self::Synced,
        Self::Verified,
        Self::Failed,
    ];
}

impl fmt::Display for MailboxPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One pass over a mailbox.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Pass {
    /// Which pass it was; the first is 1.
    pub number: u32,
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// When it ended; absent while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished: Option<Timestamp>,
    /// How often the mailbox was tried in it.
    pub attempts: u32,
    /// The Job that tried it last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub job: Option<String>,
}

/// Something that a person should know of a mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MailboxFinding {
    /// The code of what was found.
    pub code: Code,
    /// One sentence with the facts.
    #[schemars(length(max = 256))]
    pub message: String,
}

/// The failure that stopped a mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MailboxFailure {
    /// The class of the failure, which decides whether it is tried again.
    pub class: Class,
    /// The exact event, where it is one of the known ones, as in LoginChanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub code: Option<String>,
    /// The event, in one sentence.
    #[schemars(length(max = 512))]
    pub message: String,
    /// The next step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub hint: Option<String>,
}

impl From<&Failure> for MailboxFailure {
    fn from(failure: &Failure) -> Self {
        Self {
            class: failure.class,
            code: failure.code.map(|code| code.to_string()),
            message: cut(&failure.sentence(), 512),
            hint: failure.hint.as_deref().map(|hint| cut(hint, 256)),
        }
    }
}

impl MailboxFailure {
    /// The failure, as far as it was kept.
    pub fn failure(&self) -> Failure {
        let mut failure = Failure::new(self.class, self.message.clone());
        // A newer worker may know more of them.
        failure.code = self.code.as_deref().and_then(FailureCode::from_word);
        match &self.hint {
            Some(hint) => failure.hint(hint.clone()),
            None => failure,
        }
    }
}

impl MailboxMigrationStatus {
    /// The part that a worker tells: how its pass over the mailbox goes.
    #[must_use]
    pub fn told_by_worker(record: &MailboxRecord) -> Self {
        Self {
            messages: Some(record.counts),
            altered: Some(record.altered),
            changed: (record.changed > 0).then_some(record.changed),
            truncated: (record.truncated > 0).then_some(record.truncated),
            missing: (record.missing > 0).then_some(record.missing),
            sizes_checked: (record.sizes_checked > 0).then_some(record.sizes_checked),
            digests_checked: (record.digests_checked > 0).then_some(record.digests_checked),
            bytes_sent: Some(record.bytes_sent),
            flags_updated: Some(record.flags_updated),
            last_pass: (record.pass > 0).then_some(Pass {
                number: record.pass,
                started: record.started,
                finished: record.ended,
                attempts: record.attempts,
                job: record.by.clone(),
            }),
            findings: record
                .findings
                .iter()
                .take(FINDINGS_MAX)
                .map(|f| MailboxFinding { code: f.code, message: cut(&f.message, 256) })
                .collect(),
            verification: VerificationStatus::of(record),
            failure: record.failure.as_ref().map(MailboxFailure::from),
            ..Self::default()
        }
        .bounded()
    }

    /// The words of a worker about the mailbox, as they are remembered.
    pub fn record(&self) -> MailboxRecord {
        let pass = self.last_pass.clone().unwrap_or_default();
        let mut record = MailboxRecord {
            pass: pass.number,
            attempts: pass.attempts,
            by: pass.job,
            started: pass.started,
            ended: pass.finished,
            counts: self.messages.filter(|_| pass.number > 0).unwrap_or_default(),
            altered: self.altered.unwrap_or_default(),
            changed: self.changed.unwrap_or_default(),
            truncated: self.truncated.unwrap_or_default(),
            missing: self.missing.unwrap_or_default(),
            sizes_checked: self.sizes_checked.unwrap_or_default(),
            digests_checked: self.digests_checked.unwrap_or_default(),
            bytes_sent: self.bytes_sent.unwrap_or_default(),
            flags_updated: self.flags_updated.unwrap_or_default(),
            findings: self.findings.iter().map(|f| Finding::of_domain(f.code, f.message.clone())).collect(),
            failure: self.failure.as_ref().map(MailboxFailure::failure),
            ..MailboxRecord::default()
        };
        if let Some(told) = &self.verification {
            told.tell(&mut record);
        }
        record
    }

    /// The failures that it tells.
    fn failures(&self) -> impl Iterator<Item = &MailboxFailure> {
        self.failure.iter().chain(self.verification.iter().filter_map(|told| told.failure.as_ref()))
    }

    /// Whether it is within all limits without having to be written for it: there are tens of thousands, and most are small.
    fn is_surely_small(&self) -> bool {
        // The length of a text in JSON, in bytes: a control character becomes six (RFC 8259 §7).
        let written = |text: &str| -> usize {
            text.bytes().map(|b| if b < 0x20 || matches!(b, b'"' | b'\\' | 0x7f) { 6 } else { 1 }).sum()
        };
        let mut size = 1_080 + self.server.as_deref().map_or(0, written);
        let mut fits = self.server.as_ref().is_none_or(|server| server.len() <= 262)
            && self.conditions.len() <= 8
            && self.findings.len() <= FINDINGS_MAX;
        for condition in &self.conditions {
            fits &= condition.message.len() <= 512;
            size += 200 + condition.reason.len() + written(&condition.message);
        }
        for finding in &self.findings {
            fits &= finding.message.len() <= 256;
            size += 80 + written(&finding.message);
        }
        if self.verification.is_some() {
            size += 460;
        }
        for failure in self.failures() {
            let hint = failure.hint.as_deref().unwrap_or_default();
            fits &= failure.message.len() <= 512 && hint.len() <= 256;
            let code = failure.code.as_deref().unwrap_or_default();
            size += 90 + written(&failure.message) + written(hint) + written(code);
        }
        fits && size <= STATUS_MAX
    }

    /// This status within [`STATUS_MAX`] bytes of JSON: texts are cut, shorter until the whole fits.
    #[must_use]
    pub fn bounded(&self) -> Self {
        let mut kept = self.clone();
        if self.is_surely_small() {
            return kept;
        }
        kept.conditions.truncate(8);
        kept.findings.truncate(FINDINGS_MAX);
        for text in [512, 256, 128, 64, 24, 0] {
            kept.server = kept.server.map(|server| cut(&server, 262));
            let unverified = kept.verification.as_mut().and_then(|told| told.failure.as_mut());
            for failure in kept.failure.iter_mut().chain(unverified) {
                failure.message = cut(&failure.message, text);
                failure.hint = failure.hint.take().map(|hint| cut(&hint, text.min(256)));
            }
            for finding in &mut kept.findings {
                finding.message = cut(&finding.message, text.min(256));
            }
            for condition in &mut kept.conditions {
                condition.message = cut(&condition.message, text);
            }
            if serde_json::to_vec(&kept).map_or(0, |json| json.len()) <= STATUS_MAX {
                break;
            }
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::condition::{self, Fact, Type};
    use crate::api::policy::Verify;
    use crate::api::verification::VerificationFigures;

    fn worst_verification(failure: &Failure) -> VerificationStatus {
        VerificationStatus {
            number: u32::MAX,
            found: Some(VerificationFigures {
                finished: Timestamp::MAX,
                depth: Verify::Sampled,
                checked: u64::MAX,
                identical: u64::MAX,
                same_size: u64::MAX,
                alike: u64::MAX,
                altered: u64::MAX,
                missing: u64::MAX,
                differing: u64::MAX,
                absent_folders: u64::MAX,
                unchecked: u64::MAX,
            }),
            failure: Some(MailboxFailure::from(failure)),
        }
    }

    #[test]
    fn the_worst_mailbox_stays_under_two_kibibytes() {
        let long = "\"ö\n".repeat(5000);
        let failure = Failure::new(Class::Protocol, long.clone()).hint(long.clone());
        let kinds = [Type::Ready, Type::Synced, Type::Verified, Type::Stalled];
        let facts: Vec<_> = kinds.map(|kind| Fact::failed(kind, false, Class::Protocol, long.clone())).into();
        let status = MailboxMigrationStatus {
            server: Some(long),
            failure: Some(MailboxFailure::from(&failure)),
            conditions: condition::set(&[], &facts, Some(i64::MAX), Timestamp::MAX),
            bytes: Some(u64::MAX),
            verification: Some(worst_verification(&failure)),
            messages: Some(MessageCounts { source: u64::MAX, failed: u64::MAX, ..MessageCounts::default() }),
            last_pass: Some(Pass {
                number: 1,
                started: Some(Timestamp::MIN),
                finished: Some(Timestamp::MAX),
                attempts: u32::MAX,
                job: Some("j".repeat(63)),
            }),
            ..MailboxMigrationStatus::default()
        };
        let kept = status.bounded();
        assert!(serde_json::to_vec(&kept).unwrap().len() <= STATUS_MAX);
        assert_eq!(kept.conditions.len(), kinds.len());
        assert!(!kept.failure.unwrap().message.is_empty());
    }

    #[test]
    fn what_is_said_to_be_small_without_being_written_is() {
        let mut small = 0;
        for length in (0..600).step_by(20) {
            let texts = ["a".repeat(length), "\"".repeat(length / 2), "ö".repeat(length / 2)];
            for (text, verified) in texts.iter().flat_map(|text| [(text, false), (text, true)]) {
                let kinds = [Type::Ready, Type::Synced, Type::Verified];
                let failure = Failure::new(Class::Protocol, text.clone()).hint(text.clone());
                let facts: Vec<_> =
                    kinds.map(|kind| Fact::failed(kind, false, Class::Protocol, text.clone())).into();
                let status = MailboxMigrationStatus {
                    server: Some(text.clone()),
                    failure: Some(MailboxFailure::from(&failure)),
                    verification: verified.then(|| worst_verification(&failure)),
                    conditions: condition::set(&[], &facts, Some(i64::MAX), Timestamp::MAX),
                    folders: Some(u32::MAX),
                    bytes: Some(u64::MAX),
                    altered: Some(u64::MAX),
                    changed: Some(u64::MAX),
                    truncated: Some(u64::MAX),
                    missing: Some(u64::MAX),
                    sizes_checked: Some(u64::MAX),
                    digests_checked: Some(u64::MAX),
                    bytes_sent: Some(u64::MAX),
                    flags_updated: Some(u64::MAX),
                    observed_generation: Some(i64::MAX),
                    protocol: Some(Protocol::Pop3),
                    phase: Some(MailboxPhase::Verified),
                    messages: Some(MessageCounts {
                        source: u64::MAX,
                        copied: u64::MAX,
                        excluded: u64::MAX,
                        failed: u64::MAX,
                        pending: u64::MAX,
                    }),
                    last_pass: Some(Pass {
                        number: u32::MAX,
                        started: Some(Timestamp::MIN),
                        finished: Some(Timestamp::MAX),
                        attempts: u32::MAX,
                        job: Some("j".repeat(63)),
                    }),
                    ..MailboxMigrationStatus::default()
                };
                if status.is_surely_small() {
                    small += 1;
                    assert!(serde_json::to_vec(&status).unwrap().len() <= STATUS_MAX, "{length}");
                }
            }
        }
        assert!(small > 3, "{small}");
    }

    #[test]
    fn what_a_worker_tells_of_a_failure_says_which_one_it_was() {
        let failure = Failure::configuration("logs in as bob now").code(FailureCode::LoginChanged);
        let record = MailboxRecord { pass: 1, failure: Some(failure), ..MailboxRecord::default() };
        let told = MailboxMigrationStatus::told_by_worker(&record);
        assert!(told.record().failure.unwrap().is(FailureCode::LoginChanged));
        let newer = MailboxFailure { code: Some("NotKnownYet".into()), ..told.failure.unwrap() };
        assert_eq!(newer.failure().code, None);
    }
}
