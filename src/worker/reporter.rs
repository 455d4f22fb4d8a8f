//! Tells the API server how the mailboxes of a pod fare. In a pod nothing else remembers it, so what became of a mailbox is
//! told until the API server takes it; progress is told now and then, and what is lost of it is told later.
//!
//! A mailbox's document goes before its status: whoever sees the status finished finds the document.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, interval_at};

use super::named::name_messages;
use super::patience::{once, persist};
use super::telling::{Attempt, Before, Telling, after_attempt, given_up, under_way};
use crate::api::{MailMigration, MailboxMigration, MailboxMigrationStatus, names};
use crate::cluster::refused;
use crate::cluster::results::{MailboxDocument, write_mailbox};
use crate::cluster::work::Item;
use crate::discovery::{Clock, Step};
use crate::ledger::Store;
use crate::local::clock::SystemClock;
use crate::local::platform::Memory;
use crate::local::progress::Display;
use crate::local::state::MigrationRecord;
use crate::model::address::Address;
use crate::model::evidence::{DomainDiscovery, TlsFacts};
use crate::model::failure::{Class, Failure, Result};
use crate::model::record::MailboxRecord;
use crate::plan::Decision;
use crate::transfer::progress::{Doing, MailboxProgress};

/// How often the progress of one mailbox is told: fifty pods together stay within five writes a second.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);
/// The least time between two writes: many pods share the API server.
const WRITE_EVERY: Duration = Duration::from_millis(200);

/// The knowledge of the mailboxes of a pod, for the task that reports them.
pub(super) struct Reporter {
    pass: u32,
    state: Mutex<State>,
    news: Notify,
    /// Ends when everything is told.
    told: watch::Receiver<()>,
}

#[derive(Default)]
struct State {
    mailboxes: BTreeMap<Address, Mailbox>,
    /// Mailboxes with news, the oldest first.
    queue: VecDeque<Address>,
    /// Whether nothing more will happen.
    closing: bool,
    /// The news that could not be told.
    failure: Option<Failure>,
}

struct Mailbox {
    item: Item,
    before: Option<Before>,
    under_way: Option<UnderWay>,
    news: Option<News>,
    /// When something was last reported about it.
    told: Instant,
}

#[derive(Clone)]
struct UnderWay {
    known: MailboxRecord,
    attempt: Attempt,
    progress: Arc<MailboxProgress>,
}

/// The news that must be reported about a mailbox; a newer one takes the place of an older one.
enum News {
    Ended(Box<MailboxRecord>, Option<TlsFacts>),
    Waiting(Box<MailboxRecord>),
}

/// The way of what is told.
pub(super) struct Channel {
    /// The API server.
    pub(super) client: Client,
    /// The migration's namespace.
    pub(super) namespace: String,
    /// Where the ledgers are.
    pub(super) store: Arc<dyn Store>,
}

impl Reporter {
    /// Begins to report mailboxes, each with its record so far.
    pub(super) fn start(
        channel: Channel,
        pass: u32,
        mailboxes: impl IntoIterator<Item = (Item, MailboxRecord)>,
    ) -> Arc<Self> {
        let (telling, told) = watch::channel(());
        let now = Instant::now();
        let mailboxes = mailboxes.into_iter().map(|(item, record)| {
            let before = given_up(&record, pass);
            let address = item.mailbox.source.clone();
            (address, Mailbox { item, before, under_way: None, news: None, told: now })
        });
        let state = State { mailboxes: mailboxes.collect(), ..State::default() };
        let reporter = Arc::new(Self { pass, state: Mutex::new(state), news: Notify::new(), told });
        let mut pace = interval(WRITE_EVERY);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let publisher = Publisher { reporter: Arc::clone(&reporter), channel, pace, said: BTreeMap::new() };
        tokio::spawn(async move {
            publisher.publish().await;
            drop(telling);
        });
        reporter
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until everything is told, however long the API server is away. Nothing may happen any more.
    ///
    /// # Errors
    /// The words that the API server would not take.
    pub(super) async fn finish(&self) -> Result<()> {
        self.state().closing = true;
        self.news.notify_one();
        while self.told.clone().changed().await.is_ok() {}
        self.state().failure.take().map_or(Ok(()), Err)
    }

    /// The news that waited longest.
    fn next_news(&self) -> Option<(Item, News)> {
        let mut state = self.state();
        while let Some(address) = state.queue.pop_front() {
            let Some(mailbox) = state.mailboxes.get_mut(&address) else { continue };
            if let Some(news) = mailbox.news.take() {
                mailbox.told = Instant::now();
                return Some((mailbox.item.clone(), news));
            }
        }
        None
    }

    /// The mailbox under way that was reported longest ago. One that has not come to its ledger yet may be another
    /// worker's; it names no place.
    fn next_progress(&self) -> Option<(Item, UnderWay, Option<Before>)> {
        let mut state = self.state();
        let mailboxes = state.mailboxes.values_mut();
        let known = mailboxes
            .filter(|mailbox| {
                mailbox.under_way.as_ref().is_some_and(|u| u.progress.read().place != Doing::Nothing)
            })
            .min_by_key(|mailbox| mailbox.told)?;
        known.told = Instant::now();
        Some((known.item.clone(), known.under_way.clone()?, known.before.clone()))
    }

    fn is_under_way(&self, mailbox: &Address) -> bool {
        self.state().mailboxes.get(mailbox).is_some_and(|mailbox| mailbox.under_way.is_some())
    }

    fn is_closing(&self) -> bool {
        self.state().closing
    }

    fn fail(&self, failure: Failure) {
        tracing::error!(failure = %failure.sentence(), "it cannot be told");
        self.state().failure.get_or_insert(failure);
    }
}

impl Memory for Reporter {
    fn keep_migration(&self, _: &MigrationRecord) -> Result<()> {
        Ok(())
    }

