//! The signals beside mail's own: providers, Autodiscover, JMAP, DAV, `ManageSieve`, Exchange, Zimbra and tenants. The web
//! sides are HTTPS servers of an authority of their own, with answers as real servers give them.

use std::io::Write;
use std::net::TcpListener;

use mailferry::model::evidence::{DomainDiscovery, Evidence, Grade, Outcome, Signal};
use mailferry::model::failure::Class;
use mailferry::model::fidelity::DataKind;
use mailferry::model::finding::Code;
use mailferry::model::protocol::Protocol;
use mailferry::model::service::Service;

use super::world::{World, codes, mailbox, protocols};
use crate::support::ca::Ca;
use crate::support::dns::Record;
use crate::support::dovecot::{Dovecot, LOOPBACK, User};
use crate::support::process::free_address;
use crate::support::web::{DOCUMENT, Web, document, reply};

const POX: &str = "/autodiscover/autodiscover.xml";
const JSON: &str = "Content-Type: application/json\r\n";

fn said(found: &DomainDiscovery, signal: Signal) -> Vec<&Evidence> {
    found.evidence.iter().filter(|evidence| evidence.signal == signal).collect()
}

fn has(found: &DomainDiscovery, statement: &str) -> bool {
    found.evidence.iter().any(|evidence| evidence.statement.starts_with(statement))
}

#[track_caller]
fn assert_said(found: &DomainDiscovery, statement: &str) {
    let all: Vec<_> = found.evidence.iter().map(|evidence| &evidence.statement).collect();
    assert!(has(found, statement), "{statement} is not among {all:#?}");
}

fn services(found: &DomainDiscovery) -> Vec<(Service, Grade, &str)> {
    found.services.iter().map(|facts| (facts.service, facts.grade, facts.place.as_str())).collect()
}

/// The answer of Autodiscover about one IMAP server.
fn autodiscover(host: &str, port: u16) -> String {
    let xml = format!(
        "<?xml version=\"1.0\"?><Autodiscover xmlns=\"http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006\">\
         <Response xmlns=\"http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a\"><Account>\
         <AccountType>email</AccountType><Action>settings</Action><Protocol><Type>IMAP</Type><Server>{host}</Server>\
         <Port>{port}</Port><SSL>on</SSL></Protocol></Account></Response></Autodiscover>"
    );
    reply("200 OK", "Content-Type: text/xml\r\n", &xml)
}

#[tokio::test]
async fn autodiscover_over_https_vouches_as_autoconfig_does_and_is_told_no_password() {
    let ca = Ca::new();
    let server = Dovecot::builder()
        .imaps(LOOPBACK)
        .tls(&ca.issue(&["imap.provider.test"]))
        .user(User::new("rosa@r.test", "rosa-secret"))
        .start();
    let places = vec![(POX, autodiscover("imap.provider.test", server.imaps().port()))];
    let web = Web::with_places("127.77.10.1", Some(&ca.issue(&["autodiscover.r.test"])), places);
    let world = World::new(
        ca,
        &[
            Record::srv(
                "_imaps._tcp.r.test",
                "old.r.test",
                free_address("127.0.0.1".parse().unwrap()).port(),
            ),
            Record::a("autodiscover.r.test", "127.77.10.1"),
            Record::a("imap.provider.test", "127.0.0.1"),
            Record::a("old.r.test", "127.0.0.1"),
        ],
    );
    let found = world.discover(&world.request("r.test", vec![mailbox("rosa@r.test", "rosa-secret")])).await;
    assert_eq!(codes(&found), [Code::ConflictingConfiguration], "{:#?}", found.findings);
    let text = "For IMAP, service records name old.r.test and Autodiscover names imap.provider.test.";
    assert_eq!(found.findings[0].message, text);
    assert_eq!(protocols(&found), [Some(Protocol::Imap)], "{found:#?}");
    assert_said(&found, "autodiscover of autodiscover.r.test → IMAP imap.provider.test:");
    assert!(said(&found, Signal::Autodiscover).iter().any(|evidence| evidence.trusted));
    let asked = web.asked();
    assert!(asked.iter().any(|text| text.contains("<EMailAddress>rosa@r.test</EMailAddress>")), "{asked:#?}");
    assert!(
        asked.iter().all(|text| !text.contains("secret") && !text.to_lowercase().contains("authorization"))
    );
}

