//! Tables for each decision, and elections played through with skewed clocks, slow and lost messages, crashes and
//! returned leases: never do two replicas act at once.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use proptest::prelude::*;

use super::*;

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn held_by(holder: &str, renewed: i64) -> Record {
    let at = Timestamp::from_second(renewed).unwrap();
    Record {
        holder: Some(holder.to_owned()),
        duration: DURATION,
        acquired: Some(at),
        renewed: Some(at),
        transitions: 3,
    }
}

fn given_back() -> Record {
    Record { holder: None, ..held_by("a", 100) }
}

/// A finding, and its second.
type Finds<'a> = &'a [(Option<Record>, u64)];

#[test]
fn each_decision_follows_from_what_was_seen_and_for_how_long() {
    let long = Record { duration: s(60), ..held_by("a", 1) };
    let hasty = Record { duration: s(1), ..held_by("a", 1) };
    let nobody = Record { holder: Some(String::new()), ..held_by("a", 1) };
    // The findings of "b", and when; the last decision counts.
    let table: [(&str, Finds<'_>, Move); 14] = [
        ("no lease", &[(None, 0)], Move::Create),
        ("given back", &[(Some(given_back()), 0)], Move::Replace),
        ("an empty holder is none", &[(Some(nobody), 0)], Move::Replace),
        ("ours", &[(Some(held_by("b", 1)), 0)], Move::Replace),
        (
            "another's, seen first now, however old it says it is",
            &[(Some(held_by("a", 1)), 500)],
            Move::Wait(s(15)),
        ),
        ("unchanged", &[(Some(held_by("a", 1)), 0), (Some(held_by("a", 1)), 14)], Move::Wait(s(1))),
        ("unchanged long enough", &[(Some(held_by("a", 1)), 0), (Some(held_by("a", 1)), 15)], Move::Replace),
        ("renewed", &[(Some(held_by("a", 1)), 0), (Some(held_by("a", 2)), 15)], Move::Wait(s(15))),
        (
            "renewed by a clock that went back",
            &[(Some(held_by("a", 9)), 0), (Some(held_by("a", 2)), 15)],
            Move::Wait(s(15)),
        ),
        ("given back while it binds", &[(Some(held_by("a", 1)), 0), (Some(given_back()), 1)], Move::Replace),
        ("taken by a third", &[(Some(held_by("a", 1)), 0), (Some(held_by("c", 1)), 15)], Move::Wait(s(15))),
        ("the holder wants longer", &[(Some(long.clone()), 0), (Some(long), 59)], Move::Wait(s(1))),
        (
            "the holder wants less than is safe",
            &[(Some(hasty.clone()), 0), (Some(hasty), 14)],
            Move::Wait(s(1)),
        ),
        ("deleted while it binds", &[(Some(held_by("a", 1)), 0), (None, 14)], Move::Wait(s(1))),
    ];
    for (case, finds, wanted) in table {
        let mut candidate = Candidate::new("b");
        let last = finds.iter().map(|(found, at)| candidate.decide(found.as_ref(), s(*at))).last();
        assert_eq!(last, Some(wanted), "{case}");
    }
    let mut candidate = Candidate::new("b");
    candidate.decide(Some(&held_by("a", 1)), s(0));
    assert_eq!(candidate.leader(), Some("a"));
    assert_eq!(candidate.decide(None, s(15)), Move::Create, "deleted, and its term is over");
}

#[test]
fn every_record_differs_from_the_one_before_whatever_the_wall_clock_says() {
    let mut candidate = Candidate::new("b");
    let mut last = held_by("a", 1000);
    for wall in [2000, 2000, 1, 2000, 3000] {
        let next = candidate.record(Some(&last), Timestamp::from_second(wall).unwrap());
        assert!(next.renewed > last.renewed, "{wall}");
        candidate.won(next.clone(), s(0), s(0));
        last = next;
    }
    // Neither when the lease was deleted in between.
    let again = candidate.record(None, Timestamp::UNIX_EPOCH);
    assert!(again.renewed > last.renewed);
    let fine = Timestamp::from_nanosecond(1_234_567_891).unwrap();
    let first = Candidate::new("b").record(None, fine);
    assert_eq!(first.renewed, Some(Timestamp::from_nanosecond(1_234_567_000).unwrap()), "as it is kept");
}

#[test]
fn a_holder_keeps_its_beginning_and_a_new_one_counts_a_change() {
    let mut candidate = Candidate::new("b");
    let wall = |at| Timestamp::from_second(at).unwrap();
    let first = candidate.record(Some(&held_by("a", 1)), wall(50));
    assert_eq!((first.transitions, first.acquired), (4, Some(wall(50))));
    candidate.won(first.clone(), s(7), s(8));
    assert_eq!(
        (candidate.until(), candidate.leader()),
        (Some(s(17)), None),
        "a term counts from the sending"
    );
    let renewed = candidate.record(Some(&first), wall(55));
    assert_eq!((renewed.transitions, renewed.acquired, renewed.renewed), (4, Some(wall(50)), Some(wall(55))));
    assert_eq!(Candidate::new("b").record(None, wall(5)).transitions, 0);
}

/// Numbers that a test chose, over and over.
struct Chances(Vec<u16>, usize);

impl Chances {
    fn below(&mut self, end: u64) -> u64 {
        self.1 += 1;
        u64::from(self.0[self.1 % self.0.len()]) % end
    }
}

/// Milliseconds of true time.
type Moment = u64;

/// An event at a moment, to a replica in a certain state of mind (`epoch`): an answer to a question that it gave up
/// is not heard, and what it asked for may still be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Wakes,
    ReadArrives,
    ReadAnswered(Option<usize>),
    WriteArrives {
        record: usize,
        expected: Option<usize>,
        sent: u64,
    },
    WriteAnswered {
        record: usize,
        taken: bool,
        sent: u64,
    },
    Crashes,
    GivesBack,
    /// Nothing that it sends or is sent gets through for a while.
    IsCutOff,
}

