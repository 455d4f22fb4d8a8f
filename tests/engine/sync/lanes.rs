//! Several sessions a mailbox, the passes that need hardly any, and sessions that are refused or break.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use mailferry::drivers::imap::destination::ImapDestination;
use mailferry::drivers::imap::source::ImapSource;
use mailferry::drivers::marks::Marks;
use mailferry::drivers::{
    Abilities, Appended, BodyReceiver, BodySender, Destination, Envelope, Folder, FolderState, Present,
    Source,
};
use mailferry::model::evidence::ServerFacts;
use mailferry::model::failure::{Class, Failure, Result};
use mailferry::model::folder::FolderPath;
use mailferry::model::mark::Mark;
use mailferry::model::message::{Flags, ItemId};
use mailferry::transfer::lanes::{Lane, MoreLanes};
use mailferry::transfer::pace::Pace;
use mailferry::transfer::progress::MailboxProgress;
use mailferry::transfer::{PassOutcome, Rules, sync_mailbox_in_lanes};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::sleep;

use crate::support::corpus::{Corpus, Dice};
use crate::sync::cut::size_of;
use crate::sync::rig::{ANNA, NEW, Rig, all_rules, letter, log_in, new_server, old_server, try_log_in};

/// Opens as many further sessions as are asked for, and counts them.
struct Further<'a> {
    rig: &'a Rig,
    opened: AtomicUsize,
    /// Whether the appends of these sessions end without an answer.
    brittle: bool,
    /// How often there is no room for one.
    full: AtomicUsize,
    /// How many may be on their way at once.
    door: Semaphore,
}

impl<'a> Further<'a> {
    fn of(rig: &'a Rig) -> Self {
        Self {
            rig,
            opened: AtomicUsize::new(0),
            brittle: false,
            full: AtomicUsize::new(0),
            door: Semaphore::new(4),
        }
    }

    fn opened(&self) -> usize {
        self.opened.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl MoreLanes for Further<'_> {
    async fn open(&self) -> Result<Option<Lane>> {
        if self.full.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            return Ok(None);
        }
        let _open = self.door.acquire().await.unwrap();
        let source = ImapSource::new(try_log_in(self.rig.source.imap(), ANNA).await?).await?;
        let inner = ImapDestination::new(try_log_in(self.rig.destination.imap(), NEW).await?).await?;
        self.opened.fetch_add(1, Ordering::Relaxed);
        let source: Box<dyn Source> = Box::new(source);
        let destination: Box<dyn Destination> =
            if self.brittle { Box::new(Brittle(inner)) } else { Box::new(inner) };
        Ok(Some((source, destination)))
    }
}

async fn try_pass(further: &Further<'_>, rules: &Rules, progress: &MailboxProgress) -> Result<PassOutcome> {
    let rig = further.rig;
    let mut source = ImapSource::new(log_in(rig.source.imap(), ANNA).await).await?;
    let mut destination = ImapDestination::new(log_in(rig.destination.imap(), NEW).await).await?;
    let ledger = rig.ledger();
    let done = sync_mailbox_in_lanes(&mut source, &mut destination, further, &ledger, rules, progress).await;
    source.close().await;
    destination.close().await;
    done
}

async fn pass(further: &Further<'_>, rules: &Rules) -> PassOutcome {
    try_pass(further, rules, &MailboxProgress::default()).await.unwrap_or_else(|e| panic!("{e:?}"))
}

#[tokio::test]
async fn several_sessions_carry_a_mailbox_and_none_is_opened_for_nothing() {
    let mut rig = Rig::with_mail(71, 300);
    let further = Further::of(&rig);
    let outcome = pass(&further, &all_rules()).await;
    assert_eq!(further.opened(), 3);
    rig.assert_same();
    assert_eq!((outcome.sent, outcome.counts.copied, outcome.sizes_checked), (300, 300, 300), "{outcome:?}");
    let folders = outcome.folders;

    let again = Further::of(&rig);
    let outcome = pass(&again, &all_rules()).await;
    assert_eq!((again.opened(), outcome.sent, outcome.folders), (0, 0, folders), "{outcome:?}");
    rig.destination.stop();
    rig.source.stop();
    // Each folder but the Inbox is made once, and those with mail are opened once more, for the list behind it; the second
    // pass opened none.
    let made = rig.destination.count_commands(NEW, "CREATE");
    assert_eq!(made, folders as usize - 1);
    let with_mail = folders as usize - 1;
    assert_eq!(rig.destination.count_commands(NEW, "SELECT"), folders as usize + with_mail);
    assert_eq!(rig.source.count_commands(ANNA, "EXAMINE"), folders as usize);
    let lists = |line: &&String| line.starts_with("UID FETCH") && line.contains(":* (");
    assert_eq!(rig.destination.commands(NEW).iter().filter(lists).count(), with_mail, "each list shows all");
}

