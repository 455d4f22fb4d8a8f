//! A private pymap: IMAP in Python with one mailbox in memory. It keeps no keywords, has no NAMESPACE and offers OBJECTID and
//! MULTIAPPEND.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tempfile::TempDir;

use super::imap::Client;
use super::process::{self, Server};
use super::rooted;

/// A running server; all that it holds is gone with it.
#[derive(Debug)]
pub struct Pymap {
    imap: SocketAddr,
    _server: Server,
    // Last, so that the server is gone before its directory goes.
    directory: TempDir,
}

impl Pymap {
    /// Starts it for its one user.
    pub fn start(user: &str, password: &str) -> Self {
        let directory =
            tempfile::Builder::new().prefix("mailferry-pymap-").tempdir().expect("a temporary directory");
        let log = directory.path().join("log");
        let program = rooted::cache().join("pymap/bin/python");
        for _ in 0..5 {
            let imap = process::free_address(IpAddr::V4(Ipv4Addr::LOCALHOST));
            let (host, port) = (imap.ip().to_string(), imap.port().to_string());
            // Its script names the Python of where it was installed before it was moved here.
            let start = "import pymap.main; pymap.main.main()";
            let args = ["-c", start, "--no-service", "managesieve", "--host", &host, "--port", &port];
            let mailbox = ["--no-tls", "dict", "--demo-user", user, "--demo-password", password];
            let program = program.to_str().expect("a path in UTF-8");
            let mut server = Server::start(program, args.into_iter().chain(mailbox), &log);
            if server.wait_until(|| process::answers(imap)) {
                return Self { imap, _server: server, directory };
            }
        }
        panic!("pymap does not start: {}", fs::read_to_string(&log).unwrap_or_default());
    }

    /// Where IMAP in the clear is.
    pub fn imap(&self) -> SocketAddr {
        self.imap
    }

    /// Opens the mailbox.
    #[track_caller]
    pub fn mailbox(&self, user: &str, password: &str) -> Client {
        Client::login(self.imap(), user, password)
            .unwrap_or_else(|no| panic!("{no}: {}", self.log()))
            .patient()
    }

    /// Everything that it has said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}
