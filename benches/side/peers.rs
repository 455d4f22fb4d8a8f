//! The peers: how each is started on one account between two servers, and what its process took.

use std::env;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

/// The login name at both servers.
pub const USER: &str = "bench@bench.test";
/// Its password.
pub const PASSWORD: &str = "secret";
/// The product as users run it, with start, discovery, state and reports.
pub const COMMAND: &str = "mailferry run";
/// How often a peer's memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Clock ticks of `/proc/PID/stat` in a second, on every Linux in use.
const TICKS: f64 = 100.0;

/// The cost of one run.
#[derive(Clone, Copy)]
pub struct Run {
    /// Seconds.
    pub wall: f64,
    /// Seconds of CPU time.
    pub cpu: f64,
    /// The most memory, in MB.
    pub memory: f64,
}

/// The two ends that a peer carries between, and where it may keep its state.
pub struct Ways<'a> {
    /// Port of the source on loopback.
    pub source: u16,
    /// Port of the destination.
    pub destination: u16,
    /// A directory of the peer's own.
    pub state: &'a Path,
    /// PEM text of the authority, when both ports speak TLS.
    pub authority: Option<&'a str>,
}

/// Whether a program can be started.
pub fn installed(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// The product's binary, which is beside the directory of this one.
pub fn binary() -> Option<PathBuf> {
    let path = env::current_exe().ok()?.parent()?.parent()?.join("mailferry");
    path.exists().then_some(path)
}

/// Runs one peer once.
pub fn carry(peer: &str, ways: &Ways<'_>) -> Run {
    let (old, new, state) = (ways.source, ways.destination, ways.state);
    let authority = ways.authority.map(|pem| {
        let path = state.join("ca.pem");
        fs::write(&path, pem).unwrap();
        path
    });
    let mut command = match peer {
        COMMAND => {
            let manifest = state.join("bench.yaml");
            fs::write(&manifest, manifest_of(old, new, authority.is_some())).unwrap();
            let mut command = Command::new(binary().expect("cargo build --release --bin mailferry"));
            command.args(["run", "--progress", "none", "--resolver", &name_server().to_string(), "-f"]);
            command.arg(manifest).arg("--state").arg(state.join("state"));
            if let Some(path) = &authority {
                command.arg("--ca").arg(path);
            }
            command
        }
        "mbsync" => {
            let config = state.join("mbsyncrc");
            fs::write(&config, mbsync_config(old, new, state, authority.as_deref())).unwrap();
            let mut command = Command::new("mbsync");
            command.arg("-q").arg("-c").arg(config).arg("all").stderr(Stdio::null());
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
            let mut command = Command::new(env::current_exe().unwrap());
            command.args([name, &old.to_string(), &new.to_string(), USER, PASSWORD]);
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
    while !has_ended(&child) {
        run.memory = peak_memory(&id).unwrap_or(run.memory);
        sleep(LOOK_EVERY);
    }
    run.wall = start.elapsed().as_secs_f64();
    // All that it used stands there until it is waited for.
    run.cpu = cpu_seconds(&id).unwrap_or_default();
    assert!(child.wait().unwrap().success(), "{peer} failed");
    run
}

/// Whether a process has ended. It is not waited for.
fn has_ended(child: &Child) -> bool {
    let id = Pid::from_child(child);
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    waitid(WaitId::Pid(id), options).unwrap().is_some()
}

/// The CPU seconds that a process has used, its own and the kernel's for it.
fn cpu_seconds(id: &str) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS)
}

/// The most memory that a process has had, in MB.
fn peak_memory(id: &str) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? / 1000.0)
}

/// A name server that knows no name and says so at once: what is measured shall not be somebody's DNS.
fn name_server() -> SocketAddr {
    static ADDRESS: OnceLock<SocketAddr> = OnceLock::new();
    *ADDRESS.get_or_init(|| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        thread::spawn(move || {
            let mut packet = [0; 4096];
            while let Ok((length, who)) = socket.recv_from(&mut packet) {
                let question = packet.get(12..length).unwrap_or_default();
                let Some(end) = question.iter().position(|byte| *byte == 0) else { continue };
                // NXDOMAIN with the question, its type and its class.
                let head = [&packet[..2], &[0x85, 0x83, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
                let _ = socket.send_to(&[&head, &question[..question.len().min(end + 5)]].concat(), who);
            }
        });
        address
    })
}

fn manifest_of(old: u16, new: u16, tls: bool) -> String {
    let server =
        |port: u16| format!("host: 127.0.0.1, port: {port}, tls: {}", if tls { "Implicit" } else { "None" });
    let secret = |name: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: bench}}\nstringData:\n  \
             mailboxes.csv: \"address,username,password\\n{USER},{USER},{PASSWORD}\\n\"\n---\n"
        )
    };
    format!(
        "{}{}apiVersion: mailferry.dev/v1alpha1\nkind: MailMigration\nmetadata: {{name: bench, namespace: bench}}\n\
         spec:\n  stage: Sync\n  destination:\n    imap: {{{}, credentialsRef: {{name: new}}}}\n  domains:\n    \
         - name: bench.test\n      credentialsRef: {{name: old}}\n      servers: [{{protocol: IMAP, {}}}]\n  \
         policy: {{allowedNetworks: [\"127.0.0.0/8\"]}}\n",
        secret("old"),
        secret("new"),
        server(new),
        server(old)
    )
}

fn mbsync_config(old: u16, new: u16, state: &Path, authority: Option<&Path>) -> String {
    let tls = authority.map_or("SSLType None".to_owned(), |path| {
        format!("SSLType IMAPS\nSystemCertificates no\nCertificateFile {}", path.display())
    });
    // It knows names of hosts only.
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
