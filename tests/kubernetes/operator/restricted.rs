//! Every pod meets the Pod Security Standard `restricted` without a warning, and what this house asks beyond it.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::operator::installed::Installed;
use crate::operator::story::manifest_in;
use crate::support::cluster::{Cluster, Namespace};
use crate::support::mixed::Mixed;

/// Runs a command to its end, with some input; what it says beside its answer.
#[track_caller]
fn complaints(command: &mut Command, input: &str) -> String {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.success(), "{command:?}: {said}");
    said
}

/// The API server's answer to an object like this one.
#[track_caller]
fn said_to(space: &Namespace, object: &Value) -> String {
    let mut like = object.clone();
    like["metadata"] = json!({"name": "like-it"});
    like["status"] = Value::Null;
    if object["kind"] == "Job" {
        // Kubernetes gave it both, for itself alone.
        like["spec"]["selector"] = Value::Null;
        like["spec"]["template"]["metadata"] = json!({});
    }
    let mut command = space.command("kubectl");
    complaints(command.args(["create", "--dry-run=server", "-f", "-"]), &like.to_string())
}

/// The requirements that a pod at the API server does not meet; each a word.
fn violations(pod: &Value, token: bool) -> Vec<String> {
    let spec = &pod["spec"];
    let mut found = Vec::new();
    let mut ask = |holds: bool, what: &str| {
        if !holds {
            found.push(what.to_owned());
        }
    };
    let whole = &spec["securityContext"];
    ask(whole["runAsNonRoot"] == true && whole["runAsUser"] == 65532, "runAsNonRoot");
    ask(whole["seccompProfile"]["type"] == "RuntimeDefault", "seccompProfile");
    ask(spec["automountServiceAccountToken"] == token, "automountServiceAccountToken");
    ask(spec["enableServiceLinks"] == false, "enableServiceLinks");
    for shared in ["hostNetwork", "hostPID", "hostIPC"] {
        ask(spec[shared].is_null() || spec[shared] == false, shared);
    }
    for volume in spec["volumes"].as_array().unwrap() {
        ask(volume["hostPath"].is_null(), "hostPath");
    }
    let containers = spec["containers"].as_array().unwrap();
    ask(containers.len() == 1 && spec["initContainers"].is_null(), "containers");
    for container in containers {
        let own = &container["securityContext"];
        ask(own["readOnlyRootFilesystem"] == true, "readOnlyRootFilesystem");
        ask(own["allowPrivilegeEscalation"] == false, "allowPrivilegeEscalation");
        ask(own["capabilities"] == json!({"drop": ["ALL"]}), "capabilities");
        let resources = &container["resources"];
        ask(!resources["limits"]["memory"].is_null(), "limits");
        ask(
            !resources["requests"]["cpu"].is_null() && !resources["requests"]["memory"].is_null(),
            "requests",
        );
        let from_secret = |variable: &Value| !variable["valueFrom"]["secretKeyRef"].is_null();
        ask(!container["env"].as_array().unwrap().iter().any(from_secret), "a Secret in the environment");
    }
    found
}

#[test]
fn every_pod_is_restricted_without_a_warning() {
    let world = Mixed::start(Cluster::get().host(), 60);
    let installed = Installed::new(Some(world.dns.addr()), &[]);
    let space = &installed.space;
    let labels = space.json(&["get", "namespace", space.name()])["metadata"]["labels"].clone();
    for mode in ["enforce", "warn"] {
        assert_eq!(labels[format!("pod-security.kubernetes.io/{mode}")], "restricted");
    }
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/mailferry").display().to_string();
    let mut helm = space.command("helm");
    let helm = helm.args([
        "upgrade",
        space.name(),
        &chart,
        "--reuse-values",
        "--set",
        "podLabels.again=yes",
        "--wait",
    ]);
    let said = complaints(helm, "");
    assert!(!said.to_lowercase().contains("warning"), "helm says: {said}");
    let mut apply = space.command("kubectl");
    let said = complaints(apply.args(["apply", "-f", "-"]), &manifest_in(&world, space.name()));
    assert_eq!(said, "", "kubectl apply says something");
    installed.wait_for("demo", "Ready", "True");

    let deployment = &space.json(&["get", "deployments"])["items"][0];
    assert_eq!(said_to(space, deployment), "");
    let jobs = space.json(&["get", "jobs"]);
    let jobs = jobs["items"].as_array().unwrap();
    assert_eq!(jobs.len(), 6, "one to look and one to carry, for each domain");
    for job in jobs {
        assert_eq!(said_to(space, job), "");
    }
    let pods = space.json(&["get", "pods"]);
    let (mut workers, mut operators) = (0, 0);
    for pod in pods["items"].as_array().unwrap() {
        let worker = pod["metadata"]["labels"]["app.kubernetes.io/component"] == "worker";
        if worker {
            workers += 1;
        } else {
            operators += 1;
        }
        assert_eq!(violations(pod, !worker), [""; 0], "{}", pod["metadata"]["name"]);
    }
    assert!(workers >= 6 && operators >= 1, "{workers} workers, {operators} operators");

    // Both eyes see.
    let mut bad = jobs[0].clone();
    bad["spec"]["template"]["spec"]["hostNetwork"] = json!(true);
    assert!(said_to(space, &bad).contains("would violate PodSecurity"));
    let mut bad = pods["items"][0].clone();
    bad["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"] = json!(false);
    bad["spec"]["containers"][0]["resources"] = json!({});
    assert_eq!(violations(&bad, bad["spec"]["automountServiceAccountToken"] == true).len(), 3);
}
