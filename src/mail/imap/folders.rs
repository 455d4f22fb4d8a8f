//! What both sides of a migration ask of folders: the list, opening one, and the messages in the open one.

use std::collections::{BTreeSet, HashMap};

use super::labels::{ATTRIBUTE, EXTENSION, Spelled, is_view, read_labels};
use super::names::{Spelling, quote};
use super::paths::{Named, name_folders};
use super::session::{Session, read_fetch, split_numbered, split_word};
use super::tokens::{StatusText, Value, read_values};
use crate::mail::{Folder, FolderState, Survey};
use crate::model::failure::{Failure, Result};
use crate::model::folder::{FolderPath, SpecialUse};
use crate::model::message::{Flags, InternalDate};

/// The most folders that a mailbox may list.
const FOLDERS_MAX: usize = 100_000;

/// Asks how the server spells folder names, and lists every folder with its attributes, whether it is subscribed to and,
/// where the server offers it, how it stands: all in one turn.
///
/// # Errors
/// Those of the session, and [`crate::model::failure::Class::Protocol`] for more than 100,000 folders.
pub async fn survey_mailbox(session: &mut Session) -> Result<(Spelling, Survey)> {
    let with_states = session.offers("LIST-STATUS") && session.offers("LIST-EXTENDED");
    match survey(session, with_states).await? {
        Some(surveyed) => Ok(surveyed),
        // A server that does not stand by what it offers is asked the old way.
        None => survey(session, false).await?.ok_or_else(|| Failure::protocol("does not list its folders")),
    }
}

/// As [`survey_mailbox`]; `None` when the server refuses the list with states.
async fn survey(session: &mut Session, with_states: bool) -> Result<Option<(Spelling, Survey)>> {
    let mut commands = vec!["LIST \"\" \"\"".to_owned()];
    if session.offers("NAMESPACE") {
        commands.push("NAMESPACE".to_owned());
    }
    let list = commands.len();
    let extended = session.offers("LIST-EXTENDED");
    commands.push(list_command(session, with_states));
    if !extended {
        commands.push("LSUB \"\" \"*\"".to_owned());
    }
    let mut spelling = Spelling::default();
    let mut listed: Vec<(Vec<u8>, Vec<String>)> = Vec::new();
    let mut subscribed: BTreeSet<Vec<u8>> = BTreeSet::new();
    let mut told: HashMap<Vec<u8>, FolderState> = HashMap::new();
    let ended = session
        .run_all(&commands, |at, line| {
            let (word, rest) = split_word(line);
            if word.eq_ignore_ascii_case(b"NAMESPACE") {
                spelling.read_namespaces(rest);
            } else if word.eq_ignore_ascii_case(b"STATUS") {
                if let Some((name, state)) = read_status(rest)?
                    && told.len() < FOLDERS_MAX
                {
                    told.insert(name, state);
                }
            } else if let Some((attributes, delimiter, name)) = read_list(line)? {
                if listed.len().max(subscribed.len()) >= FOLDERS_MAX {
                    return Err(Failure::protocol(format!("lists more than {FOLDERS_MAX} folders")));
                }
                match at {
                    0 => spelling.delimiter = delimiter,
                    at if at == list => listed.push((name, attributes)),
                    _ => drop(subscribed.insert(name)),
                }
            }
            Ok(())
        })
        .await?;
    for (at, ended) in ended.into_iter().enumerate() {
        match ended {
            Err(failure) if with_states && at == list => {
                tracing::debug!(failure = %failure.sentence(), "the list with states was refused");
                return Ok(None);
            }
            ended => drop(ended?),
        }
    }
    let named = name_folders(&mut spelling, listed.iter().map(|(name, _)| name.as_slice()));
    let path_of = |name: &Vec<u8>| match named.get(name) {
        // The Inbox has no case (RFC 9051 §5.1).
        None if name.eq_ignore_ascii_case(b"INBOX") => Some(FolderPath::inbox()),
        known => known.map(|named| named.path.clone()),
    };
    let states = told.into_iter().filter_map(|(name, state)| Some((path_of(&name)?, state))).collect();
    let mut folders = sort_folders(listed, &subscribed, &named);
    let labelled = session.offers(EXTENSION);
    for view in folders.iter_mut().filter(|folder| labelled && is_view(folder)) {
        // All that it shows stands elsewhere too.
        view.selectable = false;
    }
    Ok(Some((spelling, Survey { folders, states, homes: None })))
}

