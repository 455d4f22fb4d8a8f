//! The output of `kubectl` for a migration while it goes on and when it is through, and the conditions that
//! can be waited for.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::operator::installed::Installed;
use crate::operator::story::manifest_in;
use crate::support::cluster::Cluster;
use crate::support::mixed::{Mixed, NAMES};

/// The output of a command of ours for the migration in the cluster.
fn ours(installed: &Installed, command: &str, args: &[&str]) -> Value {
    let mut ours = Command::new(env!("CARGO_BIN_EXE_mailferry"));
    ours.args([command, "-n", installed.space.name(), "demo"]).args(args).stdin(Stdio::null());
    let output = ours.env("KUBECONFIG", installed.space.cluster().kubeconfig()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The cells of a line that `kubectl get` prints. Columns are parted by three spaces.
fn cells(line: &str) -> Vec<&str> {
    line.split("   ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
}

#[test]
fn a_migration_can_be_watched_and_waited_for() {
    let world = Mixed::start(Cluster::get().host(), 100);
    let installed = Installed::new(Some(world.dns.addr()), &[]);
    let space = &installed.space;
    let slow = manifest_in(&world, space.name())
        .replace("  policy:\n", "  policy:\n    limits: {bytesPerSecond: 45000}\n");
    space.apply(&slow);
    let wait = |condition: &str| {
        space.kubectl(&["wait", "mm/demo", &format!("--for=condition={condition}"), "--timeout=120s"]);
    };
    wait("Discovered");
    let under_way = installed.migration("demo");
    assert_eq!(under_way["status"]["phase"], "Syncing", "{}", under_way["status"]);
    let ready = crate::operator::installed::condition_of(&under_way, "Ready").unwrap();
    assert_eq!((&ready["status"], &ready["reason"]), (&"False".into(), &"InProgress".into()));
    for condition in ["Synced", "Verified", "Ready"] {
        wait(condition);
    }
    world.assert_moved();

    let shown = space.kubectl(&["get", "mm"]);
    let lines: Vec<&str> = shown.lines().collect();
    let head = ["NAME", "STAGE", "PHASE", "MAILBOXES", "SYNCED", "FINDINGS", "READY", "AGE"];
    assert_eq!(cells(lines[0]), head);
    let row = cells(lines[1]);
    println!("{shown}");
    assert!(lines.iter().all(|line| line.len() <= 80), "a usual terminal: {shown}");
    assert_eq!(row[..5], ["demo", "Sync", "Verified", "6", "100%"], "{shown}");
    assert!(row[5].contains("critical"), "mailboxes that speak POP3 only: {shown}");
    assert_eq!(row[6], "True", "{shown}");
    let wide = space.kubectl(&["get", "mm", "-o", "wide"]);
    assert!(wide.contains("DOMAINS") && wide.contains("MIXED") && wide.contains("true"), "{wide}");

    let shown = space.kubectl(&["get", "mbm", "--sort-by=.spec.source"]);
    println!("{shown}");
    let lines: Vec<&str> = shown.lines().collect();
    let head = ["NAME", "SOURCE", "PHASE", "MESSAGES", "FAILED", "AGE"];
    assert_eq!(cells(lines[0]), head);
    assert!(lines.iter().all(|line| line.len() <= 80), "a usual terminal: {shown}");
    assert_eq!(lines.len(), 1 + NAMES.len());
    let row = cells(lines.iter().find(|line| line.contains("alice@a.test")).unwrap());
    assert!(row[0].starts_with("demo-alice-"), "{row:?}");
    assert_eq!(row[1..5], ["alice@a.test", "Verified", "30", "0"]);
    let row = cells(lines.iter().find(|line| line.contains("chris@c.test")).unwrap());
    assert_eq!(row[1..5], ["chris@c.test", "Verified", "10", "0"]);
    let wide = space.kubectl(&["get", "mbm", "-o", "wide"]);
    assert!(wide.contains("PROTOCOL") && wide.contains("POP3") && wide.contains("LAST PASS"), "{wide}");

    let done = installed.migration("demo");
    let generation = &done["metadata"]["generation"];
    assert_eq!(&done["status"]["observedGeneration"], generation);
    for condition in done["status"]["conditions"].as_array().unwrap() {
        assert_eq!(&condition["observedGeneration"], generation, "{condition}");
        assert!(condition["message"].as_str().unwrap().ends_with('.'), "a sentence: {condition}");
    }
    let told = space.kubectl(&["describe", "mm", "demo"]);
    println!("{told}");
    for word in ["a.test", "imap.a.test", "PopMailboxesPresent", "Events:"] {
        assert!(told.contains(word), "{word}: {told}");
    }

    let report = ours(&installed, "report", &["--format", "json"]);
    assert_eq!(report["totals"]["messages"], done["status"]["messages"]);
    assert_eq!(
        (&report["phase"], &report["totals"]["messages"]["copied"]),
        (&"Verified".into(), &100.into())
    );
    let rows = report["mailboxes"].as_array().unwrap();
    assert_eq!(rows.len(), NAMES.len());
    assert!(
        rows.iter().all(|row| row["phase"] == "Verified" && row["messages"]["pending"] == 0),
        "{rows:#?}"
    );
    assert_eq!(ours(&installed, "status", &["--output", "json"])["status"], done["status"]);

    // An Event for each thing that changed, and none for mere progress.
    let events = space.json(&["get", "events.events.k8s.io"]);
    let of_demo: Vec<(String, u64)> = events["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["regarding"]["kind"] == "MailMigration")
        .map(|event| {
            let field = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
            let count = event["series"]["count"].as_u64().unwrap_or(1);
            (format!("{} {}: {}", field("action"), field("reason"), field("note")), count)
        })
        .collect();
    println!("{of_demo:#?}");
    assert!((3..=10).contains(&of_demo.len()), "{of_demo:#?}");
    assert!(of_demo.iter().all(|(_, count)| *count == 1), "{of_demo:#?}");
}
