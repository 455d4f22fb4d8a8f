//! Everything that needs a real Kubernetes. Tests that all others would feel have binaries of their own: `outage`, `readme`.
//!
//! - [`harness`]: the cluster itself, and what the others take for granted
//! - [`lease`], [`requests`]: the client of the API server
//! - [`operator`]: the operator, installed by the chart
//! - [`reading`]: `status` and `report` for a cluster
//! - [`worker`]: the program of a pod
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

#[path = "../ferry/mod.rs"]
mod ferry;
#[path = "../support/mod.rs"]
mod support;

mod harness;
mod lease;
mod operator;
mod reading;
mod requests;
mod worker;
