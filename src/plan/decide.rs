//! The decision: given what is wanted and what is known, what is to be done now, what the status says, and whether there
//! is anything left to wait for.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::backoff::{again_after, jitter, wait_after};
use super::document::{Change, Plan, changes_in_brief};
use super::mailboxes::PlannedMailbox;
use super::observed::{DomainObserved, MailboxObserved, Observed, Patience};
use super::proof::Open;
use super::room::Room;
use super::schedule::{LastPass, Timing};
use super::status;
use super::verification::{Verification, tell_unverified};
use crate::api::status::PlanStatus;
use crate::api::{
    MailMigration, MailMigrationSpec, MailMigrationStatus, MailboxMigrationStatus, Schedule, Stage,
};
use crate::model::address::Domain;
use crate::model::endpoint::Endpoint;
use crate::model::evidence::DestinationSeen;
use crate::model::failure::{Class, Failure};
use crate::model::purpose::Purpose;

/// The remedy where the plan is another one than was approved.
pub const REVIEW: &str = "review `mailferry plan --diff`, then set spec.approvedPlan to it";
/// The remedy where nothing is known of the plan that was approved.
pub const REVIEW_ALONE: &str =
    "review `mailferry plan`, then set spec.approvedPlan to the digest that it prints";
/// Attempts of a mailbox after which one whose login was looked at since is waited for like any other.
const RENAMED_MAX: u32 = 3;

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "nearly all steps are of the larger kind")]
pub enum Step {
    /// Find out what a domain speaks.
    Discover {
        /// Its place in `spec.domains`.
        domain: usize,
    },
    /// Go through a mailbox.
    Sync {
        /// The place of its domain in `spec.domains`.
        domain: usize,
        /// The mailbox.
        mailbox: PlannedMailbox,
        /// Where it is read from.
        endpoint: Endpoint,
        /// The purpose.
        purpose: Purpose,
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

/// The steps to take, and the status to publish.
#[derive(Debug, Clone)]
pub struct Decision {
    /// Things to do now, in order.
    pub steps: Vec<Step>,
    /// The status as it is to be published.
    pub status: MailMigrationStatus,
    /// The plan, once every domain was looked at.
    pub plan: Option<Plan>,
    /// The status of each mailbox that is wanted, in the order of the manifest.
    pub mailboxes: Vec<(PlannedMailbox, String, MailboxMigrationStatus)>,
    /// The pass that the statuses are about: the one that is wanted, or the one before where it may not begin.
    pub pass: u32,
    /// Whether nothing may be written at the destination now, so that workers which do are to be stopped.
    pub halt: bool,
    /// When to look again although nothing happened.
    pub wake: Option<Timestamp>,
    /// Set while there is work that waits for a window of the schedule: how a command ends that does not wait for it.
    pub paused: Option<Failure>,
    /// Set when there is nothing to do and nothing to wait for.
    pub ending: Option<Ending>,
}

/// The state of one mailbox in the pass that is wanted.
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
    /// It can be carried, and is not part of the pilot.
    Spared,
    /// Its pass came to its end.
    Finished,
    /// Its pass was given up.
    Failed {
        /// Why.
        failure: Failure,
        /// When an operator tries it again; a command never does, and while it is being tried there is no such moment.
        again: Option<Timestamp>,
    },
}

impl Standing {
    /// The failure that stops it for now, if there is one.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Blocked(failure) | Self::Failed { failure, .. } => Some(failure),
            _ => None,
        }
    }
}

/// Whether the current plan may be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Approval {
    /// Nobody asked for one.
    NotWanted,
    /// There is no plan yet; holds what was approved, if that is known.
    Open(Option<PlanStatus>),
    /// The plan is the approved one.
    Given(PlanStatus),
    /// The plan is another one; holds what was approved, if that is known, and what changed since.
    Changed(Option<PlanStatus>, Vec<String>),
}

