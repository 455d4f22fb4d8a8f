//! The decision: given what is wanted and what is known, what is to be done now, what the status says, and whether there
//! is anything left to wait for.

use jiff::Timestamp;

use super::backoff::{jitter, wait_after};
use super::digest::digest;
use super::mailboxes::PlannedMailbox;
use super::observed::{MailboxObserved, Observed};
use super::status;
use crate::api::{MailMigration, MailMigrationStatus, MailboxMigrationStatus, Stage};
use crate::model::endpoint::Endpoint;
use crate::model::failure::{Class, Failure};

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Find out what a domain speaks.
    Discover {
        /// Its place in `spec.domains`.
        domain: usize,
    },
    /// Carry a mailbox.
    Sync {
        /// The place of its domain in `spec.domains`.
        domain: usize,
        /// The mailbox.
        mailbox: PlannedMailbox,
        /// Where it is read from.
        endpoint: Endpoint,
    },
}

/// How a migration ended for now: nothing more will happen by itself in this pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The wanted stage is reached.
    Reached,
    /// It is not, and this is the first reason that a person should look at.
    Stopped(Failure),
}

/// What is to be done, and what is to be said.
#[derive(Debug, Clone)]
pub struct Decision {
    /// Things to do now, in order.
    pub steps: Vec<Step>,
    /// The status as it is to be published.
    pub status: MailMigrationStatus,
    /// Each mailbox's status, in the order of the manifest.
    pub mailboxes: Vec<(PlannedMailbox, String, MailboxMigrationStatus)>,
    /// When to look again although nothing happened.
    pub wake: Option<Timestamp>,
    /// Set when there is nothing to do and nothing to wait for.
    pub ending: Option<Ending>,
}

/// How one mailbox stands in the pass that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Its domain was not looked at yet.
    Unknown,
    /// There is no way to read it; holds the reason.
    Blocked(Failure),
    /// It can be carried now.
    Ready,
    /// A worker is at work on it.
    Running,
    /// It waits until then after a failed attempt.
    Paused(Timestamp),
    /// Its pass came to its end.
    Finished,
    /// Its pass was given up.
    Failed(Failure),
}

/// Decides. Total: every combination of facts has an answer.
pub fn decide(migration: &MailMigration, observed: &Observed, now: Timestamp) -> Decision {
    let spec = &migration.spec;
    let mut steps = Vec::new();
    let mut wake: Option<Timestamp> = None;

    let discovered =
        spec.domains.iter().all(|d| observed.domains.get(&d.name).is_some_and(|o| o.discovery.is_some()));
    if !spec.suspend {
        for (at, domain) in spec.domains.iter().enumerate() {
            let seen = observed.domains.get(&domain.name);
            if seen.is_none_or(|seen| seen.discovery.is_none() && !seen.discovering) {
                steps.push(Step::Discover { domain: at });
            }
        }
    }

    let plan = discovered.then(|| digest(spec, observed));
    let approved = match (&spec.approved_plan, &plan) {
        (Some(approved), Some(plan)) => approved == plan,
        _ => true,
    };
    let standings = stand(migration, observed, now);
    if discovered && approved && !spec.suspend && spec.stage > Stage::Plan {
        let running = standings.iter().filter(|s| s.standing == Standing::Running).count();
        let free = (spec.workers.concurrency as usize).saturating_sub(running);
        let ready = standings.iter().filter(|s| s.standing == Standing::Ready);
        steps.extend(ready.take(free).filter_map(|s| {
            let endpoint = s.endpoint.clone()?;
            Some(Step::Sync { domain: s.domain, mailbox: s.mailbox.clone(), endpoint })
        }));
        wake = standings
            .iter()
            .filter_map(|s| match s.standing {
                Standing::Paused(until) => Some(until),
                _ => None,
            })
            .min();
    }

    let busy = !steps.is_empty()
        || wake.is_some()
        || observed.domains.values().any(|d| d.discovering)
        || standings.iter().any(|s| s.standing == Standing::Running);
    let ending = (!busy).then(|| end(migration, &standings, observed, approved, plan.as_deref()));
    let facts = status::Facts {
        migration,
        observed,
        standings: &standings,
        plan: plan.as_deref(),
        approved,
        ending: ending.as_ref(),
        now,
    };
    let mailboxes = standings
        .iter()
        .map(|s| (s.mailbox.clone(), spec.domains[s.domain].name.clone(), status::of_mailbox(&facts, s)))
        .collect();
    Decision { status: status::of_migration(&facts), mailboxes, steps, wake, ending }
}

