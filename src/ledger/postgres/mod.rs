//! The ledger in a PostgreSQL database, for many migrations at once. Every call is one statement, and so one transaction
//! and one round trip, however many rows it is about.

mod columns;
mod failing;
mod folders;
mod link;
mod pages;
mod schema;
mod store;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;

pub use self::link::{Options, Vet};
pub use self::store::PostgresStore;

use self::columns::{
    Inserted, SettledColumns, TallyColumns, counting, digest, narrow, read_cursor, read_id, reader, text,
    write_id,
};
use self::link::Link;
use self::store::Spare;
use super::columns::{COLUMNS, CURSOR, UNLISTED, read_mark, read_path, write_mark, write_path};
use super::{
    Cursor, Discrepancies, Foreign, Intent, Known, Ledger, NAMED_FROM, NewRow, Renaming, Row, RowId, Settled,
    Space, Tallies,
};
use crate::model::failure::{Class, Failure, Result};
use crate::model::folder::FolderPath;
use crate::model::identity::Digest;
use crate::model::locator::ItemIds;
use crate::model::mark::Mark;
use crate::model::message::{Epoch, Flags, ItemId, Locator, Verdict};
use crate::model::progress::MessageCounts;

/// The longest folder that can be told apart in an index, in bytes as JSON: PostgreSQL takes 2,700 for a whole key.
const FOLDER_MAX: usize = 2_000;

/// A mailbox's ledger in a database.
pub(super) struct PostgresLedger {
    session: Session,
    /// The ledger's number in `mailferry.ledger`.
    id: i64,
}

/// By what right a ledger is open.
enum Session {
    /// It is carried. Nobody else writes to it while the connection lives, so rows are numbered here.
    Claimed { link: Link, last_row: AtomicI64, last_intent: AtomicI64 },
    /// It is looked at; the connection goes back afterwards.
    Looking(Option<Link>, Spare),
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Self::Looking(link, spare) = self
            && let Some(link) = link.take()
        {
            spare.give_back(link);
        }
    }
}

impl PostgresLedger {
    /// A ledger whose claim `link` holds.
    async fn claimed(link: Link, id: i64) -> Result<Self> {
        let sql = "SELECT greatest((SELECT max(id) FROM mailferry.item WHERE ledger = $1), \
             (SELECT max(message) FROM mailferry.intent_message WHERE ledger = $1), \
             (SELECT last_row FROM mailferry.ledger WHERE id = $1), 0), \
             coalesce((SELECT max(id) FROM mailferry.intent WHERE ledger = $1), 0)";
        let rows = link.query(sql, &[&id]).await?;
        let last = |at: usize| rows.first().and_then(|row| row.try_get::<_, i64>(at).ok());
        let (Some(row), Some(intent)) = (last(0), last(1)) else {
            return Err(link.unreadable("its rows cannot be counted"));
        };
        let (last_row, last_intent) = (AtomicI64::new(row), AtomicI64::new(intent));
        Ok(Self { session: Session::Claimed { link, last_row, last_intent }, id })
    }

    fn link(&self) -> Result<&Link> {
        match &self.session {
            Session::Claimed { link, .. } | Session::Looking(Some(link), _) => Ok(link),
            Session::Looking(None, _) => Err(Failure::internal("a ledger has no connection")),
        }
    }

    /// The connection and the counters of one who may write.
    fn writer(&self) -> Result<(&Link, &AtomicI64, &AtomicI64)> {
        match &self.session {
            Session::Claimed { link, last_row, last_intent } => Ok((link, last_row, last_intent)),
            Session::Looking(..) => {
                Err(Failure::internal("a ledger that was opened to look at cannot be written"))
            }
        }
    }

    /// Takes numbers for so many rows, each used once; brings the first.
    fn number_rows(&self, count: i64) -> Result<i64> {
        Ok(self.writer()?.1.fetch_add(count, Ordering::Relaxed) + 1)
    }

    /// Changes something.
    async fn write(&self, sql: &str, values: &[&(dyn tokio_postgres::types::ToSql + Sync)]) -> Result<()> {
        let link = self.writer()?.0;
        crate::steps::reach();
        link.execute(sql, values).await?;
        crate::steps::reach();
        Ok(())
    }

