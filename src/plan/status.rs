//! Facts become a status: the only author of what `kubectl get`, `kubectl describe` and `mailferry status` show.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::decide::{Approval, Ending, Standing, Stood};
use super::findings::{summarise, summarise_migration};
use super::judgement::{judge, open_fact, run_again};
use super::observed::Observed;
use super::pass;
use super::proof::Open;
use super::schedule::LastPass;
use super::verification::Verification;
use crate::api::condition::{Fact, Reason, Type, set};
use crate::api::mailboxmigration::{MailboxFailure, MailboxPhase};
use crate::api::mailmigration::Trigger;
use crate::api::status::{
    CandidateStatus, DomainStatus, MailboxCounts, PassStatus, Phase, PlanStatus, ReportBrief, ReportRow,
    ScheduleStatus, Summary,
};
use crate::api::{MailMigration, MailMigrationStatus, MailboxMigrationStatus, Stage};
use crate::model::evidence::DestinationSeen;
use crate::model::failure::{Class, Failure};
use crate::model::fidelity;
use crate::model::progress::MessageCounts;
use crate::model::protocol::Protocol;
use crate::model::record::MailboxRecord;

/// The facts that a status is made of.
pub struct Facts<'a> {
    /// The specification, and the status before.
    pub migration: &'a MailMigration,
    /// The observed facts.
    pub observed: &'a Observed,
    /// The pass that the standings are of.
    pub pass: u32,
    /// The standing of each mailbox.
    pub standings: &'a [Stood],
    /// The plan in brief, once every domain was looked at.
    pub plan: Option<&'a PlanStatus>,
    /// Whether the plan is the approved one, if one is wanted.
    pub approval: &'a Approval,
    /// How the pass ended, if nothing more happens in it.
    pub ending: Option<&'a Ending>,
    /// The verification that follows it, while that goes on. It takes nothing back of what the pass came to.
    pub verification: Option<Verification>,
    /// How all of it ended, if nothing more happens.
    pub outcome: Option<&'a Ending>,
    /// When the pass that is wanted began and ended.
    pub last: LastPass,
    /// Whether the next pass begins by the schedule, at once.
    pub begins_next: bool,
    /// When the next one begins, or the paused one goes on.
    pub next: Option<Timestamp>,
    /// Whether it waits for a window of the schedule, and somebody with it.
    pub paused: bool,
    /// The moment.
    pub now: Timestamp,
}

impl Facts<'_> {
    pub(super) fn record(&self, stood: &Stood) -> Option<&MailboxRecord> {
        self.observed.mailboxes.get(&stood.mailbox.source).map(|m| &m.record)
    }

    pub(super) fn counts(&self, stood: &Stood) -> MessageCounts {
        let nothing = MailboxRecord::default();
        self.record(stood).unwrap_or(&nothing).messages(self.pass, self.size(stood))
    }

    pub(super) fn size(&self, stood: &Stood) -> Option<&crate::model::evidence::MailboxSize> {
        let domain = &self.migration.spec.domains[stood.domain].name;
        self.observed.domains.get(domain)?.find(&stood.mailbox.source)?.size.as_ref()
    }

    /// The bytes at the source, where somebody counted them.
    fn bytes(&self, stood: &Stood) -> Option<u64> {
        let (record, size) = (self.record(stood), self.size(stood));
        let counted = record.is_some_and(|record| record.bytes > 0) || size.is_some();
        counted.then(|| record.unwrap_or(&MailboxRecord::default()).amount(self.pass, size).bytes)
    }

    pub(super) fn count(&self, test: impl Fn(&Standing) -> bool) -> u32 {
        u32::try_from(self.standings.iter().filter(|s| test(&s.standing)).count()).unwrap_or(u32::MAX)
    }

    /// The reasons against calling a mailbox verified whose pass is through.
    pub(super) fn open(&self, stood: &Stood) -> Open {
        let domain = &self.migration.spec.domains[stood.domain].name;
        self.record(stood).map_or_else(Open::default, |record| Open::of(&self.migration.spec, domain, record))
    }

    /// How many arrivals were compared by size as they came, and how many of them byte by byte; and how many messages arrived
    /// that nobody compared, which earlier versions carried. Messages that were sent again were compared again.
    pub(super) fn checked(&self) -> (u64, u64, u64) {
        let records = self.standings.iter().filter_map(|stood| self.record(stood));
        records.fold((0, 0, 0), |(sizes, digests, others), record| {
            let unchecked = record.counts.copied.saturating_sub(record.sizes_checked);
            (sizes + record.sizes_checked, digests + record.digests_checked, others + unchecked)
        })
    }

    /// The failures that kept us out of the destination when it was asked last, domain by domain.
    pub(super) fn shut_out(&self) -> impl Iterator<Item = (&DestinationSeen, &Failure)> {
        let domains = self.migration.spec.domains.iter();
        let seen =
            domains.filter_map(|domain| self.observed.shut_out(self.observed.domains.get(&domain.name)?));
        seen.filter_map(|seen| Some((seen, seen.failure.as_ref()?)))
    }

    /// Whether the mailboxes of every domain are known: where a list cannot be read, those that are known are not all.
    pub(super) fn is_whole(&self) -> bool {
        self.migration.spec.domains.iter().all(|domain| {
            let seen = self.observed.domains.get(&domain.name);
            !seen.is_some_and(|seen| matches!(seen.mailboxes, Some(Err(_))))
        })
    }

    /// Whether the pass over every mailbox is through; mail may have come since.
    pub(super) fn all_through(&self, counts: &MailboxCounts) -> bool {
        counts.mailboxes > 0
            && counts.mailboxes == self.count(|s| *s == Standing::Finished)
            && self.is_whole()
    }

    /// Whether everything was gone through: messages may have failed, and no mailbox did.
    pub(super) fn is_through(&self) -> bool {
        match self.ending {
            None => false,
            Some(Ending::Reached) => true,
            Some(Ending::Stopped(failure)) => {
                failure.class == Class::Message
                    && self.standings.iter().all(|s| s.standing.failure().is_none())
            }
        }
    }

    /// Whether the run was stopped from outside, or killed.
    pub(super) fn is_interrupted(&self) -> bool {
        is_interruption(self.ending)
    }

    /// How many mailboxes are still to come because others alone were asked for.
    pub(super) fn left_out(&self) -> u32 {
        if self.observed.only.is_none() || self.migration.spec.stage == Stage::Plan {
            return 0;
        }
        let waits = |stood: &&Stood| {
            stood.standing != Standing::Finished && !self.observed.wants(&stood.mailbox.source)
        };
        u32::try_from(self.standings.iter().filter(waits).count()).unwrap_or(u32::MAX)
    }

    pub(super) fn generation(&self) -> Option<i64> {
        self.migration.metadata.generation
    }
}

