//! A mailbox that changes its protocol between two runs is not copied twice, and a domain in which users may log in by
//! different protocols is read as what it is.

use std::collections::BTreeMap;

use crate::ferry::{Ferry, Manifest, assert_equation, csv, figure};
use crate::support::compare::maildrop;
use crate::support::compare::{Account, differences};
use crate::support::corpus::{Corpus, FOLDERS, Message};
use crate::support::dovecot::{Access, Dovecot, LOOPBACK, User};

fn both(at: &Dovecot) -> String {
    let (imap, pop3) = (at.imap(), at.pop3());
    format!(
        "servers:\n- {{protocol: IMAP, host: {}, port: {}, tls: None}}\n- {{protocol: POP3, host: {}, port: {}, tls: None}}",
        imap.ip(),
        imap.port(),
        pop3.ip(),
        pop3.port()
    )
}

fn destination(names: &[&str]) -> Dovecot {
    let mut new = Dovecot::builder().imap(LOOPBACK).master("admin", "admin-secret");
    for name in names {
        new = new.user(User::new(&format!("{name}@new.test"), "of-no-use"));
    }
    new.start()
}

/// INTERNALDATE by digest, of INBOX.
fn dates(account: &Account) -> BTreeMap<String, Vec<jiff::Timestamp>> {
    let mut dates: BTreeMap<String, Vec<jiff::Timestamp>> = BTreeMap::new();
    for row in &account.folders["INBOX"] {
        dates.entry(row.digest.clone()).or_default().push(row.internal_date);
    }
    for dates in dates.values_mut() {
        dates.sort_unstable();
    }
    dates
}

fn protocols(ferry: &Ferry) -> String {
    ferry.status()["status"]["domains"][0]["protocols"].to_string()
}

