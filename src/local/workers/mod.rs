//! What a pod does in a cluster, done by a task here: discover one domain, carry one mailbox. Secrets are read when a
//! task begins, so that a corrected one is used at the next attempt.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::tz::TimeZone;

use super::clock::SystemClock;
use super::grants::{Tenant, TokenAccess};
use super::guard::{DurableGuard, Turnstile};
use super::preflight::look_ahead;
use super::secrets::Secrets;
use crate::api::domain::Mailboxes;
use crate::api::manifest::Part;
use crate::api::{MailMigration, MailMigrationSpec, names};
use crate::discovery::findings::of_channel;
use crate::discovery::{Chosen, Clock, DEADLINE, MailboxRequest, Request, Watcher, discover};
use crate::ledger::Store;
use crate::mail::credentials::{Credentials, Login};
use crate::mail::imap::destination::ImapDestination;
use crate::mail::imap::labels::LabelRule;
use crate::mail::imap::names::Spelling;
use crate::mail::imap::session::{Session, greet, greet_if_free};
use crate::mail::imap::source::{ImapSource, Known};
use crate::mail::network::Network;
use crate::mail::oauth::Tokens;
use crate::mail::pop3::Pop3Source;
use crate::mail::tls::{Trust, Trusts};
use crate::mail::{Destination, Source};
use crate::model::address::Address;
use crate::model::endpoint::Endpoint;
use crate::model::evidence::{DomainDiscovery, MailboxDiscovery, TlsFacts};
use crate::model::failure::{Class, Failure, Place, Result};
use crate::model::finding::{Code, Finding};
use crate::model::folder::FolderPath;
use crate::model::preset::by_imap_host;
use crate::model::progress::MessageCounts;
use crate::model::protocol::Protocol;
use crate::model::provider::{Kind, by_host};
use crate::model::record::MailboxRecord;
use crate::model::text::counted;
use crate::plan::mailboxes::{PlannedMailbox, find_override, plan_mailboxes, read_csv};
use crate::transfer::daily::{self, DailyLimit};
use crate::transfer::flags::Manners;
use crate::transfer::lanes::{Lane, MoreLanes};
use crate::transfer::neighbours::Neighbours;
use crate::transfer::pace::Pace;
use crate::transfer::progress::MailboxProgress;
use crate::transfer::{Rules, sync_mailbox_in_lanes};

/// All that a task of one migration needs; cheap to clone.
#[derive(Clone)]
pub struct Tools {
    /// The migration as it was read.
    pub migration: Arc<MailMigration>,
    /// The place of its first domain in `spec.domains` as the user wrote it: a pod is given one of many.
    pub first_domain: usize,
    /// Where secrets come from.
    pub secrets: Arc<Secrets>,
    /// The way to servers.
    pub network: Arc<Network>,
    /// PEM text of an authority given on the command line; empty when there is none.
    pub authority: Arc<str>,
    /// Whose certificates are believed, by the authorities that are added to the system's.
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

