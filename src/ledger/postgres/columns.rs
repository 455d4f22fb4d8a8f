//! How rows and cursors lie in the columns of their tables: read one by one, written column by column.

use std::borrow::Cow;

use tokio_postgres::Row as SqlRow;
use tokio_postgres::types::FromSql;

use crate::ledger::columns::{Places, Value, protocol_of, read_mark, read_path, write_path};
use crate::ledger::tallies::KEYWORDS_LOST;
use crate::ledger::{Cursor, Known, NewRow, Refused, Row, RowId, Settled, Tallies};
use crate::model::failure::FailureCode;
use crate::model::identity::Digest;
use crate::model::message::{Epoch, Flags, InternalDate, ItemId, Verdict};

/// Text as PostgreSQL takes it: NUL is the one character that it cannot hold, and no server may stop a mailbox by it.
pub(super) fn text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

/// A size as PostgreSQL takes it; what is larger no server can mean.
pub(super) fn narrow(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn get<'a, T: FromSql<'a>>(row: &'a SqlRow, at: usize) -> Result<T, String> {
    row.try_get(at).map_err(|e| format!("column {at}: {e}"))
}

/// A column that holds a number of 32 bits.
pub(super) fn number(row: &SqlRow, at: usize) -> Result<u32, String> {
    u32::try_from(get::<i64>(row, at)?).map_err(|e| format!("column {at}: {e}"))
}

/// A column that may hold a digest.
pub(super) fn digest(row: &SqlRow, at: usize) -> Result<Option<Digest>, String> {
    let bytes: Option<&[u8]> = get(row, at)?;
    let digest = bytes.map(|bytes| bytes.try_into().map(Digest)).transpose();
    digest.map_err(|_| format!("column {at}: no digest"))
}

/// Reads the rows of one answer.
pub(super) fn reader() -> impl FnMut(&SqlRow) -> Result<Row, String> {
    let mut places = Places::default();
    move |row| read_row(row, &mut places)
}

fn read_row(row: &SqlRow, places: &mut Places) -> Result<Row, String> {
    let id = read_id(get(row, 4)?)?;
    let locator = places.locator(get(row, 1)?, get(row, 2)?, Value::Text(get(row, 3)?), id);
    let offset_minutes = get::<Option<i32>>(row, 7)?.unwrap_or(0);
    let known = match (digest(row, 9)?, digest(row, 10)?) {
        (Some(exact), Some(canonical)) => {
            Some(Known { exact, canonical, message_id: get(row, 11)?, subject: get(row, 12)? })
        }
        _ => None,
    };
    let there: (Option<&str>, Option<&str>, Option<&str>) = (get(row, 13)?, get(row, 14)?, get(row, 15)?);
    let destination = match there {
        (Some(folder), Some(epoch), Some(id)) => {
            Some(places.destination(folder, Value::Text(epoch), read_id(id)?))
        }
        _ => None,
    };
    let word: &str = get(row, 16)?;
    Ok(Row {
        id: get(row, 0)?,
        locator,
        size: get::<i64>(row, 5)?.cast_unsigned(),
        date: get::<Option<i64>>(row, 6)?.map(|unix| InternalDate { unix, offset_minutes }),
        flags: Flags::parse(get(row, 8)?),
        known,
        destination,
        verdict: Verdict::from_parts(word, get(row, 17)?).ok_or_else(|| format!("no verdict: {word}"))?,
        gone: get(row, 18)?,
        refused: Refused {
            code: get::<Option<&str>>(row, 19)?.and_then(FailureCode::from_word),
            limit: get::<Option<i64>>(row, 20)?.map(i64::cast_unsigned),
        },
        attempts: number(row, 21)?,
        announced: get::<Option<i64>>(row, 22)?.map(i64::cast_unsigned),
        stored: digest(row, 23)?,
    })
}

pub(super) fn read_cursor(row: &SqlRow) -> Result<Cursor, String> {
    Ok(Cursor {
        epoch: Epoch::from(get::<&str>(row, 0)?),
        mark: read_mark(get(row, 1)?),
        items: get::<Option<i64>>(row, 2)?.map(i64::cast_unsigned),
        proves: get(row, 3)?,
        destination_epoch: Epoch::from(get::<&str>(row, 4)?),
        destination_mark: read_mark(get(row, 5)?),
        destination: get::<Option<&str>>(row, 6)?.map(read_path).unwrap_or_default(),
    })
}

/// The column of a place: a number in ten figures, or a text behind a colon, so that numbers sort as such.
pub(super) fn write_id(id: &ItemId) -> String {
    match id {
        ItemId::Uid(uid) => format!("{uid:010}"),
        ItemId::Text(text) => format!(":{}", self::text(text)),
    }
}

/// Reads a place.
pub(super) fn read_id(column: &str) -> Result<ItemId, String> {
    match column.strip_prefix(':') {
        Some(text) => Ok(ItemId::from(text)),
        None => column.parse().map(ItemId::Uid).map_err(|e| format!("no place: {column}: {e}")),
    }
}

/// Rows that are remembered for the first time.
#[derive(Default)]
pub(super) struct Inserted<'a> {
    pub(super) protocols: Vec<&'static str>,
    pub(super) folders: Vec<String>,
    pub(super) epochs: Vec<Cow<'a, str>>,
    pub(super) places: Vec<String>,
    pub(super) sizes: Vec<i64>,
    pub(super) dates: Vec<Option<i64>>,
    pub(super) offsets: Vec<Option<i32>>,
    pub(super) flags: Vec<String>,
    pub(super) verdicts: Vec<&'static str>,
    pub(super) reasons: Vec<Option<Cow<'a, str>>>,
}

