//! A plan asks both ends: the destination lets us in, has room and takes what is to come; a channel that is secured otherwise
//! than the manifest says is recognised in seconds; and what is counted is what would be carried.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::ferry::{Ended, Ferry, Manifest, csv, figure, server};
use crate::support::ca::Ca;
use crate::support::compare::differences;
use crate::support::corpus::{Corpus, Message};
use crate::support::dovecot::{Dovecot, LOOPBACK, User};
use serde_json::Value;

/// In which a wrong kind of channel is to be recognised, on a machine that has other work.
const SECONDS: Duration = Duration::from_secs(30);

fn findings(status: &Value, code: &str) -> Vec<String> {
    let domains = status["status"]["domains"].as_array().into_iter().flatten();
    let found = domains.flat_map(|domain| domain["findings"].as_array().into_iter().flatten());
    let found = found.filter(|finding| finding["code"] == code);
    found.map(|finding| finding["message"].as_str().unwrap().to_owned()).collect()
}

fn planned(ferry: &Ferry) -> (Ended, Value) {
    let ended = ferry.run(&["--stage", "Plan"]);
    let status = ferry.status();
    (ended, status)
}

#[test]
fn the_destination_is_asked_for_its_mailboxes_their_room_and_its_names_of_folders() {
    let old = ["anna", "ben", "carl"].iter().fold(Dovecot::builder().imap(LOOPBACK), |old, name| {
        old.user(User::new(&format!("{name}@old.test"), "secret"))
    });
    let old = old.start();
    for (seed, name) in (21..).zip(["anna", "ben", "carl"]) {
        old.mailbox(&format!("{name}@old.test")).seed(Corpus::new(seed).ordinary_only().messages(30));
    }
    let new = Dovecot::builder()
        .imap(LOOPBACK)
        .namespace('.', "INBOX.")
        .user(User::new("anna@new.test", "anna-new"))
        .user(User::new("ben@new.test", "ben-new").quota(10_000))
        .record_commands()
        .start();
    let rows = |domain: &str, passwords: [&str; 3]| {
        let addresses = ["anna", "ben", "carl"].map(|name| format!("{name}@{domain}"));
        let rows: Vec<_> = addresses
            .iter()
            .zip(passwords)
            .map(|(address, password)| (address.as_str(), "", password))
            .collect();
        csv(&rows)
    };
    let at = format!("host: {}, port: {}, tls: None", new.imap().ip(), new.imap().port());
    let manifest = Manifest::default()
        .destination(&format!("{{{at}, credentialsRef: {{name: new}}}}"))
        .secret("new", &[("mailboxes.csv", &rows("new.test", ["anna-new", "ben-new", "carl-new"]))])
        .secret("old.test", &[("mailboxes.csv", &rows("old.test", ["secret"; 3]))])
        .domain("old.test", &["anna", "ben", "carl"], &server("IMAP", old.imap()));
    let ferry = Ferry::new(&manifest.text());
    let (ended, status) = planned(&ferry);
    ended.expect_code(0);
    let closed = findings(&status, "DestinationMailboxClosed");
    assert!(
        closed[0].starts_with("carl@new.test is not open to us") && closed[0].contains("Secret new"),
        "{closed:?}"
    );
    let short = findings(&status, "DestinationRoomShort");
    assert!(short[0].contains("are to go to ben@new.test"), "{short:?}");
    let evidence = ferry.call("report", &["--kind", "discovery", "--format", "csv"]).stdout;
    assert!(
        evidence.contains("2 of 3 mailboxes")
            && evidence.contains("parted by \"\".\"\"")
            && evidence.contains("below \"\"INBOX.\"\""),
        "{evidence}"
    );
    // Nothing was opened, made or written.
    for name in ["anna@new.test", "ben@new.test"] {
        assert_eq!(new.count_commands(name, "STATUS"), 1, "{name}: it was asked once");
        for verb in ["SELECT", "EXAMINE", "CREATE", "APPEND"] {
            assert_eq!(new.count_commands(name, verb), 0, "{name}: {verb}");
        }
    }
    // A wrong password at the destination is tried twice in a day and no more, over all runs.
    for _ in 0..4 {
        planned(&ferry);
    }
    let refused = new
        .log()
        .lines()
        .filter(|line| line.contains("carl@new.test") && line.contains("auth failed"))
        .count();
    assert!((1..=2).contains(&refused), "{refused} refusals:\n{}", new.log());
}

