//! Findings for one domain and its mailboxes.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{EWS_ENDS, GIGABYTE, MEGABYTE, SMTP_PASSWORDS_END, day, days_until, provider};
use crate::api::MailMigrationSpec;
use crate::api::domain::DomainSpec;
use crate::model::endpoint::Endpoint;
use crate::model::evidence::{Evidence, Grade, MailboxDiscovery, Outcome, Signal};
use crate::model::failure::Class;
use crate::model::finding::{Code, Finding};
use crate::model::label::Labels;
use crate::model::preset::by_imap_host;
use crate::model::protocol::Protocol;
use crate::model::provider::Kind;
use crate::model::record::MailboxRecord;
use crate::model::text::{counted, printable};
use crate::plan::checklist::answers_for;
use crate::plan::mailboxes::PlannedMailbox;
use crate::plan::observed::{Discovered, DomainObserved, Observed};
use crate::plan::unmatched;

/// A mailbox that takes days by itself and that some destinations do not take whole.
const LARGE: u64 = 50 * GIGABYTE;
/// More messages than some services carry in one mailbox.
const MANY: u64 = 500_000;

/// Returns the findings for a domain.
pub(in crate::plan) fn of_domain(
    spec: &MailMigrationSpec,
    named: &DomainSpec,
    seen: &DomainObserved,
    observed: &Observed,
    now: Timestamp,
) -> Vec<Finding> {
    let mut found = Vec::new();
    let Some(discovery) = seen.discovery.as_deref() else { return found };
    published(&mut found, named, discovery, now);
    servers(&mut found, spec, discovery);
    for mailbox in &discovery.mailboxes {
        refused(&mut found, mailbox);
        sizes(&mut found, spec, mailbox);
    }
    overrides(&mut found, named, seen, discovery);
    answered(&mut found, spec, named);
    let nothing = MailboxRecord::default();
    let excluded = |planned: &PlannedMailbox| {
        let record = observed.mailboxes.get(&planned.source).map_or(&nothing, |mailbox| &mailbox.record);
        let size = seen.find(&planned.source).and_then(|found| found.size.as_ref());
        record.messages(observed.pass, size).excluded
    };
    let excluded: u64 = seen.planned().iter().map(excluded).sum();
    if excluded > 0 {
        let text = format!(
            "{} left out by the manifest's rules (spec.policy, spec.mapping.exclude).",
            counted(excluded, "message is", "messages are")
        );
        found.push(Finding::of_domain(Code::RulesLeaveMailOut, text));
    }
    found
}

/// The hosts that take the domain's mail in.
fn exchangers(discovery: &Discovered) -> Vec<&str> {
    let offered = |e: &&Evidence| e.signal == Signal::Mx && e.outcome == Outcome::Offered;
    let hosts = discovery.evidence.iter().filter(offered).filter_map(|e| e.statement.rsplit_once("→ "));
    hosts.map(|(_, host)| host.trim()).collect()
}

/// The hosts that mailboxes are read from.
fn read_from(discovery: &Discovered) -> BTreeSet<&str> {
    discovery.mailboxes.iter().filter_map(|m| m.endpoint.as_ref()).map(|e| e.host.as_str()).collect()
}

