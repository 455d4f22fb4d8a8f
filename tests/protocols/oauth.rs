//! Logins with tokens in place of passwords: every way to come by one, at a real Dovecot that checks them, and what
//! happens when tokens end, are refused, or cannot be had.

use crate::ferry;
use std::env;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::ferry::{Ferry, Manifest, assert_equation, figure, files, server};
use crate::support::ca::Ca;
use crate::support::canary::{Canary, assert_clean};
use crate::support::compare::differences;
use crate::support::corpus::Corpus;
use crate::support::dovecot::{Dovecot, LOOPBACK, User};
use crate::support::tokens::{Client, Mood, TokenServer, rsa};
use serde_json::json;

const APP: &str = "8f3f1f2e-app";
const APP_SECRET: &str = "Sandpiper~app.secret-1";

/// Two servers that take tokens alone, and who gives them.
struct World {
    ca: Ca,
    tokens: TokenServer,
    old: Dovecot,
    new: Dovecot,
}

impl World {
    fn start(clients: &[(&str, Client)], refresh: &[&str]) -> Self {
        let ca = Ca::new();
        let tokens = TokenServer::start(&ca, clients, refresh);
        let old =
            Dovecot::builder().imap(LOOPBACK).pop3(LOOPBACK).user(User::new("anna@a.test", "of no use"));
        // The tokens are not good for nora.
        let old = old.user(User::new("otto@a.test", "of no use")).user(User::new("nora@a.test", "of no use"));
        let old = tokens.believed_by(old, &["anna@a.test", "otto@a.test"]).start();
        let new = Dovecot::builder().imap(LOOPBACK).user(User::new("anna@new.test", "of no use"));
        let new = new.user(User::new("otto@new.test", "of no use"));
        let new = tokens.believed_by(new, &["anna@new.test", "otto@new.test"]).start();
        Self { ca, tokens, old, new }
    }

    /// An application with a secret.
    fn with_application() -> Self {
        Self::start(&[(APP, Client::Secret(APP_SECRET.to_owned()))], &[])
    }

    fn manifest(&self, keys: &[(&str, &str)], mailboxes: &[&str]) -> Manifest {
        self.manifest_at(keys, mailboxes, &server("IMAP", self.old.imap()), self.new.imap())
    }

    fn manifest_at(
        &self,
        keys: &[(&str, &str)],
        mailboxes: &[&str],
        servers: &str,
        new: SocketAddr,
    ) -> Manifest {
        let at = format!("host: {}, port: {}", new.ip(), new.port());
        let destination = format!("{{{at}, tls: None, credentialsRef: {{name: tokens}}}}");
        Manifest::default()
            .destination(&destination)
            .secret(
                "tokens",
                &[("clientId", APP), ("clientSecret", APP_SECRET), ("tokenUrl", &self.tokens.url())],
            )
            .secret("a.test", keys)
            .domain("a.test", mailboxes, servers)
    }

    fn run(&self, manifest: &Manifest) -> (Ferry, ferry::Ended) {
        let ferry = Ferry::new(&manifest.text());
        let ended = self.run_again(&ferry);
        (ferry, ended)
    }

    fn run_again(&self, ferry: &Ferry) -> ferry::Ended {
        let ca = self.ca.path().display().to_string();
        ferry.run(&["--ca", &ca])
    }

    fn start_run(&self, ferry: &Ferry) -> std::process::Child {
        let ca = self.ca.path().display().to_string();
        ferry.start(&["--ca", &ca, "--progress", "plain"])
    }

    #[track_caller]
    fn assert_moved(&self, name: &str) {
        let here = self.old.mailbox(&format!("{name}@a.test")).read_all();
        let there = self.new.mailbox(&format!("{name}@new.test")).read_all();
        assert_eq!(differences(&here, &there), [""; 0], "{name}");
    }
}

