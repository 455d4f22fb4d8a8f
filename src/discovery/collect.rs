//! Ranking: from what was said, answered and tried to candidates in an order, each with its reason. Pure.

use std::cmp::Reverse;
use std::net::IpAddr;

use super::Chosen;
use super::logins::Tried;
use super::probes::Probed;
use super::signals::Published;
use super::trust::{Approval, judge};
use crate::model::address::Domain;
use crate::model::endpoint::Endpoint;
use crate::model::evidence::{Candidate, Grade, ServerFacts, Signal};
use crate::model::failure::{Failure, Result};
use crate::model::fidelity::score;
use crate::model::protocol::{Protocol, Tls};

/// One endpoint with all that was said about it.
#[derive(Debug, Clone)]
pub(super) struct Ranked {
    /// Where.
    pub(super) endpoint: Endpoint,
    /// Who named it.
    pub(super) signals: Vec<Signal>,
    /// The best grade of those who named it.
    pub(super) published: Grade,
    /// Place among the endpoints of its signal.
    pub(super) rank: usize,
    /// Whether a password may be sent there.
    pub(super) approval: Approval,
    /// The host's addresses.
    pub(super) addresses: Vec<IpAddr>,
    /// Whether the policy does not allow the host's addresses.
    pub(super) blocked: bool,
    /// What the server said, or why it did not.
    pub(super) answer: Result<ServerFacts>,
}

impl Ranked {
    /// The best grade before any login.
    fn grade(&self) -> Grade {
        if self.answer.is_ok() { Grade::B } else { self.published }
    }

    /// Whether only an override of the manifest names it: then it is for its mailboxes alone.
    fn is_override_only(&self) -> bool {
        self.signals.iter().all(|signal| *signal == Signal::Override)
    }

    /// Whether the endpoint was named by somebody, not guessed.
    pub(super) fn is_published(&self) -> bool {
        self.published <= Grade::C
    }

    /// Whether a mailbox may be logged in to here.
    pub(super) fn is_usable(&self) -> bool {
        self.approval.is_given() && self.answer.is_ok()
    }

    /// The place in the ranking, given the grade: override, grade, fidelity, then how the channel is secured, who named
    /// it, and by what priority.
    fn place(&self, grade: Grade) -> impl Ord + use<> {
        let tls = match self.endpoint.tls {
            Tls::Implicit => 0,
            Tls::StartTLS => 1,
            Tls::None => 2,
        };
        (
            !self.signals.contains(&Signal::Override),
            grade,
            Reverse(score(self.endpoint.protocol)),
            tls,
            !self.signals.contains(&Signal::Manifest),
            self.published,
            self.rank,
            self.endpoint.host.clone(),
            self.endpoint.port,
        )
    }
}

/// Puts the endpoints in the order in which they are worth a login.
pub(super) fn rank(
    domain: &Domain,
    named: &[Endpoint],
    published: &[Published],
    probed: Vec<Probed>,
) -> Vec<Ranked> {
    let mut ranked: Vec<Ranked> = probed
        .into_iter()
        .map(|probe| {
            let said: Vec<_> = published.iter().filter(|p| p.endpoint == probe.endpoint).collect();
            let best = said.iter().map(|p| (p.grade, p.rank)).min().unwrap_or((Grade::D, 0));
            Ranked {
                approval: judge(&probe.endpoint, domain, named, published),
                signals: said.iter().map(|p| p.signal).collect(),
                published: best.0,
                rank: best.1,
                addresses: probe.addresses,
                blocked: probe.blocked,
                answer: probe.answer,
                endpoint: probe.endpoint,
            }
        })
        .collect();
    ranked.sort_by_cached_key(|candidate| candidate.place(candidate.grade()));
    ranked
}

