//! A backup into files, and a restore from some.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use serde_json::json;

use crate::examples::scene::{NEW_HOST, Scene, account, arrived, fill, findings, spoken};
use crate::support::corpus::Corpus;
use crate::support::dovecot::{Dovecot, LOOPBACK, User};

/// Every file below a directory, with its bytes and its time.
fn photograph(root: &Path) -> BTreeMap<String, (Vec<u8>, SystemTime)> {
    let mut seen = BTreeMap::new();
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            seen.extend(photograph(&path));
        } else {
            let time = path.metadata().unwrap().modified().unwrap();
            seen.insert(path.display().to_string(), (fs::read(&path).unwrap(), time));
        }
    }
    seen
}

#[test]
fn a_backup_is_maildirs_that_dovecot_serves_and_a_second_one_changes_no_byte() {
    let scene = Scene::of("backup.yaml");
    let users = ["anna@contoso.example", "ben@contoso.example"];
    let source = scene
        .server("mail.contoso.example")
        .imaps(LOOPBACK)
        .user(User::new(users[0], "anna-old-password"))
        .user(User::new(users[1], "ben-old-password"))
        .start();
    let filled = fill(&source, users[0], 31, 80) + fill(&source, users[1], 32, 20);
    let played = scene.plays("mail.contoso.example", 993, source.imaps()).set();

    let backup = played.place.path().join("backup");
    let planned = played.succeeds("run", &["--stage", "Plan"]);
    assert!(!backup.exists(), "a plan writes nothing: {planned}");
    played.copies(filled, 0);
    let photo = photograph(&backup);
    played.copies(filled, 0);
    assert_eq!(photograph(&backup), photo, "a second run changes no byte");
    let verified = played.succeeds("verify", &["--depth", "Full"]);
    assert!(verified.contains("0 missing"), "{verified}");
    assert_eq!(photograph(&backup), photo, "and neither does a verification");

    // Another program reads it: the folders, flags, keywords, dates and bytes are those of the source.
    let reader =
        Dovecot::builder().imap(LOOPBACK).user(User::new(users[0], "x")).user(User::new(users[1], "y"));
    let reader = reader.start();
    for user in users {
        let home = played.place.path().join("home");
        fs::create_dir(&home).unwrap();
        let mut copy = Command::new("cp");
        let copied = copy.arg("-pR").arg(backup.join(user)).arg(home.join("Maildir")).status();
        assert!(copied.unwrap().success());
        reader.move_in(user, &home);
        fs::remove_dir_all(&home).unwrap();
        arrived((&source, user), (&reader, user));
    }
}

#[test]
fn a_restore_of_thunderbirds_folders_brings_all_of_them_with_flags_and_dates() {
    let scene = Scene::of("restore.yaml");
    let user = "anna@contoso.example";
    let destination =
        scene.server(NEW_HOST).imaps(LOOPBACK).user(User::new(user, "anna-new-password")).start();
    let profile = scene.place.path().join("profile/Mail");
    let messages: Vec<_> = Corpus::new(33).inbox_only().ordinary_only().messages(40).collect();
    let mut files: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    for (at, message) in messages.iter().enumerate() {
        let path = ["Inbox", "Sent", "Inbox.sbd/Projects", "Inbox.sbd/Projects.sbd/2024"][at % 4];
        let file = files.entry(path).or_default();
        let (status, keys) = (["0000", "0001", "0007"][at % 3], ["", "$label1"][at % 2]);
        file.extend(b"From - Thu Feb  1 03:04:05 2024\n");
        file.extend(format!("X-Mozilla-Status: {status}\nX-Mozilla-Status2: 00000000\n").bytes());
        file.extend(format!("X-Mozilla-Keys: {keys:<80}\n").bytes());
        for line in message.bytes.split_inclusive(|b| *b == b'\n') {
            let line = line.strip_suffix(b"\r\n").unwrap_or(line);
            if line.iter().position(|b| *b != b'>').is_some_and(|at| line[at..].starts_with(b"From ")) {
                file.push(b'>');
            }
            file.extend_from_slice(line);
            file.push(b'\n');
        }
        file.push(b'\n');
    }
    // One that was removed and not compacted away, and what else is in a profile.
    files
        .entry("Sent")
        .or_default()
        .extend(b"From - Thu Feb  1 03:04:05 2024\nX-Mozilla-Status: 0009\nSubject: removed\n\nremoved\n\n");
    files.insert("Inbox.msf", b"// <!-- <mdb:mork:z v=\"1.4\"/> -->".to_vec());
    for (path, bytes) in &files {
        let path = profile.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let photo = photograph(&profile);
    let played = scene.into(&destination);

    let planned = played.succeeds("run", &["--stage", "Plan"]);
    assert!(planned.contains("40"), "{planned}");
    let result = played.copies(40, 0);
    assert_eq!(spoken(&result, 0), (json!({"Mbox": 1}), false));
    assert!(findings(&result, 0).contains("FilesPassedOver"), "{result}");
    let there = account(&destination, user);
    let counts: Vec<(String, usize)> = there
        .folders
        .iter()
        .map(|(folder, rows)| (folder.clone(), rows.len()))
        .filter(|(_, n)| *n > 0)
        .collect();
    let expected = [("INBOX", 10), ("INBOX/Projects", 10), ("INBOX/Projects/2024", 10), ("Sent", 10)];
    assert_eq!(counts, expected.map(|(folder, count)| (folder.to_owned(), count)));
    let rows = there.folders.values().flatten();
    let flags: Vec<String> =
        rows.map(|row| row.flags.iter().cloned().collect::<Vec<_>>().join(" ")).collect();
    let with = |flag: &str| flags.iter().filter(|flags| flags.contains(flag)).count();
    assert_eq!((with("\\seen"), with("\\flagged"), with("$label1")), (26, 13, 20), "{flags:?}");
    // Byte for byte what Thunderbird was given, without the lines of its own.
    let source = Dovecot::builder().imap(LOOPBACK).user(User::new(user, "x")).start();
    source.mailbox(user).seed(messages);
    let digests = |server: &Dovecot| {
        let all = account(server, user).folders.into_values().flatten().map(|row| row.digest);
        let mut all: Vec<String> = all.collect();
        all.sort();
        all
    };
    assert_eq!(digests(&source), digests(&destination));
    let next = destination.mailbox(user).uid_next();
    played.copies(40, 0);
    assert_eq!(destination.mailbox(user).uid_next(), next, "a second run sends nothing");
    assert_eq!(photograph(&profile), photo, "nothing in the files is changed");
}
