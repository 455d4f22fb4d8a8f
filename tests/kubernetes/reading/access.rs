//! The way to the cluster: what is said when something or somebody is not there, or not allowed.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::{self, JoinHandle};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::ferry::Ended;
use crate::reading::world::{end, look};
use crate::support::cluster::{Cluster, Namespace};
use crate::support::process::free_address;

const MIGRATION: &str = "
apiVersion: mailferry.dev/v1alpha1
kind: MailMigration
metadata: {name: move}
spec:
  destination: {imap: {host: new.test, credentialsRef: {name: new}}}
  domains:
  - {name: a.test, credentialsRef: {name: old}, mailboxes: {discover: {}}}
";

/// The administrator's kubeconfig, changed.
fn kubeconfig(directory: &Path, name: &str, change: impl FnOnce(&mut Value)) -> PathBuf {
    let text = Cluster::get().kubectl(&["config", "view", "--raw", "--minify", "--flatten", "-o", "json"]);
    let mut config: Value = serde_json::from_str(&text).unwrap();
    change(&mut config);
    let path = directory.join(name);
    // JSON is YAML.
    fs::write(&path, config.to_string()).unwrap();
    path
}

/// Runs the binary with a kubeconfig.
fn run(kubeconfig: &Path, args: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mailferry"));
    end(command.args(args).env("KUBECONFIG", kubeconfig))
}

fn space_with_migration() -> (Namespace, TempDir) {
    let space = Namespace::new();
    space.cluster().apply_crds();
    space.apply(MIGRATION);
    (space, tempfile::tempdir().unwrap())
}

#[test]
fn context_and_namespace_come_from_the_kubeconfig_or_from_flags() {
    let (space, directory) = space_with_migration();
    let config = kubeconfig(directory.path(), "config", |config| {
        let mut ours = config["contexts"][0].clone();
        ours["name"] = json!("ours");
        ours["context"]["namespace"] = json!(space.name());
        config["contexts"].as_array_mut().unwrap().push(ours);
        config["contexts"][0]["context"]["namespace"] = json!("default");
    });
    let path = config.display().to_string();
    run(&config, &["status", "move", "--context", "ours"]).expect_code(0);
    run(&config, &["status", "move", "--namespace", space.name()]).expect_code(0);
    let nowhere = directory.path().join("nowhere");
    run(&nowhere, &["status", "move", "--kubeconfig", &path, "--context", "ours"]).expect_code(0);

    let (error, hint) = run(&config, &["status", "move"]).expect_code(23).error();
    assert_eq!(error, "MailMigration \"move\" is not in namespace default  [Configuration, exit 23]");
    assert!(hint.contains("kubectl get mailmigrations -A"), "{hint}");
    let (error, hint) = run(&config, &["status", "move", "--context", "theirs"]).expect_code(23).error();
    assert_eq!(error, "the kubeconfig has no context \"theirs\"  [Configuration, exit 23]");
    assert!(hint.contains("kubectl config get-contexts"), "{hint}");
    for args in [&["status", "move"][..], &["status", "move", "--context", "ours"]] {
        let (error, hint) = run(&nowhere, args).expect_code(23).error();
        assert!(error.starts_with(&format!("{}: cannot be read: ", nowhere.display())), "{error}");
        assert!(hint.contains("--kubeconfig"), "{hint}");
    }
}

#[test]
fn what_is_not_there_is_named() {
    let (space, _directory) = space_with_migration();
    for args in [&["status"][..], &["report", "--format", "csv"]] {
        let (error, _) = look(&space, args[0], "other", &args[1..]).expect_code(23).error();
        let wanted =
            format!("MailMigration \"other\" is not in namespace {}  [Configuration, exit 23]", space.name());
        assert_eq!(error, wanted);
    }
}

