//! Our Jobs as their labels and pods show them: what each is for, whether it goes on, and how a worker that cannot
//! speak any more came to its end. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};
use kube::ResourceExt;

use super::launch::is_suspended;
use super::settings::Settings;
use super::stores::job_of;
use crate::cluster::objects::{
    ANNOTATION_CONNECTIONS, ANNOTATION_SETTINGS, Kind, LABEL_DOMAIN_DIGEST, LABEL_INPUTS, LABEL_NUMBER,
    LABEL_TASK,
};
use crate::model::address::Address;
use crate::model::failure::{Class, Failure};
use crate::model::text::{cut, printable};

/// The exit code of a process that SIGKILL ended.
const SIGKILLED: i32 = 137;
/// The words of runc and containerd when they are to start what was killed meanwhile.
const KILLED_EARLY: [&str; 2] =
    ["cannot start a stopped process", "cannot start an already running container"];

/// The mailboxes of a work list, by their address at the source, each with a digest of where and by what name it is carried.
pub type Carried = Arc<HashMap<Address, u64>>;

/// A Job of ours.
#[derive(Clone)]
pub struct KnownJob {
    /// The Job.
    pub job: Arc<Job>,
    /// Its purpose.
    pub kind: Kind,
    /// Digest of what it depends on.
    pub inputs: String,
    /// The number of the pass, of the verification, or of the round of discovery.
    pub number: u32,
    /// Digest of its domain's name.
    pub domain: String,
    /// The mailboxes that a Job goes through; none for one of discovery.
    pub mailboxes: Carried,
}

/// The state of a Job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// Made and not begun: whoever made it was interrupted.
    Waiting,
    /// Begun, and not at its end.
    Active,
    /// Being taken away; its pods may still be at work.
    Ending,
    /// At its end, well.
    Complete,
    /// At its end, with at least one slice that failed.
    Failed,
}

impl KnownJob {
    /// Reads the labels; `None` for a Job that has none of ours.
    pub fn read(job: Arc<Job>) -> Option<Self> {
        let label = |key: &str| job.labels().get(key).cloned();
        let task = label(LABEL_TASK)?;
        let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == task)?;
        Some(Self {
            kind,
            inputs: label(LABEL_INPUTS)?,
            number: label(LABEL_NUMBER)?.parse().ok()?,
            domain: label(LABEL_DOMAIN_DIGEST)?,
            mailboxes: Arc::default(),
            job,
        })
    }

    /// The connections to one host that its pods together may hold; `None` when that is not said, as by an older version.
    pub fn connections(&self) -> Option<u32> {
        self.job.annotations().get(ANNOTATION_CONNECTIONS)?.parse().ok()
    }

    /// Its state.
    pub fn course(&self) -> Course {
        let holds = |kind: &str| {
            let conditions = self.job.status.iter().flat_map(|s| s.conditions.iter().flatten());
            conditions.into_iter().any(|c| c.type_ == kind && c.status == "True")
        };
        if self.job.metadata.deletion_timestamp.is_some() {
            Course::Ending
        } else if holds("Complete") {
            Course::Complete
        } else if holds("Failed") {
            Course::Failed
        } else if is_suspended(&self.job) {
            Course::Waiting
        } else {
            Course::Active
        }
    }

    /// Whether it is at its end.
    pub fn is_finished(&self) -> bool {
        matches!(self.course(), Course::Complete | Course::Failed)
    }

    /// Whether it came to a bad end, and the installation makes pods otherwise by now: what could not perhaps can.
    pub fn may_go_better(&self, settings: &Settings) -> bool {
        self.course() == Course::Failed && !self.is_made_by(settings)
    }

    /// Whether its pods are such as the installation makes now. A Job's template never changes.
    pub fn is_made_by(&self, settings: &Settings) -> bool {
        self.job.annotations().get(ANNOTATION_SETTINGS) == Some(&settings.of_pods())
    }

    /// When it was made.
    pub fn made(&self) -> Timestamp {
        self.job.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |at| at.0)
    }

    /// When it came to its end; when it was made, if Kubernetes does not tell.
    pub fn ended(&self) -> Timestamp {
        let status = self.job.status.as_ref();
        let conditions = status.iter().flat_map(|s| s.conditions.iter().flatten());
        let ends = conditions
            .into_iter()
            .filter(|c| c.status == "True")
            .filter_map(|c| c.last_transition_time.as_ref());
        ends.map(|at| at.0).max().unwrap_or_else(|| self.made())
    }

    /// Why its workers ended without having said so, as far as their pods tell.
    pub fn last_words<'a>(&self, pods: impl Iterator<Item = &'a Pod>) -> Failure {
        let name = self.job.name_any();
        let ours = pods.filter(|pod| job_of(pod) == self.job.metadata.uid.as_deref());
        let ends = ours.filter_map(|pod| {
            pod.status.as_ref()?.container_statuses.as_ref()?.first().and_then(last_end).cloned()
        });
        // Several tries may have ended in several ways; the last one counts, unless one of them tells more.
        let tells_more = |end: &ContainerStateTerminated| Death::of(end) == Some(Death::OutOfMemory);
        let rank = |end: &ContainerStateTerminated| (tells_more(end), end.finished_at.clone().map(|at| at.0));
        let Some(end) = ends.max_by_key(rank) else {
            return Failure::internal(format!("Job {name} ended without a word of its worker"))
                .hint(format!("`kubectl describe job {name}` tells what happened; it is tried again"));
        };
        if let Some(death) = Death::of(&end) {
            return Failure::internal(format!("the worker {}", death.what(&end))).hint(death.remedy());
        }
        let class = Class::table().iter().find(|row| row.exit.map(i32::from) == Some(end.exit_code));
        let class = class.map_or(Class::Internal, |row| row.class);
        let said = end.message.unwrap_or_default();
        let line = said.lines().find_map(|line| line.strip_prefix("error: ")).or_else(|| said.lines().last());
        let line = line.map(printable).filter(|line| !line.is_empty());
        let what = line.unwrap_or_else(|| format!("the worker ended with exit code {}", end.exit_code));
        Failure::new(class, cut(&what, 400)).hint("it is tried again")
    }
}

