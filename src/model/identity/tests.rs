//! The promises of identity, held to by properties and by real messages.

use std::fmt::Write as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::*;

fn identity(bytes: impl AsRef<[u8]>) -> Identity {
    let mut hasher = IdentityHasher::new();
    hasher.update(bytes.as_ref());
    hasher.finish()
}

fn identity_in_chunks(bytes: &[u8], sizes: &[usize]) -> Identity {
    let mut hasher = IdentityHasher::new();
    let mut rest = bytes;
    for size in sizes.iter().cycle().take(bytes.len() * 2) {
        let (chunk, after) = rest.split_at((*size).min(rest.len()));
        hasher.update(chunk);
        rest = after;
    }
    hasher.update(rest);
    hasher.finish()
}

fn canonical(bytes: impl AsRef<[u8]>) -> Digest {
    identity(bytes).canonical
}

fn quoted_printable(text: &str, soft_at: usize) -> String {
    let mut encoded = String::new();
    for (n, line) in text.split("\r\n").enumerate() {
        encoded.push_str(if n == 0 { "" } else { "\r\n" });
        let mut column = 0;
        for byte in line.bytes() {
            if column >= soft_at {
                encoded.push_str("=\r\n");
                column = 0;
            }
            if byte.is_ascii_alphanumeric() {
                encoded.push(char::from(byte));
                column += 1;
            } else {
                write!(encoded, "={byte:02X}").unwrap();
                column += 3;
            }
        }
    }
    encoded
}

fn base64_lines(bytes: &[u8], width: usize) -> String {
    let encoded = STANDARD.encode(bytes);
    encoded.as_bytes().chunks(width).fold(String::new(), |mut all, line| {
        all.push_str(std::str::from_utf8(line).unwrap());
        all.push_str("\r\n");
        all
    })
}

fn text_message(encoding: Option<&str>, body: &str) -> String {
    let encoding = encoding.map_or_else(String::new, |e| format!("Content-Transfer-Encoding: {e}\r\n"));
    format!("Subject: s\r\nContent-Type: text/plain; charset=utf-8\r\n{encoding}\r\n{body}")
}

fn multipart(parts: &[String]) -> String {
    let parts = parts.iter().fold(String::new(), |all, part| format!("{all}--b1\r\n{part}\r\n"));
    format!(
        "Subject: s\r\nContent-Type: multipart/mixed;\r\n\tboundary=\"b1\"\r\n\r\nPreamble\r\n{parts}--b1--\r\n"
    )
}

fn attachment(bytes: &[u8], width: usize) -> String {
    format!(
        "Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n{}",
        base64_lines(bytes, width)
    )
}

/// Bytes that are likely to mean something: line ends, boundaries, encodings, header syntax.
fn mailish() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        4 => Just(b"\r\n".to_vec()),
        1 => Just(b"\n".to_vec()),
        1 => Just(b"\r".to_vec()),
        1 => Just(b"\r\r\n".to_vec()),
        1 => Just(b"Content-Type: multipart/mixed; boundary=b\r\n".to_vec()),
        1 => Just(b"Content-Type: text/plain\r\n".to_vec()),
        1 => Just(b"Content-Transfer-Encoding: base64\r\n".to_vec()),
        1 => Just(b"Content-Transfer-Encoding: quoted-printable\r\n".to_vec()),
        1 => Just(b"Subject: =?utf-8?q?=C3=A4?= =?utf-8?b?w6Q=?=\r\n".to_vec()),
        1 => Just(b"Received: by x; Mon, 1 Feb 2021 03:04:05 +0100\r\n".to_vec()),
        2 => Just(b"--b\r\n".to_vec()),
        1 => Just(b"--b--\r\n".to_vec()),
        1 => Just(b"QUJD=\t ".to_vec()),
        1 => Just(b"=3D=\r\n".to_vec()),
        1 => (0_usize..5000).prop_map(|n| vec![b'x'; n]),
        3 => prop::collection::vec(any::<u8>(), 0..40),
    ];
    prop::collection::vec(token, 0..40).prop_map(|tokens| tokens.concat())
}

