//! Folders whose names change hands at the source, UIDs that are given anew, and mail that users move at the destination:
//! nothing is lost, nothing is sent twice, and the counts are those of the source.

use crate::odd::world::{World, lies_in, lying};
use crate::support::script::store::{Folder, letter};
use crate::support::script::{Script, Store};

const CHANGES: &str = "CONDSTORE ENABLE ESEARCH";
const STATES: &str = "LIST-EXTENDED LIST-STATUS CONDSTORE ENABLE ESEARCH";

/// The standard mailbox and a folder `Plans` with three letters.
fn with_plans() -> Store {
    let mut store = Store::standard();
    let folder = store.make("Plans");
    for name in ["six", "seven", "eight"] {
        folder.add(&[], letter(name));
    }
    store
}

/// Runs a pass, changes the source, and runs another one.
fn between(store: Store, extensions: &str, change: impl FnOnce(&mut Store)) -> (World, Script, Script) {
    let (source, destination) = (Script::imap(store), Script::imap(Store::empty()));
    if !extensions.is_empty() {
        source.also(extensions);
    }
    let world = World::imap(&source, &destination);
    world.run();
    change(&mut source.store());
    destination.forget();
    (world, source, destination)
}

fn swap(store: &mut Store, one: &str, other: &str) {
    store.folder(one).name = b"aside".to_vec();
    store.folder(other).name = one.as_bytes().to_vec();
    store.folder("aside").name = other.as_bytes().to_vec();
}

/// All subjects of a server, sorted.
fn all(script: &Script) -> Vec<String> {
    let mut all: Vec<String> = lies_in(script).into_values().flatten().collect();
    all.sort();
    all
}

#[test]
fn folders_that_swap_their_names_are_not_sent_again() {
    for extensions in ["", CHANGES, STATES] {
        for alike in [false, true] {
            let mut store = with_plans();
            if alike {
                store.folder("Plans").uidvalidity = store.folder("Work").uidvalidity;
            }
            let (world, source, destination) =
                between(store, extensions, |store| swap(store, "Work", "Plans"));
            world.run().expect(0, (8, 8, 0, 0, 0)).expect_told("FolderRenamed");
            assert_eq!(destination.count("APPEND"), 0, "{extensions}, {alike}");
            for (folder, name) in [("Work", "nine"), ("Plans", "ten")] {
                source.store().folder(folder).add(&[], letter(name));
            }
            world.run().expect(0, (10, 10, 0, 0, 0));
            let there = [
                ("INBOX", &["one", "two", "three"][..]),
                ("Work", &["four", "five", "ten"]),
                ("Plans", &["six", "seven", "eight", "nine"]),
            ];
            assert_eq!(lies_in(&destination), lying(&there), "{extensions}, {alike}");
            world.verify(&[]).expect(0, (10, 10, 0, 0, 0));
        }
    }
}

#[test]
fn a_name_that_is_freed_and_used_again_is_another_folder() {
    // The new folder may have the numbers of the old one, all of them.
    for extensions in ["", CHANGES, STATES] {
        for alike in [false, true] {
            let (world, _source, destination) = between(Store::standard(), extensions, |store| {
                let mut anew = Folder { letters: Vec::new(), uidnext: 1, ..store.folder("Work").clone() };
                for name in ["fresh one", "fresh two"] {
                    anew.add(&[], letter(name));
                }
                let old = store.folder("Work");
                anew.modseq = old.modseq;
                if !alike {
                    anew.uidvalidity += 100;
                }
                old.name = b"Old".to_vec();
                store.folders.push(anew);
            });
            world.run().expect(0, (7, 7, 0, 0, 0));
            let there = [
                ("INBOX", &["one", "two", "three"][..]),
                ("Old", &["four", "five"]),
                ("Work", &["fresh one", "fresh two"]),
            ];
            assert_eq!(lies_in(&destination), lying(&there), "{extensions}, {alike}");
            assert_eq!(destination.count("APPEND"), 2);
            destination.forget();
            world.run().expect(0, (7, 7, 0, 0, 0));
            assert_eq!(destination.count("APPEND"), 0);
            world.verify(&[]).expect(0, (7, 7, 0, 0, 0));
        }
    }
}

