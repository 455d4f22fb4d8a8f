//! Finds out about one domain: which mailboxes it has, and what discovery sees of them.

use std::sync::Arc;

use super::{Tools, check_one_login, login_to, source_login};
use crate::api::domain::{MailboxEntry, Mailboxes};
use crate::discovery::{Chosen, Clock, DEADLINE, MailboxRequest, Request, Watcher, discover};
use crate::local::clock::SystemClock;
use crate::local::preflight::look_ahead;
use crate::mail::credentials::{Credentials, Login};
use crate::model::evidence::{DomainDiscovery, LoginNames, MailboxDiscovery};
use crate::model::failure::{Failure, FailureCode, Place, Result};
use crate::model::finding::{Code, Finding};
use crate::model::text::counted;
use crate::plan::mailboxes::{Overrides, PlannedMailbox, plan_mailboxes, read_csv};

impl Tools {
    /// The mailboxes of a domain.
    ///
    /// # Errors
    /// A failure that names the field, the Secret or the row.
    pub fn list_mailboxes(&self, at: usize) -> Result<Vec<PlannedMailbox>> {
        let domain = &self.spec().domains[at];
        let rows = match &domain.mailboxes {
            // What the manifest itself lists is known, whatever else is missing.
            Mailboxes::List(_) => Vec::new(),
            Mailboxes::ConfigMapRef(wanted) => {
                self.check_references(at)?;
                let place = format!("ConfigMap \"{}\", key {}", wanted.name, wanted.key);
                let text = self
                    .secrets
                    .config_value(self.namespace(), &wanted.name, &wanted.key)
                    .at(|| self.place_in(at, ".mailboxes.configMapRef"))?;
                read_csv(&text, &place)?
            }
            Mailboxes::Discover(_) => self
                .check_references(at)
                .and_then(|()| self.discover_rows(at))
                .map_err(|failure| failure.code(FailureCode::MissingSecret))?,
        };
        plan_mailboxes(self.spec(), domain, &rows).at(|| self.place_in(at, ".mailboxes"))
    }

    /// The mailboxes that the credentials name by themselves.
    fn discover_rows(&self, at: usize) -> Result<Vec<MailboxEntry>> {
        let domain = &self.spec().domains[at];
        let entry = |address: String, username| MailboxEntry { address, destination: None, username };
        let trust = self.source_trust(at)?;
        match self.credentials(at, &trust).at(|| self.place_in(at, ".credentialsRef.name"))? {
            Credentials::PerMailbox(rows) => {
                Ok(rows.into_iter().map(|row| entry(row.address, row.username)).collect())
            }
            Credentials::Single { username, .. } => {
                let address = if username.contains('@') {
                    username.clone()
                } else {
                    format!("{username}@{}", domain.name)
                };
                Ok(vec![entry(address, Some(username))])
            }
            // Who may open every mailbox lists none.
            Credentials::Master { .. } | Credentials::Application(_) => Ok(Vec::new()),
        }
    }

    fn request(&self, at: usize, mailboxes: &[PlannedMailbox]) -> Result<Request> {
        let domain = &self.spec().domains[at];
        self.check_references(at)?;
        let trust = self.source_trust(at)?;
        let credentials = self.credentials(at, &trust).at(|| self.place_in(at, ".credentialsRef.name"))?;
        let secret = &domain.credentials_ref.name;
        check_one_login(&credentials, secret, mailboxes.iter().map(|planned| &planned.source))
            .at(|| self.place_in(at, ".mailboxes"))?;
        let overrides = Overrides::of(domain);
        let mailbox = |planned: &PlannedMailbox| MailboxRequest {
            address: planned.source.clone(),
            login: source_login(&credentials, planned),
            chosen: overrides.find(&planned.source).map(|o| Chosen {
                protocol: o.protocol,
                endpoint: o.endpoint(),
                reason: o.reason.clone(),
            }),
        };
        Ok(Request {
            domain: domain
                .name
                .parse()
                .map_err(|e: String| Failure::configuration(e).at(self.place_in(at, ".name")))?,
            servers: domain.servers.iter().map(crate::api::domain::Server::endpoint).collect(),
            mailboxes: mailboxes.iter().map(mailbox).collect(),
            scope: self.rules()?.scope(),
            shared_credentials: credentials.is_shared(),
            trust,
            weights: self.spec().policy.fidelity_weights,
            // Where the manifest names servers, what is published is a supplement that nobody should wait for long.
            deadline: if domain.servers.is_empty() { DEADLINE } else { DEADLINE / 4 },
        })
    }

