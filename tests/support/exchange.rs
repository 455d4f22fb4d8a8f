//! Stands before a Dovecot and behaves as Exchange Online is known to: what it announces, refuses, drops and says, in its
//! own words as users report them. Mail, folders and tokens are Dovecot's. Each behaviour can be turned off by itself.
//!
//! The words: imapsync's FAQ for Office 365 and Exchange; the capabilities: a trace in imapsync's issue 368.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

use super::ca::Certificate;
use super::dovecot::LOOPBACK;

const GREETING: &str = "* OK The Microsoft Exchange IMAP4 service is ready. [VABFAFMAVAAuAFQARQBTAFQA]\r\n";
const CAPABILITIES: &str = "* CAPABILITY IMAP4 IMAP4rev1 AUTH=PLAIN AUTH=XOAUTH2 SASL-IR UIDPLUS ID UNSELECT CHILDREN \
                            IDLE NAMESPACE LITERAL+";
/// The flags and keywords that it keeps.
const KEPT: [&str; 6] = ["\\seen", "\\answered", "\\flagged", "\\deleted", "\\draft", "$mdnsent"];
/// Refusals after which it ends a session.
const PATIENCE: usize = 10;

/// Its behaviour.
#[derive(Clone, Debug)]
pub struct Quirks {
    /// `\Flagged` of an APPEND is dropped.
    pub drops_flagged: bool,
    /// `$MDNSent` is kept.
    pub keeps_receipt_mark: bool,
    /// Folders with these names at the top cannot be made or filled.
    pub reserved: Vec<&'static str>,
    /// The longest line that it takes, in bytes without its end.
    pub longest_line: Option<usize>,
    /// The largest message that it takes, in bytes.
    pub largest_message: Option<usize>,
    /// Every so many APPENDs one is throttled, with a pause of so many milliseconds, and the session ends.
    pub throttles: Option<(usize, u64)>,
    /// Every so many APPENDs the session ends in the place of an answer, whether the message arrived or not.
    pub closes: Option<usize>,
    /// Users who are let in and then told that they are not connected.
    pub not_connected: BTreeSet<String>,
    /// A session ends after ten refusals.
    pub loses_patience: bool,
    /// Capabilities that it announces beside those of the trace, as a gateway in between may.
    pub announces: &'static str,
}

impl Default for Quirks {
    fn default() -> Self {
        Self {
            drops_flagged: true,
            keeps_receipt_mark: true,
            reserved: vec!["files"],
            longest_line: Some(10_239),
            largest_message: Some(1_000_000),
            throttles: None,
            closes: None,
            not_connected: BTreeSet::new(),
            loses_patience: true,
            announces: "",
        }
    }
}

/// How often it did something.
#[derive(Debug, Default)]
pub struct Tally {
    /// APPENDs that it was asked for.
    pub appends: AtomicUsize,
    /// Those that reached Dovecot.
    pub passed: AtomicUsize,
    /// Sessions that it throttled.
    pub throttled: AtomicUsize,
    /// Sessions that it ended.
    pub closed: AtomicUsize,
    /// Commands that change something: APPEND, STORE, CREATE, SUBSCRIBE and their like.
    pub changes: AtomicUsize,
}

/// A running front.
pub struct Exchange {
    address: SocketAddr,
    tally: Arc<Tally>,
    /// Its tasks end with it.
    _runtime: Runtime,
}

impl Exchange {
    /// Stands before a Dovecot without TLS, on a free port of loopback, with a certificate of its own.
    pub fn start(server: SocketAddr, certificate: &Certificate, quirks: Quirks) -> Self {
        Self::start_at(LOOPBACK, server, certificate, quirks)
    }

