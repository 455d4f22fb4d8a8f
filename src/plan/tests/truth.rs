//! A status tells the truth: nothing is called verified that is not, every phase is reached by something, and a run
//! that is over does not read as if it went on.

use std::collections::BTreeSet;

use super::*;
use crate::api::mailboxmigration::MailboxPhase;
use crate::model::progress::MessageCounts;
use crate::model::record::Verification;

const ALL: [&str; 3] = ["one@a.test", "two@a.test", "three@b.test"];

fn counts(copied: u64, excluded: u64, failed: u64, pending: u64) -> MessageCounts {
    MessageCounts { source: copied + excluded + failed + pending, copied, excluded, failed, pending }
}

fn through(counts: MessageCounts) -> MailboxRecord {
    MailboxRecord { counts, ..finished() }
}

/// All three mailboxes are through, the first with this record.
fn with_first(wanted: &MailMigration, first: MailboxRecord) -> Observed {
    let mut observed = observe(wanted, true);
    for mailbox in ALL {
        record(&mut observed, mailbox, through(counts(10, 0, 0, 0)));
    }
    record(&mut observed, ALL[0], first);
    observed
}

fn told(decision: &Decision, kind: Type) -> (String, String, String) {
    let condition = decision.status.conditions.of(kind).unwrap();
    (condition.status.clone(), condition.reason.clone(), condition.message.clone())
}

#[test]
fn verified_is_said_only_where_nothing_is_open_and_a_run_with_losses_is_no_success() {
    let wanted = migration("  stage: Sync\n");
    let mut differing = through(counts(10, 0, 0, 0));
    differing.verification = Some(Verification { differing: 2, ..Verification::begun(at(6)) });
    for (first, phase, mailbox, verified, ready, words) in [
        (through(counts(10, 0, 0, 0)), Phase::Verified, MailboxPhase::Verified, "Succeeded", "True", ""),
        (through(counts(0, 10, 0, 0)), Phase::Verified, MailboxPhase::Verified, "Succeeded", "True", ""),
        (
            through(counts(8, 0, 2, 0)),
            Phase::Synced,
            MailboxPhase::Synced,
            "MessagesFailed",
            "False",
            "2 messages could not be carried.",
        ),
        (
            MailboxRecord { missing: 3, ..through(counts(10, 0, 0, 0)) },
            Phase::Synced,
            MailboxPhase::Synced,
            "Differences",
            "False",
            "3 messages are no longer at the destination.",
        ),
        (
            MailboxRecord { altered: 1, changed: 1, ..through(counts(10, 0, 0, 0)) },
            Phase::Synced,
            MailboxPhase::Synced,
            "Differences",
            "False",
            "1 message was found changed by a verification.",
        ),
        (
            differing,
            Phase::Synced,
            MailboxPhase::Synced,
            "Differences",
            "True",
            "2 messages are there with other flags or dates.",
        ),
        (
            through(counts(10, 0, 0, 2)),
            Phase::Partial,
            MailboxPhase::Partial,
            "Waiting",
            "False",
            "2 messages are still to be carried.",
        ),
        // Altered while it was stored: that was seen, and is told.
        (
            MailboxRecord { altered: 1, ..through(counts(10, 0, 0, 0)) },
            Phase::Verified,
            MailboxPhase::Verified,
            "Succeeded",
            "True",
            "1 message was changed while it was stored; the report names each.",
        ),
    ] {
        let observed = with_first(&wanted, first);
        let decision = decide(&wanted, &observed, at(10));
        let (state, reason, message) = told(&decision, Type::Verified);
        assert_eq!(
            (decision.status.phase, decision.mailboxes[0].2.phase),
            (Some(phase), Some(mailbox)),
            "{message}"
        );
        assert_eq!((state == "True", reason.as_str()), (phase == Phase::Verified, verified), "{message}");
        assert!(message.contains(words), "{words}: {message}");
        assert_eq!(told(&decision, Type::CutoverSafe).0, state, "{message}");
        assert_eq!(told(&decision, Type::Ready).0, ready, "{message}");
        let stopped =
            matches!(&decision.ending, Some(Ending::Stopped(failure)) if failure.class == Class::Message);
        assert_eq!(stopped, ready == "False" && phase == Phase::Synced, "{:?}", decision.ending);
        let counts = decision.status.counts.unwrap();
        let synced = if phase == Phase::Partial { 2 } else { 3 };
        assert_eq!((counts.synced, counts.verified), (synced, if phase == Phase::Verified { 3 } else { 2 }));
        let synced = decision.mailboxes[0].2.conditions.of(Type::Synced).unwrap();
        assert_eq!(synced.status == "True", mailbox != MailboxPhase::Partial, "{}", synced.message);
    }
}

