//! Fills the report from the state directory: statuses, discovery documents, records and ledgers.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::state::{MigrationRecord, MigrationState};
use crate::api::{Destination, MailMigration, MailMigrationSpec};
use crate::ledger::{Row, Store};
use crate::model::address::{Address, Domain};
use crate::model::failure::{Failure, Result};
use crate::model::finding::Finding;
use crate::model::message::Locator;
use crate::model::record::MailboxRecord;
use crate::plan::findings::of_domain;
use crate::plan::mailboxes::PlannedMailbox;
use crate::plan::{Discovered, DomainObserved, MailboxObserved, Observed};
use crate::report::message::{MessageDestination, MessageSink};
use crate::report::rows::{AcknowledgementRow, DestinationRow, FindingRow};
use crate::report::{DomainRow, Exceptions, MailboxRow, MessageRow, Report};
use jiff::Timestamp;

/// Rows of a ledger read at once.
const PAGE: usize = 2_000;

/// A migration as the state directory knows it.
pub struct Remembered {
    /// The manifest's migration, with its status.
    pub migration: MailMigration,
    /// Its part of the state directory.
    pub state: MigrationState,
    /// What is remembered of it as a whole.
    pub record: MigrationRecord,
    store: Arc<dyn Store>,
    observed: Observed,
}

impl Remembered {
    /// Reads what is remembered. `listed` are the mailboxes of each domain as the manifest lists them now.
    ///
    /// # Errors
    /// Those of the state directory.
    pub fn read(
        mut migration: MailMigration,
        state: MigrationState,
        store: Arc<dyn Store>,
        listed: impl Fn(usize) -> Result<Vec<PlannedMailbox>>,
    ) -> Result<Self> {
        let record = state.load()?;
        migration.status = Some(record.status.clone());
        let mut observed = Observed { pass: record.pass, ..Observed::default() };
        for (at, domain) in migration.spec.domains.iter().enumerate() {
            let mailboxes = listed(at);
            for planned in mailboxes.iter().flatten() {
                // A damaged document of one mailbox must not hide the others.
                let record = match state.load_mailbox(&planned.source) {
                    Ok(record) => record.unwrap_or_default(),
                    Err(failure) => MailboxRecord { failure: Some(failure), ..MailboxRecord::default() },
                };
                observed
                    .mailboxes
                    .insert(planned.source.clone(), MailboxObserved { record, ..MailboxObserved::default() });
            }
            let discovery = state.load_domain(&domain.name)?.map(Into::into);
            let mailboxes = Some(mailboxes.map(Arc::from));
            let seen = DomainObserved { mailboxes, discovery, ..DomainObserved::default() };
            observed.domains.insert(domain.name.clone(), seen);
        }
        Ok(Self { migration, state, record, store, observed })
    }

    fn discoveries(&self) -> impl Iterator<Item = (&DomainObserved, &Discovered)> {
        let domains = self.migration.spec.domains.iter();
        domains
            .filter_map(|d| self.observed.domains.get(&d.name))
            .filter_map(|o| Some((o, o.discovery.as_deref()?)))
    }

    /// Every mailbox of the manifest, in its order.
    pub fn mailboxes(&self) -> impl Iterator<Item = &PlannedMailbox> {
        let domains = self.migration.spec.domains.iter();
        domains.filter_map(|d| self.observed.domains.get(&d.name)).flat_map(DomainObserved::planned)
    }

    /// What is remembered of a mailbox.
    pub fn record_of(&self, mailbox: &Address) -> Option<&MailboxRecord> {
        self.observed.mailboxes.get(mailbox).map(|m| &m.record)
    }

    /// Hands every message of every mailbox on, one page in memory at a time. A ledger that cannot be read must not hide
    /// the others: what is wrong with it is returned beside its mailbox.
    ///
    /// # Errors
    /// Those of the sink.
    pub async fn feed(
        &self,
        keep: &(dyn Fn(&MessageRow) -> bool + Sync),
        sink: &mut dyn MessageSink,
    ) -> Result<BTreeMap<Address, Failure>> {
        let mut unread = BTreeMap::new();
        for planned in self.mailboxes() {
            let ledger = match self.store.find(&self.state.key(&planned.source)).await {
                Ok(Some(ledger)) => ledger,
                Ok(None) => continue,
                Err(failure) => {
                    unread.insert(planned.source.clone(), failure);
                    continue;
                }
            };
            let mut after = 0;
            loop {
                let page = match ledger.page(after, PAGE).await {
                    Ok(page) => page,
                    Err(failure) => {
                        unread.insert(planned.source.clone(), failure);
                        break;
                    }
                };
                let Some(last) = page.last() else { break };
                after = last.id;
                for row in page {
                    let row = message_row(&planned.source, row);
                    if keep(&row) {
                        sink.row(&row)?;
                    }
                }
            }
        }
        Ok(unread)
    }

