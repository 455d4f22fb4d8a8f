//! Compares a folder's listing with what the ledger knows of it. Pure.

use std::collections::HashMap;

use crate::ledger::{Cursor, Row, RowId};
use crate::mail::{FolderState, Listed};
use crate::model::message::{Flags, Locator, Verdict};

/// A message whose flags at the source are not those that were carried over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlagChange {
    /// The row's number.
    pub row: RowId,
    /// Flags that are new at the source.
    pub add: Flags,
    /// Flags that are gone at the source.
    pub remove: Flags,
    /// All flags at the source.
    pub all: Flags,
}

/// What is to be done about a folder.
#[derive(Debug, Default)]
pub struct Diff {
    /// Messages that the ledger does not know.
    pub fresh: Vec<Listed>,
    /// Messages that the ledger knows and that were not carried yet, with the flags that the ledger remembers.
    pub pending: Vec<(RowId, Listed, Flags)>,
    /// Messages that a rule leaves out, as they are listed now.
    pub excluded: Vec<(RowId, Listed)>,
    /// Delivered messages with changed flags.
    pub flags: Vec<FlagChange>,
    /// Rows whose message the source no longer lists.
    pub gone: Vec<RowId>,
    /// Rows whose locators can never be listed again: another protocol, or a UIDVALIDITY that changed.
    pub void: Vec<Row>,
}

/// Whether a server gave its UIDs anew without a new UIDVALIDITY, which it must never do (RFC 9051 §2.3.1.1): its UIDNEXT
/// went back, or a UID that the ledger knows is that of a message with another arrival date, which cannot change either.
pub fn is_renumbered(
    cursor: Option<&Cursor>,
    state: &FolderState,
    rows: &[Row],
    listing: &[Listed],
    reachable: impl Fn(&Locator) -> bool,
) -> bool {
    if state.uidvalidity == 0 {
        return false;
    }
    let before = cursor.filter(|cursor| cursor.uidvalidity == state.uidvalidity).and_then(|c| c.uidnext);
    if before.zip(state.uidnext).is_some_and(|(before, now)| now < before) {
        return true;
    }
    let dates: HashMap<&Locator, i64> = rows
        .iter()
        .filter(|row| reachable(&row.locator))
        .filter_map(|row| Some((&row.locator, row.date?.unix)))
        .collect();
    let other = |listed: &Listed| {
        let known = dates.get(&listed.locator).zip(listed.date);
        known.is_some_and(|(before, now)| *before != now.unix)
    };
    listing.iter().any(other)
}

