//! The report for programs: one document, or for messages one object a line (JSON Lines).

use std::io::Write;

use serde::Serialize;

use super::domains::DomainRow;
use super::message::{MessageRow, MessageSink};
use super::rows::{DestinationRow, FindingRow, MailboxRow, Report, Totals};
use super::standing::{Standing as Head, standing};
use super::{Kind, unwritten};
use crate::model::failure::Result;

#[derive(Serialize)]
struct Migration<'a> {
    #[serde(flatten)]
    report: &'a Report,
    totals: Totals,
    standing: Standing,
}

/// The state of the project, as at the head of the page.
#[derive(Serialize)]
struct Standing {
    word: &'static str,
    sentence: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Discovery<'a> {
    name: &'a str,
    namespace: &'a str,
    generated: jiff::Timestamp,
    version: &'a str,
    destination: &'a DestinationRow,
    domains: &'a [DomainRow],
    mailboxes: &'a [MailboxRow],
    findings: &'a [FindingRow],
}

/// Writes one document.
pub(super) fn document(document: &impl Serialize, mut out: impl Write) -> Result<()> {
    serde_json::to_writer_pretty(&mut out, document).map_err(|e| unwritten(&e))?;
    writeln!(out).and_then(|()| out.flush()).map_err(|e| unwritten(&e))
}

/// Writes the document of a kind other than messages.
pub(super) fn report(report: &Report, kind: Kind, out: impl Write) -> Result<()> {
    if kind == Kind::Discovery {
        let Report { name, namespace, generated, version, destination, domains, mailboxes, findings, .. } =
            report;
        let generated = *generated;
        let seen =
            Discovery { name, namespace, generated, version, destination, domains, mailboxes, findings };
        document(&seen, out)
    } else {
        let totals = report.totals();
        let Head { word, sentence, .. } = standing(report, &totals);
        document(&Migration { report, totals, standing: Standing { word, sentence } }, out)
    }
}

struct Lines<W>(W);

impl<W: Write> MessageSink for Lines<W> {
    fn row(&mut self, row: &MessageRow) -> Result<()> {
        serde_json::to_writer(&mut self.0, row).map_err(|e| unwritten(&e))?;
        self.0.write_all(b"\n").map_err(|e| unwritten(&e))
    }
}

/// Writes one object a line.
pub(super) fn messages(out: impl Write, feed: impl FnOnce(&mut dyn MessageSink) -> Result<()>) -> Result<()> {
    let mut lines = Lines(std::io::BufWriter::new(out));
    feed(&mut lines)?;
    lines.0.flush().map_err(|e| unwritten(&e))
}