    /// As [`Self::start`], at an address.
    pub fn start_at(
        address: SocketAddr,
        server: SocketAddr,
        certificate: &Certificate,
        quirks: Quirks,
    ) -> Self {
        let chain = CertificateDer::pem_file_iter(&certificate.chain).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(&certificate.key).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind(address)).unwrap();
        let address = listener.local_addr().unwrap();
        let (quirks, tally) = (Arc::new(quirks), Arc::new(Tally::default()));
        let counted = Arc::clone(&tally);
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (acceptor, quirks, tally) = (acceptor.clone(), Arc::clone(&quirks), Arc::clone(&counted));
                tokio::spawn(async move {
                    let _ = client.set_nodelay(true);
                    // A client that goes away in the middle does not matter.
                    let _ = stand_between(client, server, &acceptor, &quirks, &tally).await;
                });
            }
        });
        Self { address, tally, _runtime: runtime }
    }

    /// Where it listens, with TLS.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How often it did something.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }
}

async fn stand_between(
    client: TcpStream,
    server: SocketAddr,
    acceptor: &TlsAcceptor,
    quirks: &Quirks,
    tally: &Tally,
) -> io::Result<()> {
    let client = acceptor.accept(client).await?;
    let server = TcpStream::connect(server).await?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = tokio::io::split(client);
    let (from_server, to_server) = server.into_split();
    let said = Said::default();
    let mut ear = Ear {
        quirks,
        tally,
        said: &said,
        client: BufReader::new(from_client),
        server: to_server,
        user: None,
        refusals: 0,
    };
    let mouth = tell(BufReader::new(from_server), to_client, quirks, &said);
    tokio::select! {
        heard = ear.listen() => {
            // Dovecot's remaining answers come before the end.
            let _ = ear.server.shutdown().await;
            heard
        }
        told = mouth => told,
    }
}

/// The answers in place of Dovecot's, by tag; after an answer that begins with `BYE` the session ends.
#[derive(Default)]
struct Said {
    instead: Mutex<BTreeMap<String, String>>,
    /// The tag of a login under way.
    login: Mutex<Option<String>>,
}

struct Ear<'a, R, W> {
    quirks: &'a Quirks,
    tally: &'a Tally,
    said: &'a Said,
    client: BufReader<R>,
    server: W,
    user: Option<String>,
    refusals: usize,
}

