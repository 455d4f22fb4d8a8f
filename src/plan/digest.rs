//! The plan's digest: it changes when anything changes that decides what would be done, and only then.

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::observed::Observed;
use crate::api::MailMigrationSpec;

#[derive(Serialize)]
struct Plan<'a> {
    destination: String,
    mapping: &'a Option<crate::api::mapping::Mapping>,
    max_message_bytes: Option<u64>,
    since: Option<String>,
    mailboxes: Vec<(String, String, Option<String>)>,
}

/// Digest of what would be done: the destination, each mailbox with the protocol and server it is read by, and the rules
/// that leave messages out. The pace, credentials and order do not matter.
pub fn digest(spec: &MailMigrationSpec, observed: &Observed) -> String {
    let mut mailboxes: Vec<(String, String, Option<String>)> = observed
        .domains
        .values()
        .flat_map(|domain| {
            domain.planned().iter().map(move |planned| {
                let endpoint =
                    domain.find(&planned.source).and_then(|m| m.endpoint.as_ref()).map(ToString::to_string);
                (planned.source.to_string(), planned.destination.to_string(), endpoint)
            })
        })
        .collect();
    mailboxes.sort();
    let plan = Plan {
        destination: spec.destination.endpoint().to_string(),
        mapping: &spec.mapping,
        max_message_bytes: spec.policy.max_message_bytes,
        since: spec.policy.since.as_ref().map(ToString::to_string),
        mailboxes,
    };
    let json = serde_json::to_vec(&plan).unwrap_or_default();
    let hex = Sha256::digest(&json).iter().fold(String::with_capacity(64), |mut hex, byte| {
        use std::fmt::Write;
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    format!("sha256:{hex}")
}
