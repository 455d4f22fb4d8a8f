//! A decision about ten times the mailboxes takes some ten times as long, in one domain and in many: no loop goes through all
//! mailboxes for each of them. Times are compared with each other and with no clock of a faster machine.

use std::time::{Duration, Instant};

use crate::support::large::{Large, now};
use mailferry::plan::decide;

/// The shortest of several decisions: whatever else the machine does makes one longer, and never shorter.
fn decision(large: &Large) -> Duration {
    let took = |_| {
        let begun = Instant::now();
        let decision = decide(&large.migration, &large.observed, now());
        let took = begun.elapsed();
        assert!(!decision.mailboxes.is_empty());
        took
    };
    (0..3).map(took).min().unwrap()
}

#[test]
fn a_decision_takes_as_long_as_there_are_mailboxes() {
    for (few, many) in [((1_000, 1), (10_000, 1)), ((1_000, 100), (10_000, 1_000))] {
        let (few, many) = (Large::all(few.0, few.1), Large::all(many.0, many.1));
        for (few, many) in few.iter().zip(&many) {
            let (short, long) = (decision(few), decision(many));
            println!("{}: {short:?}, and {long:?} for ten times as many", many.about);
            assert!(long < short * 30, "{}: {short:?}, {long:?}", many.about);
        }
    }
}
