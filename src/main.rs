//! Starts the command line and turns its end into an exit code; nothing else.

use std::process::ExitCode;

use mailferry::cli::Cli;
use mailferry::{commands, steps};

fn main() -> ExitCode {
    let code = commands::execute(Cli::read());
    steps::write_count();
    code
}
