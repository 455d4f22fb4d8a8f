//! Killed at any moment and run again, a migration loses nothing and copies nothing twice.

use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::ferry::{Ferry, Manifest, assert_equation, figure, server};
use crate::support::compare::differences;
use crate::support::corpus::{Corpus, Dice, EMPTY_FOLDER};
use crate::support::dovecot::{Dovecot, LOOPBACK, User};

const MESSAGES: usize = 5_000;
const KILLS: u32 = 10;

/// A source with one mailbox, and an empty destination.
fn pair(corpus: Corpus, messages: usize) -> (Dovecot, Dovecot) {
    let old = Dovecot::builder().imap(LOOPBACK).user(User::new("alice@old.test", "alice-secret")).start();
    let new = Dovecot::builder()
        .imap(LOOPBACK)
        .master("admin", "admin-secret")
        .user(User::new("alice@new.test", "of-no-use"))
        .start();
    let mut mailbox = old.mailbox("alice@old.test");
    mailbox.seed(corpus.messages(messages));
    mailbox.create_and_subscribe(EMPTY_FOLDER);
    drop(mailbox);
    (old, new)
}

fn manifest(old: &Dovecot, new: &Dovecot) -> Manifest {
    Manifest::to(new.imap(), "admin", "admin-secret")
        .secret("old.test", &[("username", "alice@old.test"), ("password", "alice-secret")])
        .domain("old.test", &["alice"], &server("IMAP", old.imap()))
}

/// Sends a signal to a child of ours.
fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
    assert!(sent.is_ok_and(|status| status.success()), "kill -{name}");
}

/// Messages at the destination, in all folders, by what the server says.
fn arrived(new: &Dovecot) -> usize {
    new.mailbox("alice@new.test").uid_next().values().map(|(_, next)| *next as usize - 1).sum()
}

#[test]
fn ten_kills_leave_no_difference() {
    let seed = 20_261_123;
    println!("seed {seed}");
    let (old, new) = pair(Corpus::new(seed).with_large(&[25 << 20]), MESSAGES);
    // While it is killed again and again a shorter settle time keeps the test short: what is late is then late by less
    // than a local Dovecot ever is. The last two runs, which find the late commits of all the others, keep the default.
    let hasty = manifest(&old, &new).policy("settleSeconds: 2").text();
    let ferry = Ferry::new(&hasty);
    let mut dice = Dice::new(seed);
    let mut progress = Vec::new();
    for kill in 1..=KILLS {
        let mut child = ferry.start(&["--progress", "none"]);
        // A run waits for the settle time first; the moments lie on both sides of its end.
        let first = if kill == 1 { 300 } else { 1_500 };
        let moment = Duration::from_millis(first + dice.below(2_500));
        sleep(moment);
        let ended = child.try_wait().expect("a child");
        child.kill().expect("SIGKILL");
        child.wait().expect("a child");
        let there = arrived(&new);
        println!(
            "kill {kill} after {moment:?}: {there} of {MESSAGES} messages have arrived; ended: {ended:?}"
        );
        progress.push((there, ended.is_some()));
    }
    assert!(
        progress.iter().filter(|(there, ended)| *there < MESSAGES && !ended).count() >= 5,
        "{progress:?}"
    );

    ferry.write(&manifest(&old, &new).text());
    let begun = Instant::now();
    ferry.run(&["--progress", "none"]).expect_code(0);
    println!("resumed and finished in {:?}", begun.elapsed());
    let source = old.mailbox("alice@old.test").read_all();
    assert_eq!(source.messages(), MESSAGES);
    assert_eq!(source.folders.len(), 19);
    assert_eq!(differences(&source, &new.mailbox("alice@new.test").read_all()), [""; 0]);
    let status = ferry.status();
    assert_equation(&status);
    assert_eq!((figure(&status, "source"), figure(&status, "copied")), (5_000, 5_000));
    // Each of them was compared, whichever run it arrived in, and nobody says less.
    let report: serde_json::Value = serde_json::from_str(&ferry.report("json")).expect("JSON");
    assert_eq!(report["totals"]["sizesChecked"], 5_000, "{}", report["totals"]);
    let bytes: usize = source.folders.values().flatten().map(|message| message.size).sum();
    assert_eq!(report["totals"]["bytesCopied"], bytes, "{}", report["totals"]);
    let conditions = status["status"]["conditions"].as_array().expect("conditions");
    let verified = conditions.iter().find(|condition| condition["type"] == "Verified").expect("Verified");
    assert!(
        verified["message"].as_str().is_some_and(|words| words.contains(": 5,000 by size, ")),
        "{verified}"
    );

    let before = new.mailbox("alice@new.test").uid_next();
    ferry.run(&["--progress", "none"]).expect_code(0);
    assert_eq!(new.mailbox("alice@new.test").uid_next(), before, "nothing is sent once more");
    assert_equation(&ferry.status());
}

#[test]
fn a_run_that_is_told_to_stop_ends_in_order_and_goes_on_later() {
    let (old, new) = pair(Corpus::new(52).ordinary_only(), 600);
    // So slow that it cannot be done before it is stopped.
    let slow = manifest(&old, &new).policy("limits: {bytesPerSecond: 200000}").text();
    let ferry = Ferry::new(&slow);
    for name in ["TERM", "INT"] {
        let mut child = ferry.start(&["--progress", "plain"]);
        let before = arrived(&new);
        let patience = Instant::now() + Duration::from_secs(40);
        while arrived(&new) < before + 5 {
            assert!(Instant::now() < patience, "nothing arrives");
            assert!(child.try_wait().expect("a child").is_none(), "it ended too early");
            sleep(Duration::from_millis(100));
        }
        let told = Instant::now();
        signal(&child, name);
        let status = child.wait().expect("a child");
        assert!(told.elapsed() < Duration::from_secs(10), "{:?}", told.elapsed());
        assert_eq!(status.code(), Some(40), "SIG{name}");
        let said = std::fs::read_to_string(ferry.path("run.err")).expect("its output");
        assert!(said.contains("error: ") && said.contains("  hint: "), "{said}");
        assert_equation(&ferry.status());
    }
    ferry.write(&manifest(&old, &new).text());
    ferry.run(&["--progress", "none"]).expect_code(0);
    let (here, there) = (old.mailbox("alice@old.test").read_all(), new.mailbox("alice@new.test").read_all());
    assert_eq!(differences(&here, &there), [""; 0]);
}
