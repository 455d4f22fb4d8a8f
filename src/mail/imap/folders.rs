//! What both sides of a migration ask of folders: the list, opening one, and the messages in the open one.

use std::collections::{BTreeSet, HashMap};

use super::names::{Spelling, quote};
use super::session::{Session, read_fetch, split_numbered, split_word};
use super::tokens::{StatusText, Value, read_values};
use crate::mail::{Folder, FolderState};
use crate::model::failure::{Failure, Result};
use crate::model::folder::SpecialUse;
use crate::model::message::{Flags, InternalDate};

/// The most folders that a mailbox may list.
const FOLDERS_MAX: usize = 100_000;

/// Asks how the server spells folder names.
///
/// # Errors
/// Those of the session.
pub async fn learn_spelling(session: &mut Session) -> Result<Spelling> {
    let mut spelling = Spelling::default();
    session
        .run("LIST \"\" \"\"", |line| {
            if let Some((_, delimiter, _)) = read_list(line)? {
                spelling.delimiter = delimiter;
            }
            Ok(())
        })
        .await?;
    if session.offers("NAMESPACE") {
        session
            .run("NAMESPACE", |line| {
                let (word, rest) = split_word(line);
                if word.eq_ignore_ascii_case(b"NAMESPACE") {
                    spelling.read_namespaces(rest);
                }
                Ok(())
            })
            .await?;
    }
    Ok(spelling)
}

/// Lists every folder of the mailbox with its attributes and whether it is subscribed to.
///
/// # Errors
/// Those of the session, and [`crate::model::failure::Class::Protocol`] for more than 100,000 folders.
pub async fn list_folders(session: &mut Session, spelling: &Spelling) -> Result<Vec<Folder>> {
    let mut listed: Vec<(Vec<u8>, Vec<String>)> = Vec::new();
    let mut subscribed: BTreeSet<Vec<u8>> = BTreeSet::new();
    let extended = session.offers("LIST-EXTENDED");
    let command = match (extended, session.offers("SPECIAL-USE")) {
        (true, true) => "LIST \"\" \"*\" RETURN (SUBSCRIBED SPECIAL-USE)",
        (true, false) => "LIST \"\" \"*\" RETURN (SUBSCRIBED)",
        (false, _) => "LIST \"\" \"*\"",
    };
    session
        .run(command, |line| {
            if let Some((attributes, _, name)) = read_list(line)? {
                if listed.len() >= FOLDERS_MAX {
                    return Err(Failure::protocol(format!("lists more than {FOLDERS_MAX} folders")));
                }
                listed.push((name, attributes));
            }
            Ok(())
        })
        .await?;
    if !extended {
        session
            .run("LSUB \"\" \"*\"", |line| {
                if let Some((_, _, name)) = read_list(line)? {
                    subscribed.insert(name);
                }
                if subscribed.len() > FOLDERS_MAX {
                    return Err(Failure::protocol(format!("lists more than {FOLDERS_MAX} subscriptions")));
                }
                Ok(())
            })
            .await?;
    }
    let mut folders: HashMap<_, Folder> = HashMap::new();
    for (name, attributes) in listed {
        let has = |word: &str| attributes.iter().any(|a| a.eq_ignore_ascii_case(word));
        let Some(path) = spelling.to_path(&name) else { continue };
        let folder = Folder {
            special_use: attributes.iter().find_map(|a| SpecialUse::from_attribute(a)),
            selectable: !has("\\Noselect") && !has("\\NonExistent"),
            subscribed: has("\\Subscribed") || subscribed.contains(&name),
            path: path.clone(),
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
    Ok(folders)
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
    let verb = match access {
        Access::Read => "EXAMINE",
        Access::Write => "SELECT",
    };
    let name = wire_text(wire_name)?;
    let condstore =
        if session.offers("CONDSTORE") || session.offers("QRESYNC") { " (CONDSTORE)" } else { "" };
    let mut state = FolderState::default();
    session
        .run(&format!("{verb} {}{condstore}", quote(name)), |line| {
            read_opened(line, &mut state);
            Ok(())
        })
        .await?;
    if state.uidvalidity == 0 {
        return Err(Failure::protocol(
            "gives the folder no UIDVALIDITY, so its messages have no lasting names",
        ));
    }
    Ok(state)
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
            if word.eq_ignore_ascii_case(b"STATUS") {
                let values = read_values(rest)?;
                let pairs = values.last().and_then(Value::list).unwrap_or_default();
                for pair in pairs.chunks_exact(2) {
                    match pair[0].text().unwrap_or_default().to_ascii_uppercase().as_str() {
                        "MESSAGES" => state.messages = pair[1].number().unwrap_or(0),
                        "UIDNEXT" => state.uidnext = pair[1].number(),
                        "UIDVALIDITY" => state.uidvalidity = pair[1].number().unwrap_or(0),
                        _ => {}
                    }
                }
            }
            Ok(())
        })
        .await?;
    Ok(state)
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
}

/// The most messages that one folder may list.
const MESSAGES_MAX: usize = 20_000_000;

/// Lists all messages of the open folder, in ascending order of their UIDs.
///
/// # Errors
/// Those of the session; [`crate::model::failure::Class::Protocol`] when the server answers for fewer messages than it
/// says the folder holds: an answer cut short must never pass for an empty folder.
pub async fn list_messages(session: &mut Session, state: &FolderState) -> Result<Vec<Row>> {
    if state.messages == 0 {
        return Ok(Vec::new());
    }
    let (rows, expunged) = list_messages_from(session, 1).await?;
    let expected = (state.messages as usize).saturating_sub(expunged);
    if rows.len() < expected {
        return Err(Failure::protocol(format!(
            "lists {} of the {expected} messages that it says the folder holds",
            rows.len()
        )));
    }
    Ok(rows)
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
        .run(&format!("UID FETCH {from}:* (UID FLAGS INTERNALDATE RFC822.SIZE)"), |line| {
            match split_numbered(line) {
                Some((_, word, rest)) if word.eq_ignore_ascii_case(b"FETCH") => {
                    // A FETCH without a size is the server's own news of a changed flag.
                    if let Some(row) = read_row(rest)? {
                        rows.push(row);
                    }
                }
                Some((_, word, _)) if word.eq_ignore_ascii_case(b"EXPUNGE") => expunged += 1,
                _ => {}
            }
            if rows.len() > MESSAGES_MAX {
                return Err(Failure::protocol(format!(
                    "lists more than {MESSAGES_MAX} messages in a folder"
                )));
            }
            Ok(())
        })
        .await?;
    // `n:*` names the last message even when its UID is below n (RFC 9051 §9, seq-range).
    rows.retain(|row| row.uid >= from);
    rows.sort_by_key(|row| row.uid);
    rows.dedup_by_key(|row| row.uid);
    Ok((rows, expunged))
}

fn read_row(rest: &[u8]) -> Result<Option<Row>> {
    let mut uid = None;
    let mut size = None;
    let mut flags = None;
    let mut date = None;
    for (name, value) in read_fetch(rest)? {
        match name.as_str() {
            "UID" => uid = value.number(),
            "RFC822.SIZE" => size = value.number(),
            "FLAGS" => flags = value.list().map(|list| list.iter().filter_map(Value::text).collect()),
            "INTERNALDATE" => date = value.text().and_then(InternalDate::parse),
            _ => {}
        }
    }
    Ok(match (uid, size, flags) {
        (Some(uid), Some(size), Some(flags)) => Some(Row { uid, size, flags, date }),
        _ => None,
    })
}
