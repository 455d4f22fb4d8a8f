//! One question to a token endpoint, and what its answer means (RFC 6749 §5).

use std::time::Duration;

use jiff::fmt::rfc2822;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::auth::cleaning::Cleaner;
use crate::model::failure::{Class, Failure, FailureCode, Result};
use crate::model::secret::Secret;
use crate::model::text::{cut, printable};
use crate::net::http::{Answer, Method, ask, shown};
use crate::net::network::Network;
use crate::net::tls::Trust;
use url::Url;

/// The longest token that is taken, in bytes.
const TOKEN_MAX: usize = 16 * 1024;
/// The longest explanation that is shown, in bytes.
const EXPLANATION_MAX: usize = 300;
/// How long a token holds if nothing is said.
const LIFETIME_UNSAID: u64 = 300;
/// The longest life of a token that is accepted, in seconds.
const LIFETIME_MAX: u64 = 86_400;
/// How long is waited when an endpoint asks for a pause and names no time.
const PAUSE: Duration = Duration::from_secs(30);
/// A field of a form.
pub(super) type Field = (&'static str, Secret);

/// The tokens that an endpoint gave.
#[derive(Debug)]
pub(super) struct Given {
    /// The access token.
    pub(super) token: Secret,
    /// How long it holds from now.
    pub(super) lifetime: Duration,
    /// A refresh token, if one came with it.
    pub(super) refresh: Option<Secret>,
}

/// A refusal.
#[derive(Debug)]
pub(super) struct Refusal {
    /// As a failure.
    pub(super) failure: Failure,
    /// The error's name (RFC 6749 §5.2); empty where there was none.
    pub(super) error: String,
    /// The endpoint's own time, where it said so.
    pub(super) date: Option<Timestamp>,
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self { failure, error: String::new(), date: None }
    }
}

/// Sends a form and reads the JSON that comes back, whatever the status.
///
/// # Errors
/// Those of HTTP; what an endpoint refuses is in the answer.
pub(super) async fn post(
    network: &Network,
    trust: &Trust,
    url: &Url,
    fields: &[Field],
) -> Result<(Answer, Value)> {
    if url.scheme() != "https" {
        return Err(Failure::configuration(format!(
            "{} is not https, and no secret is sent in the clear",
            shown(url)
        ))
        .hint("correct tokenUrl in the Secret"));
    }
    let answer = ask(network, trust, url, &Method::Form(fields.to_vec())).await;
    let answer = answer.map_err(|no| no.failure.at(shown(url)))?;
    let document = answer.text().ok().and_then(|text| serde_json::from_str(text).ok());
    Ok((answer, document.unwrap_or(Value::Null)))
}

/// Asks for a token.
///
/// # Errors
/// The endpoint's refusals, by class: see [`explain`].
pub(super) async fn ask_token(
    network: &Network,
    trust: &Trust,
    url: &Url,
    fields: &[Field],
) -> Result<Given, Refusal> {
    let (answer, document) = post(network, trust, url, fields).await?;
    if answer.status == 200
        && let Some(given) = read(&document)
    {
        return Ok(given);
    }
    Err(read_refusal(url, &answer, &document, fields))
}

/// Why an endpoint gave nothing.
pub(super) fn read_refusal(url: &Url, answer: &Answer, document: &Value, fields: &[Field]) -> Refusal {
    let error = document.get("error").and_then(Value::as_str).unwrap_or_default().to_owned();
    let date = answer.header("date").and_then(|text| read_date(&text));
    let failure = explain(answer, document, fields, date).at(shown(url));
    Refusal { failure, error, date }
}

fn read(document: &Value) -> Option<Given> {
    let secret = |name: &str| {
        let text = document.get(name)?.as_str()?;
        let fits = !text.is_empty() && text.len() <= TOKEN_MAX && text.bytes().all(|b| b.is_ascii_graphic());
        fits.then(|| Secret::new(text))
    };
    // Some say the number as a text.
    let number = |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
    let seconds = document.get("expires_in").and_then(number);
    let lifetime = Duration::from_secs(seconds.unwrap_or(LIFETIME_UNSAID).clamp(1, LIFETIME_MAX));
    Some(Given { token: secret("access_token")?, lifetime, refresh: secret("refresh_token") })
}

