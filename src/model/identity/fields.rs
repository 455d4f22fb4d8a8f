//! Header fields in canonical form: names in lower case, values unfolded, RFC 2047 words decoded, white space collapsed;
//! and the fields that transport changes left out.

use mail_parser::parsers::MessageStream;
use mail_parser::{DateTime, HeaderValue};
use memchr::{memchr, memmem};

use crate::model::identity::Digest;
use crate::model::message::InternalDate;

/// A header field up to this long, in bytes with its folds, is brought to its canonical form; a longer one is hashed raw.
pub(super) const FIELD_MAX: usize = 64 * 1024;

/// The longest Content-Type value that is understood, in bytes. Beyond it the part is a leaf.
const CONTENT_TYPE_MAX: usize = 4096;

/// Fields of the message itself that say how it travelled or how a store keeps it, not what it is. All names beginning
/// with `x-mozilla-` or `x-imap` count too.
const TRANSPORT_FIELDS: [&str; 19] = [
    "received",             // every hop adds one (RFC 5321 §4.4)
    "x-received",           // the same, by hosters that keep their own trace apart
    "return-path",          // written at final delivery (RFC 5321 §4.4)
    "delivered-to",         // written at delivery by Postfix, qmail, hosters
    "x-delivered-to",       // the same
    "x-original-to",        // Postfix, at delivery
    "envelope-to",          // Exim, at delivery
    "delivery-date",        // Exim, at delivery
    "status",               // mbox and POP3 servers: read or old
    "x-status",             // mbox: answered, flagged, deleted
    "x-uid",                // mbox stores of IMAP servers
    "x-uidl",               // POP3 servers: the unique id
    "x-keywords",           // mbox stores: keywords
    "x-account-key",        // Thunderbird and Netscape: which account fetched it
    "x-evolution-source",   // Evolution: which account fetched it
    "content-length",       // mbox stores: where the body ends
    "lines",                // news and mbox stores: lines of the body
    "x-mime-autoconverted", // sendmail: says that it re-encoded a body
    "x-evolution",          // Evolution: flags
];

/// Transfer encodings that say how a body travels; the body is decoded, so they are left out. Any other value stays.
const TRANSFER_ENCODINGS: [&str; 5] = ["7bit", "8bit", "binary", "base64", "quoted-printable"];

/// Where a header block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// The message's own header.
    Message,
    /// The header of a part.
    Part,
}

/// Whether a field is left out of the canonical form.
fn is_transport(level: Level, name: &str, value: &[u8]) -> bool {
    if name == "content-transfer-encoding" {
        return TRANSFER_ENCODINGS.iter().any(|known| value.eq_ignore_ascii_case(known.as_bytes()));
    }
    // The same names within a part are the part's own content: nobody stamps those.
    level == Level::Message
        && (TRANSPORT_FIELDS.contains(&name) || name.starts_with("x-mozilla-") || name.starts_with("x-imap"))
}

/// A header field as it grows line by line.
#[derive(Default)]
pub(super) struct GrowingField {
    /// The first line and its continuations with their leading white space, without line ends.
    raw: Vec<u8>,
    /// Digest of the whole field, once it is longer than [`FIELD_MAX`]. A hasher is large, and hardly any field needs one.
    overlong: Option<Box<blake3::Hasher>>,
}

/// A finished header field.
pub(super) enum Field {
    /// A name and a value in canonical form.
    Canonical(String, Vec<u8>),
    /// A name and the digest of a field that is too long.
    Overlong(String, Digest),
    /// A line in a header that is not a field, as it was; one that is too long is `Overlong` with an empty name.
    Stray(Vec<u8>),
}

impl GrowingField {
    pub(super) fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// Its bytes without line ends, at most [`FIELD_MAX`].
    pub(super) fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Takes more of the field's bytes, without line ends.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.overlong.is_none() && self.raw.len() + bytes.len() > FIELD_MAX {
            // How the bytes are cut must not matter, so the digest is of the whole field and not of what is too much.
            let mut hasher = Box::new(blake3::Hasher::new());
            hasher.update(&self.raw);
            self.overlong = Some(hasher);
        }
        match &mut self.overlong {
            Some(hasher) => {
                hasher.update(bytes);
                let room = FIELD_MAX.saturating_sub(self.raw.len()).min(bytes.len());
                self.raw.extend_from_slice(&bytes[..room]);
            }
            None => self.raw.extend_from_slice(bytes),
        }
    }

    /// Takes the field out and leaves room for the next one.
    pub(super) fn take(&mut self) -> Field {
        let digest = self.overlong.take().map(|hasher| Digest(*hasher.finalize().as_bytes()));
        let field = match (split_name(&self.raw), digest) {
            (Some((name, _)), Some(digest)) => Field::Overlong(name, digest),
            (Some((name, value)), None) => Field::Canonical(name, canonical_value(value)),
            (None, Some(digest)) => Field::Overlong(String::new(), digest),
            (None, None) => Field::Stray(self.raw.clone()),
        };
        self.raw.clear();
        field
    }
}

