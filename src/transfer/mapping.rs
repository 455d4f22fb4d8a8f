//! Which destination folder each source folder is carried to. Pure and stable: the same folders always get the same plan.

use std::collections::{BTreeMap, BTreeSet};

use super::Rules;
use crate::mail::Folder;
use crate::model::folder::{FolderPath, SpecialUse};

/// What is to become of one source folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderPlan {
    /// The folder at the source.
    pub source: Folder,
    /// Where its messages go.
    pub destination: FolderPath,
    /// Why its messages are left out, if they are.
    pub excluded: Option<String>,
    /// Why it could not keep its name, if it could not.
    pub renamed: Option<String>,
}

/// Plans every selectable folder of the source, in the source's order.
pub fn plan_folders(
    sources: &[Folder],
    destinations: &[Folder],
    delimiter: Option<char>,
    rules: &Rules,
) -> Vec<FolderPlan> {
    let by_use = pair_special_uses(sources, destinations);
    let wanted: Vec<(&Folder, FolderPath, bool)> = sources
        .iter()
        .filter(|folder| folder.selectable)
        .map(|source| match rename_by_rule(&source.path, &rules.folders) {
            Some(path) => (source, path, true),
            None => (source, rename_by_use(&source.path, &by_use), false),
        })
        .collect();
    // Names that can stay as they are come before those that must yield.
    let mut taken: BTreeMap<FolderPath, &FolderPath> = wanted
        .iter()
        .filter(|(_, path, _)| make_spellable(path, delimiter, 1) == *path)
        .map(|(_, path, _)| (path.clone(), path))
        .collect();
    let mut plans = Vec::new();
    for (source, path, by_rule) in &wanted {
        // A rule may merge folders on purpose; spelling alone never does.
        let destination = (1..=u32::MAX)
            .map(|n| make_spellable(path, delimiter, n))
            .find(|name| taken.get(name).is_none_or(|other| *other == path))
            .unwrap_or_else(|| path.clone());
        taken.insert(destination.clone(), path);
        let excluded = rules
            .exclude
            .is_match(source.path.to_string())
            .then(|| "the folder is left out by mapping.exclude".to_owned());
        let renamed = (destination != *path && !by_rule).then(|| renamed_to(&destination));
        let renamed = renamed.or_else(|| source.twin_of.as_ref().map(|twin| kept_from(twin, &destination)));
        plans.push(FolderPlan { source: (*source).clone(), destination, excluded, renamed });
    }
    plans
}

/// What is said of a folder that could not keep its name.
pub fn renamed_to(name: &FolderPath) -> String {
    format!("the destination cannot hold this name; the folder is called \"{name}\" there")
}

/// What is said of a folder whose name reads as that of another one.
fn kept_from(twin: &FolderPath, name: &FolderPath) -> String {
    format!(
        "the source has another folder that is called \"{twin}\"; this one is called \"{name}\" at the destination"
    )
}

/// Another name for a folder whose name the destination refused: letters, digits, spaces and the signs that every server
/// takes, and no other folder's. Stable, so that the next pass finds the same one. `None` when nothing is left to change.
pub fn spell_plainly(plans: &[FolderPlan], at: usize) -> Option<FolderPath> {
    let path = &plans[at].destination;
    let spell = |name: &String| -> String {
        let odd = |c: char| c.is_ascii_punctuation() && !matches!(c, '-' | '_' | '(' | ')' | '&' | ',');
        name.chars().map(|c| if odd(c) || c.is_control() { '_' } else { c }).collect()
    };
    let plain: Vec<String> = path.names().iter().map(spell).collect();
    if plain == path.names() {
        return None;
    }
    (1..=u32::MAX)
        .map(|n| {
            let mut names = plain.clone();
            if let Some(last) = names.last_mut().filter(|_| n > 1) {
                *last = format!("{last} ({n})");
            }
            FolderPath::new(names)
        })
        .find(|name| plans.iter().all(|other| other.destination != *name))
}

