//! The status of a `MailMigration`: what was found, its state, and what holds it. Every list has a cap and every string
//! a limit, so that no migration, however broken, outgrows 64 KiB; the rest is in the ledger and the report.

mod bounds;

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::bounds::STATUS_MAX;
use super::mailmigration::Trigger;
use crate::model::evidence::Grade;
use crate::model::finding::{Code, Severity};
use crate::model::progress::MessageCounts;
use crate::model::protocol::{Protocol, Tls};

/// How a migration stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MailMigrationStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The current activity, in a word for people; nothing branches on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// The work that is planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanStatus>,
    /// The plan that was approved with spec.approvedPlan, as it was then; changes since are told against it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved: Option<PlanStatus>,
    /// One row for each domain, in the order of the spec; evidence is cut short. At most 1,000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub domains: Vec<DomainStatus>,
    /// Findings about the migration as a whole, the most serious first. At most 50.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub findings: Vec<FindingStatus>,
    /// Rows of domains that were left out because the status would be too large; the report has them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub domains_omitted: u32,
    /// Mailboxes by how they stand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<MailboxCounts>,
    /// Messages by what became of them: source = copied + excluded + failed + pending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<MessageCounts>,
    /// The report in brief.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<ReportBrief>,
    /// The pass over the mailboxes that is wanted now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pass: Option<PassStatus>,
    /// The next thing that spec.schedule does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleStatus>,
    /// The values of spec.trigger whose work is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<Trigger>,
    /// The values in the columns of kubectl get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
    /// Conditions: Ready, Reconciling, Stalled, Discovered, CredentialsAccepted, ReviewRequired, Synced, Verified,
    /// CutoverSafe.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// The activity of a migration, in a word for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Nothing was looked at yet.
    #[default]
    Pending,
    /// Servers are looked for and logins are tried.
    Discovering,
    /// The plan is complete; the stage allows no more.
    Planned,
    /// Something critical waits for a person.
    ReviewRequired,
    /// Messages are copied.
    Syncing,
    /// Messages are to be copied, and no window of the schedule is open.
    Paused,
    /// The pilot is at the destination, and nothing else is copied.
    Piloted,
    /// A part is at the destination and nothing goes on: some mailboxes alone were asked for (--only), or messages wait that the
    /// last pass did not carry. The next run carries the rest.
    Partial,
    /// Every mailbox was gone through, and both sides are held against each other once more.
    Verifying,
    /// Every mailbox was gone through, and something speaks against calling it verified.
    Synced,
    /// Arrivals were checked and are right.
    Verified,
    /// A run on a laptop was stopped or killed before it was through; the next run goes on from there.
    Interrupted,
    /// The user suspended it.
    Suspended,
    /// Nothing goes on until a person changes something.
    Stalled,
}

impl Phase {
    /// All there are.
    pub const ALL: [Self; 14] = [
        Self::Pending,
        Self::Discovering,
        Self::Planned,
        Self::ReviewRequired,
        Self::Syncing,
        Self::Paused,
        Self::Piloted,
        Self::Partial,
        Self::Verifying,
        Self::Synced,
        Self::Verified,
        Self::Interrupted,
        Self::Suspended,
        Self::Stalled,
    ];
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The work that is planned.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanStatus {
    /// Digest of the plan, sha256: and 64 hexadecimal digits; copy it into spec.approvedPlan to approve just this plan.
    #[schemars(length(max = 71))]
    pub digest: String,
    /// The plan in brief: the destination, the rules, and each domain; of many domains the first 30. At most 40.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 40))]
    pub parts: Vec<PlanPart>,
}

/// A part of a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanPart {
    /// The subject: spec.destination, rules, or a domain.
    #[schemars(length(max = 253))]
    pub name: String,
    /// The planned work, in brief.
    #[schemars(length(max = 160))]
    pub says: String,
    /// Digest of all that is in this part, 32 hexadecimal digits.
    #[schemars(length(max = 64))]
    pub digest: String,
}

