//! The content of one leaf part: decoded by its transfer encoding, its line ends normalised where they are line ends, and
//! hashed, in constant memory.

use memchr::{memchr, memchr2};

use super::Digest;
use super::block::BlockHasher;

/// How a part's content is encoded for transport (RFC 2045 §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Encoding {
    /// 7bit, 8bit, binary, none, or one that nobody knows.
    #[default]
    Identity,
    /// RFC 2045 §6.8.
    Base64,
    /// RFC 2045 §6.7.
    QuotedPrintable,
}

/// Groups of base64 that are decoded at once; a line has 19.
const GROUPS_AT_ONCE: usize = 32;

/// The value of each byte of base64, as the first, second, third and last of a group of four.
const DIGITS: [[u32; 256]; 4] = digits();
/// Stands for a byte that is not a digit of base64: no group has this bit.
const NO_DIGIT: u32 = 1 << 24;

const fn digits() -> [[u32; 256]; 4] {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut tables = [[NO_DIGIT; 256]; 4];
    let mut value = 0;
    while value < 64 {
        let byte = ALPHABET[value as usize] as usize;
        tables[0][byte] = value << 18;
        tables[1][byte] = value << 12;
        tables[2][byte] = value << 6;
        tables[3][byte] = value;
        value += 1;
    }
    tables
}

/// White space that is held back because it is dropped if a quoted-printable line ends after it; more of it is content.
const HELD_SPACE_MAX: usize = 1024;

/// Takes the lines of a leaf and gives a digest of what they encode.
pub(super) struct Leaf {
    encoding: Encoding,
    content: Content,
    base64: Base64Group,
    quoted: QuotedState,
    held_space: Vec<u8>,
    /// The content of the piece of quoted-printable at hand; empty between pieces.
    decoded: Vec<u8>,
}

/// The part of an escape that quoted-printable decoding has seen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum QuotedState {
    Plain,
    /// `=`
    Equals,
    /// `=` and one hexadecimal digit.
    Digit(u8),
    /// `=` and white space: a soft line break if the line ends now.
    EqualsSpace,
}

#[derive(Default)]
struct Base64Group {
    bits: u32,
    count: u8,
}

impl Leaf {
    /// A leaf. `textual` content is made of lines: their ends are normalised after decoding, and those at its end do not
    /// matter. Other content that comes in base64 counts byte by byte.
    pub(super) fn new(encoding: Encoding, textual: bool) -> Self {
        Self {
            encoding,
            content: Content::new(textual || encoding != Encoding::Base64),
            base64: Base64Group::default(),
            quoted: QuotedState::Plain,
            held_space: Vec::new(),
            decoded: Vec::new(),
        }
    }

    /// Takes some of a line.
    pub(super) fn take(&mut self, piece: &[u8]) {
        match self.encoding {
            Encoding::Identity => self.content.push(piece),
            Encoding::Base64 => {
                let rest = if self.base64.count == 0 { self.take_whole_groups(piece) } else { piece };
                for byte in rest {
                    self.take_base64(*byte);
                }
            }
            Encoding::QuotedPrintable => self.take_quoted_text(piece),
        }
    }

