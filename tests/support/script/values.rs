//! The parts of an IMAP command: words, strings and lists.

/// One argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// A word or a quoted string.
    Text(Vec<u8>),
    /// A literal.
    Literal(Vec<u8>),
    /// A list in parentheses.
    List(Vec<Self>),
}

impl Value {
    /// Its bytes; of a list, none.
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(bytes) | Self::Literal(bytes) => bytes,
            Self::List(_) => &[],
        }
    }

    /// It as text.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }

    /// The items that it lists; anything but a list is a list of itself.
    pub(super) fn items(&self) -> Vec<Self> {
        match self {
            Self::List(items) => items.clone(),
            other => vec![other.clone()],
        }
    }

    /// The texts that it lists.
    pub(super) fn words(&self) -> Vec<String> {
        self.items().iter().map(Self::text).collect()
    }
}

/// The arguments of a command.
pub(super) fn read(bytes: &[u8]) -> Vec<Value> {
    let mut rest = bytes;
    list(&mut rest)
}

fn list(rest: &mut &[u8]) -> Vec<Value> {
    let mut values = Vec::new();
    loop {
        match rest.first() {
            None => return values,
            Some(b' ' | b'\r' | b'\n') => *rest = &rest[1..],
            Some(b')') => {
                *rest = &rest[1..];
                return values;
            }
            Some(b'(') => {
                *rest = &rest[1..];
                values.push(Value::List(list(rest)));
            }
            Some(b'"') => values.push(Value::Text(quoted(rest))),
            Some(_) => values.push(literal(rest).unwrap_or_else(|| Value::Text(word(rest)))),
        }
    }
}

fn quoted(rest: &mut &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    let mut at = 1;
    while let Some(&byte) = rest.get(at) {
        at += 1;
        match byte {
            b'"' => break,
            b'\\' => {
                text.extend(rest.get(at));
                at += 1;
            }
            byte => text.push(byte),
        }
    }
    *rest = &rest[at.min(rest.len())..];
    text
}

/// `{12}` or `{12+}`, a line end, and so many bytes.
fn literal(rest: &mut &[u8]) -> Option<Value> {
    let line = &rest[..=rest.iter().position(|&byte| byte == b'\n')?];
    let (start, size, _) = announced(line).filter(|(start, ..)| *start == 0)?;
    let content = rest.get(line.len()..line.len() + size)?.to_vec();
    debug_assert_eq!(start, 0);
    *rest = &rest[line.len() + size..];
    Some(Value::Literal(content))
}

/// A word; in brackets it may hold blanks, as in `BODY[HEADER.FIELDS (Date)]`.
fn word(rest: &mut &[u8]) -> Vec<u8> {
    let (mut at, mut depth) = (0, 0);
    while let Some(&byte) = rest.get(at) {
        match byte {
            b'[' => depth += 1,
            b']' => depth -= 1,
            b' ' | b'(' | b')' | b'"' | b'\r' | b'\n' if depth <= 0 => break,
            _ => {}
        }
        at += 1;
    }
    // A byte that begins nothing is a word, so that reading comes to an end.
    let end = at.max(1);
    let word = rest[..end].to_vec();
    *rest = &rest[end..];
    word
}

/// The literal that the last line announces: where its braces begin, its size, and whether its client waits.
pub(super) fn announced(bytes: &[u8]) -> Option<(usize, usize, bool)> {
    let line = bytes.strip_suffix(b"\n")?;
    let line = line.strip_suffix(b"\r").unwrap_or(line).strip_suffix(b"}")?;
    let open = line.iter().rposition(|&byte| byte == b'{')?;
    let digits = &line[open + 1..];
    let (digits, waits) = digits.strip_suffix(b"+").map_or((digits, true), |digits| (digits, false));
    Some((open, std::str::from_utf8(digits).ok()?.parse().ok()?, waits))
}

/// A string as an answer may hold it.
pub(super) fn string(bytes: &[u8]) -> Vec<u8> {
    if bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        return [format!("{{{}}}\r\n", bytes.len()).as_bytes(), bytes].concat();
    }
    let mut out = vec![b'"'];
    for &byte in bytes {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
    out
}

/// Whether a number is in a set such as `1:3,7,9:*`; `most` is what `*` means.
pub(super) fn in_set(set: &str, number: u32, most: u32) -> bool {
    let read = |text: &str| if text == "*" { Some(most) } else { text.parse().ok() };
    set.split(',').any(|part| {
        let (from, to) = part.split_once(':').unwrap_or((part, part));
        let (Some(from), Some(to)) = (read(from), read(to)) else { return false };
        (u32::min(from, to)..=u32::max(from, to)).contains(&number)
    })
}

/// Numbers as a set, neighbours together.
pub(super) fn set_of(numbers: &[u32]) -> String {
    let mut parts: Vec<(u32, u32)> = Vec::new();
    for &number in numbers {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => parts.push((number, number)),
        }
    }
    let part = |(from, to): &(u32, u32)| if from == to { from.to_string() } else { format!("{from}:{to}") };
    parts.iter().map(part).collect::<Vec<_>>().join(",")
}
