//! Server processes that never outlive whoever started them, whatever way that one ends.
//!
//! Each server runs under a small shell that holds one end of a pipe. Closing the pipe is the order to stop; the
//! kernel closes it also when the test is killed, so nothing is left behind and nothing is ever killed by name.

use std::ffi::OsStr;
use std::fs::File;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Starts its arguments, and when its standard input reaches its end asks them and all they started to end: the whole
/// process group at once, since Dovecot's master alone would take a second over it.
const KEEPER: &str = r#"exec 3<&0
trap : TERM
"$@" </dev/null 3<&- &
server=$!
(read -r _ <&3; kill -TERM 0) 2>/dev/null &
guard=$!
exec 3<&-
while kill -0 "$server" 2>/dev/null; do
    wait "$server"
done
kill "$guard" 2>/dev/null"#;

/// How long a server may take to start or to stop on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running server; dropping it stops it and waits until it is gone.
#[derive(Debug)]
pub struct Server {
    keeper: Child,
}

impl Server {
    /// Starts `program`, its output appended to `log`.
    pub fn start(program: &str, args: impl IntoIterator<Item = impl AsRef<OsStr>>, log: &Path) -> Self {
        let log =
            File::options().create(true).append(true).open(log).expect("the server's log can be written");
        let keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper", program])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("a file descriptor"))
            .stderr(log)
            // A group of its own: for the keeper, and so that Ctrl-C on a terminal reaches the demo alone, which then
            // stops its servers in order.
            .process_group(0)
            .spawn()
            .expect("sh can be started");
        Self { keeper }
    }

    /// Waits until `ready` says yes; false if the process ended first or the time is up.
    pub fn wait_until(&mut self, ready: impl Fn() -> bool) -> bool {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if ready() {
                return true;
            }
            if !self.is_running() {
                return false;
            }
            sleep(Duration::from_millis(10));
        }
        false
    }

    /// Whether the server still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.keeper.try_wait(), Ok(None))
    }

    /// Asks the server to end, waits, and after [`PATIENCE`] ends its process group by force.
    pub fn stop(&mut self) {
        drop(self.keeper.stdin.take());
        let end = Instant::now() + PATIENCE;
        while self.is_running() {
            if Instant::now() > end {
                // No `--`: not every sh takes it.
                let group = format!("kill -KILL -{}", self.keeper.id());
                let _ = Command::new("sh").args(["-c", &group]).status();
                let _ = self.keeper.wait();
                return;
            }
            sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A TCP address on `ip` whose port nobody uses, neither for TCP nor for UDP.
///
/// Somebody else may take it before the server does: whoever starts a server tries again with another one.
pub fn free_address(ip: IpAddr) -> SocketAddr {
    loop {
        let listener = TcpListener::bind((ip, 0)).expect("an address of this machine can be bound");
        let address = listener.local_addr().expect("a bound socket has an address");
        if UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}

/// Whether somebody accepts connections at `address`.
pub fn answers(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}

/// Whether this process is the superuser, so that servers can and must drop to another user.
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}
