//! One message in a report, and the hand-over that lets half a million of them pass without being held in memory.

use serde::{Deserialize, Serialize, Serializer};

use crate::model::address::Address;
use crate::model::failure::{FailureCode, Result};
use crate::model::identity::Digest;
use crate::model::message::{Flags, InternalDate, Verdict};
pub use crate::model::place::{MessageDestination, MessageSource};

/// Takes messages one after the other.
pub trait MessageSink {
    /// Writes one message.
    fn row(&mut self, row: &MessageRow) -> Result<()>;
}

/// The finding of a verification about a message that had arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Found {
    /// It is no longer at the destination.
    Missing,
    /// It has other bytes there.
    Changed,
}

impl Found {
    /// The meaning of the code of a delivered message.
    pub fn of(code: Option<FailureCode>) -> Option<Self> {
        match code? {
            FailureCode::ArrivalMissing => Some(Self::Missing),
            FailureCode::ArrivalChanged => Some(Self::Changed),
            _ => None,
        }
    }
}

/// Why a message that had arrived is not at the destination.
const MISSING: &str = "a verification no longer found it at the destination";

/// One message: where from, what, where to, verdict.
#[derive(Debug, Clone, PartialEq)]
pub struct MessageRow {
    /// The mailbox at the source.
    pub mailbox: Address,
    /// Where it was read.
    pub source: MessageSource,
    /// Message-ID as it is in the header; absent in many a draft.
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
    /// Its fate, and why.
    pub verdict: Verdict,
    /// The exact kind of a refusal, where it is one of the known ones; no part of the JSON Lines contract.
    pub code: Option<FailureCode>,
    /// The finding of a verification about it, if there is one.
    pub found: Option<Found>,
    /// The subject, decoded. It is shown to people and is not part of the JSON Lines contract.
    pub subject: Option<String>,
}

impl MessageRow {
    /// The subject's stead where there is none to show: one that was left out or is still to come was never read.
    pub fn no_subject(&self) -> &'static str {
        if self.exact.is_some() { "no subject" } else { "subject not read" }
    }

    /// Why it is not at the destination as it was at the source.
    pub fn reason(&self) -> Option<&str> {
        if self.found == Some(Found::Missing) { Some(MISSING) } else { self.verdict.reason() }
    }
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
            internal_date: self.internal_date.map(InternalDate::rfc3339),
            flags: &self.flags,
            destination: self.destination.as_ref(),
            verdict: self.verdict.word(),
            reason: self.reason(),
        }
        .serialize(serializer)
    }
}
