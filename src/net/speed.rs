//! When a host's link is slow: so slow that compression costs next to nothing beside it, whatever makes it so.

use std::time::Duration;

/// The amount of mail that one session carries in a second over a link that is not slow, in bytes. To deflate and
/// inflate so much takes a few hundredths of a core.
const FAST: u64 = 1024 * 1024;
/// A shorter wait shows how far away a host is and how TCP begins, not how much the link carries.
const TELLING: Duration = Duration::from_secs(2);

/// Whether a link is slow over which one session carried so many bytes of messages while it waited for the host for so
/// long; `None` when that does not tell.
pub(super) fn is_slow(bytes: u64, waited: Duration) -> Option<bool> {
    let at_least = u128::from(FAST) * waited.as_millis() / 1000;
    (waited >= TELLING).then_some(u128::from(bytes) < at_least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_waited_for_tells_and_a_mebibyte_a_second_is_not_slow() {
        for (bytes, milliseconds, slow) in [
            (0, 0, None),
            (300, 200, None),
            (1024, 1_999, None),
            (u64::MAX, 100, None),
            (1024, 2_000, Some(true)),
            (2 * FAST - 1, 2_000, Some(true)),
            (2 * FAST, 2_000, Some(false)),
            (64 * FAST, 60_000, Some(false)),
            (64 * FAST, 65_000, Some(true)),
            (u64::MAX, 3_600_000, Some(false)),
            (0, u64::MAX, Some(true)),
        ] {
            assert_eq!(
                is_slow(bytes, Duration::from_millis(milliseconds)),
                slow,
                "{bytes} in {milliseconds} ms"
            );
        }
    }
}
