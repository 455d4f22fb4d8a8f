//! Mailboxes that change while they are carried, and destinations that tell wrong places.

use std::sync::Arc;
use std::time::Duration;

use mailferry::model::failure::FailureCode;
use tokio::task::spawn_blocking;

use crate::orders::Orders;
use crate::proxy::{Edit, Harm, Moment, Plan, Proxy, Way};
use crate::stage::{Stage, letter, new_server, old_server, small_mailbox};
use crate::support::compare::differences;

const WHO: &str = "anna";

/// Two servers and the small mailbox.
async fn stage() -> Arc<Stage> {
    spawn_blocking(|| {
        let stage = Stage::start(old_server(), new_server());
        stage.at_source(WHO).seed(small_mailbox());
        Arc::new(stage)
    })
    .await
    .unwrap()
}

fn compare(stage: &Stage) -> Vec<String> {
    differences(&stage.at_source(WHO).read_all(), &stage.at_destination(WHO).read_all())
}

/// A pass must end with both sides the same, and one more must send nothing.
async fn assert_carried(stage: &Arc<Stage>, orders: &Orders) {
    let done = orders.carry().await.unwrap_or_else(|failure| panic!("{failure:?}"));
    let found = compare(stage);
    assert!(found.is_empty(), "{found:#?}\n{done:?}");
    let idle = orders.carry().await.unwrap();
    assert_eq!((idle.sent, idle.recognised, idle.counts.failed), (0, 0, 0), "{idle:?}");
    let found = compare(stage);
    assert!(found.is_empty(), "{found:#?}\n{idle:?}");
}

