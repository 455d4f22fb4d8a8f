//! Where the mail goes: a union of which exactly one key is given. A new kind of destination is a variant here, and the
//! match arms that the compiler then asks for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::files::Files;
use super::reference::{CaRef, SecretRef};
use crate::model::endpoint::Endpoint;
use crate::model::preset::Cloud;
use crate::model::protocol::{Protocol, Tls};

/// Where the mail goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Destination {
    /// An IMAP server.
    Imap(ImapDestination),
    /// Mailboxes of a Microsoft 365 tenant.
    Microsoft365(Microsoft365Destination),
    /// Files, with a directory for each mailbox that is called as its address.
    Files(Files),
}

impl Destination {
    /// The Secret with the credentials of the destination; files need none.
    pub fn credentials(&self) -> Option<&SecretRef> {
        match self {
            Self::Imap(imap) => Some(&imap.credentials_ref),
            Self::Microsoft365(tenant) => Some(&tenant.credentials_ref),
            Self::Files(_) => None,
        }
    }

    /// The name of that Secret.
    pub fn secret(&self) -> Option<&str> {
        self.credentials().map(|wanted| wanted.name.as_str())
    }

    /// Where to connect.
    pub fn endpoint(&self) -> Endpoint {
        match self {
            Self::Imap(imap) => imap.endpoint(),
            Self::Microsoft365(tenant) => tenant.endpoint(),
            Self::Files(files) => files.endpoint(),
        }
    }

    /// The private certificate authority, if one is given.
    pub fn ca(&self) -> Option<&CaRef> {
        match self {
            Self::Imap(imap) => imap.ca_ref.as_ref(),
            Self::Microsoft365(tenant) => tenant.ca_ref.as_ref(),
            Self::Files(_) => None,
        }
    }

    /// The name of this kind of destination in reports.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Imap(_) => "IMAP",
            Self::Microsoft365(_) => "Microsoft 365",
            Self::Files(_) => "files",
        }
    }

    /// The key below `spec.destination`.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Imap(_) => "imap",
            Self::Microsoft365(_) => "microsoft365",
            Self::Files(_) => "files",
        }
    }

    /// The tenant, where the mail goes to Microsoft 365.
    pub fn microsoft365(&self) -> Option<&Microsoft365Destination> {
        match self {
            Self::Imap(_) | Self::Files(_) => None,
            Self::Microsoft365(tenant) => Some(tenant),
        }
    }

    /// The files, where the mail goes into some.
    pub fn files(&self) -> Option<&Files> {
        match self {
            Self::Imap(_) | Self::Microsoft365(_) => None,
            Self::Files(files) => Some(files),
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

/// Mailboxes of a Microsoft 365 tenant, which an application opens by IMAP with tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Microsoft365Destination {
    /// The directory (tenant) ID, or a domain of the tenant. Default: the key tenantId of the Secret. Where both are
    /// given they must be the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[A-Za-z0-9][-.A-Za-z0-9]*$"))]
    pub tenant_id: Option<String>,
    /// The cloud that the tenant is in: Global (the default), GCCHigh or China21Vianet. A key cloud of the Secret must say
    /// the same.
    #[serde(default)]
    pub cloud: Cloud,
    /// The Secret with the application: clientId, and clientSecret or clientCertificate and clientKey; or with refresh
    /// tokens of users. Passwords do not open mailboxes of Microsoft 365.
    pub credentials_ref: SecretRef,
    /// Host name or IP address of the IMAP server, without a port. Default: the cloud's; for a gateway in between or a
    /// test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^([^\s/@:\[\]]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)$")
    )]
    pub host: Option<String>,
    /// TCP port of the IMAP server, 1 to 65535. Default: 993; for a gateway in between or a test.
    #[serde(default = "imaps")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// A private certificate authority that signed the certificate of a gateway in between. Default: the system's roots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<CaRef>,
}

impl Microsoft365Destination {
    /// Where to connect: the server of the cloud, unless another one is named. The channel is always encrypted.
    pub fn endpoint(&self) -> Endpoint {
        let host = self.host.as_deref().unwrap_or(self.cloud.preset().imap);
        Endpoint::new(Protocol::Imap, host, self.port, Tls::Implicit)
    }
}

fn imaps() -> u16 {
    Protocol::Imap.default_port(Tls::Implicit)
}
