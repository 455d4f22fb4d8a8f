//! How locators and folders lie in columns: the same in every kind of store.

use crate::model::folder::FolderPath;
use crate::model::message::Locator;
use crate::model::protocol::Protocol;

/// The columns of a row that every format has.
macro_rules! columns_of_all {
    () => {
        "id, protocol, folder, uidvalidity, uid, uidl, size, date, date_offset, flags, exact, canonical, message_id, subject, \
         dst_folder, dst_uidvalidity, dst_uid, verdict, reason, gone"
    };
}

/// The columns of a row, in the order that both readers take them.
pub(super) const COLUMNS: &str = concat!(columns_of_all!(), ", code, bound, attempts, announced");

/// As [`COLUMNS`] for a file of format 1, which nobody has carried with this version yet.
pub(super) const COLUMNS_1: &str = concat!(columns_of_all!(), ", NULL, NULL, 0, NULL");

/// The columns of a cursor, in the order that both readers take them.
pub(super) const CURSOR: &str =
    "uidvalidity, uidnext, messages, modseq, dst_uidvalidity, dst_scanned, dst_folder";

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

pub(super) struct Parts {
    pub(super) protocol: &'static str,
    pub(super) folder: String,
    pub(super) uidvalidity: u32,
    pub(super) uid: u32,
    pub(super) uidl: String,
}

pub(super) fn write_locator(locator: &Locator) -> Parts {
    let folder = write_path(&locator.folder());
    match locator {
        Locator::Imap { uidvalidity, uid, .. } => {
            Parts { protocol: "IMAP", folder, uidvalidity: *uidvalidity, uid: *uid, uidl: String::new() }
        }
        Locator::Pop3 { uidl } => {
            Parts { protocol: "POP3", folder, uidvalidity: 0, uid: 0, uidl: uidl.clone() }
        }
        Locator::Unlisted { number, .. } => {
            Parts { protocol: UNLISTED, folder, uidvalidity: 0, uid: *number, uidl: String::new() }
        }
    }
}

/// The column of a [`Space`]'s protocol.
pub(super) fn write_protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Imap => "IMAP",
        Protocol::Pop3 => "POP3",
    }
}

/// The two columns by which messages of a folder are ordered.
pub(super) fn write_place(locator: &Locator) -> (u32, &str) {
    match locator {
        Locator::Imap { uid, .. } => (*uid, ""),
        Locator::Pop3 { uidl } => (0, uidl),
        Locator::Unlisted { number, .. } => (*number, ""),
    }
}

/// Reads the locator of a row.
pub(super) fn read_locator(
    protocol: &str,
    folder: &str,
    uidvalidity: u32,
    uid: u32,
    uidl: String,
) -> Locator {
    match protocol {
        "POP3" => Locator::Pop3 { uidl },
        UNLISTED => Locator::Unlisted { folder: read_path(folder), number: uid },
        _ => Locator::Imap { folder: read_path(folder), uidvalidity, uid },
    }
}
