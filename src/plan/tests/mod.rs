//! Facts in, decision out: what tables say. Beside them what holds for plans and their approval, and the laws that hold for
//! every combination of facts.

mod approval;
mod laws;
mod mutation;
mod schedule;
mod truth;
mod verification;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::api::condition::{Conditions, Reason, Type};
use crate::api::status::Phase;
use crate::api::{MailMigration, Stage, manifest};
use crate::model::address::Address;
use crate::model::endpoint::Endpoint;
use crate::model::evidence::{Authorities, DomainDiscovery, LoginNames, MailboxDiscovery, MailboxSize};
use crate::model::failure::{Class, Failure, FailureCode};
use crate::model::finding::{Code, Finding};
use crate::model::protocol::{Protocol, Tls};
use crate::model::purpose::Purpose;
use crate::model::record::MailboxRecord;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn migration(extra: &str) -> MailMigration {
    let text = format!(
        "apiVersion: mailferry.dev/v1alpha1\nkind: MailMigration\nmetadata: {{name: m, namespace: n}}\nspec:\n  \
         destination: {{imap: {{host: imap.new.test, credentialsRef: {{name: new}}}}}}\n  domains:\n  \
         - {{name: a.test, credentialsRef: {{name: a}}, mailboxes: {{list: [{{address: one@a.test}}, {{address: two@a.test}}]}}}}\n  \
         - {{name: b.test, credentialsRef: {{name: b}}, mailboxes: {{list: [{{address: three@b.test}}]}}}}\n{extra}"
    );
    manifest::read(&[("m.yaml", text)]).unwrap().migrations.remove(0)
}

/// The same migration many times over: reading a manifest compiles the schema's rules each time.
fn staged(stage: Stage, suspend: bool) -> MailMigration {
    static READ: std::sync::LazyLock<MailMigration> = std::sync::LazyLock::new(|| migration(""));
    let mut migration = READ.clone();
    migration.spec.stage = stage;
    migration.spec.suspend = suspend;
    migration
}

fn discovery(domain: &str, mailboxes: &[(&str, Result<Protocol, Class>)]) -> DomainDiscovery {
    let mailbox = |(address, found): &(&str, Result<Protocol, Class>)| MailboxDiscovery {
        address: address.parse().unwrap(),
        endpoint: found.ok().map(|p| Endpoint::new(p, &format!("mail.{domain}"), 993, Tls::Implicit)),
        overridden: false,
        attempts: Vec::new(),
        logins: Some(LoginNames {
            source: Some((*address).to_owned()),
            destination: Some((*address).to_owned()),
        }),
        login_name: None,
        size: found.ok().map(|_| MailboxSize { folders: 1, messages: 10, ..MailboxSize::default() }),
        failure: found.err().map(|class| Failure::new(class, "was refused")),
    };
    DomainDiscovery {
        mailboxes: mailboxes.iter().map(mailbox).collect(),
        ..DomainDiscovery::empty(domain.parse().unwrap(), at(0), at(1))
    }
}

fn observe(migration: &MailMigration, discovered: bool) -> Observed {
    let mut observed = Observed { pass: 1, ..Observed::default() };
    let found = [
        discovery("a.test", &[("one@a.test", Ok(Protocol::Imap)), ("two@a.test", Ok(Protocol::Pop3))]),
        discovery("b.test", &[("three@b.test", Ok(Protocol::Imap))]),
    ];
    for (domain, found) in migration.spec.domains.iter().zip(found) {
        let mailboxes = mailboxes::plan_mailboxes(&migration.spec, domain, &[]).map(Arc::from);
        let seen = DomainObserved {
            mailboxes: Some(mailboxes),
            discovery: discovered.then(|| found.into()),
            ..DomainObserved::default()
        };
        observed.domains.insert(domain.name.clone(), seen);
    }
    observed
}

fn record(observed: &mut Observed, mailbox: &str, record: MailboxRecord) {
    let address: Address = mailbox.parse().unwrap();
    observed.mailboxes.insert(address, MailboxObserved { record, ..MailboxObserved::default() });
}

