//! The command line as a tired administrator meets it: windows that are closed, reports that somebody has open, state that
//! belongs to somebody else, one mailbox of many, and the pages that a shell and `man` want.

mod remedies;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::ferry::{Ended, Ferry, Manifest, assert_equation, csv, figure, files, server};
use crate::support::compare::differences;
use crate::support::corpus::Corpus;
use crate::support::dovecot::{Dovecot, LOOPBACK, User};
use crate::support::process::is_root;

/// Mailboxes with some mail each at an old server, and a new one that knows them.
struct Move {
    old: Dovecot,
    new: Dovecot,
    names: Vec<String>,
}

impl Move {
    fn of(names: &[&str], messages: usize) -> Self {
        let mut old = Dovecot::builder().imap(LOOPBACK);
        let mut new = Dovecot::builder().imap(LOOPBACK).master("admin", "admin-secret");
        for name in names {
            old = old.user(User::new(&format!("{name}@old.test"), &format!("{name}-secret")));
            new = new.user(User::new(&format!("{name}@new.test"), "of-no-use"));
        }
        let (old, new) = (old.start(), new.start());
        for (at, name) in (0..).zip(names) {
            let corpus = Corpus::new(700 + at).ordinary_only();
            old.mailbox(&format!("{name}@old.test")).seed(corpus.messages(messages));
        }
        Self { old, new, names: names.iter().map(|name| (*name).to_owned()).collect() }
    }

    /// The manifest, with what `password` makes of a mailbox's name as its password.
    fn manifest(&self, password: impl Fn(&str) -> String) -> Manifest {
        let rows: Vec<(String, String)> =
            self.names.iter().map(|name| (format!("{name}@old.test"), password(name))).collect();
        let rows: Vec<_> =
            rows.iter().map(|(address, secret)| (address.as_str(), "", secret.as_str())).collect();
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        Manifest::to(self.new.imap(), "admin", "admin-secret")
            .secret("old.test", &[("mailboxes.csv", &csv(&rows))])
            .domain("old.test", &names, &server("IMAP", self.old.imap()))
    }

    fn good(&self) -> Manifest {
        self.manifest(|name| format!("{name}-secret"))
    }

    fn arrived(&self, name: &str) -> usize {
        let mut mailbox = self.new.mailbox(&format!("{name}@new.test"));
        mailbox.uid_next().values().map(|(_, next)| *next as usize - 1).sum()
    }

    fn assert_arrived(&self, name: &str) {
        let here = self.old.mailbox(&format!("{name}@old.test")).read_all();
        let there = self.new.mailbox(&format!("{name}@new.test")).read_all();
        assert_eq!(differences(&here, &there), [""; 0], "{name}");
    }
}

/// The binary, away from any manifest.
fn mailferry(args: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mailferry"));
    Ended::from(command.args(args).stdin(Stdio::null()).output().unwrap())
}

fn wait_until(what: &str, ready: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_mins(1);
    while !ready() {
        assert!(Instant::now() < end, "{what}");
        sleep(Duration::from_millis(50));
    }
}

