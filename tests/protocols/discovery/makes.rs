//! Discovery of servers of other makes: Courier, Cyrus, GreenMail and Radicale.

use super::world::{World, codes, mailbox, protocols};
use crate::support::ca::Ca;
use crate::support::corpus::{Corpus, Message};
use crate::support::courier::Courier;
use crate::support::cyrus::Cyrus;
use crate::support::dns::Record;
use crate::support::greenmail::GreenMail;
use crate::support::radicale::Radicale;
use mailferry::discovery::Chosen;
use mailferry::model::evidence::{DomainDiscovery, Grade, ServerFacts};
use mailferry::model::protocol::Protocol;
use mailferry::model::service::{Service, ServiceFacts, SessionFacts};

#[track_caller]
fn answered(found: &DomainDiscovery, protocol: Protocol) -> &ServerFacts {
    found
        .servers
        .iter()
        .find(|facts| facts.endpoint.protocol == protocol)
        .unwrap_or_else(|| panic!("{found:#?}"))
}

#[track_caller]
fn session(found: &DomainDiscovery, protocol: Protocol) -> &SessionFacts {
    found
        .sessions
        .iter()
        .find(|facts| facts.endpoint.protocol == protocol)
        .unwrap_or_else(|| panic!("{found:#?}"))
}

#[track_caller]
fn offered(found: &DomainDiscovery, service: Service) -> &ServiceFacts {
    found.services.iter().find(|facts| facts.service == service).unwrap_or_else(|| panic!("{found:#?}"))
}

/// Mail of all kinds in folders whose names every server takes.
fn mail(seed: u64, count: usize) -> impl Iterator<Item = Message> {
    let folders = ["INBOX", "Sent", "Archive/2019", "Entwürfe"];
    let fit = move |(n, message): (usize, Message)| Message {
        folder: folders[n % folders.len()].to_owned(),
        ..message
    };
    Corpus::new(seed).messages(count).enumerate().map(fit)
}

/// The statements that compare IMAP and POP3.
fn compared(found: &DomainDiscovery) -> Vec<&str> {
    let statements = found.evidence.iter().map(|evidence| evidence.statement.as_str());
    statements.filter(|statement| statement.starts_with("IMAP at ")).collect()
}

#[tokio::test]
async fn courier_is_found_by_both_protocols_and_its_mailbox_is_listed() {
    let ca = Ca::new();
    let courier = Courier::start(&ca.issue(&["mail.a.test"]), &[("alice@a.test", "alice-secret")], false);
    courier.mailbox("alice@a.test", "alice-secret").seed(mail(5, 30));
    let world = World::new(
        ca,
        &[
            Record::srv("_imaps._tcp.a.test", "mail.a.test", courier.imaps().port()),
            Record::srv("_pop3s._tcp.a.test", "mail.a.test", courier.pop3s().port()),
            Record::a("mail.a.test", "127.0.0.1"),
        ],
    );
    let found = world.discover(&world.request("a.test", vec![mailbox("alice@a.test", "alice-secret")])).await;
    assert_eq!(protocols(&found), [Some(Protocol::Imap)], "{found:#?}");
    assert_eq!(codes(&found), [], "{:#?}", found.findings);

    let imap = answered(&found, Protocol::Imap);
    assert!(imap.greeting.contains("Courier-IMAP ready."), "{}", imap.greeting);
    // The case of R8 of the rules for choosing: changes of flags are not reported.
    let lacks = |word: &str| !imap.capabilities.has(word);
    assert!(imap.capabilities.has("NAMESPACE") && lacks("CONDSTORE") && lacks("UIDPLUS"), "{imap:?}");
    assert_eq!(imap.tls.as_ref().unwrap().names, ["mail.a.test"]);
    let pop3 = answered(&found, Protocol::Pop3);
    assert_eq!(pop3.greeting, "Hello there.");
    assert!(pop3.capabilities.has("UIDL") && pop3.capabilities.has("TOP"), "{pop3:?}");

    let session = session(&found, Protocol::Imap);
    assert_eq!(session.personal, ["INBOX."], "{session:?}");
    let size = found.mailboxes[0].size.as_ref().unwrap();
    assert_eq!((size.messages, size.folders), (30, 4), "{size:?}");

    let places = format!("IMAP at {} and POP3 at {}", imap.endpoint.address(), pop3.endpoint.address());
    // Courier counts on its own for POP3: its names may be those of IMAP by chance.
    let expected = "show one Inbox of one mailbox: all 8 messages agree in size";
    let [statement] = compared(&found)[..] else { panic!("{:#?}", found.evidence) };
    assert!(statement.starts_with(&format!("{places} {expected}")), "{statement}");

    // Where IMAP refuses the mailbox, POP3 has it, and its messages have lasting names.
    let mut by_pop3 = mailbox("alice@a.test", "alice-secret");
    by_pop3.chosen = Some(Chosen { protocol: Protocol::Pop3, endpoint: None, reason: None });
    let found = world.discover(&world.request("a.test", vec![by_pop3])).await;
    assert_eq!(protocols(&found), [Some(Protocol::Pop3)], "{found:#?}");
    assert!(self::session(&found, Protocol::Pop3).unique_ids);
    assert_eq!(found.mailboxes[0].size.as_ref().unwrap().messages, 8);
}

