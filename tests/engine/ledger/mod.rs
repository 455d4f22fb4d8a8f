//! Proves the ledgers, each test on every store: what a ledger was told is there after it was closed, whoever carries a
//! mailbox is alone with it, and what cannot be trusted is refused by name. [`database`] has what concerns PostgreSQL alone,
//! [`upgrade`] and [`taken_over`] ledgers of the format before.

mod database;
mod golden;
mod taken_over;
mod upgrade;

use std::cell::Cell;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use crate::support::postgres::{PASSWORD, Postgres, USER};
use jiff::{SignedDuration, Timestamp};
use mailferry::ledger::postgres::{Options, PostgresStore};
use mailferry::ledger::sqlite::{SqliteLedger, SqliteStore};
use mailferry::ledger::{
    Cursor, Discrepancies, Foreign, Known, Ledger, LoginMark, NewRow, Refused, Renaming, Row, RowId, Settled,
    Space, Store,
};
use mailferry::model::failure::{Class, Failure, FailureCode};
use mailferry::model::folder::FolderPath;
use mailferry::model::identity::Digest;
use mailferry::model::mark::Mark;
use mailferry::model::message::{Arrival, Epoch, Flags, InternalDate, ItemId, Locator, Verdict};
use mailferry::model::progress::MessageCounts;
use mailferry::model::protocol::Protocol;
use mailferry::model::secret::Secret;
use mailferry::net::tls::Trust;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tempfile::TempDir;

/// A place for ledgers that a test has for itself.
enum Place {
    Directory(TempDir),
    Database(Arc<Postgres>, String),
}

/// How a test logs in to a database: over TLS.
fn options(postgres: &Postgres, database: &str) -> Options {
    let trust = Trust::with_authorities(&[postgres.ca().pem().to_owned()]).unwrap();
    let tls = Some(Arc::clone(trust.config()));
    Options { tls, ..options_in_the_clear(postgres.address().port(), database) }
}

/// As [`options`], for one who does not have the server's authority at hand.
fn options_in_the_clear(port: u16, database: &str) -> Options {
    Options {
        host: "localhost".to_owned(),
        port,
        database: database.to_owned(),
        username: USER.to_owned(),
        password: Secret::new(PASSWORD),
        tls: None,
        // The server listens on one of the addresses that the name has.
        vet: Arc::new(|_: IpAddr| Ok(())),
    }
}

impl Place {
    fn sqlite() -> Self {
        Self::Directory(tempfile::tempdir().unwrap())
    }

    fn postgres() -> Self {
        let postgres = Postgres::shared();
        let database = postgres.database();
        Self::Database(postgres, database)
    }

    /// The store, as a process of its own would open it.
    async fn store(&self) -> Box<dyn Store> {
        match self {
            Self::Directory(directory) => {
                let root = directory.path();
                Box::new(SqliteStore::new(root.join("mailboxes"), root.join("logins.sqlite")))
            }
            Self::Database(postgres, database) => {
                Box::new(PostgresStore::open(options(postgres, database), "default/move").await.unwrap())
            }
        }
    }

    /// The ledger of the mailbox that most tests have.
    async fn ledger(&self) -> Box<dyn Ledger> {
        self.store().await.claim(ANNA).await.unwrap()
    }
}

const ANNA: &str = "move-anna-0a1b2c3d";

/// Runs each test on every store.
macro_rules! on_every_store {
    ($($test:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test] async fn $test() { super::$test(super::Place::sqlite()).await; })*
        }
        mod postgres {
            $(#[tokio::test] async fn $test() { super::$test(super::Place::postgres()).await; })*
        }
    };
}

on_every_store!(
    everything_is_there_again_after_it_was_closed,
    a_step_is_whole_or_not_at_all,
    rows_are_adopted_replaced_forgotten_and_reopened,
    what_a_verification_found_is_counted_and_stays_until_it_is_mended,
    each_count_is_that_of_the_rows,
    a_folder_that_is_called_differently_keeps_all_that_is_known_of_it,
    whoever_carries_a_mailbox_is_alone_with_it,
    mailboxes_do_not_see_each_other,
    marks_of_logins_are_changed_one_after_the_other,
    keys_that_are_no_names_are_refused,
    large_steps_tell_how_fast_it_is,
);

fn folder() -> FolderPath {
    FolderPath::new(["Entwürfe", "with/slash", "\"quoted\""])
}

