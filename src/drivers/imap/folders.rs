//! Commands for one folder that both sides of a migration use: to open it, to ask for its state, and to list its
//! messages.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::command::{Ask, Command};
use super::labels::{ATTRIBUTE, EXTENSION, Spelled, read_labels};
use super::numbers::Numbers;
use super::session::{Session, split_numbered, split_word};
use super::tokens::{StatusText, Value, leading_number, read_fetch, read_values, within_quotes};
use crate::model::failure::{Failure, FailureCode, Result};
use crate::model::message::{Epoch, Flags, InternalDate};

/// How a folder is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// EXAMINE: nothing can be changed, not even `\Recent`.
    Read,
    /// SELECT.
    Write,
}

/// Has a folder opened with the numbers of its changes.
const CONDSTORE: &str = " (CONDSTORE)";

impl Access {
    fn verb(self) -> &'static str {
        match self {
            Self::Read => "EXAMINE",
            Self::Write => "SELECT",
        }
    }
}

/// Opens a folder and reads what the server says of it.
///
/// # Errors
/// Those of the session; [`crate::model::failure::Class::Protocol`] when there is no UIDVALIDITY.
pub async fn open_folder(session: &mut Session, wire_name: &[u8], access: Access) -> Result<Numbers> {
    let ask = ask_to_open(session, wire_name, access);
    let mut state = Numbers::default();
    let said = session
        .ask(ask, |line| {
            read_opened(line, &mut state);
            Ok(())
        })
        .await?;
    read_code(&said, &mut state);
    check_opened(state)
}

/// The command that opens a folder, whose name is given quoted.
pub fn open_command(session: &Session, folder: &str, access: Access) -> String {
    let condstore = if keeps_modseq(session) { CONDSTORE } else { "" };
    format!("{} {folder}{condstore}", access.verb())
}

/// As [`open_command`], for a name as the server wrote it, with what is asked where the server does not take it so.
pub(super) fn ask_to_open(session: &Session, wire_name: &[u8], access: Access) -> Ask {
    let verb = format!("{} ", access.verb());
    let plain = Command::new(verb.clone()).name(wire_name);
    if keeps_modseq(session) && wire_name.is_ascii() {
        return Ask::new(plain.clone().then(CONDSTORE)).or_without("CONDSTORE", plain);
    }
    Ask::new(plain).or(Command::with_literal(&verb, wire_name, ""))
}

/// Whether the server numbers changes (RFC 7162).
pub(super) fn keeps_modseq(session: &Session) -> bool {
    (session.offers("CONDSTORE") || session.offers("QRESYNC")) && !session.fails_at("CONDSTORE")
}

/// Refuses a folder whose messages have no lasting names.
pub fn check_opened(state: Numbers) -> Result<Numbers> {
    if state.epoch.number().is_none() {
        let what = "gives the folder no UIDVALIDITY, so its messages have no lasting names";
        return Err(Failure::protocol(what).code(FailureCode::NoLastingNames));
    }
    Ok(state)
}

