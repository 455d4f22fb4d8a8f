//! Two servers with one mailbox each, a ledger between them, and the pass that carries the mail.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mailferry::auth::credentials::Login;
use mailferry::drivers::imap::destination::ImapDestination;
use mailferry::drivers::imap::login::greet;
use mailferry::drivers::imap::session::Session;
use mailferry::drivers::imap::source::ImapSource;
use mailferry::drivers::{Destination, Source};
use mailferry::ledger::sqlite::SqliteLedger;
use mailferry::ledger::{Ledger, Row};
use mailferry::model::endpoint::Endpoint;
use mailferry::model::failure::{Class, Result};
use mailferry::model::protocol::{Protocol, Tls};
use mailferry::model::record::Depth;
use mailferry::model::secret::Secret;
use mailferry::net::network::Network;
use mailferry::net::tls::Trust;
use mailferry::transfer::progress::MailboxProgress;
use mailferry::transfer::{PassOutcome, Rules, sync_mailbox};
use tempfile::TempDir;

use crate::support::compare::{Account, differences};
use crate::support::corpus::{Corpus, EMPTY_FOLDER, Message};
use crate::support::dovecot::{Builder, Dovecot, LOOPBACK, User};
use crate::support::imap::Client;

/// The mailbox at the source.
pub const ANNA: &str = "anna@a.test";
/// The mailbox at the destination.
pub const NEW: &str = "anna@new.test";
const PASSWORD: &str = "a secret: with * signs";

/// Two servers, one mailbox each, and a ledger.
pub struct Rig {
    pub source: Dovecot,
    pub destination: Dovecot,
    state: TempDir,
}

/// A source server as most tests need it.
pub fn old_server() -> Builder {
    Dovecot::builder().imap(LOOPBACK).user(User::new(ANNA, PASSWORD)).record_commands()
}

/// A destination server as most tests need it.
pub fn new_server() -> Builder {
    Dovecot::builder().imap(LOOPBACK).user(User::new(NEW, PASSWORD)).record_commands()
}

/// The destination's user with a quota.
pub fn new_user() -> User {
    User::new(NEW, PASSWORD)
}

/// Rules that leave nothing out and check every byte.
pub fn all_rules() -> Rules {
    Rules { depth: Depth::Full, settle: Duration::from_secs(2), ..Rules::default() }
}

/// A letter with the given subject and body in a folder.
pub fn letter(folder: &str, flags: &[&str], body: &str) -> Message {
    Message {
        folder: folder.to_owned(),
        flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
        internal_date: "07-Mar-2019 08:15:42 +0100".to_owned(),
        bytes: format!(
            "From: a@a.test\r\nTo: b@a.test\r\nMessage-ID: <{}@a.test>\r\nSubject: {body}\r\n\r\n{body}\r\n",
            blake3::hash(body.as_bytes()).to_hex()
        )
        .into_bytes(),
    }
}

/// The network that only this machine is in.
pub fn network() -> Network {
    Network::new(Some("127.0.0.1:53".parse().unwrap()), vec!["127.0.0.0/8".parse().unwrap()], 8).unwrap()
}

/// How this user logs in.
pub fn login_of(user: &str) -> Login {
    Login::own(user.to_owned(), Secret::new(PASSWORD))
}

/// Connects and logs in over the network.
pub async fn log_in(at: SocketAddr, user: &str) -> Session {
    try_log_in(at, user).await.unwrap()
}

/// As [`log_in`], where the server may not want it.
pub async fn try_log_in(at: SocketAddr, user: &str) -> Result<Session> {
    let trust = Trust::with_authorities(&[]).unwrap();
    let endpoint = Endpoint::new(Protocol::Imap, &at.ip().to_string(), at.port(), Tls::None);
    greet(&network(), &endpoint, &trust).await?.login(&login_of(user)).await
}

/// Carries `source` to a destination once. The ledger's counts add up, whatever the outcome is.
pub async fn carry(
    source: &mut dyn Source,
    destination: SocketAddr,
    ledger: &Path,
    rules: &Rules,
    progress: &MailboxProgress,
) -> Result<PassOutcome> {
    carry_into(source, destination, &SqliteLedger::open(ledger).unwrap(), rules, progress).await
}