impl Approval {
    /// `whole` is the plan that `plan` is the brief of; with the approved one as a whole, each line that differs is named.
    fn of(
        migration: &MailMigration,
        plan: Option<&PlanStatus>,
        whole: Option<&Plan>,
        approved: Option<&Plan>,
    ) -> Self {
        let Some(wanted) = &migration.spec.approved_plan else { return Self::NotWanted };
        let before = migration.status.iter().flat_map(|status| [&status.approved, &status.plan]).flatten();
        let known = before.filter(|plan| plan.digest == *wanted).max_by_key(|plan| plan.parts.len()).cloned();
        match plan {
            None => Self::Open(known),
            Some(plan) if plan.digest == *wanted => Self::Given(plan.clone()),
            Some(plan) => {
                let changes = match (whole, approved.filter(|approved| approved.digest() == *wanted)) {
                    (Some(whole), Some(approved)) => whole.changes_since(approved),
                    _ => known.iter().flat_map(|known| changes_in_brief(known, plan)).collect(),
                };
                let changes = changes.iter().map(Change::to_string).collect();
                Self::Changed(known, changes)
            }
        }
    }

    /// Whether it does not hold anything up.
    pub fn holds(&self) -> bool {
        !matches!(self, Self::Changed(..))
    }

    /// Whether what goes on now may go on. While domains are looked at anew that is what was approved before, and nothing
    /// where the plan that is wanted never stood here.
    fn lets_go_on(&self) -> bool {
        self.holds() && *self != Self::Open(None)
    }

    /// The approved plan, as far as it is known.
    pub fn approved(&self) -> Option<&PlanStatus> {
        match self {
            Self::NotWanted => None,
            Self::Given(plan) => Some(plan),
            Self::Open(known) | Self::Changed(known, _) => known.as_ref(),
        }
    }

    /// Whether the current plan can be held against the approved one.
    fn is_comparable(&self) -> bool {
        !matches!(self, Self::Changed(_, changes) if changes.is_empty())
    }

    /// The changes since, in words, when they hold the migration.
    pub fn told(&self) -> Option<String> {
        let Self::Changed(_, changes) = self else { return None };
        Some(match changes.len() {
            0 => "what was approved is not known here".to_owned(),
            1..=3 => format!("since then {}", changes.join("; ")),
            n => format!("since then {}; and {} more changes", changes[..3].join("; "), n - 3),
        })
    }
}