/// Other names for a folder whose name, or that of a folder above it, the server keeps for itself: one of the names gets an
/// underscore, the outermost first. Each with the folder that is called differently, and how. Stable, so that the next
/// pass finds the same one.
pub fn spell_aside(plans: &[FolderPlan], at: usize) -> Vec<(FolderPath, FolderPath, FolderPath)> {
    let path = &plans[at].destination;
    let names = path.names();
    let free = |name: &FolderPath| {
        plans
            .iter()
            .all(|other| other.destination != *name && rebase(&other.destination, name, name).is_none())
    };
    (0..names.len())
        .filter_map(|depth| {
            let (from, below) = names.split_at(depth + 1);
            let to = (1..=u32::MAX).map(|n| {
                let mut to = from.to_vec();
                if let Some(last) = to.last_mut() {
                    *last = if n == 1 { format!("{last}_") } else { format!("{last}_ ({n})") };
                }
                FolderPath::new(to)
            });
            let to = to.into_iter().find(free)?;
            let whole = FolderPath::new(to.names().iter().chain(below).cloned());
            Some((FolderPath::new(from.iter().cloned()), to, whole))
        })
        .collect()
}

/// What a folder may be called at the destination where its own name was refused, in the order in which they are tried.
pub fn other_names(plans: &[FolderPlan], at: usize) -> impl Iterator<Item = FolderPath> {
    spell_plainly(plans, at).into_iter().chain(spell_aside(plans, at).into_iter().map(|(.., whole)| whole))
}

/// Replaces the beginning of a path.
pub fn rebase(path: &FolderPath, from: &FolderPath, to: &FolderPath) -> Option<FolderPath> {
    let below = path.names().strip_prefix(from.names())?;
    Some(FolderPath::new(to.names().iter().chain(below).cloned()))
}

fn rename_by_rule(path: &FolderPath, rules: &[(FolderPath, FolderPath)]) -> Option<FolderPath> {
    rules.iter().find_map(|(from, to)| rebase(path, from, to))
}

fn rename_by_use(path: &FolderPath, by_use: &BTreeMap<FolderPath, FolderPath>) -> FolderPath {
    by_use.iter().find_map(|(from, to)| rebase(path, from, to)).unwrap_or_else(|| path.clone())
}

/// Finds, for each source folder with a special use, the folder of the same use at the destination, if it is called
/// differently there. What a server says counts before what a name suggests, on both sides.
fn pair_special_uses(sources: &[Folder], destinations: &[Folder]) -> BTreeMap<FolderPath, FolderPath> {
    let mut pairs = BTreeMap::new();
    let names: BTreeSet<&FolderPath> = sources.iter().map(|f| &f.path).collect();
    for usage in
        [SpecialUse::Archive, SpecialUse::Drafts, SpecialUse::Junk, SpecialUse::Sent, SpecialUse::Trash]
    {
        let (Some(from), Some(to)) = (find_use(sources, usage), find_use(destinations, usage)) else {
            continue;
        };
        // A source folder that has the destination's name already keeps it; merging two folders would lose their parting.
        if from.path != to.path && !names.contains(&to.path) {
            pairs.insert(from.path.clone(), to.path.clone());
        }
    }
    pairs
}

fn find_use(folders: &[Folder], usage: SpecialUse) -> Option<&Folder> {
    let selectable = || folders.iter().filter(|f| f.selectable);
    selectable().find(|f| f.special_use == Some(usage)).or_else(|| {
        selectable().find(|f| f.special_use.is_none() && SpecialUse::from_name(&f.path) == Some(usage))
    })
}

