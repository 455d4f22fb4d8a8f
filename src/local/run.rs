//! `mailferry run`: goes through the loop until the wanted stage is reached or nothing more happens by itself.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::Utf8Error;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::time::{sleep, sleep_until};

use super::clock::SystemClock;
use super::guard::DurableGuard;
use super::ledgers::open_store;
use super::only::Only;
use super::platform::{Brought, LocalPlatform};
use super::progress::Display;
use super::secrets::Secrets;
use super::state::StateDir;
use super::stop::Stop;
use super::workers::{Siblings, Tools};
use crate::api::manifest::{self, Manifest, Part};
use crate::api::{LedgerSpec, MailMigration, Stage};
use crate::auth::oauth::Tokens;
use crate::discovery::Clock;
use crate::model::failure::{Class, Failure, Result};
use crate::model::text::counted;
use crate::net::network::Network;
use crate::plan::Ending;
use crate::plan::pass::fingerprint;
use crate::reconcile::reconcile;
use crate::report::text::{Given, UNTOLD_INPUTS};
use crate::transfer::pace::Pace;

/// Options of a command about manifests and state.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// Manifests, in order; `-` is standard input.
    pub files: Vec<PathBuf>,
    /// The state directory.
    pub state: PathBuf,
    /// Directories with Secrets: name and directory.
    pub secrets: Vec<(String, PathBuf)>,
    /// The way to servers, of a command that connects.
    pub reach: Reach,
}

/// Commands that a remedy may name and that want the options of [`Inputs::given`].
const COMMANDS: [&str; 6] = ["run", "plan", "verify", "report", "status", "dns"];

/// Options of a command about the way to servers.
#[derive(Debug, Clone, Default)]
pub struct Reach {
    /// The name server; the system's when there is none.
    pub resolver: Option<SocketAddr>,
    /// Files with more certificate authorities.
    pub authorities: Vec<PathBuf>,
    /// Whether logins that were refused often enough for a day are tried once more.
    pub retry_logins: bool,
}

impl Reach {
    /// The authorities of all files, PEM; empty when there are none.
    ///
    /// # Errors
    /// A failure that names the file that cannot be read.
    pub fn authority_text(&self) -> Result<String> {
        let texts: Vec<String> =
            self.authorities.iter().map(|path| read_authority(path)).collect::<Result<_>>()?;
        Ok(texts.join("\n"))
    }
}

fn read_authority(path: &Path) -> Result<String> {
    let shown = path.display();
    let bytes = std::fs::read(path).map_err(|e| {
        Failure::configuration(format!("{shown}: cannot be read: {e}"))
            .hint("check the path given with --ca")
            .caused_by(&e)
    })?;
    // A .cer or .der file, as systems hand them out, is the same certificate as bytes.
    let text = String::from_utf8(bytes).map_err(|_| {
        Failure::configuration(format!("{shown}: it is no PEM text"))
            .hint(format!("convert it: openssl x509 -inform der -in {shown} -out ca.pem; then --ca ca.pem"))
    })?;
    if !text.contains("-----BEGIN CERTIFICATE-----") {
        return Err(Failure::configuration(format!("{shown}: it holds no certificate in PEM form"))
            .hint("give the file with the certificate of the authority"));
    }
    Ok(text)
}

impl Inputs {
    /// Reads the manifests.
    ///
    /// # Errors
    /// A failure that names file, line and field.
    pub fn read(&self) -> Result<Manifest> {
        let (manifest, failures) = manifest::read_all(&self.texts()?);
        self.first_of(failures).map_or(Ok(manifest), Err)
    }

    /// The first of several failures, with the command that tells all of them.
    pub fn first_of(&self, failures: Vec<Failure>) -> Option<Failure> {
        let mut failures = failures.into_iter();
        let first = failures.next()?;
        let others: Vec<String> = failures.map(|failure| failure.sentence()).collect();
        if others.is_empty() {
            return Some(first);
        }
        let more = counted(others.len() as u64, "more error is", "more errors are");
        let mended = first.hint.as_ref().map(|hint| format!("{hint}; ")).unwrap_or_default();
        let hint = format!("{mended}{more} told by mailferry validate {}", self.given_files());
        // One run shows them with -v.
        let causes = others.into_iter().take(50).collect();
        Some(Failure { hint: Some(hint), causes, ..first })
    }

    /// The options that name the manifests and their Secrets, as the user gave them and a shell takes them.
    fn given_files(&self) -> String {
        let files = self.files.iter().map(|file| format!("-f {}", quoted(&file.display().to_string())));
        let secret = |(name, place): &(String, PathBuf)| quoted(&format!("{name}={}", place.display()));
        let secrets = self.secrets.iter().map(|given| format!("--secret {}", secret(given)));
        files.chain(secrets).collect::<Vec<_>>().join(" ")
    }