#[tokio::test]
async fn autodiscover_at_a_host_that_dns_alone_names_vouches_for_nobody() {
    let ca = Ca::new();
    let server = Dovecot::builder()
        .imaps(LOOPBACK)
        .tls(&ca.issue(&["imap.thief.test"]))
        .user(User::new("rosa@s.test", "rosa-secret"))
        .start();
    let places = vec![(POX, autodiscover("imap.thief.test", server.imaps().port()))];
    let web = Web::with_places("127.77.11.1", Some(&ca.issue(&["web.thief.test"])), places);
    let world = World::new(
        ca,
        &[
            Record::srv("_autodiscover._tcp.s.test", "web.thief.test", 443),
            Record::a("web.thief.test", "127.77.11.1"),
            Record::a("imap.thief.test", "127.0.0.1"),
        ],
    );
    let found = world.discover(&world.request("s.test", vec![mailbox("rosa@s.test", "rosa-secret")])).await;
    assert_said(&found, "_autodiscover._tcp SRV → web.thief.test:443");
    assert_said(&found, "autodiscover of web.thief.test → IMAP imap.thief.test:");
    assert_eq!(protocols(&found), [None], "{found:#?}");
    assert_eq!(codes(&found), [Code::HostNeedsApproval]);
    assert!(!server.log().contains("rosa@s.test"));
    assert!(web.asked().iter().all(|text| !text.contains("rosa@s.test")), "{:#?}", web.asked());
}

#[tokio::test]
async fn an_exchange_server_is_known_by_its_challenge_and_its_headers() {
    let ca = Ca::new();
    let challenge = "WWW-Authenticate: Negotiate\r\nWWW-Authenticate: NTLM\r\nWWW-Authenticate: Basic realm=\"mail\"\r\n\
                     X-FEServer: EX01\r\nServer: Microsoft-IIS/10.0\r\n";
    let refused = || reply("401 Unauthorized", challenge, "");
    let owa = "Location: https://mail.x.test/owa/auth/logon.aspx\r\nX-OWA-Version: 15.2.1544.4\r\nX-FEServer: EX01\r\n";
    let v2 = "/autodiscover/autodiscover.json/v1.0/ex@x.test";
    let ews = r#"{"Protocol":"EWS","Url":"https://mail.x.test/EWS/Exchange.asmx"}"#;
    let places = vec![
        (POX, refused()),
        ("/EWS/Exchange.asmx", refused()),
        ("/owa/", reply("302 Found", owa, "")),
        (v2, reply("200 OK", JSON, ews)),
    ];
    let web =
        Web::with_places("127.77.12.1", Some(&ca.issue(&["mail.x.test", "autodiscover.x.test"])), places);
    let world = World::new(
        ca,
        &[Record::a("mail.x.test", "127.77.12.1"), Record::a("autodiscover.x.test", "127.77.12.1")],
    );
    let found = world.discover(&world.request("x.test", vec![mailbox("ex@x.test", "ex-secret")])).await;
    let login = "asks for a login by Negotiate, NTLM, Basic";
    assert_said(&found, &format!("autodiscover https://autodiscover.x.test{POX} {login}"));
    assert_said(
        &found,
        &format!("an Exchange server at https://mail.x.test/EWS/Exchange.asmx, which {login}"),
    );
    let owa = said(&found, Signal::Exchange).into_iter().find(|e| e.statement.ends_with("/owa/")).unwrap();
    assert_eq!(owa.excerpt.as_deref(), Some("x-owa-version: 15.2.1544.4; x-feserver: EX01"));
    let by_mail = (Service::Ews, Grade::B, "https://mail.x.test/EWS/Exchange.asmx");
    assert!(services(&found).contains(&by_mail), "{:#?}", found.services);
    assert!(codes(&found).contains(&Code::OtherServicesOffered), "{:#?}", found.findings);
    // The address is told to hosts of the domain, and shown nowhere; nobody logs in.
    assert!(found.evidence.iter().all(|e| !e.statement.contains("ex@x.test")), "{:#?}", found.evidence);
    assert!(web.asked().iter().all(|text| !text.to_lowercase().contains("authorization")));
}

