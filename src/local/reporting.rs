//! Fills the report from the state directory: statuses, discovery documents, records and ledgers.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::clock::SystemClock;
use super::state::{MigrationRecord, MigrationState};
use crate::api::condition::{Conditions, Type};
use crate::api::{MailMigration, MailMigrationStatus};
use crate::discovery::Clock;
use crate::ledger::{Ledger, Row, Store};
use crate::model::address::Address;
use crate::model::evidence::DomainDiscovery;
use crate::model::failure::{Failure, FailureCode, Result};
use crate::model::finding::Code;
use crate::model::message::Locator;
use crate::model::record::MailboxRecord;
use crate::plan::mailboxes::PlannedMailbox;
use crate::plan::pass::fingerprint;
use crate::plan::{DomainObserved, MailboxObserved, Observed, REVIEW, decide};
use crate::report::message::{Found, MessageDestination, MessageSink};
use crate::report::{Exceptions, MessageRow, Report};
use crate::reporting::Known;
use crate::transfer::books::{find_lost_ledger, tell_found};

/// Rows of a ledger read at once.
const PAGE: usize = 2_000;

/// A migration as the state directory knows it.
pub struct Remembered {
    /// All that is known of it.
    pub known: Known,
    record: MigrationRecord,
    state: MigrationState,
    store: Arc<dyn Store>,
}

impl Remembered {
    /// Reads what is remembered. `listed` are the mailboxes of each domain as the manifest lists them now; `at_work` says whether
    /// a run is using the directory meanwhile. Where none is, and the last one was killed, the status says so.
    ///
    /// # Errors
    /// Those of the state directory.
    pub async fn read(
        mut migration: MailMigration,
        state: MigrationState,
        store: Arc<dyn Store>,
        at_work: bool,
        listed: impl Fn(usize) -> Result<Vec<PlannedMailbox>>,
    ) -> Result<Self> {
        let mut record = state.load()?;
        let declared = fingerprint(&migration.spec);
        migration.status = Some(record.status.clone());
        // The status is about the stage of the last run, which --stage may have named.
        migration.spec.stage = record.stage.unwrap_or(migration.spec.stage);
        let mut observed = Observed {
            pass: record.pass,
            began: record
                .status
                .pass
                .as_ref()
                .filter(|pass| pass.number == record.pass)
                .and_then(|pass| pass.began),
            verification: record.status.pass.as_ref().map_or(0, |pass| pass.verification),
            stopped: !at_work,
            only: record.only.clone(),
            approved: state.find_approved(migration.spec.approved_plan.as_deref()),
            ..Observed::default()
        };
        for (at, domain) in migration.spec.domains.iter().enumerate() {
            let mailboxes = listed(at);
            for planned in mailboxes.iter().flatten() {
                // A damaged document of one mailbox must not hide the others.
                let record = match state.load_mailbox(&planned.source) {
                    Ok(record) => record.unwrap_or_default(),
                    // It stops this pass, whatever it held of the one before.
                    Err(failure) => MailboxRecord {
                        pass: record.pass,
                        failure: Some(failure),
                        ..MailboxRecord::default()
                    },
                };
                observed
                    .mailboxes
                    .insert(planned.source.clone(), MailboxObserved { record, ..MailboxObserved::default() });
            }
            // Nor must that of one domain.
            let discovery = match state.load_domain(&domain.name) {
                Ok(discovery) => discovery,
                Err(failure) => {
                    let now = SystemClock.now();
                    let name = domain.name.parse().map_err(Failure::configuration)?;
                    Some(DomainDiscovery { failure: Some(failure), ..DomainDiscovery::empty(name, now, now) })
                }
            };
            let discovery = discovery.map(Into::into);
            let mailboxes = Some(mailboxes.map(Arc::from));
            let seen = DomainObserved { mailboxes, discovery, ..DomainObserved::default() };
            observed.domains.insert(domain.name.clone(), seen);
        }
        let known = Known { migration, observed, destination_tls: record.destination_tls.clone() };
        record.spec = Some(declared);
        let mut remembered = Self { known, record, state, store };
        remembered.count_unfinished(at_work).await;
        let lost = !at_work && remembered.find_lost_ledgers().await;
        if !at_work && (lost || is_unsettled(&remembered.record.status)) {
            remembered.restate(SystemClock.now());
        }
        Ok(remembered)
    }

    /// Counts what has arrived in mailboxes whose pass is not through: their records are as of the attempt before.
    async fn count_unfinished(&mut self, at_work: bool) {
        let pass = self.known.observed.pass;
        for (mailbox, seen) in &mut self.known.observed.mailboxes {
            if seen.record.finished(pass) {
                continue;
            }
            seen.running = at_work && seen.record.pass == pass && seen.record.ended.is_none();
            // A ledger that cannot be read is told where its messages are named.
            if let Ok(Some(ledger)) = self.store.find(&self.state.key(mailbox)).await {
                let mut record = seen.record.clone();
                if tell_found(&mut record, &*ledger).await.is_ok() {
                    seen.record = record;
                }
            }
        }
    }

