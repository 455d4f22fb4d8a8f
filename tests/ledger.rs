//! Proves the embedded ledger: what it was told is there after it was closed or killed, and a file that it cannot trust is
//! refused by name.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use std::fs;
use std::path::{Path, PathBuf};

use mailferry::ledger::sqlite::SqliteLedger;
use mailferry::ledger::{Cursor, Foreign, Known, Ledger, NewRow, RowId, Settled};
use mailferry::model::failure::{Class, Failure};
use mailferry::model::folder::FolderPath;
use mailferry::model::identity::Digest;
use mailferry::model::message::{Arrival, Flags, InternalDate, Locator, Verdict};
use proptest::prelude::*;
use tempfile::TempDir;

fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("anna@a.test.sqlite");
    (directory, path)
}

fn folder() -> FolderPath {
    FolderPath::new(["Entwürfe", "with/slash", "\"quoted\""])
}

fn new_row(uid: u32, verdict: Verdict) -> NewRow {
    NewRow {
        locator: Locator::Imap { folder: folder(), uidvalidity: 7, uid },
        size: u64::from(uid) * 1000,
        date: Some(InternalDate { unix: 1_612_148_645, offset_minutes: -450 }),
        flags: Flags::parse("$Label1 \\Seen"),
        verdict,
    }
}

fn known(byte: u8) -> Known {
    Known {
        exact: Digest([byte; 32]),
        canonical: Digest([!byte; 32]),
        message_id: Some(format!("{byte}@a.test")),
        subject: Some("Grüße".to_owned()),
    }
}

fn settled(id: RowId, verdict: Verdict, arrival: Option<Arrival>) -> Settled {
    Settled {
        id,
        known: Some(known(3)),
        size: Some(42),
        date: None,
        flags: None,
        destination: arrival.map(|arrival| (folder(), arrival)),
        verdict,
        replaces: None,
    }
}

#[tokio::test]
async fn everything_is_there_again_after_it_was_closed() {
    let (_directory, path) = place();
    let arrival = Arrival { uidvalidity: 9, uid: 100 };
    let cursor = Cursor {
        uidvalidity: 7,
        uidnext: Some(u32::MAX),
        messages: 3,
        highest_modseq: Some(u64::MAX - 1),
        destination_uidvalidity: 9,
        destination_scanned: 101,
    };
    let ids = {
        let ledger = SqliteLedger::open(&path).unwrap();
        let rows = [
            new_row(1, Verdict::Pending),
            new_row(2, Verdict::Excluded("too large".into())),
            new_row(3, Verdict::Pending),
            NewRow {
                locator: Locator::Pop3 { uidl: "\u{7e}!x".into() },
                date: None,
                flags: Flags::default(),
                ..new_row(4, Verdict::Pending)
            },
        ];
        let ids = ledger.insert(&rows).await.unwrap();
        let intent = ledger.begin_intent(&folder(), 9, 100, &ids).await.unwrap();
        ledger.settle(&[settled(ids[0], Verdict::Delivered, Some(arrival.clone()))], None).await.unwrap();
        assert_eq!(ledger.open_intents().await.unwrap()[0].id, intent);
        ledger.save_cursor(&folder(), &cursor).await.unwrap();
        ledger.keep_foreign(&folder(), 9, &[Foreign { uid: 5, known: known(8) }]).await.unwrap();
        ledger.save_fact("a", "b").await.unwrap();
        ids
    };
    let ledger = SqliteLedger::open(&path).unwrap();
    let rows = ledger.rows(&folder()).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.id).collect::<Vec<_>>(), ids[..3]);
    assert_eq!(rows[0].locator, new_row(1, Verdict::Pending).locator);
    assert_eq!((rows[0].size, &rows[0].known, &rows[0].verdict), (42, &Some(known(3)), &Verdict::Delivered));
    assert_eq!(rows[0].destination, Some((folder(), arrival)));
    assert_eq!(rows[0].date, new_row(1, Verdict::Pending).date);
    assert_eq!(rows[0].flags, Flags::parse("$Label1 \\Seen"));
    assert_eq!(rows[1].verdict, Verdict::Excluded("too large".into()));
    assert_eq!((rows[2].size, &rows[2].known, &rows[2].destination), (3000, &None, &None));
    let pop3 = ledger.rows(&FolderPath::inbox()).await.unwrap();
    assert_eq!((pop3[0].locator.clone(), pop3[0].date), (Locator::Pop3 { uidl: "~!x".into() }, None));
    let intents = ledger.open_intents().await.unwrap();
    assert_eq!(
        (intents.len(), intents[0].folder.clone(), intents[0].rows.clone()),
        (1, folder(), ids.clone())
    );
    assert_eq!((intents[0].uidvalidity, intents[0].uidnext), (9, 100));
    assert_eq!(ledger.cursor(&folder()).await.unwrap(), Some(cursor));
    assert_eq!(ledger.cursor(&FolderPath::inbox()).await.unwrap(), None);
    assert_eq!(ledger.foreign(&folder(), 9).await.unwrap()[0].known.exact, known(8).exact);
    assert_eq!(ledger.claimed(&folder(), 9).await.unwrap().into_iter().collect::<Vec<_>>(), [100]);
    assert_eq!(ledger.fact("a").await.unwrap().as_deref(), Some("b"));
    let counts = ledger.counts().await.unwrap();
    assert_eq!((counts.source, counts.copied, counts.excluded, counts.pending), (4, 1, 1, 2));
}

