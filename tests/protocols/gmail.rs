//! Mail from a server that keeps labels, as Gmail does: each message arrives once, in its home, or as the manifest says;
//! and what happens to labels between two passes.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

use crate::ferry::{Ended, Ferry, Manifest, assert_equation, figure, server};
use crate::support::corpus::Message;
use crate::support::dovecot::{Dovecot, LOOPBACK, User};
use crate::support::gmail::{ALL, Gmail};

const ANNA: &str = "anna@a.test";
const THERE: &str = "anna@new.test";

struct World {
    old: Gmail,
    new: Dovecot,
    ferry: Ferry,
}

impl World {
    /// A mailbox with labels and an empty one. `mapping` is the YAML of `spec.mapping`.
    fn start(mapping: &str) -> Self {
        let old = Gmail::start(ANNA, "anna-secret");
        let new = Dovecot::builder()
            .imap(LOOPBACK)
            .master("admin", "admin-secret")
            .user(User::new(THERE, "of-no-use"))
            .special_use("Sent", "\\Sent")
            .start();
        let ferry = Ferry::new("");
        let world = Self { old, new, ferry };
        world.map(mapping);
        world
    }

    /// Writes the manifest with another mapping.
    fn map(&self, mapping: &str) {
        let manifest = Manifest::to(self.new.imap(), "admin", "admin-secret")
            .secret("a.test", &[("username", ANNA), ("password", "anna-secret")])
            .domain("a.test", &["anna"], &server("IMAP", self.old.address))
            .policy("settleSeconds: 1")
            .text();
        self.ferry.write(&format!("{manifest}  mapping: {mapping}\n"));
    }

    fn run(&self) -> Ended {
        let ended = self.ferry.run(&["--progress", "none"]);
        ended.expect_code(0);
        ended
    }

    /// The messages that arrived: the folders of each, with the keywords that it has there.
    fn arrived(&self) -> BTreeMap<String, Vec<String>> {
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (folder, rows) in self.new.mailbox(THERE).read_all().folders {
            for row in rows {
                let name = row.name.split(['<', '@']).nth(1).unwrap().to_owned();
                let keywords = row.flags.iter().filter(|flag| *flag != "\\seen");
                let words: Vec<&str> =
                    std::iter::once(folder.as_str()).chain(keywords.map(String::as_str)).collect();
                found.entry(name).or_default().push(words.join(" +"));
            }
        }
        found
    }

    #[track_caller]
    fn assert_arrived(&self, expected: &[(&str, &[&str])]) {
        let words = |folders: &[&str]| folders.iter().map(|folder| (*folder).to_owned()).collect();
        let expected: BTreeMap<String, Vec<String>> =
            expected.iter().map(|(name, folders)| ((*name).to_owned(), words(folders))).collect();
        assert_eq!(self.arrived(), expected);
    }

    /// Verifies at every depth; nothing may differ.
    #[track_caller]
    fn assert_verified(&self, identical: u64) {
        for depth in ["Sizes", "Full"] {
            let verified = self.ferry.call("verify", &["--depth", depth, "--output", "json"]);
            verified.expect_code(0);
            let name = if depth == "Full" { "identical" } else { "sameSize" };
            assert_eq!(verified.json()["mailboxes"][0]["verification"][name], identical, "{depth}");
        }
    }

    /// Runs once more; nothing may arrive.
    #[track_caller]
    fn assert_still(&self) {
        let before = self.new.mailbox(THERE).uid_next();
        self.run();
        assert_eq!(self.new.mailbox(THERE).uid_next(), before);
    }

    /// The finding of a code in the report.
    fn told(&self, code: &str) -> String {
        let status = self.ferry.status();
        let report = self.ferry.report("json");
        let all = format!("{status}\n{report}");
        let found = all.split(['{', '}']).find(|part| part.contains(&format!("\"{code}\"")));
        found.unwrap_or_else(|| panic!("no {code} in {all}")).to_owned()
    }
}

