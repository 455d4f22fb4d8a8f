//! The folders of a pass: which goes where, what became of those that were carried before, and the making of those that
//! are not there yet.

use std::collections::{BTreeSet, HashMap};

use super::Rules;
use super::atlas::Atlas;
use super::mapping::{FolderPlan, UserChange, plan_folders};
use super::moved::Following;
use super::names::NameRules;
use super::places::{ENDED_MAKING, make_folders, note_ended};
use super::whereabouts::{Whereabouts, find_whereabouts};
use crate::drivers::{Destination, Folder, Source, Survey};
use crate::ledger::{Cursor, Ledger};
use crate::model::failure::{Result, Side};
use crate::model::finding::{Code, Finding};
use crate::model::folder::FolderPath;

/// The plans for all folders.
pub(super) struct Layout {
    /// The plans, views last.
    pub(super) plans: Vec<FolderPlan>,
    names: NameRules,
    atlas: Atlas,
    /// The folders that the destination listed.
    listed: Vec<Folder>,
}

impl Layout {
    /// Plans all folders, and follows those that are called differently than when they were carried. The destination's
    /// list of folders and the folders' progress are brought up to date.
    ///
    /// # Errors
    /// Those of the sessions and of the ledger.
    pub(super) async fn plan(
        source: &mut dyn Source,
        destination: &mut dyn Destination,
        (sources, destinations): (&Survey, &mut Survey),
        rules: &Rules,
        ledger: &dyn Ledger,
        cursors: &mut HashMap<FolderPath, Cursor>,
    ) -> Result<Self> {
        let names = NameRules::new(destination.delimiter(), destination.length_of_names());
        let mut atlas = Atlas::load(ledger).await?;
        let found = find_whereabouts(source, sources, rules, &atlas, ledger, cursors).await;
        let Whereabouts { renamed, unsure } = found.map_err(|failure| failure.side(Side::Source))?;
        for path in &unsure {
            // Without a proof that the folder is as it was, all of it is listed.
            if let Some(cursor) = cursors.get(path) {
                let cursor = Cursor { proves: false, ..cursor.clone() };
                ledger.save_cursor(path, &cursor).await?;
            }
        }
        let mut following =
            Following { destination, destinations, names: &names, rules, atlas: &mut atlas, ledger };
        if !renamed.is_empty() {
            following.rename(sources, &renamed, cursors).await?;
        }
        if !renamed.is_empty() || !unsure.is_empty() {
            *cursors = ledger.cursors().await?;
        }
        let labelled = sources.rule.is_some();
        let listed = &following.destinations.folders;
        let mut plans = plan_folders(&sources.folders, listed, labelled, &names, rules, following.atlas);
        following.follow_users(&mut plans, cursors).await?;
        let listed = destinations.folders.clone();
        Ok(Self { plans, names, atlas, listed })
    }

    /// Makes the folders and remembers what they are called. Returns those that can be filled.
    ///
    /// # Errors
    /// As [`make_folders`], and those of the ledger.
    pub(super) async fn make(
        &mut self,
        destination: &mut dyn Destination,
        ledger: &dyn Ledger,
    ) -> Result<BTreeSet<FolderPath>> {
        let ended = ledger.fact(ENDED_MAKING).await?.unwrap_or_default();
        let making = make_folders(&mut self.plans, &self.names, &self.listed, destination, &ended);
        let (made, now) = making.await;
        note_ended(ledger, &ended, &now).await?;
        let made = made?;
        let before = self.atlas.clone();
        for plan in self.plans.iter().filter(|plan| plan.excluded.is_none()) {
            if made.there.contains(&plan.destination) {
                self.atlas.keep(plan, made.anew.contains(&plan.destination));
            }
        }
        if self.atlas != before {
            self.atlas.save(ledger).await?;
        }
        Ok(made.there)
    }

    /// The findings about the names, and about changes that users made at the destination.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let find = |plan: &FolderPlan| {
            let source = &plan.source.path;
            let there = &plan.destination;
            let text = match plan.user_change {
                Some(UserChange::Removed) => format!(
                    "A user removed the folder \"{there}\" at the destination; what was carried to it is not sent again."
                ),
                Some(UserChange::Renamed) => format!(
                    "A user gave its folder at the destination another name; it goes on in \"{there}\"."
                ),
                None => return Some(Finding::about(Code::FolderRenamed, source, plan.renamed.as_deref()?)),
            };
            Some(Finding::about(Code::FolderGoneAtDestination, source, text))
        };
        self.plans.iter().filter_map(find).collect()
    }
}
