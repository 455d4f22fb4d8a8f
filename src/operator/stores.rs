//! The operator's sight of the cluster: watched copies of our objects, cut down to what is looked at.

use std::sync::Arc;
use std::time::Duration;

use futures::future::ready;
use futures::stream::{self, BoxStream, Stream, StreamExt};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::core::{NamespaceResourceScope, PartialObjectMeta};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, watcher};
use kube::runtime::{Controller, PredicateConfig, WatchStreamExt, predicates};
use kube::{Api, Client, Resource, ResourceExt};
use tokio::sync::OnceCell;

use super::gather::gather;
use super::readiness::{Readiness, Watch};
use super::watched::{Mailbox, Wanted, trim, trim_job, trim_mailbox, trim_pod};
use crate::api::MailMigration;
use crate::api::names::LABEL_MIGRATION;
use crate::cluster::objects::ours;
use crate::plan::pass::fingerprint;

/// The copies of one namespace, or of all.
#[derive(Clone)]
pub struct Stores {
    /// The wish of users: that it is there, not what it says.
    pub migrations: Store<Wanted>,
    /// One object for each mailbox.
    pub mailboxes: Store<Mailbox>,
    /// Our Jobs, without their templates.
    pub jobs: Store<Job>,
    /// Their pods, without their specs.
    pub pods: Store<Pod>,
    /// ConfigMaps of results: that and when they changed, not what they hold.
    pub results: Store<PartialObjectMeta<ConfigMap>>,
    whole: Arc<OnceCell<bool>>,
}

/// How long changes of a migration's Jobs, pods and results are gathered before its turn.
const GATHER: Duration = Duration::from_millis(300);
/// How long words of its workers are gathered.
const GATHER_TOLD: Duration = Duration::from_secs(1);
/// The pages of a list that is read anew, in objects. It bounds what one answer takes in memory: somebody's objects may
/// have 256 KiB of annotations each.
const PAGE: u32 = 50;
/// The same for mailboxes, of which there are many, and of which only the operator makes any.
const PAGE_OF_MAILBOXES: u32 = 100;

/// Watches one namespace, or all of them, and calls for a migration's turn when anything of it changed. How reading goes is
/// told to `readiness`.
pub fn watch(
    client: &Client,
    namespace: Option<&str>,
    readiness: &Arc<Readiness>,
) -> (Stores, Controller<Wanted>) {
    let all = watcher::Config::default().page_size(PAGE);
    let ours = all.clone().labels(&ours());
    let told = |kind: &'static str| readiness.watch(kind, namespace);

    let (migrations, writer) = reflector::store();
    let wanted = watcher(api::<Wanted>(client, namespace), all).default_backoff();
    let wanted = heed(wanted, told("mailmigrations"))
        .modify(trim)
        .reflect(writer)
        .applied_objects()
        // Our own writing of its status is not news.
        .predicate_filter(predicates::generation, PredicateConfig::default());

    let (mailboxes, writer) = reflector::store();
    let config = ours.clone().page_size(PAGE_OF_MAILBOXES);
    let mailbox = watcher(api::<Mailbox>(client, namespace), config).default_backoff();
    let mailbox = heed(mailbox, told("mailboxmigrations"))
        .modify(trim_mailbox)
        .reflect(writer)
        .touched_objects()
        .predicate_filter(told_by_worker, PredicateConfig::default());
    let words = gather(owners(mailbox), GATHER_TOLD);

    let (jobs, writer) = reflector::store();
    let job = watcher(api::<Job>(client, namespace), ours.clone()).default_backoff();
    let job = heed(job, told("jobs")).modify(trim_job).reflect(writer).touched_objects();

    let (pods, writer) = reflector::store();
    let pod = watcher(api::<Pod>(client, namespace), ours.clone()).default_backoff();
    let pod = heed(pod, told("pods")).modify(trim_pod).reflect(writer).touched_objects();

    let (results, writer) = reflector::store();
    let result = watcher(api::<PartialObjectMeta<ConfigMap>>(client, namespace), ours).default_backoff();
    let result = heed(result, told("configmaps")).modify(trim).reflect(writer).touched_objects();

    let stores =
        Stores { migrations: migrations.clone(), mailboxes, jobs, pods, results, whole: Arc::default() };
    let changes = stream::select_all([owners(job), owners(pod), owners(result)]);
    let controller =
        Controller::for_stream(wanted, migrations).reconcile_on(gather(changes, GATHER)).reconcile_on(words);
    (stores, controller)
}

/// Tells how a watch goes.
fn heed<K>(
    events: impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send + 'static,
    watch: Watch,
) -> impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send + 'static
where
    K: Send + 'static,
{
    events.inspect(move |event| match event {
        Ok(watcher::Event::Init | watcher::Event::InitApply(_)) => {}
        Ok(_) => watch.reads(),
        Err(error) => watch.fails(error),
    })
}

/// The migrations that objects belong to. A watch that fails tries again by itself.
fn owners<K>(
    objects: impl Stream<Item = watcher::Result<K>> + Send + 'static,
) -> BoxStream<'static, ObjectRef<Wanted>>
where
    K: ResourceExt + 'static,
{
    objects.filter_map(move |object| ready(object.ok().and_then(|object| of_label(&object)))).boxed()
}