fn imap(folder: &FolderPath, uidvalidity: u32, uid: u32) -> Locator {
    let (protocol, epoch) = (Protocol::Imap, Epoch::from(uidvalidity));
    Locator { protocol, folder: folder.clone(), epoch, id: ItemId::Uid(uid) }
}

fn pop3(id: &str) -> Locator {
    let (protocol, folder) = (Protocol::Pop3, FolderPath::inbox());
    Locator { protocol, folder, epoch: Epoch::default(), id: ItemId::from(id) }
}

fn at(uidvalidity: u32, uid: u32) -> Arrival {
    Arrival { epoch: Epoch::from(uidvalidity), id: ItemId::Uid(uid) }
}

fn new_row(uid: u32, verdict: Verdict) -> NewRow {
    NewRow {
        locator: imap(&folder(), 7, uid),
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
        stored: None,
        replaces: None,
        refused: Refused::default(),
    }
}

async fn everything_is_there_again_after_it_was_closed(place: Place) {
    let arrival = at(9, 100);
    let cursor = Cursor {
        epoch: Epoch::from(7),
        mark: Mark::from("4294967295 18446744073709551614"),
        items: Some(3),
        proves: true,
        destination: folder(),
        destination_epoch: Epoch::from(9),
        destination_mark: Mark::from("101"),
    };
    let ids = {
        let ledger = place.ledger().await;
        let rows = [
            new_row(1, Verdict::Pending),
            new_row(2, Verdict::Excluded("too large".into())),
            new_row(3, Verdict::Pending),
            NewRow {
                locator: pop3("\u{7e}!x"),
                date: None,
                flags: Flags::default(),
                ..new_row(4, Verdict::Pending)
            },
        ];
        let ids = ledger.insert(&rows).await.unwrap();
        let intent = ledger
            .begin_intent(&FolderPath::inbox(), &folder(), &Epoch::from(9), &Mark::from("100"), &ids)
            .await
            .unwrap();
        ledger.settle(&[settled(ids[0], Verdict::Delivered, Some(arrival.clone()))], None).await.unwrap();
        assert_eq!(ledger.open_intents().await.unwrap()[0].id, intent);
        ledger.save_cursor(&folder(), &cursor).await.unwrap();
        ledger
            .keep_foreign(&folder(), &Epoch::from(9), &[Foreign { id: ItemId::Uid(5), known: known(8) }])
            .await
            .unwrap();
        ledger.save_fact("a", "b").await.unwrap();
        ids
    };
    let ledger = place.ledger().await;
    let rows = ledger.rows(&folder()).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.id).collect::<Vec<_>>(), ids[..3]);
    assert_eq!(rows[0].locator, new_row(1, Verdict::Pending).locator);
    assert_eq!((rows[0].size, &rows[0].known, &rows[0].verdict), (42, &Some(known(3)), &Verdict::Delivered));
    assert_eq!(rows[0].destination, Some((folder(), arrival)));
    assert_eq!(rows[0].date, new_row(1, Verdict::Pending).date);
    assert_eq!(rows[0].flags, Flags::parse("$Label1 \\Seen"));
    assert_eq!(rows[1].verdict, Verdict::Excluded("too large".into()));
    assert_eq!((rows[2].size, &rows[2].known, &rows[2].destination), (3000, &None, &None));
    let popped = ledger.rows(&FolderPath::inbox()).await.unwrap();
    assert_eq!((popped[0].locator.clone(), popped[0].date), (pop3("~!x"), None));
    let intents = ledger.open_intents().await.unwrap();
    assert_eq!(
        (intents.len(), intents[0].folder.clone(), intents[0].rows.clone()),
        (1, folder(), ids.clone())
    );
    assert_eq!((intents[0].epoch.clone(), intents[0].mark.as_str()), (Epoch::from(9), "100"));
    assert_eq!(ledger.cursor(&folder()).await.unwrap(), Some(cursor.clone()));
    assert_eq!(ledger.cursors().await.unwrap(), [(folder(), cursor)].into());
    assert_eq!(ledger.cursor(&FolderPath::inbox()).await.unwrap(), None);
    assert_eq!(ledger.foreign(&folder(), &Epoch::from(9)).await.unwrap()[0].known.exact, known(8).exact);
    assert_eq!(
        ledger.claimed(&folder(), &Epoch::from(9)).await.unwrap().iter().collect::<Vec<_>>(),
        [ItemId::Uid(100)]
    );
    assert_eq!(ledger.fact("a").await.unwrap().as_deref(), Some("b"));
    let counts = ledger.counts().await.unwrap();
    assert_eq!((counts.source, counts.copied, counts.excluded, counts.pending), (4, 1, 1, 2));
}

