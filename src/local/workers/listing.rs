//! Which mailboxes a domain has, by its list wherever that is, and which rows of it are left out. Nothing is connected to.

use std::collections::HashSet;

use super::{Siblings, Tools};
use crate::api::Files;
use crate::api::domain::{MailboxEntry, Mailboxes};
use crate::api::schema::nearest;
use crate::auth::credentials::Credentials;
use crate::drivers::registry::names_of_directories;
use crate::local::lists::{PlacedList, Unread, join};
use crate::model::address::{Address, Domain};
use crate::model::failure::{Failure, FailureCode, Place, Result, Side};
use crate::model::finding::{Code, Finding};
use crate::model::list::Row;
use crate::model::text::counted;
use crate::plan::mailboxes::{PlannedMailbox, plan_mailboxes_with, tells_of_strays};

/// Rows that a finding names.
const NAMED: usize = 5;

/// The mailboxes of a domain, and what was left out.
pub struct Listed {
    /// The mailboxes, in the order of the list.
    pub mailboxes: Vec<PlannedMailbox>,
    /// A finding for each kind of row that is left out.
    pub left_out: Vec<Finding>,
}

/// Why a domain's mailboxes are not known, and what is left out of the list as far as it can be read.
#[derive(Debug)]
pub struct Unlisted {
    /// Every row that cannot stand, or why the list cannot be read.
    pub failures: Vec<Failure>,
    /// A finding for each kind of row that would be left out.
    pub left_out: Vec<Finding>,
}

impl From<Failure> for Unlisted {
    fn from(failure: Failure) -> Self {
        Self { failures: vec![failure], left_out: Vec::new() }
    }
}

impl Tools {
    /// The mailboxes of a domain.
    ///
    /// # Errors
    /// A failure that names the field, the Secret or the rows.
    pub fn list_mailboxes(&self, at: usize) -> Result<Vec<PlannedMailbox>> {
        join(self.list_all(at).map_err(|unlisted| unlisted.failures)).map(|listed| listed.mailboxes)
    }

    /// As [`Self::list_mailboxes`], with what is left out.
    ///
    /// # Errors
    /// Every row that cannot stand, or why the list cannot be read.
    pub fn list_all(&self, at: usize) -> std::result::Result<Listed, Unlisted> {
        let domain = &self.spec().domains[at];
        let (rows, listed) = match &domain.mailboxes {
            // The list in the manifest itself is known, whatever else is missing.
            Mailboxes::List(_) => (Vec::new(), None),
            Mailboxes::ConfigMapRef(wanted) => {
                self.check_references(at)?;
                let heads = self.spec().heads();
                let placed = self.secrets.config_list(self.namespace(), &wanted.name, &wanted.key, &heads);
                let placed = placed.map_err(|unread| self.unlisted(at, ".mailboxes.configMapRef", unread))?;
                (placed.list.rows.iter().map(entry).collect(), Some(placed))
            }
            Mailboxes::Discover(_) => {
                self.check_references(at).map_err(|failure| failure.code(FailureCode::MissingSecret))?;
                self.discover_rows(at)?
            }
        };
        let own = self.secret_list(at);
        let goes_to = |mailbox: &Address| own.as_ref()?.list.find(mailbox)?.destination.clone();
        let mailboxes = plan_mailboxes_with(self.spec(), domain, &rows, goes_to)
            .at(|| self.place_in(at, ".mailboxes"))?;
        let mut left_out = Vec::new();
        if let Some(placed) = &listed {
            left_out.extend(self.find_strays(at, placed));
        }
        let mut failures = Vec::new();
        if let Mailboxes::List(_) | Mailboxes::ConfigMapRef(_) = &domain.mailboxes {
            // Where rows of the Secret's list are not valid, the code that uses it reports them; the others are
            // reported all the same.
            let told = own.or_else(|| self.read_secret_list(at).err()?.rest);
            if let Some(placed) = &told {
                left_out.extend(self.find_unlisted(at, placed, &mailboxes));
                failures = self.find_contradictions(at, placed, listed.as_ref(), &mailboxes);
            }
        }
        if failures.is_empty() {
            Ok(Listed { mailboxes, left_out })
        } else {
            Err(Unlisted { failures, left_out })
        }
    }

