//! Reads one IMAP response, with its literals in place, into values (the grammar of RFC 9051 §9, read tolerantly).
//!
//! Servers bend the grammar; a migration has to understand them all the same. So atoms may hold anything but the
//! characters that would make the text ambiguous, and what cannot be read is an error that names the response rather
//! than an empty value.

use crate::model::failure::{Failure, Result};
use crate::model::text::printable_bytes;

/// How deep lists may nest.
const DEPTH_MAX: usize = 16;

/// One value of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// An atom, a number, a flag, or an attribute name such as `BODY[HEADER.FIELDS (MESSAGE-ID)]`.
    Atom(Vec<u8>),
    /// A quoted string, unescaped, or a literal.
    Text(Vec<u8>),
    /// A parenthesised list.
    List(Vec<Self>),
    /// `NIL`.
    Nil,
}

impl Value {
    /// The bytes of an atom or a string.
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Atom(bytes) | Self::Text(bytes) => Some(bytes),
            Self::List(_) | Self::Nil => None,
        }
    }

    /// The text of an atom or a string that is UTF-8.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    /// The number that an atom spells.
    pub fn number<N: std::str::FromStr>(&self) -> Option<N> {
        self.text()?.parse().ok()
    }

    /// The values of a list.
    pub fn list(&self) -> Option<&[Self]> {
        match self {
            Self::List(values) => Some(values),
            _ => None,
        }
    }
}

/// Reads all values of a response or a part of it.
///
/// # Errors
/// [`crate::model::failure::Class::Protocol`] when brackets do not match, a literal is cut or lists nest too deep.
pub fn read_values(bytes: &[u8]) -> Result<Vec<Value>> {
    let mut reader = Reader { bytes, at: 0 };
    let values = reader.read_list(0)?;
    if reader.at < bytes.len() { Err(unreadable(bytes)) } else { Ok(values) }
}

/// Reads so many values, and gives back what follows them, from the next one on.
///
/// # Errors
/// As [`read_values`]; also when there are fewer.
pub fn read_first(bytes: &[u8], count: usize) -> Result<(Vec<Value>, &[u8])> {
    let mut reader = Reader { bytes, at: 0 };
    let mut values = Vec::with_capacity(count);
    for _ in 0..count {
        reader.skip_blanks();
        values.push(reader.read_value(0)?.ok_or_else(|| unreadable(bytes))?);
    }
    reader.skip_blanks();
    Ok((values, &bytes[reader.at..]))
}

/// All between the first and the last quote of a text that is all within quotes: a name from a server that does not escape the
/// quotes in it.
pub fn within_quotes(text: &[u8]) -> Option<&[u8]> {
    text.trim_ascii().strip_prefix(b"\"")?.strip_suffix(b"\"")
}

