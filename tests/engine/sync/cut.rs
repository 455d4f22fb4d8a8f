//! Passes that are cut or killed in the middle. A server goes on storing what it was sent after the client is gone, so
//! these tests wait as the product does: until the destination no longer changes.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use mailferry::drivers::imap::destination::ImapDestination;
use mailferry::drivers::imap::source::ImapSource;
use mailferry::drivers::marks::Marks;
use mailferry::drivers::{
    Abilities, Appended, BodyReceiver, BodySender, Destination, Envelope, Folder, FolderState, Present,
};
use mailferry::ledger::Ledger;
use mailferry::model::evidence::ServerFacts;
use mailferry::model::failure::{Class, Result};
use mailferry::model::finding::Code;
use mailferry::model::folder::FolderPath;
use mailferry::model::mark::Mark;
use mailferry::model::message::{Flags, ItemId};
use mailferry::transfer::progress::MailboxProgress;
use mailferry::transfer::{PassOutcome, sync_mailbox};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::sleep;

use crate::support::corpus::{Corpus, Dice, Message};
use crate::support::dovecot::Dovecot;
use crate::sync::rig::{ANNA, NEW, Rig, all_rules, carry, letter, log_in, new_server, old_server};

/// Runs a pass and drops it, connections and all, once `bytes` have passed and a moment after.
pub async fn cut_pass(rig: &Rig, bytes: u64, moment: Duration) {
    let (rules, progress) = (all_rules(), MailboxProgress::default());
    tokio::select! {
        done = rig.try_pass_watched(&rules, &progress) => { done.unwrap(); }
        () = async {
            while progress.read().bytes < bytes {
                sleep(Duration::from_micros(200)).await;
            }
            sleep(moment).await;
        } => {}
    }
}

/// How many bytes all messages have.
pub fn size_of(rig: &Rig) -> u64 {
    let account = rig.at_source().read_all();
    account.folders.values().flatten().map(|row| row.size as u64).sum()
}

async fn survive_cuts(seed: u64) {
    let rig = Rig::start(old_server(), new_server());
    rig.at_source().seed(Corpus::new(seed).messages(150));
    let size = size_of(&rig);
    let mut dice = Dice::new(seed);
    // Once early or late, and once more while it resumes.
    for _ in 0..2 {
        cut_pass(&rig, dice.below(size), Duration::from_micros(dice.below(30_000))).await;
    }
    let outcome = rig.pass().await;
    rig.assert_same();
    assert_eq!(outcome.counts.copied, 150, "{}", outcome.counts);
    rig.assert_idle().await;
}

