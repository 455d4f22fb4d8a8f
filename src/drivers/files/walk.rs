//! Finds the folders of a tree. A directory that is laid out by another program is read as that program means it: Maildir++,
//! Maildirs in directories, Thunderbird's `.sbd`, `KMail`'s `.directory`, Apple's `.mbox`.

use std::collections::{BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};

use super::Format;
use super::contents::{INDEX, Shelf, is_eml};
use super::maildir::{CUR, NEW, TMP};
use super::mbox::is_mbox;
use super::names::{read_level_name, read_maildir_name, text_of, with_end};
use super::subscriptions;
use super::tree::{Dir, Kind, name_bytes, os_name};
use crate::model::folder::FolderPath;
use crate::model::text::printable;

/// The deepest directories that are looked into.
const DEPTH_MAX: usize = 40;
/// The most folders of one mailbox.
const FOLDERS_MAX: usize = 100_000;
/// The most things that are told by name.
const NOTES_MAX: usize = 20;
/// The directory of Thunderbird's folders below a folder.
const BELOW: &[u8] = b".sbd";
/// Ends of names of files beside mailboxes of mbox, which are no mailboxes.
const BESIDE: [&str; 16] = [
    ".msf", ".dat", ".html", ".json", ".jsonl", ".lock", ".db", ".sqlite", ".ini", ".js", ".log", ".bak",
    ".idx", ".index", ".cache", ".toc",
];

/// A folder in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Its path; no other one of the tree has it.
    pub(super) path: FolderPath,
    /// The path that its name reads as, where another one has that.
    pub(super) twin_of: Option<FolderPath>,
    /// The directories that lead to it, and for mbox the file.
    pub(super) dirs: Vec<OsString>,
    /// The file of an mbox.
    pub(super) file: Option<OsString>,
}

/// The folders of a tree, and the names of what could not be read as one.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// Folders in the order of their paths.
    pub(super) folders: Vec<Found>,
    /// Files that are no mail, by name and with the reason; at most 20.
    pub(super) passed_over: Vec<String>,
    /// Entries that may be folders and could not be looked into, likewise.
    pub(super) unreadable: Vec<String>,
    /// Folders that are subscribed to; `None` where nobody keeps a list.
    pub(super) subscribed: Option<BTreeSet<FolderPath>>,
    seen: Vec<(Vec<String>, Vec<OsString>, Option<OsString>)>,
}

/// Looks through a tree.
///
/// # Errors
/// Where its root cannot be read. A part below that cannot be read is told by name.
pub(super) fn walk(root: &Dir, format: Format) -> io::Result<Walk> {
    let mut walk = Walk { subscribed: subscriptions::read(root)?, ..Walk::default() };
    match format {
        Format::Maildir => walk.maildirs(root, &mut Vec::new(), &[], 0)?,
        Format::Mbox => {
            let (dir, mut dirs) = skip_account(root)?;
            walk.mboxes(&dir, &mut dirs, &[], 0)?;
        }
        Format::Eml => walk.emls(root, &mut Vec::new(), &[], 0)?,
    }
    walk.name_all();
    Ok(walk)
}

/// A tree that holds one directory of mailboxes and nothing else is a mail program's tree with one account: the account's
/// name is no folder.
fn skip_account(root: &Dir) -> io::Result<(Dir, Vec<OsString>)> {
    let entries = root.entries()?;
    let shown = entries.iter().filter(|entry| !name_bytes(&entry.name).starts_with(b"."));
    let shown: Vec<_> = shown.filter(|entry| entry.kind != Kind::File || !is_beside(&entry.name)).collect();
    if let [only] = shown.as_slice()
        && only.kind == Kind::Dir
        && strip_end(&only.name, BELOW).is_none()
        && strip_end(&only.name, b".mbox").is_none()
    {
        return Ok((root.child(&only.name)?, vec![only.name.clone()]));
    }
    Ok((root.clone(), Vec::new()))
}

impl Walk {
    fn note(&mut self, dirs: &[OsString], name: &OsStr, why: &str) {
        if self.passed_over.len() < NOTES_MAX {
            self.passed_over.push(told(dirs, name, why));
        }
    }

    fn note_unreadable(&mut self, dirs: &[OsString], name: &OsStr, why: &str) {
        if self.unreadable.len() < NOTES_MAX {
            self.unreadable.push(told(dirs, name, why));
        }
    }

