//! Two servers on which a situation is prepared once and then played many times: each time with mailboxes and a ledger
//! that are copies of the first ones, UIDs and UIDVALIDITY included.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::orders::{Orders, PASSWORD};
use crate::support::compare::Account;
use crate::support::corpus::Message;
use crate::support::dovecot::{Builder, Dovecot, LOOPBACK};
use crate::support::imap::Client;

/// The play that the others are copies of.
pub const BASE: &str = "base";

/// Logins cost no process each, so that thousands of passes are quick.
const QUICK: &str = "service imap-login {\n service_count = 0\n client_limit = 1000\n}\n\
                     service pop3-login {\n service_count = 0\n client_limit = 1000\n}\n\
                     service imap {\n service_count = 100\n process_limit = 1000\n}\n\
                     service anvil {\n client_limit = 5000\n}\nservice auth {\n client_limit = 5000\n}";

/// A source server.
pub fn old_server() -> Builder {
    new_server().pop3(LOOPBACK)
}

/// A destination server.
pub fn new_server() -> Builder {
    Dovecot::builder().imap(LOOPBACK).any_user(PASSWORD, None).compression().setting(QUICK)
}

/// The servers, and a directory for ledgers.
pub struct Stage {
    pub source: Dovecot,
    pub destination: Dovecot,
    directory: TempDir,
}

impl Stage {
    pub fn start(source: Builder, destination: Builder) -> Self {
        Self {
            source: source.start(),
            destination: destination.start(),
            directory: tempfile::tempdir().unwrap(),
        }
    }

    /// The mailbox of a play at the source.
    pub fn at_source(&self, play: &str) -> Client {
        connect(self.source.imap(), play)
    }

    /// The mailbox of a play at the destination.
    pub fn at_destination(&self, play: &str) -> Client {
        connect(self.destination.imap(), play)
    }

    pub fn ledger(&self, play: &str) -> PathBuf {
        self.directory.path().join(format!("{play}.sqlite"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Carries the play's mailbox by IMAP.
    pub fn orders(&self, play: &str) -> Orders {
        Orders {
            source: self.source.imap(),
            source_user: play.to_owned(),
            pop3: false,
            destination: self.destination.imap(),
            destination_user: play.to_owned(),
            ledger: self.ledger(play),
            settle_ms: 1000,
            folders: Vec::new(),
            beside: Vec::new(),
            slow: false,
        }
    }

    /// As [`Self::orders`], by POP3.
    pub fn by_pop3(&self, play: &str) -> Orders {
        Orders { source: self.source.pop3(), pop3: true, ..self.orders(play) }
    }

    /// Copies the base's mailboxes (those whose names begin with it) and ledgers for another play.
    pub fn copy(&self, play: &str) {
        for server in [&self.source, &self.destination] {
            let home = server.home(BASE);
            for name in names_in(home.parent().unwrap()) {
                copy(&server.home(&name), &server.home(&renamed(&name, play)));
            }
        }
        for name in names_in(self.directory.path()) {
            copy(&self.path(&name), &self.path(&renamed(&name, play)));
        }
    }

    /// Throws a play away.
    pub fn clear(&self, play: &str) {
        for server in [&self.source, &self.destination] {
            let home = server.home(play);
            let _ = std::fs::remove_dir_all(home);
        }
    }
}

fn connect(at: SocketAddr, play: &str) -> Client {
    Client::login(at, play, PASSWORD).unwrap()
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(BASE)).collect()
}

fn renamed(name: &str, play: &str) -> String {
    format!("{play}{}", &name[BASE.len()..])
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.is_ok_and(|status| status.success()), "cp {} {}", from.display(), to.display());
}

/// A letter of about `bytes` bytes.
pub fn letter(folder: &str, flags: &[&str], subject: &str, bytes: usize) -> Message {
    let mut text = format!(
        "From: a@a.test\r\nTo: b@a.test\r\nMessage-ID: <{}@a.test>\r\nSubject: {subject}\r\n\r\n{subject}\r\n",
        blake3::hash(subject.as_bytes()).to_hex()
    );
    text.push_str(&"0123456789 abcdef\r\n".repeat(bytes.saturating_sub(text.len()) / 19));
    Message {
        folder: folder.to_owned(),
        flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
        internal_date: "07-Mar-2019 08:15:42 +0100".to_owned(),
        bytes: text.into_bytes(),
    }
}

/// A small mailbox: three folders, flags, keywords, sizes from tiny to more than a packet takes, and two twins.
pub fn small_mailbox() -> Vec<Message> {
    let mut mail = vec![
        letter("INBOX", &["\\Seen"], "one", 200),
        letter("INBOX", &[], "two", 5_000),
        letter("INBOX", &["\\Flagged", "$Label1"], "twin", 400),
        letter("INBOX", &["\\Flagged", "$Label1"], "twin", 400),
        letter("INBOX", &["\\Answered"], "five", 40_000),
        letter("INBOX", &["\\Seen"], "six", 40_000),
        letter("Sent", &["\\Seen"], "seven", 300),
        letter("Sent", &["\\Seen"], "one", 200),
        letter("Archive/2019", &["to-do"], "nine", 3_000),
        letter("Archive/2019", &["\\Draft"], "ten", 100),
    ];
    for (at, message) in mail.iter_mut().enumerate().filter(|(at, _)| !matches!(at, 2 | 3)) {
        message.internal_date = format!("{:02}-Mar-2019 08:15:42 +0100", at + 1);
    }
    mail
}

/// Removes a message by its place in a folder.
pub fn expunge(client: &mut Client, folder: &str, number: u32) {
    client.select(folder).unwrap();
    client.command(&format!("STORE {number} +FLAGS (\\Deleted)")).unwrap();
    client.command("EXPUNGE").unwrap();
    client.command("CLOSE").unwrap();
}

/// Both accounts as one.
pub fn together(mut one: Account, other: Account) -> Account {
    for (folder, rows) in other.folders {
        one.folders.entry(folder).or_default().extend(rows);
    }
    one.subscribed.extend(other.subscribed);
    one
}
