//! The content of a plan's digest, how two plans differ, and what an approval holds.

use super::*;

#[test]
fn only_the_approved_plan_is_carried_out() {
    let mut wanted = migration("  stage: Sync\n");
    let observed = observe(&wanted, true);
    let digest = decide(&wanted, &observed, at(0)).status.plan.unwrap().digest;
    wanted.spec.approved_plan = Some(format!("sha256:{}", "0".repeat(64)));
    let decision = decide(&wanted, &observed, at(0));
    assert!(decision.steps.is_empty() && decision.status.conditions.holds(Type::ReviewRequired));
    assert!(matches!(decision.ending, Some(Ending::Stopped(f)) if f.class == Class::Configuration));
    wanted.spec.approved_plan = Some(digest.clone());
    assert_eq!(syncs(&decide(&wanted, &observed, at(0))).len(), 3);
    wanted.spec.workers.concurrency = 1;
    assert_eq!(
        decide(&wanted, &observed, at(0)).status.plan.unwrap().digest,
        digest,
        "the pace is not the plan"
    );
    wanted.spec.policy.max_message_bytes = Some(5);
    assert_ne!(decide(&wanted, &observed, at(0)).status.plan.unwrap().digest, digest);
}

#[test]
fn a_change_after_approval_holds_the_migration_and_says_what_changed() {
    let mut wanted = migration("  stage: Sync\n");
    let mut observed = observe(&wanted, true);
    let first = decide(&wanted, &observed, at(0));
    wanted.spec.approved_plan = first.status.plan.as_ref().map(|plan| plan.digest.clone());
    wanted.status = Some(first.status);
    // The domains are looked at anew before there is a plan again; the approved plan is not forgotten meanwhile.
    wanted.status = Some(decide(&wanted, &observe(&wanted, false), at(1)).status);
    assert!(wanted.status.as_ref().unwrap().plan.is_none());
    let found = [("one@a.test", Ok(Protocol::Pop3)), ("two@a.test", Ok(Protocol::Pop3))];
    observed.domains.get_mut("a.test").unwrap().discovery = Some(discovery("a.test", &found).into());
    for _ in 0..2 {
        let decision = decide(&wanted, &observed, at(2));
        assert!(syncs(&decision).is_empty() && decision.halt);
        assert_eq!(decision.status.phase, Some(Phase::ReviewRequired));
        let review = decision.status.conditions.of(Type::ReviewRequired).unwrap();
        let change = "a.test: was 2 mailboxes: IMAP 1 · POP3 1";
        assert!(review.message.contains(change), "{}", review.message);
        let Some(Ending::Stopped(failure)) = &decision.ending else { panic!("{:?}", decision.ending) };
        assert!(failure.what.contains(change) && failure.class == Class::Configuration, "{failure}");
        wanted.status = Some(decision.status);
    }
    // Where the approved plan is kept as a whole, the mailbox is named.
    observed.approved = Some(document::Plan::of(&wanted.spec, &observe(&wanted, true)).into());
    let decision = decide(&wanted, &observed, at(2));
    let review = decision.status.conditions.of(Type::ReviewRequired).unwrap();
    let change = "since then one@a.test: was from IMAP mail.a.test:993 (TLS) as one@a.test to one@a.test as one@a.test, is from \
                  POP3 mail.a.test:993";
    assert!(review.message.contains(change), "{}", review.message);
    observed = observe(&wanted, true);
    assert_eq!(syncs(&decide(&wanted, &observed, at(3))).len(), 3, "the approved plan stands again");
}

#[test]
fn the_digest_is_over_all_that_matters_and_nothing_else() {
    let wanted = migration("");
    let observed = observe(&wanted, true);
    let digest = |extra: &str| document::Plan::of(&migration(extra).spec, &observed).digest();
    let plain = digest("");
    for same in [
        "  stage: Sync\n",
        "  workers: {concurrency: 2}\n",
        "  policy: {limits: {perHostConnections: 2}, settleSeconds: 20}\n",
        "  acknowledge: [{finding: MixedProtocols, reason: agreed}]\n",
        "  checklist: {mailboxes: 9}\n",
        "  trigger: {sync: again}\n",
    ] {
        assert_eq!(digest(same), plain, "{same}");
    }
    let differing = [
        "  policy: {verify: Full}\n",
        "  policy: {since: 2019-01-01}\n",
        "  policy: {maxMessageBytes: 5}\n",
        "  mapping: {exclude: [Junk]}\n",
        "  mapping: {folders: [{from: A, to: B}, {from: C, to: D}]}\n",
        "  mapping: {folders: [{from: C, to: D}, {from: A, to: B}]}\n",
    ];
    let mut digests: Vec<String> = differing.iter().map(|extra| digest(extra)).collect();
    let change = |change: &dyn Fn(&mut Observed)| {
        let mut observed = observed.clone();
        change(&mut observed);
        document::Plan::of(&wanted.spec, &observed).digest()
    };
    let mailbox = |change: fn(&mut mailboxes::PlannedMailbox)| {
        move |observed: &mut Observed| {
            let seen = observed.domains.get_mut("a.test").unwrap();
            let mut planned = seen.planned().to_vec();
            change(&mut planned[0]);
            seen.mailboxes = Some(Ok(planned.into()));
        }
    };
    digests.push(change(&mailbox(|m| m.destination = "other@new.test".parse().unwrap())));
    for other in [(Some("bob"), Some("one@a.test")), (Some("one@a.test"), Some("bob")), (None, None)] {
        digests.push(change(&|observed| name_logins(observed, other)));
    }
    digests.push(change(&|observed| {
        let found = [("one@a.test", Ok(Protocol::Imap)), ("two@a.test", Ok(Protocol::Imap))];
        observed.domains.get_mut("a.test").unwrap().discovery = Some(discovery("a.test", &found).into());
    }));
    let mut spec = wanted.spec.clone();
    spec.domains.pop();
    digests.push(document::Plan::of(&spec, &observed).digest());
    digests.push(plain);
    let different: std::collections::BTreeSet<&String> = digests.iter().collect();
    assert_eq!(different.len(), digests.len(), "each change makes another plan");
}

