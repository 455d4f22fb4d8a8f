//! Proves the harness that all other tests stand on: a test against a broken server or a blind comparison proves
//! nothing.

use crate::support;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::support::ca::{Ca, Validity};
use crate::support::compare::differences;
use crate::support::corpus::{Corpus, EMPTY_FOLDER, FOLDERS, Message, Oddity, QUOTED_FOLDER};
use crate::support::dns::{Dns, Record};
use crate::support::dovecot::{Access, Dovecot, LOOPBACK, Store, User};
use crate::support::imap::{Client, decode_utf7, encode_utf7};

/// Sends lines and returns the first line of each answer.
fn pop3(address: SocketAddr, lines: &[&str]) -> Vec<String> {
    let stream = TcpStream::connect(address).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut answers = Vec::new();
    let mut answer = String::new();
    reader.read_line(&mut answer).unwrap();
    for line in lines {
        (&stream).write_all(format!("{line}\r\n").as_bytes()).unwrap();
        answer.clear();
        reader.read_line(&mut answer).unwrap();
        answers.push(answer.trim_end().to_owned());
    }
    answers
}

/// Says hello over TLS as `name`, trusting only `ca`: the greeting, or why TLS failed.
fn greeting_over_tls(ca: &Ca, name: &str, address: SocketAddr) -> Result<String, String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = BufReader::new(StreamOwned::new(connection, TcpStream::connect(address).unwrap()));
    let mut line = String::new();
    stream.read_line(&mut line).map_err(|error| error.to_string())?;
    Ok(line)
}

#[test]
fn users_log_in_only_by_the_protocols_they_may_use() {
    let mut server = Dovecot::builder()
        .imap(LOOPBACK)
        .pop3("127.0.0.9:0".parse().unwrap())
        .user(User::new("carol@c.test", "carol: secret").only(Access::Imap))
        .user(User::new("chris@c.test", "chris-secret").only(Access::Pop3))
        .master("madmin", "master-secret")
        .start();
    assert_eq!(server.pop3().ip().to_string(), "127.0.0.9");

    Client::login(server.imap(), "carol@c.test", "carol: secret").unwrap();
    let before = Instant::now();
    let refused = Client::login(server.imap(), "chris@c.test", "chris-secret").err().unwrap();
    assert!(refused.contains("AUTHENTICATIONFAILED"), "{refused}");
    assert!(Client::login(server.imap(), "carol@c.test", "wrong").is_err());
    assert!(before.elapsed().as_secs() < 2, "a refused login is answered without delay");

    let answers = pop3(server.pop3(), &["USER chris@c.test", "PASS chris-secret", "STAT"]);
    assert_eq!(answers[2], "+OK 0 0");
    assert!(pop3(server.pop3(), &["USER carol@c.test", "PASS carol: secret"])[1].starts_with("-ERR"));

    // Both ways of a master user, and only to those who exist.
    Client::login(server.imap(), "carol@c.test*madmin", "master-secret").unwrap();
    Client::login_as(server.imap(), "carol@c.test", "madmin", "master-secret").unwrap();
    assert!(Client::login(server.imap(), "chris@c.test*madmin", "master-secret").is_err());
    assert!(Client::login(server.imap(), "nobody@c.test*madmin", "master-secret").is_err());
    assert!(Client::login(server.imap(), "carol@c.test*madmin", "wrong").is_err());

    // A mailbox may be given another protocol while the server runs, and comes back after a restart.
    server.set_user(User::new("chris@c.test", "chris-secret"));
    Client::login(server.imap(), "chris@c.test", "chris-secret").unwrap();
    let address = server.imap();
    server.stop();
    assert!(TcpStream::connect(address).is_err());
    server.start();
    assert_eq!(server.imap(), address);
    Client::login(address, "chris@c.test", "chris-secret").unwrap();
}

