//! Connections cut, reset, held, swallowed and sliced, and processes killed, at moments that a seed chooses, while mail and
//! flags go on changing at the source. In the end the destination is what the source is, and one run more sends nothing.
//!
//! `MAILFERRY_FAULT_SEED=n` plays one story alone, again as it was played.

use std::process::Child;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use crate::orders::{Orders, start};
use crate::proxy::{Harm, Moment, Plan, Proxy, Way, without_uidplus};
use crate::stage::{BASE, Stage, letter, new_server, old_server};
use crate::support::compare::{differences, maildrop};
use crate::support::corpus::{Corpus, Dice, Message};

/// Stories at a time; most of a story is waiting for a destination to stand still.
const AT_ONCE: usize = 24;
/// The settle time as users have it: late commits of a real server are the subject here.
const SETTLE_MS: u64 = 10_000;
/// The number of messages that a story's mailbox begins with.
const MESSAGES: usize = 50;
/// Faults of one story.
const FAULTS: u32 = 4;
/// No faulty pass takes longer; what is held for ever by a fault is dropped then.
const PATIENCE: Duration = Duration::from_secs(40);

fn goal() -> u64 {
    match std::env::var("MAILFERRY_FAULTS").as_deref() {
        Ok("all") => 5_000,
        _ => 200,
    }
}

/// A story's mail.
fn mail(pop3: bool) -> impl Iterator<Item = Message> {
    let corpus = Corpus::new(77);
    let corpus = if pop3 { corpus.inbox_only() } else { corpus };
    corpus.messages(MESSAGES)
}

/// Words that servers and clients say, at which harm may be done.
const TO_SERVER: [&str; 8] = ["APPEND", "FETCH", "STORE", "TOP ", "RETR ", "RSET", "UIDL", "\r\n\r\n"];
const TO_CLIENT: [&str; 7] =
    ["APPENDUID", "Append completed", "BODY[] {", "+ OK", " OK ", "+OK", "\r\n.\r\n"];

fn plan(dice: &mut Dice, bytes: u64, at_source: bool, harm: Harm) -> Plan {
    // The weight of mail goes from the source to us, and from us to the destination.
    let heavy = if at_source { Way::ToClient } else { Way::ToServer };
    let way = match &harm {
        Harm::Swallow(_) => Way::ToClient,
        _ => dice.pick(&[Way::ToServer, Way::ToClient, heavy]),
    };
    let words: &[&str] = if way == Way::ToServer { &TO_SERVER } else { &TO_CLIENT };
    let moment = match dice.below(3) {
        0 => Moment::Text(dice.pick(words), 1 + u32::try_from(dice.below(12)).unwrap()),
        _ if way == heavy => Moment::Byte(dice.below(bytes)),
        _ => Moment::Byte(dice.below(4_000)),
    };
    Plan { way, moment, harm }
}

struct Story {
    stage: Arc<Stage>,
    name: String,
    pop3: bool,
    uidplus: bool,
    /// Whether all that passes is compressed.
    slow: bool,
    bytes: u64,
    dice: Dice,
    told: Vec<String>,
}

impl Story {
    fn orders(&self) -> Orders {
        let orders = if self.pop3 { self.stage.by_pop3(&self.name) } else { self.stage.orders(&self.name) };
        Orders { settle_ms: SETTLE_MS, slow: self.slow, ..orders }
    }

