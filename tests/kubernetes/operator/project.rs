//! A consultant's project: eight domains of one customer, each with a peculiarity of its own, are looked at before the
//! order; on a laptop and in a cluster alike the plan is the same, and says of each domain what an expert would.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

use crate::ferry::Ferry;
use crate::operator::installed::{Installed, PATIENCE};
use crate::support::ca::{Ca, Validity};
use crate::support::cluster::Cluster;
use crate::support::corpus::Corpus;
use crate::support::dns::{Dns, Record};
use crate::support::dovecot::{Access, Dovecot, User};
use crate::support::process::free_address;
use crate::support::web::{DOCUMENT, Web, document, reply};

/// A domain, and what is to be found out about it.
struct Expected {
    domain: &'static str,
    mailboxes: &'static [&'static str],
    imap: u64,
    pop3: u64,
    findings: &'static [&'static str],
}

/// The domains.
const DOMAINS: [Expected; 8] = [
    Expected { domain: "master.test", mailboxes: &["alice", "anna"], imap: 2, pop3: 0, findings: &[] },
    Expected {
        domain: "post.test",
        mailboxes: &["bob"],
        imap: 0,
        pop3: 1,
        findings: &["PopMailboxesPresent", "ProtocolNotOffered"],
    },
    Expected {
        domain: "split.test",
        mailboxes: &["carol", "chris"],
        imap: 1,
        pop3: 1,
        findings: &["MixedProtocols", "PopMailboxesPresent"],
    },
    Expected {
        domain: "expired.test",
        mailboxes: &["erik"],
        imap: 0,
        pop3: 0,
        findings: &["CertificateRejected"],
    },
    Expected {
        domain: "moved.test",
        mailboxes: &["mia"],
        imap: 1,
        pop3: 0,
        findings: &["ConflictingConfiguration"],
    },
    Expected {
        domain: "groupware.test",
        mailboxes: &["gus"],
        imap: 1,
        pop3: 0,
        findings: &["OtherServicesOffered"],
    },
    Expected {
        domain: "exchange.test",
        mailboxes: &["eve"],
        imap: 0,
        pop3: 0,
        findings: &["OtherServicesOffered"],
    },
    Expected { domain: "cloud.test", mailboxes: &["cleo"], imap: 1, pop3: 0, findings: &["DualHomed"] },
];

/// The servers of the project.
struct Project {
    ca: Ca,
    dns: Dns,
    destination: SocketAddr,
    _web: Web,
    _servers: Vec<Dovecot>,
}

