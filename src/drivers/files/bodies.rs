//! Hands out the bytes of messages as mail. A small one is read whole before anything is said of it; a large one is measured
//! first and streamed then, in constant memory.

use std::io::{self, BufReader, Read, Seek, SeekFrom};

use bytes::{Bytes, BytesMut};

use super::contents::{At, Item, Shelf, digest_name};
use super::flags::Noted;
use super::lines::ToMail;
use super::mbox::{Separator, Taker, split};
use super::tree::facts_of;
use crate::drivers::{BodyEvent, BodySender};
use crate::model::failure::{Class, Failure, FailureCode, Result};

/// Bytes of a message that are kept in memory.
const MEMORY_MAX: u64 = 1024 * 1024;
/// The largest chunk of a body event, in bytes.
const CHUNK_MAX: usize = 64 * 1024;

/// The fate of a message that was asked for.
#[derive(Debug)]
pub(super) enum Sent {
    /// All of it was handed out.
    Whole,
    /// It is not where it was: nothing was handed out.
    Moved,
    /// It cannot be read: nothing was handed out.
    Unreadable(io::Error),
}

/// Hands out one message. Blocks.
///
/// # Errors
/// When nobody takes it any more, and when it changed while it was handed out.
pub(super) fn send_item(shelf: &Shelf, item: &Item, key: u64, bodies: &BodySender) -> Result<Sent> {
    let way = Way { key, bodies, begun: false, sent: 0 };
    match &item.at {
        At::File(sub, name) => send_file(shelf, *sub, name, way),
        At::Span(from) => send_span(shelf, item, *from, way),
    }
}

/// The way out for one message.
struct Way<'a> {
    key: u64,
    bodies: &'a BodySender,
    begun: bool,
    sent: u64,
}

impl Way<'_> {
    fn event(&self, event: BodyEvent) -> Result<()> {
        let gone = |_| {
            Failure::new(Class::Interrupted, "stopped reading, because nobody takes the messages any more")
        };
        self.bodies.blocking_send(event).map_err(gone)
    }

    fn begin(&mut self, size: u64) -> Result<()> {
        self.begun = true;
        self.event(BodyEvent::Begin { key: self.key, size })
    }

    fn data(&mut self, bytes: Bytes) -> Result<()> {
        let mut rest = bytes;
        self.sent += rest.len() as u64;
        while !rest.is_empty() {
            let chunk = rest.split_to(rest.len().min(CHUNK_MAX));
            self.event(BodyEvent::Chunk(chunk))?;
        }
        Ok(())
    }

    fn whole(&mut self, message: Vec<u8>) -> Result<Sent> {
        self.begin(message.len() as u64)?;
        self.data(Bytes::from(message))?;
        self.event(BodyEvent::End { date: None })?;
        Ok(Sent::Whole)
    }
}

/// The file is another one than it was a moment ago: what was handed out is worth nothing.
fn changed() -> Failure {
    Failure::new(Class::Unreachable, "a file changed while it was read")
        .code(FailureCode::SessionOver)
        .hint("the next attempt reads it as it is then")
}

/// The words of an error about a message of which nothing was handed out.
fn unread(error: io::Error) -> Sent {
    if error.kind() == io::ErrorKind::NotFound { Sent::Moved } else { Sent::Unreadable(error) }
}