/// Compares a complete listing with the ledger's rows. `reachable` tells whether a row's locator could be in such a
/// listing at all.
pub fn compare(rows: Vec<Row>, listing: Vec<Listed>, reachable: impl Fn(&Locator) -> bool) -> Diff {
    let mut diff = Diff::default();
    let mut known: HashMap<Locator, Row> = HashMap::with_capacity(rows.len());
    for row in rows {
        if reachable(&row.locator) {
            known.insert(row.locator.clone(), row);
        } else {
            diff.void.push(row);
        }
    }
    for listed in listing {
        let Some(row) = known.remove(&listed.locator) else {
            diff.fresh.push(listed);
            continue;
        };
        match row.verdict {
            Verdict::Pending => diff.pending.push((row.id, listed, row.flags)),
            Verdict::Excluded(_) => diff.excluded.push((row.id, listed)),
            Verdict::Quarantined(_) => {}
            Verdict::Delivered | Verdict::DeliveredAltered(_) => {
                if let Some(flags) = listed.flags {
                    let (add, remove) = (flags.minus(&row.flags), row.flags.minus(&flags));
                    if !add.is_empty() || !remove.is_empty() {
                        diff.flags.push(FlagChange { row: row.id, add, remove, all: flags });
                    }
                }
            }
        }
    }
    diff.gone = known.into_values().filter(|row| !row.gone).map(|row| row.id).collect();
    diff.gone.sort_unstable();
    diff
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::folder::FolderPath;
    use crate::model::message::InternalDate;

    fn at(uidvalidity: u32, uid: u32) -> Locator {
        Locator::Imap { folder: FolderPath::inbox(), uidvalidity, uid }
    }

    fn row(id: RowId, locator: Locator, flags: &str, verdict: Verdict) -> Row {
        let flags = Flags::parse(flags);
        Row { id, locator, size: 1, date: None, flags, known: None, destination: None, verdict, gone: false }
    }

    fn listed(uid: u32, flags: &str) -> Listed {
        Listed { locator: at(5, uid), size: 1, date: None, flags: Some(Flags::parse(flags)) }
    }

    #[test]
    fn uids_that_name_other_messages_are_noticed() {
        let date = |unix| Some(InternalDate { unix, offset_minutes: 0 });
        let cursor = |uidvalidity, uidnext| Cursor { uidvalidity, uidnext, ..Cursor::default() };
        let state = |uidvalidity, uidnext| FolderState { uidvalidity, uidnext, ..FolderState::default() };
        let rows = [
            Row { date: date(100), ..row(1, at(5, 1), "", Verdict::Delivered) },
            Row { gone: true, date: date(200), ..row(2, at(5, 2), "", Verdict::Delivered) },
            row(3, at(5, 3), "", Verdict::Pending),
            Row { date: date(400), ..row(4, at(4, 4), "", Verdict::Delivered) },
        ];
        for (before, now, uid, listed_date, expected) in [
            (cursor(5, Some(4)), state(5, Some(4)), 1, date(100), false),
            (cursor(5, Some(4)), state(5, Some(9)), 1, date(100), false),
            (cursor(5, Some(4)), state(5, Some(4)), 1, date(101), true),
            (cursor(5, Some(4)), state(5, Some(4)), 1, None, false),
            // It went and another one has its UID.
            (cursor(5, Some(4)), state(5, Some(4)), 2, date(201), true),
            (cursor(5, Some(4)), state(5, Some(4)), 3, date(1), false),
            // What was seen under another UIDVALIDITY says nothing.
            (cursor(5, Some(4)), state(5, Some(4)), 4, date(1), false),
            (cursor(5, Some(4)), state(5, Some(3)), 1, date(100), true),
            (cursor(4, Some(4)), state(5, Some(3)), 1, date(100), false),
            (cursor(5, None), state(5, Some(3)), 1, date(100), false),
            (cursor(5, Some(4)), state(5, None), 1, date(100), false),
            (cursor(0, Some(4)), state(0, Some(3)), 1, date(101), false),
        ] {
            let listing = [Listed { date: listed_date, ..listed(uid, "") }];
            let reachable = |locator: &Locator| matches!(locator, Locator::Imap { uidvalidity: 5, .. });
            let found = is_renumbered(Some(&before), &now, &rows, &listing, reachable);
            assert_eq!(found, expected, "{before:?} {now:?} {listing:?}");
        }
    }

    #[test]
    fn each_message_ends_in_one_place() {
        let rows = vec![
            row(1, at(5, 1), "\\Seen NonJunk", Verdict::Delivered),
            row(2, at(5, 2), "", Verdict::Pending),
            row(3, at(5, 3), "", Verdict::Delivered),
            row(4, at(4, 9), "", Verdict::Delivered),
            row(5, Locator::Pop3 { uidl: "x".into() }, "", Verdict::Delivered),
            row(6, at(5, 6), "", Verdict::Excluded("rule".into())),
            row(7, at(5, 7), "", Verdict::Quarantined("refused".into())),
        ];
        let listing =
            vec![listed(1, "$New nonjunk"), listed(2, ""), listed(6, ""), listed(7, ""), listed(8, "")];
        let diff = compare(rows, listing, |l| matches!(l, Locator::Imap { uidvalidity: 5, .. }));
        assert_eq!(diff.fresh.iter().map(|l| l.locator.clone()).collect::<Vec<_>>(), [at(5, 8)]);
        assert_eq!(diff.pending.iter().map(|p| p.0).collect::<Vec<_>>(), [2]);
        assert_eq!(diff.excluded.iter().map(|p| p.0).collect::<Vec<_>>(), [6]);
        assert_eq!(diff.gone, [3]);
        assert_eq!(diff.void.iter().map(|r| r.id).collect::<Vec<_>>(), [4, 5]);
        let [change] = &diff.flags[..] else { panic!("{:?}", diff.flags) };
        assert_eq!(
            (change.row, change.add.to_string(), change.remove.to_string()),
            (1, "$New".into(), "\\Seen".into())
        );
    }
}
