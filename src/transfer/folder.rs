//! One pass over one folder: what is new, changed or gone at the source is brought to the destination, and the ledger
//! knows of every step before it is taken.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};

use super::candidates::Candidates;
use super::diff::{Diff, FlagChange, compare, is_renumbered};
use super::mapping::FolderPlan;
use super::pipeline::{Sending, Work, copy_window};
use super::progress::MailboxProgress;
use super::recognise::{is_elsewhere, is_unbound};
use super::settle::Barrier;
use super::{PassOutcome, Rules};
use crate::ledger::{Cursor, Ledger, NewRow, Refused, Row, RowId, Settled, protocol_of};
use crate::mail::{Destination, FolderState, Listed, Source};
use crate::model::failure::{Class, Failure, Result};
use crate::model::folder::FolderPath;
use crate::model::label::LabelTally;
use crate::model::message::{Arrival, Flags, Locator, Verdict};
use crate::model::protocol::Protocol;

/// Messages of one intent: what may be in doubt after a crash is looked for among at most so many.
const WINDOW_MESSAGES: usize = 500;
/// Messages that are remembered in one transaction: this keeps what a crash repeats, and what is in memory twice, small.
const ROWS_AT_ONCE: usize = 1000;
/// Announced bytes of one intent; one larger message makes an intent of its own.
const WINDOW_BYTES: u64 = 64 * 1024 * 1024;

/// One folder's pass and all it needs.
pub struct FolderPass<'a> {
    /// Where mail is read from.
    pub source: &'a mut dyn Source,
    /// Where mail is written to.
    pub destination: &'a mut dyn Destination,
    /// The mailbox's ledger.
    pub ledger: &'a dyn Ledger,
    /// What the manifest says.
    pub rules: &'a Rules,
    /// For whoever watches.
    pub progress: &'a MailboxProgress,
    /// The folder.
    pub plan: &'a FolderPlan,
    /// Whether everything that the ledger knows was judged by the same rules.
    pub same_rules: bool,
    /// Whether folders of the source are labels, so that a message may be listed in another one than before.
    pub labelled: bool,
    /// Whether the destination folder stands already.
    pub stands: bool,
    /// Set when the pass shall end at the next good place.
    pub halt: &'a AtomicBool,
    /// The mailbox's outcome, added to.
    pub outcome: &'a mut PassOutcome,
    /// Keywords that the destination does not keep, added to.
    pub keywords_lost: &'a mut BTreeSet<String>,
    /// What the list of each folder told of labels, added to.
    pub tallies: &'a mut BTreeMap<FolderPath, LabelTally>,
}