/// A pass: every mailbox is gone through once. Beside it the verification that is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PassStatus {
    /// Which pass it is; the first is 1.
    pub number: u32,
    /// Digest of what the pass was begun for; when the spec asks for something else, the next one begins.
    #[schemars(length(max = 64))]
    pub inputs: String,
    /// Which verification is wanted, of those that spec.trigger.verify asks for; the first is 1. Absent: none yet.
    #[serde(skip_serializing_if = "is_zero")]
    pub verification: u32,
    /// The value of spec.trigger.verify that was seen last; another one asks for the next verification.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub verify: Option<String>,
    /// When the pass began; absent while it has not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub began: Option<Timestamp>,
    /// When the pass came to its end; absent while it is at work, or paused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
}

/// The next thing that a schedule does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleStatus {
    /// When the next pass begins by itself, or the paused one goes on.
    pub next: Timestamp,
}

/// How a domain stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DomainStatus {
    /// The domain.
    #[schemars(length(max = 253))]
    pub name: String,
    /// The protocol of most of its mailboxes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Mailboxes by the protocol each is read by.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 16))]
    pub protocols: BTreeMap<Protocol, u32>,
    /// Whether its mailboxes are read by several protocols.
    #[serde(default)]
    pub mixed: bool,
    /// How much is proven: A (an authenticated session listed data), B (a server answered), C (published), D (a hint).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grade: Option<Grade>,
    /// Share of the kinds of data that are carried, 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub fidelity: Option<u8>,
    /// Losses, in plain words, the weightiest first: all that is not carried. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 256)))]
    pub losses: Vec<String>,
    /// The ways by which its mail might be read, the best first. At most 20.
    #[serde(default)]
    #[schemars(length(max = 20))]
    pub candidates: Vec<CandidateStatus>,
    /// Findings, the most serious first. At most 50.
    #[serde(default)]
    #[schemars(length(max = 50))]
    pub findings: Vec<FindingStatus>,
}

/// One way by which a domain's mail might be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CandidateStatus {
    /// The protocol that is spoken there.
    pub protocol: Protocol,
    /// The host.
    #[schemars(length(max = 253))]
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// How the channel is secured: Implicit, StartTLS or None.
    pub tls: Tls,
    /// How much is proven, A to D.
    pub grade: Grade,
    /// Share of the kinds of data that are carried, 0 to 100.
    #[schemars(range(min = 0, max = 100))]
    pub fidelity: u8,
    /// Mailboxes that are read this way.
    #[serde(default)]
    pub mailboxes: u32,
    /// Why it won, or why it lost.
    #[serde(default)]
    #[schemars(length(max = 512))]
    pub why: String,
}

/// One finding, or several of one code in one domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FindingStatus {
    /// The code of the finding; spec.acknowledge names it by this.
    pub code: Code,
    /// Critical (it holds the stage), Warning or Advisory.
    pub severity: Severity,
    /// One sentence with the facts.
    #[schemars(length(max = 512))]
    pub message: String,
    /// The remedy.
    #[schemars(length(max = 512))]
    pub remedy: String,
    /// How many mailboxes or servers it is about.
    pub count: u32,
    /// Whether it was acknowledged and so holds nothing.
    #[serde(default)]
    pub acknowledged: bool,
}

/// Mailboxes by how they stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MailboxCounts {
    /// All mailboxes that are known.
    pub mailboxes: u32,
    /// Mailboxes that logins worked for and that wait for their turn.
    pub ready: u32,
    /// Mailboxes that are being copied.
    pub syncing: u32,
    /// Mailboxes that are at the destination as of their last pass.
    pub synced: u32,
    /// Mailboxes whose arrivals were checked and are right.
    pub verified: u32,
    /// Mailboxes that something stopped.
    pub failed: u32,
    /// Mailboxes that a finding holds.
    pub blocked: u32,
}

/// The report in brief.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ReportBrief {
    /// One row for each protocol in use.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub protocols: BTreeMap<Protocol, ReportRow>,
    /// One row for each domain. At most 1,000.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 1000))]
    pub domains: BTreeMap<String, ReportRow>,
}

/// One row of the report in brief.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ReportRow {
    /// Mailboxes.
    pub mailboxes: u32,
    /// Messages at the source.
    pub source: u64,
    /// Messages at the destination.
    pub copied: u64,
    /// Messages that a rule leaves out.
    pub excluded: u64,
    /// Messages that cannot be carried.
    pub failed: u64,
    /// Messages that are still to be carried.
    pub pending: u64,
    /// Sum of the sizes at the source, in bytes.
    pub bytes: u64,
}

