//! Servers that say what no server says. The destination is a real one: whatever the source tells, nothing may lie there
//! but the source's messages, each once and with its own date, and memory stays bounded.

use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::task::spawn_blocking;

use crate::orders::{Orders, start};
use crate::stage::{Stage, new_server, old_server};

/// What a process may need at its peak, in KiB: what a debug build has without any mail, and 64 MiB.
const PEAK_MAX: u64 = 128 * 1024;
/// No lie is listened to for longer. Those that a silent server could tell longer are not played here.
const PATIENCE: Duration = Duration::from_secs(150);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    None,
    /// The first line never ends.
    EndlessGreeting,
    /// Untagged lines for ever in place of an answer.
    EndlessAnswer,
    /// One line for ever.
    EndlessLine,
    /// A name of a folder of 4 GiB.
    HugeLiteral,
    /// A literal of less than nothing; it is an odd name of a folder.
    NegativeLiteral,
    /// More than any number can be.
    OverflowingLiteral,
    /// A message of 4 GiB.
    HugeBody,
    /// A message that is announced with 1 GiB and goes on for ever.
    EndlessBody,
    /// A hundred thousand lists in each other.
    DeepLists,
    /// More folders than anybody has.
    ManyFolders,
    /// More subscriptions than anybody has.
    ManySubscriptions,
    /// The end of a command that was never given.
    WrongTag,
    /// A message that nobody asked for.
    UnwantedBody,
    /// One message twice, with different bytes.
    BodyTwice,
    /// Its UID is another one after the body.
    OtherUidBehind,
    /// Sizes that are not those of the bodies.
    WrongSizes,
    /// The connection ends in the middle of a body.
    HalfABody,
    /// Fewer messages are listed than the folder is said to hold.
    ShortListing,
    /// Neither size nor flags.
    NoAttributes,
    /// Asks to go on although nothing waits.
    Continue,
}

const LIES: [Lie; 20] = [
    Lie::EndlessGreeting,
    Lie::EndlessAnswer,
    Lie::EndlessLine,
    Lie::HugeLiteral,
    Lie::NegativeLiteral,
    Lie::OverflowingLiteral,
    Lie::HugeBody,
    Lie::EndlessBody,
    Lie::DeepLists,
    Lie::ManyFolders,
    Lie::ManySubscriptions,
    Lie::WrongTag,
    Lie::UnwantedBody,
    Lie::BodyTwice,
    Lie::OtherUidBehind,
    Lie::WrongSizes,
    Lie::HalfABody,
    Lie::ShortListing,
    Lie::NoAttributes,
    Lie::Continue,
];

/// A message of these servers.
pub fn body(uid: usize) -> String {
    format!(
        "From: a@a.test\r\nSubject: message {uid}\r\n\r\n{}\r\n",
        format!("line of {uid}\r\n").repeat(uid * 7)
    )
}

/// When it arrived.
pub fn date(uid: usize) -> String {
    format!("{uid:02}-Mar-2019 08:15:42 +0000")
}

/// What these servers have.
pub const UIDS: [usize; 3] = [1, 2, 3];