/// Opens folders for reading one after another and lists all their messages, with both commands of several folders in one
/// flight. `row` is given the place of the folder among `wire_names` and each message as it is listed, in no order.
/// The states come back in the order of the names.
///
/// # Errors
/// Those of the session, and for each folder those of [`open_folder`] and [`list_messages`].
pub async fn open_and_list_folders(
    session: &mut Session,
    wire_names: &[&[u8]],
    mut row: impl FnMut(usize, Row) -> Result<()> + Send,
) -> Result<Vec<Result<Numbers>>> {
    let mut asks = Vec::with_capacity(2 * wire_names.len());
    let list = list_messages_command(session, 1, None);
    for name in wire_names {
        asks.push(ask_to_open(session, name, Access::Read));
        asks.push(Ask::new(list.clone()).following());
    }
    let mut states = vec![Numbers::default(); wire_names.len()];
    let mut counts = vec![(0_usize, 0_usize); wire_names.len()];
    let mut parts: Vec<Parts> = wire_names.iter().map(|_| Parts::default()).collect();
    let ended = session
        .ask_all(&asks, |at, line| {
            let folder = at / 2;
            if at % 2 == 0 {
                read_opened(line, &mut states[folder]);
                return Ok(());
            }
            let (rows, expunged) = &mut counts[folder];
            *expunged += usize::from(is_expunge(line));
            if let Some(listed) = parts[folder].hear(line) {
                *rows += 1;
                check_count(*rows)?;
                row(folder, listed)?;
            }
            Ok(())
        })
        .await?;
    for (folder, rest) in parts.into_iter().enumerate() {
        // News of a message that was listed is not another message; one is taken for each message missing in the count.
        let counted = states[folder].messages.map_or(usize::MAX, |messages| messages as usize);
        let (rows, expunged) = &mut counts[folder];
        let lacking = counted.saturating_sub(*expunged).saturating_sub(*rows);
        for listed in rest.into_rows().take(lacking) {
            *rows += 1;
            row(folder, listed)?;
        }
    }
    let mut ended = ended.into_iter();
    let mut opened = Vec::with_capacity(wire_names.len());
    for (state, (rows, expunged)) in states.into_iter().zip(counts) {
        let (open, list) = (ended.next(), ended.next());
        let mut state = state;
        if let Some(Ok(said)) = &open {
            read_code(said, &mut state);
        }
        opened.push(match (open, list) {
            (Some(Err(failure)), _) => Err(failure),
            // There is nothing that `1:*` could name, and some servers say so with a NO.
            (_, Some(Err(failure))) if state.messages != Some(0) => Err(failure),
            _ => check_opened(state).and_then(|state| {
                check_complete(rows, (state.messages.unwrap_or(0) as usize).saturating_sub(expunged))?;
                Ok(state)
            }),
        });
    }
    Ok(opened)
}

/// Takes in what a server says while it opens a folder.
pub fn read_opened(line: &[u8], state: &mut Numbers) {
    if let Some((count, word, _)) = split_numbered(line) {
        if word.eq_ignore_ascii_case(b"EXISTS") {
            state.messages = Some(count);
        }
        return;
    }
    let (word, rest) = split_word(line);
    if !word.eq_ignore_ascii_case(b"OK") {
        return;
    }
    read_code(&StatusText::parse(rest), state);
}

/// Takes in a response code about a folder. Some servers say one in the line that ends the command, and nowhere else.
pub(super) fn read_code(said: &StatusText, state: &mut Numbers) {
    match said.code.as_str() {
        "UIDVALIDITY" => state.epoch = read_epoch(leading_number(&said.arguments)),
        // No UID is 0, so none can be the next (RFC 9051 §2.3.1.1).
        "UIDNEXT" => state.uidnext = leading_number(&said.arguments).filter(|next| *next > 0),
        "HIGHESTMODSEQ" => state.highest_modseq = leading_number(&said.arguments),
        "PERMANENTFLAGS" => {
            let flags = read_values(said.arguments.as_bytes()).unwrap_or_default();
            let flags = flags.first().and_then(Value::list).unwrap_or_default();
            let words: BTreeSet<String> = flags.iter().filter_map(Value::text).map(str::to_owned).collect();
            state.permanent_flags = if words.contains("\\*") { None } else { Some(words) };
        }
        _ => {}
    }
}

/// Asks for the state of a folder that need not be open.
///
/// # Errors
/// Those of the session.
pub async fn status_folder(session: &mut Session, wire_name: &str) -> Result<Numbers> {
    let mut state = Numbers::default();
    session
        .run(
            Command::new("STATUS ").name(wire_name.as_bytes()).then(" (MESSAGES UIDNEXT UIDVALIDITY)"),
            |line| {
                let (word, rest) = split_word(line);
                if word.eq_ignore_ascii_case(b"STATUS")
                    && let Some((_, told)) = read_status(rest)?
                {
                    state = told;
                }
                Ok(())
            },
        )
        .await?;
    Ok(state)
}

/// How many messages STATUS counts in a folder, open or not; `None` where the server does not tell.
///
/// # Errors
/// Those of the connection.
pub async fn count_messages(session: &mut Session, wire_name: &[u8]) -> Result<Option<u32>> {
    let mut messages = None;
    let ask = Ask::new(Command::new("STATUS ").name(wire_name).then(" (MESSAGES)"));
    let asks = [ask];
    let ended = session.ask_all(&asks, |_, line| {
        let (word, rest) = split_word(line);
        if word.eq_ignore_ascii_case(b"STATUS")
            && let Ok(Some((_, told))) = read_status(rest)
        {
            messages = told.messages;
        }
        Ok(())
    });
    ended.await?;
    Ok(messages)
}

