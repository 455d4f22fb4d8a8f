//! How long one folder or one message is waited for. A server that asks for a pause is waited for as long as it says,
//! and is not a failure: but where it says so whenever this one folder is opened, or this one message is asked for, and
//! hands out others meanwhile, all else would wait for ever. So each time is counted in the ledger, what was counted
//! comes last in the next attempt, and after some of them the folder is left, or the message named, as not carried for
//! now.

use std::collections::BTreeSet;

use super::folder::{FolderPass, settled};
use super::lanes::Pass;
use super::mapping::FolderPlan;
use super::pipeline::{Copied, Work};
use super::verify::read_alone;
use crate::drivers::{Destination, Source, Wanted};
use crate::ledger::{NAMED_FROM, Refused, RowId, Space};
use crate::model::failure::{Class, Failure, FailureCode, Result, Side, Spoils};
use crate::model::folder::FolderPath;
use crate::model::message::Verdict;

/// The ledger's fact that lists the source folders at which attempts ended, one line for each time: while they were opened or
/// listed, or, behind [`FILLED`], while messages were carried.
pub(super) const ENDED_AT: &str = "endedAt";
/// No folder's name begins so.
const FILLED: char = '\u{1}';
/// So often an attempt may end while a folder is opened or listed until it is left, where others can be opened.
const OPENINGS: usize = 2;
/// So often while it is filled and nothing of it passes, where others are filled in the same attempt.
const FILLINGS: usize = 5;
/// So often while nothing shows that it is this folder or this message alone.
const UNPROVEN: usize = 10;
/// How many other folders are opened to see whether it is one folder alone.
const OTHERS_MAX: usize = 4;
/// Rows among which one is chosen that is asked for to see whether it is one message alone.
const ROWS_LOOKED_AT: usize = 50;

/// How far the pass over a folder came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stage {
    /// It is being opened.
    #[default]
    Opening,
    /// Its list is held against the ledger.
    Listing,
    /// Messages are carried.
    Filling,
}

/// The past of a folder, before its turn comes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Record {
    /// How often attempts ended while it was opened or listed.
    opened: usize,
    /// How often while it was filled.
    filled: usize,
    /// Whether other folders could be opened just now, at either side. Nobody looks while it ended at none.
    others_open: bool,
}

/// The price of a failure.
#[derive(Debug)]
pub(super) enum Costs {
    /// The folder alone: it is left, for this reason.
    Folder(Failure),
    /// This attempt; the next one goes on.
    Attempt(Failure),
}

/// Beside the failure, how far one attempt came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown {
    pub(super) stage: Stage,
    /// Whether messages of the folder arrived.
    pub(super) moved: bool,
    /// Whether messages of others did, before.
    pub(super) others_moved: bool,
}

impl Record {
    /// Whether nothing more is expected of a folder at which an attempt ended once more.
    fn is_spent(self, shown: Shown) -> bool {
        match shown.stage {
            Stage::Opening | Stage::Listing => self.opened >= OPENINGS && self.others_open,
            Stage::Filling => self.filled >= if shown.others_moved { FILLINGS } else { UNPROVEN },
        }
    }
}

/// Whether attempts ended at a folder.
pub(super) fn has_ended(ended_at: &str, folder: &FolderPath) -> bool {
    count_ends(ended_at, folder) != (0, 0)
}

/// How often a folder is in the fact: as one that was opened or listed, and as one that was filled.
fn count_ends(ended_at: &str, folder: &FolderPath) -> (usize, usize) {
    let path = folder.to_string();
    let opened = ended_at.lines().filter(|line| *line == path).count();
    let filled = ended_at.lines().filter(|line| line.strip_prefix(FILLED) == Some(path.as_str())).count();
    (opened, filled)
}

/// The fact once an attempt ended at a folder. That it was opened and listed, or filled in part, makes good what was before.
fn note_end(ended_at: &str, folder: &FolderPath, stage: Stage) -> String {
    let path = folder.to_string();
    let is_filled = stage == Stage::Filling;
    let mut lines: Vec<String> =
        ended_at.lines().filter(|line| !is_filled || *line != path).map(str::to_owned).collect();
    lines.push(if is_filled { format!("{FILLED}{path}") } else { path });
    lines.join("\n").trim_start_matches('\n').to_owned()
}

/// Whether a failure may be about the folder that the pass is over, rather than about the server.
fn may_be_of_the_folder(failure: &Failure, shown: Shown) -> bool {
    let ended = failure.spoils() == Spoils::Session
        && matches!(failure.class, Class::Unreachable | Class::Protocol)
        && !failure.is(FailureCode::SessionOver);
    match shown.stage {
        Stage::Opening => ended || failure.asks_to_come_later(),
        Stage::Listing => failure.asks_to_come_later(),
        Stage::Filling => failure.asks_to_come_later() && !shown.moved,
    }
}

