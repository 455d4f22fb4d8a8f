//! Two tenants of one operator. One does all that somebody with every right in a namespace of their own can do; the migration of
//! the other does not notice, and the operator stays within its memory.

use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use mailferry::cluster::objects::{
    LABEL_COMPONENT, LABEL_DOMAIN_DIGEST, LABEL_INPUTS, LABEL_NUMBER, LABEL_TASK, digest, discovery_results,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::operator::installed::{Installed, PATIENCE, condition_of};
use crate::operator::node::Operator;
use crate::operator::pair::{Pair, list};
use crate::support::cluster::{Cluster, Namespace};

/// Domains of the tenant's migration whose Jobs never get a pod.
const DOMAINS: usize = 40;
/// Objects of each kind that the tenant fills the namespace with.
const MANY: usize = 400;
/// The limit that the chart gives the operator, in bytes.
const LIMIT: u64 = 256 * 1024 * 1024;

fn ours(name: &str, migration: &str, annotations: &Value) -> Value {
    json!({"name": name, "annotations": annotations, "labels": {
        "app.kubernetes.io/managed-by": "mailferry", "mailferry.dev/migration": migration}})
}

/// A forged result in the place of discovery's: half a megabyte that becomes half a gigabyte.
fn bomb(name: &str, migration: &str) -> Value {
    // gzip is there wherever these tests run, and quick.
    let made = Command::new("sh").args(["-c", "head -c 512M /dev/zero | gzip -9"]).output().unwrap();
    let packed = made.stdout;
    assert!((500_000..600_000).contains(&packed.len()), "{}", packed.len());
    let sum = mailferry::model::text::hexadecimal(&Sha256::digest(&packed));
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": ours(name, migration, &json!({})),
        "data": {"contents.json": json!({"parts": 1, "digest": sum}).to_string()},
        "binaryData": {"part": BASE64_STANDARD.encode(&packed)}})
}

/// A migration of many domains, none of which there is.
fn migration(name: &str, domains: usize, padding: usize) -> Value {
    let domain = |n: usize| {
        json!({"name": format!("d{n}.{name}.test"), "credentialsRef": {"name": "nothing"},
            "servers": [{"protocol": "IMAP", "host": "10.77.255.254", "port": 143, "tls": "None"}],
            "mailboxes": {"list": [{"address": format!("a@d{n}.{name}.test")}]}})
    };
    json!({"apiVersion": "mailferry.dev/v1alpha1", "kind": "MailMigration",
        "metadata": {"name": name, "annotations": {"example.test/padding": "x".repeat(padding)}},
        "spec": {"stage": "Sync", "domains": (0..domains).map(domain).collect::<Vec<_>>(),
            "destination": {"imap": {"host": "10.77.255.253", "tls": "None", "credentialsRef": {"name": "nothing"}}}}})
}

