//! Every manifest in `examples/` does what its comments say. Each is read, and then carried out for real by the built
//! binary: servers on loopback play the example's hosts, a DNS server knows their names. Only what differs from machine
//! to machine is filled in: ports, the certificate authority (`--ca`, or the manifest's `ca.crt`), the name server
//! (`--resolver`), and the permission to talk to loopback.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use mailferry::api::Stage;
use mailferry::api::manifest::{self, Part};
use serde_json::{Value, json};
use support::ca::Ca;
use support::compare::{Account, differences};
use support::corpus::{Corpus, Message};
use support::dns::{Dns, Record};
use support::dovecot::{Access, Builder, Dovecot, LOOPBACK, User};
use support::gmail::{Gmail, behind_tls};
use support::mixed::{self, Mixed};
use support::tokens::{Client, TokenServer, rsa};
use tempfile::TempDir;

const ADMIN: (&str, &str) = ("migration", "migration-password");
const NEW_HOST: &str = "imap.new-hoster.example";

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

/// The examples that are one file each; what is made of several is tried where its tool is (tests/gitops.rs).
fn manifests() -> impl Iterator<Item = PathBuf> {
    fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file())
}

/// An example, the machine it is tried on, and what is known of it before it runs.
struct Scene {
    name: &'static str,
    text: String,
    ca: Ca,
    records: Vec<Record>,
    place: TempDir,
}

impl Scene {
    fn of(name: &'static str) -> Self {
        let text = fs::read_to_string(directory().join(name)).unwrap();
        let place = tempfile::Builder::new().prefix("mailferry-example-").tempdir().unwrap();
        let loopback = "allowedNetworks: [\"127.0.0.0/8\"]";
        // Examples speak of servers on the Internet; these ones are here.
        let text = if text.contains("\"127.0.0.0/8\"") {
            text
        } else if text.contains("\n  policy:\n") {
            text.replacen("\n  policy:\n", &format!("\n  policy:\n    {loopback}\n"), 1)
        } else {
            text.replacen("\nspec:\n", &format!("\nspec:\n  policy: {{{loopback}}}\n"), 1)
        };
        Self { name, text, ca: Ca::new(), records: Vec::new(), place }
    }

    /// A server of the example that shows a certificate for `host`.
    fn server(&self, host: &str) -> Builder {
        Dovecot::builder().tls(&self.ca.issue(&[host]))
    }

    /// The destination, with an administrator who may open every mailbox.
    fn destination(&self, mailboxes: &[&str]) -> Dovecot {
        let server = self.server(NEW_HOST).imaps(LOOPBACK).master(ADMIN.0, ADMIN.1);
        mailboxes.iter().fold(server, |server, name| server.user(User::new(name, "of-no-use-here"))).start()
    }

    /// `host` is on this machine.
    fn knows(mut self, host: &str) -> Self {
        self.records.push(Record::a(host, "127.0.0.1"));
        self
    }

    /// More of the DNS.
    fn publishes(mut self, records: impl IntoIterator<Item = Record>) -> Self {
        self.records.extend(records);
        self
    }

    /// `host` is on this machine, and the port that the example names for it is `at`'s.
    fn plays(mut self, host: &str, port: u16, at: SocketAddr) -> Self {
        let written = format!("host: {host}, port: {port},");
        assert!(self.text.contains(&written), "{} does not say {written}", self.name);
        self.text = self.text.replace(&written, &format!("host: {host}, port: {},", at.port()));
        self.knows(host)
    }

    /// Writes the manifest, starts the DNS.
    fn set(self) -> Played {
        let manifest = self.place.path().join(self.name);
        fs::write(&manifest, &self.text).unwrap();
        let dns = Dns::start(&self.records);
        let resolver = dns.addr();
        Played {
            manifest,
            resolver,
            _dns: dns,
            ca: self.ca,
            place: self.place,
            more: Vec::new(),
            variables: Vec::new(),
        }
    }
}

/// An example whose servers run.
struct Played {
    manifest: PathBuf,
    resolver: SocketAddr,
    _dns: Dns,
    ca: Ca,
    place: TempDir,
    more: Vec<String>,
    variables: Vec<(&'static str, &'static str)>,
}

