//! A private GNU Mailutils: IMAP and POP3 over files in the mbox format. A folder holds either mail or folders, never both; Inbox
//! has no separator; there is no UIDPLUS, and no keyword stays.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;

use super::dovecot::MAIL_UID;
use super::imap::Client;
use super::process::{self, Server};
use super::rooted::Rooted;

const SETTINGS: &str = "\
auth { authentication \"generic:virtdomain\"; authorization \"virtdomain\"; };
virtdomain { passwd-dir /etc/domains; };
mailbox { mailbox-type mbox; };
mode daemon;
foreground yes;
tcp-wrappers { enable no; };
";

/// A running server.
#[derive(Debug)]
pub struct Mailutils {
    imap: SocketAddr,
    pop3: SocketAddr,
    _servers: Vec<Server>,
    // Last, so that the server is gone before its directory goes.
    root: Rooted,
}

impl Mailutils {
    /// Starts it for these users, who are named by whole addresses of one domain, and their passwords.
    pub fn start(users: &[(&str, &str)]) -> Self {
        let root = Rooted::copy("mailutils", "mail");
        let mut accounts = String::new();
        for (user, password) in users {
            let (name, _) = user.split_once('@').expect("an address");
            root.folder(&format!("home/{name}"));
            let _ = writeln!(
                accounts,
                "{name}:{}:{MAIL_UID}:{MAIL_UID}::/home/{name}:/bin/false",
                hashed(password)
            );
        }
        let (_, domain) = users[0].0.split_once('@').expect("an address");
        root.write(&format!("etc/domains/{domain}"), &accounts, 0o600);
        let mut servers = Vec::new();
        let imap = listen(&root, &mut servers, "imap4d");
        let pop3 = listen(&root, &mut servers, "pop3d");
        Self { imap, pop3, _servers: servers, root }
    }

    /// Where IMAP in the clear is.
    pub fn imap(&self) -> SocketAddr {
        self.imap
    }

    /// Where POP3 in the clear is.
    pub fn pop3(&self) -> SocketAddr {
        self.pop3
    }

    /// Opens a user's mailbox.
    #[track_caller]
    pub fn mailbox(&self, user: &str, password: &str) -> Client {
        Client::login(self.imap, user, password).unwrap_or_else(|no| panic!("{no}: {}", self.log())).patient()
    }

    /// Everything that it has said.
    pub fn log(&self) -> String {
        self.root.log()
    }
}

/// A password as its table of users holds it.
fn hashed(password: &str) -> String {
    let output = Command::new("openssl").args(["passwd", "-6", password]).output().expect("openssl runs");
    String::from_utf8(output.stdout).expect("a line of text").trim().to_owned()
}

/// Starts one of its programs at a free port.
fn listen(root: &Rooted, servers: &mut Vec<Server>, program: &str) -> SocketAddr {
    for _ in 0..5 {
        let at = process::free_address(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let conf = format!("etc/{program}.conf");
        root.write(&conf, &format!("{SETTINGS}server {at} {{ }};\n"), 0o644);
        let mut server =
            root.start(&[], &format!("/usr/sbin/{program}"), &[&format!("--config-file=/{conf}")]);
        if server.wait_until(|| process::answers(at)) {
            servers.push(server);
            return at;
        }
    }
    panic!("{program} does not start: {}", root.log());
}
