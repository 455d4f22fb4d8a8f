//! Looks once more at the folders that a pass wrote to, after its last session has ended there: some servers lose messages
//! that they have listed, for example where several sessions rewrite one mbox. A count tells cheaply that nothing went;
//! where one is too small, the messages that the ledger has there are looked for one by one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use super::folder::settled;
use crate::drivers::{Destination, FolderState};
use crate::ledger::{Ledger, Refused, Row, Settled};
use crate::model::failure::{FailureCode, Result, Side};
use crate::model::folder::FolderPath;
use crate::model::message::ItemId;

/// Rows of the ledger that are looked for in one turn.
const ROWS_AT_ONCE: usize = 1000;

/// The destination folders that a pass wrote to, each with the fewest messages that it must hold by now.
#[derive(Debug, Default)]
pub(super) struct Written(Mutex<BTreeMap<FolderPath, u64>>);

impl Written {
    /// Notes that messages were stored in a folder that was in this state before the first of them. A server that does not count
    /// cannot be held to a count.
    pub(super) fn note(&self, folder: &FolderPath, before: &FolderState, stored: u64) {
        if let Some(messages) = before.items.filter(|_| stored > 0) {
            let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            *written.entry(folder.clone()).or_insert(messages) += stored;
        }
    }

    /// Holds the destination's counts against what it was given, and marks what is missing in the ledger.
    ///
    /// # Errors
    /// Those of the ledger and of the session.
    pub(super) async fn look(self, ledger: &dyn Ledger, destination: &mut dyn Destination) -> Result<()> {
        let written = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        if written.is_empty() {
            return Ok(());
        }
        let paths: Vec<FolderPath> = written.keys().cloned().collect();
        let mut states =
            destination.states(&paths).await.map_err(|failure| failure.side(Side::Destination))?;
        for (folder, least) in written {
            let state = match states.remove(&folder) {
                Some(state) => Some(state),
                None => ask(destination, &folder).await?,
            };
            // A folder that cannot be asked for now, or does not count, is left to a verification.
            let Some(messages) = state.and_then(|state| state.items) else { continue };
            if messages < least {
                tracing::info!(%folder, messages, least, "the destination counts fewer messages than it took");
                mark_missing(ledger, destination, &folder).await?;
            }
        }
        Ok(())
    }
}

/// The state of one folder; `None` where the server does not tell it now.
async fn ask(destination: &mut dyn Destination, folder: &FolderPath) -> Result<Option<FolderState>> {
    match destination.status(folder).await {
        Ok(state) => Ok(Some(state)),
        Err(failure) if failure.leaves_the_session() || failure.asks_to_come_later() => Ok(None),
        Err(failure) => Err(failure.side(Side::Destination)),
    }
}

/// Marks the messages of the ledger that lie in a folder and that it does not list.
async fn mark_missing(
    ledger: &dyn Ledger,
    destination: &mut dyn Destination,
    folder: &FolderPath,
) -> Result<()> {
    let opened = destination.open(folder).await;
    let state = match opened {
        Ok(state) => state,
        Err(failure) if failure.leaves_the_session() || failure.asks_to_come_later() => return Ok(()),
        Err(failure) => return Err(failure.side(Side::Destination)),
    };
    let place = |row: &Row| match &row.destination {
        Some((at, arrival)) if at == folder && arrival.epoch == state.epoch => Some(arrival.id.clone()),
        _ => None,
    };
    let mut after = 0;
    loop {
        let rows = ledger.page(after, ROWS_AT_ONCE).await?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = last.id;
        let claimed: BTreeMap<ItemId, &Row> = rows
            .iter()
            .filter(|row| row.verdict.is_delivered())
            .filter_map(|row| Some((place(row)?, row)))
            .collect();
        let ids: Vec<ItemId> = claimed.keys().cloned().collect();
        let listed = destination.list_these(&ids).await.map_err(|failure| failure.side(Side::Destination))?;
        let present: BTreeSet<ItemId> = listed.into_iter().map(|message| message.id).collect();
        let missing: Vec<Settled> = claimed
            .iter()
            .filter(|(id, _)| !present.contains(*id))
            .map(|(_, row)| {
                let entry = settled(row.id, None, row.verdict.clone());
                let refused = Refused { code: Some(FailureCode::ArrivalMissing), ..entry.refused };
                Settled { refused, ..entry }
            })
            .collect();
        if !missing.is_empty() {
            tracing::warn!(%folder, missing = missing.len(), "messages that were listed are no longer at the destination");
            ledger.settle(&missing, None).await?;
        }
    }
}
