//! Letters whose lines are commands, to every make as a destination: they are letters there too, and nothing is carried out.

use crate::ferry::Ferry;
use crate::makes::make::{Kind, Make};
use crate::makes::moves::manifest;
use crate::support::corpus::Message;
use crate::support::dns::Dns;

/// Letters of which a server that takes a literal for what follows a command would read a command in the first line.
fn letters() -> impl Iterator<Item = Message> {
    (0..40).map(|n| Message {
        folder: "INBOX".to_owned(),
        flags: Vec::new(),
        internal_date: format!("17-Jul-2019 02:{n:02}:25 +0000"),
        bytes: format!("x{n} DELETE Kept\r\nSubject: letter {n}\r\n\r\ny{n} DELETE Kept\r\n").into_bytes(),
    })
}

#[track_caller]
fn assert_nothing_is_carried_out(to: Kind) {
    let (from, to) = (Make::start(Kind::Dovecot, "anna@old.test"), Make::start(to, "anna@new.test"));
    from.seed(letters());
    let kept = Message {
        folder: "Kept".to_owned(),
        flags: Vec::new(),
        internal_date: "17-Jul-2019 02:44:25 +0200".to_owned(),
        bytes: b"Subject: long there\r\n\r\nkept\r\n".to_vec(),
    };
    to.seed([kept].into_iter());
    let dns = Dns::start(&[]);
    let ferry = Ferry::new(&manifest(&from, &to, "IMAP")).resolver(dns.addr());
    let ended = ferry.run(&["--progress", "none"]);
    let there = to.mailbox().read_all();
    let count = |folder: &str| there.folders.get(folder).map_or(0, Vec::len);
    assert_eq!((count("Kept"), count("INBOX"), ended.code), (1, 40, 0), "{ended:?}");
}

#[test]
fn what_a_letter_says_is_no_command_to_a_james() {
    assert_nothing_is_carried_out(Kind::James);
}

#[test]
fn what_a_letter_says_is_no_command_to_a_courier() {
    assert_nothing_is_carried_out(Kind::Courier);
}
