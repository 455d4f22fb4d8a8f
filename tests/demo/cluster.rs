//! `make cluster-demo`: gives the cluster of `tests/cluster` what `examples/quickstart.yaml` needs, so that nothing has to
//! be filled in: the image that the chart takes, the demo's servers where pods reach them, the namespace with the
//! servers' certificate authority, and `kubectl mailferry`.
//!
//! The servers run in a process of their own, which ends with the cluster. Asked again, everything begins anew.

use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::Duration;

use super::support::cluster::Cluster;
use super::support::mixed::{QUICKSTART_PORT, authority};

/// The argument of the process that holds the servers.
pub(crate) const SERVE: &str = "--serve-cluster";

/// Where the README lets workers ask for names.
const DNS_PORT: u16 = 1053;

/// The image that the chart takes when none is named.
const IMAGE: &str = concat!("localhost/mailferry:", env!("CARGO_PKG_VERSION"));

/// The last line of the process that holds the servers, not to be shown.
const READY: &str = "ready";

const NAMESPACE: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: demo, labels: {pod-security.kubernetes.io/enforce: restricted}}
---
";

/// Makes everything ready, and leaves the servers running.
#[allow(clippy::zombie_processes, reason = "the servers outlive this process")]
pub(crate) fn prepare(program: Option<&Path>) -> ExitCode {
    let Some(program) = program.filter(|program| program.exists()) else {
        println!("mailferry is not built yet: cargo build --bin mailferry");
        return ExitCode::FAILURE;
    };
    let cluster = Cluster::get();
    let Some(state) = cluster.state() else {
        println!("KUBECONFIG names another cluster: the demo's servers want the one of `make cluster`");
        return ExitCode::FAILURE;
    };
    cluster.load_image_of(program, IMAGE);
    let plugins = state.join("bin");
    fs::create_dir_all(&plugins).expect("the cluster's directory can be written");
    let plugin = plugins.join("kubectl-mailferry");
    // There is none the first time.
    let _ = fs::remove_file(&plugin);
    symlink(program, &plugin).expect("a link can be made");
    end_earlier(&mark(state));
    cluster.kubectl(&["delete", "namespace", "demo", "--ignore-not-found", "--timeout=120s"]);
    let log = state.join("logs/demo.log");
    let mut servers = Command::new(env::current_exe().expect("a program"))
        .arg(SERVE)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::create(&log).expect("the cluster's directory can be written"))
        // Ctrl-C on this terminal is not for them.
        .process_group(0)
        .spawn()
        .expect("this program can be started");
    let lines = BufReader::new(servers.stdout.take().expect("a pipe")).lines();
    for line in lines.map_while(Result::ok) {
        if line == READY {
            return ExitCode::SUCCESS;
        }
        println!("{line}");
    }
    println!("the servers did not start: {}", fs::read_to_string(log).unwrap_or_default());
    ExitCode::FAILURE
}

/// Runs the servers until the cluster is gone, or the demo begins anew.
pub(crate) fn serve() -> ExitCode {
    let cluster = Cluster::get();
    let path = mark(cluster.state().expect("the cluster of `make cluster`"));
    let held = File::create_new(&path).expect("nobody else is at it");
    held.lock().expect("a lock");
    let host = cluster.host();
    let world = super::set(SocketAddr::new(host, QUICKSTART_PORT), SocketAddr::new(host, DNS_PORT));
    let objects = format!("{NAMESPACE}{}", authority(&world.ca));
    cluster.try_apply(&objects, &[]).expect("the cluster takes the demo's objects");
    println!(
        "The cluster has the image {IMAGE}, and in the namespace demo the servers' certificate authority."
    );
    println!("The servers run until `make cluster-down`.");
    println!("{READY}");
    // From here on nobody reads what is printed.
    let own = held.metadata().map(|mark| mark.ino()).ok();
    while fs::metadata(&path).map(|mark| mark.ino()).ok() == own {
        sleep(Duration::from_millis(300));
    }
    drop(world);
    ExitCode::SUCCESS
}

/// The file that is locked while the servers run, and whose absence tells them to end.
fn mark(state: &Path) -> PathBuf {
    state.join("demo-servers")
}

/// Ends the servers of an earlier demo and waits until they are gone.
fn end_earlier(mark: &Path) {
    if let Ok(earlier) = File::open(mark) {
        fs::remove_file(mark).expect("the cluster's directory can be written");
        earlier.lock().expect("a lock");
    }
}
