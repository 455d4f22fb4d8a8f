//! A migration that the last build with an older format was killed in the middle of, finished by today's binary: on its state
//! directory, its ledgers, and the mail of both servers as it lay there, UIDs included.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use crate::ferry::{Ferry, Manifest, assert_equation, figure, server};
use crate::ledger::golden::{Golden, TODAY};
use crate::support::compare::differences;
use crate::support::dovecot::{Access, Dovecot, LOOPBACK, User};
use crate::support::postgres::{PASSWORD, USER};

const ANNA: (&str, &str) = ("anna@old.test", "anna@new.test");
const PAUL: (&str, &str) = ("paul@pop.test", "paul@new.test");

/// Lets the ledgers know the servers by the ports that they have this time. Format 1 did not keep whose mailboxes they are.
fn rename_servers(golden: &Golden, old: &Dovecot, new: &Dovecot) {
    for (mailbox, port) in crate::ledger::golden::MAILBOXES.into_iter().zip([old.imap(), old.pop3()]) {
        let facts = golden.told_of(mailbox, "facts");
        for (name, now) in [("source", port), ("destination", new.imap())] {
            let Some(fact) = facts.iter().find(|fact| fact[0] == name) else { continue };
            let was = fact[1].split(' ').next().unwrap();
            golden.change(mailbox, &format!("UPDATE {{}}fact SET value = replace(value, '{was}', '{now}')"));
        }
    }
}

/// The servers of the migration, with what lay on their disks.
fn servers(golden: &Golden) -> (Dovecot, Dovecot) {
    let old = Dovecot::builder()
        .imap(LOOPBACK)
        .pop3(LOOPBACK)
        .user(User::new(ANNA.0, "anna-secret"))
        .user(User::new(PAUL.0, "paul-secret").only(Access::Pop3))
        .start();
    let new = Dovecot::builder()
        .imap(LOOPBACK)
        .master("admin", "admin-secret")
        .user(User::new(ANNA.1, "of-no-use"))
        .user(User::new(PAUL.1, "of-no-use"))
        .max_message(10_000)
        .start();
    for (from, to) in [ANNA, PAUL] {
        old.move_in(from, &golden.path("source").join(from));
        new.move_in(to, &golden.path("destination").join(to));
    }
    (old, new)
}

/// The migration's manifest, and its state directory as it was left.
fn ferry(golden: &Golden, old: &Dovecot, new: &Dovecot) -> Ferry {
    let mut manifest = Manifest::to(new.imap(), "admin", "admin-secret")
        .secret("old.test", &[("username", ANNA.0), ("password", "anna-secret")])
        .secret("pop.test", &[("username", PAUL.0), ("password", "paul-secret")])
        .domain("old.test", &["anna"], &server("IMAP", old.imap()))
        .domain("pop.test", &["paul"], &server("POP3", old.pop3()))
        .policy("settleSeconds: 1")
        .policy("maxMessageBytes: 20000");
    let mut ledger = "";
    if let Some((postgres, database)) = golden.database() {
        let (port, ca) = (postgres.address().port().to_string(), postgres.ca().pem());
        let login = [("host", "localhost"), ("port", &port), ("username", USER), ("password", PASSWORD)];
        let keys = [&login[..], &[("database", database), ("ca.crt", ca)]].concat();
        manifest = manifest.secret("ledger-db", &keys);
        ledger = "  ledger: {postgres: {credentialsRef: {name: ledger-db}}}\n";
    }
    let ferry = Ferry::new(&manifest.text().replace("  stage: Sync\n", &format!("  stage: Sync\n{ledger}")));
    let copied = Command::new("cp").arg("-pR").arg(golden.path("state")).arg(ferry.state()).status();
    assert!(copied.is_ok_and(|status| status.success()));
    ferry
}

/// Rows of the report of messages, each under its mailbox and place at the source.
fn by_place(rows: Vec<Value>) -> BTreeMap<String, Value> {
    let named = rows.into_iter().map(|row| (format!("{} {}", row["mailbox"], row["source"]), row));
    named.collect()
}

/// How many messages have ever arrived.
fn arrivals(new: &Dovecot) -> u32 {
    let next = [ANNA.1, PAUL.1].map(|user| new.mailbox(user).uid_next());
    next.iter().flat_map(BTreeMap::values).map(|(_, next)| next - 1).sum()
}