fn unreadable(bytes: &[u8]) -> Failure {
    let head = &bytes[..bytes.len().min(200)];
    Failure::protocol(format!("sent a response that cannot be read: {}", printable_bytes(head)))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Reads values up to the closing parenthesis, or to the end at depth 0.
    fn read_list(&mut self, depth: usize) -> Result<Vec<Value>> {
        if depth > DEPTH_MAX {
            return Err(unreadable(self.bytes));
        }
        let mut values = Vec::new();
        loop {
            self.skip_blanks();
            if depth > 0 && self.peek() == Some(b')') {
                self.at += 1;
                return Ok(values);
            }
            let Some(value) = self.read_value(depth)? else { break };
            values.push(value);
        }
        if depth == 0 { Ok(values) } else { Err(unreadable(self.bytes)) }
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\r' | b'\n' | b'\t')) {
            self.at += 1;
        }
    }

    /// Reads the value that begins here; `None` at the end.
    fn read_value(&mut self, depth: usize) -> Result<Option<Value>> {
        let Some(next) = self.peek() else { return Ok(None) };
        Ok(Some(match next {
            b'(' => {
                self.at += 1;
                Value::List(self.read_list(depth + 1)?)
            }
            b'"' => Value::Text(self.read_quoted()?),
            b'{' | b'~' if self.literal_size().is_some() => Value::Text(self.read_literal()?),
            _ => self.read_atom(),
        }))
    }

    fn read_quoted(&mut self) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        self.at += 1;
        while let Some(byte) = self.peek() {
            self.at += 1;
            match byte {
                b'"' => return Ok(text),
                b'\\' => {
                    let escaped = self.peek().ok_or_else(|| unreadable(self.bytes))?;
                    self.at += 1;
                    text.push(escaped);
                }
                _ => text.push(byte),
            }
        }
        Err(unreadable(self.bytes))
    }

    /// The size of the literal that begins here, and where its bytes begin.
    fn literal_size(&self) -> Option<(usize, usize)> {
        let rest = &self.bytes[self.at..];
        let start = usize::from(rest.first() == Some(&b'~'));
        if rest.get(start) != Some(&b'{') {
            return None;
        }
        let close = start + rest[start..].iter().take(24).position(|b| *b == b'}')?;
        let digits = std::str::from_utf8(&rest[start + 1..close]).ok()?.trim_end_matches('+');
        let size = digits.parse().ok()?;
        let body = match rest.get(close + 1..close + 3) {
            Some(b"\r\n") => close + 3,
            Some([b'\n', _]) => close + 2,
            _ if rest.get(close + 1) == Some(&b'\n') => close + 2,
            _ => return None,
        };
        Some((size, self.at + body))
    }

    fn read_literal(&mut self) -> Result<Vec<u8>> {
        let (size, start) = self.literal_size().ok_or_else(|| unreadable(self.bytes))?;
        let end = start.checked_add(size).ok_or_else(|| unreadable(self.bytes))?;
        let literal = self.bytes.get(start..end).ok_or_else(|| unreadable(self.bytes))?;
        self.at = end;
        Ok(literal.to_vec())
    }

    /// An atom ends at a blank or a parenthesis, except inside the square brackets of a section. Those of a keyword or a
    /// label are nothing but characters.
    fn read_atom(&mut self) -> Value {
        let start = self.at;
        let rest = &self.bytes[start..];
        let has_section = [b"BODY".as_slice(), b"BINARY"]
            .iter()
            .any(|name| rest.get(..name.len()).is_some_and(|head| head.eq_ignore_ascii_case(name)));
        let mut brackets = 0_usize;
        while let Some(byte) = self.peek() {
            match byte {
                b'[' if has_section => brackets += 1,
                b']' => brackets = brackets.saturating_sub(1),
                b' ' | b'\t' | b'(' | b')' if brackets == 0 => break,
                b'\r' | b'\n' => break,
                _ => {}
            }
            self.at += 1;
        }
        if self.at == start {
            // A stray closing parenthesis at the outermost level.
            self.at += 1;
        }
        let atom = &self.bytes[start..self.at];
        if atom.eq_ignore_ascii_case(b"NIL") { Value::Nil } else { Value::Atom(atom.to_vec()) }
    }
}

/// The attributes of a FETCH response, by name.
///
/// # Errors
/// [`crate::model::failure::Class::Protocol`] when they are not a list of pairs.
pub fn read_fetch(rest: &[u8]) -> Result<Vec<(String, Value)>> {
    let mut values = read_values(rest)?;
    let Some(Value::List(attributes)) = values.pop() else {
        let head = printable_bytes(&rest[..rest.len().min(200)]);
        return Err(Failure::protocol(format!("sent a FETCH response without attributes: {head}")));
    };
    let mut pairs = Vec::with_capacity(attributes.len() / 2);
    let mut attributes = attributes.into_iter();
    while let (Some(name), Some(value)) = (attributes.next(), attributes.next()) {
        pairs.push((name.text().unwrap_or_default().to_ascii_uppercase(), value));
    }
    Ok(pairs)
}

/// Splits text after its first word; any number of blanks and tabs part words.
pub fn split_blank(text: &[u8]) -> (&[u8], &[u8]) {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let end = text.iter().position(is_blank).unwrap_or(text.len());
    let rest = &text[end..];
    let begin = rest.iter().position(|byte| !is_blank(byte)).unwrap_or(rest.len());
    (&text[..end], &rest[begin..])
}

/// The status of a tagged line, or of an untagged `OK`, `NO`, `BAD`, `BYE`, `PREAUTH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It was done.
    Ok,
    /// It was refused.
    No,
    /// It was not understood.
    Bad,
    /// The server ends the session.
    Bye,
    /// The session begins logged in.
    PreAuth,
}

