//! The platform of this process: steps become tasks, facts come from what is remembered and from the tasks' ends. A
//! laptop remembers in its state directory; a pod carries a slice of a domain and remembers nothing but tells it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::AddAssign;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::clock::SystemClock;
use super::fresh::still_holds;
use super::limits;
use super::progress::{Display, DomainWatch};
use super::run::Wanted;
use super::state::{MigrationRecord, MigrationState};
use super::workers::Tools;
use crate::api::{MailMigration, Stage};
use crate::discovery::Clock;
use crate::model::address::Address;
use crate::model::endpoint::Endpoint;
use crate::model::evidence::{DomainDiscovery, MailboxSize, TlsFacts};
use crate::model::failure::{Failure, Result};
use crate::model::purpose::Purpose;
use crate::model::record::MailboxRecord;
use crate::plan::document::Plan;
use crate::plan::mailboxes::PlannedMailbox;
use crate::plan::{Decision, DomainObserved, MailboxObserved, Observed, Step, decide, pass};
use crate::reconcile::Platform;
use crate::transfer::books::tell_found;
use crate::transfer::progress::MailboxProgress;

/// How long a status may be known to this process alone: one that is about to be replaced is not brought to the disk.
const KEEP_WITHIN: Duration = Duration::from_secs(1);
/// How often the mailboxes under way are counted.
const COUNT_EVERY: Duration = Duration::from_secs(10);

/// The end of a task.
enum Done {
    Discovered { domain: usize, discovery: Result<Box<DomainDiscovery>> },
    Synced { mailbox: Address, record: Box<MailboxRecord>, tls: Option<TlsFacts> },
    Verified { mailbox: Address, record: Box<MailboxRecord> },
}

/// A keeper of what must outlive the process.
pub trait Memory: Send + Sync {
    /// Keeps what is to be remembered of the migration.
    ///
    /// # Errors
    /// When it cannot be kept, so that nothing more should be done.
    fn keep_migration(&self, record: &MigrationRecord) -> Result<()>;
    /// Keeps a plan that is current from now on, and forgets one; a slice of a migration has none of its own.
    ///
    /// # Errors
    /// As [`Self::keep_migration`].
    fn keep_plan(&self, _plan: &Plan, _dropped: Option<&str>) -> Result<()> {
        Ok(())
    }
    /// Keeps what discovery saw of a domain, and a digest of what it was asked by, where that is known.
    ///
    /// # Errors
    /// As [`Self::keep_migration`].
    fn keep_domain(&self, domain: &str, discovery: &DomainDiscovery, inputs: Option<&str>) -> Result<()>;
    /// Keeps how an attempt on a mailbox ended; `destination` is what TLS showed there.
    ///
    /// # Errors
    /// As [`Self::keep_migration`].
    fn keep_mailbox(
        &self,
        mailbox: &Address,
        record: &MailboxRecord,
        destination: Option<&TlsFacts>,
    ) -> Result<()>;
}

impl Memory for MigrationState {
    fn keep_migration(&self, record: &MigrationRecord) -> Result<()> {
        self.save(record)
    }

    fn keep_plan(&self, plan: &Plan, dropped: Option<&str>) -> Result<()> {
        if let Some(dropped) = dropped {
            self.drop_plan(dropped);
        }
        self.save_plan(plan)
    }

    fn keep_domain(&self, domain: &str, discovery: &DomainDiscovery, inputs: Option<&str>) -> Result<()> {
        self.save_domain(domain, discovery, inputs)
    }

    fn keep_mailbox(&self, mailbox: &Address, record: &MailboxRecord, _: Option<&TlsFacts>) -> Result<()> {
        self.save_mailbox(mailbox, record)
    }
}

