//! Probes: every distinct endpoint is asked what it is, without a login. At most a few at a time, and each once.

use std::future::Future;
use std::net::IpAddr;
use std::time::Duration;

use futures::stream::{self, StreamExt};

use super::signals::{Heard, Published};
use super::{Clock, Request};
use crate::drivers::registry::{Way, driver};
use crate::model::endpoint::Endpoint;
use crate::model::evidence::{EXCERPT_MAX, Evidence, Grade, Outcome, ServerFacts, Signal};
use crate::model::failure::{Class, Failure, Result};
use crate::model::protocol::Protocol;
use crate::model::text::cut;
use crate::net::network::Network;

/// Probes that run at the same time.
const PARALLEL: usize = 8;
/// The most endpoints of one domain that are probed.
const ENDPOINTS_MAX: usize = 64;

/// The outcome of one probe.
#[derive(Debug, Clone)]
pub(super) struct Probed {
    /// Where.
    pub(super) endpoint: Endpoint,
    /// The host's addresses; none when it has none or may not be connected to.
    pub(super) addresses: Vec<IpAddr>,
    /// Whether the policy does not allow the host's addresses.
    pub(super) blocked: bool,
    /// The words of the server, or why it said none.
    pub(super) answer: Result<ServerFacts>,
}

/// The distinct endpoints among those that were named, in their order.
pub(super) fn distinct(published: &[Published]) -> Vec<Endpoint> {
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for candidate in published {
        if endpoints.len() < ENDPOINTS_MAX && !endpoints.contains(&candidate.endpoint) {
            endpoints.push(candidate.endpoint.clone());
        }
    }
    endpoints
}

/// Asks all endpoints; those that have not answered when `end` comes have failed.
pub(super) async fn ask(
    network: &Network,
    request: &Request,
    endpoints: Vec<Endpoint>,
    end: impl Future<Output = ()> + Clone,
) -> Vec<Probed> {
    let probes = endpoints.into_iter().map(|endpoint| {
        let end = end.clone();
        async move {
            tokio::select! {
                probed = ask_one(network, request, &endpoint) => probed,
                () = end => late(&endpoint, request.deadline),
            }
        }
    });
    stream::iter(probes).buffered(PARALLEL).collect().await
}

async fn ask_one(network: &Network, request: &Request, endpoint: &Endpoint) -> Probed {
    let (addresses, blocked, answer) = match network.resolve(&endpoint.host).await {
        Err(failure) => (Vec::new(), failure.class == Class::Refused, Err(failure.at(endpoint.address()))),
        Ok(addresses) => {
            let way = Way { network, endpoint, trust: &request.trust };
            let answer = driver(endpoint.protocol).probe(way).await;
            (addresses, false, answer)
        }
    };
    Probed { endpoint: endpoint.clone(), addresses, blocked, answer }
}

fn late(endpoint: &Endpoint, deadline: Duration) -> Probed {
    let what = format!("does not answer within the {} s that discovery has", deadline.as_secs());
    let failure = Failure::new(Class::Unreachable, what).hint("check the port and the firewall");
    Probed {
        endpoint: endpoint.clone(),
        addresses: Vec::new(),
        blocked: false,
        answer: Err(failure.at(endpoint.address())),
    }
}

/// Puts the probes down as evidence.
pub(super) fn note(heard: &mut Heard, probed: &[Probed], clock: &dyn Clock) {
    let at = clock.now();
    for probe in probed {
        let endpoint = &probe.endpoint;
        let (outcome, statement, excerpt) = match &probe.answer {
            Ok(facts) => {
                let tls = facts.tls.as_ref().map_or("no TLS", |tls| tls.version.as_str());
                let words = facts.capabilities.words().collect::<Vec<_>>().join(" ");
                let excerpt = format!("{} | {words}", facts.greeting);
                (Outcome::Offered, format!("{endpoint} answers ({tls})"), Some(cut(&excerpt, EXCERPT_MAX)))
            }
            Err(failure) => {
                let statement = format!("{}: {}", endpoint, failure.what);
                (Outcome::Failed(failure.clone()), statement, None)
            }
        };
        heard.evidence.push(Evidence {
            signal: signal_of(endpoint.protocol),
            grade: Grade::B,
            at,
            endpoint: Some(endpoint.clone()),
            trusted: probe.answer.as_ref().is_ok_and(|facts| facts.tls.is_some()),
            outcome,
            statement,
            excerpt,
        });
    }
}

/// The signal that a server itself gives.
pub(super) fn signal_of(protocol: Protocol) -> Signal {
    match protocol {
        Protocol::Imap => Signal::Imap,
        Protocol::Pop3 => Signal::Pop3,
        Protocol::Maildir | Protocol::Mbox | Protocol::Eml => Signal::Files,
    }
}
