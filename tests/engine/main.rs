//! The engine and its ledgers: each message arrives once, whatever servers and mailboxes do between two passes.
//!
//! - [`database`]: ledgers in PostgreSQL, by the real binary
//! - [`files`]: mail in files, there and back
//! - [`kill`]: killed at any moment and run again
//! - [`ledger`]: the ledgers alone
//! - [`odd`]: servers that are odd, each in one way
//! - [`pilot`], [`switch`], [`verify`]: a part first, another protocol the next day, and what a verification finds
//! - [`schedule`]: pass after pass from a process that stays
//! - [`sync`]: the engine between real servers
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

mod database;
mod files;
mod kill;
mod ledger;
mod odd;
mod pilot;
mod schedule;
mod switch;
mod sync;
mod verify;
