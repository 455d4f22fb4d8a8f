//! All that is known of one message: where it is, its flags, its date, what it is, and what became of it.

use std::fmt;

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};
use serde::{Deserialize, Serialize};

pub use super::locator::{Arrival, Epoch, ItemId, Locator, SHARED};

/// Flags and keywords of a message (RFC 9051 §2.3.2). System flags are kept in their registered spelling; `\Recent` is a
/// session's own and is never kept.
///
/// Each is an atom, with a backslash before it or without: any other text that a server, a list or a ledger spells as a
/// flag is not a flag and is left out, with [`Self::UNREADABLE`] in its place, so that nothing of it can ever become
/// part of a command.
///
/// Kept as one text, as [`fmt::Display`] writes it: no flag holds a blank, and a listing holds many of these.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<String>", into = "Vec<String>")]
pub struct Flags(Box<str>);

impl From<Vec<String>> for Flags {
    fn from(flags: Vec<String>) -> Self {
        flags.iter().map(String::as_str).collect()
    }
}

impl From<Flags> for Vec<String> {
    fn from(flags: Flags) -> Self {
        flags.iter().map(str::to_owned).collect()
    }
}

const SYSTEM_FLAGS: [&str; 5] = ["\\Answered", Flags::DELETED, "\\Draft", "\\Flagged", "\\Seen"];

/// The longest flag that is kept, in bytes.
const FLAG_MAX: usize = 255;
/// The most flags of one message that are kept.
const FLAGS_MAX: usize = 500;

impl Flags {
    /// The mark of a message that its user wants removed. Its meaning is for its own server to carry out.
    pub const DELETED: &str = "\\Deleted";
    /// Is there in place of flags that are not atoms, too long, or too many. No server knows it and none is sent it.
    pub const UNREADABLE: &str = "\\Unreadable";

    /// The flags and keywords in alphabetical order, system flags first.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.split(' ').filter(|flag| !flag.is_empty())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a flag or keyword is there, in whatever case: keywords have none (RFC 9051 §2.3.2), and servers spell them
    /// as whoever came first did.
    pub fn has(&self, flag: &str) -> bool {
        self.iter().any(|known| known.eq_ignore_ascii_case(flag))
    }

    /// The flags that are here and not there, whatever case they are spelled in.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        self.filter(|flag| !other.has(flag))
    }

    /// The flags that a test keeps.
    #[must_use]
    pub fn filter(&self, keep: impl Fn(&str) -> bool) -> Self {
        self.iter().filter(|flag| keep(flag)).collect()
    }

    /// The flags that may be given to a copy: keywords, and the system flags that an RFC knows but for [`Self::DELETED`].
    #[must_use]
    pub fn writable(&self) -> Self {
        self.filter(is_writable)
    }

    /// The flags without keywords.
    #[must_use]
    pub fn without_keywords(&self) -> Self {
        self.filter(|flag| flag.starts_with('\\'))
    }

    /// The flags as a mail program shows them: `read, flagged`. Keywords have no other name.
    pub fn in_words(&self) -> String {
        let word = |flag: &str| match flag {
            "\\Seen" => None,
            "\\Answered" => Some("answered".to_owned()),
            "\\Draft" => Some("draft".to_owned()),
            "\\Flagged" => Some("flagged".to_owned()),
            Self::DELETED => Some("marked for removal".to_owned()),
            Self::UNREADABLE => Some("marks that cannot be read".to_owned()),
            other => Some(other.trim_start_matches('\\').to_owned()),
        };
        let read = if self.has("\\Seen") { "read" } else { "unread" };
        let words: Vec<String> =
            std::iter::once(read.to_owned()).chain(self.iter().filter_map(word)).collect();
        words.join(", ")
    }

    /// Parses what [`fmt::Display`] wrote.
    pub fn parse(text: &str) -> Self {
        text.split(' ').filter(|t| !t.is_empty()).collect()
    }
}

/// Whether a flag may be given to a copy.
pub fn is_writable(flag: &str) -> bool {
    !flag.starts_with('\\') || (flag != Flags::DELETED && SYSTEM_FLAGS.contains(&flag))
}

