//! Whose servers a host belongs to, as far as its name tells. The names are data with a source: `providers.csv`.

use std::fmt;
use std::sync::OnceLock;

const TABLE: &str = include_str!("providers.csv");

/// The part that a taker of mail has in a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Microsoft 365.
    Microsoft,
    /// Gmail and Google Workspace.
    Google,
    /// A filter in front of the store: its name says nothing about where the mailboxes are.
    Gateway,
    /// A service that keeps mailboxes for many domains.
    Hoster,
}

/// Somebody who takes mail in for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Provider {
    /// The end of its hosts' names, whole labels.
    pub suffix: &'static str,
    /// Its part.
    pub kind: Kind,
    /// Its name among people.
    pub name: &'static str,
    /// Where the name of the hosts is known from.
    pub source: &'static str,
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Microsoft | Kind::Google => f.write_str(self.name),
            Kind::Gateway => write!(f, "{}, a filter in front of the mail store", self.name),
            Kind::Hoster => write!(f, "{}, a hoster of mailboxes", self.name),
        }
    }
}

/// Every provider that is known.
pub fn all() -> &'static [Provider] {
    static READ: OnceLock<Vec<Provider>> = OnceLock::new();
    READ.get_or_init(|| TABLE.lines().filter_map(read).collect())
}

/// Whose a host is: the longest suffix that fits.
pub fn by_host(host: &str) -> Option<&'static Provider> {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let below = |suffix: &str| {
        host.strip_suffix(suffix).is_some_and(|before| before.is_empty() || before.ends_with('.'))
    };
    all().iter().filter(|provider| below(provider.suffix)).max_by_key(|provider| provider.suffix.len())
}

fn read(line: &'static str) -> Option<Provider> {
    let mut fields = line.splitn(4, ',');
    let (suffix, kind) = (fields.next()?, fields.next()?);
    let kind = match kind {
        "Microsoft" => Kind::Microsoft,
        "Google" => Kind::Google,
        "Gateway" => Kind::Gateway,
        "Hoster" => Kind::Hoster,
        _ => return None,
    };
    Some(Provider { suffix, kind, name: fields.next()?, source: fields.next()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_provider_with_a_source() {
        let lines: Vec<_> = TABLE.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(lines.len(), all().len());
        for (line, provider) in lines.iter().zip(all()) {
            assert!(["setup", "ISPDB", "seen"].contains(&provider.source), "{line}");
            let name = provider
                .suffix
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-".contains(c));
            assert!(name && provider.suffix.contains('.') && !provider.name.is_empty(), "{line}");
            assert_eq!(all().iter().filter(|other| other.suffix == provider.suffix).count(), 1, "{line}");
        }
    }

    #[test]
    fn hosts_are_known_by_whole_labels_and_the_longest_suffix() {
        let name = |host: &str| by_host(host).map(|provider| (provider.kind, provider.name));
        for (host, expected) in [
            ("contoso-example.mail.protection.outlook.com", Some((Kind::Microsoft, "Microsoft 365"))),
            ("contoso-example.a-v1.mx.microsoft.", Some((Kind::Microsoft, "Microsoft 365"))),
            ("ASPMX.L.GOOGLE.COM", Some((Kind::Google, "Google Workspace"))),
            ("mx1.contoso.iphmx.com", Some((Kind::Gateway, "Cisco Secure Email"))),
            ("mx1-us1.ppe-hosted.com", Some((Kind::Gateway, "Proofpoint Essentials"))),
            ("smtpin.rzone.de", Some((Kind::Hoster, "Strato"))),
            ("notgoogle.com", None),
            ("google.com.evil.example", None),
            ("", None),
        ] {
            assert_eq!(name(host), expected, "{host}");
        }
    }
}
