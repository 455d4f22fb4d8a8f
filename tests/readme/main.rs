//! The README's section about the cluster, taken at its word: its commands are run as they stand there, one after the
//! other in one shell, and end in a migration that is verified. Only its last one, which ends the cluster, is left out:
//! other tests go on in it.
//!
//! It is alone in this binary because it installs an operator that watches every namespace.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "../support/mod.rs"]
mod support;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use support::cluster::Cluster;

/// Where the README lets the report be written.
const REPORT: &str = "/tmp/quickstart.html";

/// How long all of it may take, in seconds, with nothing left to build but what changed.
const PATIENCE: &str = "900";

const DEFINITIONS: [&str; 2] = ["crd/mailmigrations.mailferry.dev", "crd/mailboxmigrations.mailferry.dev"];

/// The marks by which Helm decides whose an object is.
const OWNERSHIP: [(&str, &str, &str); 3] = [
    ("label", "app.kubernetes.io/managed-by", "Helm"),
    ("annotate", "meta.helm.sh/release-name", "mailferry"),
    ("annotate", "meta.helm.sh/release-namespace", "mailferry-system"),
];

/// The commands of the first block of the section, in order; a command may have several lines.
fn commands() -> Vec<String> {
    let readme = include_str!("../../README.md");
    let section = readme.split("\n## In a cluster\n").nth(1).expect("the section");
    let block = section.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block");
    let mut commands: Vec<String> = Vec::new();
    let mut open = false;
    for line in block.lines().filter(|line| !line.is_empty()) {
        if open {
            let last = commands.last_mut().unwrap();
            last.push('\n');
            last.push_str(line);
        } else {
            commands.push(line.to_owned());
        }
        open = line.ends_with('\\');
    }
    commands
}

/// One script of them. A watch goes on until somebody ends it: here, as soon as it shows what one waits for.
fn script(commands: &[String], watched: &Path) -> String {
    let watched = watched.display();
    let mut script = String::new();
    for command in commands {
        if command.contains("--watch") {
            let command = command.split('#').next().unwrap();
            let lines = format!(
                "{command} > {watched} & watcher=$!\n\
                 trap 'kill $watcher' EXIT\n\
                 until grep -q Verified {watched}; do sleep 0.2; done\n"
            );
            script.push_str(&lines);
        } else {
            script.push_str(command);
            script.push('\n');
        }
    }
    script
}

/// The traces that the commands leave, taken away before and after.
struct Traces {
    cluster: &'static Cluster,
}

impl Traces {
    fn new(cluster: &'static Cluster) -> Self {
        let traces = Self { cluster };
        traces.remove();
        // On a fresh machine there are no definitions. Here other tests brought them, and Helm takes only its own.
        for definition in DEFINITIONS {
            if cluster.try_kubectl(&["get", definition]).is_ok() {
                for (verb, key, value) in OWNERSHIP {
                    cluster.kubectl(&[verb, "--overwrite", definition, &format!("{key}={value}")]);
                }
            }
        }
        traces
    }

    fn remove(&self) {
        let _ = fs::remove_file(REPORT);
        // Without this file the demo's servers end.
        let _ = fs::remove_file(self.cluster.state().unwrap().join("demo-servers"));
        let delete = ["delete", "namespace", "demo", "mailferry-system", "--ignore-not-found"];
        let uninstall = ["uninstall", "mailferry", "-n", "mailferry-system", "--ignore-not-found", "--wait"];
        let ended = [
            self.cluster.command("helm").args(uninstall).output(),
            self.cluster.command("kubectl").args(delete).output(),
        ];
        for output in ended {
            let output = output.unwrap();
            if !output.status.success() {
                eprintln!("{}", String::from_utf8_lossy(&output.stderr));
            }
        }
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        if env::var_os("MAILFERRY_TEST_KEEP").is_some() {
            eprintln!("what the README's commands made is kept");
            return;
        }
        self.remove();
        for definition in DEFINITIONS {
            for (verb, key, _) in OWNERSHIP {
                // There may be none: the test may have ended before.
                let _ = self.cluster.try_kubectl(&[verb, definition, &format!("{key}-")]);
            }
        }
    }
}

/// As a shell of a user: without what Cargo tells its tests, which would make it build anew.
fn shell(script: &str) -> Command {
    let mut shell = Command::new("timeout");
    shell.args(["--kill-after=10", PATIENCE, "bash", "-euo", "pipefail", "-c", script]);
    for (name, _) in env::vars_os() {
        // Nor what a `make test` above tells a make of its own.
        let of_test =
            ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_", "MAKE"];
        if name.to_str().is_some_and(|name| of_test.iter().any(|start| name.starts_with(start))) {
            shell.env_remove(name);
        }
    }
    shell.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    shell
}

/// The phases that a watch showed, in order, each once.
fn phases(watched: &str) -> Vec<&str> {
    let mut phases: Vec<_> =
        watched.lines().skip(1).filter_map(|line| line.split_whitespace().nth(2)).collect();
    phases.dedup();
    phases.retain(|phase| phase.chars().all(char::is_alphabetic));
    phases
}

#[test]
fn the_commands_of_the_readme_bring_a_migration_to_its_end() {
    let cluster = Cluster::get();
    assert!(
        cluster.state().is_some(),
        "the README speaks of a cluster of tests/cluster; KUBECONFIG names another"
    );
    let mut commands = commands();
    assert_eq!(
        commands.pop().as_deref().map(|last| last.split('#').next().unwrap().trim()),
        Some("make cluster-down")
    );
    let place = tempfile::tempdir().unwrap();
    let watched: PathBuf = place.path().join("watched");
    let traces = Traces::new(cluster);

    let output = shell(&script(&commands, &watched)).output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let shown = fs::read_to_string(&watched).unwrap_or_default();
    assert!(
        output.status.success(),
        "{}\n{}\n{}\n{shown}",
        output.status,
        said(&output.stdout),
        said(&output.stderr)
    );

    assert_eq!(phases(&shown), ["Discovering", "Syncing", "Verified"], "{shown}");
    let migration = cluster.kubectl(&["get", "mm", "-n", "demo", "quickstart", "-o", "json"]);
    let migration: Value = serde_json::from_str(&migration).unwrap();
    let status = &migration["status"];
    assert_eq!((&status["messages"]["source"], &status["messages"]["copied"]), (&1500.into(), &1500.into()));
    assert_eq!(status["domains"][2]["name"], "c.test");
    assert_eq!(status["domains"][2]["mixed"], true, "the split domain");
    let report = fs::read_to_string(REPORT).unwrap();
    for word in ["c.test", "1,500 at the source", "chris@c.test"] {
        assert!(report.contains(word), "{word} is not in the report");
    }
    drop(traces);
}
