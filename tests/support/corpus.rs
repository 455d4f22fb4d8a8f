//! Believable mail, made from a seed: the same seed gives the same mail, byte for byte, on every machine.
//!
//! People write to each other in several languages over eighteen years, answer, forward and attach; about one message
//! in eight is odd in one of the ways of [`Oddity`], and any 150 messages show every oddity.
//!
//! ```ignore
//! for message in Corpus::new(7).with_large(&[25 << 20]).messages(5_000) { … }
//! let pop3: Vec<Message> = Corpus::new(8).inbox_only().messages(200).collect();
//! ```

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};

mod letter;
mod words;

pub use letter::Oddity;
use letter::Writer;

/// The folders mail lies in: nested, non-ASCII, and with characters to which the protocol or a glob gives a meaning.
/// Each can be created on a Dovecot with the separator `/`.
pub const FOLDERS: [&str; 18] = [
    "INBOX",
    "Sent",
    "Drafts",
    "Trash",
    "Junk",
    "Archive",
    "Archive/2019",
    "Archive/2020",
    "Archive/2021/Q4",
    "Projects/Alpha/Design docs",
    "Projects/Alpha/Invoices & offers",
    "Projects/Beta",
    "Lists/imap-protocol",
    "Entwürfe & Pläne",
    "Входящие/Счета",
    "日本語/請求書",
    "100% sure",
    "Stars * and more",
];

/// A folder for tests to create without any mail in it.
pub const EMPTY_FOLDER: &str = "Empty, but here 🗂";

/// A folder whose name must be escaped in a quoted string; many tools trip over it, so mail lies in it only on request.
pub const QUOTED_FOLDER: &str = "The \"Beta\" \\ \"Gamma\" files";

/// How many of a hundred messages a folder gets; the other folders share the rest.
const SHARES: [(usize, u64); 4] = [(0, 36), (1, 16), (5, 8), (6, 8)];

/// One message and what its server knows of it.
#[derive(Clone, Debug)]
pub struct Message {
    /// Unicode name, `/` between the levels.
    pub folder: String,
    /// System flags and keywords as they go onto the wire.
    pub flags: Vec<String>,
    /// As it goes onto the wire, without the quotes: `17-Jul-2019 02:44:25 +0200`.
    pub internal_date: String,
    /// All bytes; lines end in CRLF.
    pub bytes: Vec<u8>,
}

/// The kind of mail to make.
#[derive(Clone, Debug)]
pub struct Corpus {
    seed: u64,
    inbox_only: bool,
    ordinary_only: bool,
    quoted_folder: bool,
    large: Vec<usize>,
}

impl Corpus {
    /// Mail in all [`FOLDERS`], with oddities, none large.
    pub fn new(seed: u64) -> Self {
        Self { seed, inbox_only: false, ordinary_only: false, quoted_folder: false, large: Vec::new() }
    }

    /// Everything in INBOX and without flags, as a POP3 client would see it.
    pub fn inbox_only(mut self) -> Self {
        self.inbox_only = true;
        self
    }

    /// Some mail in [`QUOTED_FOLDER`] too.
    pub fn with_quoted_folder(mut self) -> Self {
        self.quoted_folder = true;
        self
    }

    /// No odd messages.
    pub fn ordinary_only(mut self) -> Self {
        self.ordinary_only = true;
        self
    }

    /// Messages with an attachment that makes them about so many bytes, spread evenly among the others.
    pub fn with_large(mut self, sizes: &[usize]) -> Self {
        self.large = sizes.to_vec();
        self
    }

    /// Makes `count` messages, the large ones among them.
    pub fn messages(self, count: usize) -> impl Iterator<Item = Message> {
        let mut maker = Maker {
            dice: Dice::new(self.seed),
            writer: Writer::new(self.seed),
            last: None,
            count,
            corpus: self,
        };
        (0..count).map(move |index| maker.make(index))
    }
}

