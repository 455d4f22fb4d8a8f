//! A changed value of `spec.trigger.verify` holds both sides against each other once more, in pods of its own.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::ferry::files;
use crate::operator::installed::{Installed, PATIENCE, condition_of};
use crate::operator::pair::{NAMES, Pair, list};
use crate::support::cluster::Cluster;

/// All that is to be applied; arrivals are compared byte by byte.
fn manifest(pair: &Pair) -> String {
    let mut migration = pair.migration(10_000_000);
    migration["spec"]["policy"]["verify"] = json!("Full");
    list(&[Pair::source_secret("secret"), Pair::destination_secret(), migration])
}

fn ask(installed: &Installed, trigger: &Value) {
    let patch = json!({"spec": {"trigger": trigger}}).to_string();
    installed.space.kubectl(&["patch", "mm", "move", "--type=merge", "-p", &patch]);
}

/// Waits until the work for these values is done; the migration.
#[track_caller]
fn wait_for_trigger(installed: &Installed, wanted: &Value) -> Value {
    installed.space.wait_until("the wishes are fulfilled", PATIENCE, || {
        let object = installed.migration("move");
        if object["status"]["trigger"] == *wanted { Ok(object) } else { Err(object["status"].to_string()) }
    })
}

/// Status and reason of a condition.
fn told(object: &Value, name: &str) -> (String, String) {
    let found = condition_of(object, name).unwrap_or_else(|| panic!("no {name} in {object}"));
    (found["status"].as_str().unwrap().to_owned(), found["reason"].as_str().unwrap().to_owned())
}

fn is(status: &str, reason: &str) -> (String, String) {
    (status.to_owned(), reason.to_owned())
}

/// The object of a mailbox.
fn mailbox(installed: &Installed, name: &str) -> Value {
    let all = installed.space.json(&["get", "mbm"]);
    let source = format!("{name}@old.test");
    all["items"].as_array().unwrap().iter().find(|object| object["spec"]["source"] == source).unwrap().clone()
}

/// The names and the numbers of the Jobs that verify.
fn jobs(installed: &Installed) -> Vec<(String, String)> {
    let found = installed.space.json(&["get", "jobs", "--selector", "mailferry.dev/task=verify"]);
    let number = |job: &Value| job["metadata"]["labels"]["mailferry.dev/number"].as_str().unwrap().to_owned();
    let name = |job: &Value| job["metadata"]["name"].as_str().unwrap().to_owned();
    found["items"].as_array().unwrap().iter().map(|job| (name(job), number(job))).collect()
}

