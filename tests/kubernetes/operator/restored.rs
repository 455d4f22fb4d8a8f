//! Objects that are not as the operator left them: without an owner, of another destination, or somebody else's.

use serde_json::json;

use crate::operator::installed::{Installed, PATIENCE, condition_of};
use crate::operator::pair::{NAMES, Pair, arrived};
use crate::support::cluster::Cluster;
use crate::support::dovecot::{Dovecot, User};

#[test]
fn what_lost_its_owner_is_taken_over_and_what_is_somebody_elses_is_left() {
    let pair = Pair::start(Cluster::get().host(), 20);
    let installed = Installed::new(None, &[]);
    let space = &installed.space;
    space.apply(&pair.manifest(10_000_000));
    installed.wait_for("move", "Ready", "True");
    let came = arrived(&pair.new);
    // As after a backup was brought back: the parts are there, and nobody owns them.
    space.kubectl(&["delete", "mm", "move", "--cascade=orphan", "--timeout=60s"]);
    let boxes = space.json(&["get", "mbm"]);
    let boxes = boxes["items"].as_array().unwrap();
    assert_eq!(boxes.len(), NAMES.len());
    assert!(boxes.iter().all(|mailbox| mailbox["metadata"]["ownerReferences"].is_null()), "{boxes:?}");
    // One of them is kept by somebody else.
    space.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: keeper}");
    let keeper = space.json(&["get", "configmap", "keeper"])["metadata"]["uid"].clone();
    let ben = boxes.iter().find(|mailbox| mailbox["spec"]["source"] == "ben@old.test").unwrap();
    let ben = ben["metadata"]["name"].as_str().unwrap();
    let owner =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "keeper", "uid": keeper, "controller": true});
    let patch = json!({"metadata": {"ownerReferences": [owner]}}).to_string();
    space.kubectl(&["patch", "mbm", ben, "--type=merge", "-p", &patch]);

    space.apply(&pair.manifest(10_000_000));
    let told = installed.wait_for_reason("move", "ClusterRefuses");
    let message = condition_of(&told, "Ready").unwrap()["message"].as_str().unwrap();
    assert!(message.contains(ben) && message.contains("ConfigMap keeper"), "{message}");
    space.wait_until("the other mailbox is through", PATIENCE, || {
        let status = installed.migration("move")["status"].clone();
        if status["counts"]["synced"] == 1 { Ok(()) } else { Err(status.to_string()) }
    });
    let kept = space.json(&["get", "mbm", ben]);
    assert_eq!(kept["metadata"]["ownerReferences"], json!([owner]), "nothing of theirs is written");
    space.kubectl(&["patch", "mbm", ben, "--type=merge", "-p", r#"{"metadata":{"ownerReferences":null}}"#]);
    let done = installed.wait_for("move", "Ready", "True");
    assert_eq!(done["status"]["counts"]["synced"], 2);
    assert_eq!(arrived(&pair.new), came, "the ledger came back too: nothing is sent twice");
    pair.assert_moved_to(&pair.new);
}

#[test]
fn a_corrected_destination_of_a_mailbox_is_shown_and_gets_the_mail() {
    let host = Cluster::get().host();
    let pair = Pair::start(host, 40);
    let right = Dovecot::builder()
        .imap(std::net::SocketAddr::new(host, 0))
        .master("admin", "admin-secret")
        .user(User::new("anna@new.test", "of-no-use"))
        .user(User::new("benjamin@new.test", "of-no-use"))
        .start();
    let installed = Installed::new(None, &[]);
    let space = &installed.space;
    let mut wanted = pair.migration(10_000_000);
    wanted["spec"]["destination"]["imap"]["port"] = json!(right.imap().port());
    let spec = &mut wanted["spec"]["domains"][0]["mailboxes"]["list"];
    // Somebody mistyped it.
    spec[1]["destination"] = json!("anna@new.test");
    space.apply(&crate::operator::pair::list(&[
        Pair::source_secret("secret"),
        Pair::destination_secret(),
        wanted.clone(),
    ]));
    installed.wait_for("move", "Ready", "True");
    let destination = || -> String {
        let boxes = space.json(&["get", "mbm"]);
        let boxes = boxes["items"].as_array().unwrap().clone();
        let ben = boxes.iter().find(|mailbox| mailbox["spec"]["source"] == "ben@old.test");
        ben.map_or_else(String::new, |ben| ben["spec"]["destination"].as_str().unwrap().to_owned())
    };
    assert_eq!(destination(), "anna@new.test");
    wanted["spec"]["domains"][0]["mailboxes"]["list"][1]["destination"] = json!("benjamin@new.test");
    space.apply(&wanted.to_string());
    space.wait_until("the mailbox shows the new one", PATIENCE, || match destination() {
        shown if shown == "benjamin@new.test" => Ok(()),
        shown => Err(shown),
    });
    space.wait_until("its mail is there", PATIENCE, || {
        let there = right.mailbox("benjamin@new.test").read_all().messages();
        if there == 20 { Ok(()) } else { Err(there.to_string()) }
    });
    let done = installed.wait_for("move", "Ready", "True");
    assert_eq!(done["status"]["counts"]["synced"], 2, "{}", done["status"]);
}