#[test]
fn what_pop3_brought_is_not_brought_again_by_imap() {
    let user = || User::new("alice@old.test", "alice-secret");
    let mut old = Dovecot::builder().imap(LOOPBACK).pop3(LOOPBACK).user(user().only(Access::Pop3)).start();
    let new = destination(&["alice"]);
    // Mail in many folders, flags in all of them: POP3 sees INBOX alone.
    old.mailbox("alice@old.test").seed(Corpus::new(61).messages(500));
    let ferry = Ferry::new(
        &Manifest::to(new.imap(), "admin", "admin-secret")
            .secret("old.test", &[("mailboxes.csv", &csv(&[("alice@old.test", "", "alice-secret")]))])
            .domain("old.test", &["alice"], &both(&old))
            .text(),
    );
    ferry.run(&[]).expect_code(0);
    assert_eq!(protocols(&ferry), r#"{"POP3":1}"#);
    // A mark of removal is carried nowhere.
    let source = old.mailbox("alice@old.test").read_all().without_marks_of_removal();
    let after_pop3 = new.mailbox("alice@new.test").read_all();
    let inbox = source.folders["INBOX"].len();
    assert!(inbox > 100 && source.messages() == 500);
    assert_eq!((after_pop3.messages(), after_pop3.folders["INBOX"].len()), (inbox, inbox));
    assert!(maildrop(&mut old.mailbox("alice@old.test")) == maildrop(&mut new.mailbox("alice@new.test")));
    let next = new.mailbox("alice@new.test").uid_next();
    ferry.run(&[]).expect_code(0);
    assert_eq!(new.mailbox("alice@new.test").uid_next(), next, "UIDLs are stable: POP3 sends nothing again");

    old.set_user(user());
    ferry.run(&[]).expect_code(0);
    assert_eq!(protocols(&ferry), r#"{"IMAP":1}"#);
    let there = new.mailbox("alice@new.test").read_all();
    assert_eq!(new.mailbox("alice@new.test").uid_next()["INBOX"], next["INBOX"], "nothing was sent to INBOX");
    assert_eq!(there.messages(), 500, "nothing twice, nothing missing");
    for folder in FOLDERS {
        let flags = |account: &Account| {
            let rows = account.folders.get(folder).into_iter().flatten();
            let mut all: Vec<_> = rows.map(|row| (row.name.clone(), row.size, row.flags.clone())).collect();
            all.sort();
            all
        };
        if folder == "INBOX" {
            // The size differs where POP3 ended a last line; names and flags do not.
            let plain = |account: &Account| {
                let mut all: Vec<_> =
                    flags(account).into_iter().map(|(name, _, flags)| (name, flags)).collect();
                all.sort();
                all
            };
            assert_eq!(plain(&there), plain(&source));
        } else {
            assert_eq!(flags(&there), flags(&source), "{folder}");
        }
    }
    assert_eq!(there.subscribed, source.subscribed);
    assert_eq!(dates(&there), dates(&after_pop3), "dates stay as they were");
    let status = ferry.status();
    assert_equation(&status);
    assert_eq!((figure(&status, "source"), figure(&status, "copied")), (500, 500));

    let next = new.mailbox("alice@new.test").uid_next();
    ferry.run(&[]).expect_code(0);
    assert_eq!(new.mailbox("alice@new.test").uid_next(), next);
    assert_eq!(figure(&ferry.status(), "source"), 500);
}

#[test]
fn in_a_split_domain_each_mailbox_speaks_its_own_protocol() {
    let users =
        [("carol", Access::All), ("chris", Access::Pop3), ("cora", Access::Imap), ("curt", Access::Pop3)];
    let mut old = Dovecot::builder().imap(LOOPBACK).pop3(LOOPBACK);
    for (name, access) in users {
        old = old.user(User::new(&format!("{name}@old.test"), &format!("{name}-secret")).only(access));
    }
    let old = old.start();
    let names = users.map(|(name, _)| name);
    let new = destination(&names);
    for (at, name) in (0..).zip(names) {
        old.mailbox(&format!("{name}@old.test")).seed(Corpus::new(70 + at).inbox_only().messages(40));
    }
    let rows: Vec<_> = names.map(|name| (format!("{name}@old.test"), format!("{name}-secret"))).into();
    let rows: Vec<_> = rows.iter().map(|(address, password)| (&**address, "", &**password)).collect();
    let ferry = Ferry::new(
        &Manifest::to(new.imap(), "admin", "admin-secret")
            .secret("old.test", &[("mailboxes.csv", &csv(&rows))])
            .domain("old.test", &names, &both(&old))
            .text(),
    );
    // More often than a refused password may be tried: a password that IMAP refuses and POP3 takes is not wrong.
    for _ in 0..4 {
        ferry.run(&[]).expect_code(0);
        assert_eq!(protocols(&ferry), r#"{"IMAP":2,"POP3":2}"#);
    }
    let status = ferry.status();
    assert_eq!(status["status"]["domains"][0]["mixed"], true);
    let findings = status["status"]["domains"][0]["findings"].to_string();
    assert!(findings.contains("MixedProtocols") && !findings.contains("CredentialsRejected"), "{findings}");
    for (name, access) in users {
        let (mut here, mut there) =
            (old.mailbox(&format!("{name}@old.test")), new.mailbox(&format!("{name}@new.test")));
        assert!(maildrop(&mut here) == maildrop(&mut there), "{name}");
        assert_eq!(there.read_all().messages(), 40, "{name}");
        if access != Access::Pop3 {
            assert_eq!(differences(&here.read_all(), &there.read_all()), [""; 0], "{name}");
        }
    }
    // New mail goes over by the protocol that each speaks.
    for name in names {
        let message = Message {
            folder: "INBOX".to_owned(),
            flags: Vec::new(),
            internal_date: "17-Jul-2019 02:44:25 +0200".to_owned(),
            bytes: format!("Subject: new for {name}\r\n\r\nHello.\r\n").into_bytes(),
        };
        old.mailbox(&format!("{name}@old.test")).append(&message).unwrap();
    }
    ferry.run(&[]).expect_code(0);
    for name in names {
        assert_eq!(new.mailbox(&format!("{name}@new.test")).read_all().messages(), 41, "{name}");
    }
}
