//! The records that a move of mail is about, for people and programs: a page, a workbook, a table, a document, the text of a
//! terminal, and lines of a zone file. It changes no DNS and says so.

use std::fmt::Write as _;
use std::io::{BufWriter, Write};

use askama::Template;
use jiff::Timestamp;
use serde::Serialize;

use super::html::{CSS, show};
use super::table::{Cell, Column, column};
use super::{Format, csv, json, unwritten, words, xlsx};
use crate::model::dns::{Data, RecordKind, length};
use crate::model::failure::{Failure, Result};
use crate::model::records::{Answer, DomainRecords, Old, RecordRow, RecordState, Wanted};
use crate::model::text::{cut, printable};

/// Nobody should wait for what no one does.
pub const CHANGES_NOTHING: &str =
    "Mailferry changes no DNS. The people who look after the zone make these changes; it watches for them.";

/// The longest line of the terminal, and where its values begin.
const WIDTH: usize = 100;
const VALUES: usize = 14;
/// The TTL of a record that is new, in seconds; of one that is there at most its own.
const TTL: u32 = 3_600;

/// The records of all domains of a migration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DnsReport {
    /// The name of the migration.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The customer, if somebody said who that is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer: Option<String>,
    /// When this was written.
    pub generated: Timestamp,
    /// The version of Mailferry.
    pub version: String,
    /// Whether each domain's MX is as it must become at every name server that answers.
    pub switched: bool,
    /// Each domain.
    pub domains: Vec<DomainRecords>,
}

impl DnsReport {
    /// The report of these domains.
    pub fn new(
        name: &str,
        namespace: &str,
        customer: Option<String>,
        generated: Timestamp,
        version: &str,
        domains: Vec<DomainRecords>,
    ) -> Self {
        let is_switched =
            |domain: &DomainRecords| domain.mx().is_some_and(|mx| mx.state == RecordState::InPlace);
        Self {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            customer,
            generated,
            version: version.to_owned(),
            switched: domains.iter().all(is_switched),
            domains,
        }
    }
}

/// Writes the report.
///
/// # Errors
/// When it cannot be written, or the report is not written in that format.
pub fn write(report: &DnsReport, format: Format, out: impl Write) -> Result<()> {
    match format {
        Format::Html => page(report, out),
        Format::Json => json::document(report, out),
        Format::Csv => csv::table(columns(), rows(report), out),
        Format::Xlsx => {
            let sheets = |book: &mut xlsx::Book| {
                book.sheet("Records", columns(), rows(report))?;
                book.sheet("Name servers", server_columns(), server_rows(report))?;
                book.sheet("Notes", note_columns(), note_rows(report))
            };
            xlsx::tables(&format!("DNS of {}", report.name), report.generated, sheets, out)
        }
        Format::Markdown => Err(Failure::configuration("the records are not written as Markdown")
            .hint("give another format: html, xlsx, csv or json")),
    }
}

type Row<'r> = (&'r DomainRecords, &'r RecordRow);

fn rows(report: &DnsReport) -> impl Iterator<Item = Row<'_>> {
    report.domains.iter().flat_map(|domain| domain.records.iter().map(move |row| (domain, row)))
}

fn columns<'r>() -> Vec<Column<Row<'r>>> {
    vec![
        column("Domain", 24, |(domain, _)| Cell::text(domain.name.as_str())),
        column("Type", 8, |(_, row)| Cell::show(&row.kind)),
        column("Name", 34, |(_, row)| Cell::peer(Some(&row.name))),
        column("Purpose", 30, |(_, row)| Cell::text(row.purpose)),
        column("State", 12, |(_, row)| Cell::show(&row.state)),
        column("Now", 44, |(_, row)| Cell::text(now(row))),
        column("TTL in seconds", 10, |(_, row)| {
            row.now.first().map_or(Cell::Empty, |a| Cell::Count(a.ttl.into()))
        }),
        column("Wanted", 50, |(_, row)| Cell::text(wanted(row))),
        column("Seen at", 9, |(_, row)| Cell::Count(row.seen.with.into())),
        column("Name servers", 9, |(_, row)| Cell::Count(row.seen.of.into())),
        column("Not yet at", 30, |(_, row)| Cell::peer(Some(&row.seen.without.join(", ")))),
        column("No answer from", 30, |(_, row)| Cell::peer(Some(&row.seen.silent.join(", ")))),
        column("At the resolver", 9, |(_, row)| row.seen.resolver.map_or(Cell::Empty, Cell::yes)),
        column("Since", 18, |(_, row)| Cell::at(row.seen.since)),
        column("Old record ended everywhere", 18, |(_, row)| Cell::at(row.old.ends())),
        column("Short TTL everywhere", 18, |(_, row)| Cell::at(row.ttl_lowered)),
        column("Notes", 60, |(_, row)| Cell::peer(Some(&row.notes.join("; ")))),
        column("Asked", 18, |(domain, _)| Cell::at(domain.asked)),
    ]
}

