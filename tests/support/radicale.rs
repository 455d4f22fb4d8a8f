//! A private Radicale: `CalDAV` and `CardDAV` over HTTPS.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tempfile::TempDir;

use super::ca::Certificate;
use super::process::{self, Server};
use super::rooted;

/// A running server.
#[derive(Debug)]
pub struct Radicale {
    address: SocketAddr,
    _server: Server,
    // Last, so that the server is gone before its directory goes.
    _directory: TempDir,
}

impl Radicale {
    /// Starts it; whatever it serves, nobody can log in.
    pub fn start(certificate: &Certificate) -> Self {
        let directory =
            tempfile::Builder::new().prefix("mailferry-radicale-").tempdir().expect("a temporary directory");
        let (conf, log) = (directory.path().join("config"), directory.path().join("log"));
        let python = rooted::cache().join("radicale/bin/python");
        for _ in 0..5 {
            let address = process::free_address(IpAddr::V4(Ipv4Addr::LOCALHOST));
            let text = format!(
                "[server]\nhosts = {address}\nssl = True\ncertificate = {}\nkey = {}\n[auth]\ntype = denyall\n\
                 [storage]\nfilesystem_folder = {}\n",
                certificate.chain.display(),
                certificate.key.display(),
                directory.path().join("collections").display()
            );
            fs::write(&conf, text).expect("the configuration can be written");
            let args = ["-m".into(), "radicale".into(), "--config".into(), conf.clone()];
            let mut server = Server::start(python.to_str().expect("a path in UTF-8"), args, &log);
            if server.wait_until(|| process::answers(address)) {
                return Self { address, _server: server, _directory: directory };
            }
        }
        panic!("radicale does not start: {}", fs::read_to_string(&log).unwrap_or_default());
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
