//! The plan that was approved is what is carried out: nothing is written into another person's mailbox, whatever changes
//! after the approval, and nothing gets around it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::ferry::{Ferry, Manifest, csv, server};
use crate::support::ca::Ca;
use crate::support::corpus::Corpus;
use crate::support::dovecot::{Dovecot, LOOPBACK, User};
use mailferry::api::manifest;
use mailferry::auth::oauth::Tokens;
use mailferry::ledger::sqlite::SqliteStore;
use mailferry::local::clock::SystemClock;
use mailferry::local::guard::DurableGuard;
use mailferry::local::secrets::Secrets;
use mailferry::local::workers::{Siblings, Tools};
use mailferry::model::endpoint::Endpoint;
use mailferry::model::evidence::{Authorities, LoginNames};
use mailferry::model::failure::FailureCode;
use mailferry::model::protocol::{Protocol, Tls};
use mailferry::model::record::MailboxRecord;
use mailferry::net::network::Network;
use mailferry::plan::mailboxes::PlannedMailbox;
use mailferry::transfer::pace::Pace;
use mailferry::transfer::progress::MailboxProgress;
use serde_json::json;

const PEOPLE: [&str; 2] = ["anna", "boss"];

struct World {
    old: Dovecot,
    new: Dovecot,
}

impl World {
    fn start() -> Self {
        let (mut old, mut new) = (Dovecot::builder().imap(LOOPBACK), Dovecot::builder().imap(LOOPBACK));
        for name in PEOPLE {
            old = old.user(User::new(&format!("{name}@old.test"), &format!("{name}-old")));
            new = new.user(User::new(&format!("{name}@new.test"), &format!("{name}-new")));
        }
        let world = Self { old: old.start(), new: new.start() };
        for (seed, name) in (11..).zip(PEOPLE) {
            world
                .old
                .mailbox(&format!("{name}@old.test"))
                .seed(Corpus::new(seed).ordinary_only().messages(6));
        }
        world
    }

    /// The mailbox of anna, with whatever is said to log in at both ends.
    fn manifest(&self, source: &[(&str, &str)], destination: &[(&str, &str)]) -> Manifest {
        let at = format!("host: {}, port: {}, tls: None", self.new.imap().ip(), self.new.imap().port());
        Manifest::default()
            .destination(&format!("{{{at}, credentialsRef: {{name: new}}}}"))
            .secret("new", destination)
            .secret("old.test", source)
            .domain("old.test", &["anna"], &server("IMAP", self.old.imap()))
    }

    fn arrived(&self) -> usize {
        PEOPLE.iter().map(|name| self.new.mailbox(&format!("{name}@new.test")).read_all().messages()).sum()
    }
}

const ANNA_OLD: [(&str, &str); 2] = [("username", "anna@old.test"), ("password", "anna-old")];
const ANNA_NEW: [(&str, &str); 2] = [("username", "anna@new.test"), ("password", "anna-new")];

fn approve(ferry: &Ferry, manifest: &str) -> String {
    ferry.write(manifest);
    ferry.run(&["--stage", "Plan"]).expect_code(0);
    let digest = ferry.status()["status"]["plan"]["digest"].as_str().unwrap().to_owned();
    format!("{manifest}  approvedPlan: \"{digest}\"\n")
}