/// Carries while something happens at a moment of the source's or of the destination's connection.
async fn carry_while(
    stage: &Arc<Stage>,
    at_source: bool,
    moment: Moment,
    edit: Option<Edit>,
    act: impl Fn(&Stage) + Send + Sync + 'static,
) -> Result<(), String> {
    let there = Arc::clone(stage);
    let harm = Harm::Meanwhile(Arc::new(move || act(&there)));
    let mut orders = stage.orders(WHO);
    let server = if at_source { orders.source } else { orders.destination };
    let proxy = Proxy::start(server, Some(Plan { way: Way::ToServer, moment, harm }), edit).await;
    if at_source {
        orders.source = proxy.address;
    } else {
        orders.destination = proxy.address;
    }
    let done = orders.carry().await.map(drop).map_err(|failure| format!("{failure:?}"));
    assert!(proxy.has_harmed(), "nothing happened meanwhile");
    done
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_that_go_between_a_cut_and_the_next_run_go_from_what_had_arrived() {
    let stage = stage().await;
    let plan = Plan {
        way: Way::ToClient,
        moment: Moment::Text("Append completed", 1),
        harm: Harm::Swallow(Duration::from_millis(500)),
    };
    let orders = stage.orders(WHO);
    let proxy = Proxy::harming(orders.destination, plan).await;
    let cut = Orders { destination: proxy.address, ..orders.clone() };
    cut.carry().await.unwrap_err();
    let arrived = stage.at_destination(WHO).read_all();
    assert_eq!(arrived.folders["INBOX"].len(), 6, "all arrived, and nobody knows");
    let mut old = stage.at_source(WHO);
    old.select("INBOX").unwrap();
    old.command("STORE 1 FLAGS ()").unwrap();
    old.command("STORE 3:4 -FLAGS ($Label1)").unwrap();
    old.command("STORE 5 FLAGS (\\Seen new)").unwrap();
    drop(old);
    assert_carried(&stage, &orders).await;
}

/// Rewrites the UID in `[APPENDUID validity uid]`.
fn lie(line: &[u8], change: impl Fn(u32, u32) -> (u32, u32)) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(line).ok().filter(|text| text.contains(" OK "))?;
    let start = text.find("[APPENDUID ")? + "[APPENDUID ".len();
    let end = start + text[start..].find(']')?;
    let (validity, uid) = text[start..end].split_once(' ')?;
    // An answer to several messages at once tells a range.
    let uid = uid.split([':', ',']).next()?;
    let (validity, uid) = change(validity.parse().ok()?, uid.parse().ok()?);
    Some(format!("{}{validity} {uid}{}", &text[..start], &text[end..]).into_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn places_that_the_destination_tells_wrong_are_not_believed() {
    let lies: [(&str, Edit); 5] = [
        ("far beyond", |line| lie(line, |validity, uid| (validity, uid + 1000))),
        ("one beyond", |line| lie(line, |validity, uid| (validity, uid + 1))),
        ("one before", |line| lie(line, |validity, uid| (validity, (uid - 1).max(1)))),
        ("always the same", |line| lie(line, |validity, _| (validity, 1))),
        ("another UIDVALIDITY", |line| lie(line, |validity, uid| (validity + 7, uid))),
    ];
    for (what, edit) in lies {
        println!("{what}");
        let stage = stage().await;
        let proxy = Proxy::editing(stage.destination.imap(), edit).await;
        let orders = Orders { destination: proxy.address, ..stage.orders(WHO) };
        assert_carried(&stage, &orders).await;
        // A client that trusted it would flag the wrong messages now.
        let mut old = stage.at_source(WHO);
        old.select("INBOX").unwrap();
        old.command("STORE 2 +FLAGS (\\Flagged)").unwrap();
        old.command("STORE 5 FLAGS (late)").unwrap();
        old.append(&letter("INBOX", &[], "one more", 700)).unwrap();
        drop(old);
        assert_carried(&stage, &orders).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_folder_that_is_deleted_while_it_is_filled_is_filled_by_the_next_run() {
    // Dovecot reports it as a server bug; others report a missing folder (RFC 9051 §6.3.12).
    let by_the_book: Edit = |line| {
        let text = std::str::from_utf8(line).ok().filter(|text| text.contains(" NO [SERVERBUG]"))?;
        Some(text.replace("[SERVERBUG]", "[TRYCREATE]").into_bytes())
    };
    for edit in [None, Some(by_the_book)] {
        let stage = stage().await;
        let moment = Moment::Text("APPEND \"Sent\"", 1);
        let done = carry_while(&stage, false, moment, edit, |stage| {
            // The first message is there by then.
            std::thread::sleep(Duration::from_millis(300));
            stage.at_destination(WHO).delete("Sent").unwrap();
        })
        .await;
        println!("{done:?}");
        assert_carried(&stage, &stage.orders(WHO)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_folder_that_is_renamed_while_it_is_read_is_renamed_at_the_destination_too() {
    let stage = stage().await;
    let done = carry_while(&stage, true, Moment::Text("BODY.PEEK[]", 2), None, |stage| {
        let mut old = stage.at_source(WHO);
        old.command("RENAME Archive/2019 Archive/Before").unwrap();
        old.command("RENAME Sent Out").unwrap();
    })
    .await;
    println!("{done:?}");
    stage.orders(WHO).carry().await.unwrap();
    // A subscription stays with the old name at the source, and a folder that nothing was carried from yet was made for
    // nothing.
    let mut found = compare(&stage);
    found.retain(|line| !line.contains("subscribed") && line != "Sent: the folder is not in the source");
    assert!(found.is_empty(), "{found:#?}");
    assert_eq!(stage.orders(WHO).carry().await.unwrap().sent, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_folder_that_is_deleted_while_it_is_read_makes_no_empty_messages_and_stops_nobody() {
    let stage = stage().await;
    let done = carry_while(&stage, true, Moment::Text("BODY.PEEK[]", 2), None, |stage| {
        let mut old = stage.at_source(WHO);
        old.delete("Archive/2019").unwrap();
        old.delete("Sent").unwrap();
    })
    .await;
    println!("{done:?}");
    // A list may lack a folder by mistake: what of it was not carried is given up when it is lacking once more.
    let told = stage.orders(WHO).carry().await.unwrap_err();
    assert_eq!(told.code, Some(FailureCode::NoSuchFolder), "{told:?}");
    let done = stage.orders(WHO).carry().await.unwrap();
    assert_eq!((done.counts.pending, done.counts.failed), (0, 0), "{done:?}");
    let mut found = compare(&stage);
    found.retain(|line| !line.starts_with("Archive/2019") && !line.starts_with("Sent"));
    assert!(found.is_empty(), "{found:#?}");
    assert_eq!(stage.orders(WHO).carry().await.unwrap().sent, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_gets_another_uidvalidity_in_mid_session_is_recognised() {
    for at_source in [true, false] {
        let stage = stage().await;
        let moment =
            if at_source { Moment::Text("BODY.PEEK[]", 1) } else { Moment::Text("APPEND \"Sent\"", 1) };
        let done = carry_while(&stage, at_source, moment, None, move |stage| {
            let mut client = if at_source { stage.at_source(WHO) } else { stage.at_destination(WHO) };
            client.recreate("Sent");
        })
        .await;
        println!("{done:?}");
        let done = stage.orders(WHO).carry().await.unwrap_or_else(|failure| panic!("{failure:?}"));
        let found = compare(&stage);
        assert!(found.is_empty(), "{at_source}: {found:#?}\n{done:?}");
        assert_eq!(stage.orders(WHO).carry().await.unwrap().sent, 0);
    }
}
