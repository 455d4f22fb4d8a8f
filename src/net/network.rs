//! The way to a server: names are looked up, addresses are held against the policy, and the address that was vetted is
//! the one that is connected to. Connections to one host are counted over all mailboxes of the process.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::Message;
use hickory_resolver::proto::rr::RecordType;
use hickory_resolver::system_conf::read_system_conf;
use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::client::TlsStream;

use super::deflate::Deflate;
use super::dns::{self, Manner, NoAnswer};
use super::host::{Host, Waiting};
use super::http::Proxy;
use super::tls::Trust;
use crate::model::endpoint::{Endpoint, is_public};
use crate::model::evidence::TlsFacts;
use crate::model::failure::{Class, Failure, FailureCode, Place, Result};
use crate::model::protocol::Tls;
use crate::model::text::printable;

/// How long a name server may take to answer one question.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(3);
/// How often a question is put to a name server.
const LOOKUP_ATTEMPTS: usize = 2;
/// How long whoever is in a hurry waits for any further answer once one question had none: enough for a name server that
/// has it at hand.
const AFTER_SILENCE: Duration = Duration::from_millis(100);
/// How long after a name server failed at a question it is asked again.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// How long one address may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);
/// After how long a peer that should have greeted is asked whether it waits for TLS. A server that greets is heard much
/// sooner.
const GREETED_WITHIN: Duration = Duration::from_secs(4);
/// How long it may take to show that it speaks TLS.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);
/// How long a peer may be silent while an answer is due (FAULTS 10).
pub const SILENCE_MAX: Duration = Duration::from_mins(1);
/// The most addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;
/// Where name servers answer.
const DNS_PORT: u16 = 53;
/// Most addresses that the remedy for refused ones names.
const REFUSED_NAMED: usize = 8;

/// How long the name server is waited for by those who can do without its answer.
#[derive(Debug)]
struct Hurry {
    patience: Duration,
    /// Whether a question had no answer in that time.
    had_none: AtomicBool,
}

/// Name service, address policy and connection limits of one migration.
#[derive(Debug)]
pub struct Network {
    resolver: TokioResolver,
    name_server: Option<SocketAddr>,
    /// The name servers that are asked: that one, or the system's.
    resolvers: Vec<SocketAddr>,
    allowed: Vec<IpNet>,
    per_host: usize,
    hosts: Arc<Mutex<HashMap<String, Arc<Host>>>>,
    /// Set where nobody waits long for the name server.
    hurry: Option<Arc<Hurry>>,
    proxy: Option<Proxy>,
    /// Networks that the migration lists and whoever installed the operator does not allow; `None` where nobody bounds it.
    barred: Option<Vec<IpNet>>,
    /// Addresses that were refused, for one remedy that is about all of them; at most [`REFUSED_NAMED`].
    refused: Arc<Mutex<BTreeSet<IpNet>>>,
}

impl Network {
    /// A network that asks the name server that is `given`, or the system's name servers when there is none; `allowed` lists the loopback,
    /// private and link-local networks that may be connected to.
    ///
    /// # Errors
    /// [`Class::Configuration`] when the system's name servers cannot be read.
    pub fn new(given: Option<SocketAddr>, allowed: Vec<IpNet>, per_host: usize) -> Result<Self> {
        let (config, options) = match given {
            Some(address) => {
                let mut server = NameServerConfig::udp_and_tcp(address.ip());
                for connection in &mut server.connections {
                    connection.port = address.port();
                }
                (ResolverConfig::from_parts(None, Vec::new(), vec![server]), ResolverOpts::default())
            }
            None => read_system_conf().map_err(|e| {
                Failure::configuration("the system's name servers cannot be read")
                    .hint("give one with --resolver IP:PORT")
                    .caused_by(&e)
            })?,
        };
        let resolvers = config
            .name_servers()
            .iter()
            .filter_map(|server| Some(SocketAddr::new(server.ip, server.connections.first()?.port)));
        let resolvers = resolvers.collect();
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        // A name server that does not answer must not cost a run half a minute.
        builder.options_mut().timeout = LOOKUP_TIMEOUT;
        builder.options_mut().attempts = LOOKUP_ATTEMPTS;
        let resolver = builder
            .build()
            .map_err(|e| Failure::configuration("the name service cannot be set up").caused_by(&e))?;
        let (name_server, per_host) = (given, per_host.max(1));
        Ok(Self {
            resolver,
            name_server,
            resolvers,
            allowed,
            per_host,
            hosts: Arc::default(),
            hurry: None,
            proxy: None,
            barred: None,
            refused: Arc::default(),
        })
    }

