//! Servers that leave something unsaid, or say it in another place than others: a folder that one list lacks, a UIDVALIDITY in
//! the line that ends a command, commands of a flight that are swallowed, an `Inbox` beside `INBOX`.

use crate::odd::world::{World, lies_in, lying};
use crate::support::script::store::letter;
use crate::support::script::{Reaction, Script, Store};

const ALL: [(&str, &[&str]); 2] = [("INBOX", &["one", "two", "three"]), ("Work", &["four", "five"])];

fn pair() -> (Script, Script) {
    (Script::imap(Store::standard()), Script::imap(Store::empty()))
}

/// Leaves a folder out of every list.
fn hide(script: &Script, name: &'static str) {
    script.bend(move |command| {
        let lists = matches!(command.verb.as_str(), "LIST" | "LSUB");
        lists.then(|| Reaction::edit(move |answer| answer.leave_out(&format!("\"{name}\""))))
    });
}

#[test]
fn a_folder_that_a_later_list_lacks_is_carried_by_its_name_and_told() {
    for extensions in ["", "LIST-EXTENDED LIST-STATUS CONDSTORE ENABLE ESEARCH"] {
        let (source, destination) = pair();
        source.also(extensions);
        let world = World::imap(&source, &destination);
        // Something of it is left to be carried.
        destination.bend(|command| command.has("Subject: five").then(|| Reaction::no("Over quota")));
        let first = world.run();
        assert!(first.ended.code == 24 && first.counts.4 > 0, "{first:#?}");
        destination.straighten();
        source.store().folder("Work").add(&[], letter("six"));
        hide(&source, "Work");
        let told = world.run();
        told.expect(0, (6, 6, 0, 0, 0)).expect_told("left \\\"Work\\\" out of its list of folders");
        world.verify(&[]).expect(0, (6, 6, 0, 0, 0));
        source.straighten();
        let last = world.run();
        last.expect(0, (6, 6, 0, 0, 0));
        assert!(!last.findings.iter().any(|it| it.starts_with("FoldersUnlisted")), "{last:#?}");
        assert_eq!(destination.store().folder("Work").subjects(), ["four", "five", "six"]);
    }
}

#[test]
fn what_waits_in_a_folder_that_is_not_listed_is_forgotten_when_two_passes_hear_that_it_is_gone() {
    let (source, destination) = pair();
    let world = World::imap(&source, &destination);
    destination.bend(|command| command.has("Subject: five").then(|| Reaction::no("Over quota")));
    world.run();
    destination.straighten();
    source.on("EXAMINE Work", Reaction::no("[NONEXISTENT] no such folder"));
    hide(&source, "Work");
    let once = world.run();
    assert_eq!((once.ended.code, once.counts), (22, (5, 4, 0, 0, 1)), "{once:#?}");
    once.expect_told("no longer lists the folder");
    // It was the session that did not know it.
    source.straighten();
    world.run().expect(0, (5, 5, 0, 0, 0));
    assert_eq!(lies_in(&destination), lying(&ALL));
    // A folder that is gone for good.
    source.store().folder("Work").add(&[], letter("six"));
    destination.bend(|command| command.has("Subject: six").then(|| Reaction::no("Over quota")));
    world.run();
    destination.straighten();
    source.store().folders.retain(|folder| folder.name != b"Work");
    assert_eq!(world.run().ended.code, 22);
    world.run().expect(0, (5, 5, 0, 0, 0));
}

#[test]
fn a_uidvalidity_in_the_line_that_ends_the_command_is_heard() {
    for extensions in ["", "CONDSTORE ENABLE ESEARCH"] {
        let (source, destination) = pair();
        for server in [&source, &destination] {
            server.also(extensions).bend(|command| {
                let opens = matches!(command.verb.as_str(), "EXAMINE" | "SELECT");
                opens.then(|| {
                    Reaction::edit(|answer| {
                        let is_it = |line: &&Vec<u8>| String::from_utf8_lossy(line).contains("[UIDVALIDITY");
                        let Some(line) = answer.responses.iter().find(is_it) else { return };
                        let text = String::from_utf8_lossy(line).into_owned();
                        let code = text["* OK ".len()..].split(']').next().unwrap().to_owned();
                        answer.leave_out("[UIDVALIDITY");
                        for mode in ["[READ-ONLY]", "[READ-WRITE]"] {
                            answer.replace(mode, format!("{code}]"));
                        }
                    })
                })
            });
        }
        let world = World::imap(&source, &destination);
        world.run().expect(0, (5, 5, 0, 0, 0));
        source.store().folder("Work").add(&[], letter("six"));
        world.run().expect(0, (6, 6, 0, 0, 0));
        world.verify(&[]).expect(0, (6, 6, 0, 0, 0));
    }
}

#[test]
fn commands_of_a_flight_that_are_swallowed_are_given_one_by_one_in_the_next_session() {
    let (source, destination) = pair();
    // The first session: what comes behind the first command of the flight is never answered.
    source.bend(|command| {
        (command.verb == "LIST" && command.times == 0 && command.has("*")).then(Reaction::silence)
    });
    let world = World::imap(&source, &destination);
    let outcome = world.run();
    outcome.expect(0, (5, 5, 0, 0, 0));
    assert_eq!(lies_in(&destination), lying(&ALL));
    assert!(world.ferry.report("html").contains("fails at pipelining"), "{outcome:#?}");
}

#[test]
fn an_inbox_in_other_letters_is_another_folder_where_it_holds_other_mail() {
    let (source, destination) = pair();
    source.store().create(b"Inbox").add(&[], letter("six"));
    let world = World::imap(&source, &destination);
    world.run().expect(0, (6, 6, 0, 0, 0)).expect_told("FolderRenamed");
    let lies = lies_in(&destination);
    assert_eq!(lies["INBOX"], ["one", "two", "three"], "{lies:?}");
    assert_eq!(lies["INBOX (2)"], ["six"], "{lies:?}");
    destination.forget();
    world.run().expect(0, (6, 6, 0, 0, 0));
    assert_eq!(destination.count("APPEND"), 0);
    world.verify(&[]).expect(0, (6, 6, 0, 0, 0));
}

#[test]
fn an_inbox_that_is_listed_in_two_spellings_is_one() {
    let (source, destination) = pair();
    source.bend(|command| {
        (command.verb == "LIST" && command.has("*"))
            .then(|| Reaction::edit(|answer| answer.before("* LIST () \"/\" Inbox\r\n")))
    });
    let world = World::imap(&source, &destination);
    world.run().expect(0, (5, 5, 0, 0, 0));
    assert_eq!(lies_in(&destination), lying(&ALL));
}
