//! A private Cyrus: IMAP, POP3, `ManageSieve`, and over HTTPS JMAP, `CalDAV` and `CardDAV`. All folders lie below `INBOX.`,
//! with `.` between the levels; a mailbox is there once its user has logged in.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::ca::Certificate;
use super::imap::Client;
use super::process::{self, Server};
use super::rooted::Rooted;

const SETTINGS: &str = "\
configdirectory: /var/lib/cyrus
proc_path: /run/cyrus/proc
mboxname_lockpath: /run/cyrus/lock
defaultpartition: default
partition-default: /var/spool/cyrus/mail
sievedir: /var/spool/sieve
altnamespace: no
unixhierarchysep: no
virtdomains: userid
defaultdomain: internal
sasl_pwcheck_method: auxprop
sasl_auxprop_plugin: sasldb
sasl_sasldb_path: /etc/sasldb2
sasl_mech_list: PLAIN
allowplaintext: yes
autocreate_quota: 0
httpmodules: caldav carddav jmap
conversations: yes
popminpoll: 0
tls_server_cert: /etc/server.crt
tls_server_key: /etc/server.key
";

const FOLDERS: [&str; 16] = [
    "var/lib/cyrus",
    "var/lib/cyrus/db",
    "var/lib/cyrus/log",
    "var/lib/cyrus/msg",
    "var/lib/cyrus/proc",
    "var/lib/cyrus/ptclient",
    "var/lib/cyrus/quota",
    "var/lib/cyrus/sieve",
    "var/lib/cyrus/socket",
    "var/spool",
    "var/spool/cyrus",
    "var/spool/cyrus/mail",
    "var/spool/sieve",
    "run/cyrus",
    "run/cyrus/lock",
    "run/cyrus/proc",
];

/// The services: the name, the program, and what it is started with.
const SERVICES: [(&str, &str); 5] = [
    ("imap", "imapd"),
    ("imaps", "imapd -s"),
    ("pop3s", "pop3d -s"),
    ("sieve", "timsieved"),
    ("https", "httpd -s"),
];

/// A running server.
#[derive(Debug)]
pub struct Cyrus {
    /// In the order of [`SERVICES`].
    listeners: [SocketAddr; 5],
    _server: Server,
    // Last, so that the server is gone before its directory goes.
    root: Rooted,
}

impl Cyrus {
    /// Starts it for these users, who are named by whole addresses, and their passwords.
    pub fn start(certificate: &Certificate, users: &[(&str, &str)]) -> Self {
        let root = Rooted::copy("cyrus", "cyrus");
        for folder in FOLDERS {
            root.folder(folder);
        }
        for (from, to) in [(&certificate.chain, "etc/server.crt"), (&certificate.key, "etc/server.key")] {
            root.write(to, &std::fs::read_to_string(from).expect("a certificate of the test"), 0o600);
            root.give(to);
        }
        // Calendars are not served where no time zone is known.
        root.write("usr/share/zoneinfo/zone.tab", "DE\t+5230+01322\tEurope/Berlin\n", 0o644);
        root.write("etc/imapd.conf", SETTINGS, 0o644);
        for (user, password) in users {
            let (name, domain) = user.split_once('@').expect("an address");
            let args = ["-p", "-f", "/etc/sasldb2", "-u", domain, "-c", name];
            root.run("/usr/sbin/saslpasswd2", &args, &format!("{password}\n"));
        }
        root.give("etc/sasldb2");
        for _ in 0..5 {
            let listeners = SERVICES.map(|_| process::free_address(IpAddr::V4(Ipv4Addr::LOCALHOST)));
            let mut services = String::new();
            for ((name, program), at) in SERVICES.iter().zip(listeners) {
                let _ = writeln!(
                    services,
                    "{name} cmd=\"/usr/lib/cyrus/bin/{program}\" listen=\"{at}\" prefork=0"
                );
            }
            let start = "START {\nrecover cmd=\"/usr/lib/cyrus/bin/ctl_cyrusdb -r\"\n}\n";
            root.write(
                "etc/cyrus.conf",
                &format!("{start}SERVICES {{\n{services}}}\nEVENTS {{\n}}\n"),
                0o644,
            );
            let args =
                ["-C", "/etc/imapd.conf", "-M", "/etc/cyrus.conf", "-p", "/run/cyrus/master.pid", "-D"];
            let mut server = root.start(&[], "/usr/lib/cyrus/bin/master", &args);
            if server.wait_until(|| listeners.into_iter().all(process::answers)) {
                return Self { listeners, _server: server, root };
            }
        }
        panic!("cyrus does not start: {}", root.log());
    }

    fn listener(&self, name: &str) -> SocketAddr {
        let at = SERVICES.iter().position(|(service, _)| *service == name).expect("a service");
        self.listeners[at]
    }

    /// Where IMAP in the clear is.
    pub fn imap(&self) -> SocketAddr {
        self.listener("imap")
    }

    /// Where IMAP with implicit TLS is.
    pub fn imaps(&self) -> SocketAddr {
        self.listener("imaps")
    }

    /// Where POP3 with implicit TLS is.
    pub fn pop3s(&self) -> SocketAddr {
        self.listener("pop3s")
    }

    /// Where `ManageSieve` is.
    pub fn sieve(&self) -> SocketAddr {
        self.listener("sieve")
    }

    /// Where JMAP, `CalDAV` and `CardDAV` are.
    pub fn https(&self) -> SocketAddr {
        self.listener("https")
    }

    /// Opens a user's mailbox.
    #[track_caller]
    pub fn mailbox(&self, user: &str, password: &str) -> Client {
        Client::login(self.imap(), user, password).unwrap_or_else(|no| panic!("{no}: {}", self.log()))
    }

    /// Everything that it has said.
    pub fn log(&self) -> String {
        self.root.log()
    }
}
