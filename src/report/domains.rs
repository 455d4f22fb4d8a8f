//! One domain in a report: what was chosen, what each protocol loses, and the evidence for and against every candidate.

use jiff::Timestamp;
use serde::Serialize;

use super::rows::FailureRow;
use crate::model::address::Domain;
use crate::model::evidence::{Candidate, DomainDiscovery, Evidence, Grade, Outcome, ServerFacts, Signal};
use crate::model::fidelity::{self, DataKind, KindFidelity};
use crate::model::protocol::Protocol;
use crate::model::service::ServiceFacts;

/// One domain.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DomainRow {
    /// The domain.
    pub name: Domain,
    /// When discovery of it began.
    pub started: Timestamp,
    /// When discovery of it was done.
    pub finished: Timestamp,
    /// The protocols that its mailboxes will be read by, the one of most mailboxes first.
    pub protocols: Vec<ProtocolShare>,
    /// Mailboxes that no login worked for.
    pub unreadable: u64,
    /// Whether its mailboxes speak more than one protocol.
    pub mixed: bool,
    /// The best grade among the chosen candidates.
    pub grade: Option<Grade>,
    /// The share of the data that is carried, the mean of the readable mailboxes; 0 to 100.
    pub fidelity: Option<u8>,
    /// The ways that were found, best first.
    pub candidates: Vec<CandidateRow>,
    /// Evidence that names no candidate, such as an MX record or an absent service record.
    pub evidence: Vec<EvidenceRow>,
    /// The words of the servers.
    pub servers: Vec<ServerFacts>,
    /// Each kind of data that the domain holds, what carries it and what is lost; mail first.
    pub kinds: Vec<KindFidelity>,
    /// Services beside mail's own that the domain offers.
    pub services: Vec<ServiceFacts>,
    /// Why nothing could be found out at all.
    pub failure: Option<FailureRow>,
}

impl DomainRow {
    /// The losses of each kind of data beside mail.
    pub fn left_behind(&self) -> impl Iterator<Item = &KindFidelity> {
        self.kinds.iter().filter(|kind| kind.kind != DataKind::Mail && !kind.losses.is_empty())
    }
}

/// How many mailboxes of a domain are read by a protocol, and what that protocol loses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProtocolShare {
    /// The protocol.
    pub protocol: Protocol,
    /// Mailboxes read by it.
    pub mailboxes: u64,
    /// The share that it carries, 0 to 100.
    pub fidelity: u8,
    /// Its losses, in plain words, weightiest first.
    pub losses: Vec<&'static str>,
}

/// One way to read a domain's mail.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CandidateRow {
    /// The candidate, and why it won or lost.
    #[serde(flatten)]
    pub candidate: Candidate,
    /// The evidence for it and against it, in the order it was seen.
    pub evidence: Vec<EvidenceRow>,
}

impl CandidateRow {
    /// Whether any mailbox is read this way.
    pub fn chosen(&self) -> bool {
        self.candidate.mailboxes > 0
    }
}

/// One statement and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EvidenceRow {
    /// Where it comes from.
    pub signal: Signal,
    /// How much it proves.
    pub grade: Grade,
    /// When it was seen.
    pub at: Timestamp,
    /// Whether the channel proves the domain's own voice.
    pub trusted: bool,
    /// `offered`, `not offered` or `failed`.
    pub outcome: &'static str,
    /// Whether it says that something is not there.
    #[serde(skip)]
    pub is_absent: bool,
    /// One line that a person can read.
    pub statement: String,
    /// Why it could not be found out.
    pub failure: Option<String>,
    /// The words it was taken from.
    pub excerpt: Option<String>,
}

impl EvidenceRow {
    /// The failure, unless the statement ends with it already.
    pub fn failure_beside_statement(&self) -> Option<&str> {
        self.failure.as_deref().filter(|why| !self.statement.ends_with(why))
    }
}

impl From<&Evidence> for EvidenceRow {
    fn from(evidence: &Evidence) -> Self {
        let (outcome, failure) = match &evidence.outcome {
            Outcome::Offered => ("offered", None),
            Outcome::NotOffered => ("not offered", None),
            Outcome::Failed(failure) => ("failed", Some(failure.sentence())),
        };
        Self {
            signal: evidence.signal,
            grade: evidence.grade,
            at: evidence.at,
            trusted: evidence.trusted,
            outcome,
            is_absent: matches!(evidence.outcome, Outcome::NotOffered),
            statement: evidence.statement.clone(),
            failure,
            excerpt: evidence.excerpt.clone(),
        }
    }
}

impl From<&DomainDiscovery> for DomainRow {
    fn from(seen: &DomainDiscovery) -> Self {
        let mut protocols: Vec<ProtocolShare> = Protocol::ALL
            .into_iter()
            .map(|protocol| ProtocolShare {
                protocol,
                mailboxes: seen.mailboxes.iter().filter(|m| m.protocol() == Some(protocol)).count() as u64,
                fidelity: fidelity::score(protocol),
                losses: fidelity::losses(protocol),
            })
            .filter(|share| share.mailboxes > 0)
            .collect();
        protocols.sort_by_key(|share| std::cmp::Reverse(share.mailboxes));
        let readable: u64 = protocols.iter().map(|share| share.mailboxes).sum();
        let read_by: Vec<_> = protocols.iter().map(|share| (share.protocol, share.mailboxes)).collect();
        let belongs = |e: &Evidence, c: &Candidate| e.endpoint.as_ref() == Some(&c.endpoint);
        let candidates: Vec<CandidateRow> = seen
            .candidates
            .iter()
            .map(|candidate| CandidateRow {
                candidate: candidate.clone(),
                evidence: seen.evidence.iter().filter(|e| belongs(e, candidate)).map(Into::into).collect(),
            })
            .collect();
        let homeless = |e: &&Evidence| !seen.candidates.iter().any(|c| belongs(e, c));
        Self {
            name: seen.domain.clone(),
            started: seen.started,
            finished: seen.finished,
            mixed: protocols.len() > 1,
            unreadable: (seen.mailboxes.len() as u64).saturating_sub(readable),
            grade: candidates.iter().filter(|c| c.chosen()).map(|c| c.candidate.grade).min(),
            fidelity: fidelity::of_mail_read_by(&read_by),
            evidence: seen.evidence.iter().filter(homeless).map(Into::into).collect(),
            servers: seen.servers.clone(),
            kinds: seen.fidelity.as_ref().map(|fidelity| fidelity.kinds.clone()).unwrap_or_default(),
            services: seen.services.clone(),
            failure: seen.failure.as_ref().map(Into::into),
            protocols,
            candidates,
        }
    }
}
