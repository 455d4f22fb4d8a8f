//! The platform of this process: steps become tasks, facts come from the state directory and from the tasks' ends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::task::JoinSet;

use super::clock::SystemClock;
use super::progress::{Display, DomainWatch};
use super::state::MigrationRecord;
use super::workers::Tools;
use crate::api::MailMigration;
use crate::discovery::Clock;
use crate::model::address::Address;
use crate::model::evidence::{DomainDiscovery, MailboxDiscovery, MailboxSize, TlsFacts};
use crate::model::failure::{Class, Failure, Result};
use crate::model::finding::{Code, Finding};
use crate::model::record::MailboxRecord;
use crate::plan::mailboxes::PlannedMailbox;
use crate::plan::{Decision, DomainObserved, MailboxObserved, Observed, Step};
use crate::reconcile::Platform;
use crate::transfer::progress::MailboxProgress;

/// The end of a task.
enum Done {
    Discovered { domain: usize, discovery: Result<Box<DomainDiscovery>> },
    Synced { mailbox: Address, record: Box<MailboxRecord>, tls: Option<TlsFacts> },
}

/// One migration in this process.
pub struct LocalPlatform {
    tools: Tools,
    display: Arc<dyn Display>,
    record: MigrationRecord,
    domains: BTreeMap<String, DomainObserved>,
    mailboxes: BTreeMap<Address, MailboxRecord>,
    running: BTreeSet<Address>,
    tasks: JoinSet<Done>,
}

impl LocalPlatform {
    /// Begins a pass: reads what is remembered, and lists the mailboxes of each domain.
    ///
    /// # Errors
    /// Those of the state directory. A domain or a mailbox whose own documents are damaged stops nothing else.
    pub fn begin(tools: Tools, display: Arc<dyn Display>) -> Result<Self> {
        let mut record = tools.state.load()?;
        let mut domains = BTreeMap::new();
        let mut mailboxes = BTreeMap::new();
        let mut unreadable = Vec::new();
        for (at, domain) in tools.spec().domains.iter().enumerate() {
            let listed = tools.list_mailboxes(at);
            for planned in listed.iter().flatten() {
                match tools.state.load_mailbox(&planned.source) {
                    Ok(remembered) => {
                        let remembered = remembered.unwrap_or_default();
                        // Where migration.json was moved away, its count begins anew; the mailboxes know better, and
                        // one that has ended this very pass already would be left out.
                        record.pass = record.pass.max(remembered.pass);
                        mailboxes.insert(planned.source.clone(), remembered);
                    }
                    Err(failure) => unreadable.push((planned.source.clone(), failure)),
                }
            }
            domains.insert(
                domain.name.clone(),
                DomainObserved { mailboxes: Some(listed.map(Arc::from)), ..DomainObserved::default() },
            );
        }
        record.pass += 1;
        tools.state.save(&record)?;
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
        Ok(Self {
            tools,
            display,
            record,
            domains,
            mailboxes,
            running: BTreeSet::new(),
            tasks: JoinSet::new(),
        })
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
                self.running.remove(&mailbox);
                self.display.mailbox_ended(&mailbox, &record);
                if tls.is_some() {
                    self.record.destination_tls = tls;
                }
                self.tools.state.save_mailbox(&mailbox, &record)?;
                self.mailboxes.insert(mailbox, *record);
                Ok(())
            }
        }
    }

    fn keep_discovery(&mut self, at: usize, discovery: Result<Box<DomainDiscovery>>) -> Result<()> {
        let name = self.tools.spec().domains[at].name.clone();
        let discovery = match discovery {
            Ok(discovery) => *discovery,
            Err(failure) => unreadable_domain(&name, self.domains.get(&name), failure)?,
        };
        self.display.domain_discovered(&discovery);
        self.tools.state.save_domain(&name, &discovery)?;
        if let Some(seen) = self.domains.get_mut(&name) {
            seen.discovering = false;
            seen.discovery = Some(discovery.into());
        }
        Ok(())
    }

    /// Whether no task is at work.
    pub fn is_idle(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Stops all tasks at once. Ledgers are safe: what was about to be sent is written down.
    pub async fn abort(&mut self) {
        self.tasks.shutdown().await;
    }

    /// What the display shows of the mailboxes under way.
    pub fn display(&self) -> &dyn Display {
        &*self.display
    }

    /// What discovery counted in a mailbox.
    fn size_of(&self, domain: usize, mailbox: &Address) -> Option<&MailboxSize> {
        self.domains.get(&self.tools.spec().domains[domain].name)?.find(mailbox)?.size.as_ref()
    }

    fn begin_discovery(&mut self, domain: usize) {
        let name = self.tools.spec().domains[domain].name.clone();
        let Some(seen) = self.domains.get_mut(&name) else { return };
        seen.discovering = true;
        let listed =
            seen.mailboxes.clone().unwrap_or_else(|| Err(Failure::new(Class::Internal, "not listed")));
        let tools = self.tools.clone();
        let watch = DomainWatch::new(name, Arc::clone(&self.display));
        self.tasks.spawn(async move {
            let discovery = tools.discover(domain, &listed, &watch).await.map(Box::new);
            Done::Discovered { domain, discovery }
        });
    }

    fn begin_sync(
        &mut self,
        domain: usize,
        planned: PlannedMailbox,
        endpoint: crate::model::endpoint::Endpoint,
    ) {
        let mailbox = planned.source.clone();
        let before = self.mailboxes.get(&mailbox).cloned().unwrap_or_default();
        let progress = Arc::new(MailboxProgress::default());
        if let Some(size) = self.size_of(domain, &mailbox) {
            let through = before.counts.source - before.counts.pending;
            let bytes = if through == 0 { size.bytes } else { 0 };
            progress.forecast(size.messages.saturating_sub(through), bytes);
        }
        self.display.mailbox_begins(&mailbox, &before, Arc::clone(&progress));
        self.running.insert(mailbox.clone());
        let (tools, pass) = (self.tools.clone(), self.record.pass);
        self.tasks.spawn(async move {
            let (record, tls) = tools.sync(domain, &planned, &endpoint, pass, before, &progress).await;
            Done::Synced { mailbox, record: Box::new(record), tls }
        });
    }
}

