//! Lists of mailboxes, as spreadsheets and mail systems export them: rows with addresses, names and passwords. A list is read
//! whole or refused with the line of every row that cannot stand. No refusal repeats a cell, since any may be a password
//! that slipped.

mod guess;
mod table;
mod text;

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use unicode_normalization::UnicodeNormalization;

pub use self::guess::guess;
pub use self::table::Delimiter;
pub use self::text::{Encoding, decode};
use super::address::Address;
use super::secret::Secret;
use super::text::{cut, printable};

/// The most rows of a list.
pub const ROWS_MAX: usize = 100_000;
/// The longest name of a column that is shown, in bytes.
const SHOWN_MAX: usize = 60;
/// The most names of columns that are shown.
const SHOWN: usize = 20;
/// The longest login name, in characters.
const USERNAME_MAX: usize = 320;

/// The meaning of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Column {
    /// The address of the mailbox at the source.
    Address,
    /// The name that it logs in with at the source.
    Username,
    /// Its password at the source.
    Password,
    /// Its refresh token, where tokens open it.
    RefreshToken,
    /// Its address at the destination.
    Destination,
    /// The name that it logs in with at the destination.
    DestinationUsername,
    /// Its password at the destination.
    DestinationPassword,
}

impl Column {
    /// Every column.
    pub const ALL: [Self; 7] = [
        Self::Address,
        Self::Username,
        Self::Password,
        Self::RefreshToken,
        Self::Destination,
        Self::DestinationUsername,
        Self::DestinationPassword,
    ];

    /// The names that a column has in every list. Names are compared without regard to case, blanks and signs.
    fn known_names(self) -> &'static [&'static str] {
        match self {
            // The second is Microsoft's, in the lists of its own migrations; the last is that of Get-Mailbox.
            Self::Address => &["address", "EmailAddress", "email", "PrimarySmtpAddress"],
            Self::Username => &["username"],
            Self::Password => &["password"],
            Self::RefreshToken => &["refreshToken"],
            Self::Destination => &["destination"],
            Self::DestinationUsername => &["destinationUsername"],
            Self::DestinationPassword => &["destinationPassword"],
        }
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.known_names()[0])
    }
}

/// The names that columns have in the lists of one migration, beside those that are known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heads {
    /// As they are compared.
    folded: BTreeMap<Column, Vec<String>>,
    /// As they were given.
    given: BTreeMap<Column, Vec<String>>,
}

impl Heads {
    /// Whether a name of a column is known without being given.
    pub fn is_known(column: Column, name: &str) -> bool {
        column.known_names().iter().any(|known| fold(known) == fold(name))
    }

    /// Names of columns, as the manifest gives them.
    pub fn new(names: impl IntoIterator<Item = (Column, Vec<String>)>) -> Self {
        let given: BTreeMap<Column, Vec<String>> = names.into_iter().collect();
        let fold_all = |names: &Vec<String>| names.iter().map(|name| fold(name)).collect();
        let folded = given.iter().map(|(column, names)| (*column, fold_all(names))).collect();
        Self { folded, given }
    }

    /// The places of a column among the names of a list. A name that the manifest gives counts before those that are known:
    /// a list may have a column `address` for the street.
    fn places(&self, column: Column, head: &[String]) -> Vec<usize> {
        let find = |wanted: &dyn Fn(&str) -> bool| -> Vec<usize> {
            let named = head.iter().enumerate().filter(|(_, name)| wanted(&fold(name)));
            named.map(|(at, _)| at).collect()
        };
        let given =
            self.folded.get(&column).map(|names| find(&|name| names.iter().any(|given| given == name)));
        given.filter(|places| !places.is_empty()).unwrap_or_else(|| {
            let taken = |name: &str| self.folded.values().flatten().any(|given| given == name);
            find(&|name| column.known_names().iter().any(|known| fold(known) == name) && !taken(name))
        })
    }

    fn count_known(&self, head: &[String]) -> usize {
        Column::ALL.iter().filter(|column| !self.places(**column, head).is_empty()).count()
    }
}

/// A name of a column as it is compared: its letters and digits in small ones.
pub fn fold(name: &str) -> String {
    name.nfc().filter(|c| c.is_alphanumeric()).collect::<String>().to_lowercase()
}

