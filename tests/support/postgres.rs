//! A private PostgreSQL: data directory, port, certificate and users of its own. Tests that run at the same time share one,
//! each with a database of its own; the last one stops it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tempfile::TempDir;

use super::ca::{Ca, Certificate};
use super::process::{self, Server};

/// The user that tests log in as.
pub const USER: &str = "ferry";
/// Its password.
pub const PASSWORD: &str = "Osprey-db 7'\\\"x";
/// The user who may do everything; the one that the server runs as when tests run as root.
const SUPERUSER: &str = "postgres";

/// A running PostgreSQL.
pub struct Postgres {
    address: SocketAddr,
    server: Mutex<Option<Server>>,
    directory: TempDir,
    ca: Ca,
    _certificate: Certificate,
    databases: AtomicU32,
}

/// The server's own programs; Debian keeps them out of the path.
fn program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let installed =
        versions.map(|version| version.path().join("bin").join(name)).filter(|path| path.exists());
    installed.max().unwrap_or_else(|| PathBuf::from(name))
}

/// A command as a user that PostgreSQL agrees to run as: it refuses the superuser.
fn unprivileged(name: &str) -> Vec<String> {
    let program = program(name).display().to_string();
    if process::is_root() {
        let user = ["--reuid", SUPERUSER, "--regid", SUPERUSER, "--clear-groups", &program];
        return std::iter::once("setpriv").chain(user).map(str::to_owned).collect();
    }
    vec![program]
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {said}");
    said
}

/// Gives files to the user that the server runs as.
fn hand_over(path: &Path) {
    if process::is_root() {
        run(Command::new("chown").args(["-R", &format!("{SUPERUSER}:")]).arg(path));
    }
}

impl Postgres {
    /// The server that all tests of this process share while any of them needs it.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = shared.upgrade() {
            return running;
        }
        let fresh = Arc::new(Self::start());
        *shared = Arc::downgrade(&fresh);
        fresh
    }

    /// Starts a server of one's own.
    pub fn start() -> Self {
        Self::start_at(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    /// Starts a server at an address of this machine. Its certificate is for localhost, and for this address if that is
    /// another one.
    pub fn start_at(ip: IpAddr) -> Self {
        let directory =
            tempfile::Builder::new().prefix("mailferry-postgres-").tempdir().expect("a temporary directory");
        let ca = Ca::new();
        let names = if ip.is_loopback() { vec![] } else { vec![ip.to_string()] };
        let names: Vec<&str> = names.iter().map(String::as_str).chain(["localhost"]).collect();
        let certificate = ca.issue(&names);
        let data = directory.path().join("data");
        fs::create_dir(&data).expect("a directory for the data");
        for (from, to) in [(&certificate.chain, "tls.crt"), (&certificate.key, "tls.key")] {
            fs::copy(from, directory.path().join(to)).expect("the certificate can be copied");
        }
        run(Command::new("chmod").arg("600").arg(directory.path().join("tls.key")));
        hand_over(directory.path());
        let initdb = unprivileged("initdb");
        let mut command = Command::new(&initdb[0]);
        command.args(&initdb[1..]).arg("--pgdata").arg(&data);
        // The data are not worth a sync before there are any; the server itself syncs.
        command.args(["--no-sync", "--encoding=UTF8", "--locale=C", "--auth=trust"]);
        run(command.args(["--username", SUPERUSER]).current_dir(directory.path()));
        let place = directory.path().display();
        let tls = format!("ssl = on\nssl_cert_file = '{place}/tls.crt'\nssl_key_file = '{place}/tls.key'\n");
        fs::write(data.join("postgresql.conf"), tls).expect("postgresql.conf can be written");
        let rules = "local all all trust\nhost all all all scram-sha-256\n";
        fs::write(data.join("pg_hba.conf"), rules).expect("pg_hba.conf can be written");
        let postgres = Self {
            address: SocketAddr::new(ip, 0),
            server: Mutex::default(),
            directory,
            ca,
            _certificate: certificate,
            databases: AtomicU32::new(0),
        };
        let postgres = postgres.listen();
        let quoted = PASSWORD.replace('\'', "''");
        postgres.sql("postgres", &format!("CREATE ROLE {USER} LOGIN PASSWORD '{quoted}'"));
        postgres
    }

    /// Starts on a free port.
    fn listen(mut self) -> Self {
        for _ in 0..5 {
            self.address = process::free_address(self.address.ip());
            if self.boot() {
                return self;
            }
        }
        panic!("postgres does not start: {}", fs::read_to_string(self.log()).unwrap_or_default());
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("postgres.log")
    }

    fn boot(&self) -> bool {
        let command = unprivileged("postgres");
        let place = self.directory.path().display().to_string();
        let settings = [
            format!("port={}", self.address.port()),
            format!("unix_socket_directories={place}"),
            format!("listen_addresses={}", self.address.ip()),
            "fsync=on".to_owned(),
            "synchronous_commit=off".to_owned(),
            "max_connections=60".to_owned(),
            "shared_buffers=32MB".to_owned(),
        ];
        let mut args: Vec<String> = command[1..].to_vec();
        args.extend(["-D".to_owned(), format!("{place}/data")]);
        args.extend(settings.into_iter().flat_map(|setting| ["-c".to_owned(), setting]));
        let mut server = Server::start(&command[0], args, &self.log());
        let ready = || {
            let mut psql = self.psql("postgres");
            psql.args(["-c", "SELECT 1"]).output().is_ok_and(|output| output.status.success())
        };
        let up = server.wait_until(ready);
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
        up
    }

    fn psql(&self, database: &str) -> Command {
        let mut command = Command::new(program("psql"));
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", SUPERUSER, "-d", database]);
        command.arg("-h").arg(self.directory.path()).arg("-p").arg(self.address.port().to_string());
        command
    }

    /// Runs SQL as the superuser and returns what it prints, columns parted by `|`.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        run(self.psql(database).args(["-c", sql])).trim().to_owned()
    }

    /// Makes a database of one's own.
    pub fn database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name} OWNER {USER}"));
        name
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whose certificate it shows, for the name `localhost`.
    pub fn ca(&self) -> &Ca {
        &self.ca
    }

    /// Closes every connection to a database, as an administrator would.
    pub fn disconnect(&self, database: &str) {
        let sql = format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{database}' AND usename = '{USER}'"
        );
        self.sql("postgres", &sql);
    }

    /// Sends a signal to the postmaster and waits until it is gone.
    fn signal(&self, name: &str) {
        let text = fs::read_to_string(self.directory.path().join("data/postmaster.pid")).unwrap_or_default();
        if let Some(id) = text.lines().next() {
            let _ = Command::new("kill").args([&format!("-{name}"), id]).status();
        }
        if let Some(mut server) = self.server.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let mut patience = 400;
            while server.is_running() && patience > 0 {
                std::thread::sleep(std::time::Duration::from_millis(10));
                patience -= 1;
            }
        }
    }

    /// Ends it as a crash would: nothing is flushed, nothing is said to clients in order.
    pub fn crash(&self) {
        self.signal("QUIT");
    }

    /// Starts it again after [`Self::crash`].
    pub fn restart(&self) {
        assert!(
            self.boot(),
            "postgres does not start again: {}",
            fs::read_to_string(self.log()).unwrap_or_default()
        );
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // The keeper's own signal would make it wait for its clients.
        self.signal("INT");
    }
}