impl Played {
    /// Runs one command of mailferry on the example.
    fn mailferry(&self, command: &str, args: &[&str]) -> Output {
        let mut mailferry = Command::new(env!("CARGO_BIN_EXE_mailferry"));
        mailferry
            .arg(command)
            .arg("-f")
            .arg(&self.manifest)
            .arg("--state")
            .arg(self.place.path().join("state"));
        if ["run", "verify"].contains(&command) {
            mailferry.arg("--ca").arg(self.ca.path()).arg("--resolver").arg(self.resolver.to_string());
        }
        mailferry.args(&self.more).args(args).envs(self.variables.iter().copied()).output().unwrap()
    }

    /// Runs it and expects that it succeeds.
    fn succeeds(&self, command: &str, args: &[&str]) -> String {
        let output = self.mailferry(command, args);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{command} {args:?}: {}\n{out}\n{err}", output.status);
        assert!(
            !err.contains("-password") && !out.contains("-password"),
            "a password was shown:\n{out}\n{err}"
        );
        out.into_owned()
    }

    /// Runs the example as its comments say; what `run --output json` says, with the equation checked.
    fn run(&self) -> Value {
        let result: Value = serde_json::from_str(&self.succeeds("run", &["--output", "json"])).unwrap();
        assert_eq!(result["run"], json!({"exitCode": 0}));
        let messages = &result["status"]["messages"];
        let count = |name: &str| messages[name].as_u64().unwrap();
        let sum = count("copied") + count("excluded") + count("failed") + count("pending");
        assert_eq!(count("source"), sum, "{messages}");
        result
    }

    /// As [`Self::run`], and everything is copied but `excluded` messages.
    fn copies(&self, source: usize, excluded: usize) -> Value {
        let result = self.run();
        let wanted = json!({
            "source": source, "copied": source - excluded, "excluded": excluded, "failed": 0, "pending": 0,
        });
        assert_eq!(result["status"]["messages"], wanted, "{}", result["status"]["domains"]);
        assert_eq!(result["status"]["phase"], "Verified");
        result
    }
}

/// Which protocols a domain's mailboxes are read by, and whether that is several.
fn spoken(result: &Value, domain: usize) -> (Value, bool) {
    let domain = &result["status"]["domains"][domain];
    (domain["protocols"].clone(), domain["mixed"] == true)
}

fn findings(result: &Value, domain: usize) -> BTreeSet<String> {
    let findings = result["status"]["domains"][domain]["findings"].as_array().cloned().unwrap_or_default();
    findings.iter().map(|finding| finding["code"].as_str().unwrap().to_owned()).collect()
}

fn account(server: &Dovecot, user: &str) -> Account {
    server.mailbox(user).read_all()
}

/// The digests of a folder's messages: what POP3 carries.
fn bodies(server: &Dovecot, user: &str, folder: &str) -> Vec<String> {
    let account = account(server, user);
    let mut digests: Vec<String> =
        account.folders.get(folder).into_iter().flatten().map(|row| row.digest.clone()).collect();
    digests.sort();
    digests
}

#[track_caller]
fn arrived(source: (&Dovecot, &str), destination: (&Dovecot, &str)) {
    let found = differences(&account(source.0, source.1), &account(destination.0, destination.1));
    assert!(found.is_empty(), "{} → {}:\n{}", source.1, destination.1, found.join("\n"));
}

#[track_caller]
fn inbox_arrived(source: (&Dovecot, &str), destination: (&Dovecot, &str)) {
    let (here, there) = (bodies(source.0, source.1, "INBOX"), bodies(destination.0, destination.1, "INBOX"));
    assert!(!here.is_empty(), "{} holds nothing", source.1);
    assert_eq!(here, there, "{} → {}", source.1, destination.1);
}

/// Mail in all sorts of folders.
fn fill(server: &Dovecot, user: &str, seed: u64, count: usize) -> usize {
    server.mailbox(user).seed(Corpus::new(seed).messages(count));
    count
}

/// Mail as POP3 shows it.
fn fill_inbox(server: &Dovecot, user: &str, seed: u64, count: usize) -> usize {
    server.mailbox(user).seed(Corpus::new(seed).inbox_only().ordinary_only().messages(count));
    count
}

