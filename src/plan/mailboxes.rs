//! Which mailboxes a domain has, where each goes, and by what name it logs in: the manifest's list, or the rows of a CSV.

use crate::api::MailMigrationSpec;
use crate::api::domain::{DomainSpec, MailboxEntry, Mailboxes, Match, Override, Usernames};
use crate::model::address::Address;
use crate::model::failure::{Failure, Result};

/// The most rows of a CSV.
const ROWS_MAX: usize = 100_000;

/// One mailbox that is to be migrated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedMailbox {
    /// Its address at the source.
    pub source: Address,
    /// Its address at the destination.
    pub destination: Address,
    /// The name it logs in with at the source.
    pub login_name: String,
    /// Whether its row said that name, so that it counts before what a Secret says.
    pub login_name_is_given: bool,
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
    let mut planned: Vec<PlannedMailbox> = Vec::with_capacity(entries.len());
    for entry in entries {
        let parse = |text: &str| {
            text.parse::<Address>().map_err(|e| Failure::configuration(e).at(domain.name.clone()))
        };
        let source = parse(&entry.address)?;
        if source.domain().as_str() != domain.name.to_lowercase() && source.domain().as_str() != domain.name {
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
        if planned.iter().any(|p| p.source == source) {
            return Err(Failure::configuration(format!("{source} is listed twice"))
                .hint("keep one of the rows")
                .at(domain.name.clone()));
        }
        let login_name_is_given = entry.username.is_some() || domain.usernames == Usernames::LocalPart;
        planned.push(PlannedMailbox { source, destination, login_name, login_name_is_given });
    }
    Ok(planned)
}

/// The override that a mailbox falls under; the first that matches counts.
pub fn find_override<'a>(domain: &'a DomainSpec, mailbox: &Address) -> Option<&'a Override> {
    let address = mailbox.to_string().to_lowercase();
    domain.overrides.iter().find(|o| match &o.matches {
        Match::Pattern(pattern) => {
            // Without an @ the pattern is for the part before it.
            let subject =
                if pattern.contains('@') { &address } else { address.split('@').next().unwrap_or_default() };
            globset::Glob::new(&pattern.to_lowercase())
                .is_ok_and(|glob| glob.compile_matcher().is_match(subject))
        }
        Match::Addresses(addresses) => addresses.iter().any(|a| a.to_lowercase() == address),
    })
}