/// Has the first mailbox of a.test logged in to by these names.
fn name_logins(observed: &mut Observed, (source, destination): (Option<&str>, Option<&str>)) {
    let seen = observed.domains.get_mut("a.test").unwrap();
    let mut discovery = DomainDiscovery::clone(seen.discovery.as_deref().unwrap());
    discovery.mailboxes[0].logins =
        Some(LoginNames { source: source.map(Into::into), destination: destination.map(Into::into) });
    seen.discovery = Some(discovery.into());
}

/// A Secret whose login, when the mailbox was to be carried, was not the one in the plan.
fn renamed(ended: i64) -> MailboxRecord {
    let failure = Failure::configuration("logs in as bob now").code(FailureCode::LoginChanged);
    MailboxRecord {
        pass: 1,
        attempts: 1,
        ended: Some(at(ended)),
        failure: Some(failure),
        ..MailboxRecord::default()
    }
}

#[test]
fn a_mailbox_is_carried_by_the_names_of_the_plan() {
    let wanted = migration("  stage: Sync\n");
    let mut observed = observe(&wanted, true);
    name_logins(&mut observed, (Some("one@a.test*boss"), None));
    let decision = decide(&wanted, &observed, at(0));
    let Step::Sync { mailbox, .. } = &decision.steps[0] else { panic!("{:?}", decision.steps) };
    let names = mailbox.logins.clone().unwrap();
    assert_eq!((names.source.as_deref(), names.destination), (Some("one@a.test*boss"), None));
    let plan = decision.plan.unwrap();
    let shown = plan.domains["a.test"].mailboxes["one@a.test"].to_string();
    assert_eq!(shown, "from IMAP mail.a.test:993 (TLS) as one@a.test*boss to one@a.test with no known login");
}

#[test]
fn a_login_that_changed_has_its_domain_looked_at_again_by_an_operator_and_is_told_by_a_command() {
    let wanted = migration("  stage: Sync\n");
    let mut observed = observe(&wanted, true);
    record(&mut observed, "one@a.test", renamed(10));
    let decision = decide(&wanted, &observed, at(1_000));
    assert!(decision.steps.iter().all(|step| !matches!(step, Step::Discover { .. })));
    observed.patience = Patience::Resident;
    let looks = |observed: &Observed, now: i64| {
        let steps = decide(&wanted, observed, at(now)).steps;
        steps.into_iter().filter(|step| matches!(step, Step::Discover { .. })).collect::<Vec<_>>()
    };
    assert_eq!(looks(&observed, 11), [Step::Discover { domain: 0 }], "its own domain, and no other");
    observed.domains.get_mut("a.test").unwrap().round = 3;
    assert_eq!(looks(&observed, 11), [], "a clock that differs must not make a circle of it");
    assert_eq!(looks(&observed, 1_000), [Step::Discover { domain: 0 }]);
    // It was looked at since: discovery ended at second 1.
    record(&mut observed, "one@a.test", renamed(0));
    let decision = decide(&wanted, &observed, at(1_000));
    assert_eq!((decision.steps.len(), syncs(&decision).len()), (3, 3), "it is carried by its new name");
}

#[test]
fn while_domains_are_looked_at_anew_only_what_was_approved_goes_on() {
    let mut wanted = migration("  stage: Sync\n");
    let first = decide(&wanted, &observe(&wanted, true), at(0));
    let digest = first.status.plan.as_ref().unwrap().digest.clone();
    wanted.status = Some(first.status);
    let anew = observe(&wanted, false);
    wanted.spec.approved_plan = Some(digest);
    assert!(!decide(&wanted, &anew, at(1)).halt, "workers carry the approved plan");
    wanted.spec.approved_plan = Some(format!("sha256:{}", "0".repeat(64)));
    assert!(decide(&wanted, &anew, at(1)).halt, "what goes on was never approved");
}