async fn a_step_is_whole_or_not_at_all(place: Place) {
    let ledger = place.ledger().await;
    let first = ledger.insert(&[new_row(1, Verdict::Pending)]).await.unwrap();
    // The second row is there already: the first of the same step must not stay behind.
    let twice = [new_row(2, Verdict::Pending), new_row(1, Verdict::Pending)];
    ledger.insert(&twice).await.unwrap_err();
    assert_eq!(ledger.rows(&folder()).await.unwrap().len(), 1);
    let intent = ledger
        .begin_intent(&FolderPath::inbox(), &folder(), &Epoch::from(9), &Mark::from("1"), &first)
        .await
        .unwrap();
    ledger
        .settle(&[settled(first[0], Verdict::Quarantined("refused".into()), None)], Some(intent))
        .await
        .unwrap();
    assert!(ledger.open_intents().await.unwrap().is_empty());
    assert_eq!(ledger.counts().await.unwrap().failed, 1);
}

async fn what_a_verification_found_is_counted_and_stays_until_it_is_mended(place: Place) {
    let ledger = place.ledger().await;
    let ids = ledger.insert(&[1, 2, 3, 4, 5].map(|uid| new_row(uid, Verdict::Pending))).await.unwrap();
    let found = |id, verdict, code, arrival: Option<Arrival>| Settled {
        refused: Refused { code: Some(code), limit: None },
        ..settled(id, verdict, arrival)
    };
    let arrival = |uid| Some(at(9, uid));
    let changed = Verdict::DeliveredAltered("other bytes".into());
    ledger
        .settle(
            &[
                settled(ids[0], Verdict::Delivered, arrival(1)),
                settled(ids[1], Verdict::DeliveredAltered("a NUL byte".into()), arrival(2)),
                found(ids[2], changed, FailureCode::ArrivalChanged, arrival(3)),
                found(ids[3], Verdict::Delivered, FailureCode::ArrivalMissing, None),
                // A refusal has a code too.
                found(ids[4], Verdict::Quarantined("no".into()), FailureCode::TooLarge, None),
            ],
            None,
        )
        .await
        .unwrap();
    let count = async || ledger.count_discrepancies().await.unwrap();
    assert_eq!(
        count().await,
        Discrepancies { altered: 2, changed: 1, missing: 1, short: 0, ..Discrepancies::default() }
    );
    assert_eq!((ledger.count_unbound().await.unwrap(), ledger.counts().await.unwrap().copied), (1, 4));
    // Seen again, and read and found right; then the source lists another no longer.
    ledger
        .settle(
            &[
                settled(ids[3], Verdict::Delivered, arrival(4)),
                settled(ids[2], Verdict::Delivered, arrival(3)),
                found(ids[0], Verdict::Delivered, FailureCode::ArrivalMissing, None),
            ],
            None,
        )
        .await
        .unwrap();
    assert_eq!(
        count().await,
        Discrepancies { altered: 1, changed: 0, missing: 1, short: 0, ..Discrepancies::default() }
    );
    ledger.mark_gone(&ids[..1]).await.unwrap();
    assert_eq!(count().await.missing, 0, "the source has it no more either");
    ledger.mark_listed(&ids[..1]).await.unwrap();
    ledger.reopen(&ids[..1]).await.unwrap();
    assert_eq!(
        count().await,
        Discrepancies { altered: 1, changed: 0, missing: 0, short: 0, ..Discrepancies::default() }
    );
}

