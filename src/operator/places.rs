//! How much may go on at the same time: places for discovery, by namespace, and connections to a host, by migration. Pure.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;

use super::known::{Course, KnownJob};
use super::stores::job_of;
use crate::cluster::objects::Kind;

/// Places for discovery that a namespace has, and the most Jobs of discovery that one migration has under way.
pub const PLACES: usize = 16;
/// How long a Job holds its place although no worker of it is at work.
const PATIENCE: SignedDuration = SignedDuration::from_mins(2);
/// Connections that a worker needs: a mailbox holds one at each end, and both may be one host.
const NEEDED: u32 = 2;
/// From this limit on, [`NEEDED`] connections are kept for discovery, and for mailboxes that come later or are tried again.
const RESERVES_FROM: u32 = 8;

/// The Jobs, by uid, of which a worker is at work in one of these pods.
pub fn at_work<'a>(pods: impl Iterator<Item = &'a Pod>) -> BTreeSet<&'a str> {
    let works = |pod: &&Pod| {
        let containers = pod.status.iter().flat_map(|s| s.container_statuses.iter().flatten());
        let mut states = containers.filter_map(|c| c.state.as_ref());
        states.any(|state| state.running.is_some())
    };
    pods.filter(works).filter_map(job_of).collect()
}

/// Whether a Job holds a place for discovery: a worker is at work, or it was begun a moment ago. A Job that has no pod, has one
/// without a node or an image, or is kept by something beside its worker, holds none for ever.
pub fn holds_place(job: &KnownJob, at_work: &BTreeSet<&str>, now: Timestamp) -> bool {
    let begun = started(&job.job).unwrap_or_else(|| job.made());
    job.kind == Kind::Discover
        && job.course() == Course::Active
        && (job.job.metadata.uid.as_deref().is_some_and(|uid| at_work.contains(uid))
            || now.duration_since(begun) < PATIENCE)
}

fn started(job: &Job) -> Option<Timestamp> {
    job.status.as_ref()?.start_time.as_ref().map(|at| at.0)
}

/// The rest of the connections to a host that a migration may hold, over all its Jobs. Which hosts a Job will meet is
/// known only when it has begun, so each counts for every host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    limit: u32,
    used: u32,
}

