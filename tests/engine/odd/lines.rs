//! Odd lines, lists and counts of a source: what can be read is carried, what cannot is counted, and a word too much or too
//! little stops nothing else.

use crate::odd::world::{Outcome, World, lies_in, lying};
use crate::support::script::store::letter;
use crate::support::script::{Answer, Command, Reaction, Script, Store};

/// All of [`Store::standard`].
const ALL: [(&str, &[&str]); 2] = [("INBOX", &["one", "two", "three"]), ("Work", &["four", "five"])];

fn pair() -> (Script, Script) {
    (Script::imap(Store::standard()), Script::imap(Store::empty()))
}

fn lists(command: &Command) -> bool {
    command.verb == "UID FETCH" && !command.wants_bodies()
}

fn is_in(command: &Command, folder: &str) -> bool {
    command.folder.as_deref() == Some(folder)
}

/// Changes what the source says of the message with the UID 2 of INBOX in lists.
fn change_the_row(source: &Script, change: impl Fn(&str) -> String + Send + Sync + Clone + 'static) {
    source.bend(move |command| {
        let change = change.clone();
        let edit = move |answer: &mut Answer| {
            if let Some(response) = answer.fetched(2) {
                *response = change(&String::from_utf8_lossy(response)).into_bytes();
            }
        };
        (lists(command) && is_in(command, "INBOX")).then(|| Reaction::edit(edit))
    });
}

/// The row without what begins with a word and ends with the next blank or the end of the list; `with` is put there
/// instead.
fn replace_item(row: &str, word: &str, with: &str) -> String {
    let Some((head, tail)) = row.split_once(word) else { return row.to_owned() };
    let tail = tail.trim_start_matches("() ");
    let end = if word == "FLAGS " { 0 } else { tail.find([' ', ')']).unwrap() };
    format!("{head}{with}{}", &tail[end..])
}

#[track_caller]
fn expect_all(outcome: &Outcome, destination: &Script) {
    outcome.expect(0, (5, 5, 0, 0, 0));
    let mut there = lies_in(destination);
    let mut all = lying(&ALL);
    for subjects in there.values_mut().chain(all.values_mut()) {
        subjects.sort_unstable();
    }
    assert_eq!(there, all, "{outcome:#?}");
}

#[test]
fn a_text_that_ends_like_a_literal_is_text() {
    let (source, destination) = pair();
    source.bend(|command| {
        let edit = |answer: &mut Answer| {
            answer.before("* OK still here {7}\r\n");
            answer.before("* NO [ALERT] the disk is full {123}\r\n");
            answer.before("* X-ODD {12}\r\n");
        };
        let is_it = lists(command) || command.verb == "EXAMINE" || command.wants_bodies();
        is_it.then(|| Reaction::edit(edit))
    });
    expect_all(&World::imap(&source, &destination).run(), &destination);
}

#[test]
fn whatever_is_listed_with_a_uid_is_carried() {
    for (word, with) in [
        ("FLAGS ", "FLAGS NIL "),
        ("FLAGS ", ""),
        ("FLAGS ", "FLAGS ( "),
        ("RFC822.SIZE ", ""),
        ("RFC822.SIZE ", "RFC822.SIZE NIL"),
        ("RFC822.SIZE ", "RFC822.SIZE -5"),
        ("RFC822.SIZE ", "RFC822.SIZE 9223372036854775808"),
    ] {
        let (source, destination) = pair();
        change_the_row(&source, move |row| replace_item(row, word, with));
        let outcome = World::imap(&source, &destination).run();
        expect_all(&outcome, &destination);
        assert!(!outcome.tells("MailboxEmpty"), "{word} {with}: {outcome:#?}");
    }
    let (source, destination) = pair();
    change_the_row(&source, |row| match row.split_once(" INTERNALDATE") {
        Some((head, tail)) => format!("{head})\r\n* 2 FETCH (UID 2 INTERNALDATE{tail}"),
        None => row.to_owned(),
    });
    expect_all(&World::imap(&source, &destination).run(), &destination);
}

#[test]
fn a_row_that_cannot_be_read_is_one_message_and_its_neighbours_go_on() {
    let (source, destination) = pair();
    change_the_row(&source, |_| "* 2 FETCH\r\n".to_owned());
    let world = World::imap(&source, &destination);
    let outcome = world.run();
    outcome.expect(outcome.ended.code, (5, 4, 0, 1, 0)).expect_told("does not list it");
    assert_eq!(lies_in(&destination)["INBOX"], ["one", "three"]);
}

