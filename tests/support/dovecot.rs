//! Private Dovecot servers: each with its own directory, ports, users and log, and gone when the value is dropped.
//!
//! ```ignore
//! let server = Dovecot::builder()
//!     .imaps(LOOPBACK)
//!     .pop3s(LOOPBACK)
//!     .tls(&ca.issue(&["imap.c.test"]))
//!     .user(User::new("carol@c.test", "carol-secret"))
//!     .user(User::new("chris@c.test", "chris-secret").only(Access::Pop3))
//!     .master("madmin", "master-secret")
//!     .start();
//! server.mailbox("chris@c.test").seed(corpus.messages(100));   // no password and no listener needed
//! ```
//!
//! A master user logs in as `user*master`, or by SASL PLAIN with an authzid. Wrong passwords are answered at once: the
//! delays with which Dovecot slows attackers are off. As root the servers run as dovecot, dovenull and the uid
//! [`MAIL_UID`]; otherwise everything runs as the current user.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tempfile::TempDir;

use super::ca::Certificate;
use super::imap::Client;
use super::process::{self, Server};

mod conf;

/// Any free port on 127.0.0.1.
pub const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Owner of the mail when the server is started by root; it needs no account.
pub const MAIL_UID: u32 = 7777;

/// Which protocols a user may log in with. To the others it is as if the password were wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Both.
    All,
    /// IMAP only.
    Imap,
    /// POP3 only.
    Pop3,
}

impl Access {
    fn allows(self, service: &str) -> bool {
        match self {
            Self::All => true,
            Self::Imap => service == "imap",
            Self::Pop3 => service == "pop3",
        }
    }
}

/// One user and mailbox.
#[derive(Clone, Debug)]
pub struct User {
    name: String,
    password: String,
    access: Access,
    quota: Option<u64>,
    home: Option<String>,
}

impl User {
    /// A user who logs in as `name`, by every protocol.
    pub fn new(name: &str, password: &str) -> Self {
        Self {
            name: name.to_owned(),
            password: password.to_owned(),
            access: Access::All,
            quota: None,
            home: None,
        }
    }

    /// Restricts the user to some protocol.
    pub fn only(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// Lets the user into the mailbox of another: two names of one mailbox.
    pub fn alias_of(mut self, other: &str) -> Self {
        self.home = Some(other.to_owned());
        self
    }

    /// Limits the mailbox to so many bytes; what goes beyond is answered with `NO [OVERQUOTA]`.
    pub fn quota(mut self, bytes: u64) -> Self {
        self.quota = Some(bytes);
        self
    }
}

/// How mail lies on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// Maildir++: no folder name may contain the separator's twin `.`, and 26 keywords per folder survive.
    Maildir,
    /// Maildir with one directory per level, so that folder names may contain dots.
    MaildirFs,
    /// Dovecot's own single-message format.
    Sdbox,
    /// One file per folder: a folder that holds mail cannot hold folders.
    Mbox,
}

/// The settings of a server; see [`Dovecot::builder`].
#[derive(Clone, Debug)]
pub struct Builder {
    listeners: BTreeMap<&'static str, SocketAddr>,
    tls: Option<Certificate>,
    users: Vec<User>,
    master: Option<(String, String)>,
    store: Store,
    separator: char,
    prefix: String,
    special_use: Vec<(String, String)>,
    capability: Option<String>,
    plaintext_auth: bool,
    max_message: Option<u64>,
    record_commands: bool,
    compression: bool,
    any_user: Option<(String, Option<u64>)>,
    extra: String,
}

impl Builder {
    /// Offers IMAP (with STARTTLS where there is a certificate) at this address; port 0 means a free one.
    pub fn imap(self, address: SocketAddr) -> Self {
        self.listener("imap", address)
    }

    /// Offers IMAP with implicit TLS at this address; port 0 means a free one.
    pub fn imaps(self, address: SocketAddr) -> Self {
        self.listener("imaps", address)
    }

    /// Offers POP3 (with STLS where there is a certificate) at this address; port 0 means a free one.
    pub fn pop3(self, address: SocketAddr) -> Self {
        self.listener("pop3", address)
    }

    /// Offers POP3 with implicit TLS at this address; port 0 means a free one.
    pub fn pop3s(self, address: SocketAddr) -> Self {
        self.listener("pop3s", address)
    }

    fn listener(mut self, name: &'static str, address: SocketAddr) -> Self {
        self.listeners.insert(name, address);
        self
    }

