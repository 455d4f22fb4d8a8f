//! Folders that are called differently than when they were carried. One that was renamed at the source is recognised by its
//! UIDVALIDITY and its messages, and renamed at the destination, so that nothing is sent again. One that a user renamed at
//! the destination is recognised in the same way and followed; one that a user removed there is left alone.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::atlas::{Atlas, Place};
use super::mapping::{FolderPlan, UserChange, plan_folders, rebase};
use super::names::NameRules;
use super::{Rules, flags, late};
use crate::ledger::{Cursor, Ledger, Renaming, Row};
use crate::mail::{Destination, Folder, FolderState, Source, Survey};
use crate::model::failure::Result;
use crate::model::folder::FolderPath;
use crate::model::message::Locator;

/// Messages by which a folder at the destination is recognised.
const SAMPLE: usize = 20;
/// The most folders at the destination that are asked for their UIDVALIDITY in one pass.
const ASKED_MAX: usize = 500;

/// Finds source folders that were carried under another name, each with the name that it had; a folder before what is
/// below it.
///
/// # Errors
/// Those of the session and of the ledger.
pub(super) async fn find_renamed(
    source: &mut dyn Source,
    sources: &Survey,
    rules: &Rules,
    atlas: &Atlas,
    ledger: &dyn Ledger,
    cursors: &HashMap<FolderPath, Cursor>,
) -> Result<Vec<Renaming>> {
    let listed: BTreeSet<&FolderPath> =
        sources.folders.iter().filter(|folder| folder.selectable).map(|folder| &folder.path).collect();
    let known = cursors.keys().chain(atlas.places().map(|place| &place.source));
    let vanished: BTreeSet<&FolderPath> =
        known.filter(|path| !path.is_inbox() && !listed.contains(path)).collect();
    if vanished.is_empty() {
        return Ok(Vec::new());
    }
    let is_new = |folder: &&Folder| {
        let path = &folder.path;
        folder.selectable
            && !path.is_inbox()
            && !cursors.contains_key(path)
            && atlas.find(path).is_none()
            && !rules.exclude.is_match(path.to_string())
    };
    let mut carried: BTreeMap<&FolderPath, Vec<Row>> = BTreeMap::new();
    let mut renamed: Vec<Renaming> = Vec::new();
    for folder in sources.folders.iter().filter(is_new) {
        let state = match sources.states.get(&folder.path) {
            Some(state) => state.clone(),
            None => match source.open(folder).await {
                Ok(state) => state,
                // Its own pass names it.
                Err(failure) if failure.leaves_the_session() => continue,
                Err(failure) => return Err(failure),
            },
        };
        let mut alike: Vec<&FolderPath> = Vec::new();
        for path in vanished.iter().copied().filter(|path| renamed.iter().all(|other| other.from != **path)) {
            if cursors.get(path).is_some_and(|cursor| !could_be(cursor, &state)) {
                continue;
            }
            if !carried.contains_key(path) {
                carried.insert(path, ledger.rows(path).await?);
            }
            alike.push(path);
        }
        if alike.is_empty() || !ledger.rows(&folder.path).await?.is_empty() {
            continue;
        }
        if let Some(from) = recognise(source, folder, &state, &alike, &carried, cursors).await? {
            renamed.push(Renaming { from: from.clone(), to: folder.path.clone() });
        }
    }
    renamed.sort_by_key(|renaming| renaming.from.names().len());
    Ok(renamed)
}

/// Whether a folder may be the one that was carried so far.
fn could_be(cursor: &Cursor, state: &FolderState) -> bool {
    cursor.uidvalidity == state.uidvalidity
        && cursor.uidnext.zip(state.uidnext).is_none_or(|(carried, now)| now >= carried)
}