/// Whether a word is a flag of RFC 9051 §9: an atom, perhaps with a backslash before it. A closing square bracket is taken
/// as well, for servers give keywords such names.
fn is_flag(word: &str) -> bool {
    let atom = word.strip_prefix('\\').unwrap_or(word);
    let is_atom_char = |b: u8| b.is_ascii_graphic() && !b"(){}%*\"\\".contains(&b);
    !atom.is_empty() && word.len() <= FLAG_MAX && atom.bytes().all(is_atom_char)
}

impl<'a> FromIterator<&'a str> for Flags {
    fn from_iter<I: IntoIterator<Item = &'a str>>(flags: I) -> Self {
        let spell = |flag: &'a str| {
            if !is_flag(flag) {
                return Self::UNREADABLE;
            }
            SYSTEM_FLAGS.iter().find(|known| known.eq_ignore_ascii_case(flag)).copied().unwrap_or(flag)
        };
        let flags = flags.into_iter().filter(|flag| !flag.eq_ignore_ascii_case("\\Recent"));
        let mut flags: Vec<&str> = flags.map(spell).collect();
        flags.sort_unstable();
        flags.dedup();
        if flags.len() > FLAGS_MAX {
            // Those of the system come last, and are not what there is too much of.
            let keywords =
                flags.iter().filter(|flag| !flag.starts_with('\\')).take(FLAGS_MAX - SYSTEM_FLAGS.len());
            let system = flags.iter().filter(|flag| SYSTEM_FLAGS.contains(flag));
            flags = keywords.chain(system).copied().chain([Self::UNREADABLE]).collect();
            flags.sort_unstable();
        }
        Self(flags.join(" ").into())
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// When a message arrived, to the second, with the zone the server told it in (RFC 9051 §2.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InternalDate {
    /// Seconds since 1970-01-01 UTC.
    pub unix: i64,
    /// Minutes east of UTC.
    pub offset_minutes: i32,
}

const INTERNALDATE: &str = "%d-%b-%Y %H:%M:%S %z";

impl InternalDate {
    /// Reads `dd-Mon-yyyy hh:mm:ss +zzzz`, with a blank or zero before a single-digit day.
    pub fn parse(text: &str) -> Option<Self> {
        let parsed = jiff::fmt::strtime::parse(INTERNALDATE, text.trim()).ok()?;
        let offset_minutes = parsed.offset().map_or(0, |o| o.seconds() / 60);
        Some(Self { unix: parsed.to_timestamp().ok()?.as_second(), offset_minutes })
    }

    /// A date told in UTC.
    pub fn utc(at: Timestamp) -> Self {
        Self { unix: at.as_second(), offset_minutes: 0 }
    }

    /// The date in the zone that it was told in, RFC 3339 with the offset in figures.
    pub fn rfc3339(self) -> String {
        let offset = Offset::from_seconds(self.offset_minutes * 60).unwrap_or(Offset::UTC);
        self.timestamp().to_zoned(TimeZone::fixed(offset)).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
    }

    /// The moment.
    pub fn timestamp(self) -> Timestamp {
        Timestamp::from_second(self.unix).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

impl fmt::Display for InternalDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offset = Offset::from_seconds(self.offset_minutes * 60).unwrap_or(Offset::UTC);
        write!(f, "{}", self.timestamp().to_zoned(TimeZone::fixed(offset)).strftime(INTERNALDATE))
    }
}

/// The fate of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It is at the destination as it was.
    Delivered,
    /// It is at the destination, and the server changed it.
    DeliveredAltered(String),
    /// A rule of the manifest leaves it out.
    Excluded(String),
    /// Another folder of the mailbox holds it; its own folder only shows it (RFC 6154). It is not counted.
    Shown,
    /// It cannot be carried; the reason names why.
    Quarantined(String),
    /// It is still to be carried.
    Pending,
}

