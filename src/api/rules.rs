//! Rules that neither a schema nor CEL can say within the API server's cost budget (a rule that compares each of 10,000
//! addresses of each of 1,000 domains would not be admitted). The reader of manifests refuses these at once; the
//! operator stalls with the same words.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use globset::GlobBuilder;

use super::cutover::repeated;
use super::domain::{DomainSpec, Mailboxes, Match};
use super::files::Files;
use super::mailmigration::MailMigrationSpec;
use super::schedule::zone_names;
use super::schema::{Path, Violation, nearest};
use crate::model::address::{Address, Domain};
use crate::model::text::printable;

/// The parts of a spec that stand on a laptop and cannot in a cluster.
pub fn check_in_cluster(spec: &MailMigrationSpec) -> Vec<Violation> {
    let named = files_of(spec, &Path::default().key("spec")).into_iter();
    let by_path = named.filter(|(files, _)| files.path.is_some());
    let tell = |(_, path): (&Files, Path)| {
        Violation::new(path.key("path"), "a path is for a laptop alone")
            .hint("give claimRef: {name: NAME} in its place, a PersistentVolumeClaim of the namespace")
    };
    by_path.map(tell).collect()
}

/// All files that a spec names, and where.
fn files_of<'a>(spec: &'a MailMigrationSpec, root: &Path) -> Vec<(&'a Files, Path)> {
    let to = spec.destination.files().map(|files| (files, root.key("destination").key("files")));
    let from =
        spec.domains.iter().enumerate().filter_map(|(at, domain)| {
            Some((domain.files.as_ref()?, root.key("domains").item(at).key("files")))
        });
    to.into_iter().chain(from).collect()
}

/// Everything in a spec that the schema allows and that still cannot stand.
pub fn check(spec: &MailMigrationSpec) -> Vec<Violation> {
    let mut found = Vec::new();
    let root = Path::default().key("spec");
    let mut names: BTreeMap<Domain, usize> = BTreeMap::new();
    for (at, domain) in spec.domains.iter().enumerate() {
        let path = root.key("domains").item(at);
        match domain.name.parse::<Domain>() {
            Ok(name) => {
                if let Some(first) = names.insert(name.clone(), at) {
                    let what = format!("it is the same domain as spec.domains[{first}]");
                    found.push(Violation::new(path.key("name"), what).hint("write each domain once"));
                }
                check_mailboxes(domain, &name, &path, &mut found);
            }
            Err(why) => found.push(Violation::new(path.key("name"), why)),
        }
        check_overrides(domain, &path, &mut found);
    }
    for (files, path) in files_of(spec, &root).into_iter().filter(|(files, _)| files.leads_out()) {
        let what = format!("{} leads out of the volume", printable(&files.endpoint().host));
        found.push(Violation::new(path.key("claimRef").key("path"), what).hint("name a directory in it"));
    }
    check_mapping(spec, &root, &mut found);
    check_schedule(spec, &root, &mut found);
    check_cutover(spec, &names, &root, &mut found);
    for (at, network) in spec.policy.allowed_networks.iter().enumerate() {
        if network.parse::<ipnet::IpNet>().is_err() {
            let path = root.key("policy").key("allowedNetworks").item(at);
            found.push(
                Violation::new(path, "it is not a network")
                    .hint("write it in CIDR notation, as in 10.0.0.0/8"),
            );
        }
    }
    check_checklist(spec, &names, &root, &mut found);
    for (at, agreed) in spec.acknowledge.iter().enumerate() {
        let known =
            agreed.domain.as_ref().is_none_or(|d| d.parse().is_ok_and(|d: Domain| names.contains_key(&d)));
        if !known {
            let path = root.key("acknowledge").item(at).key("domain");
            found.push(
                Violation::new(path, "no domain of this migration has that name")
                    .hint("name one of spec.domains[], or leave it out to mean all"),
            );
        }
    }
    found
}

fn check_checklist(
    spec: &MailMigrationSpec,
    names: &BTreeMap<Domain, usize>,
    root: &Path,
    found: &mut Vec<Violation>,
) {
    let mut seen = BTreeSet::new();
    for (at, answers) in spec.checklist.iter().flat_map(|list| &list.domains).enumerate() {
        let path = root.key("checklist").key("domains").item(at).key("name");
        match answers.name.parse::<Domain>() {
            Ok(name) if !names.contains_key(&name) => found.push(
                Violation::new(path, "no domain of this migration has that name")
                    .hint("name one of spec.domains[], or answer about another domain elsewhere"),
            ),
            Ok(name) => {
                if !seen.insert(name) {
                    found.push(
                        Violation::new(path, "the domain is answered for already")
                            .hint("keep one of the two"),
                    );
                }
            }
            Err(why) => found.push(Violation::new(path, why)),
        }
    }
}

fn check_mailboxes(domain: &DomainSpec, name: &Domain, path: &Path, found: &mut Vec<Violation>) {
    let Mailboxes::List(list) = &domain.mailboxes else { return };
    let list_path = path.key("mailboxes").key("list");
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for (at, entry) in list.iter().enumerate() {
        let path = list_path.item(at);
        match entry.address.parse::<Address>() {
            Err(why) => found.push(Violation::new(path.key("address"), why)),
            Ok(address) if address.domain() != name => {
                let what = format!("{address} is not an address of {name}");
                found.push(
                    Violation::new(path.key("address"), what)
                        .hint("move it to the domain that it belongs to, or correct it"),
                );
            }
            Ok(address) => {
                if let Some(first) = seen.insert(address.to_string().to_lowercase(), at) {
                    let what = format!("{address} stands in the list already, as number {first} (from 0)");
                    found.push(Violation::new(path.key("address"), what).hint("list each mailbox once"));
                }
            }
        }
        if let Some(Err(why)) = entry.destination.as_ref().map(|to| to.parse::<Address>()) {
            found.push(Violation::new(path.key("destination"), why));
        }
    }
}

