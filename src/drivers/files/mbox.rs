//! Mailboxes of one file, each message behind a line `From …` (RFC 4155), and lines of messages that look like one with `>`
//! before them (mboxrd). A message begins at such a line behind an empty one, if the line has a date or nothing in it: bodies
//! that nobody quoted are full of lines that begin with "From ".

use std::io::{self, Read};

use jiff::civil::{Date, Time};
use memchr::memchr;

use super::flags::Noted;
use super::lines::{ToFile, ToMail};

/// The sender in the separators that we write. Behind them the message stands as it was, and states are in the sidecar.
const OURS: &[u8] = b"From mailferry ";
/// Bytes that are read at a time.
const BUFFER: usize = 256 * 1024;
/// Bytes of a line that are at hand when it begins, if it is so long.
const LOOK_AHEAD: usize = 4096;
/// The longest separator, in bytes.
const SEPARATOR_MAX: usize = 1000;

/// The taker of the messages of an mbox.
pub(super) trait Taker {
    /// A message begins at this byte of the file.
    fn begin(&mut self, at: u64, separator: &Separator);
    /// Bytes of it, as mail.
    fn data(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// It ended before this byte. `torn` when the file ends within a line of it. Says whether to go on.
    fn end(&mut self, at: u64, noted: &Noted, torn: bool) -> bool;
}

/// The line before a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Separator {
    /// Its date, in seconds since 1970.
    pub(super) date: Option<i64>,
    /// Whether we wrote it.
    pub(super) ours: bool,
}

impl Separator {
    /// Reads a line; `None` where it separates nothing. `rest` is what follows it.
    fn read(line: &[u8], rest: &[u8]) -> Option<Self> {
        let bare = line.strip_prefix(b"From ")?.trim_ascii();
        if line.len() > SEPARATOR_MAX {
            return None;
        }
        let text = std::str::from_utf8(bare).ok()?;
        let date = read_date(text);
        // Thunderbird writes nothing or a hyphen, and others an address alone: a header must follow then.
        let is_undated = || {
            let is_one_word = !text.contains([' ', '\t']);
            is_one_word && (text.is_empty() || text == "-" || text.contains('@')) && is_header_line(rest)
        };
        (date.is_some() || has_time_and_year(text) || is_undated())
            .then_some(Self { date, ours: line.starts_with(OURS) })
    }
}

/// Whether text begins with a line of a header: a name, a colon.
fn is_header_line(text: &[u8]) -> bool {
    let name = text.iter().take_while(|b| b.is_ascii_graphic() && **b != b':').count();
    name > 0 && text.get(name) == Some(&b':')
}

/// Whether a line has a time of day and a year in it, in whatever form.
fn has_time_and_year(text: &str) -> bool {
    let is_time = |word: &str| {
        let mut parts = word.split(':');
        let number = |part: Option<&str>| part.is_some_and(|p| p.len() <= 2 && p.parse::<u8>().is_ok());
        number(parts.next()) && number(parts.next())
    };
    let is_year =
        |word: &str| word.len() == 4 && word.parse::<u16>().is_ok_and(|year| (1970..2200).contains(&year));
    text.split_ascii_whitespace().any(is_time) && text.split_ascii_whitespace().any(is_year)
}

/// Reads the date of a separator, as `ctime` writes it and with a zone in figures if there is one. It is in UTC else.
fn read_date(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    // The sender before it may hold anything.
    let at = words.iter().rposition(|word| MONTHS.iter().any(|month| month.eq_ignore_ascii_case(word)))?;
    let month = MONTHS.iter().position(|month| month.eq_ignore_ascii_case(words[at]))?;
    let rest = &words[at + 1..];
    let number = |word: &&str| word.parse::<i16>().ok();
    let is_day = |day: &i16| (1..=31).contains(day);
    // Some write it before the month.
    let day = rest.first().and_then(number).filter(is_day);
    let day = day.or_else(|| number(&words.get(at.checked_sub(1)?)?).filter(is_day))?;
    let year = rest.iter().find(|word| word.len() == 4 && word.bytes().all(|b| b.is_ascii_digit()));
    let year = year.and_then(number)?;
    let mut time = rest.iter().find(|word| word.contains(':'))?.split(':');
    let mut part = || time.next().map_or(Some(0), |part| part.parse::<i8>().ok());
    let (hour, minute, second) = (part()?, part()?, part()?);
    let date = Date::new(year, i8::try_from(month + 1).ok()?, i8::try_from(day).ok()?).ok()?;
    let time = Time::new(hour, minute, second.min(59), 0).ok()?;
    let zone = rest.iter().find(|word| word.len() == 5 && word.starts_with(['+', '-']));
    let offset = zone.and_then(|zone| zone.parse::<i64>().ok()).unwrap_or(0);
    let minutes = offset / 100 * 60 + offset % 100;
    let at = date.to_datetime(time).to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(at.timestamp().as_second() - minutes * 60)
}

