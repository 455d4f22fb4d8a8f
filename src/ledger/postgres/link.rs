//! One connection to the database, and what is said when it fails. The address was vetted before it is connected to; the
//! password is in no message.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::net::lookup_host;
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Row, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::failing::explain;
use super::schema;
use crate::model::failure::{Class, Failure, Result};
use crate::model::secret::Secret;
use crate::model::text::printable;

/// How long one address may take to be connected to, secured and logged in to.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a silent connection is kept before it is probed, and between probes.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// The most addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

/// The settings of every session. A commit is on the disk when it returns, whatever the database's default is; a client
/// that is gone loses its claims soon; nothing waits for ever.
const SESSION: &str = "SET synchronous_commit = on; SET tcp_keepalives_idle = 15; SET tcp_keepalives_interval = 5; \
     SET tcp_keepalives_count = 3; SET idle_in_transaction_session_timeout = '1min'; SET lock_timeout = '1min'; \
     SET statement_timeout = '10min'; SET search_path = pg_catalog";

/// Says whether an address may be connected to.
pub type Vet = Arc<dyn Fn(IpAddr) -> Result<()> + Send + Sync>;

/// Where the database is and how to log in.
#[derive(Clone)]
pub struct Options {
    /// Host name or IP address; a certificate must be for it.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The database.
    pub database: String,
    /// The user.
    pub username: String,
    /// Its password.
    pub password: Secret,
    /// The TLS configuration with the trusted authorities; `None` for a connection that is not encrypted.
    pub tls: Option<Arc<ClientConfig>>,
    /// Which addresses may be connected to.
    pub vet: Vet,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place())
    }
}

impl Options {
    /// Host, port and database, for people.
    pub fn place(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        printable(&format!("{host}:{}/{}", self.port, self.database))
    }

    async fn resolve(&self) -> Result<Vec<IpAddr>> {
        let found = lookup_host((self.host.as_str(), self.port)).await.map_err(|e| {
            Failure::new(
                Class::Unreachable,
                format!("the name {} cannot be looked up", printable(&self.host)),
            )
            .hint("check the key host of the Secret, and the name service")
            .caused_by(&e)
        })?;
        let (mut allowed, mut refused) = (Vec::new(), None);
        for address in found.map(|at| at.ip()).take(ADDRESSES_MAX) {
            match (self.vet)(address) {
                Ok(()) => allowed.push(address),
                Err(failure) => refused = refused.or(Some(failure)),
            }
        }
        match refused {
            Some(failure) if allowed.is_empty() => Err(failure),
            _ => Ok(allowed),
        }
    }
}

/// A connection that is logged in, with our tables behind it.
pub(super) struct Link {
    pub(super) client: Client,
    prepared: Mutex<HashMap<String, Statement>>,
    place: String,
    /// Closes when the connection ends.
    ended: watch::Receiver<()>,
}

impl Link {
    /// Connects, logs in, and makes our tables if there are none.
    pub(super) async fn open(options: &Options) -> Result<Self> {
        Self::open_unplaced(options).await.map_err(|failure| failure.at(options.place()))
    }

    async fn open_unplaced(options: &Options) -> Result<Self> {
        let mut last = Failure::new(Class::Unreachable, "has no address");
        for address in options.resolve().await? {
            match timeout(CONNECT_TIMEOUT, connect(options, address)).await {
                Ok(Ok((mut client, ended))) => {
                    schema::prepare(&mut client).await?;
                    return Ok(Self { client, prepared: Mutex::default(), place: options.place(), ended });
                }
                // A server's decision is the same at another address of the same name.
                Ok(Err(failure)) if failure.class != Class::Unreachable => return Err(failure),
                Ok(Err(failure)) => last = failure,
                Err(_) => {
                    let what = format!("does not answer within {} s ({address})", CONNECT_TIMEOUT.as_secs());
                    last = Failure::new(Class::Unreachable, what).hint("check the port and the firewall");
                }
            }
        }
        Err(last)
    }

    /// Comes back once the connection has ended, and with it the claim that it holds.
    pub(super) async fn lost(&self) -> Failure {
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
        Failure::new(Class::Unreachable, "the connection ended, and with it the claim on this mailbox")
            .hint("see whether the database is overloaded or was restarted; it is tried again by itself")
            .at(self.place.clone())
    }

    /// A failure of this connection.
    pub(super) fn broken(&self, error: &tokio_postgres::Error) -> Failure {
        explain(error).at(self.place.clone())
    }

    /// A row that is not as we write them.
    pub(super) fn unreadable(&self, what: &str) -> Failure {
        Failure::configuration(format!("the ledger is damaged: {what}"))
            .hint("restore the database from a backup, or delete this mailbox's row of mailferry.ledger and run again: what has arrived is recognised")
            .at(self.place.clone())
    }

    /// The statement for a text, prepared once for each connection.
    async fn statement(&self, sql: &str) -> Result<Statement> {
        let mut prepared = self.prepared.lock().await;
        if let Some(statement) = prepared.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql).await.map_err(|e| self.broken(&e))?;
        prepared.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    /// One statement that brings rows. A statement is a transaction of its own: whole, or not at all.
    pub(super) async fn query(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
        let statement = self.statement(sql).await?;
        self.client.query(&statement, values).await.map_err(|e| self.broken(&e))
    }

    /// One statement that changes something.
    pub(super) async fn execute(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<()> {
        let statement = self.statement(sql).await?;
        self.client.execute(&statement, values).await.map(drop).map_err(|e| self.broken(&e))
    }
}

async fn connect(options: &Options, address: IpAddr) -> Result<(Client, watch::Receiver<()>)> {
    let mut config = Config::new();
    config
        .host(&options.host)
        .hostaddr(address)
        .port(options.port)
        .dbname(&options.database)
        .user(&options.username)
        .password(options.password.expose())
        .application_name("mailferry")
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_user_timeout(2 * KEEPALIVE)
        .keepalives_idle(KEEPALIVE)
        .keepalives_interval(KEEPALIVE / 3)
        .keepalives_retries(3);
    let (client, ended) = if let Some(tls) = &options.tls {
        config.ssl_mode(SslMode::Require);
        let tls = MakeRustlsConnect::new(ClientConfig::clone(tls));
        let (client, connection) = config.connect(tls).await.map_err(|e| explain(&e))?;
        (client, drive(connection))
    } else {
        config.ssl_mode(SslMode::Disable);
        let (client, connection) = config.connect(NoTls).await.map_err(|e| explain(&e))?;
        (client, drive(connection))
    };
    client.batch_execute(SESSION).await.map_err(|e| explain(&e))?;
    Ok((client, ended))
}

/// Lets a connection do its work until its client goes. How it ends, the client's next call says; that it has ended, the
/// receiver.
fn drive(
    connection: impl Future<Output = Result<(), tokio_postgres::Error>> + Send + 'static,
) -> watch::Receiver<()> {
    let (alive, ended) = watch::channel(());
    tokio::spawn(async move {
        let _alive = alive;
        if let Err(error) = connection.await {
            tracing::debug!(error = %printable(&error.to_string()), "a connection to the ledger's database ended");
        }
    });
    ended
}