#[test]
fn what_was_acknowledged_is_no_failure_and_who_lost_something_is_named() {
    let lossy = through(counts(8, 0, 2, 0));
    let wanted = migration("  stage: Sync\n");
    let mut observed = with_first(&wanted, lossy.clone());
    let ending = |decision: &Decision| match &decision.ending {
        Some(Ending::Stopped(failure)) => failure.sentence(),
        other => panic!("{other:?}"),
    };
    assert_eq!(ending(&decide(&wanted, &observed, at(9))), "one@a.test: 2 messages could not be carried");
    record(&mut observed, ALL[2], MailboxRecord { missing: 1, ..through(counts(10, 0, 0, 0)) });
    let said = ending(&decide(&wanted, &observed, at(9)));
    assert_eq!(
        said,
        "2 messages could not be carried, 1 message is no longer at the destination, in one@a.test, three@b.test"
    );
    let agreed = migration(
        "  stage: Sync\n  acknowledge: [{finding: MessagesQuarantined, domain: a.test, reason: agreed}]\n",
    );
    let decision = decide(&agreed, &with_first(&agreed, lossy), at(9));
    assert_eq!((decision.ending, decision.status.phase), (Some(Ending::Reached), Some(Phase::Verified)));
}

#[test]
fn the_check_of_arrivals_is_told_by_its_numbers() {
    let wanted = migration("  stage: Sync\n");
    let first = MailboxRecord { sizes_checked: 1200, digests_checked: 7, ..through(counts(10, 0, 0, 0)) };
    let (_, _, message) = told(&decide(&wanted, &with_first(&wanted, first), at(9)), Type::Verified);
    assert_eq!(
        message,
        "Arrivals were checked as they came, as deep as policy.verify asks: 1,200 by size, 7 of them byte by byte; of 20 messages no \
         check is known."
    );
}

#[test]
fn a_run_that_was_stopped_or_killed_reads_as_such_wherever_it_was() {
    let wanted = migration("  stage: Sync\n");
    let mut half = observe(&wanted, true);
    record(&mut half, ALL[0], through(counts(10, 0, 0, 0)));
    record(&mut half, ALL[1], MailboxRecord { ended: None, ..through(counts(4, 0, 0, 6)) });
    for observed in [observe(&wanted, false), half] {
        let observed = Observed { stopped: true, ..observed };
        let decision = decide(&wanted, &observed, at(9));
        assert!(decision.steps.is_empty());
        assert_eq!(decision.status.phase, Some(Phase::Interrupted));
        let conditions = &decision.status.conditions;
        assert!(conditions.of(Type::Reconciling).is_none() && conditions.holds(Type::Stalled));
        assert_eq!(told(&decision, Type::Ready).1, "Interrupted");
        for condition in conditions {
            assert_ne!(condition.reason, "InProgress", "{condition:?}");
            assert!(!condition.message.contains("under way"), "{condition:?}");
        }
        assert_eq!(decision.status.counts.unwrap().syncing, 0);
    }
    // One that ended by itself is not taken for stopped.
    let whole = Observed { stopped: true, ..with_first(&wanted, through(counts(10, 0, 0, 0))) };
    assert_eq!(decide(&wanted, &whole, at(9)).ending, Some(Ending::Reached));
}

#[test]
fn a_domain_whose_list_cannot_be_read_is_not_forgotten() {
    let wanted = migration("  stage: Sync\n");
    let mut observed = observe(&wanted, true);
    for mailbox in &ALL[..2] {
        record(&mut observed, mailbox, through(counts(10, 0, 0, 0)));
    }
    let unread = Failure::configuration("no list");
    observed.domains.get_mut("b.test").unwrap().mailboxes = Some(Err(unread.clone()));
    let empty = DomainDiscovery { failure: Some(unread), ..discovery("b.test", &[]) };
    observed.domains.get_mut("b.test").unwrap().discovery = Some(empty.into());
    let decision = decide(&wanted, &observed, at(9));
    assert_eq!(decision.status.phase, Some(Phase::Stalled));
    for kind in [Type::Synced, Type::Verified, Type::CutoverSafe] {
        assert_eq!(told(&decision, kind).0, "False", "{kind}");
    }
}

#[test]
fn a_mixed_domain_has_the_mean_of_its_mailboxes() {
    let wanted = migration("  stage: Plan\n");
    let status = decide(&wanted, &observe(&wanted, true), at(9)).status;
    assert_eq!((status.domains[0].mixed, status.domains[0].fidelity), (true, Some(68)), "100 and 37");
    assert_eq!(status.domains[1].fidelity, Some(100));
}