#[tokio::test]
async fn what_changes_on_either_side_is_looked_into_and_nothing_else() {
    let mut rig = Rig::with_mail(72, 60);
    rig.pass().await;
    rig.at_source().append(&letter("Sent", &[], "one more")).unwrap();
    let mut old = rig.at_source();
    old.select("INBOX").unwrap();
    old.command("STORE 1 +FLAGS (\\Flagged)").unwrap();
    drop(old);
    let further = Further::of(&rig);
    let outcome = pass(&further, &all_rules()).await;
    assert_eq!((outcome.sent, outcome.flags_updated), (1, 1), "{outcome:?}");
    rig.assert_same();
    // A user made the destination's folder anew: what it held is left alone, and new mail goes there.
    let mut new = rig.at_destination();
    new.command("DELETE Sent").unwrap();
    new.create_and_subscribe("Sent");
    drop(new);
    assert_eq!(rig.pass().await.sent, 0);
    rig.at_source().append(&letter("Sent", &[], "and one more")).unwrap();
    assert_eq!(rig.pass().await.sent, 1);
    assert_eq!(rig.at_destination().read_all().folders["Sent"].len(), 1);
    assert_eq!(rig.pass().await.sent, 0);
    rig.destination.stop();
}

#[tokio::test]
async fn a_server_that_wants_no_more_sessions_is_believed() {
    for limit in 1..=2 {
        let destination = new_server().setting(&format!("mail_max_userip_connections = {limit}"));
        let rig = Rig::start(old_server(), destination);
        rig.at_source().seed(Corpus::new(73).messages(80));
        // One by one: Dovecot looks at its count before it adds to it, so those that come together are all let in. And so
        // slow that no session has ended when the last one comes.
        let further = Further { door: Semaphore::new(1), ..Further::of(&rig) };
        let pace = Arc::new(Pace::new(Some(size_of(&rig) / 3)));
        pass(&further, &Rules { pace, ..all_rules() }).await;
        assert_eq!(further.opened(), limit - 1);
        rig.assert_same();
        rig.assert_idle().await;
    }
}

#[tokio::test]
async fn folders_that_become_one_are_carried_by_one_session() {
    let rig = Rig::start(old_server(), new_server());
    let mut old = rig.at_source();
    for folder in ["A", "B", "C", "D"] {
        old.create_and_subscribe(folder);
        for n in 0..20 {
            old.append(&letter(folder, &[], &format!("{folder} {n}"))).unwrap();
        }
        old.append(&letter(folder, &[], "the same everywhere")).unwrap();
    }
    drop(old);
    let to_one = |name: &str| (FolderPath::from_slashes(name), FolderPath::from_slashes("One"));
    let rules = Rules { folders: vec![to_one("A"), to_one("B"), to_one("C")], ..all_rules() };
    let further = Further::of(&rig);
    assert_eq!(pass(&further, &rules).await.sent, 84);
    let arrived = rig.at_destination().read_all();
    assert_eq!((arrived.folders["One"].len(), arrived.folders["D"].len()), (63, 21));
    assert_eq!(pass(&further, &rules).await.sent, 0);
}