type Planned = (Moment, u64, usize, u64, Event);

struct Replica {
    candidate: Candidate,
    /// Thousandths of true time by which its monotonic clock runs.
    rate: u64,
    epoch: u64,
    /// The version it wrote last.
    known: Option<usize>,
    life: u64,
    cut_off_until: Moment,
}

/// An election: the versions that the server kept, and who acted from when to when.
struct Election {
    chances: Chances,
    /// How many of a hundred messages are lost, and the longest time that one takes in milliseconds.
    trouble: (u64, u64),
    now: Moment,
    /// When, in which order, to whom, in which epoch, what.
    queue: BinaryHeap<Reverse<Planned>>,
    order: u64,
    replicas: Vec<Replica>,
    /// Every record that was ever sent; a version is an index, and the current one is what the server holds.
    records: Vec<Record>,
    current: Option<usize>,
    terms: Vec<(usize, u64, Moment, Moment)>,
}

impl Election {
    fn new(rates: &[u64], trouble: (u64, u64), chances: Vec<u16>) -> Self {
        let replica = |(at, &rate): (usize, &u64)| Replica {
            candidate: Candidate::new(format!("{at}-0")),
            rate,
            epoch: 0,
            known: None,
            life: 0,
            cut_off_until: 0,
        };
        let mut election = Self {
            chances: Chances(chances, 0),
            trouble,
            now: 0,
            queue: BinaryHeap::new(),
            order: 0,
            replicas: rates.iter().enumerate().map(replica).collect(),
            records: Vec::new(),
            current: None,
            terms: Vec::new(),
        };
        for at in 0..rates.len() {
            let first = election.chances.below(3000);
            election.plan(first, at, Event::Wakes);
        }
        election
    }

    fn plan(&mut self, after: u64, who: usize, event: Event) {
        self.order += 1;
        let epoch = self.replicas[who].epoch;
        self.queue.push(Reverse((self.now + after, self.order, who, epoch, event)));
    }

    /// A message on its way, unless it gets lost.
    fn send(&mut self, who: usize, event: Event) {
        let (lost, longest) = self.trouble;
        if self.chances.below(100) >= lost && self.now >= self.replicas[who].cut_off_until {
            let slow = if self.chances.below(4) == 0 { longest } else { longest.min(200) };
            let after = 1 + self.chances.below(slow);
            self.plan(after, who, event);
        }
    }

    fn local(&self, who: usize) -> Duration {
        // Everyone's clock started at another time.
        Duration::from_micros(self.now * self.replicas[who].rate + who as u64 * 77_000_000)
    }

    fn true_time(&self, who: usize, local: Duration) -> Moment {
        let own = u64::try_from(local.as_micros()).unwrap() - who as u64 * 77_000_000;
        own / self.replicas[who].rate
    }

    fn wall(&mut self) -> Timestamp {
        Timestamp::from_second(i64::try_from(self.chances.below(5)).unwrap() * 1000).unwrap()
    }

    /// Ends what a replica does now and lets it come back after a while.
    fn pause(&mut self, who: usize, after: u64) {
        self.replicas[who].epoch += 1;
        self.plan(after, who, Event::Wakes);
    }

    fn stops_acting(&mut self, who: usize) {
        for term in &mut self.terms {
            if term.0 == who && term.3 > self.now {
                term.3 = self.now;
            }
        }
    }

    fn leads(&self, who: usize) -> bool {
        self.terms.iter().any(|term| term.0 == who && term.1 == self.replicas[who].life && term.3 > self.now)
    }

    fn decide(&mut self, who: usize, found: Option<usize>) {
        let now = self.local(who);
        let found_record = found.map(|version| self.records[version].clone());
        let wall = self.wall();
        let candidate = &mut self.replicas[who].candidate;
        match candidate.decide(found_record.as_ref(), now) {
            Move::Wait(_) => self.pause(who, 2000),
            Move::Create | Move::Replace => {
                self.records.push(candidate.record(found_record.as_ref(), wall));
                let record = self.records.len() - 1;
                let sent = u64::try_from(now.as_micros()).unwrap();
                self.send(who, Event::WriteArrives { record, expected: found, sent });
            }
        }
    }

