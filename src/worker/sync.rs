//! `mailferry sync`: carries one slice of a domain's mailboxes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use kube::Api;
use tokio::time::sleep;

use super::patience::persist;
use super::reporter::{Channel, Reporter};
use super::{Mounts, Pod, connections, interrupted};
use crate::api::{MailboxMigration, Stage};
use crate::cluster::work::{Item, Task};
use crate::cluster::{connect, refused};
use crate::discovery::Clock;
use crate::local::clock::SystemClock;
use crate::local::platform::{Known, LocalPlatform};
use crate::local::run::{bound_concurrency, drive};
use crate::local::state::MigrationRecord;
use crate::local::stop::Stop;
use crate::model::evidence::{DomainDiscovery, MailboxDiscovery};
use crate::model::failure::{Class, Failure, Result};
use crate::model::record::MailboxRecord;
use crate::plan::{DomainObserved, Ending};

/// How long a pod that was asked to stop goes on telling what became of its mailboxes.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// Mailboxes whose objects are read at a time.
const READ_AT_ONCE: usize = 8;

/// Carries the slice with this index.
///
/// # Errors
/// The worst of what stopped its mailboxes; [`Class::Interrupted`] when a signal came.
pub async fn sync(mounts: &Mounts, index: usize) -> Result<()> {
    let stop = Stop::listen();
    let pod = Pod::begin(mounts, connect().await?, stop.clone())?;
    let Task::Sync { pass, slices } = &pod.work.task else {
        return Err(Failure::internal("the work list is not one of mailboxes"));
    };
    let slice = slices.get(index).ok_or_else(|| {
        Failure::internal(format!("the work list has {} slices and none with index {index}", slices.len()))
    })?;
    let known = tokio::select! {
        known = read_records(&pod, slice) => known?,
        () = stop.asked() => return Err(interrupted()),
    };
    let total = known.len();
    let open: Vec<_> = known.into_iter().filter(|(_, record)| !record.finished(*pass)).collect();
    tracing::info!(pass, index, mailboxes = total, open = open.len(), "a slice begins");
    if open.is_empty() {
        return Ok(());
    }
    carry(&pod, *pass, open).await
}

/// The record of each mailbox by its object; those without one are not wanted any more.
async fn read_records(pod: &Pod, slice: &[Item]) -> Result<Vec<(Item, MailboxRecord)>> {
    let api: Api<MailboxMigration> = Api::namespaced(pod.client.clone(), &pod.namespace);
    let read = |item: Item| {
        let api = api.clone();
        async move {
            let call = || async {
                api.get_opt(&item.object).await.map_err(|error| {
                    refused(&format!("MailboxMigration {} cannot be read", item.object), &error)
                })
            };
            let object = persist(&item.object, call).await?;
            if object.is_none() {
                tracing::warn!(mailbox = %item.mailbox.source, object = item.object, "it has no object any more and is left out");
            }
            Ok(object.map(|object| (item, object.status.unwrap_or_default().record())))
        }
    };
    let read: Vec<Result<Option<_>>> =
        stream::iter(slice.to_vec()).map(read).buffered(READ_AT_ONCE).collect().await;
    read.into_iter().filter_map(Result::transpose).collect()
}

async fn carry(pod: &Pod, pass: u32, open: Vec<(Item, MailboxRecord)>) -> Result<()> {
    let mut migration = pod.work.migration.clone();
    migration.spec.stage = Stage::Sync;
    migration.spec.suspend = false;
    migration.spec.approved_plan = None;
    bound_concurrency(&mut migration, connections(&pod.work));
    let known = known(pod, pass, &open)?;
    let channel = Channel {
        client: pod.client.clone(),
        namespace: pod.namespace.clone(),
        store: Arc::clone(&pod.tools.store),
    };
    let reporter = Reporter::start(channel, pass, open);
    let mut platform = LocalPlatform::resume(
        pod.tools.clone(),
        known,
        Arc::clone(&reporter) as _,
        Arc::clone(&reporter) as _,
    );
    let ended = drive(&mut platform, &mut migration, &pod.stop).await;
    // Ledgers that are still open would keep the next pod waiting.
    platform.abort().await;
    drop(platform);
    let told = tokio::select! {
        told = reporter.finish() => told,
        () = last_words(&pod.stop) => Err(interrupted()),
    };
    match ended {
        Ok(Ending::Reached) => told,
        // The mailboxes are through, and another pod would find the same; the migration's status says it.
        Ok(Ending::Stopped(failure)) if failure.class == Class::Message => told,
        Ok(Ending::Stopped(failure)) => match told {
            // The next pod must come back for what is not told.
            Err(untold) if untold.class == Class::Interrupted => Err(untold),
            _ => Err(failure),
        },
        Err(failure) if failure.class == Class::Interrupted => Err(interrupted()),
        Err(failure) => Err(failure),
    }
}

/// Ends a while after a signal.
async fn last_words(stop: &Stop) {
    stop.asked().await;
    sleep(LAST_WORDS).await;
}

/// The knowledge that the platform is to have: the slice as if discovery had just seen it, and the record of each
/// mailbox, so that it is tried again although it may have been given up before.
fn known(pod: &Pod, pass: u32, open: &[(Item, MailboxRecord)]) -> Result<Known> {
    let name = &pod.work.migration.spec.domains[0].name;
    let now = SystemClock.now();
    let mailboxes = open.iter().map(|(item, _)| MailboxDiscovery {
        address: item.mailbox.source.clone(),
        endpoint: Some(item.endpoint.clone()),
        overridden: false,
        attempts: Vec::new(),
        logins: item.mailbox.logins.clone(),
        login_name: None,
        size: item.size.clone(),
        failure: None,
    });
    let discovery = DomainDiscovery {
        mailboxes: mailboxes.collect(),
        ..DomainDiscovery::empty(name.parse().map_err(Failure::configuration)?, now, now)
    };
    let domain = DomainObserved {
        mailboxes: Some(Ok(open.iter().map(|(item, _)| item.mailbox.clone()).collect())),
        discovery: Some(discovery.into()),
        ..DomainObserved::default()
    };
    let by = Some(pod.work.job.clone());
    let record = |record: &MailboxRecord| MailboxRecord {
        failure: None,
        ended: None,
        by: by.clone(),
        ..record.clone()
    };
    let records = open.iter().map(|(item, known)| (item.mailbox.source.clone(), record(known)));
    Ok(Known {
        record: MigrationRecord { pass, ..MigrationRecord::default() },
        domains: BTreeMap::from([(name.clone(), domain)]),
        mailboxes: records.collect(),
        ..Known::default()
    })
}
