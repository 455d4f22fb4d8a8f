//! Facts become a status: the only author of what `kubectl get`, `kubectl describe` and `mailferry status` show.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::decide::{Approval, Ending, Standing, Stood};
use super::findings::{holds_cutover, summarise, summarise_migration};
use super::observed::Observed;
use super::pass;
use super::proof::Open;
use crate::api::condition::{Fact, Reason, State, Type, set};
use crate::api::mailboxmigration::{MailboxFailure, MailboxPhase};
use crate::api::mailmigration::Trigger;
use crate::api::status::{
    CandidateStatus, DomainStatus, FindingStatus, MailboxCounts, PassStatus, Phase, PlanStatus, ReportBrief,
    ReportRow, Summary,
};
use crate::api::{MailMigration, MailMigrationSpec, MailMigrationStatus, MailboxMigrationStatus, Stage};
use crate::model::failure::{Class, Failure};
use crate::model::fidelity;
use crate::model::progress::MessageCounts;
use crate::model::protocol::Protocol;
use crate::model::record::MailboxRecord;
use crate::model::text::{count, counted};

/// What a status is made of.
pub struct Facts<'a> {
    /// What is wanted, and the status before.
    pub migration: &'a MailMigration,
    /// What is known.
    pub observed: &'a Observed,
    /// How each mailbox stands.
    pub standings: &'a [Stood],
    /// The plan in brief, once every domain was looked at.
    pub plan: Option<&'a PlanStatus>,
    /// Whether the plan is the approved one, if one is wanted.
    pub approval: &'a Approval,
    /// How it ended, if nothing more happens.
    pub ending: Option<&'a Ending>,
    /// The moment.
    pub now: Timestamp,
}

