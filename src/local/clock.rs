//! The one place that reads the time, and says it.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::discovery::Clock;

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// A moment to come as people here say it: with the day where it is another one.
pub fn clock_time(at: Timestamp, now: Timestamp) -> String {
    let [at, now] = [at, now].map(|moment| moment.to_zoned(TimeZone::system()));
    let form = if at.date() == now.date() { "%H:%M:%S" } else { "%a %Y-%m-%d %H:%M:%S" };
    at.strftime(form).to_string()
}

/// How long it is until a moment, in the unit that says it best.
pub fn time_until(at: Timestamp, now: Timestamp) -> String {
    match at.duration_since(now).as_secs().max(0) {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}
