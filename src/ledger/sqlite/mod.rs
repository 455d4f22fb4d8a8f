//! The embedded ledger: one SQLite file a mailbox. A write is on the disk (fsync) before a call returns, except where a power
//! cut may take it back, because the next pass finds it out again: messages that were listed, and their fates. An intent is
//! always on the disk, and everything that was written before it.

mod columns;
mod file;
mod folders;
mod logins;
mod pages;
mod readonly;
mod store;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OptionalExtension, ToSql, Transaction, params};
use tempfile::TempDir;
use tokio::sync::Mutex;

pub use self::store::SqliteStore;

use self::columns::{read_cursor, read_value, reader};
use self::file::{LEDGER, damaged, inspect, is_empty, prepare, show_as_of_today};
use self::readonly::open_to_read;
use super::columns::{COLUMNS, CURSOR, UNLISTED, Value, protocol_of, read_path, write_mark, write_path};
use super::{
    Cursor, Discrepancies, Foreign, Intent, Known, Ledger, NAMED_FROM, NewRow, Renaming, Row, RowId, Settled,
    Space, Tallies,
};
use crate::model::failure::{Failure, Result};
use crate::model::folder::FolderPath;
use crate::model::identity::Digest;
use crate::model::locator::ItemIds;
use crate::model::mark::Mark;
use crate::model::message::{Epoch, Flags, ItemId, Locator, Verdict};
use crate::model::progress::MessageCounts;

/// Statements that are kept prepared: more than a pass has.
const STATEMENTS_KEPT: usize = 128;

/// A ledger in a file.
#[derive(Debug, Clone)]
pub struct SqliteLedger {
    open: Arc<Mutex<Open>>,
    path: PathBuf,
}

/// The lock goes after the connection, and both only when no transaction runs any more on a thread of its own.
#[derive(Debug)]
struct Open {
    connection: Connection,
    /// How far it waits for the disk; `None` before the first transaction.
    synchronous: Option<&'static str>,
    _claim: Option<File>,
    /// Where the copy of a ledger lies that could not be read at its place.
    _copy: Option<TempDir>,
}

impl Open {
    fn of(connection: Connection, claim: Option<File>, copy: Option<TempDir>) -> Self {
        connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
        Self { connection, synchronous: None, _claim: claim, _copy: copy }
    }
}

impl SqliteLedger {
    /// Opens a ledger, or makes an empty one. Nobody is kept out: see [`SqliteStore`].
    ///
    /// # Errors
    /// [`Class::Configuration`](crate::model::failure::Class::Configuration) for a file that is damaged, of a newer
    /// version, or no ledger; it is left as it is.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_claimed(path, None)
    }

    /// Opens a ledger and keeps `claim` as long as it is open.
    fn open_claimed(path: &Path, claim: Option<File>) -> Result<Self> {
        let broken = |e: rusqlite::Error| damaged(path, &e, &LEDGER);
        let mut connection = Connection::open(path).map_err(broken)?;
        // Else a statement that an index for some rows may serve is prepared anew whenever its values change.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(broken)?;
        prepare(&mut connection, path, &LEDGER).map_err(broken)??;
        Ok(Self::of(Open::of(connection, claim, None), path))
    }

    /// Opens a ledger to look at; `None` for one that is just being made.
    fn look(path: &Path) -> Result<Option<Self>> {
        let broken = |e: rusqlite::Error| damaged(path, &e, &LEDGER);
        let reader = open_to_read(path)?;
        let connection = &reader.connection;
        if is_empty(connection).map_err(broken)? {
            return Ok(None);
        }
        let version = inspect(connection, path, &LEDGER).map_err(broken)??;
        show_as_of_today(connection, version).map_err(broken)?;
        connection.pragma_update(None, "query_only", true).map_err(broken)?;
        Ok(Some(Self::of(reader, path)))
    }

    fn of(open: Open, path: &Path) -> Self {
        Self { open: Arc::new(Mutex::new(open)), path: path.to_owned() }
    }

    /// Reads in one transaction.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        self.run(None, work).await
    }

    /// As [`Self::read`], for a row or two that an index leads to. Nobody waits for a thread of its own, which takes longer
    /// than the answer, where no transaction is under way.
    async fn look_up<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let Ok(mut open) = self.open.try_lock() else { return self.read(work).await };
        let found = open.connection.transaction().and_then(|transaction| work(&transaction));
        found.map_err(|e| damaged(&self.path, &e, &LEDGER))
    }

    /// Writes in one transaction, which is on the disk when this returns.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        self.run(Some("FULL"), work).await
    }

    /// As [`Self::write`], for what a power cut may take back: it comes to the disk with the next transaction that must.
    /// After a kill it is there all the same.
    async fn write_loosely<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        self.run(Some("NORMAL"), work).await
    }

    /// Runs a transaction on a thread that may block, with this setting of `PRAGMA synchronous` if it writes. The next one
    /// waits here and not on a thread of its own.
    async fn run<T: Send + 'static>(
        &self,
        synchronous: Option<&'static str>,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let mut open = Arc::clone(&self.open).lock_owned().await;
        let done = tokio::task::spawn_blocking(move || {
            if synchronous.is_some() && open.synchronous != synchronous {
                open.connection.pragma_update(None, "synchronous", synchronous)?;
                open.synchronous = synchronous;
            }
            let before = open.connection.total_changes();
            let transaction = open.connection.transaction()?;
            let value = work(&transaction)?;
            let writes = transaction.total_changes() != before;
            if writes {
                crate::steps::reach();
            }
            transaction.commit()?;
            if writes {
                crate::steps::reach();
            }
            Ok(value)
        });
        done.await
            .map_err(|e| Failure::internal("the ledger's thread ended").caused_by(&e))?
            .map_err(|e| damaged(&self.path, &e, &LEDGER))
    }
}