#[test]
fn every_example_is_read_and_tried() {
    let tried: BTreeSet<&str> = include_str!("examples.rs")
        .split("Scene::of(\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    for path in manifests() {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let mut text = fs::read_to_string(&path).unwrap();
        if name == "quickstart.yaml" {
            text.push_str("---\n");
            text.push_str(&mixed::authority(&Ca::new()));
        }
        let manifest = manifest::read(&[(&name, &text)]).unwrap_or_else(|failure| panic!("{failure}"));
        // What its comments tell to give with --secret.
        let given: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with('#'))
            .filter_map(|line| line.split_once("--secret ")?.1.split_once('='))
            .map(|(name, _)| name)
            .collect();
        for migration in &manifest.migrations {
            let domains = (0..migration.spec.domains.len()).map(Part::Domain);
            for part in domains.chain([Part::Common]) {
                manifest.check_references(migration, part, &given).unwrap_or_else(|f| panic!("{f}"));
            }
        }
        assert!(text.starts_with("# "), "{name} does not say what it is for");
        assert!(tried.contains(name.as_str()), "{name} is read but never carried out");
    }
}

/// A loopback address on which nobody else needs port 443.
const MICROSOFT: &str = "127.0.36.5:443";
/// A loopback address on which nobody else needs port 993.
const EXCHANGE: &str = "127.0.36.6:993";

#[test]
fn an_application_fills_mailboxes_of_microsoft_365() {
    let mut scene = Scene::of("microsoft365.yaml");
    let app = ("66666666-7777-8888-9999-000000000000", Client::Secret("value-of-the-client-secret".into()));
    let certificate = scene.ca.issue(&["login.microsoftonline.com"]);
    let tokens = TokenServer::start_at(MICROSOFT.parse().unwrap(), &certificate, &[app], &[]);
    let source = scene
        .server("mail.fabrikam.example")
        .imaps(LOOPBACK)
        .master("archivist", "old-master-password")
        .user(User::new("anna@fabrikam.example", "x"))
        .user(User::new("ben@fabrikam.example", "x"))
        .start();
    let names = ["anna@fabrikam.example", "benjamin@fabrikam.example"];
    let new = scene.server("outlook.office365.com").imaps(EXCHANGE.parse().unwrap());
    let new = names.iter().fold(new, |server, name| server.user(User::new(name, "of-no-use-here")));
    let new = tokens.believed_by(new, &names).start();
    fill(&source, "anna@fabrikam.example", 51, 20);
    fill(&source, "ben@fabrikam.example", 52, 20);
    scene.records.push(Record::a("login.microsoftonline.com", "127.0.36.5"));
    let played = scene
        .plays("mail.fabrikam.example", 993, source.imaps())
        .publishes([Record::a("outlook.office365.com", "127.0.36.6")])
        .set();
    played.succeeds("run", &[]);
    arrived((&source, "anna@fabrikam.example"), (&new, names[0]));
    arrived((&source, "ben@fabrikam.example"), (&new, names[1]));
    assert_eq!(tokens.given(), 1);
}

#[test]
fn a_service_account_reads_google_workspace() {
    let scene = Scene::of("google-workspace.yaml");
    let (key, public, _) = rsa();
    let service = "mailferry@contoso.iam.gserviceaccount.example";
    let tokens = TokenServer::start(&scene.ca, &[(service, Client::Key(public, "RS256"))], &[]);
    let names = ["anna@contoso.example", "ben@contoso.example"];
    let source =
        names.iter().fold(Dovecot::builder(), |server, name| server.user(User::new(name, "of-no-use")));
    let mut source = Gmail::before(tokens.believed_by(source, &names), &names);
    let new = scene.destination(&names);
    for name in names {
        name.clone_into(&mut source.user);
        source.deliver(&format!("both-of-{name}"), &["\\Inbox", "\\Starred", "Work"]);
        source.deliver(&format!("work-of-{name}"), &["Work"]);
        source.deliver(&format!("archived-by-{name}"), &[]);
        source.put(&format!("for-the-bin-of-{name}"), &["[Gmail]/Trash"]);
    }
    let document = json!({
        "type": "service_account", "client_email": service, "private_key": key, "token_uri": tokens.url(),
    });
    let secrets = scene.place.path().join("secrets");
    fs::create_dir(&secrets).unwrap();
    fs::write(secrets.join("service-account.json"), document.to_string()).unwrap();
    let front = behind_tls(source.address, &scene.ca.issue(&["imap.gmail.com"]));
    let played = scene.plays("imap.gmail.com", 993, front).plays(NEW_HOST, 993, new.imaps()).set();
    played.succeeds("run", &[]);
    for name in names {
        let there = account(&new, name).folders.into_iter().filter(|(_, rows)| !rows.is_empty());
        let there: Vec<(String, usize)> = there.map(|(folder, rows)| (folder, rows.len())).collect();
        assert_eq!(there, ["Archive", "INBOX", "Work"].map(|folder| (folder.to_owned(), 1)), "{name}");
    }
    assert_eq!(tokens.subjects(), names);
}

