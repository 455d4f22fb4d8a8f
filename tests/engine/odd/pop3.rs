//! POP3 servers that do not do what they offer, or what RFC 1939 asks of them.

use std::collections::BTreeSet;
use std::slice::from_ref;

use crate::odd::world::{ADMIN, ANNA, NEW, World, lies_in, lying};
use crate::support::corpus::Message;
use crate::support::dovecot::{Dovecot, LOOPBACK, User};
use crate::support::script::bend::End;
use crate::support::script::store::letter;
use crate::support::script::{Answer, PASSWORD, Reaction, Script, Store};

/// A maildrop of four letters; the second has lines that begin with a dot.
fn with_dots(lines: &str) -> Store {
    let mut store = Store::empty();
    let inbox = store.folder("INBOX");
    for subject in ["one", "two", "three", "four"] {
        let more = if subject == "two" { lines } else { "" };
        inbox.add(&[], format!("{}{more}", letter(subject)));
    }
    store
}

/// A line of one dot in the middle.
const LONE_DOT: &str = "before\r\n.\r\nbehind\r\n";

/// Takes away the dots that a server puts before lines.
fn unstuffed() -> Reaction {
    Reaction::edit(|answer: &mut Answer| {
        let last = answer.responses.len().saturating_sub(1);
        for line in &mut answer.responses[..last] {
            if line.starts_with(b"..") {
                line.remove(0);
            }
        }
    })
}

/// Stops the test unless INBOX holds the source's messages, byte for byte and each once.
#[track_caller]
fn assert_arrived(source: &Script, destination: &Script) {
    let bytes = |script: &Script| {
        let mut all: Vec<Vec<u8>> =
            script.store().folder("INBOX").letters.iter().map(|letter| letter.bytes.clone()).collect();
        all.sort();
        all
    };
    assert!(bytes(source) == bytes(destination), "{:?}", lies_in(destination));
}

#[test]
fn where_top_does_not_mark_dots_messages_come_by_retr() {
    for lines in [LONE_DOT, ".leading\r\n..\r\n", ".\r\n", "a\r\n.\r\n.\r\n.b\r\n"] {
        let (source, destination) = (Script::pop3(with_dots(lines)), Script::imap(Store::empty()));
        source.on("TOP", unstuffed());
        let world = World::pop3(&source, &destination);
        world.run().expect(0, (4, 4, 0, 0, 0));
        assert_arrived(&source, &destination);
    }
}

#[test]
fn an_answer_that_nothing_was_asked_for_is_taken_for_no_other() {
    // GreenMail answers RSET with two lines.
    let twice = || {
        Reaction::edit(|answer: &mut Answer| {
            answer.responses.push(b"+OK maildrop has 4 messages\r\n".to_vec());
        })
    };
    for lacks in ["", "TOP", "PIPELINING"] {
        let (source, destination) = (Script::pop3(with_dots("")), Script::imap(Store::empty()));
        source.on("RSET", twice());
        if !lacks.is_empty() {
            source.without(lacks);
        }
        let world = World::pop3(&source, &destination);
        world.run().expect(0, (4, 4, 0, 0, 0));
        assert_arrived(&source, &destination);
        world.verify(&["--depth", "Full"]).expect(0, (4, 4, 0, 0, 0));
    }
}

#[test]
fn a_message_that_is_listed_with_less_than_nothing_is_carried() {
    let (source, destination) = (Script::pop3(with_dots("")), Script::imap(Store::empty()));
    // GreenMail counts bodies alone, and -1 where there is none.
    source.on(
        "LIST",
        Reaction::edit(|answer: &mut Answer| {
            for line in &mut answer.responses {
                if line.starts_with(b"2 ") {
                    *line = b"2 -1\r\n".to_vec();
                }
            }
        }),
    );
    World::pop3(&source, &destination).run().expect(0, (4, 4, 0, 0, 0));
    assert_arrived(&source, &destination);
}

#[test]
fn where_nothing_marks_dots_the_message_that_ends_within_itself_is_named() {
    let (source, destination) = (Script::pop3(with_dots(LONE_DOT)), Script::imap(Store::empty()));
    source.on("TOP", unstuffed()).on("RETR", unstuffed());
    let world = World::pop3(&source, &destination);
    let outcome = world.run();
    assert_eq!(outcome.counts, (4, 3, 0, 1, 0), "{outcome:#?}");
    outcome.expect_told("ends too early");
    // The session that it broke had others under way, so the order is not theirs.
    let mut there = lies_in(&destination);
    for subjects in there.values_mut() {
        subjects.sort();
    }
    assert_eq!(there, lying(&[("INBOX", &["four", "one", "three"])]));
}

