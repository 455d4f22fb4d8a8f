//! The findings of a migration: gathered from discovery and from passes, counted by code, held against what the customer
//! acknowledged.

use std::collections::BTreeMap;

use super::observed::{DomainObserved, Observed};
use crate::api::MailMigrationSpec;
use crate::api::domain::DomainSpec;
use crate::api::status::FindingStatus;
use crate::model::finding::{Code, Finding, Hold};

/// All findings of a domain: what discovery saw, then what the last passes over its mailboxes met.
pub fn of_domain<'a>(
    domain: &'a DomainObserved,
    observed: &'a Observed,
) -> impl Iterator<Item = Finding> + 'a {
    let discovered = domain.discovery.iter().flat_map(|d| d.findings.iter().cloned());
    let met = domain.planned().iter().filter_map(|m| Some((m, observed.mailboxes.get(&m.source)?))).flat_map(
        |(mailbox, seen)| {
            seen.record.findings.iter().map(move |finding| {
                let subject = match &finding.subject {
                    Some(subject) => format!("{}: {subject}", mailbox.source),
                    None => mailbox.source.to_string(),
                };
                Finding { subject: Some(subject), ..finding.clone() }
            })
        },
    );
    discovered.chain(met)
}

/// Whether a code was acknowledged for a domain.
pub fn is_acknowledged(spec: &MailMigrationSpec, code: Code, domain: &str) -> bool {
    spec.acknowledge
        .iter()
        .any(|a| a.finding == code && a.domain.as_deref().is_none_or(|d| d.eq_ignore_ascii_case(domain)))
}

/// One line for each code, the most serious first, with the facts of the first finding and how many there are.
pub fn summarise(
    spec: &MailMigrationSpec,
    domain: &DomainSpec,
    seen: &DomainObserved,
    observed: &Observed,
) -> Vec<FindingStatus> {
    let mut by_code: BTreeMap<(crate::model::finding::Severity, Code), FindingStatus> = BTreeMap::new();
    for finding in of_domain(seen, observed) {
        let code = finding.code;
        let entry = by_code.entry((code.severity(), code)).or_insert_with(|| FindingStatus {
            code,
            severity: code.severity(),
            message: finding.message.clone(),
            remedy: code.remedy().to_owned(),
            count: 0,
            acknowledged: is_acknowledged(spec, code, &domain.name),
        });
        entry.count += 1;
    }
    by_code.into_values().collect()
}

/// Whether an open finding holds the cutover.
pub fn holds_cutover(findings: &[FindingStatus]) -> bool {
    findings.iter().any(|f| !f.acknowledged && f.code.holds() != Hold::Nothing)
}
