//! Microsoft 365 as the destination: a front behaves as Exchange Online is known to, and the mailboxes behind it are a real
//! Dovecot's that accepts the tokens. The differences at the end are those that the report names, and no others.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::atomic::Ordering;

use crate::ferry::{Ended, Ferry, Manifest, assert_equation, csv, figure, files, server};
use crate::support::ca::Ca;
use crate::support::canary::{Canary, assert_clean};
use crate::support::compare::{Account, Row, differences};
use crate::support::corpus::{Corpus, Message};
use crate::support::dovecot::{Dovecot, LOOPBACK, User};
use crate::support::exchange::{Exchange, Quirks};
use crate::support::tokens::{Client, TokenServer};

const APP: &str = "8f3f1f2e-app";
const APP_SECRET: &str = "Turnstone~app.secret-7";
const PASSWORD: &str = "Greenshank-old-8";
const KEPT: [&str; 5] = ["\\seen", "\\answered", "\\flagged", "\\deleted", "\\draft"];
const LARGEST: usize = 300_000;

/// A server with passwords, and a tenant.
struct World {
    ca: Ca,
    tokens: TokenServer,
    old: Dovecot,
    new: Dovecot,
    tenant: Exchange,
}

impl World {
    fn start(quirks: Quirks) -> Self {
        let ca = Ca::new();
        let app = (APP, Client::Secret(APP_SECRET.to_owned()));
        let tokens = TokenServer::start(&ca, &[app], &[]);
        let names = ["anna", "otto", "nora"];
        let old = names.iter().fold(Dovecot::builder().imap(LOOPBACK), |old, name| {
            old.user(User::new(&format!("{name}@a.test"), PASSWORD))
        });
        let new = names.iter().fold(Dovecot::builder().imap(LOOPBACK), |new, name| {
            new.user(User::new(&format!("{name}@new.test"), "of no use").quota(50_000_000))
        });
        // The tokens are not good for nora.
        let new = tokens.believed_by(new, &["anna@new.test", "otto@new.test"]).start();
        let certificate = ca.issue(&["127.0.0.1"]);
        let quirks = Quirks { largest_message: Some(LARGEST), ..quirks };
        let tenant = Exchange::start(new.imap(), &certificate, quirks);
        Self { old: old.start(), ca, tokens, new, tenant }
    }

    fn manifest(&self, mailboxes: &[&str]) -> Manifest {
        let at = self.tenant.address();
        let ca = "caRef: {name: authority}";
        let destination =
            format!("{{host: {}, port: {}, {ca}, credentialsRef: {{name: tenant}}}}", at.ip(), at.port());
        let addresses: Vec<String> = mailboxes.iter().map(|name| format!("{name}@a.test")).collect();
        let rows: Vec<_> = addresses.iter().map(|address| (address.as_str(), "", PASSWORD)).collect();
        Manifest::default()
            .microsoft365(&destination)
            .authority("authority", self.ca.pem())
            .secret("tenant", &self.application())
            .secret("a.test", &[("mailboxes.csv", &csv(&rows))])
            .domain("a.test", mailboxes, &server("IMAP", self.old.imap()))
            .policy("settleSeconds: 2")
    }

    fn application(&self) -> Vec<(&str, &str)> {
        let url: &str = Box::leak(self.tokens.url().into_boxed_str());
        vec![("clientId", APP), ("clientSecret", APP_SECRET), ("tokenUrl", url)]
    }

    fn here(&self, name: &str) -> Account {
        self.old.mailbox(&format!("{name}@a.test")).read_all()
    }

    fn there(&self, name: &str) -> Account {
        self.new.mailbox(&format!("{name}@new.test")).read_all()
    }
}

fn letter(folder: &str, flags: &[&str], header: &str, body: &str) -> Message {
    Message {
        folder: folder.to_owned(),
        flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
        internal_date: "07-Mar-2019 08:15:42 +0100".to_owned(),
        bytes: format!("From: a@x.test\r\nTo: b@x.test\r\n{header}\r\n{body}\r\n").into_bytes(),
    }
}

