//! OAuth2 tokens (RFC 6749): how they are come by, kept in memory, and renewed before they end. All sessions of a process
//! that share a grant share its token, and one of them asks for a new one while the others wait.

mod assertion;
pub mod device;
mod endpoint;
mod remedy;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tokio::time::Instant;
use url::Url;

use self::assertion::Algorithm;
use self::endpoint::{Field, Given, Refusal, ask_token};
use crate::model::clock::Clock;
use crate::model::failure::{Class, Failure, Result};
use crate::model::secret::Secret;
use crate::net::network::Network;
use crate::net::tls::Trust;

/// A token is renewed so long before its end, or at four fifths of its life where that is later.
const RENEW_BEFORE: Duration = Duration::from_mins(5);
/// A token younger than this, and than half its life, is not renewed because a server refused it: the reason is another.
const YOUNG: Duration = Duration::from_secs(10);
/// How long an endpoint that is away or busy for a moment is waited for before that is a failure.
const PATIENCE: Duration = Duration::from_secs(12);
/// How long a refusal that a person must mend applies to all who share the grant.
const REFUSAL_STANDS: Duration = Duration::from_mins(5);
/// How long any other failure applies: those who waited for the same answer are not made to wait for it again.
const FAILURE_STANDS: Duration = Duration::from_secs(5);
/// How long an assertion holds. Microsoft and Google allow no more than ten minutes and an hour.
const ASSERTION_HOLDS: SignedDuration = SignedDuration::from_mins(5);
/// A clock that differs by less is right.
const SKEW_MIN: SignedDuration = SignedDuration::from_secs(30);

/// The data with which a token is requested.
#[derive(Debug, Clone)]
pub struct Grant {
    /// The token endpoint.
    pub endpoint: Url,
    /// The application's client ID, or a service account's address.
    pub client: String,
    /// The scope that is asked for; without one it is the endpoint's own.
    pub scope: Option<String>,
    /// The proof.
    pub proof: GrantProof,
}

/// The proof that a grant rests on.
#[derive(Debug, Clone)]
pub enum GrantProof {
    /// The application's secret (client credentials, RFC 6749 §4.4).
    ClientSecret(Secret),
    /// The application's certificate: it signs an assertion (client credentials with RFC 7523 §2.2).
    Certificate {
        /// The certificate, PEM.
        certificate: String,
        /// Its private key, PEM.
        key: Secret,
    },
    /// A refresh token that a user's login left (RFC 6749 §6).
    Refresh {
        /// The refresh token.
        token: Secret,
        /// The application's secret, if it has one.
        client_secret: Option<Secret>,
    },
    /// A service account that signs for a user (RFC 7523 §2.1), as Google has it.
    ServiceAccount {
        /// Its private key, PEM.
        key: Secret,
        /// The identifier of the key.
        key_id: Option<String>,
        /// The user it acts for; empty until a mailbox is known.
        subject: String,
    },
}

impl Grant {
    /// All that makes this grant another one than its successor; it holds secrets.
    fn identity(&self) -> Secret {
        let (kind, proof, other) = match &self.proof {
            GrantProof::ClientSecret(secret) => ("secret", secret.expose(), ""),
            GrantProof::Certificate { certificate, key } => {
                ("certificate", key.expose(), certificate.as_str())
            }
            GrantProof::Refresh { token, client_secret } => {
                ("refresh", token.expose(), client_secret.as_ref().map_or("", Secret::expose))
            }
            GrantProof::ServiceAccount { key, subject, .. } => ("account", key.expose(), subject.as_str()),
        };
        let scope = self.scope.as_deref().unwrap_or_default();
        Secret::new([kind, self.endpoint.as_str(), &self.client, scope, proof, other].join("\0"))
    }

    /// The form that is sent. `refresh` is the newest refresh token, where one was rotated.
    fn form(&self, now: Timestamp, refresh: Option<&Secret>) -> Result<Vec<Field>> {
        let plain = |text: &str| Secret::new(text);
        let mut fields = Vec::new();
        match &self.proof {
            GrantProof::ClientSecret(secret) => {
                fields.push(("grant_type", plain("client_credentials")));
                fields.push(("client_secret", secret.clone()));
            }
            GrantProof::Certificate { certificate, key } => {
                let header = json!({ "x5t#S256": assertion::thumbprint(certificate)? });
                let claims = json!({
                    "iss": self.client,
                    "sub": self.client,
                    "aud": self.endpoint.as_str(),
                    "jti": assertion::unique()?,
                    "nbf": now.as_second(),
                    "iat": now.as_second(),
                    "exp": (now + ASSERTION_HOLDS).as_second(),
                });
                fields.push(("grant_type", plain("client_credentials")));
                let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
                fields.push(("client_assertion_type", plain(kind)));
                let assertion = assertion::sign(key, Algorithm::Ps256, header, &claims)?;
                fields.push(("client_assertion", assertion));
            }
            GrantProof::Refresh { token, client_secret } => {
                fields.push(("grant_type", plain("refresh_token")));
                fields.push(("refresh_token", refresh.unwrap_or(token).clone()));
                fields.extend(client_secret.clone().map(|secret| ("client_secret", secret)));
            }
            GrantProof::ServiceAccount { key, key_id, subject } => {
                let header = key_id.as_ref().map_or_else(|| json!({}), |id| json!({ "kid": id }));
                let claims = json!({
                    "iss": self.client,
                    "sub": subject,
                    "scope": self.scope,
                    "aud": self.endpoint.as_str(),
                    "iat": now.as_second(),
                    "exp": (now + ASSERTION_HOLDS).as_second(),
                });
                fields.push(("grant_type", plain("urn:ietf:params:oauth:grant-type:jwt-bearer")));
                fields.push(("assertion", assertion::sign(key, Algorithm::Rs256, header, &claims)?));
                return Ok(fields);
            }
        }
        fields.push(("client_id", plain(&self.client)));
        fields.extend(self.scope.as_deref().map(|scope| ("scope", plain(scope))));
        Ok(fields)
    }
}

