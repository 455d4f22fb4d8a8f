//! The cells of a list: what parts them, which line of the file each row stands on, and the rows that a quote or a delimiter
//! too many has spoiled. A row that cannot be told for sure is refused by its line, so that nobody logs in with half a
//! password.

use std::fmt;

use super::Refusal;

/// What parts the cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delimiter {
    /// `,`
    Comma,
    /// `;`, as Excel writes where the comma is for decimals.
    Semicolon,
    /// A tab, as in Excel's "Unicode text".
    Tab,
}

impl Delimiter {
    const ALL: [Self; 3] = [Self::Comma, Self::Semicolon, Self::Tab];

    /// The character.
    pub fn byte(self) -> u8 {
        match self {
            Self::Comma => b',',
            Self::Semicolon => b';',
            Self::Tab => b'\t',
        }
    }
}

impl fmt::Display for Delimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Comma => "commas",
            Self::Semicolon => "semicolons",
            Self::Tab => "tabs",
        })
    }
}

/// Rows with their lines.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) delimiter: Delimiter,
    /// The heads of the columns, trimmed.
    pub(super) head: Vec<String>,
    /// The line of the head, from 1.
    pub(super) head_line: usize,
    /// The rows that are sound, without blank ones: line and cells.
    pub(super) rows: Vec<(usize, Vec<String>)>,
    /// The rows that are not.
    pub(super) refusals: Vec<Refusal>,
}

/// Reads a text. `known` counts the heads of a row that mean something; it decides what parts the cells.
pub(super) fn read(text: &str, known: impl Fn(&[String]) -> usize) -> Result<Table, Refusal> {
    let told = told_delimiter(text);
    let body = &text[told.map_or(0, |(_, end)| end)..];
    let first = body.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let delimiter = told.map_or_else(
        || {
            let fit = |delimiter: &Delimiter| {
                let cells = split(first, *delimiter);
                (known(&cells), cells.len())
            };
            // The first of several that fit alike.
            Delimiter::ALL.into_iter().rev().max_by_key(fit).unwrap_or(Delimiter::Comma)
        },
        |(delimiter, _)| delimiter,
    );
    let starts = line_starts(text);
    let mut records = Records::of(text, body, delimiter);
    let Some((head_line, head)) = records.next_row(&starts) else {
        return Err(Refusal::new(
            1,
            "is empty",
            "the first line names the columns: address,username,password",
        ));
    };
    let head: Vec<String> = head.iter().map(|cell| cell.trim().to_owned()).collect();
    let mut table = Table { delimiter, head, head_line, rows: Vec::new(), refusals: Vec::new() };
    if let Some(refusal) = records.refuse(head_line, &table.head, &table.head, &starts) {
        return Err(refusal);
    }
    while let Some((line, cells)) = records.next_row(&starts) {
        match records.refuse(line, &cells, &table.head, &starts) {
            Some(refusal) => table.refusals.push(refusal),
            None => table.rows.push((line, cells)),
        }
    }
    Ok(table)
}

/// The delimiter that a first line `sep=;` tells Excel, and where that line ends.
fn told_delimiter(text: &str) -> Option<(Delimiter, usize)> {
    let line = text.lines().next()?;
    let told = line.trim().to_ascii_lowercase();
    let rest = told.strip_prefix("sep=").filter(|rest| rest.len() <= 1)?;
    // A tab is trimmed away.
    let byte = rest.bytes().next().unwrap_or(b'\t');
    let delimiter = Delimiter::ALL.into_iter().find(|delimiter| delimiter.byte() == byte)?;
    Some((delimiter, line.len()))
}

fn reader(text: &str, delimiter: Delimiter) -> csv::Reader<&[u8]> {
    csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(delimiter.byte())
        .from_reader(text.as_bytes())
}

fn split(line: &str, delimiter: Delimiter) -> Vec<String> {
    let record = reader(line, delimiter).into_records().next();
    record.and_then(Result::ok).map(|record| record.iter().map(str::to_owned).collect()).unwrap_or_default()
}