struct Maker {
    corpus: Corpus,
    dice: Dice,
    writer: Writer,
    /// The message that the duplicates repeat.
    last: Option<Message>,
    count: usize,
}

impl Maker {
    fn make(&mut self, index: usize) -> Message {
        let when = self.moment(index);
        let step = self.count / (self.corpus.large.len() + 1);
        let large = (index > 0 && index.is_multiple_of(step.max(1)))
            .then(|| self.corpus.large.get(index / step.max(1) - 1).copied())
            .flatten();
        let oddity = (!self.corpus.ordinary_only && large.is_none() && index % 8 == 5)
            .then(|| Oddity::ALL[index / 8 % Oddity::ALL.len()]);
        let repeated = match (oddity, self.last.take()) {
            (Some(Oddity::ExactDuplicate), Some(last)) => Some(last),
            (Some(Oddity::SameElsewhere), Some(last)) => Some(Message { folder: self.folder(), ..last }),
            _ => None,
        };
        let message = repeated.unwrap_or_else(|| {
            let folder = self.folder();
            Message {
                flags: self.flags(&folder),
                folder,
                internal_date: when.strftime("%d-%b-%Y %H:%M:%S %z").to_string(),
                bytes: match (large, oddity) {
                    (Some(size), _) => self.writer.large(&when, size),
                    (None, Some(oddity)) => self.writer.odd(&when, oddity),
                    (None, None) => self.writer.ordinary(&when),
                },
            }
        });
        self.last = Some(message.clone());
        message
    }

    /// From 2008 to 2025 in order, as mail arrives, each in the zone of whoever received it.
    fn moment(&mut self, index: usize) -> jiff::Zoned {
        const START: i64 = 1_199_188_800;
        const SPAN: u64 = 17 * 365 * 86_400;
        let slot = SPAN / self.count.max(1) as u64;
        let second = START + (slot * index as u64 + self.dice.below(slot.max(1))).cast_signed();
        let minutes = self.dice.pick(&[-480, -300, 0, 60, 120, 330, 540]);
        let zone = TimeZone::fixed(Offset::from_seconds(minutes * 60).expect("an offset"));
        Timestamp::from_second(second).expect("a time").to_zoned(zone)
    }

    fn folder(&mut self) -> String {
        if self.corpus.inbox_only {
            return FOLDERS[0].to_owned();
        }
        if self.corpus.quoted_folder && self.dice.below(40) == 0 {
            return QUOTED_FOLDER.to_owned();
        }
        let mut roll = self.dice.below(100);
        for (folder, share) in SHARES {
            if roll < share {
                return FOLDERS[folder].to_owned();
            }
            roll -= share;
        }
        self.dice.pick(&FOLDERS[1..]).to_owned()
    }

    fn flags(&mut self, folder: &str) -> Vec<String> {
        const OFTEN: [(&str, u64); 9] = [
            ("\\Seen", 80),
            ("\\Answered", 18),
            ("\\Flagged", 7),
            ("\\Deleted", 1),
            ("$Forwarded", 6),
            ("$Label1", 4),
            ("$MDNSent", 3),
            ("NonJunk", 12),
            ("to-do", 2),
        ];
        if self.corpus.inbox_only {
            return Vec::new();
        }
        let mut flags: Vec<String> = Vec::new();
        for (flag, percent) in OFTEN {
            if self.dice.below(100) < percent {
                flags.push(flag.to_owned());
            }
        }
        if folder == "Drafts" {
            flags.push("\\Draft".to_owned());
        }
        flags
    }
}

/// Pseudo-random numbers that are the same everywhere (`SplitMix64`).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Two seeds give unrelated numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed ^ 0x6d61_696c_6665_7272)
    }

    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.roll() % limit
    }

    /// One of `items`.
    pub fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        let index = usize::try_from(self.below(items.len() as u64)).expect("an index");
        items[index]
    }
}
