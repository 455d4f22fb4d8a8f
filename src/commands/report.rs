//! `mailferry report`.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;

use tokio::runtime::Handle;

use crate::cli::ReportArgs;
use crate::discovery::Clock;
use crate::local::clock::SystemClock;
use crate::local::documents::unusable;
use crate::local::reporting::{Remembered, never_run};
use crate::local::run::{Inputs, Reach, tools_for};
use crate::local::state::StateDir;
use crate::model::failure::{Failure, Result};
use crate::report::{Format, MessageRow, Report, write};

pub(super) async fn report(args: ReportArgs) -> Result<ExitCode> {
    let inputs = Inputs::from(args.inputs);
    let (secrets, migrations) = inputs.open()?;
    let state = StateDir::look(&inputs.state)?;
    let [migration] = &migrations[..] else {
        return Err(Failure::configuration(
            "the manifest holds several migrations, and a report is about one",
        )
        .hint("give the file of one migration with -f"));
    };
    let tools = tools_for(migration, &secrets, &state, &Reach::default()).await?;
    let remembered =
        Remembered::read(migration.clone(), tools.state.clone(), Arc::clone(&tools.store), |at| {
            tools.list_mailboxes(at)
        })?;
    if remembered.record.pass == 0 {
        return Err(never_run(migration.metadata.name.as_deref().unwrap_or_default()));
    }
    let report = remembered.report(SystemClock.now()).await?;
    let wanted = args.verdict.as_deref();
    let keep = |row: &MessageRow| wanted.is_none_or(|word| row.verdict.word().eq_ignore_ascii_case(word));
    let mut unread = None;
    // Writers are plain code; the ledgers answer from threads of their own.
    let feed = |sink: &mut dyn crate::report::MessageSink| {
        let fed = tokio::task::block_in_place(|| Handle::current().block_on(remembered.feed(&keep, sink)))?;
        unread = fed.into_iter().next().map(|(mailbox, failure)| failure.at(mailbox.to_string()));
        Ok(())
    };
    let kind = args.kind;
    let to = |out: &mut dyn Write, report: &Report| write(report, kind, args.format, out, feed);
    match &args.out {
        Some(path) => {
            let file = File::create(path).map_err(|e| unusable(path, &e))?;
            let mut out = BufWriter::new(file);
            to(&mut out, &report)?;
            out.flush().map_err(|e| unusable(path, &e))?;
        }
        None if args.format == Format::Xlsx && io::stdout().is_terminal() => {
            return Err(
                Failure::configuration("a workbook is nothing for a terminal").hint("give --out PATH")
            );
        }
        None => {
            let mut out = Pipe(BufWriter::new(io::stdout()));
            to(&mut out, &report)?;
            let _ = out.flush();
        }
    }
    // What could be read is written; that it is not all must not stay unsaid.
    unread.map_or(Ok(ExitCode::SUCCESS), Err)
}

/// Standard output whose reader may go away (`| head`) without that being a failure.
struct Pipe<W>(W);

impl<W: Write> Write for Pipe<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(bytes.len()),
            written => written,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.0.flush() {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            flushed => flushed,
        }
    }
}
