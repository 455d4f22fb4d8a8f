//! The plan: everything that decides what would be done, as one document. Its digest changes when any of that changes,
//! and only then; two plans are held against each other line by line.
//!
//! What goes on by itself is no part of it: sizes, findings, certificates that end. Neither is what was agreed about it
//! (acknowledgements, the checklist), nor the pace: else nothing that was approved would stay approved.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::observed::{DomainObserved, Observed};
use super::pass::fingerprint;
use crate::api::MailMigrationSpec;
use crate::api::reference::CaRef;
use crate::api::status::{PlanPart, PlanStatus};
use crate::model::text::{counted, cut};

/// Domains that a status tells of one by one; the others are told of together.
const DOMAINS_TOLD: usize = 30;
/// The longest sentence about a part, in bytes.
const SAYS_MAX: usize = 160;

/// All that decides what would be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Where the mail goes.
    pub destination: String,
    /// What is left out, what is renamed, whose certificates are believed, how arrivals are checked: by field.
    pub rules: BTreeMap<String, String>,
    /// Each domain of the spec.
    pub domains: BTreeMap<String, DomainPlan>,
}

/// What would be done with a domain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DomainPlan {
    /// The private authority that is believed, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    /// Each mailbox, by its address at the source.
    pub mailboxes: BTreeMap<String, MailboxPlan>,
}

/// What would be done with a mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MailboxPlan {
    /// What it is read by; `None` when nothing reads it.
    pub protocol: Option<String>,
    /// Where it is read from; `None` when no login worked.
    pub server: Option<String>,
    /// The name that it logs in with.
    pub login: String,
    /// Its address at the destination.
    pub destination: String,
}

impl fmt::Display for MailboxPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = self.server.as_deref().unwrap_or("nowhere: no login worked");
        write!(f, "from {server} as {} to {}", self.login, self.destination)
    }
}

/// One difference between two plans.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What differs: a field of the manifest, a domain or a mailbox.
    pub place: String,
    /// As it was; `None` when it is new.
    pub before: Option<String>,
    /// As it is; `None` when it is gone.
    pub after: Option<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => write!(f, "{}: was {before}, is {after}", self.place),
            (None, Some(after)) => write!(f, "{}: new, {after}", self.place),
            (Some(before), None) => write!(f, "{}: gone, was {before}", self.place),
            (None, None) => f.write_str(&self.place),
        }
    }
}

impl Plan {
    /// The plan of a specification, as far as discovery came.
    pub fn of(spec: &MailMigrationSpec, observed: &Observed) -> Self {
        let domains = spec.domains.iter().map(|domain| {
            let authority = domain.ca_ref.as_ref().map(authority);
            let mailboxes = observed.domains.get(&domain.name).map(mailboxes).unwrap_or_default();
            (domain.name.to_lowercase(), DomainPlan { authority, mailboxes })
        });
        Self {
            destination: spec.destination.endpoint().to_string(),
            rules: rules(spec),
            domains: domains.collect(),
        }
    }

    /// Its digest, `sha256:` and 64 hexadecimal digits.
    pub fn digest(&self) -> String {
        let json = serde_json::to_vec(self).unwrap_or_default();
        format!("sha256:{}", hexadecimal(&Sha256::digest(&json)))
    }

    /// One line for everything in it, by what it is about.
    fn lines(&self) -> BTreeMap<String, String> {
        let mut lines = BTreeMap::from([("spec.destination".to_owned(), self.destination.clone())]);
        for (field, value) in &self.rules {
            lines.insert(field.clone(), value.clone());
        }
        for (name, domain) in &self.domains {
            let authority = domain.authority.as_ref();
            let believed = authority.map(|a| format!(", believing {a}")).unwrap_or_default();
            lines.insert(name.clone(), format!("a domain of the migration{believed}"));
            for (address, mailbox) in &domain.mailboxes {
                lines.insert(address.clone(), mailbox.to_string());
            }
        }
        lines
    }

    /// What differs between an earlier plan and this one, by what it is about.
    pub fn changes_since(&self, earlier: &Self) -> Vec<Change> {
        compare(&earlier.lines(), &self.lines())
    }

    /// The plan in brief, as a status holds it.
    pub fn brief(&self) -> PlanStatus {
        let part = |name: &str, says: String, content: String| PlanPart {
            name: cut(name, 253),
            says: cut(&says, SAYS_MAX),
            digest: content,
        };
        let of_domain = |name: &str, plan: &DomainPlan| part(name, plan.to_string(), fingerprint(plan));
        let mut parts =
            vec![part("spec.destination", self.destination.clone(), fingerprint(&self.destination))];
        let rules: Vec<String> = self.rules.iter().map(|(field, value)| format!("{field} {value}")).collect();
        parts.push(part("rules", rules.join("; "), fingerprint(&self.rules)));
        let told = if self.domains.len() > DOMAINS_TOLD + 1 { DOMAINS_TOLD } else { self.domains.len() };
        parts.extend(self.domains.iter().take(told).map(|(name, plan)| of_domain(name, plan)));
        let others: BTreeMap<_, _> = self.domains.iter().skip(told).collect();
        if !others.is_empty() {
            let mailboxes: usize = others.values().map(|plan| plan.mailboxes.len()).sum();
            let says = format!(
                "{} with {}",
                counted(others.len() as u64, "domain", "domains"),
                counted(mailboxes as u64, "mailbox", "mailboxes")
            );
            parts.push(part("the other domains", says, fingerprint(&others)));
        }
        PlanStatus { digest: self.digest(), parts }
    }
}

