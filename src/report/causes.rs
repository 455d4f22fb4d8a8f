//! Mailboxes that stopped, and messages that did not arrive, for a terminal: by cause, since one cause is mended once, and with
//! the mailboxes that it is about. The rest is counted.

use std::fmt::Write;

use super::exceptions::ExceptionList;
use super::rows::{Cause, FailureRow, MailboxRow, Report};
use super::text::{Style, wrap};
use super::words;
use crate::model::text::printable;

/// The most causes that are told.
const CAUSES_MAX: usize = 10;
/// The most mailboxes that are named for one.
const NAMED_MAX: usize = 3;

/// Writes both parts; nothing where everything is as it should be.
pub(super) fn causes(text: &mut String, report: &Report, style: Style<'_>) {
    stopped(text, &report.mailboxes, style);
    not_arrived(text, &report.exceptions.quarantined, style);
}

/// The mailboxes that something stopped.
fn stopped(text: &mut String, mailboxes: &[MailboxRow], style: Style<'_>) {
    let mut groups: Vec<(Cause, Vec<(&MailboxRow, &FailureRow)>)> = Vec::new();
    for (row, failure) in mailboxes.iter().filter_map(|row| Some((row, row.failure.as_ref()?))) {
        let cause = failure.cause.without(&[&row.source, &row.destination]);
        match groups.iter_mut().find(|(other, _)| other.is(&cause)) {
            Some((_, group)) => group.push((row, failure)),
            None => groups.push((cause, vec![(row, failure)])),
        }
    }
    if groups.is_empty() {
        return;
    }
    let all = groups.iter().map(|(_, group)| group.len()).sum::<usize>() as u64;
    let of = words::count(mailboxes.len() as u64);
    let _ = writeln!(text, "\nStopped: {} of {of}", words::counted(all, "mailbox", "mailboxes"));
    groups.sort_by_key(|(_, group)| std::cmp::Reverse(group.len()));
    for (cause, group) in groups.iter().take(CAUSES_MAX) {
        let [(row, failure), others @ ..] = &group[..] else { continue };
        let said = if group.len() == 1 {
            let address = row.source.to_string();
            let named = failure.place.iter().any(|place| place.starts_with(&address));
            if named { failure.sentence.clone() } else { format!("{address}: {}", failure.sentence) }
        } else {
            let alike = |(row, failure): &(&MailboxRow, &FailureRow)| {
                failure.cause.without(&[&row.source, &row.destination]).what() == cause.what()
            };
            // A server may say it otherwise each time.
            let first = if others.iter().all(alike) { "" } else { "the first: " };
            format!("{} mailboxes: {first}{}", words::count(group.len() as u64), cause.what())
        };
        wrap(text, "  ! ", "    ", &printable(&said), style.columns);
        if group.len() > 1 {
            let names: Vec<String> = group.iter().map(|(row, _)| row.source.to_string()).collect();
            wrap(text, "    ", "    ", &words::some_of(&names, NAMED_MAX), style.columns);
        }
        if let Some(hint) = &failure.hint {
            wrap(text, "    → ", "      ", &printable(&style.spell_out(hint)), style.columns);
        }
    }
    let others = groups.iter().skip(CAUSES_MAX).map(|(_, group)| group.len()).sum::<usize>() as u64;
    if others > 0 {
        let more = words::counted(others, "mailbox for other reasons", "mailboxes for other reasons");
        wrap(text, "  ", "    ", &format!("and {more}: the report names all"), style.columns);
    }
}

/// The messages that could not be carried.
fn not_arrived(text: &mut String, list: &ExceptionList, style: Style<'_>) {
    if list.total == 0 {
        return;
    }
    let total = words::counted(list.total, "message could not be carried", "messages could not be carried");
    let _ = writeln!(text, "\n{total}");
    let mut reasons: Vec<(&str, u64)> =
        list.reasons.iter().filter(|(reason, _)| !reason.is_empty()).map(|(r, n)| (r.as_str(), *n)).collect();
    reasons.sort_by_key(|(_, number)| std::cmp::Reverse(*number));
    for (reason, number) in reasons.iter().take(CAUSES_MAX) {
        let mut names: Vec<String> = list
            .named
            .iter()
            .filter(|named| list.is_for(&named.message, reason))
            .map(|named| named.message.mailbox.to_string())
            .collect();
        names.dedup();
        let mailboxes = words::some_of(&names, NAMED_MAX);
        let said = format!("{} in {mailboxes}: {}", words::count(*number), printable(reason));
        wrap(text, "  ! ", "    ", &said, style.columns);
    }
    let told: u64 = reasons.iter().take(CAUSES_MAX).map(|(_, number)| number).sum();
    if list.total > told {
        let more =
            words::counted(list.total - told, "message for another reason", "messages for other reasons");
        wrap(text, "  ", "    ", &format!("and {more}"), style.columns);
    }
    let remedy = format!(
        "each of them, with the reason: mailferry report {} --kind messages --format csv --verdict Quarantined",
        style.given.inputs
    );
    wrap(text, "    → ", "      ", &remedy, style.columns);
}

