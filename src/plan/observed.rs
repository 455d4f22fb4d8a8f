//! The facts that a decision looks at. Both platforms fill the same values.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Deref;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::document::Plan;
use super::mailboxes::PlannedMailbox;
use crate::api::condition::Reason;
use crate::model::address::Address;
use crate::model::evidence::{Authorities, DestinationSeen, DomainDiscovery, MailboxDiscovery};
use crate::model::failure::Failure;
use crate::model::record::MailboxRecord;

/// Everything that is known of a migration at one moment.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// The pass that is wanted now; the first is 1.
    pub pass: u32,
    /// When it began; `None` where that is not known, or it did not begin yet.
    pub began: Option<Timestamp>,
    /// Whether a command stays to begin the next pass and to wait for a window, as an operator does.
    pub keeps: bool,
    /// The verification that is wanted now, of those that `spec.trigger.verify` asks for; 0 while none was asked for.
    pub verification: u32,
    /// Each domain of the spec, by its name there.
    pub domains: BTreeMap<String, DomainObserved>,
    /// Each mailbox that was ever looked at, by its address at the source.
    pub mailboxes: BTreeMap<Address, MailboxObserved>,
    /// Whether somebody stays to try again later what failed now.
    pub patience: Patience,
    /// The obstacles that keep workers from working, the worst first.
    pub obstacles: Vec<Obstacle>,
    /// Whether nobody is at work on it and nobody will be by itself: the run that was is over, whether it was told to end or
    /// was killed.
    pub stopped: bool,
    /// The mailboxes that a command was asked for alone, by their address at the source; all where nobody was named.
    pub only: Option<BTreeSet<Address>>,
    /// Other migrations of the same namespace that carry mailboxes of this one to the same places, each with their number.
    pub rivals: Vec<(String, usize)>,
    /// The approved plan as a whole, where it is kept; a cluster keeps it in brief, in the status.
    pub approved: Option<Arc<Plan>>,
}

impl Observed {
    /// Whether a mailbox is carried at all.
    pub fn wants(&self, mailbox: &Address) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(mailbox))
    }

    /// Whether somebody is there for what is to be done later.
    pub fn stays(&self) -> bool {
        !self.stopped && (self.keeps || self.patience == Patience::Resident)
    }

    /// Whether somebody is at work on anything.
    pub fn is_at_work(&self) -> bool {
        self.mailboxes.values().any(|seen| seen.running || seen.verifying)
            || self.domains.values().any(|seen| seen.discovering)
    }

    /// The destination's answer about a domain's mailboxes when it was asked last, where something kept us out and none
    /// of them was carried since: a mailbox that was carried since was let in.
    pub fn shut_out<'a>(&self, domain: &'a DomainObserved) -> Option<&'a DestinationSeen> {
        let seen = domain.destination().filter(|seen| seen.failure.is_some())?;
        (!self.carried_since(domain)).then_some(seen)
    }

    /// Whether a mailbox of a domain was carried since it was looked at.
    pub fn carried_since(&self, domain: &DomainObserved) -> bool {
        let Some(looked) = domain.discovery.as_ref().map(|seen| seen.finished) else { return false };
        domain.planned().iter().filter_map(|mailbox| self.mailboxes.get(&mailbox.source)).any(|seen| {
            seen.record.failure.is_none() && seen.record.ended.is_some_and(|ended| ended > looked)
        })
    }

    /// The authorities trusted when a domain was looked at last: those of the destination count for all domains, since
    /// there is one destination. `None` where nobody looked.
    pub fn latest_authorities(&self) -> Option<&Authorities> {
        let looked = self.domains.values().filter_map(|domain| Some((domain, domain.authorities()?)));
        let latest = looked.max_by_key(|(domain, _)| domain.discovery.as_ref().map(|seen| seen.finished));
        latest.map(|(_, authorities)| authorities)
    }

    /// The authorities that the plan trusts at the two ends of a domain's mailboxes; `None` where nobody looked.
    pub fn authorities_of(&self, domain: &str) -> Option<Authorities> {
        let source = self.domains.get(domain)?.authorities()?.source.clone();
        let destination = self.latest_authorities()?.destination.clone();
        Some(Authorities { source, destination })
    }
}

/// The handling of work that failed more often than trying again at once makes sense.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Patience {
    /// A command: it ends and says so.
    #[default]
    Command,
    /// An operator: it says so, and looks again later, as many mailboxes at a time as there are.
    Resident,
}

/// Something outside that keeps a worker from working, as Kubernetes tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// The kind of obstacle.
    pub reason: Reason,
    /// A whole sentence with the remedy.
    pub message: String,
}

/// The facts about a domain.
#[derive(Debug, Clone, Default)]
pub struct DomainObserved {
    /// Its mailboxes in the order of the manifest, or why they cannot be listed.
    pub mailboxes: Option<Result<Arc<[PlannedMailbox]>, Failure>>,
    /// Whether discovery is at work on it.
    pub discovering: bool,
    /// The result of discovery for this pass.
    pub discovery: Option<Arc<Discovered>>,
    /// How often discovery looked at the domain as the spec describes it now.
    pub round: u32,
}

impl DomainObserved {
    /// Its mailboxes, once they could be listed.
    pub fn listed(&self) -> Option<&[PlannedMailbox]> {
        self.mailboxes.as_ref()?.as_deref().ok()
    }

    /// Its mailboxes, as far as they could be listed.
    pub fn planned(&self) -> &[PlannedMailbox] {
        match &self.mailboxes {
            Some(Ok(mailboxes)) => mailboxes,
            _ => &[],
        }
    }

    /// The result of discovery for a mailbox.
    pub fn find(&self, mailbox: &Address) -> Option<&MailboxDiscovery> {
        self.discovery.as_ref()?.find(mailbox)
    }

    /// The destination's answer when the domain was looked at.
    pub fn destination(&self) -> Option<&DestinationSeen> {
        self.discovery.as_ref()?.destination.as_ref()
    }

    /// The authorities that discovery trusted.
    pub fn authorities(&self) -> Option<&Authorities> {
        self.discovery.as_ref()?.authorities.as_ref()
    }
}

/// The result of discovery, indexed by mailbox: a domain can have tens of thousands.
#[derive(Debug, Clone)]
pub struct Discovered {
    document: DomainDiscovery,
    places: HashMap<Address, usize>,
}

impl Discovered {
    /// The result of discovery for a mailbox.
    pub fn find(&self, mailbox: &Address) -> Option<&MailboxDiscovery> {
        self.document.mailboxes.get(*self.places.get(mailbox)?)
    }
}

impl Deref for Discovered {
    type Target = DomainDiscovery;

    fn deref(&self) -> &DomainDiscovery {
        &self.document
    }
}

impl From<DomainDiscovery> for Arc<Discovered> {
    fn from(document: DomainDiscovery) -> Self {
        let places = document.mailboxes.iter().enumerate().map(|(at, m)| (m.address.clone(), at)).collect();
        Self::new(Discovered { document, places })
    }
}

/// The facts about a mailbox.
#[derive(Debug, Clone, Default)]
pub struct MailboxObserved {
    /// Whether a worker is at work on it.
    pub running: bool,
    /// Whether a worker verifies it.
    pub verifying: bool,
    /// Its record.
    pub record: MailboxRecord,
    /// The conditions that were said of it last.
    pub conditions: Vec<Condition>,
}