#[test]
fn a_first_run_on_a_single_imap_domain() {
    let scene = Scene::of("single-imap.yaml");
    let source = scene
        .server("mail.contoso.example")
        .imaps(LOOPBACK)
        .user(User::new("anna@contoso.example", "anna-old-password"))
        .user(User::new("ben@contoso.example", "ben-old-password"))
        .start();
    let destination = scene
        .server(NEW_HOST)
        .imaps(LOOPBACK)
        .user(User::new("anna@contoso.example", "anna-new-password"))
        .user(User::new("ben@contoso.example", "ben-new-password"))
        .start();
    let filled = fill(&source, "anna@contoso.example", 1, 60) + fill(&source, "ben@contoso.example", 2, 30);
    let played = scene
        .plays("mail.contoso.example", 993, source.imaps())
        .plays(NEW_HOST, 993, destination.imaps())
        .set();

    // The README's own first run, command by command.
    let planned = played.succeeds("run", &["--stage", "Plan"]);
    assert!(planned.contains("report.html"), "{planned}");
    assert_eq!(account(&destination, "anna@contoso.example").messages(), 0, "a plan writes nothing");
    let result = played.copies(filled, 0);
    assert_eq!(spoken(&result, 0), (json!({"IMAP": 2}), false));
    for user in ["anna@contoso.example", "ben@contoso.example"] {
        arrived((&source, user), (&destination, user));
    }
    let status: Value = serde_json::from_str(&played.succeeds("status", &["--output", "json"])).unwrap();
    assert_eq!(status["status"]["messages"], result["status"]["messages"]);
    assert!(played.succeeds("status", &[]).contains("contoso.example"));
    let rows = played.succeeds("report", &["--format", "csv"]);
    assert_eq!(rows.lines().count(), 3, "a head and a row for each mailbox: {rows}");
    let messages = played.succeeds("report", &["--format", "json", "--kind", "messages"]);
    assert_eq!(messages.lines().count(), filled);
    let verified = played.succeeds("verify", &["--depth", "Full"]);
    assert!(verified.contains("0 missing"), "{verified}");

    // Again: nothing is sent.
    let before = destination.mailbox("anna@contoso.example").uid_next();
    played.copies(filled, 0);
    assert_eq!(destination.mailbox("anna@contoso.example").uid_next(), before);
}

#[test]
fn a_domain_with_pop3_only() {
    let scene = Scene::of("pop3-domain.yaml");
    let source = scene
        .server("pop.fabrikam.example")
        .pop3s(LOOPBACK)
        .user(User::new("p1001", "orders-password"))
        .user(User::new("p1002", "info-password"))
        .start();
    let destination = scene.destination(&["orders@fabrikam.example", "info@fabrikam.example"]);
    let filled = fill_inbox(&source, "p1001", 3, 40) + fill_inbox(&source, "p1002", 4, 10);
    let played = scene
        .plays("pop.fabrikam.example", 995, source.pop3s())
        .plays(NEW_HOST, 993, destination.imaps())
        .set();
    let result = played.copies(filled, 0);
    assert_eq!(spoken(&result, 0), (json!({"POP3": 2}), false));
    inbox_arrived((&source, "p1001"), (&destination, "orders@fabrikam.example"));
    inbox_arrived((&source, "p1002"), (&destination, "info@fabrikam.example"));
    let pop = result["status"]["domains"][0]["findings"].as_array().unwrap();
    let pop = pop.iter().find(|finding| finding["code"] == "PopMailboxesPresent").unwrap();
    assert_eq!(pop["acknowledged"], true);
    let safe = result["status"]["conditions"].as_array().unwrap();
    assert!(safe.iter().any(|c| c["type"] == "CutoverSafe" && c["status"] == "True"), "{safe:?}");
}

