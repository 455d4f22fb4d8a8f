//! The columns that CSV and XLSX share: each has a title, a width, and a function from a row to a cell. A column is
//! written once and is in both.

use std::borrow::Cow;

use jiff::Timestamp;

use super::domains::{CandidateRow, DomainRow, EvidenceRow};
use super::message::{MessageDestination, MessageRow};
use super::rows::{FindingRow, MailboxRow, Totals};
use super::words;
use crate::model::difference::Difference;
use crate::model::message::InternalDate;
use crate::model::text::printable;

/// The content of a cell. Nothing here can become a formula.
pub(super) enum Cell<'a> {
    /// Text, already fit to be shown.
    Text(Cow<'a, str>),
    /// A number of things.
    Count(u64),
    /// A size in bytes.
    Bytes(u64),
    /// A moment, UTC.
    Moment(Timestamp),
    /// Nothing is known.
    Empty,
}

impl<'a> Cell<'a> {
    /// Text that is fit to be shown.
    pub(super) fn text(text: impl Into<Cow<'a, str>>) -> Self {
        Self::Text(text.into())
    }

    /// A value as it is shown.
    pub(super) fn show(value: &impl ToString) -> Self {
        Self::Text(value.to_string().into())
    }

    /// A value, if there is one.
    pub(super) fn maybe(value: Option<impl ToString>) -> Self {
        value.map_or(Self::Empty, |value| Self::show(&value))
    }

    /// The words of somebody else, if there are any.
    pub(super) fn peer(text: Option<&str>) -> Self {
        text.map_or(Self::Empty, |text| Self::Text(printable(text).into()))
    }

    /// A moment, if there is one.
    pub(super) fn at(at: Option<Timestamp>) -> Self {
        at.map_or(Self::Empty, Self::Moment)
    }

    /// Yes or no.
    pub(super) fn yes(yes: bool) -> Self {
        Self::text(if yes { "yes" } else { "no" })
    }
}

/// One column of a table of `T`.
pub(super) struct Column<T> {
    /// The text at its head.
    pub(super) title: &'static str,
    /// Its width in characters.
    pub(super) width: u8,
    /// The content of it.
    pub(super) cell: for<'a> fn(&'a T) -> Cell<'a>,
    /// Its sum over all mailboxes, for the last row.
    pub(super) total: Option<fn(&Totals) -> Cell<'static>>,
}