    /// The same network where an installation bounds what a migration may list, and bars these networks of its list.
    #[must_use]
    pub fn bounded(self, barred: Vec<IpNet>) -> Self {
        Self { barred: Some(barred), ..self }
    }

    /// The same network where HTTPS goes out by a proxy.
    #[must_use]
    pub(crate) fn through(self, proxy: Option<Proxy>) -> Self {
        Self { proxy, ..self }
    }

    /// The proxy by which HTTPS goes out, if there is one.
    pub(crate) fn proxy(&self) -> Option<&Proxy> {
        self.proxy.as_ref()
    }

    /// The name server that was given; `None` where the system's are asked.
    pub fn name_server(&self) -> Option<SocketAddr> {
        self.name_server
    }

    /// The same network for questions that can do without an answer: a name server that says nothing is waited for so long,
    /// and hardly at all once a question had no answer. Policy and limits are shared.
    #[must_use]
    pub fn in_a_hurry(&self, patience: Duration) -> Self {
        Self {
            resolver: self.resolver.clone(),
            name_server: self.name_server,
            resolvers: self.resolvers.clone(),
            allowed: self.allowed.clone(),
            per_host: self.per_host,
            hosts: Arc::clone(&self.hosts),
            proxy: self.proxy.clone(),
            barred: self.barred.clone(),
            refused: Arc::clone(&self.refused),
            hurry: Some(Arc::new(Hurry { patience, had_none: AtomicBool::new(false) })),
        }
    }

    /// Asks the name server for the records of one type that a name has.
    ///
    /// # Errors
    /// Those of the name service; also that there is no such name or no such record.
    pub async fn look_up(&self, name: &str, kind: RecordType) -> Result<Lookup, NetError> {
        let ask = || self.answered(self.resolver.lookup(rooted(name), kind));
        let answer = ask().await;
        let refused = matches!(&answer, Err(NetError::Dns(DnsError::ResponseCode(_))));
        if refused && self.hurry.is_none() {
            // A name server that fails may have it a moment later; that it fails says nothing of the name.
            sleep(AFTER_FAILURE).await;
            return ask().await;
        }
        answer
    }

    /// Asks an authority by itself at an address that the policy allows, and remembers nothing.
    ///
    /// # Errors
    /// That nothing came. A refusal is an answer.
    pub async fn ask_authority(
        &self,
        address: IpAddr,
        name: &str,
        kind: RecordType,
    ) -> Result<Message, NoAnswer> {
        if !self.allows(address) {
            return Err(NoAnswer::NotAllowed);
        }
        dns::ask(SocketAddr::new(address, DNS_PORT), name, kind, Manner::Authority).await
    }

    /// Asks the name server, or the first of the system's that says anything, for what it says now, and remembers nothing. It
    /// is not held against the policy: whoever runs this machine chose it.
    ///
    /// # Errors
    /// That nothing came. A refusal is an answer.
    pub async fn ask_resolver(
        &self,
        name: &str,
        kind: RecordType,
        manner: Manner,
    ) -> Result<Message, NoAnswer> {
        let mut nothing = NoAnswer::Unreachable;
        for resolver in &self.resolvers {
            match dns::ask(*resolver, name, kind, manner).await {
                Ok(answer) => return Ok(answer),
                Err(no_answer) => nothing = no_answer,
            }
        }
        Err(nothing)
    }

    /// The answer of the name server, unless that takes longer than anybody here waits.
    async fn answered<T>(&self, question: impl Future<Output = Result<T, NetError>>) -> Result<T, NetError> {
        let Some(Hurry { patience, had_none }) = self.hurry.as_deref() else { return question.await };
        let patience = if had_none.load(Ordering::Relaxed) { AFTER_SILENCE } else { *patience };
        timeout(patience, question).await.unwrap_or_else(|_| {
            had_none.store(true, Ordering::Relaxed);
            Err(NetError::Timeout)
        })
    }