impl<'a> Inserted<'a> {
    pub(super) fn of(rows: &'a [NewRow]) -> Self {
        let mut columns = Self::default();
        for row in rows {
            columns.protocols.push(protocol_of(&row.locator));
            columns.folders.push(write_path(&row.locator.folder));
            columns.epochs.push(text(row.locator.epoch.as_str()));
            columns.places.push(write_id(&row.locator.id));
            columns.sizes.push(narrow(row.size));
            columns.dates.push(row.date.map(|date| date.unix));
            columns.offsets.push(row.date.map(|date| date.offset_minutes));
            columns.flags.push(text(&row.flags.to_string()).into_owned());
            columns.verdicts.push(row.verdict.word());
            columns.reasons.push(row.verdict.reason().map(text));
        }
        columns
    }
}

/// The outcomes of rows.
#[derive(Default)]
pub(super) struct SettledColumns<'a> {
    pub(super) ids: Vec<RowId>,
    pub(super) verdicts: Vec<&'static str>,
    pub(super) reasons: Vec<Option<Cow<'a, str>>>,
    pub(super) exact: Vec<Option<&'a [u8]>>,
    pub(super) canonical: Vec<Option<&'a [u8]>>,
    pub(super) message_ids: Vec<Option<Cow<'a, str>>>,
    pub(super) subjects: Vec<Option<Cow<'a, str>>>,
    pub(super) sizes: Vec<Option<i64>>,
    pub(super) dates: Vec<Option<i64>>,
    pub(super) offsets: Vec<Option<i32>>,
    pub(super) flags: Vec<Option<String>>,
    pub(super) folders: Vec<Option<String>>,
    pub(super) epochs: Vec<Option<Cow<'a, str>>>,
    pub(super) places: Vec<Option<String>>,
    pub(super) codes: Vec<Option<String>>,
    pub(super) limits: Vec<Option<i64>>,
    pub(super) stored: Vec<Option<&'a [u8]>>,
    /// Rows that others of these take the place of.
    pub(super) replaced: Vec<RowId>,
}

