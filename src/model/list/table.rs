//! The cells of a list: what parts them, which line of the file each row is on, and the rows that a quote or a
//! delimiter too many has spoiled. A row that cannot be told for sure is refused by its line, so that nobody logs in
//! with half a password.

use std::fmt;

use super::Refusal;
use crate::model::address::Address;
use crate::model::text::counted;

/// Lines that a cell may go on for before its quote counts as one that never ends.
const LINES_MAX: usize = 50;

/// The sign that parts the cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delimiter {
    /// `,`
    Comma,
    /// `;`, as Excel writes where the comma is for decimals.
    Semicolon,
    /// A tab, as in Excel's "Unicode text".
    Tab,
    /// `|`, as databases and mail servers' own tools write.
    Bar,
}

impl Delimiter {
    const ALL: [Self; 4] = [Self::Comma, Self::Semicolon, Self::Tab, Self::Bar];

    /// The character.
    pub fn byte(self) -> u8 {
        match self {
            Self::Comma => b',',
            Self::Semicolon => b';',
            Self::Tab => b'\t',
            Self::Bar => b'|',
        }
    }
}

impl fmt::Display for Delimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Comma => "commas",
            Self::Semicolon => "semicolons",
            Self::Tab => "tabs",
            Self::Bar => "vertical bars",
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
    let lines = lines(text);
    let told = lines.first().and_then(|line| told_delimiter(line));
    let first = usize::from(told.is_some());
    let is_filled = |at: &usize| !lines[*at].trim().is_empty();
    let delimiter = told.unwrap_or_else(|| {
        let head = (first..lines.len()).find(is_filled).map_or("", |at| lines[at]);
        let fit = |delimiter: &Delimiter| {
            let cells = split_anyhow(head, *delimiter);
            (known(&cells), cells.len())
        };
        // The first of several that fit alike.
        Delimiter::ALL.into_iter().rev().max_by_key(fit).unwrap_or(Delimiter::Comma)
    });
    let is_row = |at: &usize| split_anyhow(lines[*at], delimiter).iter().any(|cell| !cell.trim().is_empty());
    let mut filled = (first..lines.len()).filter(is_filled).filter(is_row);
    let Some(head_at) = filled.next() else {
        return Err(Refusal::new(
            1,
            "is empty",
            "the first line names the columns: address,username,password",
        ));
    };
    // The head's own line may turn out not to be a head, so nothing of it is shown.
    let head = split(lines[head_at], delimiter)
        .map_err(|spoiled| spoiled.refuse(head_at + 1, &format!("cell {}", spoiled.cell + 1)))?;
    let head: Vec<String> = head.iter().map(|cell| cell.trim().to_owned()).collect();
    if let Some(refusal) = refuse(head_at + 1, &head, &head, delimiter) {
        return Err(refusal);
    }
    let rows: Vec<usize> = filled.collect();
    let mut reader = Reader {
        lines: &lines,
        delimiter,
        table: Table { delimiter, head, head_line: head_at + 1, rows: Vec::new(), refusals: Vec::new() },
    };
    reader.find_other_delimiter(&rows);
    let mut next = if reader.is_lost() { lines.len() } else { 0 };
    for at in rows {
        // The lines of a cell that goes on are told with the line that it begins on.
        if at >= next {
            next = reader.read(at);
        }
    }
    Ok(reader.table)
}

/// The delimiter that a first line `sep=;` tells Excel.
fn told_delimiter(line: &str) -> Option<Delimiter> {
    let told = line.trim().to_ascii_lowercase();
    let rest = told.strip_prefix("sep=").filter(|rest| rest.len() <= 1)?;
    // A tab is trimmed away.
    let byte = rest.bytes().next().unwrap_or(b'\t');
    Delimiter::ALL.into_iter().find(|delimiter| delimiter.byte() == byte)
}

/// The lines of a text, which end with CR LF, LF or CR.
fn lines(text: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(end) = rest.find(['\r', '\n']) {
        lines.push(&rest[..end]);
        let after = &rest[end..];
        rest = after.strip_prefix("\r\n").unwrap_or(&after[1..]);
    }
    lines.push(rest);
    lines
}