#[test]
fn a_folder_that_takes_the_name_of_a_removed_one_is_not_sent_again() {
    for extensions in ["", CHANGES, STATES] {
        let (world, source, destination) = between(with_plans(), extensions, |store| {
            store.folders.retain(|folder| folder.name != b"Work");
            store.folder("Plans").name = b"Work".to_vec();
        });
        world.run().expect(0, (8, 8, 0, 0, 0)).expect_told("FolderRenamed");
        assert_eq!(destination.count("APPEND"), 0, "{extensions}");
        source.store().folder("Work").add(&[], letter("nine"));
        world.run().expect(0, (9, 9, 0, 0, 0));
        assert_eq!(destination.store().folder("Plans").subjects(), ["six", "seven", "eight", "nine"]);
        world.verify(&[]).expect(0, (9, 9, 0, 0, 0));
    }
}

#[test]
fn a_folder_with_another_name_and_another_uidvalidity_is_not_sent_again() {
    for extensions in ["", CHANGES, STATES] {
        let (world, source, destination) = between(with_plans(), extensions, |store| {
            let folder = store.folder("Plans");
            folder.name = b"Ideas".to_vec();
            folder.uidvalidity += 500;
            for letter in &mut folder.letters {
                letter.uid += 10;
            }
            folder.uidnext += 10;
        });
        source.store().folder("Ideas").add(&[], letter("nine"));
        world.run().expect(0, (9, 9, 0, 0, 0));
        assert_eq!(destination.count("APPEND"), 1, "{extensions}");
        assert_eq!(destination.store().folder("Ideas").subjects(), ["six", "seven", "eight", "nine"]);
    }
}

#[test]
fn folders_whose_names_go_round_with_all_below_them_are_not_sent_again() {
    let mut store = Store::standard();
    for name in ["A", "A/x", "B", "B/x", "C"] {
        store.make(name).add(&[], letter(&format!("in {name}")));
    }
    for round in [&[("A", "B"), ("B", "A")][..], &[("A", "B"), ("B", "C"), ("C", "A")]] {
        let (world, _source, destination) = between(store.clone(), STATES, |store| {
            for folder in &mut store.folders {
                let name = folder.unicode();
                let (top, below) = name.split_once('/').map_or((name.as_str(), None), |(t, b)| (t, Some(b)));
                if let Some((_, to)) = round.iter().find(|(from, _)| *from == top) {
                    folder.name = below.map_or((*to).to_owned(), |below| format!("{to}/{below}")).into();
                }
            }
        });
        for _ in 0..2 {
            world.run().expect(0, (10, 10, 0, 0, 0));
            assert_eq!((destination.count("APPEND"), all(&destination).len()), (0, 10), "{round:?}");
        }
        world.verify(&[]).expect(0, (10, 10, 0, 0, 0));
    }
}

#[test]
fn uids_that_are_given_anew_in_a_folder_that_grew_lose_nothing() {
    for extensions in ["", CHANGES, STATES] {
        let (world, _source, destination) = between(Store::standard(), extensions, |store| {
            let folder = store.folder("INBOX");
            folder.letters.remove(0);
            for name in ["new one", "new two", "new three"] {
                folder.add(&[], letter(name));
            }
            // The server lost its numbers, and what it says of changes knows of none of this.
            folder.uidnext = 1;
            for letter in &mut folder.letters {
                letter.uid = folder.uidnext;
                letter.modseq = 1;
                folder.uidnext += 1;
            }
        });
        world.run().expect(0, (8, 8, 0, 0, 0));
        let there = ["one", "two", "three", "new one", "new two", "new three"];
        assert_eq!(destination.store().folder("INBOX").subjects(), there, "{extensions}");
    }
}

#[test]
fn names_that_go_round_survive_a_kill_at_every_step() {
    let run = |die_at: Option<u64>, steps: Option<&std::path::Path>| {
        let (world, _source, destination) =
            between(with_plans(), STATES, |store| swap(store, "Work", "Plans"));
        let mut command = world.ferry.command("run", &[]);
        if let Some(step) = die_at {
            command.env("MAILFERRY_DIE_AT", step.to_string());
        }
        if let Some(steps) = steps {
            command.env("MAILFERRY_STEPS_FILE", steps);
        }
        command.output().unwrap();
        let outcome = world.run();
        assert_eq!((outcome.ended.code, outcome.counts), (0, (8, 8, 0, 0, 0)), "{die_at:?}: {outcome:#?}");
        assert_eq!(destination.count("APPEND"), 0, "{die_at:?}");
    };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("steps");
    run(None, Some(&file));
    let steps: u64 = std::fs::read_to_string(&file).unwrap().parse().unwrap();
    assert!(steps > 10, "{steps}");
    std::thread::scope(|scope| {
        for worker in 1..=4 {
            scope.spawn(move || (worker..=steps).step_by(4).for_each(|step| run(Some(step), None)));
        }
    });
}
