//! The sentences of progress, the same for bars and for lines.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use jiff::Timestamp;

use super::tally::Sums;
use crate::api::MailMigrationStatus;
use crate::discovery::Step;
use crate::local::clock::{clock_time, time_until};
use crate::model::address::Address;
use crate::model::evidence::{DomainDiscovery, MailboxDiscovery};
use crate::model::fidelity::of_mail_read_by;
use crate::model::record::MailboxRecord;
use crate::model::text::{count, counted, printable};
use crate::transfer::progress::{Doing, Reading};

pub(super) fn step_words(step: &Step) -> String {
    match step {
        Step::Signals => "asking DNS and published configuration".to_owned(),
        Step::Probes { endpoints } => {
            format!("asking {} what they speak", counted(*endpoints as u64, "server", "servers"))
        }
        Step::Logins { done, total } => format!("logging in, {done} of {total} mailboxes"),
        Step::Waiting { server, mailbox } => {
            format!("waiting for {} to open and list the folders of {mailbox}", printable(server))
        }
    }
}

/// One line about a domain: what was chosen, where, how sure.
pub(super) fn domain_words(discovery: &DomainDiscovery) -> String {
    let mut protocols: BTreeMap<String, u32> = BTreeMap::new();
    for protocol in discovery.mailboxes.iter().filter_map(MailboxDiscovery::protocol) {
        *protocols.entry(protocol.to_string()).or_default() += 1;
    }
    let chosen: Vec<String> = match protocols.len() {
        0 => vec!["nothing that can be read".to_owned()],
        1 => protocols.keys().cloned().collect(),
        _ => {
            let parts: Vec<String> = protocols.iter().map(|(p, n)| format!("{p} {n}")).collect();
            vec![format!("mixed  {}", parts.join(" · "))]
        }
    };
    let best = discovery.candidates.iter().find(|c| c.mailboxes > 0);
    let tls = best.and_then(|c| discovery.servers.iter().find(|s| s.endpoint == c.endpoint)?.tls.as_ref());
    let readable = discovery.mailboxes.iter().filter(|m| m.endpoint.is_some()).count();
    let mut words = chosen.join(" ");
    if let Some(best) = best {
        words.push_str("  ");
        words.push_str(&best.endpoint.address());
        words.push_str(&tls.map_or_else(|| "  no TLS".to_owned(), |t| format!("  {}", t.version)));
    }
    let _ = write!(words, "  {readable} of {} logins ok", discovery.mailboxes.len());
    if let Some(best) = best {
        let _ = write!(words, "  grade {}", best.grade);
        let read_by = discovery.mailboxes.iter().filter_map(|m| Some((m.protocol()?, 1)));
        if let Some(fidelity) = of_mail_read_by(&read_by.collect::<Vec<_>>()) {
            let _ = write!(words, "  fidelity {fidelity}");
        }
    } else if let Some(failure) = &discovery.failure {
        let _ = write!(words, "  {}", failure.what);
    }
    words
}

pub(super) fn ended_words(record: &MailboxRecord) -> String {
    match &record.failure {
        Some(failure) => format!("{} [{}]", failure.sentence(), failure.class),
        None => {
            format!("{}  {} sent, {} recognised", record.counts, count(record.sent), count(record.recognised))
        }
    }
}

/// What is waited for, and how long.
pub(super) fn waiting_words(until: Timestamp, paused: bool, now: Timestamp) -> String {
    let what = if paused { "no window of its schedule is open; it goes on" } else { "the next pass begins" };
    format!("{what} at {}, in {}", clock_time(until, now), time_until(until, now))
}

/// The outcome of a verification of a mailbox.
pub(super) fn verified_words(record: &MailboxRecord) -> String {
    match (&record.unverified, record.last_verification()) {
        (Some(failure), _) => format!("could not be verified: {} [{}]", failure.sentence(), failure.class),
        (None, None) => "was verified".to_owned(),
        (None, Some(shown)) => {
            let also = [
                (shown.altered, "altered"),
                (shown.missing, "missing"),
                (shown.differing_messages(), "with other flags or dates"),
                (shown.unchecked, "could not be checked"),
            ];
            let also = also.into_iter().filter(|(n, _)| *n > 0);
            let (checked, identical) = (count(shown.checked), count(shown.identical));
            let mut text = format!("verified  {checked} checked  {identical} identical");
            for (n, words) in also {
                let _ = write!(text, "  {} {words}", count(n));
            }
            text
        }
    }
}

