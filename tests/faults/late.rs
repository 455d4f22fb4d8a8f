//! The answer is lost while the server goes on: what it was sent is stored after the client is gone, at once or seconds
//! later, and the next run begins meanwhile. The settle time is the one that users have.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::orders::Orders;
use crate::proxy::{Harm, Moment, Plan, Proxy, Way, without_uidplus};
use crate::stage::{Stage, letter, new_server, old_server};
use crate::support::compare::differences;

const PLAYS: u32 = 12;

/// How many messages the destination holds.
async fn stored(stage: &Arc<Stage>, name: &str) -> usize {
    let (at, user) = (Arc::clone(stage), name.to_owned());
    let count = move || at.at_destination(&user).read_all().folders.values().map(Vec::len).sum();
    spawn_blocking(count).await.unwrap()
}

/// One mailbox in which answers are lost three times, each time with the next run `wait` later. Returns how many messages
/// were seen to be stored when no client was there any more.
async fn lose_answers(stage: Arc<Stage>, play: u32) -> usize {
    let mut late = 0;
    let name = format!("late{play}");
    let (at, user) = (Arc::clone(&stage), name.clone());
    spawn_blocking(move || {
        let mail = (0..40).map(|n| {
            // Some are the same to the last byte.
            let subject = format!("letter {}", n - n % 5 / 4);
            letter(if n % 4 == 3 { "Sent" } else { "INBOX" }, &["\\Seen"], &subject, 3_000)
        });
        at.at_source(&user).seed(mail);
    })
    .await
    .unwrap();
    let orders = Orders { settle_ms: 10_000, ..stage.orders(&name) };
    let edit = (play % 2 == 1).then_some(without_uidplus as _);
    for round in 0..3 {
        let wait = Duration::from_secs(u64::from((play + round) % 4));
        // Even rounds: the answers are lost. Odd ones: what was sent reaches the server only when the client is long gone.
        let (way, moment, harm) = if round % 2 == 0 {
            (
                Way::ToClient,
                Moment::Text("Append completed", 1 + play),
                Harm::Swallow(Duration::from_millis(300)),
            )
        } else {
            (
                Way::ToServer,
                Moment::Text("APPEND", 1 + play),
                Harm::Hold(Duration::from_millis(1_000 + 2_000 * u64::from(play % 2))),
            )
        };
        let proxy = Proxy::start(orders.destination, Some(Plan { way, moment, harm }), edit).await;
        let faulty = Orders { destination: proxy.address, ..orders.clone() };
        let gone = async {
            while !proxy.has_harmed() {
                sleep(Duration::from_millis(5)).await;
            }
            sleep(Duration::from_millis(100)).await;
        };
        tokio::select! {
            done = faulty.carry() => assert!(done.is_err() || !proxy.has_harmed(), "{name}: {done:?}"),
            () = gone => {}
        }
        let at_first = stored(&stage, &name).await;
        sleep(wait).await;
        late += stored(&stage, &name).await - at_first;
        // Data on its way stays on its way although nobody listens to its client any more.
        tokio::spawn(async move {
            sleep(Duration::from_secs(20)).await;
            drop(proxy);
        });
    }
    let proxy = Proxy::start(orders.destination, None, edit).await;
    let last = Orders { destination: proxy.address, ..orders };
    let done = last.carry().await.unwrap_or_else(|failure| panic!("{name}: {failure:?}"));
    let at = Arc::clone(&stage);
    let user = name.clone();
    let found = spawn_blocking(move || {
        differences(&at.at_source(&user).read_all(), &at.at_destination(&user).read_all())
    })
    .await
    .unwrap();
    assert!(found.is_empty(), "{name}: {found:#?} {done:?}");
    let idle = last.carry().await.unwrap();
    assert_eq!(idle.sent, 0, "{name}: {idle:?}");
    late
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_stored_late_is_not_sent_twice() {
    let stage = spawn_blocking(|| Arc::new(Stage::start(old_server(), new_server()))).await.unwrap();
    let mut plays = tokio::task::JoinSet::new();
    for play in 0..PLAYS {
        plays.spawn(lose_answers(Arc::clone(&stage), play));
    }
    let mut late = 0;
    while let Some(done) = plays.join_next().await {
        late += done.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    }
    println!("{late} messages were stored after their client was gone and before the next began");
    assert!(late > 0, "nothing was stored late, so nothing was proved");
}