    /// What a mailbox's ledger is called in its store; its `MailboxMigration` is called the same.
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
            Mailboxes::Discover(_) => {
                self.check_references(at)?;
                self.discover_rows(at)?
            }
        };
        plan_mailboxes(self.spec(), domain, &rows).at(|| self.place_in(at, ".mailboxes"))
    }

    /// The mailboxes that the credentials name by themselves.
    fn discover_rows(&self, at: usize) -> Result<Vec<crate::api::domain::MailboxEntry>> {
        let domain = &self.spec().domains[at];
        let entry = |address: String, username| crate::api::domain::MailboxEntry {
            address,
            destination: None,
            username,
        };
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

    /// A domain's credentials; an authority that is private to the mail servers may be the token endpoint's too.
    fn credentials(&self, at: usize, trust: &Trust) -> Result<Credentials> {
        let name = &self.spec().domains[at].credentials_ref.name;
        self.secrets.credentials(self.namespace(), name, &self.token_access(trust))
    }

    /// Whose certificates are believed at a domain's servers.
    fn source_trust(&self, at: usize) -> Result<Trust> {
        self.trust(self.spec().domains[at].ca_ref.as_ref()).at(|| self.place_in(at, ".caRef"))
    }

    fn check_references(&self, at: usize) -> Result<()> {
        self.secrets.check_references(&self.migration, Part::Domain(at))
    }

    fn request(&self, at: usize, mailboxes: &[PlannedMailbox]) -> Result<Request> {
        let domain = &self.spec().domains[at];
        self.check_references(at)?;
        let trust = self.source_trust(at)?;
        let credentials = self.credentials(at, &trust).at(|| self.place_in(at, ".credentialsRef.name"))?;
        let mailbox = |planned: &PlannedMailbox| MailboxRequest {
            address: planned.source.clone(),
            login: source_login(&credentials, planned),
            chosen: find_override(domain, &planned.source).map(|o| Chosen {
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
    /// [`Class::Configuration`] for a domain whose name is none.
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

    async fn ask(
        &self,
        at: usize,
        mailboxes: &Result<Arc<[PlannedMailbox]>>,
        watcher: &dyn Watcher,
    ) -> Result<DomainDiscovery> {
        let mailboxes = mailboxes.clone()?;
        let request = self.request(at, &mailboxes)?;
        let mut discovery = discover(&self.network, &request, &*self.guard, &SystemClock, watcher).await;
        discovery.findings.extend(find_lost_tokens(&request.mailboxes));
        if self.spec().destination.microsoft365().is_some() && !mailboxes.is_empty() {
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

    /// How a mailbox logs in at the source, and whose certificates are believed there.
    fn source_access(&self, at: usize, planned: &PlannedMailbox) -> Result<(Login, Trust)> {
        let trust = self.source_trust(at)?;
        let credentials = self.credentials(at, &trust)?;
        let login = source_login(&credentials, planned).ok_or_else(|| {
            Failure::configuration(format!(
                "Secret \"{}\" has no password for it",
                self.spec().domains[at].credentials_ref.name
            ))
            .hint("add a row to mailboxes.csv")
        })?;
        Ok((login, trust))
    }

    /// Logs in to a mailbox at the source. What is known then is for further sessions, where the protocol lets there be any.
    pub(super) async fn open_source(
        &self,
        at: usize,
        planned: &PlannedMailbox,
        endpoint: &Endpoint,
    ) -> Result<(Box<dyn Source>, Option<Known>)> {
        let (login, trust) = self.source_access(at, planned)?;
        Ok(match endpoint.protocol {
            Protocol::Imap => {
                let greeted = greet(&self.network, endpoint, &trust).await?;
                let session = self.guard.hold(&login, greeted.login(&login)).await?;
                let source = ImapSource::with_labels(session, self.label_rule()?).await?;
                let known = source.known().clone();
                (Box::new(source), Some(known))
            }
            Protocol::Pop3 => {
                let source = Pop3Source::log_in(&self.network, &trust, endpoint, &login);
                (Box::new(self.guard.hold(&login, source).await?), None)
            }
        })
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
        self.secrets.credentials(self.namespace(), &wanted.credentials().name, &access)
    }

    /// Refuses credentials that cannot open mailboxes of this kind of destination, before anything is begun.
    ///
    /// # Errors
    /// A failure that names the field and the Secret.
    pub fn check_destination(&self) -> Result<()> {
        let wanted = &self.spec().destination;
        if wanted.microsoft365().is_none() {
            return Ok(());
        }
        let checked = self.trust(wanted.ca()).and_then(|trust| self.destination_credentials(&trust));
        checked.map(drop).at(|| self.place("spec.destination.microsoft365.credentialsRef.name"))
    }

    /// How a mailbox logs in at the destination, whose certificates are believed there, and whether the password opens
    /// other mailboxes too.
    pub(super) fn destination_access(&self, planned: &PlannedMailbox) -> Result<(Login, Trust, bool)> {
        let wanted = &self.spec().destination;
        let trust = self.trust(wanted.ca())?;
        let name = &wanted.credentials().name;
        let credentials = self.destination_credentials(&trust)?;
        let address = planned.destination.to_string();
        let login = credentials.login(&address, &address, false).ok_or_else(|| {
            Failure::configuration(format!("Secret \"{name}\" has no password for {address}"))
                .hint("add a row to mailboxes.csv")
        })?;
        Ok((login, trust, credentials.is_shared()))
    }

    /// Logs in to a mailbox at the destination.
    ///
    /// # Errors
    /// Those of the Secret, the connection and the login.
    pub async fn open_destination(&self, planned: &PlannedMailbox) -> Result<ImapDestination> {
        let (login, trust, shared) = self.destination_access(planned)?;
        let turn = if shared { self.turnstile.enter().await } else { None };
        let greeted = greet(&self.network, &self.spec().destination.endpoint(), &trust).await?;
        let session = self.guard.hold(&login, greeted.login(&login)).await?;
        self.turnstile.open();
        drop(turn);
        ImapDestination::new(session).await
    }

    /// What is known of the destination that it does not tell by itself.
    fn manners(&self) -> Manners {
        let destination = &self.spec().destination;
        let by_name = by_host(&destination.endpoint().host).map(|provider| provider.kind);
        if destination.microsoft365().is_some() || by_name == Some(Kind::Microsoft) {
            Manners::EXCHANGE_ONLINE
        } else {
            Manners::default()
        }
    }

    /// What the manifest says about labels.
    fn label_rule(&self) -> Result<LabelRule> {
        let mapping = self.spec().mapping.clone().unwrap_or_default();
        Ok(LabelRule { labels: mapping.labels, exclude: Rules::exclude_patterns(&mapping.exclude)? })
    }

    /// What the manifest says about carrying messages, in the engine's terms.
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
        })
    }

    /// Carries one mailbox once and says how it went.
    pub async fn sync(
        &self,
        at: usize,
        planned: &PlannedMailbox,
        endpoint: &Endpoint,
        pass: u32,
        before: MailboxRecord,
        progress: &MailboxProgress,
    ) -> (MailboxRecord, Option<TlsFacts>) {
        let attempts = if before.pass == pass { before.attempts + 1 } else { 1 };
        // Some servers end a session after ten refusals: whoever gets through them gets on as well.
        let judged = |counts: &MessageCounts| counts.copied + counts.failed;
        let judged_before = judged(&before.counts);
        let started = SystemClock.now();
        let mut record =
            MailboxRecord { pass, attempts, started: Some(started), ended: None, failure: None, ..before };
        let mut tls = None;
        // Several sessions are a large future.
        let synced = Box::pin(self.sync_into(at, planned, endpoint, &mut record, &mut tls, progress));
        if let Err(mut failure) = synced.await {
            if failure.class == Class::Throttled {
                // Another session may have heard of a longer one.
                let hosts = [&endpoint.host, &self.spec().destination.endpoint().host];
                let left = hosts.into_iter().filter_map(|host| self.network.pause_left(host)).max();
                failure.wait = failure.wait.max(left);
            }
            if failure.class == Class::Quota {
                let full = Finding::about(Code::DestinationFull, &planned.destination, failure.what.clone());
                record.findings.retain(|finding| finding.code != Code::DestinationFull);
                record.findings.push(full);
            }
            // Whoever gets on is not at the end: a session that a server ends every hour may be begun anew all day.
            if judged(&record.counts) > judged_before {
                record.attempts = 1;
            }
            record.failure = Some(failure);
        }
        record.ended = Some(SystemClock.now());
        (record, tls)
    }

    /// How much of a mailbox may be read in a day: what the manifest says, else what is known of the service.
    fn daily_limit(&self, source: &Endpoint) -> Option<Arc<DailyLimit>> {
        let known = || match source.protocol {
            Protocol::Imap => by_imap_host(&source.host)?.planned_bytes_per_day(),
            Protocol::Pop3 => None,
        };
        let bytes = self.spec().policy.limits.source_bytes_per_day.or_else(known)?;
        Some(Arc::new(DailyLimit::new(bytes, || SystemClock.now())))
    }

    /// Tells the network how a session in mid-work ended. Who said it is in the failure; where it is not, it was either.
    fn note_end(&self, source: &Endpoint, failure: &Failure) {
        // A pause of our own concerns this mailbox alone, and no host asked for it.
        if failure.place.iter().any(|place| place == daily::FIELD) {
            return;
        }
        let destination = self.spec().destination.endpoint();
        let said =
            |endpoint: &Endpoint| failure.place.iter().any(|place| place.starts_with(&endpoint.address()));
        for endpoint in [source, &destination] {
            if said(endpoint) || !said(source) && !said(&destination) {
                self.network.note(&endpoint.host, failure);
            }
        }
    }

    async fn sync_into(
        &self,
        at: usize,
        planned: &PlannedMailbox,
        endpoint: &Endpoint,
        record: &mut MailboxRecord,
        tls: &mut Option<TlsFacts>,
        progress: &MailboxProgress,
    ) -> Result<()> {
        let ledger = self.store.claim(&self.key(&planned.source)).await?;
        let beside = planned.beside.iter().map(|other| self.key(other)).collect();
        let rules = Rules {
            neighbours: Neighbours::new(Arc::clone(&self.store), beside),
            daily: self.daily_limit(endpoint),
            ..self.rules()?
        };
        progress.enter_phase("logging in");
        let (source, destination) =
            tokio::join!(self.open_source(at, planned, endpoint), self.open_destination(planned));
        let (mut source, known) = source.at(|| "source".to_owned())?;
        let mut destination = destination.at(|| "destination".to_owned())?;
        let lanes = Lanes {
            tools: self,
            at,
            planned,
            endpoint,
            source: known,
            destination: destination.spelling().clone(),
        };
        tls.clone_from(&destination.facts().tls);
        let channel = of_channel(destination.facts(), "Mail is written to", SystemClock.now());
        let outcome =
            sync_mailbox_in_lanes(&mut *source, &mut destination, &lanes, &*ledger, &rules, progress).await;
        if let Err(failure) = &outcome {
            self.note_end(endpoint, failure);
        }
        tokio::join!(source.close(), destination.close());
        // Counts are true also after a failure: they are the ledger's.
        record.counts = ledger.counts().await?;
        record.altered = ledger.count_altered().await?;
        let outcome = outcome?;
        record.folders = outcome.folders;
        record.sent = outcome.sent;
        record.recognised = outcome.recognised;
        record.bytes_sent += outcome.bytes;
        record.flags_updated += outcome.flags_updated;
        record.sizes_checked += outcome.sizes_checked;
        record.digests_checked += outcome.digests_checked;
        record.findings = outcome.findings;
        record.findings.extend(channel);
        Ok(())
    }
}

/// Further sessions of a mailbox, as far as the hosts' limits leave room for them.
struct Lanes<'a> {
    tools: &'a Tools,
    at: usize,
    planned: &'a PlannedMailbox,
    endpoint: &'a Endpoint,
    /// What is known of the source; `None` where a mailbox has one session only.
    source: Option<Known>,
    destination: Spelling,
}

impl Lanes<'_> {
    async fn log_in(&self, endpoint: &Endpoint, login: &Login, trust: &Trust) -> Result<Option<Session>> {
        let begun = async {
            let Some(greeted) = greet_if_free(&self.tools.network, endpoint, trust).await? else {
                return Ok(None);
            };
            self.tools.guard.hold(login, greeted.login(login)).await.map(Some)
        };
        begun.await.inspect_err(|failure| self.tools.network.note_refused(&endpoint.host, failure))
    }
}

#[async_trait]
impl MoreLanes for Lanes<'_> {
    async fn open(&self) -> Result<Option<Lane>> {
        let Some(known) = &self.source else { return Ok(None) };
        let (login, trust) = self.tools.source_access(self.at, self.planned)?;
        let (new_login, new_trust, _) = self.tools.destination_access(self.planned)?;
        let endpoint = self.tools.spec().destination.endpoint();
        let (source, destination) = tokio::join!(
            self.log_in(self.endpoint, &login, &trust),
            self.log_in(&endpoint, &new_login, &new_trust)
        );
        let (Some(source), Some(destination)) = (source?, destination?) else { return Ok(None) };
        let source: Box<dyn Source> = Box::new(ImapSource::beside(source, known.clone()));
        let destination: Box<dyn Destination> =
            Box::new(ImapDestination::beside(destination, self.destination.clone()));
        Ok(Some((source, destination)))
    }

    fn ended(&self, failure: &Failure) {
        self.tools.note_end(self.endpoint, failure);
    }

    fn should_be_fewer(&self) -> bool {
        let network = &self.tools.network;
        network.should_have_fewer(&self.endpoint.host)
            || network.should_have_fewer(&self.tools.spec().destination.endpoint().host)
    }
}

