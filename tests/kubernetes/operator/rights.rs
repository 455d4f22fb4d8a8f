//! The rights of operator and workers at the API server: no more than are written down, object by object.

use std::fs;
use std::path::Path;
use std::process::Command;

use kube::api::{Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use mailferry::api::MailboxMigration;
use regex::Regex;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::operator::installed::Installed;
use crate::operator::story::manifest_in;
use crate::support::cluster::{Cluster, Namespace};
use crate::support::mixed::Mixed;

/// The rights of an account of a namespace, one line for each resource, beyond those that every account has.
fn may(space: &Namespace, account: &str) -> Vec<String> {
    let list = |account: &str| {
        let user = format!("system:serviceaccount:{}:{account}", space.name());
        let text = space.kubectl(&["auth", "can-i", "--list", "--no-headers", "--as", &user]);
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    let anybody = list("default");
    list(account).into_iter().filter(|line| !anybody.contains(line)).collect()
}

/// The same without what differs from run to run, in a fixed order.
fn normalized(space: &Namespace, lines: &[String]) -> String {
    let digest = Regex::new("-[0-9a-f]{10}\\b").unwrap();
    let hash = Regex::new("-[0-9a-f]{8}\\b").unwrap();
    let mut lines: Vec<String> = lines
        .iter()
        .map(|line| {
            let line = line.replace(space.name(), "NAMESPACE");
            let line = digest.replace_all(&line, "-DIGEST");
            hash.replace_all(&line, "-HASH").into_owned()
        })
        .collect();
    lines.sort();
    lines.join("\n") + "\n"
}

#[track_caller]
fn assert_golden(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, found).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        golden == found,
        "other rights than tests/golden/{name} says. If that is wanted: `BLESS=1 cargo test --test kubernetes rights`\n{found}"
    );
}

/// The account of the worker that carries or looks at a domain: its Role names an object with this word in it.
fn worker(space: &Namespace, task: &str, word: &str) -> String {
    let roles = space.json(&["get", "roles", "-l", &format!("mailferry.dev/task={task}")]);
    let roles = roles["items"].as_array().unwrap().clone();
    let role = roles.iter().find(|role| role["rules"].to_string().contains(word)).unwrap();
    role["metadata"]["name"].as_str().unwrap().to_owned()
}

/// Somebody who has nothing but the token of an account.
struct Bearer<'a> {
    space: &'a Namespace,
    kubeconfig: TempDir,
}

impl<'a> Bearer<'a> {
    fn new(space: &'a Namespace, account: &str) -> Self {
        let token = space.kubectl(&["create", "token", account]);
        let admin = space.json(&["config", "view", "--raw", "--minify"]);
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": admin["clusters"],
            "contexts": [{"name": "it", "context": {"cluster": admin["clusters"][0]["name"], "user": "it", "namespace": space.name()}}],
            "users": [{"name": "it", "user": {"token": token.trim()}}],
        });
        let kubeconfig = tempfile::tempdir().unwrap();
        fs::write(kubeconfig.path().join("config"), config.to_string()).unwrap();
        Self { space, kubeconfig }
    }

    fn command(&self) -> Command {
        let mut command = self.space.command("kubectl");
        command.arg("--kubeconfig").arg(self.kubeconfig.path().join("config"));
        command
    }

    #[track_caller]
    fn can(&self, args: &[&str]) {
        let done = self.command().args(args).output().unwrap();
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// Writes the status of a mailbox and nothing else: `kubectl patch` would read it first.
    fn patch_status(&self, name: &str) -> Result<(), kube::Error> {
        let patch = async {
            let credentials = Kubeconfig::read_from(self.kubeconfig.path().join("config")).unwrap();
            let config =
                Config::from_custom_kubeconfig(credentials, &KubeConfigOptions::default()).await.unwrap();
            let api: Api<MailboxMigration> = Api::default_namespaced(Client::try_from(config).unwrap());
            let status = json!({"status": {"folders": 1}});
            api.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.map(drop)
        };
        tokio::runtime::Runtime::new().unwrap().block_on(patch)
    }

    #[track_caller]
    fn cannot(&self, args: &[&str]) {
        let done = self.command().args(args).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!done.status.success() && said.to_lowercase().contains("forbidden"), "{args:?}: {said}");
    }
}

