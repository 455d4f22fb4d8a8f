//! Exceptions, which did not arrive as they were: messages that could not be carried, that the destination changed, and that a rule
//! leaves out. Each is named; what is beyond the cap is counted, and the full list is the report of kind `messages`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde::Serialize;

use super::message::{Found, MessageRow};
use crate::model::failure::FailureCode;
use crate::model::message::Verdict;
use crate::model::text::{cut, printable};

/// The most messages of one verdict that are named; the others are counted.
pub const NAMED_MAX: usize = 1_000;

/// The most different reasons that are counted apart; the others are counted together under an empty reason.
const REASONS_MAX: usize = 50;

/// The messages of one verdict.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExceptionList {
    /// How many there are, named or not.
    pub total: u64,
    /// The first [`NAMED_MAX`] of them.
    pub named: Vec<NamedMessage>,
    /// How many there are for each reason, in the words of the first.
    pub reasons: BTreeMap<String, u64>,
    /// Of the total, those that discovery counted and no pass has listed yet.
    #[serde(skip_serializing_if = "is_zero")]
    pub foreseen: u64,
    /// The words for each reason.
    #[serde(skip)]
    words: BTreeMap<Reason, String>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The key by which the reasons of two messages are the same: a server words the same refusal anew for each.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Reason {
    /// A refusal that is one of the known things.
    Known(FailureCode),
    /// Words; of a server's without those that hold figures, such as the time that it took.
    Words(String),
}

impl Reason {
    fn of(row: &MessageRow) -> Self {
        let words = row.reason().unwrap_or_default();
        match (&row.verdict, row.code) {
            (Verdict::Quarantined(_), Some(code)) => Self::Known(code),
            (Verdict::Quarantined(_), None) => {
                let plain = words.split(' ').filter(|word| !word.contains(|c: char| c.is_ascii_digit()));
                Self::Words(plain.collect::<Vec<_>>().join(" "))
            }
            _ => Self::Words(words.to_owned()),
        }
    }
}

/// A message that a person should be able to recognise.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NamedMessage {
    /// The message.
    #[serde(flatten)]
    pub message: MessageRow,
    /// Its subject, printable and cut.
    pub subject: Option<String>,
}

impl ExceptionList {
    fn push(&mut self, row: &MessageRow) {
        self.total += 1;
        let words = self.words_for(row);
        *self.reasons.entry(words).or_default() += 1;
        if self.named.len() < NAMED_MAX {
            let subject = row.subject.as_deref().map(|subject| cut(&printable(subject), 300));
            // The hostile length of a subject is not kept a thousand times over.
            self.named.push(NamedMessage {
                message: MessageRow { subject: subject.clone(), ..row.clone() },
                subject,
            });
        }
    }

    /// The words of the reason of a message, which it has in common with others.
    fn words_for(&mut self, row: &MessageRow) -> String {
        let room = self.words.len() < REASONS_MAX;
        match self.words.entry(Reason::of(row)) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(new) if room => new.insert(cut(row.reason().unwrap_or_default(), 200)).clone(),
            Entry::Vacant(_) => String::new(),
        }
    }

    /// Whether a message of the list is there for a reason of [`Self::reasons`].
    pub fn is_for(&self, row: &MessageRow, reason: &str) -> bool {
        self.words.get(&Reason::of(row)).is_some_and(|words| words == reason)
    }

    /// Counts up to `total`, when so many are known by their number; their reasons are not.
    pub fn count_up_to(&mut self, total: u64) {
        let more = total.saturating_sub(self.total);
        if more > 0 {
            self.total = total;
            *self.reasons.entry(String::new()).or_default() += more;
        }
    }

    /// Counts messages that discovery has counted and no pass has listed yet.
    pub fn foresee(&mut self, messages: u64) {
        self.foreseen += messages;
        self.total += messages;
    }

    /// How many were listed, and are counted and not named.
    pub fn unnamed(&self) -> u64 {
        self.total.saturating_sub(self.named.len() as u64 + self.foreseen)
    }
}