#[test]
fn a_mixed_domain_found_by_dns() {
    let scene = Scene::of("mixed-domain.yaml");
    let source = scene
        .server("mail.northwind.example")
        .imap(LOOPBACK)
        .imaps(LOOPBACK)
        .pop3s(LOOPBACK)
        .user(User::new("carol@northwind.example", "carol-password"))
        .user(User::new("chris@northwind.example", "chris-password").only(Access::Pop3))
        .user(User::new("scanner@northwind.example", "scanner-password").only(Access::Pop3))
        .start();
    let users = ["carol@northwind.example", "chris@northwind.example", "scanner@northwind.example"];
    let destination = scene.destination(&users);
    let filled = fill(&source, users[0], 5, 50)
        + fill_inbox(&source, users[1], 6, 20)
        + fill_inbox(&source, users[2], 7, 5);
    let host = "mail.northwind.example";
    let played = scene
        .plays(NEW_HOST, 993, destination.imaps())
        .knows(host)
        .publishes([
            Record::mx("northwind.example", host, 10),
            Record::srv("_imap._tcp.northwind.example", host, source.imap().port()),
            Record::srv("_imaps._tcp.northwind.example", host, source.imaps().port()),
            Record::srv("_pop3s._tcp.northwind.example", host, source.pop3s().port()),
        ])
        .set();
    let result = played.copies(filled, 0);
    assert_eq!(spoken(&result, 0), (json!({"IMAP": 1, "POP3": 2}), true));
    let found = findings(&result, 0);
    assert!(found.contains("MixedProtocols") && found.contains("PopMailboxesPresent"), "{found:?}");
    arrived((&source, users[0]), (&destination, users[0]));
    inbox_arrived((&source, users[1]), (&destination, users[1]));
    inbox_arrived((&source, users[2]), (&destination, users[2]));
    // That IMAP refuses the others again and again does not count against their passwords.
    for _ in 0..3 {
        played.copies(filled, 0);
    }
}

#[test]
fn a_master_user_opens_every_mailbox() {
    let scene = Scene::of("master-user.yaml");
    let users = ["alice@adventure-works.example", "bert@adventure-works.example"];
    let source = scene
        .server("imap.adventure-works.example")
        .imaps(LOOPBACK)
        .user(User::new(users[0], "nobody-knows"))
        .user(User::new(users[1], "nobody-knows"))
        .master("archivist", "archivist-password")
        .start();
    let destination = scene.destination(&users);
    let filled = fill(&source, users[0], 8, 40) + fill(&source, users[1], 9, 20);
    let played = scene
        .plays("imap.adventure-works.example", 993, source.imaps())
        .plays(NEW_HOST, 993, destination.imaps())
        .set();
    let result = played.copies(filled, 0);
    assert_eq!(spoken(&result, 0), (json!({"IMAP": 2}), false));
    for user in users {
        arrived((&source, user), (&destination, user));
    }
}

#[test]
fn a_master_user_without_a_list_is_told_so() {
    let mut scene = Scene::of("master-user.yaml");
    let from = scene.text.find("    # A master user opens every mailbox and lists none").unwrap();
    scene.text.truncate(from);
    let source = scene.server("imap.adventure-works.example").imaps(LOOPBACK).start();
    let played = scene.plays("imap.adventure-works.example", 993, source.imaps()).set();
    let output = played.mailferry("run", &["--stage", "Plan", "--output", "json"]);
    assert_eq!(output.status.code(), Some(23));
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(findings(&result, 0).contains("MailboxListMissing"), "{result}");
}

