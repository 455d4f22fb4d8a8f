//! The report that a customer is handed: one page without a script and without anything from elsewhere. The templates
//! escape all text; the only markup that passes is our own bars and our own style.

use std::fmt::Write as _;
use std::io::{BufWriter, Write};

use askama::Template;
use jiff::Timestamp;

use super::domains::{CandidateRow, DomainRow, EvidenceRow};
use super::exceptions::ExceptionList;
use super::message::{MessageRow, MessageSink};
use super::rows::{FindingRow, MailboxRow, Report, Totals};
use super::standing::{OUTDATED, Standing, standing};
use super::{chart, unwritten, words};
use crate::model::difference::Kind;
use crate::model::evidence::{Grade, ServerFacts};
use crate::model::failure::Result;
use crate::model::finding::{Code, Severity};
use crate::model::message::InternalDate;
use crate::model::progress::MessageCounts;
use crate::model::record::Depth;

pub(super) const CSS: &str = include_str!("../../templates/report.css");

/// The most rows of one finding that are spelt out; the others are in the table of mailboxes.
const FINDING_ROWS: usize = 20;

/// The most mailboxes in the table; a browser can still scroll through them. The workbook and the CSV hold all.
pub(super) const MAILBOX_ROWS: usize = 5_000;

/// The most mailboxes that are spelt out because something is the matter with them.
const ATTENTION_ROWS: usize = 100;

/// So many rows of evidence about what is not there are folded into one line.
const FOLDED: usize = 3;

/// The most mailboxes in the chart of sizes.
const LARGEST: usize = 8;

/// The words of a page. The templates call these with references, whatever they hold.
#[allow(clippy::trivially_copy_pass_by_ref, clippy::ref_option, reason = "askama hands over references")]
pub(super) mod show {
    use super::{Depth, Grade, InternalDate, MessageCounts, ServerFacts, Timestamp, words};

    const UNKNOWN: &str = "not known";

    pub(in crate::report) fn n(n: &u64) -> String {
        words::count(*n)
    }

    pub(in crate::report) fn mailboxes(n: &u64) -> String {
        words::counted(*n, "mailbox", "mailboxes")
    }

    pub(in crate::report) fn messages(n: &u64) -> String {
        words::counted(*n, "message", "messages")
    }

    pub(in crate::report) fn depth(depth: &Depth) -> &'static str {
        match depth {
            Depth::Sizes => "by size",
            Depth::Sampled => "by size, a sample byte by byte",
            Depth::Full => "byte by byte",
        }
    }

    pub(in crate::report) fn size(n: &u64) -> String {
        words::bytes(*n)
    }

    pub(in crate::report) fn duration(seconds: &u64) -> String {
        words::duration(*seconds)
    }

    pub(in crate::report) fn lost(losses: &[String]) -> String {
        words::peer(&losses.join("; "))
    }

    pub(in crate::report) fn date(at: &Timestamp) -> String {
        words::date(*at)
    }

    pub(in crate::report) fn moment(at: &Timestamp) -> String {
        words::moment(*at)
    }

    pub(in crate::report) fn time(at: &Timestamp) -> String {
        words::time(*at)
    }

    pub(in crate::report) fn day(at: &Option<Timestamp>) -> String {
        at.map_or_else(|| UNKNOWN.to_owned(), words::short_date)
    }

    pub(in crate::report) fn year(at: &Option<Timestamp>) -> String {
        at.map_or_else(|| UNKNOWN.to_owned(), |at| at.strftime("%Y").to_string())
    }

    pub(in crate::report) fn arrived(date: &Option<InternalDate>) -> String {
        let local = |d: InternalDate| d.unix.saturating_add(i64::from(d.offset_minutes) * 60);
        let day = date.and_then(|d| Timestamp::from_second(local(d)).ok()).map(words::short_date);
        day.unwrap_or_else(|| UNKNOWN.to_owned())
    }

    pub(in crate::report) fn peer(text: &str) -> String {
        words::peer(text)
    }

    /// The facts of a certificate, in one line.
    pub(in crate::report) fn certificate(server: &ServerFacts) -> String {
        let Some(tls) = &server.tls else {
            return "no TLS: passwords and mail pass in the clear".to_owned();
        };
        let names = if tls.names.is_empty() { "no name".to_owned() } else { words::some_of(&tls.names, 3) };
        let (issuer, end) = (&tls.issuer, words::date(tls.not_after));
        peer(&format!("{}, certificate for {names}, issued by {issuer}, ends on {end}", tls.version))
    }

    pub(in crate::report) fn proof(grade: &Grade) -> &'static str {
        match grade {
            Grade::A => "a login listed data",
            Grade::B => "a server answered",
            Grade::C => "published configuration",
            Grade::D => "a hint",
        }
    }

    pub(in crate::report) fn equation(counts: &MessageCounts) -> String {
        let n = words::count;
        format!(
            "{} at the source = {} copied + {} excluded + {} failed + {} pending",
            n(counts.source),
            n(counts.copied),
            n(counts.excluded),
            n(counts.failed),
            n(counts.pending)
        )
    }
}