    /// The addresses of a host that the policy allows to connect to.
    ///
    /// # Errors
    /// [`Class::Unreachable`] when the name has no address; [`Class::Refused`] when no address of it is allowed.
    pub async fn resolve(&self, host: &str) -> Result<Vec<IpAddr>> {
        let found: Vec<IpAddr> = if let Ok(address) = host.parse() {
            vec![address]
        } else {
            let answer = self.answered(self.resolver.lookup_ip(rooted(host))).await;
            let answer = answer.map_err(|e| explain_lookup(host, &e))?;
            answer.iter().take(ADDRESSES_MAX).collect()
        };
        let allowed: Vec<IpAddr> = found.iter().copied().filter(|address| self.allows(*address)).collect();
        if allowed.is_empty() {
            let shown = found.first().map_or_else(String::new, ToString::to_string);
            return Err(self.not_allowed(host, &shown));
        }
        Ok(allowed)
    }

    /// Refuses an address of a host that the policy does not let us connect to.
    ///
    /// # Errors
    /// [`Class::Refused`] with the remedy.
    pub fn vet(&self, host: &str, address: IpAddr) -> Result<()> {
        if self.allows(address) { Ok(()) } else { Err(self.not_allowed(host, &address.to_string())) }
    }

    /// Which of two lists lacks the network of an address, and whose list that is.
    fn not_allowed(&self, host: &str, address: &str) -> Failure {
        let host = printable(host);
        let what = format!("{host} is at {address}, a loopback, private or link-local address");
        let is_barred = |barred: &Vec<IpNet>| {
            address
                .parse::<IpAddr>()
                .is_ok_and(|address| barred.iter().any(|network| network.contains(&address)))
        };
        let list = match address.parse::<IpAddr>() {
            Ok(address) => format!("spec.policy.allowedNetworks: [{}]", self.list_with(address)),
            Err(_) => "spec.policy.allowedNetworks".to_owned(),
        };
        // A second command should not fail for a missing authority, which a private network needs almost as surely.
        let authority =
            "; if an authority of your own signed its certificate, give that as well, in caRef or --ca";
        let hint = match &self.barred {
            None => format!("if that is right, list its network in {list}{authority}"),
            Some(barred) if is_barred(barred) => {
                "spec.policy.allowedNetworks lists its network, and the installation does not allow it: list it in \
                 discovery.allowedNetworks of the operator's chart"
                    .to_owned()
            }
            Some(_) => format!(
                "if that is right, list its network in {list}; the installation must allow it too \
                 (discovery.allowedNetworks){authority}"
            ),
        };
        Failure::new(Class::Refused, what).code(FailureCode::AddressNotAllowed).hint(hint)
    }

    /// The list that would let all of them be: what it holds already, and every address that was refused until now.
    fn list_with(&self, address: IpAddr) -> String {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.len() < REFUSED_NAMED {
            refused.insert(IpNet::from(address.to_canonical()));
        }
        let wanted: BTreeSet<IpNet> = self
            .allowed
            .iter()
            .chain(&*refused)
            .copied()
            .chain([IpNet::from(address.to_canonical())])
            .collect();
        wanted.iter().map(|network| format!("\"{network}\"")).collect::<Vec<_>>().join(", ")
    }

    /// Whether the policy lets us connect to an address: public ones always, others when their network is listed.
    pub fn allows(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        is_public(address) || self.allowed.iter().any(|network| network.contains(&address))
    }

    /// Connects to an endpoint and secures the channel if the endpoint's TLS begins with the first byte.
    ///
    /// # Errors
    /// As [`Self::resolve`]; [`Class::Unreachable`] when no address accepts; [`Class::Tls`] from the handshake.
    pub async fn connect(&self, endpoint: &Endpoint, trust: &Trust) -> Result<Channel> {
        self.connect_to(endpoint, trust, false).await
    }

    /// As [`Self::connect`], to a server that is the first to speak: one that says nothing in clear is asked after a few
    /// seconds whether it waits for TLS.
    ///
    /// # Errors
    /// As [`Self::connect`]; [`Class::Tls`] when the port speaks TLS from the first byte and the endpoint says otherwise.
    pub async fn connect_greeted(&self, endpoint: &Endpoint, trust: &Trust) -> Result<Channel> {
        self.connect_to(endpoint, trust, true).await
    }

    async fn connect_to(&self, endpoint: &Endpoint, trust: &Trust, greets: bool) -> Result<Channel> {
        let connected = async {
            let slot = self.slot(&endpoint.host).await?;
            self.connect_unplaced(endpoint, trust, slot, greets).await
        };
        connected.await.at(|| endpoint.address())
    }

