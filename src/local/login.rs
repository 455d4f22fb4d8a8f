//! `mailferry login`: a user's refresh token by a code that is typed on another device, put where a run finds it: into a
//! directory with one file for each key of a Secret.

use std::fs;
use std::path::PathBuf;

use url::Url;

use super::documents::{make_private, unusable};
use super::files::replace;
use super::grants::{endpoint_of, find_preset};
use super::run::Reach;
use crate::auth::oauth::device::{DeviceLogin, Prompt};
use crate::model::failure::{Failure, Result};
use crate::model::secret::Secret;
use crate::net::network::Network;
use crate::net::tls::Trust;

/// Where and as what somebody logs in.
#[derive(Debug, Clone)]
pub struct LoginRequest {
    /// The mailbox.
    pub username: String,
    /// The application's client ID.
    pub client: String,
    /// The server.
    pub at: Server,
    /// The scopes; those of the server that is known by name when there are none.
    pub scope: Option<String>,
    /// The directory that the keys are written to.
    pub directory: PathBuf,
}

/// The authorization server.
#[derive(Debug, Clone)]
pub enum Server {
    /// A tenant of a Microsoft cloud.
    Tenant {
        /// The directory's ID or a domain of it.
        tenant: String,
        /// `Global`, `GCCHigh` or `China21Vianet`.
        cloud: String,
    },
    /// Any other.
    Urls {
        /// Its token endpoint.
        token: Url,
        /// Where a code is asked for.
        device: Url,
    },
}

/// Logs in and keeps the refresh token; the keys that were written. `tell` hears what the person must do.
///
/// # Errors
/// The refusal of the server; [`crate::model::failure::Class::Configuration`] when the directory cannot be written.
pub async fn log_in(
    request: &LoginRequest,
    reach: &Reach,
    allowed: Vec<ipnet::IpNet>,
    tell: impl Fn(&Prompt) -> Result<()>,
) -> Result<Vec<&'static str>> {
    let network = Network::new(reach.resolver, allowed, 2)?;
    let trust = Trust::with_authorities(&[reach.authority_text()?])?;
    let mut keys = vec![("username", Secret::new(request.username.as_str()))];
    keys.push(("clientId", Secret::new(request.client.as_str())));
    let (token, device, scope) = match &request.at {
        Server::Tenant { tenant, cloud } => {
            let preset = find_preset(Some(cloud))?;
            keys.push(("tenantId", Secret::new(tenant.as_str())));
            keys.push(("cloud", Secret::new(cloud.as_str())));
            let url = |template: &str| endpoint_of(template, tenant);
            (url(preset.token)?, url(preset.device)?, Some(preset.user_scope.to_owned()))
        }
        Server::Urls { token, device } => {
            keys.push(("tokenUrl", Secret::new(token.as_str())));
            (token.clone(), device.clone(), None)
        }
    };
    if let Some(scope) = &request.scope {
        keys.push(("scope", Secret::new(scope.as_str())));
    }
    // Nobody shall type a code in vain.
    let directory = &request.directory;
    fs::create_dir_all(directory).map_err(|e| unusable(directory, &e))?;
    make_private(directory);
    let login =
        DeviceLogin { device, token, client: request.client.clone(), scope: request.scope.clone().or(scope) };
    let prompt = login.begin(&network, &trust).await?;
    tell(&prompt)?;
    keys.push(("refreshToken", login.wait(&network, &trust, prompt).await?));
    for (key, value) in &keys {
        let path = directory.join(key);
        replace(&path, value.expose().as_bytes()).map_err(|e| unusable(&path, &e))?;
    }
    Ok(keys.into_iter().map(|(key, _)| key).collect())
}

impl Server {
    /// A server by its addresses.
    ///
    /// # Errors
    /// A failure that names the option.
    pub fn at(token: &str, device: &str) -> Result<Self> {
        let read = |option: &str, text: &str| {
            Url::parse(text).ok().filter(|url| url.scheme() == "https").ok_or_else(|| {
                Failure::configuration(format!("{option}: is no https URL"))
                    .hint("write it as in https://login.example/oauth2/token")
            })
        };
        Ok(Self::Urls { token: read("--token-url", token)?, device: read("--device-url", device)? })
    }
}
