//! Servers of many makes as sources and as destinations, by the real binary: everything arrives once, a second run sends nothing,
//! what is new or changed follows, and what a make cannot keep is told.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    reason = "tests stop at the first surprise"
)]

mod altered;
mod commands;
#[path = "../ferry/mod.rs"]
mod ferry;
mod known;
mod make;
#[path = "../support/mod.rs"]
mod support;

mod moves;
