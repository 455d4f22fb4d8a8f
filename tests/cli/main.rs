//! The command line as people use it: manifests, lists, approval, errors, reports, shells.
//!
//! - [`approved`], [`both_ends`]: a plan, and what it asks before it is approved
//! - [`bad_input`], [`failure_modes`]: what goes wrong, and the page that shows it
//! - [`contract`], [`examples`]: manifests that must do what their comments say
//! - [`dns`]: the records of the move, at name servers that change, lag and fail
//! - [`lists`]: lists of mailboxes as administrators have them
//! - [`logging`], [`secrecy`]: the log, and what is in no output
//! - [`shell`]: what a shell and a tired person expect
//! - [`truth`]: every output says the same
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

mod approved;
mod bad_input;
mod both_ends;
mod contract;
mod dns;
mod examples;
mod failure_modes;
mod lists;
mod logging;
mod secrecy;
mod shell;
mod truth;
