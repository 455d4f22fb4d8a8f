//! Every field of a specification is changed once: the plan becomes another one, unless the field is on the list of
//! those that decide nothing. Which fields there are is read from the schema, so one that is added and not tried here
//! fails the test.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::*;
use crate::api::MailMigrationSpec;
use crate::api::crd::schema_of_migrations;
use crate::api::domain::{MailboxEntry, Mailboxes};
use crate::plan::document::{DECIDES_NOTHING, Plan};

/// Specifications that have each field at least once between them.
const SPECS: [&str; 4] = [
    include_str!("mutation/imap.yaml"),
    include_str!("mutation/microsoft365.yaml"),
    include_str!("mutation/files-path.yaml"),
    include_str!("mutation/files-claim.yaml"),
];

/// A field as [`DECIDES_NOTHING`] writes it, and its schema.
type Fields<'a> = BTreeMap<String, &'a Value>;

fn fields<'a>(kind: &str, schema: &'a Value, found: &mut Fields<'a>) {
    let properties = schema["properties"].as_object().filter(|properties| !properties.is_empty());
    if let Some(properties) = properties {
        for (name, property) in properties {
            fields(&format!("{kind}.{name}"), property, found);
        }
    } else if schema["items"].is_object() {
        fields(&format!("{kind}[]"), &schema["items"], found);
    } else if schema["type"] != "object" || schema["additionalProperties"].is_object() {
        found.insert(kind.to_owned(), schema);
    }
}

/// The places of a document's fields: as [`fields`] writes them, and as JSON pointers.
fn places(kind: &str, pointer: &str, value: &Value, known: &Fields<'_>, found: &mut Vec<(String, String)>) {
    if known.contains_key(kind) {
        found.push((kind.to_owned(), pointer.to_owned()));
        return;
    }
    match value {
        Value::Object(parts) => {
            for (name, part) in parts {
                places(&format!("{kind}.{name}"), &format!("{pointer}/{name}"), part, known, found);
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                places(&format!("{kind}[]"), &format!("{pointer}/{at}"), item, known, found);
            }
        }
        other => panic!("{kind}: {other} is in no schema"),
    }
}

/// Other values of a field.
fn others(value: &Value, schema: &Value) -> Vec<Value> {
    match value {
        Value::Bool(yes) => vec![json!(!yes)],
        Value::Number(number) => vec![json!(number.as_u64().unwrap() + 1)],
        Value::String(_) if schema["enum"].is_array() => {
            schema["enum"].as_array().unwrap().iter().filter(|other| *other != value).cloned().collect()
        }
        Value::String(_) if schema["format"] == "date-time" => vec![json!("2031-01-01T00:00:00Z")],
        Value::String(text) if text.parse::<jiff::civil::Date>().is_ok() => {
            vec![json!(text.parse::<jiff::civil::Date>().unwrap().tomorrow().unwrap().to_string())]
        }
        // A text of a form of its own is another one of that form.
        Value::String(text)
            if schema["pattern"].is_string() && text.contains(|c: char| c.is_ascii_digit()) =>
        {
            let at = text.rfind(|c: char| c.is_ascii_digit()).unwrap();
            let digit = (text.as_bytes()[at] - b'0' + 1) % 10;
            vec![json!(format!("{}{digit}{}", &text[..at], &text[at + 1..]))]
        }
        Value::String(text) => vec![json!(format!("{text}x"))],
        Value::Object(map) => map
            .iter()
            .flat_map(|(key, value)| {
                let renamed = format!("x{key}");
                let changed = format!("x{}", value.as_str().unwrap());
                [json!({renamed: value}), json!({ key: changed })]
            })
            .collect(),
        other => panic!("{other} is no value of a field"),
    }
}

fn decides_nothing(kind: &str) -> bool {
    DECIDES_NOTHING.iter().any(|field| {
        kind.strip_prefix(field).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    })
}

/// The digest of the plan, as if discovery found each mailbox that the specification names and logged in by its name.
fn digest(value: &Value) -> String {
    let spec: MailMigrationSpec =
        serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{error}: {value}"));
    let mut observed = Observed::default();
    for domain in &spec.domains {
        let row = |name: &str| MailboxEntry {
            address: format!("{name}@{}", domain.name),
            destination: None,
            username: None,
        };
        let rows = match domain.mailboxes {
            Mailboxes::List(_) => Vec::new(),
            _ => vec![row("one"), row("two")],
        };
        let planned = mailboxes::plan_mailboxes(&spec, domain, &rows).unwrap();
        let found: Vec<(String, Result<Protocol, Class>)> =
            planned.iter().map(|mailbox| (mailbox.source.to_string(), Ok(Protocol::Imap))).collect();
        let found: Vec<(&str, Result<Protocol, Class>)> =
            found.iter().map(|(address, protocol)| (address.as_str(), *protocol)).collect();
        let mut discovery = discovery(&domain.name, &found);
        for (seen, planned) in discovery.mailboxes.iter_mut().zip(&planned) {
            seen.logins = Some(LoginNames {
                source: Some(planned.login_name.clone()),
                destination: Some(planned.destination.to_string()),
            });
        }
        let seen = DomainObserved {
            mailboxes: Some(Ok(planned.into())),
            discovery: Some(discovery.into()),
            ..DomainObserved::default()
        };
        observed.domains.insert(domain.name.clone(), seen);
    }
    Plan::of(&spec, &observed).digest()
}

#[test]
fn every_field_of_the_spec_is_part_of_the_plan_unless_it_decides_nothing() {
    let schema = schema_of_migrations().unwrap();
    let mut known = Fields::new();
    fields("spec", &schema["properties"]["spec"], &mut known);
    let (mut met, mut spared) = (BTreeSet::new(), BTreeSet::<&str>::new());
    for text in SPECS {
        let read = manifest::read(&[("m.yaml", text)]).unwrap().migrations.remove(0).spec;
        let spec = serde_json::to_value(&read).unwrap();
        let plain = digest(&spec);
        let mut found = Vec::new();
        places("spec", "", &spec, &known, &mut found);
        for (kind, pointer) in found {
            let value = spec.pointer(&pointer).unwrap();
            for other in others(value, known[&kind]) {
                let mut changed = spec.clone();
                *changed.pointer_mut(&pointer).unwrap() = other.clone();
                // A list is in the plan as the mailboxes that it names.
                let same = decides_nothing(&kind) && !kind.starts_with("spec.domains[].mailboxes.list");
                assert_eq!(digest(&changed) == plain, same, "{kind}: {value}, then {other}");
                if same {
                    spared.extend(DECIDES_NOTHING.iter().filter(|field| kind.starts_with(**field)));
                }
            }
            met.insert(kind);
        }
        for list in ["/domains", "/mapping/folders", "/mapping/exclude", "/policy/allowedNetworks"] {
            let mut changed = spec.clone();
            let items = changed.pointer_mut(list).and_then(Value::as_array_mut);
            if items.is_some_and(|items| items.pop().is_some()) {
                assert_ne!(digest(&changed), plain, "{list}: one less");
            }
        }
    }
    let untried: Vec<&String> = known.keys().filter(|kind| !met.contains(*kind)).collect();
    assert!(untried.is_empty(), "add these to the specifications of this test: {untried:#?}");
    let dead: Vec<_> = DECIDES_NOTHING
        .iter()
        .filter(|field| !spared.contains(**field) && !field.ends_with("mailboxes.list"))
        .collect();
    assert!(dead.is_empty(), "no field is called so: {dead:?}");
}
