//! The records that a move of mail is about, each as it is, as it must become, and as it was seen: for tables, reports and
//! whoever waits for them.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::Serialize;

use super::dns::{Data, Problem, RecordKind};

/// The records of one domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DomainRecords {
    /// The domain.
    pub name: String,
    /// The zone that it is in.
    pub zone: Option<String>,
    /// When it was asked last; `None` where it never was.
    pub asked: Option<Timestamp>,
    /// The name servers of the zone.
    pub servers: Vec<NameServerRow>,
    /// What the resolver could not answer, if it could not.
    pub resolver: Option<Problem>,
    /// Each record, that of MX first.
    pub records: Vec<RecordRow>,
    /// All that is odd about the zone as a whole.
    pub notes: Vec<String>,
}

impl DomainRecords {
    /// The row of MX.
    pub fn mx(&self) -> Option<&RecordRow> {
        self.records.iter().find(|row| row.kind == RecordKind::Mx)
    }
}

/// A name server of a zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NameServerRow {
    /// Its name.
    pub name: String,
    /// The addresses that it is asked at.
    pub addresses: Vec<IpAddr>,
    /// Whether the zone lists it now; where it does not, others may remember it until then.
    pub listed: bool,
    /// Until when others may ask it although it is no longer listed.
    pub until: Option<Timestamp>,
    /// Why it says nothing about MX, where it does not.
    pub problem: Option<Problem>,
}

/// One record: a name and a type, with all that belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordRow {
    /// The name.
    pub name: String,
    /// The type.
    #[serde(rename = "type")]
    pub kind: RecordKind,
    /// What it is for.
    pub purpose: &'static str,
    /// How it is: each answer that name servers give, the one that most of them give first.
    pub now: Vec<Answer>,
    /// How it must become.
    pub wanted: Wanted,
    /// Where that stands.
    pub state: RecordState,
    /// Who has it so.
    pub seen: Seen,
    /// What became of the record that was there before.
    pub old: Old,
    /// When nobody remembers it any more with a TTL above an hour: from then on a change is through within an hour. `None` where it
    /// is longer now, or not known.
    pub ttl_lowered: Option<Timestamp>,
    /// Oddities, each with its remedy.
    pub notes: Vec<String>,
}

/// One answer of some name servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// The records; none where there is no such record.
    pub records: Vec<Data>,
    /// The longest time for which it may be remembered, in seconds.
    pub ttl: u32,
    /// Who answers so.
    pub servers: Vec<String>,
    /// When they were seen to do so first, without a break.
    pub since: Timestamp,
}

/// How a record must become.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Wanted {
    /// So. `or` says what else is right.
    #[serde(rename_all = "camelCase")]
    Records {
        /// The records.
        records: Vec<Data>,
        /// What else is right, or where the exact value stands.
        #[serde(skip_serializing_if = "Option::is_none")]
        or: Option<String>,
    },
    /// It must not be there.
    Absent,
    /// It is not known here; the sentence says who knows.
    Ask(String),
}

/// Where a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum RecordState {
    /// It is to be changed.
    Open,
    /// Some name servers have it, and others do not yet.
    Partly,
    /// Each name server that answers has it.
    InPlace,
    /// A person must say what it must become, or look at it.
    Review,
    /// It is not there, and need not be.
    NotNeeded,
    /// No name server said anything about it.
    Unseen,
}

impl std::fmt::Display for RecordState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Open => "to change",
            Self::Partly => "partly",
            Self::InPlace => "in place",
            Self::Review => "to look at",
            Self::NotNeeded => "not needed",
            Self::Unseen => "not seen",
        })
    }
}

/// Who has a record as it must become.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    /// Name servers that have it so.
    pub with: u32,
    /// Name servers of the zone.
    pub of: u32,
    /// Name servers that have it otherwise.
    pub without: Vec<String>,
    /// Name servers that say nothing; they do not count.
    pub silent: Vec<String>,
    /// Whether the resolver has it so; `None` where it says nothing.
    pub resolver: Option<bool>,
    /// Since when the last of those that have it was seen with it.
    pub since: Option<Timestamp>,
}

/// What became of a record that is not as it must become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Old {
    /// Somebody still answers with it, or nobody knows.
    Standing,
    /// Nobody remembers it after this moment: where it was seen last, the next look plus its TTL.
    EndsAt(Timestamp),
    /// It was never seen: the record was as it must be when it was looked at first.
    NeverSeen,
}

impl Old {
    /// When the old record has ended everywhere, where that is known.
    pub fn ends(self) -> Option<Timestamp> {
        match self {
            Self::EndsAt(at) => Some(at),
            Self::Standing | Self::NeverSeen => None,
        }
    }
}
