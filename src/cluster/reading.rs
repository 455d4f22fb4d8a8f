//! Looks into a cluster: a migration, its mailboxes, and the results that workers left, as `mailferry status` and
//! `mailferry report` show them. Everything is read from the API server; no pod is asked, and no ledger.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;
use kube::Api;
use kube::api::ListParams;

use super::access::Place;
use super::objects::{LABEL_RESULTS, discovery_results, of_migration};
use super::results::{DiscoveryDocument, MailboxDocument, NAMED_MAX, read_discovery, read_mailboxes};
use crate::api::{MailMigration, MailboxMigration};
use crate::model::address::Address;
use crate::model::failure::{Failure, Result};
use crate::model::record::MailboxRecord;
use crate::model::text::{count, printable};
use crate::plan::{DomainObserved, MailboxObserved, Observed};
use crate::report::message::MessageSink;
use crate::report::{Exceptions, MessageRow, Report, Totals};
use crate::reporting::Known;

/// Objects that are asked for at once.
const PAGE: u32 = 500;
/// Domains whose discovery is read at the same time.
const AT_ONCE: usize = 8;
/// The most ConfigMaps that what discovery of one domain saw can lie in; the first says how many there are.
const PARTS_MAX: usize = 1_000;

/// Reads a migration with its status.
///
/// # Errors
/// A failure that says what is missing: the migration, the kind, a right, the API server.
pub async fn read_migration(place: &Place, name: &str) -> Result<MailMigration> {
    let api: Api<MailMigration> = Api::namespaced(place.client.clone(), &place.namespace);
    let mut migration = match api.get(name).await {
        Ok(migration) => migration,
        Err(kube::Error::Api(status)) if status.code == 404 => {
            let known = status.details.is_some_and(|details| !details.name.is_empty());
            return Err(if known {
                Failure::configuration(format!(
                    "MailMigration \"{}\" is not in namespace {}",
                    printable(name),
                    place.namespace
                ))
                .hint("`kubectl get mailmigrations -A` lists those that there are; -n NAMESPACE chooses another")
            } else {
                Failure::configuration("this cluster knows no MailMigrations")
                    .hint("install the chart, or the definitions alone: mailferry crd | kubectl apply -f -")
            });
        }
        Err(error) => {
            return Err(place.refused(&format!("MailMigration {} cannot be read", printable(name)), &error));
        }
    };
    // The managers of fields are noise to a person; kubectl hides them as well.
    migration.metadata.managed_fields = None;
    Ok(migration)
}

/// A migration as the cluster knows it.
pub struct Reading {
    known: Known,
    mailboxes: BTreeMap<Address, Mailbox>,
    /// Domains of which discovery wrote nothing that can be read yet.
    unseen: Vec<String>,
    /// Results of mailboxes that cannot be read, in words.
    damaged: Vec<String>,
}

/// The cluster's knowledge of a mailbox beyond its record.
#[derive(Default)]
struct Mailbox {
    /// Its phase, as the operator says.
    phase: Option<String>,
    /// Messages that did not arrive as they were, as far as they are kept.
    named: Vec<MessageRow>,
}