/// As [`carry`], with a ledger that is open.
pub async fn carry_into(
    source: &mut dyn Source,
    destination: SocketAddr,
    ledger: &dyn Ledger,
    rules: &Rules,
    progress: &MailboxProgress,
) -> Result<PassOutcome> {
    let mut target = ImapDestination::new(log_in(destination, NEW).await).await?;
    // A pass is a large future.
    let done = Box::pin(sync_mailbox(source, &mut target, ledger, rules, progress)).await;
    source.close().await;
    target.close().await;
    match (&done, ledger.counts().await) {
        (Ok(outcome), counts) => assert_eq!(outcome.counts, counts.unwrap()),
        (Err(_), Ok(counts)) => assert!(counts.balances(), "{counts}"),
        // The ledger itself ended the pass.
        (Err(failure), Err(_)) => assert_eq!(failure.class, Class::Unreachable, "{failure:?}"),
    }
    done
}

impl Rig {
    /// Starts the servers; the mailboxes are empty.
    pub fn start(source: Builder, destination: Builder) -> Self {
        let state = tempfile::tempdir().unwrap();
        Self { source: source.start(), destination: destination.start(), state }
    }

    /// Two ordinary servers, the source filled with `messages` of all kinds in all folders, and one empty folder.
    pub fn with_mail(seed: u64, messages: usize) -> Self {
        let rig = Self::start(old_server(), new_server());
        rig.at_source().seed(Corpus::new(seed).messages(messages));
        rig.at_source().create_and_subscribe(EMPTY_FOLDER);
        rig
    }

    /// The source's mailbox from the inside.
    pub fn at_source(&self) -> Client {
        self.source.mailbox(ANNA)
    }

    /// The destination's mailbox from the inside.
    pub fn at_destination(&self) -> Client {
        self.destination.mailbox(NEW)
    }

    /// Where the ledger is.
    pub fn ledger_path(&self) -> PathBuf {
        self.state.path().join("ledger.sqlite")
    }

    /// The ledger.
    pub fn ledger(&self) -> SqliteLedger {
        SqliteLedger::open(&self.ledger_path()).unwrap()
    }

    /// Throws the ledger away.
    pub fn lose_ledger(&self) {
        for suffix in ["", "-wal", "-shm"] {
            let path = self.state.path().join(format!("ledger.sqlite{suffix}"));
            if path.exists() {
                std::fs::remove_file(path).unwrap();
            }
        }
    }

    /// One pass with these rules. The ledger's counts add up, whatever the outcome is.
    pub async fn try_pass(&self, rules: &Rules) -> Result<PassOutcome> {
        self.try_pass_watched(rules, &MailboxProgress::default()).await
    }

    /// One pass that somebody watches.
    pub async fn try_pass_watched(&self, rules: &Rules, progress: &MailboxProgress) -> Result<PassOutcome> {
        let mut source = ImapSource::new(log_in(self.source.imap(), ANNA).await).await?;
        carry(&mut source, self.destination.imap(), &self.ledger_path(), rules, progress).await
    }

    /// One pass that must succeed.
    pub async fn pass(&self) -> PassOutcome {
        self.try_pass(&all_rules()).await.unwrap_or_else(|failure| panic!("{failure:?}"))
    }

    /// All rows of the ledger.
    pub async fn rows(&self) -> Vec<Row> {
        self.ledger().page(0, 1_000_000).await.unwrap()
    }

    /// Where the destination is not what the source is.
    pub fn differences(&self) -> Vec<String> {
        differences(&self.at_source().read_all(), &self.at_destination().read_all())
    }

    /// The destination is what the source is, to the last byte and flag.
    pub fn assert_same(&self) {
        let differences = self.differences();
        assert!(differences.is_empty(), "{differences:#?}");
    }

    /// A pass with nothing to do: nothing is sent, nothing changes.
    pub async fn assert_idle(&self) {
        let before = self.at_destination().uid_next();
        let outcome = self.pass().await;
        assert_eq!((outcome.sent, outcome.recognised, outcome.flags_updated), (0, 0, 0), "{outcome:?}");
        assert_eq!(self.at_destination().uid_next(), before, "nothing was appended");
        assert_eq!(outcome.counts.pending, 0, "{}", outcome.counts);
    }

    /// The content of the source, everything that a client could notice: UIDs, flags, dates, the next UIDs.
    pub fn photograph_source(&self) -> (Account, Vec<String>) {
        let mut client = self.at_source();
        let account = client.read_all();
        let mut states = Vec::new();
        for folder in client.folders() {
            states.extend(client.status(&folder, "MESSAGES RECENT UNSEEN UIDNEXT UIDVALIDITY HIGHESTMODSEQ"));
        }
        (account, states)
    }
}
