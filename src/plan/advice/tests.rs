//! Each code is raised by what it is about, and by nothing else.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use super::*;
use crate::api::{MailMigration, manifest};
use crate::model::capability::Capabilities;
use crate::model::endpoint::Endpoint;
use crate::model::evidence::{
    Attempt, Candidate, DomainDiscovery, Evidence, Grade, MailboxDiscovery, MailboxSize, Outcome,
    ServerFacts, Signal,
};
use crate::model::failure::{Class, Failure};
use crate::model::finding::{Code, Finding};
use crate::model::protocol::{Protocol, Tls};
use crate::model::service::SessionFacts;
use crate::plan::findings;
use crate::plan::mailboxes::plan_mailboxes;
use crate::plan::observed::{DomainObserved, MailboxObserved, Observed};

fn now() -> Timestamp {
    "2026-11-23T09:00:00Z".parse().unwrap()
}

fn migration(domain: &str, extra: &str) -> MailMigration {
    let text = format!(
        "apiVersion: mailferry.dev/v1alpha1\nkind: MailMigration\nmetadata: {{name: m, namespace: n}}\nspec:\n  \
         destination: {{imap: {{host: imap.new.test, credentialsRef: {{name: new}}}}}}\n  domains:\n  \
         - {{name: a.test, credentialsRef: {{name: a}}, mailboxes: {{list: [{{address: one@a.test}}, {{address: two@a.test}}]}}{domain}}}\n{extra}"
    );
    manifest::read(&[("m.yaml", text)]).unwrap().migrations.remove(0)
}

/// The discovery of `a.test` with two mailboxes on an ordinary IMAP server.
fn world() -> DomainDiscovery {
    let endpoint = Endpoint::new(Protocol::Imap, "mail.a.test", 993, Tls::Implicit);
    let size = MailboxSize { folders: 1, messages: 10, bytes: 1_000, largest: 500, ..MailboxSize::default() };
    let mailbox = |address: &str| MailboxDiscovery {
        address: address.parse().unwrap(),
        endpoint: Some(endpoint.clone()),
        overridden: false,
        attempts: Vec::new(),
        logins: None,
        login_name: None,
        size: Some(size.clone()),
        failure: None,
    };
    DomainDiscovery {
        domain: "a.test".parse().unwrap(),
        started: now(),
        finished: now(),
        evidence: vec![mx("a.test MX 10 → mail.a.test", Outcome::Offered)],
        services: Vec::new(),
        sessions: vec![SessionFacts::of(&endpoint, Capabilities::parse("IMAP4rev1 CONDSTORE"))],
        fidelity: None,
        servers: vec![ServerFacts {
            endpoint: endpoint.clone(),
            greeting: "OK".to_owned(),
            capabilities: Capabilities::parse("IMAP4rev1"),
            mechanisms: Vec::new(),
            tls: None,
        }],
        candidates: vec![Candidate {
            endpoint: endpoint.clone(),
            grade: Grade::A,
            fidelity: 100,
            approved: true,
            mailboxes: 2,
            why: "won".to_owned(),
        }],
        mailboxes: vec![mailbox("one@a.test"), mailbox("two@a.test")],
        destination: None,
        authorities: None,
        rules: Vec::new(),
        findings: Vec::new(),
        failure: None,
    }
}

fn mx(statement: &str, outcome: Outcome) -> Evidence {
    Evidence {
        signal: Signal::Mx,
        grade: Grade::D,
        at: now(),
        endpoint: None,
        trusted: false,
        outcome,
        statement: statement.to_owned(),
        excerpt: None,
    }
}

/// The codes that are raised for a spec and a world.
fn raised(domain: &str, extra: &str, change: impl FnOnce(&mut DomainDiscovery)) -> BTreeSet<Code> {
    found(domain, extra, change, now()).into_iter().map(|finding| finding.code).collect()
}

