//! The XML of the old way (MS-OXDSCLI): what is asked and what comes.

use quick_xml::escape::escape;

use crate::discovery::xml::{Met, walk};
use crate::model::failure::Result;
use crate::model::protocol::{Protocol, Tls};

/// The most servers that are read from one document.
const SERVERS_MAX: usize = 20;

/// The part of a document that matters.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Document {
    pub(super) servers: Vec<Server>,
    /// Where Exchange Web Services are.
    pub(super) ews: Option<String>,
    /// Another address or URL to ask.
    pub(super) redirect: Option<String>,
    pub(super) error: Option<String>,
}

/// One server of IMAP or POP3.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) protocol: Protocol,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: Tls,
    /// The word of the document about encryption.
    pub(super) ssl: String,
}

#[derive(Default)]
struct Draft {
    kind: String,
    host: String,
    port: String,
    ssl: String,
    encryption: String,
    ews: String,
}

impl Draft {
    fn server(&self) -> Option<Server> {
        let protocol = match self.kind.to_ascii_uppercase().as_str() {
            "IMAP" => Protocol::Imap,
            "POP3" | "POP" => Protocol::Pop3,
            _ => return None,
        };
        let port = self.port.parse().ok().filter(|port| *port > 0);
        // <Encryption> wins over <SSL>; <SSL> is on where it is not said (MS-OXDSCLI 2.2.4.1.1.2.6).
        let off = self.ssl.eq_ignore_ascii_case("off");
        let tls = match self.encryption.to_ascii_uppercase().as_str() {
            "SSL" => Tls::Implicit,
            "NONE" => Tls::None,
            "TLS" => Tls::StartTLS,
            _ if off => Tls::None,
            // TLS at the port of plain greetings begins with STARTTLS.
            _ if port == Some(protocol.default_port(Tls::StartTLS)) => Tls::StartTLS,
            _ => Tls::Implicit,
        };
        let fits = !self.host.is_empty() && self.host.len() <= 253;
        fits.then(|| Server {
            protocol,
            host: self.host.clone(),
            port: port.unwrap_or(protocol.default_port(tls)),
            tls,
            ssl: format!("{} {}", self.ssl, self.encryption).trim().to_owned(),
        })
    }
}

/// The text that asks for the settings of an address.
pub(super) fn request(address: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\
         <Autodiscover xmlns=\"http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006\">\
         <Request><EMailAddress>{}</EMailAddress><AcceptableResponseSchema>\
         http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a\
         </AcceptableResponseSchema></Request></Autodiscover>",
        escape(address)
    )
}

/// Reads a document. Elements that it does not know are passed over.
///
/// # Errors
/// As [`walk`].
pub(super) fn parse(text: &str) -> Result<Document> {
    let mut document = Document::default();
    let mut draft: Option<Draft> = None;
    walk(text, "autodiscover", "Autodiscover", |met| match met {
        Met::Start { name: "Protocol", .. } => draft = Some(Draft::default()),
        Met::End { name: "Protocol", .. } => {
            let Some(draft) = draft.take() else { return };
            if document.servers.len() < SERVERS_MAX {
                document.servers.extend(draft.server());
            }
            if document.ews.is_none() && !draft.ews.is_empty() {
                document.ews = Some(draft.ews);
            }
        }
        Met::End { name, text, .. } if !text.is_empty() => {
            take(&mut document, draft.as_mut(), name, text.to_owned());
        }
        Met::Start { .. } | Met::End { .. } => {}
    })?;
    Ok(document)
}

