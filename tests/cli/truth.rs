//! One truth: of one migration with messages that failed, were left out, were altered while they were stored and after, are
//! missing, differ in flags, and came late, every output says the same numbers and nothing that contradicts another.

use crate::ferry;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::ferry::{Ended, Ferry, Manifest, assert_equation, figure, server};
use crate::support::corpus::Message;
use crate::support::dovecot::{Dovecot, LOOPBACK, User};

const WHO: &str = "alice@old.test";
const THERE: &str = "alice@new.test";
const BOB: &str = "bob@old.test";
const BOB_THERE: &str = "bob@new.test";

fn letter(folder: &str, subject: &str, text: &str) -> Message {
    Message {
        folder: folder.to_owned(),
        flags: vec!["\\Seen".to_owned()],
        internal_date: "05-Mar-2019 08:15:42 +0100".to_owned(),
        bytes: format!(
            "From: a@a.test\r\nMessage-ID: <{subject}@a.test>\r\nSubject: {subject}\r\n\r\n{text}\r\n"
        )
        .into_bytes(),
    }
}

fn large(subject: &str, bytes: usize) -> Message {
    letter("INBOX", subject, &"0123456789\r\n".repeat(bytes / 12))
}

fn sources() -> Dovecot {
    Dovecot::builder()
        .imap(LOOPBACK)
        .pop3(LOOPBACK)
        .user(User::new(WHO, "alice-secret"))
        .user(User::new(BOB, "bob-secret"))
        .start()
}

fn destination() -> Dovecot {
    Dovecot::builder()
        .imap(LOOPBACK)
        .master("admin", "admin-secret")
        .max_message(100_000)
        .user(User::new(THERE, "of-no-use"))
        .user(User::new(BOB_THERE, "of-no-use"))
        .start()
}

fn manifest(old: &Dovecot, new: &Dovecot, mailboxes: &[&str]) -> Manifest {
    let csv = ferry::csv(&[(WHO, "", "alice-secret"), (BOB, "", "bob-secret")]);
    Manifest::to(new.imap(), "admin", "admin-secret")
        .secret("old.test", &[("mailboxes.csv", &csv)])
        .domain("old.test", mailboxes, &server("IMAP", old.imap()))
        .policy("settleSeconds: 1")
        .policy("maxMessageBytes: 150000")
}

/// The files of a mailbox that contain a text.
fn files_with(server: &Dovecot, user: &str, text: &str) -> Vec<PathBuf> {
    let holds = |path: &PathBuf| {
        let bytes = fs::read(path).unwrap_or_default();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    };
    ferry::files(&server.home(user)).into_iter().filter(holds).collect()
}

/// Changes a message where it lies, without a word to the server: its length stays.
fn tamper(server: &Dovecot, user: &str, from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let found = files_with(server, user, from);
    let [path] = &found[..] else { panic!("not one file with {from} but {found:?}") };
    let text = fs::read(path).unwrap();
    let at = text.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
    let changed = [&text[..at], to.as_bytes(), &text[at + from.len()..]].concat();
    fs::write(path, changed).unwrap();
}

fn expunge(server: &Dovecot, user: &str, folder: &str, subjects: &[&str]) {
    let mut client = server.mailbox(user);
    client.select(folder).unwrap();
    for subject in subjects {
        let found = client.command(&format!("UID SEARCH SUBJECT \"{subject}\"")).unwrap();
        let text: Vec<String> =
            found.iter().map(|response| String::from_utf8_lossy(&response.text).into_owned()).collect();
        let uid =
            text.iter().find_map(|line| line.strip_prefix("* SEARCH ")).unwrap_or_else(|| panic!("{text:?}"));
        client.command(&format!("UID STORE {uid} +FLAGS.SILENT (\\Deleted)")).unwrap();
    }
    client.command("EXPUNGE").unwrap();
}

fn condition(status: &Value, kind: &str) -> (String, String, String) {
    let conditions = status["status"]["conditions"].as_array().unwrap();
    let found =
        conditions.iter().find(|c| c["type"] == kind).unwrap_or_else(|| panic!("no {kind} in {status}"));
    let word = |name: &str| found[name].as_str().unwrap().to_owned();
    (word("status"), word("reason"), word("message"))
}

fn findings(status: &Value) -> BTreeMap<String, String> {
    let findings = status["status"]["domains"][0]["findings"].as_array().unwrap();
    let pair =
        |f: &Value| (f["code"].as_str().unwrap().to_owned(), f["message"].as_str().unwrap().to_owned());
    findings.iter().map(pair).collect()
}

