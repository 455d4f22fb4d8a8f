//! Questions about many rows: pages of a folder in the order of its locators, what is left to do, and steps that concern a
//! folder or the whole mailbox. They are those of `sqlite/pages.rs`.

use std::collections::{BTreeSet, HashMap};
use std::ops::RangeInclusive;

use super::columns::{digest, narrow, read_row};
use super::{PostgresLedger, key};
use crate::ledger::columns::{COLUMNS, UNLISTED, UNLISTED_MAX, write_path, write_place, write_protocol};
use crate::ledger::{Discrepancies, Row, RowId, Space};
use crate::model::failure::{FailureCode, Result};
use crate::model::folder::FolderPath;
use crate::model::identity::Digest;
use crate::model::message::{Locator, Verdict};

/// The rows of a name space.
const IN_SPACE: &str = "ledger = $1 AND folder = $2 AND protocol = $3 AND uidvalidity = $4";

impl PostgresLedger {
    pub(super) async fn find_rows_in(
        &self,
        space: &Space,
        after: Option<&Locator>,
        upto: Option<&Locator>,
        limit: usize,
    ) -> Result<Vec<Row>> {
        let place = |at: &Locator| {
            let (uid, uidl) = write_place(at);
            (i64::from(uid), uidl.to_owned())
        };
        let (after, upto) =
            (after.map_or((-1, String::new()), place), upto.map_or((i64::MAX, String::new()), place));
        let sql = format!(
            "SELECT {COLUMNS} FROM mailferry.message WHERE {IN_SPACE} AND (uid, uidl) > ($5, $6) AND (uid, uidl) <= ($7, $8) \
             ORDER BY uid, uidl LIMIT $9"
        );
        let (folder, protocol) = (key(&space.folder)?, write_protocol(space.protocol));
        let uidvalidity = i64::from(space.uidvalidity);
        let rows = self
            .read(
                &sql,
                &[
                    &self.id,
                    &folder,
                    &protocol,
                    &uidvalidity,
                    &after.0,
                    &after.1,
                    &upto.0,
                    &upto.1,
                    &narrow(limit as u64),
                ],
            )
            .await?;
        self.collect(&rows, read_row)
    }

    pub(super) async fn find_rows_at(&self, space: &Space, uids: &[u32]) -> Result<Vec<Row>> {
        let uids: Vec<i64> = uids.iter().map(|uid| i64::from(*uid)).collect();
        let sql = format!(
            "SELECT {COLUMNS} FROM mailferry.message WHERE {IN_SPACE} AND uid = ANY($5) ORDER BY uid, uidl"
        );
        let (folder, protocol) = (key(&space.folder)?, write_protocol(space.protocol));
        let uidvalidity = i64::from(space.uidvalidity);
        let rows = self.read(&sql, &[&self.id, &folder, &protocol, &uidvalidity, &uids]).await?;
        self.collect(&rows, read_row)
    }

    pub(super) async fn find_uids_in(
        &self,
        space: &Space,
        after: u32,
        limit: usize,
    ) -> Result<Vec<(u32, RowId)>> {
        let sql = format!(
            "SELECT uid, id FROM mailferry.message WHERE {IN_SPACE} AND uid > $5 ORDER BY uid LIMIT $6"
        );
        let (folder, protocol) = (key(&space.folder)?, write_protocol(space.protocol));
        let (uidvalidity, after) = (i64::from(space.uidvalidity), i64::from(after));
        let limit = narrow(limit as u64);
        let rows = self.read(&sql, &[&self.id, &folder, &protocol, &uidvalidity, &after, &limit]).await?;
        let read = |row: &tokio_postgres::Row| -> std::result::Result<(u32, RowId), String> {
            let uid: i64 = row.try_get(0).map_err(|e| e.to_string())?;
            let id: i64 = row.try_get(1).map_err(|e| e.to_string())?;
            Ok((u32::try_from(uid).map_err(|e| e.to_string())?, id))
        };
        self.collect(&rows, read)
    }

    pub(super) async fn count_rows_in(&self, space: &Space) -> Result<u64> {
        let sql = format!("SELECT count(*) FROM mailferry.message WHERE {IN_SPACE} AND NOT gone");
        let (folder, protocol) = (key(&space.folder)?, write_protocol(space.protocol));
        self.count(&sql, &[&self.id, &folder, &protocol, &i64::from(space.uidvalidity)]).await
    }