    /// The options by which another command finds the same: `-f contoso.yaml --state ./state`, and `--ca own.pem`.
    pub fn given(&self) -> Given {
        let inputs = format!("{} --state {}", self.given_files(), quoted(&self.state.display().to_string()));
        let resolver = self.reach.resolver.map(|resolver| format!(" --resolver {resolver}"));
        let authorities = self.reach.authorities.iter();
        let authorities = authorities.map(|file| format!(" --ca {}", quoted(&file.display().to_string())));
        Given { inputs, reach: authorities.chain(resolver).collect() }
    }

    /// A failure whose remedy is a command that works as it is typed: whoever wrote the remedy knew no files.
    #[must_use]
    pub fn spell_out(&self, failure: &Failure) -> Failure {
        let given = self.given();
        let hint = failure.hint.as_ref().map(|hint| {
            let named = COMMANDS.into_iter().fold(hint.clone(), |hint, command| {
                let whole = format!("mailferry {command} {UNTOLD_INPUTS} --");
                let alone = format!("mailferry {command} {UNTOLD_INPUTS}`");
                hint.replace(&format!("mailferry {command} --"), &whole)
                    .replace(&format!("mailferry {command}`"), &alone)
            });
            given.spell_out(&named)
        });
        Failure { hint, ..failure.clone() }
    }

    /// Refuses migrations none of which has the Secrets that all its domains need, before a state directory is made for them.
    ///
    /// # Errors
    /// A failure that names the field, and how many more there are.
    pub fn check_references(&self, secrets: &Secrets, migrations: &[MailMigration]) -> Result<()> {
        let mut found = Vec::new();
        for migration in migrations {
            if secrets.find_missing(migration, Part::Common).is_empty() {
                return Ok(());
            }
            found.extend(find_missing(secrets, migration));
        }
        self.first_of(found).map_or(Ok(()), Err)
    }

    /// The names and the texts of the files.
    fn texts(&self) -> Result<Vec<(String, String)>> {
        let mut files = Vec::new();
        for path in &self.files {
            let name = path.display().to_string();
            let mut bytes = Vec::new();
            let read = match name.as_str() {
                "-" => std::io::stdin().lock().read_to_end(&mut bytes),
                _ => File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)),
            };
            read.map_err(|e| {
                Failure::configuration(format!("{name}: cannot be read: {e}"))
                    .hint("check the path given with -f")
                    .caused_by(&e)
            })?;
            let text = String::from_utf8(bytes).map_err(|e| not_utf8(&name, e.as_bytes(), e.utf8_error()))?;
            files.push((name, text));
        }
        Ok(files)
    }

    /// As [`Self::open`], with all that can be read and everything that is wrong with the rest.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn open_all(&self) -> Result<(Arc<Secrets>, Vec<MailMigration>, Vec<Failure>)> {
        let (manifest, failures) = manifest::read_all(&self.texts()?);
        let migrations = manifest.migrations.clone();
        Ok((Arc::new(self.with_secrets(manifest)), migrations, failures))
    }

    fn with_secrets(&self, manifest: Manifest) -> Secrets {
        let directories: BTreeMap<String, PathBuf> = self.secrets.iter().cloned().collect();
        let base = self.files.first().and_then(|f| f.parent()).map(PathBuf::from).unwrap_or_default();
        Secrets::new(manifest, directories, base)
    }

    /// The manifests with the values of their Secrets, and their migrations.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn open(&self) -> Result<(Arc<Secrets>, Vec<MailMigration>)> {
        let (secrets, migrations, mut failures) = self.open_all()?;
        if !failures.is_empty() {
            failures.extend(migrations.iter().flat_map(|migration| find_missing(&secrets, migration)));
        }
        self.first_of(failures).map_or(Ok((secrets, migrations)), Err)
    }
}

/// Everything that a migration refers to and that is not there, for all its domains.
fn find_missing(secrets: &Secrets, migration: &MailMigration) -> Vec<Failure> {
    let domains = (0..migration.spec.domains.len()).map(Part::Domain);
    let parts = std::iter::once(Part::Common).chain(domains);
    parts.flat_map(|part| secrets.find_missing(migration, part)).collect()
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain =
        |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '/' | '=' | '@' | '+' | ':' | ',');
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// A manifest in another encoding: where it shows, and what it seems to be. The line itself may hold a password.
fn not_utf8(name: &str, bytes: &[u8], error: Utf8Error) -> Failure {
    let at = error.valid_up_to();
    let byte = bytes.get(at).copied().unwrap_or_default();
    let (what, encoding) = match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => ("it is written in UTF-16, not in UTF-8".to_owned(), "UTF-16"),
        _ => (
            format!("it is not written in UTF-8 (byte 0x{byte:02X}); it seems to be Windows-1252"),
            "WINDOWS-1252",
        ),
    };
    let line = bytes.iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
    Failure::configuration(what)
        .hint(format!("save it as UTF-8, or convert it: iconv -f {encoding} -t UTF-8 {name} > utf8.yaml"))
        .at(format!("{name}:{line}"))
}