#[test]
fn a_password_that_all_mailboxes_share_is_refused_for_few_of_them() {
    let names: Vec<String> = (0..12).map(|n| format!("user{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (mut old, mut new) = (Dovecot::builder().imap(LOOPBACK), Dovecot::builder().imap(LOOPBACK));
    for name in &names {
        old = old.user(User::new(&format!("{name}@old.test"), "secret"));
        new = new.user(User::new(&format!("{name}@new.test"), "of-no-use"));
    }
    let (old, new) = (old.start(), new.master("admin", "admin-secret").start());
    let addresses: Vec<String> = names.iter().map(|name| format!("{name}@old.test")).collect();
    let rows: Vec<_> = addresses.iter().map(|address| (address.as_str(), "", "secret")).collect();
    let manifest = Manifest::to(new.imap(), "admin", "mistyped")
        .secret("old.test", &[("mailboxes.csv", &csv(&rows))])
        .domain("old.test", &names, &server("IMAP", old.imap()));
    let ferry = Ferry::new(&manifest.text());
    let (_, status) = planned(&ferry);
    let rejected = findings(&status, "CredentialsRejected");
    assert!(
        rejected[0].starts_with("The password in Secret ") && rejected[0].contains("refused"),
        "{rejected:?}"
    );
    let count = |code: &str| {
        let found = status["status"]["domains"][0]["findings"].as_array().unwrap();
        found
            .iter()
            .filter(|finding| finding["code"] == code)
            .map(|finding| finding["count"].as_u64().unwrap())
            .sum()
    };
    // Whether a mailbox is there nobody knows before the password is right.
    let counts: [u64; 3] =
        ["CredentialsRejected", "DestinationMailboxClosed", "DestinationUnasked"].map(count);
    assert_eq!(counts, [12, 0, 0], "{status}");
    let refused = new.log().lines().filter(|line| line.contains("auth failed")).count();
    assert!((1..=2).contains(&refused), "{refused} refusals:\n{}", new.log());
}

#[test]
fn mailboxes_that_are_not_there_do_not_shut_out_those_that_an_administrator_opens() {
    let names: Vec<String> = (0..9).map(|n| format!("user{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (mut old, mut new) = (Dovecot::builder().imap(LOOPBACK), Dovecot::builder().imap(LOOPBACK));
    for name in &names {
        old = old.user(User::new(&format!("{name}@old.test"), "secret"));
        if matches!(*name, "user0" | "user8") {
            new = new.user(User::new(&format!("{name}@new.test"), "of-no-use"));
        }
    }
    let (old, new) = (old.start(), new.master("admin", "admin-secret").start());
    for name in &names {
        old.mailbox(&format!("{name}@old.test")).seed(Corpus::new(71).messages(2));
    }
    let addresses: Vec<String> = names.iter().map(|name| format!("{name}@old.test")).collect();
    let rows: Vec<_> = addresses.iter().map(|address| (address.as_str(), "", "secret")).collect();
    let manifest = Manifest::to(new.imap(), "admin", "admin-secret")
        .secret("old.test", &[("mailboxes.csv", &csv(&rows))])
        .domain("old.test", &names, &server("IMAP", old.imap()));
    let ferry = Ferry::new(&manifest.text());
    for round in 0..2 {
        let (_, status) = planned(&ferry);
        let found = status["status"]["domains"][0]["findings"].as_array().unwrap();
        let closed = found.iter().find(|finding| finding["code"] == "DestinationMailboxClosed").unwrap();
        assert_eq!(closed["count"], 7, "round {round}: {found:?}");
        assert!(closed["message"].as_str().unwrap().contains("Make the mailbox"), "{closed}");
        assert_eq!(findings(&status, "DestinationUnasked"), [""; 0], "round {round}");
    }
    ferry.run(&[]);
    for name in ["user0", "user8"] {
        let [mut here, mut there] =
            [old.mailbox(&format!("{name}@old.test")), new.mailbox(&format!("{name}@new.test"))];
        assert_eq!(differences(&here.read_all(), &there.read_all()), [""; 0], "{name}");
    }
    // Refused and accepted logins take turns: a server that locks accounts sees two refusals in a row at most.
    let mut in_a_row = 0;
    for line in new.log().lines() {
        if line.contains("auth failed") {
            in_a_row += 1;
        } else if line.contains("Login: user=") || line.contains("Logged in") {
            in_a_row = 0;
        }
        assert!(in_a_row <= 3, "{}", new.log());
    }
}

/// A manifest whose source, or destination, is secured in this way.
fn secured(old: SocketAddr, new: SocketAddr, ends: [&str; 2], protocol: &str) -> Manifest {
    let secret = |user| [("username", user), ("password", "secret")];
    Manifest::default()
        .destination(&format!(
            "{{host: {}, port: {}, tls: {}, credentialsRef: {{name: new}}}}",
            new.ip(),
            new.port(),
            ends[1]
        ))
        .secret("new", &secret("anna@new.test"))
        .secret("old.test", &secret("anna@old.test"))
        .domain(
            "old.test",
            &["anna"],
            &format!(
                "servers: [{{protocol: {protocol}, host: {}, port: {}, tls: {}}}]",
                old.ip(),
                old.port(),
                ends[0]
            ),
        )
}

#[test]
fn a_port_that_is_secured_otherwise_is_recognised_in_seconds() {
    let ca = Ca::new();
    let certificate = ca.issue(&["127.0.0.1"]);
    let dovecot = |user: &str| {
        let builder = Dovecot::builder().imap(LOOPBACK).imaps(LOOPBACK).pop3(LOOPBACK).pop3s(LOOPBACK);
        builder.tls(&certificate).user(User::new(user, "secret")).start()
    };
    let (old, new) = (dovecot("anna@old.test"), dovecot("anna@new.test"));
    let (plain, tls) = (old.imap(), old.imaps());
    let wrong = [
        ("IMAP", tls, "StartTLS", "speaks TLS from the first byte", "write tls: Implicit"),
        ("IMAP", tls, "None", "speaks TLS from the first byte", "write tls: Implicit"),
        ("IMAP", plain, "Implicit", "speaks in clear at first", "write tls: StartTLS"),
        ("POP3", old.pop3s(), "StartTLS", "speaks TLS from the first byte", "write tls: Implicit"),
        ("POP3", old.pop3(), "Implicit", "speaks in clear at first", "write tls: StartTLS"),
    ];
    for (protocol, at, wanted, told, remedy) in wrong {
        let manifest = secured(at, new.imaps(), [wanted, "Implicit"], protocol);
        let ferry = Ferry::new(&manifest.text());
        std::fs::write(ferry.path("ca.pem"), ca.pem()).unwrap();
        let begun = Instant::now();
        let ended = ferry.run(&["--stage", "Plan", "--ca", "ca.pem"]);
        assert!(begun.elapsed() < SECONDS, "{protocol} {wanted}: {:?}", begun.elapsed());
        assert_eq!(ended.code, 20, "{}", ended.stderr);
        assert!(
            ended.stderr.contains(told) && ended.stderr.contains(remedy),
            "{protocol} {wanted}: {}",
            ended.stderr
        );
        let found = findings(&ferry.status(), "ChannelSecuredOtherwise");
        assert!(found[0].contains(told) && found[0].contains(remedy), "{protocol} {wanted}: {found:?}");
    }
    for (at, wanted, told) in [
        (new.imaps(), "StartTLS", "speaks TLS from the first byte"),
        (new.imap(), "Implicit", "speaks in clear at first"),
    ] {
        let ferry = Ferry::new(&secured(old.imaps(), at, ["Implicit", wanted], "IMAP").text());
        std::fs::write(ferry.path("ca.pem"), ca.pem()).unwrap();
        let begun = Instant::now();
        ferry.run(&["--stage", "Plan", "--ca", "ca.pem"]).expect_code(20);
        assert!(begun.elapsed() < SECONDS, "destination {wanted}: {:?}", begun.elapsed());
        let unusable = findings(&ferry.status(), "DestinationUnusable");
        assert!(unusable[0].contains(told), "{unusable:?}");
    }
}

#[test]
fn servers_of_two_authorities_are_trusted_by_two_files() {
    let (one, other) = (Ca::new(), Ca::new());
    let dovecot = |user: &str, ca: &Ca| {
        let builder = Dovecot::builder().imap(LOOPBACK).imaps(LOOPBACK).tls(&ca.issue(&["127.0.0.1"]));
        builder.user(User::new(user, "secret")).start()
    };
    let (old, new) = (dovecot("anna@old.test", &one), dovecot("anna@new.test", &other));
    let ferry = Ferry::new(&secured(old.imaps(), new.imaps(), ["Implicit", "Implicit"], "IMAP").text());
    for (name, text) in [("one.pem", one.pem()), ("other.pem", other.pem()), ("none.pem", "")] {
        std::fs::write(ferry.path(name), text).unwrap();
    }
    ferry.run(&["--stage", "Plan", "--ca", "one.pem"]).expect_code(20);
    ferry.run(&["--stage", "Plan", "--ca", "one.pem", "--ca", "other.pem"]).expect_code(0);
    let ended = ferry.run(&["--stage", "Plan", "--ca", "one.pem", "--ca", "none.pem"]);
    ended.expect_code(23);
    assert!(ended.error().0.contains("none.pem: it holds no certificate"), "{}", ended.stderr);
}

#[test]
fn a_port_that_speaks_another_protocol_is_recognised_by_its_greeting() {
    let ca = Ca::new();
    let certificate = ca.issue(&["127.0.0.1"]);
    let dovecot = |user: &str| {
        let builder = Dovecot::builder().imap(LOOPBACK).imaps(LOOPBACK).pop3(LOOPBACK).pop3s(LOOPBACK);
        builder.tls(&certificate).user(User::new(user, "secret")).start()
    };
    let (old, new) = (dovecot("anna@old.test"), dovecot("anna@new.test"));
    let run = |old: SocketAddr, new: SocketAddr, tls: [&str; 2], protocol: &str| {
        let ferry = Ferry::new(&secured(old, new, tls, protocol).text());
        std::fs::write(ferry.path("ca.pem"), ca.pem()).unwrap();
        let begun = Instant::now();
        let ended = ferry.run(&["--stage", "Plan", "--ca", "ca.pem"]);
        assert!(begun.elapsed() < SECONDS, "{protocol} {tls:?}: {:?}", begun.elapsed());
        println!("{}", ended.stderr);
        (ferry, ended)
    };
    for (protocol, at, tls, told, remedy) in [
        ("IMAP", old.pop3s(), "Implicit", "speaks POP3 on this port, and IMAP was wanted", "993"),
        ("IMAP", old.pop3(), "None", "speaks POP3 on this port, and IMAP was wanted", "protocol: POP3"),
        ("POP3", old.imaps(), "Implicit", "speaks IMAP on this port, and POP3 was wanted", "995"),
        ("POP3", old.imap(), "StartTLS", "speaks IMAP on this port, and POP3 was wanted", "protocol: IMAP"),
    ] {
        let (ferry, ended) = run(at, new.imaps(), [tls, "Implicit"], protocol);
        assert!(ended.stderr.contains(told) && ended.stderr.contains(remedy), "{protocol}: {}", ended.stderr);
        let found = findings(&ferry.status(), "OtherProtocolSpoken");
        assert!(found[0].contains(told) && found[0].contains(remedy), "{protocol} {tls}: {found:?}");
    }
    let (ferry, _) = run(old.imaps(), new.pop3s(), ["Implicit", "Implicit"], "IMAP");
    let unusable = findings(&ferry.status(), "DestinationUnusable");
    assert!(unusable[0].contains("speaks POP3 on this port") && unusable[0].contains("993"), "{unusable:?}");
}

/// Reason and state of a condition.
fn condition(status: &Value, kind: &str) -> (String, String) {
    let conditions = status["status"]["conditions"].as_array().unwrap();
    let found = conditions.iter().find(|condition| condition["type"] == kind).unwrap();
    let word = |key: &str| found[key].as_str().unwrap().to_owned();
    (word("status"), word("reason"))
}

#[test]
fn a_destination_that_cannot_be_used_is_no_success_and_one_that_cannot_be_asked_for_now_is() {
    let ca = Ca::new();
    let certificate = ca.issue(&["127.0.0.1"]);
    let old = Dovecot::builder().imap(LOOPBACK).user(User::new("anna@old.test", "secret")).start();
    let new = Dovecot::builder().imap(LOOPBACK).imaps(LOOPBACK).tls(&certificate);
    let new = new.user(User::new("anna@new.test", "secret")).start();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let wrong = |at, tls: &str| {
        secured(old.imap(), at, ["None", tls], "IMAP").text().replace("name: new}", "name: mistyped}")
    };
    let mistyped = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: mistyped, namespace: test}}\n\
         stringData: {{username: anna@new.test, password: mistyped}}\n---\n{}",
        wrong(new.imap(), "None")
    );
    let text = |at, tls: &str| secured(old.imap(), at, ["None", tls], "IMAP").text();
    let unknown = |reason: &str| ("Unknown".to_owned(), reason.to_owned());
    for (manifest, code, finding, accepted) in [
        // Nobody gave its authority.
        (text(new.imaps(), "Implicit"), 20, "DestinationUnusable", unknown("CertificateRejected")),
        (text(closed, "None"), 10, "DestinationUnusable", unknown("Unreachable")),
        (mistyped, 21, "DestinationMailboxClosed", ("False".to_owned(), "CredentialsRejected".to_owned())),
    ] {
        let ferry = Ferry::new(&manifest);
        let ended = ferry.run(&["--stage", "Plan"]);
        ended.expect_code(code);
        assert!(ended.stderr.contains("error: destination: "), "{finding}: {}", ended.stderr);
        assert!(ended.stderr.contains("→ ") || ended.stderr.contains("hint"), "{finding}: {}", ended.stderr);
        let status = ferry.status();
        assert_eq!(condition(&status, "Ready").0, "False", "{status}");
        assert_eq!(condition(&status, "CredentialsAccepted"), accepted, "{status}");
        assert_eq!(findings(&status, finding).len(), 1, "{status}");
    }
    // A name server that has no answer for now says nothing about the destination.
    let later = text(new.imap(), "None").replacen("host: 127.0.0.1", "host: imap.new.test", 1);
    let ferry = Ferry::new(&later);
    ferry.run(&["--stage", "Plan", "--resolver", &closed.to_string()]).expect_code(0);
    let status = ferry.status();
    assert_eq!(condition(&status, "Ready").0, "True", "{status}");
    assert_eq!(condition(&status, "CredentialsAccepted").0, "Unknown", "{status}");
    assert_eq!(findings(&status, "DestinationUnasked").len(), 1, "{status}");
}

fn letter(folder: &str, date: &str, size: usize) -> Message {
    Message {
        folder: folder.to_owned(),
        flags: Vec::new(),
        internal_date: format!("{date} 08:15:42 +0000"),
        bytes: format!("From: a@x.test\r\nSubject: {date} {size}\r\n\r\n{}\r\n", "x".repeat(size))
            .into_bytes(),
    }
}

#[test]
fn what_is_counted_and_priced_is_what_would_be_carried() {
    let old = Dovecot::builder().imap(LOOPBACK).user(User::new("anna@old.test", "secret")).start();
    let new = Dovecot::builder().imap(LOOPBACK).user(User::new("anna@new.test", "secret")).start();
    let mail = [
        letter("INBOX", "07-Mar-2015", 100),
        letter("INBOX", "07-Mar-2019", 200),
        letter("INBOX", "08-Mar-2019", 300),
        letter("INBOX", "09-Mar-2019", 500_000),
        letter("Work", "09-Mar-2020", 400),
        letter("Junk", "10-Mar-2020", 500),
        letter("Junk", "11-Mar-2020", 600),
    ];
    old.mailbox("anna@old.test").seed(mail);
    let manifest = secured(old.imap(), new.imap(), ["None", "None"], "IMAP");
    let whole = Ferry::new(&manifest.text());
    let counts = |ferry: &Ferry| {
        planned(ferry).0.expect_code(0);
        let status = ferry.status();
        (figure(&status, "pending"), figure(&status, "excluded"))
    };
    assert_eq!(counts(&whole), (7, 0));

    let smaller = manifest.policy("since: 2018-01-01").policy("maxMessageBytes: 100000").text();
    let smaller = format!("{smaller}  mapping: {{exclude: [Junk]}}\n");
    let ferry = Ferry::new(&smaller);
    assert_eq!(counts(&ferry), (3, 4), "Junk, one that is old and one that is large");
    let order = |ferry: &Ferry| {
        let told = ferry.call("report", &["--kind", "sow", "--format", "json"]);
        told.expect_code(0).json()
    };
    let priced = order(&ferry);
    assert_eq!(
        (&priced["scope"][0]["messages"], &priced["leftOut"]["messages"]),
        (&3.into(), &4.into()),
        "{priced}"
    );
    assert!(priced["scope"][0]["bytes"].as_u64().unwrap() < 2_000);
    let page = ferry.call("report", &["--kind", "sow", "--format", "html"]).stdout;
    assert!(page.contains("By these rules 4 messages"), "{page}");

    // The messages carried are those that were counted.
    ferry.run(&[]).expect_code(0);
    let status = ferry.status();
    assert_eq!((figure(&status, "copied"), figure(&status, "excluded")), (3, 4));

    let pilot = smaller.replace("  policy:\n", "  policy:\n    pilot: {messagesPerFolder: 1}\n");
    let ferry = Ferry::new(&pilot);
    planned(&ferry).0.expect_code(0);
    let priced = order(&ferry);
    assert_eq!(priced["scope"][0]["messages"], 2, "one of each folder that is not left out: {priced}");
    ferry.run(&[]).expect_code(0);
    assert_eq!(figure(&ferry.status(), "copied"), 2);
}
