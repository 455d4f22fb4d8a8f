//! Which destination folder each source folder was carried to, as the ledger remembers it. Later passes use the same
//! folders, whatever was renamed, made or removed at the destination since.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::mapping::{FolderPlan, UserChange};
use crate::ledger::Ledger;
use crate::model::failure::{Failure, Result};
use crate::model::folder::FolderPath;

/// The ledger's fact that holds it, as JSON. It is about one destination mailbox: void where another one takes its place.
pub const FOLDER_NAMES: &str = "folderNames";

/// Where one source folder goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The folder at the source.
    #[serde(rename = "from")]
    pub source: FolderPath,
    /// The folder at the destination.
    #[serde(rename = "to")]
    pub destination: FolderPath,
    /// Where it would have gone if the destination took every name.
    pub wanted: FolderPath,
    /// Whether a rule of the manifest said so.
    #[serde(default, skip_serializing_if = "is_false")]
    pub ruled: bool,
    /// Whether the folder at the destination was made for it, and was not there before.
    #[serde(default, skip_serializing_if = "is_false")]
    pub made: bool,
    /// Whether a user gave the folder at the destination another name since.
    #[serde(default, skip_serializing_if = "is_false")]
    pub followed: bool,
    /// Why it is called differently, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn is_false(value: &bool) -> bool {
    !*value
}

/// All that is remembered of a mailbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Atlas {
    places: BTreeMap<FolderPath, Place>,
}

impl Atlas {
    /// Reads the places that earlier passes remembered.
    ///
    /// # Errors
    /// Those of the ledger, and [`crate::model::failure::Class::Internal`] for a list that cannot be read.
    pub async fn load(ledger: &dyn Ledger) -> Result<Self> {
        let Some(text) = ledger.fact(FOLDER_NAMES).await?.filter(|text| !text.is_empty()) else {
            return Ok(Self::default());
        };
        let places: Vec<Place> = serde_json::from_str(&text).map_err(|e| {
            Failure::internal("the ledger's list of folder names cannot be read").caused_by(&e)
        })?;
        Ok(Self { places: places.into_iter().map(|place| (place.source.clone(), place)).collect() })
    }

    /// Remembers it durably.
    ///
    /// # Errors
    /// Those of the ledger.
    pub async fn save(&self, ledger: &dyn Ledger) -> Result<()> {
        let places: Vec<&Place> = self.places.values().collect();
        let text = serde_json::to_string(&places)
            .map_err(|e| Failure::internal("folder names cannot be written down").caused_by(&e))?;
        ledger.save_fact(FOLDER_NAMES, &text).await
    }

    /// All places, by source folder.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        self.places.values()
    }

    /// The remembered place of a source folder.
    pub fn find(&self, source: &FolderPath) -> Option<&Place> {
        self.places.get(source)
    }

    /// The place of a source folder, if the manifest still says of it what it said then: `ruled` is where a rule sends it.
    pub fn place(&self, source: &FolderPath, ruled: Option<&FolderPath>) -> Option<&Place> {
        self.find(source).filter(|place| place.ruled.then_some(&place.wanted) == ruled)
    }

    /// Remembers where a folder goes by its plan. `made` says whether its folder was made just now.
    pub fn keep(&mut self, plan: &FolderPlan, made: bool) {
        let source = &plan.source.path;
        let before = self.places.get(source).filter(|place| place.destination == plan.destination);
        let place = Place {
            source: source.clone(),
            destination: plan.destination.clone(),
            wanted: plan.wanted.clone(),
            ruled: plan.by_rule,
            made: made || before.is_some_and(|place| place.made),
            followed: plan.user_change == Some(UserChange::Renamed),
            why: plan.renamed.clone(),
        };
        self.places.insert(source.clone(), place);
    }

    /// The folder is called differently at the source now.
    pub fn rename_source(&mut self, from: &FolderPath, place: Place) {
        self.places.remove(from);
        self.places.insert(place.source.clone(), place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_holds_as_long_as_the_manifest_says_the_same() {
        let path = FolderPath::from_slashes;
        let place = |ruled: bool| Place {
            source: path("Old"),
            destination: path("Archive_Old"),
            wanted: path("Archive/Old"),
            ruled,
            made: true,
            followed: false,
            why: None,
        };
        let atlas = |ruled: bool| Atlas { places: BTreeMap::from([(path("Old"), place(ruled))]) };
        assert!(atlas(true).place(&path("Old"), Some(&path("Archive/Old"))).is_some());
        assert!(atlas(true).place(&path("Old"), Some(&path("Elsewhere"))).is_none());
        assert!(atlas(true).place(&path("Old"), None).is_none());
        assert!(atlas(false).place(&path("Old"), None).is_some());
        let text = serde_json::to_string(&[place(false)]).unwrap();
        assert_eq!(text, r#"[{"from":["Old"],"to":["Archive_Old"],"wanted":["Archive","Old"],"made":true}]"#);
    }
}
