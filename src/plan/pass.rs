//! Which pass over the mailboxes is wanted: a new one begins when somebody asks for it, or asks for something else.

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::api::MailMigrationSpec;
use crate::api::destination::Destination;
use crate::api::mapping::Mapping;
use crate::api::policy::Pilot;
use crate::api::status::PassStatus;

/// The inputs that a pass depends on. A mailbox that is added joins the pass that is going on; the pace does not
/// matter.
#[derive(Serialize)]
struct Inputs<'a> {
    trigger: Option<&'a String>,
    destination: &'a Destination,
    mapping: &'a Option<Mapping>,
    max_message_bytes: Option<u64>,
    since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pilot: Option<&'a Pilot>,
}

/// The pass that a specification wants, given the one before.
pub fn next(spec: &MailMigrationSpec, before: Option<&PassStatus>) -> PassStatus {
    let inputs = fingerprint(&Inputs {
        trigger: spec.trigger.as_ref().and_then(|t| t.sync.as_ref()).filter(|t| !t.is_empty()),
        destination: &spec.destination,
        mapping: &spec.mapping,
        max_message_bytes: spec.policy.max_message_bytes,
        since: spec.policy.since.as_ref().map(ToString::to_string),
        pilot: spec.policy.pilot.as_ref(),
    });
    match before {
        Some(before) if before.inputs == inputs => before.clone(),
        Some(before) => PassStatus { number: before.number + 1, inputs },
        None => PassStatus { number: 1, inputs },
    }
}

/// The fields that decide how much of a mailbox is counted when it is looked at.
pub fn counted_by(spec: &MailMigrationSpec) -> impl Serialize + '_ {
    let exclude = spec.mapping.as_ref().map(|mapping| &mapping.exclude).filter(|exclude| !exclude.is_empty());
    let pilot = spec.policy.pilot.as_ref().and_then(|pilot| pilot.messages_per_folder);
    (exclude, spec.policy.max_message_bytes, spec.policy.since.as_ref().map(ToString::to_string), pilot)
}

/// A short digest of a value, for telling whether it is still the same.
pub fn fingerprint(value: &impl Serialize) -> String {
    let json = serde_json::to_vec(value).unwrap_or_default();
    Sha256::digest(&json).iter().take(16).fold(String::with_capacity(32), |mut hex, byte| {
        use std::fmt::Write;
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(extra: &serde_json::Value) -> MailMigrationSpec {
        let mut value = serde_json::json!({
            "destination": {"imap": {"host": "imap.new.test", "credentialsRef": {"name": "new"}}},
            "domains": [{"name": "a.test", "credentialsRef": {"name": "a"}}],
        });
        for (key, part) in extra.as_object().unwrap() {
            value[key] = part.clone();
        }
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_pass_begins_when_it_is_asked_for_and_otherwise_stays() {
        let first = next(&spec(&serde_json::json!({})), None);
        assert_eq!(first.number, 1);
        let same = [
            serde_json::json!({"stage": "Sync", "suspend": true, "workers": {"concurrency": 9}}),
            serde_json::json!({"domains": [{"name": "a.test", "credentialsRef": {"name": "a"}},
                {"name": "b.test", "credentialsRef": {"name": "b"}}], "trigger": {"discover": "2"}}),
        ];
        for extra in same {
            assert_eq!(next(&spec(&extra), Some(&first)), first, "{extra}");
        }
        let other = [
            serde_json::json!({"trigger": {"sync": "2"}}),
            serde_json::json!({"policy": {"since": "2020-01-01"}}),
            serde_json::json!({"policy": {"pilot": {"mailboxes": 2}}}),
            serde_json::json!({"destination": {"imap": {"host": "imap.other.test", "credentialsRef": {"name": "new"}}}}),
        ];
        for extra in other {
            let second = next(&spec(&extra), Some(&first));
            assert_eq!(second.number, 2, "{extra}");
            assert_eq!(next(&spec(&extra), Some(&second)), second);
        }
    }
}