struct DomainView<'a> {
    row: &'a DomainRow,
    totals: Totals,
    bar: String,
    protocols: String,
    chosen: Vec<&'a CandidateRow>,
    others: Vec<&'a CandidateRow>,
    /// Evidence that names no candidate.
    evidence: Vec<&'a EvidenceRow>,
    /// Such evidence of what is not there, where there is much of it: it is folded away.
    absent: Vec<&'a EvidenceRow>,
}

impl<'a> DomainView<'a> {
    fn new(report: &Report, row: &'a DomainRow) -> Self {
        let (chosen, others) = row.candidates.iter().partition(|c| c.chosen());
        let (bar, protocols) = (chart::protocols(row), words::protocols(row));
        let (mut absent, mut evidence): (Vec<_>, Vec<_>) = row.evidence.iter().partition(|e| e.is_absent);
        if absent.len() < FOLDED {
            evidence = row.evidence.iter().collect();
            absent.clear();
        }
        let totals = report.totals_of(&row.name);
        Self { row, totals, bar, protocols, chosen, others, evidence, absent }
    }

    /// The things that were looked for in vain, in one line.
    fn absence(&self) -> String {
        let mut signals: Vec<String> = Vec::new();
        for signal in self.absent.iter().map(|e| e.signal.to_string()) {
            if !signals.contains(&signal) {
                signals.push(signal);
            }
        }
        let all = words::counted(
            self.absent.len() as u64,
            "usual name or place was asked for and does not exist",
            "usual names and places were asked for and do not exist",
        );
        format!("{all}: {}", words::list(&signals))
    }

    /// Whether anything is lost on the way.
    fn loses(&self) -> bool {
        self.row.protocols.iter().any(|share| !share.losses.is_empty())
    }
}

struct FindingGroup<'a> {
    code: Code,
    severity: Severity,
    rows: Vec<&'a FindingRow>,
    more: u64,
    open: bool,
}

impl<'a> FindingGroup<'a> {
    fn all(rows: &'a [FindingRow]) -> Vec<Self> {
        rows.chunk_by(|a, b| a.code == b.code)
            .map(|group| Self {
                code: group[0].code,
                severity: group[0].severity,
                rows: group.iter().take(FINDING_ROWS).collect(),
                more: group.len().saturating_sub(FINDING_ROWS) as u64,
                open: group.iter().any(|row| row.acknowledged.is_none()),
            })
            .collect()
    }
}

struct ExceptionView<'a> {
    id: &'static str,
    title: &'static str,
    none: &'static str,
    meaning: &'static str,
    verdict: &'static str,
    list: &'a ExceptionList,
}

