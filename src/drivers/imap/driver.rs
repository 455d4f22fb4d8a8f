//! IMAP as the registry knows it.

use async_trait::async_trait;

use super::account::ask_account;
use super::destination::ImapDestination;
use super::login::{self, greet, greet_if_free};
use super::probe::{ask_room, list_inbox, measure_mailbox};
use super::session::Session;
use super::source::ImapSource;
use crate::auth::credentials::Login;
use crate::drivers::measure::{FolderRules, Measuring, Room};
use crate::drivers::registry::{Account, Driver, Greeted, KnownDestination, KnownSource, LoggedIn, Way};
use crate::drivers::{Destination, Source};
use crate::model::evidence::ServerFacts;
use crate::model::failure::Result;
use crate::model::label::LabelRule;
use crate::model::scope::Scope;

/// IMAP, version 4 revision 1 (RFC 3501).
pub struct Imap;

#[async_trait]
impl Driver for Imap {
    async fn greet(&self, way: Way<'_>) -> Result<Box<dyn Greeted>> {
        Ok(Box::new(greet(way.network, way.endpoint, way.trust).await?))
    }

    async fn greet_if_free(&self, way: Way<'_>) -> Result<Option<Box<dyn Greeted>>> {
        let greeted = greet_if_free(way.network, way.endpoint, way.trust).await?;
        Ok(greeted.map(|greeted| Box::new(greeted) as Box<dyn Greeted>))
    }

    /// One folder may end a session: another one goes on without it.
    fn measures_in_parts(&self) -> bool {
        true
    }
}

#[async_trait]
impl Greeted for login::Greeted {
    fn facts(&self) -> &ServerFacts {
        Self::facts(self)
    }

    async fn login(self: Box<Self>, login: &Login) -> Result<Box<dyn LoggedIn>> {
        Ok(Box::new(Self::login(*self, login).await?))
    }

    async fn close(self: Box<Self>) {
        Self::close(*self).await;
    }
}

#[async_trait]
impl LoggedIn for Session {
    async fn measure(&mut self, scope: &Scope, rules: &FolderRules, measuring: &mut Measuring) -> Result<()> {
        measure_mailbox(self, scope, rules, measuring).await
    }

    async fn ask_account(&mut self) -> Result<Account> {
        ask_account(self).await
    }

    async fn list_inbox(&mut self) -> Result<Option<Vec<(String, u64)>>> {
        let listed = list_inbox(self).await?;
        Ok(listed.map(|rows| rows.into_iter().map(|(uid, size)| (uid.to_string(), size)).collect()))
    }

    async fn ask_room(self: Box<Self>) -> Result<Room> {
        ask_room(*self).await
    }

    async fn source(self: Box<Self>, labels: LabelRule) -> Result<Box<dyn Source>> {
        Ok(Box::new(ImapSource::with_labels(*self, labels).await?))
    }

    fn source_beside(self: Box<Self>, known: &KnownSource) -> Result<Box<dyn Source>> {
        let KnownSource::Imap(known) = known;
        Ok(Box::new(ImapSource::beside(*self, known.clone())))
    }

    async fn destination(self: Box<Self>) -> Result<Box<dyn Destination>> {
        Ok(Box::new(ImapDestination::new(*self).await?))
    }

    fn destination_beside(self: Box<Self>, known: &KnownDestination) -> Result<Box<dyn Destination>> {
        let KnownDestination::Imap(spelling) = known;
        Ok(Box::new(ImapDestination::beside(*self, spelling.clone())))
    }

    async fn close(mut self: Box<Self>) {
        Self::close(&mut self).await;
    }
}
