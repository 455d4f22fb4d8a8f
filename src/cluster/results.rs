//! The results that workers leave: what discovery of a domain saw, in as many parts as it takes, and what became of a
//! mailbox, one entry in the ConfigMap of its group.

use std::collections::BTreeMap;

use futures::StreamExt;
use futures::stream;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::pack::{DISCOVERY_MAX, MAILBOX_MAX, PART_MAX, measure, pack, unpack};
use super::{is_missing, refused};
use crate::model::address::Address;
use crate::model::evidence::{DomainDiscovery, TlsFacts};
use crate::model::failure::{Failure, FailureCode, Result};
use crate::model::identity::Digest;
use crate::model::message::{Flags, InternalDate, Verdict};
use crate::model::record::MailboxRecord;
use crate::plan::mailboxes::PlannedMailbox;
use crate::report::MessageRow;
use crate::report::message::{Found, MessageDestination, MessageSource};

/// The key of a part.
const PART: &str = "part";
/// The key of the first part's table of contents.
const CONTENTS: &str = "contents.json";

/// The most messages that the results of a mailbox name; the rest is counted.
pub const NAMED_MAX: usize = 500;

/// The results of a discovery worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DiscoveryDocument {
    /// Digest of what it depends on.
    pub inputs: String,
    /// How often the domain was looked at, with this time.
    pub round: u32,
    /// The domain's mailboxes, or why they cannot be listed.
    pub mailboxes: std::result::Result<Vec<PlannedMailbox>, Failure>,
    /// The things that were seen.
    pub discovery: DomainDiscovery,
}

/// The results of a worker about a mailbox.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MailboxDocument {
    /// How its passes went.
    pub record: MailboxRecord,
    /// The TLS facts of the destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_tls: Option<TlsFacts>,
    /// The messages that did not arrive as they were; at most [`NAMED_MAX`].
    pub named: Vec<NamedMessage>,
    /// Such messages beyond them.
    pub omitted: u64,
}

/// A message of a report, as it is kept: the report's own JSON is a contract with other fields.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamedMessage {
    source: MessageSource,
    message_id: Option<String>,
    exact: Option<Digest>,
    size: u64,
    internal_date: Option<InternalDate>,
    flags: Flags,
    destination: Option<MessageDestination>,
    verdict: Verdict,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    code: Option<FailureCode>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    found: Option<Found>,
    subject: Option<String>,
}

impl From<MessageRow> for NamedMessage {
    fn from(row: MessageRow) -> Self {
        Self {
            source: row.source,
            message_id: row.message_id,
            exact: row.exact,
            size: row.size,
            internal_date: row.internal_date,
            flags: row.flags,
            destination: row.destination,
            verdict: row.verdict,
            code: row.code,
            found: row.found,
            subject: row.subject,
        }
    }
}

