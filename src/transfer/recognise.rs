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
use crate::model::message::{Arrival, Flags, InternalDate, Verdict};
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
        from: u32,
        arrived: &FolderState,
    ) -> Result<Vec<Present>> {
        let folder = self.plan.destination.clone();
        let foreign = self.ledger.foreign(&folder, arrived.uidvalidity).await?;
        if arrived.messages == Some(0) {
            let gone: Vec<u32> = foreign.iter().map(|message| message.uid).collect();
            self.ledger.forget_foreign(&folder, arrived.uidvalidity, &gone).await?;
            return Ok(Vec::new());
        }
        let from = foreign.iter().map(|message| message.uid).min().map_or(from, |uid| uid.min(from));
        let listed = self.learn_foreign(&folder, arrived.uidvalidity, from, &foreign).await?;
        self.progress.enter_folder(&self.plan.source.path);
        Ok(listed)
    }

    /// Looks through the open destination folder from a UID on, and tells what was listed.
    async fn learn_foreign(
        &mut self,
        folder: &FolderPath,
        uidvalidity: u32,
        from: u32,
        foreign: &[Foreign],
    ) -> Result<Vec<Present>> {
        let listed = self.destination.list_from(from).await.at(|| folder.to_string())?;
        let present: BTreeSet<u32> = listed.iter().map(|message| message.uid).collect();
        let gone = foreign.iter().map(|message| message.uid).filter(|uid| !present.contains(uid));
        let gone: Vec<u32> = gone.filter(|uid| *uid >= from).collect();
        if !gone.is_empty() {
            self.ledger.forget_foreign(folder, uidvalidity, &gone).await?;
        }
        let mut known = self.ledger.claimed(folder, uidvalidity).await?;
        known.extend(foreign.iter().map(|message| message.uid));
        let unknown: Vec<u32> = present.difference(&known).copied().collect();
        let unknown = self.rules.neighbours.spare(folder, uidvalidity, unknown, |uid| *uid).await?;
        for part in unknown.chunks(READ_BACK) {
            self.progress.enter_phase(&format!("looking at what {folder} holds already"));
            let read = read_identities(self.destination, part).await?;
            self.keep_letters(folder, &read);
            let found: Vec<Foreign> = read
                .into_iter()
                .map(|(uid, identity)| Foreign { uid, known: known_from(&identity) })
                .collect();
            self.ledger.keep_foreign(folder, uidvalidity, &found).await?;
        }
        Ok(listed)
    }

    /// The messages in a destination folder that are neither this mailbox's nor a neighbour's.
    async fn foreign(&mut self, folder: &FolderPath, uidvalidity: u32) -> Result<Vec<Foreign>> {
        let foreign = self.ledger.foreign(folder, uidvalidity).await?;
        self.rules.neighbours.spare(folder, uidvalidity, foreign, |message| message.uid).await
    }

    /// Finds delivered messages again whose place at the destination is not known, because the folder got another
    /// UIDVALIDITY. Those that are not there were removed by somebody, and are left alone.
    pub(super) async fn rebind(&mut self, arrived: &FolderState) -> Result<()> {
        let folder = self.plan.destination.clone();
        let mut present: HashMap<_, Vec<u32>> = HashMap::new();
        for foreign in self.foreign(&folder, arrived.uidvalidity).await?.into_iter().rev() {
            present.entry(foreign.known.canonical).or_default().push(foreign.uid);
        }
        let mut found = Vec::new();
        for row in self.ledger.unbound(&self.plan.source.path).await? {
            if let Some(uid) = row.known.as_ref().and_then(|known| present.get_mut(&known.canonical)?.pop()) {
                let arrival = Arrival { uidvalidity: arrived.uidvalidity, uid };
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
            let state = if here {
                arrived.clone()
            } else {
                away = true;
                match self.destination.open(&folder).await {
                    Ok(state) => state,
                    // A folder that is there and cannot be opened may hold what is in doubt: nothing of it is sent again.
                    Err(failure) if failure.leaves_the_session() && !self.is_listed(&folder).await? => {
                        FolderState::default()
                    }
                    Err(failure) => return Err(failure.side(Side::Destination)),
                }
            };
            // Read for each folder, for what was found in one is no longer in doubt.
            let told: Vec<Row> = (self.ledger.rows_of(&ids).await?.into_iter())
                .filter(|row| row.verdict == Verdict::Pending)
                .filter(|row| row.destination.as_ref().is_some_and(|(at, _)| *at == folder))
                .collect();
            self.confirm(told, &state).await?;
            let from = barrier.scan_in(&source, &folder, &state).unwrap_or(1);
            if !here && state.messages.is_some_and(|messages| messages > 0) {
                let foreign = self.ledger.foreign(&folder, state.uidvalidity).await?;
                let foreign: Vec<Foreign> = foreign.into_iter().filter(|f| f.uid >= from).collect();
                self.learn_foreign(&folder, state.uidvalidity, from, &foreign).await?;
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

    /// Looks whether messages are where the destination said that they are. The folder is open.
    async fn confirm(&mut self, told: Vec<Row>, state: &FolderState) -> Result<()> {
        if told.is_empty() {
            return Ok(());
        }
        let mut copied = Copied::default();
        let mut settled_now: Vec<Settled> = Vec::new();
        let mut marked = BTreeSet::new();
        for row in told {
            let at = row.destination.filter(|(_, arrival)| arrival.uidvalidity == state.uidvalidity);
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
        let has: HashMap<u32, &Flags> = listed.iter().map(|present| (present.uid, &present.flags)).collect();
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
                    letter: None,
                    message_id: None,
                };
                candidates.add(known.canonical, candidate);
            }
        }
        let mut places = vec![(self.plan.destination.clone(), arrived.uidvalidity, 1)];
        for folder in barrier.folders(&self.plan.source.path) {
            if folder != self.plan.destination
                && let Some((uidvalidity, from)) = barrier.place_of(&self.plan.source.path, &folder)
            {
                places.push((folder, uidvalidity, from));
            }
        }
        for (folder, uidvalidity, from) in places {
            let foreigners = self.foreign(&folder, uidvalidity).await?;
            let letters = self.letters.get(&folder);
            let here = folder == self.plan.destination && uidvalidity == arrived.uidvalidity;
            for foreign in foreigners {
                if foreign.uid < from {
                    continue;
                }
                let candidate = Candidate {
                    row: None,
                    destination: Some((folder.clone(), Arrival { uidvalidity, uid: foreign.uid })),
                    verdict: Verdict::Delivered,
                    flags: None,
                    has: has.get(&foreign.uid).filter(|_| here).map(|flags| (*flags).clone()),
                    exact: foreign.known.exact,
                    size: None,
                    letter: letters.and_then(|letters| letters.get(&foreign.uid).copied()),
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
        uidnext: u32,
    ) -> Result<Checked> {
        let mut checked = self.check_places(copied, arrived, uidnext).await?;
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
        uidnext: u32,
    ) -> Result<Checked> {
        let could_be = |arrival: &Arrival| {
            arrival.uidvalidity == arrived.uidvalidity
                && arrival.uid >= arrived.uidnext.map_or(1, |_| uidnext)
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
            copied.settled[at].verdict = verdict;
            copied.settled[at].destination = None;
        }
        self.locate(copied, arrived, uidnext).await?;
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
        uidnext: u32,
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
        let mut taken = self.ledger.claimed(&folder, arrived.uidvalidity).await?;
        taken.extend(self.ledger.foreign(&folder, arrived.uidvalidity).await?.iter().map(|f| f.uid));
        taken.extend(copied.settled.iter().filter_map(|s| s.destination.as_ref()).map(|(_, a)| a.uid));
        let present = self.destination.list_from(uidnext).await.at(|| folder.to_string())?;
        let dates: HashMap<u32, Option<InternalDate>> =
            present.iter().map(|present| (present.uid, present.date)).collect();
        let fresh: Vec<u32> = present.iter().map(|p| p.uid).filter(|uid| !taken.contains(uid)).collect();
        let fresh = self.rules.neighbours.spare(&folder, arrived.uidvalidity, fresh, |uid| *uid).await?;
        let arrival = |uid| Some((folder.clone(), Arrival { uidvalidity: arrived.uidvalidity, uid }));
        let mut others: Vec<(u32, Identity)> = Vec::new();
        for part in fresh.chunks(READ_BACK) {
            for (uid, identity) in read_identities(self.destination, part).await? {
                match unknown.get_mut(&identity.canonical).and_then(Vec::pop) {
                    Some(at) => copied.settled[at].destination = arrival(uid),
                    None => others.push((uid, identity)),
                }
            }
        }
        // In the order in which they were sent, which is that of their UIDs.
        let mut missing: Vec<usize> = unknown.into_values().flatten().collect();
        missing.sort_unstable();
        for at in missing {
            let settled = &mut copied.settled[at];
            let Some(passed) = copied.passed.get(&settled.id) else { continue };
            let like = |(uid, identity): &(u32, Identity)| {
                is_same_letter(passed, identity, dates.get(uid).copied().flatten())
            };
            let Some(found) = others.iter().position(like) else { continue };
            let (uid, identity) = others.remove(found);
            settled.destination = arrival(uid);
            if let Some((verdict, refused)) = judge_arrival(passed, &identity) {
                settled.verdict = verdict;
                settled.refused = refused;
            }
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
