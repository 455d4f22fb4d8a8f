//! Verifies one mailbox once more after its pass, because somebody asked for it, and writes down how it went.

use tokio::time::sleep;

use super::Tools;
use crate::local::verify::verify_mailbox;
use crate::model::endpoint::Endpoint;
use crate::model::failure::{Class, Result};
use crate::model::record::MailboxRecord;
use crate::plan::backoff::{jitter, wait_after};
use crate::plan::mailboxes::PlannedMailbox;
use crate::transfer::progress::MailboxProgress;

impl Tools {
    /// Verifies one mailbox as deep as `spec.policy.verify` says. Where that cannot be done, the record says why, and keeps all
    /// that it said before. Sessions that end are begun anew meanwhile; `number` is tried once.
    pub async fn verify(
        &self,
        at: usize,
        planned: &PlannedMailbox,
        endpoint: &Endpoint,
        number: u32,
        before: MailboxRecord,
        progress: &MailboxProgress,
    ) -> MailboxRecord {
        let mut attempts = 0;
        loop {
            let mut record = before.clone();
            let verifying = self.verify_into(at, planned, endpoint, &mut record, progress);
            let Err(failure) = Box::pin(verifying).await else {
                record.verification_number = number;
                return record;
            };
            attempts += 1;
            // A worker that was killed may hold the ledger for a moment longer.
            let wait = wait_after(&failure, attempts, jitter(&planned.source.to_string(), attempts));
            let Some(wait) = wait.filter(|_| failure.class == Class::Conflict) else {
                record = before;
                record.give_up_verification(number, failure);
                return record;
            };
            tracing::info!(mailbox = %planned.source, failure = %failure.sentence(), ?wait, "is verified later");
            sleep(wait).await;
        }
    }

    async fn verify_into(
        &self,
        at: usize,
        planned: &PlannedMailbox,
        endpoint: &Endpoint,
        record: &mut MailboxRecord,
        progress: &MailboxProgress,
    ) -> Result<()> {
        let how = (self.spec().policy.verify.into(), false);
        let (found, ledger) = verify_mailbox(self, at, planned, Some(endpoint), how, progress).await?;
        found.write_into(record, &*ledger).await
    }
}
