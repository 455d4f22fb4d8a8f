//! The POP3 driver against peers that no real server will play: hostile ones, broken ones, and those of another age.

use crate::support::script::{PASSWORD, Reaction, Script, Store};
use mailferry::auth::credentials::Login;
use mailferry::drivers::pop3::Pop3Source;
use mailferry::drivers::registry::{Way, driver};
use mailferry::drivers::{BODY_QUEUE, BodyEvent, Listed, Source, Wanted};
use mailferry::model::endpoint::Endpoint;
use mailferry::model::evidence::ServerFacts;
use mailferry::model::failure::{Class, Failure, Result};
use mailferry::model::protocol::{Protocol, Tls};
use mailferry::model::secret::Secret;
use mailferry::net::network::Network;
use mailferry::net::tls::Trust;

/// Where a scripted server is.
fn at(script: &Script) -> Endpoint {
    Endpoint::new(Protocol::Pop3, "127.0.0.1", script.address().port(), Tls::None)
}

fn network() -> Network {
    Network::new(Some("127.0.0.1:53".parse().unwrap()), vec!["127.0.0.0/8".parse().unwrap()], 8).unwrap()
}

fn trust() -> Trust {
    Trust::with_authorities(&[]).unwrap()
}

async fn log_in(script: &Script) -> Result<Pop3Source, Failure> {
    let login = Login::own("u".into(), Secret::new(PASSWORD));
    Pop3Source::log_in(&network(), &trust(), &at(script), &login).await
}

fn wanted(listed: &[Listed]) -> Vec<Wanted> {
    (0..).zip(listed).map(|(key, l)| Wanted { key, locator: l.locator.clone(), size: l.size }).collect()
}

/// The messages that a fetch delivers, one word for each.
async fn fetch(source: &mut Pop3Source, wanted: &[Wanted]) -> (Vec<String>, Result<(), Failure>) {
    let (sender, mut events) = tokio::sync::mpsc::channel(BODY_QUEUE);
    let collect = tokio::spawn(async move {
        let mut words = Vec::new();
        while let Some(event) = events.recv().await {
            match event {
                BodyEvent::Held { .. } | BodyEvent::Again { .. } => {}
                BodyEvent::Begin { key, .. } => words.push(format!("{key}=")),
                BodyEvent::Chunk(chunk) => {
                    words.last_mut().unwrap().push_str(&String::from_utf8_lossy(&chunk));
                }
                BodyEvent::End { .. } => words.last_mut().unwrap().push('!'),
                BodyEvent::Missing { key, failure } => {
                    words.push(format!("{key} {:?}", failure.map(|f| f.class)));
                }
            }
        }
        words
    });
    let outcome = source.fetch(wanted, sender).await;
    (collect.await.unwrap(), outcome)
}

/// The facts that a server reports without a login.
async fn probe(network: &Network, endpoint: &Endpoint, trust: &Trust) -> Result<ServerFacts> {
    driver(Protocol::Pop3).probe(Way { network, endpoint, trust }).await
}

#[tokio::test]
async fn peers_that_break_the_protocol_are_left_before_a_password_is_sent() {
    let endless = "x".repeat(10_000);
    let many = format!("+OK\r\n{}", "WORD\r\n".repeat(1000));
    let started = "+OK\r\n+OK\r\nSASL PLAIN\r\n.\r\n";
    for (greeting, capa, stls, tls, class) in [
        (endless.as_str(), "", "", Tls::None, Class::Protocol),
        ("* OK IMAP4rev1 ready\r\n", "", "", Tls::None, Class::Protocol),
        ("+OKAY\r\n", "", "", Tls::None, Class::Protocol),
        ("-ERR [SYS/TEMP] later\r\n", "", "", Tls::None, Class::Unreachable),
        ("-ERR too many connections\r\n", "", "", Tls::None, Class::Throttled),
        ("-ERR [SYS/PERM] never\r\n", "", "", Tls::None, Class::Refused),
        ("+OK\r\n", &many, "", Tls::None, Class::Protocol),
        ("+OK\r\n", "+OK\r\nUSER\r\n.\r\n", "", Tls::StartTLS, Class::Tls),
        ("+OK\r\n", "-ERR\r\n", "-ERR what?\r\n", Tls::StartTLS, Class::Tls),
        ("+OK\r\n", "+OK\r\nSTLS\r\n.\r\n", started, Tls::StartTLS, Class::Protocol),
    ] {
        let peer = Script::pop3(Store::empty());
        peer.on("GREETING", Reaction::say(greeting));
        peer.on("CAPA", Reaction::say(capa)).on("STLS", Reaction::say(stls));
        let endpoint = Endpoint { tls, ..at(&peer) };
        let failure = probe(&network(), &endpoint, &trust()).await.unwrap_err();
        assert_eq!(failure.class, class, "{failure}");
        assert_eq!(failure.place, [endpoint.address()]);
        let heard = peer.heard();
        assert!(heard.iter().all(|line| matches!(line.text.as_str(), "CAPA" | "STLS" | "QUIT")), "{heard:?}");
    }
}

#[tokio::test]
async fn what_a_login_is_refused_with_decides_the_class() {
    for (answer, class, wait) in [
        ("[AUTH] no", Class::Credentials, None),
        ("no", Class::Credentials, None),
        ("[IN-USE] locked", Class::Throttled, None),
        ("[LOGIN-DELAY] too soon", Class::Throttled, Some(900)),
        ("[SYS/TEMP] disk", Class::Unreachable, None),
        ("[SYS/PERM] gone", Class::Refused, None),
    ] {
        let peer = Script::pop3(Store::empty());
        peer.capabilities(if wait.is_some() { "USER, LOGIN-DELAY 900" } else { "USER, UIDL" });
        peer.on("PASS", Reaction::err(answer));
        let failure = log_in(&peer).await.err().unwrap();
        assert_eq!((failure.class, failure.wait.map(|w| w.as_secs())), (class, wait), "{failure}");
    }
}