/// Decides. Total: every combination of facts has an answer.
pub fn decide(migration: &MailMigration, observed: &Observed, now: Timestamp) -> Decision {
    let spec = &migration.spec;
    let mut steps = Vec::new();
    // Moments at which to look again: those that are waited for, and those at which an operator tries its luck.
    let (mut wake, mut again): (Option<Timestamp>, Option<Timestamp>) = (None, None);

    let discovered =
        spec.domains.iter().all(|d| observed.domains.get(&d.name).is_some_and(|o| o.discovery.is_some()));
    let mut busy = !spec.suspend && look_at_domains(spec, observed, now, &mut steps, &mut again);

    let plan = discovered.then(|| Plan::of(spec, observed));
    let brief = plan.as_ref().map(Plan::brief);
    let approval = Approval::of(migration, brief.as_ref(), plan.as_ref(), observed.approved.as_deref());
    let held = spec.suspend || spec.stage == Stage::Plan || !approval.lets_go_on();
    let identity = identity(migration);
    let nothing = Schedule::default();
    let timing = Timing { schedule: spec.schedule.as_deref().unwrap_or(&nothing), identity: &identity };
    let gate = timing.gate(now);
    let halt = held || !gate.open;
    let pass = pass_under_way(observed, halt);
    let standings = stand(migration, observed, pass, now);
    let wanted: Vec<&Stood> =
        standings.iter().filter(|stood| observed.wants(&stood.mailbox.source)).collect();
    let mut room = Room::of(spec, observed, &standings);
    let verifies = standings.iter().any(|stood| stood.verifying);
    if discovered && !halt {
        let begun = begin_pass(&wanted, &mut room, now);
        busy |= begun.has_room || begun.is_ready && verifies;
        (wake, again) = (begun.wake, [again, begun.again].into_iter().flatten().min());
        steps.extend(begun.steps);
    }
    let is_running = standings.iter().any(|s| s.standing == Standing::Running);
    busy |= wake.is_some() || is_running;
    let waits =
        if discovered && !held && !gate.open { waits_for_window(&wanted, observed, pass) } else { None };
    let paused = waits.map(|_| window_closed(gate.turns));
    // Somebody stays until the next one opens.
    let opens = gate.turns.filter(|_| paused.is_some() && observed.stays());
    busy |= opens.is_some() && waits == Some(Purpose::Delta);
    let ending = if busy && observed.stopped {
        Some(Ending::Stopped(interrupted()))
    } else {
        (!busy).then(|| match &paused {
            Some(closed) if waits == Some(Purpose::Delta) => Ending::Stopped(closed.clone()),
            _ => end(migration, &wanted, observed, &approval, brief.as_ref()),
        })
    };
    // The pass comes first, and what it came to stays while its mail is verified.
    let verification = Verification::of(&wanted).filter(|_| discovered && !halt && !busy);
    if verification.is_some() {
        steps.extend(wanted.iter().filter_map(|stood| room.begin_verification(stood)));
    }
    let outcome = match &paused {
        // A verification alone waits: the pass came to what it came to.
        Some(closed) if ending.is_some() && waits == Some(Purpose::Verify) => {
            opens.is_none().then(|| Ending::Stopped(closed.clone()))
        }
        _ => conclude(ending.as_ref(), verification, &wanted, observed),
    };
    let is_begun =
        is_running || outcome.is_some() || steps.iter().any(|step| matches!(step, Step::Sync { .. }));
    let began = observed.began.or_else(|| (is_begun && !halt).then(|| whole_second(now)));
    let timing = Some(timing).filter(|_| !held);
    let ahead = look_ahead(migration, observed, timing, (began, outcome.as_ref()), now);
    if ahead.begins_next {
        // It tries everything once more.
        steps.clear();
    }
    // While work goes on it is looked at again when it must pause; else when something is to begin.
    let turns = gate.turns.filter(|_| outcome.is_none() || observed.is_at_work());
    again = [again, turns, opens, ahead.look].into_iter().flatten().min();
    if observed.stopped && (busy || verification.is_some()) {
        steps.clear();
    }
    let facts = status::Facts {
        migration,
        observed,
        pass,
        standings: &standings,
        plan: brief.as_ref(),
        approval: &approval,
        ending: ending.as_ref(),
        verification,
        outcome: outcome.as_ref(),
        last: ahead.last,
        begins_next: ahead.begins_next,
        next: opens.or(ahead.next),
        paused: opens.is_some(),
        now,
    };
    let mailboxes = wanted
        .iter()
        .map(|s| (s.mailbox.clone(), spec.domains[s.domain].name.clone(), status::of_mailbox(&facts, s)))
        .collect();
    let wake = again.map(|again| earlier(wake, again)).or(wake);
    Decision {
        status: status::of_migration(&facts),
        plan,
        mailboxes,
        steps,
        pass,
        halt,
        wake,
        paused,
        ending: outcome,
    }
}

/// The identity by which the moments of a migration differ from those of others.
fn identity(migration: &MailMigration) -> String {
    let metadata = &migration.metadata;
    [&metadata.namespace, &metadata.name].map(|part| part.as_deref().unwrap_or_default()).join("/")
}

/// The work that waits for a window to open: the pass that is wanted, or else a verification.
fn waits_for_window(wanted: &[&Stood], observed: &Observed, pass: u32) -> Option<Purpose> {
    let waits =
        |stood: &&Stood| matches!(stood.standing, Standing::Ready | Standing::Paused(_) | Standing::Running);
    if observed.pass > pass || wanted.iter().any(waits) {
        return Some(Purpose::Delta);
    }
    Verification::of(wanted).map(|_| Purpose::Verify)
}

/// How a command ends that finds work and no window open.
fn window_closed(opens: Option<Timestamp>) -> Failure {
    let when = opens.map_or_else(String::new, |opens| format!(" until {}", whole_second(opens)));
    Failure::new(Class::Interrupted, format!("no window of spec.schedule.windows is open{when}"))
        .hint("run it again then, or with --keep, which waits for it")
}

