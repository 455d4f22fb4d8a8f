//! One TLS policy for every protocol: rustls with ring, TLS 1.2 or newer, certificates validated against the system's
//! authorities and those that the manifest adds. There is no way to switch the validation off.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};
use rustls::{
    CertificateError as E, ClientConfig, ConfigBuilder, HandshakeKind, ProtocolVersion, RootCertStore,
    WantsVerifier,
};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::model::evidence::TlsFacts;
use crate::model::failure::{Class, Failure, FailureCode, Result};
use crate::model::text::{hexadecimal, printable};

/// The most names of a certificate that are kept.
const NAMES_MAX: usize = 20;

/// The authorities that a server's certificate may come from, and where the manifest says so.
#[derive(Debug, Clone)]
pub struct Trust {
    authorities: Arc<Authorities>,
    /// The fields of the server's host and of its authority, for those who must correct them.
    fields: Option<Arc<[String; 2]>>,
}

#[derive(Debug)]
struct Authorities {
    builder: ConfigBuilder<ClientConfig, WantsVerifier>,
    /// Those that were added to the system's.
    added: RootCertStore,
    /// Which these are.
    digest: Option<String>,
    /// Made at the first handshake: reading the system's authorities takes longer than a pass that finds nothing to do.
    config: OnceLock<Arc<ClientConfig>>,
}

/// One [`Trust`] for each set of authorities, whoever asks: sessions that share it take up each other's TLS sessions, which
/// saves a turn and the certificates (RFC 8446 §2.2).
#[derive(Debug, Default)]
pub struct Trusts(Mutex<HashMap<Vec<String>, Trust>>);

impl Trusts {
    /// As [`Trust::with_authorities`].
    ///
    /// # Errors
    /// As [`Trust::with_authorities`].
    pub fn with_authorities(&self, pems: &[String]) -> Result<Trust> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(trust) = known.get(pems) {
            return Ok(trust.clone());
        }
        let trust = Trust::with_authorities(pems)?;
        known.insert(pems.to_vec(), trust.clone());
        Ok(trust)
    }
}

impl Trust {
    /// The system's authorities and, beside them, those in PEM texts (each may hold several; an empty one adds none).
    ///
    /// # Errors
    /// [`Class::Configuration`] when a text that is not empty holds no certificate.
    pub fn with_authorities(pems: &[String]) -> Result<Self> {
        let mut added = RootCertStore::empty();
        let mut distinct = BTreeSet::new();
        for pem in pems.iter().filter(|pem| !pem.trim().is_empty()) {
            let mut found = 0;
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let certificate = certificate.map_err(|e| unreadable_authority().caused_by(&e))?;
                distinct.insert(certificate.to_vec());
                added.add(certificate).map_err(|e| unreadable_authority().caused_by(&e))?;
                found += 1;
            }
            if found == 0 {
                return Err(unreadable_authority());
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| Failure::internal("TLS cannot be set up").caused_by(&e))?;
        Ok(Self {
            authorities: Arc::new(Authorities {
                builder,
                added,
                digest: digest_of(&distinct),
                config: OnceLock::new(),
            }),
            fields: None,
        })
    }

    /// The digest of the authorities trusted beside the system's, whatever texts they come from: `sha256:` and 64
    /// hexadecimal digits. `None` where there are none.
    pub fn digest(&self) -> Option<&str> {
        self.authorities.digest.as_deref()
    }

    /// The same for a server whose host and authority stand in these fields of the manifest.
    #[must_use]
    pub fn for_server(self, host: String, authority: String) -> Self {
        Self { fields: Some(Arc::new([host, authority])), ..self }
    }

    /// The rustls configuration, for clients that bring their own transport.
    pub fn config(&self) -> &Arc<ClientConfig> {
        let Authorities { builder, added, config, .. } = &*self.authorities;
        config.get_or_init(|| {
            let mut roots = system_roots().clone();
            roots.extend(added.roots.iter().cloned());
            Arc::new(builder.clone().with_root_certificates(roots).with_no_client_auth())
        })
    }

    /// Shakes hands on a fresh connection. No byte of a credential may be sent before this returns.
    ///
    /// # Errors
    /// [`Class::Tls`] with a plain reason when the certificate or the version is refused.
    pub async fn handshake(&self, stream: TcpStream, host: &str) -> Result<(TlsStream<TcpStream>, TlsFacts)> {
        let name = ServerName::try_from(host.to_owned()).map_err(|e| {
            Failure::new(Class::Tls, format!("\"{}\" is no name for a certificate", printable(host)))
                .caused_by(&e)
        })?;
        let stream = TlsConnector::from(Arc::clone(self.config()))
            .connect(name, stream)
            .await
            .map_err(|error| explain_handshake(&error, self.fields.as_deref()))?;
        let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
        tracing::debug!(host = %printable(host), resumed, "TLS is up");
        let facts = read_facts(&stream);
        Ok((stream, facts))
    }
}

/// Each certificate with its length before it, so that no two sets read the same.
fn digest_of(certificates: &BTreeSet<Vec<u8>>) -> Option<String> {
    let mut digest = Sha256::new();
    for certificate in certificates {
        digest.update((certificate.len() as u64).to_be_bytes());
        digest.update(certificate);
    }
    (!certificates.is_empty()).then(|| format!("sha256:{}", hexadecimal(&digest.finalize())))
}

