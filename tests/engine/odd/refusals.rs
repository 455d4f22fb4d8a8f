//! Destinations that refuse messages: for now, for good, or for something that goes with a message.

use std::thread;

use crate::odd::world::{World, lies_in, lying};
use crate::support::script::store::letter;
use crate::support::script::{Reaction, Script, Store};

fn standard() -> Script {
    Script::imap(Store::standard())
}

#[track_caller]
fn expect_everything(destination: &Script) {
    let all = [("INBOX", &["one", "two", "three"][..]), ("Work", &["four", "five"])];
    let mut there = lies_in(destination);
    for subjects in there.values_mut() {
        subjects.sort_by_key(|it| ["one", "two", "three", "four", "five"].iter().position(|s| s == it));
    }
    assert_eq!(there, lying(&all));
}

#[test]
fn what_is_refused_for_now_arrives_by_the_next_pass() {
    for refusal in [
        "Temporary unavailable",
        "[TRYCREATE] APPEND error finding folder",
        "Unable to open mailbox, please try again later",
    ] {
        let (source, destination) = (standard(), Script::imap(Store::empty()));
        destination.on_first(2, "APPEND", Reaction::no(refusal));
        let world = World::imap(&source, &destination);
        let first = world.run();
        assert_eq!((first.counts.0, first.counts.3), (5, 0), "nothing is given up: {first:#?}");
        world.run().expect(0, (5, 5, 0, 0, 0));
        expect_everything(&destination);
    }
}

#[test]
fn one_message_that_is_refused_in_whatever_words_is_named_and_no_other_waits_for_it() {
    let refusals = [
        "NO [NOPERM] not this one",
        "NO [CONTACTADMIN] ask somebody",
        "NO [ALREADYEXISTS] it is here",
        "NO [PRIVACYREQUIRED] not so",
        "NO [SERVERBUG] it broke",
        "NO [UNAVAILABLE] later",
        "BAD no",
    ];
    // Some are tried again in the same run, later each time.
    thread::scope(|scope| {
        for refusal in refusals {
            scope.spawn(move || refuse_one_message(refusal));
        }
    });
}

fn refuse_one_message(refusal: &'static str) {
    let (source, destination) = (standard(), Script::imap(Store::empty()));
    destination.bend(move |command| {
        let odd = command.verb == "APPEND" && command.has("Subject: two");
        odd.then(|| Reaction::say(format!("{{tag}} {refusal}\r\n")))
    });
    let world = World::imap(&source, &destination);
    let mut last = world.run();
    assert_eq!(last.counts.1, 4, "{refusal}: {last:#?}");
    for _ in 0..3 {
        last = world.run();
    }
    last.expect(25, (5, 4, 0, 1, 0)).expect_told("MessagesQuarantined");
    destination.straighten();
    world.run().expect(0, (5, 5, 0, 0, 0));
    expect_everything(&destination);
}

#[test]
fn a_folder_that_cannot_be_made_for_now_stops_no_other() {
    for refusal in ["[UNAVAILABLE] later", "[OVERQUOTA] no room"] {
        let source = Script::imap(Store::standard());
        source.store().make("Offers: new").add(&[], letter("six"));
        let destination = Script::imap(Store::empty());
        destination.on("CREATE Work", Reaction::no(refusal));
        destination.on("CREATE Offers: new", Reaction::no("[CANNOT] no colons"));
        let world = World::imap(&source, &destination);
        let first = world.run();
        assert!(first.ended.code != 0 && first.counts.1 == 4, "{refusal}: {first:#?}");
        first.expect_told(refusal).expect_told("FolderRenamed");
        destination.straighten();
        world.run().expect(0, (6, 6, 0, 0, 0));
    }
}

#[test]
fn a_full_mailbox_is_told_in_whatever_words() {
    for refusal in [
        "APPEND The 1500 MB storage limit has been exceeded.",
        "Over quota",
        "Your quota has been exceeded.",
        "Not enough space left in mailbox",
        "[LIMIT] Mailbox is over quota",
        "[OVERQUOTA] no",
    ] {
        let (source, destination) = (standard(), Script::imap(Store::empty()));
        destination.bend(move |command| {
            let is_full = command.verb == "APPEND" && !command.has("Subject: one");
            is_full.then(|| Reaction::no(refusal))
        });
        let world = World::imap(&source, &destination);
        let first = world.run();
        assert_eq!((first.ended.code, first.counts.3), (24, 0), "{first:#?}");
        first.expect_told(refusal);
        destination.straighten();
        world.run().expect(0, (5, 5, 0, 0, 0));
        expect_everything(&destination);
    }
}

