//! Folder names on the wire: modified UTF-7 (RFC 3501 §5.1.3), the hierarchy delimiter, and the prefix of the personal
//! namespace (RFC 2342).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use base64::Engine;
use base64::alphabet::Alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

use super::tokens::{Value, read_values};
use crate::model::folder::FolderPath;

/// How one server spells folder names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spelling {
    /// The separator between the names of a path; `None` on a server without hierarchy.
    pub delimiter: Option<char>,
    /// The prefix of every personal folder but the Inbox, such as `INBOX.` on Courier. May be empty.
    pub prefix: String,
    /// All prefixes of personal folders; [`Self::prefix`] is the first of them.
    pub personal: Vec<String>,
    /// Prefixes of other users' and shared folders, which are not this mailbox. One of them may be empty: then everything
    /// is shared that is not below a prefix of its own.
    pub foreign: Vec<String>,
    /// Listed folders that the server spells differently than we would, by their paths.
    pub odd: BTreeMap<FolderPath, String>,
}

impl Spelling {
    /// Reads the answer to NAMESPACE: personal, other users', shared; each NIL or a list of (prefix delimiter).
    pub fn read_namespaces(&mut self, rest: &[u8]) {
        let Ok(values) = read_values(rest) else { return };
        let prefixes = |value: Option<&Value>| -> Vec<(String, Option<char>)> {
            let Some(spaces) = value.and_then(Value::list) else { return Vec::new() };
            let read = |space: &Value| {
                let pair = space.list()?;
                let delimiter = pair.get(1).and_then(Value::text).and_then(|text| text.chars().next());
                Some((pair.first()?.text()?.to_owned(), delimiter))
            };
            spaces.iter().filter_map(read).collect()
        };
        let personal = prefixes(values.first());
        if let Some((prefix, delimiter)) = personal.first() {
            self.prefix.clone_from(prefix);
            self.delimiter = delimiter.or(self.delimiter);
        }
        self.personal = personal.into_iter().map(|(prefix, _)| prefix).collect();
        // A server that gives nobody a prefix of their own means everything to be theirs.
        let all_is_shared =
            !self.personal.is_empty() && self.personal.iter().all(|prefix| !prefix.is_empty());
        let foreign = [values.get(1), values.get(2)].into_iter().flat_map(prefixes);
        self.foreign =
            foreign.map(|(prefix, _)| prefix).filter(|prefix| all_is_shared || !prefix.is_empty()).collect();
    }

    /// Whether a folder is another user's or shared: a name belongs to the namespace with the longest prefix that it begins
    /// with. The Inbox is always the user's own.
    pub fn is_foreign(&self, wire: &[u8]) -> bool {
        let name = decode_bytes(wire);
        if name.eq_ignore_ascii_case("INBOX") {
            return false;
        }
        let begins = |prefix: &&String| {
            let bare = self.delimiter.map_or(prefix.as_str(), |delimiter| prefix.trim_end_matches(delimiter));
            let head = name.get(..prefix.len());
            head.is_some_and(|head| {
                head == *prefix || is_below_inbox(prefix) && head.eq_ignore_ascii_case(prefix)
            }) || !prefix.is_empty() && name == bare
        };
        let longest = |prefixes: &[String]| prefixes.iter().filter(begins).map(String::len).max();
        match (longest(&self.personal), longest(&self.foreign)) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(ours), Some(theirs)) => theirs > ours,
        }
    }

    /// The path that a wire name stands for; `None` for a folder that is not in this mailbox.
    pub fn to_path(&self, wire: &[u8]) -> Option<FolderPath> {
        let name = decode_bytes(wire);
        if name.eq_ignore_ascii_case("INBOX") {
            return Some(FolderPath::inbox());
        }
        if self.is_foreign(wire) {
            return None;
        }
        let bare = match name.get(..self.prefix.len()) {
            Some(head) if head.eq_ignore_ascii_case(&self.prefix) => &name[self.prefix.len()..],
            _ => &name[..],
        };
        if bare.is_empty() {
            return None;
        }
        let decode = |part: &str| decode_utf7(part).unwrap_or_else(|| part.to_owned());
        Some(match self.delimiter {
            Some(delimiter) => FolderPath::new(bare.split(delimiter).map(decode)),
            None => FolderPath::new([decode(bare)]),
        })
    }

    /// The wire name of a path: as it was listed, or as it would be spelled. Names must not contain the delimiter: the plan
    /// has seen to that.
    pub fn to_wire(&self, path: &FolderPath) -> String {
        self.odd.get(path).cloned().unwrap_or_else(|| self.spell(path))
    }

    /// The wire name of a path that is not listed.
    pub fn spell(&self, path: &FolderPath) -> String {
        if path.is_inbox() {
            return "INBOX".to_owned();
        }
        let delimiter = self.delimiter.map(String::from).unwrap_or_default();
        let names: Vec<String> = path.names().iter().map(|name| encode_utf7(name)).collect();
        format!("{}{}", self.prefix, names.join(&delimiter))
    }
}

fn is_below_inbox(prefix: &str) -> bool {
    prefix.get(..5).is_some_and(|head| head.eq_ignore_ascii_case("INBOX"))
}

/// A wire name as text. Names are ASCII (RFC 3501) or UTF-8 (RFC 6855); what is neither is read as Latin-1, in which each
/// byte is a character, so that it can be shown and told apart.
fn decode_bytes(wire: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(wire) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => wire.iter().copied().map(char::from).collect(),
    }
}