#[tokio::test]
async fn jmap_calendars_contacts_and_rules_are_found_by_records_and_well_known_places() {
    let ca = Ca::new();
    let server = Dovecot::builder()
        .imaps(LOOPBACK)
        .tls(&ca.issue(&["imap.y.test"]))
        .user(User::new("yan@y.test", "yan-secret"))
        .start();
    let session = r#"{"capabilities":{"urn:ietf:params:jmap:core":{},"urn:ietf:params:jmap:mail":{}},
        "apiUrl":"https://api.elsewhere.test/jmap/","accounts":{}}"#;
    let dav = "DAV: 1, 2, 3, calendar-access, extended-mkcol\r\nAllow: OPTIONS, PROPFIND\r\n";
    let login = "WWW-Authenticate: Basic realm=\"Radicale\"\r\n";
    let _own = Web::with_places(
        "127.77.13.1",
        Some(&ca.issue(&["y.test"])),
        vec![
            ("/.well-known/caldav", reply("301 Moved", "Location: https://dav.y.test/calendars/\r\n", "")),
            ("/.well-known/carddav", reply("401 Unauthorized", login, "")),
        ],
    );
    let _dav = Web::with_places(
        "127.77.13.2",
        Some(&ca.issue(&["dav.y.test"])),
        vec![
            ("/calendars/", reply("200 OK", dav, "")),
            ("/.well-known/carddav", reply("401 Unauthorized", login, "")),
        ],
    );
    let _jmap = Web::with_places(
        "127.77.13.3",
        Some(&ca.issue(&["jmap.y.test"])),
        vec![("/jmap/session", reply("200 OK", JSON, session))],
    );
    let sieve = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = sieve.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut stream, _) = sieve.accept().unwrap();
        let greeting = "\"IMPLEMENTATION\" \"Dovecot Pigeonhole\"\r\n\"SIEVE\" \"fileinto vacation\"\r\n\"STARTTLS\"\r\nOK \"ready\"\r\n";
        stream.write_all(greeting.as_bytes()).unwrap();
    });
    let world = World::new(
        ca,
        &[
            Record::srv("_imaps._tcp.y.test", "imap.y.test", server.imaps().port()),
            Record::srv("_jmap._tcp.y.test", "jmap.y.test", 443),
            Record::srv("_carddavs._tcp.y.test", "dav.y.test", 443),
            Record::srv("_sieve._tcp.y.test", "imap.y.test", port),
            Record::a("y.test", "127.77.13.1"),
            Record::a("dav.y.test", "127.77.13.2"),
            Record::a("jmap.y.test", "127.77.13.3"),
            Record::a("imap.y.test", "127.0.0.1"),
        ],
    );
    let found = world.discover(&world.request("y.test", vec![mailbox("yan@y.test", "yan-secret")])).await;
    assert_eq!(protocols(&found), [Some(Protocol::Imap)], "{found:#?}");
    let sieve = format!("imap.y.test:{port}");
    assert_eq!(
        services(&found),
        [
            (Service::Jmap, Grade::B, "https://jmap.y.test/jmap/session"),
            (Service::CalDav, Grade::B, "https://dav.y.test/calendars/"),
            (Service::ManageSieve, Grade::B, sieve.as_str()),
            (Service::CardDav, Grade::C, "https://dav.y.test/.well-known/carddav"),
        ],
        "{found:#?}"
    );
    assert_said(
        &found,
        "JMAP session at https://jmap.y.test/jmap/session; its API is at another host, https://api.elsewhere.test/",
    );
    // A login that a site asks for everywhere does not make it an address book.
    assert_said(&found, "CardDAV https://y.test/.well-known/carddav: answers 401 and does not offer it");
    assert_said(&found, "no SRV record of _caldavs, _autodiscover");
    assert_eq!(codes(&found), [Code::OtherServicesOffered; 3]);
    // Services offered beside mail count, and are lost.
    let fidelity = found.fidelity.as_ref().unwrap();
    let kinds: Vec<_> =
        fidelity.kinds.iter().map(|kind| (kind.kind, kind.score, kind.best_service)).collect();
    assert_eq!(
        kinds,
        [
            (DataKind::Mail, 100, None),
            (DataKind::Calendar, 0, Some(Service::CalDav)),
            (DataKind::Contacts, 0, Some(Service::CardDav)),
            (DataKind::Tasks, 0, Some(Service::CalDav)),
            (DataKind::Rules, 0, Some(Service::ManageSieve)),
        ]
    );
    assert_eq!(fidelity.score, 69, "59 of 59 + 10 + 8 + 3 + 5");
    assert_eq!(
        fidelity.kinds[1].losses,
        ["calendars: all of them; CalDAV at https://dav.y.test/calendars/ has them"]
    );
}