impl FolderPass<'_> {
    /// Carries the folder once.
    ///
    /// # Errors
    /// Those of the sessions and of the ledger; the next pass goes on where this one stopped.
    pub async fn run(&mut self, barrier: &Barrier) -> Result<()> {
        let plan = self.plan;
        self.progress.enter_phase(&plan.source.path.to_string());
        if let Some(why) = &plan.excluded {
            let state = self.source.open(&plan.source).await?;
            return self.exclude(&state, why).await;
        }
        let cursor = self.ledger.cursor(&plan.source.path).await?;
        if !self.stands {
            self.destination.ensure_folder(&plan.destination, plan.source.subscribed).await?;
        }
        // A folder that was carried before may turn out to be unchanged, so that no list is needed.
        let open = async {
            if cursor.is_some() {
                self.source.open(&plan.source).await.map(|state| (state, None))
            } else {
                self.source.open_and_list(&plan.source).await.map(|(state, list)| (state, Some(list)))
            }
        };
        let (opened, arrived) = tokio::join!(open, self.destination.open(&plan.destination));
        let ((state, listing), arrived) = (opened?, arrived?);
        let in_doubt = barrier.concerns(&plan.destination);
        let unchanged = |cursor: &Cursor| is_unchanged(cursor, &state, &arrived);
        if !in_doubt && self.same_rules && cursor.as_ref().is_some_and(unchanged) {
            return Ok(());
        }
        let mut rows = self.ledger.rows(&plan.source.path).await?;
        let moved = cursor.as_ref().is_some_and(|c| c.destination_uidvalidity != arrived.uidvalidity)
            || rows.iter().any(|row| is_elsewhere(row, &plan.destination, arrived.uidvalidity));
        if moved {
            self.ledger.forget_arrivals(&plan.destination, arrived.uidvalidity).await?;
            rows = self.ledger.rows(&plan.source.path).await?;
        }
        let unbound = rows.iter().any(is_unbound);
        let mut scanned = cursor.as_ref().filter(|_| !moved).map_or(1, |c| c.destination_scanned.max(1));
        if let Some(from) = barrier.scan_from(&plan.destination, arrived.uidvalidity) {
            scanned = scanned.min(from);
        }

        let listing = match listing {
            Some(listing) => listing,
            None => self.source.list().await?,
        };
        if let Some(tally) = self.source.take_tally() {
            self.tallies.insert(plan.source.path.clone(), tally);
        }
        if is_renumbered(cursor.as_ref(), &state, &rows, &listing, |locator| is_reachable(locator, &state)) {
            tracing::info!(
                folder = %plan.source.path,
                "the source gave its UIDs anew under the same UIDVALIDITY: its messages are recognised by what they are"
            );
            let void = rows.iter().filter(|row| is_reachable(&row.locator, &state)).map(|row| row.id);
            self.ledger.detach(&void.collect::<Vec<_>>()).await?;
            rows = self.ledger.rows(&plan.source.path).await?;
        }
        let arrived_before = rows.iter().filter(|row| row.verdict.is_delivered() && !row.gone).count();
        let left_out = self.find_left_out(&rows);
        let mut diff = compare(rows, listing, |locator| is_reachable(locator, &state));
        self.forget_void(&mut diff.void).await?;
        let mut work = self.plan_work(&mut diff).await?;
        if let Some(most) = self.rules.most_per_folder {
            keep_newest(&mut work, (most as usize).saturating_sub(arrived_before));
        }
        if moved || unbound || !work.is_empty() || !diff.void.is_empty() {
            self.scan_destination(scanned, &arrived).await?;
            scanned = arrived.uidnext.unwrap_or(1);
        }
        if moved || unbound {
            let lost = self.rebind(&arrived).await?;
            if moved {
                work.extend(self.carry_again(lost, &mut diff.void, &state).await?);
            }
        }
        let mut candidates = self.gather_candidates(&diff.void, &arrived).await?;
        let mut changes = diff.flags;
        for change in &mut changes {
            for flags in [&mut change.add, &mut change.remove] {
                *flags = self.rules.manners.wanted(std::mem::take(flags));
            }
        }
        self.copy(work, &arrived, &mut candidates, &mut changes).await?;
        self.carry_flags(changes, &arrived).await?;
        self.prove_flags(&arrived).await?;
        self.let_go(diff.gone, &left_out).await?;
        let unmatched: Vec<RowId> = candidates.into_rows().collect();
        self.ledger.mark_gone(&unmatched).await?;
        let cursor = Cursor {
            uidvalidity: state.uidvalidity,
            uidnext: state.uidnext,
            messages: state.messages,
            highest_modseq: state.highest_modseq,
            destination_uidvalidity: arrived.uidvalidity,
            destination_scanned: scanned,
        };
        self.ledger.save_cursor(&plan.source.path, &cursor).await
    }

    /// Counts the messages of a folder that is left out as a whole.
    async fn exclude(&mut self, state: &FolderState, why: &str) -> Result<()> {
        let rows = self.ledger.rows(&self.plan.source.path).await?;
        let left_out = self.find_left_out(&rows);
        let mut diff = compare(rows, self.source.list().await?, |locator| is_reachable(locator, state));
        self.forget_void(&mut diff.void).await?;
        if self.labelled {
            self.let_go(std::mem::take(&mut diff.gone), &left_out).await?;
        }
        let verdict = Verdict::Excluded(why.to_owned());
        let fresh: Vec<NewRow> = diff.fresh.iter().map(|listed| new_row(listed, verdict.clone())).collect();
        self.ledger.insert(&fresh).await?;
        let pending: Vec<Settled> =
            diff.pending.iter().map(|(row, ..)| settled(*row, None, verdict.clone())).collect();
        self.ledger.settle(&pending, None).await
    }

    /// Messages that were counted here and not carried. Where folders are labels, another folder may carry or count them
    /// now, and none may be counted twice.
    fn find_left_out(&self, rows: &[Row]) -> BTreeSet<RowId> {
        let is_left_out = |row: &&Row| self.labelled && matches!(row.verdict, Verdict::Excluded(_));
        rows.iter().filter(is_left_out).map(|row| row.id).collect()
    }

    /// Notes that the source no longer lists some messages here.
    async fn let_go(&mut self, gone: Vec<RowId>, left_out: &BTreeSet<RowId>) -> Result<()> {
        let (counted, known): (Vec<RowId>, Vec<RowId>) =
            gone.into_iter().partition(|row| left_out.contains(row));
        self.ledger.forget(&counted).await?;
        self.ledger.mark_gone(&known).await
    }

    /// Forgets rows under void locators that stand for nothing: what they named is listed anew under another locator.
    async fn forget_void(&mut self, void: &mut Vec<Row>) -> Result<()> {
        let stands = |row: &Row| {
            row.known.is_some() && !matches!(row.verdict, Verdict::Pending | Verdict::Excluded(_))
        };
        let forgotten: Vec<RowId> = void.iter().filter(|row| !stands(row)).map(|row| row.id).collect();
        void.retain(stands);
        self.ledger.forget(&forgotten).await
    }

    /// Remembers what is new, and finds what is to be copied now.
    async fn plan_work(&mut self, diff: &mut Diff) -> Result<Vec<Work>> {
        let mut work: Vec<Work> = Vec::new();
        let mut fresh = std::mem::take(&mut diff.fresh).into_iter();
        while !fresh.as_slice().is_empty() {
            let chunk = &fresh.as_slice()[..fresh.len().min(ROWS_AT_ONCE)];
            let rows: Vec<NewRow> =
                chunk.iter().map(|l| new_row(l, self.rules.judge(l.size, l.date))).collect();
            let ids = self.ledger.insert(&rows).await?;
            let wanted =
                ids.into_iter().zip(&mut fresh).zip(&rows).filter(|(_, row)| row.verdict == Verdict::Pending);
            work.extend(wanted.map(|((row, listed), _)| Work { row, listed, tried: Flags::default() }));
        }
        let mut reopened = Vec::new();
        for (row, listed) in &diff.excluded {
            if self.rules.judge(listed.size, listed.date) == Verdict::Pending {
                reopened.push(*row);
                work.push(Work { row: *row, listed: listed.clone(), tried: Flags::default() });
            }
        }
        self.ledger.reopen(&reopened).await?;
        let mut excluded = Vec::new();
        let mut tried_anew = Vec::new();
        for (row, listed, tried) in &diff.pending {
            match self.rules.judge(listed.size, listed.date) {
                Verdict::Pending => {
                    let now = listed.flags.clone().unwrap_or_default();
                    if !now.minus(tried).is_empty() {
                        tried_anew.push((*row, tried.iter().chain(now.iter()).collect()));
                    }
                    work.push(Work { row: *row, listed: listed.clone(), tried: tried.clone() });
                }
                verdict => excluded.push(settled(*row, None, verdict)),
            }
        }
        self.ledger.settle(&excluded, None).await?;
        // If this attempt is cut off too, the next one knows all the flags that a copy may have.
        if !tried_anew.is_empty() {
            self.ledger.save_flags(&tried_anew).await?;
        }
        Ok(work)
    }

    /// Copies everything in windows, each under an intent of its own.
    async fn copy(
        &mut self,
        work: Vec<Work>,
        arrived: &FolderState,
        candidates: &mut Candidates,
        changes: &mut Vec<FlagChange>,
    ) -> Result<()> {
        let folder = &self.plan.destination;
        self.progress.expect(work.len() as u64, work.iter().map(|w| w.listed.size).sum());
        let permanent = arrived.permanent_flags.clone();
        let manners = self.rules.manners;
        let kept = move |flags: &Flags| manners.wanted(keep_flags(flags, permanent.as_ref()));
        let keep_flags = |flags: &Flags| manners.at_once(kept(flags));
        let mut uidnext = arrived.uidnext.unwrap_or(1);
        let rules = self.rules;
        let judge = move |size, date| rules.judge(size, date);
        for window in windows(&work) {
            if self.halt.load(Ordering::Relaxed) {
                return Err(Failure::new(Class::Interrupted, "stopped because another session failed"));
            }
            if let Some(daily) = &self.rules.daily {
                daily.spend(self.ledger, window.iter().map(|w| w.listed.size).sum()).await?;
            }
            let rows: Vec<RowId> = window.iter().map(|w| w.row).collect();
            let intent = self.ledger.begin_intent(folder, arrived.uidvalidity, uidnext, &rows).await?;
            let sending = Sending {
                list_from: arrived.uidnext.map(|_| uidnext),
                keep_flags: &keep_flags,
                judge: &judge,
                pace: &rules.pace,
                progress: self.progress,
            };
            let mut copied =
                copy_window(self.source, self.destination, folder, window, candidates, sending).await;
            self.outcome.sent += copied.sent;
            self.outcome.bytes += copied.bytes;
            self.outcome.recognised += copied.recognised.len() as u64;
            self.outcome.marked += copied.marked;
            let mut failure = copied.failure.take();
            if failure.is_none() {
                failure = self.excuse_refusals(&mut copied, arrived).await;
            }
            if failure.is_none() {
                failure = self.locate(&mut copied, arrived, uidnext).await.err();
            }
            if failure.is_none() {
                match self.check(&mut copied, arrived, uidnext).await {
                    Ok(checked) => {
                        self.outcome.sizes_checked += checked.sizes;
                        self.outcome.digests_checked += checked.digests;
                        failure = self.mend_flags(window, &copied, &checked, arrived).await.err();
                    }
                    Err(broken) => failure = Some(broken),
                }
            }
            if failure.is_some() {
                self.note_unproven(window, &copied).await?;
            }
            self.note_window(window, &copied, changes, &kept, arrived);
            self.ledger.settle(&copied.settled, copied.all_answered.then_some(intent)).await?;
            self.ledger.mark_gone(&copied.vanished).await?;
            if let Some(failure) = failure {
                return Err(failure.at(folder.to_string()));
            }
            let highest =
                copied.settled.iter().filter_map(|s| s.destination.as_ref()).map(|(_, a)| a.uid).max();
            uidnext = highest.map_or(uidnext, |uid| uidnext.max(uid + 1));
        }
        Ok(())
    }

    /// A folder that was removed while it was filled takes no message: that is no message's fault, and the next pass makes
    /// it anew.
    async fn excuse_refusals(
        &mut self,
        copied: &mut super::pipeline::Copied,
        arrived: &FolderState,
    ) -> Option<Failure> {
        let is_refused = |settled: &Settled| matches!(settled.verdict, Verdict::Quarantined(_));
        if !copied.settled.iter().any(is_refused) {
            return None;
        }
        let folder = &self.plan.destination;
        // STATUS alone may speak of what the session still holds open.
        let still_there = match self.destination.list_folders().await {
            Ok(listed) if listed.iter().any(|other| other.path == *folder) => {
                self.destination.status(folder).await.map(|now| now.uidvalidity == arrived.uidvalidity)
            }
            Ok(_) => Ok(false),
            Err(failure) => Err(failure),
        };
        match still_there {
            Ok(true) => None,
            Err(failure) if failure.class != Class::Refused => Some(failure),
            Ok(false) | Err(_) => {
                copied.settled.retain(|settled| !is_refused(settled));
                let what = "the folder was removed at the destination while it was being filled";
                Some(Failure::new(Class::Refused, what).hint("the next pass makes it again and goes on"))
            }
        }
    }

    /// Notes findings and the flags that recognised messages still need.
    fn note_window(
        &mut self,
        window: &[Work],
        copied: &super::pipeline::Copied,
        changes: &mut Vec<FlagChange>,
        keep: &dyn Fn(&Flags) -> Flags,
        arrived: &FolderState,
    ) {
        let listed: HashMap<RowId, &Listed> = window.iter().map(|w| (w.row, &w.listed)).collect();
        for flags in listed.values().filter_map(|l| l.flags.as_ref()) {
            let lost = self.rules.manners.wanted(flags.minus(&keep(flags)));
            self.keywords_lost.extend(lost.iter().map(str::to_owned));
        }
        for recognised in &copied.recognised {
            let Some(flags) = listed.get(&recognised.row).and_then(|l| l.flags.clone()) else { continue };
            let before = &recognised.flags;
            let asks = copied.passed.get(&recognised.row).is_some_and(|passed| passed.asks_receipt);
            let mark = self.receipt_mark(asks, arrived);
            let change = FlagChange {
                row: recognised.row,
                add: self.rules.manners.wanted(flags.minus(before)).iter().chain(mark.iter()).collect(),
                remove: self.rules.manners.wanted(before.minus(&flags)),
                all: flags,
            };
            if !change.add.is_empty() || !change.remove.is_empty() {
                changes.push(change);
            }
        }
    }

    /// Carries changed flags over, grouped so that equal changes cost one command.
    async fn carry_flags(&mut self, changes: Vec<FlagChange>, arrived: &FolderState) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let arrivals: HashMap<RowId, u32> = self
            .ledger
            .rows(&self.plan.source.path)
            .await?
            .into_iter()
            .filter_map(|row| {
                let (folder, arrival) = row.destination?;
                let here = folder == self.plan.destination && arrival.uidvalidity == arrived.uidvalidity;
                here.then_some((row.id, arrival.uid))
            })
            .collect();
        let mut groups: BTreeMap<(String, String), Vec<u32>> = BTreeMap::new();
        let mut saved = Vec::new();
        for change in changes {
            let Some(uid) = arrivals.get(&change.row) else { continue };
            let add = keep_flags(&change.add, arrived.permanent_flags.as_ref());
            self.keywords_lost.extend(change.add.minus(&add).iter().map(str::to_owned));
            groups.entry((add.to_string(), change.remove.to_string())).or_default().push(*uid);
            saved.push((change.row, change.all));
        }
        for ((add, remove), mut uids) in groups {
            uids.sort_unstable();
            let (add, remove) = (Flags::parse(&add), Flags::parse(&remove));
            let refused = self.destination.store_flags(&uids, &add, &remove).await?;
            self.keywords_lost.extend(refused.iter().map(str::to_owned));
        }
        self.outcome.flags_updated += saved.len() as u64;
        self.ledger.save_flags(&saved).await
    }
}

