//! Each make as a source, and each as a destination: its mail arrives once, a second run sends nothing, and a third
//! carries what came and changed since. Messages that a make alters or cannot keep must be reported, one by one.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::ferry::{self, Ferry, Manifest, server};
use crate::makes::make::{Kind, Make};
use crate::support::compare::{Row, differences};
use crate::support::corpus::{Corpus, Message};
use crate::support::dns::Dns;

/// Mail of all kinds in folders whose names every server takes.
fn mail(seed: u64, count: usize) -> impl Iterator<Item = Message> {
    let folders = ["INBOX", "Sent", "Projects/2019", "Pläne"];
    let fit = move |(n, message): (usize, Message)| Message {
        folder: folders[n % folders.len()].to_owned(),
        ..message
    };
    Corpus::new(seed).messages(count).enumerate().map(fit)
}

/// The manifest that moves the one mailbox into the other.
pub fn manifest(from: &Make, to: &Make, protocol: &str) -> String {
    let old = if protocol == "POP3" { from.pop3.expect("it has POP3") } else { from.imap };
    let (host, port) = (to.imap.ip(), to.imap.port());
    Manifest::to(to.imap, "of-no-use", "of-no-use")
        .secret("there", &to.credentials())
        .destination(&format!("{{host: {host}, port: {port}, tls: None, credentialsRef: {{name: there}}}}"))
        .secret("old.test", &from.credentials())
        .domain("old.test", &["anna"], &server(protocol, old))
        .policy("settleSeconds: 2")
        .text()
}

/// The rows of the report about messages that were stored otherwise than they were sent.
fn altered(ferry: &Ferry) -> Vec<Value> {
    let altered = |row: &Value| row["verdict"] == "DeliveredAltered";
    ferry.messages().into_iter().filter(altered).collect()
}

/// Stops the test unless the new mailbox holds what the old one does, but for what the makes cannot keep, and the bytes of
/// messages that the report names as altered.
#[track_caller]
fn assert_arrived(from: &Make, to: &Make, ferry: &Ferry) {
    let (mut here, mut there) = (from.mailbox().read_all(), to.mailbox().read_all());
    // Levels of names that are not a folder elsewhere, and folders that a new mailbox is born with.
    let of_its_own =
        |(name, rows): &(&String, &Vec<Row>)| rows.is_empty() && !here.folders.contains_key(*name);
    let own: Vec<String> = there.folders.iter().filter(of_its_own).map(|(name, _)| name.clone()).collect();
    for folder in own {
        there.folders.remove(&folder);
        there.subscribed.remove(&folder);
    }
    let keywords = from.keeps_keywords() && to.keeps_keywords();
    // A mark of removal is carried nowhere.
    for row in here.folders.values_mut().flatten() {
        row.flags.remove("\\deleted");
    }
    for row in here.folders.values_mut().chain(there.folders.values_mut()).flatten() {
        row.flags.retain(|flag| keywords || flag.starts_with('\\'));
        if to.kind == Kind::GreenMail {
            row.internal_date = by_twelve_hours(row.internal_date);
        }
        if from.kind == Kind::Mailutils {
            // It shows lines of its own in each header, and writes them anew with each change in a folder.
            row.digest.clone_from(&row.name);
        }
    }
    let told = altered(ferry);
    assert!(told.iter().all(|row| row["reason"].as_str().is_some_and(|why| !why.is_empty())), "{told:?}");
    let lines = differences(&here, &there);
    let count = |end| lines.iter().filter(|line| line.ends_with(end)).count();
    let (missing, surplus) = (count(": missing"), count(": too many"));
    assert_eq!((missing, surplus), (told.len(), told.len()), "{lines:#?}\n{told:#?}");
    assert_eq!(lines.len(), missing + surplus, "{lines:#?}");
}

/// `GreenMail` reads the hour of a date by the clock of twelve hours.
fn by_twelve_hours(date: Timestamp) -> Timestamp {
    let time = date.to_zoned(TimeZone::UTC);
    if time.hour() == 12 { date - SignedDuration::from_hours(12) } else { date }
}

