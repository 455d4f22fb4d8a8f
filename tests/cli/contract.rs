//! The manifests of the contract do what their comments say, as a new user would run them. Only hosts, ports, passwords
//! and the authority are filled in.

use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::process::Command;

use serde_json::Value;

use crate::ferry::{Ferry, assert_equation, figure, files};
use crate::support::compare::differences;
use crate::support::corpus::{Corpus, EMPTY_FOLDER};
use crate::support::dovecot::{Dovecot, LOOPBACK, User};
use crate::support::mixed::Mixed;

const SINGLE: &str = include_str!("../manifests/single.yaml");

/// Everything that the README of the contract promises of a row.
const MESSAGE_FIELDS: [&str; 10] = [
    "mailbox",
    "source",
    "messageId",
    "exact",
    "size",
    "internalDate",
    "flags",
    "destination",
    "verdict",
    "reason",
];

fn fill(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "one place for {from}");
    text.replace(from, to)
}

/// Stops the test unless the status has the shape that other tools rely on.
fn assert_status_shape(object: &Value, domains: usize) {
    assert_eq!(object["apiVersion"], "mailferry.dev/v1alpha1");
    assert_eq!(object["kind"], "MailMigration");
    let status = &object["status"];
    assert!(status["phase"].is_string(), "{status}");
    let conditions = status["conditions"].as_array().unwrap();
    for wanted in ["Ready", "Discovered", "Synced", "Verified"] {
        let found = conditions.iter().find(|c| c["type"] == wanted);
        assert!(
            found.is_some_and(|c| c["status"].is_string() && c["message"].is_string()),
            "{wanted}: {status}"
        );
    }
    assert_eq!(status["domains"].as_array().unwrap().len(), domains);
    for domain in status["domains"].as_array().unwrap() {
        assert!(domain["name"].is_string() && domain["protocol"].is_string(), "{domain}");
        assert!(domain["protocols"].is_object() && domain["mixed"].is_boolean(), "{domain}");
        assert!(domain["candidates"].is_array() && domain["findings"].is_array(), "{domain}");
    }
    assert!(status["counts"]["mailboxes"].is_u64(), "{status}");
    assert_equation(object);
}

#[track_caller]
fn assert_condition(object: &Value, name: &str, wanted: &str) {
    let conditions = object["status"]["conditions"].as_array().unwrap();
    let found = conditions.iter().find(|c| c["type"] == name).unwrap_or_else(|| panic!("no {name}"));
    assert_eq!(found["status"], wanted, "{found}");
}

fn assert_row_shape(row: &Value) {
    let object = row.as_object().unwrap();
    for field in MESSAGE_FIELDS {
        assert!(object.contains_key(field), "no {field} in {row}");
    }
    let source = &row["source"];
    match source["protocol"].as_str().unwrap() {
        "IMAP" => {
            assert!(source["folder"].is_string(), "{row}");
            assert!(source["uidvalidity"].is_u64() && source["uid"].is_u64(), "{row}");
        }
        "POP3" => assert!(source["uidl"].is_string(), "{row}"),
        other => panic!("{other}"),
    }
    let destination = &row["destination"];
    assert!(destination["folder"].is_string(), "{row}");
    assert!(destination["uidvalidity"].is_u64() && destination["uid"].is_u64(), "{row}");
    assert!(row["flags"].is_array() && row["size"].is_u64(), "{row}");
    assert_eq!(row["exact"].as_str().unwrap().len(), 64, "{row}");
}