    /// The certificate to show; without one there is no TLS at all.
    pub fn tls(mut self, certificate: &Certificate) -> Self {
        self.tls = Some(certificate.clone());
        self
    }

    /// Adds a user.
    pub fn user(mut self, user: User) -> Self {
        self.users.push(user);
        self
    }

    /// Lets everybody in with this password, each to a mailbox of his own; with a quota in bytes, if it is given. A
    /// test that makes many mailboxes names none of them.
    pub fn any_user(mut self, password: &str, quota: Option<u64>) -> Self {
        self.any_user = Some((password.to_owned(), quota));
        self
    }

    /// The master user, who may log in to every mailbox by the protocols its owner may use.
    pub fn master(mut self, name: &str, password: &str) -> Self {
        self.master = Some((name.to_owned(), password.to_owned()));
        self
    }

    /// How mail is stored; Maildir unless said.
    pub fn store(mut self, store: Store) -> Self {
        self.store = store;
        self
    }

    /// The hierarchy separator and the prefix of all personal folders, e.g. `'.'` and `"INBOX."`; `'/'` and none
    /// unless said.
    pub fn namespace(mut self, separator: char, prefix: &str) -> Self {
        self.separator = separator;
        prefix.clone_into(&mut self.prefix);
        self
    }

    /// A folder with a special-use attribute, created and subscribed when the mailbox is first opened:
    /// `("Gesendet", "\\Sent")`.
    pub fn special_use(mut self, folder: &str, attribute: &str) -> Self {
        self.special_use.push((folder.to_owned(), attribute.to_owned()));
        self
    }

    /// Announces exactly these IMAP capabilities over the network, instead of all.
    pub fn capability(mut self, capabilities: &str) -> Self {
        self.capability = Some(capabilities.to_owned());
        self
    }

    /// Refuses passwords on connections without TLS (`LOGINDISABLED`); they are accepted unless said. Dovecot takes a
    /// connection between equal addresses for safe, so the listener must not be on 127.0.0.1 but e.g. on 127.0.0.2.
    pub fn require_tls(mut self) -> Self {
        self.plaintext_auth = false;
        self
    }

    /// Refuses messages beyond so many bytes, and nothing else.
    pub fn max_message(mut self, bytes: u64) -> Self {
        self.max_message = Some(bytes);
        self
    }

    /// Keeps what IMAP clients send, message bodies too, for [`Dovecot::commands`].
    pub fn record_commands(mut self) -> Self {
        self.record_commands = true;
        self
    }

    /// Offers COMPRESS=DEFLATE.
    pub fn compression(mut self) -> Self {
        self.compression = true;
        self
    }

    /// Adds lines to the configuration as they stand.
    pub fn setting(mut self, lines: &str) -> Self {
        self.extra.push_str(lines);
        self.extra.push('\n');
        self
    }

    /// Starts the server and waits until all its listeners answer.
    pub fn start(self) -> Dovecot {
        let directory =
            tempfile::Builder::new().prefix("mailferry-dovecot-").tempdir().expect("a temporary directory");
        let root = directory.path().to_owned();
        // Dovecot's own users walk through it.
        fs::set_permissions(&root, Permissions::from_mode(0o755)).expect("a directory of our own");
        for part in ["run", "data", "rawlog"] {
            fs::create_dir(root.join(part)).expect("a directory");
        }
        let uid = if process::is_root() {
            for part in ["data", "rawlog"] {
                chown(root.join(part), Some(MAIL_UID), Some(MAIL_UID))
                    .expect("root may give a directory away");
            }
            MAIL_UID
        } else {
            fs::metadata(&root).expect("a directory of our own").uid()
        };
        let mut dovecot = Dovecot {
            spec: self,
            listeners: BTreeMap::new(),
            server: None,
            revision: 0,
            uid,
            root,
            _directory: directory,
        };
        dovecot.write_users();
        dovecot.start();
        dovecot
    }
}

/// A running server.
#[derive(Debug)]
pub struct Dovecot {
    spec: Builder,
    listeners: BTreeMap<&'static str, SocketAddr>,
    server: Option<Server>,
    revision: u32,
    uid: u32,
    root: PathBuf,
    // Last, so that the server is gone before its directory goes.
    _directory: TempDir,
}

impl Dovecot {
    /// A server with no listener and no user yet.
    pub fn builder() -> Builder {
        Builder {
            listeners: BTreeMap::new(),
            tls: None,
            users: Vec::new(),
            master: None,
            store: Store::Maildir,
            separator: '/',
            prefix: String::new(),
            special_use: Vec::new(),
            capability: None,
            plaintext_auth: true,
            max_message: None,
            record_commands: false,
            compression: false,
            any_user: None,
            extra: String::new(),
        }
    }

