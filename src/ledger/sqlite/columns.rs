//! How rows and cursors lie in the columns of their tables.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Row as SqlRow, ToSql};

use crate::ledger::columns::{Places, Value, read_mark, read_path};
use crate::ledger::{Cursor, Known, Refused, Row};
use crate::model::failure::FailureCode;
use crate::model::folder::FolderPath;
use crate::model::identity::Digest;
use crate::model::message::{Flags, InternalDate, Verdict};

/// Reads the rows of one answer.
pub(super) fn reader() -> impl FnMut(&SqlRow<'_>) -> rusqlite::Result<Row> {
    let mut places = Places::default();
    move |sql| read_row(sql, &mut places)
}

fn read_row(sql: &SqlRow<'_>, places: &mut Places) -> rusqlite::Result<Row> {
    let (protocol, folder) = (sql.get_ref(1)?.as_str()?, sql.get_ref(2)?.as_str()?);
    let locator = places.locator(protocol, folder, read_value(sql, 3)?, read_value(sql, 4)?.to_id());
    let date = sql.get::<_, Option<i64>>(6)?.map(|unix| (unix, sql.get::<_, Option<i32>>(7)));
    let date = match date {
        Some((unix, offset)) => Some(InternalDate { unix, offset_minutes: offset?.unwrap_or(0) }),
        None => None,
    };
    let known = match (sql.get::<_, Option<[u8; 32]>>(9)?, sql.get::<_, Option<[u8; 32]>>(10)?) {
        (Some(exact), Some(canonical)) => Some(Known {
            exact: Digest(exact),
            canonical: Digest(canonical),
            message_id: sql.get(11)?,
            subject: sql.get(12)?,
        }),
        _ => None,
    };
    let destination = match (sql.get_ref(13)?, sql.get_ref(14)?, sql.get_ref(15)?) {
        (ValueRef::Null, ..) | (_, ValueRef::Null, _) | (.., ValueRef::Null) => None,
        (folder, ..) => {
            let (epoch, id) = (read_value(sql, 14)?, read_value(sql, 15)?.to_id());
            Some(places.destination(folder.as_str()?, epoch, id))
        }
    };
    let word = sql.get_ref(16)?.as_str()?;
    let verdict = Verdict::from_parts(word, sql.get(17)?).ok_or_else(|| {
        rusqlite::Error::FromSqlConversionFailure(
            16,
            rusqlite::types::Type::Text,
            format!("no verdict: {word}").into(),
        )
    })?;
    Ok(Row {
        id: sql.get(0)?,
        locator,
        size: sql.get(5)?,
        date,
        flags: Flags::parse(sql.get_ref(8)?.as_str()?),
        known,
        destination,
        verdict,
        gone: sql.get(18)?,
        refused: Refused {
            code: sql.get_ref(19)?.as_str_or_null()?.and_then(FailureCode::from_word),
            limit: sql.get(20)?,
        },
        attempts: sql.get(21)?,
        announced: sql.get(22)?,
        stored: sql.get::<_, Option<[u8; 32]>>(23)?.map(Digest),
    })
}

pub(super) fn read_cursor(r: &SqlRow<'_>) -> rusqlite::Result<Cursor> {
    Ok(Cursor {
        epoch: read_value(r, 0)?.to_epoch(),
        mark: read_mark(r.get_ref(1)?.as_str_or_null()?),
        items: r.get(2)?,
        proves: r.get(3)?,
        destination_epoch: read_value(r, 4)?.to_epoch(),
        destination_mark: read_mark(r.get_ref(5)?.as_str_or_null()?),
        destination: r.get_ref(6)?.as_str_or_null()?.map_or_else(FolderPath::default, read_path),
    })
}

/// Reads an epoch or a place.
pub(super) fn read_value<'a>(row: &'a SqlRow<'_>, at: usize) -> rusqlite::Result<Value<'a>> {
    match row.get_ref(at)? {
        ValueRef::Text(_) => Ok(Value::Text(row.get_ref(at)?.as_str()?)),
        _ => Ok(Value::Number(row.get(at)?)),
    }
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Number(number) => ToSqlOutput::from(*number),
            Self::Text(text) => ToSqlOutput::from(*text),
        })
    }
}