/// A part of a line.
struct Piece {
    /// Whether the line begins with it; then all of the line is there, or [`LOOK_AHEAD`] bytes of it.
    begins: bool,
    /// Whether the line ends with it.
    ends: bool,
    from: usize,
    to: usize,
}

/// A file in pieces of lines.
struct Pieces<R> {
    file: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    is_over: bool,
    begins: bool,
}

impl<R: Read> Pieces<R> {
    fn of(file: R) -> Self {
        Self { file, buffer: vec![0; BUFFER], start: 0, end: 0, is_over: false, begins: true }
    }

    fn next(&mut self) -> io::Result<Option<Piece>> {
        loop {
            let rest = &self.buffer[self.start..self.end];
            let line_end = memchr(b'\n', rest);
            // Of a separator the next line tells more.
            let may_separate = self.begins && b"From ".starts_with(&rest[..rest.len().min(5)]);
            let enough = line_end.is_some() && !may_separate || !self.begins && !rest.is_empty();
            if enough || self.is_over || rest.len() >= LOOK_AHEAD {
                break;
            }
            self.fill()?;
        }
        let rest = &self.buffer[self.start..self.end];
        if rest.is_empty() {
            return Ok(None);
        }
        let line_end = memchr(b'\n', rest);
        let length = line_end.map_or(rest.len(), |at| at + 1);
        let piece = Piece {
            begins: self.begins,
            ends: line_end.is_some(),
            from: self.start,
            to: self.start + length,
        };
        self.start += length;
        self.begins = piece.ends;
        Ok(Some(piece))
    }

    /// Passes over bytes that the file begins with; says how many.
    fn skip(&mut self, begin: &[u8]) -> io::Result<u64> {
        while self.end < begin.len() && !self.is_over {
            self.fill()?;
        }
        if !self.buffer[..self.end].starts_with(begin) {
            return Ok(0);
        }
        self.start = begin.len();
        Ok(begin.len() as u64)
    }

