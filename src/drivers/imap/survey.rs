//! The folders of a mailbox: how the server spells their names, which of them are this mailbox's own, whether they are
//! subscribed to and, where the server offers it, how they stand, all in one turn.
//!
//! The extensions that servers offer for this do not always work. A list with options (RFC 5258) is laid beside the
//! plain one in the same flight: some show subscribed folders alone, some nothing of their backends. Options that are
//! refused are left out from then on. An odd line of a list leaves the others alone.

use std::collections::{BTreeSet, HashMap};

use super::command::{Ask, Command};
use super::folders::{Access, Row, ask_to_open, keeps_modseq, list_messages, open_folder, read_status};
use super::labels::{EXTENSION, is_view};
use super::names::Spelling;
use super::numbers::Numbers;
use super::paths::{Named, name_folders};
use super::session::{Session, split_word};
use super::tokens::{Value, read_first, read_values, within_quotes};
use crate::drivers::{Folder, FolderState, Survey};
use crate::model::failure::{Failure, FailureCode, Result};
use crate::model::folder::{FolderPath, SpecialUse};
use crate::model::message::{Epoch, InternalDate};
use crate::model::text::{cut, printable_bytes};

/// The most folders that a mailbox may list.
const FOLDERS_MAX: usize = 100_000;
/// The most lines that could not be read that are kept, and how many bytes of each.
const UNREADABLE_MAX: usize = 20;
const UNREADABLE_LENGTH: usize = 120;
/// The most folders that are subscribed to and not listed that are looked for.
const HIDDEN_MAX: usize = 100;
/// The most messages by which two folders are compared that are called alike.
const COMPARED_MAX: usize = 1000;
/// How a plain server is asked for its folders.
const PLAINLY: &str = "LIST \"\" \"*\"";

/// How folders are listed beside the plain list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// With options and with how folders stand (RFC 5819).
    WithStates,
    /// With options (RFC 5258).
    WithOptions,
    /// By LSUB.
    Plain,
}

impl Way {
    fn of(session: &Session) -> Self {
        match (session.offers("LIST-EXTENDED"), session.offers("LIST-STATUS")) {
            (true, true) => Self::WithStates,
            (true, false) => Self::WithOptions,
            (false, _) => Self::Plain,
        }
    }

    fn ask(self, session: &Session) -> Ask {
        let special = if session.offers("SPECIAL-USE") { " SPECIAL-USE" } else { "" };
        let modseq = if keeps_modseq(session) { " HIGHESTMODSEQ" } else { "" };
        match self {
            Self::WithStates => Ask::new(format!(
                "{PLAINLY} RETURN (SUBSCRIBED{special} STATUS (MESSAGES UIDNEXT UIDVALIDITY{modseq}))"
            ))
            .or_without("LIST-STATUS", PLAINLY),
            Self::WithOptions => Ask::new(format!("{PLAINLY} RETURN (SUBSCRIBED{special})"))
                .or_without("LIST-EXTENDED", PLAINLY),
            Self::Plain => Ask::new("LSUB \"\" \"*\""),
        }
    }
}

/// The state of the folders as a server reported it.
#[derive(Debug, Default)]
struct Told {
    spelling: Spelling,
    /// Names with their attributes, as they came.
    listed: Vec<(Vec<u8>, Vec<String>)>,
    subscribed: BTreeSet<Vec<u8>>,
    states: HashMap<Vec<u8>, Numbers>,
    unreadable: Vec<String>,
    /// The separator in the names of listed folders, where the question for it brought nothing.
    delimiter: Option<char>,
}

impl Told {
    /// Where the server does not tell its prefix, one that everything but the Inbox has is the prefix.
    fn guess_prefix(&mut self) {
        let Some(delimiter) = self.spelling.delimiter.or(self.delimiter) else { return };
        let prefix = format!("INBOX{delimiter}");
        let is_below = |name: &[u8]| {
            name.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix.as_bytes()))
        };
        let mut others = self
            .listed
            .iter()
            .map(|(name, _)| name)
            .filter(|name| !name.eq_ignore_ascii_case(b"INBOX"))
            .peekable();
        if others.peek().is_some() && others.all(|name| is_below(name)) {
            self.spelling.personal = vec![prefix.clone()];
            self.spelling.prefix = prefix;
        }
    }
}

