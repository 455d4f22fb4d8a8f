//! A migration whose ledgers are in PostgreSQL, by the real binary, as a user would run it.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::ferry::{Ferry, Manifest, assert_equation, figure, files, server};
use crate::support::compare::differences;
use crate::support::corpus::Corpus;
use crate::support::dovecot::{Dovecot, LOOPBACK, User};
use crate::support::postgres::{PASSWORD, Postgres, USER};
use mailferry::auth::credentials::Login;
use mailferry::discovery::LoginGuard;
use mailferry::ledger::postgres::{Options, PostgresStore};
use mailferry::ledger::sqlite::SqliteStore;
use mailferry::ledger::{Known, Ledger, NewRow, Refused, Settled, Store};
use mailferry::local::guard::DurableGuard;
use mailferry::model::failure::{Class, Failure, FailureCode};
use mailferry::model::folder::FolderPath;
use mailferry::model::identity::Digest;
use mailferry::model::message::{Arrival, Epoch, Flags, InternalDate, ItemId, Locator, Verdict};
use mailferry::model::protocol::Protocol;
use mailferry::model::secret::Secret;

/// A source with one mailbox, and an empty destination.
fn pair(messages: usize) -> (Dovecot, Dovecot) {
    let old = Dovecot::builder().imap(LOOPBACK).user(User::new("alice@old.test", "alice-secret")).start();
    let new = Dovecot::builder()
        .imap(LOOPBACK)
        .master("admin", "admin-secret")
        .user(User::new("alice@new.test", "of-no-use"))
        .start();
    old.mailbox("alice@old.test").seed(Corpus::new(71).ordinary_only().messages(messages));
    (old, new)
}

fn options(postgres: &Postgres, database: &str) -> Options {
    Options {
        host: "127.0.0.1".to_owned(),
        port: postgres.address().port(),
        database: database.to_owned(),
        username: USER.to_owned(),
        password: Secret::new(PASSWORD),
        tls: None,
        vet: Arc::new(|_| Ok(())),
    }
}

/// A few messages, one of each fate.
async fn fill(ledger: &dyn Ledger) {
    let folder = FolderPath::from_slashes("Projects/2019");
    let row = |uid| NewRow {
        locator: Locator {
            protocol: Protocol::Imap,
            folder: folder.clone(),
            epoch: Epoch::from(7),
            id: ItemId::Uid(uid),
        },
        size: 32_000,
        date: InternalDate::parse("07-Mar-2019 08:15:42 +0100"),
        flags: Flags::parse("\\Seen"),
        verdict: Verdict::Pending,
    };
    let ids = ledger.insert(&(1..=5).map(row).collect::<Vec<_>>()).await.unwrap();
    let fates = [
        Verdict::Delivered,
        Verdict::DeliveredAltered("the destination stored 9 bytes of 10 differently".into()),
        Verdict::Excluded("larger than policy.maxMessageBytes (10 bytes)".into()),
        Verdict::Quarantined("the destination refuses it".into()),
    ];
    let found = Refused { code: Some(FailureCode::ArrivalChanged), ..Refused::default() };
    let settled = |(at, verdict): (usize, Verdict)| Settled {
        id: ids[at],
        known: Some(Known {
            exact: Digest([1; 32]),
            canonical: Digest([2; 32]),
            message_id: Some("a@contoso.example".into()),
            subject: Some("Offer".into()),
        }),
        size: None,
        date: None,
        flags: None,
        destination: verdict.is_delivered().then(|| {
            let id = ItemId::Uid(1 + u32::try_from(at).unwrap());
            (folder.clone(), Arrival { epoch: Epoch::from(9), id })
        }),
        // A verification found it so.
        refused: if matches!(verdict, Verdict::DeliveredAltered(_)) { found } else { Refused::default() },
        verdict,
        stored: None,
        replaces: None,
    };
    let settled: Vec<_> = fates.into_iter().enumerate().map(settled).collect();
    ledger.settle(&settled, None).await.unwrap();
}

/// Keys of a Secret and their values.
type Keys<'a> = &'a [(&'a str, &'a str)];

/// The manifest of both, with a ledger in a database; `keys` are added to its Secret.
fn manifest(old: &Dovecot, new: &Dovecot, postgres: &Postgres, keys: &[(&str, &str)]) -> Manifest {
    let port = postgres.address().port().to_string();
    let mut secret = vec![
        ("host", "localhost"),
        ("port", &port),
        ("username", USER),
        ("password", PASSWORD),
        ("ca.crt", postgres.ca().pem()),
    ];
    secret.retain(|(key, _)| !keys.iter().any(|(other, _)| other == key));
    secret.extend(keys);
    Manifest::to(new.imap(), "admin", "admin-secret")
        .secret("old.test", &[("username", "alice@old.test"), ("password", "alice-secret")])
        .secret("ledger-db", &secret)
        .domain("old.test", &["alice"], &server("IMAP", old.imap()))
}