/// All that is known when a pass begins.
#[derive(Debug, Default)]
pub struct Known {
    /// The memory of the migration, with the number of this pass.
    pub record: MigrationRecord,
    /// Each domain, by its name in the spec.
    pub domains: BTreeMap<String, DomainObserved>,
    /// The memory of each mailbox.
    pub mailboxes: BTreeMap<Address, MailboxRecord>,
    /// The digest that each domain is asked by, where it can be told.
    pub inputs: BTreeMap<String, String>,
    /// Where the mailboxes of each domain were read when it was looked at before.
    pub before: BTreeMap<String, Vec<Endpoint>>,
    /// The approved plan, where it is kept.
    pub approved: Option<Arc<Plan>>,
}

/// The messages that a run brought to the destination.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Brought {
    /// Messages that were sent to the destination.
    pub new: u64,
    /// Messages that were found there already and not sent again.
    pub recognised: u64,
    /// Messages whose flags were brought up to date there.
    pub changed: u64,
}

impl AddAssign for Brought {
    fn add_assign(&mut self, more: Self) {
        self.new += more.new;
        self.recognised += more.recognised;
        self.changed += more.changed;
    }
}

/// One migration in this process.
pub struct LocalPlatform {
    tools: Tools,
    memory: Arc<dyn Memory>,
    display: Arc<dyn Display>,
    record: MigrationRecord,
    /// When the record is to be kept, while it differs from what is.
    unkept: Option<Instant>,
    domains: BTreeMap<String, DomainObserved>,
    mailboxes: BTreeMap<Address, MailboxRecord>,
    inputs: BTreeMap<String, String>,
    before: BTreeMap<String, Vec<Endpoint>>,
    approved: Option<Arc<Plan>>,
    running: BTreeMap<Address, UnderWay>,
    /// The verification that is wanted.
    verification: u32,
    verifying: BTreeSet<Address>,
    only: Option<BTreeSet<Address>>,
    /// When the pass began, once it has.
    began: Option<Timestamp>,
    /// Whether somebody stays who begins the next pass.
    keeps: bool,
    /// Whether tasks were stopped since that was asked.
    paused: bool,
    brought: Brought,
    tasks: JoinSet<Done>,
    /// Places for domains that are looked at.
    discoveries: Arc<Semaphore>,
    /// When those under way are to be counted next; a pod never counts, for it reports its mailboxes in its own way.
    count_at: Option<Instant>,
    /// Whether it was stopped from outside.
    stopped: bool,
}

/// A mailbox that a task is at work on.
struct UnderWay {
    before: MailboxRecord,
    progress: Arc<MailboxProgress>,
}

impl UnderWay {
    /// The memory of a mailbox that is at work in a pass, with the counts of before.
    fn record(&self, pass: u32) -> MailboxRecord {
        let before = &self.before;
        MailboxRecord {
            pass,
            attempts: 1,
            started: before.started.filter(|_| before.pass == pass),
            ended: None,
            failure: None,
            ..before.clone()
        }
    }
}