/// Asks for the folders of a mailbox. `state` makes of their numbers how they stand, at the side that the mailbox is at.
///
/// # Errors
/// Those of the session, and [`crate::model::failure::Class::Protocol`] for more than 100,000 folders.
pub async fn survey_mailbox(
    session: &mut Session,
    state: fn(Numbers) -> FolderState,
) -> Result<(Spelling, Survey)> {
    loop {
        let way = Way::of(session);
        let told = ask(session, way).await?;
        // An option that is refused once is left out; with options, subscriptions are asked for differently.
        if Way::of(session) == way {
            return finish(session, told, state).await;
        }
    }
}

async fn ask(session: &mut Session, way: Way) -> Result<Told> {
    let mut asks = vec![Ask::new("LIST \"\" \"\""), Ask::new(PLAINLY), way.ask(session)];
    if session.offers("NAMESPACE") {
        // A refusal that passes would change how all names are read.
        asks.push(Ask::new("NAMESPACE").or(Some(Command::from("NAMESPACE"))));
    }
    let mut told = Told::default();
    let mut plain: BTreeSet<Vec<u8>> = BTreeSet::new();
    let ended = session
        .ask_all(&asks, |at, line| {
            let (word, rest) = split_word(line);
            if word.eq_ignore_ascii_case(b"NAMESPACE") {
                told.spelling.read_namespaces(rest);
            } else if word.eq_ignore_ascii_case(b"STATUS") {
                if let Ok(Some((name, state))) = read_status(rest)
                    && told.states.len() < FOLDERS_MAX
                {
                    told.states.insert(name, state);
                }
            } else {
                match read_list(line) {
                    // A server may carry out both lists at once (Dovecot does), so the word tells which one speaks.
                    Ok(Some((_, _, name))) if word.eq_ignore_ascii_case(b"LSUB") => {
                        told.subscribed.insert(name);
                    }
                    Ok(Some((_, delimiter, _))) if at == 0 => {
                        told.spelling.delimiter = told.spelling.delimiter.or(delimiter);
                    }
                    Ok(Some((attributes, delimiter, name))) => {
                        told.delimiter = told.delimiter.or(delimiter);
                        if at == 1 {
                            plain.insert(name.clone());
                        }
                        told.listed.push((name, attributes));
                    }
                    // A subscription that cannot be read loses no folder.
                    Err(_)
                        if word.eq_ignore_ascii_case(b"LIST") && told.unreadable.len() < UNREADABLE_MAX =>
                    {
                        told.unreadable.push(cut(&printable_bytes(line), UNREADABLE_LENGTH));
                    }
                    Ok(None) | Err(_) => {}
                }
                if told.listed.len().max(told.subscribed.len()) >= 2 * FOLDERS_MAX {
                    return Err(Failure::protocol(format!("lists more than {FOLDERS_MAX} folders")));
                }
            }
            Ok(())
        })
        .await?;
    let mut ended = ended.into_iter();
    let (delimiter, listed, besides, namespace) = (ended.next(), ended.next(), ended.next(), ended.next());
    if let Some(Err(failure)) = &namespace {
        if failure.is(FailureCode::NotUnderstood) {
            session.forgo("NAMESPACE");
        }
        told.guess_prefix();
    }
    for failure in [delimiter, besides.clone(), namespace].into_iter().flatten().filter_map(Result::err) {
        if !failure.leaves_the_session() {
            return Err(failure);
        }
        tracing::debug!(failure = %failure.sentence(), "a part of the survey was refused");
    }
    match listed {
        // Both lists are of the same folders.
        Some(Err(failure)) if way == Way::Plain || !matches!(besides, Some(Ok(_))) => return Err(failure),
        _ => {}
    }
    if way != Way::Plain && matches!(besides, Some(Ok(_))) {
        let mut shown: HashMap<&Vec<u8>, usize> = HashMap::new();
        for (name, _) in &told.listed {
            *shown.entry(name).or_default() += 1;
        }
        if plain.iter().any(|name| shown.get(name).is_none_or(|times| *times < 2)) {
            session.forgo("LIST-EXTENDED");
        }
    }
    Ok(told)
}

