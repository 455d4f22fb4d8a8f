//! When a pass begins, when it must pause, and when to look again: from the schedule, what is known of the last pass, and the
//! moment alone. Total, and the same on every machine.

use std::collections::BTreeSet;

use jiff::civil::{Date, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use super::backoff::jitter;
use crate::api::Schedule;
use crate::api::schedule::{Day, DayTime, Window};

/// The most that a pass begins later than it might, so that a fleet does not begin at one moment.
const SPREAD_MAX: SignedDuration = SignedDuration::from_mins(10);
/// The share of an interval or of a window that this is at most.
const SPREAD_SHARE: i32 = 10;
/// How far ahead is looked for a window that opens. Each opens every week, unless the clock skips it.
const AHEAD: SignedDuration = SignedDuration::from_hours(24 * 22);
/// How far back is looked for the moment at which one opened. One that opened before that is as good as always open.
const BACK: SignedDuration = SignedDuration::from_hours(24 * 8);

/// A migration, as far as it makes a difference to when it begins.
#[derive(Debug, Clone, Copy)]
pub struct Timing<'a> {
    /// Its schedule.
    pub schedule: &'a Schedule,
    /// Its identity; different ones begin at different moments.
    pub identity: &'a str,
}

/// The knowledge of the last pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LastPass {
    /// Its number; the first is 1.
    pub number: u32,
    /// When it began; `None` where it has not.
    pub began: Option<Timestamp>,
    /// When it ended; `None` while it is at work, or paused.
    pub ended: Option<Timestamp>,
}

/// The answer for one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outlook {
    /// Whether a pass begins now.
    pub begins: bool,
    /// When the next one begins, never in the past; `None` while one is at work or paused, and where none follows.
    pub next: Option<Timestamp>,
    /// Whether a pass that is at work must pause now.
    pub pauses: bool,
    /// The next moment at which any of this changes by itself, as far as that is known.
    pub look: Option<Timestamp>,
}

/// Whether passes may be at work at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gate {
    /// Whether they may.
    pub open: bool,
    /// When that changes; `None` where it does not, or not within weeks.
    pub turns: Option<Timestamp>,
}

impl Timing<'_> {
    /// The answer for a moment.
    pub fn look(&self, last: &LastPass, now: Timestamp) -> Outlook {
        let gate = self.gate(now);
        let at_work = last.began.is_some() && last.ended.is_none();
        if at_work {
            return Outlook { begins: false, next: None, pauses: !gate.open, look: gate.turns };
        }
        let next = self.next(last, now);
        Outlook { begins: next == Some(now), next, pauses: !gate.open, look: next }
    }

    /// When the next pass begins, if none is at work: now, where it may at once.
    fn next(&self, last: &LastPass, now: Timestamp) -> Option<Timestamp> {
        let due = match (last.began, self.schedule.every) {
            (None, _) => now,
            (Some(_), None) => return None,
            (Some(began), Some(every)) => {
                let every = every.duration();
                // A clock that was set back must not put it off for as long.
                let due = later(began.min(now), every);
                whole(later(due, self.share_of(SPREAD_MAX.min(every / SPREAD_SHARE), last.number)))
            }
        };
        let due = due.max(now);
        let gate = self.gate(due);
        if gate.open { Some(due) } else { gate.turns }
    }

    /// Whether passes may be at work at a moment. A window lets different migrations in at different moments.
    pub fn gate(&self, at: Timestamp) -> Gate {
        if self.schedule.windows.is_empty() {
            return Gate { open: true, turns: None };
        }
        let (from, to) = (earlier(at, BACK), later(at, AHEAD));
        for (opens, closes) in open_times(&self.schedule.windows, from, to) {
            if closes <= at {
                continue;
            }
            let opened_long_ago = opens == from;
            let opens = if opened_long_ago { opens } else { later(opens, self.delay(opens, closes)) };
            let turns = if at < opens { opens } else { closes };
            return Gate { open: at >= opens, turns: (turns < to).then_some(turns) };
        }
        Gate { open: false, turns: None }
    }

    /// How long after a window opened this migration begins in it: the same for all passes, or one that was let in would be
    /// sent out again.
    fn delay(&self, opens: Timestamp, closes: Timestamp) -> SignedDuration {
        let every = self.schedule.every.map_or(SPREAD_MAX, |every| every.duration() / SPREAD_SHARE);
        let most = SPREAD_MAX.min(every).min(closes.duration_since(opens) / SPREAD_SHARE);
        SignedDuration::from_secs(self.share_of(most, 0).as_secs())
    }

    fn share_of(&self, whole: SignedDuration, pass: u32) -> SignedDuration {
        SignedDuration::try_from_secs_f64(whole.as_secs_f64() * jitter(self.identity, pass))
            .unwrap_or_default()
    }
}

fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.saturating_add(by).unwrap_or(Timestamp::MAX)
}

fn earlier(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.saturating_sub(by).unwrap_or(Timestamp::MIN)
}

/// The next whole second: a status for people has no fractions.
fn whole(at: Timestamp) -> Timestamp {
    let second = at.as_second() + i64::from(at.subsec_nanosecond() > 0);
    Timestamp::from_second(second).unwrap_or(at)
}

/// The times between two moments at which one of the windows is open at least, in their order and apart from each other.
fn open_times(windows: &[Window], from: Timestamp, to: Timestamp) -> Vec<(Timestamp, Timestamp)> {
    let windows: Vec<(&Window, TimeZone)> =
        windows.iter().filter_map(|window| Some((window, window.zone()?))).collect();
    // Between two of these moments nothing opens and nothing closes.
    let mut moments: BTreeSet<Timestamp> = [from].into();
    for (window, zone) in &windows {
        let within = |at: &Timestamp| (from..to).contains(at);
        moments.extend(zone.following(from).map(|change| change.timestamp()).take_while(within));
        let first = zone.to_datetime(from).date();
        let last = zone.to_datetime(to).date();
        let mut day = first.yesterday().unwrap_or(first);
        while day <= last {
            let times = [window.from, window.to].into_iter().flat_map(|time| moments_of(zone, day, time));
            moments.extend(times.filter(within));
            let Ok(next) = day.tomorrow() else { break };
            day = next;
        }
    }
    let mut open: Vec<(Timestamp, Timestamp)> = Vec::new();
    let ends = moments.iter().skip(1).copied().chain([to]);
    for (begin, end) in moments.iter().copied().zip(ends) {
        if !windows.iter().any(|(window, zone)| is_open(window, zone, begin)) {
            continue;
        }
        match open.last_mut() {
            Some(last) if last.1 == begin => last.1 = end,
            _ => open.push((begin, end)),
        }
    }
    open
}

/// The moments at which the clock of a time zone shows a time on a day: none where it skips it, two where it shows it twice.
fn moments_of(zone: &TimeZone, day: Date, time: DayTime) -> Vec<Timestamp> {
    let minutes = i8::try_from(time.minutes() % 60).unwrap_or_default();
    let (day, hour) = match i8::try_from(time.minutes() / 60).unwrap_or_default() {
        24 => (day.tomorrow().unwrap_or(day), 0),
        hour => (day, hour),
    };
    let shown = day.to_datetime(Time::new(hour, minutes, 0, 0).unwrap_or_default());
    let offsets = match zone.to_ambiguous_timestamp(shown).offset() {
        AmbiguousOffset::Unambiguous { offset } => vec![offset],
        AmbiguousOffset::Gap { .. } => Vec::new(),
        AmbiguousOffset::Fold { before, after } => vec![before, after],
    };
    offsets.into_iter().filter_map(|offset| offset.to_timestamp(shown).ok()).collect()
}

