//! The findings that a person should know about a domain, drawn from everything that was seen. Pure.
//!
//! A server that nobody needs holds nothing up: findings about servers that do not work appear only while a mailbox is
//! still without one. The ranked candidates show the rest.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::Request;
use super::collect::{Ranked, count};
use super::logins::is_refused;
use super::lookalike::looks_like;
use super::signals::Heard;
use super::tried::{End, Tried};
use super::trust::Approval;
use super::verdict::{is_unknown, nothing_found, relevant};
use crate::model::evidence::{Grade, ServerFacts, Signal};
use crate::model::failure::{Class, Failure, FailureCode};
use crate::model::finding::{Code, Finding};
use crate::model::protocol::Protocol;
use crate::model::service::Service;
use crate::model::text::printable;

/// How long before its end a certificate is worth a word.
const CERTIFICATE_NOTICE: SignedDuration = SignedDuration::from_hours(30 * 24);

/// All findings of a domain, by subject in the order in which they were seen.
pub(super) fn draw(
    request: &Request,
    heard: &Heard,
    ranked: &[Ranked],
    tried: &[Tried],
    now: Timestamp,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let lacks_server = |one: &Tried| {
        one.read.is_none() && matches!(one.end, End::NoServer | End::Done) && !is_unknown(request, one, tried)
    };
    let troubled = tried.iter().any(lacks_server) || !ranked.iter().any(Ranked::is_usable);
    if troubled {
        servers(&mut findings, request, heard, ranked);
    }
    published(&mut findings, heard);
    unanswered(&mut findings, request, heard);
    deceiving(&mut findings, request, heard);
    others(&mut findings, heard);
    guessed(&mut findings, ranked, tried);
    used(&mut findings, ranked, tried, now);
    mailboxes(&mut findings, request, tried);
    findings
}

fn sentence(failure: &Failure) -> String {
    format!("{}.", failure.sentence().trim_end_matches('.'))
}

/// The finding about a port that speaks otherwise than it was said to.
fn spoken_otherwise(failure: &Failure) -> Option<Code> {
    match failure.code? {
        FailureCode::SpeaksTls | FailureCode::SpeaksInClear => Some(Code::ChannelSecuredOtherwise),
        FailureCode::SpeaksAnother => Some(Code::OtherProtocolSpoken),
        _ => None,
    }
}

fn servers(findings: &mut Vec<Finding>, request: &Request, heard: &Heard, ranked: &[Ranked]) {
    let relevant = relevant(ranked);
    let (mut silent, mut unused) = (Vec::new(), Vec::new());
    let mut foreign = BTreeSet::new();
    for candidate in &relevant {
        let address = candidate.endpoint.address();
        match &candidate.answer {
            Err(failure) if candidate.blocked => {
                findings.push(Finding::about(Code::AddressNotAllowed, address, sentence(failure)));
            }
            Err(failure) if spoken_otherwise(failure).is_some() => {
                let hint = failure.hint.as_deref().map(|hint| format!("; {hint}")).unwrap_or_default();
                let text = format!("{}{hint}.", failure.sentence().trim_end_matches('.'));
                findings.extend(spoken_otherwise(failure).map(|code| Finding::about(code, address, text)));
            }
            Err(failure) if failure.class == Class::Tls => {
                let text = format!("{} No password was sent.", sentence(failure));
                findings.push(Finding::about(Code::CertificateRejected, address, text));
            }
            Err(failure) => {
                silent.push(failure.sentence());
                unused.extend(candidate.signals.contains(&Signal::Manifest).then_some((address, failure)));
            }
            Ok(_) if candidate.approval == Approval::Foreign => {
                let host = &candidate.endpoint.host;
                if foreign.insert(host) {
                    let said: Vec<_> =
                        candidate.signals.iter().map(|signal| named_by(*signal, candidate)).collect();
                    let text = format!(
                        "{} is outside {} and was named by {} alone, so no password was sent to it.",
                        printable(host),
                        request.domain,
                        said.join(" and ")
                    );
                    findings.push(Finding::about(Code::HostNeedsApproval, host, text));
                }
            }
            Ok(_) => {}
        }
    }
    if !silent.is_empty() && relevant.iter().all(|candidate| candidate.answer.is_err()) {
        let (n, shown) = (silent.len(), silent[..silent.len().min(5)].join("; "));
        let text = format!("{} could not be talked to: {shown}.", count(n, "server", "servers"));
        findings.push(Finding::of_domain(Code::ServerUnreachable, text));
    } else {
        findings.extend(unused.into_iter().map(|(address, failure)| {
            let text = format!(
                "spec.domains[].servers names {address}, and another server is used: {}",
                sentence(failure)
            );
            Finding::about(Code::NamedServerUnused, address, text)
        }));
    }
    // Where name servers did not answer, nobody knows what is published: that is told instead.
    if relevant.is_empty() && (heard.domain_missing || heard.unanswered_names().next().is_none()) {
        let text = if heard.domain_missing {
            format!("The name {} does not exist in the DNS.", request.domain)
        } else {
            let text = nothing_found(&request.domain, heard);
            format!("N{}.", text.trim_start_matches('n'))
        };
        findings.push(Finding::of_domain(Code::NoServerFound, text));
    }
}

