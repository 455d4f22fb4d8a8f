//! Files below one directory, and nothing else: whatever a tree holds, nobody is led out of it. Each name is opened in the
//! directory that holds it, links are not followed, and only regular files are read, so that a device or a pipe cannot
//! hold a run up. The root itself is the user's word, and may be a link.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustix::fd::OwnedFd;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Stat, Timespec, Timestamps, fstat, futimens, mkdirat, openat,
    renameat, statat, unlinkat,
};
use rustix::io::Errno;

use crate::steps;

/// The most names of one directory that are read: far more than any mailbox has, and a bound on memory.
const NAMES_MAX: usize = 4_000_000;
/// Messages are their owner's alone.
const FILE_MODE: Mode = Mode::from_raw_mode(0o600);
const DIR_MODE: Mode = Mode::from_raw_mode(0o700);

/// An open directory; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Dir(Arc<OwnedFd>);

/// The facts about a file that tell whether it is still the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    /// Bytes.
    pub(super) size: u64,
    /// Seconds since 1970 at which it was written last.
    pub(super) mtime: i64,
    /// And the nanoseconds beyond.
    pub(super) nanos: i64,
    /// Its number in the file system.
    pub(super) inode: u64,
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    /// The name.
    pub(super) name: OsString,
    /// Its kind.
    pub(super) kind: Kind,
}

/// The kinds of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A link, a device, a pipe, a socket: nothing that is read.
    Other,
}

impl Dir {
    /// Opens the root of a tree.
    pub(super) fn root(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(Arc::new(openat(CWD, path, flags, Mode::empty())?)))
    }

    /// Opens a directory in this one; a link to one is refused.
    pub(super) fn child(&self, name: &OsStr) -> io::Result<Self> {
        check(name)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self(Arc::new(openat(&*self.0, name, flags, Mode::empty())?)))
    }

    /// Opens a directory below this one.
    pub(super) fn below(&self, names: &[OsString]) -> io::Result<Self> {
        names.iter().try_fold(self.clone(), |dir, name| dir.child(name))
    }

    /// As [`Self::child`], and makes it where it is missing.
    pub(super) fn child_or_new(&self, name: &OsStr) -> io::Result<Self> {
        check(name)?;
        steps::reach();
        match mkdirat(&*self.0, name, DIR_MODE) {
            Ok(()) => self.sync()?,
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        steps::reach();
        self.child(name)
    }

    /// All names in it but its own and its parent's, sorted.
    pub(super) fn entries(&self) -> io::Result<Vec<Entry>> {
        let mut found = Vec::new();
        for entry in rustix::fs::Dir::read_from(&*self.0)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            if found.len() >= NAMES_MAX {
                return Err(io::Error::other(format!("more than {NAMES_MAX} names in one directory")));
            }
            let name = os_name(name);
            let kind = match entry.file_type() {
                FileType::Unknown => self.kind_of(&name)?,
                known => kind(known),
            };
            found.push(Entry { name, kind });
        }
        found.sort();
        Ok(found)
    }

    fn kind_of(&self, name: &OsStr) -> io::Result<Kind> {
        let stat = statat(&*self.0, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(kind(FileType::from_raw_mode(stat.st_mode)))
    }

    /// The facts about a regular file; `None` where there is none of this name.
    pub(super) fn facts(&self, name: &OsStr) -> io::Result<Option<Facts>> {
        check(name)?;
        match statat(&*self.0, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                Ok(Some(facts(&stat)))
            }
            Ok(_) | Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a regular file for reading.
    pub(super) fn read(&self, name: &OsStr) -> io::Result<(File, Facts)> {
        self.open(name, OFlags::RDONLY)
    }

    /// Makes a file that is not there yet.
    pub(super) fn create(&self, name: &OsStr) -> io::Result<File> {
        self.open(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL).map(|(file, _)| file)
    }

    /// Opens a regular file to be read and changed, and makes it where it is missing.
    pub(super) fn write(&self, name: &OsStr) -> io::Result<(File, Facts)> {
        self.open(name, OFlags::RDWR | OFlags::CREATE)
    }

    fn open(&self, name: &OsStr, flags: OFlags) -> io::Result<(File, Facts)> {
        check(name)?;
        // A pipe would wait for somebody at its other end.
        let safe = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = openat(&*self.0, name, flags | safe, FILE_MODE)?;
        let stat = fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "is not a regular file"));
        }
        Ok((File::from(file), facts(&stat)))
    }

    /// Gives a file or a directory another name and place, over whatever file is there.
    pub(super) fn rename(&self, from: &OsStr, place: &Self, to: &OsStr) -> io::Result<()> {
        check(from)?;
        check(to)?;
        steps::reach();
        renameat(&*self.0, from, &*place.0, to)?;
        steps::reach();
        Ok(())
    }

    /// Removes a file; one that is not there is no failure.
    pub(super) fn remove(&self, name: &OsStr) -> io::Result<()> {
        check(name)?;
        steps::reach();
        match unlinkat(&*self.0, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns when the names in it cannot be lost any more.
    pub(super) fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&*self.0)?)
    }
}

