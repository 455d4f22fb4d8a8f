//! `mailferry discover`: finds out about one domain and leaves the document that a laptop would keep.

use std::sync::Arc;

use super::patience::persist;
use super::{Mounts, Pod, interrupted};
use crate::cluster::connect;
use crate::cluster::results::{DiscoveryDocument, write_discovery};
use crate::cluster::work::Task;
use crate::discovery::{Step, Watcher};
use crate::local::stop::Stop;
use crate::local::workers::unreadable_domain;
use crate::model::failure::{Failure, Result};
use crate::plan::mailboxes::PlannedMailbox;

/// Does what the work list says.
///
/// # Errors
/// Only when nothing could be written: what went wrong at the domain is in the document.
/// [`crate::model::failure::Class::Interrupted`] when a signal came.
pub async fn discover(mounts: &Mounts) -> Result<()> {
    let stop = Stop::listen();
    let pod = Pod::begin(mounts, connect().await?, stop.clone())?;
    tokio::select! {
        done = find_out(&pod) => done,
        () = stop.asked() => Err(interrupted()),
    }
}

async fn find_out(pod: &Pod) -> Result<()> {
    let Task::Discover { inputs, round, results, before } = &pod.work.task else {
        return Err(Failure::internal("the work list is not one of discovery"));
    };
    let listed: Result<Arc<[PlannedMailbox]>> = pod.tools.list_mailboxes(0).map(Arc::from);
    let domain = &pod.tools.spec().domains[0].name;
    tracing::info!(domain, round, "discovery begins");
    // Where logins cannot be counted, none is made.
    let discovery = match pod.tools.guard.check().await {
        Ok(()) => pod.tools.discover(0, &listed, before, &Log).await?,
        Err(failure) => unreadable_domain(domain, &listed, failure)?,
    };
    let ways = discovery.mailboxes.iter().filter(|mailbox| mailbox.endpoint.is_some()).count();
    tracing::info!(
        domain,
        mailboxes = discovery.mailboxes.len(),
        readable = ways,
        failure = discovery.failure.as_ref().map(Failure::sentence),
        "discovery ended"
    );
    let mailboxes = listed.map(|listed| listed.to_vec());
    let document = DiscoveryDocument { inputs: inputs.clone(), round: *round, mailboxes, discovery };
    persist("what discovery saw", || write_discovery(&pod.client, &pod.namespace, results, &document)).await
}

/// Writes discovery's steps to the log.
struct Log;

impl Watcher for Log {
    fn saw(&self, step: &Step) {
        tracing::debug!(?step, "discovery");
    }
}
