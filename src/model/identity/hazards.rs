//! Traits of a message that some servers alter although they say OK (measured: NUL, CR CR LF, a lone CR), or refuse: noticed while
//! the bytes pass, so that what comes back can be checked where it matters.

use memchr::memchr3;

/// One thing about a message's bytes that some servers alter or refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hazard {
    /// A NUL byte.
    Nul,
    /// CR without LF after it, other than in [`Hazard::CrCrLf`].
    BareCr,
    /// LF without CR before it.
    BareLf,
    /// Two or more CR before an LF.
    CrCrLf,
    /// The last line has no line end.
    NoFinalEol,
    /// A byte above 127 in the message's own header.
    EightBitHeader,
    /// A line of more than 998 bytes without its end (RFC 5322 §2.1.1).
    LongLine,
    /// A line of more than 9,900 bytes without its end; some servers cut there.
    VeryLongLine,
    /// No bytes at all.
    Empty,
}

impl Hazard {
    /// All hazards, in the order of their bits.
    pub const ALL: [Self; 9] = [
        Self::Nul,
        Self::BareCr,
        Self::BareLf,
        Self::CrCrLf,
        Self::NoFinalEol,
        Self::EightBitHeader,
        Self::LongLine,
        Self::VeryLongLine,
        Self::Empty,
    ];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nul => "nul",
            Self::BareCr => "bare-cr",
            Self::BareLf => "bare-lf",
            Self::CrCrLf => "cr-cr-lf",
            Self::NoFinalEol => "no-final-eol",
            Self::EightBitHeader => "8bit-header",
            Self::LongLine => "long-line",
            Self::VeryLongLine => "very-long-line",
            Self::Empty => "empty",
        }
    }
}

/// A set of [`Hazard`]s.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Hazards(u16);

impl Hazards {
    /// Adds one.
    pub fn insert(&mut self, hazard: Hazard) {
        self.0 |= 1 << hazard as u16;
    }

    /// Whether it is there.
    pub fn has(self, hazard: Hazard) -> bool {
        self.0 & (1 << hazard as u16) != 0
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The names of those that are there.
    pub fn iter(self) -> impl Iterator<Item = &'static str> {
        Hazard::ALL.into_iter().filter(move |h| self.has(*h)).map(Hazard::name)
    }

    /// The set as a number, for a ledger.
    pub fn bits(self) -> u16 {
        self.0
    }

    /// The set that [`Hazards::bits`] told; unknown bits are dropped.
    pub fn from_bits(bits: u16) -> Self {
        Self(bits & ((1 << Hazard::ALL.len()) - 1))
    }
}

/// Longest line that RFC 5322 allows, in bytes without its end.
const LINE_MAX: u64 = 998;
/// Longest line that all known servers keep in one piece, in bytes without its end.
const LINE_KEPT_MAX: u64 = 9_900;

/// Notices hazards in bytes that pass.
#[derive(Default)]
pub(super) struct HazardWatch {
    seen: Hazards,
    /// CRs directly before the next byte; more than two are as good as two.
    crs: u8,
    /// Bytes of the line so far.
    line: u64,
    any: bool,
    after_lf: bool,
}