#[test]
fn overrides_are_obeyed() {
    let scene = Scene::of("overrides.yaml");
    // All three could be read by IMAP from here: what is said by hand counts more.
    let (dana, erik, kiosk) =
        ("dana@tailspin.example", "erik@tailspin.example", "pop-kiosk@tailspin.example");
    let source = scene
        .server("mail.tailspin.example")
        .imaps(LOOPBACK)
        .pop3s(LOOPBACK)
        .user(User::new(dana, "dana-password"))
        .user(User::new(erik, "erik-password"))
        .user(User::new(kiosk, "kiosk-password"))
        .start();
    let legacy = scene
        .server("legacy.tailspin.example")
        .pop3s(LOOPBACK)
        .user(User::new(kiosk, "kiosk-password"))
        .start();
    let destination = scene.destination(&[dana, erik, "kiosk@tailspin.example"]);
    let inbox = fill_inbox(&source, dana, 10, 10);
    let folders = [("Projects", 4), ("Projects/2024", 3), ("Junk", 2), ("Trash", 1), ("Trash/Old", 2)];
    let mut letters = Corpus::new(11).inbox_only().ordinary_only().messages(12);
    for (folder, count) in folders {
        let of_folder = letters.by_ref().take(count).map(|m| Message { folder: folder.to_owned(), ..m });
        source.mailbox(dana).seed(of_folder);
    }
    let erik_mail = fill_inbox(&source, erik, 12, 15);
    source.mailbox(erik).seed([Message {
        folder: "Private".to_owned(),
        ..Corpus::new(13).ordinary_only().messages(1).next().unwrap()
    }]);
    fill_inbox(&source, kiosk, 14, 3);
    let kiosk_mail = fill_inbox(&legacy, kiosk, 15, 7);
    let (at, pop_at) = (source.imaps(), source.pop3s());
    let played = scene
        .plays("mail.tailspin.example", 993, at)
        .plays("mail.tailspin.example", 995, pop_at)
        .plays("legacy.tailspin.example", 995, legacy.pop3s())
        .plays(NEW_HOST, 993, destination.imaps())
        .set();
    let result = played.copies(inbox + 12 + erik_mail + kiosk_mail, 5);
    assert_eq!(spoken(&result, 0), (json!({"IMAP": 1, "POP3": 2}), true));
    for (from, to) in
        [("INBOX", "INBOX"), ("Projects", "Archive/Projects"), ("Projects/2024", "Archive/Projects/2024")]
    {
        assert_eq!(bodies(&source, dana, from), bodies(&destination, dana, to), "{from} → {to}");
    }
    let there = account(&destination, dana);
    for folder in ["Projects", "Junk", "Trash", "Trash/Old"] {
        let left = there.folders.get(folder).map_or(0, Vec::len);
        assert_eq!(left, 0, "{folder} was to stay behind or to be called otherwise");
    }
    inbox_arrived((&source, erik), (&destination, erik));
    assert_eq!(account(&destination, erik).messages(), erik_mail, "Erik's folders stay private");
    inbox_arrived((&legacy, kiosk), (&destination, "kiosk@tailspin.example"));
}

#[test]
fn a_list_with_other_destinations() {
    let scene = Scene::of("per-mailbox-list.yaml");
    let people = [
        ("garcia", "garcia-password", "fatima.garcia@woodgrove-bank.example"),
        ("lee", "lee-password", "hana.lee@woodgrove-bank.example"),
        ("office@woodgrove.example", "office-password", "office@woodgrove-bank.example"),
    ];
    let server = scene
        .server("mail.woodgrove.example")
        .imaps(LOOPBACK)
        .user(User::new("former@woodgrove.example", "former-password"));
    let source = people
        .iter()
        .fold(server, |server, (name, password, _)| server.user(User::new(name, password)))
        .start();
    let destination = scene.destination(&people.map(|(.., to)| to));
    let mut filled = 0;
    for (seed, (name, ..)) in (20..).zip(people) {
        filled += fill(&source, name, seed, 20);
    }
    fill(&source, "former@woodgrove.example", 30, 5);
    let played = scene
        .plays("mail.woodgrove.example", 993, source.imaps())
        .plays(NEW_HOST, 993, destination.imaps())
        .set();
    let result = played.copies(filled, 0);
    assert_eq!(result["status"]["counts"]["mailboxes"], 3, "whoever is not on the list is not migrated");
    for (name, _, to) in people {
        arrived((&source, name), (&destination, to));
    }
}