/// The mailboxes of a pass that can be carried now.
#[derive(Default)]
struct Begun {
    steps: Vec<Step>,
    /// Whether any can be carried.
    is_ready: bool,
    /// Whether there was room for one of them.
    has_room: bool,
    /// When the first one that is waited for can be.
    wake: Option<Timestamp>,
    /// When an operator tries the first one again that failed.
    again: Option<Timestamp>,
}

/// Begins what there is room for.
fn begin_pass(wanted: &[&Stood], room: &mut Room<'_>, now: Timestamp) -> Begun {
    let mut begun = Begun::default();
    for stood in wanted {
        let may_begin = match &stood.standing {
            Standing::Ready => {
                begun.is_ready = true;
                begun.has_room |= room.is_free();
                true
            }
            Standing::Paused(until) => {
                begun.wake = Some(earlier(begun.wake, *until));
                false
            }
            Standing::Failed { again: Some(due), .. } if *due > now => {
                begun.again = Some(earlier(begun.again, *due));
                false
            }
            Standing::Failed { again, .. } => again.is_some(),
            _ => false,
        };
        if may_begin {
            begun.steps.extend(room.begin(stood, Purpose::Delta));
        }
    }
    begun
}

/// The things that follow by the schedule.
struct Ahead {
    /// When the pass began and ended.
    last: LastPass,
    /// Whether the next one begins at once.
    begins_next: bool,
    /// When it begins, where that is to come.
    next: Option<Timestamp>,
    /// When to look again because of it.
    look: Option<Timestamp>,
}

/// Looks at what follows a pass, given when it began and how it ended. Where something holds the migration nothing follows.
fn look_ahead(
    migration: &MailMigration,
    observed: &Observed,
    timing: Option<Timing<'_>>,
    (began, outcome): (Option<Timestamp>, Option<&Ending>),
    now: Timestamp,
) -> Ahead {
    let ended = known_end(migration, observed, began);
    let is_over = outcome.is_some_and(|outcome| match outcome {
        Ending::Reached => true,
        Ending::Stopped(failure) => failure.class != Class::Interrupted,
    });
    let ended = match (&timing, began) {
        // One that is held has not come to its end by that.
        (None, _) => ended,
        (Some(_), began) => {
            began.filter(|_| is_over).map(|began| ended.unwrap_or(whole_second(now).max(began)))
        }
    };
    let last = LastPass { number: observed.pass, began, ended };
    let next = timing.and_then(|timing| timing.look(&last, now).next);
    let next = next.filter(|_| observed.stays() && outcome.is_some());
    // A command begins the next pass by itself, as a run of its own.
    let is_resident = observed.patience == Patience::Resident;
    let begins_next = is_resident && next.is_some_and(|next| next <= now) && !observed.is_at_work();
    Ahead {
        last,
        begins_next,
        next: next.filter(|next| *next > now || !is_resident),
        look: next.filter(|next| *next > now || begins_next),
    }
}

/// When the pass ended, as far as it was told; it may have begun once more since, for some mailboxes alone.
fn known_end(migration: &MailMigration, observed: &Observed, began: Option<Timestamp>) -> Option<Timestamp> {
    let published = migration.status.as_ref().and_then(|status| status.pass.as_ref());
    let known = published.filter(|published| published.number == observed.pass)?.ended?;
    began.filter(|began| *began <= known).map(|_| known)
}

/// A status keeps whole seconds.
fn whole_second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// Adds a step for each domain that is to be looked at, and the moment at which the next one is; whether any must be looked at
/// before there is a plan.
fn look_at_domains(
    spec: &MailMigrationSpec,
    observed: &Observed,
    now: Timestamp,
    steps: &mut Vec<Step>,
    again: &mut Option<Timestamp>,
) -> bool {
    let astray = find_off_the_plan(observed);
    let mut busy = false;
    for (at, domain) in spec.domains.iter().enumerate() {
        let seen = observed.domains.get(&domain.name);
        if seen.is_some_and(|seen| seen.discovering) {
            busy |= seen.is_some_and(|seen| seen.discovery.is_none());
        } else if seen.is_none_or(|seen| seen.discovery.is_none()) {
            busy = true;
            steps.push(Step::Discover { domain: at });
        } else if let Some(due) = seen.and_then(|seen| discover_again(seen, observed.patience, &astray)) {
            if due <= now {
                steps.push(Step::Discover { domain: at });
            } else {
                *again = Some(earlier(*again, due));
            }
        }
    }
    busy
}

