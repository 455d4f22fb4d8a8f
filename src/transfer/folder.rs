//! One pass over one folder: what is new, changed or gone at the source is brought to the destination, and the ledger
//! knows of every step before it is taken. First the ledger is brought in step with the source's list (`listing.rs`), then
//! what waits in the ledger is carried (`carrying.rs`): so no folder is ever in memory as a whole.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::AtomicBool;

use super::diff::FlagChange;
use super::forbearance::Stage;
use super::mapping::FolderPlan;
use super::progress::MailboxProgress;
use super::settle::Barrier;
use super::written::Written;
use super::{PassOutcome, Rules};
use crate::drivers::marks::Marks;
use crate::drivers::{Changes, Destination, FolderState, Listed, Listing, Since, Source};
use crate::ledger::{Cursor, Ledger, NewRow, Refused, RowId, Settled, Space, Tallies};
use crate::model::failure::{Failure, Result, Side};
use crate::model::folder::FolderPath;
use crate::model::identity::Digest;
use crate::model::label::LabelTally;
use crate::model::mark::Mark;
use crate::model::message::{Arrival, Flags, ItemId, Verdict};

/// Known messages whose dates and sizes are looked at together with what changed: so many of the first.
const SAMPLE_FIRST: usize = 3;
/// And of the last.
const SAMPLE_LAST: usize = 8;

/// One folder's pass and all it needs.
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own about the folder")]
pub struct FolderPass<'a> {
    /// Where mail is read from.
    pub source: &'a mut dyn Source,
    /// Where mail is written to.
    pub destination: &'a mut dyn Destination,
    /// The mailbox's ledger.
    pub ledger: &'a dyn Ledger,
    /// The manifest's rules.
    pub rules: &'a Rules,
    /// For whoever watches.
    pub progress: &'a MailboxProgress,
    /// The folder.
    pub plan: &'a FolderPlan,
    /// Whether everything that the ledger knows was judged by the same rules.
    pub same_rules: bool,
    /// Whether folders of the source are labels, so that a message may be listed in another one than before.
    pub labelled: bool,
    /// Whether the destination folder is there already.
    pub made: bool,
    /// The destination folders that were written to.
    pub(super) written: &'a Written,
    /// Whether messages of the folder wait or were refused.
    pub unfinished: bool,
    /// Set when the pass shall end at the next good place.
    pub halt: &'a AtomicBool,
    /// The mailbox's outcome, added to.
    pub outcome: &'a mut PassOutcome,
    /// Counts that are not in the ledger yet; they go there with the rows that they are about.
    pub uncounted: Tallies,
    /// The letter digests of messages, which remain under another header, by their folder and id at the destination:
    /// of those that this pass read there.
    pub letters: HashMap<FolderPath, HashMap<ItemId, Digest>>,
    /// The counts of labels in the list of each folder, added to.
    pub tallies: &'a mut BTreeMap<FolderPath, LabelTally>,
    /// How far it came.
    pub stage: Stage,
}

/// The data that opening the source folder brought beside its state.
pub(super) enum Told {
    /// The first page of its list.
    Page(Listing),
    /// The changes in it.
    Changes(Changes),
    /// Nothing more.
    Nothing,
}

/// The result of comparing the source's list.
#[derive(Debug, Default)]
pub(super) struct Reconciled {
    /// Flags that changed at the source.
    pub(super) flags: Vec<FlagChange>,
    /// Messages that are listed no longer.
    pub(super) gone: Vec<RowId>,
    /// Whether the source counts messages that it did not list.
    pub(super) is_part: bool,
    /// Messages that are not listed under the names that they had, and may be under others: unique ids do not last everywhere.
    pub(super) absent: Vec<RowId>,
    /// Flags that messages in doubt have now, where the ledger holds those that a copy may have as well.
    pub(super) now: HashMap<RowId, Flags>,
}

/// How far a folder came.
#[derive(Debug)]
pub enum Ran {
    /// To its end.
    Through,
    /// To its end, but for messages that the destination does not take for now.
    PutOff(Failure),
    /// The destination does not have it, and nothing of it was carried.
    NotMade(Failure),
}

