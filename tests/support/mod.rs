//! The basis of every integration test and of the demo: real servers of their own, a private CA, believable mail, and
//! an independent eye that compares two accounts.
//!
//! - [`process`]: server processes that never outlive whoever started them, and free ports
//! - [`programs`]: programs that tests run, and where they lie
//! - [`canary`]: passwords that must be seen nowhere
//! - [`ca`]: a private certificate authority and the certificates it issues, good ones and bad ones
//! - [`cluster`]: a real Kubernetes, namespaces of one's own in it, and what to print when something there goes wrong
//! - [`dovecot`]: private Dovecot instances (IMAP and POP3)
//! - [`courier`], [`cyrus`], [`mailutils`], [`james`], [`greenmail`], [`pymap`], [`radicale`]: private servers of other makes,
//!   the first three in root directories of their own ([`rooted`])
//! - [`exchange`]: a front that makes a Dovecot behave as Exchange Online does
//! - [`authority`]: name servers of zones, private NSDs at port 53 of loopback addresses of their own
//! - [`dns`]: a private dnsmasq that knows only the records it was given
//! - [`postgres`]: a private PostgreSQL
//! - [`gmail`]: a server that keeps labels, in front of a Dovecot
//! - [`large`]: migrations as large as any, made up
//! - [`imap`]: a small synchronous IMAP client that shares no code with the product
//! - [`mixed`]: three domains that speak three ways, and where their mail goes
//! - [`compare`]: what two accounts hold, and a readable list of where they differ
//! - [`script`]: an IMAP and a POP3 server in this process, which a test bends in a line or two
//! - [`tokens`]: an authorization server that checks proofs and signs tokens, and a Dovecot that trusts it
//! - [`web`]: a small HTTPS server for what domains publish
//! - [`corpus`]: deterministic mail, ordinary and odd
//!
//! Each test binary says `mod support;`, so each uses a part of it only.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "the harness of tests: each test file uses a part of it, and a harness that cannot go on must stop"
)]

pub mod authority;
pub mod ca;
pub mod canary;
pub mod cluster;
pub mod compare;
pub mod corpus;
pub mod courier;
pub mod cyrus;
pub mod dns;
pub mod dovecot;
pub mod exchange;
pub mod gmail;
pub mod greenmail;
pub mod imap;
pub mod james;
pub mod large;
pub mod mailutils;
pub mod mixed;
pub mod postgres;
pub mod process;
pub mod programs;
pub mod pymap;
pub mod radicale;
pub mod rooted;
pub mod script;
pub mod tokens;
pub mod web;
