//! Makes, begins and ends Jobs. Every step may be repeated: an operator that dies in the middle of one is followed by
//! another that does the same again and finds part of it done.

use std::fmt::Debug;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy};
use kube::core::{NamespaceResourceScope, PartialObjectMeta};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::jobs::{Order, ledger_volume, owned_by_job, owned_by_migration, results};
use super::settings::Settings;
use crate::api::MailMigration;
use crate::api::names::{LABEL_MANAGED_BY, LABEL_MIGRATION, MANAGER_OBJECTS};
use crate::cluster::{exists_already, is_missing, refused};
use crate::model::failure::{Class, Failure, Result};

/// Makes the objects of an order and begins it; `false` when just that was begun before. An object that is there already is not made
/// again: a quota that is used up refuses even that.
///
/// # Errors
/// Those of the API server; [`Class::Configuration`] where somebody else's object has a name of ours.
pub async fn begin(client: &Client, settings: &Settings, order: &Order<'_>) -> Result<bool> {
    let namespace = order.migration.namespace().unwrap_or_default();
    for name in &order.results {
        ensure(client, &namespace, &results(order.migration, name), Orphans::Adopted).await?;
    }
    let jobs: Api<Job> = Api::namespaced(client.clone(), &namespace);
    let wanted = order.job(settings, owned_by_migration(order.migration))?;
    let read = |e: &kube::Error| refused(&format!("Job {} cannot be read", order.name), e);
    let there = jobs.get_opt(&order.name).await.map_err(|e| read(&e))?;
    let job = match there {
        Some(job) => job,
        None => match jobs.create(&by_us(), &wanted).await {
            Ok(job) => job,
            Err(error) if exists_already(&error) => jobs.get(&order.name).await.map_err(|e| read(&e))?,
            Err(error) => return Err(refused(&format!("Job {} cannot be made", order.name), &error)),
        },
    };
    match goes_with(&job, &wanted) {
        Fate::Stays if is_suspended(&job) => {}
        Fate::Stays => return Ok(false),
        Fate::Goes if job.metadata.deletion_timestamp.is_some() => return Ok(false),
        Fate::Goes => return Err(still_there::<Job>(&order.name)),
        Fate::Orphan | Fate::Foreign => return Err(foreign::<Job>(&order.name, owner_of(&job))),
    }
    let owner = || owned_by_job(&job);
    ensure(client, &namespace, &order.work_list(owner())?, Orphans::Refused).await?;
    ensure(client, &namespace, &order.service_account(owner()), Orphans::Refused).await?;
    ensure(client, &namespace, &order.role(owner())?, Orphans::Refused).await?;
    ensure(client, &namespace, &order.role_binding(owner())?, Orphans::Refused).await?;
    let begin = json!({"metadata": {"uid": job.uid()}, "spec": {"suspend": false}});
    jobs.patch(&order.name, &PatchParams::default(), &Patch::Merge(&begin))
        .await
        .map_err(|e| refused(&format!("Job {} cannot be begun", order.name), &e))?;
    Ok(true)
}

/// The state of the volume of the ledgers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Volume {
    /// Its claim is there, or none is needed.
    There,
    /// Its claim was deleted, and something still uses it.
    Going,
}

/// Makes the claim of a migration's ledgers unless it is there.
///
/// # Errors
/// Those of the API server; [`Class::Configuration`] when the claim of that name belongs to somebody else.
pub async fn ensure_volume(client: &Client, migration: &MailMigration) -> Result<Volume> {
    let Some(wanted) = ledger_volume(migration)? else { return Ok(Volume::There) };
    let namespace = migration.namespace().unwrap_or_default();
    let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &namespace);
    let name = wanted.name_any();
    let there = read_metadata(&api, &name).await?;
    // That of a predecessor of the same name goes with it, and is used by nobody who is through.
    let is_own = |there: &_| matches!(kept_by(there, &wanted), Fate::Stays | Fate::Orphan);
    if there.is_some_and(|there| there.metadata.deletion_timestamp.is_some() && is_own(&there)) {
        return Ok(Volume::Going);
    }
    // A claim that nobody owns was made by a user, and is used.
    ensure(client, &namespace, &wanted, Orphans::Used).await?;
    Ok(Volume::There)
}

/// The size of the claim of a migration's ledgers, if it is there and was asked for otherwise: a claim stays as it was made.
///
/// # Errors
/// Those of the API server.
pub async fn other_volume(client: &Client, migration: &MailMigration) -> Result<Option<String>> {
    let Some(wanted) = ledger_volume(migration)? else { return Ok(None) };
    let namespace = migration.namespace().unwrap_or_default();
    let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &namespace);
    let there = api.get_opt(&wanted.name_any()).await;
    let there = there.map_err(|e| refused("the ledgers' volume claim cannot be read", &e))?;
    let size = |claim: &PersistentVolumeClaim| {
        let requests = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
        requests.get("storage").map(|quantity| quantity.0.clone())
    };
    let there = there.as_ref().and_then(size);
    Ok(there.filter(|there| size(&wanted).is_some_and(|wanted| wanted != *there)))
}

