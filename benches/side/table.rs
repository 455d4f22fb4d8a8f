//! The rounds and the table: servers of its own, every peer in turn, minimum, median and maximum of each figure.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::support::ca::Ca;
use crate::support::compare::differences;
use crate::support::corpus::Corpus;
use crate::support::dovecot::{Builder, Dovecot, LOOPBACK, User};

const USER: &str = "bench@bench.test";
const PASSWORD: &str = "secret";
/// How often a peer's memory and CPU time are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Clock ticks of `/proc/PID/stat` in a second, on every Linux in use.
const TICKS: f64 = 100.0;

/// What one run took.
#[derive(Clone, Copy)]
struct Run {
    wall: f64,
    cpu: f64,
    memory: f64,
}

/// One line of the table.
struct Line {
    peer: String,
    runs: Vec<Run>,
}

fn number(name: &str, otherwise: usize) -> usize {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn server(ca: Option<&Ca>) -> Builder {
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

    let mut peers = vec![
        "raw, 4 connections",
        "raw, 1 connection",
        "mailferry, 4 connections",
        "mailferry, 1 connection",
    ];
    if installed("mbsync") {
        peers.push("mbsync");
    }
    if env::var_os("BENCH_COMMAND").is_some() {
        peers.push("BENCH_COMMAND");
    }
    let mut full: Vec<Line> =
        peers.iter().map(|peer| Line { peer: (*peer).to_owned(), runs: Vec::new() }).collect();
    let mut idle: Vec<Line> = Vec::new();
    let mut same = true;
    for _ in 0..rounds {
        for (at, peer) in peers.iter().enumerate() {
            let state = tempfile::tempdir().unwrap();
            let destination = server(ca.as_ref()).start();
            full[at].runs.push(carry(peer, &source, &destination, state.path(), ca.as_ref()));
            if peer.starts_with("mailferry") {
                let found = differences(&account, &destination.mailbox(USER).read_all());
                same &= found.is_empty();
                found.iter().for_each(|line| println!("{peer}: {line}"));
            }
            if !peer.starts_with("raw") {
                let run = carry(peer, &source, &destination, state.path(), ca.as_ref());
                match idle.iter_mut().find(|line| line.peer == *peer) {
                    Some(line) => line.runs.push(run),
                    None => idle.push(Line { peer: (*peer).to_owned(), runs: vec![run] }),
                }
            }
        }
    }
    println!(
        "\n{messages} messages, {:.1} MB, {rounds} rounds, Maildir, mail_fsync=never, loopback, {} TLS\n",
        bytes as f64 / 1e6,
        if ca.is_some() { "with" } else { "without" }
    );
    print("Full sync", &full, messages);
    print("Nothing changed", &idle, messages);
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

fn installed(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// Runs one peer once.
fn carry(peer: &str, source: &Dovecot, destination: &Dovecot, state: &Path, ca: Option<&Ca>) -> Run {
    let port = |server: &Dovecot| if ca.is_some() { server.imaps() } else { server.imap() }.port();
    let (old, new) = (port(source), port(destination));
    let authority = ca.map(|ca| {
        let path = state.join("ca.pem");
        fs::write(&path, ca.pem()).unwrap();
        path
    });
    let mut command = match peer {
        "mbsync" => {
            let config = state.join("mbsyncrc");
            fs::write(&config, mbsync_config(old, new, state, authority.as_deref())).unwrap();
            let mut command = Command::new("mbsync");
            command.arg("-q").arg("-c").arg(config).arg("all");
            command
        }
        "BENCH_COMMAND" => {
            let text = env::var("BENCH_COMMAND").unwrap();
            let text = text
                .replace("@SRC", &old.to_string())
                .replace("@DST", &new.to_string())
                .replace("@USER", USER)
                .replace("@STATE", &state.display().to_string());
            let mut command = Command::new("sh");
            command.args(["-c", &text]);
            command
        }
        ours => {
            let (name, rest) = ours.split_once(", ").unwrap();
            let engine = if name == "mailferry" { "engine" } else { name };
            let mut command = Command::new(env::current_exe().unwrap());
            command.args([engine, &old.to_string(), &new.to_string(), USER, PASSWORD]);
            command.arg(state).arg(rest.split_once(' ').unwrap().0);
            command
        }
    };
    match &authority {
        Some(path) => command.env("BENCH_CA", path),
        None => command.env_remove("BENCH_CA"),
    };
    let start = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let id = child.id().to_string();
    let mut run = Run { wall: 0.0, cpu: 0.0, memory: 0.0 };
    let status = loop {
        run.cpu = cpu_seconds(&id).unwrap_or(run.cpu);
        run.memory = peak_memory(&id).unwrap_or(run.memory);
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        sleep(LOOK_EVERY);
    };
    run.wall = start.elapsed().as_secs_f64();
    assert!(status.success(), "{peer} failed");
    run
}

/// The CPU seconds that a process has used, its own and the kernel's for it.
fn cpu_seconds(id: &str) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    let used = (ticks(11)? + ticks(12)?) / TICKS;
    (used > 0.0).then_some(used)
}

/// The most memory that a process has had, in MB.
fn peak_memory(id: &str) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? / 1000.0)
}

fn print(title: &str, lines: &[Line], messages: usize) {
    println!(
        "| {title} | wall s min/med/max | msg/s | % of the limit | CPU s | peak MB |\n| --- | --- | --- | --- | --- | --- |"
    );
    let sorted = |line: &Line, of: fn(&Run) -> f64| {
        let mut figures: Vec<f64> = line.runs.iter().map(of).collect();
        figures.sort_by(f64::total_cmp);
        figures
    };
    let middle = |figures: &[f64]| figures[figures.len() / 2];
    let limit = lines.first().map_or(1.0, |line| middle(&sorted(line, |run| run.wall)));
    for line in lines {
        let wall = sorted(line, |run| run.wall);
        let share = if title == "Full sync" {
            format!("{:.0}", 100.0 * limit / middle(&wall))
        } else {
            String::new()
        };
        println!(
            "| {} | {:.2} / {:.2} / {:.2} | {:.0} | {share} | {:.2} | {:.0} |",
            line.peer,
            wall[0],
            middle(&wall),
            wall[wall.len() - 1],
            messages as f64 / middle(&wall),
            middle(&sorted(line, |run| run.cpu)),
            sorted(line, |run| run.memory)[line.runs.len() - 1],
        );
    }
    println!();
}

fn mbsync_config(old: u16, new: u16, state: &Path, authority: Option<&Path>) -> String {
    let tls = authority.map_or("SSLType None".to_owned(), |path| {
        format!("SSLType IMAPS\nSystemCertificates no\nCertificateFile {}", path.display())
    });
    let store = |name: &str, port: u16| {
        format!(
            "IMAPStore {name}\nHost localhost\nPort {port}\nUser {USER}\nPass {PASSWORD}\n{tls}\nAuthMechs LOGIN\n\
             PathDelimiter /\n\n"
        )
    };
    format!(
        "FSync no\n{}{}Channel all\nFar :far:\nNear :near:\nPatterns *\nCreate Near\nSync Pull\nCopyArrivalDate yes\n\
         SyncState {}/\n",
        store("far", old),
        store("near", new),
        state.display()
    )
}
