//! Folders that are called differently than when they were carried. One that was renamed at the source (`whereabouts.rs`
//! finds it) is renamed at the destination, so that nothing is sent again. One that a user renamed at the destination is
//! recognised by its UIDVALIDITY and its messages and followed; one that a user removed there is left alone.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::atlas::{Atlas, Place};
use super::mapping::{FolderPlan, UserChange, plan_folders, rebase};
use super::names::NameRules;
use super::verify::read_identities;
use super::{Rules, flags, late};
use crate::drivers::{Destination, FolderState, Present, Survey};
use crate::ledger::{Cursor, Ledger, Renaming, Row, RowId};
use crate::model::failure::Result;
use crate::model::folder::FolderPath;
use crate::model::mark::Mark;
use crate::model::message::{Epoch, ItemId};

/// Messages by which a folder at the destination is recognised.
const SAMPLE: usize = 20;
/// Messages by which a folder that was numbered anew is recognised, and how many of them are read to prove it.
const COMPARED_MAX: usize = 1000;
const PROOFS: usize = 3;
/// The most folders at the destination that are asked for their epoch in one pass.
const ASKED_MAX: usize = 500;

/// One folder on its way to its new name.
struct Step {
    renaming: Renaming,
    /// The name that it had when it was carried.
    was: FolderPath,
    /// Whether its new name is that of a folder which goes, over others, to its own.
    goes_round: bool,
}

/// The destination as it is followed through.
pub(super) struct Following<'a> {
    pub(super) destination: &'a mut dyn Destination,
    pub(super) destinations: &'a mut Survey,
    pub(super) names: &'a NameRules,
    pub(super) rules: &'a Rules,
    pub(super) atlas: &'a mut Atlas,
    pub(super) ledger: &'a dyn Ledger,
}