impl Verdict {
    /// The word for reports and for the ledger.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Delivered => "Delivered",
            Self::DeliveredAltered(_) => "DeliveredAltered",
            Self::Excluded(_) => "Excluded",
            Self::Shown => "Shown",
            Self::Quarantined(_) => "Quarantined",
            Self::Pending => "Pending",
        }
    }

    /// Why, where there is a why.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::DeliveredAltered(why) | Self::Excluded(why) | Self::Quarantined(why) => Some(why),
            Self::Delivered | Self::Shown | Self::Pending => None,
        }
    }

    /// The verdict that a word and a reason stand for.
    pub fn from_parts(word: &str, reason: Option<String>) -> Option<Self> {
        let why = reason.unwrap_or_default();
        Some(match word {
            "Delivered" => Self::Delivered,
            "DeliveredAltered" => Self::DeliveredAltered(why),
            "Excluded" => Self::Excluded(why),
            "Shown" => Self::Shown,
            "Quarantined" => Self::Quarantined(why),
            "Pending" => Self::Pending,
            _ => return None,
        })
    }

    /// Whether the message is at the destination.
    pub fn is_delivered(&self) -> bool {
        matches!(self, Self::Delivered | Self::DeliveredAltered(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn dates_keep_second_and_zone() {
        for text in ["01-Feb-2021 03:04:05 +0100", "17-Jul-1996 02:44:25 -0730"] {
            assert_eq!(InternalDate::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(InternalDate::parse(" 1-Feb-2021 03:04:05 +0000").unwrap().unix, 1_612_148_645);
        assert_eq!(InternalDate::parse("31-Foo-2021 03:04:05 +0000"), None);
    }

    #[test]
    fn flags_forget_recent_and_know_their_spelling() {
        let flags: Flags = ["\\seen", "\\RECENT", "$Label1"].into_iter().collect();
        assert_eq!(flags.to_string(), "$Label1 \\Seen");
        assert_eq!(Flags::parse(&flags.to_string()), flags);
        assert_eq!(flags.minus(&Flags::parse("\\Seen")).to_string(), "$Label1");
        assert!(flags.minus(&Flags::parse("\\Seen $label1")).is_empty(), "keywords have no case");
    }

    #[test]
    fn what_is_no_atom_is_no_flag() {
        for word in [
            "a b",
            "",
            "\\",
            "\r\n\r\nX DELETE Folder\r\n",
            "a\r\nb",
            "a(b",
            "a)",
            "a{5}",
            "a\"b",
            "50%",
            "a*",
            "\\*",
            "caf\u{e9}",
            "a\u{0}b",
            "a\\b",
            "a\tb",
            &"x".repeat(256),
        ] {
            let flags: Flags = [word, "$Label1"].into_iter().collect();
            assert_eq!(flags.to_string(), "$Label1 \\Unreadable", "{word:?}");
        }
        for word in ["$Label1", "a:b", "odd]word", "[x", "\\$NOTJUNK", "NonJunk", "a.b-c_d+e"] {
            let flags: Flags = [word].into_iter().collect();
            assert_eq!(flags.to_string(), word);
        }
    }

    #[test]
    fn what_is_written_to_a_copy_is_a_keyword_or_a_flag_of_an_rfc_and_no_mark_of_removal() {
        let flags = Flags::parse("\\Seen \\Deleted \\$NOTJUNK \\Indexed $Label1 \\Unreadable");
        assert_eq!(flags.writable().to_string(), "$Label1 \\Seen");
        assert_eq!(flags.without_keywords().writable().to_string(), "\\Seen");
    }

    #[test]
    fn a_message_has_no_more_flags_than_can_be_kept() {
        let many: Vec<String> = (0..2000).map(|n| format!("k{n}")).chain(["\\Seen".to_owned()]).collect();
        let flags = Flags::from(many);
        assert!(flags.iter().count() <= FLAGS_MAX && flags.has("\\Seen") && flags.has(Flags::UNREADABLE));
        assert_eq!(Flags::parse(&flags.to_string()), flags);
    }

    proptest! {
        #[test]
        fn flags_are_safe_in_a_command_and_read_themselves_back(
            words in proptest::collection::vec("[\\PC\r\n\0]{0,12}", 0..8),
        ) {
            let flags: Flags = words.iter().map(String::as_str).collect();
            let text = flags.to_string();
            prop_assert!(text.bytes().all(|b| b == b' ' || (b.is_ascii_graphic() && !b"(){}%*\"".contains(&b))), "{text:?}");
            prop_assert_eq!(Flags::parse(&text), flags);
        }
    }
}