#[tokio::test]
async fn a_zimbra_server_answers_in_its_own_name() {
    let ca = Ca::new();
    let fault = "<soap:Envelope xmlns:soap=\"http://www.w3.org/2003/05/soap-envelope\"><soap:Body><soap:Fault><soap:Detail>\
                 <Error xmlns=\"urn:zimbra\"><Code>service.PERM_DENIED</Code></Error></soap:Detail></soap:Fault></soap:Body></soap:Envelope>";
    let places = vec![("/service/soap", reply("500 Server Error", "Content-Type: text/xml\r\n", fault))];
    let _web = Web::with_places("127.77.14.1", Some(&ca.issue(&["mail.z.test"])), places);
    let world = World::new(ca, &[Record::a("mail.z.test", "127.77.14.1")]);
    let found = world.discover(&world.request("z.test", vec![mailbox("zoe@z.test", "zoe-secret")])).await;
    assert_said(&found, "a Zimbra server at https://mail.z.test/service/soap");
    assert_eq!(services(&found), [(Service::Zimbra, Grade::B, "https://mail.z.test/service/soap")]);
}

#[tokio::test]
async fn mail_exchangers_tell_whose_they_are_and_a_filter_hides_no_tenant() {
    let ca = Ca::new();
    let tenant = "6babcaad-604b-40ac-a9d7-9fd97c0b779f";
    let configuration = format!(
        r#"{{"issuer":"https://login.microsoftonline.com/{tenant}/v2.0","token_endpoint":"https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token"}}"#
    );
    let path = "/u.test/v2.0/.well-known/openid-configuration";
    let certificate = ca.issue(&["login.microsoftonline.com", "accounts.google.com"]);
    let web = Web::with_places(
        "127.77.15.1",
        Some(&certificate),
        vec![(path, reply("200 OK", JSON, &configuration))],
    );
    let world = World::new(
        ca,
        &[
            Record::mx("u.test", "mx1.contoso.iphmx.com", 10),
            Record::mx("u.test", "mx2.contoso.iphmx.com", 20),
            Record::mx("plain.test", "mx.plain.test", 10),
            Record::a("autodiscover.outlook.com", "127.77.15.2"),
            Record::cname("autodiscover.u.test", "autodiscover.outlook.com"),
            Record::a("login.microsoftonline.com", "127.77.15.1"),
            Record::a("accounts.google.com", "127.77.15.1"),
        ],
    );
    let found = world.discover(&world.request("u.test", vec![mailbox("una@u.test", "una-secret")])).await;
    assert_said(&found, "mx1.contoso.iphmx.com is Cisco Secure Email, a filter in front of the mail store");
    assert!(!has(&found, "mx2.contoso.iphmx.com is"), "once is enough");
    assert_said(&found, "autodiscover.u.test CNAME → autodiscover.outlook.com, which is Microsoft 365");
    assert_said(&found, &format!("u.test is a domain of the Microsoft tenant {tenant}"));
    assert_eq!(web.asked().len(), 1, "Google has nothing to do with it");

    // A service that has nothing to do with a domain is not asked about it.
    let found = world.discover(&world.request("plain.test", vec![mailbox("p@plain.test", "p-secret")])).await;
    assert!(said(&found, Signal::Tenant).is_empty());
    assert_eq!(web.asked().len(), 1);
}

