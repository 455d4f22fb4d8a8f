//! The POP3 driver against a real Dovecot: every way of securing the channel, logins, and mail that comes out byte for
//! byte while the source stays as it was.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::support::ca::Ca;
use crate::support::corpus::Message;
use crate::support::dovecot::{Dovecot, LOOPBACK, User};
use mailferry::auth::credentials::Login;
use mailferry::drivers::pop3::{Pop3Source, Session};
use mailferry::drivers::registry::{Way, driver};
use mailferry::drivers::{BODY_QUEUE, BodyEvent, Listed, Source, Wanted};
use mailferry::model::endpoint::Endpoint;
use mailferry::model::evidence::ServerFacts;
use mailferry::model::failure::{Class, Result, Side};
use mailferry::model::folder::FolderPath;
use mailferry::model::message::{Epoch, ItemId, Locator};
use mailferry::model::protocol::{Protocol, Tls};
use mailferry::model::secret::Secret;
use mailferry::net::network::Network;
use mailferry::net::tls::Trust;

const USER: &str = "chris@c.test";
const PASSWORD: &str = "chris-secret";

fn server(ca: &Ca) -> Dovecot {
    Dovecot::builder()
        .pop3(LOOPBACK)
        .pop3s(LOOPBACK)
        .imap(LOOPBACK)
        .tls(&ca.issue(&["127.0.0.1"]))
        .user(User::new(USER, PASSWORD))
        .master("madmin", "master-secret")
        .start()
}

fn network() -> Network {
    Network::new(Some("127.0.0.1:53".parse().unwrap()), vec!["127.0.0.0/8".parse().unwrap()], 8).unwrap()
}

fn trust(ca: &Ca) -> Trust {
    Trust::with_authorities(&[ca.pem().to_owned()]).unwrap()
}

fn endpoint(address: SocketAddr, tls: Tls) -> Endpoint {
    Endpoint::new(Protocol::Pop3, &address.ip().to_string(), address.port(), tls)
}

fn login(password: &str) -> Login {
    Login::own(USER.to_owned(), Secret::new(password))
}

/// Bytes that a POP3 path may hurt, and how they come back: a server must end a message with a line end.
fn odd_messages() -> Vec<Vec<u8>> {
    let message = |n: usize, body: &[u8]| {
        [format!("Message-ID: <{n}@c.test>\r\nSubject: {n}\r\n\r\n").as_bytes(), body].concat()
    };
    let long = "x".repeat(70_000);
    let bodies: Vec<Vec<u8>> = vec![
        b".\r\n..\r\n...\r\n.leading\r\n".to_vec(),
        b"\r\n\r\n\r\n.\r\n\r\n".to_vec(),
        format!("{long}\r\n.{long}\r\n").into_bytes(),
        "gr\u{fc}\u{df}e \u{20ac}\r\n".as_bytes().to_vec(),
        vec![0xff, 0xfe, 0x80, b'\r', b'\n'],
        b"no final line end".to_vec(),
        b"ends in a dot.".to_vec(),
        b"\r\n.".to_vec(),
        Vec::new(),
        // Larger than what is kept in memory, with a dot wherever a read may end.
        ".dot\r\n".repeat(400_000).into_bytes(),
    ];
    bodies.iter().enumerate().map(|(n, body)| message(n, body)).collect()
}

fn seed(server: &Dovecot, messages: &[Vec<u8>]) {
    server.mailbox(USER).seed(messages.iter().map(|bytes| Message {
        folder: "INBOX".to_owned(),
        flags: Vec::new(),
        internal_date: "17-Jul-2019 02:44:25 +0200".to_owned(),
        bytes: bytes.clone(),
    }));
}

fn wanted(listed: &[Listed]) -> Vec<Wanted> {
    (0..).zip(listed).map(|(key, l)| Wanted { key, locator: l.locator.clone(), size: l.size }).collect()
}

/// The messages that a fetch delivers: bodies by key in the order they came, and the keys that are missing.
async fn fetch(source: &mut Pop3Source, wanted: &[Wanted]) -> (Vec<(u64, Vec<u8>)>, Vec<u64>) {
    let (sender, mut events) = tokio::sync::mpsc::channel(BODY_QUEUE);
    let collect = tokio::spawn(async move {
        let (mut bodies, mut missing, mut open) = (Vec::<(u64, Vec<u8>)>::new(), Vec::new(), None);
        while let Some(event) = events.recv().await {
            match event {
                BodyEvent::Begin { key, size } => {
                    assert!(open.replace(size).is_none(), "no message begins within another");
                    bodies.push((key, Vec::new()));
                }
                BodyEvent::Chunk(chunk) => bodies.last_mut().unwrap().1.extend_from_slice(&chunk),
                BodyEvent::End { date } => {
                    assert_eq!(open.take(), Some(bodies.last().unwrap().1.len() as u64), "the size is exact");
                    assert_eq!(date, None);
                }
                BodyEvent::Missing { key, .. } => missing.push(key),
                BodyEvent::Held { .. } | BodyEvent::Again { .. } => {}
            }
        }
        (bodies, missing)
    });
    source.fetch(wanted, sender).await.unwrap();
    collect.await.unwrap()
}

/// The facts that a server reports without a login.
async fn probe(network: &Network, endpoint: &Endpoint, trust: &Trust) -> Result<ServerFacts> {
    driver(Protocol::Pop3).probe(Way { network, endpoint, trust }).await
}

