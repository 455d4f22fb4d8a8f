//! Questions about many rows: pages of a folder in the order of its locators, what is left to do, and steps that concern a
//! folder or the whole mailbox. Each runs in the transaction that it is given.

use std::collections::{BTreeSet, HashMap};
use std::ops::RangeInclusive;

use rusqlite::types::Value as SqlValue;
use rusqlite::{OptionalExtension, Transaction, params};

use super::columns::{read_value, reader};
use crate::ledger::columns::{
    COLUMNS, UNLISTED, UNLISTED_MAX, Value, read_mark, read_path, write_path, write_protocol,
};
use crate::ledger::tallies::KEYWORDS_LOST;
use crate::ledger::{Discrepancies, Intent, Row, RowId, Space, Tallies};
use crate::model::failure::FailureCode;
use crate::model::folder::FolderPath;
use crate::model::identity::Digest;
use crate::model::message::{Epoch, ItemId, Locator, Verdict};

/// The rows of a name space.
const IN_SPACE: &str = "folder = ?1 AND protocol = ?2 AND epoch = ?3";

fn bound(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

pub(super) fn rows_in(
    t: &Transaction<'_>,
    space: &Space,
    after: Option<&Locator>,
    upto: Option<&Locator>,
    limit: usize,
) -> rusqlite::Result<Vec<Row>> {
    // Nothing comes before a number, and everything before a BLOB.
    let (first, last) = (SqlValue::Integer(-1), SqlValue::Blob(Vec::new()));
    let after = after.map_or(first, |at| write_id(&at.id));
    let upto = upto.map_or(last, |at| write_id(&at.id));
    let sql = format!(
        "SELECT {COLUMNS} FROM item WHERE {IN_SPACE} AND place > ?4 AND place <= ?5 ORDER BY place LIMIT ?6"
    );
    let (folder, protocol) = (write_path(&space.folder), write_protocol(space.protocol));
    let values = params![folder, protocol, Value::of_epoch(&space.epoch), after, upto, bound(limit)];
    t.prepare_cached(&sql)?.query_map(values, reader())?.collect()
}

fn write_id(id: &ItemId) -> SqlValue {
    match id {
        ItemId::Uid(uid) => SqlValue::Integer((*uid).into()),
        ItemId::Text(text) => SqlValue::Text(text.to_string()),
    }
}

pub(super) fn rows_at(t: &Transaction<'_>, space: &Space, ids: &[ItemId]) -> rusqlite::Result<Vec<Row>> {
    let sql = format!("SELECT {COLUMNS} FROM item WHERE {IN_SPACE} AND place = ?4");
    let mut select = t.prepare_cached(&sql)?;
    let (folder, protocol) = (write_path(&space.folder), write_protocol(space.protocol));
    let epoch = Value::of_epoch(&space.epoch);
    let (mut found, mut read) = (Vec::with_capacity(ids.len()), reader());
    for id in ids {
        for row in select.query_map(params![folder, protocol, epoch, Value::of_id(id)], &mut read)? {
            found.push(row?);
        }
    }
    found.sort_by(|a, b| a.locator.cmp(&b.locator));
    Ok(found)
}

pub(super) fn rows_of(t: &Transaction<'_>, ids: &[RowId]) -> rusqlite::Result<Vec<Row>> {
    let mut select = t.prepare_cached(&format!("SELECT {COLUMNS} FROM item WHERE id = ?1"))?;
    let (mut found, mut read) = (Vec::with_capacity(ids.len()), reader());
    for id in ids {
        for row in select.query_map([id], &mut read)? {
            found.push(row?);
        }
    }
    found.sort_by_key(|row| row.id);
    Ok(found)
}

/// Message numbers of a space that are behind `after`, with their ids and in that order: read from the index alone.
pub(super) fn ids_in(
    t: &Transaction<'_>,
    space: &Space,
    after: Option<&ItemId>,
    limit: usize,
) -> rusqlite::Result<Vec<(ItemId, RowId)>> {
    let sql = format!("SELECT place, id FROM item WHERE {IN_SPACE} AND place > ?4 ORDER BY place LIMIT ?5");
    let (folder, protocol) = (write_path(&space.folder), write_protocol(space.protocol));
    let after = after.map_or(SqlValue::Integer(-1), write_id);
    let values = params![folder, protocol, Value::of_epoch(&space.epoch), after, bound(limit)];
    let read = |r: &rusqlite::Row<'_>| Ok((read_value(r, 0)?.to_id(), r.get(1)?));
    t.prepare_cached(&sql)?.query_map(values, read)?.collect()
}

pub(super) fn last_ids_in(t: &Transaction<'_>, space: &Space, limit: usize) -> rusqlite::Result<Vec<ItemId>> {
    let sql = format!("SELECT place FROM item WHERE {IN_SPACE} AND gone = 0 ORDER BY place DESC LIMIT ?4");
    let (folder, protocol) = (write_path(&space.folder), write_protocol(space.protocol));
    let values = params![folder, protocol, Value::of_epoch(&space.epoch), bound(limit)];
    t.prepare_cached(&sql)?.query_map(values, |r| Ok(read_value(r, 0)?.to_id()))?.collect()
}

pub(super) fn count_in(t: &Transaction<'_>, space: &Space) -> rusqlite::Result<u64> {
    // Either is counted in an index.
    let sql = format!(
        "SELECT (SELECT count(*) FROM item WHERE {IN_SPACE}) - (SELECT count(*) FROM item WHERE {IN_SPACE} AND gone = 1)"
    );
    let (folder, protocol) = (write_path(&space.folder), write_protocol(space.protocol));
    t.prepare_cached(&sql)?.query_row(params![folder, protocol, Value::of_epoch(&space.epoch)], |r| r.get(0))
}

/// How many messages have each verdict, by its word.
pub(super) fn count_verdicts(t: &Transaction<'_>) -> rusqlite::Result<Vec<(String, u64)>> {
    // Nearly all are delivered: they are the rest, which is counted without a look at each.
    let mut counts: Vec<(String, u64)> = t
        .prepare_cached(
            "SELECT verdict, count(*) FROM item WHERE verdict NOT IN ('Pending', 'Delivered') GROUP BY verdict",
        )?
        .query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let pending: u64 = t
        .prepare_cached(
            "SELECT (SELECT count(*) FROM item WHERE verdict IN ('Pending', 'Quarantined') AND gone = 0 \
             AND verdict = 'Pending') + (SELECT count(*) FROM item WHERE gone = 1 AND verdict = 'Pending')",
        )?
        .query_row([], |r| r.get(0))?;
    let all: u64 = t.prepare_cached("SELECT count(*) FROM item")?.query_row([], |r| r.get(0))?;
    let others = pending + counts.iter().map(|(_, count)| count).sum::<u64>();
    counts.push((Verdict::Pending.word().to_owned(), pending));
    counts.push((Verdict::Delivered.word().to_owned(), all.saturating_sub(others)));
    Ok(counts)
}

pub(super) fn is_elsewhere(
    t: &Transaction<'_>,
    folder: &str,
    at: &str,
    epoch: &Epoch,
) -> rusqlite::Result<bool> {
    // Two stretches of the index by arrival; it has no order for "another".
    t.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM item WHERE dst_folder = ?1 AND dst_epoch < ?2 AND folder = ?3) \
         OR EXISTS (SELECT 1 FROM item WHERE dst_folder = ?1 AND dst_epoch > ?2 AND folder = ?3)",
    )?
    .query_row(params![at, Value::of_epoch(epoch), folder], |r| r.get(0))
}

