//! After a cut, a kill or a time-out nobody knows which of the last messages arrived, and a server goes on committing
//! after the client is gone (measured: for more than half a second). So a folder with messages in doubt waits until it
//! no longer changes; then the messages that arrived are recognised, and only the rest is sent again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::late::{Late, Stays};
use super::mapping::FolderPlan;
use super::neighbours::Neighbours;
use super::verify::read_identities;
use crate::drivers::marks::Marks;
use crate::drivers::{Destination, FolderState};
use crate::ledger::{Intent, Ledger, Row, RowId};
use crate::model::failure::{Class, Result};
use crate::model::folder::FolderPath;
use crate::model::identity::Digest;
use crate::model::locator::ItemIds;
use crate::model::mark::Mark;
use crate::model::message::{Epoch, ItemId};

/// How often a folder is looked at while it must stand still.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The folders with messages in doubt.
#[derive(Debug, Default)]
pub struct Barrier {
    doubts: BTreeMap<FolderPath, Doubt>,
}

#[derive(Debug)]
struct Doubt {
    intents: Vec<Intent>,
    seen: FolderState,
    since: Instant,
}

impl Barrier {
    /// Finds the intents whose end is unknown and looks at their folders for the first time.
    ///
    /// # Errors
    /// Those of the ledger and of the session. A folder that is gone has nothing in doubt.
    pub async fn raise(ledger: &dyn Ledger, destination: &mut dyn Destination) -> Result<Self> {
        let mut barrier = Self::default();
        for intent in ledger.open_intents().await? {
            if let Some(doubt) = barrier.doubts.get_mut(&intent.folder) {
                doubt.intents.push(intent);
                continue;
            }
            let seen = look_at(&intent.folder, destination).await?;
            let folder = intent.folder.clone();
            barrier.doubts.insert(folder, Doubt { intents: vec![intent], seen, since: Instant::now() });
        }
        Ok(barrier)
    }

    /// Takes the doubts about messages of some source folders out, for whoever carries those.
    #[must_use]
    pub fn part(&mut self, sources: &BTreeSet<&FolderPath>) -> Self {
        let mut part = Self::default();
        for (folder, doubt) in &mut self.doubts {
            let (theirs, others): (Vec<Intent>, Vec<Intent>) = std::mem::take(&mut doubt.intents)
                .into_iter()
                .partition(|intent| sources.contains(&intent.source));
            doubt.intents = others;
            if !theirs.is_empty() {
                let doubt = Doubt { intents: theirs, seen: doubt.seen.clone(), since: doubt.since };
                part.doubts.insert(folder.clone(), doubt);
            }
        }
        part
    }

    /// The destination folders that messages of a source folder are in doubt in.
    pub fn folders(&self, source: &FolderPath) -> Vec<FolderPath> {
        let concerns = |doubt: &Doubt| doubt.intents.iter().any(|intent| intent.source == *source);
        self.doubts.iter().filter(|(_, doubt)| concerns(doubt)).map(|(folder, _)| folder.clone()).collect()
    }

    /// Whether messages of a source folder are in doubt.
    pub fn concerns(&self, source: &FolderPath) -> bool {
        self.intents(source).next().is_some()
    }

    fn intents(&self, source: &FolderPath) -> impl Iterator<Item = &Intent> {
        self.doubts.values().flat_map(|doubt| &doubt.intents).filter(move |intent| intent.source == *source)
    }

    /// The messages of a source folder that are in doubt.
    pub fn rows(&self, source: &FolderPath) -> BTreeSet<RowId> {
        self.intents(source).flat_map(|intent| intent.rows.iter().copied()).collect()
    }

    /// The mark behind which the destination folder of a plan must be looked through for what arrived; `None` where nothing is
    /// in doubt there.
    pub fn scan_from(&self, plan: &FolderPlan, arrived: &FolderState, marks: &dyn Marks) -> Option<Mark> {
        self.scan_in((&plan.source.path, &plan.destination), arrived, marks)
    }

    /// Epoch of a folder that messages of a source folder are in doubt in, and the mark behind which they may be.
    pub fn place_of(
        &self,
        source: &FolderPath,
        folder: &FolderPath,
        marks: &dyn Marks,
    ) -> Option<(Epoch, Mark)> {
        let here = self.intents(source).filter(|intent| intent.folder == *folder);
        here.map(|intent| (intent.epoch.clone(), intent.mark.clone())).reduce(|first, next| {
            let earlier = marks.earlier(&first.1, &next.1);
            if earlier == first.1 { first } else { (next.0, earlier) }
        })
    }

    /// As [`Self::scan_from`], for any folder that messages of the source folder are in doubt in.
    pub fn scan_in(
        &self,
        (source, folder): (&FolderPath, &FolderPath),
        arrived: &FolderState,
        marks: &dyn Marks,
    ) -> Option<Mark> {
        let here = self.intents(source).filter(|intent| intent.folder == *folder);
        let from = |intent: &Intent| {
            if intent.epoch == arrived.epoch { intent.mark.clone() } else { Mark::beginning() }
        };
        here.map(from).reduce(|a, b| marks.earlier(&a, &b))
    }

    /// Waits until the folders that messages of a source folder are in doubt in have not changed for the settle time; every
    /// change starts the time anew.
    ///
    /// # Errors
    /// Those of the session.
    pub async fn wait(
        &mut self,
        source: &FolderPath,
        destination: &mut dyn Destination,
        settle: Duration,
    ) -> Result<()> {
        for folder in self.folders(source) {
            self.wait_at(&folder, destination, settle).await?;
        }
        Ok(())
    }

