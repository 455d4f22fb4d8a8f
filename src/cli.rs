//! The command line: what a user may type, with its help.

mod checklist;
mod dns;
mod first;
mod login;
mod only;
mod pages;

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::ResourceRequirements;

pub use self::checklist::{ChecklistArgs, ChecklistOutput};
pub use self::dns::{DnsArgs, DnsOutput};
pub use self::first::{InitArgs, ValidateArgs};
pub use self::login::{LoginArgs, ProvidersArgs};
pub use self::only::OnlyArgs;
pub use self::pages::{CompletionsArgs, ManArgs};
use crate::api::Stage;
use crate::cluster::access::Access;
use crate::cluster::objects;
use crate::local::progress::Style;
use crate::local::run::{Inputs, Reach};
use crate::model::failure::{Class, Row};
use crate::model::record::Depth;
use crate::operator::settings::WorkerPod;
use crate::report::{Format, Kind};
use crate::worker::Mounts;

/// Moves mail out of mixed-protocol environments: finds out what every mailbox speaks, says what will be done and what
/// would be lost, copies every message exactly once, and proves what arrived.
#[derive(Debug, Parser)]
#[command(
    name = "mailferry",
    version = VERSION,
    max_term_width = 100,
    after_help = closing_help()
)]
pub struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
    /// Tells more: causes of failures, and a log on standard error; twice for every step. Never shows a password
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// How the log is written: text for people, or json with one object on a line
    #[arg(long, global = true, value_enum, default_value_t, hide_possible_values = true)]
    #[arg(env = "MAILFERRY_LOG_FORMAT", hide_env = true)]
    pub log_format: LogFormat,
}

/// The version, with the commit that the program is built from where that is known.
pub const VERSION: &str = env!("MAILFERRY_VERSION");

/// The name of the binary as a plugin of kubectl, which looks for it on the PATH.
const PLUGIN: &str = "kubectl-mailferry";

impl Cli {
    /// Reads the command line of this process; ends the process when it cannot be understood, or asks for help.
    pub fn read() -> Self {
        let program = std::env::args_os().next().unwrap_or_default();
        let matches = Self::called(&program).get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }

    /// The command line, in the words of how it was called: `mailferry status` or `kubectl mailferry status`.
    pub fn called(program: &OsStr) -> clap::Command {
        let plugin =
            Path::new(program).file_stem().and_then(OsStr::to_str).is_some_and(|p| p.ends_with(PLUGIN));
        let name = if plugin { "kubectl mailferry" } else { "mailferry" };
        let spell = move |command: clap::Command| match command.get_after_help().map(ToString::to_string) {
            Some(text) if plugin => command.after_help(text.replace("mailferry ", "kubectl mailferry ")),
            _ => command,
        };
        let subcommand = move |command: clap::Command| {
            let word = command.get_name().to_owned();
            let command = spell(command);
            if !["status", "report", "plan", "support-bundle"].contains(&word.as_str()) {
                return command;
            }
            command.override_usage(format!(
                "{name} {word} [OPTIONS] [-n NAMESPACE] NAME\n       {name} {word} [OPTIONS] -f PATH... --state DIR"
            ))
        };
        spell(Self::command()).bin_name(name).mut_subcommands(subcommand)
    }
}

/// How the log is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line for each record, for people.
    #[default]
    Text,
    /// One JSON object on a line for each record, for machines.
    Json,
}

