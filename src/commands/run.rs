//! `mailferry run`.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;

use super::looking::open;
use super::{print, tell_failure, to_json};
use crate::api::Stage;
use crate::cli::{Output, RunArgs};
use crate::discovery::Clock;
use crate::local::clock::SystemClock;
use crate::local::files::write_whole;
use crate::local::only::Only;
use crate::local::platform::Brought;
use crate::local::progress::display;
use crate::local::reporting::Remembered;
use crate::local::run::{Inputs, Ran, Reach, Wanted, run_migration, tools_for};
use crate::local::state::StateDir;
use crate::local::terminal::{output_columns, shows_output, wants_colour};
use crate::model::failure::{Class, Failure, Result};
use crate::model::text::count;
use crate::plan::Ending;
use crate::report::text::{Style, summary};
use crate::report::{Format, Kind, Report, write};

pub(super) async fn run(args: RunArgs) -> Result<ExitCode> {
    let inputs = Inputs::from(args.inputs);
    let reach = Reach::from(args.reach);
    let (secrets, migrations) = open(&inputs)?;
    let state = StateDir::open(&inputs.state)?;
    let several = migrations.len() > 1;
    let wanted = Wanted { stage: args.stage, only: Only::these(&args.only.addresses) };
    let migrations = wanted.only.choose(migrations, &secrets, &state, &reach).await?;
    let mut worst: Option<Class> = None;
    let mut results = Vec::new();
    let mut printed = Ok(());
    for migration in migrations {
        let shown = display(args.progress);
        let running =
            run_migration(migration.clone(), wanted.clone(), &secrets, &state, &reach, Arc::clone(&shown));
        let ran = Box::pin(running).await;
        shown.finish();
        let ran = match ran {
            Ok(ran) => ran,
            Err(failure) if several && failure.class != Class::Interrupted => {
                Ran { migration, ending: Ending::Stopped(failure), brought: Brought::default() }
            }
            Err(failure) => return Err(failure),
        };
        let report = match tools_for(&ran.migration, &secrets, &state, &reach).await {
            Ok(tools) => {
                let kept = state.migration(&ran.migration)?;
                let known = Remembered::read(ran.migration.clone(), kept, Arc::clone(&tools.store), |at| {
                    tools.list_mailboxes(at)
                })?;
                Some(known.report(SystemClock.now()).await?)
            }
            Err(_) => None,
        };
        let mut worsen = |class: Class| worst = Some(worst.map_or(class, |worst| worst.worse(class)));
        let written = report.as_ref().map(|report| write_reports(report, &inputs.state, several));
        if let Some(Err(failure)) = &written {
            worsen(failure.class);
        }
        if let Ending::Stopped(failure) = &ran.ending {
            worsen(failure.class);
        }
        match args.output {
            Output::Text => {
                if let Some(report) = &report {
                    printed = printed.and(print(&told(report, &ran, written.as_ref())));
                }
                if let Ending::Stopped(failure) = &ran.ending {
                    tell_failure(failure, 0);
                }
            }
            Output::Json => results.push(result(&ran)),
        }
        if let Some(Err(failure)) = &written {
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
    let Brought { new, changed } = ran.brought;
    let ended = match &ran.ending {
        Ending::Reached => json!({"exitCode": 0, "new": new, "changed": changed}),
        Ending::Stopped(failure) => json!({
            "exitCode": failure.class.exit_code(), "failure": failure, "new": new, "changed": changed,
        }),
    };
    if let Some(object) = value.as_object_mut() {
        object.insert("run".to_owned(), ended);
    }
    value
}

/// The text that a person reads at the end of a run.
fn told(report: &Report, ran: &Ran, written: Option<&Result<Vec<PathBuf>>>) -> String {
    let style = Style { columns: output_columns(), colour: shows_output() && wants_colour() };
    let mut text = summary(report, style);
    if ran.migration.spec.stage > Stage::Plan {
        let Brought { new, changed } = ran.brought;
        let _ = writeln!(text, "This run: {} new, {} changed", count(new), count(changed));
    }
    if let Some(Ok(files)) = written {
        let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        let _ = writeln!(text, "\nReport: {}", names.join(" · "));
    }
    text
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
