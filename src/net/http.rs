//! Small questions over HTTP(S): only vetted addresses are connected to, redirects are followed by hand, a host is asked
//! as often at once as the policy allows, and what comes is bounded. A form alone may carry a credential.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{HeaderMap, HeaderName};
use reqwest::redirect::Policy;
use reqwest::{Client, NoProxy, Response, header};
use url::{Host, Url};

use crate::model::failure::{Class, Failure, Result};
use crate::model::secret::Secret;
use crate::model::text::{cut, printable};
use crate::net::network::Network;
use crate::net::tls::Trust;

/// How long one answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The most redirects that are followed.
const REDIRECTS_MAX: usize = 5;
/// The largest document, in bytes.
const BODY_MAX: usize = 256 * 1024;
/// The longest header that is shown, in bytes.
const HEADER_MAX: usize = 200;

/// The kind of a request.
#[derive(Debug, Clone)]
pub(crate) enum Method {
    /// A document, wherever redirects lead.
    Get,
    /// The answer of this very place: a redirect is an answer.
    Look,
    /// The abilities of a `WebDAV` server, wherever redirects lead.
    Options,
    /// The answer to a text in XML, of this very place.
    Post(String),
    /// The answer to a form, of this very place. It alone may hold a secret: whoever sends one asks over HTTPS.
    Form(Vec<(&'static str, Secret)>),
}

/// The answer to a request.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Where it came from in the end.
    pub(crate) url: Url,
    /// The HTTP status.
    pub(crate) status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    /// The text of the body.
    ///
    /// # Errors
    /// [`Class::Protocol`] when it is not UTF-8.
    pub(crate) fn text(&self) -> Result<&str> {
        std::str::from_utf8(&self.body)
            .map_err(|e| Failure::protocol("answers with what is not UTF-8").caused_by(&e))
    }

    /// A header, made printable and cut.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let value = self.headers.get(name)?;
        Some(cut(&printable(&String::from_utf8_lossy(value.as_bytes())), HEADER_MAX))
    }

    /// Where a redirect leads.
    pub(crate) fn location(&self) -> Option<Url> {
        self.url.join(self.headers.get(header::LOCATION)?.to_str().ok()?).ok()
    }

    /// Whether any cookie's name begins so.
    pub(crate) fn sets_cookie(&self, start: &str) -> bool {
        self.headers
            .get_all(header::SET_COOKIE)
            .iter()
            .any(|value| value.as_bytes().starts_with(start.as_bytes()))
    }

    /// The ways to log in that a 401 offers, in their order: `Negotiate`, `NTLM`, `Basic`; at most 5.
    pub(crate) fn challenges(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for value in
            self.headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok())
        {
            let name: String = value.chars().take_while(char::is_ascii_alphanumeric).take(20).collect();
            if self.status == 401 && !name.is_empty() && !names.contains(&name) && names.len() < 5 {
                names.push(name);
            }
        }
        names
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) struct NoAnswer {
    pub(crate) failure: Failure,
    /// The place that a redirect led to and that may not be connected to.
    pub(crate) refused: Option<Url>,
}

impl From<Failure> for NoAnswer {
    fn from(failure: Failure) -> Self {
        Self { failure, refused: None }
    }
}

/// The addresses of one host that were vetted; no other name is looked up.
struct Vetted {
    host: String,
    addresses: Vec<IpAddr>,
    /// The host of the proxy, which an installation names and nobody vets.
    proxy: Option<String>,
}

impl Resolve for Vetted {
    fn resolve(&self, name: Name) -> Resolving {
        if self.proxy.as_deref().is_some_and(|proxy| name.as_str().eq_ignore_ascii_case(proxy)) {
            return Box::pin(async move {
                let found: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
                Ok(Box::new(found.into_iter()) as Addrs)
            });
        }
        let known = name.as_str().eq_ignore_ascii_case(&self.host);
        let addresses = if known { self.addresses.clone() } else { Vec::new() };
        let addresses: Addrs = Box::new(addresses.into_iter().map(|ip| SocketAddr::new(ip, 0)));
        Box::pin(async move { Ok(addresses) })
    }
}

