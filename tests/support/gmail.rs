//! A server that shows labels as Gmail does (X-GM-EXT-1): a front before a real Dovecot that answers X-GM-LABELS.
//! A message lies in Dovecot once in each of its folders and in All Mail, as copies of their own; which labels
//! it has, the front knows from a table by Message-ID. As at Gmail, the label of the open folder is not among those told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use super::corpus::Message;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio_rustls::TlsAcceptor;

use super::ca::Certificate;
use super::dovecot::{Builder, Dovecot, LOOPBACK, User};
use super::imap::{decode_utf7, encode_utf7};

/// The item that Dovecot is asked for in place of labels.
const ASKED: &str = "BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)]";
/// The item that Dovecot answers with.
const ANSWERED: &str = "BODY[HEADER.FIELDS (MESSAGE-ID)]";
/// Where every message is that is neither spam nor trash.
pub const ALL: &str = "[Gmail]/All Mail";

/// Labels by Message-ID.
type Table = Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>;

/// Folders that were opened, and lists with labels that were answered; one that is opened may be held back.
#[derive(Default)]
struct Lists {
    counts: Mutex<Counts>,
    changed: Condvar,
}

#[derive(Default)]
struct Counts {
    opened: BTreeMap<String, usize>,
    answered: BTreeMap<String, usize>,
    /// The folder, and which of its openings is the first to wait.
    held: Option<(String, usize)>,
}

impl Lists {
    fn open(&self, folder: &str) {
        let mut counts = self.counts.lock().unwrap();
        let opened = counts.opened.entry(folder.to_owned()).or_default();
        *opened += 1;
        let opened = *opened;
        let is_held = |held: &(String, usize)| held.0 == folder && opened >= held.1;
        drop(self.changed.wait_while(counts, |counts| counts.held.as_ref().is_some_and(is_held)).unwrap());
    }

    fn answer(&self, folder: &str) {
        *self.counts.lock().unwrap().answered.entry(folder.to_owned()).or_default() += 1;
        self.changed.notify_all();
    }
}

/// A mailbox with labels, and its server.
pub struct Gmail {
    /// The server behind the front.
    pub dovecot: Dovecot,
    /// Where the front is.
    pub address: SocketAddr,
    /// Whose mailbox is at hand.
    pub user: String,
    table: Table,
    lists: Arc<Lists>,
}

impl Gmail {
    /// A server with one user.
    pub fn start(user: &str, password: &str) -> Self {
        Self::before(Dovecot::builder().user(User::new(user, password)), &[user])
    }

    /// As [`Self::start`] before a server that is to be. The first of its users is the one whose mailbox is at hand.
    pub fn before(server: Builder, users: &[&str]) -> Self {
        let capabilities = "IMAP4rev1 UNSELECT IDLE NAMESPACE QUOTA ID CHILDREN X-GM-EXT-1 UIDPLUS ENABLE MOVE CONDSTORE \
                            LIST-EXTENDED LIST-STATUS SPECIAL-USE SASL-IR";
        let builder = server.imap(LOOPBACK).capability(capabilities);
        let folders = [
            (ALL, "\\All"),
            ("[Gmail]/Drafts", "\\Drafts"),
            ("[Gmail]/Important", "\\Important"),
            ("[Gmail]/Sent Mail", "\\Sent"),
            ("[Gmail]/Spam", "\\Junk"),
            ("[Gmail]/Starred", "\\Flagged"),
            ("[Gmail]/Trash", "\\Trash"),
        ];
        let dovecot =
            folders.iter().fold(builder, |b, (name, attribute)| b.special_use(name, attribute)).start();
        // Special folders are made when a mailbox is first opened.
        for user in users {
            dovecot.mailbox(user).folders();
        }
        let (table, lists) = (Table::default(), Arc::<Lists>::default());
        let address = front(dovecot.imap(), &table, &lists);
        Self { dovecot, address, user: users[0].to_owned(), table, lists }
    }

    /// Lets something happen after the list of one folder and before another is opened, in whichever session: the `nth` time
    /// of both since the server began. A list that does not come within ten seconds is not waited for.
    pub fn between_lists(&self, nth: usize, first: &str, second: &str, happens: impl FnOnce()) {
        let mut counts = self.lists.counts.lock().unwrap();
        counts.held = Some((second.to_owned(), nth));
        let unanswered = |counts: &mut Counts| counts.answered.get(first).is_none_or(|n| *n < nth);
        let patience = Duration::from_secs(10);
        drop(self.lists.changed.wait_timeout_while(counts, patience, unanswered).unwrap());
        happens();
        self.lists.counts.lock().unwrap().held = None;
        self.lists.changed.notify_all();
    }

