//! Fills the report from what is known of a migration: one piece for a laptop and a cluster, as `reconcile` is one loop
//! for both. Each of them gathers the facts and names the messages in its own way.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::api::domain::DomainSpec;
use crate::api::mailboxmigration::MailboxPhase;
use crate::api::policy::Pilot;
use crate::api::{MailMigration, MailMigrationSpec, MailboxMigrationStatus};
use crate::model::address::{Address, Domain};
use crate::model::evidence::TlsFacts;
use crate::model::failure::{Class, Failure, Result};
use crate::model::finding::Finding;
use crate::model::record::MailboxRecord;
use crate::model::text::{bytes, counted};
use crate::plan::document::Plan;
use crate::plan::findings::{of_domain, of_migration};
use crate::plan::mailboxes::PlannedMailbox;
use crate::plan::proof::Open;
use crate::plan::{Discovered, DomainObserved, Observed, checklist, decide, pass};
use crate::report::rows::{AcknowledgementRow, Agreed, DestinationRow, FindingRow, PilotRow};
use crate::report::{DomainRow, Exceptions, MailboxRow, Report};

/// A migration with what is known of it.
#[derive(Debug)]
pub struct Known {
    /// The migration, with its status.
    pub migration: MailMigration,
    /// Its pass, its domains and its mailboxes.
    pub observed: Observed,
    /// The facts about TLS at the destination.
    pub destination_tls: Option<TlsFacts>,
}

impl Known {
    fn domains(&self) -> impl Iterator<Item = &DomainObserved> {
        self.migration.spec.domains.iter().filter_map(|d| self.observed.domains.get(&d.name))
    }

    fn discoveries(&self) -> impl Iterator<Item = (&DomainObserved, &Discovered)> {
        self.domains().filter_map(|o| Some((o, o.discovery.as_deref()?)))
    }

    /// Every mailbox of the migration, in its order.
    pub fn mailboxes(&self) -> impl Iterator<Item = &PlannedMailbox> {
        self.domains().flat_map(DomainObserved::planned)
    }

    /// The record of a mailbox.
    pub fn record_of(&self, mailbox: &Address) -> Option<&MailboxRecord> {
        self.observed.mailboxes.get(mailbox).map(|m| &m.record)
    }

