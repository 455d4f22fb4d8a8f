//! The first manifest of a migration, as text with the words that a person needs to go on: no password is in it, since lists stay
//! where they are and the rest comes from the environment.

use std::fmt::Write;
use std::net::IpAddr;
use std::str::FromStr;

use serde_json::Value;

use super::names::API_VERSION;
use crate::model::address::Address;
use crate::model::list::Column;
use crate::model::protocol::{Protocol, Tls};

/// A server as it is given on a command line: a host, and if wanted a port. How the channel is secured follows from the port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Host name or IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// `Implicit`, unless the port is the one of the protocol without TLS.
    pub tls: Tls,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "write HOST or HOST:PORT, as in imap.contoso.example:993".to_owned();
        let is_address = |text: &str| text.parse::<IpAddr>().is_ok();
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !is_address(text) => {
                (host.trim_matches(['[', ']']), Some(port.parse::<u16>().map_err(|_| wrong())?))
            }
            _ => (text, None),
        };
        let is_host = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
        if host.is_empty() || port == Some(0) || !(is_address(host) || host.chars().all(is_host)) {
            return Err(wrong());
        }
        let tls = if port == Some(Protocol::Imap.default_port(Tls::StartTLS)) {
            Tls::StartTLS
        } else {
            Tls::Implicit
        };
        Ok(Self {
            host: host.to_owned(),
            port: port.unwrap_or_else(|| Protocol::Imap.default_port(tls)),
            tls,
        })
    }
}

/// How the mailboxes of one end are opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// By the passwords in the list.
    ByList,
    /// By an administrator, whose password is in this environment variable.
    ByAdmin {
        /// The administrator.
        user: String,
        /// The variable.
        variable: &'static str,
    },
    /// One mailbox, by its own password in this environment variable.
    ByItself {
        /// The login name.
        user: String,
        /// The variable.
        variable: &'static str,
    },
}

/// The content of the first manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct First {
    /// The name of the migration.
    pub name: String,
    /// Where the list is, seen from the manifest; `None` where there is none.
    pub list: Option<String>,
    /// Names of columns that are not known by themselves.
    pub columns: Vec<(Column, String)>,
    /// The domains, in the order of the list.
    pub domains: Vec<String>,
    /// The one mailbox, where there is no list.
    pub mailbox: Option<Address>,
    /// How the mailboxes are opened at the source.
    pub source: Opened,
    /// Their server; `None` leaves it to discovery.
    pub server: Option<Place>,
    /// How they are opened at the destination.
    pub destination: Opened,
    /// Where the mail goes.
    pub goes_to: Place,
    /// Networks of servers that are named by a private address.
    pub allowed_networks: Vec<String>,
}

/// The variables that passwords are read from.
pub const VARIABLES: [&str; 2] = ["SOURCE_PASSWORD", "DESTINATION_PASSWORD"];

/// A text as YAML takes it anywhere: JSON is YAML.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/' | '@');
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '.');
    let word =
        ["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&text.to_lowercase().as_str());
    if begins && !word && text.chars().all(is_plain) {
        text.to_owned()
    } else {
        Value::from(text).to_string()
    }
}

impl First {
    /// The manifest.
    pub fn text(&self) -> String {
        let mut text = String::from(
            "# A first manifest, made by `mailferry init`. It holds no password.\n\
             #   mailferry validate -f THIS                                look at it without a network\n\
             #   mailferry run -f THIS --state ./state --stage Plan        look and report, write nothing\n\
             #   mailferry run -f THIS --state ./state                     as far as spec.stage says\n",
        );
        let shared = self.source == Opened::ByList && self.destination == Opened::ByList;
        self.secret(&mut text, "source", &self.source);
        if !shared {
            self.secret(&mut text, "destination", &self.destination);
        }
        let _ = write!(
            text,
            "---\napiVersion: {API_VERSION}\nkind: MailMigration\nmetadata: {{name: {}}}\nspec:\n  \
             stage: Plan                 # Plan looks and reports; Sync copies, and may be run again at any time\n",
            quoted(&self.name)
        );
        let to = &self.goes_to;
        let _ = write!(
            text,
            "  destination:\n    imap:\n      host: {}\n      port: {}\n      tls: {:?}\n      credentialsRef: {{name: {}}}\n",
            quoted(&to.host),
            to.port,
            to.tls,
            if shared { "source" } else { "destination" }
        );
        if !self.columns.is_empty() {
            text.push_str("  columns:                    # what the columns of the list are called\n");
            for (column, name) in &self.columns {
                let _ = writeln!(text, "    {column}: [{}]", quoted(name));
            }
        }
        text.push_str("  domains:\n");
        for domain in &self.domains {
            let _ = write!(text, "  - name: {}\n    credentialsRef: {{name: source}}\n", quoted(domain));
            if let Some(from) = &self.server {
                let _ = writeln!(
                    text,
                    "    servers: [{{protocol: IMAP, host: {}, port: {}, tls: {:?}}}]",
                    quoted(&from.host),
                    from.port,
                    from.tls
                );
            }
            let mailboxes = match &self.mailbox {
                Some(mailbox) => format!("{{list: [{{address: {}}}]}}", quoted(&mailbox.to_string())),
                None => "{discover: {}}          # the rows of the list".to_owned(),
            };
            let _ = writeln!(text, "    mailboxes: {mailboxes}");
        }
        if self.allowed_networks.is_empty() {
            text.push_str(
                "  # policy:\n  #   allowedNetworks: [\"10.0.0.0/8\"]     # servers with private addresses are refused unless this lists them\n",
            );
        } else {
            let networks: Vec<String> = self.allowed_networks.iter().map(|network| quoted(network)).collect();
            let _ = writeln!(
                text,
                "  policy:\n    allowedNetworks: [{}]    # private addresses are refused unless they are listed",
                networks.join(", ")
            );
        }
        text
    }

