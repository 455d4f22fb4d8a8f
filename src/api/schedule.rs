//! When passes begin, and when they may be at work.

use std::fmt::{self, Write};
use std::str::FromStr;
use std::sync::OnceLock;

use jiff::SignedDuration;
use jiff::civil::Weekday;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When passes begin, and when they may be at work. It counts from the stage Sync on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    /// A new pass begins so long after the last one began, as in 6h, 90m or 1h30m, 10s to 8760h; up to a tenth of it and at
    /// most ten minutes later, so that many migrations do not begin at one moment. One that is still at work then is followed
    /// at its end. Default: one pass, and then it rests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        with = "Option<String>",
        length(min = 2, max = 16),
        regex(pattern = r"^([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,7}s)?$")
    )]
    #[x_kube(validation = Rule::new("duration(self) >= duration('10s') && duration(self) <= duration('8760h')").message(Message::Expression("self + ' is not between 10s and 8760h; write how long after the last pass began the next one begins, as in 6h'".into())))]
    pub every: Option<Span>,
    /// Times of the week at which passes may be at work: they begin inside of them, pause when the last one that is open
    /// closes, and go on in the next. Discovery does not wait for them. At most 20. Default: always.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub windows: Vec<Window>,
}

/// A time of the week at which passes may be at work, by the clock on the wall: an hour that the clock skips in spring is not
/// part of it, and one that it shows twice in autumn is part of it twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.from != self.to").message(Message::Expression("'from and to are both ' + self.from + ', so that it never opens; write another time, or from: \"00:00\" and to: \"24:00\" for whole days'".into())))]
pub struct Window {
    /// Days on which it opens: Mon, Tue, Wed, Thu, Fri, Sat, Sun. Default: every day.
    #[serde(default = "every_day", skip_serializing_if = "is_every_day")]
    #[schemars(length(min = 1, max = 7))]
    pub days: Vec<Day>,
    /// Time of day at which it opens, 00:00 to 23:59, in quotes: "20:00".
    #[schemars(with = "String", length(max = 5), regex(pattern = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"))]
    pub from: DayTime,
    /// Time of day at which it closes, 00:00 to 24:00, in quotes: "06:00". One that is not later than from is on the next day.
    #[schemars(
        with = "String",
        length(max = 5),
        regex(pattern = r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$")
    )]
    pub to: DayTime,
    /// The time zone of both times, as in Europe/Berlin; its summer time counts. Default: UTC.
    #[serde(default = "utc")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: String,
}

impl Window {
    /// The time zone; `None` where nobody knows one of that name.
    pub fn zone(&self) -> Option<TimeZone> {
        zones().get(&self.time_zone).ok().filter(|zone| !zone.is_unknown())
    }
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Day {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

impl Day {
    /// All of them.
    pub const ALL: [Self; 7] = [Self::Mon, Self::Tue, Self::Wed, Self::Thu, Self::Fri, Self::Sat, Self::Sun];
}

impl From<Weekday> for Day {
    fn from(day: Weekday) -> Self {
        match day {
            Weekday::Monday => Self::Mon,
            Weekday::Tuesday => Self::Tue,
            Weekday::Wednesday => Self::Wed,
            Weekday::Thursday => Self::Thu,
            Weekday::Friday => Self::Fri,
            Weekday::Saturday => Self::Sat,
            Weekday::Sunday => Self::Sun,
        }
    }
}

fn every_day() -> Vec<Day> {
    Day::ALL.to_vec()
}

fn is_every_day(days: &[Day]) -> bool {
    Day::ALL.iter().all(|day| days.contains(day))
}

fn utc() -> String {
    "UTC".to_owned()
}

/// The time zones. They are those that the program brings along, so that a manifest means the same on every machine: an image
/// without a time zone database has them, and a machine with an old one does not disagree.
fn zones() -> &'static TimeZoneDatabase {
    static ZONES: OnceLock<TimeZoneDatabase> = OnceLock::new();
    ZONES.get_or_init(TimeZoneDatabase::bundled)
}

/// The names of all time zones that are known.
pub fn zone_names() -> Vec<String> {
    zones().available().map(|name| name.to_string()).collect()
}

/// A length of time in whole seconds, written as Kubernetes does: `6h`, `90m`, `1h30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(u32);

impl Span {
    /// Of so many seconds.
    pub const fn of_seconds(seconds: u32) -> Self {
        Self(seconds)
    }

