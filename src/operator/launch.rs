//! Makes, begins and ends Jobs. Every step may be repeated: an operator that dies in the middle of one is followed by
//! another that does the same again and finds part of it done.

use std::fmt::Debug;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::jobs::{Order, ledger_volume, owned_by_job, owned_by_migration, results};
use super::settings::Settings;
use crate::api::names::MANAGER_OBJECTS;
use crate::cluster::{exists_already, is_missing, refused};
use crate::model::failure::{Class, Failure, Result};

/// Makes the objects of an order and begins it; `false` when just that was begun before.
///
/// # Errors
/// Those of the API server.
pub async fn begin(client: &Client, settings: &Settings, order: &Order<'_>) -> Result<bool> {
    let namespace = order.migration.namespace().unwrap_or_default();
    if let Some(volume) = ledger_volume(order.migration)? {
        create(client, &namespace, &volume).await?;
    }
    for name in &order.results {
        create(client, &namespace, &results(order.migration, name)).await?;
    }
    let jobs: Api<Job> = Api::namespaced(client.clone(), &namespace);
    let wanted = order.job(settings, owned_by_migration(order.migration))?;
    let job = match jobs.create(&by_us(), &wanted).await {
        Ok(job) => job,
        Err(error) if exists_already(&error) => jobs
            .get(&order.name)
            .await
            .map_err(|e| refused(&format!("Job {} cannot be read", order.name), &e))?,
        Err(error) => return Err(refused(&format!("Job {} cannot be made", order.name), &error)),
    };
    if !is_suspended(&job) || job.metadata.deletion_timestamp.is_some() {
        return Ok(false);
    }
    let owner = || owned_by_job(&job);
    create(client, &namespace, &order.work_list(owner())?).await?;
    create(client, &namespace, &order.service_account(owner())).await?;
    create(client, &namespace, &order.role(owner())?).await?;
    create(client, &namespace, &order.role_binding(owner())?).await?;
    let begin = json!({"spec": {"suspend": false}});
    jobs.patch(&order.name, &PatchParams::default(), &Patch::Merge(&begin))
        .await
        .map_err(|e| refused(&format!("Job {} cannot be begun", order.name), &e))?;
    Ok(true)
}

/// Whether a Job was made and not begun: its satellites may be missing.
pub fn is_suspended(job: &Job) -> bool {
    job.spec.as_ref().and_then(|spec| spec.suspend).unwrap_or_default()
}

fn by_us() -> PostParams {
    PostParams { field_manager: Some(MANAGER_OBJECTS.to_owned()), ..PostParams::default() }
}

/// Makes an object unless it is there.
///
/// # Errors
/// Those of the API server; [`Class::Conflict`] when the one that is there goes with an owner that is gone, as after a
/// migration was deleted and made again.
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
            let there = api.get_opt(&name).await;
            let there = there.map_err(|e| refused(&format!("{} {name} cannot be read", K::kind(&())), &e))?;
            if there.is_some_and(|there| !goes_with_another(&there, object)) {
                return Ok(());
            }
            let what = format!("{} {name} is still there from before", K::kind(&()));
            Err(Failure::new(Class::Conflict, what).hint("it goes by itself in a moment"))
        }
        Err(error) => Err(refused(&format!("{} {} cannot be made", K::kind(&()), object.name_any()), &error)),
    }
}

/// Whether an object that is there will be taken away by no doing of ours: it is deleted already, or its owner is another
/// one of the same kind as that of the object that is wanted. What has no owner was made by a user, and is used.
fn goes_with_another(there: &impl ResourceExt, wanted: &impl ResourceExt) -> bool {
    let ours = wanted.owner_references();
    there.meta().deletion_timestamp.is_some()
        || there.owner_references().iter().any(|their| {
            ours.iter().any(|our| our.kind == their.kind && our.name == their.name && our.uid != their.uid)
        })
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
