//! Changes at the source since the last pass are brought over; messages that the source no longer has stay.

use crate::support::compare::differences;
use crate::sync::rig::{Rig, letter};

#[tokio::test]
async fn new_mail_flags_and_folders_follow_and_expunged_mail_stays() {
    let rig = Rig::with_mail(11, 200);
    rig.pass().await;
    let copied = rig.at_destination().read_all();
    let inbox = &copied.folders["INBOX"];
    assert!(inbox.len() > 20);

    let mut old = rig.at_source();
    old.append(&letter("INBOX", &["\\Flagged", "fresh"], "one more")).unwrap();
    old.create_and_subscribe("New/Folder");
    old.append(&letter("New/Folder", &[], "in a new folder")).unwrap();
    old.select("INBOX").unwrap();
    let source = rig.at_source().read_all().folders["INBOX"].clone();
    let (first, second, third, gone) = (source[0].uid, source[1].uid, source[2].uid, source[3].uid);
    old.command(&format!("UID STORE {first} FLAGS (\\Answered Later $Forwarded)")).unwrap();
    old.command(&format!("UID STORE {second} FLAGS ()")).unwrap();
    old.command(&format!("UID STORE {third} +FLAGS (\\Deleted)")).unwrap();
    old.command(&format!("UID STORE {third} -FLAGS (\\Deleted)")).unwrap();
    old.command(&format!("UID STORE {gone} +FLAGS (\\Deleted)")).unwrap();
    old.command(&format!("UID EXPUNGE {gone}")).unwrap();
    drop(old);

    let outcome = rig.pass().await;
    assert_eq!(outcome.sent, 2, "{outcome:?} {:?}", rig.differences());
    assert_eq!(outcome.counts.copied, 202);
    let differences = differences(&rig.at_source().read_all(), &rig.at_destination().read_all());
    assert_eq!(differences.len(), 1, "only the expunged message: {differences:#?}");
    assert!(differences[0].contains("too many"), "{differences:?}");
    let marked: Vec<_> = rig.rows().await.into_iter().filter(|row| row.gone).collect();
    assert_eq!(marked.len(), 1);
    rig.assert_idle().await;
}

#[tokio::test]
async fn flags_that_the_user_set_at_the_destination_stay() {
    let rig = Rig::with_mail(12, 40);
    rig.at_source().append(&letter("INBOX", &[], "unread")).unwrap();
    rig.pass().await;
    let uid_of = |client: &mut crate::support::imap::Client| {
        let account = client.read_all();
        account.folders["INBOX"].last().unwrap().uid
    };
    let mut new = rig.at_destination();
    let uid = uid_of(&mut new);
    new.select("INBOX").unwrap();
    new.command(&format!("UID STORE {uid} +FLAGS (\\Flagged Mine)")).unwrap();
    drop(new);
    let mut old = rig.at_source();
    let uid = uid_of(&mut old);
    old.select("INBOX").unwrap();
    old.command(&format!("UID STORE {uid} +FLAGS (\\Seen)")).unwrap();
    drop(old);
    assert_eq!(rig.pass().await.flags_updated, 1);
    let flags = rig.at_destination().read_all().folders["INBOX"].last().unwrap().flags.clone();
    assert_eq!(flags.iter().map(String::as_str).collect::<Vec<_>>(), ["\\flagged", "\\seen", "mine"]);
}
