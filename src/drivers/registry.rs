//! The registry of drivers: what the house may ask of any protocol, from the greeting to the mailbox that is open. A room
//! that connects by a protocol asks [`driver`] and names no other module of [`crate::drivers`].
//!
//! A connection goes through three states, each a type of its own, so that nobody sends a password before the channel is
//! secured or reads mail before the login: [`Greeted`], [`LoggedIn`], and then [`Source`] or [`Destination`].

use async_trait::async_trait;

use super::files::{Files, Format};
pub use super::files::{directory_of_mailbox, names_of_directories};
use super::imap::names::Spelling;
use super::imap::source::Known;
use super::measure::{FolderRules, Measuring, Room};
use super::{Destination, Source, imap, pop3};
use crate::auth::credentials::Login;
use crate::model::endpoint::Endpoint;
use crate::model::evidence::{Quota, ServerFacts};
use crate::model::failure::{Class, Failure, Result};
use crate::model::label::LabelRule;
use crate::model::protocol::Protocol;
use crate::model::scope::Scope;
use crate::model::service::SessionFacts;
use crate::net::network::Network;
use crate::net::tls::Trust;

/// The way to a server.
#[derive(Clone, Copy)]
pub struct Way<'a> {
    /// Names, addresses and the bounds of hosts.
    pub network: &'a Network,
    /// The server.
    pub endpoint: &'a Endpoint,
    /// The authorities that its certificate may be signed by.
    pub trust: &'a Trust,
}

/// Returns the driver of a protocol.
pub fn driver(protocol: Protocol) -> &'static dyn Driver {
    match protocol {
        Protocol::Imap => &imap::Imap,
        Protocol::Pop3 => &pop3::Pop3,
        Protocol::Maildir => &Files(Format::Maildir),
        Protocol::Mbox => &Files(Format::Mbox),
        Protocol::Eml => &Files(Format::Eml),
    }
}

/// A protocol that mailboxes are read by. Some can be written by it too.
#[async_trait]
pub trait Driver: Sync {
    /// Connects, reads the greeting, secures the channel as the endpoint says, and asks for the capabilities. Sends no
    /// credential.
    ///
    /// # Errors
    /// [`Class::Unreachable`], [`Class::Tls`], or [`Class::Protocol`] for a peer that speaks another protocol.
    async fn greet(&self, way: Way<'_>) -> Result<Box<dyn Greeted>>;

    /// As [`Self::greet`], without waiting: `None` where the host's limit of connections is reached, and where a mailbox
    /// takes one session only.
    ///
    /// # Errors
    /// As [`Self::greet`].
    async fn greet_if_free(&self, way: Way<'_>) -> Result<Option<Box<dyn Greeted>>>;

    /// Whether a measurement that a session did not bring to its end goes on in the next one.
    fn measures_in_parts(&self) -> bool;

    /// Asks a server for its facts, and leaves.
    ///
    /// # Errors
    /// As [`Self::greet`].
    async fn probe(&self, way: Way<'_>) -> Result<ServerFacts> {
        let greeted = self.greet(way).await?;
        let facts = greeted.facts().clone();
        greeted.close().await;
        Ok(facts)
    }
}

/// A connection that is greeted and secured; nobody is logged in.
#[async_trait]
pub trait Greeted: Send {
    /// The facts that the server reported about itself.
    fn facts(&self) -> &ServerFacts;

    /// Logs in.
    ///
    /// # Errors
    /// [`Class::Credentials`] when the server refuses, and failures of the connection.
    async fn login(self: Box<Self>, login: &Login) -> Result<Box<dyn LoggedIn>>;

    /// Ends the connection politely.
    async fn close(self: Box<Self>);
}

/// The facts that a server reports after a login, about itself and about the account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Of itself.
    pub session: SessionFacts,
    /// How much the account may hold.
    pub quota: Option<Quota>,
    /// Folders of other users or shared ones that the mailbox sees.
    pub foreign: u32,
}

/// A session that is logged in to one mailbox.
#[async_trait]
pub trait LoggedIn: Send {
    /// Counts folders, messages and bytes, without what the scope leaves out. Reads no message.
    ///
    /// # Errors
    /// Those of the session. Where the driver measures in parts, another session goes on with the same `measuring`.
    async fn measure(&mut self, scope: &Scope, rules: &FolderRules, measuring: &mut Measuring) -> Result<()>;

    /// Asks for the facts about server and account. A field that the server does not offer or refuses stays empty.
    ///
    /// # Errors
    /// Those of the connection.
    async fn ask_account(&mut self) -> Result<Account>;

    /// Names and sizes in bytes of the messages in the Inbox; `None` when a look into it would change what is marked there.
    ///
    /// # Errors
    /// Those of the session.
    async fn list_inbox(&mut self) -> Result<Option<Vec<(String, u64)>>>;

    /// Asks a mailbox that mail is to be written to for its limits and names of folders, and leaves.
    ///
    /// # Errors
    /// Those of the session; [`Class::Refused`] where nothing is written by this protocol.
    async fn ask_room(self: Box<Self>) -> Result<Room>;

    /// Opens the mailbox to be read; nothing in it changes by that.
    ///
    /// # Errors
    /// Those of the session.
    async fn source(self: Box<Self>, labels: LabelRule) -> Result<Box<dyn Source>>;

    /// As [`Self::source`], for a further session of a mailbox that one has open already; costs no turn.
    ///
    /// # Errors
    /// [`Class::Internal`] for facts of another protocol.
    fn source_beside(self: Box<Self>, known: &KnownSource) -> Result<Box<dyn Source>>;

    /// Opens the mailbox to be written.
    ///
    /// # Errors
    /// Those of the session; [`Class::Refused`] where nothing is written by this protocol.
    async fn destination(self: Box<Self>) -> Result<Box<dyn Destination>>;

    /// As [`Self::destination`], for a further session of a mailbox that one has open already; costs no turn.
    ///
    /// # Errors
    /// As [`Self::source_beside`].
    fn destination_beside(self: Box<Self>, known: &KnownDestination) -> Result<Box<dyn Destination>>;

    /// Ends the session politely.
    async fn close(self: Box<Self>);
}

/// The facts about an open source that spare its further sessions a turn.
#[derive(Debug, Clone)]
pub enum KnownSource {
    /// Of an IMAP mailbox.
    Imap(Known),
}

/// The facts about an open destination that spare its further sessions a turn.
#[derive(Debug, Clone)]
pub enum KnownDestination {
    /// Of an IMAP mailbox.
    Imap(Spelling),
}

/// The failure of asking a protocol to write that only reads.
pub(super) fn only_reads(protocol: Protocol) -> Failure {
    Failure::new(Class::Refused, format!("no mail can be written by {protocol}"))
        .hint("name an IMAP server in spec.destination")
}

/// The failure of handing a session the facts of another protocol's.
pub(super) fn of_another_protocol() -> Failure {
    Failure::internal("a further session was given the facts of another protocol's mailbox")
}
