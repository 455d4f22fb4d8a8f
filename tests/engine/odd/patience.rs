//! Servers that ask for a pause whenever one folder is opened, or one message is asked for: they are waited for a few times, the
//! folder or the message is named, and everything else is carried.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::odd::world::{World, lies_in, lying};
use crate::support::script::store::letter;
use crate::support::script::{Command, Reaction, Script, Store};

/// Ways to ask for a pause, each of a second.
const PAUSES: [&str; 3] = [
    "NO [INUSE] Request is throttled. Suggested Backoff Time: 1000 milliseconds",
    "NO [LIMIT] slow down. Suggested Backoff Time: 1000 milliseconds",
    "NO [UNAVAILABLE] not now. Suggested Backoff Time: 1000 milliseconds",
];

fn say(words: &'static str) -> Reaction {
    Reaction::say(format!("{{tag}} {words}\r\n"))
}

/// Whether a command asks for the body of a message of INBOX, alone or with others; there are at most nine.
fn wants(command: &Command, uid: u32) -> bool {
    if !command.wants_bodies() || command.folder.as_deref() != Some("INBOX") {
        return false;
    }
    let set = command.text.split(' ').nth(2).unwrap_or_default();
    set.split(',').any(|part| {
        let (from, to) = part.split_once(':').unwrap_or((part, part));
        (from.parse().unwrap()..=to.parse().unwrap()).contains(&uid)
    })
}

#[test]
fn one_message_at_which_the_source_asks_for_a_pause_each_time_is_named() {
    thread::scope(|scope| {
        for pause in PAUSES {
            for uid in [1, 2, 3] {
                scope.spawn(move || throttle_one_message(pause, uid));
            }
        }
    });
}

fn throttle_one_message(pause: &'static str, uid: u32) {
    let (source, destination) = (Script::imap(Store::standard()), Script::imap(Store::empty()));
    source.bend(move |command| wants(command, uid).then(|| say(pause)));
    let world = World::imap(&source, &destination);
    let first = world.run();
    first.expect(25, (5, 4, 0, 1, 0)).expect_told("asks for a pause at this message each time");
    first.expect_told("MessagesQuarantined");
    assert!(!lies_in(&destination)["INBOX"].contains(&["one", "two", "three"][uid as usize - 1].to_owned()));
    source.straighten();
    world.run().expect(0, (5, 5, 0, 0, 0));
}

#[test]
fn the_only_message_at_which_the_source_asks_for_a_pause_is_named_in_the_end() {
    let (source, destination) = (Script::imap(Store::empty()), Script::imap(Store::empty()));
    source.store().folder("INBOX").add(&[], letter("one"));
    source.bend(move |command| command.wants_bodies().then(|| say(PAUSES[0])));
    World::imap(&source, &destination).run().expect(25, (1, 0, 0, 1, 0));
}

#[test]
fn a_source_that_asks_for_pauses_everywhere_is_waited_for() {
    let (source, destination) = (Script::imap(Store::standard()), Script::imap(Store::empty()));
    let opened = AtomicUsize::new(0);
    source.bend(move |command| {
        // Discovery opens both folders first.
        let is_later = command.is("EXAMINE") && opened.fetch_add(1, Ordering::SeqCst) >= 2;
        (is_later && command.times < 7).then(|| say(PAUSES[0]))
    });
    source.bend(move |command| (command.wants_bodies() && command.times < 7).then(|| say(PAUSES[1])));
    World::imap(&source, &destination).run().expect(0, (5, 5, 0, 0, 0));
}

#[test]
fn one_folder_at_which_a_server_asks_for_a_pause_each_time_is_left() {
    thread::scope(|scope| {
        for (at_source, words) in [
            (true, "EXAMINE Work"),
            (true, "EXAMINE INBOX"),
            (false, "SELECT Work"),
            (false, "SELECT INBOX"),
            (false, "CREATE Work"),
        ] {
            scope.spawn(move || throttle_one_folder(at_source, words));
        }
    });
}

fn throttle_one_folder(at_source: bool, words: &'static str) {
    let (source, destination) = (Script::imap(Store::standard()), Script::imap(Store::empty()));
    let server = if at_source { &source } else { &destination };
    server.on(words, say(PAUSES[0]));
    let world = World::imap(&source, &destination);
    let first = world.run();
    let arrived = if words.ends_with("Work") { 3 } else { 2 };
    assert_eq!((first.ended.code, first.counts.1), (22, arrived), "{words}: {first:#?}");
    first.expect_told("asks for a pause whenever the folder is opened");
    server.straighten();
    world.run().expect(0, (5, 5, 0, 0, 0));
}

#[test]
fn a_folder_that_takes_no_message_for_now_is_left_and_the_others_are_carried() {
    let (source, destination) = (Script::imap(Store::standard()), Script::imap(Store::empty()));
    for subject in ["six", "seven", "eight"] {
        source.store().folder("Work").add(&[], letter(subject));
    }
    destination.on("APPEND Work", say(PAUSES[0]));
    let world = World::imap(&source, &destination);
    let first = world.run();
    assert_eq!((first.ended.code, first.counts.1), (22, 3), "{first:#?}");
    destination.straighten();
    world.run().expect(0, (8, 8, 0, 0, 0));
}

