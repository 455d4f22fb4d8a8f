//! Where a server is: protocol, host, port, and how the channel is secured.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::protocol::{Protocol, Tls};

/// One place to connect to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// What is spoken there.
    pub protocol: Protocol,
    /// A host name, lower case and without a final dot, or an IP address.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// How the channel is secured.
    pub tls: Tls,
}

impl Endpoint {
    /// An endpoint; the host is brought to its usual form (lower case, no final dot).
    pub fn new(protocol: Protocol, host: &str, port: u16, tls: Tls) -> Self {
        Self { protocol, host: host.trim_end_matches('.').to_ascii_lowercase(), port, tls }
    }

    /// `host:port`, with IPv6 addresses in brackets.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.protocol, self.address(), self.tls)
    }
}
