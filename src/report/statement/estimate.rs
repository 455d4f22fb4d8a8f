//! How long the first pass takes, with its arithmetic: each limit that is known, what it comes to, and the slowest of them.

use jiff::Timestamp;
use serde::Serialize;

use super::ordered::{self, Ordered};
use crate::model::evidence::Amount;
use crate::model::preset::by_imap_host;
use crate::model::protocol::Protocol;
use crate::report::rows::{MailboxRow, Report};
use crate::report::words;

/// Messages a second that are counted on until a pass was measured: servers that do other work beside take as many.
const ASSUMED_MESSAGES: u64 = 50;

/// Bytes a second that are counted on until a pass was measured.
const ASSUMED_BYTES: u64 = 5_000_000;

/// Bytes a second of one megabit a second.
const MEGABIT: u64 = 125_000;

/// Seconds of a day.
const DAY: u64 = 24 * 60 * 60;

/// The shortest pass whose speed says something, in seconds.
const TELLING_SECONDS: u64 = 10;

/// How long the first pass takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Estimate {
    /// The time that each limit comes to; none when nothing was counted yet.
    pub lines: Vec<Line>,
    /// The slowest of them, in seconds.
    pub seconds: u64,
    /// The time to plan with: half as much again.
    pub planned_seconds: u64,
}

/// One division.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// The amount that is divided: `64.8 GB`.
    pub amount: String,
    /// The pace that it is divided by: `12.5 MB a second`.
    pub rate: String,
    /// Where that figure comes from.
    pub basis: String,
    /// The time that it comes to, in seconds.
    pub seconds: u64,
}

impl Line {
    fn of_bytes(bytes: u64, rate: u64, basis: &str) -> Self {
        Self {
            amount: words::bytes(bytes),
            rate: format!("{} a second", words::bytes(rate)),
            basis: basis.to_owned(),
            seconds: bytes.div_ceil(rate.max(1)),
        }
    }

    /// The mailbox that takes the most days where so much of each is read in a day and no more: by the manifest, or because
    /// its service hands out no more.
    fn of_days(report: &Report, ordered: &[Ordered<'_>]) -> Option<Self> {
        let given = report.agreed.source_bytes_per_day.map(|daily| {
            let basis =
                "the limit of the manifest, spec.policy.limits.sourceBytesPerDay; the largest mailbox";
            (daily, basis.to_owned())
        });
        let days = |one: &Ordered<'_>| {
            let (endpoint, bytes) = (one.row.endpoint.as_ref()?, one.amount.bytes);
            let known = || {
                let preset = by_imap_host(&endpoint.host).filter(|_| endpoint.protocol == Protocol::Imap)?;
                let basis = format!(
                    "what is read of one mailbox of {} by IMAP; the largest mailbox there",
                    preset.name
                );
                Some((preset.planned_bytes_per_day()?, basis))
            };
            let (daily, basis) = given.clone().or_else(known).filter(|(daily, _)| bytes > *daily)?;
            Some((bytes.div_ceil(daily.max(1)), bytes, daily, basis))
        };
        let (days, bytes, daily, basis) = ordered.iter().filter_map(days).max()?;
        Some(Self {
            amount: words::bytes(bytes),
            rate: format!("{} a day", words::bytes(daily)),
            basis,
            seconds: days.saturating_mul(DAY),
        })
    }

    fn of_messages(messages: u64, rate: u64, basis: &str) -> Self {
        Self {
            amount: words::counted(messages, "message", "messages"),
            rate: format!("{} a second", words::count(rate)),
            basis: basis.to_owned(),
            seconds: messages.div_ceil(rate.max(1)),
        }
    }
}

impl Estimate {
    /// The estimate of a project.
    pub(super) fn of(report: &Report) -> Self {
        let ordered = ordered::of(report);
        let Amount { messages, bytes } = ordered::total(&ordered);
        let mut lines = Vec::new();
        if messages > 0 {
            let line =
                report.agreed.answer("bandwidth.megabitsPerSecond").and_then(serde_json::Value::as_u64);
            lines.extend(line.map(|megabits| {
                let basis = format!("the line, {megabits} Mbit a second as the customer says");
                Line::of_bytes(bytes, megabits.saturating_mul(MEGABIT), &basis)
            }));
            lines.extend(report.agreed.bytes_per_second.map(|rate| {
                Line::of_bytes(bytes, rate, "the limit of the manifest, spec.policy.limits.bytesPerSecond")
            }));
            let pace = Measured::of(&report.mailboxes);
            let basis = pace.as_ref().map_or_else(
                || "assumed, until a first pass has measured it".to_owned(),
                |pace| {
                    format!(
                        "measured while {} were carried",
                        words::counted(pace.mailboxes, "mailbox", "mailboxes")
                    )
                },
            );
            let (byte_rate, message_rate) =
                pace.map_or((ASSUMED_BYTES, ASSUMED_MESSAGES), |pace| (pace.bytes, pace.messages));
            lines.push(Line::of_bytes(bytes, byte_rate, &basis));
            lines.push(Line::of_messages(messages, message_rate, &basis));
            lines.extend(Line::of_days(report, &ordered));
        }
        let seconds = lines.iter().map(|line| line.seconds).max().unwrap_or_default();
        Self { lines, seconds, planned_seconds: seconds.saturating_add(seconds / 2) }
    }
}

