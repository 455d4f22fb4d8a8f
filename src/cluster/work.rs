//! The work that a pod is given: what is wanted, and its share of it. It is mounted, so that a pod asks nobody for it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::objects::WORK_KEY;
use super::pack::{WORK_MAX, unpack};
use crate::api::MailMigration;
use crate::model::address::Address;
use crate::model::endpoint::Endpoint;
use crate::model::evidence::MailboxSize;
use crate::model::failure::{Failure, Result};
use crate::model::purpose::Purpose;
use crate::plan::mailboxes::PlannedMailbox;

/// The order of a Job.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Work {
    /// The Job.
    pub job: String,
    /// The migration, with the one domain that the Job is about.
    pub migration: MailMigration,
    /// The place of that domain in `spec.domains` of the migration as the user wrote it.
    pub domain: usize,
    /// The other domains of the migration, if this Job is to report rows in its list that belong to none of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub siblings: Option<Vec<String>>,
    /// The name server to ask; the pod's own when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolver: Option<SocketAddr>,
    /// Networks that the migration lists and the installation does not allow, for the words of a refusal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub barred_networks: Vec<String>,
    /// Most connections to one host that each pod may hold.
    pub per_host_connections: u32,
    /// The work to be done.
    pub task: Task,
}

/// The work to be done.
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
    /// Go through mailboxes.
    #[serde(rename_all = "camelCase")]
    Sync {
        /// The pass: that which carries them, or that which did.
        pass: u32,
        /// The purpose. A Job has one for all its mailboxes.
        #[serde(default)]
        purpose: Purpose,
        /// The number of the verification, where that is the purpose.
        #[serde(default)]
        verification: u32,
        /// One slice for each index of the Job.
        slices: Vec<Vec<Item>>,
    },
}

impl Task {
    /// A pass over mailboxes, one slice for each index of the Job.
    pub fn carrying(pass: u32, slices: Vec<Vec<Item>>) -> Self {
        Self::Sync { pass, purpose: Purpose::Delta, verification: 0, slices }
    }
}

/// One mailbox to go through.
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
    /// The counts of discovery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<MailboxSize>,
}

/// The part of a work list that tells which mailboxes are carried where; the rest may be anything.
#[derive(Deserialize)]
struct Outline {
    task: OutlinedTask,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum OutlinedTask {
    Discover {},
    Sync { slices: Vec<Vec<OutlinedItem>> },
}

#[derive(Deserialize)]
struct OutlinedItem {
    mailbox: OutlinedMailbox,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OutlinedMailbox {
    source: Address,
    destination: Address,
    login_name: String,
}

/// A digest of where a mailbox is carried, and by what name it is read.
pub fn route(destination: &Address, login_name: &str) -> u64 {
    let digest = blake3::hash(format!("{destination}\n{login_name}").as_bytes());
    digest.as_bytes().first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}

/// The mailboxes of a packed work list, each with its [`route`]; no more of it is read.
///
/// # Errors
/// [`crate::model::failure::Class::Internal`] for a document that is damaged or larger than any of ours.
pub fn read_routes(name: &str, packed: &[u8]) -> Result<HashMap<Address, u64>> {
    let outline: Outline = unpack(name, packed, WORK_MAX)?;
    let OutlinedTask::Sync { slices } = outline.task else { return Ok(HashMap::new()) };
    let items = slices.into_iter().flatten().map(|item| item.mailbox);
    Ok(items
        .map(|m| {
            let route = route(&m.destination, &m.login_name);
            (m.source, route)
        })
        .collect())
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
        unpack(&name, &packed, WORK_MAX)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cluster::pack::pack;

    #[test]
    fn of_a_work_list_only_the_mailboxes_are_read() {
        let mailbox = |name: &str| {
            json!({"source": format!("{name}@a.test"), "destination": format!("{name}@b.test"),
            "loginName": name, "loginNameIsGiven": false})
        };
        let item =
            |name: &str| json!({"object": "o", "results": "r", "mailbox": mailbox(name), "endpoint": 7});
        let list = json!({"job": "j", "migration": "anything", "task": {"sync": {"pass": 1,
            "slices": [[item("anna")], [item("ben")]]}}});
        let found = read_routes("it", &pack(&list).unwrap()).unwrap();
        assert_eq!(found.len(), 2);
        let (anna, to): (Address, Address) = ("anna@a.test".parse().unwrap(), "anna@b.test".parse().unwrap());
        assert_eq!(found[&anna], route(&to, "anna"));
        assert_ne!(found[&anna], route(&to, "another"));
        // A list of a version that knew one purpose alone.
        let task: Task = serde_json::from_value(json!({"sync": {"pass": 4, "slices": []}})).unwrap();
        let Task::Sync { pass: 4, purpose: Purpose::Delta, verification: 0, .. } = task else {
            panic!("{task:?}")
        };
        let looks = json!({"task": {"discover": {"inputs": "i"}}});
        assert!(read_routes("it", &pack(&looks).unwrap()).unwrap().is_empty());
        assert!(read_routes("it", b"nothing").is_err());
    }
}