/// The rows of a sheet as text, by the sheet's name.
fn sheets(book: &[u8]) -> BTreeMap<String, Vec<Vec<String>>> {
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(book)).unwrap();
    let mut read = |name: &str| {
        let mut text = String::new();
        archive.by_name(name).unwrap().read_to_string(&mut text).unwrap();
        text
    };
    let plain = |text: &str| {
        text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&")
    };
    let names = regex::Regex::new("<sheet name=\"([^\"]+)\"").unwrap();
    let names: Vec<String> =
        names.captures_iter(&read("xl/workbook.xml")).map(|found| found[1].to_owned()).collect();
    let row = regex::Regex::new("(?s)<row [^>]*>(.*?)</row>").unwrap();
    let cell = regex::Regex::new("(?s)<c r=\"([A-Z]+)[0-9]+\"[^>]*?(?:/>|>(.*?)</c>)").unwrap();
    let value = regex::Regex::new("(?s)<(?:v|t)(?: [^>]*)?>(.*?)</(?:v|t)>").unwrap();
    let mut sheets = BTreeMap::new();
    for (at, name) in names.into_iter().enumerate() {
        let text = read(&format!("xl/worksheets/sheet{}.xml", at + 1));
        let rows = row.captures_iter(&text).map(|row| {
            let mut cells = Vec::new();
            for found in cell.captures_iter(&row[1]) {
                let column = found[1].bytes().fold(0, |sum, byte| sum * 26 + usize::from(byte - b'A') + 1);
                cells.resize(column, String::new());
                if let Some(inner) = found.get(2).and_then(|inner| value.captures(inner.as_str())) {
                    cells[column - 1] = plain(&inner[1]);
                }
            }
            cells
        });
        sheets.insert(name, rows.collect());
    }
    sheets
}

/// The value beside a label, of a sheet with two columns.
fn fact<'a>(sheet: &'a [Vec<String>], label: &str) -> &'a str {
    let row = sheet.iter().find(|row| row.first().is_some_and(|cell| cell == label));
    &row.unwrap_or_else(|| panic!("no {label} in {sheet:#?}"))[1]
}

/// The number in a column of the last row: the sums.
fn sum(sheet: &[Vec<String>], column: &str) -> u64 {
    let at =
        sheet[0].iter().position(|title| title == column).unwrap_or_else(|| panic!("no column {column}"));
    sheet.last().unwrap()[at].parse().unwrap()
}

