//! The document itself, config-v1.1.xml.

use crate::discovery::xml::{Met, walk};
use crate::model::failure::Result;
use crate::model::protocol::{Protocol, Tls};

/// The most servers that are read from one document.
const SERVERS_MAX: usize = 20;

/// The part of a document that matters.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Document {
    /// The servers of IMAP and POP3, in the order of the document.
    pub(super) incoming: Vec<Incoming>,
}

/// One incoming server. The host name may hold placeholders such as `%EMAILDOMAIN%`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Incoming {
    pub(super) protocol: Protocol,
    pub(super) hostname: String,
    pub(super) port: u16,
    pub(super) tls: Tls,
    /// `socketType` as the document writes it.
    pub(super) socket: String,
    pub(super) authentication: Vec<String>,
    pub(super) username: String,
}

#[derive(Default)]
struct Draft {
    protocol: Option<Protocol>,
    hostname: String,
    port: String,
    socket: String,
    authentication: Vec<String>,
    username: String,
}

impl Draft {
    fn finish(self) -> Option<Incoming> {
        let protocol = self.protocol?;
        let tls = match self.socket.to_ascii_uppercase().as_str() {
            "SSL" | "TLS" => Tls::Implicit,
            "STARTTLS" => Tls::StartTLS,
            "PLAIN" => Tls::None,
            _ => return None,
        };
        let port = match self.port.as_str() {
            "" => protocol.default_port(tls),
            port => port.parse().ok().filter(|port| *port > 0)?,
        };
        if self.hostname.is_empty() || self.hostname.len() > 253 {
            return None;
        }
        Some(Incoming {
            protocol,
            hostname: self.hostname,
            port,
            tls,
            socket: self.socket,
            authentication: self.authentication,
            username: self.username,
        })
    }
}

/// Reads a document. Elements that it does not know are passed over, as the format asks for.
///
/// # Errors
/// As [`walk`].
pub(super) fn parse(text: &str) -> Result<Document> {
    let mut document = Document::default();
    let mut draft: Option<Draft> = None;
    walk(text, "autoconfig", "clientConfig", |met| match met {
        Met::Start { name: "incomingServer", kind } => {
            draft = Some(Draft { protocol: kind.and_then(protocol_of), ..Draft::default() });
        }
        Met::End { name: "incomingServer", .. } => {
            let finished = draft.take().and_then(Draft::finish);
            if document.incoming.len() < SERVERS_MAX {
                document.incoming.extend(finished);
            }
        }
        Met::End { name, parent: "incomingServer", text } => {
            if let Some(draft) = &mut draft {
                take_field(draft, name, text.to_owned());
            }
        }
        Met::Start { .. } | Met::End { .. } => {}
    })?;
    Ok(document)
}

fn take_field(draft: &mut Draft, name: &str, text: String) {
    let single = match name {
        "hostname" => &mut draft.hostname,
        "port" => &mut draft.port,
        "socketType" => &mut draft.socket,
        "username" => &mut draft.username,
        "authentication" => {
            if draft.authentication.len() < 10 {
                draft.authentication.push(text);
            }
            return;
        }
        _ => return,
    };
    // A second value is an alternative that a newer format added; the first is what every client understands.
    if single.is_empty() {
        *single = text;
    }
}