fn digest(message: &Message) -> String {
    blake3::hash(&message.bytes).to_hex().to_string()
}

fn longest_line(bytes: &[u8]) -> usize {
    bytes.split(|byte| *byte == b'\n').map(|line| line.trim_ascii_end().len()).max().unwrap_or_default()
}

/// Ordinary and odd mail: flagged, asking for receipts, with lines and sizes that are refused, in folders of reserved names.
fn mail(seed: u64, count: usize) -> Vec<Message> {
    let mut mail: Vec<Message> = Corpus::new(seed).messages(count).collect();
    for (at, flags) in
        [&["\\Flagged"][..], &["\\Seen", "\\Flagged"], &["\\Seen", "$Label1"], &[]].iter().enumerate()
    {
        let header = format!("Subject: receipt {at}\r\nDisposition-Notification-To: a@x.test\r\n");
        mail.push(letter("INBOX", flags, &header, "Please tell me when you have read it."));
        mail.push(letter("Files", flags, &format!("Subject: file {at}\r\n"), "In a reserved folder."));
    }
    mail.push(letter("Files/2020", &["\\Flagged"], "Subject: deep\r\n", "Below a reserved folder."));
    // Alone in its folder: nothing beside it is taken.
    mail.push(letter("Long", &[], "Subject: long\r\n", &"x".repeat(10_240)));
    mail.push(letter("Fits", &[], "Subject: just fits\r\n", &"x".repeat(10_239)));
    mail.push(letter("INBOX", &[], "Subject: large\r\n", &"line of text\r\n".repeat(LARGEST / 14 + 1)));
    mail
}

/// The mail that is to be at the destination, by the report's own words: `Files` by another name, no keywords, a mark
/// where a receipt is asked for, and without refused messages.
fn expected(here: &Account, mail: &[Message]) -> (Account, usize) {
    let refused: BTreeSet<String> = mail
        .iter()
        .filter(|message| longest_line(&message.bytes) > 10_239 || message.bytes.len() > LARGEST)
        .map(digest)
        .collect();
    let asking: BTreeSet<String> = mail
        .iter()
        .filter(|message| String::from_utf8_lossy(&message.bytes).contains("\nDisposition-Notification-To:"))
        .map(digest)
        .collect();
    let name = |folder: &String| match folder.strip_prefix("Files") {
        Some(below) if below.is_empty() || below.starts_with('/') => format!("Files_{below}"),
        _ => folder.clone(),
    };
    let row = |row: &Row| {
        let mut flags: BTreeSet<String> =
            row.flags.iter().filter(|flag| KEPT.contains(&flag.as_str())).cloned().collect();
        if asking.contains(&row.digest) {
            flags.insert("$mdnsent".to_owned());
        }
        Row { flags, ..row.clone() }
    };
    let mut left_out = 0;
    let mut folders = BTreeMap::new();
    for (folder, rows) in &here.folders {
        let (out, in_it): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|row| refused.contains(&row.digest));
        left_out += out.len();
        folders.insert(name(folder), in_it.into_iter().map(row).collect());
    }
    (Account { folders, subscribed: here.subscribed.iter().map(name).collect() }, left_out)
}

fn run(ferry: &Ferry, world: &World, args: &[&str]) -> Ended {
    let ca = world.ca.path().display().to_string();
    ferry.run(&[&["--ca", ca.as_str()], args].concat())
}

