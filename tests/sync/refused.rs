//! What a rule leaves out, and what the destination does not take.

use mailferry::model::failure::Class;
use mailferry::model::finding::Code;
use mailferry::transfer::Rules;

use crate::rig::{ANNA, Rig, all_rules, letter, new_server, new_user, old_server};
use crate::support::corpus::{Corpus, Message};
use crate::support::dovecot::{Dovecot, LOOPBACK};

/// A letter of about so many bytes.
fn heavy(folder: &str, name: &str, bytes: usize) -> Message {
    let mut message = letter(folder, &["\\Seen"], name);
    message.bytes.extend(b"0123456789abcdef\r\n".repeat(bytes / 18));
    message
}

#[tokio::test]
async fn a_full_destination_stops_the_mailbox_and_the_rest_follows_when_there_is_room() {
    let destination = Dovecot::builder().imap(LOOPBACK).user(new_user().quota(100_000));
    let mut rig = Rig::start(old_server(), destination);
    let mut old = rig.at_source();
    for n in 0..20 {
        old.append(&heavy("INBOX", &format!("message {n}"), 12_000)).unwrap();
    }
    old.append(&letter("INBOX", &[], "small")).unwrap();
    drop(old);
    let failure = rig.try_pass(&all_rules()).await.unwrap_err();
    assert_eq!(failure.class, Class::Quota, "{failure:?}");
    let arrived = rig.at_destination().read_all().messages();
    assert!(arrived >= 7, "as many as there is room for: {arrived}");
    let rows = rig.rows().await;
    assert_eq!(rows.iter().filter(|row| row.verdict.word() == "Delivered").count(), arrived);
    assert_eq!(rows.iter().filter(|row| row.verdict.word() == "Pending").count(), 21 - arrived);

    rig.destination.set_user(new_user().quota(10_000_000));
    rig.destination.restart();
    rig.pass().await;
    rig.assert_same();
    rig.assert_idle().await;
}

#[tokio::test]
async fn a_message_that_the_destination_refuses_is_named_and_the_others_go_on() {
    let rig = Rig::start(old_server(), new_server().max_message(50_000));
    rig.at_source()
        .seed(Corpus::new(51).ordinary_only().messages(40).filter(|message| message.bytes.len() < 40_000));
    let taken = rig.at_source().read_all().messages();
    rig.at_source().append(&heavy("INBOX", "too large", 60_000)).unwrap();
    rig.at_source().append(&heavy("Sent", "too large as well", 70_000)).unwrap();
    let outcome = rig.pass().await;
    assert_eq!((outcome.counts.failed, outcome.counts.copied), (2, taken as u64), "{}", outcome.counts);
    let found: Vec<_> = outcome.findings.iter().filter(|f| f.code == Code::MessagesQuarantined).collect();
    assert_eq!(found.len(), 1);
    assert!(found[0].message.starts_with("2 messages"), "{}", found[0].message);
    let rows = rig.rows().await;
    let refused = rows.iter().find(|row| row.verdict.word() == "Quarantined").unwrap();
    println!("{:?}", refused.verdict);
    assert!(refused.verdict.reason().unwrap().len() > 10);
    assert!(rig.differences().iter().all(|line| line.contains("missing")), "{:?}", rig.differences());
    let again = rig.pass().await;
    assert_eq!((again.sent, again.counts), (0, outcome.counts));
    assert_eq!(again.findings, outcome.findings, "what is true stays said");
}

#[tokio::test]
async fn an_empty_message_is_named_and_the_others_go_on() {
    let rig = Rig::start(old_server(), new_server());
    rig.source.deliver(ANNA, "empty", b"");
    for n in 0..5 {
        rig.at_source().append(&letter("INBOX", &[], &format!("letter {n}"))).unwrap();
    }
    let outcome = rig.pass().await;
    assert_eq!((outcome.counts.failed, outcome.counts.copied), (1, 5), "{}", outcome.counts);
    let again = rig.pass().await;
    assert_eq!((again.sent, again.counts), (0, outcome.counts));
}

#[tokio::test]
async fn rules_leave_out_and_count_and_take_in_when_they_change() {
    let rig = Rig::start(old_server(), new_server());
    let mut old = rig.at_source();
    old.create_and_subscribe("Junk");
    old.create_and_subscribe("Junk/old");
    old.append(&heavy("INBOX", "large", 30_000)).unwrap();
    old.append(&letter("INBOX", &[], "small")).unwrap();
    let ancient =
        Message { internal_date: "01-Jan-2001 00:00:00 +0000".to_owned(), ..letter("INBOX", &[], "ancient") };
    old.append(&ancient).unwrap();
    for n in 0..3 {
        old.append(&letter("Junk", &[], &format!("junk {n}"))).unwrap();
        old.append(&letter("Junk/old", &[], &format!("older junk {n}"))).unwrap();
    }
    drop(old);
    let strict = Rules {
        exclude: Rules::exclude_patterns(&["Junk".to_owned(), "Junk/**".to_owned()]).unwrap(),
        max_message_bytes: Some(20_000),
        since: Some("2010-01-01T00:00:00Z".parse().unwrap()),
        ..all_rules()
    };
    let outcome = rig.try_pass(&strict).await.unwrap();
    assert_eq!((outcome.counts.source, outcome.counts.excluded, outcome.counts.copied), (9, 8, 1));
    assert_eq!(rig.at_destination().read_all().messages(), 1);
    assert!(!rig.at_destination().folders().iter().any(|folder| folder.starts_with("Junk")));
    let again = rig.try_pass(&strict).await.unwrap();
    assert_eq!((again.counts, again.sent), (outcome.counts, 0));
    // The rules are lifted; nothing changed at the source.
    let all = rig.pass().await;
    assert_eq!((all.counts.copied, all.counts.excluded), (9, 0), "{}", all.counts);
    rig.assert_same();
    // What was carried stays carried when a rule would leave it out now.
    let strict_again = rig.try_pass(&strict).await.unwrap();
    assert_eq!((strict_again.counts.copied, strict_again.sent), (9, 0), "{}", strict_again.counts);
}
