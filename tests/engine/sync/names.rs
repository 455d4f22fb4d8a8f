//! Folders between servers that spell their names differently.

use mailferry::model::finding::Code;

use crate::support::corpus::Corpus;
use crate::support::dovecot::Store;
use crate::sync::rig::{ANNA, Rig, letter, new_server, old_server};

#[tokio::test]
async fn a_courier_like_source_goes_to_a_server_with_slashes() {
    let rig = Rig::start(old_server().namespace('.', "INBOX."), new_server());
    rig.at_source().seed(Corpus::new(41).messages(200));
    rig.at_source().create_and_subscribe("R&D/2020");
    rig.pass().await;
    rig.assert_same();
    rig.assert_idle().await;
}

#[tokio::test]
async fn a_source_with_slashes_goes_to_a_courier_like_server() {
    let rig = Rig::start(old_server(), new_server().namespace('.', "INBOX."));
    rig.at_source().seed(Corpus::new(42).messages(200));
    let outcome = rig.pass().await;
    rig.assert_same();
    // A mark of removal is not carried, which is told.
    let codes: Vec<Code> = outcome.findings.iter().map(|finding| finding.code).collect();
    assert_eq!(codes, [Code::MarkedForRemoval]);
    rig.assert_idle().await;
}

#[tokio::test]
async fn names_with_the_other_sides_delimiter_get_another_name_and_stay_apart() {
    let rig = Rig::start(old_server().store(Store::MaildirFs), new_server().namespace('.', ""));
    let mut old = rig.at_source();
    for (folder, body) in [("v1.2", "dotted"), ("v1_2", "underlined"), ("v1/2", "below"), ("a.b/c", "deep")] {
        old.create_and_subscribe(folder);
        old.append(&letter(folder, &[], body)).unwrap();
    }
    drop(old);
    let outcome = rig.pass().await;
    let renamed = outcome.findings.iter().filter(|finding| finding.code == Code::FolderRenamed).count();
    assert_eq!(renamed, 2, "{:?}", outcome.findings);
    let found = rig.at_destination().read_all();
    for (folder, body) in
        [("v1_2 (2)", "dotted"), ("v1_2", "underlined"), ("v1/2", "below"), ("a_b/c", "deep")]
    {
        let rows =
            found.folders.get(folder).unwrap_or_else(|| panic!("{folder}: {:?}", found.folders.keys()));
        let digest = blake3::hash(&letter(folder, &[], body).bytes).to_hex().to_string();
        assert_eq!(rows.iter().map(|row| row.digest.as_str()).collect::<Vec<_>>(), [digest], "{folder}");
    }
    rig.assert_idle().await;
}

#[tokio::test]
async fn special_folders_meet_by_attribute_and_nothing_is_merged() {
    let source = old_server().special_use("Sent Items", "\\Sent").special_use("Papierkorb", "\\Trash");
    let destination = new_server()
        .special_use("Sent", "\\Sent")
        .special_use("Deleted", "\\Trash")
        .special_use("Junk", "\\Junk");
    let rig = Rig::start(source, destination);
    let mut old = rig.at_source();
    for folder in ["Sent Items", "Sent Items/2020", "Papierkorb", "Spam"] {
        old.create_and_subscribe(folder);
        old.append(&letter(folder, &["\\Seen"], folder)).unwrap();
    }
    drop(old);
    rig.pass().await;
    let found = rig.at_destination().read_all();
    let holds = |folder: &str| found.folders.get(folder).map_or(0, Vec::len);
    assert_eq!(["Sent", "Sent/2020", "Deleted", "Junk"].map(holds), [1, 1, 1, 1], "{found:?}");
    assert_eq!(found.messages(), 4);
    assert!(!found.folders.contains_key("Sent Items"));
    rig.assert_idle().await;
}

/// Folders below the Inbox, folders that cannot be opened, subscriptions to what is gone.
#[tokio::test]
async fn odd_trees_are_carried() {
    let mut rig = Rig::start(old_server(), new_server());
    let mut old = rig.at_source();
    for folder in ["INBOX/Below", "Only a/child", "trailing ", "UPPER", "upper"] {
        old.create_and_subscribe(folder);
        old.append(&letter(folder, &[], folder)).unwrap();
    }
    old.create_and_subscribe("Gone");
    old.delete("Gone").unwrap();
    drop(old);
    rig.pass().await;
    let subscribed = rig.at_source().subscribed();
    assert!(subscribed.contains("Gone"));
    let mut differences = rig.differences();
    differences.retain(|line| !line.starts_with("Gone"));
    assert!(differences.is_empty(), "{differences:?}");
    rig.assert_idle().await;
    rig.source.stop();
    for verb in ["SELECT", "STORE", "EXPUNGE", "APPEND", "CREATE", "SUBSCRIBE"] {
        assert_eq!(rig.source.count_commands(ANNA, verb), 0, "{verb} at the source");
    }
}
