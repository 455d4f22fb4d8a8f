//! The sidecar of a folder: a line for everything that its format has no place for. It is only ever added to, so that no
//! moment can lose what was in it, and a line that was not written to its end says nothing.
//!
//! ```text
//! {"mailferry":1,"validity":1764524000}                                    the numbers below are of this life of the folder
//! {"uid":1,"id":"…","flags":"\\Seen $Label1","date":1612148645,"zone":60}  a message; a later line of its number replaces this one
//! {"uid":1,"gone":true}                                                    it was removed
//! {"begin":4711}                                                           from this byte of the mbox on a message may be torn
//! {"ended":true}                                                           none is, all the same
//! ```

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::io::{self, Read, Seek, SeekFrom, Write};

use serde::{Deserialize, Serialize};

use super::tree::{Dir, facts_of};
use crate::model::message::{Flags, InternalDate};
use crate::steps;

/// The largest sidecar that is read, in bytes.
const SIDECAR_MAX: u64 = 2 * 1024 * 1024 * 1024;
/// The form of the lines.
const FORM: u32 = 1;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Line {
    #[serde(skip_serializing_if = "Option::is_none")]
    mailferry: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    validity: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    begin: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    ended: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flags: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    date: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    zone: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    unended: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    gone: bool,
}

/// A message, as the sidecar has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Note {
    /// Its number in the folder.
    pub(super) uid: u32,
    /// The name by which the format finds it.
    pub(super) id: Box<str>,
    /// Its flags, as far as the format has no place for them.
    pub(super) flags: Flags,
    /// Its arrival date.
    pub(super) date: Option<InternalDate>,
    /// Its size as mail, in bytes; `None` where nobody counted.
    pub(super) size: Option<u64>,
    /// The size of its file, in bytes, when that was counted.
    pub(super) bytes: Option<u64>,
    /// Whether its last line has no end, and got one in the file.
    pub(super) unended: bool,
}

/// The content of a sidecar.
#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    /// The life of the folder; 0 where there is no sidecar.
    pub(super) validity: u32,
    /// The next number.
    pub(super) next: u32,
    /// From which byte of the mbox on a message may be torn.
    pub(super) begun: Option<u64>,
    notes: BTreeMap<u32, Note>,
    by_id: HashMap<Box<str>, u32>,
    /// Bytes of whole lines.
    length: u64,
}

impl Index {
    /// Reads a sidecar; one that is not there is empty.
    pub(super) fn read(dir: &Dir, name: &OsStr) -> io::Result<Self> {
        let mut index = Self { next: 1, ..Self::default() };
        let (file, facts) = match dir.read(name) {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(index),
            Err(error) => return Err(error),
        };
        if facts.size > SIDECAR_MAX {
            return Err(io::Error::other("the sidecar is too large to be read"));
        }
        let mut text = Vec::new();
        file.take(SIDECAR_MAX).read_to_end(&mut text)?;
        for line in text.split_inclusive(|b| *b == b'\n').filter(|line| line.ends_with(b"\n")) {
            index.length += line.len() as u64;
            if let Ok(line) = serde_json::from_slice::<Line>(line) {
                index.take(line);
            }
        }
        Ok(index)
    }

    fn take(&mut self, line: Line) {
        if let Some(validity) = line.validity.filter(|_| line.mailferry == Some(FORM)) {
            self.validity = validity;
        }
        if line.begin.is_some() {
            self.begun = line.begin;
        }
        if line.ended {
            self.begun = None;
        }
        let Some(uid) = line.uid.filter(|uid| *uid > 0) else { return };
        self.begun = None;
        self.next = self.next.max(uid.saturating_add(1));
        if line.gone {
            if let Some(note) = self.notes.remove(&uid) {
                self.by_id.remove(&note.id);
            }
            return;
        }
        let Some(id) = line.id else { return };
        let date = line.date.map(|unix| InternalDate { unix, offset_minutes: line.zone.unwrap_or(0) });
        let flags = line.flags.as_deref().map(Flags::parse).unwrap_or_default();
        let note = Note { uid, id, flags, date, size: line.size, bytes: line.bytes, unended: line.unended };
        self.by_id.insert(note.id.clone(), uid);
        if let Some(before) = self.notes.insert(uid, note.clone())
            && before.id != note.id
        {
            self.by_id.remove(&before.id);
        }
    }

    /// The messages in the order of their numbers.
    pub(super) fn notes(&self) -> impl Iterator<Item = &Note> {
        self.notes.values()
    }

