//! Commands as they are written: text, with names in it as the server itself wrote them, and what to ask instead where a
//! server does not take them.

use std::fmt;

use super::names::quote;
use crate::model::failure::{Class, Failure, FailureCode, Result};

/// One command without its tag and its line end. It may hold a password, so it shows its name alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Command {
    pub(super) parts: Vec<Part>,
}

/// A piece of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// Goes onto the line as it is.
    Text(Vec<u8>),
    /// Goes behind the line as a literal (RFC 9051 §4.3).
    Literal(Vec<u8>),
}

impl Command {
    /// A command, or the beginning of one.
    pub fn new(text: impl Into<String>) -> Self {
        Self { parts: vec![Part::Text(text.into().into_bytes())] }
    }

    /// Goes on with more text.
    #[must_use]
    pub fn then(mut self, text: &str) -> Self {
        self.push(text.as_bytes());
        self
    }

    /// Goes on with a folder's name as the server wrote it: in quotes, also with bytes that are not ASCII, since a
    /// server that lists such names takes them so; a name with line breaks as a literal.
    #[must_use]
    pub fn name(mut self, wire_name: &[u8]) -> Self {
        if wire_name.iter().any(u8::is_ascii_control) {
            self.parts.push(Part::Literal(wire_name.to_vec()));
        } else {
            self.push(&quote_bytes(wire_name));
        }
        self
    }

    /// Goes on with a user name or a password: in quotes if it is plain ASCII, as a literal else.
    #[must_use]
    pub fn string(mut self, text: &str) -> Self {
        if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            self.push(quote(text).as_bytes());
        } else {
            self.parts.push(Part::Literal(text.as_bytes().to_vec()));
        }
        self
    }

    /// Goes on with a literal.
    #[must_use]
    pub(super) fn literal(mut self, bytes: &[u8]) -> Self {
        self.parts.push(Part::Literal(bytes.to_vec()));
        self
    }

    /// The same with a name that is not ASCII as a literal, where there is one.
    pub fn with_literal(prefix: &str, wire_name: &[u8], rest: &str) -> Option<Self> {
        let command =
            Self { parts: vec![Part::Text(prefix.as_bytes().to_vec()), Part::Literal(wire_name.to_vec())] };
        (!wire_name.is_ascii()).then(|| command.then(rest))
    }

    fn push(&mut self, text: &[u8]) {
        match self.parts.last_mut() {
            Some(Part::Text(last)) => last.extend_from_slice(text),
            _ => self.parts.push(Part::Text(text.to_vec())),
        }
    }

    /// The name of the command, for messages: never its arguments.
    pub fn verb(&self) -> &str {
        let Some(Part::Text(text)) = self.parts.first() else { return "" };
        let words = if text.starts_with(b"UID ") { 2 } else { 1 };
        let mut blanks = (0..text.len()).filter(|at| text[*at] == b' ');
        let end = blanks.nth(words - 1).unwrap_or(text.len());
        std::str::from_utf8(&text[..end]).unwrap_or_default()
    }

    /// Whether the server has to look through a whole folder before it can say anything.
    pub(super) fn looks_through_a_folder(&self) -> bool {
        match self.verb() {
            "EXAMINE" | "SELECT" | "STATUS" | "SEARCH" | "UID SEARCH" => true,
            // A listing; what is fetched of single messages begins at once.
            "UID FETCH" => {
                self.parts.iter().any(|part| matches!(part, Part::Text(text) if text.contains(&b'*')))
            }
            _ => false,
        }
    }

    /// The literals in it, in their order.
    pub(super) fn literals(&self) -> impl Iterator<Item = &[u8]> {
        self.parts.iter().filter_map(|part| match part {
            Part::Literal(bytes) => Some(bytes.as_slice()),
            Part::Text(_) => None,
        })
    }

    /// Whether it can be written at all.
    ///
    /// # Errors
    /// [`Class::Refused`] for a name that no command can hold; [`Class::Internal`] when a line break would split the command.
    pub(super) fn check(&self) -> Result<()> {
        if self.literals().any(|literal| literal.contains(&0)) {
            return Err(Failure::new(
                Class::Refused,
                "has a name with a NUL character, which no command can hold",
            )
            .code(FailureCode::NameRefused)
            .hint("rename the folder at the server"));
        }
        self.parts.iter().try_for_each(|part| match part {
            Part::Text(text) => check_line(text),
            Part::Literal(_) => Ok(()),
        })
    }
}

