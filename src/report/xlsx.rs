//! The report as a workbook. Rows are written in order and leave memory at once, so a sheet may hold as many messages
//! as the format allows. Text is always a string cell: no cell of ours can become a formula or a link.

use std::io::Write;

use jiff::Timestamp;
use rust_xlsxwriter::{DocProperties, Format, FormatAlign, Workbook, Worksheet, XlsxError};

use super::message::{MessageRow, MessageSink};
use super::rows::{Report, Totals};
use super::standing::{Standing, standing};
use super::table::{self, Cell, Column};
use super::{Kind, unwritten, words};
use crate::model::failure::Result;
use crate::model::text::cut;

/// The rows that one sheet can hold, with its header.
const ROWS_MAX: u32 = 1_048_576;

/// The longest text that a cell can hold, in bytes; the format counts UTF-16 units, of which there are never more.
const TEXT_MAX: usize = 32_767;

/// Days from the workbook's day 0 (30 December 1899) to 1 January 1970.
const EPOCH_DAYS: f64 = 25_569.0;

struct Formats {
    head: Format,
    text: Format,
    count: Format,
    moment: Format,
    total: Format,
    total_text: Format,
    total_moment: Format,
    title: Format,
    label: Format,
}

impl Formats {
    fn new() -> Self {
        let moment = "yyyy-mm-dd hh:mm";
        let total = || Format::new().set_bold().set_border_top(rust_xlsxwriter::FormatBorder::Thin);
        Self {
            head: Format::new()
                .set_bold()
                .set_font_color("#FFFFFF")
                .set_background_color("#1F3A5F")
                .set_align(FormatAlign::VerticalCenter)
                .set_text_wrap(),
            text: Format::new().set_align(FormatAlign::Top),
            count: Format::new().set_num_format("#,##0").set_align(FormatAlign::Top),
            moment: Format::new()
                .set_num_format(moment)
                .set_align(FormatAlign::Top)
                .set_align(FormatAlign::Left),
            total: total().set_num_format("#,##0"),
            total_text: total(),
            total_moment: total().set_num_format(moment).set_align(FormatAlign::Left),
            title: Format::new().set_bold().set_font_size(16.0),
            label: Format::new().set_bold().set_align(FormatAlign::Top),
        }
    }
}

/// A sheet that is being filled, row by row.
struct Sheet<'b, T> {
    inner: Worksheet,
    columns: Vec<Column<T>>,
    formats: &'b Formats,
    next: u32,
}

impl<'b, T> Sheet<'b, T> {
    fn begin(
        book: &mut Workbook,
        name: &str,
        columns: Vec<Column<T>>,
        formats: &'b Formats,
    ) -> Result<Self, XlsxError> {
        let mut sheet = book.new_worksheet_with_constant_memory()?;
        sheet.set_name(name)?.set_freeze_panes(1, 0)?.set_landscape().set_paper_size(9);
        sheet.set_repeat_rows(0, 0)?.set_print_fit_to_pages(1, 0).set_row_height(0, 32)?;
        for (at, column) in (0..).zip(&columns) {
            sheet.set_column_width(at, f64::from(column.width))?;
            sheet.write_string_with_format(0, at, column.title, &formats.head)?;
        }
        Ok(Self { inner: sheet, columns, formats, next: 1 })
    }

    fn write(&mut self, row: &T) -> Result<(), XlsxError> {
        let Formats { text, count, moment, .. } = self.formats;
        for (at, column) in (0..).zip(&self.columns) {
            put(&mut self.inner, self.next, at, &(column.cell)(row), [text, count, moment])?;
        }
        self.next += 1;
        Ok(())
    }

    fn end(mut self, book: &mut Workbook, totals: Option<&Totals>) -> Result<(), XlsxError> {
        let last = u16::try_from(self.columns.len()).unwrap_or(u16::MAX).saturating_sub(1);
        self.inner.autofilter(0, 0, self.next.saturating_sub(1), last)?;
        let Formats { total, total_text, total_moment, .. } = self.formats;
        for (at, column, totals) in (0..).zip(&self.columns).filter_map(|(at, c)| Some((at, c, totals?))) {
            match column.total {
                Some(sum) => {
                    put(&mut self.inner, self.next, at, &sum(totals), [total_text, total, total_moment])?;
                }
                None if at == 0 => {
                    self.inner.write_string_with_format(self.next, 0, "Total", total_text)?;
                }
                None => {
                    self.inner.write_blank(self.next, at, total_text)?;
                }
            }
        }
        book.push_worksheet(self.inner);
        Ok(())
    }
}

