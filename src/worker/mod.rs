//! The commands in the pods that the operator starts: `mailferry discover` finds out about one domain, `mailferry sync`
//! carries a slice of its mailboxes, or verifies it once more. Both work as a laptop does; in place of a state directory they have what the operator
//! mounts, and the API server, which is told what became of everything.
//!
//! ```text
//! work list, Secrets, ConfigMaps, volume ──► local::platform ──► reporter ──► API server
//! ```

mod discover;
mod ledgers;
mod named;
mod patience;
mod records;
mod reporter;
mod sync;
mod telling;
mod verify;

use std::path::PathBuf;
use std::sync::Arc;

use kube::Client;

use self::ledgers::DeferredStore;
use crate::auth::oauth::Tokens;
use crate::cluster::work::Work;
use crate::ledger::sqlite::SqliteStore;
use crate::local::clock::SystemClock;
use crate::local::guard::DurableGuard;
use crate::local::run::allowed_networks;
use crate::local::secrets::Secrets;
use crate::local::stop::Stop;
use crate::local::workers::{Siblings, Tools};
use crate::model::failure::{Failure, Result};
use crate::net::http::Proxy;
use crate::net::network::Network;
use crate::transfer::pace::Pace;

pub use discover::discover;
pub use sync::sync;

/// Where a pod finds what it needs.
#[derive(Debug, Clone)]
pub struct Mounts {
    /// The work list.
    pub work: PathBuf,
    /// Secrets: a directory for each.
    pub secrets: PathBuf,
    /// ConfigMaps: a directory for each.
    pub config_maps: PathBuf,
    /// The volume of the ledgers.
    pub ledgers: PathBuf,
    /// Volumes with mail: one for each end that is in files.
    pub volumes: PathBuf,
}

/// A pod that has begun.
struct Pod {
    work: Work,
    namespace: String,
    client: Client,
    stop: Stop,
    tools: Tools,
}

impl Pod {
    /// Reads the work list and puts together what its tasks need. No Secret is read yet: one that is missing now may be
    /// there at the next attempt.
    fn begin(mounts: &Mounts, client: Client, stop: Stop) -> Result<Self> {
        let work = Work::read(&mounts.work)?;
        let migration = Arc::new(work.migration.clone());
        let spec = &migration.spec;
        if spec.domains.len() != 1 {
            return Err(Failure::internal("the work list is not about one domain"));
        }
        let secrets = Arc::new(Secrets::mounted(&mounts.secrets, &mounts.config_maps, &mounts.volumes));
        let barred = work.barred_networks.iter().filter_map(|network| network.parse().ok()).collect();
        let network =
            Network::new(work.resolver, allowed_networks(&migration)?, connections(&work) as usize)?;
        let network = Arc::new(network.through(proxy()?).bounded(barred));
        let files = SqliteStore::new(mounts.ledgers.join("mailboxes"), mounts.ledgers.join("logins.sqlite"));
        let (taken, way) = (Arc::clone(&secrets), Arc::clone(&network));
        let store = Arc::new(DeferredStore::new(Arc::clone(&migration), taken, files, way));
        let tools = Tools {
            first_domain: work.domain,
            siblings: work
                .siblings
                .clone()
                .map_or(Siblings::ToldElsewhere, |names| Siblings::Named(names.into())),
            secrets,
            authority: "".into(),
            trusts: Arc::default(),
            tokens: Arc::new(Tokens::new(Arc::clone(&network), Arc::new(SystemClock), None)),
            guard: Arc::new(DurableGuard::new(store.clone())),
            turnstile: Arc::default(),
            network,
            pace: Arc::new(Pace::new(spec.policy.limits.bytes_per_second)),
            store,
            migration,
        };
        let namespace = tools.migration.metadata.namespace.clone().unwrap_or_else(|| "default".to_owned());
        Ok(Self { work, namespace, client, stop, tools })
    }
}

/// The proxy that the installation names, if it does.
fn proxy() -> Result<Option<Proxy>> {
    let said = |name: &str| std::env::var(name).unwrap_or_default();
    let address = said("HTTPS_PROXY");
    if address.is_empty() { Ok(None) } else { Proxy::new(&address, &said("NO_PROXY")).map(Some) }
}

/// Connections to one host. A mailbox holds one at each side, and both sides may be one host.
fn connections(work: &Work) -> u32 {
    work.per_host_connections.max(2)
}

/// The exit code of a pod that was asked to stop.
fn interrupted() -> Failure {
    let mut failure = Stop::failure();
    failure.hint = Some("nothing needs to be done: the next pod goes on from here".to_owned());
    failure
}