impl Budget {
    /// A budget of which these Jobs hold their parts. `through` are Jobs of discovery whose answer is there.
    pub fn of<'a>(
        limit: u32,
        jobs: impl Iterator<Item = &'a KnownJob>,
        through: impl Fn(&KnownJob) -> bool,
    ) -> Self {
        let limit = limit.max(NEEDED);
        let holds =
            |job: &&KnownJob| matches!(job.course(), Course::Active | Course::Ending) && !through(job);
        let used = jobs.filter(holds).map(|job| job.connections().unwrap_or(limit)).sum();
        Self { limit, used }
    }

    /// The connections that one of `waiting` Jobs may hold that are to be begun now; `None` when there are too few. A Job
    /// that is `late` comes beside another of the same domain, or looks at one.
    pub fn share(&self, late: bool, waiting: usize) -> Option<u32> {
        let kept = if late || self.limit < RESERVES_FROM { 0 } else { NEEDED };
        let free = (self.limit - kept).checked_sub(self.used).filter(|free| *free >= NEEDED)?;
        let waiting = u32::try_from(waiting).unwrap_or(u32::MAX).max(1);
        Some((free / waiting).max(NEEDED))
    }

    /// Takes connections for a Job.
    pub fn take(&mut self, connections: u32) {
        self.used = self.used.saturating_add(connections);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::cluster::objects::{
        ANNOTATION_CONNECTIONS, LABEL_DOMAIN_DIGEST, LABEL_INPUTS, LABEL_NUMBER, LABEL_TASK,
    };

    fn now() -> Timestamp {
        "2026-01-01T01:00:00Z".parse().unwrap()
    }

    fn job(kind: Kind, connections: Option<u32>, status: &Value) -> KnownJob {
        let annotations = connections.map(|n| json!({ANNOTATION_CONNECTIONS: n.to_string()}));
        let job = json!({"metadata": {"name": "j", "uid": "u", "annotations": annotations, "labels": {LABEL_TASK:
            kind.as_str(), LABEL_INPUTS: "i", LABEL_NUMBER: "1", LABEL_DOMAIN_DIGEST: "d"}},
            "spec": {"template": {}}, "status": status});
        KnownJob::read(Arc::new(serde_json::from_value(job).unwrap())).unwrap()
    }

    #[test]
    fn a_job_without_a_worker_holds_its_place_for_a_while_only() {
        let (early, late) =
            (json!({"startTime": "2026-01-01T00:59:00Z"}), json!({"startTime": "2026-01-01T00:50:00Z"}));
        let complete = json!({"conditions": [{"type": "Complete", "status": "True"}]});
        let table = [
            (Kind::Discover, &early, false, true),
            (Kind::Discover, &late, false, false),
            (Kind::Discover, &late, true, true),
            (Kind::Discover, &complete, true, false),
            (Kind::Sync, &early, true, false),
        ];
        for (kind, status, works, holds) in table {
            let at_work: BTreeSet<&str> = if works { ["u"].into() } else { BTreeSet::new() };
            assert_eq!(
                holds_place(&job(kind, None, status), &at_work, now()),
                holds,
                "{kind:?} {status} {works}"
            );
        }
    }

    #[test]
    fn a_worker_is_at_work_while_its_container_runs() {
        let pod = |state: Value| -> Pod {
            serde_json::from_value(json!({"metadata": {"name": "p", "ownerReferences": [
                    {"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "u", "controller": true}]},
                "status": {"containerStatuses": [{"name": "worker", "image": "", "imageID": "", "ready": false,
                    "restartCount": 0, "state": state}]}}))
            .unwrap()
        };
        assert_eq!(at_work([pod(json!({"running": {}}))].iter()).len(), 1);
        for state in
            [json!({"waiting": {"reason": "ImagePullBackOff"}}), json!({"terminated": {"exitCode": 0}})]
        {
            assert!(at_work([pod(state)].iter()).is_empty());
        }
    }

    #[test]
    fn all_jobs_together_keep_the_limit_of_a_host() {
        for limit in [1, 2, 3, 7, 8, 9, 25, 64] {
            for domains in [1, 2, 3, 25, 1_000] {
                let mut budget = Budget::of(limit, std::iter::empty(), |_| false);
                let (mut sum, mut begun) = (0, 0);
                for waiting in (1..=domains).rev() {
                    let Some(share) = budget.share(false, waiting) else { break };
                    assert!(share >= 2, "a mailbox holds two");
                    budget.take(share);
                    (sum, begun) = (sum + share, begun + 1);
                }
                let kept = if limit >= 8 { 2 } else { 0 };
                assert!(sum <= limit.max(2) - kept, "{sum} of {limit} for {domains} domains");
                assert!(
                    begun > 0 && sum + 2 > limit.max(2) - kept - 2,
                    "{sum} of {limit} for {domains} domains"
                );
                // Jobs that come later have their part all the same.
                assert_eq!(budget.share(true, 1).is_some(), limit >= 8 || sum + 2 <= limit);
            }
        }
    }

    #[test]
    fn jobs_that_go_on_hold_their_part_and_those_that_are_through_do_not() {
        let active = json!({});
        let jobs = [
            job(Kind::Sync, Some(4), &active),
            job(Kind::Discover, Some(2), &active),
            job(Kind::Sync, Some(9), &json!({"conditions": [{"type": "Failed", "status": "True"}]})),
        ];
        let used =
            |through: bool| Budget::of(16, jobs.iter(), |job| through && job.kind == Kind::Discover).used;
        assert_eq!((used(false), used(true)), (6, 4));
        let older = [job(Kind::Sync, None, &active)];
        assert_eq!(Budget::of(16, older.iter(), |_| false).share(true, 1), None, "it may hold all");
    }
}
