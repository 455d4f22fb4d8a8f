//! The demo's servers, and what is done with them: `make demo`, `make servers`, `make cluster-demo`.
//!
//! Without an argument the whole story on one machine: it starts real servers on loopback, fills them with believable
//! mail, runs the built `mailferry` on `examples/quickstart.yaml`, and cleans up after itself. With `--servers-only` it
//! starts the servers, says how to reach them, and waits for Enter, the end of its input or Ctrl-C: for playing. With
//! `--for-cluster` it makes ready what the manifest needs in the cluster of `tests/cluster`, see [`cluster`].
#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a demo speaks to whoever runs it, and has nothing to do where its servers cannot run"
)]

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

#[path = "../support/mod.rs"]
mod support;

mod cluster;

use support::corpus::Corpus;
use support::dovecot::{Dovecot, LOOPBACK};
use support::mixed::{MASTER, Mixed, NEW_MASTER};

/// Where reports and state stay after the demo, under the current directory.
const STATE: &str = "demo-state";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let servers_only = match env::args().nth(1).as_deref() {
        None => false,
        Some("--servers-only") => true,
        Some("--for-cluster") => return cluster::prepare(program().as_deref()),
        Some(cluster::SERVE) => return cluster::serve(),
        Some(_) => {
            println!("usage: demo [--servers-only | --for-cluster]");
            return ExitCode::from(2);
        }
    };
    let Some(program) = program().filter(|program| servers_only || program.exists()) else {
        println!("mailferry is not built yet: cargo build --bin mailferry");
        return ExitCode::FAILURE;
    };
    let world = tokio::select! {
        world = tokio::task::spawn_blocking(|| set(LOOPBACK, LOOPBACK)) => world.expect("the servers start"),
        _ = tokio::signal::ctrl_c() => return ExitCode::from(130),
    };
    let directory =
        tempfile::Builder::new().prefix("mailferry-demo-").tempdir().expect("a temporary directory");
    let manifest = directory.path().join("quickstart.yaml");
    fs::write(&manifest, world.quickstart()).expect("the manifest can be written");
    if servers_only {
        show(&world, &manifest, &program);
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())) => {}
        }
        drop((world, directory));
        // A reader of standard input cannot be woken; leaving main would wait for it.
        leave(0);
    }
    migrate(&world, &program, &manifest).await
}

/// Runs mailferry with the terminal to itself, and says where the reports are.
async fn migrate(world: &Mixed, program: &Path, manifest: &Path) -> ExitCode {
    let state = env::current_dir().expect("a current directory").join(STATE);
    if state.exists() {
        fs::remove_dir_all(&state).expect("the state of an earlier demo can be removed");
    }
    let resolver = world.dns.addr().to_string();
    let mut command = Command::new(program);
    command.arg("run").arg("-f").arg(manifest).args(["--state", STATE, "--resolver", &resolver]);
    println!("\n$ mailferry run -f quickstart.yaml --state {STATE} --resolver {resolver}\n");
    let mut child = command.spawn().expect("mailferry can be started");
    let waiting = tokio::task::spawn_blocking(move || child.wait());
    tokio::pin!(waiting);
    let status = loop {
        tokio::select! {
            status = &mut waiting => break status.expect("a thread").expect("mailferry ends"),
            // The terminal tells mailferry as well: it ends in order, and then the servers do.
            _ = tokio::signal::ctrl_c() => {}
        }
    };
    println!();
    for report in ["report.html", "report.xlsx"] {
        let path = state.join(report);
        println!("{} {}", if path.exists() { "Report: " } else { "Missing:" }, path.display());
    }
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    if code != 0 {
        println!("mailferry ended with {status}");
    }
    // The servers go, but reports can be made again: `mailferry report -f demo-state/quickstart.yaml ...`.
    if state.exists() {
        fs::copy(manifest, state.join("quickstart.yaml")).expect("the manifest can be kept");
    }
    ExitCode::from(code)
}

fn show(world: &Mixed, manifest: &Path, program: &Path) {
    let (master, password) = MASTER;
    let (new_master, new_password) = NEW_MASTER;
    println!("\n  DNS          {}", world.dns.addr());
    println!("  a.test       imap.a.test    IMAPS {}", world.a.imaps());
    println!("               alice@a.test, anna@a.test as user*{master} / {password}");
    println!("  b.test       pop.b.test     POP3S {}", world.b.pop3s());
    println!("               bob@b.test / bob-secret   dora@b.test / dora-secret");
    println!("  c.test       mail.c.test    IMAPS {}   POP3S {}", world.c.imaps(), world.c.pop3s());
    println!("               carol / carol-secret (IMAP and POP3)   chris / chris-secret (POP3 only)");
    println!("  new.test     imap.new.test  IMAPS {}", world.new.imaps());
    println!("               anybody@new.test as user*{new_master} / {new_password}");
    println!("  CA           {}", world.ca.path().display());
    println!("  manifest     {}", manifest.display());
    println!("\n  {} run -f {} \\", program.display(), manifest.display());
    println!("    --state {STATE} --resolver {}", world.dns.addr());
    println!("\nPress Enter to stop the servers.");
}

/// Starts the servers and fills the sources.
fn set(destination: SocketAddr, dns: SocketAddr) -> Mixed {
    let begin = Instant::now();
    let world = Mixed::empty(destination, dns);
    let (place, seconds) = (destination.ip(), begin.elapsed().as_secs_f32());
    println!("Four mail servers and a DNS server run on {place} ({seconds:.1} s).");

    let begin = Instant::now();
    let mut messages = 0;
    let mut fill = |server: &Dovecot, user: &str, corpus: Corpus, count: usize| {
        messages += count;
        server.mailbox(user).seed(corpus.messages(count));
    };
    let five_megabytes = 5 << 20;
    let alice = Corpus::new(1).with_quoted_folder().with_large(&[five_megabytes; 2]);
    fill(&world.a, "alice@a.test", alice, 500);
    fill(&world.a, "anna@a.test", Corpus::new(2), 250);
    fill(&world.b, "bob@b.test", Corpus::new(3).inbox_only().with_large(&[five_megabytes]), 250);
    fill(&world.b, "dora@b.test", Corpus::new(4).inbox_only(), 100);
    fill(&world.c, "carol", Corpus::new(5), 250);
    fill(&world.c, "chris", Corpus::new(6).inbox_only(), 150);
    println!("Six mailboxes hold {messages} messages ({:.1} s).", begin.elapsed().as_secs_f32());
    world
}

/// The binary beside this example: `target/debug/examples/demo` → `target/debug/mailferry`.
fn program() -> Option<PathBuf> {
    Some(env::current_exe().ok()?.parent()?.parent()?.join("mailferry"))
}

/// Ends the process; whatever must be cleaned up has been.
#[allow(clippy::exit, reason = "a thread still reads standard input")]
fn leave(code: i32) -> ! {
    std::process::exit(code)
}
