//! Killed at each step, as by `kill -9`, and run again: the destination is what the source is, and one run more sends
//! nothing. Each situation is prepared once and played once for each step of its pass.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mailferry::ledger::Tallies;
use mailferry::model::failure::Class;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::orders::{Orders, start};
use crate::proxy::{Harm, Moment, Plan, Proxy, Way, without_top, without_uidplus};
use crate::stage::{BASE, Stage, expunge, letter, new_server, old_server, small_mailbox, together};
use crate::support::compare::{Account, differences};
use crate::support::dovecot::Builder;

/// Plays of one situation at a time; most of a play is waiting.
const AT_ONCE: usize = 10;
/// Situations at a time.
const SITUATIONS_AT_ONCE: usize = 2;

/// The disturbance that may be between the two sides.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Between {
    Nothing,
    /// No UIDPLUS at the destination, not even in the answers to APPEND.
    NoUidplus,
    /// No TOP at a POP3 source, so that messages are read by RETR.
    NoTop,
    /// A message is expunged at the source when the first body is asked for.
    Expunging,
}

/// The step that a person takes about a failure.
type Remedy = fn(&Stage, &str);

struct Situation {
    name: &'static str,
    servers: fn() -> (Builder, Builder),
    /// Brings both sides and the ledger to where the pass to be killed begins.
    prepare: fn(&Stage) -> Vec<Orders>,
    /// The passes of a play.
    orders: fn(&Stage, &str) -> Vec<Orders>,
    between: Between,
    /// The remedy after the pass that follows the kill, which must have failed with this class until then.
    remedy: Option<(Class, Remedy)>,
    /// Differences that are meant to be.
    tolerated: fn(&str) -> bool,
    /// Whether a kill changes nothing of what is counted.
    counts_alike: bool,
}

impl Default for Situation {
    fn default() -> Self {
        Self {
            name: "",
            servers: || (old_server(), new_server()),
            prepare: |stage| {
                stage.at_source(BASE).seed(small_mailbox());
                Vec::new()
            },
            orders: |stage, play| vec![stage.orders(play)],
            between: Between::Nothing,
            remedy: None,
            tolerated: |_| false,
            counts_alike: false,
        }
    }
}

/// Steps in all situations together; fewer mean that something is not looked at any more.
const STEPS_MIN: u64 = 1_000;
/// `make test` plays one step of so many, `make faults` every one.
const STRIDE: u64 = 4;

/// Every step, or an even sample; which one depends on their number, so that situations do not all sample alike.
fn sample(steps: u64) -> Vec<u64> {
    let stride = if std::env::var("MAILFERRY_FAULTS").is_ok_and(|word| word == "all") { 1 } else { STRIDE };
    (1..=steps).filter(|step| step % stride == steps % stride).collect()
}

/// `MAILFERRY_SITUATION` names one to play alone.
#[test]
fn a_kill_at_any_step_loses_nothing_and_doubles_nothing() {
    let wanted = std::env::var("MAILFERRY_SITUATION").ok();
    let chosen = situations().into_iter().filter(|s| wanted.as_deref().is_none_or(|name| name == s.name));
    let waiting: Mutex<Vec<&'static Situation>> =
        Mutex::new(chosen.map(|situation| &*Box::leak(Box::new(situation))).collect());
    assert!(!waiting.lock().unwrap().is_empty(), "no situation is called {wanted:?}");
    let begun = Instant::now();
    let (mut steps, mut killed, mut failed) = (0, 0, Vec::new());
    std::thread::scope(|scope| {
        let work = || {
            let mut ended = Vec::new();
            loop {
                let Some(situation) = waiting.lock().unwrap().pop() else { return ended };
                ended.push((situation.name, std::panic::catch_unwind(|| play_all(situation))));
            }
        };
        let workers: Vec<_> = (0..SITUATIONS_AT_ONCE).map(|_| scope.spawn(work)).collect();
        for (name, ended) in workers.into_iter().flat_map(|worker| worker.join().unwrap()) {
            match ended {
                Ok((there, reached)) => (steps, killed) = (steps + there, killed + reached),
                Err(_) => failed.push(name),
            }
        }
    });
    println!("{steps} steps, killed at {killed} of them, in {:?}", begun.elapsed());
    assert!(failed.is_empty(), "{failed:?}");
    assert!(wanted.is_some() || steps >= STEPS_MIN, "only {steps} steps in all");
}

