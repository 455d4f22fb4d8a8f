//! What is called differently at the destination, and what is left out.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is called differently at the destination, and what is left out.
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
    /// Addresses that are called differently at the destination: address at the source to address at the destination.
    /// At most 10,000.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 10000))]
    pub addresses: BTreeMap<String, String>,
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