/// The page without its tags, in one line.
fn words(page: &str) -> String {
    let tags = regex::Regex::new("(?s)<style>.*?</style>|<[^>]+>").unwrap();
    let text = tags.replace_all(page, " ").replace("&#34;", "\"").replace("&#39;", "'");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn named(ended: &Ended, kind: &str) -> Vec<String> {
    let differences = ended.json()["mailboxes"][0]["differences"].as_array().unwrap().clone();
    let of_kind = differences.into_iter().filter(|difference| difference["kind"] == kind);
    let mut subjects: Vec<String> =
        of_kind.map(|difference| difference["subject"].as_str().unwrap_or_default().to_owned()).collect();
    subjects.sort();
    subjects
}

#[test]
#[allow(
    clippy::too_many_lines,
    reason = "one migration from its first pass to its mending, and every output at each step"
)]
fn every_output_says_the_same_of_failed_excluded_altered_missing_differing_and_late_messages() {
    let (old, new) = (sources(), destination());
    let subjects = ["one", "two", "three", "four", "five", "six", "seven", "eight"];
    let ordinary = subjects.map(|subject| letter("INBOX", subject, &format!("the text of {subject}")));
    let mut mail: Vec<Message> = ordinary.into();
    mail.extend(["alpha", "beta"].map(|subject| letter("Work", subject, "about work")));
    mail.push(large("too large for the new server", 120_000));
    mail.push(large("left out by the rule", 180_000));
    old.mailbox(WHO).seed(mail);
    // Dovecot keeps no doubled carriage returns.
    let odd = letter("INBOX", "with odd line ends", "line\r\r\nline");
    old.deliver(WHO, "odd", &odd.bytes);
    let plan = manifest(&old, &new, &["alice"]);
    let ferry = Ferry::new(&plan.text());

    // As it was stored: 13 at the source = 11 copied + 1 excluded + 1 failed, and 1 of the copied was altered.
    let ran = ferry.run(&["--progress", "none"]);
    ran.expect_code(25);
    let (error, hint) = ran.error();
    assert!(
        error.starts_with(&format!("{WHO}: 1 message could not be carried  [Message, exit 25]")),
        "{error}"
    );
    assert!(hint.contains("MessagesQuarantined"), "{hint}");
    let status = ferry.status();
    assert_equation(&status);
    let counts = ["source", "copied", "excluded", "failed", "pending"].map(|name| figure(&status, name));
    assert_eq!(counts, [13, 11, 1, 1, 0]);
    assert_eq!(status["status"]["phase"], "Synced");
    assert_eq!(
        (&status["status"]["counts"]["synced"], &status["status"]["counts"]["verified"]),
        (&1.into(), &0.into())
    );
    for (kind, wanted) in [
        ("Synced", ("True", "Succeeded")),
        ("Verified", ("False", "MessagesFailed")),
        ("Ready", ("False", "MessagesFailed")),
        ("CutoverSafe", ("False", "FindingsOpen")),
    ] {
        let (state, reason, message) = condition(&status, kind);
        assert_eq!((state.as_str(), reason.as_str()), wanted, "{kind}: {message}");
    }
    let report: Value = serde_json::from_str(&ferry.report("json")).unwrap();
    let row = &report["mailboxes"][0];
    assert_eq!(
        (row["phase"].as_str(), row["altered"].as_u64(), row["changed"].as_u64()),
        (Some("Synced"), Some(1), Some(0))
    );
    assert_eq!((row["sizesChecked"].as_u64(), row["verification"].is_null()), (Some(11), true));
    let page = words(&ferry.report("html"));
    assert!(page.contains("In all passes 11 arrivals were compared with the source by size"), "{page}");
    assert!(page.contains("No verification has been made since"), "{page}");
    assert!(page.contains(&format!("{WHO}: 1 message could not be carried")), "needs attention: {page}");
    assert!(!page.contains("Verified") && !page.contains("Complete"), "{page}");

    // Then three go, two are changed where they lie, one gets a flag, and two more letters come.
    expunge(&new, THERE, "INBOX", &["one", "two"]);
    expunge(&new, THERE, "Work", &["beta"]);
    tamper(&new, THERE, "the text of three", "the test of three");
    tamper(&new, THERE, "the text of four", "THE TEXT OF FOUR");
    let mut client = new.mailbox(THERE);
    client.select("Work").unwrap();
    client.command("STORE 1 +FLAGS (\\Flagged)").unwrap();
    drop(client);
    old.mailbox(WHO).seed([letter("INBOX", "late one", "late"), letter("Work", "late two", "late")]);

    let full = ferry.call("verify", &["--depth", "Full", "--output", "json"]);
    full.expect_code(25);
    println!("{}\n{}", full.stdout, full.stderr);
    assert_eq!(named(&full, "Missing"), ["beta", "one", "two"]);
    assert_eq!(named(&full, "Altered"), ["four", "three", "with odd line ends"]);
    assert_eq!(named(&full, "Flags"), ["alpha"]);
    assert_eq!(named(&full, "Waiting").len(), 2);
    let json = full.json();
    let figures = &json["mailboxes"][0]["verification"];
    let number = |name: &str| figures[name].as_u64().unwrap();
    // Eight are there: five as they were, one as it was stored, two changed since.
    let shown = ["checked", "identical", "sameSize", "altered", "missing", "differing", "waiting", "failed"]
        .map(number);
    assert_eq!(shown, [11, 5, 0, 3, 3, 1, 2, 1]);
    assert_eq!(json["mailboxes"][0]["failed"][0]["subject"], "too large for the new server");
    let three = json["mailboxes"][0]["differences"]
        .as_array()
        .unwrap()
        .iter()
        .find(|difference| difference["kind"] == "Altered" && difference["subject"] == "three")
        .unwrap()
        .clone();
    assert_eq!(three["source"]["folder"], "INBOX");
    assert!(three["destination"]["uid"].is_u64() && three["messageId"] == "three@a.test", "{three:#}");
    assert_eq!(three["expected"]["size"], three["found"]["size"]);
    assert_ne!(three["expected"]["exact"], three["found"]["exact"]);

    assert_the_same_everywhere(&ferry);

    // Nothing of that is forgotten by a shallower look, nor by a pass that carries what came late.
    for depth in ["Sizes", "Sampled"] {
        let again = ferry.call("verify", &["--depth", depth, "--output", "json"]);
        again.expect_code(25);
        assert_eq!(named(&again, "Missing").len(), 3, "{depth}");
        assert_eq!(again.json()["mailboxes"][0]["verification"]["altered"], 3, "{depth}: {}", again.stdout);
        assert_the_same_everywhere(&ferry);
    }
    let report: Value = serde_json::from_str(&ferry.report("json")).unwrap();
    let row = &report["mailboxes"][0];
    assert_eq!(
        (&row["verification"]["depth"], &row["rechecked"]["depth"]),
        (&"Full".into(), &"Sampled".into())
    );

    let ran = ferry.run(&["--progress", "none"]);
    ran.expect_code(25);
    let status = ferry.status();
    let counts = ["source", "copied", "excluded", "failed", "pending"].map(|name| figure(&status, name));
    assert_eq!(counts, [15, 13, 1, 1, 0]);
    let told = findings(&status);
    assert!(told["ArrivalsMissing"].starts_with("3 messages are"), "{told:#?}");
    assert!(told["ArrivalsChanged"].starts_with("2 messages were"), "{told:#?}");
    assert_eq!(status["status"]["phase"], "Synced");
    assert_eq!(new.mailbox(THERE).read_all().messages(), 10, "nothing of the missing is sent again unasked");

    // Messages that are sent again are proved, and the rest stays until it is acknowledged.
    ferry.call("verify", &["--repair"]).expect_code(25);
    let told = findings(&ferry.status());
    assert!(!told.contains_key("ArrivalsMissing") && told.contains_key("ArrivalsChanged"), "{told:#?}");
    let agreed = plan.text().replace(
        "  stage: Sync\n",
        "  stage: Sync\n  acknowledge:\n  - {finding: MessagesQuarantined, reason: agreed}\n  - {finding: ArrivalsChanged, \
         reason: agreed}\n  - {finding: ArrivalsDiffer, reason: agreed}\n",
    );
    ferry.write(&agreed);
    ferry.call("verify", &[]).expect_code(0);
    ferry.run(&["--progress", "none"]).expect_code(0);
    let status = ferry.status();
    assert_eq!(status["status"]["phase"], "Verified", "{status:#}");
    for kind in ["Verified", "CutoverSafe", "Ready"] {
        assert_eq!(condition(&status, kind).0, "True", "{kind}: {status:#}");
    }

    // Mended in place, it is an alteration no more.
    tamper(&new, THERE, "the test of three", "the text of three");
    tamper(&new, THERE, "THE TEXT OF FOUR", "the text of four");
    ferry.call("verify", &["--depth", "Sizes"]).expect_code(0);
    assert!(!findings(&ferry.status()).contains_key("ArrivalsChanged"), "it was read, and is right again");
}