fn finish(golden: &Golden) {
    let (old, new) = servers(golden);
    rename_servers(golden, &old, &new);
    let ferry = ferry(golden, &old, &new);
    // A report says of each message what the old build's report said.
    let told = by_place(golden.report());
    let found = by_place(ferry.messages());
    assert_eq!(found.len(), told.len());
    for (place, before) in &told {
        for (name, value) in before.as_object().unwrap() {
            assert_eq!(&found[place][name], value, "{place}: {name}");
        }
    }

    let before = arrivals(&new);
    let there = new.mailbox(ANNA.1).read_all();
    let missing: usize = [ANNA, PAUL]
        .map(|(from, to)| {
            let (here, there) = (old.mailbox(from).read_all(), new.mailbox(to).read_all());
            differences(&here, &there).iter().filter(|line| line.ends_with(": missing")).count()
        })
        .iter()
        .sum();
    // One message is refused, and nobody acknowledged it.
    ferry.run(&["--progress", "none"]).expect_code(25);

    let mut left = differences(&old.mailbox(ANNA.0).read_all(), &new.mailbox(ANNA.1).read_all());
    left.sort_unstable();
    let mut meant = vec![
        // It was removed at the source after it had arrived.
        "Archive/2019: Message-ID: <8ca6c85f816f@old.test> (292 bytes, uid 2): too many",
        // It was always there.
        "INBOX: Message-ID: <0833fa152cbf@old.test> (296 bytes, uid 1): too many",
        // The destination refuses it.
        "INBOX: Message-ID: <5d67258ffe7f@old.test> (14992 bytes, uid 7): missing",
        // The rules leave it out.
        "INBOX: Message-ID: <98f03bf5ebed@old.test> (29990 bytes, uid 6): missing",
    ];
    if golden.of > 1 {
        // The user of the destination changed one and removed another; a verification found both.
        meant.extend([
            "Archive/2019: Message-ID: <07c8c652b41e@old.test> (292 bytes, uid 4): missing",
            "Archive/2019: Message-ID: <07c8c652b41e@old.test> (292 bytes, uid 4): too many",
            "Archive/2019: Message-ID: <d12aec3e4d67@old.test> (292 bytes, uid 3): missing",
        ]);
        meant.sort_unstable();
    }
    assert_eq!(left, meant);
    // POP3 tells no dates: those of his messages are from their headers.
    let mut left = differences(&old.mailbox(PAUL.0).read_all(), &new.mailbox(PAUL.1).read_all());
    left.retain(|line| !line.contains("INTERNALDATE"));
    assert_eq!(left, [""; 0]);
    // Two or four of what was missing never come, and of the rest each was sent once.
    let never = if golden.of == 1 { 2 } else { 4 };
    assert_eq!(arrivals(&new) as usize, before as usize + missing - never);
    assert!(missing > 4, "{missing} were on their way");
    for (folder, rows) in &there.folders {
        let now = &new.mailbox(ANNA.1).read_all().folders[folder];
        for row in rows {
            assert!(
                now.iter().any(|other| (other.uid, &other.digest) == (row.uid, &row.digest)),
                "{folder}: {row:?}"
            );
        }
    }

    let status = ferry.status();
    assert_equation(&status);
    assert_eq!(
        (figure(&status, "pending"), figure(&status, "failed"), figure(&status, "excluded")),
        (0, 1, 1)
    );
    let now = by_place(ferry.messages());
    for (place, before) in told.iter().filter(|(_, before)| before["verdict"] == "Delivered") {
        assert_eq!(
            (&now[place]["verdict"], &now[place]["destination"]),
            (&before["verdict"], &before["destination"])
        );
    }
    for mailbox in crate::ledger::golden::MAILBOXES {
        assert_eq!(golden_format(golden, &ferry, mailbox), TODAY);
    }

    let before = arrivals(&new);
    ferry.run(&["--progress", "none"]).expect_code(25);
    assert_eq!(arrivals(&new), before, "nothing is sent once more");
}

/// The format of a ledger that the run used.
fn golden_format(golden: &Golden, ferry: &Ferry, mailbox: &str) -> i64 {
    if golden.database().is_some() {
        return golden.format(mailbox);
    }
    let file = ferry.state().join("test/move/mailboxes").join(format!("{}.sqlite", Golden::key(mailbox)));
    let file = rusqlite::Connection::open(file).unwrap();
    file.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
}

#[test]
fn a_migration_of_an_older_build_is_finished_from_files() {
    (1..TODAY).map(Golden::sqlite).for_each(|golden| finish(&golden));
}

#[test]
fn a_migration_of_an_older_build_is_finished_from_a_database() {
    (1..TODAY).map(Golden::postgres).for_each(|golden| finish(&golden));
}
