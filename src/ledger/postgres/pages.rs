//! Questions about many rows: pages of a folder in the order of its locators, what is left to do, and steps that concern a
//! folder or the whole mailbox. They are those of `sqlite/pages.rs`.

use std::collections::{BTreeSet, HashMap};
use std::ops::RangeInclusive;

use super::columns::{digest, narrow, read_id, reader, text, write_id};
use super::{PostgresLedger, key};
use crate::ledger::columns::{COLUMNS, UNLISTED, UNLISTED_MAX, write_path, write_protocol};
use crate::ledger::{Discrepancies, Row, RowId, Space};
use crate::model::failure::{FailureCode, Result};
use crate::model::folder::FolderPath;
use crate::model::identity::Digest;
use crate::model::message::{Epoch, ItemId, Locator, Verdict};

/// The rows of a name space.
const IN_SPACE: &str = "ledger = $1 AND folder = $2 AND protocol = $3 AND epoch = $4";

impl PostgresLedger {
    pub(super) async fn find_rows_in(
        &self,
        space: &Space,
        after: Option<&Locator>,
        upto: Option<&Locator>,
        limit: usize,
    ) -> Result<Vec<Row>> {
        // Nothing comes before nothing, and all places before a letter.
        let after = after.map(|at| write_id(&at.id)).unwrap_or_default();
        let upto = upto.map_or_else(|| "~".to_owned(), |at| write_id(&at.id));
        let sql = format!(
            "SELECT {COLUMNS} FROM mailferry.item WHERE {IN_SPACE} AND place > $5 AND place <= $6 ORDER BY place LIMIT $7"
        );
        let (folder, protocol) = (key(&space.folder)?, write_protocol(space.protocol));
        let (epoch, limit) = (text(space.epoch.as_str()), narrow(limit as u64));
        let rows = self.read(&sql, &[&self.id, &folder, &protocol, &epoch, &after, &upto, &limit]).await?;
        self.collect(&rows, reader())
    }

    pub(super) async fn find_rows_at(&self, space: &Space, ids: &[ItemId]) -> Result<Vec<Row>> {
        let places: Vec<String> = ids.iter().map(write_id).collect();
        let sql = format!(
            "SELECT {COLUMNS} FROM mailferry.item WHERE {IN_SPACE} AND place = ANY($5) ORDER BY place"
        );
        let (folder, protocol) = (key(&space.folder)?, write_protocol(space.protocol));
        let epoch = text(space.epoch.as_str());
        let rows = self.read(&sql, &[&self.id, &folder, &protocol, &epoch, &places]).await?;
        self.collect(&rows, reader())
    }

    pub(super) async fn find_ids_in(
        &self,
        space: &Space,
        after: Option<&ItemId>,
        limit: usize,
    ) -> Result<Vec<(ItemId, RowId)>> {
        let sql = format!(
            "SELECT place, id FROM mailferry.item WHERE {IN_SPACE} AND place > $5 ORDER BY place LIMIT $6"
        );
        let (folder, protocol) = (key(&space.folder)?, write_protocol(space.protocol));
        let after = after.map(write_id).unwrap_or_default();
        let (epoch, limit) = (text(space.epoch.as_str()), narrow(limit as u64));
        let rows = self.read(&sql, &[&self.id, &folder, &protocol, &epoch, &after, &limit]).await?;
        self.collect(&rows, |row| {
            let words = |e: tokio_postgres::Error| e.to_string();
            Ok((read_id(row.try_get(0).map_err(words)?)?, row.try_get(1).map_err(words)?))
        })
    }

    pub(super) async fn find_last_ids_in(&self, space: &Space, limit: usize) -> Result<Vec<ItemId>> {
        let sql = format!(
            "SELECT place FROM mailferry.item WHERE {IN_SPACE} AND NOT gone ORDER BY place DESC LIMIT $5"
        );
        let (folder, protocol) = (key(&space.folder)?, write_protocol(space.protocol));
        let (epoch, limit) = (text(space.epoch.as_str()), narrow(limit as u64));
        let rows = self.read(&sql, &[&self.id, &folder, &protocol, &epoch, &limit]).await?;
        self.collect(&rows, |row| read_id(row.try_get(0).map_err(|e| e.to_string())?))
    }

