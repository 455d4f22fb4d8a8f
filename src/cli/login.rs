//! The options of `mailferry login` and `mailferry providers`.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use ipnet::IpNet;

use super::{Output, ReachArgs};
use crate::local::login::{LoginRequest, Server};
use crate::model::failure::Result;

/// `mailferry login`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("server").required(true).args(["tenant", "token_url"]))]
pub struct LoginArgs {
    /// The mailbox of the user who logs in
    #[arg(long, value_name = "ADDRESS")]
    pub username: String,
    /// The application's client ID; its registration must allow public client flows
    #[arg(long, value_name = "ID")]
    pub client_id: String,
    /// The Microsoft tenant: the directory's ID, or a domain of it
    #[arg(long, value_name = "ID", conflicts_with_all = ["token_url", "device_url"])]
    pub tenant: Option<String>,
    /// The Microsoft cloud: Global, `GCCHigh` or `China21Vianet`
    #[arg(long, value_name = "CLOUD", default_value = "Global", requires = "tenant")]
    pub cloud: String,
    /// The token endpoint of any other authorization server
    #[arg(long, value_name = "URL", requires = "device_url")]
    pub token_url: Option<String>,
    /// Where that server gives codes for devices (RFC 8628)
    #[arg(long, value_name = "URL", requires = "token_url")]
    pub device_url: Option<String>,
    /// The scopes to ask for; those for IMAP when it is a Microsoft tenant
    #[arg(long, value_name = "SCOPES")]
    pub scope: Option<String>,
    /// The directory that the keys are written to, one file each, for their owner alone
    #[arg(long = "secret", value_name = "DIR")]
    pub directory: PathBuf,
    /// A private network that the server may be in; none when it is not given. May be given several times
    #[arg(long = "allowed-network", value_name = "NETWORK")]
    pub allowed_networks: Vec<IpNet>,
    /// The way to the server.
    #[command(flatten)]
    pub reach: ReachArgs,
    /// How code and result are written to standard output; json has one object on a line for each
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

impl LoginArgs {
    /// The kind that is wanted.
    ///
    /// # Errors
    /// A failure that names an option.
    pub fn request(&self) -> Result<LoginRequest> {
        let at = match (&self.tenant, &self.token_url, &self.device_url) {
            (Some(tenant), ..) => Server::Tenant { tenant: tenant.clone(), cloud: self.cloud.clone() },
            (None, token, device) => {
                Server::at(token.as_deref().unwrap_or_default(), device.as_deref().unwrap_or_default())?
            }
        };
        Ok(LoginRequest {
            username: self.username.clone(),
            client: self.client_id.clone(),
            at,
            scope: self.scope.clone(),
            directory: self.directory.clone(),
        })
    }
}

/// `mailferry providers`.
#[derive(Debug, Args)]
pub struct ProvidersArgs {
    /// How they are written to standard output
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}
