//! Our tables in the database: made on the first connection, brought to this version's format, refused when a newer version
//! made them.

use tokio_postgres::Client;

use super::failing::explain;
use crate::ledger::store::new_salt;
use crate::model::failure::{Failure, Result};

/// The format of the tables, in `mailferry.format`.
const VERSION: i32 = 3;
/// The advisory lock under which tables are made: `MFry` and one.
const MAKING: i64 = 0x4d46_7279_0000_0001;

const SCHEMA: &str = include_str!("schema.sql");
/// The upgrades that bring the tables of each format to the next, beginning with the first.
const UPGRADES: [&str; 2] = [include_str!("upgrade-2.sql"), include_str!("upgrade-3.sql")];

/// Makes our tables if there are none, and brings older ones to this format.
pub(super) async fn prepare(client: &mut Client) -> Result<()> {
    if let Some(version) = find_version(client).await? {
        accept(version)?;
        return if version < VERSION { upgrade(client).await } else { Ok(()) };
    }
    let encoding: String = {
        let row = client.query_one("SHOW server_encoding", &[]).await.map_err(|e| explain(&e))?;
        row.get(0)
    };
    if encoding != "UTF8" {
        return Err(Failure::configuration(format!("the database's encoding is {encoding}, UTF8 is needed"))
            .hint("create it with ENCODING 'UTF8' TEMPLATE template0"));
    }
    let salt = new_salt()?;
    let make = async {
        let transaction = client.transaction().await?;
        transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&MAKING]).await?;
        // Somebody else may have made them meanwhile.
        let made = transaction
            .query_opt("SELECT FROM pg_tables WHERE schemaname = 'mailferry' AND tablename = 'format'", &[]);
        if made.await?.is_some() {
            return transaction.commit().await;
        }
        // Where the schema is there already, the right to make one is not needed.
        let schema = transaction.query_opt("SELECT FROM pg_namespace WHERE nspname = 'mailferry'", &[]);
        if schema.await?.is_none() {
            transaction.batch_execute("CREATE SCHEMA mailferry").await?;
        }
        transaction.batch_execute(SCHEMA).await?;
        transaction.execute("INSERT INTO mailferry.format VALUES ($1)", &[&VERSION]).await?;
        transaction.execute("INSERT INTO mailferry.login_salt VALUES ($1)", &[&&salt[..]]).await?;
        transaction.commit().await
    };
    make.await.map_err(|e: tokio_postgres::Error| explain(&e))?;
    match find_version(client).await? {
        Some(version) => accept(version),
        None => Err(Failure::internal("the tables are not there although they were made")),
    }
}

/// Brings the tables to this format: wholly, or not at all when the process ends in the middle.
async fn upgrade(client: &mut Client) -> Result<()> {
    let upgraded = async {
        let transaction = client.transaction().await?;
        transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&MAKING]).await?;
        // Somebody else may have been quicker.
        let version: i32 =
            transaction.query_one("SELECT max(version) FROM mailferry.format", &[]).await?.try_get(0)?;
        for step in UPGRADES.iter().skip(usize::try_from(version.max(1) - 1).unwrap_or(usize::MAX)) {
            transaction.batch_execute(step).await?;
            crate::steps::reach();
        }
        transaction.execute("UPDATE mailferry.format SET version = $1", &[&VERSION]).await?;
        crate::steps::reach();
        transaction.commit().await?;
        crate::steps::reach();
        Ok(())
    };
    upgraded.await.map_err(|e: tokio_postgres::Error| {
        explain(&e).hint("the tables of the ledgers are to be brought to a newer format: give the user of the database the right to alter them")
    })
}

async fn find_version(client: &Client) -> Result<Option<i32>> {
    let there = client
        .query_one("SELECT to_regclass('mailferry.format') IS NOT NULL", &[])
        .await
        .map_err(|e| explain(&e))?;
    if !there.get::<_, bool>(0) {
        return Ok(None);
    }
    let row =
        client.query_opt("SELECT max(version) FROM mailferry.format", &[]).await.map_err(|e| explain(&e))?;
    match row.map(|row| row.try_get::<_, Option<i32>>(0)) {
        Some(Ok(Some(version))) => Ok(Some(version)),
        _ => {
            Err(Failure::configuration("the schema mailferry is not ours: mailferry.format holds no version")
                .hint("give Mailferry a database of its own"))
        }
    }
}

fn accept(version: i32) -> Result<()> {
    if version > VERSION {
        return Err(Failure::configuration(format!(
            "the ledgers were written by a newer Mailferry (format {version}, this one knows {VERSION})"
        ))
        .hint("use the newer version that wrote them"));
    }
    Ok(())
}
