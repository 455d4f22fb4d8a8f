//! The messages of one folder, as its files have them now: by name, with sizes, dates and flags. No body is kept.

use std::collections::{HashMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use flate2::read::MultiGzDecoder;

use super::Format;
use super::flags::{KEYWORDS_FILE, KEYWORDS_FILE_MAX, Keywords, Noted, read_letters};
use super::index::{Index, Note};
use super::lines::MailSize;
use super::maildir::{CUR, NEW, number, part};
use super::mbox::{Separator, Taker, split};
use super::names::{text_of, with_end};
use super::tree::{Dir, Facts, Kind, facts_of, name_bytes};
use crate::model::message::{Flags, InternalDate};

/// The sidecar of a directory of .eml, and the end of the name of an mbox's.
pub(super) const INDEX: &str = "index.jsonl";
/// The sidecar of a Maildir.
pub(super) const MAILDIR_INDEX: &str = "mailferry.jsonl";
/// Bytes that are read at a time.
const CHUNK: usize = 64 * 1024;
/// The first bytes of a compressed file, as Dovecot's plugin `zlib` writes them.
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// How long a file must not have been written to before what is at its end counts as whole, in seconds.
const AT_REST: i64 = 60;
/// The largest message, in bytes: a compressed file may claim to be anything.
const MESSAGE_MAX: u64 = 4 * 1024 * 1024 * 1024;

/// A folder of files.
#[derive(Debug, Clone)]
pub(super) struct Shelf {
    /// How messages are written in it.
    pub(super) format: Format,
    /// Its directory; that of its file for mbox.
    pub(super) dir: Dir,
    /// The file of an mbox.
    pub(super) file: Option<OsString>,
}

/// Where the bytes of a message are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum At {
    /// In a file of its own; in a Maildir the directory of it is named.
    File(Option<&'static str>, OsString),
    /// In an mbox, behind the separator at this byte.
    Span(u64),
}

/// A message of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    /// The name by which it is known: it stays when flags change, and when an mbox is compacted.
    pub(super) id: Box<str>,
    /// Where its bytes are.
    pub(super) at: At,
    /// Its size as mail, in bytes: exact for mbox, and elsewhere as the name or the sidecar says, else that of the file.
    pub(super) size: u64,
    /// The size of its file in bytes, where it has one.
    pub(super) bytes: u64,
    /// Whether `size` was counted.
    pub(super) is_counted: bool,
    /// Its arrival date, where the files tell one.
    pub(super) date: Option<InternalDate>,
    /// Its flags.
    pub(super) flags: Flags,
    /// Whether its last line has no end, and got one in the mbox.
    pub(super) unended: bool,
}

/// The messages of a folder, and what is not one.
#[derive(Debug, Clone, Default)]
pub(super) struct Contents {
    /// Messages, the oldest first as far as the files tell.
    pub(super) items: Vec<Item>,
    /// The letters of keywords in a Maildir.
    pub(super) keywords: Keywords,
    /// Messages of an mbox that were removed by a mail program which has not compacted the file since.
    pub(super) removed: u64,
    /// Messages of which an mail program has the header alone.
    pub(super) partial: u64,
    /// Messages at the end of a file that ends in the midst of a line, and was written to just now.
    pub(super) torn: u64,
    /// The same at the end of a file that nobody has written to for a while. They are among the messages.
    pub(super) unended: u64,
}

impl Shelf {
    /// The name of its sidecar.
    pub(super) fn index_name(&self) -> OsString {
        match (self.format, &self.file) {
            (Format::Maildir, _) => MAILDIR_INDEX.into(),
            (Format::Mbox, Some(file)) => with_end(file, ".jsonl"),
            (Format::Mbox | Format::Eml, _) => INDEX.into(),
        }
    }

    /// Reads its sidecar.
    pub(super) fn index(&self) -> io::Result<Index> {
        Index::read(&self.dir, &self.index_name())
    }

    /// Reads the names, or the whole file for mbox.
    pub(super) fn read(&self, index: &Index) -> io::Result<Contents> {
        match self.format {
            Format::Maildir => self.read_maildir(index),
            Format::Mbox => self.read_mbox(index),
            Format::Eml => self.read_eml(index),
        }
    }

