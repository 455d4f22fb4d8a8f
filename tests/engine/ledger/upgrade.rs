//! Ledgers of older formats are brought to today's: all of them or nothing, whatever kills the process meanwhile.
//! [`golden`](crate::ledger::golden) has ledgers that builds with those formats wrote.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use mailferry::ledger::postgres::PostgresStore;
use mailferry::ledger::sqlite::SqliteStore;
use mailferry::ledger::{Discrepancies, Space, Store};
use mailferry::model::failure::{Class, Failure};
use mailferry::model::folder::FolderPath;
use mailferry::model::message::{Epoch, ItemId, Locator, Verdict};
use mailferry::model::protocol::Protocol;
use rusqlite::Connection;

use crate::ledger::golden::{Golden, MAILBOXES, SCOPE, TODAY, assert_as_told, tell};
use crate::ledger::{Place, new_row, options, options_in_the_clear};

#[tokio::test]
async fn everything_in_an_older_ledger_means_what_it_meant() {
    for golden in Golden::all() {
        for mailbox in MAILBOXES {
            assert_eq!(golden.format(mailbox), golden.of);
        }
        assert_as_told(&golden).await;
        let anna = golden.claim("anna").await;
        let counts = anna.counts().await.unwrap();
        assert_eq!(
            (counts.source, counts.excluded, counts.failed),
            (counts.copied + counts.pending + 2, 1, 1)
        );
        let found = anna.count_discrepancies().await.unwrap();
        let n = u64::from(golden.of > 1);
        assert_eq!(
            found,
            Discrepancies { altered: n, changed: n, missing: n, short: 0, ..Discrepancies::default() },
            "a verification found them"
        );
        // The rows that passes ask for by page and by kind are there as well.
        let inbox = FolderPath::inbox();
        let told = golden.told_of("anna", "messages");
        let uidvalidity = &told.iter().find(|row| row[1] == "[\"INBOX\"]").unwrap()[2];
        let space = Space {
            folder: inbox.clone(),
            protocol: Protocol::Imap,
            epoch: Epoch::from(uidvalidity.as_str()),
        };
        let in_doubt = &anna.open_intents().await.unwrap()[0].rows;
        let waiting = anna.work(&space, 0, 100).await.unwrap();
        assert_eq!(&waiting.iter().map(|row| row.id).collect::<Vec<_>>(), in_doubt);
        let refused = anna.refused(&space, 0, 100).await.unwrap();
        assert_eq!(refused.len(), 1);
        assert!(
            matches!(&refused[0].verdict, Verdict::Quarantined(why) if why.contains("APPEND")),
            "{refused:?}"
        );
        assert!(anna.unfinished().await.unwrap().contains(&inbox));
        let copied = anna.count_copied(&FolderPath::from_slashes("Archive/2019")).await.unwrap();
        assert_eq!(copied, if golden.of == 1 { 1 } else { 3 }, "one is gone");
    }
}

/// Somebody who only looks changes nothing: perhaps the build of before is still carrying.
#[tokio::test]
async fn a_file_of_an_older_format_can_be_looked_at_and_stays_as_it_is() {
    for golden in (1..TODAY).map(Golden::sqlite) {
        for mailbox in MAILBOXES {
            // The kill left a log beside the file, which belongs to it: whoever opens it puts it in.
            assert_eq!(golden.format(mailbox), golden.of);
            let file = golden.file(mailbox);
            let before = std::fs::read(&file).unwrap();
            let looked_at = golden.store().await.find(&Golden::key(mailbox)).await.unwrap().unwrap();
            // Whatever can be asked is answered, and all of it as it was told when it was written.
            assert_eq!(tell(&golden, mailbox, &*looked_at).await, golden.told(mailbox));
            let rows = looked_at.page(0, 1_000).await.unwrap();
            let counts = looked_at.counts().await.unwrap();
            assert!(counts.balances() && counts.source == rows.len() as u64, "{counts:?}");
            let altered = rows.iter().filter(|row| row.verdict.word() == "DeliveredAltered").count() as u64;
            assert_eq!(looked_at.count_discrepancies().await.unwrap().altered, altered);
            let (there, arrival) = rows[0].destination.as_ref().unwrap();
            assert!(looked_at.claimed(there, &arrival.epoch).await.unwrap().contains(&arrival.id));
            let Locator { protocol, folder, epoch, .. } = rows[0].locator.clone();
            let space = Space { folder, protocol, epoch };
            let ours = rows.iter().filter(|row| space.holds(&row.locator)).count();
            assert_eq!(looked_at.rows_in(&space, None, None, 1_000).await.unwrap().len(), ours);
            looked_at.save_fact("rules", "").await.unwrap_err();
            drop(looked_at);
            assert_eq!(std::fs::read(&file).unwrap(), before, "{mailbox}");
            assert_eq!(golden.format(mailbox), golden.of);
        }
    }
}

