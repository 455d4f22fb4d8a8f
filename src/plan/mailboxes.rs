//! Which mailboxes a domain has, where each goes, and by what name it logs in: the manifest's list, or the rows of
//! a list elsewhere.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::api::MailMigrationSpec;
use crate::api::domain::{DomainSpec, MailboxEntry, Mailboxes, Match, Override, Usernames};
use crate::model::address::{Address, Domain};
use crate::model::evidence::{Authorities, LoginNames};
use crate::model::failure::{Failure, Result};

/// One mailbox that is to be migrated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedMailbox {
    /// Its address at the source.
    pub source: Address,
    /// Its address at the destination.
    pub destination: Address,
    /// The name it logs in with at the source.
    pub login_name: String,
    /// Whether its row said that name, so that it counts before what a Secret says.
    pub login_name_is_given: bool,
    /// The names by which it is logged in to, as the plan says them; filled in when the mailbox is to be carried. By any other
    /// name nothing is read or written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logins: Option<LoginNames>,
    /// The authorities trusted for it at both ends, as the plan says; filled in when the mailbox is to be carried.
    /// Where others are trusted, nothing is read or written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorities: Option<Authorities>,
    /// Other mailboxes that arrive in the same one; filled in when the mailbox is to be carried.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub beside: Vec<Address>,
}

impl PlannedMailbox {
    /// The same with the name that it was really logged in with, once discovery knows it.
    #[must_use]
    pub fn logged_in_as(self, name: Option<&String>) -> Self {
        match name {
            Some(name) => Self { login_name: name.clone(), login_name_is_given: true, ..self },
            None => self,
        }
    }
}

/// Plans the mailboxes of a domain. `rows` are those that the manifest leaves to a ConfigMap or to the Secret.
///
/// # Errors
/// A failure that names the address.
pub fn plan_mailboxes(
    spec: &MailMigrationSpec,
    domain: &DomainSpec,
    rows: &[MailboxEntry],
) -> Result<Vec<PlannedMailbox>> {
    plan_mailboxes_with(spec, domain, rows, |_| None)
}

/// As [`plan_mailboxes`]; `goes_to` is what the Secret's list says of a mailbox whose own row names no destination.
///
/// # Errors
/// A failure that names the address.
pub fn plan_mailboxes_with(
    spec: &MailMigrationSpec,
    domain: &DomainSpec,
    rows: &[MailboxEntry],
    goes_to: impl Fn(&Address) -> Option<Address>,
) -> Result<Vec<PlannedMailbox>> {
    let entries = match &domain.mailboxes {
        Mailboxes::List(entries) => entries.as_slice(),
        Mailboxes::ConfigMapRef(_) | Mailboxes::Discover(_) => rows,
    };
    let ours: Domain =
        domain.name.parse().map_err(|e: String| Failure::configuration(e).at(domain.name.clone()))?;
    let mapped = mapped_addresses(spec, &ours);
    let mut planned: Vec<PlannedMailbox> = Vec::with_capacity(entries.len());
    let mut sources = HashSet::with_capacity(entries.len());
    for entry in entries {
        let parse = |text: &str| {
            text.parse::<Address>().map_err(|e| Failure::configuration(e).at(domain.name.clone()))
        };
        let source = parse(&entry.address)?;
        if source.domain() != &ours {
            // Rows of other domains may stand in a common list.
            continue;
        }
        let destination = match (&entry.destination, goes_to(&source), mapped.get(&source)) {
            (Some(text), ..) => parse(text)?,
            (None, Some(listed), _) => listed,
            (None, None, Some(text)) => parse(text)?,
            (None, None, None) => source.clone(),
        };
        let login_name = match (&entry.username, domain.usernames) {
            (Some(name), _) => name.clone(),
            (None, Usernames::Address) => source.to_string(),
            (None, Usernames::LocalPart) => source.local_part().to_owned(),
        };
        if !sources.insert(source.clone()) {
            return Err(Failure::configuration(format!("{source} is listed twice"))
                .hint("keep one of the rows")
                .at(domain.name.clone()));
        }
        let login_name_is_given = entry.username.is_some() || domain.usernames == Usernames::LocalPart;
        planned.push(PlannedMailbox {
            source,
            destination,
            login_name,
            login_name_is_given,
            logins: None,
            authorities: None,
            beside: Vec::new(),
        });
    }
    Ok(planned)
}

