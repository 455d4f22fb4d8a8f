//! Proves the cluster and its harness, on which the tests of operator, workers and chart stand; and what they take for
//! granted: that a real API server accepts the definitions in `crds/` and refuses what they forbid, that the image runs
//! under Pod Security `restricted`, and that a pod reaches mail servers on this machine.

use std::fs;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use crate::support::ca::Ca;
use crate::support::cluster::{Cluster, Namespace};
use crate::support::compare::differences;
use crate::support::corpus::Corpus;
use crate::support::dns::{Dns, Record};
use crate::support::dovecot::{Dovecot, User};
use regex::Regex;
use serde_json::{Value, json};

/// Images are there and servers are near, but the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(90);

/// A pod as Mailferry's own will be: nothing that `restricted` forbids.
fn pod(name: &str, image: &str, command: &Value, args: &Value, volumes: &Value, mounts: &Value) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 65532, "fsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"},
            },
            "volumes": volumes,
            "containers": [{
                "name": "main",
                "image": image,
                "command": command,
                "args": args,
                "volumeMounts": mounts,
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "capabilities": {"drop": ["ALL"]},
                    "readOnlyRootFilesystem": true,
                },
            }],
        },
    })
    .to_string()
}

fn manifests() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for directory in ["examples", "tests/manifests"] {
        for entry in fs::read_dir(root.join(directory)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "yaml") {
                found.push((path.display().to_string(), fs::read_to_string(path).unwrap()));
            }
        }
    }
    assert!(found.len() > 5, "{found:?}");
    found
}

/// Puts all objects of a manifest into `space`.
fn moved(text: &str, space: &Namespace) -> String {
    let namespace = Regex::new("namespace: [a-z0-9-]+").unwrap();
    namespace.replace_all(text, format!("namespace: {}", space.name())).into_owned()
}

#[test]
fn the_api_server_accepts_the_definitions_and_explains_their_fields() {
    let cluster = Cluster::get();
    cluster.apply_crds();
    for name in ["mailmigrations", "mailboxmigrations"] {
        let conditions = cluster.kubectl(&["get", "crd", &format!("{name}.mailferry.dev"), "-o", "json"]);
        let definition: Value = serde_json::from_str(&conditions).unwrap();
        for condition in definition["status"]["conditions"].as_array().unwrap() {
            // NonStructuralSchema and its like are the conditions that must not be true.
            let wanted =
                ["NamesAccepted", "Established"].contains(&condition["type"].as_str().unwrap_or_default());
            assert_eq!(condition["status"] == "True", wanted, "{name}: {condition}");
        }
    }
    let told = cluster.kubectl(&["explain", "mm.spec.destination.imap"]);
    for field in ["host\t<string> -required-", "port\t<integer>", "caRef\t<Object>", "TCP port, 1 to 65535"] {
        assert!(told.contains(field), "{field}: {told}");
    }
    assert!(cluster.kubectl(&["explain", "mbm.status"]).contains("messages"));
}

#[test]
fn the_api_server_accepts_every_example_without_a_warning() {
    let space = Namespace::new();
    space.cluster().apply_crds();
    for (path, text) in manifests() {
        let output = dry_run(&space, &moved(&text, &space));
        assert!(!output.to_lowercase().contains("warning"), "{path}: {output}");
        assert!(output.contains("mailmigration.mailferry.dev/"), "{path}: {output}");
    }
}

/// The output of `kubectl` for a manifest that the API server checks and does not keep.
fn dry_run(space: &Namespace, manifest: &str) -> String {
    // `--warnings-as-errors` makes of a warning a failure.
    space.try_apply(manifest, &["--dry-run=server", "--validate=strict", "--warnings-as-errors"]).unwrap()
}

