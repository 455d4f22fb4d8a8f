//! `CalDAV` and `CardDAV` (RFC 6764): the well-known places of the domain and of the hosts that service records name, or the
//! paths that TXT records beside these name. The abilities of a server stand in its `DAV` header (RFC 4918 §10.1), and a login is asked for by most.

use futures::future::join_all;
use jiff::Timestamp;
use url::Url;

use super::signals::{Asking, Heard, Named};
use super::srv::explain;
use super::trust::is_inside;
use super::txt;
use crate::model::evidence::{Grade, Outcome, Signal};
use crate::model::service::{Service, ServiceFacts};
use crate::net::http::{Answer, Method, ask as ask_web, shown};

/// One of the two services.
#[derive(Clone, Copy)]
struct Kind {
    service: Service,
    /// The label of its service records.
    label: &'static str,
    well_known: &'static str,
    /// The word in the `DAV` header.
    word: &'static str,
}

const KINDS: [Kind; 2] = [
    Kind {
        service: Service::CalDav,
        label: "_caldavs",
        well_known: "/.well-known/caldav",
        word: "calendar-access",
    },
    Kind {
        service: Service::CardDav,
        label: "_carddavs",
        well_known: "/.well-known/carddav",
        word: "addressbook",
    },
];
/// The longest path that is accepted, in bytes.
const PATH_MAX: usize = 300;
/// The most hosts that are asked for one service.
const HOSTS_MAX: usize = 3;

/// Asks the domain and the hosts that service records name.
pub(super) async fn ask(asking: Asking<'_>, named: &[Named]) -> Heard {
    let mut heard = Heard::default();
    for answered in join_all(KINDS.map(|kind| ask_kind(asking, named, kind))).await {
        heard.add(answered);
    }
    heard
}

async fn ask_kind(asking: Asking<'_>, named: &[Named], kind: Kind) -> Heard {
    let mut heard = Heard::default();
    let by_srv: Vec<_> = named.iter().filter(|named| named.service == Some(kind.service)).collect();
    let path = if by_srv.is_empty() { None } else { look_up_path(&mut heard, asking, kind).await };
    let mut questions = Vec::new();
    questions.extend(
        Url::parse(&format!("https://{}{}", asking.request.domain, kind.well_known)).map(|url| (url, false)),
    );
    for named in by_srv.into_iter().take(HOSTS_MAX - 1) {
        let Ok(mut url) = Url::parse(&format!("https://{}:{}", named.host, named.port)) else { continue };
        // The path is not part of what is parsed: whatever it says, it names no other host.
        url.set_path(path.as_deref().unwrap_or(kind.well_known));
        questions.push((url, true));
    }
    for answered in
        join_all(questions.into_iter().map(|(url, by_srv)| ask_one(asking, kind, url, by_srv))).await
    {
        heard.add(answered);
    }
    heard
}

/// The path that a TXT record names beside the service records (RFC 6764 §4).
async fn look_up_path(heard: &mut Heard, asking: Asking<'_>, kind: Kind) -> Option<String> {
    let name = format!("{}._tcp.{}", kind.label, asking.request.domain);
    let answer = txt::look_up(asking.network, &name).await;
    let at = asking.clock.now();
    let place = format!("{}._tcp TXT", kind.label);
    let path = match answer {
        Err(error) => {
            heard.fail(Signal::Dav, Grade::C, at, &place, explain(&error));
            None
        }
        Ok(texts) => texts.iter().find_map(|text| read_path(text)),
    };
    if let Some(path) = &path {
        heard.note(Signal::Dav, Grade::C, at, Outcome::Offered, format!("{place} → path {path}"));
    }
    path
}

/// The path in a text such as `path=/dav`.
fn read_path(text: &str) -> Option<String> {
    let (key, path) = text.split_once('=')?;
    let fits = path.len() <= PATH_MAX && path.bytes().all(|byte| byte.is_ascii_graphic());
    (key.eq_ignore_ascii_case("path") && path.starts_with('/') && fits).then(|| path.to_owned())
}

async fn ask_one(asking: Asking<'_>, kind: Kind, url: Url, by_srv: bool) -> Heard {
    let mut heard = Heard::default();
    let answer = ask_web(asking.network, &asking.request.trust, &url, &Method::Options).await;
    let at = asking.clock.now();
    match answer {
        Err(why) => heard.unanswered(Signal::Dav, Grade::C, at, &url, why),
        Ok(answer) => {
            let expected = by_srv || answer.url.path() != kind.well_known;
            take(&mut heard, asking, kind, expected, &answer, at);
        }
    }
    heard
}

/// `expected` says that a login that is asked for there means something: the place was named by a service record, or the
/// well-known place led to it. A site may ask for one everywhere.
fn take(heard: &mut Heard, asking: Asking<'_>, kind: Kind, expected: bool, answer: &Answer, at: Timestamp) {
    let Kind { service, word, .. } = kind;
    let place = shown(&answer.url);
    let can = answer.header("dav").unwrap_or_default();
    let challenges = answer.challenges();
    let (grade, words) = if can.split(',').any(|one| one.trim() == word) {
        (Grade::B, can)
    } else if expected && !challenges.is_empty() {
        (Grade::C, format!("asks for a login by {}", challenges.join(", ")))
    } else {
        let statement = format!("{service} {place}: answers {} and does not offer it", answer.status);
        return heard.note(Signal::Dav, Grade::C, at, Outcome::NotOffered, statement);
    };
    heard.quote(Signal::Dav, grade, at, format!("{service} at {place}"), &words);
    let trusted = answer.url.host_str().is_some_and(|host| is_inside(host, &asking.request.domain));
    heard.offer(ServiceFacts { service, place, grade, trusted, words });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_a_path_is_taken_for_one() {
        for (text, expected) in [
            ("path=/dav/", Some("/dav/")),
            ("PATH=/a?b", Some("/a?b")),
            ("path=//elsewhere.example/", Some("//elsewhere.example/")),
            ("path=dav", None),
            ("path=https://elsewhere.example/", None),
            ("path=/a b", None),
            ("path=/a\r\nx", None),
            ("path=", None),
            ("ts=/dav", None),
            ("path", None),
        ] {
            assert_eq!(read_path(text).as_deref(), expected, "{text:?}");
        }
        let mut url = Url::parse("https://dav.contoso.example:8443").unwrap();
        url.set_path("//elsewhere.example/?a");
        assert_eq!(url.as_str(), "https://dav.contoso.example:8443//elsewhere.example/%3Fa");
    }
}
