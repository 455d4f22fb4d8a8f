//! Whether IMAP and POP3 show one store: of one mailbox that is read by IMAP, both list the Inbox, and sizes and names are
//! laid beside each other. Then whatever was fetched by POP3 is in the IMAP Inbox too.
//!
//! A login by POP3 takes `\Recent` off messages even where none is fetched, and nothing may change at the source: an Inbox
//! that has such messages is left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

use super::collect::{Ranked, to_try};
use super::signals::{Asking, Heard};
use super::tried::Tried;
use super::{Chosen, LoginGuard, MailboxRequest};
use crate::auth::credentials::Login;
use crate::drivers::registry::{Way, driver};
use crate::model::endpoint::Endpoint;
use crate::model::evidence::{Grade, Outcome, Signal};
use crate::model::failure::{Class, Failure, Result};
use crate::model::protocol::Protocol;

/// The most mailboxes that are looked at for an Inbox that can be compared.
const MAILBOXES_MAX: usize = 3;
/// The most messages of a mailbox that is compared.
const MESSAGES_MAX: u64 = 20_000;

/// Compares one mailbox, where there is one that both protocols may know.
pub(super) async fn ask(
    asking: Asking<'_>,
    ranked: &[Ranked],
    guard: &dyn LoginGuard,
    tried: &[Tried],
) -> Heard {
    let mut heard = Heard::default();
    let by_pop3 = Chosen { protocol: Protocol::Pop3, endpoint: None, reason: None };
    let Some(pop3) = to_try(ranked, Some(&by_pop3)).first().map(|one| &one.endpoint) else { return heard };
    let fitting = asking.request.mailboxes.iter().zip(tried).filter_map(|(mailbox, one)| fit(mailbox, one));
    for (login, imap) in fitting.take(MAILBOXES_MAX) {
        // It said so today, and would only say it again.
        if guard.refused_by(&login, &[pop3]).await.contains(&true) {
            continue;
        }
        let Some(Ok(Some(here))) = guarded(guard, imap, &login, list(asking, imap, &login)).await else {
            continue;
        };
        if here.is_empty() {
            continue;
        }
        let Some(there) = guarded(guard, pop3, &login, list(asking, pop3, &login)).await else {
            continue;
        };
        let at = asking.clock.now();
        let places = format!("IMAP at {} and POP3 at {}", imap.address(), pop3.address());
        match there.map(Option::unwrap_or_default) {
            Ok(there) => {
                let statement = format!("{places} {}", compare(&here, &there));
                heard.note(Signal::Pop3, Grade::A, at, Outcome::Offered, statement);
                if let (Some(last), Some((name, _))) = (heard.evidence.last_mut(), there.first()) {
                    last.excerpt = Some(format!("UIDL {name}"));
                }
            }
            Err(failure) => {
                heard.fail(Signal::Pop3, Grade::A, at, &format!("{places} cannot be compared"), failure);
            }
        }
        break;
    }
    heard
}

/// The login of a mailbox and the server that it is read from, if POP3 may be asked about it.
fn fit<'a>(mailbox: &'a MailboxRequest, one: &'a Tried) -> Option<(Login, &'a Endpoint)> {
    let (login, read) = (mailbox.login.as_ref()?, one.read.as_ref()?);
    let login = match (&mailbox.name, &read.name) {
        (Some(from), Some(to)) => login.with_name(from, to)?,
        _ => login.clone(),
    };
    let by_imap_alone = one.attempts.iter().all(|attempt| attempt.endpoint.protocol == Protocol::Imap);
    let fits = mailbox.chosen.is_none()
        && by_imap_alone
        && (1..=MESSAGES_MAX).contains(&(read.size.messages + read.size.left_out.messages));
    fits.then_some((login, &read.endpoint))
}

/// An attempt that the guard knows of; `None` when it does not allow one.
async fn guarded<T>(
    guard: &dyn LoginGuard,
    endpoint: &Endpoint,
    login: &Login,
    attempt: impl Future<Output = Result<T>>,
) -> Option<Result<T>> {
    if !guard.may_try(login).await.is_ok_and(|may| may) {
        return None;
    }
    let answer = attempt.await;
    match &answer {
        Ok(_) => guard.accepted(login, endpoint).await,
        Err(Failure { class: Class::Credentials, .. }) => guard.refused(login, endpoint).await,
        Err(_) => guard.unanswered(login).await,
    }
    Some(answer)
}

