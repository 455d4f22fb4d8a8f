//! The letters of a list: spreadsheets write UTF-8 with and without a mark, UTF-16, and the code page of their machine.

use std::fmt;

use encoding_rs::{MACINTOSH, UTF_16BE, UTF_16LE, WINDOWS_1252};

/// How the letters of a list were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// UTF-8, with or without a byte order mark.
    Utf8,
    /// UTF-16 in either order, with or without a byte order mark.
    Utf16,
    /// The code page of Western Windows. Nothing in a file says so: it is assumed when the text is not UTF.
    Windows1252,
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Utf8 => "UTF-8",
            Self::Utf16 => "UTF-16",
            Self::Windows1252 => "Windows-1252",
        })
    }
}

/// The text of a list, without its byte order mark.
///
/// # Errors
/// Words for what it is instead, and the remedy.
pub fn decode(bytes: &[u8]) -> Result<(String, Encoding), (&'static str, &'static str)> {
    const SAVE: &str = "save the sheet as CSV (UTF-8), and name that file";
    // A workbook, of Excel since 2007 or of LibreOffice, is a ZIP archive; one of older Excels an OLE2 file.
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(&[0xd0, 0xcf, 0x11, 0xe0]) {
        return Err(("is a spreadsheet's workbook and no CSV", SAVE));
    }
    let order = match bytes {
        [0xff, 0xfe, ..] => Some(UTF_16LE),
        [0xfe, 0xff, ..] => Some(UTF_16BE),
        // The first letter of a head is one of a European language.
        [first, 0, ..] if *first != 0 => Some(UTF_16LE),
        [0, first, ..] if *first != 0 => Some(UTF_16BE),
        _ => None,
    };
    if let Some(order) = order {
        let (text, _, broken) = order.decode(bytes);
        if broken || bytes.len() % 2 == 1 {
            return Err(("begins as UTF-16 and cannot be read as that", SAVE));
        }
        return Ok((text.into_owned(), Encoding::Utf16));
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Ok((text.strip_prefix('\u{feff}').unwrap_or(text).to_owned(), Encoding::Utf8));
    }
    let (text, _) = WINDOWS_1252.decode_without_bom_handling(bytes);
    // Five bytes mean nothing there, and are letters in other code pages.
    if text.contains(|c: char| ('\u{80}'..='\u{9f}').contains(&c) || c == '\0') {
        return Err(("is neither UTF-8 nor UTF-16 nor Windows-1252", SAVE));
    }
    let (by_mac, _) = MACINTOSH.decode_without_bom_handling(bytes);
    // Excel for the Mac writes plain "CSV" so. A guess that is wrong would log in with wrong passwords until accounts are locked.
    if count_letters(&by_mac) > count_letters(&text) {
        return Err(("is not UTF-8, and its letters beyond ASCII may be those of Windows or of a Mac", SAVE));
    }
    Ok((text.into_owned(), Encoding::Windows1252))
}

/// How many letters of names and words of Western Europe beyond ASCII a text has.
fn count_letters(text: &str) -> usize {
    const LETTERS: &str = "äöüßéèêëáàâíìîïóòôúùûñçãõåæøœÄÖÜÉÈÊÁÀÂÍÓÔÚÑÇÃÕÅÆØ";
    text.chars().filter(|c| !c.is_ascii() && LETTERS.contains(*c)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_spreadsheets_write_is_read_and_the_rest_is_named() {
        let utf16 = |mark: bool, order: fn(u16) -> [u8; 2]| {
            let units = "Straße".encode_utf16();
            mark.then_some(0xfeff).into_iter().chain(units).flat_map(order).collect::<Vec<u8>>()
        };
        for (bytes, encoding) in [
            ("Straße".as_bytes().to_vec(), Encoding::Utf8),
            ("\u{feff}Straße".as_bytes().to_vec(), Encoding::Utf8),
            (utf16(true, u16::to_le_bytes), Encoding::Utf16),
            (utf16(true, u16::to_be_bytes), Encoding::Utf16),
            (utf16(false, u16::to_le_bytes), Encoding::Utf16),
            (utf16(false, u16::to_be_bytes), Encoding::Utf16),
            (b"Stra\xdfe".to_vec(), Encoding::Windows1252),
        ] {
            assert_eq!(decode(&bytes).unwrap(), ("Straße".to_owned(), encoding), "{bytes:x?}");
        }
        assert_eq!(decode(b"").unwrap().0, "");
        for (bytes, told) in [
            (&b"PK\x03\x04\x14"[..], "workbook"),
            (b"\xd0\xcf\x11\xe0\xa1", "workbook"),
            (b"Jos\xe9\x81", "neither"),
            (b"Stra\xa7e", "of a Mac"),
            (b"\xff\xfea\0b", "UTF-16"),
        ] {
            assert!(decode(bytes).unwrap_err().0.contains(told), "{bytes:x?}");
        }
    }
}