async fn rows_are_adopted_replaced_forgotten_and_reopened(place: Place) {
    let ledger = place.ledger().await;
    let rows = [1, 2, 3].map(|uid| new_row(uid, Verdict::Pending));
    let ids = ledger.insert(&rows).await.unwrap();
    let foreign = [5, 6].map(|uid| Foreign { id: ItemId::Uid(uid), known: known(8) });
    ledger.keep_foreign(&folder(), &Epoch::from(9), &foreign).await.unwrap();
    let adopted = Settled { replaces: Some(ids[0]), ..settled(ids[1], Verdict::Delivered, Some(at(9, 5))) };
    ledger.settle(&[adopted], None).await.unwrap();
    assert_eq!(
        ledger
            .foreign(&folder(), &Epoch::from(9))
            .await
            .unwrap()
            .iter()
            .map(|f| f.id.clone())
            .collect::<Vec<_>>(),
        [ItemId::Uid(6)]
    );
    let left: Vec<_> = ledger.page(0, 10).await.unwrap().iter().map(|row| row.id).collect();
    assert_eq!(left, ids[1..], "the replaced row is forgotten");

    ledger.mark_gone(&ids).await.unwrap();
    let rows = ledger.page(0, 10).await.unwrap();
    assert_eq!(rows.len(), 1, "what was never carried is forgotten");
    assert!(rows[0].gone && rows[0].id == ids[1]);
    ledger.reopen(&ids).await.unwrap();
    assert_eq!(ledger.counts().await.unwrap().copied, 1, "what is gone cannot be carried again");

    // UIDs that name other messages now are free for these.
    ledger.detach(&ids).await.unwrap();
    let row = ledger.page(0, 10).await.unwrap().remove(0);
    assert!(row.locator.epoch.is_void(), "{row:?}");
    assert!(row.destination.is_some(), "where it went is known as before");
    let anew = ledger.insert(&[new_row(2, Verdict::Pending)]).await.unwrap();
    ledger.detach(&anew).await.unwrap();
    ledger.forget(&anew).await.unwrap();

    // Another UIDVALIDITY voids what was seen under the one before, and only that.
    let later = ledger.insert(&[new_row(9, Verdict::Pending)]).await.unwrap();
    let arrival = at(10, 1);
    ledger.settle(&[settled(later[0], Verdict::Delivered, Some(arrival.clone()))], None).await.unwrap();
    ledger.forget_arrivals(&folder(), &Epoch::from(10)).await.unwrap();
    let rows = ledger.rows(&folder()).await.unwrap();
    assert_eq!(rows[0].destination, None);
    assert_eq!(rows[1].destination, Some((folder(), arrival)));
    assert!(ledger.foreign(&folder(), &Epoch::from(9)).await.unwrap().is_empty());
}