/// A column without a sum.
pub(super) fn column<T>(title: &'static str, width: u8, cell: for<'a> fn(&'a T) -> Cell<'a>) -> Column<T> {
    Column { title, width, cell, total: None }
}

impl<T> Column<T> {
    fn sum(mut self, total: fn(&Totals) -> Cell<'static>) -> Self {
        self.total = Some(total);
        self
    }
}

/// One row a mailbox.
pub(super) fn mailboxes() -> Vec<Column<MailboxRow>> {
    vec![
        column("Domain", 22, |m| Cell::text(m.domain.as_str())),
        column("Source", 32, |m| Cell::show(&m.source)),
        column("Destination", 32, |m| Cell::show(&m.destination)),
        column("Phase", 13, |m| Cell::peer(Some(&m.phase))),
        column("Protocol", 10, |m| Cell::maybe(m.protocol)),
        column("Server", 34, |m| {
            Cell::maybe(m.endpoint.as_ref().map(|e| format!("{} ({})", e.address(), e.tls)))
        }),
        column("Grade", 7, |m| Cell::maybe(m.grade)),
        column("Decided by", 11, |m| Cell::text(if m.overridden { "override" } else { "discovery" })),
        column("Why", 40, |m| Cell::peer(Some(&m.why))),
        column("Runner-up", 38, |m| Cell::maybe(m.runner_up.as_ref())),
        column("Fidelity", 9, |m| m.fidelity.map_or(Cell::Empty, |f| Cell::Count(f.into()))),
        column("Folders", 9, |m: &MailboxRow| Cell::Count(m.folders)).sum(|t| Cell::Count(t.folders)),
        column("Items found", 12, |m: &MailboxRow| Cell::Count(m.items)).sum(|t| Cell::Count(t.items)),
        column("Bytes", 16, |m: &MailboxRow| Cell::Bytes(m.bytes)).sum(|t| Cell::Bytes(t.bytes)),
        column("Largest message", 16, |m: &MailboxRow| Cell::Bytes(m.largest))
            .sum(|t| Cell::Bytes(t.largest)),
        column("Oldest", 18, |m: &MailboxRow| Cell::at(m.oldest)).sum(|t| Cell::at(t.oldest)),
        column("Newest", 18, |m: &MailboxRow| Cell::at(m.newest)).sum(|t| Cell::at(t.newest)),
        column("Quota", 16, |m| m.quota.map_or(Cell::Empty, |q| Cell::Bytes(q.limit))),
        column("Quota used", 16, |m| m.quota.map_or(Cell::Empty, |q| Cell::Bytes(q.used))),
        column("Foreign folders", 13, |m: &MailboxRow| Cell::Count(m.foreign))
            .sum(|t| Cell::Count(t.foreign)),
        column("At the source", 13, |m: &MailboxRow| Cell::Count(m.messages.source))
            .sum(|t| Cell::Count(t.messages.source)),
        column("Copied", 10, |m: &MailboxRow| Cell::Count(m.messages.copied))
            .sum(|t| Cell::Count(t.messages.copied)),
        column("Excluded", 10, |m: &MailboxRow| Cell::Count(m.messages.excluded))
            .sum(|t| Cell::Count(t.messages.excluded)),
        column("Failed", 10, |m: &MailboxRow| Cell::Count(m.messages.failed))
            .sum(|t| Cell::Count(t.messages.failed)),
        column("Pending", 10, |m: &MailboxRow| Cell::Count(m.messages.pending))
            .sum(|t| Cell::Count(t.messages.pending)),
        column("Altered", 10, |m: &MailboxRow| Cell::Count(m.altered)).sum(|t| Cell::Count(t.altered)),
        column("Found altered", 10, |m: &MailboxRow| Cell::Count(m.changed)).sum(|t| Cell::Count(t.changed)),
        column("Stored in part", 10, |m: &MailboxRow| Cell::Count(m.truncated))
            .sum(|t| Cell::Count(t.truncated)),
        column("Missing", 10, |m: &MailboxRow| Cell::Count(m.missing)).sum(|t| Cell::Count(t.missing)),
        column("Compared by size", 12, |m: &MailboxRow| Cell::Count(m.sizes_checked))
            .sum(|t| Cell::Count(t.sizes_checked)),
        column("Compared byte by byte", 12, |m: &MailboxRow| Cell::Count(m.digests_checked))
            .sum(|t| Cell::Count(t.digests_checked)),
        column("Flags updated", 13, |m: &MailboxRow| Cell::Count(m.flags_updated))
            .sum(|t| Cell::Count(t.flags_updated)),
        column("Bytes copied", 16, |m: &MailboxRow| Cell::Bytes(m.bytes_copied))
            .sum(|t| Cell::Bytes(t.bytes_copied)),
        column("Passes", 8, |m| Cell::Count(m.passes.into())),
        column("Last pass began", 18, |m| Cell::at(m.last_started)),
        column("Last pass ended", 18, |m| Cell::at(m.last_ended)),
        column("Verified", 18, |m| Cell::at(m.verification.map(|v| v.at))),
        column("Verification depth", 17, |m| Cell::maybe(m.verification.map(|v| format!("{:?}", v.depth)))),
        column("Checked", 10, |m: &MailboxRow| {
            m.verification.map_or(Cell::Empty, |v| Cell::Count(v.checked))
        })
        .sum(|t| Cell::Count(t.checked)),
        column("Identical", 10, |m: &MailboxRow| {
            m.verification.map_or(Cell::Empty, |v| Cell::Count(v.identical))
        })
        .sum(|t| Cell::Count(t.identical)),
        column("Same size", 10, |m: &MailboxRow| {
            m.verification.map_or(Cell::Empty, |v| Cell::Count(v.same_size))
        })
        .sum(|t| Cell::Count(t.same_size)),
        column("Alike", 10, |m: &MailboxRow| m.verification.map_or(Cell::Empty, |v| Cell::Count(v.alike)))
            .sum(|t| Cell::Count(t.alike)),
        column("Found altered", 10, |m: &MailboxRow| {
            m.verification.map_or(Cell::Empty, |v| Cell::Count(v.altered))
        })
        .sum(|t| Cell::Count(t.found_altered)),
        column("Found missing", 10, |m: &MailboxRow| {
            m.verification.map_or(Cell::Empty, |v| Cell::Count(v.missing))
        })
        .sum(|t| Cell::Count(t.found_missing)),
        column("Found differing", 10, |m: &MailboxRow| {
            m.last_verification().map_or(Cell::Empty, |v| Cell::Count(v.differing))
        })
        .sum(|t| Cell::Count(t.differing)),
        column("Found moved", 10, |m: &MailboxRow| {
            m.last_verification().map_or(Cell::Empty, |v| Cell::Count(v.moved))
        })
        .sum(|t| Cell::Count(t.moved)),
        column("Verified again", 18, |m| Cell::at(m.rechecked.map(|v| v.at))),
        column("Depth of that", 17, |m| Cell::maybe(m.rechecked.map(|v| format!("{:?}", v.depth)))),
        column("Findings", 30, |m| {
            Cell::text(m.findings.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
        }),
        column("Failure", 50, |m| {
            Cell::peer(m.failure.as_ref().or(m.open.as_ref()).map(|f| f.sentence.as_str()))
        }),
        column("Remedy", 50, |m| {
            Cell::peer(m.failure.as_ref().or(m.open.as_ref()).and_then(|f| f.hint.as_deref()))
        }),
    ]
}

/// One row a difference that a verification found in flags, date, place or number.
pub(super) fn differences<'r>() -> Vec<Column<(&'r MailboxRow, &'r Difference)>> {
    vec![
        column("Mailbox", 30, |(m, _)| Cell::show(&m.source)),
        column("Kind", 10, |(_, d)| Cell::show(&d.kind)),
        column("Message", 30, |(_, d)| Cell::peer(Some(&d.source.name()))),
        column("Subject", 50, |(_, d)| Cell::peer(d.subject.as_deref())),
        column("Message-ID", 36, |(_, d)| Cell::peer(d.message_id.as_deref())),
        column("At the source", 44, |(_, d)| {
            Cell::peer(d.expected.as_ref().map(ToString::to_string).as_deref())
        }),
        column("At the destination", 44, |(_, d)| {
            Cell::peer(d.found.as_ref().map(ToString::to_string).as_deref())
        }),
        column("Destination folder", 26, |(_, d)| {
            Cell::peer(d.destination.as_ref().map(|to| to.folder.as_str()))
        }),
        column("Destination UID", 13, |(_, d)| name_there(d.destination.as_ref())),
    ]
}

/// The name of a message at the destination.
fn name_there(there: Option<&MessageDestination>) -> Cell<'_> {
    match there {
        Some(MessageDestination { uid: Some(uid), .. }) => Cell::show(uid),
        there => Cell::peer(there.and_then(|there| there.id.as_deref())),
    }
}

