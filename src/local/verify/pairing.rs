//! Pairs the messages of two folders as multisets, by what servers say of them or by digest. It knows nothing of how mail
//! was carried, so that it cannot be wrong in the same way. Pure.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use crate::model::message::{Flags, InternalDate, ItemId};

/// A message as one side shows it.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// Bytes.
    pub(super) size: u64,
    /// Its arrival date; `None` where the protocol tells none.
    pub(super) date: Option<InternalDate>,
    /// Its flags and keywords; `None` where the protocol has none.
    pub(super) flags: Option<Flags>,
    /// The BLAKE3 digest of its bytes, once they were read.
    pub(super) digest: Option<[u8; 32]>,
    /// Its id at the destination, or the one that the ledger remembers. It only chooses among messages that are alike, so
    /// that the right one of them is named.
    pub(super) place: Option<ItemId>,
}

impl Seen {
    /// The flags in one spelling and order.
    pub(super) fn plain_flags(&self) -> Option<String> {
        let words: BTreeSet<String> = self.flags.as_ref()?.iter().map(str::to_ascii_lowercase).collect();
        Some(words.into_iter().collect::<Vec<_>>().join(" "))
    }

    fn second(&self) -> Option<i64> {
        self.date.map(|date| date.unix)
    }
}

/// Which messages have found their like.
#[derive(Debug)]
pub(super) struct Pairing {
    /// Indexes of the source's messages and of the destination's.
    pub(super) pairs: Vec<(usize, usize)>,
    /// Messages of the source without their like.
    pub(super) wanted: BTreeSet<usize>,
    /// Messages of the destination without their like.
    pub(super) spare: BTreeSet<usize>,
}

impl Pairing {
    /// Nothing is paired yet.
    pub(super) fn new(wanted: usize, present: usize) -> Self {
        Self { pairs: Vec::new(), wanted: (0..wanted).collect(), spare: (0..present).collect() }
    }

    /// Pairs messages of equal size and date; where the source tells no dates, of equal size.
    pub(super) fn by_listing(&mut self, wanted: &[Seen], present: &[Seen]) {
        if wanted.iter().all(|message| message.date.is_some()) {
            self.best_first(wanted, present, |message| Some((message.size, message.second())));
        } else {
            self.best_first(wanted, present, |message| Some(message.size));
        }
    }

    /// Pairs messages of equal digest.
    pub(super) fn by_digest(&mut self, wanted: &[Seen], present: &[Seen]) {
        self.best_first(wanted, present, |message| message.digest);
    }

    /// Of messages that are alike, those pair first that are where they should be or agree in flags and date too.
    fn best_first<K: Hash + Eq>(
        &mut self,
        wanted: &[Seen],
        present: &[Seen],
        key: impl Fn(&Seen) -> Option<K>,
    ) {
        self.by(wanted, present, |m| Some((key(m)?, m.place.clone()?)));
        self.by(wanted, present, |m| Some((key(m)?, m.plain_flags()?, m.second()?)));
        self.by(wanted, present, |m| Some((key(m)?, m.plain_flags()?)));
        self.by(wanted, present, |m| Some((key(m)?, m.second()?)));
        self.by(wanted, present, key);
    }

    fn by<K: Hash + Eq>(&mut self, wanted: &[Seen], present: &[Seen], key: impl Fn(&Seen) -> Option<K>) {
        let mut free: HashMap<K, Vec<usize>> = HashMap::new();
        for at in self.spare.iter().rev() {
            if let Some(key) = key(&present[*at]) {
                free.entry(key).or_default().push(*at);
            }
        }
        let (pairs, spare) = (&mut self.pairs, &mut self.spare);
        self.wanted.retain(|at| {
            let like = key(&wanted[*at]).and_then(|key| free.get_mut(&key)?.pop());
            if let Some(like) = like {
                spare.remove(&like);
                pairs.push((*at, like));
            }
            like.is_none()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(size: u64, second: i64, flags: &str) -> Seen {
        let date = Some(InternalDate { unix: second, offset_minutes: 0 });
        Seen { size, date, flags: Some(Flags::parse(flags)), ..Seen::default() }
    }

    #[test]
    fn each_message_stands_for_one_and_the_likest_pair_first() {
        let wanted = [seen(5, 1, "\\Seen"), seen(5, 1, "a B"), seen(5, 1, ""), seen(6, 1, "")];
        let present = [seen(5, 1, "b A"), seen(5, 1, "\\Flagged"), seen(6, 2, ""), seen(5, 1, "\\seen")];
        let mut pairing = Pairing::new(wanted.len(), present.len());
        pairing.by_listing(&wanted, &present);
        pairing.pairs.sort_unstable();
        assert_eq!(pairing.pairs, [(0, 3), (1, 0), (2, 1)]);
        assert_eq!((pairing.wanted, pairing.spare), (BTreeSet::from([3]), BTreeSet::from([2])));
    }

    #[test]
    fn of_two_alike_the_one_at_its_place_is_taken() {
        let at = |uid: u32| Seen { place: Some(ItemId::Uid(uid)), ..seen(5, 1, "") };
        let mut pairing = Pairing::new(2, 1);
        pairing.by_listing(&[at(3), at(4)], &[Seen { place: at(4).place, ..seen(5, 1, "new") }]);
        assert_eq!(pairing.pairs, [(1, 0)]);
        let mut pairing = Pairing::new(1, 2);
        pairing.by_listing(&[at(9)], &[Seen { place: at(9).place, ..seen(6, 1, "") }, at(1)]);
        assert_eq!(pairing.pairs, [(0, 1)], "a place alone proves nothing");
    }

    #[test]
    fn without_dates_the_size_decides_and_a_digest_decides_over_all() {
        let undated = |size, digest| Seen { size, digest, ..Seen::default() };
        let wanted = [undated(5, None), undated(5, None)];
        let mut pairing = Pairing::new(2, 1);
        pairing.by_listing(&wanted, &[seen(5, 9, "")]);
        assert_eq!((pairing.pairs.len(), pairing.wanted.len()), (1, 1));
        let wanted = [undated(5, Some([1; 32])), undated(5, None)];
        let mut pairing = Pairing::new(2, 2);
        pairing.by_digest(&wanted, &[undated(5, None), undated(7, Some([1; 32]))]);
        assert_eq!(pairing.pairs, [(0, 1)]);
    }
}