fn take(document: &mut Document, draft: Option<&mut Draft>, name: &str, text: String) {
    let single = match (name, draft) {
        ("Type", Some(draft)) => &mut draft.kind,
        ("Server", Some(draft)) => &mut draft.host,
        ("Port", Some(draft)) => &mut draft.port,
        ("SSL", Some(draft)) => &mut draft.ssl,
        ("Encryption", Some(draft)) => &mut draft.encryption,
        ("EwsUrl", Some(draft)) => &mut draft.ews,
        ("RedirectUrl" | "RedirectAddr", _) => {
            document.redirect.get_or_insert(text);
            return;
        }
        ("Message", None) => {
            document.error.get_or_insert(text);
            return;
        }
        _ => return,
    };
    if single.is_empty() {
        *single = text;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(inner: &str) -> String {
        format!(
            "<?xml version=\"1.0\"?><Autodiscover xmlns=\"http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006\">\
             <Response xmlns=\"http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a\"><Account>\
             <AccountType>email</AccountType>{inner}</Account></Response></Autodiscover>"
        )
    }

    #[test]
    fn servers_of_imap_and_pop3_and_of_exchange_are_read() {
        let text = account(
            "<Action>settings</Action>\
             <Protocol><Type>IMAP</Type><Server>mail.c.example</Server><Port>993</Port><SSL>on</SSL></Protocol>\
             <Protocol><Type>IMAP</Type><Server>mail.c.example</Server><Port>143</Port><SSL>on</SSL></Protocol>\
             <Protocol><Type>POP3</Type><Server>mail.c.example</Server><Port>995</Port><Encryption>SSL</Encryption></Protocol>\
             <Protocol><Type>POP3</Type><Server>old.c.example</Server><Port>110</Port><SSL>off</SSL></Protocol>\
             <Protocol><Type>SMTP</Type><Server>mail.c.example</Server><Port>465</Port></Protocol>\
             <Protocol><Type>EXPR</Type><Server>x</Server><EwsUrl>https://mail.c.example/EWS/Exchange.asmx?a&amp;b</EwsUrl></Protocol>",
        );
        let document = parse(&text).unwrap();
        let seen: Vec<_> =
            document.servers.iter().map(|s| (s.protocol, s.host.as_str(), s.port, s.tls)).collect();
        assert_eq!(
            seen,
            [
                (Protocol::Imap, "mail.c.example", 993, Tls::Implicit),
                (Protocol::Imap, "mail.c.example", 143, Tls::StartTLS),
                (Protocol::Pop3, "mail.c.example", 995, Tls::Implicit),
                (Protocol::Pop3, "old.c.example", 110, Tls::None),
            ]
        );
        assert_eq!(document.ews.as_deref(), Some("https://mail.c.example/EWS/Exchange.asmx?a&b"));
    }

    #[test]
    fn redirects_and_errors_are_read() {
        let document =
            parse(&account("<Action>redirectAddr</Action><RedirectAddr>a@t.onmicrosoft.com</RedirectAddr>"));
        assert_eq!(document.unwrap().redirect.as_deref(), Some("a@t.onmicrosoft.com"));
        let error = "<Autodiscover><Response><Error><ErrorCode>600</ErrorCode><Message>Invalid Request</Message></Error></Response></Autodiscover>";
        assert_eq!(parse(error).unwrap().error.as_deref(), Some("Invalid Request"));
    }

    #[test]
    fn references_are_read_and_addresses_escaped() {
        let text = account(
            "<Protocol><Type>IMAP</Type><Server>mail&#46;c&#x2e;example</Server><Port>993</Port></Protocol>",
        );
        assert_eq!(parse(&text).unwrap().servers[0].host, "mail.c.example");
        assert!(request("a&b<c>@x.example").contains("<EMailAddress>a&amp;b&lt;c&gt;@x.example<"));
        let failure = parse("<html><body>Not found</body></html>").unwrap_err();
        assert!(failure.what.contains("<html> and not <Autodiscover>"), "{}", failure.what);
    }

    proptest::proptest! {
        #[test]
        fn documents_from_strangers_never_panic(
            changes in proptest::collection::vec((0_usize..700, proptest::prelude::any::<u8>(), 0_u8..4), 0..12),
        ) {
            let mut bytes = account("<Protocol><Type>IMAP</Type><Server>m</Server><Port>993</Port></Protocol>").into_bytes();
            for (at, byte, what) in changes {
                let at = at % (bytes.len() + 1);
                match what {
                    0 => bytes.insert(at, byte),
                    1 => bytes.truncate(at.max(1)),
                    2 if at < bytes.len() => bytes[at] = byte,
                    _ => bytes.extend_from_within(at..),
                }
            }
            if let Ok(document) = parse(&String::from_utf8_lossy(&bytes)) {
                proptest::prop_assert!(document.servers.len() <= SERVERS_MAX);
            }
        }
    }
}