#[test]
fn a_line_that_is_no_response_is_passed_over() {
    for lines in ["Warning: mail index corrupt\r\n", "+ go on\r\n", "LIST () \"/\" \"Wo\r\n"] {
        let (source, destination) = pair();
        source.bend(move |command| {
            let is_it = lists(command) || ["EXAMINE", "LIST", "LSUB"].contains(&command.verb.as_str());
            is_it.then(|| Reaction::edit(move |answer| answer.before(lines)))
        });
        expect_all(&World::imap(&source, &destination).run(), &destination);
    }
}

#[test]
fn a_name_with_a_line_break_in_quotes_is_told_and_the_others_arrive() {
    let (source, destination) = pair();
    let odd = "* LIST () \"/\" \"Of\r\nfers\"\r\n";
    source.on("LIST  *", Reaction::edit(move |answer| answer.before_last(odd)));
    let outcome = World::imap(&source, &destination).run();
    assert_eq!((outcome.ended.code, lies_in(&destination)), (22, lying(&ALL)), "{outcome:#?}");
    outcome.expect_told("FoldersUnreadable");
}

#[test]
fn a_message_that_nobody_asked_for_is_let_go_by() {
    for verb in ["EXAMINE", "UID FETCH"] {
        let (source, destination) = pair();
        let one = letter("one");
        let body = format!("* 1 FETCH (UID 1 BODY[] {{{}}}\r\n{one})\r\n", one.len());
        source.bend(move |command| {
            let body = body.clone();
            let is_it = if verb == "EXAMINE" {
                command.is("EXAMINE INBOX")
            } else {
                lists(command) && is_in(command, "INBOX")
            };
            is_it.then(|| Reaction::edit(move |answer| answer.before(&body)))
        });
        expect_all(&World::imap(&source, &destination).run(), &destination);
    }
}

#[test]
fn what_status_counts_and_no_list_shows_is_told() {
    let (source, destination) = pair();
    source.also("LIST-EXTENDED").also("LIST-STATUS");
    source.bend(|command| {
        let hides = lists(command) && is_in(command, "INBOX");
        let edit = |answer: &mut Answer| {
            answer.leave_out(" FETCH ");
            answer.replace("* 3 EXISTS", "* 0 EXISTS");
        };
        (hides || command.is("EXAMINE INBOX")).then(|| Reaction::edit(edit))
    });
    let outcome = World::imap(&source, &destination).run();
    outcome.expect(outcome.ended.code, (5, 2, 0, 3, 0)).expect_told("does not list it");
    assert!(!outcome.tells("MailboxEmpty"), "{outcome:#?}");
}

#[test]
fn a_mailbox_that_could_not_be_read_is_not_called_empty() {
    let (source, destination) = pair();
    source.bend(|command| (command.verb == "EXAMINE").then(|| Reaction::no("Access denied")));
    let outcome = World::imap(&source, &destination).run();
    assert!(!outcome.tells("MailboxEmpty"), "{outcome:#?}");
}

#[test]
fn a_uidnext_of_0_is_none() {
    let (source, destination) = pair();
    source.also("CONDSTORE");
    source.bend(|command| {
        let no = |answer: &mut Answer| {
            for next in 1..9 {
                answer.replace(format!("UIDNEXT {next}"), "UIDNEXT 0");
            }
        };
        (command.verb == "EXAMINE").then(|| Reaction::edit(no))
    });
    let world = World::imap(&source, &destination);
    expect_all(&world.run(), &destination);
    source.store().folder("Work").add(&[], letter("six"));
    source.store().folder("INBOX").remove(1);
    let outcome = world.run();
    assert_eq!((outcome.ended.code, lies_in(&destination)["Work"].len()), (0, 3), "{outcome:#?}");
}

#[test]
fn where_changes_cannot_be_asked_for_the_folder_is_listed() {
    type Odd = fn() -> Reaction;
    let odd: [(&str, Odd); 6] = [
        ("CHANGEDSINCE", || Reaction::bad("what")),
        ("CHANGEDSINCE", Reaction::close),
        ("CHANGEDSINCE", || Reaction::edit(|answer| answer.replace("FETCH (UID", "FETCH ((UID"))),
        ("SEARCH", || Reaction::bad("what")),
        ("SEARCH", || Reaction::no("not now")),
        ("SEARCH", Reaction::close),
    ];
    for (word, reaction) in odd {
        let (source, destination) = pair();
        source.also("CONDSTORE").also("ESEARCH");
        let world = World::imap(&source, &destination);
        expect_all(&world.run(), &destination);
        source.bend(move |command| (command.verb.starts_with("UID") && command.has(word)).then(reaction));
        source.store().folder("INBOX").remove(1);
        source.store().folder("INBOX").add(&[], letter("later"));
        source.store().folder("INBOX").set_flags(2, &["\\Flagged"]);
        source.store().folder("Work").remove(1);
        source.store().folder("Work").add(&[], letter("six"));
        let outcome = world.run();
        assert_eq!(outcome.ended.code, 0, "{word}: {outcome:#?}");
        let there = lies_in(&destination);
        assert!(there["INBOX"].contains(&"later".to_owned()), "{word}: {outcome:#?}");
        assert!(there["Work"].contains(&"six".to_owned()), "{word}: {outcome:#?}");
        let mut store = destination.store();
        let inbox = &store.folder("INBOX").letters;
        assert!(inbox.iter().any(|letter| letter.flags == ["\\Flagged"]), "{word}: {outcome:#?}");
    }
}