impl FolderPass<'_> {
    /// Carries the folder once.
    ///
    /// # Errors
    /// Those of the sessions and of the ledger; the next pass goes on where this one stopped.
    pub async fn run(&mut self, barrier: &Barrier) -> Result<Ran> {
        let plan = self.plan;
        if let Some(why) = &plan.excluded {
            return self.exclude(why).await.map(|()| Ran::Through);
        }
        // A server may take minutes for a huge folder.
        self.progress.enter_phase(&format!("opening {}", plan.source.path));
        let cursor = self.ledger.cursor(&plan.source.path).await?;
        let is_gone = plan.is_gone_at_destination() && !barrier.concerns(&plan.source.path);
        if is_gone && !self.has_news(cursor.as_ref()).await? {
            return Ok(Ran::Through);
        }
        if !self.made {
            let wanted = [(plan.destination.clone(), plan.source.subscribed)];
            let made = self.destination.ensure_folders(&wanted).await;
            let made = made.map_err(|failure| failure.side(Side::Destination))?;
            // For any reason, the session answered, and other folders may be there.
            if let Some(failure) = made.into_iter().find_map(Result::err) {
                return Ok(Ran::NotMade(failure.side(Side::Destination)));
            }
        }
        let since = self.since(cursor.as_ref()).await?;
        let open = open_source(self.source, plan, cursor.is_some(), since.as_ref());
        let (opened, arrived) = tokio::join!(open, self.destination.open(&plan.destination));
        let (state, told) = opened.map_err(|failure| failure.side(Side::Source))?;
        let arrived = arrived.map_err(|failure| failure.side(Side::Destination))?;
        self.stage = Stage::Listing;
        self.progress.enter_folder(&plan.source.path);
        let in_doubt = barrier.concerns(&plan.source.path);
        let marks = self.destination.marks();
        let unchanged =
            cursor.as_ref().is_some_and(|cursor| is_unchanged(cursor, plan, (&state, &arrived), marks));
        if !in_doubt && self.same_rules && !self.unfinished && unchanged {
            return Ok(Ran::Through);
        }

        let space = self.space(&state);
        let known = cursor.as_ref().filter(|cursor| cursor.destination == plan.destination);
        let mut scanned = self.known_until(known, barrier, &arrived);
        if in_doubt {
            self.look_into_doubts(barrier, &arrived).await?;
        }
        let rebuilt = known.is_some_and(|cursor| cursor.destination_epoch != arrived.epoch)
            || self.ledger.is_elsewhere(&plan.source.path, &plan.destination, &arrived.epoch).await?;
        if rebuilt {
            self.ledger.forget_arrivals(&plan.destination, &arrived.epoch).await?;
        }
        if rebuilt || !self.ledger.unbound(&plan.source.path).await?.is_empty() {
            self.scan_destination(&scanned, &arrived).await?;
            scanned = arrived.mark.clone();
            self.rebind(&arrived).await?;
        }

        let doubtful = barrier.rows(&plan.source.path);
        // Large futures, each of which is there for a moment only.
        let reconciled = Box::pin(self.reconcile(&space, &state, cursor.as_ref(), told, &doubtful)).await?;
        let void = self.ledger.part_void(&space).await?;
        let works = self.has_work(&space).await?;
        let mut listed = Vec::new();
        if works || !void.is_empty() {
            listed = self.scan_destination(&scanned, &arrived).await?;
            scanned = arrived.mark.clone();
            Box::pin(self.recall_letters(&space, &listed, &arrived)).await?;
            Box::pin(self.seek_unseen(&space, &arrived)).await?;
        }
        let mut candidates = if works || !void.is_empty() {
            self.gather_candidates(&void, &reconciled.absent, barrier, (&arrived, &listed)).await?
        } else {
            super::candidates::Candidates::default()
        };
        drop(listed);
        let Reconciled { flags: mut changes, gone, is_part, absent, now } = reconciled;
        for change in &mut changes {
            for flags in [&mut change.add, &mut change.remove] {
                *flags = self.rules.manners.wanted(std::mem::take(flags));
            }
        }
        let in_doubt = (&doubtful, &now);
        self.stage = Stage::Filling;
        let put_off = Box::pin(self.carry(&space, &arrived, &mut candidates, &mut changes, in_doubt)).await?;
        self.carry_flags(changes, &arrived).await?;
        self.prove_flags(&arrived).await?;
        if space.protocol == crate::model::protocol::Protocol::Pop3 {
            let detached = void.iter().filter(|row| row.locator.epoch.is_void() && !row.gone);
            let old: Vec<RowId> = detached.map(|row| row.id).chain(absent.iter().copied()).collect();
            // Another row has taken the place of those that are not there any more.
            let left = self.ledger.rows_of(&old).await?.len();
            self.uncounted.ids_changed += old.len().saturating_sub(left) as u64;
        }
        self.let_go(gone).await?;
        // Absence alone says of those without a new name whether they are gone.
        let absent: BTreeSet<RowId> = absent.into_iter().collect();
        let unmatched: Vec<RowId> = candidates.into_rows().filter(|row| !absent.contains(row)).collect();
        self.ledger.mark_gone(&unmatched).await?;
        let cursor = Cursor {
            epoch: state.epoch.clone(),
            mark: state.mark,
            items: state.items,
            // Without a proof, the next pass lists the folder whole.
            proves: state.proves && !is_part,
            destination: plan.destination.clone(),
            destination_epoch: arrived.epoch.clone(),
            destination_mark: scanned,
        };
        self.ledger.save_cursor(&plan.source.path, &cursor).await?;
        Ok(put_off.map_or(Ran::Through, Ran::PutOff))
    }

    /// The mark before which everything in the destination folder is known.
    fn known_until(&self, known: Option<&Cursor>, barrier: &Barrier, arrived: &FolderState) -> Mark {
        let marks = self.destination.marks();
        let known = known.filter(|cursor| cursor.destination_epoch == arrived.epoch);
        let scanned = known.map_or(Mark::beginning(), |cursor| cursor.destination_mark.clone());
        match barrier.scan_from(self.plan, arrived, marks) {
            Some(doubtful) => marks.earlier(&scanned, &doubtful),
            None => scanned,
        }
    }

    /// The places that the source can list now.
    pub(super) fn space(&self, state: &FolderState) -> Space {
        let protocol = self.source.facts().endpoint.protocol;
        Space { folder: self.plan.source.path.clone(), protocol, epoch: state.epoch.clone() }
    }

    /// The point from which on changes may be asked for; `None` where the whole folder must be looked through.
    async fn since(&mut self, cursor: Option<&Cursor>) -> Result<Option<Since>> {
        let Some(cursor) = cursor.filter(|_| self.same_rules && !self.labelled) else { return Ok(None) };
        if !cursor.proves {
            return Ok(None);
        }
        let protocol = self.source.facts().endpoint.protocol;
        let space = Space { folder: self.plan.source.path.clone(), protocol, epoch: cursor.epoch.clone() };
        let known = self.ledger.count_in(&space).await?;
        let sample = self.sample(&space).await?;
        Ok(Some(Since { epoch: space.epoch, mark: cursor.mark.clone(), known, sample }))
    }

    /// Ids of known messages, the first and the last: where ids were given anew, or another folder has this one's name, the
    /// last ones name other messages or none.
    async fn sample(&mut self, space: &Space) -> Result<Vec<ItemId>> {
        let first = self.ledger.rows_in(space, None, None, SAMPLE_FIRST).await?;
        let first = first.into_iter().filter(|row| !row.gone).map(|row| row.locator.id);
        let last = self.ledger.last_ids_in(space, SAMPLE_LAST).await?;
        let sample: BTreeSet<ItemId> = first.chain(last).collect();
        Ok(sample.into_iter().collect())
    }

    async fn has_work(&mut self, space: &Space) -> Result<bool> {
        Ok(!self.ledger.work(space, 0, 1).await?.is_empty()
            || !self.rules.leave_refused && !self.ledger.refused(space, 0, 1).await?.is_empty())
    }

    /// Whether anything new must go to a folder that a user removed at the destination. If not, what the source lists now is
    /// noted, and the folder stays removed.
    async fn has_news(&mut self, cursor: Option<&Cursor>) -> Result<bool> {
        let opened = self.source.open_and_list(&self.plan.source).await;
        let (state, listing) = opened.map_err(|failure| failure.side(Side::Source))?;
        let space = self.space(&state);
        let told = Told::Page(listing);
        let reconciled = self.reconcile(&space, &state, cursor, told, &BTreeSet::new()).await?;
        if self.has_work(&space).await? {
            return Ok(true);
        }
        self.let_go(reconciled.gone).await?;
        Ok(false)
    }

    /// Counts the messages of a folder that is left out as a whole, if it can be opened: nobody misses what is left out.
    async fn exclude(&mut self, why: &str) -> Result<()> {
        match self.count_excluded(why).await {
            Err(failure) if failure.leaves_the_session() || failure.asks_to_come_later() => {
                tracing::info!(failure = %failure.sentence(), "a folder that is left out is not counted");
                Ok(())
            }
            counted => counted,
        }
    }

    async fn count_excluded(&mut self, why: &str) -> Result<()> {
        let opened = self.source.open_and_list(&self.plan.source).await;
        let (state, listing) = opened.map_err(|failure| failure.side(Side::Source))?;
        let space = self.space(&state);
        let told = Told::Page(listing);
        let reconciled = self.reconcile(&space, &state, None, told, &BTreeSet::new()).await?;
        self.ledger.part_void(&space).await?;
        if self.labelled {
            self.let_go(reconciled.gone).await?;
        }
        let verdict = Verdict::Excluded(why.to_owned());
        loop {
            let page = self.ledger.work(&space, 0, super::listing::ROWS_AT_ONCE).await?;
            if page.is_empty() {
                return Ok(());
            }
            let left_out: Vec<Settled> =
                page.iter().map(|row| settled(row.id, None, verdict.clone())).collect();
            self.settle(&left_out, None).await?;
        }
    }

    /// Notes that the source no longer lists some messages here. Where folders are labels, another folder may carry or count
    /// those that were counted here and not carried, and none may be counted twice.
    async fn let_go(&mut self, gone: Vec<RowId>) -> Result<()> {
        for part in gone.chunks(super::listing::ROWS_AT_ONCE) {
            if self.labelled {
                let rows = self.ledger.rows_of(part).await?;
                let counted = rows.iter().filter(|row| matches!(row.verdict, Verdict::Excluded(_)));
                self.ledger.forget(&counted.map(|row| row.id).collect::<Vec<_>>()).await?;
            }
            self.ledger.mark_gone(part).await?;
        }
        Ok(())
    }

    /// Carries changed flags over, grouped so that equal changes cost one command.
    async fn carry_flags(&mut self, changes: Vec<FlagChange>, arrived: &FolderState) -> Result<()> {
        for part in changes.chunks(super::listing::ROWS_AT_ONCE) {
            self.carry_some_flags(part, arrived).await?;
        }
        Ok(())
    }

    /// Those of some messages, by their ids, that somebody removed at the destination. Nothing can be changed in them, and the
    /// ledger no longer says that they are there.
    async fn find_removed(&mut self, wanted: BTreeMap<ItemId, RowId>) -> Result<BTreeSet<RowId>> {
        let ids: Vec<ItemId> = wanted.keys().cloned().collect();
        let listed = match self.destination.list_these(&ids).await {
            // A missing answer is not a sign that anything is gone.
            Err(failure) if failure.leaves_the_session() => return Ok(BTreeSet::new()),
            listed => listed.map_err(|failure| failure.side(Side::Destination))?,
        };
        let there: BTreeSet<ItemId> = listed.into_iter().map(|present| present.id).collect();
        let Some(first) = ids.iter().find(|id| !there.contains(id)) else { return Ok(BTreeSet::new()) };
        // A message that one answer lacks may be there all the same.
        let listed = self.destination.list_since(&self.destination.marks().before(first)).await;
        let listed = listed.map_err(|failure| failure.side(Side::Destination))?;
        let shown: BTreeSet<ItemId> = listed.into_iter().map(|present| present.id).collect();
        let is_gone = |id: &ItemId| !there.contains(id) && !shown.contains(id);
        let gone: BTreeSet<RowId> =
            wanted.iter().filter(|(id, _)| is_gone(id)).map(|(_, row)| *row).collect();
        let rows = self.ledger.rows_of(&gone.iter().copied().collect::<Vec<_>>()).await?;
        let removed: Vec<Settled> = rows
            .into_iter()
            .map(|row| Settled { refused: row.refused, ..settled(row.id, None, row.verdict) })
            .collect();
        self.ledger.settle(&removed, None).await?;
        Ok(gone)
    }

    /// As [`Self::carry_flags`] for as many as are looked up at once.
    pub(super) async fn carry_some_flags(
        &mut self,
        changes: &[FlagChange],
        arrived: &FolderState,
    ) -> Result<()> {
        // Where a message is may have been learned since its change was noticed.
        let here = |change: &FlagChange| {
            let (folder, at) = change.at.as_ref()?;
            let is_here = *folder == self.plan.destination && at.epoch == arrived.epoch;
            is_here.then(|| at.id.clone())
        };
        let unplaced: Vec<RowId> =
            changes.iter().filter(|change| here(change).is_none()).map(|change| change.row).collect();
        let mut places: HashMap<RowId, ItemId> = HashMap::new();
        for row in self.ledger.rows_of(&unplaced).await? {
            if let Some((folder, arrival)) = row.destination
                && folder == self.plan.destination
                && arrival.epoch == arrived.epoch
            {
                places.insert(row.id, arrival.id);
            }
        }
        let id_of = |change: &FlagChange| here(change).or_else(|| places.get(&change.row).cloned());
        let gone =
            self.find_removed(changes.iter().filter_map(|c| Some((id_of(c)?, c.row))).collect()).await?;
        let mut groups: BTreeMap<(String, String), Vec<ItemId>> = BTreeMap::new();
        let (mut saved, mut stored) = (Vec::new(), 0);
        for change in changes {
            let Some(id) = id_of(change) else { continue };
            if gone.contains(&change.row) {
                saved.push((change.row, change.all.clone()));
                continue;
            }
            let add = keep_flags(&change.add, arrived.keepable.as_ref());
            self.uncounted.keywords_lost.extend(change.add.minus(&add).iter().map(str::to_owned));
            saved.push((change.row, change.all.clone()));
            // Where it keeps nothing of what changed, nothing changes there.
            if !add.is_empty() || !change.remove.is_empty() {
                groups.entry((add.to_string(), change.remove.to_string())).or_default().push(id);
                stored += 1;
            }
        }
        for ((add, remove), mut ids) in groups {
            ids.sort_unstable();
            let (add, remove) = (Flags::parse(&add), Flags::parse(&remove));
            let answer = self.destination.store_flags(&ids, &add, &remove).await;
            let refused = answer.map_err(|failure| failure.side(Side::Destination))?;
            self.uncounted.keywords_lost.extend(refused.iter().map(str::to_owned));
        }
        self.uncounted.flags_updated += stored;
        let more = self.count();
        self.ledger.save_flags_counting(&saved, &more).await
    }

    /// Keeps what became of messages, with all that was counted meanwhile.
    pub(super) async fn settle(&mut self, settled: &[Settled], ended: Option<i64>) -> Result<()> {
        let more = self.count();
        self.ledger.settle_counting(settled, ended, &more).await
    }

    /// Keeps what was counted, where something was.
    pub(super) async fn keep_counts(&mut self) -> Result<()> {
        if self.uncounted.is_none() { Ok(()) } else { self.settle(&[], None).await }
    }

    /// Returns the counts to add to the ledger's now.
    fn count(&mut self) -> Tallies {
        let more = std::mem::take(&mut self.uncounted);
        self.outcome.count(&more);
        more
    }
}

