//! Servers that say what no server says, by IMAP and by POP3. The destination may hold only the source's messages,
//! each once and with its own date, whatever the source sends; the destination hears nothing but what carries mail;
//! and memory stays bounded.

use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;

use crate::orders::{Orders, PASSWORD, start};
use crate::stage::{Stage, new_server, old_server};
use crate::support::imap::Client;
use crate::support::script::{Answer, End, Reaction, Script, Store};

/// The memory that a process may need at its peak, in KiB: that of a debug build without any mail, and 64 MiB.
const PEAK_MAX: u64 = 128 * 1024;
/// No lie is listened to for longer. Those that a silent server could tell longer are not played here.
const PATIENCE: Duration = Duration::from_secs(150);
/// All that a destination may hear.
const CARRYING: [&str; 19] = [
    "APPEND",
    "AUTHENTICATE",
    "CAPABILITY",
    "CREATE",
    "ENABLE",
    "EXAMINE",
    "ID",
    "LIST",
    "NOOP",
    "LOGIN",
    "LOGOUT",
    "LSUB",
    "NAMESPACE",
    "SELECT",
    "STATUS",
    "SUBSCRIBE",
    "UID FETCH",
    "UID SEARCH",
    "UID STORE",
];

/// A message of these servers.
pub fn body(uid: usize) -> String {
    format!(
        "From: a@a.test\r\nReceived: by mx.a.test; {uid} Mar 2019 08:15:42 +0000\r\nSubject: message {uid}\r\n\r\n{}\r\n",
        format!("line of {uid}\r\n").repeat(uid * 7)
    )
}

/// When it arrived.
pub fn date(uid: usize) -> String {
    format!("{uid:02}-Mar-2019 08:15:42 +0000")
}

/// The UIDs that these servers have.
pub const UIDS: [usize; 3] = [1, 2, 3];

fn store() -> Store {
    let mut store = Store::empty();
    for uid in UIDS {
        let flags = if uid == 2 { vec!["\\Seen".to_owned()] } else { Vec::new() };
        store.folder("INBOX").receive(flags, date(uid), body(uid).into_bytes());
    }
    store
}