fn finished() -> MailboxRecord {
    MailboxRecord { pass: 1, attempts: 1, ended: Some(at(5)), ..MailboxRecord::default() }
}

fn failed(class: Class, attempts: u32) -> MailboxRecord {
    MailboxRecord { attempts, failure: Some(Failure::new(class, "went wrong")), ..finished() }
}

fn steps_for(decision: &Decision, wanted: Purpose) -> Vec<String> {
    let source = |step: &Step| match step {
        Step::Sync { mailbox, purpose, .. } if *purpose == wanted => Some(mailbox.source.to_string()),
        Step::Sync { .. } | Step::Discover { .. } => None,
    };
    decision.steps.iter().filter_map(source).collect()
}

fn syncs(decision: &Decision) -> Vec<String> {
    steps_for(decision, Purpose::Delta)
}

#[test]
fn a_pilot_carries_the_first_mailboxes_of_each_domain_and_ends_without_the_others() {
    let wanted = migration("  stage: Sync\n  policy: {pilot: {mailboxes: 1}}\n");
    let mut observed = observe(&wanted, true);
    assert_eq!(syncs(&decide(&wanted, &observed, at(0))), ["one@a.test", "three@b.test"]);
    record(&mut observed, "one@a.test", finished());
    record(&mut observed, "three@b.test", finished());
    let decision = decide(&wanted, &observed, at(10));
    assert_eq!((decision.steps.len(), &decision.ending), (0, &Some(Ending::Reached)));
    assert_eq!(decision.status.phase, Some(Phase::Piloted));
    for (kind, holds, reason) in [
        ("Ready", "True", "Succeeded"),
        ("Synced", "False", "PilotOnly"),
        ("Verified", "False", "Waiting"),
        ("CutoverSafe", "False", "Waiting"),
    ] {
        let condition = decision.status.conditions.iter().find(|c| c.type_ == kind).unwrap();
        assert_eq!((condition.status.as_str(), condition.reason.as_str()), (holds, reason), "{condition:?}");
    }
    let ready = |of: usize| decision.mailboxes[of].2.conditions.iter().find(|c| c.type_ == "Ready").unwrap();
    assert_eq!([0, 1].map(|of| ready(of).status.as_str()), ["True", "False"]);
    assert_eq!(ready(1).message, "It is not part of the pilot.");
    // Without the pilot the others have their turn; those of the pilot go once more, for it may have left messages out.
    let whole = migration("  stage: Sync\n");
    assert!(syncs(&decide(&whole, &observed, at(20))).contains(&"two@a.test".to_owned()));
}

#[test]
fn every_domain_is_discovered_before_anything_is_copied() {
    let wanted = migration("  stage: Sync\n");
    let decision = decide(&wanted, &observe(&wanted, false), at(0));
    assert_eq!(decision.steps, [Step::Discover { domain: 0 }, Step::Discover { domain: 1 }]);
    assert_eq!((decision.status.phase, decision.ending), (Some(Phase::Discovering), None));
    let mut observed = observe(&wanted, true);
    observed.domains.get_mut("b.test").unwrap().discovery = None;
    observed.domains.get_mut("b.test").unwrap().discovering = true;
    let decision = decide(&wanted, &observed, at(0));
    assert!(decision.steps.is_empty() && decision.ending.is_none());
}