/// One line for each open finding, the most serious first.
pub(super) fn finding_words(status: &MailMigrationStatus) -> Vec<String> {
    let mut lines: Vec<_> = status
        .domains
        .iter()
        .flat_map(|domain| domain.findings.iter().filter(|f| !f.acknowledged).map(move |f| (f, domain)))
        .map(|(finding, domain)| {
            let severity = finding.severity.to_string().to_uppercase();
            let message = printable(&finding.message);
            let line = format!("{severity:8}  {}  {}: {message}", finding.code, domain.name);
            (finding.severity, line)
        })
        .collect();
    lines.sort();
    lines.into_iter().map(|(_, line)| line).collect()
}

/// Messages of a mailbox or of all: those that were dealt with, and how many there are.
pub(super) fn messages(reading: &Reading) -> String {
    format!("{}/{}", count(reading.done), count(reading.expected))
}

/// Bytes that were dealt with, and how many there are, in the unit of the latter: `1.2/1.5 GB`.
pub(super) fn bytes(reading: &Reading) -> String {
    const UNITS: [(u64, &str); 4] =
        [(1_000_000_000_000, "TB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    let whole = reading.bytes_expected;
    let unit = UNITS.iter().find(|(unit, _)| whole >= *unit);
    let Some((unit, name)) = unit else { return format!("{}/{whole} bytes", reading.bytes) };
    let tenths = |n: u64| format!("{}.{}", n / unit, n % unit / (unit / 10));
    format!("{}/{} {name}", tenths(reading.bytes), tenths(whole))
}

/// How fast it goes.
pub(super) fn rate(reading: &Reading, elapsed: Duration) -> String {
    #[allow(clippy::cast_precision_loss, reason = "a rate for people needs no more than three digits")]
    let rate = reading.passed as f64 / elapsed.as_secs_f64().max(0.001);
    format!("{rate:.0} msg/s")
}

/// The time that is left at the pace of this run; `None` while no pace can be told, and when nothing is left.
pub(super) fn left(reading: &Reading, elapsed: Duration) -> Option<String> {
    let bytes = reading.bytes_expected.checked_sub(reading.bytes).filter(|left| *left > 0)?;
    let passed = Some(reading.bytes_passed).filter(|passed| *passed > 0)?;
    let seconds = u128::from(bytes) * elapsed.as_millis() / u128::from(passed) / 1_000;
    Some(match seconds {
        0..3_600 => format!("{:02}:{:02} left", seconds / 60, seconds % 60),
        3_600..360_000 => format!("{} h {:02} min left", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} days left", seconds / 86_400),
    })
}

/// The line of all mailboxes together: as much as there is room for, the most important last to go.
pub(super) fn total_line(sums: &Sums, columns: usize) -> String {
    let reading = &sums.reading;
    let mut pieces = vec![
        (5, "Syncing".to_owned()),
        (1, format!("{}/{} mailboxes", count(sums.through as u64), count(sums.mailboxes as u64))),
        (0, format!("{} messages", messages(reading))),
        (3, bytes(reading)),
        (4, rate(reading, sums.elapsed)),
    ];
    pieces.extend(left(reading, sums.elapsed).map(|left| (2, left)));
    let line = fit(pieces, columns);
    let room = columns.saturating_sub(width(&line) + 2).min(BAR_MAX);
    match line.strip_prefix("Syncing") {
        Some(rest) if room >= BAR_MIN => {
            format!("Syncing  {}{rest}", bar(reading.done, reading.expected, room))
        }
        _ => line,
    }
}

/// The line of one mailbox: which, where, how far. A long one ends in `…`; a folder begins with it, since the end of
/// a path tells more.
pub(super) fn mailbox_line(
    mailbox: &Address,
    reading: &Reading,
    elapsed: Duration,
    columns: usize,
) -> String {
    let address = columns.saturating_mul(2) / 5;
    let address = address.min(28);
    let head = format!("  {:address$}", cut_end(&mailbox.to_string(), address));
    let room = columns.saturating_sub(width(&head) + 4);
    let mut pieces = vec![(0, messages(reading)), (2, rate(reading, elapsed))];
    pieces.extend(left(reading, elapsed).map(|left| (1, left)));
    let tail = fit(pieces, room.saturating_sub(FOLDER_MIN));
    let folder = room.saturating_sub(width(&tail));
    let place = match &reading.place {
        Doing::Folder(path) => cut_begin(path, folder),
        other => cut_end(other.as_str(), folder),
    };
    format!("{head}  {place:folder$}  {tail}")
}

/// The narrowest and the widest bar.
const BAR_MIN: usize = 8;
const BAR_MAX: usize = 28;
/// The room that a folder's name has at least.
const FOLDER_MIN: usize = 12;

fn width(text: &str) -> usize {
    text.chars().count()
}

/// Joins pieces, each with a rank, and leaves those of the highest ranks out until the rest fits.
fn fit(mut pieces: Vec<(u8, String)>, columns: usize) -> String {
    loop {
        let line = pieces.iter().map(|(_, piece)| piece.as_str()).collect::<Vec<_>>().join("  ");
        let last = pieces.iter().enumerate().max_by_key(|(_, (rank, _))| *rank).map(|(at, _)| at);
        match last.filter(|_| width(&line) > columns && pieces.len() > 1) {
            Some(at) => {
                pieces.remove(at);
            }
            None => return line,
        }
    }
}

fn bar(done: u64, whole: u64, columns: usize) -> String {
    let full = u128::from(done.min(whole)) * columns as u128 / u128::from(whole.max(1));
    let full = usize::try_from(full).unwrap_or(columns);
    format!("{}{}", "█".repeat(full), "░".repeat(columns - full))
}

fn cut_end(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    text.chars().take(columns.saturating_sub(1)).chain(['…']).collect()
}

fn cut_begin(text: &str, columns: usize) -> String {
    let long = width(text);
    if long <= columns {
        return text.to_owned();
    }
    std::iter::once('…').chain(text.chars().skip(long + 1 - columns.max(1))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading() -> Reading {
        Reading {
            expected: 21_950,
            done: 18_204,
            bytes_expected: 1_540_000_000,
            bytes: 1_230_000_000,
            passed: 5_120,
            bytes_passed: 310_000_000,
            sent: 5_120,
            recognised: 0,
            place: Doing::Folder("Archiv/2021/Projekte/Neubau/Rechnungen".to_owned()),
        }
    }

    #[test]
    fn the_lines_fit_every_terminal_and_keep_what_matters() {
        let sums = Sums { mailboxes: 6, through: 5, reading: reading(), elapsed: Duration::from_secs(10) };
        let anna = "anna.von.und.zu.der.lange@contoso.example".parse().unwrap();
        for columns in [40, 60, 80, 100, 120, 160] {
            let total = total_line(&sums, columns);
            let mailbox = mailbox_line(&anna, &reading(), Duration::from_secs(10), columns);
            for line in [&total, &mailbox] {
                assert!(width(line) <= columns, "{columns}: {line}");
                assert!(line.contains("18,204/21,950"), "{columns}: {line}");
            }
            assert!(mailbox.contains("anna.von.und") && mailbox.contains("ngen  "), "{columns}: {mailbox}");
        }
        let total = |columns| total_line(&sums, columns);
        assert_eq!(total(60), "5/6 mailboxes  18,204/21,950 messages  00:10 left");
        assert_eq!(
            total(120),
            "Syncing  ███████████████████████░░░░░  5/6 mailboxes  18,204/21,950 messages  1.2/1.5 GB  512 msg/s  00:10 left"
        );
        assert_eq!(
            mailbox_line(&"bert@a.test".parse().unwrap(), &reading(), Duration::from_secs(10), 60),
            "  bert@a.test               …eubau/Rechnungen  18,204/21,950"
        );
        let waiting = Reading { place: Doing::Waiting("waiting for late arrivals".to_owned()), ..reading() };
        assert_eq!(
            mailbox_line(&"bert@a.test".parse().unwrap(), &waiting, Duration::from_secs(10), 60),
            "  bert@a.test               waiting for late…  18,204/21,950"
        );
    }

    #[test]
    fn pace_is_that_of_this_run_and_what_was_there_before_is_none_of_it() {
        let elapsed = Duration::from_secs(10);
        assert_eq!(rate(&reading(), elapsed), "512 msg/s");
        let told = |bytes_passed, bytes| left(&Reading { bytes, bytes_passed, ..reading() }, elapsed);
        assert_eq!(told(310_000_000, 1_230_000_000).unwrap(), "00:10 left");
        assert_eq!(told(1_000_000, 1_230_000_000).unwrap(), "51:40 left");
        assert_eq!(told(100_000, 1_230_000_000).unwrap(), "8 h 36 min left");
        assert_eq!(told(100, 1_230_000_000).unwrap(), "358 days left");
        assert_eq!(told(0, 1_230_000_000), None, "nothing passed yet");
        assert_eq!(told(310_000_000, 1_540_000_000), None, "nothing is left");
        let small = Reading { bytes: 0, bytes_expected: 900, ..Reading::default() };
        assert_eq!((bytes(&reading()), bytes(&small)), ("1.2/1.5 GB".to_owned(), "0/900 bytes".to_owned()));
    }
}