/// An API in one namespace, or in all.
pub fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

fn of_label(object: &impl ResourceExt) -> Option<ObjectRef<Wanted>> {
    let name = object.labels().get(LABEL_MIGRATION)?;
    Some(ObjectRef::new(name).within(&object.namespace()?))
}

/// The news of a worker about a mailbox; our own writes are not news.
fn told_by_worker(mailbox: &Mailbox) -> Option<u64> {
    let told = mailbox.status.as_ref().map(|s| (&s.last_pass, &s.messages, &s.failure, &s.findings));
    let owners = mailbox.owner_references();
    let told = (told, &mailbox.spec, owners, &mailbox.metadata.deletion_timestamp);
    u64::from_str_radix(&fingerprint(&told)[..16], 16).ok()
}

/// Whether an object belongs to a migration: it lies in its namespace and names it as its owner, by its uid. That of another
/// namespace is somebody else's, whatever it says.
pub fn belongs_to(object: &impl ResourceExt, namespace: Option<&str>, uid: Option<&str>) -> bool {
    let own = |owner: &k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference| {
        owner.kind == MailMigration::kind(&()) && Some(owner.uid.as_str()) == uid
    };
    uid.is_some() && object.namespace().as_deref() == namespace && object.owner_references().iter().any(own)
}

impl Stores {
    /// Waits until all copies are whole; the Controller itself waits for the migrations. Each store wakes one who waits, so
    /// one of the turns waits for all of them.
    pub async fn ready(&self) -> bool {
        let ready = async || {
            let (mailboxes, jobs, pods, results) = tokio::join!(
                self.mailboxes.wait_until_ready(),
                self.jobs.wait_until_ready(),
                self.pods.wait_until_ready(),
                self.results.wait_until_ready(),
            );
            mailboxes.is_ok() && jobs.is_ok() && pods.is_ok() && results.is_ok()
        };
        *self.whole.get_or_init(ready).await
    }

    /// The Jobs of a migration.
    pub fn jobs_of(&self, namespace: &str, uid: &str) -> Vec<Arc<Job>> {
        self.jobs.state_filter(|job| belongs_to(job, Some(namespace), Some(uid)))
    }

    /// The pods that Jobs of a namespace have made and that carry a migration's label. A pod that no Job has made is nobody's
    /// worker, whatever its labels say.
    pub fn pods_of(&self, namespace: &str, migration: &str) -> Vec<Arc<Pod>> {
        self.pods.state_filter(|pod| {
            pod.namespace().as_deref() == Some(namespace)
                && pod.labels().get(LABEL_MIGRATION).is_some_and(|name| name == migration)
                && job_of(pod).is_some()
        })
    }

    /// The objects that carry a migration's label, as mailboxes of it.
    pub fn mailboxes_of(&self, namespace: &str, migration: &str) -> Vec<Arc<Mailbox>> {
        self.mailboxes.state_filter(|mailbox| {
            mailbox.namespace().as_deref() == Some(namespace)
                && mailbox.labels().get(LABEL_MIGRATION).is_some_and(|name| name == migration)
        })
    }

    /// When a ConfigMap changed last, as Kubernetes counts changes; `None` while it is not there.
    pub fn version_of(&self, namespace: &str, name: &str) -> Option<String> {
        self.results.get(&ObjectRef::new(name).within(namespace))?.resource_version()
    }
}

/// The uid of the Job that has made a pod.
pub fn job_of(pod: &Pod) -> Option<&str> {
    let owners = pod.owner_references().iter();
    let mut jobs = owners.filter(|owner| owner.kind == "Job" && owner.controller == Some(true));
    jobs.next().map(|owner| owner.uid.as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_of_another_namespace_is_never_ours_whatever_owner_it_names() {
        let job = |namespace: &str, kind: &str, uid: &str| -> Job {
            serde_json::from_value(
                json!({"metadata": {"name": "j", "namespace": namespace, "ownerReferences": [
                {"apiVersion": "mailferry.dev/v1alpha1", "kind": kind, "name": "m", "uid": uid}]}}),
            )
            .unwrap()
        };
        let ours = |job: &Job| belongs_to(job, Some("one"), Some("u1"));
        assert!(ours(&job("one", "MailMigration", "u1")));
        assert!(!ours(&job("two", "MailMigration", "u1")), "another tenant's");
        assert!(!ours(&job("one", "MailMigration", "u2")));
        assert!(!ours(&job("one", "ConfigMap", "u1")));
        assert!(!belongs_to(&Job::default(), None, None));
    }

    #[test]
    fn a_pod_that_no_job_has_made_is_nobodys_worker() {
        let pod = |owners: serde_json::Value| -> Pod {
            serde_json::from_value(json!({"metadata": {"name": "p", "ownerReferences": owners}})).unwrap()
        };
        let owner = |kind: &str, controller: bool| json!([{"apiVersion": "v1", "kind": kind, "name": "x", "uid": "u", "controller": controller}]);
        assert_eq!(job_of(&pod(owner("Job", true))), Some("u"));
        for owners in [json!([]), owner("Job", false), owner("ReplicaSet", true)] {
            assert_eq!(job_of(&pod(owners)), None);
        }
    }
}
