//! The work of a pod in a cluster, done by a task here: discover one domain, carry one mailbox. Here is what both need: the
//! ways into a migration's mailboxes, and its rules. Secrets are read when a task begins, so that a corrected one is used at
//! the next attempt.

mod checking;
mod domain;
mod listing;
mod mailbox;
mod verification;

pub use domain::unreadable_domain;
pub use listing::{Listed, Unlisted};

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::grants::{Tenant, TokenAccess};
use super::guard::{DurableGuard, Turnstile};
use super::secrets::Secrets;
use crate::api::domain::Mailboxes;
use crate::api::manifest::Part;
use crate::api::{MailMigration, MailMigrationSpec, names};
use crate::auth::credentials::{Credentials, Login};
use crate::auth::oauth::Tokens;
use crate::drivers::registry::{Greeted, LoggedIn, Way, directory_of_mailbox, driver};
use crate::drivers::{Destination, Source};
use crate::ledger::Store;
use crate::model::address::Address;
use crate::model::endpoint::Endpoint;
use crate::model::failure::{Failure, FailureCode, Place, Result, Side};
use crate::model::folder::FolderPath;
use crate::model::label::LabelRule;
use crate::model::list::Row;
use crate::model::provider::{Kind, by_host};
use crate::model::secret::Secret;
use crate::model::text::printable;
use crate::net::network::Network;
use crate::net::tls::{Trust, Trusts};
use crate::plan::mailboxes::PlannedMailbox;
use crate::transfer::flags::Manners;
use crate::transfer::neighbours::Neighbours;
use crate::transfer::pace::Pace;
use crate::transfer::{Ends, Rules};

/// All that a task of one migration needs; cheap to clone.
#[derive(Clone)]
pub struct Tools {
    /// The migration as it was read.
    pub migration: Arc<MailMigration>,
    /// The place of its first domain in `spec.domains` as the user wrote it: a pod is given one of many.
    pub first_domain: usize,
    /// The other domains of the migration, where the spec holds one of them.
    pub siblings: Siblings,
    /// Where secrets come from.
    pub secrets: Arc<Secrets>,
    /// The way to servers.
    pub network: Arc<Network>,
    /// PEM text of an authority given on the command line; empty when there is none.
    pub authority: Arc<str>,
    /// The trust stores, by the authorities that are added to the system's.
    pub trusts: Arc<Trusts>,
    /// The tokens of those who log in without passwords.
    pub tokens: Arc<Tokens>,
    /// The count of refused logins.
    pub guard: Arc<DurableGuard>,
    /// Where mailboxes wait until the destination's administrator is known to be let in.
    pub turnstile: Arc<Turnstile>,
    /// How fast bytes may go to the destination.
    pub pace: Arc<Pace>,
    /// Where the ledgers are kept.
    pub store: Arc<dyn Store>,
}

/// The other domains of a migration: rows of a common list that are of none of them are told, once.
#[derive(Debug, Clone, Default)]
pub enum Siblings {
    /// All are in the spec.
    #[default]
    InSpec,
    /// They are these.
    Named(Arc<[String]>),
    /// Another process reports such rows.
    ToldElsewhere,
}

impl Tools {
    /// The specification.
    pub fn spec(&self) -> &MailMigrationSpec {
        &self.migration.spec
    }

    fn namespace(&self) -> &str {
        self.migration.metadata.namespace.as_deref().unwrap_or("default")
    }

    /// File and line of a field of the specification.
    fn place(&self, path: &str) -> String {
        let place = self.secrets.place(&self.migration, path).unwrap_or_default();
        if place.is_empty() { path.to_owned() } else { format!("{place}: {path}") }
    }

    /// File and line of a field of a domain; `field` as in `.mailboxes`.
    fn place_in(&self, at: usize, field: &str) -> String {
        self.place(&format!("spec.domains[{}]{field}", at + self.first_domain))
    }

