//! Discovery against real servers: Dovecot, a name service, a certificate authority, and a web server for autoconfig.

mod hints;
mod makes;
mod sessions;
mod web;
mod world;

use crate::support;
use crate::support::ca::{Ca, Validity};
use crate::support::corpus::Corpus;
use crate::support::dns::Record;
use crate::support::dovecot::{Access, Dovecot, LOOPBACK, User};
use crate::support::process::free_address;
use crate::support::web::{DOCUMENT, Web, document};
use mailferry::discovery::{Chosen, Step};
use mailferry::model::endpoint::Endpoint;
use mailferry::model::evidence::{Grade, Outcome, Signal};
use mailferry::model::failure::Class;
use mailferry::model::finding::Code;
use mailferry::model::protocol::{Protocol, Tls};
use world::{World, by_master, codes, mailbox, protocols};

#[tokio::test]
async fn service_records_lead_to_imap_and_a_master_user() {
    let ca = Ca::new();
    let server = Dovecot::builder()
        .imaps(LOOPBACK)
        .tls(&ca.issue(&["imap.a.test"]))
        .user(User::new("alice@a.test", "own"))
        .user(User::new("anna@a.test", "own"))
        .master("madmin", "master-secret")
        .start();
    server.mailbox("alice@a.test").seed(Corpus::new(7).messages(40));
    let world = World::new(
        ca,
        &[
            Record::srv("_imaps._tcp.a.test", "imap.a.test", server.imaps().port()),
            Record::srv_none("_pop3s._tcp.a.test"),
            Record::srv_none("_pop3._tcp.a.test"),
            Record::a("imap.a.test", "127.0.0.1"),
            Record::mx("a.test", "mx.filter.test", 10),
        ],
    );
    let mut request = world.request(
        "a.test",
        ["alice@a.test", "anna@a.test", "nobody@a.test"].map(|a| by_master(a, "master-secret")).to_vec(),
    );
    request.shared_credentials = true;
    let before = format!(
        "{:?}",
        server.mailbox("alice@a.test").command("STATUS INBOX (MESSAGES UNSEEN RECENT UIDNEXT)")
    );
    let account = format!("{:?}", server.mailbox("alice@a.test").read_all());
    let found = world.discover(&request).await;

    assert_eq!(protocols(&found), [Some(Protocol::Imap), Some(Protocol::Imap), None], "{found:#?}");
    assert_eq!(found.mailboxes[0].size.as_ref().unwrap().messages, 40);
    assert_eq!(found.failure, None);
    let best = &found.candidates[0];
    assert_eq!((best.grade, best.mailboxes, best.approved, best.fidelity), (Grade::A, 2, true, 100));
    assert_eq!(best.why, "logged in as 2 of 3 mailboxes");
    // A mailbox that the server does not know is not a wrong password, and no protocol was guessed that is not offered.
    assert_eq!(codes(&found), [Code::MailboxUnknown, Code::ProtocolNotOffered]);
    let unknown = found.mailboxes[2].failure.as_ref().unwrap();
    assert_eq!(unknown.class, Class::Credentials);
    assert!(unknown.what.contains("does not know this mailbox"), "{unknown}");
    assert!(found.evidence.iter().all(|e| e.signal != Signal::UsualName && e.signal != Signal::Pop3));
    let by_mx = found.evidence.iter().find(|e| e.signal == Signal::Mx).unwrap();
    assert_eq!((by_mx.grade, by_mx.statement.as_str()), (Grade::D, "a.test MX 10 → mx.filter.test"));
    assert!(world.steps.0.lock().unwrap().contains(&Step::Logins { done: 3, total: 3 }));

    // Nothing changed at the source.
    let after = format!(
        "{:?}",
        server.mailbox("alice@a.test").command("STATUS INBOX (MESSAGES UNSEEN RECENT UIDNEXT)")
    );
    assert_eq!(before, after);
    assert_eq!(account, format!("{:?}", server.mailbox("alice@a.test").read_all()));
}

