//! A source that gives its UIDs anew and does not say so by another UIDVALIDITY: no server may, and some do.

use crate::support::corpus::Message;
use crate::sync::rig::{ANNA, Rig, letter, new_server, old_server};

fn renumber(rig: &mut Rig) {
    rig.source.stop();
    rig.source.renumber_inbox(ANNA);
    rig.source.start();
}

/// UIDVALIDITY of the source's Inbox.
fn uidvalidity(rig: &Rig) -> String {
    rig.at_source().status("INBOX", "UIDVALIDITY").unwrap()
}

fn mail(same_dates: bool) -> Vec<Message> {
    let flags: [&[&str]; 4] = [&["\\Seen"], &[], &["\\Flagged", "to-do"], &["\\Answered"]];
    (0..12)
        .map(|n| {
            // Two are twins.
            let mut message =
                letter("INBOX", flags[n % 4], &format!("letter {}", if n == 8 { 4 } else { n }));
            if !same_dates {
                message.internal_date =
                    format!("{:02}-Mar-2019 08:15:42 +0100", if n == 8 { 5 } else { n + 1 });
            }
            message
        })
        .collect()
}

#[tokio::test]
async fn uids_given_anew_under_the_same_uidvalidity_double_nothing_and_flag_nobody_else() {
    for same_dates in [false, true] {
        let mut rig = Rig::start(old_server(), new_server());
        rig.at_source().seed(mail(same_dates));
        assert_eq!(rig.pass().await.sent, 12);
        let before = uidvalidity(&rig);
        let mut old = rig.at_source();
        old.select("INBOX").unwrap();
        // Where dates tell nothing, the next UID does.
        let removed = if same_dates { 3 } else { 0 };
        if same_dates {
            old.command("STORE 1:3 +FLAGS (\\Deleted)").unwrap();
            old.command("EXPUNGE").unwrap();
        }
        drop(old);
        renumber(&mut rig);
        assert_eq!(uidvalidity(&rig), before, "the UIDVALIDITY is the same");
        let mut old = rig.at_source();
        old.select("INBOX").unwrap();
        old.command("STORE 2 +FLAGS (new)").unwrap();
        old.append(&letter("INBOX", &["\\Seen"], "one more")).unwrap();
        drop(old);
        let outcome = rig.pass().await;
        assert_eq!((outcome.sent, outcome.counts.failed), (1, 0), "{outcome:?}");
        let found = rig.differences();
        assert_eq!(found.len(), removed, "{same_dates}: {found:#?}");
        assert!(found.iter().all(|line| line.ends_with("too many")), "{found:#?}");
        rig.assert_idle().await;
        if same_dates {
            continue;
        }
        // Once more: what was voided is not in the way.
        renumber(&mut rig);
        let mut old = rig.at_source();
        old.select("INBOX").unwrap();
        old.command("STORE 3 -FLAGS (\\Seen \\Flagged to-do)").unwrap();
        drop(old);
        assert_eq!(rig.pass().await.sent, 0);
        assert_eq!(rig.differences(), found);
        rig.assert_idle().await;
    }
}