    /// The name of a mailbox's ledger in its store; its `MailboxMigration` is called the same.
    pub fn key(&self, mailbox: &Address) -> String {
        names::mailbox_migration(self.migration.metadata.name.as_deref().unwrap_or_default(), mailbox)
    }

    fn token_access(&self, trust: &Trust) -> TokenAccess {
        TokenAccess { tokens: Arc::clone(&self.tokens), trust: trust.clone(), tenant: None }
    }

    fn trust(&self, wanted: Option<&crate::api::reference::CaRef>) -> Result<Trust> {
        let pem = self.secrets.authority(self.namespace(), wanted)?;
        self.trusts.with_authorities(&[pem, self.authority.to_string()])
    }

    /// The name of the Secret of a domain; empty where its mailboxes are in files.
    fn source_secret(&self, at: usize) -> &str {
        self.spec().domains[at].secret().unwrap_or_default()
    }

    /// The name of the Secret of the destination; empty where mail goes into files.
    fn destination_secret(&self) -> &str {
        self.spec().destination.secret().unwrap_or_default()
    }

    /// The directory of a mailbox in the files of its domain, as a place that a driver opens.
    fn place_of_source(&self, at: usize, mailbox: &Address, endpoint: &Endpoint) -> Result<Endpoint> {
        let Some(files) = &self.spec().domains[at].files else { return Ok(endpoint.clone()) };
        let base = self.secrets.directory(&self.migration, files, Side::Source);
        let base = base.at(|| self.place_in(at, ".files"))?;
        let alone = matches!(&self.spec().domains[at].mailboxes, Mailboxes::List(list) if list.len() == 1);
        let place = directory_of_mailbox(&base, &mailbox.to_string(), alone);
        Ok(Endpoint::files(endpoint.protocol, &place.to_string_lossy()))
    }

    /// The directory of a mailbox in the files of the destination, as a place that a driver opens.
    fn place_of_destination(&self, mailbox: &Address) -> Result<Endpoint> {
        let endpoint = self.spec().destination.endpoint();
        let Some(files) = self.spec().destination.files() else { return Ok(endpoint) };
        let base = self.secrets.directory(&self.migration, files, Side::Destination);
        let base = base.at(|| self.place("spec.destination.files"))?;
        let place = directory_of_mailbox(&base, &mailbox.to_string(), false);
        Ok(Endpoint::files(endpoint.protocol, &place.to_string_lossy()))
    }

    /// A domain's credentials; an authority that is private to the mail servers may be the token endpoint's too.
    fn credentials(&self, at: usize, trust: &Trust) -> Result<Credentials> {
        let Some(name) = self.spec().domains[at].secret() else { return Ok(Credentials::NotNeeded) };
        let access = self.token_access(trust);
        self.secrets.credentials(self.namespace(), name, &access, &self.spec().heads(), Side::Source)
    }

    /// The authorities trusted at a domain's servers.
    fn source_trust(&self, at: usize) -> Result<Trust> {
        let domain = format!("spec.domains[{}]", at + self.first_domain);
        let trust = self.trust(self.spec().domains[at].ca_ref.as_ref()).at(|| self.place_in(at, ".caRef"))?;
        Ok(trust.for_server(format!("{domain}.servers[].host"), format!("{domain}.caRef")))
    }

    fn check_references(&self, at: usize) -> Result<()> {
        self.secrets.check_references(&self.migration, Part::Domain(at))
    }

    /// How a mailbox logs in at the source, and the authorities trusted there.
    fn source_access(&self, at: usize, planned: &PlannedMailbox) -> Result<(Login, Trust)> {
        let trust = self.source_trust(at)?;
        let credentials = self.credentials(at, &trust)?;
        let login = source_login(&credentials, planned).ok_or_else(|| {
            Failure::configuration(format!("Secret \"{}\" has no password for it", self.source_secret(at)))
                .hint("add a row to mailboxes.csv")
        })?;
        let secret = self.source_secret(at);
        check_name(&login, planned.logins.as_ref().map(|names| &names.source), secret)?;
        check_authorities(&trust, planned.authorities.as_ref().map(|believed| &believed.source))?;
        Ok((login, trust))
    }

