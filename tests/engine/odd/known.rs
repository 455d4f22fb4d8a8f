//! Facts that discovery knows are not asked again while they hold; and a name server that says nothing, where servers
//! are named.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::Value;

use crate::ferry::Ferry;
use crate::odd::world::{ANNA, manifest};
use crate::support::script::store::letter;
use crate::support::script::{PASSWORD, Reaction, Script, Store};

/// A name server that counts the questions put to it. It knows no name and says so, or it says nothing.
struct Asked {
    address: SocketAddr,
    questions: Arc<AtomicUsize>,
}

impl Asked {
    fn start(answers: bool) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let questions = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&questions);
        thread::spawn(move || {
            let mut packet = [0; 4096];
            while let Ok((length, who)) = socket.recv_from(&mut packet) {
                counted.fetch_add(1, Ordering::SeqCst);
                let question = &packet[12..length];
                let Some(end) = question.iter().position(|byte| *byte == 0).filter(|_| answers) else {
                    continue;
                };
                // NXDOMAIN, with the question and nothing else.
                let head = [&packet[..2], &[0x85, 0x83, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
                let _ = socket.send_to(&[&head, &question[..end + 5]].concat(), who);
            }
        });
        Self { address, questions }
    }

    /// How many questions there were since this was asked last.
    fn taken(&self) -> usize {
        self.questions.swap(0, Ordering::SeqCst)
    }
}

const EXTENSIONS: &str = "LIST-EXTENDED LIST-STATUS CONDSTORE ENABLE";

fn servers() -> (Script, Script) {
    let (source, destination) = (Script::imap(Store::standard()), Script::imap(Store::empty()));
    source.also(EXTENSIONS);
    destination.also(EXTENSIONS);
    (source, destination)
}

fn ferry(source: &Script, destination: &Script, names: &Asked) -> Ferry {
    let manifest = manifest("IMAP", source.address(), destination.address(), "");
    Ferry::new(&manifest.text()).resolver(names.address)
}

fn logins(server: &Script) -> usize {
    server.count("AUTHENTICATE") + server.count("LOGIN")
}

/// The evidence that discovery keeps of the domain.
fn evidence(ferry: &Ferry) -> Vec<Value> {
    let text = fs::read_to_string(ferry.state().join("test/move/domains/old.test.json")).unwrap();
    let kept: Value = serde_json::from_str(&text).unwrap();
    kept["document"]["evidence"].as_array().cloned().unwrap_or_else(|| panic!("{kept}"))
}

#[test]
fn a_run_that_finds_nothing_to_do_asks_no_name_server_opens_no_folder_and_logs_in_once_at_each_side() {
    let ((source, destination), names) = (servers(), Asked::start(true));
    let ferry = ferry(&source, &destination, &names);
    ferry.run(&[]).expect_code(0);
    assert!(names.taken() > 0, "the first run asked nothing");
    for _ in 0..2 {
        source.forget();
        destination.forget();
        ferry.run(&[]).expect_code(0);
        assert_eq!((names.taken(), logins(&source), logins(&destination)), (0, 1, 1));
        for server in [&source, &destination] {
            let opened = server.verbs().into_iter().find(|verb| verb == "SELECT" || verb == "EXAMINE");
            assert_eq!(opened, None, "{:?}", server.verbs());
        }
    }
    // The same holds for one that finds something: only the folder that changed is opened.
    source.store().folder("Work").add(&[], letter("six"));
    source.forget();
    ferry.run(&[]).expect_code(0);
    assert_eq!((names.taken(), logins(&source), source.count("EXAMINE")), (0, 1, 1));
    assert_eq!(destination.store().folder("Work").subjects(), ["four", "five", "six"]);
}

#[test]
fn whatever_discovery_depends_on_makes_it_ask_again() {
    let ((source, destination), names) = (servers(), Asked::start(true));
    let ferry = ferry(&source, &destination, &names);
    let manifest = |more: &str| manifest("IMAP", source.address(), destination.address(), more);
    let first = manifest("").text();
    ferry.run(&[]).expect_code(0);
    names.taken();
    let at = source.address();
    let chosen = format!(
        "overrides: [{{match: {{addresses: [{ANNA}]}}, protocol: IMAP, server: {{host: {}, port: {}, tls: None}}}}]",
        at.ip(),
        at.port()
    );
    let changed = [
        ("an override", manifest(&chosen).text()),
        ("a network", manifest("").policy("allowedNetworks: [\"127.0.0.0/8\", \"10.0.0.0/8\"]").bare()),
        ("a trigger", format!("{first}  trigger: {{discover: again}}\n")),
        ("a Secret", first.replace(&format!(",{PASSWORD}"), ",another")),
    ];
    for (what, text) in changed {
        source.user(ANNA, if what == "a Secret" { "another" } else { PASSWORD });
        ferry.write(&text);
        ferry.run(&[]).expect_code(0);
        assert!(names.taken() > 0, "{what} changed, and nothing was asked");
        ferry.run(&[]).expect_code(0);
        assert_eq!(names.taken(), 0, "{what}: the same once more");
    }
    // Where only a plan is wanted, asking is what is wanted.
    ferry.run(&["--stage", "Plan"]).expect_code(0);
    assert!(names.taken() > 0);
}

#[test]
fn a_mailbox_that_failed_makes_discovery_ask_again() {
    let ((source, destination), names) = (servers(), Asked::start(true));
    let ferry = ferry(&source, &destination, &names);
    ferry.run(&[]).expect_code(0);
    names.taken();
    destination.on("LIST", Reaction::no("[NOPERM] not today"));
    let ended = ferry.run(&[]);
    assert_ne!(ended.code, 0, "{}", ended.stderr);
    assert_eq!(names.taken(), 0, "nothing had failed before");
    destination.straighten();
    ferry.run(&[]).expect_code(0);
    assert!(names.taken() > 0);
}

#[test]
fn a_name_server_that_says_nothing_hinders_nobody_whose_servers_are_named() {
    let ((source, destination), names) = (servers(), Asked::start(false));
    let ferry = ferry(&source, &destination, &names);
    ferry.run(&[]).expect_code(0);
    assert_eq!(destination.store().count(), 5);
    assert!(names.taken() > 0);
    let evidence = evidence(&ferry);
    let by_name: Vec<&Value> = evidence
        .iter()
        .filter(|it| ["Mx", "Srv", "Spf", "Autoconfig", "UsualName"].map(Value::from).contains(&it["signal"]))
        .collect();
    assert!(by_name.len() > 8, "{evidence:#?}");
    for it in by_name {
        assert_eq!(it["outcome"]["failed"]["code"], "NameUnanswered", "{it:#}");
    }
    // The mailbox is known, so the next pass waits for nobody.
    source.forget();
    ferry.run(&[]).expect_code(0);
    assert_eq!((names.taken(), logins(&source)), (0, 1));
}