/// Counts are asked of indexes: they say what a walk through all rows says, whatever became of those.
async fn each_count_is_that_of_the_rows(place: Place) {
    let ledger = place.ledger().await;
    let verdicts = || {
        let why = || "why".to_owned();
        [
            Verdict::Pending,
            Verdict::Delivered,
            Verdict::DeliveredAltered(why()),
            Verdict::Excluded(why()),
            Verdict::Quarantined(why()),
            Verdict::Shown,
        ]
    };
    let elsewhere = FolderPath::new(["Elsewhere"]);
    let mut uid = 0;
    for uidvalidity in [6, 7, 8] {
        for path in [folder(), elsewhere.clone()] {
            for (n, verdict) in (0..3).flat_map(|n| verdicts().map(|verdict| (n, verdict))) {
                uid += 1;
                let locator = imap(&path, uidvalidity, uid);
                let row = NewRow { locator, ..new_row(1, Verdict::Pending) };
                let ids = ledger.insert(&[row]).await.unwrap();
                let arrival = (n != 1).then_some(at(9 + n, uid));
                let is_pending = verdict == Verdict::Pending;
                ledger
                    .settle(&[settled(ids[0], verdict, arrival.filter(|_| !is_pending))], None)
                    .await
                    .unwrap();
                if n == 2 {
                    ledger.mark_gone(&ids).await.unwrap();
                }
            }
        }
    }
    ledger.keep_unlisted(&folder(), 2..=2, "counted and not listed").await.unwrap();
    let maildrop = pop3("one");
    ledger.insert(&[NewRow { locator: maildrop, ..new_row(1, Verdict::Pending) }]).await.unwrap();

    let rows = ledger.page(0, 1000).await.unwrap();
    let count = |fits: &dyn Fn(&Row) -> bool| rows.iter().filter(|row| fits(row)).count() as u64;
    let counts = ledger.counts().await.unwrap();
    let mut expected = MessageCounts::default();
    for row in &rows {
        expected.add(&row.verdict, 1);
    }
    assert_eq!(counts, expected);
    let altered = |row: &Row| matches!(row.verdict, Verdict::DeliveredAltered(_));
    let discrepancies = ledger.count_discrepancies().await.unwrap();
    assert_eq!((discrepancies.altered, discrepancies.missing), (count(&altered), 0));
    let unbound = |row: &Row| row.verdict.is_delivered() && row.destination.is_none();
    assert_eq!(ledger.count_unbound().await.unwrap(), count(&unbound));
    assert_eq!(ledger.unbound(&elsewhere).await.unwrap().len(), 6);

    let space = Space { folder: folder(), protocol: Protocol::Imap, epoch: Epoch::from(7) };
    let in_space = |row: &Row| space.holds(&row.locator);
    assert_eq!(ledger.count_in(&space).await.unwrap(), count(&|row| in_space(row) && !row.gone));
    let expected: Vec<(ItemId, RowId)> =
        rows.iter().filter(|row| in_space(row)).map(|row| (row.locator.id.clone(), row.id)).collect();
    let first = ledger.ids_in(&space, None, 5).await.unwrap();
    assert_eq!(first, expected[..5]);
    assert_eq!(ledger.ids_in(&space, Some(&first[4].0), 1000).await.unwrap(), expected[5..]);
    let some: Vec<ItemId> = expected[2..4].iter().map(|(id, _)| id.clone()).chain(["one".into()]).collect();
    let at_them = ledger.rows_at(&space, &some).await.unwrap();
    assert_eq!(at_them.iter().map(|row| row.id).collect::<Vec<_>>(), [expected[2].1, expected[3].1]);
    let drop = Space { folder: FolderPath::inbox(), protocol: Protocol::Pop3, epoch: Epoch::default() };
    let at_one = ledger.rows_at(&drop, &some).await.unwrap();
    assert_eq!(at_one.iter().map(|row| row.locator.clone()).collect::<Vec<_>>(), [pop3("one")]);
    assert_eq!(ledger.ids_in(&drop, None, 5).await.unwrap(), [("one".into(), at_one[0].id)]);

    let is_elsewhere = async |folder: &FolderPath, at: &FolderPath, uidvalidity: u32| {
        ledger.is_elsewhere(folder, at, &Epoch::from(uidvalidity)).await.unwrap()
    };
    assert!(is_elsewhere(&elsewhere, &folder(), 9).await, "under a greater one");
    assert!(is_elsewhere(&elsewhere, &folder(), 11).await, "under a smaller one");
    assert!(!is_elsewhere(&elsewhere, &elsewhere, 9).await);

    // Without a word on their content, or with nothing done, rows of another space are of no use.
    let void = ledger.part_void(&space).await.unwrap();
    let is_other =
        |row: &&Row| row.locator.folder == folder() && !in_space(row) && !row.locator.is_unlisted();
    let of_use =
        |row: &&Row| !matches!(row.verdict, Verdict::Pending | Verdict::Excluded(_) | Verdict::Shown);
    let expected: Vec<RowId> = rows.iter().filter(is_other).filter(of_use).map(|row| row.id).collect();
    assert_eq!(void.iter().map(|row| row.id).collect::<Vec<_>>(), expected);
    assert!(expected.len() == 18, "{expected:?}");
    let left = ledger.page(0, 1000).await.unwrap();
    assert!(!left.iter().filter(is_other).any(|row| !of_use(&row)));
    assert_eq!(left.iter().filter(|row| in_space(row)).count() as u64, count(&in_space));
    let unlisted = |row: &&Row| row.locator.is_unlisted();
    assert_eq!(left.iter().filter(unlisted).count(), 2);
}

