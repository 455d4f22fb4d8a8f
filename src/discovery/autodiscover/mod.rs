//! Microsoft's Autodiscover, which other servers speak as well: the old XML over HTTPS (POX), the newer JSON (v2), and the
//! names in the DNS that lead to it. It is asked without a login, and what it says without one is as good as autoconfig:
//! over validated HTTPS from a host of the domain it is the domain's own voice.

mod document;

use futures::future::join_all;
use hickory_resolver::proto::rr::{RData, RecordType};
use jiff::Timestamp;
use serde::Deserialize;
use url::Url;

use self::document::{Document, parse, request};
use super::signals::{Asking, Heard, Named, Published};
use super::trust::is_inside;
use crate::model::address::Address;
use crate::model::endpoint::Endpoint;
use crate::model::evidence::{Grade, Outcome, Signal};
use crate::model::failure::Failure;
use crate::model::provider::by_host;
use crate::model::service::{Service, ServiceFacts};
use crate::model::text::{cut, printable};
use crate::net::http::{Answer, Method, ask as ask_web, shown};

const SIGNAL: Signal = Signal::Autodiscover;
/// Where the old XML is below a host.
const POX: &str = "/autodiscover/autodiscover.xml";
/// The most places of service records that are asked.
const NAMED_MAX: usize = 2;

/// Looks up what `autodiscover.DOMAIN` is another name of: a hint that often shows the service behind a filter.
pub(super) async fn look_up_alias(asking: Asking<'_>) -> Heard {
    let mut heard = Heard::default();
    let name = format!("autodiscover.{}", asking.request.domain);
    let answer = asking.network.look_up(&name, RecordType::CNAME).await;
    let at = asking.clock.now();
    // That there is no alias says nothing; the questions over HTTPS say what is there.
    let Ok(lookup) = answer else { return heard };
    let alias = lookup.answers().iter().find_map(|record| match &record.data {
        RData::CNAME(name) => Some(name.to_ascii().trim_end_matches('.').to_ascii_lowercase()),
        _ => None,
    });
    if let Some(alias) = alias {
        let provider = by_host(&alias);
        let whose = provider.map(|provider| format!(", which is {provider}")).unwrap_or_default();
        let statement = format!("{name} CNAME → {}{whose}", printable(&alias));
        heard.note(SIGNAL, Grade::D, at, Outcome::Offered, statement);
        heard.providers.extend(provider);
    }
    heard
}

/// Asks the places where a domain may answer.
pub(super) async fn ask(asking: Asking<'_>) -> Heard {
    let domain = &asking.request.domain;
    let hosts = [domain.to_string(), format!("autodiscover.{domain}")];
    let places = hosts.iter().filter_map(|host| Url::parse(&format!("https://{host}{POX}")).ok());
    let (pox, json) = futures::join!(join_all(places.map(|url| ask_pox(asking, url))), ask_json(asking));
    // Where HTTPS is answered, or there is no such host, plain HTTP has nothing to add.
    let broken = pox.last().is_some_and(|last| {
        last.evidence.iter().any(|evidence| matches!(evidence.outcome, Outcome::Failed(_)))
    });
    let mut heard = Heard::default();
    for answered in pox.into_iter().chain([json]) {
        heard.add(answered);
    }
    if broken {
        heard.add(ask_in_the_clear(asking).await);
    }
    heard
}

/// Asks the places that service records name.
pub(super) async fn ask_named(asking: Asking<'_>, named: &[Named]) -> Heard {
    let places = named.iter().filter(|named| named.service.is_none()).take(NAMED_MAX);
    let urls =
        places.filter_map(|named| Url::parse(&format!("https://{}:{}{POX}", named.host, named.port)).ok());
    let mut heard = Heard::default();
    for answered in join_all(urls.map(|url| ask_pox(asking, url))).await {
        heard.add(answered);
    }
    heard
}

