//! A small HTTPS server with a few documents: what domains publish about their mail.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::ca::Certificate;

/// A web server on port 443 (or 80, without a certificate) of an address of its own.
pub struct Web {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl Web {
    /// With one document.
    pub fn start(ip: &str, certificate: Option<&Certificate>, path: &'static str, answer: String) -> Self {
        Self::with_places(ip, certificate, vec![(path, answer)])
    }

    /// With several documents; what is asked at each is kept. A place is a path, or a host and a path.
    pub fn with_places(
        ip: &str,
        certificate: Option<&Certificate>,
        places: Vec<(&'static str, String)>,
    ) -> Self {
        let port = if certificate.is_some() { 443 } else { 80 };
        let answer = move |request: &str| answer_from(&places, request);
        Self::answering(format!("{ip}:{port}").parse().unwrap(), certificate, answer)
    }

    /// At an address, port 0 meaning a free one; each question, head and body, is answered by `answer`.
    pub fn answering(
        address: SocketAddr,
        certificate: Option<&Certificate>,
        answer: impl Fn(&str) -> String + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
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
        let answer: Arc<dyn Fn(&str) -> String + Send + Sync> = Arc::new(answer);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                let (config, heard, answer) = (config.clone(), Arc::clone(&heard), Arc::clone(&answer));
                // A peer that refuses the certificate goes away in the middle.
                std::thread::spawn(move || match config {
                    Some(config) => {
                        let tls = ServerConnection::new(config).unwrap();
                        let _ = serve(StreamOwned::new(tls, stream), &*answer, &heard);
                    }
                    None => drop(serve(stream, &*answer, &heard)),
                });
            }
        });
        Self { address, stop, asked, thread: Some(thread) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The requests so far, head and body of each.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(
    mut stream: impl Read + Write,
    answer: &dyn Fn(&str) -> String,
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
    asked.lock().unwrap().push(request.clone());
    stream.write_all(answer(&request).as_bytes())?;
    stream.flush()
}

fn answer_from(places: &[(&str, String)], request: &str) -> String {
    let host =
        request.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("host: ").map(str::to_owned));
    let target = request.lines().next().unwrap_or_default().split(' ').nth(1);
    let target = target.and_then(|target| target.split('?').next()).unwrap_or_default();
    let whole = format!("{}{target}", host.unwrap_or_default());
    let found = places.iter().find(|(place, _)| *place == target || *place == whole);
    found.map_or_else(|| reply("404 Not Found", "", ""), |(_, answer)| answer.clone())
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
        let _ = write!(
            xml,
            "<incomingServer type=\"{kind}\"><hostname>{host}</hostname><port>{port}</port>\
             <socketType>{socket}</socketType><username>%EMAILADDRESS%</username></incomingServer>"
        );
    }
    xml.push_str("</emailProvider></clientConfig>");
    reply("200 OK", "Content-Type: text/xml\r\n", &xml)
}

/// An answer; each of the headers ends with its line.
pub fn reply(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}
