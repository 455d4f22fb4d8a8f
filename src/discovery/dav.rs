//! `CalDAV` and `CardDAV` (RFC 6764): the well-known places of the domain and of the hosts that service records name. What
//! a server can do stands in its `DAV` header (RFC 4918 §10.1), and a login is asked for by most.

use futures::future::join_all;
use jiff::Timestamp;
use url::Url;

use super::signals::{Asking, Heard, Named};
use super::trust::is_inside;
use crate::mail::http::{Answer, Method, ask as ask_web, shown};
use crate::model::evidence::{Grade, Outcome, Signal};
use crate::model::service::{Service, ServiceFacts};

/// The services, their well-known places, and the word in the `DAV` header.
const SERVICES: [(Service, &str, &str); 2] = [
    (Service::CalDav, "/.well-known/caldav", "calendar-access"),
    (Service::CardDav, "/.well-known/carddav", "addressbook"),
];
/// The most hosts that are asked for one service.
const HOSTS_MAX: usize = 3;

/// Asks the domain and the hosts that service records name.
pub(super) async fn ask(asking: Asking<'_>, named: &[Named]) -> Heard {
    let mut questions = Vec::new();
    for service in SERVICES {
        let by_srv = named.iter().filter(|named| named.service == Some(service.0));
        let bases = by_srv.map(|named| (format!("https://{}:{}", named.host, named.port), true));
        let own = std::iter::once((format!("https://{}", asking.request.domain), false));
        for (base, by_srv) in own.chain(bases).take(HOSTS_MAX) {
            questions
                .extend(Url::parse(&format!("{base}{}", service.1)).ok().map(|url| (service, url, by_srv)));
        }
    }
    let mut heard = Heard::default();
    let asked = questions.into_iter().map(|(service, url, by_srv)| ask_one(asking, service, url, by_srv));
    for answered in join_all(asked).await {
        heard.add(answered);
    }
    heard
}

async fn ask_one(
    asking: Asking<'_>,
    (service, path, word): (Service, &str, &str),
    url: Url,
    by_srv: bool,
) -> Heard {
    let mut heard = Heard::default();
    let answer = ask_web(asking.network, &asking.request.trust, &url, &Method::Options).await;
    let at = asking.clock.now();
    match answer {
        Err(why) => heard.unanswered(Signal::Dav, Grade::C, at, &url, why),
        Ok(answer) => {
            let expected = by_srv || answer.url.path() != path;
            take(&mut heard, asking, service, word, expected, &answer, at);
        }
    }
    heard
}

/// `expected` says that a login that is asked for there means something: the place was named by a service record, or the
/// well-known place led to it. A site may ask for one everywhere.
fn take(
    heard: &mut Heard,
    asking: Asking<'_>,
    service: Service,
    word: &str,
    expected: bool,
    answer: &Answer,
    at: Timestamp,
) {
    let place = shown(&answer.url);
    let can = answer.header("dav").unwrap_or_default();
    let challenges = answer.challenges();
    let (grade, words) = if can.split(',').any(|one| one.trim() == word) {
        (Grade::B, can)
    } else if expected && !challenges.is_empty() {
        (Grade::C, format!("asks for a login by {}", challenges.join(", ")))
    } else {
        let statement = format!("{service} {place}: answers {} and is none", answer.status);
        return heard.note(Signal::Dav, Grade::C, at, Outcome::NotOffered, statement);
    };
    heard.quote(Signal::Dav, grade, at, format!("{service} at {place}"), &words);
    let trusted = answer.url.host_str().is_some_and(|host| is_inside(host, &asking.request.domain));
    heard.offer(ServiceFacts { service, place, grade, trusted, words });
}
