//! Labels as Gmail shows them by IMAP (X-GM-EXT-1): each label is a folder, and a message is in all of its folders and
//! in All Mail. Here is decided, by a message's own labels alone, which of its folders is its *home*: no table of all
//! messages is needed for carrying each of them once.
//!
//! The rule: the Inbox comes before the sent mail, this before the drafts, these before the user's own labels, of which
//! the one with the fewest levels comes first, then the shortest, then the first by alphabet; All Mail comes last. A folder
//! that is left out is not a home while there is another. The spam and the trash are not labels: messages in them are
//! at home there.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::folders::Row;
use super::names::{Spelling, encode_utf7};
use super::tokens::Value;
use crate::drivers::Folder;
use crate::model::failure::{Failure, Result};
use crate::model::folder::{FolderPath, SpecialUse};
use crate::model::label::{LabelRule, LabelTally, Labels};
use crate::model::message::Flags;
use crate::model::text::printable;

/// The capability that announces labels.
pub const EXTENSION: &str = "X-GM-EXT-1";
/// The FETCH attribute with a message's labels.
pub const ATTRIBUTE: &str = "X-GM-LABELS";
/// The most labels of one message that are looked at; Gmail allows as many in a whole mailbox.
const LABELS_MAX: usize = 10_000;
/// The longest keyword, in bytes: Dovecot takes no longer ones.
const KEYWORD_MAX: usize = 50;
/// The keyword of what Gmail takes for important (IANA's registry of keywords, RFC 8457).
const IMPORTANT: &str = "$Important";

/// Labels of one message as the server spells them: modified UTF-7 as in folder names, or a word with a backslash.
pub type Spelled = Box<[Vec<u8>]>;

/// Takes the labels out of a FETCH attribute.
///
/// # Errors
/// [`crate::model::failure::Class::Protocol`] for a value that is not a list, or for more than 10,000 labels.
pub fn read_labels(value: &Value) -> Result<Spelled> {
    let list = match value {
        Value::List(list) => list.as_slice(),
        Value::Nil => &[],
        _ => return Err(Failure::protocol("sent labels that cannot be read")),
    };
    if list.len() > LABELS_MAX {
        return Err(Failure::protocol(format!("gives a message more than {LABELS_MAX} labels")));
    }
    let labels = list.iter().filter_map(|label| match label {
        // A label may be called "nil".
        Value::Nil => Some(b"NIL".to_vec()),
        label => label.bytes().map(<[u8]>::to_vec),
    });
    Ok(labels.collect())
}

/// The kind of a folder, in the order in which they are homes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Inbox,
    Sent,
    Drafts,
    Label,
    All,
    /// Spam and trash, which hold what no other folder shows.
    Alone,
}

impl Kind {
    /// The kind of folder that a system label with its backslash names; `None` for one that is not a folder.
    fn of_system(label: &str) -> Option<Self> {
        Some(match label.to_ascii_lowercase().as_str() {
            "\\inbox" => Self::Inbox,
            "\\sent" => Self::Sent,
            "\\draft" | "\\drafts" => Self::Drafts,
            _ => return None,
        })
    }

    fn of_folder(folder: &Folder) -> Option<Self> {
        if folder.path.is_inbox() {
            return Some(Self::Inbox);
        }
        Some(match folder.special_use {
            None | Some(SpecialUse::Archive) => Self::Label,
            Some(SpecialUse::Sent) => Self::Sent,
            Some(SpecialUse::Drafts) => Self::Drafts,
            Some(SpecialUse::All) => Self::All,
            Some(SpecialUse::Junk | SpecialUse::Trash) => Self::Alone,
            Some(SpecialUse::Flagged | SpecialUse::Important) => return None,
        })
    }
}

/// Whether a folder is only a view of messages that stand elsewhere too, so that it carries nothing.
pub fn is_view(folder: &Folder) -> bool {
    matches!(folder.special_use, Some(SpecialUse::Flagged | SpecialUse::Important))
}

/// A folder that messages may be at home in.
#[derive(Debug)]
struct Place {
    kind: Kind,
    path: FolderPath,
    /// The keyword that its label becomes.
    keyword: String,
    excluded: bool,
}

