use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::*;
use crate::auth::credentials::{Login, Proof};
use crate::drivers::imap::login::greet;
use crate::model::endpoint::Endpoint;
use crate::model::protocol::{Protocol, Tls};
use crate::model::secret::Secret;
use crate::net::network::Network;
use crate::net::tls::Trust;

/// It takes a while to read the system's authorities.
static TRUST: LazyLock<Trust> = LazyLock::new(|| Trust::with_authorities(&[]).unwrap());

/// The behaviour of a server for one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trick {
    Good,
    /// `BODY[] NIL`.
    Nil,
    /// `BODY[] ""`.
    Empty,
    /// A literal of no bytes.
    Zero,
    /// OK, and no response about it.
    Silence,
    /// As [`Self::Silence`] until it is asked for alone.
    SilenceInCompany,
    /// Its bytes come under the UID of the message so many places behind it.
    Under(u32),
    /// Its bytes come without any UID.
    NoUid,
    /// Its UID comes behind its bytes.
    LateUid,
    /// It comes twice.
    Twice,
    /// The message so many places behind it comes before it as well.
    Unasked(u32),
    /// It is listed with fewer bytes than it has.
    Long,
    /// A quoted string in place of a literal.
    Quoted,
    /// It is no longer there.
    Gone,
    /// NO, without a code.
    No,
    /// NO, with a code of a fault.
    Fault,
    /// Fewer bytes are announced than come.
    Short,
    /// The connection ends in the middle of it.
    Closes,
}

fn trick() -> impl Strategy<Value = Trick> {
    use Trick as T;
    prop_oneof![
        6 => Just(T::Good),
        1 => proptest::sample::select(vec![
            T::Nil, T::Empty, T::Zero, T::Silence, T::SilenceInCompany, T::Under(1), T::Under(2), T::NoUid, T::LateUid,
            T::Twice, T::Unasked(1), T::Unasked(3), T::Long, T::Quoted, T::Gone, T::No, T::Fault, T::Short, T::Closes,
        ]),
    ]
}

/// Every message has as many bytes as any other, so that none is known by its size.
fn message(uid: u32) -> String {
    format!("Subject: letter {uid:04}\r\n\r\n{}\r\n.\r\n", "x".repeat(60))
}

fn size_of(uid: u32, trick: Trick) -> u64 {
    let size = message(uid).len() as u64;
    if trick == Trick::Long { size - 20 } else { size }
}

fn body(seq: u32, uid: u32, of: u32) -> String {
    let text = message(of);
    format!("* {seq} FETCH (UID {uid} BODY[] {{{}}}\r\n{text})\r\n", text.len())
}

/// Answers one FETCH of bodies; `None` where the connection ends.
fn answer(tag: &str, uids: &[u32], tricks: &BTreeMap<u32, Trick>) -> (String, bool) {
    let mut text = String::new();
    let alone = uids.len() == 1;
    for uid in uids.iter().copied() {
        let whole = message(uid);
        let size = whole.len();
        let good = body(uid, uid, uid);
        match tricks.get(&uid).copied().unwrap_or(Trick::Gone) {
            Trick::Good | Trick::Long => text += &good,
            Trick::SilenceInCompany if alone => text += &good,
            Trick::Nil => write!(text, "* {uid} FETCH (UID {uid} BODY[] NIL)\r\n").unwrap(),
            Trick::Empty => write!(text, "* {uid} FETCH (UID {uid} BODY[] \"\")\r\n").unwrap(),
            Trick::Zero => write!(text, "* {uid} FETCH (UID {uid} BODY[] {{0}}\r\n)\r\n").unwrap(),
            Trick::Silence | Trick::SilenceInCompany | Trick::Gone => {}
            Trick::Under(places) => text += &body(uid, uid + places, uid),
            Trick::NoUid => write!(text, "* {uid} FETCH (BODY[] {{{size}}}\r\n{whole})\r\n").unwrap(),
            Trick::LateUid => {
                write!(text, "* {uid} FETCH (BODY[] {{{size}}}\r\n{whole} UID {uid})\r\n").unwrap();
            }
            Trick::Twice => text += &[good.as_str(), good.as_str()].concat(),
            Trick::Unasked(places) => {
                text += &body(uid + places, uid + places, uid + places);
                text += &good;
            }
            Trick::Quoted => write!(text, "* {uid} FETCH (UID {uid} BODY[] \"letter {uid}\")\r\n").unwrap(),
            Trick::No => return (format!("{text}{tag} NO it will not\r\n"), true),
            Trick::Fault => return (format!("{text}{tag} NO [SERVERBUG] it broke\r\n"), true),
            Trick::Short => {
                write!(text, "* {uid} FETCH (UID {uid} BODY[] {{{}}}\r\n{whole})\r\n", size - 20).unwrap();
            }
            Trick::Closes => {
                text += &good[..good.len() - 30];
                return (text, false);
            }
        }
    }
    (format!("{text}{tag} OK done\r\n"), true)
}

