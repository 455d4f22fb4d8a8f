//! Small documents of the state directory: JSON with a checksum, replaced in one step, never trusted when damaged.

use std::fs;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::files::{Access, put};
use crate::model::failure::{Failure, Result};

/// The format that is written.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Sealed {
    /// The format; a newer one is refused.
    mailferry: u32,
    /// BLAKE3 of the document's compact JSON.
    blake3: String,
    document: Value,
}

/// Reads a document; `None` when there is none.
///
/// # Errors
/// [`crate::model::failure::Class::Configuration`] for a file that is damaged or of a newer version; it is left as it is.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unusable(path, &error)),
    };
    let sealed: Sealed = serde_json::from_slice(&text).map_err(|_| damaged(path))?;
    if sealed.mailferry > FORMAT {
        return Err(Failure::configuration(format!(
            "{}: was written by a newer Mailferry (format {}, this one knows {FORMAT})",
            path.display(),
            sealed.mailferry
        ))
        .hint("use the newer version that wrote it"));
    }
    if seal(&sealed.document) != sealed.blake3 {
        return Err(damaged(path));
    }
    serde_json::from_value(sealed.document).map(Some).map_err(|_| damaged(path))
}

/// Writes a document so that a crash leaves the old one or the new one, and nothing else. After a loss of power it may be the
/// old one, which is as true as it was.
///
/// # Errors
/// [`crate::model::failure::Class::Configuration`] when the directory cannot be written.
pub fn write<T: Serialize>(path: &Path, document: &T) -> Result<()> {
    let document = serde_json::to_value(document)
        .map_err(|e| Failure::internal("a document is not JSON").caused_by(&e))?;
    let sealed = Sealed { mailferry: FORMAT, blake3: seal(&document), document };
    let text =
        serde_json::to_vec(&sealed).map_err(|e| Failure::internal("a document is not JSON").caused_by(&e))?;
    put(path, &text, Access::Owner).map_err(|e| unusable(path, &e))
}

/// Makes a file or directory its owner's alone: ledgers hold subjects and addresses, and keys are keys.
pub fn make_private(path: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = if path.is_dir() { 0o700 } else { 0o600 };
        // A file system without permissions cannot keep them; that is not a reason to refuse it.
        let _ = fs::set_permissions(path, fs::Permissions::from_mode(mode));
    }
    #[cfg(not(unix))]
    let _ = path;
}

fn seal(document: &Value) -> String {
    blake3::hash(&serde_json::to_vec(document).unwrap_or_default()).to_hex().to_string()
}

fn damaged(path: &Path) -> Failure {
    Failure::configuration(format!("{}: is damaged", path.display()))
        .hint("move the file away and run again: what has arrived is recognised, nothing is sent twice")
}

/// A file or directory of the state that cannot be used.
pub fn unusable(path: &Path, error: &std::io::Error) -> Failure {
    let what = match error.kind() {
        std::io::ErrorKind::StorageFull => "the disk is full".to_owned(),
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
            "cannot be written".to_owned()
        }
        _ => format!("cannot be used: {error}"),
    };
    Failure::configuration(format!("{}: {what}", path.display()))
        .hint("give --state a directory that can be written and has room")
        .caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_trusted_only_as_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.json");
        assert_eq!(read::<Vec<u32>>(&path).unwrap(), None);
        write(&path, &vec![1, 2, 3]).unwrap();
        assert_eq!(read::<Vec<u32>>(&path).unwrap(), Some(vec![1, 2, 3]));
        let text = fs::read_to_string(&path).unwrap();
        for spoiled in [text.replace("[1,2,3]", "[1,2,4]"), text[..20].to_owned(), String::new()] {
            fs::write(&path, spoiled).unwrap();
            let failure = read::<Vec<u32>>(&path).unwrap_err();
            assert!(failure.sentence().ends_with("a.json: is damaged"), "{failure}");
        }
        fs::write(&path, text.replace("\"mailferry\":1", "\"mailferry\":9")).unwrap();
        assert!(read::<Vec<u32>>(&path).unwrap_err().what.contains("newer Mailferry"));
    }
}