/// The folders of a mailbox with labels, in the order in which they are homes.
#[derive(Debug)]
pub struct Homes {
    labels: Labels,
    spelling: Spelling,
    places: Vec<Place>,
    by_name: HashMap<Vec<u8>, usize>,
}

impl Homes {
    /// Puts the folders of a mailbox in order.
    pub fn new(rule: &LabelRule, spelling: &Spelling, folders: &[Folder]) -> Self {
        let place = |folder: &Folder| {
            let kind = Kind::of_folder(folder).filter(|_| folder.selectable)?;
            let excluded = rule.exclude.is_match(folder.path.to_string());
            let keyword = spell_keyword(kind, &folder.path.to_string());
            let place = Place { kind, path: folder.path.clone(), keyword, excluded };
            Some((place, folder.wire_name.clone()))
        };
        let mut places: Vec<(Place, Vec<u8>)> = folders.iter().filter_map(place).collect();
        places.sort_by_cached_key(|(place, _)| {
            let name = place.path.to_string();
            (place.kind, place.path.names().len(), name.chars().count(), name)
        });
        let labels = |(_, (place, _)): &(usize, &(Place, Vec<u8>))| place.kind == Kind::Label;
        let by_name =
            places.iter().enumerate().filter(labels).map(|(at, (_, name))| (name.clone(), at)).collect();
        let places = places.into_iter().map(|(place, _)| place).collect();
        Self { labels: rule.labels, spelling: spelling.clone(), places, by_name }
    }

    /// A digest of the rule and of the folders that it is about.
    pub fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(format!("{:?}", self.labels).as_bytes());
        for place in &self.places {
            hasher.update(format!("\n{:?} {} {}", place.kind, place.excluded, place.path).as_bytes());
        }
        hasher.finalize().to_hex()[..16].to_owned()
    }

    /// Returns the sieve that picks the messages to carry from one folder.
    pub fn sieve(self: &Arc<Self>, folder: &FolderPath) -> Sieve {
        let here = self.places.iter().position(|place| place.path == *folder);
        Sieve { homes: Arc::clone(self), here, tally: LabelTally::default() }
    }

    fn first_of(&self, kind: Kind) -> Option<usize> {
        self.places.iter().position(|place| place.kind == kind)
    }

    /// The folder of a label; none where it is not shown by IMAP.
    fn find(&self, label: &[u8]) -> Option<usize> {
        if let Some(at) = self.by_name.get(label) {
            return Some(*at);
        }
        // Names of labels have no case; one that is called "nil" has lost it on the way.
        let path = self.spelling.to_path(label)?.to_string();
        let is_it =
            |place: &Place| place.kind == Kind::Label && place.path.to_string().eq_ignore_ascii_case(&path);
        self.places.iter().position(is_it)
    }
}

/// Picks the messages that are carried from one folder, and counts what is left of their labels.
#[derive(Debug)]
pub struct Sieve {
    homes: Arc<Homes>,
    here: Option<usize>,
    tally: LabelTally,
}