#[test]
fn every_phase_is_reached() {
    let sync = migration("  stage: Sync\n");
    let plan = migration("  stage: Plan\n");
    let held = migration(&format!("  stage: Sync\n  approvedPlan: \"sha256:{}\"\n", "0".repeat(64)));
    let pilot = migration("  stage: Sync\n  policy: {pilot: {mailboxes: 2}}\n");
    let suspended = migration("  stage: Sync\n  suspend: true\n");
    let closed = migration("  stage: Sync\n  schedule: {windows: [{from: \"00:00\", to: \"00:01\"}]}\n");
    let (mut working, mut failing) = (observe(&sync, true), observe(&sync, true));
    working.mailboxes.entry(ALL[0].parse().unwrap()).or_default().running = true;
    for mailbox in ALL {
        record(&mut failing, mailbox, failed(Class::Quota, 1));
    }
    let mut unread = observe(&sync, true);
    let found = [("one@a.test", Err(Class::Credentials)), ("two@a.test", Ok(Protocol::Imap))];
    unread.domains.get_mut("a.test").unwrap().discovery = Some(discovery("a.test", &found).into());
    let whole = with_first(&sync, through(counts(10, 0, 0, 0)));
    let lossy = with_first(&sync, through(counts(8, 0, 2, 0)));
    let late = with_first(&sync, through(counts(10, 0, 0, 2)));
    let stopped = Observed { stopped: true, ..observe(&sync, true) };
    let half = observe(&sync, false);
    let verifying = Observed { verification: 1, ..whole.clone() };
    let situations = [
        (&sync, Observed { pass: 1, ..Observed::default() }),
        (&sync, half),
        (&plan, observe(&plan, true)),
        (&held, observe(&held, true)),
        (&pilot, whole.clone()),
        (&suspended, observe(&suspended, true)),
        (&sync, working),
        (&sync, failing),
        (&sync, unread),
        (&sync, whole),
        (&sync, lossy),
        (&sync, late),
        (&sync, stopped),
        (&sync, verifying),
        (&closed, Observed { keeps: true, ..observe(&closed, true) }),
    ];
    let (mut phases, mut mailboxes) = (BTreeSet::new(), BTreeSet::new());
    for (migration, observed) in situations {
        let decision = decide(migration, &observed, at(9));
        phases.extend(decision.status.phase.map(|phase| phase.to_string()));
        mailboxes.extend(
            decision.mailboxes.iter().filter_map(|(_, _, status)| status.phase).map(|p| p.to_string()),
        );
    }
    assert_eq!(phases, Phase::ALL.iter().map(ToString::to_string).collect());
    assert_eq!(mailboxes, MailboxPhase::ALL.iter().map(ToString::to_string).collect());
}

#[test]
fn a_pass_that_may_not_begin_takes_nothing_back() {
    let wanted = migration("  stage: Sync\n");
    let before = decide(&wanted, &with_first(&wanted, through(counts(10, 0, 0, 0))), at(9)).status;
    assert_eq!(before.phase, Some(Phase::Verified));
    let held = migration(&format!("  stage: Sync\n  approvedPlan: \"sha256:{}\"\n", "0".repeat(64)));
    let suspended = migration("  stage: Sync\n  suspend: true\n");
    let plan = migration("  stage: Plan\n");
    for (wanted, safe) in [(&held, "False"), (&suspended, "True"), (&plan, "True")] {
        let mut observed = with_first(wanted, through(counts(10, 0, 0, 0)));
        observed.pass += 1;
        let decision = decide(wanted, &observed, at(9));
        let status = &decision.status;
        assert_eq!((status.counts, status.messages), (before.counts, before.messages), "{:?}", status.phase);
        assert_eq!(told(&decision, Type::Verified).0, "True");
        assert!(decision.mailboxes.iter().all(|(_, _, told)| told.phase == Some(MailboxPhase::Verified)));
        assert_eq!(told(&decision, Type::CutoverSafe).0, safe);
        // A mailbox that an earlier pass left stopped is one that can be carried, and no reason to end with.
        record(&mut observed, ALL[0], failed(Class::Quota, 1));
        let decision = decide(wanted, &observed, at(9));
        assert_eq!(decision.mailboxes[0].2.phase, Some(MailboxPhase::Ready));
        // Another pass that may begin counts anew.
        observed.pass += 1;
        let free = migration("  stage: Sync\n");
        assert_eq!(decide(&free, &observed, at(9)).status.counts.unwrap().synced, 0);
    }
}

#[test]
fn a_password_that_a_verification_was_refused_is_no_accepted_one() {
    let wanted = migration("  stage: Sync\n");
    let refused = Failure::new(Class::Credentials, "the server refused the password").at("source");
    let first = MailboxRecord { unverified: Some(refused), ..through(counts(10, 0, 0, 0)) };
    let decision = decide(&wanted, &with_first(&wanted, first), at(9));
    let (state, _, message) = told(&decision, Type::CredentialsAccepted);
    assert_eq!(state, "False");
    assert!(message.starts_with("1 mailbox could not log in. one@a.test"), "{message}");
    assert_eq!(told(&decision, Type::Verified).0, "True", "what was proved stays so");
}