#[test]
fn each_message_arrives_once_in_its_home() {
    let world = World::start("{}");
    let old = &world.old;
    old.deliver("plain", &["\\Inbox"]);
    old.deliver("archived", &[]);
    old.deliver("starred", &["\\Starred", "\\Important"]);
    old.deliver("two", &["Work", "Travel"]);
    old.deliver("both", &["\\Inbox", "Work", "Projects/Alpha"]);
    old.deliver("to-myself", &["\\Inbox", "\\Sent", "\\Important"]);
    old.deliver("sent", &["\\Sent", "Work"]);
    old.deliver("draft", &["\\Draft", "Work"]);
    old.deliver("deep", &["Projects/Alpha", "Projects/Alphabet"]);
    old.deliver("levels", &["Z a longer name", "a/b"]);
    old.deliver("quoted", &["The \"Beta\" files"]);
    old.deliver("umlaut", &["Entwürfe & Pläne", "Reisen nach Übersee"]);
    old.deliver("namesake", &["Trash", "Important"]);
    old.add_hidden_label("archived", "Not shown (by IMAP)");
    old.put("spam", &["[Gmail]/Spam"]);
    old.put("bin", &["[Gmail]/Trash"]);
    let ended = world.run();
    let home = [
        ("archived", &[ALL][..]),
        ("bin", &["[Gmail]/Trash"]),
        ("both", &["INBOX"]),
        ("deep", &["Projects/Alpha"]),
        ("draft", &["[Gmail]/Drafts"]),
        ("levels", &["Z a longer name"]),
        ("namesake", &["Trash"]),
        ("plain", &["INBOX"]),
        ("quoted", &["The \"Beta\" files"]),
        ("sent", &["Sent"]),
        ("spam", &["[Gmail]/Spam"]),
        ("starred", &["[Gmail]/All Mail +$important"]),
        ("to-myself", &["INBOX +$important"]),
        ("two", &["Work"]),
        ("umlaut", &["Entwürfe & Pläne"]),
    ];
    world.assert_arrived(&home);
    let status = world.ferry.status();
    assert_equation(&status);
    assert_eq!((figure(&status, "source"), figure(&status, "copied")), (15, 15), "{}", ended.stderr);
    world.assert_verified(15);
    world.assert_still();
    world.assert_arrived(&home);
    let folders: BTreeSet<String> = world.new.mailbox(THERE).folders().into_iter().collect();
    assert!(!folders.contains("[Gmail]/Starred") && !folders.contains("[Gmail]/Important"), "{folders:?}");
    let once = world.told("CarriedOnce");
    assert!(once.contains("9 messages stand in more than one folder"), "{once}");
    let left = world.told("LabelsNotCarried");
    assert!(left.contains("Work") && left.contains("of 3 messages") && left.contains("Not shown"), "{left}");
}

#[test]
fn other_labels_become_keywords() {
    let world = World::start("{labels: Keywords}");
    let old = &world.old;
    old.deliver("both", &["\\Inbox", "Work", "To do (today)", "Pläne/2020"]);
    old.deliver("sent", &["\\Sent", "\\Inbox", "Junk"]);
    old.deliver("one", &["Work"]);
    world.run();
    world.assert_arrived(&[
        ("both", &["INBOX +pl&aoq-ne_2020 +to_do__today_ +work"]),
        ("one", &["Work"]),
        ("sent", &["INBOX +_junk +sent"]),
    ]);
    world.assert_verified(3);
    // A label less and a label more are a keyword less and a keyword more.
    old.remove_label("both", "Work");
    old.add_label("one", "Zoo trips");
    world.run();
    world.assert_arrived(&[
        ("both", &["INBOX +pl&aoq-ne_2020 +to_do__today_"]),
        ("one", &["Work +zoo_trips"]),
        ("sent", &["INBOX +_junk +sent"]),
    ]);
    world.assert_verified(3);
    world.assert_still();
}

#[test]
fn copies_stand_under_each_label_and_all_mail_brings_what_has_none() {
    let world = World::start("{labels: Copies}");
    world.old.deliver("both", &["\\Inbox", "Work", "\\Starred"]);
    world.old.deliver("archived", &[]);
    world.run();
    world.assert_arrived(&[("archived", &[ALL]), ("both", &["INBOX", "Work"])]);
    assert_eq!(figure(&world.ferry.status(), "source"), 3);
    world.assert_verified(3);
    world.assert_still();
    // The manifest is of another mind now: what is there stays, and nothing comes anew.
    world.map("{labels: Home}");
    world.assert_still();
    world.assert_verified(2);
}

#[test]
fn a_label_that_comes_or_goes_may_give_a_message_another_home() {
    let world = World::start("{}");
    let old = &world.old;
    old.deliver("kept", &["Work"]);
    old.deliver("loses", &["Alpha", "Beta"]);
    old.deliver("gains", &["Work"]);
    old.deliver("archives", &["\\Inbox"]);
    world.run();
    let first =
        [("archives", &["INBOX"][..]), ("gains", &["Work"]), ("kept", &["Work"]), ("loses", &["Beta"])];
    world.assert_arrived(&first);
    world.assert_verified(4);
    // Nothing happens in the folder that becomes the home of what loses a label: it is looked into all the same.
    old.remove_label("loses", "Beta");
    old.add_label("gains", "\\Inbox");
    old.remove_label("archives", "\\Inbox");
    world.run();
    // Deletions: Never. Messages that were carried stay where they were, as with a message that is moved at any server.
    world.assert_arrived(&[
        ("archives", &["INBOX", ALL]),
        ("gains", &["INBOX", "Work"]),
        ("kept", &["Work"]),
        ("loses", &["Alpha", "Beta"]),
    ]);
    assert_equation(&world.ferry.status());
    world.assert_verified(4);
    world.assert_still();
    world.old.deliver("late", &["Work"]);
    world.run();
    assert_eq!(world.arrived()["late"], ["Work"]);
}

