//! `mailferry verify` names what differs between source and destination, and nothing else, and mends what is missing.

use crate::ferry;
use std::fs;

use serde_json::Value;

use crate::ferry::{Ended, Ferry, Manifest, figure, server};
use crate::support::compare::differences;
use crate::support::corpus::{Corpus, Message};
use crate::support::dovecot::{Dovecot, LOOPBACK, User};

const WHO: &str = "alice@old.test";
const THERE: &str = "alice@new.test";

fn pair() -> (Dovecot, Dovecot) {
    let old = Dovecot::builder().imap(LOOPBACK).pop3(LOOPBACK).user(User::new(WHO, "alice-secret")).start();
    let new = Dovecot::builder()
        .imap(LOOPBACK)
        .master("admin", "admin-secret")
        .user(User::new(THERE, "of-no-use"))
        .start();
    (old, new)
}

fn manifest(new: &Dovecot, server: &str) -> String {
    Manifest::to(new.imap(), "admin", "admin-secret")
        .secret("old.test", &[("username", WHO), ("password", "alice-secret")])
        .domain("old.test", &["alice"], server)
        .policy("settleSeconds: 2")
        .text()
}

fn letter(n: usize, folder: &str) -> Message {
    // All of one size, some of one moment too: what belongs together is not told by these alone.
    Message {
        folder: folder.to_owned(),
        flags: vec!["\\Seen".to_owned()],
        internal_date: format!("{:02}-Mar-2019 08:15:42 +0100", 1 + n % 9),
        bytes: format!("From: a@a.test\r\nSubject: letter {n:03}\r\n\r\nThe text of letter {n:03}.\r\n")
            .into_bytes(),
    }
}

/// The differences of the only mailbox, each as a line: where, its subject, how it differs.
fn named(ended: &Ended) -> Vec<String> {
    let json = ended.json();
    let differences = json["mailboxes"][0]["differences"].as_array().unwrap();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let line = |difference: &Value| {
        let source = &difference["source"];
        let name = match &source["uidl"] {
            Value::String(uidl) => format!("UIDL {uidl}"),
            _ => format!("UID {}", source["uid"]),
        };
        let (kind, expected, found) =
            (&difference["kind"], text(&difference["expected"]), text(&difference["found"]));
        let values = if kind == "Flags" { format!(" {found} not {expected}") } else { String::new() };
        format!(
            "{}: {name}: \"{}\" {}{values}",
            text(&source["folder"]),
            difference["subject"].as_str().unwrap_or("(no subject)"),
            text(kind)
        )
    };
    let mut lines: Vec<String> = differences.iter().map(line).collect();
    lines.sort();
    lines
}