impl Status {
    /// Reads the status word.
    pub fn parse(word: &[u8]) -> Option<Self> {
        [
            ("OK", Self::Ok),
            ("NO", Self::No),
            ("BAD", Self::Bad),
            ("BYE", Self::Bye),
            ("PREAUTH", Self::PreAuth),
        ]
        .into_iter()
        .find_map(|(name, status)| word.eq_ignore_ascii_case(name.as_bytes()).then_some(status))
    }
}

/// The text that follows a status: the response code in brackets, if any, and the text for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatusText {
    /// The code's name, upper case; empty when there is none.
    pub code: String,
    /// The words after the code's name, inside the brackets.
    pub arguments: String,
    /// The text for people, made printable.
    pub text: String,
}

impl StatusText {
    /// Reads what follows the status word.
    pub fn parse(rest: &[u8]) -> Self {
        let rest = rest.trim_ascii();
        let Some(inside) = rest.strip_prefix(b"[").map(<[u8]>::trim_ascii_start) else {
            return Self { text: printable_bytes(rest), ..Self::default() };
        };
        let name_ends = |byte: &u8| matches!(byte, b' ' | b'\t' | b']');
        let name = &inside[..inside.iter().position(name_ends).unwrap_or(inside.len())];
        // Keywords may hold brackets: the code ends where a blank or the end follows one. Others end at the first, whatever
        // follows.
        let has_keywords = name.eq_ignore_ascii_case(b"PERMANENTFLAGS");
        let ends = |at: &usize| {
            inside[*at] == b']' && (!has_keywords || matches!(inside.get(at + 1), None | Some(b' ' | b'\t')))
        };
        let end = (0..inside.len()).find(ends).unwrap_or(inside.len());
        let code = &inside[..end];
        let arguments = String::from_utf8_lossy(&code[name.len().min(end)..]);
        Self {
            code: String::from_utf8_lossy(name).to_ascii_uppercase(),
            arguments: arguments.trim().to_owned(),
            text: printable_bytes(inside.get(end + 1..).unwrap_or_default().trim_ascii()),
        }
    }
}

