//! A login on another device (RFC 8628): a person is shown a code and where to type it, and the refresh token that comes
//! back is what later runs log in with.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};
use url::Url;

use super::endpoint::{Field, Given, ask_token, post, read_refusal};
use crate::model::failure::{Class, Failure, Result};
use crate::model::secret::Secret;
use crate::model::text::{cut, printable};
use crate::net::network::Network;
use crate::net::tls::Trust;

/// The longest code or address that is shown, in bytes.
const SHOWN_MAX: usize = 200;
/// How long a code may be waited for, whatever the server says.
const WAIT_MAX: Duration = Duration::from_hours(1);
/// How often is asked if nothing is said (RFC 8628 §3.2), and by how much more seldom when that was too often (§3.5).
const EVERY: Duration = Duration::from_secs(5);

/// The application that asks, and its endpoints.
#[derive(Debug, Clone)]
pub struct DeviceLogin {
    /// Where the code is asked for.
    pub device: Url,
    /// Where the token is asked for.
    pub token: Url,
    /// The application's client ID.
    pub client: String,
    /// The scopes that are asked for.
    pub scope: Option<String>,
}

/// The steps for a person to follow.
#[derive(Debug)]
pub struct Prompt {
    /// Where to go.
    pub address: String,
    /// The code to type there.
    pub code: String,
    device_code: Secret,
    every: Duration,
    end: Instant,
}

impl DeviceLogin {
    /// Asks for a code.
    ///
    /// # Errors
    /// The server's refusal, or a failure to reach it.
    pub async fn begin(&self, network: &Network, trust: &Trust) -> Result<Prompt> {
        let mut fields = vec![("client_id", Secret::new(self.client.as_str()))];
        fields.extend(self.scope.as_deref().map(|scope| ("scope", Secret::new(scope))));
        let (answer, document) = post(network, trust, &self.device, &fields).await?;
        if answer.status != 200 {
            return Err(read_refusal(&self.device, &answer, &document, &fields).failure);
        }
        read(&document).ok_or_else(|| {
            Failure::protocol("gives no code for a device")
                .at(self.device.as_str())
                .hint("check --device-url")
        })
    }

    /// Waits until the person has typed it; the refresh token.
    ///
    /// # Errors
    /// [`Class::Refused`] when the person said no, [`Class::Unreachable`] when nobody said anything in time.
    pub async fn wait(&self, network: &Network, trust: &Trust, prompt: Prompt) -> Result<Secret> {
        let mut every = prompt.every;
        loop {
            sleep(every).await;
            if Instant::now() > prompt.end {
                return Err(
                    Failure::new(Class::Unreachable, "nobody typed the code in time").hint("begin again")
                );
            }
            let grant = Secret::new("urn:ietf:params:oauth:grant-type:device_code");
            let fields: [Field; 3] = [
                ("grant_type", grant),
                ("client_id", Secret::new(self.client.as_str())),
                ("device_code", prompt.device_code.clone()),
            ];
            match ask_token(network, trust, &self.token, &fields).await {
                Ok(Given { refresh: Some(refresh), .. }) => return Ok(refresh),
                Ok(_) => {
                    return Err(Failure::new(Class::Refused, "gives no refresh token")
                        .hint("ask for the scope that allows it, at most servers offline_access"));
                }
                Err(refusal) => match refusal.error.as_str() {
                    "authorization_pending" => {}
                    "slow_down" => every += EVERY,
                    "expired_token" => {
                        let what = "nobody typed the code in time";
                        return Err(Failure::new(Class::Unreachable, what).hint("begin again"));
                    }
                    _ if refusal.failure.class == Class::Unreachable => every += EVERY,
                    _ => return Err(refusal.failure),
                },
            }
        }
    }
}

fn read(document: &Value) -> Option<Prompt> {
    let text = |name: &str| document.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let shown = |text: &str| cut(&printable(text), SHOWN_MAX);
    let seconds = |name: &str| document.get(name).and_then(Value::as_u64).map(Duration::from_secs);
    // Google has the older name.
    let address = text("verification_uri").or_else(|| text("verification_url"))?;
    Some(Prompt {
        address: shown(address),
        code: shown(text("user_code")?),
        device_code: Secret::new(text("device_code")?),
        every: seconds("interval").unwrap_or(EVERY).clamp(Duration::from_secs(1), Duration::from_mins(1)),
        end: Instant::now() + seconds("expires_in").unwrap_or(WAIT_MAX).min(WAIT_MAX),
    })
}