/// The signal that named a candidate, with what a reader should know of it.
fn named_by(signal: Signal, candidate: &Ranked) -> String {
    // Over HTTPS it would be published at C.
    let clear = signal == Signal::Autoconfig && candidate.published == Grade::D;
    format!("{signal}{}", if clear { " over plain HTTP" } else { "" })
}

/// Places that lead somewhere else than they seem to.
fn deceiving(findings: &mut Vec<Finding>, request: &Request, heard: &Heard) {
    let mut seen = BTreeSet::new();
    for published in &heard.published {
        let host = &published.endpoint.host;
        if published.signal != Signal::Manifest
            && let Some(shown) = looks_like(host, &request.domain)
            && seen.insert(host)
        {
            let text = format!(
                "{} names {}, which reads as {} and is not inside {}.",
                published.signal,
                printable(host),
                printable(&shown),
                request.domain
            );
            findings.push(Finding::about(Code::LookAlikeHost, printable(host), text));
        }
    }
    let mut seen = BTreeSet::new();
    for (asked, led) in &heard.refused {
        if seen.insert(asked) {
            let text = format!("{asked} redirects to {led}, an address inside a network.");
            findings.push(Finding::about(Code::RedirectInside, asked, text));
        }
    }
}

/// Services that answered as what they are.
fn others(findings: &mut Vec<Finding>, heard: &Heard) {
    let answered = heard.services.iter().filter(|facts| facts.grade <= Grade::B);
    let mut places: BTreeMap<Service, &str> = BTreeMap::new();
    for facts in answered {
        places.entry(facts.service).or_insert(&facts.place);
    }
    for (service, place) in places {
        let text = format!("{service} is offered at {place}; what is in it is not carried.");
        findings.push(Finding::about(Code::OtherServicesOffered, service, text));
    }
}

fn published(findings: &mut Vec<Finding>, heard: &Heard) {
    for protocol in &heard.denied {
        let text = format!("The domain's service records say that {protocol} is not offered.");
        findings.push(Finding::about(Code::ProtocolNotOffered, protocol, text));
    }
    for protocol in Protocol::OF_SERVERS {
        let hosts = |signal: Signal| -> BTreeSet<&str> {
            (heard.published.iter())
                .filter(|p| p.signal == signal && p.endpoint.protocol == protocol)
                .map(|p| p.endpoint.host.as_str())
                .collect()
        };
        let srv = hosts(Signal::Srv);
        let denied = heard.denied.contains(&protocol);
        let others = [
            (Signal::Autoconfig, "the autoconfig document names"),
            (Signal::Autodiscover, "Autodiscover names"),
        ];
        let contradicts = |other: &BTreeSet<&str>| {
            !other.is_empty() && (denied || (!srv.is_empty() && srv.is_disjoint(other)))
        };
        let mut other = others.into_iter().map(|(signal, says)| (hosts(signal), says));
        let Some((other, says)) = other.find(|(hosts, _)| contradicts(hosts)) else { continue };
        let list = |hosts: &BTreeSet<&str>| printable(&hosts.iter().copied().collect::<Vec<_>>().join(", "));
        let by_srv = if denied { "none".to_owned() } else { list(&srv) };
        let text = format!("For {protocol}, service records name {by_srv} and {says} {}.", list(&other));
        findings.push(Finding::about(Code::ConflictingConfiguration, protocol, text));
    }
}