/// Where a rotated refresh token outlives the process.
pub trait Keeper: Send + Sync {
    /// The newest refresh token of a grant, if one was kept.
    fn newest(&self, grant: &str) -> Option<Secret>;

    /// Keeps a newer one.
    ///
    /// # Errors
    /// Those of wherever it is kept.
    fn keep(&self, grant: &str, token: &Secret) -> Result<()>;
}

/// The tokens of a process.
pub struct Tokens {
    network: Arc<Network>,
    clock: Arc<dyn Clock>,
    keeper: Option<Arc<dyn Keeper>>,
    /// One for each grant that was ever used; as many as there are mailboxes at most.
    cells: Mutex<HashMap<String, Arc<Cell>>>,
}

#[derive(Default)]
struct Cell {
    /// Held while a token is asked for, so that one question serves all.
    held: tokio::sync::Mutex<Held>,
    /// Whether a refresh token was rotated that is kept nowhere.
    unkept: std::sync::atomic::AtomicBool,
}

#[derive(Default)]
struct Held {
    token: Option<Valid>,
    refresh: Option<Secret>,
    failed: Option<(Failure, Instant)>,
}

struct Valid {
    token: Secret,
    /// When a server's refusal is no longer taken for another reason than its age.
    grown: Instant,
    renew: Instant,
    end: Instant,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

impl Tokens {
    /// None yet. Without a keeper a rotated refresh token is forgotten with the process.
    pub fn new(network: Arc<Network>, clock: Arc<dyn Clock>, keeper: Option<Arc<dyn Keeper>>) -> Self {
        Self { network, clock, keeper, cells: Mutex::default() }
    }

    /// The tokens of a grant, from an endpoint whose certificate comes from an authority of `trust`.
    pub fn bearer(self: &Arc<Self>, grant: Grant, trust: Trust) -> Bearer {
        Bearer { tokens: Arc::clone(self), grant: Arc::new(grant), trust }
    }

    fn cell(&self, grant: &str) -> Arc<Cell> {
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(cells.entry(grant.to_owned()).or_default())
    }
}

/// A holder of a grant that logs in with its tokens; cheap to clone.
#[derive(Clone)]
pub struct Bearer {
    tokens: Arc<Tokens>,
    grant: Arc<Grant>,
    trust: Trust,
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bearer").field("grant", &self.grant).finish_non_exhaustive()
    }
}

impl Bearer {
    /// The client ID of the application.
    pub fn client(&self) -> &str {
        &self.grant.client
    }

    /// The issuer of the tokens: the token endpoint, without its query.
    pub fn issuer(&self) -> String {
        let mut endpoint = self.grant.endpoint.clone();
        endpoint.set_query(None);
        endpoint.set_fragment(None);
        endpoint.to_string()
    }

    /// The same for one mailbox: a service account acts for a user, and whatever else is there as it is.
    #[must_use]
    pub fn on_behalf_of(&self, mailbox: &str) -> Self {
        let mut grant = Grant::clone(&self.grant);
        if let GrantProof::ServiceAccount { subject, .. } = &mut grant.proof {
            mailbox.clone_into(subject);
        }
        Self { grant: Arc::new(grant), ..self.clone() }
    }

    /// Says what to do about a server that opens no mailbox for these tokens, in the place of what helps with passwords.
    pub(crate) fn name_remedy(&self, failure: Failure, host: &str, mailbox: &str) -> Failure {
        Failure { hint: Some(remedy::remedy(host, mailbox, &self.grant.client)), ..failure }
    }

    /// A name for the grant that tells nothing of it.
    fn key(&self) -> String {
        blake3::hash(self.grant.identity().expose().as_bytes()).to_hex().to_string()
    }