#[test]
fn certificates_are_good_or_bad_as_ordered() {
    let ca = Ca::new();
    let start = |names: &[&str], validity| {
        let tls = ca.issue_for(names, validity);
        Dovecot::builder().imaps(LOOPBACK).pop3s(LOOPBACK).tls(&tls).start()
    };
    let good = start(&["mail.a.test", "127.0.0.1"], Validity::GOOD);
    assert!(greeting_over_tls(&ca, "mail.a.test", good.imaps()).unwrap().starts_with("* OK"));
    assert!(greeting_over_tls(&ca, "127.0.0.1", good.pop3s()).unwrap().starts_with("+OK"));
    let wrong_name = greeting_over_tls(&ca, "mail.b.test", good.imaps()).unwrap_err();
    assert!(wrong_name.contains("not valid for name"), "{wrong_name}");
    let stranger = greeting_over_tls(&Ca::new(), "mail.a.test", good.imaps()).unwrap_err();
    assert!(stranger.contains("UnknownIssuer") || stranger.contains("BadSignature"), "{stranger}");
    for (validity, word) in [(Validity::EXPIRED, "expired"), (Validity::NOT_YET, "not valid yet")] {
        let server = start(&["mail.a.test"], validity);
        let error = greeting_over_tls(&ca, "mail.a.test", server.imaps()).unwrap_err();
        assert!(error.contains(word), "{error}");
    }
}

#[tokio::test]
async fn dns_answers_what_it_was_given_and_nothing_else() {
    use hickory_resolver::Resolver;
    use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
    use hickory_resolver::net::runtime::TokioRuntimeProvider;
    use hickory_resolver::proto::rr::{RData, RecordType};

    let dns = Dns::start(&[
        Record::a("imap.a.test", "127.0.0.1"),
        Record::a("imap.a.test", "::1"),
        Record::srv("_imaps._tcp.a.test", "imap.a.test", 1993),
        Record::srv_none("_pop3s._tcp.a.test"),
        Record::mx("a.test", "imap.a.test", 10),
        Record::cname("mail.a.test", "imap.a.test"),
        Record::txt("a.test", "v=spf1, \"quoted\" -all"),
    ]);
    let mut connection = ConnectionConfig::udp();
    connection.port = dns.addr().port();
    let server = NameServerConfig::new(dns.addr().ip(), true, vec![connection]);
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    let resolver = Resolver::builder_with_config(config, TokioRuntimeProvider::default()).build().unwrap();
    let ask = async |name: &str, kind: RecordType| -> Result<Vec<String>, String> {
        let answer = resolver.lookup(format!("{name}."), kind).await.map_err(|error| error.to_string())?;
        Ok(answer.answers().iter().map(|record| RData::to_string(&record.data)).collect())
    };
    assert_eq!(ask("imap.a.test", RecordType::A).await.unwrap(), ["127.0.0.1"]);
    assert_eq!(ask("imap.a.test", RecordType::AAAA).await.unwrap(), ["::1"]);
    assert_eq!(ask("_imaps._tcp.a.test", RecordType::SRV).await.unwrap(), ["0 1 1993 imap.a.test."]);
    assert_eq!(ask("_pop3s._tcp.a.test", RecordType::SRV).await.unwrap(), ["0 0 0 ."]);
    assert_eq!(ask("a.test", RecordType::MX).await.unwrap(), ["10 imap.a.test."]);
    assert_eq!(ask("mail.a.test", RecordType::A).await.unwrap().last().unwrap(), "127.0.0.1");
    assert_eq!(ask("a.test", RecordType::TXT).await.unwrap(), ["v=spf1, \"quoted\" -all"]);
    assert!(ask("nobody.test", RecordType::MX).await.is_err());
    assert!(ask("example.org", RecordType::A).await.is_err());
}

