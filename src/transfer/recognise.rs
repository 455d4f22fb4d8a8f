//! What lies at the destination already, and what was carried under a name that is void now: how a folder's pass finds
//! messages again instead of sending them twice.

use std::collections::{BTreeSet, HashMap};

use super::candidates::{Candidate, Candidates};
use super::folder::{FolderPass, is_reachable, settled};
use super::pipeline::{Copied, Work, known_from};
use super::verify::{Checked, check_arrivals, read_identities};
use crate::ledger::{Foreign, Row, RowId};
use crate::mail::{FolderState, Listed};
use crate::model::failure::{Place, Result};
use crate::model::folder::FolderPath;
use crate::model::message::{Arrival, Flags, Verdict};

/// Messages read back at once to learn what they are.
const READ_BACK: usize = 200;

impl FolderPass<'_> {
    /// Learns what lies in the destination folder that this ledger did not put there.
    pub(super) async fn scan_destination(&mut self, from: u32, arrived: &FolderState) -> Result<()> {
        let folder = &self.plan.destination;
        if arrived.messages == 0 {
            return Ok(());
        }
        let present = self.destination.list_from(from).await.at(|| folder.to_string())?;
        let mut known = self.ledger.claimed(folder, arrived.uidvalidity).await?;
        known.extend(self.ledger.foreign(folder, arrived.uidvalidity).await?.iter().map(|f| f.uid));
        let unknown: Vec<u32> = present.iter().map(|p| p.uid).filter(|uid| !known.contains(uid)).collect();
        let unknown = self.rules.neighbours.spare(folder, arrived.uidvalidity, unknown, |uid| *uid).await?;
        for part in unknown.chunks(READ_BACK) {
            self.progress.enter_phase(&format!("looking at what {folder} holds already"));
            let found: Vec<Foreign> = read_identities(self.destination, part)
                .await?
                .into_iter()
                .map(|(uid, identity)| Foreign { uid, known: known_from(&identity) })
                .collect();
            self.ledger.keep_foreign(folder, arrived.uidvalidity, &found).await?;
        }
        self.progress.enter_phase(&self.plan.source.path.to_string());
        Ok(())
    }

    /// What lies in the destination folder and is nobody's: neither this mailbox's nor a neighbour's.
    async fn foreign(&mut self, arrived: &FolderState) -> Result<Vec<Foreign>> {
        let folder = &self.plan.destination;
        let foreign = self.ledger.foreign(folder, arrived.uidvalidity).await?;
        self.rules.neighbours.spare(folder, arrived.uidvalidity, foreign, |message| message.uid).await
    }

    /// Finds delivered messages again whose place at the destination is not known: the folder got another UIDVALIDITY, or
    /// the server did not say where they went. Returns those that are not there.
    pub(super) async fn rebind(&mut self, arrived: &FolderState) -> Result<Vec<Row>> {
        let folder = &self.plan.destination;
        let mut present: HashMap<_, Vec<u32>> = HashMap::new();
        for foreign in self.foreign(arrived).await?.into_iter().rev() {
            present.entry(foreign.known.canonical).or_default().push(foreign.uid);
        }
        let mut found = Vec::new();
        let mut lost = Vec::new();
        for row in self.ledger.rows(&self.plan.source.path).await?.into_iter().filter(is_unbound) {
            match row.known.as_ref().and_then(|known| present.get_mut(&known.canonical)?.pop()) {
                Some(uid) => found.push(settled(
                    row.id,
                    Some((folder.clone(), Arrival { uidvalidity: arrived.uidvalidity, uid })),
                    row.verdict,
                )),
                None => lost.push(row),
            }
        }
        self.ledger.settle(&found, None).await?;
        Ok(lost)
    }

    /// Puts messages back to work that were delivered and are no longer at the destination. Those under void locators
    /// cannot be fetched: they are forgotten, and carried under the locator by which they are listed now.
    pub(super) async fn carry_again(
        &mut self,
        lost: Vec<Row>,
        void: &mut Vec<Row>,
        state: &FolderState,
    ) -> Result<Vec<Work>> {
        let (reachable, unreachable): (Vec<Row>, Vec<Row>) =
            lost.into_iter().partition(|row| is_reachable(&row.locator, state));
        let unreachable: BTreeSet<RowId> = unreachable.iter().map(|row| row.id).collect();
        void.retain(|row| !unreachable.contains(&row.id));
        self.ledger.forget(&unreachable.into_iter().collect::<Vec<_>>()).await?;
        let work: Vec<Work> = reachable
            .into_iter()
            .filter(|row| !row.gone)
            .map(|row| Work {
                row: row.id,
                listed: Listed {
                    locator: row.locator,
                    size: row.size,
                    date: row.date,
                    flags: Some(row.flags),
                },
                tried: Flags::default(),
            })
            .collect();
        self.ledger.reopen(&work.iter().map(|work| work.row).collect::<Vec<_>>()).await?;
        Ok(work)
    }

    /// Gathers what a message to copy may turn out to be.
    pub(super) async fn gather_candidates(
        &mut self,
        void: &[Row],
        arrived: &FolderState,
    ) -> Result<Candidates> {
        let folder = &self.plan.destination;
        let mut candidates = Candidates::default();
        let void: BTreeSet<RowId> = void.iter().map(|row| row.id).collect();
        let rows =
            if void.is_empty() { Vec::new() } else { self.ledger.rows(&self.plan.source.path).await? };
        // Read again, for they may have been found at another place since.
        for row in rows.into_iter().filter(|row| void.contains(&row.id)) {
            if let Some(known) = row.known {
                let candidate = Candidate {
                    row: Some(row.id),
                    destination: row.destination,
                    verdict: row.verdict,
                    flags: Some(row.flags),
                    exact: known.exact,
                };
                candidates.add(known.canonical, candidate);
            }
        }
        for foreign in self.foreign(arrived).await? {
            let arrival = Arrival { uidvalidity: arrived.uidvalidity, uid: foreign.uid };
            let candidate = Candidate {
                row: None,
                destination: Some((folder.clone(), arrival)),
                verdict: Verdict::Delivered,
                flags: None,
                exact: foreign.known.exact,
            };
            candidates.add(foreign.known.canonical, candidate);
        }
        Ok(candidates)
    }

    /// Checks what arrived. A server that tells a wrong place for one message is believed for none: the messages are looked
    /// for by what they are.
    pub(super) async fn check(
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
            if let (Verdict::Delivered, Some((_, arrival))) = (&settled.verdict, &settled.destination)
                && !copied.recognised.iter().any(|recognised| recognised.row == settled.id)
            {
                told.push((at, arrival.clone()));
            }
        }
        let mut misplaced = told.iter().any(|(_, arrival)| !could_be(arrival));
        let mut checked = Checked::default();
        if !misplaced {
            checked = check_arrivals(self.destination, copied, self.rules.depth).await?;
            misplaced = checked.misplaced;
        }
        if !misplaced {
            return Ok(checked);
        }
        for (at, _) in &told {
            copied.settled[*at].verdict = Verdict::Delivered;
            copied.settled[*at].destination = None;
        }
        self.locate(copied, arrived, uidnext).await?;
        // What cannot be found by its digest may have been altered: then the place it was told at may be right after all.
        let found = copied.settled.iter().filter_map(|settled| settled.destination.as_ref());
        let mut taken: BTreeSet<u32> = found.map(|(_, arrival)| arrival.uid).collect();
        for (at, arrival) in told {
            let settled = &mut copied.settled[at];
            if settled.destination.is_none() && could_be(&arrival) && taken.insert(arrival.uid) {
                settled.destination = Some((self.plan.destination.clone(), arrival));
            }
        }
        let again = check_arrivals(self.destination, copied, self.rules.depth).await?;
        Ok(Checked { sizes: checked.sizes + again.sizes, digests: checked.digests + again.digests, ..again })
    }

    /// Finds out where messages went when the server did not say so (no UIDPLUS). Otherwise they could not be told from
    /// foreign ones later: a second, equal message would be taken for the first, and flags would find nobody.
    pub(super) async fn locate(
        &mut self,
        copied: &mut Copied,
        arrived: &FolderState,
        uidnext: u32,
    ) -> Result<()> {
        let folder = &self.plan.destination;
        let mut unknown: HashMap<_, Vec<usize>> = HashMap::new();
        for (at, settled) in copied.settled.iter().enumerate().rev() {
            if let (Verdict::Delivered, None, Some(known)) =
                (&settled.verdict, &settled.destination, &settled.known)
            {
                unknown.entry(known.canonical).or_default().push(at);
            }
        }
        if unknown.is_empty() {
            return Ok(());
        }
        let mut taken = self.ledger.claimed(folder, arrived.uidvalidity).await?;
        taken.extend(self.ledger.foreign(folder, arrived.uidvalidity).await?.iter().map(|f| f.uid));
        taken.extend(copied.settled.iter().filter_map(|s| s.destination.as_ref()).map(|(_, a)| a.uid));
        let present = self.destination.list_from(uidnext).await.at(|| folder.to_string())?;
        let fresh: Vec<u32> = present.iter().map(|p| p.uid).filter(|uid| !taken.contains(uid)).collect();
        let fresh = self.rules.neighbours.spare(folder, arrived.uidvalidity, fresh, |uid| *uid).await?;
        for part in fresh.chunks(READ_BACK) {
            for (uid, identity) in read_identities(self.destination, part).await? {
                if let Some(at) = unknown.get_mut(&identity.canonical).and_then(Vec::pop) {
                    let arrival = Arrival { uidvalidity: arrived.uidvalidity, uid };
                    copied.settled[at].destination = Some((folder.clone(), arrival));
                }
            }
        }
        Ok(())
    }
}

/// Whether a message was seen in this folder under another UIDVALIDITY, so that nobody knows its UID now.
pub(super) fn is_elsewhere(row: &Row, folder: &FolderPath, uidvalidity: u32) -> bool {
    row.destination.as_ref().is_some_and(|(at, arrival)| at == folder && arrival.uidvalidity != uidvalidity)
}

/// Whether a message is at the destination and nobody knows where.
pub(super) fn is_unbound(row: &Row) -> bool {
    row.verdict.is_delivered() && row.destination.is_none()
}