#[test]
fn what_differs_at_the_end_is_what_the_report_names() {
    let quirks = Quirks { throttles: Some((89, 1500)), closes: Some(53), ..Quirks::default() };
    let world = World::start(quirks);
    // Each session is begun with a token that will not hold for the next.
    world.tokens.set_lifetime(3);
    let (annas, ottos) = (mail(21, 220), mail(22, 160));
    world.old.mailbox("anna@a.test").seed(annas.clone());
    world.old.mailbox("otto@a.test").seed(ottos.clone());
    // No message tells where it went.
    world.old.mailbox("anna@a.test").create_and_subscribe("Files/Empty");
    let manifest = world.manifest(&["anna", "otto"]);
    let ferry = Ferry::new(&manifest.text()).env("MAILFERRY_LOG", "trace").env("RUST_LOG", "trace");
    let ended = run(&ferry, &world, &["-vv"]);

    let (mut refused, mut arrived) = (0, Vec::new());
    for (name, mail) in [("anna", &annas), ("otto", &ottos)] {
        let (wanted, left_out) = expected(&world.here(name), mail);
        assert_eq!(differences(&wanted, &world.there(name)), [""; 0], "{name}");
        refused += left_out;
        arrived.push(wanted.messages());
    }
    let tally = world.tenant.tally();
    let (throttled, closed) = (&tally.throttled, &tally.closed);
    assert!(throttled.load(Ordering::SeqCst) > 1 && closed.load(Ordering::SeqCst) > 1, "{tally:?}");
    assert!(world.tokens.given() > 2, "{} tokens", world.tokens.given());

    let status = ferry.status();
    assert_equation(&status);
    assert_eq!(figure(&status, "failed"), refused as u64);
    ended.expect_code(if refused == 0 { 0 } else { 25 });
    let messages = ferry.messages();
    let reasons: Vec<&str> = messages
        .iter()
        .filter(|row| row["verdict"] == "Quarantined")
        .map(|row| row["reason"].as_str().unwrap())
        .collect();
    assert_eq!(reasons.len(), refused);
    for reason in &reasons {
        let named = reason.contains("Maximum size of appendable message has been exceeded")
            || reason.contains("it holds a line of more than 9,900 bytes");
        assert!(named, "{reason}");
    }
    let report = ferry.report("json");
    for told in ["FolderRenamed", "KeywordsNotKept", "MessagesQuarantined", "Files_/2020", "Microsoft 365"] {
        assert!(report.contains(told), "{told}");
    }

    // Another look finds the same, and nothing is sent once more. Messages that could not be carried are not proved.
    let appends = tally.appends.load(Ordering::SeqCst);
    let ca = world.ca.path().display().to_string();
    let verified = ferry.call("verify", &["--ca", &ca, "--depth", "Full"]);
    verified.expect_code(25);
    for n in arrived {
        let found = format!("{n} checked = {n} identical + 0 altered + 0 missing; {n} read back");
        assert!(verified.stdout.contains(&found), "{found}: {}", verified.stdout);
    }
    let again = run(&ferry, &world, &[]);
    again.expect_code(ended.code);
    // A session may end at one of them, and one may be tried in two forms.
    let sent = tally.appends.load(Ordering::SeqCst) - appends;
    assert!(sent <= 2 * refused, "nothing is sent again but what was refused: {sent} for {refused}");

    let mut canaries = vec![Canary::new(APP_SECRET, &[]), Canary::new(PASSWORD, &[])];
    canaries.extend(world.tokens.tokens().iter().map(|token| Canary::new(token, &[])));
    assert!(canaries.len() > 3);
    for ended in [&ended, &verified, &again] {
        assert_clean(&canaries, "standard error", ended.stderr.as_bytes());
        assert_clean(&canaries, "standard output", ended.stdout.as_bytes());
    }
    for path in files(&ferry.state()) {
        assert_clean(&canaries, &path.display().to_string(), &fs::read(&path).unwrap());
    }
}