/// Holds the status, the report in each format, the report of messages and the files of the state directory against each other.
#[track_caller]
#[allow(clippy::too_many_lines, reason = "one fact after another")]
fn assert_the_same_everywhere(ferry: &Ferry) {
    let status = ferry.status();
    assert_equation(&status);
    let counts = ["source", "copied", "excluded", "failed", "pending"].map(|name| figure(&status, name));
    assert_eq!(counts, [15, 11, 1, 1, 2], "{status:#}");
    assert_eq!(status["status"]["phase"], "Partial");
    assert_eq!(condition(&status, "Synced").0, "False", "two messages are still to come");
    for kind in ["Verified", "Ready", "CutoverSafe"] {
        let (state, _, message) = condition(&status, kind);
        assert_eq!(state, "False", "{kind}: {message}");
    }
    let told = findings(&status);
    for (code, words) in [
        ("MessagesQuarantined", "1 message could not be carried"),
        ("ArrivalsMissing", "3 messages are no longer at the destination"),
        ("ArrivalsChanged", "2 messages were found changed"),
        ("MessagesAltered", "The destination changed 1 message while storing"),
        ("ArrivalsDiffer", "1 message differs in flags or date"),
    ] {
        assert!(told.get(code).is_some_and(|message| message.starts_with(words)), "{code}: {told:#?}");
    }

    let text = ferry.call("status", &[]);
    assert!(
        text.stdout.contains("15 at the source = 11 copied + 1 excluded + 1 failed + 2 pending"),
        "{}",
        text.stdout
    );

    let report: Value = serde_json::from_str(&ferry.report("json")).unwrap();
    let totals = &report["totals"];
    for (name, wanted) in
        [("altered", 3), ("changed", 2), ("missing", 3), ("differing", 1), ("foundAltered", 3)]
    {
        assert_eq!(totals[name], wanted, "{name}: {totals:#}");
    }
    assert_eq!(totals["messages"], status["status"]["messages"]);
    for (list, wanted) in
        [("quarantined", 1), ("missing", 3), ("changed", 2), ("altered", 1), ("excluded", 1)]
    {
        assert_eq!(report["exceptions"][list]["total"], wanted, "{list}");
    }
    assert_eq!(report["standing"]["word"], "Partly copied");

    let rows = ferry.messages();
    let with = |verdict: &str| rows.iter().filter(|row| row["verdict"] == verdict).count();
    assert_eq!(
        ["Delivered", "DeliveredAltered", "Excluded", "Quarantined", "Pending"].map(with),
        [8, 3, 1, 1, 2],
        "{rows:#?}"
    );
    let lost: Vec<_> =
        rows.iter().filter(|row| row["verdict"] == "Delivered" && row["destination"].is_null()).collect();
    assert!(lost.len() == 3 && lost.iter().all(|row| row["reason"].is_string()), "{lost:#?}");
    let later = rows.iter().filter(|row| {
        row["verdict"] == "DeliveredAltered" && row["reason"].as_str().unwrap().starts_with("found changed ")
    });
    assert_eq!(later.count(), 2);

    let csv = ferry.report("csv");
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let heads = reader.headers().unwrap().clone();
    let record = reader.records().next().unwrap().unwrap();
    let cell = |title: &str| record[heads.iter().position(|head| head == title).unwrap()].to_owned();
    for (title, wanted) in [
        ("Phase", "Partial"),
        ("At the source", "15"),
        ("Copied", "11"),
        ("Pending", "2"),
        ("Altered", "3"),
        ("Found altered", "2"),
        ("Missing", "3"),
    ] {
        assert_eq!(cell(title), wanted, "{title}");
    }

    // The files that lie beside the state were written anew by the verification.
    let book = sheets(&fs::read(ferry.state().join("report.xlsx")).unwrap());
    let summary = &book["Summary"];
    for (label, wanted) in [
        ("Phase", "Partial"),
        ("Messages at the source", "15"),
        ("= copied", "11"),
        ("+ pending", "2"),
        ("Copied and altered", "3"),
        ("of these, found altered by a verification", "2"),
        ("Copied and no longer there", "3"),
        ("With other flags or dates", "1"),
    ] {
        assert_eq!(fact(summary, label), wanted, "{label}");
    }
    let mailboxes = &book["Mailboxes"];
    for (column, wanted) in [("Copied", 11), ("Missing", 3), ("Altered", 3), ("Found missing", 3)] {
        assert_eq!(sum(mailboxes, column), wanted, "{column}");
    }
    let listed = format!("{:?}", book["Not delivered"]);
    for subject in
        ["one", "two", "beta", "three", "four", "with odd line ends", "too large for the new server"]
    {
        assert!(listed.contains(&format!("\"{subject}\"")), "{subject}: {listed}");
    }
    let differences = format!("{:?}", book["Differences"]);
    assert!(differences.contains("\"alpha\"") && differences.contains("\"Flags\""), "{differences}");

    let kept = fs::read_to_string(ferry.state().join("report.html")).unwrap();
    for page in [words(&kept), words(&ferry.report("html"))] {
        for wanted in [
            "Partly copied 2 messages are still to come. Of the others not all is as it was: 1 message could not be carried, 3 messages \
             are no longer at the destination, 2 messages were found changed by a verification, 1 message was changed while it was stored, \
             1 message is there with other flags or dates.",
            "By what passes and verifications have found until now, 3 are missing and 3 are altered.",
            "15 at the source = 11 copied + 1 excluded + 1 failed + 2 pending",
            "Could not be carried: 1",
            "Arrived, and are no longer there: 3",
            "Found changed by a verification: 2",
            "Changed by the destination while it stored them: 1",
            "Left out by a rule: 1",
            "Differences that the last verification found",
        ] {
            assert!(page.contains(wanted), "no \"{wanted}\" in {page}");
        }
        for never in
            ["Nothing has been verified yet", "No verification has been made", "Complete", " as sent"]
        {
            assert!(!page.contains(never), "\"{never}\" in {page}");
        }
    }
}