/// Replaces what the destination cannot hold in a name: its delimiter, control characters, nothing at all. The `n`th
/// spelling of a name is marked with its number.
fn make_spellable(path: &FolderPath, delimiter: Option<char>, n: u32) -> FolderPath {
    let spell = |name: &String| -> String {
        let name: String =
            name.chars().map(|c| if Some(c) == delimiter || c.is_control() { '_' } else { c }).collect();
        if name.is_empty() { "_".to_owned() } else { name }
    };
    let mut names: Vec<String> = path.names().iter().map(spell).collect();
    if delimiter.is_none() {
        // A server without hierarchy holds the whole path in one name.
        names = vec![names.join(" - ")];
    }
    if let Some(last) = names.last_mut().filter(|_| n > 1) {
        *last = format!("{last} ({n})");
    }
    FolderPath::new(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::record::Depth;
    use crate::transfer::flags::Manners;
    use crate::transfer::neighbours::Neighbours;
    use std::time::Duration;

    fn folder(path: &str, special_use: Option<SpecialUse>) -> Folder {
        let path = FolderPath::from_slashes(path);
        Folder {
            wire_name: path.to_string().into_bytes(),
            path,
            special_use,
            twin_of: None,
            selectable: true,
            subscribed: false,
        }
    }

    fn rules(folders: &[(&str, &str)], exclude: &[&str]) -> Rules {
        let path = FolderPath::from_slashes;
        Rules {
            folders: folders.iter().map(|(from, to)| (path(from), path(to))).collect(),
            exclude: Rules::exclude_patterns(&exclude.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>())
                .unwrap(),
            max_message_bytes: None,
            most_per_folder: None,
            since: None,
            depth: Depth::Sizes,
            settle: Duration::ZERO,
            pace: std::sync::Arc::default(),
            daily: None,
            neighbours: Neighbours::default(),
            manners: Manners::default(),
        }
    }

    fn planned(sources: &[Folder], destinations: &[Folder], rules: &Rules) -> Vec<String> {
        let plans = plan_folders(sources, destinations, Some('/'), rules);
        plans.iter().map(|p| p.destination.to_string()).collect()
    }

    #[test]
    fn special_folders_meet_their_own_kind() {
        let sources = [
            folder("INBOX", None),
            folder("Sent Items", None),
            folder("Sent Items/2020", None),
            folder("Spam", None),
        ];
        let destinations = [
            folder("INBOX", None),
            folder("Sent", Some(SpecialUse::Sent)),
            folder("Junk", Some(SpecialUse::Junk)),
        ];
        assert_eq!(
            planned(&sources, &destinations, &rules(&[], &[])),
            ["INBOX", "Sent", "Sent/2020", "Junk"]
        );
        // Two folders that could both be the sent mail stay apart.
        let both = [folder("Sent", None), folder("Sent Items", Some(SpecialUse::Sent))];
        assert_eq!(planned(&both, &destinations, &rules(&[], &[])), ["Sent", "Sent Items"]);
    }

    #[test]
    fn rules_come_first_and_carry_what_is_below() {
        let sources = [folder("Old", None), folder("Old/a", None), folder("Older", None)];
        assert_eq!(
            planned(&sources, &[], &rules(&[("Old", "Archive/Old")], &[])),
            ["Archive/Old", "Archive/Old/a", "Older"]
        );
        let plans = plan_folders(&sources, &[], Some('/'), &rules(&[], &["Old/*"]));
        assert_eq!(plans.iter().filter(|p| p.excluded.is_some()).count(), 1);
    }

    #[test]
    fn a_reserved_name_gets_an_underscore_that_nobody_else_has() {
        let plans = |paths: &[&str]| {
            let sources: Vec<Folder> = paths.iter().map(|path| folder(path, None)).collect();
            plan_folders(&sources, &[], Some('/'), &rules(&[], &[]))
        };
        let aside = |paths: &[&str]| -> Vec<String> {
            spell_aside(&plans(paths), 0).into_iter().map(|(.., whole)| whole.to_string()).collect()
        };
        assert_eq!(aside(&["Files"]), ["Files_"]);
        assert_eq!(aside(&["Files", "Files_"]), ["Files_ (2)"]);
        assert_eq!(aside(&["Files", "Files_/2020"]), ["Files_ (2)"]);
        assert_eq!(aside(&["Files/2020"]), ["Files_/2020", "Files/2020_"]);
    }

    #[test]
    fn names_that_the_destination_cannot_hold_stay_apart() {
        let named = |name: &str| Folder { path: FolderPath::new([name]), ..folder("x", None) };
        let sources = [named("a_b"), named("a/b"), named("a\u{7}b"), named("")];
        assert_eq!(planned(&sources, &[], &rules(&[], &[])), ["a_b", "a_b (2)", "a_b (3)", "_"]);
        let flat = plan_folders(&[folder("A/B", None)], &[], None, &rules(&[], &[]));
        assert_eq!(flat[0].destination, FolderPath::new(["A - B"]));
        assert!(flat[0].renamed.is_some());
    }
}