/// Checks a text before it is written to a server, literals excepted: one line stays one line, whatever a name or a
/// flag in it came from.
///
/// # Errors
/// [`Class::Internal`] when it would be split.
pub(super) fn check_line(text: &[u8]) -> Result<()> {
    if text.iter().any(|byte| matches!(byte, b'\r' | b'\n' | b'\0')) {
        return Err(Failure::internal("a command would be split by a line break in a name"));
    }
    Ok(())
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.verb())
    }
}

impl From<&str> for Command {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<&String> for Command {
    fn from(text: &String) -> Self {
        Self::new(text.clone())
    }
}

impl From<String> for Command {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

fn quote_bytes(name: &[u8]) -> Vec<u8> {
    let mut quoted = Vec::with_capacity(name.len() + 2);
    quoted.push(b'"');
    for byte in name {
        if matches!(byte, b'"' | b'\\') {
            quoted.push(b'\\');
        }
        quoted.push(*byte);
    }
    quoted.push(b'"');
    quoted
}

/// A command of a flight, and what is known of it.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The command to send.
    pub command: Command,
    /// The command to send instead, once, if that is refused.
    pub(super) plainly: Option<Plainly>,
    /// Whether it means something only when the command before it was carried out.
    pub(super) follows: bool,
}

/// The plain form of a command.
#[derive(Debug, Clone)]
pub(super) struct Plainly {
    /// The extension that the server fails at if the plain form works; none where it was only spelt differently.
    pub(super) word: Option<&'static str>,
    pub(super) command: Command,
}

impl Ask {
    /// A command that has no other form.
    pub fn new(command: impl Into<Command>) -> Self {
        Self { command: command.into(), plainly: None, follows: false }
    }

    /// Uses an extension; without it, another command asks for the same or for less.
    #[must_use]
    pub fn or_without(mut self, word: &'static str, plain: impl Into<Command>) -> Self {
        self.plainly = Some(Plainly { word: Some(word), command: plain.into() });
        self
    }

    /// May be spelt differently.
    #[must_use]
    pub fn or(mut self, other: Option<Command>) -> Self {
        if let Some(command) = other {
            self.plainly.get_or_insert(Plainly { word: None, command });
        }
        self
    }

    /// Means something only when the command before it was carried out.
    #[must_use]
    pub fn following(mut self) -> Self {
        self.follows = true;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_named_without_its_arguments() {
        for (text, verb) in [
            ("NOOP", "NOOP"),
            ("LIST \"\" \"*\"", "LIST"),
            ("UID FETCH 1:* (UID)", "UID FETCH"),
            ("UID", "UID"),
        ] {
            assert_eq!(Command::from(text).verb(), verb);
        }
        assert_eq!(Command::new("EXAMINE ").name(b"x").verb(), "EXAMINE");
    }

    #[test]
    fn names_are_written_as_the_server_wrote_them() {
        let written = |name: &[u8]| Command::new("EXAMINE ").name(name).parts;
        assert_eq!(written(b"we \"q\"\\x{3}"), [Part::Text(br#"EXAMINE "we \"q\"\\x{3}""#.to_vec())]);
        assert_eq!(written(b"Entw\xfcrfe"), [Part::Text(b"EXAMINE \"Entw\xfcrfe\"".to_vec())]);
        let broken = Command::new("EXAMINE ").name(b"a\r\nX DELETE b").then(" (CONDSTORE)");
        assert_eq!(broken.literals().collect::<Vec<_>>(), [b"a\r\nX DELETE b"]);
        broken.check().unwrap();
        let failure = Command::new("EXAMINE ").name(b"a\0b").check().unwrap_err();
        assert!(failure.is(FailureCode::NameRefused) && failure.leaves_the_session());
        Command::from("EXAMINE a\r\nX DELETE b").check().unwrap_err();
    }

    #[test]
    fn passwords_that_cannot_be_quoted_are_literals() {
        let login = Command::new("LOGIN ").string("alice").then(" ").string("\u{fc}ber\"x");
        assert_eq!(login.literals().collect::<Vec<_>>(), ["\u{fc}ber\"x".as_bytes()]);
        let login = Command::new("LOGIN ").string("a\"b").then(" ").string("c\\d");
        assert_eq!(login.parts, [Part::Text(br#"LOGIN "a\"b" "c\\d""#.to_vec())]);
    }

    #[test]
    fn only_what_concerns_a_whole_folder_may_take_minutes() {
        for (text, long) in [
            ("EXAMINE x", true),
            ("SELECT x", true),
            ("UID SEARCH ALL", true),
            ("UID FETCH 1:* (UID FLAGS)", true),
            ("UID FETCH 1:3,9 (UID BODY.PEEK[])", false),
            ("NOOP", false),
            ("APPEND x {3}", false),
        ] {
            assert_eq!(Command::from(text).looks_through_a_folder(), long, "{text}");
        }
    }
}
