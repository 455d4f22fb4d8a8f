//! No password is found anywhere in the cluster but in its Secret: not in logs at the loudest level, not in any object or
//! Event, not in a process, not on the ledgers' volume, not in what is shown.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use flate2::read::MultiGzDecoder;
use serde_json::Value;

use crate::operator::installed::{Installed, PATIENCE};
use crate::operator::node::{pods, processes};
use crate::support::canary::{Canary, assert_clean};
use crate::support::cluster::{Cluster, Namespace};
use crate::support::mixed::{Mixed, NAMES, Passwords};

/// The beginning of a service account's token: the head of a JSON Web Token, `{"alg":"RS256",...` in base64.
const TOKEN: &[u8] = b"eyJhbGciOi";

/// All that is packed in an object: what is in base64, and what is compressed in that.
fn unpacked(value: &Value, found: &mut Vec<Vec<u8>>) {
    match value {
        Value::String(text) => {
            let Ok(bytes) = BASE64_STANDARD.decode(text) else { return };
            let mut whole = Vec::new();
            // A part of a document ends in the middle of it.
            let _ = MultiGzDecoder::new(&bytes[..]).read_to_end(&mut whole);
            found.extend([bytes, whole]);
        }
        Value::Array(values) => values.iter().for_each(|value| unpacked(value, found)),
        Value::Object(fields) => fields.values().for_each(|value| unpacked(value, found)),
        _ => {}
    }
}

/// Looks through every object of a namespace but Secrets; how many packed documents there are.
pub(crate) fn assert_objects_clean(canaries: &[Canary], space: &Namespace) -> usize {
    let kinds =
        space.cluster().kubectl(&["api-resources", "--verbs=list", "--namespaced", "-o", "name", "--cached"]);
    let kinds: Vec<&str> = kinds.lines().filter(|kind| *kind != "secrets").collect();
    assert!(
        ["events", "pods", "configmaps", "mailmigrations.mailferry.dev"].iter().all(|k| kinds.contains(k))
    );
    let text = space.kubectl(&["get", &kinds.join(","), "-o", "json"]);
    assert_clean(canaries, "an object", text.as_bytes());
    let objects: Value = serde_json::from_str(&text).unwrap();
    let mut found = Vec::new();
    unpacked(&objects, &mut found);
    for document in &found {
        assert_clean(canaries, "something packed in an object", document);
    }
    found.iter().filter(|document| document.starts_with(b"{")).count()
}

fn files(under: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(under).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() { all.extend(files(&path)) } else { all.push(path) }
    }
    all
}

/// Looks through the logs of all pods; how many there are.
pub(crate) fn assert_logs_clean(canaries: &[Canary], space: &Namespace) -> usize {
    let mut read = 0;
    for pod in pods(space) {
        // A Job with a successor is taken away, and its pods with it.
        let Ok(log) = space.try_kubectl(&["logs", &pod, "--all-containers"]) else { continue };
        read += 1;
        let loud = log.contains("\"level\":\"TRACE\"") || log.contains("\"level\":\"DEBUG\"");
        assert!(loud, "the log of {pod} is loud: {}", log.lines().take(5).collect::<Vec<_>>().join("\n"));
        assert_clean(canaries, &format!("the log of {pod}"), log.as_bytes());
        let token = log.as_bytes().windows(TOKEN.len()).any(|window| window == TOKEN);
        assert!(!token, "the log of {pod} shows a token");
    }
    read
}

/// Looks through the volume of the ledgers, on which there are at least so many.
fn assert_ledgers_clean(canaries: &[Canary], space: &Namespace, least: usize) {
    let volume =
        space.json(&["get", "pvc", "demo-ledger"])["spec"]["volumeName"].as_str().unwrap().to_owned();
    let volume = space.json(&["get", "pv", &volume]);
    let all = files(Path::new(volume["spec"]["local"]["path"].as_str().unwrap()));
    let ledgers = all.iter().filter(|path| path.extension().is_some_and(|e| e == "sqlite")).count();
    assert!(ledgers >= least, "{all:?}");
    for path in all {
        // A journal may be gone by now.
        let bytes = fs::read(&path).unwrap_or_default();
        assert_clean(canaries, &path.display().to_string(), &bytes);
    }
}

