//! Mail addresses and domains, parsed once and never plain strings afterwards: compared as values, an address is the same in
//! either case, and a domain in either spelling of an international name.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

/// A mail domain in its lower-case ASCII form; international names are kept in Punycode (RFC 5891).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Domain(String);

impl Domain {
    /// The domain as it is looked up in the DNS.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// An international name in its own letters, as people write it.
    pub fn to_unicode(&self) -> String {
        let (name, broken) = idna::domain_to_unicode(&self.0);
        if broken.is_ok() { name } else { self.0.clone() }
    }
}

impl FromStr for Domain {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match url::Host::parse(text.trim_end_matches('.')) {
            // Web browsers take more signs than any mail domain has, among them those that part the cells of a list.
            Ok(url::Host::Domain(name))
                if name.len() <= 253
                    && !name.starts_with('.')
                    && !name.is_empty()
                    && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) =>
            {
                Ok(Self(name.to_ascii_lowercase()))
            }
            _ => Err(format!("\"{}\" is not a domain name", super::text::printable(text))),
        }
    }
}

/// Whether two texts name the same domain: in either case, in either spelling of an international name, with or without the
/// final dot.
pub fn is_same_domain(one: &str, other: &str) -> bool {
    let is_plain = |name: &str| {
        let bytes = name.as_bytes();
        name.is_ascii() && !name.ends_with('.') && !bytes.windows(4).any(|w| w.eq_ignore_ascii_case(b"xn--"))
    };
    // Most names have one spelling, and reading them takes longer than comparing.
    if one.eq_ignore_ascii_case(other) || is_plain(one) && is_plain(other) {
        return one.eq_ignore_ascii_case(other);
    }
    matches!((one.parse::<Domain>(), other.parse::<Domain>()), (Ok(one), Ok(other)) if one == other)
}

/// A mail address: local part and domain (RFC 5321 §2.3.11). The local part is shown and sent as it was written, and compared
/// without regard to case and Unicode form: two lists rarely write it alike, and no mail system in use keeps two mailboxes
/// that differ in nothing else.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    local: String,
    /// The text that is compared, where that is not the local part itself.
    folded: Option<Box<str>>,
    domain: Domain,
}

impl Address {
    /// The local part as it is compared: in small letters, composed (Unicode NFC).
    pub fn folded_local_part(&self) -> &str {
        self.folded.as_deref().unwrap_or(&self.local)
    }

    fn compared(&self) -> (&str, &Domain) {
        (self.folded_local_part(), &self.domain)
    }

    /// The part before the `@`.
    pub fn local_part(&self) -> &str {
        &self.local
    }

    /// The part after the `@`.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }
}

impl PartialEq for Address {
    fn eq(&self, other: &Self) -> bool {
        self.compared() == other.compared()
    }
}

impl Eq for Address {}

impl Hash for Address {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.compared().hash(state);
    }
}

impl PartialOrd for Address {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Address {
    fn cmp(&self, other: &Self) -> Ordering {
        self.compared().cmp(&other.compared())
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || format!("\"{}\" is not a mail address", super::text::printable(text));
        let (local, domain) = text.trim().rsplit_once('@').ok_or_else(refuse)?;
        let spoiled = |c: char| {
            // Unseen characters come with text that was copied, and are not part of a name.
            let unseen = matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}');
            c.is_control()
                || c.is_whitespace()
                || unseen
                // Signs that stand only between quotes (RFC 5322 §3.2.3), and come with links and lists of names.
                || matches!(c, '"' | '@' | '(' | ')' | '<' | '>' | ',' | ';' | ':' | '[' | ']' | '\\')
        };
        if local.is_empty() || local.len() > 64 || local.contains(spoiled) {
            return Err(refuse());
        }
        let folded: String = local.nfc().collect::<String>().to_lowercase();
        let folded = (folded != local).then(|| folded.into_boxed_str());
        Ok(Self { local: local.to_owned(), folded, domain: domain.parse()? })
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}@{}", self.local, self.domain))
    }
}

impl TryFrom<String> for Domain {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Domain> for String {
    fn from(domain: Domain) -> Self {
        domain.0
    }
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_one_in_every_spelling() {
        for spelling in
            ["münchen.example", "MÜNCHEN.example.", "xn--mnchen-3ya.example", "XN--MNCHEN-3YA.example."]
        {
            assert!(is_same_domain("xn--mnchen-3ya.example", spelling), "{spelling}");
            assert!(is_same_domain(spelling, "München.Example"), "{spelling}");
        }
        assert!(is_same_domain("a.test", "A.test.") && is_same_domain("a.test", "a.TEST"));
        assert!(!is_same_domain("a.test", "b.test") && !is_same_domain("a.test", "xn--a.test"));
    }

    #[test]
    fn addresses_are_taken_apart_at_the_last_at() {
        let address: Address = "Anna.B@Contoso.Example".parse().unwrap();
        assert_eq!((address.local_part(), address.domain().as_str()), ("Anna.B", "contoso.example"));
        assert_eq!(
            "jörg@münchen.example".parse::<Address>().unwrap().domain().as_str(),
            "xn--mnchen-3ya.example"
        );
        for (one, other) in [
            ("Anna@a.example", "anna@A.Example"),
            ("JÖRG@münchen.example", "jo\u{308}rg@xn--mnchen-3ya.example"),
            ("anna@a.example.", "anna@a.example"),
        ] {
            let (one, other) = (one.parse::<Address>().unwrap(), other.parse::<Address>().unwrap());
            assert_eq!(one, other);
            assert_eq!(std::collections::HashSet::from([one, other]).len(), 1);
        }
        assert_eq!(address.to_string(), "Anna.B@contoso.example", "it is shown as it was written");
        for bad in [
            "anna",
            "@contoso.example",
            "a b@c.example",
            "a@",
            "a\r\nb@c.example",
            "a@127.0.0.1",
            "a\u{200b}b@c.example",
            "mailto:anna@c.example",
            "anna@c.example;x",
            "anna@c.example,ben",
            "anna@c.example'",
            "CONTOSO\\anna@c.example",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }
}