#[tokio::test]
async fn a_step_is_whole_or_not_at_all() {
    let (_directory, path) = place();
    let ledger = SqliteLedger::open(&path).unwrap();
    let first = ledger.insert(&[new_row(1, Verdict::Pending)]).await.unwrap();
    // The second row is there already: the first of the same step must not stay behind.
    let twice = [new_row(2, Verdict::Pending), new_row(1, Verdict::Pending)];
    ledger.insert(&twice).await.unwrap_err();
    assert_eq!(ledger.rows(&folder()).await.unwrap().len(), 1);
    let intent = ledger.begin_intent(&folder(), 9, 1, &first).await.unwrap();
    ledger
        .settle(&[settled(first[0], Verdict::Quarantined("refused".into()), None)], Some(intent))
        .await
        .unwrap();
    assert!(ledger.open_intents().await.unwrap().is_empty());
    assert_eq!(ledger.counts().await.unwrap().failed, 1);
}

#[tokio::test]
async fn rows_are_adopted_replaced_forgotten_and_reopened() {
    let (_directory, path) = place();
    let ledger = SqliteLedger::open(&path).unwrap();
    let rows = [1, 2, 3].map(|uid| new_row(uid, Verdict::Pending));
    let ids = ledger.insert(&rows).await.unwrap();
    let foreign = [5, 6].map(|uid| Foreign { uid, known: known(8) });
    ledger.keep_foreign(&folder(), 9, &foreign).await.unwrap();
    let adopted = Settled {
        replaces: Some(ids[0]),
        ..settled(ids[1], Verdict::Delivered, Some(Arrival { uidvalidity: 9, uid: 5 }))
    };
    ledger.settle(&[adopted], None).await.unwrap();
    assert_eq!(ledger.foreign(&folder(), 9).await.unwrap().iter().map(|f| f.uid).collect::<Vec<_>>(), [6]);
    let left: Vec<_> = ledger.page(0, 10).await.unwrap().iter().map(|row| row.id).collect();
    assert_eq!(left, ids[1..], "the replaced row is forgotten");

    ledger.mark_gone(&ids).await.unwrap();
    let rows = ledger.page(0, 10).await.unwrap();
    assert_eq!(rows.len(), 1, "what was never carried is forgotten");
    assert!(rows[0].gone && rows[0].id == ids[1]);
    ledger.reopen(&ids).await.unwrap();
    assert_eq!(ledger.counts().await.unwrap().copied, 1, "what is gone cannot be carried again");

    // Another UIDVALIDITY voids what was seen under the one before, and only that.
    let later = ledger.insert(&[new_row(9, Verdict::Pending)]).await.unwrap();
    let arrival = Arrival { uidvalidity: 10, uid: 1 };
    ledger.settle(&[settled(later[0], Verdict::Delivered, Some(arrival.clone()))], None).await.unwrap();
    ledger.forget_arrivals(&folder(), 10).await.unwrap();
    let rows = ledger.rows(&folder()).await.unwrap();
    assert_eq!(rows[0].destination, None);
    assert_eq!(rows[1].destination, Some((folder(), arrival)));
    assert!(ledger.foreign(&folder(), 9).await.unwrap().is_empty());
}