#[test]
fn where_nothing_marks_dots_lines_with_more_than_a_dot_arrive_as_they_are() {
    for lines in [".leading\r\n", ".leading\r\n..two\r\n...\r\n"] {
        let (source, destination) = (Script::pop3(with_dots(lines)), Script::imap(Store::empty()));
        source.on("TOP", unstuffed()).on("RETR", unstuffed());
        World::pop3(&source, &destination).run().expect(0, (4, 4, 0, 0, 0));
        assert_arrived(&source, &destination);
    }
}

#[test]
fn a_maildrop_that_is_busy_is_tried_again_and_is_no_wrong_password() {
    for words in ["mailbox locked by another session", "Temporary authentication failure"] {
        let (source, destination) = (Script::pop3(Store::standard()), Script::imap(Store::empty()));
        source.without("SASL PLAIN").on_first(3, "PASS", Reaction::err(words));
        let world = World::pop3(&source, &destination);
        // More refusals than a password would be tried for in a day.
        let last = (0..6).map(|_| world.run()).find(|outcome| {
            assert_ne!(outcome.ended.code, 21, "{words}: {outcome:#?}");
            outcome.ended.code == 0
        });
        last.unwrap_or_else(|| panic!("{words}")).expect(0, (3, 3, 0, 0, 0));
    }
}

#[test]
fn a_mechanism_that_is_offered_and_does_not_work_is_passed_over() {
    let (source, destination) = (Script::pop3(Store::standard()), Script::imap(Store::empty()));
    source.on("AUTH", Reaction::err("Unrecognized authentication mechanism"));
    World::pop3(&source, &destination).run().expect(0, (3, 3, 0, 0, 0));
}

#[test]
fn nothing_of_a_login_is_repeated() {
    let (source, destination) = (Script::pop3(Store::standard()), Script::imap(Store::empty()));
    source.bend(|command| {
        let is_login = matches!(command.verb.as_str(), "AUTH" | "PASS" | "RESPONSE");
        is_login.then(|| Reaction::err(&format!("no such thing: {}", command.text)))
    });
    for capabilities in ["USER, UIDL, TOP, SASL PLAIN", "USER, UIDL, TOP"] {
        source.capabilities(capabilities);
        let world = World::pop3(&source, &destination);
        let outcome = world.run();
        outcome.expect(21, (0, 0, 0, 0, 0)).expect_told("no such thing");
        let plain = crate::support::canary::Canary::new(PASSWORD, &[ANNA]);
        crate::support::canary::assert_clean(&[plain], capabilities, outcome.everything().as_bytes());
    }
}

/// A maildrop of four letters of many lines, the last the longest.
fn long_letters() -> Store {
    let mut store = Store::empty();
    for (subject, lines) in [("one", 30), ("two", 60), ("three", 90), ("four", 400)] {
        store.folder("INBOX").add(&[], format!("{}{}", letter(subject), "a line of text\r\n".repeat(lines)));
    }
    store
}

/// TOP gives no more than so many lines in all, whatever it is asked for.
fn bound_top(source: &Script, lines: usize) {
    source.on(
        "TOP",
        Reaction::edit(move |answer| {
            let end = answer.responses.pop().unwrap();
            answer.responses.truncate(1 + lines);
            answer.responses.push(end);
        }),
    );
}

#[test]
fn what_top_leaves_out_comes_by_retr_whatever_sizes_are_announced() {
    // Sizes that are far too small, nearly those of the part that TOP gives, and sizes without the ends of lines. One of just
    // the part would be the only proof that is left, since RETR marks messages where nothing takes that back.
    for size in [|_: usize, _: usize| 10, |_, given| given - 1, |whole, _| whole - whole / 16] {
        for lines in [5, 20, 50, 300] {
            let (source, destination) = (Script::pop3(long_letters()), Script::imap(Store::empty()));
            bound_top(&source, lines);
            let sizes: Vec<String> = source
                .store()
                .folder("INBOX")
                .letters
                .iter()
                .map(|letter| {
                    let text = String::from_utf8_lossy(&letter.bytes).into_owned();
                    let given: usize = text.split_inclusive('\n').take(lines).map(str::len).sum();
                    size(text.len(), given).to_string()
                })
                .collect();
            let list: Vec<String> = (1..).zip(&sizes).map(|(at, size)| format!("{at} {size}\r\n")).collect();
            source.on("LIST", Reaction::say(format!("+OK\r\n{}.\r\n", list.concat())));
            World::pop3(&source, &destination).run().expect(0, (4, 4, 0, 0, 0));
            assert_arrived(&source, &destination);
        }
    }
}