/// The words below the list of commands. The exit codes are those of the failure table.
fn closing_help() -> String {
    let code = |row: &Row| row.exit.map(|exit| format!("{exit} {}", row.class));
    let codes: Vec<String> = Class::table().iter().filter_map(code).collect();
    format!(
        "Begin with: mailferry init, then mailferry run -f MANIFEST --state DIR --stage Plan\n\n\
         Exit codes: 0 the wanted stage was reached; {}; 2 the command line cannot be understood.\n\n\
         Environment: NO_COLOR turns colours off; MAILFERRY_LOG is a log filter such as mailferry=debug;\n\
         MAILFERRY_LOG_FORMAT is --log-format.",
        codes.join(", ")
    )
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Writes a first manifest, from a list of mailboxes or by asking
    #[command(after_help = "Examples:\n  \
        mailferry init                                                 asks, on a terminal\n  \
        mailferry init --from users.csv --destination imap.new.example --source mail.old.example\n  \
        mailferry init --from users.csv --destination imap.new.example --destination-admin migration\n  \
        mailferry init --mailbox anna@old.example --destination imap.new.example\n\n\
        A list is CSV as a spreadsheet exports it: any delimiter, UTF-8, UTF-16 or Windows-1252, heads in any language. It stays \
        where it is, and no password is written anywhere.")]
    Init(InitArgs),
    /// Tells everything that is wrong with manifests and lists, without a network
    #[command(after_help = "Examples:\n  \
        mailferry validate -f contoso.yaml\n  \
        mailferry validate -f contoso.yaml -f secrets.yaml --output json\n\n\
        Every row of every list is looked at, with its line. Exit code 0 says that nothing is wrong that could be told so.")]
    Validate(ValidateArgs),
    /// Carries out a migration from this machine, without a cluster
    #[command(after_help = "Examples:\n  \
        mailferry run -f contoso.yaml --state ./state --stage Plan     look, report, write nothing\n  \
        mailferry run -f contoso.yaml --state ./state                  as far as spec.stage says\n  \
        mailferry run -f contoso.yaml -f secrets.yaml --state ./state  the same again: only what is new\n  \
        mailferry run -f contoso.yaml --state ./state --only anna@contoso.example\n  \
        mailferry run -f contoso.yaml --state ./state --keep           pass after pass, as spec.schedule says\n\n\
        Stop it at any time and run it again: it goes on. The reports lie in the state directory. Stopped between two passes, \
        --keep ends with the exit code of the last one; within a pass, with 40.")]
    Run(RunArgs),
    /// Shows how a migration stands: domains, findings, conditions
    #[command(after_help = "Examples:\n  \
        mailferry status -n contoso-mail contoso                       in a cluster\n  \
        mailferry status -f contoso.yaml --state ./state --output yaml")]
    Status(StatusArgs),
    /// Writes the report from what is known, without asking a mail server
    #[command(after_help = "Examples:\n  \
        mailferry report -n contoso-mail contoso -o contoso.html       in a cluster\n  \
        mailferry report -f contoso.yaml --state ./state -o contoso.html\n  \
        mailferry report -f contoso.yaml --state ./state --format csv --kind discovery\n  \
        mailferry report -f contoso.yaml --state ./state --kind sow --out sow.html    what would be ordered\n  \
        mailferry report -f contoso.yaml --state ./state --kind dns -o dns.html       the DNS records of the move\n  \
        mailferry report -f contoso.yaml --state ./state --format csv --kind messages \\\n    \
        --verdict Quarantined                                        what did not arrive, and why")]
    Report(ReportArgs),
    /// Shows the plan, and what changed against the approved one or the one before, without asking a mail server
    #[command(after_help = "Examples:\n  \
        mailferry plan -f contoso.yaml --state ./state                 what would be done, and its digest\n  \
        mailferry plan -f contoso.yaml --state ./state --diff          what changed\n  \
        mailferry plan -n contoso-mail contoso --diff                  in a cluster, in brief\n\n\
        Look first: mailferry run … --stage Plan. Then copy the digest into spec.approvedPlan: nothing but this plan is \
        carried out.")]
    Plan(PlanArgs),
    /// Prints the checklist before the order as a form, with what discovery knows filled in
    #[command(after_help = "Examples:\n  \
        mailferry checklist -f contoso.yaml                            the empty form, before anything was run\n  \
        mailferry checklist -f contoso.yaml --state ./state            with what discovery knows\n  \
        mailferry checklist -f contoso.yaml --state ./state -o yaml    to put into the manifest\n  \
        mailferry checklist -n contoso-mail contoso                    in a cluster")]
    Checklist(ChecklistArgs),
    /// Packs everything that a supporter needs into one archive: no secrets, no subjects, and no addresses if you like
    #[command(after_help = "Examples:\n  \
        mailferry support-bundle -f contoso.yaml --state ./state --hash-addresses\n  \
        mailferry support-bundle -n contoso-mail contoso --out contoso.tar.gz\n\n\
        Look into it before you send it: tar -xzf. Names of hosts, domains and folders are in it.")]
    SupportBundle(SupportBundleArgs),
    /// Checks every delivered message against what the destination holds now
    #[command(after_help = "Examples:\n  \
        mailferry verify -f contoso.yaml --state ./state --depth Full\n  \
        mailferry verify -f contoso.yaml --state ./state --repair      send again what is missing")]
    Verify(VerifyArgs),
    /// Asks the name servers about the records of the move, and says what must change; it changes nothing
    #[command(after_help = "Examples:\n  \
        mailferry dns -f contoso.yaml --state ./state                  now, wanted, and who has it\n  \
        mailferry dns -f contoso.yaml --state ./state --output zone    lines for the zone file\n  \
        mailferry dns -f contoso.yaml --state ./state --output dnsendpoint | kubectl apply -f -\n  \
        mailferry report -f contoso.yaml --state ./state --kind dns -o dns.html\n\n\
        Each name server of a zone is asked by itself, and the resolver. All that was seen is kept in the state directory; ask \
        again at any time, also while a run is at work. Mailferry changes no DNS.")]
    Dns(DnsArgs),
    /// Logs a user in by a code that is typed in a browser, and keeps the refresh token for later runs
    #[command(after_help = "Examples:\n  \
        mailferry login --username anna@contoso.example --tenant contoso.onmicrosoft.com --client-id ID --secret secrets/anna\n  \
        mailferry run -f contoso.yaml --state ./state --secret contoso-source=secrets/anna\n\n\
        The directory holds a Secret's keys, one file each: username, clientId, tenantId, refreshToken. An application that may \
        open every mailbox needs no login: see docs/providers.md.")]
    Login(LoginArgs),
    /// Lists the services that are known by name: hosts, token endpoints and scopes, each with its source
    #[command(after_help = "Example:\n  mailferry providers --output json")]
    Providers(ProvidersArgs),
    /// Runs in a Kubernetes cluster and carries out the `MailMigrations` there
    #[command(
        after_help = "The Helm chart charts/mailferry starts it with all of this; each flag can be given by an environment \
        variable MAILFERRY_<FLAG> too.\n\nExample:\n  mailferry operator --image registry.example/mailferry:0.1.0 --lease-namespace mailferry-system"
    )]
    Operator(Box<OperatorArgs>),
    /// Prints the custom resource definitions for Kubernetes
    #[command(after_help = "Examples:\n  \
        mailferry crd | kubectl apply -f -\n  \
        mailferry crd --dir crds                                       one file for each kind")]
    Crd(CrdArgs),
    /// Prints what a shell needs to complete commands and options by the Tab key
    #[command(after_help = "Examples:\n  \
        mailferry completions bash > ~/.local/share/bash-completion/completions/mailferry\n  \
        mailferry completions zsh > ~/.zfunc/_mailferry                fpath+=~/.zfunc before compinit\n  \
        mailferry completions fish > ~/.config/fish/completions/mailferry.fish")]
    Completions(CompletionsArgs),
    /// Prints the manual page, of Mailferry or of one of its commands
    #[command(after_help = "Examples:\n  \
        mailferry man | man -l -\n  \
        mailferry man run | man -l -\n  \
        mailferry man --dir ~/.local/share/man/man1                    one file for each command")]
    Man(ManArgs),
    /// Finds out about one domain. The operator starts it in a pod of its own; it is nothing for people
    #[command(hide = true)]
    Discover(MountArgs),
    /// Carries a slice of a domain's mailboxes. The operator starts it in pods of its own; it is nothing for people
    #[command(hide = true)]
    Sync(SyncArgs),
}