/// How all of it ended, given how the pass did; `None` while something goes on.
fn conclude(
    ending: Option<&Ending>,
    verification: Option<Verification>,
    wanted: &[&Stood],
    observed: &Observed,
) -> Option<Ending> {
    match (ending?, verification) {
        (_, Some(_)) if observed.stopped => Some(Ending::Stopped(interrupted())),
        (_, Some(_)) => None,
        (Ending::Reached, None) => {
            Some(tell_unverified(wanted, observed).map_or(Ending::Reached, Ending::Stopped))
        }
        (ending, None) => Some(ending.clone()),
    }
}

/// The pass that statuses are about. One that may not begin has not begun: what the one before came to still holds.
fn pass_under_way(observed: &Observed, halt: bool) -> u32 {
    if !halt {
        return observed.pass;
    }
    let begun = observed.mailboxes.values().map(|seen| seen.record.pass).filter(|pass| *pass > 0);
    begun.max().map_or(observed.pass, |last| last.min(observed.pass))
}

/// How a run ended that was stopped from outside, or killed.
pub fn interrupted() -> Failure {
    Failure::new(Class::Interrupted, "it was stopped before it was through")
        .hint("run the same command again: it goes on from here")
}

fn earlier(known: Option<Timestamp>, other: Timestamp) -> Timestamp {
    known.map_or(other, |known| known.min(other))
}

fn later_by(since: Timestamp, wait: std::time::Duration) -> Timestamp {
    since.saturating_add(jiff::SignedDuration::try_from(wait).unwrap_or_default()).unwrap_or(since)
}

/// The domains of which a mailbox was not carried because its ends are others than the plan says (another name logs in, other
/// authorities are trusted), when that was last, and why it was.
fn find_off_the_plan(observed: &Observed) -> BTreeMap<&Domain, (Timestamp, &Failure)> {
    let mut astray: BTreeMap<&Domain, (Timestamp, &Failure)> = BTreeMap::new();
    for (mailbox, seen) in &observed.mailboxes {
        let failure = seen.record.failure.as_ref().filter(|failure| failure.is_off_the_plan());
        if let (Some(failure), Some(ended)) = (failure, seen.record.ended) {
            let last = astray.entry(mailbox.domain()).or_insert((ended, failure));
            last.0 = last.0.max(ended);
        }
    }
    astray
}

/// When an operator looks at a domain again of which something could not be found out, or whose logins are others by now.
/// Looking costs a login for each mailbox, so a domain that took long is left alone for longer.
fn discover_again(
    seen: &DomainObserved,
    patience: Patience,
    astray: &BTreeMap<&Domain, (Timestamp, &Failure)>,
) -> Option<Timestamp> {
    let discovery = seen.discovery.as_ref().filter(|_| patience == Patience::Resident)?;
    let astray = astray.get(&discovery.domain).filter(|(ended, _)| *ended > discovery.finished);
    if let Some((ended, failure)) = astray {
        // At once for the first time; a clock that differs must not make a circle of it.
        let Some(before) = seen.round.checked_sub(1).filter(|before| *before > 0) else {
            return Some(*ended);
        };
        let jitter = jitter(discovery.domain.as_str(), before);
        return Some(later_by(*ended, again_after(failure, before, jitter)));
    }
    let unread =
        || discovery.mailboxes.iter().filter(|m| m.endpoint.is_none()).find_map(|m| m.failure.as_ref());
    let unwritten = || discovery.destination.as_ref().and_then(DestinationSeen::unusable);
    let failure = discovery.failure.as_ref().or_else(unread).or_else(unwritten)?;
    let wait = again_after(failure, seen.round, jitter(discovery.domain.as_str(), seen.round));
    let took = discovery.finished.duration_since(discovery.started);
    let polite = std::time::Duration::try_from(took).unwrap_or_default().saturating_mul(20);
    Some(later_by(discovery.finished, wait.max(polite.min(std::time::Duration::from_hours(4)))))
}

