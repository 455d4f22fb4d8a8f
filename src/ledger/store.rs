//! Where ledgers are kept: a directory of SQLite files, or a PostgreSQL database for many migrations. Beside the ledgers the
//! same place keeps the marks of logins, since all workers of a migration must share one count of refusals.

use std::collections::BTreeSet;

use async_trait::async_trait;
use jiff::Timestamp;

use super::Ledger;
use crate::model::failure::{Failure, Result};
use crate::model::random::random;

/// Where the ledgers of a migration are kept.
#[async_trait]
pub trait Store: LoginMarks {
    /// Opens a mailbox's ledger to carry it, makes it when there is none, and keeps other workers out while the value
    /// lives. `mailbox` is a name that a file may have.
    ///
    /// # Errors
    /// [`Class::Conflict`](crate::model::failure::Class::Conflict) while another worker carries the mailbox.
    async fn claim(&self, mailbox: &str) -> Result<Box<dyn Ledger>>;

    /// A mailbox's ledger to look at, if there is one, also while somebody carries the mailbox. Nothing can be written to
    /// it.
    async fn find(&self, mailbox: &str) -> Result<Option<Box<dyn Ledger>>>;

    /// Every ledger of the migration that there is, with a fact of it; `None` where it has none, or cannot be read.
    async fn facts(&self, name: &str) -> Result<Vec<(String, Option<String>)>>;

    /// The names of all ledgers of the migration that there are.
    async fn names(&self) -> Result<BTreeSet<String>> {
        Ok(self.facts("").await?.into_iter().map(|(name, _)| name).collect())
    }
}

/// Where the marks of logins are kept.
#[async_trait]
pub trait LoginMarks: Send + Sync {
    /// The salt that makes the keys of [`LoginMark`]s useless elsewhere: 32 random bytes, the same for all who use the
    /// place.
    async fn salt(&self) -> Result<[u8; 32]>;

    /// Lets `change` see the marks under some keys, and keeps what it makes of them. Nobody comes in between, and it is
    /// durable when this returns. The marks that `change` leaves must be under the same keys. Marks under any key that
    /// are older than `oldest` are forgotten when something is written.
    async fn change_marks(&self, keys: &[String], oldest: Timestamp, change: ChangeMarks) -> Result<()>;
}

/// Sees marks and changes them; see [`LoginMarks::change_marks`].
pub type ChangeMarks = Box<dyn FnOnce(&mut Vec<LoginMark>) + Send>;

/// A login that is under way, or that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginMark {
    /// Tells a credential from every other and nothing else.
    pub key: String,
    /// When it began or was refused, to the millisecond.
    pub at: Timestamp,
    /// The holder that is logging in; `None` once it was refused.
    pub holder: Option<String>,
}

/// How long a claim waits for the one before it: a worker that has just ended may still be closing its ledger.
pub(super) const CLAIM_PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);

/// Refuses the key of a mailbox that could lead out of a directory.
pub(super) fn check_key(mailbox: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@');
    if mailbox.is_empty() || mailbox.starts_with('.') || !mailbox.chars().all(plain) {
        return Err(Failure::internal("the key of a ledger is no plain name"));
    }
    Ok(())
}

/// The failure that a second worker gets.
pub(super) fn claimed_already(place: &str) -> Failure {
    use crate::model::failure::Class;
    Failure::new(Class::Conflict, format!("{place}: another worker is carrying this mailbox"))
        .hint("wait for it to end; it is tried again by itself")
}

/// A mark's time as it is stored.
pub(super) fn read_time(millisecond: i64) -> Timestamp {
    Timestamp::from_millisecond(millisecond).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// A salt for a store that has none yet.
pub(super) fn new_salt() -> Result<[u8; 32]> {
    random()
}