#[test]
fn a_seeded_mailbox_reads_back_and_the_comparison_sees_every_change() {
    let mut server = Dovecot::builder()
        .imap(LOOPBACK)
        .user(User::new("here", "secret"))
        .user(User::new("there", "secret"))
        .record_commands()
        .start();
    let messages: Vec<Message> = Corpus::new(1).with_quoted_folder().messages(600).collect();
    for user in ["here", "there"] {
        let mut mailbox = server.mailbox(user);
        mailbox.seed(messages.clone());
        mailbox.create_and_subscribe(EMPTY_FOLDER);
    }
    let here = server.mailbox("here").read_all().without_marks_of_removal();
    assert_eq!(here.messages(), 600);
    let folders: BTreeSet<_> = here.folders.keys().map(String::as_str).collect();
    assert_eq!(
        folders,
        FOLDERS.into_iter().chain([EMPTY_FOLDER, QUOTED_FOLDER]).collect(),
        "every folder by its name"
    );
    for (folder, rows) in &here.folders {
        let mut sent: Vec<_> = (messages.iter())
            .filter(|message| message.folder == *folder)
            .map(|message| blake3::hash(&message.bytes).to_hex().to_string())
            .collect();
        let mut read: Vec<_> = rows.iter().map(|row| row.digest.clone()).collect();
        sent.sort();
        read.sort();
        assert_eq!(sent, read, "{folder}: byte for byte");
    }
    assert_eq!(differences(&here, &server.mailbox("there").read_all().without_marks_of_removal()), [""; 0]);

    let steps = [
        ("STORE 1 FLAGS.SILENT (nothing-else)", "flags"),
        ("STORE 2 +FLAGS (own-word)", "flags"),
        ("APPEND INBOX \"01-Jan-2020 00:00:00 +0000\" {3+}\r\nA\r\n", "too many"),
    ];
    let mut there = Client::login(server.imap(), "there", "secret").unwrap();
    there.select("INBOX").unwrap();
    for (done, (command, expected)) in steps.into_iter().enumerate() {
        there.command(command).unwrap();
        let found = differences(&here, &server.mailbox("there").read_all().without_marks_of_removal());
        assert_eq!(found.len(), done + 1, "{found:?}");
        assert!(found.iter().any(|line| line.starts_with("INBOX: ") && line.contains(expected)), "{found:?}");
    }

    // A byte, a date, a folder, a subscription.
    let mut changed = here.clone();
    changed.folders.get_mut("INBOX").unwrap()[0].digest = "0".repeat(64);
    assert_eq!(differences(&here, &changed).len(), 2, "one is missing, one is too many");
    let mut changed = here.clone();
    changed.folders.get_mut("INBOX").unwrap()[0].internal_date += jiff::SignedDuration::from_secs(1);
    assert!(differences(&here, &changed)[0].contains("INTERNALDATE"));
    let mut there = server.mailbox("there");
    there.command("UNSUBSCRIBE Sent").unwrap();
    there.command("DELETE Junk").unwrap();
    let found = differences(&here, &there.read_all().without_marks_of_removal());
    assert!(found.contains(&"Sent: not subscribed".to_owned()), "{found:?}");
    assert!(found.contains(&"Junk: the folder is missing".to_owned()), "{found:?}");

    server.stop();
    let commands = server.commands("there");
    assert_eq!(
        server.count_commands("there", "append"),
        1,
        "over the network, not from the inside: {commands:?}"
    );
    assert_eq!(server.count_commands("there", "STORE"), 2, "{commands:?}");
}