impl<R: AsyncReadExt + Unpin, W: AsyncWrite + Unpin> Ear<'_, R, W> {
    /// Reads commands to the end of the session.
    async fn listen(&mut self) -> io::Result<()> {
        loop {
            let mut line = Vec::new();
            if self.client.read_until(b'\n', &mut line).await? == 0 {
                return Ok(());
            }
            if self.said.login.lock().unwrap().is_some() {
                // An answer to a question of the login.
                self.server.write_all(&line).await?;
                continue;
            }
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            let (tag, command) = text.split_once(' ').unwrap_or((&text, ""));
            let verb = command.split(' ').next().unwrap_or_default().to_ascii_uppercase();
            let second = command.split(' ').nth(1).unwrap_or_default().to_ascii_uppercase();
            let changes = ["APPEND", "CREATE", "SUBSCRIBE", "DELETE", "RENAME", "STORE", "EXPUNGE"];
            if changes.contains(&verb.as_str()) || verb == "UID" && changes.contains(&second.as_str()) {
                self.tally.changes.fetch_add(1, Ordering::SeqCst);
            }
            let connected = self.user.as_ref().is_none_or(|user| !self.quirks.not_connected.contains(user));
            match verb.as_str() {
                "AUTHENTICATE" => self.log_in(tag, command, &line).await?,
                "LOGIN" => self.instead(tag, "NO LOGIN failed.").await?,
                "LOGOUT" | "CAPABILITY" | "NOOP" => self.server.write_all(&line).await?,
                _ if !connected => {
                    self.instead(tag, "BAD User is authenticated but not connected.").await?;
                }
                "APPEND" => {
                    if !self.append(tag, command).await? {
                        return Ok(());
                    }
                }
                "CREATE" | "SUBSCRIBE" if self.is_reserved(command) => {
                    self.instead(tag, "NO Folder name is reserved.").await?;
                }
                "UID" if second == "STORE" => {
                    let kept = self.keep_flags(&text);
                    self.server.write_all(format!("{kept}\r\n").as_bytes()).await?;
                }
                _ => self.server.write_all(&line).await?,
            }
            if self.quirks.loses_patience && self.refusals >= PATIENCE {
                self.refusals = 0;
                self.instead(tag, "BYE Connection is closed. 14").await?;
            }
        }
    }

    async fn log_in(&mut self, tag: &str, command: &str, line: &[u8]) -> io::Result<()> {
        let mut words = command.split(' ').skip(1);
        if !words.next().is_some_and(|mechanism| mechanism.eq_ignore_ascii_case("XOAUTH2")) {
            return self.instead(tag, "NO AUTHENTICATE failed.").await;
        }
        let first = BASE64_STANDARD.decode(words.next().unwrap_or_default()).unwrap_or_default();
        let first = String::from_utf8_lossy(&first).into_owned();
        self.user = first.split('\u{1}').find_map(|field| field.strip_prefix("user=")).map(str::to_owned);
        *self.said.login.lock().unwrap() = Some(tag.to_owned());
        self.server.write_all(line).await
    }

    /// Takes a message and passes it on or refuses it. False when the session is to end here.
    async fn append(&mut self, tag: &str, command: &str) -> io::Result<bool> {
        let number = self.tally.appends.fetch_add(1, Ordering::SeqCst) + 1;
        let (head, literal) = command.rsplit_once('{').expect("an APPEND has a literal");
        let size: usize = literal.trim_end_matches(['}', '+']).parse().expect("a literal has a size");
        if !literal.ends_with("+}") {
            self.instead(&format!("go{tag}"), "+ Ready for additional command text.").await?;
        }
        let mut message = vec![0; size];
        self.client.read_exact(&mut message).await?;
        let mut end = Vec::new();
        self.client.read_until(b'\n', &mut end).await?;
        let is_turn = |every: Option<usize>| every.is_some_and(|every| number.is_multiple_of(every));
        if is_turn(self.quirks.throttles.map(|(every, _)| every)) {
            let (_, pause) = self.quirks.throttles.unwrap_or_default();
            self.tally.throttled.fetch_add(1, Ordering::SeqCst);
            let word = format!("BAD Request is throttled. Suggested Backoff Time: {pause} milliseconds");
            self.instead(tag, &word).await?;
            self.instead("*", "BYE Connection closed. 14").await?;
            tokio::time::sleep(Duration::from_secs(5)).await;
            return Ok(false);
        }
        if self.is_reserved(command) {
            self.instead(tag, "NO Folder name is reserved.").await?;
            return Ok(true);
        }
        let longest = message.split(|byte| *byte == b'\n').map(|line| line.trim_ascii_end().len()).max();
        if self.quirks.longest_line.is_some_and(|most| longest.unwrap_or_default() > most) {
            self.instead(tag, "BAD Command Argument Error. 11").await?;
            return Ok(true);
        }
        if self.quirks.largest_message.is_some_and(|most| size > most) {
            self.instead(tag, "NO Maximum size of appendable message has been exceeded.").await?;
            return Ok(true);
        }
        let mut head = self.keep_flags(head);
        if self.quirks.drops_flagged {
            head = head.replace("\\Flagged", "").replace("  ", " ");
        }
        self.tally.passed.fetch_add(1, Ordering::SeqCst);
        self.server.write_all(format!("{tag} {head}{{{size}+}}\r\n").as_bytes()).await?;
        self.server.write_all(&message).await?;
        self.server.write_all(b"\r\n").await?;
        if is_turn(self.quirks.closes) {
            self.tally.closed.fetch_add(1, Ordering::SeqCst);
            self.said
                .instead
                .lock()
                .unwrap()
                .insert(tag.to_owned(), "BYE Connection is closed. 14".to_owned());
        }
        Ok(true)
    }

    /// The command without the flags that it does not keep.
    fn keep_flags(&self, command: &str) -> String {
        let Some((before, rest)) = command.rsplit_once('(') else { return command.to_owned() };
        let Some((flags, after)) = rest.split_once(')') else { return command.to_owned() };
        let kept = flags.split_ascii_whitespace().filter(|flag| {
            let flag = flag.to_ascii_lowercase();
            KEPT.contains(&flag.as_str()) && (self.quirks.keeps_receipt_mark || flag != "$mdnsent")
        });
        format!("{before}({}){after}", kept.collect::<Vec<_>>().join(" "))
    }

    fn is_reserved(&self, command: &str) -> bool {
        let name = command.split('"').nth(1).unwrap_or_default();
        let top = name.split('/').next().unwrap_or_default().to_ascii_lowercase();
        self.quirks.reserved.iter().any(|reserved| *reserved == top)
    }

    /// Has something said in its turn: Dovecot is asked for nothing, and its answer is replaced.
    async fn instead(&mut self, tag: &str, word: &str) -> io::Result<()> {
        let refused = word.starts_with("NO") || word.starts_with("BAD");
        self.refusals += usize::from(refused);
        // A last word that belongs to no command follows one of its own.
        let tag =
            if word.starts_with("BYE") { format!("bye{}", tag.trim_matches('*')) } else { tag.to_owned() };
        self.said.instead.lock().unwrap().insert(tag.clone(), word.to_owned());
        self.server.write_all(format!("{tag} NOOP\r\n").as_bytes()).await
    }
}