    /// As [`Self::connect`], unless the host's limit is reached, or as many as the host takes are open: then `None`,
    /// without waiting. For connections that one can do without.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_if_free(&self, endpoint: &Endpoint, trust: &Trust) -> Result<Option<Channel>> {
        let host = self.host(&endpoint.host);
        if self.is_wanted(&endpoint.host) || !host.allowance().admits(host.open(), Instant::now()) {
            return Ok(None);
        }
        let Ok(slot) = Arc::clone(&host.slots).try_acquire_owned() else { return Ok(None) };
        self.connect_unplaced(endpoint, trust, slot, false).await.at(|| endpoint.address()).map(Some)
    }

    async fn connect_unplaced(
        &self,
        endpoint: &Endpoint,
        trust: &Trust,
        slot: OwnedSemaphorePermit,
        greets: bool,
    ) -> Result<Channel> {
        let addresses = self.resolve(&endpoint.host).await?;
        let mut last = Failure::new(Class::Unreachable, "has no address");
        for address in addresses {
            match timeout(CONNECT_TIMEOUT, TcpStream::connect((address, endpoint.port))).await {
                Ok(Ok(tcp)) => {
                    let tcp = match endpoint.tls {
                        Tls::StartTLS | Tls::None if greets => {
                            hear_greeting(tcp, address, endpoint, trust).await?
                        }
                        _ => tcp,
                    };
                    // Commands are written whole; waiting to fill a packet only adds latency.
                    tcp.set_nodelay(true).ok();
                    // A process that is killed or gives up takes back the bytes that did not leave the machine: else it
                    // would trickle on over a slow line, longer than any destination is waited for. A polite end has
                    // nothing left to send.
                    tcp.set_zero_linger().ok();
                    let host = self.host(&endpoint.host);
                    let stream = Stream::Plain(tcp);
                    let port = endpoint.port;
                    let channel = Channel { stream, deflate: None, tls: None, host, port, _slot: slot };
                    return match endpoint.tls {
                        Tls::Implicit => channel.secure(&endpoint.host, trust).await,
                        Tls::StartTLS | Tls::None => Ok(channel),
                    };
                }
                Ok(Err(error)) => {
                    let what = if error.kind() == std::io::ErrorKind::ConnectionRefused {
                        format!("refuses connections ({address})")
                    } else {
                        format!("cannot be connected to ({address}): {error}")
                    };
                    last = Failure::new(Class::Unreachable, what)
                        .hint("check the port and the firewall")
                        .caused_by(&error);
                }
                Err(_) => {
                    last = Failure::new(
                        Class::Unreachable,
                        format!("does not answer within {} s ({address})", CONNECT_TIMEOUT.as_secs()),
                    )
                    .hint("check the port and the firewall");
                }
            }
        }
        Err(last)
    }

    /// Waits until one more connection to a host is within the limit, and holds its place.
    ///
    /// # Errors
    /// [`Class::Internal`] when the limits are gone.
    pub async fn slot(&self, host: &str) -> Result<OwnedSemaphorePermit> {
        let host = self.host(host);
        let _waiting = Waiting::at(&host);
        Arc::clone(&host.slots)
            .acquire_owned()
            .await
            .map_err(|e| Failure::internal("a connection limit is gone").caused_by(&e))
    }

    /// Waits until one more request by HTTPS to a host is within the limit, and holds its place. Requests are counted apart from
    /// sessions of mail: a session that is being logged in asks for its token, and may hold the host's last place meanwhile.
    ///
    /// # Errors
    /// [`Class::Internal`] when the limits are gone.
    pub async fn request_slot(&self, host: &str) -> Result<OwnedSemaphorePermit> {
        self.slot(&format!("https://{host}")).await
    }

    /// Whether somebody waits for a connection to a host, so that whoever can do without one should give it back.
    pub fn is_wanted(&self, host: &str) -> bool {
        self.host(host).is_wanted()
    }

    /// Whether a host should have fewer connections: somebody waits for one, or it asked for a pause while there were as
    /// many. A session that can do without its connection gives it back at the next good place.
    pub fn should_have_fewer(&self, host: &str) -> bool {
        let host = self.host(host);
        host.is_wanted() || host.allowance().exceeded_by(host.open(), Instant::now())
    }

    /// Learns from a further session that a host did not let begin that it is one too many.
    pub fn note_refused(&self, host: &str, failure: &Failure) {
        match failure.class {
            // One connection too many is not a reason to give up half of them, unless the host says for how long.
            Class::Throttled if failure.wait.is_none() => {
                let host = self.host(host);
                host.allowance().refuse(host.open(), None, Instant::now());
            }
            _ => self.note(host, failure),
        }
    }

    /// Learns from how a session with a host ended how many further ones the host takes.
    pub fn note(&self, host: &str, failure: &Failure) {
        let host = self.host(host);
        let (open, now) = (host.open(), Instant::now());
        match failure.class {
            Class::Throttled => host.allowance().throttle(open, failure.wait, now),
            Class::Unreachable => host.allowance().refuse(open, failure.wait, now),
            _ => {}
        }
    }

    /// How long a host has asked to be left alone from now on, whichever session it told so.
    pub fn pause_left(&self, host: &str) -> Option<Duration> {
        self.host(host).allowance().pause_left(Instant::now())
    }

    /// Learns how fast a host is: one session carried so many bytes of messages while it waited for the host for so long.
    pub fn note_carried(&self, host: &str, bytes: u64, waited: Duration) {
        self.host(host).note_carried(bytes, waited);
    }

    /// The extensions that a server offers and was seen to fail at while this process ran, in alphabetical order.
    pub fn failing_at(&self, endpoint: &Endpoint) -> Vec<&'static str> {
        self.host(&endpoint.host).failing(endpoint.port)
    }

    fn host(&self, host: &str) -> Arc<Host> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(hosts.entry(host.to_owned()).or_insert_with(|| Arc::new(Host::new(self.per_host))))
    }
}