impl Command {
    /// Whether it runs in a cluster, where its log is all that can be seen of it.
    pub fn is_service(&self) -> bool {
        matches!(self, Self::Operator(_) | Self::Discover(_) | Self::Sync(_))
    }
}

/// Where a pod finds what it needs.
#[derive(Debug, Args)]
pub struct MountArgs {
    /// The directory with the work list
    #[arg(long, value_name = "DIR", default_value = objects::WORK_DIR, hide = true)]
    pub work: PathBuf,
    /// The directory with a directory for each Secret
    #[arg(long, value_name = "DIR", default_value = objects::SECRETS_DIR, hide = true)]
    pub secrets: PathBuf,
    /// The directory with a directory for each ConfigMap
    #[arg(long, value_name = "DIR", default_value = objects::CONFIG_MAPS_DIR, hide = true)]
    pub config_maps: PathBuf,
    /// The directory of the ledgers
    #[arg(long, value_name = "DIR", default_value = objects::LEDGER_DIR, hide = true)]
    pub ledgers: PathBuf,
    /// The directory of the volumes with mail
    #[arg(long, value_name = "DIR", default_value = objects::VOLUMES_DIR, hide = true)]
    pub volumes: PathBuf,
}

impl From<MountArgs> for Mounts {
    fn from(args: MountArgs) -> Self {
        let MountArgs { work, secrets, config_maps, ledgers, volumes } = args;
        Self { work, secrets, config_maps, ledgers, volumes }
    }
}

