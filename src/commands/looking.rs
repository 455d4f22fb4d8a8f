//! The facts about a migration for commands that only look: from manifests and a state directory, or from a
//! cluster.

use std::sync::Arc;

use super::tell_note;
use crate::api::MailMigration;
use crate::cli::Whereabouts;
use crate::cluster::reading::Reading;
use crate::discovery::Clock;
use crate::local::clock::SystemClock;
use crate::local::reporting::Remembered;
use crate::local::run::{Inputs, Reach, tools_for};
use crate::local::secrets::Secrets;
use crate::local::state::{MigrationState, StateDir};
use crate::local::workers::Tools;
use crate::model::failure::{Failure, Result};
use crate::plan::Observed;
use crate::report::Report;

/// A migration, and what is known of it.
pub(super) struct Looked {
    /// The migration, with the status that was said last.
    pub(super) migration: MailMigration,
    /// The observed facts.
    pub(super) observed: Observed,
    /// The report.
    pub(super) report: Report,
    /// Its part of a state directory; a cluster has none.
    pub(super) state: Option<MigrationState>,
    /// Domains whose part of the manifest, list or Secret was changed since they were looked at. A cluster looks by itself.
    pub(super) outdated: Vec<String>,
}

impl Looked {
    /// Its name.
    pub(super) fn name(&self) -> &str {
        self.migration.metadata.name.as_deref().unwrap_or_default()
    }
}

/// Looks at one migration.
///
/// # Errors
/// When it is not one migration, or what is known of it cannot be read.
pub(super) async fn look(whereabouts: Whereabouts) -> Result<Looked> {
    let now = SystemClock.now();
    match whereabouts {
        Whereabouts::Cluster(access, name) => {
            let reading = Reading::read(&access.connect().await?, &name).await?;
            let (report, known) = (reading.report(now)?, reading.into_known());
            Ok(Looked {
                migration: known.migration,
                observed: known.observed,
                report,
                state: None,
                outdated: Vec::new(),
            })
        }
        Whereabouts::Machine(inputs) => look_here(&inputs).await,
    }
}

/// The manifests with the values of their Secrets, and their migrations. Passwords that others can read are told.
///
/// # Errors
/// As [`Inputs::open`].
pub(super) fn open(inputs: &Inputs) -> Result<(Arc<Secrets>, Vec<MailMigration>)> {
    let (secrets, migrations) = inputs.open()?;
    tell_exposed(&secrets);
    Ok((secrets, migrations))
}

/// Tells of each file with passwords that others can read; how many there are.
pub(super) fn tell_exposed(secrets: &Secrets) -> usize {
    let exposed = secrets.exposed();
    for path in &exposed {
        let path = path.display();
        tell_note(&format!("{path} holds passwords, and others can read it: chmod 600 {path}"));
    }
    exposed.len()
}

async fn look_here(inputs: &Inputs) -> Result<Looked> {
    let (secrets, migrations) = open(inputs)?;
    let migration = only(migrations)?;
    let state = StateDir::look(&inputs.state)?;
    let tools = tools_for(&migration, &secrets, &state, &Reach::default()).await?;
    let kept = state.migration(&migration)?;
    let read = Remembered::read(migration, kept.clone(), Arc::clone(&tools.store), state.is_used(), |at| {
        tools.list_mailboxes(at)
    });
    let remembered = read.await?;
    let outdated = find_outdated(&tools, &kept).await?;
    let report = remembered.report(SystemClock.now()).await?;
    let known = remembered.known;
    Ok(Looked { migration: known.migration, observed: known.observed, report, state: Some(kept), outdated })
}

/// The domains that were looked at by other inputs than the manifest, its lists and its Secrets give now.
async fn find_outdated(tools: &Tools, kept: &MigrationState) -> Result<Vec<String>> {
    let mut outdated = Vec::new();
    for (at, domain) in tools.migration.spec.domains.iter().enumerate() {
        let Some(before) = kept.load_inputs(&domain.name)? else { continue };
        // A list or Secret that cannot be read now is told where it is needed.
        let Ok(listed) = tools.list_mailboxes(at) else { continue };
        let Ok(now) = tools.declared_inputs(at, &listed).await else { continue };
        if !before.starts_with(&now) {
            outdated.push(domain.name.clone());
        }
    }
    Ok(outdated)
}

/// The one migration of a manifest.
///
/// # Errors
/// When there are several.
pub(super) fn only(mut migrations: Vec<MailMigration>) -> Result<MailMigration> {
    match (migrations.pop(), migrations.is_empty()) {
        (Some(migration), true) => Ok(migration),
        _ => Err(Failure::configuration("the manifest holds several migrations, and this is about one")
            .hint("give the file of one migration with -f")),
    }
}
