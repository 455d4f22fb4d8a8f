//! Which Jobs do what is not wanted any more. The word of the spec alone is known before anything else is looked at, so that
//! nothing that fails later keeps a Job from being ended. Pure.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;

use super::known::{Course, KnownJob, last_end};
use super::obstacles::is_of;
use super::settings::Inputs;
use crate::api::{MailMigration, Stage};
use crate::cluster::objects::{Kind, digest};
use crate::model::address::Address;
use crate::plan::pass;

/// How long containers beside a worker may go on when the worker has ended: they keep the pod, and with it the Job.
const BESIDE: SignedDuration = SignedDuration::from_secs(30);

/// The word of the spec about the Jobs that may be at work.
pub struct Wish {
    suspend: bool,
    stage: Stage,
    pass: u32,
    verification: u32,
    /// The inputs on which each kind of Job of each domain depends, by the digest of its name.
    inputs: BTreeMap<(Kind, String), String>,
}

impl Wish {
    /// Reads the spec.
    pub fn of(migration: &MailMigration, of: &Inputs) -> Self {
        let spec = &migration.spec;
        let before = migration.status.as_ref().and_then(|status| status.pass.as_ref());
        let inputs = spec.domains.iter().flat_map(|domain| {
            let key = digest(&[&domain.name]);
            [
                ((Kind::Discover, key.clone()), of.of_discovery(domain)),
                ((Kind::Sync, key.clone()), of.of_sync(domain)),
                // A verification is of a pass: where another one is asked for, that comes first.
                ((Kind::Verify, key), of.of_sync(domain)),
            ]
        });
        let wanted = pass::next(spec, before);
        Self {
            suspend: spec.suspend,
            stage: spec.stage,
            pass: wanted.number,
            verification: wanted.verification,
            inputs: inputs.collect(),
        }
    }

    /// Whether the spec does not want what a Job does: it is suspended, writes nothing, goes elsewhere, or has no such domain.
    pub fn forbids(&self, job: &KnownJob) -> bool {
        let wanted = self.inputs.get(&(job.kind, job.domain.clone()));
        let number = match job.kind {
            Kind::Discover => job.number,
            Kind::Sync => self.pass,
            Kind::Verify => self.verification,
        };
        self.suspend
            || wanted != Some(&job.inputs)
            || job.number != number
            || job.kind.has_mailboxes() && self.stage == Stage::Plan
    }
}

/// Whether a Job carries a mailbox that is not on the list of its domain any more, or goes elsewhere by now. `planned` has the
/// route of each mailbox; until discovery has told the list, nobody knows who is on it.
pub fn carries_what_is_gone<S: BuildHasher>(job: &KnownJob, planned: &HashMap<&Address, u64, S>) -> bool {
    job.kind.has_mailboxes()
        && !planned.is_empty()
        && job.mailboxes.iter().any(|(mailbox, route)| planned.get(mailbox) != Some(route))
}

