//! The platform of a cluster: facts come from watched objects and results, steps become Jobs, the decision becomes status.
//! One value lives for one turn of one migration; what outlives it is in [`Context`] and can be lost at any time.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use kube::runtime::events::Recorder;
use kube::{Client, ResourceExt};

use super::known::{Carried, KnownJob};
use super::lease::Term;
use super::metrics::{Metrics, Survey, Wait};
use super::settings::{Inputs, Settings};
use super::shares::{Full, Room, Rooms, Turns};
use super::stores::Stores;
use super::watched::Mailbox;
use crate::api::MailMigration;
use crate::api::condition::Reason;
use crate::cluster::results::{DiscoveryDocument, PackedDiscovery};
use crate::model::address::Address;
use crate::model::clock::Clock;
use crate::model::failure::{Class, Failure, Result};
use crate::plan::mailboxes::PlannedMailbox;
use crate::plan::{Decision, Discovered, Observed, Obstacle};
use crate::reconcile::Platform;

/// State that all turns share.
pub struct Context {
    /// The way to the API server.
    pub client: Client,
    /// Decisions of the installation.
    pub settings: Settings,
    /// Copies of our objects.
    pub stores: Stores,
    /// Prometheus' numbers.
    pub metrics: Arc<Metrics>,
    /// Writes Events.
    pub recorder: Recorder,
    /// Whether we still lead.
    pub term: Term,
    /// Turns that may be taken at the same time, of all namespaces together.
    pub turns: Arc<Turns>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Objects that were read before, to be read again only when they changed; of all namespaces together.
    pub memory: Arc<Memory>,
}

/// Namespace and name.
type Place = (String, String);

/// The results of discovery, and the version of the object that they were read from.
struct Versioned {
    version: String,
    /// Why it cannot be read is remembered too, so that nobody makes us try it again and again.
    known: Result<Arc<KnownDiscovery>>,
    /// When it was looked at last, in turns of the whole operator.
    used: u64,
}

/// The memory of an operator between turns. All of it can be found out again.
pub struct Memory {
    rooms: Rooms,
    discoveries: Mutex<Discoveries>,
    works: Mutex<HashMap<String, Carried>>,
    migrations: Mutex<HashMap<String, Remembered>>,
    counted: Mutex<HashSet<String>>,
}

#[derive(Default)]
struct Discoveries {
    known: HashMap<Place, Versioned>,
    uses: u64,
}

/// The memory of a migration.
#[derive(Default)]
struct Remembered {
    /// When its status was written last.
    published: Option<Timestamp>,
    /// How often in a row its turn failed.
    refusals: u32,
    /// The steps that could not be done in its last turn.
    trouble: Option<Obstacle>,
    /// Its numbers for Prometheus.
    survey: Survey,
    /// Which mailboxes it carries where, as digests: those of two migrations are held against each other.
    pairs: Arc<HashSet<u64>>,
    /// Its namespace and name.
    place: Place,
    /// The generation whose ledger was held against the volume.
    ledger_checked: Option<i64>,
}

/// The results of a discovery worker, ready to be looked at.
pub struct KnownDiscovery {
    /// Digest of what it depends on.
    pub inputs: String,
    /// How often the domain was looked at.
    pub round: u32,
    /// The domain's mailboxes, or why they cannot be listed.
    pub mailboxes: Result<Arc<[PlannedMailbox]>>,
    /// The things that were seen.
    pub discovery: Arc<Discovered>,
    _room: Room,
}

