//! Counts refused logins over all runs: at most two for each credential version in 24 hours, so that no account is ever
//! locked by us. What is kept tells a credential apart from its successor and nothing else.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::clock::SystemClock;
use super::documents;
use super::state::StateDir;
use crate::discovery::{Clock, LoginGuard};
use crate::mail::credentials::Login;
use crate::model::failure::Result;
use crate::model::secret::Secret;

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

    /// What tells this user with this password from every other.
    fn version(&self, login: &Login) -> String {
        Secret::new(format!("{}\0{}", login.who(), login.password.expose())).version(&self.salt)
    }

    fn keep(&self, refusals: &Refusals) {
        if let Err(failure) = documents::write(&self.path, refusals) {
            // The count still holds for this run.
            tracing::warn!(failure = %failure.sentence(), "refused logins cannot be kept");
        }
    }
}

impl LoginGuard for DurableGuard {
    fn may_try(&self, login: &Login) -> bool {
        let refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.0.get(&self.version(login)).is_none_or(|times| times.len() < REFUSALS_MAX)
    }

    fn refused(&self, login: &Login) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.0.entry(self.version(login)).or_default().push(SystemClock.now());
        self.keep(&refusals);
    }

    fn accepted(&self, login: &Login) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        if refusals.0.remove(&self.version(login)).is_some() {
            self.keep(&refusals);
        }
    }
}
