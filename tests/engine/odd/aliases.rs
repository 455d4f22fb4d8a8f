//! Two destination addresses that the server takes for one mailbox, and nobody said so: nothing of either is lost or removed,
//! and it is reported. Two mailboxes that are only alike are not reported.

use std::process::Command;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use mailferry::ledger::sqlite::SqliteLedger;
use mailferry::ledger::{Known, Ledger, NewRow, Refused, Settled};
use mailferry::model::folder::FolderPath;
use mailferry::model::identity::Digest;
use mailferry::model::message::{Arrival, Epoch, Flags, ItemId, Locator, Verdict};
use mailferry::model::protocol::Protocol;

use crate::ferry::{Ferry, Manifest, csv, figure, files, server};
use crate::odd::world::{ADMIN, World, lies_at, lies_in};
use crate::support::corpus::Message;
use crate::support::dns::Dns;
use crate::support::dovecot::{Builder, Dovecot, LOOPBACK, User};
use crate::support::script::bend::Reaction;
use crate::support::script::store::{self, Store};
use crate::support::script::{PASSWORD, Script};

const OLD: [&str; 2] = ["anna@old.test", "info@old.test"];
const NEW: [&str; 2] = ["anna@new.test", "info@new.test"];

/// A letter as both servers keep it.
fn letter(folder: &str, subject: &str) -> Message {
    let bytes = format!(
        "From: a@a.test\r\nTo: b@a.test\r\nMessage-ID: {}\r\nSubject: {subject}\r\n\r\n{}\r\n",
        id_of(subject),
        "filling ".repeat(400)
    );
    Message {
        folder: folder.to_owned(),
        flags: vec!["\\Seen".to_owned()],
        internal_date: "07-Mar-2019 08:15:42 +0100".to_owned(),
        bytes: bytes.into_bytes(),
    }
}

fn id_of(subject: &str) -> String {
    format!("<{}@a.test>", blake3::hash(subject.as_bytes()).to_hex())
}

/// The subjects of a mailbox's own letters and of those that both hold.
fn subjects(who: &str, own: usize) -> Vec<(&'static str, String)> {
    let all = (0..own).map(|n| (["INBOX", "Sent"][n % 2], format!("{who} {n}")));
    all.chain((0..4).map(|n| ("INBOX", format!("all staff {n}")))).collect()
}

/// Two mailboxes at the source, and where they go.
struct Pair {
    old: Dovecot,
    new: Dovecot,
    ferry: Ferry,
    own: usize,
    _dns: Dns,
}

impl Pair {
    fn start(new: Builder, own: usize) -> Self {
        let new = new.imap(LOOPBACK).master(ADMIN, PASSWORD).start();
        let old = Dovecot::builder().imap(LOOPBACK);
        let old = OLD.iter().fold(old, |old, name| old.user(User::new(name, PASSWORD))).start();
        for (name, who) in OLD.iter().zip(["anna", "info"]) {
            let letters = subjects(who, own).into_iter().map(|(folder, subject)| letter(folder, &subject));
            old.mailbox(name).seed(letters);
        }
        let dns = Dns::start(&[]);
        let ferry = Ferry::new("").resolver(dns.addr());
        let pair = Self { old, new, ferry, own, _dns: dns };
        pair.write(&["anna", "info"], 4);
        pair
    }

    /// Names mailboxes in the manifest.
    fn write(&self, mailboxes: &[&str], at_once: u32) {
        let rows: Vec<_> = OLD.iter().map(|name| (*name, "", PASSWORD)).collect();
        let text = Manifest::to(self.new.imap(), ADMIN, PASSWORD)
            .secret("old.test", &[("mailboxes.csv", &csv(&rows))])
            .domain("old.test", mailboxes, &server("IMAP", self.old.imap()))
            .policy("settleSeconds: 1")
            .text();
        let workers = format!("  workers: {{concurrency: {at_once}}}\n  policy:");
        self.ferry.write(&text.replacen("  policy:", &workers, 1));
    }

