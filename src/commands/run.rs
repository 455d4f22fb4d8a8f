//! `mailferry run`.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::looking::open;
use super::{print, tell_failure, tell_note, to_json};
use crate::api::schedule::Span;
use crate::api::{MailMigration, Stage};
use crate::cli::{Output, RunArgs};
use crate::discovery::Clock;
use crate::local::clock::{SystemClock, clock_time};
use crate::local::files::write_whole;
use crate::local::only::Only;
use crate::local::platform::Brought;
use crate::local::progress::display;
use crate::local::reporting::Remembered;
use crate::local::run::{Inputs, Ran, Wanted, run_migration, tools_for};
use crate::local::secrets::Secrets;
use crate::local::state::StateDir;
use crate::local::stop::Stop;
use crate::local::terminal::{output_columns, shows_output, wants_colour};
use crate::local::workers::Tools;
use crate::model::failure::{Class, Failure, Result};
use crate::model::text::count;
use crate::plan::Ending;
use crate::report::text::{Given, Style, summary};
use crate::report::{Format, Kind, Report, write};

/// How long a run that was stopped may take for its report.
const LAST_REPORT: Duration = Duration::from_secs(5);
/// The longest time between two looks at the clock while it waits.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

pub(super) async fn run(args: &RunArgs, inputs: &Inputs) -> Result<ExitCode> {
    let (secrets, migrations) = open(inputs)?;
    inputs.check_references(&secrets, &migrations)?;
    if args.keep {
        check_schedules(&migrations, args.stage)?;
    }
    let state = StateDir::open(&inputs.state)?;
    let several = migrations.len() > 1;
    let wanted = Wanted {
        stage: args.stage,
        only: Only::these(&args.only.addresses),
        keeps: args.keep,
        ..Wanted::default()
    };
    let migrations = wanted.only.choose(migrations, &secrets, &state, &inputs.reach).await?;
    let runner = Runner { args, inputs, secrets, state, several, wanted };
    let begun = SystemClock.now();
    let mut turns: Vec<Turn> =
        migrations.into_iter().map(|migration| Turn::begin(migration, begun)).collect();
    let stop = Stop::listen();
    while let Some(due) = turns.iter().filter_map(|turn| turn.due).min() {
        if !runner.wait_until(due, &turns, &stop).await {
            runner.tell_end(&turns).await;
            break;
        }
        let Some(turn) = turns.iter_mut().find(|turn| turn.due == Some(due)) else { break };
        match runner.take(turn).await {
            Ok(()) => {}
            // Whoever stays waits out what passes by itself.
            Err(failure) if args.keep && turn.passes > 0 && is_passing(&failure) => {
                tell_failure(&inputs.spell_out(&failure), 0);
                turn.due = Some(turn.later(SystemClock.now()));
            }
            Err(failure) => return Err(failure),
        }
    }
    if args.output == Output::Json {
        // One migration is one object; several are a list, as in kubectl.
        let results: Vec<_> = turns.iter_mut().filter_map(|turn| turn.result.take()).collect();
        let text = match &results[..] {
            [one] => to_json(one)?,
            _ => to_json(&json!({"apiVersion": "v1", "kind": "List", "items": results}))?,
        };
        print(&text)?;
    }
    let printed = turns.iter_mut().try_for_each(|turn| std::mem::replace(&mut turn.printed, Ok(())));
    printed?;
    let worst = turns.iter().filter_map(|turn| turn.worst).reduce(Class::worse);
    Ok(worst.map_or(ExitCode::SUCCESS, |class| ExitCode::from(class.exit_code())))
}

/// Refuses to stay where nothing would ever follow.
fn check_schedules(migrations: &[MailMigration], stage: Option<Stage>) -> Result<()> {
    let follows = |migration: &MailMigration| {
        let spec = &migration.spec;
        let schedule = spec.schedule.as_ref();
        stage.unwrap_or(spec.stage) > Stage::Plan
            && schedule.is_some_and(|schedule| schedule.every.is_some() || !schedule.windows.is_empty())
    };
    if migrations.iter().any(follows) {
        return Ok(());
    }
    Err(Failure::configuration(
        "--keep: no migration of the manifest has a schedule at the stage Sync, so nothing would follow",
    )
    .hint("set spec.schedule.every, as in 6h, and spec.stage: Sync, or leave --keep out"))
}

/// Whether a failure at the beginning of a pass may be gone at the next.
fn is_passing(failure: &Failure) -> bool {
    failure.class.is_retryable() && failure.class != Class::Interrupted
}

