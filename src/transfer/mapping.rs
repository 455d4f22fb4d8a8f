//! Which destination folder each source folder is carried to. Pure, stable and injective: the same folders always get the
//! same plan, what earlier passes decided holds ([`Atlas`]), and two folders share one only where a rule of the manifest
//! says so.

use std::collections::BTreeMap;

use super::Rules;
use super::atlas::Atlas;
use super::names::NameRules;
use crate::drivers::Folder;
use crate::model::folder::{FolderPath, SpecialUse};

/// The change that a user made to a folder at the destination since it was carried first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserChange {
    /// It has another name, or another place: new mail follows it.
    Renamed,
    /// It was removed: what was carried is not sent again, and the folder is made anew only when a new message must go there.
    Removed,
}

/// The plan for one source folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderPlan {
    /// The folder at the source.
    pub source: Folder,
    /// Where its messages go.
    pub destination: FolderPath,
    /// Where they would go if the destination took every name. Folders that are planned to one share one.
    pub wanted: FolderPath,
    /// Whether a rule of the manifest says so.
    pub by_rule: bool,
    /// Why its messages are left out, if they are.
    pub excluded: Option<String>,
    /// Why it could not keep its name, if it could not.
    pub renamed: Option<String>,
    /// Whether it only shows what other folders hold (RFC 6154: `\All`, `\Flagged`; RFC 8457: `\Important`), so that it is
    /// carried last, and of it what no other folder holds.
    pub view: bool,
    /// The change that a user made to its folder at the destination, if any.
    pub user_change: Option<UserChange>,
}

impl FolderPlan {
    /// Whether it was carried before and a user removed its folder at the destination since.
    pub fn is_gone_at_destination(&self) -> bool {
        self.user_change == Some(UserChange::Removed)
    }
}

/// Plans every selectable folder of the source, in the source's order, views last. Where folders are labels (`labelled`), no
/// folder is a view: each message is listed in one alone.
pub fn plan_folders(
    sources: &[Folder],
    destinations: &[Folder],
    labelled: bool,
    names: &NameRules,
    rules: &Rules,
    atlas: &Atlas,
) -> Vec<FolderPlan> {
    let by_use = pair_special_uses(sources, destinations);
    let mut plans: Vec<FolderPlan> = sources
        .iter()
        .filter(|folder| folder.selectable)
        .map(|source| {
            let sent = rename_by_rule(&source.path, &rules.folders);
            let by_rule = sent.is_some();
            let wanted = sent.unwrap_or_else(|| rename_by_use(&source.path, &by_use));
            let excluded = rules
                .exclude
                .is_match(source.path.to_string())
                .then(|| "the folder is left out by mapping.exclude".to_owned());
            FolderPlan {
                source: source.clone(),
                destination: wanted.clone(),
                wanted,
                by_rule,
                excluded,
                renamed: None,
                view: !labelled && is_view(source),
                user_change: None,
            }
        })
        .collect();
    let mut taken: BTreeMap<FolderPath, FolderPath> = BTreeMap::new();
    let mut open: Vec<usize> = Vec::new();
    for place in atlas.places() {
        // Also where the source no longer lists the folder: its mail is there.
        taken.insert(names.key(&place.destination), place.wanted.clone());
    }
    for (at, plan) in plans.iter_mut().enumerate() {
        if let Some(place) = atlas.place(&plan.source.path, plan.by_rule.then_some(&plan.wanted)) {
            plan.destination = place.destination.clone();
            plan.wanted = place.wanted.clone();
            plan.renamed = place.why.clone();
            plan.user_change = place.followed.then_some(UserChange::Renamed);
        } else {
            open.push(at);
        }
    }
    // Names that can stay as they are come before those that must yield.
    open.sort_by_key(|at| names.spell(&plans[*at].wanted, 1) != plans[*at].wanted);
    for at in open {
        let plan = &mut plans[at];
        // A rule may merge folders on purpose; spelling alone never does.
        plan.destination = (1..=u32::MAX)
            .map(|n| names.spell(&plan.wanted, n))
            .find(|name| taken.get(&names.key(name)).is_none_or(|other| *other == plan.wanted))
            .unwrap_or_else(|| plan.wanted.clone());
        taken.insert(names.key(&plan.destination), plan.wanted.clone());
        if plan.destination != plan.wanted && !plan.by_rule {
            plan.renamed = Some(renamed_to(&plan.destination));
        }
        if let Some(twin) = &plan.source.twin_of {
            plan.renamed.get_or_insert_with(|| kept_from(twin, &plan.destination));
        }
    }
    plans.sort_by_key(|plan| plan.view);
    plans
}

