//! The ladder against a destination whose rules are drawn by lot: every folder is made, two stay two, and the next pass finds
//! all of them where they are.

use std::collections::BTreeMap;

use async_trait::async_trait;
use proptest::prelude::*;
use tokio::sync::mpsc::UnboundedSender;

use super::*;
use crate::drivers::imap::names::encode_utf7;
use crate::drivers::{Abilities, Appended, BodyReceiver, BodySender, Envelope, FolderState, Present};
use crate::model::evidence::ServerFacts;
use crate::model::mark::Mark;
use crate::model::message::{Flags, ItemId};
use crate::transfer::Rules;
use crate::transfer::atlas::Atlas;
use crate::transfer::mapping::plan_folders;

/// The names that a server takes, and its answers where it does not.
#[allow(clippy::struct_excessive_bools, reason = "each is a way of its own")]
#[derive(Debug, Clone)]
struct Ways {
    /// Names that differ in case or Unicode form are one; says so, or says OK and makes nothing.
    folds: Option<bool>,
    /// It writes all names in small letters.
    lowers: bool,
    name_max: usize,
    path_max: usize,
    refused: Vec<char>,
    ascii: bool,
    /// Folders that hold mail hold no folders.
    flat: bool,
    reserved: Vec<&'static str>,
    /// Whether refusals have a code that says why.
    codes: bool,
}

/// A destination that has folders and nothing else.
struct Fake {
    ways: Ways,
    folders: BTreeMap<FolderPath, FolderPath>,
    created: usize,
}

impl Fake {
    fn key(&self, path: &FolderPath) -> FolderPath {
        if self.ways.folds.is_some() || self.ways.lowers { fold(path) } else { path.clone() }
    }

    fn refusal(&self, path: &FolderPath) -> Option<FailureCode> {
        let (ways, names) = (&self.ways, path.names());
        let length = |name: &String| encode_utf7(name).len();
        let total = names.iter().map(length).sum::<usize>() + names.len() - 1;
        let odd = |c: char| ways.refused.contains(&c) || (ways.ascii && !c.is_ascii());
        if ways.flat && names.len() > 1 {
            Some(FailureCode::NoInferiors)
        } else if ways.reserved.iter().any(|name| *name == names[0]) {
            Some(FailureCode::NameReserved)
        } else if names.iter().any(|name| length(name) > ways.name_max || name.chars().any(odd))
            || total > ways.path_max
        {
            Some(FailureCode::NameRefused)
        } else {
            None
        }
    }
}

fn folder(path: &FolderPath) -> Folder {
    Folder {
        path: path.clone(),
        twin_of: None,
        wire_name: Vec::new(),
        special_use: None,
        selectable: true,
        subscribed: false,
    }
}

#[async_trait]
impl Destination for Fake {
    fn facts(&self) -> &ServerFacts {
        unimplemented!()
    }
    fn abilities(&self) -> Abilities {
        unimplemented!()
    }
    fn delimiter(&self) -> Option<char> {
        Some('/')
    }
    async fn list_folders(&mut self) -> Result<Vec<Folder>> {
        Ok(self.folders.values().map(folder).collect())
    }
    async fn ensure_folder(&mut self, path: &FolderPath, _subscribe: bool) -> Result<()> {
        if path.is_inbox() || self.folders.values().any(|there| there == path) {
            return Ok(());
        }
        if let Some(code) = self.refusal(path) {
            let failure = Failure::new(Class::Refused, "refused CREATE");
            return Err(if self.ways.codes { failure.code(code) } else { failure });
        }
        let key = self.key(path);
        if self.folders.contains_key(&key) {
            let says_so = self.ways.folds != Some(false);
            let failure = || Failure::new(Class::Refused, "refused CREATE").code(FailureCode::FolderExists);
            return if says_so { Err(failure()) } else { Ok(()) };
        }
        self.created += 1;
        let small = || FolderPath::new(path.names().iter().map(|name| name.to_lowercase()));
        let kept = if self.ways.lowers { small() } else { path.clone() };
        self.folders.insert(key, kept);
        Ok(())
    }
    async fn open(&mut self, _path: &FolderPath) -> Result<FolderState> {
        unimplemented!()
    }
    async fn status(&mut self, _path: &FolderPath) -> Result<FolderState> {
        unimplemented!()
    }
    async fn list_since(&mut self, _mark: &Mark) -> Result<Vec<Present>> {
        unimplemented!()
    }
    async fn fetch(&mut self, _ids: &[ItemId], _bodies: BodySender) -> Result<()> {
        unimplemented!()
    }
    async fn append(
        &mut self,
        _path: &FolderPath,
        _bodies: &mut BodyReceiver,
        _envelope: &(dyn Fn(u64) -> Envelope + Send + Sync),
        _outcomes: &UnboundedSender<Appended>,
    ) -> Result<()> {
        unimplemented!()
    }
    async fn store_flags(&mut self, _ids: &[ItemId], _add: &Flags, _remove: &Flags) -> Result<Flags> {
        unimplemented!()
    }
    async fn expunge(&mut self, _ids: &[ItemId]) -> Result<()> {
        unimplemented!()
    }
    async fn close(&mut self) {}
}