/// What is known of a domain that could not even be asked about: its Secret, its authority or its list is missing.
///
/// # Errors
/// [`Class::Configuration`] for a domain whose name is none.
pub fn unreadable_domain(
    name: &str,
    listed: &Result<Arc<[PlannedMailbox]>>,
    failure: Failure,
) -> Result<DomainDiscovery> {
    let now = SystemClock.now();
    let code = match listed {
        Err(unlisted) if !unlisted.what.contains("Secret") => Code::MailboxListMissing,
        _ => Code::CredentialsMissing,
    };
    let mailbox = |planned: &PlannedMailbox| MailboxDiscovery {
        address: planned.source.clone(),
        endpoint: None,
        overridden: false,
        attempts: Vec::new(),
        size: None,
        failure: Some(failure.clone()),
    };
    let mailboxes = listed.iter().flat_map(|listed| listed.iter()).map(mailbox).collect();
    Ok(DomainDiscovery {
        domain: name.parse().map_err(Failure::configuration)?,
        started: now,
        finished: now,
        evidence: Vec::new(),
        servers: Vec::new(),
        services: Vec::new(),
        sessions: Vec::new(),
        fidelity: None,
        candidates: Vec::new(),
        mailboxes,
        findings: vec![Finding::of_domain(code, failure.sentence())],
        failure: Some(failure),
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

fn source_login(credentials: &Credentials, planned: &PlannedMailbox) -> Option<Login> {
    credentials.login(&planned.source.to_string(), &planned.login_name, planned.login_name_is_given)
}
