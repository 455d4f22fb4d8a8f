//! A folder that mail is written to: its messages by numbers that are never given anew, and the ways to add one, to change
//! its flags and to remove it. Everything here blocks.
//!
//! A message is put in its place by a rename, and is on the disk before anybody is told of it. In an mbox it is written
//! behind the others; a line in the sidecar says beforehand from which byte on, so that what a kill left there is cut off.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use super::Format;
use super::contents::{At, Contents, DIGEST_LENGTH, Item, Shelf, digest_name};
use super::drafts::{Draft, Kept};
use super::flags::{KEYWORDS_FILE, takes_keyword_letter, write_letters};
use super::index::{Entry, Index, Note};
use super::maildir::{CUR, TMP, join, part};
use super::mbox::{Separator, Taker, is_all_ours, split};
use super::tree::facts_of;
use crate::model::message::{Flags, InternalDate};

/// The largest tail of an mbox that is looked at after a kill, in bytes.
const TAIL_MAX: u64 = 8 * 1024 * 1024 * 1024;

/// An open folder.
pub(super) struct Stock {
    /// Where it is.
    pub(super) shelf: Shelf,
    index: Index,
    contents: Contents,
    /// Places among the contents by number.
    by_uid: BTreeMap<u32, usize>,
    /// Messages that are written and not in their places yet.
    pending: Vec<(u64, Kept)>,
    /// Times that a message of the same bytes is in an mbox.
    times: HashMap<Box<str>, u32>,
    /// The mbox, once it was written to.
    file: Option<File>,
}

impl Stock {
    /// Opens a folder, mends what a kill left, and gives numbers to messages that have none yet.
    pub(super) fn open(shelf: Shelf) -> io::Result<Self> {
        let mut index = shelf.index()?;
        if let Some(from) = index.begun {
            cut_torn_tail(&shelf, from)?;
        }
        let contents = shelf.read(&index)?;
        let mut fresh = Vec::new();
        for item in contents.items.iter().filter(|item| index.find(&item.id).is_none()) {
            let uid = index.next + u32::try_from(fresh.len()).map_err(io::Error::other)?;
            fresh.push(Entry::Message(note_of(uid, item, shelf.format)));
        }
        index.add(&shelf.dir, &shelf.index_name(), &fresh)?;
        let mut stock = Self {
            shelf,
            index,
            contents: Contents::default(),
            by_uid: BTreeMap::new(),
            pending: Vec::new(),
            times: HashMap::new(),
            file: None,
        };
        stock.take(contents);
        Ok(stock)
    }

    fn take(&mut self, contents: Contents) {
        self.contents = contents;
        self.by_uid.clear();
        self.times.clear();
        for (at, item) in self.contents.items.iter().enumerate() {
            if let Some(note) = self.index.find(&item.id) {
                self.by_uid.insert(note.uid, at);
            }
            let base = item.id.get(..DIGEST_LENGTH).unwrap_or(&item.id);
            *self.times.entry(base.into()).or_insert(0) += 1;
        }
    }

    /// The name of the life of the folder in which its numbers are good.
    pub(super) fn validity(&self) -> u32 {
        self.index.validity
    }

    /// The next number.
    pub(super) fn next(&self) -> u32 {
        self.index.next + u32::try_from(self.pending.len()).unwrap_or(0)
    }

    /// How many messages there are.
    pub(super) fn count(&self) -> usize {
        self.by_uid.len()
    }

