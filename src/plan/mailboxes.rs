//! Which mailboxes a domain has, where each goes, and by what name it logs in: the manifest's list, or the rows of a CSV.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::api::MailMigrationSpec;
use crate::api::domain::{DomainSpec, MailboxEntry, Mailboxes, Match, Override, Usernames};
use crate::model::address::{Address, Domain};
use crate::model::evidence::LoginNames;
use crate::model::failure::{Failure, Result};

/// The most rows of a CSV.
const ROWS_MAX: usize = 100_000;

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
    /// Other mailboxes that arrive in the same one; filled in when the mailbox is to be carried.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub beside: Vec<Address>,
}

/// The rows of a CSV with the columns address and, if wanted, destination and username.
///
/// # Errors
/// A failure that names the row.
pub fn read_csv(text: &str, place: &str) -> Result<Vec<MailboxEntry>> {
    let mut reader =
        csv::ReaderBuilder::new().trim(csv::Trim::All).flexible(true).from_reader(text.as_bytes());
    let headers = reader.headers().map_err(|e| unreadable(&e).at(place))?.clone();
    let column = |name: &str| headers.iter().position(|h| h.eq_ignore_ascii_case(name));
    let Some(address) = column("address") else {
        return Err(Failure::configuration("has no column address")
            .hint("the first line names the columns: address,destination,username")
            .at(place));
    };
    let (destination, username) = (column("destination"), column("username"));
    let mut entries = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|e| unreadable(&e).at(place))?;
        let line = record.position().map_or(0, csv::Position::line);
        let cell =
            |at: Option<usize>| at.and_then(|at| record.get(at)).filter(|c| !c.is_empty()).map(str::to_owned);
        let Some(address) = cell(Some(address)) else {
            return Err(Failure::configuration("the row has no address").at(format!("{place}:{line}")));
        };
        if entries.len() >= ROWS_MAX {
            return Err(Failure::configuration(format!("has more than {ROWS_MAX} rows")).at(place));
        }
        entries.push(MailboxEntry { address, destination: cell(destination), username: cell(username) });
    }
    Ok(entries)
}

/// A CSV that cannot be read; the text itself may hold passwords, so it is not repeated.
fn unreadable(error: &csv::Error) -> Failure {
    let line = error.position().map_or_else(String::new, |p| format!(" at line {}", p.line()));
    Failure::configuration(format!("is no CSV that can be read{line}"))
        .hint("write one row a line, cells parted by commas, and quote cells that hold commas")
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
    let entries = match &domain.mailboxes {
        Mailboxes::List(entries) => entries.as_slice(),
        Mailboxes::ConfigMapRef(_) | Mailboxes::Discover(_) => rows,
    };
    let ours: Domain =
        domain.name.parse().map_err(|e: String| Failure::configuration(e).at(domain.name.clone()))?;
    let mut planned: Vec<PlannedMailbox> = Vec::with_capacity(entries.len());
    let mut sources = HashSet::with_capacity(entries.len());
    for entry in entries {
        let parse = |text: &str| {
            text.parse::<Address>().map_err(|e| Failure::configuration(e).at(domain.name.clone()))
        };
        let source = parse(&entry.address)?;
        if source.domain() != &ours {
            // Rows of other domains may stand in a common CSV.
            continue;
        }
        let mapped = spec.mapping.as_ref().and_then(|m| m.addresses.get(&entry.address));
        let destination = match entry.destination.as_ref().or(mapped) {
            Some(text) => parse(text)?,
            None => source.clone(),
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
            beside: Vec::new(),
        });
    }
    Ok(planned)
}

/// The overrides of a domain, ready to be asked about each of its mailboxes.
pub struct Overrides<'a> {
    rules: Vec<(&'a Override, Matcher)>,
}

enum Matcher {
    /// A pattern; whether it is for the whole address. One that is none matches nothing.
    Pattern(Option<globset::GlobMatcher>, bool),
    Addresses(HashSet<String>),
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
                Matcher::Addresses(addresses.iter().map(|address| address.to_lowercase()).collect())
            }
        };
        Self { rules: domain.overrides.iter().map(|rule| (rule, matcher(rule))).collect() }
    }

    /// The one that a mailbox falls under; the first that matches counts.
    pub fn find(&self, mailbox: &Address) -> Option<&'a Override> {
        if self.rules.is_empty() {
            return None;
        }
        let address = mailbox.to_string().to_lowercase();
        // Without an @ a pattern is for the part before it.
        let local = address.split('@').next().unwrap_or_default();
        let falls = |matcher: &Matcher| match matcher {
            Matcher::Pattern(glob, whole) => {
                glob.as_ref().is_some_and(|glob| glob.is_match(if *whole { &address } else { local }))
            }
            Matcher::Addresses(addresses) => addresses.contains(&address),
        };
        self.rules.iter().find(|(_, matcher)| falls(matcher)).map(|(rule, _)| *rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::manifest;

    fn planned(name: &str, rest: &str, rows: &str) -> Vec<PlannedMailbox> {
        let text = format!(
            "apiVersion: mailferry.dev/v1alpha1\nkind: MailMigration\nmetadata: {{name: m}}\nspec:\n  \
             destination: {{imap: {{host: imap.new.test, credentialsRef: {{name: new}}}}}}\n  \
             mapping: {{addresses: {{anna@a.test: anna.b@new.test}}}}\n  domains:\n  \
             - {{name: {name}, credentialsRef: {{name: a}}{rest}}}\n"
        );
        let spec = manifest::read(&[("m.yaml", text)]).unwrap().migrations.remove(0).spec;
        let rows = read_csv(rows, "users.csv").unwrap();
        plan_mailboxes(&spec, &spec.domains[0], &rows).unwrap()
    }

    #[test]
    fn rows_of_other_domains_are_left_to_them_and_names_are_found() {
        let rows =
            "address,destination,username\nanna@A.test,,\nbert@b.test,,\ncarl@a.test,c@new.test,karl\n";
        let found = planned("a.test", "", rows);
        let seen: Vec<_> = found
            .iter()
            .map(|p| (p.source.to_string(), p.destination.to_string(), p.login_name.as_str()))
            .collect();
        assert_eq!(
            seen,
            [
                ("anna@a.test".to_owned(), "anna@a.test".to_owned(), "anna@a.test"),
                ("carl@a.test".to_owned(), "c@new.test".to_owned(), "karl")
            ]
        );
        let found = planned("a.test", ", usernames: LocalPart", "address\nanna@a.test\n");
        assert_eq!(
            (found[0].destination.to_string().as_str(), found[0].login_name.as_str()),
            ("anna.b@new.test", "anna")
        );
    }

    #[test]
    fn an_international_domain_is_one_domain_in_either_spelling() {
        let found =
            planned("münchen.example", "", "address\njörg@xn--mnchen-3ya.example\nanna@münchen.example\n");
        assert_eq!(found.len(), 2);
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
