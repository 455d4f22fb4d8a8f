//! The connections of a process to one host, over all mailboxes: their limit, those who wait for one, and what is learned
//! of how many the host takes, of how fast it is, and of which of its servers' offers do not work.

use std::collections::{BTreeMap, BTreeSet};
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
    /// The number of further connections that the host allows.
    allowance: Mutex<Allowance>,
    /// Whether the link is slow, as the last session that could measure it reported.
    slow: AtomicBool,
    /// The extensions that were seen to fail, by the port of the server.
    offers: Mutex<BTreeMap<u16, Offers>>,
}

/// Extensions that a server offers and was seen to fail at. Every session with it asks plainly from then on.
#[derive(Debug, Default)]
struct Offers {
    /// Extensions that failed where the plain command worked.
    failing: BTreeSet<&'static str>,
    /// Extensions at which a session ended: once may be chance.
    suspected: BTreeSet<&'static str>,
    /// Extensions that were tried without harm before anything depended on them.
    proven: BTreeSet<&'static str>,
}

impl Host {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(limit)),
            limit,
            waiting: AtomicUsize::new(0),
            allowance: Mutex::new(Allowance::new(limit)),
            slow: AtomicBool::new(false),
            offers: Mutex::default(),
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

    /// The number of further connections that the host allows.
    pub(super) fn allowance(&self) -> MutexGuard<'_, Allowance> {
        self.allowance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session carried so many bytes of messages as they are, while it waited for the host for so long.
    pub(super) fn note_carried(&self, bytes: u64, waited: Duration) {
        if let Some(slow) = is_slow(bytes, waited) {
            self.slow.store(slow, Ordering::Relaxed);
        }
    }

    /// Whether the server at a port was seen to fail at an extension.
    pub(super) fn fails_at(&self, port: u16, word: &str) -> bool {
        self.offers().get(&port).is_some_and(|offers| offers.failing.contains(word))
    }

    /// The server at a port failed at an extension; says whether that is news.
    pub(super) fn note_failing(&self, port: u16, word: &'static str) -> bool {
        self.offers().entry(port).or_default().failing.insert(word)
    }

    /// An extension of the server at a port did what it should: sessions that ended at it ended by chance.
    pub(super) fn note_working(&self, port: u16, word: &str) {
        if let Some(offers) = self.offers().get_mut(&port) {
            offers.suspected.remove(word);
        }
    }

    /// A session ended while a command with an extension was not answered; the second time in a row the extension counts as
    /// failing.
    pub(super) fn note_suspected(&self, port: u16, word: &'static str) {
        let mut offers = self.offers();
        let offers = offers.entry(port).or_default();
        if !offers.suspected.insert(word) {
            offers.failing.insert(word);
        }
    }

    /// Whether the server at a port was seen to do what an extension says.
    pub(super) fn is_proven(&self, port: u16, word: &str) -> bool {
        self.offers().get(&port).is_some_and(|offers| offers.proven.contains(word))
    }

    /// The server at a port does what an extension says.
    pub(super) fn note_proven(&self, port: u16, word: &'static str) {
        self.offers().entry(port).or_default().proven.insert(word);
    }

    /// The extensions that the server at a port was seen to fail at.
    pub(super) fn failing(&self, port: u16) -> Vec<&'static str> {
        let offers = self.offers();
        offers.get(&port).map(|offers| offers.failing.iter().copied().collect()).unwrap_or_default()
    }

    fn offers(&self) -> MutexGuard<'_, BTreeMap<u16, Offers>> {
        self.offers.lock().unwrap_or_else(PoisonError::into_inner)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extension_fails_once_it_failed_or_once_two_sessions_ended_at_it_in_a_row() {
        let host = Host::new(2);
        assert!(host.note_failing(143, "ID") && !host.note_failing(143, "ID"));
        assert!(host.fails_at(143, "ID") && !host.fails_at(993, "ID") && !host.fails_at(143, "NAMESPACE"));
        host.note_suspected(143, "CONDSTORE");
        host.note_working(143, "CONDSTORE");
        host.note_suspected(143, "CONDSTORE");
        assert!(!host.fails_at(143, "CONDSTORE"), "it worked in between");
        host.note_suspected(143, "CONDSTORE");
        assert_eq!((host.failing(143), host.failing(993)), (vec!["CONDSTORE", "ID"], vec![]));
    }
}
