//! Objects as they are watched: no more of them than is looked at, so that nobody can fill the operator's memory with
//! annotations, specs and statuses, and read so that one that cannot be understood hides no other.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{NamespaceResourceScope, PartialObjectMeta};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::api::mailboxmigration::{MailboxMigrationSpec, MailboxMigrationStatus};
use crate::api::names::{LABEL_MANAGED_BY, LABEL_MIGRATION};
use crate::api::{MailMigration, MailboxMigration};
use crate::cluster::objects::{
    ANNOTATION_CONNECTIONS, ANNOTATION_SETTINGS, LABEL_COMPONENT, LABEL_DOMAIN_DIGEST, LABEL_INPUTS,
    LABEL_JOB_NAME, LABEL_NUMBER, LABEL_RESULTS, LABEL_TASK,
};
use crate::model::text::cut;

/// That a `MailMigration` is there, and when its spec changed; a turn fetches the rest.
pub type Wanted = PartialObjectMeta<MailMigration>;

/// The container of a worker's pod that is ours. Admission may have put others beside it.
pub const WORKER: &str = "worker";
/// The longest message of Kubernetes about a pod or a Job that is kept, in bytes.
const MESSAGE_MAX: usize = 4096;
/// The most owners of an object that are looked at.
const OWNERS_MAX: usize = 16;
/// Labels that are looked at.
const LABELS: [&str; 9] = [
    LABEL_MANAGED_BY,
    LABEL_COMPONENT,
    LABEL_MIGRATION,
    LABEL_TASK,
    LABEL_INPUTS,
    LABEL_NUMBER,
    LABEL_DOMAIN_DIGEST,
    LABEL_RESULTS,
    LABEL_JOB_NAME,
];
/// Annotations that are looked at.
const ANNOTATIONS: [&str; 2] = [ANNOTATION_SETTINGS, ANNOTATION_CONNECTIONS];

/// A `MailboxMigration` as far as it can be read.
#[derive(Debug, Clone, Deserialize)]
pub struct Mailbox {
    /// Its metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// Which mailbox it is about; `None` when that cannot be read.
    #[serde(default, deserialize_with = "as_far_as_readable")]
    pub spec: Option<MailboxMigrationSpec>,
    /// Its status; `None` when there is none or it cannot be read.
    #[serde(default, deserialize_with = "as_far_as_readable")]
    pub status: Option<MailboxMigrationStatus>,
}

fn as_far_as_readable<'de, T: DeserializeOwned, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(from)?).ok())
}