    /// Takes a message in, with labels: `Inbox`, `Sent`, `Draft`, `Starred` and `Important` with a backslash, others as
    /// users call them. The name is the Message-ID without the host.
    pub fn deliver(&self, name: &str, labels: &[&str]) {
        self.put(name, &[ALL]);
        for label in labels {
            self.add_label(name, label);
        }
    }

    /// Puts a message into folders alone, as into the trash.
    pub fn put(&self, name: &str, folders: &[&str]) {
        let mut client = self.dovecot.mailbox(&self.user);
        for folder in folders {
            client.create_and_subscribe(folder);
            client.append(&letter(name, folder)).unwrap();
        }
    }

    /// Gives a message a label.
    pub fn add_label(&self, name: &str, label: &str) {
        self.table.lock().unwrap().entry(id(name)).or_default().insert(label.to_owned());
        self.put(name, &[&folder_of(label)]);
    }

    /// Gives a message a label that is not shown by IMAP.
    pub fn add_hidden_label(&self, name: &str, label: &str) {
        self.table.lock().unwrap().entry(id(name)).or_default().insert(label.to_owned());
    }

    /// Takes a label away.
    pub fn remove_label(&self, name: &str, label: &str) {
        assert!(self.table.lock().unwrap().get_mut(&id(name)).unwrap().remove(label));
        let mut client = self.dovecot.mailbox(&self.user);
        client.select(&folder_of(label)).unwrap();
        let found = client.command(&format!("UID SEARCH HEADER Message-ID {}", id(name))).unwrap();
        let mut line = found.iter().map(|r| String::from_utf8_lossy(&r.text).into_owned());
        let uid = line.find_map(|line| line.strip_prefix("* SEARCH ").map(str::to_owned)).unwrap();
        client.command(&format!("UID STORE {uid} +FLAGS (\\Deleted)")).unwrap();
        client.command(&format!("UID EXPUNGE {uid}")).unwrap();
    }
}

fn id(name: &str) -> String {
    format!("<{name}@mail.gmail.test>")
}

/// The folder of a label.
fn folder_of(label: &str) -> String {
    match label {
        "\\Inbox" => "INBOX".to_owned(),
        "\\Sent" => "[Gmail]/Sent Mail".to_owned(),
        "\\Draft" => "[Gmail]/Drafts".to_owned(),
        "\\Starred" => "[Gmail]/Starred".to_owned(),
        "\\Important" => "[Gmail]/Important".to_owned(),
        other => other.to_owned(),
    }
}

fn letter(name: &str, folder: &str) -> Message {
    let bytes = format!(
        "From: Anna <anna@a.test>\r\nTo: Otto <otto@a.test>\r\nSubject: about {name}\r\nMessage-ID: {}\r\n\
         Date: Wed, 17 Jul 2019 02:44:25 +0200\r\n\r\nThis is {name}.\r\n",
        id(name)
    );
    Message {
        folder: folder.to_owned(),
        flags: vec!["\\Seen".to_owned()],
        internal_date: "17-Jul-2019 02:44:25 +0200".to_owned(),
        bytes: bytes.into_bytes(),
    }
}

/// A label as the server spells it: an atom, a quoted string or a literal, as it must be.
fn spell(label: &str) -> String {
    let wire = if label.starts_with('\\') { label.to_owned() } else { encode_utf7(label) };
    if wire.contains('"') {
        format!("{{{}}}\r\n{wire}", wire.len())
    } else if wire.contains([' ', '(', ')', '{', '%', '*', '\\', ']']) {
        format!("\"{}\"", wire.replace('\\', "\\\\"))
    } else {
        wire
    }
}

/// Stands before a server, at an address of its own.
fn front(server: SocketAddr, table: &Table, lists: &Arc<Lists>) -> SocketAddr {
    let (table, lists) = (Arc::clone(table), Arc::clone(lists));
    let listener = TcpListener::bind((IpAddr::V4(Ipv4Addr::LOCALHOST), 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let (table, lists) = (Arc::clone(&table), Arc::clone(&lists));
            thread::spawn(move || {
                let _ = stand_between(&client, server, &table, &lists);
                let _ = client.shutdown(Shutdown::Both);
            });
        }
    });
    address
}

