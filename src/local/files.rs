//! Files that others may be reading. Each is written beside its place and put there when it is whole: whoever opens it
//! finds the old one or the new one, and what could not be written leaves the old one.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use crate::model::failure::{Failure, Result};

/// The readers of a new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Its owner alone, from the first byte.
    Owner,
    /// Those who may read other new files here; where there is a file already, those who may read that one.
    Usual,
}

/// A file that is being written, and is not in its place yet. Dropped before [`Self::finish`] it leaves nothing behind.
#[derive(Debug)]
pub struct Draft(Inner);

#[derive(Debug)]
enum Inner {
    /// The draft is written by its bare file: errors of a named one name the draft, which nobody asked for and which is gone
    /// already. Callers name the file that shall be.
    Beside { file: BufWriter<File>, draft: TempPath, to: PathBuf },
    /// A pipe, a terminal, `/dev/stdout`: nothing can be put in its place.
    Straight(BufWriter<File>),
}

impl Draft {
    /// Begins a file that shall be at `path`.
    ///
    /// # Errors
    /// When nothing can be written there.
    pub fn begin(path: &Path, access: Access) -> io::Result<Self> {
        let there = fs::metadata(path).ok();
        if there.as_ref().is_some_and(|there| !there.is_file()) {
            let file = File::options().write(true).open(path)?;
            return Ok(Self(Inner::Straight(BufWriter::new(file))));
        }
        // A link stays a link: the file that it leads to is replaced.
        let to = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let begin = |draft: &Path| {
            let mut options = File::options();
            options.read(true).write(true).create_new(true);
            #[cfg(unix)]
            {
                use std::os::unix::fs::OpenOptionsExt;
                // The umask takes away what is not usual.
                options.mode(if access == Access::Usual { 0o666 } else { 0o600 });
            }
            options.open(draft)
        };
        let (file, draft) = tempfile::Builder::new().make_in(parent_of(&to), begin)?.into_parts();
        if let (Access::Usual, Some(there)) = (access, there) {
            take_after(&file, &there);
        }
        Ok(Self(Inner::Beside { file: BufWriter::new(file), draft, to }))
    }

    /// Puts the file in its place; its bytes are on the disk then.
    ///
    /// # Errors
    /// When the rest cannot be written, or the file cannot be put there; the old one stays.
    pub fn finish(self) -> io::Result<()> {
        match self.0 {
            Inner::Beside { file, draft, to } => {
                let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
                file.sync_all()?;
                draft.persist(to).map_err(|e| e.error)
            }
            Inner::Straight(mut file) => file.flush(),
        }
    }
}

impl Inner {
    fn file(&mut self) -> &mut BufWriter<File> {
        match self {
            Self::Beside { file, .. } | Self::Straight(file) => file,
        }
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.file().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.file().flush()
    }
}

/// Lets a file be read by those who could read the one before, as far as that is in our power.
fn take_after(file: &File, before: &fs::Metadata) {
    let _ = file.set_permissions(before.permissions());
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, fchown};
        let _ = fchown(file, Some(before.uid()), Some(before.gid()));
    }
}

/// Writes a file of which all is known at once. After a loss of power it may still be the old one.
///
/// # Errors
/// As [`Draft::begin`] and [`Draft::finish`].
pub fn put(path: &Path, bytes: &[u8], access: Access) -> io::Result<()> {
    let mut draft = Draft::begin(path, access)?;
    draft.write_all(bytes)?;
    draft.finish()
}

/// Writes a file for its owner alone, and returns when nothing can take it back.
///
/// # Errors
/// As [`put`].
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    put(path, bytes, Access::Owner)?;
    // The rename itself is durable only with its directory.
    File::open(parent_of(path))?.sync_all()
}

fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."))
}

