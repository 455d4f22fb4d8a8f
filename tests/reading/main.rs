//! `mailferry status` and `mailferry report` look into a cluster: the real API server holds what operator and workers
//! leave there, and what the commands show is held against the same migration on a laptop.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "../ferry/mod.rs"]
mod ferry;
#[path = "../support/mod.rs"]
mod support;

mod access;
mod usage;
mod views;
mod world;
