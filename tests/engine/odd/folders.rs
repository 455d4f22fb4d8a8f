//! Folders: names that the destination cannot hold, that two servers read differently, or that somebody changes between two
//! passes. Every message arrives, two folders stay two, and each change of a name is told.

use std::collections::BTreeMap;

use crate::odd::world::{ADMIN, NEW, World, lies_at, lies_in, lying};
use crate::support::dovecot::{Dovecot, LOOPBACK, Store as Disk, User};
use crate::support::script::store::letter;
use crate::support::script::{PASSWORD, Reaction, Script, Store};

/// A mailbox with one letter in each of these folders, whose wire names are given; the letter is called like the folder.
fn one_each(store: Store, folders: &[&str]) -> Store {
    let mut store = store;
    for name in folders {
        let known = store.find(name.as_bytes()).is_some();
        if !known {
            store.create(name.as_bytes());
        }
        store.find(name.as_bytes()).unwrap().add(&[], letter(name));
    }
    store
}

/// The standard mailbox, and one letter in each of these folders.
fn standard_and(folders: &[&str]) -> Store {
    one_each(Store::standard(), folders)
}

/// A real destination with the mailbox [`NEW`].
fn real(disk: Disk) -> Dovecot {
    Dovecot::builder()
        .imap(LOOPBACK)
        .store(disk)
        .user(User::new(NEW, PASSWORD))
        .master(ADMIN, PASSWORD)
        .start()
}

/// Which folder holds the letter, as far as exactly one does.
fn place_of<'a>(lies: &'a BTreeMap<String, Vec<String>>, subject: &str) -> &'a str {
    // An independent client tells the Message-ID.
    let id = format!("Message-ID: <{}@a.test>", subject.replace(|c: char| !c.is_ascii_alphanumeric(), "-"));
    let holds = |(_, named): &(&String, &Vec<String>)| named.iter().any(|it| it == subject || *it == id);
    let found: Vec<&String> = lies.iter().filter(holds).map(|(folder, _)| folder).collect();
    assert_eq!(found.len(), 1, "{subject}: {lies:#?}");
    found[0]
}

#[test]
fn what_is_called_like_the_inbox_below_a_prefix_is_not_the_inbox() {
    let folders = ["INBOX", "INBOX.INBOX", "INBOX.INBOX.Sub", "INBOX.Inbox"];
    let source = Script::imap(one_each(Store::empty().below_inbox('.'), &folders));
    let destination = Script::imap(Store::empty());
    let world = World::imap(&source, &destination);
    world.run().expect(0, (4, 4, 0, 0, 0));
    let lies = lies_in(&destination);
    assert_eq!(lies.len(), 4, "{lies:?}");
    assert_eq!(place_of(&lies, "INBOX"), "INBOX");
    destination.forget();
    world.run().expect(0, (4, 4, 0, 0, 0));
    assert_eq!(destination.count("APPEND"), 0);
    world.verify(&[]).expect(0, (4, 4, 0, 0, 0));
}

#[test]
fn a_name_and_its_twin_in_modified_utf7_both_arrive() {
    let source = Script::imap(standard_and(&["A&B", "A&-B"]));
    let destination = Script::imap(Store::empty());
    let world = World::imap(&source, &destination);
    world.run().expect(0, (7, 7, 0, 0, 0)).expect_told("FolderRenamed");
    let lies = lies_in(&destination);
    assert_eq!(place_of(&lies, "A&-B"), "A&B");
    assert_ne!(place_of(&lies, "A&B"), "A&B");
    destination.forget();
    world.run().expect(0, (7, 7, 0, 0, 0));
    assert_eq!(destination.count("APPEND"), 0);
    world.verify(&[]).expect(0, (7, 7, 0, 0, 0));
}

