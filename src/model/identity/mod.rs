//! The identity of a message, whatever protocol it came by: the exact and the canonical digest, and what was noticed in passing.
//!
//! An [`IdentityHasher`] sees the bytes once, in chunks of any size, and keeps less than 1 MiB whatever passes. `exact`
//! says that two copies are the same bytes; `canonical` says that they are the same message although servers stamped,
//! refolded or re-encoded it on its way. How the canonical form is made is told in [`fields`] (headers) and [`parts`]
//! (bodies).

mod block;
mod fields;
mod hazards;
mod leaf;
mod outline;
mod parts;
mod rewritten;

use std::fmt;
use std::sync::Arc;

use memchr::{memchr, memchr_iter};
use serde::{Deserialize, Serialize};

use self::block::BlockHasher;
use self::hazards::HazardWatch;
pub use self::hazards::{Hazard, Hazards};
pub use self::outline::{BodyChange, Changes, Outline};
use self::parts::PartWalker;
use super::message::InternalDate;

/// A BLAKE3 digest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(pub [u8; 32]);

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = blake3::HexError;

    fn try_from(hex: String) -> Result<Self, Self::Error> {
        Ok(Self(*blake3::Hash::from_hex(hex)?.as_bytes()))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(blake3::Hash::from_bytes(self.0).to_hex().as_str())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// All that is known of a message once its bytes have passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Digest of the bytes with every bare LF brought to CRLF and nothing else touched.
    pub exact: Digest,
    /// Digest of the message without what transport changes.
    pub canonical: Digest,
    /// Digest of its body and of From, Date and Subject: what is left of it where header lines were added, left out or put
    /// into another order. `None` without a Message-ID and a date. Two different messages may have the same.
    pub letter: Option<Digest>,
    /// As `canonical`, of what destinations make of it that replace letters beyond ASCII in a message's own header; none of a
    /// message without.
    pub rewritten: Vec<Digest>,
    /// Raw bytes that were fed.
    pub size: u64,
    /// Line feeds without a carriage return.
    pub bare_ends: u64,
    /// The Message-ID without its angle brackets, printable, at most 1,000 bytes.
    pub message_id: Option<String>,
    /// The Subject, decoded (RFC 2047) and printable, at most 200 bytes.
    pub subject: Option<String>,
    /// The date of the topmost Received header that has one, which is the newest hop, else the Date header. It replaces
    /// the arrival date where a protocol tells none.
    pub first_received: Option<InternalDate>,
    /// Traits that some servers are known to alter.
    pub hazards: Hazards,
    /// Whether the sender asks to be told when it is read (Disposition-Notification-To, RFC 8098 §2.1).
    pub asks_receipt: bool,
    /// The message in the small.
    pub outline: Arc<Outline>,
}

/// Computes an [`Identity`] while the bytes pass. How they are cut into chunks does not change the result.
pub struct IdentityHasher {
    size: u64,
    exact: ExactHasher,
    hazards: HazardWatch,
    lines: LineCutter,
    parts: PartWalker,
    /// Where lines end in the bytes at hand.
    ends: Vec<usize>,
}

impl Default for IdentityHasher {
    fn default() -> Self {
        Self::new()
    }
}

impl IdentityHasher {
    /// A hasher that has seen nothing.
    pub fn new() -> Self {
        Self {
            size: 0,
            exact: ExactHasher::default(),
            hazards: HazardWatch::default(),
            lines: LineCutter::default(),
            parts: PartWalker::new(),
            ends: Vec::new(),
        }
    }

    /// Takes the next bytes of the message.
    pub fn update(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        if self.find_ends(bytes) {
            self.exact.update_lines(bytes);
            self.hazards.update_lines(bytes, &self.ends);
            self.lines.update_lines(bytes, &self.ends, &mut self.parts);
            return;
        }
        self.exact.update(bytes);
        self.hazards.update(bytes);
        if memchr(0, bytes).is_some() {
            // Dovecot stores 0x80 in place of NUL; that must not make another message of it.
            let stored: Vec<u8> = bytes.iter().map(|b| if *b == 0 { 0x80 } else { *b }).collect();
            self.lines.update(&stored, &mut self.parts);
        } else {
            self.lines.update(bytes, &mut self.parts);
        }
    }

    /// Finds where lines end. False where anything but CRLF ends them, or may, or there is a NUL: then each byte counts. Nearly
    /// all that comes is tidy, and is looked through once.
    fn find_ends(&mut self, bytes: &[u8]) -> bool {
        self.ends.clear();
        if self.hazards.is_after_cr() || memchr(0, bytes).is_some() {
            return false;
        }
        for at in memchr_iter(b'\n', bytes) {
            if !bytes[..at].ends_with(b"\r") {
                return false;
            }
            self.ends.push(at);
        }
        memchr_iter(b'\r', bytes).count() == self.ends.len()
    }

    /// Says what the message was.
    pub fn finish(mut self) -> Identity {
        self.lines.finish(&mut self.parts);
        let walked = self.parts.finish();
        let mut hazards = self.hazards.finish();
        if walked.eight_bit_header {
            hazards.insert(Hazard::EightBitHeader);
        }
        Identity {
            exact: self.exact.hasher.finish(),
            canonical: walked.canonical,
            letter: walked.letter,
            rewritten: walked.rewritten,
            size: self.size,
            bare_ends: self.exact.bare_ends,
            message_id: walked.message_id,
            subject: walked.subject,
            first_received: walked.received.or(walked.sent),
            hazards,
            asks_receipt: walked.asks_receipt,
            outline: Arc::new(walked.outline),
        }
    }
}