    /// Where IMAP is.
    pub fn imap(&self) -> SocketAddr {
        self.listeners["imap"]
    }

    /// Where IMAP with implicit TLS is.
    pub fn imaps(&self) -> SocketAddr {
        self.listeners["imaps"]
    }

    /// Where POP3 is.
    pub fn pop3(&self) -> SocketAddr {
        self.listeners["pop3"]
    }

    /// Where POP3 with implicit TLS is.
    pub fn pop3s(&self) -> SocketAddr {
        self.listeners["pop3s"]
    }

    /// Opens a user's mailbox from the inside, without login or listener: the way for tests to fill and read it.
    pub fn mailbox(&self, user: &str) -> Client {
        Client::inside(&self.configuration(), &self.root.join("dovecot.log"), user)
    }

    /// Puts a message into a Maildir's Inbox as it is, bytes that IMAP would not take among them.
    pub fn deliver(&self, user: &str, name: &str, bytes: &[u8]) {
        self.mailbox(user).select("INBOX").expect("an Inbox");
        let maildir = self.root.join("data").join(user).join("Maildir");
        let fresh = maildir.join("new").join(name);
        fs::write(&fresh, bytes).expect("a message can be written");
        if process::is_root() {
            chown(&fresh, Some(self.uid), Some(self.uid)).expect("root may give a file away");
        }
    }

    /// Adds a user, or changes the password, protocols or quota of one; the server need not be restarted.
    pub fn set_user(&mut self, user: User) {
        self.spec.users.retain(|known| known.name != user.name);
        self.spec.users.push(user);
        self.write_users();
        // Dovecot looks at its files once in each second of the clock at most: what it read in this one stays until the next.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock that was set");
        thread::sleep(Duration::from_nanos(1_000_000_000 - u64::from(since.subsec_nanos())));
    }