pub(super) fn part_void(t: &Transaction<'_>, space: &Space) -> rusqlite::Result<Vec<Row>> {
    // The stretches of the index around the space; as "not in the space" it would be gone through whole.
    let others = format!(
        "(folder = ?1 AND protocol < ?2 OR folder = ?1 AND protocol > ?2 \
         OR folder = ?1 AND protocol = ?2 AND epoch < ?3 OR folder = ?1 AND protocol = ?2 AND epoch > ?3) \
         AND protocol <> '{UNLISTED}'"
    );
    let (folder, protocol) = (write_path(&space.folder), write_protocol(space.protocol));
    t.prepare_cached(&format!(
        "DELETE FROM item WHERE {others} AND (canonical IS NULL OR verdict IN ('Pending', 'Excluded', 'Shown'))"
    ))?
    .execute(params![folder, protocol, Value::of_epoch(&space.epoch)])?;
    t.prepare_cached(&format!("SELECT {COLUMNS} FROM item WHERE {others} ORDER BY id"))?
        .query_map(params![folder, protocol, Value::of_epoch(&space.epoch)], reader())?
        .collect()
}

/// Rows with a verdict that leaves something to do.
pub(super) fn open(
    t: &Transaction<'_>,
    space: &Space,
    verdict: &Verdict,
    after: RowId,
    limit: usize,
) -> rusqlite::Result<Vec<Row>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM item WHERE folder = ?1 AND verdict IN ('Pending', 'Quarantined') AND gone = 0 \
         AND id > ?4 AND protocol = ?2 AND epoch = ?3 AND verdict = '{}' ORDER BY id LIMIT ?5",
        // As a value it would be weighed against the index, and the statement prepared anew, at every call.
        verdict.word()
    );
    let (folder, protocol) = (write_path(&space.folder), write_protocol(space.protocol));
    let values = params![folder, protocol, Value::of_epoch(&space.epoch), after, bound(limit)];
    t.prepare_cached(&sql)?.query_map(values, reader())?.collect()
}

