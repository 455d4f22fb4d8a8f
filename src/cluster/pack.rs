//! Documents in ConfigMaps: JSON, compressed, because an object may not be larger than a megabyte. Everybody who may
//! edit ConfigMaps in a namespace may write there, so all of them are read as the untrusted input that they are: a
//! document is measured before it is read, and one that is larger than any of ours is refused.

use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::model::failure::{Failure, Result};

/// The most that one ConfigMap is given, in bytes; Kubernetes takes 1 MiB with everything around it.
pub const PART_MAX: usize = 900 * 1024;
/// The most that what discovery saw of a domain may become, in bytes: 16,000 mailboxes of which each was refused twice take
/// half of it.
pub const DISCOVERY_MAX: u64 = 32 * 1024 * 1024;
/// The most that a work list may become, in bytes: 5,000 mailboxes of a list of 10,000 take two thirds of it.
pub const WORK_MAX: u64 = 8 * 1024 * 1024;
/// The most that what became of one mailbox may become, in bytes: 500 messages with long names take a third of it.
pub const MAILBOX_MAX: u64 = 1024 * 1024;
/// How many times its packed size a document may be: ours are repetitive lists, and the longest of them is 60 times as long.
/// The format allows 1,032.
const RATIO_MAX: u64 = 200;
/// Below this size nobody is asked for the ratio, in bytes.
const RATIO_FREE: u64 = 256 * 1024;

/// Packs a value.
///
/// # Errors
/// [`crate::model::failure::Class::Internal`] when it is not JSON.
pub fn pack(value: &impl Serialize) -> Result<Vec<u8>> {
    let broken =
        |e: &(dyn std::error::Error + 'static)| Failure::internal("a document cannot be packed").caused_by(e);
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    serde_json::to_writer(&mut packed, value).map_err(|e| broken(&e))?;
    packed.flush().map_err(|e| broken(&e))?;
    packed.finish().map_err(|e| broken(&e))
}

/// Measures a document without keeping it: its size when it is unpacked, in bytes. `what` names it: "the results of
/// contoso-anna-7f3a".
///
/// # Errors
/// [`crate::model::failure::Class::Internal`] when it is damaged, larger than `most` bytes, or packed as no document of ours is.
pub fn measure(what: &str, packed: &[u8], most: u64) -> Result<u64> {
    let ratio = RATIO_MAX.saturating_mul(packed.len() as u64).max(RATIO_FREE);
    let bound = most.min(ratio);
    let mut document = GzDecoder::new(packed).take(bound + 1);
    let size = io::copy(&mut document, &mut io::sink()).map_err(|_| damaged(what))?;
    if size <= bound {
        return Ok(size);
    }
    let why = if bound == most {
        format!("is larger than {most} bytes")
    } else {
        format!("becomes more than {RATIO_MAX} times its size")
    };
    Err(Failure::internal(format!("{what}: {why}, as nothing that a worker writes; it is not read"))
        .hint("whoever may edit ConfigMaps in this namespace may have written it; delete it, and a worker writes it anew"))
}

/// Unpacks a value of at most `most` bytes. It is read as it comes; its text is never in memory as a whole.
///
/// # Errors
/// As [`measure`].
pub fn unpack<T: DeserializeOwned>(what: &str, packed: &[u8], most: u64) -> Result<T> {
    let size = measure(what, packed, most)?;
    let document = io::BufReader::new(GzDecoder::new(packed).take(size));
    serde_json::from_reader(document).map_err(|_| damaged(what))
}

/// A document that cannot be read. Its content is never repeated: it may be anything.
fn damaged(what: &str) -> Failure {
    Failure::internal(format!("{what}: is damaged")).hint("delete it, and a worker writes it anew")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_packed_is_unpacked_and_damage_is_seen() {
        let value: Vec<String> = (0..1000).map(|n| format!("user{n}@a.test")).collect();
        let mut packed = pack(&value).unwrap();
        assert!(packed.len() < 6000, "{}", packed.len());
        assert_eq!(unpack::<Vec<String>>("it", &packed, WORK_MAX).unwrap(), value);
        packed.truncate(packed.len() / 2);
        assert!(unpack::<Vec<String>>("it", &packed, WORK_MAX).is_err());
    }

    #[test]
    fn a_document_that_swells_is_refused_by_its_size_and_by_its_ratio() {
        let blanks = |size: u64| {
            let mut packed = GzEncoder::new(Vec::new(), Compression::best());
            io::copy(&mut io::repeat(b' ').take(size), &mut packed).unwrap();
            packed.finish().unwrap()
        };
        let swollen = blanks(1024 * 1024);
        assert!(swollen.len() < 2_000, "{}", swollen.len());
        let refused = measure("it", &swollen, 200_000).unwrap_err();
        assert!(refused.what.contains("larger than 200000 bytes"), "{refused}");
        let refused = measure("it", &swollen, DISCOVERY_MAX).unwrap_err();
        assert!(refused.what.contains("200 times"), "{refused}");
        assert_eq!(measure("it", &swollen[..], RATIO_FREE).unwrap_err().class, refused.class);
        // The longest of ours: thousands of mailboxes that all failed alike.
        let alike: Vec<String> = (0..5_000)
            .map(|n| format!("user{n}@a.test: imap.a.test:993: the server refused the password of this mailbox, as it did before"))
            .collect();
        let packed = pack(&alike).unwrap();
        let size = measure("it", &packed, DISCOVERY_MAX).unwrap();
        assert!(size / (packed.len() as u64) < RATIO_MAX / 3, "{size} of {}", packed.len());
    }
}
