//! A scripted server: a small IMAP or POP3 server in this process that behaves as a decent plain one should, and that a test
//! bends in a line or two. It serves as a source and, with IMAP, as a destination.
//!
//! ```ignore
//! let source = Script::imap(Store::standard());
//! source.on("EXAMINE Work", Reaction::no("[SERVERBUG] broken index"));
//! source.bend(|command| command.wants_bodies().then(|| Reaction::edit(|answer| answer.cut_message(2, 40))));
//! source.store().folder("INBOX").add(&["\\Seen"], "Subject: one more\r\n\r\nhello\r\n");
//! assert!(destination.verbs().iter().all(|verb| verb != "DELETE"));
//! ```
//!
//! - [`store`]: what lies in the mailbox, and may change while the server runs
//! - [`bend`]: commands, and what is answered to them
//! - [`imap`] with [`messages`] and [`values`]: RFC 3501 and, where their capabilities are set, its extensions
//! - [`pop3`]: RFC 1939

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

pub mod bend;
mod imap;
mod messages;
mod pop3;
pub mod store;
mod values;

pub use bend::{Answer, Command, End, Reaction};
pub use store::Store;

use bend::Bends;

/// The password of everybody, unless a test names users.
pub const PASSWORD: &str = "secret";

/// A running server; it ends with its last handle.
pub struct Script {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// The state that all connections of a server share with its test.
pub(super) struct Shared {
    store: Mutex<Store>,
    bends: Bends,
    announced: Bends,
    capabilities: Mutex<Vec<String>>,
    users: Mutex<BTreeMap<String, String>>,
    heard: Mutex<Vec<Command>>,
    connections: AtomicUsize,
    is_over: std::sync::atomic::AtomicBool,
}

impl Script {
    /// An IMAP server with this mail. It offers what most servers do: `SASL-IR AUTH=PLAIN LITERAL+ ID NAMESPACE UIDPLUS`.
    pub fn imap(store: Store) -> Self {
        let words = "IMAP4rev1 SASL-IR AUTH=PLAIN LITERAL+ ID NAMESPACE UIDPLUS";
        Self::start(store, words.split(' '), imap::serve)
    }

    /// A POP3 server, whose maildrop is the INBOX of this mail. It offers `USER`, `TOP`, `UIDL`, `PIPELINING`, `SASL PLAIN`
    /// and `RESP-CODES`.
    pub fn pop3(store: Store) -> Self {
        Self::start(store, ["USER", "TOP", "UIDL", "PIPELINING", "SASL PLAIN", "RESP-CODES"], pop3::serve)
    }