/// Whether a window is open at a moment, by the clock of its time zone.
fn is_open(window: &Window, zone: &TimeZone, at: Timestamp) -> bool {
    let shown = zone.to_datetime(at);
    let minutes = u16::try_from(i32::from(shown.hour()) * 60 + i32::from(shown.minute())).unwrap_or_default();
    let (from, to) = (window.from.minutes(), window.to.minutes());
    let opens_on = |day: Date| window.days.contains(&Day::from(day.weekday()));
    if from < to {
        return opens_on(shown.date()) && (from..to).contains(&minutes);
    }
    let opened_yesterday = || shown.date().yesterday().is_ok_and(opens_on);
    from > to && (minutes >= from && opens_on(shown.date()) || minutes < to && opened_yesterday())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn schedule(every: Option<&str>, windows: &[(&[Day], &str, &str, &str)]) -> Schedule {
        let window = |(days, from, to, zone): &(&[Day], &str, &str, &str)| Window {
            days: days.to_vec(),
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            time_zone: (*zone).to_owned(),
        };
        Schedule {
            every: every.map(|every| every.parse().unwrap()),
            windows: windows.iter().map(window).collect(),
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// The open times between two moments, as text.
    fn opened(windows: &[(&[Day], &str, &str, &str)], from: &str, to: &str) -> Vec<(String, String)> {
        let times = open_times(&schedule(None, windows).windows, at(from), at(to));
        times.into_iter().map(|(opens, closes)| (opens.to_string(), closes.to_string())).collect()
    }

    fn spans(wanted: &[(&str, &str)]) -> Vec<(String, String)> {
        wanted.iter().map(|(opens, closes)| ((*opens).to_owned(), (*closes).to_owned())).collect()
    }

    const BERLIN: &str = "Europe/Berlin";
    const WEEKEND: &[Day] = &[Day::Sat, Day::Sun];

    #[test]
    fn windows_open_by_the_clock_on_the_wall() {
        let night = |days, from, to| [(days, from, to, BERLIN)];
        // A weekend's nights: that of Sunday ends on Monday.
        assert_eq!(
            opened(&night(WEEKEND, "20:00", "06:00"), "2026-12-04T00:00:00Z", "2026-12-08T00:00:00Z"),
            spans(&[
                ("2026-12-05T19:00:00Z", "2026-12-06T05:00:00Z"),
                ("2026-12-06T19:00:00Z", "2026-12-07T05:00:00Z"),
            ])
        );
        // In the night of 28 March 2027 there is no hour from 2 to 3, in that of 31 October there are two.
        let spring = |from, to| {
            opened(&night(&[Day::Sat, Day::Sun], from, to), "2027-03-28T00:00:00Z", "2027-03-28T06:00:00Z")
        };
        let autumn =
            |from, to| opened(&night(&[Day::Sun], from, to), "2027-10-30T22:00:00Z", "2027-10-31T06:00:00Z");
        let table = [
            (spring("00:30", "04:00"), &[("2027-03-28T00:00:00Z", "2027-03-28T02:00:00Z")][..]),
            (spring("02:30", "04:00"), &[("2027-03-28T01:00:00Z", "2027-03-28T02:00:00Z")]),
            (spring("01:30", "02:30"), &[("2027-03-28T00:30:00Z", "2027-03-28T01:00:00Z")]),
            (spring("02:15", "02:45"), &[]),
            (autumn("01:00", "04:00"), &[("2027-10-30T23:00:00Z", "2027-10-31T03:00:00Z")]),
            (
                autumn("02:15", "02:45"),
                &[
                    ("2027-10-31T00:15:00Z", "2027-10-31T00:45:00Z"),
                    ("2027-10-31T01:15:00Z", "2027-10-31T01:45:00Z"),
                ],
            ),
            (
                autumn("02:30", "04:00"),
                &[
                    ("2027-10-31T00:30:00Z", "2027-10-31T01:00:00Z"),
                    ("2027-10-31T01:30:00Z", "2027-10-31T03:00:00Z"),
                ],
            ),
        ];
        for (n, (found, wanted)) in table.iter().enumerate() {
            assert_eq!(*found, spans(wanted), "row {n}");
        }
        // Over midnight and over the change at once: ten hours by the wall are nine, and eleven.
        let length = |from, to| {
            let times =
                open_times(&schedule(None, &night(WEEKEND, "20:00", "06:00")).windows, at(from), at(to));
            times[0].1.duration_since(times[0].0).as_hours()
        };
        assert_eq!(length("2027-03-27T12:00:00Z", "2027-03-28T12:00:00Z"), 9);
        assert_eq!(length("2027-10-30T12:00:00Z", "2027-10-31T12:00:00Z"), 11);
    }

    #[test]
    fn windows_that_touch_are_one_and_whole_days_have_no_end() {
        let all = Day::ALL;
        let (from, to) = ("2026-12-01T00:00:00Z", "2026-12-03T00:00:00Z");
        let parts = [(&all[..], "20:00", "24:00", "UTC"), (&all[..], "00:00", "06:00", "UTC")];
        assert_eq!(
            opened(&parts, from, to)[1],
            ("2026-12-01T20:00:00Z".to_owned(), "2026-12-02T06:00:00Z".to_owned())
        );
        assert_eq!(opened(&[(&all[..], "00:00", "24:00", BERLIN)], from, to), spans(&[(from, to)]));
        let timing = schedule(None, &[(&all[..], "00:00", "24:00", BERLIN)]);
        let timing = Timing { schedule: &timing, identity: "n/m" };
        assert_eq!(timing.gate(at(from)), Gate { open: true, turns: None });
        // A zone that nobody knows is refused before; here it never opens.
        let never = schedule(None, &[(&all[..], "00:00", "24:00", "Mars/Olympus")]);
        let never = Timing { schedule: &never, identity: "n/m" };
        assert_eq!(never.gate(at(from)), Gate { open: false, turns: None });
        assert_eq!(never.look(&LastPass::default(), at(from)).next, None);
        // Samoa had no 30 December 2011, which was a Friday.
        let friday = schedule(None, &[(&[Day::Fri], "08:00", "12:00", "Pacific/Apia")]);
        let next = open_times(&friday.windows, at("2011-12-24T00:00:00Z"), at("2012-01-10T00:00:00Z"));
        assert_eq!(next.len(), 1);
        assert_eq!(next[0].0, at("2012-01-05T18:00:00Z"), "6 January at 8, 14 hours ahead of UTC");
    }

    fn last(number: u32, began: &str, ended: Option<&str>) -> LastPass {
        LastPass { number, began: Some(at(began)), ended: ended.map(at) }
    }

    #[test]
    fn a_pass_begins_so_long_after_the_last_one_began() {
        let every = schedule(Some("1h"), &[]);
        let timing = Timing { schedule: &every, identity: "n/m" };
        let began = "2026-12-01T10:00:00Z";
        let look = |ended, now| timing.look(&last(3, began, ended), at(now));
        let due = look(Some("2026-12-01T10:05:00Z"), "2026-12-01T10:05:00Z").next.unwrap();
        assert!((at("2026-12-01T11:00:00Z")..=at("2026-12-01T11:06:00Z")).contains(&due), "{due}");
        let before = look(Some("2026-12-01T10:05:00Z"), "2026-12-01T10:59:59Z");
        assert_eq!(
            (before.begins, before.next, before.pauses, before.look),
            (false, Some(due), false, Some(due))
        );
        let then = timing.look(&last(3, began, Some("2026-12-01T10:05:00Z")), due);
        assert_eq!((then.begins, then.next), (true, Some(due)));
        // One that is still at work is not doubled, and is followed at its end.
        let at_work = look(None, "2026-12-01T14:00:00Z");
        assert_eq!(at_work, Outlook { begins: false, next: None, pauses: false, look: None });
        let over = look(Some("2026-12-01T14:00:00Z"), "2026-12-01T14:00:00Z");
        assert!(over.begins);
        // Nothing was done yet, or nothing follows.
        assert!(timing.look(&LastPass::default(), at(began)).begins);
        let once = schedule(None, &[]);
        let once = Timing { schedule: &once, identity: "n/m" };
        assert!(once.look(&LastPass::default(), at(began)).begins);
        assert_eq!(once.look(&last(1, began, Some(began)), at("2027-12-01T10:00:00Z")).next, None);
        // A clock that was set back by a day.
        let back = look(Some(began), "2026-11-30T10:00:00Z").next.unwrap();
        assert!(back <= at("2026-11-30T11:06:00Z"), "{back}");
    }

    #[test]
    fn a_pass_pauses_where_the_window_closes_and_goes_on_in_the_next() {
        let nights = schedule(Some("6h"), &[(WEEKEND, "20:00", "06:00", BERLIN)]);
        let timing = Timing { schedule: &nights, identity: "n/m" };
        let begun = last(1, "2026-12-05T20:00:00Z", None);
        let during = timing.look(&begun, at("2026-12-05T23:00:00Z"));
        assert_eq!((during.pauses, during.look), (false, Some(at("2026-12-06T05:00:00Z"))));
        let after = timing.look(&begun, at("2026-12-06T05:00:00Z"));
        assert!(after.pauses && !after.begins);
        let opens = after.look.unwrap();
        assert!((at("2026-12-06T19:00:00Z")..=at("2026-12-06T19:10:00Z")).contains(&opens), "{opens}");
        assert!(!timing.look(&begun, opens).pauses);
        // One that would be due while none is open waits for the next.
        let through = last(1, "2026-12-07T01:00:00Z", Some("2026-12-07T02:00:00Z"));
        let next = timing.look(&through, at("2026-12-07T03:00:00Z")).next.unwrap();
        assert!((at("2026-12-12T19:00:00Z")..=at("2026-12-12T19:10:00Z")).contains(&next), "{next}");
    }

    #[test]
    fn a_fleet_does_not_begin_at_one_moment() {
        let nights = schedule(Some("6h"), &[(WEEKEND, "20:00", "06:00", BERLIN)]);
        let hourly = schedule(Some("1h"), &[]);
        let moments = |schedule: &Schedule, last: &LastPass, now: &str| -> BTreeSet<Timestamp> {
            (0..200)
                .filter_map(|n| {
                    let identity = format!("tenant-{n}/contoso");
                    Timing { schedule, identity: &identity }.look(last, at(now)).next
                })
                .collect()
        };
        for all in [
            moments(&nights, &LastPass::default(), "2026-12-05T12:00:00Z"),
            moments(
                &hourly,
                &last(1, "2026-12-05T12:00:00Z", Some("2026-12-05T12:00:00Z")),
                "2026-12-05T12:00:00Z",
            ),
        ] {
            let (first, last) = (all.first().unwrap(), all.last().unwrap());
            assert!(all.len() > 100, "{}", all.len());
            assert!(last.duration_since(*first) > SignedDuration::from_mins(5), "{first} {last}");
        }
    }

    prop_compose! {
        fn any_window()(days in proptest::sample::subsequence(Day::ALL.to_vec(), 1..=7), from in 0_u16..1440, to in 0_u16..=1440, zone in 0_usize..6)
            -> Window {
            let time = |minutes: u16| format!("{:02}:{:02}", minutes / 60, minutes % 60).parse().unwrap();
            let zones = ["UTC", BERLIN, "America/New_York", "Asia/Kathmandu", "Pacific/Apia", "Australia/Lord_Howe"];
            Window { days, from: time(from), to: time(to), time_zone: zones[zone].to_owned() }
        }
    }

    prop_compose! {
        fn any_schedule()(every in proptest::option::of(10_u32..=31_536_000), windows in proptest::collection::vec(any_window(), 0..3))
            -> Schedule {
            Schedule { every: every.map(crate::api::schedule::Span::of_seconds), windows }
        }
    }

    /// Moments from before the first time zone rules to long after the last that are written out, and the ends of time.
    fn any_moment() -> impl Strategy<Value = Timestamp> {
        let second = |second: i64| Timestamp::from_second(second).unwrap();
        prop_oneof![
            8 => (1_700_000_000_i64..1_900_000_000).prop_map(second),
            1 => (-4_000_000_000_i64..8_000_000_000).prop_map(second),
            1 => proptest::sample::select(vec![Timestamp::MIN, Timestamp::MAX, Timestamp::UNIX_EPOCH]),
        ]
    }

    fn is_inside(schedule: &Schedule, at: Timestamp) -> bool {
        schedule.windows.is_empty()
            || schedule.windows.iter().any(|window| is_open(window, &window.zone().unwrap(), at))
    }

    proptest! {
        #[test]
        fn every_moment_has_an_answer_that_keeps_the_laws(
            schedule in any_schedule(), now in any_moment(), number in 0_u32..9, ago in 0_i64..40_000_000,
            took in proptest::option::of(0_i64..100_000), is_begun: bool,
        ) {
            let timing = Timing { schedule: &schedule, identity: "n/m" };
            let began = is_begun.then(|| earlier(now, SignedDuration::from_secs(ago)));
            let ended = began.and_then(|began| Some(later(began, SignedDuration::from_secs(took?)).min(now)));
            let last = LastPass { number, began, ended };
            let outlook = timing.look(&last, now);
            prop_assert_eq!(outlook, timing.look(&last, now), "the same facts give the same answer");
            let at_work = began.is_some() && ended.is_none();
            // One that is at work is not doubled.
            prop_assert!(!at_work || !outlook.begins && outlook.next.is_none());
            if let Some(next) = outlook.next {
                prop_assert!(next >= now);
                prop_assert!(is_inside(&schedule, next), "{} is outside", next);
                prop_assert_eq!(outlook.begins, next == now);
                // Nothing changes before that moment, and then it begins.
                let then = timing.look(&last, next);
                prop_assert!(then.begins, "{:?} at {}", then, next);
                if let (Some(began), Some(every)) = (began, schedule.every) {
                    prop_assert!(next >= later(began, every.duration()).min(Timestamp::MAX));
                }
            }
            prop_assert!(!outlook.begins || !outlook.pauses);
            prop_assert!(outlook.pauses || is_inside(&schedule, now), "at work outside");
            prop_assert!(outlook.look.is_none_or(|look| look >= now));
            if at_work && let Some(look) = outlook.look {
                prop_assert_ne!(timing.look(&last, look).pauses, outlook.pauses, "it turns at {}", look);
            }
        }

        #[test]
        fn a_world_by_the_clock_never_doubles_a_pass_and_never_works_outside(
            schedule in any_schedule(), begin in 1_700_000_000_i64..1_900_000_000, took in proptest::collection::vec(1_i64..20_000, 5),
        ) {
            let timing = Timing { schedule: &schedule, identity: "n/m" };
            let mut now = Timestamp::from_second(begin).unwrap();
            let mut last = LastPass::default();
            let mut before: Option<Timestamp> = None;
            for mut left in took {
                let Some(next) = timing.look(&last, now).next else { break };
                now = next;
                prop_assert!(timing.look(&last, now).begins);
                if let (Some(before), Some(every)) = (before, schedule.every) {
                    prop_assert!(now >= later(before, every.duration()));
                }
                (before, last) = (Some(now), LastPass { number: last.number + 1, began: Some(now), ended: None });
                // It works while it may, and waits while it must.
                for n in 0.. {
                    if n == 200 {
                        return Ok(());
                    }
                    let outlook = timing.look(&last, now);
                    prop_assert!(!outlook.begins);
                    let until = outlook.look.unwrap_or(Timestamp::MAX);
                    if outlook.pauses {
                        now = until;
                        continue;
                    }
                    prop_assert!(is_inside(&schedule, now));
                    let whole = until.duration_since(now).as_secs();
                    if whole >= left {
                        now = later(now, SignedDuration::from_secs(left));
                        break;
                    }
                    left -= whole;
                    now = until;
                }
                last.ended = Some(now);
            }
        }
    }
}
