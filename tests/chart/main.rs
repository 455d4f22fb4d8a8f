//! The Helm chart, rendered by helm over a table of values and looked at object by object. Whether a cluster takes what
//! is rendered is tried on a real one, by the tests that stand on `tests/cluster`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop at the first surprise"
)]

mod pods;
#[path = "../support/programs.rs"]
mod programs;
mod render;
mod rights;
mod values;
