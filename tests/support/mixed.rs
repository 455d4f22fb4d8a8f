//! The servers of `tests/manifests/mixed.yaml` and `examples/quickstart.yaml`: three domains that speak three ways, and
//! where their mail goes.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::ca::Ca;
use super::compare::{differences, maildrop};
use super::corpus::Corpus;
use super::dns::{Dns, Record};
use super::dovecot::{Access, Dovecot, User};
use super::imap::Client;

/// The manifest as the contract has it.
pub const MANIFEST: &str = include_str!("../manifests/mixed.yaml");

/// The example with the same servers.
pub const QUICKSTART: &str = include_str!("../../examples/quickstart.yaml");

/// Where the example has the destination.
pub const QUICKSTART_PORT: u16 = 10_993;

/// The mailboxes, as they are called at the destination before the `@new.test`.
pub const NAMES: [&str; 6] = ["alice", "anna", "bob", "dora", "carol", "chris"];

/// Name and password of who opens the mailboxes of a.test.
pub const MASTER: (&str, &str) = ("madmin", "master-secret");

/// Name and password of who opens the mailboxes of the destination.
pub const NEW_MASTER: (&str, &str) = ("newadmin", "new-secret");

/// The passwords that the manifest holds.
#[derive(Debug, Clone, Copy)]
pub struct Passwords<'a> {
    /// Of the master user of a.test.
    pub a: &'a str,
    /// Of bob@b.test.
    pub bob: &'a str,
    /// Of dora@b.test.
    pub dora: &'a str,
    /// Of carol@c.test.
    pub carol: &'a str,
    /// Of chris@c.test.
    pub chris: &'a str,
    /// Of the destination's master user.
    pub new: &'a str,
}

/// Those of the contract.
pub const PASSWORDS: Passwords<'static> = Passwords {
    a: MASTER.1,
    bob: "bob-secret",
    dora: "dora-secret",
    carol: "carol-secret",
    chris: "chris-secret",
    new: NEW_MASTER.1,
};

/// The servers.
pub struct Mixed {
    /// The authority that signed all certificates.
    pub ca: Ca,
    /// IMAP with a master user.
    pub a: Dovecot,
    /// POP3 only.
    pub b: Dovecot,
    /// carol has IMAP and POP3, chris only POP3.
    pub c: Dovecot,
    /// The destination.
    pub new: Dovecot,
    /// Where all of them are found.
    pub dns: Dns,
}

impl Mixed {
    /// Starts the servers at an address and fills each mailbox with a tenth of `messages`, or some tenths.
    pub fn start(ip: IpAddr, messages: usize) -> Self {
        Self::start_with(ip, messages, &PASSWORDS)
    }

    /// The same with other passwords; they must need no quotes in YAML and CSV.
    pub fn start_with(ip: IpAddr, messages: usize, passwords: &Passwords<'_>) -> Self {
        let world = Self::set(SocketAddr::new(ip, 0), SocketAddr::new(ip, 0), passwords);
        let tenth = messages / 10;
        world.a.mailbox("alice@a.test").seed(Corpus::new(41).messages(3 * tenth));
        world.a.mailbox("anna@a.test").seed(Corpus::new(42).messages(2 * tenth));
        world.b.mailbox("bob@b.test").seed(Corpus::new(43).inbox_only().messages(tenth));
        world.b.mailbox("dora@b.test").seed(Corpus::new(44).inbox_only().messages(tenth));
        world.c.mailbox("carol").seed(Corpus::new(45).messages(2 * tenth));
        world.c.mailbox("chris").seed(Corpus::new(46).inbox_only().messages(tenth));
        world
    }

    /// Starts the servers without mail: the destination and the DNS server where they are told, port 0 meaning a free
    /// one, and the sources on free ports beside the destination, as the DNS tells them.
    pub fn empty(destination: SocketAddr, dns: SocketAddr) -> Self {
        Self::set(destination, dns, &PASSWORDS)
    }

