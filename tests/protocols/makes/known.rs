//! Behaviour of single makes of servers, and messages that are known there already: letters that a destination
//! replaced, folders that it numbers anew or lists without care, marks that POP3 leaves.

use std::collections::BTreeMap;
use std::fs;

use crate::ferry::{self, Ferry};
use crate::makes::make::{Kind, Make};
use crate::makes::moves::manifest;
use crate::support::corpus::Message;
use crate::support::dns::Dns;

fn message(folder: &str, n: usize, bytes: &[u8]) -> Message {
    Message {
        folder: folder.to_owned(),
        flags: if n.is_multiple_of(2) { vec!["\\Seen".to_owned()] } else { Vec::new() },
        internal_date: format!("17-Jul-2019 02:{:02}:25 +0000", n % 60),
        bytes: bytes.to_vec(),
    }
}

fn letter(folder: &str, n: usize) -> Message {
    let text = format!("Subject: letter {n}\r\nMessage-ID: <{n}@old.test>\r\n\r\nThis is letter {n}.\r\n");
    message(folder, n, text.as_bytes())
}

/// Letters whose headers hold what is not ASCII, some of which differ in nothing else.
fn beyond_ascii() -> Vec<Message> {
    let subjects: [&[u8]; 7] = [
        b"gr\xc3\xbc\xc3\x9fe",
        b"gr\xc3\xb6\xc3\x9fe",
        b"gr\xfc\xdfe",
        b"Xgr\xc3\xbc",
        b"\xe2\x82\xac 5",
        b"gr??e",
        b"plain",
    ];
    let mut letters = Vec::new();
    for (n, subject) in subjects.iter().enumerate() {
        let text =
            [&b"From: M\xc3\xbcller <m@old.test>\r\nSubject: "[..], subject, b"\r\n\r\nb\xc3\xb6se\r\n"]
                .concat();
        letters.push(message("INBOX", n, &text));
    }
    // Twice the same.
    letters.push(message("INBOX", 8, b"Subject: \xc3\xa4\xc3\xb6\xc3\xbc\r\n\r\nx\r\n"));
    letters.push(message("INBOX", 9, b"Subject: \xc3\xa4\xc3\xb6\xc3\xbc\r\n\r\nx\r\n"));
    letters
}

fn count(make: &Make) -> BTreeMap<String, usize> {
    let there = make.mailbox().read_all();
    there.folders.into_iter().map(|(name, rows)| (name, rows.len())).filter(|(_, rows)| *rows > 0).collect()
}

#[track_caller]
fn assert_known_again(to: Kind, altered: usize) {
    let (from, to) = (Make::start(Kind::Dovecot, "anna@old.test"), Make::start(to, "anna@new.test"));
    from.seed(beyond_ascii().into_iter());
    let dns = Dns::start(&[]);
    let ferry = Ferry::new(&manifest(&from, &to, "IMAP")).resolver(dns.addr());
    ferry.run(&["--progress", "none"]).expect_code(0);
    assert_eq!(count(&to)["INBOX"], 9);
    let reasons = |ferry: &Ferry| -> Vec<String> {
        let altered = ferry.messages().into_iter().filter(|row| row["verdict"] == "DeliveredAltered");
        altered.map(|row| row["reason"].as_str().unwrap_or_default().to_owned()).collect()
    };
    let told = reasons(&ferry);
    assert_eq!(told.len(), altered, "{told:#?}");
    assert!(told.iter().any(|why| why.contains("the header line Subject changed")), "{told:#?}");
    let status = ferry.status().to_string();
    assert!(status.contains("HeadersLoseLetters"), "{status}");

    fs::remove_dir_all(ferry.state()).unwrap();
    let again = ferry.run(&["--progress", "none"]);
    again.expect_code(0);
    assert_eq!(count(&to)["INBOX"], 9, "nothing is sent twice: {}", again.stdout);
    assert!(again.stdout.contains(" 0 changed"), "{}", again.stdout);
    assert_eq!(reasons(&ferry).len(), told.len(), "{:#?}", reasons(&ferry));
    let verified = ferry.call("verify", &["--depth", "Full"]);
    let sum = format!("9 checked = {} identical + {altered} altered + 0 missing", 9 - altered);
    assert!(verified.stdout.contains(&sum), "{}", verified.stdout);
}

#[test]
fn what_cyrus_made_of_letters_beyond_ascii_is_known_again() {
    assert_known_again(Kind::Cyrus, 9);
}

#[test]
fn what_greenmail_made_of_letters_beyond_ascii_is_known_again() {
    // It replaces bytes that are not UTF-8.
    assert_known_again(Kind::GreenMail, 1);
}

