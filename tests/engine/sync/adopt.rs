//! Mail that is at the destination already, lost ledgers, and folders that got another UIDVALIDITY: mail that is
//! there is recognised by its content, and each copy counts for one message only.

use std::time::Duration;

use mailferry::model::finding::Code;
use mailferry::transfer::PassOutcome;

use crate::support::corpus::{Corpus, Message};
use crate::sync::cut::{cut_pass, size_of};
use crate::sync::rig::{ANNA, Rig, letter, new_server, old_server};

/// A message that Dovecot says OK to and changes.
fn altered(what: &str) -> Vec<u8> {
    let bytes = letter("INBOX", &[], what).bytes;
    match what {
        "nul" => [&bytes[..], b"a\0b\r\n"].concat(),
        "doubled" => [&bytes[..], b"line\r\r\nline\r\n"].concat(),
        _ => [&bytes[..], b"the end\r"].concat(),
    }
}

#[tokio::test]
async fn mail_copied_by_hand_is_adopted() {
    let rig = Rig::start(old_server(), new_server());
    let messages: Vec<_> = Corpus::new(31).messages(200).collect();
    rig.at_source().seed(messages.clone());
    // By hand: every third, and without keeping the flags.
    let some = messages.iter().step_by(3).cloned().map(|m| Message { flags: Vec::new(), ..m });
    let by_hand: usize = rig.at_destination().seed(some).values().sum();
    let outcome = rig.pass().await;
    rig.assert_same();
    assert_eq!((outcome.recognised, outcome.sent), (by_hand as u64, 200 - by_hand as u64));
    rig.assert_idle().await;
}

#[tokio::test]
async fn a_lost_ledger_costs_no_message() {
    let rig = Rig::with_mail(32, 200);
    rig.pass().await;
    let before = rig.at_destination().uid_next();
    rig.lose_ledger();
    let outcome = rig.pass().await;
    assert_eq!((outcome.sent, outcome.recognised, outcome.counts.copied), (0, 200, 200));
    assert_eq!(rig.at_destination().uid_next(), before);
    rig.assert_same();
    rig.assert_idle().await;
}

#[tokio::test]
async fn a_ledger_lost_in_the_middle_costs_no_message() {
    let rig = Rig::with_mail(33, 150);
    cut_pass(&rig, size_of(&rig) / 2, Duration::ZERO).await;
    rig.lose_ledger();
    // Without a ledger nobody knows that something is in doubt: whoever throws it away has to wait himself.
    tokio::time::sleep(Duration::from_secs(2)).await;
    rig.pass().await;
    rig.assert_same();
    rig.assert_idle().await;
}

#[tokio::test]
async fn messages_that_the_destination_altered_are_said_to_be_and_not_sent_again() {
    let rig = Rig::start(old_server(), new_server());
    // Straight to the disk of the source, for its server would alter them too.
    for what in ["nul", "doubled", "lone"] {
        rig.source.deliver(ANNA, what, &altered(what));
    }
    rig.at_source().append(&letter("INBOX", &[], "plain")).unwrap();
    let outcome = rig.pass().await;
    let altered = rig.rows().await.iter().filter(|row| row.verdict.word() == "DeliveredAltered").count();
    println!("{altered} altered: {:?}", outcome.findings);
    let count = rig.at_destination().read_all().messages();
    assert_eq!(count, 4);
    rig.lose_ledger();
    let outcome = rig.pass().await;
    assert_eq!(rig.at_destination().read_all().messages(), count, "{outcome:?}");
}

const FOLDER: &str = "Archive/2019";

