//! Provider facts: a small copy of Thunderbird's ISPDB that comes with Mailferry (`providers.txt`), so that nobody else is
//! asked. It is looked up by the domain itself (grade C: published, though not by the domain) and by the hosts that take
//! its mail in (grade D: a hint). It never vouches for a host.

use std::sync::OnceLock;

use super::signals::{Asking, Heard, Published};
use crate::model::endpoint::Endpoint;
use crate::model::evidence::{Grade, Signal};
use crate::model::protocol::{Protocol, Tls};
use crate::model::text::printable;

const TABLE: &str = include_str!("providers.txt");

/// One provider.
#[derive(Debug, PartialEq, Eq)]
struct Facts {
    /// The file of ISPDB that it is from.
    file: &'static str,
    domains: Vec<&'static str>,
    /// Best first.
    servers: Vec<Endpoint>,
}

/// Looks the domain up, and if it is unknown the hosts that take its mail in.
pub(super) fn look_up(asking: Asking<'_>, exchangers: &[String]) -> Heard {
    let mut heard = Heard::default();
    let at = asking.clock.now();
    let domain = asking.request.domain.as_str();
    let by_exchanger = || exchangers.iter().find_map(|host| Some((host.as_str(), find(host)?, Grade::D)));
    let found = find(domain).map(|facts| (domain, facts, Grade::C)).or_else(by_exchanger);
    let Some((name, facts, grade)) = found else { return heard };
    for (rank, endpoint) in facts.servers.iter().enumerate() {
        let statement = format!("provider facts of {} → {endpoint}", printable(name));
        let words = format!("thunderbird/autoconfig, ispdb/{}", facts.file);
        let published = Published {
            endpoint: endpoint.clone(),
            signal: Signal::ProviderFacts,
            grade,
            trusted: false,
            rank,
            username: None,
        };
        heard.publish(published, at, statement, Some(&words));
    }
    heard
}

/// The facts of a name: its own, or of the nearest name above it.
fn find(name: &str) -> Option<&'static Facts> {
    let mut rest = name;
    while rest.contains('.') {
        if let Some(facts) = all().iter().find(|facts| facts.domains.contains(&rest)) {
            return Some(facts);
        }
        rest = rest.split_once('.').map_or("", |(_, above)| above);
    }
    None
}

fn all() -> &'static [Facts] {
    static READ: OnceLock<Vec<Facts>> = OnceLock::new();
    READ.get_or_init(|| TABLE.lines().filter(|line| !line.starts_with('#')).filter_map(read).collect())
}

fn read(line: &'static str) -> Option<Facts> {
    let mut fields = line.split(" | ");
    let (file, domains, servers) = (fields.next()?, fields.next()?, fields.next()?);
    let servers: Option<Vec<Endpoint>> = servers.split(", ").map(read_server).collect();
    Some(Facts { file, domains: domains.split(' ').collect(), servers: servers? })
}

fn read_server(text: &str) -> Option<Endpoint> {
    let mut words = text.split(' ');
    let protocol = match words.next()? {
        "IMAP" => Protocol::Imap,
        "POP3" => Protocol::Pop3,
        _ => return None,
    };
    let (host, port) = (words.next()?, words.next()?.parse().ok()?);
    let tls = match words.next()? {
        "TLS" => Tls::Implicit,
        "STARTTLS" => Tls::StartTLS,
        _ => return None,
    };
    Some(Endpoint::new(protocol, host, port, tls))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_read_and_none_is_without_encryption() {
        let lines = TABLE.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(all().len(), lines);
        assert!(lines > 50);
        for facts in all() {
            assert!(!facts.servers.is_empty() && !facts.domains.is_empty(), "{facts:?}");
            assert!(facts.servers.iter().all(|server| server.tls != Tls::None && server.port > 0));
            assert!(facts.domains.iter().all(|domain| domain.contains('.')), "{facts:?}");
        }
        assert!(TABLE.contains("SPDX-License-Identifier: MPL-2.0"));
    }

    #[test]
    fn names_are_found_by_themselves_or_by_what_is_above_them() {
        let first = |name: &str| find(name).map(|facts| facts.servers[0].to_string());
        for (name, expected) in [
            ("gmx.de", Some("IMAP imap.gmx.net:993 (TLS)")),
            ("smtpin.rzone.de", Some("IMAP imap.strato.de:993 (TLS)")),
            ("contoso-example.mail.protection.outlook.com", Some("IMAP outlook.office365.com:993 (TLS)")),
            ("notgmx.de", None),
            ("de", None),
            ("", None),
        ] {
            assert_eq!(first(name).as_deref(), expected, "{name}");
        }
    }
}