/// A mailbox and how it stands.
#[derive(Debug, Clone)]
pub struct Stood {
    /// The place of its domain in `spec.domains`.
    pub domain: usize,
    /// The mailbox.
    pub mailbox: PlannedMailbox,
    /// Where it is read from.
    pub endpoint: Option<Endpoint>,
    /// How it stands.
    pub standing: Standing,
}

fn stand(migration: &MailMigration, observed: &Observed, now: Timestamp) -> Vec<Stood> {
    let mut standings = Vec::new();
    let nothing = MailboxObserved::default();
    for (at, domain) in migration.spec.domains.iter().enumerate() {
        let Some(seen) = observed.domains.get(&domain.name) else { continue };
        for mailbox in seen.planned() {
            let known = observed.mailboxes.get(&mailbox.source).unwrap_or(&nothing);
            let discovered = seen.discovery.as_ref();
            let found = discovered.and_then(|d| d.mailboxes.iter().find(|m| m.address == mailbox.source));
            let endpoint = found.and_then(|m| m.endpoint.clone());
            let standing = match (discovered, &endpoint) {
                (None, _) => Standing::Unknown,
                (Some(discovery), None) => {
                    let failure = found.and_then(|m| m.failure.clone()).or_else(|| discovery.failure.clone());
                    Standing::Blocked(failure.unwrap_or_else(|| {
                        Failure::new(Class::Unreachable, "no server was found for it")
                            .at(mailbox.source.to_string())
                    }))
                }
                (Some(_), Some(_)) => stand_by_record(mailbox, known, observed.pass, now),
            };
            standings.push(Stood { domain: at, mailbox: mailbox.clone(), endpoint, standing });
        }
    }
    standings
}

fn stand_by_record(mailbox: &PlannedMailbox, known: &MailboxObserved, pass: u32, now: Timestamp) -> Standing {
    let record = &known.record;
    if known.running {
        return Standing::Running;
    }
    if record.pass != pass {
        return Standing::Ready;
    }
    let Some(failure) = &record.failure else {
        return if record.finished(pass) { Standing::Finished } else { Standing::Ready };
    };
    let name = mailbox.source.to_string();
    let Some(wait) = wait_after(failure, record.attempts, jitter(&name, record.attempts)) else {
        return Standing::Failed(failure.clone());
    };
    let since = record.ended.unwrap_or(now);
    let until = since.saturating_add(jiff::SignedDuration::try_from(wait).unwrap_or_default()).unwrap_or(now);
    if until <= now { Standing::Ready } else { Standing::Paused(until) }
}

/// Why nothing more happens.
fn end(
    migration: &MailMigration,
    standings: &[Stood],
    observed: &Observed,
    approved: bool,
    plan: Option<&str>,
) -> Ending {
    let spec = &migration.spec;
    if spec.suspend {
        return Ending::Stopped(
            Failure::configuration("the migration is suspended").hint("set spec.suspend to false to go on"),
        );
    }
    let mut reasons: Vec<Failure> = Vec::new();
    for domain in &spec.domains {
        let Some(seen) = observed.domains.get(&domain.name) else { continue };
        if let Some(Err(failure)) = &seen.mailboxes {
            reasons.push(failure.clone());
        }
        if let Some(failure) = seen.discovery.as_ref().and_then(|d| d.failure.clone()) {
            // What discovery says names its domain; what the manifest lacks is named by file and line.
            let named = failure.place.first() == Some(&domain.name) || failure.class == Class::Configuration;
            reasons.push(if named { failure } else { failure.at(domain.name.clone()) });
        }
    }
    for stood in standings {
        if let Standing::Blocked(failure) | Standing::Failed(failure) = &stood.standing {
            reasons.push(place_mailbox(failure, stood));
        }
    }
    if !approved {
        let plan = plan.unwrap_or_default();
        reasons.push(
            Failure::configuration(format!("the plan that stands, {plan}, is not the approved one"))
                .hint("review `mailferry report`, then set spec.approvedPlan to it"),
        );
    }
    if spec.stage == Stage::Cutover && reasons.is_empty() {
        reasons.push(
            Failure::new(Class::Refused, "the mail is in step; cutting over is not part of this release")
                .hint("change the MX records yourself, then run once more with --stage Sync for what came in between"),
        );
    }
    // Of equally bad reasons the first stands for all.
    let worst = reasons.into_iter().reduce(|worst, next| {
        let worse = worst.class != next.class && worst.class.worse(next.class) == next.class;
        if worse { next } else { worst }
    });
    worst.map_or(Ending::Reached, Ending::Stopped)
}

/// Names the mailbox in front of its failure, unless the failure does so already.
fn place_mailbox(failure: &Failure, stood: &Stood) -> Failure {
    let address = stood.mailbox.source.to_string();
    if failure.sentence().starts_with(&address) { failure.clone() } else { failure.clone().at(address) }
}
