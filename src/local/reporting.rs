//! Fills the report from the state directory: statuses, discovery documents, records and ledgers.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::clock::SystemClock;
use super::state::MigrationState;
use crate::api::MailMigration;
use crate::discovery::Clock;
use crate::ledger::{Ledger, Row, Store};
use crate::model::address::Address;
use crate::model::evidence::DomainDiscovery;
use crate::model::failure::{Failure, Result};
use crate::model::message::Locator;
use crate::model::record::MailboxRecord;
use crate::plan::mailboxes::PlannedMailbox;
use crate::plan::{DomainObserved, MailboxObserved, Observed};
use crate::report::message::{MessageDestination, MessageSink};
use crate::report::{Exceptions, MessageRow, Report};
use crate::reporting::Known;

/// Rows of a ledger read at once.
const PAGE: usize = 2_000;

/// A migration as the state directory knows it.
pub struct Remembered {
    /// What is known of it.
    pub known: Known,
    state: MigrationState,
    store: Arc<dyn Store>,
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
        migration.status = Some(record.status);
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
        let known = Known { migration, observed, destination_tls: record.destination_tls };
        Ok(Self { known, state, store })
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
        let is_exception =
            |row: &MessageRow| !matches!(row.verdict.word(), "Delivered" | "Shown" | "Pending");
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

/// The first page of a ledger; nothing when all that it knows arrived as it was or is still to come. Counting is cheaper than
/// reading, and most ledgers are like that.
async fn first_page_with_exceptions(ledger: &dyn Ledger) -> Result<Vec<Row>> {
    let counts = ledger.counts().await?;
    if counts.excluded + counts.failed == 0 && ledger.count_altered().await? == 0 {
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

/// The report's row for a message of a ledger.
pub fn message_row(mailbox: &Address, row: Row) -> MessageRow {
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

/// Nothing was run yet.
pub fn never_run(name: &str) -> Failure {
    Failure::configuration(format!("{name}: nothing is known of it in this state directory"))
        .hint("run it first: mailferry run -f … --state …")
}
