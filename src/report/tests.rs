//! Rules that must hold in every format: the equation, the contract's field names, and that text from mail stays text.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io::Read;

use quick_xml::events::Event;

use super::fixture::{self, HOSTILE};
use super::message::MessageSink;
use super::{Format, Kind, Report, Totals, write};
use crate::model::failure::{Failure, Result};
use crate::model::message::Verdict;

fn feed(sink: &mut dyn MessageSink) -> Result<()> {
    fixture::messages().iter().try_for_each(|row| sink.row(row))
}

fn bytes(report: &Report, kind: Kind, format: Format) -> Vec<u8> {
    let mut out = Vec::new();
    write(report, kind, format, &mut out, feed).unwrap();
    out
}

fn text(kind: Kind, format: Format) -> String {
    String::from_utf8(bytes(&fixture::report(), kind, format)).unwrap()
}

const KINDS: [Kind; 3] = [Kind::Migration, Kind::Messages, Kind::Discovery];

#[test]
fn the_equation_holds_for_each_mailbox_each_domain_and_the_whole() {
    let report = fixture::report();
    assert!(report.mailboxes.iter().all(|m| m.messages.balances()));
    let mut sum = crate::model::progress::MessageCounts::default();
    for domain in &report.domains {
        let totals = report.totals_of(&domain.name);
        assert!(totals.messages.balances() && totals.mailboxes > 0, "{}", domain.name);
        sum += totals.messages;
    }
    assert_eq!(sum, report.totals().messages, "the domains add up to the whole");
    assert_eq!((sum.source, sum.pending), (21_950, 92));
}

#[test]
fn a_mailbox_that_was_never_passed_over_is_pending_as_a_whole() {
    let report = fixture::report();
    let frank = report.mailboxes.iter().find(|m| m.endpoint.is_none()).unwrap();
    assert_eq!((frank.phase.as_str(), frank.messages.source), ("Blocked", 0));
    assert!(frank.failure.as_ref().unwrap().hint.as_ref().unwrap().contains("lab-source"));
    let carol = report.mailboxes.iter().find(|m| m.source.local_part() == "carol").unwrap();
    assert!(carol.why.contains("AUTHENTICATIONFAILED"), "{}", carol.why);
}

#[test]
fn what_a_mailbox_may_hold_and_what_of_others_it_sees_stand_in_its_row() {
    let rows = text(Kind::Migration, Format::Csv);
    let mut reader = csv::Reader::from_reader(rows.as_bytes());
    let columns = reader.headers().unwrap().clone();
    let at = |title: &str| columns.iter().position(|column| column == title).unwrap();
    let shown: BTreeSet<Vec<String>> = reader
        .records()
        .map(|row| row.unwrap())
        .map(|row| ["Protocol", "Quota", "Foreign folders"].map(|title| row[at(title)].to_owned()).to_vec())
        .collect();
    let wanted = [["", "", "0"], ["IMAP", "50000000000", "2"], ["POP3", "", "0"]];
    assert_eq!(shown, wanted.into_iter().map(|row| row.map(str::to_owned).to_vec()).collect());
}

#[test]
fn findings_that_say_the_same_become_one_row_and_acknowledgements_count_for_their_domain() {
    let report = fixture::report();
    let pop: Vec<_> =
        report.findings.iter().filter(|f| f.code.to_string() == "PopMailboxesPresent").collect();
    assert_eq!(pop.len(), 2);
    let shop = pop.iter().find(|f| f.domain.as_ref().unwrap().as_str() == "shop.example").unwrap();
    // It is one finding of the domain, reported for two mailboxes.
    assert_eq!((shop.count, shop.subjects.len(), shop.acknowledged.is_some()), (1, 2, true));
    assert_eq!(pop.iter().filter(|f| f.acknowledged.is_none()).count(), 1);
    assert!(report.findings.is_sorted_by_key(|f| f.severity));
}

/// Reads a page as XML would be read, after the few elements of HTML that need no end got one.
fn each_tag(page: &str, mut see: impl FnMut(&str, &[(String, String)])) {
    let mut reader = quick_xml::Reader::from_str(page);
    reader.config_mut().check_end_names = false;
    loop {
        match reader.read_event().unwrap() {
            Event::Start(tag) | Event::Empty(tag) => {
                let attributes: Vec<_> = tag
                    .html_attributes()
                    .map(|a| a.unwrap())
                    .map(|a| (a.key.as_ref().to_owned(), a.value.to_string()))
                    .collect();
                see(tag.name().as_ref(), &attributes);
            }
            Event::Eof => break,
            _ => {}
        }
    }
}

