//! POP3 as the registry knows it.

use async_trait::async_trait;

use super::{Pop3Source, Session};
use crate::auth::credentials::Login;
use crate::drivers::measure::{FolderRules, Measuring, Room};
use crate::drivers::registry::{
    Account, Driver, Greeted, KnownDestination, KnownSource, LoggedIn, Way, of_another_protocol, only_reads,
};
use crate::drivers::{Destination, Source};
use crate::model::evidence::ServerFacts;
use crate::model::failure::Result;
use crate::model::label::LabelRule;
use crate::model::protocol::Protocol;
use crate::model::scope::Scope;
use crate::model::service::SessionFacts;

/// POP3 (RFC 1939). A maildrop is locked by the session that has it, so there is one for each mailbox.
pub struct Pop3;

/// A session that is logged in.
struct Opened(Session);

#[async_trait]
impl Driver for Pop3 {
    async fn greet(&self, way: Way<'_>) -> Result<Box<dyn Greeted>> {
        Ok(Box::new(Session::connect(way.network, way.trust, way.endpoint).await?))
    }

    async fn greet_if_free(&self, _way: Way<'_>) -> Result<Option<Box<dyn Greeted>>> {
        Ok(None)
    }

    fn measures_in_parts(&self) -> bool {
        false
    }
}

#[async_trait]
impl Greeted for Session {
    fn facts(&self) -> &ServerFacts {
        Self::facts(self)
    }

    async fn login(mut self: Box<Self>, login: &Login) -> Result<Box<dyn LoggedIn>> {
        self.log_in(login).await?;
        Ok(Box::new(Opened(*self)))
    }

    async fn close(mut self: Box<Self>) {
        self.quit().await;
    }
}

#[async_trait]
impl LoggedIn for Opened {
    async fn measure(
        &mut self,
        scope: &Scope,
        _rules: &FolderRules,
        measuring: &mut Measuring,
    ) -> Result<()> {
        measuring.size = self.0.size_of_maildrop(scope).await?;
        measuring.is_nameless = !self.0.has_unique_ids().await?;
        Ok(())
    }

    async fn ask_account(&mut self) -> Result<Account> {
        let facts = self.0.ask_again().await?;
        let session = SessionFacts::of(&facts.endpoint, facts.capabilities.clone());
        Ok(Account { session, quota: None, foreign: 0 })
    }

    async fn list_inbox(&mut self) -> Result<Option<Vec<(String, u64)>>> {
        self.0.list_maildrop().await.map(Some)
    }

    async fn ask_room(self: Box<Self>) -> Result<Room> {
        self.close().await;
        Err(only_reads(Protocol::Pop3))
    }

    async fn source(self: Box<Self>, _labels: LabelRule) -> Result<Box<dyn Source>> {
        Ok(Box::new(Pop3Source::of(self.0)))
    }

    fn source_beside(self: Box<Self>, _known: &KnownSource) -> Result<Box<dyn Source>> {
        Err(of_another_protocol())
    }

    async fn destination(self: Box<Self>) -> Result<Box<dyn Destination>> {
        self.close().await;
        Err(only_reads(Protocol::Pop3))
    }

    fn destination_beside(self: Box<Self>, _known: &KnownDestination) -> Result<Box<dyn Destination>> {
        Err(of_another_protocol())
    }

    async fn close(mut self: Box<Self>) {
        self.0.quit().await;
    }
}
