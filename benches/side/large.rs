//! One large folder: what a pass asks of the source when six things changed, counted on the wire; and the memory of a very
//! large one.

use std::env;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use crate::peers::{COMMAND, Run, USER, Ways, binary, carry, installed};
use crate::support::corpus::Message;
use crate::support::dovecot::Dovecot;
use crate::table::{note, number, print, search, server};

/// Messages of the folder in which six things change.
const LARGE: usize = 20_000;
/// Messages of the folder whose memory is measured, and with `BENCH_MILLION=yes`.
const VERY_LARGE: [usize; 2] = [100_000, 1_000_000];
/// Messages of one APPEND when a folder is filled.
const BATCH: usize = 1_000;
/// The most memory that a worker may take, in MB (256 MiB).
const MEMORY_MAX: f64 = 268.4;

/// Hands connections on to a server and counts what it says.
struct Counter {
    port: u16,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    bytes: AtomicU64,
    turns: AtomicU64,
}

impl Counter {
    fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let counts = Arc::new(Counts::default());
        let all = Arc::clone(&counts);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(server) else { continue };
                let (back, forth) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                // A turn is a word to the server after one from it.
                let spoke = Arc::new(AtomicBool::new(true));
                let (counts, heard) = (Arc::clone(&all), Arc::clone(&spoke));
                thread::spawn(move || {
                    relay(client, forth, |_| {
                        let turn = spoke.swap(false, Ordering::Relaxed);
                        counts.turns.fetch_add(u64::from(turn), Ordering::Relaxed);
                    });
                });
                let counts = Arc::clone(&all);
                thread::spawn(move || {
                    relay(server, back, |bytes| {
                        heard.store(true, Ordering::Relaxed);
                        counts.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
                    });
                });
            }
        });
        Self { port, counts }
    }

    /// Kilobytes from the server, and turns, since this was asked last.
    fn take(&self) -> (f64, u64) {
        let bytes = self.counts.bytes.swap(0, Ordering::Relaxed);
        (bytes as f64 / 1e3, self.counts.turns.swap(0, Ordering::Relaxed))
    }
}

