//! What every signal hands over: evidence for people, endpoints for the probes, and protocols that are said not to exist.

use jiff::Timestamp;

use crate::model::endpoint::Endpoint;
use crate::model::evidence::{EXCERPT_MAX, Evidence, Grade, Outcome, Signal};
use crate::model::failure::Failure;
use crate::model::protocol::Protocol;
use crate::model::text::{cut, printable};

/// One endpoint that a signal names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Published {
    /// Where.
    pub(super) endpoint: Endpoint,
    /// Who says so.
    pub(super) signal: Signal,
    /// How much the signal proves.
    pub(super) grade: Grade,
    /// Whether it is the domain's own voice over validated TLS.
    pub(super) trusted: bool,
    /// Place among the endpoints of the same signal and service, 0 first (SRV priority and weight).
    pub(super) rank: usize,
}

/// What one signal, or all of them, had to say.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// For people and for the report.
    pub(super) evidence: Vec<Evidence>,
    /// Endpoints to probe.
    pub(super) published: Vec<Published>,
    /// Protocols that service records say are not offered.
    pub(super) denied: Vec<Protocol>,
    /// Hosts that take the domain's mail in.
    pub(super) exchangers: Vec<String>,
    /// The domain itself is not in the DNS.
    pub(super) domain_missing: bool,
}

impl Heard {
    /// Adds what another signal said.
    pub(super) fn add(&mut self, other: Self) {
        self.evidence.extend(other.evidence);
        self.published.extend(other.published);
        self.denied.extend(other.denied);
        self.exchangers.extend(other.exchangers);
        self.domain_missing |= other.domain_missing;
    }

    /// Keeps one line of evidence that names no endpoint.
    pub(super) fn note(
        &mut self,
        signal: Signal,
        grade: Grade,
        at: Timestamp,
        outcome: Outcome,
        statement: String,
    ) {
        self.evidence.push(Evidence {
            signal,
            grade,
            at,
            endpoint: None,
            trusted: false,
            outcome,
            statement,
            excerpt: None,
        });
    }

    /// Keeps that a question could not be answered.
    pub(super) fn fail(
        &mut self,
        signal: Signal,
        grade: Grade,
        at: Timestamp,
        asked: &str,
        failure: Failure,
    ) {
        let statement = format!("{asked}: {}", failure.what);
        self.note(signal, grade, at, Outcome::Failed(failure), statement);
    }

    /// Keeps an endpoint, and the evidence that names it.
    pub(super) fn publish(
        &mut self,
        published: Published,
        at: Timestamp,
        statement: String,
        excerpt: Option<&str>,
    ) {
        self.evidence.push(Evidence {
            signal: published.signal,
            grade: published.grade,
            at,
            endpoint: Some(published.endpoint.clone()),
            trusted: published.trusted,
            outcome: Outcome::Offered,
            statement,
            excerpt: excerpt.map(|text| cut(&printable(text), EXCERPT_MAX)),
        });
        self.published.push(published);
    }

    /// Whether any signal names an endpoint of a protocol.
    pub(super) fn names(&self, protocol: Protocol) -> bool {
        self.published.iter().any(|published| published.endpoint.protocol == protocol)
    }
}