/// Moves a mailbox of one make into one of another.
#[track_caller]
fn assert_moves(from: Kind, to: Kind) {
    let (from, to) = (Make::start(from, "anna@old.test"), Make::start(to, "anna@new.test"));
    from.seed(mail(7, 60));
    let dns = Dns::start(&[]);
    let ferry = Ferry::new(&manifest(&from, &to, "IMAP")).resolver(dns.addr());
    ferry.run(&["--progress", "none"]).expect_code(0);
    assert_eq!(ferry::figure(&ferry.status(), "copied"), 60);
    assert_arrived(&from, &to, &ferry);

    let there = to.mailbox().read_all();
    ferry.run(&["--progress", "none"]).expect_code(0);
    assert_eq!(to.mailbox().read_all(), there, "a second run sends nothing");

    let mut source = from.mailbox();
    from.seed(mail(8, 1));
    source.select("INBOX").unwrap();
    source.command("STORE 2 FLAGS (\\Flagged)").unwrap();
    source.command("CLOSE").unwrap();
    ferry.run(&["--progress", "none"]).expect_code(0);
    let status = ferry.status();
    ferry::assert_equation(&status);
    assert_eq!(ferry::figure(&status, "copied"), 61);
    assert_arrived(&from, &to, &ferry);
    let verified = ferry.call("verify", &["--depth", "Full"]);
    // It names the messages whose date is another one now.
    verified.expect_code(if to.kind == Kind::GreenMail { 25 } else { 0 });
    assert!(verified.stdout.contains(" + 0 missing;"), "{}", verified.stdout);
}

/// The messages of an Inbox, sorted, each with a line end at its end, which POP3 has always. Of a server that writes lines of
/// its own into each header, what is behind the header.
fn texts(make: &Make, body_alone: bool) -> Vec<Vec<u8>> {
    let mut texts = Vec::new();
    make.mailbox().read_folder("INBOX", |_, bytes| {
        let header = bytes.windows(4).position(|end| end == b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
        let mut text = bytes[if body_alone { header } else { 0 }..].to_vec();
        if !text.ends_with(b"\r\n") {
            text.extend(b"\r\n");
        }
        texts.push(text);
    });
    texts.sort();
    texts
}

/// Moves an Inbox by POP3.
#[track_caller]
fn assert_moves_by_pop3(from: Kind) {
    let (from, to) = (Make::start(from, "anna@old.test"), Make::start(Kind::Dovecot, "anna@new.test"));
    from.seed(Corpus::new(12).inbox_only().messages(40));
    let own_lines = from.kind == Kind::Mailutils;
    let dns = Dns::start(&[]);
    let ferry = Ferry::new(&manifest(&from, &to, "POP3")).resolver(dns.addr());
    ferry.run(&["--progress", "none"]).expect_code(0);
    assert_eq!(texts(&to, own_lines), texts(&from, own_lines));
    let there = to.mailbox().read_all();
    ferry.run(&["--progress", "none"]).expect_code(0);
    assert_eq!(to.mailbox().read_all(), there, "a second run sends nothing");

    from.seed(Corpus::new(13).inbox_only().messages(1));
    ferry.run(&["--progress", "none"]).expect_code(0);
    assert_eq!(texts(&to, own_lines), texts(&from, own_lines));
    assert_eq!(ferry::figure(&ferry.status(), "copied"), 41);
}

#[test]
fn a_maildrop_of_james_moves_to_dovecot() {
    assert_moves_by_pop3(Kind::James);
}

#[test]
fn a_mailbox_of_courier_moves_to_dovecot() {
    assert_moves(Kind::Courier, Kind::Dovecot);
}

#[test]
fn a_mailbox_of_cyrus_moves_to_dovecot() {
    assert_moves(Kind::Cyrus, Kind::Dovecot);
}

#[test]
fn a_mailbox_of_greenmail_moves_to_dovecot() {
    assert_moves(Kind::GreenMail, Kind::Dovecot);
}

#[test]
fn a_mailbox_of_mailutils_moves_to_dovecot() {
    assert_moves(Kind::Mailutils, Kind::Dovecot);
}

#[test]
fn a_mailbox_of_pymap_moves_to_dovecot() {
    assert_moves(Kind::Pymap, Kind::Dovecot);
}

#[test]
fn a_courier_without_uidplus_takes_everything_once() {
    assert_moves(Kind::Dovecot, Kind::Courier);
}

#[test]
fn a_cyrus_takes_everything_once() {
    assert_moves(Kind::Dovecot, Kind::Cyrus);
}

#[test]
fn a_greenmail_takes_everything_once() {
    assert_moves(Kind::Dovecot, Kind::GreenMail);
}

#[test]
fn a_james_takes_everything_once() {
    assert_moves(Kind::Dovecot, Kind::James);
}

#[test]
fn a_pymap_takes_everything_once() {
    assert_moves(Kind::Dovecot, Kind::Pymap);
}

#[test]
fn a_maildrop_of_courier_moves_to_dovecot() {
    assert_moves_by_pop3(Kind::Courier);
}

#[test]
fn a_maildrop_of_mailutils_moves_to_dovecot() {
    assert_moves_by_pop3(Kind::Mailutils);
}

#[test]
fn a_mailbox_of_james_moves_to_dovecot() {
    assert_moves(Kind::James, Kind::Dovecot);
}