fn check_overrides(domain: &DomainSpec, path: &Path, found: &mut Vec<Violation>) {
    for (at, rule) in domain.overrides.iter().enumerate() {
        let path = path.key("overrides").item(at).key("match");
        match &rule.matches {
            Match::Pattern(pattern) => check_glob(pattern, &path.key("pattern"), found),
            Match::Addresses(addresses) => {
                for (at, address) in addresses.iter().enumerate() {
                    if let Err(why) = address.parse::<Address>() {
                        found.push(Violation::new(path.key("addresses").item(at), why));
                    }
                }
            }
        }
    }
}

fn check_mapping(spec: &MailMigrationSpec, root: &Path, found: &mut Vec<Violation>) {
    let Some(mapping) = &spec.mapping else { return };
    let path = root.key("mapping");
    let mut from = BTreeSet::new();
    for (at, rule) in mapping.folders.iter().enumerate() {
        if !from.insert(&rule.from) {
            let what = format!("the folder {} has a rule already", printable(&rule.from));
            found.push(
                Violation::new(path.key("folders").item(at).key("from"), what).hint("keep one of the two"),
            );
        }
    }
    for (at, pattern) in mapping.exclude.iter().enumerate() {
        check_glob(pattern, &path.key("exclude").item(at), found);
    }
    let mut seen: HashMap<Address, &str> = HashMap::new();
    for (source, destination) in &mapping.addresses {
        let at = || path.key("addresses").key(source);
        if let Err(why) = destination.parse::<Address>() {
            found.push(Violation::new(at(), why));
        }
        match source.parse::<Address>() {
            Err(why) => found.push(Violation::new(at(), why)),
            Ok(address) => {
                if let Some(first) = seen.insert(address, source) {
                    let what = format!("it is the same address as {}", printable(first));
                    found.push(Violation::new(at(), what).hint("map each address once"));
                }
            }
        }
    }
}

fn check_schedule(spec: &MailMigrationSpec, root: &Path, found: &mut Vec<Violation>) {
    let windows = spec.schedule.iter().flat_map(|schedule| &schedule.windows).enumerate();
    for (at, window) in windows.filter(|(_, window)| window.zone().is_none()) {
        let names = zone_names();
        let near = nearest(&window.time_zone, names.iter().map(String::as_str));
        let meant = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
        let path = root.key("schedule").key("windows").item(at).key("timeZone");
        let what = format!("{} is no time zone that is known{meant}", printable(&window.time_zone));
        found.push(
            Violation::new(path, what)
                .hint("write a name of the IANA time zone database, as in Europe/Berlin or UTC"),
        );
    }
}

fn check_cutover(
    spec: &MailMigrationSpec,
    names: &BTreeMap<Domain, usize>,
    root: &Path,
    found: &mut Vec<Violation>,
) {
    let mut seen = BTreeSet::new();
    for (at, entry) in spec.cutover.iter().flat_map(|cutover| &cutover.domains).enumerate() {
        let path = root.key("cutover").key("domains").item(at);
        let shown = printable(&entry.name);
        let wrong = match entry.name.parse::<Domain>() {
            Ok(name) if !names.contains_key(&name) => Some((
                format!("{shown} is no domain of this migration"),
                "name one of spec.domains[]".to_owned(),
            )),
            Ok(name) if !seen.insert(name.clone()) => {
                Some((format!("{shown} stands in the list already"), "write each domain once".to_owned()))
            }
            Ok(_) => None,
            Err(why) => Some((why, "name one of spec.domains[]".to_owned())),
        };
        if let Some((what, hint)) = wrong {
            found.push(Violation::new(path.key("name"), what).hint(hint));
        }
        for (place, host) in entry.mx.iter().enumerate() {
            let shown = printable(host);
            let what = if host.parse::<std::net::IpAddr>().is_ok() {
                format!("{shown} is an address, and an MX record names a host")
            } else if !is_host(host) {
                format!("{shown} is no name of a host")
            } else {
                continue;
            };
            let hint = "write the host that takes the mail, as in mx.new.example";
            found.push(Violation::new(path.key("mx").item(place), what).hint(hint));
        }
        for place in repeated(&entry.mx) {
            let host = entry.mx.get(place).map(|host| printable(host)).unwrap_or_default();
            let what = format!("{host} stands in the list already");
            found.push(Violation::new(path.key("mx").item(place), what).hint("write each host once"));
        }
    }
}

/// Whether it is the whole name of a host: two labels or more, of a length that the DNS can hold (RFC 1035 §2.3.4).
fn is_host(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let fits = |label: &str| (1..=63).contains(&label.len());
    text.parse::<Domain>().is_ok() && name.contains('.') && name.split('.').all(fits)
}

fn check_glob(pattern: &str, path: &Path, found: &mut Vec<Violation>) {
    if let Err(error) = GlobBuilder::new(pattern).literal_separator(true).build() {
        let what = format!("it is not a pattern: {}", printable(&error.kind().to_string()));
        found
            .push(Violation::new(path.clone(), what).hint("patterns are made of *, **, ? and plain letters"));
    }
}
