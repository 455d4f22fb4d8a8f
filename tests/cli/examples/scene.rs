//! An example on a machine of its own: servers play its hosts, the manifest is carried out, and both sides are looked at.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::directory;
use crate::support::ca::Ca;
use crate::support::compare::{Account, differences};
use crate::support::corpus::Corpus;
use crate::support::dns::{Dns, Record};
use crate::support::dovecot::{Builder, Dovecot, LOOPBACK, User};

pub const ADMIN: (&str, &str) = ("migration", "migration-password");
pub const NEW_HOST: &str = "imap.new-hoster.example";

/// An example, the machine it is tried on, and what is known of it before it runs.
pub struct Scene {
    name: &'static str,
    pub text: String,
    pub ca: Ca,
    pub records: Vec<Record>,
    pub place: TempDir,
}

impl Scene {
    pub fn of(name: &'static str) -> Self {
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
    pub fn server(&self, host: &str) -> Builder {
        Dovecot::builder().tls(&self.ca.issue(&[host]))
    }

    /// The destination, with an administrator who may open every mailbox.
    pub fn destination(&self, mailboxes: &[&str]) -> Dovecot {
        let server = self.server(NEW_HOST).imaps(LOOPBACK).master(ADMIN.0, ADMIN.1);
        mailboxes.iter().fold(server, |server, name| server.user(User::new(name, "of-no-use-here"))).start()
    }

    /// Mail goes from IMAP at `host`, where the example says so, to its destination.
    pub fn between(self, host: &str, source: &Dovecot, destination: &Dovecot) -> Played {
        self.plays(host, 993, source.imaps()).into(destination)
    }

    /// Mail goes to the example's destination; with that everything is known, and the example is set.
    pub fn into(self, destination: &Dovecot) -> Played {
        self.plays(NEW_HOST, 993, destination.imaps()).set()
    }

    /// `host` is on this machine.
    pub fn knows(mut self, host: &str) -> Self {
        self.records.push(Record::a(host, "127.0.0.1"));
        self
    }

    /// More of the DNS.
    pub fn publishes(mut self, records: impl IntoIterator<Item = Record>) -> Self {
        self.records.extend(records);
        self
    }

    /// `host` is on this machine, and the port that the example names for it is `at`'s.
    pub fn plays(mut self, host: &str, port: u16, at: SocketAddr) -> Self {
        let written = format!("host: {host}, port: {port},");
        assert!(self.text.contains(&written), "{} does not say {written}", self.name);
        self.text = self.text.replace(&written, &format!("host: {host}, port: {},", at.port()));
        self.knows(host)
    }

    /// Writes the manifest, starts the DNS.
    pub fn set(self) -> Played {
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
pub struct Played {
    pub manifest: PathBuf,
    pub resolver: SocketAddr,
    _dns: Dns,
    ca: Ca,
    pub place: TempDir,
    /// Further arguments of every command.
    pub more: Vec<String>,
    pub variables: Vec<(&'static str, &'static str)>,
}

impl Played {
    /// Runs one command of mailferry on the example.
    pub fn mailferry(&self, command: &str, args: &[&str]) -> Output {
        let mut mailferry = Command::new(env!("CARGO_BIN_EXE_mailferry"));
        mailferry
            .arg(command)
            .arg("-f")
            .arg(&self.manifest)
            .arg("--state")
            .arg(self.place.path().join("state"));
        if ["run", "verify"].contains(&command) {
            mailferry.arg("--ca").arg(self.ca.path());
        }
        if ["run", "verify", "dns"].contains(&command) {
            mailferry.arg("--resolver").arg(self.resolver.to_string());
        }
        mailferry.args(&self.more).args(args).envs(self.variables.iter().copied()).output().unwrap()
    }

    /// Runs it and expects that it succeeds.
    pub fn succeeds(&self, command: &str, args: &[&str]) -> String {
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
    pub fn run(&self) -> Value {
        let result: Value = serde_json::from_str(&self.succeeds("run", &["--output", "json"])).unwrap();
        assert_eq!(result["run"]["exitCode"], 0, "{}", result["run"]);
        let messages = &result["status"]["messages"];
        let count = |name: &str| messages[name].as_u64().unwrap();
        let sum = count("copied") + count("excluded") + count("failed") + count("pending");
        assert_eq!(count("source"), sum, "{messages}");
        result
    }

    /// As [`Self::run`], and everything is copied but `excluded` messages.
    pub fn copies(&self, source: usize, excluded: usize) -> Value {
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
pub fn spoken(result: &Value, domain: usize) -> (Value, bool) {
    let domain = &result["status"]["domains"][domain];
    (domain["protocols"].clone(), domain["mixed"] == true)
}

pub fn findings(result: &Value, domain: usize) -> BTreeSet<String> {
    let findings = result["status"]["domains"][domain]["findings"].as_array().cloned().unwrap_or_default();
    findings.iter().map(|finding| finding["code"].as_str().unwrap().to_owned()).collect()
}

pub fn account(server: &Dovecot, user: &str) -> Account {
    server.mailbox(user).read_all()
}

/// The digests of a folder's messages: what POP3 carries.
pub fn bodies(server: &Dovecot, user: &str, folder: &str) -> Vec<String> {
    let account = account(server, user);
    let mut digests: Vec<String> =
        account.folders.get(folder).into_iter().flatten().map(|row| row.digest.clone()).collect();
    digests.sort();
    digests
}

#[track_caller]
pub fn arrived(source: (&Dovecot, &str), destination: (&Dovecot, &str)) {
    let found = differences(&account(source.0, source.1), &account(destination.0, destination.1));
    assert!(found.is_empty(), "{} → {}:\n{}", source.1, destination.1, found.join("\n"));
}

#[track_caller]
pub fn inbox_arrived(source: (&Dovecot, &str), destination: (&Dovecot, &str)) {
    let (here, there) = (bodies(source.0, source.1, "INBOX"), bodies(destination.0, destination.1, "INBOX"));
    assert!(!here.is_empty(), "{} holds nothing", source.1);
    assert_eq!(here, there, "{} → {}", source.1, destination.1);
}

/// Mail in all sorts of folders.
pub fn fill(server: &Dovecot, user: &str, seed: u64, count: usize) -> usize {
    server.mailbox(user).seed(Corpus::new(seed).messages(count));
    count
}

/// Mail as POP3 shows it.
pub fn fill_inbox(server: &Dovecot, user: &str, seed: u64, count: usize) -> usize {
    server.mailbox(user).seed(Corpus::new(seed).inbox_only().ordinary_only().messages(count));
    count
}