/// Makes folders of what was said.
async fn finish(
    session: &mut Session,
    told: Told,
    state: fn(Numbers) -> FolderState,
) -> Result<(Spelling, Survey)> {
    let Told { mut spelling, mut listed, subscribed, states, mut unreadable, delimiter } = told;
    spelling.delimiter = spelling.delimiter.or(delimiter);
    let is_inbox = |name: &[u8]| name.eq_ignore_ascii_case(b"INBOX");
    let can_be_opened =
        |(name, attributes): &(Vec<u8>, Vec<String>)| is_inbox(name) && is_selectable(attributes);
    if !listed.iter().any(can_be_opened) && has_inbox(session).await? {
        listed.retain(|(name, _)| !is_inbox(name));
        listed.push((b"INBOX".to_vec(), Vec::new()));
    }
    let hidden = find_hidden(session, &spelling, &listed, &subscribed).await?;
    listed.extend(hidden.into_iter().map(|name| (name, Vec::new())));
    let apart = find_other_inboxes(session, &listed).await?;
    let named = name_folders(&mut spelling, listed.iter().map(|(name, _)| name.as_slice()), &apart);
    for (name, attributes) in &listed {
        // Nothing but a prefix, or nothing at all: no path can stand for it.
        let is_left = !named.contains_key(name) && !spelling.is_foreign(name) && is_selectable(attributes);
        if is_left && unreadable.len() < UNREADABLE_MAX {
            unreadable.push(format!("LIST \"{}\"", cut(&printable_bytes(name), UNREADABLE_LENGTH)));
        }
    }
    unreadable.sort();
    unreadable.dedup();
    let path_of = |name: &Vec<u8>| match named.get(name) {
        // The Inbox has no case (RFC 9051 §5.1), unless the server shows otherwise.
        None if is_inbox(name) => Some(FolderPath::inbox()),
        known => known.map(|named| named.path.clone()),
    };
    let states = states.into_iter();
    let states = states.filter_map(|(name, numbers)| Some((path_of(&name)?, state(numbers)))).collect();
    let is_childless =
        |attributes: &[String]| attributes.iter().any(|it| it.eq_ignore_ascii_case("\\Noinferiors"));
    let childless = listed.iter().filter(|(_, attributes)| is_childless(attributes));
    let childless = childless.filter_map(|(name, _)| path_of(name)).filter(|path| !path.is_inbox()).collect();
    let mut folders = sort_folders(listed, &subscribed, &named);
    if folders.len() > FOLDERS_MAX {
        return Err(Failure::protocol(format!("lists more than {FOLDERS_MAX} folders")));
    }
    let labelled = session.offers(EXTENSION);
    for view in folders.iter_mut().filter(|folder| labelled && is_view(folder)) {
        // All the messages that it shows are in other folders too.
        view.selectable = false;
    }
    Ok((spelling, Survey { folders, states, unreadable, childless, rule: None }))
}

/// Names in a list that read as the Inbox (which has no case, RFC 9051 §5.1) and are not it: a server without such a rule may
/// hold other mail under `Inbox` than under `INBOX`.
async fn find_other_inboxes(
    session: &mut Session,
    listed: &[(Vec<u8>, Vec<String>)],
) -> Result<BTreeSet<Vec<u8>>> {
    let names: BTreeSet<&Vec<u8>> = listed
        .iter()
        .filter(|(name, attributes)| name.eq_ignore_ascii_case(b"INBOX") && is_selectable(attributes))
        .map(|(name, _)| name)
        .collect();
    let mut others = BTreeSet::new();
    if names.len() < 2 {
        return Ok(others);
    }
    let inbox = b"INBOX".to_vec();
    let held = list_held(session, &inbox).await?;
    for name in names.into_iter().filter(|name| **name != inbox) {
        // One that cannot be opened is left as the Inbox, which is told if that cannot be opened either.
        if let Some(theirs) = list_held(session, name).await?
            && held.as_ref().is_none_or(|held| *held != theirs)
        {
            others.insert(name.clone());
        }
    }
    Ok(others)
}

