//! Messages at the destination already, and those carried under a name that is void now: how a folder's pass finds
//! messages again instead of sending them twice, and how it finds out where they went.

use std::collections::{BTreeSet, HashMap};

use super::candidates::{Candidate, Candidates};
use super::folder::{FolderPass, settled};
use super::pipeline::{Copied, Passed, Work, known_from};
use super::settle::Barrier;
use super::unseen::NOT_SEEN;
use super::verify::{Checked, check_arrivals, is_same_letter, judge_arrival, read_alone, read_identities};
use crate::drivers::{FolderState, Listed, Present, Wanted};
use crate::ledger::{Foreign, Refused, Row, RowId, Settled};
use crate::model::failure::{FailureCode, Place, Result, Side};
use crate::model::folder::FolderPath;
use crate::model::identity::{Hazards, Identity};
use crate::model::locator::ItemIds;
use crate::model::mark::Mark;
use crate::model::message::{Arrival, Epoch, Flags, InternalDate, ItemId, Verdict};
use crate::model::record::Depth;

/// The reason of a message under whose name several came.
const SEVERAL: &str = "the source hands out different messages under its UID; the one that came first was sent and may be \
                       another one, and the next pass asks for it alone";
/// Messages read back at once to learn what they are.
const READ_BACK: usize = 200;