/// A cell whose quotes do not enclose the whole of it.
#[derive(Debug, Clone, Copy)]
struct Spoiled {
    /// Its place among the cells of its line.
    cell: usize,
    /// Whether the line ends within it.
    is_open: bool,
}

impl Spoiled {
    fn refuse(self, line: usize, named: &str) -> Refusal {
        if self.is_open {
            let what = format!("{named} begins with a quote that does not end on its line");
            let hint = "a cell that begins with \" ends with \", with \"\" for each quote inside; take line breaks out of cells";
            return Refusal::new(line, what, hint);
        }
        let what = format!("{named} has a quote in the wrong place");
        Refusal::new(line, what, "a cell that begins with \" ends with \", with \"\" for each quote inside")
    }
}

/// Where the text that a quote began ends: the place of the quote that ends it.
fn end_of_quoted(text: &str) -> Option<usize> {
    let mut from = 0;
    loop {
        let end = from + text[from..].find('"')?;
        if !text[end + 1..].starts_with('"') {
            return Some(end);
        }
        from = end + 2;
    }
}

/// The cells of a line. Quotes enclose the whole of a cell or are letters like any other (RFC 4180 §2): a lenient reader would
/// take `"pass"word` for `password`.
fn split(line: &str, delimiter: Delimiter) -> Result<Vec<String>, Spoiled> {
    let sign = char::from(delimiter.byte());
    let mut cells = Vec::new();
    let mut rest = line;
    loop {
        let Some(quoted) = rest.strip_prefix('"') else {
            let (cell, more) = rest.split_once(sign).map_or((rest, None), |(cell, more)| (cell, Some(more)));
            cells.push(cell.to_owned());
            match more {
                Some(more) => rest = more,
                None => return Ok(cells),
            }
            continue;
        };
        let spoiled = |is_open| Spoiled { cell: cells.len(), is_open };
        let end = end_of_quoted(quoted).ok_or(spoiled(true))?;
        let (cell, after) = (quoted[..end].replace("\"\"", "\""), &quoted[end + 1..]);
        match (after.is_empty(), after.strip_prefix(sign)) {
            (_, Some(more)) => rest = more,
            (true, None) => {
                cells.push(cell);
                return Ok(cells);
            }
            (false, None) => return Err(spoiled(false)),
        }
        cells.push(cell);
    }
}

/// The cells of a line, parted at each delimiter where quotes are spoiled.
fn split_anyhow(line: &str, delimiter: Delimiter) -> Vec<String> {
    let plain =
        |_| line.split(char::from(delimiter.byte())).map(|cell| cell.trim_matches('"').to_owned()).collect();
    split(line, delimiter).unwrap_or_else(plain)
}

fn has_address(cells: &[String]) -> bool {
    cells.iter().any(|cell| cell.trim().parse::<Address>().is_ok())
}

/// The sign that parts the cells of a line, if it is another than the list's: no cell is an address, and one is if it is parted so.
fn other_delimiter(line: &str, delimiter: Delimiter) -> Option<Delimiter> {
    // Few lines need a second look: without the sign it parts nothing.
    let has_sign = |other: &Delimiter| *other != delimiter && line.contains(char::from(other.byte()));
    let mut others = Delimiter::ALL.into_iter().filter(has_sign).peekable();
    others.peek()?;
    if has_address(&split_anyhow(line, delimiter)) {
        return None;
    }
    others.find(|other| has_address(&split_anyhow(line, *other)))
}

struct Reader<'a> {
    lines: &'a [&'a str],
    /// The sign that parts the cells of the rows.
    delimiter: Delimiter,
    table: Table,
}

