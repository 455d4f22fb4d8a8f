//! Destinations that are not what the ledger remembers: another mailbox, mail that somebody removed, arrivals that nobody
//! sees, doubts about a folder that mail goes to no longer.

use crate::odd::world::{World, lies_in, lying, manifest};
use crate::support::script::bend::{Answer, Reaction};
use crate::support::script::store::letter;
use crate::support::script::{Script, Store};

const ALL: [(&str, &[&str]); 2] = [("INBOX", &["one", "two", "three"]), ("Work", &["four", "five"])];

#[test]
fn an_ok_without_the_message_is_no_arrival() {
    for uidplus in [None, Some("true"), Some("wrong")] {
        let (source, destination) = (Script::imap(Store::standard()), Script::imap(Store::empty()));
        destination.bend(move |command| {
            let lost = command.is("APPEND") && command.has("Subject: two");
            lost.then(|| match uidplus {
                None => Reaction::ok("APPEND completed"),
                Some("true") => Reaction::ok("[APPENDUID 1600000001 77] APPEND completed"),
                Some(_) => Reaction::ok("[APPENDUID 1600000001 1] APPEND completed"),
            })
        });
        if uidplus.is_some() {
            destination.also("UIDPLUS");
        }
        let world = World::imap(&source, &destination);
        let outcome = world.run();
        assert_eq!(outcome.counts, (5, 4, 0, 1, 0), "{uidplus:?}: {outcome:#?}");
        outcome.expect_told("does not list it");
        destination.straighten();
        world.run().expect(0, (5, 5, 0, 0, 0));
        assert_eq!(lies_in(&destination)["INBOX"].len(), 3, "{uidplus:?}");
    }
}

#[test]
fn a_corrected_destination_gets_everything() {
    let source = Script::imap(Store::standard());
    let (wrong, right) = (Script::imap(Store::empty()), Script::imap(Store::empty()));
    let world = World::imap(&source, &wrong);
    world.run().expect(0, (5, 5, 0, 0, 0));
    // Both Inboxes have the same UIDVALIDITY and the same UIDs.
    world.ferry.write(&manifest("IMAP", source.address(), right.address(), "").text());
    let outcome = world.run();
    assert_eq!(outcome.counts, (5, 5, 0, 0, 0), "{outcome:#?}");
    assert_eq!(lies_in(&right), lying(&ALL));
}

#[test]
fn an_arrival_that_is_not_handed_out_is_never_called_identical() {
    let (source, destination) = (Script::imap(Store::standard()), Script::imap(Store::empty()));
    destination.bend(|command| {
        let nothing = |answer: &mut Answer| {
            for response in &mut answer.responses {
                let text = String::from_utf8_lossy(response).into_owned();
                if let Some((head, _)) = text.split_once("BODY[] {") {
                    *response = format!("{head}BODY[] NIL)\r\n").into_bytes();
                }
            }
        };
        command.wants_bodies().then(|| Reaction::edit(nothing))
    });
    let world = World::imap(&source, &destination);
    let text = manifest("IMAP", source.address(), destination.address(), "").text();
    world.ferry.write(&text.replacen("policy:", "policy:\n    verify: Full", 1));
    world
        .run()
        .expect(0, (5, 5, 0, 0, 0))
        .expect_told("MessagesAltered")
        .expect_told("could not be compared");
}

#[test]
fn what_lay_at_the_destination_and_was_removed_since_is_sent() {
    let (source, destination) = (Script::imap(Store::standard()), Script::imap(Store::empty()));
    // An earlier tool had carried two of them.
    for subject in ["one", "two"] {
        let bytes = source
            .store()
            .folder("INBOX")
            .letters
            .iter()
            .find(|l| l.subject() == subject)
            .unwrap()
            .bytes
            .clone();
        destination.store().folder("INBOX").add(&[], bytes);
    }
    let text = manifest("IMAP", source.address(), destination.address(), "").text();
    let pilot = text.replacen("policy:", "policy:\n    pilot: {messagesPerFolder: 1}", 1);
    let world = World::imap(&source, &destination);
    world.ferry.write(&pilot);
    world.run();
    destination.store().folder("INBOX").remove(1);
    destination.store().folder("INBOX").remove(2);
    world.ferry.write(&text);
    world.run().expect(0, (5, 5, 0, 0, 0));
    let mut lies = lies_in(&destination);
    lies.get_mut("INBOX").unwrap().sort();
    assert_eq!(lies["INBOX"], ["one", "three", "two"]);
}

#[test]
fn a_doubt_is_settled_where_it_arose_when_the_mapping_changes() {
    let (source, destination) = (Script::imap(Store::standard()), Script::imap(Store::empty()));
    // The messages are stored, and the connection ends before anybody hears of it.
    destination.bend(|command| {
        (command.is("APPEND") && command.has("Subject: four") && command.times < 6)
            .then(|| Reaction::edit(|answer| answer.cut(0)))
    });
    let world = World::imap(&source, &destination);
    world.run();
    let text = manifest("IMAP", source.address(), destination.address(), "").text();
    let at = text.find("  policy:").expect("a policy");
    let mapped =
        format!("{}  mapping:\n    folders: [{{from: Work, to: Elsewhere}}]\n{}", &text[..at], &text[at..]);
    destination.straighten();
    world.ferry.write(&mapped);
    let outcome = world.run();
    assert_eq!(outcome.counts, (5, 5, 0, 0, 0), "{outcome:#?}");
    let everything: Vec<String> = lies_in(&destination).into_values().flatten().collect();
    let fours = everything.iter().filter(|subject| *subject == "four").count();
    assert_eq!(fours, 1, "{everything:?}");
    assert_eq!(everything.len(), 5, "{everything:?}");
}

#[test]
fn twins_of_two_folders_that_go_to_one_stay_two_after_a_cut() {
    let mut store = Store::standard();
    store.folder("Work").add(&[], letter("twin"));
    store.make("Other").add(&[], letter("twin"));
    let (source, destination) = (Script::imap(store), Script::imap(Store::empty()));
    let text = manifest("IMAP", source.address(), destination.address(), "").text();
    let at = text.find("  policy:").expect("a policy");
    let mapped = format!(
        "{}  mapping:\n    folders: [{{from: Work, to: All}}, {{from: Other, to: All}}]\n{}",
        &text[..at],
        &text[at..]
    );
    destination.bend(|command| {
        (command.is("APPEND") && command.has("Subject: twin") && command.times < 2)
            .then(|| Reaction::edit(|answer| answer.cut(0)))
    });
    let world = World::imap(&source, &destination);
    world.ferry.write(&mapped);
    let outcome = world.run();
    assert_eq!(outcome.counts, (7, 7, 0, 0, 0), "{outcome:#?}");
    let twins = lies_in(&destination)["All"].iter().filter(|subject| *subject == "twin").count();
    assert_eq!(twins, 2);
}