impl HazardWatch {
    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        self.any |= !bytes.is_empty();
        while !bytes.is_empty() {
            // Runs of plain bytes are the bulk; only NUL, CR and LF need a look.
            let plain = memchr3(0, b'\r', b'\n', bytes).unwrap_or(bytes.len());
            if plain > 0 {
                self.leave_cr();
                self.line += plain as u64;
                self.after_lf = false;
            }
            let Some(special) = bytes.get(plain) else { return };
            match special {
                // The end of nearly every line, in one look.
                b'\r' if self.crs == 0 && bytes.get(plain + 1) == Some(&b'\n') => {
                    self.measure_line();
                    self.line = 0;
                    self.after_lf = true;
                    bytes = &bytes[plain + 2..];
                    continue;
                }
                b'\r' => {
                    self.crs = (self.crs + 1).min(2);
                    self.line += 1;
                    self.after_lf = false;
                }
                b'\n' => self.end_line(),
                _ => {
                    self.leave_cr();
                    self.seen.insert(Hazard::Nul);
                    self.line += 1;
                    self.after_lf = false;
                }
            }
            bytes = &bytes[plain + 1..];
        }
    }

    /// Whether the last byte was a CR.
    pub(super) fn is_after_cr(&self) -> bool {
        self.crs > 0
    }

    /// As [`Self::update`], of bytes in which only CRLF ends lines, and its LFs are at `ends`: only how long they are matters.
    pub(super) fn update_lines(&mut self, bytes: &[u8], ends: &[usize]) {
        self.any |= !bytes.is_empty();
        let mut start = 0;
        for end in ends {
            self.line += (end - 1 - start) as u64;
            self.measure_line();
            self.line = 0;
            start = end + 1;
        }
        self.line += (bytes.len() - start) as u64;
        self.after_lf = if start < bytes.len() { false } else { self.after_lf || !ends.is_empty() };
    }

    fn leave_cr(&mut self) {
        if std::mem::take(&mut self.crs) > 0 {
            self.seen.insert(Hazard::BareCr);
        }
    }

    fn end_line(&mut self) {
        match std::mem::take(&mut self.crs) {
            0 => self.seen.insert(Hazard::BareLf),
            1 => self.line -= 1,
            _ => {
                self.seen.insert(Hazard::CrCrLf);
                self.line -= 1;
            }
        }
        self.measure_line();
        self.line = 0;
        self.after_lf = true;
    }

    fn measure_line(&mut self) {
        if self.line > LINE_MAX {
            self.seen.insert(Hazard::LongLine);
        }
        if self.line > LINE_KEPT_MAX {
            self.seen.insert(Hazard::VeryLongLine);
        }
    }

    pub(super) fn finish(mut self) -> Hazards {
        self.leave_cr();
        self.measure_line();
        if !self.any {
            self.seen.insert(Hazard::Empty);
        } else if !self.after_lf {
            self.seen.insert(Hazard::NoFinalEol);
        }
        self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(bytes: &[u8]) -> Vec<&'static str> {
        let mut whole = HazardWatch::default();
        whole.update(bytes);
        let mut bytewise = HazardWatch::default();
        bytes.chunks(1).for_each(|b| bytewise.update(b));
        let hazards = whole.finish();
        assert_eq!(hazards, bytewise.finish());
        assert_eq!(Hazards::from_bits(hazards.bits()), hazards);
        hazards.iter().collect()
    }

    #[test]
    fn each_hazard_is_seen_and_no_other() {
        let line = |n: usize| [vec![b'x'; n], b"\r\n".to_vec()].concat();
        let table: [(Vec<u8>, &[&str]); 14] = [
            (b"".to_vec(), &["empty"]),
            (b"a\r\nb\r\n".to_vec(), &[]),
            (b"a\0\r\n".to_vec(), &["nul"]),
            (b"a\rb\r\n".to_vec(), &["bare-cr"]),
            (b"a\r\r\n".to_vec(), &["cr-cr-lf"]),
            (b"a\r\rb\r\n".to_vec(), &["bare-cr"]),
            (b"a\nb\r\n".to_vec(), &["bare-lf"]),
            (b"\n".to_vec(), &["bare-lf"]),
            (b"a".to_vec(), &["no-final-eol"]),
            (b"a\r\nb\r".to_vec(), &["bare-cr", "no-final-eol"]),
            (line(998), &[]),
            (line(999), &["long-line"]),
            (line(9_900), &["long-line"]),
            (line(9_901), &["long-line", "very-long-line"]),
        ];
        for (bytes, expected) in table {
            assert_eq!(
                seen(&bytes),
                expected,
                "{:?}",
                String::from_utf8_lossy(&bytes[..bytes.len().min(20)])
            );
        }
    }
}
