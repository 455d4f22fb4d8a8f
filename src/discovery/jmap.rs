//! JMAP (RFC 8620 §2.2): the well-known place of the domain and of the hosts that service records name, and the session
//! behind it as far as it is shown without a login. Some servers know no well-known place but the usual one of the session.

use futures::future::join_all;
use jiff::Timestamp;
use serde::Deserialize;
use std::collections::BTreeMap;
use url::Url;

use super::signals::{Asking, Heard, Named};
use super::trust::is_inside;
use crate::model::evidence::{Grade, Outcome, Signal};
use crate::model::failure::Failure;
use crate::model::service::{Service, ServiceFacts};
use crate::model::text::{cut, printable};
use crate::net::http::{Answer, Method, NoAnswer, ask as ask_web, shown};

/// The most hosts that are asked.
const HOSTS_MAX: usize = 3;
/// Where a session may be, in the order in which it is looked for.
const PATHS: [&str; 2] = ["/.well-known/jmap", "/jmap/session"];

/// The part of a session that is read (RFC 8620 §2).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Session {
    capabilities: BTreeMap<String, serde_json::Value>,
    api_url: String,
}

/// Asks the domain and the hosts that service records name.
pub(super) async fn ask(asking: Asking<'_>, named: &[Named]) -> Heard {
    let domain = &asking.request.domain;
    let mut bases = vec![format!("https://{domain}")];
    let by_srv = named.iter().filter(|named| named.service == Some(Service::Jmap));
    bases.extend(by_srv.map(|named| format!("https://{}:{}", named.host, named.port)));
    bases.truncate(HOSTS_MAX);
    let mut heard = Heard::default();
    for answered in join_all(bases.iter().map(|base| ask_host(asking, base))).await {
        heard.add(answered);
    }
    heard
}

async fn ask_host(asking: Asking<'_>, base: &str) -> Heard {
    let mut heard = Heard::default();
    for path in PATHS {
        let Ok(url) = Url::parse(&format!("{base}{path}")) else { return heard };
        let answer = ask_web(asking.network, &asking.request.trust, &url, &Method::Get).await;
        let at = asking.clock.now();
        // A host that does not answer at one place does not answer at the other.
        let unanswered = answer.is_err();
        let wall = match &answer {
            Ok(answer) => asking.is_wall(answer).await,
            Err(_) => false,
        };
        take(&mut heard, asking, &url, answer, wall, at);
        if unanswered || !heard.services.is_empty() {
            break;
        }
    }
    heard
}

/// `wall` says that the server asks for a login everywhere.
fn take(
    heard: &mut Heard,
    asking: Asking<'_>,
    asked: &Url,
    answer: Result<Answer, NoAnswer>,
    wall: bool,
    at: Timestamp,
) {
    let answer = match answer {
        Err(why) => return heard.unanswered(Signal::Jmap, Grade::C, at, asked, why),
        Ok(answer) => answer,
    };
    let place = shown(&answer.url);
    let trusted = answer.url.host_str().is_some_and(|host| is_inside(host, &asking.request.domain));
    let offer = |heard: &mut Heard, grade, words: String| {
        let words = cut(&words, 300);
        heard.offer(ServiceFacts { service: Service::Jmap, place: place.clone(), grade, trusted, words });
    };
    let challenges = answer.challenges();
    // A site that asks for a login everywhere must not pass for JMAP.
    let is_session = answer.url.path().contains("jmap");
    let session = || serde_json::from_str::<Session>(answer.text().ok()?).ok();
    match answer.status {
        200 => {
            let Some(session) = session() else {
                let failure = Failure::protocol("answers with what is no JMAP session");
                return heard.fail(Signal::Jmap, Grade::C, at, &format!("JMAP {place}"), failure);
            };
            let words: Vec<_> = session.capabilities.keys().map(|name| printable(name)).take(20).collect();
            let api = answer.url.join(&session.api_url).ok();
            let same = api.as_ref().is_some_and(|api| api.host_str() == answer.url.host_str());
            let elsewhere = match &api {
                Some(api) if !same => format!("; its API is at another host, {}", shown(api)),
                _ => String::new(),
            };
            let statement = format!("JMAP session at {place}{elsewhere}");
            heard.quote(Signal::Jmap, Grade::B, at, statement, &words.join(" "));
            offer(heard, Grade::B, words.join(" "));
        }
        401 if wall => {
            let statement = format!("JMAP {place}: asks for a login, as its server does everywhere");
            heard.note(Signal::Jmap, Grade::C, at, Outcome::NotOffered, statement);
        }
        401 if is_session && !challenges.is_empty() => {
            let words = challenges.join(", ");
            let statement = format!("JMAP {place} asks for a login by {words}");
            heard.note(Signal::Jmap, Grade::B, at, Outcome::Offered, statement);
            offer(heard, Grade::B, format!("asks for a login by {words}"));
        }
        status => {
            let statement = format!("JMAP {place}: answers {status}");
            heard.note(Signal::Jmap, Grade::C, at, Outcome::NotOffered, statement);
        }
    }
}
