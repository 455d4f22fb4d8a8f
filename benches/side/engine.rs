//! The product as a peer: one pass of the engine over one mailbox, with a ledger on the disk and everything that a worker
//! does besides discovery and reports.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mailferry::ledger::Store;
use mailferry::ledger::sqlite::SqliteStore;
use mailferry::mail::credentials::Login;
use mailferry::mail::imap::destination::ImapDestination;
use mailferry::mail::imap::names::Spelling;
use mailferry::mail::imap::session::{Session, greet};
use mailferry::mail::imap::source::ImapSource;
use mailferry::mail::network::Network;
use mailferry::mail::tls::Trust;
use mailferry::mail::{Destination, Source};
use mailferry::model::endpoint::Endpoint;
use mailferry::model::failure::Result;
use mailferry::model::protocol::{Protocol, Tls};
use mailferry::model::record::Depth;
use mailferry::model::secret::Secret;
use mailferry::transfer::lanes::{Lane, MoreLanes};
use mailferry::transfer::progress::MailboxProgress;
use mailferry::transfer::{PassOutcome, Rules, sync_mailbox_in_lanes};

use crate::Job;

/// One side's server and login.
struct Side {
    network: Network,
    endpoint: Endpoint,
    login: Login,
    trust: Trust,
}

impl Side {
    fn new(host: &str, port: u16, job: &Job) -> Result<Self> {
        let nobody = ([127, 0, 0, 1], 53).into();
        let everywhere = ["127.0.0.0/8", "10.0.0.0/8"].iter().filter_map(|net| net.parse().ok()).collect();
        Ok(Self {
            network: Network::new(Some(nobody), everywhere, job.sessions)?,
            endpoint: Endpoint::new(Protocol::Imap, host, port, Tls::None),
            login: Login::own(job.user.clone(), Secret::new(job.password.clone())),
            trust: Trust::with_authorities(&[])?,
        })
    }

    async fn log_in(&self) -> Result<Session> {
        greet(&self.network, &self.endpoint, &self.trust).await?.login(&self.login).await
    }
}

/// Further sessions, without a word from anybody's policy.
struct Lanes {
    source: (Side, Spelling),
    destination: (Side, Spelling),
    left: tokio::sync::Semaphore,
}

#[async_trait]
impl MoreLanes for Lanes {
    async fn open(&self) -> Result<Option<Lane>> {
        let Ok(permit) = self.left.try_acquire() else { return Ok(None) };
        permit.forget();
        let ((source, source_spelling), (destination, destination_spelling)) =
            (&self.source, &self.destination);
        let (from, to) = tokio::try_join!(source.log_in(), destination.log_in())?;
        let from: Box<dyn Source> = Box::new(ImapSource::beside(from, source_spelling.clone()));
        let to: Box<dyn Destination> = Box::new(ImapDestination::beside(to, destination_spelling.clone()));
        Ok(Some((from, to)))
    }
}

/// Carries the mailbox once.
pub async fn run(job: &Job, state: &Path) -> Result<PassOutcome> {
    let store = SqliteStore::new(state, state.join("logins.sqlite"));
    let ledger = store.claim("bench").await?;
    let (old, new) = (Side::new(&job.host, job.source, job)?, Side::new(&job.host, job.destination, job)?);
    let open = async { ImapSource::new(old.log_in().await?).await };
    let open_new = async { ImapDestination::new(new.log_in().await?).await };
    let (mut source, mut destination) = tokio::try_join!(open, open_new)?;
    let rules = Rules {
        folders: Vec::new(),
        exclude: Rules::exclude_patterns(&[])?,
        max_message_bytes: None,
        since: None,
        depth: Depth::Sampled,
        settle: Duration::from_secs(10),
        pace: Arc::default(),
    };
    let lanes = Lanes {
        source: (old, source.spelling().clone()),
        destination: (new, destination.spelling().clone()),
        left: tokio::sync::Semaphore::new(job.sessions.saturating_sub(1)),
    };
    let progress = MailboxProgress::default();
    let outcome =
        sync_mailbox_in_lanes(&mut source, &mut destination, &lanes, &*ledger, &rules, &progress).await;
    tokio::join!(source.close(), destination.close());
    outcome
}
