//! All formats as a destination and as a source, through the traits.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use tokio::sync::mpsc;

use super::destination::FilesDestination;
use super::source::{FilesSource, Tree};
use super::{Files, Format};
use crate::drivers::marks::Numbered;
use crate::drivers::registry::Driver;
use crate::drivers::{
    Appended, BODY_QUEUE, BodyEvent, Destination, Envelope, Listed, Present, Source, Wanted,
};
use crate::model::capability::Capabilities;
use crate::model::endpoint::Endpoint;
use crate::model::evidence::ServerFacts;
use crate::model::failure::Failure;
use crate::model::folder::FolderPath;
use crate::model::mark::Mark;
use crate::model::message::{Flags, InternalDate, ItemId};
use crate::model::protocol::Protocol;

const FORMATS: [(Format, Protocol); 3] =
    [(Format::Maildir, Protocol::Maildir), (Format::Mbox, Protocol::Mbox), (Format::Eml, Protocol::Eml)];

/// Messages that are hard on one format or another.
fn messages() -> Vec<Vec<u8>> {
    let large: Vec<u8> =
        b"Subject: large\r\n\r\n".iter().copied().chain(b"0123456789 From me\r\n".repeat(200_000)).collect();
    vec![
        b"Subject: plain\r\nStatus: RO\r\nX-Mozilla-Status: 0009\r\n\r\nbody\r\n".to_vec(),
        b"Subject: from\r\n\r\nFrom here\r\n\r\nFrom x Thu Feb  1 03:04:05 2024\r\n>From y\r\n>>From z\r\n\r\n".to_vec(),
        b"Subject: no end\r\n\r\nlast line".to_vec(),
        b"Subject: ends\r\n\r\na\rb\r\r\nc\r\n\r\n\r\n".to_vec(),
        b"Subject: plain\r\nStatus: RO\r\nX-Mozilla-Status: 0009\r\n\r\nbody\r\n".to_vec(),
        b"".to_vec(),
        b"\r\n".to_vec(),
        b"no header, \xff\xfe and \0".to_vec(),
        large,
    ]
}

fn facts(path: &Path, protocol: Protocol) -> ServerFacts {
    ServerFacts {
        endpoint: Endpoint::files(protocol, &path.display().to_string()),
        greeting: String::new(),
        capabilities: Capabilities::default(),
        mechanisms: Vec::new(),
        tls: None,
    }
}

async fn destination(path: &Path, (format, protocol): (Format, Protocol)) -> FilesDestination {
    FilesDestination::of(Tree::open(path, format).unwrap(), facts(path, protocol)).await.unwrap()
}

fn source(path: &Path, (format, protocol): (Format, Protocol)) -> FilesSource {
    FilesSource::of(Tree::open(path, format).unwrap(), facts(path, protocol))
}

/// Sends messages, and after `cut` of them breaks off within the next.
async fn send(
    destination: &mut FilesDestination,
    path: &FolderPath,
    messages: &[Vec<u8>],
    cut: Option<usize>,
) -> (Vec<Appended>, Result<(), Failure>) {
    let (sender, mut bodies) = mpsc::channel(BODY_QUEUE);
    let (report, mut outcomes) = mpsc::unbounded_channel();
    let envelope = |key: u64| Envelope {
        flags: Flags::parse(if key.is_multiple_of(2) { "\\Seen $Label1" } else { "\\Flagged \\Deleted" }),
        date: Some(InternalDate { unix: 1_600_000_000 + i64::try_from(key).unwrap(), offset_minutes: 0 }),
    };
    let feed = async move {
        for (key, message) in (0..).zip(messages) {
            sender.send(BodyEvent::Begin { key, size: message.len() as u64 }).await.unwrap();
            let is_cut = cut == Some(usize::try_from(key).unwrap());
            for chunk in message.chunks(60_001) {
                if sender.send(BodyEvent::Chunk(chunk.to_vec().into())).await.is_err() || is_cut {
                    return;
                }
            }
            if is_cut {
                return;
            }
            sender.send(BodyEvent::End { date: None }).await.unwrap();
        }
    };
    let (appended, ()) = tokio::join!(destination.append(path, &mut bodies, &envelope, &report), feed);
    drop(report);
    let mut told = Vec::new();
    while let Some(outcome) = outcomes.recv().await {
        told.push(outcome);
    }
    (told, appended)
}

async fn read_back(destination: &mut FilesDestination, present: &[Present]) -> Vec<Vec<u8>> {
    let ids: Vec<ItemId> = present.iter().map(|present| present.id.clone()).collect();
    let (sender, mut events) = mpsc::channel(BODY_QUEUE);
    let (fetched, read) = tokio::join!(destination.fetch(&ids, sender), collect(&mut events));
    fetched.unwrap();
    read.into_values().collect()
}