/// Names and sizes of the messages in the Inbox; `None` when messages in it are `\Recent`.
async fn list(asking: Asking<'_>, endpoint: &Endpoint, login: &Login) -> Result<Option<Vec<(String, u64)>>> {
    let way = Way { network: asking.network, endpoint, trust: &asking.request.trust };
    let mut session = driver(endpoint.protocol).greet(way).await?.login(login).await?;
    let listed = session.list_inbox().await;
    session.close().await;
    listed
}

/// The relation of the two lists. Their orders may differ: not everybody lists a maildrop by UIDs.
fn compare(imap: &[(String, u64)], pop3: &[(String, u64)]) -> String {
    let mut sizes: BTreeMap<u64, usize> = BTreeMap::new();
    for (_, size) in imap {
        *sizes.entry(*size).or_default() += 1;
    }
    let mut take = |size| sizes.get_mut(size).filter(|left| **left > 0).map(|left| *left -= 1).is_some();
    let alike = pop3.iter().filter(|(_, size)| take(size)).count();
    if alike < imap.len().max(pop3.len()) {
        return format!(
            "show different Inboxes of one mailbox: {} and {} messages, of which {alike} agree in size",
            imap.len(),
            pop3.len()
        );
    }
    let uids = imap.iter().filter_map(|(uid, size)| Some((uid.parse().ok()?, *size)));
    let known: BTreeSet<(u32, u64)> = uids.collect();
    let holds = |(name, size): &(String, u64)| numbers(name).any(|number| known.contains(&(number, *size)));
    let names = if pop3.iter().all(holds) { ", and the UIDLs hold the UIDs" } else { "" };
    format!("show one Inbox of one mailbox: all {alike} messages agree in size{names}")
}

/// The parts of a UIDL that may be a UID: the numbers in it (Cyrus), or each half of it in hexadecimal (Dovecot). Courier
/// counts on its own for POP3.
fn numbers(name: &str) -> impl Iterator<Item = u32> {
    let in_decimal = name.split(|c: char| !c.is_ascii_digit()).filter_map(|run| run.parse().ok());
    let halves = [name.get(..8), name.get(8..)].into_iter().flatten().filter(|_| name.len() == 16);
    in_decimal.chain(halves.filter_map(|half| u32::from_str_radix(half, 16).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_real_servers_hold_their_uids() {
        for (name, uid, expected) in [
            ("000000016b045b95", 1, true),
            ("6b045b950000002a", 42, true),
            ("UID1-1795447707", 1, true),
            ("1795447707.12", 12, true),
            ("1795447707.12", 2, false),
            ("0000000a6b045b95", 1, false),
            ("GmailId15f0c5a4e2", 6, false),
            ("", 1, false),
            ("\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}", 1, false),
        ] {
            assert_eq!(numbers(name).any(|number| number == uid), expected, "{name}");
        }
    }

    #[test]
    fn one_store_is_told_from_two() {
        let listed =
            |list: &[(&str, u64)]| -> Vec<_> { list.iter().map(|(n, s)| ((*n).to_owned(), *s)).collect() };
        let imap = listed(&[("3", 100), ("7", 250)]);
        for (there, expected) in [
            (
                listed(&[("1.3", 100), ("1.7", 250)]),
                "show one Inbox of one mailbox: all 2 messages agree in size, and the UIDLs hold the UIDs",
            ),
            (
                listed(&[("1.7", 250), ("1.3", 100)]),
                "show one Inbox of one mailbox: all 2 messages agree in size, and the UIDLs hold the UIDs",
            ),
            (
                listed(&[("1.3", 250), ("1.7", 100)]),
                "show one Inbox of one mailbox: all 2 messages agree in size",
            ),
            (
                listed(&[("1.3", 100), ("1.7", 100)]),
                "show different Inboxes of one mailbox: 2 and 2 messages, of which 1 agree in size",
            ),
            (
                listed(&[("x", 100), ("y", 250)]),
                "show one Inbox of one mailbox: all 2 messages agree in size",
            ),
            (
                listed(&[("1.3", 100), ("1.7", 251)]),
                "show different Inboxes of one mailbox: 2 and 2 messages, of which 1 agree in size",
            ),
            (
                listed(&[("1.3", 100)]),
                "show different Inboxes of one mailbox: 2 and 1 messages, of which 1 agree in size",
            ),
            (
                listed(&[]),
                "show different Inboxes of one mailbox: 2 and 0 messages, of which 0 agree in size",
            ),
        ] {
            assert_eq!(compare(&imap, &there), expected);
        }
    }
}
