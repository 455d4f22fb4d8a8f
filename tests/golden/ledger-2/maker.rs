//! Makes what `tests/golden/ledger-2` holds, with the last build whose ledgers had format 2: a migration that was verified
//! after its second pass and killed in the middle of its third, once with its ledgers in SQLite and once in PostgreSQL. It is
//! kept to show how they came to be; to run it, put it into `tests/` of that version's checkout. README.md beside it says how.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "a tool")]

mod ferry;
mod support;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use ferry::{Ferry, Manifest, server};
use support::corpus::Message;
use support::dovecot::{Access, Dovecot, LOOPBACK, User};
use support::postgres::{PASSWORD, Postgres, USER};

const ANNA: (&str, &str) = ("anna@old.test", "anna@new.test");
const PAUL: (&str, &str) = ("paul@pop.test", "paul@new.test");

/// What a message was, in the same words from both stores.
const MESSAGES: &str = "SELECT protocol, folder, uidvalidity, uid, uidl, size, date, date_offset, flags, {exact}, \
    {canonical}, message_id, subject, dst_folder, dst_uidvalidity, dst_uid, verdict, reason, {gone}, code, bound, attempts, announced FROM {}message \
    WHERE {of} ORDER BY id";
const INTENTS: &str = "SELECT folder, uidvalidity, uidnext, (SELECT count(*) FROM {}intent_message AS m WHERE \
    m.intent = i.id AND {of}), source FROM {}intent AS i WHERE {of} ORDER BY id";
const DOUBTFUL: &str = "SELECT (SELECT subject FROM {}message WHERE {of} AND id = w.message), (SELECT folder FROM \
    {}message WHERE {of} AND id = w.message), (SELECT uid FROM {}message WHERE {of} AND id = w.message) \
    FROM {}intent_message AS w WHERE {of} ORDER BY message";
const CURSORS: &str = "SELECT folder, uidvalidity, uidnext, messages, modseq, dst_uidvalidity, dst_scanned, dst_folder FROM \
    {}cursor WHERE {of} ORDER BY folder";
const FOREIGN: &str = "SELECT folder, uidvalidity, uid, {exact}, {canonical}, message_id FROM {}foreign_message WHERE \
    {of} ORDER BY folder, uid";
const FACTS: &str = "SELECT name, value FROM {}fact WHERE {of} ORDER BY name";

fn letter(folder: &str, flags: &[&str], subject: &str, bytes: usize, more: &str) -> Message {
    let id = blake3::hash(subject.as_bytes()).to_hex()[..12].to_owned();
    let id = if subject == "anonymous" { String::new() } else { format!("Message-ID: <{id}@old.test>\r\n") };
    let mut text = format!(
        "{more}From: a@old.test\r\nTo: b@old.test\r\n{id}Subject: {subject}\r\n\r\nThis is {subject}.\r\n"
    );
    text.push_str(&"0123456789 abcdef\r\n".repeat(bytes.saturating_sub(text.len()) / 19));
    let day = 1 + blake3::hash(subject.as_bytes()).as_bytes()[0] % 28;
    Message {
        folder: folder.to_owned(),
        flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
        internal_date: format!("{day:02}-Mar-2019 08:15:42 +0100"),
        bytes: text.into_bytes(),
    }
}

const PLANS: &str = "Entwürfe & Pläne";
const ODD: &str = "\"quoted\" 100% [x]";
const DEEP: &str = "日本語/тест";