#[test]
fn whoever_logs_in_at_either_end_is_part_of_what_was_approved() {
    let world = World::start();
    let approved_as = world.manifest(&ANNA_OLD, &ANNA_NEW).text();
    let (anna_new, anna_old) =
        ("\"anna@new.test\"\n  password: \"anna-new\"", "\"anna@old.test\"\n  password: \"anna-old\"");
    let by_row = csv(&[("anna@new.test", "boss@new.test", "boss-new")]);
    // Each of them would be let in, by the Secret of the same name or by another one.
    let others = [
        (
            "the user of the destination's Secret",
            approved_as.replace(anna_new, "\"boss@new.test\"\n  password: \"boss-new\""),
        ),
        (
            "the user of the domain's Secret",
            approved_as.replace(anna_old, "\"boss@old.test\"\n  password: \"boss-old\""),
        ),
        (
            "another Secret of the destination",
            world
                .manifest(&ANNA_OLD, &ANNA_NEW)
                .secret("other", &ANNA_NEW)
                .text()
                .replace("{name: new}", "{name: other}"),
        ),
        (
            "another Secret of the domain",
            world
                .manifest(&ANNA_OLD, &ANNA_NEW)
                .secret("other", &ANNA_OLD)
                .text()
                .replace("credentialsRef: {name: old.test}", "credentialsRef: {name: other}"),
        ),
        ("a row in place of a user", world.manifest(&ANNA_OLD, &[("mailboxes.csv", &by_row)]).text()),
    ];
    for (what, other) in others {
        assert_ne!(other, approved_as, "{what}");
        let ferry = Ferry::new(&approved_as);
        let approved = approve(&ferry, &approved_as);
        let approval = approved.lines().last().unwrap();
        ferry.write(&format!("{other}{approval}\n"));
        let ended = ferry.run(&[]);
        ended.expect_code(23);
        assert!(ended.stderr.contains("is not the approved one; since then"), "{what}: {}", ended.stderr);
        let is_named = ended.stderr.contains("boss@") || ended.stderr.contains("is other");
        assert!(is_named, "{what}: the line that differs is named: {}", ended.stderr);
        assert!(
            ended.stdout.contains("Not approved. The current plan is not the approved one, and nothing is"),
            "{what}: {}",
            ended.stdout
        );
        assert_eq!(world.arrived(), 0, "{what}: nothing is written");
        let compared = ferry.call("plan", &["--diff"]);
        assert!(
            compared.stdout.contains("boss@") || compared.stdout.contains("+ other"),
            "{what}: {}",
            compared.stdout
        );
    }
    // A corrected password is nobody else.
    let ferry = Ferry::new(&approved_as);
    let wrong = approved_as.replace("\"anna-new\"", "\"mistyped\"");
    ferry.write(&wrong);
    ferry.run(&["--stage", "Plan"]).expect_code(21);
    let digest = ferry.status()["status"]["plan"]["digest"].as_str().unwrap().to_owned();
    let approved = format!("{wrong}  approvedPlan: \"{digest}\"\n");
    ferry.write(&approved.replace("\"mistyped\"", "\"anna-new\""));
    ferry.run(&[]).expect_code(0);
    assert_eq!(world.arrived(), 6);
}

/// The mailbox of anna, whose servers' authorities stand in ConfigMaps.
fn with_authorities(world: &World, source: &str, destination: &str) -> String {
    let believed = "caRef: {kind: ConfigMap, name: ca-new}";
    let at = format!("host: {}, port: {}, tls: None", world.new.imap().ip(), world.new.imap().port());
    Manifest::default()
        .destination(&format!("{{{at}, credentialsRef: {{name: new}}, {believed}}}"))
        .secret("new", &ANNA_NEW)
        .secret("old.test", &ANNA_OLD)
        .authority("ca-old", source)
        .authority("ca-new", destination)
        .domain(
            "old.test",
            &["anna"],
            &format!("{}\ncaRef: {{kind: ConfigMap, name: ca-old}}", server("IMAP", world.old.imap())),
        )
        .text()
}

