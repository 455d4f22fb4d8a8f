//! Ledgers that may be read and not written: of a state directory that belongs to somebody else, was archived, or lies on
//! a file system that is mounted read-only. SQLite reads a file with a write-ahead log only where it may make files beside it.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::Open;
use super::file::{LEDGER, damaged, is_empty};
use crate::model::failure::{Failure, Result};

/// Opens a ledger for a reader, who may be anybody that can read the file.
///
/// # Errors
/// As for every ledger that cannot be used.
pub(super) fn open_to_read(path: &Path) -> Result<Open> {
    let broken = |e: rusqlite::Error| damaged(path, &e, &LEDGER);
    let connection = Connection::open(path).map_err(broken)?;
    match is_empty(&connection) {
        Err(error) if is_readonly(&error) => {}
        _ => return Ok(Open::of(connection, None, None)),
    }
    drop(connection);
    if fs::metadata(log_of(path)).is_ok_and(|log| log.len() > 0) {
        return open_copy(path);
    }
    // Nothing is in the log, and nobody can write: the file is all there is, and stays as it is.
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(immutable(path), flags).map_err(broken)?;
    Ok(Open::of(connection, None, None))
}

fn is_readonly(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied)
    )
}

/// A run that was killed leaves its last changes in the log: both are read from a copy, where they can be put together.
fn open_copy(path: &Path) -> Result<Open> {
    let uncopied = |e: std::io::Error| {
        Failure::configuration(format!("{}: cannot be read where it is, nor copied: {e}", path.display()))
            .hint("make room in the temporary directory (TMPDIR), or copy the state directory and give the copy")
            .caused_by(&e)
    };
    let directory = tempfile::tempdir().map_err(uncopied)?;
    let copy = directory.path().join("ledger.sqlite");
    for (from, to) in [(path.to_owned(), copy.clone()), (log_of(path), log_of(&copy))] {
        fs::copy(from, &to).map_err(uncopied)?;
        // The copy of a file that nobody may write would be one too.
        make_writable(&to).map_err(uncopied)?;
    }
    let connection = Connection::open(&copy).map_err(|e| damaged(path, &e, &LEDGER))?;
    Ok(Open::of(connection, None, Some(directory)))
}

fn make_writable(path: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))
    }
    #[cfg(not(unix))]
    {
        let mut permissions = fs::metadata(path)?.permissions();
        permissions.set_readonly(false);
        fs::set_permissions(path, permissions)
    }
}

fn log_of(path: &Path) -> PathBuf {
    let mut name = OsString::from(path.as_os_str());
    name.push("-wal");
    name.into()
}

/// The URI of a file that does not change while it is read (<https://www.sqlite.org/uri.html>).
fn immutable(path: &Path) -> OsString {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-".contains(byte) {
            uri.push(char::from(*byte));
        } else {
            use std::fmt::Write;
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    uri.push_str("?immutable=1");
    uri.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_spelt_for_a_uri() {
        let uri = immutable(Path::new("/tmp/a b?c#d%/ä.sqlite")).into_string().unwrap();
        assert_eq!(uri, "file:/tmp/a%20b%3Fc%23d%25/%C3%A4.sqlite?immutable=1");
    }
}
