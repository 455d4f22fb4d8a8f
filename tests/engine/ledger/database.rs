//! Tests of PostgreSQL alone: crashes, lost connections, databases that cannot be used, and values that it cannot
//! hold.

use std::sync::Arc;

use mailferry::ledger::postgres::{Options, PostgresStore};
use mailferry::ledger::{Cursor, NewRow, Store};
use mailferry::model::failure::{Class, Failure, Result};
use mailferry::model::folder::FolderPath;
use mailferry::model::mark::Mark;
use mailferry::model::message::{Epoch, Flags, Verdict};
use mailferry::model::secret::Secret;
use mailferry::net::tls::Trust;

use crate::ledger::{ANNA, Place, folder, imap, new_row, options};
use crate::support::postgres::{Postgres, USER};

/// A commit that the database confirmed holds after the machine went down, although its own default is to confirm
/// earlier.
#[tokio::test]
async fn what_was_told_survives_a_crash_of_the_database() {
    let postgres = Arc::new(Postgres::start());
    let place = Place::Database(Arc::clone(&postgres), postgres.database());
    let ledger = place.ledger().await;
    let ids = ledger.insert(&[new_row(1, Verdict::Pending)]).await.unwrap();
    let intent = ledger
        .begin_intent(&FolderPath::inbox(), &folder(), &Epoch::from(9), &Mark::from("1"), &ids)
        .await
        .unwrap();
    postgres.crash();
    let failure = ledger.settle(&[], Some(intent)).await.unwrap_err();
    assert_eq!(failure.class, Class::Unreachable, "{failure:?}");
    postgres.restart();
    assert_eq!(ledger.counts().await.unwrap_err().class, Class::Unreachable, "a lost claim stays lost");
    let ledger = place.ledger().await;
    assert_eq!(ledger.open_intents().await.unwrap()[0].rows, ids);

    // Where TLS is switched off no password is sent.
    let Place::Database(_, database) = &place else { panic!() };
    postgres.sql(database, "ALTER SYSTEM SET ssl = off");
    postgres.sql(database, "SELECT pg_reload_conf()");
    while postgres.sql(database, "SHOW ssl") == "on" {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let failure = refused_database(options(&postgres, database)).await;
    assert!(failure.class == Class::Tls && failure.what == "does not offer TLS", "{failure:?}");
}

#[tokio::test]
async fn whoever_lost_the_connection_lost_the_claim() {
    let place = Place::postgres();
    let Place::Database(postgres, database) = &place else { panic!() };
    let first = place.ledger().await;
    let ids = first.insert(&[new_row(1, Verdict::Pending)]).await.unwrap();
    postgres.disconnect(database);
    let second = place.ledger().await;
    second.save_fact("who", "second").await.unwrap();
    for failure in [
        first.save_fact("who", "first").await.unwrap_err(),
        first.forget(&ids).await.unwrap_err(),
        first.rows(&folder()).await.unwrap_err(),
    ] {
        assert_eq!(failure.class, Class::Unreachable, "{failure:?}");
        assert!(failure.sentence().starts_with("localhost:") && failure.hint.is_some(), "{failure}");
    }
    assert_eq!(second.fact("who").await.unwrap().as_deref(), Some("second"));
    assert_eq!(second.rows(&folder()).await.unwrap().len(), 1);
}

async fn refused_database(options: Options) -> Failure {
    let failure = PostgresStore::open(options.clone(), "default/move").await.err().unwrap();
    let place = format!("{}:{}/{}: ", options.host, options.port, options.database);
    assert!(failure.sentence().starts_with(&place), "it names the place: {failure}");
    assert!(failure.hint.is_some(), "it names the remedy: {failure}");
    let shown = format!("{failure} {failure:?} {options:?}");
    assert!(!shown.contains(options.password.expose()), "{shown}");
    println!("{failure}");
    failure
}

#[tokio::test]
async fn databases_that_cannot_be_used_are_named_with_their_remedy() {
    let postgres = Postgres::shared();
    let database = postgres.database();
    let good = options(&postgres, &database);
    let plain = |mut options: Options| {
        options.tls = None;
        options
    };
    let cases: [(Class, &str, Options); 7] = [
        (
            Class::Credentials,
            "refused the login",
            Options { password: Secret::new("wrong-canary"), ..good.clone() },
        ),
        (Class::Credentials, "refused the login", Options { username: "nobody".into(), ..good.clone() }),
        (Class::Configuration, "no such database", Options { database: "nowhere".into(), ..good.clone() }),
        (Class::Unreachable, "refuses connections", Options { port: 1, ..good.clone() }),
        (Class::Unreachable, "looked up", Options { host: "no.such.host.invalid".into(), ..good.clone() }),
        (
            Class::Tls,
            "its authority is not known here",
            Options { tls: Some(Arc::clone(Trust::with_authorities(&[]).unwrap().config())), ..good.clone() },
        ),
        (
            Class::Refused,
            "not that one",
            Options {
                vet: Arc::new(|_| Err(Failure::new(Class::Refused, "not that one").hint("another"))),
                ..good.clone()
            },
        ),
    ];
    for (class, what, options) in cases {
        let failure = refused_database(options).await;
        assert!(failure.class == class && failure.what.contains(what), "{what}: {failure:?}");
    }
    // The name on the certificate counts, not only who signed it.
    let failure = refused_database(Options { host: "127.0.0.1".into(), ..good.clone() }).await;
    assert!(failure.class == Class::Tls && failure.what.contains("another name"), "{failure:?}");
    PostgresStore::open(plain(good.clone()), "default/move").await.unwrap();

    let narrow = postgres.database();
    postgres.sql(&narrow, &format!("ALTER DATABASE {narrow} OWNER TO postgres"));
    let failure = refused_database(options(&postgres, &narrow)).await;
    assert!(failure.class == Class::Configuration && failure.hint.unwrap().contains("GRANT CREATE"));
    // With a schema of one's own nothing else is needed.
    postgres.sql(&narrow, &format!("CREATE SCHEMA mailferry AUTHORIZATION {USER}"));
    PostgresStore::open(options(&postgres, &narrow), "default/move").await.unwrap();

    let standby = postgres.database();
    postgres.sql(&standby, &format!("ALTER DATABASE {standby} SET default_transaction_read_only = on"));
    let failure = refused_database(options(&postgres, &standby)).await;
    assert!(failure.class == Class::Configuration && failure.what == "is read-only", "{failure:?}");

    let latin = "latin";
    postgres
        .sql("postgres", "CREATE DATABASE latin TEMPLATE template0 ENCODING LATIN1 LOCALE 'C' OWNER ferry");
    assert!(refused_database(options(&postgres, latin)).await.what.contains("UTF8 is needed"));

    postgres.sql(&database, "UPDATE mailferry.format SET version = 7");
    let failure = refused_database(good.clone()).await;
    assert!(failure.what.contains("newer Mailferry (format 7, this one knows 3)"), "{failure}");
}

#[tokio::test]
async fn many_who_come_first_at_once_make_the_tables_once() {
    let postgres = Postgres::shared();
    let database = postgres.database();
    let opened = (0..8).map(|n| PostgresStore::open(options(&postgres, &database), format!("default/m{n}")));
    let stores: Vec<_> = futures::future::join_all(opened).await.into_iter().collect::<Result<_>>().unwrap();
    let ledgers = stores.iter().map(|store| store.claim(ANNA));
    let ledgers: Vec<_> =
        futures::future::join_all(ledgers).await.into_iter().collect::<Result<_>>().unwrap();
    assert_eq!(ledgers.len(), 8, "one mailbox in eight migrations is eight ledgers");
    assert_eq!(postgres.sql(&database, "SELECT count(*) FROM mailferry.format"), "1");
    assert_eq!(postgres.sql(&database, "SELECT count(*) FROM mailferry.login_salt"), "1");
}

/// A server may call things what the database cannot hold.
#[tokio::test]
async fn nothing_that_a_server_says_stops_a_database() {
    let place = Place::postgres();
    let ledger = place.ledger().await;
    let odd = NewRow { flags: Flags::parse("a\0b"), ..new_row(1, Verdict::Excluded("x\0y".into())) };
    let ids = ledger.insert(&[odd]).await.unwrap();
    ledger.save_flags(&[(ids[0], Flags::parse("c\0d"))]).await.unwrap();
    assert_eq!(ledger.rows(&folder()).await.unwrap()[0].flags, Flags::parse("c\u{fffd}d"));
    // Names that no compression shortens.
    let name = |length: usize| {
        let digits = (0..length).map(|n| blake3::hash(&n.to_le_bytes()).to_hex().as_bytes()[0] as char);
        FolderPath::new([digits.collect::<String>()])
    };
    let long = name(1_990);
    let row = |folder: &FolderPath| NewRow {
        locator: imap(folder, u32::MAX, u32::MAX),
        ..new_row(1, Verdict::Pending)
    };
    ledger.insert(&[row(&long)]).await.unwrap();
    ledger.save_cursor(&long, &Cursor::default()).await.unwrap();
    assert_eq!(ledger.rows(&long).await.unwrap().len(), 1);
    let failure = ledger.cursor(&name(3_000)).await.unwrap_err();
    assert_eq!(failure.class, Class::Message, "it concerns one folder: {failure:?}");
}