impl Resource for Mailbox {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        MailboxMigration::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        MailboxMigration::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        MailboxMigration::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        MailboxMigration::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Keeps of an object's metadata what is looked at.
pub fn trim(object: &mut impl ResourceExt) {
    let meta = object.meta_mut();
    meta.managed_fields = None;
    meta.finalizers = None;
    meta.generate_name = None;
    meta.self_link = None;
    keep(&mut meta.labels, &LABELS);
    keep(&mut meta.annotations, &ANNOTATIONS);
    if let Some(owners) = &mut meta.owner_references {
        owners.truncate(OWNERS_MAX);
    }
}

fn keep(texts: &mut Option<BTreeMap<String, String>>, wanted: &[&str]) {
    if let Some(texts) = texts {
        // Values of labels have at most 63 characters; annotations of ours are not longer.
        texts.retain(|key, value| wanted.contains(&key.as_str()) && value.len() <= 63);
    }
}

/// As [`trim`], for a mailbox.
pub fn trim_mailbox(mailbox: &mut Mailbox) {
    trim(mailbox);
    if let Some(status) = &mut mailbox.status {
        *status = status.bounded();
    }
}

/// As [`trim`], for a Job.
pub fn trim_job(job: &mut Job) {
    trim(job);
    if let Some(spec) = &mut job.spec {
        spec.template = PodTemplateSpec::default();
        spec.selector = None;
        spec.pod_failure_policy = None;
    }
    if let Some(status) = &mut job.status {
        status.completed_indexes = None;
        status.failed_indexes = None;
        status.uncounted_terminated_pods = None;
        for condition in status.conditions.iter_mut().flatten() {
            condition.message = condition.message.take().map(|text| cut(&text, MESSAGE_MAX));
        }
    }
}

/// As [`trim`], for a pod.
pub fn trim_pod(pod: &mut Pod) {
    trim(pod);
    pod.spec = None;
    let Some(status) = &mut pod.status else { return };
    let short = |text: &mut Option<String>| *text = text.take().map(|text| cut(&text, MESSAGE_MAX));
    short(&mut status.message);
    status.init_container_statuses = None;
    status.ephemeral_container_statuses = None;
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|condition| condition.type_ == "PodScheduled");
        for condition in conditions {
            short(&mut condition.message);
        }
    }
    if let Some(containers) = &mut status.container_statuses {
        containers.retain(|container| container.name == WORKER);
        for container in containers {
            for state in [&mut container.state, &mut container.last_state].into_iter().flatten() {
                if let Some(ended) = &mut state.terminated {
                    short(&mut ended.message);
                }
                if let Some(waiting) = &mut state.waiting {
                    short(&mut waiting.message);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bytes(value: &impl serde::Serialize) -> usize {
        serde_json::to_vec(value).unwrap().len()
    }

    #[test]
    fn nothing_is_kept_that_is_not_looked_at() {
        let long = "x".repeat(200_000);
        let metadata = json!({"name": "n", "namespace": "s", "uid": "u", "generation": 3, "resourceVersion": "9",
            "annotations": {"a": long, ANNOTATION_SETTINGS: "one", ANNOTATION_CONNECTIONS: long},
            "labels": {LABEL_MIGRATION: "m", "b": "c"}, "finalizers": [long],
            "managedFields": [{"manager": long}]});
        let mut wanted: Wanted = serde_json::from_value(json!({"metadata": metadata})).unwrap();
        trim(&mut wanted);
        assert!(bytes(&wanted) < 400, "{wanted:?}");
        assert_eq!((wanted.labels().len(), wanted.annotations().len()), (1, 1));
        assert_eq!(wanted.metadata.generation, Some(3));

        let container = |name: &str| {
            json!({"name": name, "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "ImagePullBackOff", "message": long}}})
        };
        let mut pod: Pod = serde_json::from_value(json!({"metadata": metadata,
            "spec": {"containers": [{"name": "worker", "args": [long]}]},
            "status": {"phase": "Pending", "message": long,
                "conditions": [{"type": "Ready", "status": "False", "message": long}],
                "containerStatuses": [container("worker"), container("sidecar")]}}))
        .unwrap();
        trim_pod(&mut pod);
        assert!(bytes(&pod) < 10_000, "{}", bytes(&pod));

        let mut job: Job = serde_json::from_value(json!({"metadata": metadata, "spec": {"suspend": true, "template":
            {"metadata": {"annotations": {"a": long}}, "spec": {"containers": [{"name": "worker", "args": [long]}]}}}}))
        .unwrap();
        trim_job(&mut job);
        assert!(bytes(&job) < 500, "{}", bytes(&job));
        assert_eq!(job.spec.unwrap().suspend, Some(true));
    }

    #[test]
    fn a_mailbox_that_cannot_be_read_hides_no_other() {
        let spec =
            json!({"migration": "m", "domain": "a.test", "source": "a@a.test", "destination": "a@b.test"});
        let read = |spec: &Value, status: &Value| -> Mailbox {
            serde_json::from_value(json!({"metadata": {"name": "x"}, "spec": spec, "status": status}))
                .unwrap()
        };
        assert!(read(&spec, &json!({"folders": 2})).status.is_some());
        let odd = read(&spec, &json!({"folders": 5_000_000_000_u64}));
        assert!(odd.spec.is_some() && odd.status.is_none());
        assert!(read(&json!({"source": 7}), &Value::Null).spec.is_none());
        assert!(serde_json::from_value::<Mailbox>(json!({})).unwrap().spec.is_none());
    }
}
