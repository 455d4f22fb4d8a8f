//! How rows lie in the columns of the table.

use rusqlite::Row as SqlRow;

use crate::ledger::columns::read_path;
use crate::ledger::{Known, Row};
use crate::model::identity::Digest;
use crate::model::message::{Arrival, Flags, InternalDate, Locator, Verdict};

pub(super) fn read_row(sql: &SqlRow<'_>) -> rusqlite::Result<Row> {
    let protocol: String = sql.get(1)?;
    let locator = if protocol == "POP3" {
        Locator::Pop3 { uidl: sql.get(5)? }
    } else {
        Locator::Imap {
            folder: read_path(&sql.get::<_, String>(2)?),
            uidvalidity: sql.get(3)?,
            uid: sql.get(4)?,
        }
    };
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
    })
}
