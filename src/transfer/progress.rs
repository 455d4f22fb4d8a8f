//! What a pass has done so far, for whoever shows it. Counters only go up, and reading them never waits.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::model::text::printable;

/// The state of one mailbox's pass.
#[derive(Debug, Default)]
pub struct MailboxProgress {
    expected: AtomicU64,
    done: AtomicU64,
    bytes_expected: AtomicU64,
    forecast: AtomicU64,
    bytes_forecast: AtomicU64,
    bytes: AtomicU64,
    bytes_sent: AtomicU64,
    sizes_checked: AtomicU64,
    digests_checked: AtomicU64,
    place: Mutex<String>,
}

/// A reading of [`MailboxProgress`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// Messages to carry: found so far, or forecast.
    pub expected: u64,
    /// Messages that this pass has dealt with.
    pub done: u64,
    /// Bytes of the messages to carry, as the source announces them.
    pub bytes_expected: u64,
    /// Bytes that have passed.
    pub bytes: u64,
    /// Bytes of the messages that the destination took.
    pub bytes_sent: u64,
    /// Arrivals whose size was compared.
    pub sizes_checked: u64,
    /// Arrivals that were read back and compared byte for byte.
    pub digests_checked: u64,
    /// The folder, or what is being waited for.
    pub place: String,
}

impl MailboxProgress {
    /// Says where the pass is. A folder's name comes from a peer and is made printable.
    pub fn enter_phase(&self, place: &str) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = printable(place);
    }

    /// Says how much is likely to be carried, as discovery counted it, before the folders are looked into.
    pub fn forecast(&self, messages: u64, bytes: u64) {
        self.forecast.store(messages, Ordering::Relaxed);
        self.bytes_forecast.store(bytes, Ordering::Relaxed);
    }

    /// More messages were found to carry.
    pub fn expect(&self, messages: u64, bytes: u64) {
        self.expected.fetch_add(messages, Ordering::Relaxed);
        self.bytes_expected.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A message was dealt with.
    pub fn finish_message(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    /// Bytes passed.
    pub fn pass_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The destination took messages of so many bytes.
    pub fn send_bytes(&self, bytes: u64) {
        self.bytes_sent.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Arrivals were checked: by size, and of these by digest.
    pub fn check(&self, sizes: u64, digests: u64) {
        self.sizes_checked.fetch_add(sizes, Ordering::Relaxed);
        self.digests_checked.fetch_add(digests, Ordering::Relaxed);
    }

    /// Reads all counters.
    pub fn read(&self) -> Reading {
        Reading {
            expected: self.expected.load(Ordering::Relaxed).max(self.forecast.load(Ordering::Relaxed)),
            done: self.done.load(Ordering::Relaxed),
            bytes_expected: self
                .bytes_expected
                .load(Ordering::Relaxed)
                .max(self.bytes_forecast.load(Ordering::Relaxed)),
            bytes: self.bytes.load(Ordering::Relaxed),
            bytes_sent: self.bytes_sent.load(Ordering::Relaxed),
            sizes_checked: self.sizes_checked.load(Ordering::Relaxed),
            digests_checked: self.digests_checked.load(Ordering::Relaxed),
            place: self.place.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}
