//! A directory of ledgers, one file a mailbox, and one file for the marks of logins. Several processes may share both.
//!
//! ```text
//! MAILBOXES/X.sqlite   a mailbox's ledger
//! MAILBOXES/X.lock     empty; locked by whoever carries the mailbox
//! ```

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags};
use tokio::time::{Duration, Instant, sleep};

use super::{SqliteLedger, logins};
use crate::ledger::Ledger;
use crate::ledger::store::{CLAIM_PATIENCE, ChangeMarks, LoginMarks, Store, check_key, claimed_already};
use crate::model::failure::{Failure, Result};

/// How often a lock that is held is tried again.
const TRY_EVERY: Duration = Duration::from_millis(50);

/// Ledgers in a directory.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    mailboxes: PathBuf,
    logins: PathBuf,
}

impl SqliteStore {
    /// The ledgers in the directory `mailboxes`, which is made when the first is claimed, and the marks of logins in the
    /// file `logins`.
    pub fn new(mailboxes: impl Into<PathBuf>, logins: impl Into<PathBuf>) -> Self {
        Self { mailboxes: mailboxes.into(), logins: logins.into() }
    }

    fn path(&self, mailbox: &str, extension: &str) -> Result<PathBuf> {
        check_key(mailbox)?;
        Ok(self.mailboxes.join(format!("{mailbox}.{extension}")))
    }
}

/// Runs what waits for a disk on a thread that may.
pub(super) async fn aside<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Failure::internal("the ledger's thread ended").caused_by(&e))?
}

fn unusable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::configuration(format!("{}: cannot be used: {error}", path.display()))
        .hint("give Mailferry the right to write the state directory, and room")
        .caused_by(error)
}

/// Locks a file that is made if need be; `None` when somebody holds it. The lock ends with the value, whatever way the
/// process ends. The file stays: whoever removed it would let two others lock two files of one name.
fn try_lock(path: &Path) -> Result<Option<File>> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path);
    let file = file.map_err(|e| unusable(path, &e))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(unusable(path, &error)),
    }
}

/// The ledgers of a directory: the mailbox and the file of each.
fn list(mailboxes: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut ledgers = Vec::new();
    let entries = match fs::read_dir(mailboxes) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(ledgers),
        entries => entries.map_err(|e| unusable(mailboxes, &e))?,
    };
    for entry in entries {
        let path = entry.map_err(|e| unusable(mailboxes, &e))?.path();
        let is_ledger = path.extension().is_some_and(|extension| extension == "sqlite");
        if let Some(mailbox) = path.file_stem().and_then(|stem| stem.to_str()).filter(|_| is_ledger) {
            ledgers.push((mailbox.to_owned(), path));
        }
    }
    Ok(ledgers)
}

/// A fact of a ledger that somebody may be writing to; `None` where there is none, or the file cannot be read.
fn read_fact(path: &Path, name: &str) -> Option<String> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).ok()?;
    connection.query_row("SELECT value FROM fact WHERE name = ?1", [name], |row| row.get(0)).ok()
}

#[async_trait]
impl Store for SqliteStore {
    async fn claim(&self, mailbox: &str) -> Result<Box<dyn Ledger>> {
        let (path, lock) = (self.path(mailbox, "sqlite")?, self.path(mailbox, "lock")?);
        fs::create_dir_all(&self.mailboxes).map_err(|e| unusable(&self.mailboxes, &e))?;
        let end = Instant::now() + CLAIM_PATIENCE;
        let claim = loop {
            match try_lock(&lock)? {
                Some(claim) => break claim,
                None if Instant::now() < end => sleep(TRY_EVERY).await,
                None => return Err(claimed_already(&path.display().to_string())),
            }
        };
        let ledger = aside(move || SqliteLedger::open_claimed(&path, Some(claim))).await?;
        Ok(Box::new(ledger))
    }

    async fn find(&self, mailbox: &str) -> Result<Option<Box<dyn Ledger>>> {
        let path = self.path(mailbox, "sqlite")?;
        let found = aside(move || if path.exists() { SqliteLedger::look(&path) } else { Ok(None) }).await?;
        Ok(found.map(|ledger| Box::new(ledger) as Box<dyn Ledger>))
    }

    async fn facts(&self, name: &str) -> Result<Vec<(String, Option<String>)>> {
        let (mailboxes, name) = (self.mailboxes.clone(), name.to_owned());
        aside(move || {
            let ledgers = list(&mailboxes)?.into_iter();
            let mut facts: Vec<_> =
                ledgers.map(|(mailbox, path)| (mailbox, read_fact(&path, &name))).collect();
            facts.sort_unstable();
            Ok(facts)
        })
        .await
    }

    async fn names(&self) -> Result<BTreeSet<String>> {
        let mailboxes = self.mailboxes.clone();
        aside(move || Ok(list(&mailboxes)?.into_iter().map(|(mailbox, _)| mailbox).collect())).await
    }
}

#[async_trait]
impl LoginMarks for SqliteStore {
    async fn salt(&self) -> Result<[u8; 32]> {
        let path = self.logins.clone();
        aside(move || logins::salt(&path)).await
    }

    async fn change_marks(&self, keys: &[String], oldest: Timestamp, change: ChangeMarks) -> Result<()> {
        let (path, keys) = (self.logins.clone(), keys.to_vec());
        aside(move || logins::change(&path, &keys, oldest, change)).await
    }
}
