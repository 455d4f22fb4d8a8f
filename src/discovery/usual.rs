//! Usual names at the registered ports, tried only for protocols of which nothing was said. A guess is a hint of grade D;
//! what answers it is then a server's own word.

use futures::future::join_all;

use super::Clock;
use super::signals::{Heard, Published};
use super::trust::is_inside;
use crate::model::address::Domain;
use crate::model::endpoint::Endpoint;
use crate::model::evidence::{Evidence, Grade, Outcome, Signal};
use crate::model::failure::Class;
use crate::model::protocol::{Protocol, Tls};
use crate::net::network::Network;

/// The most mail exchangers that are tried as mail stores.
const EXCHANGERS_MAX: usize = 2;

/// The endpoints that are worth a try for one protocol, best first: the mail exchangers of the domain itself, which small
/// sites use for everything; then the names that people give such servers; and last the domain's own name, which is that of
/// its web server.
pub(super) fn guess(domain: &Domain, protocol: Protocol, exchangers: &[String]) -> Vec<Endpoint> {
    let prefixes: &[&str] = match protocol {
        Protocol::Imap => &["imap.", "mail.", ""],
        Protocol::Pop3 => &["pop.", "pop3.", "mail.", ""],
        Protocol::Maildir | Protocol::Mbox | Protocol::Eml => &[],
    };
    // An exchanger that is the domain's own name is no more than that.
    let own = exchangers.iter().filter(|host| is_inside(host, domain) && *host != domain.as_str());
    let mut hosts: Vec<String> = own.take(EXCHANGERS_MAX).cloned().collect();
    for host in prefixes.iter().map(|prefix| format!("{prefix}{domain}")) {
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    let at_ports = |host: String| {
        [Tls::Implicit, Tls::StartTLS]
            .map(|tls| Endpoint::new(protocol, &host, protocol.default_port(tls), tls))
    };
    hosts.into_iter().flat_map(at_ports).collect()
}

/// Looks the usual names of some protocols up and publishes those that exist.
pub(super) async fn ask(
    network: &Network,
    domain: &Domain,
    protocols: &[Protocol],
    exchangers: &[String],
    clock: &dyn Clock,
) -> Heard {
    let guesses: Vec<_> =
        protocols.iter().flat_map(|protocol| guess(domain, *protocol, exchangers)).collect();
    let mut hosts: Vec<&str> = Vec::new();
    for guess in &guesses {
        if !hosts.contains(&guess.host.as_str()) {
            hosts.push(&guess.host);
        }
    }
    let mut heard = Heard::default();
    let found = join_all(hosts.iter().map(|host| network.resolve(host))).await;
    let at = clock.now();
    for (host, found) in hosts.into_iter().zip(found) {
        match found {
            // A name whose address is not allowed exists all the same; the probe says what is wrong with it.
            Err(failure) if failure.class != Class::Refused => heard.evidence.push(Evidence {
                signal: Signal::UsualName,
                grade: Grade::D,
                at,
                endpoint: guesses.iter().find(|guess| guess.host == host).cloned(),
                trusted: false,
                statement: format!("usual name {host}: {}", failure.what),
                outcome: Outcome::Failed(failure),
                excerpt: None,
            }),
            _ => {
                for endpoint in guesses.iter().filter(|guess| guess.host == host) {
                    let alike: Vec<&Endpoint> =
                        guesses.iter().filter(|guess| guess.protocol == endpoint.protocol).collect();
                    let rank = alike.iter().position(|guess| *guess == endpoint).unwrap_or_default();
                    let statement = format!("usual name {} exists", endpoint.address());
                    let signal = Signal::UsualName;
                    let published = Published {
                        endpoint: endpoint.clone(),
                        signal,
                        grade: Grade::D,
                        trusted: false,
                        rank,
                        username: None,
                    };
                    heard.publish(published, at, statement, None);
                }
            }
        }
    }
    heard
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guesses_stay_inside_the_domain_and_never_without_tls() {
        let domain: Domain = "contoso.example".parse().unwrap();
        let exchangers = ["mx1.contoso.example".to_owned(), "mx.filter.example".to_owned()];
        for protocol in Protocol::OF_SERVERS {
            let guesses = guess(&domain, protocol, &exchangers);
            assert!(guesses.iter().all(|g| is_inside(&g.host, &domain) && g.tls != Tls::None), "{guesses:?}");
            assert!(guesses.iter().any(|g| g.host == "mx1.contoso.example"));
        }
        let first = guess(&domain, Protocol::Imap, &[]).remove(0);
        assert_eq!(first.to_string(), "IMAP imap.contoso.example:993 (TLS)");
        let mut hosts: Vec<String> = guess(
            &domain,
            Protocol::Imap,
            &["mail.contoso.example".to_owned(), "contoso.example".to_owned()],
        )
        .into_iter()
        .map(|guess| guess.host)
        .collect();
        hosts.dedup();
        assert_eq!(hosts, ["mail.contoso.example", "imap.contoso.example", "contoso.example"]);
        assert!(guess(&domain, Protocol::Imap, &[]).iter().all(|g| !g.host.starts_with("pop")));
    }
}
