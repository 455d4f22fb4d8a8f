//! `make demo`: the whole story on one machine. Starts real servers on loopback, fills them with believable mail, runs
//! the built `mailferry` on `examples/quickstart.yaml`, and cleans up after itself.
//!
//! With `--servers-only` it starts the servers, says how to reach them, and waits for Enter, the end of its input or
//! Ctrl-C: for playing.
#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a demo speaks to whoever runs it, and has nothing to do where its servers cannot run"
)]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

#[path = "../support/mod.rs"]
mod support;

use support::ca::Ca;
use support::corpus::Corpus;
use support::dns::{Dns, Record};
use support::dovecot::{Access, Dovecot, LOOPBACK, User};

/// The manifest as readers find it; the demo fills in what differs from machine to machine.
const MANIFEST: &str = include_str!("../../examples/quickstart.yaml");

/// Where reports and state stay after the demo, under the current directory.
const STATE: &str = "demo-state";

const MASTER: (&str, &str) = ("madmin", "master-secret");
const NEW_MASTER: (&str, &str) = ("newadmin", "new-secret");

/// Everything that runs while the demo does.
struct Stage {
    ca: Ca,
    /// IMAP with a master user.
    a: Dovecot,
    /// POP3 only.
    b: Dovecot,
    /// carol has IMAP and POP3, chris only POP3.
    c: Dovecot,
    destination: Dovecot,
    dns: Dns,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let servers_only = match env::args().nth(1).as_deref() {
        None => false,
        Some("--servers-only") => true,
        Some(_) => {
            println!("usage: demo [--servers-only]");
            return ExitCode::from(2);
        }
    };
    let Some(program) = program().filter(|program| servers_only || program.exists()) else {
        println!("mailferry is not built yet: cargo build --bin mailferry");
        return ExitCode::FAILURE;
    };
    let stage = tokio::select! {
        stage = tokio::task::spawn_blocking(set) => stage.expect("the servers start"),
        _ = tokio::signal::ctrl_c() => return ExitCode::from(130),
    };
    let directory =
        tempfile::Builder::new().prefix("mailferry-demo-").tempdir().expect("a temporary directory");
    let manifest = directory.path().join("quickstart.yaml");
    fs::write(&manifest, stage.fill_in(MANIFEST)).expect("the manifest can be written");
    if servers_only {
        stage.show(&manifest, &program);
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())) => {}
        }
        drop((stage, directory));
        // A reader of standard input cannot be woken; leaving main would wait for it.
        leave(0);
    }
    stage.migrate(&program, &manifest).await
}

