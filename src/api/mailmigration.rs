//! `MailMigration`: what the user wants. The product writes its status and never its spec.

use std::fmt;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checklist::Checklist;
use super::columns::Columns;
use super::cutover::Cutover;
use super::destination::Destination;
use super::domain::DomainSpec;
use super::ledger::LedgerSpec;
use super::mapping::Mapping;
use super::policy::Policy;
use super::schedule::Schedule;
use super::status::MailMigrationStatus;
use crate::model::finding::Code;
use crate::model::list::Heads;

/// The mail to migrate, from where, to where, and how far it may go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "mailferry.dev",
    version = "v1alpha1",
    kind = "MailMigration",
    namespaced,
    shortname = "mm",
    category = "mailferry",
    status = "MailMigrationStatus",
    validation = Rule::new("size(self.metadata.name) <= 63").message("metadata.name: use at most 63 characters; it becomes a label of everything that the migration is made of"),
    derive = "PartialEq",
    doc = "A migration of the mail of one or more domains: what is wanted (spec) and how it stands (status).",
    printcolumn(
        name = "Stage",
        type_ = "string",
        json_path = ".spec.stage",
        description = "How far it may go"
    ),
    printcolumn(
        name = "Phase",
        type_ = "string",
        json_path = ".status.phase",
        description = "The current activity"
    ),
    printcolumn(
        name = "Domains",
        type_ = "integer",
        json_path = ".status.summary.domains",
        description = "Domains in the spec",
        priority = 1
    ),
    printcolumn(
        name = "Mailboxes",
        type_ = "integer",
        json_path = ".status.counts.mailboxes",
        description = "Mailboxes known"
    ),
    printcolumn(
        name = "Mixed",
        type_ = "boolean",
        json_path = ".status.summary.mixed",
        description = "Whether a domain speaks several protocols",
        priority = 1
    ),
    printcolumn(
        name = "Synced",
        type_ = "string",
        json_path = ".status.summary.synced",
        description = "Share of the messages that are through"
    ),
    printcolumn(
        name = "Findings",
        type_ = "string",
        json_path = ".status.summary.findings",
        description = "The most serious open findings"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether the wanted stage is reached"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Since when it exists"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct MailMigrationSpec {
    /// How far it may go: Plan (look and report, write nothing at the destination; the default), Sync (copy, and keep
    /// up with what arrives) or Cutover (accepted, and treated as Sync by releases that do not cut over yet).
    #[serde(default)]
    pub stage: Stage,
    /// Stops all work while it is true; nothing is lost, and what is in flight is finished. Default: false.
    #[serde(default)]
    pub suspend: bool,
    /// Where the mail goes: exactly one key, imap, microsoft365 or files.
    #[x_kube(validation = Rule::new("[has(self.imap), has(self.microsoft365), has(self.files)].filter(given, given).size() == 1").message("name the destination, imap {host, credentialsRef}, microsoft365 {credentialsRef} or files {format, path or claimRef}"))]
    pub destination: Destination,
    /// The domains that are migrated, 1 to 1,000; each name once.
    #[schemars(length(min = 1, max = 1000))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub domains: Vec<DomainSpec>,
    /// Names of the columns of lists (mailboxes.csv of a Secret, the CSV of a ConfigMap), where they have names of
    /// their own. Default: address, username, password, refreshToken, destination, destinationUsername and
    /// destinationPassword; EmailAddress is taken for address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<Box<Columns>>,
    /// Names that differ at the destination, and folders that are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mapping: Option<Mapping>,
    /// When passes begin and when they may be at work: a new one every so often, and windows of the week. Default: one
    /// pass, at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Box<Schedule>>,
    /// The day on which mail goes over: not before which moment, how late mail is waited for, and the MX records that must be
    /// seen. Mailferry changes no DNS. Default: as soon as it is safe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cutover: Option<Box<Cutover>>,
    /// Rules: how much may be done at a time, and how it is checked.
    #[serde(default)]
    pub policy: Policy,
    /// Findings that were read and agreed, so that they hold nothing any more. At most 1,000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub acknowledge: Vec<Acknowledgement>,
    /// Answers of the customer before the order; whatever discovery finds otherwise is a finding. `mailferry checklist`
    /// prints it as a form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checklist: Option<Box<Checklist>>,
    /// When given, nothing is written at the destination unless it equals status.plan.digest: sha256: and 64 hexadecimal
    /// digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71), regex(pattern = "^sha256:[0-9a-f]{64}$"))]
    pub approved_plan: Option<String>,
    /// How much is done at a time.
    #[serde(default)]
    pub workers: Workers,
    /// Where the ledgers are kept: exactly one of sqlite and postgres. A change begins new ledgers; what has arrived is
    /// recognised at the destination. Default: sqlite.
    #[serde(default)]
    #[x_kube(validation = Rule::new("has(self.sqlite) != has(self.postgres)").message("give exactly one of sqlite and postgres"))]
    pub ledger: LedgerSpec,
    /// Work that is done once whenever a value here changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<Trigger>,
}

/// How far a migration may go.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema,
)]
pub enum Stage {
    /// Look and report; write nothing at the destination.
    #[default]
    Plan,
    /// Copy, and keep up with what arrives.
    Sync,
    /// Move the domain over.
    Cutover,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A finding that was read and agreed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Acknowledgement {
    /// Code of the finding, as in status.domains[].findings[].code.
    pub finding: Code,
    /// The domain for which it is agreed. Default: all domains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub domain: Option<String>,
    /// Why, and with whom it was agreed; it stands in the report.
    #[schemars(length(min = 1, max = 1024))]
    pub reason: String,
    /// The person who agreed; the name stands in the report. Default: nobody is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub by: Option<String>,
}

/// How much is done at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Workers {
    /// Pods that carry mailboxes of one domain at a time in a cluster, 1 to 64. Default: 4. On a laptop there is one
    /// worker.
    #[serde(default = "parallelism")]
    #[schemars(range(min = 1, max = 64))]
    pub parallelism: u32,
    /// Mailboxes that one pod is given in a cluster, 1 to 500. Default: 50.
    #[serde(default = "mailboxes_per_worker")]
    #[schemars(range(min = 1, max = 500))]
    pub mailboxes_per_worker: u32,
    /// Mailboxes that one worker carries at a time, 1 to 64. Default: 4.
    #[serde(default = "concurrency")]
    #[schemars(range(min = 1, max = 64))]
    pub concurrency: u32,
}

impl Default for Workers {
    fn default() -> Self {
        Self {
            parallelism: parallelism(),
            mailboxes_per_worker: mailboxes_per_worker(),
            concurrency: concurrency(),
        }
    }
}

/// Work that is done once whenever a value here changes; the value itself means nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Trigger {
    /// A changed value discovers again. At most 64 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub discover: Option<String>,
    /// A changed value runs one more pass. At most 64 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub sync: Option<String>,
    /// A changed value verifies every mailbox whose pass is through once more, as deep as policy.verify says; after the pass,
    /// where both are asked for. A value that is there from the beginning, or taken out, asks for nothing. At most 64
    /// characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub verify: Option<String>,
}

fn parallelism() -> u32 {
    4
}

fn mailboxes_per_worker() -> u32 {
    50
}

fn concurrency() -> u32 {
    4
}

impl MailMigrationSpec {
    /// The names that columns have in the lists of this migration.
    pub fn heads(&self) -> Heads {
        self.columns.as_ref().map(|columns| columns.heads()).unwrap_or_default()
    }
}
