//! SASL as mail servers speak it: PLAIN (RFC 4616) for passwords, OAUTHBEARER (RFC 7628) and XOAUTH2 (what Microsoft and
//! Google had before it) for tokens. The responses built here are secrets; IMAP and POP3 only carry them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::model::failure::{Class, Failure, Result};
use crate::model::secret::Secret;
use crate::model::text::{cut, printable};

/// The longest field of a server's reason for a refusal that is shown, in bytes.
const REASON_MAX: usize = 100;

/// One exchange: what is said at first, and what is answered when the server asks on.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    /// The mechanism's name.
    pub(crate) mechanism: &'static str,
    /// The initial response, not yet in base64.
    pub(crate) first: Secret,
    /// The acknowledgement of the server's reason for a refusal, so that it ends the exchange; not yet in base64.
    pub(crate) acknowledgement: &'static str,
}

impl Exchange {
    /// PLAIN: authorization identity, user, password.
    pub(crate) fn plain(authzid: Option<&str>, user: &str, password: &Secret) -> Self {
        let first = Secret::new(format!("{}\0{user}\0{}", authzid.unwrap_or(""), password.expose()));
        Self { mechanism: "PLAIN", first, acknowledgement: "" }
    }

    /// A token, by the better mechanism of those that the server offers.
    ///
    /// # Errors
    /// [`Class::Refused`] when it takes no tokens.
    pub(crate) fn bearer(
        offers: impl Fn(&str) -> bool,
        (host, port): (&str, u16),
        user: &str,
        token: &Secret,
    ) -> Result<Self> {
        let token = token.expose();
        if offers("OAUTHBEARER") {
            let name = user.replace('=', "=3D").replace(',', "=2C");
            let first =
                format!("n,a={name},\u{1}host={host}\u{1}port={port}\u{1}auth=Bearer {token}\u{1}\u{1}");
            let first = Secret::new(first);
            return Ok(Self { mechanism: "OAUTHBEARER", first, acknowledgement: "\u{1}" });
        }
        if offers("XOAUTH2") {
            let first = Secret::new(format!("user={user}\u{1}auth=Bearer {token}\u{1}\u{1}"));
            return Ok(Self { mechanism: "XOAUTH2", first, acknowledgement: "" });
        }
        let what = "takes no tokens: it offers neither OAUTHBEARER nor XOAUTH2";
        Err(Failure::new(Class::Refused, what).hint("give a password in the Secret for this server"))
    }

    /// The initial response as it goes onto the wire.
    pub(crate) fn encode(&self) -> Secret {
        Secret::new(STANDARD.encode(self.first.expose()))
    }

    /// The rest of the exchange, once the mechanism's name was sent, `with` its initial response or without.
    pub(crate) fn begin(self, with_first: bool) -> Conversation {
        Conversation { exchange: self, firsts: u8::from(with_first), acknowledged: false }
    }
}

/// An exchange under way.
#[derive(Debug)]
pub(crate) struct Conversation {
    exchange: Exchange,
    /// How often the initial response was sent.
    firsts: u8,
    acknowledged: bool,
}

impl Conversation {
    /// The answer to a question, not yet in base64; `None` when there is nothing more to say. A server that does not
    /// know initial responses asks for it again, with nothing in its question; a reason for a refusal is something.
    pub(crate) fn answer(&mut self, question: &[u8]) -> Option<Secret> {
        if self.firsts == 0 || self.firsts == 1 && question.trim_ascii().is_empty() {
            self.firsts += 1;
            return Some(self.exchange.first.clone());
        }
        let first_time = !std::mem::replace(&mut self.acknowledged, true);
        first_time.then(|| Secret::new(self.exchange.acknowledgement))
    }
}

/// The reason that a server gives for a refused token, a JSON document in base64 (RFC 7628 §3.2.2); `None` when there is
/// none that can be read.
pub(crate) fn read_reason(challenge: &[u8]) -> Option<String> {
    let reason: Value = serde_json::from_slice(&STANDARD.decode(challenge.trim_ascii()).ok()?).ok()?;
    let field = |name: &str| {
        let text = reason.get(name)?.as_str().filter(|text| !text.is_empty())?;
        Some(format!("{name} {}", cut(&printable(text), REASON_MAX)))
    };
    let fields: Vec<String> = ["status", "scope"].into_iter().filter_map(field).collect();
    (!fields.is_empty()).then(|| fields.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_said_as_the_mechanisms_have_it() {
        let token = Secret::new("ya29.x");
        let said = |offered: &[&str]| {
            let offers = |name: &str| offered.contains(&name);
            let exchange = Exchange::bearer(offers, ("imap.x.test", 993), "a,b=c@x.test", &token).ok()?;
            Some((exchange.mechanism, exchange.first.expose().to_owned(), exchange.acknowledgement))
        };
        let old = "user=a,b=c@x.test\u{1}auth=Bearer ya29.x\u{1}\u{1}";
        assert_eq!(said(&["PLAIN", "XOAUTH2"]), Some(("XOAUTH2", old.to_owned(), "")));
        let new = "n,a=a=2Cb=3Dc@x.test,\u{1}host=imap.x.test\u{1}port=993\u{1}auth=Bearer ya29.x\u{1}\u{1}";
        assert_eq!(said(&["XOAUTH2", "OAUTHBEARER"]), Some(("OAUTHBEARER", new.to_owned(), "\u{1}")));
        assert_eq!(said(&["PLAIN"]), None);
    }

    #[test]
    fn a_question_is_answered_with_what_was_not_said_yet() {
        let said = |with_first: bool, questions: &[&str]| -> Vec<Option<String>> {
            let exchange = Exchange::bearer(|name| name == "OAUTHBEARER", ("h", 1), "u", &Secret::new("t"));
            let mut conversation = exchange.unwrap().begin(with_first);
            let mut answer = |question: &&str| conversation.answer(question.as_bytes());
            questions.iter().map(|q| answer(q).map(|a| a.expose()[..1].to_owned())).collect()
        };
        let (first, acknowledged) = (Some("n".to_owned()), Some("\u{1}".to_owned()));
        assert_eq!(said(false, &["", "e30="]), [first.clone(), acknowledged.clone()]);
        assert_eq!(said(true, &["e30=", "e30="]), [acknowledged.clone(), None]);
        assert_eq!(said(true, &["", "e30="]), [first.clone(), acknowledged.clone()]);
        assert_eq!(said(true, &["", "", ""]), [first, acknowledged, None]);
    }

    #[test]
    fn a_servers_reason_is_read_and_made_printable() {
        let told = |text: &str| read_reason(STANDARD.encode(text).as_bytes());
        assert_eq!(
            told(r#"{"status":"invalid_token","scope":"https://mail.example/"}"#).as_deref(),
            Some("status invalid_token, scope https://mail.example/")
        );
        assert_eq!(
            told(r#"{"status":"400\u001b[2J","schemes":"Bearer"}"#).as_deref(),
            Some("status 400\\u{1b}[2J")
        );
        assert_eq!((told("[]"), told("{}"), read_reason(b"!"), read_reason(b"")), (None, None, None, None));
    }
}