/// The connection once its peer has begun to greet. One that says nothing may wait for TLS, as would the user for a minute
/// before being told that nothing came; so it is asked, by another connection in the place of this one.
///
/// # Errors
/// [`Class::Tls`] when the port speaks TLS from the first byte; [`Class::Unreachable`] when it is gone.
async fn hear_greeting(
    tcp: TcpStream,
    address: IpAddr,
    endpoint: &Endpoint,
    trust: &Trust,
) -> Result<TcpStream> {
    let connect = || TcpStream::connect((address, endpoint.port));
    if timeout(GREETED_WITHIN, tcp.peek(&mut [0])).await.is_ok() {
        return Ok(tcp);
    }
    drop(tcp);
    let gone = |error: std::io::Error| {
        Failure::new(Class::Unreachable, format!("cannot be connected to again ({address}): {error}"))
            .caused_by(&error)
    };
    let again = connect().await.map_err(gone)?;
    let answered = match timeout(ANSWERED_WITHIN, trust.handshake(again, &endpoint.host)).await {
        Ok(Ok(_)) => true,
        // A certificate that is refused was sent by one who speaks TLS.
        Ok(Err(failure)) => failure.class == Class::Tls && !failure.is(FailureCode::SpeaksInClear),
        Err(_) => false,
    };
    if answered {
        let wanted = if endpoint.tls == Tls::None { "no TLS at all" } else { "a plain greeting before TLS" };
        let what = format!("speaks TLS from the first byte on this port, and {wanted} was wanted");
        return Err(Failure::new(Class::Tls, what)
            .code(FailureCode::SpeaksTls)
            .hint("no password was sent; write tls: Implicit for this port"));
    }
    connect().await.map_err(gone)
}

/// A name with the final dot that keeps a search list from turning a missing name into somebody else's.
fn rooted(name: &str) -> String {
    format!("{}.", name.trim_end_matches('.'))
}

fn explain_lookup(host: &str, error: &NetError) -> Failure {
    let host = printable(host);
    if error.is_nx_domain() || error.is_no_records_found() {
        return Failure::new(Class::Unreachable, format!("the name {host} does not exist in the DNS"))
            .code(FailureCode::NoSuchHost)
            .hint("check the spelling of the domain or host")
            .caused_by(error);
    }
    Failure::new(
        Class::Unreachable,
        format!("the name {host} cannot be looked up: {}", printable(&error.to_string())),
    )
    .code(FailureCode::NameUnanswered)
    .hint("check the name servers, or give one with --resolver IP:PORT")
    .caused_by(error)
}

/// A connection to a server, plain or secured.
#[derive(Debug)]
pub enum Stream {
    /// TCP as it is.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
}

/// A stream with what its TLS showed; it gives its place in the host's limit back when it goes.
#[derive(Debug)]
pub struct Channel {
    /// The bytes' way.
    pub stream: Stream,
    /// Set once all that passes is compressed.
    deflate: Option<Box<Deflate>>,
    /// The facts of the handshake, once there was one.
    pub tls: Option<TlsFacts>,
    host: Arc<Host>,
    port: u16,
    _slot: OwnedSemaphorePermit,
}

