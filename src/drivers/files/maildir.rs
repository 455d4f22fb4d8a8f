//! Names of the files in a Maildir: the part that stays, and the flags behind it.

use std::ffi::{OsStr, OsString};

use super::tree::{name_bytes, os_name};

/// The directories of a Maildir that hold messages: those that no mail program has seen, and those that one has.
pub(super) const NEW: &str = "new";
/// See [`NEW`].
pub(super) const CUR: &str = "cur";
/// The directory in which messages are written.
pub(super) const TMP: &str = "tmp";

/// Parts a name into what stays and the letters of its flags; `None` where there are no flags in it.
pub(super) fn part(name: &OsStr) -> (OsString, Option<String>) {
    let bytes = name_bytes(name);
    let Some(colon) = bytes.iter().rposition(|b| *b == b':') else { return (name.to_owned(), None) };
    let letters = bytes[colon + 1..].strip_prefix(b"2,");
    // Others write `:1,` or nothing that is known.
    let letters = letters.map(|letters| String::from_utf8_lossy(letters).into_owned());
    (os_name(&bytes[..colon]), letters)
}

/// The name of a message with flags.
pub(super) fn join(base: &OsStr, letters: &str) -> OsString {
    let mut name = name_bytes(base).to_vec();
    name.extend_from_slice(b":2,");
    name.extend_from_slice(letters.as_bytes());
    os_name(&name)
}

/// A number in a name: `S=` is the size of the file, `W=` its size as mail.
pub(super) fn number(base: &OsStr, key: char) -> Option<u64> {
    let text = std::str::from_utf8(name_bytes(base)).ok()?;
    let begin = format!("{key}=");
    text.split(',').skip(1).find_map(|part| part.strip_prefix(&begin)?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parted_and_joined() {
        let (base, letters) = part(OsStr::new("1700.M1P2.host,S=120,W=125:2,FS"));
        assert_eq!((base.to_str(), letters.as_deref()), (Some("1700.M1P2.host,S=120,W=125"), Some("FS")));
        assert_eq!(
            (number(&base, 'S'), number(&base, 'W'), number(&base, 'X')),
            (Some(120), Some(125), None)
        );
        assert_eq!(join(&base, "S"), OsString::from("1700.M1P2.host,S=120,W=125:2,S"));
        assert_eq!(part(OsStr::new("plain")), (OsString::from("plain"), None));
        assert_eq!(part(OsStr::new("a:1,x")).1, None);
    }
}
