//! Walks a message's parts line by line and hashes its canonical form.
//!
//! The canonical form is a sequence of items, each a tag byte followed by length-prefixed or fixed-size data, so that no
//! two different sequences are the same bytes:
//!
//! ```text
//! message   := fields body
//! fields    := (H name value | X name digest | J stray-line)* B       X: a field over 64 KiB; J: a line that is no field
//! body      := leaf | M preamble (N fields body)* (C epilogue | U)     U: the closing boundary is missing
//! leaf, preamble, epilogue := L digest | G digest digest               G: some of it could not be decoded
//! ```
//!
//! A second digest, of the letter, is of the body in that form and of what its sender wrote about it: From, Date and Subject.
//! Whatever else stands in the header may have been added, left out or put into another order.
//!
//! A message inside a message (`message/rfc822`) is a leaf: whoever re-encodes mail does not touch it.

use super::Digest;
use super::LineSink;
use super::fields::{Body, Field, GrowingField, Level, read_content_type, read_date};
use super::leaf::{Encoding, Leaf};
use crate::model::message::InternalDate;
use crate::model::text::{cut, printable_bytes};

/// How deep multiparts may nest; a deeper one is a leaf.
const DEPTH_MAX: usize = 32;

/// The findings of the walk.
pub(super) struct Walked {
    pub(super) canonical: Digest,
    pub(super) letter: Option<Digest>,
    pub(super) message_id: Option<String>,
    pub(super) subject: Option<String>,
    pub(super) received: Option<InternalDate>,
    pub(super) sent: Option<InternalDate>,
    pub(super) eight_bit_header: bool,
    pub(super) asks_receipt: bool,
}

/// Walks the parts of one message.
pub(super) struct PartWalker {
    out: blake3::Hasher,
    /// As `out`, of the body alone.
    body: blake3::Hasher,
    /// From, Date and Subject in canonical form.
    written: [Option<Vec<u8>>; 3],
    /// Boundaries of the multiparts that are open, outermost first.
    boundaries: Vec<Vec<u8>>,
    state: State,
    level: Level,
    field: GrowingField,
    encoding: Encoding,
    content_type: Option<Vec<u8>>,
    /// Whether the field that is open began with the message's first line.
    first: bool,
    walked: Walked,
}

enum State {
    Header,
    Content(Box<Leaf>),
}

/// A boundary line: which open multipart it belongs to, and whether it ends it.
struct Crossing {
    depth: usize,
    closes: bool,
}

impl PartWalker {
    pub(super) fn new() -> Self {
        let mut out = blake3::Hasher::new();
        out.update(b"mailferry canonical message 1\n");
        Self {
            out,
            body: blake3::Hasher::new(),
            written: [None, None, None],
            boundaries: Vec::new(),
            state: State::Header,
            level: Level::Message,
            field: GrowingField::default(),
            encoding: Encoding::default(),
            content_type: None,
            first: true,
            walked: Walked {
                canonical: Digest([0; 32]),
                letter: None,
                message_id: None,
                subject: None,
                received: None,
                sent: None,
                eight_bit_header: false,
                asks_receipt: false,
            },
        }
    }

    pub(super) fn finish(mut self) -> Walked {
        self.end_content();
        for _ in 0..self.boundaries.len() {
            self.mark(b"U");
        }
        self.walked.canonical = Digest(*self.out.finalize().as_bytes());
        self.walked.letter = self.letter();
        self.walked
    }

    /// The digest of the letter; `None` of one without a Message-ID and a date, which many others may be like.
    fn letter(&self) -> Option<Digest> {
        let [_, date, _] = &self.written;
        if self.walked.message_id.is_none() && date.is_none() {
            return None;
        }
        let mut letter = blake3::Hasher::new();
        letter.update(b"mailferry letter 1\n");
        for text in &self.written {
            match text {
                Some(text) => letter.update(b"H").update(&(text.len() as u64).to_le_bytes()).update(text),
                None => letter.update(b"N"),
            };
        }
        letter.update(self.body.finalize().as_bytes());
        Some(Digest(*letter.finalize().as_bytes()))
    }

    /// Takes bytes that are of the body.
    fn mark(&mut self, bytes: &[u8]) {
        self.out.update(bytes);
        self.body.update(bytes);
    }

    fn header_line(&mut self, line: &[u8]) {
        if line.is_empty() {
            self.end_header();
            return;
        }
        let continues = matches!(line[0], b' ' | b'\t') && !self.field.is_empty();
        if !continues {
            self.end_field();
        }
        self.header_bytes(line);
    }

    fn header_bytes(&mut self, bytes: &[u8]) {
        if self.level == Level::Message && !bytes.is_ascii() {
            self.walked.eight_bit_header = true;
        }
        self.field.push(bytes);
    }

    fn end_field(&mut self) {
        if self.field.is_empty() {
            return;
        }
        let first = std::mem::take(&mut self.first);
        let field = self.field.take();
        if let Field::Canonical(name, value) = &field {
            self.note(name, value);
        }
        if field.is_transport(self.level) {
            return;
        }
        match &field {
            Field::Canonical(name, value) => self.item(b'H', &[name.as_bytes(), value]),
            Field::Overlong(name, digest) => self.item(b'X', &[name.as_bytes(), &digest.0]),
            // The envelope line of an mbox file is not the message's, but some servers hand it out.
            Field::Stray(line) if first && is_mbox_envelope(line) => {}
            Field::Stray(line) => self.item(b'J', &[line]),
        }
    }

