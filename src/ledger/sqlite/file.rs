//! The file of a ledger: whose it is, which version it has, whether it is sound, and what is said when it is not.

use std::path::Path;

use rusqlite::Connection;

use crate::model::failure::{Class, Failure, Result};

/// The schema's version, in `PRAGMA user_version`.
const VERSION: i64 = 1;
/// Marks the file as ours, in `PRAGMA application_id`: `MFry`.
const APPLICATION: i64 = 0x4d46_7279;

const SCHEMA: &str = include_str!("schema.sql");

pub(super) fn prepare(connection: &Connection, path: &Path) -> rusqlite::Result<Result<()>> {
    let application: i64 = connection.query_row("PRAGMA application_id", [], |r| r.get(0))?;
    let version: i64 = connection.query_row("PRAGMA user_version", [], |r| r.get(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0))?;
    let settings = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;";
    if tables == 0 {
        connection.execute_batch(settings)?;
        connection.execute_batch(&format!(
            "BEGIN; {SCHEMA} PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION}; COMMIT;"
        ))?;
        return Ok(Ok(()));
    }
    if application != APPLICATION {
        return Ok(Err(unusable(path, "is not a Mailferry ledger")));
    }
    if version > VERSION {
        return Ok(Err(Failure::configuration(format!(
            "{}: was written by a newer Mailferry (format {version}, this one knows {VERSION})",
            path.display()
        ))
        .hint("use the newer version that wrote it")));
    }
    let sound: String = connection.query_row("PRAGMA quick_check(1)", [], |r| r.get(0))?;
    if sound != "ok" {
        return Ok(Err(unusable(path, "is damaged")));
    }
    // Not before all is known to be well: the journal's mode is written into the file.
    connection.execute_batch(settings)?;
    Ok(Ok(()))
}

fn unusable(path: &Path, what: &str) -> Failure {
    Failure::configuration(format!("{}: {what}", path.display()))
        .hint("move the file away and run again: what has arrived is recognised at the destination, nothing is sent twice")
}

pub(super) fn damaged(path: &Path, error: &rusqlite::Error) -> Failure {
    use rusqlite::ErrorCode as E;
    match error.sqlite_error_code() {
        Some(E::DatabaseCorrupt | E::NotADatabase) => unusable(path, "is damaged").caused_by(error),
        Some(E::DiskFull) => Failure::configuration(format!("{}: the disk is full", path.display()))
            .hint("make room, then run again: it goes on from here")
            .caused_by(error),
        Some(E::ReadOnly | E::CannotOpen | E::PermissionDenied) => {
            Failure::configuration(format!("{}: cannot be written", path.display()))
                .hint("give Mailferry the right to write the state directory")
                .caused_by(error)
        }
        Some(E::DatabaseBusy | E::DatabaseLocked) => {
            Failure::new(Class::Conflict, format!("{}: is in use by another process", path.display()))
                .caused_by(error)
        }
        _ => Failure::internal(format!("{}: the ledger failed: {error}", path.display())).caused_by(error),
    }
}
