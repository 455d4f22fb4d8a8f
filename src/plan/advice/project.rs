//! Findings for the migration as a whole.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;

use super::{GIGABYTE, days_until};
use crate::api::MailMigrationSpec;
use crate::api::checklist::Checklist;
use crate::api::policy::Verify;
use crate::model::finding::{Code, Finding};
use crate::model::text::{counted, printable};
use crate::plan::mailboxes::PlannedMailbox;
use crate::plan::observed::Observed;
use crate::plan::unmatched;

/// How many days before a deadline it is worth a word.
const NOTICE_DAYS: i32 = 30;

/// Returns the findings for the migration as a whole.
pub(in crate::plan) fn of_migration(
    spec: &MailMigrationSpec,
    observed: &Observed,
    now: Timestamp,
) -> Vec<Finding> {
    let mut found = Vec::new();
    merged(&mut found, spec, observed);
    for (other, shared) in &observed.rivals {
        let text = format!(
            "MailMigration {other} of this namespace carries {} of this one to the same place too.",
            counted(*shared as u64, "mailbox", "mailboxes")
        );
        found.push(Finding::about(Code::CarriedByAnother, other, text));
    }
    let lists: Option<Vec<&[PlannedMailbox]>> =
        spec.domains.iter().map(|domain| observed.domains.get(&domain.name)?.listed()).collect();
    if let Some(lists) = lists {
        found.extend(unmatched::addresses(spec, lists.into_iter().flatten()));
        found.extend(unmatched::folders(spec, observed));
    }
    if spec.destination.files().is_none() {
        found.extend(spec.destination.endpoint().find_in_the_clear("Mail is written to"));
    }
    if spec.destination.microsoft365().is_some() {
        let text = "Mail is all that is carried to Microsoft 365: calendars, contacts, tasks and rules are not carried yet.";
        found.push(Finding::of_domain(Code::OtherDataNotCarried, text));
    }
    if spec.policy.verify == Verify::Sizes {
        let text = "spec.policy.verify is Sizes: no arrival is read back.";
        found.push(Finding::of_domain(Code::VerifiedBySizeOnly, text));
    }
    if let Some(checklist) = &spec.checklist {
        clients(&mut found, checklist);
        beside(&mut found, checklist);
        destination(&mut found, checklist);
        dates(&mut found, checklist, now);
        time(&mut found, spec, checklist, observed, now);
    }
    found
}

fn merged(found: &mut Vec<Finding>, spec: &MailMigrationSpec, observed: &Observed) {
    let mut sources: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for domain in spec.domains.iter().filter_map(|domain| observed.domains.get(&domain.name)) {
        for mailbox in domain.planned() {
            let destination = mailbox.destination.to_string().to_lowercase();
            sources.entry(destination).or_default().push(mailbox.source.to_string());
        }
    }
    for (destination, sources) in sources.into_iter().filter(|(_, sources)| sources.len() > 1) {
        let shown = sources.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
        let text = format!(
            "{} arrive in {destination}: {shown}.",
            counted(sources.len() as u64, "mailbox", "mailboxes")
        );
        found.push(Finding::about(Code::AddressesMerged, destination, text));
    }
}

fn clients(found: &mut Vec<Finding>, checklist: &Checklist) {
    let stores = checklist.client_stores.as_ref();
    if let Some(count) = stores.and_then(|stores| stores.count).filter(|count| *count > 0) {
        let size = stores.and_then(|s| s.gigabytes).map(|g| format!(" with {g} GB")).unwrap_or_default();
        let text = format!(
            "The checklist counts {}{size} on users' machines; no server has what is in them.",
            counted(u64::from(count), "mail file", "mail files")
        );
        found.push(Finding::of_domain(Code::ClientStoresPresent, text));
    }
    let devices = checklist.devices.clone().unwrap_or_default();
    let removed = devices.pop_removes_after_days.filter(|days| *days > 0);
    if devices.pop_leaves_copy == Some(false) || removed.is_some() {
        let when = removed.map_or("at once".to_owned(), |days| format!("after {days} days"));
        let text = format!(
            "The checklist says that mail programs take mail from the POP3 server and remove it {when}."
        );
        found.push(Finding::of_domain(Code::PopRemovesMail, text));
    }
}