impl ExceptionView<'_> {
    /// Whether reasons repeat, so that counting them tells more than the rows do.
    fn repeats(&self) -> bool {
        self.list.total >= 2 * self.list.reasons.len() as u64
    }
}

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    report: &'a Report,
    css: &'static str,
    discovery: bool,
    totals: Totals,
    standing: Standing,
    sentence: String,
    messages_bar: String,
    severities: [(Severity, u64, u64); 3],
    domains: Vec<DomainView<'a>>,
    largest: Vec<(&'a MailboxRow, String)>,
    mailboxes: &'a [MailboxRow],
    attention: Vec<&'a MailboxRow>,
    own_ways: Vec<&'a MailboxRow>,
    findings: Vec<FindingGroup<'a>>,
    exceptions: Vec<ExceptionView<'a>>,
    checked: String,
    verification: String,
    differences: Vec<DifferenceView<'a>>,
    more_differences: u64,
    limits: Vec<&'a str>,
    outdated: &'static str,
}

impl<'a> Page<'a> {
    fn new(report: &'a Report, kind: super::Kind) -> Self {
        let totals = report.totals();
        let severities = [Severity::Critical, Severity::Warning, Severity::Advisory]
            .map(|severity| (severity, report.count_findings(severity), report.open_findings(severity)));
        let (differences, more_differences) = differences(report);
        let pop = report.domains.iter().flat_map(|d| &d.protocols).any(|s| !s.losses.is_empty());
        let limits = words::LIMITS.into_iter().chain(pop.then_some(words::LIMITS_POP3));
        Self {
            css: CSS,
            discovery: kind == super::Kind::Discovery,
            standing: standing(report, &totals),
            sentence: sentence(&totals.messages),
            messages_bar: chart::messages(&totals.messages),
            severities,
            domains: report.domains.iter().map(|row| DomainView::new(report, row)).collect(),
            largest: largest(report),
            mailboxes: &report.mailboxes[..report.mailboxes.len().min(MAILBOX_ROWS)],
            attention: report.mailboxes.iter().filter(|m| m.failure.is_some() || m.open.is_some()).collect(),
            own_ways: report.mailboxes.iter().filter(|m| goes_its_own_way(report, m)).collect(),
            findings: FindingGroup::all(&report.findings),
            exceptions: exceptions(report).into(),
            checked: checked(&totals),
            verification: verification(&totals),
            differences,
            more_differences,
            limits: limits.chain(report.limits.iter().map(String::as_str)).collect(),
            outdated: OUTDATED,
            totals,
            report,
        }
    }
}

impl Page<'_> {
    /// How many mailboxes are counted and not in the table.
    fn more_mailboxes(&self) -> u64 {
        (self.report.mailboxes.len() - self.mailboxes.len()) as u64
    }
}

/// How many of a list are beyond those that are spelt out.
fn beyond(list: &[&MailboxRow]) -> u64 {
    list.len().saturating_sub(ATTENTION_ROWS) as u64
}

/// Whether a mailbox is read otherwise than most of its domain, or by hand.
fn goes_its_own_way(report: &Report, row: &MailboxRow) -> bool {
    let usual = report.domains.iter().find(|d| d.name == row.domain).and_then(|d| d.protocols.first());
    let elsewise = row.protocol.is_some() && usual.is_some_and(|share| Some(share.protocol) != row.protocol);
    row.overridden || elsewise
}

/// The message equation as a person would say it.
fn sentence(counts: &MessageCounts) -> String {
    if counts.source == 0 {
        return "No message has been counted at the source yet.".to_owned();
    }
    let none = |n: u64| if n == 0 { "none".to_owned() } else { words::count(n) };
    let (were, is) =
        (if counts.excluded == 1 { "was" } else { "were" }, if counts.pending == 1 { "is" } else { "are" });
    format!(
        "Of {} at the source, {} arrived at the destination, {} {were} left out by a rule, {} could not be carried, \
         and {} {is} still to come.",
        words::counted(counts.source, "message", "messages"),
        none(counts.copied),
        none(counts.excluded),
        none(counts.failed),
        none(counts.pending),
    )
}