#[test]
fn exactly_what_was_deleted_and_changed_by_hand_is_named_and_the_missing_is_sent_again() {
    let (old, new) = pair();
    let mut mail: Vec<Message> =
        (1..=60).map(|n| letter(n, ["INBOX", "Sent", "Archive/2019"][n % 3])).collect();
    // A twin of a letter that stays.
    mail.push(letter(30, "INBOX"));
    old.mailbox(WHO).seed(mail);
    let ferry = Ferry::new(&manifest(&new, &server("IMAP", old.imap())));
    ferry.run(&["--progress", "none"]).expect_code(0);
    for depth in ["Sizes", "Sampled", "Full"] {
        let clean = ferry.call("verify", &["--depth", depth, "--output", "json"]);
        assert_eq!(named(clean.expect_code(0)), [""; 0], "{depth}");
        let figures = clean.json()["mailboxes"][0]["verification"].clone();
        let number = |name: &str| figures[name].as_u64().unwrap();
        let (identical, same_size) = (number("identical"), number("sameSize"));
        assert_eq!(identical + same_size, 61, "{depth}");
        match depth {
            "Sizes" => assert_eq!(identical, 0),
            "Sampled" => assert!((3..61).contains(&identical), "one of each folder at least: {identical}"),
            _ => assert_eq!(same_size, 0),
        }
    }

    // Which letters lie at the places that are changed below.
    let arrived = new.mailbox(THERE).read_all();
    let subject_at = |folder: &str, number: usize| {
        let name = &arrived.folders[folder][number - 1].name;
        (
            folder.to_owned(),
            name.strip_prefix("subject: ").or(name.strip_prefix("Subject: ")).unwrap().to_owned(),
        )
    };
    let gone =
        [("INBOX", 3), ("INBOX", 5), ("INBOX", 21), ("Sent", 2), ("Sent", 4)].map(|(f, n)| subject_at(f, n));
    // After the others have gone they are the first, the first and the third.
    let changed = [("INBOX", 1), ("Sent", 1), ("Sent", 5)].map(|(f, n)| subject_at(f, n));
    let mut client = new.mailbox(THERE);
    client.select("INBOX").unwrap();
    client.command("STORE 3,5,21 +FLAGS (\\Deleted)").unwrap();
    client.command("EXPUNGE").unwrap();
    client.command("STORE 1 +FLAGS (\\Flagged)").unwrap();
    client.select("Sent").unwrap();
    client.command("STORE 2,4 +FLAGS (\\Deleted)").unwrap();
    client.command("EXPUNGE").unwrap();
    client.command("STORE 1 -FLAGS (\\Seen)").unwrap();
    client.command("STORE 3 +FLAGS (mine)").unwrap();
    // New mail of users there is not a difference.
    client
        .append(&Message { bytes: b"Subject: of my own\r\n\r\nhello\r\n".to_vec(), ..letter(1, "INBOX") })
        .unwrap();
    drop(client);
    for depth in ["Sizes", "Sampled", "Full"] {
        let checked = ferry.call("verify", &["--depth", depth, "--output", "json"]);
        checked.expect_code(25);
        let lines = named(&checked);
        println!("{depth}: {lines:#?}\n{}", checked.stderr);
        assert_eq!(lines.len(), 8, "{depth}: {lines:#?}");
        let missing: Vec<_> = lines.iter().filter(|line| line.ends_with(" Missing")).collect();
        assert_eq!(missing.len(), 5, "{depth}: {lines:#?}");
        for (folder, subject) in &gone {
            let start = format!("{folder}: UID ");
            let subject = format!("\"{subject}\"");
            let is_it = |line: &&&String| line.starts_with(&start) && line.contains(&subject);
            assert_eq!(missing.iter().filter(is_it).count(), 1, "{folder} {subject}: {missing:#?}");
        }
        for ((folder, subject), flags) in changed.iter().zip([
            r#"["\\Flagged","\\Seen"] not ["\\Seen"]"#,
            r#"[] not ["\\Seen"]"#,
            r#"["\\Seen","mine"] not ["\\Seen"]"#,
        ]) {
            let is_it = |line: &&String| {
                line.starts_with(&format!("{folder}: UID "))
                    && line.ends_with(&format!("\"{subject}\" Flags {flags}"))
            };
            assert_eq!(lines.iter().filter(is_it).count(), 1, "{folder} {subject}: {lines:#?}");
        }
        let (what, hint) = checked.error();
        assert!(
            what.contains("5 messages are no longer")
                && what.contains("3 messages are there with other flags"),
            "{what}"
        );
        assert!(hint.contains("--repair"), "{hint}");
    }
    // Differences in flags only are a user's to decide on.
    ferry.call("verify", &["--depth", "Sizes", "--repair"]).expect_code(25);
    let after = ferry.call("verify", &["--depth", "Full", "--output", "json"]);
    assert_eq!(named(after.expect_code(25)).len(), 3, "{}", after.stdout);
    let left = differences(&old.mailbox(WHO).read_all(), &new.mailbox(THERE).read_all());
    assert_eq!(left.len(), 4, "three flags and the user's own letter: {left:#?}");
    assert_eq!(figure(&ferry.status(), "copied"), 61);
}

#[test]
fn odd_mail_that_was_carried_is_no_difference_and_new_mail_is_named_as_such() {
    let (old, new) = pair();
    old.mailbox(WHO).seed(Corpus::new(91).messages(150));
    for (name, tail) in
        [("nul", &b"a\0b\r\n"[..]), ("doubled", b"line\r\r\nline\r\n"), ("lone", b"the end\r")]
    {
        old.deliver(WHO, name, &[&letter(900, "INBOX").bytes[..], name.as_bytes(), b"\r\n", tail].concat());
    }
    let ferry = Ferry::new(&manifest(&new, &server("IMAP", old.imap())));
    ferry.run(&["--progress", "none"]).expect_code(0);
    // The destination altered two of the three while it stored them, which was said then: they are named, and are not
    // news.
    let is_altered = |line: &String| line.ends_with("\"letter 900\" Altered");
    for depth in ["Sizes", "Sampled", "Full"] {
        let checked = ferry.call("verify", &["--depth", depth, "--output", "json"]);
        let lines = named(checked.expect_code(0));
        assert!(lines.len() == 2 && lines.iter().all(is_altered), "{depth}: {lines:?}");
    }
    old.mailbox(WHO).append(&letter(7, "Sent")).unwrap();
    let checked = ferry.call("verify", &["--output", "json"]);
    let mut lines = named(checked.expect_code(22));
    lines.retain(|line| !is_altered(line));
    assert!(lines.len() == 1 && lines[0].ends_with("\"(no subject)\" Waiting"), "{lines:?}");
    ferry.call("verify", &["--repair"]).expect_code(0);
    ferry.call("verify", &["--depth", "Full"]).expect_code(0);
}