/// The status of the whole migration, within its limits.
pub fn of_migration(facts: &Facts<'_>) -> MailMigrationStatus {
    let spec = &facts.migration.spec;
    let before = facts.migration.status.clone().unwrap_or_default();
    let findings = summarise_migration(spec, facts.observed, facts.now);
    let domains: Vec<DomainStatus> = (0..spec.domains.len()).map(|at| of_domain(facts, at)).collect();
    let mut messages = MessageCounts::default();
    for stood in facts.standings {
        messages += facts.counts(stood);
    }
    let through = facts.standings.iter().filter(|stood| stood.standing == Standing::Finished);
    let (mut open, mut verified, mut partial) = (Open::default(), 0, 0);
    for stood in through {
        let of_mailbox = facts.open(stood);
        let is_partial = facts.counts(stood).pending > 0;
        partial += u32::from(is_partial);
        verified += u32::from(of_mailbox.is_none() && !is_partial);
        open += of_mailbox;
    }
    let counts = MailboxCounts {
        mailboxes: facts.count(|_| true),
        ready: facts.count(|s| matches!(s, Standing::Ready | Standing::Paused(_))),
        syncing: facts.count(|s| *s == Standing::Running),
        synced: facts.count(|s| *s == Standing::Finished) - partial,
        verified,
        failed: facts.count(|s| matches!(s, Standing::Failed { .. })),
        blocked: facts.count(|s| matches!(s, Standing::Blocked(_))),
    };
    let conditions = set(
        &before.conditions,
        &judge(facts, (&domains, &findings), &counts, &messages, &open),
        facts.generation(),
        facts.now,
    );
    let mut status = MailMigrationStatus {
        observed_generation: facts.generation(),
        phase: Some(phase(facts, &counts, messages.pending)),
        plan: facts.plan.cloned(),
        approved: facts.approval.approved().cloned(),
        pass: Some(pass_of(facts, before.pass.as_ref())),
        schedule: facts.next.map(|next| ScheduleStatus { next }),
        domains,
        findings,
        domains_omitted: 0,
        counts: Some(counts),
        messages: Some(messages),
        report: Some(brief(facts)),
        trigger: if facts.ending.is_some() && !facts.is_interrupted() {
            carried_out(facts, before.trigger.as_ref())
        } else {
            before.trigger
        },
        summary: None,
        conditions,
    };
    status.summary = Some(Summary::of(&status, spec.domains.len()));
    status.bounded()
}

