//! Single messages that a source hands out in an odd way: each is carried, or counted and named, and the others arrive.

use crate::odd::world::{Outcome, World, lies_in, lying};
use crate::support::script::store::letter;
use crate::support::script::{Answer, Reaction, Script, Store};

/// Runs from a source that changes what it says of the message with the UID 2 of INBOX, whenever it is asked for bodies.
fn run_with(edit: impl Fn(&mut Answer) + Send + Sync + Clone + 'static) -> (Outcome, Script) {
    let (source, destination) = (Script::imap(Store::standard()), Script::imap(Store::empty()));
    source.bend(move |command| {
        let is_it = command.wants_bodies() && command.folder.as_deref() == Some("INBOX");
        is_it.then(|| Reaction::edit(edit.clone()))
    });
    let outcome = World::imap(&source, &destination).run();
    (outcome, destination)
}

/// Replaces the whole FETCH response with the UID 2, where there is one.
fn instead(answer: &mut Answer, with: impl AsRef<[u8]>) {
    if let Some(response) = answer.fetched(2) {
        *response = with.as_ref().to_vec();
    }
}

/// Stops the test unless all but the second message of INBOX arrived, and that one is named for this reason.
#[track_caller]
fn expect_all_but_the_second(outcome: &Outcome, destination: &Script, why: &str) {
    outcome.expect(outcome.ended.code, (5, 4, 0, 1, 0)).expect_told(why);
    let all = [("INBOX", &["one", "three"][..]), ("Work", &["four", "five"])];
    assert_eq!(lies_in(destination), lying(&all));
}

#[test]
fn a_message_that_comes_as_nothing_is_counted_and_named() {
    for nothing in [
        "* 2 FETCH (UID 2 BODY[] NIL)\r\n",
        "* 2 FETCH (UID 2 BODY[] \"\")\r\n",
        "* 2 FETCH (UID 2 BODY[] {0}\r\n)\r\n",
        "",
    ] {
        let (outcome, destination) = run_with(move |answer| instead(answer, nothing));
        expect_all_but_the_second(&outcome, &destination, "hands out nothing for it");
    }
}

#[test]
fn a_message_that_is_gone_by_the_time_it_is_fetched_is_no_failure() {
    let (source, destination) = (Script::imap(Store::standard()), Script::imap(Store::empty()));
    source.bend(|command| {
        let is_it = command.folder.as_deref() == Some("INBOX")
            && command.verb == "UID FETCH"
            && (command.times > 0 || !command.has("INTERNALDATE"));
        is_it.then(|| Reaction::edit(|answer| answer.leave_out("(UID 2 ")))
    });
    World::imap(&source, &destination).run().expect(0, (4, 4, 0, 0, 0));
}

#[test]
fn a_message_that_comes_when_it_is_asked_for_alone_arrives() {
    let (source, destination) = (Script::imap(Store::standard()), Script::imap(Store::empty()));
    source.bend(|command| {
        let is_in_company = command.wants_bodies() && !command.is("UID FETCH 2");
        is_in_company.then(|| Reaction::edit(|answer| instead(answer, "* 2 FETCH (UID 2 BODY[] NIL)\r\n")))
    });
    World::imap(&source, &destination).run().expect(0, (5, 5, 0, 0, 0));
    assert_eq!(lies_in(&destination)["INBOX"].len(), 3);
}

#[test]
fn a_message_that_is_refused_again_and_again_is_named_with_the_servers_words() {
    for refusal in ["NO [SERVERBUG] it broke", "NO this one cannot be read", "BAD this one cannot be read"] {
        let (source, destination) = (Script::imap(Store::standard()), Script::imap(Store::empty()));
        source.bend(move |command| {
            let is_it = command.wants_bodies()
                && command.folder.as_deref() == Some("INBOX")
                && ["1:3", "1:2", "2:3", "2", "1,2", "2,3"]
                    .iter()
                    .any(|set| command.is(&format!("UID FETCH {set}")));
            is_it.then(|| Reaction::say(format!("{{tag}} {refusal}\r\n")))
        });
        let outcome = World::imap(&source, &destination).run();
        expect_all_but_the_second(&outcome, &destination, refusal.split_once(' ').unwrap().1);
    }
}

#[test]
fn a_notice_in_place_of_a_message_is_not_taken_for_it() {
    let (source, destination) = (Script::imap(Store::standard()), Script::imap(Store::empty()));
    let large = format!("{}{}", letter("large"), "all of it\r\n".repeat(30_000));
    source.store().folder("INBOX").letter(2).bytes = large.into_bytes();
    let notice = "From: Microsoft Exchange Server 2010\r\n\
                  Subject: Retrieval using the IMAP4 protocol failed for the following message: 2\r\n\r\n\
                  The server couldn't retrieve the following message.\r\n";
    source.bend(move |command| {
        let response = format!("* 2 FETCH (UID 2 BODY[] {{{}}}\r\n{notice})\r\n", notice.len());
        let is_it = command.wants_bodies() && command.folder.as_deref() == Some("INBOX");
        is_it.then(|| Reaction::edit(move |answer| instead(answer, &response)))
    });
    let outcome = World::imap(&source, &destination).run();
    expect_all_but_the_second(&outcome, &destination, "a notice of its own in place of the message");
}

