//! Odd messages to destinations that store other bytes than they were sent: every one that arrives otherwise is told with the
//! reason, at the default depth as far as sizes show it, and wholly by a full verification; nothing is sent twice over it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};

use crate::ferry::{self, Ferry};
use crate::makes::make::{Kind, Make};
use crate::makes::moves::manifest;
use crate::support::compare::Row;
use crate::support::corpus::{Corpus, Message};
use crate::support::dns::Dns;

/// Odd messages of all kinds that we can make, and, where they lie beside the project, those that others met. Each has a date of
/// its own, by which it is known again.
fn odd_messages() -> Vec<Message> {
    let mut bodies: Vec<Vec<u8>> =
        Corpus::new(21).inbox_only().messages(136).map(|message| message.bytes).collect();
    bodies.extend([
        b"Subject: gr\xfc\xdfe\r\nFrom: M\xfcller <m@old.test>\r\n\r\nb\xf6se\r\n".to_vec(),
        b"Subject: ends without a line end\r\n\r\nthe last line".to_vec(),
        b"Subject: header alone\r\n".to_vec(),
        b"no header, only text\r\n".to_vec(),
        format!("Subject: {}\r\n\r\nlong\r\n", "x".repeat(30_000)).into_bytes(),
        nested(1_000),
        many_parts(10_000),
    ]);
    let others = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpora/messages");
    let mut paths: Vec<_> =
        fs::read_dir(others).into_iter().flatten().flatten().map(|it| it.path()).collect();
    paths.sort();
    bodies.extend(paths.iter().map(|path| with_crlf(&fs::read(path).expect("a file that can be read"))));
    bodies.retain(|bytes| !bytes.is_empty());
    let start: Timestamp = "2019-07-17T02:00:00Z".parse().expect("a time");
    let date = |n: i64| start + SignedDuration::from_secs(n * 61);
    (0..).zip(bodies).map(|(n, bytes)| message(date(n), bytes)).collect()
}

fn message(date: Timestamp, bytes: Vec<u8>) -> Message {
    Message {
        folder: "INBOX".to_owned(),
        flags: vec!["\\Seen".to_owned()],
        internal_date: date.strftime("%d-%b-%Y %H:%M:%S +0000").to_string(),
        bytes,
    }
}

/// A message in a message, so many times.
fn nested(levels: usize) -> Vec<u8> {
    let mut text = String::new();
    for level in 0..levels {
        let _ = write!(text, "Subject: level {level}\r\nContent-Type: message/rfc822\r\n\r\n");
    }
    text += "Subject: the innermost\r\n\r\nhere\r\n";
    text.into_bytes()
}

fn many_parts(parts: usize) -> Vec<u8> {
    let mut text =
        "Subject: many\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n".to_owned();
    for part in 0..parts {
        let _ = write!(text, "--b\r\nContent-Type: text/plain\r\n\r\n{part}\r\n");
    }
    text += "--b--\r\n";
    text.into_bytes()
}

fn with_crlf(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.len());
    for (at, &byte) in bytes.iter().enumerate() {
        if byte == b'\n' && (at == 0 || bytes[at - 1] != b'\r') {
            text.push(b'\r');
        }
        text.push(byte);
    }
    text
}

/// The rows of INBOX by their dates.
fn inbox(make: &Make) -> BTreeMap<Timestamp, Row> {
    let mut rows = BTreeMap::new();
    make.mailbox().read_folder("INBOX", |row, _| {
        assert!(rows.insert(row.internal_date, row).is_none(), "two messages of one date");
    });
    rows
}

/// Moves odd messages to a make and holds the report against what is there.
#[track_caller]
fn assert_told(to: Kind, alters: bool) {
    let (from, to) = (Make::start(Kind::Dovecot, "anna@old.test"), Make::start(to, "anna@new.test"));
    from.seed(odd_messages().into_iter());
    let dns = Dns::start(&[]);
    let ferry = Ferry::new(&manifest(&from, &to, "IMAP")).resolver(dns.addr());
    ferry.run(&["--progress", "none"]).expect_code(0);
    ferry::assert_equation(&ferry.status());
    let (here, there) = (inbox(&from), inbox(&to));
    assert_eq!(here.keys().collect::<Vec<_>>(), there.keys().collect::<Vec<_>>(), "each arrived");

    let messages = ferry.messages();
    let verdict_of = |uid: u32| {
        let row = messages.iter().find(|row| row["source"]["uid"] == uid).expect("a row for each message");
        (row["verdict"].as_str().unwrap_or_default(), row["reason"].as_str().unwrap_or_default())
    };
    let (mut differ, mut unnoticed) = (0, 0);
    for (date, row) in &here {
        let stored = &there[date];
        let (verdict, reason) = verdict_of(row.uid);
        let same = row.digest == stored.digest;
        differ += usize::from(!same);
        let told = verdict == "DeliveredAltered" && !reason.is_empty();
        unnoticed += usize::from(!same && !told);
        assert!(
            if same { verdict == "Delivered" } else { told || row.size == stored.size },
            "{}: {} bytes of {} are there: {verdict} {reason}",
            row.name,
            stored.size,
            row.size
        );
    }
    assert_eq!(differ > 0, alters, "{differ} differ");

    let verified = ferry.call("verify", &["--depth", "Full"]);
    let sum =
        format!("{} checked = {} identical + {differ} altered + 0 missing", here.len(), here.len() - differ);
    assert!(verified.stdout.contains(&sum), "{sum}\n{}{}", verified.stdout, verified.stderr);
    ferry.call("verify", &["--depth", "Full", "--repair"]);
    // The verification was the first to see those that kept their size, and nobody agreed to them.
    ferry.run(&["--progress", "none"]).expect_code(if unnoticed > 0 { 25 } else { 0 });
    assert_eq!(inbox(&to).len(), here.len(), "nothing is sent twice");
}

#[test]
fn a_james_keeps_each_odd_message_as_it_was() {
    assert_told(Kind::James, false);
}