#[test]
fn several_refused_in_a_row_without_a_word_wait_and_are_not_given_up() {
    let (source, destination) = (standard(), Script::imap(Store::empty()));
    destination.on("APPEND INBOX", Reaction::no("APPEND failed"));
    let world = World::imap(&source, &destination);
    let first = world.run();
    assert!(first.ended.code != 0, "{first:#?}");
    assert_eq!((first.counts.0, first.counts.3), (5, 0), "{first:#?}");
    first.expect_told("one message after another");
    destination.straighten();
    world.run().expect(0, (5, 5, 0, 0, 0));
    expect_everything(&destination);
}

#[test]
fn a_message_that_is_refused_for_what_is_in_it_is_named_and_the_others_arrive() {
    let (source, destination) = (standard(), Script::imap(Store::empty()));
    destination.bend(|command| {
        let is_it = command.verb == "APPEND" && command.has("Subject: two");
        is_it.then(|| Reaction::no("Message contains invalid header"))
    });
    let outcome = World::imap(&source, &destination).run();
    outcome.expect(outcome.ended.code, (5, 4, 0, 1, 0)).expect_told("Message contains invalid header");
}

#[test]
fn a_message_larger_than_the_destination_takes_is_not_sent() {
    let (source, destination) = (standard(), Script::imap(Store::empty()));
    destination.also("APPENDLIMIT=1000");
    source.store().folder("INBOX").letter(2).bytes =
        format!("{}{}", letter("two"), "x".repeat(2000)).into_bytes();
    let outcome = World::imap(&source, &destination).run();
    outcome.expect(outcome.ended.code, (5, 4, 0, 1, 0)).expect_told("larger than the server takes");
    assert_eq!(destination.count("APPEND"), 4);
}

#[test]
fn flags_that_no_standard_knows_are_left_out_and_told() {
    let (source, destination) = (standard(), Script::imap(Store::empty()));
    source.store().folder("INBOX").set_flags(2, &["\\$NOTJUNK", "\\Indexed", "\\Flagged", "$Label1"]);
    // As Dovecot.
    destination.bend(|command| {
        let head = command.text.split("Subject:").next().unwrap_or_default().to_owned();
        let is_odd =
            command.verb == "APPEND" && ["\\$NOTJUNK", "\\Indexed"].iter().any(|flag| head.contains(flag));
        is_odd.then(|| Reaction::bad("Invalid system flag"))
    });
    let outcome = World::imap(&source, &destination).run();
    outcome.expect(0, (5, 5, 0, 0, 0)).expect_told("\\$NOTJUNK").expect_told("\\Indexed");
    let flags = destination.store().folder("INBOX").letter(2).flags.clone();
    assert_eq!(flags, ["$Label1", "\\Flagged"]);
}

#[test]
fn a_message_arrives_without_the_keyword_that_is_refused_and_with_the_others() {
    let (source, destination) = (standard(), Script::imap(Store::empty()));
    source.store().folder("INBOX").set_flags(2, &["\\Seen", "a:b", "$Label1"]);
    destination.bend(|command| {
        let is_odd = ["APPEND", "UID STORE"].contains(&command.verb.as_str()) && command.has("a:b");
        is_odd.then(|| Reaction::no(&format!("{} failed", command.verb)))
    });
    let outcome = World::imap(&source, &destination).run();
    outcome.expect(0, (5, 5, 0, 0, 0)).expect_told("a:b");
    let mut store = destination.store();
    let inbox = store.folder("INBOX");
    let two = inbox.letters.iter().find(|letter| letter.subject() == "two").unwrap();
    let mut flags = two.flags.clone();
    flags.sort();
    assert_eq!(flags, ["$Label1", "\\Seen"]);
}

#[test]
fn a_mark_of_removal_is_carried_neither_with_a_message_nor_afterwards() {
    let (source, destination) = (standard(), Script::imap(Store::empty()));
    source.store().folder("INBOX").set_flags(2, &["\\Deleted", "\\Seen"]);
    destination.bend(|command| {
        let is_marked = command.verb == "APPEND" && command.has("\\Deleted");
        is_marked.then(|| Reaction::no("[CANNOT] APPEND Contains Deleted flag"))
    });
    let world = World::imap(&source, &destination);
    world.run().expect(0, (5, 5, 0, 0, 0)).expect_told("1 message is marked as deleted at the source");
    source.store().folder("INBOX").set_flags(1, &["\\Deleted", "\\Flagged"]);
    world.run().expect(0, (5, 5, 0, 0, 0));
    assert!(destination.heard().iter().all(|command| !command.has("\\Deleted")));
    let mut store = destination.store();
    assert!(store.folder("INBOX").letters.iter().any(|letter| letter.flags == ["\\Flagged"]));
}