/// The output of a command of ours for the migration in the cluster.
fn ours(installed: &Installed, command: &str, args: &[&str]) -> Value {
    let mut ours = Command::new(env!("CARGO_BIN_EXE_mailferry"));
    ours.args([command, "-n", installed.space.name(), "move"]).args(args).stdin(Stdio::null());
    let output = ours.env("KUBECONFIG", installed.space.cluster().kubeconfig()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Removes the first message of a mailbox at the destination, and changes another where it lies: its length stays.
fn damage(pair: &Pair, name: &str) {
    let user = format!("{name}@new.test");
    let mut client = pair.new.mailbox(&user);
    client.select("INBOX").unwrap();
    client.command("STORE 1 +FLAGS.SILENT (\\Deleted)").unwrap();
    client.command("EXPUNGE").unwrap();
    drop(client);
    let is_message = |path: &std::path::PathBuf| {
        let directory = path.parent().and_then(|directory| directory.file_name());
        directory.is_some_and(|directory| directory == "cur" || directory == "new")
    };
    let path = files(&pair.new.home(&user)).into_iter().find(is_message).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.iter().rposition(u8::is_ascii_alphabetic).unwrap();
    bytes[at] ^= 0x20;
    fs::write(path, bytes).unwrap();
}

#[test]
#[allow(
    clippy::too_many_lines,
    reason = "one migration from its first pass to its second, and every output at each step"
)]
fn a_changed_value_verifies_in_the_cluster_and_every_output_tells_what_it_found() {
    let pair = Pair::start(Cluster::get().host(), 20);
    let installed = Installed::new(None, &[]);
    let space = &installed.space;
    space.apply(&manifest(&pair));
    let done = installed.wait_for("move", "Ready", "True");
    assert_eq!(told(&done, "Verified").0, "True");
    assert_eq!(done["status"]["pass"]["verification"], Value::Null);

    damage(&pair, "anna");
    ask(&installed, &json!({"verify": "1"}));
    space.kubectl(&["wait", "mm/move", "--for=jsonpath={.status.trigger.verify}=1", "--timeout=180s"]);
    let seen = installed.migration("move");
    println!("{}", seen["status"]["conditions"]);
    assert_eq!(told(&seen, "Verified"), is("False", "Differences"));
    assert_eq!(told(&seen, "Ready"), is("False", "MessagesFailed"));
    assert_eq!((told(&seen, "Synced").0.as_str(), &seen["status"]["phase"]), ("True", &json!("Synced")));
    assert!(condition_of(&seen, "Reconciling").is_none(), "{}", seen["status"]);
    let pass = &seen["status"]["pass"];
    assert_eq!(
        (&pass["number"], &pass["verification"], &pass["verify"]),
        (&json!(1), &json!(1), &json!("1"))
    );
    let counts = &seen["status"]["counts"];
    assert_eq!((&counts["synced"], &counts["verified"]), (&json!(2), &json!(1)), "{counts}");
    let numbers: BTreeSet<String> = jobs(&installed).into_iter().map(|(_, number)| number).collect();
    assert_eq!(numbers, BTreeSet::from(["1".to_owned()]));

    let anna = mailbox(&installed, "anna")["status"].clone();
    let figures = |status: &Value| {
        ["checked", "identical", "altered", "missing"]
            .map(|name| status["verification"]["found"][name].clone())
    };
    assert_eq!(figures(&anna), [json!(10), json!(8), json!(1), json!(1)], "{anna}");
    assert_eq!(
        (&anna["verification"]["number"], &anna["verification"]["found"]["depth"]),
        (&json!(1), &json!("Full"))
    );
    assert_eq!(
        (&anna["missing"], &anna["changed"], &anna["phase"]),
        (&json!(1), &json!(1), &json!("Synced"))
    );
    assert_eq!(anna["lastPass"]["attempts"], 1, "it is no attempt of the pass");
    let ben = mailbox(&installed, "ben")["status"].clone();
    assert_eq!(
        (figures(&ben), &ben["phase"]),
        ([json!(10), json!(10), json!(0), json!(0)], &json!("Verified"))
    );
    let explained = space.kubectl(&["explain", "mbm.status.verification.found"]);
    assert!(explained.contains("absentFolders") && explained.contains("no longer there"), "{explained}");

    let report = ours(&installed, "report", &["--format", "json"]);
    assert_eq!((&report["totals"]["missing"], &report["totals"]["changed"]), (&json!(1), &json!(1)));
    let row =
        report["mailboxes"].as_array().unwrap().iter().find(|row| row["source"] == "anna@old.test").unwrap();
    let shown = &row["verification"];
    assert_eq!(
        (&shown["missing"], &shown["altered"], &shown["identical"]),
        (&json!(1), &json!(1), &json!(8)),
        "{row}"
    );
    assert_eq!(ours(&installed, "status", &["--output", "json"])["status"], seen["status"]);

    // Another process of the operator knows it from what the API server holds.
    let leader = installed.leader().0;
    space.kubectl(&["delete", "pod", leader.split_once('_').unwrap().0, "--grace-period=0", "--force"]);
    installed.wait_for_leader(&leader);
    let agreed =
        ["ArrivalsMissing", "ArrivalsChanged"].map(|code| json!({"finding": code, "reason": "known"}));
    let patch = json!({"spec": {"acknowledge": agreed}}).to_string();
    space.kubectl(&["patch", "mm", "move", "--type=merge", "-p", &patch]);
    let agreed = installed.wait_for("move", "Ready", "True");
    assert_eq!(told(&agreed, "Verified"), is("True", "Succeeded"));
    let message = condition_of(&agreed, "Verified").unwrap()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("1 message is no longer at the destination"), "{message}");

    // A pass and a verification that are asked for together: the pass comes first, and the other follows by itself.
    let arrived = pair.arrived();
    ask(&installed, &json!({"sync": "2", "verify": "2"}));
    let both = wait_for_trigger(&installed, &json!({"sync": "2", "verify": "2"}));
    let pass = &both["status"]["pass"];
    assert_eq!((&pass["number"], &pass["verification"]), (&json!(2), &json!(2)), "{}", both["status"]);
    for name in NAMES {
        let status = mailbox(&installed, name)["status"].clone();
        assert_eq!(
            (&status["lastPass"]["number"], &status["verification"]["number"]),
            (&json!(2), &json!(2))
        );
        let moment = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        let (carried, verified) =
            (&status["lastPass"]["finished"], &status["verification"]["found"]["finished"]);
        assert!(moment(carried) < moment(verified), "{name}: {status}");
    }
    assert_eq!(pair.arrived(), arrived, "neither sends anything again");
    installed.assert_no_orphan("move");
}

