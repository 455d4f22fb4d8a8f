//! After a cut, a kill or a time-out nobody knows which of the last messages arrived, and a server goes on committing
//! after the client is gone (measured: for more than half a second). So a folder with messages in doubt waits until it
//! stands still; then what arrived is recognised, and only the rest is sent again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::late::Late;
use super::neighbours::Neighbours;
use super::verify::read_identities;
use crate::ledger::{Intent, Ledger, Row};
use crate::mail::{Destination, FolderState};
use crate::model::failure::{Class, Result};
use crate::model::folder::FolderPath;
use crate::model::identity::Digest;

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
            let seen = destination.status(&intent.folder).await.unwrap_or_default();
            let folder = intent.folder.clone();
            barrier.doubts.insert(folder, Doubt { intents: vec![intent], seen, since: Instant::now() });
        }
        Ok(barrier)
    }

    /// Takes the doubts about one folder out, for whoever carries that folder.
    #[must_use]
    pub fn part(&mut self, folder: &FolderPath) -> Self {
        Self { doubts: self.doubts.remove_entry(folder).into_iter().collect() }
    }

    /// Whether a destination folder has messages in doubt.
    pub fn concerns(&self, folder: &FolderPath) -> bool {
        self.doubts.contains_key(folder)
    }

    /// From which UID on the folder must be looked through for what arrived; `None` where nothing is in doubt.
    pub fn scan_from(&self, folder: &FolderPath, uidvalidity: u32) -> Option<u32> {
        let intents = &self.doubts.get(folder)?.intents;
        if intents.iter().any(|intent| intent.uidvalidity != uidvalidity) {
            return Some(1);
        }
        intents.iter().map(|intent| intent.uidnext).min()
    }

    /// Waits until the folder has stood still for the settle time; every change starts the time anew.
    ///
    /// # Errors
    /// Those of the session.
    pub async fn wait(
        &mut self,
        folder: &FolderPath,
        destination: &mut dyn Destination,
        settle: Duration,
    ) -> Result<()> {
        let Some(doubt) = self.doubts.get_mut(folder) else { return Ok(()) };
        loop {
            // Also when the time is over already: what other folders took of it, nobody looked at this one.
            let now = destination.status(folder).await.unwrap_or_default();
            if now != doubt.seen {
                doubt.seen = now;
                doubt.since = Instant::now();
            }
            let still = doubt.since.elapsed();
            let Some(left) = settle.checked_sub(still).filter(|left| !left.is_zero()) else { return Ok(()) };
            sleep(LOOK_EVERY.min(left)).await;
        }
    }

    /// Ends the doubt about a folder whose pass came to its end: late commits of our own are removed, the intents closed.
    ///
    /// # Errors
    /// Those of the ledger and of the session.
    pub(super) async fn lower(
        &mut self,
        folder: &FolderPath,
        destination: &mut dyn Destination,
        ledger: &dyn Ledger,
        neighbours: &Neighbours,
        late: &Late<'_>,
    ) -> Result<()> {
        let Some(doubt) = self.doubts.remove(folder) else { return Ok(()) };
        for intent in &doubt.intents {
            remove_late_commits(intent, destination, ledger, neighbours, late).await?;
            ledger.settle(&[], Some(intent.id)).await?;
        }
        Ok(())
    }
}

/// Removes what came in after it had been sent again. Only messages that are byte for byte what this intent was about to
/// send, that came after it, that no other ledger owns, and that are more than this ledger counts, are provably our own.
/// A message counts only while its own copy is seen to lie there: the last copy of anything is never removed.
async fn remove_late_commits(
    intent: &Intent,
    destination: &mut dyn Destination,
    ledger: &dyn Ledger,
    neighbours: &Neighbours,
    late: &Late<'_>,
) -> Result<()> {
    let state = destination.open(&intent.folder).await?;
    if state.uidvalidity != intent.uidvalidity {
        return Ok(());
    }
    let claimed = ledger.claimed(&intent.folder, state.uidvalidity).await?;
    let foreign = ledger.foreign(&intent.folder, state.uidvalidity).await?;
    let present = destination.list_from(intent.uidnext.max(1)).await?;
    let unknown: Vec<u32> = present
        .iter()
        .map(|message| message.uid)
        .filter(|uid| !claimed.contains(uid) && !foreign.iter().any(|message| message.uid == *uid))
        .collect();
    let unknown = neighbours.spare(&intent.folder, state.uidvalidity, unknown, |uid| *uid).await?;
    if unknown.is_empty() {
        return Ok(());
    }
    let there: BTreeSet<u32> = present.iter().map(|message| message.uid).collect();
    let stands = |row: &Row| {
        row.destination.as_ref().is_some_and(|(folder, arrival)| {
            *folder == intent.folder
                && arrival.uidvalidity == state.uidvalidity
                && there.contains(&arrival.uid)
        })
    };
    let mut ours: HashMap<Digest, usize> = HashMap::new();
    let mut after = 0;
    loop {
        let page = ledger.page(after, 1000).await?;
        let Some(last) = page.last() else { break };
        after = last.id;
        for row in page.iter().filter(|row| intent.rows.binary_search(&row.id).is_ok()) {
            if let Some(known) = row.known.as_ref().filter(|_| stands(row)) {
                *ours.entry(known.exact).or_default() += 1;
            }
        }
    }
    let mut copies = Vec::new();
    for (uid, identity) in read_identities(destination, &unknown).await? {
        if let Some(left) = ours.get_mut(&identity.exact).filter(|left| **left > 0) {
            *left -= 1;
            copies.push(uid);
        }
    }
    if copies.is_empty() {
        return Ok(());
    }
    match destination.expunge(&copies).await {
        // A server without UIDPLUS cannot remove single messages. A late copy that stays is better than a mailbox that
        // never gets on.
        Err(failure) if failure.class == Class::Refused => {
            late.note(&intent.folder, state.uidvalidity, &copies).await
        }
        done => done,
    }
}
