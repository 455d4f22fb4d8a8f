//! Folder names on the wire: modified UTF-7 (RFC 3501 §5.1.3), the hierarchy delimiter, and the prefix of the personal
//! namespace (RFC 2342).

use std::collections::BTreeMap;

use base64::Engine;
use base64::alphabet::Alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

use super::tokens::{Value, read_values};
use crate::model::folder::FolderPath;

/// How one server spells folder names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spelling {
    /// What separates the names of a path; `None` on a server without hierarchy.
    pub delimiter: Option<char>,
    /// What stands before every personal folder but the Inbox, such as `INBOX.` on Courier. May be empty.
    pub prefix: String,
    /// Prefixes of other users' and shared folders, which are not this mailbox.
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
        if let Some((prefix, delimiter)) = prefixes(values.first()).into_iter().next() {
            self.prefix = prefix;
            self.delimiter = delimiter.or(self.delimiter);
        }
        let foreign = [values.get(1), values.get(2)].into_iter().flat_map(prefixes);
        self.foreign = foreign.map(|(prefix, _)| prefix).filter(|prefix| !prefix.is_empty()).collect();
    }

    /// The path that a wire name stands for; `None` for a folder that is not in this mailbox.
    pub fn to_path(&self, wire: &[u8]) -> Option<FolderPath> {
        let name = String::from_utf8_lossy(wire);
        if name.eq_ignore_ascii_case("INBOX") {
            return Some(FolderPath::inbox());
        }
        if self.foreign.iter().any(|prefix| {
            name.starts_with(prefix.as_str())
                || self.delimiter.is_some_and(|d| name == prefix.trim_end_matches(d))
        }) {
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
        if let Some(listed) = self.odd.get(path) {
            return listed.clone();
        }
        if path.is_inbox() {
            return "INBOX".to_owned();
        }
        let delimiter = self.delimiter.map(String::from).unwrap_or_default();
        let names: Vec<String> = path.names().iter().map(|name| encode_utf7(name)).collect();
        format!("{}{}", self.prefix, names.join(&delimiter))
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

fn base64() -> Option<GeneralPurpose> {
    // Modified base64: a comma in place of the slash, no padding.
    let alphabet = Alphabet::new("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,").ok()?;
    let config = GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true);
    Some(GeneralPurpose::new(&alphabet, config))
}

/// Encodes a name in modified UTF-7.
pub fn encode_utf7(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    let mut run: Vec<u8> = Vec::new();
    let flush = |run: &mut Vec<u8>, encoded: &mut String| {
        if let (false, Some(engine)) = (run.is_empty(), base64()) {
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
            let bytes = base64()?.decode(&inside[..end]).ok()?;
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
