//! Why a mailbox, or the whole domain, cannot be read: the most telling of everything that went wrong. Pure.

use std::fmt::Write;

use super::collect::{Ranked, count};
use super::logins::is_refused;
use super::signals::Heard;
use super::tried::{End, Tried};
use super::trust::Approval;
use super::{MailboxRequest, Request};
use crate::model::address::Domain;
use crate::model::evidence::{MailboxDiscovery, Outcome, Signal};
use crate::model::failure::{Class, Failure};
use crate::model::finding::Code;
use crate::model::protocol::Protocol;
use crate::model::text::printable;

/// The outcome of each mailbox, in the order of the request.
pub(super) fn mailboxes(
    request: &Request,
    ranked: &[Ranked],
    heard: &Heard,
    tried: &[Tried],
) -> Vec<MailboxDiscovery> {
    (request.mailboxes.iter().zip(tried))
        .map(|(mailbox, one)| MailboxDiscovery {
            address: mailbox.address.clone(),
            endpoint: one.read.as_ref().map(|read| read.endpoint.clone()),
            overridden: mailbox.chosen.is_some(),
            attempts: one.attempts.clone(),
            logins: None,
            login_name: one.read.as_ref().and_then(|read| read.name.clone()),
            size: one.read.as_ref().map(|read| read.size.clone()),
            failure: why_unread(request, mailbox, ranked, heard, one, tried)
                .map(|failure| failure.at(mailbox.address.to_string())),
        })
        .collect()
}

fn why_unread(
    request: &Request,
    mailbox: &MailboxRequest,
    ranked: &[Ranked],
    heard: &Heard,
    one: &Tried,
    all: &[Tried],
) -> Option<Failure> {
    if one.read.is_some() {
        return None;
    }
    let last = one.attempts.iter().rev().find_map(|attempt| attempt.failure.clone());
    Some(match one.end {
        End::NoLogin => Failure::configuration("the credentials hold no password for this mailbox")
            .hint("add it to the Secret of the domain, or take the mailbox out of the list"),
        End::Stopped => Failure::new(
            Class::Credentials,
            "was not tried: the password that all mailboxes share was refused for the first of them",
        )
        .hint("correct the master user, its password or its separator in the Secret"),
        End::NoServer => match &mailbox.chosen {
            Some(chosen) => no_server(&request.domain, ranked, heard, |candidate| match &chosen.endpoint {
                Some(endpoint) => candidate.endpoint == *endpoint,
                None => candidate.endpoint.protocol == chosen.protocol,
            }),
            None => no_server(&request.domain, ranked, heard, |_| true),
        },
        End::Spent => last?,
        End::Done if is_unknown(request, one, all) => {
            let refusal = last?;
            Failure::new(
                Class::Credentials,
                "the server does not know this mailbox: the password that opens the others is refused for it",
            )
            .hint(Code::MailboxUnknown.remedy())
            .caused_by(&refusal)
        }
        End::Done if is_refused(one) => {
            let refusals = one.attempts.iter().filter_map(|attempt| attempt.failure.clone());
            refusals.into_iter().rfind(|failure| failure.class == Class::Credentials)?
        }
        // A failure that is not a refusal may pass, so it is not called a wrong password.
        End::Done => one
            .attempts
            .iter()
            .filter_map(|attempt| attempt.failure.clone())
            .filter(|failure| failure.class != Class::Credentials)
            .reduce(|worst, next| if worst.class.worse(next.class) == worst.class { worst } else { next })
            .or(last)?,
    })
}

/// Whether a refused mailbox is one that the server does not know: the same password opens others at the same server.
pub(super) fn is_unknown(request: &Request, one: &Tried, all: &[Tried]) -> bool {
    let opens_others = |attempt: &crate::model::evidence::Attempt| {
        all.iter().any(|t| t.read.as_ref().is_some_and(|read| read.endpoint.host == attempt.endpoint.host))
    };
    request.shared_credentials && is_refused(one) && one.attempts.iter().any(opens_others)
}

