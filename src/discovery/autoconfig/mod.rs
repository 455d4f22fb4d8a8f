//! Thunderbird's autoconfig: the document that a domain publishes about its own mail servers. Over validated HTTPS from
//! a host of the domain it is the domain's own voice; over plain HTTP it is a hint that proves nothing. The one who takes the
//! domain's mail in may publish one for all that it hosts: a hint too.

mod document;

use futures::future::join_all;
use jiff::Timestamp;
use url::Url;

use self::document::{Document, Incoming, parse};
use super::signals::{Asking, Heard, Published};
use super::trust::is_inside;
use super::{Clock, Request};
use crate::model::address::Address;
use crate::model::endpoint::Endpoint;
use crate::model::evidence::{Grade, Outcome, Signal};
use crate::model::provider::{Kind, by_host};
use crate::model::text::printable;
use crate::net::http::{NoAnswer, fetch, shown};
use crate::net::network::Network;

/// Asks the places where a domain may publish the document: over HTTPS, and only if that brings none over HTTP.
pub(super) async fn ask(network: &Network, request: &Request, clock: &dyn Clock) -> Heard {
    let domain = &request.domain;
    // The address helps the server choose; any of the domain will do. It is not told to anybody in the clear.
    let address = request.mailboxes.first().map(|mailbox| &mailbox.address);
    let mut heard = Heard::default();
    for scheme in ["https", "http"] {
        let address = address.filter(|_| scheme == "https");
        let mut places = vec![
            format!("{scheme}://autoconfig.{domain}/mail/config-v1.1.xml"),
            format!("{scheme}://{domain}/.well-known/autoconfig/mail/config-v1.1.xml"),
        ];
        if scheme == "https" {
            // The newest of the places (draft-ietf-mailmaint-autoconfig), which was never one of plain HTTP.
            places.push(format!("{scheme}://autoconfig.{domain}/.well-known/mail-v1.xml"));
        }
        let urls: Vec<Url> = (places.iter())
            .filter_map(|text| Url::parse(text).ok())
            .map(|mut url| {
                if let Some(address) = address {
                    url.query_pairs_mut().append_pair("emailaddress", &address.to_string());
                }
                url
            })
            .collect();
        let answers = join_all(urls.iter().map(|url| read(network, request, url))).await;
        let at = clock.now();
        for (url, answer) in urls.iter().zip(answers) {
            match answer {
                Ok((from, document)) => {
                    publish(&mut heard, request, &from, &document, Signal::Autoconfig, at);
                }
                Err(why) => {
                    let grade = if scheme == "https" { Grade::C } else { Grade::D };
                    heard.unanswered(Signal::Autoconfig, grade, at, url, why);
                }
            }
        }
        if !heard.published.is_empty() {
            break;
        }
    }
    heard
}

/// Asks whoever takes the domain's mail in for a document of its own. It is told no address.
pub(super) async fn ask_hoster(asking: Asking<'_>, exchangers: &[String]) -> Heard {
    let mut heard = Heard::default();
    let Some(url) = exchangers.iter().find_map(|host| hoster_place(host, asking.request)) else {
        return heard;
    };
    let answer = read(asking.network, asking.request, &url).await;
    let at = asking.clock.now();
    match answer {
        Ok((from, document)) => {
            publish(&mut heard, asking.request, &from, &document, Signal::ProviderFacts, at);
        }
        Err(why) => heard.unanswered(Signal::ProviderFacts, Grade::D, at, &url, why),
    }
    heard
}

/// Where the domain of an exchanger may publish a document: beside the host, if that is neither inside the domain nor
/// somebody who keeps no documents for others.
fn hoster_place(exchanger: &str, request: &Request) -> Option<Url> {
    let is_none = by_host(exchanger).is_some_and(|provider| provider.kind != Kind::Hoster);
    let above = exchanger.split_once('.').map(|(_, above)| above).filter(|above| above.contains('.'))?;
    if is_none || is_inside(exchanger, &request.domain) {
        return None;
    }
    Url::parse(&format!("https://autoconfig.{above}/mail/config-v1.1.xml")).ok()
}

async fn read(network: &Network, request: &Request, url: &Url) -> Result<(Url, Document), NoAnswer> {
    let (from, text) = fetch(network, &request.trust, url).await?;
    Ok((from, parse(&text)?))
}

fn publish(
    heard: &mut Heard,
    request: &Request,
    from: &Url,
    document: &Document,
    signal: Signal,
    at: Timestamp,
) {
    let address = request.mailboxes.first().map(|mailbox| &mailbox.address);
    let own = signal == Signal::Autoconfig;
    let inside = from.host_str().is_some_and(|host| is_inside(host, &request.domain));
    let secure = from.scheme() == "https";
    for (rank, incoming) in document.incoming.iter().enumerate() {
        let host = fill(&incoming.hostname, request, address);
        // A name that is not a host name, such as one with a placeholder left, cannot be connected to.
        let Ok(parsed) = url::Host::parse(&host) else { continue };
        let Incoming { protocol, port, tls, .. } = *incoming;
        let endpoint = Endpoint::new(protocol, parsed.to_string().trim_matches(['[', ']']), port, tls);
        let statement = format!(
            "autoconfig of {} → {}{}",
            printable(from.host_str().unwrap_or_default()),
            endpoint,
            if secure { "" } else { ", over plain HTTP" }
        );
        let excerpt = format!(
            "hostname {} port {} socketType {} authentication {} username {}",
            incoming.hostname,
            port,
            incoming.socket,
            incoming.authentication.join(" "),
            incoming.username
        );
        let published = Published {
            endpoint,
            signal,
            grade: if secure && own { Grade::C } else { Grade::D },
            trusted: secure && inside && own,
            rank,
            username: Some(incoming.username.clone()).filter(|name| !name.is_empty()),
        };
        heard.publish(published, at, statement, Some(&excerpt));
    }
    if document.incoming.is_empty() {
        let statement = format!("autoconfig {} names no server of IMAP or POP3", shown(from));
        heard.note(signal, Grade::C, at, Outcome::NotOffered, statement);
    }
}

/// The login name of a mailbox by a document's template; `None` where it is the same for all, or says what is not known here.
pub(super) fn login_name(template: &str, request: &Request, address: &Address) -> Option<String> {
    let is_own = template.contains("%EMAILADDRESS%") || template.contains("%EMAILLOCALPART%");
    let name = fill(template, request, Some(address));
    (is_own && !name.contains(['%', '\r', '\n', '\0'])).then_some(name)
}

/// Puts the domain and an address in the place of the document's placeholders.
fn fill(template: &str, request: &Request, address: Option<&Address>) -> String {
    let mut text = template.replace("%EMAILDOMAIN%", request.domain.as_str());
    if let Some(address) = address {
        text = text
            .replace("%EMAILADDRESS%", &address.to_string())
            .replace("%EMAILLOCALPART%", address.local_part());
    }
    text
}
