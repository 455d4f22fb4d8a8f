//! The options of `mailferry checklist`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};

use super::{ClusterArgs, MACHINE, parse_secret};

/// How a checklist is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ChecklistOutput {
    /// A form to talk through with the customer.
    #[default]
    Markdown,
    /// Fields of spec.checklist to put into the manifest.
    Yaml,
    /// One JSON object.
    Json,
}

/// `mailferry checklist`: as [`MigrationArgs`], but the form is there before there is a state.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("checklist").required(true).args(["name", "files"]))]
pub struct ChecklistArgs {
    /// In a cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// A manifest: MailMigration, Secret and ConfigMap documents; - reads standard input. May be given several times
    #[arg(short = 'f', long = "file", value_name = "PATH", num_args = 1.., help_heading = MACHINE)]
    pub files: Vec<PathBuf>,
    /// The directory that keeps status, ledgers and reports; without it nothing is filled in
    #[arg(long, value_name = "DIR", conflicts_with = "name", help_heading = MACHINE)]
    pub state: Option<PathBuf>,
    /// A Secret from a directory with one file for each key, in place of one in a manifest. May be given several times
    #[arg(long = "secret", value_name = "NAME=DIR", value_parser = parse_secret, conflicts_with = "name", help_heading = MACHINE)]
    pub secrets: Vec<(String, PathBuf)>,
    /// How the form is written
    #[arg(short, long, value_enum, default_value_t)]
    pub output: ChecklistOutput,
}
