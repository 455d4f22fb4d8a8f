//! Documents in ConfigMaps: JSON, compressed, because an object may not be larger than a megabyte.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::model::failure::{Failure, Result};

/// The most that one ConfigMap is given, in bytes; Kubernetes takes 1 MiB with everything around it.
pub const PART_MAX: usize = 900 * 1024;
/// The most that a document may become when it is unpacked, in bytes: no peer of ours writes more.
const UNPACKED_MAX: u64 = 512 * 1024 * 1024;

/// Packs a value.
///
/// # Errors
/// [`crate::model::failure::Class::Internal`] when it is no JSON.
pub fn pack(value: &impl Serialize) -> Result<Vec<u8>> {
    let broken =
        |e: &(dyn std::error::Error + 'static)| Failure::internal("a document cannot be packed").caused_by(e);
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    serde_json::to_writer(&mut packed, value).map_err(|e| broken(&e))?;
    packed.flush().map_err(|e| broken(&e))?;
    packed.finish().map_err(|e| broken(&e))
}

/// Unpacks a value. `what` names it: "the results of contoso-anna-7f3a".
///
/// # Errors
/// [`crate::model::failure::Class::Internal`] when it is damaged.
pub fn unpack<T: DeserializeOwned>(what: &str, packed: &[u8]) -> Result<T> {
    let broken =
        |e: &(dyn std::error::Error + 'static)| Failure::internal(format!("{what}: is damaged")).caused_by(e);
    let mut json = Vec::new();
    GzDecoder::new(packed).take(UNPACKED_MAX).read_to_end(&mut json).map_err(|e| broken(&e))?;
    serde_json::from_slice(&json).map_err(|e| broken(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_packed_is_unpacked_and_damage_is_seen() {
        let value: Vec<String> = (0..1000).map(|n| format!("user{n}@a.test")).collect();
        let mut packed = pack(&value).unwrap();
        assert!(packed.len() < 6000, "{}", packed.len());
        assert_eq!(unpack::<Vec<String>>("it", &packed).unwrap(), value);
        packed.truncate(packed.len() / 2);
        assert!(unpack::<Vec<String>>("it", &packed).is_err());
    }
}