/// Writes the report in every format about everything, and reads each back.
fn assert_reports(ferry: &Ferry, mailbox: &str) {
    for kind in ["migration", "messages", "discovery"] {
        for format in ["html", "xlsx", "csv", "json"] {
            let path = ferry.path(&format!("{kind}.{format}"));
            let out = path.display().to_string();
            ferry.call("report", &["--kind", kind, "--format", format, "--out", &out]).expect_code(0);
            let bytes = fs::read(&path).unwrap();
            let what = format!("{kind} as {format}");
            match format {
                "html" => {
                    let text = String::from_utf8(bytes).unwrap();
                    assert!(text.to_ascii_lowercase().starts_with("<!doctype html>"), "{what}");
                    assert!(text.trim_end().ends_with("</html>"), "{what}");
                    // Long addresses may break after the @.
                    assert!(text.replace("<wbr>", "").contains(mailbox), "{what}");
                    assert!(!text.contains("src=\"http") && !text.contains("href=\"http"), "{what}");
                }
                "xlsx" => {
                    let mut book = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
                    assert!(book.by_name("xl/worksheets/sheet1.xml").is_ok(), "{what}");
                }
                "csv" => {
                    let mut reader = csv::ReaderBuilder::new().flexible(false).from_reader(&bytes[..]);
                    assert!(reader.headers().unwrap().len() > 3, "{what}");
                    assert!(
                        reader.records().collect::<Result<Vec<_>, _>>().is_ok_and(|rows| !rows.is_empty()),
                        "{what}"
                    );
                }
                _ if kind == "messages" => {
                    let text = String::from_utf8(bytes).unwrap();
                    assert!(text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{what}");
                }
                _ => assert!(serde_json::from_slice::<Value>(&bytes).is_ok(), "{what}"),
            }
        }
    }
}

#[test]
fn the_shortest_manifest_moves_one_mailbox() {
    let old = Dovecot::builder().imap(LOOPBACK).user(User::new("alice", "secret")).start();
    let new = Dovecot::builder().imap(LOOPBACK).user(User::new("alice", "secret")).start();
    let mut mailbox = old.mailbox("alice");
    mailbox.seed(Corpus::new(31).with_quoted_folder().messages(300));
    mailbox.create_and_subscribe(EMPTY_FOLDER);
    drop(mailbox);
    let text = fill(SINGLE, "port: 11143", &format!("port: {}", old.imap().port()));
    let ferry = Ferry::new(&fill(&text, "port: 12143", &format!("port: {}", new.imap().port())));

    let before = new.mailbox("alice").read_all();
    let planned = ferry.run(&["--stage", "Plan"]);
    planned.expect_code(0);
    assert_eq!(new.mailbox("alice").read_all(), before, "Plan writes nothing at the destination");
    let status = ferry.status();
    assert_status_shape(&status, 1);
    assert_condition(&status, "Discovered", "True");
    assert_eq!((figure(&status, "source"), figure(&status, "pending")), (300, 300));

    let ended = ferry.run(&["--progress", "none", "--output", "json"]);
    ended.expect_code(0);
    assert_eq!(ended.json()["status"], ferry.status()["status"], "the run prints the status that it leaves");
    let status = ferry.status();
    assert_status_shape(&status, 1);
    for condition in ["Ready", "Discovered", "Synced", "Verified"] {
        assert_condition(&status, condition, "True");
    }
    assert_eq!((figure(&status, "source"), figure(&status, "copied")), (300, 300));
    assert_eq!(status["status"]["domains"][0]["protocols"], serde_json::json!({"IMAP": 1}));
    assert_eq!(status["status"]["domains"][0]["mixed"], false);
    let source = old.mailbox("alice").read_all();
    assert_eq!(differences(&source, &new.mailbox("alice").read_all()), [""; 0]);

    let rows = ferry.messages();
    assert_eq!(rows.len(), 300);
    let mut exact: BTreeMap<&str, usize> = BTreeMap::new();
    for row in &rows {
        assert_row_shape(row);
        assert_eq!(
            (&row["mailbox"], &row["verdict"]),
            (&Value::from("alice@old.test"), &Value::from("Delivered"))
        );
        *exact.entry(row["exact"].as_str().unwrap()).or_default() += 1;
    }
    let mut bodies: BTreeMap<&str, usize> = BTreeMap::new();
    for row in source.folders.values().flatten() {
        *bodies.entry(&row.digest).or_default() += 1;
    }
    assert_eq!(exact, bodies, "exact is BLAKE3 of the bytes");

    let arrived = new.mailbox("alice").uid_next();
    ferry.run(&[]).expect_code(0);
    assert_eq!(new.mailbox("alice").uid_next(), arrived, "nothing is sent twice");
    ferry.call("verify", &["--depth", "Full"]).expect_code(0);
    let checked = ferry.call("verify", &["--depth", "Full", "--output", "json"]);
    assert_eq!(checked.expect_code(0).json()["mailboxes"][0]["verification"]["identical"], 300);
    assert_reports(&ferry, "alice@old.test");
    for name in ["report.html", "report.xlsx"] {
        assert!(ferry.state().join(name).exists(), "{name}");
    }
}

#[test]
#[allow(clippy::too_many_lines, reason = "one story: three domains from their servers to the last report")]
fn three_domains_that_speak_three_ways_are_moved_together() {
    let world = Mixed::start(LOOPBACK.ip(), 450);
    let ferry = Ferry::new(&world.manifest()).resolver(world.dns.addr());

    let ended = ferry.run(&[]);
    ended.expect_code(0);
    let status = ferry.status();
    assert_status_shape(&status, 3);
    assert_eq!((figure(&status, "source"), figure(&status, "copied")), (450, 450));
    assert_eq!(status["status"]["counts"]["mailboxes"], 6);
    assert_eq!(status["status"]["counts"]["verified"], 6);
    let domains = status["status"]["domains"].as_array().unwrap();
    for (domain, protocols, mixed) in
        [(0, r#"{"IMAP":2}"#, false), (1, r#"{"POP3":2}"#, false), (2, r#"{"IMAP":1,"POP3":1}"#, true)]
    {
        assert_eq!(domains[domain]["protocols"].to_string(), protocols);
        assert_eq!(domains[domain]["mixed"], mixed);
        assert!(!domains[domain]["candidates"].as_array().unwrap().is_empty());
    }
    for finding in ["PopMailboxesPresent", "MixedProtocols"] {
        let codes: Vec<_> = domains[2]["findings"].as_array().unwrap().iter().map(|f| &f["code"]).collect();
        assert!(codes.iter().any(|code| **code == finding), "{codes:?}");
    }

    world.assert_moved();
    let rows = ferry.messages();
    rows.iter().for_each(assert_row_shape);
    let speaks = |mailbox: &str, protocol: &str| {
        let mut own = rows.iter().filter(|row| row["mailbox"] == mailbox).peekable();
        assert!(own.peek().is_some() && own.all(|row| row["source"]["protocol"] == protocol), "{mailbox}");
    };
    for (mailbox, protocol) in
        [("alice@a.test", "IMAP"), ("bob@b.test", "POP3"), ("carol@c.test", "IMAP"), ("chris@c.test", "POP3")]
    {
        speaks(mailbox, protocol);
    }

    let arrived = world.arrived();
    // Many runs in a row: a mailbox that speaks only POP3 refuses IMAP every time, and that must use nothing up.
    for _ in 0..3 {
        ferry.run(&["--progress", "none"]).expect_code(0);
    }
    assert_eq!(world.arrived(), arrived, "nothing is sent twice");
    ferry.call("verify", &["--depth", "Full"]).expect_code(0);
    assert_reports(&ferry, "chris@c.test");

    let text = ferry.call("status", &[]);
    for word in ["a.test", "b.test", "c.test", "PopMailboxesPresent", "Synced"] {
        assert!(text.expect_code(0).stdout.contains(word), "{word} in:\n{}", text.stdout);
    }
    let yaml = ferry.call("status", &["--output", "yaml"]);
    let from_yaml: Value = read_yaml(&yaml.expect_code(0).stdout);
    assert_eq!(from_yaml["status"], status_now(&ferry), "the same status in both notations");
}

fn status_now(ferry: &Ferry) -> Value {
    ferry.status()["status"].clone()
}

#[allow(
    clippy::disallowed_methods,
    reason = "the product has one reader; a test reads what it wrote with another"
)]
fn read_yaml(text: &str) -> Value {
    serde_yaml::from_str(text).expect("YAML")
}

#[test]
fn the_kinds_are_those_of_the_crds_directory() {
    let program = env!("CARGO_BIN_EXE_mailferry");
    let directory = tempfile::tempdir().unwrap();
    let made = Command::new(program).args(["crd", "--dir"]).arg(directory.path()).status().unwrap();
    assert!(made.success());
    let kept = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
    let read = |root: &std::path::Path| -> BTreeMap<String, String> {
        let name = |path: &std::path::PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
        files(root).iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
    };
    assert_eq!(read(directory.path()), read(&kept));
    let printed = Command::new(program).arg("crd").output().unwrap();
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert!(read(&kept).values().all(|text| printed.contains(text.trim_start_matches("---").trim())));
}
