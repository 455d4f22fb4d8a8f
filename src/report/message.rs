//! One message in a report, and the hand-over that lets half a million of them pass without being held in memory.

use serde::{Deserialize, Serialize, Serializer};

use crate::model::address::Address;
use crate::model::failure::Result;
use crate::model::folder::FolderPath;
use crate::model::identity::Digest;
use crate::model::message::{Arrival, Flags, InternalDate, Locator, Verdict};
use crate::model::protocol::Protocol;

/// Takes messages one after the other.
pub trait MessageSink {
    /// Writes one message.
    fn row(&mut self, row: &MessageRow) -> Result<()>;
}

/// Where a message was read: exactly one of `uid` and `uidl` is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageSource {
    /// What it was read by.
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

/// One message: where from, what, where to, verdict.
#[derive(Debug, Clone, PartialEq)]
pub struct MessageRow {
    /// The mailbox at the source.
    pub mailbox: Address,
    /// Where it was read.
    pub source: MessageSource,
    /// Message-ID as it stands in the header; absent in many a draft.
    pub message_id: Option<String>,
    /// Digest of the exact bytes; absent until the message was read.
    pub exact: Option<Digest>,
    /// Size in bytes, as the source announces it.
    pub size: u64,
    /// When it arrived; POP3 does not tell.
    pub internal_date: Option<InternalDate>,
    /// Flags and keywords at the source.
    pub flags: Flags,
    /// Where it is now; `None` when it is not at the destination.
    pub destination: Option<MessageDestination>,
    /// What became of it, and why.
    pub verdict: Verdict,
    /// The subject, decoded. It is shown to people and is no part of the JSON Lines contract.
    pub subject: Option<String>,
}

/// The contract's field names, in the contract's order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    mailbox: &'a Address,
    source: &'a MessageSource,
    message_id: Option<&'a str>,
    exact: Option<String>,
    size: u64,
    internal_date: Option<String>,
    flags: &'a Flags,
    destination: Option<&'a MessageDestination>,
    verdict: &'static str,
    reason: Option<&'a str>,
}

impl Serialize for MessageRow {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        Line {
            mailbox: &self.mailbox,
            source: &self.source,
            message_id: self.message_id.as_deref(),
            exact: self.exact.map(|digest| digest.to_string()),
            size: self.size,
            internal_date: self.internal_date.map(super::words::rfc3339),
            flags: &self.flags,
            destination: self.destination.as_ref(),
            verdict: self.verdict.word(),
            reason: self.verdict.reason(),
        }
        .serialize(serializer)
    }
}
