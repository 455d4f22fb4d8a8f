//! The report as comma-separated values: one row a mailbox, a message, or a piece of evidence. No row of sums: whoever
//! adds a column up would count everything twice.

use std::io::Write;

use super::message::{MessageRow, MessageSink};
use super::rows::Report;
use super::table::{self, Cell, Column};
use super::{Kind, unwritten};
use crate::model::failure::Result;

/// The signs that begin a formula.
const FORMULA: [char; 8] = ['=', '+', '-', '@', '＝', '＋', '－', '＠'];

/// Keeps a spreadsheet from taking text for a formula: what begins like one gets an apostrophe in front. So does what would
/// begin like one where cells are parted by semicolons or tabs, as spreadsheets do in many countries.
fn defuse(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 1);
    if text.starts_with(['\t', '\r', '\n']) {
        out.push('\'');
    }
    let mut begins = true;
    for c in text.chars() {
        if begins && FORMULA.contains(&c) {
            out.push('\'');
        }
        out.push(c);
        begins = matches!(c, ';' | '\t') || begins && matches!(c, ' ' | '"') && out.len() > 1;
    }
    out
}

fn field(cell: &Cell<'_>) -> String {
    match cell {
        Cell::Text(text) => defuse(text),
        Cell::Count(n) | Cell::Bytes(n) => n.to_string(),
        Cell::Moment(at) => at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        Cell::Empty => String::new(),
    }
}

struct Rows<W: Write, T> {
    out: csv::Writer<W>,
    columns: Vec<Column<T>>,
}

impl<W: Write, T> Rows<W, T> {
    fn begin(out: W, columns: Vec<Column<T>>) -> Result<Self> {
        // Quoted throughout, a cell stays one whatever a spreadsheet takes for what parts them.
        let mut out = csv::WriterBuilder::new().quote_style(csv::QuoteStyle::NonNumeric).from_writer(out);
        out.write_record(columns.iter().map(|c| c.title)).map_err(|e| unwritten(&e))?;
        Ok(Self { out, columns })
    }

    fn write(&mut self, row: &T) -> Result<()> {
        let fields = self.columns.iter().map(|c| field(&(c.cell)(row)));
        self.out.write_record(fields).map_err(|e| unwritten(&e))
    }

    fn end(mut self) -> Result<()> {
        self.out.flush().map_err(|e| unwritten(&e))
    }
}

impl<W: Write> MessageSink for Rows<W, MessageRow> {
    fn row(&mut self, row: &MessageRow) -> Result<()> {
        self.write(row)
    }
}

/// A table of its own.
pub(super) fn table<T>(
    columns: Vec<Column<T>>,
    rows: impl IntoIterator<Item = T>,
    out: impl Write,
) -> Result<()> {
    let mut table = Rows::begin(out, columns)?;
    rows.into_iter().try_for_each(|row| table.write(&row))?;
    table.end()
}

/// One row a mailbox, or one row a piece of evidence.
pub(super) fn report(report: &Report, kind: Kind, out: impl Write) -> Result<()> {
    if kind == Kind::Discovery {
        let mut rows = Rows::begin(out, table::evidence())?;
        table::evidence_lines(&report.domains).try_for_each(|line| rows.write(&line))?;
        return rows.end();
    }
    let mut rows = Rows::begin(out, table::mailboxes())?;
    report.mailboxes.iter().try_for_each(|row| rows.write(row))?;
    rows.end()
}

/// One row a message.
pub(super) fn messages(out: impl Write, feed: impl FnOnce(&mut dyn MessageSink) -> Result<()>) -> Result<()> {
    let mut rows = Rows::begin(out, table::messages())?;
    feed(&mut rows)?;
    rows.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_begins_like_a_formula_is_defused_and_nothing_else_is_touched() {
        for formula in ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\t1", "\r=1", "＝1"] {
            assert_eq!(defuse(formula), format!("'{formula}"));
        }
        for (text, defused) in [("a;=1", "a;'=1"), ("a; \"=1", "a; \"'=1"), ("a\t+1;-2", "a\t'+1;'-2")] {
            assert_eq!(defuse(text), defused);
        }
        for plain in ["", "Re: =1", "'=1", "Ünal", "a;b - c"] {
            assert_eq!(defuse(plain), plain);
        }
    }
}
