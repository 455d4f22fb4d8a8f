//! The knowledge of a pod about its mailboxes when it begins: the status of each is up to date and cut short, its document is whole and
//! as of the end of an attempt.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, stream};
use kube::Api;

use super::Pod;
use super::patience::persist;
use crate::api::MailboxMigration;
use crate::cluster::refused;
use crate::cluster::results::{MailboxDocument, read_mailboxes};
use crate::cluster::work::Item;
use crate::model::evidence::TlsFacts;
use crate::model::failure::Result;
use crate::model::record::MailboxRecord;

/// Mailboxes whose objects are read at a time.
const READ_AT_ONCE: usize = 8;

/// A mailbox of a slice.
#[derive(Debug, Clone)]
pub(super) struct Mailbox {
    /// Its entry in the work list.
    pub(super) item: Item,
    /// Its record.
    pub(super) record: MailboxRecord,
    /// The TLS facts of the destination, as its document has them.
    pub(super) destination_tls: Option<TlsFacts>,
}

/// Reads the record of each mailbox; those without an object are not wanted any more. Documents are read where a verification
/// left something in them that a status has no room for, and where `whole` records are wanted.
///
/// # Errors
/// Those of the API server that time does not mend.
pub(super) async fn read_records(pod: &Pod, slice: &[Item], whole: bool) -> Result<Vec<Mailbox>> {
    let api: Api<MailboxMigration> = Api::namespaced(pod.client.clone(), &pod.namespace);
    let read = |item: Item| {
        let api = api.clone();
        async move {
            let call = || async {
                api.get_opt(&item.object).await.map_err(|error| {
                    refused(&format!("MailboxMigration {} cannot be read", item.object), &error)
                })
            };
            let object = persist(&item.object, call).await?;
            if object.is_none() {
                tracing::warn!(mailbox = %item.mailbox.source, object = item.object, "it has no object any more and is left out");
            }
            Ok(object.map(|object| (item, object.status.unwrap_or_default().record())))
        }
    };
    let read: Vec<Result<Option<_>>> =
        stream::iter(slice.to_vec()).map(read).buffered(READ_AT_ONCE).collect().await;
    let told: Vec<(Item, MailboxRecord)> =
        read.into_iter().filter_map(Result::transpose).collect::<Result<_>>()?;
    let wanted = told.iter().filter(|(_, record)| whole || record.verification.is_some());
    let groups: BTreeSet<String> = wanted.map(|(item, _)| item.results.clone()).collect();
    let mut documents = read_documents(pod, groups).await?;
    let complete = |(item, record): (Item, MailboxRecord)| {
        let (record, destination_tls) = complete(record, documents.remove(&item.object));
        Mailbox { item, record, destination_tls }
    };
    Ok(told.into_iter().map(complete).collect())
}

/// The documents of these groups, by the names of the objects. One that is damaged is written anew.
async fn read_documents(pod: &Pod, groups: BTreeSet<String>) -> Result<BTreeMap<String, MailboxDocument>> {
    let Some(first) = groups.first().cloned() else { return Ok(BTreeMap::new()) };
    let read = || read_mailboxes(&pod.client, &pod.namespace, groups.clone());
    let found = persist(&first, read).await?;
    let readable = |(name, document): (String, Result<MailboxDocument>)| match document {
        Ok(document) => Some((name, document)),
        Err(failure) => {
            tracing::warn!(object = name, failure = %failure.sentence(), "its document is not read");
            None
        }
    };
    Ok(found.into_iter().filter_map(readable).collect())
}

/// The record of a status, with what only the document of the mailbox has.
fn complete(told: MailboxRecord, document: Option<MailboxDocument>) -> (MailboxRecord, Option<TlsFacts>) {
    let Some(MailboxDocument { record: kept, destination_tls, .. }) = document else { return (told, None) };
    let is_same = |a: &MailboxRecord, b: &MailboxRecord| {
        (a.pass, a.attempts, a.ended, &a.by) == (b.pass, b.attempts, b.ended, &b.by)
    };
    let record = if is_same(&told, &kept) {
        MailboxRecord {
            verification: kept.verification.or(told.verification),
            verification_number: told.verification_number,
            unverified: told.unverified,
            failure: told.failure,
            ..kept
        }
    } else {
        MailboxRecord {
            verification: kept.verification.or(told.verification),
            rechecked: kept.rechecked,
            differences: kept.differences,
            ..told
        }
    };
    (record, destination_tls)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::model::record::{Depth, Verification};

    #[test]
    fn a_deeper_verification_than_the_last_is_not_forgotten_between_pods() {
        let shown =
            |depth, checked| Verification { depth, checked, ..Verification::begun(Timestamp::UNIX_EPOCH) };
        let whole = MailboxRecord {
            pass: 1,
            attempts: 1,
            ended: Some(Timestamp::UNIX_EPOCH),
            folders: 7,
            verification: Some(shown(Depth::Full, 9)),
            rechecked: Some(shown(Depth::Sizes, 8)),
            verification_number: 2,
            ..MailboxRecord::default()
        };
        let document = || {
            Some(MailboxDocument {
                record: whole.clone(),
                destination_tls: None,
                named: Vec::new(),
                omitted: 0,
            })
        };
        // A status knows the last one alone, and no folders.
        let told = MailboxRecord {
            folders: 0,
            verification: whole.rechecked,
            rechecked: None,
            verification_number: 3,
            ..whole.clone()
        };
        let (same, _) = complete(told.clone(), document());
        assert_eq!(same, MailboxRecord { verification_number: 3, ..whole.clone() });
        let (later, _) = complete(MailboxRecord { pass: 2, ended: None, ..told.clone() }, document());
        assert_eq!((later.verification, later.rechecked), (whole.verification, whole.rechecked));
        assert_eq!((later.pass, later.folders), (2, 0));
        assert_eq!(complete(told.clone(), None).0, told);
    }
}