impl NamedMessage {
    /// The row of a report.
    pub fn row(self, mailbox: Address) -> MessageRow {
        MessageRow {
            mailbox,
            source: self.source,
            message_id: self.message_id,
            exact: self.exact,
            size: self.size,
            internal_date: self.internal_date,
            flags: self.flags,
            destination: self.destination,
            verdict: self.verdict,
            code: self.code,
            found: self.found,
            subject: self.subject,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Contents {
    parts: usize,
    digest: String,
}

fn digest(packed: &[u8]) -> String {
    Sha256::digest(packed).iter().fold(String::with_capacity(64), |mut hex, byte| {
        use std::fmt::Write;
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Writes what discovery saw to the ConfigMaps `names`. The first part is written last: it makes the others valid.
///
/// # Errors
/// Those of the API server; [`crate::model::failure::Class::Internal`] when the parts do not suffice.
pub async fn write_discovery(
    client: &Client,
    namespace: &str,
    names: &[String],
    document: &DiscoveryDocument,
) -> Result<()> {
    let packed = pack(document)?;
    let parts: Vec<&[u8]> = packed.chunks(PART_MAX).collect();
    if parts.len() > names.len() {
        return Err(Failure::internal(format!(
            "what discovery saw takes {} ConfigMaps, and {} were made",
            parts.len(),
            names.len()
        )));
    }
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    for (at, part) in parts.iter().enumerate().rev() {
        let mut patch = json!({"binaryData": {PART: ByteString(part.to_vec())}});
        if at == 0 {
            let contents = Contents { parts: parts.len(), digest: digest(&packed) };
            patch["data"] = json!({CONTENTS: json!(contents).to_string()});
        }
        api.patch(&names[at], &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .map_err(|e| refused(&format!("ConfigMap {} cannot be written", names[at]), &e))?;
    }
    Ok(())
}

/// The results of discovery for a domain as they lie in its ConfigMaps: who may edit those may have written them.
pub struct PackedDiscovery {
    name: String,
    packed: Vec<u8>,
}

impl PackedDiscovery {
    /// Its size when it is unpacked, in bytes.
    ///
    /// # Errors
    /// [`crate::model::failure::Class::Internal`] for a document that is damaged or larger than any of ours.
    pub fn measure(&self) -> Result<u64> {
        measure(&self.name, &self.packed, DISCOVERY_MAX)
    }

    /// Reads it.
    ///
    /// # Errors
    /// As [`Self::measure`].
    pub fn unpack(&self) -> Result<DiscoveryDocument> {
        unpack(&self.name, &self.packed, DISCOVERY_MAX)
    }
}

/// Fetches what discovery saw; `None` while it is not written, or not as a whole.
///
/// # Errors
/// Those of the API server; [`crate::model::failure::Class::Internal`] for more parts than any document of ours has.
pub async fn fetch_discovery(
    client: &Client,
    namespace: &str,
    names: &[String],
) -> Result<Option<PackedDiscovery>> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let mut packed = Vec::new();
    let mut contents: Option<Contents> = None;
    for (at, name) in names.iter().enumerate() {
        if contents.as_ref().is_some_and(|c| at >= c.parts) {
            break;
        }
        let object = match api.get(name).await {
            Ok(object) => object,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(refused(&format!("ConfigMap {name} cannot be read"), &error)),
        };
        if at == 0 {
            let text = object.data.as_ref().and_then(|d| d.get(CONTENTS));
            let Some(found) = text.and_then(|t| serde_json::from_str(t).ok()) else { return Ok(None) };
            contents = Some(found);
        }
        let Some(part) = object.binary_data.and_then(|mut data| data.remove(PART)) else { return Ok(None) };
        packed.extend(part.0);
        if packed.len() as u64 > DISCOVERY_MAX {
            let what = format!("ConfigMap {}: has more parts than what any discovery saw", names[0]);
            return Err(Failure::internal(what).hint("delete it, and a worker writes it anew"));
        }
    }
    let whole = contents.is_some_and(|contents| contents.digest == digest(&packed));
    // Parts of two writings side by side: the writer is at it, or died at it and is followed by another.
    Ok(whole.then(|| PackedDiscovery { name: format!("ConfigMap {}", names[0]), packed }))
}

/// Reads what discovery saw; `None` while it is not written, or not as a whole.
///
/// # Errors
/// Those of the API server, and of a document that is damaged or larger than any of ours.
pub async fn read_discovery(
    client: &Client,
    namespace: &str,
    names: &[String],
) -> Result<Option<DiscoveryDocument>> {
    match fetch_discovery(client, namespace, names).await? {
        Some(packed) => packed.unpack().map(Some),
        None => Ok(None),
    }
}

/// Writes what became of a mailbox into the ConfigMap of its group.
///
/// # Errors
/// Those of the API server.
pub async fn write_mailbox(
    client: &Client,
    namespace: &str,
    group: &str,
    object: &str,
    document: &MailboxDocument,
) -> Result<()> {
    // A group has a megabyte for hundreds of mailboxes: the rows give way until it fits.
    let mut kept = document.clone();
    let mut packed = pack(&kept)?;
    while packed.len() > ENTRY_MAX && !kept.named.is_empty() {
        let half = kept.named.len() / 2;
        kept.omitted += (kept.named.len() - half) as u64;
        kept.named.truncate(half);
        packed = pack(&kept)?;
    }
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let patch = json!({"binaryData": {object: ByteString(packed)}});
    api.patch(group, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .map(drop)
        .map_err(|e| refused(&format!("ConfigMap {group} cannot be written"), &e))
}

/// The most that one mailbox takes in its group's ConfigMap, in bytes: [`GROUP_MAX`] of them fit.
const ENTRY_MAX: usize = 12 * 1024;
/// Mailboxes of one group.
pub const GROUP_MAX: usize = 50;

/// Reads what became of the mailboxes of some groups, by the name of their objects. A document that is damaged is a
/// failure of its own, and hides none of the others.
///
/// # Errors
/// Those of the API server.
pub async fn read_mailboxes(
    client: &Client,
    namespace: &str,
    groups: impl IntoIterator<Item = String>,
) -> Result<BTreeMap<String, Result<MailboxDocument>>> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let read = |group: String| {
        let api = api.clone();
        async move { (api.get_opt(&group).await, group) }
    };
    let mut objects = stream::iter(groups).map(read).buffer_unordered(8);
    let mut found = BTreeMap::new();
    while let Some((object, group)) = objects.next().await {
        let object = object.map_err(|e| refused(&format!("ConfigMap {group} cannot be read"), &e))?;
        for (name, packed) in object.and_then(|o| o.binary_data).unwrap_or_default() {
            let document = unpack(&format!("ConfigMap {group}, key {name}"), &packed.0, MAILBOX_MAX);
            found.insert(name, document);
        }
    }
    Ok(found)
}