    fn secret(&self, text: &mut String, name: &str, opened: &Opened) {
        let _ = write!(text, "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\nstringData:\n");
        // The source's Secret names the mailboxes, whoever opens them.
        if let Some(list) = self.list.as_ref().filter(|_| name == "source" || *opened == Opened::ByList) {
            let _ = writeln!(text, "  mailboxes.csv: {}", quoted(&format!("file:{list}")));
        }
        match opened {
            Opened::ByList => {}
            Opened::ByAdmin { user, variable } => {
                let _ = write!(
                    text,
                    "  masterUser: {}\n  masterPassword: {}     # the password is read from this variable\n  \
                     masterSeparator: \"*\"         # MAILBOX*USER is the login name, as with Dovecot\n",
                    quoted(user),
                    quoted(&format!("env:{variable}"))
                );
            }
            Opened::ByItself { user, variable } => {
                let _ = write!(
                    text,
                    "  username: {}\n  password: {}     # the password is read from this variable\n",
                    quoted(user),
                    quoted(&format!("env:{variable}"))
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::manifest;
    use super::*;

    fn first() -> First {
        First {
            name: "contoso".into(),
            list: Some("Liste für Umzug.csv".into()),
            columns: vec![(Column::Address, "E-Mail \"alt\"".into()), (Column::Password, "Kennwort".into())],
            domains: vec!["contoso.example".into(), "münchen.example".into(), "no".into()],
            mailbox: None,
            source: Opened::ByList,
            server: Some("10.0.0.1:143".parse().unwrap()),
            destination: Opened::ByAdmin { user: "yes".into(), variable: VARIABLES[1] },
            goes_to: "imap.new.example".parse().unwrap(),
            allowed_networks: vec!["10.0.0.1/32".into()],
        }
    }

    #[test]
    fn what_is_written_is_read_again_and_says_the_same() {
        let text = first().text();
        let manifest = manifest::read(&[("m.yaml", text.as_str())]).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let spec = &manifest.migrations[0].spec;
        assert_eq!(spec.columns.as_ref().unwrap().address, ["E-Mail \"alt\""]);
        assert_eq!((spec.domains.len(), spec.domains[2].name.as_str()), (3, "no"));
        assert_eq!(spec.domains[0].servers[0].endpoint().to_string(), "IMAP 10.0.0.1:143 (STARTTLS)");
        let secret = manifest.secret("default", "source").unwrap();
        let list = "Liste für Umzug.csv";
        assert!(
            matches!(&secret["mailboxes.csv"], manifest::SecretValue::File(path) if path == list),
            "{text}"
        );
        let both = First { destination: Opened::ByList, ..first() }.text();
        assert_eq!(both.matches("kind: Secret").count(), 1, "one list opens both ends:\n{both}");
        manifest::read(&[("m.yaml", both)]).unwrap();
        let mailbox = Some("anna@contoso.example".parse().unwrap());
        let itself = |variable| Opened::ByItself { user: "anna".into(), variable };
        let one = First {
            list: None,
            domains: vec!["contoso.example".into()],
            mailbox,
            source: itself("A"),
            destination: itself("B"),
            ..first()
        };
        assert_eq!(manifest::read(&[("m.yaml", one.text())]).unwrap().migrations.len(), 1);
    }

    #[test]
    fn a_server_is_a_host_and_perhaps_a_port() {
        let read = |text: &str| text.parse::<Place>().map(|place| (place.host, place.port, place.tls));
        let of = |host: &str, port, tls| Ok((host.to_owned(), port, tls));
        assert_eq!(read("imap.a.test"), of("imap.a.test", 993, Tls::Implicit));
        assert_eq!(read("imap.a.test:143"), of("imap.a.test", 143, Tls::StartTLS));
        assert_eq!(read("::1"), of("::1", 993, Tls::Implicit));
        assert_eq!(read("[::1]:1993"), of("::1", 1993, Tls::Implicit));
        for bad in ["", "imap.a.test:x", "imap.a.test:0", "https://a.test", "a b"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