impl LocalPlatform {
    /// Begins a pass: reads what is remembered, and lists the mailboxes of each domain. The view that discovery had of a domain and
    /// still holds is not asked again, unless asking is all that is wanted. Where some mailboxes alone are wanted it is
    /// not a new pass: they go through the last one again, and the others stay as they are. `declared` is a digest of the
    /// specification as the manifest has it.
    ///
    /// # Errors
    /// Those of the state directory. A domain or a mailbox whose own documents are damaged stops nothing else.
    pub async fn begin(
        tools: Tools,
        state: MigrationState,
        display: Arc<dyn Display>,
        asked: &Wanted,
        declared: String,
    ) -> Result<Self> {
        let (only, mut wanted) = (&asked.only, BTreeSet::new());
        let mut record = state.load()?;
        let published = record.status.pass.clone();
        let mut verification = pass::next(tools.spec(), published.as_ref()).verification;
        let mut domains = BTreeMap::new();
        let mut mailboxes = BTreeMap::new();
        let mut inputs = BTreeMap::new();
        let mut before = BTreeMap::new();
        let mut unreadable = Vec::new();
        for (at, domain) in tools.spec().domains.iter().enumerate() {
            let listed = tools.list_mailboxes(at);
            for planned in listed.iter().flatten() {
                if only.takes(planned) {
                    wanted.insert(planned.source.clone());
                }
                match state.load_mailbox(&planned.source) {
                    Ok(remembered) => {
                        let remembered = remembered.unwrap_or_default();
                        // Where migration.json was moved away, its count begins anew; the mailboxes know better, and
                        // one that has ended this very pass already would be left out.
                        record.pass = record.pass.max(remembered.pass);
                        if published.is_none() {
                            verification = verification.max(remembered.verification_number);
                        }
                        mailboxes.insert(planned.source.clone(), remembered);
                    }
                    Err(failure) => unreadable.push((planned.source.clone(), failure)),
                }
            }
            let asked_by = match &listed {
                Ok(listed) => tools.discovery_inputs(at, listed).await.ok(),
                Err(_) => None,
            };
            let known = if tools.spec().suspend {
                // Nothing is asked, so what was seen last is what is known.
                state.load_domain(&domain.name).ok().flatten()
            } else {
                asked_by.as_ref().filter(|_| tools.spec().stage != Stage::Plan).and_then(|asked_by| {
                    // A document that is damaged is written anew.
                    let discovery = state.load_domain_by(&domain.name, asked_by).ok()??;
                    let records =
                        listed.iter().flatten().filter_map(|planned| mailboxes.get(&planned.source));
                    let named = !domain.servers.is_empty();
                    still_holds(&discovery, records, named, SystemClock.now()).then_some(discovery)
                })
            };
            // A document that is damaged is written anew, and tells nothing.
            if let (None, Ok(Some(seen))) = (&known, state.load_domain(&domain.name)) {
                before.insert(domain.name.clone(), seen.read_from());
            }
            if let Some(discovery) = &known {
                display.domain_discovered(discovery);
            }
            if let Some(asked_by) = asked_by {
                inputs.insert(domain.name.clone(), asked_by);
            }
            let seen = DomainObserved {
                mailboxes: Some(listed.map(Arc::from)),
                discovery: known.map(Into::into),
                ..DomainObserved::default()
            };
            domains.insert(domain.name.clone(), seen);
        }
        (record.stage, record.spec) = (Some(tools.spec().stage), Some(declared));
        let only = (!only.is_all()).then_some(wanted);
        match &only {
            // A pass that paused goes on, and one that no mailbox has begun is taken up.
            None if record.pass == 0
                || !asked.resumes && mailboxes.values().any(|known| known.pass >= record.pass) =>
            {
                record.pass += 1;
            }
            None => {}
            Some(wanted) => {
                record.pass = record.pass.max(1);
                for mailbox in wanted {
                    if let Some(known) = mailboxes.get_mut(mailbox) {
                        known.pass = known.pass.min(record.pass - 1);
                    }
                }
            }
        }
        for (mailbox, failure) in unreadable {
            let broken = MailboxRecord {
                pass: record.pass,
                attempts: 1,
                ended: Some(SystemClock.now()),
                failure: Some(failure),
                ..MailboxRecord::default()
            };
            mailboxes.insert(mailbox, broken);
        }
        record.only.clone_from(&only);
        let approved = state.find_approved(tools.spec().approved_plan.as_deref());
        let known = Known { record, domains, mailboxes, inputs, before, approved };
        Ok(Self {
            unkept: Some(Instant::now() + KEEP_WITHIN),
            count_at: Some(Instant::now() + COUNT_EVERY),
            verification,
            only,
            began: published.filter(|_| asked.resumes).and_then(|published| published.began),
            keeps: asked.keeps,
            ..Self::resume(tools, known, Arc::new(state), display)
        })
    }

    /// Takes up a pass of which everything is known.
    pub fn resume(tools: Tools, known: Known, memory: Arc<dyn Memory>, display: Arc<dyn Display>) -> Self {
        let Known { record, domains, mailboxes, inputs, before, approved } = known;
        Self {
            tools,
            memory,
            display,
            record,
            unkept: None,
            domains,
            mailboxes,
            inputs,
            before,
            approved,
            running: BTreeMap::new(),
            verification: 0,
            verifying: BTreeSet::new(),
            only: None,
            began: None,
            keeps: false,
            paused: false,
            brought: Brought::default(),
            tasks: JoinSet::new(),
            count_at: None,
            stopped: false,
            discoveries: Arc::new(Semaphore::new(limits::discoveries_at_once())),
        }
    }

