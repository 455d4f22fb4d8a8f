//! Discovery: where a domain's mail is, which protocol each mailbox really speaks, and how sure that is.
//!
//! ```text
//! signals (in parallel)      manifest
//!   DNS first                mx · srv · spf · autodiscover's alias
//!        └─► what it names   ispdb · jmap · dav · tenant · autodiscover
//!   the web beside it        autoconfig · autodiscover · exchange · zimbra ──► usual names, where nothing was published
//!        └─► probes          every distinct endpoint, and managesieve beside it, without a login
//!              └─► collect   pure: which endpoints may see a password (trust), and in which order
//!                    └─► logins    per mailbox, IMAP before POP3, counted by the guard; then twin, for one of them
//!                          └─► collect, verdict, findings    pure: candidates, failures, what a person should know
//! ```
//!
//! Nothing here changes anything at the source, and a failure is evidence as good as an answer: [`discover`] always
//! returns a document.

mod autoconfig;
mod autodiscover;
mod certificate;
mod collect;
mod dav;
mod exchange;
mod files;
pub mod findings;
mod ispdb;
mod jmap;
mod logins;
mod lookalike;
mod managesieve;
mod mx;
mod probes;
#[cfg(test)]
mod properties;
mod signals;
mod spf;
mod srv;
mod tenant;
mod tried;
mod trust;
mod twin;
mod txt;
mod usual;
mod verdict;
pub mod watch;
mod xml;
mod zimbra;

use std::future::Future;
use std::sync::atomic::AtomicUsize;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use jiff::Timestamp;
use tokio::time::sleep;

use self::collect::Ranked;
use self::signals::{Asking, Heard, Published, Walls};
use self::tried::Tried;

pub use self::files::look_into_files;
pub use self::logins::SPENT_REMEDY;
use crate::auth::credentials::Login;
pub use crate::drivers::measure::FolderRules;
use crate::model::address::{Address, Domain};
pub use crate::model::clock::Clock;
use crate::model::endpoint::Endpoint;
use crate::model::evidence::{DomainDiscovery, EXCERPT_MAX, Evidence, Grade, Outcome, Signal};
use crate::model::failure::{Class, Failure, Result};
use crate::model::fidelity::{self, Weights};
use crate::model::protocol::{Protocol, Tls};
use crate::model::scope::Scope;
use crate::model::service::SessionFacts;
use crate::model::text::cut;
use crate::net::network::Network;
use crate::net::tls::Trust;

/// How long signals and probes may take together unless the request says otherwise. Logins come after it.
pub const DEADLINE: Duration = Duration::from_mins(1);

/// The most pieces of evidence that are kept of one domain.
const EVIDENCE_MAX: usize = 1000;

/// The questions about one domain.
#[derive(Debug, Clone)]
pub struct Request {
    /// The domain.
    pub domain: Domain,
    /// Servers that the manifest names for the domain; credentials may be sent to their hosts.
    pub servers: Vec<Endpoint>,
    /// Where mailboxes were read when the domain was looked at before. They are asked where a name server does not answer, so
    /// that it is not the name server's mood that decides where mail is read.
    pub before: Vec<Endpoint>,
    /// The mailboxes, in the order of the manifest.
    pub mailboxes: Vec<MailboxRequest>,
    /// The mail that is not carried, and so not measured.
    pub scope: Scope,
    /// The manifest's rules for folders, of which it is told whether any folder falls under them.
    pub rules: FolderRules,
    /// Whether one password opens all mailboxes, so that its refusal concerns the whole domain.
    pub shared_credentials: bool,
    /// The trusted authorities.
    pub trust: Trust,
    /// How much each kind of data counts.
    pub weights: Weights,
    /// How long signals and probes may take together; [`DEADLINE`] is a good choice.
    pub deadline: Duration,
}

impl Request {
    /// How long a name server is waited for where the manifest names the servers, so that what is published is a supplement;
    /// `None` where it is all there is. A server of a better protocol than those that are named is worth a longer wait.
    fn patience(&self) -> Option<Duration> {
        let chosen = |mailbox: &MailboxRequest| mailbox.chosen.as_ref()?.endpoint.clone();
        let all_chosen = !self.mailboxes.is_empty() && self.mailboxes.iter().all(|m| chosen(m).is_some());
        let imap = self.servers.iter().any(|server| server.protocol == Protocol::Imap);
        match (all_chosen || imap, self.servers.is_empty()) {
            (true, _) => Some(Duration::from_millis(500)),
            (false, false) => Some(Duration::from_secs(2)),
            (false, true) => None,
        }
    }
}