/// The whole text: with the ledger where it belongs.
fn with_ledger(manifest: &Manifest) -> String {
    let text = manifest.clone().policy("settleSeconds: 1").text();
    text.replace(
        "  stage: Sync\n",
        "  stage: Sync\n  ledger: {postgres: {credentialsRef: {name: ledger-db}}}\n",
    )
}

#[test]
fn a_migration_keeps_its_ledgers_in_a_database() {
    let postgres = Postgres::shared();
    let database = postgres.database();
    let (old, new) = pair(120);
    let text = with_ledger(&manifest(&old, &new, &postgres, &[("database", &database)]));
    let ferry = Ferry::new(&text);
    let first = ferry.run(&["-vv"]);
    first.expect_code(0);
    let status = ferry.status();
    assert_equation(&status);
    assert_eq!((figure(&status, "source"), figure(&status, "copied")), (120, 120));
    let same = || {
        let (here, there) =
            (old.mailbox("alice@old.test").read_all(), new.mailbox("alice@new.test").read_all());
        assert_eq!(differences(&here, &there), [""; 0]);
    };
    same();
    assert_eq!(ferry.messages().len(), 120, "reports read it as well");
    ferry.call("verify", &["--depth", "Full"]).expect_code(0);
    let kept = files(&ferry.state());
    assert!(!kept.iter().any(|path| path.extension().is_some_and(|e| e == "sqlite")), "{kept:?}");
    assert_eq!(postgres.sql(&database, "SELECT scope FROM mailferry.ledger"), "test/move");
    for shown in [&first.stdout, &first.stderr] {
        assert!(!shown.contains(PASSWORD), "{shown}");
    }

    // Another machine with another state directory goes on from the same ledgers.
    let elsewhere = Ferry::new(&text);
    let before = new.mailbox("alice@new.test").uid_next();
    let ended = elsewhere.run(&[]);
    ended.expect_code(0);
    assert_eq!(new.mailbox("alice@new.test").uid_next(), before, "nothing is sent again");
    assert_eq!(figure(&elsewhere.status(), "copied"), 120);

    // A message that a user deletes at the destination is found when a command asks, and sent again.
    let mut mailbox = new.mailbox("alice@new.test");
    mailbox.select("INBOX").unwrap();
    mailbox.command("STORE 1 +FLAGS.SILENT (\\Deleted)").unwrap();
    mailbox.command("EXPUNGE").unwrap();
    drop(mailbox);
    ferry.call("verify", &[]).expect_code(25);
    ferry.call("verify", &["--repair"]).expect_code(0);
    same();
}

#[test]
fn two_machines_do_not_carry_one_mailbox() {
    let postgres = Postgres::shared();
    let database = postgres.database();
    let (old, new) = pair(200);
    let plain = manifest(&old, &new, &postgres, &[("database", &database)]);
    let slow = with_ledger(&plain.clone().policy("limits: {bytesPerSecond: 10000}"));
    let (one, two) = (Ferry::new(&slow), Ferry::new(&with_ledger(&plain)));
    let mut first = one.start(&["--progress", "none"]);
    let patience = Instant::now() + Duration::from_secs(40);
    let arrived = || new.mailbox("alice@new.test").read_all().messages();
    while arrived() < 3 {
        assert!(Instant::now() < patience && first.try_wait().unwrap().is_none(), "nothing arrives");
        sleep(Duration::from_millis(50));
    }
    let second = two.run(&["--progress", "none"]);
    let (line, hint) = second.expect_code(11).error();
    println!("error: {line}\n  hint: {hint}");
    assert!(line.contains("another worker is carrying this mailbox"), "{line}");
    on_the_page(&postgres, &database, &line, &hint);
    assert!(first.try_wait().unwrap().is_none(), "the first goes on");
    // A machine that dies leaves its claim behind for nobody.
    first.kill().unwrap();
    first.wait().unwrap();
    two.run(&["--progress", "none"]).expect_code(0);
    let (here, there) = (old.mailbox("alice@old.test").read_all(), new.mailbox("alice@new.test").read_all());
    assert_eq!(differences(&here, &there), [""; 0]);
}