async fn a_folder_that_is_called_differently_keeps_all_that_is_known_of_it(place: Place) {
    let ledger = place.ledger().await;
    let path = |name: &str| FolderPath::new([name]);
    let renaming = |from: FolderPath, to: &str| Renaming { from, to: path(to) };
    let beside = NewRow { locator: imap(&path("Beside"), 7, 1), ..new_row(1, Verdict::Pending) };
    let ids =
        ledger.insert(&[new_row(1, Verdict::Pending), new_row(2, Verdict::Pending), beside]).await.unwrap();
    let arrival = at(9, 100);
    ledger
        .begin_intent(&FolderPath::inbox(), &folder(), &Epoch::from(9), &Mark::from("100"), &ids)
        .await
        .unwrap();
    let arrived = |id| settled(id, Verdict::Delivered, Some(arrival.clone()));
    ledger.settle(&[arrived(ids[0]), arrived(ids[2])], None).await.unwrap();
    ledger
        .keep_foreign(&folder(), &Epoch::from(9), &[Foreign { id: ItemId::Uid(5), known: known(8) }])
        .await
        .unwrap();
    let cursor = Cursor {
        epoch: Epoch::from(7),
        items: Some(2),
        destination_epoch: Epoch::from(9),
        ..Cursor::default()
    };
    ledger.save_cursor(&folder(), &cursor).await.unwrap();

    ledger.rename_folder(Some(&renaming(folder(), "Source")), None).await.unwrap();
    assert!(ledger.rows(&folder()).await.unwrap().is_empty());
    let rows = ledger.rows(&path("Source")).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.id).collect::<Vec<_>>(), ids[..2]);
    assert_eq!(rows[0].destination, Some((folder(), arrival.clone())), "the other side is as it was");
    assert_eq!(ledger.cursor(&folder()).await.unwrap(), None);
    assert_eq!(ledger.cursor(&path("Source")).await.unwrap(), Some(cursor));

    ledger.rename_folder(None, Some(&renaming(folder(), "There"))).await.unwrap();
    for (name, id) in [("Source", ids[0]), ("Beside", ids[2])] {
        let rows = ledger.rows(&path(name)).await.unwrap();
        let row = rows.iter().find(|row| row.id == id).unwrap();
        assert_eq!(row.destination, Some((path("There"), arrival.clone())));
    }
    assert_eq!(ledger.open_intents().await.unwrap()[0].folder, path("There"));
    assert_eq!(
        ledger.claimed(&path("There"), &Epoch::from(9)).await.unwrap(),
        [ItemId::Uid(100)].into_iter().collect()
    );
    assert_eq!(ledger.foreign(&path("There"), &Epoch::from(9)).await.unwrap().len(), 1);

    let (again, back) = (renaming(path("Source"), "Both"), renaming(path("There"), "Both there"));
    ledger.rename_folder(Some(&again), Some(&back)).await.unwrap();
    let rows = ledger.rows(&path("Both")).await.unwrap();
    assert_eq!((rows.len(), &rows[0].destination), (2, &Some((path("Both there"), arrival))));
    let counts = ledger.counts().await.unwrap();
    assert_eq!((counts.source, counts.copied, counts.pending), (3, 2, 1));
}

async fn whoever_carries_a_mailbox_is_alone_with_it(place: Place) {
    let (one, two) = (place.store().await, place.store().await);
    assert!(one.find(ANNA).await.unwrap().is_none(), "looking makes nothing");
    let carried = one.claim(ANNA).await.unwrap();
    for store in [&one, &two] {
        let failure = store.claim(ANNA).await.err().unwrap();
        assert_eq!(failure.class, Class::Conflict, "{failure:?}");
        assert!(failure.sentence().contains(ANNA), "{failure}");
    }
    let ids = carried.insert(&[new_row(1, Verdict::Pending)]).await.unwrap();
    let looked_at = two.find(ANNA).await.unwrap().unwrap();
    assert_eq!(looked_at.counts().await.unwrap().source, 1, "what is carried can be looked at");
    carried.insert(&[new_row(2, Verdict::Pending)]).await.unwrap();
    assert_eq!(looked_at.counts().await.unwrap().source, 2);
    looked_at.forget(&ids).await.unwrap_err();
    looked_at.insert(&[new_row(3, Verdict::Pending)]).await.unwrap_err();
    assert_eq!(carried.counts().await.unwrap().source, 2, "and not changed");
    let others = two.claim("move-bob-0a1b2c3d").await.unwrap();
    assert_eq!(others.counts().await.unwrap().source, 0, "another mailbox is free");
    drop(carried);
    let next = two.claim(ANNA).await.unwrap();
    assert_eq!(next.rows(&folder()).await.unwrap().len(), 2);
    // A row that is forgotten leaves its number to nobody who is still there.
    let more = next.insert(&[new_row(3, Verdict::Pending)]).await.unwrap();
    assert!(!ids.contains(&more[0]) && more[0] > ids[0]);
}

