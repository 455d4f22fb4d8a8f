//! The plan: everything that decides what would be done, as one document. Its digest changes when any of that changes,
//! and only then; two plans are held against each other line by line.
//!
//! It is made of the whole specification less what [`DECIDES_NOTHING`], so that a field that is added is part of it, and of
//! what was found out: which mailboxes there are, where each is read, the names by which both its ends are logged in to, and
//! which authorities' word is taken for who these are. A field names where the authorities stand; the plan says which they are.
//!
//! Facts that change by themselves are not part of it: sizes, findings, certificates that end. Neither are agreements
//! about it (acknowledgements, the checklist), nor the pace: else nothing that was approved would stay approved.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::observed::{DomainObserved, Observed};
use super::pass::fingerprint;
use crate::api::MailMigrationSpec;
use crate::api::status::{PlanPart, PlanStatus};
use crate::model::address::Domain;
use crate::model::text::{counted, cut, hexadecimal};

/// Domains that a status reports one by one; the others are reported together.
const DOMAINS_TOLD: usize = 30;
/// The longest sentence about a part, in bytes.
const SAYS_MAX: usize = 160;
/// Of a digest of authorities, so much is shown where there is little room: `sha256:` and twelve digits.
const AUTHORITIES_SHOWN: usize = 19;
/// The value of a word that is one of several.
const LISTED: &str = "listed";
/// Where the destination's own fields stand.
const DESTINATION: &str = "spec.destination";

/// The fields of a specification that decide nothing about whose mail goes where and what becomes of it; `[]` stands for the
/// items of a list, and what is below a field goes with it.
pub const DECIDES_NOTHING: [&str; 16] = [
    // How far it may go, and when.
    "spec.stage",
    "spec.schedule",
    "spec.cutover",
    "spec.suspend",
    "spec.trigger",
    "spec.approvedPlan",
    // Statements about it.
    "spec.acknowledge",
    "spec.checklist",
    "spec.domains[].overrides[].reason",
    // How fast, in which order, with how much room. A pilot is the beginning of the plan and nothing else.
    "spec.workers",
    "spec.policy.limits",
    "spec.policy.settleSeconds",
    "spec.policy.pilot",
    "spec.ledger.sqlite.size",
    // How figures are weighed.
    "spec.policy.fidelityWeights",
    // It is in the plan as the mailboxes that it names.
    "spec.domains[].mailboxes.list",
];

/// All that decides what would be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Where the mail goes.
    pub destination: String,
    /// The digest of the authorities that are trusted there beside the system's; `None` where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorities: Option<String>,
    /// Each field of the spec that decides something, but for those of the domains, as in `spec.policy.since`.
    pub rules: BTreeMap<String, String>,
    /// Each domain of the spec.
    pub domains: BTreeMap<String, DomainPlan>,
}

/// The plan for a domain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DomainPlan {
    /// Each of its fields that decides something, as in `credentialsRef.name`.
    #[serde(default)]
    pub rules: BTreeMap<String, String>,
    /// The digest of the authorities that are trusted at its servers beside the system's; `None` where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorities: Option<String>,
    /// Each mailbox, by its address at the source.
    pub mailboxes: BTreeMap<String, MailboxPlan>,
}

/// The plan for a mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MailboxPlan {
    /// The protocol that reads it; `None` when nothing reads it.
    pub protocol: Option<String>,
    /// Where it is read from; `None` when no login was accepted.
    pub server: Option<String>,
    /// The name that is sent to log in there; `None` when no credentials for it are known.
    pub login: Option<String>,
    /// Its address at the destination.
    pub destination: String,
    /// The name that is sent to log in there; `None` when no credentials for it are known.
    #[serde(default)]
    pub destination_login: Option<String>,
}

impl fmt::Display for MailboxPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server =
            self.server.as_deref().unwrap_or("nowhere, since no login was accepted or could be tried,");
        let name = |name: &Option<String>| match name {
            Some(name) => format!("as {name}"),
            None => "with no known login".to_owned(),
        };
        write!(
            f,
            "from {server} {} to {} {}",
            name(&self.login),
            self.destination,
            name(&self.destination_login)
        )
    }
}