proptest! {
    #[test]
    fn chunks_do_not_matter(bytes in mailish(), sizes in prop::collection::vec(1_usize..700, 1..8)) {
        prop_assert_eq!(identity_in_chunks(&bytes, &sizes), identity(&bytes));
        prop_assert_eq!(identity_in_chunks(&bytes, &[1]), identity(&bytes));
    }

    #[test]
    fn line_ends_do_not_matter(lines in prop::collection::vec("[^\r\n]{0,60}", 0..20)) {
        let (lf, crlf) = (identity(lines.join("\n")), identity(lines.join("\r\n")));
        prop_assert_eq!(lf.exact, crlf.exact);
        prop_assert_eq!(lf.canonical, crlf.canonical);
    }

    #[test]
    fn transfer_encoding_does_not_matter(
        lines in prop::collection::vec("[ -~äöü€]{0,90}", 1..12), width in 4_usize..80, soft in 10_usize..76,
    ) {
        let body = lines.join("\r\n");
        let plain = canonical(text_message(Some("8bit"), &body));
        prop_assert_eq!(plain, canonical(text_message(None, &body)));
        prop_assert_eq!(plain, canonical(text_message(Some("Quoted-Printable"), &quoted_printable(&body, soft))));
        prop_assert_eq!(plain, canonical(text_message(Some("base64"), &base64_lines(body.as_bytes(), width))));
        prop_assert_eq!(plain, canonical(text_message(Some("7bit"), &format!("{body}\r\n"))));
    }

    #[test]
    fn every_byte_of_a_body_matters(body in "[a-z \r\n]{1,200}", at in any::<prop::sample::Index>()) {
        let body = format!("{body}.");
        let mut changed = body.clone().into_bytes();
        let at = at.index(changed.len());
        changed[at] = b'#';
        let changed = String::from_utf8(changed).unwrap();
        for encoding in [None, Some("quoted-printable")] {
            prop_assert_ne!(canonical(text_message(encoding, &body)), canonical(text_message(encoding, &changed)));
        }
        let encode = |text: &str| text_message(Some("base64"), &base64_lines(text.as_bytes(), 76));
        prop_assert_ne!(canonical(encode(&body)), canonical(encode(&changed)));
    }

    #[test]
    fn every_byte_of_an_attachment_matters(
        bytes in prop::collection::vec(any::<u8>(), 1..300), at in any::<prop::sample::Index>(), width in 4_usize..80,
    ) {
        let text = "Content-Type: text/plain\r\n\r\nHello".to_owned();
        let message = |bytes: &[u8], width| multipart(&[text.clone(), attachment(bytes, width)]);
        let original = canonical(message(&bytes, 76));
        prop_assert_eq!(original, canonical(message(&bytes, width)), "how base64 is folded is transport");
        let mut changed = bytes.clone();
        let at = at.index(changed.len());
        changed[at] ^= 1;
        prop_assert_ne!(original, canonical(message(&changed, 76)));
        let mut longer = bytes.clone();
        longer.push(b'\n');
        prop_assert_ne!(original, canonical(message(&longer, 76)));
        let swapped = multipart(&[attachment(&bytes, 76), text.clone()]);
        prop_assert_ne!(original, canonical(swapped));
    }

    #[test]
    fn refolding_does_not_matter(words in prop::collection::vec("[!-9;-~]{1,12}", 2..20), folds in any::<u32>()) {
        let folded = words.iter().enumerate().fold(String::new(), |all, (n, word)| {
            let gap = if folds >> (n % 32) & 1 == 1 { "\r\n\t " } else { " " };
            format!("{all}{gap}{word}")
        });
        let plain = format!("References: {}\r\n\r\nx", words.join(" "));
        prop_assert_eq!(canonical(plain), canonical(format!("REFERENCES:{folded}\r\n\r\nx")));
    }
}

const PLAIN: &str =
    "Message-ID: <1@a.test>\r\nSubject: Hello\r\nDate: Mon, 01 Feb 2021 03:04:05 +0100\r\n\r\nBody\r\n";