    fn happens(&mut self, who: usize, event: Event) {
        match event {
            Event::Wakes => {
                self.pause(who, 5000);
                match self.replicas[who].known {
                    Some(version) => self.decide(who, Some(version)),
                    None => self.send(who, Event::ReadArrives),
                }
            }
            Event::ReadAnswered(found) => self.decide(who, found),
            Event::WriteAnswered { record, taken, sent } => {
                self.replicas[who].known = taken.then_some(record);
                if taken {
                    let now = self.local(who);
                    let written = self.records[record].clone();
                    self.replicas[who].candidate.won(written, Duration::from_micros(sent), now);
                    let until = self.true_time(who, self.replicas[who].candidate.until().unwrap());
                    if until > self.now {
                        self.terms.push((who, self.replicas[who].life, self.now, until));
                    }
                }
                self.pause(who, if taken { 5000 } else { 500 });
            }
            Event::IsCutOff => {
                self.replicas[who].cut_off_until = self.now + 5000 + self.chances.below(40_000);
            }
            Event::Crashes | Event::GivesBack => {
                self.stops_acting(who);
                let known = self.replicas[who].known.take();
                if let (Event::GivesBack, Some(version)) = (event, known) {
                    self.records.push(Record { holder: None, ..self.records[version].clone() });
                    let record = self.records.len() - 1;
                    self.send(who, Event::WriteArrives { record, expected: known, sent: 0 });
                }
                let replica = &mut self.replicas[who];
                replica.life += 1;
                replica.candidate = Candidate::new(format!("{who}-{}", replica.life));
                let away = 100 + self.chances.below(20_000);
                self.pause(who, away);
            }
            Event::ReadArrives | Event::WriteArrives { .. } => unreachable!("these happen to the server"),
        }
    }

    fn run(&mut self, end: Moment) {
        while self.queue.peek().is_some_and(|Reverse((at, ..))| *at <= end) {
            let Some(Reverse((at, _, who, epoch, event))) = self.queue.pop() else { break };
            self.now = at;
            let heard = epoch == self.replicas[who].epoch;
            match event {
                // The server does what arrives, whether or not anybody still waits for it.
                Event::ReadArrives if heard => self.send(who, Event::ReadAnswered(self.current)),
                Event::ReadArrives => {}
                Event::WriteArrives { record, expected, sent } => {
                    let taken = self.current == expected;
                    if taken {
                        self.current = Some(record);
                    }
                    if heard {
                        self.send(who, Event::WriteAnswered { record, taken, sent });
                    }
                }
                event if heard => self.happens(who, event),
                _ => {}
            }
        }
        self.now = end;
    }

    /// Runs for a while, and then something happens to the leader, or to somebody when nobody leads.
    fn then(&mut self, after: u64, somebody: usize, event: Event) {
        self.run(self.now + after);
        let who = (0..self.replicas.len()).find(|&who| self.leads(who)).unwrap_or(somebody);
        self.happens(who, event);
    }

    fn acted_at_once(&self) -> Option<String> {
        let mut terms = self.terms.clone();
        terms.sort_by_key(|&(_, _, from, _)| from);
        let mut latest: Option<(usize, u64, Moment, Moment)> = None;
        for term in terms {
            if let Some(before) = latest
                && (before.0, before.1) != (term.0, term.1)
                && before.3 > term.2
            {
                return Some(format!("{before:?} and {term:?}"));
            }
            if latest.is_none_or(|before| term.3 > before.3) {
                latest = Some(term);
            }
        }
        None
    }
}

#[test]
fn a_leader_keeps_leading_and_is_followed_soon_when_it_goes() {
    for (gone, longest) in [(Event::Crashes, 15_000 + 2_000 + 500), (Event::GivesBack, 2_000 + 500)] {
        let mut election = Election::new(&[1000, 1000, 1000], (0, 100), vec![7, 3001, 40, 999, 150]);
        election.run(60_000);
        let first = (0..3).find(|&who| election.leads(who)).unwrap();
        assert!(election.terms.iter().all(|term| term.0 == first), "it goes on with the first");
        election.happens(first, gone);
        election.run(60_000 + longest);
        let next = (0..3).find(|&who| election.leads(who));
        assert!(next.is_some_and(|next| next != first), "{gone:?}: {next:?} after {first}");
        assert_eq!(election.acted_at_once(), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    // The rates of two clocks may differ by less than half.
    #[test]
    fn never_do_two_replicas_act_at_once(
        rates in proptest::collection::vec(850_u64..=1250, 2..5),
        lost in 0_u64..40,
        longest in 1_u64..12_000,
        chances in proptest::collection::vec(any::<u16>(), 50..300),
        story in proptest::collection::vec((0_u64..60_000, 0_usize..4, 0_u8..4), 1..25),
    ) {
        let mut election = Election::new(&rates, (lost, longest), chances);
        for (after, who, what) in story {
            let event = match what {
                0 => Event::Crashes,
                1 => Event::GivesBack,
                _ => Event::IsCutOff,
            };
            election.then(after, who % rates.len(), event);
        }
        election.run(election.now + 60_000);
        prop_assert_eq!(election.acted_at_once(), None);
    }
}
