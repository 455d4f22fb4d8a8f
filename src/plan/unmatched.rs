//! Entries of the manifest about mailboxes that no list has: typing errors that would pass in silence.

use std::collections::{HashMap, HashSet};

use super::mailboxes::{Overrides, PlannedMailbox};
use super::observed::Observed;
use crate::api::MailMigrationSpec;
use crate::api::domain::{DomainSpec, Match};
use crate::api::mapping::FolderRule;
use crate::model::address::Address;
use crate::model::evidence::{exclude_rule, folder_rule};
use crate::model::finding::{Code, Finding};
use crate::model::folder::FolderPath;
use crate::model::text::{counted, printable};

/// Addresses that a finding names.
const NAMED: usize = 5;

/// The addresses of `spec.mapping.addresses` that belong to no mailbox, and those whose row says otherwise where the
/// mail goes (the row counts), as one finding.
pub fn addresses<'a>(
    spec: &MailMigrationSpec,
    mailboxes: impl Iterator<Item = &'a PlannedMailbox>,
) -> Option<Finding> {
    let mapping = spec.mapping.as_ref().filter(|mapping| !mapping.addresses.is_empty())?;
    let goes_to: HashMap<&Address, &Address> =
        mailboxes.map(|planned| (&planned.source, &planned.destination)).collect();
    let (mut unmatched, mut overruled) = (Vec::new(), Vec::new());
    for (from, to) in &mapping.addresses {
        let Ok(source) = from.parse::<Address>() else { continue };
        match goes_to.get(&source) {
            None => unmatched.push(printable(from)),
            Some(goes) if to.parse::<Address>().is_ok_and(|to| to != **goes) => {
                overruled.push(format!("{} (to {}, and its row to {goes})", printable(from), printable(to)));
            }
            Some(_) => {}
        }
    }
    let mailboxes = |count: usize| counted(count as u64, "mailbox", "mailboxes");
    let told = |named: &[String], text: String| {
        let more = named.len().checked_sub(NAMED + 1).map(|rest| format!(" and {} more", rest + 1));
        let shown = named.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        let text = format!("spec.mapping.addresses {text}: {shown}{}.", more.unwrap_or_default());
        (!named.is_empty()).then_some(text)
    };
    let text = format!("names {} that no list has", mailboxes(unmatched.len()));
    let other = format!("does not count for {} whose row says otherwise", mailboxes(overruled.len()));
    let texts: Vec<String> = told(&unmatched, text).into_iter().chain(told(&overruled, other)).collect();
    let about = |text| Finding::about(Code::RuleMatchesNothing, "spec.mapping.addresses", text);
    (!texts.is_empty()).then(|| about(texts.join(" ")))
}

/// The rules of `spec.mapping` for folders that no folder falls under, once every mailbox was looked at.
pub fn folders(spec: &MailMigrationSpec, observed: &Observed) -> Vec<Finding> {
    let Some(mapping) = spec.mapping.as_ref().filter(|m| !m.exclude.is_empty() || !m.folders.is_empty())
    else {
        return Vec::new();
    };
    let (mut met, mut asked): (HashSet<&str>, Option<HashSet<&str>>) = (HashSet::new(), None);
    for domain in &spec.domains {
        let Some(seen) = observed.domains.get(&domain.name) else { return Vec::new() };
        let (Some(planned), Some(discovery)) = (seen.listed(), &seen.discovery) else { return Vec::new() };
        let of_domain: HashSet<&str> = discovery.rules.iter().map(String::as_str).collect();
        asked = Some(match asked {
            Some(asked) => asked.intersection(&of_domain).copied().collect(),
            None => of_domain,
        });
        for planned in planned {
            let size = discovery.find(&planned.source).and_then(|mailbox| mailbox.size.as_ref());
            // A mailbox that could not be read may have the folder.
            let Some(size) = size.filter(|size| size.unread_folders == 0) else { return Vec::new() };
            met.extend(size.rules.iter().map(String::as_str));
        }
    }
    // A rule that nobody asked about when the mailboxes were looked at is as new as the manifest.
    let asked = asked.unwrap_or_default();
    let is_unmet = |rule: &str| asked.contains(rule) && !met.contains(rule);
    let rule = |at: usize, field: &str, shown: &str| {
        let place = format!("spec.mapping.{field}[{at}]");
        let text = format!("{place} ({}) fits no folder of any mailbox.", printable(shown));
        Finding::about(Code::RuleMatchesNothing, place, text)
    };
    let excluded = mapping.exclude.iter().enumerate().filter(|(_, pattern)| is_unmet(&exclude_rule(pattern)));
    let from = |rule: &FolderRule| folder_rule(&FolderPath::from_slashes(&rule.from).to_string());
    let renamed = mapping.folders.iter().enumerate().filter(|(_, rule)| is_unmet(&from(rule)));
    let excluded = excluded.map(|(at, pattern)| rule(at, "exclude", pattern));
    excluded.chain(renamed.map(|(at, one)| rule(at, "folders", &one.from))).collect()
}

/// The overrides of a domain that decide about none of its mailboxes.
pub fn overrides(domain: &DomainSpec, mailboxes: &[PlannedMailbox]) -> Vec<Finding> {
    let mut found = Vec::new();
    if domain.overrides.is_empty() {
        return found;
    }
    let rules = Overrides::of(domain);
    let used: HashSet<*const _> =
        mailboxes.iter().filter_map(|m| rules.find(&m.source)).map(std::ptr::from_ref).collect();
    for (at, rule) in domain.overrides.iter().enumerate() {
        if used.contains(&std::ptr::from_ref(rule)) {
            continue;
        }
        let shown = match &rule.matches {
            Match::Pattern(pattern) => printable(pattern),
            Match::Addresses(addresses) => printable(&addresses.join(", ")),
        };
        let text = format!("overrides[{at}] of {} ({shown}) decides about no mailbox.", domain.name);
        found.push(Finding::about(Code::OverrideUnused, format!("overrides[{at}]"), text));
    }
    found
}