#[test]
fn servers_differ_as_ordered() {
    let builder = || Dovecot::builder().imap(LOOPBACK).pop3(LOOPBACK).user(User::new("ada", "secret"));
    let message = |folder: &str, size: usize| Message {
        folder: folder.to_owned(),
        flags: vec!["$Label1".to_owned()],
        internal_date: "17-Jul-1996 02:44:25 -0700".to_owned(),
        bytes: format!("Subject: x\r\n\r\n{}\r\n", "x".repeat(size)).into_bytes(),
    };
    let server = builder().namespace('.', "INBOX.").store(Store::Sdbox).start();
    let mut mailbox = server.mailbox("ada");
    mailbox.seed([message("Archive/2019", 10), message("INBOX", 10)]);
    assert_eq!(mailbox.folders(), ["INBOX", "Archive/2019"]);
    mailbox.command("SELECT INBOX.Archive.2019").unwrap();
    let read = mailbox.read_all();
    assert_eq!(read.folders["INBOX"][0].internal_date.to_string(), "1996-07-17T09:44:25Z");
    assert_eq!(read.folders["INBOX"][0].flags, BTreeSet::from(["$label1".to_owned()]));
    assert_eq!(pop3(server.pop3(), &["USER ada", "PASS secret", "STAT"])[2], "+OK 1 26");

    let server = builder().special_use("Gesendet", "\\Sent").capability("IMAP4rev1 UIDPLUS").start();
    let mut ada = Client::login(server.imap(), "ada", "secret").unwrap();
    let list = ada.command("LIST \"\" Gesendet").unwrap();
    assert!(String::from_utf8_lossy(&list[0].text).contains("\\Sent"), "{list:?}");
    let capability = ada.command("CAPABILITY").unwrap();
    assert_eq!(capability[0].text, b"* CAPABILITY IMAP4rev1 UIDPLUS");

    let other_address = "127.0.0.3:0".parse().unwrap();
    let server = builder().imap(other_address).tls(&Ca::new().issue(&["x"])).require_tls().start();
    let refusal = Client::login(server.imap(), "ada", "secret").err().unwrap();
    assert!(refusal.contains("PRIVACYREQUIRED"), "{refusal}");

    let server = builder().user(User::new("bo", "secret").quota(30_000)).max_message(50_000).start();
    let refusal = server.mailbox("bo").append(&message("INBOX", 40_000)).unwrap_err();
    assert!(refusal.contains("[OVERQUOTA]"), "{refusal}");
    server.mailbox("ada").append(&message("INBOX", 40_000)).unwrap();
    let refusal = server.mailbox("ada").append(&message("INBOX", 60_000)).unwrap_err();
    assert!(refusal.starts_with("NO"), "{refusal}");

    let server = builder().store(Store::MaildirFs).start();
    let mut mailbox = server.mailbox("ada");
    mailbox.create_and_subscribe("v1.2/notes");
    assert_eq!(mailbox.folders(), ["INBOX", "v1.2/notes"]);
    let before = mailbox.uid_next();
    mailbox.append(&message("v1.2/notes", 10)).unwrap();
    assert_ne!(before, mailbox.uid_next());
}

#[test]
fn a_corpus_is_the_same_every_time_and_shows_every_oddity() {
    let make = |seed| Corpus::new(seed).with_large(&[300_000]).messages(200).collect::<Vec<_>>();
    let (first, again, other) = (make(3), make(3), make(4));
    assert!(first.iter().zip(&again).all(|(a, b)| a.bytes == b.bytes && a.internal_date == b.internal_date));
    assert!(first.iter().zip(&other).all(|(a, b)| a.bytes != b.bytes));
    assert_eq!(first.iter().filter(|message| message.bytes.len() > 290_000).count(), 1);
    let shown = (0..150).filter(|index| index % 8 == 5).count();
    assert!(shown >= Oddity::ALL.len());
    let without_id = first.iter().filter(|m| !String::from_utf8_lossy(&m.bytes).contains("Message-ID"));
    assert!(without_id.count() >= 3);
    assert!(first.windows(2).any(|pair| pair[0].bytes == pair[1].bytes), "an exact duplicate");
    assert!(first.iter().any(|message| !message.bytes.ends_with(b"\r\n")), "no final EOL");
    let pop3: Vec<_> = Corpus::new(5).inbox_only().messages(50).collect();
    assert!(pop3.iter().all(|message| message.folder == "INBOX" && message.flags.is_empty()));
}

#[test]
fn folder_names_travel_in_modified_utf7() {
    // The examples of RFC 3501 §5.1.3.
    for (name, wire) in [("~peter/mail/台北/日本語", "~peter/mail/&U,BTFw-/&ZeVnLIqe-"), ("R&D", "R&-D")]
    {
        assert_eq!(encode_utf7(name), wire);
        assert_eq!(decode_utf7(wire), name);
    }
}

#[test]
fn a_server_has_the_address_it_was_given_and_leaves_nothing_behind() {
    // An address of this process's own, as another run of this test may go on beside it.
    let [.., high, low] = std::process::id().to_be_bytes();
    let ip = Ipv4Addr::new(127, 83, high, low.clamp(2, 250));
    let port =
        if support::process::is_root() { 993 } else { support::process::free_address(ip.into()).port() };
    let address = SocketAddr::from((ip, port));
    let ca = Ca::new();
    let server =
        Dovecot::builder().imaps(address).tls(&ca.issue(&["x"])).user(User::new("ada", "secret")).start();
    assert_eq!(server.imaps(), address);
    assert!(greeting_over_tls(&ca, "x", address).unwrap().starts_with("* OK"));
    let _session = server.mailbox("ada");
    drop(server);
    assert!(TcpStream::connect(address).is_err());
}
