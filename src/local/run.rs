//! `mailferry run`: goes through the loop until the wanted stage is reached or nothing more happens by itself.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::clock::SystemClock;
use super::guard::DurableGuard;
use super::ledgers::open_store;
use super::platform::LocalPlatform;
use super::progress::Display;
use super::secrets::Secrets;
use super::state::StateDir;
use super::workers::Tools;
use crate::api::manifest::{self, Manifest, Part};
use crate::api::{MailMigration, Stage};
use crate::discovery::Clock;
use crate::mail::network::Network;
use crate::model::failure::{Class, Failure, Result};
use crate::plan::Ending;
use crate::reconcile::reconcile;
use crate::transfer::pace::Pace;

/// What a command was given about manifests and state.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// Manifests, in order; `-` is standard input.
    pub files: Vec<PathBuf>,
    /// The state directory.
    pub state: PathBuf,
    /// Directories with Secrets: name and directory.
    pub secrets: Vec<(String, PathBuf)>,
}

/// What a command was given about the way to servers.
#[derive(Debug, Clone, Default)]
pub struct Reach {
    /// The name server; the system's when there is none.
    pub resolver: Option<SocketAddr>,
    /// A file with more certificate authorities.
    pub authority: Option<PathBuf>,
}

impl Inputs {
    /// Reads the manifests.
    ///
    /// # Errors
    /// A failure that names file, line and field.
    pub fn read(&self) -> Result<Manifest> {
        let mut files = Vec::new();
        for path in &self.files {
            let name = path.display().to_string();
            let text = if name == "-" {
                std::io::read_to_string(std::io::stdin())
            } else {
                std::fs::read_to_string(path)
            };
            let text = text.map_err(|e| {
                Failure::configuration(format!("{name}: cannot be read: {e}"))
                    .hint("check the path given with -f")
                    .caused_by(&e)
            })?;
            files.push((name, text));
        }
        manifest::read(&files)
    }

    /// The manifests with the values of their Secrets, and their migrations.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn open(&self) -> Result<(Arc<Secrets>, Vec<MailMigration>)> {
        let manifest = self.read()?;
        let migrations = manifest.migrations.clone();
        let directories: BTreeMap<String, PathBuf> = self.secrets.iter().cloned().collect();
        let base = self.files.first().and_then(|f| f.parent()).map(PathBuf::from).unwrap_or_default();
        Ok((Arc::new(Secrets::new(manifest, directories, base)), migrations))
    }
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
    let unreadable = |network: &str| {
        Failure::configuration(format!("spec.policy.allowedNetworks: \"{network}\" is no network"))
    };
    let allowed = spec
        .policy
        .allowed_networks
        .iter()
        .map(|network| network.parse().map_err(|_| unreadable(network)))
        .collect::<Result<Vec<_>>>()?;
    let authority = match &reach.authority {
        None => String::new(),
        Some(path) => std::fs::read_to_string(path).map_err(|e| {
            Failure::configuration(format!("{}: cannot be read: {e}", path.display()))
                .hint("check the path given with --ca")
                .caused_by(&e)
        })?,
    };
    secrets.manifest().check_references(migration, Part::Common, &secrets.given())?;
    let per_host = spec.policy.limits.per_host_connections as usize;
    let network = Arc::new(Network::new(reach.resolver, allowed, per_host)?);
    let state = state.migration(migration)?;
    let store = open_store(migration, secrets, &state, &network, &authority).await?;
    Ok(Tools {
        migration: Arc::new(migration.clone()),
        secrets: Arc::clone(secrets),
        network,
        authority: authority.into(),
        guard: Arc::new(DurableGuard::new(Arc::clone(&store))),
        turnstile: Arc::default(),
        pace: Arc::new(Pace::new(spec.policy.limits.bytes_per_second)),
        state,
        store,
    })
}

/// Runs one migration to its end for now.
///
/// # Errors
/// Those of the state directory, and [`Class::Interrupted`] when a signal came.
pub async fn run_migration(
    mut migration: MailMigration,
    wanted: Option<Stage>,
    secrets: &Arc<Secrets>,
    state: &StateDir,
    reach: &Reach,
    display: Arc<dyn Display>,
) -> Result<(MailMigration, Ending)> {
    if let Some(stage) = wanted {
        migration.spec.stage = stage;
    }
    // One mailbox holds a connection at each side; were all of a host's taken by sources, nobody could go on.
    let per_host = migration.spec.policy.limits.per_host_connections;
    migration.spec.workers.concurrency = migration.spec.workers.concurrency.min((per_host / 2).max(1));
    let tools = tools_for(&migration, secrets, state, reach).await?;
    tools.guard.check().await?;
    migration.status = Some(tools.state.load()?.status);
    let mut platform = LocalPlatform::begin(tools, display)?;
    let mut stop = Box::pin(stop_signal());
    loop {
        let decision = reconcile(&mut platform, &mut migration).await?;
        platform.display().decided(&migration, &decision);
        if let Some(ending) = decision.ending {
            return Ok((migration, ending));
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
        let idle = platform.is_idle();
        tokio::select! {
            absorbed = platform.absorb(), if !idle => absorbed?,
            () = wake => {}
            () = &mut stop => {
                platform.abort().await;
                return Err(Failure::new(Class::Interrupted, "stopped by a signal").hint("run the same command again: it goes on from here"));
            }
        }
    }
}

/// Ends when somebody asks the process to stop.
async fn stop_signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let (Ok(mut interrupt), Ok(mut terminate)) =
            (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
    #[cfg(not(unix))]
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending().await
    }
}