/// The pace that first passes showed, a second.
struct Measured {
    mailboxes: u64,
    bytes: u64,
    messages: u64,
}

impl Measured {
    /// Mailboxes go side by side: what counts is from the first beginning to the last end. Later passes carry little and
    /// say nothing about a first one.
    fn of(mailboxes: &[MailboxRow]) -> Option<Self> {
        let ended = || {
            mailboxes
                .iter()
                .filter(|row| row.passes == 1)
                .filter_map(|row| Some((row, row.last_started?, row.last_ended?)))
        };
        let begun: Timestamp = ended().map(|(_, begun, _)| begun).min()?;
        let end: Timestamp = ended().map(|(_, _, end)| end).max()?;
        let seconds =
            u64::try_from(end.as_second() - begun.as_second()).ok().filter(|s| *s >= TELLING_SECONDS)?;
        let sum = |of: fn(&MailboxRow) -> u64| ended().map(|(row, _, _)| of(row)).sum::<u64>();
        let (bytes, messages) =
            (sum(|row| row.bytes_copied) / seconds, sum(|row| row.messages.copied) / seconds);
        let mailboxes = ended().count() as u64;
        (bytes > 0 && messages > 0).then_some(Self { mailboxes, bytes, messages })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::checklist::{Item, ItemState};
    use crate::report::fixture;

    fn planned() -> Report {
        let mut report = fixture::report();
        for row in &mut report.mailboxes {
            (row.passes, row.last_started, row.last_ended) = (0, None, None);
        }
        report
    }

    fn line_of(megabits: u64) -> Item {
        Item {
            number: 17,
            title: "Bandwidth",
            domain: None,
            field: "bandwidth.megabitsPerSecond",
            question: "What the line carries.".to_owned(),
            state: ItemState::Answered,
            answer: Some(json!(megabits)),
            discovered: None,
            contradiction: None,
        }
    }

    #[test]
    fn the_slowest_limit_counts_and_what_is_not_known_is_assumed_and_said() {
        let mut report = planned();
        let totals = report.totals();
        let estimate = Estimate::of(&report);
        assert!(estimate.lines.iter().all(|line| line.basis.starts_with("assumed")), "{estimate:?}");
        assert_eq!(estimate.lines[1].seconds, totals.items.div_ceil(ASSUMED_MESSAGES));

        report.agreed.checklist = vec![line_of(8)];
        report.agreed.bytes_per_second = Some(100_000);
        let estimate = Estimate::of(&report);
        let seconds: Vec<u64> = estimate.lines.iter().map(|line| line.seconds).collect();
        assert_eq!(seconds[..2], [totals.bytes.div_ceil(1_000_000), totals.bytes.div_ceil(100_000)]);
        assert_eq!(estimate.lines[0].rate, "1.0 MB a second");
        assert_eq!(estimate.seconds, *seconds.iter().max().unwrap());
        assert_eq!(estimate.planned_seconds, estimate.seconds + estimate.seconds / 2);
    }

    #[test]
    fn what_a_service_hands_out_in_a_day_counts_for_the_largest_mailbox_there() {
        let mut report = planned();
        let lines = Estimate::of(&report).lines.len();
        let at = report.mailboxes.iter().position(|row| row.protocol == Some(Protocol::Imap)).unwrap();
        report.mailboxes[at].endpoint.as_mut().unwrap().host = "imap.gmail.com".to_owned();
        for (bytes, days) in [(2_000_000_000, None), (2_000_000_001, Some(2)), (30_000_000_000, Some(15))] {
            report.mailboxes[at].bytes = bytes;
            let estimate = Estimate::of(&report);
            let found = estimate.lines.get(lines).map(|line| line.seconds / DAY);
            assert_eq!(found, days, "{estimate:?}");
            assert!(estimate.seconds >= days.unwrap_or_default() * DAY);
        }
        report.agreed.source_bytes_per_day = Some(1_000_000_000);
        assert_eq!(Estimate::of(&report).lines[lines].seconds, 30 * DAY, "the manifest is nearer");
        report.agreed.source_bytes_per_day = None;
        report.mailboxes[at].endpoint.as_mut().unwrap().protocol = Protocol::Pop3;
        assert_eq!(Estimate::of(&report).lines.len(), lines, "only IMAP is limited");
    }

    #[test]
    fn first_passes_are_measured_and_later_ones_are_not() {
        let mut report = fixture::report();
        let measured = Measured::of(&report.mailboxes).unwrap();
        // 41 minutes, as the fixture says.
        let carried: u64 =
            report.mailboxes.iter().filter(|m| m.last_ended.is_some()).map(|m| m.bytes_copied).sum();
        assert_eq!(measured.bytes, carried / (41 * 60));
        assert!(Estimate::of(&report).lines[0].basis.starts_with("measured while"));
        for row in &mut report.mailboxes {
            row.passes += 1;
        }
        assert!(Measured::of(&report.mailboxes).is_none());
    }

    #[test]
    fn nothing_that_was_counted_takes_no_time() {
        let mut report = planned();
        report.mailboxes.clear();
        assert_eq!(Estimate::of(&report), Estimate { lines: Vec::new(), seconds: 0, planned_seconds: 0 });
    }
}
