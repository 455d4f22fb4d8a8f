//! Whether what discovery saw of a domain still holds, so that a pass need not log in to every mailbox, and ask the whole
//! domain, only to learn it once more.
//!
//! It holds while everything that it depends on is as it was (the manifest's part, the list, the Secrets, the authorities,
//! the name server, Mailferry itself), nothing was amiss with the domain or a mailbox of it, and it is not too old.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::workers::Tools;
use crate::api::columns::Columns;
use crate::api::destination::Destination;
use crate::api::domain::DomainSpec;
use crate::api::mapping::Mapping;
use crate::model::evidence::{DomainDiscovery, MailboxDiscovery, Outcome};
use crate::model::failure::{FailureCode, Result};
use crate::model::fidelity::Weights;
use crate::model::finding::{Code, Finding, Hold};
use crate::model::record::MailboxRecord;
use crate::plan::mailboxes::PlannedMailbox;
use crate::plan::pass::{counted_by, fingerprint};

/// How long what discovery saw holds.
const HOLDS: SignedDuration = SignedDuration::from_hours(12);
/// How long it holds where the name server gave no answer to a question and the manifest names the servers.
const HOLDS_UNANSWERED: SignedDuration = SignedDuration::from_mins(10);

/// All in a manifest that the answers of discovery depend on.
#[derive(Serialize)]
struct Inputs<'a> {
    version: &'a str,
    domain: &'a DomainSpec,
    mailboxes: &'a [PlannedMailbox],
    left_out: Vec<Finding>,
    columns: Option<&'a Columns>,
    mapping: Option<&'a Mapping>,
    allowed_networks: &'a [String],
    authorities: [String; 2],
    /// Of the domain's Secret and of the destination's.
    credentials: [String; 2],
    destination: &'a Destination,
    weights: Weights,
    counted_by: String,
    trigger: Option<&'a str>,
}

impl Tools {
    /// A digest of all that discovery of a domain depends on: that of the manifest, as [`Self::declared_inputs`], and behind it one
    /// of the options of the command as well.
    ///
    /// # Errors
    /// Those of a Secret, an authority or a list that cannot be read: discovery says what is wrong with them.
    pub(super) async fn discovery_inputs(&self, at: usize, mailboxes: &[PlannedMailbox]) -> Result<String> {
        let declared = self.declared_inputs(at, mailboxes).await?;
        let resolver = self.network.name_server().map(|address| address.to_string());
        let options = fingerprint(&(resolver, self.authority.to_string()));
        Ok(format!("{declared}-{options}"))
    }

    /// A digest of all in the manifest, its lists and its Secrets that discovery of a domain depends on. With it begins what
    /// [`Self::discovery_inputs`] gives.
    ///
    /// # Errors
    /// As [`Self::discovery_inputs`].
    pub async fn declared_inputs(&self, at: usize, mailboxes: &[PlannedMailbox]) -> Result<String> {
        let spec = self.spec();
        let domain = &spec.domains[at];
        let namespace = self.migration.metadata.namespace.as_deref().unwrap_or("default");
        let salt = self.guard.salt().await?;
        // Files have no Secret.
        let version = |name: Option<&str>| {
            name.map_or_else(|| Ok(String::new()), |name| self.secrets.version(namespace, name, salt))
        };
        let credentials = [version(domain.secret())?, version(spec.destination.secret())?];
        let trigger = spec.trigger.as_ref().and_then(|trigger| trigger.discover.as_deref());
        Ok(fingerprint(&Inputs {
            version: env!("CARGO_PKG_VERSION"),
            domain,
            mailboxes,
            left_out: self.left_out(at),
            columns: spec.columns.as_deref(),
            mapping: spec.mapping.as_ref(),
            allowed_networks: &spec.policy.allowed_networks,
            authorities: [
                self.secrets.authority(namespace, domain.ca_ref.as_ref())?,
                self.secrets.authority(namespace, spec.destination.ca())?,
            ],
            credentials,
            destination: &spec.destination,
            weights: spec.policy.fidelity_weights,
            counted_by: fingerprint(&counted_by(spec)),
            trigger: trigger.filter(|trigger| !trigger.is_empty()),
        }))
    }
}

/// Whether nothing was amiss with a domain when it was looked at, nor with a mailbox of it since, and that is not long ago.
/// `named` says that the manifest names the domain's servers; `records` are those of its mailboxes.
pub(super) fn still_holds<'a>(
    discovery: &DomainDiscovery,
    mut records: impl Iterator<Item = &'a MailboxRecord>,
    named: bool,
    now: Timestamp,
) -> bool {
    // A clock that was set back tells nothing about an age.
    let age = now.duration_since(discovery.finished);
    let unanswered = discovery.evidence.iter().any(|evidence| {
        matches!(&evidence.outcome, Outcome::Failed(failure) if failure.is(FailureCode::NameUnanswered))
    });
    let holds = match (unanswered, named) {
        (false, _) => HOLDS,
        (true, true) => HOLDS_UNANSWERED,
        (true, false) => SignedDuration::ZERO,
    };
    (SignedDuration::ZERO..holds).contains(&age)
        && discovery.failure.is_none()
        && !discovery.mailboxes.is_empty()
        && discovery.mailboxes.iter().all(is_read_at_its_best)
        && !discovery.findings.iter().any(|finding| is_asked_again(finding.code))
        && records.all(|record| record.failure.is_none())
}