    /// A token that holds for a while. One that is held is given at once.
    ///
    /// # Errors
    /// The token endpoint's refusal, or a failure to reach it; such a failure applies for a while to all who share the
    /// grant. A token that still holds is given all the same.
    pub async fn token(&self) -> Result<Secret> {
        let key = self.key();
        let cell = self.tokens.cell(&key);
        let mut held = cell.held.lock().await;
        let now = Instant::now();
        let still = held.token.as_ref().filter(|valid| now < valid.end);
        if let Some(valid) = still.filter(|valid| now < valid.renew) {
            return Ok(valid.token.clone());
        }
        let still = still.map(|valid| valid.token.clone());
        if let Some((failure, until)) = &held.failed
            && now < *until
        {
            return still.ok_or_else(|| failure.clone());
        }
        match self.renew(&key, &cell, &mut held).await {
            Ok(token) => Ok(token),
            Err(failure) => {
                tracing::debug!(failure = %failure.sentence(), "no token was given");
                let stands = match failure.wait {
                    Some(wait) => wait,
                    None if failure.class.is_retryable() => FAILURE_STANDS,
                    None => REFUSAL_STANDS,
                };
                held.failed = Some((failure.clone(), Instant::now() + stands));
                still.ok_or(failure)
            }
        }
    }

    async fn renew(&self, key: &str, cell: &Cell, held: &mut Held) -> Result<Secret> {
        let keeper = self.tokens.keeper.as_deref();
        if held.refresh.is_none() {
            held.refresh = keeper.and_then(|keeper| keeper.newest(key));
        }
        let (asked, given) = self.ask_patiently(held.refresh.as_ref()).await?;
        if let (Some(newer), GrantProof::Refresh { token, .. }) = (given.refresh, &self.grant.proof)
            && newer.expose() != held.refresh.as_ref().unwrap_or(token).expose()
        {
            let kept = keeper.map(|keeper| keeper.keep(key, &newer));
            if let Some(Err(failure)) = &kept {
                tracing::warn!(failure = %failure.sentence(), "a new refresh token cannot be kept");
            }
            cell.unkept.store(!matches!(kept, Some(Ok(()))), std::sync::atomic::Ordering::Relaxed);
            held.refresh = Some(newer);
        }
        let margin = RENEW_BEFORE.min(given.lifetime / 5);
        held.failed = None;
        held.token = Some(Valid {
            token: given.token.clone(),
            grown: asked + YOUNG.min(given.lifetime / 2),
            renew: asked + given.lifetime.saturating_sub(margin),
            end: asked + given.lifetime,
        });
        tracing::debug!(client = %self.grant.client, seconds = given.lifetime.as_secs(), "a token was given");
        Ok(given.token)
    }

    /// Asks until the endpoint answers, or for a while; since when the token holds, and the token.
    async fn ask_patiently(&self, refresh: Option<&Secret>) -> Result<(Instant, Given)> {
        let end = Instant::now() + PATIENCE;
        let mut pause = Duration::from_secs(1);
        loop {
            let asked = Instant::now();
            let failure = match self.ask(refresh).await {
                Ok(given) => return Ok((asked, given)),
                Err(failure) => failure,
            };
            let wait = failure.wait.unwrap_or(pause);
            let passes = matches!(failure.class, Class::Unreachable | Class::Throttled);
            if !passes || Instant::now() + wait > end {
                return Err(failure);
            }
            tokio::time::sleep(wait).await;
            pause *= 2;
        }
    }

    /// Asks the endpoint, once more by its own clock where an assertion was refused and the clocks differ.
    async fn ask(&self, refresh: Option<&Secret>) -> Result<Given> {
        let now = self.tokens.clock.now();
        match self.ask_at(now, refresh).await {
            Ok(given) => Ok(given),
            Err(Refusal { failure, error, date: Some(date) })
                if date.duration_since(now).abs() > SKEW_MIN
                    && ["invalid_client", "invalid_grant"].contains(&error.as_str()) =>
            {
                let seconds = date.duration_since(now).as_secs();
                tracing::debug!(seconds, "the token endpoint has another time");
                let said = format!("{}; its clock differs from ours by {seconds} s", failure.what);
                let failure = Failure { what: said, ..failure };
                self.ask_at(date, refresh).await.map_err(|_| failure)
            }
            Err(Refusal { failure, .. }) => Err(failure),
        }
    }

    async fn ask_at(&self, now: Timestamp, refresh: Option<&Secret>) -> Result<Given, Refusal> {
        let fields = self.grant.form(now, refresh)?;
        // A question by HTTP is a large future, and few logins ask one.
        Box::pin(ask_token(&self.tokens.network, &self.trust, &self.grant.endpoint, &fields)).await
    }

    /// A server refused a token. Says whether it is worth while to try once more with another one; the refused one is
    /// then given to nobody.
    pub async fn reject(&self, token: &Secret) -> bool {
        let cell = self.tokens.cell(&self.key());
        let mut held = cell.held.lock().await;
        let Some(valid) = &held.token else { return true };
        if valid.token.expose() != token.expose() {
            return true;
        }
        let grown = Instant::now() >= valid.grown;
        if grown {
            held.token = None;
        }
        grown
    }

    /// Whether a new refresh token came in the place of the one that was given, and is lost when the process ends.
    pub fn has_lost_refresh_token(&self) -> bool {
        self.tokens.cell(&self.key()).unkept.load(std::sync::atomic::Ordering::Relaxed)
    }
}