    fn keep_domain(&self, _: &str, _: &DomainDiscovery, _: Option<&str>) -> Result<()> {
        Ok(())
    }

    fn keep_mailbox(
        &self,
        address: &Address,
        record: &MailboxRecord,
        destination: Option<&TlsFacts>,
    ) -> Result<()> {
        let news = match after_attempt(address, record) {
            Telling::Ended => News::Ended(Box::new(record.clone()), destination.cloned()),
            Telling::Waiting(record) => News::Waiting(record),
            Telling::Nothing => return Ok(()),
        };
        let mut state = self.state();
        if let Some(mailbox) = state.mailboxes.get_mut(address) {
            // There is something better to say now.
            mailbox.before = None;
            mailbox.news = Some(news);
            state.queue.push_back(address.clone());
        }
        drop(state);
        self.news.notify_one();
        Ok(())
    }
}

impl Display for Reporter {
    fn discovering(&self, _: &str, _: &Step) {}
    fn domain_discovered(&self, _: &DomainDiscovery) {}
    fn decided(&self, _: &MailMigration, _: &Decision) {}
    fn finish(&self) {}

    fn verification_begins(&self, _: &Address, _: Arc<MailboxProgress>) {}
    fn verification_ended(&self, _: &Address, _: &MailboxRecord) {}

    fn mailbox_begins(&self, address: &Address, known: &MailboxRecord, progress: Arc<MailboxProgress>) {
        let attempt = Attempt::after(known, self.pass, SystemClock.now());
        tracing::info!(mailbox = %address, pass = attempt.pass, attempt = attempt.number, "begins");
        if let Some(mailbox) = self.state().mailboxes.get_mut(address) {
            mailbox.under_way = Some(UnderWay { known: known.clone(), attempt, progress });
        }
    }

    fn mailbox_ended(&self, address: &Address, record: &MailboxRecord) {
        match &record.failure {
            None => {
                tracing::info!(mailbox = %address, messages = %record.counts, sent = record.sent, "is through");
            }
            Some(failure) => {
                tracing::warn!(mailbox = %address, class = %failure.class, failure = %failure.sentence(), "stopped");
            }
        }
        if let Some(mailbox) = self.state().mailboxes.get_mut(address) {
            mailbox.under_way = None;
        }
    }
}

/// The task that tells.
struct Publisher {
    reporter: Arc<Reporter>,
    channel: Channel,
    pace: Interval,
    /// The progress that was told last of each mailbox: what did not change is not told again.
    said: BTreeMap<Address, MailboxRecord>,
}

impl Publisher {
    async fn publish(mut self) {
        let mut look = interval_at(Instant::now() + PROGRESS_EVERY, PROGRESS_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // The close comes after the last news.
            let closing = self.reporter.is_closing();
            while let Some((item, news)) = self.reporter.next_news() {
                self.tell(&item, news).await;
            }
            if closing {
                return;
            }
            tokio::select! {
                () = self.reporter.news.notified() => {}
                _ = look.tick() => self.tell_progress().await,
            }
        }
    }

