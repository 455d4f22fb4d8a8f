//! Messages that a rule leaves out, and those that the destination does not take.

use std::net::SocketAddr;

use bytes::Bytes;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpSocket;
use tokio::sync::mpsc;

use mailferry::drivers::imap::destination::ImapDestination;
use mailferry::drivers::imap::names::Spelling;
use mailferry::drivers::{Appended, BODY_QUEUE, BodyEvent, Destination, Envelope, Present};
use mailferry::model::failure::{Class, Result};
use mailferry::model::finding::Code;
use mailferry::model::folder::FolderPath;
use mailferry::model::mark::Mark;
use mailferry::model::message::Flags;
use mailferry::transfer::Rules;

use crate::support::corpus::{Corpus, Message};
use crate::support::dovecot::{Dovecot, LOOPBACK};
use crate::sync::rig::{ANNA, Rig, all_rules, letter, log_in, new_server, new_user, old_server};

/// A letter of about so many bytes.
fn heavy(folder: &str, name: &str, bytes: usize) -> Message {
    let mut message = letter(folder, &["\\Seen"], name);
    message.bytes.extend(b"0123456789abcdef\r\n".repeat(bytes / 18));
    message
}

#[tokio::test]
async fn a_full_destination_stops_the_mailbox_and_the_rest_follows_when_there_is_room() {
    let destination = Dovecot::builder().imap(LOOPBACK).user(new_user().quota(100_000));
    let mut rig = Rig::start(old_server(), destination);
    let mut old = rig.at_source();
    for n in 0..20 {
        old.append(&heavy("INBOX", &format!("message {n}"), 12_000)).unwrap();
    }
    old.append(&letter("INBOX", &[], "small")).unwrap();
    drop(old);
    let failure = rig.try_pass(&all_rules()).await.unwrap_err();
    assert_eq!(failure.class, Class::Quota, "{failure:?}");
    let arrived = rig.at_destination().read_all().messages();
    assert!(arrived >= 7, "as many as there is room for: {arrived}");
    let rows = rig.rows().await;
    assert_eq!(rows.iter().filter(|row| row.verdict.word() == "Delivered").count(), arrived);
    assert_eq!(rows.iter().filter(|row| row.verdict.word() == "Pending").count(), 21 - arrived);

    rig.destination.set_user(new_user().quota(10_000_000));
    rig.pass().await;
    rig.assert_same();
    rig.assert_idle().await;
}

#[tokio::test]
async fn a_message_that_the_destination_refuses_is_named_and_the_others_go_on() {
    let rig = Rig::start(old_server(), new_server().max_message(50_000));
    rig.at_source()
        .seed(Corpus::new(51).ordinary_only().messages(40).filter(|message| message.bytes.len() < 40_000));
    let taken = rig.at_source().read_all().messages();
    rig.at_source().append(&heavy("INBOX", "too large", 60_000)).unwrap();
    rig.at_source().append(&heavy("Sent", "too large as well", 70_000)).unwrap();
    let outcome = rig.pass().await;
    assert_eq!((outcome.counts.failed, outcome.counts.copied), (2, taken as u64), "{}", outcome.counts);
    let found: Vec<_> = outcome.findings.iter().filter(|f| f.code == Code::MessagesQuarantined).collect();
    assert_eq!(found.len(), 1);
    assert!(found[0].message.starts_with("2 messages"), "{}", found[0].message);
    let rows = rig.rows().await;
    let refused = rows.iter().find(|row| row.verdict.word() == "Quarantined").unwrap();
    println!("{:?}", refused.verdict);
    assert!(refused.verdict.reason().unwrap().len() > 10);
    assert!(rig.differences().iter().all(|line| line.contains("missing")), "{:?}", rig.differences());
    let again = rig.pass().await;
    assert_eq!((again.sent, again.counts), (0, outcome.counts));
    assert_eq!(again.findings, outcome.findings, "what is true stays said");
}

#[tokio::test]
async fn an_empty_message_is_named_and_the_others_go_on() {
    let rig = Rig::start(old_server(), new_server());
    rig.source.deliver(ANNA, "empty", b"");
    for n in 0..5 {
        rig.at_source().append(&letter("INBOX", &[], &format!("letter {n}"))).unwrap();
    }
    let outcome = rig.pass().await;
    assert_eq!((outcome.counts.failed, outcome.counts.copied), (1, 5), "{}", outcome.counts);
    let again = rig.pass().await;
    assert_eq!((again.sent, again.counts), (0, outcome.counts));
}

#[tokio::test]
async fn rules_leave_out_and_count_and_take_in_when_they_change() {
    let rig = Rig::start(old_server(), new_server());
    let mut old = rig.at_source();
    old.create_and_subscribe("Junk");
    old.create_and_subscribe("Junk/old");
    old.append(&heavy("INBOX", "large", 30_000)).unwrap();
    old.append(&letter("INBOX", &[], "small")).unwrap();
    let ancient =
        Message { internal_date: "01-Jan-2001 00:00:00 +0000".to_owned(), ..letter("INBOX", &[], "ancient") };
    old.append(&ancient).unwrap();
    for n in 0..3 {
        old.append(&letter("Junk", &[], &format!("junk {n}"))).unwrap();
        old.append(&letter("Junk/old", &[], &format!("older junk {n}"))).unwrap();
    }
    drop(old);
    let strict = Rules {
        exclude: Rules::exclude_patterns(&["Junk".to_owned(), "Junk/**".to_owned()]).unwrap(),
        max_message_bytes: Some(20_000),
        since: Some("2010-01-01T00:00:00Z".parse().unwrap()),
        ..all_rules()
    };
    let outcome = rig.try_pass(&strict).await.unwrap();
    assert_eq!((outcome.counts.source, outcome.counts.excluded, outcome.counts.copied), (9, 8, 1));
    assert_eq!(rig.at_destination().read_all().messages(), 1);
    assert!(!rig.at_destination().folders().iter().any(|folder| folder.starts_with("Junk")));
    let again = rig.try_pass(&strict).await.unwrap();
    assert_eq!((again.counts, again.sent), (outcome.counts, 0));
    // The rules are lifted; nothing changed at the source.
    let all = rig.pass().await;
    assert_eq!((all.counts.copied, all.counts.excluded), (9, 0), "{}", all.counts);
    rig.assert_same();
    // Messages that were carried stay carried when a rule would leave them out now.
    let strict_again = rig.try_pass(&strict).await.unwrap();
    assert_eq!((strict_again.counts.copied, strict_again.sent), (9, 0), "{}", strict_again.counts);
}

