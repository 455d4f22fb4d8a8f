//! How much of a mailbox is read at the source in a day. Some services lock a mailbox for a day once too much of it was
//! read, so the work pauses before. The amount read is remembered hour by hour in the mailbox's ledger, before it is
//! read: a process that is killed has forgotten nothing, and at worst has counted what it never read.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Mutex;

use crate::ledger::Ledger;
use crate::model::failure::{Class, Failure, FailureCode, Result};

/// The field that sets it, and the place of the failure that reports a pause.
pub const FIELD: &str = "spec.policy.limits.sourceBytesPerDay";
/// The ledger's fact with what was read.
const READ: &str = "readByHour";
/// Seconds of an hour.
const HOUR: i64 = 3_600;
/// Hours that count: those of a day, and the one that has begun.
const HOURS: i64 = 24;

/// The amount that may be read of one mailbox within 24 hours.
#[derive(Debug)]
pub struct DailyLimit {
    bytes: u64,
    clock: fn() -> Timestamp,
    /// The sessions of a mailbox count one after another.
    turn: Mutex<()>,
}

impl DailyLimit {
    /// So many bytes a day.
    pub fn new(bytes: u64, clock: fn() -> Timestamp) -> Self {
        Self { bytes, clock, turn: Mutex::default() }
    }

    /// Counts bytes that are about to be read.
    ///
    /// # Errors
    /// [`Class::Throttled`] with the time that is to be waited when the day has no room for them.
    pub async fn spend(&self, ledger: &dyn Ledger, bytes: u64) -> Result<()> {
        let _turn = self.turn.lock().await;
        let now = (self.clock)();
        let mut read = Read::parse(&ledger.fact(READ).await?.unwrap_or_default());
        read.forget_before(now);
        if let Some(at) = read.room_at(bytes, self.bytes) {
            return Err(pause(read.sum(), self.bytes, at, now));
        }
        read.add(now, bytes);
        ledger.save_fact(READ, &read.to_string()).await
    }
}

fn pause(read: u64, limit: u64, at: Timestamp, now: Timestamp) -> Failure {
    let megabytes = |bytes: u64| bytes.div_ceil(1_000_000);
    let what = format!(
        "{} MB of a day's {} MB of this mailbox were read at the source; it goes on by itself at {} UTC",
        megabytes(read),
        megabytes(limit),
        at.strftime("%Y-%m-%d %H:%M")
    );
    let wait = Duration::try_from(at.duration_since(now)).unwrap_or_default();
    Failure::new(Class::Throttled, what)
        .code(FailureCode::LimitSpent)
        .hint("nothing; a run that is ended meanwhile goes on when it is begun anew after that time")
        .pause(wait.max(Duration::from_secs(1)))
        .at(FIELD)
}

/// Bytes by the hour, counted from 1970, in which they were read.
#[derive(Debug, Default, PartialEq, Eq)]
struct Read(BTreeMap<i64, u64>);

impl Read {
    /// Reads what [`std::fmt::Display`] wrote; what cannot be read counts as nothing.
    fn parse(text: &str) -> Self {
        let pair = |pair: &str| {
            let (hour, bytes) = pair.split_once(':')?;
            Some((hour.parse().ok()?, bytes.parse().ok()?))
        };
        Self(text.split(' ').filter_map(pair).collect())
    }

    fn forget_before(&mut self, now: Timestamp) {
        let first = now.as_second().div_euclid(HOUR) - HOURS;
        // An hour to come is that of a clock that was set back since: it counts for no longer than a day from now.
        let last = now.as_second().div_euclid(HOUR);
        let late: u64 =
            self.0.split_off(&(last + 1)).values().fold(0, |sum, bytes| sum.saturating_add(*bytes));
        if late > 0 {
            let known = self.0.entry(last).or_default();
            *known = known.saturating_add(late);
        }
        self.0.retain(|hour, _| *hour >= first);
    }

    fn sum(&self) -> u64 {
        self.0.values().fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }

    /// When there is room for so many bytes; `None` when there is now. A part larger than a day's limit is read alone.
    fn room_at(&self, bytes: u64, limit: u64) -> Option<Timestamp> {
        let mut left = self.sum();
        if left == 0 || left.saturating_add(bytes) <= limit {
            return None;
        }
        for (hour, read) in &self.0 {
            left = left.saturating_sub(*read);
            if left == 0 || left.saturating_add(bytes) <= limit {
                return Timestamp::from_second((hour + HOURS + 1) * HOUR).ok();
            }
        }
        None
    }

    fn add(&mut self, now: Timestamp, bytes: u64) {
        let hour = self.0.entry(now.as_second().div_euclid(HOUR)).or_default();
        *hour = hour.saturating_add(bytes);
    }
}

impl std::fmt::Display for Read {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pairs: Vec<String> = self.0.iter().map(|(hour, bytes)| format!("{hour}:{bytes}")).collect();
        f.write_str(&pairs.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_second(hour * HOUR + 60).unwrap()
    }

    /// When so many bytes may be read after what was read before, in hours; `None` for at once.
    fn room(read: &[(i64, u64)], now: i64, bytes: u64) -> Option<i64> {
        let mut known = Read::default();
        for (hour, bytes) in read {
            known.add(at(*hour), *bytes);
        }
        assert_eq!(Read::parse(&known.to_string()), known);
        known.forget_before(at(now));
        known.room_at(bytes, 100).map(|at| at.as_second() / HOUR)
    }

    #[test]
    fn a_day_takes_what_its_limit_leaves() {
        for (read, now, bytes, expected) in [
            (&[][..], 1000, 100, None),
            // A part larger than the limit would never be read otherwise.
            (&[], 1000, 101, None),
            (&[(1000, 60)], 1000, 40, None),
            (&[(1000, 60)], 1000, 41, Some(1025)),
            (&[(1000, 60)], 1024, 41, Some(1025)),
            (&[(1000, 60)], 1025, 41, None),
            (&[(1000, 30), (1005, 30), (1010, 30)], 1012, 30, Some(1025)),
            (&[(1000, 30), (1005, 30), (1010, 30)], 1012, 60, Some(1030)),
            (&[(1000, 30), (1005, 30), (1010, 30)], 1012, 500, Some(1035)),
            (&[(1000, 30), (1005, 30), (1010, 30)], 1026, 40, None),
            // The clock was set back: what was read in the future counts a day from now.
            (&[(9000, 90)], 1000, 20, Some(1025)),
        ] {
            assert_eq!(room(read, now, bytes), expected, "{read:?} {now} {bytes}");
        }
        assert_eq!(Read::parse("x 1:2 3 :4 5:y"), Read::parse("1:2"));
    }

    #[test]
    fn a_pause_names_figures_and_time() {
        let told = pause(1_900_000_000, 2_000_000_000, at(24), at(3));
        assert_eq!((told.class, told.wait), (Class::Throttled, Some(Duration::from_hours(21))));
        let said = told.sentence();
        assert!(
            said.contains("1900 MB of a day's 2000 MB") && said.contains("by itself at 1970-01-02 00:01 UTC"),
            "{said}"
        );
    }
}
