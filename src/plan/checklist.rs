//! Holds the customer's answers against what discovery found. A fact that was found and not answered is filled in;
//! an answer that differs is contradicted, and a finding.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::observed::{DomainObserved, Observed};
use crate::api::MailMigrationSpec;
use crate::api::checklist::{DomainAnswers, FIELDS, TITLES};
use crate::model::address::{Address, is_same_domain};
use crate::model::checklist::{Item, ItemState};
use crate::model::evidence::MailboxSize;
use crate::model::failure::Result;
use crate::model::finding::{Code, Finding};
use crate::model::protocol::Protocol;
use crate::model::text::{counted, printable};

/// 10^9 bytes.
const GIGABYTE: u64 = 1_000_000_000;
/// 10^6 bytes.
const MEGABYTE: u64 = 1_000_000;

/// The value that discovery knows for a field, and how it contradicts the answer, if it does.
struct Known {
    value: Value,
    contradiction: Option<(Code, String)>,
}

/// The whole checklist, question by question, in the order of its numbers.
///
/// # Errors
/// When the questions cannot be read from the schema, which is a mistake of ours.
pub fn items(spec: &MailMigrationSpec, observed: &Observed) -> Result<Vec<Item>> {
    let schema = crate::api::crd::schema_of_migrations()?;
    let questions = &schema["properties"]["spec"]["properties"]["checklist"];
    let given = serde_json::to_value(&spec.checklist).unwrap_or_default();
    let mut items = Vec::new();
    let whole = of_migration(spec, observed);
    for (number, field) in FIELDS {
        let title = TITLES.get(usize::from(*number) - 1).copied().unwrap_or_default();
        let question = question(questions, field);
        let item = |domain: Option<&str>, answer: Option<Value>, known: Option<&Known>| {
            let contradiction = known.and_then(|k| k.contradiction.as_ref()).map(|(_, text)| text.clone());
            let state = match (&answer, known) {
                (Some(_), _) if contradiction.is_some() => ItemState::Contradicted,
                (Some(_), _) => ItemState::Answered,
                (None, Some(_)) => ItemState::Discovered,
                (None, None) => ItemState::Unknown,
            };
            Item {
                number: *number,
                title,
                domain: domain.map(str::to_owned),
                field,
                question: question.clone(),
                state,
                answer,
                discovered: known.map(|k| k.value.clone()),
                contradiction,
            }
        };
        match field.strip_prefix("domains.") {
            None => items.push(item(None, answer(&given, field), whole.get(field))),
            Some(inner) => {
                for domain in &spec.domains {
                    let answers = answers_for(spec, &domain.name);
                    let given = serde_json::to_value(answers).unwrap_or_default();
                    let known = observed.domains.get(&domain.name).map(|seen| of_domain(answers, seen));
                    let known = known.as_ref().and_then(|known| known.get(field));
                    items.push(item(Some(&domain.name), answer(&given, inner), known));
                }
            }
        }
    }
    Ok(items)
}

/// The contradictions that are about a domain.
pub fn contradicted_in(spec: &MailMigrationSpec, name: &str, seen: &DomainObserved) -> Vec<Finding> {
    findings(of_domain(answers_for(spec, name), seen))
}

/// The contradictions that are about the migration as a whole.
pub fn contradicted(spec: &MailMigrationSpec, observed: &Observed) -> Vec<Finding> {
    findings(of_migration(spec, observed))
}

fn findings(known: BTreeMap<&'static str, Known>) -> Vec<Finding> {
    let contradictions = known.into_iter().filter_map(|(field, known)| Some((field, known.contradiction?)));
    contradictions
        .map(|(field, (code, text))| Finding::about(code, format!("checklist.{field}"), text))
        .collect()
}

/// The customer's answers about a domain.
pub fn answers_for<'a>(spec: &'a MailMigrationSpec, name: &str) -> Option<&'a DomainAnswers> {
    spec.checklist.as_ref()?.domains.iter().find(|answers| is_same_domain(&answers.name, name))
}

fn answer(given: &Value, field: &str) -> Option<Value> {
    let value = field.split('.').fold(given, |value, name| &value[name]);
    (!value.is_null()).then(|| value.clone())
}

fn question(schema: &Value, field: &str) -> String {
    let (mut schema, mut text) = (schema, "");
    for name in field.split('.') {
        schema = &schema["properties"][name];
        text = schema["description"].as_str().unwrap_or_default();
        if schema["items"].is_object() {
            schema = &schema["items"];
        }
    }
    text.to_owned()
}