/// A Job with our labels that nobody of ours has made, and whose pods never come.
fn forged_job(n: usize, owner: Option<&Value>) -> Value {
    let mut metadata = ours(&format!("forged-{n}"), "greedy", &json!({}));
    for (label, value) in [
        (LABEL_COMPONENT, "worker".to_owned()),
        (LABEL_TASK, "discover".to_owned()),
        (LABEL_INPUTS, "x".to_owned()),
        (LABEL_NUMBER, "1".to_owned()),
        (LABEL_DOMAIN_DIGEST, digest(&["d0.greedy.test"])),
    ] {
        metadata["labels"][label] = json!(value);
    }
    if let Some(owner) = owner {
        metadata["ownerReferences"] = json!([owner]);
    }
    let container = json!({"name": "worker", "image": "localhost/busybox:1", "command": ["sleep", "3600"],
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}});
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {"template": {"spec": {
        "restartPolicy": "Never", "containers": [container],
        "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}}}}})
}

/// Makes many objects, some at a time.
fn fill(space: &Namespace, objects: &[Value]) {
    for some in objects.chunks(40) {
        space.try_apply(&list(some), &["--server-side"]).unwrap();
    }
}

/// All that somebody with every right in a namespace of their own can do; the most memory that the operator had meanwhile.
fn do_what_one_can(loud: &Namespace, quiet: &Namespace, operator: &Operator) -> u64 {
    let mut most = 0;
    loud.kubectl(&["create", "quota", "nothing", "--hard=pods=0"]);
    let results = discovery_results("greedy", "d0.greedy.test", 1);
    // With annotations of this size there is no room for the one that a client-side apply keeps.
    let greedy = [bomb(&results[0], "greedy"), migration("greedy", DOMAINS, 200_000)];
    fill(loud, &greedy);
    let owner = |space: &Namespace, name: &str| {
        let uid = space.json(&["get", "mm", name])["metadata"]["uid"].clone();
        json!({"apiVersion": "mailferry.dev/v1alpha1", "kind": "MailMigration", "name": name, "uid": uid,
            "controller": true})
    };
    // Nobody's; the tenant's own; and one that claims to be the other tenant's.
    let mut jobs: Vec<Value> = (0..16).map(|n| forged_job(n, None)).collect();
    jobs.extend((16..24).map(|n| forged_job(n, Some(&owner(loud, "greedy")))));
    let mut foreign = forged_job(24, Some(&owner(quiet, "move")));
    foreign["metadata"]["labels"]["mailferry.dev/migration"] = json!("move");
    foreign["metadata"]["labels"][LABEL_TASK] = json!("sync");
    jobs.push(foreign);
    fill(loud, &jobs);
    let padding = json!({"example.test/padding": "x".repeat(200_000)});
    let full = |n: usize| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": ours(&format!("full-{n}"), "greedy", &padding)});
    fill(loud, &(0..MANY).map(full).collect::<Vec<_>>());
    most = most.max(operator.resident());
    fill(loud, &(0..60).map(|n| migration(&format!("m{n}"), 2, 200_000)).collect::<Vec<_>>());
    most = most.max(operator.resident());
    // Its mind changes all the time.
    for n in 0..40 {
        let patch = json!({"spec": {"trigger": {"discover": n.to_string()}}}).to_string();
        loud.kubectl(&["patch", "mm", "greedy", "--type=merge", "-p", &patch]);
        most = most.max(operator.resident());
    }
    most
}

#[test]
fn a_tenant_that_does_what_it_can_is_not_noticed_by_another() {
    let pair = Pair::start(Cluster::get().host(), 300);
    let installed = Installed::new(None, &[]);
    let quiet = &installed.space;
    let loud = Namespace::new();
    installed.upgrade(&[&format!(r#"watchNamespaces=["{}","{}"]"#, quiet.name(), loud.name())]);
    let operator = Operator::of(quiet);
    let mut most = operator.resident();
    println!("the operator begins with {} MiB", most / (1024 * 1024));

    // The other's migration is under way before it begins.
    quiet.apply(&pair.manifest(6_000));
    quiet.wait_until("mail arrives", PATIENCE, || {
        match pair.arrived() {
            0 => Err("nothing"),
            _ => Ok(()),
        }
        .map_err(str::to_owned)
    });

    let leader = installed.leader();
    let mut unreadable = migration("wrong", 1, 0);
    unreadable["spec"]["checklist"] = json!({"mailboxes": 5_000_000_000_u64});
    let refused = loud.try_apply(&unreadable.to_string(), &[]).unwrap_err();
    assert!(refused.contains("spec.checklist.mailboxes") && refused.contains("4294967295"), "{refused}");

    most = most.max(do_what_one_can(&loud, quiet, &operator));

    // The other is carried to its end meanwhile, and a whole new one too, from discovery on.
    quiet.kubectl(&["patch", "mm", "move", "--type=merge", "-p", Pair::FAST]);
    let begun = Instant::now();
    installed.wait_for("move", "Ready", "True");
    pair.assert_moved_to(&pair.new);
    println!("the other's mail was through {:?} later", begun.elapsed());
    let begun = Instant::now();
    quiet.kubectl(&[
        "patch",
        "mm",
        "move",
        "--type=merge",
        "-p",
        r#"{"spec":{"trigger":{"discover":"2","sync":"2"}}}"#,
    ]);
    quiet.wait_until("a second pass is through", Duration::from_mins(1), || {
        let status = installed.migration("move")["status"].clone();
        let through = status["trigger"] == json!({"discover": "2", "sync": "2"});
        if through && status["pass"]["number"] == 2 { Ok(()) } else { Err(status.to_string()) }
    });
    println!("a second pass took {:?}", begun.elapsed());
    let named = quiet.kubectl(&["get", "events.events.k8s.io", "-o", "json"]);
    assert!(!named.contains("forged-24"), "a Job of another namespace is nobody's here");

    // The reason why the tenant waits is shown where it looks.
    let readies = || {
        let all = loud.json(&["get", "mm"])["items"].as_array().unwrap().clone();
        let ready = |object: &Value| {
            let ready = condition_of(object, "Ready")?;
            let of = |field: &str| ready[field].as_str().unwrap_or_default().to_owned();
            Some((object["metadata"]["name"].as_str()?.to_owned(), of("reason"), of("message")))
        };
        all.iter().filter_map(ready).collect::<Vec<_>>()
    };
    loud.wait_until("the tenant is told of the pods", PATIENCE, || {
        let all = readies();
        let refused = |(name, reason, message): &(String, String, String)| {
            reason == "PodRefused"
                && message.contains(&format!("The cluster makes no pod for Job {name}-discover-"))
        };
        if all.iter().any(refused) { Ok(()) } else { Err(format!("{all:?}")) }
    });
    // While it waits for a place among its own migrations, and before that, what it wrote itself is named.
    let events = loud.kubectl(&["get", "events.events.k8s.io", "-o", "json"]);
    assert!(events.contains(&format!(
        "ConfigMap {}: is larger than",
        discovery_results("greedy", "d0.greedy.test", 1)[0]
    )));
    let waiting = loud.json(&["get", "mm", "m59"]);
    println!("m59 says {}", condition_of(&waiting, "Ready").unwrap()["message"]);
    let own = loud.json(&["get", "jobs", "-l", "mailferry.dev/migration=greedy,mailferry.dev/task=discover"]);
    let begun = own["items"].as_array().unwrap().iter();
    let begun = begun.filter(|job| job["metadata"]["name"].as_str().unwrap().starts_with("greedy-")).count();
    assert!(begun <= 16, "{begun} Jobs of one migration");

    most = most.max(operator.resident());
    println!("the operator had {} MiB at most", most / (1024 * 1024));
    assert!(most < LIMIT, "{most}");
    assert_eq!(installed.leader(), leader, "the operator runs as before");
    let again = begin_anew(&installed, &leader.0);
    println!("a new operator had {} MiB at most", again / (1024 * 1024));
    assert!(again < LIMIT, "{again}");
    let log = quiet.kubectl(&["logs", "-l", "app.kubernetes.io/component=operator", "--tail=-1"]);
    assert!(!log.contains("xxxxxxxx") && !log.contains("10.77.255.254"), "a tenant's spec is in the log");
}

/// The most memory that an operator has which has all of it to read.
fn begin_anew(installed: &Installed, leader: &str) -> u64 {
    let space = &installed.space;
    space.kubectl(&["delete", "pods", "-l", "app.kubernetes.io/component=operator", "--wait=true"]);
    installed.wait_for_leader(leader);
    let deployment = format!("deployment/{}-mailferry", space.name());
    space.kubectl(&["rollout", "status", &deployment, "--timeout=120s"]);
    let (operator, begun) = (Operator::of(space), Instant::now());
    let mut most = 0;
    while begun.elapsed() < Duration::from_secs(20) {
        most = most.max(operator.resident());
        std::thread::sleep(Duration::from_millis(500));
    }
    let pods = space.json(&["get", "pods", "-l", "app.kubernetes.io/component=operator"]);
    for pod in pods["items"].as_array().unwrap() {
        assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0, "{}", pod["status"]);
    }
    most
}
