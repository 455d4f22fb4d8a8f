//! All that a verification found which is not at the destination as it is at the source: one value for each message and kind.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::identity::Digest;
use super::message::{Flags, InternalDate};
use super::place::{MessageDestination, MessageSource};
use super::text::counted;

/// The most differences of one mailbox that are named; the others are counted.
pub const NAMED_MAX: usize = 1_000;

/// How source and destination differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// A message that arrived is no longer at the destination.
    Missing,
    /// The destination holds other bytes.
    Altered,
    /// The destination holds the bytes that it was given, and the source hands the message out with others now: the same message
    /// but for line ends, lines that transport adds, or how it is encoded.
    Alike,
    /// The message is there with other flags or keywords.
    Flags,
    /// The message is there with another arrival date.
    Date,
    /// The message lies in another folder than it arrived in, or a whole folder is not there.
    Folder,
    /// A message of the source has not been carried yet.
    Waiting,
    /// The destination holds a message that was carried once more than the source.
    Extra,
    /// A message that arrived is not in its folder, and may lie in one that could not be looked into.
    Unchecked,
}

impl Kind {
    /// All there are.
    pub const ALL: [Self; 9] = [
        Self::Missing,
        Self::Altered,
        Self::Alike,
        Self::Flags,
        Self::Date,
        Self::Folder,
        Self::Waiting,
        Self::Extra,
        Self::Unchecked,
    ];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The value that one side has, or should have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", untagged)]
pub enum Value {
    /// Bytes: how many, and their BLAKE3 digest where they were read.
    Bytes {
        /// How many.
        size: u64,
        /// Their digest.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exact: Option<Digest>,
    },
    /// Flags and keywords.
    Flags(Flags),
    /// A folder, its names joined by `/`, or a date as RFC 3339.
    Text(String),
}

impl Value {
    /// An arrival date.
    pub fn date(date: InternalDate) -> Self {
        Self::Text(date.rfc3339())
    }