/// One mailbox that is asked about.
#[derive(Debug, Clone)]
pub struct MailboxRequest {
    /// The mailbox.
    pub address: Address,
    /// Its login; `None` when the Secret knows no password for it.
    pub login: Option<Login>,
    /// Its login name, where nobody has given it: a server's published configuration may say another.
    pub name: Option<String>,
    /// The choice that was made for it by hand.
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
#[async_trait]
pub trait LoginGuard: Send + Sync {
    /// Whether a login may still be tried. Waits while others are at the last tries that are left. After `true` one of
    /// the other three is called.
    ///
    /// # Errors
    /// A failure of whoever keeps the count: what cannot be counted must not be tried.
    async fn may_try(&self, login: &Login) -> Result<bool>;

    /// Which of several servers refused the login within the time that refusals count. A question that cannot be answered is
    /// `false`: it only changes the order.
    async fn refused_by(&self, login: &Login, servers: &[&Endpoint]) -> Vec<bool>;

    /// A server refused the login; it is durable when this returns.
    async fn refused(&self, login: &Login, server: &Endpoint);

    /// A server accepted the login. The password is right, so refusals of the same login on other protocols were
    /// about the protocol; an implementation may forget them, else a POP3 mailbox beside IMAP would use its count up
    /// by being looked at.
    async fn accepted(&self, login: &Login, server: &Endpoint);