/// Holds docs/failure-modes.md to what is really said, for the failures that it shows.
#[track_caller]
fn on_the_page(postgres: &Postgres, database: &str, line: &str, hint: &str) {
    const SHOWN: [&str; 4] =
        ["refused the login", "refuses connections", "authority is not known", "another worker"];
    if !SHOWN.iter().any(|words| line.contains(words)) {
        return;
    }
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/failure-modes.md")).unwrap();
    let mut line = line.to_owned();
    for port in [postgres.address().port(), 1] {
        let place = format!("localhost:{port}/{database}");
        line = line.replace(&place, "db.contoso.example:5432/mailferry");
    }
    let said = format!("error: {line}\n  hint: {hint}\n");
    assert!(page.contains(&said), "docs/failure-modes.md does not show this:\n{said}");
}

#[test]
fn a_database_that_cannot_be_used_ends_the_run_by_name() {
    let postgres = Postgres::shared();
    let database = postgres.database();
    let (old, new) = pair(1);
    let cases: [(i32, &str, Keys<'_>); 6] = [
        (21, "refused the login", &[("password", "canary-wrong")]),
        (10, "refuses connections", &[("port", "1")]),
        (20, "its authority is not known here", &[("ca.crt", "")]),
        (23, "key port is no port", &[("port", "canary-port")]),
        (23, "neither require nor disable", &[("sslmode", "prefer")]),
        (23, "key ca.crt", &[("ca.crt", "canary, no PEM")]),
    ];
    for (code, what, keys) in cases {
        let keys = [&[("database", database.as_str())], keys].concat();
        let ferry = Ferry::new(&with_ledger(&manifest(&old, &new, &postgres, &keys)));
        let ended = ferry.run(&["-v"]);
        let (line, hint) = ended.expect_code(code).error();
        println!("error: {line}\n  hint: {hint}");
        assert!(line.contains(what) && !hint.is_empty(), "{what}: {line}");
        on_the_page(&postgres, &database, &line, &hint);
        assert!(!format!("{}{}", ended.stdout, ended.stderr).contains("canary"), "{}", ended.stderr);
    }
    // Without encryption on loopback, when it is said so.
    let keys = [("database", database.as_str()), ("sslmode", "disable"), ("host", "127.0.0.1")];
    let ferry = Ferry::new(&with_ledger(&manifest(&old, &new, &postgres, &keys)));
    ferry.run(&[]).expect_code(0);
    // Networks that are not allowed are not talked to, whoever asks for them.
    let elsewhere = with_ledger(&manifest(&old, &new, &postgres, &[("database", &database)]))
        .replace("127.0.0.0/8", "10.0.0.0/8");
    let (line, _) = Ferry::new(&elsewhere).run(&[]).expect_code(22).error();
    assert!(line.contains("spec.ledger") && line.contains("loopback, private or link-local"), "{line}");
}

/// Six workers with one wrong password, each a process as far as the store can tell.
#[tokio::test]
async fn workers_that_share_a_database_share_the_count_of_refused_logins() {
    let postgres = Postgres::shared();
    let database = postgres.database();
    let tries = AtomicUsize::new(0);
    let login =
        Login { administrator: Some("boss".into()), ..Login::own("anna*boss".into(), Secret::new("wrong")) };
    let guard = async || {
        let options = options(&postgres, &database);
        DurableGuard::new(Arc::new(PostgresStore::open(options, "default/move").await.unwrap()))
    };
    let worker = async || {
        let attempt = async {
            tries.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(50)).await;
            Err::<(), _>(Failure::new(Class::Credentials, "no"))
        };
        guard().await.hold(&login, attempt).await.unwrap_err()
    };
    let failures = futures::future::join_all((0..6).map(|_| worker())).await;
    assert!(failures.iter().all(|failure| failure.class == Class::Credentials), "{failures:?}");
    assert_eq!(tries.load(Ordering::Relaxed), 2);
    let kept =
        postgres.sql(&database, "SELECT string_agg(key || coalesce(holder, ''), ' ') FROM mailferry.login");
    assert!(!kept.contains("anna") && !kept.contains("wrong"), "{kept}");
    // While the database is away nothing is tried that could not be counted.
    let late = guard().await;
    postgres.sql("postgres", &format!("ALTER DATABASE {database} ALLOW_CONNECTIONS false"));
    postgres.disconnect(&database);
    late.may_try(&login).await.unwrap_err();
}

