//! Where an item is, at either side. Everybody may compare and keep these; only the driver of the protocol reads an id.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::folder::FolderPath;
use super::protocol::Protocol;

/// The name space of the ids of a folder; another one voids all of them. For IMAP the folder's UIDVALIDITY in decimal
/// figures (RFC 9051 §2.3.1.1); empty where ids are for ever. Cheap to clone: every item of a list has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(Arc<str>);

/// The epoch of ids that can no longer be asked for. No server has it: a UIDVALIDITY is never 0.
const VOID: &str = "0";
/// The epoch of items that a server counts and does not list.
const UNLISTED: &str = "unlisted";

impl Epoch {
    /// The epoch of rows whose old ids name other items now. No driver gives it.
    pub fn void() -> Self {
        Self::from(VOID)
    }

    /// The epoch of items that a server counts and does not list: nobody can name them, so their ids are numbers of
    /// ours. No driver gives it.
    pub fn unlisted() -> Self {
        Self::from(UNLISTED)
    }

    /// Whether ids that were given in it can no longer be asked for.
    pub fn is_void(&self) -> bool {
        &*self.0 == VOID
    }

    /// Whether nobody can name its items.
    pub fn is_unlisted(&self) -> bool {
        &*self.0 == UNLISTED
    }

    /// The text that it is.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The number that it is, where it is one that reads itself back.
    pub fn number(&self) -> Option<u32> {
        let is_plain =
            self.0.bytes().all(|b| b.is_ascii_digit()) && (&*self.0 == "0" || !self.0.starts_with('0'));
        self.0.parse().ok().filter(|_| is_plain)
    }
}

/// Ids are for ever.
impl Default for Epoch {
    fn default() -> Self {
        Self::from("")
    }
}

impl From<u32> for Epoch {
    fn from(number: u32) -> Self {
        Self(number.to_string().into())
    }
}

impl From<&str> for Epoch {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Epoch {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

/// Versions before this one wrote a number.
impl<'de> Deserialize<'de> for Epoch {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u32),
            Text(String),
        }
        Ok(match Written::deserialize(from)? {
            Written::Number(number) => Self::from(number),
            Written::Text(text) => Self::from(text.as_str()),
        })
    }
}

/// The name of an item within its epoch. Numbers stay numbers, so that half a million of them cost little, and sort as such,
/// before all texts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ItemId {
    /// A UID of IMAP.
    Uid(u32),
    /// A unique id of POP3, a path, or whatever else names an item of another protocol.
    Text(Box<str>),
}

/// The sign within the name of an item whose id others have as well.
pub const SHARED: char = '\u{fffd}';

impl ItemId {
    /// The UID that it is, if it is one.
    pub fn uid(&self) -> Option<u32> {
        match self {
            Self::Uid(uid) => Some(*uid),
            Self::Text(_) => None,
        }
    }

    /// The text that it is, if it is one.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Uid(_) => None,
            Self::Text(text) => Some(text),
        }
    }

    /// The number or the text that it is, without a word before it.
    pub fn in_figures(&self) -> String {
        match self {
            Self::Uid(uid) => uid.to_string(),
            Self::Text(text) => text.to_string(),
        }
    }

    /// Whether the name is good for one session only, as [`SHARED`] in it says: another item may have it in the next.
    pub fn is_shared(&self) -> bool {
        self.text().is_some_and(|text| text.chars().skip(1).any(|c| c == SHARED))
    }
}

impl From<u32> for ItemId {
    fn from(uid: u32) -> Self {
        Self::Uid(uid)
    }
}

impl From<&str> for ItemId {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for ItemId {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl fmt::Display for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uid(uid) => write!(f, "UID {uid}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// A set of ids of one folder and epoch. As numbers they take no more room than numbers do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ItemIds {
    uids: BTreeSet<u32>,
    texts: BTreeSet<Box<str>>,
}

impl ItemIds {
    /// Whether an id is in it.
    pub fn contains(&self, id: &ItemId) -> bool {
        match id {
            ItemId::Uid(uid) => self.uids.contains(uid),
            ItemId::Text(text) => self.texts.contains(text),
        }
    }

    /// Puts an id into it; says whether it was not there.
    pub fn insert(&mut self, id: ItemId) -> bool {
        match id {
            ItemId::Uid(uid) => self.uids.insert(uid),
            ItemId::Text(text) => self.texts.insert(text),
        }
    }

    /// Takes an id out of it; says whether it was there.
    pub fn remove(&mut self, id: &ItemId) -> bool {
        match id {
            ItemId::Uid(uid) => self.uids.remove(uid),
            ItemId::Text(text) => self.texts.remove(text),
        }
    }