type ServerRow<'r> = (&'r DomainRecords, &'r crate::model::records::NameServerRow);

fn server_rows(report: &DnsReport) -> impl Iterator<Item = ServerRow<'_>> {
    report.domains.iter().flat_map(|domain| domain.servers.iter().map(move |row| (domain, row)))
}

fn server_columns<'r>() -> Vec<Column<ServerRow<'r>>> {
    vec![
        column("Domain", 24, |(domain, _)| Cell::text(domain.name.as_str())),
        column("Zone", 24, |(domain, _)| Cell::maybe(domain.zone.as_deref())),
        column("Name server", 34, |(_, row)| Cell::peer(Some(&row.name))),
        column("Addresses", 40, |(_, row)| {
            let addresses: Vec<String> = row.addresses.iter().map(ToString::to_string).collect();
            Cell::text(addresses.join(", "))
        }),
        column("Listed", 8, |(_, row)| Cell::yes(row.listed)),
        column("Asked by others until", 18, |(_, row)| Cell::at(row.until)),
        column("Problem", 50, |(_, row)| Cell::maybe(row.problem)),
        column("Remedy", 60, |(_, row)| Cell::maybe(row.problem.map(crate::model::dns::Problem::remedy))),
    ]
}

type NoteRow<'r> = (&'r DomainRecords, &'r String);

fn note_rows(report: &DnsReport) -> impl Iterator<Item = NoteRow<'_>> {
    report.domains.iter().flat_map(|domain| domain.notes.iter().map(move |note| (domain, note)))
}

fn note_columns<'r>() -> Vec<Column<NoteRow<'r>>> {
    vec![
        column("Domain", 24, |(domain, _)| Cell::text(domain.name.as_str())),
        column("Note", 120, |(_, note)| Cell::peer(Some(note))),
    ]
}