    /// The report. `exceptions` are the messages that did not arrive as they were.
    ///
    /// # Errors
    /// When the questions of the checklist cannot be read from the schema, which is a mistake of ours.
    pub fn report(&self, mut exceptions: Exceptions, now: Timestamp) -> Result<Report> {
        let spec = &self.migration.spec;
        let acknowledged: Vec<AcknowledgementRow> = spec
            .acknowledge
            .iter()
            // An acknowledgement whose domain is not a valid name does not hold for all domains.
            .filter(|a| a.domain.as_ref().is_none_or(|name| name.parse::<Domain>().is_ok()))
            .map(|a| AcknowledgementRow {
                finding: a.finding,
                domain: a.domain.as_ref().and_then(|d| d.parse().ok()),
                reason: a.reason.clone(),
                by: a.by.clone(),
            })
            .collect();
        let mut findings: Vec<(Option<Domain>, Finding)> =
            of_migration(spec, &self.observed, now).into_iter().map(|finding| (None, finding)).collect();
        for named in &spec.domains {
            let Some(seen) = self.observed.domains.get(&named.name) else { continue };
            let Some(discovery) = &seen.discovery else { continue };
            let found = of_domain(spec, named, seen, &self.observed, now);
            findings.extend(found.map(|finding| (Some(discovery.domain.clone()), finding)));
        }
        let status = self.migration.status.clone().unwrap_or_default();
        let (shown, digest, phases) = self.phases(now);
        let mut mailboxes = Vec::new();
        for named in &spec.domains {
            let Some(seen) = self.observed.domains.get(&named.name) else { continue };
            for planned in seen.planned() {
                let mut row = match seen.discovery.as_deref() {
                    Some(discovery) => self.mailbox_row(named, discovery, planned, shown),
                    None => unseen_row(named, planned, now),
                };
                if let Some((row, phase)) = row.as_mut().zip(phases.get(&planned.source)) {
                    row.phase = phase.to_string();
                }
                mailboxes.extend(row);
            }
        }
        for row in &mailboxes {
            let listed = self.record_of(&row.source).map_or(0, |record| record.counts.excluded);
            exceptions.excluded.foresee(row.messages.excluded.saturating_sub(listed));
        }
        let agreed = Agreed {
            checklist: checklist::items(spec, &self.observed)?,
            bytes_per_second: spec.policy.limits.bytes_per_second,
            source_bytes_per_day: spec.policy.limits.source_bytes_per_day,
            verify: spec.policy.verify.into(),
            pilot: spec.policy.pilot.as_ref().map(|pilot| PilotRow {
                mailboxes: pilot.mailboxes,
                messages_per_folder: pilot.messages_per_folder,
            }),
            has_first_day: spec.policy.since.is_some(),
        };
        Ok(Report {
            name: self.migration.metadata.name.clone().unwrap_or_default(),
            namespace: self.migration.metadata.namespace.clone().unwrap_or_default(),
            customer: spec.checklist.as_ref().and_then(|c| c.customer.as_ref()?.name.clone()),
            stage: format!("{:?}", spec.stage),
            phase: status.phase.map(|p| p.to_string()).unwrap_or_default(),
            generated: now,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            plan_digest: digest.or_else(|| status.plan.map(|p| p.digest)),
            destination: self.destination_row(),
            findings: FindingRow::collect(findings.iter().map(|(d, f)| (d.as_ref(), f)), &acknowledged),
            acknowledged,
            domains: self.discoveries().map(|(_, d)| DomainRow::from(&**d)).collect(),
            unseen: self.unseen().map(|domain| domain.name.clone()).collect(),
            mailboxes,
            exceptions,
            exclusions: exclusions(spec),
            outdated: pass::is_outdated(spec, status.pass.as_ref()),
            limits: spec.policy.pilot.iter().map(pilot).collect(),
            agreed,
        })
    }

    /// The domains that discovery has not looked at yet.
    fn unseen(&self) -> impl Iterator<Item = &DomainSpec> {
        self.migration.spec.domains.iter().filter(|domain| {
            self.observed.domains.get(&domain.name).is_none_or(|seen| seen.discovery.is_none())
        })
    }

    /// The pass that the statuses are about, the digest of the plan, and the phase of each mailbox in the words of its status.
    fn phases(&self, now: Timestamp) -> (u32, Option<String>, BTreeMap<Address, MailboxPhase>) {
        // Those that the last run was not asked for stand somewhere too.
        let all = self.observed.only.is_some().then(|| Observed { only: None, ..self.observed.clone() });
        let decision = decide(&self.migration, all.as_ref().unwrap_or(&self.observed), now);
        let phase = |(mailbox, _, status): (PlannedMailbox, String, MailboxMigrationStatus)| {
            Some((mailbox.source, status.phase?))
        };
        let digest = decision.plan.as_ref().map(Plan::digest);
        (decision.pass, digest, decision.mailboxes.into_iter().filter_map(phase).collect())
    }

    fn destination_row(&self) -> DestinationRow {
        let destination = &self.migration.spec.destination;
        let endpoint = destination.endpoint();
        DestinationRow {
            kind: destination.kind().to_owned(),
            host: endpoint.host,
            port: endpoint.port,
            tls: endpoint.tls,
            facts: self.destination_tls.clone(),
        }
    }