#[tokio::test]
async fn a_domain_of_pop3_alone_is_found_as_such() {
    let ca = Ca::new();
    let server = Dovecot::builder()
        .pop3(LOOPBACK)
        .tls(&ca.issue(&["pop.b.test"]))
        .user(User::new("bob@b.test", "bob-secret"))
        .user(User::new("dora@b.test", "dora-secret"))
        .start();
    server.mailbox("bob@b.test").seed(Corpus::new(3).inbox_only().messages(5));
    let world = World::new(
        ca,
        &[
            Record::srv("_pop3._tcp.b.test", "pop.b.test", server.pop3().port()),
            Record::a("pop.b.test", "127.0.0.1"),
        ],
    );
    let account = format!("{:?}", server.mailbox("bob@b.test").read_all());
    let request = world
        .request("b.test", vec![mailbox("bob@b.test", "bob-secret"), mailbox("dora@b.test", "dora-secret")]);
    let found = world.discover(&request).await;
    assert_eq!(protocols(&found), [Some(Protocol::Pop3), Some(Protocol::Pop3)], "{found:#?}");
    assert_eq!(codes(&found), [Code::PopMailboxesPresent, Code::PopMailboxesPresent]);
    assert_eq!(found.mailboxes[0].size.as_ref().unwrap().messages, 5);
    assert_eq!(found.servers[0].endpoint.tls, Tls::StartTLS);
    assert!(found.servers[0].tls.is_some());
    assert_eq!(
        account,
        format!("{:?}", server.mailbox("bob@b.test").read_all()),
        "nothing was marked as read"
    );
}

#[tokio::test]
async fn each_mailbox_of_a_split_domain_gets_its_own_protocol() {
    let ca = Ca::new();
    let server = Dovecot::builder()
        .imaps(LOOPBACK)
        .pop3s(LOOPBACK)
        .tls(&ca.issue(&["mail.c.test"]))
        .user(User::new("carol@c.test", "carol-secret"))
        .user(User::new("chris@c.test", "chris-secret").only(Access::Pop3))
        .user(User::new("clara@c.test", "clara-secret"))
        .start();
    let world = World::new(
        ca,
        &[
            Record::srv("_imaps._tcp.c.test", "mail.c.test", server.imaps().port()),
            Record::srv("_pop3s._tcp.c.test", "mail.c.test", server.pop3s().port()),
            Record::a("mail.c.test", "127.0.0.1"),
        ],
    );
    let mut without = mailbox("dave@c.test", "");
    without.login = None;
    let request = world.request(
        "c.test",
        vec![
            mailbox("carol@c.test", "carol-secret"),
            mailbox("chris@c.test", "chris-secret"),
            mailbox("clara@c.test", "wrong-secret"),
            without,
        ],
    );
    // However often it is looked at: the POP3 mailbox stays one, and the wrong password is tried twice and no more.
    for run in 0..3 {
        let found = world.discover(&request).await;
        assert_eq!(protocols(&found)[..2], [Some(Protocol::Imap), Some(Protocol::Pop3)], "{found:#?}");
        assert_eq!(found.mailboxes[1].attempts.len(), 2);
        assert_eq!(found.failure, None);
        let mut expected = vec![
            Code::CredentialsMissing,
            Code::PopMailboxesPresent,
            Code::MixedProtocols,
            Code::CredentialsRejected,
        ];
        expected.extend((run > 0).then_some(Code::LoginAttemptsSpent));
        expected.sort_unstable();
        assert_eq!(codes(&found), expected, "{:#?}", found.findings);
        let wrong = found.mailboxes[2].failure.as_ref().unwrap();
        assert_eq!(wrong.class, Class::Credentials);
        assert_eq!(found.mailboxes[3].failure.as_ref().unwrap().class, Class::Configuration);
        let pop3 = found.candidates.iter().find(|c| c.endpoint.protocol == Protocol::Pop3).unwrap();
        assert_eq!(pop3.why, "logged in as 1 of 4 mailboxes");
    }
    let refused = server.log().lines().filter(|line| line.contains("clara@c.test")).count();
    assert_eq!(refused, 2, "{}", server.log());
}

