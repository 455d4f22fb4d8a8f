//! Numbers that nobody can guess, from the system.

use rustls::crypto::ring::default_provider;

use super::failure::{Failure, Result};

/// So many random bytes.
///
/// # Errors
/// [`super::failure::Class::Internal`] when the system gives no random numbers.
pub fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    default_provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| Failure::internal("the system gives no random numbers"))?;
    Ok(bytes)
}
