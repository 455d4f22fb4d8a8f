//! The documents of Microsoft and Google about logins (`OpenID` Connect Discovery). Microsoft tells for each domain whether it
//! is a tenant's; Google's is the same for all and tells that its tokens can be had from here. Each is asked only when
//! something else leads to it, or when a filter hides where the mail is: a domain is not told to those it has nothing to
//! do with.

use futures::future::join_all;
use serde::Deserialize;
use url::Url;

use super::signals::{Asking, Heard};
use crate::model::evidence::{Grade, Outcome, Signal};
use crate::model::failure::Failure;
use crate::model::provider::{Kind, Provider};
use crate::model::text::{cut, printable};
use crate::net::http::{Method, ask as ask_web, shown};

const SIGNAL: Signal = Signal::Tenant;

/// The part of the configuration that is read.
#[derive(Deserialize)]
struct Configuration {
    issuer: String,
    token_endpoint: String,
}

/// Asks those that something leads to.
pub(super) async fn ask(asking: Asking<'_>, providers: &[&Provider]) -> Heard {
    let leads_to = |kinds: &[Kind]| providers.iter().any(|provider| kinds.contains(&provider.kind));
    let domain = &asking.request.domain;
    let mut asked = Vec::new();
    if leads_to(&[Kind::Microsoft, Kind::Gateway]) {
        let url = format!("https://login.microsoftonline.com/{domain}/v2.0/.well-known/openid-configuration");
        asked.extend(Url::parse(&url).ok().map(|url| ("Microsoft", url)));
    }
    if leads_to(&[Kind::Google]) {
        let url = "https://accounts.google.com/.well-known/openid-configuration";
        asked.extend(Url::parse(url).ok().map(|url| ("Google", url)));
    }
    let mut heard = Heard::default();
    for answered in join_all(asked.into_iter().map(|(who, url)| ask_one(asking, who, url))).await {
        heard.add(answered);
    }
    heard
}

async fn ask_one(asking: Asking<'_>, who: &str, url: Url) -> Heard {
    let mut heard = Heard::default();
    let domain = &asking.request.domain;
    let answer = ask_web(asking.network, &asking.request.trust, &url, &Method::Look).await;
    let at = asking.clock.now();
    let answer = match answer {
        Err(why) => {
            heard.unanswered(SIGNAL, Grade::C, at, &url, why);
            return heard;
        }
        Ok(answer) => answer,
    };
    let read = || serde_json::from_str::<Configuration>(answer.text().ok()?).ok();
    match (answer.status, read()) {
        (200, Some(found)) => {
            let statement = find_tenant(&found).map_or_else(
                || {
                    let tokens = cut(&printable(&found.token_endpoint), 200);
                    format!("{who} hands out tokens at {tokens}")
                },
                |tenant| format!("{domain} is a domain of the {who} tenant {tenant}"),
            );
            heard.quote(SIGNAL, Grade::C, at, statement, &format!("issuer {}", found.issuer));
        }
        // Microsoft says 400 with AADSTS90002 to a domain that it does not know.
        (400, _) => {
            let statement = format!("{who} knows no tenant of {domain}");
            heard.note(SIGNAL, Grade::C, at, Outcome::NotOffered, statement);
        }
        (status, _) => {
            let failure = Failure::protocol(format!("answers {status} with what is no OpenID configuration"));
            heard.fail(SIGNAL, Grade::C, at, &format!("OpenID {}", shown(&url)), failure);
        }
    }
    heard
}

/// The tenant's number, which is in the issuer's path.
fn find_tenant(found: &Configuration) -> Option<String> {
    let issuer = Url::parse(&found.issuer).ok()?;
    let first = issuer.path_segments()?.next()?.to_owned();
    let is_number = first.len() == 36 && first.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    is_number.then_some(first)
}