#[tokio::test]
async fn an_override_is_the_only_thing_that_is_tried() {
    let ca = Ca::new();
    let start = |name: &str| {
        Dovecot::builder()
            .imaps(LOOPBACK)
            .pop3s(LOOPBACK)
            .tls(&ca.issue(&[name]))
            .user(User::new("olga@o.test", "olga-secret"))
            .user(User::new("otto@o.test", "otto-secret"))
            .start()
    };
    let (server, legacy) = (start("mail.o.test"), start("legacy.hoster.test"));
    let world = World::new(
        ca,
        &[
            Record::srv("_imaps._tcp.o.test", "mail.o.test", server.imaps().port()),
            Record::srv("_pop3s._tcp.o.test", "mail.o.test", server.pop3s().port()),
            Record::a("mail.o.test", "127.0.0.1"),
            Record::a("legacy.hoster.test", "127.0.0.1"),
        ],
    );
    let there = Endpoint::new(Protocol::Imap, "legacy.hoster.test", legacy.imaps().port(), Tls::Implicit);
    let mut by_pop3 = mailbox("olga@o.test", "olga-secret");
    by_pop3.chosen = Some(Chosen { protocol: Protocol::Pop3, endpoint: None, reason: None });
    let mut elsewhere = mailbox("otto@o.test", "otto-secret");
    let reason = Some("still at the old hoster".to_owned());
    elsewhere.chosen = Some(Chosen { protocol: Protocol::Imap, endpoint: Some(there.clone()), reason });
    let request = world.request("o.test", vec![by_pop3, elsewhere, mailbox("otto@o.test", "otto-secret")]);
    let found = world.discover(&request).await;
    let hosts: Vec<_> = found
        .mailboxes
        .iter()
        .map(|m| m.endpoint.as_ref().map(|e| (e.protocol, e.host.as_str(), m.overridden)).unwrap())
        .collect();
    assert_eq!(
        hosts,
        [
            (Protocol::Pop3, "mail.o.test", true),
            (Protocol::Imap, "legacy.hoster.test", true),
            (Protocol::Imap, "mail.o.test", false)
        ]
    );
    assert_eq!(found.candidates[0].endpoint, there, "what is said by hand stands first");
    assert!(found.mailboxes.iter().all(|m| m.attempts.len() == 1), "{found:#?}");
}

#[tokio::test]
async fn autoconfig_over_https_vouches_for_a_host_outside_the_domain() {
    let ca = Ca::new();
    let server = Dovecot::builder()
        .imaps(LOOPBACK)
        .tls(&ca.issue(&["imap.provider.test"]))
        .user(User::new("erin@e.test", "erin-secret"))
        .start();
    let answer = document(&[("imap", "imap.provider.test", server.imaps().port(), "SSL")]);
    let _web = Web::start("127.77.1.1", Some(&ca.issue(&["autoconfig.e.test"])), DOCUMENT, answer);
    let world = World::new(
        ca,
        &[
            Record::a("autoconfig.e.test", "127.77.1.1"),
            Record::a("e.test", "127.77.1.2"),
            Record::a("imap.provider.test", "127.0.0.1"),
        ],
    );
    let found = world.discover(&world.request("e.test", vec![mailbox("erin@e.test", "erin-secret")])).await;
    assert_eq!(protocols(&found), [Some(Protocol::Imap)], "{found:#?}");
    let said =
        found.evidence.iter().find(|e| e.signal == Signal::Autoconfig && e.endpoint.is_some()).unwrap();
    assert_eq!((said.grade, said.trusted), (Grade::C, true));
    assert!(said.statement.starts_with("autoconfig of autoconfig.e.test → IMAP imap.provider.test:"));
    assert!(found.evidence.iter().all(|e| !e.statement.contains("http://")), "plain HTTP was not needed");
}