#[test]
fn a_page_holds_no_payload_no_script_and_nothing_from_elsewhere() {
    for kind in KINDS.into_iter().chain([Kind::Sow]) {
        let page = text(kind, Format::Html);
        let mut tags = BTreeSet::new();
        each_tag(&page, |tag, attributes| {
            tags.insert(tag.to_owned());
            for (name, value) in attributes {
                assert!(!name.starts_with("on") && name != "style", "{kind:?}: {tag} {name}");
                if ["href", "src", "action", "data", "srcset", "xlink:href"].contains(&name.as_str()) {
                    assert!(value.starts_with('#'), "{kind:?}: {tag} {name}={value}");
                }
            }
        });
        assert!(tags.contains("table") && tags.contains("meta"), "{kind:?}: the page was not read: {tags:?}");
        for forbidden in ["script", "img", "link", "iframe", "object", "b", "form", "base", "image", "use"] {
            assert!(!tags.contains(forbidden), "{kind:?}: <{forbidden}>");
        }
        assert!(page.contains("default-src 'none'; style-src 'unsafe-inline'; img-src data:"), "{kind:?}");
        assert!(!page.contains('\u{202e}'), "{kind:?}: a direction override got through");
        assert!(!page.contains("@import") && page.matches("url(").count() == page.matches("url(#").count());
        assert!(page.len() < 200_000, "{kind:?}: a subject of 64 KB filled the page: {}", page.len());
    }
    assert!(
        text(Kind::Messages, Format::Html).contains("&#60;script&#62;alert(1)"),
        "the payload is shown as text"
    );
}

#[test]
fn every_table_of_a_page_has_heads_and_every_anchor_a_target() {
    let page = text(Kind::Migration, Format::Html);
    let (mut ids, mut targets, mut heads) = (BTreeSet::new(), BTreeSet::new(), 0);
    let (mut level, mut levels) = (0, Vec::new());
    each_tag(&page, |tag, attributes| {
        for (name, value) in attributes {
            match name.as_str() {
                "id" => assert!(ids.insert(value.clone()), "twice: {value}"),
                "href" => drop(targets.insert(value.trim_start_matches('#').to_owned())),
                "aria-labelledby" => drop(targets.insert(value.clone())),
                _ => {}
            }
        }
        heads += u32::from(tag == "th" && attributes.iter().any(|(name, _)| name == "scope"));
        if let Some(next) = tag.strip_prefix('h').and_then(|n| n.parse::<u8>().ok()) {
            levels.push((level, next));
            level = next;
        }
    });
    assert!(targets.is_subset(&ids), "{:?}", targets.difference(&ids));
    assert!(heads > 50);
    assert!(
        levels.iter().all(|(before, next)| *next <= before + 1),
        "a heading level is skipped: {levels:?}"
    );
}

