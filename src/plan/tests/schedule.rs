//! The schedule in decisions: pass after pass where somebody stays, and nothing outside of the windows.

use super::*;
use crate::api::MailMigrationStatus;
use crate::api::status::ScheduleStatus;

const ALL: [&str; 3] = ["one@a.test", "two@a.test", "three@b.test"];

fn moment(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The status that a decision publishes is what the next one finds.
fn publish(wanted: &mut MailMigration, decision: &Decision) {
    wanted.status = Some(decision.status.clone());
}

fn told(decision: &Decision, kind: Type) -> (String, String, String) {
    let condition = decision.status.conditions.of(kind).unwrap();
    (condition.status.clone(), condition.reason.clone(), condition.message.clone())
}

/// The facts as an operator gathers them, with these mailboxes through.
fn gathered(wanted: &MailMigration, through: &[&str], ended: Timestamp) -> Observed {
    let before = wanted.status.as_ref().and_then(|status| status.pass.as_ref());
    let pass = pass::next(&wanted.spec, before);
    let mut observed = Observed {
        pass: pass.number,
        began: pass.began,
        verification: pass.verification,
        patience: Patience::Resident,
        ..observe(wanted, true)
    };
    for mailbox in ALL {
        let number = if through.contains(&mailbox) { pass.number } else { pass.number - 1 };
        let record = MailboxRecord {
            pass: number,
            attempts: 1,
            ended: (number > 0).then_some(ended),
            ..MailboxRecord::default()
        };
        self::record(&mut observed, mailbox, record);
    }
    observed
}

#[test]
fn a_finished_migration_begins_pass_after_pass_where_somebody_stays() {
    let mut wanted = migration("  stage: Sync\n  schedule: {every: 1h}\n");
    let begun = moment("2026-12-01T10:00:00.5Z");
    let first = decide(&wanted, &gathered(&wanted, &[], begun), begun);
    assert_eq!(syncs(&first), ALL);
    let pass = first.status.pass.clone().unwrap();
    assert_eq!((pass.number, pass.began, pass.ended), (1, Some(moment("2026-12-01T10:00:00Z")), None));
    assert_eq!(first.status.schedule, None, "it is at work");
    publish(&mut wanted, &first);

    let over = moment("2026-12-01T10:07:00Z");
    let second = decide(&wanted, &gathered(&wanted, &ALL, over), over);
    assert_eq!((second.ending.clone(), second.steps.len()), (Some(Ending::Reached), 0));
    let pass = second.status.pass.clone().unwrap();
    assert_eq!((pass.number, pass.began, pass.ended), (1, Some(moment("2026-12-01T10:00:00Z")), Some(over)));
    let ScheduleStatus { next } = second.status.schedule.unwrap();
    assert!((moment("2026-12-01T11:00:00Z")..=moment("2026-12-01T11:06:00Z")).contains(&next), "{next}");
    assert_eq!(second.wake, Some(next));
    let (state, _, message) = told(&second, Type::Ready);
    assert_eq!(state, "True");
    assert!(message.ends_with(&format!("The next pass begins at {next}.")), "{message}");
    publish(&mut wanted, &second);
    // Looking meanwhile changes nothing, so that nothing is written.
    let meanwhile = moment("2026-12-01T10:30:00Z");
    let again = decide(&wanted, &gathered(&wanted, &ALL, over), meanwhile);
    assert_eq!(again.status, second.status);

    let due = decide(&wanted, &gathered(&wanted, &ALL, over), next);
    let pass = due.status.pass.clone().unwrap();
    assert_eq!((pass.number, pass.began, pass.ended), (2, None, None));
    assert!(due.wake.unwrap() <= next && due.steps.is_empty());
    publish(&mut wanted, &due);
    let third = decide(&wanted, &gathered(&wanted, &[], over), next);
    assert_eq!(syncs(&third), ALL, "each of them once more");
    assert_eq!(third.status.pass.clone().unwrap().began, Some(next));
    publish(&mut wanted, &third);

    // It goes on for longer than the interval: it is not doubled, and followed at its end.
    let late = next + SignedDuration::from_hours(3);
    let mut working = gathered(&wanted, &ALL[1..], late);
    working.mailboxes.get_mut(&ALL[0].parse().unwrap()).unwrap().running = true;
    let long = decide(&wanted, &working, late);
    assert_eq!(
        (long.status.pass.clone().unwrap().number, long.steps.len(), long.ending.clone()),
        (2, 0, None)
    );
    publish(&mut wanted, &long);
    let ended = decide(&wanted, &gathered(&wanted, &ALL, late), late);
    assert_eq!(ended.status.pass.unwrap().number, 3, "it is due at once");
}

#[test]
fn a_command_that_does_not_stay_makes_one_pass() {
    let wanted = migration("  stage: Sync\n  schedule: {every: 1h}\n");
    let now = moment("2026-12-01T10:00:00Z");
    for (keeps, follows) in [(false, false), (true, true)] {
        let patience = Patience::Command;
        let observed = Observed { keeps, patience, began: Some(now), ..gathered(&wanted, &ALL, now) };
        let decision = decide(&wanted, &observed, now + SignedDuration::from_hours(2));
        assert_eq!(decision.ending, Some(Ending::Reached));
        assert_eq!(decision.status.schedule.is_some(), follows);
        assert_eq!(
            decision.status.pass.unwrap().number,
            1,
            "who stays begins the next one as a run of its own"
        );
        let stopped = Observed { stopped: true, ..observed };
        assert_eq!(decide(&wanted, &stopped, now).status.schedule, None, "nobody is there any more");
    }
}

#[test]
fn what_holds_a_migration_holds_its_schedule() {
    let now = moment("2026-12-01T10:00:00Z");
    for extra in [
        "  stage: Plan\n",
        "  stage: Sync\n  suspend: true\n",
        &format!("  stage: Sync\n  approvedPlan: \"sha256:{}\"\n", "0".repeat(64)),
    ] {
        let wanted = migration(&format!("{extra}  schedule: {{every: 1h}}\n"));
        let observed = Observed { began: Some(now), ..gathered(&wanted, &ALL, now) };
        let decision = decide(&wanted, &observed, now + SignedDuration::from_hours(9));
        assert_eq!((decision.status.schedule, decision.steps.len()), (None, 0), "{extra}");
        assert_eq!(decision.status.pass.unwrap().number, 1, "{extra}");
    }
    // A wish is fulfilled at once, whenever the schedule would begin the next pass.
    let mut wanted = migration("  stage: Sync\n  schedule: {every: 24h}\n  trigger: {sync: \"2\"}\n");
    let before = migration("  stage: Sync\n  schedule: {every: 24h}\n");
    let pass = Some(api_pass(&before, now));
    wanted.status = Some(MailMigrationStatus { pass, ..MailMigrationStatus::default() });
    let decision = decide(&wanted, &gathered(&wanted, &[], now), now + SignedDuration::from_mins(1));
    assert_eq!((syncs(&decision).len(), decision.status.pass.unwrap().number), (3, 2));
}

fn api_pass(wanted: &MailMigration, began: Timestamp) -> crate::api::status::PassStatus {
    let pass = pass::next(&wanted.spec, None);
    crate::api::status::PassStatus { began: Some(began), ended: Some(began), ..pass }
}

const NIGHTS: &str = "  stage: Sync\n  schedule: {every: 6h, windows: [{from: \"20:00\", to: \"06:00\"}]}\n";

#[test]
fn a_pass_begins_inside_of_a_window_and_pauses_where_it_closes() {
    let mut wanted = migration(NIGHTS);
    let noon = moment("2026-12-01T12:00:00Z");
    let waiting = decide(&wanted, &gathered(&wanted, &[], noon), noon);
    assert_eq!((waiting.steps.len(), waiting.halt, waiting.ending.clone()), (0, true, None));
    assert_eq!(waiting.status.phase, Some(Phase::Paused));
    let ScheduleStatus { next } = waiting.status.schedule.unwrap();
    assert!((moment("2026-12-01T20:00:00Z")..=moment("2026-12-01T20:10:00Z")).contains(&next), "{next}");
    assert_eq!(waiting.wake, Some(next));
    let (state, reason, message) = told(&waiting, Type::Ready);
    assert_eq!((state.as_str(), reason.as_str()), ("False", "WindowClosed"));
    assert!(message.contains(&next.to_string()), "{message}");
    assert!(waiting.status.conditions.holds(Type::Reconciling));
    assert_eq!(waiting.status.pass.clone().unwrap().began, None);
    publish(&mut wanted, &waiting);

    let begun = decide(&wanted, &gathered(&wanted, &[], noon), next);
    assert_eq!(syncs(&begun), ALL);
    assert_eq!(begun.wake, Some(moment("2026-12-02T06:00:00Z")), "then it pauses");
    publish(&mut wanted, &begun);

    let morning = moment("2026-12-02T06:00:00Z");
    let mut working = gathered(&wanted, &ALL[..1], morning);
    working.mailboxes.get_mut(&ALL[1].parse().unwrap()).unwrap().running = true;
    let closing = decide(&wanted, &working, morning);
    assert!(closing.halt && closing.steps.is_empty(), "the workers are stopped");
    assert_eq!(closing.status.phase, Some(Phase::Paused));
    assert_eq!(closing.status.pass.clone().unwrap().ended, None);
    publish(&mut wanted, &closing);
    let evening = closing.status.schedule.unwrap().next;
    let on = decide(&wanted, &gathered(&wanted, &ALL[..1], morning), evening);
    assert_eq!(syncs(&on), ALL[1..], "the same pass goes on");
    assert_eq!(on.status.pass.clone().unwrap().number, 1);
    publish(&mut wanted, &on);

    // One that was due by day begins in the evening.
    let night = moment("2026-12-02T21:00:00Z");
    let mut over = decide(&wanted, &gathered(&wanted, &ALL, night), night);
    assert_eq!(
        (over.ending.clone(), over.status.pass.clone().unwrap().number),
        (Some(Ending::Reached), 2),
        "it is due"
    );
    let pass = over.status.pass.as_mut().unwrap();
    (pass.number, pass.began, pass.ended) =
        (1, Some(moment("2026-12-03T01:00:00Z")), Some(moment("2026-12-03T02:00:00Z")));
    publish(&mut wanted, &over);
    for now in ["2026-12-03T02:00:00Z", "2026-12-03T06:00:00Z", "2026-12-03T12:00:00Z"] {
        let through = decide(&wanted, &gathered(&wanted, &ALL, night), moment(now));
        assert_eq!(through.ending, Some(Ending::Reached), "it is through, and nothing is taken back of that");
        let following = through.status.schedule.unwrap().next;
        let evening = moment("2026-12-03T20:00:00Z")..=moment("2026-12-03T20:10:00Z");
        assert!(evening.contains(&following), "{following}");
        assert_eq!(told(&through, Type::Ready).0, "True");
    }
}

#[test]
fn a_command_that_does_not_stay_ends_where_no_window_is_open() {
    let wanted = migration(NIGHTS);
    let noon = moment("2026-12-01T12:00:00Z");
    let observed = Observed { patience: Patience::Command, ..gathered(&wanted, &[], noon) };
    let decision = decide(&wanted, &observed, noon);
    let Some(Ending::Stopped(failure)) = &decision.ending else { panic!("{:?}", decision.ending) };
    assert_eq!(failure.class, Class::Interrupted);
    assert!(
        failure.what.starts_with("no window of spec.schedule.windows is open until 2026-12-01T20:0"),
        "{failure}"
    );
    assert!(failure.hint.as_ref().unwrap().contains("--keep"), "{failure}");
    assert_eq!((decision.steps.len(), decision.status.schedule), (0, None));
    // One that stays waits, and says what it waits for.
    let staying = decide(&wanted, &Observed { keeps: true, ..observed.clone() }, noon);
    assert_eq!((staying.ending.clone(), staying.status.phase), (None, Some(Phase::Paused)));
    assert_eq!(staying.paused.as_ref(), Some(failure));
    // Where everything is through, a closed window is no reason to say anything.
    let through = Observed { patience: Patience::Command, ..gathered(&wanted, &ALL, noon) };
    assert_eq!(decide(&wanted, &through, noon).ending, Some(Ending::Reached));
}
