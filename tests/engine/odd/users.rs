//! The new mailbox is its users': what they move, rename or restore there is told as that, is not sent again, and hides nothing
//! that is missing.

use crate::odd::world::{World, lies_in, lying};
use crate::support::script::store::letter;
use crate::support::script::{Reaction, Script, Store};

const STATES: &str = "LIST-EXTENDED LIST-STATUS";

/// Runs a pass over the standard mailbox, and lets somebody change the destination.
fn carried(change: impl FnOnce(&mut Store)) -> (World, Script, Script) {
    let (source, destination) = (Script::imap(Store::standard()), Script::imap(Store::empty()));
    let world = World::imap(&source, &destination);
    world.run().expect(0, (5, 5, 0, 0, 0));
    change(&mut destination.store());
    destination.forget();
    (world, source, destination)
}

/// Moves a letter as a mail program does.
fn move_letter(store: &mut Store, from: &str, uid: u32, to: &str) {
    let moved = store.folder(from).letter(uid).clone();
    store.folder(from).remove(uid);
    store.make(to).receive(moved.flags, moved.date, moved.bytes);
}

#[test]
fn a_folder_that_is_renamed_and_made_anew_is_followed() {
    for extensions in ["", STATES] {
        for alike in [false, true] {
            let (source, destination) = (Script::imap(Store::standard()), Script::imap(Store::empty()));
            if !extensions.is_empty() {
                destination.also(extensions);
            }
            let uidvalidity = destination.store().make("Work").uidvalidity;
            if alike {
                destination.store().folder("INBOX").uidvalidity = uidvalidity;
            }
            let world = World::imap(&source, &destination);
            world.run().expect(0, (5, 5, 0, 0, 0));
            {
                let mut store = destination.store();
                store.folder("Work").name = b"Mine".to_vec();
                let anew = store.make("Work");
                if alike {
                    anew.uidvalidity = uidvalidity;
                }
            }
            source.store().folder("Work").add(&[], letter("six"));
            world.run().expect(0, (6, 6, 0, 0, 0)).expect_told("FolderGoneAtDestination");
            let there = [("INBOX", &["one", "two", "three"][..]), ("Mine", &["four", "five", "six"])];
            assert_eq!(lies_in(&destination), lying(&there), "{extensions}, {alike}");
            for args in [&[][..], &["--repair"]] {
                world.verify(args).expect(0, (6, 6, 0, 0, 0));
            }
            assert_eq!(lies_in(&destination), lying(&there), "{extensions}, {alike}");
        }
    }
}

#[test]
fn mail_that_a_user_moved_is_found_where_it_is_and_not_sent_again() {
    let one = |store: &mut Store| move_letter(store, "INBOX", 2, "Work");
    let all = |store: &mut Store| (1..4).for_each(|uid| move_letter(store, "INBOX", uid, "Archive"));
    let merged = |store: &mut Store| {
        (1..3).for_each(|uid| move_letter(store, "Work", uid, "INBOX"));
        store.folders.retain(|folder| folder.name != b"Work");
    };
    for (change, moved) in [(&one as &dyn Fn(&mut Store), 1), (&all, 3), (&merged, 2)] {
        let (world, _source, destination) = carried(change);
        let there = lies_in(&destination);
        for args in [&[][..], &["--depth", "Full"], &["--repair"], &["--repair", "--depth", "Full"]] {
            let outcome = world.verify(args);
            outcome.expect(0, (5, 5, 0, 0, 0)).expect_told("was moved at the destination");
            outcome.expect_told("5 checked = ").expect_told(" + 0 altered + 0 missing");
            assert!(!args.contains(&"Full") || outcome.tells("5 identical + 0 altered"), "{outcome:#?}");
            outcome.expect_told(&format!("{moved} in another folder"));
            assert!(!outcome.tells("no longer at the destination"), "{outcome:#?}");
        }
        assert_eq!((lies_in(&destination), destination.count("APPEND")), (there.clone(), 0));
        world.run().expect(0, (5, 5, 0, 0, 0));
        assert_eq!(lies_in(&destination), there);
    }
}

#[test]
fn one_of_two_alike_that_was_removed_is_missing_though_the_other_is_there() {
    let mut store = Store::standard();
    store.folder("Work").add(&[], letter("one"));
    let (source, destination) = (Script::imap(store), Script::imap(Store::empty()));
    let world = World::imap(&source, &destination);
    world.run().expect(0, (6, 6, 0, 0, 0));
    destination.store().folder("INBOX").remove(1);
    assert_eq!(world.verify(&[]).expect_told("is no longer at the destination").ended.code, 25);
    world.verify(&["--repair"]);
    assert_eq!(lies_in(&destination)["INBOX"].len(), 3);
    world.verify(&[]).expect(0, (6, 6, 0, 0, 0));
}

#[test]
fn new_mail_at_the_uids_of_what_a_restored_server_lost_hides_nothing() {
    let (world, _source, destination) = carried(|store| {
        let folder = store.folder("INBOX");
        for uid in [2, 3] {
            folder.remove(uid);
        }
        folder.uidnext = 2;
        for name in ["from a friend", "from another friend"] {
            folder.add(&[], letter(name));
        }
    });
    for args in [&[][..], &["--depth", "Full"]] {
        let outcome = world.verify(args);
        assert_eq!(outcome.expect_told("2 missing").ended.code, 25, "{outcome:#?}");
        assert!(!outcome.tells("bytes that differ"), "{outcome:#?}");
    }
    world.verify(&["--repair"]);
    let mut there = destination.store().folder("INBOX").subjects();
    there.sort();
    assert_eq!(there, ["from a friend", "from another friend", "one", "three", "two"]);
    world.verify(&[]).expect(0, (5, 5, 0, 0, 0));
}