#[test]
fn what_transport_adds_does_not_matter() {
    let original = identity(PLAIN);
    for added in [
        "Received: from a by b\r\n\t; Mon, 01 Feb 2021 03:04:06 +0100\r\n",
        "Return-Path: <a@a.test>\r\nDelivered-To: b@b.test\r\n",
        "Status: RO\r\nX-Status: A\r\nX-UID: 7\r\nX-Keywords: \r\n",
        "X-Mozilla-Status: 0001\r\nX-IMAPbase: 1 2\r\nX-UIDL: 77\r\n",
        "Content-Length: 6\r\nLines: 1\r\n",
        "From someone Mon Feb  1 03:04:05 2021\r\n",
    ] {
        let stamped = identity(format!("{added}{PLAIN}"));
        assert_eq!(stamped.canonical, original.canonical, "{added}");
        assert_ne!(stamped.exact, original.exact, "{added}");
    }
    for equal in ["Body", "Body\r\n\r\n\r\n", "Body\n"] {
        assert_eq!(canonical(PLAIN.replace("Body\r\n", equal)), original.canonical, "{equal:?}");
    }
    assert_eq!(canonical(PLAIN.replace("Hello", "=?utf-8?b?SGVsbG8=?=")), original.canonical);
}

#[test]
fn what_servers_alter_while_they_say_ok_does_not_matter() {
    let head = "Subject: x\r\n\r\n";
    for (sent, stored) in
        [("a\0b\r\n", &b"a\x80b\r\n"[..]), ("a\r\r\nb\r\n", b"a\r\nb\r\n"), ("a\r\nb\r", b"a\r\nb")]
    {
        let (sent, stored) =
            ([head.as_bytes(), sent.as_bytes()].concat(), [head.as_bytes(), stored].concat());
        assert_eq!(canonical(&sent), canonical(&stored), "{sent:?}");
        assert_ne!(identity(&sent).exact, identity(&stored).exact);
    }
    assert_ne!(canonical("a: b\r\n\r\na\rb"), canonical("a: b\r\n\r\nab"), "a CR inside a line is content");
}

#[test]
fn what_makes_another_message_matters() {
    let original = canonical(PLAIN);
    let others = [
        PLAIN.replace("Hello", "Hallo"),
        PLAIN.replace("Subject: Hello\r\n", ""),
        PLAIN.replace("Subject: Hello\r\n", "Subject: Hello\r\nSubject: Hello\r\n"),
        PLAIN.replace("\r\n\r\nBody", "\r\nBody: \r\n\r\n"),
        PLAIN.replace("Body", " Body"),
        PLAIN.replace("Body", "\r\nBody"),
        PLAIN.replace("1@a.test", "2@a.test"),
        PLAIN.replace("Body", "Bo\rdy"),
        format!("stray line\r\n{PLAIN}"),
    ];
    let mut digests: Vec<_> = others.iter().map(canonical).chain([original]).collect();
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), others.len() + 1);
}

#[test]
fn structure_is_part_of_the_message() {
    let text = |t: &str| format!("Content-Type: text/plain\r\n\r\n{t}");
    let joined =
        "Content-Type: text/plain\r\n\r\none\r\n--b2\r\nContent-Type: text/plain\r\n\r\ntwo".to_owned();
    let nested = format!(
        "Content-Type: multipart/alternative; boundary=b2\r\n\r\n--b2\r\n{}\r\n--b2\r\n{}\r\n--b2--\r\n",
        text("one"),
        text("two")
    );
    let messages = [
        multipart(&[text("one"), text("two")]),
        multipart(&[joined]),
        multipart(std::slice::from_ref(&nested)),
        multipart(&[nested.replace("--b2--\r\n", "")]),
        multipart(&[text("one"), text("two")]).replace("--b1--\r\n", ""),
        multipart(&[text("one"), text("two")]).replace("Preamble", "Another"),
        format!("{}Epilogue", multipart(&[text("one"), text("two")])),
        multipart(&[text("one"), text("two")]).replace("; ", ", "),
    ];
    let mut digests: Vec<_> = messages.iter().map(canonical).collect();
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), messages.len() - 1, "only the last one is the first again");
    let reencoded = nested.replace("\r\n\r\ntwo", "\r\nContent-Transfer-Encoding: base64\r\n\r\ndHdv");
    assert_eq!(
        canonical(multipart(&[nested])),
        canonical(multipart(&[reencoded])),
        "parts are decoded at any depth"
    );
}

#[test]
fn broken_base64_is_not_forgotten() {
    let message = |body: &str| canonical(text_message(Some("base64"), body));
    assert_ne!(message("QUJD"), message("QUJD!!"));
    assert_ne!(message("QU!JD"), message("QUJD!"), "where a stray byte lies is kept, to the three bytes");
    assert_ne!(message("QUJDQ"), message("QUJD"));
}

