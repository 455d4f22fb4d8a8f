//! Each folder that a server lists gets a path of its own. Two names on the wire may read as one path: a name that is not
//! in modified UTF-7 beside its twin that is, a folder that is called like the Inbox below the prefix of the personal
//! namespace, `Inbox/Sub` beside `INBOX/Sub`. The one that is spelled as we would spell it keeps the path, and the others
//! get a number.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::names::Spelling;
use crate::model::folder::FolderPath;

/// The path of one listed folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The path, which no other listed folder has.
    pub path: FolderPath,
    /// The path that its name reads as, where another folder has that one.
    pub twin_of: Option<FolderPath>,
}

/// Gives paths to the names of a listing, and lets the spelling remember those that it would spell differently. Names of
/// folders that are not in this mailbox get none. `apart` are names that read as the Inbox and are folders of their own.
pub fn name_folders<'a>(
    spelling: &mut Spelling,
    wires: impl IntoIterator<Item = &'a [u8]>,
    apart: &BTreeSet<Vec<u8>>,
) -> HashMap<Vec<u8>, Named> {
    // The Inbox has its path whether it is listed or not.
    let mut taken: HashSet<FolderPath> = HashSet::from([FolderPath::inbox()]);
    let mut named: HashMap<Vec<u8>, Named> = HashMap::new();
    let mut others: Vec<(usize, &[u8], FolderPath)> = Vec::new();
    for wire in wires.into_iter().collect::<BTreeSet<_>>() {
        let Some(path) = spelling.to_path(wire) else { continue };
        let is_inbox = wire.eq_ignore_ascii_case(b"INBOX") && !apart.contains(wire);
        if is_inbox || spelling.to_wire(&path).as_bytes() == wire && !apart.contains(wire) {
            taken.insert(path.clone());
            named.insert(wire.to_vec(), Named { path, twin_of: None });
        } else {
            others.push((path.names().len(), wire, path));
        }
    }
    // A folder before what is below it.
    others.sort();
    for (_, wire, reads_as) in others {
        let free = |path: &FolderPath| !taken.contains(path);
        let path = Some(reads_as.clone()).filter(free);
        let path = path.or_else(|| below_twin(spelling, wire, &reads_as, &named).filter(free));
        let path = path.or_else(|| (2..=u32::MAX).map(|n| number(&reads_as, n)).find(free));
        let Some(path) = path else { continue };
        if let Ok(text) = std::str::from_utf8(wire) {
            spelling.odd.insert(path.clone(), text.to_owned());
        }
        taken.insert(path.clone());
        let twin_of = (path != reads_as).then_some(reads_as);
        named.insert(wire.to_vec(), Named { path, twin_of });
    }
    named
}

/// The path below the folder above, where that one could not have the path that its name reads as.
fn below_twin(
    spelling: &Spelling,
    wire: &[u8],
    reads_as: &FolderPath,
    named: &HashMap<Vec<u8>, Named>,
) -> Option<FolderPath> {
    let delimiter = u8::try_from(spelling.delimiter?).ok()?;
    let end = wire.iter().rposition(|byte| *byte == delimiter)?;
    let above = named.get(&wire[..end]).filter(|above| above.twin_of.is_some())?;
    Some(FolderPath::new(above.path.names().iter().map(String::as_str).chain([reads_as.name()])))
}