    /// A message by its number.
    pub(super) fn note(&self, uid: u32) -> Option<&Note> {
        self.notes.get(&uid)
    }

    /// A message by the name that the format has for it.
    pub(super) fn find(&self, id: &str) -> Option<&Note> {
        self.notes.get(self.by_id.get(id)?)
    }

    /// Adds lines and returns when they cannot be lost any more. With the first ones, which may be none, the folder's life
    /// begins: it is called after the moment at which the sidecar was made.
    pub(super) fn add(&mut self, dir: &Dir, name: &OsStr, entries: &[Entry]) -> io::Result<()> {
        if entries.is_empty() && self.validity != 0 {
            return Ok(());
        }
        let (mut file, facts) = dir.write(name)?;
        let is_new = facts.size == 0;
        let mut lines = Vec::new();
        if self.validity == 0 {
            let validity = u32::try_from(facts_of(&file)?.mtime).unwrap_or(1).max(1);
            lines.push(Line { mailferry: Some(FORM), validity: Some(validity), ..Line::default() });
        }
        lines.extend(entries.iter().map(Entry::line));
        let mut text = Vec::new();
        for line in &lines {
            serde_json::to_writer(&mut text, line)?;
            text.push(b'\n');
        }
        if facts.size > self.length {
            // A line that was not written to its end.
            file.set_len(self.length)?;
        }
        file.seek(SeekFrom::Start(self.length))?;
        steps::reach();
        file.write_all(&text)?;
        steps::reach();
        file.sync_data()?;
        if is_new {
            dir.sync()?;
        }
        self.length += text.len() as u64;
        for line in lines {
            self.take(line);
        }
        Ok(())
    }
}

/// A line to be added.
#[derive(Debug, Clone)]
pub(super) enum Entry {
    /// A message, or all about one anew.
    Message(Note),
    /// A message was removed.
    Gone(u32),
    /// A message is written from this byte on.
    Begin(u64),
    /// It was taken back.
    Ended,
}

impl Entry {
    fn line(&self) -> Line {
        match self {
            Self::Message(note) => Line {
                uid: Some(note.uid),
                id: Some(note.id.clone()),
                flags: (!note.flags.is_empty()).then(|| note.flags.to_string()),
                date: note.date.map(|date| date.unix),
                zone: note.date.map(|date| date.offset_minutes).filter(|zone| *zone != 0),
                size: note.size,
                bytes: note.bytes,
                unended: note.unended,
                ..Line::default()
            },
            Self::Gone(uid) => Line { uid: Some(*uid), gone: true, ..Line::default() },
            Self::Begin(at) => Line { begin: Some(*at), ..Line::default() },
            Self::Ended => Line { ended: true, ..Line::default() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_read_and_a_torn_line_is_not() {
        let home = tempfile::tempdir().unwrap();
        let dir = Dir::root(home.path()).unwrap();
        let name = OsStr::new("index.jsonl");
        let mut index = Index::read(&dir, name).unwrap();
        assert_eq!((index.validity, index.next), (0, 1));
        let note = |uid, id: &str, flags: &str| Note {
            uid,
            id: id.into(),
            flags: Flags::parse(flags),
            date: Some(InternalDate { unix: -5, offset_minutes: 60 }),
            unended: uid == 2,
            ..Note::default()
        };
        let first = [Entry::Message(note(1, "a", "\\Seen")), Entry::Message(note(2, "b \"ü\"", ""))];
        index.add(&dir, name, &first).unwrap();
        index.add(&dir, name, &[Entry::Message(note(1, "a", "x")), Entry::Begin(7)]).unwrap();
        let path = home.path().join("index.jsonl");
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, [&whole[..], b"{\"uid\":3,\"id\":\"c"].concat()).unwrap();
        let mut again = Index::read(&dir, name).unwrap();
        assert!(again.validity > 1_700_000_000, "it is when the file was made");
        assert_eq!((again.next, again.begun), (3, Some(7)));
        assert_eq!(again.find("a"), Some(&note(1, "a", "x")));
        assert_eq!(again.note(2), Some(&note(2, "b \"ü\"", "")));
        again.add(&dir, name, &[Entry::Gone(2)]).unwrap();
        let last = Index::read(&dir, name).unwrap();
        assert_eq!((last.next, last.begun, last.notes.len()), (3, None, 1), "numbers are never given anew");
        assert!(last.find("b \"ü\"").is_none());
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with(std::str::from_utf8(&whole).unwrap()) && text.ends_with("\"gone\":true}\n"),
            "{text}"
        );
    }
}
