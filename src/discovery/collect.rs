//! Ranking: from what was said, answered and tried to candidates in an order, each with its reason. Pure.

use std::cmp::Reverse;
use std::net::IpAddr;

use super::Chosen;
use super::probes::Probed;
use super::signals::Published;
use super::tried::Tried;
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
    /// The signals that named it.
    pub(super) signals: Vec<Signal>,
    /// The best grade of those who named it.
    pub(super) published: Grade,
    /// Place among the endpoints of its signal.
    pub(super) rank: usize,
    /// The name that mailboxes log in with there, as the best of those who named its host says.
    pub(super) username: Option<String>,
    /// Whether a password may be sent there.
    pub(super) approval: Approval,
    /// The host's addresses.
    pub(super) addresses: Vec<IpAddr>,
    /// Whether the policy does not allow the host's addresses.
    pub(super) blocked: bool,
    /// The words of the server, or why it said none.
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

    /// Whether nothing but a usual name speaks for it.
    pub(super) fn is_guess(&self) -> bool {
        self.signals.iter().all(|signal| *signal == Signal::UsualName)
    }

    /// The place in the ranking, given the grade: override, grade, fidelity, then how the channel is secured, who named
    /// it, and by what priority. Among guesses the order of the usual names comes before the channel.
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
            if self.is_guess() { self.rank + 1 } else { 0 },
            tls,
            !self.signals.contains(&Signal::Manifest),
            !self.signals.contains(&Signal::Before),
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
            // Ports and channels of one server take the same names.
            let beside = |p: &&Published| {
                p.endpoint.host == probe.endpoint.host && p.endpoint.protocol == probe.endpoint.protocol
            };
            let with_names = published.iter().filter(beside).filter(|p| p.username.is_some());
            let username =
                with_names.min_by_key(|p| (!p.trusted, p.grade, p.rank)).and_then(|p| p.username.clone());
            Ranked {
                username,
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
/// endpoint for each server and protocol. A server with two names (the same port of the same address) is one server,
/// else its two refusals would use up what may be tried.
pub(super) fn to_try<'a>(ranked: &'a [Ranked], chosen: Option<&Chosen>) -> Vec<&'a Ranked> {
    let fits = |candidate: &Ranked| match chosen {
        Some(Chosen { endpoint: Some(endpoint), .. }) => candidate.endpoint == *endpoint,
        Some(Chosen { protocol, .. }) => {
            candidate.endpoint.protocol == *protocol && !candidate.is_override_only()
        }
        None => !candidate.is_override_only(),
    };
    let mut picked: Vec<&Ranked> = Vec::new();
    let mut seen: Vec<&Ranked> = Vec::new();
    for candidate in ranked.iter().filter(|c| c.is_usable() && fits(c)) {
        let (here, at) = (&candidate.endpoint, &candidate.addresses);
        let is_same = |other: &&Ranked| {
            other.endpoint.protocol == here.protocol
                && (other.endpoint.host == here.host
                    || (other.endpoint.port == here.port
                        && other.addresses.iter().any(|address| at.contains(address))))
        };
        if !seen.iter().any(is_same) {
            picked.push(candidate);
        }
        // Those passed over count as well: an alias's other ports are the same server's other ports.
        seen.push(candidate);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::tried::Read;
    use crate::model::capability::Capabilities;
    use crate::model::evidence::{Attempt, MailboxSize};
    use crate::model::failure::Class;

    const DOMAIN: &str = "contoso.example";

    fn at(protocol: Protocol, host: &str, port: u16, tls: Tls) -> Endpoint {
        Endpoint::new(protocol, host, port, tls)
    }

    fn imap(host: &str) -> Endpoint {
        at(Protocol::Imap, host, 993, Tls::Implicit)
    }

    fn pop3(host: &str) -> Endpoint {
        at(Protocol::Pop3, host, 995, Tls::Implicit)
    }

    /// An endpoint that some signal names.
    fn said(endpoint: &Endpoint, signal: Signal, rank: usize) -> Published {
        let grade = if signal == Signal::UsualName { Grade::D } else { Grade::C };
        Published { endpoint: endpoint.clone(), signal, grade, trusted: false, rank, username: None }
    }

    /// A server that answered from an address of its own.
    fn up(endpoint: &Endpoint, last_octet: u8) -> Probed {
        let facts = ServerFacts {
            endpoint: endpoint.clone(),
            greeting: "ready".into(),
            capabilities: Capabilities::default(),
            mechanisms: Vec::new(),
            tls: None,
        };
        let addresses = vec![IpAddr::from([192, 0, 2, last_octet])];
        Probed { endpoint: endpoint.clone(), addresses, blocked: false, answer: Ok(facts) }
    }

    fn down(endpoint: &Endpoint) -> Probed {
        let failure = Failure::new(Class::Unreachable, "refuses connections");
        Probed { endpoint: endpoint.clone(), addresses: Vec::new(), blocked: false, answer: Err(failure) }
    }

    fn ranked(named: &[Endpoint], published: &[Published], probed: Vec<Probed>) -> Vec<Ranked> {
        rank(&DOMAIN.parse().unwrap(), named, published, probed)
    }

    fn order(ranked: &[Ranked]) -> Vec<String> {
        ranked.iter().map(|candidate| candidate.endpoint.to_string()).collect()
    }

    fn read_at(endpoint: &Endpoint) -> Tried {
        let attempts = vec![Attempt { endpoint: endpoint.clone(), failure: None, by_token: false }];
        let size = MailboxSize::default();
        Tried {
            attempts,
            read: Some(Read { endpoint: endpoint.clone(), size, unique_ids: true, name: None }),
            ..Tried::default()
        }
    }

    #[test]
    fn each_rule_of_the_ranking_decides_where_the_one_before_is_even() {
        let a = imap("a.contoso.example");
        let b = imap("b.contoso.example");
        let starttls = at(Protocol::Imap, "a.contoso.example", 143, Tls::StartTLS);
        let plain = at(Protocol::Imap, "a.contoso.example", 143, Tls::None);
        let pop = pop3("a.contoso.example");
        let guess = |e: &Endpoint| said(e, Signal::UsualName, 0);
        let srv = |e: &Endpoint, rank| said(e, Signal::Srv, rank);
        // The winner, the loser, and how: (published, probed) of the winner, then of the loser.
        for (rule, winner, loser) in [
            ("override before grade", (said(&pop, Signal::Override, 0), down(&pop)), (srv(&b, 0), up(&b, 2))),
            ("an answer before a promise", (guess(&pop), up(&pop, 1)), (srv(&b, 0), down(&b))),
            ("published before guessed", (srv(&pop, 0), down(&pop)), (guess(&b), down(&b))),
            ("fidelity", (srv(&starttls, 9), up(&starttls, 1)), (srv(&pop, 0), up(&pop, 1))),
            ("implicit TLS before STARTTLS", (srv(&b, 9), up(&b, 2)), (srv(&starttls, 0), up(&starttls, 1))),
            ("STARTTLS before none", (srv(&starttls, 9), up(&starttls, 1)), (srv(&plain, 0), up(&plain, 1))),
            ("the manifest before SRV", (said(&b, Signal::Manifest, 9), up(&b, 2)), (srv(&a, 0), up(&a, 1))),
            ("SRV priority", (srv(&b, 0), up(&b, 2)), (srv(&a, 1), up(&a, 1))),
            ("name", (srv(&a, 0), up(&a, 1)), (srv(&b, 0), up(&b, 2))),
        ] {
            let expected = [winner.0.endpoint.to_string(), loser.0.endpoint.to_string()];
            let published = [winner.0, loser.0];
            for probed in [vec![winner.1.clone(), loser.1.clone()], vec![loser.1, winner.1]] {
                assert_eq!(order(&ranked(&[], &published, probed)), expected, "{rule}");
            }
        }
    }

    #[test]
    fn a_mailbox_is_tried_once_at_each_server_and_imap_first() {
        let mail = imap("mail.contoso.example");
        let alias = imap("imap.contoso.example");
        let starttls = at(Protocol::Imap, "mail.contoso.example", 143, Tls::StartTLS);
        let other = imap("other.contoso.example");
        let pop = pop3("mail.contoso.example");
        let foreign = imap("imap.elsewhere.example");
        let dead = imap("dead.contoso.example");
        let legacy = imap("legacy.hoster.example");
        let all = [&mail, &alias, &starttls, &other, &pop, &foreign, &dead];
        let mut published: Vec<_> = all.iter().map(|e| said(e, Signal::Srv, 0)).collect();
        published.push(said(&legacy, Signal::Override, 0));
        let probed = vec![
            up(&mail, 1),
            up(&alias, 1),
            up(&starttls, 1),
            up(&other, 2),
            up(&pop, 1),
            up(&foreign, 3),
            down(&dead),
            up(&legacy, 4),
        ];
        let ranked = ranked(std::slice::from_ref(&legacy), &published, probed);
        let tried = |chosen: Option<Chosen>| -> Vec<String> {
            to_try(&ranked, chosen.as_ref()).iter().map(|c| c.endpoint.address()).collect()
        };
        let choose = |protocol, endpoint| Some(Chosen { protocol, endpoint, reason: None });
        // mail and imap are the same port of the same address, so mail's STARTTLS port is not another server either.
        assert_eq!(
            tried(None),
            ["imap.contoso.example:993", "other.contoso.example:993", "mail.contoso.example:995"]
        );
        assert_eq!(tried(choose(Protocol::Pop3, None)), ["mail.contoso.example:995"]);
        assert_eq!(tried(choose(Protocol::Imap, Some(legacy))), ["legacy.hoster.example:993"]);
        assert!(tried(choose(Protocol::Imap, Some(dead))).is_empty());
        assert!(
            tried(choose(Protocol::Imap, Some(foreign))).is_empty(),
            "this override is not in the manifest"
        );
    }

    #[test]
    fn every_candidate_says_why_it_won_or_lost() {
        let mail = imap("mail.contoso.example");
        let second = imap("second.contoso.example");
        let pop = pop3("mail.contoso.example");
        let foreign = imap("imap.elsewhere.example");
        let plain = at(Protocol::Imap, "mail.contoso.example", 143, Tls::None);
        let dead = imap("dead.contoso.example");
        let all = [&mail, &second, &pop, &foreign, &plain, &dead];
        let published: Vec<_> = all.iter().map(|e| said(e, Signal::Autoconfig, 0)).collect();
        let probed =
            vec![up(&mail, 1), up(&second, 2), up(&pop, 1), up(&foreign, 3), up(&plain, 1), down(&dead)];
        let ranked = ranked(&[], &published, probed);
        let candidates = conclude(&ranked, &[read_at(&mail), read_at(&mail)], &[Protocol::Pop3]);
        let why = |endpoint: &Endpoint| {
            candidates.iter().find(|c| c.endpoint == *endpoint).map(|c| (c.grade, c.why.as_str())).unwrap()
        };
        assert_eq!(candidates.len(), 6, "losers stay visible");
        assert_eq!(candidates[0].endpoint, mail);
        assert_eq!(why(&mail), (Grade::A, "logged in as 2 of 2 mailboxes"));
        assert_eq!(why(&second), (Grade::B, "answered, but mail.contoso.example:993 was good enough"));
        let denied = "said not to be offered by SRV; answered, but IMAP carries more";
        assert_eq!(why(&pop), (Grade::B, denied));
        assert_eq!(why(&foreign), (Grade::B, "outside the domain and not approved"));
        assert_eq!(why(&plain), (Grade::B, "not encrypted and not named in the manifest"));
        assert_eq!(why(&dead), (Grade::C, "refuses connections"));
    }

    #[test]
    fn an_authenticated_listing_beats_everything_but_an_override() {
        let (mail, pop) = (imap("mail.contoso.example"), pop3("mail.contoso.example"));
        let published = [said(&mail, Signal::Srv, 0), said(&pop, Signal::UsualName, 0)];
        let ranked = ranked(&[], &published, vec![up(&mail, 1), up(&pop, 1)]);
        assert_eq!(ranked[0].endpoint, mail);
        let candidates = conclude(&ranked, &[read_at(&pop)], &[]);
        assert_eq!((&candidates[0].endpoint, candidates[0].grade), (&pop, Grade::A));
    }
}