impl Stage {
    /// Runs mailferry with the terminal to itself, and says where the reports are.
    async fn migrate(&self, program: &Path, manifest: &Path) -> ExitCode {
        let state = env::current_dir().expect("a current directory").join(STATE);
        if state.exists() {
            fs::remove_dir_all(&state).expect("the state of an earlier demo can be removed");
        }
        let mut command = Command::new(program);
        command.arg("run").arg("-f").arg(manifest).args(["--state", STATE, "--resolver"]);
        command.arg(self.dns.addr().to_string());
        println!("\n$ mailferry run -f quickstart.yaml --state {STATE} --resolver {}\n", self.dns.addr());
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

    /// The manifest with this machine's certificate authority and the destination's port.
    fn fill_in(&self, manifest: &str) -> String {
        let (no_ca, any_port) = ("ca.crt: \"\"", "port: 993");
        assert_eq!(manifest.matches(no_ca).count(), 1, "one place for the CA");
        assert_eq!(manifest.matches(any_port).count(), 1, "one place for the destination's port");
        let pem = self.ca.pem().trim_end().replace('\n', "\n    ");
        manifest
            .replace(no_ca, &format!("ca.crt: |\n    {pem}"))
            .replace(any_port, &format!("port: {}", self.destination.imaps().port()))
    }

    fn show(&self, manifest: &Path, program: &Path) {
        let (master, password) = MASTER;
        let (new_master, new_password) = NEW_MASTER;
        println!("\n  DNS          {}", self.dns.addr());
        println!("  a.test       imap.a.test    IMAPS {}", self.a.imaps());
        println!("               alice@a.test, anna@a.test as user*{master} / {password}");
        println!("  b.test       pop.b.test     POP3S {}", self.b.pop3s());
        println!("               bob@b.test / bob-secret   dora@b.test / dora-secret");
        println!("  c.test       mail.c.test    IMAPS {}   POP3S {}", self.c.imaps(), self.c.pop3s());
        println!("               carol / carol-secret (IMAP and POP3)   chris / chris-secret (POP3 only)");
        println!("  new.test     imap.new.test  IMAPS {}", self.destination.imaps());
        println!("               anybody@new.test as user*{new_master} / {new_password}");
        println!("  CA           {}", self.ca.path().display());
        println!("  manifest     {}", manifest.display());
        println!("\n  {} run -f {} \\", program.display(), manifest.display());
        println!("    --state {STATE} --resolver {}", self.dns.addr());
        println!("\nPress Enter to stop the servers.");
    }
}

/// Starts the servers and fills the sources.
fn set() -> Stage {
    let begin = Instant::now();
    let ca = Ca::new();
    let a = Dovecot::builder()
        .imaps(LOOPBACK)
        .tls(&ca.issue(&["imap.a.test"]))
        .user(User::new("alice@a.test", "alice-secret"))
        .user(User::new("anna@a.test", "anna-secret"))
        .master(MASTER.0, MASTER.1)
        .special_use("Sent", "\\Sent")
        .special_use("Trash", "\\Trash")
        .start();
    let b = Dovecot::builder()
        .pop3s(LOOPBACK)
        .tls(&ca.issue(&["pop.b.test"]))
        .user(User::new("bob@b.test", "bob-secret"))
        .user(User::new("dora@b.test", "dora-secret"))
        .start();
    let c = Dovecot::builder()
        .imaps(LOOPBACK)
        .pop3s(LOOPBACK)
        .tls(&ca.issue(&["mail.c.test"]))
        .user(User::new("carol", "carol-secret"))
        .user(User::new("chris", "chris-secret").only(Access::Pop3))
        .start();
    let mut destination = Dovecot::builder()
        .imaps(LOOPBACK)
        .tls(&ca.issue(&["imap.new.test"]))
        .master(NEW_MASTER.0, NEW_MASTER.1)
        .special_use("Sent", "\\Sent")
        .special_use("Trash", "\\Trash");
    for name in ["alice", "anna", "bob", "dora", "carol", "chris"] {
        destination = destination.user(User::new(&format!("{name}@new.test"), "of-no-use-here"));
    }
    let destination = destination.start();
    let dns = Dns::start(&[
        Record::mx("a.test", "imap.a.test", 10),
        Record::a("imap.a.test", "127.0.0.1"),
        Record::srv("_imaps._tcp.a.test", "imap.a.test", a.imaps().port()),
        Record::srv_none("_pop3s._tcp.a.test"),
        Record::mx("b.test", "pop.b.test", 10),
        Record::a("pop.b.test", "127.0.0.1"),
        Record::srv_none("_imaps._tcp.b.test"),
        Record::srv("_pop3s._tcp.b.test", "pop.b.test", b.pop3s().port()),
        Record::mx("c.test", "mail.c.test", 10),
        Record::a("mail.c.test", "127.0.0.1"),
        Record::srv("_imaps._tcp.c.test", "mail.c.test", c.imaps().port()),
        Record::srv("_pop3s._tcp.c.test", "mail.c.test", c.pop3s().port()),
        Record::mx("new.test", "imap.new.test", 10),
        Record::a("imap.new.test", "127.0.0.1"),
    ]);
    println!("Four mail servers and a DNS server run on loopback ({:.1} s).", begin.elapsed().as_secs_f32());

    let begin = Instant::now();
    let mut messages = 0;
    let mut fill = |server: &Dovecot, user: &str, corpus: Corpus, count: usize| {
        messages += count;
        server.mailbox(user).seed(corpus.messages(count));
    };
    let five_megabytes = 5 << 20;
    fill(&a, "alice@a.test", Corpus::new(1).with_quoted_folder().with_large(&[five_megabytes; 2]), 500);
    fill(&a, "anna@a.test", Corpus::new(2), 250);
    fill(&b, "bob@b.test", Corpus::new(3).inbox_only().with_large(&[five_megabytes]), 250);
    fill(&b, "dora@b.test", Corpus::new(4).inbox_only(), 100);
    fill(&c, "carol", Corpus::new(5), 250);
    fill(&c, "chris", Corpus::new(6).inbox_only(), 150);
    println!("Six mailboxes hold {messages} messages ({:.1} s).", begin.elapsed().as_secs_f32());
    Stage { ca, a, b, c, destination, dns }
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
