//! How locators and folders lie in columns: the same in every kind of store.

use crate::model::folder::FolderPath;
use crate::model::mark::Mark;
use crate::model::message::{Arrival, Epoch, ItemId, Locator};
use crate::model::protocol::Protocol;

/// The columns of a row, in the order that both readers take them.
pub(super) const COLUMNS: &str = "id, protocol, folder, epoch, place, size, date, date_offset, flags, exact, canonical, \
     message_id, subject, dst_folder, dst_epoch, dst_place, verdict, reason, gone, code, bound, attempts, announced, stored";

/// The columns of a cursor, in the order that both readers take them.
pub(super) const CURSOR: &str = "epoch, mark, items, proves, dst_epoch, dst_mark, dst_folder";

/// The protocol column of a message that its server counts and does not list.
pub(super) const UNLISTED: &str = "UNLISTED";

/// The most rows of one folder that stand for messages which its server counts and does not list: a server may count
/// billions.
pub(super) const UNLISTED_MAX: u64 = 10_000;

/// Folder paths are kept as JSON arrays, so that no delimiter can be mistaken for part of a name.
pub(super) fn write_path(path: &FolderPath) -> String {
    serde_json::to_string(path.names()).unwrap_or_default()
}

pub(super) fn read_path(text: &str) -> FolderPath {
    FolderPath::new(serde_json::from_str::<Vec<String>>(text).unwrap_or_default())
}

/// The protocol columns of files.
const MAILDIR: &str = "Maildir";
const MBOX: &str = "Mbox";
const EML: &str = "Eml";

/// The column of a protocol.
pub(super) fn write_protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Imap => "IMAP",
        Protocol::Pop3 => "POP3",
        Protocol::Maildir => MAILDIR,
        Protocol::Mbox => MBOX,
        Protocol::Eml => EML,
    }
}

/// The protocol column of a row.
pub(super) fn protocol_of(locator: &Locator) -> &'static str {
    if locator.is_unlisted() { UNLISTED } else { write_protocol(locator.protocol) }
}

/// The column of a mark; none for the beginning.
pub(super) fn write_mark(mark: &Mark) -> Option<&str> {
    Some(mark.as_str()).filter(|text| !text.is_empty())
}

/// Reads it.
pub(super) fn read_mark(column: Option<&str>) -> Mark {
    column.map(Mark::from).unwrap_or_default()
}

/// An epoch or a place in a column that holds numbers as numbers.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    Number(u32),
    Text(&'a str),
}

impl<'a> Value<'a> {
    pub(super) fn of_epoch(epoch: &'a Epoch) -> Self {
        epoch.number().map_or(Self::Text(epoch.as_str()), Self::Number)
    }

    pub(super) fn of_id(id: &'a ItemId) -> Self {
        match id {
            ItemId::Uid(uid) => Self::Number(*uid),
            ItemId::Text(text) => Self::Text(text),
        }
    }

    pub(super) fn to_epoch(self) -> Epoch {
        match self {
            Self::Number(number) => Epoch::from(number),
            Self::Text(text) => Epoch::from(text),
        }
    }

    pub(super) fn to_id(self) -> ItemId {
        match self {
            Self::Number(number) => ItemId::Uid(number),
            Self::Text(text) => ItemId::from(text),
        }
    }
}

/// A folder that is made of a column, and made anew only where the column holds another one than in the row before.
#[derive(Default)]
struct KeptFolder(Option<(String, FolderPath)>);

impl KeptFolder {
    fn get(&mut self, column: &str) -> FolderPath {
        if let Some((before, folder)) = &self.0
            && before == column
        {
            return folder.clone();
        }
        let folder = read_path(column);
        self.0 = Some((column.to_owned(), folder.clone()));
        folder
    }
}

/// As [`KeptFolder`], for an epoch.
#[derive(Default)]
struct KeptEpoch(Option<(Option<u32>, Epoch)>);

impl KeptEpoch {
    fn get(&mut self, column: Value<'_>) -> Epoch {
        if let Some((number, epoch)) = &self.0 {
            let is_same = match column {
                Value::Number(now) => *number == Some(now),
                Value::Text(now) => number.is_none() && epoch.as_str() == now,
            };
            if is_same {
                return epoch.clone();
            }
        }
        let epoch = column.to_epoch();
        let number = if let Value::Number(number) = column { Some(number) } else { None };
        self.0 = Some((number, epoch.clone()));
        epoch
    }
}

/// Reads places: the rows of an answer are mostly of one folder and epoch at either side, and share both.
#[derive(Default)]
pub(super) struct Places {
    folder: KeptFolder,
    epoch: KeptEpoch,
    destination: KeptFolder,
    destination_epoch: KeptEpoch,
}

impl Places {
    /// Reads the locator of a row.
    pub(super) fn locator(&mut self, protocol: &str, folder: &str, epoch: Value<'_>, id: ItemId) -> Locator {
        let protocol = match protocol {
            "POP3" => Protocol::Pop3,
            MAILDIR => Protocol::Maildir,
            MBOX => Protocol::Mbox,
            EML => Protocol::Eml,
            _ => Protocol::Imap,
        };
        Locator { protocol, folder: self.folder.get(folder), epoch: self.epoch.get(epoch), id }
    }

    /// Reads where a row's message is at the destination.
    pub(super) fn destination(
        &mut self,
        folder: &str,
        epoch: Value<'_>,
        id: ItemId,
    ) -> (FolderPath, Arrival) {
        (self.destination.get(folder), Arrival { epoch: self.destination_epoch.get(epoch), id })
    }
}
