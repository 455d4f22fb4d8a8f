//! The words of a Secret about the database that ledgers are kept in.

use crate::model::failure::{Failure, Result};
use crate::model::secret::Secret;

/// The words of a Secret about a database.
#[derive(Debug, Clone)]
pub struct Database {
    /// Host name or IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Name of the database.
    pub name: String,
    /// The user that logs in.
    pub username: String,
    /// The password.
    pub password: Secret,
    /// Whether the connection is encrypted and the certificate checked.
    pub encrypted: bool,
    /// PEM text of a private authority; empty when there is none.
    pub authority: String,
}

/// The port of PostgreSQL.
const PORT: u16 = 5432;
/// The database when the Secret names none.
const DATABASE: &str = "mailferry";

impl Database {
    /// Reads the keys of a Secret; `value` gives the value of a key.
    ///
    /// # Errors
    /// A failure that names the key; no message repeats a value.
    pub fn read(value: impl Fn(&str) -> Result<Option<Secret>>) -> Result<Self> {
        let text = |key: &str| -> Result<Option<String>> {
            Ok(value(key)?.map(|secret| secret.expose().trim().to_owned()).filter(|text| !text.is_empty()))
        };
        let needed = |key: &str| {
            text(key)?.ok_or_else(|| {
                Failure::configuration(format!("has no key {key}")).hint(format!("add the key {key}"))
            })
        };
        let port = text("port")?.map(|port| port.parse::<u16>()).transpose();
        let port = port.ok().flatten().or(text("port")?.is_none().then_some(PORT)).filter(|port| *port > 0);
        let port = port.ok_or_else(|| {
            Failure::configuration("its key port is no port").hint("write a number from 1 to 65535")
        })?;
        let encrypted = match text("sslmode")?.as_deref() {
            None | Some("require" | "verify-full") => true,
            Some("disable") => false,
            Some(_) => {
                return Err(Failure::configuration("its key sslmode is neither require nor disable").hint(
                    "require checks the certificate and its name; disable is for loopback and private networks",
                ));
            }
        };
        Ok(Self {
            host: needed("host")?,
            port,
            name: text("database")?.unwrap_or_else(|| DATABASE.to_owned()),
            username: needed("username")?,
            password: value("password")?
                .ok_or_else(|| Failure::configuration("has no key password").hint("add the key password"))?,
            encrypted,
            authority: text("ca.crt")?.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[(&str, &str)]) -> Result<Database> {
        Database::read(|key| {
            Ok(values.iter().find(|(name, _)| *name == key).map(|(_, value)| Secret::new(*value)))
        })
    }

    const LEAST: [(&str, &str); 3] = [("host", "db.test"), ("username", "ferry"), ("password", "hunter2")];

    #[test]
    fn a_secret_says_where_and_how() {
        let least = read(&LEAST).unwrap();
        assert_eq!((least.port, least.name.as_str(), least.encrypted), (5432, "mailferry", true));
        let all = [
            &LEAST[..],
            &[("port", "6432\n"), ("database", "moves"), ("sslmode", "disable"), ("ca.crt", "PEM")],
        ];
        let all = read(&all.concat()).unwrap();
        assert_eq!((all.port, all.name.as_str(), all.encrypted), (6432, "moves", false));
        assert_eq!((all.authority.as_str(), all.password.expose()), ("PEM", "hunter2"));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named_without_its_value() {
        for key in ["host", "username", "password"] {
            let values: Vec<_> = LEAST.into_iter().filter(|(name, _)| *name != key).collect();
            let failure = read(&values).unwrap_err();
            assert_eq!(failure.sentence(), format!("has no key {key}"));
        }
        for (key, value) in [("port", "hunter3"), ("port", "0"), ("port", "70000"), ("sslmode", "prefer")] {
            let failure = read(&[&LEAST[..], &[(key, value)]].concat()).unwrap_err();
            assert!(failure.sentence().contains(key) && !failure.to_string().contains("hunter"), "{failure}");
        }
    }
}