    /// One pass in which something goes wrong; whether it did.
    async fn suffer(&mut self) -> bool {
        let child: Arc<Mutex<Option<Child>>> = Arc::default();
        let at_source = self.dice.below(3) == 0;
        let short = Duration::from_millis(self.dice.below(1_500));
        let harm = match self.dice.below(8) {
            0 | 1 => {
                let victim = Arc::clone(&child);
                Harm::Meanwhile(Arc::new(move || {
                    if let Some(child) = victim.lock().unwrap().as_mut() {
                        child.kill().unwrap();
                    }
                }))
            }
            2 => Harm::Cut,
            3 => Harm::Reset,
            4 => Harm::Hold(short),
            5 | 6 => Harm::Swallow(short),
            _ => Harm::Slice(1 + usize::try_from(self.dice.below(30)).unwrap()),
        };
        let kills = matches!(harm, Harm::Meanwhile(_));
        let drops = matches!(harm, Harm::Hold(_)) && self.dice.below(2) == 0;
        let plan = plan(&mut self.dice, self.bytes, at_source, harm);
        self.told.push(format!("{} {plan:?}", if at_source { "source" } else { "destination" }));
        let mut orders = self.orders();
        let edit = (!self.uidplus).then_some(without_uidplus as _);
        let (before_source, before_destination) =
            if at_source { (Some(plan), None) } else { (None, Some(plan)) };
        let source = Proxy::start(orders.source, before_source, None).await;
        let destination = Proxy::start(orders.destination, before_destination, edit).await;
        (orders.source, orders.destination) = (source.address, destination.address);
        if kills {
            *child.lock().unwrap() = Some(start(&[orders], None, None));
            let end = Instant::now() + PATIENCE;
            while child.lock().unwrap().as_mut().unwrap().try_wait().unwrap().is_none() {
                if Instant::now() > end {
                    child.lock().unwrap().as_mut().unwrap().kill().unwrap();
                }
                sleep(Duration::from_millis(20)).await;
            }
        } else {
            let harmed = async {
                while !(drops && (source.has_harmed() || destination.has_harmed())) {
                    sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::select! {
                // How it ends is all one, as long as it ends.
                _ = timeout(PATIENCE, orders.carry()) => {}
                () = harmed => {}
            }
        }
        source.has_harmed() || destination.has_harmed()
    }

    /// The source goes on living.
    fn live(&mut self, round: u32) {
        let mut old = self.stage.at_source(&self.name);
        for n in 0..=self.dice.below(4) {
            let subject = format!("round {round} letter {n}");
            let folder = if self.pop3 { "INBOX" } else { self.dice.pick(&["INBOX", "Sent", "Archive"]) };
            let size = usize::try_from(self.dice.below(20_000)).unwrap();
            let flags: &[&str] = if self.pop3 { &[] } else { &["\\Seen"] };
            old.seed([letter(folder, flags, &subject, size)]);
        }
        if !self.pop3 {
            old.select("INBOX").unwrap();
            let (number, flag) =
                (1 + self.dice.below(5), self.dice.pick(&["\\Flagged", "later", "\\Answered"]));
            let sign = self.dice.pick(&["+", "-"]);
            old.command(&format!("STORE {number} {sign}FLAGS ({flag})")).unwrap();
        }
    }

    fn differences(&self) -> Vec<String> {
        let (mut old, mut new) = (self.stage.at_source(&self.name), self.stage.at_destination(&self.name));
        if !self.pop3 {
            return differences(&old.read_all(), &new.read_all());
        }
        let (here, there) = (maildrop(&mut old), maildrop(&mut new));
        if here == there { Vec::new() } else { vec![format!("{} messages, not {}", there.len(), here.len())] }
    }
}

/// Plays one story and returns how many faults it had.
async fn play(stages: &[Arc<Stage>; 2], bytes: u64, seed: u64) -> u64 {
    let mut dice = Dice::new(seed);
    let pop3 = dice.below(3) == 0;
    let stage = Arc::clone(&stages[usize::from(pop3)]);
    let uidplus = dice.below(3) > 0;
    // Where answers are edited on their way they must be readable.
    let slow = uidplus && seed.is_multiple_of(3);
    let name = format!("story{seed}");
    let (at, play) = (Arc::clone(&stage), name.clone());
    spawn_blocking(move || at.copy(&play)).await.unwrap();
    let mut story = Story { stage, name, pop3, uidplus, slow, bytes, dice, told: Vec::new() };
    let mut faults = 0;
    for round in 0..FAULTS {
        faults += u64::from(story.suffer().await);
        // At once, or after some of what is late.
        sleep(Duration::from_millis(story.dice.below(3_000))).await;
        if story.dice.below(2) == 0 {
            story = spawn_blocking(move || {
                story.live(round);
                story
            })
            .await
            .unwrap();
        }
    }
    let replay = || {
        format!(
            "seed {seed} ({}, {}{}): {:#?}\nagain with MAILFERRY_FAULT_SEED={seed} cargo test --test faults random",
            if story.pop3 { "POP3" } else { "IMAP" },
            if story.uidplus { "UIDPLUS" } else { "no UIDPLUS" },
            if story.slow { ", compressed" } else { "" },
            story.told
        )
    };
    let mut orders = story.orders();
    // The same server, seen as it was seen before.
    let edit = (!story.uidplus).then_some(without_uidplus as _);
    let proxy = Proxy::start(orders.destination, None, edit).await;
    orders.destination = proxy.address;
    let carried = orders.carry().await.unwrap_or_else(|failure| panic!("{failure:?}\n{}", replay()));
    let (stage, play) = (Arc::clone(&story.stage), story.name.clone());
    let found = {
        let story = Story { told: Vec::new(), dice: story.dice.clone(), stage, name: play, ..story };
        spawn_blocking(move || (story.differences(), story.stage.at_destination(&story.name).uid_next()))
            .await
            .unwrap()
    };
    let (differences, before) = found;
    assert!(differences.is_empty(), "{differences:#?}\n{carried:?}\n{}", replay());
    let idle = orders.carry().await.unwrap_or_else(|failure| panic!("{failure:?}\n{}", replay()));
    assert_eq!((idle.sent, idle.counts.pending), (0, 0), "{idle:?}\n{}", replay());
    let (stage, play) = (Arc::clone(&story.stage), story.name.clone());
    let after = spawn_blocking(move || stage.at_destination(&play).uid_next()).await.unwrap();
    assert_eq!(after, before, "{}", replay());
    story.stage.clear(&story.name);
    faults
}

#[test]
fn faults_at_random_lose_nothing_and_double_nothing() {
    let alone: Option<u64> = std::env::var("MAILFERRY_FAULT_SEED").ok().and_then(|seed| seed.parse().ok());
    let goal = goal();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let stages = [false, true].map(|pop3| {
            let stage = Stage::start(old_server(), new_server());
            stage.at_source(BASE).seed(mail(pop3));
            Arc::new(stage)
        });
        let bytes = mail(false).map(|message| message.bytes.len() as u64).sum();
        let begun = Instant::now();
        let (seeds, faults) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let mut stories = tokio::task::JoinSet::new();
        for _ in 0..AT_ONCE {
            let (stages, seeds, faults) = (stages.clone(), Arc::clone(&seeds), Arc::clone(&faults));
            stories.spawn(async move {
                while faults.load(Ordering::SeqCst) < goal {
                    let next = seeds.fetch_add(1, Ordering::SeqCst);
                    if alone.is_some() && next > 0 {
                        return;
                    }
                    let had = Box::pin(play(&stages, bytes, alone.unwrap_or(20_261_123 + next))).await;
                    faults.fetch_add(had, Ordering::SeqCst);
                }
            });
        }
        while let Some(done) = stories.join_next().await {
            done.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        }
        let faults = faults.load(Ordering::SeqCst);
        println!("{faults} faults in {:?}", begun.elapsed());
        assert!(alone.is_some() || faults >= goal);
    });
}