impl FolderPass<'_> {
    /// Learns which messages are in the destination folder that this ledger did not put there, and forgets those that
    /// no longer are: a message once seen there is looked at again before it counts for anything. Returns the messages
    /// that were listed.
    pub(super) async fn scan_destination(
        &mut self,
        since: &Mark,
        arrived: &FolderState,
    ) -> Result<Vec<Present>> {
        let folder = self.plan.destination.clone();
        let foreign = self.ledger.foreign(&folder, &arrived.epoch).await?;
        if arrived.items == Some(0) {
            let gone: Vec<ItemId> = foreign.into_iter().map(|message| message.id).collect();
            self.ledger.forget_foreign(&folder, &arrived.epoch, &gone).await?;
            return Ok(Vec::new());
        }
        let marks = self.destination.marks();
        let since = match foreign.iter().map(|message| &message.id).min() {
            Some(first) => &marks.earlier(since, &marks.before(first)),
            None => since,
        };
        let listed = self.learn_foreign(&folder, &arrived.epoch, since, foreign).await?;
        self.progress.enter_folder(&self.plan.source.path);
        Ok(listed)
    }

    /// Looks through what came into the open destination folder behind a mark, and tells what was listed.
    async fn learn_foreign(
        &mut self,
        folder: &FolderPath,
        epoch: &Epoch,
        since: &Mark,
        foreign: Vec<Foreign>,
    ) -> Result<Vec<Present>> {
        let marks = self.destination.marks();
        let listed = self.destination.list_since(since).await.at(|| folder.to_string())?;
        let present: ItemIds = listed.iter().map(|message| message.id.clone()).collect();
        let foreign: ItemIds = foreign.into_iter().map(|message| message.id).collect();
        let is_listed = |id: &ItemId| marks.could_follow(id, since);
        let gone: Vec<ItemId> = foreign.iter().filter(|id| is_listed(id) && !present.contains(id)).collect();
        if !gone.is_empty() {
            self.ledger.forget_foreign(folder, epoch, &gone).await?;
        }
        let mut known = self.ledger.claimed(folder, epoch).await?;
        known.merge(foreign);
        let unknown: Vec<ItemId> = present.iter().filter(|id| !known.contains(id)).collect();
        let unknown = self.rules.neighbours.spare(folder, epoch, unknown, |id| id).await?;
        for part in unknown.chunks(READ_BACK) {
            self.progress.enter_phase(&format!("looking at what {folder} holds already"));
            let read = read_identities(self.destination, part).await?;
            self.keep_letters(folder, &read);
            let found: Vec<Foreign> =
                read.into_iter().map(|(id, identity)| Foreign { id, known: known_from(&identity) }).collect();
            self.ledger.keep_foreign(folder, epoch, &found).await?;
        }
        Ok(listed)
    }

    /// The messages in a destination folder that are neither this mailbox's nor a neighbour's.
    async fn foreign(&mut self, folder: &FolderPath, epoch: &Epoch) -> Result<Vec<Foreign>> {
        let foreign = self.ledger.foreign(folder, epoch).await?;
        self.rules.neighbours.spare(folder, epoch, foreign, |message| &message.id).await
    }

    /// Finds delivered messages again whose place at the destination is not known, because the folder got another
    /// epoch. Those that are not there were removed by somebody, and are left alone.
    pub(super) async fn rebind(&mut self, arrived: &FolderState) -> Result<()> {
        let folder = self.plan.destination.clone();
        let mut present: HashMap<_, Vec<ItemId>> = HashMap::new();
        for foreign in self.foreign(&folder, &arrived.epoch).await?.into_iter().rev() {
            present.entry(foreign.known.canonical).or_default().push(foreign.id);
        }
        let mut found = Vec::new();
        for row in self.ledger.unbound(&self.plan.source.path).await? {
            if let Some(id) = row.known.as_ref().and_then(|known| present.get_mut(&known.canonical)?.pop()) {
                let arrival = Arrival { epoch: arrived.epoch.clone(), id };
                found.push(settled(row.id, Some((folder.clone(), arrival)), row.verdict));
            }
        }
        self.settle(&found, None).await
    }

    /// Looks for messages in doubt where they were sent to: those at a place that the destination told, and, where that is
    /// another folder than this pass fills, whatever arrived there.
    pub(super) async fn look_into_doubts(&mut self, barrier: &Barrier, arrived: &FolderState) -> Result<()> {
        let source = self.plan.source.path.clone();
        let ids: Vec<RowId> = barrier.rows(&source).into_iter().collect();
        let mut away = false;
        for folder in barrier.folders(&source) {
            let here = folder == self.plan.destination;
            // `None` where there is no such folder.
            let state = if here {
                Some(arrived.clone())
            } else {
                away = true;
                match self.destination.open(&folder).await {
                    Ok(state) => Some(state),
                    // A folder that is there and cannot be opened may hold what is in doubt: nothing of it is sent again.
                    Err(failure) if failure.leaves_the_session() && !self.is_listed(&folder).await? => None,
                    Err(failure) => return Err(failure.side(Side::Destination)),
                }
            };
            // Read for each folder, for what was found in one is no longer in doubt.
            let told: Vec<Row> = (self.ledger.rows_of(&ids).await?.into_iter())
                .filter(|row| row.verdict == Verdict::Pending)
                .filter(|row| row.destination.as_ref().is_some_and(|(at, _)| *at == folder))
                .collect();
            self.confirm(told, state.as_ref()).await?;
            if let Some(state) = state.filter(|state| !here && state.items.is_some_and(|n| n > 0)) {
                let marks = self.destination.marks();
                let since = barrier.scan_in((&source, &folder), &state, marks).unwrap_or_default();
                let foreign = self.ledger.foreign(&folder, &state.epoch).await?;
                let foreign: Vec<Foreign> =
                    foreign.into_iter().filter(|f| marks.could_follow(&f.id, &since)).collect();
                self.learn_foreign(&folder, &state.epoch, &since, foreign).await?;
            }
        }
        if away {
            self.destination.open(&self.plan.destination).await?;
        }
        Ok(())
    }

    /// Whether the destination lists a folder.
    async fn is_listed(&mut self, folder: &FolderPath) -> Result<bool> {
        let listed = self.destination.list_folders().await.map_err(|failure| failure.side(Side::Destination));
        Ok(listed?.iter().any(|other| other.selectable && other.path == *folder))
    }

    /// Looks whether messages are where the destination said that they are. The folder is open, if there is one.
    async fn confirm(&mut self, told: Vec<Row>, state: Option<&FolderState>) -> Result<()> {
        if told.is_empty() {
            return Ok(());
        }
        let mut copied = Copied::default();
        let mut settled_now: Vec<Settled> = Vec::new();
        let mut marked = BTreeSet::new();
        for row in told {
            let is_in = |epoch: &Epoch| state.is_some_and(|state| state.epoch == *epoch);
            let at = row.destination.filter(|(_, arrival)| is_in(&arrival.epoch));
            match (row.known, at) {
                (Some(known), Some(at)) => {
                    let passed = Passed {
                        known,
                        letter: None,
                        rewritten: Vec::new(),
                        size: row.size,
                        bare_ends: 0,
                        date: row.date,
                        hazards: Hazards::default(),
                        outline: None,
                        asks_receipt: false,
                    };
                    copied.passed.insert(row.id, passed);
                    marked.extend(row.flags.has(Flags::DELETED).then_some(row.id));
                    copied.settled.push(settled(row.id, Some(at), Verdict::Delivered));
                }
                _ => settled_now.push(settled(row.id, None, Verdict::Pending)),
            }
        }
        let checked = check_arrivals(self.destination, &mut copied, Depth::Full).await?;
        self.uncounted.sizes_checked += checked.sizes;
        self.uncounted.digests_checked += checked.digests;
        let unseen: BTreeSet<RowId> = checked.unseen.into_iter().collect();
        for settled in &mut copied.settled {
            if unseen.contains(&settled.id) || checked.misplaced && unseen.is_empty() {
                settled.verdict = Verdict::Pending;
                settled.destination = None;
            }
        }
        let arrived = copied.settled.iter().filter(|settled| settled.verdict.is_delivered());
        self.uncounted.marked += arrived.filter(|settled| marked.contains(&settled.id)).count() as u64;
        settled_now.extend(copied.settled);
        self.settle(&settled_now, None).await
    }

    /// Gathers what a message to copy may turn out to be: under a name that is void, under one that is not listed any more, or
    /// at the destination.
    pub(super) async fn gather_candidates(
        &mut self,
        void: &[Row],
        absent: &[RowId],
        barrier: &Barrier,
        (arrived, listed): (&FolderState, &[Present]),
    ) -> Result<Candidates> {
        let has: HashMap<&ItemId, &Flags> =
            listed.iter().map(|present| (&present.id, &present.flags)).collect();
        let mut candidates = Candidates::default();
        let ids: Vec<RowId> = void.iter().map(|row| row.id).collect();
        // Read again, for they may have been found at another place since.
        let mut rows = self.ledger.rows_of(&ids).await?;
        let absent = self.ledger.rows_of(absent).await?;
        rows.extend(absent.into_iter().filter(|row| row.verdict.is_delivered()));
        for row in rows {
            if let Some(known) = row.known {
                let candidate = Candidate {
                    row: Some(row.id),
                    destination: row.destination,
                    verdict: row.verdict,
                    flags: Some(row.flags),
                    has: None,
                    exact: known.exact,
                    size: Some(row.size),
                    stored: row.stored,
                    letter: None,
                    message_id: None,
                };
                candidates.add(known.canonical, candidate);
            }
        }
        let mut places = vec![(self.plan.destination.clone(), arrived.epoch.clone(), Mark::beginning())];
        let marks = self.destination.marks();
        for folder in barrier.folders(&self.plan.source.path) {
            if folder != self.plan.destination
                && let Some((epoch, since)) = barrier.place_of(&self.plan.source.path, &folder, marks)
            {
                places.push((folder, epoch, since));
            }
        }
        for (folder, epoch, since) in places {
            let foreigners = self.foreign(&folder, &epoch).await?;
            let letters = self.letters.get(&folder);
            let here = folder == self.plan.destination && epoch == arrived.epoch;
            for foreign in foreigners {
                if !marks.could_follow(&foreign.id, &since) {
                    continue;
                }
                let candidate = Candidate {
                    row: None,
                    verdict: Verdict::Delivered,
                    flags: None,
                    has: has.get(&foreign.id).filter(|_| here).map(|flags| (*flags).clone()),
                    exact: foreign.known.exact,
                    size: None,
                    stored: None,
                    letter: letters.and_then(|letters| letters.get(&foreign.id).copied()),
                    destination: Some((folder.clone(), Arrival { epoch: epoch.clone(), id: foreign.id })),
                    message_id: foreign.known.message_id,
                };
                candidates.add(foreign.known.canonical, candidate);
            }
        }
        if self.plan.view {
            candidates.show(self.find_shown().await?);
        }
        Ok(candidates)
    }

    /// How many of each message the other folders hold, less those that this one was found to show already.
    async fn find_shown(&mut self) -> Result<HashMap<crate::model::identity::Digest, u32>> {
        let path = &self.plan.source.path;
        let mut held = self.ledger.identities(&BTreeSet::from([path.clone()])).await?;
        for row in self.ledger.rows(path).await? {
            if row.verdict == Verdict::Shown
                && let Some(left) = row.known.and_then(|known| held.get_mut(&known.canonical))
            {
                *left = left.saturating_sub(1);
            }
        }
        Ok(held)
    }

    /// Checks what arrived. A server that tells a wrong place for one message is not trusted for any: the messages are
    /// looked for by their content. A message that the list does not show did not arrive, whatever the server said.
    pub(super) async fn check(
        &mut self,
        copied: &mut Copied,
        arrived: &FolderState,
        mark: &Mark,
    ) -> Result<Checked> {
        let mut checked = self.check_places(copied, arrived, mark).await?;
        let recognised: BTreeSet<RowId> = copied.recognised.iter().map(|recognised| recognised.row).collect();
        let unseen: BTreeSet<RowId> = std::mem::take(&mut checked.unseen).into_iter().collect();
        for settled in &mut copied.settled {
            let sent = settled.verdict.is_delivered() && !recognised.contains(&settled.id);
            if sent && (settled.destination.is_none() || unseen.contains(&settled.id)) {
                settled.verdict = Verdict::Quarantined(NOT_SEEN.to_owned());
                settled.refused = Refused { code: Some(FailureCode::NotSeen), limit: None };
                settled.destination = None;
            }
        }
        Ok(checked)
    }

    async fn check_places(
        &mut self,
        copied: &mut Copied,
        arrived: &FolderState,
        mark: &Mark,
    ) -> Result<Checked> {
        let marks = self.destination.marks();
        let could_be = |arrival: &Arrival| {
            // A server that says nothing of where the next message goes is not held to anything.
            let follows = arrived.mark.is_beginning() || marks.could_follow(&arrival.id, mark);
            arrival.epoch == arrived.epoch && follows
        };
        let mut told = Vec::new();
        for (at, settled) in copied.settled.iter().enumerate() {
            if let Some((_, arrival)) =
                settled.destination.as_ref().filter(|_| settled.verdict.is_delivered())
                && !copied.recognised.iter().any(|recognised| recognised.row == settled.id)
            {
                told.push((at, arrival.clone(), settled.verdict.clone()));
            }
        }
        let mut misplaced = told.iter().any(|(_, arrival, _)| !could_be(arrival));
        let mut checked = Checked::default();
        if !misplaced {
            checked = check_arrivals(self.destination, copied, self.rules.depth).await?;
            misplaced = checked.misplaced;
        }
        if !misplaced {
            return Ok(checked);
        }
        // The messages found at those places say nothing about these.
        for (at, _, verdict) in told {
            let settled = &mut copied.settled[at];
            (settled.verdict, settled.refused, settled.stored) = (verdict, Refused::default(), None);
            settled.destination = None;
        }
        self.locate(copied, arrived, mark).await?;
        let again = check_arrivals(self.destination, copied, self.rules.depth).await?;
        Ok(Checked { sizes: checked.sizes + again.sizes, digests: checked.digests + again.digests, ..again })
    }

    /// Finds out where messages went when the server did not say so (no UIDPLUS). Otherwise they could not be told from
    /// foreign ones later: a second, equal message would be taken for the first, and flags would find nobody. A message that
    /// the destination changed is found by what it did not change.
    pub(super) async fn locate(
        &mut self,
        copied: &mut Copied,
        arrived: &FolderState,
        mark: &Mark,
    ) -> Result<()> {
        let folder = self.plan.destination.clone();
        let recognised: BTreeSet<RowId> = copied.recognised.iter().map(|recognised| recognised.row).collect();
        let mut unknown: HashMap<_, Vec<usize>> = HashMap::new();
        for (at, settled) in copied.settled.iter().enumerate().rev() {
            if let (true, None, Some(known)) =
                (settled.verdict.is_delivered(), &settled.destination, &settled.known)
                && !recognised.contains(&settled.id)
            {
                unknown.entry(known.canonical).or_default().push(at);
            }
        }
        if unknown.is_empty() {
            return Ok(());
        }
        let mut taken = self.ledger.claimed(&folder, &arrived.epoch).await?;
        taken.extend(self.ledger.foreign(&folder, &arrived.epoch).await?.into_iter().map(|f| f.id));
        taken.extend(copied.settled.iter().filter_map(|s| s.destination.as_ref()).map(|(_, a)| a.id.clone()));
        let present = self.destination.list_since(mark).await.at(|| folder.to_string())?;
        let dates: HashMap<ItemId, Option<InternalDate>> =
            present.iter().map(|present| (present.id.clone(), present.date)).collect();
        let fresh = present.into_iter().map(|present| present.id).filter(|id| !taken.contains(id)).collect();
        let fresh = self.rules.neighbours.spare(&folder, &arrived.epoch, fresh, |id| id).await?;
        let arrival = |id| Some((folder.clone(), Arrival { epoch: arrived.epoch.clone(), id }));
        let mut others: Vec<(ItemId, Identity)> = Vec::new();
        for part in fresh.chunks(READ_BACK) {
            for (id, identity) in read_identities(self.destination, part).await? {
                match unknown.get_mut(&identity.canonical).and_then(Vec::pop) {
                    Some(at) => copied.settled[at].destination = arrival(id),
                    None => others.push((id, identity)),
                }
            }
        }
        // In the order in which they were sent, which is that of their UIDs.
        let mut missing: Vec<usize> = unknown.into_values().flatten().collect();
        missing.sort_unstable();
        for at in missing {
            let settled = &mut copied.settled[at];
            let Some(passed) = copied.passed.get(&settled.id) else { continue };
            let like = |(id, identity): &(ItemId, Identity)| {
                is_same_letter(passed, identity, dates.get(id).copied().flatten())
            };
            let Some(found) = others.iter().position(like) else { continue };
            let (id, identity) = others.remove(found);
            settled.destination = arrival(id);
            judge_arrival(settled, passed, &identity);
        }
        Ok(())
    }

    /// Asks once more, alone, for messages under whose names something else came as well, if the session still answers. Where
    /// that does not show that what was carried is the message, it is named: the next pass asks for it alone.
    pub(super) async fn prove_names(
        &mut self,
        window: &[Work],
        copied: &mut Copied,
        asks: bool,
    ) -> Result<()> {
        let mut failed = None;
        for row in std::mem::take(&mut copied.doubled) {
            let Some(work) = window.iter().find(|work| work.row == row) else { continue };
            let Some(at) = copied.settled.iter().position(|s| s.id == row && s.verdict.is_delivered()) else {
                continue;
            };
            let mut alone = None;
            if asks && failed.is_none() {
                let Listed { locator, size, .. } = work.listed.clone();
                match read_alone(self.source, Wanted { key: 0, locator, size }).await {
                    Ok(read) => alone = read,
                    Err(failure) => failed = Some(failure.side(Side::Source)),
                }
            }
            let passed = copied.passed.get(&row).map(|passed| passed.known.exact);
            if alone.is_some_and(|alone| Some(alone.exact) == passed) {
                continue;
            }
            let settled = &mut copied.settled[at];
            settled.verdict = Verdict::Quarantined(SEVERAL.to_owned());
            settled.refused = Refused { code: Some(FailureCode::NothingCame), limit: None };
            settled.destination = None;
        }
        failed.map_or(Ok(()), Err)
    }
}
