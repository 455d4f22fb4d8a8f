//! Helpers that the tests of discovery share: a request in few words, a guard and a clock in memory, and the name
//! service of `support`.
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use jiff::Timestamp;
use mailferry::auth::credentials::Login;
use mailferry::discovery::{Clock, LoginGuard, MailboxRequest, Request, Step, Watcher, discover};
use mailferry::model::endpoint::Endpoint;
use mailferry::model::evidence::DomainDiscovery;
use mailferry::model::failure::Result;
use mailferry::model::fidelity::Weights;
use mailferry::model::finding::Code;
use mailferry::model::protocol::Protocol;
use mailferry::model::secret::Secret;
use mailferry::net::network::Network;
use mailferry::net::tls::Trust;

use crate::support::ca::Ca;
use crate::support::dns::{Dns, Record};

/// Two refusals for each login and password, as the platform keeps them durably.
#[derive(Default)]
pub struct Guard(Mutex<HashMap<(String, String), u32>>, Mutex<Vec<(String, String)>>);

fn version(login: &Login) -> (String, String) {
    (login.who(), login.proof.password().unwrap().expose().to_owned())
}

#[async_trait]
impl LoginGuard for Guard {
    async fn may_try(&self, login: &Login) -> Result<bool> {
        Ok(self.0.lock().unwrap().get(&version(login)).is_none_or(|refused| *refused < 2))
    }

    async fn refused_by(&self, login: &Login, servers: &[&Endpoint]) -> Vec<bool> {
        let known = self.1.lock().unwrap();
        servers.iter().map(|server| known.contains(&(login.who(), server.to_string()))).collect()
    }

    async fn refused(&self, login: &Login, server: &Endpoint) {
        self.1.lock().unwrap().push((login.who(), server.to_string()));
        *self.0.lock().unwrap().entry(version(login)).or_default() += 1;
    }

    async fn accepted(&self, login: &Login, server: &Endpoint) {
        self.1.lock().unwrap().retain(|known| *known != (login.who(), server.to_string()));
        self.0.lock().unwrap().remove(&version(login));
    }

    async fn unanswered(&self, _: &Login) {}
}

pub struct Now;

impl Clock for Now {
    fn now(&self) -> Timestamp {
        Timestamp::try_from(SystemTime::now()).unwrap()
    }
}

/// Keeps the steps.
#[derive(Default)]
pub struct Steps(pub Mutex<Vec<Step>>);

impl Watcher for Steps {
    fn saw(&self, step: &Step) {
        self.0.lock().unwrap().push(step.clone());
    }
}

/// A name service and an authority for one test.
pub struct World {
    pub ca: Ca,
    pub dns: Dns,
    pub guard: Guard,
    pub steps: Steps,
}

impl World {
    pub fn new(ca: Ca, records: &[Record]) -> Self {
        Self { ca, dns: Dns::start(records), guard: Guard::default(), steps: Steps::default() }
    }

    pub fn request(&self, domain: &str, mailboxes: Vec<MailboxRequest>) -> Request {
        Request {
            domain: domain.parse().unwrap(),
            servers: Vec::new(),
            before: Vec::new(),
            mailboxes,
            scope: mailferry::model::scope::Scope::default(),
            rules: mailferry::discovery::FolderRules::default(),
            shared_credentials: false,
            trust: Trust::with_authorities(&[self.ca.pem().to_owned()]).unwrap(),
            weights: Weights::default(),
            deadline: Duration::from_secs(20),
        }
    }

    pub async fn discover(&self, request: &Request) -> DomainDiscovery {
        self.discover_allowing(request, "127.0.0.0/8").await
    }

    pub async fn discover_allowing(&self, request: &Request, network: &str) -> DomainDiscovery {
        let network = Network::new(Some(self.dns.addr()), vec![network.parse().unwrap()], 8).unwrap();
        let found = sendable(discover(&network, request, &self.guard, &Now, &self.steps)).await;
        // The document is stored and shown: it must survive that, and hold no password.
        let text = serde_json::to_string(&found).unwrap();
        assert!(!text.contains("-secret"), "{text}");
        assert_eq!(serde_json::from_str::<DomainDiscovery>(&text).unwrap(), found);
        found
    }
}

/// Platforms discover several domains at once, on several threads.
fn sendable<F: Future + Send>(future: F) -> F {
    future
}

pub fn mailbox(address: &str, password: &str) -> MailboxRequest {
    let login = Login::own(address.to_owned(), Secret::new(password));
    MailboxRequest {
        address: address.parse().unwrap(),
        login: Some(login),
        name: Some(address.to_owned()),
        chosen: None,
    }
}

/// A mailbox that an administrator opens.
pub fn by_master(address: &str, password: &str) -> MailboxRequest {
    let user = format!("{address}*madmin");
    let login = Login::own(user, Secret::new(password));
    MailboxRequest {
        address: address.parse().unwrap(),
        login: Some(login),
        name: Some(address.to_owned()),
        chosen: None,
    }
}

pub fn protocols(found: &DomainDiscovery) -> Vec<Option<Protocol>> {
    found.mailboxes.iter().map(mailferry::model::evidence::MailboxDiscovery::protocol).collect()
}

pub fn codes(found: &DomainDiscovery) -> Vec<Code> {
    let mut codes: Vec<_> = found.findings.iter().map(|finding| finding.code).collect();
    codes.sort_unstable();
    codes
}