/// An address of the domain; any will do, and it is told to hosts of the domain alone.
fn address_for<'a>(asking: Asking<'a>, url: &Url) -> Option<&'a Address> {
    let inside = url.host_str().is_some_and(|host| is_inside(host, &asking.request.domain));
    asking
        .request
        .mailboxes
        .first()
        .map(|mailbox| &mailbox.address)
        .filter(|_| inside && url.scheme() == "https")
}

async fn ask_pox(asking: Asking<'_>, url: Url) -> Heard {
    let mut heard = Heard::default();
    let method = match address_for(asking, &url) {
        Some(address) => Method::Post(request(&address.to_string())),
        None => Method::Look,
    };
    let answer = ask_web(asking.network, &asking.request.trust, &url, &method).await;
    let at = asking.clock.now();
    match answer {
        Err(why) => heard.unanswered(SIGNAL, Grade::C, at, &url, why),
        Ok(answer) if (200..300).contains(&answer.status) => match answer.text().and_then(parse) {
            Ok(document) => publish(&mut heard, asking, &answer, document, at),
            Err(failure) => heard.fail(SIGNAL, Grade::C, at, &place(&url), failure),
        },
        Ok(answer) => {
            let wall = asking.is_wall(&answer).await;
            refused(&mut heard, &answer, wall, at);
        }
    }
    heard
}

fn place(url: &Url) -> String {
    format!("autodiscover {}", shown(url))
}

/// The meaning of an answer without a document; `wall` that its server asks for a login everywhere.
fn refused(heard: &mut Heard, answer: &Answer, wall: bool, at: Timestamp) {
    let place = place(&answer.url);
    let challenges = answer.challenges();
    if wall {
        let statement = format!("{place} asks for a login, as its server does everywhere");
        heard.note(SIGNAL, Grade::C, at, Outcome::NotOffered, statement);
    } else if !challenges.is_empty() {
        let statement = format!("{place} asks for a login by {}", challenges.join(", "));
        let words = ["server", "x-feserver", "x-owa-version"].iter().filter_map(|name| answer.header(name));
        heard.quote(SIGNAL, Grade::C, at, statement, &words.collect::<Vec<_>>().join(" "));
    } else if let Some(next) = answer.location() {
        let whose = next.host_str().and_then(by_host);
        let statement = format!("{place} redirects to {}, which was not followed", shown(&next));
        heard.note(SIGNAL, Grade::D, at, Outcome::NotOffered, statement);
        heard.providers.extend(whose);
    } else if answer.status == 404 {
        heard.note(SIGNAL, Grade::C, at, Outcome::NotOffered, format!("{place}: nothing there"));
    } else {
        let failure = Failure::protocol(format!("answers {}", answer.status));
        heard.fail(SIGNAL, Grade::C, at, &place, failure);
    }
}

fn publish(heard: &mut Heard, asking: Asking<'_>, answer: &Answer, document: Document, at: Timestamp) {
    let place = place(&answer.url);
    let inside = answer.url.host_str().is_some_and(|host| is_inside(host, &asking.request.domain));
    let trusted = inside && answer.url.scheme() == "https";
    let mut nothing = true;
    for (rank, server) in document.servers.iter().enumerate() {
        // A name that is not a host name cannot be connected to.
        let Ok(host) = url::Host::parse(&server.host) else { continue };
        let host = host.to_string();
        let endpoint = Endpoint::new(server.protocol, host.trim_matches(['[', ']']), server.port, server.tls);
        let statement =
            format!("autodiscover of {} → {endpoint}", printable(answer.url.host_str().unwrap_or_default()));
        let words = format!("Server {} Port {} SSL {}", server.host, server.port, server.ssl);
        let published =
            Published { endpoint, signal: SIGNAL, grade: Grade::C, trusted, rank, username: None };
        heard.publish(published, at, statement, Some(&words));
        nothing = false;
    }
    if let Some(ews) = &document.ews {
        let statement = format!("{place} → Exchange Web Services at {}", printable(ews));
        heard.note(SIGNAL, Grade::C, at, Outcome::Offered, statement);
        heard.offer(ServiceFacts {
            service: Service::Ews,
            place: cut(&printable(ews), 300),
            grade: Grade::C,
            trusted,
            words: String::new(),
        });
        nothing = false;
    }
    if let Some(redirect) = &document.redirect {
        let statement =
            format!("{place} sends on to {}, which was not followed", cut(&printable(redirect), 200));
        heard.note(SIGNAL, Grade::C, at, Outcome::Offered, statement);
        nothing = false;
    }
    if nothing {
        let why =
            document.error.map(|error| format!(": {}", cut(&printable(&error), 200))).unwrap_or_default();
        let statement = format!("{place} names no server of IMAP, POP3 or Exchange{why}");
        heard.note(SIGNAL, Grade::C, at, Outcome::NotOffered, statement);
    }
}