/// Writes a cell; the formats are those of text, of numbers and of moments.
#[allow(clippy::cast_precision_loss, reason = "a workbook knows no numbers but floating ones")]
fn put(
    sheet: &mut Worksheet,
    row: u32,
    at: u16,
    cell: &Cell<'_>,
    formats: [&Format; 3],
) -> Result<(), XlsxError> {
    let [text_format, number_format, moment_format] = formats;
    match cell {
        Cell::Text(text) => sheet.write_string_with_format(row, at, cut(text, TEXT_MAX), text_format)?,
        Cell::Count(n) | Cell::Bytes(n) => {
            sheet.write_number_with_format(row, at, *n as f64, number_format)?
        }
        Cell::Moment(when) => {
            let days = when.as_second() as f64 / 86_400.0 + EPOCH_DAYS;
            // Before 1900 the format has no days; such a date is written as text.
            if days < 1.0 {
                sheet.write_string_with_format(row, at, when.to_string(), text_format)?
            } else {
                sheet.write_number_with_format(row, at, days, moment_format)?
            }
        }
        Cell::Empty => sheet.write_blank(row, at, text_format)?,
    };
    Ok(())
}

fn facts(report: &Report) -> Vec<(&'static str, Cell<'static>)> {
    let totals = report.totals();
    let Standing { word, sentence, .. } = standing(report, &totals);
    let text = |text: String| Cell::Text(text.into());
    let d = &report.destination;
    let bytes = match totals.messages.excluded {
        0 => "Bytes at the source",
        _ => "Bytes at the source, without what rules leave out",
    };
    let mut facts = vec![
        ("Migration", text(format!("{}/{}", report.namespace, report.name))),
        ("Customer", text(report.customer.clone().unwrap_or_default())),
        ("Report made", Cell::Moment(report.generated)),
        ("Stage wanted", text(report.stage.clone())),
        ("Phase", text(report.phase.clone())),
        ("Destination", text(format!("{} {}:{} ({})", d.kind, d.host, d.port, d.tls))),
        ("Plan digest", text(report.plan_digest.clone().unwrap_or_default())),
        ("Mailferry", text(report.version.clone())),
        ("Where it stands", text(format!("{word}: {sentence}"))),
        ("Domains", Cell::Count((report.domains.len() + report.unseen.len()) as u64)),
        ("Domains not looked at yet", Cell::Count(report.unseen.len() as u64)),
        ("Mailboxes", Cell::Count(totals.mailboxes)),
        ("Mailboxes that cannot be read", Cell::Count(totals.unreadable)),
        (bytes, Cell::Bytes(totals.bytes)),
        ("Messages at the source", Cell::Count(totals.messages.source)),
        ("= copied", Cell::Count(totals.messages.copied)),
        ("+ excluded", Cell::Count(totals.messages.excluded)),
        ("+ failed", Cell::Count(totals.messages.failed)),
        ("+ pending", Cell::Count(totals.messages.pending)),
        ("Copied and altered", Cell::Count(totals.altered)),
        ("of these, found altered by a verification", Cell::Count(totals.changed)),
        ("of these, stored only in part", Cell::Count(totals.truncated)),
        ("Copied and no longer there", Cell::Count(totals.missing)),
        ("Compared by size on arrival", Cell::Count(totals.sizes_checked)),
        ("of these, byte by byte", Cell::Count(totals.digests_checked)),
        ("Looked for by verifications", Cell::Count(totals.checked)),
        ("= identical", Cell::Count(totals.identical)),
        ("+ same size", Cell::Count(totals.same_size)),
        ("+ alike", Cell::Count(totals.alike)),
        ("+ with other bytes", Cell::Count(totals.found_altered)),
        ("+ missing then", Cell::Count(totals.found_missing)),
        ("With other flags or dates", Cell::Count(totals.differing.saturating_sub(totals.absent_folders))),
        ("Folders not at the destination", Cell::Count(totals.absent_folders)),
        ("In another folder than they were carried to", Cell::Count(totals.moved)),
    ];
    facts.extend(report.acknowledged.iter().map(|a| {
        let place = a.domain.as_ref().map_or("all domains", |d| d.as_str());
        ("Acknowledged", text(format!("{} ({place}): {}", a.finding, a.words())))
    }));
    facts
}

