//! Destinations that store otherwise than they say: a part of what they refuse, in another folder, with other header lines,
//! where nobody sees it, or not at all. Nothing may be there twice for it, in however many passes.

use std::collections::HashMap;
use std::fs;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::odd::world::{World, lies_in, lying};
use crate::support::script::store::letter;
use crate::support::script::{Answer, Command, Reaction, Script, Store};

/// All five letters of the standard mailbox.
const ALL: [(&str, &[&str]); 2] = [("INBOX", &["one", "two", "three"]), ("Work", &["four", "five"])];

fn pair() -> (Script, Arc<Script>) {
    (Script::imap(Store::standard()), Arc::new(Script::imap(Store::empty())))
}

/// Does something once an APPEND was carried out and before it is answered.
fn behind_appends(
    script: &Arc<Script>,
    act: impl Fn(&Command, &mut Store, &mut Answer) + Send + Sync + 'static,
) {
    let (weak, act) = (Arc::downgrade(script), Arc::new(act));
    script.bend(move |command| {
        let (weak, act, command) = (weak.clone(), Arc::clone(&act), command.clone());
        (command.verb == "APPEND").then(|| {
            Reaction::edit(move |answer| {
                if let Some(script) = weak.upgrade() {
                    act(&command, &mut script.store(), answer);
                }
            })
        })
    });
}

/// The name of the folder of an APPEND.
fn folder_of(command: &Command) -> String {
    command.text.split(' ').nth(1).unwrap_or_default().to_owned()
}

#[track_caller]
fn expect_everything_once(destination: &Script) {
    let mut there = lies_in(destination);
    let order = ["one", "two", "three", "four", "five"];
    for subjects in there.values_mut() {
        subjects.sort_by_key(|it| order.iter().position(|subject| subject == it));
    }
    assert_eq!(there, lying(&ALL));
}

fn several(command: &Command) -> usize {
    command.text.matches("Subject: ").count()
}

#[test]
fn a_refused_batch_is_looked_for_before_it_is_sent_again() {
    for refusal in
        ["NO refused", "BAD syntax", "NO [OVERQUOTA] full", "NO [UNAVAILABLE] later", "NO [SERVERBUG] x"]
    {
        for kept in [0, 1, 11, 12] {
            let (source, destination) =
                (Script::imap(Store::empty()), Arc::new(Script::imap(Store::empty())));
            destination.also("MULTIAPPEND");
            let names: Vec<String> = (10..22).map(|n| format!("letter {n}")).collect();
            for name in &names {
                source.store().folder("INBOX").add(&[], letter(name));
            }
            behind_appends(&destination, move |command, store, answer| {
                let sent = several(command);
                if sent > 1 {
                    let letters = &mut store.folder("INBOX").letters;
                    letters.truncate(letters.len() - sent + kept.min(sent));
                    *answer = Answer::of(format!("{{tag}} {refusal}\r\n"));
                }
            });
            let world = World::imap(&source, &destination);
            let first = world.run();
            let last = if first.ended.code == 0 { first } else { world.run() };
            last.expect(0, (12, 12, 0, 0, 0));
            let mut there = lies_in(&destination)["INBOX"].clone();
            there.sort();
            assert_eq!(there, names, "{refusal}, {kept} kept");
        }
    }
}

#[test]
fn a_batch_that_was_refused_as_a_whole_costs_one_list() {
    let lists = |more: &str| {
        let (source, destination) = (Script::imap(Store::standard()), Script::imap(Store::empty()));
        destination.also(more);
        destination.bend(|command| (several(command) > 1).then(|| Reaction::no("one of them is bad")));
        World::imap(&source, &destination).run().expect(0, (5, 5, 0, 0, 0));
        let batches = destination.heard().iter().filter(|it| it.verb == "APPEND" && several(it) > 1).count();
        (destination.count("UID FETCH"), batches)
    };
    let (alone, _) = lists("");
    let (together, batches) = lists("MULTIAPPEND");
    // One is that of the window's end, which was asked for together with the batch.
    assert!(
        batches > 0 && together <= alone + 2 * batches,
        "{together} lists, {alone} without {batches} batches"
    );
}