#[test]
fn a_message_of_which_little_is_handed_out_is_told_as_altered() {
    let (source, destination) = (Script::imap(Store::standard()), Script::imap(Store::empty()));
    source.bend(|command| {
        let lists = command.verb == "UID FETCH" && command.has("RFC822.SIZE");
        let edit = |answer: &mut Answer| {
            if let Some(response) = answer.fetched(2) {
                let text = String::from_utf8_lossy(response).into_owned();
                let (head, tail) = text.split_once("RFC822.SIZE ").unwrap();
                let end = tail.find([' ', ')']).unwrap();
                *response = format!("{head}RFC822.SIZE 348830{}", &tail[end..]).into_bytes();
            }
        };
        lists.then(|| Reaction::edit(edit))
    });
    let outcome = World::imap(&source, &destination).run();
    outcome.expect(0, (5, 5, 0, 0, 0)).expect_told("lists it with 348830 bytes and handed out");
}

#[test]
fn a_body_under_another_uid_is_filed_under_none() {
    let letter_two = letter("two");
    let as_message =
        |uid: &str| format!("* 2 FETCH ({uid}BODY[] {{{}}}\r\n{letter_two})\r\n", letter_two.len());
    for uid in ["UID 3 ", "UID 1 ", "UID 77 "] {
        let response = as_message(uid);
        let (outcome, destination) = run_with(move |answer| instead(answer, &response));
        expect_all_but_the_second(&outcome, &destination, "in its place");
    }
    // Nothing but its size tells that it is the one that was asked for.
    let response = as_message("");
    let (outcome, destination) = run_with(move |answer| instead(answer, &response));
    outcome.expect(0, (5, 5, 0, 0, 0));
    assert_eq!(lies_in(&destination)["INBOX"].len(), 3);
}

#[test]
fn bodies_that_come_twice_or_unasked_or_larger_than_listed_arrive_once() {
    let letter_two = letter("two");
    let second = format!("* 2 FETCH (UID 2 BODY[] {{{}}}\r\n{letter_two})\r\n", letter_two.len());
    let twice = {
        let second = second.clone();
        move |answer: &mut Answer| instead(answer, second.repeat(2))
    };
    let unasked = move |answer: &mut Answer| answer.before(&second);
    let longer = |answer: &mut Answer| {
        let text = format!("{}{}", letter("two"), "and more\r\n".repeat(40));
        instead(answer, format!("* 2 FETCH (UID 2 BODY[] {{{}}}\r\n{text})\r\n", text.len()));
    };
    for (outcome, destination) in [run_with(twice), run_with(unasked), run_with(longer)] {
        outcome.expect(0, (5, 5, 0, 0, 0));
        let mut inbox = lies_in(&destination)["INBOX"].clone();
        inbox.sort_unstable();
        assert_eq!(inbox, ["one", "three", "two"]);
    }
}

#[test]
fn two_messages_of_one_size_under_one_uid_are_told_apart_or_named() {
    let as_second = |subject: &str| {
        let text = letter(subject);
        format!("* 2 FETCH (UID 2 BODY[] {{{}}}\r\n{text})\r\n", text.len())
    };
    let (right, wrong) = (as_second("two"), as_second("owt"));
    for (first, second) in [(&right, &wrong), (&wrong, &right)] {
        // Alone it comes as it is, or again so.
        for always in [false, true] {
            let (source, destination) = (Script::imap(Store::standard()), Script::imap(Store::empty()));
            let both = format!("{first}{second}");
            source.bend(move |command| {
                let is_it = command.wants_bodies() && command.folder.as_deref() == Some("INBOX");
                let both = both.clone();
                (is_it && (always || !command.is("UID FETCH 2")))
                    .then(|| Reaction::edit(move |answer| instead(answer, &both)))
            });
            let world = World::imap(&source, &destination);
            let outcome = world.run();
            let is_proven = !always && first == &right;
            if is_proven {
                outcome.expect(0, (5, 5, 0, 0, 0));
            } else {
                outcome.expect(25, (5, 4, 0, 1, 0)).expect_told("hands out different messages under its UID");
            }
            source.straighten();
            world.run().expect(0, (5, 5, 0, 0, 0));
            let inbox = lies_in(&destination)["INBOX"].clone();
            assert!(inbox.contains(&"two".to_owned()), "{inbox:?}");
        }
    }
}