/// The values in the columns of kubectl get.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Summary {
    /// Domains in the spec.
    pub domains: u32,
    /// Whether a domain's mailboxes are read by several protocols.
    pub mixed: bool,
    /// Share of the messages that are through, as in 64%.
    #[schemars(length(max = 8))]
    pub synced: String,
    /// The most serious open findings, as in 1 critical.
    #[schemars(length(max = 64))]
    pub findings: String,
}

/// The word in the column when no finding is open.
const NO_FINDINGS: &str = "none";

impl Summary {
    /// The columns that follow from the rest of a status. `domains` is the number of domains in the spec.
    pub fn of(status: &MailMigrationStatus, domains: usize) -> Self {
        // Before all domains were looked at, nothing found means nothing.
        let known = status.plan.is_some();
        let messages = status.messages.as_ref().filter(|messages| known || messages.source > 0);
        let findings = open_findings(status);
        Self {
            domains: u32::try_from(domains).unwrap_or(u32::MAX),
            mixed: status.domains.iter().any(|domain| domain.mixed),
            synced: messages.map(share_done).unwrap_or_default(),
            findings: if known || findings != NO_FINDINGS { findings } else { String::new() },
        }
    }
}

/// How much is through, rounded down so that `100%` is said only when nothing is pending.
fn share_done(messages: &MessageCounts) -> String {
    let done = u128::from(messages.source.saturating_sub(messages.pending));
    match u128::from(messages.source) {
        // A share of nothing is not a number.
        0 => "-".to_owned(),
        source => format!("{}%", done * 100 / source),
    }
}

/// The open findings of the most serious kind there is, in words.
fn open_findings(status: &MailMigrationStatus) -> String {
    let open = |severity: Severity| {
        let findings = status.domains.iter().flat_map(|domain| &domain.findings).chain(&status.findings);
        findings.filter(|f| f.severity == severity && !f.acknowledged).count()
    };
    match (open(Severity::Critical), open(Severity::Warning), open(Severity::Advisory)) {
        (0, 0, 0) => NO_FINDINGS.to_owned(),
        (0, 0, 1) => "1 advisory".to_owned(),
        (0, 0, n) => format!("{n} advisories"),
        (0, 1, _) => "1 warning".to_owned(),
        (0, n, _) => format!("{n} warnings"),
        (n, ..) => format!("{n} critical"),
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

#[cfg(test)]
mod tests {
    use super::bounds::tests::finding;
    use super::*;

    #[test]
    fn the_columns_say_what_a_person_looks_for() {
        let share =
            |source, pending| share_done(&MessageCounts { source, pending, ..MessageCounts::default() });
        assert_eq!((share(0, 0), share(1000, 1), share(3, 0)), ("-".into(), "99%".into(), "100%".into()));
        let with = |findings: Vec<FindingStatus>| {
            open_findings(&MailMigrationStatus {
                domains: vec![DomainStatus { findings, ..DomainStatus::default() }],
                ..MailMigrationStatus::default()
            })
        };
        assert_eq!(with(vec![]), "none");
        assert_eq!(
            with(vec![finding(Code::MixedProtocols, 1), finding(Code::CertificateExpires, 2)]),
            "2 warnings"
        );
        assert_eq!(
            with(vec![finding(Code::MixedProtocols, 1), finding(Code::PopMailboxesPresent, 1)]),
            "1 critical"
        );
        assert_eq!(
            with(vec![finding(Code::PopMailboxesPresent, 7)]),
            "none",
            "what is acknowledged is not open"
        );
        let mut status =
            MailMigrationStatus { messages: Some(MessageCounts::default()), ..Default::default() };
        let columns = |status: &MailMigrationStatus| {
            let summary = Summary::of(status, 1);
            (summary.synced, summary.findings)
        };
        assert_eq!(columns(&status), (String::new(), String::new()), "nothing is known yet");
        status.plan = Some(PlanStatus { digest: "sha256:0".to_owned(), parts: Vec::new() });
        assert_eq!(columns(&status), ("-".to_owned(), "none".to_owned()));
    }
}
