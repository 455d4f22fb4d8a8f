//! Proves that nothing is lost and nothing is doubled, whatever goes wrong: with real servers, and with an eye that
//! shares no code with the product ([`support::compare`]).
//!
//! - [`every_step`]: killed at each step of each of many situations
//! - [`random`]: connections cut, reset, held, swallowed and sliced, and kills, at random moments from a seed
//! - [`late`]: answers that are lost while the server goes on storing
//! - [`changing`]: mailboxes that change while they are carried
//! - [`cuts`]: connections that end inside a command with many messages
//! - [`together`]: two mailboxes that arrive in one
//! - [`hostile`]: servers that say what no server says
//! - [`slow_link`]: links that are slow, so that what passes is compressed, and what hostile servers make of that
//! - [`stage`], [`orders`], [`proxy`]: what these stand on
//!
//! `make test` takes an even sample of the steps and 200 random faults; `make faults` all the steps and 5,000. No test
//! looks at which commands are sent: they hold for every engine that keeps the promise.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test stops at the first surprise, in its small functions as well, and tells how far it came"
)]

#[path = "../support/mod.rs"]
mod support;

mod changing;
mod cuts;
mod every_step;
mod hostile;
mod late;
mod orders;
mod proxy;
mod random;
mod slow_link;
mod stage;
mod together;