impl KnownDiscovery {
    fn new(document: DiscoveryDocument, room: Room) -> Self {
        Self {
            inputs: document.inputs,
            round: document.round,
            mailboxes: document.mailboxes.map(Arc::from),
            discovery: document.discovery.into(),
            _room: room,
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Memory {
    /// A memory of a process that may use so many bytes.
    pub fn of(bytes: u64) -> Self {
        Self {
            rooms: Rooms::of(bytes),
            discoveries: Mutex::default(),
            works: Mutex::default(),
            migrations: Mutex::default(),
            counted: Mutex::default(),
        }
    }

    /// The results of discovery, or why they cannot be read, if that was tried with this version.
    pub fn discovery(
        &self,
        namespace: &str,
        name: &str,
        version: &str,
    ) -> Option<Result<Arc<KnownDiscovery>>> {
        let mut discoveries = locked(&self.discoveries);
        discoveries.uses += 1;
        let now = discoveries.uses;
        let found = discoveries.known.get_mut(&(namespace.to_owned(), name.to_owned()))?;
        found.used = now;
        (found.version == version).then(|| found.known.clone())
    }

    /// Reads what discovery found out, as far as the share of its namespace allows, and remembers it.
    ///
    /// # Errors
    /// [`Class::Configuration`] when all that belongs to the namespace is more than its share; [`Class::Throttled`] when the
    /// others have all there is for now; [`Class::Internal`] for a document that is not one of ours.
    pub fn open_discovery(
        &self,
        namespace: &str,
        name: &str,
        version: String,
        packed: &PackedDiscovery,
    ) -> Result<Arc<KnownDiscovery>> {
        let place = (namespace.to_owned(), name.to_owned());
        locked(&self.discoveries).known.remove(&place);
        let opened = packed.measure().and_then(|size| {
            let room = self.room(namespace, size)?;
            packed.unpack().map(|document| Arc::new(KnownDiscovery::new(document, room)))
        });
        if opened.as_ref().err().is_none_or(|failure| failure.class == Class::Internal) {
            let mut discoveries = locked(&self.discoveries);
            let used = discoveries.uses;
            discoveries.known.insert(place, Versioned { version, known: opened.clone(), used });
        }
        opened
    }

    /// Room for a document of so many bytes; what was not looked at for the longest time gives way.
    fn room(&self, namespace: &str, size: u64) -> Result<Room> {
        loop {
            let full = match self.rooms.take(namespace, size) {
                Ok(room) => return Ok(room),
                Err(full) => full,
            };
            let from = match full {
                Full::Share => Some(namespace.to_owned()),
                Full::All => self.rooms.greediest(),
            };
            if from.is_some_and(|from| locked(&self.discoveries).forget_one(&from)) {
                continue;
            }
            return Err(match full {
                Full::Share => Failure::configuration(format!(
                    "what discovery saw of the domains of this namespace is more than the operator keeps for one namespace, {} MiB",
                    self.rooms.share() / (1024 * 1024)
                ))
                .hint("give the operator more memory (resources.limits.memory of the installation), or fewer mailboxes to one namespace"),
                Full::All => Failure::new(Class::Throttled, "other namespaces have the operator's memory for now")
                    .hint("it is tried again; more memory (resources.limits.memory of the installation) helps"),
            });
        }
    }

    /// The mailboxes that a Job carries, by the Job's uid.
    pub fn work(&self, job: &str) -> Option<Carried> {
        locked(&self.works).get(job).cloned()
    }

    /// Remembers the mailboxes that a Job carries.
    pub fn keep_work(&self, job: String, mailboxes: &Carried) {
        locked(&self.works).insert(job, Arc::clone(mailboxes));
    }

    fn of_migration<T>(&self, uid: &str, look: impl FnOnce(&mut Remembered) -> T) -> T {
        look(locked(&self.migrations).entry(uid.to_owned()).or_default())
    }

    /// When a migration's status was written last.
    pub fn published(&self, uid: &str) -> Option<Timestamp> {
        self.of_migration(uid, |known| known.published)
    }

    /// Remembers when a migration's status was written.
    pub fn keep_published(&self, uid: &str, at: Timestamp) {
        self.of_migration(uid, |known| known.published = Some(at));
    }

    /// How often in a row a migration's turn failed, with this time; starts anew after one that did not.
    pub fn count_refusal(&self, uid: &str, failed: bool) -> u32 {
        self.of_migration(uid, |known| {
            known.refusals = if failed { known.refusals.saturating_add(1) } else { 0 };
            known.refusals
        })
    }

    /// The steps that could not be done in a migration's last turn.
    pub fn trouble(&self, uid: &str) -> Option<Obstacle> {
        self.of_migration(uid, |known| known.trouble.clone())
    }

    /// Remembers what could not be done, or that all could.
    pub fn keep_trouble(&self, uid: &str, trouble: Option<Obstacle>) {
        self.of_migration(uid, |known| known.trouble = trouble);
    }

    /// Remembers what Prometheus sees of a migration.
    pub fn keep_survey(&self, uid: &str, survey: Survey) {
        self.of_migration(uid, |known| known.survey = survey);
    }

    /// The numbers for Prometheus of a migration that had a turn.
    pub fn survey(&self, uid: &str) -> Option<Survey> {
        locked(&self.migrations).get(uid).map(|known| known.survey.clone())
    }

    /// Remembers which mailboxes a migration carries where, and finds the other migrations of its namespace that carry one of
    /// them to the same place. Those of other namespaces are not considered.
    pub fn rivals(&self, uid: &str, place: &Place, pairs: HashSet<u64>) -> BTreeMap<String, usize> {
        let pairs = Arc::new(pairs);
        self.of_migration(uid, |known| {
            known.place = place.clone();
            known.pairs = Arc::clone(&pairs);
        });
        let migrations = locked(&self.migrations);
        let others = migrations.iter().filter(|(other, known)| *other != uid && known.place.0 == place.0);
        others
            .map(|(_, known)| {
                (known.place.1.clone(), known.pairs.iter().filter(|p| pairs.contains(p)).count())
            })
            .filter(|(_, shared)| *shared > 0)
            .collect()
    }

    /// Whether a migration's ledger is to be held against its volume: once for each generation of its spec.
    pub fn checks_ledger(&self, uid: &str, generation: Option<i64>) -> bool {
        self.of_migration(uid, |known| {
            let fresh = known.ledger_checked != generation;
            known.ledger_checked = generation;
            fresh
        })
    }

    /// Whether the end of a Job is seen for the first time.
    pub fn first_end(&self, job: String) -> bool {
        locked(&self.counted).insert(job)
    }

    /// Forgets what is about objects that are in none of these copies any more.
    pub fn forget_but(&self, stores: &[Stores]) {
        let jobs = stores.iter().flat_map(|stores| stores.jobs.state());
        let jobs: HashSet<String> = jobs.filter_map(|job| job.uid()).collect();
        locked(&self.works).retain(|job, _| jobs.contains(job));
        locked(&self.counted).retain(|job| jobs.contains(job));
        let migrations = stores.iter().flat_map(|stores| stores.migrations.state());
        let migrations: HashSet<String> = migrations.filter_map(|migration| migration.uid()).collect();
        locked(&self.migrations).retain(|uid, _| migrations.contains(uid));
        let is_there = |(namespace, name): &Place| {
            stores.iter().any(|stores| stores.version_of(namespace, name).is_some())
        };
        locked(&self.discoveries).known.retain(|place, _| is_there(place));
    }
}

impl Discoveries {
    /// Forgets what nobody looks at now and nobody looked at for the longest time; whether there was such a thing.
    fn forget_one(&mut self, namespace: &str) -> bool {
        let idle = self.known.iter().filter(|((of, _), found)| {
            of == namespace && found.known.as_ref().is_ok_and(|known| Arc::strong_count(known) == 1)
        });
        let Some(oldest) = idle.min_by_key(|(_, found)| found.used).map(|(place, _)| place.clone()) else {
            return false;
        };
        self.known.remove(&oldest).is_some()
    }
}

/// One turn of one migration.
pub struct ClusterPlatform {
    pub(super) context: Arc<Context>,
    pub(super) namespace: String,
    pub(super) name: String,
    /// The inputs on which its Jobs depend.
    pub(super) inputs: Inputs,
    /// Its Jobs, as of this turn.
    pub(super) jobs: Vec<KnownJob>,
    /// The places in `jobs` of those of each domain, by the digest of its name: there may be a thousand domains.
    pub(super) jobs_by_domain: HashMap<String, Vec<usize>>,
    /// Its mailboxes' objects, by address.
    pub(super) objects: BTreeMap<Address, Arc<Mailbox>>,
    /// Objects that stand for its mailboxes and that it does not own, by address.
    pub(super) strays: BTreeMap<Address, Arc<Mailbox>>,
    /// Mailboxes whose objects name another destination than the spec by now.
    pub(super) elsewhere: BTreeSet<Address>,
    /// Mailboxes whose objects could not be made or written: nobody could report them.
    pub(super) untold: BTreeSet<Address>,
    /// The steps that could not be done in this turn.
    pub(super) troubles: Vec<Failure>,
    /// Objects that somebody else wrote in the place of results: they are told, and keeps the turn from nothing.
    pub(super) not_ours: Vec<Failure>,
    /// The waits of this migration beyond what its status says.
    pub(super) waits: Vec<Wait>,
    /// Whether all facts of this turn could be gathered, so that its status says what there is to say.
    decided: bool,
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
            inputs: Inputs::of(&context.settings, &migration.spec),
            jobs: Vec::new(),
            jobs_by_domain: HashMap::new(),
            objects: BTreeMap::new(),
            strays: BTreeMap::new(),
            elsewhere: BTreeSet::new(),
            untold: BTreeSet::new(),
            troubles: Vec::new(),
            not_ours: Vec::new(),
            waits: Vec::new(),
            decided: false,
            observed: Arc::default(),
            unmade: false,
            soon: None,
        }
    }

    /// Whether there is a status of this turn that says what there is to say.
    pub fn has_told(&self) -> bool {
        self.decided
    }

    /// When to look again, if sooner than the decision says.
    pub fn soon(&self) -> Option<std::time::Duration> {
        self.soon
    }

    /// Remembers what Prometheus sees of the migration now.
    pub fn keep_survey(&self, migration: &MailMigration) {
        let mut survey = Survey::default();
        survey.add_migration(migration.status.as_ref());
        self.waits.iter().for_each(|wait| survey.add_wait(*wait));
        self.context.memory.keep_survey(&migration.uid().unwrap_or_default(), survey);
    }

    /// Remembers what could not be done in this turn, so that the next one tells it; the first of it ends the turn.
    fn settle_troubles(&mut self, migration: &MailMigration) -> Result<()> {
        let uid = migration.uid().unwrap_or_default();
        let worst = self.troubles.iter().find(|failure| is_told(failure)).or(self.troubles.first()).cloned();
        let told = worst.as_ref().filter(|failure| is_told(failure));
        let told =
            told.map(|failure| Obstacle { reason: Reason::ClusterRefuses, message: failure.in_full() });
        self.context.memory.keep_trouble(&uid, told);
        worst.map_or(Ok(()), Err)
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

/// Whether a failure at the API server is worth a condition: what passes by itself within moments is not.
fn is_told(failure: &Failure) -> bool {
    matches!(failure.class, Class::Refused | Class::Configuration | Class::Internal)
}

#[async_trait]
impl Platform for ClusterPlatform {
    fn now(&self) -> Timestamp {
        self.context.clock.now()
    }

    async fn observe(&mut self, migration: &MailMigration) -> Result<Arc<Observed>> {
        self.know_jobs(migration);
        // A wrong destination is written to for no moment longer, whatever else fails.
        self.end_unwanted(migration).await?;
        match self.gather(migration).await {
            Ok(observed) => {
                self.observed = Arc::new(observed);
                self.decided = true;
                Ok(Arc::clone(&self.observed))
            }
            Err(failure) => {
                self.end_unapproved(migration).await?;
                Err(failure)
            }
        }
    }

    async fn stop(&mut self, migration: &MailMigration, decision: &Decision) -> Result<()> {
        self.end_outdated(migration, decision).await
    }

    async fn perform(&mut self, migration: &MailMigration, decision: &Decision) -> Result<()> {
        self.check_term()?;
        Box::pin(self.begin_steps(migration, decision)).await?;
        self.prune(migration).await?;
        self.tell_ledger(migration).await?;
        self.settle_troubles(migration)
    }

    async fn publish(&mut self, migration: &mut MailMigration, decision: &Decision) -> Result<()> {
        self.check_term()?;
        self.tell_mailboxes(migration, decision).await?;
        self.tell_migration(migration, decision).await
    }
}