/// Why a list, or one row of it, cannot stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The line, from 1; the first where it is about the list as a whole.
    pub line: usize,
    /// The fault, as the rest of a sentence that begins with the line.
    pub what: String,
    /// Another line, with which the sentence ends.
    pub other: Option<usize>,
    /// The remedy.
    pub hint: String,
}

impl Refusal {
    fn new(line: usize, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { line, what: what.into(), other: None, hint: hint.into() }
    }

    fn show(name: &str) -> String {
        cut(&printable(name), SHOWN_MAX)
    }
}

/// One row.
#[derive(Debug, Clone)]
pub struct Row {
    /// The line that it is on, from 1.
    pub line: usize,
    /// The mailbox at the source.
    pub address: Address,
    /// The name that it logs in with at the source.
    pub username: Option<String>,
    /// Its password at the source.
    pub password: Option<Secret>,
    /// Its refresh token.
    pub refresh_token: Option<Secret>,
    /// The mailbox at the destination.
    pub destination: Option<Address>,
    /// The name that it logs in with at the destination.
    pub destination_username: Option<String>,
    /// Its password at the destination.
    pub destination_password: Option<Secret>,
}

/// A list that was read.
#[derive(Debug, Clone)]
pub struct List {
    /// The rows, in their order, each mailbox once.
    pub rows: Vec<Row>,
    /// Rows that say once more what another said: their line, and the line of the other.
    pub repeated: Vec<(usize, usize)>,
    /// How its letters were written.
    pub encoding: Encoding,
    /// The sign that parts its cells.
    pub delimiter: Delimiter,
    columns: Vec<Column>,
    places: HashMap<Address, usize>,
}

/// A list that cannot stand.
#[derive(Debug)]
pub struct Refused {
    /// Every refusal, in the order of the lines.
    pub refusals: Vec<Refusal>,
    /// The rows that are valid, where the columns are known: they are reported like those of any list, and none is
    /// carried.
    pub rest: Option<Box<List>>,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { refusals: vec![refusal], rest: None }
    }
}

impl List {
    /// Reads a list.
    ///
    /// # Errors
    /// Every refusal, in the order of the lines.
    pub fn read(bytes: &[u8], heads: &Heads) -> Result<Self, Refused> {
        let (text, encoding) = decode(bytes).map_err(|(what, hint)| Refusal::new(1, what, hint))?;
        let mut table = table::read(&text, |head| heads.count_known(head))?;
        let mut refusals = std::mem::take(&mut table.refusals);
        let (places, ambiguous) = find_places(&table, heads);
        refusals.extend(ambiguous);
        refusals.extend(find_misnamed(&table, heads, &places));
        let is_alone = table.rows.is_empty() && refusals.is_empty();
        if heads.places(Column::Address, &table.head).is_empty() {
            let (is_head, refusal) = refuse_head(&table, places.is_empty(), is_alone);
            // By a first line that names nothing no row is measured.
            if !is_head {
                return Err(refusal.into());
            }
            refusals.push(refusal);
        } else if is_alone {
            return Err(refuse_empty(&table).into());
        }
        if !places.contains_key(&Column::Address) {
            refusals.sort_by_key(|refusal| refusal.line);
            return Err(Refused { refusals, rest: None });
        }
        let mut rows: Vec<Row> = Vec::new();
        let mut repeated = Vec::new();
        let mut known: HashMap<Address, usize> = HashMap::new();
        for (line, cells) in &table.rows {
            let row = match read_row(*line, cells, &places, &table.head) {
                Ok(row) => row,
                Err(refused) => {
                    refusals.extend(refused);
                    continue;
                }
            };
            if let Some(first) = known.get(&row.address).map(|at| &rows[*at]) {
                if says_the_same(first, &row) {
                    repeated.push((row.line, first.line));
                } else {
                    let what = "lists a mailbox again and says something else of it than";
                    let refusal = Refusal::new(*line, what, "keep one of the two rows");
                    refusals.push(Refusal { other: Some(first.line), ..refusal });
                }
                continue;
            }
            if rows.len() >= ROWS_MAX {
                let what = format!("is beyond the {ROWS_MAX} rows that a list may have");
                refusals.push(Refusal::new(*line, what, "part it into several lists"));
                break;
            }
            known.insert(row.address.clone(), rows.len());
            rows.push(row);
        }
        let unopened = find_without_password(&rows, &places, &table.head);
        let columns = places.into_keys().collect();
        let delimiter = table.delimiter;
        let list = Self { rows, repeated, encoding, delimiter, columns, places: known };
        if refusals.is_empty() {
            return Ok(list);
        }
        // A row needs a password where a login is looked for; where the list is refused none is, and a second look should
        // find nothing that the first could have told.
        refusals.extend(unopened);
        refusals.sort_by_key(|refusal| refusal.line);
        Err(Refused { refusals, rest: Some(Box::new(list)) })
    }