#[tokio::test]
async fn autoconfig_over_plain_http_or_a_bad_certificate_vouches_for_nobody() {
    let ca = Ca::new();
    let server = Dovecot::builder()
        .imaps(LOOPBACK)
        .tls(&ca.issue(&["imap.provider.test"]))
        .user(User::new("erin@f.test", "erin-secret"))
        .start();
    let answer = || document(&[("imap", "imap.provider.test", server.imaps().port(), "SSL")]);
    let _plain = Web::start("127.77.2.1", None, DOCUMENT, answer());
    let _misnamed = Web::start("127.77.2.1", Some(&ca.issue(&["other.test"])), DOCUMENT, answer());
    let world = World::new(
        ca,
        &[Record::a("autoconfig.f.test", "127.77.2.1"), Record::a("imap.provider.test", "127.0.0.1")],
    );
    let request = world.request("f.test", vec![mailbox("erin@f.test", "erin-secret")]);
    let found = world.discover(&request).await;
    assert_eq!(protocols(&found), [None], "{found:#?}");
    assert_eq!(codes(&found), [Code::HostNeedsApproval]);
    assert_eq!(found.failure.as_ref().unwrap().class, Class::Refused);
    assert_eq!(found.candidates[0].why, "outside the domain and not approved");
    let refused = found.evidence.iter().any(|e| {
        e.signal == Signal::Autoconfig && matches!(&e.outcome, Outcome::Failed(f) if f.class == Class::Tls)
    });
    assert!(refused, "{:#?}", found.evidence);
    assert!(!server.log().contains("erin@f.test"));

    // The same host, named in the manifest, is used.
    let mut request = request;
    request.servers =
        vec![Endpoint::new(Protocol::Imap, "imap.provider.test", server.imaps().port(), Tls::Implicit)];
    assert_eq!(protocols(&world.discover(&request).await), [Some(Protocol::Imap)]);
}

#[tokio::test]
async fn a_redirect_is_followed_over_https_and_never_away_from_it() {
    let ca = Ca::new();
    let server = Dovecot::builder()
        .imaps(LOOPBACK)
        .tls(&ca.issue(&["imap.g.test"]))
        .user(User::new("gina@g.test", "gina-secret"))
        .start();
    let away = |to: &str| {
        format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    };
    let _first = Web::start(
        "127.77.3.1",
        Some(&ca.issue(&["autoconfig.g.test"])),
        DOCUMENT,
        away("https://conf.g.test/c.xml"),
    );
    let _second = Web::start(
        "127.77.3.2",
        Some(&ca.issue(&["conf.g.test"])),
        "/c.xml",
        document(&[("imap", "imap.%EMAILDOMAIN%", server.imaps().port(), "SSL")]),
    );
    let _third = Web::start(
        "127.77.3.3",
        Some(&ca.issue(&["g.test"])),
        "/.well-known/autoconfig/mail/config-v1.1.xml",
        away("http://conf.g.test/c.xml"),
    );
    let world = World::new(
        ca,
        &[
            Record::a("autoconfig.g.test", "127.77.3.1"),
            Record::a("conf.g.test", "127.77.3.2"),
            Record::a("g.test", "127.77.3.3"),
            Record::a("imap.g.test", "127.0.0.1"),
        ],
    );
    let found = world.discover(&world.request("g.test", vec![mailbox("gina@g.test", "gina-secret")])).await;
    assert_eq!(protocols(&found), [Some(Protocol::Imap)], "{found:#?}");
    let statements: Vec<_> = found.evidence.iter().map(|e| e.statement.as_str()).collect();
    assert!(statements.iter().any(|s| s.starts_with("autoconfig of conf.g.test →")), "{statements:#?}");
    assert!(statements.iter().any(|s| s.contains("redirects away from HTTPS")), "{statements:#?}");
}

#[tokio::test]
async fn no_password_goes_to_a_server_with_a_bad_certificate() {
    for (names, validity, why) in [
        (["imap.h.test"], Validity::EXPIRED, "it has expired"),
        (["www.h.test"], Validity::GOOD, "it is for \"www.h.test\""),
    ] {
        let ca = Ca::new();
        let server = Dovecot::builder()
            .imaps(LOOPBACK)
            .imap(LOOPBACK)
            .tls(&ca.issue_for(&names, validity))
            .user(User::new("hans@h.test", "hans-secret"))
            .start();
        let world = World::new(
            ca,
            &[
                Record::srv("_imaps._tcp.h.test", "imap.h.test", server.imaps().port()),
                Record::srv("_imap._tcp.h.test", "imap.h.test", server.imap().port()),
                Record::a("imap.h.test", "127.0.0.1"),
            ],
        );
        let found =
            world.discover(&world.request("h.test", vec![mailbox("hans@h.test", "hans-secret")])).await;
        let failure = found.failure.as_ref().unwrap();
        assert_eq!(failure.class, Class::Tls, "{failure}");
        assert!(failure.what.contains(why), "{failure}");
        assert_eq!(failure.place[0], "h.test");
        assert_eq!(codes(&found), [Code::CertificateRejected, Code::CertificateRejected]);
        assert!(found.mailboxes[0].attempts.is_empty());
        assert!(found.candidates.iter().all(|c| c.why.contains(why)));
        let log = server.log();
        assert!(!log.contains("hans@h.test") && !log.contains("auth failed"), "{log}");
    }
}

