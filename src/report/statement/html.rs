//! The statement of work as a page to be handed over, made for paper as well.

use std::io::{BufWriter, Write};

use askama::Template;

use super::Statement;
use crate::model::failure::Result;
use crate::report::html::{CSS, MAILBOX_ROWS, show};
use crate::report::rows::Report;
use crate::report::{unwritten, words};

#[derive(Template)]
#[template(path = "statement.html")]
struct Page<'a> {
    report: &'a Report,
    statement: &'a Statement<'a>,
    css: &'static str,
    mailboxes: &'a [super::MailboxScope<'a>],
    more: u64,
}

/// Writes the page.
pub(super) fn write(report: &Report, statement: &Statement<'_>, out: impl Write) -> Result<()> {
    let mut out = BufWriter::new(out);
    let shown = statement.mailboxes.len().min(MAILBOX_ROWS);
    let page = Page {
        report,
        statement,
        css: CSS,
        mailboxes: &statement.mailboxes[..shown],
        more: (statement.mailboxes.len() - shown) as u64,
    };
    page.write_into(&mut out).and_then(|()| out.flush()).map_err(|e| unwritten(&e))
}
