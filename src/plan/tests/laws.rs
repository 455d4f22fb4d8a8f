//! Laws that hold for every combination of facts, and for every world that they come from.

use proptest::prelude::*;

use super::*;

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

prop_compose! {
    fn any_record()(pass in 0_u32..3, attempts in 0_u32..9, ended in proptest::option::of(0_i64..50), class in proptest::option::of(0_usize..12), running: bool)
        -> MailboxObserved {
        let failure = class.map(|class| Failure::new(CLASSES[class], "went wrong"));
        let record = MailboxRecord { pass, attempts, ended: ended.map(at), failure, ..MailboxRecord::default() };
        MailboxObserved { running, record, ..MailboxObserved::default() }
    }
}

proptest! {
    #[test]
    fn every_combination_of_facts_has_an_answer_that_keeps_the_laws(
        stage in 0_usize..3, suspend: bool, discovered: bool, discovering: bool, resident: bool,
        records in proptest::collection::vec(any_record(), 3), blocked in proptest::option::of(0_usize..12), now in 0_i64..200,
    ) {
        let stage = [Stage::Plan, Stage::Sync, Stage::Cutover][stage];
        let wanted = staged(stage, suspend);
        let mut observed = observe(&wanted, discovered);
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
            || observed.mailboxes.values().any(|m| m.running);
        prop_assert!(decision.ending.is_some() || !decision.steps.is_empty() || waiting);
        prop_assert!(resident || decision.ending.is_none() || decision.steps.is_empty());

        // kstatus: Ready is always there, Reconciling and Stalled never together, and neither beside Ready=True.
        let conditions = &decision.status.conditions;
        prop_assert!(conditions.of(Type::Ready).is_some());
        prop_assert!(!(conditions.holds(Type::Reconciling) && conditions.holds(Type::Stalled)));
        let at_work = conditions.holds(Type::Reconciling) || conditions.holds(Type::Stalled);
        prop_assert!(!(conditions.holds(Type::Ready) && at_work));
        prop_assert!(decision.status.messages.unwrap().balances());
        if stage == Stage::Plan || suspend {
            prop_assert!(syncs(&decision).is_empty());
        }
    }

    #[test]
    fn every_world_comes_to_an_end(outcomes in proptest::collection::vec(0_usize..14, 60), resident: bool) {
        let wanted = staged(Stage::Sync, false);
        let mut observed = observe(&wanted, false);
        if resident {
            observed.patience = Patience::Resident;
        }
        let mut now = at(0);
        let mut outcomes = outcomes.into_iter();
        for _ in 0..200 {
            let decision = decide(&wanted, &observed, now);
            // An operator goes on until all is well, and here all becomes well in time.
            if decision.ending == Some(Ending::Reached) || !resident && decision.ending.is_some() {
                return Ok(());
            }
            for step in decision.steps {
                match step {
                    Step::Discover { domain } => {
                        let name = &wanted.spec.domains[domain].name;
                        let found = observe(&wanted, true).domains.remove(name).unwrap();
                        observed.domains.insert(name.clone(), found);
                    }
                    Step::Sync { mailbox, .. } => {
                        let seen = observed.mailboxes.entry(mailbox.source).or_default();
                        let attempts = if seen.record.pass == 1 { seen.record.attempts + 1 } else { 1 };
                        // A server that asks for a pause for ever is waited for for ever, which is not an end.
                        let class = outcomes.next().and_then(|n| CLASSES.get(n)).filter(|c| **c != Class::Throttled);
                        let failure = class.map(|class| Failure::new(*class, "went wrong"));
                        seen.record = MailboxRecord { pass: 1, attempts, ended: Some(now), failure, ..MailboxRecord::default() };
                    }
                }
            }
            now = decision.wake.unwrap_or(now) + SignedDuration::from_millis(1);
        }
        prop_assert!(false, "no end within 200 rounds");
    }
}
