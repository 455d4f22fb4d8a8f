//! The kinds that users write and read: their types, their limits, their CRDs, and the one reader of YAML.
//!
//! Everything here is pure: text and values in, values out; no file, no socket, no clock. A field's doc comment is what
//! `kubectl explain` shows, so it says units, default and limits.

#![allow(unreachable_pub, reason = "kube's KubeSchema repeats a public struct inside a function")]
#![allow(
    clippy::doc_markdown,
    reason = "kubectl explain shows these comments as plain text, where backticks disturb"
)]
#![allow(clippy::duplicated_attributes, reason = "printer columns of one type look alike to the lint")]

pub mod checklist;
pub mod columns;
pub mod condition;
pub mod crd;
pub mod cutover;
pub mod destination;
pub mod domain;
pub mod files;
pub mod first;
pub mod ledger;
pub mod mailboxmigration;
pub mod mailmigration;
pub mod manifest;
pub mod mapping;
pub mod names;
pub mod policy;
pub mod reference;
pub mod rules;
pub mod schedule;
pub mod schema;
pub mod status;
pub mod verification;

pub use condition::Conditions;
pub use cutover::Cutover;
pub use destination::Destination;
pub use domain::DomainSpec;
pub use files::Files;
pub use ledger::LedgerSpec;
pub use mailboxmigration::{MailboxMigration, MailboxMigrationSpec, MailboxMigrationStatus};
pub use mailmigration::{MailMigration, MailMigrationSpec, Stage};
pub use manifest::Manifest;
pub use schedule::Schedule;
pub use status::MailMigrationStatus;