#[test]
fn mailboxes_that_arrive_in_one_are_carried_one_at_a_time_and_know_each_other() {
    let wanted = migration("  stage: Sync\n  mapping: {addresses: {three@b.test: One@a.test}}\n");
    for patience in [Patience::Command, Patience::Resident] {
        let mut observed = Observed { patience, ..observe(&wanted, true) };
        let decision = decide(&wanted, &observed, at(0));
        assert_eq!(syncs(&decision), ["one@a.test", "two@a.test"]);
        let beside = |decision: &Decision| match &decision.steps[0] {
            Step::Sync { mailbox, .. } => mailbox.beside.iter().map(ToString::to_string).collect::<Vec<_>>(),
            Step::Discover { .. } => Vec::new(),
        };
        assert_eq!(beside(&decision), ["three@b.test"]);
        // While the first is carried, the other waits, and nothing is at its end.
        record(
            &mut observed,
            "one@a.test",
            MailboxRecord { pass: 1, attempts: 1, ..MailboxRecord::default() },
        );
        observed.mailboxes.get_mut(&"one@a.test".parse().unwrap()).unwrap().running = true;
        record(&mut observed, "two@a.test", finished());
        let decision = decide(&wanted, &observed, at(10));
        assert!(decision.steps.is_empty() && decision.ending.is_none(), "{decision:?}");
        // However it ended, the other has its turn.
        for ended in [finished(), failed(Class::Credentials, 1)] {
            record(&mut observed, "one@a.test", ended);
            let decision = decide(&wanted, &observed, at(10));
            assert_eq!(
                (syncs(&decision), beside(&decision)),
                (vec!["three@b.test".to_owned()], vec!["one@a.test".to_owned()])
            );
        }
    }
}

#[test]
fn the_stage_plan_copies_nothing() {
    let wanted = migration("  stage: Plan\n");
    let decision = decide(&wanted, &observe(&wanted, true), at(0));
    assert!(decision.steps.is_empty());
    assert_eq!((decision.status.phase, decision.ending), (Some(Phase::Planned), Some(Ending::Reached)));
    assert!(decision.status.conditions.holds(Type::Ready) && !decision.status.conditions.holds(Type::Synced));
    let messages = decision.status.messages.unwrap();
    assert_eq!((messages.source, messages.pending), (30, 30));
    let domain = &decision.status.domains[0];
    assert!(domain.mixed && domain.protocols[&Protocol::Pop3] == 1);
}

#[test]
fn mailboxes_are_copied_as_many_at_a_time_as_allowed() {
    let wanted = migration("  stage: Sync\n  workers: {concurrency: 2}\n");
    let mut observed = observe(&wanted, true);
    assert_eq!(syncs(&decide(&wanted, &observed, at(0))), ["one@a.test", "two@a.test"]);
    observed.mailboxes.entry("one@a.test".parse().unwrap()).or_default().running = true;
    assert_eq!(syncs(&decide(&wanted, &observed, at(0))), ["two@a.test"]);
    for mailbox in ["one@a.test", "two@a.test", "three@b.test"] {
        record(&mut observed, mailbox, finished());
    }
    let decision = decide(&wanted, &observed, at(0));
    assert_eq!(decision.ending, Some(Ending::Reached));
    assert!(
        decision.status.conditions.holds(Type::Synced) && decision.status.conditions.holds(Type::Verified)
    );
}

#[test]
fn what_mends_itself_is_tried_again_and_the_rest_stops_its_mailbox_alone() {
    let wanted = migration("  stage: Sync\n");
    let mut observed = observe(&wanted, true);
    record(&mut observed, "one@a.test", failed(Class::Unreachable, 1));
    record(&mut observed, "two@a.test", failed(Class::Quota, 1));
    record(&mut observed, "three@b.test", finished());
    let decision = decide(&wanted, &observed, at(5));
    assert!(decision.wake.is_some_and(|wake| wake > at(5)) && decision.ending.is_none());
    assert_eq!(syncs(&decide(&wanted, &observed, at(100))), ["one@a.test"]);
    record(&mut observed, "one@a.test", finished());
    let decision = decide(&wanted, &observed, at(100));
    let Some(Ending::Stopped(failure)) = &decision.ending else { panic!("{:?}", decision.ending) };
    assert_eq!((failure.class, failure.sentence().as_str()), (Class::Quota, "two@a.test: went wrong"));
    let stalled = decision.status.conditions.of(Type::Stalled).unwrap();
    assert_eq!(stalled.reason, "DestinationFull");
    assert_eq!(decision.status.counts.unwrap().synced, 2);
}