#[test]
fn whose_word_is_taken_for_a_server_is_part_of_what_was_approved() {
    let world = World::start();
    let (ours, theirs) = (Ca::new(), Ca::new());
    let manifest = with_authorities(&world, ours.pem(), ours.pem());
    let ferry = Ferry::new(&manifest);
    let approved = approve(&ferry, &manifest);
    let approval = approved.lines().last().unwrap();
    let both = format!("{}{}", theirs.pem(), ours.pem());
    for (place, other) in [
        ("spec.destination", with_authorities(&world, ours.pem(), theirs.pem())),
        ("spec.destination", with_authorities(&world, ours.pem(), &both)),
        ("old.test", with_authorities(&world, theirs.pem(), ours.pem())),
    ] {
        ferry.write(&format!("{other}{approval}\n"));
        let ended = ferry.run(&[]);
        ended.expect_code(23);
        assert!(ended.stderr.contains("is not the approved one; since then"), "{place}: {}", ended.stderr);
        assert!(
            ended.stderr.contains(&format!("{place}: authorities: was sha256:")),
            "{place}: {}",
            ended.stderr
        );
        assert_eq!(world.arrived(), 0, "{place}: nothing is written");
        let compared = ferry.call("plan", &["--diff"]).stdout;
        let line = format!("@@ {place}: authorities\n- sha256:");
        assert!(compared.contains(&line) && compared.matches("@@").count() == 1, "{place}: {compared}");
    }
    // The same certificates in another order, or given twice, are the same authorities.
    let twice = format!("{}{}", ours.pem(), ours.pem());
    ferry.write(&format!("{}{approval}\n", with_authorities(&world, &twice, ours.pem())));
    ferry.run(&["--ca", ours.path().to_str().unwrap()]).expect_code(0);
    assert_eq!(world.arrived(), 6);
    // And what was carried is looked at with no others.
    let ended = ferry.call("verify", &["--ca", theirs.path().to_str().unwrap()]);
    ended.expect_code(23);
    assert!(ended.stderr.contains("the authorities that are believed"), "{}", ended.stderr);
    // Most often it was forgotten: looking again without it would make a plan that believes nobody.
    assert!(ended.stderr.contains("give the same as before: --ca FILE, or caRef"), "{}", ended.stderr);
}

#[test]
fn a_plan_says_the_names_that_are_really_sent_and_no_secret() {
    let world = World::start();
    let master = [("masterUser", "admin"), ("masterPassword", "admin-secret"), ("masterSeparator", "*")];
    let ferry = Ferry::new(&world.manifest(&ANNA_OLD, &master).text());
    ferry.run(&["--stage", "Plan"]);
    let told = ferry.call("plan", &[]);
    let line = "as anna@old.test to anna@new.test as anna@new.test*admin\n";
    assert!(told.stdout.contains(line), "{}", told.stdout);
    assert!(!told.stdout.contains("admin-secret") && !told.stdout.contains("anna-old"), "{}", told.stdout);
    let json = ferry.call("plan", &["--output", "json"]).json();
    let mailbox = &json["plan"]["domains"]["old.test"]["mailboxes"]["anna@old.test"];
    assert_eq!(mailbox["login"], "anna@old.test");
    assert_eq!(mailbox["destinationLogin"], "anna@new.test*admin");
}

#[test]
fn repairing_writes_nothing_where_the_manifest_lets_nothing_be_written() {
    let world = World::start();
    let manifest = world.manifest(&ANNA_OLD, &ANNA_NEW).text();
    let ferry = Ferry::new(&manifest);
    ferry.run(&[]).expect_code(0);
    assert_eq!(world.arrived(), 6);
    let mut mailbox = world.new.mailbox("anna@new.test");
    for command in ["SELECT INBOX", "STORE 1:* +FLAGS (\\Deleted)", "EXPUNGE"] {
        mailbox.command(command).unwrap();
    }
    let left = world.arrived();
    assert!(left < 6, "some are gone");
    for (is, becomes, field) in [
        ("  stage: Sync\n", "  stage: Plan\n", "spec.stage"),
        ("  stage: Sync\n", "  stage: Sync\n  suspend: true\n", "spec.suspend"),
        // It is not the current plan; missing messages are found, and stay missing.
        (
            "  stage: Sync\n",
            &format!("  stage: Sync\n  approvedPlan: sha256:{}\n", "0".repeat(64)),
            "approved",
        ),
    ] {
        ferry.write(&manifest.replace(is, becomes));
        let ended = ferry.call("verify", &["--repair"]);
        ended.expect_code(23);
        assert!(ended.stderr.contains(field), "{field}: {}", ended.stderr);
        assert_eq!(world.arrived(), left, "{field}: nothing is written");
        let messages = ferry.status()["status"]["messages"].clone();
        assert_eq!(
            (&messages["copied"], &messages["pending"]),
            (&json!(6), &json!(0)),
            "{field}: {messages}"
        );
    }
    ferry.write(&manifest);
    ferry.call("verify", &["--repair"]).expect_code(0);
    assert_eq!(world.arrived(), 6);
}