    /// A finding for each kind of row that is left out, whether or not the list can stand.
    pub(in crate::local) fn left_out(&self, at: usize) -> Vec<Finding> {
        self.list_all(at).map_or_else(|unlisted| unlisted.left_out, |listed| listed.left_out)
    }

    /// The reasons why a list cannot be read, with the field that leads to it.
    fn unlisted(&self, at: usize, field: &str, unread: Unread) -> Unlisted {
        let failures = unread.failures.into_iter().map(|failure| failure.at(self.place_in(at, field)));
        let left_out = unread.rest.iter().flat_map(|rest| self.find_strays(at, rest)).collect();
        Unlisted { failures: failures.collect(), left_out }
    }

    fn read_secret_list(&self, at: usize) -> std::result::Result<Option<PlacedList>, Unread> {
        let Some(name) = self.spec().domains[at].secret() else { return Ok(None) };
        self.secrets.list(self.namespace(), name, &self.spec().heads())
    }

    /// The list in the domain's Secret, if it can be read; its users say what is wrong with it.
    pub(super) fn secret_list(&self, at: usize) -> Option<PlacedList> {
        self.read_secret_list(at).ok().flatten()
    }

    /// The mailboxes that the credentials name by themselves.
    #[allow(clippy::type_complexity, reason = "rows, and the list that they came from")]
    fn discover_rows(
        &self,
        at: usize,
    ) -> std::result::Result<(Vec<MailboxEntry>, Option<PlacedList>), Unlisted> {
        const FIELD: &str = ".credentialsRef.name";
        let domain = &self.spec().domains[at];
        if let Some(files) = &domain.files {
            return Ok((self.find_directories(at, files)?, None));
        }
        // A row that cannot stand is the list's trouble, and the Secret's is another.
        let listed = self.read_secret_list(at).map_err(|unread| self.unlisted(at, FIELD, unread))?;
        let missing = |failure: Failure| failure.code(FailureCode::MissingSecret);
        let trust = self.source_trust(at).map_err(missing)?;
        let credentials = self.credentials(at, &trust).at(|| self.place_in(at, FIELD)).map_err(missing)?;
        if let Some(placed) = listed {
            return Ok((placed.list.rows.iter().map(entry).collect(), Some(placed)));
        }
        let Credentials::Single { username, .. } = credentials else {
            // An administrator may open every mailbox and lists none.
            return Ok((Vec::new(), None));
        };
        let address =
            if username.contains('@') { username.clone() } else { format!("{username}@{}", domain.name) };
        Ok((vec![MailboxEntry { address, destination: None, username: Some(username) }], None))
    }

    /// The mailboxes of a domain by the directories in its files that are called as an address of it.
    fn find_directories(&self, at: usize, files: &Files) -> Result<Vec<MailboxEntry>> {
        let found = self
            .secrets
            .directory(&self.migration, files, Side::Source)
            .and_then(|base| names_of_directories(&base))
            .at(|| self.place_in(at, ".files"))?;
        let ours: Domain = self.spec().domains[at].name.parse().map_err(Failure::configuration)?;
        let is_ours = |name: &String| name.parse::<Address>().is_ok_and(|address| *address.domain() == ours);
        let entry = |address| MailboxEntry { address, destination: None, username: None };
        Ok(found.into_iter().filter(is_ours).map(entry).collect())
    }

    /// The rows of a list that are of no domain of the migration, and those that repeat others. One domain reports
    /// them.
    fn find_strays(&self, at: usize, placed: &PlacedList) -> Vec<Finding> {
        let spec = self.spec();
        let names: Vec<&str> = match &self.siblings {
            Siblings::InSpec if tells_of_strays(spec, at) => {
                spec.domains.iter().map(|domain| domain.name.as_str()).collect()
            }
            Siblings::Named(names) => names.iter().map(String::as_str).collect(),
            Siblings::InSpec | Siblings::ToldElsewhere => return Vec::new(),
        };
        let ours: HashSet<Domain> = names.iter().filter_map(|name| name.parse().ok()).collect();
        let (list, place) = (&placed.list, &placed.place);
        let mut found = Vec::new();
        let strays: Vec<&Row> = list.rows.iter().filter(|row| !ours.contains(row.address.domain())).collect();
        if !strays.is_empty() {
            let shown = strays.iter().take(NAMED).map(|row| {
                let near = nearest(row.address.domain().as_str(), ours.iter().map(Domain::as_str));
                let meant = near.map(|near| format!(", is {near} meant?")).unwrap_or_default();
                format!("{} ({}{meant})", row.address, place.line(row.line))
            });
            let text = format!(
                "{} of {} {} of no domain of this migration: {}.",
                counted(strays.len() as u64, "row", "rows"),
                place.name,
                if strays.len() == 1 { "is" } else { "are" },
                with_rest(shown, strays.len())
            );
            found.push(Finding::about(Code::RowsLeftOut, &place.name, text));
        }
        if !list.repeated.is_empty() {
            let shown = list.repeated.iter().take(NAMED);
            let shown = shown.map(|(line, first)| format!("{} as {}", place.line(*line), place.line(*first)));
            let text = format!(
                "{} of {} repeat others, and count once: {}.",
                counted(list.repeated.len() as u64, "row", "rows"),
                place.name,
                with_rest(shown, list.repeated.len())
            );
            found.push(Finding::about(Code::RowsLeftOut, &place.name, text));
        }
        found
    }

