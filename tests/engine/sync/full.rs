//! Whole mailboxes, and the passes after the first.

use std::time::Instant;

use mailferry::model::finding::Code;
use mailferry::model::record::Depth;

use crate::support::corpus::{Corpus, EMPTY_FOLDER};
use crate::sync::rig::{NEW, Rig, all_rules, new_server, old_server};

#[tokio::test]
async fn a_mixed_mailbox_arrives_whole_and_a_second_pass_sends_nothing() {
    let mut rig = Rig::start(old_server(), new_server());
    let seeded =
        rig.at_source().seed(Corpus::new(1).with_quoted_folder().with_large(&[25 << 20]).messages(400));
    rig.at_source().create_and_subscribe(EMPTY_FOLDER);
    rig.at_source().create("Not subscribed").unwrap();
    assert_eq!(seeded.len(), 19, "mail in every folder");
    let before = rig.photograph_source();

    let outcome = rig.pass().await;
    rig.assert_same();
    assert_eq!(rig.photograph_source(), before, "the source is as it was");
    assert_eq!((outcome.sent, outcome.counts.copied, outcome.counts.source), (400, 400, 400));
    assert_eq!((outcome.recognised, outcome.sizes_checked, outcome.digests_checked), (0, 400, 400));
    let codes: Vec<Code> = outcome.findings.iter().map(|finding| finding.code).collect();
    assert_eq!(codes, [Code::MarkedForRemoval]);
    assert!(rig.rows().await.iter().all(|row| row.destination.is_some()), "every arrival is known");

    rig.destination.restart();
    let appends = rig.destination.count_commands(NEW, "APPEND");
    assert!((19..=100).contains(&appends), "small messages share a command: {appends} for 400");
    rig.assert_idle().await;
    rig.destination.stop();
    assert_eq!(rig.destination.count_commands(NEW, "APPEND"), appends, "no APPEND in the second pass");
}

#[tokio::test]
async fn two_thousand_messages_tell_how_fast_it_is() {
    let rig = Rig::with_mail(2, 2000);
    let mut rules = all_rules();
    rules.depth = Depth::Sizes;
    let start = Instant::now();
    let outcome = rig.try_pass(&rules).await.unwrap();
    let first = start.elapsed().as_millis().max(1);
    assert_eq!(outcome.sent, 2000);
    let start = Instant::now();
    assert_eq!(rig.pass().await.sent, 0);
    println!(
        "2000 messages, {} kB: {} messages/s, {} kB/s; second pass {} ms",
        outcome.bytes / 1000,
        2_000_000 / first,
        u128::from(outcome.bytes) / first,
        start.elapsed().as_millis()
    );
    rig.assert_same();
}
