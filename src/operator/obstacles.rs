//! Obstacles that keep workers from working, as their pods and Jobs tell them, in a sentence with the remedy. Pure.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use kube::ResourceExt;

use super::known::{Death, last_end, said};
use super::stores::job_of;
use crate::api::condition::Reason;
use crate::model::failure::Failure;
use crate::model::text::printable;
use crate::plan::Obstacle;

/// How long a Job may be without a pod, or a pod without a node, before that is worth a word.
const PATIENCE: SignedDuration = SignedDuration::from_secs(5);
/// How long a worker's death is worth a word after another took its place.
const REMEMBERED: SignedDuration = SignedDuration::from_mins(10);

/// How often to look again whether a Job whose pods have not started is kept from it.
pub const LOOK: std::time::Duration = std::time::Duration::from_secs(6);

/// Whether a pod is one of a Job's: Kubernetes says so by the Job's uid; a label says what anybody likes.
pub fn is_of(pod: &Pod, job: &Job) -> bool {
    job_of(pod).is_some_and(|uid| Some(uid) == job.metadata.uid.as_deref())
}

/// Whether a pod's worker has begun.
pub fn has_started(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    phase.is_some_and(|phase| phase != "Pending")
}

/// The obstacles that keep the workers of some Jobs from working, the worst first.
pub fn find<'a>(
    jobs: impl Iterator<Item = &'a Job> + Clone,
    pods: impl Iterator<Item = &'a Pod>,
    now: Timestamp,
) -> Vec<Obstacle> {
    let uids: BTreeSet<&str> = jobs.clone().filter_map(|job| job.metadata.uid.as_deref()).collect();
    let mut found = Vec::new();
    let mut with_pods = BTreeSet::new();
    for pod in pods {
        let Some(job) = job_of(pod).filter(|job| uids.contains(job)) else { continue };
        with_pods.insert(job);
        if pod.metadata.deletion_timestamp.is_none() {
            found.extend(of_pod(pod, now));
        }
    }
    for job in jobs {
        let name = job.name_any();
        let suspended = job.spec.as_ref().and_then(|s| s.suspend).unwrap_or_default();
        let started = job.status.as_ref().and_then(|s| s.start_time.as_ref()).map(|t| t.0);
        let waited = started.is_some_and(|since| now.duration_since(since) > PATIENCE * 4);
        let without = job.metadata.uid.as_deref().is_none_or(|uid| !with_pods.contains(uid));
        if without && !suspended && waited {
            let message = format!(
                "The cluster makes no pod for Job {name}: a quota, a LimitRange or an admission policy refuses it. \
                 `kubectl describe job {name}` tells which."
            );
            found.push(Obstacle { reason: Reason::PodRefused, message });
        }
    }
    found.sort_by_key(|obstacle| obstacle.reason);
    found.dedup();
    found
}