#[track_caller]
fn assert_marks_told(from: Kind, marked: usize) {
    let (from, to) = (Make::start(from, "anna@old.test"), Make::start(Kind::Dovecot, "anna@new.test"));
    from.seed((0..12).map(|n| Message { flags: Vec::new(), ..letter("INBOX", n) }));
    let dns = Dns::start(&[]);
    let ferry = Ferry::new(&manifest(&from, &to, "POP3")).resolver(dns.addr());
    ferry.run(&["--progress", "none"]).expect_code(0);
    ferry.call("verify", &["--depth", "Full"]).expect_code(0);
    assert_eq!(count(&to)["INBOX"], 12);
    let rows = from.mailbox().read_all().folders.remove("INBOX").unwrap();
    let seen = rows.iter().filter(|row| row.flags.contains("\\seen")).count();
    assert_eq!((rows.len(), seen), (12, marked));
    let told = ferry.status().to_string().contains(&format!("{marked} messages were read by RETR"));
    assert_eq!(told, marked > 0);
}

#[test]
fn a_maildrop_of_courier_is_read_and_nothing_counts_as_read_there() {
    assert_marks_told(Kind::Courier, 0);
}

#[test]
fn the_messages_of_a_mailutils_that_count_as_read_afterwards_are_told() {
    // Its TOP puts an empty line behind the header, so that RETR has the last word.
    assert_marks_told(Kind::Mailutils, 12);
}

#[test]
fn a_folder_that_a_user_renames_at_a_courier_is_followed() {
    let (from, to) =
        (Make::start(Kind::Dovecot, "anna@old.test"), Make::start(Kind::Courier, "anna@new.test"));
    from.seed((0..20).map(|n| letter(["INBOX", "Work"][n % 2], n)));
    let dns = Dns::start(&[]);
    let ferry = Ferry::new(&manifest(&from, &to, "IMAP")).resolver(dns.addr());
    ferry.run(&["--progress", "none"]).expect_code(0);
    to.mailbox().command("RENAME INBOX.Work INBOX.Mine").unwrap();
    from.seed([letter("Work", 21)].into_iter());
    let outcome = ferry.run(&["--progress", "none"]);
    outcome.expect_code(0);
    let status = ferry.status().to_string();
    assert!(status.contains("another name") && !status.contains("ArrivalsRemoved"), "{status}");
    let there = count(&to);
    println!("{status}");
    assert_eq!(there, BTreeMap::from([("INBOX".to_owned(), 10), ("Mine".to_owned(), 11)]));
    let verified = ferry.call("verify", &["--depth", "Full"]);
    assert!(verified.stdout.contains("21 checked = 21 identical"), "{}", verified.stdout);
}

#[test]
fn a_folder_of_greenmail_with_a_quote_in_its_name_is_carried() {
    let (from, to) =
        (Make::start(Kind::GreenMail, "anna@old.test"), Make::start(Kind::Dovecot, "anna@new.test"));
    from.seed((0..6).map(|n| letter(["INBOX", "Work"][n % 2], n)));
    let mut mailbox = from.mailbox();
    mailbox.command("CREATE \"x\\\"y\"").unwrap();
    let text = "Subject: quoted\r\n\r\nhere\r\n";
    drop(mailbox);
    from.mailbox().append(&message("x\"y", 7, text.as_bytes())).unwrap();
    let dns = Dns::start(&[]);
    let ferry = Ferry::new(&manifest(&from, &to, "IMAP")).resolver(dns.addr());
    let outcome = ferry.run(&["--progress", "none"]);
    outcome.expect_code(0);
    let there = count(&to);
    assert_eq!((there.len(), there["x\"y"]), (3, 1), "{there:?}");
    assert_eq!(ferry::figure(&ferry.status(), "copied"), 7);
}

#[test]
fn a_tree_of_folders_stays_one_at_a_mailutils() {
    let (from, to) =
        (Make::start(Kind::Dovecot, "anna@old.test"), Make::start(Kind::Mailutils, "anna@new.test"));
    let folders = ["INBOX", "Clients", "Clients/ACME", "Clients/ACME/2019", "Clients/Beta", "Empty/Deep"];
    from.seed((0..30).map(|n| letter(folders[n % 6], n)));
    let dns = Dns::start(&[]);
    let ferry = Ferry::new(&manifest(&from, &to, "IMAP")).resolver(dns.addr());
    // Nobody has opened its Inbox yet, so that STATUS does not find it.
    let planned = ferry.run(&["--progress", "none", "--stage", "Plan"]);
    planned.expect_code(0);
    let status = ferry.status().to_string();
    assert!(!status.contains("DestinationMailboxClosed"), "{status}");
    // It keeps but the first message that comes into an open folder.
    for _ in 0..3 {
        ferry.run(&["--progress", "none"]);
    }
    let names =
        ["Clients", "Clients - ACME", "Clients - ACME - 2019", "Clients - Beta", "Empty/Deep", "INBOX"];
    // How many messages it keeps is its own affair: its sessions overwrite each other's files.
    assert_eq!(count(&to).into_keys().collect::<Vec<_>>(), names);
}