/// The pass and the verification that the statuses are about.
fn pass_of(facts: &Facts<'_>, before: Option<&PassStatus>) -> PassStatus {
    let (number, verification) = (facts.observed.pass, facts.observed.verification);
    let wanted = pass::next(&facts.migration.spec, before);
    // A value that nobody has begun to work for, since only a look is taken, is a wish of the next run.
    let is_begun = wanted.verification <= verification;
    let verify = if is_begun { wanted.verify } else { before.and_then(|before| before.verify.clone()) };
    let LastPass { began, ended, .. } = facts.last;
    let of_it = PassStatus { number, inputs: wanted.inputs, verification, verify, began, ended };
    if facts.begins_next {
        PassStatus { number: number + 1, began: None, ended: None, ..of_it }
    } else {
        of_it
    }
}

/// The wishes that are fulfilled when the pass is done; that for a verification once every mailbox that can be was verified, or
/// was tried.
fn carried_out(facts: &Facts<'_>, before: Option<&Trigger>) -> Option<Trigger> {
    let trigger = facts.migration.spec.trigger.as_ref()?;
    let is_open = |stood: &Stood| stood.is_to_be_verified || stood.verifying;
    let published = facts.migration.status.as_ref().and_then(|status| status.pass.as_ref());
    let is_begun = pass::next(&facts.migration.spec, published).verification <= facts.observed.verification;
    let verify = if !is_begun || facts.standings.iter().any(is_open) {
        before.and_then(|before| before.verify.clone())
    } else {
        trigger.verify.clone()
    };
    Some(Trigger { verify, ..trigger.clone() })
}

fn is_interruption(ending: Option<&Ending>) -> bool {
    matches!(ending, Some(Ending::Stopped(failure)) if failure.class == Class::Interrupted)
}

fn of_domain(facts: &Facts<'_>, at: usize) -> DomainStatus {
    let spec = &facts.migration.spec;
    let domain = &spec.domains[at];
    let mut status = DomainStatus { name: domain.name.clone(), ..DomainStatus::default() };
    let Some(seen) = facts.observed.domains.get(&domain.name) else { return status };
    // They stand in the order of the domains, of which there may be a thousand.
    let begin = facts.standings.partition_point(|s| s.domain < at);
    for stood in facts.standings[begin..].iter().take_while(|s| s.domain == at) {
        if let Some(endpoint) = &stood.endpoint {
            *status.protocols.entry(endpoint.protocol).or_default() += 1;
        }
    }
    // Of equally common protocols the one that carries more is named.
    status.protocol = status
        .protocols
        .iter()
        .max_by_key(|(protocol, count)| (**count, fidelity::score(**protocol)))
        .map(|(protocol, _)| *protocol);
    status.mixed = status.protocols.len() > 1;
    let read_by: Vec<(Protocol, u64)> = status.protocols.iter().map(|(p, n)| (*p, (*n).into())).collect();
    status.fidelity = fidelity::of_mail_read_by(&read_by);
    let mut losses: Vec<String> = Vec::new();
    for protocol in status.protocols.keys() {
        losses.extend(fidelity::losses(*protocol).into_iter().map(|loss| format!("{protocol}: {loss}")));
    }
    status.losses = losses;
    if let Some(discovery) = &seen.discovery {
        status.grade = discovery.candidates.iter().map(|c| c.grade).min();
        status.candidates = discovery
            .candidates
            .iter()
            .map(|c| CandidateStatus {
                protocol: c.endpoint.protocol,
                host: c.endpoint.host.clone(),
                port: c.endpoint.port,
                tls: c.endpoint.tls,
                grade: c.grade,
                fidelity: c.fidelity,
                mailboxes: c.mailboxes,
                why: c.why.clone(),
            })
            .collect();
    }
    status.findings = summarise(spec, domain, seen, facts.observed, facts.now);
    status
}

fn phase(facts: &Facts<'_>, counts: &MailboxCounts, pending: u64) -> Phase {
    if facts.migration.spec.suspend {
        return Phase::Suspended;
    }
    if is_interruption(facts.outcome) {
        return Phase::Interrupted;
    }
    if facts.paused {
        return Phase::Paused;
    }
    if facts.verification.is_some() {
        return Phase::Verifying;
    }
    if facts.plan.is_none() {
        return if facts.observed.domains.is_empty() { Phase::Pending } else { Phase::Discovering };
    }
    match facts.ending {
        None => Phase::Syncing,
        Some(_) if !facts.approval.holds() => Phase::ReviewRequired,
        Some(_) if facts.migration.spec.stage == Stage::Plan => Phase::Planned,
        Some(_) if facts.is_through() => {
            if facts.left_out() > 0 {
                Phase::Partial
            } else if facts.migration.spec.policy.pilot.is_some() {
                Phase::Piloted
            } else if pending > 0 {
                Phase::Partial
            } else if counts.mailboxes > 0 && counts.verified == counts.mailboxes {
                Phase::Verified
            } else {
                Phase::Synced
            }
        }
        Some(_) if facts.all_through(counts) => Phase::Synced,
        Some(_) => Phase::Stalled,
    }
}