impl Pass<'_> {
    /// Looks up what is known of a folder. Where attempts ended at it before, others are opened first: that alone shows whose
    /// trouble it is.
    ///
    /// # Errors
    /// Those of the ledger, and failures of the sessions that do not concern a single folder.
    pub(super) async fn recall(
        &self,
        plan: &FolderPlan,
        source: &mut dyn Source,
        destination: &mut dyn Destination,
    ) -> Result<Record> {
        let ended_at = self.ledger.fact(ENDED_AT).await?.unwrap_or_default();
        let (opened, filled) = count_ends(&ended_at, &plan.source.path);
        if opened < OPENINGS {
            return Ok(Record { opened, filled, others_open: false });
        }
        let is_other = |other: &&FolderPlan| {
            other.excluded.is_none()
                && other.source.path != plan.source.path
                && !has_ended(&ended_at, &other.source.path)
        };
        let mut opens = false;
        for other in self.plans.iter().filter(is_other).take(OTHERS_MAX) {
            let opened = source.open(&other.source).await.map_err(|failure| failure.side(Side::Source));
            opens = can_be_opened(opened.map(drop))?;
            if opens {
                break;
            }
        }
        let mut takes = false;
        for other in self.made.iter().filter(|path| **path != plan.destination).take(OTHERS_MAX) {
            let opened = destination.open(other).await.map_err(|failure| failure.side(Side::Destination));
            takes = can_be_opened(opened.map(drop))?;
            if takes {
                break;
            }
        }
        Ok(Record { opened, filled, others_open: opens && takes })
    }

    /// Decides what a failure in the pass over a folder costs.
    ///
    /// # Errors
    /// Those of the ledger.
    pub(super) async fn bear(
        &self,
        plan: &FolderPlan,
        record: Record,
        shown: Shown,
        failure: Failure,
    ) -> Result<Costs> {
        if failure.leaves_the_session() {
            // One bad folder must not stop the mailbox.
            return Ok(Costs::Folder(failure));
        }
        if !may_be_of_the_folder(&failure, shown) {
            return Ok(Costs::Attempt(failure));
        }
        if record.is_spent(shown) {
            let what = match (failure.asks_to_come_later(), shown.stage) {
                (true, Stage::Filling) => {
                    format!("asks for a pause whenever the folder is carried: {}", failure.what)
                }
                (true, _) => format!("asks for a pause whenever the folder is opened: {}", failure.what),
                (false, _) => format!("ends the session whenever it is opened: {}", failure.what),
            };
            let side = failure.side.unwrap_or(Side::Source);
            let left = Failure { place: failure.place, ..Failure::new(Class::Refused, what) };
            let hint = "have the server's operator mend the folder; the others were carried";
            return Ok(Costs::Folder(left.side(side).hint(hint)));
        }
        let before = self.ledger.fact(ENDED_AT).await?.unwrap_or_default();
        self.ledger.save_fact(ENDED_AT, &note_end(&before, &plan.source.path, shown.stage)).await?;
        Ok(Costs::Attempt(failure))
    }
}

/// Whether a folder was opened. One that cannot be is not a failure, as long as the session goes on.
fn can_be_opened(opened: Result<()>) -> Result<bool> {
    match opened {
        Ok(()) => Ok(true),
        Err(failure) if failure.leaves_the_session() || failure.asks_to_come_later() => Ok(false),
        Err(failure) => Err(failure),
    }
}

