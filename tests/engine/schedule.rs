//! `run --keep`: pass after pass by the schedule, inside of its windows, from one process of the real binary.

use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use mailferry::discovery::Clock;
use mailferry::local::clock::SystemClock;
use serde_json::Value;

use crate::ferry::{Ferry, Manifest, assert_equation, figure, server};
use crate::support::compare::differences;
use crate::support::corpus::Corpus;
use crate::support::dovecot::{Dovecot, LOOPBACK, User};

/// How long anything may take here.
const PATIENCE: Duration = Duration::from_mins(2);

/// A source with one mailbox of so many messages, and an empty destination.
fn pair(messages: usize) -> (Dovecot, Dovecot) {
    let old = Dovecot::builder().imap(LOOPBACK).user(User::new("alice@old.test", "alice-secret")).start();
    let new = Dovecot::builder()
        .imap(LOOPBACK)
        .master("admin", "admin-secret")
        .user(User::new("alice@new.test", "of-no-use"))
        .start();
    old.mailbox("alice@old.test").seed(Corpus::new(61).ordinary_only().messages(messages));
    (old, new)
}

fn manifest(old: &Dovecot, new: &Dovecot) -> Manifest {
    Manifest::to(new.imap(), "admin", "admin-secret")
        .secret("old.test", &[("username", "alice@old.test"), ("password", "alice-secret")])
        .domain("old.test", &["alice"], &server("IMAP", old.imap()))
}

/// A manifest with a schedule, as the YAML of `spec.schedule`.
fn scheduled(manifest: &Manifest, schedule: &str) -> String {
    manifest.text().replace("  stage: Sync\n", &format!("  stage: Sync\n  schedule: {schedule}\n"))
}

/// The lines that `--progress json` wrote so far, those of one event.
fn events(ferry: &Ferry, event: &str) -> Vec<Value> {
    let said = std::fs::read_to_string(ferry.path("run.err")).unwrap_or_default();
    let lines = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["event"] == event).collect()
}

fn said(ferry: &Ferry) -> String {
    std::fs::read_to_string(ferry.path("run.err")).unwrap_or_default()
}

/// Waits until something is as it should be, while the process goes on.
#[track_caller]
fn wait_until(ferry: &Ferry, child: &mut Child, what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what}\n{}", said(ferry));
        assert!(child.try_wait().unwrap().is_none(), "it ended too early: {what}\n{}", said(ferry));
        sleep(Duration::from_millis(50));
    }
}

fn interrupt(mut child: Child) -> Option<i32> {
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(sent.is_ok_and(|status| status.success()));
    let told = Instant::now();
    let status = child.wait().unwrap();
    assert!(told.elapsed() < Duration::from_secs(10), "{:?}", told.elapsed());
    status.code()
}

fn moment(value: &Value) -> Timestamp {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no moment: {value}"))
}

/// A time of day in UTC, as a window says it.
fn time(at: Timestamp) -> String {
    at.strftime("%H:%M").to_string()
}

#[test]
fn a_run_that_stays_carries_what_came_between_two_passes_and_ends_in_order() {
    let (old, new) = pair(40);
    let ferry = Ferry::new(&scheduled(&manifest(&old, &new), "{every: 10s}"));
    let mut child = ferry.start(&["--keep", "--progress", "json"]);
    wait_until(&ferry, &mut child, "the first pass is through", || events(&ferry, "waits").len() == 1);
    let waits = events(&ferry, "waits").remove(0);
    let status = ferry.status();
    let next = moment(&status["status"]["schedule"]["next"]);
    assert_eq!((moment(&waits["until"]), &waits["paused"]), (next, &Value::Bool(false)));
    let pass = &status["status"]["pass"];
    let (began, ended) = (moment(&pass["began"]), moment(&pass["ended"]));
    assert!(began <= ended && ended <= next, "{pass}");
    let wait = next.duration_since(began);
    assert!((SignedDuration::from_secs(10)..=SignedDuration::from_secs(12)).contains(&wait), "{wait:?}");
    let text = ferry.call("status", &[]);
    assert!(
        text.stdout.contains("next pass at ") && text.stdout.contains("the last one took "),
        "{}",
        text.stdout
    );
    let other = ferry.run(&["--progress", "none"]);
    other.expect_code(11);

    // A message comes between two passes, and the next one carries it.
    let before = new.mailbox("alice@new.test").uid_next();
    old.mailbox("alice@old.test").seed(Corpus::new(62).inbox_only().ordinary_only().messages(1));
    wait_until(&ferry, &mut child, "the second pass is through", || events(&ferry, "waits").len() == 2);
    let status = ferry.status();
    assert_eq!((&status["status"]["pass"]["number"], figure(&status, "copied")), (&Value::from(2), 41));
    assert_equation(&status);
    let (here, there) = (old.mailbox("alice@old.test").read_all(), new.mailbox("alice@new.test").read_all());
    assert_eq!(differences(&here, &there), [""; 0]);
    let after = new.mailbox("alice@new.test").uid_next();
    let sent: u32 = after.iter().map(|(folder, (_, next))| next - before[folder].1).sum();
    assert_eq!(sent, 1, "nothing is sent again");
    assert_eq!(events(&ferry, "discovered").len(), 2, "it is told what is known");
    let signals = events(&ferry, "discovering").len();

    // A third one with nothing new, and nobody is asked anew what is known.
    wait_until(&ferry, &mut child, "the third pass is through", || events(&ferry, "waits").len() == 3);
    assert_eq!(events(&ferry, "discovering").len(), signals, "discovery holds");
    assert_eq!(new.mailbox("alice@new.test").uid_next(), after);
    assert_eq!(interrupt(child), Some(0), "between two passes all is in step\n{}", said(&ferry));
    assert!(said(&ferry).contains("stopped between two passes"), "{}", said(&ferry));
    let out = std::fs::read_to_string(ferry.path("run.out")).unwrap();
    assert!(out.contains("pass 2 of this run: 1 new") && out.contains("pass 3 of this run: 0 new"), "{out}");
    let status = ferry.status();
    assert_eq!(status["status"]["schedule"], Value::Null, "nobody is there for it any more");
    assert_eq!(status["status"]["phase"], "Verified");
}