/// One client of the lying server; ends when the client goes or the lie is told.
async fn converse(stream: tokio::net::TcpStream, lie: Lie) -> std::io::Result<()> {
    let (reader, mut out) = stream.into_split();
    if lie == Lie::EndlessGreeting {
        return flood(&mut out, b"* OK ", b"hello and again ").await;
    }
    out.write_all(b"* OK ready\r\n").await?;
    let mut lines = BufReader::new(reader).lines();
    while let Some(line) = lines.next_line().await? {
        let (tag, command) = line.split_once(' ').unwrap_or((&line, ""));
        let upper = command.to_ascii_uppercase();
        let mut answer = Vec::new();
        if upper.starts_with("CAPABILITY") {
            answer.extend_from_slice(b"* CAPABILITY IMAP4rev1\r\n");
        } else if upper.starts_with("LIST") {
            match lie {
                Lie::EndlessAnswer => return flood(&mut out, b"", b"* OK still here\r\n").await,
                Lie::EndlessLine => return flood(&mut out, b"* LIST () \"/\" ", b"aaaaaaaaaaaaaaa").await,
                Lie::HugeLiteral => {
                    return flood(&mut out, b"* LIST () \"/\" {4294967296}\r\n", b"aaaaaaaaaaaaaaa").await;
                }
                Lie::NegativeLiteral => answer.extend_from_slice(b"* LIST () \"/\" {-1}\r\n"),
                Lie::OverflowingLiteral => {
                    answer.extend_from_slice(b"* LIST () \"/\" {99999999999999999999}\r\n");
                }
                Lie::DeepLists => {
                    answer.extend_from_slice(b"* LIST ");
                    answer.extend(std::iter::repeat_n(b'(', 100_000));
                    answer.extend_from_slice(b"\r\n");
                }
                Lie::ManyFolders => list_many(&mut out, "LIST").await?,
                Lie::Continue => answer.extend_from_slice(b"+ go on\r\n"),
                Lie::WrongTag => answer.extend_from_slice(b"Q77 OK done\r\n"),
                _ => {}
            }
            answer.extend_from_slice(b"* LIST () \"/\" INBOX\r\n");
        } else if upper.starts_with("LSUB") && lie == Lie::ManySubscriptions {
            list_many(&mut out, "LSUB").await?;
        } else if upper.starts_with("EXAMINE") || upper.starts_with("SELECT") {
            answer.extend_from_slice(
                b"* 3 EXISTS\r\n* FLAGS (\\Seen)\r\n* OK [UIDVALIDITY 7] x\r\n* OK [UIDNEXT 4] x\r\n",
            );
        } else if upper.contains("FETCH") && upper.contains("BODY.PEEK[]") {
            if !tell_bodies(&mut out, lie, &upper, &mut answer).await? {
                return Ok(());
            }
        } else if upper.contains("FETCH") {
            for uid in UIDS {
                let size = if lie == Lie::WrongSizes { 10_000_000 * (3 - uid) } else { body(uid).len() };
                if lie == Lie::ShortListing && uid == 2 {
                    continue;
                }
                let seen = if uid == 2 { "\\Seen" } else { "" };
                let row = if lie == Lie::NoAttributes {
                    format!("* {uid} FETCH (UID {uid})\r\n")
                } else {
                    format!(
                        "* {uid} FETCH (UID {uid} FLAGS ({seen}) INTERNALDATE \"{}\" RFC822.SIZE {size})\r\n",
                        date(uid)
                    )
                };
                answer.extend_from_slice(row.as_bytes());
            }
        }
        answer.extend_from_slice(format!("{tag} OK done\r\n").as_bytes());
        out.write_all(&answer).await?;
    }
    Ok(())
}

/// The UIDs of `UID FETCH 1:2,3 (…)`.
pub fn asked(command: &str) -> Vec<usize> {
    let set = command.split(' ').nth(2).unwrap_or_default();
    let range = |part: &str| {
        let (from, to) = part.split_once(':').unwrap_or((part, part));
        from.parse::<usize>().unwrap()..=to.parse::<usize>().unwrap_or(3)
    };
    set.split(',').flat_map(range).filter(|uid| UIDS.contains(uid)).collect()
}

/// Answers with bodies; false when the conversation is over.
async fn tell_bodies(
    out: &mut OwnedWriteHalf,
    lie: Lie,
    command: &str,
    answer: &mut Vec<u8>,
) -> std::io::Result<bool> {
    let mut tell = |uid: usize, text: &str, behind: &str| {
        let head = format!("* {uid} FETCH (UID {uid} BODY[] {{{}}}\r\n", text.len());
        answer.extend_from_slice(format!("{head}{text}{behind})\r\n").as_bytes());
    };
    for uid in asked(command) {
        match (lie, uid) {
            (Lie::HugeBody, 2) => {
                flood(out, b"* 2 FETCH (UID 2 BODY[] {4294967296}\r\n", b"aaaaaaaaaaaaaa\r\n").await?;
                return Ok(false);
            }
            (Lie::EndlessBody, 2) => {
                // So much that it could not be held, and then the end, which is not where it was announced.
                out.write_all(b"* 2 FETCH (UID 2 BODY[] {1073741824}\r\n").await?;
                let chunk = b"aaaaaaaaaaaaaa\r\n".repeat(4096);
                for _ in 0..400 {
                    out.write_all(&chunk).await?;
                }
                return Ok(false);
            }
            (Lie::HalfABody, 2) => {
                out.write_all(answer).await?;
                out.write_all(b"* 2 FETCH (UID 2 BODY[] {500}\r\nhalf of it").await?;
                return Ok(false);
            }
            (Lie::UnwantedBody, 1) => {
                tell(9, "Subject: nobody asked for this\r\n\r\n", "");
                tell(1, &body(1), "");
            }
            (Lie::BodyTwice, 1) => {
                tell(1, &body(1), "");
                tell(1, "Subject: another\r\n\r\n", "");
            }
            (Lie::OtherUidBehind, 2) => tell(2, "Subject: whose is this?\r\n\r\n", " UID 3"),
            _ => tell(uid, &body(uid), ""),
        }
    }
    Ok(true)
}

