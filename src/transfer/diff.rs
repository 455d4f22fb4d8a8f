//! Compares a part of a folder's list with what the ledger knows of that part. Pure.

use std::collections::{BTreeSet, HashMap};

use crate::drivers::Listed;
use crate::ledger::{Row, RowId};
use crate::model::folder::FolderPath;
use crate::model::message::{Arrival, Flags, ItemId, Verdict};
use crate::model::protocol::Protocol;

/// A message whose flags at the source are not those that were carried over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlagChange {
    /// The row's number.
    pub row: RowId,
    /// Where the message is at the destination, as the ledger had it; `None` where that was learned later.
    pub at: Option<(FolderPath, Arrival)>,
    /// Flags that are new at the source.
    pub add: Flags,
    /// Flags that are gone at the source.
    pub remove: Flags,
    /// All flags at the source.
    pub all: Flags,
}

impl FlagChange {
    /// How the flags of a delivered message changed, if they did.
    pub fn of(row: &Row, now: Flags) -> Option<Self> {
        let (add, remove) = (now.minus(&row.flags), row.flags.minus(&now));
        let at = row.destination.clone();
        let changed = !add.is_empty() || !remove.is_empty();
        changed.then_some(Self { row: row.id, at, add, remove, all: now })
    }
}

/// The work to be done for a part of a folder.
#[derive(Debug, Default)]
pub struct Diff {
    /// Messages that the ledger does not know.
    pub fresh: Vec<Listed>,
    /// Messages that wait, with the flags that the ledger remembers.
    pub pending: Vec<(RowId, Listed, Flags)>,
    /// Messages that a rule leaves out, as they are listed now.
    pub excluded: Vec<(RowId, Listed)>,
    /// Delivered messages with changed flags.
    pub flags: Vec<FlagChange>,
    /// Rows whose message is not listed and was when the folder was listed before.
    pub gone: Vec<RowId>,
    /// As `gone`, where the message was not listed before either.
    pub gone_before: Vec<RowId>,
    /// Whether any row's message is listed.
    pub any_listed: bool,
    /// Rows whose message is listed again.
    pub back: Vec<RowId>,
    /// Sizes that the source announces and that nobody kept yet.
    pub announced: Vec<(RowId, u64)>,
    /// Rows whose UID names another message now: its size is another one, which cannot change (RFC 9051 §2.3.4). Or their name
    /// is one that several messages share.
    pub replaced: Vec<RowId>,
    /// Whether a UID names a message with another arrival date, which cannot change either: then all UIDs were given anew. So
    /// were unique ids where one names a message now that has the size of another one's.
    pub renumbered: bool,
}