/// The entries of `spec.mapping.addresses` for the mailboxes of a domain, in whichever case and spelling.
fn mapped_addresses<'a>(spec: &'a MailMigrationSpec, ours: &Domain) -> HashMap<Address, &'a str> {
    let addresses = spec.mapping.iter().flat_map(|mapping| &mapping.addresses);
    // A mapping may be of ten thousand addresses, and there may be a thousand domains: few are read in full.
    let may_be_ours = |text: &str| {
        let domain = text.rsplit_once('@').map_or("", |(_, domain)| domain);
        domain.eq_ignore_ascii_case(ours.as_str()) || !domain.is_ascii() || domain.ends_with('.')
    };
    let ours_alone = addresses.filter(|(from, _)| may_be_ours(from.trim()));
    let parsed = ours_alone.filter_map(|(from, to)| Some((from.parse::<Address>().ok()?, to.as_str())));
    parsed.filter(|(from, _)| from.domain() == ours).collect()
}

/// Whether the discovery of a domain reports rows in its list that are of no domain of the migration: the first domain
/// that reads a list does.
pub fn tells_of_strays(spec: &MailMigrationSpec, at: usize) -> bool {
    let list = |domain: &DomainSpec| match &domain.mailboxes {
        Mailboxes::List(_) => None,
        Mailboxes::ConfigMapRef(wanted) => Some((true, wanted.name.clone(), wanted.key.clone())),
        Mailboxes::Discover(_) => Some((false, domain.secret()?.to_owned(), String::new())),
    };
    let ours = spec.domains.get(at).and_then(list);
    ours.is_some() && spec.domains.iter().position(|domain| list(domain) == ours) == Some(at)
}

/// The overrides of a domain, ready to be asked about each of its mailboxes.
pub struct Overrides<'a> {
    rules: Vec<(&'a Override, Matcher)>,
}

enum Matcher {
    /// A pattern; whether it is for the whole address. A text that is not a pattern matches nothing.
    Pattern(Option<globset::GlobMatcher>, bool),
    Addresses(HashSet<Address>),
}

impl<'a> Overrides<'a> {
    /// Reads them.
    pub fn of(domain: &'a DomainSpec) -> Self {
        let matcher = |rule: &Override| match &rule.matches {
            Match::Pattern(pattern) => {
                let glob = globset::Glob::new(&pattern.to_lowercase()).ok();
                Matcher::Pattern(glob.map(|glob| glob.compile_matcher()), pattern.contains('@'))
            }
            Match::Addresses(addresses) => {
                Matcher::Addresses(addresses.iter().filter_map(|address| address.parse().ok()).collect())
            }
        };
        Self { rules: domain.overrides.iter().map(|rule| (rule, matcher(rule))).collect() }
    }