/// Hashes bytes with bare LF brought to CRLF.
#[derive(Default)]
struct ExactHasher {
    hasher: BlockHasher,
    after_cr: bool,
    bare_ends: u64,
}

impl ExactHasher {
    fn update(&mut self, bytes: &[u8]) {
        let mut start = 0;
        for at in memchr_iter(b'\n', bytes) {
            let after_cr = if at == 0 { self.after_cr } else { bytes[at - 1] == b'\r' };
            if !after_cr {
                self.bare_ends += 1;
                self.hasher.update(&bytes[start..at]);
                self.hasher.update(b"\r\n");
                start = at + 1;
            }
        }
        self.hasher.update(&bytes[start..]);
        if let Some(last) = bytes.last() {
            self.after_cr = *last == b'\r';
        }
    }

    /// As [`Self::update`], of bytes in which only CRLF ends lines.
    fn update_lines(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.after_cr &= bytes.is_empty();
    }
}

/// A line up to this long, in bytes without its end, is handed on whole; no header name, blank line or multipart boundary
/// that means anything is longer. A longer line is handed on in pieces, the first of exactly this length.
const WHOLE_LINE_MAX: usize = 2048;

/// The taker of the lines that a [`LineCutter`] cuts, without their ends.
trait LineSink {
    /// A whole line of at most [`WHOLE_LINE_MAX`] bytes.
    fn line(&mut self, content: &[u8]);
    /// Whole lines of any length from `start` on, each of which ends in a CRLF whose LF is at one of `ends`.
    fn lines(&mut self, bytes: &[u8], start: usize, ends: &[usize]);
    /// The first [`WHOLE_LINE_MAX`] bytes of a longer line.
    fn begin_long_line(&mut self, head: &[u8]);
    /// More of a long line.
    fn continue_long_line(&mut self, piece: &[u8]);
    /// The long line ends.
    fn end_long_line(&mut self);
}

/// Cuts bytes into lines that end in LF, CRLF or CRCRLF; a final line without an end, or with CR alone, is a line too.
/// Servers that say OK and store CRLF for CRCRLF, or drop a last CR, must not make another message of it.
#[derive(Default)]
struct LineCutter {
    head: Vec<u8>,
    in_long_line: bool,
    /// CRs that belong to the line end if LF or nothing follows, and to the line otherwise.
    held_crs: usize,
}

impl LineCutter {
    fn update(&mut self, mut bytes: &[u8], sink: &mut impl LineSink) {
        while let Some(end) = memchr(b'\n', bytes) {
            let segment = &bytes[..end];
            bytes = &bytes[end + 1..];
            let whole = self.head.is_empty() && !self.in_long_line && self.held_crs == 0;
            let content = trim_crs(segment);
            if whole && content.len() <= WHOLE_LINE_MAX {
                sink.line(content);
            } else {
                self.take(segment, sink);
                self.end_line(sink);
            }
        }
        self.take(bytes, sink);
    }

    /// As [`Self::update`], of bytes in which only CRLF ends lines, and whose LFs are at `ends`.
    fn update_lines(&mut self, bytes: &[u8], ends: &[usize], sink: &mut impl LineSink) {
        let mut start = 0;
        let mut ends = ends;
        if (!self.head.is_empty() || self.in_long_line)
            && let Some((first, others)) = ends.split_first()
        {
            self.take(&bytes[..first - 1], sink);
            self.end_line(sink);
            start = first + 1;
            ends = others;
        }
        sink.lines(bytes, start, ends);
        self.take(&bytes[ends.last().map_or(start, |last| last + 1)..], sink);
    }

    fn take(&mut self, segment: &[u8], sink: &mut impl LineSink) {
        if segment.is_empty() {
            return;
        }
        let content = trim_crs(segment);
        if !content.is_empty() {
            for _ in 0..std::mem::take(&mut self.held_crs) {
                self.append(b"\r", sink);
            }
            self.append(content, sink);
        }
        self.held_crs += segment.len() - content.len();
    }

    fn append(&mut self, content: &[u8], sink: &mut impl LineSink) {
        if self.in_long_line {
            sink.continue_long_line(content);
            return;
        }
        let (fits, rest) = content.split_at(content.len().min(WHOLE_LINE_MAX - self.head.len()));
        self.head.extend_from_slice(fits);
        if !rest.is_empty() {
            self.in_long_line = true;
            sink.begin_long_line(&self.head);
            sink.continue_long_line(rest);
        }
    }

    fn end_line(&mut self, sink: &mut impl LineSink) {
        self.held_crs = 0;
        if std::mem::take(&mut self.in_long_line) {
            sink.end_long_line();
        } else {
            sink.line(&self.head);
        }
        self.head.clear();
    }

    fn finish(&mut self, sink: &mut impl LineSink) {
        if self.in_long_line || !self.head.is_empty() {
            self.end_line(sink);
        }
    }
}

fn trim_crs(segment: &[u8]) -> &[u8] {
    let end = segment.iter().rposition(|b| *b != b'\r').map_or(0, |last| last + 1);
    &segment[..end]
}

#[cfg(test)]
mod tests;
