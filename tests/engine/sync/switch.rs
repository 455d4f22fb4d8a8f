//! A mailbox read by POP3 in one pass and by IMAP in the next: what was carried is recognised, and IMAP brings what POP3
//! could not tell.

use mailferry::drivers::pop3::Pop3Source;
use mailferry::model::endpoint::Endpoint;
use mailferry::model::protocol::{Protocol, Tls};
use mailferry::net::tls::Trust;
use mailferry::transfer::PassOutcome;
use mailferry::transfer::progress::MailboxProgress;

use crate::support::corpus::{Corpus, Message};
use crate::support::dovecot::LOOPBACK;
use crate::sync::rig::{ANNA, Rig, all_rules, carry, letter, login_of, network, new_server, old_server};

async fn pass_by_pop3(rig: &Rig) -> PassOutcome {
    let at = rig.source.pop3();
    let endpoint = Endpoint::new(Protocol::Pop3, &at.ip().to_string(), at.port(), Tls::None);
    let trust = Trust::with_authorities(&[]).unwrap();
    let mut source = Pop3Source::log_in(&network(), &trust, &endpoint, &login_of(ANNA)).await.unwrap();
    carry(&mut source, rig.destination.imap(), &rig.ledger_path(), &all_rules(), &MailboxProgress::default())
        .await
        .unwrap_or_else(|failure| panic!("{failure:?}"))
}

#[tokio::test]
async fn pop3_and_then_imap_copies_nothing_twice() {
    let rig = Rig::start(old_server().pop3(LOOPBACK), new_server());
    rig.at_source().seed(Corpus::new(71).messages(200).map(|m| match m.folder.as_str() {
        "Sent" | "Archive" => m,
        _ => Message { folder: "INBOX".to_owned(), ..m },
    }));
    let inbox = rig.at_source().read_all().folders["INBOX"].len() as u64;
    let outcome = pass_by_pop3(&rig).await;
    assert_eq!((outcome.sent, outcome.counts.copied), (inbox, inbox), "{}", outcome.counts);
    let again = pass_by_pop3(&rig).await;
    assert_eq!((again.sent, again.recognised, again.counts.source), (0, 0, inbox));

    rig.at_source().append(&letter("INBOX", &["\\Flagged"], "new since")).unwrap();
    let switched = rig.pass().await;
    assert_eq!((switched.sent, switched.recognised), (200 - inbox + 1, inbox), "{switched:?}");
    assert_eq!((switched.counts.source, switched.counts.copied), (201, 201), "{}", switched.counts);
    let mut differences = rig.differences();
    // POP3 tells no arrival dates, and they cannot be set afterwards. It ends the last line of the few messages that do
    // not, so their bytes are others.
    differences.retain(|line| !line.contains("INTERNALDATE"));
    let unended = |line: &String| line.contains(": missing") || line.contains(": too many");
    assert_eq!(differences.iter().filter(|line| unended(line)).count(), 4, "{differences:#?}");
    differences.retain(|line| !unended(line));
    assert!(differences.is_empty(), "{differences:#?}");
    rig.assert_idle().await;
    let back = pass_by_pop3(&rig).await;
    assert_eq!((back.sent, back.counts.copied), (0, 201), "{back:?}");
}
