//! Servers that offer the bare protocol: without the extensions everything takes more round trips and nothing else.

use std::time::Duration;

use crate::cut::{cut_pass, size_of};
use crate::rig::{Rig, letter, new_server, old_server};
use crate::support::corpus::Corpus;

const BARE: &str = "IMAP4rev1";

fn bare_pair() -> Rig {
    Rig::start(old_server().capability(BARE), new_server().capability(BARE))
}

#[tokio::test]
async fn a_mailbox_moves_without_any_extension() {
    let rig = bare_pair();
    rig.old().seed(Corpus::new(61).with_large(&[3 << 20]).messages(200));
    let outcome = rig.pass().await;
    rig.assert_same();
    assert_eq!((outcome.sent, outcome.sizes_checked, outcome.digests_checked), (200, 200, 200), "{outcome:?}");
    rig.assert_idle().await;
}

#[tokio::test]
async fn flags_and_twins_follow_without_any_extension() {
    let rig = bare_pair();
    rig.old().seed(Corpus::new(62).messages(100));
    rig.old().append(&letter("INBOX", &[], "twin")).unwrap();
    rig.pass().await;
    let mut old = rig.old();
    old.append(&letter("INBOX", &[], "twin")).unwrap();
    old.select("INBOX").unwrap();
    old.command("STORE 1:5 +FLAGS (\\Flagged late)").unwrap();
    old.command("STORE 2:6 -FLAGS (\\Seen)").unwrap();
    drop(old);
    assert_eq!(rig.pass().await.sent, 1);
    rig.assert_same();
    rig.assert_idle().await;
}

async fn survive_cut(seed: u64, share: f64) {
    let rig = bare_pair();
    rig.old().seed(Corpus::new(seed).messages(120));
    for _ in 0..10 {
        rig.old().append(&letter("INBOX", &[], "twin")).unwrap();
    }
    cut_pass(&rig, (size_of(&rig) as f64 * share) as u64, Duration::from_millis(3)).await;
    rig.pass().await;
    rig.assert_same();
    rig.assert_idle().await;
}

#[tokio::test]
async fn an_early_cut_without_any_extension() {
    survive_cut(63, 0.2).await;
}

#[tokio::test]
async fn a_late_cut_without_any_extension() {
    survive_cut(64, 0.9).await;
}

/// Some have one extension and some another.
#[tokio::test]
async fn each_extension_alone_will_do() {
    for extension in ["LITERAL+", "LITERAL-", "UIDPLUS", "CONDSTORE", "LIST-EXTENDED", "NAMESPACE", "SPECIAL-USE"] {
        let words = format!("{BARE} {extension}");
        let rig = Rig::start(old_server().capability(&words), new_server().capability(&words));
        rig.old().seed(Corpus::new(65).messages(60));
        rig.pass().await;
        let differences = rig.differences();
        assert!(differences.is_empty(), "{extension}: {differences:#?}");
        rig.assert_idle().await;
    }
}