fn first() -> Vec<Message> {
    vec![
        letter("INBOX", &["\\Seen"], "one", 300, ""),
        letter("INBOX", &["\\Flagged", "$Label1"], "twin", 400, ""),
        letter("INBOX", &["\\Flagged", "$Label1"], "twin", 400, ""),
        letter("INBOX", &[], "=?utf-8?q?Gr=C3=BC=C3=9Fe?=", 300, ""),
        letter("INBOX", &["\\Answered", "\\Seen"], "anonymous", 300, ""),
        letter("INBOX", &[], "too large for the rules", 30_000, ""),
        letter("INBOX", &[], "too large for the destination", 15_000, ""),
        letter("Sent", &["\\Seen"], "sent", 300, ""),
        letter("Sent", &["\\Seen"], "one", 300, ""),
        letter("Archive/2019", &["to-do"], "archived", 300, ""),
        letter("Archive/2019", &[], "removed later", 300, ""),
        letter(PLANS, &["\\Draft"], "plan", 300, ""),
        letter(ODD, &["\\Deleted"], "odd", 300, ""),
        letter(DEEP, &["\\Seen", "later"], "deep", 300, ""),
        letter("Archive/2019", &[], "removed there", 300, ""),
        letter("Archive/2019", &[], "changed there", 300, ""),
    ]
}

fn then() -> Vec<Message> {
    vec![
        letter("INBOX", &["\\Seen"], "new one", 2_000, ""),
        letter("INBOX", &["$Label1"], "new two", 2_000, ""),
        letter("INBOX", &[], "new three", 2_000, ""),
        letter("INBOX", &[], "new four", 2_000, ""),
        letter(PLANS, &["\\Draft"], "new plan", 300, ""),
        letter(DEEP, &[], "new and deep", 300, ""),
        letter("Sent", &["\\Seen"], "newly sent", 300, ""),
        letter(ODD, &["\\Seen"], "newly odd", 300, ""),
    ]
}

fn popped(n: usize) -> Message {
    let stamp = format!("Received: by mx.pop.test; {n} Mar 2019 08:15:42 +0100\r\n");
    letter("INBOX", &[], &format!("popped {n}"), 300, &stamp)
}

struct Play {
    old: Dovecot,
    new: Dovecot,
    ferry: Ferry,
    database: Option<(Arc<Postgres>, String)>,
}

impl Play {
    fn homes(&self) -> Vec<(&'static str, PathBuf)> {
        vec![
            ("source", self.old.home(ANNA.0).parent().unwrap().to_owned()),
            ("destination", self.new.home(ANNA.1).parent().unwrap().to_owned()),
            ("state", self.ferry.state()),
        ]
    }

    fn save(&mut self, to: &Path) {
        self.old.stop();
        self.new.stop();
        for (name, home) in self.homes() {
            sh(&format!(
                "rm -rf '{0}/{name}'; mkdir -p '{0}'; cp -a '{1}' '{0}/{name}'",
                to.display(),
                home.display()
            ));
        }
        if let Some((postgres, database)) = &self.database {
            postgres.sql(
                "postgres",
                &format!("CREATE DATABASE {database}_saved TEMPLATE {database} OWNER {USER}"),
            );
        }
        self.old.start();
        self.new.start();
    }

    fn restore(&mut self, from: &Path) {
        self.old.stop();
        self.new.stop();
        for (name, home) in self.homes() {
            sh(&format!("rm -rf '{1}'; cp -a '{0}/{name}' '{1}'", from.display(), home.display()));
        }
        if let Some((postgres, database)) = &self.database {
            postgres.disconnect(database);
            postgres.sql("postgres", &format!("DROP DATABASE {database}"));
            postgres.sql(
                "postgres",
                &format!("CREATE DATABASE {database} TEMPLATE {database}_saved OWNER {USER}"),
            );
        }
        self.old.start();
        self.new.start();
    }

