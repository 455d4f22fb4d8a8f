//! The cost of single parts: reading what a message is, reading a listing, writing the ledger. For people who work on
//! one of them: minimum and median of several rounds, so that a busy machine shows in their difference.

use std::hint::black_box;
use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mailferry::drivers::imap::session::split_numbered;
use mailferry::drivers::imap::tokens::read_fetch;
use mailferry::ledger::sqlite::SqliteLedger;
use mailferry::ledger::{Known, Ledger, NewRow, Refused, Settled};
use mailferry::model::folder::FolderPath;
use mailferry::model::identity::{Digest, IdentityHasher};
use mailferry::model::mark::Mark;
use mailferry::model::message::{Arrival, Epoch, Flags, ItemId, Locator, Verdict};
use mailferry::model::protocol::Protocol;

use crate::support::corpus::Corpus;

/// How long one round takes, about.
const ROUND: Duration = Duration::from_millis(100);
/// How many rounds there are.
const ROUNDS: usize = 9;
/// Pieces in which a message comes from the wire, in bytes.
const PIECE: usize = 64 * 1024;
/// Rows that one window of the engine has.
const WINDOW: u32 = 500;

/// Measures and prints.
pub fn run() -> ExitCode {
    println!("{:<44} {:>12} {:>12} {:>10}", "", "min ns/op", "median ns/op", "MB/s");
    identities();
    listings();
    ledgers();
    ExitCode::SUCCESS
}

fn identities() {
    let ordinary: Vec<Vec<u8>> = Corpus::new(7).messages(500).map(|message| message.bytes).collect();
    let mut turn = ordinary.iter().cycle();
    let average = ordinary.iter().map(Vec::len).sum::<usize>() / ordinary.len();
    measure("identity: a message of the corpus", average, || identify(turn.next().unwrap()));
    let text = "Grüße aus dem Café, and many words more to fill the line.\r\n".repeat(16_000);
    let eight_bit = letter("text/plain; charset=utf-8", "8bit", text.as_bytes());
    measure("identity: 1 MB of text", eight_bit.len(), || identify(&eight_bit));
    let mut escaped = Vec::new();
    for line in text.lines() {
        for byte in line.bytes() {
            if byte.is_ascii() { escaped.push(byte) } else { write!(escaped, "={byte:02X}").unwrap() }
        }
        escaped.extend_from_slice(b"=20=\r\n");
    }
    let quoted = letter("text/plain; charset=utf-8", "quoted-printable", &escaped);
    measure("identity: 1 MB of quoted-printable", quoted.len(), || identify(&quoted));
    let mut lines = Vec::new();
    for line in STANDARD.encode(text.as_bytes()).as_bytes().chunks(76) {
        lines.extend_from_slice(line);
        lines.extend_from_slice(b"\r\n");
    }
    let attached = letter("application/pdf", "base64", &lines);
    measure("identity: 1.3 MB of base64", attached.len(), || identify(&attached));
}

fn letter(kind: &str, encoding: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "Message-ID: <1@bench.test>\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

fn identify(message: &[u8]) {
    let mut hasher = IdentityHasher::new();
    message.chunks(PIECE).for_each(|piece| hasher.update(piece));
    black_box(hasher.finish());
}

fn listings() {
    let line: &[u8] = br#"1234 FETCH (UID 5678 FLAGS (\Seen \Answered $Forwarded NonJunk) INTERNALDATE "17-Jul-2019 02:44:25 +0200" RFC822.SIZE 23456)"#;
    measure("parser: a line of a listing", line.len(), || {
        let (_, _, rest) = split_numbered(black_box(line)).unwrap();
        black_box(read_fetch(rest).unwrap());
    });
}

fn ledgers() {
    let place = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
    let ledger = SqliteLedger::open(&place.path().join("ledger.sqlite")).unwrap();
    let (folder, there) = (FolderPath::inbox(), Epoch::from(9));
    let mut last = 0;
    let window = |first: u32| -> Vec<NewRow> {
        (first..first + WINDOW)
            .map(|uid| NewRow {
                locator: Locator {
                    protocol: Protocol::Imap,
                    folder: folder.clone(),
                    epoch: there.clone(),
                    id: ItemId::Uid(uid),
                },
                size: 23_456,
                date: None,
                flags: Flags::parse("\\Seen $Forwarded"),
                verdict: Verdict::Pending,
            })
            .collect()
    };
    let known = Known {
        exact: Digest([1; 32]),
        canonical: Digest([2; 32]),
        message_id: Some("1234567890@mail.bench.test".to_owned()),
        subject: Some("Quarterly report, second draft".to_owned()),
    };
    measure("ledger: 500 messages remembered and settled", 0, || {
        let first = last + 1;
        last += WINDOW;
        runtime.block_on(async {
            let rows = ledger.insert(&window(first)).await.unwrap();
            let intent =
                ledger.begin_intent(&folder, &folder, &there, &Mark::beginning(), &rows).await.unwrap();
            let settled: Vec<Settled> = (first..)
                .zip(rows)
                .map(|(uid, id)| Settled {
                    id,
                    known: Some(known.clone()),
                    size: Some(23_456),
                    date: None,
                    flags: Some(Flags::parse("\\Seen $Forwarded")),
                    destination: Some((
                        folder.clone(),
                        Arrival { epoch: there.clone(), id: ItemId::Uid(uid) },
                    )),
                    verdict: Verdict::Delivered,
                    stored: None,
                    replaces: None,
                    refused: Refused::default(),
                })
                .collect();
            ledger.settle(&settled, Some(intent)).await.unwrap();
        });
    });
    measure(&format!("ledger: {last} messages read"), 0, || {
        black_box(runtime.block_on(ledger.rows(&folder)).unwrap());
    });
}

/// Runs something again and again; `bytes` is what one run reads, or 0.
fn measure(what: &str, bytes: usize, mut work: impl FnMut()) {
    let begin = Instant::now();
    work();
    let once = begin.elapsed().max(Duration::from_nanos(1));
    let times = u32::try_from(ROUND.as_nanos() / once.as_nanos()).unwrap_or(u32::MAX).clamp(1, 100_000);
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let begin = Instant::now();
            (0..times).for_each(|_| work());
            begin.elapsed().as_nanos() as f64 / f64::from(times)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    let speed = if bytes == 0 { String::new() } else { format!("{:.0}", bytes as f64 * 1e3 / rounds[0]) };
    println!("{what:<44} {:>12.0} {:>12.0} {speed:>10}", rounds[0], rounds[ROUNDS / 2]);
}
