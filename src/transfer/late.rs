//! Late copies that are not removed: the server stored a message a second time after it had been sent again, and either
//! offers no way to remove single messages (no UIDPLUS, RFC 4315), or the copy may be another mailbox's message. They stay in the ledger and in the findings of every
//! pass until they are gone, so that no message is double without a word about it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::drivers::Destination;
use crate::ledger::Ledger;
use crate::model::failure::{Class, Failure, Result};
use crate::model::finding::{Code, Finding};
use crate::model::folder::FolderPath;
use crate::model::locator::ItemIds;
use crate::model::message::{Epoch, ItemId};
use crate::model::text::counted;

/// The ledger's fact that lists them, as JSON.
pub(super) const LATE_COPIES: &str = "lateCopies";
/// The most folders, and the most copies of each, that the finding names.
const NAMED: usize = 10;

/// Why late copies stay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Stays {
    /// The server cannot remove single messages.
    #[default]
    CannotBeRemoved,
    /// The ledger of another mailbox of the migration knows a message at this place.
    MayBeAnothers,
    /// The server listed it long after it had said that it was stored, and it was sent again meanwhile. Somebody may have put the
    /// same there.
    ListedLate,
}

/// Late copies in one destination folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct LateCopies {
    folder: FolderPath,
    /// Versions before this one knew it as UIDVALIDITY.
    #[serde(alias = "uidvalidity")]
    epoch: Epoch,
    #[serde(alias = "uids")]
    ids: BTreeSet<ItemId>,
    #[serde(default)]
    why: Stays,
}

/// All that are known of a mailbox; several sessions of it may note some at the same time.
pub(super) struct Late<'a> {
    ledger: &'a dyn Ledger,
    known: Mutex<Vec<LateCopies>>,
}

impl<'a> Late<'a> {
    /// Reads the copies that earlier passes have noted.
    ///
    /// # Errors
    /// Those of the ledger.
    pub(super) async fn load(ledger: &'a dyn Ledger) -> Result<Self> {
        let text = ledger.fact(LATE_COPIES).await?.filter(|text| !text.is_empty());
        let known = text.map(|text| serde_json::from_str(&text)).transpose();
        let known = known.map_err(|e| {
            Failure::internal("the ledger's list of late copies cannot be read").caused_by(&e)
        })?;
        Ok(Self { ledger, known: Mutex::new(known.unwrap_or_default()) })
    }

    /// Notes copies that stay, durably.
    ///
    /// # Errors
    /// Those of the ledger.
    pub(super) async fn note(
        &self,
        folder: &FolderPath,
        epoch: &Epoch,
        ids: &[ItemId],
        why: Stays,
    ) -> Result<()> {
        let mut known = self.known.lock().await;
        let same = |late: &&mut LateCopies| late.folder == *folder && late.epoch == *epoch && late.why == why;
        let ids = ids.iter().cloned();
        if let Some(late) = known.iter_mut().find(same) {
            late.ids.extend(ids);
        } else {
            let (folder, epoch, ids) = (folder.clone(), epoch.clone(), ids.collect());
            known.push(LateCopies { folder, epoch, ids, why });
        }
        self.save(&known).await
    }

    async fn save(&self, known: &[LateCopies]) -> Result<()> {
        let text = if known.is_empty() {
            String::new()
        } else {
            serde_json::to_string(known)
                .map_err(|e| Failure::internal("late copies cannot be written down").caused_by(&e))?
        };
        self.ledger.save_fact(LATE_COPIES, &text).await
    }