    fn mailbox_row(
        &self,
        named: &DomainSpec,
        discovery: &Discovered,
        planned: &PlannedMailbox,
        pass: u32,
    ) -> Option<MailboxRow> {
        let Some(seen) = discovery.find(&planned.source) else {
            let row = unseen_row(named, planned, discovery.finished)?;
            return Some(MailboxRow { looked_at: true, ..row });
        };
        let mut row = MailboxRow::new(discovery, seen, planned.destination.clone());
        let Some(record) = self.record_of(&planned.source) else { return Some(row) };
        row.messages = record.messages(pass, seen.size.as_ref());
        let amount = record.amount(pass, seen.size.as_ref());
        (row.items, row.bytes) = (amount.messages, amount.bytes);
        row.left_out.messages = row.messages.excluded;
        if seen.size.is_none() {
            row.folders = record.folders.into();
        }
        // A failure that stopped an earlier pass says nothing about this one.
        let stopped = record.failure.as_ref().filter(|_| record.pass == pass);
        row.failure = stopped.map(Into::into).or(row.failure);
        let open = Open::of(&self.migration.spec, &named.name, record);
        if record.finished(pass) && !open.is_none() {
            let failure = Failure::new(Class::Message, open.clauses()).hint(open.remedy());
            row.open = Some((&failure.at(planned.source.to_string())).into());
        }
        if let Some(unverified) = record.unverified.as_ref().filter(|_| row.failure.is_none()) {
            let what = format!("it could not be verified: {}", unverified.what);
            let failure = Failure { what, ..unverified.clone() };
            row.open.get_or_insert_with(|| (&failure).into());
        }
        row.altered = record.altered;
        row.changed = record.changed;
        row.truncated = record.truncated;
        row.missing = record.missing;
        row.sizes_checked = record.sizes_checked;
        row.digests_checked = record.digests_checked;
        row.flags_updated = record.flags_updated;
        row.bytes_copied = record.bytes_sent;
        row.passes = record.pass;
        row.last_started = record.started;
        row.last_ended = record.ended;
        row.verification = record.verification;
        row.rechecked = record.rechecked;
        row.differences.clone_from(&record.differences);
        row.findings.extend(record.findings.iter().map(|f| f.code));
        Some(row)
    }
}

/// The row of a mailbox of which discovery has said nothing.
fn unseen_row(named: &DomainSpec, planned: &PlannedMailbox, at: Timestamp) -> Option<MailboxRow> {
    let domain = named.name.parse().ok()?;
    Some(MailboxRow::unseen(domain, planned.source.clone(), planned.destination.clone(), at))
}

/// The scope of a pilot, in plain words.
fn pilot(pilot: &Pilot) -> String {
    let mailboxes = pilot.mailboxes.map_or("all mailboxes".to_owned(), |most| {
        let first = counted(most.into(), "mailbox that can be read", "mailboxes that can be read");
        format!("the first {first} of each domain")
    });
    let messages = pilot.messages_per_folder.map_or("every message".to_owned(), |most| {
        format!("the newest {} of each folder", counted(most.into(), "message", "messages"))
    });
    format!(
        "This is a pilot: it carries {messages}, for {mailboxes}. The rest is pending until spec.policy.pilot is taken out."
    )
}

/// The rules of the manifest that leave messages out, in plain words.
fn exclusions(spec: &MailMigrationSpec) -> Vec<String> {
    let mut rules = Vec::new();
    if spec.destination.microsoft365().is_some() {
        let text = "Calendars, contacts, tasks and rules are not carried to Microsoft 365 yet; mail is.";
        rules.push(text.to_owned());
    }
    if let Some(limit) = spec.policy.max_message_bytes {
        rules.push(format!("Messages larger than {} are left out.", bytes(limit)));
    }
    if let Some(since) = spec.policy.since {
        rules.push(format!("Messages that arrived before {since} are left out."));
    }
    for pattern in spec.mapping.iter().flat_map(|m| &m.exclude) {
        rules.push(format!("Folders that match \"{pattern}\" are left out."));
    }
    rules
}