/// Everything that did not arrive as it was.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Exceptions {
    /// Messages that could not be carried.
    pub quarantined: ExceptionList,
    /// Messages that arrived and are no longer at the destination.
    pub missing: ExceptionList,
    /// Messages that the destination changed while it stored them.
    pub altered: ExceptionList,
    /// Messages of which the destination stored only a part.
    pub truncated: ExceptionList,
    /// Messages that a verification found with other bytes than they had when they arrived.
    pub changed: ExceptionList,
    /// Messages of which the source handed out less than it lists.
    pub cut_short: ExceptionList,
    /// Messages that a rule of the manifest leaves out.
    pub excluded: ExceptionList,
    /// Whether the ledger alone names those beyond, and no report does.
    #[serde(skip)]
    pub only_in_ledger: bool,
}

impl Exceptions {
    /// Takes a message into account; those that arrived unchanged or are still to come are not exceptions.
    pub fn push(&mut self, row: &MessageRow) {
        if row.found == Some(Found::Missing) {
            // However it was stored, it is not there any more.
            self.missing.push(row);
            return;
        }
        match (&row.verdict, row.found) {
            (Verdict::Quarantined(_), _) => self.quarantined.push(row),
            (Verdict::DeliveredAltered(_), Some(Found::Changed)) => self.changed.push(row),
            (Verdict::DeliveredAltered(_), _) if row.code == Some(FailureCode::CameShort) => {
                self.cut_short.push(row);
            }
            (Verdict::DeliveredAltered(_), _) if row.code == Some(FailureCode::StoredShort) => {
                self.truncated.push(row);
            }
            (Verdict::DeliveredAltered(_), _) => self.altered.push(row),
            (Verdict::Excluded(_), _) => self.excluded.push(row),
            (Verdict::Delivered | Verdict::Shown | Verdict::Pending, _) => {}
        }
    }

    fn lists(&self) -> [&ExceptionList; 7] {
        let Self { quarantined, missing, truncated, cut_short, changed, altered, excluded, .. } = self;
        [quarantined, missing, truncated, cut_short, changed, altered, excluded]
    }

    /// All that are named, the gravest first.
    pub fn named(&self) -> impl Iterator<Item = &NamedMessage> {
        self.lists().into_iter().flat_map(|list| &list.named)
    }

    /// How many are counted and not named.
    pub fn unnamed(&self) -> u64 {
        self.lists().into_iter().map(ExceptionList::unnamed).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    #[test]
    fn beyond_the_cap_messages_are_counted_and_not_kept() {
        let mut exceptions = Exceptions::default();
        let mut row = fixture::message(7, Verdict::Quarantined("too large".into()));
        row.subject = Some("long ".repeat(20_000));
        for _ in 0..1_500 {
            exceptions.push(&row);
        }
        exceptions.push(&fixture::message(8, Verdict::Delivered));
        let list = &exceptions.quarantined;
        assert_eq!((list.total, list.named.len(), list.unnamed()), (1_500, 1_000, 500));
        assert_eq!(list.reasons["too large"], 1_500);
        assert!(list.named.iter().all(|named| named.message.subject.as_ref().unwrap().len() <= 300));
        assert_eq!(exceptions.named().count(), 1_000);
    }

    #[test]
    fn those_that_are_known_by_their_number_alone_are_counted_without_a_reason() {
        let mut list = ExceptionList::default();
        list.push(&fixture::message(1, Verdict::Quarantined("too large".into())));
        list.count_up_to(1);
        assert_eq!((list.unnamed(), list.reasons.len()), (0, 1));
        list.count_up_to(40);
        assert_eq!((list.total, list.unnamed(), list.reasons[""]), (40, 39, 39));
    }

    #[test]
    fn a_server_with_a_new_reason_for_every_message_does_not_fill_the_report() {
        let mut exceptions = Exceptions::default();
        for n in 0..500 {
            // Words that hold figures make no other reason; these hold none.
            let ticket: String = n.to_string().bytes().map(|digit| char::from(digit - b'0' + b'a')).collect();
            exceptions.push(&fixture::message(n, Verdict::Quarantined(format!("refused: ticket {ticket}"))));
        }
        let reasons = &exceptions.quarantined.reasons;
        assert_eq!((reasons.len(), reasons.values().sum::<u64>()), (REASONS_MAX + 1, 500));
    }
}
