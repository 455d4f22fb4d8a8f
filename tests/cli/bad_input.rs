//! Every fault in a manifest, at a server or in the state directory ends in one clear line that names the place and the
//! remedy, with the exit code of its class; the same is in status and report; and nothing else is stopped by it.

use crate::support;
use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::ferry::{Ended, Ferry, Manifest, assert_equation, csv, figure, files, server};
use crate::support::ca::{Ca, Certificate, Validity};
use crate::support::compare::maildrop;
use crate::support::corpus::{Corpus, Message};
use crate::support::dns::{Dns, Record};
use crate::support::dovecot::{Dovecot, LOOPBACK, MAIL_UID, User};
use crate::support::process;

/// Messages of the mailbox that nothing may stop.
const GOOD: usize = 20;

/// A good domain with one mailbox, and a destination that also knows the mailboxes of a bad one.
struct Stage {
    good: Dovecot,
    new: Dovecot,
}

impl Stage {
    fn set() -> Self {
        Self::with(
            &["bert", "berta", "bob"].map(|name| User::new(&format!("{name}@new.test"), "of-no-use")),
            |b| b,
        )
    }

    fn with(
        users: &[User],
        change: impl FnOnce(support::dovecot::Builder) -> support::dovecot::Builder,
    ) -> Self {
        let good =
            Dovecot::builder().imap(LOOPBACK).user(User::new("greta@good.test", "greta-secret")).start();
        good.mailbox("greta@good.test").seed(Corpus::new(81).messages(GOOD));
        let mut new = Dovecot::builder()
            .imap(LOOPBACK)
            .master("admin", "admin-secret")
            .user(User::new("greta@new.test", "of-no-use"));
        for user in users {
            new = new.user(user.clone());
        }
        Self { good, new: change(new).start() }
    }

    /// The manifest of the good domain alone.
    fn manifest(&self) -> Manifest {
        Manifest::to(self.new.imap(), "admin", "admin-secret")
            .secret("good.test", &[("mailboxes.csv", &csv(&[("greta@good.test", "", "greta-secret")]))])
            .domain("good.test", &["greta"], &server("IMAP", self.good.imap()))
    }

    #[track_caller]
    fn assert_good_arrived(&self) {
        assert_eq!(self.arrived("greta"), GOOD, "the good mailbox");
    }

    fn arrived(&self, name: &str) -> usize {
        self.new.mailbox(&format!("{name}@new.test")).read_all().messages()
    }
}

/// A server of the bad domain with a mailbox for bert and some mail in it.
fn bad_server() -> Dovecot {
    let bad = Dovecot::builder().imap(LOOPBACK).user(User::new("bert@bad.test", "bert-secret")).start();
    bad.mailbox("bert@bad.test").seed(Corpus::new(82).inbox_only().messages(10));
    bad
}

