//! Numbers, sizes and dates as people write them, and the sentences of the report that do not depend on its facts.

use jiff::Timestamp;

use super::domains::DomainRow;
use crate::model::record::Depth;
pub(super) use crate::model::text::{bytes, count, counted};
use crate::model::text::{cut, printable};

/// `23 November 2026`.
pub(super) fn date(at: Timestamp) -> String {
    at.strftime("%-d %B %Y").to_string()
}

/// `23 Nov 2026`, for narrow columns.
pub(super) fn short_date(at: Timestamp) -> String {
    at.strftime("%-d %b %Y").to_string()
}

/// `23 November 2026, 14:02 UTC`.
pub(super) fn moment(at: Timestamp) -> String {
    at.strftime("%-d %B %Y, %H:%M UTC").to_string()
}

/// `14:02:11`.
pub(super) fn time(at: Timestamp) -> String {
    at.strftime("%H:%M:%S").to_string()
}

/// A time that something takes, in the two largest units: `1 h 27 min`; rounded up to minutes.
pub(super) fn duration(seconds: u64) -> String {
    let minutes = seconds.div_ceil(60);
    let (days, hours, minutes) = (minutes / 1_440, minutes / 60 % 24, minutes % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => "no time".to_owned(),
        (0, 0, _) => format!("{minutes} min"),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{} {hours} h", counted(days, "day", "days")),
    }
}

/// `first, second and third`.
pub(super) fn list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

/// Names the first few of many.
pub(super) fn some_of(items: &[String], most: usize) -> String {
    if items.len() <= most {
        return list(items);
    }
    format!("{} and {} more", items[..most].join(", "), count((items.len() - most) as u64))
}

/// The words of somebody else, harmless and not too long for a sentence.
pub(super) fn peer(text: &str) -> String {
    cut(&printable(text), 400)
}

/// A subject, short enough for a column.
pub(super) fn short(text: &str) -> String {
    cut(text, 120)
}

/// How a domain's mailboxes are read: `IMAP`, or `IMAP 1 · POP3 1` where it is mixed.
pub(super) fn protocols(domain: &DomainRow) -> String {
    match domain.protocols.as_slice() {
        [] => "none".to_owned(),
        [one] => one.protocol.to_string(),
        several => {
            let shares: Vec<_> =
                several.iter().map(|s| format!("{} {}", s.protocol, count(s.mailboxes))).collect();
            shares.join(" · ")
        }
    }
}

/// The meaning of a depth of verification, in one sentence.
pub(super) fn depth(depth: Depth) -> &'static str {
    match depth {
        Depth::Sizes => {
            "The destination is asked for each message that was stored, and its size is compared."
        }
        Depth::Sampled => {
            "The destination is asked for each message that was stored and its size is compared; a sample, and \
             every message whose size differs, is read back and compared byte for byte."
        }
        Depth::Full => {
            "Every message that was stored is read back from the destination and compared byte for byte."
        }
    }
}

/// How the migration works: what a customer can hold us to.
pub(super) const METHOD: [(&str, &str); 5] = [
    (
        "Discovery",
        "Each domain was asked for its published mail servers in the DNS and in configuration documents; the servers \
         found were asked what they offer; then each mailbox was logged in to. A mailbox is read by the protocol \
         that carries the most of it and that its own login proved to work. Grades say how much a statement proves: \
         A, a login listed data; B, a server answered; C, published configuration; D, a hint.",
    ),
    (
        "The source stays as it was",
        "Folders are opened read-only and messages are read without marking them as read. Nothing is changed, moved \
         or deleted at the source.",
    ),
    (
        "Each message once",
        "Every message is identified by a digest of its content, not by its number or header. A second run, an \
         interruption or a change of protocol in between copies nothing twice.",
    ),
    (
        "The accounting",
        "Each message that the source holds, or held since the first pass, is in exactly one of four states: copied, \
         excluded by a rule, failed, or pending. The four always add up to the messages at the source.",
    ),
    (
        "Fidelity",
        "The share of the kinds of data in a mailbox that a protocol carries, weighted by their importance, from 0 \
         to 100. The losses are listed in words beside each figure.",
    ),
];

/// Facts that no report of this kind can tell.
pub(super) const LIMITS: [&str; 3] = [
    "Sizes are those that the source servers announce; some servers announce a size that differs slightly from what \
     they send.",
    "Only mail is covered. Calendars, contacts, tasks and rules are not part of this migration.",
    "Sizes are in decimal units: 1 GB is 1,000,000,000 bytes. Times are in UTC unless a zone is given.",
];

/// The limit that POP3 adds.
pub(super) const LIMITS_POP3: &str = "Mail that was downloaded by POP3 and removed from the server exists only in the \
     mail programs of its users. No server can tell how much that is.";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::message::InternalDate;

    #[test]
    fn numbers_are_grouped_and_sizes_are_rounded_down() {
        for (n, text) in
            [(0, "0"), (999, "999"), (1_000, "1,000"), (21_950, "21,950"), (1_234_567, "1,234,567")]
        {
            assert_eq!(count(n), text);
        }
        for (n, text) in [
            (0, "0 bytes"),
            (1, "1 byte"),
            (999, "999 bytes"),
            (1_000, "1.0 kB"),
            (25_400_000, "25.4 MB"),
            (120_000_000, "120 MB"),
            (1_549_999_999, "1.5 GB"),
            (u64::MAX, "18,446,744 TB"),
        ] {
            assert_eq!(bytes(n), text);
        }
    }

    #[test]
    fn dates_keep_the_zone_they_were_told_in() {
        let date = InternalDate::parse("01-Feb-2021 03:04:05 -0730").unwrap();
        assert_eq!(date.rfc3339(), "2021-02-01T03:04:05-07:30");
        assert_eq!(InternalDate { offset_minutes: 0, ..date }.rfc3339(), "2021-02-01T10:34:05+00:00");
        assert_eq!(moment("2026-11-03T09:05:59Z".parse().unwrap()), "3 November 2026, 09:05 UTC");
    }

    #[test]
    fn durations_are_told_in_two_units() {
        let told = [
            (0, "no time"),
            (1, "1 min"),
            (3_600, "1 h 0 min"),
            (5_221, "1 h 28 min"),
            (100_000, "1 day 3 h"),
        ];
        for (seconds, text) in told {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn long_lists_are_named_in_part() {
        let names: Vec<String> = ["a", "b", "c", "d"].map(String::from).to_vec();
        assert_eq!(some_of(&names, 4), "a, b, c and d");
        assert_eq!(some_of(&names, 2), "a, b and 2 more");
    }
}
