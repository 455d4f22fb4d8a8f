//! `spec.schedule` in a cluster: the operator begins pass after pass by itself, and nothing while no window is open.

use jiff::{SignedDuration, Timestamp};
use mailferry::discovery::Clock;
use mailferry::local::clock::SystemClock;
use serde_json::{Value, json};

use crate::operator::installed::{Installed, PATIENCE, condition_of};
use crate::operator::pair::{Pair, list};
use crate::support::cluster::Cluster;
use crate::support::corpus::Corpus;

/// All that is to be applied, with a schedule.
fn manifest(pair: &Pair, schedule: &Value) -> String {
    let mut migration = pair.migration(10_000_000);
    migration["spec"]["schedule"] = schedule.clone();
    list(&[Pair::source_secret("secret"), Pair::destination_secret(), migration])
}

fn moment(value: &Value) -> Timestamp {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no moment: {value}"))
}

/// Waits until a pass of this number or a later one is through; the migration.
#[track_caller]
fn wait_for_pass(installed: &Installed, number: u64) -> Value {
    installed.space.wait_until(&format!("pass {number} is through"), PATIENCE, || {
        let object = installed.migration("move");
        let pass = &object["status"]["pass"];
        let is_through = pass["number"].as_u64() >= Some(number) && pass["ended"].is_string();
        if is_through { Ok(object) } else { Err(object["status"].to_string()) }
    })
}

#[test]
fn the_next_pass_begins_by_itself_and_carries_what_came_meanwhile() {
    let pair = Pair::start(Cluster::get().host(), 20);
    let installed = Installed::new(None, &[]);
    let space = &installed.space;
    space.apply(&manifest(&pair, &json!({"every": "20s"})));
    let first = wait_for_pass(&installed, 1);
    let status = &first["status"];
    assert!(status["pass"]["number"].as_u64() < Some(3), "{status}");
    let discovered = discoveries(&installed);

    pair.old.mailbox("anna@old.test").seed(Corpus::new(75).inbox_only().ordinary_only().messages(1));
    let came = first["status"]["pass"]["number"].as_u64().unwrap();
    let later = wait_for_pass(&installed, came + 2);
    pair.assert_moved_to(&pair.new);
    assert_eq!(pair.arrived(), 21, "each message once");
    let pass = &later["status"]["pass"];
    let (began, ended) = (moment(&pass["began"]), moment(&pass["ended"]));
    assert!(began <= ended, "{pass}");
    if let Some(next) = later["status"]["schedule"]["next"].as_str() {
        let next: Timestamp = next.parse().unwrap();
        assert!(next.duration_since(began) >= SignedDuration::from_secs(20), "{next} after {began}");
        let ready = condition_of(&later, "Ready").unwrap()["message"].as_str().unwrap();
        assert!(ready.contains("The next pass begins at "), "{ready}");
    }
    assert_eq!(discoveries(&installed), discovered, "nobody looks again at what is known");
    // Jobs that have a successor are taken away.
    let jobs = space.json(&["get", "jobs", "--selector", "mailferry.dev/task=sync"]);
    assert!(jobs["items"].as_array().unwrap().len() <= 3, "{jobs}");

    // Another process of the operator goes on where this one ended.
    let leader = installed.leader().0;
    space.kubectl(&["delete", "pod", leader.split_once('_').unwrap().0, "--grace-period=0", "--force"]);
    installed.wait_for_leader(&leader);
    let number = installed.migration("move")["status"]["pass"]["number"].as_u64().unwrap();
    wait_for_pass(&installed, number + 1);
    assert_eq!(pair.arrived(), 21, "nothing is sent again");

    // Suspended, nothing follows.
    space.kubectl(&["patch", "mm", "move", "--type=merge", "-p", r#"{"spec":{"suspend":true}}"#]);
    let suspended = installed.wait_for_reason("move", "Suspended");
    assert_eq!(suspended["status"]["schedule"], Value::Null);
    space.kubectl(&[
        "patch",
        "mm",
        "move",
        "--type=merge",
        "-p",
        r#"{"spec":{"suspend":false,"schedule":null}}"#,
    ]);
    installed.wait_for("move", "Ready", "True");
    installed.assert_no_orphan("move");
}

/// The Jobs that look at domains.
fn discoveries(installed: &Installed) -> Vec<String> {
    let found = installed.space.json(&["get", "jobs", "--selector", "mailferry.dev/task=discover"]);
    let name = |job: &Value| job["metadata"]["name"].as_str().unwrap().to_owned();
    found["items"].as_array().unwrap().iter().map(name).collect()
}

#[test]
fn a_pass_waits_until_a_window_opens() {
    let pair = Pair::start(Cluster::get().host(), 10);
    let installed = Installed::new(None, &[]);
    let space = &installed.space;
    let [from, to] = [2, 3]
        .map(|hours| (SystemClock.now() + SignedDuration::from_hours(hours)).strftime("%H:%M").to_string());
    space.apply(&manifest(&pair, &json!({"windows": [{"from": from, "to": to}]})));
    let waiting = installed.wait_for_reason("move", "WindowClosed");
    assert_eq!(waiting["status"]["phase"], "Paused");
    assert!(
        moment(&waiting["status"]["schedule"]["next"]) > SystemClock.now() + SignedDuration::from_mins(90)
    );
    let jobs = space.json(&["get", "jobs", "--selector", "mailferry.dev/task=sync"]);
    assert_eq!((jobs["items"].as_array().unwrap().len(), pair.arrived()), (0, 0), "{jobs}");

    // The API server refuses what could never be.
    for (schedule, word) in [
        (json!({"every": "5s"}), "5s is not between 10s and 8760h"),
        (json!({"windows": [{"from": "20:00", "to": "20:00"}]}), "it never opens"),
    ] {
        let patch = json!({"spec": {"schedule": schedule}}).to_string();
        let refused = space.try_kubectl(&["patch", "mm", "move", "--type=merge", "-p", &patch]).unwrap_err();
        assert!(refused.contains(word), "{refused}");
    }
    // A zone that nobody knows is told in the condition, with its remedy.
    let unknown = json!({"spec": {"schedule": {"windows": [{"from": "00:00", "to": "24:00", "timeZone": "Europe/Berln"}]}}});
    space.kubectl(&["patch", "mm", "move", "--type=merge", "-p", &unknown.to_string()]);
    let stalled = installed.wait_for("move", "Stalled", "True");
    let message = condition_of(&stalled, "Stalled").unwrap()["message"].as_str().unwrap();
    assert!(message.contains("did you mean Europe/Berlin?"), "{message}");

    space.kubectl(&["patch", "mm", "move", "--type=merge", "-p", r#"{"spec":{"schedule":null}}"#]);
    installed.wait_for("move", "Ready", "True");
    pair.assert_moved_to(&pair.new);
    installed.assert_no_orphan("move");
}