#[test]
fn receipts_that_cannot_be_held_back_are_told() {
    let world = World::start(Quirks { keeps_receipt_mark: false, ..Quirks::default() });
    world.old.mailbox("anna@a.test").seed([
        letter("INBOX", &[], "Subject: a\r\nDisposition-Notification-To: a@x.test\r\n", "a"),
        letter("INBOX", &["\\Flagged"], "Subject: b\r\n", "b"),
    ]);
    let ferry = Ferry::new(&world.manifest(&["anna"]).text());
    run(&ferry, &world, &[]).expect_code(0);
    let status = ferry.status().to_string();
    assert!(
        status.contains("ReadReceiptsAsked") && status.contains("1 message asks for a read receipt"),
        "{status}"
    );
    let there = world.there("anna");
    let flags: Vec<_> =
        there.folders["INBOX"].iter().map(|row| row.flags.iter().cloned().collect::<Vec<_>>()).collect();
    assert_eq!(flags, [vec![], vec!["\\flagged".to_owned()]]);
    // The next pass remembers it, and changes nothing.
    let before = world.tenant.tally().changes.load(Ordering::SeqCst);
    run(&ferry, &world, &[]).expect_code(0);
    assert!(ferry.status().to_string().contains("1 message asks for a read receipt"));
    assert_eq!(world.tenant.tally().changes.load(Ordering::SeqCst), before);
}

#[test]
fn a_secret_that_opens_no_mailbox_of_a_tenant_is_refused_before_anything_is_begun() {
    let world = World::start(Quirks::default());
    let google = r#"{"type": "service_account"}"#;
    let field = "spec.destination.microsoft365";
    let rows = csv(&[("anna@new.test", "", "Redshank-1")]);
    for (keys, lines, what) in [
        (vec![("username", "anna"), ("password", "Redshank-1")], "", "has passwords (key password)"),
        (
            vec![("masterUser", "m"), ("masterPassword", "Redshank-1")],
            "",
            "has passwords (key masterPassword)",
        ),
        (vec![("mailboxes.csv", rows.as_str())], "", "has passwords (key mailboxes.csv)"),
        (vec![("serviceAccount.json", google)], "", "which is Google's"),
        (vec![("clientId", APP)], "", "has clientId but neither tenantId nor tokenUrl"),
        (vec![("clientId", APP)], "tenantId: t-1, ", "has clientId but no key that proves it"),
        (
            vec![("clientId", APP), ("clientSecret", "Redshank-1"), ("tenantId", "t-2")],
            "tenantId: t-1, ",
            "has a key tenantId that is not spec.destination.microsoft365.tenantId",
        ),
        (
            vec![("clientId", APP), ("clientSecret", "Redshank-1"), ("cloud", "GCCHigh")],
            "tenantId: t-1, ",
            "has a key cloud that is not spec.destination.microsoft365.cloud (Global)",
        ),
        (vec![("note", "x")], "", "names no application"),
    ] {
        let destination = format!("{{{lines}credentialsRef: {{name: wrong}}}}");
        let manifest = world.manifest(&["anna"]).microsoft365(&destination).secret("wrong", &keys);
        let ferry = Ferry::new(&manifest.text());
        let ended = run(&ferry, &world, &[]);
        ended.expect_code(23);
        let (error, hint) = ended.error();
        assert!(error.contains(field) && error.contains(what), "{error}");
        assert!(!hint.is_empty() && !ended.stderr.contains("Redshank"), "{}", ended.stderr);
    }
    assert_eq!(world.tokens.asked(), 0);
}