pub(super) fn newest_work(t: &Transaction<'_>, space: &Space, limit: usize) -> rusqlite::Result<Vec<Row>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM item WHERE {IN_SPACE} AND verdict = 'Pending' AND gone = 0 ORDER BY id DESC LIMIT ?4"
    );
    let (folder, protocol) = (write_path(&space.folder), write_protocol(space.protocol));
    let mut rows: Vec<Row> = t
        .prepare_cached(&sql)?
        .query_map(params![folder, protocol, Value::of_epoch(&space.epoch), bound(limit)], reader())?
        .collect::<rusqlite::Result<_>>()?;
    rows.reverse();
    Ok(rows)
}

pub(super) fn unbound(t: &Transaction<'_>, folder: &str) -> rusqlite::Result<Vec<Row>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM item WHERE folder = ?1 AND verdict IN ('Delivered', 'DeliveredAltered') \
         AND dst_place IS NULL ORDER BY id"
    );
    t.prepare_cached(&sql)?.query_map([folder], reader())?.collect()
}

pub(super) fn count_unbound(t: &Transaction<'_>) -> rusqlite::Result<u64> {
    t.prepare_cached(
        "SELECT count(*) FROM item WHERE dst_place IS NULL AND verdict IN ('Delivered', 'DeliveredAltered')",
    )?
    .query_row([], |r| r.get(0))
}

pub(super) fn count_discrepancies(t: &Transaction<'_>) -> rusqlite::Result<Discrepancies> {
    // In the words of the indexes for what is rare.
    let sql = "SELECT verdict, CASE WHEN gone = 0 THEN code END, count(*) FROM item \
         WHERE verdict NOT IN ('Pending', 'Delivered') AND verdict = 'DeliveredAltered' GROUP BY 1, 2 UNION ALL \
         SELECT verdict, CASE WHEN gone = 0 THEN code END, count(*) FROM item \
         WHERE verdict = 'Delivered' AND code IS NOT NULL GROUP BY 1, 2";
    let mut found = Discrepancies::default();
    let mut query = t.prepare_cached(sql)?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let (verdict, code): (String, Option<String>) = (row.get(0)?, row.get(1)?);
        found.add(&verdict, code.as_deref(), row.get(2)?);
    }
    Ok(found)
}

pub(super) fn unfinished(t: &Transaction<'_>) -> rusqlite::Result<BTreeSet<FolderPath>> {
    let sql = format!(
        "SELECT DISTINCT folder FROM item WHERE verdict IN ('Pending', 'Quarantined') AND gone = 0 \
         AND protocol <> '{UNLISTED}'"
    );
    t.prepare_cached(&sql)?.query_map([], |r| Ok(read_path(&r.get::<_, String>(0)?)))?.collect()
}

pub(super) fn identities(
    t: &Transaction<'_>,
    except: &BTreeSet<String>,
) -> rusqlite::Result<HashMap<Digest, u32>> {
    let mut counts = HashMap::new();
    let mut select = t.prepare(
        "SELECT folder, canonical FROM item WHERE canonical IS NOT NULL AND verdict <> 'Shown' AND gone = 0",
    )?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        if !except.contains(row.get_ref(0)?.as_str()?) {
            *counts.entry(Digest(row.get(1)?)).or_insert(0) += 1;
        }
    }
    Ok(counts)
}