/// `mailferry sync`.
#[derive(Debug, Args)]
pub struct SyncArgs {
    /// Where the pod finds what it needs.
    #[command(flatten)]
    pub mounts: MountArgs,
    /// The slice of the work list; Kubernetes sets the variable
    #[arg(long, value_name = "N", env = "JOB_COMPLETION_INDEX")]
    pub index: usize,
}

/// Manifests and state.
#[derive(Debug, Args)]
pub struct InputArgs {
    /// A manifest: MailMigration, Secret and ConfigMap documents; - reads standard input. May be given several times
    #[arg(short = 'f', long = "file", value_name = "PATH", required = true, num_args = 1..)]
    pub files: Vec<PathBuf>,
    /// The directory that keeps status, ledgers and reports; `run` makes it
    #[arg(long, value_name = "DIR")]
    pub state: PathBuf,
    /// A Secret from a directory with one file for each key, in place of one in a manifest. May be given several times
    #[arg(long = "secret", value_name = "NAME=DIR", value_parser = parse_secret)]
    pub secrets: Vec<(String, PathBuf)>,
}

impl InputArgs {
    /// The manifests and the state of a command that connects to servers.
    pub fn reaching(&self, reach: &ReachArgs, retry_logins: bool) -> Inputs {
        let Self { files, state, secrets } = self;
        let (files, state, secrets) = (files.clone(), state.clone(), secrets.clone());
        Inputs { files, state, secrets, reach: Reach { retry_logins, ..reach.into() } }
    }
}

/// A migration in a cluster, for commands that take manifests (`files`) in its place.
#[derive(Debug, Args)]
pub struct ClusterArgs {
    /// A MailMigration in a cluster, in place of -f and --state
    #[arg(value_name = "NAME", value_parser = parse_name)]
    pub name: Option<String>,
    /// Its namespace; that of the kubeconfig's context when it is not given
    #[arg(short, long, requires = "name", conflicts_with = "files", help_heading = CLUSTER)]
    pub namespace: Option<String>,
    /// The context of the kubeconfig; the current one when it is not given
    #[arg(long, requires = "name", conflicts_with = "files", help_heading = CLUSTER)]
    pub context: Option<String>,
    /// The kubeconfig; that of KUBECONFIG or of the home directory when it is not given
    #[arg(long, value_name = "PATH", requires = "name", conflicts_with = "files", help_heading = CLUSTER)]
    pub kubeconfig: Option<PathBuf>,
}