    /// Everything the server has written to its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.root.join("dovecot.log")).unwrap_or_default()
    }

    /// The commands that this user's IMAP clients have sent over the network after login, line by line without tags and
    /// times; needs [`Builder::record_commands`]. Lines of message bodies are among them. Dovecot writes it down when a
    /// session ends: [`Self::stop`] the server first.
    pub fn commands(&self, user: &str) -> Vec<String> {
        let mut lines = Vec::new();
        for entry in fs::read_dir(self.root.join("rawlog").join(user)).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "in") {
                let text = fs::read(entry.path()).unwrap_or_default();
                // Each line: seconds since 1970, tag, command.
                lines.extend(text.split(|&byte| byte == b'\n').filter_map(|line| {
                    String::from_utf8_lossy(line).trim_end().splitn(3, ' ').nth(2).map(str::to_owned)
                }));
            }
        }
        lines
    }

    /// How many of [`Self::commands`] begin with `verb`, in upper or lower case.
    pub fn count_commands(&self, user: &str, verb: &str) -> usize {
        let verb = verb.to_ascii_uppercase();
        self.commands(user).iter().filter(|line| line.to_ascii_uppercase().starts_with(&verb)).count()
    }

    /// Where a user's mail lies on the disk, for what no protocol would let in.
    pub fn home(&self, user: &str) -> PathBuf {
        self.root.join("data").join(user)
    }

    /// Gives a user the mail that lay on another server's disk, UIDs and dates included; nobody may have been there yet.
    pub fn move_in(&self, user: &str, home: &Path) {
        let own = self.home(user);
        let _ = fs::remove_dir_all(&own);
        let run = |command: &mut Command| {
            assert!(command.status().is_ok_and(|status| status.success()), "{command:?}");
        };
        run(Command::new("cp").arg("-pR").arg(home).arg(&own));
        if process::is_root() {
            run(Command::new("chown").arg("-R").arg(format!("{0}:{0}", self.uid)).arg(&own));
        }
    }

    /// Gives the UIDs of a Maildir's Inbox anew from 1 on, in the reverse order, under the UIDVALIDITY that it has: what no
    /// server may do. Nobody may have the mailbox open.
    pub fn renumber_inbox(&self, user: &str) {
        let inbox = self.home(user).join("Maildir");
        let list = inbox.join("dovecot-uidlist");
        let text = fs::read_to_string(&list).expect("a list of UIDs");
        let (head, rows) = text.split_once('\n').expect("a header");
        // Expunged messages may still be listed there.
        let files = fs::read_dir(inbox.join("cur")).expect("a Maildir").flatten();
        let files: Vec<String> = files.filter_map(|file| file.file_name().into_string().ok()).collect();
        let names: Vec<&str> = (rows.lines())
            .filter_map(|row| row.split_once(' ').map(|(_, name)| name))
            .filter(|name| files.iter().any(|file| file.starts_with(name.trim_start_matches(':'))))
            .collect();
        let next = format!("N{}", names.len() + 1);
        let head = head.split(' ').map(|word| if word.starts_with('N') { next.as_str() } else { word });
        let head = head.collect::<Vec<_>>().join(" ");
        let rows = (1..).zip(names.iter().rev()).map(|(uid, name)| format!("{uid} {name}\n"));
        fs::write(&list, format!("{head}\n{}", rows.collect::<Vec<_>>().concat()))
            .expect("the list can be written");
        // Its indexes know the UIDs as well.
        for entry in fs::read_dir(&inbox).expect("a Maildir").flatten() {
            if entry.file_name().to_string_lossy().starts_with("dovecot.index") {
                fs::remove_file(entry.path()).expect("an index can be removed");
            }
        }
    }

    /// Stops the server and every session; [`Self::start`] brings it back with its mail, at the same addresses.
    pub fn stop(&mut self) {
        self.server = None;
    }

    /// Stops and starts it.
    pub fn restart(&mut self) {
        self.stop();
        self.start();
    }

    /// Starts it again after [`Self::stop`].
    pub fn start(&mut self) {
        let known = self.listeners.clone();
        for _ in 0..5 {
            self.listeners = (self.spec.listeners.iter())
                .map(|(&name, &wanted)| {
                    let chosen = match known.get(name) {
                        Some(&before) => before,
                        None if wanted.port() == 0 => process::free_address(wanted.ip()),
                        None => wanted,
                    };
                    (name, chosen)
                })
                .collect();
            let text = conf::text(&self.spec, &self.listeners, &self.root);
            fs::write(self.configuration(), text).expect("the configuration can be written");
            let args = ["-F".into(), "-c".into(), self.configuration()];
            let mut server = Server::start(dovecot(), args, &self.root.join("dovecot.log"));
            let master = self.root.join("run/master.pid");
            if server.wait_until(|| master.exists() && self.listeners.values().copied().all(process::answers))
            {
                self.server = Some(server);
                return;
            }
        }
        panic!("dovecot does not start: {}", self.log());
    }

    fn configuration(&self) -> PathBuf {
        self.root.join("dovecot.conf")
    }

    fn write_users(&mut self) {
        self.revision += 1;
        // Dovecot looks at size and time of a file to see that it has changed: the comment changes the size.
        let stamp = format!("#{}\n", "*".repeat(self.revision as usize));
        for service in ["imap", "pop3"] {
            let allowed = self.spec.users.iter().filter(|user| user.access.allows(service));
            let lines: String = allowed.map(|user| conf::password_line(&user.name, &user.password)).collect();
            self.write_secret(&format!("passdb.{service}"), &format!("{stamp}{lines}"));
        }
        let all = self.spec.users.iter();
        let lines: String = all.map(|user| conf::user_line(user, self.uid, &self.root)).collect();
        self.write_secret("userdb", &format!("{stamp}{lines}"));
        let master = self.spec.master.as_ref();
        let line = master.map_or_else(String::new, |(name, password)| conf::password_line(name, password));
        self.write_secret("masters", &line);
        for user in &self.spec.users {
            self.own(&self.root.join("data").join(&user.name));
            self.own(&self.root.join("rawlog").join(&user.name));
        }
    }

    /// Writes a file in one step, readable for Dovecot's authentication.
    fn write_secret(&self, name: &str, text: &str) {
        let (new, path) = (self.root.join("new"), self.root.join(name));
        fs::write(&new, text).expect("a file of users can be written");
        fs::rename(new, path).expect("a file can be renamed");
    }

    fn own(&self, directory: &Path) {
        fs::create_dir_all(directory).expect("a directory for the user");
        if process::is_root() {
            chown(directory, Some(self.uid), Some(self.uid)).expect("root may give a directory away");
        }
    }
}

/// Debian keeps it where only root's path leads.
fn dovecot() -> &'static str {
    if Path::new("/usr/sbin/dovecot").exists() { "/usr/sbin/dovecot" } else { "dovecot" }
}