#[async_trait]
impl Ledger for SqliteLedger {
    async fn cursor(&self, folder: &FolderPath) -> Result<Option<Cursor>> {
        let folder = write_path(folder);
        self.look_up(move |t| {
            t.prepare_cached(&format!("SELECT {CURSOR} FROM cursor WHERE folder = ?1"))?
                .query_row([folder], read_cursor)
                .optional()
        })
        .await
    }

    async fn cursors(&self) -> Result<HashMap<FolderPath, Cursor>> {
        self.read(|t| {
            t.prepare_cached(&format!("SELECT {CURSOR}, folder FROM cursor"))?
                .query_map([], |r| Ok((read_path(&r.get::<_, String>(7)?), read_cursor(r)?)))?
                .collect()
        })
        .await
    }

    async fn save_cursor(&self, folder: &FolderPath, cursor: &Cursor) -> Result<()> {
        let (folder, cursor) = (write_path(folder), cursor.clone());
        self.write_loosely(move |t| {
            t.prepare_cached(&format!(
                "INSERT OR REPLACE INTO cursor (folder, {CURSOR}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
            ))?
            .execute(params![
                folder,
                Value::of_epoch(&cursor.epoch),
                write_mark(&cursor.mark),
                cursor.items,
                cursor.proves,
                Value::of_epoch(&cursor.destination_epoch),
                write_mark(&cursor.destination_mark),
                write_path(&cursor.destination)
            ])
            .map(drop)
        })
        .await
    }

    async fn rows(&self, folder: &FolderPath) -> Result<Vec<Row>> {
        let folder = write_path(folder);
        self.read(move |t| {
            let sql = format!(
                "SELECT {COLUMNS} FROM item WHERE folder = ?1 AND protocol <> '{UNLISTED}' ORDER BY id"
            );
            t.prepare_cached(&sql)?.query_map([folder], reader())?.collect()
        })
        .await
    }

    async fn rows_in(
        &self,
        space: &Space,
        after: Option<&Locator>,
        upto: Option<&Locator>,
        limit: usize,
    ) -> Result<Vec<Row>> {
        let (space, after, upto) = (space.clone(), after.cloned(), upto.cloned());
        self.read(move |t| pages::rows_in(t, &space, after.as_ref(), upto.as_ref(), limit)).await
    }

    async fn ids_in(
        &self,
        space: &Space,
        after: Option<&ItemId>,
        limit: usize,
    ) -> Result<Vec<(ItemId, RowId)>> {
        let (space, after) = (space.clone(), after.cloned());
        self.read(move |t| pages::ids_in(t, &space, after.as_ref(), limit)).await
    }

    async fn last_ids_in(&self, space: &Space, limit: usize) -> Result<Vec<ItemId>> {
        let space = space.clone();
        self.read(move |t| pages::last_ids_in(t, &space, limit)).await
    }

