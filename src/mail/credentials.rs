//! How a mailbox logs in: as itself, or opened by an administrator or an application that may act for everybody; with a
//! password or with a token.

use super::oauth::Bearer;
use crate::model::secret::Secret;

/// What proves who logs in.
#[derive(Debug, Clone)]
pub enum Proof {
    /// A password.
    Password(Secret),
    /// Tokens that end and are renewed.
    Token(Bearer),
}

impl Proof {
    /// The password. A token is none: it locks no account, however often it is refused.
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

/// What is sent to log in to one mailbox.
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
}

impl Login {
    /// A mailbox that logs in as itself.
    pub fn own(user: String, proof: impl Into<Proof>) -> Self {
        Self { user, authzid: None, proof: proof.into(), administrator: None }
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

    /// Who logs in, for people: never the password.
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
        /// What stands between mailbox and administrator in the login name; `None` says it by SASL authorization
        /// identity instead.
        separator: Option<String>,
    },
    /// A password or a refresh token for each mailbox (`mailboxes.csv`).
    PerMailbox(Vec<MailboxProof>),
    /// An application or a service account that may open every mailbox.
    Application(Bearer),
}

/// One row of `mailboxes.csv`.
#[derive(Debug, Clone)]
pub struct MailboxProof {
    /// The mailbox, as the row writes it.
    pub address: String,
    /// The login name, when it is not the address.
    pub username: Option<String>,
    /// Its password or its tokens.
    pub proof: Proof,
}

impl Credentials {
    /// The login for a mailbox whose own login name is `name`; `None` when these credentials know no password for it.
    pub fn login(&self, address: &str, name: &str, name_is_given: bool) -> Option<Login> {
        match self {
            Self::Single { username, proof } => Some(Login::own(username.clone(), proof.clone())),
            Self::Master { user, password, separator: Some(separator) } => Some(Login {
                user: format!("{name}{separator}{user}"),
                authzid: None,
                proof: password.clone().into(),
                administrator: Some(user.clone()),
            }),
            Self::Master { user, password, separator: None } => Some(Login {
                user: user.clone(),
                authzid: Some(name.to_owned()),
                proof: password.clone().into(),
                administrator: Some(user.clone()),
            }),
            Self::PerMailbox(rows) => {
                let row = rows.iter().find(|row| row.address.eq_ignore_ascii_case(address))?;
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
            }),
        }
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
        let login = master(Some("*")).login("a@a.test", "a@a.test", false).unwrap();
        assert_eq!((login.user.as_str(), login.authzid), ("a@a.test*madmin", None));
        let login = master(None).login("a@a.test", "a@a.test", false).unwrap();
        assert_eq!((login.user.as_str(), login.authzid.as_deref()), ("madmin", Some("a@a.test")));
        let rows = Credentials::PerMailbox(vec![MailboxProof {
            address: "Carol@c.test".into(),
            username: Some("carol".into()),
            proof: Secret::new("s").into(),
        }]);
        assert_eq!(rows.login("carol@c.test", "carol@c.test", false).unwrap().user, "carol");
        assert_eq!(rows.login("carol@c.test", "c.given", true).unwrap().user, "c.given");
        assert!(rows.login("dora@c.test", "dora@c.test", false).is_none());
    }
}
