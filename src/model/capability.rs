//! The abilities that a server claims: the words of IMAP's CAPABILITY (RFC 9051 §7.2.2) and POP3's CAPA (RFC 2449).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// The most words that are kept from one server.
const WORDS_MAX: usize = 200;

/// A set of capability words, upper case.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities(BTreeSet<String>);

impl Capabilities {
    /// Reads words separated by white space; control characters and overlong words are left out.
    pub fn parse(line: &str) -> Self {
        line.split_ascii_whitespace().collect()
    }

    /// Whether a word was said, in whatever case.
    pub fn has(&self, word: &str) -> bool {
        self.0.contains(&word.to_ascii_uppercase())
    }

    /// The values of a `NAME=VALUE` capability, such as the mechanisms of `AUTH=`.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter_map(move |word| word.strip_prefix(name)?.strip_prefix('='))
    }

    /// All words in alphabetical order.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Whether nothing was said.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> FromIterator<&'a str> for Capabilities {
    fn from_iter<I: IntoIterator<Item = &'a str>>(words: I) -> Self {
        let fit = |word: &&str| word.len() <= 100 && word.chars().all(|c| c.is_ascii_graphic());
        Self(words.into_iter().filter(fit).take(WORDS_MAX).map(str::to_ascii_uppercase).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_in_any_case() {
        let caps = Capabilities::parse("IMAP4rev1 AUTH=PLAIN auth=LOGIN Literal+");
        assert!(caps.has("literal+") && !caps.has("IDLE"));
        assert_eq!(caps.values("AUTH").collect::<Vec<_>>(), ["LOGIN", "PLAIN"]);
    }
}