macro_rules! seeds {
    ($($name:ident: $seed:literal;)+) => {
        $(#[tokio::test] async fn $name() { survive_cuts($seed).await; })+
    };
}

seeds! {
    a_cut_pass_goes_on_without_loss_or_double_1: 101;
    a_cut_pass_goes_on_without_loss_or_double_2: 102;
    a_cut_pass_goes_on_without_loss_or_double_3: 103;
    a_cut_pass_goes_on_without_loss_or_double_4: 104;
    a_cut_pass_goes_on_without_loss_or_double_5: 105;
    a_cut_pass_goes_on_without_loss_or_double_6: 106;
    a_cut_pass_goes_on_without_loss_or_double_7: 107;
    a_cut_pass_goes_on_without_loss_or_double_8: 108;
}

/// Two letters that are the same to the last byte, and one that is not.
fn seed_twins(rig: &Rig, pairs: usize) {
    let mut old = rig.at_source();
    for pair in 0..pairs {
        let twin = letter("INBOX", &["\\Seen"], &format!("twin {pair} {}", "filling ".repeat(200)));
        old.append(&twin).unwrap();
        old.append(&letter("INBOX", &[], &format!("single {pair}"))).unwrap();
        old.append(&twin).unwrap();
    }
}

#[tokio::test]
async fn twins_stay_two_even_when_the_pass_is_cut() {
    for cut in [None, Some(20), Some(50), Some(80)] {
        let rig = Rig::start(old_server(), new_server());
        seed_twins(&rig, 30);
        if let Some(percent) = cut {
            let bytes = size_of(&rig) * percent / 100;
            cut_pass(&rig, bytes, Duration::from_millis(1)).await;
        }
        rig.pass().await;
        rig.assert_same();
        assert_eq!(rig.at_destination().read_all().folders["INBOX"].len(), 90);
        rig.assert_idle().await;
    }
}

#[tokio::test]
async fn a_twin_that_comes_later_is_carried_too() {
    let rig = Rig::start(old_server(), new_server());
    seed_twins(&rig, 3);
    rig.pass().await;
    seed_twins(&rig, 3);
    assert_eq!(rig.pass().await.sent, 9);
    rig.assert_same();
}

const ORDERS: &str = "MAILFERRY_TEST_CARRY";

/// The process that the next test kills: it carries a mailbox as the environment orders, and is idle without orders.
#[tokio::test]
async fn carry_as_ordered() {
    let Ok(orders) = std::env::var(ORDERS) else { return };
    let (ledger, addresses) = orders.split_once('|').unwrap();
    let (old, new) = addresses.split_once('|').unwrap();
    let ledger = mailferry::ledger::sqlite::SqliteLedger::open(ledger.as_ref()).unwrap();
    let mut source = ImapSource::new(log_in(old.parse().unwrap(), ANNA).await).await.unwrap();
    let mut destination = ImapDestination::new(log_in(new.parse().unwrap(), NEW).await).await.unwrap();
    sync_mailbox(&mut source, &mut destination, &ledger, &all_rules(), &MailboxProgress::default())
        .await
        .unwrap();
}

/// Kills a pass in a process of its own after so long.
fn kill_pass(rig: &Rig, after: Duration) {
    let orders = format!("{}|{}|{}", rig.ledger_path().display(), rig.source.imap(), rig.destination.imap());
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sync::cut::carry_as_ordered"])
        .env(ORDERS, orders)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(after);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn a_killed_process_leaves_nothing_double_and_nothing_behind() {
    let rig = Rig::start(old_server(), new_server());
    rig.at_source().seed(Corpus::new(21).messages(300));
    seed_twins(&rig, 20);
    let mut dice = Dice::new(21);
    let mut stages = Vec::new();
    for _ in 0..5 {
        kill_pass(&rig, Duration::from_millis(150 + dice.below(900)));
        stages.push(rig.at_destination().read_all().messages());
    }
    println!("messages at the destination after each kill: {stages:?}");
    let outcome = rig.pass().await;
    rig.assert_same();
    assert_eq!(outcome.counts.copied, 360);
    rig.assert_idle().await;
}

#[tokio::test]
async fn a_destination_that_goes_away_is_a_failure_to_try_again() {
    let mut rig = Rig::start(old_server(), new_server());
    rig.at_source().seed(Corpus::new(22).messages(200));
    let half = size_of(&rig) / 2;
    let progress = Arc::new(MailboxProgress::default());
    let pass = {
        let (old, new, ledger) = (rig.source.imap(), rig.destination.imap(), rig.ledger_path());
        let progress = Arc::clone(&progress);
        tokio::spawn(async move {
            let mut source = ImapSource::new(log_in(old, ANNA).await).await?;
            carry(&mut source, new, &ledger, &all_rules(), &progress).await
        })
    };
    while progress.read().bytes < half {
        sleep(Duration::from_micros(200)).await;
    }
    rig.destination.stop();
    let failure = pass.await.unwrap().unwrap_err();
    assert_eq!(failure.class, Class::Unreachable, "{failure:?}");
    rig.destination.start();
    rig.pass().await;
    rig.assert_same();
}

/// The trouble in the first append of a pass.
enum Trouble {
    /// Nothing more, for ever: the pass can only be dropped.
    Hang(Arc<Notify>),
    /// The messages that an earlier pass had sent arrive only now, after they were looked for.
    Late(Vec<Message>),
}

/// A real destination in whose first append there is trouble.
struct Troubled<'a> {
    inner: ImapDestination,
    server: &'a Dovecot,
    trouble: Option<Trouble>,
}

#[async_trait::async_trait]
impl Destination for Troubled<'_> {
    fn facts(&self) -> &ServerFacts {
        self.inner.facts()
    }
    fn marks(&self) -> &'static dyn Marks {
        self.inner.marks()
    }
    fn abilities(&self) -> Abilities {
        self.inner.abilities()
    }
    fn delimiter(&self) -> Option<char> {
        self.inner.delimiter()
    }
    async fn list_folders(&mut self) -> Result<Vec<Folder>> {
        self.inner.list_folders().await
    }
    async fn ensure_folder(&mut self, path: &FolderPath, subscribe: bool) -> Result<()> {
        self.inner.ensure_folder(path, subscribe).await
    }
    async fn open(&mut self, path: &FolderPath) -> Result<FolderState> {
        self.inner.open(path).await
    }
    async fn status(&mut self, path: &FolderPath) -> Result<FolderState> {
        self.inner.status(path).await
    }
    async fn list_since(&mut self, mark: &Mark) -> Result<Vec<Present>> {
        self.inner.list_since(mark).await
    }
    async fn fetch(&mut self, ids: &[ItemId], bodies: BodySender) -> Result<()> {
        self.inner.fetch(ids, bodies).await
    }
    async fn append(
        &mut self,
        path: &FolderPath,
        bodies: &mut BodyReceiver,
        envelope: &(dyn Fn(u64) -> Envelope + Send + Sync),
        outcomes: &UnboundedSender<Appended>,
    ) -> Result<()> {
        match self.trouble.take() {
            Some(Trouble::Hang(hung)) => {
                hung.notify_one();
                std::future::pending::<()>().await;
            }
            Some(Trouble::Late(messages)) => drop(self.server.mailbox(NEW).seed(messages)),
            None => {}
        }
        self.inner.append(path, bodies, envelope, outcomes).await
    }
    async fn store_flags(&mut self, ids: &[ItemId], add: &Flags, remove: &Flags) -> Result<Flags> {
        self.inner.store_flags(ids, add, remove).await
    }
    async fn expunge(&mut self, ids: &[ItemId]) -> Result<()> {
        self.inner.expunge(ids).await
    }
    async fn close(&mut self) {
        self.inner.close().await;
    }
}