    fn add(&mut self, path: Vec<String>, dirs: &[OsString], file: Option<OsString>) {
        if self.seen.len() < FOLDERS_MAX {
            self.seen.push((path, dirs.to_vec(), file));
        } else {
            self.note_unreadable(dirs, OsStr::new(""), "is beyond the folders that are read");
        }
    }

    /// Opens a directory further down; one that cannot be opened is told.
    fn enter(&mut self, dir: &Dir, dirs: &[OsString], name: &OsStr, depth: usize) -> Option<Dir> {
        if depth >= DEPTH_MAX {
            self.note_unreadable(dirs, name, "is too deep in the tree to be read");
            return None;
        }
        match dir.child(name) {
            Ok(child) => Some(child),
            Err(error) => {
                self.note_unreadable(dirs, name, &format!("cannot be opened: {error}"));
                None
            }
        }
    }

    fn maildirs(
        &mut self,
        dir: &Dir,
        dirs: &mut Vec<OsString>,
        path: &[String],
        depth: usize,
    ) -> io::Result<()> {
        let entries = dir.entries()?;
        if entries.iter().any(|entry| entry.kind == Kind::Dir && entry.name == CUR) {
            self.add(path.to_vec(), dirs, None);
        }
        for entry in entries {
            let bytes = name_bytes(&entry.name);
            if entry.name == CUR || entry.name == NEW || entry.name == TMP {
                continue;
            }
            if entry.kind == Kind::Other {
                self.note(dirs, &entry.name, "is a link or a device and was not followed");
            }
            if entry.kind != Kind::Dir {
                continue;
            }
            let hidden = bytes.starts_with(b".");
            let below = strip_end(&entry.name, b".directory").filter(|_| hidden);
            let levels = if let Some(folder) = below {
                vec![read_level_name(&os_name(&name_bytes(&folder)[1..]))]
            } else if let Some(folder) = strip_end(&entry.name, BELOW) {
                vec![read_level_name(&folder)]
            } else if hidden {
                read_maildir_name(&entry.name)
            } else {
                vec![read_level_name(&entry.name)]
            };
            let Some(child) = self.enter(dir, dirs, &entry.name, depth) else { continue };
            let path: Vec<String> = path.iter().cloned().chain(levels).collect();
            dirs.push(entry.name.clone());
            let read = self.maildirs(&child, dirs, &path, depth + 1);
            dirs.pop();
            if let Err(error) = read {
                self.note_unreadable(dirs, &entry.name, &format!("cannot be read: {error}"));
            }
        }
        Ok(())
    }

    fn mboxes(
        &mut self,
        dir: &Dir,
        dirs: &mut Vec<OsString>,
        path: &[String],
        depth: usize,
    ) -> io::Result<()> {
        let below = |level: String| -> Vec<String> { path.iter().cloned().chain([level]).collect() };
        for entry in dir.entries()? {
            let bytes = name_bytes(&entry.name);
            if bytes.starts_with(b".") || bytes.ends_with(b".mozmsgs") {
                continue;
            }
            match entry.kind {
                Kind::Other => self.note(dirs, &entry.name, "is a link or a device and was not followed"),
                Kind::File if is_beside(&entry.name) => {}
                Kind::File => match begins_as_mbox(dir, &entry.name) {
                    Ok(true) => {
                        let is_bundle = entry.name == "mbox"
                            && dirs.last().is_some_and(|last| strip_end(last, b".mbox").is_some());
                        let level = strip_end(&entry.name, b".mbox").unwrap_or_else(|| entry.name.clone());
                        let path = if is_bundle { path.to_vec() } else { below(read_level_name(&level)) };
                        self.add(path, dirs, Some(entry.name.clone()));
                    }
                    Ok(false) => self.note(dirs, &entry.name, "is not a mailbox of mbox"),
                    Err(error) => {
                        self.note_unreadable(dirs, &entry.name, &format!("cannot be read: {error}"));
                    }
                },
                Kind::Dir => {
                    let Some(child) = self.enter(dir, dirs, &entry.name, depth) else { continue };
                    let bare = strip_end(&entry.name, BELOW).or_else(|| strip_end(&entry.name, b".mbox"));
                    let level = read_level_name(bare.as_deref().unwrap_or(&entry.name));
                    dirs.push(entry.name.clone());
                    let read = self.mboxes(&child, dirs, &below(level), depth + 1);
                    dirs.pop();
                    if let Err(error) = read {
                        self.note_unreadable(dirs, &entry.name, &format!("cannot be read: {error}"));
                    }
                }
            }
        }
        Ok(())
    }

