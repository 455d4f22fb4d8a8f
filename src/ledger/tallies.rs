//! Counts of a mailbox over all passes that are not in its rows: how arrivals were checked, what was sent, and what the
//! destination did not keep. It is kept in the ledger's facts, in the same step as the rows that it is about, so that a process
//! that is killed loses nothing of it and counts nothing twice.

use std::collections::{BTreeMap, BTreeSet};

/// The fact that lists the keywords that the destination did not keep.
pub const KEYWORDS_LOST: &str = "keywordsLost";
/// The fact that there is once anything was counted; it counts the bytes that were sent.
pub const BYTES_SENT: &str = "bytesSent";

/// Counts of all passes, or what is to be added to them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tallies {
    /// Bytes of the messages that the destination took.
    pub bytes_sent: u64,
    /// Arrivals whose size was compared.
    pub sizes_checked: u64,
    /// Arrivals that were read back and compared by digest.
    pub digests_checked: u64,
    /// Messages whose flags were brought up to date.
    pub flags_updated: u64,
    /// Messages for which a read receipt may still be sent.
    pub receipts_open: u64,
    /// Messages that were carried without the mark of removal that they have at the source.
    pub marked: u64,
    /// Messages of a maildrop that were recognised because their unique ids did not last.
    pub ids_changed: u64,
    /// Messages that were read in a way after which the source may count them as read.
    pub read_at_source: u64,
    /// Keywords that the destination did not keep.
    pub keywords_lost: BTreeSet<String>,
}

impl Tallies {
    /// Each number, with the fact that holds it: the one list of them.
    fn fields(&mut self) -> [(&'static str, &mut u64); 8] {
        [
            (BYTES_SENT, &mut self.bytes_sent),
            ("sizesChecked", &mut self.sizes_checked),
            ("digestsChecked", &mut self.digests_checked),
            ("flagsUpdated", &mut self.flags_updated),
            ("receiptsOpen", &mut self.receipts_open),
            ("markedForRemoval", &mut self.marked),
            ("uniqueIdsChanged", &mut self.ids_changed),
            ("readAtSource", &mut self.read_at_source),
        ]
    }

    /// The facts that hold the numbers, each with its number.
    fn numbers(&self) -> [(&'static str, u64); 8] {
        self.clone().fields().map(|(name, number)| (name, *number))
    }

    /// The additions to each fact: nothing at all, or the bytes at least, whose fact says that everything is counted here.
    pub fn additions(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let any = !self.is_none();
        let counts = move |(name, number): &(&str, u64)| *number > 0 || any && *name == BYTES_SENT;
        self.numbers().into_iter().filter(counts)
    }

    /// The facts that are about arrivals at a destination, and so about none once it is another one.
    pub fn of_arrivals() -> impl Iterator<Item = &'static str> {
        let lasting = ["flagsUpdated", "uniqueIdsChanged", "readAtSource"];
        Self::facts().into_iter().filter(move |name| !lasting.contains(name))
    }

    /// The keywords as the fact lists them.
    pub fn keywords(&self) -> String {
        self.keywords_lost.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
    }

    /// Whether there is nothing to add.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// The names of all facts that are read.
    pub fn facts() -> Vec<&'static str> {
        Self::default().numbers().into_iter().map(|(name, _)| name).chain([KEYWORDS_LOST]).collect()
    }

    /// Reads the facts; `None` where the ledger is older than they are, or nothing was counted yet.
    pub fn from_facts(facts: &BTreeMap<String, String>) -> Option<Self> {
        let mut tallies = Self::default();
        for (name, number) in tallies.fields() {
            *number = facts.get(name).and_then(|value| value.parse().ok()).unwrap_or_default();
        }
        let keywords = facts.get(KEYWORDS_LOST).map(String::as_str).unwrap_or_default();
        tallies.keywords_lost = keywords.split_ascii_whitespace().map(str::to_owned).collect();
        facts.contains_key(BYTES_SENT).then_some(tallies)
    }
}