#[test]
fn a_character_that_the_destination_refuses_is_replaced_and_told() {
    for code in ["[CANNOT]", ""] {
        let source = Script::imap(standard_and(&["R&-D", "R&-D/2020", "a#b?c", "Gr&APwA3w-e"]));
        let destination = Script::imap(Store::empty());
        let refusal = format!("{code} the name has a character that is not allowed");
        destination.bend(move |command| {
            let is_odd = command.verb == "CREATE" && command.has("&") || command.is("CREATE a#b?c");
            is_odd.then(|| Reaction::no(&refusal))
        });
        let world = World::imap(&source, &destination);
        world.run().expect(0, (9, 9, 0, 0, 0)).expect_told("FolderRenamed");
        let lies = lies_in(&destination);
        assert_eq!(place_of(&lies, "R&-D"), "R_D", "{lies:?}");
        assert_eq!(place_of(&lies, "R&-D/2020"), "R_D/2020", "{lies:?}");
        destination.forget();
        world.run().expect(0, (9, 9, 0, 0, 0)).expect_told("FolderRenamed");
        assert_eq!((destination.count("APPEND"), destination.count("CREATE")), (0, 0));
        world.verify(&[]).expect(0, (9, 9, 0, 0, 0));
    }
}

#[test]
fn a_folder_that_cannot_be_made_by_any_name_is_named_and_the_others_arrive() {
    let source = Script::imap(standard_and(&["Other"]));
    let destination = Script::imap(Store::empty());
    destination.bend(|command| {
        let is_it = command.verb == "CREATE" && command.text.to_lowercase().contains("ork");
        is_it.then(|| Reaction::no("[NOPERM] not for you"))
    });
    let outcome = World::imap(&source, &destination).run();
    assert_eq!(outcome.ended.code, 22, "{outcome:#?}");
    outcome.expect_told("Work");
    assert_eq!(lies_in(&destination), lying(&[("INBOX", &["one", "two", "three"]), ("Other", &["Other"])]));
}

#[test]
fn where_a_folder_with_mail_holds_no_folders_they_lie_side_by_side() {
    let folders = ["INBOX", "Clients", "Clients/ACME", "Clients/ACME/2020"];
    let source = Script::imap(one_each(Store::empty(), &folders));
    let destination = real(Disk::Mbox);
    let world = World::between("IMAP", source.address(), destination.imap());
    world.run().expect(0, (4, 4, 0, 0, 0)).expect_told("Clients - ACME - 2020");
    let lies = lies_at(&mut destination.mailbox(NEW));
    assert_eq!(place_of(&lies, "Clients"), "Clients");
    assert_eq!(place_of(&lies, "Clients/ACME"), "Clients - ACME");
    assert_eq!(place_of(&lies, "Clients/ACME/2020"), "Clients - ACME - 2020");
    source.store().folder("Clients/ACME").add(&[], letter("one more"));
    world.run().expect(0, (5, 5, 0, 0, 0));
    assert_eq!(place_of(&lies_at(&mut destination.mailbox(NEW)), "one more"), "Clients - ACME");
    world.verify(&[]).expect(0, (5, 5, 0, 0, 0));
}

#[test]
fn names_that_are_too_long_are_cut_and_stay_apart() {
    let long = |last: char| format!("{}{last}", "x".repeat(299));
    let deep = format!("{}/{}/{}", "y".repeat(200), "z".repeat(200), "deep");
    let umlauts = format!("&{}-", "APwA,AD8".repeat(40));
    let (a, b) = (long('a'), long('b'));
    for disk in [Disk::Maildir, Disk::Sdbox] {
        let source = Script::imap(standard_and(&[&a, &b, &deep, &umlauts]));
        let destination = real(disk);
        let world = World::between("IMAP", source.address(), destination.imap());
        world.run().expect(0, (9, 9, 0, 0, 0)).expect_told("FolderRenamed");
        let lies = lies_at(&mut destination.mailbox(NEW));
        assert_ne!(place_of(&lies, &a), place_of(&lies, &b));
        assert!(place_of(&lies, &a).starts_with(&"x".repeat(200)), "{lies:?}");
        for subject in [&deep, &umlauts] {
            place_of(&lies, subject);
        }
        let outcome = world.run();
        outcome.expect(0, (9, 9, 0, 0, 0));
        assert_eq!(lies_at(&mut destination.mailbox(NEW)), lies);
        world.verify(&[]).expect(0, (9, 9, 0, 0, 0));
    }
}

/// Makes a scripted destination take `work` for the `Work` that it has.
fn without_case(destination: &Script, says_exists: bool) {
    destination.bend(move |command| {
        let answer =
            if says_exists { Reaction::no("[ALREADYEXISTS] it is there") } else { Reaction::ok("made") };
        (command.text == "CREATE work").then_some(answer)
    });
}

