//! The two sessions of a verification, and which folder of the one belongs to which of the other.

use std::collections::{BTreeMap, BTreeSet};

use super::ROWS_AT_ONCE;
use crate::drivers::{Destination, Folder, Source};
use crate::ledger::{Ledger, RowId};
use crate::local::workers::Tools;
use crate::model::endpoint::Endpoint;
use crate::model::failure::{Failure, FailureCode, Place, Result};
use crate::model::folder::FolderPath;
use crate::plan::mailboxes::PlannedMailbox;
use crate::transfer::atlas::Atlas;
use crate::transfer::mapping::plan_folders;
use crate::transfer::names::NameRules;
use crate::transfer::unlisted::add_unlisted;

/// A session at either side.
pub(super) struct Ends {
    pub(super) source: Box<dyn Source>,
    pub(super) destination: Box<dyn Destination>,
}

impl Ends {
    /// Logs in at both sides.
    ///
    /// # Errors
    /// Those of the logins.
    pub(super) async fn open(
        tools: &Tools,
        domain: usize,
        planned: &PlannedMailbox,
        endpoint: &Endpoint,
    ) -> Result<Self> {
        let source = tools.open_source(domain, planned, endpoint).await.at(|| "source".to_owned())?;
        let destination = tools.open_destination(planned).await.at(|| "destination".to_owned())?;
        Ok(Self { source, destination })
    }

    /// Ends both.
    pub(super) async fn close(mut self) {
        tokio::join!(self.source.close(), self.destination.close());
    }
}

/// A folder that was carried and that the source does not list, with why nothing is known of it.
type Unlisted = Vec<(FolderPath, Failure)>;

/// Has messages sent again that were sent in vain as often as passes do that: the destination never listed them. Says how
/// many.
pub(super) async fn reopen_unseen(ledger: &dyn Ledger) -> Result<u64> {
    let (mut after, mut reopened) = (0, 0);
    loop {
        let rows = ledger.page(after, ROWS_AT_ONCE).await?;
        let Some(last) = rows.last() else { return Ok(reopened) };
        after = last.id;
        let unseen = rows.iter().filter(|row| row.refused.code == Some(FailureCode::NotSeen) && !row.gone);
        let unseen: Vec<RowId> = unseen.map(|row| row.id).collect();
        reopened += unseen.len() as u64;
        ledger.reopen(&unseen).await?;
    }
}

/// The folders of a verification.
pub(super) struct Paired {
    /// The source's folders by the destination folder that their mail went to, as the passes remember it.
    pub(super) folders: BTreeMap<FolderPath, Vec<Folder>>,
    /// Those of them that a rule leaves out now, with its words: the mail that was carried before is looked for, and no other.
    pub(super) left_out: BTreeMap<FolderPath, String>,
    /// Folders that were carried and that the source does not list.
    pub(super) unlisted: Unlisted,
}

/// Lists both sides, and pairs their folders.
pub(super) async fn pair_folders(
    tools: &Tools,
    source: &mut dyn Source,
    destination: &mut dyn Destination,
    ledger: &dyn Ledger,
) -> Result<Paired> {
    let (mut sources, destinations) = (source.survey().await?, destination.list_folders().await?);
    let carried: BTreeSet<FolderPath> = ledger.cursors().await?.into_keys().collect();
    let unlisted = add_unlisted(source, &mut sources, carried).await?;
    let names = NameRules::new(destination.delimiter(), destination.length_of_names());
    let atlas = Atlas::load(ledger).await?;
    let labelled = sources.rule.is_some();
    let plans = plan_folders(&sources.folders, &destinations, labelled, &names, &tools.rules()?, &atlas);
    let mut folders: BTreeMap<FolderPath, Vec<Folder>> = BTreeMap::new();
    let mut left_out = BTreeMap::new();
    for plan in plans {
        let mut path = plan.destination;
        if let Some(why) = &plan.excluded {
            if ledger.count_copied(&plan.source.path).await? == 0 {
                continue;
            }
            left_out.insert(plan.source.path.clone(), why.clone());
        }
        if plan.excluded.is_some() || atlas.find(&plan.source.path).is_none() {
            // Of a folder that is left out now, or in a ledger of a version that did not remember names: where mail went says more
            // than where it would go.
            let rows = ledger.rows(&plan.source.path).await?;
            let went = rows.into_iter().find_map(|row| row.destination).map(|(folder, _)| folder);
            path = went.unwrap_or(path);
        }
        folders.entry(path).or_default().push(plan.source);
    }
    Ok(Paired { folders, left_out, unlisted: unlisted.hidden })
}
