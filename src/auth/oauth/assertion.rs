//! Signed assertions: JSON Web Tokens (RFC 7519) by which an application or a service account proves who it is (RFC 7523).

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::SignatureScheme;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::sign::SigningKey;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::model::failure::{Failure, Result};
use crate::model::random::random;
use crate::model::secret::Secret;

/// How an assertion is signed (RFC 7518 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// RSA with PKCS #1 padding: what every server takes.
    Rs256,
    /// RSA with PSS padding: what Microsoft asks for.
    Ps256,
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
        }
    }

    fn scheme(self) -> SignatureScheme {
        match self {
            Self::Rs256 => SignatureScheme::RSA_PKCS1_SHA256,
            Self::Ps256 => SignatureScheme::RSA_PSS_SHA256,
        }
    }
}

/// Signs claims. `header` holds what names the key, beside the algorithm.
///
/// # Errors
/// [`crate::model::failure::Class::Configuration`] when the key cannot be read or is not an RSA key.
pub(super) fn sign(key: &Secret, algorithm: Algorithm, header: Value, claims: &Value) -> Result<Secret> {
    let mut header = header;
    header["alg"] = json!(algorithm.name());
    header["typ"] = json!("JWT");
    let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let text = format!("{}.{}", encode(&header), encode(claims));
    let signer = read_key(key)?
        .choose_scheme(&[algorithm.scheme()])
        .ok_or_else(|| unreadable("is no RSA key, which assertions are signed with"))?;
    let signature = signer
        .sign(text.as_bytes())
        .map_err(|e| Failure::internal("an assertion cannot be signed").caused_by(&e))?;
    Ok(Secret::new(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))))
}

fn read_key(key: &Secret) -> Result<Arc<dyn SigningKey>> {
    let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes())
        .map_err(|_| unreadable("cannot be read as a PEM file"))?;
    any_supported_type(&key).map_err(|_| unreadable("is of a kind that is not supported"))
}

/// The name of a certificate in a header: the SHA-256 of its bytes (`x5t#S256`, RFC 7515 §4.1.8).
///
/// # Errors
/// [`crate::model::failure::Class::Configuration`] when the text holds no certificate.
pub(super) fn thumbprint(certificate: &str) -> Result<String> {
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(|_| {
        Failure::configuration("the certificate of the application cannot be read as a PEM file")
            .hint("clientCertificate must begin with -----BEGIN CERTIFICATE-----")
    })?;
    Ok(URL_SAFE_NO_PAD.encode(Sha256::digest(&certificate)))
}

/// A number that was never used before, for `jti`.
///
/// # Errors
/// [`crate::model::failure::Class::Internal`] when the system gives no random numbers.
pub(super) fn unique() -> Result<String> {
    Ok(URL_SAFE_NO_PAD.encode(random::<16>()?))
}

/// No message repeats anything of a key.
fn unreadable(what: &str) -> Failure {
    Failure::configuration(format!("the private key {what}"))
        .hint("give an RSA key as PEM, beginning with -----BEGIN PRIVATE KEY----- (PKCS #8)")
}
