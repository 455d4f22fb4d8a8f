//! The files of SQLite: whose they are, which version they have, whether they are sound, and what is said when they are
//! not.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use crate::model::failure::{Class, Failure, Result};

/// A kind of file that is ours.
pub(super) struct Kind {
    /// Its name for people.
    name: &'static str,
    /// Marks the file, in `PRAGMA application_id`.
    application: i64,
    /// The schema's version, in `PRAGMA user_version`.
    version: i64,
    schema: &'static str,
    /// The upgrades that bring a file of the version before to this one; run in one transaction.
    upgrades: &'static [&'static str],
    settings: &'static str,
    /// The remedy for a file that cannot be trusted.
    remedy: &'static str,
}

/// A mailbox's ledger; its mark reads `MFry`.
pub(super) const LEDGER: Kind = Kind {
    name: "ledger",
    application: 0x4d46_7279,
    version: 3,
    schema: include_str!("schema.sql"),
    upgrades: &[include_str!("upgrade-2.sql"), include_str!("upgrade-3.sql")],
    settings: "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;",
    remedy: "move the file away and run again: what has arrived is recognised at the destination, nothing is sent twice",
};

/// The marks of logins; its mark reads `MFlg`. No write-ahead log: that wants memory shared by all who write, and workers
/// on several machines may share a volume.
pub(super) const LOGINS: Kind = Kind {
    name: "count of logins",
    application: 0x4d46_6c67,
    version: 1,
    schema: include_str!("logins.sql"),
    upgrades: &[],
    settings: "PRAGMA journal_mode = TRUNCATE; PRAGMA synchronous = FULL;",
    remedy: "move the file away and run again: refused passwords are then counted from the beginning",
};

/// Makes an empty file ours, or refuses one that cannot be trusted and leaves it as it is.
pub(super) fn prepare(connection: &mut Connection, path: &Path, kind: &Kind) -> rusqlite::Result<Result<()>> {
    if is_empty(connection)? {
        connection.execute_batch(kind.settings)?;
        // Somebody else may make it at the same moment.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if is_empty(&transaction)? {
            transaction.execute_batch(kind.schema)?;
            transaction.pragma_update(None, "application_id", kind.application)?;
            transaction.pragma_update(None, "user_version", kind.version)?;
            transaction.commit()?;
        }
        return Ok(Ok(()));
    }
    let version = match inspect(connection, path, kind)? {
        Ok(version) => version,
        Err(failure) => return Ok(Err(failure)),
    };
    let sound: String = connection.query_row("PRAGMA quick_check(1)", [], |r| r.get(0))?;
    if sound != "ok" {
        return Ok(Err(unusable(path, "is damaged", kind)));
    }
    // Not before all is known to be well: the journal's mode is written into the file.
    connection.execute_batch(kind.settings)?;
    upgrade(connection, version, kind)?;
    Ok(Ok(()))
}

/// Brings a file of an older version to this one: wholly, or not at all when the process ends in the middle.
fn upgrade(connection: &mut Connection, version: i64, kind: &Kind) -> rusqlite::Result<()> {
    if version >= kind.version {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Somebody else may have been quicker.
    let version: i64 = transaction.query_row("PRAGMA user_version", [], |r| r.get(0))?;
    for step in kind.upgrades.iter().skip(usize::try_from(version.max(1) - 1).unwrap_or(usize::MAX)) {
        transaction.execute_batch(step)?;
        crate::steps::reach();
    }
    transaction.pragma_update(None, "user_version", kind.version)?;
    crate::steps::reach();
    transaction.commit()?;
    crate::steps::reach();
    Ok(())
}

/// Lets a connection that only looks see the tables of an older ledger as they are today. The file stays as it is.
pub(super) fn show_as_of_today(connection: &Connection, version: i64) -> rusqlite::Result<()> {
    match version {
        ..=1 => connection.execute_batch(include_str!("look-1.sql")),
        2 => connection.execute_batch(include_str!("look-2.sql")),
        _ => Ok(()),
    }
}

/// Whether nothing was ever written to a file.
pub(super) fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |r| r.get(0))
}

/// Refuses a file that is not ours or too new; returns its version. Whether it is sound is looked at when it is opened to
/// be written, not by everybody who looks: that takes as long as the file is large.
pub(super) fn inspect(connection: &Connection, path: &Path, kind: &Kind) -> rusqlite::Result<Result<i64>> {
    let application: i64 = connection.query_row("PRAGMA application_id", [], |r| r.get(0))?;
    let version: i64 = connection.query_row("PRAGMA user_version", [], |r| r.get(0))?;
    if application != kind.application {
        return Ok(Err(unusable(path, &format!("is not a Mailferry {}", kind.name), kind)));
    }
    if version > kind.version {
        return Ok(Err(Failure::configuration(format!(
            "{}: was written by a newer Mailferry (format {version}, this one knows {})",
            path.display(),
            kind.version
        ))
        .hint("use the newer version that wrote it")));
    }
    Ok(Ok(version))
}

fn unusable(path: &Path, what: &str, kind: &Kind) -> Failure {
    Failure::configuration(format!("{}: {what}", path.display())).hint(kind.remedy)
}

pub(super) fn damaged(path: &Path, error: &rusqlite::Error, kind: &Kind) -> Failure {
    use rusqlite::ErrorCode as E;
    match error.sqlite_error_code() {
        Some(E::DatabaseCorrupt | E::NotADatabase) => unusable(path, "is damaged", kind).caused_by(error),
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
        _ => Failure::internal(format!("{}: the {} failed: {error}", path.display(), kind.name))
            .caused_by(error),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::process::Command;

    use super::*;

    /// A ledger that a build with format 2 really wrote.
    fn unpack(directory: &Path) -> PathBuf {
        let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/ledger-2");
        let mut tar = Command::new("tar");
        tar.arg("-xzf").arg(kept.join("sqlite/left.tar.gz")).arg("-C").arg(directory);
        assert!(tar.status().unwrap().success(), "{tar:?}");
        directory.join("state/test/move/mailboxes/move-anna-7c7c18e7.sqlite")
    }

    #[test]
    fn an_upgrade_that_finds_no_room_says_so_and_leaves_the_file_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let path = unpack(directory.path());
        let count = |connection: &Connection| -> i64 {
            connection.query_row("SELECT count(*) FROM message", [], |row| row.get(0)).unwrap()
        };
        let mut connection = Connection::open(&path).unwrap();
        let before = count(&connection);
        let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
        connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).unwrap();
        let error = prepare(&mut connection, &path, &LEDGER).unwrap_err();
        let failure = damaged(&path, &error, &LEDGER);
        assert!(failure.what.ends_with("the disk is full") && failure.hint.is_some(), "{failure}");
        assert_eq!((inspect(&connection, &path, &LEDGER).unwrap().unwrap(), count(&connection)), (2, before));
        drop(connection);
        // With room it goes on.
        let mut connection = Connection::open(&path).unwrap();
        prepare(&mut connection, &path, &LEDGER).unwrap().unwrap();
        assert_eq!((inspect(&connection, &path, &LEDGER).unwrap().unwrap(), count(&connection)), (3, before));
    }
}