async fn mailboxes_do_not_see_each_other(place: Place) {
    let store = place.store().await;
    assert_eq!(store.facts("inbox").await.unwrap(), [], "there is none yet");
    let (anna, bob) = (store.claim(ANNA).await.unwrap(), store.claim("bob").await.unwrap());
    anna.save_fact("inbox", "here 7").await.unwrap();
    let mut facts = store.facts("inbox").await.unwrap();
    facts.sort_unstable();
    assert_eq!(facts, [("bob".to_owned(), None), (ANNA.to_owned(), Some("here 7".to_owned()))]);
    let rows = [1, 2].map(|uid| new_row(uid, Verdict::Pending));
    let (hers, his) = (anna.insert(&rows).await.unwrap(), bob.insert(&rows).await.unwrap());
    let arrival = at(9, 1);
    let intent = anna
        .begin_intent(&FolderPath::inbox(), &folder(), &Epoch::from(9), &Mark::from("1"), &hers)
        .await
        .unwrap();
    anna.settle(&[settled(hers[0], Verdict::Delivered, Some(arrival))], None).await.unwrap();
    anna.keep_foreign(&folder(), &Epoch::from(9), &[Foreign { id: ItemId::Uid(2), known: known(1) }])
        .await
        .unwrap();
    anna.save_cursor(&folder(), &Cursor::default()).await.unwrap();
    anna.save_fact("a", "b").await.unwrap();
    assert!(bob.claimed(&folder(), &Epoch::from(9)).await.unwrap().is_empty());
    assert!(bob.foreign(&folder(), &Epoch::from(9)).await.unwrap().is_empty());
    assert!(bob.open_intents().await.unwrap().is_empty());
    assert_eq!(bob.cursor(&folder()).await.unwrap(), None);
    assert!(bob.cursors().await.unwrap().is_empty());
    assert_eq!(bob.fact("a").await.unwrap(), None);
    assert_eq!(bob.counts().await.unwrap().pending, 2);
    // Rows that he forgets are not hers.
    let theirs = bob
        .begin_intent(&FolderPath::inbox(), &folder(), &Epoch::from(9), &Mark::from("1"), &his)
        .await
        .unwrap();
    bob.settle(&[], Some(theirs)).await.unwrap();
    bob.forget(&his).await.unwrap();
    bob.forget_cursors().await.unwrap();
    bob.forget_arrivals(&folder(), &Epoch::from(10)).await.unwrap();
    assert_eq!(anna.rows(&folder()).await.unwrap().len(), 2);
    assert_eq!(anna.open_intents().await.unwrap()[0].id, intent);
    assert_eq!(anna.foreign(&folder(), &Epoch::from(9)).await.unwrap().len(), 1);
    assert!(anna.cursor(&folder()).await.unwrap().is_some());
    assert!(anna.rows(&folder()).await.unwrap()[0].destination.is_some());
}

async fn marks_of_logins_are_changed_one_after_the_other(place: Place) {
    let (one, two) = (place.store().await, place.store().await);
    assert_eq!(one.salt().await.unwrap(), two.salt().await.unwrap(), "all share one salt");
    assert_ne!(one.salt().await.unwrap(), [0; 32]);
    let at = Timestamp::from_second(1_800_000_000).unwrap();
    let keys = ["key".to_owned(), "other".to_owned()];
    let mark = |key: &str, seconds: i64, holder: Option<&str>| LoginMark {
        key: key.to_owned(),
        at: at + SignedDuration::from_secs(seconds),
        holder: holder.map(str::to_owned),
    };
    let oldest = at - SignedDuration::from_hours(24);
    let mut adding = Vec::new();
    for n in 0..10 {
        let store = if n % 2 == 0 { &one } else { &two };
        let fresh = mark("key", n, (n == 3).then_some("me"));
        adding.push(store.change_marks(&keys, oldest, Box::new(move |marks| marks.push(fresh))));
    }
    for added in futures::future::join_all(adding).await {
        added.unwrap();
    }
    let seen = async |keys: &[String]| {
        let (tell, told) = tokio::sync::oneshot::channel();
        let look = move |marks: &mut Vec<LoginMark>| tell.send(marks.clone()).unwrap();
        two.change_marks(keys, oldest, Box::new(look)).await.unwrap();
        told.await.unwrap()
    };
    let mut all = seen(&keys).await;
    all.sort_by_key(|mark| mark.at);
    assert_eq!(all.len(), 10, "none is lost");
    assert_eq!(all[3], mark("key", 3, Some("me")));
    assert!(seen(&["other".to_owned()]).await.is_empty());
    let (far, fresh) = (mark("far", 0, None), mark("other", 60, None));
    let far_keys = ["far".to_owned()];
    one.change_marks(&far_keys, oldest, Box::new(move |marks| marks.push(far))).await.unwrap();
    let later = at + SignedDuration::from_secs(5);
    one.change_marks(&keys, later, Box::new(move |marks| *marks = vec![fresh])).await.unwrap();
    assert_eq!(seen(&keys).await, [mark("other", 60, None)]);
    assert!(seen(&far_keys).await.is_empty(), "what is too old is forgotten under every key");
}