#[test]
fn a_keyword_with_a_line_break_becomes_no_command() {
    for also in ["", "MULTIAPPEND"] {
        let (source, destination) = (Script::imap(Store::standard()), Script::imap(Store::empty()));
        destination.also(also);
        destination.store().make("Folder");
        let evil = "\r\n\r\nX DELETE Folder\r\n";
        source.bend(move |command| {
            let lists = command.verb == "UID FETCH" && command.has("FLAGS");
            let flags = format!("FLAGS ({{{}}}\r\n{evil} $Label1 \"a b\" caf\u{e9}", evil.len());
            lists.then(|| Reaction::replace("FLAGS (", &format!("{flags} ")))
        });
        let outcome = World::imap(&source, &destination).run();
        outcome.expect(0, (5, 5, 0, 0, 0)).expect_told("\\Unreadable");
        let known = [
            "CAPABILITY",
            "AUTHENTICATE",
            "LOGIN",
            "ID",
            "NAMESPACE",
            "LIST",
            "LSUB",
            "STATUS",
            "CREATE",
            "SUBSCRIBE",
            "SELECT",
            "EXAMINE",
            "APPEND",
            "UID FETCH",
            "UID STORE",
            "UID SEARCH",
            "NOOP",
            "LOGOUT",
            "ENABLE",
            "CLOSE",
            "UNSELECT",
            "GETQUOTAROOT",
        ];
        for command in destination.heard() {
            assert!(known.contains(&command.verb.as_str()), "{command:?}");
        }
        assert!(destination.store().names().contains(&"Folder".to_owned()));
        let flags = destination.store().folder("INBOX").letters[0].flags.clone();
        assert_eq!(flags, ["$Label1", "\\Seen"]);
    }
}

/// Announces and hands out so many bytes of the second message and no more.
fn cut_short(answer: &mut Answer, keep: usize) {
    if let Some(response) = answer.fetched(2) {
        let text = String::from_utf8_lossy(response).into_owned();
        let (_, literal) = text.split_once("}\r\n").unwrap();
        *response = format!("* 2 FETCH (UID 2 BODY[] {{{keep}}}\r\n{})\r\n", &literal[..keep]).into_bytes();
    }
}

#[test]
fn a_message_that_comes_shorter_than_it_is_listed_is_asked_for_once_more_and_told() {
    // In hundredths.
    for (keep, times) in [(20, 1), (50, 1), (97, 1), (20, 9), (50, 9), (97, 9)] {
        let (source, destination) = (Script::imap(Store::standard()), Script::imap(Store::empty()));
        let large = format!("{}{}", letter("two"), "all of it\r\n".repeat(3000));
        let cut = large.len() * keep / 100;
        source.store().folder("INBOX").letter(2).bytes = large.clone().into_bytes();
        source.bend(move |command| {
            let is_it = command.wants_bodies() && command.folder.as_deref() == Some("INBOX");
            (is_it && command.times < times).then(|| Reaction::edit(move |answer| cut_short(answer, cut)))
        });
        let outcome = World::imap(&source, &destination).run();
        outcome.expect(0, (5, 5, 0, 0, 0));
        let told = format!("lists it with {} bytes and handed out {cut}", large.len());
        // A difference that 3,000 line ends can explain is not asked for again, and is reported where the other sizes
        // are right.
        let came_whole = times == 1 && keep < 90;
        assert_eq!(outcome.tells(&told), !came_whole, "{keep} {times}: {outcome:#?}");
    }
}

#[test]
fn sizes_that_are_guesses_are_no_news() {
    let (source, destination) = (Script::imap(Store::standard()), Script::imap(Store::empty()));
    for subject in ["six", "seven", "eight", "nine", "ten"] {
        source.store().folder("INBOX").add(&[], format!("{}{}", letter(subject), "text\r\n".repeat(50)));
    }
    source.bend(|command| {
        let lists = command.verb == "UID FETCH" && command.has("RFC822.SIZE");
        let guess = |answer: &mut Answer| {
            for response in &mut answer.responses {
                let text = String::from_utf8_lossy(response).into_owned();
                let Some((head, tail)) = text.split_once("RFC822.SIZE ") else { continue };
                let end = tail.find([' ', ')']).unwrap();
                let size: usize = tail[..end].parse().unwrap();
                *response = format!("{head}RFC822.SIZE {}{}", size + size / 5, &tail[end..]).into_bytes();
            }
        };
        lists.then(|| Reaction::edit(guess))
    });
    let outcome = World::imap(&source, &destination).run();
    outcome.expect(0, (10, 10, 0, 0, 0));
    assert!(!outcome.tells("handed out"), "{outcome:#?}");
    // Three are asked for in vain, in each folder that is open at the same time.
    let alone = source.heard().iter().filter(|it| it.wants_bodies() && !it.has(":") && !it.has(",")).count();
    assert!(alone <= 8, "{alone}");
}
