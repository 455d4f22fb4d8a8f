//! Flags that did not come with their messages. A server may say OK to an APPEND and drop a flag, or keep it for IMAP
//! alone; missing flags are stored afterwards, grouped, and looked at again. Flags that could not be proven because a
//! session ended in between are written down, so that the next pass proves them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::folder::FolderPass;
use super::pipeline::{Copied, Work};
use super::verify::Checked;
use crate::drivers::FolderState;
use crate::ledger::{Ledger, RowId};
use crate::model::failure::{Failure, Result};
use crate::model::folder::FolderPath;
use crate::model::message::{Flags, ItemId, Verdict};

/// The keyword of a message whose request for a receipt was answered (RFC 3503).
pub const RECEIPT_ANSWERED: &str = "$MDNSent";

/// The facts about a destination that it does not report by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Manners {
    /// `\Flagged` given with a message is seen by IMAP alone, and by everybody when it is stored afterwards.
    pub flags_afterwards: bool,
    /// It answers requests for read receipts unless [`RECEIPT_ANSWERED`] is set, and shows that keyword to users, so it is
    /// set where a receipt is asked for and nowhere else.
    pub sends_receipts: bool,
}

impl Manners {
    /// Exchange Online, as its users report.
    pub const EXCHANGE_ONLINE: Self = Self { flags_afterwards: true, sends_receipts: true };

    /// The flags that a message shall have of those that it has at the source. A mark of removal is carried nowhere: the
    /// message is there all the same, and whether it goes is for its user to say anew.
    #[must_use]
    pub fn wanted(self, flags: Flags) -> Flags {
        let is_answered = |flag: &str| self.sends_receipts && flag.eq_ignore_ascii_case(RECEIPT_ANSWERED);
        let is_wanted = |flag: &str| flag != Flags::DELETED && !is_answered(flag);
        if flags.iter().all(is_wanted) { flags } else { flags.filter(is_wanted) }
    }

    /// Those of them that go with the message.
    #[must_use]
    pub fn at_once(self, flags: Flags) -> Flags {
        if self.flags_afterwards { flags.filter(|flag| flag != "\\Flagged") } else { flags }
    }
}

/// Rows of one destination folder whose flags nobody saw.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Unproven {
    rows: BTreeSet<RowId>,
    /// Those of them that ask for a receipt.
    receipts: BTreeSet<RowId>,
}

fn fact_of(folder: &FolderPath, destination: &FolderPath) -> String {
    format!("flagsUnproven {folder} {destination}")
}

/// Moves the flags still to be proven of a folder to its new name.
///
/// # Errors
/// Those of the ledger.
pub(super) async fn follow(
    ledger: &dyn Ledger,
    (source, destination): (&FolderPath, &FolderPath),
    (new_source, new_destination): (&FolderPath, &FolderPath),
) -> Result<()> {
    let (from, to) = (fact_of(source, destination), fact_of(new_source, new_destination));
    if from == to {
        return Ok(());
    }
    let Some(open) = ledger.fact(&from).await?.filter(|open| !open.is_empty()) else { return Ok(()) };
    ledger.save_fact(&to, &open).await?;
    ledger.save_fact(&from, "").await
}

/// A message at the destination, and the flags that it shall have and that it has.
struct Case {
    id: ItemId,
    wanted: Flags,
    has: Flags,
}