/// The number that a code's arguments begin with, whatever follows it.
pub fn leading_number<N: std::str::FromStr>(text: &str) -> Option<N> {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

/// Reads a set of numbers such as `3,5:7`; at most `max` numbers.
pub fn read_number_set(text: &str, max: usize) -> Option<Vec<u32>> {
    let mut numbers = Vec::new();
    for part in text.split(',') {
        let (from, to) = part.split_once(':').unwrap_or((part, part));
        let (from, to): (u32, u32) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
        let (from, to) = (from.min(to), from.max(to));
        if numbers.len().saturating_add((to - from) as usize) >= max {
            return None;
        }
        numbers.extend(from..=to);
    }
    Some(numbers)
}

/// Writes ascending numbers as a set with ranges: `3,5:7`.
pub fn write_number_set(numbers: &[u32]) -> String {
    use std::fmt::Write;
    let mut set = String::new();
    let mut at = 0;
    while at < numbers.len() {
        let mut end = at;
        while end + 1 < numbers.len() && numbers[end].checked_add(1) == Some(numbers[end + 1]) {
            end += 1;
        }
        let comma = if set.is_empty() { "" } else { "," };
        let _ = if end == at {
            write!(set, "{comma}{}", numbers[at])
        } else {
            write!(set, "{comma}{}:{}", numbers[at], numbers[end])
        };
        at = end + 1;
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn atom(text: &str) -> Value {
        Value::Atom(text.as_bytes().to_vec())
    }

    fn text(text: &str) -> Value {
        Value::Text(text.as_bytes().to_vec())
    }

    #[test]
    fn responses_of_real_servers_are_read() {
        let values = read_values(b"(\\HasNoChildren \\Sent) \"/\" \"we \\\"q\\\" x\"").unwrap();
        assert_eq!(
            values,
            [Value::List(vec![atom("\\HasNoChildren"), atom("\\Sent")]), text("/"), text("we \"q\" x")]
        );
        let values = read_values(
            b"12 FETCH (UID 5 BODY[HEADER.FIELDS (MESSAGE-ID)] {5}\r\na) \"b FLAGS (\\Seen) X NIL)",
        )
        .unwrap();
        assert_eq!(
            values[2].list().unwrap(),
            [
                atom("UID"),
                atom("5"),
                atom("BODY[HEADER.FIELDS (MESSAGE-ID)]"),
                text("a) \"b"),
                atom("FLAGS"),
                Value::List(vec![atom("\\Seen")]),
                atom("X"),
                Value::Nil
            ]
        );
    }

    #[test]
    fn brackets_in_keywords_and_labels_are_characters() {
        let values =
            read_values(b"3 FETCH (UID 5 X-GM-LABELS (a[b [Imap]/Sent] c) FLAGS (odd[ \\Seen))").unwrap();
        let labels = Value::List(["a[b", "[Imap]/Sent]", "c"].map(atom).to_vec());
        let flags = Value::List(["odd[", "\\Seen"].map(atom).to_vec());
        assert_eq!(values[2].list().unwrap()[3..], [labels, atom("FLAGS"), flags]);
    }

    #[test]
    fn what_cannot_be_read_is_an_error_and_never_empty() {
        for bad in [&b"(a"[..], b"\"a", b"{9}\r\nabc", b"(a \"b\\", &[b'('; 100]] {
            assert!(read_values(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn response_codes_are_taken_apart() {
        let code = StatusText::parse(b"[APPENDUID 38505 3955:3957] APPEND completed");
        assert_eq!((code.code.as_str(), code.arguments.as_str()), ("APPENDUID", "38505 3955:3957"));
        let code = StatusText::parse(b"[PERMANENTFLAGS (\\Seen odd]word \\*)] Limited");
        assert_eq!(code.arguments, "(\\Seen odd]word \\*)");
        assert_eq!(StatusText::parse(b"Logged in").text, "Logged in");
    }

    const RESPONSES: [&[u8]; 5] = [
        b"12 FETCH (UID 5 FLAGS (\\Seen $Label1) INTERNALDATE \"07-Mar-2019 08:15:42 +0100\" RFC822.SIZE 4711)",
        b"LIST (\\HasNoChildren \\Sent) \"/\" {7}\r\nSe\"n)t{",
        b"STATUS \"a \\\"b\\\" c\" (MESSAGES 12 UIDNEXT 18 UIDVALIDITY 4294967295)",
        b"OK [APPENDUID 38505 3955:3957,4000] APPEND completed",
        b"12 FETCH (BODY[HEADER.FIELDS (MESSAGE-ID)] ~{3}\r\na)( ENVELOPE (NIL (((NIL NIL \"a\" \"b\")))))",
    ];

    /// Bytes in all values.
    fn weigh(values: &[Value]) -> usize {
        values.iter().map(|v| v.list().map_or_else(|| v.bytes().map_or(0, <[u8]>::len), weigh)).sum()
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read_values(&bytes);
            let _ = StatusText::parse(&bytes);
        }

        #[test]
        fn mutated_responses_never_panic_and_cost_no_more_than_they_are_long(
            which in 0..RESPONSES.len(), cuts in proptest::collection::vec((any::<u16>(), any::<u8>(), 0_u8..4), 0..12),
        ) {
            let mut bytes = RESPONSES[which].to_vec();
            for (at, byte, what) in cuts {
                let at = usize::from(at) % (bytes.len() + 1);
                match what {
                    0 => bytes.insert(at, byte),
                    1 if at < bytes.len() => { bytes.remove(at); }
                    2 if at < bytes.len() => bytes[at] = byte,
                    _ => bytes.extend_from_within(at..),
                }
                bytes.truncate(4096);
            }
            if let Ok(values) = read_values(&bytes) {
                prop_assert!(weigh(&values) <= bytes.len());
            }
            let _ = (StatusText::parse(&bytes), read_number_set(&String::from_utf8_lossy(&bytes), 1000));
        }

        #[test]
        fn number_sets_survive_a_round_trip(set in proptest::collection::btree_set(1_u32..500, 1..60)) {
            let numbers: Vec<u32> = set.into_iter().collect();
            prop_assert_eq!(read_number_set(&write_number_set(&numbers), 1000).unwrap(), numbers);
        }
    }
}