/// The records of an answer in one line.
fn records(records: &[Data]) -> String {
    if records.is_empty() {
        return "no such record".to_owned();
    }
    let shown = records.iter().map(|record| {
        // Asked for an alias, an address may come.
        let kind = if matches!(record.kind, RecordKind::Cname | RecordKind::Address) {
            record.type_name() + " "
        } else {
            String::new()
        };
        format!("{kind}{}", printable(&record.to_string()))
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// How a record is, in one line.
fn now(row: &RecordRow) -> String {
    match &row.now[..] {
        [] => "no name server says".to_owned(),
        [one] => records(&one.records),
        several => several
            .iter()
            .map(|answer| format!("{} ({})", records(&answer.records), answer.servers.join(", ")))
            .collect::<Vec<_>>()
            .join("; "),
    }
}

/// How it must become, in one line.
fn wanted(row: &RecordRow) -> String {
    match &row.wanted {
        Wanted::Records { records: wanted, or: Some(or) } => format!("{} ({or})", records(wanted)),
        Wanted::Records { records: wanted, or: None } => records(wanted),
        Wanted::Absent => "no such record".to_owned(),
        Wanted::Ask(words) => words.clone(),
    }
}

/// Who has it so, and what became of the old one, in one sentence.
fn seen(row: &RecordRow, asked: Option<Timestamp>) -> String {
    let seen = &row.seen;
    let clock = |at: Timestamp| moment(at, asked);
    let mut text = match row.state {
        RecordState::Unseen => return "no name server said anything".to_owned(),
        RecordState::NotNeeded => return "it is not there, and need not be".to_owned(),
        RecordState::Review => return "somebody must say what it must become".to_owned(),
        RecordState::Open => format!("not yet, at none of {}", of(seen.of)),
        RecordState::Partly | RecordState::InPlace => {
            let since = seen.since.map(|at| format!(" since {}", clock(at))).unwrap_or_default();
            format!("seen at {} of {}{since}", seen.with, of(seen.of))
        }
    };
    if !seen.without.is_empty() && seen.with > 0 {
        let _ = write!(text, "; not yet at {}", words::some_of(&seen.without, 3));
    }
    if !seen.silent.is_empty() {
        let _ = write!(text, "; no answer from {}", words::some_of(&seen.silent, 3));
    }
    match (row.old, asked) {
        (Old::EndsAt(at), Some(asked)) if at <= asked => {
            let _ = write!(text, "; old record gone everywhere at {}", clock(at));
        }
        (Old::EndsAt(at), _) => {
            let _ = write!(text, "; old record may be remembered until {}", clock(at));
        }
        (Old::Standing, _) if row.state == RecordState::InPlace => {
            text.push_str("; the resolver has the old one still");
        }
        (Old::Standing | Old::NeverSeen, _) => {}
    }
    text
}

fn of(servers: u32) -> String {
    words::counted(servers.into(), "name server", "name servers")
}

/// A moment: the time alone where it is the day of the look.
fn moment(at: Timestamp, asked: Option<Timestamp>) -> String {
    let day = |at: Timestamp| at.strftime("%Y-%m-%d").to_string();
    match asked {
        Some(asked) if day(asked) == day(at) => at.strftime("%H:%M UTC").to_string(),
        _ => at.strftime("%Y-%m-%d %H:%M UTC").to_string(),
    }
}

/// A TTL as a person reads it.
fn ttl(seconds: u32) -> String {
    match seconds {
        0 => "TTL 0".to_owned(),
        s => format!("TTL {}", length(s)),
    }
}

/// The text of a terminal.
pub fn text(report: &DnsReport) -> String {
    let mut text = format!("{}  the records of the move\n{CHANGES_NOTHING}\n", printable(&report.name));
    for domain in &report.domains {
        let asked =
            domain.asked.map_or_else(|| "never asked".to_owned(), |at| format!("asked {}", moment(at, None)));
        let answer = domain.servers.iter().filter(|server| server.problem.is_none()).count();
        let servers = words::counted(domain.servers.len() as u64, "name server", "name servers");
        let zone = domain
            .zone
            .as_ref()
            .map_or_else(|| "no zone was found".to_owned(), |zone| format!("zone {zone}"));
        let _ = writeln!(text, "\n{}  {zone}, {answer} of {servers} answer, {asked}", domain.name);
        for row in domain.records.iter().filter(|row| is_told(row)) {
            tell(&mut text, row, domain.asked);
        }
        let quiet: Vec<String> = domain
            .records
            .iter()
            .filter(|row| !is_told(row))
            .map(|row| format!("{} {}", row.kind, row.name))
            .collect();
        if !quiet.is_empty() {
            line(&mut text, "  not there", &format!("and not needed: {}", quiet.join(", ")));
        }
        for note in &domain.notes {
            line(&mut text, "  !", note);
        }
    }
    text
}

fn is_told(row: &RecordRow) -> bool {
    row.state != RecordState::NotNeeded || !row.notes.is_empty()
}

fn tell(text: &mut String, row: &RecordRow, asked: Option<Timestamp>) {
    let _ = writeln!(text, "  {:6} {}  ({}; {})", row.kind, printable(&row.name), row.state, row.purpose);
    for (at, answer) in row.now.iter().enumerate() {
        let Answer { records: data, ttl: seconds, servers, .. } = answer;
        let who = if row.now.len() > 1 { format!(", {}", words::some_of(servers, 3)) } else { String::new() };
        let label = if at == 0 { "    now" } else { "" };
        line(text, label, &format!("{} ({}{who})", records(data), ttl(*seconds)));
    }
    line(text, "    wanted", &wanted(row));
    if row.state != RecordState::Review {
        line(text, "    seen", &seen(row, asked));
    }
    for note in &row.notes {
        line(text, "    !", note);
    }
}

/// A label and a value that is broken at its words.
fn line(text: &mut String, label: &str, value: &str) {
    let value = printable(value);
    let mut room = 0;
    let mut begun = false;
    let _ = write!(text, "{label:VALUES$}");
    for word in value.split(' ') {
        let length = word.chars().count() + 1;
        if begun && room + length > WIDTH - VALUES {
            let _ = write!(text, "\n{:VALUES$}", "");
            (room, begun) = (0, false);
        }
        if begun {
            text.push(' ');
        }
        text.push_str(word);
        room += length;
        begun = true;
    }
    text.push('\n');
}

/// The TTL that a record should have: at most an hour, so that a way back is short as well.
pub fn ttl_of(row: &RecordRow) -> u32 {
    match row.now.first().filter(|answer| !answer.records.is_empty()).map(|answer| answer.ttl) {
        None => TTL,
        Some(0) => 300,
        Some(now) => now.min(TTL),
    }
}

/// Lines of a zone file: what to take out as comments, what to put in as it stands.
pub fn zone(report: &DnsReport) -> String {
    let mut text = String::new();
    for domain in &report.domains {
        let asked =
            domain.asked.map_or_else(|| "never asked".to_owned(), |at| format!("as of {}", moment(at, None)));
        let _ = writeln!(text, "; {}: the records of the move, {asked}.\n; {CHANGES_NOTHING}", domain.name);
        for row in &domain.records {
            zone_lines(&mut text, row);
        }
    }
    text
}

fn zone_lines(text: &mut String, row: &RecordRow) {
    let changes = matches!(row.state, RecordState::Open | RecordState::Partly | RecordState::Unseen);
    let wanted: &[Data] = match &row.wanted {
        Wanted::Records { records, .. } => records,
        Wanted::Absent | Wanted::Ask(_) => &[],
    };
    if row.state == RecordState::NotNeeded || row.state == RecordState::Unseen && wanted.is_empty() {
        return;
    }
    let now: Vec<&Data> = row.now.iter().flat_map(|answer| &answer.records).collect();
    let mut out: Vec<&&Data> = now.iter().filter(|record| changes && !wanted.contains(record)).collect();
    out.dedup();
    let asks = matches!(row.wanted, Wanted::Ask(_));
    if !asks {
        for record in out {
            let ttl = row.now.first().map_or(TTL, |answer| answer.ttl);
            let _ = writeln!(text, "; take out: {}", zone_line(&row.name, ttl, record));
        }
    }
    match &row.wanted {
        Wanted::Ask(words) if row.state != RecordState::InPlace => {
            let _ = writeln!(text, "; {} {}: {}", row.kind, ascii(&row.name), comment(words));
        }
        _ => {
            let in_place = if changes { "" } else { "; in place: " };
            for record in wanted {
                let _ = writeln!(text, "{in_place}{}", zone_line(&row.name, ttl_of(row), record));
            }
            if let Wanted::Records { or: Some(or), .. } = &row.wanted
                && changes
            {
                let _ = writeln!(text, ";   or: {}", comment(or));
            }
        }
    }
}

fn zone_line(name: &str, ttl: u32, record: &Data) -> String {
    let data = match record.kind {
        RecordKind::Txt => quoted(&record.value),
        RecordKind::Address => record.value.clone(),
        // The host is whole.
        _ => format!("{}.", ascii(&record.value)),
    };
    format!("{}. {ttl} IN {} {data}", ascii(name), record.type_name())
}

/// Text of a server as it may stand in a zone file: one that would end a line or a comment is shown and not carried out.
fn ascii(text: &str) -> String {
    text.chars()
        .map(
            |c| if c.is_ascii_graphic() && !matches!(c, ';' | '"' | '(' | ')') || c == ' ' { c } else { '?' },
        )
        .collect()
}

fn comment(text: &str) -> String {
    printable(text).replace(['\n', '\r'], " ")
}

/// Text in quotes, in strings of at most 255 bytes (RFC 1035 §5.1).
fn quoted(text: &str) -> String {
    let strings = text.as_bytes().chunks(255).map(|chunk| {
        let mut string = String::from("\"");
        for byte in chunk {
            match byte {
                b'"' | b'\\' => {
                    string.push('\\');
                    string.push(char::from(*byte));
                }
                b' '..=b'~' => string.push(char::from(*byte)),
                other => {
                    let _ = write!(string, "\\{other:03}");
                }
            }
        }
        string.push('"');
        string
    });
    let strings: Vec<String> = strings.collect();
    if strings.is_empty() { "\"\"".to_owned() } else { strings.join(" ") }
}

#[derive(Template)]
#[template(path = "dns.html")]
struct Page<'a> {
    report: &'a DnsReport,
    css: &'static str,
    changes_nothing: &'static str,
}

impl Page<'_> {
    fn now(row: &RecordRow) -> String {
        words::peer(&now(row))
    }

    fn wanted(row: &RecordRow) -> String {
        cut(&wanted(row), 1_000)
    }

    fn seen(row: &RecordRow, domain: &DomainRecords) -> String {
        seen(row, domain.asked)
    }

    fn ttl(row: &RecordRow) -> String {
        row.now.first().map(|answer| ttl(answer.ttl)).unwrap_or_default()
    }

    /// The colour of a state.
    fn colour(row: &RecordRow) -> &'static str {
        match row.state {
            RecordState::InPlace | RecordState::NotNeeded => "good",
            RecordState::Open | RecordState::Partly | RecordState::Review => "Warning",
            RecordState::Unseen => "Critical",
        }
    }

    fn told(domain: &DomainRecords) -> Vec<&RecordRow> {
        domain.records.iter().filter(|row| is_told(row)).collect()
    }

    fn addresses(row: &crate::model::records::NameServerRow) -> String {
        let addresses: Vec<String> = row.addresses.iter().map(ToString::to_string).collect();
        addresses.join(", ")
    }

    fn zone(&self) -> String {
        zone(self.report)
    }
}

