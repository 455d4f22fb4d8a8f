//! Folders that the source listed before and does not list now. A list may be shorter than the mailbox, in one session alone or
//! in each: so nothing is taken for gone because a list lacks it. A folder that can still be opened by its name is carried as
//! before and told; what cannot, and is not said to be gone, waits; and a folder that is said to be gone counts as gone
//! in the second pass that hears it.

use std::collections::{BTreeSet, HashMap};

use super::mapping::FolderPlan;
use crate::drivers::{Source, Survey};
use crate::ledger::{Cursor, Ledger, Row, RowId};
use crate::model::failure::{Class, Failure, FailureCode, Result, Side};
use crate::model::finding::{Code, Finding};
use crate::model::folder::FolderPath;
use crate::model::message::Verdict;
use crate::model::protocol::Protocol;

/// The ledger's fact that lists the folders of which the last pass heard that they are gone, one a line.
const NOT_LISTED: &str = "notListed";
/// The most folders that are looked for by their names.
const LOOKED_FOR: usize = 1000;

/// Folders that are not listed, by what became of them.
#[derive(Debug, Default)]
pub(crate) struct Unlisted {
    /// Those that can be opened all the same; they are among the folders of the survey now.
    pub(crate) found: Vec<FolderPath>,
    /// Those that cannot, and are not said to be gone, with why.
    pub(crate) hidden: Vec<(FolderPath, Failure)>,
    /// Those that the source says it does not have.
    gone: BTreeSet<FolderPath>,
}

/// Looks for folders that were known and are not listed, and adds those that can be opened to what was listed.
///
/// # Errors
/// Those of the session.
pub(crate) async fn add_unlisted(
    source: &mut dyn Source,
    sources: &mut Survey,
    mut known: BTreeSet<FolderPath>,
) -> Result<Unlisted> {
    let mut unlisted = Unlisted::default();
    for folder in &sources.folders {
        known.remove(&folder.path);
    }
    // Where folders are labels, each message is listed in another one that shows it.
    if known.is_empty() || sources.rule.is_some() {
        return Ok(unlisted);
    }
    let paths: Vec<FolderPath> = known.into_iter().take(LOOKED_FOR).collect();
    let looked = source.find_unlisted(&paths).await.map_err(|failure| failure.side(Side::Source))?;
    for (path, found) in paths.into_iter().zip(looked) {
        match found {
            Ok(folder) => {
                unlisted.found.push(path);
                sources.folders.push(folder);
            }
            Err(failure) if denies(&failure) => drop(unlisted.gone.insert(path)),
            Err(failure) => unlisted.hidden.push((path, failure.side(Side::Source))),
        }
    }
    Ok(unlisted)
}

/// As [`add_unlisted`], for all folders of which something is known.
///
/// # Errors
/// Those of the session and of the ledger.
pub(super) async fn find_unlisted(
    source: &mut dyn Source,
    sources: &mut Survey,
    ledger: &dyn Ledger,
    cursors: &HashMap<FolderPath, Cursor>,
) -> Result<Unlisted> {
    let mut known = ledger.unfinished().await?;
    known.extend(cursors.keys().cloned());
    add_unlisted(source, sources, known).await
}

impl Unlisted {
    /// The findings that tell a person of it.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let found = self.found.iter().map(|path| {
            let text = format!(
                "The source left \"{path}\" out of its list of folders; it was opened by its name and carried."
            );
            Finding::about(Code::FoldersUnlisted, path, text)
        });
        let hidden = self.hidden.iter().map(|(path, failure)| {
            let why = failure.sentence();
            let text = format!(
                "The source left \"{path}\" out of its list of folders, and it cannot be opened: {why}."
            );
            Finding::about(Code::FoldersUnreadable, path, text)
        });
        found.chain(hidden).collect()
    }

    /// Forgets what was never carried of folders that the source no longer has: nobody can carry it any more. Mail that another
    /// protocol listed stays, for this one may not show its folders. Says why something waits on, where any does.
    ///
    /// # Errors
    /// Those of the ledger.
    pub(super) async fn forget_vanished(
        &self,
        plans: &[FolderPlan],
        protocol: Protocol,
        ledger: &dyn Ledger,
    ) -> Result<Option<Failure>> {
        let listed: BTreeSet<&FolderPath> = plans.iter().map(|plan| &plan.source.path).collect();
        let before = ledger.fact(NOT_LISTED).await?.unwrap_or_default();
        let (mut waits, mut now) = (None, Vec::new());
        for folder in ledger.unfinished().await? {
            if listed.contains(&folder) {
                continue;
            }
            let is_vanished =
                |row: &&Row| row.verdict == Verdict::Pending && row.locator.protocol == protocol;
            let rows = ledger.rows(&folder).await?;
            let vanished: Vec<RowId> = rows.iter().filter(is_vanished).map(|row| row.id).collect();
            let hidden = self.hidden.iter().find(|(path, _)| *path == folder);
            if let Some((_, failure)) = hidden {
                waits.get_or_insert_with(|| failure.clone().at(folder.to_string()));
                continue;
            }
            let name = folder.to_string();
            if self.gone.contains(&folder) && !vanished.is_empty() {
                now.push(name.clone());
                if !before.lines().any(|line| line == name) {
                    waits.get_or_insert_with(|| is_said_to_be_gone(&name));
                    continue;
                }
            }
            ledger.mark_gone(&vanished).await?;
            ledger.keep_unlisted(&folder, 0..=0, "").await?;
        }
        if now.join("\n") != before {
            ledger.save_fact(NOT_LISTED, &now.join("\n")).await?;
        }
        Ok(waits)
    }
}

/// Whether a refusal says that there is no such folder. Of one that no list shows it does so also in words that nobody knows.
fn denies(failure: &Failure) -> bool {
    failure.is(FailureCode::NoSuchFolder) || failure.class == Class::Refused && failure.code.is_none()
}

fn is_said_to_be_gone(folder: &str) -> Failure {
    let what = "the source no longer lists the folder, and not all of its messages were carried";
    Failure::new(Class::Refused, what)
        .code(FailureCode::NoSuchFolder)
        .side(Side::Source)
        .hint("if it was removed on purpose, run again: a folder that is gone twice is forgotten")
        .at(folder)
}