/// A proxy by which an installation lets HTTPS go out: tokens, and what domains publish. Mail never goes through it.
#[derive(Debug, Clone)]
pub(crate) struct Proxy {
    address: Url,
    direct: Option<NoProxy>,
}

impl Proxy {
    /// A proxy at `address`, but for what `direct` lists as `NO_PROXY` does.
    ///
    /// # Errors
    /// [`Class::Configuration`] when the address is not a URL.
    pub(crate) fn new(address: &str, direct: &str) -> Result<Self> {
        let address = Url::parse(address).map_err(|e| {
            Failure::configuration("HTTPS_PROXY is no URL")
                .hint("as in http://proxy.example:3128")
                .caused_by(&e)
        })?;
        Ok(Self { address, direct: NoProxy::from_string(direct) })
    }
}

/// Fetches a document: where it came from in the end, and its text.
///
/// # Errors
/// As [`ask`]; [`Class::Unreachable`] when nothing is there.
pub(crate) async fn fetch(network: &Network, trust: &Trust, url: &Url) -> Result<(Url, String), NoAnswer> {
    let answer = ask(network, trust, url, &Method::Get).await?;
    if !(200..300).contains(&answer.status) {
        return Err(Failure::new(Class::Unreachable, format!("answers {}", answer.status)).into());
    }
    let text = answer.text()?.to_owned();
    Ok((answer.url, text))
}

/// Asks one place, and where the method says so the places that it redirects to; any status is an answer.
///
/// # Errors
/// [`Class::Unreachable`] when nobody is there, [`Class::Tls`] when a certificate is refused, [`Class::Refused`] when
/// an address is not allowed, [`Class::Protocol`] when the answer is not what it should be.
pub(crate) async fn ask(
    network: &Network,
    trust: &Trust,
    url: &Url,
    method: &Method,
) -> Result<Answer, NoAnswer> {
    let mut url = url.clone();
    let mut redirected = false;
    for _ in 0..=REDIRECTS_MAX {
        let response = send(network, trust, &url, method).await.map_err(|failure| {
            let inside = redirected && failure.class == Class::Refused;
            let refused = inside.then(|| url.clone());
            let failure = if inside {
                Failure { what: format!("redirects to {}: {}", shown(&url), failure.what), ..failure }
            } else {
                failure
            };
            NoAnswer { failure, refused }
        })?;
        let status = response.status();
        let follows = matches!(method, Method::Get | Method::Options);
        if !(follows && status.is_redirection()) {
            let headers = response.headers().clone();
            let body = read_body(response, status.is_success()).await?;
            return Ok(Answer { url, status: status.as_u16(), headers, body });
        }
        let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
        let next = location.and_then(|location| url.join(location).ok());
        let next = next.ok_or_else(|| Failure::protocol("redirects to nowhere"))?;
        let fit = next.scheme() == "https" || (url.scheme() == "http" && next.scheme() == "http");
        if !fit {
            return Err(
                Failure::new(Class::Refused, "redirects away from HTTPS, which is not followed").into()
            );
        }
        // A request that began in the clear proves nothing, wherever it ends.
        if url.scheme() == "http" && next.scheme() == "https" {
            return Err(Failure::new(Class::Refused, "redirects to HTTPS, which was asked already").into());
        }
        url = next;
        redirected = true;
    }
    Err(Failure::protocol(format!("redirects more than {REDIRECTS_MAX} times")).into())
}

/// A URL without what it was asked with: an address in it is nobody's business.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    cut(&printable(url.as_str()), HEADER_MAX)
}