async fn list_many(out: &mut OwnedWriteHalf, word: &str) -> std::io::Result<()> {
    for hundred in 0..1_500 {
        let line = |n| format!("* {word} () \"/\" folder-{hundred}-{n}\r\n");
        let lines = (0..100).map(line).collect::<Vec<_>>().concat();
        out.write_all(lines.as_bytes()).await?;
    }
    Ok(())
}

/// Says the same for ever.
async fn flood(out: &mut OwnedWriteHalf, head: &[u8], again: &[u8]) -> std::io::Result<()> {
    out.write_all(head).await?;
    let chunk = again.repeat(4096);
    loop {
        out.write_all(&chunk).await?;
    }
}

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

async fn lying_server(lie: Lie) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(converse(stream, lie));
        }
    });
    address
}

/// Carries from a liar in a process of its own; what lies at the destination then, by UID at the source, and the most
/// memory that it took, in KiB.
pub async fn listen_to(stage: &Arc<Stage>, lie: &str, orders: Orders) -> (Vec<usize>, u64) {
    let user = orders.destination_user.clone();
    let begun = Instant::now();
    let (peak, ended) = spawn_blocking(move || watch(start(&[orders], None, None))).await.unwrap();
    println!("{lie}: peak {} MiB in {:?}", peak / 1024, begun.elapsed());
    assert!(ended, "{lie}: it listens for ever");
    assert!(peak < PEAK_MAX, "{lie}: {} MiB", peak / 1024);
    let at = Arc::clone(stage);
    let account = spawn_blocking(move || at.at_destination(&user).read_all()).await.unwrap();
    let mut in_inbox = Vec::new();
    for (folder, rows) in &account.folders {
        let mut arrived = Vec::new();
        for row in rows {
            let digest =
                |uid: &&usize| row.digest == blake3::hash(body(**uid).as_bytes()).to_hex().to_string();
            let uid = *UIDS.iter().find(digest).unwrap_or_else(|| panic!("{lie}: misfiled: {row:?}"));
            let is = row.internal_date.strftime("%d-%b-%Y %H:%M:%S +0000").to_string();
            assert_eq!(is, date(uid), "{lie}");
            assert_eq!(row.flags.contains("\\seen"), uid == 2, "{lie}");
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

async fn listen_to_lie(stage: &Arc<Stage>, lie: Lie) -> Vec<usize> {
    let name = format!("{lie:?}");
    let orders = Orders { source: lying_server(lie).await, ..stage.orders(&name.to_ascii_lowercase()) };
    listen_to(stage, &name, orders).await.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_server_tells_nothing_is_misfiled_and_memory_stays_bounded() {
    let stage = spawn_blocking(|| Arc::new(Stage::start(old_server(), new_server()))).await.unwrap();
    assert_eq!(listen_to_lie(&stage, Lie::None).await, UIDS, "an honest server is understood");
    let mut told = tokio::task::JoinSet::new();
    for lie in LIES {
        let stage = Arc::clone(&stage);
        told.spawn(async move { (lie, listen_to_lie(&stage, lie).await) });
    }
    while let Some(done) = told.join_next().await {
        let (lie, arrived) = done.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        let all = matches!(lie, Lie::NegativeLiteral | Lie::UnwantedBody | Lie::BodyTwice | Lie::WrongSizes);
        assert_eq!(arrived == UIDS, all, "{lie:?}: {arrived:?}");
    }
}
