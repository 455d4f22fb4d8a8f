//! Zimbra: its SOAP answers even a question that it refuses in its own name, and its web client sets cookies of its own.

use futures::future::join_all;
use url::Url;

use super::http::{Method, ask as ask_web, shown};
use super::signals::{Asking, Heard};
use crate::model::evidence::{Grade, Outcome, ServerFacts, Signal};
use crate::model::service::{Service, ServiceFacts};
use crate::model::text::cut;

const SIGNAL: Signal = Signal::Zimbra;
/// Asks for the version; servers that hide it refuse with a fault of the same name space.
const QUESTION: &str = "<soap:Envelope xmlns:soap=\"http://www.w3.org/2003/05/soap-envelope\"><soap:Body>\
    <GetVersionInfoRequest xmlns=\"urn:zimbraAccount\"/></soap:Body></soap:Envelope>";

/// Asks the hosts that Zimbra servers usually have.
pub(super) async fn ask(asking: Asking<'_>) -> Heard {
    let hosts = ["mail", "zimbra"].map(|name| format!("{name}.{}", asking.request.domain));
    let mut heard = Heard::default();
    for answered in join_all(hosts.iter().map(|host| ask_host(asking, host))).await {
        heard.add(answered);
    }
    heard
}

async fn ask_host(asking: Asking<'_>, host: &str) -> Heard {
    let mut heard = Heard::default();
    let Ok(url) = Url::parse(&format!("https://{host}/service/soap")) else { return heard };
    let answer =
        ask_web(asking.network, &asking.request.trust, &url, &Method::Post(QUESTION.to_owned())).await;
    let at = asking.clock.now();
    let answer = match answer {
        Err(why) => {
            heard.unanswered(SIGNAL, Grade::D, at, &url, why);
            return heard;
        }
        Ok(answer) => answer,
    };
    let (place, text) = (shown(&url), answer.text().unwrap_or_default());
    if text.contains("\"urn:zimbra") || answer.sets_cookie("ZM_") {
        let version = find_version(text).unwrap_or_default();
        heard.quote(SIGNAL, Grade::B, at, format!("a Zimbra server at {place}"), &version);
        let (service, trusted) = (Service::Zimbra, true);
        heard.offer(ServiceFacts { service, place, grade: Grade::B, trusted, words: version });
    } else {
        let statement = format!("Zimbra {place}: answers {} and is none", answer.status);
        heard.note(SIGNAL, Grade::D, at, Outcome::NotOffered, statement);
    }
    heard
}

/// The version in the answer, as in `9.0.0_GA_4178`.
fn find_version(text: &str) -> Option<String> {
    let start = text.find("version=\"")? + "version=\"".len();
    let version: String = text[start..]
        .chars()
        .take_while(|c| c.is_ascii_alphanumeric() || "._-".contains(*c))
        .take(60)
        .collect();
    (!version.is_empty()).then_some(version)
}

/// What greetings of IMAP and POP3 tell.
pub(super) fn recognise(heard: &mut Heard, servers: &[ServerFacts], at: jiff::Timestamp) {
    let Some(facts) = servers.iter().find(|facts| facts.greeting.contains("Zimbra")) else { return };
    let host = &facts.endpoint.host;
    let statement = format!("{} greets as a Zimbra server", facts.endpoint.address());
    heard.quote(SIGNAL, Grade::B, at, statement, &facts.greeting);
    heard.offer(ServiceFacts {
        service: Service::Zimbra,
        place: format!("https://{host}/service/soap"),
        grade: Grade::D,
        trusted: false,
        words: cut(&facts.greeting, 300),
    });
}