#[test]
fn a_domains_other_data_and_who_has_it_is_told() {
    let page = text(Kind::Migration, Format::Html);
    for part in ["calendars: all of them; CalDAV at", "Other services of the domain", "calendar-access"] {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn the_head_has_a_tone_and_much_that_is_not_there_is_one_line() {
    let mut report = fixture::report();
    let page = |report: &Report| String::from_utf8(bytes(report, Kind::Migration, Format::Html)).unwrap();
    let absent = report.domains.iter().flat_map(|d| &d.evidence).find(|e| e.is_absent).unwrap().clone();
    let told = page(&report);
    let tone = super::standing::standing(&report, &report.totals()).tone;
    assert_ne!(tone, super::standing::Tone::Well, "not all of it is as it was");
    assert!(told.contains(&format!("<p class=\"standing {tone}\">")), "{tone}");
    assert!(!told.contains("<details"), "a row or two are no crowd");
    report.domains[0].evidence.extend(std::iter::repeat_n(absent, 19));
    let told = page(&report);
    let line = "<summary>19 usual names and places were asked for and do not exist: ";
    assert_eq!(told.matches("<details").count(), 1);
    assert!(told.contains(line), "{}", told.split("<details").nth(1).unwrap_or_default());
}

#[test]
fn an_empty_project_says_so_in_sentences() {
    let mut report = fixture::report();
    (report.domains, report.mailboxes, report.findings) = (Vec::new(), Vec::new(), Vec::new());
    (report.acknowledged, report.exceptions) = (Vec::new(), super::Exceptions::default());
    let page = String::from_utf8(bytes(&report, Kind::Migration, Format::Html)).unwrap();
    for sentence in [
        "The project names no domain yet.",
        "The project names no mailbox yet.",
        "Nothing was found that a person needs to look at.",
        "No finding has been acknowledged.",
        "Every message that was tried could be carried.",
        "Nothing has arrived yet that could be checked.",
        "No verification has been made since;",
        "No verification missed a message that had arrived.",
    ] {
        assert!(page.contains(sentence), "{sentence}");
    }
    for format in [Format::Xlsx, Format::Csv, Format::Json] {
        assert!(!bytes(&report, Kind::Migration, format).is_empty());
    }
}

#[test]
fn what_is_beyond_a_cap_is_counted_and_the_way_to_it_is_said() {
    let mut report = fixture::report();
    let row = report.mailboxes[0].clone();
    report.mailboxes.extend(std::iter::repeat_n(row, 5_000));
    for _ in 0..1_200 {
        report.exceptions.push(&fixture::message(1, Verdict::Quarantined("too large".into())));
    }
    let page = String::from_utf8(bytes(&report, Kind::Migration, Format::Html)).unwrap();
    for more in
        ["And 7 more.", "And 204 more.", "Could not be carried: 1,204", "too large</bdi>: 1,200 messages"]
    {
        assert!(page.contains(more), "{more}");
    }
    let named = page.matches("Minutes of the meeting").count();
    assert!((900..=1_010).contains(&named), "{named}");
}

#[test]
fn messages_in_json_are_one_object_a_line_with_the_contracts_fields() {
    let lines = text(Kind::Messages, Format::Json);
    let fields = [
        "mailbox",
        "source",
        "messageId",
        "exact",
        "size",
        "internalDate",
        "flags",
        "destination",
        "verdict",
        "reason",
    ];
    assert_eq!(lines.lines().count(), fixture::messages().len());
    let mut verdicts = BTreeSet::new();
    for line in lines.lines() {
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).unwrap();
        assert_eq!(
            object.keys().map(String::as_str).collect::<BTreeSet<_>>(),
            BTreeSet::from(fields),
            "{line}"
        );
        verdicts.insert(object["verdict"].as_str().unwrap().to_owned());
        let source: BTreeSet<_> = object["source"].as_object().unwrap().keys().map(String::as_str).collect();
        let pop = object["source"]["protocol"] == "POP3";
        assert_eq!(
            source,
            BTreeSet::from(["protocol", "folder", "uidvalidity", if pop { "uidl" } else { "uid" }])
        );
        let arrived = object["verdict"].as_str().unwrap().starts_with("Delivered");
        assert_eq!(object["destination"].is_object(), arrived);
        if arrived {
            let keys: BTreeSet<_> =
                object["destination"].as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(keys, BTreeSet::from(["folder", "uidvalidity", "uid"]));
        }
        if !pop {
            assert_eq!(object["internalDate"], "2021-02-01T03:04:05+01:00");
            assert_eq!(object["flags"], serde_json::json!(["$Label1", "\\Seen"]));
            assert_eq!(object["exact"].as_str().unwrap().len(), 64);
        }
    }
    let all = ["Delivered", "DeliveredAltered", "Excluded", "Pending", "Quarantined"].map(String::from);
    assert_eq!(verdicts, BTreeSet::from(all));
}

#[test]
fn the_json_document_carries_the_totals_and_they_balance() {
    let document: serde_json::Value = serde_json::from_str(&text(Kind::Migration, Format::Json)).unwrap();
    let counts = &document["totals"]["messages"];
    let n = |name: &str| counts[name].as_u64().unwrap();
    assert_eq!(n("source"), n("copied") + n("excluded") + n("failed") + n("pending"));
    assert_eq!(document["mailboxes"].as_array().unwrap().len(), 7);
    assert_eq!(document["exceptions"]["quarantined"]["total"], 4);
    let discovery: serde_json::Value = serde_json::from_str(&text(Kind::Discovery, Format::Json)).unwrap();
    assert_eq!(discovery["domains"][0]["candidates"][0]["endpoint"]["protocol"], "IMAP");
}

fn records(kind: Kind) -> (Vec<String>, Vec<Vec<String>>) {
    let text = text(kind, Format::Csv);
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let head = reader.headers().unwrap().iter().map(String::from).collect();
    let rows = reader.records().map(|r| r.unwrap().iter().map(String::from).collect()).collect();
    (head, rows)
}

#[test]
fn csv_has_a_row_for_each_and_no_cell_that_begins_a_formula() {
    let expected = [(Kind::Migration, 7), (Kind::Messages, fixture::messages().len()), (Kind::Discovery, 12)];
    for (kind, count) in expected {
        let (_, rows) = records(kind);
        assert_eq!(rows.len(), count, "{kind:?}");
        let formula = |cell: &&String| cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
        assert_eq!(rows.iter().flatten().find(formula), None, "{kind:?}");
    }
    let (_, rows) = records(Kind::Messages);
    assert!(
        rows.iter().flatten().any(|cell| cell == &format!("'{}", HOSTILE[0])),
        "the payload is kept, as text"
    );
    let (head, rows) = records(Kind::Migration);
    let column = |title: &str| head.iter().position(|t| t == title).unwrap();
    for row in rows {
        let n = |title| row[column(title)].parse::<u64>().unwrap();
        assert_eq!(n("At the source"), n("Copied") + n("Excluded") + n("Failed") + n("Pending"));
    }
}

fn sheets(kind: Kind) -> Vec<(String, String)> {
    let book = bytes(&fixture::report(), kind, Format::Xlsx);
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(book)).unwrap();
    let mut sheets = Vec::new();
    for at in 0..archive.len() {
        let mut file = archive.by_index(at).unwrap();
        let mut xml = String::new();
        file.read_to_string(&mut xml).unwrap();
        sheets.push((file.name().unwrap().into_owned(), xml));
    }
    sheets
}

