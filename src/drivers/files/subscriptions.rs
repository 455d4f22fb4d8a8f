//! The list of the folders that a user subscribed to, as Dovecot keeps it at the root of a store: a head, then a line for each
//! folder, its levels in modified UTF-7 and parted by tabs.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{self, Read, Write};

use super::tree::Dir;
use crate::drivers::imap::names::{decode_utf7, encode_utf7};
use crate::model::folder::FolderPath;

/// The name of the file.
pub(super) const FILE: &str = "subscriptions";
/// The first lines of the file.
const HEAD: &str = "V\t2\n\n";
/// The largest list that is read, in bytes.
const FILE_MAX: u64 = 16 * 1024 * 1024;

/// The folders that are subscribed to; `None` where nobody keeps a list.
pub(super) fn read(root: &Dir) -> io::Result<Option<BTreeSet<FolderPath>>> {
    let mut text = Vec::new();
    match root.read(OsStr::new(FILE)) {
        Ok((file, _)) => file.take(FILE_MAX).read_to_end(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
        // It is not there, or something else is in its place.
        Err(_) => return Ok(None),
    };
    let text = String::from_utf8_lossy(&text);
    let (lines, separator) = match text.strip_prefix(HEAD) {
        Some(lines) => (lines, '\t'),
        // As it was before there was a head.
        None => (&*text, '.'),
    };
    let level = |level: &str| decode_utf7(level).unwrap_or_else(|| level.to_owned());
    let path = |line: &str| FolderPath::new(line.split(separator).map(level));
    Ok(Some(lines.lines().filter(|line| !line.is_empty()).map(path).collect()))
}

/// Writes the list anew.
pub(super) fn write(root: &Dir, folders: &BTreeSet<FolderPath>) -> io::Result<()> {
    let mut text = HEAD.to_owned();
    for folder in folders {
        let levels: Vec<String> = folder.names().iter().map(|level| encode_utf7(level)).collect();
        text.push_str(&levels.join("\t"));
        text.push('\n');
    }
    let draft = OsStr::new(".mailferry-draft");
    root.remove(draft)?;
    let mut file = root.create(draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    root.rename(draft, root, OsStr::new(FILE))?;
    root.sync()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_written_as_dovecot_has_them() {
        let home = tempfile::tempdir().unwrap();
        let root = Dir::root(home.path()).unwrap();
        assert_eq!(read(&root).unwrap(), None);
        let folders = BTreeSet::from([
            FolderPath::inbox(),
            FolderPath::new(["Archiv", "2021.b"]),
            FolderPath::new(["ü"]),
        ]);
        write(&root, &folders).unwrap();
        let text = std::fs::read_to_string(home.path().join(FILE)).unwrap();
        assert_eq!(text, "V\t2\n\nArchiv\t2021.b\nINBOX\n&APw-\n");
        assert_eq!(read(&root).unwrap(), Some(folders));
        std::fs::write(home.path().join(FILE), "INBOX\nArchiv.2021\n").unwrap();
        let old = BTreeSet::from([FolderPath::inbox(), FolderPath::new(["Archiv", "2021"])]);
        assert_eq!(read(&root).unwrap(), Some(old));
    }
}