/// A mailbox and its standing.
#[derive(Debug, Clone)]
pub struct Stood {
    /// The place of its domain in `spec.domains`.
    pub domain: usize,
    /// The mailbox.
    pub mailbox: PlannedMailbox,
    /// Where it is read from.
    pub endpoint: Option<Endpoint>,
    /// Its standing in the pass.
    pub standing: Standing,
    /// Whether a worker verifies it, whatever became of its pass since.
    pub verifying: bool,
    /// Whether the wanted verification of it is still to begin. One that was never carried, or stopped, is carried first.
    pub is_to_be_verified: bool,
}

fn stand(migration: &MailMigration, observed: &Observed, pass: u32, now: Timestamp) -> Vec<Stood> {
    let mut standings = Vec::new();
    let nothing = MailboxObserved::default();
    let pilot = migration.spec.policy.pilot.as_ref().and_then(|pilot| pilot.mailboxes);
    for (at, domain) in migration.spec.domains.iter().enumerate() {
        let Some(seen) = observed.domains.get(&domain.name) else { continue };
        let mut readable = 0;
        for mailbox in seen.planned() {
            let known = observed.mailboxes.get(&mailbox.source).unwrap_or(&nothing);
            let discovered = seen.discovery.as_ref();
            let found = seen.find(&mailbox.source);
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
                (Some(_), Some(_)) => {
                    readable += 1;
                    let looked = discovered.map(|discovery| discovery.finished);
                    match stand_by_record(mailbox, known, observed, looked, now) {
                        Standing::Ready if known.record.finished(pass) => Standing::Finished,
                        // A pass that is running is left to its end.
                        standing @ (Standing::Running | Standing::Finished) => standing,
                        _ if pilot.is_some_and(|most| readable > most) => Standing::Spared,
                        standing => standing,
                    }
                }
            };
            let mailbox = mailbox.clone().logged_in_as(found.and_then(|m| m.login_name.as_ref()));
            let verifying = known.verifying;
            let is_behind = known.record.verification_number < observed.verification;
            let is_to_be_verified = standing == Standing::Finished && !verifying && is_behind;
            standings.push(Stood { domain: at, mailbox, endpoint, standing, verifying, is_to_be_verified });
        }
    }
    standings
}

fn stand_by_record(
    mailbox: &PlannedMailbox,
    known: &MailboxObserved,
    observed: &Observed,
    looked: Option<Timestamp>,
    now: Timestamp,
) -> Standing {
    let record = &known.record;
    if record.pass != observed.pass {
        return if known.running { Standing::Running } else { Standing::Ready };
    }
    let failure = match &record.failure {
        // An operator's second try is not a reason to take back the report about the first.
        Some(failure)
            if known.running && record.ended.is_some() && observed.patience == Patience::Resident =>
        {
            return Standing::Failed { failure: failure.clone(), again: None };
        }
        // The ends were looked at since, so it is another plan that is tried.
        Some(failure)
            if !known.running
                && failure.is_off_the_plan()
                && record.attempts <= RENAMED_MAX
                && record.ended < looked =>
        {
            return Standing::Ready;
        }
        Some(failure) if !known.running => failure,
        _ if known.running => return Standing::Running,
        _ if record.finished(observed.pass) => return Standing::Finished,
        _ => return Standing::Ready,
    };
    let jitter = jitter(&mailbox.source.to_string(), record.attempts);
    // A worker's clock may be ahead of ours.
    let since = record.ended.unwrap_or(now).min(now);
    if observed.patience == Patience::Resident {
        let again = Some(later_by(since, again_after(failure, record.attempts, jitter)));
        return Standing::Failed { failure: failure.clone(), again };
    }
    let Some(wait) = wait_after(failure, record.attempts, jitter) else {
        return Standing::Failed { failure: failure.clone(), again: None };
    };
    let until = later_by(since, wait);
    if until <= now { Standing::Ready } else { Standing::Paused(until) }
}

