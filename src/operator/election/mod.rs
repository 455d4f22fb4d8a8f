//! The right to act, decided without a clock and without a network: the rules by which one replica leads, after client-go's.
//!
//! Nobody compares clocks. A leader counts its term from the moment at which it *sent* the renewal that the API server
//! took; another one may take over when it has *seen* the same record unchanged for [`DURATION`]. The record was
//! written before it was seen, so as long as two clocks do not run at rates that differ by half ([`DURATION`] /
//! [`DEADLINE`]), the old term is over before the new one begins. Moments are durations since any fixed instant of the
//! process's own monotonic clock; the wall clock only makes records that people can read.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// How long a record must be seen unchanged before another replica takes over.
pub const DURATION: Duration = Duration::from_secs(15);
/// How long a leader acts after it sent its last successful renewal.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// The content of the lease. Two equal records mean that nobody wrote in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The leader; `None` when the last one gave the lease back.
    pub holder: Option<String>,
    /// How long the holder wants it to be respected.
    pub duration: Duration,
    /// When the holder began, by its wall clock.
    pub acquired: Option<Timestamp>,
    /// When the holder renewed it last, by its wall clock; only whether it changes matters.
    pub renewed: Option<Timestamp>,
    /// How often the lease went to another holder.
    pub transitions: i32,
}

/// The next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// There is no lease: make one.
    Create,
    /// Write the lease in its place, on condition that nobody else did meanwhile.
    Replace,
    /// Somebody else may be acting for that much longer.
    Wait(Duration),
}

/// One replica's view of the election.
#[derive(Debug)]
pub struct Candidate {
    identity: String,
    /// The last record, and since when it was seen unchanged.
    seen: Option<(Record, Duration)>,
    until: Option<Duration>,
}

impl Candidate {
    /// A replica under a name that no other process has, not even the next one of the same pod.
    pub fn new(identity: impl Into<String>) -> Self {
        Self { identity: identity.into(), seen: None, until: None }
    }

    /// Decides on what was found. `now` must be read after the record was received.
    pub fn decide(&mut self, found: Option<&Record>, now: Duration) -> Move {
        if let Some(record) = found
            && self.seen.as_ref().is_none_or(|(seen, _)| seen != record)
        {
            self.seen = Some((record.clone(), now));
        }
        // A lease that was deleted still binds until its holder's term is over: the holder may not know yet.
        let rest = match &self.seen {
            Some((record, since)) if self.is_foreign(record) => {
                (*since + record.duration.max(DURATION)).saturating_sub(now)
            }
            _ => Duration::ZERO,
        };
        match (rest.is_zero(), found) {
            (false, _) => Move::Wait(rest),
            (true, None) => Move::Create,
            (true, Some(_)) => Move::Replace,
        }
    }

    /// The record to write in place of what was found. Its time of renewal differs from every one before, even when the
    /// wall clock stops or goes back: otherwise nobody could see the renewal.
    pub fn record(&self, found: Option<&Record>, wall: Timestamp) -> Record {
        let before = found.or_else(|| self.seen.as_ref().map(|(record, _)| record));
        let step = SignedDuration::from_micros(1);
        let after = before.and_then(|record| record.renewed?.checked_add(step).ok());
        // The API server keeps microseconds.
        let wall = Timestamp::from_microsecond(wall.as_microsecond()).unwrap_or(wall);
        let renewed = after.map_or(wall, |after| after.max(wall));
        let ours = before.filter(|record| record.holder.as_ref() == Some(&self.identity));
        let changes = found.map_or(0, |record| record.transitions.saturating_add(1));
        Record {
            holder: Some(self.identity.clone()),
            duration: DURATION,
            acquired: ours.and_then(|record| record.acquired).or(Some(renewed)),
            renewed: Some(renewed),
            transitions: ours.map_or(changes, |record| record.transitions),
        }
    }

    /// The API server took our record, which was sent at `sent`, and answered at `now`.
    pub fn won(&mut self, record: Record, sent: Duration, now: Duration) {
        self.seen = Some((record, now));
        self.until = Some(sent + DEADLINE);
    }

    /// The moment until which this replica may act.
    pub fn until(&self) -> Option<Duration> {
        self.until
    }

    /// The leader as far as this replica has seen, when it is another one.
    pub fn leader(&self) -> Option<&str> {
        let (record, _) = self.seen.as_ref()?;
        record.holder.as_deref().filter(|_| self.is_foreign(record))
    }

    fn is_foreign(&self, record: &Record) -> bool {
        record.holder.as_ref().is_some_and(|holder| !holder.is_empty() && *holder != self.identity)
    }
}

#[cfg(test)]
mod tests;