/// The findings of a spec and a world at a moment.
fn found(
    domain: &str,
    extra: &str,
    change: impl FnOnce(&mut DomainDiscovery),
    now: Timestamp,
) -> Vec<Finding> {
    let migration = migration(domain, extra);
    let spec = &migration.spec;
    let mut discovery = world();
    change(&mut discovery);
    let seen = DomainObserved {
        mailboxes: Some(plan_mailboxes(spec, &spec.domains[0], &[]).map(Arc::from)),
        discovery: Some(discovery.into()),
        ..DomainObserved::default()
    };
    let mut observed = Observed { pass: 1, ..Observed::default() };
    let mut carried = MailboxObserved::default();
    carried.record.counts.excluded = u64::from(spec.policy.since.is_some());
    observed.mailboxes.insert("one@a.test".parse().unwrap(), carried);
    observed.domains.insert("a.test".to_owned(), seen);
    let of_domain = findings::of_domain(spec, &spec.domains[0], &observed.domains["a.test"], &observed, now);
    let found: Vec<_> = of_domain.chain(findings::of_migration(spec, &observed, now)).collect();
    for finding in &found {
        assert!(finding.message.ends_with('.') || finding.message.contains(": "), "{}", finding.message);
    }
    found
}

fn only(codes: &[Code]) -> BTreeSet<Code> {
    codes.iter().copied().collect()
}

#[test]
fn an_ordinary_world_raises_nothing() {
    assert_eq!(raised("", "", |_| ()), only(&[]));
}

#[test]
fn each_answer_of_the_customer_has_its_finding() {
    for (answer, code) in [
        ("clientStores: {count: 3, gigabytes: 9}", Code::ClientStoresPresent),
        ("devices: {popLeavesCopy: false}", Code::PopRemovesMail),
        ("devices: {popLeavesCopy: true, popRemovesAfterDays: 14}", Code::PopRemovesMail),
        ("otherData: {calendars: true}", Code::OtherDataNotCarried),
        ("specialMailboxes: {publicFolders: 2}", Code::SpecialMailboxesNotCarried),
        ("sizes: {archives: true}", Code::SpecialMailboxesNotCarried),
        ("specialMailboxes: {legalHold: 1}", Code::LegalHold),
        ("retention: {policies: two years}", Code::RetentionRuns),
        ("mailFlow: {journaling: true}", Code::JournalingRuns),
        ("mailFlow: {senders: two scanners}", Code::OldServerSenders),
        ("destination: {mailboxesExist: false}", Code::DestinationNotReady),
        ("destination: {holdsMail: true}", Code::DestinationHoldsMail),
        ("destination: {multiFactor: true}", Code::MultiFactorLogins),
        ("dates: {cutover: 2026-12-01}", Code::DeadlineNear),
        ("dates: {freeze: 2026-11-22}", Code::DeadlinePassed),
        ("deadlines: [{what: the old contract, date: 2026-11-23}]", Code::DeadlineNear),
        ("domains: [{name: a.test, multiFactor: true}]", Code::MultiFactorLogins),
        ("domains: [{name: a.test, addressAllowList: true}]", Code::AddressAllowList),
        ("mailboxes: 5", Code::MailboxCountContradicted),
        ("domains: [{name: a.test, mailHost: old.a.test}]", Code::HostContradicted),
        ("domains: [{name: a.test, protocols: [POP3]}]", Code::ProtocolContradicted),
        ("domains: [{name: a.test, sampleAddress: boss@a.test}]", Code::SampleAddressUnknown),
    ] {
        assert_eq!(raised("", &format!("  checklist: {{{answer}}}\n"), |_| ()), only(&[code]), "{answer}");
    }
    for calm in [
        "retention: {policies: two years, paused: true}",
        "devices: {popLeavesCopy: true, popRemovesAfterDays: 0}",
        "destination: {mailboxesExist: true, domainVerified: true, licensed: true, messageLimitMegabytes: 1}",
        "dates: {cutover: 2027-02-01}, bandwidth: {megabitsPerSecond: 10}",
        "otherData: {calendars: false}",
    ] {
        assert_eq!(raised("", &format!("  checklist: {{{calm}}}\n"), |_| ()), only(&[]), "{calm}");
    }
}