#[test]
fn a_message_that_could_not_be_carried_keeps_a_verification_from_passing() {
    let (source, destination) = (Script::imap(Store::standard()), Script::imap(Store::empty()));
    destination.bend(|command| {
        let is_two = command.verb == "APPEND" && command.has("Subject: two");
        is_two.then(|| Reaction::no("Message contains invalid header"))
    });
    let world = World::imap(&source, &destination);
    let carried = world.run();
    assert_eq!((carried.counts.1, carried.counts.3 + carried.counts.4), (4, 1), "{carried:#?}");
    for args in [&[][..], &["--depth", "Full"], &["--repair"]] {
        let outcome = world.verify(args);
        assert_eq!(outcome.ended.code, 25, "{outcome:#?}");
        outcome.expect_told("two").expect_told("1 message could not be carried");
    }
    destination.straighten();
    world.verify(&["--repair"]).expect(0, (5, 5, 0, 0, 0));
    world.verify(&[]).expect(0, (5, 5, 0, 0, 0));
}

#[test]
fn what_was_edited_there_is_altered_though_it_is_still_the_same_message() {
    let (world, source, destination) = carried(|store| {
        let letters = &mut store.folder("INBOX").letters;
        letters[0].bytes = [&b"Received: from here\r\n"[..], &letters[0].bytes].concat();
        let end = letters[1].bytes.len() - 2;
        letters[1].bytes.truncate(end);
    });
    let full = &["--depth", "Full"][..];
    let outcome = world.verify(full);
    outcome.expect(25, (5, 5, 0, 0, 0)).expect_told("5 checked = 3 identical + 2 altered + 0 missing");
    outcome
        .expect_told("only line ends, transport lines or the encoding differ")
        .expect_told("ArrivalsChanged");
    // A pass without the ledger finds the same messages there, and says the same of them.
    std::fs::remove_dir_all(world.ferry.state()).unwrap();
    let again = world.run();
    again.expect(0, (5, 5, 0, 0, 0)).expect_told("with other bytes").expect_told("MessagesAltered");
    assert_eq!(destination.count("APPEND"), 0);
    world
        .verify(full)
        .expect(0, (5, 5, 0, 0, 0))
        .expect_told("5 checked = 3 identical + 2 altered + 0 missing");
    // What was found there is known now, and so is a change after that, however small.
    let line = |from: &str, to: &str| {
        let mut store = destination.store();
        let bytes = &mut store.folder("INBOX").letters[0].bytes;
        *bytes = String::from_utf8(std::mem::take(bytes)).unwrap().replace(from, to).into_bytes();
    };
    line("from here", "from HERE");
    world.verify(full).expect(25, (5, 5, 0, 0, 0)).expect_told("ArrivalsChanged");
    line("from HERE", "from here");
    world.verify(full).expect(25, (5, 5, 0, 0, 0)).expect_told("ArrivalsChanged");
    // The source shows another one otherwise than when it was carried: nothing happened to it at the destination.
    let mut store = source.store();
    let bytes = &mut store.folder("INBOX").letters[2].bytes;
    let end = bytes.len() - 2;
    bytes.truncate(end);
    drop(store);
    for args in [full, &["--depth", "Full", "--output", "json"]] {
        let outcome = world.verify(args);
        let told = if args.len() > 2 { "\"kind\": \"Alike\"" } else { "= 2 identical + 1 alike + 2 altered" };
        outcome.expect(25, (5, 5, 0, 0, 0)).expect_told(told);
    }
}

#[test]
fn a_flag_that_changes_on_what_a_user_removed_changes_nothing_and_the_removal_is_told() {
    let (world, source, destination) = carried(|store| store.folder("INBOX").remove(1));
    source.store().folder("INBOX").set_flags(1, &["\\Flagged"]);
    source.store().folder("INBOX").set_flags(2, &["\\Seen"]);
    let outcome = world.run();
    outcome
        .expect(0, (5, 5, 0, 0, 0))
        .expect_told("This run: 0 new, 1 changed")
        .expect_told("ArrivalsRemoved");
    outcome.expect_told("1 message was carried and removed at the destination since");
    assert_eq!((lies_in(&destination)["INBOX"].len(), destination.count("APPEND")), (2, 0));
    world.run().expect(0, (5, 5, 0, 0, 0)).expect_told("This run: 0 new, 0 changed");
}

#[test]
fn what_an_attempt_found_before_it_failed_is_told_once() {
    let mut store = Store::standard();
    store.folder("INBOX").set_flags(2, &["\\Deleted"]);
    store.folder("Work").set_flags(1, &["\\Deleted", "odd"]);
    let (source, destination) = (Script::imap(store), Script::imap(Store::empty()));
    // Sessions end behind what arrived, and at a folder that is not filled yet.
    destination.on_first(2, "SELECT Work", Reaction::close());
    source.on_first(1, "EXAMINE Work", Reaction::close());
    let world = World::imap(&source, &destination);
    let outcome = world.run();
    outcome.expect(0, (5, 5, 0, 0, 0)).expect_told("MarkedForRemoval");
    outcome.expect_told("2 messages are marked as deleted").expect_told("This run: 5 new, 0 changed");
    assert_eq!(lies_in(&destination).values().map(Vec::len).sum::<usize>(), 5);
}
