//! Secrets that cannot be shown: `Debug` and `Display` print `[hidden]`, there is no `Serialize`, and the memory is
//! wiped when the value goes.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

/// A password, a token, or anything else that must stay out of logs, status, reports, argv and environment.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Takes over a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(SecretString::from(text.into()))
    }

    /// The secret itself; call it only where it goes onto an authenticated, encrypted wire.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// A short salted digest that tells whether a credential is the same as before without telling what it is.
    pub fn version(&self, salt: &[u8; 32]) -> String {
        blake3::keyed_hash(salt, self.expose().as_bytes()).to_hex()[..16].to_owned()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_shown() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?} {secret}"), "[hidden] [hidden]");
        assert_ne!(secret.version(&[0; 32]), secret.version(&[1; 32]), "the salt matters");
    }
}