#[test]
fn names_that_differ_in_case_alone_stay_apart_where_the_destination_has_none() {
    for says_exists in [true, false] {
        let source = Script::imap(standard_and(&["work"]));
        let destination = Script::imap(Store::empty());
        without_case(&destination, says_exists);
        let world = World::imap(&source, &destination);
        world.run().expect(0, (6, 6, 0, 0, 0)).expect_told("FolderRenamed");
        let all =
            [("INBOX", &["one", "two", "three"][..]), ("Work", &["four", "five"]), ("work (2)", &["work"])];
        assert_eq!(lies_in(&destination), lying(&all));
        destination.forget();
        world.run().expect(0, (6, 6, 0, 0, 0)).expect_told("FolderRenamed");
        assert_eq!((destination.count("APPEND"), destination.count("CREATE")), (0, 0));
        world.verify(&[]).expect(0, (6, 6, 0, 0, 0));
        assert!(destination.verbs().iter().all(|verb| !verb.contains("EXPUNGE") && verb != "DELETE"));
    }
}

#[test]
fn a_folder_that_is_there_in_another_case_is_filled_and_told() {
    let source = Script::imap(one_each(Store::empty(), &["work"]));
    let mut there = Store::empty();
    there.make("Work").add(&[], letter("somebody's own"));
    let destination = Script::imap(there);
    without_case(&destination, true);
    World::imap(&source, &destination).run().expect(0, (1, 1, 0, 0, 0)).expect_told("FolderRenamed");
    assert_eq!(lies_in(&destination), lying(&[("Work", &["somebody's own", "work"])]));
}

#[test]
fn a_subscription_that_is_refused_stops_no_mail() {
    let source = Script::imap(Store::standard());
    let destination = Script::imap(Store::empty());
    destination.on("SUBSCRIBE", Reaction::no("[NOPERM] subscriptions are closed"));
    World::imap(&source, &destination).run().expect(0, (5, 5, 0, 0, 0));
    assert_eq!(lies_in(&destination).len(), 2);
    // A session that ends at it is not given it again.
    let destination = Script::imap(Store::empty());
    destination.on("SUBSCRIBE", Reaction::close());
    World::imap(&source, &destination).run().expect(0, (5, 5, 0, 0, 0));
}

#[test]
fn a_folder_that_is_there_when_it_is_to_be_made_is_subscribed_to() {
    let source = Script::imap(Store::standard());
    let destination = Script::imap(Store::empty());
    // Another session was quicker.
    destination.on("CREATE Work", Reaction::replace("OK", "NO [ALREADYEXISTS]"));
    World::imap(&source, &destination).run().expect(0, (5, 5, 0, 0, 0));
    assert!(source.store().folder("Work").subscribed && destination.store().folder("Work").subscribed);
}

#[test]
fn a_folder_that_is_refused_and_made_all_the_same_is_filled() {
    for refusal in ["NO", "NO [CANNOT]", "NO [SERVERBUG]"] {
        let source = Script::imap(Store::standard());
        let destination = Script::imap(Store::empty());
        destination.on("CREATE Work", Reaction::replace("OK", refusal));
        World::imap(&source, &destination).run().expect(0, (5, 5, 0, 0, 0));
        let lies = lies_in(&destination);
        assert_eq!(lies.keys().collect::<Vec<_>>(), ["INBOX", "Work"], "{refusal}");
    }
}

#[test]
fn a_folder_that_is_renamed_at_the_source_is_renamed_at_the_destination() {
    let source = Script::imap(standard_and(&["Work/2020", "Work/2020/Q1"]));
    let destination = Script::imap(Store::empty());
    let world = World::imap(&source, &destination);
    world.run().expect(0, (7, 7, 0, 0, 0));
    for folder in &mut source.store().folders {
        let name = String::from_utf8_lossy(&folder.name).replace("Work", "Customers");
        folder.name = name.into_bytes();
    }
    source.store().folder("Customers/2020").add(&[], letter("one more"));
    destination.forget();
    world.run().expect(0, (8, 8, 0, 0, 0));
    let all = [
        ("INBOX", &["one", "two", "three"][..]),
        ("Customers", &["four", "five"]),
        ("Customers/2020", &["Work/2020", "one more"]),
        ("Customers/2020/Q1", &["Work/2020/Q1"]),
    ];
    assert_eq!((lies_in(&destination), destination.count("APPEND")), (lying(&all), 1));
    assert!(!destination.store().names().iter().any(|name| name.starts_with("Work")));
    destination.forget();
    world.run().expect(0, (8, 8, 0, 0, 0));
    assert_eq!(
        (destination.count("APPEND"), destination.count("CREATE"), destination.count("RENAME")),
        (0, 0, 0)
    );
    world.verify(&[]).expect(0, (8, 8, 0, 0, 0));
}

