//! Counts refused logins over all runs: at most two for each credential version in 24 hours, so that no account is ever
//! locked by us. What is kept tells a credential apart from its successor and nothing else.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::clock::SystemClock;
use super::documents;
use super::state::StateDir;
use crate::discovery::{Clock, LoginGuard};
use crate::mail::credentials::Login;
use crate::model::failure::{Class, Failure, Result};
use crate::model::secret::Secret;
use crate::model::text::printable;

/// Refused logins that a credential version may have in [`PERIOD`].
const REFUSALS_MAX: usize = 2;
/// How long a refused login counts.
const PERIOD: SignedDuration = SignedDuration::from_hours(24);

#[derive(Debug, Default, Serialize, Deserialize)]
struct Refusals(BTreeMap<String, Vec<Timestamp>>);

/// The count of refused logins of a state directory.
#[derive(Debug)]
pub struct DurableGuard {
    path: PathBuf,
    salt: [u8; 32],
    refusals: Mutex<Refusals>,
}

impl DurableGuard {
    /// Reads the count; what is older than a day is forgotten.
    ///
    /// # Errors
    /// Those of the state directory.
    pub fn open(state: &StateDir) -> Result<Self> {
        let path = state.root().join("logins.json");
        let mut refusals: Refusals = documents::read(&path)?.unwrap_or_default();
        let now = SystemClock.now();
        for times in refusals.0.values_mut() {
            times.retain(|at| now.duration_since(*at) < PERIOD);
        }
        refusals.0.retain(|_, times| !times.is_empty());
        Ok(Self { path, salt: state.salt()?, refusals: Mutex::new(refusals) })
    }

    fn keep(&self, refusals: &Refusals) {
        if let Err(failure) = documents::write(&self.path, refusals) {
            // The count still holds for this run.
            tracing::warn!(failure = %failure.sentence(), "refused logins cannot be kept");
        }
    }

    /// What tells this user with this password from every other.
    fn version(&self, login: &Login) -> String {
        Secret::new(format!("{}\0{}", login.who(), login.password.expose())).version(&self.salt)
    }
}

impl DurableGuard {
    /// Makes a login if it is still allowed, and counts it if it is refused.
    ///
    /// # Errors
    /// Those of the login; [`Class::Credentials`] without a login when it was refused twice within a day.
    pub async fn hold<T>(&self, login: &Login, attempt: impl Future<Output = Result<T>>) -> Result<T> {
        if !self.may_try(login) {
            return Err(Failure::new(
                Class::Credentials,
                format!(
                    "the password of {} was refused twice within a day and is not tried again",
                    printable(&login.who())
                ),
            )
            .hint("correct the Secret, or wait a day"));
        }
        let outcome = attempt.await;
        match &outcome {
            Ok(_) => self.accepted(login),
            Err(failure) if failure.class == Class::Credentials => self.refused(login),
            Err(_) => {}
        }
        outcome
    }
}

/// After so many refusals of one administrator's password, and no success, the other mailboxes are not tried.
const STREAK_MAX: u32 = 3;

/// Refusals of a password that opens many mailboxes.
#[derive(Debug, Default)]
pub struct Streak {
    refused: AtomicU32,
    accepted: AtomicBool,
}

impl Streak {
    /// Whether one more mailbox may be tried.
    ///
    /// # Errors
    /// [`Class::Credentials`] when the password was refused for three mailboxes and accepted for none.
    pub fn allow(&self) -> Result<()> {
        if self.accepted.load(Ordering::Relaxed) || self.refused.load(Ordering::Relaxed) < STREAK_MAX {
            return Ok(());
        }
        Err(Failure::new(
            Class::Credentials,
            format!("the password was refused for {STREAK_MAX} mailboxes and is not tried for more"),
        )
        .hint("correct the Secret"))
    }

    /// Notes how a login went.
    pub fn note<T>(&self, outcome: &Result<T>) {
        match outcome {
            Ok(_) => self.accepted.store(true, Ordering::Relaxed),
            Err(failure) if failure.class == Class::Credentials => {
                self.refused.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => {}
        }
    }
}

impl LoginGuard for DurableGuard {
    fn may_try(&self, login: &Login) -> bool {
        let refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let now = SystemClock.now();
        let recent =
            |times: &Vec<Timestamp>| times.iter().filter(|at| now.duration_since(**at) < PERIOD).count();
        refusals.0.get(&self.version(login)).is_none_or(|times| recent(times) < REFUSALS_MAX)
    }

    fn refused(&self, login: &Login) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.0.entry(self.version(login)).or_default().push(SystemClock.now());
        self.keep(&refusals);
    }

    /// The password is proven right: what was refused before was the protocol, and a server's own count starts anew.
    fn accepted(&self, login: &Login) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        if refusals.0.remove(&self.version(login)).is_some() {
            self.keep(&refusals);
        }
    }
}
