//! Carries one mailbox: logs in at both sides, lets the engine work over as many sessions as there is room for, and writes
//! down how it went.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::{Duration, sleep};

use super::{Tools, check_authorities};
use crate::auth::credentials::Login;
use crate::discovery::Clock;
use crate::discovery::findings::find_certificate_ending;
use crate::drivers::Destination;
use crate::drivers::registry::{KnownDestination, KnownSource, LoggedIn, Way, driver};
use crate::local::clock::SystemClock;
use crate::model::endpoint::Endpoint;
use crate::model::evidence::TlsFacts;
use crate::model::failure::{Class, Failure, Place, Result, Side};
use crate::model::finding::{Code, Finding};
use crate::model::preset::by_imap_host;
use crate::model::progress::MessageCounts;
use crate::model::protocol::Protocol;
use crate::model::record::MailboxRecord;
use crate::net::tls::Trust;
use crate::plan::mailboxes::PlannedMailbox;
use crate::transfer::books::{find_lost_ledger, take_over_counts, tell_found};
use crate::transfer::daily::{self, DailyLimit};
use crate::transfer::lanes::{Lane, MoreLanes};
use crate::transfer::neighbours::Neighbours;
use crate::transfer::progress::MailboxProgress;
use crate::transfer::{Rules, carry_mailbox, find_other_end};

/// How often a session with another mailbox at the destination is tried while the host's connections are all taken.
const OTHER_TRIES: u32 = 10;
/// How long it waits between two tries.
const OTHER_PAUSE: Duration = Duration::from_millis(500);

impl Tools {
    /// Carries one mailbox once and says how it went.
    pub async fn sync(
        &self,
        at: usize,
        planned: &PlannedMailbox,
        endpoint: &Endpoint,
        pass: u32,
        before: MailboxRecord,
        progress: &MailboxProgress,
    ) -> (MailboxRecord, Option<TlsFacts>) {
        let attempts = if before.pass == pass { before.attempts + 1 } else { 1 };
        // Some servers end a session after ten refusals: whoever gets through them gets on as well.
        let judged = |counts: &MessageCounts| counts.copied + counts.failed;
        let judged_before = judged(&before.counts);
        let started = SystemClock.now();
        // All attempts of a pass count together.
        let (sent, recognised) = if attempts == 1 { (0, 0) } else { (before.sent, before.recognised) };
        let mut record = MailboxRecord {
            pass,
            attempts,
            started: Some(started),
            ended: None,
            failure: None,
            sent,
            recognised,
            ..before
        };
        let mut tls = None;
        // Several sessions are a large future.
        let synced = Box::pin(self.sync_into(at, planned, endpoint, &mut record, &mut tls, progress));
        if let Err(mut failure) = synced.await {
            if failure.class == Class::Throttled {
                // Another session may have heard of a longer one.
                let hosts = [&endpoint.host, &self.spec().destination.endpoint().host];
                let left = hosts.into_iter().filter_map(|host| self.network.pause_left(host)).max();
                failure.wait = failure.wait.max(left);
            }
            if failure.class == Class::Quota && failure.side != Some(Side::Source) {
                let full = Finding::about(Code::DestinationFull, &planned.destination, failure.what.clone());
                record.findings.retain(|finding| finding.code != Code::DestinationFull);
                record.findings.push(full);
            }
            // A pass that gets on is not at the end: a session that a server ends every hour may be begun anew all day.
            if judged(&record.counts) > judged_before {
                record.attempts = 1;
            }
            record.failure = Some(failure);
        }
        record.ended = Some(SystemClock.now());
        (record, tls)
    }

    /// How much of a mailbox may be read in a day: what the manifest says, else what is known of the service.
    fn daily_limit(&self, source: &Endpoint) -> Option<Arc<DailyLimit>> {
        let known = || match source.protocol {
            Protocol::Imap => by_imap_host(&source.host)?.planned_bytes_per_day(),
            Protocol::Pop3 | Protocol::Maildir | Protocol::Mbox | Protocol::Eml => None,
        };
        let bytes = self.spec().policy.limits.source_bytes_per_day.or_else(known)?;
        Some(Arc::new(DailyLimit::new(bytes, || SystemClock.now())))
    }

    /// Tells the network how a session in mid-work ended. The failure names the side that said so; without a name it was either.
    fn note_end(&self, source: &Endpoint, failure: &Failure) {
        // A pause of our own concerns this mailbox alone, and no host asked for it.
        if failure.place.iter().any(|place| place == daily::FIELD) {
            return;
        }
        let destination = self.spec().destination.endpoint();
        let said =
            |endpoint: &Endpoint| failure.place.iter().any(|place| place.starts_with(&endpoint.address()));
        for endpoint in [source, &destination] {
            if said(endpoint) || !said(source) && !said(&destination) {
                self.network.note(&endpoint.host, failure);
            }
        }
    }