    /// As a duration.
    pub const fn duration(self) -> SignedDuration {
        SignedDuration::from_secs(self.0 as i64)
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no length of time; write it as in 6h, 90m or 1h30m");
        let (mut seconds, mut number, mut units) = (0_u32, String::new(), "hms");
        for letter in text.chars() {
            if letter.is_ascii_digit() {
                number.push(letter);
                continue;
            }
            // Each unit once, the largest first.
            let at = units.find(letter).ok_or_else(wrong)?;
            units = &units[at + 1..];
            let one = match letter {
                'h' => 3_600,
                'm' => 60,
                _ => 1,
            };
            let amount = number.parse::<u32>().ok().and_then(|n| n.checked_mul(one));
            seconds = amount.and_then(|amount| seconds.checked_add(amount)).ok_or_else(wrong)?;
            number.clear();
        }
        if number.is_empty() && !text.is_empty() { Ok(Self(seconds)) } else { Err(wrong()) }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        for (amount, unit) in [(self.0 / 3_600, 'h'), (self.0 / 60 % 60, 'm'), (self.0 % 60, 's')] {
            if amount > 0 {
                let _ = write!(text, "{amount}{unit}");
            }
        }
        f.write_str(if text.is_empty() { "0s" } else { &text })
    }
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

/// A time of day in whole minutes, up to 24:00.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DayTime(u16);

impl DayTime {
    /// Minutes since midnight, 0 to 1,440.
    pub const fn minutes(self) -> u16 {
        self.0
    }
}

impl FromStr for DayTime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let two = |text: &str| match text.len() {
            2 if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse::<u16>().ok(),
            _ => None,
        };
        let parts = text.split_once(':').and_then(|(hours, minutes)| Some((two(hours)?, two(minutes)?)));
        match parts {
            Some((hours, minutes)) if minutes < 60 && hours * 60 + minutes <= 24 * 60 => {
                Ok(Self(hours * 60 + minutes))
            }
            _ => Err(format!("{text:?} is no time of day; write it as in 20:00")),
        }
    }
}

impl fmt::Display for DayTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

impl TryFrom<String> for DayTime {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<DayTime> for String {
    fn from(time: DayTime) -> Self {
        time.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read_as_kubernetes_reads_them() {
        let seconds = |text: &str| text.parse::<Span>().map(|span| span.duration().as_secs()).ok();
        for (text, wanted) in [
            ("6h", Some(21_600)),
            ("90m", Some(5_400)),
            ("1h30m", Some(5_400)),
            ("1h30m5s", Some(5_405)),
            ("10s", Some(10)),
            ("0s", Some(0)),
            ("99999h999999m9999999s", Some(359_996_400 + 59_999_940 + 9_999_999)),
            ("", None),
            ("6", None),
            ("h", None),
            ("6d", None),
            ("30m1h", None),
            ("1h1h", None),
            ("-6h", None),
            ("6 h", None),
            ("9999999h", None),
        ] {
            assert_eq!(seconds(text), wanted, "{text:?}");
        }
        for (text, shown) in [("90m", "1h30m"), ("3600s", "1h"), ("61s", "1m1s"), ("0s", "0s")] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.to_string(), shown);
            assert_eq!(span.to_string().parse(), Ok(span));
        }
    }

    #[test]
    fn times_of_day_go_up_to_the_end_of_the_day() {
        let minutes = |text: &str| text.parse::<DayTime>().map(DayTime::minutes).ok();
        for (text, wanted) in [
            ("00:00", Some(0)),
            ("20:30", Some(1_230)),
            ("24:00", Some(1_440)),
            ("24:01", None),
            ("12:60", None),
            ("8:00", None),
            ("08:0", None),
            ("+8:00", None),
            ("2000", None),
            ("", None),
        ] {
            assert_eq!(minutes(text), wanted, "{text:?}");
        }
        assert_eq!("06:05".parse::<DayTime>().unwrap().to_string(), "06:05");
    }

    #[test]
    fn time_zones_are_known_on_a_machine_that_has_none() {
        let zone = |name: &str| Window {
            days: every_day(),
            from: DayTime(0),
            to: DayTime(60),
            time_zone: name.to_owned(),
        };
        for name in ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Pacific/Apia"] {
            assert!(zone(name).zone().is_some(), "{name}");
        }
        for name in ["Europe/Berln", "", "Etc/Unknown", "../etc/passwd", "+01:00"] {
            assert!(zone(name).zone().is_none(), "{name}");
        }
        assert!(zone_names().len() > 400);
    }
}