    /// Runs to the end; the findings of this kind, as status and report tell them.
    fn run(&self) -> Vec<String> {
        self.ferry.run(&[]).expect_code(0);
        let report = self.ferry.report("json");
        let status = self.ferry.status();
        let findings = status["status"]["domains"][0]["findings"].as_array().cloned().unwrap_or_default();
        let told: Vec<String> = (findings.iter())
            .filter(|finding| finding["code"] == "DestinationAlias")
            .map(|finding| finding["message"].as_str().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(report.contains("DestinationAlias"), !told.is_empty(), "{report}");
        assert_eq!(figure(&status, "copied"), figure(&status, "source"), "{status:#}");
        told
    }

    /// Makes the second mailbox at the destination a copy of the first, UIDs and UIDVALIDITY included.
    fn copy_first_to_second(&self) {
        let [from, to] = NEW.map(|name| self.new.home(name));
        std::fs::remove_dir_all(&to).unwrap();
        assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
    }

    /// Every letter of both is there: once if one holds it, and no more than twice if both do.
    fn assert_nothing_lost(&self) {
        let lies = lies_at(&mut self.new.mailbox(NEW[0]));
        for who in ["anna", "info"] {
            for (folder, subject) in subjects(who, self.own) {
                let id = id_of(&subject);
                let there =
                    lies.get(folder).into_iter().flatten().filter(|lying| lying.contains(&id)).count();
                let most = if subject.starts_with("all") { 2 } else { 1 };
                assert!((1..=most).contains(&there), "{there} of {subject} in {folder}: {lies:#?}");
            }
        }
    }
}

/// A destination where both addresses are one mailbox.
fn one_mailbox() -> Builder {
    let alias = User::new(NEW[1], PASSWORD).alias_of(NEW[0]);
    Dovecot::builder().user(User::new(NEW[0], PASSWORD)).user(alias)
}

fn two_mailboxes() -> Builder {
    NEW.iter().fold(Dovecot::builder(), |new, name| new.user(User::new(name, PASSWORD)))
}

fn assert_told(told: &[String]) {
    assert!(!told.is_empty(), "nobody is told");
    for text in told {
        assert!(NEW.iter().all(|name| text.contains(name)), "{told:?}");
    }
}

#[test]
fn an_alias_is_told_when_both_are_carried_at_once() {
    let pair = Pair::start(one_mailbox(), 40);
    assert_told(&pair.run());
    pair.assert_nothing_lost();
    let before = pair.new.mailbox(NEW[0]).uid_next();
    assert_told(&pair.run());
    assert_eq!(pair.new.mailbox(NEW[0]).uid_next(), before, "nothing is sent twice");
}

#[test]
fn an_alias_is_told_when_one_is_carried_after_the_other() {
    let pair = Pair::start(one_mailbox(), 12);
    pair.write(&["anna"], 1);
    assert_eq!(pair.run(), [""; 0], "there is no other mailbox yet");
    let before = pair.new.mailbox(NEW[0]).read_all().messages();
    pair.write(&["anna", "info"], 1);
    let told = pair.run();
    assert_told(&told);
    assert!(told[0].contains("4 messages lie there once for both"), "{told:?}");
    pair.assert_nothing_lost();
    assert_eq!(pair.new.mailbox(NEW[0]).read_all().messages(), before + 12);
    assert_eq!(pair.run(), told);
    // Later mail arrives as ever, and one of the two addresses is corrected in the end.
    pair.old.mailbox(OLD[0]).append(&letter("INBOX", "anna later")).unwrap();
    assert_eq!(pair.run(), told);
    let text = std::fs::read_to_string(pair.ferry.manifest()).unwrap();
    pair.ferry.write(&text.replace(NEW[1], NEW[0]));
    assert_eq!(pair.run(), [""; 0], "now it is declared");
}

#[test]
fn an_alias_is_told_and_nothing_lost_after_kills() {
    let own = 600;
    let pair = Pair::start(one_mailbox(), own);
    for kill in 1..=3 {
        let mut child = pair.ferry.start(&[]);
        let end = Instant::now() + Duration::from_mins(1);
        while Instant::now() < end
            && pair.new.mailbox(NEW[0]).uid_next().values().map(|(_, next)| *next as usize - 1).sum::<usize>()
                < own * kill / 2
        {
            sleep(Duration::from_millis(20));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert_told(&pair.run());
    pair.assert_nothing_lost();
}

#[test]
fn mailboxes_that_are_only_alike_are_not_told_of() {
    let pair = Pair::start(two_mailboxes(), 12);
    // Made by one script, UIDs and UIDVALIDITY included, with a welcome that one of the sources holds as well, and with
    // letters that are to come.
    let seeds = ["welcome", "anna 0", "info 0", "all staff 0"].map(|subject| letter("INBOX", subject));
    pair.new.mailbox(NEW[0]).seed(seeds);
    pair.old.mailbox(OLD[0]).append(&letter("INBOX", "welcome")).unwrap();
    pair.copy_first_to_second();
    for at_once in [4, 1] {
        pair.write(&["anna", "info"], at_once);
        assert_eq!(pair.run(), [""; 0]);
        for name in OLD {
            pair.old.mailbox(name).append(&letter("INBOX", &format!("{name} {at_once}"))).unwrap();
        }
    }
    assert_eq!(pair.run(), [""; 0]);
    let uids = NEW.map(|name| pair.new.mailbox(name).uid_next()["INBOX"].0);
    assert_eq!(uids[0], uids[1], "they are alike");
}

#[test]
fn a_copy_of_the_other_mailbox_is_not_told_of() {
    let pair = Pair::start(two_mailboxes(), 12);
    pair.write(&["anna"], 1);
    pair.run();
    // All that was sent to the one lies in the other, at the same UIDs, and is nothing that its source holds.
    pair.copy_first_to_second();
    pair.write(&["anna", "info"], 4);
    assert_eq!(pair.run(), [""; 0]);
    pair.old.mailbox(OLD[0]).append(&letter("INBOX", "anna later")).unwrap();
    assert_eq!(pair.run(), [""; 0]);
}

/// Another mailbox of the migration has a message at this UID of the destination's Inbox, says its ledger.
#[tokio::main]
async fn claim(world: &World, uidvalidity: u32, uid: u32) {
    let ours = files(&world.ferry.state());
    let ours = ours.iter().find(|path| {
        path.to_string_lossy().contains("anna") && path.extension().is_some_and(|it| it == "sqlite")
    });
    let ours = ours.expect("a ledger");
    let end = SqliteLedger::open(ours).unwrap().fact("destination").await.unwrap().expect("a destination");
    let theirs = SqliteLedger::open(&ours.with_file_name("move-info.sqlite")).unwrap();
    theirs.save_fact("destination", &end.replace(NEW[0], NEW[1])).await.unwrap();
    let row = NewRow {
        locator: Locator {
            protocol: Protocol::Imap,
            folder: FolderPath::inbox(),
            epoch: Epoch::from(7),
            id: ItemId::Uid(7),
        },
        size: 1,
        date: None,
        flags: Flags::default(),
        verdict: Verdict::Pending,
    };
    let id = theirs.insert(&[row]).await.unwrap()[0];
    let digest = Digest([7; 32]);
    let settled = Settled {
        id,
        known: Some(Known { exact: digest, canonical: digest, message_id: None, subject: None }),
        size: None,
        date: None,
        flags: None,
        destination: Some((
            FolderPath::inbox(),
            Arrival { epoch: Epoch::from(uidvalidity), id: ItemId::Uid(uid) },
        )),
        verdict: Verdict::Delivered,
        refused: Refused::default(),
        stored: None,
        replaces: None,
    };
    theirs.settle(&[settled], None).await.unwrap();
}

#[test]
fn a_late_copy_stays_where_another_mailbox_claims_its_place() {
    // The copy gets the UID 4.
    for claimed in [None, Some(3), Some(4)] {
        let (source, destination) = (Script::imap(Store::standard()), Arc::new(Script::imap(Store::empty())));
        let world = World::imap(&source, &destination);
        world.run().expect(0, (5, 5, 0, 0, 0));
        if let Some(uid) = claimed {
            let uidvalidity = destination.store().folder("INBOX").uidvalidity;
            claim(&world, uidvalidity, uid);
        }
        source.store().folder("INBOX").add(&[], store::letter("late"));
        let late = Arc::downgrade(&destination);
        destination.bend(move |command| {
            let ours = command.is("APPEND") && command.has("Subject: late");
            if ours && command.times > 0 {
                // It was sent before, nobody has seen it, and now it comes.
                let server = late.upgrade().expect("the server");
                let mut store = server.store();
                let inbox = store.folder("INBOX");
                if inbox.letters.len() == 3 {
                    inbox.add(&[], store::letter("late"));
                }
            }
            (ours && command.times == 0).then(Reaction::close)
        });
        let outcome = world.run();
        outcome.expect(0, (6, 6, 0, 0, 0));
        let copies = lies_in(&destination)["INBOX"].iter().filter(|subject| *subject == "late").count();
        let stays = claimed == Some(4);
        assert_eq!(copies, if stays { 2 } else { 1 }, "{claimed:?}: {outcome:#?}");
        let told = outcome.findings.iter().any(|finding| {
            finding.starts_with("LateCopies")
                && finding.contains("another mailbox")
                && finding.contains("UID 4")
        });
        assert_eq!(told, stays, "{claimed:?}: {outcome:#?}");
        assert_eq!(destination.count("UID EXPUNGE 4"), usize::from(!stays), "{claimed:?}");
        // It is said as long as it is so.
        let again = world.run();
        assert_eq!(again.tells("LateCopies"), stays, "{claimed:?}: {again:#?}");
    }
}