/// Speaks with a client until the connection ends. `reply` is given a command's tag and its words, and says what is answered
/// and whether the connection goes on; `None` is a plain OK.
async fn converse(
    stream: TcpStream,
    mut reply: impl FnMut(&str, &[&str]) -> Option<(String, bool)>,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"* OK [CAPABILITY IMAP4rev1] hello\r\n").await?;
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [tag, rest @ ..] = &words[..] else { return Ok(()) };
        let done = match rest {
            ["LOGIN", ..] => format!("{tag} OK [CAPABILITY IMAP4rev1] in\r\n"),
            _ => format!("{tag} OK done\r\n"),
        };
        let (text, goes_on) = reply(tag, rest).unwrap_or((done, true));
        stream.write_all(text.as_bytes()).await?;
        if !goes_on {
            return Ok(());
        }
    }
}

async fn serve(stream: TcpStream, tricks: Arc<BTreeMap<u32, Trick>>) -> std::io::Result<()> {
    let reply = |tag: &str, rest: &[&str]| match rest {
        ["UID", "FETCH", set, "(UID", "BODY.PEEK[])"] => {
            Some(answer(tag, &crate::drivers::imap::tokens::read_number_set(set, 1000).unwrap(), &tricks))
        }
        ["UID", "FETCH", set, ..] => {
            let uids = crate::drivers::imap::tokens::read_number_set(set, 1000).unwrap();
            let is_there = |uid: &&u32| tricks.get(uid).is_some_and(|trick| *trick != Trick::Gone);
            let row = |uid: &u32| format!("* {uid} FETCH (UID {uid} RFC822.SIZE 1 FLAGS ())\r\n");
            let rows: String = uids.iter().filter(is_there).map(row).collect();
            Some((format!("{rows}{tag} OK done\r\n"), true))
        }
        _ => None,
    };
    converse(stream, reply).await
}

/// The outcome reported for a message.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    Came(String),
    Gone,
    Named(Option<FailureCode>),
}

/// Fetches messages with the UIDs 1, 2, 3, … of a server with these tricks: the outcome reported for each, by its key,
/// in order.
async fn fetched(tricks: &[Trick]) -> (Vec<(u64, Told)>, Result<()>) {
    let by_uid: BTreeMap<u32, Trick> = (1..).zip(tricks.iter().copied()).collect();
    let wanted: Vec<WantedUid> = by_uid
        .iter()
        .map(|(uid, trick)| WantedUid {
            key: u64::from(*uid) + 100,
            uid: *uid,
            size: Some(size_of(*uid, *trick)),
        })
        .collect();
    let by_uid = Arc::new(by_uid);
    fetched_from(&wanted, |stream| serve(stream, by_uid)).await
}