/// The wishes for one run beyond what the manifest says.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// How far to go, in place of `spec.stage`.
    pub stage: Option<Stage>,
    /// Which mailboxes are carried.
    pub only: Only,
    /// Whether somebody stays who runs it again when the schedule says so.
    pub keeps: bool,
    /// Whether the pass before goes on, which paused where a window closed.
    pub resumes: bool,
}

impl From<Option<Stage>> for Wanted {
    fn from(stage: Option<Stage>) -> Self {
        Self { stage, ..Self::default() }
    }
}

/// A run that came to its end for now.
#[derive(Debug)]
pub struct Ran {
    /// The migration with its status.
    pub migration: MailMigration,
    /// How it ended.
    pub ending: Ending,
    /// The messages that it brought.
    pub brought: Brought,
}

/// Puts together what the tasks of one migration need.
///
/// # Errors
/// A failure that names what cannot be read.
pub async fn tools_for(
    migration: &MailMigration,
    secrets: &Arc<Secrets>,
    state: &StateDir,
    reach: &Reach,
) -> Result<Tools> {
    let spec = &migration.spec;
    let authority = reach.authority_text()?;
    secrets.check_references(migration, Part::Common)?;
    let network = Arc::new(network_for(migration, reach)?);
    let files = state.migration(migration)?.ledgers();
    let tokens = Tokens::new(Arc::clone(&network), Arc::new(SystemClock), Some(Arc::new(state.tokens())));
    let store = open_store(migration, secrets, files, &network, &authority).await?;
    // A state directory is one process's; a database is everybody's.
    let guard = match &spec.ledger {
        LedgerSpec::Sqlite(_) if state.is_locked() => DurableGuard::alone(store.clone()),
        _ => DurableGuard::new(store.clone()),
    };
    let guard = if reach.retry_logins { guard.once_more() } else { guard };
    Ok(Tools {
        migration: Arc::new(migration.clone()),
        first_domain: 0,
        siblings: Siblings::InSpec,
        secrets: Arc::clone(secrets),
        network,
        authority: authority.into(),
        trusts: Arc::default(),
        tokens: Arc::new(tokens),
        guard: Arc::new(guard),
        turnstile: Arc::default(),
        pace: Arc::new(Pace::new(spec.policy.limits.bytes_per_second)),
        store,
    })
}

/// The network of a migration: the name server that is asked, and where may be connected to.
///
/// # Errors
/// A failure that names what cannot be read.
pub fn network_for(migration: &MailMigration, reach: &Reach) -> Result<Network> {
    let per_host = migration.spec.policy.limits.per_host_connections as usize;
    Network::new(reach.resolver, allowed_networks(migration)?, per_host)
}

/// The networks that a manifest allows although they are private.
///
/// # Errors
/// A failure that names the field.
pub fn allowed_networks(migration: &MailMigration) -> Result<Vec<IpNet>> {
    let unreadable = |network: &str| {
        Failure::configuration(format!("spec.policy.allowedNetworks: \"{network}\" is no network"))
    };
    let networks = migration.spec.policy.allowed_networks.iter();
    networks.map(|network| network.parse().map_err(|_| unreadable(network))).collect()
}

/// How many mailboxes may be carried at a time. Each holds a connection at each side; were all of a host's taken by
/// sources, nobody could go on.
pub fn bound_concurrency(migration: &mut MailMigration, per_host: u32) {
    let workers = &mut migration.spec.workers;
    workers.concurrency = workers.concurrency.min((per_host / 2).max(1));
}