async fn troubled_pass(rig: &Rig, trouble: Trouble) -> Result<PassOutcome> {
    let mut source = ImapSource::new(log_in(rig.source.imap(), ANNA).await).await?;
    let inner = ImapDestination::new(log_in(rig.destination.imap(), NEW).await).await?;
    let mut destination = Troubled { inner, server: &rig.destination, trouble: Some(trouble) };
    sync_mailbox(&mut source, &mut destination, &rig.ledger(), &all_rules(), &MailboxProgress::default())
        .await
}

#[tokio::test]
async fn what_arrives_late_is_removed_if_it_is_provably_ours_and_nothing_else() {
    for uidplus in [true, false] {
        let words = if uidplus { "IMAP4rev1 LITERAL+ UIDPLUS" } else { "IMAP4rev1" };
        let rig = Rig::start(old_server(), new_server().capability(words));
        let letters: Vec<Message> = (0..12).map(|n| letter("INBOX", &[], &format!("letter {n}"))).collect();
        rig.at_source().seed(letters.clone());
        rig.at_source().append(&letters[0]).unwrap();

        let hung = Arc::new(Notify::new());
        tokio::select! {
            _ = troubled_pass(&rig, Trouble::Hang(Arc::clone(&hung))) => panic!("it hangs"),
            () = hung.notified() => {}
        }
        assert_eq!(rig.ledger().open_intents().await.unwrap()[0].rows.len(), 13);

        // Three of ours come late, one of them a twin, and at the same time somebody writes a letter of his own and
        // puts the letter 5 there once more with another stamp.
        let stamped = [b"Received: by another.test\r\n".as_slice(), &letters[5].bytes].concat();
        let late = vec![
            letters[0].clone(),
            letters[4].clone(),
            letters[5].clone(),
            letter("INBOX", &[], "not ours"),
            Message { bytes: stamped, ..letters[5].clone() },
        ];
        let outcome = Box::pin(troubled_pass(&rig, Trouble::Late(late))).await.unwrap();
        assert_eq!((outcome.sent, outcome.counts.copied), (13, 13));
        assert!(rig.ledger().open_intents().await.unwrap().is_empty());
        let differences = rig.differences();
        // Without UIDPLUS no single message can be removed: what came late stays, and the mailbox goes on.
        assert_eq!(differences.len(), if uidplus { 2 } else { 5 }, "{differences:#?}");
        assert!(differences.iter().all(|line| line.ends_with("too many")), "{differences:#?}");
        // It is said as long as it is so.
        let told = |outcome: &PassOutcome| {
            let late = outcome.findings.iter().filter(|finding| finding.code == Code::LateCopies);
            late.map(|finding| finding.message.clone()).collect::<String>()
        };
        assert_eq!(told(&outcome).contains("3 messages a second time"), !uidplus, "{:?}", outcome.findings);
        rig.assert_idle().await;
        let again = rig.pass().await;
        assert_eq!(told(&again), told(&outcome));
        let mut copies: Vec<u32> = told(&again)
            .split(|c: char| !c.is_ascii_digit())
            .filter_map(|n| n.parse().ok())
            .skip(1)
            .collect();
        assert_eq!(copies.len(), if uidplus { 0 } else { 3 }, "{}", told(&again));
        copies.reverse();
        for uid in copies {
            let mut new = rig.at_destination();
            new.select("INBOX").unwrap();
            new.command(&format!("UID STORE {uid} +FLAGS (\\Deleted)")).unwrap();
            new.command("EXPUNGE").unwrap();
        }
        // The user removed the very copies that were named.
        assert_eq!(told(&rig.pass().await), "");
        assert_eq!(rig.differences().len(), 2, "{:#?}", rig.differences());
    }
}
