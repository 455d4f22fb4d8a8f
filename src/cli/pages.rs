//! The options of `mailferry completions` and `mailferry man`.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

/// `mailferry completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    pub shell: Shell,
}

/// `mailferry man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// A command; Mailferry as a whole when it is not given
    #[arg(value_name = "COMMAND", conflicts_with = "dir")]
    pub command: Option<String>,
    /// Writes the pages of all commands to this directory, instead of one to standard output
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}