    pub(super) async fn count_rows_in(&self, space: &Space) -> Result<u64> {
        let sql = format!("SELECT count(*) FROM mailferry.item WHERE {IN_SPACE} AND NOT gone");
        let (folder, protocol) = (key(&space.folder)?, write_protocol(space.protocol));
        self.count(&sql, &[&self.id, &folder, &protocol, &text(space.epoch.as_str())]).await
    }

    pub(super) async fn part_void_of(&self, space: &Space) -> Result<Vec<Row>> {
        let others = format!(
            "ledger = $1 AND folder = $2 AND NOT (protocol = $3 AND epoch = $4) AND protocol <> '{UNLISTED}'"
        );
        let (folder, protocol) = (key(&space.folder)?, write_protocol(space.protocol));
        let epoch = text(space.epoch.as_str());
        let found = self
            .count(
                &format!(
                    "SELECT count(*) FROM (SELECT 1 FROM mailferry.item WHERE {others} LIMIT 1) AS found"
                ),
                &[&self.id, &folder, &protocol, &epoch],
            )
            .await?;
        if found == 0 {
            return Ok(Vec::new());
        }
        let sql = format!(
            "DELETE FROM mailferry.item WHERE {others} \
             AND (canonical IS NULL OR verdict IN ('Pending', 'Excluded', 'Shown'))"
        );
        self.write(&sql, &[&self.id, &folder, &protocol, &epoch]).await?;
        let sql = format!("SELECT {COLUMNS} FROM mailferry.item WHERE {others} ORDER BY id");
        let rows = self.read(&sql, &[&self.id, &folder, &protocol, &epoch]).await?;
        self.collect(&rows, reader())
    }

