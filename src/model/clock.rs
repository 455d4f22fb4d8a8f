//! The time, as whoever needs it is handed it.

use jiff::Timestamp;

/// What time it is.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;
}
