//! Which endpoints may see a password. Pure, and the only place that decides it.
//!
//! - a host that the manifest names: yes, even without TLS (which is then a finding)
//! - a host of the domain: over validated TLS
//! - another host: over validated TLS, if the domain's own autoconfig named it over validated HTTPS
//! - everything else: no. DNS and plain HTTP are not the domain's own voice: whoever can answer for them could name any
//!   host, with a valid certificate of its own.

use super::signals::Published;
use crate::model::address::Domain;
use crate::model::endpoint::Endpoint;
use crate::model::protocol::Tls;

/// Whether a password may go to an endpoint, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Approval {
    /// The manifest names the host.
    Named,
    /// The host belongs to the domain.
    Inside,
    /// The domain itself named the host over validated HTTPS.
    Vouched,
    /// No: outside the domain, and nobody who may has named it.
    Foreign,
    /// No: not encrypted, and not named by the manifest.
    Plain,
}

impl Approval {
    /// Whether a password may be sent.
    pub(super) fn is_given(self) -> bool {
        matches!(self, Self::Named | Self::Inside | Self::Vouched)
    }
}

/// Whether a host is the domain or below it.
pub(super) fn is_inside(host: &str, domain: &Domain) -> bool {
    host.strip_suffix(domain.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Decides about one endpoint. `named` are the endpoints that the manifest names in servers and overrides.
pub(super) fn judge(
    endpoint: &Endpoint,
    domain: &Domain,
    named: &[Endpoint],
    published: &[Published],
) -> Approval {
    // Plain text is only for what the manifest says to the letter: a host named with TLS is not named without it.
    if named.contains(endpoint) {
        return Approval::Named;
    }
    if endpoint.tls == Tls::None {
        return Approval::Plain;
    }
    let vouches = |p: &Published| p.trusted && p.endpoint.host == endpoint.host;
    if named.iter().any(|server| server.host == endpoint.host) {
        Approval::Named
    } else if is_inside(&endpoint.host, domain) {
        Approval::Inside
    } else if published.iter().any(vouches) {
        Approval::Vouched
    } else {
        Approval::Foreign
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::evidence::{Grade, Signal};
    use crate::model::protocol::Protocol;

    #[test]
    fn inside_means_the_domain_or_below_it() {
        let domain: Domain = "contoso.example".parse().unwrap();
        for (host, inside) in [
            ("contoso.example", true),
            ("imap.contoso.example", true),
            ("a.b.contoso.example", true),
            ("notcontoso.example", false),
            ("contoso.example.evil.example", false),
            ("example", false),
            ("127.0.0.1", false),
        ] {
            assert_eq!(is_inside(host, &domain), inside, "{host}");
        }
    }

    #[test]
    fn a_password_goes_only_where_it_may() {
        let domain: Domain = "contoso.example".parse().unwrap();
        let at = |host: &str, tls| Endpoint::new(Protocol::Imap, host, 993, tls);
        let said = |host: &str, trusted| Published {
            endpoint: at(host, Tls::Implicit),
            signal: Signal::Autoconfig,
            grade: Grade::C,
            trusted,
            rank: 0,
            username: None,
        };
        let named = [at("legacy.hoster.example", Tls::None), at("mail.hoster.example", Tls::Implicit)];
        let published = [said("imap.provider.example", true), said("imap.thief.example", false)];
        for (host, tls, approval) in [
            ("legacy.hoster.example", Tls::None, Approval::Named),
            ("legacy.hoster.example", Tls::StartTLS, Approval::Named),
            ("mail.hoster.example", Tls::Implicit, Approval::Named),
            ("mail.hoster.example", Tls::None, Approval::Plain),
            ("imap.contoso.example", Tls::Implicit, Approval::Inside),
            ("imap.contoso.example", Tls::StartTLS, Approval::Inside),
            ("imap.contoso.example", Tls::None, Approval::Plain),
            ("imap.provider.example", Tls::Implicit, Approval::Vouched),
            ("imap.provider.example", Tls::None, Approval::Plain),
            ("imap.thief.example", Tls::Implicit, Approval::Foreign),
            ("imap.contoso.example.thief.example", Tls::Implicit, Approval::Foreign),
        ] {
            assert_eq!(judge(&at(host, tls), &domain, &named, &published), approval, "{host} {tls}");
        }
    }
}
