//! The document itself, config-v1.1.xml. It comes from strangers: no DTD, no entities but XML's own, and bounds on
//! everything.

use quick_xml::Reader;
use quick_xml::events::{BytesRef, BytesStart, Event};

use crate::model::failure::{Failure, Result};
use crate::model::protocol::{Protocol, Tls};
use crate::model::text::printable;

/// The most servers that are read from one document.
const SERVERS_MAX: usize = 20;
/// How deep elements may lie in each other.
const DEPTH_MAX: usize = 32;
/// The longest text of one element, in bytes.
const TEXT_MAX: usize = 1024;

/// What matters of a document.
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

fn malformed(why: &str) -> Failure {
    Failure::protocol(format!("the autoconfig document cannot be read: {why}"))
}

/// Reads a document. Elements that it does not know are passed over, as the format asks for.
///
/// # Errors
/// A protocol failure when it is no XML, no `clientConfig`, or has a DTD.
pub(super) fn parse(text: &str) -> Result<Document> {
    let mut reader = Reader::from_str(text.trim_start_matches('\u{feff}'));
    let mut document = Document::default();
    let mut path: Vec<String> = Vec::new();
    let mut draft: Option<Draft> = None;
    let mut value = String::new();
    loop {
        let event = reader.read_event().map_err(|e| malformed(&printable(&e.to_string())).caused_by(&e))?;
        match event {
            Event::DocType(_) => return Err(malformed("it has a DTD, which is not allowed here")),
            Event::Start(start) => {
                let name = start.local_name().as_ref().to_owned();
                if path.is_empty() && name != "clientConfig" {
                    return Err(malformed(&format!("it is a <{}>, not a <clientConfig>", printable(&name))));
                }
                if path.len() >= DEPTH_MAX {
                    return Err(malformed("its elements lie too deep in each other"));
                }
                if name == "incomingServer" {
                    draft = Some(Draft { protocol: protocol_of(&start)?, ..Draft::default() });
                }
                path.push(name);
                value.clear();
            }
            Event::End(_) => {
                let name = path.pop().unwrap_or_default();
                let text = value.trim().to_owned();
                value.clear();
                if name == "incomingServer" {
                    let finished = draft.take().and_then(Draft::finish);
                    if document.incoming.len() < SERVERS_MAX {
                        document.incoming.extend(finished);
                    }
                } else if path.last().is_some_and(|parent| parent == "incomingServer")
                    && let Some(draft) = &mut draft
                {
                    take_field(draft, &name, text);
                }
            }
            Event::Text(piece) => append(&mut value, &piece.xml10_content())?,
            Event::CData(piece) => append(&mut value, &piece.xml10_content())?,
            Event::GeneralRef(reference) => append(&mut value, &resolve(&reference)?)?,
            Event::Eof if path.is_empty() => break,
            Event::Eof => return Err(malformed("it ends too early")),
            Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
        }
    }
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

fn protocol_of(start: &BytesStart<'_>) -> Result<Option<Protocol>> {
    let kind = start.try_get_attribute("type").map_err(|e| malformed(&printable(&e.to_string())))?;
    Ok(match kind.as_ref().map(|kind| kind.value.as_ref()) {
        Some("imap") => Some(Protocol::Imap),
        Some("pop3") => Some(Protocol::Pop3),
        _ => None,
    })
}

fn append(value: &mut String, piece: &str) -> Result<()> {
    if value.len() + piece.len() > TEXT_MAX {
        return if piece.trim().is_empty() { Ok(()) } else { Err(malformed("one of its texts is too long")) };
    }
    value.push_str(piece);
    Ok(())
}

fn resolve(reference: &BytesRef<'_>) -> Result<String> {
    if let Some(c) = reference.resolve_char_ref().map_err(|e| malformed(&printable(&e.to_string())))? {
        return Ok(c.to_string());
    }
    match reference.as_ref() {
        "amp" => Ok("&".to_owned()),
        "lt" => Ok("<".to_owned()),
        "gt" => Ok(">".to_owned()),
        "quot" => Ok("\"".to_owned()),
        "apos" => Ok("'".to_owned()),
        other => Err(malformed(&format!("it uses the entity &{};", printable(other)))),
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
    fn hostile_documents_are_refused() {
        let deep = format!("<clientConfig>{}", "<a>".repeat(100));
        let long = format!("<clientConfig><a>{}</a></clientConfig>", "x".repeat(5000));
        for (text, why) in [
            ("<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><clientConfig/>", "DTD"),
            ("<clientConfig><a>&e;</a></clientConfig>", "entity"),
            ("<html><body>Not found</body></html>", "not a <clientConfig>"),
            ("<clientConfig><a>", "too early"),
            ("<clientConfig></b>", "cannot be read"),
            (&deep, "too deep"),
            (&long, "too long"),
        ] {
            let failure = parse(text).unwrap_err();
            assert!(failure.what.contains(why), "{text:.60}: {}", failure.what);
        }
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
                proptest::prop_assert!(document.incoming.iter().all(|server| server.hostname.len() <= TEXT_MAX));
            }
        }
    }
}