/// Which of some folders that are gone this one is: the one whose messages it lists under the same UIDs.
async fn recognise<'a>(
    source: &mut dyn Source,
    folder: &Folder,
    state: &FolderState,
    alike: &[&'a FolderPath],
    carried: &BTreeMap<&FolderPath, Vec<Row>>,
    cursors: &HashMap<FolderPath, Cursor>,
) -> Result<Option<&'a FolderPath>> {
    if state.messages == Some(0) {
        // An empty folder shows nothing but its numbers.
        let stood = |path: &&&FolderPath| {
            let same = |cursor: &Cursor| cursor.uidnext.is_some() && cursor.uidnext == state.uidnext;
            cursors.get(**path).is_some_and(same) && carried[**path].iter().all(|row| row.gone)
        };
        let mut alike = alike.iter().filter(stood);
        return Ok(alike.next().copied().filter(|_| alike.next().is_none()));
    }
    let listing = async {
        source.open(folder).await?;
        source.list(None).await
    };
    // The first page of a large folder is enough.
    let (listed, next) = match listing.await {
        Ok(page) => (page.messages, page.next),
        Err(failure) if failure.leaves_the_session() => return Ok(None),
        Err(failure) => return Err(failure),
    };
    let mut now = HashMap::new();
    for message in &listed {
        if let Locator::Imap { uidvalidity, uid, .. } = message.locator {
            now.insert((uidvalidity, uid), message);
        }
    }
    let mut best: Option<(usize, &FolderPath)> = None;
    for path in alike {
        let (mut common, mut same) = (0, 0);
        let is_on_page = |row: &&Row| match (&row.locator, &next) {
            (Locator::Imap { uid, .. }, Some(Locator::Imap { uid: last, .. })) => uid <= last,
            _ => true,
        };
        let rows = carried[*path].iter().filter(|row| !row.gone).filter(is_on_page);
        let before = rows.clone().count();
        for row in rows {
            let Locator::Imap { uidvalidity, uid, .. } = row.locator else { continue };
            let Some(message) = now.get(&(uidvalidity, uid)) else { continue };
            common += 1;
            // What a server announces need not be what it hands out.
            same +=
                usize::from(message.date == row.date && (message.size == row.size || row.known.is_some()));
        }
        let is_it = common > 0 && same == common && 2 * common >= before.min(listed.len());
        if is_it && best.is_none_or(|(most, _)| same > most) {
            best = Some((same, path));
        }
    }
    Ok(best.map(|(_, path)| path))
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

    /// The UIDVALIDITY of a folder at the destination; `None` where there is no such folder.
    async fn uidvalidity(&mut self, path: &FolderPath) -> Result<Option<u32>> {
        if let Some(state) = self.destinations.states.get(path) {
            return Ok(Some(state.uidvalidity));
        }
        match self.destination.status(path).await {
            Ok(state) => Ok(Some(state.uidvalidity)),
            Err(failure) if failure.leaves_the_session() => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Renames at the destination what was renamed at the source, where the folder there is ours and as it was; else the
    /// folder keeps its name there. Whatever was carried stays carried.
    ///
    /// # Errors
    /// Those of the session and of the ledger.
    pub(super) async fn rename(
        &mut self,
        sources: &Survey,
        renamed: &[Renaming],
        cursors: &HashMap<FolderPath, Cursor>,
    ) -> Result<()> {
        let labelled = sources.homes.is_some();
        for renaming in renamed {
            let plans = plan_folders(
                &sources.folders,
                &self.destinations.folders,
                labelled,
                self.names,
                self.rules,
                self.atlas,
            );
            let Some(plan) = plans.iter().find(|plan| plan.source.path == renaming.to) else { continue };
            let (before, made) = if let Some(place) = self.atlas.find(&renaming.from) {
                (place.destination.clone(), place.made)
            } else {
                let rows = self.ledger.rows(&renaming.from).await?;
                let went = rows.into_iter().find_map(|row| row.destination);
                (went.map_or_else(|| renaming.from.clone(), |(folder, _)| folder), false)
            };
            let known = cursors.get(&renaming.from).map(|cursor| cursor.destination_uidvalidity);
            let now = self.rename_one(&before, &plan.destination, made, known, renamed).await?;
            let moved = (now != before).then(|| Renaming { from: before.clone(), to: now.clone() });
            self.ledger.rename_folder(Some(renaming), moved.as_ref()).await?;
            flags::follow(self.ledger, (&renaming.from, &before), (&renaming.to, &now)).await?;
            if moved.is_some() {
                late::follow(self.ledger, &before, &now).await?;
            }
            let why = if now == plan.destination {
                plan.renamed.clone()
            } else {
                Some(format!(
                    "it was called \"{}\" at the source before; its folder at the destination is still called \"{now}\"",
                    renaming.from
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
            self.atlas.save(self.ledger).await?;
        }
        Ok(())
    }

    /// Brings one folder of the destination to its new name if it may be; says what it is called then.
    async fn rename_one(
        &mut self,
        before: &FolderPath,
        target: &FolderPath,
        made: bool,
        known: Option<u32>,
        renamed: &[Renaming],
    ) -> Result<FolderPath> {
        if before == target {
            return Ok(before.clone());
        }
        let (is_there, is_taken) = (self.lists(before), self.lists(target));
        // It went along with the folder above it, or a kill came between.
        if !is_there && is_taken && self.uidvalidity(target).await? == known && known.is_some() {
            return Ok(target.clone());
        }
        let moves = |place: &Place| renamed.iter().any(|renaming| renaming.from == place.source);
        let alone = self.atlas.places().filter(|place| place.destination == *before).count() <= 1;
        let is_inside = |place: &&Place| rebase(&place.destination, before, before).is_some();
        let all_move = self.atlas.places().filter(is_inside).all(moves);
        let ours = made && alone && all_move && !before.is_inbox();
        if !ours || !is_there || is_taken || (known.is_some() && self.uidvalidity(before).await? != known) {
            return Ok(before.clone());
        }
        match self.destination.rename_folder(before, target).await {
            Ok(()) => {
                // What was below it went along, or did not.
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
        let mut asked: Option<Vec<(FolderPath, u32)>> = None;
        for at in 0..plans.len() {
            let plan = &plans[at];
            let (source, before) = (plan.source.path.clone(), plan.destination.clone());
            let was_there = self.atlas.find(&source).is_some_and(|place| place.destination == before);
            let Some(cursor) = cursors.get(&source).filter(|_| was_there && plan.excluded.is_none()) else {
                continue;
            };
            if before.is_inbox() || listed.contains(&before) {
                continue;
            }
            // Some servers do not list all that there is.
            if self.uidvalidity(&before).await? == Some(cursor.destination_uidvalidity) {
                continue;
            }
            if asked.is_none() {
                asked = Some(self.list_unplanned(plans, &listed).await?);
            }
            let mut found = None;
            for (path, uidvalidity) in asked.iter().flatten() {
                if *uidvalidity == cursor.destination_uidvalidity
                    && plans.iter().all(|plan| plan.destination != *path)
                    && self.holds(path, &source, &before, *uidvalidity).await?
                {
                    found = Some(path.clone());
                    break;
                }
            }
            let Some(now) = found else {
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

    /// Folders of the destination that no plan goes to, with their UIDVALIDITY.
    async fn list_unplanned(
        &mut self,
        plans: &[FolderPlan],
        listed: &BTreeSet<FolderPath>,
    ) -> Result<Vec<(FolderPath, u32)>> {
        let planned: BTreeSet<&FolderPath> = plans.iter().map(|plan| &plan.destination).collect();
        let mut unplanned = Vec::new();
        for path in listed.iter().filter(|path| !planned.contains(path)).take(ASKED_MAX) {
            if let Some(uidvalidity) = self.uidvalidity(path).await? {
                unplanned.push((path.clone(), uidvalidity));
            }
        }
        Ok(unplanned)
    }

    /// Whether a folder of the destination holds, under the same UIDs, what was carried to another one.
    async fn holds(
        &mut self,
        path: &FolderPath,
        source: &FolderPath,
        before: &FolderPath,
        uidvalidity: u32,
    ) -> Result<bool> {
        let mut arrived: BTreeMap<u32, Row> = BTreeMap::new();
        for row in self.ledger.rows(source).await? {
            let Some((folder, arrival)) = &row.destination else { continue };
            if folder == before && arrival.uidvalidity == uidvalidity {
                arrived.insert(arrival.uid, row);
            }
        }
        let Some(from) = arrived.keys().nth(arrived.len().saturating_sub(SAMPLE)).copied() else {
            return Ok(false);
        };
        let listing = async {
            self.destination.open(path).await?;
            self.destination.list_from(from).await
        };
        let present = match listing.await {
            Ok(present) => present,
            Err(failure) if failure.leaves_the_session() => return Ok(false),
            Err(failure) => return Err(failure),
        };
        let known = present.iter().filter_map(|message| Some((message, arrived.get(&message.uid)?)));
        let (mut same, mut other) = (0, 0);
        for (message, row) in known {
            let is_same = message.size == row.size || (row.date.is_some() && message.date == row.date);
            *(if is_same { &mut same } else { &mut other }) += 1;
        }
        Ok(same > 0 && other == 0)
    }
}