/// Fetches messages of a server: the outcome reported for each, by its key, in order.
async fn fetched_from<F>(
    wanted: &[WantedUid],
    serve: impl FnOnce(TcpStream) -> F + Send + 'static,
) -> (Vec<(u64, Told)>, Result<()>)
where
    F: Future<Output = std::io::Result<()>> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let _ = serve(stream).await;
    });
    let network = Network::new(None, vec!["127.0.0.0/8".parse().unwrap()], 8).unwrap();
    let endpoint = Endpoint::new(Protocol::Imap, "127.0.0.1", port, Tls::None);
    let greeted = greet(&network, &endpoint, &TRUST).await.unwrap();
    let login = Login::own("anna".to_owned(), Proof::Password(Secret::new("secret".to_owned())));
    let mut session = greeted.login(&login).await.unwrap();
    let (sender, mut events) = mpsc::channel(16);
    let listen = tokio::spawn(async move {
        let mut told: Vec<(u64, Told)> = Vec::new();
        let mut coming: Option<(u64, u64, Vec<u8>)> = None;
        while let Some(event) = events.recv().await {
            match event {
                BodyEvent::Held { .. } | BodyEvent::Again { .. } => assert!(coming.is_none()),
                BodyEvent::Begin { key, size } => coming = Some((key, size, Vec::new())),
                BodyEvent::Chunk(chunk) => coming.as_mut().unwrap().2.extend_from_slice(&chunk),
                BodyEvent::End { .. } => {
                    let (key, size, bytes) = coming.take().unwrap();
                    assert_eq!(size, bytes.len() as u64);
                    told.push((key, Told::Came(String::from_utf8(bytes).unwrap())));
                }
                BodyEvent::Missing { key, failure } => {
                    assert!(coming.is_none());
                    told.push((key, failure.map_or(Told::Gone, |failure| Told::Named(failure.code))));
                }
            }
        }
        told
    });
    let ended = fetch_bodies(&mut session, wanted, &sender).await;
    drop(sender);
    let told = listen.await.unwrap();
    server.abort();
    (told, ended)
}

/// The outcomes that must have been reported for a message once the fetch ended well.
fn right(uid: u32, trick: Trick, tricks: &[Trick]) -> Vec<Told> {
    let come = Told::Came(message(uid));
    let nothing = Told::Named(Some(FailureCode::NothingCame));
    match trick {
        Trick::Quoted => vec![Told::Came(format!("letter {uid}"))],
        Trick::Gone => vec![Told::Gone],
        Trick::Nil | Trick::Empty | Trick::Zero | Trick::Silence | Trick::Under(_) => vec![nothing],
        Trick::No => vec![Told::Named(None)],
        Trick::Fault => vec![Told::Named(Some(FailureCode::ServerFault))],
        // Only its size tells that it is the right one, and all have the same.
        Trick::NoUid => vec![come, nothing],
        _ if tricks.contains(&Trick::Short) || tricks.contains(&Trick::Closes) => vec![come, nothing],
        _ => vec![come],
    }
}