/// The answer of the newer way.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Json {
    url: String,
}

async fn ask_json(asking: Asking<'_>) -> Heard {
    let mut heard = Heard::default();
    let base = format!("https://autodiscover.{}/autodiscover/autodiscover.json/v1.0/", asking.request.domain);
    let Some(mut url) = Url::parse(&base).ok() else { return heard };
    let Some(address) = address_for(asking, &url) else { return heard };
    let shown = url.clone();
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().push(&address.to_string());
    }
    url.query_pairs_mut().append_pair("Protocol", "EWS");
    let answer = ask_web(asking.network, &asking.request.trust, &url, &Method::Look).await;
    let at = asking.clock.now();
    match answer {
        Err(why) => heard.unanswered(SIGNAL, Grade::C, at, &shown, why),
        Ok(answer) if answer.status == 200 => {
            let read = answer.text().and_then(|text| {
                serde_json::from_str::<Json>(text)
                    .map_err(|e| Failure::protocol("answers with what is no Autodiscover").caused_by(&e))
            });
            match read {
                Ok(Json { url: ews }) => {
                    let statement = format!(
                        "{} → Exchange Web Services at {}",
                        place(&shown),
                        cut(&printable(&ews), 200)
                    );
                    heard.note(SIGNAL, Grade::C, at, Outcome::Offered, statement);
                    heard
                        .providers
                        .extend(Url::parse(&ews).ok().as_ref().and_then(Url::host_str).and_then(by_host));
                    heard.offer(ServiceFacts {
                        service: Service::Ews,
                        place: cut(&printable(&ews), 300),
                        grade: Grade::C,
                        trusted: true,
                        words: String::new(),
                    });
                }
                Err(failure) => heard.fail(SIGNAL, Grade::C, at, &place(&shown), failure),
            }
        }
        Ok(mut answer) => {
            // The path contains the address.
            answer.url = shown;
            let wall = asking.is_wall(&answer).await;
            refused(&mut heard, &answer, wall, at);
        }
    }
    heard
}

/// Over plain HTTP only a redirect is looked for, as Outlook does; no address is sent and nothing is trusted.
async fn ask_in_the_clear(asking: Asking<'_>) -> Heard {
    let mut heard = Heard::default();
    let Ok(url) = Url::parse(&format!("http://autodiscover.{}{POX}", asking.request.domain)) else {
        return heard;
    };
    let answer = ask_web(asking.network, &asking.request.trust, &url, &Method::Look).await;
    let at = asking.clock.now();
    match answer {
        Err(why) => heard.unanswered(SIGNAL, Grade::D, at, &url, why),
        Ok(answer) => {
            if let Some(next) = answer.location() {
                let statement =
                    format!("{} redirects to {}, which proves nothing", place(&url), shown(&next));
                heard.note(SIGNAL, Grade::D, at, Outcome::Offered, statement);
                heard.providers.extend(next.host_str().and_then(by_host));
            } else {
                let statement = format!("{} answers {} and leads nowhere", place(&url), answer.status);
                heard.note(SIGNAL, Grade::D, at, Outcome::NotOffered, statement);
            }
        }
    }
    heard
}
