//! Views of a migration in a cluster.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use mailferry::api::MailboxMigrationStatus;
use mailferry::cluster::results::MailboxDocument;
use mailferry::model::progress::MessageCounts;
use mailferry::model::record::MailboxRecord;
use regex::Regex;
use serde_json::{Value, json};

use crate::reading::world::{DELIVERED, EXCLUDED, NAME, World, look, names};
use crate::support::cluster::Namespace;

/// A report without the moment at which it was made.
fn timeless(report: &str) -> String {
    let moment = Regex::new(
        r#""generated": "[^"]+"|Made by Mailferry .*|Made on [^<]+|<dt>Date</dt><dd>[^<]+|Made by [^<]+|<footer>[^<]+"#,
    );
    let moment = moment.unwrap();
    assert!(moment.is_match(report) || !report.contains("<html"), "a page says when it was made");
    moment.replace_all(report, "").into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_shows_what_the_laptop_shows() {
    let world = World::new().await;
    for kind in ["migration", "discovery"] {
        for format in ["json", "csv", "html"] {
            let args = ["--kind", kind, "--format", format];
            let there = world.look("report", &args);
            let here = world.ferry.call("report", &args);
            assert_eq!(there.expect_code(0).stderr, "", "{kind} {format}");
            assert_eq!(timeless(&there.stdout), timeless(&here.expect_code(0).stdout), "{kind} {format}");
        }
    }
    let document = world.look("report", &["--format", "json"]).json();
    assert_eq!(document["mailboxes"].as_array().unwrap().len(), 2);
    assert_eq!(document["totals"]["messages"]["copied"], DELIVERED);
    assert_eq!(document["exceptions"]["excluded"]["total"], EXCLUDED);

    let path = world.ferry.path("there.xlsx");
    world.look("report", &["-o", &path.display().to_string()]).expect_code(0);
    let mut book = zip::ZipArchive::new(Cursor::new(fs::read(&path).unwrap())).unwrap();
    assert!(book.by_name("xl/worksheets/sheet3.xml").is_ok());

    status_is_that_of_the_cluster(&world);
    messages_are_those_that_have_a_name(&world);
    planning_is_the_same(&world);
    what_happened_since_is_seen(&world).await;
}

fn status_is_that_of_the_cluster(world: &World) {
    let shown = world.look("status", &["--output", "json"]).expect_code(0).json();
    // kubectl hides the managed fields as well.
    assert_eq!(shown["status"], world.space.json(&["get", "mm", NAME])["status"]);
    assert_eq!(shown["metadata"]["managedFields"], Value::Null);
    assert_eq!((&shown["kind"], &shown["status"]["phase"]), (&json!("MailMigration"), &json!("Verified")));
    let yaml = world.look("status", &["-o", "yaml"]);
    assert!(yaml.expect_code(0).stdout.contains("\n  phase: Verified\n"), "{}", yaml.stdout);
    let text = world.look("status", &[]);
    for part in [
        "move  Verified  stage Sync",
        "43 at the source = 40 copied + 3 excluded",
        "a.test",
        "PopMailboxesPresent",
    ] {
        assert!(text.expect_code(0).stdout.contains(part), "{part}: {}", text.stdout);
    }
}

fn messages_are_those_that_have_a_name(world: &World) {
    let all = world.look("report", &["--kind", "messages", "--format", "json"]);
    assert_eq!(all.expect_code(0).stdout.lines().count(), EXCLUDED, "{}", all.stdout);
    let said = format!("note: {DELIVERED} of {} messages are not listed: ", DELIVERED + EXCLUDED);
    assert!(all.stderr.starts_with(&said) && all.stderr.contains("docs/ledger.md"), "{}", all.stderr);
    let page = world.look("report", &["--kind", "messages", "--format", "html"]);
    assert!(page.stdout.contains(&said["note: ".len()..]), "a page that is handed on says so too");

    for format in ["json", "csv", "html"] {
        let args = ["--kind", "messages", "--verdict", "Excluded", "--format", format];
        let (there, here) = (world.look("report", &args), world.ferry.call("report", &args));
        assert_eq!(there.expect_code(0).stderr, "", "nothing is left out of what was asked for");
        assert_eq!(timeless(&there.stdout), timeless(&here.expect_code(0).stdout), "{format}");
    }
    for verdict in ["Delivered", "pending"] {
        let args = ["--kind", "messages", "--verdict", verdict, "--format", "csv"];
        let (error, hint) = world.look("report", &args).expect_code(23).error();
        assert!(error.starts_with("a cluster does not name the "), "{error}");
        assert!(hint.contains("docs/ledger.md"), "{hint}");
    }
}

fn planning_is_the_same(world: &World) {
    for (command, args) in [
        ("checklist", &["-o", "markdown"][..]),
        ("checklist", &["-o", "yaml"]),
        ("checklist", &["-o", "json"]),
        ("report", &["--kind", "sow", "--format", "html"]),
        ("report", &["--kind", "sow", "--format", "md"]),
        ("report", &["--kind", "sow", "--format", "json"]),
    ] {
        let (there, here) = (world.look(command, args), world.ferry.call(command, args));
        let (there, here) = (&there.expect_code(0).stdout, &here.expect_code(0).stdout);
        assert_eq!(timeless(there), timeless(here), "{command} {args:?}");
    }
    let plan = |shown: Value| (shown["digest"].clone(), shown["plan"].clone());
    let there = world.look("plan", &["-o", "json"]).expect_code(0).json();
    assert_eq!(there["digest"], world.space.json(&["get", "mm", NAME])["status"]["plan"]["digest"]);
    assert_eq!(plan(there), plan(world.ferry.call("plan", &["-o", "json"]).expect_code(0).json()));
    let compared = world.look("plan", &["--diff"]);
    assert!(compared.expect_code(0).stdout.contains("no other plan"), "{}", compared.stdout);

    let (there, here) = (world.ferry.path("there.tar.gz"), world.ferry.path("here.tar.gz"));
    world.look("support-bundle", &["--out", &there.display().to_string()]).expect_code(0);
    world.ferry.call("support-bundle", &["--out", &here.display().to_string()]).expect_code(0);
    let (there, here) = (unpack(&there), unpack(&here));
    assert_eq!(there.keys().collect::<Vec<_>>(), here.keys().collect::<Vec<_>>());
    for name in ["plan.json", "checklist.json", "discovery/a.test.json", "mailboxes.json"] {
        assert_eq!(there[name], here[name], "{name}");
    }
    assert!(there.values().all(|content| !content.contains("secret\"")), "no password is in it");
}

/// The files of a support bundle, by their names.
fn unpack(path: &Path) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(fs::File::open(path).unwrap()));
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().components().skip(1).collect::<PathBuf>().display().to_string();
        let mut content = String::new();
        entry.read_to_string(&mut content).unwrap();
        files.insert(name, content);
    }
    files
}