impl Sieve {
    /// The message as it is carried from this folder; `None` when it is carried from another one.
    ///
    /// # Errors
    /// [`crate::model::failure::Class::Protocol`] for a message without its labels: what it is alone in nobody knows.
    pub fn pick(&mut self, mut row: Row) -> Result<Option<Row>> {
        let Some(labels) = row.labels.take() else {
            return Err(Failure::protocol("lists messages without the labels that it was asked for"));
        };
        let homes = Arc::clone(&self.homes);
        let Some(here) = self.here else { return Ok(None) };
        let alone = homes.places[here].kind == Kind::Alone;
        let mut stands: Vec<usize> = vec![here];
        let mut others: Vec<(String, String)> = Vec::new();
        let mut important = false;
        for label in &labels {
            let text = String::from_utf8_lossy(label);
            if text.starts_with('\\') {
                important |= text.eq_ignore_ascii_case("\\Important");
                stands.extend(Kind::of_system(&text).and_then(|kind| homes.first_of(kind)));
            } else if let Some(at) = homes.find(label) {
                stands.push(at);
            } else if let Some(path) = homes.spelling.to_path(label) {
                let path = path.to_string();
                others.push((spell_keyword(Kind::Label, &path), printable(&path)));
            }
        }
        // The label of the folder that is open is not among them; and all stand in All Mail.
        stands.extend(homes.first_of(Kind::All).filter(|_| !alone));
        stands.sort_unstable();
        stands.dedup();
        let open: Vec<usize> = stands.iter().copied().filter(|at| !homes.places[*at].excluded).collect();
        let first = if alone { here } else { *open.first().or(stands.first()).unwrap_or(&here) };
        let is_all = |at: usize| homes.places[at].kind == Kind::All;
        let carried = match homes.labels {
            Labels::Copies if !alone && !open.is_empty() => {
                open.contains(&here) && (!is_all(here) || open.len() == 1)
            }
            _ => here == first,
        };
        if !carried {
            return Ok(None);
        }
        let mut keywords: HashSet<&str> = HashSet::new();
        if important {
            keywords.insert(IMPORTANT);
        }
        let further: Vec<&Place> =
            stands.iter().filter(|at| **at != here && !is_all(**at)).map(|at| &homes.places[*at]).collect();
        if homes.labels == Labels::Keywords {
            keywords.extend(further.iter().map(|place| place.keyword.as_str()));
            keywords.extend(others.iter().map(|(keyword, _)| keyword.as_str()));
        } else {
            let has_copy = |place: &Place| homes.labels == Labels::Copies && !alone && !place.excluded;
            // Of several copies one counts for all.
            if here == first {
                for place in further.iter().filter(|place| !has_copy(place)) {
                    self.tally.leave(&printable(&place.path.to_string()), 1);
                }
                for (_, label) in &others {
                    self.tally.leave(label, 1);
                }
            }
        }
        if homes.labels != Labels::Copies && !alone && !further.is_empty() {
            self.tally.once += 1;
        }
        if !keywords.is_empty() {
            row.flags = row.flags.iter().chain(keywords).collect::<Flags>();
        }
        Ok(Some(row))
    }

    /// The counts of labels in the list so far; the next list is counted anew.
    pub fn take_tally(&mut self) -> LabelTally {
        std::mem::take(&mut self.tally)
    }
}

/// The keyword that a label becomes: as Thunderbird spells its tags, in lower case and modified UTF-7, with `_` for what
/// a keyword cannot hold and for `/`; at most 50 bytes. A keyword that mail programs read as something else gets a `_`
/// in front.
fn spell_keyword(kind: Kind, path: &str) -> String {
    let name = match kind {
        Kind::Inbox => "inbox",
        Kind::Sent => "sent",
        Kind::Drafts => "drafts",
        Kind::Label | Kind::All | Kind::Alone => path,
    };
    let spell = |c: char| match c {
        ' ' | '(' | ')' | '{' | '}' | '/' | '%' | '*' | '<' | '>' | '"' | '\\' | '[' | ']' => '_',
        c => c.to_ascii_lowercase(),
    };
    let mut keyword: String = encode_utf7(name).chars().map(spell).collect();
    if keyword.starts_with('$') || matches!(keyword.as_str(), "junk" | "nonjunk" | "nil") {
        keyword.insert(0, '_');
    }
    keyword.truncate(KEYWORD_MAX);
    keyword
}

#[cfg(test)]
mod tests {
    use super::super::tokens::read_fetch;
    use super::*;

    fn mailbox(labels: Labels, exclude: &[&str]) -> Arc<Homes> {
        let folder = |(name, attribute): (&str, &str)| {
            let spelling = Spelling { delimiter: Some('/'), ..Spelling::default() };
            Folder {
                path: spelling.to_path(name.as_bytes()).unwrap(),
                wire_name: name.as_bytes().to_vec(),
                special_use: SpecialUse::from_attribute(attribute),
                twin_of: None,
                selectable: true,
                subscribed: true,
            }
        };
        let folders = [
            ("INBOX", ""),
            ("[Gmail]/All Mail", "\\All"),
            ("[Gmail]/Sent Mail", "\\Sent"),
            ("[Gmail]/Drafts", "\\Drafts"),
            ("[Gmail]/Spam", "\\Junk"),
            ("[Gmail]/Trash", "\\Trash"),
            ("[Gmail]/Starred", "\\Flagged"),
            ("[Gmail]/Important", "\\Important"),
            ("Work", ""),
            ("Wood", ""),
            ("Sent", ""),
            ("Projects", ""),
            ("a/b", ""),
            ("Entw&APw-rfe \"x\"", ""),
            ("nil", ""),
        ]
        .map(folder);
        let mut patterns = globset::GlobSetBuilder::new();
        for pattern in exclude {
            patterns.add(globset::Glob::new(pattern).unwrap());
        }
        let rule = LabelRule { labels, exclude: patterns.build().unwrap() };
        let spelling = Spelling { delimiter: Some('/'), ..Spelling::default() };
        Arc::new(Homes::new(&rule, &spelling, &folders))
    }