#[test]
fn a_message_that_is_refused_and_stored_is_not_sent_in_another_form() {
    let (source, destination) = pair();
    source.store().folder("INBOX").set_flags(2, &["$Label1"]);
    behind_appends(&destination, |command, _, answer| {
        if command.has("Subject: two") {
            *answer = Answer::of("{tag} NO failed\r\n");
        }
    });
    let world = World::imap(&source, &destination);
    world.run();
    world.run().expect(0, (5, 5, 0, 0, 0));
    expect_everything_once(&destination);
}

#[test]
fn what_the_destination_puts_into_another_folder_is_found_there_and_sent_once() {
    for changes in ["", "X-Spam-Status: Yes\r\n"] {
        let (source, destination) = pair();
        destination.store().make("Spam");
        behind_appends(&destination, move |command, store, _| {
            if command.has("Subject: two") {
                let mut moved = store.folder(&folder_of(command)).letters.pop().unwrap();
                moved.bytes.splice(0..0, changes.bytes());
                store.folder("Spam").receive(moved.flags, moved.date, moved.bytes);
            }
        });
        let world = World::imap(&source, &destination);
        world.run().expect(0, (5, 5, 0, 0, 0)).expect_told("the destination put it into the folder Spam");
        source.store().folder("INBOX").set_flags(2, &["\\Seen", "\\Flagged"]);
        for _ in 0..2 {
            world.run().expect(0, (5, 5, 0, 0, 0));
            assert_eq!(lies_in(&destination)["Spam"], ["two"]);
            assert_eq!(lies_in(&destination)["INBOX"], ["one", "three"]);
        }
        world.verify(&[]).expect(0, (5, 5, 0, 0, 0));
        let flags = |n: usize| destination.store().folder("INBOX").letters[n].flags.clone();
        assert_eq!((flags(0), flags(1)), (vec!["\\Seen".to_owned()], Vec::new()), "of others");
        let appends =
            destination.heard().iter().filter(|it| it.verb == "APPEND" && it.has("Subject: two")).count();
        assert_eq!(appends, 1);
    }
}

#[test]
fn what_is_never_seen_is_sent_three_times_and_then_when_a_repair_asks() {
    let (source, destination) = pair();
    behind_appends(&destination, |command, store, _| {
        if command.has("Subject: two") {
            store.folder("INBOX").letters.pop();
        }
    });
    let sent =
        || destination.heard().iter().filter(|it| it.verb == "APPEND" && it.has("Subject: two")).count();
    let world = World::imap(&source, &destination);
    for pass in 1..6 {
        world.run().expect(25, (5, 4, 0, 1, 0)).expect_told("does not list it");
        assert_eq!(sent(), pass.min(3));
    }
    world.run().expect_told("it was sent 3 times");
    destination.straighten();
    world.run().expect(25, (5, 4, 0, 1, 0));
    world.verify(&["--repair"]).expect(0, (5, 5, 0, 0, 0));
    expect_everything_once(&destination);
}

/// Lets the destination store letter three at once and list it only so long after.
fn list_late(destination: &Arc<Script>, late: Duration) {
    let stored: Arc<Mutex<HashMap<u32, Instant>>> = Arc::default();
    let seen = Arc::clone(&stored);
    behind_appends(destination, move |command, store, _| {
        if command.has("Subject: three") {
            let uid = store.folder("INBOX").letters.last().unwrap().uid;
            stored.lock().unwrap().insert(uid, Instant::now());
        }
    });
    destination.bend(move |command| {
        let lists = command.verb == "UID FETCH" && command.folder.as_deref() == Some("INBOX");
        let is_late = |(uid, at): (&u32, &Instant)| (at.elapsed() < late).then(|| format!("(UID {uid} "));
        let hidden: Vec<String> = seen.lock().unwrap().iter().filter_map(is_late).collect();
        (lists && !hidden.is_empty())
            .then(|| Reaction::edit(move |answer| hidden.iter().for_each(|hidden| answer.leave_out(hidden))))
    });
}