/// Whether the worker of each pod that a Job still has ended a while ago, and something beside it does not: such a Job would
/// never come to its end, and hold its place and its connections for ever.
pub fn is_kept_by_others<'a>(job: &KnownJob, pods: impl Iterator<Item = &'a Pod>, now: Timestamp) -> bool {
    let mut any = false;
    for pod in pods.filter(|pod| is_of(pod, &job.job)) {
        let status = pod.status.as_ref();
        if status.and_then(|status| status.phase.as_deref()) != Some("Running") {
            continue;
        }
        let worker = status.and_then(|status| status.container_statuses.iter().flatten().next());
        let running = worker.and_then(|worker| worker.state.as_ref()?.running.as_ref()).is_some();
        let ended = worker.filter(|_| !running).and_then(last_end).and_then(|end| end.finished_at.as_ref());
        if ended.is_none_or(|at| now.duration_since(at.0) < BESIDE) {
            return false;
        }
        any = true;
    }
    any && job.course() == Course::Active
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::api::batch::v1::Job;
    use serde_json::{Value, json};

    use super::*;
    use crate::cluster::objects::{LABEL_DOMAIN_DIGEST, LABEL_INPUTS, LABEL_NUMBER, LABEL_TASK};
    use crate::cluster::work::route;
    use crate::operator::settings::Settings;

    fn migration(change: &Value) -> MailMigration {
        let mut spec = json!({
            "stage": "Sync",
            "destination": {"imap": {"host": "imap.new.test", "credentialsRef": {"name": "new"}}},
            "domains": [{"name": "a.test", "credentialsRef": {"name": "a"}}],
        });
        for (key, value) in change.as_object().unwrap() {
            spec[key] = value.clone();
        }
        MailMigration::new("m", serde_json::from_value(spec).unwrap())
    }

    fn job(kind: Kind, inputs: &str, number: u32) -> KnownJob {
        let labels = json!({LABEL_TASK: kind.as_str(), LABEL_INPUTS: inputs, LABEL_NUMBER: number.to_string(),
            LABEL_DOMAIN_DIGEST: digest(&["a.test"])});
        let job: Job = serde_json::from_value(
            json!({"metadata": {"name": "j", "uid": "u", "labels": labels}, "spec": {"template": {}}}),
        )
        .unwrap();
        KnownJob::read(Arc::new(job)).unwrap()
    }

    #[test]
    fn what_the_spec_alone_forbids_is_known_before_anything_is_read() {
        let settings = Settings::default();
        let before = migration(&json!({}));
        let domain = &before.spec.domains[0];
        let sync = job(Kind::Sync, &settings.sync_inputs(&before.spec, domain), 1);
        let look = job(Kind::Discover, &settings.discovery_inputs(&before.spec, domain), 1);
        let verify = job(Kind::Verify, &settings.sync_inputs(&before.spec, domain), 0);
        let other = json!({"imap": {"host": "imap.other.test", "credentialsRef": {"name": "new"}}});
        let table = [
            (json!({}), false, false),
            (json!({"suspend": true}), true, true),
            (json!({"stage": "Plan"}), true, false),
            // Discovery asks the destination's mailboxes too: it must not go on asking the old ones.
            (json!({"destination": other}), true, true),
            (json!({"mapping": {"addresses": {"anna@a.test": "ben@b.test"}}}), true, true),
            (json!({"domains": [{"name": "b.test", "credentialsRef": {"name": "a"}}]}), true, true),
            (json!({"trigger": {"sync": "again"}}), true, false),
            (json!({"acknowledge": []}), false, false),
            // Neither the size of a volume nor its class makes another ledger.
            (json!({"ledger": {"sqlite": {"size": "20Gi", "storageClassName": "fast"}}}), false, false),
            (json!({"ledger": {"postgres": {"credentialsRef": {"name": "db"}}}}), true, true),
        ];
        for (change, ends_sync, ends_look) in table {
            let mut now = migration(&change);
            let pass = pass::next(&before.spec, None);
            now.status = Some(crate::api::MailMigrationStatus { pass: Some(pass), ..Default::default() });
            let wish = Wish::of(&now, &Inputs::of(&settings, &now.spec));
            assert_eq!((wish.forbids(&sync), wish.forbids(&look)), (ends_sync, ends_look), "{change}");
            assert_eq!(wish.forbids(&verify), ends_sync, "a verification is of its pass: {change}");
        }
        let mut again = migration(&json!({"trigger": {"verify": "again"}}));
        let pass = Some(pass::next(&before.spec, None));
        again.status = Some(crate::api::MailMigrationStatus { pass, ..Default::default() });
        let wish = Wish::of(&again, &Inputs::of(&settings, &again.spec));
        assert!(
            wish.forbids(&verify) && !wish.forbids(&sync),
            "the next verification takes its place, and no pass ends"
        );
    }

    #[test]
    fn a_mailbox_that_left_the_list_or_goes_elsewhere_ends_its_job() {
        let [anna, ben]: [Address; 2] = ["anna@a.test", "ben@a.test"].map(|a| a.parse().unwrap());
        let to: Address = "anna@b.test".parse().unwrap();
        let mut sync = job(Kind::Sync, "i", 1);
        sync.mailboxes = Arc::new([(anna.clone(), route(&to, "anna"))].into());
        let gone = |planned: &[(&Address, u64)]| {
            carries_what_is_gone(&sync, &planned.iter().copied().collect::<HashMap<_, _>>())
        };
        assert!(!gone(&[(&anna, route(&to, "anna")), (&ben, 7)]));
        assert!(gone(&[(&ben, 7)]), "it left the list");
        assert!(gone(&[(&anna, route(&ben, "anna"))]), "its destination was corrected");
        assert!(gone(&[(&anna, route(&to, "annie"))]), "its login name was corrected");
        assert!(!gone(&[]), "the list is not known");
    }

    #[test]
    fn a_job_whose_pods_live_on_without_their_worker_is_ended_after_a_while() {
        let now: Timestamp = "2026-01-01T01:00:00Z".parse().unwrap();
        let pod = |phase: &str, state: Value| -> Pod {
            serde_json::from_value(json!({"metadata": {"name": "p", "ownerReferences": [
                    {"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "u", "controller": true}]},
                "status": {"phase": phase, "containerStatuses": [{"name": "worker", "image": "", "imageID": "",
                    "ready": false, "restartCount": 0, "state": state}]}}))
            .unwrap()
        };
        let ended = |at: &str| json!({"terminated": {"exitCode": 0, "finishedAt": at}});
        let (long, just) = (ended("2026-01-01T00:59:00Z"), ended("2026-01-01T00:59:50Z"));
        let running = json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
        let table = [
            (vec![pod("Running", long.clone())], true),
            (vec![pod("Running", just)], false),
            (vec![pod("Running", running.clone())], false),
            (vec![pod("Running", long.clone()), pod("Running", running)], false),
            (vec![pod("Succeeded", long.clone())], false),
            (vec![], false),
        ];
        for (pods, kept) in table {
            assert_eq!(is_kept_by_others(&job(Kind::Sync, "i", 1), pods.iter(), now), kept, "{pods:?}");
        }
    }
}
