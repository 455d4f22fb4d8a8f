//! The outline of a message: enough to say of two that should be the same what differs, in the small, for whoever reads why a
//! message is not at the destination as it was sent. It proves nothing; the digests do.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use memchr::memchr;

use super::Digest;
use crate::model::text::{cut, printable_bytes};

/// Header fields that are remembered, and the length of a name that is.
const FIELDS_MAX: usize = 200;
const NAME_MAX: usize = 60;

/// A message in the small. Some hundred bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outline {
    /// The names of its header fields as they are spelt, each behind a line feed.
    names: String,
    /// A fingerprint of each field's value.
    values: Vec<u32>,
    /// The beginning of the digest of its body, decoded.
    body: u64,
    /// Bytes of its body as it is, without line ends.
    content: u64,
}

/// The differences between two messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Fields with another value, as the first one spells them.
    pub changed: Vec<String>,
    /// Fields that the second one has more.
    pub added: Vec<String>,
    /// Fields that it has less.
    pub left_out: Vec<String>,
    /// Whether the fields are the same and stand in another order.
    pub reordered: bool,
    /// The difference between the bodies.
    pub body: BodyChange,
}

/// How two bodies differ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BodyChange {
    /// In nothing, or in line ends alone.
    #[default]
    None,
    /// In how they are encoded, or in empty lines at their end.
    Encoding,
    /// In what they say.
    Content,
}

impl Outline {
    /// Takes a field: the bytes of its lines without their ends.
    pub(super) fn field(&mut self, raw: &[u8]) {
        if self.values.len() >= FIELDS_MAX {
            return;
        }
        let (name, value) = match memchr(b':', raw) {
            Some(colon) => (raw[..colon].trim_ascii_end(), &raw[colon + 1..]),
            None => (&b""[..], raw),
        };
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        // Its lower half is as good as any other.
        #[allow(clippy::cast_possible_truncation, reason = "a fingerprint")]
        self.values.push(hasher.finish() as u32);
        self.names.push('\n');
        self.names.push_str(&cut(&printable_bytes(&name[..name.len().min(NAME_MAX)]), NAME_MAX));
    }

    /// Counts bytes of the body as they are.
    pub(super) fn content(&mut self, bytes: usize) {
        self.content += bytes as u64;
    }

    /// Takes what the body says.
    pub(super) fn body(&mut self, digest: &Digest) {
        let mut first = [0; 8];
        first.copy_from_slice(&digest.0[..8]);
        self.body = u64::from_le_bytes(first);
    }

    /// Returns how many bytes less another body has that says something else than this one; 0 where both say the same.
    pub fn lost_in(&self, other: &Self) -> u64 {
        if self.body == other.body { 0 } else { self.content.saturating_sub(other.content) }
    }

    /// Returns the bytes of the body as it is, without line ends.
    pub fn content_bytes(&self) -> u64 {
        self.content
    }

    fn fields(&self) -> impl Iterator<Item = (&str, u32)> {
        self.names.split('\n').skip(1).zip(self.values.iter().copied())
    }

    /// Returns how another message differs.
    pub fn changes_to(&self, other: &Self) -> Changes {
        let body = match (self.body == other.body, self.content == other.content) {
            (false, _) => BodyChange::Content,
            (true, false) => BodyChange::Encoding,
            (true, true) => BodyChange::None,
        };
        let mut changes = Changes { body, ..Changes::default() };
        let mut order: Vec<String> = Vec::new();
        // Of each name: how it is spelt, and the values that only one of the two has.
        let mut by_name: BTreeMap<String, (&str, Vec<u32>, Vec<u32>)> = BTreeMap::new();
        for (name, value) in self.fields() {
            let key = name.to_ascii_lowercase();
            by_name
                .entry(key.clone())
                .or_insert_with(|| {
                    order.push(key);
                    (name, Vec::new(), Vec::new())
                })
                .1
                .push(value);
        }
        for (name, value) in other.fields() {
            let key = name.to_ascii_lowercase();
            let (_, here, there) = by_name.entry(key.clone()).or_insert_with(|| {
                order.push(key);
                (name, Vec::new(), Vec::new())
            });
            match here.iter().position(|it| *it == value) {
                Some(at) => drop(here.remove(at)),
                None => there.push(value),
            }
        }
        for (name, here, there) in order.iter().filter_map(|key| by_name.get(key)) {
            let name = || if name.is_empty() { "(no name)".to_owned() } else { (*name).to_owned() };
            let both = here.len().min(there.len());
            if both > 0 {
                changes.changed.push(name());
            }
            if here.len() > both {
                changes.left_out.push(name());
            }
            if there.len() > both {
                changes.added.push(name());
            }
        }
        let is_same = changes.changed.is_empty() && changes.added.is_empty() && changes.left_out.is_empty();
        changes.reordered = is_same && self.values != other.values;
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::identity::IdentityHasher;

    fn changes(sent: &str, arrived: &str) -> Changes {
        let outline = |text: &str| {
            let mut hasher = IdentityHasher::new();
            hasher.update(text.as_bytes());
            hasher.finish().outline
        };
        outline(sent).changes_to(&outline(arrived))
    }

    #[test]
    fn what_differs_is_said_by_its_name() {
        let sent = "Received: a\r\nReceived: b\r\nSubject: s\r\nX-One: 1\r\n\r\nbody\r\n";
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(changes(sent, sent), Changes::default());
        assert_eq!(changes(sent, &sent.replace("\r\n", "\n")), Changes::default());
        let edited = sent.replace("Subject: s", "subject: t").replace("X-One: 1", "X-Two: 2\r\nReceived: c");
        let expected = Changes {
            changed: names(&["Subject"]),
            added: names(&["Received", "X-Two"]),
            left_out: names(&["X-One"]),
            ..Changes::default()
        };
        assert_eq!(changes(sent, &edited), expected);
        let swapped = sent.replace("Received: a\r\nReceived: b", "Received: b\r\nReceived: a");
        assert!(changes(sent, &swapped).reordered);
        assert_eq!(changes(sent, &sent.replace("body", "other")).body, BodyChange::Content);
        assert_eq!(changes(sent, &sent.replace("body\r\n", "body\r\n\r\n")).body, BodyChange::None);
        let encoded = "Content-Transfer-Encoding: base64\r\n\r\nYm9keQ==\r\n";
        assert_eq!(changes("\r\nbody\r\n", encoded).body, BodyChange::Encoding);
        assert_eq!(changes("no field\r\n\r\n", "none\r\n\r\n").changed, ["(no name)"]);
    }
}