impl Channel {
    /// Puts TLS over a plain channel. The caller has made sure that nothing it read before lies in a buffer.
    ///
    /// # Errors
    /// [`Class::Tls`] when the certificate is refused, [`Class::Protocol`] when there is TLS already.
    pub async fn secure(self, host: &str, trust: &Trust) -> Result<Self> {
        let Stream::Plain(tcp) = self.stream else {
            return Err(Failure::protocol("TLS was asked for twice"));
        };
        let (stream, facts) =
            timeout(HANDSHAKE_TIMEOUT, trust.handshake(tcp, host)).await.map_err(|_| {
                Failure::new(
                    Class::Unreachable,
                    format!("no TLS handshake within {} s", HANDSHAKE_TIMEOUT.as_secs()),
                )
                .hint("check that this port speaks TLS from the first byte")
            })??;
        Ok(Self { stream: Stream::Tls(Box::new(stream)), tls: Some(facts), ..self })
    }

    /// Compresses all that is written from now on, and takes what comes for compressed (RFC 4978); `incoming` is what was
    /// read too far.
    pub fn compress(&mut self, incoming: BytesMut) {
        self.deflate = Some(Box::new(Deflate::new(incoming)));
    }

    /// Whether everything is compressed.
    pub fn is_compressed(&self) -> bool {
        self.deflate.is_some()
    }

    /// Whether the link to the host is slow, as far as this process has learned.
    pub fn is_slow(&self) -> bool {
        self.host.is_slow()
    }

    /// Whether the server was seen to fail at an extension, in whichever session.
    pub fn fails_at(&self, word: &str) -> bool {
        self.host.fails_at(self.port, word)
    }

    /// Tells the server's other sessions that it fails at an extension; says whether that is news.
    pub fn note_failing(&self, word: &'static str) -> bool {
        self.host.note_failing(self.port, word)
    }

    /// Tells the server's other sessions that an extension does what it should.
    pub fn note_working(&self, word: &str) {
        self.host.note_working(self.port, word);
    }

    /// Whether the server was seen to do what an extension says, in whichever session.
    pub fn is_proven(&self, word: &str) -> bool {
        self.host.is_proven(self.port, word)
    }

    /// Tells the server's other sessions that it does what an extension says.
    pub fn note_proven(&self, word: &'static str) {
        self.host.note_proven(self.port, word);
    }

    /// Tells the server's other sessions that this one ended at an extension; the second time in a row it counts as failing.
    pub fn note_suspected(&self, word: &'static str) {
        self.host.note_suspected(self.port, word);
    }

