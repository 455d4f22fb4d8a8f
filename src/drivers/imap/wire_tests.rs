use std::fmt::Write as _;

use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Feeds a server's bytes in pieces and returns what async-imap would read, and the events.
async fn digest(server: &[u8], piece: usize) -> io::Result<(Vec<u8>, Vec<Event>)> {
    let (mut theirs, ours) = tokio::io::duplex(1 << 20);
    for part in server.chunks(piece) {
        theirs.write_all(part).await?;
    }
    drop(theirs);
    let mut wire = Wire::new(ours);
    let mut read = Vec::new();
    let mut events = Vec::new();
    let mut buf = [0; 4096];
    loop {
        let n = wire.read(&mut buf).await?;
        if n == 0 {
            return Ok((read, events));
        }
        read.extend_from_slice(&buf[..n]);
        events.extend(wire.take_event());
    }
}

#[tokio::test]
async fn a_body_streams_and_leaves_an_empty_literal_behind() {
    let server = b"* 12 FETCH (UID 5 BODY[] {6}\r\na{1}\r\n FLAGS (\\Seen))\r\nA1 OK [X y] done\r\n+ go\r\n";
    for piece in [1, 7, 1000] {
        let (read, events) = digest(server, piece).await.unwrap();
        assert!(read.starts_with(b"* OK -\r\n") && read.ends_with(b"A1 OK -\r\n+ \r\n"));
        let mut body = Vec::new();
        let mut rest = Vec::new();
        for event in &events {
            match event {
                Event::BodyBegin { prefix, size } => {
                    assert_eq!((prefix.as_slice(), *size), (&b"12 FETCH (UID 5 BODY[] "[..], 6));
                }
                Event::BodyChunk(chunk) => body.extend_from_slice(chunk),
                Event::Untagged(line) => rest.clone_from(line),
                _ => {}
            }
        }
        assert_eq!(body, b"a{1}\r\n");
        assert_eq!(rest, b"12 FETCH (UID 5 BODY[] {0}\r\n FLAGS (\\Seen))");
    }
}

#[tokio::test]
async fn a_literal_in_a_listing_stays_in_its_response() {
    let (_, events) = digest(b"* LIST () \"/\" {4}\r\na\r\nb\r\n", 3).await.unwrap();
    assert!(matches!(&events[..], [Event::Untagged(line)] if line == b"LIST () \"/\" {4}\r\na\r\nb"));
}

#[tokio::test]
async fn lines_are_read_as_servers_write_them() {
    let server =
        b"\r\n*  3 EXISTS\r\n \n*\t4\tRECENT\n\r\nA1  ok\t[X]  done\r\r\n* LIST () \"/\" {2}\r\r\nab\r\n\
        *  3  fetch (UID 5  body[] {3}\r\nabc)\r\n* list () NIL x\r\n";
    for piece in [1, 7, 1000] {
        let (_, events) = digest(server, piece).await.unwrap();
        let lines: Vec<String> = events
            .iter()
            .map(|event| match event {
                Event::Untagged(line) => String::from_utf8_lossy(line).into_owned(),
                Event::Tagged { tag, status, rest } => {
                    format!("{tag:?} {status:?} {}", String::from_utf8_lossy(rest))
                }
                Event::BodyBegin { prefix, size } => {
                    format!("{} {size}", String::from_utf8_lossy(prefix))
                }
                Event::BodyChunk(_) => "chunk".to_owned(),
                Event::Continue(_) => "+".to_owned(),
                Event::Noise(line) => format!("noise {line}"),
            })
            .filter(|line| line != "chunk")
            .collect();
        assert_eq!(
            lines,
            [
                "3 EXISTS",
                "4\tRECENT",
                "[65, 49] Ok [X]  done",
                "LIST () \"/\" {2}\r\nab",
                "3  fetch (UID 5  body[]  3",
                "3  fetch (UID 5  body[] {0}\r\n)",
                "list () NIL x",
            ]
        );
    }
}

#[tokio::test]
async fn text_that_ends_like_a_literal_is_text_and_what_is_no_response_is_noise() {
    let server = b"* OK still here {7}\r\n* NO [ALERT] full {3}\r\n* X {4}\r\nA1 NO not {12}\r\n+ go {5}\r\n\
        Warning: index {9}\r\n";
    let (_, events) = digest(server, 5).await.unwrap();
    assert!(
        matches!(
            &events[..],
            [
                Event::Untagged(_),
                Event::Untagged(_),
                Event::Untagged(_),
                Event::Tagged { .. },
                Event::Continue(_),
                Event::Noise(line)
            ] if line == "Warning: index {9}"
        ),
        "{events:?}"
    );
}

#[tokio::test]
async fn what_a_server_repeats_of_the_login_is_hidden() {
    let login =
        crate::auth::credentials::Login::own("a".into(), crate::model::secret::Secret::new("hunter2"));
    let (mut theirs, ours) = tokio::io::duplex(1 << 20);
    let mut wire = Wire::new(ours);
    wire.cleaner = Some(Arc::new(Cleaner::of(&login)));
    let mut heard = String::new();
    for line in [
        "A1 BAD unrecognized: LOGIN a hunter2",
        "* NO [ALERT] not hunter2",
        "* bye hunter2",
        "* OK it was hunter2",
        "LOGIN a hunter2",
    ] {
        theirs.write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
        match wire.read(&mut [0; 100]).await {
            Ok(_) => writeln!(heard, "{:?}", wire.take_event()).unwrap(),
            Err(error) => heard.push_str(&error.to_string()),
        }
    }
    let hunter = format!("{:?}", "hunter2".as_bytes());
    let hunter = hunter.trim_matches(['[', ']']);
    assert!(!heard.contains("hunter2") && !heard.contains(hunter), "{heard}");
    assert!(heard.contains("Noise(\"LOGIN a [hidden]\")"), "{heard}");
}

#[tokio::test]
async fn last_words_are_heard_from_a_server_that_takes_no_more() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    let mut wire = Wire::new(client);
    wire.write_all(b"A1 APPEND INBOX {100000+}\r\n").await.unwrap();
    wire.uncork().await.unwrap();
    // Bytes that it has not read make its end a reset.
    server.readable().await.unwrap();
    server.write_all(b"* BYE too much\r\n").await.unwrap();
    drop(server);
    while wire.uncork().await.is_ok() {
        wire.write_all(b"more").await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut read = [0; 100];
    assert!(wire.read(&mut read).await.unwrap() > 0);
    assert!(matches!(wire.take_event(), Some(Event::Untagged(line)) if line == b"BYE too much"));
    assert!(!matches!(wire.read(&mut read).await, Ok(1..)));
}

#[tokio::test]
async fn a_peer_cannot_make_us_hold_without_bound() {
    let endless = vec![b'a'; RESPONSE_MAX + READ_SIZE];
    for hostile in [
        endless.as_slice(),
        b"* LIST () \"/\" {18446744073709551616}\r\n",
        b"* 1 FETCH (BODY[] {99999999999}\r\n",
        &b"\r\n".repeat(EMPTY_LINES_MAX as usize + 1),
    ] {
        let (mut theirs, ours) = tokio::io::duplex(1 << 24);
        theirs.write_all(hostile).await.unwrap();
        let mut wire = Wire::new(ours);
        let error = wire.read(&mut [0; 100]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
