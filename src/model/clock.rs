//! The time, as whoever needs it is handed it.

use jiff::Timestamp;

/// The time of day.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;
}
