//! Findings that a mailbox's ledger gives a person, whichever pass or verification wrote it: one place for passes,
//! verifications and commands that only look.

use std::collections::BTreeSet;

use crate::ledger::{Discrepancies, Ledger, Tallies};
use crate::model::failure::Result;
use crate::model::finding::{Code, Finding};
use crate::model::progress::MessageCounts;
use crate::model::record::MailboxRecord;
use crate::model::text::counted;

/// The findings that are made here, so that newer ones take their place.
const CODES: [Code; 8] = [
    Code::MessagesQuarantined,
    Code::ArrivalsMissing,
    Code::ArrivalsChanged,
    Code::MessagesAltered,
    Code::MessagesCutShort,
    Code::MessagesTruncated,
    Code::ArrivalsRemoved,
    Code::ArrivalsDiffer,
];

/// Those that are made of what is counted in all passes.
const COUNTED: [Code; 5] = [
    Code::ReadReceiptsAsked,
    Code::MarkedForRemoval,
    Code::UniqueIdsChange,
    Code::ReadAtSource,
    Code::KeywordsNotKept,
];
/// The most keywords that a finding names.
const KEYWORDS_NAMED: usize = 20;

/// The books of a mailbox as they stand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Books {
    /// Messages by what became of them.
    pub counts: MessageCounts,
    /// The bytes of those that no rule leaves out.
    pub bytes: u64,
    /// Those of the copied that are not at the destination as they were at the source.
    pub discrepancies: Discrepancies,
    /// Copied ones whose place at the destination nobody knows, the missing among them.
    pub unbound: u64,
    /// The counts of all passes; `None` where the ledger counts nothing yet.
    pub tallies: Option<Tallies>,
}

impl Books {
    /// Reads them.
    ///
    /// # Errors
    /// Those of the ledger.
    pub async fn read(ledger: &dyn Ledger) -> Result<Self> {
        Ok(Self {
            counts: ledger.counts().await?,
            bytes: ledger.bytes_wanted().await?,
            discrepancies: ledger.count_discrepancies().await?,
            unbound: ledger.count_unbound().await?,
            tallies: ledger.tallies().await?,
        })
    }

    /// The findings that they give a person.
    pub fn findings(&self) -> Vec<Finding> {
        let Discrepancies { altered, changed, truncated, missing, short } = self.discrepancies;
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
            format!("{} no longer at the destination; the report names them.", are(n))
        });
        tell(Code::ArrivalsChanged, changed, &|n| {
            let words = were(n);
            format!("{words} found changed at the destination by a verification; the report names them.")
        });
        tell(Code::MessagesTruncated, truncated, &|n| {
            format!("The destination stored only a part of {}; the report names them.", messages(n))
        });
        tell(Code::MessagesAltered, altered.saturating_sub(changed + truncated), &|n| {
            format!("The destination changed {} while storing; the report names them.", messages(n))
        });
        tell(Code::MessagesCutShort, short, &|n| {
            format!(
                "{} shorter from the source than it lists them; the report names them.",
                counted(n, "message came", "messages came")
            )
        });
        tell(Code::ArrivalsRemoved, self.unbound.saturating_sub(missing), &|n| {
            let words = were(n);
            format!("{words} carried and removed at the destination since; nothing of it is sent again.")
        });
        if let Some(tallies) = &self.tallies {
            findings.extend(find_receipts(tallies.receipts_open));
            findings.extend(find_marked(tallies.marked));
            findings.extend(find_changed_ids(tallies.ids_changed));
            findings.extend(find_read(tallies.read_at_source));
            findings.extend(find_keywords(&tallies.keywords_lost));
        }
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
    (record.counts, record.bytes) = (books.counts, books.bytes);
    let Discrepancies { altered, changed, truncated, missing, .. } = books.discrepancies;
    (record.altered, record.changed, record.missing) = (altered, changed, missing);
    record.truncated = truncated;
    let mut replaced = CODES.to_vec();
    if let Some(tallies) = &books.tallies {
        record.bytes_sent = tallies.bytes_sent;
        record.sizes_checked = tallies.sizes_checked;
        record.digests_checked = tallies.digests_checked;
        record.flags_updated = tallies.flags_updated;
        replaced.extend(COUNTED);
    }
    record.findings.retain(|finding| !replaced.contains(&finding.code));
    record.findings.extend(books.findings());
    record.findings.extend(find_differing(record));
    Ok(())
}

/// The finding about a mailbox whose messages had been carried by a ledger that is not there, or is a new one.
pub fn find_lost_ledger(copied: u64) -> Finding {
    let words = counted(copied, "message that was carried", "messages that were carried");
    Finding::of_domain(Code::LedgerLost, format!("The ledger of {words} is lost."))
}

