//! Names of the columns of lists, where they are not those of the documentation.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::list::{Column, Heads};

/// Names of the columns of lists, in any language: for each column the names that it has in one list or another, at
/// most 10. Letters of either case, blanks and signs make no difference. Beside them `address`, `username`, `password` and so
/// on are always known, and `EmailAddress` for address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Columns {
    /// Names of the column with the mailbox's address at the source, as in [E-Mail-Adresse].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), inner(length(min = 1, max = 100)))]
    pub address: Vec<String>,
    /// Names of the column with the name that the mailbox logs in with at the source.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), inner(length(min = 1, max = 100)))]
    pub username: Vec<String>,
    /// Names of the column with its password at the source.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), inner(length(min = 1, max = 100)))]
    pub password: Vec<String>,
    /// Names of the column with its refresh token.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), inner(length(min = 1, max = 100)))]
    pub refresh_token: Vec<String>,
    /// Names of the column with the mailbox's address at the destination.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), inner(length(min = 1, max = 100)))]
    pub destination: Vec<String>,
    /// Names of the column with the name that the mailbox logs in with at the destination.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), inner(length(min = 1, max = 100)))]
    pub destination_username: Vec<String>,
    /// Names of the column with its password at the destination.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), inner(length(min = 1, max = 100)))]
    pub destination_password: Vec<String>,
}

impl Columns {
    /// The names as a list is read by them.
    pub fn heads(&self) -> Heads {
        Heads::new([
            (Column::Address, self.address.clone()),
            (Column::Username, self.username.clone()),
            (Column::Password, self.password.clone()),
            (Column::RefreshToken, self.refresh_token.clone()),
            (Column::Destination, self.destination.clone()),
            (Column::DestinationUsername, self.destination_username.clone()),
            (Column::DestinationPassword, self.destination_password.clone()),
        ])
    }
}