impl FolderPass<'_> {
    /// Counts that a server asked for a pause at some messages while nothing passed. One at which it does so each time, alone,
    /// while it hands out others, is named, so that nothing waits for it; says whether it was. `came` tells whether others came
    /// in this pass.
    pub(super) async fn bear_with(
        &mut self,
        space: &Space,
        window: &[Work],
        copied: &Copied,
        failure: &Failure,
        came: bool,
    ) -> Result<bool> {
        let of_the_source = failure.side == Some(Side::Source);
        let moved = if of_the_source { !copied.passed.is_empty() } else { copied.sent > 0 };
        // In mid-work it asked for a pause, and not at a message.
        if moved || !failure.asks_to_come_later() {
            return Ok(false);
        }
        let told: BTreeSet<RowId> = copied
            .settled
            .iter()
            .map(|settled| settled.id)
            .chain(copied.vanished.iter().copied())
            .chain(copied.put_off.iter().copied())
            .collect();
        let is_suspect = |row: &RowId| !told.contains(row) && (of_the_source || copied.begun.contains(row));
        let suspects: Vec<RowId> = window.iter().map(|work| work.row).filter(is_suspect).collect();
        self.ledger.add_attempts(&suspects, 1).await?;
        let ([work], [suspect]) = (window, suspects.as_slice()) else { return Ok(false) };
        let attempts = work.attempts + 1;
        if attempts < NAMED_FROM {
            return Ok(false);
        }
        let spent = attempts as usize >= UNPROVEN;
        let is_alone = came || spent || of_the_source && self.hands_out_another(space).await?;
        if !is_alone {
            return Ok(false);
        }
        let side = failure.side.unwrap_or(Side::Destination);
        let why = format!("the {side} asks for a pause at this message each time: {}", failure.sentence());
        let named = crate::ledger::Settled {
            refused: Refused { code: failure.code.or(Some(FailureCode::TryLater)), limit: None },
            ..settled(*suspect, None, Verdict::Quarantined(why))
        };
        self.settle(&[named], None).await?;
        Ok(true)
    }

    /// Whether the source hands out a message of the folder that was carried before.
    async fn hands_out_another(&mut self, space: &Space) -> Result<bool> {
        let rows = self.ledger.rows_in(space, None, None, ROWS_LOOKED_AT).await?;
        let carried = rows.into_iter().filter(|row| row.verdict.is_delivered() && !row.gone);
        let Some(row) = carried.min_by_key(|row| row.size) else { return Ok(false) };
        let wanted = Wanted { key: 0, locator: row.locator, size: row.announced.unwrap_or(row.size) };
        match read_alone(self.source, wanted).await {
            Ok(come) => Ok(come.is_some()),
            Err(failure) => can_be_opened(Err(failure.side(Side::Source))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_left_where_others_go_on_and_sooner_the_more_shows_it() {
        let shown = |stage, others_moved| Shown { stage, moved: false, others_moved };
        let record = |ended, others_open| Record { opened: ended, filled: ended, others_open };
        for (ended, others_open, stage, others_moved, spent) in [
            (1, true, Stage::Opening, true, false),
            (2, true, Stage::Opening, false, true),
            (9, false, Stage::Opening, true, false),
            (2, true, Stage::Listing, false, true),
            (4, true, Stage::Filling, true, false),
            (5, true, Stage::Filling, true, true),
            (9, true, Stage::Filling, false, false),
            (10, false, Stage::Filling, false, true),
        ] {
            let is_spent = record(ended, others_open).is_spent(shown(stage, others_moved));
            assert_eq!(is_spent, spent, "{ended} {others_open} {stage:?} {others_moved}");
        }
    }

    #[test]
    fn ends_are_counted_by_what_was_under_way() {
        let (work, other) = (FolderPath::from_slashes("Work"), FolderPath::from_slashes("Work/2020"));
        let mut fact = String::new();
        for stage in [Stage::Opening, Stage::Listing, Stage::Opening] {
            fact = note_end(&fact, &work, stage);
        }
        fact = note_end(&fact, &other, Stage::Opening);
        assert_eq!((count_ends(&fact, &work), count_ends(&fact, &other)), ((3, 0), (1, 0)));
        fact = note_end(&note_end(&fact, &work, Stage::Filling), &work, Stage::Filling);
        assert_eq!((count_ends(&fact, &work), count_ends(&fact, &other)), ((0, 2), (1, 0)));
        assert!(has_ended(&fact, &other) && !has_ended(&fact, &FolderPath::inbox()));
    }

    #[test]
    fn what_concerns_the_whole_account_is_no_folders_trouble() {
        use FailureCode as F;
        let shown = |stage, moved| Shown { stage, moved, others_moved: true };
        for (class, code, stage, moved, of_the_folder) in [
            (Class::Throttled, F::Locked, Stage::Opening, false, true),
            (Class::Throttled, F::TryLater, Stage::Filling, false, true),
            (Class::Throttled, F::TryLater, Stage::Filling, true, false),
            (Class::Throttled, F::DaySpent, Stage::Opening, false, false),
            (Class::Throttled, F::LimitSpent, Stage::Filling, false, false),
            (Class::Unreachable, F::ConnectionEnded, Stage::Opening, false, true),
            (Class::Unreachable, F::ConnectionEnded, Stage::Filling, false, false),
            (Class::Unreachable, F::SessionOver, Stage::Opening, false, false),
            (Class::Unreachable, F::TryLater, Stage::Listing, false, true),
            (Class::Refused, F::NoPermission, Stage::Opening, false, false),
            (Class::Quota, F::Full, Stage::Filling, false, false),
        ] {
            let failure = Failure::new(class, "").code(code);
            let is_so = may_be_of_the_folder(&failure, shown(stage, moved));
            assert_eq!(is_so, of_the_folder, "{class} {code} {stage:?}");
        }
    }
}
