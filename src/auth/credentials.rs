//! How a mailbox logs in: as itself, or opened by an administrator or an application that may act for everybody; with a
//! password or with a token.

use std::collections::HashMap;

use super::oauth::Bearer;
use crate::model::address::Address;
use crate::model::failure::Side;
use crate::model::secret::Secret;

/// The proof of identity for a login.
#[derive(Debug, Clone)]
pub enum Proof {
    /// A password.
    Password(Secret),
    /// Tokens that end and are renewed.
    Token(Bearer),
}

impl Proof {
    /// The password. A token is not a password: it locks no account, however often it is refused.
    pub fn password(&self) -> Option<&Secret> {
        match self {
            Self::Password(password) => Some(password),
            Self::Token(_) => None,
        }
    }

    /// Whether the Secret's refresh token was replaced by one that ends with this process.
    pub fn is_lost_with_the_process(&self) -> bool {
        matches!(self, Self::Token(bearer) if bearer.has_lost_refresh_token())
    }
}

impl From<Secret> for Proof {
    fn from(password: Secret) -> Self {
        Self::Password(password)
    }
}

/// The data that is sent to log in to one mailbox.
#[derive(Debug, Clone)]
pub struct Login {
    /// The name of the user who authenticates.
    pub user: String,
    /// Whose mailbox is opened, where that is said apart from the name (SASL authorization identity, RFC 4616).
    pub authzid: Option<String>,
    /// The proof that it is `user`.
    pub proof: Proof,
    /// The administrator whose password this is, when one password opens many mailboxes.
    pub administrator: Option<String>,
    /// The side of the migration that it logs in at: a password that one side refuses may be right at the other.
    pub side: Side,
}

impl Login {
    /// A mailbox that logs in as itself, at the source.
    pub fn own(user: String, proof: impl Into<Proof>) -> Self {
        Self { user, authzid: None, proof: proof.into(), administrator: None, side: Side::Source }
    }

    /// The same at the destination.
    #[must_use]
    pub fn at_destination(self) -> Self {
        Self { side: Side::Destination, ..self }
    }

    /// All that tells who logs in, as it is sent: the user, whose mailbox it opens, and for tokens the application and who
    /// gives them to it. It holds no secret.
    pub fn names(&self) -> String {
        match &self.proof {
            Proof::Password(_) => self.who(),
            Proof::Token(bearer) => {
                format!("{}, by {} of {}", self.who(), bearer.client(), bearer.issuer())
            }
        }
    }

    /// The same under another login name, `to` in the place of `from`; `None` where it is not that name that is sent. A token
    /// belongs to the name that it is for.
    pub fn with_name(&self, from: &str, to: &str) -> Option<Self> {
        self.proof.password()?;
        if let Some(mailbox) = &self.authzid {
            return (mailbox == from).then(|| Self { authzid: Some(to.to_owned()), ..self.clone() });
        }
        let rest = self.user.strip_prefix(from)?;
        // Behind the name stand a separator and an administrator, or nothing.
        (rest.is_empty() || self.administrator.as_ref().is_some_and(|admin| rest.ends_with(admin.as_str())))
            .then(|| Self { user: format!("{to}{rest}"), ..self.clone() })
    }

    /// The name of the login, for people to read: never the password.
    pub fn who(&self) -> String {
        match &self.authzid {
            Some(mailbox) => format!("{} for {mailbox}", self.user),
            None => self.user.clone(),
        }
    }
}

/// One set of credentials of a domain: what its Secret holds.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// One user name and password, for a domain with a single mailbox.
    Single {
        /// The user name.
        username: String,
        /// Its password or its tokens.
        proof: Proof,
    },
    /// An administrator who may open every mailbox.
    Master {
        /// The administrator's name.
        user: String,
        /// The administrator's password.
        password: Secret,
        /// The separator between mailbox and administrator in the login name; `None` says it by SASL authorization
        /// identity instead.
        separator: Option<String>,
    },
    /// A password or a refresh token for each mailbox (`mailboxes.csv`).
    PerMailbox(MailboxProofs),
    /// An application or a service account that may open every mailbox.
    Application(Bearer),
    /// Nobody logs in: whoever may read the files may read the mail.
    NotNeeded,
}

/// The rows of `mailboxes.csv` that prove something, each found by its mailbox.
#[derive(Debug, Clone, Default)]
pub struct MailboxProofs {
    rows: Vec<MailboxProof>,
    places: HashMap<Address, usize>,
}

impl MailboxProofs {
    /// All rows, in their order.
    pub fn rows(&self) -> &[MailboxProof] {
        &self.rows
    }

    /// The row of a mailbox.
    pub fn find(&self, mailbox: &Address) -> Option<&MailboxProof> {
        self.rows.get(*self.places.get(mailbox)?)
    }
}

impl FromIterator<MailboxProof> for MailboxProofs {
    fn from_iter<T: IntoIterator<Item = MailboxProof>>(rows: T) -> Self {
        let rows: Vec<MailboxProof> = rows.into_iter().collect();
        let mut places = HashMap::with_capacity(rows.len());
        for (at, row) in rows.iter().enumerate() {
            places.entry(row.address.clone()).or_insert(at);
        }
        Self { rows, places }
    }
}