#[test]
fn odd_unique_ids_are_names_like_others() {
    let mut store = Store::empty();
    let long = vec![b'x'; 200];
    let longer = vec![b'y'; 2000];
    let ids: [&[u8]; 8] =
        [b"plain", b"a b", b"a c", &long, &longer, b"\xfcber", b"\xf6ber", "\u{fc}ber".as_bytes()];
    for (at, id) in ids.iter().enumerate() {
        let uid = store.folder("INBOX").add(&[], letter(&format!("letter {at}")));
        store.folder("INBOX").letter(uid).uidl = Some(id.to_vec());
    }
    let (source, destination) = (Script::pop3(store), Script::imap(Store::empty()));
    let world = World::pop3(&source, &destination);
    world.run().expect(0, (8, 8, 0, 0, 0));
    // One of them goes, and the others are still themselves.
    source.store().folder("INBOX").remove(7);
    destination.forget();
    world.run().expect(0, (8, 8, 0, 0, 0));
    assert_eq!(destination.count("APPEND"), 0);
}

#[test]
fn nothing_is_marked_as_read_at_a_server_that_shares_its_mail_with_imap() {
    let builder = || Dovecot::builder().imap(LOOPBACK).pop3(LOOPBACK);
    let source = builder().user(User::new(ANNA, PASSWORD)).start();
    let destination = builder().user(User::new(NEW, PASSWORD)).master(ADMIN, PASSWORD).start();
    source.mailbox(ANNA).seed(["one", "two", "three"].map(|subject| Message {
        folder: "INBOX".to_owned(),
        flags: Vec::new(),
        internal_date: "07-Mar-2019 08:15:42 +0100".to_owned(),
        bytes: letter(subject).into_bytes(),
    }));
    World::between("POP3", source.pop3(), destination.imap()).run().expect(0, (3, 3, 0, 0, 0));
    let mut flags = BTreeSet::new();
    source.mailbox(ANNA).read_folder("INBOX", |row, _| flags.extend(row.flags));
    assert!(flags.is_empty(), "{flags:?}");
}

#[test]
fn a_line_of_a_list_that_is_too_long_hides_no_other_message() {
    let (source, destination) = (Script::pop3(Store::standard()), Script::imap(Store::empty()));
    source.store().folder("INBOX").letter(2).uidl = Some(vec![b'x'; 6_000]);
    let world = World::pop3(&source, &destination);
    for _ in 0..2 {
        world.run().expect(0, (3, 3, 0, 0, 0));
        assert_eq!(lies_in(&destination), lying(&[("INBOX", &["one", "two", "three"])]));
    }
}

#[test]
fn messages_that_are_counted_and_not_listed_are_no_empty_maildrop() {
    let (source, destination) = (Script::pop3(Store::standard()), Script::imap(Store::empty()));
    source.on("STAT", Reaction::say("+OK 7 1400\r\n"));
    source.on("UIDL", Reaction::say("+OK\r\n.\r\n")).on("LIST", Reaction::say("+OK\r\n.\r\n"));
    let outcome = World::pop3(&source, &destination).run();
    assert_eq!(outcome.counts, (7, 0, 0, 7, 0), "{outcome:#?}");
    outcome.expect_told("7 messages could not be carried");
}

#[test]
fn listings_that_disagree_bring_what_both_name() {
    let (source, destination) = (Script::pop3(Store::standard()), Script::imap(Store::empty()));
    source.on("UIDL", Reaction::edit(|answer| answer.leave_out("2 ")));
    let outcome = World::pop3(&source, &destination).run();
    assert_eq!((outcome.counts.0, outcome.counts.1), (3, 2), "{outcome:#?}");
    assert_eq!(lies_in(&destination), lying(&[("INBOX", &["one", "three"])]));
}

