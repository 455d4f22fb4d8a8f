//! The file with the marks of logins, opened for each change: they are few.

use std::path::Path;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::file::{LOGINS, damaged, prepare};
use crate::ledger::store::{ChangeMarks, LoginMark, new_salt, read_time};
use crate::model::failure::Result;

/// Runs a transaction that nobody comes between.
fn transact<T>(path: &Path, work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T> {
    let broken = |e: rusqlite::Error| damaged(path, &e, &LOGINS);
    let mut connection = Connection::open(path).map_err(broken)?;
    prepare(&mut connection, path, &LOGINS).map_err(broken)??;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(broken)?;
    let value = work(&transaction).map_err(broken)?;
    transaction.commit().map_err(broken)?;
    Ok(value)
}

/// The salt; made on first use.
pub(super) fn salt(path: &Path) -> Result<[u8; 32]> {
    let fresh = new_salt()?;
    transact(path, |t| {
        let kept = t.query_row("SELECT salt FROM login_salt", [], |r| r.get(0)).optional()?;
        if let Some(salt) = kept {
            return Ok(salt);
        }
        t.execute("INSERT INTO login_salt VALUES (?1)", [fresh])?;
        Ok(fresh)
    })
}

/// Changes the marks under some keys.
pub(super) fn change(path: &Path, keys: &[String], oldest: Timestamp, change: ChangeMarks) -> Result<()> {
    transact(path, |t| {
        let mut before = Vec::new();
        let mut query = t.prepare("SELECT key, at, holder FROM login WHERE key = ?1 ORDER BY rowid")?;
        for key in keys {
            let marks = query.query_map([key], |r| {
                Ok(LoginMark { key: r.get(0)?, at: read_time(r.get(1)?), holder: r.get(2)? })
            })?;
            before.extend(marks.collect::<rusqlite::Result<Vec<_>>>()?);
        }
        let mut after = before.clone();
        change(&mut after);
        if after == before {
            return Ok(());
        }
        t.execute("DELETE FROM login WHERE at < ?1", [oldest.as_millisecond()])?;
        for key in keys {
            t.execute("DELETE FROM login WHERE key = ?1", [key])?;
        }
        for mark in after {
            let at = mark.at.as_millisecond();
            t.execute("INSERT INTO login VALUES (?1, ?2, ?3)", params![mark.key, at, mark.holder])?;
        }
        Ok(())
    })
}
