//! A database of ledgers. Each worker that carries a mailbox has a connection of its own, and that connection holds the
//! claim: when it is lost the claim is lost, and nothing more can be written through it.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio_postgres::error::SqlState;

use super::link::{Link, Options};
use super::{PostgresLedger, Session};
use crate::ledger::Ledger;
use crate::ledger::store::{
    CLAIM_PATIENCE, ChangeMarks, LoginMark, LoginMarks, Store, check_key, claimed_already, read_time,
};
use crate::model::failure::Result;

/// The advisory lock under which marks of logins are changed: `MFry` and two.
const MARKING: i64 = 0x4d46_7279_0000_0002;
/// Connections that are kept for the next one who looks or marks.
const SPARE_MAX: usize = 2;

/// Ledgers in a database.
#[derive(Debug)]
pub struct PostgresStore {
    options: Options,
    scope: String,
    spare: Spare,
}

/// Connections that nobody uses now.
#[derive(Clone, Default)]
pub(super) struct Spare(std::sync::Arc<Mutex<Vec<Link>>>);

impl std::fmt::Debug for Spare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Spare")
    }
}

impl Spare {
    fn take(&self) -> Option<Link> {
        let mut links = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|link| !link.client.is_closed());
        links.pop()
    }

    /// Keeps a connection on which nothing is under way.
    pub(super) fn give_back(&self, link: Link) {
        let mut links = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if links.len() < SPARE_MAX && !link.client.is_closed() {
            links.push(link);
        }
    }
}

impl PostgresStore {
    /// Connects, and makes our tables if there are none. `scope` names the migration among all that use the database.
    ///
    /// # Errors
    /// [`Class::Unreachable`](crate::model::failure::Class::Unreachable), `Tls`, `Credentials` and `Configuration`, with
    /// the place `host:port/database`.
    pub async fn open(options: Options, scope: impl Into<String>) -> Result<Self> {
        let store = Self { options, scope: scope.into(), spare: Spare::default() };
        let link = Link::open(&store.options).await?;
        store.spare.give_back(link);
        Ok(store)
    }

    async fn link(&self) -> Result<Link> {
        match self.spare.take() {
            Some(link) => Ok(link),
            None => Link::open(&self.options).await,
        }
    }

    /// The advisory lock of a mailbox.
    fn claim_key(&self, mailbox: &str) -> i64 {
        let hash = blake3::hash(format!("mailferry claim\n{}\n{mailbox}", self.scope).as_bytes());
        hash.as_bytes().iter().take(8).fold(0, |key, byte| key << 8 | i64::from(*byte))
    }
}

/// Takes an advisory lock for as long as the connection lives; false if somebody else keeps it.
async fn lock(link: &Link, key: i64) -> Result<bool> {
    let patience = format!("SET lock_timeout = {}", CLAIM_PATIENCE.as_millis());
    link.client.batch_execute(&patience).await.map_err(|e| link.broken(&e))?;
    let locked = link.client.execute("SELECT pg_advisory_lock($1)", &[&key]).await;
    match locked {
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => return Ok(false),
        Err(error) => return Err(link.broken(&error)),
        Ok(_) => {}
    }
    link.client.batch_execute("SET lock_timeout = '1min'").await.map_err(|e| link.broken(&e))?;
    Ok(true)
}

#[async_trait]
impl Store for PostgresStore {
    async fn claim(&self, mailbox: &str) -> Result<Box<dyn Ledger>> {
        check_key(mailbox)?;
        let link = Link::open(&self.options).await?;
        if !lock(&link, self.claim_key(mailbox)).await? {
            return Err(claimed_already(&format!("{}: {}/{mailbox}", self.options.place(), self.scope)));
        }
        link.execute(
            "INSERT INTO mailferry.ledger (scope, mailbox) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            &[&self.scope, &mailbox],
        )
        .await?;
        let Some(id) = find_ledger(&link, &self.scope, mailbox).await? else {
            return Err(link.unreadable("a ledger that was just made is not there"));
        };
        Ok(Box::new(PostgresLedger::claimed(link, id).await?))
    }

