//! The state of each condition of a migration, and the reason. Each of them is judged from the facts alone, whatever it
//! said before.

use std::fmt::Write;

use super::decide::{Ending, Stood};
use super::findings::holds_cutover;
use super::proof::Open;
use super::status::Facts;
use super::verification::Verification;
use crate::api::condition::{Fact, Reason, State, Type};
use crate::api::status::{DomainStatus, FindingStatus, MailboxCounts};
use crate::api::{MailMigrationSpec, Stage};
use crate::model::evidence::DestinationSeen;
use crate::model::failure::{Class, Failure};
use crate::model::progress::MessageCounts;
use crate::model::record;
use crate::model::text::{count, counted};

/// The conditions, recomputed whole.
pub(super) fn judge(
    facts: &Facts<'_>,
    (domains, findings): (&[DomainStatus], &[FindingStatus]),
    counts: &MailboxCounts,
    messages: &MessageCounts,
    losses: &Open,
) -> Vec<Fact> {
    let spec = &facts.migration.spec;
    let mut found = Vec::new();
    let discovered = facts.plan.is_some();
    let (ready, working) = match facts.outcome {
        Some(Ending::Reached) if facts.left_out() > 0 => {
            (Fact::new(Type::Ready, false, Reason::Waiting, left_out(facts, counts, messages)), false)
        }
        Some(Ending::Reached)
            if spec.stage > Stage::Plan && spec.policy.pilot.is_none() && messages.pending > 0 =>
        {
            (Fact::new(Type::Ready, false, Reason::Waiting, run_again(facts, messages)), false)
        }
        Some(Ending::Reached) => {
            let message = format!("{}{}", reached(spec, messages), goes_on(facts));
            (Fact::new(Type::Ready, true, Reason::Succeeded, message), false)
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
        None if facts.paused => {
            (Fact::new(Type::Ready, false, Reason::WindowClosed, paused(facts, messages)), true)
        }
        None if let Some(verification) = facts.verification => {
            let message = verifying(verification, messages);
            (Fact::new(Type::Ready, false, Reason::InProgress, message), true)
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
    let credentials = judge_credentials(facts, discovered);
    let lets_in = credentials.state != State::False;
    found.push(credentials);
    found.push(judge_review(facts, domains, findings));
    found.push(judge_synced(facts, counts, messages, discovered));
    let all_through = spec.policy.pilot.is_none() && facts.all_through(counts);
    let verified = judge_verified(facts, all_through, losses);
    let is_verified = verified.state == State::True;
    found.push(verified);
    found.push(judge_cutover(
        facts,
        (domains, findings),
        messages,
        losses,
        (is_verified, all_through, lets_in),
    ));
    found
}

/// Whether the domains may be moved over. It needs what arrived to be verified, and that a last pass could be made.
fn judge_cutover(
    facts: &Facts<'_>,
    (domains, findings): (&[DomainStatus], &[FindingStatus]),
    messages: &MessageCounts,
    losses: &Open,
    (is_verified, all_through, lets_in): (bool, bool, bool),
) -> Fact {
    let open = domains.iter().filter(|d| holds_cutover(&d.findings)).count();
    let whole = holds_cutover(findings);
    let approved = facts.approval.holds();
    let safe = is_verified && open == 0 && !whole && messages.pending == 0 && approved && lets_in;
    let (reason, message) = if safe {
        (Reason::Succeeded.as_str(), "Nothing speaks against moving the domains over.".to_owned())
    } else if !approved {
        let message = "The current plan is not the approved one, so nothing more is carried.";
        (Reason::PlanNotApproved.as_str(), message.to_owned())
    } else if open > 0 {
        let message = format!(
            "Findings that hold the cutover are open in {}; mend them or acknowledge them in spec.acknowledge.",
            counted(open as u64, "domain", "domains")
        );
        (Reason::FindingsOpen.as_str(), message)
    } else if whole {
        let message = "Findings that hold the cutover are open for the migration as a whole; mend them or acknowledge them in \
                       spec.acknowledge.";
        (Reason::FindingsOpen.as_str(), message.to_owned())
    } else if !lets_in {
        let message = "Not every mailbox lets us in, so a last pass could not be made.";
        (Class::Credentials.reason(), message.to_owned())
    } else if all_through && !losses.is_none() {
        (losses.reason(), sentence_of(losses))
    } else if facts.migration.spec.stage == Stage::Plan {
        (Reason::StageNotReached.as_str(), AT_PLAN.to_owned())
    } else {
        (Reason::Waiting.as_str(), "The mail is not in step yet.".to_owned())
    };
    Fact { kind: Type::CutoverSafe, state: safe.into(), reason, message }
}

/// A condition that does not hold because of what is open.
pub(super) fn open_fact(kind: Type, open: &Open) -> Fact {
    Fact { kind, state: State::False, reason: open.reason(), message: sentence_of(open) }
}

/// The reasons against it and the remedy, in whole sentences.
fn sentence_of(open: &Open) -> String {
    Failure::new(Class::Message, open.clauses()).hint(open.remedy()).in_full()
}

fn judge_verified(facts: &Facts<'_>, all_through: bool, open: &Open) -> Fact {
    // Who only looks takes nothing back that an earlier pass proved.
    if facts.migration.spec.stage == Stage::Plan && !all_through {
        return Fact::new(Type::Verified, false, Reason::StageNotReached, AT_PLAN);
    }
    if !all_through {
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
    let (sizes, digests, others) = facts.checked();
    let mut how = if sizes == 0 {
        String::new()
    } else {
        format!(": {} by size, {} of them byte by byte", count(sizes), count(digests))
    };
    if sizes > 0 && others > 0 {
        let _ = write!(how, "; of {} no check is known", counted(others, "message", "messages"));
    }
    // Agreed or not worth an agreement, but not to be passed over; in the words of the report.
    let (mut agreed, mut stored, mut identical) = (Open::default(), 0, 0);
    for record in facts.standings.iter().filter_map(|s| facts.record(s)) {
        agreed.failed += record.counts.failed;
        agreed.missing += record.missing;
        agreed.changed += record.changed;
        agreed.truncated += record.truncated;
        agreed.differing += record.last_verification().map_or(0, record::Verification::differing_messages);
        agreed.absent += record.last_verification().map_or(0, |shown| shown.absent_folders);
        stored += record.altered.saturating_sub(record.changed + record.truncated);
        identical += record.last_verification().map_or(0, |shown| shown.identical);
    }
    if identical > 0 {
        let found = counted(identical, "message", "messages");
        let _ = write!(how, "; verifications read {found} at both sides since and found them the same");
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

/// The message of what the stage does not reach; mail that arrived earlier is judged again at the stage Sync.
const AT_PLAN: &str = "The stage is Plan, which copies nothing.";

/// The message when the pilot is through.
const PILOTED: &str = "The pilot is through; take spec.policy.pilot out to carry the rest.";

fn reached(spec: &MailMigrationSpec, messages: &MessageCounts) -> String {
    match spec.stage {
        Stage::Plan => {
            "The plan is made; the stage Sync carries it out (spec.stage, or --stage of a run).".to_owned()
        }
        Stage::Sync | Stage::Cutover if spec.policy.pilot.is_some() => {
            format!("{PILOTED} {messages}.")
        }
        Stage::Sync | Stage::Cutover => format!("{messages}."),
    }
}

/// Mail came since the pass: what carries it.
pub(super) fn run_again(facts: &Facts<'_>, messages: &MessageCounts) -> String {
    let remedy = if facts.next.is_some() {
        "The next pass carries what is still to come."
    } else if facts.approval.holds() {
        "Run it again to carry what is still to come."
    } else {
        "The mail that is still to come is carried once the current plan is approved."
    };
    format!("{messages}. {remedy}")
}

/// Work that waits for a window of the schedule.
fn paused(facts: &Facts<'_>, messages: &MessageCounts) -> String {
    let when = facts.next.map_or_else(String::new, |next| format!("; it goes on at {next}"));
    format!("No window of spec.schedule.windows is open{when}. {messages}.")
}

/// The word about the next pass, where one follows by itself.
fn goes_on(facts: &Facts<'_>) -> String {
    facts.next.map_or_else(String::new, |next| format!(" The next pass begins at {next}."))
}

fn left_out(facts: &Facts<'_>, counts: &MailboxCounts, messages: &MessageCounts) -> String {
    format!(
        "Some mailboxes alone were asked for (--only); {} of {} are still to come. {messages}.",
        facts.left_out(),
        counted(counts.mailboxes.into(), "mailbox", "mailboxes")
    )
}

fn verifying(verification: Verification, messages: &MessageCounts) -> String {
    let Verification { tried, mailboxes } = verification;
    format!(
        "Both sides are held against each other once more: {tried} of {mailboxes} mailboxes were verified. {messages}."
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

/// The mailboxes that could not log in, and the first of their failures.
fn refused_mailboxes<'a>(facts: &'a Facts<'_>) -> (u64, Option<(&'a Stood, &'a Failure)>) {
    let refused = facts.standings.iter().filter_map(|stood| {
        // A verification is a login like any other, and later than the pass.
        let unverified = || facts.record(stood).and_then(|record| record.unverified.as_ref());
        Some((stood, stood.standing.failure().or_else(unverified)?))
    });
    let refused = refused.filter(|(_, failure)| failure.class == Class::Credentials);
    (refused.clone().count() as u64, refused.clone().next())
}

fn judge_credentials(facts: &Facts<'_>, discovered: bool) -> Fact {
    const KIND: Type = Type::CredentialsAccepted;
    let (refused, first) = refused_mailboxes(facts);
    if let Some((stood, failure)) = first {
        let source = stood.mailbox.source.to_string();
        let first = failure.clone().hint("correct the Secret");
        let named = first.place.contains(&source);
        let message = format!(
            "{} could not log in. {}",
            counted(refused, "mailbox", "mailboxes"),
            if named { first } else { first.at(source) }.in_full()
        );
        return Fact::failed(KIND, false, Class::Credentials, message);
    }
    let shut_out: Vec<(&DestinationSeen, &Failure)> = facts.shut_out().collect();
    let refusing =
        shut_out.iter().find(|(seen, failure)| seen.refused > 0 && failure.class == Class::Credentials);
    let refused: u64 = shut_out.iter().map(|(seen, _)| seen.refused).sum();
    if let Some((_, failure)) = refusing {
        let first = (*failure).clone().hint("correct the Secret").at("destination").in_full();
        let message = format!(
            "{} could not log in at the destination. {first}",
            counted(refused, "mailbox", "mailboxes")
        );
        return Fact::failed(KIND, false, Class::Credentials, message);
    }
    if !discovered {
        return if facts.is_interrupted() {
            let message = "It was stopped before every login was tried.";
            Fact::failed(KIND, State::Unknown, Class::Interrupted, message)
        } else {
            Fact::new(KIND, State::Unknown, Reason::InProgress, "Logins are being tried.")
        };
    }
    // Of the passwords of those that were not let come so far nobody said anything.
    if let Some((_, failure)) = shut_out.iter().find(|(seen, _)| seen.open < seen.mailboxes) {
        let message = format!(
            "Not every mailbox at the destination let us in. {}",
            (*failure).clone().at("destination").in_full()
        );
        return Fact::failed(KIND, State::Unknown, failure.class, message);
    }
    if facts.standings.iter().all(|s| s.endpoint.is_none()) {
        Fact::new(KIND, State::Unknown, Reason::NotStarted, "No login was possible.")
    } else {
        Fact::new(KIND, true, Reason::Succeeded, "Every password that was tried was accepted.")
    }
}

fn judge_review(facts: &Facts<'_>, domains: &[DomainStatus], findings: &[FindingStatus]) -> Fact {
    if let Some(changed) = facts.approval.told() {
        let message = format!(
            "The current plan is not the approved one; {changed}. Review it and set spec.approvedPlan to status.plan.digest."
        );
        return Fact::new(Type::ReviewRequired, true, Reason::PlanNotApproved, message);
    }
    let open: Vec<&str> =
        domains.iter().filter(|d| holds_cutover(&d.findings)).map(|d| d.name.as_str()).take(5).collect();
    let open: Vec<&str> =
        holds_cutover(findings).then_some("the migration as a whole").into_iter().chain(open).collect();
    if open.is_empty() {
        Fact::new(
            Type::ReviewRequired,
            false,
            Reason::NothingToReview,
            "No finding that holds the cutover is open.",
        )
    } else {
        let message = format!("Findings that hold the cutover are open for {}.", open.join(", "));
        Fact::new(Type::ReviewRequired, true, Reason::FindingsOpen, message)
    }
}

fn judge_synced(
    facts: &Facts<'_>,
    counts: &MailboxCounts,
    messages: &MessageCounts,
    discovered: bool,
) -> Fact {
    if facts.migration.spec.stage == Stage::Plan && !facts.all_through(counts) {
        return Fact::new(Type::Synced, false, Reason::StageNotReached, AT_PLAN);
    }
    if !discovered {
        return Fact::new(Type::Synced, false, Reason::Waiting, "Discovery comes first.");
    }
    let stopped = counts.failed + counts.blocked;
    if facts.migration.spec.policy.pilot.is_some() && facts.is_through() {
        Fact::new(Type::Synced, false, Reason::PilotOnly, format!("{PILOTED} {messages}."))
    } else if facts.is_through() && facts.left_out() > 0 {
        Fact::new(Type::Synced, false, Reason::Waiting, left_out(facts, counts, messages))
    } else if facts.all_through(counts) && messages.pending > 0 {
        Fact::new(Type::Synced, false, Reason::Waiting, run_again(facts, messages))
    } else if facts.all_through(counts) {
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
