//! Pods that cannot start: what keeps them is said in a sentence, no Job is made in a loop, and once it is mended they
//! start without anybody's help.

use serde_json::{Value, json};

use crate::operator::history::History;
use crate::operator::installed::{Installed, condition_of};
use crate::operator::pair::Pair;
use crate::support::cluster::Cluster;

#[track_caller]
fn assert_said(installed: &Installed, reason: &str, parts: &[&str]) {
    let object = installed.wait_for_reason("move", reason);
    let ready = condition_of(&object, "Ready").unwrap();
    let message = ready["message"].as_str().unwrap();
    assert_eq!(ready["status"], "False");
    for part in parts {
        assert!(message.contains(part), "{message}");
    }
    assert!(message.ends_with('.') && message.len() < 600, "{message}");
}

#[test]
fn pods_without_a_node_or_an_image_are_told_of_and_start_when_the_installation_is_mended() {
    let pair = Pair::start(Cluster::get().host(), 20);
    let installed = Installed::new(None, &[]);
    let space = &installed.space;
    installed.upgrade(&[r#"workers.resources={"requests":{"cpu":"100"}}"#]);
    let jobs = History::of(space, "jobs");
    space.apply(&pair.manifest(10_000_000));
    assert_said(&installed, "PodUnschedulable", &["No node takes the worker's pod", "Insufficient cpu"]);
    assert_eq!(jobs.names().len(), 1);

    // A state that no value of the chart can cause by mistake: workers of another image than the operator's.
    let deployment = space.json(&["get", "deployment", &format!("{}-mailferry", space.name())]);
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let place = |list: &str, test: &dyn Fn(&Value) -> bool| {
        container[list].as_array().unwrap().iter().position(test).unwrap()
    };
    let image = place("args", &|arg| arg.as_str().unwrap().starts_with("--image="));
    let resources = place("env", &|variable| variable["name"] == "MAILFERRY_WORKER_RESOURCES");
    let at = "/spec/template/spec/containers/0";
    let patch = json!([
        {"op": "replace", "path": format!("{at}/args/{image}"), "value": "--image=localhost/no/such/image:1"},
        {"op": "replace", "path": format!("{at}/env/{resources}/value"), "value": "{}"},
    ]);
    let name = format!("deployment/{}-mailferry", space.name());
    space.kubectl(&["patch", &name, "--type=json", "-p", &patch.to_string()]);
    assert_said(
        &installed,
        "ImagePullFailed",
        &["The image localhost/no/such/image:1 of the workers cannot be had", "image.repository"],
    );
    installed.upgrade(&[r#"workers.resources={"requests":{"cpu":"10m"}}"#]);
    installed.wait_for("move", "Ready", "True");
    pair.assert_moved_to(&pair.new);
    // Discovery once for each way in which the installation makes pods, and one sync.
    assert!((2..=4).contains(&jobs.names().len()), "{:?}", jobs.names());
}

#[test]
fn pods_that_a_quota_refuses_are_told_of_and_start_when_there_is_room() {
    let pair = Pair::start(Cluster::get().host(), 20);
    let installed = Installed::new(None, &[]);
    let space = &installed.space;
    let jobs = History::of(space, "jobs");
    // The operator's own.
    space.kubectl(&["create", "quota", "few", "--hard=pods=1"]);
    space.apply(&pair.manifest(10_000_000));
    assert_said(
        &installed,
        "PodRefused",
        &["The cluster makes no pod for Job move-discover-", "kubectl describe job"],
    );
    assert_eq!(jobs.names().len(), 1);
    space.kubectl(&["delete", "quota", "few"]);
    installed.wait_for("move", "Ready", "True");
    pair.assert_moved_to(&pair.new);
    assert_eq!(jobs.names().len(), 2, "{:?}", jobs.names());
}
