//! Connections that end inside a command that carries many messages (RFC 3502): the server keeps all of them or none, and
//! whoever sent them does not know which. The next pass must find out.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;

use crate::orders::Orders;
use crate::proxy::{Edit, Harm, Moment, Plan, Proxy, Way, without_uidplus};
use crate::stage::{Stage, letter, new_server, old_server};
use crate::support::compare::differences;

/// So many places are tried, spread evenly over what is said in one pass.
const PLACES: u64 = 16;

/// A folder that goes in two or three commands; one letter in five is the same as the one before.
async fn seed(stage: &Arc<Stage>, who: &str) {
    let (at, who) = (Arc::clone(stage), who.to_owned());
    spawn_blocking(move || {
        let mail = (0..60).map(|n| letter("INBOX", &["\\Seen"], &format!("letter {}", n - n % 5 / 4), 900));
        at.at_source(&who).seed(mail);
    })
    .await
    .unwrap();
}

/// Carries with one harm at the destination, then without.
async fn cut(stage: Arc<Stage>, who: String, plan: Plan, edit: Option<Edit>) {
    seed(&stage, &who).await;
    let orders = stage.orders(&who);
    let proxy = Proxy::start(orders.destination, Some(plan.clone()), edit).await;
    let done = Orders { destination: proxy.address, ..orders.clone() }.carry().await;
    assert!(proxy.has_harmed(), "{plan:?}: nothing was cut");
    let proxy = Proxy::start(orders.destination, None, edit).await;
    let orders = Orders { destination: proxy.address, ..orders };
    let again = orders.carry().await.unwrap_or_else(|failure| panic!("{plan:?}: {failure:?}"));
    let (at, user) = (Arc::clone(&stage), who.clone());
    let found = spawn_blocking(move || {
        differences(&at.at_source(&user).read_all(), &at.at_destination(&user).read_all())
    })
    .await
    .unwrap();
    assert!(found.is_empty(), "{plan:?}, {}: {found:#?}\n{done:?}\n{again:?}", edit.is_some());
    assert_eq!(orders.carry().await.unwrap().sent, 0, "{plan:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_was_kept_of_a_command_with_many_messages_that_was_cut_is_there_once() {
    let stage = spawn_blocking(|| Arc::new(Stage::start(old_server(), new_server()))).await.unwrap();
    // How much is said where nothing is cut, and that many messages share a command.
    seed(&stage, "whole").await;
    let orders = stage.orders("whole");
    let proxy = Proxy::start(orders.destination, None, None).await;
    Orders { destination: proxy.address, ..orders }.carry().await.unwrap();
    let said = proxy.passed(Way::ToServer);
    assert!(said > 60 * 900, "{said}");

    let mut cuts = tokio::task::JoinSet::new();
    for place in 1..PLACES {
        let moment = Moment::Byte(said * place / PLACES);
        let harm = match place % 3 {
            0 => Harm::Cut,
            1 => Harm::Reset,
            _ => Harm::Swallow(Duration::from_millis(300)),
        };
        let edit = (place % 2 == 1).then_some(without_uidplus as Edit);
        let plan = Plan { way: Way::ToServer, moment, harm };
        cuts.spawn(cut(Arc::clone(&stage), format!("cut{place}"), plan, edit));
    }
    while let Some(done) = cuts.join_next().await {
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    }
}