/// Whether a mailbox is read at the first server that it was tried at. Another one may take by now what it refused, and it
/// may carry more.
fn is_read_at_its_best(mailbox: &MailboxDiscovery) -> bool {
    let refused = mailbox.attempts.iter().any(|attempt| attempt.failure.is_some());
    mailbox.endpoint.is_some() && mailbox.failure.is_none() && !refused
}

/// Whether a person may have mended since what discovery found, at a server and not in the manifest.
fn is_asked_again(code: Code) -> bool {
    code.holds() == Hold::Sync
        || matches!(
            code,
            Code::DestinationUnasked
                | Code::DestinationRoomShort
                | Code::MessageOverLimit
                | Code::RefreshTokenReplaced
                // Mail may have come in since.
                | Code::MailboxEmpty
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::endpoint::Endpoint;
    use crate::model::evidence::{Attempt, Evidence, Grade, Signal};
    use crate::model::failure::{Class, Failure};
    use crate::model::protocol::{Protocol, Tls};

    fn server(protocol: Protocol) -> Endpoint {
        Endpoint::new(protocol, "mail.a.test", protocol.default_port(Tls::Implicit), Tls::Implicit)
    }

    fn seen() -> DomainDiscovery {
        let at = Timestamp::UNIX_EPOCH;
        let mailbox = MailboxDiscovery {
            address: "anna@a.test".parse().unwrap(),
            endpoint: Some(server(Protocol::Pop3)),
            overridden: false,
            attempts: Vec::new(),
            logins: None,
            login_name: None,
            size: None,
            failure: None,
        };
        DomainDiscovery {
            mailboxes: vec![mailbox],
            ..DomainDiscovery::empty("a.test".parse().unwrap(), at, at)
        }
    }

    fn with(change: impl Fn(&mut DomainDiscovery)) -> DomainDiscovery {
        let mut discovery = seen();
        change(&mut discovery);
        discovery
    }

    #[test]
    fn only_what_was_well_in_every_way_is_not_asked_again() {
        let after = |hours: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours);
        let holds = |discovery: &DomainDiscovery, now| still_holds(discovery, std::iter::empty(), true, now);
        assert!(holds(&seen(), after(1)) && holds(&seen(), after(11)));
        assert!(!holds(&seen(), after(12)), "too old");
        assert!(!holds(&seen(), after(-1)), "a clock that was set back");
        let amiss = [
            with(|d| d.failure = Some(Failure::new(Class::Unreachable, "away"))),
            with(|d| d.mailboxes[0].endpoint = None),
            with(|d| d.mailboxes[0].failure = Some(Failure::new(Class::Credentials, "refused"))),
            with(|d| {
                // It is read by POP3, and IMAP may let it in by now.
                let failure = Some(Failure::new(Class::Credentials, "refused"));
                let refused = Attempt { endpoint: server(Protocol::Imap), failure, by_token: false };
                d.mailboxes[0].attempts.push(refused);
            }),
            with(|d| d.mailboxes.clear()),
            with(|d| d.findings.push(Finding::of_domain(Code::DestinationMailboxClosed, "closed"))),
            with(|d| d.findings.push(Finding::of_domain(Code::DestinationUnasked, "away"))),
        ];
        for discovery in amiss {
            assert!(!holds(&discovery, after(1)), "{discovery:#?}");
        }
        let warned = with(|d| d.findings.push(Finding::of_domain(Code::PlaintextTransport, "in the clear")));
        assert!(holds(&warned, after(1)), "what is only a warning is known");
        let failed = MailboxRecord {
            failure: Some(Failure::new(Class::Unreachable, "away")),
            ..MailboxRecord::default()
        };
        let (failed, well) = (&failed, &MailboxRecord::default());
        assert!(still_holds(&seen(), [well].into_iter(), true, after(1)));
        assert!(!still_holds(&seen(), [well, failed].into_iter(), true, after(1)));
    }

    #[test]
    fn a_question_without_an_answer_is_asked_again_soon_and_at_once_where_it_is_all_there_is() {
        let discovery = with(|d| {
            let failure = Failure::new(Class::Unreachable, "timed out").code(FailureCode::NameUnanswered);
            d.evidence.push(Evidence {
                signal: Signal::Srv,
                grade: Grade::C,
                at: Timestamp::UNIX_EPOCH,
                endpoint: None,
                trusted: false,
                outcome: Outcome::Failed(failure),
                statement: "_imaps._tcp SRV: timed out".to_owned(),
                excerpt: None,
            });
        });
        let after = |minutes: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes);
        let holds = |named, now| still_holds(&discovery, std::iter::empty(), named, now);
        assert!(holds(true, after(9)) && !holds(true, after(10)));
        assert!(!holds(false, after(0)));
    }
}