    /// Says which are still there. Asks the destination only if there were any.
    ///
    /// # Errors
    /// Those of the ledger and of the session.
    pub(super) async fn tell(self, destination: &mut dyn Destination) -> Result<Option<Finding>> {
        let before = self.known.lock().await.clone();
        let mut still = Vec::new();
        for mut late in before.iter().cloned() {
            let present: ItemIds = match destination.open(&late.folder).await {
                Ok(state) if state.epoch == late.epoch => {
                    let before = late.ids.first().map(|id| destination.marks().before(id));
                    destination
                        .list_since(&before.unwrap_or_default())
                        .await?
                        .into_iter()
                        .map(|message| message.id)
                        .collect()
                }
                // Another folder under the same name, or none.
                Ok(_) => ItemIds::default(),
                Err(failure) if failure.class == Class::Refused => ItemIds::default(),
                // Nothing is known of it now.
                Err(failure) if failure.leaves_the_session() || failure.asks_to_come_later() => {
                    still.push(late);
                    continue;
                }
                Err(failure) => return Err(failure),
            };
            // One that was taken over since stands for a message of its own.
            let claimed = self.ledger.claimed(&late.folder, &late.epoch).await?;
            late.ids.retain(|id| present.contains(id) && !claimed.contains(id));
            if !late.ids.is_empty() {
                still.push(late);
            }
        }
        if still != before {
            self.save(&still).await?;
        }
        Ok((!still.is_empty()).then(|| find(&still)))
    }
}

/// Copies in a destination folder are in the same folder under its new name.
///
/// # Errors
/// Those of the ledger.
pub(super) async fn follow(ledger: &dyn Ledger, from: &FolderPath, to: &FolderPath) -> Result<()> {
    let late = Late::load(ledger).await?;
    let mut known = late.known.lock().await;
    if !known.iter().any(|copies| copies.folder == *from) {
        return Ok(());
    }
    for copies in known.iter_mut().filter(|copies| copies.folder == *from) {
        copies.folder = to.clone();
    }
    late.save(&known).await
}

/// The finding for a person.
fn find(late: &[LateCopies]) -> Finding {
    let of = |why: Stays| late.iter().filter(|late| late.why == why).collect::<Vec<_>>();
    let (stuck, anothers, unlisted) =
        (of(Stays::CannotBeRemoved), of(Stays::MayBeAnothers), of(Stays::ListedLate));
    let mut text = Vec::new();
    if !stuck.is_empty() {
        text.push(format!(
            "The destination stored {}, long after the connection broke, and cannot remove single messages: {}.",
            count(&stuck),
            name(&stuck)
        ));
    }
    if !anothers.is_empty() {
        text.push(format!(
            "The destination stored {}, long after the connection broke, and nothing was removed, since another mailbox \
             of the migration may own what lies there: {}.",
            count(&anothers),
            name(&anothers)
        ));
    }
    if !unlisted.is_empty() {
        text.push(format!(
            "The destination stored {}, since it listed the first copy long after it had said that it was stored; nothing \
             was removed: {}.",
            count(&unlisted),
            name(&unlisted)
        ));
    }
    Finding::of_domain(Code::LateCopies, text.join(" "))
}

fn count(late: &[&LateCopies]) -> String {
    let copies: usize = late.iter().map(|late| late.ids.len()).sum();
    format!("{} a second time", counted(copies as u64, "message", "messages"))
}

fn name(late: &[&LateCopies]) -> String {
    let named = late.iter().take(NAMED).map(|late| {
        let ids: Vec<String> = late.ids.iter().take(NAMED).map(ItemId::in_figures).collect();
        let kind = if late.ids.iter().all(|id| id.uid().is_some()) { "UID " } else { "" };
        let more = if late.ids.len() > NAMED { " and more" } else { "" };
        format!("{} ({kind}{}{more})", late.folder, ids.join(", "))
    });
    let more = if late.len() > NAMED { "; and more folders" } else { "" };
    format!("{}{more}", named.collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_as_numbers_is_read() {
        let written = r#"[{"folder":["A"],"uidvalidity":7,"uids":[3,5],"why":"MayBeAnothers"}]"#;
        let (folder, epoch) = (FolderPath::new(["A"]), Epoch::from(7));
        let ids = [3, 5].map(ItemId::Uid).into();
        let read: Vec<LateCopies> = serde_json::from_str(written).unwrap();
        assert_eq!(read, [LateCopies { folder, epoch, ids, why: Stays::MayBeAnothers }]);
        let now = serde_json::to_string(&read).unwrap();
        assert_eq!(serde_json::from_str::<Vec<LateCopies>>(&now).unwrap(), read);
        assert_eq!(name(&read.iter().collect::<Vec<_>>()), "A (UID 3, 5)");
    }
}