    /// The one that a mailbox falls under; the first that matches counts.
    pub fn find(&self, mailbox: &Address) -> Option<&'a Override> {
        if self.rules.is_empty() {
            return None;
        }
        // Without an @ a pattern is for the part before it.
        let local = mailbox.folded_local_part();
        // An international name is matched in either spelling.
        let spelt = |domain: &str| format!("{local}@{domain}");
        let address = spelt(mailbox.domain().as_str());
        let shown = spelt(&mailbox.domain().to_unicode());
        let falls = |matcher: &Matcher| match matcher {
            Matcher::Pattern(Some(glob), true) => glob.is_match(&address) || glob.is_match(&shown),
            Matcher::Pattern(Some(glob), false) => glob.is_match(local),
            Matcher::Pattern(None, _) => false,
            Matcher::Addresses(addresses) => addresses.contains(mailbox),
        };
        self.rules.iter().find(|(_, matcher)| falls(matcher)).map(|(rule, _)| *rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::manifest;

    fn planned(name: &str, rest: &str, rows: &[&str]) -> Vec<PlannedMailbox> {
        let text = format!(
            "apiVersion: mailferry.dev/v1alpha1\nkind: MailMigration\nmetadata: {{name: m}}\nspec:\n  \
             destination: {{imap: {{host: imap.new.test, credentialsRef: {{name: new}}}}}}\n  \
             mapping: {{addresses: {{Anna@A.test: anna.b@new.test, x@xn--mnchen-3ya.example: y@new.test}}}}\n  domains:\n  \
             - {{name: {name}, credentialsRef: {{name: a}}{rest}}}\n"
        );
        let spec = manifest::read(&[("m.yaml", text)]).unwrap().migrations.remove(0).spec;
        let entry = |row: &&str| {
            let mut cells = row.split(',').map(|cell| Some(cell.to_owned()).filter(|cell| !cell.is_empty()));
            let mut cell = || cells.next().flatten();
            MailboxEntry { address: cell().unwrap(), destination: cell(), username: cell() }
        };
        let rows: Vec<MailboxEntry> = rows.iter().map(entry).collect();
        let listed =
            |mailbox: &Address| (mailbox.local_part() == "lisa").then(|| "l@new.test".parse().unwrap());
        plan_mailboxes_with(&spec, &spec.domains[0], &rows, listed).unwrap()
    }

    #[test]
    fn rows_of_other_domains_are_left_to_them_and_names_are_found() {
        let rows =
            ["anna@A.test", "bert@b.test", "carl@a.test,c@new.test,karl", "LISA@a.test", "lisa@b.test"];
        let found = planned("a.test", "", &rows);
        let seen: Vec<_> =
            found.iter().map(|p| format!("{} {} {}", p.source, p.destination, p.login_name)).collect();
        assert_eq!(
            seen,
            [
                "anna@a.test anna.b@new.test anna@a.test",
                "carl@a.test c@new.test karl",
                "LISA@a.test LISA@a.test LISA@a.test"
            ]
        );
        let found = planned("a.test", ", usernames: LocalPart", &["lisa@a.test"]);
        assert_eq!(
            (found[0].destination.to_string().as_str(), found[0].login_name.as_str()),
            ("l@new.test", "lisa")
        );
    }

    #[test]
    fn an_international_domain_is_one_domain_in_either_spelling() {
        let found = planned(
            "münchen.example",
            "",
            &["jörg@xn--mnchen-3ya.example", "anna@münchen.example", "X@München.example"],
        );
        assert_eq!(found.len(), 3);
        assert_eq!(found[2].destination.to_string(), "y@new.test");
        let rule: DomainSpec = serde_json::from_value(serde_json::json!({
            "name": "münchen.example", "credentialsRef": {"name": "a"},
            "overrides": [{"match": {"pattern": "a*@münchen.example"}, "protocol": "POP3"},
                          {"match": {"addresses": ["JÖRG@xn--mnchen-3ya.example"]}, "protocol": "POP3"}],
        }))
        .unwrap();
        assert!(
            Overrides::of(&rule).find(&found[1].source).is_some()
                && Overrides::of(&rule).find(&found[0].source).is_some()
        );
    }

    #[test]
    fn the_first_domain_that_reads_a_list_tells_of_what_is_in_it() {
        let domain = |name: &str, secret: &str, mailboxes: serde_json::Value| serde_json::json!({"name": name, "credentialsRef": {"name": secret}, "mailboxes": mailboxes});
        let spec: MailMigrationSpec = serde_json::from_value(serde_json::json!({
            "destination": {"imap": {"host": "h", "credentialsRef": {"name": "new"}}},
            "domains": [
                domain("a.test", "s", serde_json::json!({"list": [{"address": "a@a.test"}]})),
                domain("b.test", "s", serde_json::json!({"discover": {}})),
                domain("c.test", "s", serde_json::json!({"discover": {}})),
                domain("d.test", "s", serde_json::json!({"configMapRef": {"name": "s"}})),
                domain("e.test", "t", serde_json::json!({"configMapRef": {"name": "s"}})),
            ],
        }))
        .unwrap();
        let told: Vec<usize> = (0..5).filter(|at| tells_of_strays(&spec, *at)).collect();
        assert_eq!(told, [1, 3]);
    }

    #[test]
    fn a_pattern_without_an_at_is_for_the_part_before_it() {
        let rule = |matches: Match| DomainSpec {
            overrides: vec![Override {
                matches,
                protocol: crate::model::protocol::Protocol::Pop3,
                server: None,
                reason: None,
            }],
            ..serde_json::from_value(serde_json::json!({"name": "a.test", "credentialsRef": {"name": "a"}}))
                .unwrap()
        };
        let hit = |matches: Match, address: &str| {
            let domain = rule(matches);
            Overrides::of(&domain).find(&address.parse().unwrap()).is_some()
        };
        assert!(hit(Match::Pattern("pop-*".into()), "POP-anna@a.test"));
        assert!(!hit(Match::Pattern("pop-*".into()), "anna@a.test"));
        assert!(hit(Match::Pattern("*@a.test".into()), "anna@a.test"));
        assert!(hit(Match::Addresses(vec!["Anna@A.test".into()]), "anna@a.test"));
    }
}
