//! Carries what waits in the ledger for one folder, in windows, each under an intent of its own. Messages at which sessions
//! ended before go last, and those that were refused are tried once more: each alone, so that one odd message costs
//! nobody else anything.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::Ordering;

use super::alias;
use super::candidates::Candidates;
use super::diff::FlagChange;
use super::folder::{FolderPass, keep_flags, settled};
use super::listing::ROWS_AT_ONCE;
use super::pipeline::{Copied, Sending, Work, copy_window};
use super::refusals::{IN_A_ROW, Left};
use super::resent;
use super::unseen::{self, Unseen, is_given_up};
use crate::drivers::{FolderState, Listed};
use crate::ledger::{ALONE_FROM, NAMED_FROM, Refused, Row, RowId, Settled, Space};
use crate::model::failure::{Class, Failure, FailureCode, Result, Side, Spoils};
use crate::model::mark::Mark;
use crate::model::message::{Flags, Verdict};
use crate::model::protocol::Protocol;

/// Messages of one intent: what may be in doubt after a crash is looked for among at most so many.
const WINDOW_MESSAGES: usize = 500;
/// Messages of one intent where a session ended at one of them, and nobody knows at which.
const WINDOW_SUSPECTS: usize = 10;
/// Announced bytes of one intent; one larger message makes an intent of its own.
const WINDOW_BYTES: u64 = 64 * 1024 * 1024;

/// The state that the windows of a folder share.
struct Carrying<'a> {
    space: &'a Space,
    arrived: &'a FolderState,
    doubtful: &'a BTreeSet<RowId>,
    /// Flags of messages in doubt, where the ledger holds those that a copy may have as well.
    now: &'a HashMap<RowId, Flags>,
    /// The mark of the destination behind which the next message arrives.
    mark: Mark,
    /// Messages that were refused by now, which are not tried twice in a pass.
    refused: HashSet<RowId>,
    /// Those that earlier passes know as refused, and that are tried once more.
    again: HashSet<RowId>,
    /// How many were refused one after another, each alone in its window, for no reason of their own.
    in_a_row: usize,
    /// Why messages are left for the next pass, where any are.
    why_left: Option<Failure>,
    /// Whether the destination takes no more into this folder for now.
    ended: bool,
    /// Messages that may be at the destination with another header.
    put_off: Vec<Work>,
    /// Messages that the destination said that it stored and does not list.
    unseen: Unseen,
    /// The intents of those, which stay open until they are seen: a copy may come late.
    unproven: Vec<(i64, Vec<RowId>)>,
    /// Whether any message came from the source in this pass.
    came: bool,
}