fn summary(book: &mut Workbook, report: &Report, formats: &Formats) -> Result<(), XlsxError> {
    let sheet = book.add_worksheet_with_constant_memory()?;
    sheet.set_name("Summary")?.set_column_width(0, 32)?.set_column_width(1, 70)?;
    sheet.set_paper_size(9).set_print_fit_to_pages(1, 0);
    sheet.write_string_with_format(0, 0, "Mail migration report", &formats.title)?;
    let left = formats.count.clone().set_align(FormatAlign::Left);
    for (row, (label, cell)) in (2..).zip(facts(report)) {
        sheet.write_string_with_format(row, 0, label, &formats.label)?;
        put(sheet, row, 1, &cell, [&formats.text, &left, &formats.moment])?;
    }
    Ok(())
}

fn table_of<T>(
    book: &mut Workbook,
    name: &str,
    columns: Vec<Column<T>>,
    rows: impl IntoIterator<Item = T>,
    totals: Option<&Totals>,
    formats: &Formats,
) -> Result<(), XlsxError> {
    let mut sheet = Sheet::begin(book, name, columns, formats)?;
    for row in rows {
        sheet.write(&row)?;
    }
    sheet.end(book, totals)
}

fn fill(book: &mut Workbook, report: &Report, kind: Kind) -> Result<(), XlsxError> {
    let formats = Formats::new();
    let totals = report.totals();
    summary(book, report, &formats)?;
    let domains = report.domains.iter().map(|row| (row.clone(), report.totals_of(&row.name)));
    table_of(book, "Domains", table::domains(), domains, Some(&totals), &formats)?;
    table_of(
        book,
        "Mailboxes",
        table::mailboxes(),
        report.mailboxes.iter().cloned(),
        Some(&totals),
        &formats,
    )?;
    table_of(book, "Findings", table::findings(), report.findings.iter().cloned(), None, &formats)?;
    if kind == Kind::Discovery {
        let lines = table::evidence_lines(&report.domains);
        return table_of(book, "Evidence", table::evidence(), lines, None, &formats);
    }
    let mut sheet = Sheet::begin(book, "Not delivered", table::messages(), &formats)?;
    for named in report.exceptions.named() {
        sheet.write(&named.message)?;
    }
    let unnamed = report.exceptions.unnamed();
    if unnamed > 0 {
        let all = if report.exceptions.only_in_ledger {
            "see the ledger"
        } else {
            "mailferry report -f … --state … --kind messages --format csv"
        };
        let more = format!("and {} more: {all}", words::count(unnamed));
        sheet.inner.write_string_with_format(sheet.next, 0, more, &formats.label)?;
    }
    sheet.end(book, None)?;
    let differences = report.mailboxes.iter().flat_map(|m| m.differences.iter().map(move |d| (m, d)));
    table_of(book, "Differences", table::differences(), differences, None, &formats)
}

fn save(mut book: Workbook, mut out: impl Write) -> Result<()> {
    let bytes = book.save_to_buffer().map_err(|e| unwritten(&e))?;
    out.write_all(&bytes).and_then(|()| out.flush()).map_err(|e| unwritten(&e))
}

fn book(report: &Report) -> Result<Workbook> {
    let mut book = Workbook::new();
    let made = rust_xlsxwriter::ExcelDateTime::from_timestamp(report.generated.as_second());
    let properties = DocProperties::new()
        .set_title(format!("Mail migration {}", report.name))
        .set_creation_datetime(&made.map_err(|e| unwritten(&e))?);
    book.set_properties(&properties);
    Ok(book)
}

/// A workbook of tables, without the summary of a migration.
pub(super) struct Book {
    book: Workbook,
    formats: Formats,
}

