//! When a failed attempt is made again: exponentially later, with full jitter, or just when the server said.

use std::time::Duration;

use crate::model::failure::{Class, Failure, Verdict};

/// Attempts of one pass over one mailbox before it counts as stopped.
pub const ATTEMPTS_MAX: u32 = 6;
/// Attempts after which a broken protocol or a broken promise of our own is no longer tried.
const ATTEMPTS_FEW: u32 = 3;
/// The first wait.
const FIRST: Duration = Duration::from_secs(2);
/// The longest wait of our own choice.
const LONGEST: Duration = Duration::from_mins(15);
/// How long a service that asks for a pause and names no time is left alone.
const PAUSE: Duration = Duration::from_secs(30);

/// How long to wait before the attempt after `attempts` failed ones; `None` when trying again is useless. `jitter` is a
/// number from 0 to 1 that differs between mailboxes, so that they do not all come back at once.
pub fn wait_after(failure: &Failure, attempts: u32, jitter: f64) -> Option<Duration> {
    let limit = match failure.class.row().verdict {
        Verdict::Wait => return Some(failure.wait.unwrap_or(PAUSE)),
        Verdict::Retry | Verdict::Resume => ATTEMPTS_MAX,
        Verdict::RetryFew => ATTEMPTS_FEW,
        Verdict::Stall | Verdict::StallMailbox | Verdict::Skip => return None,
    };
    if attempts >= limit {
        return None;
    }
    if failure.class == Class::Interrupted {
        return Some(Duration::ZERO);
    }
    let full = FIRST.saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(LONGEST);
    // Full jitter, but never at once: a server that just fell needs a moment.
    Some(full.mul_f64(jitter.clamp(0.0, 1.0)).max(Duration::from_millis(500)))
}

/// How long an operator waits before it looks again at something that failed for good by the rule of a command: a person
/// may have mended it meanwhile. Longer each time, and never so often that anybody is bothered.
pub fn again_after(failure: &Failure, attempts: u32, jitter: f64) -> Duration {
    let (first, longest) = match failure.class.row().verdict {
        Verdict::Wait => return failure.wait.unwrap_or(PAUSE),
        Verdict::StallMailbox => return Duration::from_hours(1),
        // A missing Secret is there a moment later as often as not.
        Verdict::Stall => (Duration::from_secs(15), Duration::from_mins(10)),
        Verdict::Retry | Verdict::Resume | Verdict::RetryFew | Verdict::Skip => {
            (Duration::from_secs(30), LONGEST)
        }
    };
    let full = first.saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(longest);
    full.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 4.0)
}

/// A number from 0 to 1 that depends on a name and an attempt alone.
pub fn jitter(name: &str, attempt: u32) -> f64 {
    let hash = blake3::hash(format!("{name}\0{attempt}").as_bytes());
    f64::from(u16::from_le_bytes([hash.as_bytes()[0], hash.as_bytes()[1]])) / f64::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_end() {
        let lost = Failure::new(Class::Unreachable, "");
        let waits: Vec<_> =
            (1..=ATTEMPTS_MAX).map(|n| wait_after(&lost, n, 1.0).map(|w| w.as_secs())).collect();
        assert_eq!(waits, [Some(2), Some(4), Some(8), Some(16), Some(32), None]);
        assert!(wait_after(&lost, 1, 0.0).unwrap() >= Duration::from_millis(500));
        assert_eq!(wait_after(&Failure::new(Class::Credentials, ""), 1, 0.5), None);
        let asked = Failure::new(Class::Throttled, "").wait(Duration::from_mins(5));
        assert_eq!(
            wait_after(&asked, 99, 0.5),
            Some(Duration::from_mins(5)),
            "a pause asked for is no failure"
        );
        let (hour, day) = (Duration::from_hours(1), Duration::from_hours(24));
        let throttled = || Failure::new(Class::Throttled, "");
        for (failure, wanted) in [(throttled().wait(day), hour), (throttled().pause(day), day)] {
            assert_eq!(wait_after(&failure, 1, 0.5), Some(wanted), "our own pause may be longer");
            assert_eq!(again_after(&failure, 1, 0.5), wanted);
        }
    }

    #[test]
    fn an_operator_looks_again_at_everything_and_ever_more_seldom() {
        let secret = Failure::new(Class::Configuration, "");
        let waits: Vec<_> = (1..9).map(|n| again_after(&secret, n, 0.0).as_secs()).collect();
        assert_eq!(waits, [15, 30, 60, 120, 240, 480, 600, 600]);
        assert_eq!(again_after(&Failure::new(Class::Quota, ""), 1, 0.3), Duration::from_hours(1));
        for row in Class::table() {
            let wait = again_after(&Failure::new(row.class, ""), 1, 1.0);
            assert!(wait >= Duration::from_secs(10), "{}", row.class);
        }
    }

    #[test]
    fn jitter_is_stable_and_spread() {
        assert!((jitter("a", 1) - jitter("a", 1)).abs() < f64::EPSILON);
        assert!((jitter("a", 1) - jitter("b", 1)).abs() > f64::EPSILON);
    }
}
