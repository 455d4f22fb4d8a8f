//! Where mail is: at a server (protocol, host, port, and how the channel is secured), or in a directory of files.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::finding::{Code, Finding};
use super::protocol::{Protocol, Tls};

/// One place to connect to, or one directory to read.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// The protocol that is spoken there.
    pub protocol: Protocol,
    /// A host name, lower case and without a final dot, or an IP address; of files the directory, as the manifest names it.
    pub host: String,
    /// The TCP port; 0 for files.
    pub port: u16,
    /// How the channel is secured.
    pub tls: Tls,
}

impl Endpoint {
    /// An endpoint; the host is brought to its usual form (lower case, no final dot).
    pub fn new(protocol: Protocol, host: &str, port: u16, tls: Tls) -> Self {
        Self { protocol, host: host.trim_end_matches('.').to_ascii_lowercase(), port, tls }
    }

    /// A directory of files. Nothing is sent anywhere, so that nothing has to be secured.
    pub fn files(protocol: Protocol, directory: &str) -> Self {
        Self { protocol, host: directory.to_owned(), port: 0, tls: Tls::Implicit }
    }

    /// The finding about a channel in the clear; `None` where it is encrypted. `used` begins its sentence: `1 mailbox is read by`.
    pub fn find_in_the_clear(&self, used: &str) -> Option<Finding> {
        let address = self.address();
        let text = format!("{used} {address} in the clear.");
        (self.tls == Tls::None).then(|| Finding::about(Code::PlaintextTransport, &address, text))
    }

    /// `host:port`, with IPv6 addresses in brackets; of files the directory.
    pub fn address(&self) -> String {
        if self.protocol.is_files() {
            self.host.clone()
        } else if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.protocol.is_files() {
            return write!(f, "{} in {}", self.protocol, self.host);
        }
        write!(f, "{} {} ({})", self.protocol, self.address(), self.tls)
    }
}
/// Whether an address is one that anybody on the Internet could mean: not loopback, private, link-local, shared,
/// multicast, documentation or reserved (RFC 6890).
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            !(v4.is_loopback()
                || v4.is_private()
                || v4.is_link_local()
                || v4.is_unspecified()
                || v4.is_multicast()
                || v4.is_broadcast()
                || v4.is_documentation()
                || a == 0
                || a >= 240
                || (a == 100 && (64..128).contains(&b))
                || (a == 192 && b == 0 && c == 0)
                || (a == 198 && (b == 18 || b == 19)))
        }
        IpAddr::V6(v6) => {
            let head = v6.segments()[0];
            !(v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast()
                || v6.is_unique_local()
                || v6.is_unicast_link_local()
                || (head == 0x2001 && v6.segments()[1] == 0x0db8)
                // 6to4 and NAT64 carry an IPv4 address that was not vetted.
                || head == 0x2002
                || head == 0x0064)
        }
    }
}