impl Reading {
    /// Reads all that is known of a migration.
    ///
    /// # Errors
    /// As [`read_migration`], and a failure when nothing is known of it yet.
    pub async fn read(place: &Place, name: &str) -> Result<Self> {
        let migration = read_migration(place, name).await?;
        let status = migration.status.clone().unwrap_or_default();
        let pass = status.pass.map(|pass| pass.number).unwrap_or_default();
        let mut observed = Observed { pass, ..Observed::default() };
        let mut unseen = Vec::new();
        for (domain, document) in read_discoveries(place, &migration).await? {
            match document {
                Some(document) => drop(observed.domains.insert(domain, seen(document))),
                None => unseen.push(domain),
            }
        }
        if observed.domains.is_empty() {
            let ready = status.conditions.iter().find(|c| c.type_ == "Ready");
            let why = ready.map(|ready| format!(". {}", printable(&ready.message))).unwrap_or_default();
            return Err(Failure::configuration(format!("{name}: discovery has written nothing yet{why}"))
                .hint(format!(
                    "wait for it: kubectl wait mm/{name} -n {} --for=condition=Discovered --timeout=10m",
                    place.namespace
                )));
        }

        let objects = list_mailboxes(place, name).await?;
        let groups: BTreeSet<String> = objects
            .iter()
            .filter_map(|object| object.metadata.labels.as_ref()?.get(LABEL_RESULTS).cloned())
            .collect();
        let documents = read_mailboxes(&place.client, &place.namespace, groups).await;
        let mut documents = documents.map_err(|failure| place.explain(failure))?;
        let mut mailboxes = BTreeMap::new();
        let (mut tls, mut damaged) = (None, Vec::new());
        for object in objects {
            // The API server keeps what the operator wrote there; a text that is not an address was written by somebody
            // else.
            let Ok(source) = object.spec.source.parse::<Address>() else { continue };
            let document = documents.remove(object.metadata.name.as_deref().unwrap_or_default());
            let (result, facts, named) = match document {
                Some(Err(failure)) => {
                    damaged.push(failure.sentence());
                    (None, None, Vec::new())
                }
                Some(Ok(MailboxDocument { record, destination_tls, named, .. })) => {
                    (Some(record), destination_tls, named)
                }
                None => (None, None, Vec::new()),
            };
            let status = object.status.unwrap_or_default();
            if let Some(facts) = facts {
                let ended = result.as_ref().and_then(|r| r.ended);
                if tls.as_ref().is_none_or(|(before, _)| *before < ended) {
                    tls = Some((ended, facts));
                }
            }
            let record = latest(status.record(), result);
            observed
                .mailboxes
                .insert(source.clone(), MailboxObserved { record, ..MailboxObserved::default() });
            let named = named.into_iter().map(|message| message.row(source.clone())).collect();
            mailboxes.insert(source, Mailbox { phase: status.phase.map(|p| p.to_string()), named });
        }
        let known = Known { migration, observed, destination_tls: tls.map(|(_, facts)| facts) };
        Ok(Self { known, mailboxes, unseen, damaged })
    }

    /// All that is known, for whoever makes something else of it.
    pub fn into_known(self) -> Known {
        self.known
    }

    /// Fills the report.
    ///
    /// # Errors
    /// As [`Known::report`].
    pub fn report(&self, now: Timestamp) -> Result<Report> {
        let mut exceptions = Exceptions { only_in_ledger: true, ..Exceptions::default() };
        for row in self.rows() {
            exceptions.push(row);
        }
        let mut report = self.known.report(exceptions, now)?;
        for row in &mut report.mailboxes {
            if let Some(phase) = self.mailboxes.get(&row.source).and_then(|m| m.phase.as_ref()) {
                row.phase.clone_from(phase);
            }
        }
        // Those that are not named are known by their number.
        let Totals { messages, altered, changed, truncated, missing, .. } = report.totals();
        let exceptions = &mut report.exceptions;
        exceptions.quarantined.count_up_to(messages.failed);
        exceptions.missing.count_up_to(missing);
        exceptions.changed.count_up_to(changed);
        exceptions.truncated.count_up_to(truncated);
        exceptions.altered.count_up_to(altered.saturating_sub(changed + truncated));
        exceptions.excluded.count_up_to(messages.excluded);
        report.limits.extend(self.gaps());
        Ok(report)
    }