const ORDERS: &str = "MAILFERRY_TEST_UPGRADE";

/// The process that [`a_kill_at_any_step_leaves_format_1_or_today_s`] kills: it claims a ledger where the environment says, and
/// is idle otherwise.
#[tokio::test]
async fn claim_as_ordered() {
    let Ok(orders) = std::env::var(ORDERS) else { return };
    let orders: Vec<String> = serde_json::from_str(&orders).unwrap();
    let store: Box<dyn Store> = match &orders[..] {
        [_, mailboxes] => {
            Box::new(SqliteStore::new(mailboxes, PathBuf::from(mailboxes).join("logins.sqlite")))
        }
        [_, port, database] => {
            let to = options_in_the_clear(port.parse().unwrap(), database);
            Box::new(PostgresStore::open(to, SCOPE).await.unwrap())
        }
        other => panic!("{other:?}"),
    };
    drop(store.claim(&orders[0]).await.unwrap());
    mailferry::steps::write_count();
}

/// A process of its own that claims a mailbox's ledger.
fn claiming(golden: &Golden, mailbox: &str) -> Command {
    let mut orders = vec![Golden::key(mailbox)];
    match golden.database() {
        None => orders.push(golden.path("state/test/move/mailboxes").display().to_string()),
        Some((postgres, database)) => {
            orders.extend([postgres.address().port().to_string(), database.clone()]);
        }
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "ledger::upgrade::claim_as_ordered", "--test-threads=1"])
        .env(ORDERS, serde_json::to_string(&orders).unwrap())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// Claims in a process that dies at a step; how many steps there were, if it lived.
fn claim_apart(golden: &Golden, mailbox: &str, die_at: Option<u64>) -> Option<u64> {
    let steps = golden.path("steps");
    let mut command = claiming(golden, mailbox);
    command.env("MAILFERRY_STEPS_FILE", &steps);
    if let Some(step) = die_at {
        command.env("MAILFERRY_DIE_AT", step.to_string());
    }
    let status = command.status().unwrap();
    let killed = std::os::unix::process::ExitStatusExt::signal(&status) == Some(9);
    assert_eq!(killed, die_at.is_some(), "{status:?}");
    (!killed).then(|| std::fs::read_to_string(steps).unwrap().parse().unwrap())
}

#[tokio::test]
async fn a_kill_at_any_step_leaves_the_format_of_before_or_todays() {
    for whole in Golden::all() {
        let (of, before) = (whole.of, columns(&whole));
        let steps = claim_apart(&whole, "anna", None).unwrap();
        let after = columns(&whole);
        assert_ne!(before, after);
        let mut formats = Vec::new();
        for step in 1..=steps {
            let golden = whole.again();
            claim_apart(&golden, "anna", Some(step));
            let format = golden.format("anna");
            assert_eq!(
                columns(&golden),
                if format == of { before.clone() } else { after.clone() },
                "step {step}"
            );
            formats.push(format);
            // The next one who opens it goes on, and nothing is lost.
            assert_as_told(&golden).await;
        }
        // One behind each upgrade, and one before the commit; what comes after it is the claim's own.
        let (not_yet, done) = formats.split_at(usize::try_from(TODAY - of).unwrap() + 1);
        assert!(
            not_yet.iter().all(|format| *format == of) && !done.is_empty(),
            "of format {of}: {formats:?}"
        );
        assert!(done.iter().all(|format| *format == TODAY), "of format {of}: {formats:?}");
    }
}