#[tokio::test]
async fn a_server_that_wants_the_sasl_response_apart_gets_it() {
    let peer = Script::pop3(Store::empty());
    peer.bend(|command| (command.is("AUTH PLAIN") && command.times == 0).then(|| Reaction::say("+ \r\n")));
    peer.bend(|command| command.is("AHUAc2VjcmV0").then(|| Reaction::say("+OK\r\n")));
    log_in(&peer).await.unwrap().close().await;
    assert_eq!(peer.verbs().last().unwrap(), "QUIT");
}

#[tokio::test]
async fn a_server_without_uidl_is_refused_with_a_way_out() {
    let peer = Script::pop3(Store::standard());
    peer.without("UIDL");
    let failure = log_in(&peer).await.unwrap().list(None).await.unwrap_err();
    assert_eq!(failure.class, Class::Refused);
    assert!(failure.hint.unwrap().contains("IMAP"));
}

#[tokio::test]
async fn of_listings_what_is_pop3_is_taken_and_nothing_else_there_is_refused() {
    for (uidl, list, listed, unlisted) in [
        ("1 a", "2 10", Some(0), 2),
        ("1 a", "1 many", None, 0),
        ("0 a", "0 1", None, 0),
        ("1 a\r\n2 b", "1 many\r\n2 7", Some(1), 1),
        ("1 a\x01b", "1 1", Some(1), 0),
        ("1", "1 1", None, 0),
        ("1\r\n2 b", "1 1\r\n2 1", Some(1), 1),
    ] {
        let peer = Script::pop3(Store::standard());
        let say = |lines: &str| Reaction::say(format!("+OK\r\n{lines}\r\n.\r\n"));
        peer.on("UIDL", say(uidl)).on("LIST", say(list));
        let mut source = log_in(&peer).await.unwrap();
        let outcome = source.list(None).await.map(|all| all.messages.len()).map_err(|failure| failure.class);
        assert_eq!(outcome, listed.ok_or(Class::Protocol), "{uidl:?} {list:?}");
        assert_eq!(source.unlisted(), unlisted, "{uidl:?} {list:?}");
    }
}

/// A maildrop with these letters, which the server calls a, b, c and so on.
fn maildrop(bodies: &[&str]) -> Store {
    let mut store = Store::empty();
    for (body, name) in bodies.iter().zip(b'a'..) {
        let uid = store.folder("INBOX").add(&[], body);
        store.folder("INBOX").letter(uid).uidl = Some(vec![name]);
    }
    store
}

#[tokio::test]
async fn a_short_top_is_made_good_by_retr_and_the_order_stays() {
    let peer = Script::pop3(maildrop(&["1\r\n", ".2\r\n", "3\r\n", "4444444\r\n"]));
    peer.on("TOP 2", Reaction::say("+OK\r\n2\r\n.\r\n")).on("TOP 3", Reaction::err("line count"));
    peer.on("RETR 3", Reaction::err("[SYS/PERM] damaged"));
    let mut source = log_in(&peer).await.unwrap();
    let listed = source.list(None).await.unwrap().messages;
    let (words, outcome) = fetch(&mut source, &wanted(&listed)).await;
    outcome.unwrap();
    assert_eq!(words, ["0=1\r\n!", "1=.2\r\n!", "2 Some(Refused)", "3=4444444\r\n!"]);
    let (words, outcome) = fetch(&mut source, &wanted(&listed)[3..]).await;
    outcome.unwrap();
    assert_eq!(words, ["3=4444444\r\n!"], "the session is still in step");
    source.close().await;
    let verbs = peer.verbs();
    assert!(!verbs.contains(&"DELE".to_owned()) && verbs.last().unwrap() == "QUIT", "{verbs:?}");
}

#[tokio::test]
async fn every_retr_is_followed_by_a_reset_of_the_marks_that_it_leaves() {
    for capabilities in ["UIDL, USER, PIPELINING", "UIDL, USER", "UIDL, USER, TOP"] {
        let peer = Script::pop3(maildrop(&["1\r\n", "2\r\n", "3\r\n"]));
        peer.capabilities(capabilities);
        let mut source = log_in(&peer).await.unwrap();
        let listed = source.list(None).await.unwrap().messages;
        let (words, outcome) = fetch(&mut source, &wanted(&listed)).await;
        outcome.unwrap();
        assert_eq!(words.len(), 3);
        source.close().await;
        let verbs = peer.verbs();
        let last = |word: &str| verbs.iter().rposition(|verb| verb == word);
        // The answer to TOP is compared with LIST where possible, since some servers keep the mark that RETR leaves.
        assert_eq!(last("RETR").is_none(), capabilities.contains("TOP"), "{capabilities}: {verbs:?}");
        assert!(last("RSET") >= last("RETR"), "{capabilities}: {verbs:?}");
    }
}

#[tokio::test]
async fn a_cut_in_mid_message_delivers_nothing_of_it() {
    let peer = Script::pop3(maildrop(&["1\r\n"]));
    peer.capabilities("UIDL, USER").on("RETR", Reaction::edit(|answer| answer.cut(6)));
    let mut source = log_in(&peer).await.unwrap();
    let listed = source.list(None).await.unwrap().messages;
    let (words, outcome) = fetch(&mut source, &wanted(&listed)).await;
    assert_eq!((words.len(), outcome.unwrap_err().class), (0, Class::Unreachable));
    let (_, outcome) = fetch(&mut source, &wanted(&listed)).await;
    assert_eq!(outcome.unwrap_err().class, Class::Unreachable, "a broken session stays broken");
}
