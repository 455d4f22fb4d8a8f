//! Two mailboxes that arrive in one, with the same letters in both: what one of them leaves in doubt is not taken for the
//! other's, and neither removes what the other put there. Each letter arrives once for each mailbox that holds it.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::orders::Orders;
use crate::proxy::{Harm, Moment, Plan, Proxy, Way, without_uidplus};
use crate::stage::{Stage, expunge, letter, new_server, old_server, together};
use crate::support::compare::differences;
use crate::support::corpus::Message;
use crate::support::dovecot::Builder;

const ONE: &str = "one";
const OTHER: &str = "other";

/// Servers, and the two mailboxes at the source.
async fn stage(destination: Builder, one: Vec<Message>, other: Vec<Message>) -> Arc<Stage> {
    spawn_blocking(|| {
        let stage = Stage::start(old_server(), destination);
        stage.at_source(ONE).seed(one);
        stage.at_source(OTHER).seed(other);
        Arc::new(stage)
    })
    .await
    .unwrap()
}

/// How the two are carried into the first one's mailbox.
fn orders(stage: &Stage) -> [Orders; 2] {
    [(ONE, OTHER), (OTHER, ONE)].map(|(who, beside)| Orders {
        destination_user: ONE.to_owned(),
        beside: vec![beside.to_owned()],
        settle_ms: 3_000,
        ..stage.orders(who)
    })
}

/// The differences from the expected state.
async fn compare(stage: &Arc<Stage>) -> Vec<String> {
    let at = Arc::clone(stage);
    let look = move || {
        let wanted = together(at.at_source(ONE).read_all(), at.at_source(OTHER).read_all());
        differences(&wanted, &at.at_destination(ONE).read_all())
    };
    spawn_blocking(look).await.unwrap()
}

/// Both are carried, all is there once for each, and nothing is sent once more.
async fn assert_carried(stage: &Arc<Stage>, orders: &[Orders; 2]) {
    for one in orders {
        one.carry().await.unwrap_or_else(|failure| panic!("{failure:?}"));
    }
    let found = compare(stage).await;
    assert!(found.is_empty(), "{found:#?}");
    for one in orders {
        let idle = one.carry().await.unwrap();
        assert_eq!((idle.sent, idle.recognised, idle.counts.pending), (0, 0, 0), "{idle:?}");
    }
    let found = compare(stage).await;
    assert!(found.is_empty(), "{found:#?}");
}

fn letters(names: &[&str]) -> Vec<Message> {
    names.iter().map(|name| letter("INBOX", &["\\Seen"], name, 3_000)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_doubt_for_one_is_not_taken_by_the_other() {
    for (way, moment, harm) in [
        // All arrived, and nobody knows.
        (Way::ToClient, Moment::Text("Append completed", 1), Harm::Swallow(Duration::from_millis(500))),
        // All arrives while the other one is at work.
        (Way::ToServer, Moment::Text("APPEND \"INBOX\"", 1), Harm::Hold(Duration::from_secs(1))),
        // Nothing arrived.
        (Way::ToServer, Moment::Text("APPEND \"INBOX\"", 1), Harm::Cut),
    ] {
        for edit in [None, Some(without_uidplus as _)] {
            println!("{harm:?}, {}", if edit.is_some() { "no UIDPLUS" } else { "UIDPLUS" });
            let (one, other) = (letters(&["a", "all staff", "b"]), letters(&["all staff", "c", "all staff"]));
            let stage = stage(new_server(), one, other).await;
            let mut orders = orders(&stage);
            let plan = Plan { way, moment: moment.clone(), harm: harm.clone() };
            let proxy = Proxy::start(stage.destination.imap(), Some(plan), edit).await;
            let faulty = Orders { destination: proxy.address, ..orders[0].clone() };
            let gone = async {
                while !proxy.has_harmed() {
                    sleep(Duration::from_millis(5)).await;
                }
            };
            // The client is gone, and its server goes on.
            tokio::select! {
                done = faulty.carry() => drop(done.unwrap_err()),
                () = gone => {}
            }
            // The same server, seen as it was seen before.
            let quiet = Proxy::start(stage.destination.imap(), None, edit).await;
            for orders in &mut orders {
                orders.destination = quiet.address;
            }
            orders[1].carry().await.unwrap_or_else(|failure| panic!("{failure:?}"));
            assert_carried(&stage, &orders).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_has_put_there_is_not_removed_as_a_late_copy_of_the_other() {
    // One command for each letter, so that one is known to be there and another is in doubt.
    let destination = new_server().capability("IMAP4rev1 UIDPLUS LITERAL+");
    let (one, other) = (letters(&["all staff", "b"]), letters(&["all staff", "all staff"]));
    let stage = stage(destination, one, other).await;
    let orders = orders(&stage);
    let plan = Plan {
        way: Way::ToClient,
        moment: Moment::Text("Append completed", 2),
        harm: Harm::Swallow(Duration::from_millis(500)),
    };
    let proxy = Proxy::harming(stage.destination.imap(), plan).await;
    let cut = Orders { destination: proxy.address, ..orders[0].clone() };
    cut.carry().await.unwrap_err();
    assert!(proxy.has_harmed());
    // The message in doubt is removed at the source, so that the first one has nothing left to look for; its copy is
    // gone as well.
    let at = Arc::clone(&stage);
    spawn_blocking(move || {
        expunge(&mut at.at_source(ONE), "INBOX", 2);
        expunge(&mut at.at_destination(ONE), "INBOX", 2);
    })
    .await
    .unwrap();
    orders[1].carry().await.unwrap_or_else(|failure| panic!("{failure:?}"));
    assert_carried(&stage, &orders).await;
}