impl ClusterArgs {
    /// Where it is, if a name was given.
    pub fn whereabouts(self) -> Option<Whereabouts> {
        let Self { name, namespace, context, kubeconfig } = self;
        name.map(|name| Whereabouts::Cluster(Access { kubeconfig, context, namespace }, name))
    }
}

/// Which migration: one in a cluster, or those of manifests and a state directory.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("migration").required(true).args(["name", "files"]))]
pub struct MigrationArgs {
    /// In a cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// A manifest: MailMigration, Secret and ConfigMap documents; - reads standard input. May be given several times
    #[arg(short = 'f', long = "file", value_name = "PATH", num_args = 1.., requires = "state", help_heading = MACHINE)]
    pub files: Vec<PathBuf>,
    /// The directory that keeps status, ledgers and reports
    #[arg(long, value_name = "DIR", conflicts_with = "name", help_heading = MACHINE)]
    pub state: Option<PathBuf>,
    /// A Secret from a directory with one file for each key, in place of one in a manifest. May be given several times
    #[arg(long = "secret", value_name = "NAME=DIR", value_parser = parse_secret, conflicts_with = "name", help_heading = MACHINE)]
    pub secrets: Vec<(String, PathBuf)>,
}

const CLUSTER: &str = "In a cluster";
const MACHINE: &str = "On this machine";

/// Where the migration of a command is.
#[derive(Debug)]
pub enum Whereabouts {
    /// In a cluster, under a name.
    Cluster(Access, String),
    /// In manifests and a state directory.
    Machine(Inputs),
}

impl From<MigrationArgs> for Whereabouts {
    fn from(args: MigrationArgs) -> Self {
        let MigrationArgs { cluster, files, state, secrets } = args;
        let state = state.unwrap_or_default();
        cluster.whereabouts().unwrap_or(Self::Machine(Inputs { files, state, secrets, ..Inputs::default() }))
    }
}

/// The name of an object in a cluster: a DNS subdomain (RFC 1123).
fn parse_name(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    if !text.is_empty() && text.len() <= 253 && text.chars().all(allowed) && !text.starts_with(['-', '.']) {
        Ok(text.to_owned())
    } else {
        Err("it is no name of an object: lower case letters, digits, - and .".to_owned())
    }
}

fn parse_secret(text: &str) -> Result<(String, PathBuf), String> {
    let (name, directory) = text.split_once('=').ok_or("write NAME=DIR")?;
    let directory = PathBuf::from(directory);
    if directory.is_dir() {
        Ok((name.to_owned(), directory))
    } else {
        Err(format!("{} is no directory", directory.display()))
    }
}

/// The way to servers.
#[derive(Debug, Args)]
pub struct ReachArgs {
    /// The name server to ask instead of the system's
    #[arg(long, value_name = "IP:PORT")]
    pub resolver: Option<SocketAddr>,
    /// A file with certificate authorities (PEM) to trust beside the system's; may be given several times, for servers of
    /// different authorities
    #[arg(long = "ca", value_name = "FILE")]
    pub authorities: Vec<PathBuf>,
}

impl From<&ReachArgs> for Reach {
    fn from(args: &ReachArgs) -> Self {
        Self { resolver: args.resolver, authorities: args.authorities.clone(), retry_logins: false }
    }
}

/// How a result is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// How a status is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum StatusOutput {
    /// For people.
    #[default]
    Text,
    /// One JSON object.
    Json,
    /// YAML, as `kubectl get -o yaml` would show it.
    Yaml,
}

fn parse_stage(text: &str) -> Result<Stage, String> {
    match text.to_ascii_lowercase().as_str() {
        "plan" => Ok(Stage::Plan),
        "sync" => Ok(Stage::Sync),
        "cutover" => Ok(Stage::Cutover),
        _ => Err("it is Plan, Sync or Cutover".to_owned()),
    }
}