    /// Tells of mailboxes that messages were carried of and that have no ledger any more; whether there are any.
    async fn find_lost_ledgers(&mut self) -> bool {
        // A store that cannot be asked loses nothing by that.
        let Ok(there) = self.store.names().await else { return false };
        let mut any = false;
        for (mailbox, seen) in &mut self.known.observed.mailboxes {
            if seen.record.counts.copied > 0 && !there.contains(&self.state.key(mailbox)) {
                seen.record.findings.retain(|finding| finding.code != Code::LedgerLost);
                seen.record.findings.push(find_lost_ledger(seen.record.counts.copied));
                any = true;
            }
        }
        any
    }

    /// Makes the status anew from what is known now.
    pub fn restate(&mut self, now: Timestamp) {
        let status = decide(&self.known.migration, &self.known.observed, now).status;
        self.record.status = status.clone();
        self.known.migration.status = Some(status);
    }

    /// Refuses commands that write where the current plan is not the approved one.
    ///
    /// # Errors
    /// [`crate::model::failure::Class::Configuration`] when it is another.
    pub fn check_approved(&self) -> Result<()> {
        let stands = self.record.status.plan.as_ref().map(|plan| plan.digest.as_str());
        match (&self.known.migration.spec.approved_plan, stands) {
            (Some(approved), Some(stands)) if approved != stands => {
                let what = format!("the current plan, {stands}, is not the approved one");
                Err(Failure::configuration(what).hint(REVIEW))
            }
            _ => Ok(()),
        }
    }

    /// Keeps the status. The directory must be this process's.
    ///
    /// # Errors
    /// Those of the state directory.
    pub fn keep(&self) -> Result<()> {
        self.state.save(&self.record)
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
        self.hand_over(false, keep, sink).await
    }

    /// As [`Self::feed`]; with `only_exceptions`, ledgers in which everything arrived as it was are not read through.
    async fn hand_over(
        &self,
        only_exceptions: bool,
        keep: &(dyn Fn(&MessageRow) -> bool + Sync),
        sink: &mut dyn MessageSink,
    ) -> Result<BTreeMap<Address, Failure>> {
        let mut unread = BTreeMap::new();
        for planned in self.known.mailboxes() {
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
                let page = match after {
                    0 if only_exceptions => first_page_with_exceptions(&*ledger).await,
                    _ => ledger.page(after, PAGE).await,
                };
                let page = match page {
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
        let mut exceptions = Exceptions::default();
        let is_exception = |row: &MessageRow| {
            row.found.is_some() || !matches!(row.verdict.word(), "Delivered" | "Shown" | "Pending")
        };
        let unread = self.hand_over(true, &is_exception, &mut Named(&mut exceptions)).await?;
        let mut report = self.known.report(exceptions, now)?;
        for row in &mut report.mailboxes {
            if let Some(failure) = unread.get(&row.source) {
                "Failed".clone_into(&mut row.phase);
                row.failure.get_or_insert(failure.into());
            }
        }
        Ok(report)
    }
}

/// Whether a status was published while something was going on.
pub fn is_unsettled(status: &MailMigrationStatus) -> bool {
    status.conditions.holds(Type::Reconciling)
}

/// The first page of a ledger; nothing when all that it knows arrived as it was or is still to come. Counting is cheaper than
/// reading, and most ledgers are like that.
async fn first_page_with_exceptions(ledger: &dyn Ledger) -> Result<Vec<Row>> {
    let counts = ledger.counts().await?;
    if counts.excluded + counts.failed == 0 && ledger.count_discrepancies().await?.total() == 0 {
        return Ok(Vec::new());
    }
    ledger.page(0, PAGE).await
}

struct Named<'a>(&'a mut Exceptions);

impl MessageSink for Named<'_> {
    fn row(&mut self, row: &MessageRow) -> Result<()> {
        self.0.push(row);
        Ok(())
    }
}

/// Whether a verification no longer found a message at the destination that the source still lists.
pub fn is_missing(row: &Row) -> bool {
    !row.gone && row.verdict.is_delivered() && row.refused.code == Some(FailureCode::ArrivalMissing)
}

/// The report's row for a message of a ledger.
pub fn message_row(mailbox: &Address, row: Row) -> MessageRow {
    let found = match Found::of(row.refused.code) {
        Some(Found::Missing) if !is_missing(&row) => None,
        found => found.filter(|_| row.verdict.is_delivered()),
    };
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
        code: row.refused.code,
        found,
        subject: known.and_then(|k| k.subject),
    }
}

/// Nothing was run yet.
pub fn never_run(name: &str) -> Failure {
    Failure::configuration(format!("{name}: nothing is known of it in this state directory"))
        .hint("run it first: mailferry run -f … --state …")
}
