//! The rounds and the table: servers of its own, every peer in turn, minimum, median and maximum of each figure.

use std::env;
use std::process::ExitCode;

use crate::peers::{COMMAND, PASSWORD, Run, USER, Ways, binary, carry, installed};
use crate::support::ca::Ca;
use crate::support::compare::differences;
use crate::support::corpus::{Corpus, Message};
use crate::support::dovecot::{Builder, Dovecot, LOOPBACK, User};

/// New messages of a delta, and as many changed flags.
const CHANGES: usize = 20;

/// One line of a table.
pub struct Line {
    /// Whose.
    pub peer: String,
    /// One for each round.
    pub runs: Vec<Run>,
}

/// A number from the environment.
pub fn number(name: &str, otherwise: usize) -> usize {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// A server of the measurement.
pub fn server(ca: Option<&Ca>) -> Builder {
    let server = Dovecot::builder()
        .imap(LOOPBACK)
        .user(User::new(USER, PASSWORD))
        .setting("mail_fsync = never\nmail_max_userip_connections = 50");
    // mbsync knows names of hosts only.
    ca.map_or(server.clone(), |ca| server.imaps(LOOPBACK).tls(&ca.issue(&["127.0.0.1", "localhost"])))
}

/// Measures and prints.
pub fn run() -> ExitCode {
    let (messages, rounds) = (number("BENCH_MESSAGES", 2000), number("BENCH_ROUNDS", 5));
    let ca = env::var("BENCH_TLS").is_ok_and(|word| word == "yes").then(Ca::new);
    let source = server(ca.as_ref()).start();
    source.mailbox(USER).seed(Corpus::new(7).ordinary_only().messages(messages));
    // Read once, so that the server's caches are warm for the first peer as for the last.
    let account = source.mailbox(USER).read_all();
    let bytes: u64 = account.folders.values().flatten().map(|row| row.size as u64).sum();
    let news: Vec<Message> = Corpus::new(8).ordinary_only().inbox_only().messages(CHANGES).collect();

    let mut peers =
        vec!["raw, 4 connections", "raw, 1 connection", "engine, 4 connections", "engine, 1 connection"];
    if binary().is_some() {
        peers.push(COMMAND);
    } else {
        println!("without the command: cargo build --release --bin mailferry");
    }
    if installed("mbsync") {
        peers.push("mbsync");
    }
    if env::var_os("BENCH_COMMAND").is_some() {
        peers.push("BENCH_COMMAND");
    }
    let (mut full, mut idle, mut delta) = (Vec::new(), Vec::new(), Vec::new());
    let mut same = true;
    for _ in 0..rounds {
        for peer in &peers {
            let state = tempfile::tempdir().unwrap();
            let destination = server(ca.as_ref()).start();
            let port = |server: &Dovecot| if ca.is_some() { server.imaps() } else { server.imap() }.port();
            let ways = Ways {
                source: port(&source),
                destination: port(&destination),
                state: state.path(),
                authority: ca.as_ref().map(Ca::pem),
            };
            note(&mut full, peer, carry(peer, &ways));
            let mut compare = |when: &str| {
                let now = source.mailbox(USER).read_all();
                let found = differences(&now, &destination.mailbox(USER).read_all());
                same &= found.is_empty();
                found.iter().for_each(|line| println!("{peer}, {when}: {line}"));
            };
            let ours = peer.starts_with("engine") || *peer == COMMAND;
            if ours {
                compare("full");
            }
            if peer.starts_with("raw") {
                continue;
            }
            note(&mut idle, peer, carry(peer, &ways));
            let changed = change(&source, &news);
            note(&mut delta, peer, carry(peer, &ways));
            if ours {
                compare("delta");
            }
            // The next peer finds what this one found.
            undo(&source, &changed);
        }
    }
    println!(
        "\n{messages} messages, {:.1} MB, {rounds} rounds, Maildir, mail_fsync=never, loopback, {} TLS\n",
        bytes as f64 / 1e6,
        if ca.is_some() { "with" } else { "without" }
    );
    print("Full sync", &full, Some(messages));
    print("Nothing changed", &idle, None);
    print(&format!("{CHANGES} new messages, {CHANGES} changed flags"), &delta, None);
    println!(
        "{}",
        if same {
            "mailferry: source and destination are the same"
        } else {
            "mailferry: DIFFERENCES, see above"
        }
    );
    if same { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Puts a figure into a peer's line.
pub fn note(lines: &mut Vec<Line>, peer: &str, run: Run) {
    match lines.iter_mut().find(|line| line.peer == peer) {
        Some(line) => line.runs.push(run),
        None => lines.push(Line { peer: peer.to_owned(), runs: vec![run] }),
    }
}

/// The UIDs of messages that came and of those that were flagged.
struct Changed {
    came: Vec<String>,
    flagged: Vec<String>,
}

fn change(source: &Dovecot, news: &[Message]) -> Changed {
    let mut client = source.mailbox(USER);
    client.select("INBOX").unwrap();
    let flagged: Vec<String> = search(&mut client, "UNFLAGGED").into_iter().take(CHANGES).collect();
    client.command(&format!("UID STORE {} +FLAGS.SILENT (\\Flagged)", flagged.join(","))).unwrap();
    let before = search(&mut client, "ALL");
    client.append_all("INBOX", &news.iter().collect::<Vec<_>>()).unwrap();
    client.select("INBOX").unwrap();
    let came = search(&mut client, "ALL").into_iter().filter(|uid| !before.contains(uid)).collect();
    Changed { came, flagged }
}

fn undo(source: &Dovecot, changed: &Changed) {
    let mut client = source.mailbox(USER);
    client.select("INBOX").unwrap();
    client.command(&format!("UID STORE {} -FLAGS.SILENT (\\Flagged)", changed.flagged.join(","))).unwrap();
    let came = changed.came.join(",");
    client.command(&format!("UID STORE {came} +FLAGS.SILENT (\\Deleted)")).unwrap();
    client.command(&format!("UID EXPUNGE {came}")).unwrap();
}

/// The UIDs of the open folder that fit.
pub fn search(client: &mut crate::support::imap::Client, what: &str) -> Vec<String> {
    let found = client.command(&format!("UID SEARCH {what}")).unwrap();
    let text = found.iter().map(|response| String::from_utf8_lossy(&response.text).into_owned());
    let lines: Vec<String> = text.filter(|line| line.starts_with("* SEARCH")).collect();
    lines.iter().flat_map(|line| line.split_whitespace().skip(2)).map(str::to_owned).collect()
}

/// Prints the lines of one table. With a number of messages it is a full sync, and shown against the first line.
pub fn print(title: &str, lines: &[Line], messages: Option<usize>) {
    println!(
        "| {title} | wall s min/med/max | msg/s | % of the limit | CPU s | peak MB |\n| --- | --- | --- | --- | --- | --- |"
    );
    let limit = lines.first().map_or(1.0, |line| median(&sorted(line, |run| run.wall)));
    for line in lines {
        let wall = sorted(line, |run| run.wall);
        let (speed, share) = messages.map_or_else(Default::default, |messages| {
            let (speed, share) = (messages as f64 / median(&wall), 100.0 * limit / median(&wall));
            (format!("{speed:.0}"), format!("{share:.0}"))
        });
        println!(
            "| {} | {:.2} / {:.2} / {:.2} | {speed} | {share} | {:.2} | {:.0} |",
            line.peer,
            wall[0],
            median(&wall),
            wall[wall.len() - 1],
            median(&sorted(line, |run| run.cpu)),
            sorted(line, |run| run.memory)[line.runs.len() - 1],
        );
    }
    println!();
}

fn sorted(line: &Line, of: fn(&Run) -> f64) -> Vec<f64> {
    let mut figures: Vec<f64> = line.runs.iter().map(of).collect();
    figures.sort_by(f64::total_cmp);
    figures
}

fn median(figures: &[f64]) -> f64 {
    figures[figures.len() / 2]
}
