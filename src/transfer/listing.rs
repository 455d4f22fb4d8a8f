//! Brings the ledger in step with the list of a source folder, page by page: what is new becomes a row that waits, what
//! changed is noted, what went is marked. The source's own count is held against its list, and what it counts and does not
//! list is a refused row of its own.

use std::collections::{BTreeSet, HashMap};

use super::diff::{Diff, FlagChange, compare};
use super::folder::{FolderPass, Reconciled, Told, new_row, settled};
use super::verify::read_alone;
use crate::drivers::marks::Marks;
use crate::drivers::{Changes, FolderState, Gone, Listed, Wanted};
use crate::ledger::{Cursor, NewRow, Row, RowId, Settled, Space};
use crate::model::failure::{Result, Side};
use crate::model::identity::Digest;
use crate::model::label::LabelTally;
use crate::model::message::{Flags, ItemId, Locator, Verdict};
use crate::model::protocol::Protocol;

/// Rows of the ledger that are looked at and written in one transaction: this keeps what a crash repeats, and what is in
/// memory twice, small.
pub(super) const ROWS_AT_ONCE: usize = 1000;
/// Ids that are looked at in one transaction.
const IDS_AT_ONCE: usize = 20_000;
/// Changed flags that are kept until the list has come to its end. Beyond that they are carried before: a list that turns out
/// to be of other messages then has changed the flags of some.
const CHANGES_MAX: usize = 50_000;
/// The reason of messages that are counted and not listed.
const UNLISTED: &str = "the server counts this message in the folder and does not list it";
/// The reason of a message at the end of a file that is not whole.
const TORN: &str =
    "the file of the folder ends in the midst of this message: it is being written, or was cut off";

/// One run through a list.
#[derive(Default)]
struct Run {
    reconciled: Reconciled,
    /// Locator up to which the ledger's rows were compared.
    compared: Option<Locator>,
    /// Messages that the server counts beyond its list.
    unlisted: u64,
    /// The notes that the list ended with.
    notes: Option<LabelTally>,
    /// Whether all UIDs turned out to be given anew.
    renumbered: bool,
    /// Whether any row's message is listed.
    any_listed: bool,
    /// In a maildrop: the sizes of messages that no row is of, each with how many have it, and rows whose message was gone
    /// before.
    fresh_sizes: HashMap<u64, u32>,
    gone_before: Vec<RowId>,
    /// Messages whose unique ids are not their places in the maildrop.
    lasting_ids: u64,
    /// The last message of the maildrop that is known by its content: its place, size and name, and what it was.
    last_known: Option<(Listed, Digest)>,
}

impl Run {
    /// Takes note of the unique ids of a part of a maildrop's list.
    fn note_ids(&mut self, rows: &[Row], listed: &[Listed]) {
        let known: HashMap<&Locator, Digest> = rows
            .iter()
            .filter(|row| !row.gone)
            .filter_map(|row| Some((&row.locator, row.known.as_ref()?.canonical)))
            .collect();
        for listed in listed {
            self.lasting_ids += u64::from(!is_place(listed));
            if let Some(was) = known.get(&listed.locator)
                && self.last_known.as_ref().is_none_or(|(last, _)| last.place < listed.place)
            {
                self.last_known = Some((listed.clone(), *was));
            }
        }
    }
}

/// Whether the unique id of a message says no more than its place in the maildrop.
fn is_place(listed: &Listed) -> bool {
    let Some(id) = listed.locator.id.text() else { return false };
    let number = id.trim_start_matches(|c: char| !c.is_ascii_digit());
    number.parse() == Ok(listed.place)
}

