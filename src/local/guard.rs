//! Counts refused logins over all runs: at most two for each credential version in 24 hours, so that no account is ever
//! locked by us. What is kept tells a credential apart from its successor and nothing else.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
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
/// Mailboxes that an administrator's password may be refused for in [`PERIOD`] before no further one is tried.
const MAILBOXES_MAX: usize = 3;
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
    /// Those of the login; [`Class::Credentials`] without a login when there were refusals enough.
    pub async fn hold<T>(&self, login: &Login, attempt: impl Future<Output = Result<T>>) -> Result<T> {
        if !self.may_try(login) {
            let who = printable(&login.who());
            let what =
                format!("the password of {who} was refused often enough for a day and is not tried again");
            return Err(Failure::new(Class::Credentials, what).hint("correct the Secret, or wait a day"));
        }
        let outcome = attempt.await;
        match &outcome {
            Ok(_) => self.accepted(login),
            Err(failure) if failure.class == Class::Credentials => self.refused(login),
            Err(_) => {}
        }
        outcome
    }

    /// What tells an administrator's password from every other, whichever mailbox it opens.
    fn administrator(&self, login: &Login) -> Option<String> {
        let name = login.administrator.as_ref()?;
        Some(Secret::new(format!("administrator\0{name}\0{}", login.password.expose())).version(&self.salt))
    }
}

impl Refusals {
    /// Refusals of the last day.
    fn recent(&self, version: &str) -> usize {
        let now = SystemClock.now();
        let recent =
            |times: &Vec<Timestamp>| times.iter().filter(|at| now.duration_since(**at) < PERIOD).count();
        self.0.get(version).map_or(0, recent)
    }
}

impl LoginGuard for DurableGuard {
    fn may_try(&self, login: &Login) -> bool {
        let refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let own = refusals.recent(&self.version(login));
        // A mailbox that was refused already may be tried on its other protocol; a further mailbox may not.
        let fresh = self.administrator(login).is_some_and(|admin| refusals.recent(&admin) >= MAILBOXES_MAX)
            && own == 0;
        own < REFUSALS_MAX && !fresh
    }

    fn refused(&self, login: &Login) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let version = self.version(login);
        if let Some(admin) = self.administrator(login).filter(|_| refusals.recent(&version) == 0) {
            refusals.0.entry(admin).or_default().push(SystemClock.now());
        }
        refusals.0.entry(version).or_default().push(SystemClock.now());
        self.keep(&refusals);
    }

    /// The password is proven right: what was refused before was the protocol or another mailbox, and a server's own
    /// count starts anew.
    fn accepted(&self, login: &Login) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let admin = self.administrator(login).is_some_and(|admin| refusals.0.remove(&admin).is_some());
        if refusals.0.remove(&self.version(login)).is_some() || admin {
            self.keep(&refusals);
        }
    }
}

/// Lets the mailboxes of an administrator log in one at a time until one of them was accepted, so that a wrong password is
/// counted before it is tried again.
#[derive(Debug, Default)]
pub struct Turnstile {
    open: AtomicBool,
    turn: tokio::sync::Mutex<()>,
}

impl Turnstile {
    /// Waits for a turn; `None` once somebody was accepted.
    pub async fn enter(&self) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        if self.open.load(Ordering::Acquire) {
            return None;
        }
        let turn = self.turn.lock().await;
        if self.open.load(Ordering::Acquire) { None } else { Some(turn) }
    }

    /// Somebody was accepted.
    pub fn open(&self) {
        self.open.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::credentials::Credentials;

    fn opened() -> (tempfile::TempDir, DurableGuard) {
        let directory = tempfile::tempdir().unwrap();
        let guard = DurableGuard::open(&StateDir::open(directory.path()).unwrap()).unwrap();
        (directory, guard)
    }

    #[test]
    fn a_password_is_refused_twice_a_day_and_a_new_one_starts_anew() {
        let (directory, guard) = opened();
        let login = |password: &str| Login::own("anna".into(), Secret::new(password));
        for _ in 0..2 {
            assert!(guard.may_try(&login("wrong")));
            guard.refused(&login("wrong"));
        }
        assert!(!guard.may_try(&login("wrong")) && guard.may_try(&login("right")));
        drop(guard);
        let text = std::fs::read_to_string(directory.path().join("logins.json")).unwrap();
        assert!(!text.contains("anna") && !text.contains("wrong"));
        let again = DurableGuard::open(&StateDir::open(directory.path()).unwrap()).unwrap();
        assert!(!again.may_try(&login("wrong")), "the count survives");
        again.accepted(&login("wrong"));
        assert!(again.may_try(&login("wrong")));
    }

    #[test]
    fn an_administrator_is_tried_for_three_mailboxes_and_no_more() {
        let (_directory, guard) = opened();
        let master = Credentials::Master {
            user: "admin".into(),
            password: Secret::new("p"),
            separator: Some("*".into()),
        };
        let login = |mailbox: &str| master.login(mailbox, mailbox, false).unwrap();
        for mailbox in ["a@x.test", "b@x.test", "c@x.test"] {
            assert!(guard.may_try(&login(mailbox)));
            guard.refused(&login(mailbox));
        }
        assert!(!guard.may_try(&login("d@x.test")), "a fourth mailbox");
        assert!(guard.may_try(&login("a@x.test")), "the first one on its other protocol");
        guard.accepted(&login("a@x.test"));
        assert!(guard.may_try(&login("d@x.test")), "the password is right after all");
    }
}