pub(super) fn open_intents(t: &Transaction<'_>) -> rusqlite::Result<Vec<Intent>> {
    let mut intents: Vec<Intent> = t
        .prepare_cached("SELECT id, folder, epoch, mark, source FROM intent ORDER BY id")?
        .query_map([], |r| {
            Ok(Intent {
                id: r.get(0)?,
                folder: read_path(&r.get::<_, String>(1)?),
                epoch: read_value(r, 2)?.to_epoch(),
                mark: read_mark(r.get_ref(3)?.as_str_or_null()?),
                source: read_path(&r.get::<_, String>(4)?),
                rows: Vec::new(),
            })
        })?
        .collect::<rusqlite::Result<_>>()?;
    let mut rows =
        t.prepare_cached("SELECT message FROM intent_message WHERE intent = ?1 ORDER BY message")?;
    for intent in &mut intents {
        intent.rows = rows.query_map([intent.id], |r| r.get(0))?.collect::<rusqlite::Result<_>>()?;
    }
    Ok(intents)
}

pub(super) fn keep_unlisted(
    t: &Transaction<'_>,
    folder: &str,
    messages: &RangeInclusive<u64>,
    why: &str,
) -> rusqlite::Result<()> {
    let known: u64 = t
        .prepare_cached("SELECT count(*) FROM item WHERE folder = ?1 AND protocol = ?2")?
        .query_row(params![folder, UNLISTED], |r| r.get(0))?;
    let messages = known.clamp(*messages.start(), *messages.end()).min(UNLISTED_MAX);
    t.prepare_cached("DELETE FROM item WHERE folder = ?1 AND protocol = ?2 AND place > ?3")?
        .execute(params![folder, UNLISTED, messages])?;
    let mut insert = t.prepare_cached(
        "INSERT INTO item (protocol, folder, epoch, place, size, flags, verdict, reason, code) \
         VALUES (?1, ?2, ?6, ?3, 0, '', 'Quarantined', ?4, ?5)",
    )?;
    for number in known + 1..=messages {
        let (epoch, code) = (Epoch::unlisted(), FailureCode::NotListed.to_string());
        insert.execute(params![UNLISTED, folder, number, why, code, epoch.as_str()])?;
    }
    Ok(())
}

pub(super) fn void_destination(t: &Transaction<'_>) -> rusqlite::Result<()> {
    t.execute_batch(
        "DELETE FROM item WHERE gone = 1;
         UPDATE item SET verdict = 'Pending', reason = NULL, code = NULL, bound = NULL, attempts = 0,
           dst_folder = NULL, dst_epoch = NULL, dst_place = NULL, stored = NULL
           WHERE verdict IN ('Delivered', 'DeliveredAltered', 'Pending')
           OR (verdict = 'Quarantined' AND protocol <> 'UNLISTED');
         DELETE FROM intent;
         DELETE FROM foreign_message;
         DELETE FROM cursor;",
    )
}

/// Adds to the facts that count something in all passes.
pub(super) fn add_tallies(t: &Transaction<'_>, more: &Tallies) -> rusqlite::Result<()> {
    let mut add = t.prepare_cached(
        "INSERT INTO fact VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = CAST(CAST(value AS INTEGER) + ?2 AS TEXT)",
    )?;
    for (name, number) in more.additions() {
        // Text, as every fact is.
        add.execute(params![name, number.to_string()])?;
    }
    if more.keywords_lost.is_empty() {
        return Ok(());
    }
    let mut read = t.prepare_cached("SELECT value FROM fact WHERE name = ?1")?;
    let before: String = read.query_row([KEYWORDS_LOST], |r| r.get(0)).optional()?.unwrap_or_default();
    let mut all = more.clone();
    all.keywords_lost.extend(before.split_ascii_whitespace().map(str::to_owned));
    let mut keep = t.prepare_cached("INSERT OR REPLACE INTO fact VALUES (?1, ?2)")?;
    keep.execute([KEYWORDS_LOST, &all.keywords()]).map(drop)
}