#[test]
fn a_mailbox_that_cannot_log_in_stops_nobody_else() {
    let wanted = migration("  stage: Sync\n");
    let mut observed = observe(&wanted, true);
    observed.domains.get_mut("a.test").unwrap().discovery = Some(
        discovery("a.test", &[("one@a.test", Err(Class::Credentials)), ("two@a.test", Ok(Protocol::Imap))])
            .into(),
    );
    assert_eq!(syncs(&decide(&wanted, &observed, at(0))), ["two@a.test", "three@b.test"]);
    record(&mut observed, "two@a.test", finished());
    record(&mut observed, "three@b.test", finished());
    let decision = decide(&wanted, &observed, at(0));
    let Some(Ending::Stopped(failure)) = &decision.ending else { panic!("{:?}", decision.ending) };
    assert_eq!(failure.class, Class::Credentials);
    assert_eq!(decision.status.counts.unwrap().blocked, 1);
    assert!(!decision.status.conditions.holds(Type::CredentialsAccepted));
}

#[test]
fn what_the_customer_said_is_held_against_what_was_found() {
    use crate::model::checklist::ItemState;
    let state = |extra: &str, field: &str| {
        let wanted = migration(extra);
        let observed = observe(&wanted, true);
        let items = checklist::items(&wanted.spec, &observed).unwrap();
        let item = items.into_iter().find(|item| item.field == field).unwrap();
        assert!(item.question.len() > 8, "{field} has no question");
        item.state
    };
    let (answered, contradicted) = (ItemState::Answered, ItemState::Contradicted);
    let domain = |answer: &str| format!("  checklist: {{domains: [{{name: A.test, {answer}}}]}}\n");
    for (extra, field, wanted) in [
        (String::new(), "mailboxes", ItemState::Discovered),
        (String::new(), "domains.protocols", ItemState::Discovered),
        (String::new(), "privacy", ItemState::Unknown),
        ("  checklist: {privacy: in the EU}\n".to_owned(), "privacy", answered),
        ("  checklist: {mailboxes: 3}\n".to_owned(), "mailboxes", answered),
        ("  checklist: {mailboxes: 4}\n".to_owned(), "mailboxes", contradicted),
        ("  checklist: {sizes: {totalGigabytes: 1}}\n".to_owned(), "sizes.totalGigabytes", answered),
        (domain("protocols: [IMAP]"), "domains.protocols", contradicted),
        (domain("protocols: [IMAP, POP3]"), "domains.protocols", answered),
        (domain("mailHost: MAIL.a.test"), "domains.mailHost", answered),
        (domain("mailHost: old.a.test"), "domains.mailHost", contradicted),
        (domain("sampleAddress: one@a.test"), "domains.sampleAddress", answered),
        (domain("sampleAddress: boss@a.test"), "domains.sampleAddress", contradicted),
    ] {
        assert_eq!(state(&extra, field), wanted, "{extra}{field}");
    }

    let mut wanted = migration(&domain("protocols: [IMAP]"));
    let mut observed = observe(&wanted, true);
    for mailbox in ["one@a.test", "two@a.test", "three@b.test"] {
        record(&mut observed, mailbox, finished());
    }
    wanted.spec.stage = Stage::Sync;
    let decision = decide(&wanted, &observed, at(9));
    let finding = &decision.status.domains[0].findings[0];
    assert_eq!((finding.code, finding.acknowledged), (Code::ProtocolContradicted, false));
    assert_eq!(finding.message, "The checklist says IMAP alone, and 1 mailbox is read by POP3.");
    assert!(!decision.status.conditions.holds(Type::CutoverSafe));
    let agreed = migration(&format!(
        "{}  acknowledge: [{{finding: ProtocolContradicted, reason: cleared up with Ms Ito}}]\n  stage: Sync\n",
        domain("protocols: [IMAP]")
    ));
    assert!(decide(&agreed, &observed, at(9)).status.conditions.holds(Type::CutoverSafe));
}

#[test]
fn suspended_is_not_stalled() {
    let wanted = migration("  stage: Sync\n  suspend: true\n");
    let decision = decide(&wanted, &observe(&wanted, true), at(0));
    assert!(decision.steps.is_empty() && !decision.status.conditions.holds(Type::Stalled));
    assert_eq!(decision.status.phase, Some(Phase::Suspended));
}