#[test]
fn two_plans_differ_line_by_line() {
    let wanted = migration("  policy: {since: 2019-01-01}\n");
    let before = document::Plan::of(&migration("").spec, &observe(&wanted, true));
    let mut observed = observe(&wanted, true);
    let found = [("one@a.test", Ok(Protocol::Pop3)), ("two@a.test", Err(Class::Credentials))];
    observed.domains.get_mut("a.test").unwrap().discovery = Some(discovery("a.test", &found).into());
    observed.domains.get_mut("b.test").unwrap().mailboxes = Some(Ok(Vec::new().into()));
    let changes = document::Plan::of(&wanted.spec, &observed).changes_since(&before);
    let shown: Vec<String> = changes.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "one@a.test: was from IMAP mail.a.test:993 (TLS) as one@a.test to one@a.test as one@a.test, \
             is from POP3 mail.a.test:993 (TLS) as one@a.test to one@a.test as one@a.test",
            "spec.policy.since: new, 2019-01-01",
            "three@b.test: gone, was from IMAP mail.b.test:993 (TLS) as three@b.test to three@b.test as three@b.test",
            "two@a.test: was from POP3 mail.a.test:993 (TLS) as two@a.test to two@a.test as two@a.test, \
             is from nowhere, since no login was accepted or could be tried, as two@a.test to two@a.test as two@a.test",
        ]
    );
}

/// Has these authorities trusted at the two ends of a domain, as discovery saw at that second.
fn believe(observed: &mut Observed, domain: &str, seconds: i64, ends: [Option<&str>; 2]) {
    let seen = observed.domains.get_mut(domain).unwrap();
    let [source, destination] = ends.map(|end| end.map(str::to_owned));
    let discovery = DomainDiscovery::clone(seen.discovery.as_deref().unwrap());
    let authorities = Some(Authorities { source, destination });
    seen.discovery = Some(DomainDiscovery { authorities, finished: at(seconds), ..discovery }.into());
}

#[test]
fn which_authorities_are_believed_is_part_of_the_plan_whatever_names_them() {
    let wanted = migration("");
    let mut observed = observe(&wanted, true);
    let plan = |observed: &Observed| document::Plan::of(&wanted.spec, observed);
    let without = plan(&observed);
    for domain in ["a.test", "b.test"] {
        believe(&mut observed, domain, 1, [None, None]);
    }
    assert_eq!(plan(&observed).digest(), without.digest(), "the system's alone are no part of it");
    let (old, new) = (format!("sha256:{}", "a".repeat(64)), format!("sha256:{}", "b".repeat(64)));
    believe(&mut observed, "a.test", 1, [Some(&old), None]);
    let source = plan(&observed);
    believe(&mut observed, "a.test", 2, [None, Some(&old)]);
    let destination = plan(&observed);
    assert_eq!([&source, &destination].map(|plan| plan == &without), [false, false]);
    assert_ne!(source.digest(), destination.digest());
    let told =
        |changes: Vec<document::Change>| -> Vec<String> { changes.iter().map(ToString::to_string).collect() };
    assert_eq!(told(source.changes_since(&without)), [format!("a.test: authorities: new, {old}")]);

    // The latest discovery knows the destination, and a part in brief says which authorities they are.
    believe(&mut observed, "b.test", 3, [None, Some(&new)]);
    let changed = plan(&observed);
    let line = format!("spec.destination: authorities: was {old}, is {new}");
    assert_eq!(told(changed.changes_since(&destination)), [line]);
    let in_brief = told(document::changes_in_brief(&destination.brief(), &changed.brief()));
    assert_eq!(in_brief.len(), 1, "{in_brief:?}");
    assert!(
        in_brief[0].starts_with("spec.destination: was ")
            && in_brief[0].contains(", authorities sha256:aaaaaaaaaaaa, is ")
            && in_brief[0].ends_with(", authorities sha256:bbbbbbbbbbbb"),
        "{in_brief:?}"
    );
    let believed = observed.authorities_of("a.test").unwrap();
    assert_eq!((believed.source, believed.destination), (None, Some(new)));
}

#[test]
fn a_plan_that_was_approved_before_plans_knew_of_authorities_stands() {
    let earlier = r#"{"destination":"IMAP imap.new.test:993 (TLS)","rules":{"spec.policy.verify":"Sampled"},"domains":{"a.test":{"rules":{"credentialsRef.name":"a"},"mailboxes":{"one@a.test":{"protocol":"IMAP","server":"IMAP mail.a.test:993 (TLS)","login":"one","destination":"one@a.test","destinationLogin":null}}}}}"#;
    let read: document::Plan = serde_json::from_str(earlier).unwrap();
    assert_eq!(read.digest(), "sha256:453fc5174acce5d8e078c350d1eb2ad471c2dae81c02deea38c42ac0bde5ab0e");
    assert_eq!(serde_json::to_string(&read).unwrap(), earlier);
}
