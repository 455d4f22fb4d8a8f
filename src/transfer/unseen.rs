//! Messages that the destination said that it stored and does not list. Most of them are there all the same: a rule of the
//! server put them into another folder, the list comes late, or the UIDs do not begin where the server said. To send them again
//! without a look would double them, in each pass once more. So they are looked for by what they are; and what was sent so
//! often and never seen is left, and named.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::time::sleep;

use super::folder::{FolderPass, settled};
use super::pipeline::Passed;
use super::verify::{judge_arrival, read_identities};
use crate::drivers::{FolderState, Present};
use crate::ledger::{NAMED_FROM, Row, RowId, Settled, Space};
use crate::model::failure::{FailureCode, Result, Side};
use crate::model::folder::FolderPath;
use crate::model::identity::{Digest, Hazards, Identity};
use crate::model::locator::ItemIds;
use crate::model::mark::Mark;
use crate::model::message::{Arrival, Epoch, InternalDate, ItemId, Verdict};

/// So often a message is sent that is never seen: with others, and twice alone, from a session that has just opened the
/// folder (GNU Mailutils keeps but the first message that comes into an open folder).
const TRIES: u32 = 3;
/// How long is waited before the folder is looked at again.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];
/// The most messages of one folder that are read to see what they are, the newest first.
const READ_MOST: usize = 1000;
/// Messages read at once.
const READ_BACK: usize = 200;

/// The reason of messages that the destination said to have stored and does not list.
pub(super) const NOT_SEEN: &str = "the destination said that it stored the message, and does not list it";

/// The reason of a message that was sent once more and not seen, which sessions had ended at so often before.
pub(super) fn reason(attempts: u32) -> String {
    if attempts + 1 < NAMED_FROM + TRIES {
        return NOT_SEEN.to_owned();
    }
    format!(
        "{NOT_SEEN}; it was sent {TRIES} times, was looked for in all folders, and is sent again by `mailferry verify \
         --repair` only"
    )
}

/// Whether a message was sent so often without being seen that it is sent no more.
pub(super) fn is_given_up(row: &Row) -> bool {
    row.refused.code == Some(FailureCode::NotSeen) && row.attempts >= NAMED_FROM + TRIES
}

/// A message that is looked for.
pub(super) type Unseen = HashMap<RowId, Passed>;

/// How a message that lies at the destination must be like one that is looked for.
type Likeness<'a> = &'a (dyn Fn(&Passed, &Identity, Option<InternalDate>) -> bool + Send + Sync);