/// How arrivals were checked as they came, over all mailboxes and passes.
fn checked(totals: &Totals) -> String {
    if totals.messages.copied == 0 {
        return "Nothing has arrived yet that could be checked.".to_owned();
    }
    format!(
        "{} copied. In all passes {} compared with the source by size, and {} of these {} read back and compared byte for byte. A \
         message that was sent again is an arrival of its own; one that was at the destination already is recognised by its \
         content.",
        words::counted(totals.messages.copied, "message was", "messages were"),
        words::counted(totals.sizes_checked, "arrival was", "arrivals were"),
        words::count(totals.digests_checked),
        if totals.digests_checked == 1 { "was" } else { "were" },
    )
}

/// The results of the verifications, each mailbox's deepest, and how things stand now.
fn verification(totals: &Totals) -> String {
    let none = |n: u64| if n == 0 { "none".to_owned() } else { words::count(n) };
    let mut said = format!(
        "The deepest verification of each mailbox looked for {} that the source held then, and found {} to be the same at both \
         sides, {} of the same size and date, {} alike, {} with other bytes, and {} missing.",
        words::counted(totals.checked, "message", "messages"),
        none(totals.identical),
        none(totals.same_size),
        none(totals.alike),
        none(totals.found_altered),
        none(totals.found_missing),
    );
    let _ = write!(
        said,
        " By what passes and verifications have found until now, {} missing and {} altered.",
        words::counted(totals.missing, "is", "are"),
        words::counted(totals.altered, "is", "are"),
    );
    if totals.verified < totals.mailboxes {
        let (done, all) =
            (words::count(totals.verified), words::counted(totals.mailboxes, "mailbox", "mailboxes"));
        let _ = write!(said, " So far {done} of {all} went through verification.");
    }
    said
}

/// The most differences that are spelt out.
const DIFFERENCES: usize = 1_000;

/// A difference with its mailbox.
struct DifferenceView<'a> {
    mailbox: &'a MailboxRow,
    kind: Kind,
    subject: Option<&'a str>,
    folder: &'a str,
    is_folder: bool,
    expected: String,
    found: String,
}

fn differences(report: &Report) -> (Vec<DifferenceView<'_>>, u64) {
    let all = || report.mailboxes.iter().flat_map(|m| m.differences.iter().map(move |d| (m, d)));
    let shown = all().take(DIFFERENCES).map(|(mailbox, difference)| {
        let (expected, found) = difference.in_words();
        DifferenceView {
            mailbox,
            kind: difference.kind,
            subject: difference.subject.as_deref(),
            folder: &difference.source.folder,
            is_folder: difference.source.is_folder(),
            expected,
            found,
        }
    });
    (shown.collect(), all().count().saturating_sub(DIFFERENCES) as u64)
}

fn largest(report: &Report) -> Vec<(&MailboxRow, String)> {
    let mut rows: Vec<&MailboxRow> = report.mailboxes.iter().filter(|m| m.bytes > 0).collect();
    rows.sort_by_key(|m| std::cmp::Reverse(m.bytes));
    let most = rows.first().map_or(0, |m| m.bytes);
    rows.into_iter().take(LARGEST).map(|m| (m, chart::size(m, most))).collect()
}