    /// Finds out about one domain. What went wrong is in the document.
    ///
    /// # Errors
    /// [`crate::model::failure::Class::Configuration`] for a domain whose name is none.
    pub async fn discover(
        &self,
        at: usize,
        mailboxes: &Result<Arc<[PlannedMailbox]>>,
        watcher: &dyn Watcher,
    ) -> Result<DomainDiscovery> {
        match self.ask(at, mailboxes, watcher).await {
            Ok(discovery) => Ok(discovery),
            Err(failure) => unreadable_domain(&self.spec().domains[at].name, mailboxes, failure),
        }
    }

    /// Writes down by which names the mailboxes are logged in to at both ends.
    fn name_logins(&self, request: &Request, mailboxes: &[PlannedMailbox], discovery: &mut DomainDiscovery) {
        let trust = self.trust(self.spec().destination.ca());
        // Where the Secret cannot be read, whoever logs in says so.
        let there = trust.and_then(|trust| self.destination_credentials(&trust)).ok();
        let asked = request.mailboxes.iter().zip(mailboxes);
        for (seen, (asked, planned)) in discovery.mailboxes.iter_mut().zip(asked) {
            let there = there.as_ref().and_then(|there| login_to(there, &planned.destination));
            seen.logins = Some(LoginNames {
                source: asked.login.as_ref().map(Login::names),
                destination: there.map(|login| login.names()),
            });
        }
    }

    async fn ask(
        &self,
        at: usize,
        mailboxes: &Result<Arc<[PlannedMailbox]>>,
        watcher: &dyn Watcher,
    ) -> Result<DomainDiscovery> {
        let mailboxes = mailboxes.clone()?;
        let request = self.request(at, &mailboxes)?;
        self.check_one_destination(mailboxes.iter().map(|planned| &planned.destination))?;
        let mut discovery = discover(&self.network, &request, &*self.guard, &SystemClock, watcher).await;
        self.name_logins(&request, &mailboxes, &mut discovery);
        discovery.findings.extend(find_lost_tokens(&request.mailboxes));
        if !mailboxes.is_empty() {
            look_ahead(self, &mailboxes, &mut discovery).await;
        }
        if mailboxes.is_empty() {
            // Its servers are known now; still, a domain of which nothing would be carried is no success.
            let failure = Failure::configuration("none of its mailboxes is named")
                .hint("list them in mailboxes.list or mailboxes.configMapRef: a master user opens every mailbox and names none")
                .at(self.place_in(at, ".mailboxes"));
            discovery.findings.insert(0, Finding::of_domain(Code::MailboxListMissing, failure.sentence()));
            discovery.failure.get_or_insert(failure);
        }
        Ok(discovery)
    }
}

/// What is known of a domain that could not even be asked about: its Secret, its authority or its list is missing.
///
/// # Errors
/// [`crate::model::failure::Class::Configuration`] for a domain whose name is none.
pub fn unreadable_domain(
    name: &str,
    listed: &Result<Arc<[PlannedMailbox]>>,
    failure: Failure,
) -> Result<DomainDiscovery> {
    let now = SystemClock.now();
    let code = match listed {
        Err(unlisted) if !unlisted.is(FailureCode::MissingSecret) => Code::MailboxListMissing,
        _ => Code::CredentialsMissing,
    };
    let mailbox = |planned: &PlannedMailbox| MailboxDiscovery {
        address: planned.source.clone(),
        endpoint: None,
        overridden: false,
        attempts: Vec::new(),
        logins: None,
        size: None,
        failure: Some(failure.clone()),
    };
    let mailboxes = listed.iter().flat_map(|listed| listed.iter()).map(mailbox).collect();
    Ok(DomainDiscovery {
        mailboxes,
        findings: vec![Finding::of_domain(code, failure.sentence())],
        failure: Some(failure),
        ..DomainDiscovery::empty(name.parse().map_err(Failure::configuration)?, now, now)
    })
}

/// Tells of refresh tokens that were replaced and are lost with this process.
fn find_lost_tokens(mailboxes: &[MailboxRequest]) -> Option<Finding> {
    let logins = mailboxes.iter().filter_map(|mailbox| mailbox.login.as_ref());
    let lost = logins.filter(|login| login.proof.is_lost_with_the_process()).count();
    (lost > 0).then(|| {
        let text = format!(
            "The authorization server replaced {} at its use, and here is no place to keep a new one.",
            counted(lost as u64, "refresh token", "refresh tokens")
        );
        Finding::of_domain(Code::RefreshTokenReplaced, text)
    })
}