async fn survive_recreation(at_source: bool, at_destination: bool) {
    let rig = Rig::with_mail(34, 300);
    rig.at_source().append(&letter(FOLDER, &[], "twin")).unwrap();
    rig.at_source().append(&letter(FOLDER, &[], "twin")).unwrap();
    rig.pass().await;
    let validity =
        |rig: &Rig| (rig.at_source().uid_next()[FOLDER].0, rig.at_destination().uid_next()[FOLDER].0);
    let before = validity(&rig);
    if at_source {
        rig.at_source().recreate(FOLDER);
    }
    if at_destination {
        rig.at_destination().recreate(FOLDER);
    }
    let after = validity(&rig);
    assert_eq!((before.0 != after.0, before.1 != after.1), (at_source, at_destination));
    // And something new at the same time.
    rig.at_source().append(&letter(FOLDER, &["\\Flagged"], "new")).unwrap();
    let outcome = rig.pass().await;
    rig.assert_same();
    assert_eq!(outcome.sent, 1, "{outcome:?}");
    assert_eq!(outcome.counts.copied, 303, "{}", outcome.counts);
    rig.assert_idle().await;

    // Flags still find their message.
    let mut old = rig.at_source();
    old.select(FOLDER).unwrap();
    old.command("STORE 1:* +FLAGS ($Late)").unwrap();
    drop(old);
    rig.pass().await;
    rig.assert_same();
}

#[tokio::test]
async fn a_source_folder_made_anew_is_recognised() {
    survive_recreation(true, false).await;
}

#[tokio::test]
async fn a_destination_folder_made_anew_is_recognised() {
    survive_recreation(false, true).await;
}

#[tokio::test]
async fn folders_made_anew_on_both_sides_are_recognised() {
    survive_recreation(true, true).await;
}

/// Messages of a folder that a user removed at the destination are left alone, and a person is told how many.
fn assert_left_alone(rig: &Rig, outcome: &PassOutcome, folder: &str, held: usize) {
    let told = outcome.findings.iter().find(|finding| finding.code == Code::ArrivalsRemoved);
    let told = told.unwrap_or_else(|| panic!("nobody is told: {outcome:?}"));
    assert!(told.message.contains(&format!("{held} message")), "{told:?}");
    let account = rig.at_destination().read_all();
    assert!(account.folders.get(folder).is_none_or(Vec::is_empty), "{:?}", account.folders.get(folder));
    let others: Vec<String> = rig.differences().into_iter().filter(|line| !line.contains(folder)).collect();
    assert!(others.is_empty(), "{others:#?}");
}

#[tokio::test]
async fn what_a_user_removed_is_not_sent_again_because_the_source_gave_other_uids() {
    let rig = Rig::with_mail(35, 300);
    rig.pass().await;
    let held = rig.at_source().read_all().folders[FOLDER].len();
    rig.at_source().recreate(FOLDER);
    rig.at_destination().delete(FOLDER).unwrap();
    let outcome = rig.pass().await;
    assert_eq!((outcome.sent, outcome.counts.pending), (0, 0), "{outcome:?}");
    assert_left_alone(&rig, &outcome, FOLDER, held);
    assert_eq!(rig.pass().await.sent, 0);
}

#[tokio::test]
async fn a_destination_folder_that_a_user_removed_takes_new_mail_and_no_other() {
    let rig = Rig::with_mail(36, 200);
    rig.pass().await;
    let held = rig.at_source().read_all().folders[FOLDER].len();
    rig.at_destination().delete(FOLDER).unwrap();
    let outcome = rig.pass().await;
    assert_eq!(outcome.sent, 0, "{outcome:?}");
    rig.at_source().append(&letter(FOLDER, &[], "one more")).unwrap();
    let outcome = rig.pass().await;
    assert_eq!((outcome.sent, outcome.counts.pending), (1, 0), "{outcome:?}");
    let account = rig.at_destination().read_all();
    assert_eq!(account.folders[FOLDER].len(), 1);
    let told = outcome.findings.iter().any(|finding| {
        finding.code == Code::ArrivalsRemoved && finding.message.contains(&format!("{held} message"))
    });
    assert!(told, "{outcome:?}");
    assert_eq!(rig.pass().await.sent, 0);
}

#[tokio::test]
async fn uidvalidity_changes_between_a_cut_and_the_next_pass() {
    let rig = Rig::with_mail(37, 150);
    cut_pass(&rig, size_of(&rig) * 2 / 3, Duration::from_millis(5)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    for folder in ["Sent", "Archive"] {
        rig.at_source().recreate(folder);
        if rig.at_destination().folders().iter().any(|name| name == folder) {
            rig.at_destination().recreate(folder);
        }
    }
    rig.pass().await;
    rig.assert_same();
    rig.assert_idle().await;
}
