//! A private Courier: IMAP and POP3, each with implicit TLS and in the clear. All folders lie below `INBOX.`, and it knows no
//! UIDPLUS unless it is asked for.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};

use super::ca::Certificate;
use super::dovecot::MAIL_UID;
use super::imap::Client;
use super::process::{self, Server};
use super::rooted::{Rooted, joined};

/// As Debian sets it up, without IDLE, for which Courier would need a daemon that watches files.
const CAPABILITIES: &str = "IMAP4rev1 CHILDREN NAMESPACE THREAD=ORDEREDSUBJECT THREAD=REFERENCES SORT QUOTA";

/// A running server.
#[derive(Debug)]
pub struct Courier {
    imap: SocketAddr,
    imaps: SocketAddr,
    pop3: SocketAddr,
    pop3s: SocketAddr,
    _servers: Vec<Server>,
    // Last, so that the server is gone before its directory goes.
    root: Rooted,
}

impl Courier {
    /// Starts it for these users and their passwords. Courier offers UIDPLUS if `uidplus` says so.
    pub fn start(certificate: &Certificate, users: &[(&str, &str)], uidplus: bool) -> Self {
        let root = Rooted::copy("courier", "courier");
        let pem = joined(&certificate.chain, &certificate.key);
        root.write("etc/courier/server.pem", &pem, 0o600);
        root.give("etc/courier/server.pem");
        root.folder("run/courier");
        root.folder("run/courier/authdaemon");
        root.write(
            "etc/courier/authdaemonrc",
            "authmodulelist=\"authuserdb\"\nauthmodulelistorig=\"authuserdb\"\ndaemons=3\n\
             authdaemonvar=/run/courier/authdaemon\nDEBUG_LOGIN=0\nDEFAULTOPTIONS=\"\"\n",
            0o644,
        );
        write_users(&root, users);
        let mut servers = Vec::new();
        let mut auth = root.start(&[], "/usr/lib/courier/courier-authlib/authdaemond", &[]);
        let socket = root.path("run/courier/authdaemon/socket");
        assert!(auth.wait_until(|| socket.exists()), "{}", root.log());
        servers.push(auth);
        let capabilities = format!("{CAPABILITIES}{}", if uidplus { " UIDPLUS" } else { "" });
        let imap = ["/usr/lib/courier/courier/imaplogin", "/usr/bin/imapd", "Maildir"];
        let pop3 =
            ["/usr/lib/courier/courier/courierpop3login", "/usr/lib/courier/courier/courierpop3d", "Maildir"];
        let mut listen = |tls, programs| listen(&root, &mut servers, &capabilities, tls, programs);
        let (imaps, pop3s) = (listen(true, imap), listen(true, pop3));
        let (imap, pop3) = (listen(false, imap), listen(false, pop3));
        Self { imap, imaps, pop3, pop3s, _servers: servers, root }
    }

    /// Where IMAP in the clear is, for tests to fill and read mailboxes.
    pub fn imap(&self) -> SocketAddr {
        self.imap
    }

    /// Where IMAP with implicit TLS is.
    pub fn imaps(&self) -> SocketAddr {
        self.imaps
    }

    /// Where POP3 in the clear is.
    pub fn pop3(&self) -> SocketAddr {
        self.pop3
    }

    /// Where POP3 with implicit TLS is.
    pub fn pop3s(&self) -> SocketAddr {
        self.pop3s
    }

    /// Opens a user's mailbox.
    #[track_caller]
    pub fn mailbox(&self, user: &str, password: &str) -> Client {
        let client = Client::login(self.imap, user, password);
        client.unwrap_or_else(|no| panic!("{no}: {}", self.log())).patient()
    }

    /// Everything that it has said.
    pub fn log(&self) -> String {
        self.root.log()
    }
}

/// The users as the tables that Courier reads, and an empty mailbox for each.
fn write_users(root: &Rooted, users: &[(&str, &str)]) {
    let (mut accounts, mut passwords) = (String::new(), String::new());
    for (user, password) in users {
        let home = format!("data/{user}");
        root.folder("data");
        root.run("/usr/bin/maildirmake.courier", &[&format!("/{home}")], "");
        // maildirmake makes the Maildir alone; its owner is whoever ran it.
        for part in ["", "/cur", "/new", "/tmp"] {
            root.give(&format!("{home}{part}"));
        }
        let _ = writeln!(accounts, "{user}\tuid={MAIL_UID}|gid={MAIL_UID}|home=/data|mail=/{home}|_=");
        let digest = BASE64_STANDARD.encode(Sha256::digest(password));
        let _ = writeln!(passwords, "{user}\tsystempw={{SHA256}}{digest}");
    }
    for (name, lines) in [("userdb", accounts), ("userdbshadow", passwords)] {
        let table = format!("/etc/courier/{name}.dat");
        let program = "/usr/lib/courier/courier-authlib/makedatprog";
        root.run(program, &["-", "/etc/courier/new", &table], &format!("{lines}.\n"));
    }
}

/// Starts a listener at a free port.
fn listen(
    root: &Rooted,
    servers: &mut Vec<Server>,
    capabilities: &str,
    tls: bool,
    programs: [&str; 3],
) -> SocketAddr {
    let in_tls = format!("{capabilities} AUTH=PLAIN");
    let variables = [
        ("TLS_CERTFILE", "/etc/courier/server.pem"),
        ("TLS_VERIFYPEER", "NONE"),
        ("COURIERTLS", "/usr/bin/couriertls"),
        ("IMAP_CAPABILITY", capabilities),
        ("IMAP_CAPABILITY_TLS", &in_tls),
        ("IMAP_KEYWORDS", "1"),
        // Its locks wait for the daemon that watches files.
        ("IMAP_USELOCKS", "0"),
        ("IMAP_TLS", if tls { "1" } else { "0" }),
        ("POP3_TLS", if tls { "1" } else { "0" }),
        ("POP3AUTH_TLS", "PLAIN"),
        ("MAILDIRPATH", "Maildir"),
    ];
    for _ in 0..5 {
        let at = process::free_address(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let (address, port) = (format!("-address={}", at.ip()), at.port().to_string());
        let mut args =
            vec![&*address, "-maxprocs=40", "-maxperip=40", "-nodnslookup", "-noidentlookup", &*port];
        if tls {
            args.extend(["/usr/bin/couriertls", "-server", "-tcpd", "-user=courier"]);
        }
        args.extend(programs);
        let mut server = root.start(&variables, "/usr/sbin/couriertcpd", &args);
        if server.wait_until(|| process::answers(at)) {
            servers.push(server);
            return at;
        }
    }
    panic!("courier does not start: {}", root.log());
}
