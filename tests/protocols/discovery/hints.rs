//! Hints of grade D: who may send a domain's mail, and whose names stand on its certificates. They are told and decide nothing.

use mailferry::model::evidence::{DomainDiscovery, Grade, Outcome, Signal};
use mailferry::model::protocol::Protocol;

use super::world::{World, mailbox, protocols};
use crate::support::ca::Ca;
use crate::support::dns::Record;
use crate::support::dovecot::{Dovecot, LOOPBACK, User};

fn statements(found: &DomainDiscovery, signal: Signal) -> Vec<&str> {
    let of_signal = found.evidence.iter().filter(|evidence| evidence.signal == signal);
    of_signal.inspect(|evidence| assert_eq!(evidence.grade, Grade::D)).map(|e| e.statement.as_str()).collect()
}

#[tokio::test]
async fn who_may_send_leads_to_the_tenant_and_to_nothing_else() {
    let ca = Ca::new();
    let server = Dovecot::builder()
        .imaps(LOOPBACK)
        .tls(&ca.issue(&["mail.s.test"]))
        .user(User::new("sara@s.test", "sara-secret"))
        .start();
    let world = World::new(
        ca,
        &[
            Record::srv("_imaps._tcp.s.test", "mail.s.test", server.imaps().port()),
            Record::a("mail.s.test", "127.0.0.1"),
            Record::mx("s.test", "mail.s.test", 10),
            Record::txt("s.test", "some-verification=1"),
            Record::txt("s.test", "v=spf1 include:spf.protection.outlook.com include:_spf.mail.s.test -all"),
        ],
    );
    let found = world.discover(&world.request("s.test", vec![mailbox("sara@s.test", "sara-secret")])).await;
    assert_eq!(protocols(&found), [Some(Protocol::Imap)], "{found:#?}");
    let expected = "s.test SPF → spf.protection.outlook.com, which is Microsoft 365";
    assert_eq!(statements(&found, Signal::Spf), [expected]);
    let asked = found.evidence.iter().find(|e| e.signal == Signal::Tenant).unwrap();
    assert!(asked.statement.contains("https://login.microsoftonline.com/s.test/"), "{}", asked.statement);
    assert_eq!(found.findings, [], "a hint is no finding");
    assert!(found.candidates.iter().all(|candidate| candidate.endpoint.host == "mail.s.test"), "{found:#?}");
}

#[tokio::test]
async fn the_owner_of_a_server_is_told_by_its_certificate_even_where_that_is_refused() {
    for (names, works) in
        [(&["mail.k.test", "*.rzone.de"][..], true), (&["imap.rzone.de", "*.rzone.de"], false)]
    {
        let ca = Ca::new();
        let server = Dovecot::builder()
            .imaps(LOOPBACK)
            .pop3s(LOOPBACK)
            .tls(&ca.issue(names))
            .user(User::new("karl@k.test", "karl-secret"))
            .start();
        let world = World::new(
            ca,
            &[
                Record::srv("_imaps._tcp.k.test", "mail.k.test", server.imaps().port()),
                Record::srv("_pop3s._tcp.k.test", "mail.k.test", server.pop3s().port()),
                Record::a("mail.k.test", "127.0.0.1"),
            ],
        );
        let request = world.request("k.test", vec![mailbox("karl@k.test", "karl-secret")]);
        let found = world.discover(&request).await;
        assert_eq!(protocols(&found), [works.then_some(Protocol::Imap)], "{found:#?}");
        let name = if works { "*.rzone.de" } else { "imap.rzone.de" };
        let expected =
            format!("the certificate of mail.k.test names {name}, which is Strato, a hoster of mailboxes");
        assert_eq!(statements(&found, Signal::Certificate), [expected], "once, whatever the number of ports");
        let spf = found.evidence.iter().find(|e| e.signal == Signal::Spf).unwrap();
        assert_eq!(
            (&spf.outcome, spf.statement.as_str()),
            (&Outcome::NotOffered, "k.test has no SPF record"),
            "that there is none is kept too"
        );
    }
}