fn number(path: &FolderPath, n: u32) -> FolderPath {
    let (last, above) =
        path.names().split_last().map_or(("", &[][..]), |(last, above)| (last.as_str(), above));
    FolderPath::new(above.iter().cloned().chain([format!("{last} ({n})")]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn named(spelling: &mut Spelling, wires: &[&str]) -> Vec<String> {
        let named = name_folders(spelling, wires.iter().map(|wire| wire.as_bytes()), &BTreeSet::new());
        wires.iter().map(|wire| named[wire.as_bytes()].path.to_string()).collect()
    }

    fn spelling(delimiter: char, prefix: &str) -> Spelling {
        Spelling { delimiter: Some(delimiter), prefix: prefix.to_owned(), ..Spelling::default() }
    }

    #[test]
    fn the_true_inbox_is_inbox_and_what_is_called_like_it_stays_apart() {
        let wires =
            ["INBOX", "INBOX.INBOX", "INBOX.INBOX.Sub", "INBOX.Inbox", "INBOX.Inbox.Sub", "INBOX.Sub"];
        let mut courier = spelling('.', "INBOX.");
        let paths = named(&mut courier, &wires);
        assert_eq!(paths, ["INBOX", "INBOX (2)", "INBOX/Sub", "INBOX (3)", "INBOX (3)/Sub", "Sub"]);
        // Without the Inbox in the list, nothing else takes its place.
        assert_eq!(named(&mut spelling('.', "INBOX."), &["INBOX.INBOX"]), ["INBOX (2)"]);
        let mut slashes = spelling('/', "");
        assert_eq!(
            named(&mut slashes, &["inbox", "INBOX/Sub", "Inbox/Sub"]),
            ["INBOX", "INBOX/Sub", "INBOX/Sub (2)"]
        );
        assert_eq!(slashes.to_wire(&FolderPath::new(["INBOX", "Sub (2)"])), "Inbox/Sub");
    }

    #[test]
    fn a_folder_that_is_called_like_the_inbox_and_is_another_one_has_a_name_of_its_own() {
        let (mut plain, wires) = (spelling('/', ""), ["INBOX", "Inbox", "inbox"]);
        let apart = BTreeSet::from([b"Inbox".to_vec()]);
        let named = name_folders(&mut plain, wires.iter().map(|wire| wire.as_bytes()), &apart);
        let paths = wires.map(|wire| named[wire.as_bytes()].path.to_string());
        assert_eq!(paths, ["INBOX", "INBOX (2)", "INBOX"]);
        assert_eq!(plain.to_wire(&FolderPath::new(["INBOX (2)"])), "Inbox");
    }

    #[test]
    fn a_name_and_its_twin_in_modified_utf7_are_two_folders() {
        let mut plain = spelling('/', "");
        let wires = ["A&B", "A&-B", "A&B/x", "A&-B/x", "Entwürfe", "Entw&APw-rfe"];
        let paths = named(&mut plain, &wires);
        assert_eq!(paths, ["A&B (2)", "A&B", "A&B (2)/x", "A&B/x", "Entwürfe (2)", "Entwürfe"]);
        // One that has no twin is called as it reads, and is still spelled as it was listed.
        let mut plain = spelling('/', "");
        assert_eq!(named(&mut plain, &["A&B"]), ["A&B"]);
        assert_eq!(plain.to_wire(&FolderPath::new(["A&B"])), "A&B");
    }

    proptest! {
        #[test]
        fn every_name_has_a_path_of_its_own_and_is_spelled_as_it_was_listed(
            wires in prop::collection::btree_set("(INBOX|inbox|Inbox)?[./]?[aAß&\\-(2) ]{0,4}[./]?[aA&\\-]{0,3}", 1..30),
            dotted in any::<bool>(),
            prefix in prop::sample::select(vec!["", "INBOX.", "INBOX/", "~/"]),
        ) {
            let mut spelling = spelling(if dotted { '.' } else { '/' }, prefix);
            let named = name_folders(&mut spelling, wires.iter().map(String::as_bytes), &BTreeSet::new());
            let mut seen = HashMap::new();
            for (wire, named) in &named {
                let text = std::str::from_utf8(wire).unwrap();
                if let Some(other) = seen.insert(&named.path, text) {
                    prop_assert!(other.eq_ignore_ascii_case("INBOX") && text.eq_ignore_ascii_case("INBOX"));
                }
                if !text.eq_ignore_ascii_case("INBOX") {
                    prop_assert_eq!(spelling.to_wire(&named.path), text);
                }
            }
        }
    }
}