    fn set(destination: SocketAddr, dns: SocketAddr, passwords: &Passwords<'_>) -> Self {
        let ca = Ca::new();
        let any = SocketAddr::new(destination.ip(), 0);
        let a = Dovecot::builder()
            .imaps(any)
            .tls(&ca.issue(&["imap.a.test"]))
            .user(User::new("alice@a.test", "of-no-use"))
            .user(User::new("anna@a.test", "of-no-use"))
            .master(MASTER.0, passwords.a)
            .special_use("Sent", "\\Sent")
            .special_use("Trash", "\\Trash")
            .start();
        let b = Dovecot::builder()
            .pop3s(any)
            .tls(&ca.issue(&["pop.b.test"]))
            .user(User::new("bob@b.test", passwords.bob))
            .user(User::new("dora@b.test", passwords.dora))
            .start();
        let c = Dovecot::builder()
            .imaps(any)
            .pop3s(any)
            .tls(&ca.issue(&["mail.c.test"]))
            .user(User::new("carol", passwords.carol))
            .user(User::new("chris", passwords.chris).only(Access::Pop3))
            .special_use("Sent", "\\Sent")
            .special_use("Trash", "\\Trash")
            .start();
        let mut new = Dovecot::builder()
            .imaps(destination)
            .tls(&ca.issue(&["imap.new.test"]))
            .master(NEW_MASTER.0, passwords.new)
            .special_use("Sent", "\\Sent")
            .special_use("Trash", "\\Trash");
        for name in NAMES {
            new = new.user(User::new(&format!("{name}@new.test"), "of-no-use"));
        }
        let new = new.start();
        let here = any.ip().to_string();
        let dns = Dns::start_on(
            dns,
            &[
                Record::mx("a.test", "imap.a.test", 10),
                Record::a("imap.a.test", &here),
                Record::srv("_imaps._tcp.a.test", "imap.a.test", a.imaps().port()),
                Record::srv_none("_pop3s._tcp.a.test"),
                Record::mx("b.test", "pop.b.test", 10),
                Record::a("pop.b.test", &here),
                Record::srv_none("_imaps._tcp.b.test"),
                Record::srv("_pop3s._tcp.b.test", "pop.b.test", b.pop3s().port()),
                Record::mx("c.test", "mail.c.test", 10),
                Record::a("mail.c.test", &here),
                Record::srv("_imaps._tcp.c.test", "mail.c.test", c.imaps().port()),
                Record::srv("_pop3s._tcp.c.test", "mail.c.test", c.pop3s().port()),
                Record::mx("new.test", "imap.new.test", 10),
                Record::a("imap.new.test", &here),
            ],
        );
        Self { ca, a, b, c, new, dns }
    }

    /// `examples/quickstart.yaml` for servers that are not in a cluster: with the destination's port, and with the
    /// authority.
    pub fn quickstart(&self) -> String {
        let port = format!("port: {QUICKSTART_PORT}");
        assert_eq!(QUICKSTART.matches(&port).count(), 1, "one place for the destination's port");
        let text = QUICKSTART.replace(&port, &format!("port: {}", self.new.imaps().port()));
        format!("{text}---\n{}", authority(&self.ca))
    }

    /// The manifest with the authority, the destination's port and the servers' network filled in.
    pub fn manifest(&self) -> String {
        let pem = self.ca.pem().trim_end().replace('\n', "\n    ");
        let fill = |text: &str, from: &str, to: &str| {
            assert_eq!(text.matches(from).count(), 1, "one place for {from}");
            text.replace(from, to)
        };
        let text = fill(MANIFEST, "ca.crt: \"\"", &format!("ca.crt: |\n    {pem}\n  about: |\n   "));
        let text = fill(&text, "port: 993", &format!("port: {}", self.new.imaps().port()));
        fill(&text, "\"127.0.0.0/8\"", &format!("\"{}/32\"", self.new.imaps().ip()))
    }

    /// Stops the test unless everything is at the destination, once.
    #[track_caller]
    pub fn assert_moved(&self) {
        for (server, user, name) in [
            (&self.a, "alice@a.test", "alice"),
            (&self.a, "anna@a.test", "anna"),
            (&self.c, "carol", "carol"),
        ] {
            let there = self.destination(name).read_all();
            assert_eq!(differences(&server.mailbox(user).read_all(), &there), [""; 0], "{name}");
        }
        for (server, user, name) in
            [(&self.b, "bob@b.test", "bob"), (&self.b, "dora@b.test", "dora"), (&self.c, "chris", "chris")]
        {
            let (mut here, mut there) = (server.mailbox(user), self.destination(name));
            assert!(maildrop(&mut here) == maildrop(&mut there), "{name}: the bodies differ");
            assert_eq!(there.read_all().messages(), here.read_all().messages(), "{name}");
        }
    }

    /// A mailbox of the destination.
    pub fn destination(&self, name: &str) -> Client {
        self.new.mailbox(&format!("{name}@new.test"))
    }

    /// The next UIDs of all Inboxes of the destination: they move when something arrives.
    pub fn arrived(&self) -> Vec<BTreeMap<String, (u32, u32)>> {
        NAMES.iter().map(|name| self.destination(name).uid_next()).collect()
    }
}

/// The ConfigMap that `examples/quickstart.yaml` names.
pub fn authority(ca: &Ca) -> String {
    let pem = ca.pem().trim_end().replace('\n', "\n    ");
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: mail-ca, namespace: demo}}\ndata:\n  ca.crt: |\n    {pem}\n"
    )
}