/// Writes a wire name as a quoted string (RFC 9051 §4.3). Line breaks cannot be quoted; the command layer refuses them.
pub fn quote(wire: &str) -> String {
    let mut quoted = String::with_capacity(wire.len() + 2);
    quoted.push('"');
    for c in wire.chars() {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}

/// Modified base64: a comma in place of the slash, no padding.
static BASE64: LazyLock<Option<GeneralPurpose>> = LazyLock::new(|| {
    let alphabet = Alphabet::new("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,").ok()?;
    let config = GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true);
    Some(GeneralPurpose::new(&alphabet, config))
});

/// Encodes a name in modified UTF-7.
pub fn encode_utf7(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    let mut run: Vec<u8> = Vec::new();
    let flush = |run: &mut Vec<u8>, encoded: &mut String| {
        if let (false, Some(engine)) = (run.is_empty(), BASE64.as_ref()) {
            encoded.push('&');
            encoded.push_str(&engine.encode(&run));
            encoded.push('-');
            run.clear();
        }
    };
    for c in name.chars() {
        if (' '..='~').contains(&c) {
            flush(&mut run, &mut encoded);
            encoded.push(c);
            if c == '&' {
                encoded.push('-');
            }
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                run.extend_from_slice(&unit.to_be_bytes());
            }
        }
    }
    flush(&mut run, &mut encoded);
    encoded
}

/// Decodes modified UTF-7; `None` when the text is not in it, so that the caller may show it as it is.
pub fn decode_utf7(text: &str) -> Option<String> {
    let mut name = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('&') {
        name.push_str(&rest[..start]);
        let inside = &rest[start + 1..];
        let end = inside.find('-')?;
        if end == 0 {
            name.push('&');
        } else {
            let bytes = BASE64.as_ref()?.decode(&inside[..end]).ok()?;
            if bytes.len() % 2 != 0 {
                return None;
            }
            let units: Vec<u16> =
                bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
            name.push_str(&String::from_utf16(&units).ok()?);
        }
        rest = &inside[end + 1..];
    }
    name.push_str(rest);
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_names_are_read_and_written() {
        for (wire, name) in [
            ("Entw&APw-rfe &- Pl&AOQ-ne", "Entwürfe & Pläne"),
            ("&ZeVnLIqe-", "日本語"),
            ("~peter/mail/&U,BTFw-", "~peter/mail/台北"),
            ("&2D3eAA-", "😀"),
        ] {
            assert_eq!(decode_utf7(wire).as_deref(), Some(name));
            assert_eq!(encode_utf7(name), wire);
        }
        for bad in ["a&b", "&!!-", "&AA-", "&2D0-"] {
            assert_eq!(decode_utf7(bad), None, "{bad}");
        }
    }

    #[test]
    fn namespaces_give_prefix_delimiter_and_foreign_folders() {
        let mut courier = Spelling::default();
        courier.read_namespaces(b"((\"INBOX.\" \".\")) NIL ((\"#shared.\" \".\")(\"shared.\" \".\"))");
        assert_eq!(courier.to_path(b"INBOX.Sent.2020"), Some(FolderPath::new(["Sent", "2020"])));
        assert_eq!(courier.to_path(b"inbox"), Some(FolderPath::inbox()));
        assert_eq!(courier.to_path(b"shared.team"), None);
        assert_eq!(courier.to_wire(&FolderPath::new(["Entwürfe", "x"])), "INBOX.Entw&APw-rfe.x");
        assert_eq!(courier.to_wire(&FolderPath::inbox()), "INBOX");
    }

    #[test]
    fn a_name_belongs_to_the_namespace_with_the_longest_prefix() {
        for (namespaces, ours, theirs) in [
            (
                r#"(("INBOX." ".")) (("user." ".")) (("" "."))"#,
                vec!["INBOX", "inbox", "INBOX.Sent", "Inbox.Sent"],
                vec!["pub.shared", "Sent", "user.bob.x", "user"],
            ),
            (
                r#"(("" "/")) (("user/" "/")) (("shared/" "/")("" "/"))"#,
                vec!["Sent", "users"],
                vec!["user/x", "shared"],
            ),
            (r#"(("" "/")("~other/" "/")) NIL (("~" "/"))"#, vec!["a", "~other/x"], vec!["~x", "~shared/x"]),
            (r#"NIL NIL (("" "/"))"#, vec!["INBOX", "Sent"], vec![]),
            ("NIL NIL NIL", vec!["Sent"], vec![]),
        ] {
            let mut spelling = Spelling::default();
            spelling.read_namespaces(namespaces.as_bytes());
            for name in ours {
                assert!(spelling.to_path(name.as_bytes()).is_some(), "{namespaces} {name}");
            }
            for name in theirs {
                assert_eq!(spelling.to_path(name.as_bytes()), None, "{namespaces} {name}");
            }
        }
    }

    #[test]
    fn names_that_are_no_text_are_read_all_the_same() {
        let slashes = Spelling { delimiter: Some('/'), ..Spelling::default() };
        assert_eq!(slashes.to_path(b"Entw\xfcrfe/x"), Some(FolderPath::new(["Entw\u{fc}rfe", "x"])));
        assert_eq!(slashes.to_path("Entw\u{fc}rfe".as_bytes()), Some(FolderPath::new(["Entw\u{fc}rfe"])));
        assert!(!slashes.is_foreign(b"\xff\xfe"));
    }

    proptest! {
        #[test]
        fn every_name_survives_a_round_trip(name in "\\PC{0,40}") {
            prop_assert_eq!(decode_utf7(&encode_utf7(&name)).unwrap(), name);
        }

        #[test]
        fn decoding_never_panics(text in "[ -~]{0,40}") {
            let _ = decode_utf7(&text);
        }
    }
}