impl Field {
    /// The field that these bytes without line ends are.
    pub(super) fn of(raw: &[u8]) -> Self {
        let mut field = GrowingField::default();
        field.push(raw);
        field.take()
    }

    /// Whether transport may have added, removed or changed it.
    pub(super) fn is_transport(&self, level: Level) -> bool {
        match self {
            Self::Canonical(name, value) => is_transport(level, name, value),
            Self::Overlong(name, _) => is_transport(level, name, b""),
            Self::Stray(_) => false,
        }
    }
}

/// Splits a field into its name, in lower case, and its value.
fn split_name(raw: &[u8]) -> Option<(String, &[u8])> {
    let colon = memchr(b':', raw)?;
    let name = raw[..colon].trim_ascii_end();
    let fit = !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
    let name = str::from_utf8(name).ok().filter(|_| fit)?;
    Some((name.to_ascii_lowercase(), &raw[colon + 1..]))
}

/// Unfolds, decodes and collapses a value. Bytes that are neither ASCII nor an encoded word stay as they are.
pub(super) fn canonical_value(raw: &[u8]) -> Vec<u8> {
    // Hardly any value has one.
    let Some(first) = memmem::find(raw, WORD_BEGIN) else { return collapse(raw) };
    let mut text = Vec::with_capacity(raw.len());
    let (plain, mut rest) = raw.split_at(first);
    text.extend_from_slice(plain);
    while !rest.is_empty() {
        if let Some((decoded, after)) = decode_word(rest) {
            text.extend_from_slice(decoded.as_bytes());
            // White space between two encoded words is not text (RFC 2047 §6.2).
            let next = after.trim_ascii_start();
            rest = if decode_word(next).is_some() { next } else { after };
        } else {
            let next = memmem::find(&rest[1..], WORD_BEGIN).map_or(rest.len(), |at| at + 1);
            text.extend_from_slice(&rest[..next]);
            rest = &rest[next..];
        }
    }
    collapse(&text)
}

