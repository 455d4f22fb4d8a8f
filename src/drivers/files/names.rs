//! Folders as names of directories and files, one for one.
//!
//! Maildir++ has one directory `.A.B` for a folder `A/B`, in modified UTF-7 as Dovecot and Courier have it; a dot or slash in a
//! name is written `\2e` and `\2f`, as Dovecot's plugin `listescape` does. Trees of mbox and of .eml have directories with
//! names in UTF-8, in which the same escapes stand for what no file can be called.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;

use super::tree::{name_bytes, os_name};
use crate::drivers::imap::names::{decode_utf7, encode_utf7};
use crate::model::failure::{Class, Failure, FailureCode, Result};
use crate::model::folder::FolderPath;

/// The longest name that file systems take, in bytes.
const NAME_MAX: usize = 255;
/// Bytes of it that are left for the names of sidecars and of drafts.
const LEFT_FREE: usize = 24;
/// The ends of names that mean something else to mail programs, and so are escaped in names of folders.
const ENDS: [&str; 8] = [".sbd", ".msf", ".jsonl", ".directory", ".eml", ".lock", ".dat", ".html"];

/// The name of the directory of a folder in a Maildir++; `None` for the Inbox, which is the Maildir itself.
///
/// # Errors
/// [`FailureCode::NameRefused`] where no file system takes the name.
pub(super) fn maildir_name(path: &FolderPath) -> Result<Option<OsString>> {
    if path.is_inbox() {
        return Ok(None);
    }
    let mut name = String::new();
    for level in path.names() {
        name.push('.');
        name.push_str(&escape(&encode_utf7(level), |c| matches!(c, '.' | '/' | '\\')));
    }
    check_length(&name)?;
    if path.names().iter().any(String::is_empty) {
        return Err(refused("a folder without a name cannot be a directory"));
    }
    Ok(Some(name.into()))
}

/// The names in a directory of a Maildir++, without its first dot.
pub(super) fn read_maildir_name(name: &OsStr) -> Vec<String> {
    let text = text_of(name);
    let bare = text.strip_prefix('.').unwrap_or(&text);
    let is_ascii = bare.is_ascii();
    // No other escapes are Dovecot's, and a folder may have a backslash in its name.
    let read = |level: &str| {
        let level = unescape(level, |byte| matches!(byte, b'.' | b'/' | b'\\' | b'~'));
        if is_ascii { decode_utf7(&level).unwrap_or(level) } else { level }
    };
    bare.split('.').map(read).collect()
}

/// The name of a file or a directory for one level of a folder's path.
///
/// # Errors
/// [`FailureCode::NameRefused`] where no file system takes the name.
pub(super) fn level_name(level: &str) -> Result<OsString> {
    let mut name = escape(level, |c| c.is_control() || matches!(c, '/' | '\\'));
    if let Some(rest) = name.strip_prefix('.') {
        name = format!("\\2e{rest}");
    }
    let lower = name.to_ascii_lowercase();
    let is_kept = |end: &&&str| lower.ends_with(**end);
    if let Some(end) = ENDS.iter().find(is_kept) {
        let at = name.len() - end.len();
        name = format!("{}\\2e{}", &name[..at], &name[at + 1..]);
    }
    if name.is_empty() {
        return Err(refused("a folder without a name cannot be a file"));
    }
    check_length(&name)?;
    Ok(name.into())
}

/// The level that the name of a file or a directory stands for.
pub(super) fn read_level_name(name: &OsStr) -> String {
    unescape(&text_of(name), |_| true)
}

/// A name as text that no other name has: bytes that are not UTF-8 are written `\x80`.
pub(super) fn text_of(name: &OsStr) -> String {
    let mut text = String::new();
    for chunk in name_bytes(name).utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// The name with something behind it.
pub(super) fn with_end(name: &OsStr, end: &str) -> OsString {
    let mut bytes = name_bytes(name).to_vec();
    bytes.extend_from_slice(end.as_bytes());
    os_name(&bytes)
}

fn escape(text: &str, is_bad: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_bad(c) {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                let _ = write!(out, "\\{byte:02x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

fn unescape(text: &str, is_meant: impl Fn(u8) -> bool) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail.get(..2).filter(|_| *first == b'\\');
        let byte = hex
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .filter(|hex| hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)))
            .and_then(|hex| u8::from_str_radix(hex, 16).ok())
            .filter(|byte| is_meant(*byte));
        if let Some(byte) = byte {
            out.push(byte);
            rest = &tail[2..];
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

fn check_length(name: &str) -> Result<()> {
    if name.len() > NAME_MAX - LEFT_FREE {
        return Err(refused(&format!(
            "the name takes {} bytes as a file, of {} that there are",
            name.len(),
            NAME_MAX - LEFT_FREE
        )));
    }
    Ok(())
}

fn refused(what: &str) -> Failure {
    Failure::new(Class::Refused, what).code(FailureCode::NameRefused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn maildir_names_are_those_of_dovecot() {
        for (path, name) in [
            (&["Sent"][..], ".Sent"),
            (&["Archiv", "2021"], ".Archiv.2021"),
            (&["Entwürfe"], ".Entw&APw-rfe"),
            (&["a.b", "c/d", "e\\f"], ".a\\2eb.c\\2fd.e\\5cf"),
            (&["INBOX", "Sub"], ".INBOX.Sub"),
            (&["cur"], ".cur"),
        ] {
            let path = FolderPath::new(path.iter().copied());
            let written = maildir_name(&path).unwrap().unwrap();
            assert_eq!(written, OsString::from(name));
            assert_eq!(FolderPath::new(read_maildir_name(&written)), path);
        }
        assert_eq!(maildir_name(&FolderPath::inbox()).unwrap(), None);
        assert_eq!(read_maildir_name(OsStr::new(".Entwürfe")), ["Entwürfe"], "a store that has UTF-8");
        assert_eq!(read_maildir_name(OsStr::new(".a&b")), ["a&b"], "no modified UTF-7");
        assert!(maildir_name(&FolderPath::new(["ü".repeat(200)])).unwrap_err().is(FailureCode::NameRefused));
    }

    #[test]
    fn names_that_mean_something_else_are_escaped() {
        for (level, name) in
            [(".hidden", "\\2ehidden"), ("a.sbd", "a\\2esbd"), ("..", "\\2e."), ("a/b\n", "a\\2fb\\0a")]
        {
            assert_eq!(level_name(level).unwrap(), OsString::from(name));
        }
        assert_eq!(text_of(&os_name(b"a\xffb")), "a\\xffb");
    }

    proptest! {
        #[test]
        fn each_folder_has_a_name_of_its_own(
            one in proptest::collection::vec("[a.A/\\\\\u{e4}&\u{1F600}~ 2e-]{1,6}", 1..4),
            other in proptest::collection::vec("[a.A/\\\\\u{e4}&~2e-]{1,6}", 1..4),
        ) {
            let (one, other) = (FolderPath::new(one), FolderPath::new(other));
            let name = maildir_name(&one).unwrap().unwrap();
            prop_assert_eq!(&FolderPath::new(read_maildir_name(&name)), &one);
            prop_assert!(one == other || Some(&name) != maildir_name(&other).unwrap().as_ref());
            for level in one.names() {
                prop_assert_eq!(&read_level_name(&level_name(level).unwrap()), level);
            }
        }
    }
}