#[test]
fn a_verification_reads_nothing_by_another_name_than_the_plan_says() {
    let world = World::start();
    let manifest = world.manifest(&ANNA_OLD, &ANNA_NEW).text();
    let ferry = Ferry::new(&manifest);
    ferry.run(&[]).expect_code(0);
    let messages = |ferry: &Ferry| ferry.status()["status"]["messages"].clone();
    let before = messages(&ferry);
    for (whose, becomes) in [
        ("\"anna@new.test\"\n  password: \"anna-new\"", "\"boss@new.test\"\n  password: \"boss-new\""),
        ("\"anna@old.test\"\n  password: \"anna-old\"", "\"boss@old.test\"\n  password: \"boss-old\""),
    ] {
        let other = manifest.replace(whose, becomes);
        assert_ne!(other, manifest);
        ferry.write(&other);
        let ended = ferry.call("verify", &["--depth", "Full"]);
        ended.expect_code(23);
        assert!(ended.stderr.contains("and the plan says"), "{}", ended.stderr);
        ferry.write(&manifest);
        assert_eq!(messages(&ferry), before, "what is in another mailbox says nothing of this one");
    }
    ferry.call("verify", &["--depth", "Full"]).expect_code(0);
}

/// The tools of a pod: with Secrets that Kubernetes mounts, which change at any time.
fn pod(directory: &Path, manifest: &str) -> Tools {
    let migration = manifest::read(&[("m.yaml", manifest.to_owned())]).unwrap().migrations.remove(0);
    let network = Network::new(None, vec!["127.0.0.0/8".parse().unwrap()], 8).unwrap();
    let (network, store) = (
        Arc::new(network),
        Arc::new(SqliteStore::new(directory.join("mailboxes"), directory.join("logins.sqlite"))),
    );
    Tools {
        first_domain: 0,
        siblings: Siblings::default(),
        secrets: Arc::new(Secrets::mounted(directory, directory, directory)),
        authority: "".into(),
        trusts: Arc::default(),
        tokens: Arc::new(Tokens::new(Arc::clone(&network), Arc::new(SystemClock), None)),
        guard: Arc::new(DurableGuard::new(store.clone())),
        turnstile: Arc::default(),
        network,
        pace: Arc::new(Pace::new(None)),
        store,
        migration: Arc::new(migration),
    }
}

fn mount(directory: &Path, secret: &str, values: &[(&str, &str)]) {
    fs::create_dir_all(directory.join(secret)).unwrap();
    for (key, value) in values {
        fs::write(directory.join(secret).join(key), value).unwrap();
    }
}

#[tokio::test]
async fn a_pod_writes_nothing_by_another_name_than_the_plan_says() {
    let world = World::start();
    let directory = tempfile::tempdir().unwrap();
    mount(directory.path(), "old.test", &ANNA_OLD);
    mount(directory.path(), "new", &ANNA_NEW);
    let tools = pod(directory.path(), &world.manifest(&ANNA_OLD, &ANNA_NEW).text());
    let names = |source: &str, destination: &str| {
        Some(LoginNames { source: Some(source.to_owned()), destination: Some(destination.to_owned()) })
    };
    let planned = PlannedMailbox {
        logins: names("anna@old.test", "anna@new.test"),
        authorities: None,
        ..tools.list_mailboxes(0).unwrap().remove(0)
    };
    let at = world.old.imap();
    let endpoint = Endpoint::new(Protocol::Imap, &at.ip().to_string(), at.port(), Tls::None);
    let carry = async || {
        let (before, progress) = (MailboxRecord::default(), MailboxProgress::default());
        tools.sync(0, &planned, &endpoint, 1, before, &progress).await.0
    };
    for (secret, name, password) in
        [("new", "boss@new.test", "boss-new"), ("old.test", "boss@old.test", "boss-old")]
    {
        mount(directory.path(), secret, &[("username", name), ("password", password)]);
        let failure = carry().await.failure.unwrap();
        assert!(failure.is(FailureCode::LoginChanged), "{secret}: {failure}");
        assert!(
            failure.to_string().contains(&format!("Secret \"{secret}\" logs in as {name} now")),
            "{failure}"
        );
        assert_eq!(world.arrived(), 0, "{secret}: nothing is written");
        mount(directory.path(), "old.test", &ANNA_OLD);
        mount(directory.path(), "new", &ANNA_NEW);
    }
    let record = carry().await;
    assert_eq!((record.failure, world.arrived()), (None, 6));
}

