//! Verifying once more: it follows the pass, takes nothing back of it, is tried once for each wish, and is told.

use super::*;
use crate::api::MailMigrationStatus;
use crate::api::mailboxmigration::MailboxPhase;
use crate::api::status::PassStatus;
use crate::model::progress::MessageCounts;
use crate::model::record::Verification;

const ALL: [&str; 3] = ["one@a.test", "two@a.test", "three@b.test"];

fn through(verification_number: u32) -> MailboxRecord {
    let counts = MessageCounts { source: 10, copied: 10, ..MessageCounts::default() };
    MailboxRecord { counts, verification_number, ..finished() }
}

fn verifies(decision: &Decision) -> Vec<String> {
    steps_for(decision, Purpose::Verify)
}

/// A migration whose status has seen one value of the trigger, while its spec says another.
fn asked(extra: &str, seen: &str, value: &str, done: Option<&str>) -> MailMigration {
    let mut wanted = migration(&format!("  stage: Sync\n  trigger: {{verify: \"{value}\"}}\n{extra}"));
    let pass = pass::next(&wanted.spec, None);
    let trigger = done.map(|done| crate::api::mailmigration::Trigger {
        verify: Some(done.to_owned()),
        ..crate::api::mailmigration::Trigger::default()
    });
    let pass = Some(PassStatus { verify: Some(seen.to_owned()), ..pass });
    wanted.status = Some(MailMigrationStatus { pass, trigger, ..MailMigrationStatus::default() });
    wanted
}

fn all_through(wanted: &MailMigration, patience: Patience) -> Observed {
    let before = wanted.status.as_ref().and_then(|status| status.pass.as_ref());
    let verification = pass::next(&wanted.spec, before).verification;
    let mut observed = Observed { verification, patience, ..observe(wanted, true) };
    for mailbox in ALL {
        record(&mut observed, mailbox, through(0));
    }
    observed
}

fn told(decision: &Decision, kind: Type) -> (String, String, String) {
    let condition = decision.status.conditions.of(kind).unwrap();
    (condition.status.clone(), condition.reason.clone(), condition.message.clone())
}

fn verify_trigger(decision: &Decision) -> Option<String> {
    decision.status.trigger.as_ref()?.verify.clone()
}

#[test]
fn a_changed_value_verifies_what_is_through_and_takes_nothing_back() {
    for patience in [Patience::Command, Patience::Resident] {
        let wanted = asked("  workers: {concurrency: 2}\n", "1", "2", Some("1"));
        let mut observed = all_through(&wanted, patience);
        let begun = decide(&wanted, &observed, at(10));
        let at_once = if patience == Patience::Command { &ALL[..2] } else { &ALL[..] };
        assert_eq!(
            (verifies(&begun), syncs(&begun)),
            (at_once.iter().map(ToString::to_string).collect(), vec![])
        );
        assert_eq!((begun.ending.clone(), begun.status.phase), (None, Some(Phase::Verifying)));
        for kind in [Type::Synced, Type::Verified] {
            assert_eq!(told(&begun, kind).0, "True", "{kind}");
        }
        let (state, reason, message) = told(&begun, Type::Ready);
        assert_eq!((state.as_str(), reason.as_str()), ("False", "InProgress"));
        assert!(message.contains("0 of 3 mailboxes were verified"), "{message}");
        assert!(begun.status.conditions.holds(Type::Reconciling));
        assert!(begun.mailboxes.iter().all(|(_, _, told)| told.phase == Some(MailboxPhase::Verified)));
        let pass = begun.status.pass.clone().unwrap();
        assert_eq!((pass.number, pass.verification, pass.verify.as_deref()), (1, 1, Some("2")));
        assert_eq!(verify_trigger(&begun).as_deref(), Some("1"), "that is the value whose work is done");

        // While workers are at it, nobody else begins it; one by one their results are in.
        for (n, mailbox) in ALL.iter().enumerate() {
            let source: Address = mailbox.parse().unwrap();
            observed.mailboxes.get_mut(&source).unwrap().verifying = true;
            let going_on = decide(&wanted, &observed, at(11));
            assert!(!verifies(&going_on).contains(&(*mailbox).to_owned()) && going_on.ending.is_none());
            record(&mut observed, mailbox, through(1));
            let decision = decide(&wanted, &observed, at(12));
            assert_eq!(decision.ending.is_none(), n < 2, "{n}");
        }
        let done = decide(&wanted, &observed, at(13));
        assert_eq!((done.ending.clone(), done.status.phase), (Some(Ending::Reached), Some(Phase::Verified)));
        assert_eq!((done.steps.len(), verify_trigger(&done).as_deref()), (0, Some("2")));
    }
}

