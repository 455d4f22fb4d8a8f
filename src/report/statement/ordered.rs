//! What is ordered of each mailbox: all that no rule of the manifest leaves out, or the part of it that a pilot carries.

use std::collections::HashMap;

use crate::model::address::Domain;
use crate::model::evidence::Amount;
use crate::report::rows::{MailboxRow, Report};

/// A mailbox, and how much of it is ordered.
pub(super) struct Ordered<'a> {
    /// The mailbox.
    pub row: &'a MailboxRow,
    /// What is ordered of it.
    pub amount: Amount,
    /// Whether it is ordered at all: a pilot leaves mailboxes out.
    pub is_part: bool,
}

/// Each mailbox of a project.
pub(super) fn of(report: &Report) -> Vec<Ordered<'_>> {
    let pilot = report.agreed.pilot.as_ref();
    let mut readable: HashMap<&Domain, u32> = HashMap::new();
    let ordered = |row| {
        let MailboxRow { domain, endpoint, items, bytes, .. } = row;
        let whole = Amount { messages: *items, bytes: *bytes };
        let Some(pilot) = pilot else { return Ordered { row, amount: whole, is_part: true } };
        let read = readable.entry(domain).or_default();
        *read += u32::from(endpoint.is_some());
        let is_part = endpoint.is_some() && pilot.mailboxes.is_none_or(|most| *read <= most);
        let amount = row.pilot.filter(|_| pilot.messages_per_folder.is_some()).unwrap_or(whole);
        Ordered { row, amount: if is_part { amount } else { Amount::default() }, is_part }
    };
    report.mailboxes.iter().map(ordered).collect()
}

/// All of it.
pub(super) fn total(ordered: &[Ordered<'_>]) -> Amount {
    let mut sum = Amount::default();
    ordered.iter().for_each(|one| sum.add(one.amount));
    sum
}