impl FolderPass<'_> {
    /// Looks for what earlier passes sent and nobody saw, before anything is sent again.
    pub(super) async fn seek_unseen(&mut self, space: &Space, arrived: &FolderState) -> Result<()> {
        let mut unseen = Unseen::new();
        let mut after = 0;
        loop {
            let rows = self.ledger.refused(space, after, super::listing::ROWS_AT_ONCE).await?;
            let Some(last) = rows.last() else { break };
            after = last.id;
            let not_seen = rows.into_iter().filter(|row| row.refused.code == Some(FailureCode::NotSeen));
            unseen.extend(not_seen.filter_map(|row| Some((row.id, passed_of(row)?))));
        }
        if unseen.is_empty() {
            return Ok(());
        }
        self.find_here(&mut unseen, arrived, true).await?;
        self.find_elsewhere(&mut unseen).await
    }

    /// Looks for what this pass sent and nobody saw, and says what is still not seen.
    pub(super) async fn await_unseen(&mut self, mut unseen: Unseen, arrived: &FolderState) -> Result<Unseen> {
        self.find_here(&mut unseen, arrived, false).await?;
        self.find_elsewhere(&mut unseen).await?;
        for pause in PAUSES {
            if unseen.is_empty() {
                break;
            }
            sleep(pause).await;
            self.find_here(&mut unseen, arrived, false).await?;
        }
        Ok(unseen)
    }

    /// Looks through the whole folder that they were sent to: where its mark lies is only what the server said. With
    /// `foreign`, also among what lies there and is nobody's.
    async fn find_here(&mut self, unseen: &mut Unseen, arrived: &FolderState, foreign: bool) -> Result<()> {
        if unseen.is_empty() {
            return Ok(());
        }
        let folder = self.plan.destination.clone();
        let mut taken = ItemIds::default();
        if !foreign {
            let foreign = self.ledger.foreign(&folder, &arrived.epoch).await?;
            taken.extend(foreign.into_iter().map(|message| message.id));
        }
        let state =
            self.destination.open(&folder).await.map_err(|failure| failure.side(Side::Destination))?;
        let found = self.find_in(&folder, &state.epoch, taken, unseen).await?;
        let settled_now = found.into_iter().map(|found| {
            let mut settled = settled(found.row, Some((folder.clone(), found.arrival)), Verdict::Delivered);
            judge_arrival(&mut settled, &found.passed, &found.identity);
            settled
        });
        let settled_now: Vec<Settled> = settled_now.collect();
        self.count_found(&settled_now);
        self.settle(&settled_now, None).await
    }

    /// Looks through the other folders of the mailbox.
    async fn find_elsewhere(&mut self, unseen: &mut Unseen) -> Result<()> {
        if unseen.is_empty() {
            return Ok(());
        }
        let own = self.plan.destination.clone();
        let listed = self.destination.list_folders().await.map_err(|failure| failure.side(Side::Destination));
        for other in listed?.into_iter().filter(|folder| folder.selectable && folder.path != own) {
            if unseen.is_empty() {
                break;
            }
            let state = match self.destination.open(&other.path).await {
                Ok(state) if state.items == Some(0) => continue,
                Ok(state) => state,
                Err(failure) if failure.leaves_the_session() || failure.asks_to_come_later() => continue,
                Err(failure) => return Err(failure.side(Side::Destination)),
            };
            let found = self.find_in(&other.path, &state.epoch, ItemIds::default(), unseen).await?;
            let settled_now: Vec<Settled> = found
                .into_iter()
                .map(|found| {
                    let reason = format!("the destination put it into the folder {}", other.path);
                    let at = Some((other.path.clone(), found.arrival));
                    let stored = Some(found.identity.exact);
                    Settled { stored, ..settled(found.row, at, Verdict::DeliveredAltered(reason)) }
                })
                .collect();
            self.count_found(&settled_now);
            self.settle(&settled_now, None).await?;
        }
        self.destination.open(&own).await.map(drop).map_err(|failure| failure.side(Side::Destination))
    }

    /// Counts the found messages, which were read back and compared.
    fn count_found(&mut self, found: &[Settled]) {
        self.uncounted.sizes_checked += found.len() as u64;
        self.uncounted.digests_checked += found.len() as u64;
    }

    /// Finds messages in the open folder, and takes them out of those that are looked for.
    async fn find_in(
        &mut self,
        folder: &FolderPath,
        epoch: &Epoch,
        mut taken: ItemIds,
        unseen: &mut Unseen,
    ) -> Result<Vec<Found>> {
        taken.merge(self.ledger.claimed(folder, epoch).await?);
        let sizes: HashSet<u64> = unseen.values().map(|passed| passed.size).collect();
        let dates: HashSet<i64> = unseen.values().filter_map(|p| p.date).map(|date| date.unix).collect();
        let may_be = |present: &Present| {
            !taken.contains(&present.id)
                && (sizes.contains(&present.size)
                    || present.date.is_some_and(|date| dates.contains(&date.unix)))
        };
        let listed = self.destination.list_since(&Mark::beginning()).await;
        let listed = listed.map_err(|failure| failure.side(Side::Destination))?;
        let mut listed: Vec<Present> = listed.into_iter().filter(may_be).collect();
        listed.drain(..listed.len().saturating_sub(READ_MOST));
        let dates: HashMap<ItemId, Option<InternalDate>> =
            listed.iter().map(|present| (present.id.clone(), present.date)).collect();
        let ids: Vec<ItemId> = listed.into_iter().map(|present| present.id).collect();
        let ids = self.rules.neighbours.spare(folder, epoch, ids, |id| id).await?;
        let mut there = Vec::new();
        for part in ids.chunks(READ_BACK) {
            there.extend(read_identities(self.destination, part).await?);
        }
        let mut found = Vec::new();
        // Those that are as they were sent first, so that none of them is taken for another.
        let as_sent = |sent: &Passed, there: &Identity, _: Option<InternalDate>| {
            sent.known.canonical == there.canonical
        };
        let rounds: [Likeness<'_>; 2] = [&as_sent, &is_altered];
        for is_like in rounds {
            // In the order in which they were sent, which is that of their ids.
            let mut rows: Vec<RowId> = unseen.keys().copied().collect();
            rows.sort_unstable();
            for row in rows {
                let Some(passed) = unseen.get(&row) else { continue };
                let like = |(id, identity): &(ItemId, Identity)| {
                    is_like(passed, identity, dates.get(id).copied().flatten())
                };
                let Some(at) = there.iter().position(like) else { continue };
                let (id, identity) = there.remove(at);
                let Some(passed) = unseen.remove(&row) else { continue };
                found.push(Found { row, passed, identity, arrival: Arrival { epoch: epoch.clone(), id } });
            }
        }
        Ok(found)
    }

    /// Reads anew what lies at the destination, is nobody's and arrived at the very second of a message that waits: an earlier
    /// pass knew all of it, and not what is left of each under another header.
    pub(super) async fn recall_letters(
        &mut self,
        space: &Space,
        listed: &[Present],
        arrived: &FolderState,
    ) -> Result<()> {
        let folder = self.plan.destination.clone();
        let foreign = self.ledger.foreign(&folder, &arrived.epoch).await?;
        let read = self.letters.get(&folder);
        let unread = foreign.into_iter().map(|message| message.id);
        let unread: ItemIds = unread.filter(|id| !read.is_some_and(|read| read.contains_key(id))).collect();
        if unread.is_empty() {
            return Ok(());
        }
        let mut dates: HashSet<i64> = HashSet::new();
        let (mut waiting, mut refused) = (Some(0), Some(0));
        while waiting.is_some() || refused.is_some() {
            for (after, is_refused) in [(&mut waiting, false), (&mut refused, true)] {
                let Some(behind) = *after else { continue };
                let rows = if is_refused {
                    self.ledger.refused(space, behind, super::listing::ROWS_AT_ONCE).await?
                } else {
                    self.ledger.work(space, behind, super::listing::ROWS_AT_ONCE).await?
                };
                dates.extend(rows.iter().filter_map(|row| row.date).map(|date| date.unix));
                *after = rows.last().map(|row| row.id);
            }
        }
        let is_of = |present: &&Present| present.date.is_some_and(|date| dates.contains(&date.unix));
        let ids = listed.iter().filter(is_of).map(|present| &present.id);
        let ids: Vec<ItemId> = ids.filter(|id| unread.contains(id)).cloned().collect();
        for part in ids.chunks(READ_BACK) {
            let read = read_identities(self.destination, part).await?;
            self.keep_letters(&folder, &read);
        }
        Ok(())
    }

    /// Remembers for this pass what is left of messages at the destination under another header.
    pub(super) fn keep_letters(&mut self, folder: &FolderPath, read: &[(ItemId, Identity)]) {
        let letters: &mut HashMap<ItemId, Digest> = self.letters.entry(folder.clone()).or_default();
        letters.extend(read.iter().filter_map(|(id, identity)| Some((id.clone(), identity.letter?))));
    }
}

/// A message that was found.
struct Found {
    row: RowId,
    passed: Passed,
    identity: Identity,
    arrival: Arrival,
}

/// The ledger's knowledge of a message whose bytes passed.
fn passed_of(row: Row) -> Option<Passed> {
    let (known, hazards) = (row.known?, Hazards::default());
    Some(Passed {
        known,
        letter: None,
        rewritten: Vec::new(),
        size: row.size,
        bare_ends: 0,
        date: row.date,
        hazards,
        outline: None,
        asks_receipt: false,
    })
}

/// Whether a message is one that the destination changed. Among all that lies there many are like another in one thing: so
/// more is asked than of what arrived just now.
fn is_altered(sent: &Passed, there: &Identity, date: Option<InternalDate>) -> bool {
    let is_of_then = sent.date.zip(date).is_some_and(|(sent, there)| sent.unix == there.unix);
    let by_id = sent.known.message_id.is_some() && sent.known.message_id == there.message_id;
    sent.letter.is_some() && sent.letter == there.letter || by_id && is_of_then
}
