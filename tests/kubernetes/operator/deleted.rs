//! A migration is deleted while mail is on its way: it ends at once, and nothing is stuck.

use std::time::{Duration, Instant};

use crate::operator::installed::{Installed, PATIENCE};
use crate::operator::pair::Pair;
use crate::support::cluster::Cluster;

/// How long pods may go on after a deletion.
const SOON: Duration = Duration::from_secs(30);

/// Applies a slow migration and waits until mail arrives.
#[track_caller]
fn begin(installed: &Installed, pair: &Pair) {
    let before = pair.arrived();
    installed.space.apply(&pair.manifest(8_000));
    installed.space.wait_until("mail arrives", PATIENCE, || match pair.arrived() {
        count if count > before + 3 => Ok(()),
        count => Err(count.to_string()),
    });
}

#[test]
fn a_migration_deleted_in_mid_sync_stops_and_leaves_the_mail_that_came() {
    let pair = Pair::start(Cluster::get().host(), 200);
    let installed = Installed::new(None, &[]);
    let space = &installed.space;
    begin(&installed, &pair);
    let before = pair.arrived();
    let begun = Instant::now();
    space.kubectl(&["delete", "mm", "move", "--timeout=30s"]);
    space.wait_until("the pods stop", SOON, || {
        let pods = space.kubectl(&["get", "pods", "--selector", "mailferry.dev/task", "-o", "name"]);
        if pods.is_empty() { Ok(()) } else { Err(pods) }
    });
    println!("stopped after {:?}", begun.elapsed());
    let after = pair.arrived();
    installed.wait_until_gone();
    assert!((before..200).contains(&after), "{before}, {after}");
    assert_eq!(pair.arrived(), after, "nothing comes when nobody sends");
    // A migration that is made again begins anew, with a new ledger: mail that is there already is found and not
    // sent again.
    begin(&installed, &pair);
    // And who deletes it and makes it again at once gets a new one that waits until the old one is quite gone.
    space.kubectl(&["delete", "mm", "move", "--wait=false"]);
    space.apply(&pair.manifest(10_000_000));
    installed.wait_for("move", "Ready", "True");
    pair.assert_moved_to(&pair.new);
    assert_eq!(pair.arrived(), 200, "nothing twice");
}

#[test]
fn a_namespace_deleted_in_mid_sync_goes() {
    let pair = Pair::start(Cluster::get().host(), 200);
    // The operator is in the namespace that is deleted: nobody is left afterwards who could mend anything.
    let installed = Installed::new(None, &[]);
    begin(&installed, &pair);
    let name = installed.space.name();
    installed.space.cluster().kubectl(&["delete", "namespace", name, "--timeout=60s"]);
    let after = pair.arrived();
    assert!((1..200).contains(&after), "{after}");
}

#[test]
fn a_namespace_deleted_in_mid_sync_goes_when_the_operator_is_elsewhere() {
    let pair = Pair::start(Cluster::get().host(), 200);
    let mail = crate::support::cluster::Namespace::new();
    let installed = Installed::new(None, &[&format!("watchNamespaces={{{}}}", mail.name())]);
    mail.apply(&pair.manifest(8_000));
    mail.wait_until("mail arrives", PATIENCE, || match pair.arrived() {
        count if count > 3 => Ok(()),
        count => Err(count.to_string()),
    });
    mail.cluster().kubectl(&["delete", "namespace", mail.name(), "--timeout=60s"]);
    let after = pair.arrived();
    assert!((1..200).contains(&after), "{after}");
    drop(installed);
}
