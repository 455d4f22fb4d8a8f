//! Pods that somebody does not answer: the API server, a mail server that wants a pause, a database.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use kube::config::Kubeconfig;
use mailferry::model::failure::Class;
use serde_json::json;

use crate::support::dovecot::{Dovecot, LOOPBACK, User};
use crate::support::imap::Client;
use crate::support::postgres::{PASSWORD, Postgres, USER};
use crate::worker::pod::{PATIENCE, carry, domain};
use crate::worker::stopped::{Rig, terminate};

/// A way to the API server that can be closed and opened.
struct Way {
    closed: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    kubeconfig: PathBuf,
}

impl Way {
    /// A way, and the credentials that lead over it.
    fn new(kubeconfig: &str, directory: &Path) -> Self {
        let mut config = Kubeconfig::read_from(kubeconfig).unwrap();
        let cluster = config.clusters[0].cluster.as_mut().unwrap();
        let to: SocketAddr = cluster.server.as_ref().unwrap().trim_start_matches("https://").parse().unwrap();
        let listener = TcpListener::bind(LOOPBACK).unwrap();
        cluster.server = Some(format!("https://{}", listener.local_addr().unwrap()));
        cluster.tls_server_name = Some(to.ip().to_string());
        let path = directory.join("kubeconfig");
        std::fs::write(&path, serde_json::to_string(&config).unwrap()).unwrap();
        let way = Self { closed: Arc::default(), open: Arc::default(), kubeconfig: path };
        let (closed, open) = (Arc::clone(&way.closed), Arc::clone(&way.open));
        spawn(move || {
            for near in listener.incoming().flatten() {
                if closed.load(Ordering::Acquire) {
                    continue;
                }
                let far = TcpStream::connect(to).unwrap();
                open.lock().unwrap().extend([near.try_clone().unwrap(), far.try_clone().unwrap()]);
                let ends = (near.try_clone().unwrap(), far.try_clone().unwrap());
                spawn(move || pass(near, far));
                spawn(move || pass(ends.1, ends.0));
            }
        });
        way
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn open(&self) {
        self.closed.store(false, Ordering::Release);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Both);
}

#[test]
fn mail_goes_on_while_the_api_server_is_away_and_everything_is_told_later() {
    let mut rig = Rig::new(200);
    let kubeconfig = rig.pod.space.cluster().kubeconfig();
    let way = Way::new(kubeconfig, &rig.pod.ledgers());
    rig.pod.kubeconfig(&way.kubeconfig);
    rig.give(1, 200_000);

    // Away from the beginning: nothing is begun, since nobody knows what is wanted.
    way.close();
    let child = rig.pod.start("sync");
    sleep(Duration::from_secs(3));
    assert_eq!(rig.arrived(), 0);
    way.open();
    rig.wait_for_arrivals(20);

    // Away in the middle: the mail goes on to its end.
    way.close();
    rig.wait_for_arrivals(200);
    sleep(Duration::from_secs(2));
    assert!(rig.pod.status(&rig.anna).last_pass.is_none_or(|pass| pass.finished.is_none()));
    way.open();
    let ended = rig.pod.end(child);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(rig.pod.status(&rig.anna).last_pass.unwrap().finished.is_some());
    assert_eq!(rig.pod.result(&rig.anna).unwrap().record.counts.copied, 200);
    rig.assert_same();

    // Away, and asked to stop: it stops in time, and the next pod does again what is not told.
    let uids = rig.new.mailbox("anna@new.test").uid_next();
    rig.give(2, 100_000_000);
    let child = rig.pod.start("sync");
    rig.pod.said_until("begins mailbox=anna");
    way.close();
    rig.pod.said_until("it is tried again");
    let told = Instant::now();
    terminate(&child);
    let ended = rig.pod.end(child);
    assert!(told.elapsed() < Duration::from_secs(10), "{:?}", told.elapsed());
    assert_eq!(ended.code, 40, "what is not told is not done: {}", ended.stderr);
    way.open();
    let ended = rig.pod.run("sync");
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_eq!(rig.pod.status(&rig.anna).last_pass.unwrap().number, 2);
    assert_eq!(rig.new.mailbox("anna@new.test").uid_next(), uids, "nothing is sent once more");
}

#[test]
fn a_mailbox_waits_in_its_pod_while_the_server_wants_a_pause() {
    let old = Dovecot::builder()
        .imap(LOOPBACK)
        .user(User::new("anna@old.test", "anna-secret"))
        .setting("mail_max_userip_connections = 1");
    let rig = Rig::with(old, 5);
    let holds = Client::login(rig.old.imap(), "anna@old.test", "anna-secret").unwrap();
    rig.give(1, 100_000_000);
    let child = rig.pod.start("sync");
    rig.pod.space.wait_until("it is said", PATIENCE, || {
        rig.pod.status(&rig.anna).failure.map(|_| ()).ok_or_else(|| rig.pod.said())
    });
    let status = rig.pod.status(&rig.anna);
    let failure = status.failure.unwrap();
    assert_eq!(failure.class, Class::Throttled);
    assert!(failure.message.contains("; it goes on by itself at 20"), "{}", failure.message);
    assert_eq!(status.last_pass.unwrap().finished, None, "it is still being carried");
    assert!(rig.pod.result(&rig.anna).is_none());
    drop(holds);
    let ended = rig.pod.end(child);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_eq!(rig.pod.status(&rig.anna).failure, None);
    rig.assert_same();
}

#[test]
fn ledgers_in_a_database_are_opened_when_its_secret_appears() {
    let (rig, database) = (Rig::new(20), Postgres::shared());
    let work = || {
        let task = carry(1, std::slice::from_ref(&rig.anna));
        let mut work = rig.pod.work(&rig.new, &domain("IMAP", rig.old.imap(), &["anna"]), &json!({}), task);
        let ledger = json!({"postgres": {"credentialsRef": {"name": "db"}}});
        work.migration.spec.ledger = serde_json::from_value(ledger).unwrap();
        work
    };
    rig.pod.give(&work());
    let ended = rig.pod.run("sync");
    assert_eq!(ended.code, 23, "{}", ended.stderr);
    assert!(ended.error().contains("Secret \"db\" does not exist in namespace"), "{}", ended.stderr);
    let (port, name) = (database.address().port().to_string(), database.database());
    let values = [
        ("host", "127.0.0.1"),
        ("port", &port),
        ("database", &name),
        ("username", USER),
        ("password", PASSWORD),
        ("sslmode", "disable"),
    ];
    rig.pod.mount("secrets", "db", &values);
    let ended = rig.pod.run("sync");
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    rig.assert_same();
    assert!(!rig.pod.ledgers().join("mailboxes").exists(), "no file is made");
    // The next pod finds it there.
    rig.pod.give(&{
        let mut work = work();
        work.task = carry(2, std::slice::from_ref(&rig.anna));
        work
    });
    assert_eq!(rig.pod.run("sync").code, 0);
    let record = rig.pod.result(&rig.anna).unwrap().record;
    assert_eq!((record.pass, record.sent, record.counts.copied), (2, 0, 20));
}