#[test]
fn mail_that_no_rule_leaves_out_any_more_waits() {
    let (old, new) = (sources(), destination());
    old.mailbox(WHO).seed([letter("INBOX", "one", "text"), letter("Work", "two", "text")]);
    let text = manifest(&old, &new, &["alice"]).text();
    let ferry = Ferry::new(&text.replace("  stage: Sync\n", "  stage: Sync\n  mapping: {exclude: [Work]}\n"));
    ferry.run(&["--progress", "none"]).expect_code(0);
    assert_eq!(figure(&ferry.status(), "excluded"), 1);
    ferry.write(&text);
    let verified = ferry.call("verify", &["--output", "json"]);
    verified.expect_code(22);
    assert_eq!(named(&verified, "Waiting").len(), 1, "{}", verified.stdout);
    assert!(named(&verified, "Folder").is_empty(), "{}", verified.stdout);
    let status = ferry.status();
    assert_eq!((figure(&status, "excluded"), figure(&status, "pending")), (0, 1));
    for kind in ["Synced", "Verified", "CutoverSafe"] {
        assert_eq!(condition(&status, kind).0, "False", "{kind}: {status:#}");
    }
    ferry.run(&["--progress", "none"]).expect_code(0);
    assert_eq!(new.mailbox(THERE).read_all().messages(), 2);
    assert_eq!(ferry.status()["status"]["phase"], "Verified");
}

