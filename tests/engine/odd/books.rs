//! Messages that a source counts and does not list, lists and does not hand out, or lists under other numbers than before:
//! each of them is carried, or is a row with a reason.

use crate::odd::world::{World, lies_in, lying};
use crate::support::script::bend::{Answer, Command, Reaction};
use crate::support::script::store::letter;
use crate::support::script::{Script, Store};

const ALL: [(&str, &[&str]); 2] = [("INBOX", &["one", "two", "three"]), ("Work", &["four", "five"])];

fn pair() -> (Script, Script) {
    (Script::imap(Store::standard()), Script::imap(Store::empty()))
}

#[test]
fn messages_that_are_counted_and_not_listed_are_failed_and_named() {
    let (source, destination) = pair();
    source.bend(|command| {
        let examined = command.is("EXAMINE") && command.has("Work");
        examined.then(|| Reaction::replace("2 EXISTS", "5 EXISTS"))
    });
    let world = World::imap(&source, &destination);
    let outcome = world.run();
    outcome.expect_told("does not list");
    assert_eq!(outcome.counts, (8, 5, 0, 3, 0), "{outcome:#?}");
    assert_eq!(lies_in(&destination), lying(&ALL));
    // The server comes to its senses: nothing is missing any more.
    source.straighten();
    destination.forget();
    world.run().expect(0, (5, 5, 0, 0, 0));
    assert_eq!(destination.count("APPEND"), 0);
}

fn lists_inbox(command: &Command) -> bool {
    command.verb == "UID FETCH" && !command.wants_bodies() && command.folder.as_deref() == Some("INBOX")
}

#[test]
fn what_is_not_listed_is_not_found_because_another_message_goes() {
    let (source, destination) = pair();
    source.bend(|command| lists_inbox(command).then(|| Reaction::edit(|answer| answer.leave_out("(UID 2 "))));
    let world = World::imap(&source, &destination);
    assert_eq!(world.run().counts, (5, 4, 0, 1, 0));
    source.store().folder("INBOX").remove(1);
    for _ in 0..2 {
        let outcome = world.run();
        assert_eq!((outcome.counts.3, outcome.tells("does not list")), (1, true), "{outcome:#?}");
    }
    source.straighten();
    let outcome = world.run();
    assert_eq!(outcome.counts.3, 0, "{outcome:#?}");
    assert!(lies_in(&destination)["INBOX"].contains(&"two".to_owned()), "{outcome:#?}");
}

#[test]
fn a_message_without_a_number_does_not_stop_the_others() {
    let (source, destination) = pair();
    source.bend(|command| lists_inbox(command).then(|| Reaction::replace("(UID 2 ", "(UID 0 ")));
    let outcome = World::imap(&source, &destination).run();
    assert_eq!(outcome.counts, (5, 4, 0, 1, 0), "{outcome:#?}");
    assert_eq!(lies_in(&destination)["INBOX"], ["one", "three"]);
}

#[test]
fn two_messages_under_one_number_are_counted_as_two() {
    let (source, destination) = pair();
    source.bend(|command| {
        let lists = command.verb == "UID FETCH" && !command.wants_bodies();
        (lists && command.folder.as_deref() == Some("INBOX")).then(|| Reaction::replace("(UID 3 ", "(UID 2 "))
    });
    let outcome = World::imap(&source, &destination).run();
    assert_eq!(outcome.counts, (5, 4, 0, 1, 0), "{outcome:#?}");
}

