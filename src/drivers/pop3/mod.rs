//! POP3 (RFC 1939) as a source: [`probe`] for discovery, [`Session`] for logins and sizes, [`Pop3Source`] for mail.
//! Nothing here deletes, and reading avoids what marks a message as seen.

mod names;
mod session;
mod source;
mod wire;

pub use self::session::Session;
pub use self::source::Pop3Source;

use super::network::Network;
use super::tls::Trust;
use crate::model::endpoint::Endpoint;
use crate::model::evidence::ServerFacts;
use crate::model::failure::Result;

/// Asks a server what it is: greeting, capabilities (after STLS, where that is how the channel is secured), mechanisms,
/// and what TLS shows. Sends no credentials.
///
/// # Errors
/// As [`Session::connect`].
pub async fn probe(network: &Network, trust: &Trust, endpoint: &Endpoint) -> Result<ServerFacts> {
    let mut session = Session::connect(network, trust, endpoint).await?;
    session.quit().await;
    Ok(session.facts().clone())
}
