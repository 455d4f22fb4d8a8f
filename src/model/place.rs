//! Where a message is at either side, as reports and results write it.

use serde::{Deserialize, Serialize};

use super::folder::FolderPath;
use super::locator::{Arrival, ItemId, Locator};
use super::protocol::Protocol;

/// Where a message was read: at most one of `uid`, `uidl` and `id` is there; none where the server counts the message and
/// does not list it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageSource {
    /// The protocol that it was read by.
    pub protocol: Protocol,
    /// The folder, its names joined by `/`.
    pub folder: String,
    /// UIDVALIDITY of the folder; null for all protocols but IMAP.
    pub uidvalidity: Option<u32>,
    /// The UID in the folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The unique id of the maildrop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uidl: Option<String>,
    /// The name of the message by any other protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

impl MessageSource {
    /// A folder as a whole.
    pub fn folder(protocol: Protocol, folder: &FolderPath) -> Self {
        Self { protocol, folder: folder.to_string(), uidvalidity: None, uid: None, uidl: None, id: None }
    }

    /// Whether it names a folder and no message in it.
    pub fn is_folder(&self) -> bool {
        self.uid.is_none() && self.uidl.is_none() && self.id.is_none()
    }

    /// The folder, and what names the message in it.
    pub fn name(&self) -> String {
        match (&self.uid, &self.uidl, &self.id) {
            (Some(uid), ..) => format!("{}: UID {uid}", self.folder),
            (None, Some(uidl), _) => format!("{}: UIDL {uidl}", self.folder),
            (None, None, Some(id)) => format!("{}: {id}", self.folder),
            (None, None, None) => self.folder.clone(),
        }
    }
}

impl From<&Locator> for MessageSource {
    fn from(locator: &Locator) -> Self {
        let Locator { protocol, folder, epoch, id } = locator;
        let named = Self::folder(*protocol, folder);
        // Nobody can name it.
        if locator.is_unlisted() {
            return named;
        }
        match id {
            ItemId::Uid(uid) => Self { uidvalidity: epoch.number(), uid: Some(*uid), ..named },
            ItemId::Text(text) if *protocol == Protocol::Pop3 => {
                Self { uidl: Some(text.to_string()), ..named }
            }
            ItemId::Text(text) => Self { id: Some(text.to_string()), ..named },
        }
    }
}

/// Where a message is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageDestination {
    /// The folder, its names joined by `/`.
    pub folder: String,
    /// UIDVALIDITY of the folder, where it is on an IMAP server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uidvalidity: Option<u32>,
    /// The UID in the folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The name of the message at any other destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

impl MessageDestination {
    /// An arrival in a folder.
    pub fn new(folder: &FolderPath, arrival: &Arrival) -> Self {
        let Arrival { epoch, id } = arrival;
        let uid = id.uid();
        Self {
            folder: folder.to_string(),
            uidvalidity: uid.and_then(|_| epoch.number()),
            uid,
            id: id.text().map(str::to_owned),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::locator::Epoch;

    #[test]
    fn a_message_is_named_as_its_protocol_names_it() {
        let (folder, epoch) = (FolderPath::inbox(), Epoch::from(7));
        let source = |protocol, epoch: &Epoch, id: ItemId| {
            let locator = Locator { protocol, folder: folder.clone(), epoch: epoch.clone(), id };
            MessageSource::from(&locator)
        };
        let json = |source: &MessageSource| serde_json::to_string(source).unwrap();
        let imap = source(Protocol::Imap, &epoch, 5.into());
        assert_eq!(json(&imap), r#"{"protocol":"IMAP","folder":"INBOX","uidvalidity":7,"uid":5}"#);
        let pop3 = source(Protocol::Pop3, &Epoch::default(), "a".into());
        assert_eq!(json(&pop3), r#"{"protocol":"POP3","folder":"INBOX","uidvalidity":null,"uidl":"a"}"#);
        let unlisted = source(Protocol::Imap, &Epoch::unlisted(), 5.into());
        assert_eq!((unlisted.is_folder(), unlisted.name()), (true, "INBOX".to_owned()));
        let there = |epoch: Epoch, id: ItemId| {
            serde_json::to_string(&MessageDestination::new(&folder, &Arrival { epoch, id })).unwrap()
        };
        assert_eq!(there(epoch, 5.into()), r#"{"folder":"INBOX","uidvalidity":7,"uid":5}"#);
        assert_eq!(there(Epoch::default(), "cur/1".into()), r#"{"folder":"INBOX","id":"cur/1"}"#);
    }
}