#[test]
fn a_maildrop_is_held_against_what_came_of_it() {
    let (old, new) = pair();
    old.mailbox(WHO).seed(Corpus::new(92).inbox_only().messages(60));
    let ferry = Ferry::new(&manifest(&new, &server("POP3", old.pop3())));
    ferry.run(&["--progress", "none"]).expect_code(0);
    for depth in ["Sizes", "Sampled", "Full"] {
        let checked = ferry.call("verify", &["--depth", depth, "--output", "json"]);
        assert_eq!(named(checked.expect_code(0)), [""; 0], "{depth}");
    }
    let mut client = new.mailbox(THERE);
    client.select("INBOX").unwrap();
    client.command("STORE 4,9 +FLAGS (\\Deleted)").unwrap();
    client.command("EXPUNGE").unwrap();
    drop(client);
    for depth in ["Sizes", "Full"] {
        let checked = ferry.call("verify", &["--depth", depth, "--output", "json"]);
        let lines = named(checked.expect_code(25));
        assert!(lines.len() == 2 && lines.iter().all(|line| line.starts_with("INBOX: UIDL ")), "{lines:#?}");
    }
    ferry.call("verify", &["--repair"]).expect_code(0);
    ferry.call("verify", &["--depth", "Full"]).expect_code(0);
}

/// Changes a message where it lies, without a word to the server: its length stays.
fn tamper(server: &Dovecot, user: &str, subject: &str) {
    let wanted = format!("The text of {subject}.");
    let holds = |path: &std::path::PathBuf| {
        fs::read(path).is_ok_and(|bytes| bytes.windows(wanted.len()).any(|part| part == wanted.as_bytes()))
    };
    let found: Vec<_> = ferry::files(&server.home(user)).into_iter().filter(holds).collect();
    let [path] = &found[..] else { panic!("not one file with {wanted} but {found:?}") };
    let text = String::from_utf8(fs::read(path).unwrap()).unwrap();
    fs::write(path, text.replace(&wanted, &wanted.to_uppercase())).unwrap();
}

fn expunge(server: &Dovecot, user: &str, subject: &str) {
    let mut client = server.mailbox(user);
    client.select("INBOX").unwrap();
    let found = client.command(&format!("UID SEARCH SUBJECT \"{subject}\"")).unwrap();
    let lines: Vec<String> =
        found.iter().map(|response| String::from_utf8_lossy(&response.text).into_owned()).collect();
    let uid =
        lines.iter().find_map(|line| line.strip_prefix("* SEARCH ")).unwrap_or_else(|| panic!("{lines:?}"));
    client.command(&format!("UID STORE {uid} +FLAGS.SILENT (\\Deleted)")).unwrap();
    client.command("EXPUNGE").unwrap();
}

#[test]
fn a_run_verifies_after_its_pass_where_the_manifest_asks_for_it_and_once_for_each_value() {
    let (old, new) = pair();
    old.mailbox(WHO).seed((1..=12).map(|n| letter(n, "INBOX")));
    let text =
        manifest(&new, &server("IMAP", old.imap())).replace("  policy:\n", "  policy:\n    verify: Full\n");
    let asking =
        |value: &str| text.replace("spec:\n", &format!("spec:\n  trigger: {{verify: \"{value}\"}}\n"));
    let ferry = Ferry::new(&asking("1"));
    let run = |code: i32| {
        let ran = ferry.run(&["--progress", "json"]);
        ran.expect_code(code);
        let events = ran.stderr.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.filter(|event| event["event"] == "verified").count()
    };
    let wish = |status: &Value| {
        let (pass, trigger) = (&status["status"]["pass"], &status["status"]["trigger"]);
        (
            pass["verification"].as_u64().unwrap_or_default(),
            trigger["verify"].as_str().unwrap_or_default().to_owned(),
        )
    };
    assert_eq!(run(0), 0, "the value that was there from the beginning asks for nothing");
    assert_eq!(wish(&ferry.status()), (0, "1".to_owned()));
    assert_eq!(run(0), 0);

    expunge(&new, THERE, "letter 003");
    tamper(&new, THERE, "letter 007");
    assert_eq!(run(0), 0, "a pass looks at what is new at the source");
    ferry.write(&asking("2"));
    assert_eq!(run(25), 1);
    let status = ferry.status();
    assert_eq!(wish(&status), (1, "2".to_owned()));
    assert_eq!((&status["status"]["phase"], figure(&status, "copied")), (&Value::from("Synced"), 12));
    let verified =
        status["status"]["conditions"].as_array().unwrap().iter().find(|c| c["type"] == "Verified").unwrap();
    assert_eq!(
        (&verified["status"], &verified["reason"]),
        (&Value::from("False"), &Value::from("Differences"))
    );
    let report: Value = serde_json::from_str(&ferry.report("json")).unwrap();
    let figures = &report["mailboxes"][0]["verification"];
    assert_eq!(
        ["depth", "checked", "identical", "missing", "altered"].map(|name| figures[name].clone()),
        [Value::from("Full"), 12.into(), 10.into(), 1.into(), 1.into()]
    );
    assert_eq!((&report["totals"]["missing"], &report["totals"]["changed"]), (&1.into(), &1.into()));

    // The same value asks for nothing more, and what was found stays.
    assert_eq!(run(25), 0);
    assert_eq!(wish(&ferry.status()), (1, "2".to_owned()));
    // Taken out it asks for nothing either; put back it is another wish.
    ferry.write(&text);
    assert_eq!(run(25), 0);
    ferry.write(&asking("2"));
    assert_eq!(run(25), 1);
    assert_eq!(wish(&ferry.status()), (2, "2".to_owned()));
}