#[test]
fn an_application_opens_mailboxes_with_a_secret() {
    let world = World::with_application();
    world.old.mailbox("anna@a.test").seed(Corpus::new(1).messages(60));
    world.old.mailbox("otto@a.test").seed(Corpus::new(2).messages(40));
    let url = world.tokens.url();
    let keys = [("clientId", APP), ("clientSecret", APP_SECRET), ("tokenUrl", url.as_str())];
    let (ferry, ended) = world.run(&world.manifest(&keys, &["anna", "otto"]));
    ended.expect_code(0);
    world.assert_moved("anna");
    world.assert_moved("otto");
    let status = ferry.status();
    assert_equation(&status);
    assert_eq!(figure(&status, "copied"), 100);
    assert_eq!(world.tokens.given(), 1, "source and destination share one grant, and one token");
}

#[test]
fn an_application_proves_itself_by_a_certificate() {
    let (key, public, certificate) = rsa();
    let app = (APP, Client::Secret(APP_SECRET.to_owned()));
    let world = World::start(&[app, ("signer", Client::Key(public, "PS256"))], &[]);
    world.old.mailbox("anna@a.test").seed(Corpus::new(3).messages(10));
    let url = world.tokens.url();
    let keys = [
        ("clientId", "signer"),
        ("clientCertificate", &certificate),
        ("clientKey", &key),
        ("tokenUrl", url.as_str()),
    ];
    let manifest = world.manifest(&keys, &["anna"]);
    // Its clock and ours are eleven minutes apart.
    world.tokens.set_ahead(-660);
    world.run(&manifest).1.expect_code(0);
    world.assert_moved("anna");
    world.tokens.set_ahead(660);
    world.run(&manifest).1.expect_code(0);
}

#[test]
fn a_service_account_acts_for_each_user() {
    let (key, public, _) = rsa();
    let app = (APP, Client::Secret(APP_SECRET.to_owned()));
    let account = "ferry@project.iam.example";
    let world = World::start(&[app, (account, Client::Key(public, "RS256"))], &[]);
    world.old.mailbox("anna@a.test").seed(Corpus::new(4).messages(10));
    world.old.mailbox("otto@a.test").seed(Corpus::new(5).messages(10));
    let document = json!({
        "type": "service_account", "client_email": account, "private_key": key,
        "private_key_id": "one", "token_uri": world.tokens.url(),
    });
    let keys = [("serviceAccount.json", &*document.to_string())];
    world.run(&world.manifest(&keys, &["anna", "otto"])).1.expect_code(0);
    world.assert_moved("anna");
    world.assert_moved("otto");
    assert_eq!(world.tokens.subjects(), ["anna@a.test", "otto@a.test"]);
}

#[test]
fn a_refresh_token_that_is_good_for_once_is_followed_by_the_next() {
    let app = (APP, Client::Secret(APP_SECRET.to_owned()));
    let world = World::start(&[app], &["first-of-anna", "first-of-otto"]);
    world.old.mailbox("anna@a.test").seed(Corpus::new(6).messages(10));
    world.old.mailbox("otto@a.test").seed(Corpus::new(7).messages(10));
    let url = world.tokens.url();
    let rows = "address,refreshToken\nanna@a.test,first-of-anna\notto@a.test,first-of-otto\n";
    let keys = [("clientId", APP), ("tokenUrl", url.as_str()), ("mailboxes.csv", rows)];
    let (ferry, ended) = world.run(&world.manifest(&keys, &["anna", "otto"]));
    ended.expect_code(0);
    world.assert_moved("anna");
    world.old.mailbox("anna@a.test").seed(Corpus::new(8).messages(5));
    // The Secret's tokens are spent: a new process goes on with those that came in their place.
    world.run_again(&ferry).expect_code(0);
    world.assert_moved("anna");
    world.assert_moved("otto");
}

#[test]
fn what_an_authorization_server_refuses_is_told_without_the_secret() {
    let world = World::with_application();
    world.old.mailbox("anna@a.test").seed(Corpus::new(9).messages(10));
    let url = world.tokens.url();
    let keys = [("clientId", APP), ("clientSecret", "Dunlin-wrong-2"), ("tokenUrl", url.as_str())];
    let (_, ended) = world.run(&world.manifest(&keys, &["anna", "otto"]));
    ended.expect_code(21);
    assert!(
        ended.stderr.contains("invalid_client") && ended.stderr.contains("clientSecret"),
        "{}",
        ended.stderr
    );
    assert!(!ended.stderr.contains("Dunlin"), "{}", ended.stderr);
    // The plan asks both ends: the destination's own Secret is right, and one token opens both its mailboxes.
    assert_eq!(world.tokens.given(), 1);
    assert_eq!(world.tokens.asked(), 2, "a refusal stands for all who share the grant");
}

