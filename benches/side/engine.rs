//! The product as a peer: one pass of the engine over one mailbox, with a ledger on the disk and everything that a worker
//! does besides discovery and reports.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use mailferry::auth::credentials::Login;
use mailferry::drivers::imap::destination::ImapDestination;
use mailferry::drivers::imap::login::greet;
use mailferry::drivers::imap::session::Session;
use mailferry::drivers::imap::source::ImapSource;
use mailferry::drivers::pop3::Pop3Source;
use mailferry::drivers::registry::{KnownDestination, KnownSource, LoggedIn as _};
use mailferry::drivers::{BODY_QUEUE, BodyEvent, Destination, Source, Wanted};
use mailferry::ledger::Store;
use mailferry::ledger::sqlite::SqliteStore;
use mailferry::model::endpoint::Endpoint;
use mailferry::model::failure::Result;
use mailferry::model::protocol::{Protocol, Tls};
use mailferry::model::record::Depth;
use mailferry::model::secret::Secret;
use mailferry::net::network::Network;
use mailferry::net::tls::Trust;
use mailferry::transfer::lanes::{Lane, MoreLanes};
use mailferry::transfer::progress::MailboxProgress;
use mailferry::transfer::{PassOutcome, Rules, sync_mailbox, sync_mailbox_in_lanes};

use crate::Job;

/// One side's server and login.
struct Side {
    network: Network,
    endpoint: Endpoint,
    login: Login,
    trust: Trust,
}

impl Side {
    fn new(protocol: Protocol, port: u16, job: &Job) -> Result<Self> {
        let nobody = ([127, 0, 0, 1], 53).into();
        let everywhere = ["127.0.0.0/8", "10.0.0.0/8"].iter().filter_map(|net| net.parse().ok()).collect();
        let tls = if job.authority.is_some() { Tls::Implicit } else { Tls::None };
        Ok(Self {
            network: Network::new(Some(nobody), everywhere, job.sessions)?,
            endpoint: Endpoint::new(protocol, &job.host, port, tls),
            login: Login::own(job.user.clone(), Secret::new(job.password.clone())),
            trust: Trust::with_authorities(job.authority.as_slice())?,
        })
    }

    async fn log_in(&self) -> Result<Session> {
        greet(&self.network, &self.endpoint, &self.trust).await?.login(&self.login).await
    }
}

/// Further sessions, without a word from anybody's policy.
struct Lanes {
    source: (Side, KnownSource),
    destination: (Side, KnownDestination),
    left: tokio::sync::Semaphore,
}

#[async_trait]
impl MoreLanes for Lanes {
    async fn open(&self) -> Result<Option<Lane>> {
        let Ok(permit) = self.left.try_acquire() else { return Ok(None) };
        permit.forget();
        let ((source, source_known), (destination, destination_known)) = (&self.source, &self.destination);
        let (from, to) = tokio::try_join!(source.log_in(), destination.log_in())?;
        let from = Box::new(from).source_beside(source_known)?;
        Ok(Some((from, Box::new(to).destination_beside(destination_known)?)))
    }
}

/// Carries the mailbox once.
pub async fn run(protocol: Protocol, job: &Job, state: &Path) -> Result<PassOutcome> {
    let store = SqliteStore::new(state, state.join("logins.sqlite"));
    let ledger = store.claim("bench").await?;
    let old = Side::new(protocol, job.source, job)?;
    let new = Side::new(Protocol::Imap, job.destination, job)?;
    let rules = Rules { depth: Depth::Sampled, settle: Duration::from_secs(10), ..Rules::default() };
    let progress = MailboxProgress::default();
    let open_new = async { ImapDestination::new(new.log_in().await?).await };
    if protocol == Protocol::Pop3 {
        let open = Pop3Source::log_in(&old.network, &old.trust, &old.endpoint, &old.login);
        let (mut source, mut destination) = tokio::try_join!(open, open_new)?;
        let outcome = sync_mailbox(&mut source, &mut destination, &*ledger, &rules, &progress).await;
        tokio::join!(source.close(), destination.close());
        return outcome;
    }
    let open = async { ImapSource::new(old.log_in().await?).await };
    let (mut source, mut destination) = tokio::try_join!(open, open_new)?;
    let lanes = Lanes {
        source: (old, source.known().expect("IMAP takes several sessions")),
        destination: (new, destination.known().expect("IMAP takes several sessions")),
        left: tokio::sync::Semaphore::new(job.sessions.saturating_sub(1)),
    };
    let outcome =
        sync_mailbox_in_lanes(&mut source, &mut destination, &lanes, &*ledger, &rules, &progress).await;
    tokio::join!(source.close(), destination.close());
    outcome
}

/// Reads a POP3 maildrop and throws it away: what the source alone can do, for comparison with a raw RETR.
pub async fn read_maildrop(job: &Job) -> Result<usize> {
    let old = Side::new(Protocol::Pop3, job.source, job)?;
    let mut source = Pop3Source::log_in(&old.network, &old.trust, &old.endpoint, &old.login).await?;
    let listed = source.list(None).await?.messages;
    let wanted: Vec<Wanted> = (0..)
        .zip(listed)
        .map(|(key, message)| Wanted { key, locator: message.locator, size: message.size })
        .collect();
    let (sender, mut bodies) = tokio::sync::mpsc::channel(BODY_QUEUE);
    let count = async {
        let mut ended = 0;
        while let Some(event) = bodies.recv().await {
            ended += usize::from(matches!(event, BodyEvent::End { .. }));
        }
        ended
    };
    let (fetched, ended) = tokio::join!(source.fetch(&wanted, sender), count);
    source.close().await;
    fetched.map(|()| ended)
}