/// Runs one migration to its end for now.
///
/// # Errors
/// Those of the state directory. A run that a signal ends is stopped with [`Class::Interrupted`].
pub async fn run_migration(
    mut migration: MailMigration,
    wanted: impl Into<Wanted>,
    secrets: &Arc<Secrets>,
    state: &StateDir,
    reach: &Reach,
    display: Arc<dyn Display>,
) -> Result<Ran> {
    let wanted = wanted.into();
    let declared = fingerprint(&migration.spec);
    if let Some(stage) = wanted.stage {
        migration.spec.stage = stage;
    }
    let per_host = migration.spec.policy.limits.per_host_connections;
    bound_concurrency(&mut migration, per_host);
    let tools = tools_for(&migration, secrets, state, reach).await?;
    tools.check_destination()?;
    tools.guard.check().await?;
    let kept = state.migration(&migration)?;
    migration.status = Some(kept.load()?.status);
    let mut platform = LocalPlatform::begin(tools, kept, display, &wanted, declared).await?;
    let ending = match drive(&mut platform, &mut migration, &Stop::listen()).await {
        Ok(ending) => ending,
        Err(failure) if failure.class == Class::Interrupted => {
            if let Err(untold) = platform.tell_stopped(&mut migration).await {
                tracing::warn!(failure = %untold.sentence(), "the end of the run cannot be written down");
            }
            Ending::Stopped(failure)
        }
        Err(failure) => return Err(failure),
    };
    Ok(Ran { migration, ending, brought: platform.brought() })
}

/// Goes through the loop until there is nothing to do and nothing to wait for but a window of the schedule.
///
/// # Errors
/// Those of the platform, and [`crate::model::failure::Class::Interrupted`] when a signal came.
pub async fn drive(
    platform: &mut LocalPlatform,
    migration: &mut MailMigration,
    stop: &Stop,
) -> Result<Ending> {
    loop {
        let decision = reconcile(platform, migration).await?;
        platform.display().decided(migration, &decision);
        if let Some(ending) = decision.ending {
            return Ok(ending);
        }
        if platform.has_paused() {
            // The facts are others now.
            continue;
        }
        if let Some(closed) = decision.paused.filter(|_| platform.is_idle()) {
            return Ok(Ending::Stopped(closed));
        }
        let pause = decision.wake.map(|wake| {
            let left = wake.duration_since(SystemClock.now());
            Duration::try_from(left).unwrap_or_default().max(Duration::from_millis(10))
        });
        let wake = async {
            match pause {
                Some(pause) => sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        let keeps_at = platform.keeps_at();
        let keep = async {
            match keeps_at {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let counts_at = platform.counts_at();
        let count = async {
            match counts_at {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let (idle, mut due, mut counts) = (platform.is_idle(), false, false);
        tokio::select! {
            absorbed = platform.absorb(), if !idle => absorbed?,
            () = wake => {}
            () = keep => due = true,
            () = count => counts = true,
            () = stop.asked() => {
                platform.keep_record()?;
                platform.abort().await;
                return Err(Stop::failure());
            }
        }
        if due {
            platform.keep_record()?;
        }
        if counts {
            platform.count_running().await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remedy_is_a_command_that_works_as_it_is_typed() {
        let inputs = Inputs {
            files: vec!["a.yaml".into(), "my files/b.yaml".into()],
            state: "./state".into(),
            secrets: vec![("s".to_owned(), "it's".into())],
            reach: Reach { authorities: vec!["own.pem".into(), "of them.pem".into()], ..Reach::default() },
        };
        let given = r"-f a.yaml -f 'my files/b.yaml' --secret 's=it'\''s' --state ./state";
        assert_eq!(inputs.given().inputs, given);
        let failure = Failure::internal("gone").hint("`mailferry verify -f … --state … --repair`");
        let spelt = inputs.spell_out(&failure).hint.unwrap();
        assert_eq!(spelt, format!("`mailferry verify {given} --ca own.pem --ca 'of them.pem' --repair`"));
        let review = inputs.spell_out(&Failure::internal("other").hint("review `mailferry plan --diff`"));
        assert_eq!(review.hint.unwrap(), format!("review `mailferry plan {given} --diff`"));
        let alone = inputs.spell_out(&Failure::internal("other").hint("review `mailferry plan`"));
        assert_eq!(alone.hint.unwrap(), format!("review `mailferry plan {given}`"));
    }

    #[test]
    fn the_first_failure_tells_of_the_others_and_where_they_are_told() {
        let inputs = Inputs { files: vec!["m.yaml".into()], state: "s".into(), ..Inputs::default() };
        let failure = |what: &str| Failure::configuration(what).hint("mend it");
        assert!(inputs.first_of(Vec::new()).is_none());
        let alone = inputs.first_of(vec![failure("a")]).unwrap();
        assert_eq!(alone.hint.unwrap(), "mend it");
        let first = inputs.first_of(vec![failure("a"), failure("b"), failure("c")]).unwrap();
        assert_eq!(
            (first.what.as_str(), first.causes.len(), first.hint.unwrap().as_str()),
            ("a", 2, "mend it; 2 more errors are told by mailferry validate -f m.yaml")
        );
    }
}
