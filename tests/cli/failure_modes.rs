//! `docs/failure-modes.md` shows what the binary really prints: each case here spoils one thing, runs it, and looks its
//! words up on the page. Ports and times differ from run to run and are left out of the comparison.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::support::ca::{Ca, Validity};
use crate::support::corpus::Corpus;
use crate::support::dns::{Dns, Record};
use crate::support::dovecot::{Builder, Dovecot, LOOPBACK, User};
use regex::Regex;

fn page() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = ["docs/failure-modes.md", "docs/state.md"];
    pages.map(|page| fs::read_to_string(root.join(page)).unwrap()).concat()
}

/// Without ports, without the times that Dovecot adds to an answer, and without the folder that met a full mailbox first:
/// several sessions fill it at once.
fn timeless(text: &str) -> String {
    [
        (r"([a-z]):[0-9]{3,5}( |:)", "$1:PORT$2"),
        (r" \([0-9.]+( \+ [0-9.]+)* secs\)\.", ""),
        (r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2} UTC", "TIME"),
        (r": [^:]+: refused APPEND: \[OVERQUOTA", ": FOLDER: refused APPEND: [OVERQUOTA"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (what, with)| {
        Regex::new(what).unwrap().replace_all(&text, *with).into_owned()
    })
}

/// Runs `manifest` as contoso.yaml; its exit code and what it says on standard error must be on the page.
#[track_caller]
fn says(manifest: &str, args: &[&str], exit: i32) -> String {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("contoso.yaml"), manifest).unwrap();
    // Else it is told that others can read the passwords.
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_mailferry"))
        .current_dir(directory.path())
        .args(["run", "-f", "contoso.yaml", "--state", "state", "--progress", "none"])
        .args(args)
        .output()
        .unwrap();
    let said = timeless(String::from_utf8_lossy(&output.stderr).trim());
    assert_eq!(output.status.code(), Some(exit), "{said}\n{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(said.is_empty(), exit == 0, "{said}");
    assert!(timeless(&page()).contains(&said), "docs/failure-modes.md does not show this:\n{said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_manifest_that_is_wrong() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let good = fs::read_to_string(root.join("examples/mixed-domain.yaml")).unwrap();
    for (from, to) in [
        ("  stage: Sync", "  stag: Sync"),
        ("  stage: Sync", "  stage: Synch"),
        ("port: 993", "port: 99345"),
        ("  stage: Sync", "\tstage: Sync"),
        ("credentialsRef: {name: new-admin}", "credentialsRef: {name: newadmin}"),
    ] {
        assert_eq!(good.matches(from).count(), 1, "{from}");
        says(&good.replace(from, to), &[], 23);
    }
}

/// Two servers that play one mailbox's old and new home.
struct Move {
    ca: Ca,
    source: Dovecot,
    destination: Dovecot,
}

const ANNA: &str = "anna@contoso.example";
const HOSTS: [&str; 2] = ["mail.contoso.example", "imap.new.example"];

impl Move {
    fn with(shape: impl FnOnce(Builder, User, &Ca) -> Builder) -> Self {
        let ca = Ca::new();
        let source = Dovecot::builder().imaps(LOOPBACK).tls(&ca.issue(&[HOSTS[0]]));
        let source = source.user(User::new(ANNA, "old")).start();
        source.mailbox(ANNA).seed(Corpus::new(1).ordinary_only().with_large(&[200_000]).messages(20));
        let destination = Dovecot::builder().imaps(LOOPBACK).tls(&ca.issue(&[HOSTS[1]]));
        let destination = shape(destination, User::new(ANNA, "new"), &ca).start();
        Self { ca, source, destination }
    }

    fn manifest(&self) -> String {
        let server = |host: &str, at: SocketAddr| format!("host: {host}, port: {}", at.port());
        let (old, new) = (server(HOSTS[0], self.source.imaps()), server(HOSTS[1], self.destination.imaps()));
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: old}}\n\
             stringData: {{username: {ANNA}, password: old}}\n---\n\
             apiVersion: v1\nkind: Secret\nmetadata: {{name: new}}\n\
             stringData: {{username: {ANNA}, password: new}}\n---\n\
             apiVersion: mailferry.dev/v1alpha1\nkind: MailMigration\nmetadata: {{name: contoso}}\nspec:\n  \
             stage: Sync\n  \
             destination: {{imap: {{{new}, credentialsRef: {{name: new}}}}}}\n  \
             domains:\n  - name: contoso.example\n    credentialsRef: {{name: old}}\n    \
             servers: [{{protocol: IMAP, {old}}}]\n  \
             policy: {{allowedNetworks: [\"127.0.0.0/8\"]}}\n"
        )
    }

    #[track_caller]
    fn says(&self, manifest: &str, exit: i32) -> String {
        let dns = Dns::start(&HOSTS.map(|host| Record::a(host, "127.0.0.1")));
        let (ca, resolver) = (self.ca.path().display().to_string(), dns.addr().to_string());
        says(manifest, &["--ca", &ca, "--resolver", &resolver], exit)
    }
}

#[test]
fn a_destination_that_is_full() {
    let full = Move::with(|server, anna, _| server.user(anna.quota(60_000)));
    full.says(&full.manifest(), 24);
}

#[test]
fn a_message_that_is_refused_ends_nothing() {
    let strict = Move::with(|server, anna, _| server.user(anna).max_message(100_000));
    let told = strict.says(&strict.manifest(), 25);
    assert!(told.contains("19 copied + 0 excluded + 1 failed"), "{told}");
    assert!(told.contains("MessagesQuarantined"), "{told}");
}

#[test]
fn a_certificate_that_has_expired() {
    let stale =
        Move::with(|server, anna, ca| server.user(anna).tls(&ca.issue_for(&[HOSTS[1]], Validity::EXPIRED)));
    stale.says(&stale.manifest(), 20);
}

#[test]
fn passwords_that_are_wrong_and_names_that_are_not_there() {
    let sound = Move::with(|server, anna, _| server.user(anna));
    let good = sound.manifest();
    sound.says(&good.replace("password: old", "password: wrong"), 21);
    sound.says(&good.replace("password: new", "password: wrong"), 21);
    sound.says(
        &good.replace(
            "  servers: [{protocol: IMAP, host: mail.",
            "  servers: [{protocol: IMAP, host: nowhere.",
        ),
        10,
    );
    sound.says(&good.replace("allowedNetworks: [\"127.0.0.0/8\"]", "allowedNetworks: []"), 22);
}
