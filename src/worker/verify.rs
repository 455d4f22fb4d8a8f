//! Verifies one slice of a domain's mailboxes once more. It does what it was told to: which of them are to be verified was
//! decided by the operator.

use std::sync::Arc;

use futures::{StreamExt, stream};

use super::records::Mailbox;
use super::reporter::Reporter;
use super::sync::{channel_of, tell_the_rest};
use super::{Pod, connections, interrupted};
use crate::local::platform::Memory;
use crate::local::run::bound_concurrency;
use crate::model::failure::Result;
use crate::model::record::MailboxRecord;
use crate::transfer::progress::MailboxProgress;

/// Verifies mailboxes, as many at a time as a pass carries. That one could not be verified is told like what was found, and is no
/// reason for another pod.
///
/// # Errors
/// [`crate::model::failure::Class::Interrupted`] when a signal came; a refusal of the API server.
pub(super) async fn verify(pod: &Pod, pass: u32, number: u32, open: Vec<Mailbox>) -> Result<()> {
    let mut migration = pod.work.migration.clone();
    bound_concurrency(&mut migration, connections(&pod.work));
    let at_once = migration.spec.workers.concurrency as usize;
    let known = open.iter().map(|mailbox| (mailbox.item.clone(), mailbox.record.clone()));
    let reporter = Reporter::start(channel_of(pod), pass, known);
    let verifying = stream::iter(open).for_each_concurrent(at_once, |mailbox| {
        let reporter = Arc::clone(&reporter);
        async move {
            let Mailbox { item, record, destination_tls } = mailbox;
            let source = &item.mailbox.source;
            tracing::info!(mailbox = %source, number, "is verified");
            let progress = MailboxProgress::default();
            let verifying = pod.tools.verify(0, &item.mailbox, &item.endpoint, number, record, &progress);
            let record = Box::pin(verifying).await;
            log_end(source, &record);
            // The reporter takes it now and tells it later.
            if let Err(failure) = reporter.keep_mailbox(source, &record, destination_tls.as_ref()) {
                tracing::error!(mailbox = %source, failure = %failure.sentence(), "it cannot be told");
            }
        }
    });
    // Ledgers that are still open would keep the next pod waiting: those of mailboxes that are not through are dropped here.
    let is_through = tokio::select! {
        () = verifying => true,
        () = pod.stop.asked() => false,
    };
    let told = tell_the_rest(&reporter, &pod.stop).await;
    if is_through { told } else { Err(interrupted()) }
}

fn log_end(mailbox: &crate::model::address::Address, record: &MailboxRecord) {
    match (&record.unverified, record.last_verification()) {
        (Some(failure), _) => {
            tracing::warn!(%mailbox, class = %failure.class, failure = %failure.sentence(), "could not be verified");
        }
        (None, Some(found)) => {
            tracing::info!(
                %mailbox,
                checked = found.checked,
                identical = found.identical,
                missing = found.missing,
                altered = found.altered,
                "was verified"
            );
        }
        (None, None) => {}
    }
}