impl<'a> SettledColumns<'a> {
    pub(super) fn of(settled: &'a [Settled]) -> Self {
        let mut columns = Self::default();
        for row in settled {
            let known = row.known.as_ref();
            let arrival = row.destination.as_ref().map(|(_, arrival)| arrival);
            columns.ids.push(row.id);
            columns.verdicts.push(row.verdict.word());
            columns.reasons.push(row.verdict.reason().map(text));
            columns.exact.push(known.map(|known| &known.exact.0[..]));
            columns.canonical.push(known.map(|known| &known.canonical.0[..]));
            columns.message_ids.push(known.and_then(|known| known.message_id.as_deref()).map(text));
            columns.subjects.push(known.and_then(|known| known.subject.as_deref()).map(text));
            columns.sizes.push(row.size.map(narrow));
            columns.dates.push(row.date.map(|date| date.unix));
            columns.offsets.push(row.date.map(|date| date.offset_minutes));
            columns.flags.push(row.flags.as_ref().map(|flags| text(&flags.to_string()).into_owned()));
            columns.folders.push(row.destination.as_ref().map(|(folder, _)| write_path(folder)));
            columns.epochs.push(arrival.map(|arrival| text(arrival.epoch.as_str())));
            columns.places.push(arrival.map(|arrival| write_id(&arrival.id)));
            columns.stored.push(row.stored.as_ref().map(|stored| &stored.0[..]));
            columns.codes.push(row.refused.code.map(|code| code.to_string()));
            columns.limits.push(row.refused.limit.map(narrow));
            columns.replaced.extend(row.replaces);
        }
        columns
    }
}

/// The numbers to add to the facts that count something.
pub(super) struct TallyColumns {
    pub names: Vec<&'static str>,
    pub numbers: Vec<i64>,
    /// One text at most.
    pub keywords: Vec<String>,
}

impl TallyColumns {
    pub(super) fn of(more: &Tallies) -> Self {
        let numbers = more.additions();
        let (names, numbers) = numbers.map(|(name, number)| (name, narrow(number))).unzip();
        let keywords = Some(more.keywords()).filter(|words| !words.is_empty());
        let keywords = keywords.map(|words| text(&words).into_owned()).into_iter().collect();
        Self { names, numbers, keywords }
    }
}

/// The part of a statement that adds [`TallyColumns`], which are its parameters from this one on.
pub(super) fn counting(first: usize) -> String {
    let (second, third) = (first + 1, first + 2);
    format!(
        "counted AS (INSERT INTO mailferry.fact AS f SELECT $1, n.name, n.more::text FROM \
         unnest(${first}::text[], ${second}::bigint[]) AS n (name, more) ON CONFLICT (ledger, name) DO UPDATE SET \
         value = (coalesce(nullif(f.value, ''), '0')::bigint + excluded.value::bigint)::text), \
         named AS (INSERT INTO mailferry.fact AS f SELECT $1, '{KEYWORDS_LOST}', w.words FROM \
         unnest(${third}::text[]) AS w (words) ON CONFLICT (ledger, name) DO UPDATE SET value = (SELECT \
         string_agg(DISTINCT word, ' ') FROM unnest(string_to_array(f.value || ' ' || excluded.value, ' ')) AS word \
         WHERE word <> ''))"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_sort_as_ids_do_and_read_themselves_back() {
        let ids = [0, 9, 10, 100, u32::MAX].map(ItemId::Uid).into_iter();
        let ids: Vec<ItemId> = ids.chain(["", "0", "10", ":", "a", "b"].map(ItemId::from)).collect();
        let columns: Vec<String> = ids.iter().map(write_id).collect();
        assert!(ids.is_sorted() && columns.is_sorted(), "{columns:?}");
        assert_eq!(columns.iter().map(|column| read_id(column).unwrap()).collect::<Vec<_>>(), ids);
        assert!(read_id("x").is_err());
    }
}