impl FolderPass<'_> {
    /// Brings the ledger in step with the source folder. Rows in doubt keep the flags that a copy may have.
    pub(super) async fn reconcile(
        &mut self,
        space: &Space,
        state: &FolderState,
        cursor: Option<&Cursor>,
        told: Told,
        doubtful: &BTreeSet<RowId>,
    ) -> Result<Reconciled> {
        if has_gone_back(self.source.marks(), cursor, state) {
            self.renumber(space).await?;
        }
        let first = match told {
            Told::Changes(changes) => {
                if let Some(reconciled) = self.take_changes(space, state, changes, doubtful).await? {
                    return Ok(reconciled);
                }
                None
            }
            Told::Page(listing) => Some(listing),
            Told::Nothing => None,
        };
        let mut run = self.go_through(space, first, doubtful).await?;
        if run.renumbered || self.has_moved_on(&run).await? {
            self.renumber(space).await?;
            run = self.go_through(space, None, doubtful).await?;
        }
        if space.protocol == Protocol::Pop3 && !run.fresh_sizes.is_empty() {
            self.find_absent(&mut run).await?;
        }
        // A message that is known and not shown this time is not lost to us; only what nobody ever saw is. One that was never
        // seen before is not found because another one went.
        let unlisted = run.unlisted.saturating_sub(run.reconciled.gone.len() as u64)..=run.unlisted;
        if run.unlisted > 0 {
            // The list is not whole, so absence proves nothing, and the changes do not show what is there.
            run.reconciled.gone.clear();
            run.reconciled.is_part = true;
        }
        let why = if space.protocol.is_files() { TORN } else { UNLISTED };
        self.ledger.keep_unlisted(&self.plan.source.path, unlisted, why).await?;
        if let Some(tally) = run.notes {
            self.tallies.insert(self.plan.source.path.clone(), tally);
        }
        Ok(run.reconciled)
    }

    /// Whether unique ids that are mere places name other messages than before, which sizes alone need not show: a message that
    /// went moves on all that are behind it, so the last one tells.
    async fn has_moved_on(&mut self, run: &Run) -> Result<bool> {
        let Some((last, was)) = run.last_known.as_ref().filter(|_| run.lasting_ids == 0) else {
            return Ok(false);
        };
        let wanted = Wanted { key: 0, locator: last.locator.clone(), size: last.size };
        let read = read_alone(self.source, wanted).await.map_err(|failure| failure.side(Side::Source))?;
        Ok(read.is_some_and(|now| now.canonical != *was))
    }

    /// Finds the rows of a maildrop whose messages may be listed under new unique ids. Those that were delivered are recognised
    /// by their content later. Where no id is known any more, all were given anew, perhaps while the maildrop showed nothing:
    /// then those that never arrived are judged anew under their new ids, and count once.
    async fn find_absent(&mut self, run: &mut Run) -> Result<()> {
        let absent = &mut run.reconciled.absent;
        absent.extend(&run.reconciled.gone);
        if run.any_listed {
            return Ok(());
        }
        absent.append(&mut run.gone_before);
        for part in absent.chunks(ROWS_AT_ONCE) {
            let mut renamed = Vec::new();
            for row in self.ledger.rows_of(part).await?.iter().filter(|row| !row.verdict.is_delivered()) {
                let size = row.announced.unwrap_or(row.size);
                if let Some(left) = run.fresh_sizes.get_mut(&size).filter(|left| **left > 0) {
                    *left -= 1;
                    renamed.push(row.id);
                }
            }
            self.ledger.forget(&renamed).await?;
        }
        Ok(())
    }

    /// Voids all UIDs of a folder: they name other messages now.
    async fn renumber(&mut self, space: &Space) -> Result<()> {
        tracing::info!(
            folder = %self.plan.source.path,
            "the source gave its UIDs or unique ids anew: its messages are recognised by their content"
        );
        loop {
            let rows = self.ledger.rows_in(space, None, None, ROWS_AT_ONCE).await?;
            if rows.is_empty() {
                return Ok(());
            }
            self.ledger.detach(&rows.iter().map(|row| row.id).collect::<Vec<_>>()).await?;
        }
    }

    /// Goes through the whole list once.
    async fn go_through(
        &mut self,
        space: &Space,
        first: Option<crate::drivers::Listing>,
        doubtful: &BTreeSet<RowId>,
    ) -> Result<Run> {
        let mut run = Run::default();
        let mut listing = match first {
            Some(listing) => listing,
            None => self.list(None).await?,
        };
        loop {
            let next = listing.next.take();
            (run.unlisted, run.notes) = (listing.unlisted, listing.notes.take());
            self.compare_page(space, listing.messages, next.as_ref(), doubtful, &mut run).await?;
            if run.renumbered {
                return Ok(run);
            }
            let Some(after) = next else { return Ok(run) };
            listing = self.list(Some(&after)).await?;
        }
    }

    async fn list(&mut self, after: Option<&Locator>) -> Result<crate::drivers::Listing> {
        self.source.list(after).await.map_err(|failure| failure.side(Side::Source))
    }

    /// Compares a page, which ends at `upto` or with the list, with the ledger's rows of the same stretch.
    async fn compare_page(
        &mut self,
        space: &Space,
        page: Vec<Listed>,
        upto: Option<&Locator>,
        doubtful: &BTreeSet<RowId>,
        run: &mut Run,
    ) -> Result<()> {
        let mut page = page.into_iter().peekable();
        loop {
            let rows = self.ledger.rows_in(space, run.compared.as_ref(), upto, ROWS_AT_ONCE).await?;
            // As far as these rows go; the last stretch goes to the end of the page.
            let end =
                if rows.len() < ROWS_AT_ONCE { None } else { rows.last().map(|row| row.locator.clone()) };
            let mut listed = Vec::new();
            while let Some(next) = page.next_if(|next| end.as_ref().is_none_or(|end| next.locator <= *end)) {
                listed.push(next);
            }
            if space.protocol == Protocol::Pop3 {
                run.note_ids(&rows, &listed);
            }
            let diff = compare(rows, listed);
            if diff.renumbered {
                run.renumbered = true;
                return Ok(());
            }
            run.any_listed |= diff.any_listed;
            if space.protocol == Protocol::Pop3 {
                run.gone_before.extend(&diff.gone_before);
                for listed in &diff.fresh {
                    *run.fresh_sizes.entry(listed.size).or_default() += 1;
                }
            }
            self.keep(diff, doubtful, &mut run.reconciled).await?;
            let Some(end) = end else {
                run.compared = upto.cloned();
                return Ok(());
            };
            run.compared = Some(end);
        }
    }

    /// Writes down what a comparison found.
    async fn keep(
        &mut self,
        diff: Diff,
        doubtful: &BTreeSet<RowId>,
        reconciled: &mut Reconciled,
    ) -> Result<()> {
        let Diff { fresh, pending, excluded, flags, gone, back, announced, replaced, .. } = diff;
        if !replaced.is_empty() {
            self.ledger.detach(&replaced).await?;
        }
        for part in fresh.chunks(ROWS_AT_ONCE) {
            let rows: Vec<NewRow> = part
                .iter()
                .map(|listed| new_row(listed, self.rules.judge(listed.size, listed.date)))
                .collect();
            self.ledger.insert(&rows).await?;
            let left = rows.iter().filter(|row| matches!(row.verdict, Verdict::Excluded(_)));
            let (messages, bytes) = left.fold((0, 0), |(n, bytes), row| (n + 1, bytes + row.size));
            self.progress.leave_out(messages, bytes);
        }
        self.judge_again(&pending, &excluded).await?;
        let mut tried = Vec::new();
        for (row, listed, before) in pending {
            let now = listed.flags.unwrap_or_default();
            if doubtful.contains(&row) {
                // If this attempt is cut off too, the next one knows all the flags that a copy may have.
                if !now.minus(&before).is_empty() {
                    tried.push((row, before.iter().chain(now.iter()).collect::<Flags>()));
                }
                reconciled.now.insert(row, now);
            } else if now != before {
                tried.push((row, now));
            }
        }
        if !tried.is_empty() {
            self.ledger.save_flags(&tried).await?;
        }
        if !announced.is_empty() {
            self.ledger.save_announced(&announced).await?;
        }
        if !back.is_empty() {
            self.ledger.mark_listed(&back).await?;
        }
        reconciled.flags.extend(flags);
        reconciled.gone.extend(gone);
        self.spill_flags(reconciled).await
    }

    /// Messages that wait may be left out by now, and such that were left out may be wanted.
    async fn judge_again(
        &mut self,
        pending: &[(RowId, Listed, Flags)],
        excluded: &[(RowId, Listed)],
    ) -> Result<()> {
        let judge = |listed: &Listed| self.rules.judge(listed.size, listed.date);
        let wanted = excluded.iter().filter(|(_, listed)| judge(listed) == Verdict::Pending);
        let wanted: Vec<RowId> = wanted.map(|(row, _)| *row).collect();
        if !wanted.is_empty() {
            self.ledger.reopen(&wanted).await?;
        }
        let judged = pending.iter().map(|(row, listed, _)| (*row, judge(listed))).collect();
        self.leave_out(judged).await.map(drop)
    }

    /// Settles the rows that the rules leave out by now, as they are judged; which these are.
    pub(super) async fn leave_out(&mut self, judged: Vec<(RowId, Verdict)>) -> Result<BTreeSet<RowId>> {
        let out = judged.into_iter().filter(|(_, verdict)| *verdict != Verdict::Pending);
        let out: Vec<Settled> = out.map(|(row, verdict)| settled(row, None, verdict)).collect();
        if !out.is_empty() {
            self.settle(&out, None).await?;
        }
        Ok(out.iter().map(|settled| settled.id).collect())
    }

    /// Carries flags over before the list has come to its end, where they are too many to be kept.
    async fn spill_flags(&mut self, reconciled: &mut Reconciled) -> Result<()> {
        while reconciled.flags.len() > CHANGES_MAX {
            let part: Vec<FlagChange> = reconciled.flags.drain(..ROWS_AT_ONCE).collect();
            let arrived = self.destination.open(&self.plan.destination).await;
            let arrived = arrived.map_err(|failure| failure.side(Side::Destination))?;
            self.carry_some_flags(&part, &arrived).await?;
        }
        Ok(())
    }

    /// Takes over what the source says that changed; `None` where it does not add up to what the source says it holds.
    async fn take_changes(
        &mut self,
        space: &Space,
        state: &FolderState,
        changes: Changes,
        doubtful: &BTreeSet<RowId>,
    ) -> Result<Option<Reconciled>> {
        let mut reconciled = Reconciled::default();
        let distinct = |ids: &mut dyn Iterator<Item = &ItemId>| -> Vec<ItemId> {
            let mut ids: Vec<ItemId> = ids.cloned().collect();
            // A server may report one message twice.
            ids.sort_unstable();
            ids.dedup();
            ids
        };
        let fresh = changes.fresh.len() as u64;
        if let Gone::AllBut(mut present) = changes.gone {
            present.sort_unstable();
            reconciled.gone = self.find_gone(space, &present).await?;
        }
        let known = self.ledger.count_in(space).await?;
        let left = (known + fresh).checked_sub(reconciled.gone.len() as u64);
        if left != state.items {
            return Ok(None);
        }
        for part in changes.listed.chunks(ROWS_AT_ONCE) {
            let rows = self.ledger.rows_at(space, &distinct(&mut part.iter().map(|l| &l.locator.id))).await?;
            let seen = compare(rows, part.to_vec());
            if seen.renumbered || !seen.replaced.is_empty() {
                // The UIDs name other messages: only the whole list tells which.
                return Ok(None);
            }
        }
        for part in changes.flags.chunks(ROWS_AT_ONCE) {
            let rows = self.ledger.rows_at(space, &distinct(&mut part.iter().map(|(id, _)| id))).await?;
            for row in rows {
                let Some((_, now)) = part.iter().rev().find(|(id, _)| *id == row.locator.id) else {
                    continue;
                };
                match row.verdict {
                    Verdict::Delivered | Verdict::DeliveredAltered(_) => {
                        reconciled.flags.extend(FlagChange::of(&row, now.clone()));
                    }
                    Verdict::Pending if doubtful.contains(&row.id) => {
                        let tried: Flags = row.flags.iter().chain(now.iter()).collect();
                        self.ledger.save_flags(&[(row.id, tried)]).await?;
                        reconciled.now.insert(row.id, now.clone());
                    }
                    Verdict::Pending | Verdict::Quarantined(_) => {
                        self.ledger.save_flags(&[(row.id, now.clone())]).await?;
                    }
                    Verdict::Excluded(_) | Verdict::Shown => {}
                }
            }
        }
        let fresh = compare(
            self.ledger.rows_at(space, &distinct(&mut changes.fresh.iter().map(|l| &l.locator.id))).await?,
            changes.fresh,
        );
        self.keep(Diff { gone: Vec::new(), ..fresh }, doubtful, &mut reconciled).await?;
        Ok(Some(reconciled))
    }

    /// The rows of a folder whose messages are not among those that are there, by their ids.
    async fn find_gone(&mut self, space: &Space, present: &[ItemId]) -> Result<Vec<RowId>> {
        let mut absent = Vec::new();
        let mut after = None;
        let mut present = present.iter().peekable();
        loop {
            let known = self.ledger.ids_in(space, after.as_ref(), IDS_AT_ONCE).await?;
            let Some((last, _)) = known.last() else { break };
            after = Some(last.clone());
            for (id, row) in known {
                while present.next_if(|at| **at < id).is_some() {}
                if present.peek().is_none_or(|at| **at != id) {
                    absent.push(row);
                }
            }
        }
        // Most of them went before.
        let mut gone = Vec::new();
        for part in absent.chunks(ROWS_AT_ONCE) {
            let rows = self.ledger.rows_of(part).await?;
            gone.extend(rows.iter().filter(|row| !row.gone).map(|row| row.id));
        }
        Ok(gone)
    }
}