    /// The row of a mailbox at the source.
    pub fn find(&self, mailbox: &Address) -> Option<&Row> {
        self.rows.get(*self.places.get(mailbox)?)
    }

    /// Whether a column is there.
    pub fn has(&self, column: Column) -> bool {
        self.columns.contains(&column)
    }

    /// The form that it was read as: `UTF-8, cells parted by semicolons`.
    pub fn form(&self) -> String {
        format!("{}, cells parted by {}", self.encoding, self.delimiter)
    }
}

/// The columns of a table of which nothing is known but their names and cells; for whoever proposes what they mean.
#[derive(Debug)]
pub struct Sketch {
    /// The names of the columns.
    pub head: Vec<String>,
    /// For each column, how many cells are mail addresses.
    pub addresses: Vec<usize>,
    /// For each column, how many cells hold something.
    pub filled: Vec<usize>,
    /// For each column, how many cells were meant to be mail addresses: they have an `@`.
    pub like_addresses: Vec<usize>,
    /// How many rows there are.
    pub rows: usize,
}

/// Looks at a list whose columns are not known yet. Rows that cannot stand are passed over.
///
/// # Errors
/// A refusal of the list as a whole.
pub fn sketch(bytes: &[u8]) -> Result<Sketch, Refusal> {
    let (text, _) = decode(bytes).map_err(|(what, hint)| Refusal::new(1, what, hint))?;
    let heads = Heads::default();
    let table = table::read(&text, |head| heads.count_known(head))?;
    let addresses = count_addresses(&table);
    let filled = count(&table, |cell| !cell.trim().is_empty());
    let like_addresses = count(&table, |cell| cell.contains('@'));
    Ok(Sketch { rows: table.rows.len(), head: table.head, addresses, filled, like_addresses })
}

/// For each column, how many cells are of a kind.
fn count(table: &table::Table, is_so: impl Fn(&str) -> bool) -> Vec<usize> {
    let is_so = |cell: &String| is_so(cell);
    let count = |at: usize| table.rows.iter().filter(|(_, cells)| cells.get(at).is_some_and(is_so)).count();
    (0..table.head.len()).map(count).collect()
}

/// For each column, how many cells are mail addresses.
fn count_addresses(table: &table::Table) -> Vec<usize> {
    count(table, |cell| cell.trim().parse::<Address>().is_ok())
}

/// Where each column is, and a refusal for each that is there twice.
fn find_places(table: &table::Table, heads: &Heads) -> (BTreeMap<Column, usize>, Vec<Refusal>) {
    let mut places = BTreeMap::new();
    let mut refusals = Vec::new();
    for column in Column::ALL {
        let found = heads.places(column, &table.head);
        let Some((one, more)) = found.split_first() else { continue };
        let Some(other) = more.first() else {
            places.insert(column, *one);
            continue;
        };
        let is_alike = |(one, other): (&usize, &usize)| fold(&table.head[*one]) == fold(&table.head[*other]);
        let shown = [one, other].map(|at| Refusal::show(&table.head[*at]));
        let what = format!("has {} columns for {column}, \"{}\"", found.len(), shown.join("\" and \""));
        // A manifest tells columns apart by their names.
        let hint = if found.iter().zip(more).any(is_alike) {
            format!(
                "two columns have one name: take one of them out, or name it otherwise in line {}",
                table.head_line
            )
        } else {
            format!("say which it is in the manifest: spec.columns: {{{column}: [\"{}\"]}}", shown[1])
        };
        refusals.push(Refusal::new(table.head_line, what, hint));
    }
    (places, refusals)
}