fn collapse(text: &[u8]) -> Vec<u8> {
    let mut collapsed = Vec::with_capacity(text.len());
    let words = text.split(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n')).filter(|word| !word.is_empty());
    for word in words {
        if !collapsed.is_empty() {
            collapsed.push(b' ');
        }
        collapsed.extend_from_slice(word);
    }
    collapsed
}

/// The longest charset name and the longest text of an encoded word, in bytes. RFC 2047 allows 75 for all; senders do not care.
const CHARSET_MAX: usize = 64;
const WORD_TEXT_MAX: usize = 2048;

/// An encoded word begins so.
const WORD_BEGIN: &[u8] = b"=?";

/// Decodes an encoded word (RFC 2047) at the beginning of `bytes` and tells what follows it. A word that does not decode
/// without loss is not an encoded word: two different broken words must not become one.
fn decode_word(bytes: &[u8]) -> Option<(String, &[u8])> {
    let question = |from: usize, max: usize| {
        let window = bytes.get(from..bytes.len().min(from + max + 1))?;
        window.iter().position(|b| *b == b'?').map(|n| from + n)
    };
    if !bytes.starts_with(WORD_BEGIN) {
        return None;
    }
    let charset = question(2, CHARSET_MAX)?;
    if bytes.get(charset + 2) != Some(&b'?') {
        return None;
    }
    let end = question(charset + 3, WORD_TEXT_MAX)?;
    if bytes.get(end + 1) != Some(&b'=') {
        return None;
    }
    let decoded = MessageStream::new(&bytes[1..end + 2]).decode_rfc2047()?;
    (!decoded.contains('\u{fffd}')).then(|| (decoded, &bytes[end + 2..]))
}

/// The words of a part's Content-Type about reading its body.
pub(super) enum Body {
    /// A multipart with this boundary.
    Multipart(Vec<u8>),
    /// A leaf made of lines.
    Text,
    /// A leaf made of bytes.
    Bytes,
}

/// Reads a Content-Type value in canonical form; `None` where a part has none.
pub(super) fn read_content_type(value: Option<&[u8]>) -> Body {
    let Some(value) = value else { return Body::Text };
    if value.len() > CONTENT_TYPE_MAX {
        return Body::Bytes;
    }
    let line = [value, b"\n"].concat();
    let parsed = MessageStream::new(&line).parse_content_type();
    let HeaderValue::ContentType(content_type) = parsed else { return Body::Text };
    match content_type.c_type.to_ascii_lowercase().as_str() {
        "multipart" => {
            let boundary = content_type.attribute("boundary").unwrap_or_default().trim_end();
            if boundary.is_empty() || boundary.len() > super::WHOLE_LINE_MAX / 2 {
                Body::Text
            } else {
                Body::Multipart(boundary.as_bytes().to_vec())
            }
        }
        "text" | "message" => Body::Text,
        _ => Body::Bytes,
    }
}

/// Reads the date of a Date header, or the one behind the last semicolon of a Received header (RFC 5322 §3.6.7).
pub(super) fn read_date(value: &[u8]) -> Option<InternalDate> {
    let text = String::from_utf8_lossy(value);
    // A semicolon may stand in a comment behind the date, so the one before it gets a chance too.
    let candidates = text.rmatch_indices(';').map(|(at, _)| &text[at + 1..]).take(3).chain([&*text]);
    candidates.into_iter().find_map(|candidate| {
        let line = format!("{}\n", candidate.trim());
        let HeaderValue::DateTime(date) = MessageStream::new(line.as_bytes()).parse_date() else {
            return None;
        };
        to_internal_date(&date)
    })
}

fn to_internal_date(date: &DateTime) -> Option<InternalDate> {
    // Second 60 is a leap second and legal; no server keeps it.
    let date = DateTime { second: date.second.min(59), ..*date };
    if !date.is_valid() || date.year < 1970 {
        return None;
    }
    let minutes = i32::from(date.tz_hour) * 60 + i32::from(date.tz_minute);
    Some(InternalDate {
        unix: date.to_timestamp(),
        offset_minutes: if date.tz_before_gmt { -minutes } else { minutes },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_unfolded_decoded_and_collapsed() {
        let table = [
            ("  plain \t text ", "plain text"),
            ("=?utf-8?q?Gr=C3=BC=C3=9Fe?=", "Grüße"),
            ("=?ISO-8859-1?Q?Gr=FC=DFe?= =?utf-8?b?YXVz?=  Wien", "Grüßeaus Wien"),
            ("a =?utf-8?q?b_?= =?utf-8?q?c?=", "a b c"),
            ("=?utf-8?q?a?==?utf-8?q?b?=", "ab"),
            ("=?utf-8?q?broken", "=?utf-8?q?broken"),
            ("=?utf-8?q?=FF?=", "=?utf-8?q?=FF?="),
            ("=?utf-8?x?a?=", "=?utf-8?x?a?="),
            ("=?=?=?utf-8?q?x?=", "=?=?x"),
        ];
        for (raw, expected) in table {
            assert_eq!(String::from_utf8_lossy(&canonical_value(raw.as_bytes())), expected);
        }
    }

    #[test]
    fn the_newest_hop_tells_the_arrival() {
        let table = [
            ("from a by b; Mon, 01 Feb 2021 03:04:05 +0100 (CET)", "01-Feb-2021 03:04:05 +0100"),
            ("by b; Mon, 1 Feb 2021 03:04:05 -0730 (via; x)", "01-Feb-2021 03:04:05 -0730"),
            ("Tue, 2 Feb 21 03:04:05 GMT", "02-Feb-2021 03:04:05 +0000"),
        ];
        for (value, expected) in table {
            assert_eq!(read_date(value.as_bytes()).unwrap().to_string(), expected, "{value}");
        }
        for nonsense in
            ["", ";", "yesterday", "by b; 99 Foo 2021 99:99:99 +9999", "1 Jan 1900 00:00:00 +0000"]
        {
            assert_eq!(read_date(nonsense.as_bytes()), None, "{nonsense}");
        }
    }
}