/// One row a domain, with the sums over its mailboxes.
pub(super) fn domains() -> Vec<Column<(DomainRow, Totals)>> {
    type Row = (DomainRow, Totals);
    vec![
        column("Domain", 26, |(d, _)| Cell::text(d.name.as_str())),
        column("Protocols", 24, |(d, _)| Cell::text(words::protocols(d))),
        column("Mixed", 8, |(d, _)| Cell::yes(d.mixed)),
        column("Grade", 7, |(d, _)| Cell::maybe(d.grade)),
        column("Fidelity", 9, |(d, _)| d.fidelity.map_or(Cell::Empty, |f| Cell::Count(f.into()))),
        column("Mailboxes", 10, |(_, t): &Row| Cell::Count(t.mailboxes)).sum(|t| Cell::Count(t.mailboxes)),
        column("Not readable", 10, |(_, t): &Row| Cell::Count(t.unreadable))
            .sum(|t| Cell::Count(t.unreadable)),
        column("Folders", 9, |(_, t): &Row| Cell::Count(t.folders)).sum(|t| Cell::Count(t.folders)),
        column("Bytes", 16, |(_, t): &Row| Cell::Bytes(t.bytes)).sum(|t| Cell::Bytes(t.bytes)),
        column("Largest message", 16, |(_, t): &Row| Cell::Bytes(t.largest)).sum(|t| Cell::Bytes(t.largest)),
        column("Oldest", 18, |(_, t): &Row| Cell::at(t.oldest)).sum(|t| Cell::at(t.oldest)),
        column("At the source", 13, |(_, t): &Row| Cell::Count(t.messages.source))
            .sum(|t| Cell::Count(t.messages.source)),
        column("Copied", 10, |(_, t): &Row| Cell::Count(t.messages.copied))
            .sum(|t| Cell::Count(t.messages.copied)),
        column("Excluded", 10, |(_, t): &Row| Cell::Count(t.messages.excluded))
            .sum(|t| Cell::Count(t.messages.excluded)),
        column("Failed", 10, |(_, t): &Row| Cell::Count(t.messages.failed))
            .sum(|t| Cell::Count(t.messages.failed)),
        column("Pending", 10, |(_, t): &Row| Cell::Count(t.messages.pending))
            .sum(|t| Cell::Count(t.messages.pending)),
        column("Lost", 70, |(d, _)| {
            let losses = d.protocols.iter().filter(|s| !s.losses.is_empty());
            Cell::text(
                losses
                    .map(|s| format!("{}: {}", s.protocol, s.losses.join("; ")))
                    .collect::<Vec<_>>()
                    .join(". "),
            )
        }),
        column("Failure", 50, |(d, _)| Cell::peer(d.failure.as_ref().map(|f| f.sentence.as_str()))),
    ]
}

