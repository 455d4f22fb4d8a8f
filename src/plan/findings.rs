//! The findings of a migration: gathered from discovery and from passes, counted by code, held against what the customer
//! acknowledged.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use super::mailboxes::PlannedMailbox;
use super::observed::{DomainObserved, Observed};
use super::{advice, checklist};
use crate::api::MailMigrationSpec;
use crate::api::domain::DomainSpec;
use crate::api::status::FindingStatus;
use crate::model::address::is_same_domain;
use crate::model::finding::{Code, Finding, Hold, Severity, tell_together};

/// All findings of a domain: what discovery saw, what follows from it and from the spec, then what the last passes over
/// its mailboxes met.
pub fn of_domain<'a>(
    spec: &'a MailMigrationSpec,
    named: &'a DomainSpec,
    domain: &'a DomainObserved,
    observed: &'a Observed,
    now: Timestamp,
) -> impl Iterator<Item = Finding> + 'a {
    let mut drawn = checklist::contradicted_in(spec, &named.name, domain);
    drawn.extend(advice::of_domain(spec, named, domain, observed, now));
    let may_be_stale = |finding: &Finding| {
        matches!(
            finding.code,
            Code::DestinationMailboxClosed
                | Code::DestinationRoomShort
                | Code::DestinationUnusable
                | Code::DestinationUnasked
                | Code::CredentialsRejected
        )
    };
    // A domain can have tens of thousands of mailboxes, and a finding for each.
    let asked = domain.discovery.iter().any(|discovery| discovery.findings.iter().any(may_be_stale));
    let planned: HashMap<String, &PlannedMailbox> =
        domain.planned().iter().filter(|_| asked).map(|m| (m.source.to_string(), m)).collect();
    let carried_since = asked && observed.carried_since(domain);
    let discovered = domain.discovery.iter().flat_map(move |discovery| {
        let planned = planned.clone();
        // The passes over a mailbox overrule a discovery of its destination: a destination that was closed and took
        // mail since is open, and mail that all went through once fits, whatever room is left beside it.
        let stale = move |finding: &&Finding| {
            if matches!(finding.code, Code::DestinationUnusable | Code::DestinationUnasked) {
                return carried_since;
            }
            let mailbox = finding.subject.as_ref().and_then(|subject| planned.get(subject));
            let Some(mailbox) = mailbox else { return false };
            let record = observed.mailboxes.get(&mailbox.source).map(|seen| &seen.record);
            let Some(through) = record.filter(|record| record.failure.is_none()) else { return false };
            match finding.code {
                Code::DestinationMailboxClosed | Code::CredentialsRejected => {
                    through.ended.is_some_and(|at| at > discovery.finished)
                }
                Code::DestinationRoomShort => through.ended.is_some() && through.counts.pending == 0,
                _ => false,
            }
        };
        discovery.findings.iter().filter(move |finding| !stale(finding)).cloned()
    });
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
    discovered.chain(drawn).chain(met)
}

/// The findings that are about the migration as a whole.
pub fn of_migration(spec: &MailMigrationSpec, observed: &Observed, now: Timestamp) -> Vec<Finding> {
    let mut found = checklist::contradicted(spec, observed);
    found.extend(advice::of_migration(spec, observed, now));
    found
}

/// Whether a code was acknowledged for the migration as a whole.
fn is_acknowledged_everywhere(spec: &MailMigrationSpec, code: Code) -> bool {
    spec.acknowledge.iter().any(|a| a.finding == code && a.domain.is_none())
}

/// Whether a code was acknowledged for a domain.
pub fn is_acknowledged(spec: &MailMigrationSpec, code: Code, domain: &str) -> bool {
    spec.acknowledge
        .iter()
        .any(|a| a.finding == code && a.domain.as_deref().is_none_or(|d| is_same_domain(d, domain)))
}

/// One line for each code, the most serious first, with the facts of the first finding and how many there are.
pub fn summarise(
    spec: &MailMigrationSpec,
    domain: &DomainSpec,
    seen: &DomainObserved,
    observed: &Observed,
    now: Timestamp,
) -> Vec<FindingStatus> {
    count_codes(of_domain(spec, domain, seen, observed, now), |code| {
        is_acknowledged(spec, code, &domain.name)
    })
}

/// As [`summarise`], for the findings that are about the migration as a whole.
pub fn summarise_migration(
    spec: &MailMigrationSpec,
    observed: &Observed,
    now: Timestamp,
) -> Vec<FindingStatus> {
    count_codes(of_migration(spec, observed, now), |code| is_acknowledged_everywhere(spec, code))
}

fn count_codes(
    findings: impl IntoIterator<Item = Finding>,
    acknowledged: impl Fn(Code) -> bool,
) -> Vec<FindingStatus> {
    let mut by_code: BTreeMap<(Severity, Code), Vec<String>> = BTreeMap::new();
    for finding in findings {
        by_code.entry((finding.code.severity(), finding.code)).or_default().push(finding.message);
    }
    let told = |((severity, code), said): ((Severity, Code), Vec<String>)| {
        let (message, count) = tell_together(code, said.iter().map(|message| (message.as_str(), 1)));
        FindingStatus {
            code,
            severity,
            message,
            remedy: code.remedy().to_owned(),
            count: u32::try_from(count).unwrap_or(u32::MAX),
            acknowledged: acknowledged(code),
        }
    };
    by_code.into_iter().map(told).collect()
}

/// Whether an open finding holds the cutover.
pub fn holds_cutover(findings: &[FindingStatus]) -> bool {
    findings.iter().any(|f| !f.acknowledged && f.code.holds() != Hold::Nothing)
}