#[test]
fn what_reports_show_is_read_in_passing() {
    let seen = identity(format!(
        "Received: by new; Tue, 02 Feb 2021 00:00:00 +0000\r\nReceived: by old; Mon, 01 Feb 2021 00:00:00 +0000\r\n{PLAIN}"
    ));
    assert_eq!(seen.first_received.unwrap().to_string(), "02-Feb-2021 00:00:00 +0000");
    assert_eq!(identity(PLAIN).first_received.unwrap().to_string(), "01-Feb-2021 03:04:05 +0100");
    assert_eq!((seen.message_id.as_deref(), seen.subject.as_deref()), (Some("1@a.test"), Some("Hello")));
    let odd = identity("Subject: =?utf-8?q?=1B[31m?= \u{e4}\r\n\r\n");
    assert_eq!(odd.subject.as_deref(), Some("\\u{1b}[31m ä"));
    assert!(odd.hazards.has(Hazard::EightBitHeader));
    let long = identity(format!("Subject: {}\r\n\r\n", "ä".repeat(500)));
    assert!(long.subject.unwrap().len() <= 200);
    let empty = identity("");
    assert_eq!((empty.size, empty.subject, empty.hazards.iter().next()), (0, None, Some("empty")));
}

/// Nanoseconds for which this thread has had a processor. Wall-clock time would include the machine's other work.
fn processor_time() -> u64 {
    let counts = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    counts.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn hostile_shapes_take_linear_time() {
    type Shape = fn(usize) -> Vec<u8>;
    let shapes: [(&str, Shape); 8] = [
        ("one line", |n| [b"Subject: s\r\n\r\n".to_vec(), vec![b'x'; n]].concat()),
        ("one header line", |n| [b"Subject: ".to_vec(), vec![b'x'; n]].concat()),
        ("headers", |n| b"X-Field: some value of it\r\n".repeat(n / 27)),
        ("folds", |n| [b"X: y\r\n".to_vec(), b" y\r\n".repeat(n / 4)].concat()),
        ("words", |n| [b"Subject: ".to_vec(), b"=?utf-8?q?".repeat(n / 10)].concat()),
        ("gaps", |n| [b"Subject: =?utf-8?q?a?=".to_vec(), vec![b' '; n]].concat()),
        ("cr", |n| [b"\r\n".to_vec(), vec![b'\r'; n]].concat()),
        ("eols", |n| b"\r\n\r\n\r\n\r\n".repeat(n / 8)),
    ];
    let take = |bytes: &[u8], times: usize| {
        let begun = processor_time();
        for _ in 0..times {
            identity(bytes);
        }
        processor_time() - begun
    };
    for (name, shape) in shapes {
        // As many bytes in one piece as in ten: twice the time is the machine's, ten times would be the shape's. A machine
        // whose processor was somebody else's for a while is asked again.
        let (small, large) = (shape(400_000), shape(4_000_000));
        let compare = || (take(&small, 10), take(&large, 1));
        let is_linear = (0..3).map(|_| compare()).any(|(ten, one)| one < ten * 4);
        assert!(is_linear, "{name}: all in one piece takes far longer than in ten");
    }
}

#[test]
fn deep_multiparts_end_as_leaves() {
    let deep: String = (0..200).fold(String::new(), |all, n| {
        format!("{all}Content-Type: multipart/mixed; boundary=b{n}\r\n\r\n--b{n}\r\n")
    });
    assert_eq!(canonical(&deep), canonical(format!("{deep}\r\n")));
    assert_ne!(canonical(&deep), canonical(format!("{deep}x")));
}

#[test]
fn real_messages_have_stable_identities() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpora/messages");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("skipped: no corpus of real messages beside the repository");
        return;
    };
    let mut seen = 0;
    for entry in entries {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let whole = identity(&bytes);
        assert_eq!(identity_in_chunks(&bytes, &[7, 1, 64, 3]), whole, "{}", path.display());
        seen += 1;
        let first_word: &[u8] = bytes.split(u8::is_ascii_whitespace).next().unwrap();
        if !first_word.ends_with(b":") {
            // Text before the first field would become part of the stamp.
            continue;
        }
        let stamped =
            [b"Received: by x; Tue, 02 Feb 2021 00:00:00 +0000\r\nStatus: RO\r\n".to_vec(), bytes].concat();
        assert_eq!(identity(&stamped).canonical, whole.canonical, "{}", path.display());
    }
    assert!(seen > 300, "only {seen} messages in the corpus");
}