/// The examples of docs/ledger.md answer on a ledger as a run left it, in SQLite as in PostgreSQL.
#[tokio::test]
async fn the_questions_of_the_page_have_answers() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ledger.md")).unwrap();
    let blocks = |mark: &str| -> Vec<String> {
        let begin = format!("```sql {mark}\n");
        page.split(&begin[..]).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
    };
    let (mut for_sqlite, mut for_postgres) = (blocks("sqlite"), blocks("postgres"));
    // Those that the page had up to format 2, with all columns that there were.
    let columns = "protocol, folder, uidvalidity, uid, uidl, size, date, date_offset, flags, exact, canonical, message_id, \
        subject, dst_folder, dst_uidvalidity, dst_uid, verdict, reason, gone, code, bound, attempts, announced";
    for_sqlite.extend([
        format!("SELECT {columns} FROM message WHERE verdict IN ('Quarantined', 'Pending') AND uid > 0 AND uidvalidity = 7"),
        "SELECT folder, uid, uidl, subject, code FROM message WHERE dst_uidvalidity = 9 AND gone = 0".to_owned(),
        "SELECT verdict, count(*), sum(size) FROM message GROUP BY verdict".to_owned(),
    ]);
    for_postgres.push(format!(
        "SELECT mailbox, {columns} FROM mailferry.message JOIN mailferry.ledger ON ledger.id = message.ledger \
         WHERE uidvalidity = 7 AND dst_uidvalidity = 9 AND dst_uid = uid AND NOT gone"
    ));
    assert!(for_sqlite.len() >= 2 && for_postgres.len() >= 3, "{} {}", for_sqlite.len(), for_postgres.len());

    let postgres = Postgres::shared();
    let database = postgres.database();
    let directory = tempfile::tempdir().unwrap();
    let mailbox = "contoso-anna-1f2e3d4c";
    let stores: [Box<dyn Store>; 2] = [
        Box::new(SqliteStore::new(directory.path(), directory.path().join("logins.sqlite"))),
        Box::new(PostgresStore::open(options(&postgres, &database), "contoso-mail/contoso").await.unwrap()),
    ];
    for store in stores {
        fill(&*store.claim(mailbox).await.unwrap()).await;
    }
    let connection = rusqlite::Connection::open(directory.path().join(format!("{mailbox}.sqlite"))).unwrap();
    for question in for_sqlite {
        let rows = connection.prepare(&question).unwrap().query_map([], |_| Ok(())).unwrap().count();
        assert!(rows > 0, "no answer to {question}");
    }
    for question in for_postgres {
        let answer = postgres.sql(&database, &question);
        println!("{question}{answer}\n");
        assert!(!answer.is_empty(), "no answer to {question}");
    }
}

/// The page names each column of both stores, and no other.
#[tokio::test]
async fn the_columns_of_the_page_are_those_of_the_tables() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ledger.md")).unwrap();
    let section = page.split("\n## Tables and columns\n").nth(1).unwrap().split("\n## ").next().unwrap();
    // The table of items names its columns in the first cell of each row, the other one tables there and columns in the second.
    let words =
        |cell: &str| -> Vec<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let (item, others) = section.split_once("**The others:**").unwrap();
    let mut named = BTreeSet::new();
    for row in item.lines().filter(|line| line.starts_with("| `")) {
        named.extend(words(row.split('|').nth(1).unwrap()).iter().map(|column| format!("item.{column}")));
    }
    for row in others.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.split('|').collect();
        let tables = words(cells[1]);
        for (table, columns) in tables.iter().zip(cells[2].split(';')) {
            named.extend(words(columns).iter().map(|column| format!("{table}.{column}")));
        }
    }

    let postgres = Postgres::shared();
    let database = postgres.database();
    let store = PostgresStore::open(options(&postgres, &database), "contoso-mail/contoso").await.unwrap();
    drop(store);
    let sql = "SELECT table_name || '.' || column_name FROM information_schema.columns WHERE table_schema = 'mailferry' \
               AND (column_name <> 'ledger' OR table_name = 'ledger') AND table_name <> 'message'";
    let there: BTreeSet<String> = postgres.sql(&database, sql).lines().map(str::to_owned).collect();
    assert_eq!(named, there);

    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::new(directory.path(), directory.path().join("logins.sqlite"));
    store.claim("anna").await.unwrap();
    let file = rusqlite::Connection::open(directory.path().join("anna.sqlite")).unwrap();
    let sql = "SELECT m.name || '.' || c.name FROM sqlite_schema AS m JOIN pragma_table_info(m.name) AS c \
               WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite%'";
    let mut select = file.prepare(sql).unwrap();
    let there: BTreeSet<String> =
        select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let alone = ["ledger.", "format.", "login.", "login_salt."];
    let in_files = named.into_iter().filter(|column| !alone.iter().any(|table| column.starts_with(table)));
    assert_eq!(in_files.collect::<BTreeSet<_>>(), there);
}