    fn row(fetch: &str) -> Row {
        let labels =
            read_fetch(fetch.as_bytes()).unwrap().pop().map(|(_, value)| read_labels(&value).unwrap());
        Row { uid: 1, size: 1, flags: Flags::parse("\\Seen"), date: None, labels }
    }

    /// The folders that carry a message with these labels, with its flags there. As Gmail does, the label of the open
    /// folder is left out; and it is all the same if it is not.
    fn carriers(homes: &Arc<Homes>, labels: &[(&str, &str)]) -> Vec<(String, String)> {
        let all = [("[Gmail]/All Mail", "")];
        let mut found = Vec::new();
        for (folder, _) in labels.iter().chain(&all) {
            let [whole, told] = [true, false].map(|whole| {
                let shown = labels.iter().filter(|(other, _)| whole || other != folder);
                let shown: Vec<&str> = shown.map(|(_, spelled)| *spelled).collect();
                let mut sieve = homes.sieve(&homes.spelling.to_path(folder.as_bytes()).unwrap());
                let row = row(&format!("(X-GM-LABELS ({}))", shown.join(" ")));
                sieve.pick(row).unwrap().map(|row| row.flags.to_string())
            });
            assert_eq!(whole, told, "{folder}");
            found.extend(told.map(|flags| ((*folder).to_owned(), flags)));
        }
        found
    }

    const INBOX: (&str, &str) = ("INBOX", "\"\\\\Inbox\"");
    const SENT: (&str, &str) = ("[Gmail]/Sent Mail", "\\Sent");
    const WORK: (&str, &str) = ("Work", "Work");
    const WOOD: (&str, &str) = ("Wood", "\"Wood\"");
    const PROJECTS: (&str, &str) = ("Projects", "{8}\r\nProjects");
    const NESTED: (&str, &str) = ("a/b", "a/b");
    const ODD: (&str, &str) = ("Entw&APw-rfe \"x\"", "\"Entw&APw-rfe \\\"x\\\"\"");
    const NIL: (&str, &str) = ("nil", "nil");
    const NAMESAKE: (&str, &str) = ("Sent", "Sent");

    #[test]
    fn each_message_is_carried_once_by_the_rule() {
        let homes = mailbox(Labels::Home, &[]);
        for (labels, home) in [
            (vec![], "[Gmail]/All Mail"),
            (vec![WORK, INBOX, SENT], "INBOX"),
            (vec![NAMESAKE, WORK, SENT], "[Gmail]/Sent Mail"),
            (vec![NAMESAKE], "Sent"),
            // Fewer levels, then fewer letters, then the alphabet.
            (vec![NESTED, PROJECTS], "Projects"),
            (vec![PROJECTS, WORK], "Work"),
            (vec![WORK, WOOD], "Wood"),
            (vec![NESTED], "a/b"),
            (vec![ODD, NESTED], "Entw&APw-rfe \"x\""),
            (vec![NIL, WORK], "nil"),
        ] {
            let found = carriers(&homes, &labels);
            assert_eq!(found, [(home.to_owned(), "\\Seen".to_owned())], "{labels:?}");
        }
    }

    #[test]
    fn a_folder_that_is_left_out_is_no_home_while_there_is_another() {
        let homes = mailbox(Labels::Home, &["Wood", "INBOX"]);
        for (labels, home) in [
            (vec![WORK, WOOD], "Work"),
            (vec![INBOX, SENT], "[Gmail]/Sent Mail"),
            (vec![WOOD], "[Gmail]/All Mail"),
            (vec![INBOX, WOOD], "[Gmail]/All Mail"),
        ] {
            assert_eq!(carriers(&homes, &labels)[..], [(home.to_owned(), "\\Seen".to_owned())], "{labels:?}");
        }
        // A message without a home is counted where it would have been at home.
        let homes = mailbox(Labels::Home, &["Wood", "?Gmail?/All Mail"]);
        assert_eq!(carriers(&homes, &[WOOD])[0].0, "Wood");
        assert_eq!(carriers(&homes, &[])[0].0, "[Gmail]/All Mail");
    }

