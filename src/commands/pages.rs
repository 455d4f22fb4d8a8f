//! `mailferry completions` and `mailferry man`: what the command line says of itself, for shells and for `man`.

use std::ffi::OsStr;
use std::fs;
use std::process::ExitCode;

use clap::Command;
use clap_mangen::Man;

use super::print;
use crate::cli::{Cli, CompletionsArgs, ManArgs, VERSION};
use crate::local::documents::unusable;
use crate::local::files::{Access, put};
use crate::model::failure::{Failure, Result};

/// The name that both are about, however the program was called.
const NAME: &str = "mailferry";

/// The command line without those commands that are nothing for people.
fn commands() -> Command {
    let whole = Cli::called(OsStr::new(NAME));
    let shown: Vec<Command> =
        whole.get_subcommands().filter(|command| !command.is_hide_set()).cloned().collect();
    // A command cannot be taken out of a command line; so those that stay are put into a fresh one.
    let arguments: Vec<_> = whole.get_arguments().cloned().collect();
    let mut fresh = Command::new(NAME).version(VERSION).subcommands(shown).args(arguments);
    if let Some(about) = whole.get_about() {
        fresh = fresh.about(about.clone());
    }
    if let Some(help) = whole.get_after_help() {
        fresh = fresh.after_help(help.clone());
    }
    fresh
}

pub(super) fn completions(args: &CompletionsArgs) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut commands(), NAME, &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn man(args: &ManArgs) -> Result<ExitCode> {
    let mut whole = commands();
    // Names such as mailferry-run, and the options that all commands have, are known only then.
    whole.build();
    let pages =
        std::iter::once(&whole).chain(whole.get_subcommands().filter(|command| command.get_name() != "help"));
    if let Some(directory) = &args.dir {
        fs::create_dir_all(directory).map_err(|e| unusable(directory, &e))?;
        for command in pages {
            let path = directory.join(format!("{}.1", page_name(command)));
            put(&path, page(command)?.as_bytes(), Access::Usual).map_err(|e| unusable(&path, &e))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let wanted = args.command.as_deref().unwrap_or(NAME);
    let mut known = pages.filter(|command| command.get_name() == wanted);
    let Some(command) = known.next() else {
        return Err(Failure::configuration(format!(
            "{}: is no command",
            crate::model::text::printable(wanted)
        ))
        .hint("mailferry --help lists them"));
    };
    print(&page(command)?)?;
    Ok(ExitCode::SUCCESS)
}

fn page_name(command: &Command) -> String {
    command.get_display_name().unwrap_or(command.get_name()).to_owned()
}

/// A page in roff (man(7)).
fn page(command: &Command) -> Result<String> {
    let mut text = Vec::new();
    let made = Man::new(command.clone()).source(format!("{NAME} {VERSION}")).render(&mut text);
    made.map_err(|e| Failure::internal("a manual page cannot be made").caused_by(&e))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
