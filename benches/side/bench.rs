//! `make bench`: the product beside the limit and beside mbsync, on two real servers of its own.
//!
//! Every peer carries the same account from the same source into an empty destination, turn by turn, several rounds; each
//! in a process of its own, so that its CPU time and its memory can be read from `/proc`. A table comes at the end. The
//! mail that the product left is compared with the source by code that shares nothing with it.
//!
//! `bench engine SOURCE DESTINATION USER PASSWORD STATE SESSIONS`, `bench pop3 …` (the engine with a POP3 source),
//! `bench retr …` (that source alone; nothing is kept) and `bench raw …` run one peer against servers that are there
//! already: so the product can be put beside others in somebody else's measurement. With `BENCH_CA`, the PEM file of an
//! authority, they speak TLS from the first byte. `bench large` measures passes over one large folder, and `bench micro`
//! single parts of the engine.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::pedantic,
    unreachable_pub,
    reason = "a measurement speaks to whoever runs it, and stops at the first surprise"
)]

mod engine;
mod large;
mod micro;
mod peers;
mod raw;
#[path = "../../tests/support/mod.rs"]
mod support;
mod table;

use std::env;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use mailferry::model::protocol::Protocol;

/// The job of a peer.
#[derive(Clone)]
pub struct Job {
    /// Where both servers are.
    pub host: String,
    /// The source's port.
    pub source: u16,
    /// The destination's port.
    pub destination: u16,
    /// The mailbox's login name at both sides.
    pub user: String,
    /// Its password.
    pub password: String,
    /// Connections at each side.
    pub sessions: usize,
    /// PEM text of the authority whose certificates both servers show; without it there is no TLS.
    pub authority: Option<String>,
}

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        [
            peer @ ("engine" | "pop3" | "raw" | "retr"),
            source,
            destination,
            user,
            password,
            state,
            sessions,
        ] => {
            let job = Job {
                host: "127.0.0.1".to_owned(),
                source: source.parse().expect("a port"),
                destination: destination.parse().expect("a port"),
                user: user.to_owned(),
                password: password.to_owned(),
                sessions: sessions.parse().expect("a number of sessions"),
                authority: env::var_os("BENCH_CA")
                    .map(|path| fs::read_to_string(path).expect("an authority")),
            };
            run_peer(peer, &job, Path::new(state))
        }
        [] => table::run(),
        ["large"] => large::run(),
        ["micro"] => micro::run(),
        _ => {
            eprintln!(
                "usage: bench [large | micro | engine|pop3|retr|raw SOURCE DESTINATION USER PASSWORD STATE SESSIONS]"
            );
            ExitCode::FAILURE
        }
    }
}

/// Runs one peer and prints how many messages it sent.
fn run_peer(peer: &str, job: &Job, state: &Path) -> ExitCode {
    let done = match peer {
        "raw" => raw::run(job).map_err(|e| e.to_string()),
        "retr" => runtime().block_on(engine::read_maildrop(job)).map_err(|failure| failure.sentence()),
        _ => {
            let source = if peer == "pop3" { Protocol::Pop3 } else { Protocol::Imap };
            // As in the product, where each mailbox is a task of its own.
            let (job, state) = (job.clone(), state.to_owned());
            let runtime = runtime();
            let engine = runtime.spawn(async move { engine::run(source, &job, &state).await });
            runtime
                .block_on(engine)
                .unwrap()
                .map(|outcome| outcome.sent as usize)
                .map_err(|failure| failure.sentence())
        }
    };
    match done {
        Ok(messages) => {
            println!("{messages}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{peer}: {why}");
            ExitCode::FAILURE
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap()
}