    async fn wait_at(
        &mut self,
        folder: &FolderPath,
        destination: &mut dyn Destination,
        settle: Duration,
    ) -> Result<()> {
        let Some(doubt) = self.doubts.get_mut(folder) else { return Ok(()) };
        loop {
            // Also when the time is over already: what other folders took of it, nobody looked at this one.
            let now = look_at(folder, destination).await?;
            if now != doubt.seen {
                doubt.seen = now;
                doubt.since = Instant::now();
            }
            let still = doubt.since.elapsed();
            let Some(left) = settle.checked_sub(still).filter(|left| !left.is_zero()) else { return Ok(()) };
            sleep(LOOK_EVERY.min(left)).await;
        }
    }

    /// Ends the doubt about a source folder whose pass came to its end: late commits of our own are removed, the intents
    /// closed. Those of other source folders stay, also where they concern the same destination folder.
    ///
    /// # Errors
    /// Those of the ledger and of the session.
    pub(super) async fn lower(
        &mut self,
        source: &FolderPath,
        destination: &mut dyn Destination,
        ledger: &dyn Ledger,
        neighbours: &Neighbours,
        late: &Late<'_>,
    ) -> Result<()> {
        for doubt in self.doubts.values_mut() {
            let (theirs, others): (Vec<Intent>, Vec<Intent>) =
                std::mem::take(&mut doubt.intents).into_iter().partition(|intent| intent.source == *source);
            doubt.intents = others;
            for intent in theirs {
                remove_late_commits(&intent, destination, ledger, neighbours, late).await?;
                ledger.settle(&[], Some(intent.id)).await?;
            }
        }
        self.doubts.retain(|_, doubt| !doubt.intents.is_empty());
        Ok(())
    }
}

/// How a folder is now. One that is not there is like one without messages: nothing arrives in it.
async fn look_at(folder: &FolderPath, destination: &mut dyn Destination) -> Result<FolderState> {
    match destination.status(folder).await {
        // One that may not be looked at for now is seen as it is when it is opened.
        Err(failure) if failure.leaves_the_session() || failure.asks_to_come_later() => {
            Ok(FolderState::default())
        }
        looked => looked,
    }
}

/// Removes what came in after it had been sent again. Only messages that are byte for byte what this intent was about to
/// send, that came after it, that no other ledger owns (not even one whose mailbox should be another), and that are more than
/// this ledger counts, are provably our own.
/// A message counts only while its own copy is seen to lie there: the last copy of anything is never removed.
async fn remove_late_commits(
    intent: &Intent,
    destination: &mut dyn Destination,
    ledger: &dyn Ledger,
    neighbours: &Neighbours,
    late: &Late<'_>,
) -> Result<()> {
    let state = match destination.open(&intent.folder).await {
        Ok(state) if state.epoch == intent.epoch => state,
        // Another folder under the same name, or none.
        Ok(_) => return Ok(()),
        Err(failure) if failure.leaves_the_session() => return Ok(()),
        Err(failure) => return Err(failure),
    };
    let claimed = ledger.claimed(&intent.folder, &state.epoch).await?;
    let foreign = ledger.foreign(&intent.folder, &state.epoch).await?;
    let foreign: ItemIds = foreign.into_iter().map(|message| message.id).collect();
    let present = destination.list_since(&intent.mark).await?;
    let there: ItemIds = present.into_iter().map(|message| message.id).collect();
    let unknown: Vec<ItemId> =
        there.iter().filter(|id| !claimed.contains(id) && !foreign.contains(id)).collect();
    let unknown = neighbours.spare(&intent.folder, &state.epoch, unknown, |id| id).await?;
    if unknown.is_empty() {
        return Ok(());
    }
    let is_there = |row: &Row| {
        row.destination.as_ref().is_some_and(|(folder, arrival)| {
            *folder == intent.folder && arrival.epoch == state.epoch && there.contains(&arrival.id)
        })
    };
    let mut ours: HashMap<Digest, usize> = HashMap::new();
    for row in &ledger.rows_of(&intent.rows).await? {
        if let Some(known) = row.known.as_ref().filter(|_| is_there(row)) {
            *ours.entry(known.exact).or_default() += 1;
        }
    }
    let mut copies = Vec::new();
    for (id, identity) in read_identities(destination, &unknown).await? {
        if let Some(left) = ours.get_mut(&identity.exact).filter(|left| **left > 0) {
            *left -= 1;
            copies.push(id);
        }
    }
    // Asked last: whoever put a message there or saw it before it was listed has written that down by now.
    let (folder, epoch) = (&intent.folder, &state.epoch);
    let owned = neighbours.owned_elsewhere(folder, epoch, &copies).await;
    let (kept, copies): (Vec<ItemId>, Vec<ItemId>) = copies.into_iter().partition(|id| owned.contains(id));
    if !kept.is_empty() {
        late.note(folder, epoch, &kept, Stays::MayBeAnothers).await?;
    }
    if copies.is_empty() {
        return Ok(());
    }
    // A late copy that stays is better than a mailbox that never gets on.
    if !destination.abilities().removes_single {
        return late.note(folder, epoch, &copies, Stays::CannotBeRemoved).await;
    }
    match destination.expunge(&copies).await {
        Err(failure) if failure.class == Class::Refused => {
            late.note(folder, epoch, &copies, Stays::CannotBeRemoved).await
        }
        done => done,
    }
}