    /// The rows that a question brings, columns parted by `|`.
    fn ask(&self, mailbox: &str, question: &str) -> Vec<String> {
        let text = if let Some((postgres, database)) = &self.database {
            let of =
                format!("ledger = (SELECT id FROM mailferry.ledger WHERE mailbox LIKE 'move-{mailbox}-%')");
            let sql = question
                .replace("{exact}", "encode(exact, 'hex')")
                .replace("{canonical}", "encode(canonical, 'hex')")
                .replace("{gone}", "CASE WHEN gone THEN 1 ELSE 0 END")
                .replace("{of}", &of)
                .replace("{}", "mailferry.");
            postgres.sql(database, &sql)
        } else {
            let sql = question
                .replace("{exact}", "lower(hex(exact))")
                .replace("{canonical}", "lower(hex(canonical))")
                .replace("{gone}", "gone")
                .replace("{of}", "true")
                .replace("{}", "");
            let copy = tempfile::tempdir().unwrap();
            sh(&format!(
                "cp '{}/test/move/mailboxes/'move-{mailbox}-* '{}'",
                self.ferry.state().display(),
                copy.path().display()
            ));
            let file = ferry::files(copy.path())
                .into_iter()
                .find(|f| f.extension().is_some_and(|e| e == "sqlite"))
                .unwrap();
            let output = Command::new("sqlite3").arg(file).arg(sql).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        text.lines().map(str::to_owned).collect()
    }

    fn told(&self) -> String {
        let mut text = String::new();
        for mailbox in ["anna", "paul"] {
            let parts = [
                ("messages", MESSAGES),
                ("intents", INTENTS),
                ("in doubt", DOUBTFUL),
                ("cursors", CURSORS),
                ("foreign", FOREIGN),
                ("facts", FACTS),
            ];
            for (name, question) in parts {
                let _ = writeln!(text, "{mailbox}: {name}");
                for row in self.ask(mailbox, question) {
                    let _ = writeln!(text, "  {row}");
                }
            }
        }
        text
    }
}

fn sh(command: &str) {
    assert!(Command::new("sh").args(["-ec", command]).status().unwrap().success(), "{command}");
}

fn make(name: &str, postgres: Option<Arc<Postgres>>) {
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
        // One message after the other, so that a kill leaves a part of what was about to be sent.
        .capability("IMAP4rev1 SASL-IR ID ENABLE UNSELECT CHILDREN NAMESPACE UIDPLUS LIST-EXTENDED LIST-STATUS CONDSTORE QRESYNC ESEARCH SPECIAL-USE")
        .start();
    old.mailbox(ANNA.0).seed(first());
    old.mailbox(ANNA.0).create_and_subscribe("Empty");
    old.mailbox(PAUL.0).seed((1..=3).map(popped));
    new.mailbox(ANNA.1).seed([letter("INBOX", &["\\Seen"], "was here before", 300, "")]);
    let database = postgres.map(|postgres| {
        let database = postgres.database();
        (postgres, database)
    });
    let mut manifest = Manifest::to(new.imap(), "admin", "admin-secret")
        .secret("old.test", &[("username", ANNA.0), ("password", "anna-secret")])
        .secret("pop.test", &[("username", PAUL.0), ("password", "paul-secret")])
        .domain("old.test", &["anna"], &server("IMAP", old.imap()))
        .domain("pop.test", &["paul"], &server("POP3", old.pop3()))
        .policy("settleSeconds: 1")
        .policy("maxMessageBytes: 20000");
    let mut ledger = "";
    if let Some((postgres, database)) = &database {
        let port = postgres.address().port().to_string();
        let ca = postgres.ca().pem();
        manifest = manifest.secret(
            "ledger-db",
            &[
                ("host", "localhost"),
                ("port", &port),
                ("username", USER),
                ("password", PASSWORD),
                ("database", database),
                ("ca.crt", ca),
            ],
        );
        ledger = "  ledger: {postgres: {credentialsRef: {name: ledger-db}}}\n";
    }
    let text = manifest.text().replace("  stage: Sync\n", &format!("  stage: Sync\n{ledger}"));
    let ferry = Ferry::new(&text);
    let run = |play: &Play| {
        let ended = play.ferry.run(&["--progress", "none"]);
        println!("{name}: {}\n{}\n{}", ended.code, ended.stdout, ended.stderr);
    };
    let mut play = Play { old, new, ferry, database };
    run(&play);
    let mut anna = play.old.mailbox(ANNA.0);
    anna.select("Archive/2019").unwrap();
    anna.command("STORE 2 +FLAGS (\\Deleted)").unwrap();
    anna.command("EXPUNGE").unwrap();
    drop(anna);
    run(&play);
    let mut anna = play.new.mailbox(ANNA.1);
    anna.select("Archive/2019").unwrap();
    anna.command("STORE 3 +FLAGS (\\Deleted)").unwrap();
    anna.command("EXPUNGE").unwrap();
    drop(anna);
    let there = play.new.home(ANNA.1).parent().unwrap().to_owned();
    sh(&format!("grep -rl 'This is changed there' '{}' | xargs sed -i 's/This is changed/This is CHANGED/'", there.display()));
    let verified = play.ferry.call("verify", &["--depth", "Full"]);
    println!("{name}: {}\n{}\n{}", verified.code, verified.stdout, verified.stderr);
    play.old.mailbox(ANNA.0).seed(then());
    let mut anna = play.old.mailbox(ANNA.0);
    anna.select("INBOX").unwrap();
    anna.command("STORE 1 FLAGS (\\Answered again)").unwrap();
    drop(anna);
    play.old.mailbox(PAUL.0).seed([popped(4)]);

    let out = PathBuf::from(std::env::var("GOLDEN_OUT").unwrap()).join(name);
    let saved = tempfile::tempdir().unwrap();
    play.save(saved.path());
    let mut done = false;
    for step in (70..140).cycle().take(400) {
        let mut command = play.ferry.command("run", &["--progress", "none"]);
        let status = command.env("MAILFERRY_DIE_AT", step.to_string()).output().unwrap().status;
        if status.code().is_some() {
            println!("{name}: the run has fewer than {step} steps");
            play.restore(saved.path());
            continue;
        }
        let uid_next =
            |folder: &str| play.new.mailbox(ANNA.1).uid_next().get(folder).map_or(0, |(_, next)| *next);
        let intents = play.ask("anna", INTENTS);
        let pending = play.ask("anna", "SELECT id FROM {}message WHERE {of} AND verdict = 'Pending'").len();
        println!("{name}: step {step}: {intents:?}, {pending} pending; {}", uid_next("INBOX"));
        let there = intents.iter().any(|row| {
            let parts: Vec<&str> = row.split('|').collect();
            let (begun, messages): (u32, u32) = (parts[2].parse().unwrap(), parts[3].parse().unwrap());
            let arrived = uid_next("INBOX") - begun;
            parts[0] == "[\"INBOX\"]" && arrived > 0 && arrived < messages
        });
        if there && pending > 4 {
            done = true;
            break;
        }
        play.restore(saved.path());
    }
    assert!(done, "{name}: no step leaves what is wanted");
    sh(&format!("rm -rf '{0}'; mkdir -p '{0}'", out.display()));
    fs::write(out.join("told.txt"), play.told()).unwrap();
    play.old.stop();
    play.new.stop();
    for (name, home) in play.homes() {
        sh(&format!("cp -a '{}' '{}/{name}'", home.display(), out.display()));
    }
    let report = play.ferry.call("report", &["--kind", "messages", "--format", "json"]);
    fs::write(out.join("report.json"), report.stdout).unwrap();
    if let Some((postgres, database)) = &play.database {
        let socket = postgres.sql("postgres", "SHOW unix_socket_directories");
        sh(&format!(
            "pg_dump -h '{socket}' -p {} -U postgres --no-owner --no-acl --inserts --rows-per-insert=1000 --schema=mailferry {database} | grep -v -e '^--' -e '^\\\\' -e '^$' > '{}/ledger.sql'",
            postgres.address().port(),
            out.display()
        ));
    }
}

#[test]
fn make_sqlite() {
    make("sqlite", None);
}

#[test]
fn make_postgres() {
    make("postgres", Some(Postgres::shared()));
}