    /// The attempt ended without a word on the password.
    async fn unanswered(&self, login: &Login);
}

/// Hears what discovery is doing while it is at it.
pub trait Watcher: Send + Sync {
    /// A step begins or ended. Called often; it must not block.
    fn saw(&self, step: &Step);
}

/// The doings of discovery.
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
    /// A server takes its time to open and list the folders of a mailbox.
    Waiting {
        /// Where.
        server: String,
        /// Whose.
        mailbox: Address,
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
    let started = clock.now();
    watcher.saw(&Step::Signals);
    let manifest = manifest(request, clock);
    let named = probes::distinct(&manifest.published);
    let hasty = request.patience().map(|patience| network.in_a_hurry(patience));
    let publications = hasty.as_ref().unwrap_or(network);
    let walls = Walls::default();
    let asking = Asking { network: publications, request, clock, walls: &walls };
    let end = sleep(request.deadline / 2).shared();
    let named = probes::ask(network, request, named, end);
    let (mut heard, mut probed) = futures::join!(ask_signals(asking, manifest), named);

    let mut endpoints = probes::distinct(&heard.published);
    watcher.saw(&Step::Probes { endpoints: endpoints.len() });
    let imap = imap_hosts(&endpoints);
    endpoints.retain(|endpoint| probed.iter().all(|probe| probe.endpoint != *endpoint));
    let end = sleep(request.deadline / 2).shared();
    let rules = managesieve::ask(asking, &heard.named, &imap);
    let rules = within(rules, end.clone(), Signal::ManageSieve, Grade::C, request, clock);
    let (others, rules) = futures::join!(probes::ask(publications, request, endpoints, end), rules);
    probed.extend(others);
    probes::note(&mut heard, &probed, clock);
    heard.add(rules);
    let servers: Vec<_> = probed.iter().filter_map(|probe| probe.answer.clone().ok()).collect();
    zimbra::recognise(&mut heard, &servers, clock.now());
    exchange::recognise(&mut heard, &servers, clock.now());
    certificate::recognise(&mut heard, &probed, clock.now());

    let chosen = request.mailboxes.iter().filter_map(|mailbox| mailbox.chosen.as_ref()?.endpoint.as_ref());
    let named: Vec<Endpoint> = request.servers.iter().chain(chosen).cloned().collect();
    let ranked = collect::rank(&request.domain, &named, &heard.published, probed);

    watcher.saw(&Step::Logins { done: 0, total: request.mailboxes.len() });
    let logins = logins::Logins {
        network,
        request,
        ranked: &ranked,
        guard,
        watcher,
        done: AtomicUsize::new(0),
        read: AtomicUsize::new(0),
        refused: AtomicUsize::new(0),
        sessions: Mutex::default(),
    };
    let tried = logins.run().await;
    let mut sessions = logins.sessions.into_inner().unwrap_or_else(PoisonError::into_inner);
    sessions.sort_by(|a, b| a.endpoint.cmp(&b.endpoint));
    for session in &mut sessions {
        session.failing = network.failing_at(&session.endpoint).into_iter().map(str::to_owned).collect();
    }

    let asking = Asking { network, request, clock, walls: &walls };
    heard.add(Box::pin(twin::ask(asking, &ranked, guard, &tried)).await);

    let finished = clock.now();
    note_logins(&mut heard, &ranked, &tried, &sessions, finished);
    let mailboxes = verdict::mailboxes(request, &ranked, &heard, &tried);
    let failure = verdict::of_domain(request, &ranked, &heard, &mailboxes);
    let findings = findings::draw(request, &heard, &ranked, &tried, finished);
    heard.evidence.truncate(EVIDENCE_MAX);
    let readers = |protocol| mailboxes.iter().filter(|m| m.protocol() == Some(protocol)).count() as u64;
    let read_by = Protocol::ALL.map(|protocol| (protocol, readers(protocol)));
    let fidelity = fidelity::of_domain(&read_by, &heard.services, request.weights);
    let fidelity = Some(fidelity).filter(|_| mailboxes.iter().any(|mailbox| mailbox.endpoint.is_some()));
    heard.services.sort_by(|a, b| (a.grade, a.service, &a.place).cmp(&(b.grade, b.service, &b.place)));
    DomainDiscovery {
        domain: request.domain.clone(),
        started,
        finished,
        candidates: collect::conclude(&ranked, &tried, &heard.denied),
        evidence: heard.evidence,
        servers,
        services: heard.services,
        sessions,
        fidelity,
        mailboxes,
        destination: None,
        authorities: None,
        rules: request.rules.names(),
        findings,
        failure,
    }
}

/// Everything that names servers: the manifest, then DNS and what it names beside published documents, then usual names
/// for what is still open.
async fn ask_signals(asking: Asking<'_>, manifest: Heard) -> Heard {
    let Asking { network, request, clock, .. } = asking;
    let end = sleep(request.deadline / 2).shared();
    let mut heard = manifest;
    let by_name = async {
        let mut heard = ask_all(
            asking,
            end.clone(),
            vec![
                (Signal::Mx, Grade::D, Box::pin(mx::ask(network, &request.domain, clock))),
                (Signal::Srv, Grade::C, Box::pin(srv::ask(network, &request.domain, clock))),
                (Signal::Spf, Grade::D, Box::pin(spf::ask(asking))),
                (Signal::Autodiscover, Grade::D, Box::pin(autodiscover::look_up_alias(asking))),
            ],
        )
        .await;
        heard.add(ispdb::look_up(asking, &heard.exchangers));
        let then = ask_all(
            asking,
            end.clone(),
            vec![
                (
                    Signal::ProviderFacts,
                    Grade::D,
                    Box::pin(autoconfig::ask_hoster(asking, &heard.exchangers)),
                ),
                (Signal::Jmap, Grade::C, Box::pin(jmap::ask(asking, &heard.named))),
                (Signal::Dav, Grade::C, Box::pin(dav::ask(asking, &heard.named))),
                (Signal::Autodiscover, Grade::C, Box::pin(autodiscover::ask_named(asking, &heard.named))),
                (Signal::Tenant, Grade::C, Box::pin(tenant::ask(asking, &heard.providers))),
            ],
        )
        .await;
        heard.add(then);
        heard
    };
    let by_place = ask_all(
        asking,
        end.clone(),
        vec![
            (Signal::Autoconfig, Grade::C, Box::pin(autoconfig::ask(network, request, clock))),
            (Signal::Autodiscover, Grade::C, Box::pin(autodiscover::ask(asking))),
            (Signal::Exchange, Grade::D, Box::pin(exchange::ask(asking))),
            (Signal::Zimbra, Grade::D, Box::pin(zimbra::ask(asking))),
        ],
    );
    let (by_name, by_place) = futures::join!(by_name, by_place);
    heard.add(by_name);
    heard.add(by_place);
    remember(&mut heard, request, clock);
    let open: Vec<Protocol> = Protocol::OF_SERVERS
        .into_iter()
        .filter(|protocol| !heard.names(*protocol) && !heard.denied.contains(protocol))
        .collect();
    if !open.is_empty() {
        let ask = usual::ask(network, &request.domain, &open, &heard.exchangers, clock);
        let guessed = within(ask, end, Signal::UsualName, Grade::D, request, clock).await;
        heard.add(guessed);
    }
    heard
}

/// Adds the servers that were read from before, where it is not known what the domain publishes now.
fn remember(heard: &mut Heard, request: &Request, clock: &dyn Clock) {
    if heard.unanswered_names().next().is_none() {
        return;
    }
    for (rank, endpoint) in request.before.iter().enumerate() {
        let statement = format!("{endpoint} was read from before, and a name server does not answer now");
        let (signal, grade) = (Signal::Before, Grade::C);
        let published =
            Published { endpoint: endpoint.clone(), signal, grade, trusted: false, rank, username: None };
        heard.publish(published, clock.now(), statement, None);
    }
}

/// One signal that is to be asked, and how much it proves.
type Question<'a> = (Signal, Grade, BoxFuture<'a, Heard>);