#[test]
fn a_dry_plan_touches_nothing() {
    let scene = Scene::of("dry-plan.yaml");
    let users = ["ina@litware.example", "jo@litware.example"];
    let host = "imap.litware.example";
    let source = scene
        .server(host)
        .imaps(LOOPBACK)
        .user(User::new(users[0], "nobody-knows"))
        .user(User::new(users[1], "nobody-knows"))
        .master("archivist", "archivist-password")
        .start();
    let destination = scene.destination(&users);
    let filled = fill(&source, users[0], 16, 30) + fill(&source, users[1], 17, 10);
    fill(&destination, users[0], 18, 3);
    let played = scene
        .plays(NEW_HOST, 993, destination.imaps())
        .knows(host)
        .publishes([
            Record::srv("_imaps._tcp.litware.example", host, source.imaps().port()),
            Record::srv_none("_pop3s._tcp.litware.example"),
        ])
        .set();
    let look = || users.map(|user| (account(&source, user), account(&destination, user)));
    let before = look();
    let result = played.run();
    assert!(look() == before, "a plan changes nothing, neither here nor there");
    let status = &result["status"];
    assert_eq!((&status["phase"], &status["messages"]["source"]), (&json!("Planned"), &json!(filled)));
    assert_eq!(status["messages"]["pending"], json!(filled));
    assert!(status["plan"]["digest"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(spoken(&result, 0), (json!({"IMAP": 2}), false));
    assert!(findings(&result, 0).contains("ProtocolNotOffered"));
    assert!(played.place.path().join("state/report.html").exists());
    the_checklist_is_filled_in(&played);
    the_work_is_stated(&played);
    the_plan_is_shown_and_compared(&played, status["plan"]["digest"].as_str().unwrap());
    a_supporter_gets_no_secret(&played);
}

fn the_checklist_is_filled_in(played: &Played) {
    let form: Value = serde_json::from_str(&played.succeeds("checklist", &["--output", "json"])).unwrap();
    let state = |field: &str| {
        let item = form["items"].as_array().unwrap().iter().find(|item| item["field"] == field);
        item.unwrap()["state"].as_str().unwrap().to_owned()
    };
    let states = ["mailboxes", "domains.protocols", "sizes.largestMessageMegabytes", "privacy"].map(state);
    assert_eq!(states, ["contradicted", "answered", "discovered", "unknown"]);
    assert_eq!(form["counts"]["contradicted"], 1);
    let page = played.succeeds("checklist", &[]);
    assert!(
        page.contains("- **2. Number of mailboxes** The checklist counts 3 mailboxes, and the plan has 2."),
        "{page}"
    );
    // The form in YAML is what a manifest takes: with it in place of the answers, the manifest says the same and more.
    let text = fs::read_to_string(&played.manifest).unwrap();
    let form = played.succeeds("checklist", &["-o", "yaml"]);
    let (_, form) = form.split_once("\nspec:\n").unwrap();
    let (before, _) = text.split_once("  # What the customer said").unwrap();
    let manifest = manifest::read(&[("filled.yaml", format!("{before}{form}"))]).unwrap();
    let filled = manifest.migrations[0].spec.checklist.clone().unwrap();
    assert_eq!((filled.mailboxes, filled.sizes.unwrap().largest_mailbox_gigabytes), (Some(3), Some(1)));
}

fn the_work_is_stated(played: &Played) {
    let text = played.succeeds("report", &["--kind", "sow", "--format", "md"]);
    for part in [
        "For Litware Ltd",
        "| litware.example | IMAP | 2 |",
        "- **To clear up, Number of mailboxes.** The checklist counts 3 mailboxes, and the plan has 2.",
        "assumed, until a first pass has measured it",
        "Signed by ",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let refused = played.mailferry("report", &["--kind", "sow", "--format", "csv"]);
    assert_eq!(refused.status.code(), Some(23));
}

fn the_plan_is_shown_and_compared(played: &Played, digest: &str) {
    let plan: Value = serde_json::from_str(&played.succeeds("plan", &["-o", "json"])).unwrap();
    assert_eq!((&plan["digest"], &plan["approved"]), (&json!(digest), &Value::Null));
    let shown = played.succeeds("plan", &[]);
    assert!(shown.contains(digest) && shown.contains("ina@litware.example"), "{shown}");
    assert!(played.succeeds("plan", &["--diff"]).contains("no other plan"));
    // The order: just this plan. Then somebody changes what is left out.
    let text = fs::read_to_string(&played.manifest).unwrap();
    let approved = text.replace("  stage: Plan\n", &format!("  stage: Sync\n  approvedPlan: \"{digest}\"\n"));
    let changed = approved.replace("  policy: {", "  policy: {since: 2019-01-01, ");
    assert_ne!(changed, approved);
    fs::write(&played.manifest, &changed).unwrap();
    let refused = played.mailferry("run", &[]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(23), "{said}");
    assert!(
        said.contains("is not the approved one; since then rules: was") && said.contains("2019-01-01"),
        "{said}"
    );
    let compared = played.succeeds("plan", &["--diff"]);
    assert!(
        compared.contains("the approved plan of ")
            && compared.contains("@@ spec.policy.since\n+ 2019-01-01\n"),
        "{compared}"
    );
    let missing = played.mailferry("plan", &["--against", "beef"]);
    assert_eq!(missing.status.code(), Some(23));
    fs::write(&played.manifest, &text).unwrap();
    played.run();
}

fn a_supporter_gets_no_secret(played: &Played) {
    use std::io::Read;
    for hidden in [false, true] {
        let path = played.place.path().join(format!("support-{hidden}.tar.gz"));
        let mut args = vec!["--out", path.to_str().unwrap(), "--output", "json"];
        if hidden {
            args.push("--hash-addresses");
        }
        let said: Value = serde_json::from_str(&played.succeeds("support-bundle", &args)).unwrap();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(fs::File::open(&path).unwrap()));
        let mut files = std::collections::BTreeMap::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().to_str().unwrap().to_owned();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            files.insert(name, text);
        }
        for (name, text) in &files {
            for secret in ["archivist-password", "migration-password", "Subject:"] {
                assert!(!text.contains(secret), "{name} holds {secret}");
            }
            let person = text.contains("ina@litware.example") || text.contains("Ms Ito, ");
            assert!(!hidden || !person, "{name} names a person");
        }
        let index: Value = serde_json::from_str(&files["mailferry-support-litware/index.json"]).unwrap();
        assert_eq!(index, said["index"]);
        let listed = index["files"].as_array().unwrap();
        assert_eq!(listed.len() + 1, files.len());
        for file in listed {
            let text = &files[&format!("mailferry-support-litware/{}", file["name"].as_str().unwrap())];
            assert_eq!(file["bytes"], text.len());
        }
        assert!(
            files.keys().any(|name| name.ends_with("discovery/litware.example.json")),
            "{:?}",
            files.keys()
        );
        let named = files["mailferry-support-litware/plan.json"].contains("ina@litware.example");
        assert_eq!(named, !hidden, "addresses are in it unless they are hidden");
    }
}

#[test]
fn secrets_that_are_elsewhere() {
    let scene = Scene::of("secrets-elsewhere.yaml");
    let source = scene
        .server("mail.wingtip.example")
        .imaps(LOOPBACK)
        .user(User::new("kim@wingtip.example", "nobody-knows"))
        .user(User::new("bear@toys.wingtip.example", "bear-password"))
        .master("archivist", "archivist-password")
        .start();
    let users = ["kim@wingtip.example", "bear@toys.wingtip.example"];
    let destination = scene.destination(&users);
    let filled = fill(&source, users[0], 40, 20) + fill(&source, users[1], 41, 10);
    let mut played = scene
        .plays("mail.wingtip.example", 993, source.imaps())
        .plays(NEW_HOST, 993, destination.imaps())
        .set();
    let admin = played.place.path().join("secrets/new-admin");
    fs::create_dir_all(&admin).unwrap();
    for (key, value) in [("masterUser", ADMIN.0), ("masterPassword", ADMIN.1), ("masterSeparator", "*")] {
        fs::write(admin.join(key), format!("{value}\n")).unwrap();
    }
    let rows = "address,password\nbear@toys.wingtip.example,bear-password\n";
    fs::write(played.place.path().join("secrets/toys.csv"), rows).unwrap();
    played.more = vec!["--secret".to_owned(), format!("new-admin={}", admin.display())];
    played.variables = vec![("WINGTIP_MASTER_PASSWORD", "archivist-password")];
    played.copies(filled, 0);
    for user in users {
        arrived((&source, user), (&destination, user));
    }
}

#[test]
fn the_quickstart_of_the_demo() {
    let world = Mixed::start(LOOPBACK.ip(), 70);
    let mut scene = Scene::of("quickstart.yaml");
    scene.text = world.quickstart();
    let mut played = scene.set();
    played.resolver = world.dns.addr();
    let result = played.copies(70, 0);
    let all = [0, 1, 2].map(|domain| spoken(&result, domain));
    let wanted =
        [(json!({"IMAP": 2}), false), (json!({"POP3": 2}), false), (json!({"IMAP": 1, "POP3": 1}), true)];
    assert_eq!(all, wanted);
    world.assert_moved();
}

/// The stage that each example says stands in its first lines as a promise; a plan is a plan and the others copy.
#[test]
fn only_the_dry_plan_is_a_plan() {
    for path in manifests() {
        let manifest = manifest::read(&[("example", fs::read_to_string(&path).unwrap())]).unwrap();
        let wanted = if path.ends_with("dry-plan.yaml") { Stage::Plan } else { Stage::Sync };
        assert_eq!(manifest.migrations[0].spec.stage, wanted, "{}", path.display());
    }
}