    fn item(&mut self, tag: u8, texts: &[&[u8]]) {
        let is_part = self.level == Level::Part;
        for hasher in [Some(&mut self.out), Some(&mut self.body).filter(|_| is_part)].into_iter().flatten() {
            hasher.update(&[tag]);
            for text in texts {
                hasher.update(&(text.len() as u64).to_le_bytes());
                hasher.update(text);
            }
        }
    }

    /// Keeps what is needed of a field, whether it is hashed or not.
    fn note(&mut self, name: &str, value: &[u8]) {
        if self.level == Level::Message
            && let Some(at) = ["from", "date", "subject"].iter().position(|written| *written == name)
        {
            self.written[at].get_or_insert_with(|| value.to_vec());
        }
        match name {
            "content-type" if self.content_type.is_none() => self.content_type = Some(value.to_vec()),
            "content-transfer-encoding" => {
                self.encoding = match value.to_ascii_lowercase().as_slice() {
                    b"base64" => Encoding::Base64,
                    b"quoted-printable" => Encoding::QuotedPrintable,
                    _ => Encoding::Identity,
                };
            }
            _ if self.level == Level::Part => {}
            "message-id" if self.walked.message_id.is_none() => {
                let id =
                    value.split(|b| *b == b'<').nth(1).and_then(|rest| rest.split(|b| *b == b'>').next());
                let id = id.unwrap_or(value).trim_ascii();
                self.walked.message_id = (!id.is_empty()).then(|| cut(&printable_bytes(id), 1000));
            }
            "subject" if self.walked.subject.is_none() => {
                self.walked.subject = (!value.is_empty()).then(|| cut(&printable_bytes(value), 200));
            }
            "received" if self.walked.received.is_none() => self.walked.received = read_date(value),
            "disposition-notification-to" | "x-confirm-reading-to" => {
                self.walked.asks_receipt |= !value.is_empty();
            }
            "date" if self.walked.sent.is_none() => self.walked.sent = read_date(value),
            _ => {}
        }
    }

    fn end_header(&mut self) {
        self.end_field();
        self.mark(b"B");
        let encoding = std::mem::take(&mut self.encoding);
        let content_type = self.content_type.take();
        let leaf = match read_content_type(content_type.as_deref()) {
            Body::Multipart(boundary) if self.boundaries.len() < DEPTH_MAX => {
                self.mark(b"M");
                self.boundaries.push(boundary);
                Leaf::new(Encoding::Identity, true)
            }
            Body::Multipart(_) | Body::Text => Leaf::new(encoding, true),
            Body::Bytes => Leaf::new(encoding, false),
        };
        self.state = State::Content(Box::new(leaf));
    }

    /// Ends the header or the leaf that is open.
    fn end_content(&mut self) {
        if matches!(self.state, State::Header) {
            self.end_header();
        }
        if let State::Content(leaf) = std::mem::replace(&mut self.state, State::Header) {
            match leaf.finish() {
                (content, None) => self.mark(&[&b"L"[..], &content.0].concat()),
                (content, Some(strays)) => self.mark(&[&b"G"[..], &content.0, &strays.0].concat()),
            }
        }
    }

    fn crossing(&self, line: &[u8]) -> Option<Crossing> {
        if self.boundaries.is_empty() {
            return None;
        }
        let text = line.strip_prefix(b"--")?.trim_ascii_end();
        self.boundaries.iter().enumerate().rev().find_map(|(depth, boundary)| {
            match text.strip_prefix(boundary.as_slice())? {
                b"" => Some(Crossing { depth, closes: false }),
                b"--" => Some(Crossing { depth, closes: true }),
                _ => None,
            }
        })
    }

    fn cross(&mut self, crossing: &Crossing) {
        // A boundary in the middle of a header ends it: a part with no body.
        self.end_content();
        for _ in crossing.depth + 1..self.boundaries.len() {
            self.mark(b"U");
        }
        self.boundaries.truncate(crossing.depth + 1);
        if crossing.closes {
            self.mark(b"C");
            self.boundaries.pop();
            self.state = State::Content(Box::new(Leaf::new(Encoding::Identity, true)));
        } else {
            self.mark(b"N");
            self.level = Level::Part;
            self.state = State::Header;
        }
    }
}

impl LineSink for PartWalker {
    fn line(&mut self, content: &[u8]) {
        if let Some(crossing) = self.crossing(content) {
            self.cross(&crossing);
            return;
        }
        match &mut self.state {
            State::Header => self.header_line(content),
            State::Content(leaf) => {
                leaf.take(content);
                leaf.end_line();
            }
        }
    }

    fn begin_long_line(&mut self, head: &[u8]) {
        match &mut self.state {
            State::Header => self.header_line(head),
            State::Content(leaf) => leaf.take(head),
        }
    }

    fn continue_long_line(&mut self, piece: &[u8]) {
        match &mut self.state {
            State::Header => self.header_bytes(piece),
            State::Content(leaf) => leaf.take(piece),
        }
    }

    fn end_long_line(&mut self) {
        if let State::Content(leaf) = &mut self.state {
            leaf.end_line();
        }
    }
}

fn is_mbox_envelope(line: &[u8]) -> bool {
    line.starts_with(b"From ") || line.starts_with(b">From ")
}