fn check(tricks: &[Trick]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (told, ended) = runtime.block_on(fetched(tricks));
    let mut by_key: BTreeMap<u64, Told> = BTreeMap::new();
    for (key, what) in told {
        let uid = u32::try_from(key - 100).unwrap();
        let trick = tricks[uid as usize - 1];
        assert!(right(uid, trick, tricks).contains(&what), "{uid} {trick:?}: {what:?}");
        assert_eq!(by_key.insert(key, what), None, "{uid} is told of twice");
    }
    match ended {
        Ok(()) => assert_eq!(by_key.len(), tricks.len(), "{by_key:?}"),
        Err(failure) => {
            let ends = |trick: &&Trick| matches!(trick, Trick::Short | Trick::Closes);
            let refused = tricks.iter().filter(|trick| **trick == Trick::No).count();
            assert!(tricks.iter().any(|trick| ends(&trick)) || refused >= 3, "{failure}");
            assert!(failure.code.is_some(), "{failure}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn every_message_ends_in_one_event_and_none_in_the_wrong_one(tricks in proptest::collection::vec(trick(), 1..9)) {
        check(&tricks);
    }
}

#[test]
fn one_odd_message_costs_no_other() {
    use Trick as T;
    for odd in [
        T::Nil,
        T::Empty,
        T::Zero,
        T::Silence,
        T::SilenceInCompany,
        T::Under(1),
        T::Under(2),
        T::NoUid,
        T::LateUid,
        T::Twice,
        T::Unasked(1),
        T::Unasked(3),
        T::Long,
        T::Quoted,
        T::Gone,
        T::No,
        T::Fault,
    ] {
        for at in 0..5 {
            let mut tricks = [T::Good; 5];
            tricks[at] = odd;
            check(&tricks);
        }
        check(&[odd]);
    }
}

#[test]
fn a_message_under_the_uid_of_the_next_command_is_not_taken_for_that_one() {
    use Trick as T;
    // The refusal parts the messages into two commands.
    check(&[T::Under(2), T::Good, T::No, T::Good]);
    check(&[T::Good, T::Under(1), T::Good, T::No]);
    check(&[T::Good, T::Good, T::Under(3), T::Good, T::Good, T::Good, T::Good, T::No]);
}

#[test]
fn nothing_behind_the_message_at_which_a_session_ends_is_told() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (odd, code) in [(Trick::Short, FailureCode::Garbled), (Trick::Closes, FailureCode::ConnectionEnded)] {
        let tricks = [Trick::Good, Trick::Good, odd, Trick::Good, Trick::Good];
        let (told, ended) = runtime.block_on(fetched(&tricks));
        assert_eq!(told.iter().map(|(key, _)| *key).collect::<Vec<_>>(), [101, 102], "{odd:?}");
        assert_eq!(ended.unwrap_err().code, Some(code));
    }
}

#[test]
fn messages_refused_one_after_another_are_the_servers_trouble() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (told, ended) = runtime.block_on(fetched(&[Trick::No; 20]));
    let failure = ended.unwrap_err();
    assert!(told.is_empty() && failure.leaves_the_session(), "{told:?} {failure}");
    assert_eq!((failure.class, failure.code), (Class::Unreachable, Some(FailureCode::ServerFault)));
}

/// Answers two commands for bodies at once, a message of either in turn, and counts all that are given.
async fn serve_two_at_once(
    stream: TcpStream,
    second_first: bool,
    given: Arc<AtomicUsize>,
) -> std::io::Result<()> {
    let mut waiting: Option<(String, Vec<u32>)> = None;
    let reply = |tag: &str, rest: &[&str]| {
        let ["UID", "FETCH", set, "(UID", "BODY.PEEK[])"] = rest else { return None };
        given.fetch_add(1, Ordering::SeqCst);
        let uids = crate::drivers::imap::tokens::read_number_set(set, 1000).unwrap();
        let Some((first_tag, first)) = waiting.take() else {
            waiting = Some((tag.to_owned(), uids));
            return Some((String::new(), true));
        };
        let mut text = String::new();
        for at in 0..first.len().max(uids.len()) {
            let both = [first.get(at), uids.get(at)];
            text.extend(both.into_iter().flatten().map(|uid| body(*uid, *uid, *uid)));
        }
        let mut tags = [first_tag.as_str(), tag];
        if second_first {
            tags.reverse();
        }
        Some((tags.iter().fold(text, |text, tag| format!("{text}{tag} OK done\r\n")), true))
    };
    converse(stream, reply).await
}

#[test]
fn answers_to_two_commands_may_come_at_once() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let uids = 1..=u32::try_from(COMMAND_MESSAGES).unwrap() + 50;
    let size = Some(message(1).len() as u64);
    let wanted: Vec<WantedUid> =
        uids.clone().map(|uid| WantedUid { key: u64::from(uid) + 100, uid, size }).collect();
    for second_first in [false, true] {
        let given = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&given);
        let (told, ended) = runtime
            .block_on(fetched_from(&wanted, move |stream| serve_two_at_once(stream, second_first, count)));
        ended.unwrap();
        let told: BTreeMap<u64, Told> = told.into_iter().collect();
        let right = uids.clone().map(|uid| (u64::from(uid) + 100, Told::Came(message(uid))));
        assert_eq!(told, right.collect());
        assert_eq!(given.load(Ordering::SeqCst), 2, "nothing is asked for again");
    }
}