fn beside(found: &mut Vec<Finding>, checklist: &Checklist) {
    let mut add = |code, text: String| found.push(Finding::of_domain(code, text));
    let other = checklist.other_data.clone().unwrap_or_default();
    let used = [
        (other.calendars, "calendars"),
        (other.contacts, "address books"),
        (other.tasks, "tasks"),
        (other.rules, "rules"),
        (other.delegates, "delegates"),
    ];
    let used: Vec<&str> = used.iter().filter(|(yes, _)| *yes == Some(true)).map(|(_, what)| *what).collect();
    if !used.is_empty() {
        add(
            Code::OtherDataNotCarried,
            format!("In use, and not carried by this release: {}.", used.join(", ")),
        );
    }
    let special = checklist.special_mailboxes.clone().unwrap_or_default();
    let archives = checklist.sizes.as_ref().is_some_and(|sizes| sizes.archives == Some(true));
    if special.public_folders.is_some_and(|n| n > 0) || archives {
        let what = if archives { "archive mailboxes" } else { "public folders" };
        add(
            Code::SpecialMailboxesNotCarried,
            format!("The checklist names {what}, which neither IMAP nor POP3 shows."),
        );
    }
    if let Some(held) = special.legal_hold.filter(|n| *n > 0) {
        let held = counted(u64::from(held), "mailbox is", "mailboxes are");
        add(Code::LegalHold, format!("{held} to be kept unchanged for the law."));
    }
    let retention = checklist.retention.clone().unwrap_or_default();
    if let Some(policies) = retention.policies.filter(|p| !p.is_empty() && retention.paused != Some(true)) {
        add(Code::RetentionRuns, format!("Not paused: {}", printable(&policies)));
    }
    let flow = checklist.mail_flow.clone().unwrap_or_default();
    if flow.journaling == Some(true) {
        add(
            Code::JournalingRuns,
            "The checklist says that a copy of each message goes to a journal.".to_owned(),
        );
    }
    if let Some(senders) = flow.senders.filter(|senders| !senders.is_empty()) {
        add(Code::OldServerSenders, format!("They send by the old server: {}", printable(&senders)));
    }
}

fn destination(found: &mut Vec<Finding>, checklist: &Checklist) {
    let Some(answers) = &checklist.destination else { return };
    let lacking = [
        (answers.mailboxes_exist, "mailboxes do not exist yet"),
        (answers.domain_verified, "domains are not verified yet"),
        (answers.licensed, "licences are missing"),
    ];
    let lacking: Vec<&str> =
        lacking.iter().filter(|(yes, _)| *yes == Some(false)).map(|(_, what)| *what).collect();
    if !lacking.is_empty() {
        let text = format!("The checklist says of the destination: {}.", lacking.join(", "));
        found.push(Finding::of_domain(Code::DestinationNotReady, text));
    }
    if answers.holds_mail == Some(true) {
        let text = "The checklist says that mailboxes at the destination hold mail already.";
        found.push(Finding::of_domain(Code::DestinationHoldsMail, text));
    }
    if answers.multi_factor == Some(true) {
        let text = "The checklist says that logins at the destination want a second factor.";
        found.push(Finding::of_domain(Code::MultiFactorLogins, text));
    }
}

fn dates(found: &mut Vec<Finding>, checklist: &Checklist, now: Timestamp) {
    let planned = checklist.dates.iter().flat_map(|dates| {
        [
            ("the freeze", dates.freeze),
            ("the announcement", dates.announcement),
            ("the cutover", dates.cutover),
        ]
    });
    let planned = planned.filter_map(|(what, date)| Some((what.to_owned(), date?)));
    let deadlines = checklist.deadlines.iter().map(|deadline| (deadline.what.clone(), deadline.date));
    for (what, date) in planned.chain(deadlines) {
        let days = days_until(date, now);
        let (code, over) = match days {
            i32::MIN..0 => (Code::DeadlinePassed, ", which is over"),
            0..=NOTICE_DAYS => (Code::DeadlineNear, ""),
            _ => continue,
        };
        let text = format!("{}: {date}{over}.", printable(&what));
        found.push(Finding::about(code, printable(&what), text));
    }
}

fn time(
    found: &mut Vec<Finding>,
    spec: &MailMigrationSpec,
    checklist: &Checklist,
    observed: &Observed,
    now: Timestamp,
) {
    let cutover: Option<Date> = checklist.dates.as_ref().and_then(|dates| dates.cutover);
    let line =
        checklist.bandwidth.as_ref().and_then(|b| b.megabits_per_second).map(|m| u64::from(m) * 125_000);
    let speed = [line, spec.policy.limits.bytes_per_second].into_iter().flatten().min();
    let (Some(cutover), Some(speed)) = (cutover, speed.filter(|speed| *speed > 0)) else { return };
    let discovered = observed.domains.values().filter_map(|domain| domain.discovery.as_deref());
    let bytes: u64 =
        discovered.flat_map(|d| &d.mailboxes).filter_map(|m| m.size.as_ref()).map(|s| s.bytes).sum();
    let needed = bytes.div_ceil(speed).div_ceil(24 * 60 * 60);
    let left = u64::try_from(days_until(cutover, now)).unwrap_or(0);
    if bytes > 0 && needed > left {
        let text = format!(
            "{} GB at {speed} bytes a second take {}, which are more than are left until the cutover on {cutover}.",
            bytes.div_ceil(GIGABYTE),
            counted(needed, "day", "days")
        );
        found.push(Finding::of_domain(Code::TimeTooShort, text));
    }
}
