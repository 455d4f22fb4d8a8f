//! Which pass over the mailboxes is wanted: a new one begins when somebody asks for it, or asks for something else. And which
//! verification: it is counted beside the pass, since it takes nothing back of what the pass came to.

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
    let number = match before {
        Some(before) if before.inputs == inputs => before.number,
        Some(before) => before.number + 1,
        None => 1,
    };
    let (verification, verify) = next_verification(spec, before);
    let same = before.filter(|before| before.number == number);
    let (began, ended) = (same.and_then(|same| same.began), same.and_then(|same| same.ended));
    PassStatus { number, inputs, verification, verify: Some(verify), began, ended }
}

/// The verification that is wanted, and the value that asks for it. A value that was there when the migration was first seen, or
/// when a version that knew nothing of it wrote the status, is no wish; neither is one that was taken out.
fn next_verification(spec: &MailMigrationSpec, before: Option<&PassStatus>) -> (u32, String) {
    let value = spec.trigger.as_ref().and_then(|trigger| trigger.verify.clone()).unwrap_or_default();
    let number = before.map_or(0, |before| before.verification);
    let seen = before.and_then(|before| before.verify.as_ref());
    let is_wish = !value.is_empty() && seen.is_some_and(|seen| *seen != value);
    (if is_wish { number + 1 } else { number }, value)
}

/// Whether a specification asks for another pass than the one that was published, so that what is known is of the rules before.
pub fn is_outdated(spec: &MailMigrationSpec, published: Option<&PassStatus>) -> bool {
    published.is_some_and(|last| next(spec, Some(last)).number != last.number)
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

    #[test]
    fn a_changed_value_asks_for_a_verification_and_for_no_pass() {
        let asked = |verify: &str, sync: &str| {
            spec(&serde_json::json!({"trigger": {"verify": verify, "sync": sync}}))
        };
        let numbers = |status: &PassStatus| (status.number, status.verification);
        let first = next(&asked("1", "1"), None);
        assert_eq!(numbers(&first), (1, 0), "what was there from the beginning asks for nothing");
        let mut status = first.clone();
        for (verify, sync, pass, verification) in [
            ("1", "1", 1, 0),
            ("2", "1", 1, 1),
            ("2", "1", 1, 1),
            ("", "1", 1, 1),
            ("2", "1", 1, 2),
            ("3", "2", 2, 3),
            ("3", "3", 3, 3),
        ] {
            let wanted = asked(verify, sync);
            assert_eq!(is_outdated(&wanted, Some(&status)), status.number != pass, "{verify} {sync}");
            status = next(&wanted, Some(&status));
            assert_eq!(numbers(&status), (pass, verification), "{verify} {sync}");
        }
        // A status of a version that knew no verification says nothing about the value that stands beside it.
        let old = PassStatus { verify: None, ..first };
        assert_eq!(numbers(&next(&asked("7", "1"), Some(&old))), (1, 0));
        let old: PassStatus = serde_json::from_str(r#"{"number": 4, "inputs": "x"}"#).unwrap();
        assert_eq!((old.verification, old.verify), (0, None));
    }
}
