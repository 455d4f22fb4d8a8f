//! Small stacked bars in SVG, drawn by hand: they scale with the page, print sharply, and need no script. The words of a
//! bar also stand beside it; its parts differ in pattern and not in colour alone.

use askama::Template;

use super::domains::DomainRow;
use super::rows::MailboxRow;
use super::words;
use crate::model::progress::MessageCounts;
use crate::model::protocol::Protocol;

/// The narrowest part that can still be seen, in percent.
const VISIBLE: f64 = 0.9;

struct Part {
    class: &'static str,
    label: String,
    start: String,
    width: String,
}

#[derive(Template)]
#[template(path = "bar.svg")]
struct Bar {
    title: String,
    height: u8,
    parts: Vec<Part>,
}

/// Shares of 100 that add up to `full`; whatever is not nothing stays visible, at the cost of the largest.
#[allow(clippy::cast_precision_loss, reason = "a bar is at most a few thousand points wide")]
fn shares(values: &[u64], full: f64) -> Vec<f64> {
    let sum: u64 = values.iter().sum();
    if sum == 0 {
        return vec![0.0; values.len()];
    }
    let share = |value: u64| if value == 0 { 0.0 } else { (value as f64 / sum as f64 * full).max(VISIBLE) };
    let mut shares: Vec<f64> = values.iter().map(|v| share(*v)).collect();
    let excess = shares.iter().sum::<f64>() - full;
    if let Some(largest) = shares.iter_mut().max_by(|a, b| a.total_cmp(b)) {
        *largest = (*largest - excess).max(VISIBLE);
    }
    shares
}

fn stacked(title: String, height: u8, full: f64, parts: &[(&'static str, String, u64)]) -> String {
    let values: Vec<u64> = parts.iter().map(|(_, _, value)| *value).collect();
    let mut start = 0.0;
    let parts = parts.iter().zip(shares(&values, full)).filter(|(_, width)| *width > 0.0);
    let parts = parts.map(|((class, label, _), width)| {
        let part =
            Part { class, label: label.clone(), start: format!("{start:.2}"), width: format!("{width:.2}") };
        start += width;
        part
    });
    let parts = parts.collect();
    // Rendering into a string cannot fail; a report without a bar would still be whole, as the words say the same.
    Bar { title, height, parts }.render().unwrap_or_default()
}

/// How many mailboxes of a domain speak which protocol.
pub(super) fn protocols(domain: &DomainRow) -> String {
    let class = |protocol| match protocol {
        Protocol::Pop3 => "pop3",
        Protocol::Imap | Protocol::Maildir | Protocol::Mbox | Protocol::Eml => "imap",
    };
    let mut parts: Vec<_> = domain
        .protocols
        .iter()
        .map(|s| {
            (
                class(s.protocol),
                format!("{}: {}", s.protocol, words::counted(s.mailboxes, "mailbox", "mailboxes")),
                s.mailboxes,
            )
        })
        .collect();
    if domain.unreadable > 0 {
        let label = format!("not readable: {}", words::counted(domain.unreadable, "mailbox", "mailboxes"));
        parts.push(("none", label, domain.unreadable));
    }
    let said: Vec<String> = parts.iter().map(|(_, label, _)| label.clone()).collect();
    stacked(format!("{}: {}", domain.name, words::list(&said)), 12, 100.0, &parts)
}

/// The fate of the messages.
pub(super) fn messages(counts: &MessageCounts) -> String {
    let part = |class, n: u64| (class, format!("{class}: {}", words::count(n)), n);
    let parts = [
        part("copied", counts.copied),
        part("excluded", counts.excluded),
        part("failed", counts.failed),
        part("pending", counts.pending),
    ];
    stacked(format!("Messages: {counts}"), 22, 100.0, &parts)
}

/// The size of a mailbox, measured against the largest of all.
#[allow(clippy::cast_precision_loss, reason = "a bar is at most a few thousand points wide")]
pub(super) fn size(row: &MailboxRow, largest: u64) -> String {
    let title = format!("{}: {}", row.source, words::bytes(row.bytes));
    let full = row.bytes as f64 / largest.max(1) as f64 * 100.0;
    let class = if row.protocol == Some(Protocol::Pop3) { "pop3" } else { "imap" };
    stacked(title.clone(), 12, full.max(VISIBLE), &[(class, title, row.bytes)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_fill_the_bar_and_the_smallest_stays_visible() {
        for values in [vec![21_940, 6, 4, 0], vec![1, 1], vec![0, 0, 3], vec![u64::MAX / 4, 1, 1, 1]] {
            let shares = shares(&values, 100.0);
            assert!((shares.iter().sum::<f64>() - 100.0).abs() < 1e-6, "{values:?} {shares:?}");
            for (value, share) in values.iter().zip(&shares) {
                assert_eq!(*value == 0, *share == 0.0, "{values:?} {shares:?}");
                assert!(*share == 0.0 || *share >= VISIBLE);
            }
        }
        assert_eq!(shares(&[0, 0], 100.0), [0.0, 0.0]);
    }

    #[test]
    fn a_bar_says_in_words_what_it_shows() {
        let counts = MessageCounts { source: 1_210, copied: 1_200, excluded: 6, failed: 4, pending: 0 };
        let svg = messages(&counts);
        assert!(
            svg.contains("role=\"img\"")
                && svg.contains("<title>failed: 4</title>")
                && svg.contains("1,210 at the source"),
            "{svg}"
        );
        assert!(!svg.contains("pending: 0"), "what is nothing is not drawn: {svg}");
    }
}
