//! What a mailbox's ledger tells a person, whichever pass or verification it was told by: one place for passes, verifications and
//! commands that only look.

use crate::ledger::{Discrepancies, Ledger};
use crate::model::failure::Result;
use crate::model::finding::{Code, Finding};
use crate::model::progress::MessageCounts;
use crate::model::record::MailboxRecord;
use crate::model::text::counted;

/// The findings that are made here, so that newer ones take their place.
const CODES: [Code; 6] = [
    Code::MessagesQuarantined,
    Code::ArrivalsMissing,
    Code::ArrivalsChanged,
    Code::MessagesAltered,
    Code::ArrivalsRemoved,
    Code::ArrivalsDiffer,
];

/// The books of a mailbox as they stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Books {
    /// Messages by what became of them.
    pub counts: MessageCounts,
    /// Those of the copied that are not at the destination as they were at the source.
    pub discrepancies: Discrepancies,
    /// Copied ones whose place at the destination nobody knows, the missing among them.
    pub unbound: u64,
}

impl Books {
    /// Reads them.
    ///
    /// # Errors
    /// Those of the ledger.
    pub async fn read(ledger: &dyn Ledger) -> Result<Self> {
        Ok(Self {
            counts: ledger.counts().await?,
            discrepancies: ledger.count_discrepancies().await?,
            unbound: ledger.count_unbound().await?,
        })
    }

    /// What they tell a person.
    pub fn findings(&self) -> Vec<Finding> {
        let Discrepancies { altered, changed, missing } = self.discrepancies;
        let mut findings = Vec::new();
        let mut tell = |code, n: u64, words: &dyn Fn(u64) -> String| {
            if n > 0 {
                findings.push(Finding::of_domain(code, words(n)));
            }
        };
        let messages = |n| counted(n, "message", "messages");
        let (are, were) =
            (|n| counted(n, "message is", "messages are"), |n| counted(n, "message was", "messages were"));
        tell(Code::MessagesQuarantined, self.counts.failed, &|n| {
            format!("{} could not be carried; the report names them.", messages(n))
        });
        tell(Code::ArrivalsMissing, missing, &|n| {
            format!(
                "{} no longer at the destination, as a verification found; the report names them.",
                are(n)
            )
        });
        tell(Code::ArrivalsChanged, changed, &|n| {
            let words = were(n);
            format!("{words} found changed at the destination afterwards; the report names them.")
        });
        tell(Code::MessagesAltered, altered.saturating_sub(changed), &|n| {
            format!("The destination changed {} while storing; the report names them.", messages(n))
        });
        tell(Code::ArrivalsRemoved, self.unbound.saturating_sub(missing), &|n| {
            let words = were(n);
            format!("{words} carried and removed at the destination since; nothing of it is sent again.")
        });
        findings
    }
}

/// Brings what is remembered of a mailbox in step with its ledger, and with what its last verification found that no ledger
/// holds.
///
/// # Errors
/// Those of the ledger.
pub async fn tell_found(record: &mut MailboxRecord, ledger: &dyn Ledger) -> Result<()> {
    let books = Books::read(ledger).await?;
    record.counts = books.counts;
    let Discrepancies { altered, changed, missing } = books.discrepancies;
    (record.altered, record.changed, record.missing) = (altered, changed, missing);
    record.findings.retain(|finding| !CODES.contains(&finding.code));
    record.findings.extend(books.findings());
    record.findings.extend(find_differing(record));
    Ok(())
}

fn find_differing(record: &MailboxRecord) -> Option<Finding> {
    let differing = record.last_verification()?.differing;
    let words = counted(differing, "message or folder differs", "messages or folders differ");
    let text = format!(
        "{words} in flags, date or place from the source, as a verification found; the report names them."
    );
    (differing > 0).then(|| Finding::of_domain(Code::ArrivalsDiffer, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(books: Books) -> Vec<String> {
        books.findings().into_iter().map(|found| format!("{}: {}", found.code, found.message)).collect()
    }

    #[test]
    fn each_message_is_told_by_one_finding() {
        assert_eq!(told(Books::default()), [""; 0]);
        let books = Books {
            counts: MessageCounts { source: 9, copied: 8, failed: 1, ..MessageCounts::default() },
            discrepancies: Discrepancies { altered: 3, changed: 1, missing: 2 },
            unbound: 3,
        };
        assert_eq!(
            told(books),
            [
                "MessagesQuarantined: 1 message could not be carried; the report names them.",
                "ArrivalsMissing: 2 messages are no longer at the destination, as a verification found; the report names them.",
                "ArrivalsChanged: 1 message was found changed at the destination afterwards; the report names them.",
                "MessagesAltered: The destination changed 2 messages while storing; the report names them.",
                "ArrivalsRemoved: 1 message was carried and removed at the destination since; nothing of it is sent again.",
            ]
        );
    }
}