    /// Decodes the groups of four with which a piece begins, as far as they are nothing but base64; what follows comes
    /// back.
    fn take_whole_groups<'a>(&mut self, piece: &'a [u8]) -> &'a [u8] {
        let mut decoded = [0; 3 * GROUPS_AT_ONCE];
        let mut rest = piece;
        loop {
            let mut groups = 0;
            for (group, bytes) in rest.chunks_exact(4).zip(decoded.chunks_exact_mut(3)) {
                let bits = DIGITS[0][usize::from(group[0])]
                    | DIGITS[1][usize::from(group[1])]
                    | DIGITS[2][usize::from(group[2])]
                    | DIGITS[3][usize::from(group[3])];
                if bits >= NO_DIGIT {
                    break;
                }
                bytes.copy_from_slice(&bits.to_be_bytes()[1..]);
                groups += 1;
            }
            self.content.push(&decoded[..3 * groups]);
            rest = &rest[4 * groups..];
            if groups < GROUPS_AT_ONCE {
                return rest;
            }
        }
    }

    /// Text between escapes is the bulk and goes on in one piece, but for the white space at its end.
    fn take_quoted_text(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            if self.quoted != QuotedState::Plain {
                self.take_quoted(piece[0]);
                piece = &piece[1..];
                continue;
            }
            let run = memchr(b'=', piece).unwrap_or(piece.len());
            let text =
                piece[..run].iter().rposition(|b| !matches!(b, b' ' | b'\t')).map_or(0, |last| last + 1);
            if text > 0 {
                self.release_space();
                self.decoded.extend_from_slice(&piece[..text]);
            }
            for space in &piece[text..run] {
                self.hold_space(*space);
            }
            piece = match &piece[run..] {
                [b'=', first, second, rest @ ..]
                    if first.is_ascii_hexdigit() && second.is_ascii_hexdigit() =>
                {
                    self.release_space();
                    self.decoded.push(hex_value(*first) << 4 | hex_value(*second));
                    rest
                }
                [equals, rest @ ..] => {
                    self.take_quoted(*equals);
                    rest
                }
                [] => break,
            };
        }
        self.content.push(&self.decoded);
        self.decoded.clear();
    }

    /// Whether [`Self::take_lines`] may be asked: what the lines are made of does not matter, only where they end.
    pub(super) fn takes_lines(&self) -> bool {
        self.encoding == Encoding::Identity && self.content.in_lines
    }

    /// Takes whole lines at once, with their ends. Each ends in CRLF, and no other CR or LF is among them.
    pub(super) fn take_lines(&mut self, lines: &[u8]) {
        self.content.push_whole_lines(lines);
    }

    /// The line ends.
    pub(super) fn end_line(&mut self) {
        match self.encoding {
            Encoding::Identity => self.content.end_line(),
            Encoding::Base64 => {}
            Encoding::QuotedPrintable => {
                let soft = matches!(self.quoted, QuotedState::Equals | QuotedState::EqualsSpace);
                if let QuotedState::Digit(digit) = self.quoted {
                    self.content.push(&[b'=', digit]);
                }
                self.quoted = QuotedState::Plain;
                // RFC 2045 §6.7 (3): white space at the end of a line was added in transport.
                self.held_space.clear();
                if !soft {
                    self.content.end_line();
                }
            }
        }
    }

    /// The digest of the content, and of what could not be decoded, if there was such.
    pub(super) fn finish(mut self) -> (Digest, Option<Digest>) {
        if self.base64.count == 1 {
            // Six bits are not a byte: they cannot be content, but they must not be forgotten either.
            self.content.keep_stray(b'6');
            self.content.keep_stray(self.base64.bits.to_le_bytes()[0]);
        }
        self.end_base64_group();
        self.content.finish()
    }

    fn take_base64(&mut self, byte: u8) {
        let digit = match byte {
            _ if DIGITS[3][usize::from(byte)] != NO_DIGIT => DIGITS[3][usize::from(byte)],
            b'=' => {
                if self.base64.count > 1 {
                    self.end_base64_group();
                }
                return;
            }
            b' ' | b'\t' | b'\r' => return,
            _ => return self.content.keep_stray(byte),
        };
        self.base64.bits = self.base64.bits << 6 | digit;
        self.base64.count += 1;
        if self.base64.count == 4 {
            let [_, bytes @ ..] = self.base64.bits.to_be_bytes();
            self.content.push(&bytes);
            self.base64 = Base64Group::default();
        }
    }

    fn end_base64_group(&mut self) {
        let Base64Group { bits, count } = std::mem::take(&mut self.base64);
        match count {
            2 => self.content.push(&[(bits >> 4 & 0xff) as u8]),
            3 => self.content.push(&[(bits >> 10 & 0xff) as u8, (bits >> 2 & 0xff) as u8]),
            _ => {}
        }
    }

    fn take_quoted(&mut self, byte: u8) {
        match (self.quoted, byte) {
            (QuotedState::Plain, b'=') => {
                self.release_space();
                self.quoted = QuotedState::Equals;
            }
            (QuotedState::Plain, b' ' | b'\t') => self.hold_space(byte),
            (QuotedState::Plain, _) => {
                self.release_space();
                self.decoded.push(byte);
            }
            (QuotedState::Equals, _) if byte.is_ascii_hexdigit() => self.quoted = QuotedState::Digit(byte),
            (QuotedState::Equals | QuotedState::EqualsSpace, b' ' | b'\t') => {
                self.quoted = QuotedState::EqualsSpace;
                self.hold_space(byte);
            }
            (QuotedState::Digit(first), _) if byte.is_ascii_hexdigit() => {
                self.decoded.push(hex_value(first) << 4 | hex_value(byte));
                self.quoted = QuotedState::Plain;
            }
            // Not an escape after all: what looked like one is content.
            (QuotedState::Equals | QuotedState::EqualsSpace, _) => {
                self.decoded.push(b'=');
                self.quoted = QuotedState::Plain;
                self.take_quoted(byte);
            }
            (QuotedState::Digit(first), _) => {
                self.decoded.extend_from_slice(&[b'=', first]);
                self.quoted = QuotedState::Plain;
                self.take_quoted(byte);
            }
        }
    }

    fn hold_space(&mut self, byte: u8) {
        if self.held_space.len() == HELD_SPACE_MAX {
            if self.quoted == QuotedState::EqualsSpace {
                self.decoded.push(b'=');
                self.quoted = QuotedState::Plain;
            }
            self.release_space();
        }
        self.held_space.push(byte);
    }

    fn release_space(&mut self) {
        self.decoded.extend_from_slice(&self.held_space);
        self.held_space.clear();
    }
}

fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

/// Hashes decoded content.
struct Content {
    hasher: BlockHasher,
    /// Bytes pushed so far; the place of a stray byte.
    pushed: u64,
    in_lines: bool,
    /// Line ends that count only if something follows them.
    eols: u64,
    held_cr: bool,
    strays: Option<BlockHasher>,
}

impl Content {
    fn new(in_lines: bool) -> Self {
        Self { hasher: BlockHasher::default(), pushed: 0, in_lines, eols: 0, held_cr: false, strays: None }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.pushed += bytes.len() as u64;
        if self.in_lines { self.push_lines(bytes) } else { self.hash(bytes) }
    }

    /// Pushes CRLF.
    fn end_line(&mut self) {
        if !self.in_lines {
            return self.push(b"\r\n");
        }
        self.pushed += 2;
        self.release_cr();
        self.eols += 1;
    }

    fn push_lines(&mut self, mut bytes: &[u8]) {
        while let Some(first) = bytes.first() {
            match first {
                b'\r' => {
                    self.release_cr();
                    self.held_cr = true;
                    bytes = &bytes[1..];
                }
                b'\n' => {
                    self.held_cr = false;
                    self.eols += 1;
                    bytes = &bytes[1..];
                }
                _ => {
                    self.release_cr();
                    self.release_eols();
                    let run = memchr2(b'\r', b'\n', bytes).unwrap_or(bytes.len());
                    self.hash(&bytes[..run]);
                    bytes = &bytes[run..];
                }
            }
        }
    }

    /// Pushes lines with their ends, which need no other form.
    fn push_whole_lines(&mut self, lines: &[u8]) {
        self.pushed += lines.len() as u64;
        self.release_cr();
        let mut content = lines;
        let mut eols = 0;
        while let Some(before) = content.strip_suffix(b"\r\n") {
            content = before;
            eols += 1;
        }
        if !content.is_empty() {
            self.release_eols();
            self.hash(content);
        }
        self.eols += eols;
    }

    fn release_cr(&mut self) {
        if std::mem::take(&mut self.held_cr) {
            self.release_eols();
            self.hash(b"\r");
        }
    }

    fn release_eols(&mut self) {
        for _ in 0..std::mem::take(&mut self.eols) {
            self.hash(b"\r\n");
        }
    }

    fn hash(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    /// Keeps a byte that is not content together with its place, so that two broken messages do not become one.
    fn keep_stray(&mut self, byte: u8) {
        let strays = self.strays.get_or_insert_default();
        strays.update(&self.pushed.to_le_bytes());
        strays.update(&[byte]);
    }

    fn finish(mut self) -> (Digest, Option<Digest>) {
        self.release_cr();
        (self.hasher.finish(), self.strays.as_ref().map(BlockHasher::finish))
    }
}
