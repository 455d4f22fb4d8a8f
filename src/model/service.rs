//! Services beside IMAP and POP3 that discovery finds: they tell which other ways a domain's data could go, and what is
//! left behind. None of them is logged in to.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::capability::Capabilities;
use super::endpoint::Endpoint;
use super::grade::Grade;

/// A service that holds data of mailboxes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Service {
    /// JSON Meta Application Protocol, RFC 8620 and RFC 8621.
    Jmap,
    /// Calendars over `WebDAV`, RFC 4791.
    CalDav,
    /// Contacts over `WebDAV`, RFC 6352.
    CardDav,
    /// Filter rules, RFC 5804.
    ManageSieve,
    /// Exchange Web Services, of a server of one's own or of Exchange Online.
    Ews,
    /// Zimbra's SOAP.
    Zimbra,
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Jmap => "JMAP",
            Self::CalDav => "CalDAV",
            Self::CardDav => "CardDAV",
            Self::ManageSieve => "ManageSieve",
            Self::Ews => "Exchange Web Services",
            Self::Zimbra => "Zimbra",
        })
    }
}

/// A service at one place, and how sure that is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceFacts {
    /// Which service.
    pub service: Service,
    /// Its URL, or `host:port`; at most 300 bytes.
    pub place: String,
    /// How much is proved: B when it answered as that service, C when it is published, D for a hint.
    pub grade: Grade,
    /// Whether it is at a host of the domain over validated TLS, or was named by one.
    pub trusted: bool,
    /// Its words about itself, made printable; at most 300 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub words: String,
}

/// The words of an IMAP or POP3 server to the first mailbox that was read from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionFacts {
    /// Where.
    pub endpoint: Endpoint,
    /// The abilities that it claims after the login.
    pub capabilities: Capabilities,
    /// Name, version and the like of the server (RFC 2971), as `name=Dovecot`; at most 10 of at most 100 bytes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub id: Vec<String>,
    /// Prefixes of the user's own folders (RFC 2342), as the server writes them; at most 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub personal: Vec<String>,
    /// Prefixes of folders of other users; at most 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<String>,
    /// Prefixes of folders that are shared; at most 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shared: Vec<String>,
    /// Extensions that it offers and fails at, so that it is asked without them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failing: Vec<String>,
    /// The notice that it wants its users to see (RFC 9051 §7.1), made printable; at most 300 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert: Option<String>,
    /// Whether a POP3 server gives its messages lasting names (UIDL); IMAP servers always do.
    pub unique_ids: bool,
}

impl SessionFacts {
    /// All that is known as soon as a login worked.
    pub fn of(endpoint: &Endpoint, capabilities: Capabilities) -> Self {
        Self {
            endpoint: endpoint.clone(),
            capabilities,
            id: Vec::new(),
            personal: Vec::new(),
            others: Vec::new(),
            shared: Vec::new(),
            failing: Vec::new(),
            alert: None,
            unique_ids: true,
        }
    }
}