    /// Puts all of another set into it.
    pub fn merge(&mut self, mut other: Self) {
        self.uids.append(&mut other.uids);
        self.texts.append(&mut other.texts);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.uids.len() + self.texts.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.uids.is_empty() && self.texts.is_empty()
    }

    /// All of them, in their order.
    pub fn iter(&self) -> impl Iterator<Item = ItemId> {
        let uids = self.uids.iter().map(|uid| ItemId::Uid(*uid));
        uids.chain(self.texts.iter().map(|text| ItemId::Text(text.clone())))
    }

    /// The last one, in their order.
    pub fn last(&self) -> Option<ItemId> {
        let text = self.texts.last().map(|text| ItemId::Text(text.clone()));
        text.or_else(|| self.uids.last().map(|uid| ItemId::Uid(*uid)))
    }

    /// How many are in another set as well.
    pub fn count_shared(&self, other: &Self) -> usize {
        self.uids.intersection(&other.uids).count() + self.texts.intersection(&other.texts).count()
    }
}

impl Extend<ItemId> for ItemIds {
    fn extend<I: IntoIterator<Item = ItemId>>(&mut self, ids: I) {
        for id in ids {
            self.insert(id);
        }
    }
}

impl FromIterator<ItemId> for ItemIds {
    fn from_iter<I: IntoIterator<Item = ItemId>>(ids: I) -> Self {
        let mut set = Self::default();
        set.extend(ids);
        set
    }
}

/// Where an item is at the source. Stable as long as the server keeps its promises. Those of one folder and epoch are in the
/// order of their ids.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Locator {
    /// How it is read.
    pub protocol: Protocol,
    /// The folder that it is in.
    pub folder: FolderPath,
    /// The folder's epoch when the id was seen.
    pub epoch: Epoch,
    /// Its name.
    pub id: ItemId,
}

impl Locator {
    /// Whether the server counts the item and does not list it.
    pub fn is_unlisted(&self) -> bool {
        self.epoch.is_unlisted()
    }
}

impl fmt::Display for Locator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { protocol, folder, id, .. } = self;
        match id {
            ItemId::Uid(number) if self.is_unlisted() => write!(f, "{folder}: unlisted message {number}"),
            ItemId::Text(text) if *protocol == Protocol::Pop3 => write!(f, "{folder}: UIDL {text}"),
            id => write!(f, "{folder}: {id}"),
        }
    }
}

/// Where an item is at the destination, beside its folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// The folder's epoch.
    pub epoch: Epoch,
    /// Its name.
    pub id: ItemId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_sort_as_numbers_and_before_texts() {
        let mut ids: Vec<ItemId> =
            vec!["b".into(), ItemId::Uid(10), "10".into(), ItemId::Uid(9), "a".into(), ItemId::Uid(100)];
        ids.sort();
        let sorted = [ItemId::Uid(9), ItemId::Uid(10), ItemId::Uid(100), "10".into(), "a".into(), "b".into()];
        assert_eq!(ids, sorted);
        let set: ItemIds = ids.into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), sorted);
        assert_eq!((set.last(), set.len()), (Some("b".into()), 6));
        assert!(set.contains(&ItemId::Uid(10)) && set.contains(&"10".into()) && !set.contains(&"9".into()));
    }

    #[test]
    fn an_item_costs_little() {
        assert!(size_of::<ItemId>() <= 16 && size_of::<Epoch>() <= 16 && size_of::<Locator>() <= 56);
    }

    #[test]
    fn what_was_written_as_numbers_is_read() {
        let written = r#"[7, "7", "", [1, "1"]]"#;
        let read: (Epoch, Epoch, Epoch, Vec<ItemId>) = serde_json::from_str(written).unwrap();
        assert_eq!(
            read,
            (Epoch::from(7), Epoch::from(7), Epoch::default(), vec![ItemId::Uid(1), "1".into()])
        );
        assert_eq!(serde_json::to_string(&read).unwrap(), r#"["7","7","",[1,"1"]]"#);
        assert_eq!((read.0.number(), read.2.number()), (Some(7), None));
        assert!(["07", "+7", "00"].iter().all(|text| Epoch::from(*text).number().is_none()));
    }

    #[test]
    fn epochs_of_ours_are_no_servers() {
        assert!(Epoch::void().is_void() && Epoch::unlisted().is_unlisted());
        assert!(!Epoch::default().is_void() && !Epoch::from(1).is_void());
    }
}