#[test]
fn a_unique_id_that_is_given_again_does_not_hide_another_message() {
    let (source, destination) = (Script::pop3(Store::standard()), Script::imap(Store::empty()));
    source.store().folder("INBOX").letter(3).uidl = Some(b"again".to_vec());
    let world = World::pop3(&source, &destination);
    world.run().expect(0, (3, 3, 0, 0, 0));
    source.store().folder("INBOX").remove(3);
    let new = source.store().folder("INBOX").add(&[], format!("{}and more of it\r\n", letter("another")));
    source.store().folder("INBOX").letter(new).uidl = Some(b"again".to_vec());
    world.run();
    assert_eq!(lies_in(&destination), lying(&[("INBOX", &["one", "two", "three", "another"])]));
}

/// A letter under a unique id.
fn under(subject: &str, more: &str, id: &str) -> (String, Vec<u8>) {
    (format!("{}{more}", letter(subject)), id.as_bytes().to_vec())
}

/// Sets the messages that the maildrop holds from now on.
fn hold(source: &Script, letters: &[(String, Vec<u8>)]) {
    let mut store = source.store();
    let inbox = store.folder("INBOX");
    while !inbox.letters.is_empty() {
        let uid = inbox.letters[0].uid;
        inbox.remove(uid);
    }
    for (text, id) in letters {
        let uid = inbox.add(&[], text.clone());
        inbox.letter(uid).uidl = Some(id.clone());
    }
}

/// Runs over one maildrop after another, and stops the test unless each message arrives once and is counted once: all that
/// was ever held, `copied` of them.
#[track_caller]
fn carry_each_once(maildrops: &[&[(String, Vec<u8>)]], copied: &[u64], lie: &[&str]) {
    let (source, destination) = (Script::pop3(Store::standard()), Script::imap(Store::empty()));
    let world = World::pop3(&source, &destination);
    let mut before = 0;
    for (at, (maildrop, copied)) in maildrops.iter().zip(copied).enumerate() {
        hold(&source, maildrop);
        let outcome = world.run();
        assert_eq!((outcome.ended.code, outcome.counts), (0, (*copied, *copied, 0, 0, 0)), "pass {at}");
        // Some of what it holds was known under other ids.
        let renamed = at > 0 && *copied < before + maildrop.len() as u64;
        let told = outcome.findings.iter().any(|finding| finding.starts_with("UniqueIdsChange"));
        assert!(told || !renamed, "pass {at}: {:?}", outcome.findings);
        before = *copied;
    }
    let mut there = lies_in(&destination);
    for subjects in there.values_mut() {
        subjects.sort();
    }
    assert_eq!(there, lying(&[("INBOX", lie)]));
}

#[test]
fn unique_ids_that_change_double_nothing() {
    let named = |ids: [&str; 4]| {
        let subjects = ["four", "one", "three", "two"];
        subjects.iter().zip(ids).map(|(subject, id)| under(subject, "", id)).collect::<Vec<_>>()
    };
    let (first, second) = (named(["a", "b", "c", "d"]), named(["e", "f", "g", "h"]));
    let mut third = named(["i", "j", "k", "l"]);
    third.push(under("zero", "", "m"));
    let lie = ["four", "one", "three", "two", "zero"];
    carry_each_once(&[&first, &second, &third], &[4, 4, 5], &lie);
    // Some keep their ids, some do not; and a maildrop that shows nothing in between.
    carry_each_once(&[&first, &named(["a", "b", "y", "z"]), &[], &third], &[4, 4, 4, 5], &lie);
    // The ids are places.
    let places =
        [under("one", "", "1"), under("two", "", "2"), under("three", "", "3"), under("four", "", "4")];
    let moved =
        [under("two", "", "1"), under("three", "", "2"), under("four", "", "3"), under("zero", "", "4")];
    carry_each_once(&[&places, &moved], &[4, 5], &lie);
    // And all sizes are as before.
    let place = |subject: &str, number: usize| under(subject, "", &number.to_string());
    let places = |subjects: &[&str]| -> Vec<_> {
        subjects.iter().zip(1..).map(|(subject, number)| place(subject, number)).collect()
    };
    let (before, after) = (places(&["aaa", "bbb", "ccc"]), places(&["bbb", "ccc", "ddd"]));
    carry_each_once(&[&before, &after], &[3, 4], &["aaa", "bbb", "ccc", "ddd"]);
    carry_each_once(&[&before, &places(&["bbb", "ccc"])], &[3, 3], &["aaa", "bbb", "ccc"]);
}