    /// Fills the report.
    ///
    /// # Errors
    /// Those of the state directory and the ledgers.
    pub async fn report(&self, now: Timestamp) -> Result<Report> {
        let spec = &self.migration.spec;
        let mut exceptions = Exceptions::default();
        let is_exception = |row: &MessageRow| !matches!(row.verdict.word(), "Delivered" | "Pending");
        let unread = self.feed(&is_exception, &mut Named(&mut exceptions)).await?;
        let acknowledged: Vec<AcknowledgementRow> = spec
            .acknowledge
            .iter()
            .map(|a| AcknowledgementRow {
                finding: a.finding,
                domain: a.domain.as_ref().and_then(|d| d.parse().ok()),
                reason: a.reason.clone(),
            })
            .collect();
        let findings: Vec<(Domain, Finding)> = self
            .discoveries()
            .flat_map(|(seen, d)| {
                of_domain(seen, &self.observed).map(|f| (d.domain.clone(), f)).collect::<Vec<_>>()
            })
            .collect();
        let status = self.migration.status.clone().unwrap_or_default();
        let mut mailboxes = Vec::new();
        for planned in self.mailboxes() {
            if let Some(mut row) = self.mailbox_row(planned) {
                if let Some(failure) = unread.get(&planned.source) {
                    "Failed".clone_into(&mut row.phase);
                    row.failure.get_or_insert(failure.into());
                }
                mailboxes.push(row);
            }
        }
        Ok(Report {
            name: self.migration.metadata.name.clone().unwrap_or_default(),
            namespace: self.migration.metadata.namespace.clone().unwrap_or_default(),
            customer: None,
            stage: format!("{:?}", spec.stage),
            phase: status.phase.map(|p| p.to_string()).unwrap_or_default(),
            generated: now,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            plan_digest: status.plan.map(|p| p.digest),
            destination: self.destination_row(),
            findings: FindingRow::collect(findings.iter().map(|(d, f)| (Some(d), f)), &acknowledged),
            acknowledged,
            domains: self.discoveries().map(|(_, d)| DomainRow::from(&**d)).collect(),
            mailboxes,
            exceptions,
            exclusions: exclusions(spec),
            limits: Vec::new(),
        })
    }

    fn destination_row(&self) -> DestinationRow {
        match &self.migration.spec.destination {
            Destination::Imap(imap) => DestinationRow {
                kind: "IMAP".to_owned(),
                host: imap.host.clone(),
                port: imap.port,
                tls: imap.tls,
                facts: self.record.destination_tls.clone(),
            },
        }
    }

    fn mailbox_row(&self, planned: &PlannedMailbox) -> Option<MailboxRow> {
        let (discovery, seen) = self.discoveries().find_map(|(_, d)| Some((d, d.find(&planned.source)?)))?;
        let mut row = MailboxRow::new(discovery, seen, planned.destination.clone());
        let record = self.record_of(&planned.source)?;
        row.messages = record.messages(self.record.pass, seen.size.as_ref());
        if record.pass > 0 || record.failure.is_some() {
            let done = record.finished(record.pass);
            if done { "Verified" } else { "Failed" }.clone_into(&mut row.phase);
            row.failure = record.failure.as_ref().map(Into::into).or(row.failure);
        }
        row.altered = record.altered;
        row.flags_updated = record.flags_updated;
        row.bytes_copied = record.bytes_sent;
        row.passes = record.pass;
        row.last_started = record.started;
        row.last_ended = record.ended;
        row.verification = record.verification;
        row.findings.extend(record.findings.iter().map(|f| f.code));
        Some(row)
    }
}

struct Named<'a>(&'a mut Exceptions);

impl MessageSink for Named<'_> {
    fn row(&mut self, row: &MessageRow) -> Result<()> {
        self.0.push(row);
        Ok(())
    }
}

fn message_row(mailbox: &Address, row: Row) -> MessageRow {
    let known = row.known;
    MessageRow {
        mailbox: mailbox.clone(),
        source: (&row.locator as &Locator).into(),
        message_id: known.as_ref().and_then(|k| k.message_id.clone()),
        exact: known.as_ref().map(|k| k.exact),
        size: row.size,
        internal_date: row.date,
        flags: row.flags,
        destination: row.destination.map(|(folder, arrival)| MessageDestination::new(&folder, &arrival)),
        verdict: row.verdict,
        subject: known.and_then(|k| k.subject),
    }
}

/// The rules of the manifest that leave messages out, in plain words.
fn exclusions(spec: &MailMigrationSpec) -> Vec<String> {
    let mut rules = Vec::new();
    if let Some(limit) = spec.policy.max_message_bytes {
        rules.push(format!("Messages larger than {limit} bytes are left out."));
    }
    if let Some(since) = spec.policy.since {
        rules.push(format!("Messages that arrived before {since} are left out."));
    }
    for pattern in spec.mapping.iter().flat_map(|m| &m.exclude) {
        rules.push(format!("Folders that match \"{pattern}\" are left out."));
    }
    rules
}

/// Nothing was run yet.
pub fn never_run(name: &str) -> Failure {
    Failure::configuration(format!("{name}: nothing is known of it in this state directory"))
        .hint("run it first: mailferry run -f … --state …")
}