#[test]
fn a_refused_date_becomes_the_nearest_that_is_taken_and_is_told() {
    for (date, taken) in [
        ("01-Jan-1970 00:00:00 +0000", "02-Jan-1970 00:00:00 +0000"),
        ("01-Jan-0001 00:00:00 +0000", "02-Jan-1970 00:00:00 +0000"),
    ] {
        let (source, destination) = (standard(), Script::imap(Store::empty()));
        source.store().folder("INBOX").letter(2).date = date.to_owned();
        destination.bend(move |command| {
            let is_it = command.verb == "APPEND" && command.has(date);
            is_it.then(|| Reaction::bad("invalid date-time"))
        });
        let outcome = World::imap(&source, &destination).run();
        outcome.expect(0, (5, 5, 0, 0, 0)).expect_told(taken);
        let mut store = destination.store();
        let inbox = store.folder("INBOX");
        let two = inbox.letters.iter().find(|letter| letter.subject() == "two").unwrap();
        assert_eq!(two.date, taken);
    }
}

#[test]
fn a_refusal_that_comes_while_a_message_is_written_is_that_messages_and_no_other_is_lost() {
    for literal in ["", "LITERAL+"] {
        let (source, destination) = (standard(), Script::imap(Store::empty()));
        destination.without("LITERAL+").also(literal);
        source.store().folder("INBOX").letter(2).bytes =
            format!("{}{}", letter("two"), "and so on\r\n".repeat(40_000)).into_bytes();
        destination.bend_announced(|command| {
            let is_it = command.verb == "APPEND" && command.has("{44");
            is_it.then(|| Reaction::no("[TOOBIG] not that one"))
        });
        let world = World::imap(&source, &destination);
        let first = world.run();
        let last = if first.ended.code == 0 { first } else { world.run() };
        last.expect(last.ended.code, (5, 4, 0, 1, 0)).expect_told("not that one");
    }
}

#[test]
fn a_destination_that_takes_messages_one_by_one_alone_gets_them_so_from_then_on() {
    let (source, destination) = (Script::imap(Store::empty()), Script::imap(Store::empty()));
    destination.also("MULTIAPPEND");
    for n in 0..12 {
        let mut store = source.store();
        let folder = store.make(&format!("F{n:02}"));
        folder.add(&[], letter("first"));
        folder.add(&[], letter("second"));
    }
    destination.bend(|command| {
        let several = command.verb == "APPEND" && command.text.matches("Subject: ").count() > 1;
        several.then(|| Reaction::bad("unexpected arguments"))
    });
    World::imap(&source, &destination).run().expect(0, (24, 24, 0, 0, 0));
    let heard = destination.heard();
    let several = heard.iter().filter(|it| it.verb == "APPEND" && it.text.matches("Subject: ").count() > 1);
    // Several sessions may have begun before the first answer came.
    assert!((1..=5).contains(&several.count()), "asked plainly once it failed");
    assert_eq!(destination.store().count(), 24);
}

#[test]
fn a_missing_temporary_directory_stops_the_mailbox_and_gives_no_message_up() {
    let (source, destination) = (Script::pop3(Store::standard()), Script::imap(Store::empty()));
    source.store().folder("INBOX").letter(2).bytes =
        format!("{}{}", letter("two"), "and so on\r\n".repeat(200_000)).into_bytes();
    let mut world = World::pop3(&source, &destination);
    world.ferry = world.ferry.env("TMPDIR", "/there/is/no/such/directory");
    let first = world.run();
    assert_eq!((first.ended.code, first.counts.3), (23, 0), "{first:#?}");
    first.expect_told("/there/is/no/such/directory").expect_told("TMPDIR");
    world.ferry = world.ferry.env("TMPDIR", &std::env::temp_dir().display().to_string());
    world.run().expect(0, (3, 3, 0, 0, 0));
}

#[test]
fn a_date_that_is_refused_for_its_zone_without_a_word_becomes_the_same_moment() {
    let (source, destination) = (standard(), Script::imap(Store::empty()));
    destination.bend(|command| {
        let zoned = command.verb == "APPEND" && !command.has(" +0000");
        zoned.then(|| Reaction::no("APPEND failed"))
    });
    let outcome = World::imap(&source, &destination).run();
    outcome.expect(0, (5, 5, 0, 0, 0)).expect_told("the destination refuses its arrival date");
    expect_everything(&destination);
}