/// Asks for the states of folders that need not be open, all in one flight; `None` where the server refuses it.
///
/// # Errors
/// Those of the session.
pub async fn status_folders(session: &mut Session, wire_names: &[Vec<u8>]) -> Result<Vec<Option<Numbers>>> {
    let modseq = if keeps_modseq(session) { " HIGHESTMODSEQ" } else { "" };
    let items = format!(" (MESSAGES UIDNEXT UIDVALIDITY{modseq})");
    let ask = |name: &Vec<u8>| Ask::new(Command::new("STATUS ").name(name).then(&items));
    let asks: Vec<Ask> = wire_names.iter().map(ask).collect();
    let mut told: Vec<Option<Numbers>> = vec![None; asks.len()];
    // A server may carry out several at once, so each line is taken by the name in it.
    let at_name: HashMap<&[u8], usize> =
        wire_names.iter().enumerate().map(|(at, name)| (name.as_slice(), at)).collect();
    // A refusal is an answer about one folder, whatever it sounds like: nothing is known of that one then. Trouble of the whole
    // server meets the next command too.
    session
        .ask_all(&asks, |_, line| {
            let (word, rest) = split_word(line);
            if word.eq_ignore_ascii_case(b"STATUS")
                && let Ok(Some((name, state))) = read_status(rest)
                && let Some(at) = at_name.get(name.as_slice())
            {
                told[*at] = Some(state);
            }
            Ok(())
        })
        .await?;
    Ok(told)
}

/// The epoch of a folder with such a UIDVALIDITY, which is never 0 (RFC 9051 §2.3.1.1); the empty one where the server does
/// not tell it.
fn read_epoch(uidvalidity: Option<u32>) -> Epoch {
    uidvalidity.filter(|number| *number > 0).map(Epoch::from).unwrap_or_default()
}

/// Reads `name (MESSAGES 3 UIDNEXT 4 ...)`, what follows the word STATUS.
pub(super) fn read_status(rest: &[u8]) -> Result<Option<(Vec<u8>, Numbers)>> {
    let values = read_values(rest);
    let is_whole = matches!(values.as_deref(), Ok([] | [_] | [_, Value::List(_)]));
    // As in a list: the quotes in a name may be those of a server that escapes none.
    let parts = rest.iter().rposition(|byte| *byte == b'(').map(|at| rest.split_at(at)).filter(|_| !is_whole);
    let unescaped = parts.and_then(|(name, pairs)| Some((within_quotes(name)?, pairs)));
    let (name, values) = if let Some((name, pairs)) = unescaped {
        (name.to_vec(), read_values(pairs)?)
    } else {
        let values = values?;
        let name = match values.first() {
            Some(Value::Nil) => b"NIL".to_vec(),
            Some(name) => name.bytes().unwrap_or_default().to_vec(),
            None => return Ok(None),
        };
        (name, values)
    };
    let mut state = Numbers::default();
    let pairs = values.last().and_then(Value::list).unwrap_or_default();
    for pair in pairs.chunks_exact(2) {
        match pair[0].text().unwrap_or_default().to_ascii_uppercase().as_str() {
            "MESSAGES" => state.messages = pair[1].number(),
            "UIDNEXT" => state.uidnext = pair[1].number().filter(|next| *next > 0),
            "UIDVALIDITY" => state.epoch = read_epoch(pair[1].number()),
            "HIGHESTMODSEQ" => state.highest_modseq = pair[1].number(),
            _ => {}
        }
    }
    Ok(Some((name, state)))
}

/// A message as a listing FETCH shows it.
#[derive(Debug, Clone)]
pub struct Row {
    /// UID.
    pub uid: u32,
    /// RFC822.SIZE, in bytes.
    pub size: u64,
    /// FLAGS without `\Recent`.
    pub flags: Flags,
    /// INTERNALDATE.
    pub date: Option<InternalDate>,
    /// X-GM-LABELS, where they were asked for.
    pub labels: Option<Spelled>,
}

