//! The ledgers of a pod. Their store is opened when it is needed first, and again after a failure, since a database may be
//! away for a while, or its Secret.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::OnceCell;

use crate::api::MailMigration;
use crate::ledger::sqlite::SqliteStore;
use crate::ledger::store::ChangeMarks;
use crate::ledger::{Ledger, LoginMarks, Store};
use crate::local::ledgers::open_store;
use crate::local::secrets::Secrets;
use crate::model::failure::Result;
use crate::net::network::Network;

/// A store that is opened on demand.
pub(super) struct DeferredStore {
    migration: Arc<MailMigration>,
    secrets: Arc<Secrets>,
    files: SqliteStore,
    network: Arc<Network>,
    store: OnceCell<Arc<dyn Store>>,
}

impl DeferredStore {
    /// The store of a migration; `files` are taken where its specification says SQLite.
    pub(super) fn new(
        migration: Arc<MailMigration>,
        secrets: Arc<Secrets>,
        files: SqliteStore,
        network: Arc<Network>,
    ) -> Self {
        Self { migration, secrets, files, network, store: OnceCell::new() }
    }

    async fn store(&self) -> Result<&Arc<dyn Store>> {
        let open = || open_store(&self.migration, &self.secrets, self.files.clone(), &self.network, "");
        self.store.get_or_try_init(open).await
    }
}

#[async_trait]
impl Store for DeferredStore {
    async fn claim(&self, mailbox: &str) -> Result<Box<dyn Ledger>> {
        self.store().await?.claim(mailbox).await
    }

    async fn find(&self, mailbox: &str) -> Result<Option<Box<dyn Ledger>>> {
        self.store().await?.find(mailbox).await
    }

    async fn facts(&self, name: &str) -> Result<Vec<(String, Option<String>)>> {
        self.store().await?.facts(name).await
    }
}

#[async_trait]
impl LoginMarks for DeferredStore {
    async fn salt(&self) -> Result<[u8; 32]> {
        self.store().await?.salt().await
    }

    async fn change_marks(&self, keys: &[String], oldest: Timestamp, change: ChangeMarks) -> Result<()> {
        self.store().await?.change_marks(keys, oldest, change).await
    }
}