/// The refusal of a list that has nothing below its first line.
fn refuse_empty(table: &table::Table) -> Refusal {
    let hint = "the first line names the columns, and each line below it is a mailbox: add them";
    Refusal::new(table.head_line, "is the only line, so the list has no mailbox", hint)
}

/// The refusal of a list without a column of addresses, and whether its first line is sure to be names of columns and not a row
/// with a password. Only then is it shown.
fn refuse_head(table: &table::Table, unknown: bool, is_alone: bool) -> (bool, Refusal) {
    let addresses = count_addresses(table);
    let is_row = table.head.iter().any(|cell| cell.contains('@'));
    let is_head = !is_row && (!unknown || addresses.iter().any(|count| *count > 0));
    if let Some(source) = table.head.first().and_then(|first| first.split_once(':')).filter(|_| !is_head)
        && matches!(source.0, "file" | "env")
    {
        let what = format!("says {}: in place of a list", source.0);
        let hint = "a cluster reads no files: put the list itself there, as in kubectl create secret generic NAME --from-file=mailboxes.csv";
        return (false, Refusal::new(table.head_line, what, hint));
    }
    if is_alone && !is_row {
        return (false, refuse_empty(table));
    }
    if !is_head {
        let what = if is_row { "is a row and names no columns" } else { "names no column address" };
        let hint = "write a first line that names the columns: address,username,password";
        return (false, Refusal::new(table.head_line, what, hint));
    }
    let named: Vec<&String> = table.head.iter().filter(|name| !name.is_empty()).collect();
    let mut shown: Vec<String> =
        named.iter().take(SHOWN).map(|name| format!("\"{}\"", Refusal::show(name))).collect();
    if named.len() > SHOWN {
        shown.push(format!("and {} more", named.len() - SHOWN));
    }
    let what = format!("names no column address; its columns are {}", shown.join(", "));
    let best = (0..addresses.len()).max_by_key(|at| (addresses[*at], std::cmp::Reverse(*at)));
    let best = best.filter(|at| addresses[*at] > 0).map_or("…", |at| table.head[at].as_str());
    let hint = format!(
        "call it address in that line, or say in the manifest which column is which: spec.columns: {{address: [\"{}\"]}}, and so for username, password, destination, \
         destinationUsername, destinationPassword",
        Refusal::show(best)
    );
    (true, Refusal::new(table.head_line, what, hint))
}

/// Reads a row, or tells every cell of it that cannot stand.
fn read_row(
    line: usize,
    cells: &[String],
    places: &BTreeMap<Column, usize>,
    head: &[String],
) -> Result<Row, Vec<Refusal>> {
    let mut refused = Vec::new();
    let mut refuse = |column: Column, (what, hint): (&str, &str)| {
        let name = places.get(&column).map(|at| Refusal::show(&head[*at])).unwrap_or_default();
        refused.push(Refusal::new(line, format!("the cell under \"{name}\" {what}"), hint));
    };
    // Blanks may belong to a password.
    let raw = |column: Column| Some(places.get(&column).and_then(|at| cells.get(*at))?.as_str());
    let text = |column: Column| raw(column).map(str::trim).filter(|cell| !cell.is_empty());
    for column in Column::ALL {
        let trouble = match column {
            Column::Address | Column::Destination => text(column).and_then(wrong_address),
            Column::Username | Column::DestinationUsername => text(column).and_then(wrong_username),
            Column::Password | Column::RefreshToken | Column::DestinationPassword => {
                raw(column).and_then(wrong_secret)
            }
        };
        if let Some(trouble) = trouble {
            refuse(column, trouble);
        }
    }
    let address = |column: Column| text(column).and_then(|cell| cell.parse::<Address>().ok());
    let name = |column: Column| text(column).map(str::to_owned);
    let secret = |column: Column| raw(column).filter(|cell| !cell.is_empty()).map(Secret::new);
    if text(Column::Address).is_none() {
        refuse(Column::Address, ("is empty", "give the mailbox's address, or take the row out"));
    }
    let Some(at) = address(Column::Address).filter(|_| refused.is_empty()) else { return Err(refused) };
    Ok(Row {
        line,
        address: at,
        username: name(Column::Username),
        password: secret(Column::Password),
        refresh_token: secret(Column::RefreshToken),
        destination: address(Column::Destination),
        destination_username: name(Column::DestinationUsername),
        destination_password: secret(Column::DestinationPassword),
    })
}

