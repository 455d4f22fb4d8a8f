//! Flags as files have them: the letters behind `:2,` in a Maildir's names, the list of keywords beside them, the words
//! that Thunderbird and Unix programs write into mailboxes of mbox.

use std::collections::BTreeMap;

use crate::model::message::Flags;

/// Letters of a Maildir's file names and their flags (cr.yp.to/proto/maildir.html). P is for passed on.
const LETTERS: [(char, &str); 6] = [
    ('D', "\\Draft"),
    ('F', "\\Flagged"),
    ('P', "$Forwarded"),
    ('R', "\\Answered"),
    ('S', "\\Seen"),
    ('T', Flags::DELETED),
];

/// The most keywords that names of files have letters for: a to z.
pub(super) const KEYWORDS_MAX: usize = 26;
/// The largest list of keywords that is read, in bytes.
pub(super) const KEYWORDS_FILE_MAX: u64 = 64 * 1024;
/// The file with the keywords of a Maildir, as Dovecot has it: a line for each, its number and its name.
pub(super) const KEYWORDS_FILE: &str = "dovecot-keywords";

/// The keywords of one Maildir that have letters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Keywords(BTreeMap<usize, String>);

impl Keywords {
    /// Reads the file. Lines that say nothing are passed over.
    pub(super) fn read(text: &str) -> Self {
        let line = |line: &str| {
            let (number, name) = line.trim_end().split_once(' ')?;
            let number: usize = number.parse().ok()?;
            (number < KEYWORDS_MAX && !name.is_empty()).then(|| (number, name.to_owned()))
        };
        Self(text.lines().filter_map(line).collect())
    }

    /// The content of the file.
    pub(super) fn text(&self) -> String {
        let lines: Vec<String> = self.0.iter().map(|(number, name)| format!("{number} {name}\n")).collect();
        lines.concat()
    }

    fn name(&self, letter: char) -> Option<&str> {
        let number = (letter as usize).checked_sub('a' as usize)?;
        self.0.get(&number).map(String::as_str)
    }

    fn letter(&self, keyword: &str) -> Option<char> {
        let (number, _) = self.0.iter().find(|(_, name)| name.eq_ignore_ascii_case(keyword))?;
        u8::try_from(*number).ok().map(|number| char::from(b'a' + number))
    }

    /// Gives a keyword a letter, as long as there are any; whether it got a new one.
    pub(super) fn add(&mut self, keyword: &str) -> bool {
        if self.letter(keyword).is_some() {
            return false;
        }
        let Some(free) = (0..KEYWORDS_MAX).find(|number| !self.0.contains_key(number)) else { return false };
        self.0.insert(free, keyword.to_owned());
        true
    }
}

/// The flags of the letters behind `:2,`.
pub(super) fn read_letters(letters: &str, keywords: &Keywords) -> Flags {
    let flag = |letter: char| {
        let known = LETTERS.iter().find(|(known, _)| *known == letter).map(|(_, flag)| *flag);
        known.or_else(|| keywords.name(letter))
    };
    letters.chars().filter_map(flag).collect()
}

/// The letters of flags, sorted as they must be, and the keywords that have none.
pub(super) fn write_letters(flags: &Flags, keywords: &Keywords) -> (String, Flags) {
    let mut letters = Vec::new();
    let mut rest = Vec::new();
    for flag in flags.iter() {
        let known =
            LETTERS.iter().find(|(_, known)| known.eq_ignore_ascii_case(flag)).map(|(letter, _)| *letter);
        // Dovecot takes P for nothing, and knows the keyword by its own letter.
        let own = keywords.letter(flag);
        letters.extend(known.into_iter().chain(own));
        if known.or(own).is_none() {
            rest.push(flag);
        }
    }
    letters.sort_unstable();
    (letters.into_iter().collect(), rest.into_iter().collect())
}

/// Whether a flag takes one of the letters that are for keywords.
pub(super) fn takes_keyword_letter(flag: &str) -> bool {
    !flag.starts_with('\\')
}

/// The state of a message as mail programs note it in the header of an mbox: none of these lines belong to the message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Noted {
    mozilla: Option<u32>,
    mozilla2: u32,
    status: String,
    keywords: String,
}

/// Names of the fields in which mail programs note the state of a message of an mbox, in lower case. Dovecot hides those
/// that are not Thunderbird's as well.
const FIELDS: [&str; 9] = [
    "x-mozilla-status",
    "x-mozilla-status2",
    "x-mozilla-keys",
    "status",
    "x-status",
    "x-keywords",
    "x-uid",
    "x-imap",
    "x-imapbase",
];

/// The largest value of such a field that is looked at, in bytes.
const VALUE_MAX: usize = 4096;