/// Why nothing more happens.
fn end(
    migration: &MailMigration,
    standings: &[&Stood],
    observed: &Observed,
    approval: &Approval,
    plan: Option<&PlanStatus>,
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
        if observed.only.is_some() && !seen.planned().iter().any(|mailbox| observed.wants(&mailbox.source)) {
            continue;
        }
        if let Some(Err(failure)) = &seen.mailboxes {
            reasons.push(failure.clone());
        }
        if let Some(failure) = seen.discovery.as_ref().and_then(|d| d.failure.clone()) {
            // A failure of discovery names its domain; a fault of the manifest is named by file and line.
            let named = failure.place.first() == Some(&domain.name) || failure.class == Class::Configuration;
            reasons.push(if named { failure } else { failure.at(domain.name.clone()) });
        }
        // Once mailboxes are carried, each of them says how it went.
        if spec.stage == Stage::Plan
            && let Some(failure) = observed.shut_out(seen).and_then(DestinationSeen::unusable)
        {
            reasons.push(failure.clone().at("destination"));
        }
    }
    for stood in standings {
        if let Some(failure) = stood.standing.failure() {
            reasons.push(place_mailbox(failure, stood));
        }
    }
    if let Some(changed) = approval.told() {
        let remedy = if approval.is_comparable() { REVIEW } else { REVIEW_ALONE };
        let digest = plan.map(|plan| plan.digest.as_str()).unwrap_or_default();
        let what = format!("the current plan, {digest}, is not the approved one; {changed}");
        reasons.push(Failure::configuration(what).hint(remedy));
    }
    if spec.stage > Stage::Plan && approval.holds() {
        reasons.extend(tell_losses(spec, standings, observed));
    }
    if spec.stage == Stage::Cutover && reasons.is_empty() {
        reasons.push(
            Failure::new(Class::Refused, "the mail is in step; cutting over is not part of this release")
                .hint("change the MX records yourself, then run once more with --stage Sync for what came in between"),
        );
    }
    // Of equally bad reasons the first represents all.
    let worst = reasons.into_iter().reduce(|worst, next| {
        let worse = worst.class != next.class && worst.class.worse(next.class) == next.class;
        if worse { next } else { worst }
    });
    worst.map_or(Ending::Reached, Ending::Stopped)
}

/// The most mailboxes with losses that are named.
const LOSSES_NAMED: usize = 3;

/// Messages of mailboxes that are through which did not arrive, or are not as they arrived, and that nobody acknowledged.
fn tell_losses(spec: &MailMigrationSpec, standings: &[&Stood], observed: &Observed) -> Option<Failure> {
    let finished = standings.iter().filter(|stood| stood.standing == Standing::Finished);
    let open = finished.filter_map(|stood| {
        let record = &observed.mailboxes.get(&stood.mailbox.source)?.record;
        let open = Open::of(spec, &spec.domains[stood.domain].name, record);
        let open = Open { waiting: 0, differing: 0, absent: 0, unchecked: 0, ..open };
        open.is_loss().then_some((*stood, open))
    });
    let open: Vec<(&Stood, Open)> = open.collect();
    let mut sum = Open::default();
    for (_, open) in &open {
        sum += *open;
    }
    let failure = Failure::new(Class::Message, sum.clauses()).hint(sum.remedy());
    match &open[..] {
        [] => None,
        [(stood, _)] => Some(failure.at(stood.mailbox.source.to_string())),
        several => {
            let mut named: Vec<String> = several
                .iter()
                .take(LOSSES_NAMED)
                .map(|(stood, _)| stood.mailbox.source.to_string())
                .collect();
            if several.len() > LOSSES_NAMED {
                named.push(format!("{} more mailboxes", several.len() - LOSSES_NAMED));
            }
            Some(Failure { what: format!("{}, in {}", failure.what, named.join(", ")), ..failure })
        }
    }
}

/// Names the mailbox in front of its failure, unless the failure does so already.
pub(super) fn place_mailbox(failure: &Failure, stood: &Stood) -> Failure {
    let address = stood.mailbox.source.to_string();
    let is_named = failure.place.first().is_some_and(|place| place.starts_with(&address));
    if is_named { failure.clone() } else { failure.clone().at(address) }
}