/// A command line for a shell.
fn quoted(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words = words.map(|word| format!("'{}'", word.to_str().unwrap().replace('\'', r"'\''")));
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_standard_error_without_a_reader_ends_no_run() {
    let moved = Move::of(&["anna"], 40);
    let dead = |ferry: &Ferry, args: &[&str]| {
        let mut command = ferry.command("run", args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stderr.take());
        Ended::from(child.wait_with_output().unwrap())
    };
    for (args, brought) in [
        (["--progress", "plain"], "40 new, 0 changed"),
        // Another state directory knows nothing of it.
        (["--progress", "json"], "0 new, 40 found there already, "),
        (["-vv", "--progress=plain"], "0 new, 40 found there already, "),
    ] {
        let ferry = Ferry::new(&moved.good().text());
        let ended = dead(&ferry, &args);
        ended.expect_code(0);
        assert!(ended.stdout.contains("40 copied"), "{args:?}: {}", ended.stdout);
        assert!(ended.stdout.contains(&format!("\nThis run: {brought}")), "{}", ended.stdout);
    }
    moved.assert_arrived("anna");
    let ferry = Ferry::new(&moved.manifest(|_| "wrong".to_owned()).text());
    dead(&ferry, &["--progress", "plain"]).expect_code(21);
}

#[test]
fn an_output_without_a_reader_ends_quietly_and_one_that_is_full_does_not() {
    let moved = Move::of(&["anna"], 30);
    let ferry = Ferry::new(&moved.good().text());
    let mut child = ferry
        .command("run", &["--progress", "none"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = Ended::from(child.wait_with_output().unwrap());
    ended.expect_code(0);
    assert_eq!(ended.stderr, "");
    assert_eq!(files(&ferry.state()).iter().filter(|file| file.ends_with("report.html")).count(), 1);
    for args in [["--kind=messages", "--format=json"], ["--kind=migration", "--format=html"]] {
        let mut child =
            ferry.command("report", &args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let ended = Ended::from(child.wait_with_output().unwrap());
        ended.expect_code(0);
        assert_eq!(ended.stderr, "", "{args:?}");
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let ended = Ended::from(ferry.command("report", &args).stdout(full).output().unwrap());
        ended.expect_code(23);
        assert!(ended.stderr.contains("No space left"), "{}", ended.stderr);
    }
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let ended = Ended::from(ferry.command("status", &[]).stdout(full).output().unwrap());
    ended.expect_code(23);
    assert!(ended.error().0.contains("standard output cannot be written"), "{}", ended.stderr);
}

/// Runs a command line of a shell on a terminal of its own, which `script` (util-linux) makes; killing it takes the terminal
/// away.
fn on_terminal(ferry: &Ferry, line: &str) -> Child {
    let mut script = Command::new("script");
    script.args(["-qfec", line]).arg(ferry.path("typescript"));
    script.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    script.spawn().expect("script can be started")
}

/// A command line that keeps its exit code in the file `code`, whatever becomes of its terminal.
fn keeping_code(ferry: &Ferry, line: &str) -> String {
    let code = ferry.path("code").display().to_string();
    format!("{line}; echo $? > {code}.new; mv {code}.new {code}")
}

#[test]
fn a_run_under_nohup_outlives_its_terminal() {
    let moved = Move::of(&["anna"], 200);
    let ferry = Ferry::new(&moved.good().policy("limits: {bytesPerSecond: 150000}").text());
    let run = quoted(&ferry.command("run", &[]));
    let mut script = on_terminal(&ferry, &keeping_code(&ferry, &format!("trap '' HUP; {run}")));
    wait_until("nothing arrives", || moved.arrived("anna") > 5);
    script.kill().unwrap();
    script.wait().unwrap();
    wait_until("the run does not end", || ferry.path("code").exists());
    assert_eq!(fs::read_to_string(ferry.path("code")).unwrap().trim(), "0");
    assert_equation(&ferry.status());
    moved.assert_arrived("anna");
}

#[test]
fn a_hangup_ends_a_run_in_order_unless_it_is_ignored() {
    // The one that is to be stopped must not be through before, on however busy a machine; and these tests may be run under
    // nohup themselves.
    let rows = [("trap '' HUP; exec ", 0, 150_000), ("exec env --default-signal=HUP ", 40, 20_000)];
    for (trap, code, rate) in rows {
        let moved = Move::of(&["anna"], 150);
        let ferry = Ferry::new(&moved.good().policy(&format!("limits: {{bytesPerSecond: {rate}}}")).text());
        let run = quoted(&ferry.command("run", &["--progress", "none"]));
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{trap}{run}")]).stdin(Stdio::null());
        let child = shell.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        wait_until("nothing arrives", || moved.arrived("anna") > 5);
        let sent = Command::new("kill").args(["-HUP", &child.id().to_string()]).status();
        assert!(sent.unwrap().success());
        let ended = Ended::from(child.wait_with_output().unwrap());
        ended.expect_code(code);
        assert!(code == 0 || ended.stderr.contains("stopped by a signal"), "{}", ended.stderr);
    }
}

/// The screen of a terminal of so many columns, as the lines between line ends and movements of the cursor.
fn shown(ferry: &Ferry) -> Vec<String> {
    let text = fs::read(ferry.path("typescript")).unwrap();
    let text = String::from_utf8_lossy(&text);
    let escape = regex::Regex::new("\u{1b}\\[[0-9;?]*[A-Za-z]").unwrap();
    let lines = escape.replace_all(&text, "\n");
    lines.split(['\n', '\r']).map(str::to_owned).filter(|line| !line.starts_with("Script ")).collect()
}

#[test]
fn progress_fits_sixty_columns_and_tells_the_folder_and_the_whole_also_after_a_kill() {
    let moved = Move::of(&["anna", "bert"], 150);
    let slow = moved.good().policy("limits: {bytesPerSecond: 150000}");
    // One mailbox after the other, so that the whole is more than what is under way.
    let slow = slow.text().replace("  policy:", "  workers: {concurrency: 1}\n  policy:");
    let ferry = Ferry::new(&slow);
    let mut child = ferry.start(&["--progress", "none"]);
    wait_until("nothing arrives", || moved.arrived("anna") > 60);
    child.kill().unwrap();
    child.wait().unwrap();
    let before = moved.arrived("anna");
    let run = quoted(&ferry.command("run", &[]));
    let script = on_terminal(&ferry, &keeping_code(&ferry, &format!("stty cols 60 rows 24; {run}")));
    script.wait_with_output().unwrap();
    assert_eq!(fs::read_to_string(ferry.path("code")).unwrap().trim(), "0");
    let lines = shown(&ferry);
    // Where a row is full the next one follows it without an end of line; and what is a word is not broken between two.
    for line in lines.iter().filter(|line| !line.contains("/state/")) {
        let row: Vec<char> = line.chars().collect();
        for edge in (60..row.len()).step_by(60) {
            assert!(row[edge - 1] == ' ' || row[edge] == ' ', "{line:?} is broken at {edge}");
        }
    }
    let total = regex::Regex::new("([0-9]+)/300 messages").unwrap();
    let counted: Vec<usize> = lines.iter().filter_map(|line| total.captures(line)?[1].parse().ok()).collect();
    let resumed = counted.iter().find(|n| **n > 0).copied().unwrap_or_default();
    // The message that was under way at the kill is looked for at the destination before it counts.
    assert!(resumed + 64 >= before && resumed > 0, "{before} had arrived, and it begins with {counted:?}");
    assert!(counted.windows(2).all(|pair| pair[0] <= pair[1]), "it never goes back: {counted:?}");
    assert!(counted.last().is_some_and(|last| *last > 250), "{counted:?}");
    let anna: Vec<&String> =
        lines.iter().filter(|line| line.contains("anna@old.test") && line.contains("/150")).collect();
    let folders = moved.old.mailbox("anna@old.test").folders();
    assert!(
        anna.iter().any(|line| folders.iter().any(|folder| line.contains(folder.as_str()))),
        "no folder in {anna:#?}"
    );
}

#[test]
fn a_refused_report_leaves_the_old_one() {
    let moved = Move::of(&["anna"], 10);
    let ferry = Ferry::new(&moved.good().text());
    ferry.run(&[]).expect_code(0);
    let out = ferry.path("report.md");
    fs::write(&out, "the old one").unwrap();
    let path = out.to_str().unwrap();
    let (line, hint) = ferry.call("report", &["--format", "md", "--out", path]).expect_code(23).error();
    assert!(line.contains("only a statement of work") && hint.contains("--kind sow"), "{line} {hint}");
    assert_eq!(fs::read_to_string(&out).unwrap(), "the old one");
    let is_ledger = |file: &PathBuf| file.extension().is_some_and(|extension| extension == "sqlite");
    let ledger = files(&ferry.state().join("test")).into_iter().find(is_ledger).unwrap();
    let sound = fs::read(&ledger).unwrap();
    fs::write(&ledger, "no ledger at all").unwrap();
    for format in ["html", "xlsx", "csv", "json"] {
        let out = ferry.path(&format!("messages.{format}"));
        fs::write(&out, "the old one").unwrap();
        let ended = ferry.call("report", &["--kind", "messages", "--out", out.to_str().unwrap()]);
        ended.expect_code(23);
        // The readable part is written whole; that it is not all is said.
        assert!(
            ended.stderr.contains("is not a Mailferry ledger") || ended.stderr.contains("is damaged"),
            "{}",
            ended.stderr
        );
    }
    fs::write(&ledger, sound).unwrap();
    let nowhere = ferry.path("no/report.html");
    let ended = ferry.call("report", &["--out", nowhere.to_str().unwrap()]);
    assert!(
        ended.expect_code(23).error().0.contains("no/report.html: cannot be written"),
        "{}",
        ended.stderr
    );
    ferry.call("report", &["--format", "html", "--out", "/dev/stdout"]).expect_code(0);
    assert!(
        !fs::symlink_metadata("/dev/stdout").unwrap().is_file(),
        "a device is written to, and not replaced"
    );
    let left: Vec<_> =
        files(&ferry.state()).into_iter().filter(|f| f.to_string_lossy().contains("/.tmp")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn some_mailboxes_alone_are_carried_checked_and_told() {
    let moved = Move::of(&["anna", "bert", "carl"], 20);
    let ferry =
        Ferry::new(&moved.manifest(|name| format!("{}-secret", name.replace("carl", "wrong"))).text());
    let (line, hint) = ferry.run(&["--only", "ana@old.test"]).expect_code(23).error();
    assert!(line.contains("--only ana@old.test") && line.contains("did you mean anna@old.test?"), "{line}");
    assert!(hint.contains("list"), "{hint}");
    let ended = ferry.run(&["--only", "ANNA@old.test", "--progress", "none"]);
    ended.expect_code(0);
    assert!(ended.stdout.contains("This run: 20 new, 0 changed"), "{}", ended.stdout);
    moved.assert_arrived("anna");
    assert_eq!((moved.arrived("bert"), moved.arrived("carl")), (0, 0));
    let status = ferry.status();
    assert_equation(&status);
    assert_eq!(
        (figure(&status, "source"), figure(&status, "copied"), figure(&status, "pending")),
        (40, 20, 20)
    );
    let status = &status["status"];
    assert_eq!((status["phase"].as_str(), status["counts"]["synced"].as_u64()), (Some("Partial"), Some(1)));
    let ready = status["conditions"].as_array().unwrap().iter().find(|c| c["type"] == "Ready").unwrap();
    assert_eq!(ready["status"], "False");
    assert!(
        ready["message"].as_str().unwrap().contains("(--only); 2 of 3 mailboxes are still to come"),
        "{ready}"
    );
    // By the new address; several after one flag; and what was carried stays what it was.
    ferry.run(&["--only", "bert@new.test", "anna@old.test", "--progress", "none"]).expect_code(0);
    moved.assert_arrived("bert");
    assert_eq!(figure(&ferry.status(), "copied"), 40);
    let verified = ferry.call("verify", &["--only", "bert@old.test", "--output", "json"]);
    let rows = verified.json();
    let rows: Vec<&Value> = rows["mailboxes"].as_array().unwrap().iter().map(|row| &row["mailbox"]).collect();
    assert_eq!(rows, ["bert@old.test"]);
    // The whole: who was left out is told as ever.
    ferry.run(&["--progress", "none"]).expect_code(21);
    let ended = ferry.run(&["--only", "anna@old.test", "--progress", "none", "--output", "json"]);
    ended.expect_code(0);
    let run = &ended.json()["run"];
    assert_eq!((&run["exitCode"], &run["new"], &run["changed"]), (&0.into(), &0.into(), &0.into()));
    // A mailbox that cannot be read ends such a run as it ends another.
    ferry.run(&["--only", "carl@old.test", "--progress", "none"]).expect_code(21);
}

#[test]
fn a_result_names_mailboxes_by_cause_and_counts_the_rest() {
    let names: Vec<String> = (0..34).map(|n| format!("m{n:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let moved = Move::of(&names, 1);
    // Nobody has a place at the destination.
    let text = moved.good().text().replace("admin-secret", "wrong-secret");
    let ended = Ferry::new(&text).run(&["--progress", "none"]);
    ended.expect_code(21);
    println!("{}", ended.stdout);
    let flat = ended.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains("Stopped: 34 mailboxes of 34"), "{flat}");
    assert!(flat.contains("m00@old.test") && flat.contains(" more"), "{flat}");
    let strict = Move::of(&["anna"], 5);
    let ferry = Ferry::new(&strict.good().text());
    ferry.run(&["--progress", "none"]).expect_code(0);
    let again = ferry.run(&["--progress", "none"]);
    assert!(again.expect_code(0).stdout.contains("\nThis run: 0 new, 0 changed\n"), "{}", again.stdout);
    strict.old.mailbox("anna@old.test").seed(Corpus::new(9).inbox_only().ordinary_only().messages(2));
    let again = ferry.run(&["--progress", "none"]);
    assert!(again.expect_code(0).stdout.contains("\nThis run: 2 new, 0 changed\n"), "{}", again.stdout);
}

/// The same command as somebody who may read everything and write nothing.
fn as_a_reader(command: &Command) -> Command {
    if !is_root() {
        let mut same = Command::new(command.get_program());
        same.args(command.get_args());
        return same;
    }
    let mut reader = Command::new("setpriv");
    reader.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    reader.arg(command.get_program()).args(command.get_args());
    reader
}

fn set_rights(directory: &Path, of_directories: u32, of_files: u32) {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            set_rights(&path, of_directories, of_files);
        } else {
            fs::set_permissions(&path, fs::Permissions::from_mode(of_files)).unwrap();
        }
    }
    fs::set_permissions(directory, fs::Permissions::from_mode(of_directories)).unwrap();
}

#[test]
fn who_may_only_read_the_state_can_look_at_it() {
    let moved = Move::of(&["anna"], 60);
    let ferry = Ferry::new(&moved.good().policy("limits: {bytesPerSecond: 100000}").text());
    // A kill leaves the last changes in SQLite's log, a sound end does not.
    let mut child = ferry.start(&["--progress", "none"]);
    wait_until("nothing arrives", || moved.arrived("anna") > 10);
    child.kill().unwrap();
    child.wait().unwrap();
    let home = ferry.manifest().parent().unwrap().to_owned();
    let look = |wanted: &str, args: &[&str]| {
        let ended = Ended::from(as_a_reader(&ferry.command(wanted, args)).current_dir("/").output().unwrap());
        ended.expect_code(0);
        assert!(!ended.stderr.contains("error"), "{}", ended.stderr);
        ended.stdout
    };
    let rows = |text: &str, verdict: &str| text.lines().filter(|line| line.contains(verdict)).count();
    set_rights(&home, 0o555, 0o444);
    let text = look("report", &["--kind", "messages", "--format", "json"]);
    let (delivered, pending) = (rows(&text, "\"Delivered\""), rows(&text, "\"Pending\""));
    assert!(delivered > 0 && delivered + pending <= 60, "{delivered} {pending}");
    look("status", &[]);
    set_rights(&home, 0o755, 0o644);
    ferry.write(&moved.good().text());
    ferry.run(&["--progress", "none"]).expect_code(0);
    set_rights(&home, 0o555, 0o444);
    assert!(look("status", &[]).contains("60 copied"));
    let page = look("report", &["--format", "html"]);
    assert!(page.contains("anna<wbr>@old.test"), "{page}");
    assert_eq!(rows(&look("report", &["--kind", "messages", "--format", "json"]), "\"Delivered\""), 60);
    assert!(look("plan", &[]).contains("anna@old.test"));
    assert!(!look("checklist", &[]).is_empty());
    let ended = Ended::from(as_a_reader(&ferry.command("run", &[])).current_dir("/").output().unwrap());
    let (line, hint) = ended.expect_code(23).error();
    assert!(line.contains("cannot be written") && hint.contains("--state"), "{line} {hint}");
    set_rights(&home, 0o755, 0o644);
}

#[test]
fn passwords_that_others_can_read_are_told() {
    let moved = Move::of(&["anna"], 3);
    let ferry = Ferry::new(&moved.good().text());
    let home = ferry.manifest().parent().unwrap().to_owned();
    let enter = |mode: u32| fs::set_permissions(&home, fs::Permissions::from_mode(mode)).unwrap();
    enter(0o700);
    fs::set_permissions(ferry.manifest(), fs::Permissions::from_mode(0o644)).unwrap();
    let quiet = ferry.run(&["--progress", "none"]);
    assert_eq!(quiet.expect_code(0).stderr, "", "nobody else may enter the directory");
    enter(0o755);
    let rights = |mode: u32| fs::set_permissions(ferry.manifest(), fs::Permissions::from_mode(mode)).unwrap();
    let manifest = ferry.manifest().display().to_string();
    let wanted = format!("note: {manifest} holds passwords, and others can read it: chmod 600 {manifest}\n");
    for (mode, said) in [(0o644, wanted.as_str()), (0o640, &wanted), (0o600, "")] {
        rights(mode);
        assert_eq!(ferry.run(&["--progress", "none"]).expect_code(0).stderr, said, "{mode:o}");
    }
    let out = ferry.path("report.html").display().to_string();
    rights(0o644);
    assert_eq!(ferry.call("report", &["--out", &out]).expect_code(0).stderr, wanted);
    // A directory of a Secret, with a list.
    rights(0o600);
    let secret = ferry.path("secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("mailboxes.csv"), csv(&[("anna@old.test", "", "anna-secret")])).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(secret.join("mailboxes.csv"), fs::Permissions::from_mode(0o644)).unwrap();
    let given = format!("old.test={}", secret.display());
    let ended = ferry.run(&["--progress", "none", "--secret", &given]);
    assert!(ended.expect_code(0).stderr.contains("mailboxes.csv holds passwords"), "{}", ended.stderr);
}

#[test]
fn the_version_says_the_commit_and_shells_and_man_get_their_pages() {
    let commit = Command::new("git").args(["-C", env!("CARGO_MANIFEST_DIR"), "rev-parse", "HEAD"]).output();
    let commit = commit.ok().filter(|output| output.status.success());
    let commit = commit.map(|output| String::from_utf8(output.stdout).unwrap()[..12].to_owned());
    let plain = concat!("mailferry ", env!("CARGO_PKG_VERSION"));
    for flag in ["-V", "--version"] {
        let said = mailferry(&[flag]).expect_code(0).stdout.trim().to_owned();
        assert!(said.starts_with(plain), "{said}");
        if let Some(commit) = &commit {
            assert_eq!(said, format!("{plain} ({commit})"));
        }
    }
    for (shell, sign) in [
        ("bash", "complete -F _mailferry"),
        ("zsh", "#compdef mailferry"),
        ("fish", "complete -c mailferry"),
        ("powershell", "Register-ArgumentCompleter"),
        ("elvish", "edit:completion"),
    ] {
        let script = mailferry(&["completions", shell]).expect_code(0).stdout.clone();
        assert!(
            script.contains(sign) && script.contains("support-bundle") && script.contains("only"),
            "{shell}"
        );
        assert!(!script.contains("config-maps"), "{shell}: options that are nothing for people");
    }
    let bash = mailferry(&["completions", "bash"]).stdout;
    let checked = Command::new("bash").args(["-n", "-c", &bash]).status();
    assert!(checked.is_ok_and(|status| status.success()), "bash reads it");
    mailferry(&["completions", "tcsh"]).expect_code(2);

    let page = mailferry(&["man"]).expect_code(0).stdout.clone();
    assert!(
        page.contains(".TH mailferry 1") && page.contains("support") && page.contains("Exit codes"),
        "{page}"
    );
    let run = mailferry(&["man", "run"]).expect_code(0).stdout.clone();
    assert!(run.contains(".TH mailferry-run 1") && run.contains("\\-\\-only"), "{run}");
    let (line, hint) = mailferry(&["man", "walk"]).expect_code(23).error();
    assert!(line.contains("walk: is no command") && hint.contains("--help"), "{line} {hint}");
    let directory = tempfile::tempdir().unwrap();
    mailferry(&["man", "--dir", directory.path().join("man1").to_str().unwrap()]).expect_code(0);
    let pages: Vec<String> = files(directory.path())
        .iter()
        .map(|file| file.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert!(
        pages.contains(&"mailferry.1".to_owned()) && pages.contains(&"mailferry-verify.1".to_owned()),
        "{pages:?}"
    );
    assert!(!pages.contains(&"mailferry-sync.1".to_owned()), "{pages:?}");
}

/// The script of the build, run as Cargo runs it, in a directory that is or is not a repository.
fn version_built(directory: &Path, more: &[(&str, &str)]) -> String {
    let builds = Path::new(env!("OUT_DIR")).parent().unwrap().parent().unwrap();
    let scripts = fs::read_dir(builds).unwrap().flatten().map(|entry| entry.path());
    let scripts =
        scripts.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("mailferry-"));
    let scripts = scripts.map(|path| path.join("build-script-build")).filter(|path| path.exists());
    let newest = scripts.max_by_key(|path| fs::metadata(path).unwrap().modified().unwrap()).unwrap();
    let mut script = Command::new(newest);
    script
        .env_remove("MAILFERRY_COMMIT")
        .env("CARGO_MANIFEST_DIR", directory)
        .env("CARGO_PKG_VERSION", "7.8.9");
    let output = script.envs(more.iter().copied()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    let version = said.lines().find_map(|line| line.strip_prefix("cargo::rustc-env=MAILFERRY_VERSION="));
    version.unwrap().to_owned()
}

#[test]
fn a_build_without_git_has_no_commit_and_does_not_fail() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    assert_eq!(version_built(here, &[]), "7.8.9");
    let told = [("MAILFERRY_COMMIT", "0123456789abcdef0123456789abcdef01234567")];
    assert_eq!(version_built(here, &told), "7.8.9 (0123456789ab)");
    assert_eq!(version_built(here, &[("MAILFERRY_COMMIT", "")]), "7.8.9");
    assert_eq!(version_built(here, &[("MAILFERRY_COMMIT", "not a commit")]), "7.8.9");
    let git = |args: &[&str]| {
        let identity = ["-c", "user.name=a", "-c", "user.email=a@a.test"];
        let mut command = Command::new("git");
        let done = command.arg("-C").arg(here).args(identity).args(args).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    };
    git(&["init", "-q"]);
    assert_eq!(version_built(here, &[]), "7.8.9", "nothing is committed yet");
    git(&["commit", "-q", "--allow-empty", "-m", "a"]);
    let commit = git(&["rev-parse", "HEAD"]);
    assert_eq!(version_built(here, &[]), format!("7.8.9 ({})", &commit[..12]));
    let nowhere = here.join("nothing").display().to_string();
    assert_eq!(version_built(here, &[("PATH", &nowhere)]), "7.8.9", "no git on this machine");
    // The sources of a package within somebody else's repository.
    let package = here.join("package");
    fs::create_dir(&package).unwrap();
    assert_eq!(version_built(&package, &[]), "7.8.9");
}