#[test]
fn a_rename_at_the_source_sends_nothing_again_where_the_destination_keeps_the_old_name() {
    // It refuses, the folder had been there before, or the new name is taken.
    for case in ["refused", "found", "taken"] {
        let source = Script::imap(Store::standard());
        let mut there = Store::empty();
        match case {
            "found" => drop(there.make("Work").add(&[], letter("somebody's own"))),
            "taken" => drop(there.make("Customers").add(&[], letter("somebody's own"))),
            _ => {}
        }
        let destination = Script::imap(there);
        if case == "refused" {
            destination.on("RENAME", Reaction::no("[NOPERM] no"));
        }
        let world = World::imap(&source, &destination);
        world.run().expect(0, (5, 5, 0, 0, 0));
        source.store().folder("Work").name = b"Customers".to_vec();
        source.store().folder("Customers").add(&[], letter("one more"));
        destination.forget();
        world.run().expect(0, (6, 6, 0, 0, 0)).expect_told("FolderRenamed");
        assert_eq!(destination.count("APPEND"), 1, "{case}");
        assert_eq!(place_of(&lies_in(&destination), "one more"), "Work", "{case}");
        world.verify(&[]).expect(0, (6, 6, 0, 0, 0));
    }
}

#[test]
fn a_folder_that_a_user_renames_at_the_destination_is_followed_and_told() {
    let source = Script::imap(Store::standard());
    let destination = Script::imap(Store::empty());
    let world = World::imap(&source, &destination);
    world.run().expect(0, (5, 5, 0, 0, 0));
    destination.store().folder("Work").name = b"My work".to_vec();
    source.store().folder("Work").add(&[], letter("one more"));
    source.store().folder("Work").set_flags(2, &["\\Seen"]);
    destination.forget();
    world.run().expect(0, (6, 6, 0, 0, 0)).expect_told("FolderGoneAtDestination");
    assert_eq!(destination.count("APPEND"), 1);
    let all = [("INBOX", &["one", "two", "three"][..]), ("My work", &["four", "five", "one more"])];
    assert_eq!(lies_in(&destination), lying(&all));
    assert_eq!(destination.store().folder("My work").letter(2).flags, ["\\Seen"]);
    world.verify(&[]).expect(0, (6, 6, 0, 0, 0));
}

#[test]
fn a_folder_that_a_user_removes_at_the_destination_takes_new_mail_and_no_other() {
    let source = Script::imap(standard_and(&["Work/2020"]));
    let destination = Script::imap(Store::empty());
    let world = World::imap(&source, &destination);
    world.run().expect(0, (6, 6, 0, 0, 0));
    destination.store().folders.retain(|folder| !folder.name.starts_with(b"Work"));
    destination.forget();
    // Flags that change have nowhere to go.
    source.store().folder("Work").set_flags(2, &["\\Seen"]);
    for _ in 0..2 {
        world.run().expect(0, (6, 6, 0, 0, 0)).expect_told("FolderGoneAtDestination");
        assert_eq!((destination.count("APPEND"), destination.count("CREATE")), (0, 0));
    }
    source.store().folder("Work").add(&[], letter("one more"));
    world.run().expect(0, (7, 7, 0, 0, 0));
    let some = [("INBOX", &["one", "two", "three"][..]), ("Work", &["one more"])];
    assert_eq!((lies_in(&destination), destination.count("APPEND")), (lying(&some), 1));
    world.run().expect(0, (7, 7, 0, 0, 0));
    assert_eq!(destination.count("APPEND"), 1);
    // It is known what is missing, and it comes when it is asked for.
    let verified = world.verify(&[]);
    assert_eq!(verified.ended.code, 25, "{verified:#?}");
    // A run alone mends nothing of it, and so is not a success.
    assert_eq!(world.run().ended.code, 25);
    world.verify(&["--repair"]).expect(0, (7, 7, 0, 0, 0));
    world.run().expect(0, (7, 7, 0, 0, 0));
    let lies = lies_in(&destination);
    assert_eq!((lies["Work"].len(), lies["Work/2020"].len()), (3, 1), "{lies:?}");
    world.verify(&[]).expect(0, (7, 7, 0, 0, 0));
}

