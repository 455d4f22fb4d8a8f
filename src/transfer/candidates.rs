//! Messages that may be recognised instead of sent: what lies at the destination already, and what was carried under
//! another name (another protocol, another UIDVALIDITY). Matching is by canonical digest and as a multiset: each candidate
//! stands for one message only, so two identical messages stay two.

use std::collections::{HashMap, VecDeque};

use crate::ledger::{Known, RowId};
use crate::model::folder::FolderPath;
use crate::model::identity::Digest;
use crate::model::message::{Arrival, Flags, Verdict};

/// One message that a wanted message may turn out to be.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The row that carried it under a name now void; `None` for a message that this ledger did not send.
    pub row: Option<RowId>,
    /// Where it is at the destination, if that is known.
    pub destination: Option<(FolderPath, Arrival)>,
    /// What became of it.
    pub verdict: Verdict,
    /// The flags it was given; `None` when they are unknown, so that the source's are set anew.
    pub flags: Option<Flags>,
    /// Its exact digest.
    pub exact: Digest,
}

/// A multiset of candidates by canonical digest.
#[derive(Debug, Default)]
pub struct Candidates {
    by_canonical: HashMap<Digest, VecDeque<Candidate>>,
    left: usize,
    /// For a folder that only shows messages: how many of each the other folders hold.
    shown: Option<HashMap<Digest, u32>>,
}

impl Candidates {
    /// Adds one.
    pub fn add(&mut self, canonical: Digest, candidate: Candidate) {
        self.by_canonical.entry(canonical).or_default().push_back(candidate);
        self.left += 1;
    }

    /// Says what other folders of the mailbox hold, for a folder that only shows it.
    pub fn show(&mut self, held: HashMap<Digest, u32>) {
        self.shown = Some(held);
    }

    /// Whether another folder holds a message that this folder shows.
    pub fn take_shown(&mut self, known: &Known) -> bool {
        let held = self.shown.as_mut().and_then(|shown| shown.get_mut(&known.canonical));
        held.filter(|left| **left > 0).map(|left| *left -= 1).is_some()
    }

    /// Whether nothing can be recognised any more.
    pub fn is_empty(&self) -> bool {
        self.left == 0 && self.shown.is_none()
    }

    /// Takes the best candidate for a message: byte-identical ones before others, our own rows before foreign ones.
    pub fn take(&mut self, known: &Known) -> Option<Candidate> {
        let same = self.by_canonical.get_mut(&known.canonical)?;
        let best = (0..same.len()).max_by_key(|at| {
            let candidate = &same[*at];
            // Of equals the oldest: max_by_key keeps the last, so the index counts against it.
            (candidate.exact == known.exact, candidate.row.is_some(), std::cmp::Reverse(*at))
        })?;
        let taken = same.remove(best)?;
        self.left -= 1;
        Some(taken)
    }

    /// Rows that nothing was recognised as.
    pub fn into_rows(self) -> impl Iterator<Item = RowId> {
        self.by_canonical.into_values().flatten().filter_map(|candidate| candidate.row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(exact: u8, canonical: u8) -> Known {
        Known {
            exact: Digest([exact; 32]),
            canonical: Digest([canonical; 32]),
            message_id: None,
            subject: None,
        }
    }

    #[test]
    fn each_candidate_stands_for_one_message() {
        let mut candidates = Candidates::default();
        for (row, exact) in [(None, 1), (Some(7), 1), (Some(8), 2)] {
            let candidate = Candidate {
                row,
                destination: None,
                verdict: Verdict::Delivered,
                flags: None,
                exact: Digest([exact; 32]),
            };
            candidates.add(Digest([9; 32]), candidate);
        }
        assert_eq!(candidates.take(&known(2, 9)).unwrap().row, Some(8), "the byte-identical one");
        assert_eq!(candidates.take(&known(2, 9)).unwrap().row, Some(7), "our own before a foreign one");
        assert_eq!(candidates.take(&known(2, 9)).unwrap().row, None);
        assert!(candidates.take(&known(2, 9)).is_none() && candidates.is_empty());
    }
}