/// The same server with implicit TLS, at an address of its own.
pub fn behind_tls(server: SocketAddr, certificate: &Certificate) -> SocketAddr {
    let chain = CertificateDer::pem_file_iter(&certificate.chain).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(&certificate.key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = builder.with_no_client_auth().with_single_cert(chain, key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((IpAddr::V4(Ipv4Addr::LOCALHOST), 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            listener.set_nonblocking(true).unwrap();
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((client, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let mut client = acceptor.accept(client).await?;
                    let mut server = tokio::net::TcpStream::connect(server).await?;
                    tokio::io::copy_bidirectional(&mut client, &mut server).await
                });
            }
        });
    });
    address
}

/// Lists with labels that are under way: tag and folder.
type UnderWay = Arc<Mutex<VecDeque<(String, String)>>>;

fn stand_between(
    client: &TcpStream,
    server: SocketAddr,
    table: &Table,
    lists: &Arc<Lists>,
) -> io::Result<()> {
    client.set_nodelay(true)?;
    let server = TcpStream::connect(server)?;
    server.set_nodelay(true)?;
    let under_way = UnderWay::default();
    let answers = {
        let (server, client) = (server.try_clone()?, client.try_clone()?);
        let (under_way, table, lists) = (Arc::clone(&under_way), Arc::clone(table), Arc::clone(lists));
        thread::spawn(move || {
            let _ = answer(BufReader::new(server), &client, &under_way, &table, &lists);
            let _ = client.shutdown(Shutdown::Both);
        })
    };
    let mut commands = BufReader::new(client.try_clone()?);
    let mut open = String::new();
    let mut line = String::new();
    while commands.read_line(&mut line)? > 0 {
        let (tag, command) = line.split_once(' ').unwrap_or(("", &line));
        if let Some(rest) = command.strip_prefix("EXAMINE ").or_else(|| command.strip_prefix("SELECT ")) {
            open = read_name(rest);
            lists.open(&open);
        }
        if command.contains("X-GM-LABELS") {
            under_way.lock().unwrap().push_back((tag.to_owned(), open.clone()));
        }
        (&server).write_all(line.replace("X-GM-LABELS", ASKED).as_bytes())?;
        line.clear();
    }
    let _ = server.shutdown(Shutdown::Both);
    answers.join().unwrap();
    Ok(())
}

/// The folder that a quoted name stands for.
fn read_name(rest: &str) -> String {
    let mut name = String::new();
    let mut chars = rest.trim_start_matches('"').chars();
    while let Some(c) = chars.next().filter(|c| *c != '"') {
        name.push(if c == '\\' { chars.next().unwrap() } else { c });
    }
    decode_utf7(&name)
}

fn answer(
    mut server: BufReader<TcpStream>,
    mut client: &TcpStream,
    under_way: &UnderWay,
    table: &Table,
    lists: &Lists,
) -> io::Result<()> {
    let mut line = Vec::new();
    while server.read_until(b'\n', &mut line)? > 0 {
        let text = String::from_utf8_lossy(&line).into_owned();
        let literal = text.trim_end().strip_suffix('}').and_then(|rest| rest.rsplit_once('{'));
        let size = literal.and_then(|(_, size)| size.parse::<usize>().ok());
        if let (Some((head, _)), Some(size), true) = (literal, size, text.contains(ANSWERED)) {
            let mut header = vec![0; size];
            server.read_exact(&mut header)?;
            let header = String::from_utf8_lossy(&header).into_owned();
            let id = header.split_once(':').map_or("", |(_, id)| id.trim()).to_owned();
            let folder = under_way.lock().unwrap().front().map(|(_, folder)| folder.clone()).unwrap();
            let known = table.lock().unwrap().get(&id).cloned().unwrap_or_default();
            let told = known.iter().filter(|label| folder_of(label) != folder).map(|label| spell(label));
            let labels = format!("X-GM-LABELS ({})", told.collect::<Vec<_>>().join(" "));
            client.write_all(head.replace(ANSWERED, &labels).trim_end().as_bytes())?;
        } else {
            client.write_all(&line)?;
            if let Some(size) = size {
                io::copy(&mut (&mut server).take(size as u64), &mut client)?;
            }
        }
        let tag = text.split(' ').next().unwrap_or_default();
        let mut under_way = under_way.lock().unwrap();
        if let Some((_, folder)) = under_way.pop_front_if(|(other, _)| *other == tag) {
            lists.answer(&folder);
        }
        line.clear();
    }
    Ok(())
}