/// Questions that no name server answered: the published facts behind them are not known. Where the manifest names servers, nobody needs it.
fn unanswered(findings: &mut Vec<Finding>, request: &Request, heard: &Heard) {
    let names: Vec<&str> = heard.unanswered_names().map(|evidence| evidence.statement.as_str()).collect();
    if names.is_empty() || !request.servers.is_empty() {
        return;
    }
    let more = if names.len() > 3 { format!("; and {} more", names.len() - 3) } else { String::new() };
    let text = format!(
        "It is not known what {} publishes: {}{more}.",
        request.domain,
        names[..names.len().min(3)].join("; ")
    );
    findings.push(Finding::of_domain(Code::NamesUnanswered, text));
}

/// Where nothing is published and usual names lead to several machines, the mail may be on another one than the first.
fn guessed(findings: &mut Vec<Finding>, ranked: &[Ranked], tried: &[Tried]) {
    let is_read = |one: &&Ranked| {
        tried.iter().any(|tried| tried.read.as_ref().is_some_and(|read| read.endpoint == one.endpoint))
    };
    let usable = || ranked.iter().filter(|one| one.is_guess() && one.is_usable());
    for chosen in usable().filter(is_read) {
        let elsewhere = |one: &&Ranked| {
            one.endpoint.protocol == chosen.endpoint.protocol
                && one.endpoint.host != chosen.endpoint.host
                && !one.addresses.iter().any(|address| chosen.addresses.contains(address))
        };
        let others: BTreeSet<&str> =
            usable().filter(elsewhere).map(|one| one.endpoint.host.as_str()).collect();
        if others.is_empty() {
            continue;
        }
        let text = format!(
            "Nothing is published, and {} is read because of its name; {} {} {} as well and may hold other mail.",
            printable(&chosen.endpoint.host),
            printable(&others.iter().copied().collect::<Vec<_>>().join(", ")),
            if others.len() == 1 { "answers" } else { "answer" },
            chosen.endpoint.protocol,
        );
        findings.push(Finding::about(Code::SeveralServersAnswer, chosen.endpoint.address(), text));
    }
}

fn used(findings: &mut Vec<Finding>, ranked: &[Ranked], tried: &[Tried], now: Timestamp) {
    for candidate in ranked {
        let endpoint = &candidate.endpoint;
        let reads: Vec<_> = tried
            .iter()
            .filter_map(|one| one.read.as_ref())
            .filter(|read| read.endpoint == *endpoint)
            .collect();
        if reads.is_empty() {
            continue;
        }
        let address = endpoint.address();
        if let Ok(facts) = &candidate.answer {
            let reading = format!("{} read by", count(reads.len(), "mailbox is", "mailboxes are"));
            findings.extend(facts.endpoint.find_in_the_clear(&reading));
            findings.extend(find_certificate_ending(facts, now));
        }
        if reads.iter().any(|read| !read.unique_ids) {
            let text =
                format!("{address} refuses UIDL, so messages cannot be told apart between two passes.");
            findings.push(Finding::about(Code::UidlMissing, &address, text));
        }
    }
}

