//! The current checklist before the order: what was answered, what discovery knows, and where the two differ.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

/// The state of an item of the checklist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ItemState {
    /// The customer answered, and nothing speaks against it.
    Answered,
    /// Nobody answered; discovery knows.
    Discovered,
    /// Discovery found something else than the customer said.
    Contradicted,
    /// Nobody answered, and discovery cannot know.
    Unknown,
}

impl fmt::Display for ItemState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Answered => "answered",
            Self::Discovered => "discovered",
            Self::Contradicted => "contradicted",
            Self::Unknown => "unknown",
        })
    }
}

/// One question of the checklist.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    /// Its number, 1 to 20.
    pub number: u8,
    /// The subject of the number.
    pub title: &'static str,
    /// The domain that it is asked for; `None` for the migration as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// The field of `spec.checklist` that answers it; below `domains[]` when there is a domain.
    pub field: &'static str,
    /// The question.
    pub question: String,
    /// Its state.
    pub state: ItemState,
    /// The answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<Value>,
    /// The knowledge of discovery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discovered: Option<Value>,
    /// How the two differ, in one sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contradiction: Option<String>,
}