/// Nothing happened since: same UIDs, same count, and a HIGHESTMODSEQ (RFC 7162) that proves that no flag changed either.
///
/// How many messages the destination holds is left out on purpose. It belongs to its users from the first pass on: what
/// they removed or moved there is not brought back by a pass that does look into the folder either, so a smaller number
/// would only cost that look. `mailferry verify` is what counts there.
pub(super) fn is_unchanged(cursor: &Cursor, state: &FolderState, arrived: &FolderState) -> bool {
    is_as_listed(cursor, state)
        && cursor.destination_uidvalidity == arrived.uidvalidity
        // UIDs never go back while the UIDVALIDITY stays; where they do, the folder is looked into.
        && arrived.uidnext.is_none_or(|next| next >= cursor.destination_scanned)
}

/// Whether a folder of the source stands as it stood when it was listed.
pub(super) fn is_as_listed(cursor: &Cursor, state: &FolderState) -> bool {
    state.highest_modseq.is_some()
        && cursor.highest_modseq == state.highest_modseq
        && cursor.uidvalidity == state.uidvalidity
        && cursor.uidnext == state.uidnext
        && cursor.messages == state.messages
}

pub(super) fn is_reachable(locator: &Locator, state: &FolderState) -> bool {
    match locator {
        Locator::Imap { uidvalidity, .. } => *uidvalidity == state.uidvalidity,
        // A POP3 drop has no UIDVALIDITY; an IMAP folder always has one.
        Locator::Pop3 { .. } => protocol_of(locator) == Protocol::Pop3 && state.uidvalidity == 0,
    }
}