impl FolderPass<'_> {
    /// The flags that a message shall have at the destination, with the mark of an answered receipt where one is asked for
    /// and the destination keeps it. Says as well whether a receipt may still be sent.
    fn wanted_flags(&self, flags: &Flags, asks: bool, arrived: &FolderState) -> (Flags, bool) {
        let keep = |flags: &Flags| super::folder::keep_flags(flags, arrived.keepable.as_ref());
        let wanted = self.rules.manners.wanted(keep(flags));
        if !(asks && self.rules.manners.sends_receipts) {
            return (wanted, false);
        }
        let mark = keep(&Flags::parse(RECEIPT_ANSWERED));
        (wanted.iter().chain(mark.iter()).collect(), mark.is_empty())
    }

    /// The flags that a recognised message needs beside those of the source.
    pub(super) fn receipt_mark(&mut self, asks: bool, arrived: &FolderState) -> Flags {
        let (mark, unanswered) = self.wanted_flags(&Flags::default(), asks, arrived);
        self.uncounted.receipts_open += u64::from(unanswered);
        mark
    }

    /// Compares the flags of what arrived with those that were wanted, stores what is missing, and looks again.
    ///
    /// # Errors
    /// Those of the session; nothing is proven then.
    pub(super) async fn mend_flags(
        &mut self,
        window: &[Work],
        copied: &Copied,
        checked: &Checked,
        arrived: &FolderState,
    ) -> Result<()> {
        let listed: HashMap<RowId, &Flags> =
            window.iter().filter_map(|work| Some((work.row, work.listed.flags.as_ref()?))).collect();
        let none = Flags::default();
        let (mut cases, mut open) = (Vec::new(), 0);
        for settled in copied.settled.iter().filter(|settled| settled.verdict.is_delivered()) {
            let Some((_, arrival)) = &settled.destination else { continue };
            // Those that were recognised have no flags here: they are brought into step with the changes.
            let Some(has) = checked.flags.get(&arrival.id) else { continue };
            let asks = copied.passed.get(&settled.id).is_some_and(|passed| passed.asks_receipt);
            let flags = listed.get(&settled.id).copied().unwrap_or(&none);
            let (wanted, unanswered) = self.wanted_flags(flags, asks, arrived);
            open += u64::from(unanswered);
            cases.push(Case { id: arrival.id.clone(), wanted, has: has.clone() });
        }
        self.mend(cases).await?;
        // Where that fails, the next pass proves and reports them.
        self.uncounted.receipts_open += open;
        Ok(())
    }

    async fn mend(&mut self, mut cases: Vec<Case>) -> Result<()> {
        cases.retain(|case| !case.wanted.minus(&case.has).is_empty());
        let Some(first) = cases.iter().map(|case| &case.id).min() else { return Ok(()) };
        let mut groups: BTreeMap<String, Vec<ItemId>> = BTreeMap::new();
        for case in &cases {
            groups.entry(case.wanted.minus(&case.has).to_string()).or_default().push(case.id.clone());
        }
        for (missing, mut ids) in groups {
            ids.sort_unstable();
            // The list shows what was refused, or only said to be kept.
            self.destination.store_flags(&ids, &Flags::parse(&missing), &Flags::default()).await?;
        }
        let wanted: HashMap<&ItemId, &Flags> = cases.iter().map(|case| (&case.id, &case.wanted)).collect();
        let before = self.destination.marks().before(first);
        for present in self.destination.list_since(&before).await? {
            let Some(wanted) = wanted.get(&present.id) else { continue };
            let refused = wanted.minus(&present.flags);
            if refused.is_empty() {
                self.outcome.flags_mended += 1;
            }
            self.uncounted.keywords_lost.extend(refused.iter().map(str::to_owned));
        }
        Ok(())
    }

    /// Writes down whose flags nobody saw because a window ended badly.
    ///
    /// # Errors
    /// Those of the ledger.
    pub(super) async fn note_unproven(&mut self, window: &[Work], copied: &Copied) -> Result<()> {
        let flagged: BTreeSet<RowId> = window
            .iter()
            .filter(|work| work.listed.flags.as_ref().is_some_and(|flags| !flags.is_empty()))
            .map(|work| work.row)
            .collect();
        let asks = |row: &RowId| copied.passed.get(row).is_some_and(|passed| passed.asks_receipt);
        let stored: Vec<RowId> = copied
            .settled
            .iter()
            .filter(|settled| matches!(settled.verdict, Verdict::Delivered | Verdict::DeliveredAltered(_)))
            .map(|settled| settled.id)
            .collect();
        let fact = fact_of(&self.plan.source.path, &self.plan.destination);
        let mut unproven = load_unproven(self.ledger, &fact).await?;
        let before = unproven.clone();
        unproven.rows.extend(stored.iter().filter(|row| flagged.contains(row) || asks(row)));
        unproven.receipts.extend(stored.iter().filter(|row| asks(row)));
        if unproven == before {
            return Ok(());
        }
        let text = serde_json::to_string(&unproven)
            .map_err(|e| Failure::internal("unproven flags cannot be written down").caused_by(&e))?;
        self.ledger.save_fact(&fact, &text).await
    }

    /// Proves the flags that an earlier pass could not, once the changes of this one are carried over.
    ///
    /// # Errors
    /// Those of the session and of the ledger.
    pub(super) async fn prove_flags(&mut self, arrived: &FolderState) -> Result<()> {
        let fact = fact_of(&self.plan.source.path, &self.plan.destination);
        let unproven = load_unproven(self.ledger, &fact).await?;
        if unproven.rows.is_empty() {
            return Ok(());
        }
        let ids: Vec<RowId> = unproven.rows.iter().copied().collect();
        let rows = self.ledger.rows_of(&ids).await?;
        let mut open: HashMap<ItemId, (Flags, bool)> = HashMap::new();
        for row in rows.iter().filter(|row| row.verdict.is_delivered()) {
            let Some((folder, arrival)) = &row.destination else { continue };
            if *folder == self.plan.destination && arrival.epoch == arrived.epoch {
                let asks = unproven.receipts.contains(&row.id);
                open.insert(arrival.id.clone(), self.wanted_flags(&row.flags, asks, arrived));
            }
        }
        if let Some(first) = open.keys().min().cloned() {
            let (mut cases, mut receipts) = (Vec::new(), 0);
            let before = self.destination.marks().before(&first);
            for present in self.destination.list_since(&before).await? {
                let Some((wanted, unanswered)) = open.remove(&present.id) else { continue };
                receipts += u64::from(unanswered);
                cases.push(Case { id: present.id, wanted, has: present.flags });
            }
            self.mend(cases).await?;
            self.uncounted.receipts_open += receipts;
        }
        self.keep_counts().await?;
        self.ledger.save_fact(&fact, "").await
    }
}

async fn load_unproven(ledger: &dyn Ledger, fact: &str) -> Result<Unproven> {
    let text = ledger.fact(fact).await?.filter(|text| !text.is_empty());
    let known = text.map(|text| serde_json::from_str(&text)).transpose();
    let known = known
        .map_err(|e| Failure::internal("the ledger's list of unproven flags cannot be read").caused_by(&e))?;
    Ok(known.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_server_keeps_for_imap_alone_waits() {
        let flags = || Flags::parse("\\Flagged \\Seen $MDNSent $Label1");
        let plain = Manners::default();
        assert_eq!(plain.at_once(plain.wanted(flags())), flags());
        assert_eq!(plain.wanted(Flags::parse("\\Deleted \\Seen")).to_string(), "\\Seen");
        let exchange = Manners::EXCHANGE_ONLINE;
        assert_eq!(exchange.wanted(flags()).to_string(), "$Label1 \\Flagged \\Seen");
        assert_eq!(exchange.at_once(exchange.wanted(flags())).to_string(), "$Label1 \\Seen");
    }
}