    /// Logs in to a mailbox at the source.
    pub(super) async fn open_source(
        &self,
        at: usize,
        planned: &PlannedMailbox,
        endpoint: &Endpoint,
    ) -> Result<Box<dyn Source>> {
        let (login, trust) = self.source_access(at, planned)?;
        let place = self.place_of_source(at, &planned.source, endpoint)?;
        let way = Way { network: &self.network, endpoint: &place, trust: &trust };
        let greeted = driver(endpoint.protocol).greet(way).await?;
        let session = self.enter(&login, greeted).await?;
        session.source(self.label_rule()?).await
    }

    /// Logs in, within the guard: nobody counts refusals where nobody logs in.
    async fn enter(&self, login: &Login, greeted: Box<dyn Greeted>) -> Result<Box<dyn LoggedIn>> {
        if greeted.facts().endpoint.protocol.is_files() {
            return greeted.login(login).await;
        }
        self.guard.hold(login, greeted.login(login)).await
    }

    /// The destination's credentials.
    fn destination_credentials(&self, trust: &Trust) -> Result<Credentials> {
        let wanted = &self.spec().destination;
        let tenant = wanted.microsoft365().map(|m365| Tenant {
            id: m365.tenant_id.clone(),
            cloud: m365.cloud,
            field: "spec.destination.microsoft365",
        });
        let access = TokenAccess { tenant, ..self.token_access(trust) };
        let Some(name) = wanted.secret() else { return Ok(Credentials::NotNeeded) };
        self.secrets.credentials(self.namespace(), name, &access, &self.spec().heads(), Side::Destination)
    }

    /// Refuses credentials that cannot open mailboxes of this kind of destination, before anything is begun.
    ///
    /// # Errors
    /// A failure that names the field and the Secret.
    pub fn check_destination(&self) -> Result<()> {
        let wanted = &self.spec().destination;
        // Rows that cannot stand are told before anything is connected to; a Secret that is not there is told by whoever needs it.
        if let Some(files) = wanted.files() {
            let directory = self.secrets.directory(&self.migration, files, Side::Destination);
            directory.at(|| self.place("spec.destination.files"))?;
        }
        let read = self.trust(wanted.ca()).and_then(|trust| self.destination_credentials(&trust));
        if let Err(failure) = read
            && failure.is(FailureCode::BadList)
        {
            return Err(
                failure.at(self.place(&format!("spec.destination.{}.credentialsRef.name", wanted.key())))
            );
        }
        // Lists that are elsewhere are looked at with their domain.
        let listed = (0..self.spec().domains.len())
            .filter(|at| matches!(self.spec().domains[*at].mailboxes, Mailboxes::List(_)))
            .filter_map(|at| self.list_mailboxes(at).ok());
        let destinations: Vec<Address> = listed.flatten().map(|planned| planned.destination).collect();
        self.check_one_destination(destinations.iter())?;
        if wanted.microsoft365().is_none() {
            return Ok(());
        }
        let checked = self.trust(wanted.ca()).and_then(|trust| self.destination_credentials(&trust));
        checked.map(drop).at(|| self.place("spec.destination.microsoft365.credentialsRef.name"))
    }