    fn fill(&mut self) -> io::Result<()> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let read = loop {
            match self.file.read(&mut self.buffer[self.end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.is_over = read == 0;
        self.end += read;
        Ok(())
    }
}

/// Where a splitter is in a message.
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own about the message")]
struct Inside {
    /// Whether the header has not ended yet.
    header: bool,
    /// Whether the line or field at hand notes a state, so that it is left out.
    noting: bool,
    ours: bool,
    noted: Noted,
    mail: ToMail,
    /// An empty line that may belong to the next separator, and where it begins.
    held: Option<(u64, Vec<u8>)>,
    /// Whether the last line has no end.
    torn: bool,
}

/// Parts a file into messages, from a separator at byte `at`. Says whether the file begins with a separator, or is empty.
pub(super) fn split(file: impl Read, mut at: u64, taker: &mut impl Taker) -> io::Result<bool> {
    let mut pieces = Pieces::of(file);
    // Some programs mark the begin of a file as UTF-8.
    at += pieces.skip(b"\xef\xbb\xbf")?;
    let mut inside: Option<Inside> = None;
    let mut out = Vec::new();
    while let Some(piece) = pieces.next()? {
        let bytes = &pieces.buffer[piece.from..piece.to];
        let here = at;
        at += bytes.len() as u64;
        let may_separate = piece.begins && inside.as_ref().is_none_or(|message| message.held.is_some());
        let rest = &pieces.buffer[piece.to..pieces.end];
        if may_separate && let Some(separator) = Separator::read(bytes, rest) {
            if let Some(message) = inside.take() {
                let end = message.held.as_ref().map_or(here, |(held, _)| *held);
                if !taker.end(end, &message.noted, false) {
                    return Ok(true);
                }
            }
            taker.begin(here, &separator);
            inside = Some(Inside {
                header: true,
                noting: false,
                ours: separator.ours,
                noted: Noted::default(),
                mail: ToMail::default(),
                held: None,
                torn: false,
            });
            continue;
        }
        let Some(message) = &mut inside else {
            // Empty lines and blocks of NUL before the first message are of no meaning.
            if bytes.iter().all(|b| matches!(b, 0 | b'\r' | b'\n')) {
                continue;
            }
            return Ok(false);
        };
        out.clear();
        message.take(&piece, bytes, here, &mut out);
        if !out.is_empty() {
            taker.data(&out)?;
        }
    }
    if let Some(message) = inside {
        let end = message.held.as_ref().map_or(at, |(held, _)| *held);
        taker.end(end, &message.noted, message.torn);
    }
    Ok(true)
}

impl Inside {
    fn take(&mut self, piece: &Piece, bytes: &[u8], at: u64, out: &mut Vec<u8>) {
        self.torn = !piece.ends;
        let is_empty = piece.begins && matches!(bytes, b"\n" | b"\r\n");
        if let Some((_, held)) = self.held.take() {
            self.mail.push(&held, out);
        }
        if is_empty {
            self.header = false;
            self.held = Some((at, bytes.to_vec()));
            return;
        }
        if self.header && !self.ours {
            if piece.begins && !bytes.starts_with(b" ") && !bytes.starts_with(b"\t") {
                self.noting = Noted::is_field(bytes);
                if self.noting {
                    self.noted.take(bytes);
                }
            }
            if self.noting {
                return;
            }
        }
        let quoted = piece.begins && bytes.first() == Some(&b'>') && is_like_separator(bytes);
        self.mail.push(if quoted { &bytes[1..] } else { bytes }, out);
    }
}

/// Whether a line begins with "From ", perhaps behind signs of quoting.
fn is_like_separator(line: &[u8]) -> bool {
    let bare = line.iter().position(|b| *b != b'>').unwrap_or(line.len());
    line[bare..].starts_with(b"From ")
}

/// Whether a file is an mbox, by its first bytes.
pub(super) fn is_mbox(head: &[u8]) -> io::Result<bool> {
    struct Nobody;
    impl Taker for Nobody {
        fn begin(&mut self, _at: u64, _separator: &Separator) {}
        fn data(&mut self, _bytes: &[u8]) -> io::Result<()> {
            Ok(())
        }
        fn end(&mut self, _at: u64, _noted: &Noted, _torn: bool) -> bool {
            false
        }
    }
    split(head, 0, &mut Nobody)
}

/// The separator before a message of ours. The date is in UTC, as RFC 4155 has it.
pub(super) fn separator(date: Option<i64>) -> Vec<u8> {
    let at = jiff::Timestamp::from_second(date.unwrap_or(0)).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let at = at.to_zoned(jiff::tz::TimeZone::UTC).strftime("%a %b %e %H:%M:%S %Y").to_string();
    [OURS, at.as_bytes(), b"\n"].concat()
}

/// Whether every separator in the rest of a file is one of ours, as far as it was written.
pub(super) fn is_all_ours(tail: impl Read) -> io::Result<bool> {
    let mut pieces = Pieces::of(tail);
    let (mut ours, mut behind_empty) = (true, true);
    while let Some(piece) = pieces.next()? {
        let line = &pieces.buffer[piece.from..piece.to];
        if piece.begins && behind_empty && line.starts_with(b"From ") {
            ours &= line.starts_with(&OURS[..line.len().min(OURS.len())]);
        }
        behind_empty = piece.begins && matches!(line, b"\n" | b"\r\n");
    }
    Ok(ours)
}

/// Brings a message into the form in which it stands in an mbox, over any cut of its bytes.
#[derive(Debug, Default)]
pub(super) struct Quoting {
    lines: ToFile,
    /// The begin of a line, as long as it may be one that is quoted.
    line: Vec<u8>,
    /// Whether the line at hand is not quoted.
    is_plain: bool,
    last: Option<u8>,
}

impl Quoting {
    /// Takes the next bytes of the message and adds them to `out`.
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut lines = Vec::with_capacity(bytes.len());
        self.lines.push(bytes, &mut lines);
        self.quote(&lines, out);
    }

    fn quote(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while let Some(first) = bytes.first() {
            if self.is_plain {
                let end = memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1);
                out.extend_from_slice(&bytes[..end]);
                self.last = Some(bytes[end - 1]);
                self.is_plain = bytes[end - 1] != b'\n';
                bytes = &bytes[end..];
                continue;
            }
            self.line.push(*first);
            bytes = &bytes[1..];
            let bare = self.line.iter().position(|b| *b != b'>').unwrap_or(self.line.len());
            let word = &self.line[bare..];
            if word == b"From " {
                out.push(b'>');
                self.release(out);
            } else if !b"From ".starts_with(word)
                || self.line.len() > SEPARATOR_MAX && bare == self.line.len()
            {
                self.release(out);
            }
        }
    }