impl FolderPass<'_> {
    /// Carries everything that waits: what is ordinary first, then what sessions ended at, then what was refused. Comes back
    /// with why messages are left, where the destination does not take some for now.
    pub(super) async fn carry(
        &mut self,
        space: &Space,
        arrived: &FolderState,
        candidates: &mut Candidates,
        changes: &mut Vec<FlagChange>,
        (doubtful, now): (&BTreeSet<RowId>, &HashMap<RowId, Flags>),
    ) -> Result<Option<Failure>> {
        let mut carrying = Carrying {
            space,
            arrived,
            doubtful,
            now,
            mark: arrived.mark.clone(),
            refused: HashSet::new(),
            again: HashSet::new(),
            in_a_row: 0,
            why_left: None,
            ended: false,
            put_off: Vec::new(),
            unseen: Unseen::new(),
            unproven: Vec::new(),
            came: false,
        };
        let mut suspects: Vec<Work> = Vec::new();
        if let Some(most) = self.rules.most_per_folder {
            let before = self.ledger.count_copied(&space.folder).await?;
            let most = usize::try_from(u64::from(most).saturating_sub(before)).unwrap_or(usize::MAX);
            let rows = self.ledger.newest_work(space, most).await?;
            self.carry_rows(rows, &mut carrying, candidates, changes, &mut suspects).await?;
        } else {
            let mut after = 0;
            loop {
                let rows = self.ledger.work(space, after, ROWS_AT_ONCE).await?;
                let Some(last) = rows.last() else { break };
                let is_last = rows.len() < ROWS_AT_ONCE;
                after = last.id;
                self.carry_rows(rows, &mut carrying, candidates, changes, &mut suspects).await?;
                if is_last {
                    break;
                }
            }
        }
        let (mut alone, few): (Vec<Work>, Vec<Work>) =
            suspects.into_iter().partition(|work| work.attempts >= ALONE_FROM);
        // Where an attempt ends at one of them, the others have been tried.
        alone.sort_by_key(|work| work.attempts);
        for window in few.chunks(WINDOW_SUSPECTS) {
            self.carry_window(window, &mut carrying, candidates, changes).await?;
        }
        for window in alone.chunks(1) {
            self.carry_window(window, &mut carrying, candidates, changes).await?;
        }
        candidates.come_late();
        let put_off = std::mem::take(&mut carrying.put_off);
        self.progress.expect(put_off.len() as u64, put_off.iter().map(|work| work.listed.size).sum());
        for window in windows(&put_off) {
            self.carry_window(window, &mut carrying, candidates, changes).await?;
        }
        if !self.rules.leave_refused {
            self.carry_refused(&mut carrying, candidates, changes).await?;
        }
        let unseen = self.await_unseen(carrying.unseen, arrived).await?;
        for (intent, rows) in carrying.unproven {
            if !rows.iter().any(|row| unseen.contains_key(row)) {
                self.settle(&[], Some(intent)).await?;
            }
        }
        Ok(carrying.why_left)
    }

    /// Carries the ordinary ones of some rows, and puts the others aside.
    async fn carry_rows(
        &mut self,
        rows: Vec<Row>,
        carrying: &mut Carrying<'_>,
        candidates: &mut Candidates,
        changes: &mut Vec<FlagChange>,
        suspects: &mut Vec<Work>,
    ) -> Result<()> {
        self.progress.expect(rows.len() as u64, rows.iter().map(|row| row.size).sum());
        let mut ordinary = Vec::with_capacity(rows.len());
        for row in rows {
            let work = carrying.work_of(row);
            if work.attempts == 0 { ordinary.push(work) } else { suspects.push(work) }
        }
        for window in windows(&ordinary) {
            self.carry_window(window, carrying, candidates, changes).await?;
        }
        Ok(())
    }

    /// Tries once more what was refused before, unless the reason still holds.
    async fn carry_refused(
        &mut self,
        carrying: &mut Carrying<'_>,
        candidates: &mut Candidates,
        changes: &mut Vec<FlagChange>,
    ) -> Result<()> {
        let limits = &self.destination.facts().capabilities;
        let limit = limits.values("APPENDLIMIT").find_map(|limit| limit.parse::<u64>().ok());
        let mut after = 0;
        loop {
            let rows = self.ledger.refused(carrying.space, after, ROWS_AT_ONCE).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = last.id;
            let judged = rows.iter().map(|row| (row.id, self.rules.judge(row.size, row.date))).collect();
            let is_out = self.leave_out(judged).await?;
            for row in rows
                .into_iter()
                .filter(|row| !is_out.contains(&row.id) && !still_holds(row, limit) && !is_given_up(row))
            {
                if carrying.ended {
                    return Ok(());
                }
                if carrying.refused.contains(&row.id) {
                    continue;
                }
                self.ledger.reopen(&[row.id]).await?;
                carrying.again.insert(row.id);
                self.progress.take_up_again(row.size);
                let marks = self.destination.marks();
                resent::note(self.ledger, marks, &self.plan.destination, carrying.arrived, &row).await?;
                let work = carrying.work_of(row);
                self.carry_window(&[work], carrying, candidates, changes).await?;
            }
        }
    }

    /// Copies one window under an intent of its own, unless the destination takes no more.
    async fn carry_window(
        &mut self,
        window: &[Work],
        carrying: &mut Carrying<'_>,
        candidates: &mut Candidates,
        changes: &mut Vec<FlagChange>,
    ) -> Result<()> {
        if carrying.ended {
            return Ok(());
        }
        let (folder, arrived, mark) = (&self.plan.destination, carrying.arrived, carrying.mark.clone());
        let permanent = arrived.keepable.clone();
        let manners = self.rules.manners;
        let kept = move |flags: &Flags| manners.wanted(keep_flags(flags, permanent.as_ref()));
        let keep_flags = |flags: &Flags| manners.at_once(kept(flags));
        let rules = self.rules;
        let judge = move |size, date| rules.judge(size, date);
        if self.halt.load(Ordering::Relaxed) {
            return Err(Failure::new(Class::Interrupted, "stopped because another session failed"));
        }
        if let Some(daily) = &self.rules.daily {
            daily.spend(self.ledger, window.iter().map(|w| w.listed.size).sum()).await?;
        }
        let rows: Vec<RowId> = window.iter().map(|w| w.row).collect();
        let source = &self.plan.source.path;
        // Of several sessions the one that carries is shown, and not the one that opened its folder last.
        self.progress.enter_folder(source);
        let intent = self.ledger.begin_intent(source, folder, &arrived.epoch, &mark, &rows).await?;
        let sending = Sending {
            list_since: Some(mark.clone()).filter(|_| !arrived.mark.is_beginning()),
            keep_flags: &keep_flags,
            judge: &judge,
            pace: &rules.pace,
            progress: self.progress,
        };
        let copying = copy_window(self.source, self.destination, folder, window, candidates, sending);
        let mut copied = tokio::select! {
            copied = copying => copied,
            // Somebody else may carry the mailbox by now: nothing more may be sent. The sessions go with this pass.
            lost = self.ledger.lost() => return Err(lost),
        };
        self.outcome.sent += copied.sent;
        self.written.note(folder, arrived, copied.sent);
        self.outcome.bytes += copied.bytes;
        self.progress.send(copied.sent);
        self.outcome.recognised += copied.recognised.len() as u64;
        self.progress.recognise(copied.recognised.len() as u64);
        let mut failure = copied.failure.take();
        if failure.is_none() {
            failure = self.excuse_refusals(&mut copied, arrived).await;
        }
        // An arrival counts once it was seen, whatever else went wrong, as long as the destination still answers.
        let mut seen = false;
        if copied.all_answered {
            match self.prove(window, &mut copied, arrived, &mark).await {
                Ok(()) => seen = true,
                Err(broken) => failure = failure.or(Some(broken)),
            }
        }
        if !copied.doubled.is_empty() {
            let asks = failure.is_none();
            let proved = self.prove_names(window, &mut copied, asks).await;
            failure = failure.or(proved.err());
        }
        if !seen {
            self.note_unproven(window, &copied).await?;
            leave_in_doubt(&mut copied);
        }
        self.note_window(window, &copied, changes, &kept, arrived);
        carrying.put_off.extend(window.iter().filter(|work| copied.put_off.contains(&work.row)).cloned());
        let unseen = take_unseen(window, &mut copied);
        self.count_window(window, &copied, carrying.doubtful);
        let ended = (copied.all_answered && seen && unseen.is_empty()).then_some(intent);
        self.settle(&copied.settled, ended).await?;
        if self.rules.neighbours.own.is_some() {
            alias::note_sent(self.ledger, &copied, carrying.doubtful).await?;
        }
        carrying.refused.extend(copied.settled.iter().filter(|s| is_refused(s)).map(|s| s.id));
        if !unseen.is_empty() {
            let rows: Vec<RowId> = unseen.keys().copied().collect();
            self.ledger.add_attempts(&rows, 1).await?;
            carrying.unproven.push((intent, rows));
        }
        carrying.unseen.extend(unseen);
        self.ledger.mark_gone(&copied.vanished).await?;
        carrying.came |= !copied.passed.is_empty();
        if let Some(failure) = failure {
            if failure.class == Class::Throttled {
                let space = carrying.space;
                let named = self.bear_with(space, window, &copied, &failure, carrying.came).await?;
                // The server has answered, and the next is asked for.
                if named {
                    return Ok(());
                }
            }
            self.count_attempts(window, &copied, &failure).await?;
            return Err(failure.at(self.plan.destination.to_string()));
        }
        let last = copied.settled.iter().filter_map(|s| Some(&s.destination.as_ref()?.1.id)).max();
        carrying.mark = last.map_or(mark.clone(), |last| self.destination.marks().behind(&mark, last));
        if copied.sent > 0 {
            carrying.in_a_row = 0;
        }
        self.weigh(window, copied.left, carrying).await
    }

    /// Counts what a window brought. A message that is recognised was read at both sides and compared; where it was in doubt and
    /// nobody has seen it arrive until now, this is how it was sent.
    fn count_window(&mut self, window: &[Work], copied: &Copied, doubtful: &BTreeSet<RowId>) {
        let works: HashMap<RowId, &Work> = window.iter().map(|work| (work.row, work)).collect();
        let settled: HashMap<RowId, &Settled> = copied.settled.iter().map(|s| (s.id, s)).collect();
        self.uncounted.bytes_sent += copied.bytes;
        for row in copied.recognised.iter().map(|recognised| recognised.row) {
            // A message known under another name was compared when it arrived.
            if settled.get(&row).is_none_or(|settled| settled.replaces.is_none()) {
                self.uncounted.sizes_checked += 1;
                self.uncounted.digests_checked += 1;
            }
            if doubtful.contains(&row) && works.get(&row).is_some_and(|work| work.known.is_none()) {
                self.uncounted.bytes_sent += copied.passed.get(&row).map_or(0, |passed| passed.size);
            }
        }
        let arrived = copied
            .settled
            .iter()
            .filter(|s| s.verdict.is_delivered() || s.refused.code == Some(FailureCode::NotSeen))
            .filter_map(|settled| works.get(&settled.id)?.listed.flags.as_ref())
            .filter(|flags| flags.has(Flags::DELETED));
        self.uncounted.marked += arrived.count() as u64;
    }

    /// Decides what waits after a refusal that is not the fault of a message. One that is refused again and again is
    /// named, so that nothing waits for it for ever; the next pass tries it once more.
    async fn weigh(&mut self, window: &[Work], left: Left, carrying: &mut Carrying<'_>) -> Result<()> {
        let Some(failure) = left.failure else { return Ok(()) };
        let attempts: HashMap<RowId, u32> = window.iter().map(|work| (work.row, work.attempts)).collect();
        let (named, waiting): (Vec<_>, Vec<_>) = left.suspects.into_iter().partition(|(row, _)| {
            carrying.again.contains(row) || attempts.get(row).is_some_and(|before| before + 1 >= NAMED_FROM)
        });
        let known = named.iter().all(|(row, _)| carrying.again.contains(row));
        let waiting: Vec<RowId> = waiting.into_iter().map(|(row, _)| row).collect();
        self.ledger.add_attempts(&waiting, 1).await?;
        let all_named = waiting.is_empty() && !named.is_empty() && failure.class != Class::Quota;
        carrying.refused.extend(named.iter().map(|(row, _)| *row));
        let named: Vec<Settled> = named
            .into_iter()
            .map(|(row, failure)| Settled {
                refused: Refused { code: failure.code, limit: None },
                ..settled(row, None, Verdict::Quarantined(failure.sentence()))
            })
            .collect();
        self.settle(&named, None).await?;
        let failure = failure.at(self.plan.destination.to_string());
        let alone = window.len() == 1;
        carrying.in_a_row += usize::from(alone && !left.goes_on);
        // A destination that asks for a pause, or has no room, is given nothing more.
        let stops = matches!(failure.class, Class::Throttled | Class::Quota) && !left.goes_on;
        carrying.ended = stops || !left.goes_on && (!alone || carrying.in_a_row >= IN_A_ROW);
        // Where the rest of the folder waits for it too, somebody must hear of it.
        if all_named && (known || !carrying.ended) {
            return Ok(());
        }
        if stops {
            return Err(failure);
        }
        carrying.why_left.get_or_insert(failure);
        Ok(())
    }

    /// Finds what arrived, checks it, and brings its flags in order.
    async fn prove(
        &mut self,
        window: &[Work],
        copied: &mut Copied,
        arrived: &FolderState,
        mark: &Mark,
    ) -> Result<()> {
        if copied.present.is_none() {
            // It was not opened anew behind the last message, and what is open may show itself as it was before.
            self.destination.open(&self.plan.destination).await?;
        }
        self.locate(copied, arrived, mark).await?;
        let checked = self.check(copied, arrived, mark).await?;
        self.uncounted.sizes_checked += checked.sizes;
        self.uncounted.digests_checked += checked.digests;
        self.mend_flags(window, copied, &checked, arrived).await
    }

    /// Counts that a session ended at some messages. One at which sessions end each time is named, so that the others go on.
    async fn count_attempts(&mut self, window: &[Work], copied: &Copied, failure: &Failure) -> Result<()> {
        let by_peer = matches!(failure.class, Class::Unreachable | Class::Protocol);
        let nobodys = failure.is(FailureCode::SessionOver);
        if failure.spoils() != Spoils::Session || !by_peer || nobodys {
            return Ok(());
        }
        let answered: BTreeSet<RowId> = copied.settled.iter().map(|settled| settled.id).collect();
        let suspects: Vec<RowId> = match failure.side {
            Some(Side::Source) => copied.under_way.into_iter().collect(),
            _ => copied.begun.iter().copied().filter(|row| !answered.contains(row)).collect(),
        };
        let weight = if suspects.len() == 1 { ALONE_FROM } else { 1 };
        self.ledger.add_attempts(&suspects, weight).await?;
        let ([work], [suspect]) = (window, suspects.as_slice()) else { return Ok(()) };
        if work.row != *suspect || work.attempts + weight < NAMED_FROM {
            return Ok(());
        }
        let side = failure.side.unwrap_or(Side::Destination);
        let why =
            format!("the session with the {side} ends at this message each time: {}", failure.sentence());
        let named = Settled {
            refused: Refused { code: Some(FailureCode::EndsSessions), limit: None },
            ..settled(*suspect, None, Verdict::Quarantined(why))
        };
        // Its intent stays open: whether a copy arrived all the same is looked for before it is tried again.
        self.settle(&[named], None).await
    }

    /// A folder that was removed while it was filled takes no message: that is not the fault of a message, and the next
    /// pass makes it anew.
    async fn excuse_refusals(&mut self, copied: &mut Copied, arrived: &FolderState) -> Option<Failure> {
        if !copied.settled.iter().any(is_refused) {
            return None;
        }
        let folder = &self.plan.destination;
        // STATUS alone may speak of what the session still holds open.
        let still_there = match self.destination.list_folders().await {
            Ok(listed) if listed.iter().any(|other| other.path == *folder) => {
                self.destination.status(folder).await.map(|now| now.epoch == arrived.epoch)
            }
            Ok(_) => Ok(false),
            Err(failure) => Err(failure),
        };
        match still_there {
            Ok(true) => None,
            Err(failure) if !failure.leaves_the_session() => Some(failure.side(Side::Destination)),
            Ok(false) | Err(_) => {
                copied.settled.retain(|settled| !is_refused(settled));
                let what = "the folder was removed at the destination while it was being filled";
                let failure = Failure::new(Class::Refused, what).code(FailureCode::NoSuchFolder);
                Some(failure.side(Side::Destination).hint("the next pass makes it again and goes on"))
            }
        }
    }

    /// Notes findings and the flags that recognised messages still need.
    fn note_window(
        &mut self,
        window: &[Work],
        copied: &Copied,
        changes: &mut Vec<FlagChange>,
        keep: &dyn Fn(&Flags) -> Flags,
        arrived: &FolderState,
    ) {
        let listed: HashMap<RowId, &Listed> = window.iter().map(|w| (w.row, &w.listed)).collect();
        for flags in listed.values().filter_map(|l| l.flags.as_ref()) {
            let lost = self.rules.manners.wanted(flags.minus(&keep(flags)));
            self.uncounted.keywords_lost.extend(lost.iter().map(str::to_owned));
        }
        for recognised in &copied.recognised {
            let Some(flags) = listed.get(&recognised.row).and_then(|l| l.flags.clone()) else { continue };
            let before = &recognised.flags;
            let asks = copied.passed.get(&recognised.row).is_some_and(|passed| passed.asks_receipt);
            let mark = self.receipt_mark(asks, arrived);
            let change = FlagChange {
                row: recognised.row,
                at: None,
                add: self.rules.manners.wanted(flags.minus(before)).iter().chain(mark.iter()).collect(),
                remove: self.rules.manners.wanted(before.minus(&flags)),
                all: flags,
            };
            if !change.add.is_empty() || !change.remove.is_empty() {
                changes.push(change);
            }
        }
    }
}