fn send_file(
    shelf: &Shelf,
    sub: Option<&'static str>,
    name: &std::ffi::OsStr,
    mut way: Way<'_>,
) -> Result<Sent> {
    let (mut reader, file, facts) = match shelf.open(sub, name) {
        Ok(opened) => opened,
        Err(error) => return Ok(unread(error)),
    };
    let mut raw = Vec::new();
    if let Err(error) = reader.by_ref().take(MEMORY_MAX).read_to_end(&mut raw) {
        return Ok(unread(error));
    }
    let is_same = || facts_of(&file).is_ok_and(|now| now == facts);
    let mut mail = ToMail::default();
    let mut out = Vec::with_capacity(raw.len() + raw.len() / 16);
    mail.push(&raw, &mut out);
    if (raw.len() as u64) < MEMORY_MAX {
        // Written at this very moment: the next look finds it whole.
        return if is_same() { way.whole(out) } else { Ok(Sent::Moved) };
    }
    let size = match shelf.measure(sub, name) {
        Ok(size) => size,
        Err(error) => return Ok(unread(error)),
    };
    way.begin(size)?;
    let mut chunk = vec![0; CHUNK_MAX / 2];
    loop {
        if way.sent + out.len() as u64 > size {
            return Err(changed());
        }
        way.data(Bytes::from(std::mem::take(&mut out)))?;
        let read = reader.read(&mut chunk).map_err(|error| changed().caused_by(&error))?;
        if read == 0 {
            break;
        }
        mail.push(&chunk[..read], &mut out);
    }
    if way.sent != size || !is_same() {
        return Err(changed());
    }
    way.event(BodyEvent::End { date: None })?;
    Ok(Sent::Whole)
}

fn send_span(shelf: &Shelf, item: &Item, from: u64, mut way: Way<'_>) -> Result<Sent> {
    let Some(name) = &shelf.file else { return Ok(Sent::Moved) };
    let mut file = match shelf.dir.read(name) {
        Ok((file, _)) => file,
        Err(error) => return Ok(unread(error)),
    };
    if let Err(error) = file.seek(SeekFrom::Start(from)) {
        return Ok(unread(error));
    }
    let stored = item.size + if item.unended { 2 } else { 0 };
    let in_memory = stored <= MEMORY_MAX;
    if !in_memory {
        way.begin(item.size)?;
    }
    let taking = Taking {
        way,
        wanted: item.size,
        in_memory,
        hasher: blake3::Hasher::new(),
        stored: 0,
        held: BytesMut::new(),
        separated: false,
        ended: false,
        failure: None,
    };
    taking.run(BufReader::new(file), from, stored, &item.id)
}

/// Takes one message of an mbox.
struct Taking<'a> {
    way: Way<'a>,
    wanted: u64,
    in_memory: bool,
    hasher: blake3::Hasher,
    stored: u64,
    held: BytesMut,
    separated: bool,
    ended: bool,
    failure: Option<Failure>,
}

impl Taking<'_> {
    fn run(mut self, file: impl Read, from: u64, stored: u64, id: &str) -> Result<Sent> {
        let read = split(file, from, &mut self);
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let as_listed = read.as_ref().is_ok_and(|is_mbox| *is_mbox)
            && self.separated
            && self.ended
            && self.stored == stored
            && id.starts_with(&digest_name(&self.hasher));
        if self.in_memory {
            return match read {
                Err(error) => Ok(unread(error)),
                Ok(_) if !as_listed => Ok(Sent::Moved),
                Ok(_) => {
                    self.held.truncate(usize::try_from(self.wanted).unwrap_or(usize::MAX));
                    self.way.whole(self.held.into())
                }
            };
        }
        if !as_listed || self.way.sent != self.wanted {
            return Err(changed());
        }
        self.way.event(BodyEvent::End { date: None })?;
        Ok(Sent::Whole)
    }
}

impl Taker for Taking<'_> {
    fn begin(&mut self, _at: u64, _separator: &Separator) {
        self.separated = true;
    }

    fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.stored += bytes.len() as u64;
        if self.in_memory {
            if self.stored > MEMORY_MAX {
                return Err(io::Error::new(io::ErrorKind::NotFound, "another message is there now"));
            }
            self.held.extend_from_slice(bytes);
            return Ok(());
        }
        let left = usize::try_from(self.wanted - self.way.sent).unwrap_or(usize::MAX);
        let part = &bytes[..bytes.len().min(left)];
        self.way.data(Bytes::copy_from_slice(part)).map_err(|failure| {
            self.failure = Some(failure);
            io::Error::other("nobody takes it")
        })
    }

    fn end(&mut self, _at: u64, _noted: &Noted, _torn: bool) -> bool {
        self.ended = true;
        false
    }
}
