//! Zimbra: its SOAP answers even a question that it refuses in its own name, and its web client sets cookies of its own.

use url::Url;

use super::signals::{Asking, Heard, ask_hosts};
use crate::model::evidence::{Grade, Outcome, ServerFacts, Signal};
use crate::model::service::{Service, ServiceFacts};
use crate::model::text::cut;
use crate::net::http::{Method, ask as ask_web, shown};

const SIGNAL: Signal = Signal::Zimbra;
/// Asks for the version; servers that hide it refuse with a fault of the same name space.
const QUESTION: &str = "<soap:Envelope xmlns:soap=\"http://www.w3.org/2003/05/soap-envelope\"><soap:Body>\
    <GetVersionInfoRequest xmlns=\"urn:zimbraAccount\"/></soap:Body></soap:Envelope>";

/// Asks the hosts that Zimbra servers usually have.
pub(super) async fn ask(asking: Asking<'_>) -> Heard {
    ask_hosts(asking, ["mail", "zimbra"], |host| ask_host(asking, host)).await
}

async fn ask_host(asking: Asking<'_>, host: String) -> Heard {
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
        let statement = format!("Zimbra {place}: answers {} and is no Zimbra", answer.status);
        heard.note(SIGNAL, Grade::D, at, Outcome::NotOffered, statement);
    }
    heard
}

/// The version in the answer, as in `9.0.0_GA_4178`.
fn find_version(text: &str) -> Option<String> {
    let info = &text[text.find("<info")?..];
    let start = info.find("version=\"")? + "version=\"".len();
    let version: String = info[start..]
        .chars()
        .take_while(|c| c.is_ascii_alphanumeric() || "._-".contains(*c))
        .take(60)
        .collect();
    (!version.is_empty()).then_some(version)
}

/// Whether a server of IMAP or POP3 is one of Zimbra: by its greeting, or by the mechanism that is its own.
fn is_zimbra(facts: &ServerFacts) -> bool {
    facts.greeting.contains("Zimbra") || facts.mechanisms.iter().any(|mechanism| mechanism == "X-ZIMBRA")
}

/// The words of IMAP and POP3 servers.
pub(super) fn recognise(heard: &mut Heard, servers: &[ServerFacts], at: jiff::Timestamp) {
    let Some(facts) = servers.iter().find(|facts| is_zimbra(facts)) else { return };
    let host = &facts.endpoint.host;
    let statement = format!("{} is a Zimbra server", facts.endpoint.address());
    heard.quote(SIGNAL, Grade::B, at, statement, &facts.greeting);
    heard.offer(ServiceFacts {
        service: Service::Zimbra,
        place: format!("https://{host}/service/soap"),
        grade: Grade::D,
        trusted: false,
        words: cut(&facts.greeting, 300),
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::capability::Capabilities;
    use crate::model::endpoint::Endpoint;
    use crate::model::protocol::{Protocol, Tls};

    #[test]
    fn a_server_is_known_by_its_greeting_or_its_mechanism() {
        let said = |greeting: &str, mechanisms: &[&str]| {
            let facts = ServerFacts {
                endpoint: Endpoint::new(Protocol::Pop3, "mail.contoso.example", 995, Tls::Implicit),
                greeting: greeting.to_owned(),
                capabilities: Capabilities::default(),
                mechanisms: mechanisms.iter().map(|word| (*word).to_owned()).collect(),
                tls: None,
            };
            let mut heard = Heard::default();
            recognise(&mut heard, &[facts], jiff::Timestamp::UNIX_EPOCH);
            (heard.evidence.len(), heard.services.len())
        };
        assert_eq!(said("OK mail.contoso.example Zimbra IMAP4rev1 server ready", &[]), (1, 1));
        assert_eq!(said("+OK POP3 ready", &["PLAIN", "X-ZIMBRA"]), (1, 1));
        assert_eq!(said("+OK POP3 ready", &["PLAIN"]), (0, 0));
    }

    #[test]
    fn the_version_is_that_of_the_server_and_not_of_xml() {
        let text = "<?xml version=\"1.0\"?><GetVersionInfoResponse xmlns=\"urn:zimbraAccount\">\
                    <info release=\"x\" version=\"9.0.0_GA_4178.FOSS\"/></GetVersionInfoResponse>";
        assert_eq!(find_version(text).as_deref(), Some("9.0.0_GA_4178.FOSS"));
        assert_eq!(find_version("<?xml version=\"1.0\"?><a/>"), None);
    }
}
