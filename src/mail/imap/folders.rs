//! What both sides of a migration ask of one folder: to open it, how it stands, and which messages are in it.

use std::collections::{BTreeSet, HashMap};

use super::command::{Ask, Command};
use super::labels::{ATTRIBUTE, EXTENSION, Spelled, read_labels};
use super::session::{Session, read_fetch, split_numbered, split_word};
use super::tokens::{StatusText, Value, read_values};
use crate::mail::FolderState;
use crate::model::failure::{Failure, FailureCode, Result};
use crate::model::message::{Flags, InternalDate};

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
pub async fn open_folder(session: &mut Session, wire_name: &[u8], access: Access) -> Result<FolderState> {
    let ask = ask_to_open(session, wire_name, access);
    let mut state = FolderState::default();
    session
        .ask(ask, |line| {
            read_opened(line, &mut state);
            Ok(())
        })
        .await?;
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
pub fn check_opened(state: FolderState) -> Result<FolderState> {
    if state.uidvalidity == 0 {
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
) -> Result<Vec<Result<FolderState>>> {
    let mut asks = Vec::with_capacity(2 * wire_names.len());
    let list = list_messages_command(session, 1, None);
    for name in wire_names {
        asks.push(ask_to_open(session, name, Access::Read));
        asks.push(Ask::new(list.clone()).following());
    }
    let mut states = vec![FolderState::default(); wire_names.len()];
    let mut counts = vec![(0_usize, 0_usize); wire_names.len()];
    let ended = session
        .ask_all(&asks, |at, line| {
            let folder = at / 2;
            if at % 2 == 0 {
                read_opened(line, &mut states[folder]);
                return Ok(());
            }
            let (rows, expunged) = &mut counts[folder];
            if let Some(listed) = read_listed(line, expunged)? {
                *rows += 1;
                check_count(*rows)?;
                row(folder, listed)?;
            }
            Ok(())
        })
        .await?;
    let mut ended = ended.into_iter();
    let mut opened = Vec::with_capacity(wire_names.len());
    for (state, (rows, expunged)) in states.into_iter().zip(counts) {
        let (open, list) = (ended.next(), ended.next());
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
pub fn read_opened(line: &[u8], state: &mut FolderState) {
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
    let said = StatusText::parse(rest);
    match said.code.as_str() {
        "UIDVALIDITY" => state.uidvalidity = said.arguments.parse().unwrap_or(0),
        "UIDNEXT" => state.uidnext = said.arguments.parse().ok(),
        "HIGHESTMODSEQ" => state.highest_modseq = said.arguments.parse().ok(),
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
pub async fn status_folder(session: &mut Session, wire_name: &str) -> Result<FolderState> {
    let mut state = FolderState::default();
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

/// Asks for the states of folders that need not be open, all in one flight; `None` where the server refuses it.
///
/// # Errors
/// Those of the session.
pub async fn status_folders(
    session: &mut Session,
    wire_names: &[Vec<u8>],
) -> Result<Vec<Option<FolderState>>> {
    let modseq = if keeps_modseq(session) { " HIGHESTMODSEQ" } else { "" };
    let items = format!(" (MESSAGES UIDNEXT UIDVALIDITY{modseq})");
    let ask = |name: &Vec<u8>| Ask::new(Command::new("STATUS ").name(name).then(&items));
    let asks: Vec<Ask> = wire_names.iter().map(ask).collect();
    let mut told: Vec<Option<FolderState>> = vec![None; asks.len()];
    // A server may carry out several at once, so each line is taken by the name in it.
    let at_name: HashMap<&[u8], usize> =
        wire_names.iter().enumerate().map(|(at, name)| (name.as_slice(), at)).collect();
    let ended = session
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
    for failure in ended.into_iter().filter_map(Result::err) {
        if !failure.leaves_the_session() {
            return Err(failure);
        }
    }
    Ok(told)
}

/// Reads `name (MESSAGES 3 UIDNEXT 4 ...)`, what follows the word STATUS.
pub(super) fn read_status(rest: &[u8]) -> Result<Option<(Vec<u8>, FolderState)>> {
    let values = read_values(rest)?;
    let name = match values.first() {
        Some(Value::Nil) => b"NIL".to_vec(),
        Some(name) => name.bytes().unwrap_or_default().to_vec(),
        None => return Ok(None),
    };
    let mut state = FolderState::default();
    let pairs = values.last().and_then(Value::list).unwrap_or_default();
    for pair in pairs.chunks_exact(2) {
        match pair[0].text().unwrap_or_default().to_ascii_uppercase().as_str() {
            "MESSAGES" => state.messages = pair[1].number(),
            "UIDNEXT" => state.uidnext = pair[1].number(),
            "UIDVALIDITY" => state.uidvalidity = pair[1].number().unwrap_or(0),
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
    state: &FolderState,
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
    match split_numbered(line) {
        // A FETCH without a size is the server's own news of a changed flag.
        Some((_, word, rest)) if word.eq_ignore_ascii_case(b"FETCH") => read_row(rest),
        Some((_, word, _)) if word.eq_ignore_ascii_case(b"EXPUNGE") => {
            *expunged += 1;
            Ok(None)
        }
        _ => Ok(None),
    }
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

/// Brings listed messages from a UID upwards into the order of their UIDs, each once. `n:*` names the last message even
/// when its UID is below n (RFC 9051 §9, seq-range).
pub fn select_rows(mut rows: Vec<Row>, from: u32) -> Vec<Row> {
    rows.retain(|row| row.uid >= from);
    rows.sort_by_key(|row| row.uid);
    rows.dedup_by_key(|row| row.uid);
    rows
}

fn read_row(rest: &[u8]) -> Result<Option<Row>> {
    let mut uid = None;
    let mut size = None;
    let mut flags = None;
    let mut date = None;
    let mut labels = None;
    for (name, value) in read_fetch(rest)? {
        match name.as_str() {
            "UID" => uid = value.number(),
            "RFC822.SIZE" => size = value.number(),
            // What is no text is no flag, and is noticed as such.
            "FLAGS" => {
                flags = value
                    .list()
                    .map(|list| list.iter().map(|flag| flag.text().unwrap_or_default()).collect());
            }
            "INTERNALDATE" => date = value.text().and_then(InternalDate::parse),
            ATTRIBUTE => labels = Some(read_labels(&value)?),
            _ => {}
        }
    }
    Ok(match (uid, size, flags) {
        (Some(uid), Some(size), Some(flags)) => Some(Row { uid, size, flags, date, labels }),
        _ => None,
    })
}