/// Whether a Job was made and not begun: its satellites may be missing.
pub fn is_suspended(job: &Job) -> bool {
    job.spec.as_ref().and_then(|spec| spec.suspend).unwrap_or_default()
}

fn by_us() -> PostParams {
    PostParams { field_manager: Some(MANAGER_OBJECTS.to_owned()), ..PostParams::default() }
}

/// The fate of an object that has our name and that nobody owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orphans {
    /// It is used as it is.
    Used,
    /// It becomes ours if it carries our labels, as what a backup brought back does.
    Adopted,
    /// It is somebody else's.
    Refused,
}

/// The fate of an object that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is ours.
    Stays,
    /// It is taken away by no doing of ours: it is deleted already, or goes with another owner of the name of ours.
    Goes,
    /// Nobody owns it.
    Orphan,
    /// Somebody else owns it.
    Foreign,
}

fn goes_with(there: &impl ResourceExt, wanted: &impl ResourceExt) -> Fate {
    if there.meta().deletion_timestamp.is_some() { Fate::Goes } else { kept_by(there, wanted) }
}

/// [`goes_with`] as its owners alone tell.
fn kept_by(there: &impl ResourceExt, wanted: &impl ResourceExt) -> Fate {
    let (ours, theirs) = (wanted.owner_references(), there.owner_references());
    let shared = |same: &dyn Fn(&str, &str) -> bool| {
        theirs.iter().any(|their| {
            ours.iter()
                .any(|our| our.kind == their.kind && our.name == their.name && same(&our.uid, &their.uid))
        })
    };
    if shared(&|our, their| our != their) {
        Fate::Goes
    } else if shared(&|our, their| our == their) {
        Fate::Stays
    } else if owner_of(there).is_none() {
        Fate::Orphan
    } else {
        Fate::Foreign
    }
}

/// The keeper of an object: the owner that controls it.
pub fn owner_of(object: &impl ResourceExt) -> Option<String> {
    let owner = object.owner_references().iter().find(|owner| owner.controller == Some(true))?;
    Some(format!("{} {}", owner.kind, owner.name))
}

fn still_there<K: Resource<DynamicType = ()>>(name: &str) -> Failure {
    let what = format!("{} {name} is still there from before", K::kind(&()));
    Failure::new(Class::Conflict, what).hint("it goes by itself in a moment")
}

/// Somebody else's object is where ours is to be made.
pub fn foreign<K: Resource<DynamicType = ()>>(name: &str, owner: Option<String>) -> Failure {
    let kind = K::kind(&());
    let whose = owner.map_or_else(|| "nobody's".to_owned(), |owner| format!("of {owner}"));
    Failure::configuration(format!("{kind} {name} is there already and {whose}, so it is left as it is"))
        .hint(format!("delete or rename it; then the operator makes its own {kind} of this name"))
}

/// Reads what says whose an object is; `None` where there is no such object.
async fn read_metadata<K>(api: &Api<K>, name: &str) -> Result<Option<PartialObjectMeta<K>>>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let there = api.get_metadata_opt(name).await;
    there.map_err(|e| refused(&format!("{} {name} cannot be read", K::kind(&())), &e))
}

/// Makes an object unless it is there.
///
/// # Errors
/// Those of the API server; [`Class::Conflict`] when the one that is there goes with an owner that is gone, as after a
/// migration was deleted and made again; [`Class::Configuration`] when it is somebody else's.
pub async fn ensure<K>(client: &Client, namespace: &str, object: &K, orphans: Orphans) -> Result<()>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let name = object.name_any();
    let Some(there) = read_metadata(&api, &name).await? else {
        return create(client, namespace, object).await;
    };
    match goes_with(&there, object) {
        Fate::Stays => Ok(()),
        Fate::Goes => Err(still_there::<K>(&name)),
        Fate::Orphan if orphans == Orphans::Used => Ok(()),
        Fate::Orphan if orphans == Orphans::Adopted && is_labelled_alike(&there, object) => {
            adopt(client, namespace, &there, object).await
        }
        Fate::Orphan | Fate::Foreign => Err(foreign::<K>(&name, owner_of(&there))),
    }
}

fn is_labelled_alike(there: &impl ResourceExt, wanted: &impl ResourceExt) -> bool {
    [LABEL_MANAGED_BY, LABEL_MIGRATION].iter().all(|label| {
        let (here, there) = (wanted.labels().get(*label), there.labels().get(*label));
        here.is_some() && here == there
    })
}

