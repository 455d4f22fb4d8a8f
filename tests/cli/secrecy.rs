//! No password appears anywhere: not in what is printed or logged at the loudest level, not in the state directory, not
//! in the arguments or the environment of the process; and nobody is talked to whose network is not allowed.

use std::fs;
use std::io::{Cursor, ErrorKind, Read};
use std::net::TcpListener;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::ferry::{Ferry, Manifest, csv, files, server};
use crate::support::canary::{Canary, assert_clean};
use crate::support::corpus::Corpus;
use crate::support::dovecot::{Access, Dovecot, LOOPBACK, User};

/// Every file of the state as it lies there, and what is packed in workbooks.
fn assert_state_clean(canaries: &[Canary], state: &Path) {
    let all = files(state);
    assert!(all.iter().any(|path| path.extension().is_some_and(|e| e == "sqlite")), "{all:?}");
    for path in all {
        let bytes = match fs::read(&path) {
            // The run is at work: a file that is written beside its place has another name a moment later.
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            read => read.unwrap(),
        };
        assert_clean(canaries, &path.display().to_string(), &bytes);
        if path.extension().is_some_and(|extension| extension == "xlsx") {
            let mut book = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
            for at in 0..book.len() {
                let mut text = Vec::new();
                book.by_index(at).unwrap().read_to_end(&mut text).unwrap();
                assert_clean(canaries, &format!("{} part {at}", path.display()), &text);
            }
        }
    }
}

#[test]
fn a_canary_is_seen_in_every_form() {
    let canary = Canary::new("C4n/ary+ä?", &["bob"]);
    let sasl = BASE64_STANDARD.encode("\0bob\0C4n/ary+ä?");
    let longer = BASE64_STANDARD.encode("a longer text, C4n/ary+ä? in it");
    for text in ["the C4n/ary+ä? here", &sasl, &longer, "43346e2f6172792bc3a43f"] {
        let seen = canary.forms.iter().any(|form| text.as_bytes().windows(form.len()).any(|w| w == form));
        assert!(seen, "{text}");
    }
}