#[tokio::test]
async fn provider_facts_lead_to_a_hoster_and_vouch_for_nobody() {
    let ca = Ca::new();
    let server = Dovecot::builder()
        .imaps("127.77.16.1:993".parse().unwrap())
        .tls(&ca.issue(&["imap.strato.de"]))
        .user(User::new("vera@v.test", "vera-secret"))
        .start();
    let world = World::new(
        ca,
        &[Record::mx("v.test", "smtpin.rzone.de", 5), Record::a("imap.strato.de", "127.77.16.1")],
    );
    let request = world.request("v.test", vec![mailbox("vera@v.test", "vera-secret")]);
    let found = world.discover(&request).await;
    let facts = said(&found, Signal::ProviderFacts);
    assert_eq!(facts[0].statement, "provider facts of smtpin.rzone.de → IMAP imap.strato.de:993 (TLS)");
    assert_eq!((facts[0].grade, facts[0].trusted), (Grade::D, false));
    assert_eq!(protocols(&found), [None], "{found:#?}");
    assert_eq!(codes(&found), [Code::HostNeedsApproval]);
    assert!(found.findings[0].message.contains("was named by provider facts alone"), "{:#?}", found.findings);
    assert!(!server.log().contains("vera@v.test"));
}

#[tokio::test]
async fn whoever_takes_the_mail_in_may_publish_for_all_that_it_hosts() {
    let ca = Ca::new();
    let server = Dovecot::builder()
        .imaps(LOOPBACK)
        .tls(&ca.issue(&["imap.hoster.test"]))
        .user(User::new("wim@w.test", "wim-secret"))
        .start();
    let names = document(&[("imap", "imap.hoster.test", server.imaps().port(), "SSL")]);
    let web = Web::start("127.77.18.1", Some(&ca.issue(&["autoconfig.hoster.test"])), DOCUMENT, names);
    let world = World::new(
        ca,
        &[
            Record::mx("w.test", "mx1.hoster.test", 10),
            Record::a("autoconfig.hoster.test", "127.77.18.1"),
            Record::a("imap.hoster.test", "127.0.0.1"),
        ],
    );
    let mut request = world.request("w.test", vec![mailbox("wim@w.test", "wim-secret")]);
    let found = world.discover(&request).await;
    assert_said(&found, "autoconfig of autoconfig.hoster.test → IMAP imap.hoster.test:");
    assert_eq!((protocols(&found), codes(&found)), (vec![None], vec![Code::HostNeedsApproval]), "{found:#?}");
    assert!(web.asked().iter().all(|text| !text.contains("wim@w.test")), "{:#?}", web.asked());

    // Named in the manifest it is used, and the usual names were looked for all the same.
    assert!(found.evidence.iter().any(|evidence| evidence.signal == Signal::UsualName));
    request.servers = vec![found.candidates[0].endpoint.clone()];
    assert_eq!(protocols(&world.discover(&request).await), [Some(Protocol::Imap)]);
}