impl Project {
    fn start(ip: IpAddr) -> Self {
        let ca = Ca::new();
        let any = SocketAddr::new(ip, 0);
        let imap = |host: &str, user: &str| {
            let user = User::new(user, "own-secret");
            Dovecot::builder().imaps(any).tls(&ca.issue(&[host])).user(user).start()
        };
        let master = Dovecot::builder()
            .imaps(any)
            .tls(&ca.issue(&["imap.master.test"]))
            .user(User::new("alice@master.test", "of-no-use"))
            .user(User::new("anna@master.test", "of-no-use"))
            .master("madmin", "master-secret")
            .start();
        let post = Dovecot::builder()
            .pop3s(any)
            .tls(&ca.issue(&["pop.post.test"]))
            .user(User::new("bob@post.test", "own-secret"))
            .start();
        let split = Dovecot::builder()
            .imaps(any)
            .pop3s(any)
            .tls(&ca.issue(&["mail.split.test"]))
            .user(User::new("carol@split.test", "own-secret"))
            .user(User::new("chris@split.test", "own-secret").only(Access::Pop3))
            .start();
        let expired = Dovecot::builder()
            .imap(any)
            .tls(&ca.issue_for(&["imap.expired.test"], Validity::EXPIRED))
            .require_tls()
            .user(User::new("erik@expired.test", "own-secret"))
            .start();
        let (moved, groupware) =
            (imap("new.moved.test", "mia@moved.test"), imap("imap.groupware.test", "gus@groupware.test"));
        let cloud = imap("imap.cloud.test", "cleo@cloud.test");
        let destination = imap("imap.new.test", "nobody@new.test");
        master.mailbox("alice@master.test").seed(Corpus::new(81).messages(40));
        post.mailbox("bob@post.test").seed(Corpus::new(82).inbox_only().messages(10));
        split.mailbox("carol@split.test").seed(Corpus::new(83).messages(20));
        cloud.mailbox("cleo@cloud.test").seed(Corpus::new(84).messages(20));

        let json = "Content-Type: application/json\r\n";
        let session = r#"{"capabilities":{"urn:ietf:params:jmap:core":{},"urn:ietf:params:jmap:mail":{}},
            "apiUrl":"https://dav.groupware.test/jmap/","accounts":{}}"#;
        let dav = |what: &str| reply("200 OK", &format!("DAV: 1, 2, 3, {what}\r\n"), "");
        let challenge = reply(
            "401 Unauthorized",
            "WWW-Authenticate: Negotiate\r\nWWW-Authenticate: NTLM\r\nX-FEServer: EX01\r\nServer: Microsoft-IIS/10.0\r\n",
            "",
        );
        let closed = free_address(ip);
        let places = vec![
            (DOCUMENT, document(&[("imap", "old.moved.test", closed.port(), "SSL")])),
            ("/.well-known/jmap", reply("200 OK", json, session)),
            ("/.well-known/caldav", dav("calendar-access")),
            ("/.well-known/carddav", dav("addressbook")),
            ("/autodiscover/autodiscover.xml", challenge.clone()),
            ("/EWS/Exchange.asmx", challenge),
        ];
        let web_hosts = [
            "autoconfig.moved.test",
            "dav.groupware.test",
            "autodiscover.exchange.test",
            "mail.exchange.test",
        ];
        let web = Web::with_places(&ip.to_string(), Some(&ca.issue(&web_hosts)), places);

        let here = ip.to_string();
        let mut records: Vec<Record> = [
            "imap.master.test",
            "pop.post.test",
            "mail.split.test",
            "imap.expired.test",
            "new.moved.test",
            "old.moved.test",
            "imap.groupware.test",
            "imap.cloud.test",
            "imap.new.test",
        ]
        .iter()
        .chain(&web_hosts)
        .map(|host| Record::a(host, &here))
        .collect();
        records.extend([
            Record::srv("_imaps._tcp.master.test", "imap.master.test", master.imaps().port()),
            Record::srv_none("_imaps._tcp.post.test"),
            Record::srv("_pop3s._tcp.post.test", "pop.post.test", post.pop3s().port()),
            Record::srv("_imaps._tcp.split.test", "mail.split.test", split.imaps().port()),
            Record::srv("_pop3s._tcp.split.test", "mail.split.test", split.pop3s().port()),
            Record::srv("_imap._tcp.expired.test", "imap.expired.test", expired.imap().port()),
            Record::srv("_imaps._tcp.moved.test", "new.moved.test", moved.imaps().port()),
            Record::srv("_imaps._tcp.groupware.test", "imap.groupware.test", groupware.imaps().port()),
            Record::srv("_jmap._tcp.groupware.test", "dav.groupware.test", 443),
            Record::srv("_caldavs._tcp.groupware.test", "dav.groupware.test", 443),
            Record::srv("_carddavs._tcp.groupware.test", "dav.groupware.test", 443),
            Record::mx("exchange.test", "mail.exchange.test", 10),
            Record::mx("cloud.test", "cloud-test.mail.protection.outlook.com", 0),
            Record::srv("_imaps._tcp.cloud.test", "imap.cloud.test", cloud.imaps().port()),
        ]);
        let dns = Dns::start_at(ip, &records);
        let destination_at = destination.imaps();
        let servers = vec![master, post, split, expired, moved, groupware, cloud, destination];
        Self { ca, dns, destination: destination_at, _web: web, _servers: servers }
    }

    fn manifest(&self, namespace: &str) -> String {
        let mut secrets = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: mail-ca, namespace: {namespace}}}\ndata:\n  ca.crt: |\n    {}\n",
            self.ca.pem().trim_end().replace('\n', "\n    ")
        );
        let mut domains = String::new();
        let authority = "caRef: {kind: ConfigMap, name: mail-ca, key: ca.crt}";
        let mut secret = |name: &str, data: &str| {
            let _ = write!(
                secrets,
                "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\nstringData: {data}\n"
            );
        };
        secret("new", "{masterUser: nobody, masterPassword: own-secret}");
        for Expected { domain, mailboxes, .. } in DOMAINS {
            let name = domain.trim_end_matches(".test");
            if domain == "master.test" {
                secret(name, "{masterUser: madmin, masterPassword: master-secret, masterSeparator: \"*\"}");
            } else {
                let mut rows = "address,username,password".to_owned();
                for mailbox in mailboxes {
                    let _ = write!(rows, "\\n{mailbox}@{domain},,own-secret");
                }
                secret(name, &format!("{{mailboxes.csv: \"{rows}\\n\"}}"));
            }
            let list: Vec<String> = mailboxes
                .iter()
                .map(|mailbox| format!("{{address: {mailbox}@{domain}, destination: {mailbox}@new.test}}"))
                .collect();
            let _ = write!(
                domains,
                "  - name: {domain}\n    credentialsRef: {{name: {name}}}\n    {authority}\n    \
                 mailboxes: {{list: [{}]}}\n",
                list.join(", ")
            );
        }
        format!(
            "{secrets}---\napiVersion: mailferry.dev/v1alpha1\nkind: MailMigration\n\
             metadata: {{name: project, namespace: {namespace}}}\nspec:\n  stage: Plan\n  \
             destination:\n    imap:\n      {{host: imap.new.test, port: {}, {authority}, credentialsRef: {{name: new}}}}\n  \
             policy: {{allowedNetworks: [\"{}/32\"]}}\n  domains:\n{domains}",
            self.destination.port(),
            self.destination.ip()
        )
    }
}