/// One row a message.
pub(super) fn messages() -> Vec<Column<MessageRow>> {
    vec![
        column("Mailbox", 30, |m| Cell::show(&m.mailbox)),
        column("Verdict", 16, |m| Cell::text(m.verdict.word())),
        column("Reason", 44, |m| Cell::peer(m.reason())),
        column("Protocol", 10, |m| Cell::show(&m.source.protocol)),
        column("Folder", 26, |m| Cell::peer(Some(&m.source.folder))),
        column("UIDVALIDITY", 13, |m| Cell::maybe(m.source.uidvalidity)),
        column("UID or UIDL", 20, |m| match (&m.source.uid, &m.source.uidl) {
            (Some(uid), _) => Cell::show(uid),
            (None, uidl) => Cell::peer(uidl.as_deref().or(m.source.id.as_deref())),
        }),
        column("Date", 27, |m| Cell::maybe(m.internal_date.map(InternalDate::rfc3339))),
        column("Subject", 50, |m| Cell::peer(m.subject.as_deref())),
        column("Size", 12, |m| Cell::Bytes(m.size)),
        column("Flags", 24, |m| Cell::peer(Some(&m.flags.to_string()))),
        column("Message-ID", 36, |m| Cell::peer(m.message_id.as_deref())),
        column("Digest", 20, |m| Cell::maybe(m.exact)),
        column("Destination folder", 26, |m| Cell::peer(m.destination.as_ref().map(|d| d.folder.as_str()))),
        column("Destination UIDVALIDITY", 13, |m| {
            Cell::maybe(m.destination.as_ref().and_then(|d| d.uidvalidity))
        }),
        column("Destination UID", 13, |m| name_there(m.destination.as_ref())),
    ]
}

