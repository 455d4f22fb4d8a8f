//! The operator as a process, and its figures from `/proc` and its own metrics.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::cluster::Cluster;
use crate::world::World;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_mins(8);

/// A running operator.
pub(crate) struct Operator {
    child: Child,
    port: u16,
}

/// Its figures at one moment.
pub(crate) struct Figures {
    /// Processor time of all its threads.
    pub(crate) cpu: Duration,
    /// Resident memory, in MiB.
    pub(crate) rss: f64,
    /// The most that it ever was, in MiB.
    pub(crate) peak: f64,
    metrics: String,
}

impl Figures {
    /// The sum over all series of a metric.
    pub(crate) fn total(&self, name: &str) -> f64 {
        self.sum(name, "")
    }

    /// Objects in a phase: `migrations` or `mailboxes`.
    pub(crate) fn phase(&self, kind: &str, phase: &str) -> f64 {
        self.sum(kind, &format!("phase=\"{phase}\""))
    }

    /// All mailboxes that have a phase beyond the first.
    pub(crate) fn mailboxes(&self) -> f64 {
        self.total("mailboxes") - self.phase("mailboxes", "Pending")
    }

    /// Turns that came to a good end.
    pub(crate) fn turns(&self) -> f64 {
        self.sum("reconciles_total", "result=\"Ok\"")
    }

    /// Requests that write.
    pub(crate) fn writes(&self) -> f64 {
        ["create", "delete", "patch", "update"]
            .iter()
            .map(|verb| self.sum("api_requests_total", &format!("verb=\"{verb}\"")))
            .sum()
    }

    fn sum(&self, name: &str, label: &str) -> f64 {
        let name = format!("mailferry_{name}");
        let series = self.metrics.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (found, labels) = series.split_once('{').unwrap_or((series, ""));
            (found == name && labels.contains(label)).then(|| value.parse::<f64>().ok())?
        });
        series.sum()
    }
}

impl Operator {
    /// Starts it for the namespace of a world.
    pub(crate) async fn start(program: &Path, world: &World) -> Self {
        let port = {
            let free = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            free.local_addr().unwrap().port()
        };
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(world.directory().join("operator.log"))
            .unwrap();
        let mut command = Command::new(program);
        command.args(["operator", "--image", "none", "--lease-name", "scale"]);
        command.args(["--watch-namespace", world.namespace(), "--lease-namespace", world.namespace()]);
        command.args(["--allowed-network", "127.0.0.0/8", "--listen", &format!("127.0.0.1:{port}")]);
        command.env("KUBECONFIG", Cluster::get().kubeconfig()).env("MAILFERRY_LOG", "mailferry=info,warn");
        let child = command.stdin(Stdio::null()).stderr(log).spawn().unwrap();
        Self { child, port }
    }

    /// How it does.
    pub(crate) async fn figures(&self) -> Figures {
        self.look().await.expect("the operator answers")
    }

    async fn look(&self) -> Option<Figures> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.ok()?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.ok()?;
        let mut metrics = String::new();
        stream.read_to_string(&mut metrics).await.ok()?;
        let process = format!("/proc/{}", self.child.id());
        let status = fs::read_to_string(format!("{process}/status")).ok()?;
        let mebibytes = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field))?;
            Some(line.trim_matches([':', ' ', '\t', 'k', 'B']).parse::<f64>().ok()? / 1024.0)
        };
        let threads = fs::read_dir(format!("{process}/task")).ok()?.flatten();
        let nanoseconds = threads.filter_map(|thread| {
            let times = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            times.split(' ').next()?.parse::<u64>().ok()
        });
        let cpu = Duration::from_nanos(nanoseconds.sum());
        Some(Figures { cpu, rss: mebibytes("VmRSS")?, peak: mebibytes("VmHWM")?, metrics })
    }

    /// Waits until it has come so far.
    pub(crate) async fn wait_until(&self, what: &str, done: impl Fn(&Figures) -> bool) {
        let end = Instant::now() + PATIENCE;
        let mut told = Instant::now();
        loop {
            let figures = self.look().await;
            if figures.as_ref().is_some_and(&done) {
                return;
            }
            assert!(Instant::now() < end, "not in time: {what}");
            if told.elapsed() > Duration::from_secs(15) {
                told = Instant::now();
                let stand =
                    figures.map(|f| (f.mailboxes(), f.phase("mailboxes", "Verified"), f.turns(), f.rss));
                eprintln!("waiting until {what}: mailboxes, verified, turns, MiB {stand:?}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Asks it to end, and waits for that.
    pub(crate) async fn stop(mut self) {
        Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        let end = Instant::now() + Duration::from_secs(20);
        while self.child.try_wait().unwrap().is_none() && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