/// A name, how it is told, and whether all messages arrive although it was.
type Lie = (&'static str, fn(&Script), bool);

fn to_list(script: &Script, said: &'static [u8]) {
    script.on("LIST", Reaction::edit(move |answer| answer.before(said)));
}

/// Says something else where the body of the second message is due, and then the other for ever.
fn in_place_of_two(script: &Script, said: &'static str, end: End) {
    of_bodies(script, move |answer| {
        if let Some(at) = answer.responses.iter().position(|it| it.starts_with(b"* 2 FETCH")) {
            answer.responses.truncate(at);
            answer.behind(said);
            answer.end = end.clone();
        }
    });
}

/// Changes what is said to a FETCH of bodies.
fn of_bodies(script: &Script, edit: impl Fn(&mut Answer) + Clone + Send + Sync + 'static) {
    script.bend(move |command| command.wants_bodies().then(|| Reaction::edit(edit.clone())));
}

/// Changes what is said to a FETCH of anything else.
fn of_rows(script: &Script, edit: impl Fn(&mut Answer) + Clone + Send + Sync + 'static) {
    script.bend(move |command| {
        (!command.wants_bodies() && command.is("UID FETCH")).then(|| Reaction::edit(edit.clone()))
    });
}

fn many(word: &str) -> Vec<u8> {
    let line = |n| format!("* {word} () \"/\" folder-{n}\r\n");
    (0..150_000).map(line).collect::<Vec<_>>().concat().into_bytes()
}

fn fetched(uid: usize, text: &str, behind: &str) -> String {
    format!("* {uid} FETCH (UID {uid} BODY[] {{{}}}\r\n{text}{behind})\r\n", text.len())
}

/// Messages arrive without the flags that nobody tells.
const NO_FLAGS: &str = "neither size nor flags";

/// Lies of IMAP.
const LIES: [Lie; 21] = [
    ("none", |_| {}, true),
    (
        "a first line that never ends",
        |s| on(s, "GREETING", Reaction::flood("* OK ", "hello and again ")),
        false,
    ),
    ("lines for ever", |s| on(s, "LIST", Reaction::flood("", "* OK still here\r\n")), false),
    ("one line for ever", |s| on(s, "LIST", Reaction::flood("* LIST () \"/\" ", "aaaaaaaaaaaaaaa")), false),
    (
        "a name of 4 GiB",
        |s| on(s, "LIST", Reaction::flood("* LIST () \"/\" {4294967296}\r\n", "aaaaaaaaaaaaaaa")),
        false,
    ),
    ("a literal of less than nothing", |s| to_list(s, b"* LIST () \"/\" {-1}\r\n"), true),
    ("more than any number", |s| to_list(s, b"* LIST () \"/\" {99999999999999999999}\r\n"), false),
    (
        "lists in each other",
        |s| {
            let deep = [&b"* LIST "[..], &[b'('; 100_000], b"\r\n"].concat();
            s.on("LIST", Reaction::edit(move |answer| answer.before(&deep)));
        },
        true,
    ),
    ("more folders than anybody has", |s| on(s, "LIST", Reaction::edit(|a| a.before(many("LIST")))), false),
    (
        "more subscriptions than anybody has",
        |s| on(s, "LSUB", Reaction::edit(|a| a.before(many("LSUB")))),
        true,
    ),
    ("asks to go on although nothing waits", |s| to_list(s, b"+ go on\r\n"), true),
    ("the end of a command that was never given", |s| to_list(s, b"Q77 OK done\r\n"), false),
    (
        "a message of 4 GiB",
        |s| {
            in_place_of_two(
                s,
                "* 2 FETCH (UID 2 BODY[] {4294967296}\r\n",
                End::Flood(b"aaaaaaaaaaaaaa\r\n".to_vec()),
            );
        },
        false,
    ),
    (
        "a message of 1 GiB that ends elsewhere",
        |s| {
            of_bodies(s, |answer| {
                if let Some(response) = answer.fetched(2) {
                    *response = b"* 2 FETCH (UID 2 BODY[] {1073741824}\r\n".to_vec();
                    response.extend(b"aaaaaaaaaaaaaa\r\n".repeat(1_600_000));
                    answer.cut_message(2, usize::MAX);
                }
            });
        },
        false,
    ),
    (
        "half a message",
        |s| in_place_of_two(s, "* 2 FETCH (UID 2 BODY[] {500}\r\nhalf of it", End::Close),
        false,
    ),
    (
        "a message that nobody asked for",
        |s| of_bodies(s, |answer| answer.before(fetched(9, "Subject: nobody asked for this\r\n\r\n", ""))),
        true,
    ),
    (
        "a message twice",
        |s| {
            of_bodies(s, |answer| {
                if answer.fetched(1).is_some() {
                    answer.before_last(fetched(1, "Subject: another\r\n\r\n", ""));
                }
            });
        },
        true,
    ),
    (
        "another UID behind the message",
        |s| {
            of_bodies(s, |answer| {
                if let Some(response) = answer.fetched(2) {
                    *response = fetched(2, "Subject: whose is this?\r\n\r\n", " UID 3").into_bytes();
                }
            });
        },
        false,
    ),
    (
        "sizes that are not those of the messages",
        |s| of_rows(s, |answer| answer.replace("RFC822.SIZE ", "RFC822.SIZE 99")),
        true,
    ),
    ("fewer messages than are counted", |s| of_rows(s, |answer| answer.leave_out("* 2 FETCH")), false),
    (
        NO_FLAGS,
        |s| {
            of_rows(s, |answer| {
                for (uid, response) in (1..=3).zip(&mut answer.responses) {
                    *response = format!("* {uid} FETCH (UID {uid})\r\n").into_bytes();
                }
            });
        },
        true,
    ),
];

fn on(script: &Script, words: &str, reaction: Reaction) {
    script.on(words, reaction);
}

fn says(script: &Script, words: &str, said: &str) {
    script.on(words, Reaction::say(said));
}

/// Lies of POP3.
const POP3_LIES: [Lie; 14] = [
    ("none", |_| {}, true),
    (
        "a first line that never ends",
        |s| on(s, "GREETING", Reaction::flood("+OK ", "hello and again ")),
        false,
    ),
    ("capabilities for ever", |s| on(s, "CAPA", Reaction::flood("+OK\r\n", "WORD\r\n")), false),
    ("names for ever", |s| on(s, "UIDL", Reaction::flood("+OK\r\n", "1 a\r\n")), false),
    ("one name for ever", |s| on(s, "UIDL", Reaction::flood("+OK\r\n1 ", "aaaaaaaaaaaaaaaa")), false),
    (
        "sizes beyond any number",
        |s| says(s, "LIST", "+OK\r\n1 99999999999999999999999\r\n2 -5\r\n3 x\r\n.\r\n"),
        false,
    ),
    ("sizes of nothing", |s| says(s, "LIST", "+OK\r\n1 0\r\n2 0\r\n3 0\r\n.\r\n"), true),
    ("a size of 16 EiB", |s| says(s, "LIST", "+OK\r\n1 18446744073709551615\r\n2 1\r\n3 1\r\n.\r\n"), true),
    ("numbers twice", |s| says(s, "UIDL", "+OK\r\n1 a\r\n1 b\r\n2 c\r\n3 d\r\n4294967296 e\r\n.\r\n"), true),
    ("a question in place of a message", |s| says(s, "TOP 2", "+ and now?\r\n"), false),
    ("half a message", |s| on(s, "TOP 2", Reaction::edit(|answer| answer.cut(90))), false),
    ("a message for ever", |s| on(s, "TOP 2", Reaction::flood("+OK\r\n", "aaaaaaaaaaaaaa\r\n")), false),
    (
        "a second answer",
        |s| on(s, "TOP 1", Reaction::edit(|a| a.behind("+OK\r\nSubject: another\r\n\r\n.\r\n"))),
        false,
    ),
    ("another message", |s| says(s, "TOP 2", "+OK\r\nSubject: another\r\n\r\n.\r\n"), true),
];

/// Waits for a process and returns the most memory that it had, in KiB; it is ended when it takes too long.
fn watch(mut child: Child) -> (u64, bool) {
    let (begun, mut peak) = (Instant::now(), 0);
    loop {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let now = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        peak = peak.max(now.unwrap_or(0));
        if child.try_wait().unwrap().is_some() {
            return (peak, true);
        }
        if begun.elapsed() > PATIENCE {
            child.kill().unwrap();
            child.wait().unwrap();
            return (peak, false);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Carries from a liar in a process of its own; what lies at the destination then, by UID at the source, and the most
/// memory that it took, in KiB.
pub async fn listen_to(lie: &str, orders: Orders) -> (Vec<usize>, u64) {
    let (user, destination, pop3) = (orders.destination_user.clone(), orders.destination, orders.pop3);
    let begun = Instant::now();
    let (peak, ended) = spawn_blocking(move || watch(start(&[orders], None, None))).await.unwrap();
    println!("{lie}: peak {} MiB in {:?}", peak / 1024, begun.elapsed());
    assert!(ended, "{lie}: it listens for ever");
    assert!(peak < PEAK_MAX, "{lie}: {} MiB", peak / 1024);
    let read = move || Client::login(destination, &user, PASSWORD).unwrap().read_all();
    let account = spawn_blocking(read).await.unwrap();
    let mut in_inbox = Vec::new();
    for (folder, rows) in &account.folders {
        let mut arrived = Vec::new();
        for row in rows {
            let digest =
                |uid: &&usize| row.digest == blake3::hash(body(**uid).as_bytes()).to_hex().to_string();
            let uid = *UIDS.iter().find(digest).unwrap_or_else(|| panic!("{lie}: misfiled: {row:?}"));
            let is = row.internal_date.strftime("%d-%b-%Y %H:%M:%S +0000").to_string();
            assert_eq!(is, date(uid), "{lie}");
            let is_seen = uid == 2 && !pop3 && lie != NO_FLAGS;
            assert_eq!(row.flags.contains("\\seen"), is_seen, "{lie}");
            arrived.push(uid);
        }
        arrived.sort_unstable();
        let mut once = arrived.clone();
        once.dedup();
        assert_eq!(arrived, once, "{lie}: a message is there twice");
        if folder == "INBOX" {
            in_inbox = arrived;
        }
    }
    (in_inbox, peak)
}

/// Tells a lie to a pass; whether it carried all messages.
async fn tell(stage: &Stage, (name, bend, _): Lie, pop3: bool) -> bool {
    let (source, destination) = if pop3 {
        (Script::pop3(store()), Script::imap(Store::empty()))
    } else {
        (Script::imap(store()), Script::imap(Store::empty()))
    };
    if !pop3 {
        source.capabilities("IMAP4rev1");
    }
    bend(&source);
    let orders = Orders {
        source: source.address(),
        destination: destination.address(),
        pop3,
        // Some lies are told by both protocols.
        ..stage.orders(&format!("{pop3}-{}", name.replace(|c: char| !c.is_ascii_alphanumeric(), "-")))
    };
    let arrived = listen_to(name, orders).await.0;
    for heard in destination.heard() {
        assert!(CARRYING.contains(&heard.verb.as_str()), "{name}: the destination hears {:?}", heard.text);
    }
    arrived == UIDS
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_server_tells_nothing_is_misfiled_and_memory_stays_bounded() {
    let stage = spawn_blocking(|| Arc::new(Stage::start(old_server(), new_server()))).await.unwrap();
    let mut told = tokio::task::JoinSet::new();
    for (lies, pop3) in [(&LIES[..], false), (&POP3_LIES[..], true)] {
        for lie in lies {
            let stage = Arc::clone(&stage);
            told.spawn(async move { (lie, pop3, tell(&stage, *lie, pop3).await) });
        }
    }
    let mut wrong = Vec::new();
    while let Some(done) = told.join_next().await {
        match done {
            Ok(((name, _, all), pop3, arrived)) if arrived != *all => {
                wrong.push(format!("{name} by {}: {arrived}", if pop3 { "POP3" } else { "IMAP" }));
            }
            Ok(_) => {}
            // The cause is printed already.
            Err(panic) => wrong.push(panic.to_string()),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
