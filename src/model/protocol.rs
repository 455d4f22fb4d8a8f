//! The protocols that mail can leave by, the forms of files that it can lie in, and how a channel is secured.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A way in which a mailbox can be read: a protocol of a server, or a form of files. A new one is a variant here, a folder in
/// `drivers`, and the match arms that the compiler then asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Protocol {
    /// Internet Message Access Protocol, RFC 9051 and RFC 3501.
    #[serde(rename = "IMAP")]
    Imap,
    /// Post Office Protocol version 3, RFC 1939.
    #[serde(rename = "POP3")]
    Pop3,
    /// Files, one for each message, with their flags in their names.
    Maildir,
    /// Files, one for each folder, RFC 4155.
    Mbox,
    /// Files, one for each message, as it came.
    Eml,
}

impl Protocol {
    /// All protocols, best fidelity first.
    pub const ALL: [Self; 5] = [Self::Imap, Self::Maildir, Self::Mbox, Self::Eml, Self::Pop3];

    /// Those that servers speak, best fidelity first.
    pub const OF_SERVERS: [Self; 2] = [Self::Imap, Self::Pop3];

    /// Whether mail is in files, so that nothing is connected to and nobody logs in.
    pub fn is_files(self) -> bool {
        !Self::OF_SERVERS.contains(&self)
    }

    /// The registered port of the protocol for a way of securing the channel (RFC 8314, RFC 1939, RFC 9051); 0 for files.
    pub fn default_port(self, tls: Tls) -> u16 {
        match (self, tls) {
            (Self::Imap, Tls::Implicit) => 993,
            (Self::Imap, _) => 143,
            (Self::Pop3, Tls::Implicit) => 995,
            (Self::Pop3, _) => 110,
            (Self::Maildir | Self::Mbox | Self::Eml, _) => 0,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Imap => "IMAP",
            Self::Pop3 => "POP3",
            Self::Maildir => "Maildir",
            Self::Mbox => "mbox",
            Self::Eml => ".eml files",
        })
    }
}

/// How the channel to a server is secured.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema,
)]
pub enum Tls {
    /// TLS from the first byte (RFC 8314).
    #[default]
    Implicit,
    /// A plain greeting, then STARTTLS or STLS before anything else (RFC 2595, RFC 9051).
    StartTLS,
    /// No encryption at all; only for a host that the manifest names, and with a finding.
    None,
}

impl fmt::Display for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Implicit => "TLS",
            Self::StartTLS => "STARTTLS",
            Self::None => "no TLS",
        })
    }
}