/// One difference between two plans.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The thing that differs: a field of the manifest, a domain or a mailbox.
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
        let mut whole = serde_json::to_value(spec).unwrap_or_default();
        let domains = whole.get_mut("domains").map(Value::take);
        let written = domains.as_ref().and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let domains = spec.domains.iter().zip(written).map(|(domain, written)| {
            let mut rules = BTreeMap::new();
            flatten(&mut rules, "", "spec.domains[]", written);
            rules.remove("name");
            let seen = observed.domains.get(&domain.name);
            let mailboxes = seen.map(mailboxes).unwrap_or_default();
            let authorities =
                seen.and_then(DomainObserved::authorities).and_then(|found| found.source.clone());
            let name = domain.name.parse::<Domain>();
            let name = name.map_or_else(|_| domain.name.to_lowercase(), |name| name.to_string());
            (name, DomainPlan { rules, authorities, mailboxes })
        });
        let domains = domains.collect();
        let mut rules = BTreeMap::new();
        flatten(&mut rules, "spec", "spec", &whole);
        let authorities = observed.latest_authorities().and_then(|found| found.destination.clone());
        Self { destination: spec.destination.endpoint().to_string(), authorities, rules, domains }
    }

    /// Its digest, `sha256:` and 64 hexadecimal digits.
    pub fn digest(&self) -> String {
        let json = serde_json::to_vec(self).unwrap_or_default();
        format!("sha256:{}", hexadecimal(&Sha256::digest(&json)))
    }

    /// One line for everything in it, by what it is about.
    fn lines(&self) -> BTreeMap<String, String> {
        let mut lines = BTreeMap::from([(DESTINATION.to_owned(), self.destination.clone())]);
        let mut believe = |place: &str, authorities: &Option<String>| {
            if let Some(authorities) = authorities {
                lines.insert(format!("{place}: authorities"), authorities.clone());
            }
        };
        believe(DESTINATION, &self.authorities);
        for (name, domain) in &self.domains {
            believe(name, &domain.authorities);
        }
        for (field, value) in &self.rules {
            lines.insert(field.clone(), value.clone());
        }
        for (name, domain) in &self.domains {
            lines.insert(name.clone(), "a domain of the migration".to_owned());
            for (field, value) in &domain.rules {
                lines.insert(format!("{name}: {field}"), value.clone());
            }
            for (address, mailbox) in &domain.mailboxes {
                lines.insert(address.clone(), mailbox.to_string());
            }
        }
        lines
    }

    /// The differences between an earlier plan and this one, by place.
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
        let (of_destination, others): (BTreeMap<_, _>, BTreeMap<_, _>) =
            self.rules.iter().partition(|(field, _)| field.starts_with(DESTINATION));
        let secret = of_destination.iter().find(|(field, _)| field.ends_with(".credentialsRef.name"));
        let by = secret.map(|(_, name)| format!(", by Secret {name}")).unwrap_or_default();
        let content = match &self.authorities {
            None => fingerprint(&(&self.destination, &of_destination)),
            Some(authorities) => fingerprint(&(&self.destination, &of_destination, authorities)),
        };
        let by = format!("{by}{}", believing(self.authorities.as_deref()));
        let mut parts = vec![part(DESTINATION, format!("{}{by}", self.destination), content)];
        let says = others.iter().map(|(field, value)| {
            let field = field.strip_prefix("spec.").unwrap_or(field);
            if *value == LISTED { field.to_owned() } else { format!("{field} {value}") }
        });
        let says: Vec<String> = says.collect();
        parts.push(part("rules", says.join("; "), fingerprint(&others)));
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
            [] => {}
            [one] => write!(f, ", from {one}")?,
            [one, others @ ..] => write!(f, ", from {one} and {} more", others.len())?,
        }
        if let Some(secret) = self.rules.get("credentialsRef.name") {
            write!(f, ", by Secret {secret}")?;
        }
        f.write_str(&believing(self.authorities.as_deref()))
    }
}

/// The trusted authorities, in brief.
fn believing(authorities: Option<&str>) -> String {
    let short = |digest| str::get(digest, ..AUTHORITIES_SHOWN).unwrap_or(digest);
    authorities.map(|digest| format!(", authorities {}", short(digest))).unwrap_or_default()
}

/// The differences between two plans in brief. A part that reads the same and is not the same is listed as well.
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
            let is =
                if was == is { is.map(|_| "the same in sum, and not line by line".to_owned()) } else { is };
            Change { place: name.clone(), before: was, after: is }
        })
        .collect()
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

/// Writes each field below a value down that decides something. `kind` is the path without the places in lists, as in
/// [`DECIDES_NOTHING`].
fn flatten(rules: &mut BTreeMap<String, String>, path: &str, kind: &str, value: &Value) {
    if DECIDES_NOTHING.contains(&kind) {
        return;
    }
    match value {
        Value::Null => {}
        Value::Object(fields) => {
            for (name, field) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                flatten(rules, &path, &format!("{kind}.{name}"), field);
            }
        }
        // Words that are listed are a set; of rules the first that matches wins, so the order is part of them.
        Value::Array(items) if items.iter().all(Value::is_string) => {
            for word in items.iter().filter_map(Value::as_str) {
                rules.insert(format!("{path} {word}"), LISTED.to_owned());
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                flatten(rules, &format!("{path}[{at}]"), &format!("{kind}[]"), item);
            }
        }
        Value::String(text) => {
            rules.insert(path.to_owned(), text.clone());
        }
        other => {
            rules.insert(path.to_owned(), other.to_string());
        }
    }
}

fn mailboxes(domain: &DomainObserved) -> BTreeMap<String, MailboxPlan> {
    let plan = |planned: &super::mailboxes::PlannedMailbox| {
        let found = domain.find(&planned.source);
        let endpoint = found.and_then(|m| m.endpoint.as_ref());
        let names = found.and_then(|m| m.logins.clone()).unwrap_or_default();
        let mailbox = MailboxPlan {
            protocol: endpoint.map(|e| e.protocol.to_string()),
            server: endpoint.map(ToString::to_string),
            login: names.source,
            destination: planned.destination.to_string(),
            destination_login: names.destination,
        };
        (planned.source.to_string(), mailbox)
    };
    domain.planned().iter().map(plan).collect()
}
