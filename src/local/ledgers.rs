//! Opens the store that the ledgers of a migration are kept in: files of a directory, or the database that a
//! Secret names.

use std::sync::Arc;

use super::database::Database;
use super::secrets::Secrets;
use crate::api::{LedgerSpec, MailMigration};
use crate::ledger::Store;
use crate::ledger::postgres::{Options, PostgresStore};
use crate::ledger::sqlite::SqliteStore;
use crate::model::endpoint::is_public;
use crate::model::failure::{Failure, Result};
use crate::model::text::printable;
use crate::net::network::Network;
use crate::net::tls::Trust;

/// Opens the store of a migration; `files` are taken where the manifest says SQLite.
///
/// # Errors
/// A failure that names the Secret or the database.
pub async fn open_store(
    migration: &MailMigration,
    secrets: &Secrets,
    files: SqliteStore,
    network: &Arc<Network>,
    authority: &str,
) -> Result<Arc<dyn Store>> {
    let LedgerSpec::Postgres(postgres) = &migration.spec.ledger else {
        return Ok(Arc::new(files));
    };
    let namespace = migration.metadata.namespace.as_deref().unwrap_or("default");
    let database = secrets.database(namespace, &postgres.credentials_ref.name)?;
    let scope = format!("{namespace}/{}", migration.metadata.name.as_deref().unwrap_or_default());
    let options = options(database, network, authority)?;
    Ok(Arc::new(PostgresStore::open(options, scope).await.map_err(|failure| failure.at("spec.ledger"))?))
}

/// How to connect: like every connection that a manifest asks for, to networks that the policy allows.
fn options(database: Database, network: &Arc<Network>, authority: &str) -> Result<Options> {
    let Database { host, port, name: database, username, password, encrypted, authority: own } = database;
    let tls = if encrypted {
        // Alone first, so that the failure names it.
        Trust::with_authorities(std::slice::from_ref(&own))
            .map_err(|failure| failure.at("key ca.crt of the ledger's Secret"))?;
        Some(Arc::clone(Trust::with_authorities(&[own, authority.to_owned()])?.config()))
    } else {
        None
    };
    let (network, name) = (Arc::clone(network), host.clone());
    let vet = move |address| {
        if !encrypted && is_public(address) {
            let what =
                format!("{} is at {address}, a public address, and sslmode is disable", printable(&name));
            return Err(Failure::configuration(what)
                .hint("write sslmode: require; what is not encrypted may go over private networks only"));
        }
        network.vet(&name, address)
    };
    Ok(Options { host, port, database, username, password, tls, vet: Arc::new(vet) })
}
