//! References to Secrets and ConfigMaps. They never name a namespace: all that a migration reads is in its own
//! namespace.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The name of a Secret in the namespace of the MailMigration.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Name of a Secret in the same namespace. Keys that are read: `username` and `password`; `masterUser`,
    /// `masterPassword` and `masterSeparator`; `mailboxes.csv` with the columns address, username, password; or for tokens
    /// `tenantId`, `clientId` and `clientSecret`, or `serviceAccount.json`, and others (docs/credentials.md).
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

/// The kinds of object that can hold a certificate authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub enum CaKind {
    /// A ConfigMap; certificates are not secret.
    #[default]
    ConfigMap,
    /// A Secret, where a tool put it there.
    Secret,
}

impl fmt::Display for CaKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Where a private certificate authority is found.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CaRef {
    /// Kind of the object: ConfigMap (default) or Secret.
    #[serde(default)]
    pub kind: CaKind,
    /// Name of the object in the same namespace.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// Key that holds one or more certificates in PEM. Default: ca.crt. An empty value means the system's roots alone.
    #[serde(default = "ca_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

/// One key of a ConfigMap.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapKeyRef {
    /// Name of a ConfigMap in the same namespace.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// Key that holds the value. Default: mailboxes.csv.
    #[serde(default = "csv_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

fn ca_key() -> String {
    "ca.crt".to_owned()
}

fn csv_key() -> String {
    "mailboxes.csv".to_owned()
}
