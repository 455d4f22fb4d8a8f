//! The keys of a Secret by which tokens are come by: an application of a Microsoft tenant or of any other authorization
//! server, a user's refresh token, a Google service account.

use std::sync::Arc;

use serde::Deserialize;
use url::Url;

use crate::auth::oauth::{Bearer, Grant, GrantProof, Tokens};
use crate::model::failure::{Failure, Result};
use crate::model::preset::{self, Cloud, Preset};
use crate::model::secret::Secret;
use crate::net::tls::Trust;

/// The keys to put into the Secret of a tenant.
pub(super) const APPLICATION: &str = "give it clientId, tenantId, and clientSecret or clientCertificate and clientKey; docs/providers.md has the steps";

/// How the tokens of a Secret are come by.
#[derive(Debug, Clone)]
pub struct TokenAccess {
    /// The tokens of the process.
    pub tokens: Arc<Tokens>,
    /// The authorities trusted at the token endpoint.
    pub trust: Trust,
    /// The tenant that the manifest itself names, where tokens are all that is taken.
    pub tenant: Option<Tenant>,
}

/// The words of a manifest about the Microsoft 365 tenant that a Secret is for.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// Its ID or a domain of it; the Secret's where there is none.
    pub id: Option<String>,
    /// The cloud that it is in.
    pub cloud: Cloud,
    /// The field that it is in, `spec.destination.microsoft365`.
    pub field: &'static str,
}

impl Tenant {
    /// The tenant's ID, from the manifest or the Secret.
    ///
    /// # Errors
    /// When they do not say the same.
    fn id_with(&self, secret: Option<String>) -> Result<Option<String>> {
        match (&self.id, secret) {
            (Some(ours), Some(theirs)) if !ours.eq_ignore_ascii_case(&theirs) => {
                let what = format!("has a key tenantId that is not {}.tenantId", self.field);
                Err(Failure::configuration(what).hint("name the tenant in one of the two places"))
            }
            (Some(ours), _) => Ok(Some(ours.clone())),
            (None, secret) => Ok(secret),
        }
    }

    /// Refuses a Secret that is for another cloud.
    fn check_cloud(&self, secret: Option<&str>) -> Result<()> {
        let ours = self.cloud.to_string();
        if secret.is_some_and(|theirs| theirs != ours) {
            let what = format!("has a key cloud that is not {}.cloud ({ours})", self.field);
            return Err(Failure::configuration(what).hint("name the cloud in the manifest"));
        }
        Ok(())
    }
}

/// The file that Google gives for a service account, as far as it is used.
#[derive(Deserialize)]
struct ServiceAccount {
    client_email: String,
    private_key: String,
    private_key_id: Option<String>,
    token_uri: String,
}

/// The party that a Secret without passwords speaks for.
#[derive(Debug)]
pub(super) enum Granted {
    /// An application or a service account, which opens every mailbox.
    Application(Bearer),
    /// A user, by a refresh token in the key `refreshToken`.
    User(Bearer),
    /// Users whose refresh tokens stand in `mailboxes.csv`.
    Users(Client),
}

/// The application that users logged in with.
#[derive(Debug)]
pub(super) struct Client {
    endpoint: Url,
    id: String,
    secret: Option<Secret>,
    scope: Option<String>,
}

impl Client {
    /// The tokens of a user.
    pub(super) fn user(&self, refresh: Secret, access: &TokenAccess) -> Bearer {
        let grant = Grant {
            endpoint: self.endpoint.clone(),
            client: self.id.clone(),
            scope: self.scope.clone(),
            proof: GrantProof::Refresh { token: refresh, client_secret: self.secret.clone() },
        };
        access.tokens.bearer(grant, access.trust.clone())
    }
}