#[test]
fn what_the_list_shows_late_is_there_once() {
    // While the pass still looks for it, and while the next one waits until the folder no longer changes.
    for late in [2500, 4500] {
        let (source, destination) = pair();
        list_late(&destination, Duration::from_millis(late));
        let world = World::imap(&source, &destination);
        while world.run().counts != (5, 5, 0, 0, 0) {}
        thread::sleep(Duration::from_millis(late));
        world.run().expect(0, (5, 5, 0, 0, 0));
        expect_everything_once(&destination);
    }
}

#[test]
fn a_copy_that_the_list_shows_when_it_was_sent_again_is_told_and_left() {
    let late = Duration::from_secs(15);
    let (source, destination) = pair();
    list_late(&destination, late);
    let world = World::imap(&source, &destination);
    world.run();
    world.run();
    let copies = |destination: &Script| {
        let there = destination.store().folder("INBOX").subjects();
        there.iter().filter(|subject| *subject == "three").count()
    };
    assert_eq!(copies(&destination), 2, "it was sent again");
    thread::sleep(late);
    world.run().expect(0, (5, 5, 0, 0, 0)).expect_told("LateCopies");
    world.run().expect(0, (5, 5, 0, 0, 0)).expect_told("listed the first copy long after");
    assert_eq!(copies(&destination), 2, "nothing is removed that somebody may have put there");
}

#[test]
fn a_uidnext_that_is_too_high_doubles_nothing() {
    for more in [1, 10, 1_000_000] {
        for less in ["", "UIDPLUS"] {
            let (source, destination) = pair();
            destination.without(less);
            destination.bend(move |command| {
                (command.verb == "SELECT").then(|| {
                    Reaction::edit(move |answer| {
                        for response in &mut answer.responses {
                            let text = String::from_utf8_lossy(response).into_owned();
                            if let Some((head, rest)) = text.split_once("[UIDNEXT ") {
                                let (next, rest) = rest.split_once(']').unwrap();
                                let next = next.parse::<u32>().unwrap() + more;
                                *response = format!("{head}[UIDNEXT {next}]{rest}").into_bytes();
                            }
                        }
                    })
                })
            });
            let world = World::imap(&source, &destination);
            world.run().expect(0, (5, 5, 0, 0, 0));
            source.store().folder("INBOX").add(&[], letter("six"));
            for _ in 0..2 {
                world.run().expect(0, (6, 6, 0, 0, 0));
                assert_eq!(destination.store().count(), 6);
            }
        }
    }
}

/// A mailbox with letters that are alike: without Message-ID, twice the same, and twice the same but for one header line.
fn alike() -> Script {
    let source = Script::imap(Store::standard());
    let mut store = source.store();
    let inbox = store.folder("INBOX");
    let without = letter("no id").replace("Message-ID: <no-id@a.test>\r\n", "");
    for bytes in [&without, &without, &letter("list"), &format!("List-Id: <x>\r\n{}", letter("list"))] {
        inbox.add(&[], bytes);
    }
    drop(store);
    source
}

#[test]
fn header_lines_that_the_destination_adds_hide_no_message_once_the_ledger_is_lost() {
    type Change = fn(String) -> String;
    let changes: [(&str, Change); 4] = [
        ("at the end", |text| text.replacen("\r\n\r\n", "\r\nX-Server: seen\r\n\r\n", 1)),
        ("at the beginning", |text| format!("X-Spam-Status: No, score=1\r\n\ttests=x\r\n{text}")),
        ("a Message-ID", |text| {
            let has_one = text.contains("Message-ID");
            if has_one { text } else { format!("Message-ID: <{}@made.test>\r\n{text}", text.len()) }
        }),
        ("in another order", |text| {
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            let lines: Vec<&str> = head.lines().rev().collect();
            format!("X-Sorted: yes\r\n{}\r\n\r\n{body}", lines.join("\r\n"))
        }),
    ];
    for (name, change) in changes {
        let (source, destination) = (alike(), Arc::new(Script::imap(Store::empty())));
        behind_appends(&destination, move |command, store, _| {
            let letter = store.folder(&folder_of(command)).letters.last_mut().unwrap();
            letter.bytes = change(String::from_utf8(std::mem::take(&mut letter.bytes)).unwrap()).into_bytes();
        });
        let world = World::imap(&source, &destination);
        world.run().expect(0, (9, 9, 0, 0, 0));
        let there = lies_in(&destination);
        fs::remove_dir_all(world.ferry.state()).unwrap();
        // This pass learns what lies there, and no more: the next one does not read all of it again.
        source.bend(|command| command.wants_bodies().then(|| Reaction::no("[UNAVAILABLE] later")));
        assert_eq!(world.run().counts.1, 0);
        source.straighten();
        let again = world.run();
        again.expect(0, (9, 9, 0, 0, 0)).expect_told("other header lines");
        assert_eq!(lies_in(&destination), there, "{name}");
    }
}

