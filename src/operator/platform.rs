//! The platform of a cluster: facts come from watched objects and results, steps become Jobs, the decision becomes status.
//! One value lives for one turn of one migration; what outlives it is in [`Context`] and can be lost at any time.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use kube::runtime::events::Recorder;
use kube::{Client, ResourceExt};
use tokio::sync::Semaphore;

use super::known::KnownJob;
use super::lease::Term;
use super::metrics::Metrics;
use super::settings::Settings;
use super::stores::Stores;
use crate::api::{MailMigration, MailboxMigration};
use crate::cluster::results::DiscoveryDocument;
use crate::model::address::Address;
use crate::model::clock::Clock;
use crate::model::failure::{Class, Failure, Result};
use crate::plan::mailboxes::PlannedMailbox;
use crate::plan::{Decision, Discovered, Observed};
use crate::reconcile::Platform;

/// What all turns share.
pub struct Context {
    /// The way to the API server.
    pub client: Client,
    /// What the installation decides.
    pub settings: Settings,
    /// Copies of our objects.
    pub stores: Stores,
    /// What Prometheus sees.
    pub metrics: Arc<Metrics>,
    /// Writes Events.
    pub recorder: Recorder,
    /// Whether we still lead.
    pub term: Term,
    /// Turns that may be taken at the same time, of all namespaces together.
    pub turns: Arc<Semaphore>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What was read before, to be read again only when it changed.
    pub memory: Memory,
}

/// Namespace and name.
type Place = (String, String);
/// What discovery found out, and the version of the object that it was read from.
type Versioned = (String, Arc<KnownDiscovery>);

/// What an operator remembers between turns. All of it can be found out again.
#[derive(Default)]
pub struct Memory {
    discoveries: Mutex<HashMap<Place, Versioned>>,
    works: Mutex<HashMap<String, Arc<std::collections::BTreeSet<Address>>>>,
    published: Mutex<HashMap<String, Timestamp>>,
    refusals: Mutex<HashMap<String, u32>>,
    counted: Mutex<std::collections::HashSet<String>>,
}

/// What a discovery worker found out, ready to be looked at.
pub struct KnownDiscovery {
    /// Digest of what it depends on.
    pub inputs: String,
    /// How often the domain was looked at.
    pub round: u32,
    /// The domain's mailboxes, or why they cannot be listed.
    pub mailboxes: Result<Arc<[PlannedMailbox]>>,
    /// What was seen.
    pub discovery: Arc<Discovered>,
}

