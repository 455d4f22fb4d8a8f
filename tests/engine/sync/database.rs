//! Whole mailboxes with their ledger in PostgreSQL.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mailferry::drivers::imap::source::ImapSource;
use mailferry::ledger::postgres::{Options, PostgresStore};
use mailferry::ledger::{Ledger, Store};
use mailferry::model::failure::{Class, Result};
use mailferry::model::secret::Secret;
use mailferry::transfer::PassOutcome;
use mailferry::transfer::progress::MailboxProgress;

use crate::support::corpus::{Corpus, EMPTY_FOLDER};
use crate::support::postgres::{PASSWORD, Postgres, USER};
use crate::sync::rig::{ANNA, Rig, all_rules, carry_into, log_in, new_server, old_server};

async fn store(at: SocketAddr, database: &str) -> PostgresStore {
    let options = Options {
        host: at.ip().to_string(),
        port: at.port(),
        database: database.to_owned(),
        username: USER.to_owned(),
        password: Secret::new(PASSWORD),
        tls: None,
        vet: Arc::new(|_: IpAddr| Ok(())),
    };
    PostgresStore::open(options, "default/move").await.unwrap()
}

async fn pass(rig: &Rig, ledger: &dyn Ledger) -> Result<PassOutcome> {
    let mut source = ImapSource::new(log_in(rig.source.imap(), ANNA).await).await?;
    carry_into(&mut source, rig.destination.imap(), ledger, &all_rules(), &MailboxProgress::default()).await
}

#[tokio::test]
async fn a_mixed_mailbox_arrives_whole_although_the_database_is_cut_off_again_and_again() {
    let postgres = Postgres::shared();
    let database = postgres.database();
    let store = store(postgres.address(), &database).await;
    let rig = Rig::start(old_server(), new_server());
    rig.at_source().seed(Corpus::new(61).with_quoted_folder().messages(400));
    rig.at_source().create_and_subscribe(EMPTY_FOLDER);

    // Each cut takes the claim with it; whoever comes next goes on.
    let mut arrived = Vec::new();
    for cut in 1..=4 {
        let ledger = store.claim("anna").await.unwrap();
        let cutting = async {
            tokio::time::sleep(Duration::from_millis(150 * cut)).await;
            postgres.disconnect(&database);
        };
        let (ended, ()) = tokio::join!(pass(&rig, &*ledger), cutting);
        if let Err(failure) = ended {
            assert_eq!(failure.class, Class::Unreachable, "{failure:?}");
        }
        arrived.push(rig.at_destination().read_all().messages());
    }
    println!("messages at the destination after each cut: {arrived:?}");

    let ledger = store.claim("anna").await.unwrap();
    let outcome = pass(&rig, &*ledger).await.unwrap_or_else(|failure| panic!("{failure:?}"));
    rig.assert_same();
    assert_eq!((outcome.counts.copied, outcome.counts.source, outcome.counts.pending), (400, 400, 0));
    let before = rig.at_destination().uid_next();
    let outcome = pass(&rig, &*ledger).await.unwrap();
    assert_eq!((outcome.sent, outcome.recognised, outcome.flags_updated), (0, 0, 0), "{outcome:?}");
    assert_eq!(rig.at_destination().uid_next(), before, "nothing was appended");
    assert!(ledger.open_intents().await.unwrap().is_empty());
}