    /// The value for a reader who knows no protocol: without digests, and flags in words.
    pub fn in_words(&self) -> String {
        match self {
            Self::Bytes { size, .. } => counted(*size, "byte", "bytes"),
            Self::Flags(flags) => flags.in_words(),
            Self::Text(text) => text.clone(),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes { size, exact: None } => write!(f, "{size} bytes"),
            Self::Bytes { size, exact: Some(exact) } => write!(f, "{size} bytes, BLAKE3 {exact}"),
            Self::Flags(flags) => write!(f, "({flags})"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// How they differ.
    pub kind: Kind,
    /// Where the message is at the source; a folder alone where a whole folder is meant.
    pub source: MessageSource,
    /// Where it is at the destination; `None` where it is not there.
    pub destination: Option<MessageDestination>,
    /// Its subject, printable.
    pub subject: Option<String>,
    /// Its Message-ID, printable.
    pub message_id: Option<String>,
    /// The value at the source.
    pub expected: Option<Value>,
    /// The value at the destination.
    pub found: Option<Value>,
}

/// A message for a person: where it is at the source, and its subject where that is known.
pub fn named(source: &MessageSource, subject: Option<&str>) -> String {
    match subject {
        Some(subject) => format!("{}: \"{subject}\"", source.name()),
        None => source.name(),
    }
}

impl Difference {
    /// The values at the source and at the destination, as [`Value::in_words`]. Bytes that are as many are told to be others.
    pub fn in_words(&self) -> (String, String) {
        let words = |value: &Option<Value>| value.as_ref().map(Value::in_words).unwrap_or_default();
        let (expected, found) = (words(&self.expected), words(&self.found));
        let is_bytes = matches!(self.found, Some(Value::Bytes { .. }));
        let found = if is_bytes && expected == found { format!("{found}, not the same") } else { found };
        (expected, found)
    }

    /// One line for a person.
    pub fn sentence(&self) -> String {
        // One that was never read has a subject that nobody knows, so that none is told.
        let place = named(&self.source, self.subject.as_deref());
        let value = |value: &Option<Value>| value.as_ref().map(ToString::to_string).unwrap_or_default();
        let (expected, found) = (value(&self.expected), value(&self.found));
        match self.kind {
            Kind::Missing => format!("{place} is no longer at the destination"),
            Kind::Altered => {
                format!(
                    "{place} has other bytes at the destination ({found}) than at the source ({expected})"
                )
            }
            Kind::Alike => format!(
                "{place} is at the destination as it was handed out when it was carried ({found}); the source hands it out with \
                 other line ends, transport lines or encoding now ({expected})"
            ),
            Kind::Flags => format!("{place} has the flags {found} at the destination, not {expected}"),
            Kind::Date => format!("{place} arrived on {found} at the destination, not on {expected}"),
            Kind::Folder if self.source.is_folder() => {
                format!("{expected}: the folder is not at the destination")
            }
            Kind::Folder => format!("{place} was moved at the destination, to \"{found}\""),
            Kind::Waiting => format!("{place} has not been carried yet"),
            Kind::Extra => format!("{place} is at the destination once more than at the source"),
            Kind::Unchecked => {
                format!("{place} is not in its folder, and may be in one that could not be looked into")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::folder::FolderPath;
    use crate::model::message::{Epoch, ItemId, Locator};
    use crate::model::protocol::Protocol;

    fn difference(kind: Kind, expected: Option<Value>, found: Option<Value>) -> Difference {
        let (folder, epoch) = (FolderPath::inbox(), Epoch::from(7));
        let locator = Locator { protocol: Protocol::Imap, folder, epoch, id: ItemId::Uid(5) };
        Difference {
            kind,
            source: (&locator).into(),
            destination: None,
            subject: Some("hello".to_owned()),
            message_id: None,
            expected,
            found,
        }
    }

    #[test]
    fn a_reader_who_knows_no_protocol_is_told_words_and_no_digests() {
        let flags = |text| Some(Value::Flags(Flags::parse(text)));
        let bytes = |size, n| Some(Value::Bytes { size, exact: Some(Digest([n; 32])) });
        for (expected, found, words) in [
            (flags("\\Seen"), flags("\\Flagged mine"), ("read", "unread, flagged, mine")),
            (flags("\\Deleted \\Seen"), flags(""), ("read, marked for removal", "unread")),
            (bytes(5_000, 1), bytes(4_000, 2), ("5,000 bytes", "4,000 bytes")),
            (bytes(1, 1), bytes(1, 2), ("1 byte", "1 byte, not the same")),
        ] {
            let told = difference(Kind::Altered, expected, found).in_words();
            assert_eq!((told.0.as_str(), told.1.as_str()), words);
        }
    }

    #[test]
    fn a_difference_is_written_as_values_and_read_as_a_sentence() {
        let flags = |text| Some(Value::Flags(Flags::parse(text)));
        let bytes = |size| Some(Value::Bytes { size, exact: None });
        let date = InternalDate { unix: 0, offset_minutes: 60 };
        for (it, json, sentence) in [
            (
                difference(Kind::Flags, flags("\\Seen"), flags("\\Flagged mine")),
                r#""expected":["\\Seen"],"found":["\\Flagged","mine"]"#,
                "INBOX: UID 5: \"hello\" has the flags (\\Flagged mine) at the destination, not (\\Seen)",
            ),
            (
                difference(Kind::Altered, bytes(5), bytes(4)),
                r#""expected":{"size":5},"found":{"size":4}"#,
                "INBOX: UID 5: \"hello\" has other bytes at the destination (4 bytes) than at the source (5 bytes)",
            ),
            (
                difference(Kind::Date, Some(Value::date(date)), None),
                r#""expected":"1970-01-01T01:00:00+01:00","found":null"#,
                "INBOX: UID 5: \"hello\" arrived on  at the destination, not on 1970-01-01T01:00:00+01:00",
            ),
        ] {
            let text = serde_json::to_string(&it).unwrap();
            assert!(text.contains(json), "{text}");
            assert_eq!(serde_json::from_str::<Difference>(&text).unwrap(), it);
            assert_eq!(it.sentence(), sentence);
        }
    }
}