    fn read_maildir(&self, index: &Index) -> io::Result<Contents> {
        let keywords = self.read_keywords()?;
        let mut items: Vec<(i64, Item)> = Vec::new();
        let mut seen: HashMap<Box<str>, u32> = HashMap::new();
        for sub in [CUR, NEW] {
            let Some(dir) = child(&self.dir, OsStr::new(sub))? else { continue };
            for entry in dir.entries()? {
                if entry.kind != Kind::File || name_bytes(&entry.name).starts_with(b".") {
                    continue;
                }
                // It may have gone, or be called otherwise, since.
                let Some(facts) = dir.facts(&entry.name)? else { continue };
                let (base, letters) = part(&entry.name);
                let id = once(text_of(&base), &mut seen);
                let counted = number(&base, 'W').filter(|_| number(&base, 'S') == Some(facts.size));
                let mut flags = read_letters(letters.as_deref().unwrap_or_default(), &keywords);
                if let Some(note) = index.find(&id).filter(|note| !note.flags.is_empty()) {
                    flags = flags.iter().chain(note.flags.iter()).collect();
                }
                let item = Item {
                    id,
                    at: At::File(Some(sub), entry.name),
                    size: counted.unwrap_or(facts.size),
                    bytes: facts.size,
                    is_counted: counted.is_some(),
                    date: Some(InternalDate { unix: facts.mtime, offset_minutes: 0 }),
                    flags,
                    unended: false,
                };
                items.push((facts.mtime, item));
            }
        }
        items.sort_by(|a, b| (a.0, &a.1.id).cmp(&(b.0, &b.1.id)));
        let items = items.into_iter().map(|(_, item)| item).collect();
        Ok(Contents { items, keywords, ..Contents::default() })
    }

    fn read_keywords(&self) -> io::Result<Keywords> {
        match self.dir.read(OsStr::new(KEYWORDS_FILE)) {
            Ok((file, _)) => {
                let mut text = Vec::new();
                file.take(KEYWORDS_FILE_MAX).read_to_end(&mut text)?;
                Ok(Keywords::read(&String::from_utf8_lossy(&text)))
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
            // It is not there, or a link is in its place.
            Err(_) => Ok(Keywords::default()),
        }
    }

    fn read_eml(&self, index: &Index) -> io::Result<Contents> {
        let mut contents = Contents::default();
        for entry in self.dir.entries()? {
            if entry.kind != Kind::File || !is_eml(&entry.name) {
                continue;
            }
            let Some(facts) = self.dir.facts(&entry.name)? else { continue };
            let id: Box<str> = text_of(&entry.name).into();
            let note = index.find(&id);
            let counted = note.filter(|note| note.bytes == Some(facts.size)).and_then(|note| note.size);
            contents.items.push(Item {
                at: At::File(None, entry.name),
                size: counted.unwrap_or(facts.size),
                bytes: facts.size,
                is_counted: counted.is_some(),
                date: note.and_then(|note| note.date),
                flags: note.map(|note| note.flags.clone()).unwrap_or_default(),
                unended: false,
                id,
            });
        }
        Ok(contents)
    }

    fn read_mbox(&self, index: &Index) -> io::Result<Contents> {
        let Some(name) = &self.file else { return Ok(Contents::default()) };
        let (file, facts) = match self.dir.read(name) {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Contents::default()),
            Err(error) => return Err(error),
        };
        // As far as it was written when it was opened; the rest is for the next pass, and so is a last message within which
        // the file ends, unless nobody has written to it for a while.
        let is_at_rest = now().map_or(true, |now| now.saturating_sub(facts.mtime) > AT_REST);
        let mut listing = Listing::new(index, is_at_rest);
        if !split(file.take(facts.size), 0, &mut listing)? {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "is not a mailbox of mbox"));
        }
        Ok(listing.contents)
    }

    /// Opens the bytes of a message that has a file of its own.
    pub(super) fn open(
        &self,
        sub: Option<&str>,
        name: &OsStr,
    ) -> io::Result<(Box<dyn Read + Send>, File, Facts)> {
        let dir = match sub {
            Some(sub) => self.dir.child(OsStr::new(sub))?,
            None => self.dir.clone(),
        };
        let (mut file, facts) = dir.read(name)?;
        let kept = file.try_clone()?;
        let mut magic = [0; 2];
        let is_packed = facts.size > 2 && file.read_exact(&mut magic).is_ok() && magic == GZIP;
        file.seek(SeekFrom::Start(0))?;
        let reader: Box<dyn Read + Send> =
            if is_packed { Box::new(MultiGzDecoder::new(BufReader::new(file))) } else { Box::new(file) };
        Ok((reader, kept, facts))
    }

    /// Counts how large a message is as mail.
    pub(super) fn measure(&self, sub: Option<&str>, name: &OsStr) -> io::Result<u64> {
        let (mut reader, _, _) = self.open(sub, name)?;
        let mut size = MailSize::default();
        let mut chunk = vec![0; CHUNK];
        loop {
            match reader.read(&mut chunk)? {
                0 => return Ok(size.size()),
                read => size.push(&chunk[..read]),
            }
            if size.size() > MESSAGE_MAX {
                return Err(io::Error::other(format!("is larger than {MESSAGE_MAX} bytes")));
            }
        }
    }
}

