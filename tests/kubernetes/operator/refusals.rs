//! Refusals by the cluster: they are reported with the API server's words, they keep nothing that must end from being
//! ended, and objects that are there already are not made again.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;

use crate::operator::installed::{Installed, PATIENCE, condition_of};
use crate::operator::pair::Pair;
use crate::support::cluster::{Cluster, Namespace};

/// An admission policy of one namespace, gone with the value.
struct Policy<'a> {
    space: &'a Namespace,
    name: String,
}

impl<'a> Policy<'a> {
    /// Refuses updates of these subresources.
    fn refusing(space: &'a Namespace, resources: &[&str]) -> Self {
        let name = format!("refuse-{}", space.name());
        let policy = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name}, "spec": {"failurePolicy": "Fail",
                "matchConstraints": {"resourceRules": [{"apiGroups": ["mailferry.dev"], "apiVersions": ["*"],
                    "operations": ["UPDATE"], "resources": resources}]},
                "validations": [{"expression": "false", "message": "no status is written here"}]}});
        let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name}, "spec": {"policyName": name,
                "validationActions": ["Deny"], "matchResources": {"namespaceSelector": {"matchLabels":
                    {"kubernetes.io/metadata.name": space.name()}}}}});
        for object in [policy, binding] {
            space.cluster().try_apply(&object.to_string(), &[]).unwrap();
        }
        Self { space, name }
    }
}

impl Drop for Policy<'_> {
    fn drop(&mut self) {
        for kind in ["validatingadmissionpolicybinding", "validatingadmissionpolicy"] {
            let _ = self.space.cluster().try_kubectl(&["delete", kind, &self.name, "--ignore-not-found"]);
        }
    }
}

/// Whether no pod carries mailboxes.
fn rests(space: &Namespace) -> Result<(), String> {
    let pods = space.try_kubectl(&["get", "pods", "-l", "mailferry.dev/task=sync", "-o", "name"])?;
    if pods.is_empty() { Ok(()) } else { Err(pods) }
}

