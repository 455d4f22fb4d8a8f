//! Slow links: what passes is compressed where the server offers it, and arrives as ever; over fast ones nothing is.
//! Hostile servers cannot cost more memory with it than without it.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use flate2::{Compress, Compression, FlushCompress};
use tokio::task::spawn_blocking;

use crate::hostile::{UIDS, body, date, listen_to};
use crate::orders::Orders;
use crate::proxy::{Proxy, Way};
use crate::stage::{Stage, letter, new_server, old_server};
use crate::support::compare::differences;
use crate::support::corpus::Message;

/// Bytes a second, one way of one connection.
const SLOW: u32 = 400_000;
/// The memory that a process may need at its peak, in KiB: that of a debug build anyway and 40 MiB, less than any bomb
/// inflates to.
const PEAK_MAX: u64 = 64 * 1024;

/// Three folders; each is carried on its own, the largest first.
fn mail() -> Vec<Message> {
    let folder = |folder: &'static str, count: usize| {
        (0..count).map(move |n| letter(folder, &["\\Seen"], &format!("{folder} {n}"), 50_000))
    };
    folder("INBOX", 30).chain(folder("Sent", 28)).chain(folder("Archive", 26)).collect()
}

/// Carries the mail over proxies of their own addresses, so that they are two hosts; how many bytes of mail there are, and
/// how many came from the source and went to the destination.
async fn carry_over(rate: Option<u32>) -> (u64, u64, u64) {
    let stage = spawn_blocking(|| {
        let stage = Stage::start(old_server(), new_server());
        stage.at_source("anna").seed(mail());
        Arc::new(stage)
    })
    .await
    .unwrap();
    let mut orders = stage.orders("anna");
    let other = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
    let (source, destination) = match rate {
        Some(rate) => (
            Proxy::slow(orders.source.ip(), orders.source, rate).await,
            Proxy::slow(other, orders.destination, rate).await,
        ),
        None => (
            Proxy::start(orders.source, None, None).await,
            Proxy::start(orders.destination, None, None).await,
        ),
    };
    (orders.source, orders.destination) = (source.address, destination.address);
    let done = orders.carry().await.unwrap();
    assert_eq!((done.sent, done.digests_checked), (84, 84), "{done:?}");
    let (down, up) = (source.passed(Way::ToClient), destination.passed(Way::ToServer));
    let idle = orders.carry().await.unwrap();
    assert_eq!((idle.sent, idle.recognised, idle.counts.pending), (0, 0, 0), "{idle:?}");
    let found = spawn_blocking(move || {
        differences(&stage.at_source("anna").read_all(), &stage.at_destination("anna").read_all())
    });
    let found = found.await.unwrap();
    assert!(found.is_empty(), "{found:#?}");
    (done.bytes, down, up)
}

#[tokio::test(flavor = "multi_thread")]
async fn over_slow_links_mail_is_compressed_once_that_is_known_and_arrives_as_it_was() {
    let (bytes, down, up) = carry_over(Some(SLOW)).await;
    println!("{bytes} bytes of mail, {down} from the source, {up} to the destination");
    for passed in [down, up] {
        // The first folder is how it was learned.
        assert!(passed > bytes / 3, "{passed} of {bytes}");
        assert!(passed < bytes / 2, "{passed} of {bytes}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_fast_links_nothing_is_compressed() {
    let (bytes, down, up) = carry_over(None).await;
    println!("{bytes} bytes of mail, {down} from the source, {up} to the destination");
    assert!(down > bytes && up > bytes);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trick {
    /// All is as it should be.
    None,
    /// The offer was not meant.
    Refused,
    /// The offer was made by somebody who does not know what it is.
    NotUnderstood,
    /// Agrees, and goes on as before.
    NotDeflated,
    /// A line of 512 MiB.
    EndlessLine,
    /// A folder's name of 512 MiB.
    HugeLiteral,
    /// A message of 2 GiB, of which more comes than a process may need here.
    HugeBody,
}

const TRICKS: [Trick; 7] = [
    Trick::None,
    Trick::Refused,
    Trick::NotUnderstood,
    Trick::NotDeflated,
    Trick::EndlessLine,
    Trick::HugeLiteral,
    Trick::HugeBody,
];

impl fmt::Display for Trick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "compressed{self:?}")
    }
}

/// So many MiB of nothing, a thousandth of that when they are deflated: one MiB again and again, each with no need of what
/// was before it.
fn bomb(stream: &mut TcpStream, size: usize) -> io::Result<()> {
    let mut one = Vec::with_capacity(64 * 1024);
    Compress::new(Compression::best(), false).compress_vec(
        &vec![0; 1 << 20],
        &mut one,
        FlushCompress::Full,
    )?;
    assert!(one.len() < 2048, "{} bytes", one.len());
    (0..size).try_for_each(|_| stream.write_all(&one))
}