fn bert(password: &str) -> [(&'static str, String); 1] {
    [("mailboxes.csv", csv(&[("bert@bad.test", "", password)]))]
}

fn with_bad(stage: &Stage, password: &str, more: &str) -> Manifest {
    let [(key, value)] = &bert(password);
    stage.manifest().secret("bad.test", &[(key, value)]).domain("bad.test", &["bert"], more)
}

/// Holds a run to what every failure owes its reader: the exit code, one line with every part of the place, a remedy;
/// and status and report that say the same.
#[track_caller]
fn assert_told(ferry: &Ferry, ended: &Ended, class: &str, code: i32, parts: &[&str], remedy: &str) {
    ended.expect_code(code);
    let (line, hint) = ended.error();
    println!("error: {line}\n  hint: {hint}");
    for part in parts {
        assert!(line.contains(part), "no \"{part}\" in: {line}");
    }
    assert!(line.ends_with(&format!("[{class}, exit {code}]")), "{line}");
    assert!(hint.contains(remedy), "no \"{remedy}\" in: {hint}");
    let last = parts.last().expect("what is wrong");
    let status = ferry.status();
    assert!(holds(&status, last), "the status does not say \"{last}\": {status:#}");
    let report = ferry.report("json");
    assert!(
        holds(&serde_json::from_str(&report).unwrap(), last),
        "the report does not say \"{last}\": {report}"
    );
}

/// Whether a text is anywhere in a JSON value.
fn holds(value: &serde_json::Value, text: &str) -> bool {
    match value {
        serde_json::Value::String(own) => own.contains(text),
        serde_json::Value::Array(values) => values.iter().any(|value| holds(value, text)),
        serde_json::Value::Object(values) => values.values().any(|value| holds(value, text)),
        _ => false,
    }
}

/// How many logins a Dovecot has refused.
fn refused(server: &Dovecot) -> usize {
    let log = server.log();
    // One line when the session ends: "auth failed, 1 attempts".
    log.lines().filter(|line| line.contains("auth failed")).count()
}

#[test]
fn a_manifest_that_cannot_be_understood_is_refused_whole() {
    let stage = Stage::set();
    let good = stage.manifest().text();
    let line_of = |text: &str, part: &str| text.lines().position(|line| line.contains(part)).unwrap() + 1;
    for (from, to, parts) in [
        ("stage: Sync", "stage: Sync\n  stagee: Plan", &["stagee", "unknown field"][..]),
        ("stage: Sync", "stage: Sink", &["spec.stage", "unknown value"]),
        ("tls: None, credentialsRef", "tsl: None, credentialsRef", &["spec.destination.imap", "tsl"]),
        ("  policy:", "  policy:\n    settleSeconds: 0", &["spec.policy.settleSeconds", "1"]),
        ("  policy:", "  policy:\n    settleSeconds: soon", &["spec.policy.settleSeconds"]),
        ("protocol: IMAP,", "protocol: NNTP,", &["spec.domains[0].servers[0].protocol", "unknown value"]),
        ("127.0.0.0/8", "127.0.0.0/99", &["spec.policy.allowedNetworks"]),
        ("kind: MailMigration", "kind: MailMigraton", &["MailMigraton"]),
        ("  domains:", "  domains", &[]),
    ] {
        let text = good.replacen(from, to, 1);
        let ferry = Ferry::new(&text);
        let ended = ferry.run(&[]);
        ended.expect_code(23);
        let (line, hint) = ended.error();
        println!("error: {line}\n  hint: {hint}");
        let wrong = to.lines().last().unwrap().trim();
        let at = format!("{}:{}", ferry.manifest().display(), line_of(&text, wrong));
        let above = format!("{}:{}", ferry.manifest().display(), line_of(&text, wrong) + 1);
        assert!(line.starts_with(&at) || parts.is_empty() && line.starts_with(&above), "{at}: {line}");
        assert!(parts.iter().all(|part| line.contains(part)), "{parts:?}: {line}");
        assert!(!hint.is_empty() || line.contains(": write "), "no remedy: {line}");
        assert!(!ferry.state().exists(), "nothing was begun");
    }
    let missing = Ferry::new(&good);
    fs::remove_file(missing.manifest()).unwrap();
    let (line, hint) = missing.run(&[]).expect_code(23).error();
    assert!(line.contains("migration.yaml: ") && hint.contains("-f"), "{line} {hint}");
    assert_eq!(stage.arrived("greta"), 0);
}

#[test]
fn secrets_that_are_absent_stop_their_domain_alone() {
    let stage = Stage::set();
    let absent = stage.manifest().domain("bad.test", &["bert"], "");
    let ferry = Ferry::new(&absent.text());
    let field = "spec.domains[1].credentialsRef.name";
    let parts = ["migration.yaml:", field, "Secret \"bad.test\""];
    assert_told(&ferry, &ferry.run(&[]), "Configuration", 23, &parts, "add it");
    stage.assert_good_arrived();

    for (values, parts, remedy) in [
        (&[("username", "bert@bad.test")][..], &["Secret \"bad.test\"", "password"], "add the key"),
        (&[("masterUser", "admin")], &["Secret \"bad.test\"", "masterPassword"], "add the key"),
        (&[("user", "bert")], &["Secret \"bad.test\"", "no credentials"], "username and password"),
        (&[("mailboxes.csv", "who,what\nbert,secret\n")], &["mailboxes.csv", "column"], "first line"),
        (&[("password", "file:nowhere"), ("username", "bert")], &["Secret \"bad.test\"", "nowhere"], "path"),
        (
            &[("password", "env:MAILFERRY_NOT_SET"), ("username", "b")],
            &["Secret", "MAILFERRY_NOT_SET"],
            "set it",
        ),
    ] {
        let stage = Stage::set();
        let manifest = stage.manifest().secret("bad.test", values).domain("bad.test", &["bert"], "");
        let ferry = Ferry::new(&manifest.text());
        assert_told(&ferry, &ferry.run(&[]), "Configuration", 23, parts, remedy);
        stage.assert_good_arrived();
    }
}

#[test]
fn without_the_destinations_secret_nothing_begins() {
    let stage = Stage::set();
    let at = stage.new.imap();
    let other = |name: &str| {
        let (ip, port) = (at.ip(), at.port());
        stage.manifest().destination(&format!(
            "{{host: {ip}, port: {port}, tls: None, credentialsRef: {{name: {name}}}}}"
        ))
    };
    let ferry = Ferry::new(&other("nobody").text());
    let (line, hint) = ferry.run(&[]).expect_code(23).error();
    println!("error: {line}\n  hint: {hint}");
    assert!(line.contains("spec.destination.imap.credentialsRef") && line.contains("\"nobody\""), "{line}");
    assert!(!hint.is_empty());
    let empty = other("poor").secret("poor", &[("masterUser", "admin")]);
    let ferry = Ferry::new(&empty.text());
    assert_told(
        &ferry,
        &ferry.run(&[]),
        "Configuration",
        23,
        &["destination", "masterPassword"],
        "add the key",
    );
    assert_eq!(stage.arrived("greta"), 0);
}

#[test]
fn a_domain_that_does_not_resolve_stops_itself_alone() {
    let stage = Stage::set();
    let dns = Dns::start(&[Record::a("elsewhere.test", "127.0.0.1")]);
    let ferry = Ferry::new(&with_bad(&stage, "bert-secret", "").text()).resolver(dns.addr());
    let parts = ["bad.test", "does not exist in the DNS"];
    assert_told(&ferry, &ferry.run(&[]), "Unreachable", 10, &parts, "spelling");
    stage.assert_good_arrived();
}

#[test]
fn a_closed_port_stops_its_domain_alone() {
    let stage = Stage::set();
    let nobody = process::free_address(LOOPBACK.ip());
    let ferry = Ferry::new(&with_bad(&stage, "bert-secret", &server("IMAP", nobody)).text());
    let place = nobody.to_string();
    assert_told(&ferry, &ferry.run(&[]), "Unreachable", 10, &["bad.test", &place, "refuse"], "port");
    stage.assert_good_arrived();

    // At the destination it concerns everybody.
    let stage = Stage::set();
    let elsewhere = Manifest::to(nobody, "admin", "admin-secret")
        .secret("good.test", &[("mailboxes.csv", &csv(&[("greta@good.test", "", "greta-secret")]))])
        .domain("good.test", &["greta"], &server("IMAP", stage.good.imap()));
    let ferry = Ferry::new(&elsewhere.text());
    let parts = ["greta@good.test", "destination", &place, "refuse"];
    assert_told(&ferry, &ferry.run(&[]), "Unreachable", 10, &parts, "port");
}

#[test]
fn a_wrong_password_is_sent_twice_at_most_and_a_corrected_one_works_at_once() {
    let stage = Stage::set();
    let bad = bad_server();
    let ferry = Ferry::new(&with_bad(&stage, "wrong", &server("IMAP", bad.imap())).text());
    let parts = ["bad.test", "bert@bad.test", "refused"];
    assert_told(&ferry, &ferry.run(&[]), "Credentials", 21, &parts, "password");
    stage.assert_good_arrived();
    for _ in 0..3 {
        let (line, hint) = ferry.run(&[]).expect_code(21).error();
        println!("error: {line}\n  hint: {hint}");
        assert!(line.contains("bert@bad.test") && hint.contains("Secret"), "{line} {hint}");
    }
    assert_eq!(refused(&bad), 2, "{}", bad.log());
    ferry.write(&with_bad(&stage, "bert-secret", &server("IMAP", bad.imap())).text());
    ferry.run(&[]).expect_code(0);
    assert_eq!(stage.arrived("bert"), 10);
}

#[test]
fn a_wrong_password_of_the_destination_is_not_tried_for_everybody() {
    let names = ["m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8"];
    let stage =
        Stage::with(&names.map(|name| User::new(&format!("{name}@new.test"), "x")), |builder| builder);
    let mut old = Dovecot::builder().imap(LOOPBACK).master("boss", "boss-secret");
    for name in names {
        old = old.user(User::new(&format!("{name}@bad.test"), "x"));
    }
    let old = old.start();
    let manifest = |password| {
        Manifest::to(stage.new.imap(), "admin", password)
            .secret(
                "bad.test",
                &[("masterUser", "boss"), ("masterPassword", "boss-secret"), ("masterSeparator", "*")],
            )
            .domain("bad.test", &names, &server("IMAP", old.imap()))
            .text()
    };
    let ferry = Ferry::new(&manifest("wrong"));
    let parts = ["@bad.test", "destination", "refused"];
    assert_told(&ferry, &ferry.run(&[]), "Credentials", 21, &parts, "Secret");
    let first = refused(&stage.new);
    // The plan asks some of the mailboxes before they are carried; both count for the same limit.
    assert_eq!(first, 3, "of eight mailboxes:\n{}", stage.new.log());
    for _ in 0..3 {
        let (line, hint) = ferry.run(&[]).expect_code(21).error();
        println!("error: {line}\n  hint: {hint}");
        assert!(line.contains("destination") && hint.contains("Secret"), "{line} {hint}");
    }
    assert_eq!(refused(&stage.new), 3, "and in no further run:\n{}", stage.new.log());
    ferry.write(&manifest("admin-secret"));
    ferry.run(&[]).expect_code(0);
}

#[test]
fn bad_certificates_are_refused_before_any_password_is_sent() {
    let ca = Ca::new();
    let stranger = Ca::new();
    let good_name = "imap.bad.test";
    let cases: [(&str, Certificate, &[&str], &str); 3] = [
        ("expired", ca.issue_for(&[good_name], Validity::EXPIRED), &[good_name, "expired"], "renew"),
        ("misnamed", ca.issue(&["other.hoster.test"]), &[good_name, "other.hoster.test"], "name"),
        ("unknown", stranger.issue(&[good_name]), &[good_name, "authority is not known"], "caRef"),
    ];
    for (name, certificate, parts, remedy) in cases {
        println!("{name}");
        let stage = Stage::set();
        let bad = Dovecot::builder()
            .imaps(LOOPBACK)
            .tls(&certificate)
            .user(User::new("bert@bad.test", "bert-secret"))
            .start();
        let dns = Dns::start(&[
            Record::a(good_name, "127.0.0.1"),
            Record::srv("_imaps._tcp.bad.test", good_name, bad.imaps().port()),
        ]);
        let more = "caRef: {kind: ConfigMap, name: ca, key: ca.crt}";
        let manifest = with_bad(&stage, "bert-secret", more).authority("ca", ca.pem());
        let ferry = Ferry::new(&manifest.text()).resolver(dns.addr());
        assert_told(&ferry, &ferry.run(&[]), "Tls", 20, parts, remedy);
        let log = bad.log();
        assert!(!log.contains("bert") && !log.contains("auth failed") && !log.contains("Login:"), "{log}");
        stage.assert_good_arrived();
    }
}

#[test]
fn a_listed_mailbox_that_is_unknown_stops_itself_alone() {
    let stage = Stage::set();
    let old = Dovecot::builder()
        .imap(LOOPBACK)
        .master("boss", "boss-secret")
        .user(User::new("bert@bad.test", "x"))
        .user(User::new("bob@bad.test", "x"))
        .start();
    for name in ["bert", "bob"] {
        old.mailbox(&format!("{name}@bad.test")).seed(Corpus::new(83).messages(10));
    }
    let manifest = stage
        .manifest()
        .secret(
            "bad.test",
            &[("masterUser", "boss"), ("masterPassword", "boss-secret"), ("masterSeparator", "*")],
        )
        .domain("bad.test", &["bert", "nobody", "bob"], &server("IMAP", old.imap()));
    let ferry = Ferry::new(&manifest.text());
    let ended = ferry.run(&[]);
    let parts = ["nobody@bad.test", "does not know this mailbox"];
    assert_told(&ferry, &ended, "Credentials", 21, &parts, "Correct the address");
    assert!(holds(&ferry.status(), "MailboxUnknown"));
    assert_eq!((stage.arrived("bert"), stage.arrived("bob")), (10, 10));
    stage.assert_good_arrived();
    assert_eq!(ferry.status()["status"]["counts"]["blocked"], 1);
}

#[test]
fn a_full_mailbox_waits_and_the_others_are_finished() {
    let mut stage = Stage::with(&[User::new("bert@new.test", "x").quota(40_000)], |builder| builder);
    let bad = Dovecot::builder().imap(LOOPBACK).user(User::new("bert@bad.test", "bert-secret")).start();
    bad.mailbox("bert@bad.test").seed(Corpus::new(84).ordinary_only().messages(60));
    let ferry = Ferry::new(&with_bad(&stage, "bert-secret", &server("IMAP", bad.imap())).text());
    assert_told(&ferry, &ferry.run(&[]), "Quota", 24, &["bert@bad.test", "full"], "quota");
    stage.assert_good_arrived();
    let status = ferry.status();
    assert_equation(&status);
    assert!(holds(&status, "DestinationFull"), "{status:#}");
    let there = stage.arrived("bert");
    assert!(there < 60 && figure(&status, "copied") == (there + GOOD) as u64, "{there} {status:#}");
    // With room it goes on, and nothing is there twice.
    stage.new.set_user(User::new("bert@new.test", "x").quota(40_000_000));
    ferry.run(&[]).expect_code(0);
    let (here, there) =
        (bad.mailbox("bert@bad.test").read_all(), stage.new.mailbox("bert@new.test").read_all());
    assert_eq!(support::compare::differences(&here, &there), [""; 0]);
}

#[test]
fn messages_that_the_destination_refuses_are_named_and_stop_nothing() {
    let stage = Stage::with(&[User::new("bert@new.test", "x")], |builder| builder.max_message(100_000));
    let bad = bad_server();
    let letter = |subject: &str, length: usize| Message {
        folder: "INBOX".to_owned(),
        flags: Vec::new(),
        internal_date: "17-Jul-2019 02:44:25 +0200".to_owned(),
        bytes: format!("Subject: {subject}\r\n\r\n{}\r\n", "0123456789\r\n".repeat(length / 12)).into_bytes(),
    };
    let mut mailbox = bad.mailbox("bert@bad.test");
    mailbox.append(&letter("too large for the new server", 300_000)).unwrap();
    drop(mailbox);
    // No server lets an empty message in, but there are such files.
    let empty = bad.home("bert@bad.test").join("Maildir/new/1500000000.M1P1.old,S=0,W=0");
    fs::write(&empty, "").unwrap();
    if process::is_root() {
        chown(&empty, Some(MAIL_UID), Some(MAIL_UID)).unwrap();
    }
    bad.mailbox("bert@bad.test").append(&letter("after the empty one", 100)).unwrap();

    let ferry = Ferry::new(&with_bad(&stage, "bert-secret", &server("IMAP", bad.imap())).text());
    let ended = ferry.run(&[]);
    ended.expect_code(25);
    println!("{}", ended.stdout);
    stage.assert_good_arrived();
    assert_eq!(stage.arrived("bert"), 11, "all but two");
    let status = ferry.status();
    assert_equation(&status);
    assert_eq!(figure(&status, "failed"), 2);
    assert!(holds(&status, "MessagesQuarantined"));
    let quarantined: Vec<_> =
        ferry.messages().into_iter().filter(|row| row["verdict"] == "Quarantined").collect();
    println!("{quarantined:#?}");
    assert_eq!(quarantined.len(), 2);
    assert!(quarantined.iter().all(|row| row["destination"].is_null() && row["reason"].is_string()));
    let report = ferry.report("html");
    assert!(report.contains("too large for the new server"), "the report names it");
    let before = stage.new.mailbox("bert@new.test").uid_next();
    ferry.run(&[]).expect_code(25);
    assert_eq!(stage.new.mailbox("bert@new.test").uid_next(), before);
}

#[test]
fn folder_names_that_the_destination_cannot_hold_are_changed_and_said() {
    for separator in ['.', '/'] {
        println!("separator {separator}");
        let stage =
            Stage::with(&[User::new("bert@new.test", "x")], |builder| builder.namespace(separator, ""));
        let bad = Dovecot::builder()
            .imap(LOOPBACK)
            .store(support::dovecot::Store::MaildirFs)
            .user(User::new("bert@bad.test", "bert-secret"))
            .start();
        let mut mailbox = bad.mailbox("bert@bad.test");
        for folder in ["INBOX", "v1.2/notes", "v1_2/notes"] {
            mailbox.create_and_subscribe(folder);
            mailbox.append(&Message { folder: folder.to_owned(), ..letter(folder) }).unwrap();
        }
        drop(mailbox);
        let ferry = Ferry::new(&with_bad(&stage, "bert-secret", &server("IMAP", bad.imap())).text());
        let ended = ferry.run(&[]);
        println!("{}\n{}", ended.stdout, ended.stderr);
        ended.expect_code(0);
        stage.assert_good_arrived();
        assert_eq!(stage.arrived("bert"), 3, "{:?}", stage.new.mailbox("bert@new.test").folders());
        assert!(holds(&ferry.status(), "FolderRenamed"));
        assert!(ferry.report("html").contains("FolderRenamed") || ferry.report("html").contains("another"));
        let before = stage.new.mailbox("bert@new.test").uid_next();
        ferry.run(&[]).expect_code(0);
        assert_eq!(stage.new.mailbox("bert@new.test").uid_next(), before);
    }
}

fn letter(subject: &str) -> Message {
    Message {
        folder: "INBOX".to_owned(),
        flags: Vec::new(),
        internal_date: "17-Jul-2019 02:44:25 +0200".to_owned(),
        bytes: format!("Subject: {subject}\r\n\r\nHello.\r\n").into_bytes(),
    }
}

/// The file of the state directory whose path ends so, for bert where it is a mailbox's.
fn state_file(ferry: &Ferry, end: &str) -> PathBuf {
    let all = files(&ferry.state());
    let fits = |path: &&PathBuf| {
        let path = path.display().to_string();
        path.ends_with(end) && (end.starts_with('/') || path.contains("/mailboxes/") && path.contains("bert"))
    };
    all.iter().find(fits).unwrap_or_else(|| panic!("no {end} in {all:?}")).clone()
}

/// Makes something else of a file's bytes.
type Spoil<'a> = &'a dyn Fn(&[u8]) -> Vec<u8>;

#[test]
fn damaged_and_newer_state_is_named_and_left_as_it_is() {
    let newer = |text: &[u8]| {
        String::from_utf8_lossy(text).replacen("\"mailferry\":1", "\"mailferry\":99", 1).into_bytes()
    };
    let garbage = |_: &[u8]| b"this is no state".to_vec();
    let newer_ledger = |bytes: &[u8]| {
        // The user version of SQLite's header, big-endian at byte 60.
        let mut bytes = bytes.to_vec();
        bytes[60..64].copy_from_slice(&99_u32.to_be_bytes());
        bytes
    };
    let cases: [(&str, Spoil<'_>, &str, bool); 8] = [
        ("migration.json", &garbage, "is damaged", true),
        ("migration.json", &newer, "newer", true),
        ("logins.sqlite", &garbage, "is damaged", true),
        ("logins.sqlite", &newer_ledger, "newer", true),
        (".json", &garbage, "is damaged", false),
        (".json", &newer, "newer", false),
        (".sqlite", &garbage, "damaged", false),
        (".sqlite", &newer_ledger, "newer", false),
    ];
    let stage = Stage::set();
    let bad = bad_server();
    let wrong = with_bad(&stage, "wrong", &server("IMAP", bad.imap())).text();
    let right = with_bad(&stage, "bert-secret", &server("IMAP", bad.imap())).text();
    let ferry = Ferry::new(&wrong);
    ferry.run(&[]).expect_code(21);
    ferry.write(&right);
    ferry.run(&[]).expect_code(0);
    for (at, (name, spoil, what, whole)) in (1..).zip(cases) {
        println!("{name} {what}");
        let path = if name.starts_with('.') {
            state_file(&ferry, name)
        } else {
            state_file(&ferry, &format!("/{name}"))
        };
        let kept = fs::read(&path).unwrap();
        let spoiled = spoil(&kept);
        assert_ne!(kept, spoiled);
        fs::write(&path, &spoiled).unwrap();
        for server in [(&stage.good, "greta@good.test"), (&bad, "bert@bad.test")] {
            server.0.mailbox(server.1).append(&letter(&format!("news {at}"))).unwrap();
        }
        let (greta, bert) = (stage.arrived("greta"), stage.arrived("bert"));
        let ended = ferry.run(&[]);
        let (line, hint) = ended.expect_code(23).error();
        println!("error: {line}\n  hint: {hint}");
        assert!(line.contains(&path.display().to_string()) && line.contains(what), "{line}");
        assert!(!hint.is_empty(), "{line}");
        assert_eq!(fs::read(&path).unwrap(), spoiled, "it is left as it is");
        assert_eq!(stage.arrived("bert"), bert, "nothing is sent without its state");
        if whole {
            assert_eq!(stage.arrived("greta"), greta);
        } else {
            assert_eq!(stage.arrived("greta"), greta + 1, "the other mailbox goes on");
            assert!(holds(&ferry.status(), &path.display().to_string()), "{:#}", ferry.status());
            let report = serde_json::from_str(&ferry.report("json")).unwrap();
            assert!(holds(&report, &path.display().to_string()), "the report names it");
            if name == ".sqlite" {
                // The list of messages holds the others and says that it is not whole.
                let listed = ferry.call("report", &["--kind", "messages", "--format", "json"]);
                listed.expect_code(23);
                assert!(listed.stdout.contains("greta@good.test") && listed.stderr.contains("bert@bad.test"));
            }
        }
        fs::write(&path, &kept).unwrap();
        ferry.run(&[]).expect_code(0);
    }
    assert!(maildrop(&mut bad.mailbox("bert@bad.test")) == maildrop(&mut stage.new.mailbox("bert@new.test")));

    // The remedy holds: without the file everything is recognised, what is new arrives, and nothing is sent twice.
    for name in [".sqlite", ".json", "/migration.json", "/migration.json"] {
        bad.mailbox("bert@bad.test").append(&letter(&format!("without {name}"))).unwrap();
        fs::remove_file(state_file(&ferry, name)).unwrap();
        ferry.run(&[]).expect_code(0);
        assert!(
            maildrop(&mut bad.mailbox("bert@bad.test")) == maildrop(&mut stage.new.mailbox("bert@new.test"))
        );
    }
}

#[test]
fn two_runs_do_not_share_a_state_directory() {
    let stage = Stage::set();
    stage.good.mailbox("greta@good.test").seed(Corpus::new(85).ordinary_only().messages(200));
    let slow = stage.manifest().policy("limits: {bytesPerSecond: 100000}").text();
    let ferry = Ferry::new(&slow);
    let mut first = ferry.start(&["--progress", "none"]);
    let patience = Instant::now() + Duration::from_secs(20);
    while stage.arrived("greta") == 0 {
        assert!(Instant::now() < patience && first.try_wait().unwrap().is_none(), "nothing arrives");
        sleep(Duration::from_millis(50));
    }
    let second = ferry.run(&[]);
    let (line, hint) = second.expect_code(11).error();
    println!("error: {line}\n  hint: {hint}");
    assert!(line.contains(&ferry.state().display().to_string()) && hint.contains("wait"), "{line} {hint}");
    assert!(first.try_wait().unwrap().is_none(), "the first goes on");
    ferry.status();
    first.kill().unwrap();
    first.wait().unwrap();
    ferry.write(&stage.manifest().policy("settleSeconds: 1").text());
    ferry.run(&[]).expect_code(0);
    assert_eq!(stage.arrived("greta"), GOOD + 200);
}