/// The largest size that is accepted, in bytes.
const SIZE_MAX: u64 = 1 << 38;
/// The most messages that one folder may list.
const MESSAGES_MAX: usize = 20_000_000;

/// Lists all messages of the open folder, in ascending order of their UIDs; with their labels where the server has any.
/// `pick` is given each of them as it comes, and what it gives back is kept.
///
/// # Errors
/// Those of the session; [`crate::model::failure::Class::Protocol`] when the server answers for fewer messages than it
/// says the folder holds: an answer cut short must never pass for an empty folder.
pub async fn list_messages(
    session: &mut Session,
    state: &Numbers,
    mut pick: impl FnMut(Row) -> Result<Option<Row>> + Send,
) -> Result<Vec<Row>> {
    if state.messages == Some(0) {
        return Ok(Vec::new());
    }
    let list = list_messages_command(session, 1, None);
    let mut rows: Vec<Row> = Vec::new();
    let (mut uids, mut expunged) = (Vec::new(), 0);
    session
        .run(&list, |line| {
            if let Some(row) = read_listed(line, &mut expunged)? {
                uids.push(row.uid);
                check_count(uids.len())?;
                rows.extend(pick(row)?);
            }
            Ok(())
        })
        .await?;
    uids.sort_unstable();
    uids.dedup();
    check_complete(uids.len(), (state.messages.unwrap_or(0) as usize).saturating_sub(expunged))?;
    Ok(select_rows(rows, 1))
}

fn check_complete(rows: usize, expected: usize) -> Result<()> {
    if rows < expected {
        return Err(Failure::protocol(format!(
            "lists {rows} of the {expected} messages that it says the folder holds"
        )));
    }
    Ok(())
}

/// The command that lists the open folder from a UID upwards.
pub fn list_command_from(from: u32) -> String {
    format!("UID FETCH {from}:* (UID FLAGS INTERNALDATE RFC822.SIZE)")
}

/// The command that lists a range of the open folder, to its end where `to` is `None`; with the labels of the messages where
/// the server has any.
pub fn list_messages_command(session: &Session, from: u32, to: Option<u32>) -> String {
    let labels = if session.offers(EXTENSION) { format!(" {ATTRIBUTE}") } else { String::new() };
    let to = to.map_or_else(|| "*".to_owned(), |to| to.to_string());
    format!("UID FETCH {from}:{to} (UID FLAGS INTERNALDATE RFC822.SIZE{labels})")
}

/// The message that a response to a listing FETCH shows; counts the expunged.
pub fn read_listed(line: &[u8], expunged: &mut usize) -> Result<Option<Row>> {
    *expunged += usize::from(is_expunge(line));
    match split_numbered(line) {
        // A FETCH without a size is the server's own news of a changed flag.
        Some((_, word, rest)) if word.eq_ignore_ascii_case(b"FETCH") => {
            Ok(read_part(read_fetch(rest)?).and_then(|(uid, part)| part.into_row(uid).ok()))
        }
        _ => Ok(None),
    }
}

fn is_expunge(line: &[u8]) -> bool {
    split_numbered(line).is_some_and(|(_, word, _)| word.eq_ignore_ascii_case(b"EXPUNGE"))
}

/// Bounds what one folder may list.
pub fn check_count(rows: usize) -> Result<()> {
    if rows > MESSAGES_MAX {
        return Err(Failure::protocol(format!("lists more than {MESSAGES_MAX} messages in a folder")));
    }
    Ok(())
}

/// Lists the messages of the open folder from a UID upwards, in ascending order, and counts those that were expunged
/// meanwhile.
///
/// # Errors
/// Those of the session.
pub async fn list_messages_from(session: &mut Session, from: u32) -> Result<(Vec<Row>, usize)> {
    let mut rows: Vec<Row> = Vec::new();
    let mut expunged = 0;
    session
        .run(&list_command_from(from), |line| {
            rows.extend(read_listed(line, &mut expunged)?);
            check_count(rows.len())
        })
        .await?;
    Ok((select_rows(rows, from), expunged))
}