/// A footer makes another message of it for whoever compares; what was stored is known, and so is any change after that.
#[test]
fn what_is_changed_while_it_is_stored_is_held_against_what_was_stored() {
    for (at_the_end, before, after) in [
        (false, "Received: from seen by here\r\n", "Received: from SEEN by here\r\n"),
        (false, "X-Server: seen\r\n", "X-Server: SEEN\r\n"),
        (true, "-- seen by the gateway\r\n", "-- SEEN by the gateway\r\n"),
    ] {
        let (source, destination) = pair();
        behind_appends(&destination, move |command, store, _| {
            let letter = store.folder(&folder_of(command)).letters.last_mut().unwrap();
            let [first, last] = if at_the_end {
                [&letter.bytes, before.as_bytes()]
            } else {
                [before.as_bytes(), &letter.bytes]
            };
            letter.bytes = [first, last].concat();
        });
        let world = World::imap(&source, &destination);
        world.run().expect(0, (5, 5, 0, 0, 0)).expect_told("MessagesAltered");
        let full = &["--depth", "Full"][..];
        let told = "5 checked = 0 identical + 5 altered + 0 missing";
        world.verify(full).expect(0, (5, 5, 0, 0, 0)).expect_told(told);
        let mut store = destination.store();
        let bytes = &mut store.folder("INBOX").letters[1].bytes;
        *bytes = String::from_utf8(std::mem::take(bytes)).unwrap().replace(before, after).into_bytes();
        drop(store);
        for _ in 0..2 {
            let outcome = world.verify(full);
            outcome.expect(25, (5, 5, 0, 0, 0)).expect_told(told).expect_told("ArrivalsChanged");
            outcome.expect_told("1 message was found changed by a verification");
        }
        // Nothing is sent again over it, and what was stored of the others is as it was.
        world.run().expect(25, (5, 5, 0, 0, 0));
        expect_everything_once(&destination);
    }
}

#[test]
fn of_two_letters_that_differ_in_their_header_the_one_that_is_there_is_found() {
    let (source, destination) = (alike(), Script::imap(Store::empty()));
    // The richer one of the two that are alike; the other comes first at the source.
    destination.store().folder("INBOX").receive(
        Vec::new(),
        "07-Mar-2019 08:00:42 +0100".to_owned(),
        format!("List-Id: <x>\r\n{}", letter("list")).into_bytes(),
    );
    let world = World::imap(&source, &destination);
    world.run().expect(0, (9, 9, 0, 0, 0));
    let mut store = destination.store();
    let lists = store.folder("INBOX").letters.iter().filter(|it| it.subject() == "list");
    let mut heads: Vec<bool> = lists.map(|it| it.bytes.starts_with(b"List-Id")).collect();
    heads.sort_unstable();
    assert_eq!(heads, [false, true]);
}

#[test]
fn a_message_id_that_the_destination_replaces_is_no_new_message() {
    let (source, destination) = pair();
    behind_appends(&destination, |command, store, _| {
        let letter = store.folder(&folder_of(command)).letters.last_mut().unwrap();
        let text = String::from_utf8_lossy(&letter.bytes).replace("Message-ID: <", "Message-ID: <made.");
        letter.bytes = text.into_bytes();
    });
    let world = World::imap(&source, &destination);
    for _ in 0..3 {
        world.run().expect(0, (5, 5, 0, 0, 0));
        expect_everything_once(&destination);
    }
}