    fn emls(&mut self, dir: &Dir, dirs: &mut Vec<OsString>, path: &[String], depth: usize) -> io::Result<()> {
        let entries = dir.entries()?;
        let holds = |entry: &super::tree::Entry| {
            entry.kind == Kind::File && (is_eml(&entry.name) || entry.name == INDEX)
        };
        if entries.iter().any(holds) {
            self.add(path.to_vec(), dirs, None);
        }
        for entry in entries {
            if name_bytes(&entry.name).starts_with(b".") {
                continue;
            }
            match entry.kind {
                Kind::Other => self.note(dirs, &entry.name, "is a link or a device and was not followed"),
                Kind::File if is_eml(&entry.name) || is_beside(&entry.name) => {}
                Kind::File => self.note(dirs, &entry.name, "is not called .eml"),
                Kind::Dir => {
                    let Some(child) = self.enter(dir, dirs, &entry.name, depth) else { continue };
                    let path: Vec<String> =
                        path.iter().cloned().chain([read_level_name(&entry.name)]).collect();
                    dirs.push(entry.name.clone());
                    let read = self.emls(&child, dirs, &path, depth + 1);
                    dirs.pop();
                    if let Err(error) = read {
                        self.note_unreadable(dirs, &entry.name, &format!("cannot be read: {error}"));
                    }
                }
            }
        }
        Ok(())
    }

    /// Gives each folder a path of its own. The root is the Inbox; a folder that reads as another one gets a number.
    fn name_all(&mut self) {
        let mut seen = std::mem::take(&mut self.seen);
        seen.sort();
        let mut taken: HashSet<FolderPath> = HashSet::new();
        for (names, dirs, file) in seen {
            let is_root = names.is_empty();
            let reads_as = if is_root { FolderPath::inbox() } else { FolderPath::new(names) };
            let numbered = |n: u32| {
                let (last, above) =
                    reads_as.names().split_last().map_or(("", &[][..]), |(l, a)| (l.as_str(), a));
                FolderPath::new(above.iter().cloned().chain([format!("{last} ({n})")]))
            };
            let free = |path: &FolderPath| !taken.contains(path);
            let Some(path) =
                Some(reads_as.clone()).filter(free).or_else(|| (2..=u32::MAX).map(numbered).find(free))
            else {
                continue;
            };
            taken.insert(path.clone());
            let twin_of = (path != reads_as).then_some(reads_as);
            self.folders.push(Found { path, twin_of, dirs, file });
        }
        self.folders.sort_by(|a, b| a.path.cmp(&b.path));
    }
}

impl Found {
    /// Opens the directory that the folder is in.
    pub(super) fn shelf(&self, root: &Dir, format: Format) -> io::Result<Shelf> {
        Ok(Shelf { format, dir: root.below(&self.dirs)?, file: self.file.clone() })
    }
}

/// The name of a file in a tree, and what is said of it.
fn told(dirs: &[OsString], name: &OsStr, why: &str) -> String {
    let parts: Vec<String> = dirs.iter().map(OsString::as_os_str).chain([name]).map(text_of).collect();
    printable(&format!("{} {why}", parts.join("/")))
}

/// A name without its end, in whatever case.
fn strip_end(name: &OsStr, end: &[u8]) -> Option<OsString> {
    let bytes = name_bytes(name);
    let at = bytes.len().checked_sub(end.len()).filter(|at| *at > 0)?;
    bytes[at..].eq_ignore_ascii_case(end).then(|| os_name(&bytes[..at]))
}

fn is_beside(name: &OsStr) -> bool {
    name == subscriptions::FILE || BESIDE.iter().any(|end| strip_end(name, end.as_bytes()).is_some())
}

/// Whether a file is an mbox, by its first bytes; an empty one is.
fn begins_as_mbox(dir: &Dir, name: &OsStr) -> io::Result<bool> {
    let (file, _) = dir.read(name)?;
    let mut head = Vec::new();
    file.take(64 * 1024).read_to_end(&mut head)?;
    is_mbox(&head)
}

