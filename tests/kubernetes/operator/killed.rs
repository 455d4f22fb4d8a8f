//! The operator dies, at any moment and again and again, and nobody would know by the outcome.

use std::thread::sleep;
use std::time::Duration;

use crate::operator::history::{History, assert_one_job_a_mailbox};
use crate::operator::installed::{Installed, PATIENCE, condition_of};
use crate::operator::pair::Pair;
use crate::operator::story::manifest_in;
use crate::support::cluster::Cluster;
use crate::support::corpus::Dice;
use crate::support::mixed::Mixed;

const KILLS: u32 = 8;

#[test]
fn an_operator_killed_again_and_again_leaves_what_an_undisturbed_one_leaves() {
    let seed = 20_261_130;
    println!("seed {seed}");
    let world = Mixed::start(Cluster::get().host(), 200);
    let installed = Installed::new(Some(world.dns.addr()), &[]);
    let space = &installed.space;
    let (jobs, config_maps) = (History::of(space, "jobs"), History::of(space, "configmaps"));
    let manifest = manifest_in(&world, space.name());
    let pace = "  policy:\n    limits: {bytesPerSecond: 24000}\n    settleSeconds: 2\n";
    space.apply(&manifest.replace("  policy:\n", pace));
    let mut dice = Dice::new(seed);
    let mut leader = installed.leader().0;
    let mut early = 0;
    for kill in 1..=KILLS {
        let moment = Duration::from_millis(dice.below(3_000));
        sleep(moment);
        let pod = leader.split_once('_').unwrap().0.to_owned();
        let ready =
            condition_of(&installed.migration("demo"), "Ready").is_some_and(|c| c["status"] == "True");
        early += u32::from(!ready);
        // A pod that is deleted has a moment to take leave; a process that is killed has none.
        let hard = kill == 2;
        if hard {
            installed.kill(&pod);
        } else {
            space.kubectl(&["delete", "pod", &pod, "--grace-period=0", "--force"]);
        }
        println!("kill {kill} {moment:?} after {leader} began, hard: {hard}, all done: {ready}");
        leader = installed.wait_for_leader(&leader);
    }
    assert!(early >= 5, "it must be killed while there is something to do: {early}");
    let done = installed.wait_for("demo", "Ready", "True");
    world.assert_moved();
    assert_eq!(done["status"]["messages"]["copied"], 200);
    for condition in ["Discovered", "Synced", "Verified", "CredentialsAccepted"] {
        assert_eq!(condition_of(&done, condition).unwrap()["status"], "True", "{condition}");
    }
    assert_eq!(assert_one_job_a_mailbox(&jobs, &config_maps), 3, "one Job carries each domain");
    assert_eq!(jobs.names().len(), 6, "each domain was looked at once: {:?}", jobs.names());
    installed.assert_no_orphan("demo");
}

#[test]
fn when_the_leader_of_two_dies_another_process_goes_on() {
    let pair = Pair::start(Cluster::get().host(), 100);
    let installed = Installed::new(None, &["replicas=2"]);
    let space = &installed.space;
    let (jobs, config_maps) = (History::of(space, "jobs"), History::of(space, "configmaps"));
    space.apply(&pair.manifest(6_000));
    space.wait_until("mail arrives", PATIENCE, || match pair.arrived() {
        0 => Err("nothing".to_owned()),
        count => Ok(count),
    });
    let (leader, changes) = installed.leader();
    installed.kill(leader.split_once('_').unwrap().0);
    // The one that stood by, or the one that the kubelet starts in the dead one's place: whichever looks first when the
    // lease has run out.
    let next = installed.wait_for_leader(&leader);
    installed.wait_for("move", "Ready", "True");
    assert_eq!(installed.leader(), (next, changes + 1));
    pair.assert_moved_to(&pair.new);
    assert_eq!(assert_one_job_a_mailbox(&jobs, &config_maps), 1);
    assert_eq!(jobs.names().len(), 2, "{:?}", jobs.names());
}