impl Reader<'_> {
    /// Reads the rows by another sign than the first line where they were all written so, and tells it once.
    fn find_other_delimiter(&mut self, rows: &[usize]) {
        let mut counts = [0_usize; Delimiter::ALL.len()];
        for at in rows {
            let Some(other) = other_delimiter(self.lines[*at], self.delimiter) else {
                if has_address(&split_anyhow(self.lines[*at], self.delimiter)) {
                    return;
                }
                continue;
            };
            counts[other as usize] += 1;
        }
        let Some(other) = Delimiter::ALL.into_iter().find(|other| counts[*other as usize] * 2 > rows.len())
        else {
            return;
        };
        let columns = self.table.head.len();
        let what = if columns == 1 {
            format!("names 1 column, and the rows below it have several cells, parted by {other}")
        } else {
            format!(
                "names its columns parted by {}, and the rows below it are parted by {other}",
                self.delimiter
            )
        };
        let hint = format!("name every column in the first line, parted by {other} as the rows are");
        self.table.refusals.push(Refusal::new(self.table.head_line, what, hint));
        self.delimiter = other;
    }

    /// Whether the first line names a single column and the rows have several: no row would stand, each for this one reason.
    fn is_lost(&self) -> bool {
        self.table.head.len() == 1 && self.delimiter != self.table.delimiter
    }

    /// Reads the row that begins on a line, counted from 0; the line that the next one may begin on.
    fn read(&mut self, at: usize) -> usize {
        let (line, text) = (at + 1, self.lines[at]);
        let refusal = match split(text, self.delimiter) {
            Ok(cells) => {
                let refusal = self.refuse_delimiter(line, text);
                let refusal = refusal.or_else(|| refuse(line, &cells, &self.table.head, self.delimiter));
                let Some(refusal) = refusal else {
                    self.table.rows.push((line, cells));
                    return at + 1;
                };
                refusal
            }
            Err(spoiled) => {
                let named = named(spoiled.cell, &self.table.head);
                if let Some(next) = self.find_end(at, spoiled) {
                    let what = format!("{named} holds a line break");
                    self.table.refusals.push(Refusal::new(line, what, "take line breaks out of cells"));
                    return next;
                }
                spoiled.refuse(line, &named)
            }
        };
        self.table.refusals.push(refusal);
        at + 1
    }

    fn refuse_delimiter(&self, line: usize, text: &str) -> Option<Refusal> {
        let other = other_delimiter(text, self.delimiter)?;
        let what = format!("is parted by {other}, and the other lines by {}", self.delimiter);
        Some(Refusal::new(line, what, format!("part its cells by {}", self.delimiter)))
    }

    /// The line after the end of a cell that is open at the end of its line, if it goes on over lines that are not rows
    /// of their own. A quote that was left behind must not silence the rows below it.
    fn find_end(&self, at: usize, spoiled: Spoiled) -> Option<usize> {
        if !spoiled.is_open {
            return None;
        }
        let sign = char::from(self.delimiter.byte());
        for next in (at + 1..self.lines.len()).take(LINES_MAX) {
            let line = self.lines[next];
            let cells: Vec<String> = line.split(sign).map(|cell| cell.trim_matches('"').to_owned()).collect();
            if cells.len() >= self.table.head.len() || has_address(&cells) {
                return None;
            }
            let Some(end) = end_of_quoted(line) else { continue };
            let after = &line[end + 1..];
            let rest = match after.strip_prefix(sign) {
                Some(rest) => split(rest, self.delimiter).ok()?.len(),
                None if after.is_empty() => 0,
                None => return None,
            };
            return (spoiled.cell + 1 + rest <= self.table.head.len()).then_some(next + 1);
        }
        None
    }
}

fn named(at: usize, head: &[String]) -> String {
    match head.get(at).filter(|name| !name.is_empty()) {
        Some(name) => format!("the cell under \"{}\"", Refusal::show(name)),
        None => format!("cell {}", at + 1),
    }
}

/// Why a row cannot stand, by the number of its cells.
fn refuse(line: usize, cells: &[String], head: &[String], delimiter: Delimiter) -> Option<Refusal> {
    let quote = format!("put quotes around a cell that holds one of the {delimiter} that part the cells");
    if cells.len() > head.len() {
        let columns = counted(head.len() as u64, "column", "columns");
        let what = format!("has {} cells, and the first line names {columns}", cells.len());
        return Some(Refusal::new(line, what, quote));
    }
    let unnamed = |(at, cell): &(usize, &String)| !cell.trim().is_empty() && head[*at].is_empty();
    let (at, _) = cells.iter().enumerate().find(unnamed)?;
    let what = format!("cell {} stands in a column without a name", at + 1);
    Some(Refusal::new(line, what, format!("name the column in the first line; or {quote}")))
}
