//! The names on certificates: a server under the domain's name whose certificate names somebody else's hosts is likely one of
//! theirs. A hint of grade D, also where the certificate is refused for that very reason.

use jiff::Timestamp;

use super::probes::Probed;
use super::signals::Heard;
use crate::model::evidence::{Grade, Outcome, Signal};
use crate::model::provider::{Provider, by_host};
use crate::model::text::printable;
use crate::net::tls::names_of_refused;

/// Looks at the certificates that the probes have seen.
pub(super) fn recognise(heard: &mut Heard, probed: &[Probed], at: Timestamp) {
    let mut said: Vec<(&str, &str)> = Vec::new();
    for probe in probed {
        let names: Vec<&str> = match &probe.answer {
            Ok(facts) => facts.tls.iter().flat_map(|tls| &tls.names).map(String::as_str).collect(),
            Err(failure) => names_of_refused(failure),
        };
        let host = probe.endpoint.host.as_str();
        let Some((name, owner)) = find_owner(host, &names) else { continue };
        // One server has many ports.
        if said.contains(&(host, owner.name)) {
            continue;
        }
        said.push((host, owner.name));
        let statement = format!("the certificate of {host} names {}, which is {owner}", printable(name));
        heard.note(Signal::Certificate, Grade::D, at, Outcome::Offered, statement);
    }
}

/// The first name that is somebody's whom the host's own name does not tell.
fn find_owner<'a>(host: &str, names: &[&'a str]) -> Option<(&'a str, &'static Provider)> {
    let own = by_host(host).map(|provider| provider.name);
    let owner = |name: &&'a str| Some((*name, by_host(name.trim_start_matches("*."))?));
    names.iter().filter_map(owner).find(|(_, provider)| Some(provider.name) != own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_somebody_else_is_told_and_ones_own_is_not() {
        for (host, names, expected) in [
            ("mail.contoso.example", &["mail.contoso.example"][..], None),
            ("mail.contoso.example", &["mail.contoso.example", "*.rzone.de"], Some("*.rzone.de")),
            ("imap.gmail.com", &["imap.gmail.com"], None),
            ("mail.contoso.example", &["outlook.com", "*.outlook.com"], Some("outlook.com")),
            ("mail.contoso.example", &[], None),
        ] {
            assert_eq!(find_owner(host, names).map(|(name, _)| name), expected, "{host}");
        }
    }
}
