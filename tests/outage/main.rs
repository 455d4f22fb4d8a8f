//! The API server goes away for a minute in the middle of a migration, and comes back twice after that: mail goes on,
//! nothing fails, and nobody storms whoever comes back. All tests of a cluster feel it, so this binary has one test.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "../support/mod.rs"]
mod support;

#[path = "../kubernetes/operator/installed.rs"]
mod installed;
#[path = "../kubernetes/operator/node.rs"]
mod node;

use std::thread::sleep;
use std::time::{Duration, Instant};

use installed::{Installed, PATIENCE};
use node::Operator;
use support::cluster::{Cluster, Namespace};
use support::mixed::{Mixed, NAMES};

/// How long the API server is away.
const AWAY: Duration = Duration::from_mins(1);
/// How long its return is looked at.
const AFTER: Duration = Duration::from_mins(1);

fn at_the_destination(world: &Mixed) -> usize {
    NAMES.iter().map(|name| world.destination(name).read_all().messages()).sum()
}

#[track_caller]
fn assert_no_pod_failed(space: &Namespace) {
    let jobs = space.json(&["get", "jobs"]);
    for job in jobs["items"].as_array().unwrap() {
        let failed = job["status"]["failed"].as_u64().unwrap_or_default();
        assert_eq!(failed, 0, "{}: {}", job["metadata"]["name"], job["status"]);
    }
}

#[test]
fn mail_goes_on_while_the_api_server_is_away_and_its_return_is_no_storm() {
    let cluster = Cluster::get();
    let world = Mixed::start(cluster.host(), 200);
    let installed = Installed::new(Some(world.dns.addr()), &[]);
    let space = &installed.space;
    let manifest = world.manifest().replace("namespace: demo", &format!("namespace: {}", space.name()));
    let slow = manifest.replace("  policy:\n", "  policy:\n    limits: {bytesPerSecond: 18000}\n");
    assert_ne!(slow, manifest);
    space.apply(&slow);
    space.wait_until("mail arrives", PATIENCE, || match at_the_destination(&world) {
        0 => Err("nothing".to_owned()),
        _ => Ok(()),
    });
    let operator = Operator::of(space);

    let away = cluster.without("kube-apiserver");
    let begun = Instant::now();
    sleep(Duration::from_secs(10));
    let mut arrived = vec![at_the_destination(&world)];
    while begun.elapsed() < AWAY {
        sleep(Duration::from_secs(16));
        arrived.push(at_the_destination(&world));
    }
    println!("arrived while it was away: {arrived:?}");
    assert!(arrived.last().unwrap() < &200, "all was through too early to say anything");
    drop(away);
    assert!(arrived.windows(2).all(|two| two[0] < two[1]), "mail goes on: {arrived:?}");

    let answers = || space.try_kubectl(&["get", "--raw", "/readyz"]);
    space.wait_until("the API server is back", PATIENCE, answers);
    let back = Instant::now();
    // An operator that lost its lease begins anew, and counts from nothing.
    let mut last = operator.requests(&[]).unwrap_or_default();
    let mut made = 0;
    while back.elapsed() < AFTER {
        sleep(Duration::from_secs(5));
        let Some(now) = operator.requests(&[]) else { continue };
        made += if now >= last { now - last } else { now };
        last = now;
    }
    println!("{made} requests of the operator in {:?} after", back.elapsed());
    assert!(made < 10 * AFTER.as_secs(), "{made}");
    assert_no_pod_failed(space);

    for _ in 0..2 {
        drop(cluster.without("kube-apiserver"));
        space.wait_until("the API server is back", PATIENCE, answers);
    }
    space.wait_until("the manifest is taken", PATIENCE, || space.try_apply(&manifest, &[]));
    let done = space.wait_until("it is through", PATIENCE, || {
        let object = serde_json::from_str::<serde_json::Value>(
            &space.try_kubectl(&["get", "mm", "demo", "-o", "json"])?,
        )
        .map_err(|e| e.to_string())?;
        let ready = installed::condition_of(&object, "Ready");
        if ready.is_some_and(|ready| ready["status"] == "True") {
            Ok(object)
        } else {
            Err(object["status"].to_string())
        }
    });
    world.assert_moved();
    assert_eq!(done["status"]["messages"]["copied"], 200);
    assert_no_pod_failed(space);
    let events = space.json(&["get", "events.events.k8s.io"]);
    let events = events["items"].as_array().unwrap();
    let ours: Vec<String> = events
        .iter()
        .filter(|event| event["regarding"]["kind"] == "MailMigration")
        .map(|event| format!("{} {}", event["type"], event["note"]))
        .collect();
    println!("{ours:#?}");
    assert!(ours.len() <= 12, "minutes of progress are no Events: {ours:#?}");
    assert!(!ours.iter().any(|event| event.contains("InProgress")), "{ours:#?}");
}