fn parse_depth(text: &str) -> Result<Depth, String> {
    match text.to_ascii_lowercase().as_str() {
        "sizes" => Ok(Depth::Sizes),
        "sampled" => Ok(Depth::Sampled),
        "full" => Ok(Depth::Full),
        _ => Err("it is Sizes, Sampled or Full".to_owned()),
    }
}

/// `mailferry run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Manifests and state.
    #[command(flatten)]
    pub inputs: InputArgs,
    /// The way to servers.
    #[command(flatten)]
    pub reach: ReachArgs,
    /// Try each login once more that was refused often enough for a day: for a server that was mended or a mailbox that was
    /// made meanwhile, with the same password
    #[arg(long)]
    pub retry_logins: bool,
    /// Which mailboxes.
    #[command(flatten)]
    pub only: OnlyArgs,
    /// Stays: begins pass after pass as spec.schedule says, and waits for its windows. Ctrl-C ends it
    #[arg(long)]
    pub keep: bool,
    /// How far to go, in place of spec.stage: Plan, Sync or Cutover
    #[arg(long, value_name = "STAGE", value_parser = parse_stage)]
    pub stage: Option<Stage>,
    /// How the result is written to standard output
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// How progress is shown on standard error
    #[arg(long, value_enum, default_value_t)]
    pub progress: Style,
}

/// `mailferry status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Which migration.
    #[command(flatten)]
    pub migration: MigrationArgs,
    /// How the status is written
    #[arg(short, long, value_enum, default_value_t)]
    pub output: StatusOutput,
}

/// `mailferry plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Which migration.
    #[command(flatten)]
    pub migration: MigrationArgs,
    /// Shows what changed against the approved plan, or against the one before when none is approved
    #[arg(long)]
    pub diff: bool,
    /// Shows what changed against this plan: a digest, or its first digits
    #[arg(long, value_name = "DIGEST")]
    pub against: Option<String>,
    /// How the plan is written
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// `mailferry support-bundle`.
#[derive(Debug, Args)]
pub struct SupportBundleArgs {
    /// Which migration.
    #[command(flatten)]
    pub migration: MigrationArgs,
    /// Hides people: the parts of addresses before the @, and login names
    #[arg(long)]
    pub hash_addresses: bool,
    /// The archive to write; mailferry-support-NAME.tar.gz in this directory when it is not given
    #[arg(long, value_name = "PATH")]
    pub out: Option<PathBuf>,
    /// How the result is written to standard output
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// `mailferry report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Which migration.
    #[command(flatten)]
    pub migration: MigrationArgs,
    /// How it is written; as the file's name ends when it is not given
    #[arg(long, value_enum, required_unless_present = "out")]
    pub format: Option<Format>,
    /// The subject
    #[arg(long, value_enum, default_value_t)]
    pub kind: Kind,
    /// Only messages with this verdict: Delivered, `DeliveredAltered`, Excluded, Quarantined or Pending
    #[arg(long, value_name = "VERDICT", value_parser = ["Delivered", "DeliveredAltered", "Excluded", "Quarantined", "Pending"], ignore_case = true)]
    pub verdict: Option<String>,
    /// The file to write; standard output when it is not given
    #[arg(short, long, value_name = "PATH")]
    pub out: Option<PathBuf>,
}