/// The endpoints that one mailbox is tried at, in their order: what the manifest chose for it and nothing else, or one
/// endpoint for each server and protocol. A server that stands under two names (the same port of the same address) is
/// one server, else its two refusals would use up what may be tried.
pub(super) fn to_try<'a>(ranked: &'a [Ranked], chosen: Option<&Chosen>) -> Vec<&'a Ranked> {
    let fits = |candidate: &Ranked| match chosen {
        Some(Chosen { endpoint: Some(endpoint), .. }) => candidate.endpoint == *endpoint,
        Some(Chosen { protocol, .. }) => {
            candidate.endpoint.protocol == *protocol && !candidate.is_override_only()
        }
        None => !candidate.is_override_only(),
    };
    let mut picked: Vec<&Ranked> = Vec::new();
    for candidate in ranked.iter().filter(|c| c.is_usable() && fits(c)) {
        let (here, at) = (&candidate.endpoint, &candidate.addresses);
        let is_same = |other: &&Ranked| {
            other.endpoint.protocol == here.protocol
                && (other.endpoint.host == here.host
                    || (other.endpoint.port == here.port
                        && other.addresses.iter().any(|address| at.contains(address))))
        };
        if !picked.iter().any(is_same) {
            picked.push(candidate);
        }
    }
    // IMAP before POP3, whatever else the ranking says: only what IMAP refuses is worth the losses of POP3.
    picked.sort_by_key(|candidate| Reverse(score(candidate.endpoint.protocol)));
    picked
}

/// The candidates as they are shown, best first. `denied` are the protocols that service records say are not offered.
pub(super) fn conclude(ranked: &[Ranked], tried: &[Tried], denied: &[Protocol]) -> Vec<Candidate> {
    let read_at = |endpoint: &Endpoint| {
        tried.iter().filter(|t| t.read.as_ref().is_some_and(|read| read.endpoint == *endpoint)).count()
    };
    let mut graded: Vec<(Grade, usize, &Ranked)> = ranked
        .iter()
        .map(|candidate| match read_at(&candidate.endpoint) {
            0 => (candidate.grade(), 0, candidate),
            n => (Grade::A, n, candidate),
        })
        .collect();
    graded.sort_by_cached_key(|(grade, _, candidate)| candidate.place(*grade));
    let winners: Vec<&Endpoint> =
        graded.iter().filter(|(_, n, _)| *n > 0).map(|(_, _, c)| &c.endpoint).collect();
    let best = winners.iter().max_by_key(|endpoint| score(endpoint.protocol)).copied();
    graded
        .iter()
        .map(|(grade, mailboxes, candidate)| Candidate {
            endpoint: candidate.endpoint.clone(),
            grade: *grade,
            fidelity: score(candidate.endpoint.protocol),
            approved: candidate.approval.is_given(),
            mailboxes: u32::try_from(*mailboxes).unwrap_or(u32::MAX),
            why: if *mailboxes > 0 {
                format!("logged in as {mailboxes} of {}", count(tried.len(), "mailbox", "mailboxes"))
            } else {
                why_not(candidate, best, tried, denied)
            },
        })
        .collect()
}

fn why_not(candidate: &Ranked, best: Option<&Endpoint>, tried: &[Tried], denied: &[Protocol]) -> String {
    let endpoint = &candidate.endpoint;
    let why = match (&candidate.answer, candidate.approval) {
        (Err(failure), _) => failure.what.clone(),
        (Ok(_), Approval::Foreign) => "outside the domain and not approved".to_owned(),
        (Ok(_), Approval::Plain) => "not encrypted and not named in the manifest".to_owned(),
        (Ok(_), _) => {
            let failures: Vec<&Failure> = (tried.iter().flat_map(|t| &t.attempts))
                .filter(|attempt| attempt.endpoint == *endpoint)
                .filter_map(|attempt| attempt.failure.as_ref())
                .collect();
            match (failures.first(), best) {
                (Some(first), _) => format!(
                    "answered, but could not be read as {}: {}",
                    count(failures.len(), "mailbox", "mailboxes"),
                    first.what
                ),
                (None, Some(best)) if score(best.protocol) > score(endpoint.protocol) => {
                    format!("answered, but {} carries more", best.protocol)
                }
                (None, Some(best)) if best.protocol == endpoint.protocol => {
                    format!("answered, but {} was good enough", best.address())
                }
                (None, _) => "answered; no mailbox was logged in to".to_owned(),
            }
        }
    };
    if denied.contains(&endpoint.protocol) && !candidate.signals.contains(&Signal::Manifest) {
        return format!("said not to be offered by SRV; {why}");
    }
    why
}

/// `1 mailbox`, `2 mailboxes`.
pub(super) fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}
