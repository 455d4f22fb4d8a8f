//! The messages of a mailbox that did not arrive as they were: named for the report, the worst first.

use crate::cluster::results::{NAMED_MAX, NamedMessage};
use crate::ledger::{Discrepancies, Ledger, Row};
use crate::local::reporting::{is_missing, message_row};
use crate::model::address::Address;
use crate::model::failure::Result;
use crate::model::message::Verdict;

/// Rows of a ledger read at once.
const PAGE: usize = 2_000;

/// Names the messages; at most [`NAMED_MAX`]. The second value counts those beyond.
///
/// # Errors
/// Those of the ledger.
pub(super) async fn name_messages(
    ledger: &dyn Ledger,
    mailbox: &Address,
) -> Result<(Vec<NamedMessage>, u64)> {
    let (counts, Discrepancies { altered, missing, .. }) =
        (ledger.counts().await?, ledger.count_discrepancies().await?);
    // First messages that did not arrive, then what is no longer there, then what arrived changed, then what was not wanted: by kind, how many there are.
    let kinds = [counts.failed, missing, altered, counts.excluded];
    let mut found: [Vec<Row>; 4] = Default::default();
    let is_enough = |found: &[Vec<Row>; 4]| {
        let mut room = NAMED_MAX as u64;
        found.iter().zip(kinds).all(|(rows, wanted)| {
            let take = wanted.min(room);
            room -= take;
            rows.len() as u64 >= take
        })
    };
    let mut after = 0;
    while !is_enough(&found) {
        let page = ledger.page(after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.id;
        for row in page {
            let kind = match row.verdict {
                Verdict::Quarantined(_) => 0,
                _ if is_missing(&row) => 1,
                Verdict::DeliveredAltered(_) => 2,
                Verdict::Excluded(_) => 3,
                Verdict::Delivered | Verdict::Shown | Verdict::Pending => continue,
            };
            if found[kind].len() < NAMED_MAX {
                found[kind].push(row);
            }
        }
    }
    let rows = found.into_iter().flatten().take(NAMED_MAX);
    let named: Vec<NamedMessage> = rows.map(|row| message_row(mailbox, row).into()).collect();
    let omitted = kinds.iter().sum::<u64>().saturating_sub(named.len() as u64);
    Ok((named, omitted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::sqlite::SqliteStore;
    use crate::ledger::{NewRow, Refused, Settled, Store};
    use crate::model::folder::FolderPath;
    use crate::model::message::{Epoch, Flags, ItemId, Locator};
    use crate::model::protocol::Protocol;

    #[tokio::test]
    async fn the_worst_are_named_wherever_they_stand_and_the_rest_is_counted() {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::new(directory.path(), directory.path().join("logins.sqlite"));
        let ledger = store.claim("anna").await.unwrap();
        let row = |uid: u32| NewRow {
            locator: Locator {
                protocol: Protocol::Imap,
                folder: FolderPath::inbox(),
                epoch: Epoch::from(1),
                id: ItemId::Uid(uid),
            },
            size: 1,
            date: None,
            flags: Flags::default(),
            verdict: if uid.is_multiple_of(10) { Verdict::Pending } else { Verdict::Excluded("old".into()) },
        };
        let rows: Vec<NewRow> = (1..=6_000).map(row).collect();
        let ids = ledger.insert(&rows).await.unwrap();
        let settle = |at: usize, verdict| Settled {
            id: ids[at],
            known: None,
            size: None,
            date: None,
            flags: None,
            destination: None,
            verdict,
            stored: None,
            replaces: None,
            refused: Refused::default(),
        };
        let settled = [
            settle(5_989, Verdict::DeliveredAltered("cut".into())),
            settle(5_999, Verdict::Quarantined("broken".into())),
            settle(2_999, Verdict::Delivered),
        ];
        ledger.settle(&settled, None).await.unwrap();
        let anna: Address = "anna@a.test".parse().unwrap();
        let (named, omitted) = name_messages(&*ledger, &anna).await.unwrap();
        assert_eq!(named.len() as u64 + omitted, 5_400 + 2);
        let words: Vec<_> = named.into_iter().map(|m| m.row(anna.clone()).verdict.word()).collect();
        assert_eq!(
            (words.len(), &words[..3]),
            (NAMED_MAX, &["Quarantined", "DeliveredAltered", "Excluded"][..])
        );
    }
}