#[test]
fn an_operator_tries_again_without_taking_back_what_it_said() {
    let wanted = migration("  stage: Sync\n");
    let mut observed = Observed { patience: Patience::Resident, ..observe(&wanted, true) };
    record(&mut observed, "one@a.test", failed(Class::Credentials, 1));
    record(&mut observed, "two@a.test", finished());
    record(&mut observed, "three@b.test", finished());
    let stopped = |decision: &Decision| {
        let stalled = decision.status.conditions.holds(Type::Stalled);
        stalled && matches!(&decision.ending, Some(Ending::Stopped(f)) if f.class == Class::Credentials)
    };
    let early = decide(&wanted, &observed, at(6));
    let due = early.wake.expect("it looks again");
    assert!(stopped(&early) && early.steps.is_empty() && due > at(15) && due <= at(20), "{due}");
    let again = decide(&wanted, &observed, due);
    assert_eq!(syncs(&again), ["one@a.test"]);
    assert!(stopped(&again), "a second try is no reason to take back what was said of the first");
    let address: Address = "one@a.test".parse().unwrap();
    observed.mailboxes.get_mut(&address).unwrap().running = true;
    let trying = decide(&wanted, &observed, due);
    assert!(stopped(&trying) && trying.steps.is_empty());
    let throttled = observed.mailboxes.get_mut(&address).unwrap();
    throttled.record = MailboxRecord { ended: None, ..failed(Class::Throttled, 1) };
    let waiting = decide(&wanted, &observed, due);
    assert!(waiting.ending.is_none(), "a worker that waits because the server asked for it is at work");
    let (_, _, status) = &waiting.mailboxes[0];
    assert_eq!(status.conditions.of(Type::Ready).unwrap().reason, "Throttled");
    record(&mut observed, "one@a.test", finished());
    assert_eq!(decide(&wanted, &observed, due).ending, Some(Ending::Reached));
}

#[test]
fn an_operator_looks_again_at_a_domain_that_could_not_be_read() {
    let wanted = migration("  stage: Sync\n");
    let mut observed = Observed { patience: Patience::Resident, ..observe(&wanted, true) };
    let mut seen = discovery("b.test", &[]);
    seen.failure = Some(Failure::configuration("Secret \"b\" does not exist"));
    observed.domains.get_mut("b.test").unwrap().discovery = Some(seen.clone().into());
    let discovers = |observed: &Observed, now| {
        decide(&wanted, observed, now).steps.contains(&Step::Discover { domain: 1 })
    };
    assert!(!discovers(&observed, at(5)) && discovers(&observed, at(60)));
    observed.domains.get_mut("b.test").unwrap().discovering = true;
    let decision = decide(&wanted, &observed, at(60));
    assert!(!decision.steps.contains(&Step::Discover { domain: 1 }));
    observed.domains.get_mut("b.test").unwrap().discovering = false;
    // A domain that took an hour is left alone for longer.
    seen.started = at(-3600);
    observed.domains.get_mut("b.test").unwrap().discovery = Some(seen.into());
    assert!(!discovers(&observed, at(3600)) && discovers(&observed, at(5 * 3600)));
    observed.patience = Patience::Command;
    assert!(!discovers(&observed, at(5 * 3600)), "a command ends");
}

#[test]
fn a_mailbox_that_was_closed_when_it_was_asked_and_took_mail_since_is_open() {
    let wanted = migration("  stage: Sync\n");
    let mut observed = observe(&wanted, true);
    let closed =
        |mailbox: &str| Finding::about(Code::DestinationMailboxClosed, mailbox, "is not open".to_owned());
    let mut seen =
        discovery("a.test", &[("one@a.test", Ok(Protocol::Imap)), ("two@a.test", Ok(Protocol::Imap))]);
    seen.findings = vec![closed("one@a.test"), closed("two@a.test")];
    observed.domains.get_mut("a.test").unwrap().discovery = Some(seen.into());
    let told = |observed: &Observed| {
        let status = decide(&wanted, observed, at(10)).status;
        status.domains[0].findings.iter().find(|f| f.code == Code::DestinationMailboxClosed).map(|f| f.count)
    };
    assert_eq!(told(&observed), Some(2));
    record(&mut observed, "one@a.test", finished());
    record(&mut observed, "two@a.test", failed(Class::Credentials, 1));
    assert_eq!(told(&observed), Some(1));
    record(&mut observed, "two@a.test", finished());
    assert_eq!(told(&observed), None);
}