/// One row a finding.
pub(super) fn findings() -> Vec<Column<FindingRow>> {
    vec![
        column("Severity", 10, |f| Cell::show(&f.severity)),
        column("Finding", 26, |f| Cell::show(&f.code)),
        column("Domain", 24, |f| Cell::maybe(f.domain.as_ref())),
        column("About", 40, |f| Cell::peer(Some(&words::some_of(&f.subjects, 20)))),
        column("Times", 8, |f| Cell::Count(f.count)),
        column("Finding", 60, |f| Cell::peer(Some(&f.message))),
        column("Remedy", 60, |f| Cell::text(f.remedy)),
        column("Acknowledged because", 40, |f| Cell::peer(f.acknowledged.as_deref())),
    ]
}

/// A candidate with one piece of its evidence, a candidate without any, or evidence without a candidate.
pub(super) struct EvidenceLine<'d> {
    domain: &'d DomainRow,
    candidate: Option<(usize, &'d CandidateRow)>,
    evidence: Option<&'d EvidenceRow>,
}

/// All that discovery saw, domain by domain, the best candidates first.
pub(super) fn evidence_lines(domains: &[DomainRow]) -> impl Iterator<Item = EvidenceLine<'_>> {
    domains.iter().flat_map(|domain| {
        let ranked = domain.candidates.iter().enumerate().flat_map(move |(at, candidate)| {
            let some = candidate.evidence.iter().map(Some);
            let none = candidate.evidence.is_empty().then_some(None);
            let candidate = Some((at + 1, candidate));
            some.chain(none).map(move |evidence| EvidenceLine { domain, candidate, evidence })
        });
        let others = domain.evidence.iter();
        ranked.chain(others.map(move |e| EvidenceLine { domain, candidate: None, evidence: Some(e) }))
    })
}

/// One row a piece of evidence.
pub(super) fn evidence<'d>() -> Vec<Column<EvidenceLine<'d>>> {
    vec![
        column("Domain", 24, |l| Cell::text(l.domain.name.as_str())),
        column("Rank", 6, |l| l.candidate.map_or(Cell::Empty, |(rank, _)| Cell::Count(rank as u64))),
        column("Candidate", 42, |l| Cell::maybe(l.candidate.map(|(_, c)| &c.candidate.endpoint))),
        column("Chosen", 8, |l| l.candidate.map_or(Cell::Empty, |(_, c)| Cell::yes(c.chosen()))),
        column("Mailboxes", 10, |l| {
            l.candidate.map_or(Cell::Empty, |(_, c)| Cell::Count(c.candidate.mailboxes.into()))
        }),
        column("Candidate grade", 10, |l| Cell::maybe(l.candidate.map(|(_, c)| c.candidate.grade))),
        column("Fidelity", 9, |l| {
            l.candidate.map_or(Cell::Empty, |(_, c)| Cell::Count(c.candidate.fidelity.into()))
        }),
        column("Approved", 9, |l| l.candidate.map_or(Cell::Empty, |(_, c)| Cell::yes(c.candidate.approved))),
        column("Why it won or lost", 60, |l| Cell::peer(l.candidate.map(|(_, c)| c.candidate.why.as_str()))),
        column("Signal", 12, |l| Cell::maybe(l.evidence.map(|e| e.signal))),
        column("Evidence grade", 10, |l| Cell::maybe(l.evidence.map(|e| e.grade))),
        column("Outcome", 12, |l| l.evidence.map_or(Cell::Empty, |e| Cell::text(e.outcome))),
        column("Seen at", 18, |l| Cell::at(l.evidence.map(|e| e.at))),
        column("Trusted channel", 10, |l| l.evidence.map_or(Cell::Empty, |e| Cell::yes(e.trusted))),
        column("Statement", 60, |l| Cell::peer(l.evidence.map(|e| e.statement.as_str()))),
        column("Failure", 50, |l| Cell::peer(l.evidence.and_then(|e| e.failure.as_deref()))),
        column("Excerpt", 50, |l| Cell::peer(l.evidence.and_then(|e| e.excerpt.as_deref()))),
    ]
}
