//! The part of each mailbox that is ordered: all that no rule of the manifest leaves out, or the part of it that a pilot carries.

use std::collections::HashMap;

use crate::model::address::Domain;
use crate::model::evidence::Amount;
use crate::report::rows::{MailboxRow, Report};

/// A mailbox, and how much of it is ordered.
pub(super) struct Ordered<'a> {
    /// The mailbox.
    pub row: &'a MailboxRow,
    /// The part of it that is ordered.
    pub amount: Amount,
    /// Whether it is ordered at all: a pilot leaves mailboxes out.
    pub is_part: bool,
}

/// Each mailbox of a project.
pub(super) fn of(report: &Report) -> Vec<Ordered<'_>> {
    let pilot = report.agreed.pilot.as_ref();
    let mut readable: HashMap<&Domain, u32> = HashMap::new();
    let mut ordered = Vec::with_capacity(report.mailboxes.len());
    for row in &report.mailboxes {
        let whole = Amount { messages: row.items, bytes: row.bytes };
        let Some(pilot) = pilot else {
            ordered.push(Ordered { row, amount: whole, is_part: true });
            continue;
        };
        let read = readable.entry(&row.domain).or_default();
        *read += u32::from(row.endpoint.is_some());
        let is_part = row.endpoint.is_some() && pilot.mailboxes.is_none_or(|most| *read <= most);
        let amount = row.pilot.filter(|_| pilot.messages_per_folder.is_some()).unwrap_or(whole);
        let amount = if is_part { amount } else { Amount::default() };
        ordered.push(Ordered { row, amount, is_part });
    }
    ordered
}

/// All of it.
pub(super) fn total(ordered: &[Ordered<'_>]) -> Amount {
    let mut sum = Amount::default();
    for one in ordered {
        sum.add(one.amount);
    }
    sum
}