#[test]
fn mail_that_went_through_fits_however_little_room_is_left_beside_it() {
    let wanted = migration("  stage: Sync\n");
    let mut observed = observe(&wanted, true);
    let mut seen = discovery("a.test", &[("one@a.test", Ok(Protocol::Imap))]);
    seen.findings = vec![Finding::about(
        Code::DestinationRoomShort,
        "one@a.test",
        "5 GB are to go, 1 GB is free".to_owned(),
    )];
    // Discovery looked again after the mail had arrived.
    seen.finished = at(3600);
    observed.domains.get_mut("a.test").unwrap().discovery = Some(seen.into());
    let told = |observed: &Observed| {
        let status = decide(&wanted, observed, at(3700)).status;
        status.domains[0].findings.iter().any(|f| f.code == Code::DestinationRoomShort)
    };
    assert!(told(&observed));
    record(&mut observed, "one@a.test", failed(Class::Quota, 1));
    assert!(told(&observed));
    record(&mut observed, "one@a.test", finished());
    assert!(!told(&observed));
}

#[test]
fn what_keeps_pods_from_working_is_said_while_work_is_waited_for() {
    let wanted = migration("  stage: Sync\n");
    let mut observed = Observed { patience: Patience::Resident, ..observe(&wanted, true) };
    observed.obstacles =
        vec![Obstacle { reason: Reason::PodUnschedulable, message: "No node takes it.".to_owned() }];
    let decision = decide(&wanted, &observed, at(0));
    for kind in [Type::Ready, Type::Reconciling] {
        let condition = decision.status.conditions.of(kind).unwrap();
        assert_eq!(
            (condition.reason.as_str(), condition.message.as_str()),
            ("PodUnschedulable", "No node takes it.")
        );
    }
}

#[test]
fn workers_are_halted_by_whatever_forbids_to_write() {
    let observed = observe(&staged(Stage::Sync, false), true);
    let halts = |wanted: &MailMigration| decide(wanted, &observed, at(0)).halt;
    assert!(!halts(&staged(Stage::Sync, false)));
    assert!(halts(&staged(Stage::Sync, true)) && halts(&staged(Stage::Plan, false)));
    let mut other = staged(Stage::Sync, false);
    other.spec.approved_plan = Some(format!("sha256:{}", "0".repeat(64)));
    assert!(halts(&other));
}

#[test]
fn a_domain_is_the_same_in_every_spelling_wherever_it_is_named() {
    let mut spec = staged(Stage::Plan, false).spec;
    let names = ["münchen.example", "MÜNCHEN.example.", "xn--mnchen-3ya.example", "XN--MNCHEN-3YA.EXAMPLE."];
    for (written, meant) in names.iter().flat_map(|written| names.map(|meant| (*written, meant))) {
        meant.clone_into(&mut spec.domains[0].name);
        spec.acknowledge = serde_json::from_value(serde_json::json!([
            {"finding": "MixedProtocols", "domain": written, "reason": "agreed"}
        ]))
        .unwrap();
        spec.checklist =
            serde_json::from_value(serde_json::json!({"domains": [{"name": written, "dnsHost": "x"}]}))
                .unwrap();
        let code = crate::model::finding::Code::MixedProtocols;
        assert!(findings::is_acknowledged(&spec, code, meant), "{written} for {meant}");
        assert!(checklist::answers_for(&spec, meant).is_some(), "{written} for {meant}");
        assert!(!findings::is_acknowledged(&spec, code, "b.test"), "{written}");
    }
    let digest = |name: &str| {
        let mut spec = spec.clone();
        name.clone_into(&mut spec.domains[0].name);
        document::Plan::of(&spec, &Observed::default()).digest()
    };
    assert_eq!(names.map(digest), [(); 4].map(|()| digest(names[0])));
}
