//! Workers die: killed, evicted, out of memory. Others take their places, and nothing arrives twice.

use serde_json::{Value, json};

use crate::operator::history::History;
use crate::operator::installed::{Installed, PATIENCE, condition_of};
use crate::operator::pair::Pair;
use crate::support::cluster::Cluster;

/// The pod that carries mailboxes now, once mail has come since.
#[track_caller]
fn working_pod(installed: &Installed, pair: &Pair) -> Value {
    let before = pair.arrived();
    let space = &installed.space;
    space.wait_until("more mail arrives", PATIENCE, || match pair.arrived() {
        count if count > before => Ok(()),
        count => Err(count.to_string()),
    });
    space.wait_until("a pod carries", PATIENCE, || {
        let pods = space.json(&["get", "pods", "--selector", "mailferry.dev/task=sync"]);
        let works = |pod: &&Value| {
            pod["status"]["phase"] == "Running" && pod["metadata"]["deletionTimestamp"].is_null()
        };
        pods["items"].as_array().unwrap().iter().find(works).cloned().ok_or_else(|| pods.to_string())
    })
}

fn name(pod: &Value) -> &str {
    pod["metadata"]["name"].as_str().unwrap()
}

#[test]
fn workers_that_are_killed_or_evicted_are_followed_by_others() {
    let pair = Pair::start(Cluster::get().host(), 160);
    let installed = Installed::new(None, &[]);
    let space = &installed.space;
    let jobs = History::of(space, "jobs");
    space.apply(&pair.manifest(5_000));

    let pod = working_pod(&installed, &pair);
    let evict = |pod: &Value| {
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name(pod), "namespace": space.name()}});
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), eviction.to_string()).unwrap();
        let path = format!("/api/v1/namespaces/{}/pods/{}/eviction", space.name(), name(pod));
        space.cluster().kubectl(&["create", "--raw", &path, "-f", &file.path().display().to_string()]);
    };
    evict(&pod);
    let pod = working_pod(&installed, &pair);
    let count = |pod: &Value, what: &str| {
        pod["metadata"]["annotations"][format!("batch.kubernetes.io/job-index-{what}-count")].clone()
    };
    assert_eq!(
        (count(&pod, "failure"), count(&pod, "ignored-failure")),
        (json!("0"), json!("1")),
        "an eviction is nobody's failure"
    );
    space.kubectl(&["delete", "pod", name(&pod), "--grace-period=0", "--force"]);
    let pod = working_pod(&installed, &pair);
    installed.kill(name(&pod));
    space.wait_until("another takes its place", PATIENCE, || {
        let pod = working_pod(&installed, &pair);
        if count(&pod, "failure") == "0" { Err(pod["metadata"].to_string()) } else { Ok(()) }
    });
    assert_eq!(jobs.names().len(), 2, "one Job sees it through: {:?}", jobs.names());
    space.kubectl(&["patch", "mm", "move", "--type=merge", "-p", Pair::FAST]);
    let done = installed.wait_for("move", "Ready", "True");
    pair.assert_moved_to(&pair.new);
    assert_eq!(done["status"]["messages"]["copied"], 160);
    assert_eq!(pair.arrived(), 160, "nothing twice");
}

#[test]
fn a_worker_out_of_memory_is_told_of_and_more_memory_is_all_it_takes() {
    let pair = Pair::start(Cluster::get().host(), 20);
    let little = r#"workers.resources={"requests":{"cpu":"10m","memory":"4Mi"},"limits":{"memory":"4Mi"}}"#;
    let installed = Installed::new(None, &[]);
    installed.upgrade(&[little]);
    let space = &installed.space;
    space.apply(&pair.manifest(10_000_000));
    // Under load the container runtime misses which of the signals it was.
    let wanted = "more memory than it may. Raise workers.resources of the installation";
    space.wait_until("the want of memory is told", PATIENCE, || {
        let migration = installed.migration("move");
        let ready = condition_of(&migration, "Ready").cloned().unwrap_or_default();
        let told = ready["message"].as_str().is_some_and(|message| message.contains(wanted));
        if told { Ok(()) } else { Err(ready.to_string()) }
    });
    // By now another try might do. Later, when all tries are used up, more memory is still all that it takes.
    let stalled = space.wait_until("all tries are used up", PATIENCE * 2, || {
        let migration = installed.migration("move");
        let stalled = condition_of(&migration, "Stalled").is_some_and(|found| found["status"] == "True");
        if stalled { Ok(migration) } else { Err(migration["status"]["conditions"].to_string()) }
    });
    let discovered = condition_of(&stalled, "Discovered").unwrap();
    assert_eq!(discovered["status"], "False", "{discovered}");
    assert!(discovered["message"].as_str().unwrap().contains("more memory than it may"), "{discovered}");
    let more = r#"workers.resources={"requests":{"cpu":"10m","memory":"64Mi"},"limits":{"memory":"256Mi"}}"#;
    installed.upgrade(&[more]);
    installed.wait_for("move", "Ready", "True");
    pair.assert_moved_to(&pair.new);
}