    /// Waits until a task ends and takes what it brought; returns at once when none is at work.
    ///
    /// # Errors
    /// Those of the state directory.
    pub async fn absorb(&mut self) -> Result<()> {
        let Some(done) = self.tasks.join_next().await else { return Ok(()) };
        let done = done.map_err(|e| {
            Failure::internal("a task ended badly")
                .hint("please report this with the output of -v")
                .caused_by(&e)
        })?;
        match done {
            Done::Discovered { domain, discovery } => self.keep_discovery(domain, discovery),
            Done::Synced { mailbox, record, tls } => {
                let under_way = self.running.remove(&mailbox);
                let before = self.mailboxes.get(&mailbox);
                let flags = before.map_or(0, |before| before.flags_updated);
                let known = before.filter(|before| before.pass == record.pass).map_or(0, |it| it.recognised);
                self.brought.changed += record.flags_updated.saturating_sub(flags);
                if let Some(before) = under_way.and_then(|under_way| under_way.progress.before()) {
                    let copied = record.counts.copied.saturating_sub(before.copied);
                    let recognised = record.recognised.saturating_sub(known).min(copied);
                    self.brought.new += copied - recognised;
                    self.brought.recognised += recognised;
                }
                self.display.mailbox_ended(&mailbox, &record);
                self.memory.keep_mailbox(&mailbox, &record, tls.as_ref())?;
                if tls.is_some() {
                    self.record.destination_tls = tls;
                }
                self.mailboxes.insert(mailbox, *record);
                Ok(())
            }
            Done::Verified { mailbox, record } => {
                self.verifying.remove(&mailbox);
                self.display.verification_ended(&mailbox, &record);
                self.memory.keep_mailbox(&mailbox, &record, None)?;
                self.mailboxes.insert(mailbox, *record);
                Ok(())
            }
        }
    }

    fn keep_discovery(&mut self, at: usize, discovery: Result<Box<DomainDiscovery>>) -> Result<()> {
        let name = self.tools.spec().domains[at].name.clone();
        let mut discovery = *discovery?;
        if let Err(failure) =
            self.memory.keep_domain(&name, &discovery, self.inputs.get(&name).map(String::as_str))
        {
            // Without its document nobody could report of it later: this domain waits, and the others go on.
            for mailbox in &mut discovery.mailboxes {
                mailbox.endpoint = None;
                mailbox.failure = Some(failure.clone());
            }
            discovery.failure = Some(failure);
        }
        self.display.domain_discovered(&discovery);
        if let Some(seen) = self.domains.get_mut(&name) {
            seen.discovering = false;
            seen.discovery = Some(discovery.into());
        }
        Ok(())
    }

    /// When [`Self::keep_record`] is to be called; `None` while there is nothing to keep.
    pub fn keeps_at(&self) -> Option<Instant> {
        self.unkept
    }

    /// Keeps what is to be remembered of the migration, if that differs from what is.
    ///
    /// # Errors
    /// Those of the state directory.
    pub fn keep_record(&mut self) -> Result<()> {
        if self.unkept.take().is_some() {
            self.memory.keep_migration(&self.record)?;
        }
        Ok(())
    }

    /// When [`Self::count_running`] is to be called; `None` where nothing is to be counted.
    pub fn counts_at(&self) -> Option<Instant> {
        self.count_at.filter(|_| !self.running.is_empty())
    }