#[test]
fn a_kubeconfig_that_cannot_be_understood_is_not_quoted() {
    let directory = tempfile::tempdir().unwrap();
    let broken = directory.path().join("config");
    for text in [
        "users:\n- user: {token: hunter2\n",
        "users: hunter2\n",
        "users: [{name: a, user: {exec: hunter2}}]\n",
    ] {
        fs::write(&broken, text).unwrap();
        for args in
            [&["status", "move"][..], &["status", "move", "-v", "--kubeconfig", broken.to_str().unwrap()]]
        {
            let ended = run(&broken, args);
            let (error, hint) = ended.expect_code(23).error();
            assert_eq!(error, "the kubeconfig cannot be understood  [Configuration, exit 23]");
            assert!(
                hint.contains("kubectl config view") && !ended.stderr.contains("hunter2"),
                "{}",
                ended.stderr
            );
        }
    }
}

/// A proxy that takes one connection (RFC 9110 §9.3.6), and where it listens.
fn proxy() -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let serve = move || {
        let mut client = listener.accept().unwrap().0;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            client.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let asked = String::from_utf8(head).unwrap();
        let mut server = TcpStream::connect(asked.split(' ').nth(1).unwrap()).unwrap();
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        let (mut back, mut from) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        thread::spawn(move || io::copy(&mut from, &mut back));
        // The command ends, and with it the connection.
        let _ = io::copy(&mut client, &mut server);
        asked
    };
    (address, thread::spawn(serve))
}

#[test]
fn a_proxy_is_gone_through() {
    let (space, directory) = space_with_migration();
    let (address, served) = proxy();
    let config = kubeconfig(directory.path(), "config", |config| {
        config["clusters"][0]["cluster"]["proxy-url"] = json!(address);
    });
    run(&config, &["status", "-n", space.name(), "move"]).expect_code(0);
    assert!(served.join().unwrap().starts_with("CONNECT "));
}

#[test]
fn a_cluster_that_does_not_answer_is_unreachable() {
    let directory = tempfile::tempdir().unwrap();
    let nobody = format!("https://{}", free_address([127, 0, 0, 1].into()));
    let config = kubeconfig(directory.path(), "config", |config| {
        config["clusters"][0]["cluster"]["server"] = json!(nobody);
    });
    let (error, hint) = run(&config, &["status", "move"]).expect_code(10).error();
    assert!(error.starts_with(&format!("{nobody}: MailMigration move cannot be read: ")), "{error}");
    assert!(hint.contains("kubectl cluster-info"), "{hint}");
}

#[test]
fn who_may_not_look_is_told_which_right_lacks() {
    let (space, directory) = space_with_migration();
    space.kubectl(&["create", "serviceaccount", "reader"]);
    let token = space.kubectl(&["create", "token", "reader"]);
    let config = kubeconfig(directory.path(), "reader", |config| {
        config["users"][0]["user"] = json!({"token": token.trim()});
        config["contexts"][0]["context"]["namespace"] = json!(space.name());
    });
    let refusal = |args: &[&str], right: &str| {
        let (error, hint) = run(&config, args).expect_code(22).error();
        assert!(error.contains(&format!("{}:reader\" cannot {right}", space.name())), "{right}: {error}");
        assert!(hint.contains(&format!("namespace {}", space.name())), "{hint}");
    };
    let grant = |verb: &str, resource: &str| {
        let name = resource.split('.').next().unwrap();
        space.kubectl(&["create", "role", name, "--verb", verb, "--resource", resource]);
        let account = format!("--serviceaccount={}:reader", space.name());
        space.kubectl(&["create", "rolebinding", name, "--role", name, &account]);
    };
    let report = ["report", "move", "--format", "json"];
    refusal(&["status", "move"], "get resource \"mailmigrations\"");
    grant("get", "mailmigrations.mailferry.dev");
    run(&config, &["status", "move"]).expect_code(0);
    refusal(&report, "get resource \"configmaps\"");
    grant("get", "configmaps");
    // Nothing is known of it yet, and that may be seen now.
    run(&config, &report).expect_code(23);

    let stale = kubeconfig(directory.path(), "stale", |config| {
        config["users"][0]["user"] = json!({"token": "of-no-use"});
    });
    let (error, hint) = run(&stale, &["status", "move"]).expect_code(22).error();
    assert!(error.contains("Unauthorized") && hint.contains("kubectl auth whoami"), "{error}\n{hint}");
}