fn protocol_of(kind: &str) -> Option<Protocol> {
    match kind {
        "imap" => Some(Protocol::Imap),
        "pop3" => Some(Protocol::Pop3),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_in_order_and_others_passed_over() {
        let document = parse(
            r#"<?xml version="1.0"?>
            <clientConfig version="1.1"><emailProvider id="c.example"><domain>c.example</domain>
              <incomingServer type="exchange"><hostname>owa.c.example</hostname></incomingServer>
              <incomingServer type="imap"><!-- ours --><hostname>imap.%EMAILDOMAIN%</hostname><port>993</port>
                <socketType>SSL</socketType><username>%EMAILADDRESS%</username>
                <authentication>OAuth2</authentication><authentication>password-cleartext</authentication>
                <novelty><hostname>other.example</hostname></novelty></incomingServer>
              <incomingServer type="pop3"><hostname>pop&#46;c.example</hostname><socketType>STARTTLS</socketType>
              </incomingServer>
              <incomingServer type="imap"><hostname>x</hostname><port>99999</port><socketType>SSL</socketType>
              </incomingServer>
              <incomingServer type="imap"><hostname>old.c.example</hostname><port>143</port>
                <socketType>plain</socketType></incomingServer>
              <outgoingServer type="smtp"><hostname>smtp.c.example</hostname></outgoingServer>
            </emailProvider></clientConfig>"#,
        )
        .unwrap();
        let seen: Vec<_> =
            document.incoming.iter().map(|i| (i.protocol, i.hostname.as_str(), i.port, i.tls)).collect();
        assert_eq!(
            seen,
            [
                (Protocol::Imap, "imap.%EMAILDOMAIN%", 993, Tls::Implicit),
                (Protocol::Pop3, "pop.c.example", 110, Tls::StartTLS),
                (Protocol::Imap, "old.c.example", 143, Tls::None),
            ]
        );
        assert_eq!(document.incoming[0].authentication, ["OAuth2", "password-cleartext"]);
    }

    #[test]
    fn what_is_no_autoconfig_is_refused_and_a_name_without_end_is_none() {
        let failure = parse("<html><body>Not found</body></html>").unwrap_err();
        assert!(failure.what.contains("<html> and not <clientConfig>"), "{}", failure.what);
        let name = "x".repeat(5000);
        let document = parse(&format!(
            "<clientConfig><incomingServer type=\"imap\"><hostname>{name}</hostname><port>993</port>\
             <socketType>SSL</socketType></incomingServer></clientConfig>"
        ));
        assert_eq!(document.unwrap(), Document::default());
    }

    #[test]
    fn every_real_document_of_the_corpus_names_a_server() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpora/autoconfig");
        let Ok(entries) = std::fs::read_dir(&folder) else {
            println!("the corpus of real autoconfig documents is not here; nothing was compared");
            return;
        };
        let mut seen = 0;
        for entry in entries.flatten() {
            let text = std::fs::read_to_string(entry.path()).unwrap();
            let document = parse(&text).unwrap_or_else(|failure| panic!("{:?}: {failure}", entry.path()));
            // Some providers offer only what is not read here.
            let mail = text.contains("type=\"imap\"") || text.contains("type=\"pop3\"");
            assert_eq!(!document.incoming.is_empty(), mail, "{:?}", entry.path());
            seen += 1;
        }
        assert!(seen > 100, "only {seen} documents");
    }

    const DOCUMENT: &[u8] = br#"<?xml version="1.0"?><clientConfig version="1.1"><emailProvider id="c.example">
        <domain>c.example</domain><incomingServer type="imap"><hostname>imap.%EMAILDOMAIN%</hostname><port>993</port>
        <socketType>SSL</socketType><username>%EMAILADDRESS%</username><authentication>plain</authentication>
        </incomingServer><incomingServer type="pop3"><hostname>pop&#46;c.example</hostname><socketType>STARTTLS</socketType>
        </incomingServer></emailProvider></clientConfig>"#;

    proptest::proptest! {
        #[test]
        fn documents_from_strangers_never_panic_and_stay_within_bounds(
            arbitrary in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
            changes in proptest::collection::vec((0_usize..700, proptest::prelude::any::<u8>(), 0_u8..4), 0..12),
        ) {
            let mut bytes = DOCUMENT.to_vec();
            for (at, byte, what) in changes {
                let at = at % (bytes.len() + 1);
                match what {
                    0 => bytes.insert(at, byte),
                    1 => bytes.truncate(at.max(1)),
                    2 if at < bytes.len() => bytes[at] = byte,
                    _ => bytes.extend_from_within(at..),
                }
            }
            for bytes in [&arbitrary, &bytes] {
                let Ok(document) = parse(&String::from_utf8_lossy(bytes)) else { continue };
                proptest::prop_assert!(document.incoming.len() <= SERVERS_MAX);
                proptest::prop_assert!(document.incoming.iter().all(|server| server.hostname.len() <= 253));
            }
        }
    }
}