#[tokio::test]
async fn a_pass_with_several_sessions_may_be_cut_anywhere() {
    for seed in 74..78 {
        let rig = Rig::with_mail(seed, 150);
        let (size, mut dice) = (size_of(&rig), Dice::new(seed));
        for _ in 0..2 {
            let further = Further::of(&rig);
            let (rules, progress) = (all_rules(), MailboxProgress::default());
            let (bytes, moment) = (dice.below(size), Duration::from_micros(dice.below(30_000)));
            tokio::select! {
                done = try_pass(&further, &rules, &progress) => { done.unwrap(); }
                () = async {
                    while progress.read().bytes < bytes {
                        sleep(Duration::from_micros(200)).await;
                    }
                    sleep(moment).await;
                } => {}
            }
        }
        let further = Further::of(&rig);
        assert_eq!(pass(&further, &all_rules()).await.counts.copied, 150);
        rig.assert_same();
        rig.assert_idle().await;
    }
}

#[tokio::test]
async fn a_further_session_that_breaks_costs_time_and_no_message() {
    let rig = Rig::with_mail(79, 120);
    let further = Further { brittle: true, ..Further::of(&rig) };
    let outcome = pass(&further, &all_rules()).await;
    // Three at once; on a machine that takes more than five seconds for it, one more each time.
    assert!(further.opened() >= 3, "{}", further.opened());
    assert_eq!(outcome.counts.copied, 120, "{outcome:?}");
    assert!(outcome.recognised > 0, "what had arrived was recognised: {outcome:?}");
    rig.assert_same();
    rig.assert_idle().await;
}

#[tokio::test]
async fn a_session_that_there_was_no_room_for_comes_later() {
    let rig = Rig::with_mail(80, 120);
    let further = Further { full: AtomicUsize::new(4), ..Further::of(&rig) };
    // So slow that folders are left when there is room: three are refused at first, and one at the next look.
    let pace = Arc::new(Pace::new(Some(size_of(&rig) / 15)));
    let outcome = pass(&further, &Rules { pace, ..all_rules() }).await;
    assert!((1..=2).contains(&further.opened()), "{}", further.opened());
    assert_eq!(outcome.counts.copied, 120, "{outcome:?}");
    rig.assert_same();
    rig.assert_idle().await;
}

/// A destination whose session ends with the first append, after everything was sent and before it was answered for.
struct Brittle(ImapDestination);

#[async_trait]
impl Destination for Brittle {
    fn facts(&self) -> &ServerFacts {
        self.0.facts()
    }
    fn marks(&self) -> &'static dyn Marks {
        self.0.marks()
    }
    fn abilities(&self) -> Abilities {
        self.0.abilities()
    }
    fn delimiter(&self) -> Option<char> {
        self.0.delimiter()
    }
    async fn list_folders(&mut self) -> Result<Vec<Folder>> {
        self.0.list_folders().await
    }
    async fn ensure_folder(&mut self, path: &FolderPath, subscribe: bool) -> Result<()> {
        self.0.ensure_folder(path, subscribe).await
    }
    async fn open(&mut self, path: &FolderPath) -> Result<FolderState> {
        self.0.open(path).await
    }
    async fn status(&mut self, path: &FolderPath) -> Result<FolderState> {
        self.0.status(path).await
    }
    async fn list_since(&mut self, mark: &Mark) -> Result<Vec<Present>> {
        self.0.list_since(mark).await
    }
    async fn fetch(&mut self, ids: &[ItemId], bodies: BodySender) -> Result<()> {
        self.0.fetch(ids, bodies).await
    }
    async fn append(
        &mut self,
        path: &FolderPath,
        bodies: &mut BodyReceiver,
        envelope: &(dyn Fn(u64) -> Envelope + Send + Sync),
        _: &UnboundedSender<Appended>,
    ) -> Result<()> {
        let (nobody, unheard) = tokio::sync::mpsc::unbounded_channel();
        self.0.append(path, bodies, envelope, &nobody).await?;
        drop(unheard);
        Err(Failure::new(Class::Unreachable, "the connection broke"))
    }
    async fn store_flags(&mut self, ids: &[ItemId], add: &Flags, remove: &Flags) -> Result<Flags> {
        self.0.store_flags(ids, add, remove).await
    }
    async fn expunge(&mut self, ids: &[ItemId]) -> Result<()> {
        self.0.expunge(ids).await
    }
    async fn close(&mut self) {
        self.0.close().await;
    }
}