/// The object of a mailbox, by its address.
fn object_of(boxes: &Value, source: &str) -> (String, String) {
    let items = boxes["items"].as_array().unwrap();
    let found = items.iter().find(|item| item["spec"]["source"] == source).unwrap();
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    (word(&found["metadata"]["name"]), word(&found["metadata"]["labels"]["mailferry.dev/results"]))
}

#[test]
fn nobody_may_do_more_than_their_own_work() {
    let world = Mixed::start(Cluster::get().host(), 60);
    let installed = Installed::new(Some(world.dns.addr()), &[]);
    let space = &installed.space;
    space.apply(&manifest_in(&world, space.name()));
    installed.wait_for("demo", "Ready", "True");

    let operator = format!("{}-mailferry", space.name());
    let (sync, discover) = (worker(space, "sync", "demo-bob-"), worker(space, "discover", "configmaps"));
    let mut rights = Vec::new();
    for (name, account) in [("operator", &operator), ("sync", &sync), ("discover", &discover)] {
        let lines = may(space, account);
        assert!(!lines.is_empty());
        for line in &lines {
            assert!(!line.contains('*') && !line.contains("secrets"), "{name}: {line}");
        }
        rights.push((name, normalized(space, &lines)));
    }
    for (name, found) in &rights {
        assert_golden(&format!("rights-{name}.txt"), found);
    }
    // Each thing that a worker may do is bound to objects by their names.
    for account in [&sync, &discover] {
        for rule in space.json(&["get", "role", account])["rules"].as_array().unwrap() {
            assert!(!rule["resourceNames"].as_array().unwrap().is_empty(), "{rule}");
        }
    }

    let boxes = space.json(&["get", "mbm"]);
    let (own, own_results) = object_of(&boxes, "bob@b.test");
    let (other, other_results) = object_of(&boxes, "carol@c.test");
    let annotate = r#"{"metadata":{"annotations":{"a":"b"}}}"#;
    let bearer = Bearer::new(space, &sync);
    bearer.can(&["get", "mbm", &own]);
    bearer.patch_status(&own).unwrap();
    let refused = bearer.patch_status(&other).unwrap_err();
    assert!(matches!(&refused, kube::Error::Api(status) if status.code == 403), "{refused}");
    bearer.can(&["patch", "configmap", &own_results, "--type=merge", "-p", annotate]);
    for args in [
        &["get", "mbm", &other][..],
        &["get", "mbm"],
        &["patch", "mbm", &own, "--type=merge", "-p", annotate],
        &["delete", "mbm", &own],
        &["get", "configmap", &other_results],
        &["get", "configmap", "mail-ca"],
        &["get", "configmap"],
        &["create", "configmap", "mine"],
        &["get", "mm", "demo"],
        &[
            "patch",
            "mm",
            "demo",
            "--subresource=status",
            "--type=merge",
            "-p",
            r#"{"status":{"phase":"Stalled"}}"#,
        ],
        &["get", "secret", "b-source"],
        &["get", "secrets"],
        &["get", "pods"],
        &["create", "token", &sync],
        &["get", "namespaces"],
    ] {
        bearer.cannot(args);
    }

    let bearer = Bearer::new(space, &operator);
    bearer.can(&["get", "mm", "demo"]);
    for args in [
        &["get", "secret", "b-source"][..],
        &["get", "secrets"],
        &["patch", "mm", "demo", "--type=merge", "-p", r#"{"spec":{"suspend":true}}"#],
        &["delete", "mm", "demo"],
        &["create", "secret", "generic", "mine"],
        &["create", "token", &sync],
        &["get", "pods", "-n", "kube-system"],
        // It cannot give rights that it does not have.
        &["create", "role", "more", "--verb=get", "--resource=secrets"],
    ] {
        bearer.cannot(args);
    }
}