#[test]
fn a_mailbox_that_the_application_may_not_open_is_told_with_the_step_that_is_missing() {
    let world = World::with_application();
    world.old.mailbox("anna@a.test").seed(Corpus::new(16).messages(10));
    let url = world.tokens.url();
    let keys = [("clientId", APP), ("clientSecret", APP_SECRET), ("tokenUrl", url.as_str())];
    let (ferry, ended) = world.run(&world.manifest(&keys, &["anna", "nora"]));
    ended.expect_code(21);
    world.assert_moved("anna");
    let hint = format!("see that nora@a.test exists and that the server lets {APP} open it");
    assert!(ended.stderr.contains(&hint) && ended.stderr.contains("invalid_token"), "{}", ended.stderr);
    let status = ferry.status().to_string();
    assert!(status.contains("The server refused the token by IMAP."), "{status}");
    assert!(!ended.stderr.contains("password"), "{}", ended.stderr);
    // A token that is refused locks nobody out: it is tried again and again.
    for _ in 0..3 {
        world.run_again(&ferry).expect_code(21);
    }
    assert!(!ferry.status().to_string().contains("LoginAttemptsSpent"));
}

/// Stands before a server and ends every session after a while, as a service does whose tokens end.
struct Front {
    address: SocketAddr,
    ended: std::sync::Arc<std::sync::atomic::AtomicUsize>,
}

impl Front {
    fn start(server: SocketAddr, life: Duration) -> Self {
        let listener = TcpListener::bind(LOOPBACK).unwrap();
        let address = listener.local_addr().unwrap();
        let ended = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = std::sync::Arc::clone(&ended);
        // It ends with the test's process.
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let far = TcpStream::connect(server).unwrap();
                let until = Instant::now() + life;
                let (near_too, far_too) = (near.try_clone().unwrap(), far.try_clone().unwrap());
                thread::spawn(move || drop(pass(near, far, None)));
                let count = std::sync::Arc::clone(&count);
                thread::spawn(move || {
                    if pass(far_too, near_too, Some(until)).unwrap_or_default() {
                        count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    }
                });
            }
        });
        Self { address, ended }
    }

    fn ended(&self) -> usize {
        self.ended.load(std::sync::atomic::Ordering::SeqCst)
    }
}

/// Passes bytes on until somebody ends, or until a time; then the reader is told why. Says whether it was the time.
fn pass(mut from: TcpStream, mut to: TcpStream, until: Option<Instant>) -> std::io::Result<bool> {
    let mut piece = vec![0; 16 * 1024];
    from.set_read_timeout(until.map(|_| Duration::from_millis(100)))?;
    let over = loop {
        if until.is_some_and(|until| Instant::now() > until) {
            let _ = to.write_all(b"* BYE Session invalidated - AccessTokenExpired\r\n");
            break true;
        }
        match from.read(&mut piece) {
            Ok(0) => break false,
            Ok(read) => to.write_all(&piece[..read])?,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => break false,
        }
    };
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    Ok(over)
}

