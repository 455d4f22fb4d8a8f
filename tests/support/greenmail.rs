//! A private `GreenMail`: IMAP and POP3 of another make once more, of few words. It has no ID, no
//! NAMESPACE, no MULTIAPPEND and no word for what changed, and calls a command that it does not know BAD.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;

use tempfile::TempDir;

use super::ca::Certificate;
use super::imap::Client;
use super::process::{self, Server};
use super::rooted;

/// The services, by the names that its settings have for them.
const SERVICES: [&str; 3] = ["imap", "imaps", "pop3s"];

/// A running server; all that it holds is gone with it.
#[derive(Debug)]
pub struct GreenMail {
    /// In the order of [`SERVICES`].
    listeners: [SocketAddr; 3],
    _server: Server,
    // Last, so that the server is gone before its directory goes.
    directory: TempDir,
}

impl GreenMail {
    /// Starts it for these users, who are named by whole addresses, and their passwords.
    pub fn start(certificate: &Certificate, users: &[(&str, &str)]) -> Self {
        let directory =
            tempfile::Builder::new().prefix("mailferry-greenmail-").tempdir().expect("a temporary directory");
        let (store, log) = (directory.path().join("server.p12"), directory.path().join("log"));
        let packed = Command::new("openssl")
            .args(["pkcs12", "-export", "-passout", "pass:changeit", "-in"])
            .arg(&certificate.chain)
            .arg("-inkey")
            .arg(&certificate.key)
            .arg("-out")
            .arg(&store)
            .status();
        assert!(packed.is_ok_and(|status| status.success()), "openssl packs a certificate and its key");
        let accounts: Vec<String> = users
            .iter()
            .map(|(user, password)| {
                let (name, domain) = user.split_once('@').expect("an address");
                format!("{name}:{password}@{domain}")
            })
            .collect();
        let jar = rooted::cache().join("greenmail/greenmail-standalone.jar");
        for _ in 0..5 {
            let listeners = SERVICES.map(|_| process::free_address(IpAddr::V4(Ipv4Addr::LOCALHOST)));
            let mut args = vec![
                "-Xmx256m".to_owned(),
                "-XX:+UseSerialGC".to_owned(),
                "-Dgreenmail.users.login=email".to_owned(),
                // The default is a second, which a busy machine does not keep.
                "-Dgreenmail.startup.timeout=20000".to_owned(),
                format!("-Dgreenmail.users={}", accounts.join(",")),
                format!("-Dgreenmail.tls.keystore.file={}", store.display()),
                "-Dgreenmail.tls.keystore.password=changeit".to_owned(),
                "-Dgreenmail.tls.key.password=changeit".to_owned(),
            ];
            for (service, at) in SERVICES.iter().zip(listeners) {
                args.push(format!("-Dgreenmail.{service}.hostname={}", at.ip()));
                args.push(format!("-Dgreenmail.{service}.port={}", at.port()));
            }
            args.extend(["-jar".to_owned(), jar.display().to_string()]);
            let mut server = Server::start("java", &args, &log);
            // It listens before it knows its users.
            let knows = |(user, password): &(&str, &str)| Client::login(listeners[0], user, password).is_ok();
            let ready = || listeners.into_iter().all(process::answers) && users.iter().all(knows);
            if server.wait_until(ready) {
                return Self { listeners, _server: server, directory };
            }
        }
        panic!("greenmail does not start: {}", fs::read_to_string(&log).unwrap_or_default());
    }

    /// Where IMAP in the clear is.
    pub fn imap(&self) -> SocketAddr {
        self.listeners[0]
    }

    /// Where IMAP with implicit TLS is.
    pub fn imaps(&self) -> SocketAddr {
        self.listeners[1]
    }

    /// Where POP3 with implicit TLS is.
    pub fn pop3s(&self) -> SocketAddr {
        self.listeners[2]
    }

    /// Opens a user's mailbox.
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