/// One migration of the run, between two of its passes.
struct Turn {
    migration: MailMigration,
    /// When it is run next; `None` once nothing follows by itself.
    due: Option<Timestamp>,
    /// Whether its pass paused where a window closed.
    paused: bool,
    /// Passes that were begun.
    passes: u32,
    /// The messages that all of them brought.
    brought: Brought,
    /// The worst of the last one.
    worst: Option<Class>,
    /// The object that says how the last one went.
    result: Option<serde_json::Value>,
    printed: Result<()>,
}

impl Turn {
    fn begin(migration: MailMigration, due: Timestamp) -> Self {
        Self {
            migration,
            due: Some(due),
            paused: false,
            passes: 0,
            brought: Brought::default(),
            worst: None,
            result: None,
            printed: Ok(()),
        }
    }

    fn name(&self) -> &str {
        self.migration.metadata.name.as_deref().unwrap_or_default()
    }

    /// When it is tried again after a pass that could not begin.
    fn later(&self, now: Timestamp) -> Timestamp {
        let every = self.migration.spec.schedule.as_ref().and_then(|schedule| schedule.every);
        let wait = every.map_or(SignedDuration::from_mins(1), Span::duration);
        now.saturating_add(wait).unwrap_or(now)
    }
}

/// All that is the same for every pass of every migration.
struct Runner<'a> {
    args: &'a RunArgs,
    inputs: &'a Inputs,
    secrets: Arc<Secrets>,
    state: StateDir,
    several: bool,
    wanted: Wanted,
}