/// Lets the ledger go on from what was counted before ledgers counted anything.
///
/// # Errors
/// Those of the ledger.
pub async fn take_over_counts(record: &MailboxRecord, ledger: &dyn Ledger) -> Result<()> {
    if ledger.tallies().await?.is_some() {
        return Ok(());
    }
    let before = Tallies {
        bytes_sent: record.bytes_sent,
        sizes_checked: record.sizes_checked,
        digests_checked: record.digests_checked,
        flags_updated: record.flags_updated,
        ..Tallies::default()
    };
    if before.is_none() { Ok(()) } else { ledger.settle_counting(&[], None, &before).await }
}

/// The finding about messages that their user has marked for removal.
fn find_marked(marked: u64) -> Option<Finding> {
    (marked > 0).then(|| {
        let words = counted(marked, "message is marked", "messages are marked");
        let text = format!("{words} as deleted at the source and arrived without the mark.");
        Finding::of_domain(Code::MarkedForRemoval, text)
    })
}

/// The finding about unique ids that did not last.
fn find_changed_ids(renamed: u64) -> Option<Finding> {
    (renamed > 0).then(|| {
        let words = counted(renamed, "message was", "messages were");
        let text = format!("Unique ids of the POP3 server do not last: {words} recognised by content.");
        Finding::of_domain(Code::UniqueIdsChange, text)
    })
}

/// The finding about messages that may count as read at the source now.
fn find_read(read: u64) -> Option<Finding> {
    (read > 0).then(|| {
        let words = counted(read, "message was", "messages were");
        let text = format!(
            "{words} read by RETR; some servers that offer the same mailbox by IMAP count them as read then."
        );
        Finding::of_domain(Code::ReadAtSource, text)
    })
}

/// The finding about receipts that may still be sent.
fn find_receipts(open: u64) -> Option<Finding> {
    (open > 0).then(|| {
        let text = format!(
            "{} for a read receipt, and the destination does not keep the mark that it was answered.",
            counted(open, "message asks", "messages ask")
        );
        Finding::of_domain(Code::ReadReceiptsAsked, text)
    })
}

/// The finding about keywords that are lost.
fn find_keywords(lost: &BTreeSet<String>) -> Option<Finding> {
    (!lost.is_empty()).then(|| {
        let named: Vec<&str> = lost.iter().take(KEYWORDS_NAMED).map(String::as_str).collect();
        let text = format!(
            "The destination does not keep {}: {}.",
            counted(lost.len() as u64, "keyword", "keywords"),
            named.join(", ")
        );
        Finding::of_domain(Code::KeywordsNotKept, text)
    })
}

fn find_differing(record: &MailboxRecord) -> Option<Finding> {
    let last = record.last_verification()?;
    let (messages, folders) = (last.differing_messages(), last.absent_folders);
    let differing = || {
        format!(
            "{} in flags or date from the source",
            counted(messages, "message differs", "messages differ")
        )
    };
    let absent = || format!("{} not at the destination", counted(folders, "folder is", "folders are"));
    let clauses = match (messages, folders) {
        (0, 0) => return None,
        (_, 0) => differing(),
        (0, _) => absent(),
        _ => format!("{}, and {}", differing(), absent()),
    };
    let text = format!("{clauses}, as a verification found; the report names them.");
    Some(Finding::of_domain(Code::ArrivalsDiffer, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(books: &Books) -> Vec<String> {
        books.findings().into_iter().map(|found| format!("{}: {}", found.code, found.message)).collect()
    }

    #[test]
    fn each_message_is_told_by_one_finding() {
        assert_eq!(told(&Books::default()), [""; 0]);
        let books = Books {
            bytes: 0,
            counts: MessageCounts { source: 9, copied: 8, failed: 1, ..MessageCounts::default() },
            discrepancies: Discrepancies { altered: 4, changed: 1, truncated: 1, missing: 2, short: 1 },
            unbound: 3,
            tallies: Some(Tallies {
                marked: 2,
                keywords_lost: BTreeSet::from(["Later".to_owned()]),
                ..Tallies::default()
            }),
        };
        assert_eq!(
            told(&books),
            [
                "MessagesQuarantined: 1 message could not be carried; the report names them.",
                "ArrivalsMissing: 2 messages are no longer at the destination; the report names them.",
                "ArrivalsChanged: 1 message was found changed at the destination by a verification; the report names them.",
                "MessagesTruncated: The destination stored only a part of 1 message; the report names them.",
                "MessagesAltered: The destination changed 2 messages while storing; the report names them.",
                "MessagesCutShort: 1 message came shorter from the source than it lists them; the report names them.",
                "ArrivalsRemoved: 1 message was carried and removed at the destination since; nothing of it is sent again.",
                "MarkedForRemoval: 2 messages are marked as deleted at the source and arrived without the mark.",
                "KeywordsNotKept: The destination does not keep 1 keyword: Later.",
            ]
        );
    }
}