/// The UIDs of `UID FETCH 1:2,3 (…)`.
fn asked(command: &str) -> Vec<usize> {
    let set = command.split(' ').nth(2).unwrap_or_default();
    let range = |part: &str| {
        let (from, to) = part.split_once(':').unwrap_or((part, part));
        from.parse::<usize>().unwrap()..=to.parse::<usize>().unwrap_or(3)
    };
    set.split(',').flat_map(range).filter(|uid| UIDS.contains(uid)).collect()
}

/// One client of the hostile server; ends when the client goes or the trick is played.
fn converse(mut stream: TcpStream, trick: Trick) -> io::Result<()> {
    let reader = |from: Box<dyn Read>| BufReader::new(from);
    let mut lines = reader(Box::new(stream.try_clone()?));
    let mut out: Box<dyn Write> = Box::new(stream.try_clone()?);
    out.write_all(b"* OK ready\r\n")?;
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let (tag, command) = line.trim_end().split_once(' ').unwrap_or_default();
        let upper = command.to_ascii_uppercase();
        if upper == "COMPRESS DEFLATE" {
            let answer = match trick {
                Trick::Refused => "NO no",
                Trick::NotUnderstood => "BAD what?",
                _ => "OK begins",
            };
            out.write_all(format!("{tag} {answer}\r\n").as_bytes())?;
            if !matches!(trick, Trick::Refused | Trick::NotUnderstood) {
                lines = reader(Box::new(DeflateDecoder::new(stream.try_clone()?)));
            }
            if !matches!(trick, Trick::Refused | Trick::NotUnderstood | Trick::NotDeflated) {
                out = Box::new(DeflateEncoder::new(stream.try_clone()?, Compression::fast()));
            }
            continue;
        }
        if upper.starts_with("CAPABILITY") {
            out.write_all(b"* CAPABILITY IMAP4rev1 COMPRESS=DEFLATE\r\n")?;
        } else if upper.starts_with("LIST") {
            if matches!(trick, Trick::EndlessLine | Trick::HugeLiteral) {
                let literal = trick == Trick::HugeLiteral;
                out.write_all(if literal {
                    b"* LIST () \"/\" {536870912}\r\n"
                } else {
                    b"* LIST () \"/\" "
                })?;
                out.flush()?;
                return bomb(&mut stream, 512);
            }
            out.write_all(b"* LIST () \"/\" INBOX\r\n")?;
        } else if upper.starts_with("EXAMINE") {
            out.write_all(b"* 3 EXISTS\r\n* OK [UIDVALIDITY 7] x\r\n* OK [UIDNEXT 4] x\r\n")?;
        } else if upper.contains("FETCH") {
            for uid in asked(&upper) {
                let text = body(uid);
                let seen = if uid == 2 { "\\Seen" } else { "" };
                if !upper.contains("BODY.PEEK[]") {
                    let (date, size) = (date(uid), text.len());
                    write!(
                        out,
                        "* {uid} FETCH (UID {uid} FLAGS ({seen}) INTERNALDATE \"{date}\" RFC822.SIZE {size})\r\n"
                    )?;
                } else if trick == Trick::HugeBody && uid == 2 {
                    out.write_all(b"* 2 FETCH (UID 2 BODY[] {2147483648}\r\n")?;
                    out.flush()?;
                    return bomb(&mut stream, 48);
                } else {
                    write!(out, "* {uid} FETCH (UID {uid} BODY[] {{{}}}\r\n{text})\r\n", text.len())?;
                }
            }
        }
        write!(out, "{tag} OK done\r\n")?;
        out.flush()?;
    }
}

fn hostile_server(trick: Trick) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || converse(stream, trick));
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_server_deflates_is_bounded_as_if_it_had_not() {
    let stage = spawn_blocking(|| Arc::new(Stage::start(old_server(), new_server()))).await.unwrap();
    let mut played = tokio::task::JoinSet::new();
    for trick in TRICKS {
        let name = trick.to_string();
        let user = name.to_ascii_lowercase();
        let orders = Orders { source: hostile_server(trick), slow: true, ..stage.orders(&user) };
        played.spawn(async move { (trick, listen_to(&name, orders).await) });
    }
    while let Some(done) = played.join_next().await {
        let (trick, (arrived, peak)) =
            done.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        assert!(peak < PEAK_MAX, "{trick}: {} MiB", peak / 1024);
        let all = matches!(trick, Trick::None | Trick::Refused | Trick::NotUnderstood);
        assert_eq!(arrived == UIDS, all, "{trick}: {arrived:?}");
    }
}
