//! A pilot carries a part of the mail for a first try; the sync after it carries the rest and nothing twice.

use crate::ferry::{Ferry, Manifest, assert_equation, csv, figure, server};
use crate::support::compare::differences;
use crate::support::corpus::Corpus;
use crate::support::dovecot::{Dovecot, LOOPBACK, User};
use serde_json::Value;

const NAMES: [&str; 3] = ["anna", "bob", "carol"];
/// Messages of a folder that the pilot carries.
const MOST: usize = 3;

fn phase(status: &Value) -> &str {
    status["status"]["phase"].as_str().unwrap()
}

#[test]
fn a_pilot_is_small_and_the_sync_after_it_knows_it_as_its_own() {
    let (mut old, mut new) = (Dovecot::builder().imap(LOOPBACK), Dovecot::builder().imap(LOOPBACK));
    new = new.master("admin", "admin-secret");
    for name in NAMES {
        old = old.user(User::new(&format!("{name}@old.test"), "secret"));
        new = new.user(User::new(&format!("{name}@new.test"), "of-no-use"));
    }
    let (old, new) = (old.start(), new.start());
    let at_source = |name: &str| old.mailbox(&format!("{name}@old.test"));
    let at_destination = |name: &str| new.mailbox(&format!("{name}@new.test"));
    for (seed, name) in (71..).zip(NAMES) {
        at_source(name).seed(Corpus::new(seed).ordinary_only().messages(60));
    }
    let addresses = NAMES.map(|name| format!("{name}@old.test"));
    let rows: Vec<(&str, &str, &str)> = addresses.iter().map(|a| (a.as_str(), "", "secret")).collect();
    let manifest = Manifest::to(new.imap(), "admin", "admin-secret")
        .secret("old.test", &[("mailboxes.csv", &csv(&rows))])
        .domain("old.test", &NAMES, &server("IMAP", old.imap()));
    let whole = manifest.text();
    let ferry = Ferry::new(&manifest.policy("pilot: {mailboxes: 2, messagesPerFolder: 3}").text());

    ferry.run(&[]).expect_code(0);
    let status = ferry.status();
    assert_eq!(phase(&status), "Piloted");
    assert_equation(&status);
    let wanted: usize = ["anna", "bob"]
        .iter()
        .flat_map(|name| at_source(name).read_all().folders.into_values())
        .map(|folder| folder.len().min(MOST))
        .sum();
    assert!(wanted > 2 * MOST, "several folders have mail: {wanted}");
    assert_eq!(figure(&status, "copied"), wanted as u64);
    assert_eq!(figure(&status, "pending"), 180 - wanted as u64);
    assert_eq!(at_destination("carol").read_all().messages(), 0);
    for name in ["anna", "bob"] {
        let (source, arrived) = (at_source(name).read_all(), at_destination(name).read_all());
        for (folder, rows) in &source.folders {
            let newest: Vec<&str> =
                rows.iter().skip(rows.len().saturating_sub(MOST)).map(|row| row.digest.as_str()).collect();
            let mut there: Vec<&str> =
                arrived.folders[folder].iter().map(|row| row.digest.as_str()).collect();
            there.sort_unstable();
            let mut newest = newest;
            newest.sort_unstable();
            assert_eq!(there, newest, "{name}: {folder}: the newest come");
        }
    }
    let page = ferry.report("html");
    assert!(page.contains("This is a pilot: it carries the newest 3 messages of each folder"), "{page}");

    // Once more: nothing is added, also where something new arrived beyond what the pilot allows.
    at_source("anna").seed(Corpus::new(79).inbox_only().ordinary_only().messages(5));
    ferry.run(&[]).expect_code(0);
    assert_eq!(figure(&ferry.status(), "copied"), wanted as u64);

    ferry.write(&whole);
    ferry.run(&[]).expect_code(0);
    let status = ferry.status();
    assert_eq!((phase(&status), figure(&status, "copied"), figure(&status, "pending")), ("Verified", 185, 0));
    for name in NAMES {
        let found = differences(&at_source(name).read_all(), &at_destination(name).read_all());
        assert!(found.is_empty(), "{name}: {found:?}");
    }
}