#[test]
fn a_label_that_goes_between_two_lists_loses_nothing() {
    let world = World::start("{}");
    world.old.deliver("stays", &[]);
    world.old.deliver("moves", &["Work"]);
    world.old.deliver("works", &["Work"]);
    let mut child = world.ferry.start(&["--progress", "none"]);
    // Discovery lists each folder, and so does the pass: All Mail says that it is at home at Work, and there it is gone.
    world.old.between_lists(2, ALL, "Work", || world.old.remove_label("moves", "Work"));
    assert!(child.wait().unwrap().success());
    world.run();
    world.assert_arrived(&[("moves", &[ALL]), ("stays", &[ALL]), ("works", &["Work"])]);
    world.assert_verified(3);
    world.assert_still();
}

#[test]
fn a_folder_that_is_left_out_is_no_home() {
    let world = World::start("{exclude: [Alpha, \"?Gmail?/Trash\"]}");
    let old = &world.old;
    old.deliver("both", &["Alpha", "Beta trip"]);
    old.deliver("alone", &["Alpha"]);
    old.put("bin", &["[Gmail]/Trash"]);
    world.run();
    world.assert_arrived(&[("alone", &[ALL]), ("both", &["Beta trip"])]);
    let status = world.ferry.status();
    assert_equation(&status);
    assert_eq!((figure(&status, "source"), figure(&status, "excluded")), (3, 1), "the trash");
    world.assert_verified(2);
    // With All Mail left out too, it has no home any more; what was carried stays.
    world.old.deliver("homeless", &["Alpha"]);
    world.map("{exclude: [Alpha, \"?Gmail?/*\"]}");
    world.run();
    world.assert_arrived(&[("alone", &[ALL]), ("both", &["Beta trip"])]);
    let status = world.ferry.status();
    assert_equation(&status);
    assert!(figure(&status, "excluded") >= 2, "{status}");
    // And with everything let in again, it is at home where its label is.
    world.map("{}");
    world.run();
    let arrived = world.arrived();
    assert_eq!(arrived["homeless"], ["Alpha"]);
    assert_eq!(arrived["bin"], ["[Gmail]/Trash"]);
    assert_equation(&world.ferry.status());
    assert_eq!(figure(&world.ferry.status(), "excluded"), 0);
}

#[test]
fn a_mailbox_pauses_before_its_day_is_spent_and_goes_on() {
    let world = World::start("{}");
    // Two windows of 64 MiB at most: ten messages of 8 MB, of which a day takes one window.
    let large = |n: usize| {
        let line = format!("{}\r\n", "x".repeat(74));
        let head = format!("Message-ID: <large-{n}@mail.gmail.test>\r\nSubject: large {n}\r\n\r\n");
        Message {
            folder: "INBOX".to_owned(),
            flags: Vec::new(),
            internal_date: format!("{:02}-Jul-2019 02:44:25 +0200", n + 1),
            bytes: (head + &line.repeat(110_000)).into_bytes(),
        }
    };
    for n in 0..10 {
        world.old.dovecot.mailbox(ANNA).append(&large(n)).unwrap();
    }
    let manifest = std::fs::read_to_string(world.ferry.manifest()).unwrap();
    let limited = manifest.replace("  policy:\n", "  policy:\n    limits: {sourceBytesPerDay: 70000000}\n");
    world.ferry.write(&limited);
    let mut child = world.ferry.start(&["--progress", "plain"]);
    let told = || {
        let read = |name| std::fs::read_to_string(world.ferry.path(name)).unwrap_or_default();
        format!("{}{}", read("run.out"), read("run.err"))
    };
    let begun = Instant::now();
    while !told().contains("of a day's 70 MB of this mailbox were read") && begun.elapsed().as_secs() < 90 {
        thread::sleep(Duration::from_millis(200));
    }
    let said = told();
    let _ = child.kill();
    let _ = child.wait();
    assert!(said.contains("of a day's 70 MB of this mailbox were read") && said.contains("UTC"), "{said}");
    let arrived = world.arrived().len();
    assert_eq!(arrived, 8, "one window: {said}");
    // The limit is lifted: it goes on where it was.
    world.ferry.write(&manifest);
    world.run();
    assert_eq!(world.arrived().len(), 10);
    assert_eq!(figure(&world.ferry.status(), "copied"), 10);
    world.assert_still();
}