impl Noted {
    /// Whether a header line begins a field that notes the state.
    pub(super) fn is_field(line: &[u8]) -> bool {
        let name = line.split(|b| *b == b':').next().unwrap_or_default();
        name.len() < line.len()
            && std::str::from_utf8(name)
                .is_ok_and(|name| FIELDS.iter().any(|f| f.eq_ignore_ascii_case(name.trim_end())))
    }

    /// Takes a line of such a field.
    pub(super) fn take(&mut self, line: &[u8]) {
        let Ok(line) = std::str::from_utf8(&line[..line.len().min(VALUE_MAX)]) else { return };
        let Some((name, value)) = line.split_once(':') else { return };
        let value = value.trim();
        let hex = || u32::from_str_radix(value, 16).ok();
        match name.trim_end().to_ascii_lowercase().as_str() {
            "x-mozilla-status" => self.mozilla = hex().or(self.mozilla),
            "x-mozilla-status2" => self.mozilla2 = hex().unwrap_or(0),
            "status" | "x-status" => self.status.push_str(value),
            "x-mozilla-keys" | "x-keywords" => {
                self.keywords.push(' ');
                self.keywords.push_str(value);
            }
            _ => {}
        }
    }

    /// The flags. Thunderbird's bits count where it has been there, else the letters of Unix programs.
    pub(super) fn flags(&self) -> Flags {
        let mut flags: Vec<&str> = self.keywords.split_ascii_whitespace().collect();
        if let Some(bits) = self.mozilla {
            let known = [(0x1, "\\Seen"), (0x2, "\\Answered"), (0x4, "\\Flagged"), (0x1000, "$Forwarded")];
            flags.extend(known.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, flag)| *flag));
        } else {
            let known = [('R', "\\Seen"), ('A', "\\Answered"), ('F', "\\Flagged"), ('T', "\\Draft")];
            flags.extend(known.iter().filter(|(l, _)| self.status.contains(*l)).map(|(_, flag)| *flag));
        }
        flags.into_iter().collect()
    }

    /// Whether the user has removed the message, and the file only was not compacted since.
    pub(super) fn is_removed(&self) -> bool {
        self.mozilla.is_some_and(|bits| bits & 0x8 != 0) || self.mozilla2 & 0x0020_0000 != 0
    }

    /// Whether the file has the header of the message alone, and the server the rest.
    pub(super) fn is_partial(&self) -> bool {
        self.mozilla.is_some_and(|bits| bits & 0x400 != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_flags_and_back() {
        let mut keywords = Keywords::read("0 $Label1\n3 work\nx y\n40 beyond\n");
        assert_eq!(read_letters("FSad", &keywords).to_string(), "$Label1 \\Flagged \\Seen work");
        assert!(keywords.add("New") && !keywords.add("WORK"));
        assert_eq!(keywords.text(), "0 $Label1\n1 New\n3 work\n");
        let flags = Flags::parse("\\Seen \\Answered $Forwarded new $label1 other \\Draft");
        let (letters, rest) = write_letters(&flags, &keywords);
        assert_eq!((letters.as_str(), rest.to_string().as_str()), ("DPRSab", "other"));
        keywords.add("$Forwarded");
        assert_eq!(write_letters(&flags, &keywords).0, "DPRSabc");
        assert_eq!(read_letters("Pc", &keywords).to_string(), "$Forwarded");
    }

    #[test]
    fn the_twenty_seventh_keyword_has_no_letter() {
        let mut keywords = Keywords::default();
        let added = (0..30).filter(|n| keywords.add(&format!("k{n}"))).count();
        assert_eq!(added, KEYWORDS_MAX);
        let (letters, rest) = write_letters(&Flags::parse("k0 k25 k26"), &keywords);
        assert_eq!((letters.as_str(), rest.to_string().as_str()), ("az", "k26"));
    }

    #[test]
    fn noted_states_are_read() {
        let noted = |lines: &[&str]| {
            let mut noted = Noted::default();
            for line in lines {
                assert!(Noted::is_field(line.as_bytes()), "{line}");
                noted.take(line.as_bytes());
            }
            noted
        };
        let thunderbird =
            noted(&["X-Mozilla-Status: 0007\n", "X-Mozilla-Keys: $label1 todo     \n", "Status: O\n"]);
        assert_eq!(thunderbird.flags().to_string(), "$label1 \\Answered \\Flagged \\Seen todo");
        assert!(!thunderbird.is_removed());
        assert!(noted(&["X-Mozilla-Status: 0009"]).is_removed());
        assert!(noted(&["X-Mozilla-Status2: 00200000"]).is_removed());
        assert!(noted(&["X-Mozilla-Status: 0401"]).is_partial());
        assert_eq!(noted(&["Status: RO", "X-Status: AF"]).flags().to_string(), "\\Answered \\Flagged \\Seen");
        assert!(!Noted::is_field(b"Subject: x") && !Noted::is_field(b"Status"));
    }
}