impl fmt::Display for DomainPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut protocols: BTreeMap<&str, usize> = BTreeMap::new();
        let mut servers = BTreeSet::new();
        for mailbox in self.mailboxes.values() {
            *protocols.entry(mailbox.protocol.as_deref().unwrap_or("none")).or_default() += 1;
            servers.extend(mailbox.server.as_deref());
        }
        write!(f, "{}", counted(self.mailboxes.len() as u64, "mailbox", "mailboxes"))?;
        let by: Vec<String> = protocols.iter().map(|(name, count)| format!("{name} {count}")).collect();
        if !by.is_empty() {
            write!(f, ": {}", by.join(" · "))?;
        }
        let servers: Vec<&str> = servers.into_iter().collect();
        match &servers[..] {
            [] => Ok(()),
            [one] => write!(f, ", from {one}"),
            [one, others @ ..] => write!(f, ", from {one} and {} more", others.len()),
        }
    }
}

/// What differs between two plans in brief. That a part says the same and is not the same is said as well.
pub fn changes_in_brief(earlier: &PlanStatus, later: &PlanStatus) -> Vec<Change> {
    let lines = |plan: &PlanStatus| -> BTreeMap<String, (String, String)> {
        plan.parts.iter().map(|p| (p.name.clone(), (p.says.clone(), p.digest.clone()))).collect()
    };
    let (before, after) = (lines(earlier), lines(later));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    names
        .into_iter()
        .filter(|name| before.get(*name).map(|p| &p.1) != after.get(*name).map(|p| &p.1))
        .map(|name| {
            let (was, is) = (before.get(name).map(|p| p.0.clone()), after.get(name).map(|p| p.0.clone()));
            let is = if was == is { is.map(|is| format!("{is}, but not the same ones")) } else { is };
            Change { place: name.clone(), before: was, after: is }
        })
        .collect()
}

/// Bytes as hexadecimal digits.
pub fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn compare(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<Change> {
    let places: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    places
        .into_iter()
        .filter(|place| before.get(*place) != after.get(*place))
        .map(|place| Change {
            place: place.clone(),
            before: before.get(place).cloned(),
            after: after.get(place).cloned(),
        })
        .collect()
}

fn authority(ca: &CaRef) -> String {
    format!("{} {}, key {}", ca.kind, ca.name, ca.key)
}

fn rules(spec: &MailMigrationSpec) -> BTreeMap<String, String> {
    let policy = &spec.policy;
    let mut rules = BTreeMap::from([
        ("spec.policy.deletions".to_owned(), format!("{:?}", policy.deletions)),
        ("spec.policy.verify".to_owned(), format!("{:?}", policy.verify)),
    ]);
    if let Some(ca) = spec.destination.ca() {
        rules.insert("spec.destination caRef".to_owned(), authority(ca));
    }
    if let Some(limit) = policy.max_message_bytes {
        rules.insert("spec.policy.maxMessageBytes".to_owned(), limit.to_string());
    }
    if let Some(since) = policy.since {
        rules.insert("spec.policy.since".to_owned(), since.to_string());
    }
    let mapping = spec.mapping.iter();
    for (at, rule) in mapping.clone().flat_map(|m| &m.folders).enumerate() {
        // The first that matches wins, so the order is part of it.
        rules.insert(format!("spec.mapping.folders[{at}]"), format!("{} → {}", rule.from, rule.to));
    }
    for pattern in mapping.flat_map(|m| &m.exclude) {
        rules.insert(format!("spec.mapping.exclude {pattern}"), "left out".to_owned());
    }
    rules
}

fn mailboxes(domain: &DomainObserved) -> BTreeMap<String, MailboxPlan> {
    let plan = |planned: &super::mailboxes::PlannedMailbox| {
        let found = domain.find(&planned.source);
        let endpoint = found.and_then(|m| m.endpoint.as_ref());
        let mailbox = MailboxPlan {
            protocol: endpoint.map(|e| e.protocol.to_string()),
            server: endpoint.map(ToString::to_string),
            login: found.and_then(|m| m.login_name.as_ref()).unwrap_or(&planned.login_name).clone(),
            destination: planned.destination.to_string(),
        };
        (planned.source.to_string(), mailbox)
    };
    domain.planned().iter().map(plan).collect()
}
