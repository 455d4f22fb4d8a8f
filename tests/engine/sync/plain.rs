//! Servers that offer the bare protocol: without the extensions everything takes more round trips and nothing else.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use mailferry::drivers::imap::source::ImapSource;
use mailferry::transfer::PassOutcome;
use mailferry::transfer::progress::MailboxProgress;

use crate::support::corpus::Corpus;
use crate::sync::cut::{cut_pass, size_of};
use crate::sync::rig::{ANNA, Rig, all_rules, carry, letter, log_in, new_server, old_server};

const BARE: &str = "IMAP4rev1";

fn bare_pair() -> Rig {
    Rig::start(old_server().capability(BARE), new_server().capability(BARE))
}

#[tokio::test]
async fn a_mailbox_moves_without_any_extension() {
    let rig = bare_pair();
    rig.at_source().seed(Corpus::new(61).with_large(&[3 << 20]).messages(200));
    let outcome = rig.pass().await;
    rig.assert_same();
    assert_eq!(
        (outcome.sent, outcome.sizes_checked, outcome.digests_checked),
        (200, 200, 200),
        "{outcome:?}"
    );
    rig.assert_idle().await;
}

#[tokio::test]
async fn flags_and_twins_follow_without_any_extension() {
    let rig = bare_pair();
    rig.at_source().seed(Corpus::new(62).messages(100));
    rig.at_source().append(&letter("INBOX", &[], "twin")).unwrap();
    rig.pass().await;
    let mut old = rig.at_source();
    old.append(&letter("INBOX", &[], "twin")).unwrap();
    old.select("INBOX").unwrap();
    old.command("STORE 1:5 +FLAGS (\\Flagged late)").unwrap();
    old.command("STORE 2:6 -FLAGS (\\Seen)").unwrap();
    drop(old);
    assert_eq!(rig.pass().await.sent, 1);
    rig.assert_same();
    rig.assert_idle().await;
}

async fn survive_cut(seed: u64, percent: u64) {
    let rig = bare_pair();
    rig.at_source().seed(Corpus::new(seed).messages(120));
    for _ in 0..10 {
        rig.at_source().append(&letter("INBOX", &[], "twin")).unwrap();
    }
    cut_pass(&rig, size_of(&rig) * percent / 100, Duration::from_millis(3)).await;
    rig.pass().await;
    rig.assert_same();
    rig.assert_idle().await;
}

#[tokio::test]
async fn an_early_cut_without_any_extension() {
    survive_cut(63, 20).await;
}

#[tokio::test]
async fn a_late_cut_without_any_extension() {
    survive_cut(64, 90).await;
}

/// Some have one extension and some another.
#[tokio::test]
async fn each_extension_alone_will_do() {
    for extension in
        ["LITERAL+", "LITERAL-", "UIDPLUS", "CONDSTORE", "LIST-EXTENDED", "NAMESPACE", "SPECIAL-USE"]
    {
        let words = format!("{BARE} {extension}");
        let rig = Rig::start(old_server().capability(&words), new_server().capability(&words));
        rig.at_source().seed(Corpus::new(65).messages(60));
        rig.pass().await;
        let differences = rig.differences();
        assert!(differences.is_empty(), "{extension}: {differences:#?}");
        rig.assert_idle().await;
    }
}

/// Stands before a server and takes APPENDUID out of what it says: Dovecot says it whatever it offers.
async fn without_appenduid(server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(server).await.unwrap();
            let (mut from_client, mut to_client) = client.into_split();
            let (from_server, mut to_server) = server.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
            tokio::spawn(async move {
                let mut from_server = BufReader::new(from_server);
                let mut line = Vec::new();
                while from_server.read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
                    let start = line.windows(11).position(|part| part == b"[APPENDUID ");
                    if let Some(start) = start.filter(|_| line.len() < 200)
                        && let Some(length) = line[start..].iter().position(|byte| *byte == b']')
                    {
                        line.drain(start..start + length + 2);
                    }
                    if to_client.write_all(&line).await.is_err() {
                        return;
                    }
                    line.clear();
                }
            });
        }
    });
    address
}

async fn pass_without_appenduid(rig: &Rig, cut_at: u64) -> Option<PassOutcome> {
    let destination = without_appenduid(rig.destination.imap()).await;
    let mut source = ImapSource::new(log_in(rig.source.imap(), ANNA).await).await.unwrap();
    let (path, rules, progress) = (rig.ledger_path(), all_rules(), MailboxProgress::default());
    tokio::select! {
        done = carry(&mut source, destination, &path, &rules, &progress) => Some(done.unwrap()),
        () = async {
            while progress.read().bytes < cut_at {
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
        } => None,
    }
}

#[tokio::test]
async fn twins_and_flags_find_their_message_where_the_server_says_no_uids() {
    let rig = bare_pair();
    rig.at_source().seed(Corpus::new(66).messages(100));
    rig.at_source().append(&letter("INBOX", &[], "twin")).unwrap();
    let outcome = pass_without_appenduid(&rig, u64::MAX).await.unwrap();
    assert_eq!((outcome.sent, outcome.digests_checked), (101, 101), "arrivals are looked for and checked");
    assert!(rig.rows().await.iter().all(|row| row.destination.is_some()));
    rig.assert_same();
    let mut old = rig.at_source();
    old.append(&letter("INBOX", &[], "twin")).unwrap();
    old.select("INBOX").unwrap();
    old.command("STORE 1:5 +FLAGS (\\Flagged late)").unwrap();
    drop(old);
    let outcome = pass_without_appenduid(&rig, u64::MAX).await.unwrap();
    assert_eq!((outcome.sent, outcome.recognised), (1, 0), "the second twin is not taken for the first");
    rig.assert_same();
    rig.assert_idle().await;
}

#[tokio::test]
async fn a_cut_where_the_server_says_no_uids() {
    let rig = bare_pair();
    for n in 0..60 {
        rig.at_source().append(&letter("INBOX", &[], "twin")).unwrap();
        rig.at_source().append(&letter("INBOX", &["\\Seen"], &format!("letter {n}"))).unwrap();
    }
    let size = size_of(&rig);
    for share in [size / 3, size / 2] {
        assert!(pass_without_appenduid(&rig, share).await.is_none(), "it was cut");
    }
    pass_without_appenduid(&rig, u64::MAX).await.unwrap();
    rig.assert_same();
    rig.assert_idle().await;
}