#[test]
fn unique_ids_that_several_messages_share_lose_and_double_nothing() {
    let [one, two, onf] = [under("one", "", "u"), under("two", "more\r\n", "u"), under("onf", "", "u")];
    let other = under("three", "", "u3");
    carry_each_once(
        &[&[one.clone(), two.clone(), other.clone()], &[two.clone(), other.clone()], from_ref(&two)],
        &[3, 3, 3],
        &["one", "three", "two"],
    );
    // A new one of the same size, in front of the one that had the id.
    carry_each_once(
        &[&[one.clone(), other.clone()], &[onf.clone(), one.clone(), other.clone()]],
        &[2, 3],
        &["one", "onf", "three"],
    );
    // One goes and another one of its size comes.
    let tow = under("tow", "more\r\n", "u");
    carry_each_once(
        &[&[one.clone(), two.clone()], &[tow.clone(), onf.clone()]],
        &[2, 4],
        &["one", "onf", "tow", "two"],
    );
    // An id that is built like the name of the second of two.
    let clash = under("three", "", "u#2");
    carry_each_once(
        &[&[one.clone(), onf.clone(), clash], &[one.clone(), onf.clone()]],
        &[3, 3],
        &["one", "onf", "three"],
    );
    // Two that are the same stay two.
    carry_each_once(
        &[&[one.clone(), one.clone()], &[one.clone(), one.clone()], from_ref(&one)],
        &[2, 2, 2],
        &["one", "one"],
    );
}

#[test]
fn a_message_that_comes_shorter_than_it_is_listed_is_told() {
    let cut = || {
        Reaction::edit(|answer: &mut Answer| {
            let end = answer.responses.pop().unwrap();
            answer.responses.truncate(1 + answer.responses.len() / 2);
            answer.responses.extend([b"-ERR disk error\r\n".to_vec(), end]);
        })
    };
    let run = |times: usize, capabilities: &str| {
        let (source, destination) = (Script::pop3(long_letters()), Script::imap(Store::empty()));
        source.capabilities(capabilities);
        source.on_first(times, "TOP 4", cut()).on_first(times, "RETR 4", cut());
        let outcome = World::pop3(&source, &destination).run();
        outcome.expect(0, (4, 4, 0, 0, 0));
        outcome.tells("bytes and handed out")
    };
    for capabilities in
        ["USER, UIDL, TOP, PIPELINING", "USER, UIDL, TOP", "USER, UIDL, PIPELINING", "USER, UIDL"]
    {
        assert!(run(9, capabilities), "{capabilities}");
        // Without TOP, RETR is asked once more.
        assert!(capabilities.contains("TOP") || !run(1, capabilities), "{capabilities}");
    }
}

#[test]
fn where_the_session_ends_at_top_messages_come_by_retr() {
    for capabilities in ["USER, UIDL, TOP, PIPELINING", "USER, UIDL, TOP"] {
        for which in ["TOP", "TOP 2", "TOP 4"] {
            let (source, destination) = (Script::pop3(long_letters()), Script::imap(Store::empty()));
            source.capabilities(capabilities).on(which, Reaction::close());
            let world = World::pop3(&source, &destination);
            let outcome = world.run();
            outcome.expect(0, (4, 4, 0, 0, 0));
            assert!(!outcome.rows.iter().any(|row| row["verdict"] != "Delivered"), "{which}: {outcome:#?}");
        }
    }
}

#[test]
fn a_server_that_goes_behind_each_message_is_asked_for_the_next_one_anew() {
    for capabilities in ["USER, UIDL, TOP, PIPELINING", "USER, UIDL, TOP", "USER, UIDL"] {
        let (source, destination) = (Script::pop3(long_letters()), Script::imap(Store::empty()));
        source.capabilities(capabilities);
        for command in ["TOP", "RETR"] {
            source.on(command, Reaction::edit(|answer| answer.end = End::Close));
        }
        let world = World::pop3(&source, &destination);
        let outcome = world.run();
        let heard: Vec<String> =
            source.heard().iter().map(|it| format!("{} {}", it.connection, it.text)).collect();
        assert_eq!(outcome.counts, (4, 4, 0, 0, 0), "{capabilities}: {heard:#?}");
    }
}