#[test]
fn one_pass_is_made_where_nobody_stays_and_keeping_wants_a_schedule() {
    let (old, new) = pair(10);
    let plain = manifest(&old, &new);
    let ferry = Ferry::new(&scheduled(&plain, "{every: 1h}"));
    let once = ferry.run(&["--progress", "none"]);
    once.expect_code(0);
    assert!(
        once.stdout.contains("spec.schedule.every says 1h") && once.stdout.contains("--keep"),
        "{}",
        once.stdout
    );
    assert_eq!(ferry.status()["status"]["schedule"], Value::Null);
    ferry.write(&plain.text());
    let refused = ferry.run(&["--keep", "--progress", "none"]);
    refused.expect_code(23);
    let (what, hint) = refused.error();
    assert!(what.contains("--keep: no migration of the manifest has a schedule"), "{what}");
    assert!(hint.contains("spec.schedule.every"), "{hint}");
}

#[test]
fn nothing_is_carried_while_no_window_is_open() {
    let (old, new) = pair(10);
    let now = SystemClock.now();
    let [from, to] = [2, 3].map(|hours| time(now + SignedDuration::from_hours(hours)));
    let ferry = Ferry::new(&scheduled(
        &manifest(&old, &new),
        &format!("{{windows: [{{from: \"{from}\", to: \"{to}\"}}]}}"),
    ));
    let refused = ferry.run(&["--progress", "none"]);
    refused.expect_code(40);
    let (what, hint) = refused.error();
    assert!(what.contains("no window of spec.schedule.windows is open until "), "{what}");
    assert!(hint.contains("--keep"), "{hint}");
    assert_eq!(figure(&ferry.status(), "copied"), 0);
    assert!(ferry.report("json").contains("\"pending\""));

    let mut child = ferry.start(&["--keep", "--progress", "json"]);
    wait_until(&ferry, &mut child, "it waits", || events(&ferry, "waits").len() == 1);
    assert_eq!(events(&ferry, "waits")[0]["paused"], true);
    let status = ferry.status();
    assert_eq!((&status["status"]["phase"], figure(&status, "copied")), (&Value::from("Paused"), 0));
    let next = moment(&status["status"]["schedule"]["next"]);
    assert!(next > now + SignedDuration::from_mins(110), "{next}");
    let text = ferry.call("status", &[]).stdout;
    assert!(
        text.contains("paused; it goes on at ") && text.contains("WindowClosed")
            || text.contains("No window"),
        "{text}"
    );
    assert_eq!(interrupt(child), Some(40), "something is still to come\n{}", said(&ferry));
    assert_eq!(new.mailbox("alice@new.test").read_all().messages(), 0);
    assert_eq!(ferry.status()["status"]["phase"], "Interrupted");
}

#[test]
fn a_pass_pauses_where_its_window_closes_and_loses_and_doubles_nothing() {
    let (old, new) = pair(4_000);
    // So slow that it is at work when the window closes, within two minutes.
    let slow = manifest(&old, &new).policy("limits: {bytesPerSecond: 200000}");
    let now = SystemClock.now();
    let closes = now + SignedDuration::from_secs(95);
    let [from, to] = [now - SignedDuration::from_hours(1), closes].map(time);
    let window = format!("{{windows: [{{from: \"{from}\", to: \"{to}\"}}]}}");
    let ferry = Ferry::new(&scheduled(&slow, &window));
    let mut child = ferry.start(&["--keep", "--progress", "json"]);
    wait_until(&ferry, &mut child, "it pauses", || !events(&ferry, "waits").is_empty());
    let status = ferry.status();
    assert_eq!(status["status"]["phase"], "Paused", "{}", status["status"]["conditions"]);
    assert_equation(&status);
    let copied = figure(&status, "copied");
    let arrived =
        || -> u32 { new.mailbox("alice@new.test").uid_next().values().map(|(_, next)| next - 1).sum() };
    assert!(copied > 0 && copied < 4_000, "{copied} of {} that came\n{}", arrived(), said(&ferry));
    let paused = arrived();
    sleep(Duration::from_secs(2));
    assert_eq!(arrived(), paused, "nothing comes any more");
    assert_eq!(interrupt(child), Some(40), "{}", said(&ferry));

    ferry.write(&manifest(&old, &new).policy("settleSeconds: 2").text());
    ferry.run(&["--progress", "none"]).expect_code(0);
    let (here, there) = (old.mailbox("alice@old.test").read_all(), new.mailbox("alice@new.test").read_all());
    assert_eq!(differences(&here, &there), [""; 0]);
}