/// A domain that could not even be asked about: its Secret, its authority or its list is missing.
fn unreadable_domain(name: &str, seen: Option<&DomainObserved>, failure: Failure) -> Result<DomainDiscovery> {
    let now = SystemClock.now();
    let planned = seen.map(DomainObserved::planned).unwrap_or_default();
    let code = match seen.and_then(|s| s.mailboxes.as_ref()) {
        Some(Err(unlisted)) if !unlisted.what.contains("Secret") => Code::MailboxListMissing,
        _ => Code::CredentialsMissing,
    };
    let mailbox = |planned: &PlannedMailbox| MailboxDiscovery {
        address: planned.source.clone(),
        endpoint: None,
        overridden: false,
        attempts: Vec::new(),
        size: None,
        failure: Some(failure.clone()),
    };
    let mailboxes = planned.iter().map(mailbox).collect();
    Ok(DomainDiscovery {
        domain: name.parse().map_err(Failure::configuration)?,
        started: now,
        finished: now,
        evidence: Vec::new(),
        servers: Vec::new(),
        candidates: Vec::new(),
        mailboxes,
        findings: vec![Finding::of_domain(code, failure.sentence())],
        failure: Some(failure),
    })
}

#[async_trait]
impl Platform for LocalPlatform {
    fn now(&self) -> Timestamp {
        SystemClock.now()
    }

    async fn observe(&mut self, _: &MailMigration) -> Result<Observed> {
        let mailbox = |(address, record): (&Address, &MailboxRecord)| {
            let running = self.running.contains(address);
            (
                address.clone(),
                MailboxObserved { running, record: record.clone(), ..MailboxObserved::default() },
            )
        };
        Ok(Observed {
            pass: self.record.pass,
            domains: self.domains.clone(),
            mailboxes: self.mailboxes.iter().map(mailbox).collect(),
            ..Observed::default()
        })
    }

    async fn perform(&mut self, _: &MailMigration, decision: &Decision) -> Result<()> {
        for step in &decision.steps {
            match step {
                Step::Discover { domain } => self.begin_discovery(*domain),
                Step::Sync { domain, mailbox, endpoint } => {
                    self.begin_sync(*domain, mailbox.clone(), endpoint.clone());
                }
            }
        }
        Ok(())
    }

    async fn publish(&mut self, migration: &mut MailMigration, decision: &Decision) -> Result<()> {
        if migration.status.as_ref() == Some(&decision.status) {
            return Ok(());
        }
        migration.status = Some(decision.status.clone());
        self.record.status = decision.status.clone();
        self.tools.state.save(&self.record)
    }
}