/// The directory of the folders below a folder of mbox.
pub(super) fn below_mbox(level: &OsStr) -> OsString {
    with_end(level, ".sbd")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    const SEPARATOR: &str = "From - Thu Feb  1 03:04:05 2024\nSubject: x\n\n";

    fn make(root: &Path, dirs: &[&str], files: &[(&str, &str)]) {
        for dir in dirs {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        for (file, text) in files {
            fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
            fs::write(root.join(file), text).unwrap();
        }
    }

    fn paths(root: &Path, format: Format) -> (Vec<String>, Walk) {
        let walk = walk(&Dir::root(root).unwrap(), format).unwrap();
        (walk.folders.iter().map(|folder| folder.path.to_string()).collect(), walk)
    }

    #[test]
    fn maildirs_of_all_layouts_are_found() {
        let home = tempfile::tempdir().unwrap();
        let dirs = [
            "cur",
            "new",
            "tmp",
            ".Sent/cur",
            ".Archiv.2021/cur",
            ".Entw&APw-rfe/cur",
            ".inbox/cur",
            "Nested/cur",
            "Nested/Deeper/cur",
            ".Nested.directory/Kmail/cur",
            "Bird.sbd/Below/cur",
            "nothing",
            ".empty",
        ];
        make(home.path(), &dirs, &[("dovecot-uidlist", "3 V1 N1\n")]);
        std::os::unix::fs::symlink("/", home.path().join(".Link")).unwrap();
        let (paths, walk) = paths(home.path(), Format::Maildir);
        assert_eq!(
            paths,
            [
                "Archiv/2021",
                "Bird/Below",
                "Entwürfe",
                "INBOX",
                "INBOX (2)",
                "Nested",
                "Nested/Deeper",
                "Nested/Kmail",
                "Sent",
            ]
        );
        assert_eq!(walk.folders[4].twin_of, Some(FolderPath::inbox()));
        assert_eq!(walk.passed_over, [".Link is a link or a device and was not followed"]);
    }

    #[test]
    fn a_profile_of_thunderbird_is_read_without_what_is_beside_the_mail() {
        let home = tempfile::tempdir().unwrap();
        let files = [
            ("Inbox", SEPARATOR),
            ("Inbox.msf", "x"),
            ("Sent", ""),
            ("popstate.dat", "x"),
            ("filterlog.html", "x"),
            ("Inbox.sbd/Projects", SEPARATOR),
            ("Inbox.sbd/Projects.sbd/2024", SEPARATOR),
            ("notes", "no mail"),
            ("Takeout.mbox", SEPARATOR),
            ("Apple.mbox/mbox", SEPARATOR),
        ];
        make(home.path(), &[], &files);
        let expected = ["Apple", "INBOX", "INBOX/Projects", "INBOX/Projects/2024", "Sent", "Takeout"];
        let (found, walk) = paths(home.path(), Format::Mbox);
        assert_eq!(found, expected);
        assert_eq!(walk.passed_over, ["notes is not a mailbox of mbox"]);
        // One account alone is the mailbox; of several each is a level.
        let all = tempfile::tempdir().unwrap();
        make(all.path(), &[], &[("Local Folders/Inbox", SEPARATOR), ("virtualFolders.dat", "")]);
        assert_eq!(paths(all.path(), Format::Mbox).0, ["INBOX"]);
        make(all.path(), &[], &[("pop.a.test/Inbox", SEPARATOR)]);
        assert_eq!(paths(all.path(), Format::Mbox).0, ["Local Folders/Inbox", "pop.a.test/Inbox"]);
    }

    #[test]
    fn directories_with_eml_are_folders() {
        let home = tempfile::tempdir().unwrap();
        let files = [
            ("a.eml", ""),
            ("Sub/B.EML", ""),
            ("Sub/x.txt", ""),
            ("Empty/index.jsonl", ""),
            ("None/y.txt", ""),
        ];
        make(home.path(), &[], &files);
        let (found, walk) = paths(home.path(), Format::Eml);
        assert_eq!(found, ["Empty", "INBOX", "Sub"]);
        assert_eq!(walk.passed_over.len(), 2);
    }

    #[test]
    fn a_tree_without_end_has_one() {
        let home = tempfile::tempdir().unwrap();
        make(home.path(), &[&"d/".repeat(DEPTH_MAX + 5)], &[]);
        assert_eq!(paths(home.path(), Format::Maildir).1.unreadable.len(), 1);
    }
}