/// A server that does as it is told: `answer` is given each command's tag and words, once its literal was read, and says
/// what goes back; `None` ends the session.
fn play(mut answer: impl FnMut(&str, &str) -> Option<String> + Send + 'static) -> SocketAddr {
    let socket = TcpSocket::new_v4().unwrap();
    // So small that whoever goes on writing has to wait, and learns of the end from a write.
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    socket.bind(LOOPBACK).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        stream.write_all(b"* OK [CAPABILITY IMAP4rev1 LITERAL+] Ready.\r\n").await.unwrap();
        let mut line = String::new();
        while stream.read_line(&mut line).await.unwrap() > 0 {
            let (tag, words) = line.trim_end().split_once(' ').unwrap();
            if let Some((_, size)) = words.strip_suffix("+}").and_then(|it| it.rsplit_once('{')) {
                let mut message = vec![0; size.parse().unwrap()];
                stream.read_exact(&mut message).await.unwrap();
                stream.read_line(&mut String::new()).await.unwrap();
            }
            let Some(said) = answer(tag, words) else { break };
            stream.write_all(said.as_bytes()).await.unwrap();
            line.clear();
        }
    });
    address
}

/// Appends messages of 640 KiB to the Inbox of a server that is played, and lists it; what became of each message it
/// answered for, and how it ended.
async fn append(server: SocketAddr, messages: u64) -> (Vec<Appended>, Result<Vec<Present>>) {
    let session = log_in(server, ANNA).await;
    let mut destination = ImapDestination::beside(session, Spelling::default());
    let (bodies, mut taken) = mpsc::channel(BODY_QUEUE);
    tokio::spawn(async move {
        let chunk = Bytes::from("0123456789abcde\n".repeat(4096));
        for key in 1..=messages {
            bodies.send(BodyEvent::Begin { key, size: 10 * chunk.len() as u64 }).await?;
            for _ in 0..10 {
                bodies.send(BodyEvent::Chunk(chunk.clone())).await?;
            }
            bodies.send(BodyEvent::End { date: None }).await?;
        }
        Ok::<_, mpsc::error::SendError<BodyEvent>>(())
    });
    let (outcomes, mut heard) = mpsc::unbounded_channel();
    let envelope = |_| Envelope { flags: Flags::default(), date: None };
    let inbox = FolderPath::new(["INBOX"]);
    let ended =
        destination.append_and_list(&inbox, &mut taken, &envelope, &outcomes, &Mark::beginning()).await;
    let mut answered = Vec::new();
    while let Ok(outcome) = heard.try_recv() {
        answered.push(outcome);
    }
    (answered, ended)
}

#[tokio::test]
async fn what_was_refused_before_the_server_went_away_is_heard() {
    let mut refused = Vec::new();
    let server = play(move |tag, words| {
        if !words.starts_with("APPEND") {
            return (refused.len() < 3)
                .then(|| format!("{tag} OK [CAPABILITY IMAP4rev1 LITERAL+] Done.\r\n"));
        }
        refused.push(format!("{tag} NO [TOOBIG] Not this one.\r\n"));
        match refused.len() {
            ..3 => Some(String::new()),
            3 => Some(format!("{}* BYE Too many errors.\r\n", refused.concat())),
            _ => None,
        }
    });
    let (answered, ended) = append(server, 20).await;
    let ended = ended.unwrap_err();
    assert!(ended.what.contains("Too many errors"), "{ended}");
    let refused = answered.into_iter().map(|outcome| {
        let Appended::Refused { key, failure, .. } = outcome else { panic!("{outcome:?}") };
        assert!(failure.what.contains("Not this one"), "{failure}");
        key
    });
    assert_eq!(refused.collect::<Vec<_>>(), [1, 2, 3]);
}

#[tokio::test]
async fn a_folder_that_goes_before_it_is_listed_is_named_and_keeps_what_was_answered() {
    let server = play(|tag, words| {
        Some(match words.split(' ').next().unwrap() {
            "SELECT" => format!("{tag} NO [NONEXISTENT] No such mailbox.\r\n"),
            "UID" => format!("{tag} BAD No mailbox selected.\r\n"),
            _ => format!("{tag} OK [CAPABILITY IMAP4rev1 LITERAL+] Done.\r\n"),
        })
    });
    let (answered, ended) = append(server, 2).await;
    assert!(answered.iter().all(|one| matches!(one, Appended::Stored { .. })) && answered.len() == 2);
    let ended = ended.unwrap_err();
    assert_eq!(ended.class, Class::Refused, "the session is good for other folders: {ended}");
    assert!(ended.to_string().contains("No such mailbox"), "{ended}");
}