    /// Hands on the messages that are named in the cluster: those that did not arrive as they were.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn feed(&self, keep: &dyn Fn(&MessageRow) -> bool, sink: &mut dyn MessageSink) -> Result<()> {
        self.rows().filter(|row| keep(row)).try_for_each(|row| sink.row(row))
    }

    /// The part that [`Self::feed`] leaves out of a report's messages, in a sentence; `wanted` is the verdict that is asked for, if
    /// only one is.
    pub fn omission(&self, report: &Report, wanted: Option<&str>) -> Option<String> {
        let keep = |word: &str| wanted.is_none_or(|wanted| wanted.eq_ignore_ascii_case(word));
        let Totals { messages, altered, .. } = report.totals();
        let all: u64 = [
            ("Delivered", messages.copied.saturating_sub(altered)),
            ("DeliveredAltered", altered),
            ("Excluded", messages.excluded),
            ("Quarantined", messages.failed),
            ("Pending", messages.pending),
        ]
        .into_iter()
        .filter(|(word, _)| keep(word))
        .map(|(_, n)| n)
        .sum();
        let listed = self.rows().filter(|row| keep(row.verdict.word())).count() as u64;
        (all > listed).then(|| {
            format!(
                "{} of {} messages are not listed: a cluster names those that were excluded, altered or could not be \
                 carried, and at most {NAMED_MAX} of a mailbox. The ledger has every message; docs/ledger.md says how \
                 to ask it.",
                count(all - listed),
                count(all),
            )
        })
    }

    /// The gaps of the report, a sentence each.
    pub fn gaps(&self) -> impl Iterator<Item = String> {
        [self.unseen_note(), self.damaged_note()].into_iter().flatten()
    }

    /// Which domains are not in the report, in a sentence.
    fn unseen_note(&self) -> Option<String> {
        let domains = self.unseen.join(", ");
        (!domains.is_empty()).then(|| {
            format!("Discovery has not written yet what it saw of {domains}: it is not in this report.")
        })
    }

    /// Which results cannot be read, in a sentence.
    fn damaged_note(&self) -> Option<String> {
        let first = self.damaged.first()?;
        let others = match self.damaged.len() - 1 {
            0 => String::new(),
            others => format!(", and {} more", count(others as u64)),
        };
        Some(format!(
            "The result of a worker about a mailbox cannot be read: {first}{others}. Its counts are those of its status; the next \
             pass writes it anew."
        ))
    }

    fn rows(&self) -> impl Iterator<Item = &MessageRow> {
        self.known.mailboxes().filter_map(|m| self.mailboxes.get(&m.source)).flat_map(|m| &m.named)
    }
}

/// The results of discovery for each domain, in the order of the spec.
async fn read_discoveries(
    place: &Place,
    migration: &MailMigration,
) -> Result<Vec<(String, Option<DiscoveryDocument>)>> {
    let name = migration.metadata.name.as_deref().unwrap_or_default();
    let read = |domain: String| async move {
        let parts = discovery_results(name, &domain, PARTS_MAX);
        let document = read_discovery(&place.client, &place.namespace, &parts).await;
        document.map(|document| (domain, document)).map_err(|failure| place.explain(failure))
    };
    let domains: Vec<String> = migration.spec.domains.iter().map(|domain| domain.name.clone()).collect();
    stream::iter(domains).map(read).buffered(AT_ONCE).try_collect().await
}

fn seen(document: DiscoveryDocument) -> DomainObserved {
    DomainObserved {
        mailboxes: Some(document.mailboxes.map(Arc::from)),
        discovery: Some(document.discovery.into()),
        round: document.round,
        ..DomainObserved::default()
    }
}

async fn list_mailboxes(place: &Place, migration: &str) -> Result<Vec<MailboxMigration>> {
    let api: Api<MailboxMigration> = Api::namespaced(place.client.clone(), &place.namespace);
    let mut wanted = ListParams::default().labels(&of_migration(migration)).limit(PAGE);
    let mut found = Vec::new();
    loop {
        let page = api.list(&wanted).await.map_err(|e| {
            place.refused(&format!("the MailboxMigrations of {migration} cannot be listed"), &e)
        })?;
        found.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => wanted = wanted.continue_token(&token),
            None => return Ok(found),
        }
    }
}

