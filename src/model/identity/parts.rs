//! Walks a message's parts line by line and hashes its canonical form.
//!
//! The canonical form is a sequence of items, each a tag byte followed by length-prefixed or fixed-size data, so that no
//! two different sequences are the same bytes:
//!
//! ```text
//! message   := fields body
//! fields    := (H name value | X name digest | J stray-line)* B       X: a field over 64 KiB; J: a line, not a field
//! body      := leaf | M preamble (N fields body)* (C epilogue | U)     U: the closing boundary is missing
//! leaf, preamble, epilogue := L digest | G digest digest               G: some of it could not be decoded
//! ```
//!
//! A second digest, of the letter, is of the body in that form and of what its sender wrote about it: From, Date and
//! Subject. Other fields of the header may have been added, left out or put into another order.
//!
//! A message inside a message (`message/rfc822`) is a leaf: whoever re-encodes mail does not touch it.

use super::block::BlockHasher;
use super::fields::{Body, Field, GrowingField, Level, read_content_type, read_date};
use super::leaf::{Encoding, Leaf};
use super::outline::Outline;
use super::rewritten::Rewritten;
use super::{Digest, LineSink, WHOLE_LINE_MAX};
use crate::model::message::InternalDate;
use crate::model::text::{cut, printable_bytes};

/// How deep multiparts may nest; a deeper one is a leaf.
const DEPTH_MAX: usize = 32;

/// The findings of the walk.
pub(super) struct Walked {
    pub(super) canonical: Digest,
    pub(super) letter: Option<Digest>,
    pub(super) rewritten: Vec<Digest>,
    pub(super) message_id: Option<String>,
    pub(super) subject: Option<String>,
    pub(super) received: Option<InternalDate>,
    pub(super) sent: Option<InternalDate>,
    pub(super) eight_bit_header: bool,
    pub(super) asks_receipt: bool,
    pub(super) outline: Outline,
}

/// Walks the parts of one message.
pub(super) struct PartWalker {
    out: BlockHasher,
    /// As `out`, of the body alone.
    body: BlockHasher,
    /// As `out`, of what destinations make of the header that replace letters beyond ASCII.
    rewritten: Rewritten,
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
        Self {
            out: BlockHasher::beginning_with(b"mailferry canonical message 1\n"),
            body: BlockHasher::default(),
            rewritten: Rewritten::default(),
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
                rewritten: Vec::new(),
                message_id: None,
                subject: None,
                received: None,
                sent: None,
                eight_bit_header: false,
                asks_receipt: false,
                outline: Outline::default(),
            },
        }
    }

    pub(super) fn finish(mut self) -> Walked {
        self.end_content();
        for _ in 0..self.boundaries.len() {
            self.mark(b"U");
        }
        self.walked.canonical = self.out.finish();
        let body = self.body.finish();
        self.walked.letter = self.letter(&body);
        self.walked.rewritten = std::mem::take(&mut self.rewritten).finish();
        self.walked.outline.body(&body);
        self.walked
    }

    /// The digest of the letter; `None` of one without a Message-ID and a date, which many others may be like.
    fn letter(&self, body: &Digest) -> Option<Digest> {
        let [_, date, _] = &self.written;
        if self.walked.message_id.is_none() && date.is_none() {
            return None;
        }
        let mut letter = BlockHasher::beginning_with(b"mailferry letter 1\n");
        for text in &self.written {
            match text {
                Some(text) => {
                    letter.update(b"H");
                    letter.update(&(text.len() as u64).to_le_bytes());
                    letter.update(text);
                }
                None => letter.update(b"N"),
            }
        }
        letter.update(&body.0);
        Some(letter.finish())
    }

    /// Takes bytes that are of the body.
    fn mark(&mut self, bytes: &[u8]) {
        self.out.update(bytes);
        self.body.update(bytes);
        self.rewritten.update(bytes);
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
        let level = self.level;
        if level == Level::Message {
            self.walked.outline.field(self.field.raw());
        }
        let replaced =
            (level == Level::Message && !self.field.raw().is_ascii()).then(|| self.field.raw().to_vec());
        let field = self.field.take();
        if let Field::Canonical(name, value) = &field {
            self.note(name, value);
        }
        match replaced {
            Some(_) if matches!(field, Field::Overlong(..)) => self.rewritten.lose(),
            Some(raw) => {
                self.rewritten.begin(&self.out);
                self.rewritten.field(&raw, |form, raw| item(form, &Field::of(raw), (level, first)));
            }
            None => self.rewritten.each(|form| item(form, &field, (level, first))),
        }
        item(&mut self.out, &field, (level, first));
        if level == Level::Part {
            item(&mut self.body, &field, (level, first));
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

    fn outline_content(&mut self, bytes: &[u8]) {
        if self.level == Level::Part || matches!(self.state, State::Content(_)) {
            self.walked.outline.content(bytes.len());
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
            self.walked.outline.content(content.len());
            self.cross(&crossing);
            return;
        }
        self.outline_content(content);
        match &mut self.state {
            State::Header => self.header_line(content),
            State::Content(leaf) => {
                leaf.take(content);
                leaf.end_line();
            }
        }
    }

    fn lines(&mut self, bytes: &[u8], mut start: usize, ends: &[usize]) {
        let mut ends = ends.iter().copied().peekable();
        while ends.peek().is_some() {
            if let State::Content(leaf) = &mut self.state
                && leaf.takes_lines()
            {
                let (begin, mut taken) = (start, 0);
                let may_cross = |line: &[u8]| !self.boundaries.is_empty() && line.starts_with(b"--");
                while let Some(end) = ends.next_if(|_| !may_cross(&bytes[start..])) {
                    start = end + 1;
                    taken += 1;
                }
                let lines = &bytes[begin..start];
                leaf.take_lines(lines);
                self.walked.outline.content(lines.len() - 2 * taken);
            }
            let Some(end) = ends.next() else { return };
            match bytes[start..end - 1].split_at_checked(WHOLE_LINE_MAX) {
                Some((head, rest)) if !rest.is_empty() => {
                    self.begin_long_line(head);
                    self.continue_long_line(rest);
                    self.end_long_line();
                }
                _ => self.line(&bytes[start..end - 1]),
            }
            start = end + 1;
        }
    }

    fn begin_long_line(&mut self, head: &[u8]) {
        self.outline_content(head);
        match &mut self.state {
            State::Header => self.header_line(head),
            State::Content(leaf) => leaf.take(head),
        }
    }

    fn continue_long_line(&mut self, piece: &[u8]) {
        self.outline_content(piece);
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

/// Hashes a field, unless it is one that transport may have changed.
fn item(hasher: &mut BlockHasher, field: &Field, (level, first): (Level, bool)) {
    let mut put = |tag: u8, texts: &[&[u8]]| {
        hasher.update(&[tag]);
        for text in texts {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text);
        }
    };
    match field {
        field if field.is_transport(level) => {}
        Field::Canonical(name, value) => put(b'H', &[name.as_bytes(), value]),
        Field::Overlong(name, digest) => put(b'X', &[name.as_bytes(), &digest.0]),
        // The envelope line of an mbox file is not the message's, but some servers hand it out.
        Field::Stray(line) if first && is_mbox_envelope(line) => {}
        Field::Stray(line) => put(b'J', &[line]),
    }
}

fn is_mbox_envelope(line: &[u8]) -> bool {
    line.starts_with(b"From ") || line.starts_with(b">From ")
}