/// The command that lists all folders.
fn list_command(session: &Session, with_states: bool) -> String {
    if !session.offers("LIST-EXTENDED") {
        return "LIST \"\" \"*\"".to_owned();
    }
    let special = if session.offers("SPECIAL-USE") { " SPECIAL-USE" } else { "" };
    let modseq = if keeps_modseq(session) { " HIGHESTMODSEQ" } else { "" };
    let states =
        if with_states { format!(" STATUS (MESSAGES UIDNEXT UIDVALIDITY{modseq})") } else { String::new() };
    format!("LIST \"\" \"*\" RETURN (SUBSCRIBED{special}{states})")
}

/// Whether the server numbers changes (RFC 7162).
fn keeps_modseq(session: &Session) -> bool {
    session.offers("CONDSTORE") || session.offers("QRESYNC")
}

/// Makes folders of what was listed, the Inbox first.
fn sort_folders(
    listed: Vec<(Vec<u8>, Vec<String>)>,
    subscribed: &BTreeSet<Vec<u8>>,
    named: &HashMap<Vec<u8>, Named>,
) -> Vec<Folder> {
    let mut folders: HashMap<_, Folder> = HashMap::new();
    for (name, attributes) in listed {
        let has = |word: &str| attributes.iter().any(|a| a.eq_ignore_ascii_case(word));
        let Some(Named { path, twin_of }) = named.get(&name).cloned() else { continue };
        let folder = Folder {
            special_use: attributes.iter().find_map(|a| SpecialUse::from_attribute(a)),
            selectable: !has("\\Noselect") && !has("\\NonExistent"),
            subscribed: has("\\Subscribed") || subscribed.contains(&name),
            path: path.clone(),
            twin_of,
            wire_name: name,
        };
        // A server may list a name twice; the entry that can be opened counts.
        let known = folders.entry(path).or_insert_with(|| folder.clone());
        if folder.selectable && !known.selectable {
            *known = folder;
        }
    }
    let mut folders: Vec<Folder> = folders.into_values().collect();
    folders.sort_by(|a, b| (!a.path.is_inbox(), &a.path).cmp(&(!b.path.is_inbox(), &b.path)));
    folders
}

type Listing = (Vec<String>, Option<char>, Vec<u8>);

/// Reads `LIST (attributes) delimiter name`; `None` for other responses.
fn read_list(line: &[u8]) -> Result<Option<Listing>> {
    let (word, rest) = split_word(line);
    if !word.eq_ignore_ascii_case(b"LIST") && !word.eq_ignore_ascii_case(b"LSUB") {
        return Ok(None);
    }
    let values = read_values(rest)?;
    let unreadable = || Failure::protocol("sent a LIST response that cannot be read");
    let attributes = values.first().and_then(Value::list).ok_or_else(unreadable)?;
    let delimiter = values.get(1).and_then(Value::text).and_then(|text| text.chars().next());
    let name = match values.get(2).ok_or_else(unreadable)? {
        // A folder may be called "nil".
        Value::Nil => b"NIL".to_vec(),
        name => name.bytes().ok_or_else(unreadable)?.to_vec(),
    };
    let attributes = attributes.iter().filter_map(Value::text).map(str::to_owned).collect();
    Ok(Some((attributes, delimiter, name)))
}

