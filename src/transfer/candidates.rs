//! Messages that may be recognised instead of sent: those at the destination already, and those carried under another
//! name (another protocol, another UIDVALIDITY). Matching is by canonical digest and as a multiset: each candidate
//! stands for one message only, so two identical messages stay two.
//!
//! A destination that replaces letters beyond ASCII in headers, or adds header lines of its own, makes another digest of each
//! message. A message that is found in no other way is found by the digest of its form at such a destination, or by its
//! letter digest and Message-ID, after all others: unchanged messages must be found first, so that none of two messages
//! that differ in their headers alone is taken for the other while that one waits.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::ledger::{Known, RowId};
use crate::model::folder::FolderPath;
use crate::model::identity::{Digest, Identity};
use crate::model::message::{Arrival, Flags, Verdict};

/// One message that a wanted message may turn out to be.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The row that carried it under a name now void; `None` for a message that this ledger did not send.
    pub row: Option<RowId>,
    /// Where it is at the destination, if that is known.
    pub destination: Option<(FolderPath, Arrival)>,
    /// The outcome for it.
    pub verdict: Verdict,
    /// The flags it was given; `None` when they are unknown, so that the source's are set anew.
    pub flags: Option<Flags>,
    /// The flags that it has at the destination, where it was listed just now.
    pub has: Option<Flags>,
    /// Its exact digest, of the bytes that were sent where this ledger sent it.
    pub exact: Digest,
    /// Their number, where this ledger sent it.
    pub size: Option<u64>,
    /// The exact digest of what the destination stored, where it is known to be another one.
    pub stored: Option<Digest>,
    /// Its letter digest, where it is known, of a message that this ledger did not send.
    pub letter: Option<Digest>,
    /// Its Message-ID.
    pub message_id: Option<String>,
}

/// The difference between a message and what lies at the destination in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherHeader {
    /// Letters beyond ASCII were replaced in its header, and nothing else.
    Letters,
    /// Header lines were added, left out or changed.
    Lines,
}

/// A multiset of candidates by canonical digest.
#[derive(Debug, Default)]
pub struct Candidates {
    by_canonical: HashMap<Digest, VecDeque<Candidate>>,
    left: usize,
    /// The canonical digests of those with a letter digest, by that.
    by_letter: HashMap<Digest, BTreeSet<Digest>>,
    /// Whether all were looked for that are there as they were.
    late: bool,
    /// For a folder that only shows messages: how many of each the other folders hold.
    shown: Option<HashMap<Digest, u32>>,
}

impl Candidates {
    /// Adds one.
    pub fn add(&mut self, canonical: Digest, candidate: Candidate) {
        if let Some(letter) = candidate.letter {
            self.by_letter.entry(letter).or_default().insert(canonical);
        }
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

    /// From now on messages are also found that are not there as they were.
    pub fn come_late(&mut self) {
        self.late = true;
    }

    /// Whether a message may be there with another header, and it is too early to say.
    pub fn may_come_late(&self, identity: &Identity) -> bool {
        !self.late && self.find_late(identity).is_some()
    }

    /// Takes a candidate that is the message with another header, once it is late enough, and says in what it is another one.
    pub fn take_late(&mut self, identity: &Identity) -> Option<(Candidate, OtherHeader)> {
        let (canonical, at, how) = self.find_late(identity).filter(|_| self.late)?;
        let taken = self.by_canonical.get_mut(&canonical)?.remove(at)?;
        self.left -= 1;
        Some((taken, how))
    }

    fn find_late(&self, identity: &Identity) -> Option<(Digest, usize, OtherHeader)> {
        let rewritten = identity.rewritten.iter().find_map(|canonical| {
            // A message that this ledger sent is known as it was sent.
            let at =
                self.by_canonical.get(canonical)?.iter().position(|candidate| candidate.row.is_none())?;
            Some((*canonical, at, OtherHeader::Letters))
        });
        rewritten.or_else(|| {
            let (canonical, at) = self.find_letter(identity)?;
            Some((canonical, at, OtherHeader::Lines))
        })
    }

    fn find_letter(&self, identity: &Identity) -> Option<(Digest, usize)> {
        let letter = identity.letter?;
        // The destination may have given it a Message-ID, and gives none another.
        let is_it = |candidate: &Candidate| {
            candidate.letter == Some(letter)
                && (identity.message_id.is_none() || identity.message_id == candidate.message_id)
        };
        self.by_letter.get(&letter)?.iter().find_map(|canonical| {
            Some((*canonical, self.by_canonical.get(canonical)?.iter().position(is_it)?))
        })
    }

    /// Rows that nothing was recognised as.
    pub fn into_rows(self) -> impl Iterator<Item = RowId> {
        self.by_canonical.into_values().flatten().filter_map(|candidate| candidate.row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::identity::IdentityHasher;

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
                has: None,
                exact: Digest([exact; 32]),
                size: None,
                stored: None,
                letter: None,
                message_id: None,
            };
            candidates.add(Digest([9; 32]), candidate);
        }
        assert_eq!(candidates.take(&known(2, 9)).unwrap().row, Some(8), "the byte-identical one");
        assert_eq!(candidates.take(&known(2, 9)).unwrap().row, Some(7), "our own before a foreign one");
        assert_eq!(candidates.take(&known(2, 9)).unwrap().row, None);
        assert!(candidates.take(&known(2, 9)).is_none() && candidates.is_empty());
    }

