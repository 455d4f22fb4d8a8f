//! Mailboxes of two domains that arrive in one: pods of both Jobs know of each other, and nothing of either is lost.

use crate::operator::installed::{Installed, PATIENCE, condition_of};
use crate::operator::story::manifest_in;
use crate::support::cluster::Cluster;
use crate::support::corpus::Corpus;
use crate::support::mixed::Mixed;

/// Letters to all staff: the same ones in both mailboxes.
const SHARED: usize = 5;

#[test]
fn two_domains_that_arrive_in_one_mailbox_bring_all_their_mail_and_each_its_own_copies() {
    let world = Mixed::start(Cluster::get().host(), 100);
    let letters = || Corpus::new(91).inbox_only().ordinary_only().messages(SHARED);
    let (mut alice, mut bob) = (world.a.mailbox("alice@a.test"), world.b.mailbox("bob@b.test"));
    alice.seed(letters());
    bob.seed(letters());
    let wanted = alice.read_all().messages() + bob.read_all().messages();

    let installed = Installed::new(Some(world.dns.addr()), &[]);
    let space = &installed.space;
    let apart = "destination: bob@new.test";
    let manifest = manifest_in(&world, space.name());
    assert_eq!(manifest.matches(apart).count(), 1);
    space.apply(&manifest.replace(apart, "destination: alice@new.test"));
    let done = installed.wait_for("demo", "Ready", "True");
    assert_eq!(condition_of(&done, "Synced").unwrap()["status"], "True", "{}", done["status"]);
    let findings = done["status"]["findings"].to_string();
    assert!(findings.contains("AddressesMerged"), "{findings}");
    assert_eq!(world.destination("alice").read_all().messages(), wanted);
    assert_eq!(world.destination("bob").read_all().messages(), 0);

    space.kubectl(&["patch", "mm", "demo", "--type=merge", "-p", r#"{"spec":{"trigger":{"sync":"2"}}}"#]);
    space.wait_until("the second pass is through", PATIENCE, || {
        let object = installed.migration("demo");
        let through = object["status"]["trigger"]["sync"] == "2" && object["status"]["pass"]["number"] == 2;
        if through { Ok(()) } else { Err(object["status"].to_string()) }
    });
    assert_eq!(world.destination("alice").read_all().messages(), wanted, "nothing is sent twice");
}
