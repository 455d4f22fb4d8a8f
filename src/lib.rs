//! Mailferry moves mail out of mixed-protocol environments. This page is the map of the house.
//!
//! ```text
//! MailMigration (YAML) ──► api: schema, CEL, limits
//!        │
//!        ▼
//! reconcile: observe ──► plan::decide ──► perform ──► publish        one loop, two platforms
//!                              │             ├─ discovery: DNS → published config → probes → logins
//!                              │             └─ transfer: list → diff → copy → verify, over the traits of drivers
//!                              ▼                     │
//!                    status, findings   ◄── ledger (each message: where from, what, where to, verdict)
//!                                                    └─► report: rows → HTML, XLSX, CSV, JSON
//!
//! laptop    local does all of it in one process; ledgers, records and reports lie in the state directory
//! cluster   operator ──► Jobs ──► worker: discovers a domain, or carries a slice of it, on the platform of local
//!              ▲                     │ results in ConfigMaps, progress in MailboxMigrations, ledgers on a volume
//!              └──────── cluster ◄───┘ or in PostgreSQL; status and report read the same
//! ```
//!
//! **The dependency rule**, kept by `tests/pure/architecture.rs`:
//! - [`model`] imports nothing of ours. Everyone may import it.
//! - [`api`] and [`plan`] are pure: they never await and never read the clock.
//! - [`net`] connects and knows no protocol of mail; [`auth`] logs in, over `net`; [`drivers`] speak the protocols, over both.
//!   A room that connects by a protocol asks [`drivers::registry`]; no other room names the module of one.
//! - [`transfer`] knows protocols only through the traits of [`drivers`], and neither `auth` nor `net`.
//! - [`drivers`], [`discovery`], [`transfer`] and [`ledger`] know neither `api` nor `plan` nor a platform.
//! - [`local`] is the platform of this process, a laptop's or a pod's; [`operator`] is the other one and opens no mail
//!   connection. [`worker`] is what the operator starts in pods.
//! - [`cluster`] is what the operator, its workers and commands that look into a cluster share. Only these three rooms
//!   speak to the API server.
//! - [`reporting`] fills the report for both platforms, from the facts that each of them gathers.
//! - [`steps`] counts, in builds for tests only, the moments at which a kill may leave something half done.
//! - Only [`api::manifest`] reads YAML, only [`local::clock`] reads the time, and only [`local::terminal`] writes to a terminal.

pub mod api;
pub mod auth;
pub mod cli;
pub mod cluster;
pub mod commands;
pub mod discovery;
pub mod drivers;
pub mod ledger;
pub mod local;
pub mod model;
pub mod net;
pub mod operator;
pub mod plan;
pub mod reconcile;
pub mod report;
pub mod reporting;
pub mod steps;
pub mod transfer;
pub mod worker;
