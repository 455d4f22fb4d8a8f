//! The spec changes while it is being carried out.

use std::thread::sleep;
use std::time::Duration;

use serde_json::json;

use crate::operator::history::{History, assert_one_job_a_mailbox};
use crate::operator::installed::{Installed, PATIENCE, condition_of};
use crate::operator::pair::{Pair, arrived, destination};
use crate::support::cluster::Cluster;

#[track_caller]
fn wait_for_mail(installed: &Installed, pair: &Pair) {
    let before = pair.arrived();
    installed.space.wait_until("more mail arrives", PATIENCE, || match pair.arrived() {
        count if count > before => Ok(()),
        count => Err(count.to_string()),
    });
}

/// Waits until no pod carries mailboxes.
#[track_caller]
fn wait_for_rest(installed: &Installed) {
    let space = &installed.space;
    space.wait_until("no pod carries", PATIENCE, || {
        let pods = space.kubectl(&["get", "pods", "--selector", "mailferry.dev/task=sync", "-o", "name"]);
        if pods.is_empty() { Ok(()) } else { Err(pods) }
    });
}

#[test]
fn a_destination_that_is_changed_in_flight_gets_everything_and_the_old_one_nothing_more() {
    let ip = Cluster::get().host();
    let pair = Pair::start(ip, 100);
    let right = destination(ip);
    let installed = Installed::new(None, &[]);
    let space = &installed.space;
    let (jobs, config_maps) = (History::of(space, "jobs"), History::of(space, "configmaps"));
    space.apply(&pair.manifest(3_000));
    wait_for_mail(&installed, &pair);
    let first = jobs.names();
    let mut wanted = pair.migration(10_000_000);
    wanted["spec"]["destination"]["imap"]["port"] = json!(right.imap().port());
    space.apply(&wanted.to_string());
    let alone = |names: &str| {
        first
            .iter()
            .any(|job| names.lines().any(|line| line.ends_with(&format!("/{job}")) && job.contains("-sync-")))
    };
    space.wait_until("the old Job is gone", PATIENCE, || {
        let names = space.kubectl(&["get", "jobs", "-o", "name"]);
        if alone(&names) { Err(names) } else { Ok(()) }
    });
    let wrong = pair.arrived();
    let done = installed.wait_for("move", "Ready", "True");
    assert_eq!(done["status"]["pass"]["number"], 2);
    pair.assert_moved_to(&right);
    assert_eq!(pair.arrived(), wrong, "the old destination is left alone");
    assert!(wrong < 100, "it was changed too late: {wrong}");
    assert_eq!(arrived(&right), 100, "nothing twice");
    assert_eq!(assert_one_job_a_mailbox(&jobs, &config_maps), 2);
}

#[test]
fn nonsense_and_suspension_in_flight_are_over_when_they_are_taken_back() {
    let pair = Pair::start(Cluster::get().host(), 120);
    let installed = Installed::new(None, &[]);
    let space = &installed.space;
    let (jobs, config_maps) = (History::of(space, "jobs"), History::of(space, "configmaps"));
    let good = pair.migration(4_000);
    space.apply(&pair.manifest(4_000));
    wait_for_mail(&installed, &pair);

    let mut nonsense = good.clone();
    let mut twice = nonsense["spec"]["domains"][0]["mailboxes"]["list"][0].clone();
    twice["address"] = json!("Anna@old.test");
    nonsense["spec"]["domains"][0]["mailboxes"]["list"].as_array_mut().unwrap().push(twice);
    space.apply(&nonsense.to_string());
    let stalled = installed.wait_for_reason("move", "InvalidConfiguration");
    let message = condition_of(&stalled, "Ready").unwrap()["message"].as_str().unwrap();
    assert!(message.contains("stands in the list already"), "{message}");
    assert_eq!(condition_of(&stalled, "Stalled").unwrap()["status"], "True");
    space.apply(&good.to_string());
    let well = installed.wait_for_reason("move", "InProgress");
    assert!(condition_of(&well, "Stalled").is_none_or(|stalled| stalled["status"] != "True"), "{well}");

    let suspend = |wanted: bool| {
        let patch = json!({"spec": {"suspend": wanted}}).to_string();
        space.kubectl(&["patch", "mm", "move", "--type=merge", "-p", &patch]);
    };
    wait_for_mail(&installed, &pair);
    suspend(true);
    let suspended = installed.wait_for_reason("move", "Suspended");
    assert_eq!(suspended["status"]["phase"], "Suspended");
    wait_for_rest(&installed);
    let rest = pair.arrived();
    sleep(Duration::from_secs(3));
    assert_eq!(pair.arrived(), rest, "nothing is sent while it is suspended");
    assert!(rest < 120, "it was suspended too late: {rest}");
    space.kubectl(&["patch", "mm", "move", "--type=merge", "-p", Pair::FAST]);
    suspend(false);
    let done = installed.wait_for("move", "Ready", "True");
    assert_eq!(
        (&done["status"]["pass"]["number"], &done["status"]["messages"]["copied"]),
        (&json!(1), &json!(120))
    );
    pair.assert_moved_to(&pair.new);
    assert_eq!(assert_one_job_a_mailbox(&jobs, &config_maps), 2, "before and after the suspension");
}

#[test]
fn applying_the_same_manifest_a_hundred_times_changes_nothing() {
    let pair = Pair::start(Cluster::get().host(), 100);
    let installed = Installed::new(None, &[]);
    let space = &installed.space;
    let (jobs, pods) = (History::of(space, "jobs"), History::of(space, "pods"));
    let manifest = pair.manifest(3_000);
    space.apply(&manifest);
    wait_for_mail(&installed, &pair);
    // Ten times ten documents: kubectl takes a while to start.
    let ten = vec![manifest; 10].join("\n---\n");
    for _ in 0..10 {
        let said = space.apply(&ten);
        assert_eq!(said.matches("mailmigration.mailferry.dev/move unchanged").count(), 10, "{said}");
    }
    assert!(pair.arrived() < 100, "it was over before all was said");
    wait_for_mail(&installed, &pair);
    let object = installed.migration("move");
    assert_eq!(
        (&object["metadata"]["generation"], &object["status"]["observedGeneration"]),
        (&json!(1), &json!(1))
    );
    assert_eq!((jobs.names().len(), pods.names().len()), (2, 2), "{:?}", pods.names());
    space.kubectl(&["patch", "mm", "move", "--type=merge", "-p", Pair::FAST]);
    installed.wait_for("move", "Ready", "True");
    pair.assert_moved_to(&pair.new);
}