async fn keys_that_are_no_names_are_refused(place: Place) {
    let store = place.store().await;
    for key in ["", "../anna", "a/b", ".hidden", "a\0b", "a b"] {
        assert_eq!(store.claim(key).await.err().unwrap().class, Class::Internal, "{key}");
        assert_eq!(store.find(key).await.err().unwrap().class, Class::Internal, "{key}");
    }
}

async fn large_steps_tell_how_fast_it_is(place: Place) {
    const ROWS: u32 = 10_000;
    const WINDOW: usize = 500;
    let ledger = place.ledger().await;
    let rows: Vec<NewRow> = (1..=ROWS).map(|uid| new_row(uid, Verdict::Pending)).collect();
    let rate = |count: usize, begun: Instant| count as u128 * 1_000_000 / begun.elapsed().as_micros().max(1);
    let begun = Instant::now();
    let ids = ledger.insert(&rows).await.unwrap();
    let insert = rate(rows.len(), begun);
    let begun = Instant::now();
    for (nth, window) in ids.chunks(WINDOW).enumerate() {
        let first = u32::try_from(nth * WINDOW).unwrap();
        let intent = ledger
            .begin_intent(
                &FolderPath::inbox(),
                &folder(),
                &Epoch::from(9),
                &Mark::from((first + 1).to_string()),
                window,
            )
            .await
            .unwrap();
        let arrived: Vec<Settled> = (first + 1..)
            .zip(window)
            .map(|(uid, id)| settled(*id, Verdict::Delivered, Some(at(9, uid))))
            .collect();
        ledger.settle(&arrived, Some(intent)).await.unwrap();
    }
    let settle = rate(rows.len(), begun);
    let begun = Instant::now();
    let read = ledger.rows(&folder()).await.unwrap();
    println!(
        "{}: insert {insert} rows/s, settle {settle} rows/s by {WINDOW}, read {} rows/s",
        match &place {
            Place::Directory(_) => "SQLite",
            Place::Database(..) => "PostgreSQL",
        },
        rate(read.len(), begun)
    );
    assert_eq!(read.len(), rows.len());
    assert!(read.iter().zip(1..).all(|(row, uid)| row.destination == Some((folder(), at(9, uid)))));
    assert!(ledger.open_intents().await.unwrap().is_empty());
    assert_eq!(ledger.claimed(&folder(), &Epoch::from(9)).await.unwrap().len(), rows.len());
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
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("anna@a.test.sqlite");
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
    let (newer, bytes) = damage("newer", &|bytes| bytes[60..64].copy_from_slice(&4_u32.to_be_bytes()));
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

/// A name of a server comes back as it went in, whatever it is, and the counts add up.
#[test]
fn any_name_and_any_verdict_comes_back() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let strategy = (
        prop::collection::vec("\\PC{0,12}", 1..4),
        any::<u32>(),
        prop::collection::vec((0_u8..5, "\\PC{0,20}"), 1..20),
    );
    for place in [Place::sqlite(), Place::postgres()] {
        let cases = Cell::new(0);
        let mut runner = TestRunner::new(ProptestConfig { cases: 32, ..ProptestConfig::default() });
        let run = runner.run(&strategy, |(names, uid, verdicts)| {
            let mailbox = format!("m{}", cases.replace(cases.get() + 1));
            runtime.block_on(come_back(&place, &mailbox, names, uid, verdicts));
            Ok(())
        });
        run.unwrap_or_else(|failure| panic!("{failure}"));
    }
}

async fn come_back(place: &Place, mailbox: &str, names: Vec<String>, uid: u32, verdicts: Vec<(u8, String)>) {
    let ledger = place.store().await.claim(mailbox).await.unwrap();
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
        let locator = imap(&folder, 7, uid);
        let row = NewRow { locator: locator.clone(), ..new_row(1, verdict.clone()) };
        ledger.insert(&[row]).await.unwrap();
        expected.push((locator, verdict));
    }
    let rows = ledger.rows(&folder).await.unwrap();
    let found: Vec<_> = rows.into_iter().map(|row| (row.locator, row.verdict)).collect();
    let counts = ledger.counts().await.unwrap();
    assert!(counts.balances());
    assert_eq!(counts.source, expected.len() as u64);
    assert_eq!(found, expected);
}
