//! The connections of a process to one host, over all mailboxes: their limit, those who wait for one, and what is learned
//! of how many the host takes and of how fast it is.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::allowance::Allowance;
use super::speed::is_slow;

/// The connections to one host.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) slots: Arc<Semaphore>,
    limit: usize,
    /// Those who wait for a connection that they cannot do without.
    waiting: AtomicUsize,
    /// What the host takes of further ones.
    allowance: Mutex<Allowance>,
    /// What the last session that could tell has told of the link.
    slow: AtomicBool,
}

impl Host {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(limit)),
            limit,
            waiting: AtomicUsize::new(0),
            allowance: Mutex::new(Allowance::new(limit)),
            slow: AtomicBool::new(false),
        }
    }

    /// Connections that are open.
    pub(super) fn open(&self) -> usize {
        self.limit.saturating_sub(self.slots.available_permits())
    }

    /// Whether somebody waits for one.
    pub(super) fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// What the host takes of further ones.
    pub(super) fn allowance(&self) -> MutexGuard<'_, Allowance> {
        self.allowance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session carried so many bytes of messages as they are, while it waited for the host for so long.
    pub(super) fn note_carried(&self, bytes: u64, waited: Duration) {
        if let Some(slow) = is_slow(bytes, waited) {
            self.slow.store(slow, Ordering::Relaxed);
        }
    }

    /// Whether the link to it is slow, as far as anything was carried.
    pub(super) fn is_slow(&self) -> bool {
        self.slow.load(Ordering::Relaxed)
    }
}

/// Counts one who waits, as long as it lives.
pub(super) struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    pub(super) fn at(host: &'a Host) -> Self {
        host.waiting.fetch_add(1, Ordering::Relaxed);
        Self(&host.waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