/// How a container ended last.
pub fn last_end(container: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    [&container.state, &container.last_state]
        .into_iter()
        .find_map(|state| state.as_ref()?.terminated.as_ref())
}

/// How a worker came to an end that was not its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// It used more memory than it may, perhaps before it had begun.
    OutOfMemory,
    /// It was killed, and nobody says why.
    Killed,
    /// It was not begun.
    Unstarted,
}

impl Death {
    /// Reads how a container ended; `None` if the worker ended by itself. One that was killed between the making of its container
    /// and its own first step leaves the runtime puzzled, each time in other words.
    pub fn of(end: &ContainerStateTerminated) -> Option<Self> {
        let said = end.message.as_deref().unwrap_or_default();
        match end.reason.as_deref() {
            Some("OOMKilled") => Some(Self::OutOfMemory),
            Some("StartError") if said.contains("OOM") => Some(Self::OutOfMemory),
            Some("StartError") if KILLED_EARLY.iter().any(|words| said.contains(words)) => Some(Self::Killed),
            Some("StartError") => Some(Self::Unstarted),
            _ => (end.exit_code == SIGKILLED).then_some(Self::Killed),
        }
    }

    /// The event, to be said after the worker's name.
    pub fn what(self, end: &ContainerStateTerminated) -> String {
        match self {
            Self::OutOfMemory => "was ended because it used more memory than it may".to_owned(),
            Self::Killed => "was killed, most likely because it used more memory than it may".to_owned(),
            Self::Unstarted => format!("could not be started{}", said(end.message.as_deref())),
        }
    }

    /// The remedy.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::OutOfMemory | Self::Killed => {
                "raise workers.resources of the installation, or lower spec.workers.concurrency"
            }
            Self::Unstarted => "`kubectl describe pod` tells more",
        }
    }
}

/// The words of Kubernetes about it, as the end of a sentence.
pub fn said(message: Option<&str>) -> String {
    match message.map(printable) {
        Some(text) if !text.is_empty() => format!(": {}", cut(text.trim_end_matches('.'), 300)),
        _ => String::new(),
    }
}