#[test]
fn one_that_finds_losses_says_so_only_of_the_mailboxes_that_are_in() {
    let wanted = asked("", "1", "2", None);
    let mut observed = all_through(&wanted, Patience::Resident);
    let shown = Verification { checked: 10, missing: 1, ..Verification::begun(at(20)) };
    let found = MailboxRecord { missing: 1, verification: Some(shown), ..through(1) };
    record(&mut observed, ALL[0], found);
    let decision = decide(&wanted, &observed, at(21));
    assert_eq!(decision.ending, None, "the others are still to be verified");
    let phases: Vec<_> = decision.mailboxes.iter().map(|(_, _, told)| told.phase.unwrap()).collect();
    assert_eq!(phases, [MailboxPhase::Synced, MailboxPhase::Verified, MailboxPhase::Verified]);
    assert_eq!(told(&decision, Type::Verified).1, "Differences");
    record(&mut observed, ALL[1], through(1));
    record(&mut observed, ALL[2], through(1));
    let decision = decide(&wanted, &observed, at(22));
    assert!(matches!(&decision.ending, Some(Ending::Stopped(failure)) if failure.class == Class::Message));
    assert_eq!(decision.status.phase, Some(Phase::Synced));
    assert_eq!(verify_trigger(&decision).as_deref(), Some("2"), "it was done, whatever it found");
}

#[test]
fn the_pass_comes_first_and_the_verification_follows_by_itself() {
    let wanted = asked("", "1", "2", None);
    let mut observed = Observed { pass: 2, ..all_through(&wanted, Patience::Resident) };
    let decision = decide(&wanted, &observed, at(10));
    assert_eq!((syncs(&decision).len(), verifies(&decision).len()), (3, 0));
    let carried = |number| MailboxRecord { pass: 2, ..through(number) };
    for mailbox in &ALL[..2] {
        record(&mut observed, mailbox, carried(0));
    }
    observed.mailboxes.get_mut(&ALL[2].parse().unwrap()).unwrap().running = true;
    let decision = decide(&wanted, &observed, at(11));
    assert!(decision.steps.is_empty() && decision.ending.is_none(), "{:?}", decision.steps);
    record(&mut observed, ALL[2], carried(0));
    let decision = decide(&wanted, &observed, at(12));
    assert_eq!(verifies(&decision), ALL, "nobody has to look at it once more");
    assert!(decision.status.conditions.holds(Type::Reconciling) && decision.ending.is_none());
    // A pass that is asked for meanwhile waits for those who hold a mailbox, and comes before the rest.
    observed.pass = 3;
    observed.mailboxes.get_mut(&ALL[0].parse().unwrap()).unwrap().verifying = true;
    let decision = decide(&wanted, &observed, at(13));
    assert_eq!(
        (syncs(&decision), verifies(&decision)),
        (ALL[1..].iter().map(ToString::to_string).collect(), vec![])
    );
}

#[test]
fn one_that_was_never_carried_or_stopped_is_carried_and_not_verified() {
    let wanted = asked("", "1", "2", Some("1"));
    let mut observed = all_through(&wanted, Patience::Resident);
    record(&mut observed, ALL[0], failed(Class::Quota, 1));
    let decision = decide(&wanted, &observed, at(10));
    assert_eq!(verifies(&decision), ALL[1..]);
    for mailbox in &ALL[1..] {
        record(&mut observed, mailbox, through(1));
    }
    let decision = decide(&wanted, &observed, at(11));
    assert!(matches!(&decision.ending, Some(Ending::Stopped(failure)) if failure.class == Class::Quota));
    assert_eq!(verify_trigger(&decision).as_deref(), Some("2"), "all that could be verified were");
    // Once it is carried after all, it is verified like the others.
    record(&mut observed, ALL[0], through(0));
    assert_eq!(verifies(&decide(&wanted, &observed, at(12))), ALL[..1]);
}

#[test]
fn what_may_not_begin_is_not_verified_and_is_not_called_done() {
    let held = format!("  approvedPlan: \"sha256:{}\"\n", "0".repeat(64));
    for extra in ["  suspend: true\n", &held] {
        let wanted = asked(extra, "1", "2", Some("1"));
        let decision = decide(&wanted, &all_through(&wanted, Patience::Resident), at(10));
        assert!(decision.steps.is_empty() && decision.halt, "{extra}");
        assert_eq!(verify_trigger(&decision).as_deref(), Some("1"), "{extra}");
        assert_eq!(told(&decision, Type::Verified).0, "True", "{extra}");
    }
}