/// Between two steps a large ledger is written for a while, far beyond what is kept in memory.
#[tokio::test]
async fn a_kill_in_the_midst_of_writing_leaves_the_format_of_before() {
    const MORE: usize = 60_000;
    for golden in (1..TODAY).map(Golden::sqlite) {
        golden.change("anna", &fill(MORE));
        let (before, log) = (columns(&golden), golden.file("anna").with_extension("sqlite-wal"));
        let mut child = claiming(&golden, "anna").spawn().unwrap();
        while std::fs::metadata(&log).map_or(0, |log| log.len()) < 1 << 20 {
            assert!(child.try_wait().unwrap().is_none(), "it was too quick");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
        assert_eq!((golden.format("anna"), columns(&golden)), (golden.of, before));
        let ledger = golden.claim("anna").await;
        assert_eq!(ledger.rows(&FolderPath::new(["Much"])).await.unwrap().len(), MORE);
        assert_eq!(golden.format("anna"), TODAY);
    }
}

/// So many more messages, in the words of formats 1 and 2.
fn fill(more: usize) -> String {
    format!(
        "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {more}) \
         INSERT INTO message (protocol, folder, uidvalidity, uid, uidl, size, flags, subject, verdict) \
         SELECT 'IMAP', '[\"Much\"]', 7, n, '', n, '', 'a subject as long as most are', 'Pending' FROM n"
    )
}

/// Places of every kind mean what they meant: those that a server lists, those that it counts and does not list, and those that
/// are void.
#[tokio::test]
async fn places_of_every_kind_are_taken_over() {
    for golden in [Golden::sqlite(2), Golden::postgres(2)] {
        let ledger = if golden.database().is_some() {
            "(SELECT id FROM {}ledger WHERE mailbox LIKE 'move-anna-%')"
        } else {
            ""
        };
        let (column, value) =
            if ledger.is_empty() { ("", String::new()) } else { ("ledger, ", format!("{ledger}, ")) };
        let row = |id: u32, rest: &str| {
            format!(
                "INSERT INTO {{}}message ({column}id, protocol, folder, uidvalidity, uid, uidl, size, flags, verdict) \
                 VALUES ({value}{id}, {rest}, 1, '', 'Delivered'); "
            )
        };
        let odd = [
            row(901, "'UNLISTED', '[\"INBOX\"]', 0, 2, ''"),
            row(902, "'IMAP', '[\"INBOX\"]', 0, 902, ''"),
            row(903, "'POP3', '[\"INBOX\"]', 0, 0, '0000000042'"),
            row(904, "'POP3', '[\"INBOX\"]', 0, 0, 'a:b'"),
            row(905, "'IMAP', '[\"INBOX\"]', 4294967295, 4294967295, ''"),
        ];
        golden.change("anna", &odd.concat());
        let ledger = golden.claim("anna").await;
        let rows = ledger.rows_of(&[901, 902, 903, 904, 905]).await.unwrap();
        let at = |protocol, epoch, id| {
            let folder = FolderPath::inbox();
            Locator { protocol, folder, epoch, id }
        };
        let expected = [
            at(Protocol::Imap, Epoch::unlisted(), ItemId::Uid(2)),
            at(Protocol::Imap, Epoch::void(), ItemId::Uid(902)),
            at(Protocol::Pop3, Epoch::default(), "0000000042".into()),
            at(Protocol::Pop3, Epoch::default(), "a:b".into()),
            at(Protocol::Imap, Epoch::from(u32::MAX), ItemId::Uid(u32::MAX)),
        ];
        assert_eq!(rows.iter().map(|row| row.locator.clone()).collect::<Vec<_>>(), expected);
        let drop = Space { folder: FolderPath::inbox(), protocol: Protocol::Pop3, epoch: Epoch::default() };
        assert_eq!(ledger.rows_in(&drop, None, None, 9).await.unwrap().len(), 2);
        ledger.keep_unlisted(&FolderPath::inbox(), 0..=0, "").await.unwrap();
        assert_eq!(ledger.rows_of(&[901]).await.unwrap().len(), 0, "it is one of those still");
    }
}

/// Tables and columns, as the store itself lists them.
fn columns(golden: &Golden) -> Vec<String> {
    match golden.database() {
        None => columns_of_file(&Connection::open(golden.file("anna")).unwrap()),
        Some((postgres, database)) => columns_of_database(|sql| postgres.sql(database, sql)),
    }
}

fn columns_of_file(file: &Connection) -> Vec<String> {
    let sql = "SELECT m.name || '.' || c.name || ' ' || c.type || ' ' || c.\"notnull\" || ' ' || c.pk FROM sqlite_schema AS m \
               JOIN pragma_table_info(m.name) AS c WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite%' UNION ALL \
               SELECT coalesce(sql, name) FROM sqlite_schema WHERE type IN ('index', 'view') ORDER BY 1";
    let mut select = file.prepare(sql).unwrap();
    select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

fn columns_of_database(ask: impl Fn(&str) -> String) -> Vec<String> {
    let sql = "SELECT table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable || ' ' || \
               coalesce(column_default, '') || ' ' || coalesce(collation_name, '') FROM information_schema.columns \
               WHERE table_schema = 'mailferry' UNION ALL \
               SELECT indexdef FROM pg_indexes WHERE schemaname = 'mailferry' UNION ALL \
               SELECT definition FROM pg_views WHERE schemaname = 'mailferry' ORDER BY 1";
    ask(sql).lines().map(str::to_owned).collect()
}

/// A ledger that was brought to today's format has the columns and indexes of one that was made in it.
#[tokio::test]
async fn after_the_upgrade_a_ledger_is_as_one_that_is_new() {
    let fresh = tempfile::tempdir().unwrap();
    let file = fresh.path().join("fresh.sqlite");
    drop(mailferry::ledger::sqlite::SqliteLedger::open(&file).unwrap());
    let in_a_file = columns_of_file(&Connection::open(&file).unwrap());
    let place = Place::postgres();
    place.ledger().await;
    let Place::Database(postgres, database) = &place else { panic!() };
    let in_a_database = columns_of_database(|sql| postgres.sql(database, sql));
    for golden in Golden::all() {
        golden.claim("anna").await;
        let fresh = if golden.database().is_some() { &in_a_database } else { &in_a_file };
        assert_eq!(&columns(&golden), fresh, "of format {}", golden.of);
    }
}

/// An intent of a kill may name a message that is forgotten; if another got its number it would be taken for that one.
#[tokio::test]
async fn numbers_that_an_intent_names_are_given_to_nobody() {
    for golden in Golden::all() {
        let named = "(SELECT max(message) FROM {}intent_message)";
        golden.change("anna", &format!("DELETE FROM {{}}message WHERE id >= {named}"));
        let ledger = golden.claim("anna").await;
        let intents = ledger.open_intents().await.unwrap();
        let last = intents.into_iter().flat_map(|intent| intent.rows).max().unwrap();
        assert!(ledger.rows_of(&[last]).await.unwrap().is_empty());
        let fresh = ledger.insert(&[new_row(1, Verdict::Pending)]).await.unwrap();
        assert!(fresh[0] > last, "{} after {last}", fresh[0]);
    }
}

/// Nothing is in doubt about messages that are forgotten, and nobody would ever end such an intent of format 1.
#[tokio::test]
async fn an_intent_whose_messages_are_all_forgotten_is_over() {
    for golden in [Golden::sqlite(1), Golden::postgres(1)] {
        golden.change("anna", "DELETE FROM {}message WHERE id IN (SELECT message FROM {}intent_message)");
        let ledger = golden.claim("anna").await;
        assert!(ledger.open_intents().await.unwrap().is_empty());
    }
}

/// A worker of format 1 that went on while one of format 2 upgraded the database named no source folder with its intents.
/// Messages that nobody holds to be in doubt would be sent twice.
#[tokio::test]
async fn an_intent_without_a_source_is_that_of_its_messages() {
    let golden = Golden::postgres(2);
    golden.change("anna", "UPDATE {}intent SET source = '[]'");
    let ledger = golden.claim("anna").await;
    let intents = ledger.open_intents().await.unwrap();
    assert_eq!(intents.len(), golden.told_of("anna", "intents").len());
    for intent in intents {
        let rows = ledger.rows_of(&intent.rows).await.unwrap();
        assert!(rows.iter().all(|row| row.locator.folder == intent.source), "{intent:?}");
    }
}

/// A worker of the build before that goes on while another one of today's upgrades the database can begin no intent, so that it
/// sends nothing more, and says of no message where it is.
#[tokio::test]
async fn a_worker_of_the_build_before_can_send_nothing_more() {
    let golden = Golden::postgres(2);
    drop(golden.claim("anna").await);
    let (postgres, database) = golden.database().unwrap();
    for (statement, error) in [
        (
            "INSERT INTO mailferry.intent (ledger, id, folder, uidvalidity, uidnext, source) VALUES (1, 99, 'x', 1, 1, 'x')",
            "undefined_column",
        ),
        ("UPDATE mailferry.message SET dst_uid = 1, dst_uidvalidity = 1", "feature_not_supported"),
        (
            "INSERT INTO mailferry.message (ledger, id, protocol, folder, uidvalidity, uid, uidl, size, flags, verdict) \
             VALUES (1, 999, 'IMAP', 'x', 1, 1, '', 1, '', 'Pending')",
            "feature_not_supported",
        ),
    ] {
        let tried = format!(
            "DO $$ BEGIN {statement}; RAISE EXCEPTION 'it was taken'; EXCEPTION WHEN {error} THEN NULL; END $$"
        );
        postgres.sql(database, &tried);
    }
    assert_as_told(&golden).await;
}

/// A worker of the build before may be writing while another one of today's upgrades: its statements take the tables one
/// after the other.
#[tokio::test]
async fn an_upgrade_waits_for_those_who_are_writing() {
    for golden in (1..TODAY).map(Golden::postgres) {
        let (postgres, database) = golden.database().unwrap();
        let (server, name) = (std::sync::Arc::clone(postgres), database.clone());
        let writing = std::thread::spawn(move || {
            server.sql(
                &name,
                "BEGIN; LOCK TABLE mailferry.message IN ROW EXCLUSIVE MODE; SELECT pg_sleep(2); \
                 LOCK TABLE mailferry.ledger IN ROW SHARE MODE; COMMIT",
            )
        });
        let holds = "SELECT count(*) FROM pg_locks WHERE relation = 'mailferry.message'::regclass AND mode = 'RowExclusiveLock'";
        while postgres.sql(database, holds) == "0" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        golden.claim("anna").await;
        writing.join().unwrap();
        assert_eq!(golden.format("anna"), TODAY);
    }
}

async fn refused(golden: &Golden) -> Vec<Failure> {
    match golden.database() {
        None => {
            let store = golden.store().await;
            let key = Golden::key("anna");
            vec![store.claim(&key).await.err().unwrap(), store.find(&key).await.err().unwrap()]
        }
        Some((postgres, database)) => {
            vec![PostgresStore::open(options(postgres, database), SCOPE).await.err().unwrap()]
        }
    }
}

/// There is no way back: what a newer build wrote is refused by name, and not touched.
#[tokio::test]
async fn a_newer_format_is_refused_and_left_as_it_is() {
    let golden = Golden::sqlite(2);
    golden.claim("anna").await;
    golden.change("anna", "ALTER TABLE item ADD COLUMN later TEXT; PRAGMA user_version = 4;");
    let file = golden.file("anna");
    let before = std::fs::read(&file).unwrap();
    for failure in refused(&golden).await {
        assert_eq!(failure.class, Class::Configuration, "{failure:?}");
        assert!(
            failure.what.ends_with("was written by a newer Mailferry (format 4, this one knows 3)"),
            "{failure}"
        );
        assert!(failure.what.starts_with(file.to_str().unwrap()) && failure.hint.is_some(), "{failure}");
    }
    assert_eq!(std::fs::read(&file).unwrap(), before);

    let golden = Golden::postgres(2);
    golden.claim("anna").await;
    golden.change("anna", "ALTER TABLE {}item ADD COLUMN later TEXT; UPDATE {}format SET version = 4;");
    let (postgres, database) = golden.database().unwrap();
    let content = || {
        let rows = "SELECT md5(string_agg(m::text, '|' ORDER BY ledger, id)) FROM mailferry.item AS m";
        (postgres.sql(database, rows), columns(&golden), golden.format("anna"))
    };
    let before = content();
    for failure in refused(&golden).await {
        assert_eq!(failure.class, Class::Configuration, "{failure:?}");
        assert!(failure.what.contains("newer Mailferry (format 4, this one knows 3)"), "{failure}");
        assert!(failure.hint.is_some(), "{failure}");
    }
    assert_eq!(content(), before);
}