#[test]
fn what_a_tenant_lacks_is_told_before_anything_is_copied() {
    let quirks = Quirks {
        not_connected: ["otto@new.test".to_owned()].into(),
        announces: " QUOTA APPENDLIMIT=200000",
        ..Quirks::default()
    };
    let world = World::start(quirks);
    let large = "line of text\r\n".repeat(15_000);
    world.old.mailbox("anna@a.test").seed([letter("INBOX", &[], "Subject: large\r\n", &large)]);
    for name in ["otto", "nora"] {
        world.old.mailbox(&format!("{name}@a.test")).seed(Corpus::new(5).messages(5));
    }
    let ferry = Ferry::new(&world.manifest(&["anna", "otto", "nora"]).text());
    run(&ferry, &world, &["--stage", "Plan"]).expect_code(0);
    assert_eq!(world.tenant.tally().changes.load(Ordering::SeqCst), 0, "a plan writes nothing");
    assert_eq!(world.tokens.given(), 1, "one token for all");

    let report: serde_json::Value = serde_json::from_str(&ferry.report("json")).unwrap();
    let told = |code: &str| -> Vec<String> {
        let findings = report["findings"].as_array().unwrap().iter();
        let of_code = findings.filter(|finding| finding["code"] == code);
        of_code.map(|finding| finding["message"].as_str().unwrap().to_owned()).collect()
    };
    let closed = told("DestinationMailboxClosed");
    for line in [
        "Set-CASMailbox otto@new.test -ImapEnabled $true".to_owned(),
        format!("Add-MailboxPermission -Identity nora@new.test -User {APP} -AccessRights FullAccess"),
    ] {
        assert!(closed.iter().any(|text| text.contains(&line)), "{line}: {closed:#?}");
    }
    assert_eq!(closed.len(), 2, "{closed:#?}");
    let limit = told("MessageOverLimit");
    assert!(limit[0].contains("Set-Mailbox anna@new.test -MaxReceiveSize 150MB"), "{limit:?}");
    let others = told("OtherDataNotCarried");
    assert!(others[0].contains("calendars, contacts, tasks and rules"), "{others:?}");
    let order = ferry.call("report", &["--kind", "sow", "--format", "md"]);
    order.expect_code(0);
    assert!(order.stdout.contains("not carried to Microsoft 365 yet"), "{}", order.stdout);
}

#[test]
fn a_tenant_that_cannot_be_used_is_told_and_the_plan_is_no_success() {
    let world = World::start(Quirks::default());
    world.old.mailbox("anna@a.test").seed(Corpus::new(5).messages(5));
    let ca = "caRef: {name: authority}";
    let nobody = format!("{{host: 127.0.0.1, port: 1, {ca}, credentialsRef: {{name: tenant}}}}");
    let mut wrong = world.application();
    wrong[1].1 = "Dunlin-3";
    let at = world.tenant.address().port();
    let stranger = format!("{{host: 127.0.0.1, port: {at}, {ca}, credentialsRef: {{name: wrong}}}}");
    for (manifest, what, code) in [
        (world.manifest(&["anna"]).microsoft365(&nobody), "127.0.0.1:1 could not be asked", 10),
        (
            world.manifest(&["anna"]).microsoft365(&stranger).secret("wrong", &wrong),
            "gives no token: invalid_client",
            21,
        ),
    ] {
        let ferry = Ferry::new(&manifest.text());
        run(&ferry, &world, &["--stage", "Plan"]).expect_code(code);
        let status = ferry.status().to_string();
        assert!(status.contains("DestinationUnusable") && status.contains(what), "{status}");
    }
}

#[test]
fn a_server_that_ends_sessions_after_ten_refusals_is_gone_through_to_the_end() {
    let world = World::start(Quirks::default());
    let long = |n: usize| letter("Long", &[], &format!("Subject: long {n}\r\n"), &"x".repeat(10_300 + n));
    world.old.mailbox("anna@a.test").seed((0..75).map(long));
    world.old.mailbox("anna@a.test").seed([letter("Long", &["\\Flagged"], "Subject: short\r\n", "x")]);
    let ferry = Ferry::new(&world.manifest(&["anna"]).text());
    run(&ferry, &world, &[]).expect_code(25);
    let status = ferry.status();
    assert_equation(&status);
    assert_eq!((figure(&status, "copied"), figure(&status, "failed")), (1, 75), "{status}");
    let there = world.there("anna");
    assert_eq!(there.folders["Long"].len(), 1);
    assert!(there.folders["Long"][0].flags.contains("\\flagged"));
}