/// Leaves the newest of what is to be copied; sources list the oldest first, and the ledger remembers them in that order.
fn keep_newest(work: &mut Vec<Work>, most: usize) {
    work.sort_unstable_by_key(|work| work.row);
    work.drain(..work.len().saturating_sub(most));
}

fn new_row(listed: &Listed, verdict: Verdict) -> NewRow {
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
    }
}

/// The flags that the destination can keep.
pub(super) fn keep_flags(flags: &Flags, permanent: Option<&BTreeSet<String>>) -> Flags {
    match permanent {
        None => flags.writable(),
        Some(kept) => flags.writable().filter(|flag| kept.iter().any(|k| k.eq_ignore_ascii_case(flag))),
    }
}

/// Parts the work into windows by count and bytes.
fn windows(work: &[Work]) -> Vec<&[Work]> {
    let mut windows = Vec::new();
    let mut start = 0;
    let mut bytes = 0;
    for (at, message) in work.iter().enumerate() {
        let full = at - start >= WINDOW_MESSAGES || bytes + message.listed.size > WINDOW_BYTES;
        if full && at > start {
            windows.push(&work[start..at]);
            start = at;
            bytes = 0;
        }
        bytes += message.listed.size;
    }
    if start < work.len() {
        windows.push(&work[start..]);
    }
    windows
}