#[tokio::test]
async fn closed_ports_and_missing_names_say_so() {
    let closed = free_address("127.0.0.1".parse().unwrap());
    let world = World::new(
        Ca::new(),
        &[
            Record::srv("_imaps._tcp.i.test", "imap.i.test", closed.port()),
            Record::srv_none("_pop3._tcp.i.test"),
            Record::a("imap.i.test", "127.0.0.1"),
        ],
    );
    let found = world.discover(&world.request("i.test", vec![mailbox("ina@i.test", "ina-secret")])).await;
    let failure = found.failure.as_ref().unwrap();
    assert_eq!(failure.class, Class::Unreachable);
    assert!(failure.sentence().starts_with("i.test: imap.i.test:"), "{failure}");
    assert!(failure.what.starts_with("refuses connections"), "{failure}");
    assert_eq!(codes(&found), [Code::ServerUnreachable, Code::ProtocolNotOffered]);
    assert!(found.candidates[0].why.starts_with("refuses connections"));

    let found =
        world.discover(&world.request("nosuch.test", vec![mailbox("x@nosuch.test", "x-secret")])).await;
    let failure = found.failure.as_ref().unwrap();
    assert_eq!(failure.class, Class::Unreachable);
    assert_eq!(failure.sentence(), "nosuch.test: the name nosuch.test does not exist in the DNS");
    assert_eq!(codes(&found), [Code::NoServerFound]);
    assert_eq!(
        found.mailboxes[0].failure.as_ref().unwrap().sentence(),
        "x@nosuch.test: the name nosuch.test does not exist in the DNS"
    );
}

#[tokio::test]
async fn a_foreign_host_in_a_service_record_needs_approval() {
    let ca = Ca::new();
    let server = Dovecot::builder()
        .imaps(LOOPBACK)
        .tls(&ca.issue(&["imap.thief.test"]))
        .user(User::new("jana@j.test", "jana-secret"))
        .start();
    let world = World::new(
        ca,
        &[
            Record::srv("_imaps._tcp.j.test", "imap.thief.test", server.imaps().port()),
            Record::a("imap.thief.test", "127.0.0.1"),
        ],
    );
    let found = world.discover(&world.request("j.test", vec![mailbox("jana@j.test", "jana-secret")])).await;
    assert_eq!(codes(&found), [Code::HostNeedsApproval], "{found:#?}");
    assert_eq!(found.findings[0].subject.as_deref(), Some("imap.thief.test"));
    assert!(!found.candidates[0].approved);
    assert_eq!(found.failure.as_ref().unwrap().class, Class::Refused);
    assert!(!server.log().contains("jana@j.test"));
}

#[tokio::test]
async fn addresses_inside_are_refused_unless_they_are_allowed() {
    let ca = Ca::new();
    let server = Dovecot::builder()
        .imaps(LOOPBACK)
        .tls(&ca.issue(&["imap.k.test"]))
        .user(User::new("karl@k.test", "karl-secret"))
        .start();
    let world = World::new(
        ca,
        &[
            Record::srv("_imaps._tcp.k.test", "imap.k.test", server.imaps().port()),
            Record::a("imap.k.test", "127.0.0.1"),
        ],
    );
    let request = world.request("k.test", vec![mailbox("karl@k.test", "karl-secret")]);
    let found = world.discover_allowing(&request, "10.0.0.0/8").await;
    assert_eq!(codes(&found), [Code::AddressNotAllowed], "{found:#?}");
    let failure = found.failure.as_ref().unwrap();
    assert_eq!(failure.class, Class::Refused);
    assert!(failure.hint.as_ref().unwrap().contains("allowedNetworks"));
    assert!(found.servers.is_empty() && found.mailboxes[0].attempts.is_empty());
    assert_eq!(protocols(&world.discover(&request).await), [Some(Protocol::Imap)]);
}

