//! Where the mail goes: a union of which exactly one key is given. A new kind of destination is a variant here, and the
//! match arms that the compiler then asks for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::reference::{CaRef, SecretRef};
use crate::model::endpoint::Endpoint;
use crate::model::protocol::{Protocol, Tls};

/// Where the mail goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Destination {
    /// An IMAP server.
    Imap(ImapDestination),
}

impl Destination {
    /// The Secret with the credentials of the destination.
    pub fn credentials(&self) -> &SecretRef {
        match self {
            Self::Imap(imap) => &imap.credentials_ref,
        }
    }

    /// Where to connect.
    pub fn endpoint(&self) -> Endpoint {
        match self {
            Self::Imap(imap) => imap.endpoint(),
        }
    }

    /// The private certificate authority, if one is given.
    pub fn ca(&self) -> Option<&CaRef> {
        match self {
            Self::Imap(imap) => imap.ca_ref.as_ref(),
        }
    }
}

/// An IMAP server that receives the mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImapDestination {
    /// Host name or IP address of the server, without a port.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^([^\s/@:\[\]]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)$")
    )]
    pub host: String,
    /// TCP port, 1 to 65535. Default: 993.
    #[serde(default = "imaps")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// How the channel is secured: Implicit (TLS from the first byte, the default), StartTLS (a plain greeting, then
    /// STARTTLS before anything else) or None (not encrypted; it is reported as a finding).
    #[serde(default)]
    pub tls: Tls,
    /// A private certificate authority that signed the server's certificate. Default: the system's roots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<CaRef>,
    /// The Secret with a master user of the destination, or with the passwords of its mailboxes.
    pub credentials_ref: SecretRef,
}

impl ImapDestination {
    /// Where to connect.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::new(Protocol::Imap, &self.host, self.port, self.tls)
    }
}

fn imaps() -> u16 {
    Protocol::Imap.default_port(Tls::Implicit)
}