async fn collect(events: &mut mpsc::Receiver<BodyEvent>) -> BTreeMap<u64, Vec<u8>> {
    let mut read = BTreeMap::new();
    let mut current = (0, 0, Vec::new());
    while let Some(event) = events.recv().await {
        match event {
            BodyEvent::Begin { key, size } => current = (key, size, Vec::new()),
            BodyEvent::Chunk(chunk) => {
                assert!(chunk.len() <= 64 * 1024);
                current.2.extend_from_slice(&chunk);
            }
            BodyEvent::End { .. } => {
                let (key, size, bytes) = std::mem::take(&mut current);
                assert_eq!(bytes.len() as u64, size);
                read.insert(key, bytes);
            }
            BodyEvent::Missing { key, .. } => drop(read.insert(key, b"missing".to_vec())),
            other => panic!("{other:?}"),
        }
    }
    read
}

async fn list(source: &mut FilesSource, path: &FolderPath) -> Vec<Listed> {
    let folders = source.survey().await.unwrap().folders;
    let folder = folders.into_iter().find(|folder| folder.path == *path).unwrap();
    source.open(&folder).await.unwrap();
    source.list(None).await.unwrap().messages
}

/// Every file of a tree with its content and time.
fn photograph(root: &Path) -> BTreeMap<String, (Vec<u8>, std::time::SystemTime)> {
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

#[tokio::test]
async fn what_is_written_is_read_back_at_both_ends() {
    for kind in FORMATS {
        let home = tempfile::tempdir().unwrap();
        let path = FolderPath::new(["Projekte.2024", "Über/alles\\"]);
        let mut to = destination(home.path(), kind).await;
        to.ensure_folder(&path, true).await.unwrap();
        let before = to.open(&path).await.unwrap();
        let (told, appended) = send(&mut to, &path, &messages(), None).await;
        appended.unwrap();
        let keys: Vec<u64> = told
            .iter()
            .map(|outcome| match outcome {
                Appended::Stored { key, arrival: Some(arrival) } => {
                    assert_eq!(arrival.epoch, before.epoch);
                    *key
                }
                other => panic!("{kind:?}: {other:?}"),
            })
            .collect();
        assert_eq!(keys, (0..messages().len() as u64).collect::<Vec<_>>(), "{kind:?}");
        // As the session has it in mind, and as another one finds it.
        for again in [false, true] {
            if again {
                to = destination(home.path(), kind).await;
                assert_eq!(to.open(&path).await.unwrap().epoch, before.epoch);
            }
            let present = to.list_since(&Mark::beginning()).await.unwrap();
            let uids: Vec<u32> = present.iter().filter_map(|present| present.id.uid()).collect();
            assert_eq!(uids, (1..=9).collect::<Vec<_>>(), "{kind:?}");
            for (at, (present, message)) in present.iter().zip(messages()).enumerate() {
                assert_eq!(present.size, message.len() as u64, "{kind:?} {at}");
                assert_eq!(
                    present.date.unwrap().unix,
                    1_600_000_000 + i64::try_from(at).unwrap(),
                    "{kind:?}"
                );
                let flags = if at % 2 == 0 { "$Label1 \\Seen" } else { "\\Flagged" };
                assert_eq!(present.flags.to_string(), flags, "{kind:?} {at}");
            }
            assert_eq!(read_back(&mut to, &present).await, messages(), "{kind:?}");
        }
        let photo = photograph(home.path());
        let mut from = source(home.path(), kind);
        let mut listed = list(&mut from, &path).await;
        assert!(listed.is_sorted_by(|a, b| a.locator.id < b.locator.id), "{kind:?}");
        listed.sort_by_key(|listed| listed.date.map(|date| date.unix));
        let wanted: Vec<Wanted> = (0..)
            .zip(&listed)
            .map(|(key, listed)| Wanted { key, locator: listed.locator.clone(), size: listed.size })
            .collect();
        let (sender, mut events) = mpsc::channel(BODY_QUEUE);
        let (fetched, read) = tokio::join!(from.fetch(&wanted, sender), collect(&mut events));
        fetched.unwrap();
        assert_eq!(read.into_values().collect::<Vec<_>>(), messages(), "{kind:?}");
        assert_eq!(listed[0].flags.as_ref().unwrap().to_string(), "$Label1 \\Seen", "{kind:?}");
        assert_eq!(photograph(home.path()), photo, "{kind:?}: nothing is written by reading");
    }
}

#[tokio::test]
async fn flags_change_and_messages_go_for_good() {
    for kind in FORMATS {
        let home = tempfile::tempdir().unwrap();
        let path = FolderPath::inbox();
        let mut to = destination(home.path(), kind).await;
        to.open(&path).await.unwrap();
        send(&mut to, &path, &messages(), None).await.1.unwrap();
        let many: Flags = (0..40).map(|n| format!("k{n}")).collect::<Vec<_>>().into();
        let ids = [ItemId::Uid(2), ItemId::Uid(3)];
        let refused = to.store_flags(&ids, &many, &Flags::parse("\\Flagged")).await.unwrap();
        assert!(refused.is_empty(), "{kind:?}");
        to.store_flags(&ids[..1], &Flags::parse("\\Seen"), &Flags::default()).await.unwrap();
        to.expunge(&[ItemId::Uid(1), ItemId::Uid(7)]).await.unwrap();
        for again in [false, true] {
            if again {
                to = destination(home.path(), kind).await;
                to.open(&path).await.unwrap();
            }
            let present = to.list_since(&Mark::beginning()).await.unwrap();
            let uids: Vec<u32> = present.iter().filter_map(|present| present.id.uid()).collect();
            assert_eq!(uids, [2, 3, 4, 5, 6, 8, 9], "{kind:?}");
            let expected: Flags = many.iter().chain(["\\Seen"]).collect();
            assert_eq!(present[0].flags, expected, "{kind:?}");
            assert_eq!(
                present[1].flags,
                many.iter().chain(["\\Seen", "$Label1"]).collect::<Flags>(),
                "{kind:?}"
            );
            let mut left = messages();
            left.remove(6);
            left.remove(0);
            assert_eq!(read_back(&mut to, &present).await, left, "{kind:?}");
        }
        // Numbers are never given anew.
        send(&mut to, &path, &messages()[..1], None).await.1.unwrap();
        let last = to.list_since(&Numbered::mark(9)).await.unwrap();
        assert_eq!(last.iter().filter_map(|p| p.id.uid()).collect::<Vec<_>>(), [9, 10], "{kind:?}");
    }
}

#[tokio::test]
async fn a_message_that_breaks_off_leaves_nothing_and_those_before_it_stay() {
    for kind in FORMATS {
        let home = tempfile::tempdir().unwrap();
        let path = FolderPath::inbox();
        let mut to = destination(home.path(), kind).await;
        to.open(&path).await.unwrap();
        let (told, appended) = send(&mut to, &path, &messages(), Some(3)).await;
        assert!(appended.is_err() && told.len() == 3, "{kind:?}: {told:?}");
        let present = to.list_since(&Mark::beginning()).await.unwrap();
        assert_eq!(read_back(&mut to, &present).await, messages()[..3], "{kind:?}");
        let mut from = source(home.path(), kind);
        assert_eq!(list(&mut from, &path).await.len(), 3, "{kind:?}");
    }
}

#[tokio::test]
async fn what_a_kill_left_at_the_end_of_an_mbox_is_cut_off_and_what_others_wrote_is_not() {
    let home = tempfile::tempdir().unwrap();
    let (path, kind) = (FolderPath::inbox(), FORMATS[1]);
    let file = home.path().join("INBOX");
    let mut to = destination(home.path(), kind).await;
    to.open(&path).await.unwrap();
    send(&mut to, &path, &messages()[..2], None).await.1.unwrap();
    let whole = fs::read(&file).unwrap();
    let index = home.path().join("INBOX.jsonl");
    let lines = fs::read_to_string(&index).unwrap();
    let torn = [&whole[..], b"From mailferry Thu Feb  1 03:04:05 2024\nSubject: to"].concat();
    let begun = format!("{lines}{{\"begin\":{}}}\n", whole.len());
    fs::write(&index, &begun).unwrap();
    fs::write(&file, &torn).unwrap();
    let state = destination(home.path(), kind).await.open(&path).await.unwrap();
    assert_eq!((state.items, fs::read(&file).unwrap()), (Some(2), whole.clone()));
    // Thunderbird has delivered in between.
    let others = [&whole[..], b"From - Thu Feb  1 03:04:05 2024\nSubject: new\n\nnew\n"].concat();
    fs::write(&index, &begun).unwrap();
    fs::write(&file, &others).unwrap();
    let state = destination(home.path(), kind).await.open(&path).await.unwrap();
    assert_eq!((state.items, fs::read(&file).unwrap()), (Some(3), others));
}

#[tokio::test]
async fn a_tree_that_its_user_changed_is_as_a_folder_that_its_user_changed() {
    let home = tempfile::tempdir().unwrap();
    let (path, kind) = (FolderPath::inbox(), FORMATS[0]);
    let mut to = destination(home.path(), kind).await;
    to.open(&path).await.unwrap();
    send(&mut to, &path, &messages()[..3], None).await.1.unwrap();
    let cur = home.path().join("cur");
    let mut names: Vec<_> = fs::read_dir(&cur).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    fs::remove_file(&names[1]).unwrap();
    fs::rename(&names[2], names[2].to_str().unwrap().split(":2,").next().unwrap().to_owned() + ":2,FRS")
        .unwrap();
    fs::write(home.path().join("new/1700000000.other"), "Subject: other\n\nother\n").unwrap();
    let mut to = destination(home.path(), kind).await;
    to.open(&path).await.unwrap();
    let present = to.list_since(&Mark::beginning()).await.unwrap();
    let seen: Vec<_> = present.iter().map(|p| (p.id.uid().unwrap(), p.size, p.flags.to_string())).collect();
    let size = |at: usize| messages()[at].len() as u64;
    assert_eq!(
        seen,
        [
            (1, size(0), "$Label1 \\Seen".to_owned()),
            (3, size(2), "\\Answered \\Flagged \\Seen".to_owned()),
            (4, 25, String::new())
        ]
    );
}

#[tokio::test]
async fn a_hostile_tree_harms_nobody() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("root");
    fs::write(home.path().join("secret"), "Subject: secret\n\nsecret\n").unwrap();
    for dir in ["cur", "new", ".A/cur", ".B"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    fs::write(root.join("cur/1.good:2,S"), "Subject: good\n\ngood\n").unwrap();
    fs::write(root.join("cur/2.good:2,S"), "Subject: locked\n\n").unwrap();
    fs::set_permissions(root.join("cur/2.good:2,S"), fs::Permissions::from_mode(0o000)).unwrap();
    symlink("../../secret", root.join("cur/3.link:2,S")).unwrap();
    symlink("/dev/zero", root.join("cur/4.zero")).unwrap();
    symlink(home.path(), root.join(".B/cur")).unwrap();
    symlink("../../secret", root.join("dovecot-keywords")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("new/5.pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let mut from = source(&root, FORMATS[0]);
    let listed = list(&mut from, &FolderPath::inbox()).await;
    assert_eq!(listed.len(), 2, "{listed:?}");
    let wanted: Vec<Wanted> = (0..)
        .zip(&listed)
        .map(|(key, listed)| Wanted { key, locator: listed.locator.clone(), size: listed.size })
        .collect();
    let (sender, mut events) = mpsc::channel(BODY_QUEUE);
    let (fetched, read) = tokio::join!(from.fetch(&wanted, sender), collect(&mut events));
    fetched.unwrap();
    assert_eq!(read[&0], b"Subject: good\r\n\r\ngood\r\n");
    // Root may read anything.
    let locked: &[u8] =
        if rustix::process::geteuid().is_root() { b"Subject: locked\r\n\r\n" } else { b"missing" };
    assert_eq!(read[&1], locked);
    assert_eq!(from.survey().await.unwrap().folders.len(), 2, "a link is no Maildir");
}

#[tokio::test]
async fn a_message_that_is_renamed_while_it_is_listed_is_found_again() {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir_all(home.path().join("cur")).unwrap();
    fs::create_dir_all(home.path().join("new")).unwrap();
    for name in ["new/1.a", "cur/2.b:2,"] {
        fs::write(home.path().join(name), format!("Subject: {name}\n\n")).unwrap();
    }
    let mut from = source(home.path(), FORMATS[0]);
    let listed = list(&mut from, &FolderPath::inbox()).await;
    fs::rename(home.path().join("new/1.a"), home.path().join("cur/1.a:2,S")).unwrap();
    fs::remove_file(home.path().join("cur/2.b:2,")).unwrap();
    let wanted: Vec<Wanted> = (0..)
        .zip(&listed)
        .map(|(key, listed)| Wanted { key, locator: listed.locator.clone(), size: listed.size })
        .collect();
    let (sender, mut events) = mpsc::channel(BODY_QUEUE);
    let (fetched, read) = tokio::join!(from.fetch(&wanted, sender), collect(&mut events));
    fetched.unwrap();
    let texts: Vec<&[u8]> = read.values().map(Vec::as_slice).collect();
    assert_eq!(texts, [&b"Subject: new/1.a\r\n\r\n"[..], b"missing"]);
}

#[test]
fn drivers_of_files_measure_at_once() {
    assert!(FORMATS.iter().all(|(format, _)| !Files(*format).measures_in_parts()));
}