impl Following<'_> {
    fn lists(&self, path: &FolderPath) -> bool {
        self.destinations.folders.iter().any(|folder| folder.selectable && folder.path == *path)
    }

    /// The epoch of a folder at the destination; `None` where there is no such folder.
    async fn epoch(&mut self, path: &FolderPath) -> Result<Option<Epoch>> {
        if let Some(state) = self.destinations.states.get(path) {
            return Ok(Some(state.epoch.clone()));
        }
        match self.destination.status(path).await {
            Ok(state) => Ok(Some(state.epoch)),
            Err(failure) if failure.leaves_the_session() => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Renames folders at the destination that were renamed at the source, where the folder there is ours and as it
    /// was; else the folder keeps its name there. Messages that were carried stay carried. A name is given away before
    /// it is taken; where names go round, one folder stands aside meanwhile, and all of them keep their names at the
    /// destination.
    ///
    /// # Errors
    /// Those of the session and of the ledger.
    pub(super) async fn rename(
        &mut self,
        sources: &Survey,
        renamed: &[Renaming],
        cursors: &HashMap<FolderPath, Cursor>,
    ) -> Result<()> {
        let mut open: Vec<Step> = renamed
            .iter()
            .map(|renaming| Step {
                renaming: renaming.clone(),
                was: renaming.from.clone(),
                goes_round: false,
            })
            .collect();
        while !open.is_empty() {
            let is_free = |step: &Step| open.iter().all(|other| other.renaming.from != step.renaming.to);
            let Some(at) = open.iter().position(is_free) else {
                self.stand_aside(&mut open, sources).await?;
                continue;
            };
            let step = open.remove(at);
            self.rename_step(&step, sources, renamed, cursors).await?;
        }
        Ok(())
    }

    /// Gives the first of some folders whose names go round another name for a while. A kill in between leaves it with that
    /// name, and the next pass recognises it as any folder that was renamed.
    async fn stand_aside(&mut self, open: &mut [Step], sources: &Survey) -> Result<()> {
        for step in &mut *open {
            step.goes_round = true;
        }
        let Some(step) = open.first_mut() else { return Ok(()) };
        let from = step.renaming.from.clone();
        let is_used = |path: &FolderPath| {
            self.atlas.find(path).is_some() || sources.folders.iter().any(|folder| folder.path == *path)
        };
        let (above, last) = from.names().split_at(from.names().len().saturating_sub(1));
        let aside = |n: u32| {
            let last = format!("{} ({n})", last.first().map_or("", String::as_str));
            FolderPath::new(above.iter().cloned().chain([last]))
        };
        let Some(aside) = (2..=u32::MAX).map(aside).find(|path| !is_used(path)) else { return Ok(()) };
        let renaming = Renaming { from: from.clone(), to: aside.clone() };
        self.ledger.rename_folder(Some(&renaming), None).await?;
        if let Some(place) = self.atlas.find(&from).cloned() {
            let there = place.destination.clone();
            self.atlas.rename_source(&from, Place { source: aside.clone(), ..place });
            self.atlas.save(self.ledger).await?;
            flags::follow(self.ledger, (&from, &there), (&aside, &there)).await?;
        }
        step.renaming.from = aside;
        Ok(())
    }

    /// Brings one folder to its new name, which no other one that was carried has any more; the one that had it and is gone
    /// keeps its messages, under no UIDs.
    async fn rename_step(
        &mut self,
        step: &Step,
        sources: &Survey,
        renamed: &[Renaming],
        cursors: &HashMap<FolderPath, Cursor>,
    ) -> Result<()> {
        let Step { renaming, was, goes_round } = step;
        let plans = plan_folders(
            &sources.folders,
            &self.destinations.folders,
            sources.rule.is_some(),
            self.names,
            self.rules,
            self.atlas,
        );
        let Some(plan) = plans.iter().find(|plan| plan.source.path == renaming.to) else { return Ok(()) };
        let (before, made) = if let Some(place) = self.atlas.find(&renaming.from) {
            (place.destination.clone(), place.made)
        } else {
            let rows = self.ledger.rows(&renaming.from).await?;
            let went = rows.into_iter().find_map(|row| row.destination);
            (went.map_or_else(|| renaming.from.clone(), |(folder, _)| folder), false)
        };
        let had: Vec<RowId> = self.ledger.rows(&renaming.to).await?.iter().map(|row| row.id).collect();
        if !had.is_empty() {
            self.ledger.mark_gone(&had).await?;
            self.ledger.keep_unlisted(&renaming.to, 0..=0, "").await?;
            self.ledger.detach(&had).await?;
        }
        // A name that must yield to another one is not better than the one that it has.
        let keeps = *goes_round || cursors.contains_key(&renaming.to) && plan.renamed.is_some();
        let target = if keeps { &before } else { &plan.destination };
        let cursor = cursors.get(was);
        let known = cursor.map(|cursor| cursor.destination_epoch.clone());
        let now = self.rename_one(&before, target, made, known.as_ref(), renamed).await?;
        let moved = (now != before).then(|| Renaming { from: before.clone(), to: now.clone() });
        self.ledger.rename_folder(Some(renaming), moved.as_ref()).await?;
        if let Some(cursor) = cursor.filter(|_| cursors.contains_key(&renaming.to)) {
            // It takes the place of that of the other folder.
            let cursor = Cursor { destination: now.clone(), ..cursor.clone() };
            self.ledger.save_cursor(&renaming.to, &cursor).await?;
        }
        flags::follow(self.ledger, (&renaming.from, &before), (&renaming.to, &now)).await?;
        if moved.is_some() {
            late::follow(self.ledger, &before, &now).await?;
        }
        let why = if now == plan.wanted {
            None
        } else if now == plan.destination && !goes_round {
            plan.renamed.clone()
        } else {
            Some(format!(
                "it was called \"{was}\" at the source before; its folder at the destination is still called \"{now}\""
            ))
        };
        let place = Place {
            source: renaming.to.clone(),
            destination: now,
            wanted: plan.wanted.clone(),
            ruled: plan.by_rule,
            made,
            followed: false,
            why,
        };
        self.atlas.rename_source(&renaming.from, place);
        self.atlas.save(self.ledger).await
    }

    /// Brings one folder of the destination to its new name if it may be; says what it is called then.
    async fn rename_one(
        &mut self,
        before: &FolderPath,
        target: &FolderPath,
        made: bool,
        known: Option<&Epoch>,
        renamed: &[Renaming],
    ) -> Result<FolderPath> {
        if before == target {
            return Ok(before.clone());
        }
        let (is_there, is_taken) = (self.lists(before), self.lists(target));
        // It went along with the folder above it, or a kill came between.
        if !is_there && is_taken && known.is_some() && self.epoch(target).await?.as_ref() == known {
            return Ok(target.clone());
        }
        let moves = |place: &Place| renamed.iter().any(|renaming| renaming.from == place.source);
        let alone = self.atlas.places().filter(|place| place.destination == *before).count() <= 1;
        let is_inside = |place: &&Place| rebase(&place.destination, before, before).is_some();
        let all_move = self.atlas.places().filter(is_inside).all(moves);
        let ours = made && alone && all_move && !before.is_inbox();
        if !ours || !is_there || is_taken || (known.is_some() && self.epoch(before).await?.as_ref() != known)
        {
            return Ok(before.clone());
        }
        match self.destination.rename_folder(before, target).await {
            Ok(()) => {
                // Folders below it went along, or did not.
                *self.destinations = self.destination.survey().await?;
                Ok(target.clone())
            }
            Err(failure) if failure.leaves_the_session() => {
                tracing::info!(failure = %failure.sentence(), "a folder keeps its name at the destination");
                Ok(before.clone())
            }
            Err(failure) => Err(failure),
        }
    }

    /// Finds folders that were carried and are no longer at the destination under the names that they were given: those
    /// that a user renamed are followed, and those that a user removed are marked.
    ///
    /// # Errors
    /// Those of the session and of the ledger.
    pub(super) async fn follow_users(
        &mut self,
        plans: &mut [FolderPlan],
        cursors: &HashMap<FolderPath, Cursor>,
    ) -> Result<()> {
        let listed: BTreeSet<FolderPath> =
            self.destinations.folders.iter().filter(|f| f.selectable).map(|f| f.path.clone()).collect();
        self.ask_states(plans, &listed, cursors).await?;
        let mut asked: Option<Vec<(FolderPath, Epoch)>> = None;
        for at in 0..plans.len() {
            let plan = &plans[at];
            let (source, before) = (plan.source.path.clone(), plan.destination.clone());
            let was_there = self.atlas.find(&source).is_some_and(|place| place.destination == before);
            let Some(cursor) = cursors.get(&source).filter(|_| was_there && plan.excluded.is_none()) else {
                continue;
            };
            if before.is_inbox() {
                continue;
            }
            // A user may have made another folder of the name.
            let another = listed.contains(&before);
            if another {
                if !self.is_another(&before, cursor, plans).await? {
                    continue;
                }
            // Some servers do not list all that there is.
            } else {
                match self.epoch(&before).await {
                    Ok(now) if now.as_ref() == Some(&cursor.destination_epoch) => continue,
                    Ok(_) => {}
                    // Nothing says that it is gone.
                    Err(failure) if failure.asks_to_come_later() => continue,
                    Err(failure) => return Err(failure),
                }
            }
            if asked.is_none() {
                asked = Some(self.list_unplanned(plans, &listed).await?);
            }
            let mut found = None;
            for (path, epoch) in asked.iter().flatten() {
                if *epoch == cursor.destination_epoch
                    && plans.iter().all(|plan| plan.destination != *path)
                    && self.holds(path, &source, &before, epoch).await?
                {
                    found = Some(path.clone());
                    break;
                }
            }
            if found.is_none() {
                found = self
                    .find_anew((&source, &before), another, asked.as_deref().unwrap_or_default(), plans)
                    .await?;
            }
            let Some(now) = found else {
                if another {
                    // The server numbered it anew: its own pass recognises what is in it.
                    continue;
                }
                plans[at].user_change = Some(UserChange::Removed);
                continue;
            };
            let renaming = Renaming { from: before.clone(), to: now.clone() };
            self.ledger.rename_folder(None, Some(&renaming)).await?;
            late::follow(self.ledger, &before, &now).await?;
            for plan in plans.iter_mut().filter(|plan| plan.destination == before) {
                let source = &plan.source.path;
                flags::follow(self.ledger, (source, &before), (source, &now)).await?;
                plan.destination = now.clone();
                plan.user_change = Some(UserChange::Renamed);
                plan.renamed = None;
                self.atlas.keep(plan, false);
            }
            self.atlas.save(self.ledger).await?;
        }
        Ok(())
    }

    /// Asks how folders stand that were filled where the list of folders did not tell it, and, where the server gives several
    /// folders one UIDVALIDITY, how others stand that these could have become.
    async fn ask_states(
        &mut self,
        plans: &[FolderPlan],
        listed: &BTreeSet<FolderPath>,
        cursors: &HashMap<FolderPath, Cursor>,
    ) -> Result<()> {
        let planned: BTreeSet<&FolderPath> = plans.iter().map(|plan| &plan.destination).collect();
        let others: Vec<&FolderPath> =
            listed.iter().filter(|path| !planned.contains(path) && !path.is_inbox()).collect();
        if others.is_empty() {
            return Ok(());
        }
        let filled: BTreeMap<&FolderPath, &Epoch> =
            cursors.values().map(|cursor| (&cursor.destination, &cursor.destination_epoch)).collect();
        let distinct: BTreeSet<&Epoch> = filled.values().copied().collect();
        let others = if distinct.len() < filled.len() { &others[..others.len().min(ASKED_MAX)] } else { &[] };
        let is_lacking =
            |path: &&FolderPath| !path.is_inbox() && !self.destinations.states.contains_key(path);
        let filled = filled.into_keys().filter(|path| planned.contains(path) && listed.contains(path));
        let lacking: BTreeSet<FolderPath> =
            filled.chain(others.iter().copied()).filter(is_lacking).cloned().collect();
        if !lacking.is_empty() {
            let states = self.destination.states(&lacking.into_iter().collect::<Vec<_>>()).await?;
            self.destinations.states.extend(states);
        }
        Ok(())
    }

    /// Whether a folder of the destination cannot be the one that was filled, although it has its name: it has another
    /// epoch, or another folder has the same one, and this one never had the ids that were given there.
    async fn is_another(&mut self, path: &FolderPath, cursor: &Cursor, plans: &[FolderPlan]) -> Result<bool> {
        let Some(state) = self.destinations.states.get(path) else { return Ok(false) };
        if state.epoch != cursor.destination_epoch {
            return Ok(true);
        }
        let is_twin = |(other, twin): (&FolderPath, &FolderState)| {
            twin.epoch == state.epoch && plans.iter().all(|plan| plan.destination != *other)
        };
        if !self.destinations.states.iter().any(is_twin) {
            return Ok(false);
        }
        let given = self.ledger.claimed(path, &state.epoch).await?;
        let marks = self.destination.marks();
        // The mark of the folder in which the last of them was seen is behind that one.
        let seen = given.last().map(|last| marks.behind(&state.mark, &last));
        Ok(seen.is_some_and(|seen| marks.contradicts(&seen, &state.mark)))
    }

    /// Folders of the destination that no plan goes to, with their epochs.
    async fn list_unplanned(
        &mut self,
        plans: &[FolderPlan],
        listed: &BTreeSet<FolderPath>,
    ) -> Result<Vec<(FolderPath, Epoch)>> {
        let planned: BTreeSet<&FolderPath> = plans.iter().map(|plan| &plan.destination).collect();
        let mut unplanned = Vec::new();
        for path in listed.iter().filter(|path| !planned.contains(path)).take(ASKED_MAX) {
            match self.epoch(path).await {
                Ok(epoch) => unplanned.extend(epoch.map(|it| (path.clone(), it))),
                Err(failure) if failure.asks_to_come_later() => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(unplanned)
    }

    /// Opens a folder of the destination and lists what came behind a mark; `None` where it does not let itself be looked into.
    async fn list(&mut self, path: &FolderPath, since: &Mark) -> Result<Option<Vec<Present>>> {
        let listing = async {
            self.destination.open(path).await?;
            self.destination.list_since(since).await
        };
        match listing.await {
            Ok(present) => Ok(Some(present)),
            Err(failure) if failure.leaves_the_session() || failure.asks_to_come_later() => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// The folder that holds, under other UIDs, what was carried to one that is not there any more: some servers (Courier)
    /// number a folder anew when it is renamed. With `another`, the name belongs to a folder again, which may be the
    /// same one, numbered anew.
    async fn find_anew(
        &mut self,
        (source, before): (&FolderPath, &FolderPath),
        another: bool,
        asked: &[(FolderPath, Epoch)],
        plans: &[FolderPlan],
    ) -> Result<Option<FolderPath>> {
        let free = asked.iter().map(|(path, _)| path);
        let free: Vec<&FolderPath> =
            free.filter(|path| plans.iter().all(|plan| plan.destination != **path)).collect();
        if free.is_empty() {
            return Ok(None);
        }
        let mut arrived = Vec::new();
        for row in self.ledger.rows(source).await? {
            if row.destination.as_ref().is_some_and(|(folder, _)| folder == before) && row.known.is_some() {
                arrived.push(row);
            }
        }
        arrived.drain(..arrived.len().saturating_sub(COMPARED_MAX));
        if arrived.is_empty() || another && self.count_alike(before, &arrived).await?.is_some() {
            return Ok(None);
        }
        let mut best: Option<(usize, FolderPath)> = None;
        for path in free {
            // A folder with fewer messages than half of them is not looked into.
            let counted = self.destinations.states.get(path).and_then(|state| state.items);
            if counted.is_some_and(|messages| 2 * messages < arrived.len() as u64) {
                continue;
            }
            if let Some(alike) = self.count_alike(path, &arrived).await?
                && best.as_ref().is_none_or(|(most, _)| alike > *most)
            {
                best = Some((alike, path.clone()));
            }
        }
        Ok(best.map(|(_, path)| path))
    }

    /// How many of some messages a folder of the destination holds, by dates and sizes, if these are most of them and some that
    /// are read are just these; `None` otherwise.
    async fn count_alike(&mut self, path: &FolderPath, arrived: &[Row]) -> Result<Option<usize>> {
        let Some(present) = self.list(path, &Mark::beginning()).await? else { return Ok(None) };
        let mut there: HashMap<(i64, u64), Vec<ItemId>> = HashMap::new();
        for message in present.into_iter().rev() {
            if let Some(date) = message.date {
                there.entry((date.unix, message.size)).or_default().push(message.id);
            }
        }
        let mut alike: Vec<ItemId> = Vec::new();
        for row in arrived {
            let date = row.date.map(|date| (date.unix, row.size));
            alike.extend(date.and_then(|date| there.get_mut(&date)?.pop()));
        }
        if alike.is_empty() || 2 * alike.len() < arrived.len() {
            return Ok(None);
        }
        let proofs: Vec<ItemId> = alike.iter().rev().take(PROOFS).cloned().collect();
        let read = read_identities(self.destination, &proofs).await?;
        let of_them = |canonical| {
            arrived.iter().any(|row| row.known.as_ref().is_some_and(|it| it.canonical == canonical))
        };
        let proved = !read.is_empty() && read.iter().all(|(_, identity)| of_them(identity.canonical));
        Ok(proved.then_some(alike.len()))
    }

    /// Whether a folder of the destination holds, under the same ids, what was carried to another one.
    async fn holds(
        &mut self,
        path: &FolderPath,
        source: &FolderPath,
        before: &FolderPath,
        epoch: &Epoch,
    ) -> Result<bool> {
        let mut arrived: BTreeMap<ItemId, Row> = BTreeMap::new();
        for row in self.ledger.rows(source).await? {
            let Some((folder, arrival)) = &row.destination else { continue };
            if folder == before && arrival.epoch == *epoch {
                arrived.insert(arrival.id.clone(), row);
            }
        }
        let Some(from) = arrived.keys().nth(arrived.len().saturating_sub(SAMPLE)).cloned() else {
            return Ok(false);
        };
        let before = self.destination.marks().before(&from);
        let Some(present) = self.list(path, &before).await? else { return Ok(false) };
        let known = present.iter().filter_map(|message| Some((message, arrived.get(&message.id)?)));
        let (mut same, mut other) = (0, 0);
        for (message, row) in known {
            let is_same = message.size == row.size || (row.date.is_some() && message.date == row.date);
            *(if is_same { &mut same } else { &mut other }) += 1;
        }
        Ok(same > 0 && other == 0)
    }
}