    fn identity(message: &str) -> Identity {
        let mut hasher = IdentityHasher::new();
        hasher.update(message.as_bytes());
        hasher.finish()
    }

    fn lying(message: &str) -> (Digest, Candidate) {
        let identity = identity(message);
        let candidate = Candidate {
            row: None,
            destination: None,
            verdict: Verdict::Delivered,
            flags: None,
            has: None,
            exact: identity.exact,
            size: None,
            stored: None,
            letter: identity.letter,
            message_id: identity.message_id,
        };
        (identity.canonical, candidate)
    }

    #[test]
    fn a_letter_with_another_header_is_found_late_and_once_for_each_that_lies_there() {
        let letter = |head: &str| {
            format!("{head}From: a\r\nDate: Thu, 7 Mar 2019 08:15:42 +0100\r\nSubject: s\r\n\r\nx\r\n")
        };
        let mut candidates = Candidates::default();
        for head in ["Message-ID: <1@a>\r\nX-Server: seen\r\n", "Message-ID: <made@b>\r\n"] {
            let (canonical, candidate) = lying(&letter(head));
            candidates.add(canonical, candidate);
        }
        let sent = identity(&letter("Message-ID: <1@a>\r\n"));
        assert!(candidates.may_come_late(&sent) && candidates.take_late(&sent).is_none(), "too early");
        candidates.come_late();
        assert!(candidates.take_late(&identity(&letter("Message-ID: <2@a>\r\n"))).is_none());
        assert!(candidates.take_late(&identity(&letter("").replace("x\r\n", "y\r\n"))).is_none());
        assert!(candidates.take_late(&sent).is_some() && candidates.take_late(&sent).is_none());
        let without = identity(&letter(""));
        assert_eq!(candidates.take_late(&without).unwrap().0.message_id.as_deref(), Some("made@b"));
        assert!(candidates.take_late(&without).is_none() && candidates.is_empty());
    }

    #[test]
    fn a_header_whose_letters_were_replaced_is_found_late_and_stands_for_one_of_those_that_became_alike() {
        let letter = |subject: &str| format!("Subject: {subject}\r\n\r\nx\r\n");
        let mut candidates = Candidates::default();
        for subject in ["grXXe", "gr?e", "gr??e", "grXXt"] {
            let (canonical, candidate) = lying(&letter(subject));
            candidates.add(canonical, candidate);
        }
        let sent = |subject: &str| identity(&letter(subject));
        assert!(candidates.may_come_late(&sent("grüe")) && candidates.take_late(&sent("grüe")).is_none());
        candidates.come_late();
        let taken: Vec<bool> = ["grüe", "gröe", "gräe", "grée", "große", "grXXt", "grüX"]
            .map(|subject| candidates.take_late(&sent(subject)).is_some())
            .to_vec();
        // Three are taken, for three that differ in that letter alone; what is ASCII is nothing that was replaced.
        assert_eq!(taken, [true, true, true, false, false, false, false]);
        assert!(candidates.take(&crate::transfer::pipeline::known_from(&sent("grXXt"))).is_some());
    }
}
