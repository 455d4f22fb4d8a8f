//! Rules: how much may be done at a time, and how it is checked.

use jiff::civil::Date;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::fidelity::Weights;
use crate::model::record::Depth;

/// Rules: how much may be done at a time, and how it is checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// The fate of messages at the destination that vanish from the source: Never (they stay), the only choice.
    #[serde(default)]
    pub deletions: Deletions,
    /// Messages larger than this many bytes are not carried and are counted as excluded. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 9_007_199_254_740_991_i64))]
    pub max_message_bytes: Option<u64>,
    /// Messages that arrived before this day (YYYY-MM-DD, UTC) are not carried and are counted as excluded. Default:
    /// all are carried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Date>,
    /// How arrivals are checked: Sizes (all by size), Sampled (all by size, and byte by byte those that servers are known
    /// to change and one in a hundred; the default) or Full (all byte by byte).
    #[serde(default)]
    pub verify: Verify,
    /// A first try with a part of the mail; the later sync recognises what it carried. Default: everything is carried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pilot: Option<Pilot>,
    /// How hard servers are asked.
    #[serde(default)]
    pub limits: Limits,
    /// Networks in CIDR notation, as in 10.0.0.0/8, to which connections are allowed although they are loopback,
    /// private or link-local. At most 100. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(min = 3, max = 49)))]
    #[x_kube(validation = Rule::new("self.all(network, isCIDR(network))").message("write each network in CIDR notation, as in 10.0.0.0/8 or fd00::/8"))]
    pub allowed_networks: Vec<String>,
    /// How long a destination folder must stand still after a broken connection before anything is sent to it again,
    /// in seconds, 1 to 600. Default: 10.
    #[serde(default = "settle_seconds")]
    #[schemars(range(min = 1, max = 600))]
    pub settle_seconds: u32,
    /// How much each kind of data counts in the fidelity of a domain. A kind counts where the domain has it or offers a
    /// service for it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fidelity_weights: Weights,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_default(weights: &Weights) -> bool {
    *weights == Weights::default()
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            deletions: Deletions::default(),
            max_message_bytes: None,
            since: None,
            verify: Verify::default(),
            pilot: None,
            limits: Limits::default(),
            allowed_networks: Vec::new(),
            settle_seconds: settle_seconds(),
            fidelity_weights: Weights::default(),
        }
    }
}

/// The fate of messages at the destination that vanish from the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub enum Deletions {
    /// They stay.
    #[default]
    Never,
}

/// How arrivals are checked.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema,
)]
pub enum Verify {
    /// All by size.
    Sizes,
    /// All by size; byte by byte those with what servers are known to change, and one in a hundred.
    #[default]
    Sampled,
    /// All byte by byte.
    Full,
}

impl From<Verify> for Depth {
    fn from(verify: Verify) -> Self {
        match verify {
            Verify::Sizes => Self::Sizes,
            Verify::Sampled => Self::Sampled,
            Verify::Full => Self::Full,
        }
    }
}

impl From<Depth> for Verify {
    fn from(depth: Depth) -> Self {
        match depth {
            Depth::Sizes => Self::Sizes,
            Depth::Sampled => Self::Sampled,
            Depth::Full => Self::Full,
        }
    }
}

/// A first try with a part of the mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pilot {
    /// The first mailboxes of each domain that can be read are carried, this many of them, 1 to 10,000. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub mailboxes: Option<u32>,
    /// Of each of their folders the newest messages are carried, this many of them, 1 to 1,000,000. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub messages_per_folder: Option<u32>,
}

/// How hard servers are asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Most connections to one host at a time, 1 to 64. Default: 8. Fewer are used when the host asks for it.
    #[serde(default = "per_host_connections")]
    #[schemars(range(min = 1, max = 64))]
    pub per_host_connections: u32,
    /// Most bytes a second that are sent to the destination, by all connections together, at least 1,024. In a cluster
    /// each pod of each domain keeps to an equal share. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1024, max = 9_007_199_254_740_991_i64))]
    pub bytes_per_second: Option<u64>,
    /// Most bytes of messages that are read of one mailbox at its source within 24 hours, at least 1,048,576; then the
    /// mailbox pauses and goes on by itself. Default: 2,000,000,000 at imap.gmail.com, whose own limit is 2,500 MB, and
    /// no limit elsewhere. A very high number lifts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1_048_576, max = 9_007_199_254_740_991_i64))]
    pub source_bytes_per_day: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            per_host_connections: per_host_connections(),
            bytes_per_second: None,
            source_bytes_per_day: None,
        }
    }
}

fn per_host_connections() -> u32 {
    8
}

fn settle_seconds() -> u32 {
    10
}
