//! By which names the messages of a maildrop are known from one session to the next: their unique ids, as far as those name one
//! message each.

use std::collections::{HashMap, HashSet};

use super::session::Entry;
use crate::model::message::SHARED;

/// The longest unique id that is kept as it is, in bytes; RFC 1939 says 70.
const UIDL_MAX: usize = 255;

/// The lasting name that a unique id stands for: the id, whatever letters it has. For an id that is not text, is very
/// long, or could be taken for a shared name, the digest is as good a name and can be kept everywhere.
pub(super) fn lasting_name(id: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(id).ok();
    let text =
        text.filter(|text| text.len() <= UIDL_MAX && !text.chars().any(|c| c.is_control() || c == SHARED));
    let digest = || format!("{SHARED}{}", blake3::hash(id).to_hex());
    (!id.is_empty()).then(|| text.map_or_else(digest, str::to_owned))
}

/// Joins UIDL and LIST. RFC 1939 §7 lets a server give identical messages the same id, and servers give it to others as well.
/// Such an id names none of them: each gets a shared name, by its place among them, which is good for this session
/// only. A message that only one of the two lists, or that one lists twice, is counted and left out.
pub(super) fn join(mut ids: Vec<(u32, String)>, sizes: Vec<Entry>) -> (Vec<(String, Entry)>, u32) {
    // The first of several with one number counts.
    ids.sort_by_key(|(number, _)| *number);
    ids.dedup_by_key(|(number, _)| *number);
    let mut by_number: HashMap<u32, Entry> = HashMap::with_capacity(sizes.len());
    for entry in sizes {
        by_number.entry(entry.number).or_insert(entry);
    }
    let mut seen = HashSet::with_capacity(ids.len());
    let repeated: HashSet<String> =
        ids.iter().filter(|(_, id)| !seen.insert(id)).map(|(_, id)| id.clone()).collect();
    let mut counts: HashMap<String, u32> = HashMap::new();
    let mut joined = Vec::with_capacity(ids.len());
    let mut alone = 0;
    for (number, id) in ids {
        let Some(entry) = by_number.remove(&number) else {
            alone += 1;
            continue;
        };
        let name = if repeated.contains(&id) {
            let count = counts.entry(id.clone()).or_insert(0);
            *count += 1;
            format!("{id}{SHARED}{count}")
        } else {
            id
        };
        joined.push((name, entry));
    }
    alone += u32::try_from(by_number.len()).unwrap_or(u32::MAX);
    (joined, alone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::message::ItemId;

    #[test]
    fn equal_ids_become_names_that_no_single_message_has() {
        let ids = ["a", "b", "a", "a#2", "a"].iter().zip(1..).map(|(id, n)| (n, (*id).to_owned())).collect();
        let sizes = (1..=5).map(|number| Entry { number, size: 1 }).collect();
        let names: Vec<_> = join(ids, sizes).0.into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a\u{fffd}1", "b", "a\u{fffd}2", "a#2", "a\u{fffd}3"]);
        let is_shared = |name: &str| ItemId::from(name).is_shared();
        assert_eq!(
            names.iter().map(|name| is_shared(name)).collect::<Vec<_>>(),
            [true, false, true, false, true]
        );
        let odd = [&b"a\xff"[..], "a\u{fffd}2".as_bytes()].map(|id| lasting_name(id).unwrap());
        assert!(odd.iter().all(|name| !is_shared(name)), "{odd:?}");
    }

    #[test]
    fn what_only_one_listing_names_is_counted_and_the_rest_is_taken() {
        let entry = |number| Entry { number, size: 1 };
        let id = |number: u32, id: &str| (number, id.to_owned());
        for (ids, sizes, names, alone) in [
            (vec![id(1, "a"), id(2, "b")], vec![entry(2), entry(1)], &["a", "b"][..], 0),
            (vec![id(1, "a")], vec![entry(2)], &[], 2),
            (vec![id(1, "a"), id(2, "b")], vec![entry(1)], &["a"], 1),
            (vec![id(1, "a"), id(1, "b")], vec![entry(1), entry(1), entry(3)], &["a"], 1),
        ] {
            let (joined, left) = join(ids, sizes);
            assert_eq!(
                (joined.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), left),
                (names.to_vec(), alone)
            );
        }
    }

    #[test]
    fn every_unique_id_has_a_name_of_its_own() {
        let long = "x".repeat(200);
        for id in ["whqtswO00WBw418f9t5JxYwZ", "a b", "gr\u{fc}n", "50%", &long] {
            assert_eq!(lasting_name(id.as_bytes()).as_deref(), Some(id));
        }
        let odd = [&b"a\xe9"[..], b"a\xe8", b"a\x01", &[b'y'; 3000], b"a\xff\xfe"];
        let names: HashSet<String> = odd.iter().filter_map(|id| lasting_name(id)).collect();
        assert!(names.len() == odd.len() && names.iter().all(|name| name.len() < 100), "{names:?}");
        assert_eq!(lasting_name(b""), None);
    }
}
