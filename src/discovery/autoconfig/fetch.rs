//! One small document over HTTP(S): only vetted addresses are connected to, redirects are followed by hand, and what comes
//! is bounded.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, header};
use url::{Host, Url};

use crate::mail::network::Network;
use crate::mail::tls::Trust;
use crate::model::failure::{Class, Failure, Result};
use crate::model::text::printable;

/// How long one answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The most redirects that are followed.
const REDIRECTS_MAX: usize = 5;
/// The largest document, in bytes.
const BODY_MAX: usize = 256 * 1024;

/// The addresses of one host that were vetted; no other name is looked up.
struct Vetted {
    host: String,
    addresses: Vec<IpAddr>,
}

impl Resolve for Vetted {
    fn resolve(&self, name: Name) -> Resolving {
        let known = name.as_str().eq_ignore_ascii_case(&self.host);
        let addresses = if known { self.addresses.clone() } else { Vec::new() };
        let addresses: Addrs = Box::new(addresses.into_iter().map(|ip| SocketAddr::new(ip, 0)));
        Box::pin(async move { Ok(addresses) })
    }
}

/// Fetches a document: the URL it came from in the end, and its text.
///
/// # Errors
/// [`Class::Unreachable`] when nothing is there, [`Class::Tls`] when a certificate is refused, [`Class::Refused`] when
/// an address is not allowed, [`Class::Protocol`] when the answer is not what it should be.
pub(super) async fn fetch(network: &Network, trust: &Trust, url: &Url) -> Result<(Url, String)> {
    let mut url = url.clone();
    for _ in 0..=REDIRECTS_MAX {
        let response = get(network, trust, &url).await?;
        let status = response.status();
        if status.is_success() {
            return Ok((url, read_body(response).await?));
        }
        if !status.is_redirection() {
            return Err(Failure::new(Class::Unreachable, format!("answers {}", status.as_u16())));
        }
        let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
        let next = location.and_then(|location| url.join(location).ok());
        let next = next.ok_or_else(|| Failure::protocol("redirects to nowhere"))?;
        let fit = next.scheme() == "https" || (url.scheme() == "http" && next.scheme() == "http");
        if !fit {
            return Err(Failure::new(Class::Refused, "redirects away from HTTPS, which is not followed"));
        }
        // What began in the clear proves nothing, wherever it ends.
        if url.scheme() == "http" && next.scheme() == "https" {
            return Err(Failure::new(Class::Refused, "redirects to HTTPS, which was asked already"));
        }
        url = next;
    }
    Err(Failure::protocol(format!("redirects more than {REDIRECTS_MAX} times")))
}

async fn get(network: &Network, trust: &Trust, url: &Url) -> Result<Response> {
    let host = match url.host() {
        Some(Host::Domain(name)) => name.to_owned(),
        Some(Host::Ipv4(address)) => address.to_string(),
        Some(Host::Ipv6(address)) => address.to_string(),
        None => return Err(Failure::protocol("names no host")),
    };
    // An address in the URL is not looked up, so it is vetted here.
    let addresses = network.resolve(&host).await?;
    let mut tls = rustls::ClientConfig::clone(trust.config());
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let client = Client::builder()
        .tls_backend_preconfigured(tls)
        .dns_resolver(Vetted { host, addresses })
        .redirect(Policy::none())
        .no_proxy()
        .timeout(TIMEOUT)
        .build()
        .map_err(|e| Failure::internal("the HTTP client cannot be set up").caused_by(&e))?;
    let accept = "application/xml, text/xml, */*;q=0.1";
    client.get(url.clone()).header(header::ACCEPT, accept).send().await.map_err(|e| explain(&e.without_url()))
}

async fn read_body(mut response: Response) -> Result<String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| explain(&e.without_url()))? {
        if body.len() + chunk.len() > BODY_MAX {
            return Err(Failure::protocol(format!("answers with more than {} KiB", BODY_MAX / 1024)));
        }
        body.extend_from_slice(&chunk);
    }
    String::from_utf8(body).map_err(|e| Failure::protocol("answers with what is not UTF-8").caused_by(&e))
}

fn explain(error: &reqwest::Error) -> Failure {
    if let Some(tls) = find_tls(error) {
        let what = match tls {
            rustls::Error::InvalidCertificate(_) => "its certificate is refused",
            _ => "the TLS handshake fails",
        };
        return Failure::new(Class::Tls, format!("{what}: {}", printable(&tls.to_string()))).caused_by(error);
    }
    let mut innermost: &dyn std::error::Error = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    let refused = innermost
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused);
    let what = if error.is_timeout() {
        format!("does not answer within {} s", TIMEOUT.as_secs())
    } else if refused {
        "refuses connections".to_owned()
    } else {
        format!("cannot be fetched: {}", printable(&innermost.to_string()))
    };
    Failure::new(Class::Unreachable, what).caused_by(error)
}

/// The TLS error in a chain of causes. `io::Error` does not name what it wraps as its source, but the source of that.
fn find_tls<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(tls) = error.downcast_ref() {
        return Some(tls);
    }
    let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    let wrapped = wrapped.map(|inner| inner as &(dyn std::error::Error + 'static));
    find_tls(wrapped.or_else(|| error.source())?)
}