impl Book {
    /// Adds a sheet.
    pub(super) fn sheet<T>(
        &mut self,
        name: &str,
        columns: Vec<Column<T>>,
        rows: impl IntoIterator<Item = T>,
    ) -> Result<()> {
        table_of(&mut self.book, name, columns, rows, None, &self.formats).map_err(|e| unwritten(&e))
    }
}

/// The workbook of other tables.
pub(super) fn tables(
    title: &str,
    made: Timestamp,
    fill: impl FnOnce(&mut Book) -> Result<()>,
    out: impl Write,
) -> Result<()> {
    let mut book = Book { book: Workbook::new(), formats: Formats::new() };
    let made = rust_xlsxwriter::ExcelDateTime::from_timestamp(made.as_second());
    let properties =
        DocProperties::new().set_title(title).set_creation_datetime(&made.map_err(|e| unwritten(&e))?);
    book.book.set_properties(&properties);
    fill(&mut book)?;
    save(book.book, out)
}

/// The workbook of a kind other than messages.
pub(super) fn report(report: &Report, kind: Kind, out: impl Write) -> Result<()> {
    let mut book = book(report)?;
    fill(&mut book, report, kind).map_err(|e| unwritten(&e))?;
    save(book, out)
}

/// Messages over as many sheets as they need.
struct Messages<'b> {
    book: Workbook,
    formats: &'b Formats,
    full: u32,
    rows_max: u32,
    sheet: Sheet<'b, MessageRow>,
}

impl Messages<'_> {
    fn turn_over(&mut self) -> Result<(), XlsxError> {
        self.full += 1;
        let name = format!("Messages {}", self.full + 1);
        let next = Sheet::begin(&mut self.book, &name, table::messages(), self.formats)?;
        std::mem::replace(&mut self.sheet, next).end(&mut self.book, None)
    }
}

impl MessageSink for Messages<'_> {
    fn row(&mut self, row: &MessageRow) -> Result<()> {
        if self.sheet.next >= self.rows_max {
            self.turn_over().map_err(|e| unwritten(&e))?;
        }
        self.sheet.write(row).map_err(|e| unwritten(&e))
    }
}

/// The workbook of all messages.
pub(super) fn messages(
    report: &Report,
    out: impl Write,
    feed: impl FnOnce(&mut dyn MessageSink) -> Result<()>,
) -> Result<()> {
    messages_in_sheets_of(ROWS_MAX, report, out, feed)
}

fn messages_in_sheets_of(
    rows_max: u32,
    report: &Report,
    out: impl Write,
    feed: impl FnOnce(&mut dyn MessageSink) -> Result<()>,
) -> Result<()> {
    let formats = Formats::new();
    let mut book = book(report)?;
    summary(&mut book, report, &formats).map_err(|e| unwritten(&e))?;
    let sheet =
        Sheet::begin(&mut book, "Messages", table::messages(), &formats).map_err(|e| unwritten(&e))?;
    let mut messages = Messages { book, formats: &formats, full: 0, rows_max, sheet };
    feed(&mut messages)?;
    let Messages { mut book, sheet, .. } = messages;
    sheet.end(&mut book, None).map_err(|e| unwritten(&e))?;
    save(book, out)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::super::fixture;
    use super::*;
    use crate::model::message::Verdict;

    #[test]
    fn a_full_sheet_is_followed_by_another_and_no_row_is_lost() {
        let mut book = Vec::new();
        let feed = |sink: &mut dyn MessageSink| {
            (0..25).try_for_each(|n| sink.row(&fixture::message(n, Verdict::Delivered)))
        };
        messages_in_sheets_of(11, &fixture::report(), &mut book, feed).unwrap();
        let mut archive = zip::ZipArchive::new(std::io::Cursor::new(book)).unwrap();
        let rows = [(2, 11), (3, 11), (4, 6)];
        for (sheet, rows) in rows {
            let mut xml = String::new();
            let name = format!("xl/worksheets/sheet{sheet}.xml");
            archive.by_name(&name).unwrap().read_to_string(&mut xml).unwrap();
            assert_eq!(xml.matches("<row ").count(), rows, "{name}");
            assert!(xml.contains("state=\"frozen\""), "{name}");
        }
    }
}