fn of_pod(pod: &Pod, now: Timestamp) -> Option<Obstacle> {
    let name = pod.name_any();
    let status = pod.status.as_ref()?;
    let made = pod.metadata.creation_timestamp.as_ref().map_or(now, |t| t.0);
    let obstacle = |reason, message| Some(Obstacle { reason, message });
    if status.reason.as_deref() == Some("Evicted") && now.duration_since(made) < REMEMBERED {
        let why = said(status.message.as_deref());
        let message =
            format!("The worker's pod {name} was evicted{why}. Another takes its place and goes on.");
        return obstacle(Reason::WorkerEvicted, message);
    }
    let container = status.container_statuses.iter().flatten().next();
    let recently = |ended: &&ContainerStateTerminated| {
        ended.finished_at.as_ref().is_none_or(|at| now.duration_since(at.0) < REMEMBERED)
    };
    if let Some(ended) = container.and_then(last_end).filter(recently)
        && let Some(death) = Death::of(ended)
    {
        let what = Failure::internal(format!("The worker {name} {}", death.what(ended))).hint(death.remedy());
        let reason = match death {
            Death::OutOfMemory => Reason::WorkerOutOfMemory,
            Death::Killed => Reason::WorkerKilled,
            Death::Unstarted => Reason::PodNotStarted,
        };
        return obstacle(reason, what.in_full());
    }
    if status.phase.as_deref() != Some("Pending") {
        return None;
    }
    let unplaced =
        status.conditions.iter().flatten().find(|c| c.type_ == "PodScheduled" && c.status == "False");
    if let Some(condition) = unplaced.filter(|_| now.duration_since(made) > PATIENCE) {
        let why = said(condition.message.as_deref());
        let message =
            format!("No node takes the worker's pod {name}{why}. Make room, or lower what workers ask for.");
        return obstacle(Reason::PodUnschedulable, message);
    }
    let waiting = container?.state.as_ref()?.waiting.as_ref()?;
    let why = said(waiting.message.as_deref());
    match waiting.reason.as_deref()? {
        "ImagePullBackOff"
        | "ErrImagePull"
        | "InvalidImageName"
        | "ErrImageNeverPull"
        | "RegistryUnavailable" => {
            let image = container.map(|c| printable(&c.image)).unwrap_or_default();
            let message = format!(
                "The image {image} of the workers cannot be had{why}. Check image.repository and image.tag of the \
                 installation, and the rights to pull it in this namespace."
            );
            obstacle(Reason::ImagePullFailed, message)
        }
        word @ ("CreateContainerConfigError" | "CreateContainerError" | "RunContainerError") => obstacle(
            Reason::PodNotStarted,
            format!(
                "The worker's pod {name} cannot be started ({word}){why}. `kubectl describe pod {name}` tells more."
            ),
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T01:00:00Z".parse().unwrap()
    }

    fn job() -> Job {
        serde_json::from_value(json!({"metadata": {"name": "j", "uid": "u"}, "spec": {"template": {}},
            "status": {"startTime": "2026-01-01T00:59:00Z"}}))
        .unwrap()
    }

    fn pod(status: &serde_json::Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "ownerReferences": [
                    {"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "u", "controller": true}],
                "creationTimestamp": "2026-01-01T00:59:00Z"},
            "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn each_obstacle_is_named_with_its_remedy() {
        let waiting = |reason: &str| {
            json!({"phase": "Pending", "containerStatuses": [{"name": "worker", "image": "i:1", "imageID": "", "ready": false,
                "restartCount": 0, "state": {"waiting": {"reason": reason, "message": "because\u{1b}[31m"}}}]})
        };
        let ended = |terminated: &serde_json::Value| {
            json!({"phase": "Failed", "containerStatuses": [{"name": "worker", "image": "i:1", "imageID": "", "ready": false,
                "restartCount": 0, "state": {"terminated": terminated}}]})
        };
        let unstarted =
            |message: &str| ended(&json!({"exitCode": 128, "reason": "StartError", "message": message}));
        let table = [
            (
                json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                "message": "0/1 nodes are available: 1 Insufficient memory."}]}),
                Some(Reason::PodUnschedulable),
            ),
            (waiting("ImagePullBackOff"), Some(Reason::ImagePullFailed)),
            (waiting("CreateContainerConfigError"), Some(Reason::PodNotStarted)),
            (waiting("ContainerCreating"), None),
            (
                json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory"}),
                Some(Reason::WorkerEvicted),
            ),
            (ended(&json!({"exitCode": 137, "reason": "OOMKilled"})), Some(Reason::WorkerOutOfMemory)),
            (ended(&json!({"exitCode": 137, "reason": "Error"})), Some(Reason::WorkerKilled)),
            (ended(&json!({"exitCode": 24, "reason": "Error"})), None),
            (
                unstarted("container init was OOM-killed (memory limit too low?)"),
                Some(Reason::WorkerOutOfMemory),
            ),
            (unstarted("exec: no such file"), Some(Reason::PodNotStarted)),
            (json!({"phase": "Running"}), None),
        ];
        for (status, wanted) in table {
            let pods = [pod(&status)];
            let found = find([job()].iter(), pods.iter(), now());
            assert_eq!(found.first().map(|o| o.reason), wanted, "{status}");
            assert!(
                found.iter().all(|o| o.message.ends_with('.') && !o.message.contains('\u{1b}')),
                "{found:?}"
            );
        }
    }

    #[test]
    fn a_job_without_a_pod_is_told_of_after_a_while() {
        assert_eq!(find([job()].iter(), [].iter(), now())[0].reason, Reason::PodRefused);
        let early = "2026-01-01T00:59:05Z".parse().unwrap();
        assert!(find([job()].iter(), [].iter(), early).is_empty());
        let mut suspended = job();
        suspended.spec.as_mut().unwrap().suspend = Some(true);
        assert!(find([suspended].iter(), [].iter(), now()).is_empty());
    }
}