    /// Counts what has arrived so far in the mailboxes under way, and keeps it: whoever looks meanwhile sees it, and it is known
    /// should the process be killed.
    ///
    /// # Errors
    /// Those of the state directory. A ledger that cannot be read now is left to its task.
    pub async fn count_running(&mut self) -> Result<()> {
        self.count_at = Some(Instant::now() + COUNT_EVERY);
        for (mailbox, under_way) in &self.running {
            let Ok(Some(ledger)) = self.tools.store.find(&self.tools.key(mailbox)).await else { continue };
            let mut record = under_way.record(self.record.pass);
            if tell_found(&mut record, &*ledger).await.is_ok() {
                self.memory.keep_mailbox(mailbox, &record, None)?;
                self.mailboxes.insert(mailbox.clone(), record);
            }
        }
        Ok(())
    }

    /// Says that it was stopped: what has arrived is counted, and the status tells that nothing goes on. All tasks must have been
    /// stopped.
    ///
    /// # Errors
    /// Those of the state directory.
    pub async fn tell_stopped(&mut self, migration: &mut MailMigration) -> Result<()> {
        self.count_running().await?;
        self.running.clear();
        self.verifying.clear();
        self.stopped = true;
        let observed = self.observe(migration).await?;
        let decision = decide(migration, &observed, self.now());
        self.publish(migration, &decision).await
    }

    /// Whether tasks were stopped since this was asked last, because a window of the schedule closed.
    pub fn has_paused(&mut self) -> bool {
        std::mem::take(&mut self.paused)
    }

    /// Whether no task is at work.
    pub fn is_idle(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Stops all tasks at once. Ledgers are safe: what was about to be sent is written down.
    pub async fn abort(&mut self) {
        self.tasks.shutdown().await;
    }

    /// The messages that came to the destination so far.
    pub fn brought(&self) -> Brought {
        self.brought
    }

    /// The display of the mailboxes under way.
    pub fn display(&self) -> &dyn Display {
        &*self.display
    }

    /// The count that discovery made of a mailbox.
    fn size_of(&self, domain: usize, mailbox: &Address) -> Option<&MailboxSize> {
        self.domains.get(&self.tools.spec().domains[domain].name)?.find(mailbox)?.size.as_ref()
    }

    fn begin_discovery(&mut self, domain: usize) {
        let name = self.tools.spec().domains[domain].name.clone();
        let Some(seen) = self.domains.get_mut(&name) else { return };
        seen.discovering = true;
        let listed = seen.mailboxes.clone().unwrap_or_else(|| Err(Failure::internal("not listed")));
        let tools = self.tools.clone();
        let before = self.before.get(&name).cloned().unwrap_or_default();
        let watch = DomainWatch::new(name, Arc::clone(&self.display));
        let places = Arc::clone(&self.discoveries);
        self.tasks.spawn(async move {
            // The places are never closed.
            let _place = places.acquire().await;
            let discovery = tools.discover(domain, &listed, &before, &watch).await.map(Box::new);
            Done::Discovered { domain, discovery }
        });
    }

    fn begin_sync(&mut self, domain: usize, planned: PlannedMailbox, endpoint: Endpoint) {
        let mailbox = planned.source.clone();
        let before = self.mailboxes.get(&mailbox).cloned().unwrap_or_default();
        let progress = Arc::new(MailboxProgress::default());
        let pilot = self.tools.spec().policy.pilot.as_ref();
        let whole = pilot.is_none_or(|pilot| pilot.messages_per_folder.is_none());
        if let Some(size) = self.size_of(domain, &mailbox).filter(|_| whole) {
            let through = before.counts.copied + before.counts.failed;
            progress.forecast(size.messages, size.bytes);
            progress.suppose(through, share_of(size.bytes, through, before.counts.source));
        }
        self.display.mailbox_begins(&mailbox, &before, Arc::clone(&progress));
        let under_way = UnderWay { before: before.clone(), progress: Arc::clone(&progress) };
        self.running.insert(mailbox.clone(), under_way);
        let (tools, pass) = (self.tools.clone(), self.record.pass);
        self.tasks.spawn(async move {
            let (record, tls) = tools.sync(domain, &planned, &endpoint, pass, before, &progress).await;
            Done::Synced { mailbox, record: Box::new(record), tls }
        });
    }

    fn begin_verification(&mut self, domain: usize, planned: PlannedMailbox, endpoint: Endpoint) {
        let mailbox = planned.source.clone();
        let before = self.mailboxes.get(&mailbox).cloned().unwrap_or_default();
        let progress = Arc::new(MailboxProgress::default());
        progress.forecast(before.counts.source, 0);
        self.display.verification_begins(&mailbox, Arc::clone(&progress));
        self.verifying.insert(mailbox.clone());
        let (tools, number) = (self.tools.clone(), self.verification);
        self.tasks.spawn(async move {
            // Both sides' sessions are in it.
            let verifying = tools.verify(domain, &planned, &endpoint, number, before, &progress);
            let record = Box::pin(verifying).await;
            Done::Verified { mailbox, record: Box::new(record) }
        });
    }
}

/// The part of some bytes that belongs to a part of the messages.
fn share_of(bytes: u64, part: u64, whole: u64) -> u64 {
    let share = u128::from(bytes) * u128::from(part) / u128::from(whole.max(1));
    u64::try_from(share).unwrap_or(bytes)
}

#[async_trait]
impl Platform for LocalPlatform {
    fn now(&self) -> Timestamp {
        SystemClock.now()
    }