    /// Refuses the user name and password of one person for several mailboxes at the destination: all would arrive in hers. Where
    /// the Secret cannot be read, whoever logs in says so.
    fn check_one_destination<'a>(&self, mailboxes: impl Iterator<Item = &'a Address>) -> Result<()> {
        let wanted = &self.spec().destination;
        let credentials = self.trust(wanted.ca()).and_then(|trust| self.destination_credentials(&trust));
        let Ok(credentials) = credentials else { return Ok(()) };
        check_one_login(&credentials, self.destination_secret(), mailboxes)
            .at(|| self.place("spec.destination.imap.credentialsRef.name"))
    }

    /// How a mailbox logs in at the destination, the authorities trusted there, and whether the password opens other
    /// mailboxes too.
    pub(super) fn destination_access(&self, planned: &PlannedMailbox) -> Result<(Login, Trust, bool)> {
        let access = self.destination_login(&planned.destination, Some(&planned.source))?;
        let secret = self.destination_secret();
        check_name(&access.0, planned.logins.as_ref().map(|names| &names.destination), secret)?;
        check_authorities(&access.1, planned.authorities.as_ref().map(|believed| &believed.destination))?;
        Ok(access)
    }

    /// As [`Self::destination_access`], by the mailbox's address there and, where it is known, by the one that goes there.
    fn destination_login(&self, mailbox: &Address, source: Option<&Address>) -> Result<(Login, Trust, bool)> {
        let wanted = &self.spec().destination;
        let field = |name: &str| format!("spec.destination.{}.{name}", wanted.key());
        let trust = self.trust(wanted.ca())?.for_server(field("host"), field("caRef"));
        let credentials = self.destination_credentials(&trust);
        let (login, shared) = self.login_there(mailbox, source, &credentials)?;
        Ok((login, trust, shared))
    }

    /// The login of a mailbox at the destination, and whether it opens others too. `credentials` are the destination's own; a
    /// list of the source that has a password for it needs none.
    fn login_there(
        &self,
        mailbox: &Address,
        source: Option<&Address>,
        credentials: &Result<Credentials>,
    ) -> Result<(Login, bool)> {
        let wanted = &self.spec().destination;
        if wanted.files().is_some() {
            return Ok((Login::own(mailbox.to_string(), Secret::new(String::new())), false));
        }
        let row = self.row_for_destination(mailbox, source);
        let password = row.as_ref().and_then(|row| row.destination_password.clone());
        if let Some(password) = password.filter(|_| wanted.microsoft365().is_none()) {
            let user = row.and_then(|row| row.destination_username).unwrap_or_else(|| mailbox.to_string());
            return Ok((Login::own(user, password).at_destination(), false));
        }
        let credentials = credentials.as_ref().map_err(Clone::clone)?;
        let login = match row.and_then(|row| row.destination_username) {
            Some(user) => credentials.login(mailbox, &user, true),
            None => credentials.login_at_destination(mailbox, source),
        };
        let login = login.ok_or_else(|| {
            let name = self.destination_secret();
            Failure::configuration(format!("Secret \"{name}\" has no password for {mailbox}")).hint(
                "add a row to its mailboxes.csv, or a column destinationPassword to the list of the source",
            )
        })?;
        Ok((login.at_destination(), credentials.is_shared()))
    }

    /// The row in the list of a domain about a mailbox at the destination. A row that names another destination says nothing of it.
    fn row_for_destination(&self, mailbox: &Address, source: Option<&Address>) -> Option<Row> {
        let spec = self.spec();
        let there = self.destination_secret();
        for domain in &spec.domains {
            let Some(name) = domain.secret() else { continue };
            let ours = |source: &Address| domain.name.parse().is_ok_and(|ours| *source.domain() == ours);
            // A list that is named for both ends is read with the destination's credentials.
            if name == there || !source.is_none_or(ours) {
                continue;
            }
            // The faults of a list are told with its own domain.
            let Ok(Some(placed)) = self.secrets.list(self.namespace(), name, &spec.heads()) else { continue };
            let row = match source {
                Some(source) => placed.list.find(source),
                None => placed.list.rows.iter().find(|row| row.destination.as_ref() == Some(mailbox)),
            };
            if let Some(row) = row.filter(|row| row.destination.as_ref().is_none_or(|to| to == mailbox)) {
                return Some(row.clone());
            }
        }
        None
    }

    /// Logs in to a mailbox at the destination.
    ///
    /// # Errors
    /// Those of the Secret, the connection and the login.
    pub async fn open_destination(&self, planned: &PlannedMailbox) -> Result<Box<dyn Destination>> {
        let (login, trust, shared) = self.destination_access(planned)?;
        self.log_in_there(planned, &login, &trust, shared).await?.destination().await
    }

    /// A session with a mailbox at the destination, within the guard. Where one password opens many of them, they wait until
    /// it is known to be taken.
    pub(super) async fn log_in_there(
        &self,
        planned: &PlannedMailbox,
        login: &Login,
        trust: &Trust,
        shared: bool,
    ) -> Result<Box<dyn LoggedIn>> {
        let turn = if shared { self.turnstile.enter().await } else { None };
        let endpoint = self.place_of_destination(&planned.destination)?;
        let way = Way { network: &self.network, endpoint: &endpoint, trust };
        let greeted = driver(endpoint.protocol).greet(way).await?;
        let session = self.enter(login, greeted).await;
        let session =
            session.map_err(|failure| self.explain_refusal(failure, &planned.destination, shared))?;
        self.turnstile.open();
        drop(turn);
        Ok(session)
    }

    /// Says why a login at the destination was refused: a password that opens other mailboxes is right, so that it is the
    /// mailbox that is not there.
    fn explain_refusal(&self, failure: Failure, mailbox: &Address, shared: bool) -> Failure {
        let secret = self.destination_secret();
        if failure.is(FailureCode::TriesSpent) {
            // The guard lets nobody try any more; which mailbox meets that first is chance, so the remedy is the same.
            let hint = format!(
                "check the user name and the password in Secret \"{secret}\"; a corrected one is tried at once, this one after a day"
            );
            return Failure { hint: Some(hint), ..failure };
        }
        if !failure.is(FailureCode::WrongCredentials) {
            return failure;
        }
        let elsewhere =
            "correct its address at the destination in the list of mailboxes, or in spec.mapping.addresses";
        let (what, hint) = if shared && self.turnstile.is_open() {
            (
                format!("the server lets us into other mailboxes and not into {mailbox}: {}", failure.what),
                format!("make the mailbox {mailbox} there, or {elsewhere}"),
            )
        } else if shared {
            (
                failure.what,
                format!(
                    "check the user name and the password in Secret \"{secret}\", and that {mailbox} exists there"
                ),
            )
        } else {
            (
                failure.what,
                format!("check the user name and the password of {mailbox} in Secret \"{secret}\""),
            )
        };
        Failure { what, hint: Some(hint), ..failure }
    }

    /// Facts of the destination that it does not tell by itself.
    fn manners(&self) -> Manners {
        let destination = &self.spec().destination;
        let by_name = by_host(&destination.endpoint().host).map(|provider| provider.kind);
        if destination.microsoft365().is_some() || by_name == Some(Kind::Microsoft) {
            Manners::EXCHANGE_ONLINE
        } else {
            Manners::default()
        }
    }

    /// The rule of the manifest about labels.
    fn label_rule(&self) -> Result<LabelRule> {
        let mapping = self.spec().mapping.clone().unwrap_or_default();
        Ok(LabelRule { labels: mapping.labels, exclude: Rules::exclude_patterns(&mapping.exclude)? })
    }

    /// The rules of the manifest about carrying messages, in the engine's terms.
    ///
    /// # Errors
    /// [`crate::model::failure::Class::Configuration`] for a pattern that cannot be read.
    pub fn rules(&self) -> Result<Rules> {
        let spec = self.spec();
        let mapping = spec.mapping.clone().unwrap_or_default();
        let path = FolderPath::from_slashes;
        Ok(Rules {
            folders: mapping.folders.iter().map(|rule| (path(&rule.from), path(&rule.to))).collect(),
            exclude: Rules::exclude_patterns(&mapping.exclude)?,
            max_message_bytes: spec.policy.max_message_bytes,
            since: spec
                .policy
                .since
                .and_then(|day| day.to_zoned(TimeZone::UTC).ok())
                .map(|day| day.timestamp()),
            most_per_folder: spec.policy.pilot.as_ref().and_then(|pilot| pilot.messages_per_folder),
            depth: spec.policy.verify.into(),
            settle: Duration::from_secs(u64::from(spec.policy.settle_seconds)),
            pace: Arc::clone(&self.pace),
            daily: None,
            neighbours: Neighbours::default(),
            manners: self.manners(),
            ends: Ends::default(),
            leave_refused: false,
        })
    }

    /// Whose mailbox is read and whose is written.
    ///
    /// # Errors
    /// Those of the Secrets.
    pub(in crate::local) fn ends(
        &self,
        at: usize,
        planned: &PlannedMailbox,
        endpoint: &Endpoint,
    ) -> Result<Ends> {
        let (source, _) = self.source_access(at, planned).at(|| "source".to_owned())?;
        let (destination, ..) = self.destination_access(planned).at(|| "destination".to_owned())?;
        let name = |login: &Login| login.authzid.clone().unwrap_or_else(|| login.user.clone());
        let to = self.spec().destination.endpoint();
        Ok(Ends {
            source: Ends::describe(endpoint, &name(&source), &planned.source.to_string()),
            destination: Ends::describe(&to, &name(&destination), &planned.destination.to_string()),
        })
    }
}