#[test]
fn a_folder_that_is_damaged_costs_no_other() {
    for refusal in ["[CORRUPTION] its index is broken", "[SERVERBUG] it broke"] {
        let (source, destination) = (Script::imap(Store::standard()), Script::imap(Store::empty()));
        source.on("EXAMINE Work", Reaction::no(refusal));
        let world = World::imap(&source, &destination);
        let outcome = world.run();
        assert!(outcome.ended.code != 0 && outcome.counts.1 == 3, "{outcome:#?}");
        outcome.expect_told(refusal).expect_told("FoldersUnreadable");
        assert_eq!(lies_in(&destination), lying(&[("INBOX", &["one", "two", "three"])]));
        source.straighten();
        world.run().expect(0, (5, 5, 0, 0, 0));
    }
}

#[test]
fn a_folder_whose_state_is_not_told_for_now_stops_no_other() {
    let (source, destination) = (Script::imap(Store::standard()), Script::imap(Store::empty()));
    let world = World::imap(&source, &destination);
    world.run().expect(0, (5, 5, 0, 0, 0));
    source.on("STATUS Work", say(PAUSES[0]));
    destination.on("STATUS Work", say(PAUSES[0]));
    source.store().make("Later").add(&[], letter("six"));
    source.store().folder("INBOX").add(&[], letter("seven"));
    destination.store().make("Own");
    world.run().expect(0, (7, 7, 0, 0, 0));
}

#[test]
fn what_a_verification_cannot_look_into_is_named_and_is_no_proof() {
    for (at_source, refusal) in [
        (false, "NO [INUSE] somebody else has it"),
        (false, "NO [SERVERBUG] it broke"),
        (false, "NO it will not"),
        (true, "NO [SERVERBUG] it broke"),
    ] {
        let (source, destination) = (Script::imap(Store::standard()), Script::imap(Store::empty()));
        let world = World::imap(&source, &destination);
        world.run().expect(0, (5, 5, 0, 0, 0));
        let (server, verb) = if at_source { (&source, "EXAMINE") } else { (&destination, "SELECT") };
        server.on(&format!("{verb} Work"), say(refusal));
        let told = world.verify(&["--depth", "Full"]);
        assert!(told.ended.code != 0, "{told:#?}");
        assert!(!told.tells("nothing was delivered yet"), "{told:#?}");
        told.expect_told("Work: could not be looked into, so 2 messages of it were not checked");
        told.expect_told("3 checked = 3 identical").expect_told("2 could not be checked");
        // Nothing is taken for missing.
        let repaired = world.verify(&["--repair"]);
        assert!(repaired.ended.code != 0, "{repaired:#?}");
        server.straighten();
        world.verify(&[]).expect(0, (5, 5, 0, 0, 0));
        assert_eq!(
            lies_in(&destination),
            lying(&[("INBOX", &["one", "two", "three"]), ("Work", &["four", "five"])])
        );
    }
}

#[test]
fn a_session_that_ends_while_a_verification_looks_into_a_folder_costs_no_other() {
    let (source, destination) = (Script::imap(Store::standard()), Script::imap(Store::empty()));
    source.store().make("Zoo").add(&[], letter("six"));
    let world = World::imap(&source, &destination);
    world.run().expect(0, (6, 6, 0, 0, 0));
    destination.on("SELECT Work", Reaction::close());
    let told = world.verify(&["--depth", "Full"]);
    assert!(told.ended.code != 0, "{told:#?}");
    told.expect_told("4 checked = 4 identical").expect_told("Work: could not be looked into");
    // Once by chance.
    destination.straighten();
    destination.on_first(1, "SELECT Work", Reaction::close());
    world.verify(&[]).expect(0, (6, 6, 0, 0, 0));
}

#[test]
fn a_verification_recovers_from_what_a_pass_recovers_from() {
    let (source, destination) = (Script::imap(Store::standard()), Script::imap(Store::empty()));
    let world = World::imap(&source, &destination);
    world.run().expect(0, (5, 5, 0, 0, 0));
    let garbage = || Reaction::say("* 1 FETCH (\r\nx99 OK not yours\r\n").and_close();
    for (words, reaction) in [
        ("LOGIN", Reaction::close()),
        ("LIST", Reaction::reset()),
        ("SELECT Work", garbage()),
        ("UID FETCH", garbage()),
    ] {
        destination.on_first(1, words, reaction);
        source.on_first(1, &words.replace("SELECT", "EXAMINE"), Reaction::close());
        let told = world.verify(&["--depth", "Full"]);
        told.expect(0, (5, 5, 0, 0, 0)).expect_told("5 checked = 5 identical");
        destination.straighten();
        source.straighten();
    }
    // A message that was moved is looked for after all else.
    let moved = destination.store().folder("INBOX").letter(1).clone();
    destination.store().folder("INBOX").remove(1);
    destination.store().make("Own").receive(moved.flags, moved.date, moved.bytes);
    destination.on_first(1, "SELECT Own", Reaction::close());
    world.verify(&["--depth", "Full"]).expect(0, (5, 5, 0, 0, 0)).expect_told("was moved at the destination");
}

#[test]
fn a_folder_that_is_left_out_keeps_nothing_waiting() {
    for refusal in [PAUSES[0], "NO [SERVERBUG] it broke", "NO Access denied"] {
        let (source, destination) = (Script::imap(Store::standard()), Script::imap(Store::empty()));
        source.on("EXAMINE Work", say(refusal));
        let world = World::imap(&source, &destination);
        let yaml = world.ferry.manifest();
        let yaml = std::fs::read_to_string(yaml).unwrap();
        world.ferry.write(&yaml.replacen("spec:\n", "spec:\n  mapping: {exclude: [Work]}\n", 1));
        let outcome = world.run();
        assert_eq!((outcome.ended.code, outcome.counts.1), (0, 3), "{refusal}: {outcome:#?}");
    }
}
