//! Names that differ at the destination, and folders that are left out.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::label::Labels;

/// Names that differ at the destination, and folders that are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Mapping {
    /// Folders that get another name; the first rule whose from is the folder or a folder above it wins. At most 1,000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub folders: Vec<FolderRule>,
    /// Folders that are left out: patterns with *, ** and ? over the path at the source, levels parted by /. Their
    /// messages are counted as excluded. At most 1,000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 1024)))]
    pub exclude: Vec<String>,
    /// The fate of further labels where folders are labels, as at Gmail (X-GM-EXT-1). Each message is carried once,
    /// into its home: INBOX, else the sent mail, else the drafts, else of its labels the one with the fewest levels, then
    /// the shortest, then the first by alphabet; All Mail for what has none. A folder that exclude names is no home.
    /// Home (the default): its other labels are left and counted. Keywords: they become keywords, in lower case and
    /// modified UTF-7 with _ for blanks. Copies: there is a copy in the folder of each label.
    #[serde(default, skip_serializing_if = "is_default")]
    pub labels: Labels,
    /// Addresses that are called differently at the destination: address at the source to address at the destination.
    /// At most 10,000.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 10000))]
    pub addresses: BTreeMap<String, String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_default(labels: &Labels) -> bool {
    *labels == Labels::default()
}

/// One folder that gets another name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FolderRule {
    /// Path of the folder at the source, levels parted by /. Folders below it move with it.
    #[schemars(length(min = 1, max = 1024))]
    pub from: String,
    /// Path of the folder at the destination, levels parted by /.
    #[schemars(length(min = 1, max = 1024))]
    pub to: String,
}