/// Asks several signals at once; the order of what they say is that of the questions, whoever answers first.
async fn ask_all(
    asking: Asking<'_>,
    end: impl Future<Output = ()> + Clone,
    questions: Vec<Question<'_>>,
) -> Heard {
    let answers = questions
        .into_iter()
        .map(|(signal, grade, ask)| within(ask, end.clone(), signal, grade, asking.request, asking.clock));
    let mut heard = Heard::default();
    for answer in join_all(answers).await {
        heard.add(answer);
    }
    heard
}

/// The distinct hosts of IMAP servers, in their order.
fn imap_hosts(endpoints: &[Endpoint]) -> Vec<String> {
    let mut hosts: Vec<String> = Vec::new();
    for endpoint in endpoints.iter().filter(|endpoint| endpoint.protocol == Protocol::Imap) {
        if !hosts.contains(&endpoint.host) {
            hosts.push(endpoint.host.clone());
        }
    }
    hosts
}

/// The words of a signal, or that it has said nothing when the time was up.
async fn within(
    ask: impl Future<Output = Heard>,
    end: impl Future<Output = ()>,
    signal: Signal,
    grade: Grade,
    request: &Request,
    clock: &dyn Clock,
) -> Heard {
    tokio::select! {
        heard = ask => heard,
        () = end => {
            let mut heard = Heard::default();
            let what = format!("does not answer within the {} s that discovery has", request.deadline.as_secs());
            let failure = Failure::new(Class::Unreachable, what).hint("check the name servers and the network");
            heard.fail(signal, grade, clock.now(), &signal.to_string(), failure);
            heard
        }
    }
}

/// The words of the manifest itself.
fn manifest(request: &Request, clock: &dyn Clock) -> Heard {
    let mut heard = Heard::default();
    let at = clock.now();
    let mut say = |signal, rank, endpoint: &Endpoint, reason: Option<&str>| {
        let published = Published {
            endpoint: endpoint.clone(),
            signal,
            grade: Grade::C,
            trusted: true,
            rank,
            username: None,
        };
        let known = heard.published.iter().any(|p| p.endpoint == *endpoint && p.signal == signal);
        if !known {
            heard.publish(published, at, format!("the manifest names {endpoint}"), reason);
        }
    };
    for (rank, endpoint) in request.servers.iter().enumerate() {
        say(Signal::Manifest, rank, endpoint, None);
    }
    for chosen in request.mailboxes.iter().filter_map(|mailbox| mailbox.chosen.as_ref()) {
        if let Some(endpoint) = &chosen.endpoint {
            say(Signal::Override, 0, endpoint, chosen.reason.as_deref());
        }
    }
    heard
}

/// Puts the logins that worked down as evidence, one line for each server.
fn note_logins(
    heard: &mut Heard,
    ranked: &[Ranked],
    tried: &[Tried],
    sessions: &[SessionFacts],
    at: Timestamp,
) {
    let words = |endpoint: &Endpoint| {
        let said = sessions.iter().find(|said| said.endpoint == *endpoint)?;
        let words: Vec<&str> = said.capabilities.words().collect();
        let text = format!("{} | {}", said.id.join(" "), words.join(" "));
        Some(cut(text.trim_start_matches([' ', '|']), EXCERPT_MAX))
    };
    for candidate in ranked {
        let endpoint = &candidate.endpoint;
        let reads = tried.iter().filter(|t| t.read.as_ref().is_some_and(|read| read.endpoint == *endpoint));
        let n = reads.count();
        if n > 0 {
            heard.evidence.push(Evidence {
                signal: probes::signal_of(endpoint.protocol),
                grade: Grade::A,
                at,
                endpoint: Some(endpoint.clone()),
                trusted: endpoint.tls != Tls::None,
                outcome: Outcome::Offered,
                statement: format!(
                    "logged in at {} and listed {}",
                    endpoint.address(),
                    collect::count(n, "mailbox", "mailboxes")
                ),
                excerpt: words(endpoint),
            });
        }
    }
    for said in sessions {
        let (signal, place) = (probes::signal_of(said.endpoint.protocol), said.endpoint.address());
        if !said.failing.is_empty() {
            let statement = format!("{place} fails at {}, and is asked without it", said.failing.join(", "));
            heard.note(signal, Grade::A, at, Outcome::Offered, statement);
        }
        if let Some(alert) = &said.alert {
            heard.note(
                signal,
                Grade::A,
                at,
                Outcome::Offered,
                format!("{place} wants its users to know: {alert}"),
            );
        }
    }
}
