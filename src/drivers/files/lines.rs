//! Line ends: files have LF as Unix programs write it, mail has CRLF. Both ways nothing else is touched, and what was
//! written is read back as it was.

use memchr::{memchr, memchr_iter};

/// Gives every LF that has none a CR before it, over any cut of the bytes.
#[derive(Debug, Default)]
pub(super) struct ToMail {
    after_cr: bool,
}

impl ToMail {
    /// Takes the next bytes and adds them to `out`.
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut start = 0;
        for at in memchr_iter(b'\n', bytes) {
            let has_cr = if at == 0 { self.after_cr } else { bytes[at - 1] == b'\r' };
            out.extend_from_slice(&bytes[start..at]);
            out.extend_from_slice(if has_cr { b"\n" } else { b"\r\n" });
            start = at + 1;
        }
        out.extend_from_slice(&bytes[start..]);
        if let Some(last) = bytes.last() {
            self.after_cr = *last == b'\r';
        }
    }
}

/// Counts how large bytes are as mail, over any cut of them.
#[derive(Debug, Default)]
pub(super) struct MailSize {
    size: u64,
    after_cr: bool,
}

impl MailSize {
    /// Takes the next bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let bare = memchr_iter(b'\n', bytes)
            .filter(|at| if *at == 0 { !self.after_cr } else { bytes[*at - 1] != b'\r' })
            .count();
        self.size += (bytes.len() + bare) as u64;
        if let Some(last) = bytes.last() {
            self.after_cr = *last == b'\r';
        }
    }

    /// Bytes so far.
    pub(super) fn size(&self) -> u64 {
        self.size
    }
}

/// Brings CRLF to LF. A CRLF behind another CR stays, or it would be read back without one.
#[derive(Debug, Default)]
pub(super) struct ToFile {
    /// How many CRs are held back until it is known what follows them.
    held: usize,
}

impl ToFile {
    /// Takes the next bytes and adds them to `out`.
    pub(super) fn push(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while let Some(first) = bytes.first() {
            match first {
                b'\r' => {
                    self.held += 1;
                    bytes = &bytes[1..];
                }
                b'\n' => {
                    if self.held > 1 {
                        self.release(out);
                    }
                    self.held = 0;
                    out.push(b'\n');
                    bytes = &bytes[1..];
                }
                _ => {
                    self.release(out);
                    let end = memchr(b'\r', bytes).unwrap_or(bytes.len());
                    out.extend_from_slice(&bytes[..end]);
                    bytes = &bytes[end..];
                }
            }
        }
    }

    /// Adds what is held back still: the message ends here.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        self.release(out);
    }

    fn release(&mut self, out: &mut Vec<u8>) {
        out.resize(out.len() + self.held, b'\r');
        self.held = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn to_mail(parts: &[&[u8]]) -> Vec<u8> {
        let (mut way, mut out, mut size) = (ToMail::default(), Vec::new(), MailSize::default());
        for part in parts {
            way.push(part, &mut out);
            size.push(part);
        }
        assert_eq!(size.size(), out.len() as u64);
        out
    }

    fn to_file(parts: &[&[u8]]) -> Vec<u8> {
        let (mut way, mut out) = (ToFile::default(), Vec::new());
        for part in parts {
            way.push(part, &mut out);
        }
        way.finish(&mut out);
        out
    }

    #[test]
    fn known_cases() {
        assert_eq!(to_mail(&[b"a\nb\r\nc\n"]), b"a\r\nb\r\nc\r\n");
        assert_eq!(to_mail(&[b"a\r", b"\nb"]), b"a\r\nb");
        assert_eq!(to_file(&[b"a\r", b"\nb\rc\r\r\n\r"]), b"a\nb\rc\r\r\n\r");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(text in "[a\r\n]{0,24}", cut in 0usize..24) {
            let bytes = text.as_bytes();
            let cut = cut.min(bytes.len());
            let (head, tail) = bytes.split_at(cut);
            let mail = to_mail(&[bytes]);
            prop_assert_eq!(&to_mail(&[head, tail]), &mail, "cuts do not matter");
            let file = to_file(&[&mail]);
            let at = cut.min(mail.len());
            prop_assert_eq!(&to_file(&[&mail[..at], &mail[at..]]), &file);
            prop_assert_eq!(to_mail(&[&file]), mail);
        }
    }
}