/// Passes answers on, as Exchange would give them.
async fn tell(
    mut server: BufReader<impl AsyncReadExt + Unpin>,
    mut client: impl AsyncWrite + Unpin,
    quirks: &Quirks,
    said: &Said,
) -> io::Result<()> {
    let mut greeted = false;
    loop {
        let mut line = Vec::new();
        if server.read_until(b'\n', &mut line).await? == 0 {
            client.shutdown().await?;
            return Ok(());
        }
        let text = String::from_utf8_lossy(&line).into_owned();
        let tag = text.split(' ').next().unwrap_or_default().to_owned();
        let word = said.instead.lock().unwrap().remove(&tag);
        if !std::mem::replace(&mut greeted, true) {
            client.write_all(GREETING.as_bytes()).await?;
        } else if let Some(last) = word.as_ref().filter(|word| word.starts_with("BYE")) {
            client.write_all(format!("* {last}\r\n").as_bytes()).await?;
            return client.shutdown().await;
        } else if let Some(more) = word.as_ref().filter(|word| word.starts_with('+')) {
            client.write_all(format!("{more}\r\n").as_bytes()).await?;
        } else if let Some(word) = word {
            client.write_all(format!("{tag} {word}\r\n").as_bytes()).await?;
        } else if let Some(line) = reword(&text, &tag, quirks, said) {
            client.write_all(line.as_bytes()).await?;
        } else {
            client.write_all(&line).await?;
        }
        // A literal follows: it passes as it is.
        let literal = text.trim_end().strip_suffix('}').and_then(|text| text.rsplit_once('{'));
        if let Some(size) = literal.and_then(|(_, size)| size.parse::<u64>().ok()) {
            tokio::io::copy(&mut (&mut server).take(size), &mut client).await?;
        }
        if server.buffer().is_empty() {
            client.flush().await?;
        }
    }
}

/// The line of Exchange in place of a line of Dovecot; `None` leaves it as it is.
fn reword(text: &str, tag: &str, quirks: &Quirks, said: &Said) -> Option<String> {
    let mut login = said.login.lock().unwrap();
    if login.as_deref() == Some(tag) {
        *login = None;
        let done = text.split(' ').nth(1) == Some("OK");
        let word = if done { "OK AUTHENTICATE completed." } else { "NO AUTHENTICATE failed." };
        return Some(format!("{tag} {word}\r\n"));
    }
    let mark = if quirks.keeps_receipt_mark { " $MDNSent" } else { "" };
    let kept = format!("(\\Seen \\Answered \\Flagged \\Deleted \\Draft{mark})");
    if text.starts_with("* CAPABILITY ") {
        Some(format!("{CAPABILITIES}{}\r\n", quirks.announces))
    } else if text.starts_with("* FLAGS ") {
        Some(format!("* FLAGS {kept}\r\n"))
    } else if text.starts_with("* OK [PERMANENTFLAGS ") {
        Some(format!("* OK [PERMANENTFLAGS {kept}] Permanent flags\r\n"))
    } else if text.starts_with("* OK [HIGHESTMODSEQ ") {
        Some(String::new())
    } else {
        None
    }
}