    async fn observe(&mut self, _: &MailMigration) -> Result<Arc<Observed>> {
        let mailbox = |(address, record): (&Address, &MailboxRecord)| {
            let running = self.running.contains_key(address);
            (
                address.clone(),
                MailboxObserved {
                    running,
                    verifying: self.verifying.contains(address),
                    record: record.clone(),
                    ..MailboxObserved::default()
                },
            )
        };
        Ok(Arc::new(Observed {
            pass: self.record.pass,
            began: self.began,
            keeps: self.keeps,
            verification: self.verification,
            domains: self.domains.clone(),
            mailboxes: self.mailboxes.iter().map(mailbox).collect(),
            stopped: self.stopped,
            only: self.only.clone(),
            approved: self.approved.clone(),
            ..Observed::default()
        }))
    }

    async fn stop(&mut self, _: &MailMigration, decision: &Decision) -> Result<()> {
        if !decision.halt || self.running.is_empty() && self.verifying.is_empty() {
            return Ok(());
        }
        // All domains were looked at before the first mailbox began, so nothing else is at work.
        self.abort().await;
        self.count_running().await?;
        self.running.clear();
        self.verifying.clear();
        self.paused = true;
        Ok(())
    }

    async fn perform(&mut self, _: &MailMigration, decision: &Decision) -> Result<()> {
        for step in &decision.steps {
            match step {
                Step::Discover { domain } => self.begin_discovery(*domain),
                Step::Sync { domain, mailbox, endpoint, purpose } => {
                    let (mailbox, endpoint) = (mailbox.clone(), endpoint.clone());
                    match purpose {
                        Purpose::Delta => self.begin_sync(*domain, mailbox, endpoint),
                        Purpose::Verify => self.begin_verification(*domain, mailbox, endpoint),
                    }
                }
            }
        }
        Ok(())
    }

    async fn publish(&mut self, migration: &mut MailMigration, decision: &Decision) -> Result<()> {
        // Nobody has heard of the first pass yet, and at the end nothing follows.
        let mut at_once = self.record.pass <= 1 || decision.ending.is_some() || decision.paused.is_some();
        self.began = decision.status.pass.as_ref().and_then(|pass| pass.began);
        if migration.status.as_ref() != Some(&decision.status) {
            migration.status = Some(decision.status.clone());
            self.record.status = decision.status.clone();
            if let (Some(plan), Some(brief)) = (&decision.plan, &decision.status.plan) {
                let stood = self.record.plans.last().is_some_and(|last| last.digest == brief.digest);
                let dropped = self.record.add_plan(&brief.digest, SystemClock.now());
                if !stood {
                    self.memory.keep_plan(plan, dropped.as_ref().map(|plan| plan.digest.as_str()))?;
                    at_once = true;
                }
            }
            self.unkept.get_or_insert_with(|| Instant::now() + KEEP_WITHIN);
        }
        if at_once { self.keep_record() } else { Ok(()) }
    }
}