#[test]
fn workers_are_ended_although_no_status_can_be_written() {
    let pair = Pair::start(Cluster::get().host(), 200);
    let installed = Installed::new(None, &[]);
    let space = &installed.space;
    let begin = || {
        let before = pair.arrived();
        space.wait_until("mail arrives", PATIENCE, || match pair.arrived() {
            now if now > before => Ok(()),
            now => Err(now.to_string()),
        });
    };
    space.apply(&pair.manifest(3_000));
    begin();
    let policy = Policy::refusing(space, &["mailmigrations/status", "mailboxmigrations/status"]);
    // The policy is at work when a write of ours is refused.
    space.wait_until("no status can be written", PATIENCE, || {
        let patch = r#"{"status":{"phase":"Stalled"}}"#;
        let args = ["patch", "mm", "move", "--subresource=status", "--type=merge", "-p", patch];
        match space.try_kubectl(&args) {
            Err(why) if why.contains("no status is written here") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    space.kubectl(&["patch", "mm", "move", "--type=merge", "-p", r#"{"spec":{"suspend":true}}"#]);
    space.wait_until("no pod carries", PATIENCE, || rests(space));
    let rest = pair.arrived();
    assert!(rest < 200, "it was suspended too late: {rest}");
    drop(policy);
    let suspended = installed.wait_for_reason("move", "Suspended");
    assert_eq!(suspended["status"]["phase"], "Suspended");
    space.kubectl(&["patch", "mm", "move", "--type=merge", "-p", r#"{"spec":{"suspend":false}}"#]);
    space.kubectl(&["patch", "mm", "move", "--type=merge", "-p", Pair::FAST]);
    installed.wait_for("move", "Ready", "True");
    pair.assert_moved_to(&pair.new);
}

#[test]
fn what_a_quota_refuses_is_told_in_the_api_servers_words_and_what_is_there_is_not_made_again() {
    let pair = Pair::start(Cluster::get().host(), 20);
    let installed = Installed::new(None, &[]);
    let space = &installed.space;
    space.kubectl(&["create", "quota", "jobs", "--hard=count/jobs.batch=0"]);
    space.apply(&pair.manifest(10_000_000));
    let told = installed.wait_for_reason("move", "ClusterRefuses");
    let message = condition_of(&told, "Ready").unwrap()["message"].as_str().unwrap();
    assert!(message.contains("cannot be made") && message.contains("exceeded quota: jobs"), "{message}");
    space.wait_until("an Event tells it", PATIENCE, || {
        let events = space.try_kubectl(&["get", "events.events.k8s.io", "-o", "json"])?;
        if events.contains("ClusterRefuses") { Ok(()) } else { Err(events) }
    });
    // A namespace in which just what is needed is allowed.
    space.kubectl(&["delete", "quota", "jobs"]);
    space.kubectl(&[
        "create",
        "quota",
        "volume",
        "--hard=persistentvolumeclaims=1,requests.storage=10Gi,count/configmaps=20",
    ]);
    installed.wait_for("move", "Ready", "True");
    pair.assert_moved_to(&pair.new);
    let used = space.json(&["get", "quota", "volume"])["status"]["used"].clone();
    assert_eq!(
        (&used["persistentvolumeclaims"], &used["requests.storage"]),
        (&json!("1"), &json!("10Gi")),
        "{used}"
    );
    let pass = |number: u64| {
        let patch = json!({"spec": {"trigger": {"sync": number.to_string()}}}).to_string();
        space.kubectl(&["patch", "mm", "move", "--type=merge", "-p", &patch]);
        space.wait_until("the next pass is through", PATIENCE, || {
            let status = installed.migration("move")["status"].clone();
            let through = status["trigger"]["sync"].as_str() == Some(&number.to_string());
            if through && status["pass"]["number"] == number { Ok(()) } else { Err(status.to_string()) }
        });
    };
    pass(2);

    // Another size is told, and ends nothing; the claim that somebody deletes goes, and comes again.
    let jobs = space.kubectl(&["get", "jobs", "-o", "name"]);
    let patch = r#"{"spec":{"ledger":{"sqlite":{"size":"20Gi"}}}}"#;
    space.kubectl(&["patch", "mm", "move", "--type=merge", "-p", patch]);
    space.wait_until("the size is told", PATIENCE, || {
        let events = space.try_kubectl(&["get", "events.events.k8s.io", "-o", "json"])?;
        if events.contains("LedgerKeepsItsSize") { Ok(()) } else { Err(events) }
    });
    assert_eq!(space.kubectl(&["get", "jobs", "-o", "name"]), jobs, "no Job is ended for it");
    space.kubectl(&[
        "patch",
        "mm",
        "move",
        "--type=merge",
        "-p",
        r#"{"spec":{"ledger":{"sqlite":{"size":"10Gi"}}}}"#,
    ]);
    let claim = space.kubectl(&["get", "pvc", "move-ledger", "-o", "jsonpath={.metadata.uid}"]);
    space.kubectl(&["delete", "pvc", "move-ledger", "--wait=false"]);
    pass(3);
    assert_ne!(space.kubectl(&["get", "pvc", "move-ledger", "-o", "jsonpath={.metadata.uid}"]), claim);
    pair.assert_moved_to(&pair.new);
}

/// The answer of an operator's pod at `/readyz`.
fn readyz(space: &Namespace) -> Result<String, String> {
    let pods = space.json(&["get", "pods", "-l", "app.kubernetes.io/component=operator"]);
    let mut running =
        pods["items"].as_array().unwrap().iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    let address = running.find_map(|pod| pod["status"]["podIP"].as_str()).ok_or("no pod runs")?;
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect((address, 8080))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: operator\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    ask().map_err(|why| why.to_string())
}

#[test]
fn an_operator_that_lacks_a_right_says_which_and_is_ready_when_it_has_it() {
    let installed = Installed::new(None, &[]);
    let space = &installed.space;
    let role = format!("{}-mailferry", space.name());
    let rules = space.json(&["get", "role", &role])["rules"].clone();
    let fewer: Vec<_> = rules
        .as_array()
        .unwrap()
        .iter()
        .filter(|rule| rule["resources"] != json!(["pods"]))
        .cloned()
        .collect();
    let set = |rules: &serde_json::Value| {
        space.kubectl(&["patch", "role", &role, "--type=merge", "-p", &json!({"rules": rules}).to_string()]);
    };
    set(&json!(fewer));
    space.kubectl(&["delete", "pods", "-l", "app.kubernetes.io/component=operator", "--wait=true"]);
    let told = space.wait_until("it is not ready, and says why", PATIENCE, || match readyz(space) {
        Ok(told) if told.contains("pods of") => Ok(told),
        other => Err(format!("{other:?}")),
    });
    assert!(told.starts_with("HTTP/1.1 503") && told.contains("cannot list resource"), "{told}");
    std::thread::sleep(Duration::from_secs(20));
    let log = space.kubectl(&["logs", "-l", "app.kubernetes.io/component=operator", "--tail=-1"]);
    let said = log.lines().filter(|line| line.contains("forbidden")).count();
    assert!((1..=2).contains(&said), "once a minute at most, and it was {said} times: {log}");
    set(&rules);
    space.wait_until("it is ready", PATIENCE, || match readyz(space) {
        Ok(told) if told.contains("ok: leader") => Ok(()),
        other => Err(format!("{other:?}")),
    });
}
