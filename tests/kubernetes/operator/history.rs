//! The history of objects while a test went on: every event of a watch, so that nothing is missed between two looks.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::process::{Child, Stdio};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use mailferry::cluster::objects::WORK_KEY;
use mailferry::cluster::pack::{WORK_MAX, unpack};
use mailferry::cluster::work::{Task, Work};
use serde_json::{Deserializer, Value};
use tempfile::NamedTempFile;

use crate::support::cluster::Namespace;

/// `kubectl get --watch` of some kind, as long as the value lives.
pub(crate) struct History {
    watch: Child,
    said: NamedTempFile,
}

impl History {
    /// Begins to watch the objects of a kind that belong to Mailferry.
    pub(crate) fn of(space: &Namespace, kind: &str) -> Self {
        let said = NamedTempFile::new().unwrap();
        let mut watch = space.command("kubectl");
        watch.args(["get", kind, "--selector", "app.kubernetes.io/managed-by=mailferry"]);
        watch.args(["--watch", "--output-watch-events", "-o", "json"]);
        let out = File::create(said.path()).unwrap();
        let watch = watch.stdin(Stdio::null()).stdout(out).stderr(Stdio::null()).spawn().unwrap();
        Self { watch, said }
    }

    /// All events so far: what happened, and the object.
    pub(crate) fn events(&self) -> Vec<(String, Value)> {
        let text = fs::read_to_string(self.said.path()).unwrap();
        // The last one may still be on its way.
        let events = Deserializer::from_str(&text).into_iter::<Value>().map_while(Result::ok);
        events
            .map(|mut event| (event["type"].as_str().unwrap_or_default().to_owned(), event["object"].take()))
            .collect()
    }

    /// The names of all objects that there ever were.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.events().iter().map(|(_, object)| name(object)).collect()
    }
}

impl Drop for History {
    fn drop(&mut self) {
        // A watch that ended by itself is gone already.
        let _ = self.watch.kill();
        let _ = self.watch.wait();
    }
}

/// Stops the test if two sync Jobs that carried one mailbox were ever begun at the same time. Returns how many Jobs carried
/// something.
#[track_caller]
pub(crate) fn assert_one_job_a_mailbox(jobs: &History, config_maps: &History) -> usize {
    let lists: BTreeMap<String, BTreeSet<String>> = config_maps
        .events()
        .iter()
        .filter_map(|(_, object)| Some((name(object), mailboxes(object)?)))
        .collect();
    let mut active: BTreeMap<String, &BTreeSet<String>> = BTreeMap::new();
    let mut carried = BTreeSet::new();
    for (event, job) in jobs.events() {
        let name = name(&job);
        if job["metadata"]["labels"]["mailferry.dev/task"] != "sync" {
            continue;
        }
        let holds = |condition: &Value| {
            condition["status"] == "True"
                && ["Complete", "Failed"].contains(&condition["type"].as_str().unwrap_or_default())
        };
        let finished = job["status"]["conditions"].as_array().is_some_and(|all| all.iter().any(holds));
        // A Job that is being taken away may have pods for as long as it is there.
        if event == "DELETED" || finished {
            active.remove(&name);
        } else if job["spec"]["suspend"] != true {
            let list = lists.get(&name).unwrap_or_else(|| panic!("Job {name} has no work list"));
            for (other, theirs) in &active {
                assert!(
                    *other == name || theirs.is_disjoint(list),
                    "{other} and {name} both carry {theirs:?}, {list:?}"
                );
            }
            active.insert(name.clone(), list);
            carried.insert(name);
        }
    }
    carried.len()
}

/// The mailboxes of a work list.
fn mailboxes(config_map: &Value) -> Option<BTreeSet<String>> {
    let packed = BASE64_STANDARD.decode(config_map["binaryData"][WORK_KEY].as_str()?).unwrap();
    let work: Work = unpack("a work list", &packed, WORK_MAX).unwrap();
    let Task::Sync { slices, .. } = work.task else { return None };
    Some(slices.iter().flatten().map(|item| item.mailbox.source.to_string()).collect())
}

/// The name of an object.
fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}