fn exceptions(report: &Report) -> [ExceptionView<'_>; 7] {
    let lists = &report.exceptions;
    [
        ExceptionView {
            id: "failed",
            title: "Could not be carried",
            none: "Every message that was tried could be carried.",
            meaning: "These messages are still at the source, unchanged. The reason says what stood in the way; what \
                      cannot be mended there can be saved from the source by hand.",
            verdict: "Quarantined",
            list: &lists.quarantined,
        },
        ExceptionView {
            id: "missing",
            title: "Arrived, and are no longer there",
            none: "No verification missed a message that had arrived.",
            meaning: "These messages arrived, and a verification no longer found them at the destination. Users may have \
                      removed them; the originals are at the source, and they can be sent again.",
            verdict: "Delivered",
            list: &lists.missing,
        },
        ExceptionView {
            id: "truncated",
            title: "Stored only in part",
            none: "Of every message that was read back, the destination keeps all.",
            meaning: "The destination accepted these messages whole and keeps less of them. The originals are at the source; \
                      the server's operator can say which limit or filter cut them.",
            verdict: "DeliveredAltered",
            list: &lists.truncated,
        },
        ExceptionView {
            id: "short",
            title: "Came short from the source",
            none: "Every message came as large as the source lists it.",
            meaning: "The source handed out less of these messages than it lists. The part that came is at the destination; whether a \
                      part is missing shows a look at the source.",
            verdict: "DeliveredAltered",
            list: &lists.cut_short,
        },
        ExceptionView {
            id: "changed",
            title: "Found changed by a verification",
            none: "No verification found a message changed of which that was not known.",
            meaning: "A verification read other bytes of these messages at the destination than were sent. Where only their \
                      size was compared as they came, that may have happened while they were stored; the originals are at the \
                      source.",
            verdict: "DeliveredAltered",
            list: &lists.changed,
        },
        ExceptionView {
            id: "altered",
            title: "Changed by the destination while it stored them",
            none: "No message was seen to be changed while it was stored.",
            meaning: "These messages are at the destination. The server changed them while it stored them; the \
                      originals are at the source.",
            verdict: "DeliveredAltered",
            list: &lists.altered,
        },
        ExceptionView {
            id: "excluded",
            title: "Left out by a rule",
            none: "No message was left out.",
            meaning: "These messages were left out on purpose, by a rule of the project.",
            verdict: "Excluded",
            list: &lists.excluded,
        },
    ]
}

/// Writes the page of a kind other than messages.
pub(super) fn report(report: &Report, kind: super::Kind, out: impl Write) -> Result<()> {
    let mut out = BufWriter::new(out);
    Page::new(report, kind).write_into(&mut out).and_then(|()| out.flush()).map_err(|e| unwritten(&e))
}

/// Where the rows of messages go into their page. Text from mail cannot bring this mark in: `<` is escaped.
const ROWS: &str = "<!-- rows -->";

#[derive(Template)]
#[template(path = "messages.html")]
struct MessagesPage<'a> {
    report: &'a Report,
    css: &'static str,
    counts: MessageCounts,
}

#[derive(Template)]
#[template(path = "message.html")]
struct MessageLine<'a> {
    message: &'a MessageRow,
}

struct Lines<W: Write> {
    out: W,
    counts: MessageCounts,
}

impl<W: Write> MessageSink for Lines<W> {
    fn row(&mut self, row: &MessageRow) -> Result<()> {
        self.counts.add(&row.verdict, 1);
        MessageLine { message: row }.write_into(&mut self.out).map_err(|e| unwritten(&e))
    }
}

/// Writes the page of all messages. They pass through one by one; only their sums are kept.
pub(super) fn messages(
    report: &Report,
    out: impl Write,
    feed: impl FnOnce(&mut dyn MessageSink) -> Result<()>,
) -> Result<()> {
    let page = |counts| MessagesPage { report, css: CSS, counts }.render().map_err(|e| unwritten(&e));
    let mut lines = Lines { out: BufWriter::new(out), counts: MessageCounts::default() };
    let start = page(lines.counts)?;
    let head = start.split_once(ROWS).map_or("", |(head, _)| head);
    lines.out.write_all(head.as_bytes()).map_err(|e| unwritten(&e))?;
    feed(&mut lines)?;
    let end = page(lines.counts)?;
    let tail = end.split_once(ROWS).map_or("", |(_, tail)| tail);
    lines.out.write_all(tail.as_bytes()).and_then(|()| lines.out.flush()).map_err(|e| unwritten(&e))
}