fn of_domain(answers: Option<&DomainAnswers>, seen: &DomainObserved) -> BTreeMap<&'static str, Known> {
    let mut known = BTreeMap::new();
    let Some(discovery) = &seen.discovery else { return known };
    let read = || discovery.mailboxes.iter().filter_map(|m| Some((&m.address, m.endpoint.as_ref()?)));
    let mut protocols: BTreeMap<Protocol, u64> = BTreeMap::new();
    let mut hosts: BTreeMap<&str, u64> = BTreeMap::new();
    for (_, endpoint) in read() {
        *protocols.entry(endpoint.protocol).or_default() += 1;
        *hosts.entry(&endpoint.host).or_default() += 1;
    }
    if protocols.is_empty() {
        return known;
    }
    let said: &[Protocol] = answers.map_or(&[], |answers| &answers.protocols);
    let list =
        |protocols: &[Protocol]| protocols.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
    let unsaid: Vec<String> = protocols
        .iter()
        .filter(|(protocol, _)| !said.is_empty() && !said.contains(protocol))
        .map(|(protocol, count)| {
            format!("{} by {protocol}", counted(*count, "mailbox is read", "mailboxes are read"))
        })
        .collect();
    let contradiction = (!unsaid.is_empty()).then(|| {
        let text = format!("The checklist says {} alone, and {}.", list(said), unsaid.join(" and "));
        (Code::ProtocolContradicted, text)
    });
    let value = json!(protocols.keys().collect::<Vec<_>>());
    known.insert("domains.protocols", Known { value, contradiction });

    let commonest = hosts.iter().max_by_key(|(_, count)| **count).map(|(host, _)| *host).unwrap_or_default();
    let said = answers.and_then(|a| a.mail_host.as_deref());
    let contradiction =
        said.filter(|said| !hosts.keys().any(|host| is_same_domain(host, said))).map(|said| {
            let found = hosts.keys().map(|host| printable(host)).collect::<Vec<_>>().join(" and ");
            let text =
                format!("The checklist says that the mail is on {}, and it is on {found}.", printable(said));
            (Code::HostContradicted, text)
        });
    known.insert("domains.mailHost", Known { value: json!(commonest), contradiction });

    if let Some((first, _)) = read().next() {
        let said = answers.and_then(|a| a.sample_address.as_deref());
        let exists = |said: &str| {
            let said = said.parse::<Address>().map(|said| said.to_string().to_lowercase());
            let is_said = |said: &String| {
                seen.planned().iter().any(|mailbox| mailbox.source.to_string().to_lowercase() == *said)
            };
            said.as_ref().is_ok_and(is_said)
        };
        let contradiction = said.filter(|said| !exists(said)).map(|said| {
            let text =
                format!("The checklist's sample address {} is no mailbox of the plan.", printable(said));
            (Code::SampleAddressUnknown, text)
        });
        known.insert("domains.sampleAddress", Known { value: json!(first.to_string()), contradiction });
    }
    known
}

/// The sizes that discovery counted, when it counted every mailbox.
fn sizes<'a>(spec: &MailMigrationSpec, observed: &'a Observed) -> Option<Vec<&'a MailboxSize>> {
    let mut sizes = Vec::new();
    for domain in &spec.domains {
        let seen = observed.domains.get(&domain.name)?;
        for mailbox in seen.planned() {
            sizes.push(seen.find(&mailbox.source)?.size.as_ref()?);
        }
    }
    (!sizes.is_empty()).then_some(sizes)
}

fn of_migration(spec: &MailMigrationSpec, observed: &Observed) -> BTreeMap<&'static str, Known> {
    let mut known = BTreeMap::new();
    let given = spec.checklist.as_ref();
    let listed = |name: &String| {
        let seen = observed.domains.get(name)?;
        matches!(seen.mailboxes, Some(Ok(_))).then(|| seen.planned().len() as u64)
    };
    let listed: Option<Vec<u64>> = spec.domains.iter().map(|domain| listed(&domain.name)).collect();
    if let Some(total) = listed.map(|counts| counts.iter().sum::<u64>()).filter(|total| *total > 0) {
        let said = given.and_then(|given| given.mailboxes).map(u64::from);
        let contradiction = said.filter(|said| *said != total).map(|said| {
            let text = format!(
                "The checklist counts {}, and the plan has {}.",
                counted(said, "mailbox", "mailboxes"),
                total
            );
            (Code::MailboxCountContradicted, text)
        });
        known.insert("mailboxes", Known { value: json!(total), contradiction });
    }
    let Some(found) = sizes(spec, observed) else { return known };
    let said = given.and_then(|given| given.sizes.clone()).unwrap_or_default();
    let figures = [
        (
            "sizes.totalGigabytes",
            "all mail together",
            found.iter().map(|size| size.bytes + size.left_out.bytes).sum::<u64>(),
            said.total_gigabytes,
            (GIGABYTE, "GB"),
        ),
        (
            "sizes.largestMailboxGigabytes",
            "the largest mailbox",
            found.iter().map(|size| size.bytes + size.left_out.bytes).max().unwrap_or_default(),
            said.largest_mailbox_gigabytes,
            (GIGABYTE, "GB"),
        ),
        (
            "sizes.largestMessageMegabytes",
            "the largest message",
            found.iter().map(|size| size.largest).max().unwrap_or_default(),
            said.largest_message_megabytes,
            (MEGABYTE, "MB"),
        ),
    ];
    for (field, what, bytes, said, (unit, word)) in figures {
        let is = bytes.div_ceil(unit);
        // Answers are round; a quarter more than was said is still what was said.
        let over = |said: u64| is > said + said / 4;
        let contradiction = said.map(u64::from).filter(|said| over(*said)).map(|said| {
            (
                Code::SizeContradicted,
                format!("The checklist says {said} {word} for {what}, and it is {is} {word}."),
            )
        });
        known.insert(field, Known { value: json!(is), contradiction });
    }
    known
}
