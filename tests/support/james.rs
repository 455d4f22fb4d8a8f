//! A private Apache James that keeps all mail in memory: IMAP and POP3 of one more make. Levels of folders are parted by `.`,
//! a new mailbox has folders already, and a folder's name that is not modified UTF-7 ends the connection.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};

use tempfile::TempDir;

use super::imap::Client;
use super::process::{self, Server};
use super::rooted;

/// The settings files beside those of its services, whose ports change; it sends no mail, and serves neither SMTP nor
/// JMAP nor JMX.
const SETTINGS: [(&str, &str); 5] = [
    (
        "usersrepository.xml",
        "<usersrepository><enableVirtualHosting>true</enableVirtualHosting></usersrepository>",
    ),
    (
        "mailetcontainer.xml",
        "<mailetcontainer enableJmx='false'><context><postmaster>postmaster@localhost</postmaster></context>\
         <spooler><threads>1</threads></spooler><processors>\
         <processor state='root' enableJmx='false'/><processor state='error' enableJmx='false'/>\
         <processor state='transport' enableJmx='false'>\
         <mailet matcher='All' class='org.apache.james.transport.mailets.RemoveMimeHeader'><name>bcc</name></mailet>\
         </processor></processors></mailetcontainer>",
    ),
    ("jmap.properties", "enabled=false\n"),
    ("jmx.properties", "jmx.enabled=false\n"),
    (
        "logback.xml",
        "<configuration><appender name='out' class='ch.qos.logback.core.ConsoleAppender'>\
         <encoder><pattern>%d{HH:mm:ss.SSS} %level %logger{20}: %msg%n%ex{4}</pattern></encoder></appender>\
         <root level='WARN'><appender-ref ref='out'/></root></configuration>",
    ),
];

/// A running server; all that it holds is gone with it.
#[derive(Debug)]
pub struct James {
    imap: SocketAddr,
    pop3: SocketAddr,
    _server: Server,
    // Last, so that the server is gone before its directory goes.
    directory: TempDir,
}

impl James {
    /// Starts it for these users, who are named by whole addresses, and their passwords.
    pub fn start(users: &[(&str, &str)]) -> Self {
        let directory =
            tempfile::Builder::new().prefix("mailferry-james-").tempdir().expect("a temporary directory");
        let (conf, log) = (directory.path().join("conf"), directory.path().join("log"));
        fs::create_dir(&conf).expect("a directory of our own");
        let write = |name: &str, text: &str| fs::write(conf.join(name), text).expect("a file can be written");
        for (name, text) in SETTINGS {
            write(name, text);
        }
        for _ in 0..5 {
            let [imap, pop3, admin] =
                [(); 3].map(|()| process::free_address(IpAddr::V4(Ipv4Addr::LOCALHOST)));
            write("imapserver.xml", &service("imap", imap, "<auth><requireSSL>false</requireSSL></auth>"));
            let commands =
                "<handlerchain coreHandlersPackage='org.apache.james.pop3server.core.CoreCmdHandlerLoader'/>";
            write("pop3server.xml", &service("pop3", pop3, commands));
            let admins =
                format!("enabled=true\nhost={}\nport={}\nhttps.enabled=false\n", admin.ip(), admin.port());
            write("webadmin.properties", &admins);
            let args = [
                "-Xmx512m".to_owned(),
                "-XX:+UseSerialGC".to_owned(),
                // It lives for seconds.
                "-XX:TieredStopAtLevel=1".to_owned(),
                format!("-Dworking.directory={}", directory.path().display()),
                format!("-Dlogback.configurationFile={}", conf.join("logback.xml").display()),
                "-classpath".to_owned(),
                rooted::cache().join("james/*").display().to_string(),
                "org.apache.james.MemoryJamesServerMain".to_owned(),
            ];
            let mut server = Server::start("java", args, &log);
            // A busy machine takes its time over so many classes.
            let ready = || [imap, pop3, admin].into_iter().all(process::answers);
            if (0..4).any(|_| server.wait_until(ready)) {
                let james = Self { imap, pop3, _server: server, directory };
                james.introduce(admin, users);
                return james;
            }
        }
        panic!("james does not start: {}", fs::read_to_string(&log).unwrap_or_default());
    }

    /// Tells it its users, by the only way that it has.
    fn introduce(&self, admin: SocketAddr, users: &[(&str, &str)]) {
        for (user, password) in users {
            let (_, domain) = user.split_once('@').expect("an address");
            for (path, body) in [
                (format!("domains/{domain}"), String::new()),
                (format!("users/{user}"), format!("{{\"password\":\"{password}\"}}")),
            ] {
                let answer = put(admin, &path, &body);
                assert!(answer.starts_with("HTTP/1.1 204"), "{path}: {answer} {}", self.log());
            }
        }
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
        Client::login(self.imap(), user, password)
            .unwrap_or_else(|no| panic!("{no}: {}", self.log()))
            .patient()
    }

    /// Everything that it has said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

/// The settings of one service in the clear.
fn service(name: &str, at: SocketAddr, more: &str) -> String {
    format!(
        "<{name}servers><{name}server enabled='true'><jmxName>{name}</jmxName><bind>{at}</bind>\
         <tls socketTLS='false' startTLS='false'/>{more}</{name}server></{name}servers>"
    )
}

/// Asks its pages for administrators for a change; returns what they answer.
fn put(at: SocketAddr, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(at).expect("it listens");
    let request = format!(
        "PUT /{path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}
