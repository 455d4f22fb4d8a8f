//! How fast it goes now: what has passed lately, and not since the beginning. A pass that waited for a minute is not
//! slower for it afterwards.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::transfer::progress::Reading;

/// How far back one looks.
const WINDOW: Duration = Duration::from_secs(30);
/// How often a reading is kept.
const EVERY: Duration = Duration::from_millis(500);

/// The readings of the last while.
#[derive(Debug)]
pub(super) struct Pace {
    kept: VecDeque<(Instant, u64, u64)>,
}

impl Pace {
    /// Begins at a moment at which nothing has passed.
    pub(super) fn begin(now: Instant) -> Self {
        Self { kept: [(now, 0, 0)].into() }
    }

    /// Leaves in a reading what passed in the last while, and tells how long that is.
    pub(super) fn narrow(&mut self, reading: &mut Reading, now: Instant) -> Duration {
        let here = (now, reading.passed, reading.bytes_passed);
        // The one before the window stays, or a slow line would have no beginning.
        while self.kept.get(1).is_some_and(|(at, ..)| now.duration_since(*at) >= WINDOW) {
            self.kept.pop_front();
        }
        if self.kept.back().is_none_or(|(at, ..)| now.duration_since(*at) >= EVERY) {
            self.kept.push_back(here);
        }
        let (since, messages, bytes) = self.kept.front().copied().unwrap_or(here);
        reading.passed = reading.passed.saturating_sub(messages);
        reading.bytes_passed = reading.bytes_passed.saturating_sub(bytes);
        now.duration_since(since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_forgotten_and_so_is_a_burst() {
        let start = Instant::now();
        let mut pace = Pace::begin(start);
        // Ten a second for 20 s, nothing for a minute, then five a second.
        let passed = |second: u64| second.min(20) * 10 + second.saturating_sub(80) * 5;
        let mut told = Vec::new();
        for second in 1..=120 {
            let mut reading =
                Reading { passed: passed(second), bytes_passed: passed(second) * 100, ..Reading::default() };
            let elapsed = pace.narrow(&mut reading, start + Duration::from_secs(second));
            assert_eq!(reading.bytes_passed, reading.passed * 100);
            told.push((reading.passed, elapsed.as_secs()));
        }
        assert_eq!((told[9], told[19]), ((100, 10), (200, 20)), "all of it, at first");
        assert_eq!(told[69], (0, 30), "it waits");
        assert_eq!((told[89], told[119]), ((50, 30), (150, 30)), "five a second again");
    }
}