/// The failure that a refusal means for a migration.
fn explain(answer: &Answer, document: &Value, fields: &[Field], date: Option<Timestamp>) -> Failure {
    let error = document.get("error").and_then(Value::as_str).unwrap_or_default();
    let told = document.get("error_description").and_then(Value::as_str).unwrap_or_default();
    // Nothing of what was sent is repeated, whatever the endpoint makes of it.
    let secrets = fields.iter().filter(|(name, _)| is_secret(name));
    let cleaner = secrets.fold(Cleaner::default(), |cleaner, (_, value)| cleaner.and(value));
    let told = cleaner.clean_text(&format!("{error} {told}"));
    let told = cut(&printable(told.trim()), EXPLANATION_MAX);
    let said = if told.is_empty() { format!("answers {}", answer.status) } else { told };
    let (class, hint) = match (error, answer.status) {
        (_, 429) | ("slow_down", _) => {
            let wait = answer.header("retry-after").and_then(|text| read_wait(&text, date));
            return Failure::new(Class::Throttled, format!("asks for a pause: {said}"))
                .wait(wait.unwrap_or(PAUSE));
        }
        ("temporarily_unavailable" | "server_error", _) | (_, 500..) => {
            return Failure::new(Class::Unreachable, format!("gives no token now: {said}"));
        }
        ("invalid_client" | "unauthorized_client", _) => (
            Class::Credentials,
            "check clientId, tenantId and clientSecret (or clientCertificate) in the Secret, and that the secret has not expired",
        ),
        ("invalid_grant", _) => (
            Class::Credentials,
            "a refresh token has ended: `mailferry login` gets a new one. A service account: delegate the scope to its client ID, and see that the mailbox exists",
        ),
        ("invalid_scope" | "access_denied" | "consent_required" | "interaction_required", _) => {
            (Class::Refused, "let an administrator consent to the application's permission for IMAP")
        }
        ("invalid_request" | "unsupported_grant_type", _) => {
            (Class::Configuration, "check tokenUrl, tenantId and scope in the Secret")
        }
        (_, 200) => (Class::Protocol, "check that tokenUrl in the Secret is a token endpoint"),
        _ => (Class::Refused, "check tokenUrl and tenantId in the Secret"),
    };
    Failure::new(class, format!("gives no token: {said}")).code(FailureCode::NoToken).hint(hint)
}

fn is_secret(field: &str) -> bool {
    ["client_secret", "client_assertion", "assertion", "refresh_token", "device_code"].contains(&field)
}

fn read_date(text: &str) -> Option<Timestamp> {
    // An HTTP date is a date of mail with GMT for the zone (RFC 9110 §5.6.7).
    rfc2822::DateTimeParser::new().parse_timestamp(text).ok()
}

/// Retry-After: seconds, or a date by the endpoint's own clock (RFC 9110 §10.2.3); between a second and an hour.
fn read_wait(text: &str, now: Option<Timestamp>) -> Option<Duration> {
    let bounds = |wait: Duration| wait.clamp(Duration::from_secs(1), Duration::from_hours(1));
    if let Ok(seconds) = text.trim().parse::<i64>() {
        return Some(bounds(Duration::from_secs(u64::try_from(seconds).unwrap_or(0))));
    }
    let wait: SignedDuration = read_date(text)?.duration_since(now?);
    Some(bounds(Duration::try_from(wait).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_wait_is_read_in_both_forms_and_bounded() {
        let now = read_date("Mon, 23 Nov 2026 12:00:00 GMT");
        assert!(now.is_some());
        for (text, seconds) in [
            ("7", Some(7)),
            ("0", Some(1)),
            ("-5", Some(1)),
            ("999999", Some(3600)),
            ("Mon, 23 Nov 2026 12:01:30 GMT", Some(90)),
            ("Mon, 23 Nov 2026 11:00:00 GMT", Some(1)),
            ("soon", None),
        ] {
            assert_eq!(read_wait(text, now).map(|wait| wait.as_secs()), seconds, "{text}");
        }
        assert_eq!(read_wait("Mon, 23 Nov 2026 12:01:30 GMT", None), None);
    }

    #[test]
    fn what_is_given_is_read_and_bounded() {
        let read = |text: &str| read(&serde_json::from_str(text).unwrap());
        let given = read(r#"{"access_token":"a.b","expires_in":"60","refresh_token":"r"}"#).unwrap();
        assert_eq!((given.lifetime.as_secs(), given.token.expose()), (60, "a.b"));
        assert_eq!(given.refresh.unwrap().expose(), "r");
        assert_eq!(read(r#"{"access_token":"a","expires_in":3599}"#).unwrap().lifetime.as_secs(), 3599);
        assert_eq!(read(r#"{"access_token":"a"}"#).unwrap().lifetime.as_secs(), LIFETIME_UNSAID);
        assert_eq!(
            read(r#"{"access_token":"a","expires_in":1e30}"#).unwrap().lifetime.as_secs(),
            LIFETIME_UNSAID
        );
        for broken in
            [r#"{"access_token":"a b"}"#, r#"{"access_token":"a\r\nb"}"#, r#"{"access_token":""}"#, "{}"]
        {
            assert!(read(broken).is_none(), "{broken}");
        }
        let long = format!(r#"{{"access_token":"{}"}}"#, "a".repeat(TOKEN_MAX + 1));
        assert!(read(&long).is_none());
    }
}
