//! Finds out about one domain: which mailboxes it has, and what discovery sees of them.

use std::sync::Arc;

use super::{Tools, check_one_login, source_login};
use crate::auth::credentials::{Credentials, Login};
use crate::discovery::{
    Chosen, Clock, DEADLINE, FolderRules, MailboxRequest, Request, Watcher, discover, look_into_files,
};
use crate::local::clock::SystemClock;
use crate::local::preflight::look_ahead;
use crate::model::endpoint::Endpoint;
use crate::model::evidence::{Authorities, DomainDiscovery, LoginNames, MailboxDiscovery};
use crate::model::failure::{Failure, FailureCode, Place, Result};
use crate::model::finding::{Code, Finding};
use crate::model::folder::FolderPath;
use crate::model::text::counted;
use crate::net::tls::Trust;
use crate::plan::mailboxes::{Overrides, PlannedMailbox};

impl Tools {
    fn request(&self, at: usize, mailboxes: &[PlannedMailbox], before: &[Endpoint]) -> Result<Request> {
        let domain = &self.spec().domains[at];
        self.check_references(at)?;
        let trust = self.source_trust(at)?;
        let credentials = self.credentials(at, &trust).at(|| self.place_in(at, ".credentialsRef.name"))?;
        let secret = self.source_secret(at);
        check_one_login(&credentials, secret, mailboxes.iter().map(|planned| &planned.source))
            .at(|| self.place_in(at, ".mailboxes"))?;
        let overrides = Overrides::of(domain);
        // A Secret that names one user has given the name.
        let is_named = matches!(credentials, Credentials::Single { .. });
        let name_of = |planned: &PlannedMailbox| {
            (!is_named && !planned.login_name_is_given).then(|| planned.login_name.clone())
        };
        let mailbox = |planned: &PlannedMailbox| MailboxRequest {
            address: planned.source.clone(),
            login: source_login(&credentials, planned),
            name: name_of(planned),
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
            before: before.to_vec(),
            mailboxes: mailboxes.iter().map(mailbox).collect(),
            scope: self.rules()?.scope(),
            rules: self.folder_rules(),
            shared_credentials: credentials.is_shared(),
            trust,
            weights: self.spec().policy.fidelity_weights,
            // Where the manifest names servers, what is published is a supplement that nobody should wait for long.
            deadline: if domain.servers.is_empty() { DEADLINE } else { DEADLINE / 4 },
        })
    }

    /// The manifest's rules for folders.
    fn folder_rules(&self) -> FolderRules {
        let mapping = self.spec().mapping.as_ref();
        let renamed = mapping.iter().flat_map(|mapping| &mapping.folders);
        FolderRules {
            exclude: mapping.map(|mapping| mapping.exclude.clone()).unwrap_or_default(),
            renamed: renamed.map(|rule| FolderPath::from_slashes(&rule.from)).collect(),
        }
    }

    /// Finds out about one domain. Failures are in the document. `before` is where mailboxes were read when it was looked
    /// at before.
    ///
    /// # Errors
    /// [`crate::model::failure::Class::Configuration`] for a domain whose name is not valid.
    pub async fn discover(
        &self,
        at: usize,
        mailboxes: &Result<Arc<[PlannedMailbox]>>,
        before: &[Endpoint],
        watcher: &dyn Watcher,
    ) -> Result<DomainDiscovery> {
        match self.ask(at, mailboxes, before, watcher).await {
            Ok(discovery) => Ok(discovery),
            Err(failure) => {
                let mut discovery = unreadable_domain(&self.spec().domains[at].name, mailboxes, failure)?;
                discovery.findings.extend(self.left_out(at));
                Ok(discovery)
            }
        }
    }

    /// Writes down by which names the mailboxes are logged in to at both ends.
    fn name_logins(&self, request: &Request, mailboxes: &[PlannedMailbox], discovery: &mut DomainDiscovery) {
        let trust = self.trust(self.spec().destination.ca());
        // Where the Secret cannot be read, whoever logs in says so.
        let there = trust.and_then(|trust| self.destination_credentials(&trust));
        let asked = request.mailboxes.iter().zip(mailboxes);
        for (seen, (asked, planned)) in discovery.mailboxes.iter_mut().zip(asked) {
            let login_there = self.login_there(&planned.destination, Some(&planned.source), &there);
            let login = asked.login.as_ref();
            // A name that the server publishes may have taken the place of the mailbox's own.
            let published = seen.login_name.as_ref().zip(asked.name.as_ref());
            let renamed = login.zip(published).and_then(|(login, (to, from))| login.with_name(from, to));
            seen.logins = Some(LoginNames {
                source: renamed.as_ref().or(login).map(Login::names),
                destination: login_there.ok().map(|(login, _)| login.names()),
            });
        }
    }

    /// Finds out about a domain whose mailboxes are in files: nobody is asked, and the files themselves are the evidence.
    async fn look_into_files(
        &self,
        at: usize,
        request: &Request,
        watcher: &dyn Watcher,
    ) -> Result<DomainDiscovery> {
        let Some(files) = &self.spec().domains[at].files else {
            return Err(Failure::internal("a domain on servers was looked for in files"));
        };
        let named = files.endpoint();
        let places =
            request.mailboxes.iter().map(|mailbox| self.place_of_source(at, &mailbox.address, &named));
        let places = places.collect::<Result<Vec<Endpoint>>>()?;
        Ok(look_into_files(&self.network, request, &named, &places, &SystemClock, watcher).await)
    }

    async fn ask(
        &self,
        at: usize,
        mailboxes: &Result<Arc<[PlannedMailbox]>>,
        before: &[Endpoint],
        watcher: &dyn Watcher,
    ) -> Result<DomainDiscovery> {
        let mailboxes = mailboxes.clone()?;
        let request = self.request(at, &mailboxes, before)?;
        self.check_one_destination(mailboxes.iter().map(|planned| &planned.destination))?;
        let mut discovery = if self.spec().domains[at].files.is_some() {
            self.look_into_files(at, &request, watcher).await?
        } else {
            discover(&self.network, &request, &*self.guard, &SystemClock, watcher).await
        };
        self.name_logins(&request, &mailboxes, &mut discovery);
        let there = self.trust(self.spec().destination.ca()).ok();
        discovery.authorities = Some(Authorities {
            source: request.trust.digest().map(str::to_owned),
            // Where they cannot be read, whoever logs in says so.
            destination: there.as_ref().and_then(Trust::digest).map(str::to_owned),
        });
        discovery.findings.extend(find_lost_tokens(&request.mailboxes));
        discovery.findings.extend(self.left_out(at));
        if !mailboxes.is_empty() {
            look_ahead(self, &mailboxes, &mut discovery).await;
        }
        if mailboxes.is_empty() {
            // Its servers are known now; still, a domain of which nothing would be carried is not a success.
            let failure = none_named().at(self.place_in(at, ".mailboxes"));
            discovery.findings.insert(0, Finding::of_domain(Code::MailboxListMissing, failure.sentence()));
            discovery.failure.get_or_insert(failure);
        }
        Ok(discovery)
    }
}

/// All that is known of a domain that could not even be asked about: its Secret, its authority or its list is missing.
///
/// # Errors
/// [`crate::model::failure::Class::Configuration`] for a domain whose name is not valid.
pub fn unreadable_domain(
    name: &str,
    listed: &Result<Arc<[PlannedMailbox]>>,
    failure: Failure,
) -> Result<DomainDiscovery> {
    let now = SystemClock.now();
    let code = match listed {
        Err(unlisted) if unlisted.is(FailureCode::BadList) => Code::ListRefused,
        Err(unlisted) if !unlisted.is(FailureCode::MissingSecret) => Code::MailboxListMissing,
        _ => Code::CredentialsMissing,
    };
    let mailbox = |planned: &PlannedMailbox| MailboxDiscovery {
        address: planned.source.clone(),
        endpoint: None,
        overridden: false,
        attempts: Vec::new(),
        logins: None,
        login_name: None,
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

/// The failure of a domain that has no mailboxes as far as anybody said.
pub(super) fn none_named() -> Failure {
    Failure::configuration("none of its mailboxes is named")
        .hint("list them in mailboxes.list or mailboxes.configMapRef: a master user opens every mailbox and names none")
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
