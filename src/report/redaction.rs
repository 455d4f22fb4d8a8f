//! Makes documents fit to be handed to a supporter: what messages are about is taken out always, who people are when it is
//! asked for. Secrets need no rule: no document that is handed over here ever held one.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;

use percent_encoding::percent_decode_str;
use regex::{Captures, Regex};
use serde_json::Value;

/// The word in the place of a text that was taken out.
const TAKEN_OUT: &str = "[taken out]";

#[allow(clippy::unwrap_used, reason = "constant patterns, compiled in every test")]
static ADDRESS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#"([^\s@"'<>(),;:/=\[\]{}]+)@([\p{L}\p{N}][\p{L}\p{N}.-]*)"#).unwrap());

#[allow(clippy::unwrap_used, reason = "constant patterns, compiled in every test")]
static ENCODED: LazyLock<Regex> = LazyLock::new(|| {
    // As in a URL, and as in a URL that is inside another one.
    Regex::new(r#"([^\s@"'<>(),;:/=\[\]{}&?#]+?)%(?:25)*40([\p{L}\p{N}][\p{L}\p{N}.-]*)"#).unwrap()
});

#[allow(clippy::unwrap_used, reason = "constant patterns, compiled in every test")]
static OBJECT: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"[a-z0-9]+(?:-[a-z0-9]+)*-[0-9a-f]{8}").unwrap());

#[allow(clippy::unwrap_used, reason = "constant patterns, compiled in every test")]
static WORD: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"[\p{L}\p{N}_.+%-]+").unwrap());

/// The texts that are taken out of documents.
#[derive(Debug)]
pub struct Redaction {
    /// The salt of this one bundle, when people are to be hidden: the same person has the same name throughout, and nobody
    /// can look them up by trying names.
    salt: Option<[u8; 32]>,
    /// Names that people are known by without their domain, small letters.
    names: HashSet<String>,
    /// Names of objects and ledgers that are made of such a name.
    objects: HashSet<String>,
}

impl Redaction {
    /// Takes out what messages are about. `hidden` hides people as well: `names` are login names and the parts of
    /// addresses before the `@`, `objects` the names of what is kept for a mailbox, as [`mailbox_migration`] makes them.
    ///
    /// [`mailbox_migration`]: crate::api::names::mailbox_migration
    pub fn new(
        hidden: bool,
        names: impl IntoIterator<Item = String>,
        objects: impl IntoIterator<Item = String>,
    ) -> Self {
        let salt = hidden.then(|| {
            let mut salt = [0; 32];
            for part in salt.chunks_exact_mut(8) {
                // The standard library seeds each of these from the system's random source.
                part.copy_from_slice(&RandomState::new().build_hasher().finish().to_le_bytes());
            }
            salt
        });
        let names = names.into_iter().map(|name| name.to_lowercase()).collect();
        Self { salt, names, objects: objects.into_iter().collect() }
    }

    /// Whether people are hidden.
    pub fn hides_people(&self) -> bool {
        self.salt.is_some()
    }

    /// A JSON document without what is taken out.
    pub fn apply(&self, value: &mut Value) {
        self.walk(value, false);
    }

    /// Text without what is taken out.
    pub fn text(&self, text: &str) -> String {
        let Some(salt) = &self.salt else { return text.to_owned() };
        let hidden = OBJECT.replace_all(text, |found: &Captures<'_>| {
            if self.objects.contains(&found[0]) { pseudonym(salt, &found[0]) } else { found[0].to_owned() }
        });
        let hidden = ADDRESS.replace_all(&hidden, |found: &Captures<'_>| {
            format!("{}@{}", pseudonym(salt, &decoded(&found[1])), &found[2])
        });
        let hidden = ENCODED.replace_all(&hidden, |found: &Captures<'_>| {
            format!("{}%40{}", pseudonym(salt, &decoded(&found[1])), &found[2])
        });
        WORD.replace_all(&hidden, |found: &Captures<'_>| {
            let word = decoded(&found[0]);
            let known = self.names.contains(&word.to_lowercase());
            if known { pseudonym(salt, &word) } else { found[0].to_owned() }
        })
        .into_owned()
    }

    /// `private` is below a field that is about a person.
    fn walk(&self, value: &mut Value, private: bool) {
        match value {
            Value::String(text) if private && self.hides_people() => TAKEN_OUT.clone_into(text),
            Value::String(text) => *text = self.text(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.walk(item, private)),
            Value::Object(fields) => {
                let message = fields.contains_key("messageId");
                // Why somebody agreed is told in their own words, with names.
                let agreed = fields.contains_key("finding") || fields.contains_key("match");
                let asked = fields.get("field").and_then(Value::as_str).is_some_and(is_about_a_person);
                let before = std::mem::take(fields);
                for (name, mut field) in before {
                    if message && ["subject", "messageId"].contains(&name.as_str()) && !field.is_null() {
                        field = Value::from(TAKEN_OUT);
                    } else {
                        let words =
                            agreed && ["reason", "by"].contains(&name.as_str()) || asked && name == "answer";
                        self.walk(&mut field, private || words || is_about_a_person(&name));
                    }
                    fields.insert(self.text(&name), field);
                }
            }
            _ => {}
        }
    }
}

