//! How many sessions a host takes, learned from what it says: additive increase, multiplicative decrease. A refused session
//! is one too many; a host that asks for a pause is left half of its sessions. After a while without a word of that kind
//! they come back one by one, and never before the time that the host named.
//!
//! Only further sessions of a mailbox are bounded by this. Each mailbox's first one is the plan's to begin and to put off.

use std::time::Duration;

use tokio::time::Instant;

/// How long all must be quiet before one more session is tried.
const QUIET: Duration = Duration::from_secs(30);
/// Refusals that several sessions hear within this time count as one event, and halve once.
const ONE_EVENT: Duration = Duration::from_secs(1);

/// The number of further sessions that one host allows.
#[derive(Debug, Clone)]
pub(super) struct Allowance {
    most: usize,
    allowed: usize,
    /// When one more may be tried; `None` while nothing is held back and no time was named.
    grows_at: Option<Instant>,
    halved_at: Option<Instant>,
    /// The latest time that the host named to any session.
    named: Option<Instant>,
}

impl Allowance {
    /// A host of which nothing is known but the manifest's limit.
    pub(super) fn new(most: usize) -> Self {
        let most = most.max(1);
        Self { most, allowed: most, grows_at: None, halved_at: None, named: None }
    }

    /// Whether one session more than those open may be tried.
    pub(super) fn admits(&mut self, open: usize, now: Instant) -> bool {
        open < self.allowed(now)
    }

    /// Whether more are open than the host is left.
    pub(super) fn exceeded_by(&mut self, open: usize, now: Instant) -> bool {
        open > self.allowed(now)
    }

    fn allowed(&mut self, now: Instant) -> usize {
        while let Some(at) = self.grows_at.filter(|at| *at <= now) {
            self.allowed = self.most.min(self.allowed + 1);
            self.grows_at = (self.allowed < self.most).then(|| at + QUIET);
        }
        self.allowed
    }

    /// A session was refused or ended beside `open` others that were not.
    pub(super) fn refuse(&mut self, open: usize, wait: Option<Duration>, now: Instant) {
        self.allowed = self.allowed.min(open.max(1));
        self.hold(wait, now);
    }

    /// The host asked for a pause while so many sessions were open.
    pub(super) fn throttle(&mut self, open: usize, wait: Option<Duration>, now: Instant) {
        if self.halved_at.is_none_or(|at| now.duration_since(at) >= ONE_EVENT) {
            self.allowed = (self.allowed.min(open) / 2).max(1);
            self.halved_at = Some(now);
        }
        self.hold(wait, now);
    }

    /// How long is left until the time that the host named; `None` when it named none, or when that is over.
    pub(super) fn pause_left(&self, now: Instant) -> Option<Duration> {
        self.named.map(|at| at.duration_since(now)).filter(|left| !left.is_zero())
    }

    fn hold(&mut self, wait: Option<Duration>, now: Instant) {
        self.named = self.named.max(wait.map(|wait| now + wait));
        let until = now + wait.unwrap_or_default().max(QUIET);
        self.grows_at = Some(self.grows_at.map_or(until, |at| at.max(until)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn allowed(allowance: &mut Allowance, now: Instant) -> usize {
        let allowed = (0..100).find(|open| !allowance.admits(*open, now)).unwrap();
        assert!(!allowance.exceeded_by(allowed, now) && allowance.exceeded_by(allowed + 1, now));
        allowed
    }

    #[tokio::test(start_paused = true)]
    async fn sessions_go_by_halves_and_come_back_one_by_one() {
        let begun = Instant::now();
        let at = |second: u64| begun + Duration::from_secs(second);
        let mut host = Allowance::new(8);
        assert_eq!(allowed(&mut host, at(0)), 8);
        host.refuse(6, None, at(0));
        let table = [(1, 6), (29, 6), (30, 7), (59, 7), (60, 8), (1000, 8)];
        assert!(table.iter().all(|(now, count)| allowed(&mut host, at(*now)) == *count), "{host:?}");
        // Four sessions hear the same word, and one of them a time.
        for (open, wait) in [(8, None), (7, Some(100)), (6, None), (5, None)] {
            host.throttle(open, wait.map(Duration::from_secs), at(1000));
        }
        assert_eq!(host.pause_left(at(1001)), Some(Duration::from_secs(99)), "whoever heard it");
        assert_eq!(host.pause_left(at(1100)), None);
        let table = [(1001, 4), (1099, 4), (1100, 5), (1129, 5), (1130, 6)];
        assert!(table.iter().all(|(now, count)| allowed(&mut host, at(*now)) == *count), "{host:?}");
        // Another word of the kind, and however many more: one session stays.
        for second in 1131..1140 {
            host.throttle(4, None, at(second));
        }
        assert_eq!((allowed(&mut host, at(1140)), allowed(&mut host, at(2000))), (1, 8));
    }

    #[derive(Debug, Clone)]
    enum Word {
        Refused(usize, u64),
        Throttled(usize, u64),
        Silence,
    }

    fn word() -> impl Strategy<Value = (u64, Word)> {
        let what = prop_oneof![
            (0_usize..12, 0_u64..400).prop_map(|(open, wait)| Word::Refused(open, wait)),
            (0_usize..12, 0_u64..400).prop_map(|(open, wait)| Word::Throttled(open, wait)),
            Just(Word::Silence),
        ];
        (0_u64..200, what)
    }

    proptest! {
        #[test]
        fn never_more_than_the_limit_never_none_and_never_before_the_named_time(
            most in 0_usize..12,
            words in proptest::collection::vec(word(), 1..40),
        ) {
            let mut now = Instant::now();
            let mut host = Allowance::new(most);
            let mut named = now;
            let mut before = (now, allowed(&mut host, now));
            for (pause, word) in words {
                now += Duration::from_secs(pause);
                let count = allowed(&mut host, now);
                prop_assert!((1..=most.max(1)).contains(&count));
                // Back one by one: at most one at once, and one for each quiet while.
                let most_back = 1 + (now - before.0).as_secs() / QUIET.as_secs();
                prop_assert!(count <= before.1 + usize::try_from(most_back).unwrap());
                prop_assert!(now >= named || count <= before.1, "came back before the named time");
                let wait = match word {
                    Word::Refused(open, wait) => {
                        host.refuse(open, Some(Duration::from_secs(wait)), now);
                        wait
                    }
                    Word::Throttled(open, wait) => {
                        host.throttle(open, Some(Duration::from_secs(wait)), now);
                        wait
                    }
                    Word::Silence => 0,
                };
                named = named.max(now + Duration::from_secs(wait));
                let after = allowed(&mut host, now);
                prop_assert!(after <= count);
                before = (now, after);
            }
            let later = now.max(named) + QUIET * 20;
            prop_assert_eq!(allowed(&mut host, later), most.max(1));
        }
    }
}
