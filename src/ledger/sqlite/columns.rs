//! How rows and cursors lie in the columns of their tables.

use rusqlite::Row as SqlRow;

use crate::ledger::columns::{read_locator, read_path};
use crate::ledger::{Cursor, Known, Refused, Row};
use crate::model::failure::FailureCode;
use crate::model::folder::FolderPath;
use crate::model::identity::Digest;
use crate::model::message::{Arrival, Flags, InternalDate, Verdict};

pub(super) fn read_row(sql: &SqlRow<'_>) -> rusqlite::Result<Row> {
    let (protocol, folder): (String, String) = (sql.get(1)?, sql.get(2)?);
    let locator = read_locator(&protocol, &folder, sql.get(3)?, sql.get(4)?, sql.get(5)?);
    let date = sql.get::<_, Option<i64>>(7)?.map(|unix| (unix, sql.get::<_, Option<i32>>(8)));
    let date = match date {
        Some((unix, offset)) => Some(InternalDate { unix, offset_minutes: offset?.unwrap_or(0) }),
        None => None,
    };
    let known = match (sql.get::<_, Option<[u8; 32]>>(10)?, sql.get::<_, Option<[u8; 32]>>(11)?) {
        (Some(exact), Some(canonical)) => Some(Known {
            exact: Digest(exact),
            canonical: Digest(canonical),
            message_id: sql.get(12)?,
            subject: sql.get(13)?,
        }),
        _ => None,
    };
    let destination = match (sql.get::<_, Option<String>>(14)?, sql.get(15)?, sql.get(16)?) {
        (Some(folder), Some(uidvalidity), Some(uid)) => {
            Some((read_path(&folder), Arrival { uidvalidity, uid }))
        }
        _ => None,
    };
    let word: String = sql.get(17)?;
    let verdict = Verdict::from_parts(&word, sql.get(18)?).ok_or_else(|| {
        rusqlite::Error::FromSqlConversionFailure(
            17,
            rusqlite::types::Type::Text,
            format!("no verdict: {word}").into(),
        )
    })?;
    Ok(Row {
        id: sql.get(0)?,
        locator,
        size: sql.get(6)?,
        date,
        flags: Flags::parse(&sql.get::<_, String>(9)?),
        known,
        destination,
        verdict,
        gone: sql.get(19)?,
        refused: Refused {
            code: sql.get::<_, Option<String>>(20)?.and_then(|word| FailureCode::from_word(&word)),
            limit: sql.get(21)?,
        },
        attempts: sql.get(22)?,
        announced: sql.get(23)?,
    })
}

pub(super) fn read_cursor(r: &SqlRow<'_>) -> rusqlite::Result<Cursor> {
    Ok(Cursor {
        uidvalidity: r.get(0)?,
        uidnext: r.get(1)?,
        messages: r.get(2)?,
        highest_modseq: r.get::<_, Option<i64>>(3)?.map(i64::cast_unsigned),
        destination_uidvalidity: r.get(4)?,
        destination_scanned: r.get(5)?,
        destination: r.get::<_, Option<String>>(6)?.map_or_else(FolderPath::default, |text| read_path(&text)),
    })
}