#[tokio::test]
async fn usual_names_are_tried_where_nothing_is_published() {
    let ca = Ca::new();
    let server = Dovecot::builder()
        .imaps("127.77.4.1:993".parse().unwrap())
        .pop3s("127.77.4.1:995".parse().unwrap())
        .tls(&ca.issue(&["mail.l.test", "imap.l.test"]))
        .user(User::new("lena@l.test", "lena-secret"))
        .user(User::new("leon@l.test", "leon-secret").only(Access::Pop3))
        .start();
    // The same server under two names is one server: a POP3 mailbox is not refused twice by IMAP.
    let world = World::new(
        ca,
        &[
            Record::a("imap.l.test", "127.77.4.1"),
            Record::a("mail.l.test", "127.77.4.1"),
            Record::mx("l.test", "mail.l.test", 10),
        ],
    );
    let request = world.request(
        "l.test",
        vec![mailbox("lena@l.test", "lena-secret"), mailbox("leon@l.test", "leon-secret")],
    );
    let found = world.discover(&request).await;
    assert_eq!(protocols(&found), [Some(Protocol::Imap), Some(Protocol::Pop3)], "{found:#?}");
    assert_eq!(found.mailboxes[1].attempts.len(), 2);
    assert_eq!(found.candidates[0].endpoint.port, 993);
    assert_eq!(codes(&found), [Code::PopMailboxesPresent, Code::MixedProtocols]);
    drop(server);
}

#[tokio::test]
async fn a_shared_password_that_is_wrong_is_tried_on_three_mailboxes_and_no_more() {
    let ca = Ca::new();
    let addresses = ["m1@m.test", "m2@m.test", "m3@m.test", "m4@m.test", "m5@m.test", "m6@m.test"];
    let mut builder = Dovecot::builder().imaps(LOOPBACK).tls(&ca.issue(&["imap.m.test"]));
    for address in addresses {
        builder = builder.user(User::new(address, "own"));
    }
    let server = builder.master("madmin", "master-secret").start();
    let world = World::new(
        ca,
        &[
            Record::srv("_imaps._tcp.m.test", "imap.m.test", server.imaps().port()),
            Record::a("imap.m.test", "127.0.0.1"),
        ],
    );
    let mut request =
        world.request("m.test", addresses.map(|address| by_master(address, "other-secret")).to_vec());
    request.shared_credentials = true;
    let found = world.discover(&request).await;
    let tried: usize = found.mailboxes.iter().map(|m| m.attempts.len()).sum();
    assert_eq!(tried, 3, "{found:#?}");
    assert!(found.mailboxes.iter().all(|m| m.failure.as_ref().unwrap().class == Class::Credentials));
    assert!(found.mailboxes[5].failure.as_ref().unwrap().what.starts_with("was not tried"));
    assert_eq!(codes(&found), [Code::CredentialsRejected; 6]);
    assert_eq!(found.failure.as_ref().unwrap().class, Class::Credentials);
}

#[tokio::test]
async fn a_server_without_tls_is_used_only_when_the_manifest_names_it_so() {
    let ca = Ca::new();
    let server = Dovecot::builder().imap(LOOPBACK).user(User::new("nora@n.test", "nora-secret")).start();
    let answer = document(&[("imap", "imap.n.test", server.imap().port(), "plain")]);
    let _web = Web::start("127.77.5.1", Some(&ca.issue(&["autoconfig.n.test"])), DOCUMENT, answer);
    let world = World::new(
        ca,
        &[Record::a("autoconfig.n.test", "127.77.5.1"), Record::a("imap.n.test", "127.0.0.1")],
    );
    let mut request = world.request("n.test", vec![mailbox("nora@n.test", "nora-secret")]);
    let found = world.discover(&request).await;
    assert_eq!(found.failure.as_ref().unwrap().class, Class::Refused, "{found:#?}");
    assert_eq!(found.candidates[0].why, "not encrypted and not named in the manifest");
    assert!(!server.log().contains("nora@n.test"));

    request.servers = vec![Endpoint::new(Protocol::Imap, "imap.n.test", server.imap().port(), Tls::None)];
    let found = world.discover(&request).await;
    assert_eq!(protocols(&found), [Some(Protocol::Imap)]);
    assert_eq!(codes(&found), [Code::PlaintextTransport]);
}