/// The shortest MailMigration, which the table below spoils.
const GOOD: &str = "
apiVersion: mailferry.dev/v1alpha1
kind: MailMigration
metadata: {name: demo}
spec:
  destination: {imap: {host: new.test, credentialsRef: {name: new}}}
  domains:
  - name: a.test
    credentialsRef: {name: old}
    mailboxes: {discover: {}}
  policy: {allowedNetworks: [\"10.0.0.0/8\"]}
";

#[test]
fn the_api_server_refuses_what_is_wrong_in_our_words() {
    let space = Namespace::new();
    space.cluster().apply_crds();
    space.try_apply(GOOD, &["--dry-run=server"]).unwrap();
    // Kubernetes repeats the value, or its type, before it says why it is refused.
    let value = Regex::new(r#"Invalid value: ("[^"]*"|\{[^}]*\}|\[[^\]]*\]): "#).unwrap();
    for (good, bad, wanted) in [
        (
            "imap: {host: new.test, credentialsRef: {name: new}}",
            "",
            "spec.destination: Invalid value: name the destination, imap {host, credentialsRef}, microsoft365 {credentialsRef} or files {format, path or claimRef}",
        ),
        (
            "discover: {}",
            "discover: {}, list: [{address: anna@a.test}]",
            "spec.domains[0].mailboxes: Invalid value: give exactly one of discover, list and configMapRef",
        ),
        (
            "10.0.0.0/8",
            "10.0.0.0",
            "spec.policy.allowedNetworks: Invalid value: write each network in CIDR notation, as in 10.0.0.0/8 or fd00::/8",
        ),
        (
            "    mailboxes: {discover: {}}",
            "    overrides: [{match: {}, protocol: POP3}]",
            "spec.domains[0].overrides[0].match: Invalid value: give exactly one of pattern and addresses",
        ),
        ("policy:", "stage: Snyc\n  policy:", "spec.stage: Unsupported value: \"Snyc\""),
        ("policy:", "stgae: Sync\n  policy:", "unknown field \"spec.stgae\""),
    ] {
        assert_eq!(GOOD.matches(good).count(), 1, "{good}");
        let refusal = space.try_apply(&GOOD.replace(good, bad), &["--dry-run=server"]).unwrap_err();
        let said = value.replace_all(&refusal, "Invalid value: ");
        assert!(said.contains(wanted), "{wanted}\n{said}");
    }
}

#[test]
fn the_image_runs_under_the_restricted_standard() {
    let space = Namespace::new();
    let image = space.cluster().load_image();
    space.apply(&pod("version", &image, &json!(null), &json!(["--version"]), &json!([]), &json!([])));
    let (phase, log) = space.end_of_pod("version", PATIENCE);
    // The commit follows it, where the build knew one.
    let version = log.trim().split(" (").next();
    assert_eq!(
        (phase.as_str(), version),
        ("Succeeded", Some(concat!("mailferry ", env!("CARGO_PKG_VERSION"))))
    );

    let privileged = "
apiVersion: v1
kind: Pod
metadata: {name: privileged}
spec: {containers: [{name: main, image: \"localhost/busybox:1\", securityContext: {privileged: true}}]}
";
    let refusal = space.try_apply(privileged, &[]).unwrap_err();
    assert!(refusal.contains("violates PodSecurity \"restricted:latest\""), "{refusal}");
}

const PASSWORD: &str = "a-secret";

/// A migration between two servers on this machine, which has an address of its own: the usual port for the one that is
/// to be found, a free one for the other. The pod's ledger lies on a volume that outlives it.
#[test]
fn a_pod_finds_servers_on_this_machine_carries_mail_and_keeps_its_state_on_a_volume() {
    let space = Namespace::new();
    let cluster = space.cluster();
    let image = cluster.load_image();
    let (old_host, ca) = (cluster.own_host(), Ca::new());
    let old = Dovecot::builder()
        .imaps(SocketAddr::new(old_host.address, 993))
        .tls(&ca.issue(&["imap.a.test"]))
        .user(User::new("anna@a.test", PASSWORD))
        .start();
    let new = Dovecot::builder()
        .imaps(SocketAddr::new(cluster.host(), 0))
        .tls(&ca.issue(&["imap.new.test"]))
        .user(User::new("anna@a.test", PASSWORD))
        .start();
    old.mailbox("anna@a.test").seed(Corpus::new(7).messages(12));
    let dns = Dns::start_at(
        cluster.host(),
        &[
            Record::a("imap.a.test", &old_host.address.to_string()),
            Record::a("imap.new.test", &cluster.host().to_string()),
            Record::srv("_imaps._tcp.a.test", "imap.a.test", 993),
        ],
    );
    let migration = format!(
        "
apiVersion: v1
kind: Secret
metadata: {{name: passwords}}
stringData: {{username: anna@a.test, password: {PASSWORD}}}
---
apiVersion: mailferry.dev/v1alpha1
kind: MailMigration
metadata: {{name: demo}}
spec:
  stage: Sync
  destination: {{imap: {{host: imap.new.test, port: {}, credentialsRef: {{name: passwords}}}}}}
  domains:
  - name: a.test
    credentialsRef: {{name: passwords}}
    mailboxes: {{list: [{{address: anna@a.test}}]}}
  policy: {{verify: Full, allowedNetworks: [10.77.0.0/16]}}
",
        new.imaps().port()
    );
    space.apply("{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: state}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}");
    let inputs = json!({"m.yaml": migration, "ca.crt": ca.pem()});
    space.apply(
        &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "inputs"}, "data": inputs})
            .to_string(),
    );
    let volumes = json!([
        {"name": "state", "persistentVolumeClaim": {"claimName": "state"}},
        {"name": "inputs", "configMap": {"name": "inputs"}},
        {"name": "tmp", "emptyDir": {}},
    ]);
    let mounts = json!([
        {"name": "state", "mountPath": "/state"},
        {"name": "inputs", "mountPath": "/inputs"},
        {"name": "tmp", "mountPath": "/tmp"},
    ]);

    let resolver = dns.addr().to_string();
    let run = json!([
        "run",
        "-f",
        "/inputs/m.yaml",
        "--state",
        "/state/demo",
        "--resolver",
        resolver,
        "--ca",
        "/inputs/ca.crt",
        "--progress",
        "none",
        "--output",
        "json",
    ]);
    space.apply(&pod("run", &image, &json!(null), &run, &volumes, &mounts));
    let (phase, log) = space.end_of_pod("run", PATIENCE);
    assert_eq!(phase, "Succeeded", "{log}");
    let found = differences(&old.mailbox("anna@a.test").read_all(), &new.mailbox("anna@a.test").read_all());
    assert!(found.is_empty(), "{}", found.join("\n"));

    let status = json!(["status", "-f", "/inputs/m.yaml", "--state", "/state/demo", "--output", "json"]);
    space.apply(&pod("status", &image, &json!(null), &status, &volumes, &mounts));
    let (phase, log) = space.end_of_pod("status", PATIENCE);
    assert!(phase == "Succeeded" && log.contains("Verified"), "{phase}: {log}");
}

#[test]
fn a_wait_in_vain_tells_how_things_stand() {
    let space = Namespace::new();
    let script = json!(["sh", "-c", "echo here I stand; exit 3"]);
    space.apply(&pod("tired", "localhost/busybox:1", &script, &json!([]), &json!([]), &json!([])));
    space.end_of_pod("tired", PATIENCE);
    let waited = catch_unwind(AssertUnwindSafe(|| {
        space.wait_until("the impossible", Duration::from_millis(300), || Err::<(), _>("no sign".to_owned()));
    }));
    let told = waited.unwrap_err();
    let told = told.downcast_ref::<String>().unwrap();
    for part in ["the impossible", "no sign", "here I stand", "Exit Code:    3", "Scheduled"] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[test]
fn namespaces_go_with_their_test() {
    let cluster = Cluster::get();
    let space = Namespace::new();
    let name = space.name().to_owned();
    assert_ne!(name, Namespace::new().name());
    drop(space);
    let left = cluster.try_kubectl(&["wait", "--for=delete", "--timeout=60s", &format!("namespace/{name}")]);
    assert!(left.is_ok(), "{left:?}");
}
