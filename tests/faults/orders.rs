//! The orders of one pass (what it carries, from where and to where), and its two ways to run: in this process, or in
//! one of its own that can be killed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use mailferry::auth::credentials::Login;
use mailferry::drivers::imap::destination::ImapDestination;
use mailferry::drivers::imap::login::greet;
use mailferry::drivers::imap::session::Session;
use mailferry::drivers::imap::source::ImapSource;
use mailferry::drivers::pop3::Pop3Source;
use mailferry::drivers::{Destination, Source};
use mailferry::ledger::sqlite::{SqliteLedger, SqliteStore};
use mailferry::ledger::{Ledger, Tallies};
use mailferry::model::endpoint::Endpoint;
use mailferry::model::failure::Result;
use mailferry::model::folder::FolderPath;
use mailferry::model::protocol::{Protocol, Tls};
use mailferry::model::record::Depth;
use mailferry::model::secret::Secret;
use mailferry::net::network::Network;
use mailferry::net::tls::Trust;
use mailferry::transfer::neighbours::Neighbours;
use mailferry::transfer::progress::MailboxProgress;
use mailferry::transfer::{PassOutcome, Rules, sync_mailbox};
use serde::{Deserialize, Serialize};

/// The password of everybody.
pub const PASSWORD: &str = "secret";

/// One pass.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Orders {
    pub source: SocketAddr,
    pub source_user: String,
    pub pop3: bool,
    pub destination: SocketAddr,
    pub destination_user: String,
    pub ledger: PathBuf,
    pub settle_ms: u64,
    pub folders: Vec<(String, String)>,
    /// The names of other ledgers in the same directory, whose mailboxes arrive in the same one.
    pub beside: Vec<String>,
    /// Whether it is known beforehand that the links are slow.
    pub slow: bool,
}

/// The network that only this machine is in.
pub fn network() -> Network {
    Network::new(Some("127.0.0.1:53".parse().unwrap()), vec!["127.0.0.0/8".parse().unwrap()], 8).unwrap()
}

fn endpoint(protocol: Protocol, at: SocketAddr) -> Endpoint {
    Endpoint::new(protocol, &at.ip().to_string(), at.port(), Tls::None)
}

fn login(user: &str) -> Login {
    Login::own(user.to_owned(), Secret::new(PASSWORD))
}

/// Connects and logs in.
pub async fn log_in(at: SocketAddr, user: &str) -> Result<Session> {
    log_in_over(&network(), at, user).await
}

async fn log_in_over(network: &Network, at: SocketAddr, user: &str) -> Result<Session> {
    let trust = Trust::with_authorities(&[])?;
    greet(network, &endpoint(Protocol::Imap, at), &trust).await?.login(&login(user)).await
}

impl Orders {
    pub fn rules(&self) -> Rules {
        let path = |text: &String| FolderPath::from_slashes(text);
        Rules {
            folders: self.folders.iter().map(|(from, to)| (path(from), path(to))).collect(),
            depth: Depth::Full,
            settle: Duration::from_millis(self.settle_ms),
            neighbours: Neighbours::new(Arc::new(self.store()), self.beside.clone()),
            ..Rules::default()
        }
    }

    fn store(&self) -> SqliteStore {
        let directory = self.ledger.parent().unwrap();
        SqliteStore::new(directory, directory.join("logins.sqlite"))
    }

    /// The network as it is known when the pass begins.
    fn network(&self) -> Network {
        let network = network();
        if self.slow {
            network.note_carried("127.0.0.1", 1, Duration::from_mins(1));
        }
        network
    }

    /// The ledger's counts of all passes, and how many messages it says are at the destination.
    pub async fn counted(&self) -> (Tallies, u64) {
        let ledger = SqliteLedger::open(&self.ledger).unwrap();
        (ledger.tallies().await.unwrap().unwrap_or_default(), ledger.counts().await.unwrap().copied)
    }

    /// Carries in this process.
    pub async fn carry(&self) -> Result<PassOutcome> {
        let network = self.network();
        let ledger = SqliteLedger::open(&self.ledger)?;
        let mut source: Box<dyn Source> = if self.pop3 {
            let trust = Trust::with_authorities(&[])?;
            let at = endpoint(Protocol::Pop3, self.source);
            Box::new(Pop3Source::log_in(&network, &trust, &at, &login(&self.source_user)).await?)
        } else {
            Box::new(ImapSource::new(log_in_over(&network, self.source, &self.source_user).await?).await?)
        };
        let mut destination: Box<dyn Destination> = Box::new(
            ImapDestination::new(log_in_over(&network, self.destination, &self.destination_user).await?)
                .await?,
        );
        let progress = MailboxProgress::default();
        let done = sync_mailbox(&mut *source, &mut *destination, &ledger, &self.rules(), &progress).await;
        source.close().await;
        destination.close().await;
        done
    }
}

const ORDERS: &str = "MAILFERRY_TEST_ORDERS";

/// The process that other tests kill: it carries as the environment orders, and is idle without orders.
#[tokio::test]
async fn carry_as_ordered() {
    let Ok(orders) = std::env::var(ORDERS) else { return };
    let orders: Vec<Orders> = serde_json::from_str(&orders).unwrap();
    let mut done = Ok(());
    for orders in orders {
        done = done.and(orders.carry().await.map(drop));
    }
    mailferry::steps::write_count();
    if let Err(failure) = done {
        println!("{failure:?}");
    }
}

/// A process that carries, to be killed from outside or at a step.
pub fn start(orders: &[Orders], die_at: Option<u64>, steps: Option<PathBuf>) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "orders::carry_as_ordered", "--test-threads=1"])
        .env(ORDERS, serde_json::to_string(orders).unwrap())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Some(step) = die_at {
        command.env("MAILFERRY_DIE_AT", step.to_string());
    }
    if let Some(path) = steps {
        command.env("MAILFERRY_STEPS_FILE", path);
    }
    command.spawn().unwrap()
}
