//! One mailbox between two servers, and what a run makes of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::Value;

use crate::ferry::{Ended, Ferry, Manifest, csv, figure, server};
use crate::support::dns::Dns;
use crate::support::imap::Client;
use crate::support::script::{PASSWORD, Script};

/// The mailbox at the source; its password is [`PASSWORD`].
pub const ANNA: &str = "anna@old.test";
/// The mailbox at the destination, which [`ADMIN`] opens as `anna@new.test*admin` with [`PASSWORD`].
pub const NEW: &str = "anna@new.test";
/// The master user at the destination.
pub const ADMIN: &str = "admin";

/// A directory with a manifest of one mailbox, and the state of its runs.
pub struct World {
    pub ferry: Ferry,
    // Knows no name, and says so at once.
    _dns: Dns,
}

/// The outcome of a run.
#[derive(Debug)]
pub struct Outcome {
    /// How the command ended, and what it said.
    pub ended: Ended,
    /// Messages at the source, copied, excluded, failed, pending.
    pub counts: (u64, u64, u64, u64, u64),
    /// Findings, each as `Code: message`.
    pub findings: Vec<String>,
    /// The rows of the report of messages.
    pub rows: Vec<Value>,
    /// The whole status.
    pub status: Value,
}

impl World {
    /// From one scripted IMAP server to another.
    pub fn imap(source: &Script, destination: &Script) -> Self {
        Self::between("IMAP", source.address(), destination.address())
    }

    /// From a scripted POP3 server to a scripted IMAP server.
    pub fn pop3(source: &Script, destination: &Script) -> Self {
        Self::between("POP3", source.address(), destination.address())
    }

    /// Between any two servers that know [`ANNA`], [`NEW`] and [`ADMIN`].
    pub fn between(protocol: &str, source: SocketAddr, destination: SocketAddr) -> Self {
        Self::of(&manifest(protocol, source, destination, ""))
    }

    /// With a manifest that began as [`manifest`].
    pub fn of(manifest: &Manifest) -> Self {
        let dns = Dns::start(&[]);
        Self { ferry: Ferry::new(&manifest.text()).resolver(dns.addr()), _dns: dns }
    }

    /// Runs `mailferry run` to its end.
    pub fn run(&self) -> Outcome {
        self.told(self.ferry.run(&[]))
    }

    /// Runs `mailferry verify` to its end.
    pub fn verify(&self, args: &[&str]) -> Outcome {
        self.told(self.ferry.call("verify", args))
    }

    fn told(&self, ended: Ended) -> Outcome {
        let status = self.ferry.status();
        let number = |name| figure(&status, name);
        let counts =
            (number("source"), number("copied"), number("excluded"), number("failed"), number("pending"));
        let lists = [&status["status"]["findings"]].into_iter().chain(
            status["status"]["domains"].as_array().into_iter().flatten().map(|domain| &domain["findings"]),
        );
        let findings = lists.flat_map(|list| list.as_array().into_iter().flatten());
        let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        let findings = findings.map(|it| format!("{}: {}", text(it, "code"), text(it, "message"))).collect();
        Outcome { ended, counts, findings, rows: self.ferry.messages(), status }
    }
}

impl Outcome {
    /// Stops the test unless the command ended so, with these counts: at the source, copied, excluded, failed, pending.
    #[track_caller]
    pub fn expect(&self, code: i32, counts: (u64, u64, u64, u64, u64)) -> &Self {
        assert_eq!((self.ended.code, self.counts), (code, counts), "{self:#?}");
        self
    }

    /// Stops the test unless this is told: on a stream, in the status, in a finding or in a row.
    #[track_caller]
    pub fn expect_told(&self, part: &str) -> &Self {
        assert!(self.tells(part), "\"{part}\" is not told: {self:#?}");
        self
    }

    /// Whether this is told anywhere.
    pub fn tells(&self, part: &str) -> bool {
        self.everything().contains(part)
    }

    /// All that was said: streams, status and rows.
    pub fn everything(&self) -> String {
        let rows: Vec<String> = self.rows.iter().map(Value::to_string).collect();
        [&self.ended.stdout, &self.ended.stderr, &self.status.to_string(), &rows.join("\n")]
            .map(String::as_str)
            .join("\n")
    }
}

/// A manifest with one mailbox; `more` are further lines of YAML of its domain.
pub fn manifest(protocol: &str, source: SocketAddr, destination: SocketAddr, more: &str) -> Manifest {
    let domain = format!("{}\n{more}", server(protocol, source));
    Manifest::to(destination, ADMIN, PASSWORD)
        .secret("old.test", &[("mailboxes.csv", &csv(&[(ANNA, "", PASSWORD)]))])
        .domain("old.test", &["anna"], domain.trim_end())
        .policy("settleSeconds: 1")
}

/// Subjects by folder, as an independent client reads them: for real destinations. Folders without letters are left out.
pub fn lies_at(client: &mut Client) -> BTreeMap<String, Vec<String>> {
    let mut all = BTreeMap::new();
    for folder in client.folders() {
        let mut subjects = Vec::new();
        client.read_folder(&folder, |row, _| subjects.push(row.name));
        if !subjects.is_empty() {
            all.insert(folder, subjects);
        }
    }
    all
}

/// The messages at a scripted server: subjects by folder. Folders without letters are left out.
pub fn lies_in(script: &Script) -> BTreeMap<String, Vec<String>> {
    let mut all = script.store().subjects();
    all.retain(|_, subjects| !subjects.is_empty());
    all
}

/// As [`lies_in`], from what should be there.
pub fn lying(folders: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
    let owned = |subjects: &[&str]| subjects.iter().map(|&subject| subject.to_owned()).collect();
    folders.iter().map(|(folder, subjects)| ((*folder).to_owned(), owned(subjects))).collect()
}