/// Whether a folder's mark went back in the same epoch, which it must never do: then its ids name other messages.
fn has_gone_back(marks: &dyn Marks, cursor: Option<&Cursor>, state: &FolderState) -> bool {
    cursor.is_some_and(|cursor| cursor.epoch == state.epoch && marks.contradicts(&cursor.mark, &state.mark))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drivers::marks::Numbered;
    use crate::model::message::Epoch;

    #[test]
    fn a_mark_that_went_back_voids_the_ids() {
        let mark = |next: Option<u32>| next.map(Numbered::mark).unwrap_or_default();
        let cursor =
            |epoch: u32, next| Cursor { epoch: Epoch::from(epoch), mark: mark(next), ..Cursor::default() };
        let state = |epoch: u32, next| FolderState {
            epoch: Epoch::from(epoch),
            mark: mark(next),
            ..FolderState::default()
        };
        for (before, now, expected) in [
            (cursor(5, Some(4)), state(5, Some(4)), false),
            (cursor(5, Some(4)), state(5, Some(9)), false),
            (cursor(5, Some(4)), state(5, Some(3)), true),
            (cursor(4, Some(4)), state(5, Some(3)), false),
            (cursor(5, None), state(5, Some(3)), false),
            (cursor(5, Some(4)), state(5, None), false),
        ] {
            assert_eq!(has_gone_back(&Numbered, Some(&before), &now), expected, "{before:?} {now:?}");
        }
        assert!(!has_gone_back(&Numbered, None, &state(5, Some(1))));
    }
}