/// Makes an object ours that nobody owns. Other owners that do not control it stay.
///
/// # Errors
/// Those of the API server.
pub async fn adopt<K>(client: &Client, namespace: &str, there: &impl ResourceExt, wanted: &K) -> Result<()>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let name = there.name_any();
    let owners: Vec<_> = there.owner_references().iter().chain(wanted.owner_references()).collect();
    let patch = json!({"metadata": {
        "uid": there.uid(), "resourceVersion": there.resource_version(), "ownerReferences": owners,
    }});
    tracing::info!(kind = %K::kind(&()), name, "an object that nobody owns is taken over");
    api.patch_metadata(&name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .map(drop)
        .map_err(|e| refused(&format!("{} {name} cannot be taken over", K::kind(&())), &e))
}

/// Makes an object.
///
/// # Errors
/// Those of the API server; [`Class::Conflict`] when somebody else has just made one of its name.
pub async fn create<K>(client: &Client, namespace: &str, object: &K) -> Result<()>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    match api.create(&by_us(), object).await {
        Ok(_) => Ok(()),
        Err(error) if exists_already(&error) => {
            let name = object.name_any();
            match read_metadata(&api, &name).await?.map(|there| (goes_with(&there, object), owner_of(&there)))
            {
                Some((Fate::Stays, _)) => Ok(()),
                Some((Fate::Orphan | Fate::Foreign, owner)) => Err(foreign::<K>(&name, owner)),
                Some((Fate::Goes, _)) | None => Err(still_there::<K>(&name)),
            }
        }
        Err(error) => Err(refused(&format!("{} {} cannot be made", K::kind(&()), object.name_any()), &error)),
    }
}

/// Whether a namespace is being deleted, which the operator may not look at itself: nothing new is taken there.
///
/// # Errors
/// Those of the API server.
pub async fn is_being_deleted(client: &Client, namespace: &str) -> Result<bool> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let metadata = ObjectMeta { name: Some("mailferry-probe".to_owned()), ..ObjectMeta::default() };
    let probe = ConfigMap { metadata, ..ConfigMap::default() };
    match api.create(&PostParams { dry_run: true, ..by_us() }, &probe).await {
        Err(kube::Error::Api(status)) => {
            let causes = status.details.iter().flat_map(|details| &details.causes);
            Ok(causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating"))
        }
        Err(error) => Err(refused("it cannot be asked whether the namespace is being deleted", &error)),
        Ok(_) => Ok(false),
    }
}

/// Ends a Job and its pods; the Job stays until they are gone.
///
/// # Errors
/// Those of the API server.
pub async fn end(client: &Client, job: &Job) -> Result<()> {
    let options = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Foreground),
        // Another of the same name may stand there by now.
        preconditions: Some(Preconditions { uid: job.uid(), resource_version: None }),
        ..DeleteParams::default()
    };
    let api: Api<Job> = Api::namespaced(client.clone(), &job.namespace().unwrap_or_default());
    match api.delete(&job.name_any(), &options).await {
        Ok(_) => Ok(()),
        Err(error) if is_missing(&error) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(refused(&format!("Job {} cannot be ended", job.name_any()), &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(owners: &serde_json::Value, more: &serde_json::Value) -> ConfigMap {
        let mut metadata = json!({"name": "x", "ownerReferences": owners});
        for (key, value) in more.as_object().unwrap() {
            metadata[key] = value.clone();
        }
        serde_json::from_value(json!({"metadata": metadata})).unwrap()
    }

    fn owner(kind: &str, name: &str, uid: &str, controller: bool) -> serde_json::Value {
        json!([{"apiVersion": "v1", "kind": kind, "name": name, "uid": uid, "controller": controller}])
    }

    #[test]
    fn an_object_of_our_name_is_ours_goes_by_itself_or_is_somebody_elses() {
        let labels = json!({"labels": {LABEL_MANAGED_BY: "mailferry", LABEL_MIGRATION: "m"}});
        let wanted = map(&owner("MailMigration", "m", "u1", true), &labels);
        let deleted = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
        let table = [
            (map(&owner("MailMigration", "m", "u1", true), &json!({})), Fate::Stays),
            (map(&owner("MailMigration", "m", "u0", true), &json!({})), Fate::Goes),
            (map(&owner("MailMigration", "m", "u1", true), &deleted), Fate::Goes),
            (map(&owner("MailMigration", "n", "u2", true), &json!({})), Fate::Foreign),
            (map(&owner("Deployment", "m", "u1", true), &json!({})), Fate::Foreign),
            (map(&owner("ConfigMap", "m", "u3", false), &json!({})), Fate::Orphan),
            (map(&json!([]), &json!({})), Fate::Orphan),
        ];
        for (there, fate) in table {
            assert_eq!(goes_with(&there, &wanted), fate, "{:?}", there.metadata);
        }
        assert!(is_labelled_alike(&map(&json!([]), &labels), &wanted));
        assert!(!is_labelled_alike(&map(&json!([]), &json!({})), &wanted), "a user's own");
        let told = foreign::<ConfigMap>("x", Some("Deployment web".to_owned())).in_full();
        assert!(told.starts_with("ConfigMap x is there already and of Deployment web"), "{told}");
    }
}
