//! The work that a pod is given: what is wanted, and its share of it. It is mounted, so that a pod asks nobody for it.

use std::net::SocketAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::objects::WORK_KEY;
use super::pack::unpack;
use crate::api::MailMigration;
use crate::model::endpoint::Endpoint;
use crate::model::evidence::MailboxSize;
use crate::model::failure::{Failure, Result};
use crate::plan::mailboxes::PlannedMailbox;

/// What a Job is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Work {
    /// The Job.
    pub job: String,
    /// The migration, with the one domain that the Job is about.
    pub migration: MailMigration,
    /// The place of that domain in `spec.domains` of the migration as the user wrote it.
    pub domain: usize,
    /// The other domains of the migration, if this Job is to tell of rows in its list that are of none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub siblings: Option<Vec<String>>,
    /// The name server to ask; the pod's own when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolver: Option<SocketAddr>,
    /// Most connections to one host that each pod may hold.
    pub per_host_connections: u32,
    /// What is to be done.
    pub task: Task,
}

/// What is to be done.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Task {
    /// Find out what the domain speaks.
    #[serde(rename_all = "camelCase")]
    Discover {
        /// Digest of what the answer depends on.
        inputs: String,
        /// How often the domain was looked at, with this time.
        round: u32,
        /// The ConfigMaps that take the answer, in order.
        results: Vec<String>,
        /// Where mailboxes were read when it was looked at before.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        before: Vec<Endpoint>,
    },
    /// Carry mailboxes.
    #[serde(rename_all = "camelCase")]
    Sync {
        /// The pass.
        pass: u32,
        /// One slice for each index of the Job.
        slices: Vec<Vec<Item>>,
    },
}

/// One mailbox to carry.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    /// Its `MailboxMigration`.
    pub object: String,
    /// The ConfigMap that takes its results.
    pub results: String,
    /// The mailbox.
    pub mailbox: PlannedMailbox,
    /// Where it is read from.
    pub endpoint: Endpoint,
    /// What discovery counted in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<MailboxSize>,
}

impl Work {
    /// Reads the work list from the directory where it is mounted.
    ///
    /// # Errors
    /// A failure that names the file.
    pub fn read(directory: &Path) -> Result<Self> {
        let path = directory.join(WORK_KEY);
        let name = path.display().to_string();
        let packed = std::fs::read(&path).map_err(|e| {
            Failure::configuration(format!("{name}: cannot be read: {e}"))
                .hint("workers are started by the operator, which mounts their work list")
                .caused_by(&e)
        })?;
        unpack(&name, &packed)
    }
}