    /// Messages by their numbers, from one on. Sizes are exact.
    pub(super) fn list(&mut self, from: u32) -> io::Result<Vec<(u32, Item)>> {
        let mut listed = Vec::new();
        for (uid, at) in self.by_uid.range(from..) {
            let item = &mut self.contents.items[*at];
            if let (false, At::File(sub, name)) = (item.is_counted, &item.at) {
                match self.shelf.measure(*sub, name) {
                    Ok(size) => (item.size, item.is_counted) = (size, true),
                    // It went just now.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                }
            }
            listed.push((*uid, item.clone()));
        }
        Ok(listed)
    }

    /// A message by its number.
    pub(super) fn find(&self, uid: u32) -> Option<&Item> {
        self.contents.items.get(*self.by_uid.get(&uid)?)
    }

    /// Begins a message.
    pub(super) fn begin(&mut self, flags: Flags, date: Option<InternalDate>) -> io::Result<Draft> {
        let uid = self.next();
        match self.shelf.format {
            Format::Maildir => {
                let tmp = self.shelf.dir.child_or_new(OsStr::new(TMP))?;
                Draft::in_file(&tmp, &format!("mailferry-{uid}"), true, flags, date)
            }
            Format::Eml => Draft::in_file(&self.shelf.dir, &format!(".mailferry-{uid}"), false, flags, date),
            Format::Mbox => {
                let file = match &mut self.file {
                    Some(file) => file,
                    None => self.file.insert(self.shelf.dir.write(&mbox_name(&self.shelf)?)?.0),
                };
                let end = close_last(file)?;
                if self.pending.is_empty() {
                    self.index.add(&self.shelf.dir, &self.shelf.index_name(), &[Entry::Begin(end)])?;
                }
                Draft::in_mbox(file.try_clone()?, end, flags, date)
            }
        }
    }

    /// Ends a message that was written whole.
    pub(super) fn finish(&mut self, key: u64, draft: Draft) -> io::Result<()> {
        let kept = draft.finish()?;
        self.pending.push((key, kept));
        Ok(())
    }

    /// How many messages wait to be put in their places.
    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Puts all messages that were written into their places, and returns their numbers when they cannot be lost any more.
    pub(super) fn flush(&mut self) -> io::Result<Vec<(u64, u32)>> {
        if self.pending.is_empty() {
            return Ok(Vec::new());
        }
        let pending = std::mem::take(&mut self.pending);
        let first = self.index.next;
        let mut items = Vec::with_capacity(pending.len());
        let mut put = Vec::with_capacity(pending.len());
        for kept in pending.iter().map(|(_, kept)| kept) {
            kept.sync()?;
        }
        if self.shelf.format == Format::Maildir {
            self.add_keywords(pending.iter().map(|(_, kept)| &kept.flags))?;
        }
        for ((key, kept), uid) in pending.into_iter().zip(first..) {
            items.push(self.put(&kept, uid)?);
            put.push((key, uid));
        }
        match self.shelf.format {
            Format::Maildir => self.shelf.dir.child(OsStr::new(CUR))?.sync()?,
            Format::Eml => self.shelf.dir.sync()?,
            Format::Mbox => {}
        }
        let entries: Vec<Entry> = items.iter().map(|(_, note)| Entry::Message(note.clone())).collect();
        self.index.add(&self.shelf.dir, &self.shelf.index_name(), &entries)?;
        for (item, note) in items {
            self.by_uid.insert(note.uid, self.contents.items.len());
            self.contents.items.push(item);
        }
        Ok(put)
    }

    /// Gives letters to keywords that have none, as long as there are any.
    fn add_keywords<'a>(&mut self, flags: impl Iterator<Item = &'a Flags>) -> io::Result<()> {
        let mut keywords = self.contents.keywords.clone();
        let mut is_new = false;
        for flag in flags.flat_map(Flags::iter).filter(|flag| takes_keyword_letter(flag)) {
            is_new |= keywords.add(flag);
        }
        if is_new {
            // Before any name has the letter.
            self.replace(OsStr::new(KEYWORDS_FILE), keywords.text().as_bytes())?;
            self.contents.keywords = keywords;
        }
        Ok(())
    }

