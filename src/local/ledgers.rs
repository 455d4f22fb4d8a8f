//! Opens the store that the ledgers of a migration are kept in: files of a directory, or the database that a
//! Secret names.

use std::sync::Arc;

use super::secrets::Secrets;
use crate::api::{LedgerSpec, MailMigration};
use crate::ledger::Store;
use crate::ledger::postgres::{Options, PostgresStore};
use crate::ledger::sqlite::SqliteStore;
use crate::model::endpoint::is_public;
use crate::model::failure::{Failure, Result};
use crate::model::secret::Secret;
use crate::model::text::printable;
use crate::net::network::Network;
use crate::net::tls::Trust;

/// The words of a Secret about a database.
#[derive(Debug, Clone)]
pub struct Database {
    /// Host name or IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Name of the database.
    pub database: String,
    /// The user that logs in.
    pub username: String,
    /// The password.
    pub password: Secret,
    /// Whether the connection is encrypted and the certificate checked.
    pub encrypted: bool,
    /// PEM text of a private authority; empty when there is none.
    pub authority: String,
}

/// The port of PostgreSQL.
const PORT: u16 = 5432;
/// The database when the Secret names none.
const DATABASE: &str = "mailferry";

impl Database {
    /// Reads the keys of a Secret; `value` gives the value of a key.
    ///
    /// # Errors
    /// A failure that names the key; no message repeats a value.
    pub fn read(value: impl Fn(&str) -> Result<Option<Secret>>) -> Result<Self> {
        let text = |key: &str| -> Result<Option<String>> {
            Ok(value(key)?.map(|secret| secret.expose().trim().to_owned()).filter(|text| !text.is_empty()))
        };
        let needed = |key: &str| {
            text(key)?.ok_or_else(|| {
                Failure::configuration(format!("has no key {key}")).hint(format!("add the key {key}"))
            })
        };
        let port = text("port")?.map(|port| port.parse::<u16>()).transpose();
        let port = port.ok().flatten().or(text("port")?.is_none().then_some(PORT)).filter(|port| *port > 0);
        let port = port.ok_or_else(|| {
            Failure::configuration("its key port is no port").hint("write a number from 1 to 65535")
        })?;
        let encrypted = match text("sslmode")?.as_deref() {
            None | Some("require" | "verify-full") => true,
            Some("disable") => false,
            Some(_) => {
                return Err(Failure::configuration("its key sslmode is neither require nor disable").hint(
                    "require checks the certificate and its name; disable is for loopback and private networks",
                ));
            }
        };
        Ok(Self {
            host: needed("host")?,
            port,
            database: text("database")?.unwrap_or_else(|| DATABASE.to_owned()),
            username: needed("username")?,
            password: value("password")?
                .ok_or_else(|| Failure::configuration("has no key password").hint("add the key password"))?,
            encrypted,
            authority: text("ca.crt")?.unwrap_or_default(),
        })
    }
}

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
    let Database { host, port, database, username, password, encrypted, authority: own } = database;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[(&str, &str)]) -> Result<Database> {
        Database::read(|key| {
            Ok(values.iter().find(|(name, _)| *name == key).map(|(_, value)| Secret::new(*value)))
        })
    }

    const LEAST: [(&str, &str); 3] = [("host", "db.test"), ("username", "ferry"), ("password", "hunter2")];

    #[test]
    fn a_secret_says_where_and_how() {
        let least = read(&LEAST).unwrap();
        assert_eq!((least.port, least.database.as_str(), least.encrypted), (5432, "mailferry", true));
        let all = [
            &LEAST[..],
            &[("port", "6432\n"), ("database", "moves"), ("sslmode", "disable"), ("ca.crt", "PEM")],
        ];
        let all = read(&all.concat()).unwrap();
        assert_eq!((all.port, all.database.as_str(), all.encrypted), (6432, "moves", false));
        assert_eq!((all.authority.as_str(), all.password.expose()), ("PEM", "hunter2"));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named_without_its_value() {
        for key in ["host", "username", "password"] {
            let values: Vec<_> = LEAST.into_iter().filter(|(name, _)| *name != key).collect();
            let failure = read(&values).unwrap_err();
            assert_eq!(failure.sentence(), format!("has no key {key}"));
        }
        for (key, value) in [("port", "hunter3"), ("port", "0"), ("port", "70000"), ("sslmode", "prefer")] {
            let failure = read(&[&LEAST[..], &[(key, value)]].concat()).unwrap_err();
            assert!(failure.sentence().contains(key) && !failure.to_string().contains("hunter"), "{failure}");
        }
    }
}
