//! Other mailboxes that are carried into the same destination mailbox, each with a ledger of its own. What they put there
//! is theirs: this mailbox takes none of it for its own, and removes none of it.
//!
//! Their ledgers are opened for each question and closed again, since dozens of mailboxes may arrive in one.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::ledger::Store;
use crate::model::failure::{Place, Result};
use crate::model::folder::FolderPath;

/// The ledgers of the neighbours; the default is that there are none.
#[derive(Clone, Default)]
pub struct Neighbours {
    store: Option<Arc<dyn Store>>,
    keys: Vec<String>,
}

impl std::fmt::Debug for Neighbours {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Neighbours").field(&self.keys).finish()
    }
}

impl Neighbours {
    /// The ledgers that a store keeps under these keys, as far as there are any yet.
    pub fn new(store: Arc<dyn Store>, keys: Vec<String>) -> Self {
        Self { store: Some(store), keys }
    }

    /// The UIDs of a destination folder that belong to neighbours.
    ///
    /// # Errors
    /// Those of a ledger: who cannot be asked may own anything.
    pub(super) async fn claimed(&self, folder: &FolderPath, uidvalidity: u32) -> Result<BTreeSet<u32>> {
        let mut claimed = BTreeSet::new();
        let Some(store) = &self.store else { return Ok(claimed) };
        for key in &self.keys {
            let asked = async {
                match store.find(key).await? {
                    Some(ledger) => ledger.claimed(folder, uidvalidity).await,
                    None => Ok(BTreeSet::new()),
                }
            };
            claimed.extend(
                asked.await.at(|| format!("the ledger of {key}, which arrives in the same mailbox"))?,
            );
        }
        Ok(claimed)
    }

    /// Leaves out of messages of a destination folder those that belong to neighbours by now.
    ///
    /// # Errors
    /// As [`Self::claimed`].
    pub async fn spare<T>(
        &self,
        folder: &FolderPath,
        uidvalidity: u32,
        mut messages: Vec<T>,
        uid_of: impl Fn(&T) -> u32,
    ) -> Result<Vec<T>> {
        if !messages.is_empty() && !self.keys.is_empty() {
            let theirs = self.claimed(folder, uidvalidity).await?;
            messages.retain(|message| !theirs.contains(&uid_of(message)));
        }
        Ok(messages)
    }
}
