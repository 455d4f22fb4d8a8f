//! What the tests of discovery share: a request in few words, a guard and a clock in memory, and a small HTTPS server.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use jiff::Timestamp;
use mailferry::discovery::{Clock, LoginGuard, MailboxRequest, Request, Step, Watcher, discover};
use mailferry::mail::credentials::Login;
use mailferry::mail::network::Network;
use mailferry::mail::tls::Trust;
use mailferry::model::endpoint::Endpoint;
use mailferry::model::evidence::DomainDiscovery;
use mailferry::model::failure::Result;
use mailferry::model::fidelity::Weights;
use mailferry::model::finding::Code;
use mailferry::model::protocol::Protocol;
use mailferry::model::secret::Secret;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::support::ca::{Ca, Certificate};
use super::support::dns::{Dns, Record};

/// Two refusals for each login and password, as the platform keeps them durably.
#[derive(Default)]
pub struct Guard(Mutex<HashMap<(String, String), u32>>, Mutex<Vec<(String, String)>>);

fn version(login: &Login) -> (String, String) {
    (login.who(), login.password.expose().to_owned())
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
            mailboxes,
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
    MailboxRequest { address: address.parse().unwrap(), login: Some(login), chosen: None }
}

/// A mailbox that an administrator opens.
pub fn by_master(address: &str, password: &str) -> MailboxRequest {
    let user = format!("{address}*madmin");
    let login = Login::own(user, Secret::new(password));
    MailboxRequest { address: address.parse().unwrap(), login: Some(login), chosen: None }
}

pub fn protocols(found: &DomainDiscovery) -> Vec<Option<Protocol>> {
    found.mailboxes.iter().map(mailferry::model::evidence::MailboxDiscovery::protocol).collect()
}

pub fn codes(found: &DomainDiscovery) -> Vec<Code> {
    let mut codes: Vec<_> = found.findings.iter().map(|finding| finding.code).collect();
    codes.sort_unstable();
    codes
}

/// One web server with one document on port 443 (or 80, without a certificate) of a loopback address of its own.
pub struct Web {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl Web {
    pub fn start(ip: &str, certificate: Option<&Certificate>, path: &'static str, answer: String) -> Self {
        Self::with_places(ip, certificate, vec![(path, answer)])
    }

    /// As [`Self::start`] with several places; what is asked at each is kept.
    pub fn with_places(
        ip: &str,
        certificate: Option<&Certificate>,
        places: Vec<(&'static str, String)>,
    ) -> Self {
        let port = if certificate.is_some() { 443 } else { 80 };
        let address: SocketAddr = format!("{ip}:{port}").parse().unwrap();
        let listener = TcpListener::bind(address).unwrap();
        let config = certificate.map(|files| {
            let chain = CertificateDer::pem_file_iter(&files.chain).unwrap().map(Result::unwrap).collect();
            let key = PrivateKeyDer::from_pem_file(&files.key).unwrap();
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
            Arc::new(builder.unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap())
        });
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&asked);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                // A peer that refuses the certificate goes away in the middle.
                let _ = match &config {
                    Some(config) => {
                        let tls = ServerConnection::new(Arc::clone(config)).unwrap();
                        serve(StreamOwned::new(tls, stream), &places, &heard)
                    }
                    None => serve(stream, &places, &heard),
                };
            }
        });
        Self { address, stop, asked, thread: Some(thread) }
    }

    /// What was asked so far, head and body of each question.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(
    mut stream: impl Read + Write,
    places: &[(&str, String)],
    asked: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut piece = [0; 1024];
    let is_whole = |request: &[u8]| {
        let head = request.windows(4).position(|end| end == b"\r\n\r\n").map(|at| at + 4);
        head.is_some_and(|head| {
            let text = String::from_utf8_lossy(&request[..head]).to_ascii_lowercase();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            request.len() >= head + length.unwrap_or(0)
        })
    };
    while !is_whole(&request) {
        match stream.read(&mut piece)? {
            0 => return Ok(()),
            n => request.extend_from_slice(&piece[..n]),
        }
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let line = request.lines().next().unwrap_or_default().to_owned();
    asked.lock().unwrap().push(request);
    let target = line.split(' ').nth(1).and_then(|target| target.split('?').next()).unwrap_or_default();
    let found = places.iter().find(|(path, _)| *path == target);
    let missing = reply("404 Not Found", "", "");
    stream.write_all(found.map_or(&missing, |(_, answer)| answer).as_bytes())?;
    stream.flush()
}

impl Drop for Web {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the listener up so that it sees it.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The usual place below `autoconfig.DOMAIN`.
pub const DOCUMENT: &str = "/mail/config-v1.1.xml";

/// An answer with a document that names servers: `(type, host, port, socketType)`.
pub fn document(servers: &[(&str, &str, u16, &str)]) -> String {
    let mut xml = "<clientConfig version=\"1.1\"><emailProvider id=\"x\">".to_owned();
    for (kind, host, port, socket) in servers {
        xml.push_str(&format!(
            "<incomingServer type=\"{kind}\"><hostname>{host}</hostname><port>{port}</port>\
             <socketType>{socket}</socketType><username>%EMAILADDRESS%</username></incomingServer>"
        ));
    }
    xml.push_str("</emailProvider></clientConfig>");
    reply("200 OK", "Content-Type: text/xml\r\n", &xml)
}

/// An answer; each of the headers ends with its line.
pub fn reply(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}