/// `mailferry verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Manifests and state.
    #[command(flatten)]
    pub inputs: InputArgs,
    /// The way to servers.
    #[command(flatten)]
    pub reach: ReachArgs,
    /// Try each login once more that was refused often enough for a day: for a server that was mended or a mailbox that was
    /// made meanwhile, with the same password
    #[arg(long)]
    pub retry_logins: bool,
    /// Which mailboxes.
    #[command(flatten)]
    pub only: OnlyArgs,
    /// How close: Sizes, Sampled or Full; spec.policy.verify when it is not given
    #[arg(long, value_name = "DEPTH", value_parser = parse_depth)]
    pub depth: Option<Depth>,
    /// Sends again what is no longer at the destination, carries what is still to come, then verifies once more
    #[arg(long)]
    pub repair: bool,
    /// How progress is shown, on standard error
    #[arg(long, value_enum, default_value_t)]
    pub progress: Style,
    /// How the result is written to standard output
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// `mailferry operator`.
#[derive(Debug, Args)]
pub struct OperatorArgs {
    /// A namespace to watch; all when none is given. May be given several times
    #[arg(
        long = "watch-namespace",
        value_name = "NAMESPACE",
        env = "MAILFERRY_WATCH_NAMESPACES",
        value_delimiter = ','
    )]
    pub watch_namespaces: Vec<String>,
    /// The image of the workers' pods: this same program
    #[arg(long, value_name = "IMAGE", env = "MAILFERRY_IMAGE")]
    pub image: String,
    /// When that image is pulled: Always, `IfNotPresent` or Never; Kubernetes' own rule when it is not given
    #[arg(long, value_name = "POLICY", env = "MAILFERRY_IMAGE_PULL_POLICY")]
    pub image_pull_policy: Option<String>,
    /// The name server that workers ask instead of the cluster's
    #[arg(long, value_name = "IP:PORT", env = "MAILFERRY_RESOLVER")]
    pub resolver: Option<SocketAddr>,
    /// A network that spec.policy.allowedNetworks may name; no loopback, private or link-local address is connected to
    /// outside of these. May be given several times
    #[arg(
        long = "allowed-network",
        value_name = "CIDR",
        env = "MAILFERRY_ALLOWED_NETWORKS",
        value_delimiter = ','
    )]
    pub allowed_networks: Vec<IpNet>,
    /// The resources that a worker's container asks for and may use, as a Kubernetes `ResourceRequirements` in JSON
    #[arg(long, value_name = "JSON", env = "MAILFERRY_WORKER_RESOURCES", value_parser = parse_resources, default_value = "{}")]
    pub worker_resources: ResourceRequirements,
    /// More fields of the workers' pods, as workers.pod of the chart's values in JSON
    #[arg(long, value_name = "JSON", env = "MAILFERRY_WORKER_POD", value_parser = parse_worker_pod, default_value = "{}")]
    pub worker_pod: WorkerPod,
    /// The memory that the operator may use, in bytes; half of it is shared out among namespaces, a third of that at most to one
    #[arg(long, value_name = "BYTES", env = "MAILFERRY_MEMORY", default_value_t = 256 * 1024 * 1024)]
    pub memory: u64,
    /// The namespace of the lease by which replicas agree who acts
    #[arg(long, value_name = "NAMESPACE", env = "MAILFERRY_LEASE_NAMESPACE", default_value = "default")]
    pub lease_namespace: String,
    /// The name of that lease
    #[arg(long, value_name = "NAME", env = "MAILFERRY_LEASE_NAME", default_value = "mailferry")]
    pub lease_name: String,
    /// Where /livez, /readyz and /metrics are served
    #[arg(long, value_name = "IP:PORT", env = "MAILFERRY_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// A file with a log filter such as mailferry=debug, read again when it changes
    #[arg(long, value_name = "PATH", env = "MAILFERRY_LOG_FILTER_FILE")]
    pub log_filter_file: Option<PathBuf>,
}

fn parse_worker_pod(text: &str) -> Result<WorkerPod, String> {
    serde_json::from_str(text).map_err(|e| format!("it is no workers.pod in JSON: {e}"))
}

fn parse_resources(text: &str) -> Result<ResourceRequirements, String> {
    serde_json::from_str(text).map_err(|e| format!("it is no ResourceRequirements in JSON: {e}"))
}

/// `mailferry crd`.
#[derive(Debug, Args)]
pub struct CrdArgs {
    /// Writes one file for each kind to this directory, instead of all to standard output
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}