    async fn sync_into(
        &self,
        at: usize,
        planned: &PlannedMailbox,
        endpoint: &Endpoint,
        record: &mut MailboxRecord,
        tls: &mut Option<TlsFacts>,
        progress: &MailboxProgress,
    ) -> Result<()> {
        let key = self.key(&planned.source);
        let ledger = self.store.claim(&key).await?;
        let beside = planned.beside.iter().map(|other| self.key(other)).collect();
        let copied_before = record.counts.copied;
        let is_lost = copied_before > 0 && ledger.counts().await?.source == 0;
        if !is_lost {
            take_over_counts(record, &*ledger).await?;
        }
        let ends = self.ends(at, planned, endpoint)?;
        if find_other_end(&ends, &*ledger, Side::Destination).await?.is_some() {
            // It was held against another mailbox.
            record.forget_verifications();
        }
        let rules = Rules {
            neighbours: Neighbours::new(Arc::clone(&self.store), beside).among_all(key, &ends.destination),
            daily: self.daily_limit(endpoint),
            ends,
            leave_refused: record.attempts > 1,
            ..self.rules()?
        };
        if record.counts.source == 0 {
            // A run that was killed in its first pass left nothing but the ledger.
            progress.resume(ledger.counts().await?, ledger.bytes_through().await?);
        }
        progress.enter_phase("logging in");
        let (source, destination) =
            tokio::join!(self.open_source(at, planned, endpoint), self.open_destination(planned));
        let mut source = source.at(|| "source".to_owned())?;
        let mut destination = destination.at(|| "destination".to_owned())?;
        record.unverified = None;
        let lanes =
            Lanes { tools: self, at, planned, endpoint, known: source.known().zip(destination.known()) };
        tls.clone_from(&destination.facts().tls);
        let channel = find_certificate_ending(destination.facts(), SystemClock.now());
        let outcome =
            carry_mailbox(&mut *source, &mut *destination, &lanes, &*ledger, &rules, progress).await;
        if let Some(failure) = outcome.as_ref().map_or_else(Some, |outcome| outcome.left.as_ref()) {
            self.note_end(endpoint, failure);
        }
        tokio::join!(source.close(), destination.close());
        // The work so far counts also after a failure.
        let done = progress.read();
        record.sent += done.sent;
        record.recognised += done.recognised;
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(failure) => {
                tell_found(record, &*ledger).await?;
                return Err(failure);
            }
        };
        record.folders = outcome.folders;
        record.findings = outcome.findings;
        record.findings.extend(channel);
        record.findings.extend(is_lost.then(|| find_lost_ledger(copied_before)));
        tell_found(record, &*ledger).await?;
        outcome.left.map_or(Ok(()), Err)
    }
}

/// Further sessions of a mailbox, as far as the hosts' limits leave room for them.
struct Lanes<'a> {
    tools: &'a Tools,
    at: usize,
    planned: &'a PlannedMailbox,
    endpoint: &'a Endpoint,
    /// The facts that spare further sessions a turn; `None` where a mailbox has one session only at either side.
    known: Option<(KnownSource, KnownDestination)>,
}

impl Lanes<'_> {
    async fn log_in(
        &self,
        endpoint: &Endpoint,
        login: &Login,
        trust: &Trust,
    ) -> Result<Option<Box<dyn LoggedIn>>> {
        let way = Way { network: &self.tools.network, endpoint, trust };
        let begun = async {
            let Some(greeted) = driver(endpoint.protocol).greet_if_free(way).await? else {
                return Ok(None);
            };
            self.tools.guard.hold(login, greeted.login(login)).await.map(Some)
        };
        begun.await.inspect_err(|failure| self.tools.network.note_refused(&endpoint.host, failure))
    }
}

#[async_trait]
impl MoreLanes for Lanes<'_> {
    async fn open(&self) -> Result<Option<Lane>> {
        let Some((known_source, known_destination)) = &self.known else { return Ok(None) };
        let (login, trust) = self.tools.source_access(self.at, self.planned)?;
        let (new_login, new_trust, _) = self.tools.destination_access(self.planned)?;
        let endpoint = self.tools.spec().destination.endpoint();
        let (source, destination) = tokio::join!(
            self.log_in(self.endpoint, &login, &trust),
            self.log_in(&endpoint, &new_login, &new_trust)
        );
        let (Some(source), Some(destination)) = (source?, destination?) else { return Ok(None) };
        let source = source.source_beside(known_source)?;
        Ok(Some((source, destination.destination_beside(known_destination)?)))
    }

    async fn open_other(&self, mailbox: &str) -> Result<Option<Box<dyn Destination>>> {
        let mailbox = mailbox.parse().map_err(Failure::configuration)?;
        let (login, trust, _) = self.tools.destination_login(&mailbox, None)?;
        check_authorities(&trust, self.planned.authorities.as_ref().map(|believed| &believed.destination))?;
        let endpoint = self.tools.place_of_destination(&mailbox)?;
        if endpoint.protocol.is_files() {
            // Nobody bounds how many directories are open.
            let way = Way { network: &self.tools.network, endpoint: &endpoint, trust: &trust };
            let opened = driver(endpoint.protocol).greet(way).await?.login(&login).await?;
            return opened.destination().await.map(Some);
        }
        for _ in 0..OTHER_TRIES {
            // Never in line: were all connections held by those who wait for one more, nobody could go on.
            if let Some(session) = self.log_in(&endpoint, &login, &trust).await? {
                return session.destination().await.map(Some);
            }
            sleep(OTHER_PAUSE).await;
        }
        Ok(None)
    }

    fn ended(&self, failure: &Failure) {
        self.tools.note_end(self.endpoint, failure);
    }

    fn should_be_fewer(&self) -> bool {
        let network = &self.tools.network;
        network.should_have_fewer(&self.endpoint.host)
            || network.should_have_fewer(&self.tools.spec().destination.endpoint().host)
    }
}
