//! Wrong situations whose remedy must lead the right way: the field that is wrong, on the side that is wrong, and a line that
//! can be typed.

use std::fs;
use std::process::Command;

use crate::ferry::{Ferry, Manifest, csv, server};
use crate::support::ca::{Ca, Validity};
use crate::support::corpus::Corpus;
use crate::support::dns::{Dns, Record};
use crate::support::dovecot::{Dovecot, LOOPBACK, User};

/// The words of a run that cannot succeed: the line and the hint.
#[track_caller]
fn said(ferry: &Ferry, args: &[&str], code: i32) -> (String, String) {
    let ended = ferry.run(&[&["--progress", "none"], args].concat());
    let (line, hint) = ended.expect_code(code).error();
    println!("error: {line}\n  hint: {hint}\n{}", ended.stdout);
    (line, hint)
}

#[test]
fn a_refused_certificate_names_the_field_of_its_own_server() {
    let (ca, stranger) = (Ca::new(), Ca::new());
    let host = "imap.there.test";
    let dns = Dns::start(&[Record::a(host, "127.0.0.1")]);
    let plain = |name: &str| {
        Dovecot::builder()
            .imap(LOOPBACK)
            .user(User::new(&format!("anna@{name}.test"), "anna-secret"))
            .master("admin", "admin-secret")
            .start()
    };
    let cases = [
        (ca.issue(&["other.test"]), "it is for \"other.test\"", "host to a name that is on the certificate"),
        (stranger.issue(&[host]), "its authority is not known", "caRef or --ca"),
        (ca.issue_for(&[host], Validity::NOT_YET), "this machine's clock says", "clock is wrong, set it"),
        (ca.issue_for(&[host], Validity::EXPIRED), "it has expired, at", "have it renewed"),
    ];
    let secret = csv(&[("anna@old.test", "", "anna-secret")]);
    for (certificate, what, remedy) in cases {
        let secured = Dovecot::builder()
            .imaps(LOOPBACK)
            .tls(&certificate)
            .user(User::new("anna@old.test", "anna-secret"))
            .master("admin", "admin-secret")
            .start();
        let at = format!("host: {host}, port: {}", secured.imaps().port());
        let pem = ca.path().display().to_string();

        let old = plain("old");
        old.mailbox("anna@old.test").seed(Corpus::new(3).inbox_only().messages(1));
        let there = Manifest::to(LOOPBACK, "admin", "admin-secret")
            .destination(&format!("{{{at}, credentialsRef: {{name: new}}}}"))
            .secret("old.test", &[("mailboxes.csv", &secret)])
            .domain("old.test", &["anna"], &server("IMAP", old.imap()));
        let (line, hint) = said(&Ferry::new(&there.text()).resolver(dns.addr()), &["--ca", &pem], 20);
        assert!(line.contains("destination") && line.contains(what), "{line}");
        assert!(hint.contains("no password was sent") && hint.contains(remedy), "{hint}");
        assert!(!remedy.contains("host") || hint.contains("spec.destination.imap.host"), "{hint}");
        assert!(!remedy.contains("caRef") || hint.contains("spec.destination.imap.caRef"), "{hint}");

        let new = plain("new");
        let here = Manifest::to(new.imap(), "admin", "admin-secret")
            .secret("old.test", &[("mailboxes.csv", &secret)])
            .domain("old.test", &["anna"], &format!("servers: [{{protocol: IMAP, {at}}}]"));
        let (line, hint) = said(&Ferry::new(&here.text()).resolver(dns.addr()), &["--ca", &pem], 20);
        assert!(line.contains("old.test") && line.contains(what), "{line}");
        assert!(hint.contains("no password was sent") && hint.contains(remedy), "{hint}");
        assert!(!remedy.contains("host") || hint.contains("spec.domains[0].servers[].host"), "{hint}");
        assert!(!remedy.contains("caRef") || hint.contains("spec.domains[0].caRef"), "{hint}");
    }
}