fn unreadable_authority() -> Failure {
    Failure::configuration("the certificate authority (caRef, --ca) holds no readable PEM certificate")
        .hint("give a file with -----BEGIN CERTIFICATE----- blocks")
}

fn system_roots() -> &'static RootCertStore {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        // A machine without installed authorities can still reach servers whose authority the manifest names.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots
    })
}

fn explain_handshake(error: &std::io::Error, fields: Option<&[String; 2]>) -> Failure {
    let Some(tls) = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) else {
        return Failure::new(Class::Unreachable, "the connection broke during the TLS handshake")
            .caused_by(error);
    };
    if matches!(tls, rustls::Error::InvalidMessage(_)) {
        // A mail server that does not wait for TLS greets at once, which is not a record of TLS.
        return Failure::new(Class::Tls, "speaks in clear at first on this port, and TLS was wanted from the first byte")
            .code(FailureCode::SpeaksInClear)
            .hint("no password was sent; write tls: StartTLS for this port, or give the port that speaks TLS (993 for IMAP, 995 for POP3)")
            .caused_by(error);
    }
    let rustls::Error::InvalidCertificate(reason) = tls else {
        return Failure::new(
            Class::Tls,
            format!("the TLS handshake failed: {}", printable(&tls.to_string())),
        )
        .hint("no password was sent; the server must speak TLS 1.2 or newer on this port")
        .caused_by(error);
    };
    let host = fields.map_or("its host", |[host, _]| host.as_str());
    let authority = fields.map_or("caRef", |[_, authority]| authority.as_str());
    let (why, hint) = match reason {
        E::Expired => ("it has expired".to_owned(), RENEW.to_owned()),
        E::ExpiredContext { time, not_after } => {
            let until = moment(*not_after);
            (format!("it has expired, at {until}; {}", clock_says(*time)), RENEW.to_owned())
        }
        E::NotValidYet => ("it is not valid yet".to_owned(), CLOCK.to_owned()),
        E::NotValidYetContext { time, not_before } => {
            let from = moment(*not_before);
            (format!("it is not valid yet, but from {from} on; {}", clock_says(*time)), CLOCK.to_owned())
        }
        E::NotValidForNameContext { expected, presented } => {
            let names: Vec<_> =
                presented.iter().take(5).map(|n| format!("\"{}\"", certificate_name(n))).collect();
            (
                format!("it is for {}, not \"{}\"", names.join(", "), expected.to_str()),
                format!("if the server is right, set {host} to a name that is on the certificate"),
            )
        }
        // The second is what an authority looks like that has the name of a known one and another key.
        E::UnknownIssuer | E::BadSignature => (
            "its authority is not known here".to_owned(),
            format!("if the authority is a private one, give its certificate in {authority} or --ca"),
        ),
        E::Revoked => ("it was revoked".to_owned(), "have it replaced".to_owned()),
        other => (printable(&format!("{other:?}")), "have it replaced".to_owned()),
    };
    Failure::new(Class::Tls, format!("refused the certificate: {why}"))
        .hint(format!("no password was sent; {hint}"))
        .caused_by(error)
}

/// The remedy for a certificate that has expired.
const RENEW: &str = "have it renewed; if this machine's clock is wrong, set it";
/// The remedy for a certificate whose time has not come.
const CLOCK: &str = "if this machine's clock is wrong, set it, else have the certificate replaced";

fn moment(at: UnixTime) -> String {
    let at = i64::try_from(at.as_secs()).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    at.unwrap_or(Timestamp::MAX).strftime("%Y-%m-%d %H:%M UTC").to_string()
}

fn clock_says(now: UnixTime) -> String {
    format!("this machine's clock says {}", moment(now))
}

/// rustls presents names as `DnsName("mail.example")`.
fn certificate_name(presented: &str) -> String {
    let inner = presented.split('"').nth(1).unwrap_or(presented);
    printable(inner)
}

fn read_facts(stream: &TlsStream<TcpStream>) -> TlsFacts {
    let (_, session) = stream.get_ref();
    let version = match session.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
        Some(ProtocolVersion::TLSv1_2) => "TLS 1.2",
        _ => "TLS",
    };
    let mut facts = TlsFacts {
        version: version.to_owned(),
        names: Vec::new(),
        issuer: String::new(),
        not_after: Timestamp::UNIX_EPOCH,
    };
    let leaf = session.peer_certificates().and_then(<[_]>::first);
    if let Some((_, certificate)) = leaf.and_then(|der| x509_parser::parse_x509_certificate(der).ok()) {
        facts.issuer = printable(&certificate.issuer().to_string());
        facts.not_after = Timestamp::from_second(certificate.validity().not_after.timestamp())
            .unwrap_or(Timestamp::UNIX_EPOCH);
        if let Ok(Some(names)) = certificate.subject_alternative_name() {
            facts.names = names
                .value
                .general_names
                .iter()
                .filter_map(|name| match name {
                    x509_parser::extensions::GeneralName::DNSName(dns) => Some(printable(dns)),
                    _ => None,
                })
                .take(NAMES_MAX)
                .collect();
        }
    }
    facts
}
/// The names on a certificate that was refused since it is for others, as the failure says.
pub fn names_of_refused(failure: &Failure) -> Vec<&str> {
    let said = failure.what.split_once("refused the certificate: it is for ").map_or("", |(_, said)| said);
    let presented = said.rsplit_once(", not ").map_or("", |(presented, _)| presented);
    presented.split('"').skip(1).step_by(2).collect()
}