#[tokio::test]
async fn signals_that_disagree_are_both_looked_at_and_named() {
    let ca = Ca::new();
    let server = Dovecot::builder()
        .imaps(LOOPBACK)
        .tls(&ca.issue_for(&["new.p.test"], Validity { from: -1, until: 9 }))
        .user(User::new("pia@p.test", "pia-secret"))
        .start();
    let closed = free_address("127.0.0.1".parse().unwrap());
    let answer = document(&[("imap", "old.p.test", closed.port(), "SSL")]);
    let _web = Web::start("127.77.6.1", Some(&ca.issue(&["autoconfig.p.test"])), DOCUMENT, answer);
    let world = World::new(
        ca,
        &[
            Record::srv("_imaps._tcp.p.test", "new.p.test", server.imaps().port()),
            Record::a("autoconfig.p.test", "127.77.6.1"),
            Record::a("new.p.test", "127.0.0.1"),
            Record::a("old.p.test", "127.0.0.1"),
        ],
    );
    let found = world.discover(&world.request("p.test", vec![mailbox("pia@p.test", "pia-secret")])).await;
    assert_eq!(protocols(&found), [Some(Protocol::Imap)], "{found:#?}");
    assert_eq!(codes(&found), [Code::CertificateExpires, Code::ConflictingConfiguration]);
    let hosts: Vec<_> = found.candidates.iter().map(|c| c.endpoint.host.as_str()).collect();
    assert_eq!(hosts, ["new.p.test", "old.p.test"], "the loser stays visible");
}

/// A document that names one server and the login name of its mailboxes.
fn naming(host: &str, port: u16, username: &str) -> String {
    let xml = format!(
        "<clientConfig version=\"1.1\"><emailProvider id=\"x\"><incomingServer type=\"imap\"><hostname>{host}</hostname>\
         <port>{port}</port><socketType>SSL</socketType><username>{username}</username></incomingServer></emailProvider></clientConfig>"
    );
    support::web::reply("200 OK", "Content-Type: text/xml\r\n", &xml)
}

#[tokio::test]
async fn a_published_login_name_is_tried_first_and_within_the_count_of_refusals() {
    let ca = Ca::new();
    let server = Dovecot::builder()
        .imaps(LOOPBACK)
        .tls(&ca.issue(&["imap.n.test"]))
        .user(User::new("rosa", "rosa-secret"))
        .user(User::new("otto@n.test", "otto-secret"))
        .user(User::new("wolf", "wolf-secret"))
        .start();
    let document = naming("imap.n.test", server.imaps().port(), "%EMAILLOCALPART%");
    let _web = Web::start("127.77.30.1", Some(&ca.issue(&["autoconfig.n.test"])), DOCUMENT, document);
    let world = World::new(
        ca,
        &[Record::a("autoconfig.n.test", "127.77.30.1"), Record::a("imap.n.test", "127.0.0.1")],
    );
    let mut given = mailbox("rosa@n.test", "rosa-secret");
    given.name = None;
    let mailboxes = vec![
        mailbox("rosa@n.test", "rosa-secret"),
        // The document is wrong for him: the address is what the server knows.
        mailbox("otto@n.test", "otto-secret"),
        mailbox("wolf@n.test", "other-secret"),
    ];
    for _ in 0..3 {
        let found = world.discover(&world.request("n.test", mailboxes.clone())).await;
        assert_eq!(protocols(&found), [Some(Protocol::Imap), Some(Protocol::Imap), None], "{found:#?}");
        assert_eq!(found.mailboxes[0].login_name.as_deref(), Some("rosa"));
        assert_eq!((found.mailboxes[0].attempts.len(), &found.mailboxes[1].login_name), (1, &None));
        assert_eq!(found.mailboxes[2].failure.as_ref().unwrap().class, Class::Credentials);
    }
    let log = server.log();
    let refused = |user: &str| {
        log.lines()
            .filter(|line| line.contains("auth failed") && line.contains(&format!("user=<{user}")))
            .count()
    };
    assert_eq!(refused("wolf"), 2, "by both names together, in three runs: {log}");
    // A name that somebody gave is the name.
    let found = world.discover(&world.request("n.test", vec![given])).await;
    assert_eq!(protocols(&found), [None], "{found:#?}");
}