/// Lists those messages of the open folder that a set of UIDs names, each once.
///
/// # Errors
/// Those of the session.
pub async fn list_messages_of(session: &mut Session, set: &str) -> Result<Vec<Row>> {
    let (mut rows, mut expunged) = (Vec::new(), 0);
    let command = format!("UID FETCH {set} (UID FLAGS INTERNALDATE RFC822.SIZE)");
    session
        .run(&command, |line| {
            rows.extend(read_listed(line, &mut expunged)?);
            check_count(rows.len())
        })
        .await?;
    Ok(select_rows(rows, 1))
}

/// Brings listed messages from a UID upwards into the order of their UIDs, each once. `n:*` names the last message even
/// when its UID is below n (RFC 9051 §9, seq-range).
pub fn select_rows(mut rows: Vec<Row>, from: u32) -> Vec<Row> {
    rows.retain(|row| row.uid >= from);
    rows.sort_by_key(|row| row.uid);
    rows.dedup_by_key(|row| row.uid);
    rows
}

/// The attributes of a message that were reported so far.
#[derive(Debug, Default)]
struct Part {
    size: Option<u64>,
    flags: Option<Flags>,
    date: Option<InternalDate>,
    labels: Option<Spelled>,
}

impl Part {
    /// The message, once its size and its flags were told.
    fn into_row(self, uid: u32) -> std::result::Result<Row, Self> {
        match self {
            Self { size: Some(size), flags: Some(flags), date, labels } => {
                Ok(Row { uid, size, flags, date, labels })
            }
            part => Err(part),
        }
    }
}

/// Messages of which a list told a part. An entry with a UID is a message, whatever else is said of it: servers tell
/// the rest in another response, as something that cannot be read, or not at all.
#[derive(Debug, Default)]
pub struct Parts(BTreeMap<u32, Part>);

impl Parts {
    /// Hears a response to a listing FETCH, and gives back the message once its size and its flags were told. A
    /// response that cannot be read names no message, and is missed in the folder's count.
    pub fn hear(&mut self, line: &[u8]) -> Option<Row> {
        let (_, word, rest) = split_numbered(line)?;
        if !word.eq_ignore_ascii_case(b"FETCH") {
            return None;
        }
        let (uid, told) = match read_fetch(rest) {
            Ok(attributes) => read_part(attributes)?,
            Err(_) => (uid_at_the_head(rest)?, Part::default()),
        };
        let before = self.0.remove(&uid).unwrap_or_default();
        let part = Part {
            size: told.size.or(before.size),
            flags: told.flags.or(before.flags),
            date: told.date.or(before.date),
            labels: told.labels.or(before.labels),
        };
        match part.into_row(uid) {
            Ok(row) => Some(row),
            Err(part) => {
                if self.0.len() < MESSAGES_MAX {
                    self.0.insert(uid, part);
                }
                None
            }
        }
    }

    /// The UIDs of messages of a range of which something lacks, but for those that are known.
    pub fn lacking(&self, from: u32, to: Option<u32>, known: &BTreeSet<u32>) -> Vec<u32> {
        let uids = self.0.keys().copied().filter(|uid| *uid >= from && to.is_none_or(|to| *uid <= to));
        uids.filter(|uid| !known.contains(uid)).collect()
    }

    /// Whether nothing lacks.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The messages, with no flags and a size of 0 where neither is known.
    pub fn into_rows(self) -> impl Iterator<Item = Row> {
        self.0.into_iter().map(|(uid, Part { size, flags, date, labels })| Row {
            uid,
            size: size.unwrap_or(0),
            flags: flags.unwrap_or_default(),
            date,
            // A message that is in no other folder, as far as is known.
            labels: Some(labels.unwrap_or_default()),
        })
    }
}

/// The UID at the head of a FETCH response that cannot be read to its end.
fn uid_at_the_head(rest: &[u8]) -> Option<u32> {
    let (name, rest) = split_word(rest.strip_prefix(b"(")?);
    let end = rest.iter().position(|byte| !byte.is_ascii_digit())?;
    let uid = name.eq_ignore_ascii_case(b"UID").then_some(&rest[..end])?;
    std::str::from_utf8(uid).ok()?.parse().ok().filter(|uid| *uid > 0)
}