#[test]
fn what_was_not_listed_in_one_pass_is_carried_by_the_next() {
    let (source, destination) = pair();
    source.also("CONDSTORE").also("LIST-EXTENDED").also("LIST-STATUS");
    let world = World::imap(&source, &destination);
    expect_all(&world.run(), &destination);
    source.store().folder("INBOX").add(&[], letter("hidden"));
    source.bend(|command| {
        let is_it = lists(command) && is_in(command, "INBOX");
        is_it.then(|| Reaction::edit(|answer| answer.leave_out(" FETCH ")))
    });
    let outcome = world.run();
    outcome.expect(outcome.ended.code, (6, 5, 0, 1, 0));
    source.straighten();
    world.run().expect(0, (6, 6, 0, 0, 0));
    assert!(lies_in(&destination)["INBOX"].contains(&"hidden".to_owned()));
}

#[test]
fn a_message_that_is_listed_and_never_handed_out_is_named() {
    let (source, destination) = pair();
    source.bend(|command| {
        let is_it = command.verb == "UID FETCH" && !command.has("INTERNALDATE") && is_in(command, "INBOX");
        is_it.then(|| Reaction::edit(|answer| answer.leave_out("(UID 2 ")))
    });
    let outcome = World::imap(&source, &destination).run();
    outcome.expect(outcome.ended.code, (5, 4, 0, 1, 0)).expect_told("hands out nothing for it");
}

#[test]
fn a_folder_that_is_subscribed_to_and_not_listed_is_carried() {
    let (source, destination) = pair();
    source.on("LIST  *", Reaction::edit(|answer| answer.leave_out("Work")));
    let gone = "* LSUB () \"/\" \"Gone\"\r\n";
    source.on("LSUB  *", Reaction::edit(move |answer| answer.before(gone)));
    expect_all(&World::imap(&source, &destination).run(), &destination);
}

#[test]
fn a_folder_without_a_name_is_told() {
    let (source, destination) = pair();
    let nameless = "* LIST () \"/\" \"\"\r\n";
    source.on("LIST  *", Reaction::edit(move |answer| answer.before(nameless)));
    let outcome = World::imap(&source, &destination).run();
    assert_eq!((outcome.ended.code, lies_in(&destination)), (22, lying(&ALL)), "{outcome:#?}");
    outcome.expect_told("FoldersUnreadable");
}

#[test]
fn a_folder_that_is_refused_as_if_all_were_stops_no_other() {
    for refusal in [
        "[INUSE] busy",
        "[LIMIT] sorry",
        "[UNAVAILABLE] sorry",
        "[OVERQUOTA] full",
        "[AUTHENTICATIONFAILED] no",
    ] {
        let (source, destination) = pair();
        source.on("EXAMINE Work", Reaction::no(refusal));
        let outcome = World::imap(&source, &destination).run();
        assert_eq!(outcome.ended.code, 22, "{refusal}: {outcome:#?}");
        assert_eq!(lies_in(&destination), lying(&ALL[..1]), "{refusal}: {outcome:#?}");
        outcome.expect_told("FoldersUnreadable").expect_told("Work");
        assert!(!outcome.tells("DestinationFull"), "{refusal}: {outcome:#?}");
    }
}

#[test]
fn a_folder_at_which_sessions_end_stops_no_other() {
    for goodbye in ["", "* BYE [SERVERBUG] crash\r\n"] {
        let (source, destination) = pair();
        source.bend(move |command| command.is("EXAMINE INBOX").then(|| Reaction::say(goodbye).and_close()));
        let outcome = World::imap(&source, &destination).run();
        assert_eq!(lies_in(&destination), lying(&ALL[1..]), "{outcome:#?}");
        assert_eq!(outcome.ended.code, 22, "{outcome:#?}");
        outcome.expect_told("FoldersUnreadable");
    }
}

#[test]
fn a_goodbye_in_place_of_the_first_greeting_is_no_end() {
    let (source, destination) = pair();
    source.bend(|command| {
        let is_first = command.verb == "GREETING" && command.times == 0;
        is_first.then(|| Reaction::say("* BYE busy, try later\r\n").and_close())
    });
    expect_all(&World::imap(&source, &destination).run(), &destination);
}