#[tokio::test]
async fn cyrus_is_found_with_all_its_services_and_its_mailbox_is_listed() {
    let ca = Ca::new();
    let cyrus = Cyrus::start(&ca.issue(&["mail.b.test"]), &[("bob@b.test", "bob-secret")]);
    let mut client = cyrus.mailbox("bob@b.test", "bob-secret");
    client.seed(mail(6, 30));
    // A client that has seen them takes \Recent off, and POP3 may be asked too.
    client.select("INBOX").unwrap();
    let world = World::new(
        ca,
        &[
            Record::srv("_imaps._tcp.b.test", "mail.b.test", cyrus.imaps().port()),
            Record::srv("_pop3s._tcp.b.test", "mail.b.test", cyrus.pop3s().port()),
            Record::srv("_sieve._tcp.b.test", "mail.b.test", cyrus.sieve().port()),
            Record::srv("_jmap._tcp.b.test", "mail.b.test", cyrus.https().port()),
            Record::srv("_caldavs._tcp.b.test", "mail.b.test", cyrus.https().port()),
            Record::srv("_carddavs._tcp.b.test", "mail.b.test", cyrus.https().port()),
            Record::a("mail.b.test", "127.0.0.1"),
        ],
    );
    let found = world.discover(&world.request("b.test", vec![mailbox("bob@b.test", "bob-secret")])).await;
    assert_eq!(protocols(&found), [Some(Protocol::Imap)], "{found:#?}");

    let imap = answered(&found, Protocol::Imap);
    assert!(imap.greeting.contains("Cyrus IMAP 3."), "{}", imap.greeting);
    let pop3 = answered(&found, Protocol::Pop3);
    assert!(pop3.greeting.contains("Cyrus POP3 3.") && pop3.capabilities.has("UIDL"), "{pop3:?}");
    // Before the login it says little, after it all.
    assert!(!imap.capabilities.has("QRESYNC"), "{imap:?}");
    let session = session(&found, Protocol::Imap);
    assert!(
        ["QRESYNC", "STATUS=SIZE", "UIDPLUS"].iter().all(|word| session.capabilities.has(word)),
        "{session:?}"
    );
    assert!(session.id.iter().any(|word| word == "name=Cyrus IMAPD"), "{session:?}");
    let size = found.mailboxes[0].size.as_ref().unwrap();
    assert_eq!((size.messages, size.folders), (30, 5), "{size:?}");

    let places = format!("IMAP at {} and POP3 at {}", imap.endpoint.address(), pop3.endpoint.address());
    let expected = "show one Inbox of one mailbox: all 8 messages agree in size, and the UIDLs hold the UIDs";
    assert_eq!(compared(&found), [format!("{places} {expected}")]);

    let https = format!("https://mail.b.test:{}", cyrus.https().port());
    for (service, grade, place) in [
        (Service::Jmap, Grade::B, format!("{https}/jmap")),
        (Service::ManageSieve, Grade::B, format!("mail.b.test:{}", cyrus.sieve().port())),
        (Service::CalDav, Grade::C, format!("{https}/dav/calendars")),
        (Service::CardDav, Grade::C, format!("{https}/dav/addressbooks")),
    ] {
        let facts = offered(&found, service);
        assert_eq!(
            (facts.grade, facts.place.as_str(), facts.trusted),
            (grade, place.as_str(), true),
            "{facts:?}"
        );
    }
}

#[tokio::test]
async fn greenmail_that_knows_few_words_is_found_by_both_protocols_and_its_mailbox_is_listed() {
    let ca = Ca::new();
    let greenmail = GreenMail::start(&ca.issue(&["mail.d.test"]), &[("dora@d.test", "dora-secret")]);
    greenmail.mailbox("dora@d.test", "dora-secret").seed(mail(10, 30));
    let world = World::new(
        ca,
        &[
            Record::srv("_imaps._tcp.d.test", "mail.d.test", greenmail.imaps().port()),
            Record::srv("_pop3s._tcp.d.test", "mail.d.test", greenmail.pop3s().port()),
            Record::a("mail.d.test", "127.0.0.1"),
        ],
    );
    let found = world.discover(&world.request("d.test", vec![mailbox("dora@d.test", "dora-secret")])).await;
    assert_eq!(protocols(&found), [Some(Protocol::Imap)], "{found:#?}");

    let imap = answered(&found, Protocol::Imap);
    assert!(imap.greeting.contains("GreenMail v2."), "{}", imap.greeting);
    let pop3 = answered(&found, Protocol::Pop3);
    assert!(pop3.greeting.contains("GreenMail") && pop3.capabilities.has("UIDL"), "{pop3:?}");
    let session = session(&found, Protocol::Imap);
    assert!(session.capabilities.has("UIDPLUS") && !session.capabilities.has("NAMESPACE"), "{session:?}");
    assert_eq!(session.id, [""; 0], "it has no ID");
    let size = found.mailboxes[0].size.as_ref().unwrap();
    assert_eq!((size.messages, size.folders), (30, 4), "{size:?}");
}

#[tokio::test]
async fn radicale_is_found_by_its_service_records_and_the_path_beside_them() {
    let ca = Ca::new();
    let radicale = Radicale::start(&ca.issue(&["dav.c.test"]));
    let world = World::new(
        ca,
        &[
            Record::srv("_caldavs._tcp.c.test", "dav.c.test", radicale.address().port()),
            Record::srv("_carddavs._tcp.c.test", "dav.c.test", radicale.address().port()),
            Record::txt("_carddavs._tcp.c.test", "path=/people/"),
            Record::a("dav.c.test", "127.0.0.1"),
        ],
    );
    let found = world.discover(&world.request("c.test", Vec::new())).await;
    // The well-known place leads to the one, a TXT record to the other.
    for (service, path) in [(Service::CalDav, "/"), (Service::CardDav, "/people/")] {
        let facts = offered(&found, service);
        let place = format!("https://dav.c.test:{}{path}", radicale.address().port());
        assert_eq!((facts.grade, facts.place.as_str()), (Grade::B, place.as_str()), "{facts:?}");
        assert!(facts.words.contains("calendar-access"), "{facts:?}");
    }
}
