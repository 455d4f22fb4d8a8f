//! POP3 as the registry knows it.

use async_trait::async_trait;

use super::{Pop3Source, Session};
use crate::auth::credentials::Login;
use crate::drivers::imap::labels::LabelRule;
use crate::drivers::measure::{FolderRules, Measuring, Room};
use crate::drivers::registry::{
    Account, Driver, Greeted, KnownDestination, KnownSource, LoggedIn, Way, of_another_protocol, only_reads,
};
use crate::drivers::{Destination, Source};
use crate::model::evidence::ServerFacts;
use crate::model::failure::Result;
use crate::model::protocol::Protocol;
use crate::model::scope::Scope;
use crate::model::service::SessionFacts;

/// POP3 (RFC 1939). A maildrop is locked by the session that has it, so there is one for each mailbox.
pub struct Pop3;

/// A session that is logged in.
struct Opened {
    session: Session,
    /// Whether the messages were seen to have no lasting names.
    is_nameless: bool,
}

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
        Ok(Box::new(Opened { session: *self, is_nameless: false }))
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
        measuring.size = self.session.size_of_maildrop(scope).await?;
        self.is_nameless = !self.session.has_unique_ids().await?;
        measuring.is_nameless = self.is_nameless;
        Ok(())
    }

    async fn ask_account(&mut self) -> Result<Account> {
        let facts = self.session.ask_again().await?;
        let said = SessionFacts::of(&facts.endpoint, facts.capabilities.clone());
        let session = SessionFacts { unique_ids: !self.is_nameless, ..said };
        Ok(Account { session, quota: None, foreign: 0 })
    }

    async fn list_inbox(&mut self) -> Result<Option<Vec<(String, u64)>>> {
        self.session.list_maildrop().await.map(Some)
    }

    async fn ask_room(self: Box<Self>) -> Result<Room> {
        self.close().await;
        Err(only_reads(Protocol::Pop3))
    }

    async fn source(self: Box<Self>, _labels: LabelRule) -> Result<Box<dyn Source>> {
        Ok(Box::new(Pop3Source::of(self.session)))
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
        self.session.quit().await;
    }
}