#[test]
fn each_thing_in_the_world_has_its_finding() {
    type Change = fn(&mut DomainDiscovery);
    let microsoft = [Code::EwsEnds, Code::SendingPasswordsEnd];
    let table: Vec<(Change, Vec<Code>)> = vec![
        (
            |d| d.evidence = vec![mx("a.test MX 0 → a-test.mail.protection.outlook.com", Outcome::Offered)],
            [&microsoft[..], &[Code::DualHomed]].concat(),
        ),
        (|d| d.evidence = vec![mx("a.test MX 1 → smtp.google.com", Outcome::Offered)], vec![Code::DualHomed]),
        (
            |d| d.evidence = vec![mx("a.test MX 1 → mx1.pphosted.com", Outcome::Offered)],
            vec![Code::GatewayInFront],
        ),
        (|d| d.evidence = vec![mx("a.test MX 1 → notgoogle.com", Outcome::Offered)], vec![]),
        (
            |d| d.evidence = vec![mx("a.test MX says that the domain takes no mail", Outcome::NotOffered)],
            vec![Code::DomainTakesNoMail],
        ),
        (|d| d.sessions[0].capabilities = Capabilities::parse("IMAP4rev1"), vec![Code::NoChangeTracking]),
        (|d| d.mailboxes[0].size = Some(MailboxSize::default()), vec![Code::MailboxEmpty]),
        (|d| d.mailboxes[0].size.as_mut().unwrap().messages = 500_001, vec![Code::TooManyMessages]),
        (|d| d.mailboxes[0].size.as_mut().unwrap().bytes = 51 * GIGABYTE, vec![Code::MailboxLarge]),
        (
            |d| {
                let gmail = Endpoint::new(Protocol::Imap, "imap.gmail.com", 993, Tls::Implicit);
                d.servers[0].endpoint = gmail.clone();
                d.mailboxes.iter_mut().for_each(|m| m.endpoint = Some(gmail.clone()));
                d.mailboxes[0].size.as_mut().unwrap().bytes = 30 * GIGABYTE;
            },
            vec![Code::DailyLimit, Code::LabelsAreFolders],
        ),
        (
            |d| d.sessions[0].capabilities = Capabilities::parse("IMAP4rev1 CONDSTORE X-GM-EXT-1"),
            vec![Code::LabelsAreFolders],
        ),
        (
            |d| refuse(d, "outlook.office365.com"),
            [&microsoft[..], &[Code::BasicAuthenticationRemoved]].concat(),
        ),
        (|d| refuse(d, "imap.gmail.com"), vec![Code::AppPasswordNeeded]),
        (|d| refuse(d, "mail.a.test"), vec![]),
    ];
    for (at, (change, codes)) in table.into_iter().enumerate() {
        assert_eq!(raised("", "", change), only(&codes), "row {at}");
    }
}

/// A host refuses the first mailbox's password, and is a candidate.
fn refuse(discovery: &mut DomainDiscovery, host: &str) {
    let endpoint = Endpoint::new(Protocol::Imap, host, 993, Tls::Implicit);
    let failure = Some(Failure::new(Class::Credentials, "LOGIN failed"));
    discovery.candidates[0].endpoint = endpoint.clone();
    discovery.mailboxes[0].endpoint = None;
    discovery.mailboxes[0].size = None;
    discovery.mailboxes[0].attempts = vec![Attempt { endpoint, failure, by_token: false }];
}