#[test]
fn tokens_that_end_all_the_time_lose_nothing_and_double_nothing() {
    let world = World::with_application();
    world.old.mailbox("anna@a.test").seed(Corpus::new(10).messages(150));
    world.old.mailbox("otto@a.test").seed(Corpus::new(11).messages(150));
    // At length: tokens of a minute during a run of minutes.
    let times = if env::var("MAILFERRY_FAULTS").is_ok_and(|word| word == "all") { 10 } else { 1 };
    world.tokens.set_lifetime(6 * times);
    let old = Front::start(world.old.imap(), Duration::from_secs(5 * times));
    let new = Front::start(world.new.imap(), Duration::from_secs(7 * times));
    let url = world.tokens.url();
    let keys = [("clientId", APP), ("clientSecret", APP_SECRET), ("tokenUrl", url.as_str())];
    let servers = server("IMAP", old.address);
    let manifest = world
        .manifest_at(&keys, &["anna", "otto"], &servers, new.address)
        .policy("settleSeconds: 2")
        .policy(&format!("limits: {{bytesPerSecond: {}}}", 100_000 / times));
    let ferry = Ferry::new(&manifest.text());
    let code = world.start_run(&ferry).wait().unwrap().code();
    assert_eq!(code, Some(0), "{}", fs::read_to_string(ferry.path("run.err")).unwrap());
    world.assert_moved("anna");
    world.assert_moved("otto");
    let status = ferry.status();
    assert_equation(&status);
    assert_eq!(figure(&status, "copied"), 300);
    assert!(old.ended() + new.ended() >= 4, "sessions were ended: {} and {}", old.ended(), new.ended());
    assert!(world.tokens.given() >= 3, "{} tokens", world.tokens.given());
    assert_eq!(world.tokens.most_at_once(), 1, "one asks, the others wait");
    let asked = world.tokens.asked();
    println!("{} tokens, {} and {} sessions ended by the servers", asked, old.ended(), new.ended());
    world.run_again(&ferry).expect_code(0);
    assert!(world.tokens.asked() <= asked + 2, "one grant, whoever uses it");
    world.assert_moved("anna");
}

#[test]
fn an_endpoint_that_is_away_or_busy_is_waited_for() {
    for mood in [Mood::Down, Mood::Busy("2")] {
        let world = World::with_application();
        world.old.mailbox("anna@a.test").seed(Corpus::new(12).messages(10));
        let url = world.tokens.url();
        let keys = [("clientId", APP), ("clientSecret", APP_SECRET), ("tokenUrl", url.as_str())];
        let ferry = Ferry::new(&world.manifest(&keys, &["anna"]).text());
        world.tokens.set_mood(mood.clone());
        let mut run = world.start_run(&ferry);
        let patience = Instant::now() + Duration::from_mins(1);
        while world.tokens.asked() < 2 {
            assert!(Instant::now() < patience, "{mood:?}: {} questions", world.tokens.asked());
            thread::sleep(Duration::from_millis(100));
        }
        world.tokens.set_mood(Mood::Fair);
        let code = run.wait().unwrap().code();
        assert_eq!(code, Some(0), "{mood:?}: {}", fs::read_to_string(ferry.path("run.err")).unwrap());
        world.assert_moved("anna");
    }
}

#[test]
fn a_maildrop_is_opened_with_a_token_too() {
    let world = World::with_application();
    world.old.mailbox("anna@a.test").seed(Corpus::new(13).inbox_only().messages(15));
    let url = world.tokens.url();
    let keys = [("clientId", APP), ("clientSecret", APP_SECRET), ("tokenUrl", url.as_str())];
    let servers = server("POP3", world.old.pop3());
    let manifest = world.manifest_at(&keys, &["anna"], &servers, world.new.imap());
    let (ferry, ended) = world.run(&manifest);
    ended.expect_code(0);
    assert_eq!(figure(&ferry.status(), "copied"), 15);
}

#[test]
fn a_server_that_takes_no_tokens_says_so() {
    let world = World::with_application();
    let plain = Dovecot::builder().imap(LOOPBACK).user(User::new("anna@a.test", "of no use")).start();
    let url = world.tokens.url();
    let keys = [("clientId", APP), ("clientSecret", APP_SECRET), ("tokenUrl", url.as_str())];
    let servers = server("IMAP", plain.imap());
    let (_, ended) = world.run(&world.manifest_at(&keys, &["anna"], &servers, world.new.imap()));
    ended.expect_code(22);
    assert!(ended.stderr.contains("neither OAUTHBEARER nor XOAUTH2"), "{}", ended.stderr);
}

