//! The operator on a real Kubernetes, installed by the chart as users install it, between real mail servers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "../support/mod.rs"]
mod support;

mod database;
mod installed;
mod many;
mod node;
mod restricted;
mod rights;
mod secrecy;
mod shown;
mod story;