/// The UID of a message and what is said of it; an attribute that is not a size, flags, date or labels is absent.
fn read_part(attributes: Vec<(String, Value)>) -> Option<(u32, Part)> {
    let mut uid = None;
    let mut part = Part::default();
    for (name, value) in attributes {
        match name.as_str() {
            "UID" => uid = value.number(),
            // A value larger than any message is not a size; sizes are added up.
            "RFC822.SIZE" => part.size = value.number().filter(|size| *size <= SIZE_MAX),
            // A value that is not text is not a flag, and is noticed as such.
            "FLAGS" => {
                part.flags = value
                    .list()
                    .map(|list| list.iter().map(|flag| flag.text().unwrap_or_default()).collect());
            }
            "INTERNALDATE" => part.date = value.text().and_then(InternalDate::parse),
            ATTRIBUTE => part.labels = read_labels(&value).ok(),
            _ => {}
        }
    }
    Some((uid?, part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_has_a_uid_is_a_message() {
        let mut parts = Parts::default();
        let whole = parts.hear(b"1 FETCH (UID 1 FLAGS (\\Seen) RFC822.SIZE 5)").unwrap();
        assert_eq!((whole.uid, whole.size), (1, 5));
        for (said, again) in [
            ("2 FETCH (UID 2 FLAGS ())", "2 FETCH (UID 2 RFC822.SIZE 7)"),
            ("2 FETCH (UID 2 FLAGS ( RFC822.SIZE 7)", "2 FETCH (UID 2 RFC822.SIZE 7 FLAGS ())"),
        ] {
            assert!(parts.hear(said.as_bytes()).is_none(), "{said}");
            assert_eq!(parts.hear(again.as_bytes()).map(|row| row.size), Some(7), "{again}");
        }
        for (uid, size) in [(3, "NIL"), (4, "-5"), (5, "9223372036854775808"), (6, "18446744073709551616")] {
            let line = format!("3 FETCH (UID {uid} FLAGS () RFC822.SIZE {size})");
            assert!(parts.hear(line.as_bytes()).is_none(), "{line}");
        }
        for line in ["3 FETCH", "3 FETCH (UID", "3 FETCH (FLAGS ())", "3 FETCH (UID x", "3 EXISTS"] {
            assert!(parts.hear(line.as_bytes()).is_none(), "{line}");
        }
        assert_eq!(parts.lacking(4, Some(6), &BTreeSet::from([5])), [4, 6]);
        assert_eq!(
            parts.into_rows().map(|row| (row.uid, row.size)).collect::<Vec<_>>(),
            [(3, 0), (4, 0), (5, 0), (6, 0)]
        );
    }

    #[test]
    fn the_name_of_a_status_is_read_with_the_quotes_in_it() {
        for (line, expected) in [
            (r#""a b" (MESSAGES 3)"#, "a b"),
            (r#""a"b" (MESSAGES 3)"#, "a\"b"),
            (r#""a" (b" (MESSAGES 3)"#, "a\" (b"),
            ("a (MESSAGES 3)", "a"),
            ("{3}\r\na\"b (MESSAGES 3)", "a\"b"),
        ] {
            let (name, state) = read_status(line.as_bytes()).unwrap().unwrap();
            assert_eq!(
                (String::from_utf8(name).unwrap().as_str(), state.messages),
                (expected, Some(3)),
                "{line}"
            );
        }
    }

    #[test]
    fn numbers_of_an_opened_folder_are_read_however_they_are_set() {
        for lines in [
            ["OK [UIDVALIDITY 7] so", "OK [UIDNEXT 4] next"],
            ["OK [UIDVALIDITY 7]so", "OK [UIDNEXT 4]"],
            ["OK [ uidvalidity  7 ] so", "OK [\tUIDNEXT\t4\t] next"],
            ["OK [UIDVALIDITY 7.] so", "OK [UIDNEXT 4 "],
        ] {
            let mut state = Numbers::default();
            for line in lines {
                read_opened(line.as_bytes(), &mut state);
            }
            assert_eq!((state.epoch.number(), state.uidnext), (Some(7), Some(4)), "{lines:?}");
        }
        let mut state = Numbers::default();
        read_opened(b"OK [UIDNEXT 0] none", &mut state);
        assert_eq!(state.uidnext, None);
    }
}