    /// Tells what must be told, until it is.
    async fn tell(&mut self, item: &Item, news: News) {
        let record = match news {
            News::Waiting(record) => record,
            News::Ended(record, tls) => {
                let document = self.document(item, &record, tls).await;
                self.pace.tick().await;
                let Channel { client, namespace, .. } = &self.channel;
                let write = || write_mailbox(client, namespace, &item.results, &item.object, &document);
                if let Err(failure) = persist(&item.object, write).await {
                    self.refuse(item, failure);
                }
                record
            }
        };
        self.pace.tick().await;
        if let Err(failure) = persist(&item.object, || self.write_status(item, &record)).await {
            self.refuse(item, failure);
        }
    }

    /// An object that was removed meanwhile is nobody's concern any more.
    fn refuse(&self, item: &Item, failure: Failure) {
        if failure.class == Class::Configuration {
            tracing::warn!(mailbox = %item.mailbox.source, failure = %failure.sentence(), "it is not told of any more");
        } else {
            self.reporter.fail(failure.at(item.mailbox.source.to_string()));
        }
    }

    async fn document(
        &self,
        item: &Item,
        record: &MailboxRecord,
        destination_tls: Option<TlsFacts>,
    ) -> MailboxDocument {
        let named = async {
            match self.channel.store.find(&item.object).await? {
                Some(ledger) => name_messages(&*ledger, &item.mailbox.source).await,
                None => Ok((Vec::new(), 0)),
            }
        };
        let (named, omitted) = named.await.unwrap_or_else(|failure: Failure| {
            tracing::warn!(mailbox = %item.mailbox.source, failure = %failure.sentence(), "its messages cannot be named");
            (Vec::new(), record.counts.failed + record.counts.excluded + record.altered)
        });
        MailboxDocument { record: record.clone(), destination_tls, named, omitted }
    }

    /// Tells the progress of one mailbox. Figures that could not be told are told again with newer ones.
    async fn tell_progress(&mut self) {
        let Some((item, at_work, before)) = self.reporter.next_progress() else { return };
        let told = async {
            let Some(ledger) = self.channel.store.find(&item.object).await? else { return Ok(()) };
            let figures = (ledger.counts().await?, ledger.count_discrepancies().await?);
            let record = under_way(&at_work.known, &at_work.attempt, before.as_ref(), figures);
            let mailbox = &item.mailbox.source;
            if !self.reporter.is_under_way(mailbox) || self.said.get(mailbox) == Some(&record) {
                return Ok(());
            }
            once(self.write_status(&item, &record)).await?;
            self.said.insert(mailbox.clone(), record);
            Ok(())
        };
        let told: Result<()> = told.await;
        if let Err(failure) = told {
            tracing::debug!(mailbox = %item.mailbox.source, failure = %failure.sentence(), "its progress is not told");
        }
    }

    async fn write_status(&self, item: &Item, record: &MailboxRecord) -> Result<()> {
        let Channel { client, namespace, .. } = &self.channel;
        // As the operator counts: a mailbox looks no smaller while its folders are gone through.
        let counts = record.messages(self.reporter.pass, item.size.as_ref());
        let told = MailboxRecord { counts, ..record.clone() };
        let api: Api<MailboxMigration> = Api::namespaced(client.clone(), namespace);
        let patch = json!({
            "apiVersion": names::API_VERSION,
            "kind": "MailboxMigration",
            "metadata": {"name": item.object},
            "status": MailboxMigrationStatus::told_by_worker(&told),
        });
        let params = PatchParams::apply(names::MANAGER_PROGRESS).force();
        let what = format!("the status of MailboxMigration {} cannot be written", item.object);
        match api.patch_status(&item.object, &params, &Patch::Apply(&patch)).await {
            Ok(_) => Ok(()),
            // The API server calls this an error of its own, which time does not mend.
            Err(kube::Error::Api(status)) if status.message.contains("not declared in schema") => {
                let what = format!("{what}: the cluster's definition of it is an older one");
                Err(Failure::new(Class::Refused, what)
                    .hint("mailferry crd | kubectl apply --server-side -f -"))
            }
            Err(error) => Err(refused(&what, &error)),
        }
    }
}
