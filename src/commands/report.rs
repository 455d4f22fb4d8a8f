//! `mailferry report`.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::runtime::Handle;

use super::looking::{only, open};
use super::tell_note;
use crate::cli::{ReportArgs, Whereabouts};
use crate::cluster::access::Access;
use crate::cluster::reading::Reading;
use crate::discovery::Clock;
use crate::local::clock::SystemClock;
use crate::local::dns;
use crate::local::files::write_whole;
use crate::local::reporting::{Remembered, never_run};
use crate::local::run::{Inputs, Reach, tools_for};
use crate::local::state::StateDir;
use crate::local::terminal::{Out, shows_output};
use crate::model::failure::{Failure, Result};
use crate::model::text::counted;
use crate::report::{self, Format, Kind, MessageRow, MessageSink, Report, write};

/// The document to write, and where.
struct Wanted {
    kind: Kind,
    format: Format,
    verdict: Option<String>,
    out: Option<PathBuf>,
}

pub(super) async fn report(args: ReportArgs) -> Result<ExitCode> {
    let ReportArgs { migration, format, kind, verdict, out } = args;
    let named = || out.as_deref().and_then(Format::of);
    let format = format.or_else(named).ok_or_else(|| {
        let path = out.as_deref().unwrap_or_else(|| "".as_ref()).display();
        Failure::configuration(format!("{path}: the name does not say how the report is written"))
            .hint("let it end in .html, .xlsx, .csv, .json or .md, or give --format")
    })?;
    let wanted = Wanted { kind, format, verdict, out };
    match migration.into() {
        Whereabouts::Cluster(access, name) => of_cluster(&access, &name, &wanted).await?,
        Whereabouts::Machine(inputs) => of_machine(&inputs, &wanted).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The DNS records of the move, as they were seen last. Nobody need have run anything else.
fn of_dns(inputs: &Inputs, wanted: &Wanted) -> Result<()> {
    let migration = only(inputs.read()?.migrations)?;
    let state = StateDir::look(&inputs.state)?;
    let report = dns::kept(&migration, &state.migration(&migration)?, SystemClock.now())?;
    wanted.put(|out| report::dns::write(&report, wanted.format, out))
}

async fn of_machine(inputs: &Inputs, wanted: &Wanted) -> Result<()> {
    if wanted.kind == Kind::Dns {
        return of_dns(inputs, wanted);
    }
    let (secrets, migrations) = open(inputs)?;
    let state = StateDir::look(&inputs.state)?;
    let [migration] = &migrations[..] else {
        return Err(Failure::configuration(
            "the manifest holds several migrations, and a report is about one",
        )
        .hint("give the file of one migration with -f"));
    };
    let tools = tools_for(migration, &secrets, &state, &Reach::default()).await?;
    let remembered = Remembered::read(
        migration.clone(),
        state.migration(migration)?,
        Arc::clone(&tools.store),
        state.is_used(),
        |at| tools.list_mailboxes(at),
    )
    .await?;
    if remembered.known.observed.pass == 0 {
        return Err(never_run(migration.metadata.name.as_deref().unwrap_or_default()));
    }
    let report = remembered.report(SystemClock.now()).await?;
    let keep = |row: &MessageRow| wanted.keeps(row);
    let mut unread = None;
    // Writers are plain code; the ledgers answer from threads of their own.
    wanted.write(&report, |sink| {
        let fed = tokio::task::block_in_place(|| Handle::current().block_on(remembered.feed(&keep, sink)))?;
        unread = fed.into_iter().next().map(|(mailbox, failure)| failure.at(mailbox.to_string()));
        Ok(())
    })?;
    let at_source = report.totals().messages.source;
    let known = remembered.known.observed.mailboxes.values().map(|seen| seen.record.counts.source);
    let foreseen = at_source.saturating_sub(known.sum());
    if wanted.kind == Kind::Messages && unread.is_none() && foreseen > 0 {
        let words = counted(foreseen, "message has", "messages have");
        tell_note(&format!(
            "{words} no row: discovery counted them, and the pass that goes through their folders gives them one"
        ));
    }
    // The part that could be read is written; that it is not complete must be reported.
    unread.map_or(Ok(()), Err)
}

async fn of_cluster(access: &Access, name: &str, wanted: &Wanted) -> Result<()> {
    if wanted.kind == Kind::Dns {
        return Err(Failure::configuration("a cluster keeps no records of the DNS").hint(
            "ask from this machine: mailferry dns -f MANIFEST --state DIR, then the report with the same",
        ));
    }
    let messages = wanted.kind == Kind::Messages;
    let verdict = wanted.verdict.as_deref().filter(|_| messages);
    let asked = |word: &&str| verdict.is_some_and(|verdict| verdict.eq_ignore_ascii_case(word));
    if let Some(verdict) = ["Delivered", "Pending"].into_iter().find(asked) {
        // An empty list would look as if there were none.
        return Err(Failure::configuration(format!("a cluster does not name the {verdict} messages"))
            .hint("the ledger does: docs/ledger.md says how to ask it"));
    }
    let reading = Reading::read(&access.connect().await?, name).await?;
    let mut report = reading.report(SystemClock.now())?;
    let omission = if messages { reading.omission(&report, verdict) } else { None };
    report.limits.extend(omission.clone());
    wanted.write(&report, |sink| reading.feed(&|row| wanted.keeps(row), sink))?;
    for note in reading.gaps().chain(omission) {
        tell_note(&note);
    }
    Ok(())
}

impl Wanted {
    fn keeps(&self, row: &MessageRow) -> bool {
        self.verdict.as_ref().is_none_or(|word| row.verdict.word().eq_ignore_ascii_case(word))
    }

    fn write(&self, report: &Report, feed: impl FnOnce(&mut dyn MessageSink) -> Result<()>) -> Result<()> {
        self.put(|out| write(report, self.kind, self.format, out, feed))
    }

    /// Puts what is written where it shall be.
    fn put(&self, written: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
        match &self.out {
            Some(path) => write_whole(path, |draft| written(draft)),
            None if self.format == Format::Xlsx && shows_output() => {
                Err(Failure::configuration("a workbook is nothing for a terminal").hint("give --out PATH"))
            }
            None => {
                let mut out = BufWriter::new(Out::default());
                let written = written(&mut out);
                let flushed = out.flush();
                // A reader that has seen enough need not be given the rest, and that is not a failure.
                if out.get_ref().is_gone() {
                    return Ok(());
                }
                written?;
                out.get_ref().judge(flushed)
            }
        }
    }
}
