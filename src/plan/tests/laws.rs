//! Laws that hold for every combination of facts, and for every world that they come from.

use proptest::prelude::*;

use super::*;
use crate::api::Schedule;
use crate::api::schedule::{Day, Span, Window};

const CLASSES: [Class; 12] = [
    Class::Unreachable,
    Class::Conflict,
    Class::Throttled,
    Class::Tls,
    Class::Credentials,
    Class::Refused,
    Class::Configuration,
    Class::Quota,
    Class::Message,
    Class::Protocol,
    Class::Internal,
    Class::Interrupted,
];

/// Of [`scheduled`], windows none of which is open in these worlds.
const CLOSED: usize = 2;

/// A schedule with no windows, one that is open all the time or one that is closed now; the worlds are at 22:13 UTC.
fn scheduled(every: bool, windows: usize) -> Option<Box<Schedule>> {
    let window = |from: &str, to: &str| Window {
        days: Day::ALL.to_vec(),
        from: from.parse().unwrap(),
        to: to.parse().unwrap(),
        time_zone: "UTC".to_owned(),
    };
    let windows = match windows {
        CLOSED => vec![window("08:00", "12:00")],
        1 => vec![window("00:00", "24:00")],
        _ => Vec::new(),
    };
    let every = every.then(|| Span::of_seconds(10));
    (every.is_some() || !windows.is_empty()).then(|| Box::new(Schedule { every, windows }))
}

prop_compose! {
    fn any_record()(pass in 0_u32..3, attempts in 0_u32..9, ended in proptest::option::of(0_i64..50), class in proptest::option::of(0_usize..12), running: bool,
        verifying: bool, verification_number in 0_u32..3, unverified in proptest::option::of(0_usize..12))
        -> MailboxObserved {
        let failed = |class| Failure::new(CLASSES[class], "went wrong");
        let (failure, unverified) = (class.map(failed), unverified.map(failed));
        let ended = ended.map(at);
        let record =
            MailboxRecord { pass, attempts, ended, verification_number, unverified, failure, ..MailboxRecord::default() };
        MailboxObserved { running, verifying, record, ..MailboxObserved::default() }
    }
}