#[tokio::test]
async fn where_nothing_is_published_the_exchanger_comes_first_and_the_web_host_last() {
    let ca = Ca::new();
    let start = |at: &str, name: &str, messages: usize| {
        let server = Dovecot::builder()
            .imaps(format!("{at}:993").parse().unwrap())
            .tls(&ca.issue(&[name]))
            .user(User::new("gerd@g.test", "gerd-secret"))
            .start();
        server.mailbox("gerd@g.test").seed(Corpus::new(5).inbox_only().messages(messages));
        server
    };
    let (mail, web) = (start("127.77.31.1", "zmail.g.test", 50), start("127.77.31.2", "g.test", 3));
    let world = World::new(
        ca,
        &[
            Record::a("zmail.g.test", "127.77.31.1"),
            Record::a("g.test", "127.77.31.2"),
            Record::mx("g.test", "zmail.g.test", 10),
        ],
    );
    let found = world.discover(&world.request("g.test", vec![mailbox("gerd@g.test", "gerd-secret")])).await;
    assert_eq!(found.mailboxes[0].endpoint.as_ref().unwrap().host, "zmail.g.test", "{found:#?}");
    assert_eq!(found.mailboxes[0].size.as_ref().unwrap().messages, 50);
    assert_eq!(codes(&found), [Code::SeveralServersAnswer], "{:#?}", found.findings);
    let text = &found.findings[0].message;
    assert!(text.contains("zmail.g.test is read") && text.contains("g.test answers IMAP"), "{text}");
    assert!(!web.log().contains("Login:"), "{}", web.log());
    drop(mail);
}

#[tokio::test]
async fn a_name_server_that_fails_is_asked_again_told_and_moves_nobody() {
    let ca = Ca::new();
    let server = |at: &str, name: &str| {
        Dovecot::builder()
            .imaps(at.parse().unwrap())
            .tls(&ca.issue(&[name]))
            .user(User::new("hedi@h.test", "hedi-secret"))
            .start()
    };
    let (published, guessed) =
        (server("127.77.32.1:993", "store.h.test"), server("127.77.32.2:993", "imap.h.test"));
    let hosts = [Record::a("store.h.test", "127.77.32.1"), Record::a("imap.h.test", "127.77.32.2")];
    let well =
        World::new(ca, &[&hosts[..], &[Record::srv("_imaps._tcp.h.test", "store.h.test", 993)]].concat());
    let mailboxes = || vec![mailbox("hedi@h.test", "hedi-secret")];
    let before = well.discover(&well.request("h.test", mailboxes())).await;
    assert_eq!(before.read_from()[0].host, "store.h.test", "{before:#?}");
    // The same world, whose name server fails at service records.
    let failing = support::dns::Failing::before(well.dns.addr(), 33);
    let network = |at| {
        mailferry::net::network::Network::new(Some(at), vec!["127.0.0.0/8".parse().unwrap()], 8).unwrap()
    };
    let mut request = well.request("h.test", mailboxes());
    request.before = before.read_from();
    let ask = async |request: &mailferry::discovery::Request| {
        let network = network(failing.addr());
        mailferry::discovery::discover(&network, request, &well.guard, &world::Now, &well.steps).await
    };
    let found = ask(&request).await;
    assert_eq!(found.read_from(), before.read_from(), "{found:#?}");
    assert!(codes(&found).contains(&Code::NamesUnanswered), "{:#?}", found.findings);
    let srv = found.evidence.iter().filter(|e| e.signal == Signal::Srv && e.statement.contains("_imaps"));
    assert!(srv.into_iter().all(|e| matches!(e.outcome, Outcome::Failed(_))), "{found:#?}");
    assert!(failing.asked("_imaps._tcp.h.test") >= 2, "it is asked again");
    assert!(!guessed.log().contains("Login:"), "{}", guessed.log());
    drop(published);
}
