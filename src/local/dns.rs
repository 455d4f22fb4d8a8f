//! The watch over the DNS records of the domains of a migration, with what is kept of it.

use futures::future::join_all;
use jiff::Timestamp;

use super::clock::SystemClock;
use super::state::MigrationState;
use crate::api::MailMigration;
use crate::discovery::watch;
use crate::model::address::Domain;
use crate::model::dns::DnsFacts;
use crate::model::failure::{Failure, Result};
use crate::model::records::DomainRecords;
use crate::net::network::Network;
use crate::plan::records;
use crate::report::dns::DnsReport;

/// Asks about a domain of a migration, adds what was seen to what is kept, and hands out all that is known. It takes a few
/// seconds at most; a pass may call it as often as it likes, and several processes at the same time.
///
/// # Errors
/// Those of the state directory. A name server that fails is a fact.
pub async fn look(
    network: &Network,
    migration: &MailMigration,
    domain: &str,
    kept: &MigrationState,
) -> Result<DnsFacts> {
    let before = kept.load_dns(domain)?;
    let questions = records::questions(&migration.spec, domain);
    let name: Domain = domain.parse().map_err(Failure::configuration)?;
    let seen = watch::watch(network, &name, &questions, &before, &SystemClock).await;
    kept.keep_dns(domain, seen)
}

/// Asks about each domain of a migration.
///
/// # Errors
/// As [`look`].
pub async fn look_at_all(network: &Network, migration: &MailMigration, kept: &MigrationState) -> Result<()> {
    // Few at a time: a thousand domains may be at one name server.
    for some in migration.spec.domains.chunks(AT_A_TIME) {
        let looks = some.iter().map(|domain| look(network, migration, &domain.name, kept));
        join_all(looks).await.into_iter().collect::<Result<Vec<_>>>()?;
    }
    Ok(())
}

/// Domains that are asked about at the same time.
const AT_A_TIME: usize = 8;

/// Where the records of a migration's domains stand, by what is kept.
///
/// # Errors
/// Those of the state directory.
pub fn kept(migration: &MailMigration, kept: &MigrationState, now: Timestamp) -> Result<DnsReport> {
    let spec = &migration.spec;
    let domains = spec.domains.iter().map(|domain| -> Result<DomainRecords> {
        Ok(records::stand(spec, &domain.name, &kept.load_dns(&domain.name)?, now))
    });
    let customer = spec.checklist.as_ref().and_then(|list| list.customer.as_ref()?.name.clone());
    Ok(DnsReport::new(
        migration.metadata.name.as_deref().unwrap_or_default(),
        migration.metadata.namespace.as_deref().unwrap_or("default"),
        customer,
        now,
        env!("CARGO_PKG_VERSION"),
        domains.collect::<Result<_>>()?,
    ))
}