#[test]
fn a_message_that_was_stored_otherwise_and_changed_since_is_found() {
    let (old, new) = (sources(), destination());
    for subject in ["left alone", "changed since"] {
        // Dovecot keeps no doubled carriage returns.
        let odd = letter("INBOX", subject, &format!("the text of {subject}\r\r\nends so"));
        old.deliver(WHO, subject.split(' ').next().unwrap(), &odd.bytes);
    }
    let ferry = Ferry::new(&manifest(&old, &new, &["alice"]).text());
    ferry.run(&["--progress", "none"]).expect_code(0);
    let full = ferry.call("verify", &["--depth", "Full", "--output", "json"]);
    full.expect_code(0);
    assert_eq!(named(&full, "Altered"), ["changed since", "left alone"]);
    assert!(!findings(&ferry.status()).contains_key("ArrivalsChanged"), "both are as they were stored");

    tamper(&new, THERE, "the text of changed", "THE TEXT OF CHANGED");
    let full = ferry.call("verify", &["--depth", "Full", "--output", "json"]);
    full.expect_code(25);
    let told = findings(&ferry.status());
    assert!(told["ArrivalsChanged"].starts_with("1 message was found changed"), "{told:#?}");
    let rows = ferry.messages();
    let changed =
        rows.iter().find(|row| row["reason"].as_str().is_some_and(|r| r.starts_with("found changed")));
    assert_eq!(changed.unwrap()["messageId"], "changed since@a.test", "{rows:#?}");
}

#[test]
fn a_size_alone_is_never_called_identical_and_of_each_mailbox_some_are_read() {
    let (old, new) = (sources(), destination());
    for (user, there) in [(WHO, 20), (BOB, 5)] {
        let mail = (0..there)
            .map(|n| letter(["INBOX", "Work"][n % 2], &format!("letter {n:02}"), "the very same length"));
        old.mailbox(user).seed(mail);
    }
    let ferry = Ferry::new(&manifest(&old, &new, &["alice", "bob"]).text());
    ferry.run(&["--progress", "none"]).expect_code(0);
    for path in files_with(&new, THERE, "the very same length") {
        let text = fs::read(&path).unwrap();
        let text = String::from_utf8(text).unwrap().replace("the very same length", "NOT that, as long as");
        fs::write(&path, text).unwrap();
    }
    let figures = |ended: &Ended, mailbox: usize| ended.json()["mailboxes"][mailbox]["verification"].clone();
    let sizes = ferry.call("verify", &["--depth", "Sizes", "--output", "json"]);
    sizes.expect_code(0);
    let alice = figures(&sizes, 0);
    assert_eq!(
        (&alice["sameSize"], &alice["identical"], &alice["readBack"]),
        (&20.into(), &0.into(), &0.into())
    );

    let sampled = ferry.call("verify", &["--output", "json"]);
    sampled.expect_code(25);
    let (alice, bob) = (figures(&sampled, 0), figures(&sampled, 1));
    println!("{alice:#}\n{bob:#}");
    let read = |figures: &Value| figures["readBack"].as_u64().unwrap();
    assert!(read(&alice) >= 2 && read(&bob) >= 2, "at least one of each folder");
    assert!(alice["altered"].as_u64().unwrap() >= 2 && alice["identical"] == 0, "{alice:#}");
    assert_eq!((&bob["identical"], &bob["altered"]), (&bob["readBack"], &0.into()));
    let sum = |figures: &Value| {
        ["identical", "sameSize", "altered", "missing"]
            .map(|name| figures[name].as_u64().unwrap())
            .iter()
            .sum::<u64>()
    };
    assert_eq!((sum(&alice), sum(&bob)), (20, 5));
    let page = words(&ferry.report("html"));
    assert!(page.contains("of the same size and date") && !page.contains(" as sent"), "{page}");

    let text = ferry.call("verify", &["--depth", "Sampled"]);
    assert!(text.stdout.contains("of the same size") && text.stdout.contains("read back"), "{}", text.stdout);
    assert!(text.stderr.contains("is being verified, 1/2 mailboxes"), "progress: {}", text.stderr);
    let quiet = ferry.call("verify", &["--depth", "Sampled", "--progress", "none"]);
    assert!(!quiet.stderr.contains("is being verified"), "{}", quiet.stderr);
}