impl From<DiscoveryDocument> for KnownDiscovery {
    fn from(document: DiscoveryDocument) -> Self {
        Self {
            inputs: document.inputs,
            round: document.round,
            mailboxes: document.mailboxes.map(Arc::from),
            discovery: document.discovery.into(),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Memory {
    /// What discovery found out, if it was read in this version.
    pub fn discovery(&self, namespace: &str, name: &str, version: &str) -> Option<Arc<KnownDiscovery>> {
        let known = locked(&self.discoveries);
        let (seen, discovery) = known.get(&(namespace.to_owned(), name.to_owned()))?;
        (seen == version).then(|| Arc::clone(discovery))
    }

    /// Remembers what discovery found out.
    pub fn keep_discovery(&self, namespace: &str, name: &str, version: String, known: &Arc<KnownDiscovery>) {
        locked(&self.discoveries)
            .insert((namespace.to_owned(), name.to_owned()), (version, Arc::clone(known)));
    }

    /// The mailboxes that a Job carries, by the Job's uid.
    pub fn work(&self, job: &str) -> Option<Arc<std::collections::BTreeSet<Address>>> {
        locked(&self.works).get(job).cloned()
    }

    /// Remembers the mailboxes that a Job carries.
    pub fn keep_work(&self, job: String, mailboxes: &Arc<std::collections::BTreeSet<Address>>) {
        locked(&self.works).insert(job, Arc::clone(mailboxes));
    }

    /// When a migration's status was written last.
    pub fn published(&self, uid: &str) -> Option<Timestamp> {
        locked(&self.published).get(uid).copied()
    }

    /// Remembers when a migration's status was written.
    pub fn keep_published(&self, uid: String, at: Timestamp) {
        locked(&self.published).insert(uid, at);
    }

    /// How often in a row a migration's turn failed, with this time; starts anew after one that did not.
    pub fn count_refusal(&self, uid: &str, failed: bool) -> u32 {
        let mut refusals = locked(&self.refusals);
        if !failed {
            refusals.remove(uid);
            return 0;
        }
        let count = refusals.entry(uid.to_owned()).or_default();
        *count += 1;
        *count
    }

    /// Whether the end of a Job is seen for the first time.
    pub fn first_end(&self, job: String) -> bool {
        locked(&self.counted).insert(job)
    }

    /// Forgets what is about objects that are not there any more.
    pub fn forget_but(&self, stores: &Stores) {
        let jobs: std::collections::HashSet<String> =
            stores.jobs.state().iter().filter_map(|j| j.uid()).collect();
        locked(&self.works).retain(|job, _| jobs.contains(job));
        locked(&self.counted).retain(|job| jobs.contains(job));
        let migrations: std::collections::HashSet<String> =
            stores.migrations.state().iter().filter_map(|m| m.uid()).collect();
        locked(&self.published).retain(|uid, _| migrations.contains(uid));
        locked(&self.refusals).retain(|uid, _| migrations.contains(uid));
        locked(&self.discoveries).retain(|(namespace, name), _| stores.version_of(namespace, name).is_some());
    }
}

/// One turn of one migration.
pub struct ClusterPlatform {
    pub(super) context: Arc<Context>,
    pub(super) namespace: String,
    pub(super) name: String,
    /// Its Jobs, as of this turn.
    pub(super) jobs: Vec<KnownJob>,
    /// Its mailboxes' objects, by address.
    pub(super) objects: BTreeMap<Address, Arc<MailboxMigration>>,
    /// The facts of this turn, for steps that need more than the decision says.
    pub(super) observed: Arc<Observed>,
    /// Whether there are mailboxes whose objects are still to be made.
    pub(super) unmade: bool,
    /// When to look again, if that is earlier than the decision says.
    pub(super) soon: Option<std::time::Duration>,
}

impl ClusterPlatform {
    /// Begins a turn.
    pub fn new(context: &Arc<Context>, migration: &MailMigration) -> Self {
        Self {
            context: Arc::clone(context),
            namespace: migration.namespace().unwrap_or_default(),
            name: migration.name_any(),
            jobs: Vec::new(),
            objects: BTreeMap::new(),
            observed: Arc::default(),
            unmade: false,
            soon: None,
        }
    }

    /// When to look again, if sooner than the decision says.
    pub fn soon(&self) -> Option<std::time::Duration> {
        self.soon
    }

    /// Nothing may be written any more once another replica may lead.
    pub(super) fn check_term(&self) -> Result<()> {
        if self.context.term.holds() {
            Ok(())
        } else {
            Err(Failure::new(Class::Interrupted, "another replica may lead by now"))
        }
    }
}

#[async_trait]
impl Platform for ClusterPlatform {
    fn now(&self) -> Timestamp {
        self.context.clock.now()
    }

    async fn observe(&mut self, migration: &MailMigration) -> Result<Arc<Observed>> {
        self.observed = Arc::new(self.gather(migration).await?);
        Ok(Arc::clone(&self.observed))
    }

    async fn perform(&mut self, migration: &MailMigration, decision: &Decision) -> Result<()> {
        self.check_term()?;
        self.stop_outdated(migration, decision).await?;
        self.begin_steps(migration, decision).await?;
        self.prune(migration).await
    }

    async fn publish(&mut self, migration: &mut MailMigration, decision: &Decision) -> Result<()> {
        self.check_term()?;
        self.tell_mailboxes(migration, decision).await?;
        self.tell_migration(migration, decision).await
    }
}
