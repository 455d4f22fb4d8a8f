//! A message while it is written, before it is in its place.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};

use super::lines::{MailSize, ToFile, ToMail};
use super::mbox::{Quoting, separator};
use super::tree::{Dir, facts_of, set_mtime};
use crate::model::message::{Flags, InternalDate};
use crate::steps;

/// A message that is being written.
pub(super) struct Draft {
    file: File,
    form: Form,
    hasher: blake3::Hasher,
    /// For the digest: how an mbox is read.
    mail: ToMail,
    size: MailSize,
    written: u64,
    flags: Flags,
    date: Option<InternalDate>,
}

enum Form {
    /// In a file of its own, with LF for line ends or as it is.
    File(Dir, OsString, Option<ToFile>),
    /// At the end of an mbox, from this byte on.
    Mbox(u64, Quoting),
}

/// A message that is written whole, and not in its place yet.
pub(super) struct Kept {
    file: File,
    /// The name of its draft; empty in an mbox.
    pub(super) name: OsString,
    /// Where it begins in an mbox.
    pub(super) from: u64,
    /// Bytes in its file.
    pub(super) bytes: u64,
    /// Bytes as mail.
    pub(super) size: u64,
    /// Has seen its bytes as they are read back.
    pub(super) hasher: blake3::Hasher,
    /// The flags that it shall have.
    pub(super) flags: Flags,
    /// The date that it shall have.
    pub(super) date: Option<InternalDate>,
    /// Whether its last line has no end, and got one.
    pub(super) unended: bool,
}

impl Draft {
    /// Begins a message in a file of its own.
    pub(super) fn in_file(
        dir: &Dir,
        name: &str,
        brings_to_lf: bool,
        flags: Flags,
        date: Option<InternalDate>,
    ) -> io::Result<Self> {
        let name = OsStr::new(name);
        // One that a kill left.
        dir.remove(name)?;
        let file = dir.create(name)?;
        let form = Form::File(dir.clone(), name.to_owned(), brings_to_lf.then(ToFile::default));
        Ok(Self::of(file, form, flags, date))
    }

    /// Begins a message at the end of an mbox.
    pub(super) fn in_mbox(
        mut file: File,
        end: u64,
        flags: Flags,
        date: Option<InternalDate>,
    ) -> io::Result<Self> {
        file.seek(SeekFrom::Start(end))?;
        steps::reach();
        let line = separator(date.map(|date| date.unix));
        file.write_all(&line)?;
        steps::reach();
        let mut draft = Self::of(file, Form::Mbox(end, Quoting::default()), flags, date);
        draft.written = line.len() as u64;
        Ok(draft)
    }

    fn of(file: File, form: Form, flags: Flags, date: Option<InternalDate>) -> Self {
        Self {
            file,
            form,
            hasher: blake3::Hasher::new(),
            mail: ToMail::default(),
            size: MailSize::default(),
            written: 0,
            flags,
            date,
        }
    }

    /// Takes the next bytes of the message.
    pub(super) fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.size.push(bytes);
        let mut mail = Vec::with_capacity(bytes.len());
        self.mail.push(bytes, &mut mail);
        self.hasher.update(&mail);
        let mut out = Vec::with_capacity(bytes.len());
        match &mut self.form {
            Form::File(_, _, None) => out.extend_from_slice(bytes),
            Form::File(_, _, Some(lines)) => lines.push(bytes, &mut out),
            Form::Mbox(_, quoting) => quoting.push(bytes, &mut out),
        }
        self.write(&out)
    }

    fn write(&mut self, out: &[u8]) -> io::Result<()> {
        self.written += out.len() as u64;
        steps::reach();
        self.file.write_all(out)
    }

    /// Ends the message.
    pub(super) fn finish(mut self) -> io::Result<Kept> {
        let mut out = Vec::new();
        let mut unended = false;
        match &mut self.form {
            Form::File(_, _, None) => {}
            Form::File(_, _, Some(lines)) => lines.finish(&mut out),
            Form::Mbox(_, quoting) => unended = quoting.finish(&mut out),
        }
        self.write(&out)?;
        if unended {
            self.hasher.update(b"\r\n");
        }
        let (name, from) = match self.form {
            Form::File(_, name, _) => {
                if let Some(date) = self.date {
                    set_mtime(&self.file, date.unix)?;
                }
                (name, 0)
            }
            Form::Mbox(from, _) => (OsString::new(), from),
        };
        Ok(Kept {
            file: self.file,
            name,
            from,
            bytes: self.written,
            size: self.size.size(),
            hasher: self.hasher,
            flags: self.flags,
            date: self.date,
            unended,
        })
    }

    /// Takes back what was written.
    pub(super) fn discard(self) -> io::Result<()> {
        match self.form {
            Form::File(dir, name, _) => dir.remove(&name),
            Form::Mbox(from, _) => self.file.set_len(from),
        }
    }
}

impl Kept {
    /// Returns when the bytes cannot be lost any more.
    pub(super) fn sync(&self) -> io::Result<()> {
        steps::reach();
        self.file.sync_all()
    }

    /// The date that its file has, in seconds since 1970.
    pub(super) fn written_at(&self) -> io::Result<i64> {
        Ok(facts_of(&self.file)?.mtime)
    }
}