/// Columns that the manifest gives names to, and a list has by none of them, while nobody reads another of its columns: a name is
/// mistyped, and what stands below the other column would be passed over without a word.
fn find_misnamed(table: &table::Table, heads: &Heads, places: &BTreeMap<Column, usize>) -> Vec<Refusal> {
    let is_unread =
        |(at, name): &(usize, &String)| !name.is_empty() && !places.values().any(|place| place == at);
    let unread: Vec<String> =
        table.head.iter().enumerate().filter(is_unread).map(|(_, name)| quoted(name)).collect();
    if unread.is_empty() {
        return Vec::new();
    }
    let is_missing = |column: &&Column| {
        **column != Column::Address
            && !heads.given[*column].is_empty()
            && heads.places(**column, &table.head).is_empty()
    };
    let misnamed = heads.given.keys().filter(is_missing).map(|column| {
        let names: Vec<String> = heads.given[column].iter().take(SHOWN).map(|name| quoted(name)).collect();
        let what = format!("has no column {}, which spec.columns.{column} names", names.join(" or "));
        let more = if unread.len() > SHOWN { ", …" } else { "" };
        let shown = unread.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
        let hint =
            format!("correct spec.columns.{column}; nothing reads these columns of the list: {shown}{more}");
        Refusal::new(table.head_line, what, hint)
    });
    misnamed.collect()
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", Refusal::show(name))
}

/// The rest of a sentence about a cell, and the remedy.
type Trouble = (&'static str, &'static str);

fn wrong_address(cell: &str) -> Option<Trouble> {
    // Links begin with mailto:, and lists of Exchange with SMTP:.
    let prefix = cell.split_once(':').filter(|(kind, _)| kind.chars().all(|c| c.is_ascii_alphanumeric()));
    if prefix.is_some_and(|(_, rest)| rest.parse::<Address>().is_ok()) {
        return Some((
            "has a prefix before the address, as in mailto: or SMTP:",
            "write the address alone, as in anna@contoso.example",
        ));
    }
    if cell.ends_with('.') {
        return Some(("ends with a dot, which no mail address does", "take the dot at its end away"));
    }
    let wrong = cell.parse::<Address>().is_err();
    wrong.then_some(("is no mail address", "write it as in anna@contoso.example, without a name beside it"))
}

fn wrong_username(cell: &str) -> Option<Trouble> {
    let wrong = cell.chars().count() > USERNAME_MAX || cell.contains(char::is_control);
    wrong.then_some(("is no login name", "write the name that the mail server knows"))
}

/// No login can carry a control character: NUL parts the fields of SASL PLAIN, and a line end ends a command.
fn wrong_secret(cell: &str) -> Option<Trouble> {
    let hint = "type it anew: a character that is not to be seen came with it when it was copied or exported";
    cell.contains(char::is_control).then_some(("holds a control character, such as NUL or a tab", hint))
}

/// Rows without a password in a list whose other rows have one.
fn find_without_password(rows: &[Row], places: &BTreeMap<Column, usize>, head: &[String]) -> Vec<Refusal> {
    let opens = |row: &Row| row.password.is_some() || row.refresh_token.is_some();
    let Some(at) = places.get(&Column::Password).filter(|_| rows.iter().any(opens)) else {
        return Vec::new();
    };
    let what = format!("the cell under \"{}\" is empty", Refusal::show(&head[*at]));
    let refuse =
        |row: &Row| Refusal::new(row.line, what.clone(), "give the mailbox's password, or take the row out");
    rows.iter().filter(|row| !opens(row)).map(refuse).collect()
}

fn says_the_same(one: &Row, other: &Row) -> bool {
    let same = |one: &Option<Secret>, other: &Option<Secret>| {
        one.as_ref().map(Secret::expose) == other.as_ref().map(Secret::expose)
    };
    one.username == other.username
        && one.destination == other.destination
        && one.destination_username == other.destination_username
        && same(&one.password, &other.password)
        && same(&one.refresh_token, &other.refresh_token)
        && same(&one.destination_password, &other.destination_password)
}

#[cfg(test)]
mod tests;