#[test]
fn mailboxes_that_arrive_in_one_are_verified_one_at_a_time() {
    let wanted = asked("  mapping: {addresses: {three@b.test: One@a.test}}\n", "1", "2", None);
    let mut observed = all_through(&wanted, Patience::Resident);
    assert_eq!(verifies(&decide(&wanted, &observed, at(10))), ALL[..2]);
    observed.mailboxes.get_mut(&ALL[0].parse().unwrap()).unwrap().verifying = true;
    record(&mut observed, ALL[1], through(1));
    let decision = decide(&wanted, &observed, at(11));
    assert!(decision.steps.is_empty() && decision.ending.is_none());
    record(&mut observed, ALL[0], through(1));
    let decision = decide(&wanted, &observed, at(12));
    let Step::Sync { mailbox, .. } = &decision.steps[0] else { panic!("{:?}", decision.steps) };
    let beside: Vec<String> = mailbox.beside.iter().map(ToString::to_string).collect();
    assert_eq!(
        (verifies(&decision).as_slice(), beside.as_slice()),
        (&[ALL[2].to_owned()][..], &[ALL[0].to_owned()][..])
    );
}

#[test]
fn one_that_could_not_be_made_is_told_and_not_tried_again_by_itself() {
    for patience in [Patience::Command, Patience::Resident] {
        let wanted = asked("", "1", "2", None);
        let mut observed = all_through(&wanted, patience);
        let mut first = through(0);
        first.give_up_verification(1, Failure::new(Class::Unreachable, "nobody answers").at("source"));
        record(&mut observed, ALL[0], first);
        for mailbox in &ALL[1..] {
            record(&mut observed, mailbox, through(1));
        }
        let decision = decide(&wanted, &observed, at(1_000));
        assert!(decision.steps.is_empty() && decision.wake.is_none());
        let Some(Ending::Stopped(failure)) = &decision.ending else { panic!("{:?}", decision.ending) };
        assert_eq!(failure.class, Class::Unreachable);
        assert!(failure.sentence().starts_with("one@a.test"), "{}", failure.sentence());
        assert!(failure.hint.as_ref().unwrap().contains("spec.trigger.verify"), "{failure}");
        assert_eq!(told(&decision, Type::Ready).1, "Unreachable");
        // The results of the pass stay.
        assert_eq!(
            (told(&decision, Type::Synced).0, told(&decision, Type::Verified).0),
            ("True".into(), "True".into())
        );
        assert_eq!(decision.status.phase, Some(Phase::Verified));
        assert_eq!(verify_trigger(&decision).as_deref(), Some("2"));
        // The next wish is another try, and a pass that was let in forgets what stood in the way.
        observed.verification = 2;
        assert_eq!(verifies(&decide(&wanted, &observed, at(1_001))).len(), 3);
    }
}

#[test]
fn a_run_that_is_stopped_while_it_verifies_keeps_what_its_pass_came_to() {
    let wanted = asked("", "1", "2", Some("1"));
    let observed = Observed { stopped: true, ..all_through(&wanted, Patience::Command) };
    let decision = decide(&wanted, &observed, at(10));
    assert!(decision.steps.is_empty());
    assert!(
        matches!(&decision.ending, Some(Ending::Stopped(failure)) if failure.class == Class::Interrupted)
    );
    assert_eq!(decision.status.phase, Some(Phase::Interrupted));
    assert_eq!(
        (told(&decision, Type::Synced).0, told(&decision, Type::Verified).0),
        ("True".into(), "True".into())
    );
    assert_eq!(verify_trigger(&decision).as_deref(), Some("1"));
}

#[test]
fn a_look_at_a_changed_manifest_leaves_the_wish_to_the_next_run() {
    let wanted = asked("", "1", "2", Some("1"));
    // As a command sees it that only looks: the run before was asked for no verification.
    let observed = Observed { verification: 0, stopped: true, ..all_through(&wanted, Patience::Command) };
    let decision = decide(&wanted, &observed, at(10));
    let pass = decision.status.pass.clone().unwrap();
    assert_eq!((pass.verification, pass.verify.as_deref()), (0, Some("1")));
    assert_eq!(verify_trigger(&decision).as_deref(), Some("1"));
    assert_eq!(pass::next(&wanted.spec, Some(&pass)).verification, 1, "the wish is not lost");
}

#[test]
fn only_those_that_were_asked_for_are_verified_and_the_wish_stays_open_for_the_others() {
    let wanted = asked("", "1", "2", Some("1"));
    let only = Some([ALL[0].parse().unwrap()].into());
    let mut observed = Observed { only, ..all_through(&wanted, Patience::Command) };
    assert_eq!(verifies(&decide(&wanted, &observed, at(10))), ALL[..1]);
    record(&mut observed, ALL[0], through(1));
    let decision = decide(&wanted, &observed, at(11));
    assert!(decision.ending.is_some());
    assert_eq!(verify_trigger(&decision).as_deref(), Some("1"));
}