/// Opens the source folder: one that was never carried is listed in the same turn, one that was is asked for changes where
/// that may be.
async fn open_source(
    source: &mut dyn Source,
    plan: &FolderPlan,
    was_carried: bool,
    since: Option<&Since>,
) -> Result<(FolderState, Told)> {
    match since {
        Some(since) => {
            let (state, changes) = source.open_changed(&plan.source, since).await?;
            Ok((state, changes.map_or(Told::Nothing, Told::Changes)))
        }
        // It may turn out to be unchanged, so that no list is needed.
        None if was_carried => Ok((source.open(&plan.source).await?, Told::Nothing)),
        None => {
            let (state, listing) = source.open_and_list(&plan.source).await?;
            Ok((state, Told::Page(listing)))
        }
    }
}

/// Nothing happened since: same ids, same count, and a mark that proves that no flag changed either.
///
/// How many messages the destination holds is left out on purpose. It belongs to its users from the first pass on: what
/// they removed or moved there is not brought back by a pass that does look into the folder either, so a smaller number
/// would only cost that look. `mailferry verify` is what counts there.
pub(super) fn is_unchanged(
    cursor: &Cursor,
    plan: &FolderPlan,
    (state, arrived): (&FolderState, &FolderState),
    marks: &dyn Marks,
) -> bool {
    is_as_listed(cursor, state)
        && cursor.destination == plan.destination
        && cursor.destination_epoch == arrived.epoch
        // A mark never goes back while the epoch stays; where it does, the folder is looked into.
        && !marks.contradicts(&cursor.destination_mark, &arrived.mark)
}

/// Whether a folder of the source is as it was when it was listed.
pub(super) fn is_as_listed(cursor: &Cursor, state: &FolderState) -> bool {
    state.proves
        && cursor.proves
        && cursor.epoch == state.epoch
        && cursor.mark == state.mark
        && cursor.items == state.items
}

pub(super) fn new_row(listed: &Listed, verdict: Verdict) -> NewRow {
    NewRow {
        locator: listed.locator.clone(),
        size: listed.size,
        date: listed.date,
        flags: listed.flags.clone().unwrap_or_default(),
        verdict,
    }
}

pub(super) fn settled(id: RowId, destination: Option<(FolderPath, Arrival)>, verdict: Verdict) -> Settled {
    Settled {
        id,
        known: None,
        size: None,
        date: None,
        flags: None,
        destination,
        verdict,
        replaces: None,
        refused: Refused::default(),
        stored: None,
    }
}

/// The flags that the destination can keep.
pub(super) fn keep_flags(flags: &Flags, permanent: Option<&BTreeSet<String>>) -> Flags {
    match permanent {
        None => flags.writable(),
        Some(kept) => flags.writable().filter(|flag| kept.iter().any(|k| k.eq_ignore_ascii_case(flag))),
    }
}