    async fn find(&self, mailbox: &str) -> Result<Option<Box<dyn Ledger>>> {
        check_key(mailbox)?;
        let link = self.link().await?;
        let Some(id) = find_ledger(&link, &self.scope, mailbox).await? else {
            self.spare.give_back(link);
            return Ok(None);
        };
        Ok(Some(Box::new(PostgresLedger { session: Session::Looking(Some(link), self.spare.clone()), id })))
    }

    async fn facts(&self, name: &str) -> Result<Vec<(String, Option<String>)>> {
        let link = self.link().await?;
        let sql = "SELECT l.mailbox, f.value FROM mailferry.ledger AS l \
             LEFT JOIN mailferry.fact AS f ON f.ledger = l.id AND f.name = $2 WHERE l.scope = $1 ORDER BY l.mailbox";
        let rows = link.query(sql, &[&self.scope, &name]).await?;
        let read = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
        let facts = read.collect::<std::result::Result<_, _>>().map_err(|e| link.broken(&e))?;
        self.spare.give_back(link);
        Ok(facts)
    }
}

#[async_trait]
impl LoginMarks for PostgresStore {
    async fn salt(&self) -> Result<[u8; 32]> {
        let link = self.link().await?;
        let rows = link.query("SELECT salt FROM mailferry.login_salt", &[]).await?;
        let salt = rows.first().and_then(|row| row.try_get::<_, &[u8]>(0).ok()?.try_into().ok());
        let salt = salt.ok_or_else(|| link.unreadable("mailferry.login_salt holds no salt"))?;
        self.spare.give_back(link);
        Ok(salt)
    }

    async fn change_marks(&self, keys: &[String], oldest: Timestamp, change: ChangeMarks) -> Result<()> {
        let mut link = self.link().await?;
        // If this is dropped half-way the connection goes with it, and the transaction with the connection.
        if let Err(error) = change_on(&mut link.client, keys, oldest, change).await {
            return Err(link.broken(&error));
        }
        self.spare.give_back(link);
        Ok(())
    }
}

async fn find_ledger(link: &Link, scope: &str, mailbox: &str) -> Result<Option<i64>> {
    let rows = link
        .query("SELECT id FROM mailferry.ledger WHERE scope = $1 AND mailbox = $2", &[&scope, &mailbox])
        .await?;
    rows.first().map(|row| row.try_get(0)).transpose().map_err(|e| link.broken(&e))
}

async fn change_on(
    client: &mut tokio_postgres::Client,
    keys: &[String],
    oldest: Timestamp,
    change: ChangeMarks,
) -> Result<(), tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&MARKING]).await?;
    let rows = transaction
        .query("SELECT key, at, holder FROM mailferry.login WHERE key = ANY($1) ORDER BY at", &[&keys])
        .await?;
    let mut before = Vec::with_capacity(rows.len());
    for row in rows {
        let at = read_time(row.try_get(1)?);
        before.push(LoginMark { key: row.try_get(0)?, at, holder: row.try_get(2)? });
    }
    let mut after = before.clone();
    change(&mut after);
    if after != before {
        let (mut marked, mut at, mut holders) = (Vec::new(), Vec::new(), Vec::new());
        for mark in &after {
            marked.push(mark.key.as_str());
            at.push(mark.at.as_millisecond());
            holders.push(mark.holder.as_deref());
        }
        transaction
            .execute(
                "DELETE FROM mailferry.login WHERE key = ANY($1) OR at < $2",
                &[&keys, &oldest.as_millisecond()],
            )
            .await?;
        transaction
            .execute(
                "INSERT INTO mailferry.login SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[])",
                &[&marked, &at, &holders],
            )
            .await?;
    }
    transaction.commit().await
}