    /// The rows of the Secret's list that send a mailbox elsewhere than the row that names it does. Either may be the slip, and
    /// mail in a wrong mailbox is read by others.
    fn find_contradictions(
        &self,
        at: usize,
        own: &PlacedList,
        listed: Option<&PlacedList>,
        mailboxes: &[PlannedMailbox],
    ) -> Vec<Failure> {
        let mut found = Vec::new();
        for planned in mailboxes {
            let Some(row) = own.list.find(&planned.source) else { continue };
            // Without one of its own the mailbox goes where the Secret's list says.
            let Some(theirs) = row.destination.as_ref().filter(|to| **to != planned.destination) else {
                continue;
            };
            let other = match (listed, &self.spec().domains[at].mailboxes) {
                (Some(placed), _) => placed.list.find(&planned.source).map(|row| placed.place.line(row.line)),
                (None, Mailboxes::List(entries)) => {
                    let is_it = |entry: &MailboxEntry| {
                        entry.address.parse::<Address>().is_ok_and(|a| a == planned.source)
                    };
                    let item = entries.iter().position(is_it);
                    item.map(|item| self.place_in(at, &format!(".mailboxes.list[{item}].destination")))
                }
                (None, _) => None,
            };
            let what = format!(
                "sends {} to {theirs}, and {} sends it to {}",
                planned.source,
                other.unwrap_or_else(|| "the list of mailboxes".to_owned()),
                planned.destination
            );
            found.push(
                Failure::configuration(what)
                    .code(FailureCode::BadList)
                    .hint("say the same in both, or leave the destination out of one of them")
                    .at(own.place.line(row.line)),
            );
        }
        found
    }

    /// The rows of the domain in the Secret's list that are about none of the mailboxes that are listed elsewhere.
    fn find_unlisted(&self, at: usize, placed: &PlacedList, mailboxes: &[PlannedMailbox]) -> Option<Finding> {
        let ours: Domain = self.spec().domains[at].name.parse().ok()?;
        let listed: HashSet<&Address> = mailboxes.iter().map(|planned| &planned.source).collect();
        let is_left = |row: &&Row| *row.address.domain() == ours && !listed.contains(&row.address);
        let left: Vec<&Row> = placed.list.rows.iter().filter(is_left).collect();
        if left.is_empty() {
            return None;
        }
        let shown =
            left.iter().take(NAMED).map(|row| format!("{} ({})", row.address, placed.place.line(row.line)));
        let text = format!(
            "{} of {} {} not on the list of mailboxes of {ours}: {}.",
            counted(left.len() as u64, "row", "rows"),
            placed.place.name,
            if left.len() == 1 { "is" } else { "are" },
            with_rest(shown, left.len())
        );
        Some(Finding::about(Code::RowsLeftOut, &placed.place.name, text))
    }
}

fn entry(row: &Row) -> MailboxEntry {
    MailboxEntry {
        address: row.address.to_string(),
        destination: row.destination.as_ref().map(ToString::to_string),
        username: row.username.clone(),
    }
}

fn with_rest(shown: impl Iterator<Item = String>, all: usize) -> String {
    let more = if all > NAMED { format!(" and {} more", all - NAMED) } else { String::new() };
    format!("{}{more}", shown.collect::<Vec<_>>().join(", "))
}
