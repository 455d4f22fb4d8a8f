//! Pods that end in the middle, and two pods at one mailbox.

use std::fs::File;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use mailferry::api::MailboxMigrationStatus;
use mailferry::cluster::work::Item;
use mailferry::model::failure::Class;
use mailferry::model::protocol::Protocol;
use serde_json::json;

use crate::support::compare::differences;
use crate::support::corpus::Corpus;
use crate::support::dovecot::{Builder, Dovecot, LOOPBACK, User};
use crate::worker::pod::{PATIENCE, Pod, carry, domain};

/// A pod with one mailbox.
pub(crate) struct Rig {
    pub(crate) old: Dovecot,
    pub(crate) new: Dovecot,
    pub(crate) pod: Pod,
    pub(crate) anna: Item,
}

impl Rig {
    pub(crate) fn new(messages: usize) -> Self {
        Self::with(
            Dovecot::builder().imap(LOOPBACK).user(User::new("anna@old.test", "anna-secret")),
            messages,
        )
    }

    pub(crate) fn with(old: Builder, messages: usize) -> Self {
        let old = old.start();
        let new = Dovecot::builder()
            .imap(LOOPBACK)
            .master("admin", "admin-secret")
            .user(User::new("anna@new.test", "of-no-use"))
            .start();
        old.mailbox("anna@old.test").seed(Corpus::new(9).ordinary_only().messages(messages));
        let pod = Pod::new();
        pod.mount("secrets", "old", &[("username", "anna@old.test"), ("password", "anna-secret")]);
        let admin = [("masterUser", "admin"), ("masterPassword", "admin-secret"), ("masterSeparator", "*")];
        pod.mount("secrets", "new", &admin);
        let anna = pod.item("anna", old.imap(), Protocol::Imap);
        Self { old, new, pod, anna }
    }

    /// Gives the pod the mailbox, not faster than so many bytes a second.
    pub(crate) fn give(&self, pass: u32, pace: u64) {
        let spec = domain("IMAP", self.old.imap(), &["anna"]);
        let policy = json!({"settleSeconds": 2, "limits": {"bytesPerSecond": pace}});
        self.pod.give(&self.pod.work(
            &self.new,
            &spec,
            &policy,
            carry(pass, std::slice::from_ref(&self.anna)),
        ));
    }

    /// Messages at the destination.
    pub(crate) fn arrived(&self) -> usize {
        self.new.mailbox("anna@new.test").uid_next().values().map(|(_, next)| *next as usize - 1).sum()
    }

    pub(crate) fn wait_for_arrivals(&self, count: usize) {
        let end = Instant::now() + PATIENCE;
        while self.arrived() < count {
            assert!(Instant::now() < end, "nothing arrives: {}", self.pod.said());
            sleep(Duration::from_millis(50));
        }
    }

    #[track_caller]
    pub(crate) fn assert_same(&self) {
        let here = self.old.mailbox("anna@old.test").read_all();
        assert_eq!(differences(&here, &self.new.mailbox("anna@new.test").read_all()), [""; 0]);
    }
}

pub(crate) fn terminate(child: &Child) {
    let sent = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(sent.is_ok_and(|status| status.success()));
}

#[test]
fn killed_at_any_moment_the_next_pod_goes_on_and_nothing_comes_twice() {
    let rig = Rig::new(400);
    rig.give(1, 300_000);
    for _ in 0..3 {
        let mut child = rig.pod.start("sync");
        rig.wait_for_arrivals(rig.arrived() + 20);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(rig.arrived() < 400, "it was killed too late");
        let status = rig.pod.status(&rig.anna);
        assert!(status.last_pass.is_none_or(|pass| pass.finished.is_none()), "it is not through");
        assert!(rig.pod.result(&rig.anna).is_none());
    }
    rig.give(1, 100_000_000);
    let ended = rig.pod.run("sync");
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    rig.assert_same();
    let counts = rig.pod.status(&rig.anna).messages.unwrap();
    assert_eq!((counts.source, counts.copied), (400, 400));
    assert_eq!(rig.pod.result(&rig.anna).unwrap().record.counts, counts);
}