#[test]
fn without_a_proof_there_is_no_success_and_nothing_is_made() {
    let (old, new) = (sources(), destination());
    old.mailbox(WHO).seed([letter("INBOX", "one", "text")]);
    let ferry = Ferry::new(&manifest(&old, &new, &["alice"]).text());
    let other = ferry.path("stat");
    let mistyped = |ferry: &Ferry| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_mailferry"));
        command.args(["verify", "-f"]).arg(ferry.manifest()).arg("--state").arg(&other);
        Ended::from(command.output().unwrap())
    };
    // Nothing was run yet, and the directory is not a state directory.
    for ended in [ferry.call("verify", &[]), mistyped(&ferry)] {
        ended.expect_code(23);
        assert!(ended.error().0.contains("there is no state"), "{}", ended.stderr);
    }
    assert!(!ferry.state().exists() && !other.exists());
    ferry.run(&["--progress", "none"]).expect_code(0);
    mistyped(&ferry).expect_code(23);
    assert!(!other.exists());

    // The state of another migration.
    let text = fs::read_to_string(ferry.manifest()).unwrap();
    ferry.write(&text.replace("name: move,", "name: another,"));
    let before = ferry::files(&ferry.state());
    let ended = ferry.call("verify", &[]);
    ended.expect_code(23);
    assert!(ended.error().0.contains("another: nothing is known of it"), "{}", ended.stderr);
    assert_eq!(ferry::files(&ferry.state()), before, "nothing is made of it");

    // No mailboxes.
    let csv = ferry::csv(&[(WHO, "", "alice-secret"), (BOB, "", "bob-secret")]);
    let none = text
        .replace("    mailboxes:\n      list:\n      - {address: \"alice@old.test\", destination: \"alice@new.test\"}\n", "")
        .replace(&Value::from(csv.as_str()).to_string(), "\"address,username,password\\n\"");
    ferry.write(&none);
    let ended = ferry.call("verify", &[]);
    assert_eq!(ended.code, 23, "{}{}", ended.stdout, ended.stderr);

    // The ledger is gone.
    ferry.write(&text);
    for path in ferry::files(&ferry.state()).iter().filter(|path| path.to_string_lossy().contains(".sqlite"))
    {
        if !path.ends_with("logins.sqlite") {
            fs::remove_file(path).unwrap();
        }
    }
    let ended = ferry.call("verify", &[]);
    ended.expect_code(23);
    let (what, _) = ended.error();
    assert!(
        what.contains("there is no ledger of it") && !ended.stdout.contains("nothing was delivered"),
        "{what}"
    );

    let told = findings(&ferry.status());
    assert!(told["LedgerLost"].starts_with("The ledger of 1 message that was carried is lost"), "{told:#?}");

    // The pass that begins anew reports it, and recognises by its content what is at the destination.
    for is_told in [true, false] {
        ferry.run(&["--progress", "none"]).expect_code(0);
        let status = ferry.status();
        assert_eq!(findings(&status).contains_key("LedgerLost"), is_told, "{status:#}");
        assert_eq!((new.mailbox(THERE).read_all().messages(), figure(&status, "copied")), (1, 1));
    }

    // With the stage at Plan nothing is sent again.
    expunge(&new, THERE, "INBOX", &["one"]);
    ferry.write(&text.replace("stage: Sync", "stage: Plan"));
    let ended = ferry.call("verify", &["--repair"]);
    ended.expect_code(23);
    assert!(ended.error().0.contains("spec.stage: it is Plan"), "{}", ended.stderr);
    assert_eq!(new.mailbox(THERE).read_all().messages(), 0);
}