    /// Writes to some rows by a statement that takes the ledger and their numbers; where there are none, nobody is asked.
    async fn write_rows(&self, sql: &str, rows: &[RowId]) -> Result<()> {
        if rows.is_empty() { Ok(()) } else { self.write(sql, &[&self.id, &rows]).await }
    }

    async fn read(
        &self,
        sql: &str,
        values: &[&(dyn tokio_postgres::types::ToSql + Sync)],
    ) -> Result<Vec<tokio_postgres::Row>> {
        self.link()?.query(sql, values).await
    }

    /// Reads one number.
    async fn count(&self, sql: &str, values: &[&(dyn tokio_postgres::types::ToSql + Sync)]) -> Result<u64> {
        let rows = self.read(sql, values).await?;
        let counts = self.collect(&rows, |row| row.try_get::<_, i64>(0).map_err(|e| e.to_string()))?;
        Ok(counts.first().map_or(0, |count| count.cast_unsigned()))
    }

    /// Reads what a query brought.
    fn collect<T>(
        &self,
        rows: &[tokio_postgres::Row],
        read: impl FnMut(&tokio_postgres::Row) -> Result<T, String>,
    ) -> Result<Vec<T>> {
        let link = self.link()?;
        rows.iter().map(read).collect::<Result<_, _>>().map_err(|what| link.unreadable(&what))
    }
}

/// A folder as it is kept.
fn key(folder: &FolderPath) -> Result<String> {
    let key = write_path(folder);
    if key.len() > FOLDER_MAX {
        // One such folder must not stop the others.
        return Err(Failure::new(Class::Message, "the folder's name is too long for a ledger in PostgreSQL")
            .hint("give it a shorter name at the source, or keep the ledger in SQLite"));
    }
    Ok(key)
}

#[async_trait]
impl Ledger for PostgresLedger {
    async fn cursor(&self, folder: &FolderPath) -> Result<Option<Cursor>> {
        let sql = format!("SELECT {CURSOR} FROM mailferry.cursor WHERE ledger = $1 AND folder = $2");
        let rows = self.read(&sql, &[&self.id, &key(folder)?]).await?;
        let mut cursors = self.collect(&rows, read_cursor)?;
        Ok(cursors.pop())
    }

    async fn cursors(&self) -> Result<HashMap<FolderPath, Cursor>> {
        let sql = format!("SELECT {CURSOR}, folder FROM mailferry.cursor WHERE ledger = $1");
        let rows = self.read(&sql, &[&self.id]).await?;
        let cursors = self.collect(&rows, |row| {
            let folder: &str = row.try_get(7).map_err(|e| e.to_string())?;
            Ok((read_path(folder), read_cursor(row)?))
        })?;
        Ok(cursors.into_iter().collect())
    }

    async fn save_cursor(&self, folder: &FolderPath, cursor: &Cursor) -> Result<()> {
        let sql = format!(
            "INSERT INTO mailferry.cursor (ledger, folder, {CURSOR}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
             ON CONFLICT (ledger, folder) DO UPDATE SET epoch = excluded.epoch, mark = excluded.mark, \
             items = excluded.items, proves = excluded.proves, dst_epoch = excluded.dst_epoch, \
             dst_mark = excluded.dst_mark, dst_folder = excluded.dst_folder"
        );
        self.write(
            &sql,
            &[
                &self.id,
                &key(folder)?,
                &text(cursor.epoch.as_str()),
                &write_mark(&cursor.mark).map(text),
                &cursor.items.map(narrow),
                &cursor.proves,
                &text(cursor.destination_epoch.as_str()),
                &write_mark(&cursor.destination_mark).map(text),
                &key(&cursor.destination)?,
            ],
        )
        .await
    }