    /// Puts another file in the place of one.
    fn replace(&self, name: &OsStr, bytes: &[u8]) -> io::Result<()> {
        let draft = OsStr::new(".mailferry-draft");
        self.shelf.dir.remove(draft)?;
        let mut file = self.shelf.dir.create(draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        self.shelf.dir.rename(draft, &self.shelf.dir, name)?;
        self.shelf.dir.sync()
    }

    /// Puts one message in its place.
    fn put(&mut self, kept: &Kept, uid: u32) -> io::Result<(Item, Note)> {
        let date = kept.date;
        let item = |id: Box<str>, at: At, flags: Flags| Item {
            id,
            at,
            size: kept.size,
            bytes: kept.bytes,
            is_counted: true,
            date,
            flags,
            unended: kept.unended,
        };
        let digest = digest_name(&kept.hasher);
        Ok(match self.shelf.format {
            Format::Maildir => {
                let (letters, rest) = write_letters(&kept.flags, &self.contents.keywords);
                let at = kept.written_at()?;
                let base =
                    format!("{at}.U{uid}H{}.mailferry,S={},W={}", &digest[..16], kept.bytes, kept.size);
                let name = join(OsStr::new(&base), &letters);
                let (tmp, cur) =
                    (self.shelf.dir.child(OsStr::new(TMP))?, self.shelf.dir.child_or_new(OsStr::new(CUR))?);
                tmp.rename(&kept.name, &cur, &name)?;
                let flags = kept.flags.clone();
                let mut item = item(base.into(), At::File(Some(CUR), name), flags);
                item.date = Some(InternalDate { unix: at, offset_minutes: 0 });
                let note = Note { uid, id: item.id.clone(), flags: rest, ..Note::default() };
                (item, note)
            }
            Format::Eml => {
                let at =
                    jiff::Timestamp::from_second(kept.written_at()?).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
                let stamp = at.strftime("%Y%m%dT%H%M%SZ");
                let name = format!("{stamp}-{uid:06}-{}.eml", &digest[..16]);
                self.shelf.dir.rename(&kept.name, &self.shelf.dir, OsStr::new(&name))?;
                let item = item(name.as_str().into(), At::File(None, name.into()), kept.flags.clone());
                let note = note_of(uid, &item, Format::Eml);
                (item, note)
            }
            Format::Mbox => {
                let id = self.free_name(&digest);
                let item = item(id.into(), At::Span(kept.from), kept.flags.clone());
                let note = note_of(uid, &item, Format::Mbox);
                (item, note)
            }
        })
    }

    /// A name for one more message of an mbox.
    fn free_name(&mut self, digest: &str) -> String {
        let times = self.times.entry(digest.into()).or_insert(0);
        loop {
            *times += 1;
            let id = if *times == 1 { digest.to_owned() } else { format!("{digest}.{times}") };
            if self.index.find(&id).is_none() {
                return id;
            }
        }
    }

    /// Forgets a message that was begun and is not to be.
    pub(super) fn discard(&mut self, draft: Draft) -> io::Result<()> {
        draft.discard()?;
        if self.shelf.format == Format::Mbox && self.pending.is_empty() {
            self.index.add(&self.shelf.dir, &self.shelf.index_name(), &[Entry::Ended])?;
        }
        Ok(())
    }

    /// Adds and removes flags.
    pub(super) fn store_flags(&mut self, uids: &[u32], add: &Flags, remove: &Flags) -> io::Result<()> {
        let mut entries = Vec::new();
        if self.shelf.format == Format::Maildir {
            self.add_keywords(std::iter::once(add))?;
        }
        for uid in uids {
            let (Some(at), Some(note)) = (self.by_uid.get(uid).copied(), self.index.note(*uid)) else {
                continue;
            };
            let item = &self.contents.items[at];
            let flags: Flags = item.flags.minus(remove).iter().chain(add.iter()).collect();
            if flags == item.flags {
                continue;
            }
            let mut note = note.clone();
            if let (Format::Maildir, At::File(Some(sub), name)) = (self.shelf.format, item.at.clone()) {
                let (letters, rest) = write_letters(&flags, &self.contents.keywords);
                let to = join(&part(&name).0, &letters);
                let cur = self.shelf.dir.child_or_new(OsStr::new(CUR))?;
                match self.shelf.dir.child(OsStr::new(sub))?.rename(&name, &cur, &to) {
                    // It went, or somebody else called it otherwise: the next list shows it.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    renamed => renamed?,
                }
                self.contents.items[at].at = At::File(Some(CUR), to);
                if rest != note.flags {
                    note.flags = rest;
                    entries.push(Entry::Message(note));
                }
            } else {
                note.flags = flags.clone();
                entries.push(Entry::Message(note));
            }
            self.contents.items[at].flags = flags;
        }
        if self.shelf.format == Format::Maildir {
            self.shelf.dir.child_or_new(OsStr::new(CUR))?.sync()?;
        }
        self.index.add(&self.shelf.dir, &self.shelf.index_name(), &entries)
    }

    /// Removes messages for good.
    pub(super) fn remove(&mut self, uids: &[u32]) -> io::Result<()> {
        let known: Vec<(u32, Item)> =
            uids.iter().filter_map(|uid| Some((*uid, self.find(*uid)?.clone()))).collect();
        if known.is_empty() {
            return Ok(());
        }
        if self.shelf.format == Format::Mbox {
            self.file = None;
            self.leave_out(&known.iter().map(|(_, item)| item.id.clone()).collect())?;
        }
        for (_, item) in &known {
            if let At::File(sub, name) = &item.at {
                let dir = match sub {
                    Some(sub) => self.shelf.dir.child(OsStr::new(sub))?,
                    None => self.shelf.dir.clone(),
                };
                dir.remove(name)?;
                dir.sync()?;
            }
        }
        let gone: Vec<Entry> = known.iter().map(|(uid, _)| Entry::Gone(*uid)).collect();
        self.index.add(&self.shelf.dir, &self.shelf.index_name(), &gone)?;
        let contents = self.shelf.read(&self.index)?;
        self.take(contents);
        Ok(())
    }

    /// Writes an mbox anew without some messages, and puts it in the place of the old one.
    fn leave_out(&self, ids: &HashSet<Box<str>>) -> io::Result<()> {
        let name = mbox_name(&self.shelf)?;
        let (mut file, facts) = self.shelf.dir.read(&name)?;
        let mut begins = Begins(Vec::new());
        split(file.try_clone()?.take(facts.size), 0, &mut begins)?;
        let left: HashSet<u64> = self
            .contents
            .items
            .iter()
            .filter(|item| ids.contains(&item.id))
            .filter_map(|item| if let At::Span(from) = item.at { Some(from) } else { None })
            .collect();
        let draft = OsStr::new(".mailferry-draft");
        self.shelf.dir.remove(draft)?;
        let mut to = self.shelf.dir.create(draft)?;
        let ends = begins.0.iter().skip(1).copied().chain([facts.size]);
        for (from, end) in begins.0.iter().copied().zip(ends) {
            if !left.contains(&from) {
                file.seek(SeekFrom::Start(from))?;
                io::copy(&mut (&mut file).take(end - from), &mut to)?;
            }
        }
        to.sync_all()?;
        self.shelf.dir.rename(draft, &self.shelf.dir, &name)?;
        self.shelf.dir.sync()
    }
}

/// The sidecar's entry about a message.
fn note_of(uid: u32, item: &Item, format: Format) -> Note {
    let id = item.id.clone();
    if format == Format::Maildir {
        return Note { uid, id, ..Note::default() };
    }
    Note {
        uid,
        id,
        flags: item.flags.clone(),
        date: item.date,
        size: item.is_counted.then_some(item.size),
        bytes: (item.is_counted && format == Format::Eml).then_some(item.bytes),
        unended: item.unended,
    }
}

fn mbox_name(shelf: &Shelf) -> io::Result<OsString> {
    shelf.file.clone().ok_or_else(|| io::Error::other("an mbox without a file"))
}

/// Goes to the end of an mbox, and ends there what somebody else left open.
fn close_last(file: &mut File) -> io::Result<u64> {
    let size = facts_of(file)?.size;
    if size > 0 {
        let mut last = [b'\n'; 2];
        file.seek(SeekFrom::Start(size.saturating_sub(2)))?;
        let read = usize::try_from(size.min(2)).unwrap_or(2);
        file.read_exact(&mut last[2 - read..])?;
        let missing: &[u8] = match last {
            [b'\n', b'\n'] => b"",
            [_, b'\n'] => b"\n",
            _ => b"\n\n",
        };
        file.write_all(missing)?;
        return Ok(size + missing.len() as u64);
    }
    Ok(0)
}

/// Cuts off what a kill left at the end of an mbox. Where another program has written behind it, everything stays.
fn cut_torn_tail(shelf: &Shelf, from: u64) -> io::Result<()> {
    let name = mbox_name(shelf)?;
    if shelf.dir.facts(&name)?.is_none_or(|facts| facts.size <= from) {
        return Ok(());
    }
    let (mut file, facts) = shelf.dir.write(&name)?;
    file.seek(SeekFrom::Start(from))?;
    if facts.size - from <= TAIL_MAX && is_all_ours(&mut file)? {
        file.set_len(from)?;
        file.sync_all()?;
    }
    Ok(())
}

/// Where messages of an mbox begin.
struct Begins(Vec<u64>);

impl Taker for Begins {
    fn begin(&mut self, at: u64, _separator: &Separator) {
        self.0.push(at);
    }
    fn data(&mut self, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }
    fn end(&mut self, _at: u64, _noted: &super::flags::Noted, _torn: bool) -> bool {
        true
    }
}