#[test]
#[allow(clippy::too_many_lines, reason = "one story: every way that a password could come out")]
fn no_password_is_shown_anywhere() {
    let canaries = [
        Canary::new("Kestrel-master-7/41+x", &["boss", "alice@a.test*boss"]),
        Canary::new("Heron-bob-3:92%y", &["bob@b.test", "bob"]),
        Canary::new("Egret-wrong-5=18&z", &["beth@b.test"]),
        Canary::new("Plover-single-\"6\"\\64", &["carl@c.test"]),
        Canary::new("Stork-new-8 22'q", &["admin", "alice@new.test*admin"]),
        Canary::new("Heron-file-4-11", &["dan@d.test"]),
        Canary::new("Bittern-env-9-77", &["eve@e.test"]),
    ];
    let [master, bob, wrong, single, new_admin, from_file, from_env] = &canaries;
    let a = Dovecot::builder()
        .imap(LOOPBACK)
        .user(User::new("alice@a.test", "x"))
        .master("boss", &master.password)
        .start();
    let b = Dovecot::builder()
        .imap(LOOPBACK)
        .pop3(LOOPBACK)
        .user(User::new("bob@b.test", &bob.password).only(Access::Pop3))
        .user(User::new("beth@b.test", "something else"))
        .start();
    let c = Dovecot::builder()
        .imap(LOOPBACK)
        .user(User::new("carl@c.test", &single.password))
        .user(User::new("dan@d.test", &from_file.password))
        .user(User::new("eve@e.test", &from_env.password))
        .start();
    let mut new = Dovecot::builder().imap(LOOPBACK).master("admin", &new_admin.password);
    for name in ["alice", "bob", "beth", "carl", "dan", "eve"] {
        new = new.user(User::new(&format!("{name}@new.test"), "x"));
    }
    let new = new.start();
    a.mailbox("alice@a.test").seed(Corpus::new(91).messages(60));
    b.mailbox("bob@b.test").seed(Corpus::new(92).inbox_only().messages(20));
    c.mailbox("carl@c.test").seed(Corpus::new(93).messages(20));

    let two = format!(
        "servers:\n- {{protocol: IMAP, host: 127.0.0.1, port: {}, tls: None}}\n- {{protocol: POP3, host: 127.0.0.1, port: {}, tls: None}}",
        b.imap().port(),
        b.pop3().port()
    );
    let quote = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let rows =
        csv(&[("bob@b.test", "", &quote(&bob.password)), ("beth@b.test", "", &quote(&wrong.password))]);
    let manifest = Manifest::to(new.imap(), "admin", &new_admin.password)
        .secret(
            "a.test",
            &[("masterUser", "boss"), ("masterPassword", &master.password), ("masterSeparator", "*")],
        )
        .secret("b.test", &[("mailboxes.csv", &rows)])
        .secret("c.test", &[("username", "carl@c.test"), ("password", &single.password)])
        .secret("d.test", &[("username", "dan@d.test"), ("password", "file:dan.password")])
        .secret("e.test", &[("username", "eve@e.test"), ("password", "env:EVES_PASSWORD")])
        .domain("a.test", &["alice"], &server("IMAP", a.imap()))
        .domain("b.test", &["bob", "beth"], &two)
        .domain("c.test", &["carl"], &server("IMAP", c.imap()))
        .domain("d.test", &["dan"], &server("IMAP", c.imap()))
        .domain("e.test", &["eve"], &server("IMAP", c.imap()));
    let ferry = Ferry::new(&manifest.clone().policy("limits: {bytesPerSecond: 60000}").text())
        .env("MAILFERRY_LOG", "trace")
        .env("RUST_LOG", "trace")
        .env("EVES_PASSWORD", &from_env.password);
    fs::write(ferry.path("dan.password"), format!("{}\n", from_file.password)).unwrap();

    let mut child = ferry.start(&["-vv", "--progress", "plain"]);
    let patience = Instant::now() + Duration::from_secs(30);
    while new.mailbox("alice@new.test").read_all().messages() == 0 {
        assert!(Instant::now() < patience && child.try_wait().unwrap().is_none(), "nothing arrives");
        sleep(Duration::from_millis(50));
    }
    let own = |what: &str| fs::read(format!("/proc/{}/{what}", child.id())).unwrap();
    assert!(!own("cmdline").is_empty());
    assert_clean(&canaries, "the command line", &own("cmdline"));
    // The user's own variable is the user's to set; nothing else may carry it, and no other password is there.
    let environment = own("environ");
    let ours: Vec<u8> = environment
        .split(|byte| *byte == 0)
        .filter(|variable| !variable.starts_with(b"EVES_PASSWORD="))
        .flatten()
        .copied()
        .collect();
    assert_clean(&canaries, "the environment", &ours);
    // The state in the middle of the work, with journals.
    assert_state_clean(&canaries, &ferry.state());
    assert_eq!(child.wait().unwrap().code(), Some(21), "beth's password is wrong");
    let log = fs::read(ferry.path("run.err")).unwrap();
    let text = String::from_utf8_lossy(&log);
    assert!(text.contains("TRACE") || text.contains("DEBUG"), "the log is loud:\n{text}");
    assert_clean(&canaries, "standard error", &log);
    assert_clean(&canaries, "standard output", &fs::read(ferry.path("run.out")).unwrap());
    assert_state_clean(&canaries, &ferry.state());

    for (command, args) in [
        ("run", &["-vv", "--output", "json"][..]),
        ("status", &["-vv", "--output", "yaml"]),
        ("status", &["-vv", "--output", "json"]),
        ("report", &["-vv", "--format", "html"]),
        ("report", &["-vv", "--format", "json", "--kind", "discovery"]),
        ("report", &["-vv", "--format", "json", "--kind", "messages"]),
        ("verify", &["-vv", "--depth", "Full"]),
    ] {
        let ended = ferry.call(command, args);
        assert_clean(&canaries, command, ended.stdout.as_bytes());
        assert_clean(&canaries, command, ended.stderr.as_bytes());
    }
    // A manifest that is wrong at a password repeats no password either.
    let whole = manifest.text();
    for (from, to) in [
        ("  password: \"Plover", "  password: 5\n  passwort: \"Plover"),
        ("  masterPassword: \"Kestrel", "  masterPassword: [\"Kestrel"),
        ("stringData:\n  username: \"carl", "stringdata:\n  username: \"carl"),
        ("  mailboxes.csv: \"address,username,password", "  mailboxes.csv: \"address;username;password"),
    ] {
        assert!(whole.contains(from), "{from}");
        ferry.write(&whole.replacen(from, to, 1));
        let ended = ferry.run(&["-vv"]);
        assert_ne!(ended.code, 0, "{to}");
        assert_clean(&canaries, "an error about the manifest", ended.stderr.as_bytes());
        assert_clean(&canaries, "an error about the manifest", ended.stdout.as_bytes());
    }
    assert_state_clean(&canaries, &ferry.state());
}

#[test]
fn nobody_is_talked_to_whose_network_is_not_allowed() {
    let listener = TcpListener::bind(LOOPBACK).unwrap();
    listener.set_nonblocking(true).unwrap();
    let at = listener.local_addr().unwrap();
    let manifest = Manifest::to(at, "admin", "admin-secret")
        .secret("a.test", &[("username", "alice@a.test"), ("password", "alice-secret")])
        .domain("a.test", &["alice"], &server("IMAP", at));
    for text in [manifest.bare(), manifest.clone().policy("allowedNetworks: [\"10.0.0.0/8\"]").bare()] {
        let ferry = Ferry::new(&text);
        let ended = ferry.run(&[]);
        let (line, hint) = ended.expect_code(22).error();
        println!("error: {line}\n  hint: {hint}");
        assert!(line.contains("a.test") && line.contains("127.0.0.1"), "{line}");
        assert!(hint.contains("spec.policy.allowedNetworks"), "{hint}");
        assert!(ferry.status().to_string().contains("AddressNotAllowed"));
        assert!(listener.accept().is_err(), "a connection was made");
    }
}