fn is_refused(settled: &Settled) -> bool {
    matches!(settled.verdict, Verdict::Quarantined(_))
}

impl Carrying<'_> {
    /// A row as it is to be copied.
    fn work_of(&self, row: Row) -> Work {
        // POP3 has no flags, and a copy that is recognised keeps those that it has.
        let flags = (self.space.protocol != Protocol::Pop3)
            .then(|| self.now.get(&row.id).cloned().unwrap_or_else(|| row.flags.clone()));
        let tried = if self.doubtful.contains(&row.id) { row.flags } else { Flags::default() };
        // Once the bytes have passed, the row has their size, and what came is held against the list.
        let size = row.announced.unwrap_or(row.size);
        let listed = Listed { locator: row.locator, place: 0, size, date: row.date, flags };
        Work { row: row.id, listed, tried, attempts: row.attempts, known: row.known }
    }
}

/// Whether the reason for which a message was refused is the case still: it is over a limit, which the destination tells
/// again.
fn still_holds(row: &Row, limit: Option<u64>) -> bool {
    row.refused.code == Some(FailureCode::TooLarge) && limit.is_some_and(|limit| row.size > limit)
}

/// The messages of a window that the destination said that it stored and does not list.
fn take_unseen(window: &[Work], copied: &mut Copied) -> Unseen {
    let mut unseen = Unseen::new();
    for settled in copied.settled.iter_mut().filter(|s| s.refused.code == Some(FailureCode::NotSeen)) {
        let attempts = window.iter().find(|work| work.row == settled.id).map_or(0, |work| work.attempts);
        settled.verdict = Verdict::Quarantined(unseen::reason(attempts));
        unseen.extend(copied.passed.get(&settled.id).map(|passed| (settled.id, passed.clone())));
    }
    unseen
}

/// Nobody saw these arrivals: they wait, with the places at which the destination says that they are.
fn leave_in_doubt(copied: &mut Copied) {
    let recognised: BTreeSet<RowId> = copied.recognised.iter().map(|recognised| recognised.row).collect();
    for settled in &mut copied.settled {
        if settled.verdict.is_delivered() && !recognised.contains(&settled.id) {
            settled.verdict = Verdict::Pending;
        }
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