#[test]
fn a_workbook_has_its_sheets_and_neither_formulas_nor_links() {
    let names = |kind| {
        let parts = sheets(kind);
        let (_, book) = parts.iter().find(|(name, _)| name == "xl/workbook.xml").unwrap();
        let mut names = Vec::new();
        each_tag(book, |tag, attributes| {
            if tag == "sheet" {
                names.extend(
                    attributes.iter().filter(|(name, _)| name == "name").map(|(_, value)| value.clone()),
                );
            }
        });
        names
    };
    let sheets_of_all = ["Summary", "Domains", "Mailboxes", "Findings", "Not delivered", "Differences"];
    assert_eq!(names(Kind::Migration), sheets_of_all);
    assert_eq!(names(Kind::Messages), ["Summary", "Messages"]);
    assert_eq!(names(Kind::Discovery), ["Summary", "Domains", "Mailboxes", "Findings", "Evidence"]);
    for kind in KINDS {
        let parts = sheets(kind);
        let mut frozen = 0;
        for (name, xml) in parts.iter().filter(|(name, _)| name.starts_with("xl/worksheets/")) {
            frozen += u32::from(xml.contains("state=\"frozen\"") && xml.contains("<autoFilter"));
            each_tag(xml, |tag, _| assert!(!["f", "hyperlink"].contains(&tag), "{kind:?} {name}: <{tag}>"));
        }
        let tables = match kind {
            Kind::Messages => 1,
            Kind::Discovery => 4,
            Kind::Migration | Kind::Sow | Kind::Dns => 5,
        };
        assert_eq!(frozen, tables, "{kind:?}");
        let all: String = parts.iter().map(|(_, xml)| xml.as_str()).collect();
        assert!(kind == Kind::Discovery || all.contains("=cmd|"), "{kind:?}: the payload is kept, as text");
    }
}

#[test]
fn the_workbooks_sums_are_those_of_the_report() {
    let Totals { messages, .. } = fixture::report().totals();
    let parts = sheets(Kind::Migration);
    let (_, mailboxes) = parts.iter().find(|(name, _)| name == "xl/worksheets/sheet3.xml").unwrap();
    let last = mailboxes.rsplit_once("<row ").unwrap().1;
    for n in [messages.source, messages.copied, messages.excluded, messages.failed, messages.pending] {
        assert!(last.contains(&format!("<v>{n}</v>")), "{n} in {last}");
    }
}

/// A writer that only counts.
struct Counting<'a>(&'a Cell<usize>);

impl std::io::Write for Counting<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.set(self.0.get() + bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn messages_leave_memory_while_others_are_still_coming() {
    let row = fixture::message(1, Verdict::Delivered);
    for format in [Format::Json, Format::Csv, Format::Html] {
        let written = Cell::new(0);
        let many = |sink: &mut dyn MessageSink| {
            for n in 0..5_000 {
                sink.row(&row)?;
                assert!(written.get() + 32_768 > n * 150, "{format:?}: row {n} is held back");
            }
            Ok(())
        };
        write(&fixture::report(), Kind::Messages, format, Counting(&written), many).unwrap();
        assert!(written.get() > 5_000 * 150, "{format:?}");
    }
}

#[test]
fn a_failure_while_messages_are_read_ends_the_report_with_that_failure() {
    for format in [Format::Html, Format::Xlsx, Format::Csv, Format::Json] {
        let broken = |_: &mut dyn MessageSink| Err(Failure::internal("the ledger is torn"));
        let failure = write(&fixture::report(), Kind::Messages, format, Vec::new(), broken).unwrap_err();
        assert_eq!(failure.what, "the ledger is torn");
    }
}
