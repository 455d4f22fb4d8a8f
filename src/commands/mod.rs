//! One file a subcommand. This room alone has results to print, and turns failures into exit codes.

mod checklist;
mod crd;
mod dns;
mod init;
pub mod logging;
mod login;
mod looking;
mod operator;
mod pages;
mod plan;
mod providers;
mod report;
mod run;
mod status;
mod support_bundle;
mod validate;
mod verify;
mod worker;

use std::process::ExitCode;

use crate::cli::{Cli, Command};
use crate::local::terminal::{print, tell};
use crate::model::failure::{Failure, Result};

/// Runs a command.
pub fn execute(cli: Cli) -> ExitCode {
    let service = cli.command.is_service();
    let settings = logging::Settings { verbose: cli.verbose, format: cli.log_format, service };
    let log = match logging::start(settings) {
        Ok(log) => log,
        Err(failure) => return end(Err(failure), cli.verbose),
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            let failure = Failure::internal("the runtime could not be started").caused_by(&error);
            return end(Err(failure), cli.verbose);
        }
    };
    let done = runtime.block_on(async {
        match cli.command {
            Command::Init(args) => init::init(&args),
            Command::Validate(args) => validate::validate(&args),
            Command::Run(args) => {
                let inputs = args.inputs.reaching(&args.reach, args.retry_logins);
                run::run(&args, &inputs).await.map_err(|failure| inputs.spell_out(&failure))
            }
            Command::Status(args) => status::status(args).await,
            Command::Report(args) => report::report(args).await,
            Command::Plan(args) => plan::plan(args).await,
            Command::Checklist(args) => checklist::checklist(args).await,
            Command::SupportBundle(args) => support_bundle::support_bundle(args).await,
            Command::Verify(args) => {
                let inputs = args.inputs.reaching(&args.reach, args.retry_logins);
                verify::verify(&args, &inputs).await.map_err(|failure| inputs.spell_out(&failure))
            }
            Command::Dns(args) => {
                let inputs = args.inputs.reaching(&args.reach(), false);
                dns::dns(&args, &inputs).await.map_err(|failure| inputs.spell_out(&failure))
            }
            Command::Login(args) => login::login(args).await,
            Command::Providers(args) => providers::providers(&args),
            Command::Operator(args) => operator::operator(*args, log).await,
            Command::Crd(args) => crd::crd(&args),
            Command::Completions(args) => pages::completions(&args),
            Command::Man(args) => pages::man(&args),
            Command::Discover(args) => worker::discover(args).await,
            Command::Sync(args) => worker::sync(args).await,
        }
    });
    // Threads that wait for a name server must not keep a finished command alive.
    runtime.shutdown_background();
    end(done, cli.verbose)
}

fn end(done: Result<ExitCode>, verbose: u8) -> ExitCode {
    match done {
        Ok(code) => code,
        Err(failure) => {
            tell_failure(&failure, verbose);
            ExitCode::from(failure.class.exit_code())
        }
    }
}

/// The setting that servers need whose certificates no public authority signs.
const AUTHORITY: &str =
    "if an authority of your own signs the servers' certificates give it with --ca FILE or in caRef";

/// The settings that servers inside a private network need beside their names. They are named before anything is asked:
/// each of the two shows only where the other one is given. `which` tells the servers from those that are listed already.
fn private(which: &str) -> String {
    format!(
        "for {which}servers with private addresses list their network in spec.policy.allowedNetworks, and {AUTHORITY}"
    )
}

fn tell_failure(failure: &Failure, verbose: u8) {
    let causes = failure.causes.iter().filter(|_| verbose > 0);
    let causes: String = causes.flat_map(|cause| ["  cause: ", cause.as_str(), "\n"]).collect();
    tell(&format!("error: {failure}\n{causes}"));
}

/// Tells something on standard error that is not a failure: standard output may be a document.
fn tell_note(note: &str) {
    tell(&format!("note: {note}\n"));
}

/// A value as pretty JSON with a line end.
fn to_json(value: &impl serde::Serialize) -> Result<String> {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|e| Failure::internal("a result is not JSON").caused_by(&e))?;
    text.push('\n');
    Ok(text)
}
