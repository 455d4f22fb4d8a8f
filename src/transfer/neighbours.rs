//! Other mailboxes that are carried into the same destination mailbox, each with a ledger of its own. The messages that
//! they put there are theirs: this mailbox takes none of them for its own, and removes none of them.
//!
//! Their ledgers are opened for each question and closed again, since dozens of mailboxes may arrive in one.
//!
//! A mailbox of the migration with another address at the destination may still arrive in the same mailbox, by an alias that
//! nobody declared. So all ledgers of the migration are asked before anything is removed, and only then: it is rare.

use std::sync::Arc;

use super::{DESTINATION, Ends};
use crate::ledger::{Intent, Store};
use crate::model::failure::{Place, Result};
use crate::model::folder::FolderPath;
use crate::model::locator::ItemIds;
use crate::model::message::{Epoch, ItemId};

/// The ledgers of the neighbours; the default is that there are none.
#[derive(Clone, Default)]
pub struct Neighbours {
    pub(super) store: Option<Arc<dyn Store>>,
    pub(super) keys: Vec<String>,
    pub(super) own: Option<Own>,
}

/// The mailbox among all of its migration.
#[derive(Clone)]
pub(super) struct Own {
    /// The name of its ledger in the store.
    pub(super) key: String,
    /// The destination's server.
    pub(super) server: String,
    /// Its address there.
    pub(super) mailbox: String,
}

impl std::fmt::Debug for Neighbours {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Neighbours").field(&self.keys).finish()
    }
}

impl Neighbours {
    /// The ledgers that a store keeps under these keys, as far as there are any yet.
    pub fn new(store: Arc<dyn Store>, keys: Vec<String>) -> Self {
        Self { store: Some(store), keys, own: None }
    }

    /// Says what the mailbox's own ledger is called in the store, and where it is carried to, so that it can be told from
    /// all the others of the migration.
    #[must_use]
    pub fn among_all(mut self, key: String, destination: &str) -> Self {
        self.own = Ends::parts(destination).map(|(server, mailbox)| Own {
            key,
            server: server.to_owned(),
            mailbox: mailbox.to_owned(),
        });
        self
    }

    /// Which of some messages of a destination folder another mailbox of the migration at the same server may own, whatever
    /// its address there: those that its ledger claims or has seen, and all where it is about to send. The declared ones
    /// are not asked: [`Self::spare`] leaves theirs out. A ledger that cannot be asked may own any of them.
    pub(super) async fn owned_elsewhere(
        &self,
        folder: &FolderPath,
        epoch: &Epoch,
        ids: &[ItemId],
    ) -> ItemIds {
        let all = || ids.iter().cloned().collect();
        let (false, Some(store), Some(own)) = (ids.is_empty(), &self.store, &self.own) else {
            return ItemIds::default();
        };
        let Ok(others) = store.facts(DESTINATION).await else { return all() };
        let mut owned = ItemIds::default();
        for (key, end) in others {
            let elsewhere =
                end.as_deref().and_then(Ends::parts).is_some_and(|(server, _)| server != own.server);
            if key == own.key || self.keys.contains(&key) || elsewhere {
                continue;
            }
            match known_at(&**store, &key, folder, epoch).await {
                Ok(Some(theirs)) => owned.extend(ids.iter().filter(|id| theirs.contains(id)).cloned()),
                Ok(None) | Err(_) => return all(),
            }
        }
        owned
    }

    /// The ids of a destination folder that belong to neighbours.
    ///
    /// # Errors
    /// Those of a ledger: who cannot be asked may own anything.
    pub(super) async fn claimed(&self, folder: &FolderPath, epoch: &Epoch) -> Result<ItemIds> {
        let mut claimed = ItemIds::default();
        let Some(store) = &self.store else { return Ok(claimed) };
        for key in &self.keys {
            let asked = async {
                match store.find(key).await? {
                    Some(ledger) => ledger.claimed(folder, epoch).await,
                    None => Ok(ItemIds::default()),
                }
            };
            claimed
                .merge(asked.await.at(|| format!("the ledger of {key}, which arrives in the same mailbox"))?);
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
        epoch: &Epoch,
        mut messages: Vec<T>,
        id_of: impl Fn(&T) -> &ItemId,
    ) -> Result<Vec<T>> {
        if !messages.is_empty() && !self.keys.is_empty() {
            let theirs = self.claimed(folder, epoch).await?;
            messages.retain(|message| !theirs.contains(id_of(message)));
        }
        Ok(messages)
    }
}

/// The messages of a destination folder that a ledger claims or has seen; `None` while any may be its own.
async fn known_at(
    store: &dyn Store,
    key: &str,
    folder: &FolderPath,
    epoch: &Epoch,
) -> Result<Option<ItemIds>> {
    let Some(ledger) = store.find(key).await? else { return Ok(Some(ItemIds::default())) };
    // Before the claims: what is settled between the two questions is in one of the answers.
    let here = |intent: &Intent| intent.folder == *folder && intent.epoch == *epoch;
    if ledger.open_intents().await?.iter().any(here) {
        return Ok(None);
    }
    // Also before them, for what is taken over moves from the one to the other.
    let mut known: ItemIds =
        ledger.foreign(folder, epoch).await?.into_iter().map(|message| message.id).collect();
    known.merge(ledger.claimed(folder, epoch).await?);
    Ok(Some(known))
}
