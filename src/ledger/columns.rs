//! How locators and folders lie in columns: the same in every kind of store.

use crate::model::folder::FolderPath;
use crate::model::message::Locator;

/// The columns of a row, in the order that both readers take them.
pub(super) const COLUMNS: &str = "id, protocol, folder, uidvalidity, uid, uidl, size, date, date_offset, flags, exact, canonical, \
                       message_id, subject, dst_folder, dst_uidvalidity, dst_uid, verdict, reason, gone";

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
    }
}