/// Compares a part of a list with the ledger's rows of that part, both of one folder and epoch and in the order of their ids.
pub fn compare(rows: Vec<Row>, listing: Vec<Listed>) -> Diff {
    let mut diff = Diff::default();
    let mut known: HashMap<ItemId, Row> = HashMap::with_capacity(rows.len());
    for row in rows {
        known.insert(row.locator.id.clone(), row);
    }
    let (mut sizes_left, mut sizes_now) = (BTreeSet::new(), Vec::new());
    for listed in listing {
        let Some(row) = known.remove(&listed.locator.id) else {
            diff.fresh.push(listed);
            continue;
        };
        if row.date.zip(listed.date).is_some_and(|(before, now)| before.unix != now.unix) {
            diff.renumbered = true;
        }
        if listed.locator.id.is_shared() {
            diff.replaced.push(row.id);
            diff.fresh.push(listed);
            continue;
        }
        diff.any_listed = true;
        match row.announced {
            Some(before) if before != listed.size => {
                if row.locator.protocol == Protocol::Pop3 {
                    sizes_left.insert(before);
                    sizes_now.push(listed.size);
                }
                diff.replaced.push(row.id);
                diff.fresh.push(listed);
                continue;
            }
            Some(_) => {}
            None => diff.announced.push((row.id, listed.size)),
        }
        if row.gone {
            diff.back.push(row.id);
        }
        match row.verdict {
            Verdict::Pending => diff.pending.push((row.id, listed, row.flags)),
            Verdict::Excluded(_) => diff.excluded.push((row.id, listed)),
            // The pass takes refused messages up again by itself.
            Verdict::Quarantined(_) | Verdict::Shown => {}
            Verdict::Delivered | Verdict::DeliveredAltered(_) => {
                diff.flags.extend(listed.flags.and_then(|flags| FlagChange::of(&row, flags)));
            }
        }
    }
    diff.fresh.sort_by_key(|listed| listed.place);
    for row in known.into_values() {
        if row.gone {
            diff.gone_before.push(row.id);
        } else {
            diff.gone.push(row.id);
            sizes_left.extend(row.announced);
        }
    }
    // Ids that are places in the maildrop move on when a message in front of them goes; some may meet an equal size.
    diff.renumbered |= sizes_now.iter().any(|size| sizes_left.contains(size));
    diff.gone.sort_unstable();
    diff
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Refused;
    use crate::model::folder::FolderPath;
    use crate::model::message::{Epoch, InternalDate, Locator};

    fn at(uid: u32) -> Locator {
        let (folder, epoch) = (FolderPath::inbox(), Epoch::from(5));
        Locator { protocol: Protocol::Imap, folder, epoch, id: ItemId::Uid(uid) }
    }

    fn row(id: RowId, uid: u32, flags: &str, verdict: Verdict) -> Row {
        Row {
            id,
            locator: at(uid),
            size: 1,
            date: None,
            flags: Flags::parse(flags),
            known: None,
            destination: None,
            verdict,
            refused: Refused::default(),
            attempts: 0,
            announced: Some(1),
            stored: None,
            gone: false,
        }
    }

    fn listed(uid: u32, flags: &str) -> Listed {
        Listed { locator: at(uid), place: uid, size: 1, date: None, flags: Some(Flags::parse(flags)) }
    }

    #[test]
    fn uids_that_name_other_messages_are_noticed() {
        let date = |unix| Some(InternalDate { unix, offset_minutes: 0 });
        for (before, now, sizes, renumbered, replaced) in [
            (date(100), date(100), (1, 1), false, 0),
            (date(100), date(101), (1, 1), true, 0),
            (date(100), None, (1, 1), false, 0),
            (None, date(1), (1, 1), false, 0),
            (date(100), date(100), (1, 2), false, 1),
        ] {
            let rows =
                vec![Row { date: before, announced: Some(sizes.0), ..row(1, 1, "", Verdict::Delivered) }];
            let listing = vec![Listed { date: now, size: sizes.1, ..listed(1, "") }];
            let diff = compare(rows, listing);
            assert_eq!((diff.renumbered, diff.replaced.len()), (renumbered, replaced), "{before:?} {now:?}");
            assert_eq!(diff.fresh.len(), replaced, "it is carried as the message that it is");
        }
    }

    #[test]
    fn unique_ids_that_moved_on_are_noticed() {
        let at = |id: &str| {
            let (folder, epoch) = (FolderPath::inbox(), Epoch::default());
            Locator { protocol: Protocol::Pop3, folder, epoch, id: ItemId::from(id) }
        };
        let renumbered = |before: &[(&str, u64)], now: &[(&str, u64)]| {
            let rows = (1..).zip(before).map(|(id, (name, size))| Row {
                locator: at(name),
                announced: Some(*size),
                ..row(id, 1, "", Verdict::Delivered)
            });
            let listing =
                now.iter().map(|(name, size)| Listed { locator: at(name), size: *size, ..listed(1, "") });
            let diff = compare(rows.collect(), listing.collect());
            (diff.renumbered, diff.replaced.len(), diff.fresh.len())
        };
        let before = [("1", 10), ("2", 10), ("3", 20)];
        assert_eq!(renumbered(&before, &[("1", 10), ("2", 20)]), (true, 1, 1), "the first one went");
        assert_eq!(
            renumbered(&before, &[("1", 10), ("2", 11), ("3", 20)]),
            (false, 1, 1),
            "one is another one"
        );
        assert_eq!(renumbered(&before, &[("1", 24), ("2", 24), ("3", 34)]), (false, 3, 3), "all have grown");
        assert_eq!(renumbered(&before, &[("4", 20)]), (false, 0, 1), "a new one");
        let shared = [("a\u{fffd}1", 10), ("a\u{fffd}2", 10)];
        assert_eq!(renumbered(&shared, &shared), (false, 2, 2), "which is which, nobody knows");
    }

    #[test]
    fn a_size_that_nobody_kept_is_kept_and_proves_nothing() {
        let rows = vec![Row { announced: None, size: 9, ..row(1, 1, "", Verdict::Delivered) }];
        let diff = compare(rows, vec![listed(1, "")]);
        assert_eq!((diff.announced, diff.replaced.len()), (vec![(1, 1)], 0));
    }

    #[test]
    fn each_message_ends_in_one_place() {
        let rows = vec![
            row(1, 1, "\\Seen NonJunk", Verdict::Delivered),
            row(2, 2, "", Verdict::Pending),
            row(3, 3, "", Verdict::Delivered),
            row(6, 6, "", Verdict::Excluded("rule".into())),
            row(7, 7, "", Verdict::Quarantined("refused".into())),
            Row { gone: true, ..row(9, 9, "", Verdict::Delivered) },
        ];
        let listing =
            [(1, "$New nonjunk"), (2, ""), (6, ""), (7, ""), (8, ""), (9, "")].map(|(u, f)| listed(u, f));
        let diff = compare(rows, listing.to_vec());
        assert_eq!(diff.fresh.iter().map(|l| l.locator.clone()).collect::<Vec<_>>(), [at(8)]);
        assert_eq!(diff.pending.iter().map(|p| p.0).collect::<Vec<_>>(), [2]);
        assert_eq!(diff.excluded.iter().map(|p| p.0).collect::<Vec<_>>(), [6]);
        assert_eq!((diff.gone, diff.back), (vec![3], vec![9]));
        let [change] = &diff.flags[..] else { panic!("{:?}", diff.flags) };
        assert_eq!(
            (change.row, change.add.to_string(), change.remove.to_string()),
            (1, "$New".into(), "\\Seen".into())
        );
    }
}