/// Whether a field of a manifest, or a question of the checklist, is about a person.
fn is_about_a_person(field: &str) -> bool {
    let name = field.strip_prefix("domains.").unwrap_or(field);
    ["customer", "acceptance", "dnsEditor", "acknowledged"].contains(&name.split('.').next().unwrap_or(name))
}

/// A word without percent-encoding, however often it was encoded.
fn decoded(word: &str) -> String {
    let mut word = word.to_owned();
    while word.contains('%') {
        let next = percent_decode_str(&word).decode_utf8_lossy().into_owned();
        if next == word {
            break;
        }
        word = next;
    }
    word
}

fn pseudonym(salt: &[u8; 32], name: &str) -> String {
    let hash = blake3::keyed_hash(salt, name.to_lowercase().as_bytes()).to_hex();
    format!("user-{}", &hash[..12])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn names() -> Vec<String> {
        vec!["Anna".to_owned(), "anna.b".to_owned()]
    }

    #[test]
    fn what_messages_are_about_is_taken_out_always() {
        let mut document = json!({
            "named": [{"messageId": "<1@x>", "subject": "Your salary", "size": 5, "mailbox": "anna@a.test"}],
            "findings": [{"code": "X", "subject": "imap.a.test:993"}],
        });
        Redaction::new(false, names(), []).apply(&mut document);
        let text = document.to_string();
        assert!(!text.contains("salary") && !text.contains("<1@x>"), "{text}");
        assert!(text.contains("imap.a.test:993") && text.contains("anna@a.test"), "{text}");
    }

    #[test]
    fn a_hidden_person_has_one_name_throughout_and_another_in_the_next_bundle() {
        let redaction = Redaction::new(true, names(), []);
        let one = redaction.text("anna@a.test");
        assert!(one.starts_with("user-") && one.ends_with("@a.test"), "{one}");
        let name = one.split('@').next().unwrap();
        assert_eq!(redaction.text("login \"Anna\" refused"), format!("login \"{name}\" refused"));
        assert_eq!(redaction.text("imap.a.test said no"), "imap.a.test said no");
        assert_ne!(Redaction::new(true, names(), []).text("anna@a.test"), one);
        let mut document =
            json!({"mailboxes": {"anna@a.test": {"login": "anna.b"}}, "customer": {"name": "Ito"}});
        redaction.apply(&mut document);
        let text = document.to_string();
        assert!(!text.contains("anna") && !text.contains("Ito"), "{text}");
        for told in [
            json!({"field": "customer.contact", "answer": "Ms Ito"}),
            json!({"field": "domains.dnsEditor", "domain": "a.test", "answer": "Ms Ito"}),
            json!([{"finding": "MixedProtocols", "reason": "agreed with Ms Ito"}]),
            json!([{"finding": "MixedProtocols", "reason": "", "by": "Ms Ito"}]),
            json!({"code": "MixedProtocols", "acknowledged": "agreed with Ms Ito"}),
        ] {
            let mut hidden = told.clone();
            redaction.apply(&mut hidden);
            assert!(!hidden.to_string().contains("Ito") && hidden != told, "{hidden}");
            let mut shown = told.clone();
            Redaction::new(false, names(), []).apply(&mut shown);
            assert_eq!(shown, told);
        }
    }

    #[test]
    fn people_are_hidden_in_names_of_objects_and_in_what_was_encoded() {
        let redaction =
            Redaction::new(true, ["anna".to_owned(), "jörg".to_owned()], ["m-anna-0123abcd".to_owned()]);
        let anna = redaction.text("anna@a.test").replace("@a.test", "");
        let jörg = redaction.text("jörg@a.test").replace("@a.test", "");
        for (text, hidden) in [
            (
                "GET /autodiscover?email=anna%40a.test&x=1",
                format!("GET /autodiscover?email={anna}%40a.test&x=1"),
            ),
            ("NO user anna%2540a.test", format!("NO user {anna}%40a.test")),
            ("https://a.test/j%C3%B6rg%40a.test/", format!("https://a.test/{jörg}%40a.test/")),
            ("unknown mailbox J%C3%B6rg", format!("unknown mailbox {jörg}")),
            ("m-other-0123abcd 100% m-anna-0123abce", "m-other-0123abcd 100% m-anna-0123abce".to_owned()),
        ] {
            assert_eq!(redaction.text(text), hidden);
        }
        for text in
            ["ledger m-anna-0123abcd.sqlite-wal", "MailboxMigration m-anna-0123abcd", "n/m-anna-0123abcd: no"]
        {
            let hidden = redaction.text(text);
            assert!(!hidden.contains("anna") && hidden.contains("user-"), "{hidden}");
        }
    }

    proptest! {
        #[test]
        fn no_address_stays_in_any_text(local in "[a-z][a-z0-9.+_-]{2,20}", before in "[ \"<:a-z]{0,12}", after in "[ >\",.]{0,3}") {
            let text = format!("{before} {local}@b.example{after}");
            let hidden = Redaction::new(true, [local.clone()], []).text(&text);
            let address = format!("{local}@");
            prop_assert!(!hidden.contains(&address), "{hidden}");
        }
    }
}
