//! The options of `mailferry validate` and `mailferry init`: what is done before anything is run.

use std::path::PathBuf;

use clap::Args;

use super::{Output, parse_secret};
use crate::api::first::Place;
use crate::local::run::Inputs;
use crate::model::address::Address;

/// `mailferry validate`.
#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// A manifest: MailMigration, Secret and ConfigMap documents; - reads standard input. May be given several times
    #[arg(short = 'f', long = "file", value_name = "PATH", required = true, num_args = 1..)]
    pub files: Vec<PathBuf>,
    /// A Secret from a directory with one file for each key, in place of one in a manifest. May be given several times
    #[arg(long = "secret", value_name = "NAME=DIR", value_parser = parse_secret)]
    pub secrets: Vec<(String, PathBuf)>,
    /// How the result is written to standard output
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

impl ValidateArgs {
    /// The manifests; nothing is kept anywhere.
    pub fn inputs(&self) -> Inputs {
        Inputs { files: self.files.clone(), secrets: self.secrets.clone(), ..Inputs::default() }
    }
}

/// `mailferry init`. An option that is not given is asked for on a terminal.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// A list of mailboxes, as a spreadsheet exports it: CSV with addresses, passwords and, if wanted, where each goes
    #[arg(long, value_name = "LIST", conflicts_with = "mailbox")]
    pub from: Option<PathBuf>,
    /// A mailbox to begin with, where there is no list
    #[arg(long, value_name = "ADDRESS")]
    pub mailbox: Option<Address>,
    /// The IMAP server that the mail goes to
    #[arg(long, value_name = "HOST[:PORT]")]
    pub destination: Option<Place>,
    /// The user who may open every mailbox there; without one the list has a column with the passwords
    #[arg(long, value_name = "USER")]
    pub destination_admin: Option<String>,
    /// The IMAP server that the mail comes from; found by the domain's DNS when it is not given
    #[arg(long, value_name = "HOST[:PORT]")]
    pub source: Option<Place>,
    /// The user who may open every mailbox there; without one the list has a column with the passwords
    #[arg(long, value_name = "USER")]
    pub source_admin: Option<String>,
    /// The name of the migration; after the first domain when it is not given
    #[arg(long, value_name = "NAME", value_parser = super::parse_name)]
    pub name: Option<String>,
    /// The manifest to write; - writes to standard output. A file that is there is never overwritten
    #[arg(long, value_name = "PATH", default_value = "migration.yaml")]
    pub out: PathBuf,
    /// How the result is told on standard output
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}