#[tokio::test]
async fn a_pod_believes_no_other_authorities_than_the_plan_says() {
    let world = World::start();
    let directory = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Ca::new(), Ca::new());
    mount(directory.path(), "old.test", &ANNA_OLD);
    mount(directory.path(), "new", &ANNA_NEW);
    mount(directory.path(), "ca-old", &[("ca.crt", ours.pem())]);
    mount(directory.path(), "ca-new", &[("ca.crt", ours.pem())]);
    let tools = pod(directory.path(), &with_authorities(&world, ours.pem(), ours.pem()));
    let at = world.old.imap();
    let endpoint = Endpoint::new(Protocol::Imap, &at.ip().to_string(), at.port(), Tls::None);
    let digest = tools.trusts.with_authorities(&[ours.pem().to_owned()]).unwrap().digest().map(str::to_owned);
    let planned = PlannedMailbox {
        authorities: Some(Authorities { source: digest.clone(), destination: digest }),
        ..tools.list_mailboxes(0).unwrap().remove(0)
    };
    let carry = async || {
        let (before, progress) = (MailboxRecord::default(), MailboxProgress::default());
        tools.sync(0, &planned, &endpoint, 1, before, &progress).await.0
    };
    for name in ["ca-old", "ca-new"] {
        mount(directory.path(), name, &[("ca.crt", theirs.pem())]);
        let failure = carry().await.failure.unwrap();
        assert!(failure.is(FailureCode::AuthoritiesChanged), "{name}: {failure}");
        assert_eq!(world.arrived(), 0, "{name}: nothing is written");
        mount(directory.path(), name, &[("ca.crt", ours.pem())]);
    }
    let record = carry().await;
    assert_eq!((record.failure, world.arrived()), (None, 6));
}

#[test]
fn a_server_that_a_refused_look_found_proves_nothing_of_the_one_that_was_carried() {
    let world = World::start();
    let manifest = world.manifest(&ANNA_OLD, &ANNA_NEW).text();
    let ferry = Ferry::new(&manifest);
    let approved = approve(&ferry, &manifest);
    ferry.write(&approved);
    ferry.run(&[]).expect_code(0);
    // Another server that lets anna in, with other mail under the same numbers.
    let other = Dovecot::builder().imap(LOOPBACK).user(User::new("anna@old.test", "anna-old")).start();
    other.mailbox("anna@old.test").seed(Corpus::new(99).ordinary_only().messages(6));
    let (here, there) = (world.old.imap().port().to_string(), other.imap().port().to_string());
    let moved = approved.replace(&format!("port: {here}"), &format!("port: {there}"));
    assert_ne!(moved, approved);
    ferry.write(&moved);
    let planned = ferry.call("plan", &[]);
    planned.expect_code(0);
    assert!(
        planned.stdout.contains("not to be approved yet") && !planned.stdout.contains("  approved\n"),
        "{}",
        planned.stdout
    );
    ferry.run(&[]).expect_code(23);
    let before = ferry.status()["status"]["messages"].clone();
    for args in [&["--depth", "Full"][..], &["--depth", "Full", "--repair"]] {
        let verified = ferry.call("verify", args);
        assert_eq!(verified.code, 23, "{}{}", verified.stdout, verified.stderr);
    }
    ferry.write(&approved);
    let verified = ferry.call("verify", &["--depth", "Full"]);
    assert_eq!(verified.code, 23, "what the refused look found is not asked: {}", verified.stderr);
    assert!(verified.stderr.contains("nothing can be proved of the one by the other"), "{}", verified.stderr);
    assert_eq!(ferry.status()["status"]["messages"], before, "nothing of it is in the books");
    ferry.run(&[]).expect_code(0);
    ferry.call("verify", &["--depth", "Full"]).expect_code(0);
}