async fn send(network: &Network, trust: &Trust, url: &Url, method: &Method) -> Result<Response> {
    let host = match url.host() {
        Some(Host::Domain(name)) => name.to_owned(),
        Some(Host::Ipv4(address)) => address.to_string(),
        Some(Host::Ipv6(address)) => address.to_string(),
        None => return Err(Failure::protocol("names no host")),
    };
    // An address in the URL is not looked up, so it is vetted here.
    let proxy = network.proxy();
    let addresses = match network.resolve(&host).await {
        // Behind a proxy names of the outside are often not known; those of the inside are refused all the same.
        Err(failure) if proxy.is_some() && failure.class == Class::Unreachable => Vec::new(),
        found => found?,
    };
    let _slot = network.request_slot(&host).await?;
    let mut tls = rustls::ClientConfig::clone(trust.config());
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut client = Client::builder().no_proxy();
    if let Some(proxy) = proxy {
        let through = reqwest::Proxy::https(proxy.address.clone())
            .map_err(|e| Failure::internal("the proxy cannot be used").caused_by(&e))?;
        client = client.proxy(through.no_proxy(proxy.direct.clone()));
    }
    let proxy = proxy.and_then(|proxy| proxy.address.host_str().map(str::to_owned));
    let client = client
        .tls_backend_preconfigured(tls)
        .dns_resolver(Vetted { host, addresses, proxy })
        .redirect(Policy::none())
        .timeout(TIMEOUT)
        .user_agent(concat!("mailferry/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|e| Failure::internal("the HTTP client cannot be set up").caused_by(&e))?;
    let request = match method {
        Method::Get | Method::Look => client.get(url.clone()),
        Method::Options => client.request(reqwest::Method::OPTIONS, url.clone()),
        Method::Post(text) => client
            .post(url.clone())
            .header(header::CONTENT_TYPE, "text/xml; charset=utf-8")
            .body(text.clone()),
        Method::Form(fields) => {
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            for (name, value) in fields {
                form.append_pair(name, value.expose());
            }
            client
                .post(url.clone())
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form.finish())
        }
    };
    let (accept, kinds): (HeaderName, _) =
        (header::ACCEPT, "application/xml, text/xml, application/json, */*;q=0.1");
    request.header(accept, kinds).send().await.map_err(|e| explain(&e.without_url()))
}

/// Reads a whole document, or the beginning of a body that is not a document.
async fn read_body(mut response: Response, is_document: bool) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| explain(&e.without_url()))? {
        if body.len() + chunk.len() > BODY_MAX {
            if !is_document {
                return Ok(body);
            }
            return Err(Failure::protocol(format!("answers with more than {} KiB", BODY_MAX / 1024)));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_token_can_be_asked_for_while_sessions_of_mail_hold_all_places_at_the_host() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("https://{}/", listener.local_addr().unwrap())).unwrap();
        let network = Network::new(None, vec!["127.0.0.0/8".parse().unwrap()], 1).unwrap();
        let _session = network.slot("127.0.0.1").await.unwrap();
        let trust = Trust::with_authorities(&[]).unwrap();
        let closes = async { drop(listener.accept().await) };
        let asks = tokio::time::timeout(Duration::from_secs(5), fetch(&network, &trust, &url));
        let (answer, ()) = tokio::join!(asks, closes);
        assert!(answer.is_ok_and(|answer| answer.is_err()), "the server that closes at once was asked");
    }

    #[tokio::test]
    async fn https_goes_by_the_proxy_that_an_installation_names_and_never_to_an_address_inside() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let network = Network::new(Some(silent.local_addr().unwrap()), Vec::new(), 8).unwrap();
        // A name server that knows nothing of the outside, as behind a proxy.
        let network = network.in_a_hurry(Duration::from_millis(50));
        let network = network.through(Some(Proxy::new(&address, "direct.test").unwrap()));
        let asked = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 512];
            let length = stream.read(&mut head).await.unwrap();
            stream.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n").await.unwrap();
            String::from_utf8_lossy(&head[..length]).into_owned()
        });
        let trust = Trust::with_authorities(&[]).unwrap();
        let ask = async |url: &str| fetch(&network, &trust, &Url::parse(url).unwrap()).await.is_err();
        assert!(ask("https://127.0.0.1/").await, "inside");
        assert!(ask("https://direct.test/").await, "it has no address");
        assert!(!asked.is_finished(), "neither was asked of the proxy");
        assert!(ask("https://published.test/").await);
        assert!(asked.await.unwrap().starts_with("CONNECT published.test:443 "));
    }
}