#[test]
fn a_verifying_pod_that_is_killed_is_followed_by_another_and_a_server_that_is_away_spoils_no_pass() {
    let mut pair = Pair::start(Cluster::get().host(), 10);
    let installed = Installed::new(None, &[]);
    let space = &installed.space;
    space.apply(&manifest(&pair));
    installed.wait_for("move", "Ready", "True");

    // While the destination is away a worker tries again and again to log in there.
    pair.new.stop();
    ask(&installed, &json!({"verify": "1"}));
    let pod = space.wait_until("a pod verifies", PATIENCE, || {
        let pods = space.json(&["get", "pods", "--selector", "mailferry.dev/task=verify"]);
        let works = |pod: &&Value| pod["status"]["phase"] == "Running";
        pods["items"].as_array().unwrap().iter().find(works).cloned().ok_or_else(|| pods.to_string())
    });
    let during = installed.migration("move");
    assert_eq!(
        (told(&during, "Ready"), &during["status"]["phase"]),
        (is("False", "InProgress"), &json!("Verifying"))
    );
    assert_eq!(told(&during, "Reconciling").0, "True");
    for condition in ["Synced", "Verified", "CutoverSafe"] {
        assert_eq!(told(&during, condition).0, "True", "{condition}: {}", during["status"]);
    }
    assert_eq!(during["status"]["counts"]["verified"], 2);
    installed.kill(pod["metadata"]["name"].as_str().unwrap());
    pair.new.start();
    let done = wait_for_trigger(&installed, &json!({"verify": "1"}));
    assert_eq!((told(&done, "Ready").0, told(&done, "Verified").0), ("True".to_owned(), "True".to_owned()));
    for name in NAMES {
        let status = mailbox(&installed, name)["status"].clone();
        assert_eq!(
            (&status["verification"]["found"]["identical"], &status["failure"]),
            (&json!(5), &Value::Null)
        );
    }
    assert_eq!(jobs(&installed).len(), 1, "one Job sees it through");

    pair.new.stop();
    ask(&installed, &json!({"verify": "2"}));
    let away = wait_for_trigger(&installed, &json!({"verify": "2"}));
    println!("{}", away["status"]["conditions"]);
    assert_eq!(told(&away, "Ready"), is("False", "Unreachable"));
    let message = condition_of(&away, "Ready").unwrap()["message"].as_str().unwrap().to_owned();
    assert!(
        message.contains("could not be verified again") && message.contains("spec.trigger.verify"),
        "{message}"
    );
    for condition in ["Synced", "Verified"] {
        assert_eq!(told(&away, condition).0, "True", "{condition}: what was proved stays so");
    }
    assert_eq!(
        (&away["status"]["phase"], &away["status"]["counts"]["failed"]),
        (&json!("Verified"), &json!(0))
    );
    let anna = mailbox(&installed, "anna")["status"].clone();
    assert_eq!((&anna["phase"], &anna["failure"]), (&json!("Verified"), &Value::Null));
    let verification = &anna["verification"];
    assert_eq!(
        (&verification["number"], &verification["failure"]["class"]),
        (&json!(2), &json!("Unreachable"))
    );
    assert_eq!(verification["found"]["identical"], 5, "the figures of the one before");

    pair.new.start();
    ask(&installed, &json!({"verify": "3"}));
    wait_for_trigger(&installed, &json!({"verify": "3"}));
    let again = installed.wait_for("move", "Ready", "True");
    let wanted = json!({"verification": 3, "verify": "3"});
    let mut pass = done["status"]["pass"].clone();
    pass.as_object_mut().unwrap().extend(wanted.as_object().unwrap().clone());
    // It began when it began; that it was verified again is no other end of it.
    assert_eq!(
        (&again["status"]["pass"]["number"], &again["status"]["pass"]["began"]),
        (&json!(1), &pass["began"])
    );
    for name in ["inputs", "verification", "verify"] {
        assert_eq!(again["status"]["pass"][name], pass[name], "{name}");
    }
}