impl Runner<'_> {
    /// Waits until something is due, and says what is waited for; whether nobody asked to stop meanwhile.
    async fn wait_until(&self, due: Timestamp, turns: &[Turn], stop: &Stop) -> bool {
        if due <= SystemClock.now() {
            return true;
        }
        let display = display(self.args.progress);
        for turn in turns {
            if let Some(due) = turn.due {
                display.waits(turn.name(), due, turn.paused);
            }
        }
        display.finish();
        loop {
            let left = due.duration_since(SystemClock.now());
            let Some(left) = Duration::try_from(left).ok().filter(|left| !left.is_zero()) else {
                return true;
            };
            tokio::select! {
                biased;
                () = stop.asked() => return false,
                // A clock that is set must not put it off, nor a machine that slept.
                () = sleep(left.min(LOOK_AGAIN)) => {}
            }
        }
    }

    /// Says that it ends between two passes. The report of one that paused said that it would go on.
    async fn tell_end(&self, turns: &[Turn]) {
        for turn in turns {
            let Some(due) = turn.due else { continue };
            let what = if turn.paused { "while it paused" } else { "between two passes" };
            tell_note(&format!(
                "{}: stopped {what}; the next thing would have been at {}",
                turn.name(),
                clock_time(due, SystemClock.now())
            ));
            if !turn.paused {
                continue;
            }
            let Self { secrets, state, inputs, several, .. } = self;
            let report = async {
                let tools = tools_for(&turn.migration, secrets, state, &inputs.reach).await?;
                report_anew(&tools, &turn.migration, state, *several, false).await
            };
            let _ = timeout(LAST_REPORT, report).await;
        }
    }

    /// Runs a migration once, writes its report and prints what is to be printed.
    async fn take(&self, turn: &mut Turn) -> Result<()> {
        let Self { args, inputs, secrets, state, several, wanted } = self;
        let several = *several;
        let shown = display(args.progress);
        let wanted = Wanted { resumes: turn.paused, ..wanted.clone() };
        let migration = turn.migration.clone();
        let running =
            run_migration(migration.clone(), wanted, secrets, state, &inputs.reach, Arc::clone(&shown));
        let ran = Box::pin(running).await;
        shown.finish();
        let ran = match ran {
            Ok(ran) => ran,
            Err(failure) if several && !(args.keep && turn.passes > 0) => {
                Ran { migration, ending: Ending::Stopped(failure), brought: Brought::default() }
            }
            Err(failure) => return Err(failure),
        };
        let halted = match &ran.ending {
            Ending::Stopped(failure) if failure.class == Class::Interrupted => Some(failure.clone()),
            _ => None,
        };
        let interrupted = halted.clone().filter(|_| Stop::listen().is_asked());
        turn.paused = halted.is_some();
        turn.passes += 1;
        turn.brought += ran.brought;
        let scheduled = ran.migration.status.as_ref().and_then(|status| status.schedule);
        let passing = matches!(&ran.ending, Ending::Stopped(failure) if is_passing(failure));
        let next = scheduled.map(|schedule| schedule.next);
        // One that could not even begin has no status that says when it follows.
        let next = next
            .or_else(|| (passing && ran.migration.status.is_none()).then(|| turn.later(SystemClock.now())));
        turn.due = next.filter(|_| args.keep);
        let goes_on = turn.due.is_some() && interrupted.is_none();
        let reported = match tools_for(&ran.migration, secrets, state, &inputs.reach).await {
            Ok(tools) => {
                let report = report_anew(&tools, &ran.migration, state, several, goes_on);
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
        let stopped = match &ran.ending {
            Ending::Reached => None,
            Ending::Stopped(failure) => Some(failure),
        };
        turn.worst = refused.into_iter().chain(stopped).map(|failure| failure.class).reduce(Class::worse);
        match args.output {
            Output::Text => {
                if let Some(reported) = &reported {
                    let text = match turn.passes {
                        1 => told(reported, &ran, &inputs.given(), args.keep),
                        passes => told_again(&ran, passes),
                    };
                    let printed = print(&text);
                    turn.printed = std::mem::replace(&mut turn.printed, Ok(())).and(printed);
                }
                // One that waits for a window says so where it waits.
                if let Some(failure) = stopped.filter(|_| !(turn.paused && goes_on)) {
                    tell_failure(&inputs.spell_out(failure), 0);
                }
            }
            Output::Json => turn.result = Some(result(&ran, turn.brought)),
        }
        if let Some(failure) = refused {
            tell_failure(failure, 0);
        }
        Ok(())
    }
}

/// The migration with its status, how the run ended, and what it brought.
fn result(ran: &Ran, brought: Brought) -> serde_json::Value {
    let mut value = json!(ran.migration);
    // Nobody is there for it once this is printed.
    if let Some(status) = value.get_mut("status").and_then(serde_json::Value::as_object_mut) {
        status.remove("schedule");
    }
    let mut ended = json!(brought);
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
fn told(reported: &Reported, ran: &Ran, given: &Given, keeps: bool) -> String {
    let style = Style { columns: output_columns(), colour: shows_output() && wants_colour(), given };
    let mut text = summary(&reported.report, style);
    if ran.migration.spec.stage > Stage::Plan {
        let _ = writeln!(text, "This run: {}", brought(ran.brought));
        let every = ran.migration.spec.schedule.as_ref().and_then(|schedule| schedule.every);
        if let Some(every) = every.filter(|_| !keeps) {
            let _ = writeln!(
                text,
                "This was one pass; spec.schedule.every says {every}: `mailferry run --keep` stays and begins the next ones"
            );
        }
    }
    if let Ok(files) = &reported.files {
        let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        let _ = writeln!(text, "\nReport: {}", names.join(" · "));
    }
    text
}

/// The messages that came, in words.
fn brought(brought: Brought) -> String {
    let Brought { new, recognised, changed } = brought;
    let there = match recognised {
        0 => String::new(),
        n => format!("{} found there already, ", count(n)),
    };
    format!("{} new, {there}{} changed", count(new), count(changed))
}

/// The line about a pass that is not the first of its run.
fn told_again(ran: &Ran, passes: u32) -> String {
    let name = ran.migration.metadata.name.as_deref().unwrap_or_default();
    let messages = ran.migration.status.as_ref().and_then(|status| status.messages);
    let messages = messages.map_or_else(String::new, |messages| format!("; {messages}"));
    format!("{name}  pass {passes} of this run: {}{messages}\n", brought(ran.brought))
}

/// A report that was filled anew, and what became of its files.
pub(super) struct Reported {
    /// The report.
    report: Report,
    /// The files that were written; where they could not be the old ones stay.
    pub(super) files: Result<Vec<PathBuf>>,
}

/// Fills the report from what is known now, and writes its files anew. `goes_on` says that somebody stays for what follows.
///
/// # Errors
/// Those of the state directory and the ledgers.
pub(super) async fn report_anew(
    tools: &Tools,
    migration: &MailMigration,
    state: &StateDir,
    several: bool,
    goes_on: bool,
) -> Result<Reported> {
    let listed = |at| tools.list_mailboxes(at);
    let store = Arc::clone(&tools.store);
    let kept = state.migration(migration)?;
    let remembered = Remembered::read(migration.clone(), kept, store, goes_on, listed).await?;
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