/// Refuses a Secret with the login of one person for several mailboxes: one login opens one mailbox, whatever address is
/// written beside it.
fn check_one_login<'a>(
    credentials: &Credentials,
    secret: &str,
    mailboxes: impl Iterator<Item = &'a Address>,
) -> Result<()> {
    let distinct: BTreeSet<&Address> = mailboxes.collect();
    if !matches!(credentials, Credentials::Single { .. }) || distinct.len() < 2 {
        return Ok(());
    }
    Err(Failure::configuration(format!(
        "names {} mailboxes, and Secret \"{secret}\" holds the login of one (username): all of them would be that one mailbox",
        distinct.len()
    ))
    .hint("give the Secret a key mailboxes.csv with a row for each mailbox, or a master user, or name one mailbox"))
}

/// Refuses to log in by another name than the plan says: whoever approved it approved whose mailbox is read and written.
/// `planned` is the name, and that none was known; nothing where nobody looked.
fn check_name(login: &Login, planned: Option<&Option<String>>, secret: &str) -> Result<()> {
    let (Some(planned), names) = (planned, login.names()) else { return Ok(()) };
    if planned.as_deref() == Some(&names) {
        return Ok(());
    }
    let planned = planned.as_ref().map_or_else(|| "no login".to_owned(), |name| printable(name));
    let what =
        format!("Secret \"{secret}\" logs in as {} now, and the plan says {planned}", printable(&names));
    Err(Failure::configuration(what).code(FailureCode::LoginChanged).hint(LOOK_AGAIN))
}