    /// Writes what was held back of a line, which goes on as it is.
    fn release(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.line);
        self.last = self.line.last().copied().or(self.last);
        self.is_plain = self.last.is_some_and(|last| last != b'\n');
        self.line.clear();
    }

    /// Ends the message with its last line, which gets an end where it has none, and the empty one behind it; says whether it
    /// had none.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> bool {
        let mut rest = Vec::new();
        self.lines.finish(&mut rest);
        self.quote(&rest, out);
        self.release(out);
        let unended = self.last.is_some_and(|last| last != b'\n');
        out.extend_from_slice(match self.last {
            // Else the CR would be taken for a part of the line end.
            Some(b'\r') => b"\r\n\n",
            _ if unended => b"\n\n",
            _ => b"\n",
        });
        unended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Default)]
    #[allow(clippy::type_complexity, reason = "one row of a test's table")]
    struct Taken(Vec<(u64, Option<i64>, Vec<u8>, u64, String, bool)>);

    impl Taker for Taken {
        fn begin(&mut self, at: u64, separator: &Separator) {
            self.0.push((at, separator.date, Vec::new(), 0, String::new(), false));
        }
        fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
            self.0.last_mut().unwrap().2.extend_from_slice(bytes);
            Ok(())
        }
        fn end(&mut self, at: u64, noted: &Noted, torn: bool) -> bool {
            let last = self.0.last_mut().unwrap();
            (last.3, last.4, last.5) = (at, noted.flags().to_string(), torn);
            true
        }
    }

    /// Hands out a file in small parts.
    struct Slowly<'a>(&'a [u8], usize);

    impl Read for Slowly<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let size = self.1.min(buffer.len()).min(self.0.len());
            buffer[..size].copy_from_slice(&self.0[..size]);
            self.0 = &self.0[size..];
            Ok(size)
        }
    }

    fn parts(file: &[u8]) -> Taken {
        let mut taken = Taken::default();
        assert!(split(Slowly(file, 7), 0, &mut taken).unwrap(), "not an mbox");
        taken
    }

    fn bodies(file: &[u8]) -> Vec<String> {
        parts(file).0.into_iter().map(|part| String::from_utf8(part.2).unwrap()).collect()
    }

    #[test]
    fn messages_begin_at_separators_and_nowhere_else() {
        let file = b"From a@b Thu Feb  1 03:04:05 2024\nSubject: one\n\nFrom here on\n>From quoted\n>>From twice\nlast\n\n\
                     From - Mon, 1 Jan 2024 10:00:00 +0100\r\nSubject: two\r\n\r\ntext\nFrom x Thu Feb  1 03:04:05 2024\n\n\
                     From \nSubject: three\n\nno end";
        let taken = parts(file).0;
        let texts: Vec<&str> = taken.iter().map(|part| std::str::from_utf8(&part.2).unwrap()).collect();
        assert_eq!(
            texts,
            [
                "Subject: one\r\n\r\nFrom here on\r\nFrom quoted\r\n>From twice\r\nlast\r\n",
                "Subject: two\r\n\r\ntext\r\nFrom x Thu Feb  1 03:04:05 2024\r\n",
                "Subject: three\r\n\r\nno end",
            ]
        );
        assert_eq!(taken[0].1, Some(1_706_756_645));
        assert_eq!(taken[1].1, Some(1_704_099_600));
        assert_eq!(taken.iter().map(|part| part.5).collect::<Vec<_>>(), [false, false, true]);
        for part in &taken[..2] {
            assert!(file[usize::try_from(part.0).unwrap()..].starts_with(b"From "));
            assert!(file[usize::try_from(part.3).unwrap()..].starts_with(b"\n"), "the empty line is not its");
        }
    }

    #[test]
    fn states_are_read_and_left_out_unless_we_wrote_the_message() {
        let file = b"From - x 10:00 2024\nX-Mozilla-Status: 0003\nX-Mozilla-Status2: 00000000\nX-Mozilla-Keys: a b  \n  c\nSubject: x\n\n\
                     X-Mozilla-Status: body\n\nFrom mailferry Thu Feb  1 03:04:05 2024\nStatus: RO\nSubject: y\n\ny\n";
        let taken = parts(file).0;
        assert_eq!(taken[0].2, b"Subject: x\r\n\r\nX-Mozilla-Status: body\r\n");
        assert_eq!(taken[0].4, "\\Answered \\Seen a b");
        assert_eq!(
            (taken[1].2.as_slice(), taken[1].4.as_str()),
            (&b"Status: RO\r\nSubject: y\r\n\r\ny\r\n"[..], "")
        );
    }

    #[test]
    fn other_files_are_told_apart() {
        let is_mbox = |file: &[u8]| split(file, 0, &mut Taken::default()).unwrap();
        for file in
            [&b"From - \nA: b\n\n"[..], b"\xef\xbb\xbfFrom -\nA: b\n", b"From a@b\nA: b\n", b"From \nA: b\n"]
        {
            assert!(is_mbox(file), "{file:?}");
        }
        for file in [&b"From - \n\n"[..], b"From me\nA: b\n", b"From \nhello\n", b"From a@b c\nA: b\n"] {
            assert!(!is_mbox(file), "{file:?}");
        }
        assert!(is_mbox(b"") && is_mbox(b"\0\0\n\nFrom a Thu Feb  1 03:04:05 2024\n"));
        for file in [&b"# Mailbox"[..], b"From the desk of", b"<html>", b"\x00\x01\x02", b"Fro"] {
            assert!(!is_mbox(file), "{file:?}");
        }
    }

    #[test]
    fn long_lines_and_many_empty_ones_pass() {
        let long = "x".repeat(BUFFER * 2);
        let file = format!("From a Thu Feb  1 03:04:05 2024\nA: {long}\n\n\n\n{long}\n\n\n");
        assert_eq!(bodies(file.as_bytes()), [format!("A: {long}\r\n\r\n\r\n\r\n{long}\r\n\r\n")]);
    }

    #[test]
    fn dates_are_read_in_all_their_forms() {
        for (text, expected) in [
            ("a@b Thu Feb  1 03:04:05 2024", Some(1_706_756_645)),
            ("- Thu Feb 01 03:04:05 2024", Some(1_706_756_645)),
            ("a@b Thu Feb  1 03:04 2024", Some(1_706_756_640)),
            ("May@Mar Thu Feb  1 04:04:05 2024 +0100", Some(1_706_756_645)),
            ("a@b Thu Feb  1 03:04:05 PST 2024", Some(1_706_756_645)),
            ("a@b", None),
            ("a Feb 31 03:04:05 2024", None),
        ] {
            assert_eq!(read_date(text), expected, "{text}");
        }
        assert_eq!(
            Separator::read(&separator(Some(1_706_756_645)), b"").unwrap(),
            Separator { date: Some(1_706_756_645), ours: true }
        );
    }

    fn written(message: &[u8], cut: usize) -> (Vec<u8>, bool) {
        let mut quoting = Quoting::default();
        let mut out = separator(None);
        let (head, tail) = message.split_at(cut.min(message.len()));
        quoting.push(head, &mut out);
        quoting.push(tail, &mut out);
        let unended = quoting.finish(&mut out);
        (out, unended)
    }

    #[test]
    fn a_torn_tail_of_ours_is_known() {
        let (file, _) = written(b"a: b\r\n\r\nFrom x Thu Feb  1 03:04:05 2024\r\n", 3);
        for end in 0..file.len() {
            assert!(is_all_ours(&file[..end]).unwrap(), "{end}");
        }
        assert!(!is_all_ours(&b"From mailferry Thu\na\n\nFrom - Thu Feb"[..]).unwrap());
        assert!(!is_all_ours(&b"From a"[..]).unwrap());
    }

    proptest! {
        #[test]
        fn messages_are_read_back_as_they_were_written(
            messages in proptest::collection::vec("(From |>|>From |Fro|m|\r\n|\r|a|\u{0}|Status: R){0,12}", 1..4),
            cut in 0usize..20,
        ) {
            let mail = |text: &str| {
                let mut out = Vec::new();
                ToMail::default().push(text.as_bytes(), &mut out);
                out
            };
            let messages: Vec<Vec<u8>> = messages.iter().map(|text| mail(text)).collect();
            let mut file = Vec::new();
            let mut expected = Vec::new();
            for message in &messages {
                let (bytes, unended) = written(message, cut);
                prop_assert_eq!(&written(message, 0).0, &bytes, "cuts do not matter");
                file.extend(bytes);
                let mut message = message.clone();
                if unended {
                    message.extend(b"\r\n");
                }
                expected.push(message);
            }
            let taken: Vec<Vec<u8>> = parts(&file).0.into_iter().map(|part| part.2).collect();
            prop_assert_eq!(taken, expected);
        }
    }
}
