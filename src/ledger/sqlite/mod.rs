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

use self::columns::{read_cursor, read_row};
use self::file::{LEDGER, damaged, inspect, is_empty, prepare};
use self::readonly::open_to_read;
use super::columns::{COLUMNS, COLUMNS_1, CURSOR, UNLISTED, read_path, write_locator, write_path};
use super::{
    Cursor, Discrepancies, Foreign, Intent, Known, Ledger, NAMED_FROM, NewRow, Renaming, Row, RowId, Settled,
    Space, Tallies,
};
use crate::model::failure::{Failure, Result};
use crate::model::folder::FolderPath;
use crate::model::identity::Digest;
use crate::model::message::{Flags, Locator, Verdict};
use crate::model::progress::MessageCounts;

/// Statements that are kept prepared: more than a pass has.
const STATEMENTS_KEPT: usize = 128;

/// A ledger in a file.
#[derive(Debug, Clone)]
pub struct SqliteLedger {
    open: Arc<Mutex<Open>>,
    path: PathBuf,
    /// The columns of a row in the file's format.
    columns: &'static str,
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
        Ok(Self::of(connection, claim, path, COLUMNS))
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
        connection.pragma_update(None, "query_only", true).map_err(broken)?;
        let columns = if version < 2 { COLUMNS_1 } else { COLUMNS };
        Ok(Some(Self { open: Arc::new(Mutex::new(reader)), path: path.to_owned(), columns }))
    }

    fn of(connection: Connection, claim: Option<File>, path: &Path, columns: &'static str) -> Self {
        let open = Arc::new(Mutex::new(Open::of(connection, claim, None)));
        Self { open, path: path.to_owned(), columns }
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
                cursor.uidvalidity,
                cursor.uidnext,
                cursor.messages,
                cursor.highest_modseq.map(u64::cast_signed),
                cursor.destination_uidvalidity,
                cursor.destination_scanned,
                write_path(&cursor.destination)
            ])
            .map(drop)
        })
        .await
    }

    async fn rows(&self, folder: &FolderPath) -> Result<Vec<Row>> {
        let (folder, columns) = (write_path(folder), self.columns);
        self.read(move |t| {
            let sql = format!(
                "SELECT {columns} FROM message WHERE folder = ?1 AND protocol <> '{UNLISTED}' ORDER BY id"
            );
            t.prepare_cached(&sql)?.query_map([folder], read_row)?.collect()
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

    async fn uids_in(&self, space: &Space, after: u32, limit: usize) -> Result<Vec<(u32, RowId)>> {
        let space = space.clone();
        self.read(move |t| pages::uids_in(t, &space, after, limit)).await
    }

    async fn rows_at(&self, space: &Space, uids: &[u32]) -> Result<Vec<Row>> {
        if uids.is_empty() {
            return Ok(Vec::new());
        }
        let (space, uids) = (space.clone(), uids.to_vec());
        self.read(move |t| pages::rows_at(t, &space, &uids)).await
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
                "SELECT count(*) FROM message WHERE folder = ?1 AND verdict IN ('Delivered', 'DeliveredAltered') AND gone = 0",
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

    async fn is_elsewhere(&self, folder: &FolderPath, at: &FolderPath, uidvalidity: u32) -> Result<bool> {
        let (folder, at) = (write_path(folder), write_path(at));
        self.look_up(move |t| pages::is_elsewhere(t, &folder, &at, uidvalidity)).await
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
                "INSERT INTO message (protocol, folder, uidvalidity, uid, uidl, size, date, date_offset, flags, verdict, \
                 reason, announced) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?6)",
            )?;
            let mut ids = Vec::with_capacity(rows.len());
            for row in rows {
                let at = write_locator(&row.locator);
                insert.execute(params![
                    at.protocol,
                    at.folder,
                    at.uidvalidity,
                    at.uid,
                    at.uidl,
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
        uidvalidity: u32,
        uidnext: u32,
        rows: &[RowId],
    ) -> Result<i64> {
        let (source, folder, rows) = (write_path(source), write_path(folder), rows.to_vec());
        self.write(move |t| {
            t.prepare_cached(
                "INSERT INTO intent (folder, uidvalidity, uidnext, source) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![folder, uidvalidity, uidnext, source])?;
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
                "UPDATE message SET verdict = ?2, reason = ?3, exact = coalesce(?4, exact), canonical = coalesce(?5, canonical), \
                 message_id = coalesce(?6, message_id), subject = coalesce(?7, subject), size = coalesce(?8, size), \
                 date = coalesce(?9, date), date_offset = coalesce(?10, date_offset), flags = coalesce(?14, flags), \
                 dst_folder = ?11, dst_uidvalidity = ?12, dst_uid = ?13, code = ?15, bound = ?16, \
                 attempts = CASE ?2 WHEN 'Pending' THEN attempts WHEN 'Quarantined' THEN max(attempts, ?17) ELSE 0 END \
                 WHERE id = ?1",
            )?;
            let mut adopt =
                t.prepare_cached("DELETE FROM foreign_message WHERE folder = ?1 AND uidvalidity = ?2 AND uid = ?3")?;
            let mut forget = t.prepare_cached("DELETE FROM message WHERE id = ?1")?;
            for row in settled {
                if let Some(replaced) = row.replaces {
                    forget.execute([replaced])?;
                }
                let known = row.known.as_ref();
                let folder = row.destination.as_ref().map(|(folder, _)| write_path(folder));
                let arrival = row.destination.as_ref().map(|(_, arrival)| arrival);
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
                    arrival.map(|a| a.uidvalidity),
                    arrival.map(|a| a.uid),
                    row.flags.map(|flags| flags.to_string()),
                    row.refused.code.map(|code| code.to_string()),
                    row.refused.limit,
                    NAMED_FROM
                ])?;
                if let Some(arrival) = arrival {
                    adopt.execute(params![folder, arrival.uidvalidity, arrival.uid])?;
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

    async fn claimed(&self, folder: &FolderPath, uidvalidity: u32) -> Result<BTreeSet<u32>> {
        let folder = write_path(folder);
        self.read(move |t| {
            t.prepare_cached("SELECT dst_uid FROM message WHERE dst_folder = ?1 AND dst_uidvalidity = ?2")?
                .query_map(params![folder, uidvalidity], |r| r.get(0))?
                .collect()
        })
        .await
    }

    async fn keep_foreign(&self, folder: &FolderPath, uidvalidity: u32, found: &[Foreign]) -> Result<()> {
        if found.is_empty() {
            return Ok(());
        }
        let (folder, found) = (write_path(folder), found.to_vec());
        self.write(move |t| {
            let mut insert =
                t.prepare_cached("INSERT OR REPLACE INTO foreign_message VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
            for message in found {
                insert.execute(params![
                    folder,
                    uidvalidity,
                    message.uid,
                    message.known.exact.0,
                    message.known.canonical.0,
                    message.known.message_id
                ])?;
            }
            Ok(())
        })
        .await
    }

    async fn foreign(&self, folder: &FolderPath, uidvalidity: u32) -> Result<Vec<Foreign>> {
        let folder = write_path(folder);
        self.read(move |t| {
            t.prepare_cached(
                "SELECT uid, exact, canonical, message_id FROM foreign_message WHERE folder = ?1 AND uidvalidity = ?2 ORDER BY uid",
            )?
            .query_map(params![folder, uidvalidity], |r| {
                let known = Known {
                    exact: Digest(r.get(1)?),
                    canonical: Digest(r.get(2)?),
                    message_id: r.get(3)?,
                    subject: None,
                };
                Ok(Foreign { uid: r.get(0)?, known })
            })?
            .collect()
        })
        .await
    }

    async fn forget_foreign(&self, folder: &FolderPath, uidvalidity: u32, uids: &[u32]) -> Result<()> {
        if uids.is_empty() {
            return Ok(());
        }
        let (folder, uids) = (write_path(folder), uids.to_vec());
        self.write(move |t| {
            let mut forget = t.prepare_cached(
                "DELETE FROM foreign_message WHERE folder = ?1 AND uidvalidity = ?2 AND uid = ?3",
            )?;
            for uid in uids {
                forget.execute(params![folder, uidvalidity, uid])?;
            }
            Ok(())
        })
        .await
    }

    async fn save_flags_counting(&self, rows: &[(RowId, Flags)], more: &Tallies) -> Result<()> {
        let flags = rows.iter().map(|(id, flags)| (*id, flags.to_string())).collect();
        self.set_each(flags, "UPDATE message SET flags = ?2 WHERE id = ?1", more).await
    }

    async fn save_announced(&self, rows: &[(RowId, u64)]) -> Result<()> {
        self.set_each(rows.to_vec(), "UPDATE message SET announced = ?2 WHERE id = ?1", &Tallies::default())
            .await
    }

    async fn add_attempts(&self, rows: &[RowId], weight: u32) -> Result<()> {
        let weights = rows.iter().map(|id| (*id, weight)).collect();
        self.set_each(
            weights,
            "UPDATE message SET attempts = attempts + ?2 WHERE id = ?1",
            &Tallies::default(),
        )
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
                "DELETE FROM message WHERE id = ?1 AND verdict = 'Pending'",
                "UPDATE message SET gone = 1 WHERE id = ?1",
            ],
        )
        .await
    }

    async fn mark_listed(&self, rows: &[RowId]) -> Result<()> {
        self.for_each(rows, &["UPDATE message SET gone = 0 WHERE id = ?1"]).await
    }

    async fn forget(&self, rows: &[RowId]) -> Result<()> {
        self.for_each(rows, &["DELETE FROM message WHERE id = ?1"]).await
    }

    async fn detach(&self, rows: &[RowId]) -> Result<()> {
        // Under its own number each row is alone.
        self.for_each(
            rows,
            &["UPDATE message SET protocol = 'IMAP', uidvalidity = 0, uid = id, uidl = '' WHERE id = ?1"],
        )
        .await
    }

    async fn reopen(&self, rows: &[RowId]) -> Result<()> {
        self.for_each(rows, &[
            "UPDATE message SET verdict = 'Pending', reason = NULL, code = NULL, bound = NULL, dst_folder = NULL, \
             dst_uidvalidity = NULL, dst_uid = NULL WHERE id = ?1 AND gone = 0",
        ])
        .await
    }

    async fn forget_arrivals(&self, folder: &FolderPath, uidvalidity: u32) -> Result<()> {
        let folder = write_path(folder);
        self.write(move |t| {
            t.execute(
                "UPDATE message SET dst_uid = NULL, dst_uidvalidity = NULL WHERE dst_folder = ?1 AND dst_uidvalidity <> ?2",
                params![folder, uidvalidity],
            )?;
            t.execute(
                "DELETE FROM foreign_message WHERE folder = ?1 AND uidvalidity <> ?2",
                params![folder, uidvalidity],
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
            let sql = "SELECT coalesce(sum(size), 0) FROM message WHERE verdict NOT IN ('Pending', 'Shown')";
            t.query_row(sql, [], |r| r.get(0))
        })
        .await
    }

    async fn count_discrepancies(&self) -> Result<Discrepancies> {
        // A file of format 1 has no codes.
        let code = if self.columns == COLUMNS { "code" } else { "NULL" };
        self.read(move |t| pages::count_discrepancies(t, code)).await
    }

    async fn page(&self, after: RowId, limit: usize) -> Result<Vec<Row>> {
        let columns = self.columns;
        self.read(move |t| {
            t.prepare_cached(&format!("SELECT {columns} FROM message WHERE id > ?1 ORDER BY id LIMIT ?2"))?
                .query_map(params![after, limit], read_row)?
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