fn relay(mut from: TcpStream, mut to: TcpStream, passed: impl Fn(usize)) {
    let mut piece = vec![0; 64 << 10];
    while let Ok(read) = from.read(&mut piece)
        && read > 0
    {
        passed(read);
        if to.write_all(&piece[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// Measures and prints.
pub fn run() -> ExitCode {
    if binary().is_none() {
        println!("the command is not built: cargo build --release --bin mailferry");
        return ExitCode::FAILURE;
    }
    six_changes();
    if memory() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A server on which filling folders is fast.
fn quick() -> Dovecot {
    server(None).setting("mail_location = mdbox:~/mdbox").start()
}

fn tiny(number: usize) -> Message {
    let text = format!(
        "Message-ID: <{number}@large.bench.test>\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\nFrom: anna@bench.test\r\n\
         To: bert@bench.test\r\nSubject: number {number}\r\n\r\nThis is letter {number}.\r\n"
    );
    Message {
        folder: "INBOX".to_owned(),
        flags: if number.is_multiple_of(3) { Vec::new() } else { vec!["\\Seen".to_owned()] },
        internal_date: "01-Jan-2024 00:00:00 +0000".to_owned(),
        bytes: text.into_bytes(),
    }
}

fn fill(server: &Dovecot, numbers: std::ops::Range<usize>) {
    let mut client = server.mailbox(USER);
    let numbers: Vec<usize> = numbers.collect();
    for batch in numbers.chunks(BATCH) {
        let batch: Vec<Message> = batch.iter().map(|number| tiny(*number)).collect();
        client.append_all("INBOX", &batch.iter().collect::<Vec<_>>()).unwrap();
    }
}

/// Two messages come, two go, two change their flags.
fn change_six(server: &Dovecot, round: usize) {
    let mut client = server.mailbox(USER);
    client.select("INBOX").unwrap();
    let uids = search(&mut client, "UNFLAGGED");
    let (gone, changed) = (uids[100..102].join(","), uids[200..202].join(","));
    client.command(&format!("UID STORE {gone} +FLAGS.SILENT (\\Deleted)")).unwrap();
    client.command(&format!("UID EXPUNGE {gone}")).unwrap();
    client.command(&format!("UID STORE {changed} +FLAGS.SILENT (\\Flagged)")).unwrap();
    drop(client);
    let first = 10_000_000 + 2 * round;
    fill(server, first..first + 2);
}

fn six_changes() {
    let rounds = number("BENCH_ROUNDS", 5);
    let source = quick();
    fill(&source, 0..LARGE);
    let counter = Counter::start(source.imap());
    let mut peers = vec![COMMAND];
    if installed("mbsync") {
        peers.push("mbsync");
    }
    let kept: Vec<_> = peers.iter().map(|_| (tempfile::tempdir().unwrap(), quick())).collect();
    let ways = |at: usize| Ways {
        source: counter.port,
        destination: kept[at].1.imap().port(),
        state: kept[at].0.path(),
        authority: None,
    };
    let mut first = Vec::new();
    for (at, peer) in peers.iter().enumerate() {
        note(&mut first, peer, carry(peer, &ways(at)));
    }
    let mut lines = Vec::new();
    let mut wire: Vec<Vec<(f64, u64)>> = vec![Vec::new(); peers.len()];
    for round in 0..rounds {
        change_six(&source, round);
        for (at, peer) in peers.iter().enumerate() {
            counter.take();
            note(&mut lines, peer, carry(peer, &ways(at)));
            wire[at].push(counter.take());
        }
    }
    println!("\nOne folder of {LARGE} tiny messages, {rounds} rounds, mdbox\n");
    print("First pass", &first, None);
    print("Two came, two went, two changed their flags", &lines, None);
    println!("| At the source | kB min/med/max | turns min/med/max |\n| --- | --- | --- |");
    for (peer, wire) in peers.iter().zip(&mut wire) {
        wire.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (low, middle, high) = (wire[0].0, wire[wire.len() / 2].0, wire[wire.len() - 1].0);
        let mut turns: Vec<u64> = wire.iter().map(|(_, turns)| *turns).collect();
        turns.sort_unstable();
        let (few, some, many) = (turns[0], turns[turns.len() / 2], turns[turns.len() - 1]);
        println!("| {peer} | {low:.1} / {middle:.1} / {high:.1} | {few} / {some} / {many} |");
    }
    println!();
}

/// Whether the memory stays within its bound.
fn memory() -> bool {
    let many = usize::from(env::var("BENCH_MILLION").is_ok_and(|word| word == "yes"));
    let messages = VERY_LARGE[many];
    let (source, destination, state) = (quick(), quick(), tempfile::tempdir().unwrap());
    let start = Instant::now();
    fill(&source, 0..messages);
    println!("One folder of {messages} tiny messages, filled in {:.0} s\n", start.elapsed().as_secs_f64());
    let ways = Ways {
        source: source.imap().port(),
        destination: destination.imap().port(),
        state: state.path(),
        authority: None,
    };
    let first = carry(COMMAND, &ways);
    let idle = carry(COMMAND, &ways);
    change_six(&source, 0);
    let delta = carry(COMMAND, &ways);
    println!("| One folder of {messages} | wall s | CPU s | peak MB |\n| --- | --- | --- | --- |");
    for (what, Run { wall, cpu, memory }) in
        [("first pass", first), ("nothing changed", idle), ("six changes", delta)]
    {
        println!("| {what} | {wall:.2} | {cpu:.2} | {memory:.0} |");
    }
    let most = [first, idle, delta].iter().map(|run| run.memory).fold(0.0, f64::max);
    println!("\nat most {most:.0} MB, {MEMORY_MAX:.0} are allowed\n");
    most <= MEMORY_MAX
}