/// The remedy where an end is another than the plan says.
const LOOK_AGAIN: &str = "nothing was written; look again (mailferry run --stage Plan), and review what changed with mailferry plan --diff";

/// The remedy where other authorities are trusted than the plan says: most often the command line lacks what the run was given, and
/// looking again without it would make a plan that trusts none.
const GIVE_THE_SAME: &str = "give the same as before: --ca FILE, or caRef in the manifest. Only if the authorities really changed, look again (mailferry run --stage Plan), and review what changed with mailferry plan --diff";

/// Refuses to trust other authorities than the plan says: with the DNS, they decide which server is taken for the right
/// one. `planned` is what the plan says; nothing where nobody looked.
fn check_authorities(trust: &Trust, planned: Option<&Option<String>>) -> Result<()> {
    let Some(planned) = planned.map(Option::as_deref).filter(|planned| *planned != trust.digest()) else {
        return Ok(());
    };
    let named = |digest: Option<&str>| digest.unwrap_or("the system's alone").to_owned();
    let what = format!(
        "the authorities that are believed beside the system's (caRef, --ca) are {} now, and the plan says {}",
        named(trust.digest()),
        named(planned)
    );
    Err(Failure::configuration(what).code(FailureCode::AuthoritiesChanged).hint(GIVE_THE_SAME))
}

fn source_login(credentials: &Credentials, planned: &PlannedMailbox) -> Option<Login> {
    credentials.login(&planned.source, &planned.login_name, planned.login_name_is_given)
}