proptest! {
    #[test]
    fn every_combination_of_facts_has_an_answer_that_keeps_the_laws(
        stage in 0_usize..3, suspend: bool, discovered: bool, discovering: bool, resident: bool, stopped: bool,
        verification in 0_u32..3, at_once in 1_u32..4, every: bool, windows in 0_usize..3, began in proptest::option::of(0_i64..50), keeps: bool,
        records in proptest::collection::vec(any_record(), 3), blocked in proptest::option::of(0_usize..12), now in 0_i64..200,
    ) {
        let stage = [Stage::Plan, Stage::Sync, Stage::Cutover][stage];
        let mut wanted = staged(stage, suspend);
        wanted.spec.workers.concurrency = at_once;
        let mut observed = observe(&wanted, discovered);
        (observed.verification, observed.stopped) = (verification, stopped && !resident);
        (observed.began, observed.keeps) = (began.map(at), keeps);
        wanted.spec.schedule = scheduled(every, windows);
        if resident {
            observed.patience = Patience::Resident;
        }
        if !discovered {
            observed.domains.get_mut("a.test").unwrap().discovering = discovering;
        } else if let Some(class) = blocked {
            observed.domains.get_mut("b.test").unwrap().discovery =
                Some(discovery("b.test", &[("three@b.test", Err(CLASSES[class]))]).into());
        }
        for (mailbox, seen) in ["one@a.test", "two@a.test", "three@b.test"].iter().zip(records) {
            observed.mailboxes.insert(mailbox.parse().unwrap(), seen);
        }
        let decision = decide(&wanted, &observed, at(now));
        let again = decide(&wanted, &observed, at(now));
        prop_assert_eq!(&decision.steps, &again.steps, "the same facts give the same decision");

        // A migration that is not at its end has something to do or to wait for.
        let waiting = decision.wake.is_some()
            || observed.domains.values().any(|d| d.discovering)
            || observed.mailboxes.values().any(|m| m.running || m.verifying);
        prop_assert!(decision.ending.is_some() || !decision.steps.is_empty() || waiting);
        prop_assert!(resident || decision.ending.is_none() || decision.steps.is_empty());

        // kstatus: Ready is always there, Reconciling and Stalled never together, and neither beside Ready=True.
        let conditions = &decision.status.conditions;
        prop_assert!(conditions.of(Type::Ready).is_some());
        prop_assert!(!(conditions.holds(Type::Reconciling) && conditions.holds(Type::Stalled)));
        let at_work = conditions.holds(Type::Reconciling) || conditions.holds(Type::Stalled);
        prop_assert!(!(conditions.holds(Type::Ready) && at_work));
        prop_assert!(decision.status.messages.unwrap().balances());
        let verified = steps_for(&decision, Purpose::Verify);
        if stage == Stage::Plan || suspend || windows == CLOSED {
            prop_assert!(syncs(&decision).is_empty() && verified.is_empty());
            prop_assert!(decision.halt);
        }
        // A schedule says something of a moment to come alone, and where somebody is there for it.
        if let Some(schedule) = decision.status.schedule {
            prop_assert!(schedule.next >= at(now) && observed.stays() && wanted.spec.schedule.is_some());
        }
        let next_pass = decision.status.pass.as_ref().unwrap().number > observed.pass;
        prop_assert!(!next_pass || resident && every && decision.steps.is_empty() && !observed.is_at_work());
        // The pass comes first, nobody is begun who is at work already, and nothing is verified twice for one wish.
        prop_assert!(resident || verified.is_empty() || syncs(&decision).is_empty());
        for mailbox in verified.iter().chain(&syncs(&decision)) {
            let seen = &observed.mailboxes[&mailbox.parse::<Address>().unwrap()];
            prop_assert!(!seen.verifying, "{mailbox}");
        }
        for mailbox in &verified {
            let record = &observed.mailboxes[&mailbox.parse::<Address>().unwrap()].record;
            prop_assert!(record.finished(observed.pass) && record.verification_number < verification, "{mailbox}");
        }
        if !resident {
            let at_work = observed.mailboxes.values().filter(|m| m.running || m.verifying).count();
            prop_assert!(verified.is_empty() || verified.len() + at_work <= at_once as usize);
        }
        // A verification takes nothing back of what the pass came to.
        let without = decide(&wanted, &Observed { verification: 0, ..observed.clone() }, at(now));
        for kind in [Type::Synced, Type::Verified, Type::Discovered] {
            prop_assert_eq!(conditions.of(kind), without.status.conditions.of(kind), "{}", kind);
        }
        prop_assert_eq!(decision.status.counts, without.status.counts);
        let phases = |decision: &Decision| decision.mailboxes.iter().map(|(_, _, told)| told.phase).collect::<Vec<_>>();
        prop_assert_eq!(phases(&decision), phases(&without));
    }

    #[test]
    fn every_world_comes_to_an_end(outcomes in proptest::collection::vec(0_usize..14, 60), resident: bool, verification in 0_u32..2) {
        let wanted = staged(Stage::Sync, false);
        let mut observed = observe(&wanted, false);
        if resident {
            observed.patience = Patience::Resident;
        }
        observed.verification = verification;
        let mut verified: Vec<Address> = Vec::new();
        let mut now = at(0);
        let mut outcomes = outcomes.into_iter();
        for _ in 0..200 {
            let decision = decide(&wanted, &observed, now);
            // An operator goes on until all is well, and here all becomes well in time.
            let unverified = observed.mailboxes.values().any(|seen| seen.record.unverified.is_some());
            let is_idle = decision.steps.is_empty() && decision.wake.is_none();
            if decision.ending == Some(Ending::Reached)
                || decision.ending.is_some() && (!resident || unverified && is_idle)
            {
                for (mailbox, seen) in &observed.mailboxes {
                    let wanted = seen.record.finished(1) && verification > 0;
                    let times = verified.iter().filter(|verified| *verified == mailbox).count();
                    prop_assert_eq!(times, usize::from(wanted), "{} is verified once", mailbox);
                }
                return Ok(());
            }
            for step in decision.steps {
                match step {
                    Step::Discover { domain } => {
                        let name = &wanted.spec.domains[domain].name;
                        let found = observe(&wanted, true).domains.remove(name).unwrap();
                        observed.domains.insert(name.clone(), found);
                    }
                    Step::Sync { mailbox, purpose: Purpose::Verify, .. } => {
                        verified.push(mailbox.source.clone());
                        let record = &mut observed.mailboxes.get_mut(&mailbox.source).unwrap().record;
                        record.verification_number = verification;
                        record.unverified = outcomes
                            .next()
                            .and_then(|n| CLASSES.get(n))
                            .map(|class| Failure::new(*class, "went wrong"));
                    }
                    Step::Sync { mailbox, .. } => {
                        let seen = observed.mailboxes.entry(mailbox.source).or_default();
                        let attempts = if seen.record.pass == 1 { seen.record.attempts + 1 } else { 1 };
                        // A server that asks for a pause for ever is waited for for ever, which is not an end.
                        let class = outcomes.next().and_then(|n| CLASSES.get(n)).filter(|c| **c != Class::Throttled);
                        let failure = class.map(|class| Failure::new(*class, "went wrong"));
                        seen.record = MailboxRecord { pass: 1, attempts, ended: Some(now), failure, ..seen.record.clone() };
                    }
                }
            }
            now = decision.wake.unwrap_or(now) + SignedDuration::from_millis(1);
        }
        prop_assert!(false, "no end within 200 rounds");
    }
}