    #[test]
    fn other_labels_become_keywords_or_copies() {
        let homes = mailbox(Labels::Keywords, &[]);
        let found = carriers(&homes, &[INBOX, WORK, NESTED, ODD]);
        assert_eq!(found, [("INBOX".to_owned(), "\\Seen a_b entw&apw-rfe__x_ work".to_owned())]);
        let homes = mailbox(Labels::Copies, &["Wood"]);
        let folders = |labels: &[(&str, &str)]| -> Vec<String> {
            carriers(&homes, labels).into_iter().map(|(folder, _)| folder).collect()
        };
        assert_eq!(folders(&[INBOX, WORK, WOOD]), ["INBOX", "Work"]);
        assert_eq!(folders(&[]), ["[Gmail]/All Mail"]);
        assert_eq!(folders(&[WOOD]), ["[Gmail]/All Mail"]);
    }

    #[test]
    fn labels_that_are_not_carried_are_counted() {
        let tally = |labels, folder: &str, fetch: &str| {
            let mut sieve = mailbox(labels, &["Wood"]).sieve(&FolderPath::from_slashes(folder));
            sieve.pick(row(fetch)).unwrap();
            let tally = sieve.take_tally();
            (tally.once, tally.left.into_keys().collect::<Vec<_>>().join(","))
        };
        let fetch = "(X-GM-LABELS (Work Wood Hidden \\Important \\Starred \\Muted))";
        assert_eq!(tally(Labels::Home, "INBOX", fetch), (1, "Hidden,Wood,Work".to_owned()));
        assert_eq!(tally(Labels::Keywords, "INBOX", fetch), (1, String::new()));
        assert_eq!(tally(Labels::Copies, "INBOX", fetch), (0, "Hidden,Wood".to_owned()));
        assert_eq!(tally(Labels::Copies, "Work", "(X-GM-LABELS (\\Inbox Hidden))"), (0, String::new()));
        assert_eq!(tally(Labels::Home, "INBOX", "(X-GM-LABELS ())"), (0, String::new()));
        // In the spam and the trash a message is alone, whatever its labels are.
        assert_eq!(tally(Labels::Home, "[Gmail]/Trash", "(X-GM-LABELS (Work))"), (0, "Work".to_owned()));
    }

    #[test]
    fn what_matters_is_marked_and_a_missing_list_is_an_error() {
        let homes = mailbox(Labels::Home, &[]);
        let mut sieve = homes.sieve(&FolderPath::inbox());
        let picked = sieve.pick(row("(X-GM-LABELS (\\Important \\Inbox))")).unwrap().unwrap();
        assert_eq!(picked.flags.to_string(), "$Important \\Seen");
        let bare = Row { labels: None, ..row("(X-GM-LABELS ())") };
        assert!(sieve.pick(bare).is_err());
        assert!(read_labels(&Value::Atom(b"x".to_vec())).is_err());
        assert!(read_labels(&Value::List(vec![Value::Nil; LABELS_MAX + 1])).is_err());
    }

    #[test]
    fn keywords_can_be_held_by_servers_and_mean_nothing_else() {
        for (label, keyword) in [
            ("To Do", "to_do"),
            ("a/b (c) 100%", "a_b__c__100_"),
            ("$Junk", "_$junk"),
            ("NonJunk", "_nonjunk"),
            ("Pläne", "pl&aoq-ne"),
            ("[Imap]/x", "_imap__x"),
        ] {
            assert_eq!(spell_keyword(Kind::Label, label), keyword);
        }
        assert_eq!(spell_keyword(Kind::Label, &"x".repeat(80)).len(), KEYWORD_MAX);
        assert_eq!(spell_keyword(Kind::Sent, "[Gmail]/Gesendet"), "sent");
    }
}