/// The status of each domain: mailboxes by protocol, and the codes of its findings.
fn told(object: &Value) -> Vec<(String, (u64, u64), Vec<String>)> {
    let of = |domain: &Value| {
        let count = |protocol: &str| domain["protocols"][protocol].as_u64().unwrap_or_default();
        let findings = domain["findings"].as_array().into_iter().flatten();
        let mut codes: Vec<String> =
            findings.map(|finding| finding["code"].as_str().unwrap().to_owned()).collect();
        codes.sort_unstable();
        (domain["name"].as_str().unwrap().to_owned(), (count("IMAP"), count("POP3")), codes)
    };
    object["status"]["domains"].as_array().unwrap().iter().map(of).collect()
}

#[test]
fn eight_domains_are_known_before_the_order_and_alike_on_a_laptop_and_in_a_cluster() {
    let host = Cluster::get().own_host();
    let project = Project::start(host.address);
    let installed = Installed::new(Some(project.dns.addr()), &[]);
    let space = &installed.space;
    let manifest = project.manifest(space.name());
    space.apply(&manifest);

    let ferry = Ferry::new(&manifest).resolver(project.dns.addr());
    let ran = ferry.run(&["--progress", "none"]);
    println!("{}{}", ran.stdout, ran.stderr);
    let here = ferry.status();
    assert_eq!(here["status"]["phase"], "Planned", "{here:#}");
    for ((name, protocols, codes), expected) in told(&here).into_iter().zip(DOMAINS) {
        assert_eq!(
            (name.as_str(), protocols),
            (expected.domain, (expected.imap, expected.pop3)),
            "{codes:?}"
        );
        for finding in expected.findings {
            assert!(codes.iter().any(|code| code == finding), "{name}: {finding} is not among {codes:?}");
        }
    }
    for domain in here["status"]["domains"].as_array().unwrap() {
        for candidate in domain["candidates"].as_array().into_iter().flatten() {
            assert!(!candidate["why"].as_str().unwrap().is_empty(), "why it won or lost: {candidate}");
        }
    }

    let there = space.wait_until("the plan stands in the cluster", PATIENCE, || {
        let object = installed.migration("project");
        if object["status"]["phase"] == "Planned" { Ok(object) } else { Err(object["status"].to_string()) }
    });
    assert_eq!(told(&there), told(&here));
    let digest = |object: &Value| object["status"]["plan"]["digest"].as_str().unwrap().to_owned();
    assert_eq!(digest(&there), digest(&here), "the same plan");
}