/// One row of `mailboxes.csv`.
#[derive(Debug, Clone)]
pub struct MailboxProof {
    /// The mailbox.
    pub address: Address,
    /// The mailbox at the source that goes there, where it is a row for both ends and this is about the destination.
    pub source: Option<Address>,
    /// The login name, when it is not the address.
    pub username: Option<String>,
    /// Its password or its tokens.
    pub proof: Proof,
}

impl Credentials {
    /// The login for a mailbox whose own login name is `name`; `None` when these credentials know no password for it.
    pub fn login(&self, mailbox: &Address, name: &str, name_is_given: bool) -> Option<Login> {
        match self {
            Self::Single { username, proof } => Some(Login::own(username.clone(), proof.clone())),
            Self::Master { user, password, separator: Some(separator) } => Some(Login {
                user: format!("{name}{separator}{user}"),
                authzid: None,
                proof: password.clone().into(),
                administrator: Some(user.clone()),
                side: Side::Source,
            }),
            Self::Master { user, password, separator: None } => Some(Login {
                user: user.clone(),
                authzid: Some(name.to_owned()),
                proof: password.clone().into(),
                administrator: Some(user.clone()),
                side: Side::Source,
            }),
            Self::PerMailbox(rows) => {
                let row = rows.find(mailbox)?;
                let user = match &row.username {
                    Some(username) if !name_is_given => username.clone(),
                    _ => name.to_owned(),
                };
                Some(Login::own(user, row.proof.clone()))
            }
            Self::Application(bearer) => Some(Login {
                user: name.to_owned(),
                authzid: None,
                proof: Proof::Token(bearer.on_behalf_of(name)),
                administrator: Some(bearer.client().to_owned()),
                side: Side::Source,
            }),
            Self::NotNeeded => Some(Login::own(mailbox.to_string(), Secret::new(String::new()))),
        }
    }

    /// The login for a mailbox at the destination, and `source` goes there. A row of both ends that names no destination is for
    /// whichever the manifest gives it.
    pub fn login_at_destination(&self, mailbox: &Address, source: Option<&Address>) -> Option<Login> {
        let name = mailbox.to_string();
        let by_source = || {
            let Self::PerMailbox(rows) = self else { return None };
            let row = rows.find(source?).filter(|row| row.source.as_ref() == Some(&row.address))?;
            Some(Login::own(row.username.clone().unwrap_or_else(|| name.clone()), row.proof.clone()))
        };
        self.login(mailbox, &name, false).or_else(by_source)
    }

    /// Whether one password opens many mailboxes, so that its failure concerns the whole domain.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Master { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mailbox_logs_in_as_the_contract_says() {
        let master = |separator: Option<&str>| Credentials::Master {
            user: "madmin".into(),
            password: Secret::new("s"),
            separator: separator.map(Into::into),
        };
        let at = |address: &str| address.parse::<Address>().unwrap();
        let login = master(Some("*")).login(&at("a@a.test"), "a@a.test", false).unwrap();
        assert_eq!((login.user.as_str(), login.authzid), ("a@a.test*madmin", None));
        let login = master(None).login(&at("a@a.test"), "a@a.test", false).unwrap();
        assert_eq!((login.user.as_str(), login.authzid.as_deref()), ("madmin", Some("a@a.test")));
        let renamed = |login: Login| login.with_name("a@a.test", "a").map(|login| login.who());
        let login = |separator| master(separator).login(&at("a@a.test"), "a@a.test", false).unwrap();
        assert_eq!(renamed(login(Some("*"))).as_deref(), Some("a*madmin"));
        assert_eq!(renamed(login(None)).as_deref(), Some("madmin for a"));
        assert_eq!(renamed(Login::own("a@a.test".into(), Secret::new("s"))).as_deref(), Some("a"));
        assert_eq!(renamed(Login::own("a@a.test.example".into(), Secret::new("s"))), None);
        let row = MailboxProof {
            address: at("Carol@münchen.test"),
            source: None,
            username: Some("carol".into()),
            proof: Secret::new("s").into(),
        };
        let rows = Credentials::PerMailbox(MailboxProofs::from_iter([row]));
        assert_eq!(rows.login(&at("carol@münchen.test"), "carol@münchen.test", false).unwrap().user, "carol");
        assert_eq!(rows.login(&at("CAROL@xn--mnchen-3ya.test"), "c.given", true).unwrap().user, "c.given");
        assert!(rows.login(&at("dora@new.test"), "dora@new.test", false).is_none());
        let row = |address: &str, source: &str, password: &str| MailboxProof {
            address: at(address),
            source: Some(at(source)),
            username: None,
            proof: Secret::new(password).into(),
        };
        // Two of them swap names, and the third is renamed by the manifest.
        let rows = [
            row("b@a.test", "a@a.test", "1"),
            row("a@a.test", "b@a.test", "2"),
            row("c@a.test", "c@a.test", "3"),
        ];
        let rows = Credentials::PerMailbox(MailboxProofs::from_iter(rows));
        let login = |mailbox: &str, source: &str| {
            let login = rows.login_at_destination(&at(mailbox), Some(&at(source)))?;
            Some(format!("{} {}", login.user, login.proof.password()?.expose()))
        };
        assert_eq!(login("b@a.test", "a@a.test").as_deref(), Some("b@a.test 1"));
        assert_eq!(login("c@new.test", "c@a.test").as_deref(), Some("c@new.test 3"));
        assert_eq!(login("x@new.test", "a@a.test"), None, "the row says where it goes, and it is not there");
    }
}