/// The standard mailbox on a server that shows all of it in one folder, with one letter that no other folder holds, and
/// what is flagged in another one.
fn with_views() -> Store {
    let mut store = Store::standard();
    let all: Vec<String> = ["one", "two", "three", "four", "five", "archived"].map(letter).into();
    let view = store.make("All Mail");
    view.attributes.push("\\All".to_owned());
    for bytes in all {
        view.add(&[], bytes);
    }
    let view = store.make("Starred");
    view.attributes.push("\\Flagged".to_owned());
    for name in ["two", "archived"] {
        view.add(&["\\Flagged"], letter(name));
    }
    store
}

#[test]
fn what_a_view_shows_arrives_once() {
    let source = Script::imap(with_views());
    let destination = Script::imap(Store::empty());
    let world = World::imap(&source, &destination);
    world.run().expect(0, (6, 6, 0, 0, 0));
    let lies = lies_in(&destination);
    let mut subjects: Vec<&String> = lies.values().flatten().collect();
    subjects.sort();
    assert_eq!(subjects, ["archived", "five", "four", "one", "three", "two"], "{lies:?}");
    assert_eq!((lies["INBOX"].len(), lies["Work"].len()), (3, 2));
    destination.forget();
    world.run().expect(0, (6, 6, 0, 0, 0));
    assert_eq!(destination.count("APPEND"), 0);
    for folder in ["Work", "All Mail"] {
        source.store().folder(folder).add(&[], letter("one more"));
    }
    world.run().expect(0, (7, 7, 0, 0, 0));
    assert_eq!(destination.count("APPEND"), 1);
    world.verify(&[]).expect(0, (7, 7, 0, 0, 0));
}

#[test]
fn a_real_server_renames_with_the_source_and_is_followed() {
    let source = Script::imap(standard_and(&["Work/2020"]));
    let destination = real(Disk::Sdbox);
    let world = World::between("IMAP", source.address(), destination.imap());
    world.run().expect(0, (6, 6, 0, 0, 0));
    for (from, to) in [("Work", "Customers"), ("Work/2020", "Customers/2020")] {
        source.store().folder(from).name = to.into();
    }
    world.run().expect(0, (6, 6, 0, 0, 0));
    let lies = lies_at(&mut destination.mailbox(NEW));
    assert_eq!((lies.len(), place_of(&lies, "Work/2020")), (3, "Customers/2020"), "{lies:?}");
    destination.mailbox(NEW).command("RENAME Customers Mine").unwrap();
    source.store().folder("Customers/2020").add(&[], letter("one more"));
    world.run().expect(0, (7, 7, 0, 0, 0)).expect_told("FolderGoneAtDestination");
    let lies = lies_at(&mut destination.mailbox(NEW));
    assert_eq!((lies.len(), lies["Mine"].len(), lies["Mine/2020"].len()), (3, 2, 2), "{lies:?}");
    world.verify(&[]).expect(0, (7, 7, 0, 0, 0));
}

#[test]
fn a_folder_at_whose_making_sessions_end_costs_no_other() {
    for is_made in [false, true] {
        let source = Script::imap(standard_and(&["Archive", "Travel"]));
        let destination = Script::imap(Store::empty());
        destination.bend(move |command| {
            command
                .is("CREATE Travel")
                .then(|| if is_made { Reaction::edit(|_| ()).and_close() } else { Reaction::close() })
        });
        let world = World::imap(&source, &destination);
        let outcome = world.run();
        if is_made {
            outcome.expect(0, (7, 7, 0, 0, 0));
        } else {
            outcome.expect(22, (7, 6, 0, 0, 1)).expect_told("ends the session whenever it is opened");
            destination.straighten();
            world.run().expect(0, (7, 7, 0, 0, 0));
        }
    }
}
