//! Starts the command line and turns its end into an exit code; nothing else.

use std::process::ExitCode;

use mailferry::cli::Cli;
use mailferry::commands;

fn main() -> ExitCode {
    commands::execute(Cli::read())
}
