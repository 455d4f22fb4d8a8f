//! `mailferry run`.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;

use super::{colour, print, tell_failure, to_json};
use crate::api::MailMigration;
use crate::cli::{Output, RunArgs};
use crate::discovery::Clock;
use crate::local::clock::SystemClock;
use crate::local::documents::unusable;
use crate::local::progress::display;
use crate::local::reporting::Remembered;
use crate::local::run::{Inputs, Reach, run_migration, tools_for};
use crate::local::state::StateDir;
use crate::local::workers::Tools;
use crate::model::failure::{Class, Failure, Result};
use crate::plan::Ending;
use crate::report::text::{Style, summary};
use crate::report::{Format, Kind, Report, write};

/// How long a run that was stopped may take for its report.
const LAST_REPORT: Duration = Duration::from_secs(5);

pub(super) async fn run(args: RunArgs) -> Result<ExitCode> {
    let inputs = Inputs::from(args.inputs);
    let reach = Reach::from(args.reach);
    let (secrets, migrations) = inputs.open()?;
    let state = StateDir::open(&inputs.state)?;
    let several = migrations.len() > 1;
    let mut worst: Option<Class> = None;
    let mut results = Vec::new();
    for migration in migrations {
        let shown = display(args.progress);
        let ran =
            run_migration(migration.clone(), args.stage, &secrets, &state, &reach, Arc::clone(&shown)).await;
        shown.finish();
        let (migration, ending) = match ran {
            Ok(ended) => ended,
            Err(failure) if several => (migration, Ending::Stopped(failure)),
            Err(failure) => return Err(failure),
        };
        let interrupted = match &ending {
            Ending::Stopped(failure) if failure.class == Class::Interrupted => Some(failure.clone()),
            _ => None,
        };
        let written = match tools_for(&migration, &secrets, &state, &reach).await {
            Ok(tools) => {
                let report = report_anew(&tools, &migration, &state, several);
                if interrupted.is_some() {
                    // Whoever stops a run waits for it to go.
                    timeout(LAST_REPORT, report).await.ok().and_then(Result::ok)
                } else {
                    Some(report.await?)
                }
            }
            Err(_) => None,
        };
        if let Some(failure) = interrupted {
            return Err(failure);
        }
        if let Ending::Stopped(failure) = &ending {
            worst = Some(worst.map_or(failure.class, |w| w.worse(failure.class)));
        }
        match args.output {
            Output::Text => tell(&ending, written.as_ref())?,
            Output::Json => results.push(result(&migration, &ending)),
        }
    }
    if args.output == Output::Json {
        // One migration is one object; several are a list, as in kubectl.
        let text = match &results[..] {
            [one] => to_json(one)?,
            _ => to_json(&json!({"apiVersion": "v1", "kind": "List", "items": results}))?,
        };
        print(&text)?;
    }
    Ok(worst.map_or(ExitCode::SUCCESS, |class| ExitCode::from(class.exit_code())))
}

/// The migration with its status, and how the run ended.
fn result(migration: &MailMigration, ending: &Ending) -> serde_json::Value {
    let mut value = json!(migration);
    let ended = match ending {
        Ending::Reached => json!({"exitCode": 0}),
        Ending::Stopped(failure) => json!({"exitCode": failure.class.exit_code(), "failure": failure}),
    };
    if let Some(object) = value.as_object_mut() {
        object.insert("run".to_owned(), ended);
    }
    value
}

fn tell(ending: &Ending, written: Option<&(Report, Vec<PathBuf>)>) -> Result<()> {
    if let Some((report, files)) = written {
        let style = Style { columns: columns(), colour: colour(&io::stdout()) };
        print(&summary(report, style))?;
        let names: Vec<String> = files.iter().map(|f| f.display().to_string()).collect();
        print(&format!("\nReport: {}\n", names.join(" · ")))?;
    }
    if let Ending::Stopped(failure) = ending {
        tell_failure(failure, 0);
    }
    Ok(())
}

/// The terminal's width; 100 where there is none.
fn columns() -> usize {
    terminal_size::terminal_size().map_or(100, |(width, _)| usize::from(width.0).clamp(40, 160))
}

/// Fills the report from what is known now, and writes its files anew.
///
/// # Errors
/// Those of the state directory and the ledgers, and of the files.
pub(super) async fn report_anew(
    tools: &Tools,
    migration: &MailMigration,
    state: &StateDir,
    several: bool,
) -> Result<(Report, Vec<PathBuf>)> {
    let listed = |at| tools.list_mailboxes(at);
    let store = Arc::clone(&tools.store);
    let kept = state.migration(migration)?;
    let remembered = Remembered::read(migration.clone(), kept, store, false, listed).await?;
    let report = remembered.report(SystemClock.now()).await?;
    let files = write_reports(&report, state.root(), migration, several)?;
    Ok((report, files))
}

fn write_reports(
    report: &Report,
    state: &Path,
    migration: &MailMigration,
    several: bool,
) -> Result<Vec<PathBuf>> {
    let suffix = match (&migration.metadata.name, several) {
        (Some(name), true) => format!("-{name}"),
        _ => String::new(),
    };
    let mut files = Vec::new();
    for (format, extension) in [(Format::Html, "html"), (Format::Xlsx, "xlsx")] {
        let path = state.join(format!("report{suffix}.{extension}"));
        let file = File::create(&path).map_err(|e| unusable(&path, &e))?;
        write(report, Kind::Migration, format, file, |_| {
            Err(Failure::internal("a migration report has no messages"))
        })?;
        files.push(path);
    }
    Ok(files)
}