fn signal(pid: u32, name: &str) {
    assert!(std::process::Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

#[test]
fn a_run_that_was_stopped_or_killed_does_not_read_as_if_it_went_on() {
    const ALL: u64 = 1_300;
    for name in ["-INT", "-KILL"] {
        let (old, new) = (sources(), destination());
        // A window of 500 messages is written down once it is proved.
        let mail = (0..ALL).map(|n| letter("INBOX", &format!("letter {n:04}"), &"0123456789\r\n".repeat(30)));
        old.mailbox(WHO).seed(mail);
        let text = manifest(&old, &new, &["alice"]).policy("limits: {bytesPerSecond: 100000}").text();
        let ferry = Ferry::new(&text);
        let mut run = ferry.start(&["--progress", "none"]);
        let patience = Instant::now() + Duration::from_mins(1);
        let delivered = |ferry: &Ferry| {
            let asked =
                ferry.call("report", &["--kind", "messages", "--format", "json", "--verdict", "Delivered"]);
            asked.stdout.lines().count()
        };
        while delivered(&ferry) == 0 {
            assert!(Instant::now() < patience && run.try_wait().unwrap().is_none());
            std::thread::sleep(Duration::from_millis(100));
        }
        let going_on = ferry.status();
        assert_eq!(going_on["status"]["phase"], "Syncing", "{going_on:#}");
        signal(run.id(), name);
        let ended = run.wait().unwrap();
        if name == "-INT" {
            assert_eq!(ended.code(), Some(40));
        }
        let status = ferry.status();
        assert_equation(&status);
        assert_eq!(status["status"]["phase"], "Interrupted", "{name}: {status:#}");
        let copied = figure(&status, "copied");
        assert!((1..ALL).contains(&copied), "{name}: what was copied so far is counted: {copied}");
        assert_eq!(figure(&status, "source"), ALL);
        for kind in ["Ready", "Synced", "Verified"] {
            assert_eq!(condition(&status, kind).0, "False", "{kind}");
        }
        assert_eq!(condition(&status, "Ready").1, "Interrupted");
        let kinds: Vec<&Value> =
            status["status"]["conditions"].as_array().unwrap().iter().map(|c| &c["type"]).collect();
        assert!(!kinds.contains(&&"Reconciling".into()), "{kinds:?}");
        let report: Value = serde_json::from_str(&ferry.report("json")).unwrap();
        assert_eq!(report["totals"]["messages"], status["status"]["messages"], "{name}");
        assert_eq!(
            (&report["phase"], &report["standing"]["word"]),
            (&"Interrupted".into(), &"Stopped".into())
        );
        assert_eq!(report["mailboxes"][0]["phase"], "Ready");
        let rows = ferry.messages();
        let delivered = rows.iter().filter(|row| row["verdict"] == "Delivered").count() as u64;
        assert_eq!(delivered, copied, "{name}");
        if name == "-INT" {
            let page = words(&fs::read_to_string(ferry.state().join("report.html")).unwrap());
            assert!(
                page.contains(&format!("{copied} of 1,300 messages are known to have arrived")),
                "{page}"
            );
        }
        ferry.write(&text.replace("limits: {bytesPerSecond: 100000}", "limits: {}"));
        ferry.run(&["--progress", "none"]).expect_code(0);
        assert_eq!(ferry.status()["status"]["phase"], "Verified");
    }
}

#[test]
fn a_verification_ends_at_a_signal() {
    let (old, new) = (sources(), destination());
    let mail = (0..300).map(|n| letter("INBOX", &format!("letter {n:03}"), &"0123456789\r\n".repeat(5_000)));
    old.mailbox(WHO).seed(mail);
    let ferry = Ferry::new(&manifest(&old, &new, &["alice"]).text());
    ferry.run(&["--progress", "none"]).expect_code(0);
    let mut command = ferry.command("verify", &["--depth", "Full"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Its first line tells that it has begun.
    let mut told = BufReader::new(child.stderr.take().unwrap());
    let mut stderr = String::new();
    told.read_line(&mut stderr).unwrap();
    assert!(child.try_wait().unwrap().is_none(), "it is still at it: {stderr}");
    signal(child.id(), "-INT");
    told.read_to_string(&mut stderr).unwrap();
    let output = child.wait_with_output().unwrap();
    let ended = Ended::from(Output { stderr: stderr.into_bytes(), ..output });
    ended.expect_code(40);
    assert!(ended.error().0.contains("stopped by a signal"), "{}", ended.stderr);
    assert_eq!(ferry.status()["status"]["phase"], "Verified", "as it was before");
    ferry.call("verify", &["--depth", "Full"]).expect_code(0);
}

#[test]
fn the_head_of_the_report_says_just_what_is_the_case() {
    let (old, new) = (sources(), destination());
    let head = |ferry: &Ferry| {
        let report: Value = serde_json::from_str(&ferry.report("json")).unwrap();
        let page = words(&ferry.report("html"));
        let (word, sentence) = (&report["standing"]["word"], &report["standing"]["sentence"]);
        let said = format!("{} {}", word.as_str().unwrap(), sentence.as_str().unwrap());
        assert!(page.contains(&said) && !page.contains("Complete"), "{said}: {page}");
        said
    };
    // An empty mailbox that is through.
    let plan = manifest(&old, &new, &["alice"]);
    let ferry = Ferry::new(&plan.text());
    ferry.run(&["--progress", "none"]).expect_code(0);
    assert_eq!(head(&ferry), "Nothing to copy Every mailbox was gone through, and none holds a message.");

    // Everything is left out.
    old.mailbox(WHO).seed((0..4).map(|n| letter("INBOX", &format!("letter {n}"), "text")));
    let ferry = Ferry::new(&plan.text().replace("maxMessageBytes: 150000", "maxMessageBytes: 10"));
    ferry.run(&["--progress", "none"]).expect_code(0);
    assert_eq!(
        head(&ferry),
        "Nothing to copy Of 4 messages at the source none was copied: all are left out by a rule of the project."
    );

    // One of two mailboxes stops: the other's mail is not all.
    old.mailbox(BOB).seed((0..3).map(|n| letter("INBOX", &format!("bob {n}"), "text")));
    let full = Dovecot::builder()
        .imap(LOOPBACK)
        .master("admin", "admin-secret")
        .user(User::new(THERE, "of-no-use"))
        .user(User::new(BOB_THERE, "of-no-use").quota(1))
        .start();
    let ferry = Ferry::new(&manifest(&old, &full, &["alice", "bob"]).text());
    ferry.run(&["--progress", "none"]).expect_code(24);
    let said = head(&ferry);
    assert!(
        said.starts_with("Stopped 1 of 2 mailboxes stopped before it was through; 4 of 7 messages arrived."),
        "{said}"
    );
    assert_eq!(ferry.status()["status"]["phase"], "Stalled");
}