#[cfg(test)]
mod tests {
    use super::super::exceptions::Exceptions;
    use super::super::fixture;
    use super::*;
    use crate::model::failure::{Class, Failure, FailureCode, Side};
    use crate::model::message::Verdict;
    use crate::report::text::Given;

    fn told(report: &Report) -> String {
        let mut text = String::new();
        let given = Given { inputs: "-f m.yaml --state s".to_owned(), reach: String::new() };
        causes(&mut text, report, Style { columns: 60, colour: false, given: &given });
        for line in text.lines() {
            assert!(line.chars().count() <= 60, "{line}");
        }
        text
    }

    #[test]
    fn mailboxes_that_one_cause_stopped_are_told_together_and_the_rest_is_counted() {
        let mut report = fixture::report();
        let pattern = MailboxRow { failure: None, ..report.mailboxes[0].clone() };
        let row = |n: u32, failure: Option<Failure>| MailboxRow {
            source: format!("m{n}@contoso.example").parse().unwrap(),
            failure: failure.as_ref().map(FailureRow::from),
            ..pattern.clone()
        };
        let refused = |n: u32| {
            Failure::new(Class::Credentials, format!("refused LOGIN: [XY{n}] no"))
                .code(FailureCode::WrongCredentials)
                .at(format!("imap.old.test:993 as m{n}"))
                .hint("check the password")
        };
        let silent = Failure::new(Class::Unreachable, "said nothing").at("imap.old.test:993");
        report.mailboxes = (0..34).map(|n| row(n, (n < 33).then(|| refused(n)))).collect();
        report.mailboxes.push(row(34, Some(silent)));
        report.exceptions = Exceptions::default();
        assert_eq!(
            told(&report),
            "\nStopped: 34 mailboxes of 35\n\
             \x20 ! 33 mailboxes: the first: refused LOGIN: [XY0] no\n\
             \x20   m0@contoso.example, m1@contoso.example,\n\
             \x20   m2@contoso.example and 30 more\n\
             \x20   → check the password\n\
             \x20 ! m34@contoso.example: imap.old.test:993: said nothing\n"
        );
        report.mailboxes = (0..40).map(|n| row(n, Some(Failure::internal(format!("reason {n}"))))).collect();
        assert!(told(&report).ends_with("  and 30 mailboxes for other reasons: the report names all\n"));
        report.mailboxes.clear();
        assert_eq!(told(&report), "");
    }

    #[test]
    fn a_server_that_words_each_refusal_anew_makes_no_new_causes() {
        let mut report = fixture::report();
        let pattern = MailboxRow { failure: None, ..report.mailboxes[0].clone() };
        let words = |n: u32| format!("refused APPEND: Internal error occurred ({n}.001 + 0.000 secs).");
        let row = |n: u32, side| {
            let failure = Failure::new(Class::Refused, words(n)).side(side);
            let source = format!("m{n}@contoso.example").parse().unwrap();
            MailboxRow { source, failure: Some((&failure).into()), ..pattern.clone() }
        };
        report.mailboxes =
            (0..6).map(|n| row(n, if n < 4 { Side::Destination } else { Side::Source })).collect();
        report.exceptions = Exceptions::default();
        for n in 0..6 {
            report.exceptions.push(&fixture::message(n, Verdict::Quarantined(words(n))));
            let mut coded = fixture::message(n, Verdict::Quarantined(format!("{} is too much", words(n))));
            coded.code = Some(FailureCode::TooLarge);
            report.exceptions.push(&coded);
        }
        assert_eq!(report.exceptions.quarantined.reasons.values().copied().collect::<Vec<_>>(), [6, 6]);
        let flat = told(&report).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            flat.starts_with("Stopped: 6 mailboxes of 6 ! 4 mailboxes: the first: refused APPEND:"),
            "{flat}"
        );
        assert!(flat.contains("! 2 mailboxes: the first: refused APPEND:"), "{flat}");
        assert_eq!(flat.matches(" ! 6 in ").count(), 2, "{flat}");
    }

    #[test]
    fn messages_that_were_not_carried_are_told_by_reason_with_their_mailboxes() {
        let mut report = fixture::report();
        report.mailboxes.clear();
        report.exceptions = Exceptions::default();
        let long = "refused APPEND: ".repeat(20);
        for n in 0..45 {
            let reason = if n < 40 { long.clone() } else { "nothing came".to_owned() };
            let mut row = fixture::message(n, Verdict::Quarantined(reason));
            row.mailbox = format!("m{}@contoso.example", n / 10).parse().unwrap();
            report.exceptions.push(&row);
        }
        report.exceptions.quarantined.count_up_to(50);
        let flat = told(&report).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.starts_with("50 messages could not be carried ! 40 in m0@contoso.example, m1@contoso.example, m2@contoso.example and 1 more: refused APPEND:"), "{flat}");
        assert!(flat.contains("! 5 in m4@contoso.example: nothing came"), "{flat}");
        let command =
            "mailferry report -f m.yaml --state s --kind messages --format csv --verdict Quarantined";
        assert!(flat.contains(command), "it works as it is typed: {flat}");
        assert!(flat.contains("and 5 messages for other reasons → each of them"), "{flat}");
    }
}