fn refused(path: &Path) -> Failure {
    let failure = SqliteLedger::open(path).err().unwrap();
    assert_eq!(failure.class, Class::Configuration, "{failure:?}");
    assert!(failure.what.contains(path.to_str().unwrap()), "it names the file: {}", failure.what);
    assert!(failure.hint.is_some(), "it names the remedy");
    failure
}

#[tokio::test]
async fn files_that_cannot_be_trusted_are_refused_and_left_as_they_are() {
    let (directory, path) = place();
    SqliteLedger::open(&path).unwrap().insert(&[new_row(1, Verdict::Pending)]).await.unwrap();
    let sound = fs::read(&path).unwrap();
    let damage = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let copy = directory.path().join(name);
        let mut bytes = sound.clone();
        change(&mut bytes);
        fs::write(&copy, &bytes).unwrap();
        (copy, bytes)
    };
    // The version is at byte 60 of a database's header.
    let (newer, bytes) = damage("newer", &|bytes| bytes[60..64].copy_from_slice(&2_u32.to_be_bytes()));
    let failure = refused(&newer);
    assert!(failure.what.contains("newer Mailferry"), "{}", failure.what);
    assert_eq!(fs::read(&newer).unwrap(), bytes);

    let (text, bytes) = damage("text", &|bytes| *bytes = b"dear diary, ".repeat(100));
    assert!(refused(&text).what.contains("damaged"));
    assert_eq!(fs::read(&text).unwrap(), bytes);

    let (torn, _) = damage("torn", &|bytes| bytes.truncate(bytes.len() / 2));
    refused(&torn);
    let (scribbled, _) = damage("scribbled", &|bytes| bytes[4096..9000].fill(0x5a));
    refused(&scribbled);

    let other = directory.path().join("other");
    rusqlite::Connection::open(&other).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    let bytes = fs::read(&other).unwrap();
    assert!(refused(&other).what.contains("not a Mailferry ledger"));
    assert_eq!(fs::read(&other).unwrap(), bytes);

    refused(&directory.path().join("no/such/directory"));
    SqliteLedger::open(&path).unwrap();
}

#[tokio::test]
async fn two_at_once_see_each_others_work() {
    let (_directory, path) = place();
    let (one, two) = (SqliteLedger::open(&path).unwrap(), SqliteLedger::open(&path).unwrap());
    let rows: Vec<NewRow> = (1..200).map(|uid| new_row(uid, Verdict::Pending)).collect();
    let (first, second) = rows.split_at(100);
    let (a, b) = tokio::join!(one.insert(first), two.insert(second));
    assert_eq!(a.unwrap().len() + b.unwrap().len(), 199);
    assert_eq!(one.counts().await.unwrap().source, 199);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// Whatever a server calls things, it comes back as it went in, and the counts add up.
    #[test]
    fn any_name_and_any_verdict_comes_back(
        names in prop::collection::vec("\\PC{0,12}", 1..4),
        uid in any::<u32>(),
        verdicts in prop::collection::vec((0_u8..5, "\\PC{0,20}"), 1..20),
    ) {
        let (_directory, path) = place();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let ledger = SqliteLedger::open(&path).unwrap();
            let folder = FolderPath::new(names);
            let mut expected = Vec::new();
            for (n, (kind, why)) in verdicts.into_iter().enumerate() {
                let verdict = match kind {
                    0 => Verdict::Pending,
                    1 => Verdict::Delivered,
                    2 => Verdict::DeliveredAltered(why),
                    3 => Verdict::Excluded(why),
                    _ => Verdict::Quarantined(why),
                };
                let uid = uid.wrapping_add(u32::try_from(n).unwrap());
                let locator = Locator::Imap { folder: folder.clone(), uidvalidity: 7, uid };
                ledger.insert(&[NewRow { locator: locator.clone(), ..new_row(1, verdict.clone()) }]).await.unwrap();
                expected.push((locator, verdict));
            }
            let found: Vec<_> =
                ledger.rows(&folder).await.unwrap().into_iter().map(|row| (row.locator, row.verdict)).collect();
            let counts = ledger.counts().await.unwrap();
            assert!(counts.balances());
            assert_eq!(counts.source, expected.len() as u64);
            assert_eq!(found, expected);
        });
    }
}