impl Facts<'_> {
    fn record(&self, stood: &Stood) -> Option<&MailboxRecord> {
        self.observed.mailboxes.get(&stood.mailbox.source).map(|m| &m.record)
    }

    fn counts(&self, stood: &Stood) -> MessageCounts {
        let nothing = MailboxRecord::default();
        self.record(stood).unwrap_or(&nothing).messages(self.observed.pass, self.size(stood))
    }

    fn size(&self, stood: &Stood) -> Option<&crate::model::evidence::MailboxSize> {
        let domain = &self.migration.spec.domains[stood.domain].name;
        self.observed.domains.get(domain)?.find(&stood.mailbox.source)?.size.as_ref()
    }

    fn count(&self, test: impl Fn(&Standing) -> bool) -> u32 {
        u32::try_from(self.standings.iter().filter(|s| test(&s.standing)).count()).unwrap_or(u32::MAX)
    }

    /// What speaks against calling a mailbox verified whose pass is through.
    fn open(&self, stood: &Stood) -> Open {
        let domain = &self.migration.spec.domains[stood.domain].name;
        self.record(stood).map_or_else(Open::default, |record| Open::of(&self.migration.spec, domain, record))
    }

    /// How many arrivals were compared by size as they came, and how many of them byte by byte.
    fn checked(&self) -> (u64, u64) {
        let records = self.standings.iter().filter_map(|stood| self.record(stood));
        records.fold((0, 0), |(sizes, digests), record| {
            (sizes + record.sizes_checked, digests + record.digests_checked)
        })
    }

    /// Whether the mailboxes of every domain are known: where a list cannot be read, those that are known are not all.
    fn is_whole(&self) -> bool {
        self.migration.spec.domains.iter().all(|domain| {
            let seen = self.observed.domains.get(&domain.name);
            !seen.is_some_and(|seen| matches!(seen.mailboxes, Some(Err(_))))
        })
    }

    /// Whether the pass over every mailbox is through.
    fn all_synced(&self, counts: &MailboxCounts) -> bool {
        counts.mailboxes > 0 && counts.synced == counts.mailboxes && self.is_whole()
    }

    /// Whether everything was gone through: messages may have failed, and no mailbox did.
    fn is_through(&self) -> bool {
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
    fn is_interrupted(&self) -> bool {
        matches!(self.ending, Some(Ending::Stopped(failure)) if failure.class == Class::Interrupted)
    }

    /// How many mailboxes are still to come because others alone were asked for.
    fn left_out(&self) -> u32 {
        if self.observed.only.is_none() || self.migration.spec.stage == Stage::Plan {
            return 0;
        }
        let waits = |stood: &&Stood| {
            stood.standing != Standing::Finished && !self.observed.wants(&stood.mailbox.source)
        };
        u32::try_from(self.standings.iter().filter(waits).count()).unwrap_or(u32::MAX)
    }

    fn generation(&self) -> Option<i64> {
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
    let (mut open, mut verified) = (Open::default(), 0);
    for stood in through {
        let of_mailbox = facts.open(stood);
        verified += u32::from(of_mailbox.is_none());
        open += of_mailbox;
    }
    let counts = MailboxCounts {
        mailboxes: facts.count(|_| true),
        ready: facts.count(|s| matches!(s, Standing::Ready | Standing::Paused(_))),
        syncing: facts.count(|s| *s == Standing::Running),
        synced: facts.count(|s| *s == Standing::Finished),
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
        phase: Some(phase(facts, &counts)),
        plan: facts.plan.cloned(),
        approved: facts.approval.approved().cloned(),
        pass: Some(PassStatus { number: facts.observed.pass, ..pass::next(spec, before.pass.as_ref()) }),
        domains,
        findings,
        domains_omitted: 0,
        counts: Some(counts),
        messages: Some(messages),
        report: Some(brief(facts)),
        trigger: if facts.ending.is_some() && !facts.is_interrupted() {
            carried_out(spec.trigger.as_ref())
        } else {
            before.trigger
        },
        summary: None,
        conditions,
    };
    status.summary = Some(Summary::of(&status, spec.domains.len()));
    status.bounded()
}

/// The wishes that are fulfilled when everything is done. Verifying once more is none that this loop knows.
fn carried_out(trigger: Option<&Trigger>) -> Option<Trigger> {
    trigger.map(|trigger| Trigger { verify: None, ..trigger.clone() })
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

fn phase(facts: &Facts<'_>, counts: &MailboxCounts) -> Phase {
    if facts.migration.spec.suspend {
        return Phase::Suspended;
    }
    if facts.is_interrupted() {
        return Phase::Interrupted;
    }
    if facts.plan.is_none() {
        return if facts.observed.domains.is_empty() { Phase::Pending } else { Phase::Discovering };
    }
    match facts.ending {
        None => Phase::Syncing,
        Some(_) if !facts.approval.holds() => Phase::ReviewRequired,
        Some(_) if facts.migration.spec.stage == Stage::Plan => Phase::Planned,
        Some(_) if facts.is_through() => {
            if facts.migration.spec.policy.pilot.is_some() || facts.left_out() > 0 {
                Phase::Piloted
            } else if counts.mailboxes > 0 && counts.verified == counts.mailboxes {
                Phase::Verified
            } else {
                Phase::Synced
            }
        }
        Some(_) if facts.all_synced(counts) => Phase::Synced,
        Some(_) => Phase::Stalled,
    }
}

/// The conditions, recomputed whole.
fn judge(
    facts: &Facts<'_>,
    (domains, findings): (&[DomainStatus], &[FindingStatus]),
    counts: &MailboxCounts,
    messages: &MessageCounts,
    losses: &Open,
) -> Vec<Fact> {
    let spec = &facts.migration.spec;
    let mut found = Vec::new();
    let discovered = facts.plan.is_some();
    let (ready, working) = match facts.ending {
        Some(Ending::Reached) if facts.left_out() > 0 => {
            (Fact::new(Type::Ready, false, Reason::Waiting, left_out(facts, counts, messages)), false)
        }
        Some(Ending::Reached) => {
            (Fact::new(Type::Ready, true, Reason::Succeeded, reached(spec, messages)), false)
        }
        Some(Ending::Stopped(failure)) if spec.suspend => {
            (Fact::new(Type::Ready, false, Reason::Suspended, failure.sentence()), false)
        }
        Some(Ending::Stopped(failure)) => {
            (Fact::failed(Type::Ready, false, failure.class, failure.in_full()), false)
        }
        None if let Some(obstacle) = facts.observed.obstacles.first() => {
            (Fact::new(Type::Ready, false, obstacle.reason, obstacle.message.clone()), true)
        }
        None if discovered => {
            (Fact::new(Type::Ready, false, Reason::InProgress, going_on(counts, messages)), true)
        }
        None => (Fact::new(Type::Ready, false, Reason::InProgress, "Discovery is under way."), true),
    };
    if working {
        found.push(Fact { kind: Type::Reconciling, state: State::True, ..ready.clone() });
    } else if ready.state == State::False && !spec.suspend {
        found.push(Fact { kind: Type::Stalled, state: State::True, ..ready.clone() });
    }
    found.insert(0, ready);
    found.push(judge_discovered(facts, domains.len(), counts.mailboxes));
    found.push(judge_credentials(facts, discovered));
    found.push(judge_review(facts, domains, findings));
    found.push(judge_synced(facts, counts, messages, discovered));
    let all_synced = spec.stage > Stage::Plan && spec.policy.pilot.is_none() && facts.all_synced(counts);
    let verified = judge_verified(facts, all_synced, losses);
    let is_verified = verified.state == State::True;
    found.push(verified);
    let open = domains.iter().filter(|d| holds_cutover(&d.findings)).count();
    let whole = holds_cutover(findings);
    let safe = is_verified && open == 0 && !whole && messages.pending == 0;
    let (reason, message) = if safe {
        (Reason::Succeeded.as_str(), "Nothing speaks against moving the domains over.".to_owned())
    } else if open > 0 {
        let message = format!(
            "Critical findings are open in {}; mend them or acknowledge them in spec.acknowledge.",
            counted(open as u64, "domain", "domains")
        );
        (Reason::FindingsOpen.as_str(), message)
    } else if whole {
        let message = "Critical findings are open for the migration as a whole; mend them or acknowledge them in \
                       spec.acknowledge.";
        (Reason::FindingsOpen.as_str(), message.to_owned())
    } else if all_synced && !losses.is_none() {
        (losses.reason(), sentence_of(losses))
    } else {
        (Reason::Waiting.as_str(), "The mail is not in step yet.".to_owned())
    };
    found.push(Fact { kind: Type::CutoverSafe, state: safe.into(), reason, message });
    found
}

/// A condition that does not hold because of what is open.
fn open_fact(kind: Type, open: &Open) -> Fact {
    Fact { kind, state: State::False, reason: open.reason(), message: sentence_of(open) }
}

/// What speaks against it, and what to do about it, in whole sentences.
fn sentence_of(open: &Open) -> String {
    Failure::new(Class::Message, open.clauses()).hint(open.remedy()).in_full()
}

fn judge_verified(facts: &Facts<'_>, all_synced: bool, open: &Open) -> Fact {
    if !all_synced {
        let message = if facts.is_interrupted() {
            "Arrivals are checked as they come; it was stopped before all mailboxes were through."
        } else {
            "Arrivals are checked as they come; some mailboxes are not through yet."
        };
        return Fact::new(Type::Verified, false, Reason::Waiting, message);
    }
    if !open.is_none() {
        return open_fact(Type::Verified, open);
    }
    let (sizes, digests) = facts.checked();
    let how = if sizes == 0 {
        String::new()
    } else {
        format!(": {} by size, {} of them byte by byte", count(sizes), count(digests))
    };
    // Agreed or not worth an agreement, but not to be passed over; in the words of the report.
    let (mut agreed, mut stored) = (Open::default(), 0);
    for record in facts.standings.iter().filter_map(|s| facts.record(s)) {
        agreed.failed += record.counts.failed;
        agreed.missing += record.missing;
        agreed.changed += record.changed;
        stored += record.altered.saturating_sub(record.changed);
    }
    let words = counted(stored, "message was changed while it was", "messages were changed while they were");
    let clauses = [agreed.clauses(), if stored > 0 { format!("{words} stored") } else { String::new() }];
    let clauses: Vec<&str> = clauses.iter().map(String::as_str).filter(|words| !words.is_empty()).collect();
    let note = match clauses.join(", ") {
        none if none.is_empty() => none,
        said => format!(" Not all is as it was: {said}; the report names each."),
    };
    let message = format!("Arrivals were checked as they came, as deep as policy.verify asks{how}.{note}");
    Fact::new(Type::Verified, true, Reason::Succeeded, message)
}

/// What is said when the pilot is through.
const PILOTED: &str = "The pilot is through; take spec.policy.pilot out to carry the rest.";

fn reached(spec: &MailMigrationSpec, messages: &MessageCounts) -> String {
    match spec.stage {
        Stage::Plan => "The plan stands; set spec.stage to Sync to carry it out.".to_owned(),
        Stage::Sync | Stage::Cutover if spec.policy.pilot.is_some() => {
            format!("{PILOTED} {messages}.")
        }
        Stage::Sync | Stage::Cutover => format!("{messages}."),
    }
}

fn left_out(facts: &Facts<'_>, counts: &MailboxCounts, messages: &MessageCounts) -> String {
    format!(
        "Some mailboxes alone were asked for (--only); {} of {} are still to come. {messages}.",
        facts.left_out(),
        counted(counts.mailboxes.into(), "mailbox", "mailboxes")
    )
}

fn going_on(counts: &MailboxCounts, messages: &MessageCounts) -> String {
    format!("{} of {} mailboxes are through; {messages}.", counts.synced, counts.mailboxes)
}

fn judge_discovered(facts: &Facts<'_>, domains: usize, mailboxes: u32) -> Fact {
    if facts.plan.is_none() && facts.is_interrupted() {
        let message = "It was stopped before every domain was looked at.";
        return Fact::failed(Type::Discovered, false, Class::Interrupted, message);
    }
    if facts.plan.is_none() {
        return Fact::new(Type::Discovered, false, Reason::InProgress, "Discovery is under way.");
    }
    let unseen = facts.migration.spec.domains.iter().filter_map(|domain| {
        let failure = facts.observed.domains.get(&domain.name)?.discovery.as_ref()?.failure.as_ref()?;
        Some((&domain.name, failure))
    });
    let unseen: Vec<_> = unseen.collect();
    if let Some((name, failure)) = unseen.first() {
        let others = match unseen.len() - 1 {
            0 => String::new(),
            others => format!(" and {}", counted(others as u64, "other domain", "other domains")),
        };
        let message = format!("{name}{others} could not be looked at: {}.", failure.what);
        return Fact::failed(Type::Discovered, false, failure.class, message);
    }
    let mailboxes = counted(mailboxes.into(), "mailbox", "mailboxes");
    let domains = counted(domains as u64, "domain", "domains");
    Fact::new(Type::Discovered, true, Reason::Succeeded, format!("Looked at {mailboxes} in {domains}."))
}

fn judge_credentials(facts: &Facts<'_>, discovered: bool) -> Fact {
    let refused: Vec<(&Stood, &Failure)> = facts
        .standings
        .iter()
        .filter_map(|stood| Some((stood, stood.standing.failure()?)))
        .filter(|(_, failure)| failure.class == Class::Credentials)
        .collect();
    if let Some(&(stood, failure)) = refused.first() {
        let source = stood.mailbox.source.to_string();
        let first = failure.clone().hint("correct the Secret");
        let named = first.place.contains(&source);
        let message = format!(
            "{} could not log in. {}",
            counted(refused.len() as u64, "mailbox", "mailboxes"),
            if named { first } else { first.at(source) }.in_full()
        );
        return Fact::failed(Type::CredentialsAccepted, false, Class::Credentials, message);
    }
    if discovered && facts.standings.iter().all(|s| s.endpoint.is_none()) {
        Fact::new(Type::CredentialsAccepted, State::Unknown, Reason::NotStarted, "No login was possible.")
    } else if discovered {
        Fact::new(
            Type::CredentialsAccepted,
            true,
            Reason::Succeeded,
            "Every password that was tried was accepted.",
        )
    } else if facts.is_interrupted() {
        let message = "It was stopped before every login was tried.";
        Fact::failed(Type::CredentialsAccepted, State::Unknown, Class::Interrupted, message)
    } else {
        Fact::new(Type::CredentialsAccepted, State::Unknown, Reason::InProgress, "Logins are being tried.")
    }
}

fn judge_review(facts: &Facts<'_>, domains: &[DomainStatus], findings: &[FindingStatus]) -> Fact {
    if let Some(changed) = facts.approval.told() {
        let message = format!(
            "The plan that stands is not the approved one; {changed}. Review it and set spec.approvedPlan to status.plan.digest."
        );
        return Fact::new(Type::ReviewRequired, true, Reason::PlanNotApproved, message);
    }
    let open: Vec<&str> =
        domains.iter().filter(|d| holds_cutover(&d.findings)).map(|d| d.name.as_str()).take(5).collect();
    let open: Vec<&str> =
        holds_cutover(findings).then_some("the migration as a whole").into_iter().chain(open).collect();
    if open.is_empty() {
        Fact::new(Type::ReviewRequired, false, Reason::NothingToReview, "No critical finding is open.")
    } else {
        let message = format!("Critical findings are open for {}.", open.join(", "));
        Fact::new(Type::ReviewRequired, true, Reason::FindingsOpen, message)
    }
}

fn judge_synced(
    facts: &Facts<'_>,
    counts: &MailboxCounts,
    messages: &MessageCounts,
    discovered: bool,
) -> Fact {
    if facts.migration.spec.stage == Stage::Plan {
        return Fact::new(
            Type::Synced,
            false,
            Reason::StageNotReached,
            "spec.stage is Plan, which copies nothing.",
        );
    }
    if !discovered {
        return Fact::new(Type::Synced, false, Reason::Waiting, "Discovery comes first.");
    }
    let stopped = counts.failed + counts.blocked;
    if facts.migration.spec.policy.pilot.is_some() && facts.is_through() {
        Fact::new(Type::Synced, false, Reason::PilotOnly, format!("{PILOTED} {messages}."))
    } else if facts.is_through() && facts.left_out() > 0 {
        Fact::new(Type::Synced, false, Reason::Waiting, left_out(facts, counts, messages))
    } else if facts.all_synced(counts) {
        Fact::new(Type::Synced, true, Reason::Succeeded, format!("{messages}."))
    } else if stopped > 0 && counts.syncing == 0 && counts.ready == 0 {
        let others = if stopped < counts.mailboxes { "; the others went on" } else { "" };
        let message = format!("{stopped} of {} mailboxes stopped{others}. {messages}.", counts.mailboxes);
        Fact::new(Type::Synced, false, Reason::MailboxesFailed, message)
    } else if facts.is_interrupted() {
        let message = format!("It was stopped. {}", going_on(counts, messages));
        Fact::failed(Type::Synced, false, Class::Interrupted, message)
    } else {
        Fact::new(Type::Synced, false, Reason::InProgress, going_on(counts, messages))
    }
}

fn brief(facts: &Facts<'_>) -> ReportBrief {
    let mut protocols: BTreeMap<Protocol, ReportRow> = BTreeMap::new();
    let mut domains: BTreeMap<String, ReportRow> = BTreeMap::new();
    for stood in facts.standings {
        let counts = facts.counts(stood);
        let bytes = facts.size(stood).map_or(0, |s| s.bytes);
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
    let open = facts.open(stood);
    let (phase, failure) = match &stood.standing {
        Standing::Unknown => (MailboxPhase::Pending, None),
        Standing::Blocked(failure) => (MailboxPhase::Blocked, Some(failure)),
        Standing::Ready | Standing::Spared => (MailboxPhase::Ready, None),
        Standing::Paused(_) => (MailboxPhase::Ready, record.failure.as_ref()),
        // A worker that waits because the server asked for it says so.
        Standing::Running => (MailboxPhase::Syncing, record.failure.as_ref()),
        Standing::Finished if open.is_none() => (MailboxPhase::Verified, None),
        Standing::Finished => (MailboxPhase::Synced, None),
        Standing::Failed { failure, .. } => (MailboxPhase::Failed, Some(failure)),
    };
    let counts = facts.counts(stood);
    // Counts change all the time; conditions are written when something happened.
    let fact = |kind| match (failure, phase) {
        (Some(failure), _) => Fact::failed(kind, false, failure.class, failure.sentence()),
        (None, MailboxPhase::Verified)
            if counts.pending > 0 && facts.migration.spec.policy.pilot.is_some() =>
        {
            Fact::new(kind, false, Reason::PilotOnly, format!("The pilot's part of it is through. {counts}."))
        }
        (None, MailboxPhase::Synced) if kind == Type::Verified || kind == Type::Ready && open.is_loss() => {
            open_fact(kind, &open)
        }
        (None, MailboxPhase::Verified | MailboxPhase::Synced) => {
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
        bytes: facts.size(stood).map(|s| s.bytes),
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
