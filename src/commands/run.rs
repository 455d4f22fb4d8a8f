//! `mailferry run`.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;

use super::looking::open;
use super::{print, tell_failure, to_json};
use crate::api::{MailMigration, Stage};
use crate::cli::{Output, RunArgs};
use crate::discovery::Clock;
use crate::local::clock::SystemClock;
use crate::local::files::write_whole;
use crate::local::only::Only;
use crate::local::platform::Brought;
use crate::local::progress::display;
use crate::local::reporting::Remembered;
use crate::local::run::{Inputs, Ran, Wanted, run_migration, tools_for};
use crate::local::state::StateDir;
use crate::local::terminal::{output_columns, shows_output, wants_colour};
use crate::local::workers::Tools;
use crate::model::failure::{Class, Failure, Result};
use crate::model::text::count;
use crate::plan::Ending;
use crate::report::text::{Given, Style, summary};
use crate::report::{Format, Kind, Report, write};

/// How long a run that was stopped may take for its report.
const LAST_REPORT: Duration = Duration::from_secs(5);

pub(super) async fn run(args: &RunArgs, inputs: &Inputs) -> Result<ExitCode> {
    let (secrets, migrations) = open(inputs)?;
    inputs.check_references(&secrets, &migrations)?;
    let state = StateDir::open(&inputs.state)?;
    let several = migrations.len() > 1;
    let wanted = Wanted { stage: args.stage, only: Only::these(&args.only.addresses) };
    let migrations = wanted.only.choose(migrations, &secrets, &state, &inputs.reach).await?;
    let mut worst: Option<Class> = None;
    let mut results = Vec::new();
    let mut printed = Ok(());
    for migration in migrations {
        let shown = display(args.progress);
        let running = run_migration(
            migration.clone(),
            wanted.clone(),
            &secrets,
            &state,
            &inputs.reach,
            Arc::clone(&shown),
        );
        let ran = Box::pin(running).await;
        shown.finish();
        let ran = match ran {
            Ok(ran) => ran,
            Err(failure) if several => {
                Ran { migration, ending: Ending::Stopped(failure), brought: Brought::default() }
            }
            Err(failure) => return Err(failure),
        };
        let interrupted = match &ran.ending {
            Ending::Stopped(failure) if failure.class == Class::Interrupted => Some(failure.clone()),
            _ => None,
        };
        let reported = match tools_for(&ran.migration, &secrets, &state, &inputs.reach).await {
            Ok(tools) => {
                let report = report_anew(&tools, &ran.migration, &state, several);
                if interrupted.is_some() {
                    // A person who stops a run waits for it to end.
                    timeout(LAST_REPORT, report).await.ok().and_then(Result::ok)
                } else {
                    Some(report.await?)
                }
            }
            Err(_) => None,
        };
        let refused = reported.as_ref().and_then(|reported| reported.files.as_ref().err());
        if let Some(failure) = interrupted {
            if let Some(refused) = refused {
                tell_failure(refused, 0);
            }
            return Err(failure);
        }
        let mut worsen = |class: Class| worst = Some(worst.map_or(class, |worst| worst.worse(class)));
        if let Some(failure) = refused {
            worsen(failure.class);
        }
        if let Ending::Stopped(failure) = &ran.ending {
            worsen(failure.class);
        }
        match args.output {
            Output::Text => {
                if let Some(reported) = &reported {
                    printed = printed.and(print(&told(reported, &ran, &inputs.given())));
                }
                if let Ending::Stopped(failure) = &ran.ending {
                    tell_failure(&inputs.spell_out(failure), 0);
                }
            }
            Output::Json => results.push(result(&ran)),
        }
        if let Some(failure) = refused {
            tell_failure(failure, 0);
        }
    }
    if args.output == Output::Json {
        // One migration is one object; several are a list, as in kubectl.
        let text = match &results[..] {
            [one] => to_json(one)?,
            _ => to_json(&json!({"apiVersion": "v1", "kind": "List", "items": results}))?,
        };
        printed = print(&text);
    }
    printed?;
    Ok(worst.map_or(ExitCode::SUCCESS, |class| ExitCode::from(class.exit_code())))
}

/// The migration with its status, how the run ended, and what it brought.
fn result(ran: &Ran) -> serde_json::Value {
    let mut value = json!(ran.migration);
    let mut ended = json!(ran.brought);
    match &ran.ending {
        Ending::Reached => ended["exitCode"] = json!(0),
        Ending::Stopped(failure) => {
            ended["exitCode"] = json!(failure.class.exit_code());
            ended["failure"] = json!(failure);
        }
    }
    if let Some(object) = value.as_object_mut() {
        object.insert("run".to_owned(), ended);
    }
    value
}

/// The text that a person reads at the end of a run.
fn told(reported: &Reported, ran: &Ran, given: &Given) -> String {
    let style = Style { columns: output_columns(), colour: shows_output() && wants_colour(), given };
    let mut text = summary(&reported.report, style);
    if ran.migration.spec.stage > Stage::Plan {
        let Brought { new, recognised, changed } = ran.brought;
        let there = match recognised {
            0 => String::new(),
            n => format!("{} found there already, ", count(n)),
        };
        let _ = writeln!(text, "This run: {} new, {there}{} changed", count(new), count(changed));
    }
    if let Ok(files) = &reported.files {
        let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        let _ = writeln!(text, "\nReport: {}", names.join(" · "));
    }
    text
}

/// A report that was filled anew, and what became of its files.
pub(super) struct Reported {
    /// The report.
    report: Report,
    /// The files that were written; where they could not be the old ones stay.
    pub(super) files: Result<Vec<PathBuf>>,
}

/// Fills the report from what is known now, and writes its files anew.
///
/// # Errors
/// Those of the state directory and the ledgers.
pub(super) async fn report_anew(
    tools: &Tools,
    migration: &MailMigration,
    state: &StateDir,
    several: bool,
) -> Result<Reported> {
    let listed = |at| tools.list_mailboxes(at);
    let store = Arc::clone(&tools.store);
    let kept = state.migration(migration)?;
    let remembered = Remembered::read(migration.clone(), kept, store, false, listed).await?;
    let report = remembered.report(SystemClock.now()).await?;
    let files = write_reports(&report, state.root(), several);
    Ok(Reported { report, files })
}

fn write_reports(report: &Report, state: &Path, several: bool) -> Result<Vec<PathBuf>> {
    let suffix = if several { format!("-{}", report.name) } else { String::new() };
    let mut files = Vec::new();
    for (format, extension) in [(Format::Html, "html"), (Format::Xlsx, "xlsx")] {
        let path = state.join(format!("report{suffix}.{extension}"));
        write_whole(&path, |draft| {
            write(report, Kind::Migration, format, draft, |_| {
                Err(Failure::internal("a migration report has no messages"))
            })
        })?;
        files.push(path);
    }
    Ok(files)
}