    async fn rows(&self, folder: &FolderPath) -> Result<Vec<Row>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM mailferry.item WHERE ledger = $1 AND folder = $2 AND protocol <> '{UNLISTED}' \
             ORDER BY id"
        );
        let rows = self.read(&sql, &[&self.id, &key(folder)?]).await?;
        self.collect(&rows, reader())
    }

    async fn rows_in(
        &self,
        space: &Space,
        after: Option<&Locator>,
        upto: Option<&Locator>,
        limit: usize,
    ) -> Result<Vec<Row>> {
        self.find_rows_in(space, after, upto, limit).await
    }

    async fn ids_in(
        &self,
        space: &Space,
        after: Option<&ItemId>,
        limit: usize,
    ) -> Result<Vec<(ItemId, RowId)>> {
        self.find_ids_in(space, after, limit).await
    }

    async fn last_ids_in(&self, space: &Space, limit: usize) -> Result<Vec<ItemId>> {
        self.find_last_ids_in(space, limit).await
    }

    async fn rows_at(&self, space: &Space, ids: &[ItemId]) -> Result<Vec<Row>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        self.find_rows_at(space, ids).await
    }

    async fn rows_of(&self, ids: &[RowId]) -> Result<Vec<Row>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let sql =
            format!("SELECT {COLUMNS} FROM mailferry.item WHERE ledger = $1 AND id = ANY($2) ORDER BY id");
        let rows = self.read(&sql, &[&self.id, &ids]).await?;
        self.collect(&rows, reader())
    }

    async fn count_in(&self, space: &Space) -> Result<u64> {
        self.count_rows_in(space).await
    }

    async fn count_copied(&self, folder: &FolderPath) -> Result<u64> {
        let sql = "SELECT count(*) FROM mailferry.item WHERE ledger = $1 AND folder = $2 \
             AND verdict IN ('Delivered', 'DeliveredAltered') AND NOT gone";
        self.count(sql, &[&self.id, &key(folder)?]).await
    }

    async fn part_void(&self, space: &Space) -> Result<Vec<Row>> {
        self.part_void_of(space).await
    }

    async fn work(&self, space: &Space, after: RowId, limit: usize) -> Result<Vec<Row>> {
        self.find_open(space, &Verdict::Pending, after, limit).await
    }

    async fn newest_work(&self, space: &Space, limit: usize) -> Result<Vec<Row>> {
        self.find_newest(space, limit).await
    }

    async fn refused(&self, space: &Space, after: RowId, limit: usize) -> Result<Vec<Row>> {
        self.find_open(space, &Verdict::Quarantined(String::new()), after, limit).await
    }

    async fn unbound(&self, folder: &FolderPath) -> Result<Vec<Row>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM mailferry.item WHERE ledger = $1 AND folder = $2 AND dst_place IS NULL \
             AND verdict IN ('Delivered', 'DeliveredAltered') ORDER BY id"
        );
        let rows = self.read(&sql, &[&self.id, &key(folder)?]).await?;
        self.collect(&rows, reader())
    }

    async fn count_unbound(&self) -> Result<u64> {
        self.count(
            "SELECT count(*) FROM mailferry.item WHERE ledger = $1 AND dst_place IS NULL \
             AND verdict IN ('Delivered', 'DeliveredAltered')",
            &[&self.id],
        )
        .await
    }

    async fn is_elsewhere(&self, folder: &FolderPath, at: &FolderPath, epoch: &Epoch) -> Result<bool> {
        let found = self
            .count(
                "SELECT count(*) FROM (SELECT 1 FROM mailferry.item WHERE ledger = $1 AND dst_folder = $2 \
                 AND dst_epoch <> $3 AND folder = $4 AND dst_place IS NOT NULL LIMIT 1) AS found",
                &[&self.id, &key(at)?, &text(epoch.as_str()), &key(folder)?],
            )
            .await?;
        Ok(found > 0)
    }

    async fn unfinished(&self) -> Result<BTreeSet<FolderPath>> {
        let sql = format!(
            "SELECT DISTINCT folder FROM mailferry.item WHERE ledger = $1 AND NOT gone \
             AND verdict IN ('Pending', 'Quarantined') AND protocol <> '{UNLISTED}'"
        );
        let rows = self.read(&sql, &[&self.id]).await?;
        let read = |row: &tokio_postgres::Row| row.try_get(0).map(read_path).map_err(|e| e.to_string());
        Ok(self.collect(&rows, read)?.into_iter().collect())
    }

    async fn identities(&self, except: &BTreeSet<FolderPath>) -> Result<HashMap<Digest, u32>> {
        self.count_identities(except).await
    }

    async fn insert(&self, rows: &[NewRow]) -> Result<Vec<RowId>> {
        let count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        let first = self.number_rows(count)?;
        let ids: Vec<RowId> = (first..first + count).collect();
        let c = Inserted::of(rows);
        for row in rows {
            key(&row.locator.folder)?;
        }
        let sql = "WITH numbered AS (UPDATE mailferry.ledger SET last_row = greatest(last_row, $13) WHERE id = $1) \
             INSERT INTO mailferry.item (ledger, id, protocol, folder, epoch, place, size, date, \
             date_offset, flags, verdict, reason, announced) SELECT $1, *, size FROM unnest($2::bigint[], $3::text[], \
             $4::text[], $5::text[], $6::text[], $7::bigint[], $8::bigint[], $9::int[], $10::text[], \
             $11::text[], $12::text[]) AS given (id, protocol, folder, epoch, place, size, date, date_offset, \
             flags, verdict, reason)";
        self.write(
            sql,
            &[
                &self.id,
                &ids,
                &c.protocols,
                &c.folders,
                &c.epochs,
                &c.places,
                &c.sizes,
                &c.dates,
                &c.offsets,
                &c.flags,
                &c.verdicts,
                &c.reasons,
                &(first + count - 1),
            ],
        )
        .await?;
        Ok(ids)
    }

    async fn begin_intent(
        &self,
        source: &FolderPath,
        folder: &FolderPath,
        epoch: &Epoch,
        mark: &Mark,
        rows: &[RowId],
    ) -> Result<i64> {
        let (_, _, last_intent) = self.writer()?;
        let intent = last_intent.fetch_add(1, Ordering::Relaxed) + 1;
        let sql = "WITH made AS (INSERT INTO mailferry.intent (ledger, id, folder, epoch, mark, source) \
             VALUES ($1, $2, $3, $4, $5, $7)) \
             INSERT INTO mailferry.intent_message SELECT $1, $2, unnest($6::bigint[])";
        let (epoch, mark) = (text(epoch.as_str()), write_mark(mark).map(text));
        let (folder, source) = (key(folder)?, key(source)?);
        self.write(sql, &[&self.id, &intent, &folder, &epoch, &mark, &rows, &source]).await?;
        Ok(intent)
    }

    async fn settle_counting(&self, settled: &[Settled], ended: Option<i64>, more: &Tallies) -> Result<()> {
        for (folder, _) in settled.iter().filter_map(|row| row.destination.as_ref()) {
            key(folder)?;
        }
        let c = SettledColumns::of(settled);
        let t = TallyColumns::of(more);
        let sql = format!(
            "WITH given AS (SELECT * FROM unnest($2::bigint[], $3::text[], $4::text[], $5::bytea[], $6::bytea[], \
             $7::text[], $8::text[], $9::bigint[], $10::bigint[], $11::int[], $12::text[], $13::text[], $14::text[], \
             $15::text[], $18::text[], $19::bigint[], $21::bytea[]) AS given (id, verdict, reason, exact, canonical, \
             message_id, subject, size, date, date_offset, flags, dst_folder, dst_epoch, dst_place, code, bound, stored)), \
             replaced AS (DELETE FROM mailferry.item WHERE ledger = $1 AND id = ANY($16::bigint[])), \
             adopted AS (DELETE FROM mailferry.foreign_message AS f USING given AS g WHERE f.ledger = $1 \
             AND f.folder = g.dst_folder AND f.epoch = g.dst_epoch AND f.place = g.dst_place), \
             ended AS (DELETE FROM mailferry.intent WHERE ledger = $1 AND id = $17), \
             {COUNT} \
             UPDATE mailferry.item AS m SET verdict = g.verdict, reason = g.reason, exact = coalesce(g.exact, m.exact), \
             canonical = coalesce(g.canonical, m.canonical), message_id = coalesce(g.message_id, m.message_id), \
             subject = coalesce(g.subject, m.subject), size = coalesce(g.size, m.size), date = coalesce(g.date, m.date), \
             date_offset = coalesce(g.date_offset, m.date_offset), flags = coalesce(g.flags, m.flags), \
             dst_folder = g.dst_folder, dst_epoch = g.dst_epoch, dst_place = g.dst_place, code = g.code, \
             stored = CASE g.verdict WHEN 'DeliveredAltered' THEN coalesce(g.stored, m.stored) END, \
             bound = g.bound, attempts = CASE g.verdict WHEN 'Pending' THEN m.attempts \
             WHEN 'Quarantined' THEN greatest(m.attempts, $20) ELSE 0 END FROM given AS g WHERE m.ledger = $1 AND m.id = g.id",
            COUNT = counting(22)
        );
        self.write(
            &sql,
            &[
                &self.id,
                &c.ids,
                &c.verdicts,
                &c.reasons,
                &c.exact,
                &c.canonical,
                &c.message_ids,
                &c.subjects,
                &c.sizes,
                &c.dates,
                &c.offsets,
                &c.flags,
                &c.folders,
                &c.epochs,
                &c.places,
                &c.replaced,
                &ended,
                &c.codes,
                &c.limits,
                &i64::from(NAMED_FROM),
                &c.stored,
                &t.names,
                &t.numbers,
                &t.keywords,
            ],
        )
        .await
    }

    async fn open_intents(&self) -> Result<Vec<Intent>> {
        // A worker of format 1 that went on while another one upgraded told no source: it is that of its messages.
        let sql = "SELECT id, folder, epoch, mark, ARRAY(SELECT message FROM mailferry.intent_message AS m \
             WHERE m.ledger = i.ledger AND m.intent = i.id ORDER BY message), CASE source WHEN '[]' THEN coalesce( \
             (SELECT m.folder FROM mailferry.intent_message AS w JOIN mailferry.item AS m ON m.ledger = w.ledger \
             AND m.id = w.message WHERE w.ledger = i.ledger AND w.intent = i.id LIMIT 1), source) ELSE source END \
             FROM mailferry.intent AS i WHERE ledger = $1 ORDER BY id";
        let rows = self.read(sql, &[&self.id]).await?;
        self.collect(&rows, |row| {
            let words = |e: tokio_postgres::Error| e.to_string();
            Ok(Intent {
                id: row.try_get(0).map_err(words)?,
                folder: read_path(row.try_get(1).map_err(words)?),
                epoch: Epoch::from(row.try_get::<_, &str>(2).map_err(words)?),
                mark: read_mark(row.try_get(3).map_err(words)?),
                rows: row.try_get(4).map_err(words)?,
                source: read_path(row.try_get(5).map_err(words)?),
            })
        })
    }

    async fn claimed(&self, folder: &FolderPath, epoch: &Epoch) -> Result<ItemIds> {
        let sql = "SELECT dst_place FROM mailferry.item \
             WHERE ledger = $1 AND dst_folder = $2 AND dst_epoch = $3 AND dst_place IS NOT NULL";
        let rows = self.read(sql, &[&self.id, &key(folder)?, &text(epoch.as_str())]).await?;
        Ok(self
            .collect(&rows, |row| read_id(row.try_get(0).map_err(|e| e.to_string())?))?
            .into_iter()
            .collect())
    }

    async fn keep_foreign(&self, folder: &FolderPath, epoch: &Epoch, found: &[Foreign]) -> Result<()> {
        if found.is_empty() {
            return Ok(());
        }
        let sql = "INSERT INTO mailferry.foreign_message \
             SELECT $1, $2, $3, * FROM unnest($4::text[], $5::bytea[], $6::bytea[], $7::text[]) \
             ON CONFLICT (ledger, folder, epoch, place) DO UPDATE SET exact = excluded.exact, \
             canonical = excluded.canonical, message_id = excluded.message_id";
        let places: Vec<String> = found.iter().map(|message| write_id(&message.id)).collect();
        let exact: Vec<&[u8]> = found.iter().map(|message| &message.known.exact.0[..]).collect();
        let canonical: Vec<&[u8]> = found.iter().map(|message| &message.known.canonical.0[..]).collect();
        let message_ids: Vec<_> =
            found.iter().map(|message| message.known.message_id.as_deref().map(text)).collect();
        let epoch = text(epoch.as_str());
        self.write(sql, &[&self.id, &key(folder)?, &epoch, &places, &exact, &canonical, &message_ids]).await
    }

    async fn foreign(&self, folder: &FolderPath, epoch: &Epoch) -> Result<Vec<Foreign>> {
        let sql = "SELECT place, exact, canonical, message_id FROM mailferry.foreign_message \
             WHERE ledger = $1 AND folder = $2 AND epoch = $3 ORDER BY place";
        let rows = self.read(sql, &[&self.id, &key(folder)?, &text(epoch.as_str())]).await?;
        self.collect(&rows, |row| {
            let known = |at| digest(row, at)?.ok_or_else(|| "a digest is missing".to_owned());
            Ok(Foreign {
                id: read_id(row.try_get(0).map_err(|e| e.to_string())?)?,
                known: Known {
                    exact: known(1)?,
                    canonical: known(2)?,
                    message_id: row.try_get(3).map_err(|e| e.to_string())?,
                    subject: None,
                },
            })
        })
    }

    async fn forget_foreign(&self, folder: &FolderPath, epoch: &Epoch, ids: &[ItemId]) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let places: Vec<String> = ids.iter().map(write_id).collect();
        let sql = "DELETE FROM mailferry.foreign_message \
             WHERE ledger = $1 AND folder = $2 AND epoch = $3 AND place = ANY($4)";
        self.write(sql, &[&self.id, &key(folder)?, &text(epoch.as_str()), &places]).await
    }

    async fn save_flags_counting(&self, rows: &[(RowId, Flags)], more: &Tallies) -> Result<()> {
        let t = TallyColumns::of(more);
        let ids: Vec<RowId> = rows.iter().map(|(id, _)| *id).collect();
        let flags: Vec<String> =
            rows.iter().map(|(_, flags)| text(&flags.to_string()).into_owned()).collect();
        let sql = format!(
            "WITH {COUNT} UPDATE mailferry.item AS m SET flags = given.flags FROM \
             unnest($2::bigint[], $3::text[]) AS given (id, flags) WHERE m.ledger = $1 AND m.id = given.id",
            COUNT = counting(4)
        );
        self.write(&sql, &[&self.id, &ids, &flags, &t.names, &t.numbers, &t.keywords]).await
    }

    async fn save_announced(&self, rows: &[(RowId, u64)]) -> Result<()> {
        let (ids, sizes): (Vec<RowId>, Vec<i64>) = rows.iter().map(|(id, size)| (*id, narrow(*size))).unzip();
        let sql = "UPDATE mailferry.item AS m SET announced = given.size \
             FROM unnest($2::bigint[], $3::bigint[]) AS given (id, size) WHERE m.ledger = $1 AND m.id = given.id";
        self.write(sql, &[&self.id, &ids, &sizes]).await
    }

    async fn add_attempts(&self, rows: &[RowId], weight: u32) -> Result<()> {
        let sql = "UPDATE mailferry.item SET attempts = attempts + $3 WHERE ledger = $1 AND id = ANY($2)";
        self.write(sql, &[&self.id, &rows, &i64::from(weight)]).await
    }

    async fn keep_unlisted(
        &self,
        folder: &FolderPath,
        messages: RangeInclusive<u64>,
        why: &str,
    ) -> Result<()> {
        self.keep_unlisted_of(folder, messages, why).await
    }

    async fn mark_gone(&self, rows: &[RowId]) -> Result<()> {
        let sql = "WITH forgotten AS (DELETE FROM mailferry.item \
             WHERE ledger = $1 AND id = ANY($2) AND verdict = 'Pending') \
             UPDATE mailferry.item SET gone = true WHERE ledger = $1 AND id = ANY($2) AND verdict <> 'Pending'";
        self.write_rows(sql, rows).await
    }

    async fn mark_listed(&self, rows: &[RowId]) -> Result<()> {
        let sql = "UPDATE mailferry.item SET gone = false WHERE ledger = $1 AND id = ANY($2)";
        self.write_rows(sql, rows).await
    }

    async fn forget(&self, rows: &[RowId]) -> Result<()> {
        let sql = "DELETE FROM mailferry.item WHERE ledger = $1 AND id = ANY($2)";
        self.write_rows(sql, rows).await
    }

    async fn detach(&self, rows: &[RowId]) -> Result<()> {
        let sql = "UPDATE mailferry.item SET protocol = 'IMAP', epoch = '0', \
             place = lpad(id::text, 10, '0') WHERE ledger = $1 AND id = ANY($2)";
        self.write_rows(sql, rows).await
    }

    async fn reopen(&self, rows: &[RowId]) -> Result<()> {
        let sql = "UPDATE mailferry.item SET verdict = 'Pending', reason = NULL, code = NULL, bound = NULL, dst_folder = NULL, \
             dst_epoch = NULL, dst_place = NULL, stored = NULL WHERE ledger = $1 AND id = ANY($2) AND NOT gone";
        self.write_rows(sql, rows).await
    }

    async fn forget_arrivals(&self, folder: &FolderPath, epoch: &Epoch) -> Result<()> {
        let sql = "WITH forgotten AS (DELETE FROM mailferry.foreign_message \
             WHERE ledger = $1 AND folder = $2 AND epoch <> $3) \
             UPDATE mailferry.item SET dst_place = NULL, dst_epoch = NULL \
             WHERE ledger = $1 AND dst_folder = $2 AND dst_epoch <> $3 AND dst_place IS NOT NULL";
        self.write(sql, &[&self.id, &key(folder)?, &text(epoch.as_str())]).await
    }

    async fn forget_cursors(&self) -> Result<()> {
        self.write("DELETE FROM mailferry.cursor WHERE ledger = $1", &[&self.id]).await
    }

    async fn rename_folder(&self, source: Option<&Renaming>, destination: Option<&Renaming>) -> Result<()> {
        self.rename(source, destination).await
    }

    async fn void_destination(&self) -> Result<()> {
        self.void_arrivals().await
    }

    async fn lost(&self) -> Failure {
        match self.link() {
            Ok(link) => link.lost().await,
            Err(failure) => failure,
        }
    }

    async fn counts(&self) -> Result<MessageCounts> {
        let sql = "SELECT verdict, count(*) FROM mailferry.item WHERE ledger = $1 GROUP BY verdict";
        let rows = self.read(sql, &[&self.id]).await?;
        let read = |row: &tokio_postgres::Row| {
            let word: String = row.try_get(0)?;
            Ok((word, row.try_get::<_, i64>(1)?))
        };
        let counted =
            self.collect(&rows, |row| read(row).map_err(|e: tokio_postgres::Error| e.to_string()))?;
        let mut counts = MessageCounts::default();
        for (word, count) in counted {
            if let Some(verdict) = Verdict::from_parts(&word, None) {
                counts.add(&verdict, count.cast_unsigned());
            }
        }
        Ok(counts)
    }

    async fn bytes_through(&self) -> Result<u64> {
        let sql = "SELECT coalesce(sum(size), 0)::bigint FROM mailferry.item
            WHERE ledger = $1 AND verdict NOT IN ('Pending', 'Shown')";
        self.count(sql, &[&self.id]).await
    }

    async fn bytes_wanted(&self) -> Result<u64> {
        let sql = "SELECT coalesce(sum(size), 0)::bigint FROM mailferry.item
            WHERE ledger = $1 AND verdict NOT IN ('Excluded', 'Shown')";
        self.count(sql, &[&self.id]).await
    }

    async fn count_discrepancies(&self) -> Result<Discrepancies> {
        self.count_discrepancies_of().await
    }

    async fn page(&self, after: RowId, limit: usize) -> Result<Vec<Row>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM mailferry.item WHERE ledger = $1 AND id > $2 ORDER BY id LIMIT $3"
        );
        let rows = self.read(&sql, &[&self.id, &after, &narrow(limit as u64)]).await?;
        self.collect(&rows, reader())
    }

    async fn fact(&self, name: &str) -> Result<Option<String>> {
        let sql = "SELECT value FROM mailferry.fact WHERE ledger = $1 AND name = $2";
        let rows = self.read(sql, &[&self.id, &name]).await?;
        Ok(self.collect(&rows, |row| row.try_get(0).map_err(|e| e.to_string()))?.pop())
    }

    async fn facts(&self, names: &[&str]) -> Result<BTreeMap<String, String>> {
        let sql = "SELECT name, value FROM mailferry.fact WHERE ledger = $1 AND name = ANY($2::text[])";
        let rows = self.read(sql, &[&self.id, &names]).await?;
        let read = |row: &tokio_postgres::Row| Ok((row.try_get(0)?, row.try_get(1)?));
        let read = self.collect(&rows, |row| read(row).map_err(|e: tokio_postgres::Error| e.to_string()))?;
        Ok(read.into_iter().collect())
    }

    async fn save_fact(&self, name: &str, value: &str) -> Result<()> {
        let sql = "INSERT INTO mailferry.fact VALUES ($1, $2, $3) \
             ON CONFLICT (ledger, name) DO UPDATE SET value = excluded.value";
        self.write(sql, &[&self.id, &name, &&*text(value)]).await
    }
}