fn page(report: &DnsReport, out: impl Write) -> Result<()> {
    let mut out = BufWriter::new(out);
    let page = Page { report, css: CSS, changes_nothing: CHANGES_NOTHING };
    page.write_into(&mut out).and_then(|()| out.flush()).map_err(|e| unwritten(&e))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::records::{NameServerRow, Seen};

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + minute * 60).unwrap()
    }

    fn row(kind: RecordKind, name: &str, now: &[Data], wanted: Wanted, state: RecordState) -> RecordRow {
        let records = now.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect();
        let servers = vec!["ns1.old.test".to_owned(), "ns2.old.test".to_owned()];
        RecordRow {
            name: name.to_owned(),
            kind,
            purpose: "is tried",
            now: vec![Answer { records, ttl: 86_400, servers, since: at(0) }],
            wanted,
            state,
            seen: Seen {
                with: 0,
                of: 2,
                without: Vec::new(),
                silent: Vec::new(),
                resolver: None,
                since: None,
            },
            old: Old::Standing,
            ttl_lowered: None,
            notes: Vec::new(),
        }
    }

    fn report() -> DnsReport {
        let so = |data: Data| Wanted::Records { records: vec![data], or: None };
        let mut mx = row(
            RecordKind::Mx,
            "old.test",
            &[Data::mx(10, "mail.old.test")],
            so(Data::mx(10, "mx.new.test")),
            RecordState::Partly,
        );
        mx.seen = Seen { with: 1, without: vec!["ns2.old.test".into()], since: Some(at(9)), ..mx.seen };
        mx.notes.push("its TTL is 1 day: lower it".to_owned());
        let spf = row(
            RecordKind::Txt,
            "old.test",
            &[Data::txt("v=spf1 mx -all")],
            so(Data::txt("v=spf1 mx include:\"x\" -all")),
            RecordState::Open,
        );
        let mut alias = row(
            RecordKind::Cname,
            "autodiscover.old.test",
            &[Data::cname("autodiscover.outlook.com")],
            so(Data::cname("autodiscover.outlook.com")),
            RecordState::InPlace,
        );
        alias.seen = Seen { with: 2, since: Some(at(3)), ..alias.seen };
        alias.old = Old::EndsAt(at(30));
        let hostile = row(
            RecordKind::Cname,
            "autoconfig.old.test",
            &[Data::cname("evil\u{1b}[31m;$include /etc/passwd\n<b>.test")],
            Wanted::Absent,
            RecordState::Open,
        );
        let ask = Wanted::Ask("the portal shows it".to_owned());
        let key = row(RecordKind::Cname, "selector1._domainkey.old.test", &[], ask, RecordState::Open);
        let none = row(RecordKind::Srv, "_pop3s._tcp.old.test", &[], Wanted::Absent, RecordState::NotNeeded);
        let server = |name: &str, problem| NameServerRow {
            name: name.to_owned(),
            addresses: vec!["192.0.2.1".parse().unwrap()],
            listed: true,
            until: None,
            problem,
        };
        let domain = DomainRecords {
            name: "old.test".to_owned(),
            zone: Some("old.test".to_owned()),
            asked: Some(at(60)),
            servers: vec![
                server("ns1.old.test", None),
                server("ns2.old.test", None),
                server("ns3.old.test", Some(crate::model::dns::Problem::Silent)),
            ],
            resolver: None,
            records: vec![mx, spf, alias, hostile, key, none],
            notes: vec!["ns3.old.test does not answer: start it".to_owned()],
        };
        DnsReport::new("going-over", "demo", None, at(61), "1.2.3", vec![domain])
    }

    #[test]
    fn a_person_reads_the_move_from_the_terminal() {
        let text = text(&report());
        for words in [
            "Mailferry changes no DNS",
            "old.test  zone old.test, 2 of 3 name servers answer, asked 2027-01-15 09:00 UTC",
            "  MX     old.test  (partly; is tried)\n    now       10 mail.old.test (TTL 1 day)\n    wanted    10 mx.new.test\n",
            "    seen      seen at 1 of 2 name servers since 08:09 UTC; not yet at ns2.old.test\n",
            "    !         its TTL is 1 day: lower it\n",
            "seen at 2 of 2 name servers since 08:03 UTC; old record gone everywhere at 08:30 UTC",
            "  not there   and not needed: SRV _pop3s._tcp.old.test\n",
            "  !           ns3.old.test does not answer: start it\n",
        ] {
            assert!(text.contains(words), "{words}\n{text}");
        }
        assert!(!text.contains('\u{1b}') && text.lines().all(|line| line.chars().count() <= 110), "{text}");
    }

    #[test]
    fn lines_of_a_zone_file_hold_what_to_change_and_nothing_of_anybody_else() {
        let text = zone(&report());
        for line in [
            "; take out: old.test. 86400 IN MX 10 mail.old.test.",
            "old.test. 3600 IN MX 10 mx.new.test.",
            "; take out: old.test. 86400 IN TXT \"v=spf1 mx -all\"",
            "old.test. 3600 IN TXT \"v=spf1 mx include:\\\"x\\\" -all\"",
            "; in place: autodiscover.old.test. 3600 IN CNAME autodiscover.outlook.com.",
            "; CNAME selector1._domainkey.old.test: the portal shows it",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        let active: Vec<&str> = text.lines().filter(|line| !line.starts_with(';')).collect();
        assert_eq!(active.len(), 2, "{text}");
        assert_eq!(quoted(&"a".repeat(300)).matches('"').count(), 4);
        assert_eq!(quoted("ü\\"), "\"\\195\\188\\\\\"");
    }

    #[test]
    fn page_table_workbook_and_document_say_the_same() {
        let written = |format| {
            let mut out = Vec::new();
            write(&report(), format, &mut out).unwrap();
            out
        };
        let html = String::from_utf8(written(Format::Html)).unwrap();
        for words in [
            "Mailferry changes no DNS",
            "seen at 1 of 2 name servers since 08:09 UTC; not yet at ns2.old.test",
            "10 mail.old.test",
            "10 mx.new.test",
            "does not answer",
            "old.test. 3600 IN MX 10 mx.new.test.",
        ] {
            assert!(html.contains(words), "{words}\n{html}");
        }
        assert!(!html.contains("<b>.test") && !html.contains("<script"), "{html}");
        let csv = String::from_utf8(written(Format::Csv)).unwrap();
        assert_eq!(csv.lines().count(), 7, "{csv}");
        assert!(
            csv.contains(
                "\"old.test\",\"MX\",\"old.test\",\"is tried\",\"partly\",\"10 mail.old.test\",86400"
            ),
            "{csv}"
        );
        let json: serde_json::Value = serde_json::from_slice(&written(Format::Json)).unwrap();
        assert_eq!(json["switched"], false);
        let mx = &json["domains"][0]["records"][0];
        assert_eq!(
            (&mx["type"], &mx["state"], &mx["seen"]["with"]),
            (&"MX".into(), &"Partly".into(), &1.into())
        );
        assert_eq!(mx["wanted"]["records"]["records"][0]["value"], "10 mx.new.test");
        assert_eq!(json["domains"][0]["records"][2]["old"]["endsAt"], "2027-01-15T08:30:00Z");
        assert_eq!(&written(Format::Xlsx)[..2], b"PK");
        assert!(write(&report(), Format::Markdown, Vec::new()).is_err());
    }
}
