//! Mail in files, carried by the real binary and a real Dovecot: there and back, killed at its steps, and looked at by
//! Python's `mailbox`, which is nobody's of ours.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::ferry::{Ferry, assert_equation};
use crate::support::compare::differences;
use crate::support::corpus::Corpus;
use crate::support::dovecot::{Dovecot, LOOPBACK, User};

/// Steps at which each run is killed, evenly over all of them.
const KILLS: u64 = 5;

/// The two documents of a way through files: out of a server, and into another one.
fn manifests(source: &Dovecot, destination: &Dovecot, format: &str) -> [String; 2] {
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: login}\nstringData: {username: anna, password: secret}\n---\n";
    let migration = |name: &str, rest: String| {
        format!(
            "{secret}apiVersion: mailferry.dev/v1alpha1\nkind: MailMigration\nmetadata: {{name: {name}}}\nspec:\n  stage: Sync\n  \
             policy: {{allowedNetworks: [\"127.0.0.0/8\"]}}\n{rest}    mailboxes: {{list: [{{address: anna@a.test}}]}}\n"
        )
    };
    let backup = format!(
        "  destination: {{files: {{format: {format}, path: kept}}}}\n  domains:\n  - name: a.test\n    credentialsRef: {{name: login}}\n    \
         servers: [{{protocol: IMAP, host: 127.0.0.1, port: {}, tls: None}}]\n",
        source.imap().port()
    );
    let restore = format!(
        "  destination: {{imap: {{host: 127.0.0.1, port: {}, tls: None, credentialsRef: {{name: login}}}}}}\n  domains:\n  - name: a.test\n    \
         files: {{format: {format}, path: kept}}\n",
        destination.imap().port()
    );
    [migration("backup", backup), migration("restore", restore)]
}

fn servers() -> (Dovecot, Dovecot) {
    let server = || Dovecot::builder().imap(LOOPBACK).user(User::new("anna", "secret")).start();
    (server(), server())
}

#[track_caller]
fn same(source: &Dovecot, destination: &Dovecot, context: &str) {
    let (here, there) = (source.mailbox("anna").read_all(), destination.mailbox("anna").read_all());
    let found = differences(&here, &there);
    assert!(found.is_empty(), "{context}:\n{}", found.join("\n"));
}

#[track_caller]
fn run(ferry: &Ferry) -> Value {
    let ended = ferry.run(&["--output", "json"]);
    ended.expect_code(0);
    let result: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_equation(&result);
    result
}

/// The mail that Python's `mailbox` reads: for each message of the tree its Message-ID and the digest of its lines.
fn read_by_python(format: &str, tree: &Path) -> Vec<String> {
    const SCRIPT: &str = r"
import hashlib, mailbox, os, re, sys
kind, root = sys.argv[1:]
boxes = []
if kind == 'Maildir':
    top = mailbox.Maildir(root, create=False)
    boxes = [top] + [top.get_folder(name) for name in top.list_folders()]
else:
    for where, _, names in os.walk(root):
        boxes += [mailbox.mbox(os.path.join(where, n), create=False)
                  for n in names if not n.endswith('.jsonl') and n != 'subscriptions']
for box in boxes:
    for key in box.keys():
        text = box.get_bytes(key)
        if kind == 'Mbox':
            text = re.sub(rb'^>(>*From )', rb'\1', text, flags=re.M)
        print(hashlib.md5(text.replace(b'\r\n', b'\n').rstrip(b'\n')).hexdigest())
";
    let output = Command::new("python3")
        .args(["-c", SCRIPT, format])
        .arg(tree)
        .stderr(Stdio::inherit())
        .output()
        .expect("python3 can be started");
    assert!(output.status.success());
    let mut lines: Vec<String> =
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn mail_goes_through_files_of_each_format_and_is_the_same_at_the_other_end() {
    for format in ["Maildir", "Mbox", "Eml"] {
        let (source, destination) = servers();
        source
            .mailbox("anna")
            .seed(Corpus::new(7).with_quoted_folder().with_large(&[3_000_000]).messages(60));
        let [backup, restore] = manifests(&source, &destination, format);
        let ferry = Ferry::new(&backup);
        run(&ferry);
        let tree = ferry.path("kept/anna@a.test");
        let kept = (format != "Eml").then(|| read_by_python(format, &tree));
        assert!(
            kept.is_none_or(|kept| kept.len() == 60),
            "{format}: every message is there once for others too"
        );
        let verified = ferry.call("verify", &["--depth", "Full", "--output", "json"]);
        verified.expect_code(0);
        ferry.write(&restore);
        run(&ferry);
        same(&source, &destination, format);

        // News in the files, as a mail program writes it, goes the same way.
        if format == "Maildir" {
            fs::write(
                tree.join("new/1700000000.program"),
                "Message-ID: <news@a.test>\nSubject: news\n\nnews\n",
            )
            .unwrap();
            let result = run(&ferry);
            assert_eq!(result["status"]["messages"]["source"], 61, "{}", result["status"]["messages"]);
        }
    }
}

#[test]
fn killed_at_any_step_a_backup_and_a_restore_leave_each_message_once() {
    for format in ["Maildir", "Mbox", "Eml"] {
        let (source, destination) = servers();
        source.mailbox("anna").seed(Corpus::new(9).messages(14));
        let [backup, _] = manifests(&source, &destination, format);
        let whole = Ferry::new(&backup).env("MAILFERRY_STEPS_FILE", "steps");
        run(&whole);
        let steps: u64 = fs::read_to_string(whole.path("steps")).unwrap().parse().unwrap();
        let expected = (format != "Eml").then(|| read_by_python(format, &whole.path("kept/anna@a.test")));
        for kill in 0..KILLS {
            let at = 1 + kill * steps / KILLS;
            let ferry = Ferry::new(&backup);
            let killed = ferry.command("run", &[]).env("MAILFERRY_DIE_AT", at.to_string()).output().unwrap();
            assert!(!killed.status.success(), "{format}: step {at} of {steps}");
            let result = run(&ferry);
            assert_eq!(result["status"]["messages"]["copied"], 14, "{format}: step {at}");
            let tree = ferry.path("kept/anna@a.test");
            if let Some(expected) = &expected {
                assert_eq!(read_by_python(format, &tree), *expected, "{format}: step {at} of {steps}");
            }
            let fresh = Dovecot::builder().imap(LOOPBACK).user(User::new("anna", "secret")).start();
            ferry.write(&manifests(&source, &fresh, format)[1]);
            let killed = ferry.command("run", &[]).env("MAILFERRY_DIE_AT", at.to_string()).output().unwrap();
            let _ = killed.status;
            run(&ferry);
            same(&source, &fresh, &format!("{format}: step {at} of {steps}"));
        }
    }
}