/// Why nobody can be logged in to at those of the servers that `fits` picks.
pub(super) fn no_server(
    domain: &Domain,
    ranked: &[Ranked],
    heard: &Heard,
    fits: impl Fn(&Ranked) -> bool,
) -> Failure {
    let telling = |class: Class| match class {
        Class::Tls => 0,
        Class::Refused => 1,
        Class::Protocol => 2,
        Class::Throttled => 3,
        _ => 4,
    };
    let relevant: Vec<&Ranked> = relevant(ranked).into_iter().filter(|candidate| fits(candidate)).collect();
    let failures = relevant.iter().filter_map(|candidate| why_unusable(candidate));
    if let Some(failure) = failures.min_by_key(|failure| telling(failure.class)) {
        return failure;
    }
    let missing = || {
        Failure::new(Class::Unreachable, format!("the name {domain} does not exist in the DNS"))
            .hint("check the spelling of the domain, or name its server in spec.domains[].servers")
    };
    if heard.domain_missing {
        return missing();
    }
    let lookup = heard.evidence.iter().find_map(|evidence| match (&evidence.outcome, evidence.signal) {
        (Outcome::Failed(failure), Signal::Mx | Signal::Srv) => Some((failure, &evidence.statement)),
        _ => None,
    });
    if let Some((failure, statement)) = lookup {
        return Failure { what: statement.clone(), ..failure.clone() };
    }
    Failure::new(Class::Unreachable, nothing_found(domain, heard)).hint(Code::NoServerFound.remedy())
}

/// One sentence on a domain that publishes nothing that answers.
pub(super) fn nothing_found(domain: &Domain, heard: &Heard) -> String {
    let mut text =
        format!("no mail server of {domain} was found by service records, autoconfig or the usual names");
    for protocol in Protocol::OF_SERVERS.iter().filter(|protocol| heard.denied.contains(protocol)) {
        let _ = write!(text, "; {protocol} is said not to be offered");
    }
    if let Some(rest) = domain.as_str().strip_prefix("www.").filter(|rest| rest.contains('.')) {
        let _ = write!(text, "; mail domains seldom begin with www.: {rest} may be meant");
    }
    if let Some(host) = heard.exchangers.first() {
        let _ = write!(text, "; its mail is taken in by {}", printable(host));
    }
    text
}

/// The candidates that count when nothing works: those that somebody named; guesses only where there is nothing else, and
/// of these those that said something.
pub(super) fn relevant(ranked: &[Ranked]) -> Vec<&Ranked> {
    if ranked.iter().any(Ranked::is_published) {
        return ranked.iter().filter(|candidate| candidate.is_published()).collect();
    }
    let spoke = |candidate: &&Ranked| match &candidate.answer {
        Ok(_) => true,
        Err(failure) => failure.class != Class::Unreachable,
    };
    ranked.iter().filter(spoke).collect()
}

fn why_unusable(candidate: &Ranked) -> Option<Failure> {
    match (&candidate.answer, candidate.approval) {
        (Err(failure), _) => Some(failure.clone()),
        (Ok(_), Approval::Foreign) => Some(
            Failure::new(Class::Refused, "is outside the domain, so no password was sent to it")
                .hint(Code::HostNeedsApproval.remedy())
                .at(candidate.endpoint.address()),
        ),
        (Ok(_), Approval::Plain) => Some(
            Failure::new(Class::Refused, "offers no encryption there, so no password was sent to it")
                .hint("use TLS, or name it with tls: None in spec.domains[].servers")
                .at(candidate.endpoint.address()),
        ),
        (Ok(_), _) => None,
    }
}

/// Why nothing of the domain can be read; `None` as soon as one mailbox can.
pub(super) fn of_domain(
    request: &Request,
    ranked: &[Ranked],
    heard: &Heard,
    mailboxes: &[MailboxDiscovery],
) -> Option<Failure> {
    if mailboxes.iter().any(|mailbox| mailbox.endpoint.is_some()) {
        return None;
    }
    let place = request.domain.to_string();
    if mailboxes.is_empty() {
        let usable = ranked.iter().any(Ranked::is_usable);
        return (!usable).then(|| no_server(&request.domain, ranked, heard, |_| true).at(place));
    }
    let worst = (mailboxes.iter().filter_map(|mailbox| mailbox.failure.clone()))
        .reduce(|worst, next| if worst.class.worse(next.class) == worst.class { worst } else { next })?;
    if mailboxes.iter().all(|mailbox| mailbox.attempts.is_empty()) {
        // The servers are the reason, not the mailbox that happens to be the first.
        let mut failure = worst;
        failure.place.retain(|part| !part.contains('@'));
        return Some(failure.at(place));
    }
    let mut failure = worst.at(place);
    if mailboxes.len() > 1 {
        failure.what = format!(
            "{} (none of {} can be read)",
            failure.what,
            count(mailboxes.len(), "mailbox", "mailboxes")
        );
    }
    Some(failure)
}
