//! What the operator sees of the cluster: watched copies of our objects, cut down to what is looked at.

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
use crate::api::names::LABEL_MIGRATION;
use crate::api::{MailMigration, MailboxMigration};
use crate::cluster::objects::ours;
use crate::plan::pass::fingerprint;

/// The copies of one namespace, or of all.
#[derive(Clone)]
pub struct Stores {
    /// What users want.
    pub migrations: Store<MailMigration>,
    /// One object for each mailbox.
    pub mailboxes: Store<MailboxMigration>,
    /// Our Jobs.
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
/// The pages of a list that is read anew, in objects: bounds what one answer takes in memory.
const PAGE: u32 = 250;

/// Watches one namespace, or all of them, and calls for a migration's turn when anything of it changed.
pub fn watch(client: &Client, namespace: Option<&str>) -> (Stores, Controller<MailMigration>) {
    let all = watcher::Config::default().page_size(PAGE);
    let ours = all.clone().labels(&ours());

    let (migrations, writer) = reflector::store();
    let wanted = watcher(api::<MailMigration>(client, namespace), all)
        .default_backoff()
        .modify(forget_fields)
        .reflect(writer)
        .applied_objects()
        // Our own writing of its status is no news.
        .predicate_filter(predicates::generation, PredicateConfig::default());

    let (mailboxes, writer) = reflector::store();
    let mailbox = watcher(api::<MailboxMigration>(client, namespace), ours.clone())
        .default_backoff()
        .modify(forget_fields)
        .reflect(writer)
        .touched_objects()
        .predicate_filter(told_by_worker, PredicateConfig::default());
    let told = gather(owners(mailbox), GATHER_TOLD);

    let (jobs, writer) = reflector::store();
    let job = watcher(api::<Job>(client, namespace), ours.clone())
        .default_backoff()
        .modify(|job| {
            forget_fields(job);
            if let Some(spec) = &mut job.spec {
                spec.template.spec = None;
            }
        })
        .reflect(writer)
        .touched_objects();

    let (pods, writer) = reflector::store();
    let pod = watcher(api::<Pod>(client, namespace), ours.clone())
        .default_backoff()
        .modify(|pod| {
            forget_fields(pod);
            pod.spec = None;
        })
        .reflect(writer)
        .touched_objects();

    let (results, writer) = reflector::store();
    let result = watcher(api::<PartialObjectMeta<ConfigMap>>(client, namespace), ours)
        .default_backoff()
        .modify(forget_fields)
        .reflect(writer)
        .touched_objects();

    let stores =
        Stores { migrations: migrations.clone(), mailboxes, jobs, pods, results, whole: Arc::default() };
    let changes = stream::select_all([owners(job), owners(pod), owners(result)]);
    let controller =
        Controller::for_stream(wanted, migrations).reconcile_on(gather(changes, GATHER)).reconcile_on(told);
    (stores, controller)
}

/// The migrations that objects belong to. A watch that fails tries again by itself.
fn owners<K>(
    objects: impl Stream<Item = watcher::Result<K>> + Send + 'static,
) -> BoxStream<'static, ObjectRef<MailMigration>>
where
    K: ResourceExt + 'static,
{
    let owner = |object| match object {
        Ok(object) => of_label(&object),
        Err(error) => {
            tracing::debug!(%error, "a watch failed");
            None
        }
    };
    objects.filter_map(move |object| ready(owner(object))).boxed()
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

/// Who wrote which field is of no use here, and is most of an object.
fn forget_fields(object: &mut impl ResourceExt) {
    object.managed_fields_mut().clear();
    object.annotations_mut().remove("kubectl.kubernetes.io/last-applied-configuration");
}

fn of_label(object: &impl ResourceExt) -> Option<ObjectRef<MailMigration>> {
    let name = object.labels().get(LABEL_MIGRATION)?;
    Some(ObjectRef::new(name).within(&object.namespace()?))
}

/// What a worker tells of a mailbox; what we write ourselves is no news.
fn told_by_worker(mailbox: &MailboxMigration) -> Option<u64> {
    let told = mailbox.status.as_ref().map(|s| (&s.last_pass, &s.messages, &s.failure, &s.findings));
    let told = (told, &mailbox.metadata.deletion_timestamp);
    u64::from_str_radix(&fingerprint(&told)[..16], 16).ok()
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
    pub fn jobs_of(&self, migration: &MailMigration) -> Vec<Arc<Job>> {
        let uid = migration.uid();
        self.jobs
            .state_filter(|job| job.owner_references().iter().any(|owner| Some(&owner.uid) == uid.as_ref()))
    }

    /// The pods of a migration.
    pub fn pods_of(&self, migration: &MailMigration) -> Vec<Arc<Pod>> {
        let (name, namespace) = (migration.name_any(), migration.namespace());
        self.pods.state_filter(|pod| {
            pod.labels().get(LABEL_MIGRATION) == Some(&name) && pod.namespace() == namespace
        })
    }

    /// The mailboxes of a migration.
    pub fn mailboxes_of(&self, migration: &MailMigration) -> Vec<Arc<MailboxMigration>> {
        let uid = migration.uid();
        self.mailboxes.state_filter(|mailbox| {
            mailbox.owner_references().iter().any(|owner| Some(&owner.uid) == uid.as_ref())
        })
    }

    /// When a ConfigMap changed last, as Kubernetes counts changes; `None` while it is not there.
    pub fn version_of(&self, namespace: &str, name: &str) -> Option<String> {
        self.results.get(&ObjectRef::new(name).within(namespace))?.resource_version()
    }
}
