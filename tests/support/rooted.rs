//! Servers that run in a root directory of their own: those whose paths cannot be changed. `tests/servers/build` lays their
//! programs down in the cache; here each server gets a copy, with only what it needs to know of the system.

use std::env;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io::Write as _;
use std::net::Shutdown;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use tempfile::TempDir;

use super::dovecot::MAIL_UID;
use super::process::{self, Server};

/// Starts its arguments and passes the order to end on, to the process and to the group that it may have made of itself:
/// whoever orders a group to end does not reach one that left it.
const PASS_ON: &str = r#""$@" &
server=$!
trap 'kill -TERM "$server" "-$server" 2>/dev/null' TERM
while kill -0 "$server" 2>/dev/null; do
    wait "$server"
done"#;

/// Where `tests/servers/build` put servers last.
#[track_caller]
pub fn cache() -> PathBuf {
    let cache = env::var_os("XDG_CACHE_HOME").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let home = || PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cache");
    let servers = cache.unwrap_or_else(home).join("mailferry/servers");
    let whole = |entry: &fs::DirEntry| !entry.file_name().as_encoded_bytes().starts_with(b".");
    let entries = fs::read_dir(&servers).into_iter().flatten().flatten().filter(whole);
    let newest =
        entries.filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path()))).max();
    newest.unwrap_or_else(|| panic!("{}: scripts/setup fetches the servers", servers.display())).1
}

/// The root directory of one server, gone when the value is dropped.
#[derive(Debug)]
pub struct Rooted {
    log: Arc<UnixDatagram>,
    directory: TempDir,
}

impl Rooted {
    /// A copy of the server `name`; all that it runs as is the user and group `user`.
    pub fn copy(name: &str, user: &str) -> Self {
        assert!(
            process::is_root(),
            "{name} changes its root directory, which only root can: run this test as root"
        );
        let directory = tempfile::Builder::new()
            .prefix(&format!("mailferry-{name}-"))
            .tempdir()
            .expect("a temporary directory");
        let root = directory.path();
        fs::set_permissions(root, Permissions::from_mode(0o755)).expect("a directory of our own");
        // Links save a copy of all libraries where cache and temporary directory are on one file system.
        let copy = |how: &str| {
            let mut command = Command::new("cp");
            command.args([how, "-R", "-P", "--"]).arg(cache().join(name).join(".")).arg(root);
            command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
        };
        assert!(copy("--link") || copy("--force"), "the programs of {name} can be copied");
        for folder in ["dev", "etc", "run", "tmp", "var"] {
            fs::create_dir_all(root.join(folder)).expect("a directory");
        }
        fs::set_permissions(root.join("tmp"), Permissions::from_mode(0o777)).expect("a directory of our own");
        let log = UnixDatagram::bind(root.join("dev/log")).expect("a socket");
        let rooted = Self { log: Arc::new(log), directory };
        // No device: only so that it can be opened.
        rooted.write("dev/null", "", 0o666);
        fs::set_permissions(rooted.path("dev/log"), Permissions::from_mode(0o666))
            .expect("a socket of our own");
        rooted.write("etc/passwd", &format!("{user}:x:{MAIL_UID}:{MAIL_UID}::/:/bin/false\n"), 0o644);
        rooted.write("etc/group", &format!("{user}:x:{MAIL_UID}:\n"), 0o644);
        rooted.write("etc/protocols", "tcp 6 TCP\nudp 17 UDP\n", 0o644);
        rooted.keep_log();
        rooted
    }

    /// Replaces syslog. It ends when the value is dropped.
    fn keep_log(&self) {
        let (log, path) = (Arc::clone(&self.log), self.log_file());
        thread::spawn(move || {
            let mut line = [0; 4096];
            while let Ok(length @ 1..) = log.recv(&mut line) {
                let file = fs::File::options().create(true).append(true).open(&path);
                let _ = file.and_then(|mut file| file.write_all(&[&line[..length], b"\n"].concat()));
            }
        });
    }

    fn log_file(&self) -> PathBuf {
        self.path("log")
    }

    /// Everything that the server has said.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_file()).unwrap_or_default()).into_owned()
    }

    /// A path in the root directory, seen from outside.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.directory.path().join(inside)
    }

    /// Writes a file.
    pub fn write(&self, inside: &str, text: &str, mode: u32) {
        let path = self.path(inside);
        fs::create_dir_all(path.parent().expect("a path inside")).expect("a directory");
        fs::write(&path, text).expect("a file can be written");
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("a file of our own");
    }

    /// Makes a directory for the server to write in.
    pub fn folder(&self, inside: &str) {
        fs::create_dir_all(self.path(inside)).expect("a directory");
        self.give(inside);
    }

    /// Gives a file or directory to the server's user.
    pub fn give(&self, inside: &str) {
        chown(self.path(inside), Some(MAIL_UID), Some(MAIL_UID)).expect("root may give a file away");
    }

    /// Runs a program of the server to its end, with a text to read.
    #[track_caller]
    pub fn run(&self, program: &str, args: &[&str], input: &str) {
        let log = fs::File::options().create(true).append(true).open(self.log_file()).expect("a log");
        let mut child = Command::new("chroot")
            .arg(self.directory.path())
            .arg(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("a file descriptor"))
            .stderr(log)
            .spawn()
            .expect("chroot can be started");
        child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("the program reads");
        assert!(child.wait().is_ok_and(|status| status.success()), "{program}: {}", self.log());
    }

    /// Starts a program of the server with nothing in its environment but `variables`.
    pub fn start(&self, variables: &[(&str, &str)], program: &str, args: &[&str]) -> Server {
        let set = variables.iter().map(|(name, value)| format!("{name}={value}").into());
        let mut words: Vec<OsString> = vec!["-i".into(), "PATH=/usr/sbin:/usr/bin:/sbin:/bin".into()];
        words.extend(set);
        words.extend(["sh", "-c", PASS_ON, "sh", "chroot"].map(Into::into));
        words.extend([self.directory.path().into(), program.into()]);
        words.extend(args.iter().map(Into::into));
        Server::start("env", words, &self.log_file())
    }
}

impl Drop for Rooted {
    fn drop(&mut self) {
        let _ = self.log.shutdown(Shutdown::Both);
    }
}

/// A certificate and its key in one text, as some servers want them.
pub fn joined(chain: &Path, key: &Path) -> String {
    let read = |path| fs::read_to_string(path).expect("a certificate of the test");
    read(key) + &read(chain)
}