/// The name of a look at a domain that was made and, as far as our copies show, is not begun. It is what is to be begun: a
/// second one beside it would spend a refused password's second try at once.
pub fn unbegun(jobs: &[KnownJob], domain: &str, inputs: &str, round: u32) -> Option<String> {
    let wanted = |job: &&KnownJob| {
        job.kind == Kind::Discover
            && job.domain == domain
            && job.inputs == inputs
            && job.number == round
            && job.course() == Course::Waiting
    };
    jobs.iter().find(wanted).map(|job| job.job.name_any())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn known(extra: &serde_json::Value) -> KnownJob {
        let mut job = json!({"metadata": {"name": "j", "uid": "u", "labels": {LABEL_TASK: "sync", LABEL_INPUTS: "i", LABEL_NUMBER: "3",
            LABEL_DOMAIN_DIGEST: "d"}}, "spec": {"template": {}}});
        for (key, value) in extra.as_object().unwrap() {
            for (inner, value) in value.as_object().unwrap() {
                job[key][inner] = value.clone();
            }
        }
        KnownJob::read(Arc::new(serde_json::from_value(job).unwrap())).unwrap()
    }

    #[test]
    fn a_jobs_course_is_read_from_what_kubernetes_says() {
        let condition = |kind: &str| json!({"status": {"conditions": [{"type": kind, "status": "True"}]}});
        let table = [
            (json!({}), Course::Active),
            (json!({"spec": {"suspend": true}}), Course::Waiting),
            (condition("Complete"), Course::Complete),
            (condition("Failed"), Course::Failed),
            (condition("FailureTarget"), Course::Active),
            (json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}), Course::Ending),
        ];
        for (extra, wanted) in table {
            assert_eq!(known(&extra).course(), wanted, "{extra}");
        }
        assert!(KnownJob::read(Arc::default()).is_none());
    }

    #[test]
    fn a_look_that_is_not_begun_yet_is_begun_and_not_made_again() {
        let look = |suspend: bool| {
            known(
                &json!({"metadata": {"labels": {LABEL_TASK: "discover", LABEL_INPUTS: "i", LABEL_NUMBER: "1",
                LABEL_DOMAIN_DIGEST: "d"}}, "spec": {"suspend": suspend}}),
            )
        };
        let waiting = [known(&json!({"spec": {"suspend": true}})), look(true)];
        assert_eq!(unbegun(&waiting, "d", "i", 1).as_deref(), Some("j"));
        for (domain, inputs, round) in [("e", "i", 1), ("d", "j", 1), ("d", "i", 2)] {
            assert_eq!(unbegun(&waiting, domain, inputs, round), None);
        }
        assert_eq!(unbegun(&[look(false)], "d", "i", 1), None);
        assert_eq!(unbegun(&waiting[..1], "d", "i", 3), None, "a pass is no look");
    }

    #[test]
    fn a_worker_that_cannot_speak_any_more_is_spoken_for() {
        let pod = |terminated: &serde_json::Value| -> Pod {
            serde_json::from_value(json!({"metadata": {"ownerReferences": [
                {"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "u", "controller": true}]},
                "status": {"containerStatuses": [{"name": "worker", "image": "", "imageID": "", "ready": false,
                    "restartCount": 0, "state": {"terminated": terminated}}]}}))
            .unwrap()
        };
        let job = known(&json!({}));
        let words = |terminated: serde_json::Value| job.last_words([pod(&terminated)].iter());
        let refused =
            words(json!({"exitCode": 23, "message": "{\"level\":1}\nerror: Secret \"a\" is missing\nhint"}));
        assert_eq!((refused.class, refused.what.as_str()), (Class::Configuration, "Secret \"a\" is missing"));
        for memory in [
            json!({"exitCode": 137, "reason": "OOMKilled"}),
            json!({"exitCode": 128, "reason": "StartError", "message": "runc create failed: unable to start container \
                process: container init was OOM-killed (memory limit too low?)"}),
        ] {
            assert!(words(memory).what.contains("memory"));
        }
        assert!(
            words(json!({"exitCode": 137, "reason": "Error", "message": "log"}))
                .what
                .ends_with("than it may")
        );
        for early in
            ["cannot start a stopped process: unknown", "cannot start an already running container: unknown"]
        {
            let early = json!({"exitCode": 128, "reason": "StartError", "message": early});
            assert!(words(early).what.ends_with("than it may"));
        }
        let unstarted = words(
            json!({"exitCode": 128, "reason": "StartError", "message": "exec: \"mailferry\": no such file"}),
        );
        assert!(unstarted.what.contains("no such file"), "{unstarted}");
        let several = [
            json!({"exitCode": 137, "reason": "OOMKilled"}),
            json!({"exitCode": 101, "finishedAt": "2026-01-01T00:00:00Z"}),
        ];
        let several = several.map(|end| pod(&end));
        assert!(job.last_words(several.iter()).what.contains("was ended because"), "the one that tells more");
        assert_eq!(words(json!({"exitCode": 101})).class, Class::Internal);
        assert!(job.last_words([].iter()).hint.unwrap().contains("kubectl describe job j"));
    }
}