#[test]
fn a_limit_on_what_one_command_lists_is_asked_beyond() {
    let mut store = Store::standard();
    for subject in ["six", "seven", "eight", "nine", "ten"] {
        store.folder("INBOX").add(&[], letter(subject));
    }
    let (source, destination) = (Script::imap(store), Script::imap(Store::empty()));
    // From the top down, three at a time (RFC 9738).
    source.bend(|command| {
        let lists = command.verb == "UID FETCH"
            && !command.wants_bodies()
            && command.folder.as_deref() == Some("INBOX");
        lists.then(|| {
            Reaction::edit(|answer: &mut Answer| {
                let listed = answer.responses.len() - 1;
                if listed <= 3 {
                    return;
                }
                answer.responses.drain(..listed - 3);
                let first = String::from_utf8_lossy(&answer.responses[0]).into_owned();
                let uid =
                    first.split("UID ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap().to_owned();
                answer.replace(" OK ", format!(" OK [MESSAGELIMIT 3 {uid}] "));
            })
        })
    });
    let outcome = World::imap(&source, &destination).run();
    outcome.expect(0, (10, 10, 0, 0, 0));
    assert_eq!(lies_in(&destination)["INBOX"].len(), 8);
}

#[test]
fn a_number_that_is_given_again_to_another_message_does_not_hide_it() {
    let (source, destination) = pair();
    let world = World::imap(&source, &destination);
    world.run().expect(0, (5, 5, 0, 0, 0));
    let mut other = letter("another letter under the number of the second").into_bytes();
    other.extend_from_slice(b"and longer\r\n");
    source.store().folder("INBOX").letter(2).bytes = other;
    let outcome = world.run();
    assert_eq!(outcome.ended.code, 0, "{outcome:#?}");
    assert_eq!(lies_in(&destination)["INBOX"].len(), 4, "{outcome:#?}");
    destination.forget();
    world.run();
    assert_eq!(destination.count("APPEND"), 0);
}

#[test]
fn a_message_at_which_the_connection_ends_each_time_is_named_and_the_others_arrive() {
    let (source, destination) = pair();
    source.bend(|command| {
        (command.wants_bodies() && command.folder.as_deref() == Some("INBOX"))
            .then(|| Reaction::edit(|answer| answer.cut_message(2, 60)))
    });
    let outcome = World::imap(&source, &destination).run();
    assert_eq!(outcome.counts, (5, 4, 0, 1, 0), "{outcome:#?}");
    outcome.expect_told("each time");
    assert_eq!(lies_in(&destination)["INBOX"], ["one", "three"]);
    source.straighten();
    let world_counts = {
        // In a later pass it is tried again.
        let world = World::imap(&source, &destination);
        world.run().counts
    };
    assert_eq!(world_counts, (5, 5, 0, 0, 0));
    assert_eq!(lies_in(&destination)["INBOX"].len(), 3);
}

#[test]
fn a_destination_that_resets_at_one_message_takes_the_others() {
    let (source, destination) = pair();
    destination.bend(|command| (command.is("APPEND") && command.has("Subject: two")).then(Reaction::reset));
    let world = World::imap(&source, &destination);
    let outcome = world.run();
    assert_eq!(outcome.counts, (5, 4, 0, 1, 0), "{outcome:#?}");
    destination.straighten();
    world.run().expect(0, (5, 5, 0, 0, 0));
    assert_eq!(lies_in(&destination)["INBOX"].len(), 3);
}

#[test]
fn changes_of_a_large_folder_cost_what_changed() {
    let mut store = Store::standard();
    for n in 0..3000 {
        store.folder("Work").add(&[], letter(&format!("letter {n}")));
    }
    let (source, destination) = (Script::imap(store), Script::imap(Store::empty()));
    for script in [&source, &destination] {
        script.also("CONDSTORE ESEARCH UIDPLUS LITERAL+ MULTIAPPEND");
    }
    let world = World::imap(&source, &destination);
    world.run().expect(0, (3005, 3005, 0, 0, 0));
    {
        let mut store = source.store();
        let work = store.folder("Work");
        work.set_flags(5, &["\\Flagged"]);
        work.set_flags(6, &["\\Seen"]);
        work.add(&[], letter("new one"));
        work.add(&[], letter("new two"));
        work.remove(9);
    }
    source.forget();
    let outcome = world.run();
    assert_eq!((outcome.ended.code, outcome.counts.1), (0, 3007), "{outcome:#?}");
    let asked: Vec<String> = source
        .heard()
        .into_iter()
        .filter(|command| command.folder.as_deref() == Some("Work") && command.verb.starts_with("UID"))
        .map(|command| command.text)
        .collect();
    assert!(asked.iter().all(|text| !text.contains("1:* ")), "the whole folder is listed: {asked:#?}");
    assert!(destination.store().folder("Work").letter(5).flags.iter().any(|flag| flag == "\\Flagged"));
    assert_eq!(destination.store().folder("Work").letters.len(), 3004);
}