/// Looks through what commands show.
fn assert_views_clean(canaries: &[Canary], space: &Namespace) {
    for args in [
        &["status", "-vv", "--output", "yaml"][..],
        &["status", "-vv", "--output", "json"],
        &["report", "-vv", "--format", "html"],
        &["report", "-vv", "--format", "json", "--kind", "discovery"],
        &["report", "-vv", "--format", "json", "--kind", "messages"],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mailferry"));
        command.args(args).args(["-n", space.name(), "demo"]);
        let shown = command.env("KUBECONFIG", space.cluster().kubeconfig()).env("MAILFERRY_LOG", "trace");
        let shown = shown.output().unwrap();
        // Of messages there are only those that something is to be said of.
        let nothing = args.contains(&"messages");
        assert!(nothing || !shown.stdout.is_empty(), "{args:?}: {}", String::from_utf8_lossy(&shown.stderr));
        assert_clean(canaries, &format!("{args:?}"), &shown.stdout);
        assert_clean(canaries, &format!("{args:?}"), &shown.stderr);
    }
}

#[test]
fn no_password_is_found_anywhere_but_in_its_secret() {
    let canaries = [
        Canary::new("Kestrel-master-7/41+x", &["madmin", "alice@a.test*madmin"]),
        Canary::new("Heron-bob-3%92=y", &["bob@b.test", "bob"]),
        Canary::new("Egret-dora-5=18&z", &["dora@b.test"]),
        Canary::new("Plover-carol-6/64?", &["carol"]),
        Canary::new("Stork-chris-8+22", &["chris"]),
        Canary::new("Bittern-new-9/77~q", &["newadmin", "alice@new.test*newadmin"]),
        Canary::new("Dunlin-wrong-2/13+w", &["bob@b.test"]),
    ];
    let [a, bob, dora, carol, chris, new, wrong] = &canaries;
    let passwords = Passwords {
        a: &a.password,
        bob: &bob.password,
        dora: &dora.password,
        carol: &carol.password,
        chris: &chris.password,
        new: &new.password,
    };
    let world = Mixed::start_with(Cluster::get().host(), 100, &passwords);
    let mut manifest = world.manifest();
    for (from, to) in [
        ("master-secret", a),
        ("bob-secret", bob),
        ("dora-secret", dora),
        ("carol-secret", carol),
        ("chris-secret", chris),
        ("new-secret", new),
    ] {
        assert_eq!(manifest.matches(from).count(), 1, "{from}");
        manifest = manifest.replace(from, &to.password);
    }
    let slow = manifest.replace("  policy:\n", "  policy:\n    limits: {bytesPerSecond: 20000}\n");
    assert_ne!(slow, manifest);
    let installed = Installed::new(Some(world.dns.addr()), &["log.filter=trace"]);
    let space = &installed.space;
    let mut seen = BTreeSet::new();
    let mut look_at_processes = || {
        for process in processes(&pods(space)) {
            let pod = &process.pod;
            assert_clean(&canaries, &format!("the command line of {pod}"), &process.line);
            assert_clean(&canaries, &format!("the environment of {pod}"), &process.environment);
            let words: Vec<&[u8]> = process.line.split(|byte| *byte == 0).collect();
            seen.extend(words.get(1).map(|word| String::from_utf8_lossy(word).into_owned()));
        }
    };

    space.apply(&manifest_in_text(&slow, space.name()));
    space.wait_until("something is copied", PATIENCE, || {
        look_at_processes();
        let status = &installed.migration("demo")["status"];
        if status["messages"]["copied"].as_u64().unwrap_or_default() > 0 {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
    look_at_processes();
    assert_objects_clean(&canaries, space);
    // That of the logins, and one of a mailbox: the domains share the connections to a host, so not all have begun.
    assert_ledgers_clean(&canaries, space, 2);
    space.apply(&manifest_in_text(&manifest, space.name()));
    installed.wait_for("demo", "Ready", "True");
    world.assert_moved();
    assert!(assert_logs_clean(&canaries, space) > 3);

    // A login that is refused is spoken of in many places.
    space.apply(&manifest_in_text(&manifest.replace(&bob.password, &wrong.password), space.name()));
    space.kubectl(&["patch", "mm", "demo", "--type=merge", "-p", r#"{"spec":{"trigger":{"sync":"2"}}}"#]);
    installed.wait_for("demo", "CredentialsAccepted", "False");
    look_at_processes();
    assert!(["operator", "sync"].iter().all(|command| seen.contains(*command)), "{seen:?}");
    let packed = assert_objects_clean(&canaries, space);
    assert!(packed >= 6, "work lists and results are unpacked: {packed}");
    assert!(assert_logs_clean(&canaries, space) > 3);
    assert_ledgers_clean(&canaries, space, NAMES.len() + 1);
    assert_views_clean(&canaries, space);
}

/// A manifest of the mixed world in another namespace.
fn manifest_in_text(manifest: &str, namespace: &str) -> String {
    manifest.replace("namespace: demo", &format!("namespace: {namespace}"))
}