    /// Tells the host's other sessions how fast this one was. Compressed traffic says nothing about the link.
    pub fn note_carried(&self, bytes: u64, waited: Duration) {
        if !self.is_compressed() {
            self.host.note_carried(bytes, waited);
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

impl AsyncRead for Channel {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let Self { stream, deflate, .. } = self.get_mut();
        match deflate {
            Some(deflate) => deflate.poll_read(stream, cx, buf),
            None => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Channel {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        let Self { stream, deflate, .. } = self.get_mut();
        match deflate {
            Some(deflate) => deflate.poll_write(stream, cx, buf),
            None => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let Self { stream, deflate, .. } = self.get_mut();
        match deflate {
            Some(deflate) => deflate.poll_flush(stream, cx),
            None => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::protocol::Protocol;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    fn network(allowed: &[&str]) -> Network {
        Network::new(
            Some("127.0.0.1:53".parse().unwrap()),
            allowed.iter().map(|n| n.parse().unwrap()).collect(),
            8,
        )
        .unwrap()
    }

    #[tokio::test]
    async fn addresses_inside_are_refused_unless_listed() {
        let strict = network(&[]);
        for inside in [
            "127.0.0.1",
            "10.1.2.3",
            "192.168.0.1",
            "172.16.9.9",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "::1",
            "fe80::1",
            "fd00::1",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
        ] {
            assert!(!strict.allows(inside.parse().unwrap()), "{inside}");
        }
        assert!(strict.allows("9.9.9.9".parse().unwrap()) && strict.allows("2620:fe::fe".parse().unwrap()));
        let loose = network(&["127.0.0.0/8"]);
        assert!(loose.allows("127.1.2.3".parse().unwrap()) && !loose.allows("10.0.0.1".parse().unwrap()));
        let failure = strict.resolve("127.0.0.1").await.unwrap_err();
        assert_eq!(failure.class, Class::Refused);
        assert!(failure.hint.unwrap().contains("allowedNetworks"));
        // Of two lists the one that lacks it is named, and whose that is.
        let bounded = network(&[]).bounded(vec!["127.0.0.0/8".parse().unwrap()]);
        for (host, words) in [
            ("127.0.0.1", "list it in discovery.allowedNetworks of the operator's chart"),
            (
                "10.0.0.1",
                "spec.policy.allowedNetworks: [\"10.0.0.1/32\", \"127.0.0.1/32\"]; the installation must allow it too",
            ),
        ] {
            let hint = bounded.resolve(host).await.unwrap_err().hint.unwrap();
            assert!(hint.contains(words), "{hint}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_can_do_without_an_answer_waits_once_and_hardly_again() {
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let patient = Network::new(Some(silent.local_addr().unwrap()), Vec::new(), 8).unwrap();
        let hasty = patient.in_a_hurry(Duration::from_millis(500));
        let ask = async |network: &Network, name: &str| {
            let asked = Instant::now();
            let failure = network.resolve(name).await.unwrap_err();
            assert!(failure.is(FailureCode::NameUnanswered), "{failure}");
            asked.elapsed().as_millis()
        };
        assert_eq!(ask(&hasty, "one.test").await, 500);
        assert_eq!(ask(&hasty, "two.test").await, 100);
        // A caller that needs the name still waits for it, and a literal address is taken at once.
        assert!(ask(&patient, "three.test").await >= LOOKUP_TIMEOUT.as_millis());
        assert!(hasty.resolve("9.9.9.9").await.is_ok());
    }

    #[tokio::test]
    async fn what_did_not_leave_the_machine_goes_with_the_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let endpoint = Endpoint::new(Protocol::Imap, "127.0.0.1", port, Tls::None);
        let trust = Trust::with_authorities(&[]).unwrap();
        let mut channel = network(&["127.0.0.0/8"]).connect(&endpoint, &trust).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let sent = timeout(Duration::from_millis(300), channel.write_all(&vec![b'x'; 64 << 20])).await;
        assert!(sent.is_err(), "the buffers of both sides are full");
        drop(channel);
        let mut heard = Vec::new();
        let end = server.read_to_end(&mut heard).await;
        assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset, "{} bytes", heard.len());
    }

    #[tokio::test]
    async fn further_connections_heed_what_the_host_said_and_make_room_for_those_that_are_needed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint =
            Endpoint::new(Protocol::Imap, "127.0.0.1", listener.local_addr().unwrap().port(), Tls::None);
        let trust = Trust::with_authorities(&[]).unwrap();
        let network = network(&["127.0.0.0/8"]);
        let free = async || network.connect_if_free(&endpoint, &trust).await.unwrap();
        let first = network.connect(&endpoint, &trust).await.unwrap();
        let mut further = vec![free().await.unwrap(), free().await.unwrap(), free().await.unwrap()];
        network.note("127.0.0.1", &Failure::new(Class::Throttled, "slow down"));
        assert!(free().await.is_none(), "four are open, and two are allowed");
        assert!(network.should_have_fewer("127.0.0.1"));
        further.truncate(1);
        assert!(free().await.is_none());
        assert!(!network.should_have_fewer("127.0.0.1"), "two are what it is left");
        further.clear();
        further.push(free().await.unwrap());
        // One too many costs one; a first connection is never refused here.
        drop(further);
        network.note_refused("127.0.0.1", &Failure::new(Class::Throttled, "too many connections"));
        assert!(free().await.is_none());
        let mut needed = vec![first];
        for _ in 1..8 {
            needed.push(network.connect(&endpoint, &trust).await.unwrap());
        }
        // The host is marked as wanted as long as a caller waits.
        assert!(!network.is_wanted("127.0.0.1"));
        let connect = network.connect(&endpoint, &trust);
        tokio::pin!(connect);
        assert!(timeout(Duration::from_millis(50), &mut connect).await.is_err());
        assert!(network.is_wanted("127.0.0.1") && network.should_have_fewer("127.0.0.1"));
        needed.pop();
        connect.await.unwrap();
        assert!(!network.is_wanted("127.0.0.1"));
    }
}