/// One pass: what each source folder is called at the destination.
async fn pass(
    fake: &mut Fake,
    paths: &BTreeSet<FolderPath>,
    atlas: &mut Atlas,
) -> BTreeMap<FolderPath, FolderPath> {
    let sources: Vec<Folder> = paths.iter().map(folder).collect();
    let listed = fake.list_folders().await.unwrap();
    let names = NameRules::new(Some('/'), |name| encode_utf7(name).len());
    let mut plans = plan_folders(&sources, &listed, false, &names, &Rules::default(), atlas);
    let made = make_folders(&mut plans, &names, &listed, fake, "").await.0.unwrap();
    let mut went = BTreeMap::new();
    for plan in &plans {
        assert!(made.there.contains(&plan.destination), "{} is not made: {:?}", plan.source.path, fake.ways);
        let told = plan.renamed.is_some();
        assert_eq!(told, plan.destination != plan.source.path, "{} {}", plan.source.path, plan.destination);
        atlas.keep(plan, made.anew.contains(&plan.destination));
        went.insert(plan.source.path.clone(), plan.destination.clone());
    }
    went
}

fn some_ways() -> impl Strategy<Value = Ways> {
    let limits =
        (prop::sample::select(vec![40_usize, 64, 255]), prop::sample::select(vec![64_usize, 250, 1000]));
    let refused = prop::sample::select(vec![vec![], vec!['&'], vec!['.', ':', '#'], vec!['&', ',', '"']]);
    let reserved = prop::sample::select(vec![vec![], vec!["Files"], vec!["a", "Files"]]);
    let folds = prop::sample::select(vec![None, Some(true), Some(false)]);
    (folds, any::<bool>(), limits, refused, any::<bool>(), any::<bool>(), reserved, any::<bool>()).prop_map(
        |(folds, lowers, (name_max, path_max), refused, ascii, flat, reserved, codes)| Ways {
            folds,
            lowers,
            name_max,
            path_max,
            refused,
            ascii,
            flat,
            reserved,
            codes,
        },
    )
}

fn some_paths() -> impl Strategy<Value = BTreeSet<FolderPath>> {
    let name = prop_oneof![
        "[aA]",
        "(Files|files|Work|work|WORK)",
        "(R&D|R_D|v1.2|a:b|a, b)",
        "(é|e\u{301}|É|日本|中国)",
        "x{70}[ab]",
        "a( \\([23]\\))?",
    ];
    let path = prop::collection::vec(name, 1..4).prop_map(FolderPath::new);
    prop::collection::btree_set(path, 1..10)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, max_shrink_iters: 500, ..ProptestConfig::default() })]
    #[test]
    fn every_folder_is_made_and_two_stay_two_whatever_the_server_takes(
        first in some_paths(), more in some_paths(), ways in some_ways(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut fake = Fake { ways, folders: BTreeMap::new(), created: 0 };
            let mut atlas = Atlas::default();
            let went = pass(&mut fake, &first, &mut atlas).await;
            let places: BTreeSet<FolderPath> = went.values().map(|path| fake.key(path)).collect();
            assert_eq!(places.len(), went.len(), "{went:?}");
            assert!(went.values().all(|path| fake.folders.values().any(|there| there == path)), "{went:?}");
            let created = fake.created;
            assert_eq!(pass(&mut fake, &first, &mut atlas).await, went);
            // As after a kill before anything was remembered.
            assert_eq!(pass(&mut fake, &first, &mut Atlas::default()).await, went);
            assert_eq!(fake.created, created);
            let all = first.union(&more).cloned().collect();
            let now = pass(&mut fake, &all, &mut atlas).await;
            assert!(went.iter().all(|(source, path)| now[source] == *path), "{went:?} {now:?}");
            let places: BTreeSet<FolderPath> = now.values().map(|path| fake.key(path)).collect();
            assert_eq!(places.len(), now.len(), "{now:?}");
        });
    }
}