/// Reads a Secret's keys by `value`; `None` when they are not keys for tokens.
///
/// # Errors
/// A failure that names the key; no message repeats a secret value.
pub(super) fn read(
    value: impl Fn(&str) -> Result<Option<Secret>>,
    access: &TokenAccess,
) -> Result<Option<Granted>> {
    let text = |key: &str| Ok::<_, Failure>(value(key)?.map(|secret| secret.expose().to_owned()));
    let bearer = |grant| access.tokens.bearer(grant, access.trust.clone());
    let scope = text("scope")?;
    if let Some(document) = value("serviceAccount.json")? {
        if let Some(tenant) = &access.tenant {
            let what = format!(
                "has a key serviceAccount.json, which is Google's, and {} wants an application of the tenant",
                tenant.field
            );
            return Err(Failure::configuration(what).hint(APPLICATION));
        }
        return read_service_account(&document, scope).map(|grant| Some(Granted::Application(bearer(grant))));
    }
    let Some(id) = text("clientId")? else { return Ok(None) };
    let cloud = text("cloud")?;
    let mut preset = find_preset(cloud.as_deref())?;
    let mut tenant_id = text("tenantId")?;
    if let Some(tenant) = &access.tenant {
        tenant.check_cloud(cloud.as_deref())?;
        preset = tenant.cloud.preset();
        tenant_id = tenant.id_with(tenant_id)?;
    }
    let endpoint = match (text("tokenUrl")?, tenant_id) {
        (Some(given), _) => read_url("tokenUrl", &given)?,
        (None, Some(tenant)) => endpoint_of(preset.token, &tenant)?,
        (None, None) => {
            return Err(Failure::configuration("has clientId but neither tenantId nor tokenUrl")
                .hint("add tenantId for Microsoft 365, or tokenUrl for another authorization server"));
        }
    };
    // Another server's scopes are not known.
    let known = |scope: &str| Some(scope.to_owned()).filter(|_| endpoint.as_str().contains(host_of(preset)));
    let (secret, refresh) = (value("clientSecret")?, value("refreshToken")?);
    if refresh.is_some() || value("mailboxes.csv")?.is_some() {
        let scope = scope.or_else(|| known(preset.user_scope));
        let client = Client { endpoint, id, secret, scope };
        return Ok(Some(match refresh {
            Some(refresh) => Granted::User(client.user(refresh, access)),
            None => Granted::Users(client),
        }));
    }
    let proof = match (value("clientCertificate")?, value("clientKey")?, secret) {
        (Some(certificate), Some(key), _) => {
            GrantProof::Certificate { certificate: certificate.expose().to_owned(), key }
        }
        (Some(_), None, _) => {
            return Err(Failure::configuration("has clientCertificate but no key clientKey")
                .hint("add the certificate's private key, PEM, as clientKey"));
        }
        (None, _, Some(secret)) => GrantProof::ClientSecret(secret),
        (None, _, None) => {
            return Err(Failure::configuration("has clientId but no key that proves it").hint(
                "add clientSecret, or clientCertificate and clientKey, or refreshToken, or a column refreshToken in mailboxes.csv",
            ));
        }
    };
    let scope = scope.or_else(|| known(preset.application_scope));
    Ok(Some(Granted::Application(bearer(Grant { endpoint, client: id, scope, proof }))))
}

/// The Microsoft cloud that a Secret names.
///
/// # Errors
/// A failure that names the key `cloud`.
pub(super) fn find_preset(cloud: Option<&str>) -> Result<&'static Preset> {
    let found = cloud.map_or(Some(Cloud::default()), Cloud::named);
    found.map(Cloud::preset).ok_or_else(|| {
        Failure::configuration("has a key cloud that names no cloud")
            .hint("write Global, GCCHigh or China21Vianet")
    })
}

/// An endpoint of a tenant, by its template.
///
/// # Errors
/// A failure that names the key `tenantId`.
pub(super) fn endpoint_of(template: &str, tenant: &str) -> Result<Url> {
    let is_fit = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
    if tenant.is_empty() || !tenant.chars().all(is_fit) {
        return Err(Failure::configuration("has a key tenantId that is neither an ID nor a domain")
            .hint("write the directory's ID, or a domain of it such as contoso.onmicrosoft.com"));
    }
    read_url("tenantId", &template.replace("{tenant}", tenant))
}

/// The refusal of a Secret with passwords where only tokens open mailboxes.
pub(super) fn no_passwords(name: &str, key: &str, tenant: &Tenant) -> Failure {
    let what = format!(
        "Secret \"{name}\" has passwords (key {key}), and {} opens no mailbox with a password",
        tenant.field
    );
    Failure::configuration(what).hint(APPLICATION)
}

fn host_of(preset: &Preset) -> &'static str {
    preset.token.split('/').nth(2).unwrap_or_default()
}

fn read_url(key: &str, text: &str) -> Result<Url> {
    let url = Url::parse(text).ok().filter(|url| url.scheme() == "https" && url.host().is_some());
    let fit = url.filter(|url| url.username().is_empty() && url.password().is_none());
    fit.ok_or_else(|| {
        Failure::configuration(format!("has a key {key} that is no https URL"))
            .hint("write the token endpoint, such as https://login.example/oauth2/token")
    })
}

fn read_service_account(document: &Secret, scope: Option<String>) -> Result<Grant> {
    // Words of serde may repeat a value.
    let account: ServiceAccount = serde_json::from_str(document.expose()).map_err(|_| {
        Failure::configuration("has a key serviceAccount.json that is no key of a service account")
            .hint("create a key of the type JSON for the service account, and put the whole file there")
    })?;
    let google = preset::by_key("google").map(|preset| preset.application_scope.to_owned());
    Ok(Grant {
        endpoint: read_url("serviceAccount.json (token_uri)", &account.token_uri)?,
        client: account.client_email,
        scope: scope.or(google),
        proof: GrantProof::ServiceAccount {
            key: Secret::new(account.private_key),
            key_id: account.private_key_id,
            subject: String::new(),
        },
    })
}
