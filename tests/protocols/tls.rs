//! TLS sessions are taken up again: by all sessions of a process that trust the same authorities.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::ferry::{Ferry, Manifest};
use crate::support::ca::Ca;
use crate::support::corpus::Corpus;
use crate::support::dovecot::{Dovecot, LOOPBACK, User};
use mailferry::drivers::imap::login::greet;
use mailferry::model::endpoint::Endpoint;
use mailferry::model::protocol::{Protocol, Tls};
use mailferry::net::network::{Network, Stream};
use mailferry::net::tls::Trusts;
use rustls::HandshakeKind;
use tokio::io::AsyncReadExt;

const PASSWORD: &str = "alice-secret";

fn server(ca: &Ca, at: SocketAddr, user: &str) -> Dovecot {
    let certificate = ca.issue(&[&at.ip().to_string()]);
    // Dovecot's login processes share no keys for tickets, and by default each session has a process of its own.
    let one = "service imap-login {\n service_count = 0\n process_limit = 1\n client_limit = 100\n}";
    let user = User::new(user, PASSWORD);
    Dovecot::builder().imap(at).imaps(at).tls(&certificate).user(user).setting(one).start()
}

/// How the handshake of one more session goes.
async fn shake(network: &Network, trusts: &Trusts, ca: &Ca, at: SocketAddr) -> HandshakeKind {
    let trust = trusts.with_authorities(&[ca.pem().to_owned()]).unwrap();
    let endpoint = Endpoint::new(Protocol::Imap, &at.ip().to_string(), at.port(), Tls::Implicit);
    let mut channel = network.connect(&endpoint, &trust).await.unwrap();
    // The ticket by which a session is taken up comes after the handshake, before the greeting.
    assert_eq!(channel.read_u8().await.unwrap(), b'*');
    let Stream::Tls(stream) = &channel.stream else { panic!("no TLS") };
    stream.get_ref().1.handshake_kind().unwrap()
}

#[tokio::test]
async fn a_second_session_takes_up_the_first_ones_tls() {
    let (ca, other) = (Ca::new(), Ca::new());
    let server = server(&ca, LOOPBACK, "alice@old.test");
    let network =
        Network::new(Some("127.0.0.1:53".parse().unwrap()), vec!["127.0.0.0/8".parse().unwrap()], 8).unwrap();
    let trusts = Trusts::default();
    let at = server.imaps();
    assert_eq!(shake(&network, &trusts, &ca, at).await, HandshakeKind::Full);
    for _ in 0..3 {
        assert_eq!(shake(&network, &trusts, &ca, at).await, HandshakeKind::Resumed);
    }
    // A client that trusts another authority takes up nothing, and is not let through by the earlier trust.
    let stranger = trusts.with_authorities(&[other.pem().to_owned()]).unwrap();
    let endpoint = Endpoint::new(Protocol::Imap, "127.0.0.1", at.port(), Tls::Implicit);
    assert!(greet(&network, &endpoint, &stranger).await.is_err());
}

#[test]
fn a_run_takes_up_tls_wherever_it_has_been_to_a_server_before() {
    let ca = Ca::new();
    let at = |last: u8| SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0);
    let old = server(&ca, at(1), "alice@old.test");
    let new = server(&ca, at(2), "alice@new.test");
    old.mailbox("alice@old.test").seed(Corpus::new(91).messages(60));
    let secret = |user: &'static str| [("username", user), ("password", PASSWORD)];
    let server = |at: SocketAddr| format!("host: {}, port: {}, tls: Implicit", at.ip(), at.port());
    let manifest = Manifest::default()
        .secret("new", &secret("alice@new.test"))
        .secret("old.test", &secret("alice@old.test"))
        .destination(&format!("{{{}, credentialsRef: {{name: new}}}}", server(new.imaps())))
        .domain("old.test", &["alice"], &format!("servers: [{{protocol: IMAP, {}}}]", server(old.imaps())));
    let ferry = Ferry::new(&manifest.text()).env("MAILFERRY_LOG", "mailferry=debug");
    std::fs::write(ferry.path("ca.pem"), ca.pem()).unwrap();
    let ended = ferry.run(&["--ca", "ca.pem", "--log-format", "json"]);
    ended.expect_code(0);
    for host in ["127.0.0.1", "127.0.0.2"] {
        let shaken = ended.stderr.lines().filter(|line| line.contains("TLS is up") && line.contains(host));
        let (resumed, full): (Vec<&str>, Vec<&str>) =
            shaken.partition(|line| line.contains("\"resumed\":true"));
        // A server gives few tickets at a time, and each may be used once: a third session at the same moment has none.
        assert!((1..=2).contains(&full.len()), "{host}: {full:#?}");
        assert!(resumed.len() >= 2, "{host}: {resumed:#?}\n{}", ended.stderr);
    }
}