    pub(super) async fn part_void_of(&self, space: &Space) -> Result<Vec<Row>> {
        let others = format!(
            "ledger = $1 AND folder = $2 AND NOT (protocol = $3 AND uidvalidity = $4) AND protocol <> '{UNLISTED}'"
        );
        let (folder, protocol) = (key(&space.folder)?, write_protocol(space.protocol));
        let uidvalidity = i64::from(space.uidvalidity);
        let found = self
            .count(
                &format!(
                    "SELECT count(*) FROM (SELECT 1 FROM mailferry.message WHERE {others} LIMIT 1) AS found"
                ),
                &[&self.id, &folder, &protocol, &uidvalidity],
            )
            .await?;
        if found == 0 {
            return Ok(Vec::new());
        }
        let sql = format!(
            "DELETE FROM mailferry.message WHERE {others} \
             AND (canonical IS NULL OR verdict IN ('Pending', 'Excluded', 'Shown'))"
        );
        self.write(&sql, &[&self.id, &folder, &protocol, &uidvalidity]).await?;
        let sql = format!("SELECT {COLUMNS} FROM mailferry.message WHERE {others} ORDER BY id");
        let rows = self.read(&sql, &[&self.id, &folder, &protocol, &uidvalidity]).await?;
        self.collect(&rows, read_row)
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
            "SELECT {COLUMNS} FROM mailferry.message WHERE {IN_SPACE} AND verdict IN ('Pending', 'Quarantined') \
             AND NOT gone AND verdict = $5 AND id > $6 ORDER BY id LIMIT $7"
        );
        let (folder, protocol) = (key(&space.folder)?, write_protocol(space.protocol));
        let (uidvalidity, limit) = (i64::from(space.uidvalidity), narrow(limit as u64));
        let rows = self
            .read(&sql, &[&self.id, &folder, &protocol, &uidvalidity, &verdict.word(), &after, &limit])
            .await?;
        self.collect(&rows, read_row)
    }

    pub(super) async fn find_newest(&self, space: &Space, limit: usize) -> Result<Vec<Row>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM mailferry.message WHERE {IN_SPACE} AND verdict = 'Pending' AND NOT gone \
             ORDER BY id DESC LIMIT $5"
        );
        let (folder, protocol) = (key(&space.folder)?, write_protocol(space.protocol));
        let (uidvalidity, limit) = (i64::from(space.uidvalidity), narrow(limit as u64));
        let rows = self.read(&sql, &[&self.id, &folder, &protocol, &uidvalidity, &limit]).await?;
        let mut rows = self.collect(&rows, read_row)?;
        rows.reverse();
        Ok(rows)
    }

    pub(super) async fn count_discrepancies_of(&self) -> Result<Discrepancies> {
        let sql = "SELECT verdict, CASE WHEN NOT gone THEN code END, count(*) FROM mailferry.message WHERE ledger = $1 \
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
        let sql = "SELECT canonical, count(*) FROM mailferry.message WHERE ledger = $1 AND canonical IS NOT NULL \
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
                "SELECT count(*) FROM mailferry.message WHERE ledger = $1 AND folder = $2 AND protocol = $3",
                &[&self.id, &folder, &UNLISTED],
            )
            .await?;
        let messages = narrow(known.clamp(*messages.start(), *messages.end()).min(UNLISTED_MAX));
        let known = narrow(known);
        if known > messages {
            let sql = "DELETE FROM mailferry.message WHERE ledger = $1 AND folder = $2 AND protocol = $3 AND uid > $4";
            return self.write(sql, &[&self.id, &folder, &UNLISTED, &messages]).await;
        }
        if known == messages {
            return Ok(());
        }
        let first = self.number_rows(messages - known)?;
        let sql = "WITH numbered AS (UPDATE mailferry.ledger SET last_row = greatest(last_row, $5::bigint + $7::bigint - $6::bigint) WHERE id = $1) \
             INSERT INTO mailferry.message (ledger, id, protocol, folder, uidvalidity, uid, uidl, size, flags, verdict, \
             reason, code) SELECT $1, $5::bigint + n - $6::bigint - 1, $3, $2, 0, n, '', 0, '', 'Quarantined', $4, $8 \
             FROM generate_series($6::bigint + 1, $7::bigint) AS n";
        let code = FailureCode::NotListed.to_string();
        self.write(sql, &[&self.id, &folder, &UNLISTED, &why, &first, &known, &messages, &code]).await
    }

    pub(super) async fn void_arrivals(&self) -> Result<()> {
        let sql = "WITH doubts AS (DELETE FROM mailferry.intent WHERE ledger = $1), \
             strangers AS (DELETE FROM mailferry.foreign_message WHERE ledger = $1), \
             places AS (DELETE FROM mailferry.cursor WHERE ledger = $1), \
             gone AS (DELETE FROM mailferry.message WHERE ledger = $1 AND gone) \
             UPDATE mailferry.message SET verdict = 'Pending', reason = NULL, code = NULL, bound = NULL, attempts = 0, \
             dst_folder = NULL, dst_uidvalidity = NULL, dst_uid = NULL WHERE ledger = $1 AND NOT gone \
             AND (verdict IN ('Delivered', 'DeliveredAltered', 'Pending') \
             OR (verdict = 'Quarantined' AND protocol <> 'UNLISTED'))";
        self.write(sql, &[&self.id]).await
    }
}
