//! Tests that need no server: of decisions, of files that are made from the sources, and of other programs that read pages and charts.
//!
//! - [`architecture`]: the dependency rule of `src/lib.rs`
//! - [`chart`]: the Helm chart, rendered
//! - [`decisions`]: decisions about many mailboxes
//! - [`generated`]: files that are made from the types; `BLESS=1` writes them anew
//! - [`gitops`]: what Argo CD, Flux and Kustomize make of statuses and examples
//! - [`manifest`]: manifests as users write them
//! - [`serve`]: the operator's endpoints
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::format_push_string,
    clippy::format_collect,
    reason = "a test stops at the first surprise, in its small functions as well, and tells how far it came"
)]

#[path = "../support/mod.rs"]
mod support;

mod architecture;
mod chart;
mod decisions;
mod generated;
mod gitops;
mod manifest;
mod serve;