/// Whether others than a file's owner can read it, as far as the system keeps such rights, and the owner is who asks or
/// can be helped by them. A file in a directory that nobody else may enter cannot be read.
pub fn can_be_read_by_others(path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let Ok(path) = fs::canonicalize(path) else { return false };
        let mode = |path: &Path| fs::metadata(path).map_or(0, |file| file.permissions().mode());
        let me = rustix::process::geteuid();
        let is_ours = fs::metadata(&path)
            .is_ok_and(|file| file.is_file() && (me.is_root() || file.uid() == me.as_raw()));
        // Each kind of others by its right to read and its right to enter; who is in a group is not looked at.
        let open_to = |read: u32, enter: u32| {
            mode(&path) & read != 0 && path.ancestors().skip(1).all(|above| mode(above) & enter != 0)
        };
        is_ours && (open_to(0o004, 0o001) || open_to(0o040, 0o011))
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        false
    }
}

/// A file that a result cannot be written to.
pub fn unwritten(path: &Path, error: &io::Error) -> Failure {
    Failure::configuration(format!("{}: cannot be written: {error}", path.display()))
        .hint("give --out a path that can be written and has room")
        .caused_by(error)
}

/// Writes a document to a file: all of it, or nothing.
///
/// # Errors
/// Those of `write`, and [`unwritten`].
pub fn write_whole(path: &Path, write: impl FnOnce(&mut Draft) -> Result<()>) -> Result<()> {
    let failed = |e: io::Error| unwritten(path, &e);
    let mut draft = Draft::begin(path, Access::Usual).map_err(failed)?;
    write(&mut draft)?;
    draft.finish().map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_was_not_finished_leaves_the_old_file_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report.html");
        fs::write(&path, "old").unwrap();
        let refused = write_whole(&path, |draft| {
            draft.write_all(&vec![b'x'; 100_000]).unwrap();
            Err(Failure::internal("refused"))
        });
        assert_eq!(refused.unwrap_err().what, "refused");
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(names(directory.path()), ["report.html"]);
        write_whole(&path, |draft| {
            draft.write_all(b"new").unwrap();
            Ok(())
        })
        .unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        let nowhere = write_whole(&directory.path().join("no/report.html"), |_| Ok(())).unwrap_err();
        let words = nowhere.sentence();
        assert!(words.contains("no/report.html: cannot be written: No such file"), "{words}");
        // The draft has a name of its own, which is nobody's concern.
        assert_eq!(words.matches(&directory.path().display().to_string()).count(), 1, "{words}");
    }

    #[cfg(unix)]
    #[test]
    fn rights_and_links_stay_and_what_is_no_file_is_written_to() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let mode = |name: &str| fs::metadata(path(name)).unwrap().permissions().mode() & 0o777;
        put(&path("new"), b"1", Access::Usual).unwrap();
        fs::write(path("plain"), "").unwrap();
        assert_eq!(mode("new"), mode("plain"), "as the umask says");
        put(&path("mine"), b"1", Access::Owner).unwrap();
        assert_eq!(mode("mine"), 0o600);
        // A temporary directory is its owner's; open it to see what is in it.
        fs::set_permissions(directory.path(), Permissions::from_mode(0o711)).unwrap();
        for (rights, seen) in [(0o600, false), (0o640, true), (0o604, true), (0o622, false)] {
            fs::set_permissions(path("mine"), Permissions::from_mode(rights)).unwrap();
            assert_eq!(can_be_read_by_others(&path("mine")), seen, "{rights:o}");
        }
        fs::set_permissions(path("mine"), Permissions::from_mode(0o644)).unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).unwrap();
        assert!(!can_be_read_by_others(&path("mine")), "nobody else comes to it");
        fs::set_permissions(path("new"), Permissions::from_mode(0o640)).unwrap();
        symlink("new", path("link")).unwrap();
        put(&path("link"), b"2", Access::Usual).unwrap();
        assert_eq!((fs::read_to_string(path("new")).unwrap().as_str(), mode("new")), ("2", 0o640));
        assert!(fs::symlink_metadata(path("link")).unwrap().is_symlink());
        put(Path::new("/dev/null"), b"3", Access::Usual).unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        assert!(put(directory.path(), b"4", Access::Usual).is_err(), "a directory");
    }
}