/// How a folder is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// EXAMINE: nothing can be changed, not even `\Recent`.
    Read,
    /// SELECT.
    Write,
}

/// Opens a folder and reads what the server says of it.
///
/// # Errors
/// Those of the session; [`crate::model::failure::Class::Protocol`] when there is no UIDVALIDITY.
pub async fn open_folder(session: &mut Session, wire_name: &[u8], access: Access) -> Result<FolderState> {
    let command = open_command(session, &quote(wire_text(wire_name)?), access);
    let mut state = FolderState::default();
    session
        .run(&command, |line| {
            read_opened(line, &mut state);
            Ok(())
        })
        .await?;
    check_opened(state)
}

/// The command that opens a folder, whose name is given quoted.
pub fn open_command(session: &Session, folder: &str, access: Access) -> String {
    let verb = match access {
        Access::Read => "EXAMINE",
        Access::Write => "SELECT",
    };
    let condstore = if keeps_modseq(session) { " (CONDSTORE)" } else { "" };
    format!("{verb} {folder}{condstore}")
}

fn check_opened(state: FolderState) -> Result<FolderState> {
    if state.uidvalidity == 0 {
        return Err(Failure::protocol(
            "gives the folder no UIDVALIDITY, so its messages have no lasting names",
        ));
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
    let mut commands = Vec::with_capacity(2 * wire_names.len());
    let list = list_command_of_all(session);
    for name in wire_names {
        commands.push(open_command(session, &quote(wire_text(name)?), Access::Read));
        commands.push(list.clone());
    }
    let mut states = vec![FolderState::default(); wire_names.len()];
    let mut counts = vec![(0_usize, 0_usize); wire_names.len()];
    let ended = session
        .run_all(&commands, |at, line| {
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
            (_, Some(Err(failure))) if state.messages > 0 => Err(failure),
            _ => check_opened(state).and_then(|state| {
                check_complete(rows, (state.messages as usize).saturating_sub(expunged))?;
                Ok(state)
            }),
        });
    }
    Ok(opened)
}

/// A wire name as text. Names that are not UTF-8 cannot be sent back in a quoted string.
pub fn wire_text(wire_name: &[u8]) -> Result<&str> {
    std::str::from_utf8(wire_name).map_err(|_| Failure::protocol("lists a folder whose name is not UTF-8"))
}

fn read_opened(line: &[u8], state: &mut FolderState) {
    if let Some((count, word, _)) = split_numbered(line) {
        if word.eq_ignore_ascii_case(b"EXISTS") {
            state.messages = count;
        }
        return;
    }
    let Some(rest) = line.strip_prefix(b"OK ") else { return };
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
        .run(&format!("STATUS {} (MESSAGES UIDNEXT UIDVALIDITY)", quote(wire_name)), |line| {
            let (word, rest) = split_word(line);
            if word.eq_ignore_ascii_case(b"STATUS")
                && let Some((_, told)) = read_status(rest)?
            {
                state = told;
            }
            Ok(())
        })
        .await?;
    Ok(state)
}

/// Reads `name (MESSAGES 3 UIDNEXT 4 ...)`, what follows the word STATUS.
fn read_status(rest: &[u8]) -> Result<Option<(Vec<u8>, FolderState)>> {
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
            "MESSAGES" => state.messages = pair[1].number().unwrap_or(0),
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
    if state.messages == 0 {
        return Ok(Vec::new());
    }
    let list = list_command_of_all(session);
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
    check_complete(uids.len(), (state.messages as usize).saturating_sub(expunged))?;
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

/// The command that lists the whole open folder, with the labels of its messages where the server has any.
fn list_command_of_all(session: &Session) -> String {
    if session.offers(EXTENSION) {
        return format!("UID FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE {ATTRIBUTE})");
    }
    list_command_from(1)
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
            "FLAGS" => flags = value.list().map(|list| list.iter().filter_map(Value::text).collect()),
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