fn published(found: &mut Vec<Finding>, named: &DomainSpec, discovery: &Discovered, now: Timestamp) {
    let (takes, read) = (exchangers(discovery), read_from(discovery));
    let candidates = discovery.candidates.iter().map(|candidate| candidate.endpoint.host.as_str());
    let is = |wanted: Kind| move |host: &&str| provider(host) == Some(wanted);
    let all = || takes.iter().copied().chain(read.iter().copied()).chain(candidates.clone());
    if all().any(|host| is(Kind::Microsoft)(&host)) {
        let (ews, smtp) = (day(EWS_ENDS), day(SMTP_PASSWORDS_END));
        let ends = if days_until(ews, now) < 0 { "ended" } else { "ends" };
        let text = format!("{} uses Microsoft 365, where EWS {ends} for good on {ews}.", named.name);
        found.push(Finding::of_domain(Code::EwsEnds, text));
        let stops = if days_until(smtp, now) < 0 { "stopped" } else { "stops" };
        let text = format!(
            "{} uses Microsoft 365, which {stops} taking passwords from programs that send by default after {smtp}.",
            named.name
        );
        found.push(Finding::of_domain(Code::SendingPasswordsEnd, text));
    }
    for wanted in [Kind::Microsoft, Kind::Google] {
        let new = takes.iter().copied().find(|host| is(wanted)(host));
        if let (Some(new), Some(old)) = (new, read.iter().find(|host| !is(wanted)(host))) {
            let text = format!(
                "Mail for {} goes to {}, and the mailboxes are read from {}: some of the mail may be on either.",
                named.name,
                printable(new),
                printable(old)
            );
            found.push(Finding::of_domain(Code::DualHomed, text));
        }
    }
    if let Some(gateway) = takes.iter().copied().find(|host| is(Kind::Gateway)(host)) {
        let text = format!(
            "Mail for {} comes in by {}, which is a filter and no store.",
            named.name,
            printable(gateway)
        );
        found.push(Finding::about(Code::GatewayInFront, printable(gateway), text));
    }
    let null = |e: &Evidence| {
        e.signal == Signal::Mx && e.outcome == Outcome::NotOffered && e.statement.ends_with("takes no mail")
    };
    if discovery.evidence.iter().any(null) {
        let text = format!("The MX record of {} says that it takes no mail (RFC 7505).", named.name);
        found.push(Finding::of_domain(Code::DomainTakesNoMail, text));
    }
}

fn servers(found: &mut Vec<Finding>, spec: &MailMigrationSpec, discovery: &Discovered) {
    let mut readers: BTreeMap<&Endpoint, u64> = BTreeMap::new();
    for endpoint in discovery.mailboxes.iter().filter_map(|mailbox| mailbox.endpoint.as_ref()) {
        *readers.entry(endpoint).or_default() += 1;
    }
    for facts in &discovery.servers {
        let readers = readers.get(&facts.endpoint).copied().unwrap_or_default();
        if readers == 0 || facts.endpoint.protocol != Protocol::Imap {
            continue;
        }
        let address = facts.endpoint.address();
        // The capabilities after the login count; servers list fewer before it.
        let said = discovery.sessions.iter().find(|said| said.endpoint == facts.endpoint);
        let says = |word: &str| said.is_some_and(|said| said.capabilities.has(word));
        if said.is_some_and(|said| !said.capabilities.is_empty()) && !says("CONDSTORE") && !says("QRESYNC") {
            let text =
                format!("{address} does not say CONDSTORE, so each pass reads the flags of every message.");
            found.push(Finding::about(Code::NoChangeTracking, &address, text));
        }
        let is_gmail = said.is_none() && provider(&facts.endpoint.host) == Some(Kind::Google);
        if is_gmail || says("X-GM-EXT-1") {
            let labels = spec.mapping.as_ref().map(|mapping| mapping.labels).unwrap_or_default();
            let (code, fate) = match labels {
                Labels::Home => (Code::LabelsAreFolders, "a message is carried into one of its labels"),
                Labels::Keywords => (
                    Code::LabelsAreFolders,
                    "a message is carried into one of its labels, with the others as keywords",
                ),
                Labels::Copies => (Code::LabelsBecomeCopies, "a message is carried into each of its labels"),
            };
            let words = counted(readers, "mailbox is", "mailboxes are");
            let text = format!("{words} read from a server where each label is a folder: {fate}.");
            found.push(Finding::about(code, &address, text));
        }
    }
}

