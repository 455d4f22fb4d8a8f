//! The one loop: observe, decide, perform, publish. A laptop and a cluster are two platforms under it.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::api::MailMigration;
use crate::model::failure::Result;
use crate::plan::{Decision, Observed, decide};

/// Where a migration runs.
#[async_trait]
pub trait Platform: Send {
    /// The time.
    fn now(&self) -> Timestamp;

    /// Gathers the facts. They are shared: those of ten thousand mailboxes are not copied for whoever looks at them.
    async fn observe(&mut self, migration: &MailMigration) -> Result<Arc<Observed>>;

    /// Stops what the decision forbids, before anything else is done with it: what goes on to a wrong place goes on for no
    /// moment longer, whatever becomes of the rest.
    async fn stop(&mut self, _: &MailMigration, _: &Decision) -> Result<()> {
        Ok(())
    }

    /// Begins the decision's steps; they go on by themselves, and their end is a fact that a later [`Self::observe`] sees.
    async fn perform(&mut self, migration: &MailMigration, decision: &Decision) -> Result<()>;

    /// Makes the decision's status known, and nothing when it does not differ from what is known already.
    async fn publish(&mut self, migration: &mut MailMigration, decision: &Decision) -> Result<()>;
}

/// Goes through the loop once.
///
/// # Errors
/// Those of the platform; the next call starts from what is true then.
pub async fn reconcile(platform: &mut dyn Platform, migration: &mut MailMigration) -> Result<Decision> {
    let observed = platform.observe(migration).await?;
    let decision = decide(migration, &observed, platform.now());
    platform.stop(migration, &decision).await?;
    platform.publish(migration, &decision).await?;
    platform.perform(migration, &decision).await?;
    Ok(decision)
}
