//! Whether a message came as large as its source lists it. Sizes are exact at most servers, guessed at some (Exchange), and
//! differ by line ends at others, so a smaller one alone does not say that a part is missing.

/// Bytes by which any message may differ: a last line without its end gets one.
const LAST_END: u64 = 2;

/// Whether a message lacks more of its listed size than line ends explain, of which so many may count for one byte less.
pub(crate) fn is_short(listed: u64, given: u64, ends: u64) -> bool {
    listed > given.saturating_add(ends).saturating_add(LAST_END)
}

/// How sizes came out against the list, for some messages of one source.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sizes {
    /// Messages that came as they are listed, or larger.
    pub(crate) whole: usize,
    /// Messages that came shorter.
    pub(crate) short: usize,
}

impl Sizes {
    /// Counts one.
    pub(crate) fn add(&mut self, is_short: bool) {
        *(if is_short { &mut self.short } else { &mut self.whole }) += 1;
    }

    /// Whether a short message, which is counted already, is to be reported. Where most of the others come as they are
    /// listed, any is. Else the sizes are guesses, or nothing tells, and only what lacks more than a quarter is.
    pub(crate) fn condemn(self, listed: u64, given: u64) -> bool {
        self.whole > self.short.saturating_sub(1) || given < listed - listed / 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_explain_a_difference_and_no_more() {
        for (listed, given, ends, expected) in [
            (100, 100, 0, false),
            (100, 102, 0, false),
            (100, 98, 0, false),
            (100, 97, 0, true),
            (100, 90, 8, false),
            (100, 89, 8, true),
            (0, 10, 0, false),
            (u64::MAX, u64::MAX - 5, 3, false),
        ] {
            assert_eq!(is_short(listed, given, ends), expected, "{listed} {given} {ends}");
        }
    }

    #[test]
    fn a_short_message_is_told_of_where_sizes_are_right_or_much_is_missing() {
        let sizes = |whole, short| Sizes { whole, short };
        assert!(sizes(3, 1).condemn(1000, 990), "the others came as they are listed");
        assert!(!sizes(0, 9).condemn(1000, 800), "all are guesses");
        assert!(!sizes(1, 9).condemn(1000, 800) && sizes(1, 9).condemn(1000, 700));
        assert!(!sizes(0, 1).condemn(1000, 800), "nothing tells");
        assert!(sizes(0, 1).condemn(1000, 200));
    }
}
