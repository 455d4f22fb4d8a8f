//! Exchange servers, of one's own or hosted: what Exchange Web Services and Outlook on the web show to somebody who is not
//! logged in. Hosts are guessed inside the domain; nothing published is needed.

use url::Url;

use super::signals::{Asking, Heard, ask_hosts};
use crate::model::evidence::{Grade, Outcome, ServerFacts, Signal};
use crate::model::service::{Service, ServiceFacts};
use crate::model::text::cut;
use crate::net::http::{Method, ask as ask_web, shown};

const SIGNAL: Signal = Signal::Exchange;
/// Headers that only Exchange sends.
const HEADERS: [&str; 3] = ["x-owa-version", "x-feserver", "x-beserver"];
/// Ways to log in that Exchange offers and ordinary web servers do not.
const CHALLENGES: [&str; 2] = ["negotiate", "ntlm"];

/// Asks the hosts that Exchange servers usually have.
pub(super) async fn ask(asking: Asking<'_>) -> Heard {
    ask_hosts(asking, ["mail", "autodiscover"], |host| ask_host(asking, host)).await
}

async fn ask_host(asking: Asking<'_>, host: String) -> Heard {
    let mut heard = Heard::default();
    for path in ["/EWS/Exchange.asmx", "/owa/"] {
        let Ok(url) = Url::parse(&format!("https://{host}{path}")) else { return heard };
        let answer = ask_web(asking.network, &asking.request.trust, &url, &Method::Look).await;
        let at = asking.clock.now();
        let answer = match answer {
            Ok(answer) => answer,
            Err(why) => {
                // A host that does not answer at one place does not answer at the other.
                heard.unanswered(SIGNAL, Grade::D, at, &url, why);
                return heard;
            }
        };
        let place = shown(&url);
        let challenges = answer.challenges();
        let header = |name: &str| Some(format!("{name}: {}", answer.header(name)?));
        let headers: Vec<_> = HEADERS.iter().filter_map(|name| header(name)).collect();
        let is_windows = challenges.iter().any(|one| CHALLENGES.contains(&one.to_ascii_lowercase().as_str()));
        let is_ews = path.starts_with("/EWS");
        if headers.is_empty() && asking.is_wall(&answer).await {
            let statement = format!("Exchange {place}: asks for a login, as its server does everywhere");
            heard.note(SIGNAL, Grade::D, at, Outcome::NotOffered, statement);
            continue;
        }
        if headers.is_empty() && !is_windows {
            // Behind a proxy an Exchange says no more than that it wants a login there.
            if is_ews && !challenges.is_empty() {
                let words = challenges.join(", ");
                let statement =
                    format!("an Exchange that was not logged in to: {place} asks for a login by {words}");
                heard.quote(SIGNAL, Grade::C, at, statement, &words);
                let trusted = true;
                heard.offer(ServiceFacts { service: Service::Ews, place, grade: Grade::C, trusted, words });
                continue;
            }
            let statement = format!("Exchange {place}: answers {} and is no Exchange", answer.status);
            heard.note(SIGNAL, Grade::D, at, Outcome::NotOffered, statement);
            continue;
        }
        let login = if challenges.is_empty() {
            String::new()
        } else {
            format!(", which asks for a login by {}", challenges.join(", "))
        };
        heard.quote(
            SIGNAL,
            Grade::B,
            at,
            format!("an Exchange server at {place}{login}"),
            &headers.join("; "),
        );
        if is_ews && !challenges.is_empty() {
            let words = challenges.iter().cloned().chain(headers).collect::<Vec<_>>().join("; ");
            let trusted = true;
            heard.offer(ServiceFacts { service: Service::Ews, place, grade: Grade::B, trusted, words });
        }
    }
    heard
}

/// The words of IMAP and POP3 servers: Exchange says so in its greeting.
pub(super) fn recognise(heard: &mut Heard, servers: &[ServerFacts], at: jiff::Timestamp) {
    let Some(facts) = servers.iter().find(|facts| facts.greeting.contains("Microsoft Exchange")) else {
        return;
    };
    let statement = format!("{} greets as an Exchange server", facts.endpoint.address());
    heard.quote(SIGNAL, Grade::B, at, statement, &facts.greeting);
    heard.offer(ServiceFacts {
        service: Service::Ews,
        place: format!("https://{}/EWS/Exchange.asmx", facts.endpoint.host),
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
    fn greetings_of_exchange_are_known() {
        for (greeting, expected) in [
            ("The Microsoft Exchange IMAP4 service is ready. [TQBXAEgA]", 1),
            ("Microsoft Exchange Server 2007 IMAP4 service is ready", 1),
            ("The *WGS* Microsoft Exchange POP3 service is ready.", 1),
            ("Dovecot ready.", 0),
        ] {
            let facts = ServerFacts {
                endpoint: Endpoint::new(Protocol::Imap, "mail.contoso.example", 993, Tls::Implicit),
                greeting: greeting.to_owned(),
                capabilities: Capabilities::default(),
                mechanisms: Vec::new(),
                tls: None,
            };
            let mut heard = Heard::default();
            recognise(&mut heard, &[facts], jiff::Timestamp::UNIX_EPOCH);
            assert_eq!(heard.evidence.len(), expected, "{greeting}");
            assert!(
                heard.services.iter().all(|facts| facts.grade == Grade::D),
                "a greeting proves no web service"
            );
        }
    }
}