/// A second pass goes on: one mailbox is under way, of the other more was found than a ConfigMap has room for.
async fn what_happened_since_is_seen(world: &World) {
    world.space.kubectl(&[
        "patch",
        "mm",
        NAME,
        "--subresource=status",
        "--type=merge",
        "-p",
        r#"{"status":{"phase":"Syncing","pass":{"number":2,"inputs":"x"}}}"#,
    ]);
    let before = world.record("bob@b.test");
    let (bob, _) = names("bob@b.test");
    let counts = MessageCounts { source: 30, copied: 24, pending: 6, ..MessageCounts::default() };
    let going = MailboxRecord { pass: 2, attempts: 1, ended: None, counts, ..before.clone() };
    let mut told = serde_json::to_value(MailboxMigrationStatus::told_by_worker(&going)).unwrap();
    told["phase"] = json!("Syncing");
    told["lastPass"]["finished"] = Value::Null;
    world.tell(&bob, &told).await;

    let (anna, group) = names("anna@a.test");
    let mut record = MailboxRecord { pass: 2, attempts: 1, ..world.record("anna@a.test") };
    record.counts.excluded += 600;
    record.counts.source += 600;
    world
        .write(
            &anna,
            &group,
            &MailboxDocument { record, destination_tls: None, named: Vec::new(), omitted: 603 },
        )
        .await;

    let report = world.look("report", &["--format", "json"]).expect_code(0).json();
    assert_eq!(report["phase"], "Syncing");
    let rows = report["mailboxes"].as_array().unwrap();
    let (anna, bob) = (&rows[0], &rows[1]);
    assert_eq!(
        (&bob["phase"], &bob["passes"], &bob["lastEnded"]),
        (&json!("Syncing"), &json!(2), &Value::Null)
    );
    assert_eq!((&bob["messages"]["source"], &bob["messages"]["pending"]), (&json!(30), &json!(6)));
    assert_eq!(anna["passes"], 2, "a result is newer than the status that was read before it");
    let excluded = &report["exceptions"]["excluded"];
    assert_eq!((&excluded["total"], &excluded["named"]), (&json!(603), &json!([])));
    let page = world.look("report", &["--format", "html"]);
    assert!(page.expect_code(0).stdout.contains("<strong>And 603 more.</strong> The ledger names them all"));
    let list = world.look("report", &["--kind", "messages", "--verdict", "excluded", "--format", "csv"]);
    assert!(
        list.expect_code(0).stderr.starts_with("note: 603 of 603 messages are not listed"),
        "{}",
        list.stderr
    );

    // One mailbox's result is damaged: it is said, and the others are shown.
    let (name, group) = names("bob@b.test");
    let damage = format!(r#"{{"binaryData":{{"{name}":"AAAA"}}}}"#);
    world.space.kubectl(&["patch", "configmap", &group, "--type=merge", "-p", &damage]);
    let report = world.look("report", &["--format", "json"]);
    let note = &report.expect_code(0).stderr;
    assert!(note.starts_with("note: The result of a worker about a mailbox cannot be read: "), "{note}");
    assert!(note.contains(&format!("key {name}")) && !note.contains("more."), "{note}");
    assert_eq!(report.json()["mailboxes"].as_array().unwrap().len(), 2);
    let mended = MailboxDocument { record: before, destination_tls: None, named: Vec::new(), omitted: 0 };
    world.write(&name, &group, &mended).await;

    // Discovery of a domain begins anew: its first part is there, and no more.
    let parts = mailferry::cluster::objects::discovery_results(NAME, "b.test", 1);
    world.space.kubectl(&[
        "patch",
        "configmap",
        &parts[0],
        "--type=json",
        "-p",
        r#"[{"op":"remove","path":"/binaryData"}]"#,
    ]);
    let report = world.look("report", &["--format", "json"]);
    let note = "Discovery has not written yet what it saw of b.test: it is not in this report.";
    assert_eq!(report.expect_code(0).stderr, format!("note: {note}\n"));
    assert_eq!(report.json()["limits"], json!([note]));
    assert_eq!(report.json()["mailboxes"].as_array().unwrap().len(), 1);
}

/// The shortest migration.
const FRESH: &str = "
apiVersion: mailferry.dev/v1alpha1
kind: MailMigration
metadata: {name: fresh}
spec:
  destination: {imap: {host: new.test, credentialsRef: {name: new}}}
  domains:
  - {name: a.test, credentialsRef: {name: old}, mailboxes: {discover: {}}}
";

#[test]
fn a_migration_that_nobody_looked_at_yet_is_pending_and_has_no_report() {
    let space = Namespace::new();
    space.cluster().apply_crds();
    space.apply(FRESH);
    let status = look(&space, "status", "fresh", &[]);
    assert_eq!(status.expect_code(0).stdout, "fresh  Pending  stage Plan\n");
    let (error, hint) = look(&space, "report", "fresh", &["--format", "json"]).expect_code(23).error();
    assert_eq!(error, "fresh: discovery has written nothing yet  [Configuration, exit 23]");
    assert!(
        hint.contains(&format!("kubectl wait mm/fresh -n {} --for=condition=Discovered", space.name())),
        "{hint}"
    );
}