/// The facts about an open file.
pub(super) fn facts_of(file: &File) -> io::Result<Facts> {
    Ok(facts(&fstat(file)?))
}

/// Sets when a file was written last, in seconds since 1970.
pub(super) fn set_mtime(file: &File, unix: i64) -> io::Result<()> {
    let at = Timespec { tv_sec: unix, tv_nsec: 0 };
    Ok(futimens(file, &Timestamps { last_access: at, last_modification: at })?)
}

#[allow(clippy::useless_conversion, clippy::cast_sign_loss, reason = "the widths differ between systems")]
fn facts(stat: &Stat) -> Facts {
    Facts {
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mtime: i64::from(stat.st_mtime),
        nanos: i64::try_from(stat.st_mtime_nsec).unwrap_or(0),
        inode: u64::from(stat.st_ino),
    }
}

fn kind(of: FileType) -> Kind {
    match of {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Dir,
        _ => Kind::Other,
    }
}

/// A name that stays in its directory.
fn check(name: &OsStr) -> io::Result<()> {
    let bytes = name.as_encoded_bytes();
    let leads_out = bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.contains(&b'/');
    if leads_out || bytes.contains(&0) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "is not the name of a file"));
    }
    Ok(())
}

/// A name as the system has it.
pub(super) fn os_name(bytes: &[u8]) -> OsString {
    use std::os::unix::ffi::OsStringExt;
    OsString::from_vec(bytes.to_vec())
}

/// The bytes of a name.
pub(super) fn name_bytes(name: &OsStr) -> &[u8] {
    use std::os::unix::ffi::OsStrExt;
    name.as_bytes()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_leads_out_of_the_root_and_nothing_but_files_is_read() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("secret"), "x").unwrap();
        let root = home.path().join("root");
        std::fs::create_dir_all(root.join("sub")).unwrap();
        std::fs::write(root.join("plain"), "hello").unwrap();
        symlink("../secret", root.join("link")).unwrap();
        symlink("..", root.join("up")).unwrap();
        symlink("/dev/zero", root.join("zero")).unwrap();
        rustix::fs::mknodat(CWD, root.join("pipe"), FileType::Fifo, FILE_MODE, 0).unwrap();
        let dir = Dir::root(&root).unwrap();
        for name in ["link", "zero", "pipe", "sub", "../secret", "..", "", "sub/../../secret"] {
            assert!(dir.read(OsStr::new(name)).is_err(), "{name}");
            assert!(matches!(dir.facts(OsStr::new(name)), Ok(None) | Err(_)), "{name}");
        }
        for name in ["up", "..", "plain", "link"] {
            assert!(dir.child(OsStr::new(name)).is_err(), "{name}");
        }
        assert_eq!(dir.read(OsStr::new("plain")).unwrap().1.size, 5);
        let kinds: Vec<Kind> = dir.entries().unwrap().into_iter().map(|entry| entry.kind).collect();
        assert_eq!(kinds.iter().filter(|kind| **kind == Kind::Other).count(), 4);
        assert!(dir.write(OsStr::new("link")).is_err(), "a link is not written through");
        // The root is the user's word.
        symlink(&root, home.path().join("to-root")).unwrap();
        assert!(Dir::root(&home.path().join("to-root")).is_ok());
    }
}