#[test]
fn no_secret_token_or_assertion_is_shown_anywhere() {
    let (key, public, certificate) = rsa();
    let app = (APP, Client::Secret(APP_SECRET.to_owned()));
    let world = World::start(&[app, ("signer", Client::Key(public, "PS256"))], &["Whimbrel-refresh-41/x"]);
    world.old.mailbox("anna@a.test").seed(Corpus::new(14).messages(10));
    let url = world.tokens.url();
    let rows = "address,refreshToken\nanna@a.test,Whimbrel-refresh-41/x\n";
    let by_user = [("clientId", APP), ("tokenUrl", url.as_str()), ("mailboxes.csv", rows)];
    let by_key = [
        ("clientId", "signer"),
        ("clientCertificate", &certificate),
        ("clientKey", &key),
        ("tokenUrl", &url),
    ];
    // A line in the middle of the key is as good as the key.
    let line = key.lines().nth(5).unwrap().to_owned();
    for keys in [&by_user[..], &by_key[..]] {
        let manifest = world.manifest(keys, &["anna"]);
        let ferry = Ferry::new(&manifest.text()).env("MAILFERRY_LOG", "trace").env("RUST_LOG", "trace");
        let ca = world.ca.path().display().to_string();
        let ended = ferry.run(&["--ca", &ca, "-vv"]);
        ended.expect_code(0);
        let mut canaries = vec![
            Canary::new(APP_SECRET, &[]),
            Canary::new("Whimbrel-refresh-41/x", &[]),
            Canary::new(&line, &[]),
        ];
        canaries.extend(world.tokens.tokens().iter().map(|token| Canary::new(token, &[])));
        // Assertions: what was sent, as the server saw it.
        canaries.extend(world.tokens.assertions().iter().map(|assertion| Canary::new(assertion, &[])));
        assert!(canaries.len() > 3);
        assert_clean(&canaries, "standard error", ended.stderr.as_bytes());
        assert_clean(&canaries, "standard output", ended.stdout.as_bytes());
        let rotated = ferry.state().join("tokens");
        for path in files(&ferry.state()).into_iter().filter(|path| !path.starts_with(&rotated)) {
            assert_clean(&canaries, &path.display().to_string(), &fs::read(&path).unwrap());
        }
    }
    assert!(!world.tokens.assertions().is_empty());
}

#[test]
fn a_user_logs_in_on_another_device_and_the_run_goes_on_from_there() {
    let world = World::with_application();
    world.old.mailbox("anna@a.test").seed(Corpus::new(15).messages(10));
    let keys = world.ca.path().with_file_name("anna-keys");
    let [ca, secret] = [&world.ca.path(), &keys].map(|path| path.display().to_string());
    let mut login = std::process::Command::new(env!("CARGO_BIN_EXE_mailferry"));
    login.args([
        "login",
        "--username",
        "anna@a.test",
        "--client-id",
        APP,
        "--secret",
        &secret,
        "--output",
        "json",
    ]);
    login.args(["--token-url", &world.tokens.url(), "--device-url", &world.tokens.device_url(), "--ca", &ca]);
    // Nobody is talked to in a private network that was not named.
    let refused = login.output().unwrap();
    assert_eq!(refused.status.code(), Some(22), "{}", String::from_utf8_lossy(&refused.stderr));
    let mut login = login.args(["--allowed-network", "127.0.0.0/8"]);
    login = login.stdout(std::process::Stdio::piped());
    let mut child = login.spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let prompt: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(prompt, json!({"address": "https://login.example/device", "code": "WDJB-MJHT"}));
    thread::sleep(Duration::from_secs(2));
    world.tokens.allow_devices();
    let done: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(done["keys"], json!(["username", "clientId", "tokenUrl", "refreshToken"]));
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(keys.join("refreshToken")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);

    let ferry = Ferry::new(&world.manifest(&[], &["anna"]).text());
    let given = format!("a.test={secret}");
    ferry.run(&["--ca", &ca, "--secret", &given]).expect_code(0);
    world.assert_moved("anna");
    ferry.run(&["--ca", &ca, "--secret", &given]).expect_code(0);
}
