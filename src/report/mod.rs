//! The report: what was found, what was chosen and why, what arrived, and what did not, for a person and for a program.
//!
//! ```text
//! discovery, status, ledger ──► rows: pure data, one shape a kind ──► html (chart, words)   for the customer
//!                               message: one row a message, streamed  ├► xlsx, csv (table)   for a spreadsheet
//!                                                                     ├► json                for a program
//!                                                                     └► text                for the terminal, after a run
//! ```
//!
//! Nothing here asks a server, reads a state file or looks at the clock. The one who has the facts fills a [`Report`]; the
//! messages, of which there may be millions, are handed over one by one and never held together.
//! `source = copied + excluded + failed + pending` holds in every table that counts messages, and [`Totals`] is the
//! only place that adds them up.

mod causes;
mod chart;
pub mod checklist;
mod csv;
pub mod dns;
pub mod domains;
pub mod exceptions;
#[cfg(test)]
mod fixture;
mod html;
mod json;
mod markdown;
pub mod message;
pub mod redaction;
pub mod rows;
mod standing;
pub mod statement;
mod table;
#[cfg(test)]
mod tests;
pub mod text;
mod words;
mod xlsx;

use std::io::Write;
use std::path::Path;

use clap::ValueEnum;

pub use domains::DomainRow;
pub use exceptions::Exceptions;
pub use message::{MessageRow, MessageSink, MessageSource};
pub use rows::{FindingRow, MailboxRow, Report, Totals};

use crate::model::failure::{Failure, Result};

/// The subject of a report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// The whole project: a row for each mailbox.
    #[default]
    Migration,
    /// A row for each message.
    Messages,
    /// The evidence of discovery: a row for each piece of evidence.
    Discovery,
    /// The statement of work: scope, method, assumptions, exclusions, risks and time, before the order.
    Sow,
    /// The DNS records of the move: a row for each record, as `mailferry dns` saw them last.
    Dns,
}

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One self-contained page for people.
    Html,
    /// A workbook with several sheets.
    Xlsx,
    /// Comma-separated values, RFC 4180, UTF-8.
    Csv,
    /// One JSON document; for messages one object a line.
    Json,
    /// Text to be worked on; for the statement of work.
    #[value(name = "md")]
    Markdown,
}

impl Format {
    /// The format that a file's name says by its end.
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "html" | "htm" => Some(Self::Html),
            "xlsx" => Some(Self::Xlsx),
            "csv" => Some(Self::Csv),
            "json" | "jsonl" | "ndjson" => Some(Self::Json),
            "md" | "markdown" => Some(Self::Markdown),
            _ => None,
        }
    }
}

/// Writes a report. `feed` is called once when the kind is [`Kind::Messages`], and not at all otherwise; it hands over
/// each message in turn, so that no more than one need be in memory.
pub fn write<W: Write>(
    report: &Report,
    kind: Kind,
    format: Format,
    out: W,
    feed: impl FnOnce(&mut dyn MessageSink) -> Result<()>,
) -> Result<()> {
    match (kind, format) {
        (Kind::Dns, _) => Err(Failure::internal("the records of the DNS have a writer of their own")),
        (Kind::Sow, _) => statement::write(report, format, out),
        (_, Format::Markdown) => {
            Err(Failure::configuration("only a statement of work is written as Markdown")
                .hint("give --kind sow, or another format: html, xlsx, csv or json"))
        }
        (Kind::Messages, Format::Html) => html::messages(report, out, feed),
        (Kind::Messages, Format::Xlsx) => xlsx::messages(report, out, feed),
        (Kind::Messages, Format::Csv) => csv::messages(out, feed),
        (Kind::Messages, Format::Json) => json::messages(out, feed),
        (_, Format::Html) => html::report(report, kind, out),
        (_, Format::Xlsx) => xlsx::report(report, kind, out),
        (_, Format::Csv) => csv::report(report, kind, out),
        (_, Format::Json) => json::report(report, kind, out),
    }
}

/// A report that could not be written, whatever the writer's own error is.
fn unwritten(error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::configuration(format!("the report could not be written: {error}"))
        .hint("give --out a path that can be written and has room")
        .caused_by(error)
}
