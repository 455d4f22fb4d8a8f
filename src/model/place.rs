//! Where a message is at either side, as reports and results write it.

use serde::{Deserialize, Serialize};

use super::folder::FolderPath;
use super::message::{Arrival, Locator};
use super::protocol::Protocol;

/// Where a message was read: exactly one of `uid` and `uidl` is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageSource {
    /// The protocol that it was read by.
    pub protocol: Protocol,
    /// The folder, its names joined by `/`.
    pub folder: String,
    /// UIDVALIDITY of the folder; null for POP3.
    pub uidvalidity: Option<u32>,
    /// The UID in the folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The unique id of the maildrop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uidl: Option<String>,
}

impl MessageSource {
    /// A folder as a whole.
    pub fn folder(protocol: Protocol, folder: &FolderPath) -> Self {
        Self { protocol, folder: folder.to_string(), uidvalidity: None, uid: None, uidl: None }
    }

    /// Whether it names a folder and no message in it.
    pub fn is_folder(&self) -> bool {
        self.uid.is_none() && self.uidl.is_none()
    }

    /// The folder, and what names the message in it.
    pub fn name(&self) -> String {
        match (&self.uid, &self.uidl) {
            (Some(uid), _) => format!("{}: UID {uid}", self.folder),
            (None, Some(uidl)) => format!("{}: UIDL {uidl}", self.folder),
            (None, None) => self.folder.clone(),
        }
    }
}

impl From<&Locator> for MessageSource {
    fn from(locator: &Locator) -> Self {
        let folder = locator.folder().to_string();
        match locator {
            Locator::Imap { uidvalidity, uid, .. } => {
                let uidvalidity = Some(*uidvalidity);
                Self { protocol: Protocol::Imap, folder, uidvalidity, uid: Some(*uid), uidl: None }
            }
            Locator::Pop3 { uidl } => {
                let uidl = Some(uidl.clone());
                Self { protocol: Protocol::Pop3, folder, uidvalidity: None, uid: None, uidl }
            }
            // Nobody can name it.
            Locator::Unlisted { .. } => {
                Self { protocol: Protocol::Imap, folder, uidvalidity: None, uid: None, uidl: None }
            }
        }
    }
}

/// Where a message is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageDestination {
    /// The folder, its names joined by `/`.
    pub folder: String,
    /// UIDVALIDITY of the folder.
    pub uidvalidity: u32,
    /// The UID in the folder.
    pub uid: u32,
}

impl MessageDestination {
    /// An arrival in a folder.
    pub fn new(folder: &FolderPath, arrival: &Arrival) -> Self {
        Self { folder: folder.to_string(), uidvalidity: arrival.uidvalidity, uid: arrival.uid }
    }
}
