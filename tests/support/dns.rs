//! A private DNS server: dnsmasq on a free port of this machine, that knows the given records and nothing else.
//!
//! Every other name is NXDOMAIN; it never asks anybody, reads no system file, and ends with the value.

use std::fmt::Write;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tempfile::TempDir;

use super::process::{self, Server};

/// One resource record, as the options of dnsmasq that make it.
#[derive(Clone, Debug)]
pub struct Record(String);

impl Record {
    /// A or AAAA, by the kind of address.
    pub fn a(name: &str, address: &str) -> Self {
        Self(format!("--host-record={name},{address}"))
    }

    /// SRV with priority 0 and weight 1.
    pub fn srv(service: &str, target: &str, port: u16) -> Self {
        Self::srv_ranked(service, target, port, 0, 1)
    }

    /// SRV with a priority (lower is tried first) and a weight.
    pub fn srv_ranked(service: &str, target: &str, port: u16, priority: u16, weight: u16) -> Self {
        Self(format!("--srv-host={service},{target},{port},{priority},{weight}"))
    }

    /// SRV with the target ".": the service is decidedly not offered (RFC 2782, RFC 6186 §3.4).
    pub fn srv_none(service: &str) -> Self {
        // Priority, weight and port 0, then the root name; dnsmasq's own option would say port 1.
        Self(format!("--dns-rr={service},33,00000000000000"))
    }

    /// MX with its preference.
    pub fn mx(domain: &str, host: &str, preference: u16) -> Self {
        Self(format!("--mx-host={domain},{host},{preference}"))
    }

    /// Passes questions about a zone on to one of its name servers, at port 53, and remembers nothing of the answers.
    pub fn forward(zone: &str, to: IpAddr) -> Self {
        Self(format!("--server=/{zone}/{to}"))
    }

    /// CNAME; the target must be one of the records too.
    pub fn cname(alias: &str, target: &str) -> Self {
        Self(format!("--cname={alias},{target}"))
    }

    /// TXT; text beyond 255 bytes becomes several strings.
    pub fn txt(name: &str, text: &str) -> Self {
        // In hexadecimal, as dnsmasq would split the text at its commas.
        let mut data = String::new();
        for string in text.as_bytes().chunks(255) {
            write!(data, "{:02x}", string.len()).expect("a String takes everything");
            for byte in string {
                write!(data, "{byte:02x}").expect("a String takes everything");
            }
        }
        Self(format!("--dns-rr={name},16,{data}"))
    }
}

/// A running DNS server.
#[derive(Debug)]
pub struct Dns {
    address: SocketAddr,
    // In this order: the server goes before the directory that holds its log.
    _server: Server,
    _directory: TempDir,
}

impl Dns {
    /// Starts a server on 127.0.0.1 that answers with `records`.
    pub fn start(records: &[Record]) -> Self {
        Self::start_at(IpAddr::V4(Ipv4Addr::LOCALHOST), records)
    }

    /// Starts a server that answers at `ip`, which must be this machine's, with `records`.
    pub fn start_at(ip: IpAddr, records: &[Record]) -> Self {
        Self::start_on(SocketAddr::new(ip, 0), records)
    }

    /// As [`Self::start_at`], on a certain port; 0 means a free one.
    pub fn start_on(wanted: SocketAddr, records: &[Record]) -> Self {
        let directory =
            tempfile::Builder::new().prefix("mailferry-dns-").tempdir().expect("a temporary directory");
        let log = directory.path().join("dnsmasq.log");
        for _ in 0..5 {
            let address = if wanted.port() == 0 { process::free_address(wanted.ip()) } else { wanted };
            let mut server = Server::start("dnsmasq", arguments(address, records), &log);
            if server.wait_until(|| process::answers(address)) {
                return Self { address, _server: server, _directory: directory };
            }
        }
        panic!("dnsmasq does not start: {}", fs::read_to_string(&log).unwrap_or_default());
    }

    /// Where it answers, over UDP and TCP.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }
}

fn arguments(address: SocketAddr, records: &[Record]) -> Vec<String> {
    let mut args: Vec<String> = [
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--no-poll",
        "--pid-file",
        "--log-facility=-",
        "--bind-interfaces",
        "--cache-size=0",
        // Everything is ours to answer: what is not known does not exist.
        "--local=/#/",
    ]
    .map(str::to_owned)
    .to_vec();
    args.push(format!("--listen-address={}", address.ip()));
    args.push(format!("--port={}", address.port()));
    args.extend(records.iter().map(|record| record.0.clone()));
    args
}

/// A name server that answers SERVFAIL to questions for one type of record, and passes all others on.
pub struct Failing {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl Failing {
    /// In front of another name server; `kind` is the number of the type, as 33 for SRV.
    pub fn before(behind: SocketAddr, kind: u16) -> Self {
        Self::start(behind, kind, false)
    }

    /// As [`Self::before`], like one that finds wrong signatures: whoever does not ask for checks (CD, RFC 4035 §3.2.2) is
    /// answered.
    pub fn checking(behind: SocketAddr, kind: u16) -> Self {
        Self::start(behind, kind, true)
    }

    fn start(behind: SocketAddr, kind: u16, checks: bool) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a time limit");
        let address = socket.local_addr().expect("its address");
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (over, heard) = (Arc::clone(&stop), Arc::clone(&asked));
        let thread = std::thread::spawn(move || {
            let mut packet = [0; 4096];
            while !over.load(Ordering::SeqCst) {
                let Ok((length, from)) = socket.recv_from(&mut packet) else { continue };
                let question = &packet[..length];
                let Some((name, wanted)) = read_question(question) else { continue };
                let unchecked = question[3] & 0x10 != 0;
                if wanted == kind && !(checks && unchecked) {
                    heard.lock().unwrap().push(name);
                    // QR and RA, code 2, and nothing but the question.
                    let mut answer = question.to_vec();
                    answer[2] |= 0x80;
                    answer[3] = 0x82;
                    let _ = socket.send_to(&answer, from);
                    continue;
                }
                let Ok(other) = UdpSocket::bind("127.0.0.1:0") else { continue };
                let _ = other.set_read_timeout(Some(Duration::from_secs(2)));
                if other.send_to(question, behind).is_ok()
                    && let Ok((length, _)) = other.recv_from(&mut packet)
                {
                    let _ = socket.send_to(&packet[..length], from);
                }
            }
        });
        Self { address, stop, asked, thread: Some(thread) }
    }

    /// Where it answers, over UDP.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// How often it was asked for a name and failed.
    pub fn asked(&self, name: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| *asked == name).count()
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The name and the type of a question (RFC 1035 §4.1.2).
fn read_question(packet: &[u8]) -> Option<(String, u16)> {
    let (mut labels, mut at) = (Vec::new(), 12);
    loop {
        let length = usize::from(*packet.get(at)?);
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(packet.get(at + 1..at + 1 + length)?).to_lowercase());
        at += 1 + length;
    }
    let kind = packet.get(at + 1..at + 3)?;
    Some((labels.join("."), u16::from_be_bytes([kind[0], kind[1]])))
}