#[test]
fn progress_is_told_and_a_pod_that_is_asked_to_stop_does_so_in_time() {
    let rig = Rig::new(400);
    rig.give(1, 100_000);
    let child = rig.pod.start("sync");
    rig.pod.space.wait_until("some progress", PATIENCE, || {
        let status = rig.pod.status(&rig.anna);
        let counts = status.messages.unwrap_or_default();
        if counts.copied > 0 && counts.pending > 0 { Ok(()) } else { Err(format!("{counts}")) }
    });
    let status = rig.pod.status(&rig.anna);
    let pass = status.last_pass.unwrap();
    assert_eq!((pass.number, pass.attempts, pass.finished, status.failure), (1, 1, None, None));
    assert!(pass.started.is_some());
    let told = Instant::now();
    terminate(&child);
    let ended = rig.pod.end(child);
    assert!(told.elapsed() < Duration::from_secs(10), "{:?}", told.elapsed());
    assert_eq!(ended.code, 40, "{}", ended.stderr);
    assert!(ended.error().contains("stopped by a signal"), "{}", ended.stderr);
    rig.give(1, 100_000_000);
    assert_eq!(rig.pod.run("sync").code, 0);
    rig.assert_same();
    let pass = rig.pod.status(&rig.anna).last_pass.unwrap();
    assert_eq!((pass.attempts, pass.finished.is_some()), (2, true));
}

#[test]
fn what_was_said_of_a_failure_stays_while_it_is_tried_again() {
    let mut rig = Rig::new(400);
    rig.give(1, 100_000);
    rig.pod.mount("secrets", "old", &[("username", "anna@old.test"), ("password", "wrong")]);
    assert_eq!(rig.pod.run("sync").code, 21);
    let first = rig.pod.status(&rig.anna);
    assert_eq!(first.failure.as_ref().unwrap().class, Class::Credentials);
    rig.old.set_user(User::new("anna@old.test", "wrong"));
    let child = rig.pod.start("sync");
    rig.pod.space.wait_until("some progress", PATIENCE, || {
        let counts = rig.pod.status(&rig.anna).messages.unwrap_or_default();
        if counts.copied > 0 { Ok(()) } else { Err(format!("{counts}; {}", rig.pod.said())) }
    });
    let again = rig.pod.status(&rig.anna);
    assert_eq!(again.failure, first.failure);
    let (again, first) = (again.last_pass.unwrap(), first.last_pass.unwrap());
    assert_eq!((again.attempts, again.finished), (2, first.finished));
    terminate(&child);
    assert_eq!(rig.pod.end(child).code, 40);
    rig.give(1, 100_000_000);
    assert_eq!(rig.pod.run("sync").code, 0);
    assert_eq!(rig.pod.status(&rig.anna).failure, None);
}

#[test]
fn a_mailbox_that_another_worker_carries_is_left_to_it() {
    let rig = Rig::new(5);
    rig.give(1, 100_000_000);
    let mailboxes = rig.pod.ledgers().join("mailboxes");
    std::fs::create_dir_all(&mailboxes).unwrap();
    let held = File::create(mailboxes.join(format!("{}.lock", rig.anna.object))).unwrap();
    held.try_lock().unwrap();
    let child = rig.pod.start("sync");
    // Long enough for progress to be reported, if it were.
    sleep(Duration::from_secs(8));
    assert!(rig.pod.said().contains("another worker is carrying this mailbox"), "{}", rig.pod.said());
    assert_eq!(rig.pod.status(&rig.anna), MailboxMigrationStatus::default());
    assert_eq!(rig.arrived(), 0);
    drop(held);
    let ended = rig.pod.end(child);
    assert_eq!(ended.code, 0, "it was tried again: {}", ended.stderr);
    rig.assert_same();
}