#[tokio::test]
async fn odd_messages_come_out_byte_for_byte_and_stay_unread() {
    let ca = Ca::new();
    let server = server(&ca);
    let messages = odd_messages();
    seed(&server, &messages);
    let endpoint = endpoint(server.pop3s(), Tls::Implicit);
    let mut source = Pop3Source::log_in(&network(), &trust(&ca), &endpoint, &login(PASSWORD)).await.unwrap();
    assert!(source.facts().capabilities.has("PIPELINING"), "the pipelined way is the one that is tested");

    let folders = source.list_folders().await.unwrap();
    assert_eq!(source.open(&folders[0]).await.unwrap().items, Some(messages.len() as u64));
    let listed = source.list(None).await.unwrap().messages;
    let (bodies, missing) = fetch(&mut source, &wanted(&listed)).await;
    assert_eq!(missing, [] as [u64; 0]);
    assert_eq!(bodies.len(), messages.len());
    for ((key, body), original) in bodies.iter().zip(&messages) {
        let mut expected = original.clone();
        if !expected.ends_with(b"\r\n") {
            expected.extend_from_slice(b"\r\n");
        }
        assert!(
            *body == expected,
            "message {key} came out with {} bytes, not {}",
            body.len(),
            expected.len()
        );
    }

    // In any order, with one that is not there, in the same session.
    let mut some: Vec<_> = wanted(&listed).into_iter().rev().step_by(3).collect();
    let gone = Locator {
        protocol: Protocol::Pop3,
        folder: FolderPath::inbox(),
        epoch: Epoch::default(),
        id: ItemId::from("gone"),
    };
    some.insert(1, Wanted { key: 99, locator: gone, size: 1 });
    let (bodies, missing) = fetch(&mut source, &some).await;
    assert_eq!(missing, [99]);
    let keys: Vec<_> = some.iter().map(|w| w.key).filter(|k| *k != 99).collect();
    assert_eq!(bodies.iter().map(|(key, _)| *key).collect::<Vec<_>>(), keys);
    source.close().await;

    let mut flags = BTreeMap::new();
    server.mailbox(USER).read_folder("INBOX", |row, _| {
        flags.insert(row.uid, row.flags);
    });
    assert_eq!(flags.len(), messages.len(), "nothing was deleted");
    assert!(flags.values().all(|flags| !flags.contains("\\seen")), "nothing was marked as seen: {flags:?}");

    let mut again = Pop3Source::log_in(&network(), &trust(&ca), &endpoint, &login(PASSWORD)).await.unwrap();
    assert_eq!(again.list(None).await.unwrap().messages, listed, "unique ids are stable");
    again.close().await;
}

#[tokio::test]
async fn every_way_of_securing_the_channel_works_and_is_told() {
    let ca = Ca::new();
    let server = server(&ca);
    seed(&server, &odd_messages()[..3]);
    for (address, tls) in
        [(server.pop3(), Tls::None), (server.pop3(), Tls::StartTLS), (server.pop3s(), Tls::Implicit)]
    {
        let endpoint = endpoint(address, tls);
        let facts = probe(&network(), &endpoint, &trust(&ca)).await.unwrap();
        assert_eq!(facts.tls.is_some(), tls != Tls::None, "{tls}");
        assert!(
            facts.capabilities.has("UIDL") && facts.mechanisms.contains(&"PLAIN".to_owned()),
            "{facts:?}"
        );
        let mut session = Session::connect(&network(), &trust(&ca), &endpoint).await.unwrap();
        session.log_in(&login(PASSWORD)).await.unwrap();
        let size = session.size_of_maildrop(&mailferry::model::scope::Scope::default()).await.unwrap();
        assert_eq!((size.folders, size.messages), (1, 3), "{tls}");
        assert!(size.largest > 140_000 && size.bytes > size.largest);
        session.quit().await;
    }
    let stranger = Trust::with_authorities(&[Ca::new().pem().to_owned()]).unwrap();
    for (address, tls) in [(server.pop3(), Tls::StartTLS), (server.pop3s(), Tls::Implicit)] {
        let failure = probe(&network(), &endpoint(address, tls), &stranger).await.unwrap_err();
        assert_eq!(failure.class, Class::Tls, "{failure}");
    }
}

#[tokio::test]
async fn logins_are_refused_and_masters_admitted() {
    let ca = Ca::new();
    let server = server(&ca);
    let endpoint = endpoint(server.pop3s(), Tls::Implicit);
    let master = |user: &str, authzid: Option<&str>| Login {
        user: user.to_owned(),
        authzid: authzid.map(str::to_owned),
        proof: Secret::new("master-secret").into(),
        administrator: None,
        side: Side::Source,
    };
    for (login, class) in [
        (login(PASSWORD), None),
        (login("wrong"), Some(Class::Credentials)),
        (login("with\r\nDELE 1"), Some(Class::Configuration)),
        (master(&format!("{USER}*madmin"), None), None),
        (master("madmin", Some(USER)), None),
        (master("madmin", Some("nobody@c.test")), Some(Class::Credentials)),
    ] {
        let mut session = Session::connect(&network(), &trust(&ca), &endpoint).await.unwrap();
        let outcome = session.log_in(&login).await;
        assert_eq!(outcome.as_ref().err().map(|f| f.class), class, "{}: {outcome:?}", login.who());
        if let Err(failure) = outcome {
            assert!(
                !format!("{failure:?}").contains(login.proof.password().unwrap().expose()),
                "a password is never told"
            );
        }
        session.quit().await;
    }
}
