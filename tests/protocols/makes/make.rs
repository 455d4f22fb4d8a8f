//! Servers of many makes behind one face: each with one user, whose mailbox tests fill and read by a client of their own.

use std::any::Any;
use std::net::SocketAddr;

use crate::support::ca::Ca;
use crate::support::corpus::Message;
use crate::support::courier::Courier;
use crate::support::cyrus::Cyrus;
use crate::support::dovecot::{Dovecot, LOOPBACK, User};
use crate::support::greenmail::GreenMail;
use crate::support::imap::Client;
use crate::support::james::James;
use crate::support::mailutils::Mailutils;
use crate::support::pymap::Pymap;

const PASSWORD: &str = "a-password-of-this-make";

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Dovecot,
    Courier,
    Cyrus,
    GreenMail,
    James,
    Mailutils,
    Pymap,
}

/// A running server with one mailbox.
pub struct Make {
    pub kind: Kind,
    pub user: String,
    pub imap: SocketAddr,
    pub pop3: Option<SocketAddr>,
    /// Stops when the value is dropped.
    _server: Box<dyn Any>,
}

impl Make {
    /// Starts a server of this kind for one user, a whole address.
    pub fn start(kind: Kind, user: &str) -> Self {
        let users = [(user, PASSWORD)];
        let domain = user.split_once('@').expect("an address").1;
        let certificate = || Ca::new().issue(&[&format!("mail.{domain}")]);
        let (imap, pop3, server): (SocketAddr, Option<SocketAddr>, Box<dyn Any>) = match kind {
            Kind::Dovecot => {
                let builder = Dovecot::builder().imap(LOOPBACK).pop3(LOOPBACK);
                let it = builder.user(User::new(user, PASSWORD)).start();
                (it.imap(), Some(it.pop3()), Box::new(it))
            }
            Kind::Courier => {
                let it = Courier::start(&certificate(), &users, false);
                (it.imap(), Some(it.pop3()), Box::new(it))
            }
            Kind::Cyrus => {
                let it = Cyrus::start(&certificate(), &users);
                (it.imap(), None, Box::new(it))
            }
            Kind::GreenMail => {
                let it = GreenMail::start(&certificate(), &users);
                (it.imap(), None, Box::new(it))
            }
            Kind::James => {
                let it = James::start(&users);
                (it.imap(), Some(it.pop3()), Box::new(it))
            }
            Kind::Mailutils => {
                let it = Mailutils::start(&users);
                (it.imap(), Some(it.pop3()), Box::new(it))
            }
            Kind::Pymap => {
                let it = Pymap::start(user, PASSWORD);
                (it.imap(), None, Box::new(it))
            }
        };
        Self { kind, user: user.to_owned(), imap, pop3, _server: server }
    }

    /// Whether it keeps keywords; the others keep system flags alone.
    pub fn keeps_keywords(&self) -> bool {
        !matches!(self.kind, Kind::Mailutils | Kind::Pymap)
    }

    /// Fills the mailbox as far as it can hold what is given.
    pub fn seed(&self, mail: impl Iterator<Item = Message>) {
        let keywords = self.keeps_keywords();
        let mut mailbox = self.mailbox();
        // Some have no Inbox before somebody looks into it.
        mailbox.select("INBOX").expect("an Inbox");
        mailbox.command("CLOSE").expect("CLOSE");
        mailbox.seed(mail.map(|mut message| {
            message.flags.retain(|flag| keywords || flag.starts_with('\\'));
            message
        }));
    }

    /// Opens the mailbox.
    #[track_caller]
    pub fn mailbox(&self) -> Client {
        Client::login(self.imap, &self.user, PASSWORD)
            .unwrap_or_else(|no| panic!("{:?}: {no}", self.kind))
            .patient()
    }

    /// The content of a Secret of its user.
    pub fn credentials(&self) -> [(&str, &str); 2] {
        [("username", &self.user), ("password", PASSWORD)]
    }
}
