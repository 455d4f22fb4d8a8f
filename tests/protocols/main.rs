//! Servers as they are met: discovery, logins, and what each protocol, each provider and each make does.
//!
//! - [`conformance`]: the promises of every driver
//! - [`discovery`]: what a domain and its mailboxes speak
//! - [`gmail`], [`microsoft365`]: two providers, played in front of real servers
//! - [`harness`]: the harness that all tests stand on
//! - [`makes`]: servers of many makes, both ways
//! - [`oauth`], [`tls`], [`throttled`]: tokens, sessions of TLS, and servers that ask for a pause
//! - [`pop3`], [`pop3_peers`]: POP3 with a real server, and with peers that no real server will play
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

mod conformance;
mod discovery;
mod gmail;
mod harness;
mod makes;
mod microsoft365;
mod oauth;
mod pop3;
mod pop3_peers;
mod throttled;
mod tls;