fn brief(facts: &Facts<'_>) -> ReportBrief {
    let mut protocols: BTreeMap<Protocol, ReportRow> = BTreeMap::new();
    let mut domains: BTreeMap<String, ReportRow> = BTreeMap::new();
    for stood in facts.standings {
        let counts = facts.counts(stood);
        let bytes = facts.bytes(stood).unwrap_or_default();
        let add = |row: &mut ReportRow| {
            row.mailboxes += 1;
            row.source += counts.source;
            row.copied += counts.copied;
            row.excluded += counts.excluded;
            row.failed += counts.failed;
            row.pending += counts.pending;
            row.bytes += bytes;
        };
        if let Some(endpoint) = &stood.endpoint {
            add(protocols.entry(endpoint.protocol).or_default());
        }
        let domain = &facts.migration.spec.domains[stood.domain].name;
        match domains.get_mut(domain) {
            Some(row) => add(row),
            None => add(domains.entry(domain.clone()).or_default()),
        }
    }
    ReportBrief { protocols, domains }
}

/// The status of one mailbox, within its limits.
pub fn of_mailbox(facts: &Facts<'_>, stood: &Stood) -> MailboxMigrationStatus {
    let nothing = MailboxRecord::default();
    let record = facts.record(stood).unwrap_or(&nothing);
    let (open, counts) = (facts.open(stood), facts.counts(stood));
    let (phase, failure) = match &stood.standing {
        Standing::Unknown => (MailboxPhase::Pending, None),
        Standing::Blocked(failure) => (MailboxPhase::Blocked, Some(failure)),
        Standing::Ready | Standing::Spared => (MailboxPhase::Ready, None),
        Standing::Paused(_) => (MailboxPhase::Ready, record.failure.as_ref()),
        // A worker that waits because the server asked for it says so.
        Standing::Running => (MailboxPhase::Syncing, record.failure.as_ref()),
        Standing::Finished if counts.pending > 0 => (MailboxPhase::Partial, None),
        Standing::Finished if open.is_none() => (MailboxPhase::Verified, None),
        Standing::Finished => (MailboxPhase::Synced, None),
        Standing::Failed { failure, .. } => (MailboxPhase::Failed, Some(failure)),
    };
    // Counts change all the time; conditions are written when something happened.
    let fact = |kind| match (failure, phase) {
        (Some(failure), _) => Fact::failed(kind, false, failure.class, failure.sentence()),
        (None, MailboxPhase::Partial) if facts.migration.spec.policy.pilot.is_some() => {
            Fact::new(kind, false, Reason::PilotOnly, format!("The pilot's part of it is through. {counts}."))
        }
        (None, MailboxPhase::Synced | MailboxPhase::Partial)
            if kind == Type::Verified || kind == Type::Ready && open.is_loss() =>
        {
            open_fact(kind, &open)
        }
        (None, MailboxPhase::Partial) if kind == Type::Synced => {
            Fact::new(kind, false, Reason::Waiting, run_again(facts, &counts))
        }
        (None, MailboxPhase::Verified | MailboxPhase::Synced | MailboxPhase::Partial) => {
            Fact::new(kind, true, Reason::Succeeded, format!("{counts}."))
        }
        (None, MailboxPhase::Syncing) => {
            Fact::new(kind, false, Reason::InProgress, "Its messages are being copied.")
        }
        (None, _) if stood.standing == Standing::Spared => {
            Fact::new(kind, false, Reason::PilotOnly, "It is not part of the pilot.")
        }
        (None, _) => Fact::new(kind, false, Reason::Waiting, "It waits for its turn."),
    };
    let before = facts.observed.mailboxes.get(&stood.mailbox.source).map_or(&[][..], |m| &m.conditions);
    MailboxMigrationStatus {
        observed_generation: facts.generation(),
        protocol: stood.endpoint.as_ref().map(|e| e.protocol),
        server: stood.endpoint.as_ref().map(crate::model::endpoint::Endpoint::address),
        phase: Some(phase),
        messages: Some(counts),
        folders: facts.size(stood).map(|s| s.folders),
        bytes: facts.bytes(stood),
        failure: failure.map(MailboxFailure::from),
        conditions: set(
            before,
            &[fact(Type::Ready), fact(Type::Synced), fact(Type::Verified)],
            facts.generation(),
            facts.now,
        ),
        ..MailboxMigrationStatus::told_by_worker(record)
    }
    .bounded()
}
