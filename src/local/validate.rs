//! Every check of a migration that needs no network: what it refers to, its lists and their rows, and whether every
//! mailbox has a login at both ends. Nothing is connected to, and nothing is written.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use super::clock::SystemClock;
use super::guard::DurableGuard;
use super::lists::apart;
use super::run::allowed_networks;
use super::secrets::Secrets;
use super::workers::{Siblings, Tools};
use crate::api::manifest::Part;
use crate::api::{LedgerSpec, MailMigration};
use crate::auth::oauth::Tokens;
use crate::ledger::sqlite::SqliteStore;
use crate::model::failure::{Failure, Result};
use crate::model::finding::Finding;
use crate::net::network::Network;
use crate::plan::mailboxes::PlannedMailbox;
use crate::plan::unmatched;
use crate::transfer::pace::Pace;

/// All that is known of a migration before anything was asked.
#[derive(Debug, Default)]
pub struct Validated {
    /// Faults that keep it from being carried out as it is.
    pub errors: Vec<Failure>,
    /// Things that may be meant otherwise.
    pub warnings: Vec<Finding>,
    /// How many mailboxes each domain has, in the order of the spec; `None` where its list cannot be read.
    pub mailboxes: Vec<(String, Option<usize>)>,
    /// Lists that were read, and what they were read as.
    pub lists: Vec<(String, String)>,
}

/// Looks at a migration.
///
/// # Errors
/// Only what would be a fault of our own; what is wrong with the migration is in the result.
pub fn validate(migration: &MailMigration, secrets: &Arc<Secrets>) -> Result<Validated> {
    let mut found = Validated::default();
    let tools = tools(migration, secrets)?;
    let common = secrets.find_missing(migration, Part::Common);
    let whole = common.is_empty();
    let mut errors = common;
    if whole {
        errors.extend(tools.check_common());
    }
    let mut all: Vec<PlannedMailbox> = Vec::new();
    for at in 0..migration.spec.domains.len() {
        let missing = secrets.find_missing(migration, Part::Domain(at));
        if !missing.is_empty() {
            errors.extend(missing);
            found.mailboxes.push((migration.spec.domains[at].name.clone(), None));
            continue;
        }
        let checked = tools.check_domain(at, whole);
        errors.extend(checked.errors);
        found.warnings.extend(checked.warnings);
        for list in checked.lists {
            if !found.lists.contains(&list) {
                found.lists.push(list);
            }
        }
        let count = checked.is_listed.then_some(checked.mailboxes.len());
        found.mailboxes.push((migration.spec.domains[at].name.clone(), count));
        all.extend(checked.mailboxes);
    }
    // A list that several domains read, or both ends, is wrong once.
    let mut told = HashSet::new();
    let each = errors.into_iter().flat_map(apart);
    found.errors = each.filter(|failure| told.insert(failure.sentence())).collect();
    // Where a list cannot be read nobody knows who is on it.
    if found.errors.is_empty() {
        found.warnings.extend(unmatched::addresses(&migration.spec, all.iter()));
    }
    Ok(found)
}

/// The tools that tasks need, without a way to anybody and without a place to write to.
fn tools(migration: &MailMigration, secrets: &Arc<Secrets>) -> Result<Tools> {
    // Nobody is asked: any address will do, and the system's name servers need not be read.
    let nobody = std::net::SocketAddr::from(([127, 0, 0, 1], 53));
    let network = Arc::new(Network::new(Some(nobody), allowed_networks(migration)?, 1)?);
    let store = Arc::new(SqliteStore::new(Path::new("nowhere"), Path::new("nowhere")));
    Ok(Tools {
        migration: Arc::new(migration.clone()),
        first_domain: 0,
        siblings: Siblings::InSpec,
        secrets: Arc::clone(secrets),
        authority: "".into(),
        trusts: Arc::default(),
        tokens: Arc::new(Tokens::new(Arc::clone(&network), Arc::new(SystemClock), None)),
        guard: Arc::new(DurableGuard::new(store.clone())),
        turnstile: Arc::default(),
        pace: Arc::new(Pace::new(None)),
        network,
        store,
    })
}

/// All that is known of a domain before anything was asked.
#[derive(Debug, Default)]
pub(super) struct CheckedDomain {
    pub(super) errors: Vec<Failure>,
    pub(super) warnings: Vec<Finding>,
    pub(super) mailboxes: Vec<PlannedMailbox>,
    /// Whether its mailboxes are known.
    pub(super) is_listed: bool,
    pub(super) lists: Vec<(String, String)>,
}

impl Tools {
    /// The database of the ledger, whose Secret is read as it would be.
    pub(super) fn check_ledger(&self) -> Option<Failure> {
        let LedgerSpec::Postgres(postgres) = &self.spec().ledger else { return None };
        let namespace = self.migration.metadata.namespace.as_deref().unwrap_or("default");
        self.secrets.database(namespace, &postgres.credentials_ref.name).err()
    }
}