#[test]
fn the_manifest_and_the_world_together_have_their_findings() {
    let none = |_: &mut DomainDiscovery| ();
    let by_pop = |d: &mut DomainDiscovery| {
        d.mailboxes[0].overridden = true;
        d.mailboxes[0].endpoint = Some(Endpoint::new(Protocol::Pop3, "mail.a.test", 995, Tls::Implicit));
    };
    let rule = |pattern: &str| format!(", overrides: [{{match: {{pattern: {pattern}}}, protocol: POP3}}]");
    assert_eq!(raised(&rule("nobody"), "", none), only(&[Code::OverrideUnused]));
    assert_eq!(raised(&rule("one"), "", by_pop), only(&[Code::OverrideLosesData]));
    assert_eq!(raised("", "  policy: {verify: Sizes}\n", none), only(&[Code::VerifiedBySizeOnly]));
    assert_eq!(raised("", "  policy: {since: 2020-01-01}\n", none), only(&[Code::RulesLeaveMailOut]));
    let merging = "  mapping: {addresses: {one@a.test: two@a.test}}\n";
    assert_eq!(raised("", merging, none), only(&[Code::AddressesMerged]));
    let limit = "  checklist: {destination: {messageLimitMegabytes: 35}}\n";
    let large = |d: &mut DomainDiscovery| d.mailboxes[0].size.as_mut().unwrap().largest = 36 * MEGABYTE;
    assert_eq!(raised("", limit, large), only(&[Code::MessageOverLimit]));
    let said = "  checklist: {sizes: {totalGigabytes: 10}}\n";
    let more = |d: &mut DomainDiscovery| d.mailboxes[0].size.as_mut().unwrap().bytes = 13 * GIGABYTE;
    assert_eq!(raised("", said, more), only(&[Code::SizeContradicted]));
    // 40 GB at 8 Mbit/s are 40,000 s: less than a day; at 80 kbit/s they are 47 days.
    let hurry = "  policy: {limits: {bytesPerSecond: 10000}}\n  checklist: {dates: {cutover: 2026-12-31}}\n";
    let much = |d: &mut DomainDiscovery| d.mailboxes[0].size.as_mut().unwrap().bytes = 40 * GIGABYTE;
    assert_eq!(raised("", hurry, much), only(&[Code::TimeTooShort]));
}

#[test]
fn what_is_said_of_a_day_stays_as_it_is_until_the_day_is_over() {
    let microsoft = |d: &mut DomainDiscovery| {
        d.evidence = vec![mx("a.test MX 0 → a.mail.protection.outlook.com", Outcome::Offered)];
    };
    let cutover = "  checklist: {dates: {cutover: 2026-12-20}}\n";
    let slow = "  policy: {limits: {bytesPerSecond: 10000}}\n  checklist: {dates: {cutover: 2027-01-05}}\n";
    let large = |d: &mut DomainDiscovery| d.mailboxes[0].size.as_mut().unwrap().bytes = 40 * GIGABYTE;
    let texts = |extra: &str, change: &dyn Fn(&mut DomainDiscovery), day: &str| -> Vec<String> {
        let now = format!("{day}T09:00:00Z").parse().unwrap();
        found("", extra, change, now).into_iter().map(|finding| finding.message).collect()
    };
    for (extra, change, days, over) in [
        ("", &microsoft as &dyn Fn(&mut DomainDiscovery), ["2026-11-23", "2026-12-31"], "2027-01-01"),
        ("", &microsoft, ["2027-01-02", "2027-04-01"], "2027-04-02"),
        (cutover, &|_| (), ["2026-12-01", "2026-12-20"], "2026-12-21"),
        (slow, &large, ["2026-11-23", "2026-12-05"], "2027-01-06"),
    ] {
        let [before, later] = days.map(|day| texts(extra, change, day));
        assert_eq!(before, later, "{extra}");
        assert_ne!(before, [""; 0], "{extra}");
        assert_ne!(later, texts(extra, change, over), "{extra}");
    }
    assert_eq!(texts(cutover, &|_| (), "2026-12-21"), ["the cutover: 2026-12-20, which is over."]);
}