    /// Rows with a verdict that leaves something to do.
    pub(super) async fn find_open(
        &self,
        space: &Space,
        verdict: &Verdict,
        after: RowId,
        limit: usize,
    ) -> Result<Vec<Row>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM mailferry.item WHERE {IN_SPACE} AND verdict IN ('Pending', 'Quarantined') \
             AND NOT gone AND verdict = $5 AND id > $6 ORDER BY id LIMIT $7"
        );
        let (folder, protocol) = (key(&space.folder)?, write_protocol(space.protocol));
        let (epoch, limit) = (text(space.epoch.as_str()), narrow(limit as u64));
        let rows =
            self.read(&sql, &[&self.id, &folder, &protocol, &epoch, &verdict.word(), &after, &limit]).await?;
        self.collect(&rows, reader())
    }

    pub(super) async fn find_newest(&self, space: &Space, limit: usize) -> Result<Vec<Row>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM mailferry.item WHERE {IN_SPACE} AND verdict = 'Pending' AND NOT gone \
             ORDER BY id DESC LIMIT $5"
        );
        let (folder, protocol) = (key(&space.folder)?, write_protocol(space.protocol));
        let (epoch, limit) = (text(space.epoch.as_str()), narrow(limit as u64));
        let rows = self.read(&sql, &[&self.id, &folder, &protocol, &epoch, &limit]).await?;
        let mut rows = self.collect(&rows, reader())?;
        rows.reverse();
        Ok(rows)
    }

    pub(super) async fn count_discrepancies_of(&self) -> Result<Discrepancies> {
        let sql = "SELECT verdict, CASE WHEN NOT gone THEN code END, count(*) FROM mailferry.item WHERE ledger = $1 \
             AND (verdict = 'DeliveredAltered' OR (verdict = 'Delivered' AND code IS NOT NULL)) GROUP BY 1, 2";
        let rows = self.read(sql, &[&self.id]).await?;
        let read = |row: &tokio_postgres::Row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
        let counted: Vec<(String, Option<String>, i64)> =
            self.collect(&rows, |row| read(row).map_err(|e: tokio_postgres::Error| e.to_string()))?;
        let mut found = Discrepancies::default();
        for (verdict, code, n) in counted {
            found.add(&verdict, code.as_deref(), n.cast_unsigned());
        }
        Ok(found)
    }

    pub(super) async fn count_identities(
        &self,
        except: &BTreeSet<FolderPath>,
    ) -> Result<HashMap<Digest, u32>> {
        let except: Vec<String> = except.iter().map(write_path).collect();
        let sql = "SELECT canonical, count(*) FROM mailferry.item WHERE ledger = $1 AND canonical IS NOT NULL \
             AND verdict <> 'Shown' AND NOT gone AND folder <> ALL($2) GROUP BY canonical";
        let rows = self.read(sql, &[&self.id, &except]).await?;
        let counted = self.collect(&rows, |row| {
            let count: i64 = row.try_get(1).map_err(|e| e.to_string())?;
            let digest = digest(row, 0)?.ok_or_else(|| "a digest is missing".to_owned())?;
            Ok((digest, u32::try_from(count).unwrap_or(u32::MAX)))
        })?;
        Ok(counted.into_iter().collect())
    }

    pub(super) async fn keep_unlisted_of(
        &self,
        folder: &FolderPath,
        messages: RangeInclusive<u64>,
        why: &str,
    ) -> Result<()> {
        let folder = key(folder)?;
        let known = self
            .count(
                "SELECT count(*) FROM mailferry.item WHERE ledger = $1 AND folder = $2 AND protocol = $3",
                &[&self.id, &folder, &UNLISTED],
            )
            .await?;
        let messages = narrow(known.clamp(*messages.start(), *messages.end()).min(UNLISTED_MAX));
        let known = narrow(known);
        if known > messages {
            let sql = "DELETE FROM mailferry.item WHERE ledger = $1 AND folder = $2 AND protocol = $3 AND place > $4";
            let last = write_id(&ItemId::Uid(u32::try_from(messages).unwrap_or(u32::MAX)));
            return self.write(sql, &[&self.id, &folder, &UNLISTED, &last]).await;
        }
        if known == messages {
            return Ok(());
        }
        let first = self.number_rows(messages - known)?;
        let sql = "WITH numbered AS (UPDATE mailferry.ledger SET last_row = greatest(last_row, $5::bigint + $7::bigint - $6::bigint) WHERE id = $1) \
             INSERT INTO mailferry.item (ledger, id, protocol, folder, epoch, place, size, flags, verdict, \
             reason, code) SELECT $1, $5::bigint + n - $6::bigint - 1, $3, $2, $9, lpad(n::text, 10, '0'), 0, '', \
             'Quarantined', $4, $8 \
             FROM generate_series($6::bigint + 1, $7::bigint) AS n";
        let (code, epoch) = (FailureCode::NotListed.to_string(), Epoch::unlisted());
        let epoch = epoch.as_str();
        self.write(sql, &[&self.id, &folder, &UNLISTED, &why, &first, &known, &messages, &code, &epoch]).await
    }

    pub(super) async fn void_arrivals(&self) -> Result<()> {
        let sql = "WITH doubts AS (DELETE FROM mailferry.intent WHERE ledger = $1), \
             strangers AS (DELETE FROM mailferry.foreign_message WHERE ledger = $1), \
             places AS (DELETE FROM mailferry.cursor WHERE ledger = $1), \
             gone AS (DELETE FROM mailferry.item WHERE ledger = $1 AND gone) \
             UPDATE mailferry.item SET verdict = 'Pending', reason = NULL, code = NULL, bound = NULL, attempts = 0, \
             dst_folder = NULL, dst_epoch = NULL, dst_place = NULL, stored = NULL WHERE ledger = $1 AND NOT gone \
             AND (verdict IN ('Delivered', 'DeliveredAltered', 'Pending') \
             OR (verdict = 'Quarantined' AND protocol <> 'UNLISTED'))";
        self.write(sql, &[&self.id]).await
    }
}
