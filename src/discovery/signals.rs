//! The things that every signal hands over: evidence for people, endpoints for the probes, and protocols that are said not to exist.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::join_all;
use jiff::Timestamp;
use tokio::sync::OnceCell;
use url::Url;

use super::{Clock, Request};
use crate::model::endpoint::Endpoint;
use crate::model::evidence::{EXCERPT_MAX, Evidence, Grade, Outcome, Signal};
use crate::model::failure::{Failure, FailureCode};
use crate::model::protocol::Protocol;
use crate::model::provider::Provider;
use crate::model::service::{Service, ServiceFacts};
use crate::model::text::{cut, printable};
use crate::net::http::{Answer, Method, NoAnswer, ask as ask_web, shown};
use crate::net::network::Network;

/// All that a signal needs to ask.
#[derive(Clone, Copy)]
pub(super) struct Asking<'a> {
    pub(super) network: &'a Network,
    pub(super) request: &'a Request,
    pub(super) clock: &'a dyn Clock,
    pub(super) walls: &'a Walls,
}

/// The web servers that were found to ask for a login, or not to, where there is nothing. Each is asked once.
#[derive(Debug, Default)]
pub(super) struct Walls(Mutex<HashMap<String, Arc<OnceCell<bool>>>>);

/// A path that no server has.
const NOTHING: &str = "/mailferry-looks-for-nothing-here";

impl Asking<'_> {
    /// Whether an answer asks for a login that its server asks for everywhere: then it tells nothing of the place that it is
    /// an answer of.
    pub(super) async fn is_wall(&self, answer: &Answer) -> bool {
        let Ok(url) = answer.url.join(NOTHING) else { return false };
        if answer.status != 401 {
            return false;
        }
        let known = {
            let mut walls = self.walls.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(walls.entry(url.to_string()).or_default())
        };
        let ask = async || {
            let nothing = ask_web(self.network, &self.request.trust, &url, &Method::Look).await;
            nothing.is_ok_and(|nothing| nothing.status == 401)
        };
        *known.get_or_init(ask).await
    }
}

/// A place that a service record names for a service beside IMAP and POP3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    /// Which service; `None` is Autodiscover.
    pub(super) service: Option<Service>,
    /// A host name, lower case.
    pub(super) host: String,
    pub(super) port: u16,
}

/// The most services of one domain that are kept.
const SERVICES_MAX: usize = 50;

/// One endpoint that a signal names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Published {
    /// Where.
    pub(super) endpoint: Endpoint,
    /// The signal that says so.
    pub(super) signal: Signal,
    /// How much the signal proves.
    pub(super) grade: Grade,
    /// Whether it is the domain's own voice over validated TLS.
    pub(super) trusted: bool,
    /// Place among the endpoints of the same signal and service, 0 first (SRV priority and weight).
    pub(super) rank: usize,
    /// The name that mailboxes log in with there, with `%EMAILLOCALPART%` and the like in the place of a mailbox's own.
    pub(super) username: Option<String>,
}

/// The words of one signal, or of all of them.
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
    /// Whose the hosts are that take mail in or that autodiscovery leads to.
    pub(super) providers: Vec<&'static Provider>,
    /// Places of other services that service records name.
    pub(super) named: Vec<Named>,
    /// Services beside IMAP and POP3.
    pub(super) services: Vec<ServiceFacts>,
    /// Redirects to addresses that may not be connected to: what was asked, and where it led.
    pub(super) refused: Vec<(String, String)>,
}

/// Asks the hosts with these names in the domain, all at once; the order of what they say is that of the names.
pub(super) async fn ask_hosts<F: Future<Output = Heard>>(
    asking: Asking<'_>,
    names: [&str; 2],
    ask: impl Fn(String) -> F,
) -> Heard {
    let hosts = names.map(|name| format!("{name}.{}", asking.request.domain));
    let mut heard = Heard::default();
    for answered in join_all(hosts.map(ask)).await {
        heard.add(answered);
    }
    heard
}

impl Heard {
    /// Adds what another signal said.
    pub(super) fn add(&mut self, other: Self) {
        self.evidence.extend(other.evidence);
        self.published.extend(other.published);
        self.denied.extend(other.denied);
        self.exchangers.extend(other.exchangers);
        self.domain_missing |= other.domain_missing;
        self.providers.extend(other.providers);
        self.named.extend(other.named);
        self.refused.extend(other.refused);
        for facts in other.services {
            self.offer(facts);
        }
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

    /// As [`Self::note`], with the words that it was taken from.
    pub(super) fn quote(
        &mut self,
        signal: Signal,
        grade: Grade,
        at: Timestamp,
        statement: String,
        words: &str,
    ) {
        self.note(signal, grade, at, Outcome::Offered, statement);
        if let Some(last) = self.evidence.last_mut().filter(|_| !words.is_empty()) {
            last.excerpt = Some(cut(&printable(words), EXCERPT_MAX));
        }
    }

    /// Keeps that a place on the web did not answer, or that there is no such host.
    pub(super) fn unanswered(
        &mut self,
        signal: Signal,
        grade: Grade,
        at: Timestamp,
        asked: &Url,
        why: NoAnswer,
    ) {
        let place = format!("{signal} {}", shown(asked));
        if let Some(led) = why.refused {
            self.refused.push((shown(asked), shown(&led)));
        }
        if why.failure.is(FailureCode::NoSuchHost) {
            self.note(signal, grade, at, Outcome::NotOffered, format!("{place}: no such host"));
        } else {
            self.fail(signal, grade, at, &place, why.failure);
        }
    }

    /// Keeps a service; of one at the same place the better grade counts.
    pub(super) fn offer(&mut self, facts: ServiceFacts) {
        let same = |known: &ServiceFacts| known.service == facts.service && known.place == facts.place;
        // Even ones are told apart by what they say, so that whoever answers first changes nothing.
        let better = |a: &ServiceFacts, b: &ServiceFacts| {
            (a.grade, !a.trusted, &a.words) < (b.grade, !b.trusted, &b.words)
        };
        match self.services.iter().position(same) {
            Some(at) if better(&facts, &self.services[at]) => self.services[at] = facts,
            None if self.services.len() < SERVICES_MAX => self.services.push(facts),
            Some(_) | None => {}
        }
    }

    /// The questions about the domain's servers that no name server answered.
    pub(super) fn unanswered_names(&self) -> impl Iterator<Item = &Evidence> {
        self.evidence.iter().filter(|evidence| {
            matches!(evidence.signal, Signal::Mx | Signal::Srv | Signal::Autoconfig | Signal::Autodiscover)
                && matches!(&evidence.outcome, Outcome::Failed(failure) if failure.is(FailureCode::NameUnanswered))
        })
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

    /// Whether any signal of the domain itself names an endpoint of a protocol. Facts of whoever takes its mail in do not
    /// say that it keeps the mailboxes.
    pub(super) fn names(&self, protocol: Protocol) -> bool {
        let of_others = |p: &Published| p.signal == Signal::ProviderFacts && p.grade > Grade::C;
        self.published
            .iter()
            .any(|published| published.endpoint.protocol == protocol && !of_others(published))
    }
}