/// The content of a folder, as far as tells it from another one; `None` where it cannot be opened or listed.
async fn list_held(session: &mut Session, name: &[u8]) -> Result<Option<Held>> {
    let state = match open_folder(session, name, Access::Read).await {
        Ok(state) => state,
        Err(failure) if failure.leaves_the_session() => return Ok(None),
        Err(failure) => return Err(failure),
    };
    let mut rows = Vec::new();
    let keep = |row: Row| {
        if rows.len() < COMPARED_MAX {
            rows.push((row.uid, row.size, row.date));
        }
        Ok(None)
    };
    match list_messages(session, &state, keep).await {
        Ok(_) => Ok(Some((state.epoch, state.uidnext, state.messages, rows))),
        Err(failure) if failure.leaves_the_session() => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Epoch, UIDNEXT and the count of a folder, with UIDs, sizes and dates of messages in it.
type Held = (Epoch, Option<u32>, Option<u32>, Vec<(u32, u64, Option<InternalDate>)>);

/// Folders that are subscribed to and in no list, as far as they can be opened: subscriptions outlive their folders.
async fn find_hidden(
    session: &mut Session,
    spelling: &Spelling,
    listed: &[(Vec<u8>, Vec<String>)],
    subscribed: &BTreeSet<Vec<u8>>,
) -> Result<Vec<Vec<u8>>> {
    let known: BTreeSet<&[u8]> = listed.iter().map(|(name, _)| name.as_slice()).collect();
    let is_hidden = |name: &&Vec<u8>| {
        !known.contains(name.as_slice())
            && !name.eq_ignore_ascii_case(b"INBOX")
            && spelling.to_path(name).is_some()
    };
    let hidden: Vec<&Vec<u8>> = subscribed.iter().filter(is_hidden).take(HIDDEN_MAX).collect();
    let asks: Vec<Ask> = hidden.iter().map(|name| ask_to_open(session, name, Access::Read)).collect();
    let ended = session.ask_all(&asks, |_, _| Ok(())).await?;
    Ok(hidden
        .into_iter()
        .zip(ended)
        .filter(|(_, ended)| ended.is_ok())
        .map(|(name, _)| name.clone())
        .collect())
}

/// Whether there is an Inbox that no list shows: every mailbox has one (RFC 9051 §5.1). One that is there and cannot be opened
/// counts, so that it is told.
async fn has_inbox(session: &mut Session) -> Result<bool> {
    match open_folder(session, b"INBOX", Access::Read).await {
        Ok(_) => Ok(true),
        Err(failure) if !failure.leaves_the_session() => Err(failure),
        Err(failure) => Ok(failure.code.is_some_and(|code| code != FailureCode::NoSuchFolder)),
    }
}

pub(super) fn is_selectable(attributes: &[String]) -> bool {
    !attributes
        .iter()
        .any(|a| a.eq_ignore_ascii_case("\\Noselect") || a.eq_ignore_ascii_case("\\NonExistent"))
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
            selectable: is_selectable(&attributes),
            subscribed: has("\\Subscribed") || subscribed.contains(&name),
            path: path.clone(),
            twin_of,
            wire_name: name,
        };
        // Listed twice, a folder can be opened if one of the lists says so, and is for what either says.
        let known = folders.entry(path).or_insert_with(|| folder.clone());
        known.special_use = known.special_use.or(folder.special_use);
        known.subscribed |= folder.subscribed;
        if folder.selectable && !known.selectable {
            known.selectable = true;
            known.wire_name = folder.wire_name;
        }
    }
    let mut folders: Vec<Folder> = folders.into_values().collect();
    folders.sort_by(|a, b| (!a.path.is_inbox(), &a.path).cmp(&(!b.path.is_inbox(), &b.path)));
    folders
}

type Listing = (Vec<String>, Option<char>, Vec<u8>);