    async fn rows_at(&self, space: &Space, ids: &[ItemId]) -> Result<Vec<Row>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let (space, ids) = (space.clone(), ids.to_vec());
        self.read(move |t| pages::rows_at(t, &space, &ids)).await
    }

    async fn rows_of(&self, ids: &[RowId]) -> Result<Vec<Row>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let ids = ids.to_vec();
        self.read(move |t| pages::rows_of(t, &ids)).await
    }

    async fn count_in(&self, space: &Space) -> Result<u64> {
        let space = space.clone();
        self.read(move |t| pages::count_in(t, &space)).await
    }

    async fn count_copied(&self, folder: &FolderPath) -> Result<u64> {
        let folder = write_path(folder);
        self.read(move |t| {
            t.prepare_cached(
                "SELECT count(*) FROM item WHERE folder = ?1 AND verdict IN ('Delivered', 'DeliveredAltered') AND gone = 0",
            )?
            .query_row([folder], |r| r.get(0))
        })
        .await
    }

    async fn part_void(&self, space: &Space) -> Result<Vec<Row>> {
        let space = space.clone();
        self.write(move |t| pages::part_void(t, &space)).await
    }

    async fn work(&self, space: &Space, after: RowId, limit: usize) -> Result<Vec<Row>> {
        let space = space.clone();
        self.read(move |t| pages::open(t, &space, &Verdict::Pending, after, limit)).await
    }

    async fn newest_work(&self, space: &Space, limit: usize) -> Result<Vec<Row>> {
        let space = space.clone();
        self.read(move |t| pages::newest_work(t, &space, limit)).await
    }

    async fn refused(&self, space: &Space, after: RowId, limit: usize) -> Result<Vec<Row>> {
        let space = space.clone();
        let refused = Verdict::Quarantined(String::new());
        self.read(move |t| pages::open(t, &space, &refused, after, limit)).await
    }

    async fn unbound(&self, folder: &FolderPath) -> Result<Vec<Row>> {
        let folder = write_path(folder);
        self.read(move |t| pages::unbound(t, &folder)).await
    }

    async fn count_unbound(&self) -> Result<u64> {
        self.read(pages::count_unbound).await
    }

    async fn is_elsewhere(&self, folder: &FolderPath, at: &FolderPath, epoch: &Epoch) -> Result<bool> {
        let (folder, at, epoch) = (write_path(folder), write_path(at), epoch.clone());
        self.look_up(move |t| pages::is_elsewhere(t, &folder, &at, &epoch)).await
    }

    async fn unfinished(&self) -> Result<BTreeSet<FolderPath>> {
        self.read(pages::unfinished).await
    }

    async fn identities(&self, except: &BTreeSet<FolderPath>) -> Result<HashMap<Digest, u32>> {
        let except: BTreeSet<String> = except.iter().map(write_path).collect();
        self.read(move |t| pages::identities(t, &except)).await
    }

    async fn insert(&self, rows: &[NewRow]) -> Result<Vec<RowId>> {
        let rows = rows.to_vec();
        self.write_loosely(move |t| {
            let mut insert = t.prepare_cached(
                "INSERT INTO item (protocol, folder, epoch, place, size, date, date_offset, flags, verdict, reason, announced) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?5)",
            )?;
            let mut ids = Vec::with_capacity(rows.len());
            for row in rows {
                let at = &row.locator;
                insert.execute(params![
                    protocol_of(at),
                    write_path(&at.folder),
                    Value::of_epoch(&at.epoch),
                    Value::of_id(&at.id),
                    row.size,
                    row.date.map(|d| d.unix),
                    row.date.map(|d| d.offset_minutes),
                    row.flags.to_string(),
                    row.verdict.word(),
                    row.verdict.reason()
                ])?;
                ids.push(t.last_insert_rowid());
            }
            Ok(ids)
        })
        .await
    }

    async fn begin_intent(
        &self,
        source: &FolderPath,
        folder: &FolderPath,
        epoch: &Epoch,
        mark: &Mark,
        rows: &[RowId],
    ) -> Result<i64> {
        let (source, folder, rows) = (write_path(source), write_path(folder), rows.to_vec());
        let (epoch, mark) = (epoch.clone(), mark.clone());
        self.write(move |t| {
            t.prepare_cached("INSERT INTO intent (folder, epoch, mark, source) VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![folder, Value::of_epoch(&epoch), write_mark(&mark), source])?;
            let intent = t.last_insert_rowid();
            let mut insert = t.prepare_cached("INSERT INTO intent_message VALUES (?1, ?2)")?;
            for row in rows {
                insert.execute([intent, row])?;
            }
            Ok(intent)
        })
        .await
    }

    async fn settle_counting(&self, settled: &[Settled], ended: Option<i64>, more: &Tallies) -> Result<()> {
        let (settled, more) = (settled.to_vec(), more.clone());
        self.write_loosely(move |t| {
            let mut update = t.prepare_cached(
                "UPDATE item SET verdict = ?2, reason = ?3, exact = coalesce(?4, exact), canonical = coalesce(?5, canonical), \
                 message_id = coalesce(?6, message_id), subject = coalesce(?7, subject), size = coalesce(?8, size), \
                 date = coalesce(?9, date), date_offset = coalesce(?10, date_offset), flags = coalesce(?14, flags), \
                 dst_folder = ?11, dst_epoch = ?12, dst_place = ?13, code = ?15, bound = ?16, \
                 stored = CASE ?2 WHEN 'DeliveredAltered' THEN coalesce(?18, stored) END, \
                 attempts = CASE ?2 WHEN 'Pending' THEN attempts WHEN 'Quarantined' THEN max(attempts, ?17) ELSE 0 END \
                 WHERE id = ?1",
            )?;
            let mut adopt =
                t.prepare_cached("DELETE FROM foreign_message WHERE folder = ?1 AND epoch = ?2 AND place = ?3")?;
            let mut forget = t.prepare_cached("DELETE FROM item WHERE id = ?1")?;
            for row in settled {
                if let Some(replaced) = row.replaces {
                    forget.execute([replaced])?;
                }
                let known = row.known.as_ref();
                let folder = row.destination.as_ref().map(|(folder, _)| write_path(folder));
                let arrival = row.destination.as_ref().map(|(_, arrival)| arrival);
                let arrival = arrival.map(|at| (Value::of_epoch(&at.epoch), Value::of_id(&at.id)));
                update.execute(params![
                    row.id,
                    row.verdict.word(),
                    row.verdict.reason(),
                    known.map(|k| k.exact.0),
                    known.map(|k| k.canonical.0),
                    known.and_then(|k| k.message_id.as_deref()),
                    known.and_then(|k| k.subject.as_deref()),
                    row.size,
                    row.date.map(|d| d.unix),
                    row.date.map(|d| d.offset_minutes),
                    folder,
                    arrival.map(|(epoch, _)| epoch),
                    arrival.map(|(_, id)| id),
                    row.flags.map(|flags| flags.to_string()),
                    row.refused.code.map(|code| code.to_string()),
                    row.refused.limit,
                    NAMED_FROM,
                    row.stored.map(|stored| stored.0)
                ])?;
                if let Some((epoch, id)) = arrival {
                    adopt.execute(params![folder, epoch, id])?;
                }
            }
            if let Some(intent) = ended {
                t.prepare_cached("DELETE FROM intent WHERE id = ?1")?.execute([intent])?;
            }
            pages::add_tallies(t, &more)
        })
        .await
    }

    async fn open_intents(&self) -> Result<Vec<Intent>> {
        self.read(pages::open_intents).await
    }

    async fn claimed(&self, folder: &FolderPath, epoch: &Epoch) -> Result<ItemIds> {
        let (folder, epoch) = (write_path(folder), epoch.clone());
        self.read(move |t| {
            t.prepare_cached(
                "SELECT dst_place FROM item WHERE dst_folder = ?1 AND dst_epoch = ?2 AND dst_place IS NOT NULL",
            )?
            .query_map(params![folder, Value::of_epoch(&epoch)], |r| Ok(read_value(r, 0)?.to_id()))?
            .collect()
        })
        .await
    }

    async fn keep_foreign(&self, folder: &FolderPath, epoch: &Epoch, found: &[Foreign]) -> Result<()> {
        if found.is_empty() {
            return Ok(());
        }
        let (folder, epoch, found) = (write_path(folder), epoch.clone(), found.to_vec());
        self.write(move |t| {
            let mut insert =
                t.prepare_cached("INSERT OR REPLACE INTO foreign_message VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
            for message in found {
                insert.execute(params![
                    folder,
                    Value::of_epoch(&epoch),
                    Value::of_id(&message.id),
                    message.known.exact.0,
                    message.known.canonical.0,
                    message.known.message_id
                ])?;
            }
            Ok(())
        })
        .await
    }

    async fn foreign(&self, folder: &FolderPath, epoch: &Epoch) -> Result<Vec<Foreign>> {
        let (folder, epoch) = (write_path(folder), epoch.clone());
        self.read(move |t| {
            t.prepare_cached(
                "SELECT place, exact, canonical, message_id FROM foreign_message WHERE folder = ?1 AND epoch = ?2 ORDER BY place",
            )?
            .query_map(params![folder, Value::of_epoch(&epoch)], |r| {
                let known = Known {
                    exact: Digest(r.get(1)?),
                    canonical: Digest(r.get(2)?),
                    message_id: r.get(3)?,
                    subject: None,
                };
                Ok(Foreign { id: read_value(r, 0)?.to_id(), known })
            })?
            .collect()
        })
        .await
    }

    async fn forget_foreign(&self, folder: &FolderPath, epoch: &Epoch, ids: &[ItemId]) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let (folder, epoch, ids) = (write_path(folder), epoch.clone(), ids.to_vec());
        self.write(move |t| {
            let mut forget = t.prepare_cached(
                "DELETE FROM foreign_message WHERE folder = ?1 AND epoch = ?2 AND place = ?3",
            )?;
            for id in &ids {
                forget.execute(params![folder, Value::of_epoch(&epoch), Value::of_id(id)])?;
            }
            Ok(())
        })
        .await
    }

    async fn save_flags_counting(&self, rows: &[(RowId, Flags)], more: &Tallies) -> Result<()> {
        let flags = rows.iter().map(|(id, flags)| (*id, flags.to_string())).collect();
        self.set_each(flags, "UPDATE item SET flags = ?2 WHERE id = ?1", more).await
    }

    async fn save_announced(&self, rows: &[(RowId, u64)]) -> Result<()> {
        self.set_each(rows.to_vec(), "UPDATE item SET announced = ?2 WHERE id = ?1", &Tallies::default())
            .await
    }

    async fn add_attempts(&self, rows: &[RowId], weight: u32) -> Result<()> {
        let weights = rows.iter().map(|id| (*id, weight)).collect();
        self.set_each(weights, "UPDATE item SET attempts = attempts + ?2 WHERE id = ?1", &Tallies::default())
            .await
    }

    async fn keep_unlisted(
        &self,
        folder: &FolderPath,
        messages: RangeInclusive<u64>,
        why: &str,
    ) -> Result<()> {
        let (folder, why) = (write_path(folder), why.to_owned());
        self.write_loosely(move |t| pages::keep_unlisted(t, &folder, &messages, &why)).await
    }

    async fn mark_gone(&self, rows: &[RowId]) -> Result<()> {
        self.for_each(
            rows,
            &[
                "DELETE FROM item WHERE id = ?1 AND verdict = 'Pending'",
                "UPDATE item SET gone = 1 WHERE id = ?1",
            ],
        )
        .await
    }

    async fn mark_listed(&self, rows: &[RowId]) -> Result<()> {
        self.for_each(rows, &["UPDATE item SET gone = 0 WHERE id = ?1"]).await
    }

    async fn forget(&self, rows: &[RowId]) -> Result<()> {
        self.for_each(rows, &["DELETE FROM item WHERE id = ?1"]).await
    }

    async fn detach(&self, rows: &[RowId]) -> Result<()> {
        // Under its own number each row is alone.
        self.for_each(rows, &["UPDATE item SET protocol = 'IMAP', epoch = 0, place = id WHERE id = ?1"]).await
    }

    async fn reopen(&self, rows: &[RowId]) -> Result<()> {
        self.for_each(rows, &[
            "UPDATE item SET verdict = 'Pending', reason = NULL, code = NULL, bound = NULL, dst_folder = NULL, \
             dst_epoch = NULL, dst_place = NULL, stored = NULL WHERE id = ?1 AND gone = 0",
        ])
        .await
    }

    async fn forget_arrivals(&self, folder: &FolderPath, epoch: &Epoch) -> Result<()> {
        let (folder, epoch) = (write_path(folder), epoch.clone());
        self.write(move |t| {
            t.execute(
                "UPDATE item SET dst_place = NULL, dst_epoch = NULL WHERE dst_folder = ?1 AND dst_epoch <> ?2",
                params![folder, Value::of_epoch(&epoch)],
            )?;
            t.execute(
                "DELETE FROM foreign_message WHERE folder = ?1 AND epoch <> ?2",
                params![folder, Value::of_epoch(&epoch)],
            )
            .map(drop)
        })
        .await
    }

    async fn forget_cursors(&self) -> Result<()> {
        self.write(|t| t.execute("DELETE FROM cursor", []).map(drop)).await
    }

    async fn rename_folder(&self, source: Option<&Renaming>, destination: Option<&Renaming>) -> Result<()> {
        self.rename(source, destination).await
    }

    async fn void_destination(&self) -> Result<()> {
        self.write(pages::void_destination).await
    }

    async fn counts(&self) -> Result<MessageCounts> {
        let mut counts = MessageCounts::default();
        for (word, count) in self.read(pages::count_verdicts).await? {
            if let Some(verdict) = Verdict::from_parts(&word, None) {
                counts.add(&verdict, count);
            }
        }
        Ok(counts)
    }

    async fn bytes_through(&self) -> Result<u64> {
        self.read(|t| {
            let sql = "SELECT coalesce(sum(size), 0) FROM item WHERE verdict NOT IN ('Pending', 'Shown')";
            t.query_row(sql, [], |r| r.get(0))
        })
        .await
    }

    async fn bytes_wanted(&self) -> Result<u64> {
        self.read(|t| {
            let sql = "SELECT coalesce(sum(size), 0) FROM item WHERE verdict NOT IN ('Excluded', 'Shown')";
            t.query_row(sql, [], |r| r.get(0))
        })
        .await
    }

    async fn count_discrepancies(&self) -> Result<Discrepancies> {
        self.read(pages::count_discrepancies).await
    }

    async fn page(&self, after: RowId, limit: usize) -> Result<Vec<Row>> {
        self.read(move |t| {
            t.prepare_cached(&format!("SELECT {COLUMNS} FROM item WHERE id > ?1 ORDER BY id LIMIT ?2"))?
                .query_map(params![after, limit], reader())?
                .collect()
        })
        .await
    }

    async fn fact(&self, name: &str) -> Result<Option<String>> {
        let name = name.to_owned();
        self.look_up(move |t| {
            t.prepare_cached("SELECT value FROM fact WHERE name = ?1")?
                .query_row([name], |r| r.get(0))
                .optional()
        })
        .await
    }

    async fn facts(&self, names: &[&str]) -> Result<BTreeMap<String, String>> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        self.read(move |t| {
            let mut read = t.prepare_cached("SELECT value FROM fact WHERE name = ?1")?;
            let mut facts = BTreeMap::new();
            for name in names {
                if let Some(value) = read.query_row([&name], |r| r.get(0)).optional()? {
                    facts.insert(name, value);
                }
            }
            Ok(facts)
        })
        .await
    }

    async fn save_fact(&self, name: &str, value: &str) -> Result<()> {
        let (name, value) = (name.to_owned(), value.to_owned());
        self.write(move |t| {
            t.prepare_cached("INSERT OR REPLACE INTO fact VALUES (?1, ?2)")?.execute([name, value]).map(drop)
        })
        .await
    }
}

impl SqliteLedger {
    /// Runs a statement once for each row number and its value, and adds to the tallies, in one transaction.
    async fn set_each<T: ToSql + Send + 'static>(
        &self,
        rows: Vec<(RowId, T)>,
        statement: &'static str,
        more: &Tallies,
    ) -> Result<()> {
        let more = more.clone();
        self.write_loosely(move |t| {
            let mut statement = t.prepare_cached(statement)?;
            for (row, value) in rows {
                statement.execute(params![row, value])?;
            }
            pages::add_tallies(t, &more)
        })
        .await
    }

    /// Runs statements once for each row number, in one transaction.
    async fn for_each(&self, rows: &[RowId], statements: &'static [&'static str]) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let rows = rows.to_vec();
        self.write_loosely(move |t| {
            for statement in statements {
                let mut statement = t.prepare_cached(statement)?;
                for row in &rows {
                    statement.execute([row])?;
                }
            }
            Ok(())
        })
        .await
    }
}