fn refused(found: &mut Vec<Finding>, mailbox: &MailboxDiscovery) {
    if mailbox.endpoint.is_some() {
        return;
    }
    let refusals = mailbox.attempts.iter().filter(|a| !a.by_token).filter(|a| {
        a.failure.as_ref().is_some_and(|f| matches!(f.class, Class::Credentials | Class::Refused))
    });
    for attempt in refusals {
        let host = printable(&attempt.endpoint.host);
        let (code, text) = match provider(&attempt.endpoint.host) {
            Some(Kind::Microsoft) => (
                Code::BasicAuthenticationRemoved,
                format!(
                    "{host} refused the password: Exchange Online takes none by IMAP or POP3 since October 2022."
                ),
            ),
            Some(Kind::Google) => (
                Code::AppPasswordNeeded,
                format!("{host} refused the password: Google takes app passwords and OAuth alone."),
            ),
            Some(Kind::Gateway | Kind::Hoster) | None => continue,
        };
        found.push(Finding::about(code, &mailbox.address, text));
        return;
    }
}

fn sizes(found: &mut Vec<Finding>, spec: &MailMigrationSpec, mailbox: &MailboxDiscovery) {
    let Some(size) = &mailbox.size else { return };
    let mut add = |code, text: String| found.push(Finding::about(code, &mailbox.address, text));
    let gigabytes = size.bytes.div_ceil(GIGABYTE);
    // A folder that could not be read is not empty.
    if size.messages + size.left_out.messages == 0 && size.unread_folders == 0 {
        add(Code::MailboxEmpty, "The mailbox holds no message.".to_owned());
    }
    if size.bytes > LARGE {
        add(Code::MailboxLarge, format!("The mailbox holds {gigabytes} GB."));
    }
    if size.messages > MANY {
        add(
            Code::TooManyMessages,
            format!("The mailbox holds {}.", counted(size.messages, "message", "messages")),
        );
    }
    let endpoint = mailbox.endpoint.as_ref().filter(|endpoint| endpoint.protocol == Protocol::Imap);
    let daily = endpoint.and_then(|endpoint| by_imap_host(&endpoint.host)?.imap_bytes_per_day);
    if let Some(daily) = daily.filter(|daily| size.bytes > *daily) {
        let days = size.bytes.div_ceil(daily);
        add(
            Code::DailyLimit,
            format!(
                "Gmail hands out 2,500 MB of a mailbox in a day by IMAP: {gigabytes} GB take {days} days at least."
            ),
        );
    }
    let limit = spec.checklist.as_ref().and_then(|c| c.destination.as_ref()?.message_limit_megabytes);
    if let Some(limit) = limit.map(u64::from).filter(|limit| size.largest > limit * MEGABYTE) {
        let largest = size.largest.div_ceil(MEGABYTE);
        add(
            Code::MessageOverLimit,
            format!("The largest message has {largest} MB, and the destination takes {limit} MB."),
        );
    }
}

fn overrides(found: &mut Vec<Finding>, named: &DomainSpec, seen: &DomainObserved, discovery: &Discovered) {
    if matches!(seen.mailboxes, Some(Ok(_))) {
        found.extend(unmatched::overrides(named, seen.planned()));
    }
    let imap =
        discovery.candidates.iter().any(|c| c.endpoint.protocol == Protocol::Imap && c.grade <= Grade::B);
    for mailbox in discovery.mailboxes.iter().filter(|m| m.overridden && imap) {
        if mailbox.protocol() == Some(Protocol::Pop3) {
            let text =
                "It is read by POP3 because an override says so, although the domain has an IMAP server.";
            found.push(Finding::about(Code::OverrideLosesData, &mailbox.address, text));
        }
    }
}

fn answered(found: &mut Vec<Finding>, spec: &MailMigrationSpec, named: &DomainSpec) {
    let Some(answers) = answers_for(spec, &named.name) else { return };
    if answers.multi_factor == Some(true) {
        let text = format!("The checklist says that logins of {} want a second factor.", named.name);
        found.push(Finding::of_domain(Code::MultiFactorLogins, text));
    }
    if answers.address_allow_list == Some(true) {
        let text =
            format!("The checklist says that the servers of {} let listed addresses in alone.", named.name);
        found.push(Finding::of_domain(Code::AddressAllowList, text));
    }
}