/// Where each line begins; lines end with CR LF, LF or CR.
fn line_starts(text: &str) -> Vec<usize> {
    let bytes = text.as_bytes();
    let ends = |at: usize| bytes[at] == b'\n' || bytes[at] == b'\r' && bytes.get(at + 1) != Some(&b'\n');
    std::iter::once(0).chain((0..bytes.len()).filter(|at| ends(*at)).map(|at| at + 1)).collect()
}

struct Records<'a> {
    text: &'a str,
    /// Where the records begin in the text.
    offset: usize,
    delimiter: Delimiter,
    rest: csv::StringRecordsIntoIter<&'a [u8]>,
}

impl<'a> Records<'a> {
    fn of(text: &'a str, body: &'a str, delimiter: Delimiter) -> Self {
        let rest = reader(body, delimiter).into_records();
        Self { text, offset: text.len() - body.len(), delimiter, rest }
    }

    /// The next row that has anything in it, with the line that it begins on.
    fn next_row(&mut self, starts: &[usize]) -> Option<(usize, Vec<String>)> {
        loop {
            // Text is UTF-8 and rows may be of any length: nothing can fail.
            let record = self.rest.next()?.ok()?;
            if record.iter().all(|cell| cell.trim().is_empty()) {
                continue;
            }
            // A record is said to begin at what is left of the line end before it.
            let said =
                self.offset + usize::try_from(record.position().map_or(0, csv::Position::byte)).ok()?;
            let blank =
                self.text.as_bytes()[said..].iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
            let line = starts.partition_point(|start| *start <= said + blank);
            return Some((line, record.iter().map(str::to_owned).collect()));
        }
    }

    /// Why a row cannot stand.
    fn refuse(&self, line: usize, cells: &[String], head: &[String], starts: &[usize]) -> Option<Refusal> {
        let named = |at: usize| match head.get(at).filter(|name| !name.is_empty()) {
            // The head's own line may turn out to be none, so nothing of it is shown.
            Some(name) if !std::ptr::eq(cells, head) => format!("the cell under \"{}\"", Refusal::show(name)),
            _ => format!("cell {}", at + 1),
        };
        if let Some(at) = cells.iter().position(|cell| cell.contains(['\r', '\n'])) {
            let what = format!("{} begins with a quote that does not end on its line", named(at));
            let hint = "a cell that begins with \" ends with \", with \"\" for each quote inside; take line breaks out of cells";
            return Some(Refusal::new(line, what, hint));
        }
        let from = starts.get(line - 1).copied().unwrap_or_default();
        let raw = self.text[from..].split(['\r', '\n']).next().unwrap_or_default();
        if let Some(at) = find_badly_quoted(raw, char::from(self.delimiter.byte())) {
            let what = format!("{} has a quote in the wrong place", named(at));
            let hint = "a cell that begins with \" ends with \", with \"\" for each quote inside";
            return Some(Refusal::new(line, what, hint));
        }
        if cells.len() > head.len() {
            let what = format!("has {} cells, and the first line names {} columns", cells.len(), head.len());
            let hint = format!(
                "put quotes around a cell that holds one of the {} that part the cells",
                self.delimiter
            );
            return Some(Refusal::new(line, what, hint));
        }
        let unnamed = |(at, cell): &(usize, &String)| !cell.trim().is_empty() && head[*at].is_empty();
        if let Some((at, _)) = cells.iter().enumerate().find(unnamed) {
            let what = format!("cell {} stands in a column without a name", at + 1);
            let hint = format!(
                "name the column in the first line; or put quotes around a cell that holds one of the {} that part the cells",
                self.delimiter
            );
            return Some(Refusal::new(line, what, hint));
        }
        None
    }
}

/// The first cell of a line whose quotes do not enclose the whole of it (RFC 4180 §2). The reader is lenient and would take
/// `"pass"word` for `password`.
fn find_badly_quoted(line: &str, delimiter: char) -> Option<usize> {
    let mut rest = line;
    for at in 0.. {
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut from = 0;
            let end = loop {
                let end = from + quoted[from..].find('"')?;
                if !quoted[end + 1..].starts_with('"') {
                    break end + 1;
                }
                from = end + 2;
            };
            rest = &quoted[end..];
            if !(rest.is_empty() || rest.starts_with(delimiter)) {
                return Some(at);
            }
        }
        rest = rest.split_once(delimiter)?.1;
    }
    None
}