#[tokio::test]
async fn redirects_into_a_network_and_look_alikes_are_findings_and_no_logins() {
    let ca = Ca::new();
    // Cyrillic о in the place of the o.
    let false_friend = "imap.xn--cntoso-wqf.test";
    let server = Dovecot::builder()
        .imaps(LOOPBACK)
        .tls(&ca.issue(&[false_friend]))
        .user(User::new("lea@contoso.test", "lea-secret"))
        .start();
    let away = reply("302 Found", "Location: https://10.9.8.7/config.xml\r\n", "");
    let _inside = Web::start("127.77.17.1", Some(&ca.issue(&["autoconfig.contoso.test"])), DOCUMENT, away);
    let names = document(&[("imap", false_friend, server.imaps().port(), "SSL")]);
    let place = "/.well-known/autoconfig/mail/config-v1.1.xml";
    let _plain = Web::start("127.77.17.2", None, place, names);
    let world = World::new(
        ca,
        &[
            Record::a("autoconfig.contoso.test", "127.77.17.1"),
            Record::a("contoso.test", "127.77.17.2"),
            Record::a(false_friend, "127.0.0.1"),
        ],
    );
    let found =
        world.discover(&world.request("contoso.test", vec![mailbox("lea@contoso.test", "lea-secret")])).await;
    assert_eq!(protocols(&found), [None], "{found:#?}");
    assert_eq!(codes(&found), [Code::HostNeedsApproval, Code::LookAlikeHost, Code::RedirectInside]);
    let message = |code| &found.findings.iter().find(|finding| finding.code == code).unwrap().message;
    assert!(message(Code::HostNeedsApproval).contains("by autoconfig over plain HTTP alone"));
    assert!(message(Code::LookAlikeHost).contains("which reads as imap.cоntoso.test"));
    assert!(message(Code::RedirectInside).contains("redirects to https://10.9.8.7/config.xml"));
    let refused = found.evidence.iter().any(
        |evidence| matches!(&evidence.outcome, Outcome::Failed(failure) if failure.class == Class::Refused),
    );
    assert!(refused && !server.log().contains("lea@contoso.test"));
}

#[tokio::test]
async fn an_exchange_behind_a_proxy_is_told_and_a_site_that_asks_everywhere_is_none() {
    let ca = Ca::new();
    let refused =
        || reply("401 Unauthorized", "WWW-Authenticate: Basic realm=\"mail\"\r\nServer: nginx\r\n", "");
    let places = vec![(POX, refused()), ("/EWS/Exchange.asmx", refused())];
    let names = ["mail.y.test", "autodiscover.y.test"];
    let _web = Web::with_places("127.77.33.1", Some(&ca.issue(&names)), places);
    let everywhere = "WWW-Authenticate: Basic realm=\"x\"\r\nWWW-Authenticate: Negotiate\r\n";
    let site = ["z.test", "mail.z.test", "autodiscover.z.test", "autoconfig.z.test"];
    let wall = Web::answering("127.77.33.2:443".parse().unwrap(), Some(&ca.issue(&site)), move |_| {
        reply("401 Unauthorized", everywhere, "")
    });
    let mut records: Vec<Record> = names.iter().map(|name| Record::a(name, "127.77.33.1")).collect();
    records.extend(site.iter().map(|name| Record::a(name, "127.77.33.2")));
    let world = World::new(ca, &records);
    let found = world.discover(&world.request("y.test", vec![mailbox("yara@y.test", "y-secret")])).await;
    assert_said(&found, &format!("autodiscover https://autodiscover.y.test{POX} asks for a login by Basic"));
    assert_said(
        &found,
        "an Exchange that was not logged in to: https://mail.y.test/EWS/Exchange.asmx asks for a login by Basic",
    );
    let by_mail = (Service::Ews, Grade::C, "https://mail.y.test/EWS/Exchange.asmx");
    assert!(services(&found).contains(&by_mail), "{:#?}", found.services);

    let found = world.discover(&world.request("z.test", vec![mailbox("zoe@z.test", "z-secret")])).await;
    assert!(found.services.is_empty(), "{:#?}", found.services);
    assert!(!codes(&found).contains(&Code::OtherServicesOffered), "{:#?}", found.findings);
    for statement in [
        "JMAP https://z.test/.well-known/jmap: asks for a login, as its server does everywhere",
        "Exchange https://mail.z.test/EWS/Exchange.asmx: asks for a login, as its server does",
    ] {
        assert_said(&found, statement);
    }
    assert!(wall.asked().iter().all(|text| !text.to_lowercase().contains("authorization")));
}