#[test]
fn literals_wait_where_the_first_message_that_comes_at_once_is_not_taken() {
    for reaction in
        [Reaction::close(), Reaction::bad("expected a literal").and_close(), Reaction::bad("what is that")]
    {
        let (source, destination) = pair();
        destination.bend_announced(move |command| {
            let at_once = command.verb == "APPEND" && command.text.trim_end().ends_with("+}");
            at_once.then(|| reaction.clone())
        });
        World::imap(&source, &destination).run().expect(0, (5, 5, 0, 0, 0));
        expect_everything_once(&destination);
    }
}

#[test]
fn a_folder_that_the_destination_calls_differently_than_it_was_asked_to_is_filled() {
    type Name = fn(&str) -> String;
    let names: [Name; 3] = [
        |name| name.split_whitespace().collect::<Vec<_>>().join(" "),
        |name| name.chars().filter(|c| c.is_ascii_alphanumeric() || "/ ".contains(*c)).collect(),
        |name| name.chars().take(20).collect(),
    ];
    for name in names {
        let (source, destination) = pair();
        for folder in
            ["R_D, and more", " two  blanks ", "a very long name of a folder", "Parent", "Parent/Child (1)"]
        {
            source.store().make(folder).add(&[], letter(folder));
        }
        let weak = Arc::downgrade(&destination);
        destination.bend(move |command| {
            let weak = weak.clone();
            (command.verb == "CREATE").then(|| {
                Reaction::edit(move |_| {
                    let Some(script) = weak.upgrade() else { return };
                    let mut store = script.store();
                    if let Some(made) = store.folders.last_mut() {
                        made.name = name(&String::from_utf8_lossy(&made.name)).into_bytes();
                    }
                })
            })
        });
        let world = World::imap(&source, &destination);
        let first = world.run();
        first.expect(0, (10, 10, 0, 0, 0));
        world.run().expect(0, (10, 10, 0, 0, 0));
        assert_eq!(destination.store().count(), 10);
        first.expect_told("FolderRenamed");
    }
}

#[test]
fn mail_that_a_server_lost_after_it_had_listed_it_is_told_by_the_same_pass() {
    let (source, destination) = pair();
    let weak = Arc::downgrade(&destination);
    destination.bend(move |command| {
        if let (true, Some(script)) = (command.verb == "STATUS", weak.upgrade()) {
            let mut store = script.store();
            let inbox = store.folder("INBOX");
            if inbox.letters.len() == 3 {
                inbox.remove(2);
            }
        }
        None
    });
    let world = World::imap(&source, &destination);
    let lost = world.run();
    lost.expect(25, (5, 5, 0, 0, 0)).expect_told("1 message is no longer at the destination");
    destination.straighten();
    world.verify(&["--repair"]).expect(0, (5, 5, 0, 0, 0));
    expect_everything_once(&destination);
    world.run().expect(0, (5, 5, 0, 0, 0));
}

#[test]
fn a_message_of_which_the_destination_keeps_a_part_is_a_loss_until_somebody_agrees() {
    for keep in [0, 30, 50] {
        let (source, destination) = pair();
        behind_appends(&destination, move |command, store, _| {
            if command.has("Subject: two")
                && let Some(letter) = store.folder("INBOX").letters.last_mut()
            {
                letter.bytes.truncate(letter.bytes.len() * keep / 100);
            }
        });
        let world = World::imap(&source, &destination);
        world.run();
        let again = world.run();
        assert_eq!(again.ended.code, 25, "{keep} of a hundred: {again:#?}");
        assert_eq!(again.counts, (5, 5, 0, 0, 0), "{keep} of a hundred: {again:#?}");
        again.expect_told("MessagesTruncated").expect_told("stored only in part");
        assert_eq!(destination.count("APPEND"), 5, "it is not sent again and again");
    }
}
