//! The ledger in a real PostgreSQL: no volume is made, and another pass knows what is at the destination.

use crate::operator::installed::{Installed, PATIENCE};
use crate::operator::story::manifest_in;
use crate::support::cluster::Cluster;
use crate::support::mixed::Mixed;
use crate::support::postgres::{PASSWORD, Postgres, USER};

#[test]
fn a_database_keeps_the_ledgers_of_a_cluster() {
    let host = Cluster::get().host();
    let (world, postgres) = (Mixed::start(host, 60), Postgres::start_at(host));
    let database = postgres.database();
    let installed = Installed::new(Some(world.dns.addr()), &[]);
    let space = &installed.space;
    let directory = tempfile::tempdir().unwrap();
    let authority = directory.path().join("ca.crt");
    std::fs::write(&authority, postgres.ca().pem()).unwrap();
    space.kubectl(&[
        "create",
        "secret",
        "generic",
        "database",
        &format!("--from-literal=host={host}"),
        &format!("--from-literal=port={}", postgres.address().port()),
        &format!("--from-literal=database={database}"),
        &format!("--from-literal=username={USER}"),
        &format!("--from-literal=password={PASSWORD}"),
        &format!("--from-file=ca.crt={}", authority.display()),
    ]);
    let manifest = manifest_in(&world, space.name()).replace(
        "spec:\n  stage: Sync\n",
        "spec:\n  stage: Sync\n  ledger: {postgres: {credentialsRef: {name: database}}}\n",
    );
    assert!(manifest.contains("credentialsRef: {name: database}"));
    space.apply(&manifest);
    let done = installed.wait_for("demo", "Ready", "True");
    world.assert_moved();
    assert_eq!(done["status"]["messages"]["copied"], 60);
    assert_eq!(space.json(&["get", "pvc"])["items"], serde_json::json!([]), "no volume is needed");
    let tables = postgres.sql(&database, "SELECT count(*) FROM pg_tables WHERE schemaname NOT LIKE 'pg\\_%' AND schemaname <> 'information_schema'");
    assert_ne!(tables, "0");

    let arrived = world.arrived();
    space.kubectl(&["patch", "mm", "demo", "--type=merge", "-p", r#"{"spec":{"trigger":{"sync":"2"}}}"#]);
    space.wait_until("the second pass is through", PATIENCE, || {
        let object = installed.migration("demo");
        let through = object["status"]["pass"]["number"] == 2
            && crate::operator::installed::condition_of(&object, "Ready")
                .is_some_and(|ready| ready["status"] == "True")
            && object["status"]["observedGeneration"] == object["metadata"]["generation"];
        if through { Ok(()) } else { Err(object["status"].to_string()) }
    });
    assert_eq!(world.arrived(), arrived, "nothing is sent twice");
}