/// The finding about a certificate that ends soon.
pub fn find_certificate_ending(facts: &ServerFacts, now: Timestamp) -> Option<Finding> {
    let address = facts.endpoint.address();
    let end = facts.tls.as_ref().map(|tls| tls.not_after);
    let end = end.filter(|end| end.duration_since(now) <= CERTIFICATE_NOTICE)?;
    let text = format!("The certificate of {address} ends on {}.", end.strftime("%Y-%m-%d"));
    Some(Finding::about(Code::CertificateExpires, &address, text))
}

fn mailboxes(findings: &mut Vec<Finding>, request: &Request, tried: &[Tried]) {
    let by = |protocol| {
        let reads = tried.iter().filter_map(|one| one.read.as_ref());
        reads.filter(|read| read.endpoint.protocol == protocol).count()
    };
    let (imap, pop3) = (by(Protocol::Imap), by(Protocol::Pop3));
    if imap > 0 && pop3 > 0 {
        let text = format!(
            "{} IMAP and {} POP3 only.",
            count(imap, "mailbox speaks", "mailboxes speak"),
            count(pop3, "speaks", "speak")
        );
        findings.push(Finding::of_domain(Code::MixedProtocols, text));
    }
    for (mailbox, one) in request.mailboxes.iter().zip(tried) {
        if let Some(foreign) = one.read.as_ref().map(|read| read.size.foreign).filter(|foreign| *foreign > 0)
        {
            let seen = count(foreign as usize, "folder", "folders");
            let text = format!(
                "It sees {seen} of others or shared, which {} not carried with it.",
                if foreign == 1 { "is" } else { "are" }
            );
            findings.push(Finding::about(Code::SharedFoldersSeen, &mailbox.address, text));
        }
        if let Some(size) = one.read.as_ref().map(|read| &read.size).filter(|size| size.unread_folders > 0) {
            let why: Vec<String> = size.unread.iter().map(Failure::sentence).collect();
            let text = format!(
                "{} could not be read: {}.",
                count(size.unread_folders as usize, "folder", "folders"),
                why.join("; ").trim_end_matches('.')
            );
            findings.push(Finding::about(Code::FoldersUnreadable, &mailbox.address, text));
        }
        let mut add = |code, text: String| findings.push(Finding::about(code, &mailbox.address, text));
        match (&one.read, one.end) {
            (Some(read), _) if read.endpoint.protocol == Protocol::Pop3 => add(
                Code::PopMailboxesPresent,
                format!(
                    "{} of {} POP3 only: folders, sent mail and read marks are on no server.",
                    pop3,
                    count(tried.len(), "mailbox speaks", "mailboxes speak")
                ),
            ),
            (None, End::NoLogin) => {
                add(Code::CredentialsMissing, "The credentials hold no password for this mailbox.".to_owned());
            }
            (None, End::Spent) => {
                let text = "The password was refused twice within a day, so it is not tried again.";
                add(Code::CredentialsRejected, text.to_owned());
                add(Code::LoginAttemptsSpent, text.to_owned());
            }
            (None, End::Stopped) => add(
                Code::CredentialsRejected,
                "Not tried: the password that all mailboxes share was refused for the first of them.".to_owned(),
            ),
            (None, End::Done) if is_unknown(request, one, tried) => add(
                Code::MailboxUnknown,
                "The server does not know this mailbox: the password that opens the others is refused for it."
                    .to_owned(),
            ),
            (None, End::Done) if is_refused(one) => {
                let protocols: BTreeSet<Protocol> = one.attempts.iter().map(|a| a.endpoint.protocol).collect();
                let protocols: Vec<_> = protocols.iter().map(ToString::to_string).collect();
                let proof = if one.attempts.iter().all(|a| a.by_token) { "token" } else { "password" };
                add(
                    Code::CredentialsRejected,
                    format!("The server refused the {proof} by {}.", protocols.join(" and by ")),
                );
            }
            (Some(_), _) | (None, End::NoServer | End::Done) => {}
        }
    }
}