    fn start<'a>(
        store: Store,
        capabilities: impl IntoIterator<Item = &'a str>,
        serve: fn(Line, Arc<Shared>) -> io::Result<()>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            store: Mutex::new(store),
            bends: Bends::default(),
            announced: Bends::default(),
            capabilities: Mutex::new(capabilities.into_iter().map(str::to_owned).collect()),
            users: Mutex::default(),
            heard: Mutex::default(),
            connections: AtomicUsize::new(0),
            is_over: false.into(),
        });
        let of_all = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if of_all.is_over.load(Ordering::SeqCst) {
                    break;
                }
                let shared = Arc::clone(&of_all);
                let connection = shared.connections.fetch_add(1, Ordering::SeqCst);
                // A client that goes away ends its session; nobody wants to hear of it.
                thread::spawn(move || Line::new(stream, connection).and_then(|line| serve(line, shared)));
            }
        });
        Self { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The mail, to look at or to change; no command is carried out while it is held.
    pub fn store(&self) -> MutexGuard<'_, Store> {
        self.shared.store.lock().expect("a store")
    }

    /// From now on offers just these capabilities: words for IMAP, lines parted by commas for POP3.
    pub fn capabilities(&self, all: &str) -> &Self {
        *self.shared.capabilities.lock().expect("capabilities") = split(all);
        self
    }

    /// Offers these capabilities too.
    pub fn also(&self, more: &str) -> &Self {
        self.shared.capabilities.lock().expect("capabilities").extend(split(more));
        self
    }

    /// Does not offer these capabilities any more.
    pub fn without(&self, less: &str) -> &Self {
        let less = split(less);
        self.shared.capabilities.lock().expect("capabilities").retain(|word| !less.contains(word));
        self
    }

    /// Lets in this user; without any, everybody is let in with [`PASSWORD`]. All see the same mail.
    pub fn user(&self, name: &str, password: &str) -> &Self {
        self.shared.users.lock().expect("users").insert(name.to_owned(), password.to_owned());
        self
    }

    /// Bends it: the first of the rules, in the order in which they were made, that has a reaction to a command counts.
    /// The greeting is a reaction to a command called `GREETING`, which nobody gave.
    pub fn bend(&self, rule: impl Fn(&Command) -> Option<Reaction> + Send + Sync + 'static) -> &Self {
        self.shared.bends.add(rule);
        self
    }

    /// Reacts so to every command that begins with these words, such as `EXAMINE Work`; quotes are left out.
    pub fn on(&self, words: &str, reaction: Reaction) -> &Self {
        let words = words.to_owned();
        self.bend(move |command| command.is(&words).then(|| reaction.clone()))
    }

    /// As [`Self::on`], for the first `times` of these commands only.
    pub fn on_first(&self, times: usize, words: &str, reaction: Reaction) -> &Self {
        let words = words.to_owned();
        self.bend(move |command| (command.is(&words) && command.times < times).then(|| reaction.clone()))
    }

    /// As [`Self::bend`], when a literal is announced and before any of it is read: the command is then answered and over.
    pub fn bend_announced(
        &self,
        rule: impl Fn(&Command) -> Option<Reaction> + Send + Sync + 'static,
    ) -> &Self {
        self.shared.announced.add(rule);
        self
    }

    /// Forgets all rules.
    pub fn straighten(&self) {
        self.shared.bends.clear();
        self.shared.announced.clear();
    }

    /// Every command that was given so far, in the order in which they came.
    pub fn heard(&self) -> Vec<Command> {
        self.shared.heard.lock().expect("what was heard").clone()
    }

    /// The verbs of [`Self::heard`].
    pub fn verbs(&self) -> Vec<String> {
        self.heard().into_iter().map(|command| command.verb).collect()
    }

    /// How many of the commands so far begin with these words.
    pub fn count(&self, words: &str) -> usize {
        self.heard().iter().filter(|command| command.is(words)).count()
    }

    /// Forgets what was heard.
    pub fn forget(&self) {
        self.shared.heard.lock().expect("what was heard").clear();
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        // Wakes the listener, which then sees that it is over.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    pub(super) fn offers(&self, capability: &str) -> bool {
        self.capabilities
            .lock()
            .expect("capabilities")
            .iter()
            .any(|word| word.eq_ignore_ascii_case(capability))
    }

    pub(super) fn capabilities(&self) -> Vec<String> {
        self.capabilities.lock().expect("capabilities").clone()
    }

    pub(super) fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().expect("a store")
    }

    pub(super) fn lets_in(&self, user: &str, password: &str) -> bool {
        let users = self.users.lock().expect("users");
        if users.is_empty() { password == PASSWORD } else { users.get(user).is_some_and(|it| it == password) }
    }

    /// As [`Self::lets_in`], from the response of SASL PLAIN: who it is that is let in.
    pub(super) fn lets_in_plain(&self, response: &str) -> Option<String> {
        use base64::Engine as _;
        let decoded = base64::prelude::BASE64_STANDARD.decode(response.trim()).ok()?;
        let decoded = String::from_utf8(decoded).ok()?;
        let mut parts = decoded.split('\0');
        let (authzid, user, password) = (parts.next()?, parts.next()?, parts.next()?);
        self.lets_in(user, password).then(|| if authzid.is_empty() { user } else { authzid }.to_owned())
    }

    /// Answers a command: as a rule has it, or else as `perform` does.
    pub(super) fn react(&self, command: &mut Command, perform: impl FnOnce() -> Answer) -> Answer {
        if command.verb != "GREETING" {
            self.heard.lock().expect("what was heard").push(command.clone());
        }
        match self.bends.ask(command) {
            None => perform(),
            Some(Reaction::Instead(answer)) => answer,
            Some(Reaction::Edited(edit)) => {
                let mut answer = perform();
                edit(&mut answer);
                answer
            }
        }
    }

    /// The answer to an announced literal, where a rule has one.
    pub(super) fn react_announced(&self, command: &mut Command) -> Option<Answer> {
        self.announced.ask(command).map(|reaction| match reaction {
            Reaction::Instead(answer) => answer,
            Reaction::Edited(edit) => {
                let mut answer = Answer::default();
                edit(&mut answer);
                answer
            }
        })
    }
}

fn split(words: &str) -> Vec<String> {
    let parts: Vec<&str> =
        if words.contains(',') { words.split(',').collect() } else { words.split_whitespace().collect() };
    parts.into_iter().map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect()
}

/// One connection.
pub(super) struct Line {
    pub(super) reader: BufReader<TcpStream>,
    writer: TcpStream,
    pub(super) connection: usize,
}

impl Line {
    fn new(stream: TcpStream, connection: usize) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { reader: BufReader::new(stream.try_clone()?), writer: stream, connection })
    }

    /// Reads a line with its end into `bytes`; false when the client is gone.
    pub(super) fn read(&mut self, bytes: &mut Vec<u8>) -> io::Result<bool> {
        Ok(self.reader.read_until(b'\n', bytes)? > 0)
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.write_all(bytes)
    }

    /// Says an answer; false when the conversation is over.
    pub(super) fn say(&mut self, answer: &Answer, tag: &str) -> io::Result<bool> {
        thread::sleep(answer.wait);
        let mut all = Vec::new();
        for response in &answer.responses {
            all.extend(bend::replaced(response, b"{tag}", tag.as_bytes()));
        }
        self.write(&all)?;
        match &answer.end {
            End::GoOn => return Ok(true),
            End::Close => {
                self.writer.shutdown(Shutdown::Write)?;
                // Data that still comes is read, or the system would answer it with a reset.
                self.swallow();
            }
            End::Reset => reset(&self.writer)?,
            End::Silence => self.swallow(),
            End::Flood(again) => {
                let chunk = again.repeat(4096);
                loop {
                    self.write(&chunk)?;
                }
            }
        }
        Ok(false)
    }

    /// Reads until the client goes.
    fn swallow(&mut self) {
        let _ = io::copy(&mut self.reader, &mut io::sink());
    }
}

/// Makes the close of a connection a reset. Only tokio has a safe call for it.
fn reset(stream: &TcpStream) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let stream = stream.try_clone()?;
    stream.set_nonblocking(true)?;
    runtime.block_on(async { tokio::net::TcpStream::from_std(stream)?.set_zero_linger() })
}
