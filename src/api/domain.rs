//! One domain of a migration: its credentials, its servers, its mailboxes, and what was said by hand.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::files::Files;
use super::reference::{CaRef, ConfigMapKeyRef, SecretRef};
use crate::model::endpoint::Endpoint;
use crate::model::protocol::{Protocol, Tls};

/// One domain whose mailboxes are migrated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.files) != has(self.credentialsRef)").message("give credentialsRef where the mailboxes are on servers, or files where they are in files, and not both"))]
#[x_kube(validation = Rule::new("!has(self.files) || ((!has(self.servers) || size(self.servers) == 0) && !has(self.caRef) && (!has(self.overrides) || size(self.overrides) == 0))").message("servers, caRef and overrides are for mailboxes on servers: take them out where files is given"))]
pub struct DomainSpec {
    /// The mail domain, the part of an address after the @. Each domain stands once.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[^\s@/:*]+$"))]
    pub name: String,
    /// The one Secret with the credentials of this domain's mailboxes. Mailboxes in files have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_ref: Option<SecretRef>,
    /// Files that hold the mailboxes, in the place of servers. They are only read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<Files>,
    /// Servers to try as well as those that the domain publishes; credentials may be sent to them. At most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub servers: Vec<Server>,
    /// A private certificate authority that signed the certificates of the source. Default: the system's roots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<CaRef>,
    /// The name with which mailboxes log in, unless their row says otherwise: Address (the whole address, the default) or
    /// LocalPart (the part before the @).
    #[serde(default)]
    pub usernames: Usernames,
    /// Which mailboxes are migrated: exactly one of discover, list and configMapRef. Default: discover; of files it finds the
    /// directories that are called as an address of the domain.
    #[serde(default)]
    #[x_kube(validation = Rule::new("[has(self.discover), has(self.list), has(self.configMapRef)].filter(given, given).size() == 1").message("give exactly one of discover, list and configMapRef"))]
    pub mailboxes: Mailboxes,
    /// Protocols and servers said by hand for some mailboxes; the first that matches wins. At most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub overrides: Vec<Override>,
}

impl DomainSpec {
    /// The name of the Secret with the credentials; `None` where the mailboxes are in files.
    pub fn secret(&self) -> Option<&str> {
        self.credentials_ref.as_ref().map(|wanted| wanted.name.as_str())
    }
}

/// The name with which mailboxes log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub enum Usernames {
    /// The whole address.
    #[default]
    Address,
    /// The part before the `@`.
    LocalPart,
}

/// The protocols that a server may be named with, for the schema.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "only its schema is used")]
enum OfServers {
    #[serde(rename = "IMAP")]
    Imap,
    #[serde(rename = "POP3")]
    Pop3,
}

/// A server of a domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Server {
    /// The protocol of the server: IMAP or POP3.
    #[schemars(with = "OfServers")]
    pub protocol: Protocol,
    /// Host name or IP address of the server, without a port.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^([^\s/@:\[\]]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)$")
    )]
    pub host: String,
    /// TCP port, 1 to 65535. Default: the registered one, 993 and 995 for Implicit, else 143 and 110.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// How the channel is secured: Implicit (TLS from the first byte, the default), StartTLS (STARTTLS or STLS before
    /// anything else) or None (not encrypted; it is reported as a finding).
    #[serde(default)]
    pub tls: Tls,
}

impl Server {
    /// Where to connect.
    pub fn endpoint(&self) -> Endpoint {
        let port = self.port.unwrap_or_else(|| self.protocol.default_port(self.tls));
        Endpoint::new(self.protocol, &self.host, port, self.tls)
    }
}

/// Which mailboxes of a domain are migrated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Mailboxes {
    /// All that can be found: the rows of mailboxes.csv in the domain's Secret, or the single user of the Secret.
    Discover(Discover),
    /// These and no others, 1 to 10,000. A MailMigration of 1 MiB holds some 8,000 rows in all its domains; beyond
    /// that use configMapRef or mailboxes.csv in the Secret.
    List(#[schemars(length(min = 1, max = 10000))] Vec<MailboxEntry>),
    /// The rows of a CSV in a ConfigMap, with the columns address and, if wanted, destination and username.
    ConfigMapRef(ConfigMapKeyRef),
}

impl Default for Mailboxes {
    fn default() -> Self {
        Self::Discover(Discover {})
    }
}

/// How mailboxes are found; nothing needs to be said yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Discover {}

/// One mailbox that is migrated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MailboxEntry {
    /// Address of the mailbox at the source; it ends with @ and the name of the domain.
    #[schemars(length(min = 3, max = 320), regex(pattern = r"^[^\s@]+@[^\s@]+$"))]
    pub address: String,
    /// Address of the mailbox at the destination. Default: what spec.mapping.addresses says, else the same address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 320), regex(pattern = r"^[^\s@]+@[^\s@]+$"))]
    pub destination: Option<String>,
    /// Name that the mailbox logs in with at the source. Default: what usernames says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 320))]
    pub username: Option<String>,
}

/// A protocol, and if wanted a server, said by hand for some mailboxes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Override {
    /// The mailboxes it is for: exactly one of pattern and addresses.
    #[serde(rename = "match")]
    #[x_kube(validation = Rule::new("has(self.pattern) != has(self.addresses)").message("give exactly one of pattern and addresses"))]
    pub matches: Match,
    /// The protocol by which these mailboxes are read: IMAP or POP3.
    #[schemars(with = "OfServers")]
    pub protocol: Protocol,
    /// The server they are read from. Default: the best one of that protocol that discovery finds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<OverrideServer>,
    /// Why, for the report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub reason: Option<String>,
}

/// The mailboxes that an override is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Match {
    /// A pattern with * and ? over the address, letters of either case; without an @ it is for the part before the @.
    Pattern(#[schemars(length(min = 1, max = 320))] String),
    /// These addresses, 1 to 1,000, letters of either case.
    Addresses(#[schemars(length(min = 1, max = 1000), inner(length(min = 3, max = 320)))] Vec<String>),
}

/// The server of an override; the protocol is the override's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OverrideServer {
    /// Host name or IP address of the server, without a port.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^([^\s/@:\[\]]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)$")
    )]
    pub host: String,
    /// TCP port, 1 to 65535. Default: the registered one of the protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// How the channel is secured: Implicit (the default), StartTLS or None.
    #[serde(default)]
    pub tls: Tls,
}

impl Override {
    /// Where these mailboxes are read from, if it is said.
    pub fn endpoint(&self) -> Option<Endpoint> {
        self.server.as_ref().map(|server| {
            let port = server.port.unwrap_or_else(|| self.protocol.default_port(server.tls));
            Endpoint::new(self.protocol, &server.host, port, server.tls)
        })
    }
}
