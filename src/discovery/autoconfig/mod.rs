//! Thunderbird's autoconfig: the document that a domain publishes about its own mail servers. Over validated HTTPS from
//! a host of the domain it is the domain's own voice; over plain HTTP it is a hint that proves nothing.

mod document;
mod fetch;

use futures::future::join_all;
use jiff::Timestamp;
use url::Url;

use self::document::{Document, Incoming, parse};
use self::fetch::fetch;
use super::signals::{Heard, Published};
use super::trust::is_inside;
use super::{Clock, Request};
use crate::mail::network::Network;
use crate::model::address::Address;
use crate::model::endpoint::Endpoint;
use crate::model::evidence::{Grade, Outcome, Signal};
use crate::model::failure::{Class, Result};
use crate::model::text::printable;

/// Asks the places where a domain may publish the document: over HTTPS, and only if that brings none over HTTP.
pub(super) async fn ask(network: &Network, request: &Request, clock: &dyn Clock) -> Heard {
    let domain = &request.domain;
    // The address helps the server choose; any of the domain will do. It is not told to anybody in the clear.
    let address = request.mailboxes.first().map(|mailbox| &mailbox.address);
    let mut heard = Heard::default();
    for scheme in ["https", "http"] {
        let address = address.filter(|_| scheme == "https");
        let urls: Vec<Url> = [
            format!("{scheme}://autoconfig.{domain}/mail/config-v1.1.xml"),
            format!("{scheme}://{domain}/.well-known/autoconfig/mail/config-v1.1.xml"),
        ]
        .iter()
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
                    publish(
                        &mut heard,
                        request,
                        &from,
                        &document,
                        request.mailboxes.first().map(|m| &m.address),
                        at,
                    );
                }
                Err(failure) => {
                    let asked = format!("autoconfig {}", shown(url));
                    let grade = if scheme == "https" { Grade::C } else { Grade::D };
                    if failure.class == Class::Unreachable
                        && failure.what.ends_with("does not exist in the DNS")
                    {
                        let statement = format!("{asked}: no such host");
                        heard.note(Signal::Autoconfig, grade, at, Outcome::NotOffered, statement);
                    } else {
                        heard.fail(Signal::Autoconfig, grade, at, &asked, failure);
                    }
                }
            }
        }
        if !heard.published.is_empty() {
            break;
        }
    }
    heard
}

async fn read(network: &Network, request: &Request, url: &Url) -> Result<(Url, Document)> {
    let (from, text) = fetch(network, &request.trust, url).await?;
    Ok((from, parse(&text)?))
}

/// A URL without the address that was asked with.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    printable(url.as_str())
}

fn publish(
    heard: &mut Heard,
    request: &Request,
    from: &Url,
    document: &Document,
    address: Option<&Address>,
    at: Timestamp,
) {
    let inside = from.host_str().is_some_and(|host| is_inside(host, &request.domain));
    let secure = from.scheme() == "https";
    for (rank, incoming) in document.incoming.iter().enumerate() {
        let host = fill(&incoming.hostname, request, address);
        // A name that is no host name, such as one with a placeholder left, cannot be connected to.
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
            signal: Signal::Autoconfig,
            grade: if secure { Grade::C } else { Grade::D },
            trusted: secure && inside,
            rank,
        };
        heard.publish(published, at, statement, Some(&excerpt));
    }
    if document.incoming.is_empty() {
        let statement = format!("autoconfig {} names no server of IMAP or POP3", shown(from));
        heard.note(Signal::Autoconfig, Grade::C, at, Outcome::NotOffered, statement);
    }
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