/// How many steps there are, and at how many a process was killed.
fn play_all(situation: &'static Situation) -> (u64, u64) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let (source, destination) = (situation.servers)();
        let stage = Arc::new(Stage::start(source, destination));
        let begun = Instant::now();
        let at = Arc::clone(&stage);
        for orders in spawn_blocking(move || (situation.prepare)(&at)).await.unwrap() {
            orders.carry().await.unwrap_or_else(|failure| panic!("{failure:?}"));
        }
        let steps = count(&stage, situation).await;
        let points = sample(steps);
        let (allowed, killed) = (Arc::new(Semaphore::new(AT_ONCE)), Arc::new(AtomicUsize::new(0)));
        let mut plays = tokio::task::JoinSet::new();
        for &step in &points {
            let (stage, allowed) = (Arc::clone(&stage), Arc::clone(&allowed));
            let killed = Arc::clone(&killed);
            plays.spawn(async move {
                let _allowed = allowed.acquire_owned().await.unwrap();
                if play(&stage, situation, step).await {
                    killed.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        while let Some(done) = plays.join_next().await {
            done.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        }
        let killed = killed.load(Ordering::SeqCst);
        println!(
            "{}: {steps} steps, killed at {killed} of {} in {:?}",
            situation.name,
            points.len(),
            begun.elapsed()
        );
        // Packets fall as they like, so the last steps of one run may be missing in another.
        assert!(
            killed * 10 >= points.len() * 9,
            "{}: killed at {killed} of {}",
            situation.name,
            points.len()
        );
        (steps, killed as u64)
    })
}

/// How many steps a pass has that nothing happens to.
async fn count(stage: &Arc<Stage>, situation: &'static Situation) -> u64 {
    stage.copy("count");
    let file = stage.path("count.steps");
    let (orders, _proxy) = orders(stage, situation, "count").await;
    let path = file.clone();
    spawn_blocking(move || start(&orders, None, Some(path)).wait().unwrap()).await.unwrap();
    std::fs::read_to_string(file).expect("a number of steps").parse().unwrap()
}

/// The passes of a play, and what must live meanwhile.
async fn orders(stage: &Arc<Stage>, situation: &Situation, play: &str) -> (Vec<Orders>, Option<Proxy>) {
    let mut orders = (situation.orders)(stage, play);
    let proxy = match situation.between {
        Between::Nothing => None,
        Between::NoUidplus => Some(Proxy::editing(stage.destination.imap(), without_uidplus).await),
        Between::NoTop => Some(Proxy::editing(stage.source.pop3(), without_top).await),
        Between::Expunging => {
            let (stage_there, name) = (Arc::clone(stage), play.to_owned());
            let act = move || expunge(&mut stage_there.at_source(&name), "INBOX", 2);
            let once = Plan {
                way: Way::ToServer,
                moment: Moment::Text("BODY.PEEK[]", 1),
                harm: Harm::Meanwhile(Arc::new(act)),
            };
            Some(Proxy::harming(stage.source.imap(), once).await)
        }
    };
    for orders in &mut orders {
        match (&proxy, situation.between) {
            (Some(proxy), Between::NoUidplus) => orders.destination = proxy.address,
            (Some(proxy), _) => orders.source = proxy.address,
            (None, _) => {}
        }
    }
    (orders, proxy)
}

/// Both sides of a play: what should be and what is.
fn look(stage: &Stage, orders: &[Orders]) -> Vec<String> {
    let mut wanted = Account::default();
    for orders in orders {
        wanted = together(wanted, stage.at_source(&orders.source_user).read_all());
    }
    differences(&wanted, &stage.at_destination(&orders[0].destination_user).read_all())
}

/// Plays once; whether the process got as far as the step.
async fn play(stage: &Arc<Stage>, situation: &'static Situation, step: u64) -> bool {
    let name = format!("play{step}");
    let what = format!("{} killed at step {step}", situation.name);
    let at = Arc::clone(stage);
    let copy = name.clone();
    spawn_blocking(move || at.copy(&copy)).await.unwrap();
    let (orders, _proxy) = orders(stage, situation, &name).await;
    let ordered = orders.clone();
    let status = spawn_blocking(move || start(&ordered, Some(step), None).wait().unwrap()).await.unwrap();
    let killed = std::os::unix::process::ExitStatusExt::signal(&status) == Some(9);
    for orders in &orders {
        let resumed = orders.carry().await;
        match situation.remedy {
            None => drop(resumed.unwrap_or_else(|failure| panic!("{what}: {failure:?}"))),
            Some((class, remedy)) => {
                assert_eq!(resumed.expect_err(&what).class, class, "{what}");
                let (at, play) = (Arc::clone(stage), name.clone());
                spawn_blocking(move || remedy(&at, &play)).await.unwrap();
                orders.carry().await.unwrap_or_else(|failure| panic!("{what}: {failure:?}"));
            }
        }
    }
    let (at, ordered) = (Arc::clone(stage), orders.clone());
    let (found, before) = spawn_blocking(move || {
        let found = look(&at, &ordered);
        (found, at.at_destination(&ordered[0].destination_user).uid_next())
    })
    .await
    .unwrap();
    let found: Vec<_> = found.into_iter().filter(|line| !(situation.tolerated)(line)).collect();
    assert!(found.is_empty(), "{what}: {found:#?}");
    for orders in &orders {
        let idle = orders.carry().await.unwrap_or_else(|failure| panic!("{what}: {failure:?}"));
        assert_eq!((idle.sent, idle.counts.pending), (0, 0), "{what}: {idle:?}");
    }
    for orders in &orders {
        let (counted, copied) = orders.counted().await;
        assert!(counted.sizes_checked >= copied, "{what}: {copied} arrived, and {counted:?}");
    }
    if situation.counts_alike {
        // A message that is recognised instead of sent may need its flags afterwards.
        let tallies = async |orders: &Orders| Tallies { flags_updated: 0, ..orders.counted().await.0 };
        let (counted, undisturbed) = (tallies(&orders[0]).await, tallies(&stage.orders("count")).await);
        assert_eq!(counted, undisturbed, "{what}: what was counted is not what is counted without a kill");
    }
    let (at, user) = (Arc::clone(stage), orders[0].destination_user.clone());
    let after = spawn_blocking(move || at.at_destination(&user).uid_next()).await.unwrap();
    assert_eq!(after, before, "{what}: nothing is sent once more");
    stage.clear(&name);
    killed
}

/// The small mailbox has been carried, and then something happened.
fn carried(stage: &Stage) -> Vec<Orders> {
    stage.at_source(BASE).seed(small_mailbox());
    block_on(&stage.orders(BASE));
    Vec::new()
}

/// Carries from a thread that may block.
fn block_on(orders: &Orders) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(orders.carry()).unwrap_or_else(|failure| panic!("{failure:?}"));
}

/// Mail of one folder, as POP3 shows it: without flags, and with its date in a Received line.
fn inbox_for_pop3(stage: &Stage) {
    let mail = (1..=10).map(|n| {
        let mut message = letter("INBOX", &[], &format!("message {n}"), n * 700);
        let stamp = format!("Received: by mx.a.test; {n} Mar 2019 08:15:42 +0100\r\n");
        message.bytes = [stamp.as_bytes(), &message.bytes].concat();
        message.internal_date = format!("{n:02}-Mar-2019 08:15:42 +0100");
        message
    });
    stage.at_source(BASE).seed(mail);
}

/// RETR marks a message as seen, also the one that proves what TOP gives; RSET takes that back. A server that was still
/// handing the message out at the kill may keep the mark: RSET never came.
fn keeps_the_mark_of_retr(line: &str) -> bool {
    line.ends_with("not {\"\\\\seen\"}")
}

/// All of them.
#[allow(clippy::too_many_lines, reason = "one table")]
fn situations() -> Vec<Situation> {
    vec![
        Situation {
            name: "full",
            prepare: |stage| {
                let mut old = stage.at_source(BASE);
                old.seed(small_mailbox());
                old.select("INBOX").unwrap();
                old.command("STORE 1:2 +FLAGS (\\Deleted)").unwrap();
                Vec::new()
            },
            counts_alike: true,
            ..Situation::default()
        },
        Situation {
            name: "full_without_uidplus",
            counts_alike: true,
            between: Between::NoUidplus,
            ..Situation::default()
        },
        Situation {
            name: "full_without_extensions",
            counts_alike: true,
            servers: || (old_server().capability("IMAP4rev1"), new_server().capability("IMAP4rev1")),
            ..Situation::default()
        },
        Situation {
            name: "delta",
            counts_alike: true,
            prepare: |stage| {
                carried(stage);
                let mut old = stage.at_source(BASE);
                old.append(&letter("INBOX", &["\\Seen"], "new one", 900)).unwrap();
                old.append(&letter("INBOX", &[], "twin", 400)).unwrap();
                old.append(&letter("Sent", &["late"], "new two", 30_000)).unwrap();
                Vec::new()
            },
            ..Situation::default()
        },
        Situation {
            name: "flags",
            prepare: |stage| {
                carried(stage);
                let mut old = stage.at_source(BASE);
                old.select("INBOX").unwrap();
                old.command("STORE 1:2 FLAGS (\\Answered Later)").unwrap();
                old.command("STORE 3 FLAGS ()").unwrap();
                old.command("STORE 5:6 +FLAGS (\\Flagged)").unwrap();
                old.select("Sent").unwrap();
                old.command("STORE 1:* -FLAGS (\\Seen)").unwrap();
                Vec::new()
            },
            ..Situation::default()
        },
        Situation {
            name: "new_folders",
            counts_alike: true,
            prepare: |stage| {
                carried(stage);
                let mut old = stage.at_source(BASE);
                old.seed([
                    letter("Projects/Alpha", &["\\Seen"], "alpha", 900),
                    letter("Projects/Alpha", &[], "beta", 20_000),
                    letter("Entwürfe & Pläne", &["\\Draft"], "plan", 100),
                ]);
                old.create_and_subscribe("Empty");
                Vec::new()
            },
            ..Situation::default()
        },
        Situation {
            name: "another_uidvalidity_at_the_source",
            prepare: |stage| {
                carried(stage);
                let mut old = stage.at_source(BASE);
                old.recreate("Sent");
                old.recreate("Archive/2019");
                old.append(&letter("Sent", &[], "new", 500)).unwrap();
                Vec::new()
            },
            ..Situation::default()
        },
        Situation {
            name: "another_uidvalidity_at_the_destination",
            prepare: |stage| {
                carried(stage);
                let mut new = stage.at_destination(BASE);
                new.recreate("Sent");
                new.recreate("Archive/2019");
                stage.at_source(BASE).append(&letter("Sent", &[], "new", 500)).unwrap();
                Vec::new()
            },
            ..Situation::default()
        },
        Situation {
            name: "uids_given_anew_at_the_source",
            prepare: |stage| {
                carried(stage);
                expunge(&mut stage.at_source(BASE), "INBOX", 1);
                stage.source.renumber_inbox(BASE);
                let mut old = stage.at_source(BASE);
                old.append(&letter("INBOX", &[], "new", 500)).unwrap();
                old.select("INBOX").unwrap();
                old.command("STORE 2 +FLAGS (later)").unwrap();
                Vec::new()
            },
            // Messages that went from the source stay.
            tolerated: |line| line.ends_with("too many") && line.starts_with("INBOX: "),
            ..Situation::default()
        },
        Situation {
            name: "a_folder_removed_at_the_destination",
            prepare: |stage| {
                carried(stage);
                stage.at_destination(BASE).delete("Archive/2019").unwrap();
                Vec::new()
            },
            // It was removed by its user, and nothing new must go there.
            tolerated: |line| line.starts_with("Archive/2019: ") && line.ends_with("missing"),
            ..Situation::default()
        },
        Situation {
            name: "over_slow_links",
            orders: |stage, play| vec![Orders { slow: true, ..stage.orders(play) }],
            ..Situation::default()
        },
        Situation {
            name: "expunged_while_copying",
            between: Between::Expunging,
            // It may have been read before it went.
            tolerated: |line| line.ends_with("too many") && line.starts_with("INBOX: "),
            ..Situation::default()
        },
        Situation {
            name: "no_room_at_the_destination",
            servers: || (old_server(), new_server().any_user(crate::orders::PASSWORD, Some(150_000))),
            prepare: |stage| {
                stage.at_source(BASE).seed(small_mailbox());
                let mut new = stage.at_destination(BASE);
                new.create("Ballast").unwrap();
                new.append(&letter("Ballast", &[], "ballast", 95_000)).unwrap();
                Vec::new()
            },
            remedy: Some((Class::Quota, |stage, play| {
                expunge(&mut stage.at_destination(play), "Ballast", 1);
            })),
            tolerated: |line| line.starts_with("Ballast: the folder"),
            ..Situation::default()
        },
        Situation {
            name: "one_message_too_large",
            servers: || (old_server(), new_server().max_message(30_000)),
            tolerated: |line| {
                line.ends_with("missing")
                    && line.contains("INBOX")
                    && (line.contains("(40000 bytes") || line.contains("(39983 bytes"))
            },
            ..Situation::default()
        },
        Situation {
            name: "pop3",
            prepare: |stage| {
                inbox_for_pop3(stage);
                Vec::new()
            },
            orders: |stage, play| vec![stage.by_pop3(play)],
            tolerated: keeps_the_mark_of_retr,
            ..Situation::default()
        },
        Situation {
            name: "pop3_by_retr",
            prepare: |stage| {
                inbox_for_pop3(stage);
                Vec::new()
            },
            orders: |stage, play| vec![stage.by_pop3(play)],
            between: Between::NoTop,
            tolerated: keeps_the_mark_of_retr,
            ..Situation::default()
        },
        Situation {
            name: "pop3_delta",
            prepare: |stage| {
                inbox_for_pop3(stage);
                block_on(&stage.by_pop3(BASE));
                let mut old = stage.at_source(BASE);
                old.append(&letter("INBOX", &[], "new since", 900)).unwrap();
                old.append(&letter("INBOX", &[], "and a large one", 90_000)).unwrap();
                Vec::new()
            },
            orders: |stage, play| vec![stage.by_pop3(play)],
            tolerated: |line| line.contains("INTERNALDATE") || keeps_the_mark_of_retr(line),
            ..Situation::default()
        },
        Situation {
            name: "pop3_ledger_lost",
            prepare: |stage| {
                inbox_for_pop3(stage);
                block_on(&stage.by_pop3(BASE));
                std::fs::remove_file(stage.ledger(BASE)).unwrap();
                Vec::new()
            },
            orders: |stage, play| vec![stage.by_pop3(play)],
            tolerated: keeps_the_mark_of_retr,
            ..Situation::default()
        },
        Situation {
            name: "pop3_and_then_imap",
            prepare: |stage| {
                inbox_for_pop3(stage);
                block_on(&stage.by_pop3(BASE));
                let mut old = stage.at_source(BASE);
                old.append(&letter("INBOX", &["\\Seen"], "new since", 900)).unwrap();
                old.seed([letter("Sent", &["\\Seen"], "sent", 300)]);
                old.select("INBOX").unwrap();
                old.command("STORE 2:4 FLAGS (\\Seen)").unwrap();
                Vec::new()
            },
            ..Situation::default()
        },
        Situation {
            name: "two_mailboxes_into_one",
            prepare: |stage| {
                stage.at_source(BASE).seed(small_mailbox().into_iter().take(6));
                let other = ["a", "b", "c", "d"].map(|name| letter("INBOX", &[], name, 2_000));
                stage.at_source("base-other").seed(other);
                // The same letters as in the first one.
                stage.at_source("base-other").seed(small_mailbox().into_iter().take(4));
                stage.at_source("base-other").seed([letter("Sent", &["\\Seen"], "e", 100)]);
                Vec::new()
            },
            orders: |stage, play| {
                let other = format!("{play}-other");
                vec![
                    Orders { beside: vec![other.clone()], ..stage.orders(play) },
                    Orders {
                        source_user: other.clone(),
                        ledger: stage.ledger(&other),
                        beside: vec![play.to_owned()],
                        ..stage.orders(play)
                    },
                ]
            },
            ..Situation::default()
        },
        Situation {
            name: "a_folder_renamed",
            prepare: |stage| {
                carried(stage);
                let mut old = stage.at_source(BASE);
                old.command("RENAME Archive/2019 Archive/Before").unwrap();
                old.command("UNSUBSCRIBE Archive/2019").unwrap();
                old.subscribe("Archive/Before").unwrap();
                Vec::new()
            },
            // Messages that were carried under the old name stay.
            tolerated: |line| line.starts_with("Archive/2019"),
            ..Situation::default()
        },
        Situation {
            name: "a_ledger_lost",
            prepare: |stage| {
                carried(stage);
                std::fs::remove_file(stage.ledger(BASE)).unwrap();
                stage.at_source(BASE).append(&letter("INBOX", &[], "new", 400)).unwrap();
                Vec::new()
            },
            ..Situation::default()
        },
        Situation {
            name: "resumed_after_a_kill",
            prepare: |stage| {
                stage.at_source(BASE).seed(small_mailbox());
                // Deep in the first folder: its messages are under way.
                let middle = Some(45);
                start(&[stage.orders(BASE)], middle, None).wait().unwrap();
                std::thread::sleep(Duration::from_millis(500));
                Vec::new()
            },
            ..Situation::default()
        },
    ]
}