/// The words for a folder that could not keep its name.
pub fn renamed_to(name: &FolderPath) -> String {
    format!("the destination cannot hold this name; the folder is called \"{name}\" there")
}

/// The words for a folder whose name reads as that of another one.
fn kept_from(twin: &FolderPath, name: &FolderPath) -> String {
    format!(
        "the source has another folder that is called \"{twin}\"; this one is called \"{name}\" at the destination"
    )
}

/// Whether a folder only shows what other folders hold.
fn is_view(folder: &Folder) -> bool {
    matches!(folder.special_use, Some(SpecialUse::All | SpecialUse::Flagged | SpecialUse::Important))
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
/// differently there. The use that a server states counts before the one that a name suggests, on both sides.
fn pair_special_uses(sources: &[Folder], destinations: &[Folder]) -> BTreeMap<FolderPath, FolderPath> {
    let mut pairs = BTreeMap::new();
    // Nothing of the source's own is to be found there, nor below it.
    let is_free = |to: &FolderPath| sources.iter().all(|folder| rebase(&folder.path, to, to).is_none());
    for usage in
        [SpecialUse::Archive, SpecialUse::Drafts, SpecialUse::Junk, SpecialUse::Sent, SpecialUse::Trash]
    {
        let (Some(from), Some(to)) = (find_use(sources, usage), find_use(destinations, usage)) else {
            continue;
        };
        // A source folder that has the destination's name already keeps it; merging two folders would lose their parting.
        if from.path != to.path && is_free(&to.path) {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::transfer::names::Signs;

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
        let patterns: Vec<String> = exclude.iter().map(|p| (*p).to_owned()).collect();
        Rules {
            folders: folders.iter().map(|(from, to)| (path(from), path(to))).collect(),
            exclude: Rules::exclude_patterns(&patterns).unwrap(),
            ..Rules::default()
        }
    }

    fn names(delimiter: Option<char>) -> NameRules {
        NameRules::new(delimiter, str::len)
    }

    fn plan(sources: &[Folder], destinations: &[Folder], rules: &Rules) -> Vec<FolderPlan> {
        plan_folders(sources, destinations, false, &names(Some('/')), rules, &Atlas::default())
    }

    fn planned(sources: &[Folder], destinations: &[Folder], rules: &Rules) -> Vec<String> {
        plan(sources, destinations, rules).iter().map(|p| p.destination.to_string()).collect()
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
        // So do those below them.
        let below = [folder("Sent/2020", None), folder("Sent Items", None), folder("Sent Items/2020", None)];
        assert_eq!(
            planned(&below, &destinations, &rules(&[], &[])),
            ["Sent/2020", "Sent Items", "Sent Items/2020"]
        );
    }

    #[test]
    fn rules_come_first_and_carry_what_is_below() {
        let sources = [folder("Old", None), folder("Old/a", None), folder("Older", None)];
        assert_eq!(
            planned(&sources, &[], &rules(&[("Old", "Archive/Old")], &[])),
            ["Archive/Old", "Archive/Old/a", "Older"]
        );
        let plans = plan(&sources, &[], &rules(&[], &["Old/*"]));
        assert_eq!(plans.iter().filter(|p| p.excluded.is_some()).count(), 1);
    }

    #[test]
    fn names_that_the_destination_cannot_hold_stay_apart() {
        let named = |name: &str| Folder { path: FolderPath::new([name]), ..folder("x", None) };
        let sources = [named("a_b"), named("a/b"), named("a\u{7}b"), named("")];
        assert_eq!(planned(&sources, &[], &rules(&[], &[])), ["a_b", "a_b (2)", "a_b (3)", "_"]);
        let flat = [folder("A/B", None)];
        let flat = plan_folders(&flat, &[], false, &names(None), &rules(&[], &[]), &Atlas::default());
        assert_eq!(flat[0].destination, FolderPath::new(["A - B"]));
        assert!(flat[0].renamed.is_some());
    }

    #[test]
    fn views_come_last_unless_folders_are_labels() {
        let sources = [
            folder("All Mail", Some(SpecialUse::All)),
            folder("INBOX", None),
            folder("Starred", Some(SpecialUse::Flagged)),
        ];
        let plans = plan(&sources, &[], &rules(&[], &[]));
        let told: Vec<(String, bool)> = plans.iter().map(|p| (p.source.path.to_string(), p.view)).collect();
        let told: Vec<(&str, bool)> = told.iter().map(|(path, view)| (path.as_str(), *view)).collect();
        assert_eq!(told, [("INBOX", false), ("All Mail", true), ("Starred", true)]);
        let labelled =
            plan_folders(&sources, &[], true, &names(Some('/')), &rules(&[], &[]), &Atlas::default());
        assert!(labelled.iter().all(|plan| !plan.view));
    }

    /// Paths that are apt to meet: in case, in Unicode form, in what is cut, joined or replaced.
    fn odd_paths() -> impl Strategy<Value = BTreeSet<Vec<String>>> {
        let name = prop_oneof![
            "[aA]",
            "[aA]/?[bB]?",
            "(a - b|a_b|a:b|a&b|a  b|_|)",
            "(é|e\u{301}|É|ß|ss|ﬁ|fi|日本|中国)",
            "(Files|Files_|Files__)",
            "[xX]{70,75}",
            "(ü){20,25}[a-c]",
            "a( \\([0-9]\\))?",
        ];
        prop::collection::btree_set(prop::collection::vec(name, 1..5), 1..25)
    }

    fn some_rules() -> impl Strategy<Value = NameRules> {
        let signs = prop::sample::select(vec![Signs::All, Signs::Plain, Signs::Plainer, Signs::Ascii]);
        let limits =
            (prop::option::of(12..80_usize), prop::option::of(12..200_usize), prop::option::of(1..4_usize));
        let delimiter = prop::sample::select(vec![Some('/'), Some('.'), None]);
        let reserved = prop::collection::vec(prop::sample::select(vec!["Files", "Files_", "a", "a/b"]), 0..3);
        (delimiter, signs, limits, any::<bool>(), reserved).prop_map(
            |(delimiter, signs, (name_max, path_max, depth_max), folds, reserved)| NameRules {
                signs,
                name_max,
                path_max,
                depth_max,
                folds,
                reserved: reserved.into_iter().map(FolderPath::from_slashes).collect(),
                ..NameRules::new(delimiter, |name| crate::drivers::imap::names::encode_utf7(name).len())
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 300, ..ProptestConfig::default() })]
        #[test]
        fn the_map_is_injective_stable_and_within_the_limits(
            first in odd_paths(), more in odd_paths(), names in some_rules(),
        ) {
            let folders = |paths: &BTreeSet<Vec<String>>| -> Vec<Folder> {
                let paths: BTreeSet<FolderPath> = paths.iter().map(FolderPath::new).collect();
                paths.into_iter().map(|path| Folder { path, ..folder("x", None) }).collect()
            };
            let nothing = rules(&[], &[]);
            let before = folders(&first);
            let plans = plan_folders(&before, &[], false, &names, &nothing, &Atlas::default());
            let mut atlas = Atlas::default();
            let mut keys = BTreeSet::new();
            for plan in &plans {
                prop_assert!(keys.insert(names.key(&plan.destination)), "{} twice", plan.destination);
                let is_inbox = plan.destination.is_inbox();
                let length = names.length(&plan.destination);
                prop_assert!(is_inbox || names.path_max.is_none_or(|most| length <= most), "{length}: {}", plan.destination);
                let longest = plan.destination.names().iter().map(|name| (names.length_of)(name)).max();
                prop_assert!(is_inbox || names.name_max.is_none_or(|most| longest <= Some(most)));
                prop_assert!(names.depth_max.is_none_or(|most| plan.destination.names().len() <= most));
                prop_assert!(plan.destination.names().iter().all(|name| !name.is_empty() && !names.delimiter.is_some_and(|d| name.contains(d))));
                prop_assert_eq!(plan.renamed.is_some(), plan.destination != plan.source.path);
                atlas.keep(plan, true);
            }
            // The same again, and with more folders, whichever come before them in the list.
            let all = folders(&first.union(&more).cloned().collect());
            let again = plan_folders(&all, &[], false, &names, &nothing, &atlas);
            for plan in &plans {
                let now = again.iter().find(|now| now.source.path == plan.source.path).unwrap();
                prop_assert_eq!(&now.destination, &plan.destination);
                prop_assert_eq!(&now.renamed, &plan.renamed);
            }
            let keys: BTreeSet<FolderPath> = again.iter().map(|plan| names.key(&plan.destination)).collect();
            prop_assert_eq!(keys.len(), again.len());
        }
    }
}