/// Reads `LIST (attributes) delimiter name`; `None` for other responses.
pub(super) fn read_list(line: &[u8]) -> Result<Option<Listing>> {
    let (word, rest) = split_word(line);
    if !word.eq_ignore_ascii_case(b"LIST") && !word.eq_ignore_ascii_case(b"LSUB") {
        return Ok(None);
    }
    let unreadable = || Failure::protocol("sent a LIST response that cannot be read");
    let (mut values, name) = read_first(rest, 2)?;
    values.push(read_name(name)?.ok_or_else(unreadable)?);
    let attributes = match values.first().ok_or_else(unreadable)? {
        Value::Nil => &[],
        attributes => attributes.list().ok_or_else(unreadable)?,
    };
    let delimiter = values.get(1).and_then(Value::text).and_then(|text| text.chars().next());
    let name = match values.get(2).ok_or_else(unreadable)? {
        // A folder may be called "nil".
        Value::Nil => b"NIL".to_vec(),
        name => name.bytes().ok_or_else(unreadable)?.to_vec(),
    };
    let attributes = attributes.iter().filter_map(Value::text).map(str::to_owned).collect();
    Ok(Some((attributes, delimiter, name)))
}

/// Reads the name that ends a line of a list; what an extension says may follow it in parentheses (RFC 5258). Some servers
/// (`GreenMail`) do not escape a quote within a name: where what is read does not end the line, and the line ends with
/// a quote, all between the first and the last one is the name.
fn read_name(rest: &[u8]) -> Result<Option<Value>> {
    let values = read_values(rest);
    let is_whole = matches!(values.as_deref(), Ok([_] | [_, Value::List(_)]));
    match within_quotes(rest).filter(|_| !is_whole) {
        Some(name) => Ok(Some(Value::Text(name.to_vec()))),
        None => values.map(|values| values.into_iter().next()),
    }
}

/// Lists folders that a pattern names, without their attributes.
pub(super) fn ask_for_names(pattern: &str) -> Ask {
    Ask::new(Command::new("LIST \"\" ").name(pattern.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_that_is_not_told_is_seen_in_the_names() {
        let prefix = |names: &[&str]| {
            let listed = names.iter().map(|name| (name.as_bytes().to_vec(), Vec::new())).collect();
            let mut told = Told { listed, delimiter: Some('.'), ..Told::default() };
            told.guess_prefix();
            told.spelling.prefix
        };
        assert_eq!(prefix(&["INBOX", "INBOX.Sent", "Inbox.Work"]), "INBOX.");
        assert_eq!(prefix(&["INBOX", "INBOX.Sent", "Work"]), "");
        assert_eq!(prefix(&["INBOX"]), "");
    }

    #[test]
    fn lines_of_lists_are_read_tolerantly() {
        let read = |line: &str| read_list(line.as_bytes()).ok().flatten();
        let name = |line: &str| read(line).map(|(_, _, name)| String::from_utf8(name).unwrap());
        for (line, expected) in [
            (r#"LIST (\HasNoChildren) "/" "a b""#, Some("a b")),
            ("list NIL NIL a", Some("a")),
            ("LIST () \"/\" {3}\r\na\r\n", Some("a\r\n")),
            (r#"LIST () "/" NIL"#, Some("NIL")),
            ("LSUB () / x", Some("x")),
            (r#"LIST () "." "a\"b""#, Some("a\"b")),
            (r#"LIST () "." "a"b""#, Some("a\"b")),
            (r#"LIST () "." "a" "b""#, Some("a\" \"b")),
            (r#"LIST () "." "a"""#, Some("a\"")),
            (r#"LIST () "." "(a" b""#, Some("(a\" b")),
            (r#"LIST () "." "a" ("CHILDINFO" ("SUBSCRIBED"))"#, Some("a")),
            (r#"LIST () "\\" "a""#, Some("a")),
            (r#"LIST () "." "a" b"#, Some("a")),
            ("LIST", None),
            (r#"LIST (() "/" x"#, None),
            ("STATUS x (MESSAGES 1)", None),
        ] {
            assert_eq!(name(line).as_deref(), expected, "{line}");
        }
    }
}