/// The knowledge of a mailbox: its status tells how it goes now and is cut short, its result is whole and as of the end
/// of an attempt.
fn latest(status: MailboxRecord, result: Option<MailboxRecord>) -> MailboxRecord {
    let Some(result) = result else { return status };
    let progress = |record: &MailboxRecord| (record.pass, record.attempts, record.ended);
    // The operator speaks for a worker that died while it verified; nobody wrote a result then.
    let tried = (status.verification_number > result.verification_number)
        .then(|| (status.verification_number, status.unverified.clone()));
    let mut latest = match progress(&status).cmp(&progress(&result)) {
        // Written after the status was read.
        Ordering::Less => result,
        // The operator may hold a mailbox for a reason that no worker met.
        Ordering::Equal => MailboxRecord { failure: result.failure.or(status.failure), ..result },
        Ordering::Greater => MailboxRecord {
            findings: if status.ended.is_some() { status.findings } else { result.findings },
            folders: result.folders,
            sizes_checked: result.sizes_checked,
            digests_checked: result.digests_checked,
            verification: result.verification,
            rechecked: result.rechecked,
            differences: result.differences,
            ..status
        },
    };
    if let Some(tried) = tried {
        (latest.verification_number, latest.unverified) = tried;
    }
    latest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::failure::Class;
    use crate::model::finding::{Code, Finding};
    use crate::model::record::Verification;

    fn at(second: i64) -> Option<Timestamp> {
        Timestamp::from_second(1_700_000_000 + second).ok()
    }

    /// A record that says by `folders` that it is a result: a status does not have them.
    fn record(pass: u32, attempts: u32, ended: Option<Timestamp>, folders: u32) -> MailboxRecord {
        let findings = vec![Finding::about(Code::FolderRenamed, "A/B", format!("of {pass}, {attempts}"))];
        MailboxRecord { pass, attempts, ended, folders, findings, bytes_sent: 7, ..MailboxRecord::default() }
    }

    #[test]
    fn of_status_and_result_the_later_is_shown_and_nothing_that_only_one_of_them_has_is_lost() {
        let result = || Some(record(2, 1, at(9), 5));
        let found = |status: MailboxRecord| latest(status, result());
        let told = |pass, attempts, ended| record(pass, attempts, ended, 0);
        assert_eq!(latest(told(2, 1, at(9)), None), told(2, 1, at(9)));
        // The same attempt, also seen while it was under way, and one before it: the result says more.
        for status in [told(2, 1, at(9)), told(2, 1, None), told(1, 6, at(20)), told(0, 0, None)] {
            assert_eq!(found(status), result().unwrap());
        }
        // The next attempt and the next pass: the status says how it goes, the result what it cannot say.
        for status in [told(2, 2, None), told(3, 1, None)] {
            let seen = found(status.clone());
            assert_eq!((seen.pass, seen.attempts, seen.ended), (status.pass, status.attempts, None));
            assert_eq!((seen.folders, &seen.findings), (5, &result().unwrap().findings));
        }
        let ended = told(3, 1, at(30));
        assert_eq!(found(ended.clone()).findings, ended.findings);
    }

    #[test]
    fn a_verification_whose_worker_died_is_told_beside_the_result_of_the_one_before() {
        let shown = Verification { checked: 7, ..Verification::begun(at(5).unwrap()) };
        let result =
            MailboxRecord { verification_number: 1, verification: Some(shown), ..record(1, 1, at(9), 5) };
        let mut status = result.clone();
        assert_eq!(latest(status.clone(), Some(result.clone())), result);
        status.give_up_verification(2, Failure::new(Class::Internal, "the worker was killed"));
        let seen = latest(MailboxRecord { folders: 0, ..status }, Some(result));
        assert_eq!((seen.verification_number, seen.folders, seen.verification), (2, 5, Some(shown)));
        assert_eq!(seen.unverified.unwrap().what, "the worker was killed");
    }

    #[test]
    fn what_holds_a_mailbox_is_shown_although_its_worker_met_nothing() {
        let held = MailboxRecord {
            failure: Some(Failure::new(Class::Credentials, "was refused")),
            ..record(1, 1, at(9), 0)
        };
        assert_eq!(latest(held.clone(), Some(record(1, 1, at(9), 5))).failure, held.failure);
        assert_eq!(latest(held, Some(record(2, 1, at(10), 5))).failure, None, "that is over");
    }
}
