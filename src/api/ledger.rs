//! Where the ledgers of a migration are kept: a union of which exactly one key is given.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the ledgers of a migration are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LedgerSpec {
    /// SQLite files, one a mailbox: on a volume in a cluster, in the directory given with --state on a laptop. The default.
    Sqlite(SqliteSpec),
    /// A PostgreSQL database, which may hold the ledgers of many migrations.
    Postgres(PostgresSpec),
}

impl Default for LedgerSpec {
    fn default() -> Self {
        Self::Sqlite(SqliteSpec::default())
    }
}

/// SQLite files. These fields are for the cluster's volume; a laptop has its state directory and does not look at it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SqliteSpec {
    /// Size of the volume, as a Kubernetes quantity. In the cluster only. Default: 10Gi, room for some 20 million
    /// messages.
    #[serde(default = "size")]
    #[schemars(
        length(min = 1, max = 32),
        regex(pattern = r"^[1-9][0-9]*(\.[0-9]+)?(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$")
    )]
    pub size: String,
    /// StorageClass of the volume. In the cluster only. Default: the cluster's own default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub storage_class_name: Option<String>,
}

impl Default for SqliteSpec {
    fn default() -> Self {
        Self { size: size(), storage_class_name: None }
    }
}

/// A PostgreSQL database, on a laptop as in a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PostgresSpec {
    /// The Secret that says where the database is and how to log in.
    pub credentials_ref: DatabaseRef,
}

/// The name of a Secret with a database in the namespace of the MailMigration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseRef {
    /// Name of a Secret in the same namespace. Keys that are read: host, port (5432 when absent), database (mailferry when
    /// absent), username, password, sslmode (require, the default: TLS with a checked certificate; or disable, on
    /// loopback and private networks only) and ca.crt (a private certificate authority).
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

fn size() -> String {
    "10Gi".to_owned()
}