#[test]
fn a_mailbox_that_the_destination_does_not_know_is_told_from_a_wrong_password() {
    let names = ["anna", "bert"];
    let mut old = Dovecot::builder().imap(LOOPBACK);
    for name in names {
        old = old.user(User::new(&format!("{name}@old.test"), "old-secret"));
    }
    let old = old.start();
    for name in names {
        old.mailbox(&format!("{name}@old.test")).seed(Corpus::new(4).inbox_only().messages(1));
    }
    let new = Dovecot::builder()
        .imap(LOOPBACK)
        .user(User::new("anna@new.test", "of-no-use"))
        .master("admin", "admin-secret")
        .start();
    let rows = names.map(|name| (format!("{name}@old.test"), "old-secret"));
    let rows: Vec<_> = rows.iter().map(|(address, secret)| (address.as_str(), "", *secret)).collect();
    let manifest = |password: &str| {
        Manifest::to(new.imap(), "admin", password)
            .secret("old.test", &[("mailboxes.csv", &csv(&rows))])
            .domain("old.test", &names, &server("IMAP", old.imap()))
            .text()
    };
    let ferry = Ferry::new(&manifest("admin-secret"));
    let (line, hint) = said(&ferry, &[], 21);
    assert!(line.contains("bert@old.test: destination: "), "{line}");
    if line.contains("lets us into other mailboxes and not into bert@new.test") {
        assert!(hint.contains("make the mailbox bert@new.test there, or correct its address"), "{hint}");
    } else {
        // It came before anna, so that nothing showed yet that the password is right.
        let either =
            "check the user name and the password in Secret \"new\", and that bert@new.test exists there";
        assert!(hint.contains(either), "{hint}");
    }
    let (_, hint) = said(&Ferry::new(&manifest("wrong")), &[], 21);
    assert!(hint.contains("check the user name and the password in Secret \"new\""), "{hint}");
}

/// A manifest that nothing is connected for.
const MANIFEST: &str = "\
apiVersion: mailferry.dev/v1alpha1
kind: MailMigration
metadata: {name: move}
spec:
  # Für Jörg
  destination: {imap: {host: HOST, credentialsRef: {name: new}}}
  domains: [{name: old.test, credentialsRef: {name: old}}]
---
apiVersion: v1
kind: Secret
metadata: {name: new}
stringData: {masterUser: admin, masterPassword: secret}
---
apiVersion: v1
kind: Secret
metadata: {name: old}
stringData: {username: anna@old.test, password: secret}
";

#[test]
fn a_host_with_a_port_or_a_scheme_is_refused_with_the_two_fields() {
    for (host, hint) in [
        ("mail.new.test:993", "write mail.new.test here, and port: 993 beside it"),
        ("imaps://mail.new.test:993/", "write mail.new.test here, and port: 993 beside it"),
        ("\"imap://anna:hunter2@mail.new.test\"", "write mail.new.test"),
        ("\"[::1]:993\"", "write ::1 here, and port: 993 beside it"),
        ("mail.new.test/", "write mail.new.test"),
    ] {
        let ferry = Ferry::new(&MANIFEST.replace("HOST", host));
        let (line, told) = said(&ferry, &[], 23);
        assert!(
            line.contains("migration.yaml:6: spec.destination.imap.host: it holds more than a name"),
            "{line}"
        );
        assert_eq!(told, hint, "{host}");
        assert!(!line.contains("hunter2"), "{line}");
        assert!(!ferry.state().exists(), "nothing was begun");
    }
}

#[test]
fn a_file_in_another_encoding_is_told_with_what_it_is_and_a_line_that_mends_it() {
    let good = MANIFEST.replace("HOST", "mail.new.test");
    let ferry = Ferry::new(&good);
    let latin: Vec<u8> = good.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    let utf16: Vec<u8> =
        [0xff, 0xfe].into_iter().chain(good.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    for (bytes, what, from) in [
        (
            latin,
            "migration.yaml:5: it is not written in UTF-8 (byte 0xFC); it seems to be Windows-1252",
            "WINDOWS-1252",
        ),
        (utf16, "migration.yaml:1: it is written in UTF-16, not in UTF-8", "UTF-16"),
    ] {
        fs::write(ferry.manifest(), &bytes).unwrap();
        let (line, hint) = said(&ferry, &[], 23);
        assert!(line.contains(what), "{line}");
        let command = hint.split_once("convert it: ").unwrap().1;
        assert!(command.starts_with(&format!("iconv -f {from} -t UTF-8 ")), "{hint}");
        // The line is to be typed as it is.
        let typed = Command::new("sh").args(["-c", command]).current_dir(ferry.path("")).status().unwrap();
        assert!(typed.success(), "{command}");
        let mended = fs::read_to_string(ferry.path("utf8.yaml")).unwrap();
        assert_eq!(mended.trim_start_matches('\u{feff}'), good);
    }
    ferry.write(&good);
    let ca = Ca::new();
    let pem = ca.path().display().to_string();
    let der = ferry.path("ca.der").display().to_string();
    let made = Command::new("openssl").args(["x509", "-in", &pem, "-outform", "DER", "-out", &der]).status();
    assert!(made.unwrap().success());
    let (line, hint) = said(&ferry, &["--ca", &der], 23);
    assert!(line.contains("ca.der: it is no PEM text"), "{line}");
    assert!(hint.contains(&format!("openssl x509 -inform der -in {der} -out ca.pem")), "{hint}");
}