/// The moment by the disk's clock, in seconds since 1970.
fn now() -> io::Result<i64> {
    Ok(facts_of(&tempfile::tempfile()?)?.mtime)
}

/// Opens a directory, if it is there.
pub(super) fn child(dir: &Dir, name: &OsStr) -> io::Result<Option<Dir>> {
    match dir.child(name) {
        Ok(child) => Ok(Some(child)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a file is a message by its name.
pub(super) fn is_eml(name: &OsStr) -> bool {
    let bytes = name_bytes(name);
    bytes.len() > 4 && !bytes.starts_with(b".") && bytes[bytes.len() - 4..].eq_ignore_ascii_case(b".eml")
}

/// A name that no other message of the folder has.
fn once(name: String, seen: &mut HashMap<Box<str>, u32>) -> Box<str> {
    let times = seen.entry(name.as_str().into()).or_insert(0);
    *times += 1;
    if *times == 1 { name.into() } else { format!("{name}.{times}").into() }
}

/// Lists the messages of an mbox: each is known by the digest of its bytes, since its place moves when others go.
struct Listing<'a> {
    index: &'a Index,
    /// Whether nobody writes to the file, so that what is there is all that will be.
    is_at_rest: bool,
    seen: HashMap<Box<str>, u32>,
    /// The noted messages that the file may still hold, by the digest of their bytes and in the order of their numbers.
    twins: HashMap<&'a str, VecDeque<&'a Note>>,
    contents: Contents,
    open: Option<(u64, Separator, blake3::Hasher, u64)>,
}

/// Letters of a digest in such a name.
pub(super) const DIGEST_LENGTH: usize = 32;

/// The name of a message in an mbox.
pub(super) fn digest_name(hasher: &blake3::Hasher) -> String {
    hasher.finalize().to_hex()[..DIGEST_LENGTH].to_owned()
}

impl<'a> Listing<'a> {
    fn new(index: &'a Index, is_at_rest: bool) -> Self {
        let mut twins: HashMap<&str, VecDeque<&Note>> = HashMap::new();
        for note in index.notes() {
            twins.entry(note.id.get(..DIGEST_LENGTH).unwrap_or_default()).or_default().push_back(note);
        }
        Self { index, is_at_rest, seen: HashMap::new(), twins, contents: Contents::default(), open: None }
    }

    /// A name for a message that is not noted.
    fn name(&mut self, digest: &str) -> Box<str> {
        loop {
            let id = once(digest.to_owned(), &mut self.seen);
            if self.index.find(&id).is_none() {
                return id;
            }
        }
    }
}

impl Taker for Listing<'_> {
    fn begin(&mut self, at: u64, separator: &Separator) {
        self.open = Some((at, separator.clone(), blake3::Hasher::new(), 0));
    }

    fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some((_, _, hasher, size)) = &mut self.open {
            hasher.update(bytes);
            *size += bytes.len() as u64;
        }
        Ok(())
    }

    fn end(&mut self, _at: u64, noted: &Noted, torn: bool) -> bool {
        let Some((at, separator, hasher, size)) = self.open.take() else { return true };
        self.contents.unended += u64::from(torn && self.is_at_rest);
        if torn && !self.is_at_rest {
            self.contents.torn += 1;
        } else if noted.is_removed() {
            self.contents.removed += 1;
        } else if noted.is_partial() {
            self.contents.partial += 1;
        } else {
            let digest = digest_name(&hasher);
            // Of several with the same bytes the first is the one that was noted first: others may have gone since.
            let note = self.twins.get_mut(digest.as_str()).and_then(VecDeque::pop_front);
            let id = match note {
                Some(note) => note.id.clone(),
                None => self.name(&digest),
            };
            let unended = note.is_some_and(|note| note.unended) && size >= 2;
            let said = separator.date.map(|unix| InternalDate { unix, offset_minutes: 0 });
            let date = match note {
                Some(note) if separator.ours => note.date,
                // We write the first moment of all where there is no date.
                _ => said.filter(|date| !separator.ours || date.unix != 0),
            };
            let flags = match note {
                Some(note) if separator.ours => note.flags.clone(),
                // Another program has been there since: it knows better whether the message was read.
                _ => noted.flags(),
            };
            self.contents.items.push(Item {
                at: At::Span(at),
                size: if unended { size - 2 } else { size },
                bytes: 0,
                is_counted: true,
                date,
                flags,
                unended,
                id,
            });
        }
        true
    }
}
