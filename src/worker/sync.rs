//! `mailferry sync`: goes through one slice of a domain's mailboxes, to carry it or to verify it once more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::records::{Mailbox, read_records};
use super::reporter::{Channel, Reporter};
use super::verify::verify;
use super::{Mounts, Pod, connections, interrupted};
use crate::api::Stage;
use crate::cluster::connect;
use crate::cluster::work::{Item, Task};
use crate::discovery::Clock;
use crate::local::clock::SystemClock;
use crate::local::platform::{Known, LocalPlatform};
use crate::local::run::{bound_concurrency, drive};
use crate::local::state::MigrationRecord;
use crate::local::stop::Stop;
use crate::model::evidence::{DomainDiscovery, MailboxDiscovery};
use crate::model::failure::{Class, Failure, Result};
use crate::model::purpose::Purpose;
use crate::model::record::MailboxRecord;
use crate::plan::{DomainObserved, Ending};

/// How long a pod that was asked to stop goes on telling what became of its mailboxes.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Goes through the slice with this index.
///
/// # Errors
/// The worst of what stopped its mailboxes; [`Class::Interrupted`] when a signal came.
pub async fn sync(mounts: &Mounts, index: usize) -> Result<()> {
    let stop = Stop::listen();
    let pod = Pod::begin(mounts, connect().await?, stop.clone())?;
    let Task::Sync { pass, purpose, verification, slices } = &pod.work.task else {
        return Err(Failure::internal("the work list is not one of mailboxes"));
    };
    let slice = slices.get(index).ok_or_else(|| {
        Failure::internal(format!("the work list has {} slices and none with index {index}", slices.len()))
    })?;
    let known = tokio::select! {
        known = read_records(&pod, slice, *purpose == Purpose::Verify) => known?,
        () = stop.asked() => return Err(interrupted()),
    };
    let total = known.len();
    let is_open = |mailbox: &Mailbox| match purpose {
        Purpose::Delta => !mailbox.record.finished(*pass),
        Purpose::Verify => mailbox.record.verification_number < *verification,
    };
    let open: Vec<Mailbox> = known.into_iter().filter(is_open).collect();
    tracing::info!(pass, ?purpose, index, mailboxes = total, open = open.len(), "a slice begins");
    if open.is_empty() {
        return Ok(());
    }
    match purpose {
        Purpose::Delta => {
            let open = open.into_iter().map(|mailbox| (mailbox.item, mailbox.record)).collect();
            carry(&pod, *pass, open).await
        }
        Purpose::Verify => verify(&pod, *pass, *verification, open).await,
    }
}

/// The way of what is told.
pub(super) fn channel_of(pod: &Pod) -> Channel {
    Channel {
        client: pod.client.clone(),
        namespace: pod.namespace.clone(),
        store: Arc::clone(&pod.tools.store),
    }
}

/// Waits until all is told, or for a while after a signal.
///
/// # Errors
/// The failure to tell something; [`Class::Interrupted`] when there was no time for it.
pub(super) async fn tell_the_rest(reporter: &Reporter, stop: &Stop) -> Result<()> {
    tokio::select! {
        told = reporter.finish() => told,
        () = last_words(stop) => Err(interrupted()),
    }
}

async fn carry(pod: &Pod, pass: u32, open: Vec<(Item, MailboxRecord)>) -> Result<()> {
    let mut migration = pod.work.migration.clone();
    migration.spec.stage = Stage::Sync;
    migration.spec.suspend = false;
    migration.spec.approved_plan = None;
    // The operator ends its Job when a window closes.
    migration.spec.schedule = None;
    bound_concurrency(&mut migration, connections(&pod.work));
    let known = known(pod, pass, &open)?;
    let reporter = Reporter::start(channel_of(pod), pass, open);
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
    let told = tell_the_rest(&reporter, &pod.stop).await;
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
