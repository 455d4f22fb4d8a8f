//! How often a verification begins anew what a pass would begin anew as well: a session that ended, an answer out of turn, a
//! connection that was refused. It waits in between as a pass does.

use tokio::time::sleep;

use super::ends::Ends;
use crate::local::workers::Tools;
use crate::model::endpoint::Endpoint;
use crate::model::failure::{Failure, Result, Spoils};
use crate::plan::backoff::{ATTEMPTS_MAX, jitter, wait_after};
use crate::plan::mailboxes::PlannedMailbox;

/// How often one folder is tried: where sessions end at it each time, the others shall not wait for it.
pub(super) const FOLDER_TRIES: u32 = 3;

/// The failed attempts at one thing.
pub(super) struct Ladder<'a> {
    mailbox: &'a str,
    attempts: u32,
}

impl<'a> Ladder<'a> {
    pub(super) fn new(mailbox: &'a str) -> Self {
        Self { mailbox, attempts: 0 }
    }

    /// Failed attempts so far.
    pub(super) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Waits until it may be tried again.
    ///
    /// # Errors
    /// The failure itself, where trying again is useless.
    pub(super) async fn climb(&mut self, failure: Failure) -> Result<()> {
        self.attempts += 1;
        let is_of_the_session = failure.spoils() == Spoils::Session;
        let wait = wait_after(&failure, self.attempts, jitter(self.mailbox, self.attempts));
        // A pass waits for a pause without end; whoever looks at a verification does not.
        let Some(wait) = wait.filter(|_| is_of_the_session && self.attempts < ATTEMPTS_MAX) else {
            return Err(failure);
        };
        tracing::info!(failure = %failure.sentence(), ?wait, "begins anew");
        sleep(wait).await;
        Ok(())
    }
}

/// The mailbox that is verified, and how its sessions are opened.
pub(super) struct Opening<'a> {
    pub(super) tools: &'a Tools,
    pub(super) domain: usize,
    pub(super) planned: &'a PlannedMailbox,
    pub(super) endpoint: &'a Endpoint,
    pub(super) key: &'a str,
}

impl Opening<'_> {
    /// Logs in at both sides, once the sessions that there were are gone.
    ///
    /// # Errors
    /// Those of the logins, once trying again is useless.
    pub(super) async fn open(&self, before: Option<Ends>) -> Result<Ends> {
        if let Some(before) = before {
            before.close().await;
        }
        let mut ladder = Ladder::new(self.key);
        loop {
            match Ends::open(self.tools, self.domain, self.planned, self.endpoint).await {
                Ok(ends) => return Ok(ends),
                Err(failure) => ladder.climb(failure).await?,
            }
        }
    }
}
