//! The cost of a decision: 50,000 mailboxes in one domain and in 1,000, not looked at yet, carried, and failed. For
//! people who work on `plan`: minimum and median of several rounds, so that a busy machine shows in their difference.
//!
//! ```sh
//! cargo bench --bench decide
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement stops at the first surprise, and prints"
)]

#[path = "../tests/support/large.rs"]
mod large;

use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use large::{Large, now};
use mailferry::plan::decide;

/// Mailboxes.
const MAILBOXES: usize = 50_000;
/// The goal.
const GOAL: Duration = Duration::from_millis(150);
/// Rounds of each row.
const ROUNDS: usize = 7;

fn main() -> ExitCode {
    // `cargo test --benches` runs it too, for whether it runs at all.
    let measures = std::env::args().any(|arg| arg == "--bench");
    let (mailboxes, rounds) = if measures { (MAILBOXES, ROUNDS) } else { (1_000, 1) };
    println!("{:<44} {:>10} {:>10}", "", "min ms", "median ms");
    let mut met = true;
    for domains in [1, 1_000] {
        for large in Large::all(mailboxes, domains) {
            let took = |_| {
                let begun = Instant::now();
                black_box(decide(&large.migration, &large.observed, now()));
                begun.elapsed()
            };
            let mut times: Vec<Duration> = (0..rounds).map(took).collect();
            times.sort_unstable();
            let (least, median) = (times[0], times[times.len() / 2]);
            met &= !measures || least <= GOAL;
            let about = format!("{mailboxes} mailboxes in {domains} domains, {}", large.about);
            println!("{about:<44} {:>10.1} {:>10.1}", least.as_secs_f64() * 1e3, median.as_secs_f64() * 1e3);
        }
    }
    println!("the goal is {} ms", GOAL.as_millis());
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
