//! Folders that are called differently from now on.

use super::{PostgresLedger, key};
use crate::ledger::Renaming;
use crate::model::failure::Result;

/// `$2` becomes `$3` at the source, `$4` becomes `$5` at the destination. Rows that another folder of the new name had
/// left there stay, for nobody looks at the old name any more.
const RENAME: &str = "WITH \
    cursors AS (UPDATE mailferry.cursor old SET \
        folder = CASE WHEN old.folder = $2::text AND NOT EXISTS \
            (SELECT 1 FROM mailferry.cursor new WHERE new.ledger = $1 AND new.folder = $3) THEN $3::text ELSE old.folder END, \
        dst_folder = CASE WHEN old.dst_folder = $4::text THEN $5::text ELSE old.dst_folder END \
        WHERE old.ledger = $1 AND (old.folder = $2 OR old.dst_folder = $4)), \
    intents AS (UPDATE mailferry.intent SET \
        folder = CASE WHEN folder = $4::text THEN $5::text ELSE folder END, \
        source = CASE WHEN source = $2::text THEN $3::text ELSE source END \
        WHERE ledger = $1 AND (folder = $4 OR source = $2)), \
    foreigners AS (UPDATE mailferry.foreign_message old SET folder = $5 WHERE old.ledger = $1 AND old.folder = $4 \
        AND NOT EXISTS (SELECT 1 FROM mailferry.foreign_message new WHERE new.ledger = $1 AND new.folder = $5 \
            AND new.epoch = old.epoch AND new.place = old.place)) \
    UPDATE mailferry.item SET \
        folder = CASE WHEN folder = $2::text THEN $3::text ELSE folder END, \
        dst_folder = CASE WHEN dst_folder = $4::text THEN $5::text ELSE dst_folder END \
    WHERE ledger = $1 AND (folder = $2 OR dst_folder = $4)";

impl PostgresLedger {
    pub(super) async fn rename(
        &self,
        source: Option<&Renaming>,
        destination: Option<&Renaming>,
    ) -> Result<()> {
        let names = |renaming: Option<&Renaming>| -> Result<[Option<String>; 2]> {
            let Some(Renaming { from, to }) = renaming else { return Ok([None, None]) };
            Ok([Some(key(from)?), Some(key(to)?)])
        };
        let [from, to] = names(source)?;
        let [old, new] = names(destination)?;
        self.write(RENAME, &[&self.id, &from, &to, &old, &new]).await
    }
}
