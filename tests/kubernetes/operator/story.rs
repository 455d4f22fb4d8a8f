//! The whole story: one `kubectl apply`, and three domains that speak three ways are at their destination.

use crate::operator::installed::{Installed, condition_of};
use crate::support::cluster::Cluster;
use crate::support::mixed::{Mixed, NAMES};

/// The contract's manifest in another namespace.
pub(crate) fn manifest_in(world: &Mixed, namespace: &str) -> String {
    world.manifest().replace("namespace: demo", &format!("namespace: {namespace}"))
}

#[test]
fn three_domains_are_moved_by_one_apply_and_a_second_pass_sends_nothing() {
    let world = Mixed::start(Cluster::get().host(), 300);
    let installed = Installed::new(Some(world.dns.addr()), &[]);
    let space = &installed.space;
    space.apply(&manifest_in(&world, space.name()));
    let done = installed.wait_for("demo", "Ready", "True");
    for condition in ["Discovered", "Synced", "Verified", "CredentialsAccepted"] {
        assert_eq!(condition_of(&done, condition).unwrap()["status"], "True", "{condition}");
    }
    world.assert_moved();
    assert_eq!(done["status"]["messages"]["copied"], 300);
    assert_eq!(done["status"]["domains"][2]["mixed"], true);
    let boxes = space.json(&["get", "mbm"]);
    assert_eq!(boxes["items"].as_array().unwrap().len(), NAMES.len());

    let arrived = world.arrived();
    space.kubectl(&["patch", "mm", "demo", "--type=merge", "-p", r#"{"spec":{"trigger":{"sync":"2"}}}"#]);
    space.wait_until("the second pass is through", crate::operator::installed::PATIENCE, || {
        let object = installed.migration("demo");
        let through = object["status"]["trigger"]["sync"] == "2" && object["status"]["pass"]["number"] == 2;
        if through { Ok(()) } else { Err(object["status"].to_string()) }
    });
    assert_eq!(world.arrived(), arrived, "nothing is sent twice");
}
