//! What is asked at each mailbox of a Microsoft 365 tenant before anything is copied: whether the application is let in,
//! and whether the mail fits. Nothing is opened and nothing is written; a mailbox that cannot be asked is told of too.

use std::collections::{BTreeMap, HashMap};

use futures::stream::{self, StreamExt};

use super::workers::Tools;
use crate::mail::imap::probe::{Room, ask_room};
use crate::model::address::Address;
use crate::model::endpoint::Endpoint;
use crate::model::evidence::{DomainDiscovery, Evidence, Grade, MailboxSize, Outcome, Signal};
use crate::model::failure::{Class, Failure, FailureCode, Result};
use crate::model::finding::{Code, Finding};
use crate::model::powershell;
use crate::model::text::{counted, printable};
use crate::plan::mailboxes::PlannedMailbox;

/// Mailboxes that are asked at the same time.
const PARALLEL: usize = 4;
/// Mailboxes that one finding names.
const NAMED: usize = 5;
/// 10^6 bytes.
const MEGABYTE: u64 = 1_000_000;

/// What one mailbox said.
struct Asked<'a> {
    planned: &'a PlannedMailbox,
    /// What the application is called, once its Secret was read.
    client: Option<String>,
    said: Result<Room>,
}

/// Asks every mailbox at the destination that a domain's mail goes to, and puts what they say into what discovery saw.
pub(super) async fn look_ahead(tools: &Tools, mailboxes: &[PlannedMailbox], discovery: &mut DomainDiscovery) {
    let questions: Vec<_> = mailboxes.iter().map(|planned| ask(tools, planned)).collect();
    let asked: Vec<Asked<'_>> = stream::iter(questions).buffered(PARALLEL).collect().await;
    let endpoint = tools.spec().destination.endpoint();
    let open = asked.iter().filter(|asked| asked.said.is_ok()).count();
    let statement = format!(
        "{open} of {} at {} let the application in",
        counted(mailboxes.len() as u64, "mailbox", "mailboxes"),
        endpoint.address()
    );
    let first = asked.iter().find_map(|asked| asked.said.as_ref().err());
    let outcome = match first.filter(|_| open == 0) {
        Some(failure) => Outcome::Failed(failure.clone()),
        None => Outcome::Offered,
    };
    discovery.evidence.push(Evidence {
        signal: Signal::Imap,
        grade: if open > 0 { Grade::A } else { Grade::C },
        at: discovery.finished,
        endpoint: Some(endpoint.clone()),
        trusted: true,
        outcome,
        statement,
        excerpt: None,
    });
    let sizes: HashMap<&Address, &MailboxSize> =
        discovery.mailboxes.iter().filter_map(|seen| Some((&seen.address, seen.size.as_ref()?))).collect();
    let size_of = |mailbox: &Address| sizes.get(mailbox).copied().cloned();
    let found = draw(&endpoint, &asked, size_of);
    discovery.findings.extend(found);
}

async fn ask<'a>(tools: &Tools, planned: &'a PlannedMailbox) -> Asked<'a> {
    let (login, trust) = match tools.destination_access(planned) {
        Ok((login, trust, _)) => (login, trust),
        Err(failure) => return Asked { planned, client: None, said: Err(failure) },
    };
    let endpoint = tools.spec().destination.endpoint();
    let said = Box::pin(ask_room(&tools.network, &endpoint, &trust, &login)).await;
    Asked { planned, client: login.administrator, said }
}

fn draw(
    endpoint: &Endpoint,
    asked: &[Asked<'_>],
    size_of: impl Fn(&Address) -> Option<MailboxSize>,
) -> Vec<Finding> {
    let mut found = Vec::new();
    // What does not come from a mailbox is the same for many.
    let mut unasked: BTreeMap<String, Vec<&Address>> = BTreeMap::new();
    for Asked { planned, client, said } in asked {
        match said {
            Ok(room) => found.extend(fits(planned, room, size_of(&planned.source).as_ref())),
            Err(failure) if is_closed(failure) => found.push(closed(planned, client.as_deref(), failure)),
            Err(failure) => unasked.entry(failure.what.clone()).or_default().push(&planned.destination),
        }
    }
    for (what, mailboxes) in unasked {
        let named = mailboxes.iter().take(NAMED).map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let more = if mailboxes.len() > NAMED { " and more" } else { "" };
        let text = format!(
            "{} at {} could not be asked whether mail can be written to them ({named}{more}): {}.",
            counted(mailboxes.len() as u64, "mailbox", "mailboxes"),
            endpoint.address(),
            what.trim_end_matches('.')
        );
        found.push(Finding::about(Code::DestinationUnasked, endpoint.address(), text));
    }
    found
}

/// Whether it is the mailbox that is closed, and not the way to it or the token's giver.
fn is_closed(failure: &Failure) -> bool {
    matches!(failure.class, Class::Credentials | Class::Refused) && !failure.is(FailureCode::NoToken)
}

/// A mailbox that the application may not open, with the lines that open it.
fn closed(planned: &PlannedMailbox, client: Option<&str>, failure: &Failure) -> Finding {
    let mailbox = planned.destination.to_string();
    let lines = if failure.class == Class::Refused {
        format!("{}; {}", powershell::show_mailbox(&mailbox), powershell::allow_imap(&mailbox))
    } else {
        powershell::open_mailbox(&mailbox, client.unwrap_or("CLIENT-ID"))
    };
    let mailbox = printable(&mailbox);
    let text = format!("{mailbox} is not open to the application ({}). {lines}", failure.what);
    Finding::about(Code::DestinationMailboxClosed, &planned.source, text)
}

/// Whether the mail of the source fits.
fn fits(planned: &PlannedMailbox, room: &Room, size: Option<&MailboxSize>) -> Vec<Finding> {
    let mut found = Vec::new();
    let Some(size) = size else { return found };
    let address = planned.destination.to_string();
    let mailbox = printable(&address);
    if let Some(quota) = room.quota.filter(|quota| quota.limit.saturating_sub(quota.used) < size.bytes) {
        let wanted = (quota.used + size.bytes).div_ceil(1_000 * MEGABYTE) + 1;
        let text = format!(
            "{} MB are to go to {mailbox}, which has room for {} MB. {}",
            size.bytes.div_ceil(MEGABYTE),
            quota.limit.saturating_sub(quota.used) / MEGABYTE,
            powershell::raise_quota(&address, wanted)
        );
        found.push(Finding::about(Code::DestinationRoomShort, &planned.source, text));
    }
    if let Some(limit) = room.append_limit.filter(|limit| *limit < size.largest) {
        let text = format!(
            "The largest message has {} MB, and {mailbox} takes {} MB. {}",
            size.largest.div_ceil(MEGABYTE),
            limit / MEGABYTE,
            powershell::raise_message_size(&address)
        );
        found.push(Finding::about(Code::MessageOverLimit, &planned.source, text));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::evidence::Quota;
    use crate::model::protocol::{Protocol, Tls};

    fn planned() -> PlannedMailbox {
        PlannedMailbox {
            source: "anna@a.test".parse().unwrap(),
            destination: "anna@new.test".parse().unwrap(),
            login_name: "anna@a.test".into(),
            login_name_is_given: false,
            beside: Vec::new(),
        }
    }

    fn drawn(said: Result<Room>) -> Vec<(Code, String)> {
        let endpoint = Endpoint::new(Protocol::Imap, "outlook.office365.com", 993, Tls::Implicit);
        let planned = planned();
        let size = MailboxSize { bytes: 5_000_000_000, largest: 40_000_000, ..MailboxSize::default() };
        let asked = [Asked { planned: &planned, client: Some("app-1".into()), said }];
        let found = draw(&endpoint, &asked, |_| Some(size.clone()));
        found.into_iter().map(|finding| (finding.code, finding.message)).collect()
    }

    #[test]
    fn each_trouble_is_told_with_the_line_that_ends_it() {
        let room = |quota, append_limit| Ok(Room { quota, append_limit });
        let quota = |limit| Some(Quota { used: 1_000_000_000, limit });
        let refused = |class, what: &str| Err(Failure::new(class, what));
        let table = [
            (
                refused(Class::Credentials, "refused AUTHENTICATE: AUTHENTICATE failed."),
                Code::DestinationMailboxClosed,
                "Add-MailboxPermission -Identity anna@new.test -User app-1 -AccessRights FullAccess",
            ),
            (
                refused(
                    Class::Refused,
                    "did not understand STATUS: User is authenticated but not connected.",
                ),
                Code::DestinationMailboxClosed,
                "Set-CASMailbox anna@new.test -ImapEnabled $true",
            ),
            (
                room(quota(2_000_000_000), None),
                Code::DestinationRoomShort,
                "Set-Mailbox anna@new.test -IssueWarningQuota 7GB",
            ),
            (
                room(None, Some(37_000_000)),
                Code::MessageOverLimit,
                "Set-Mailbox anna@new.test -MaxReceiveSize 150MB",
            ),
            (
                refused(Class::Credentials, "gives no token: invalid_client")
                    .map_err(|failure| failure.code(FailureCode::NoToken)),
                Code::DestinationUnasked,
                "1 mailbox at outlook.office365.com:993 could not be asked",
            ),
            (
                refused(Class::Unreachable, "does not answer"),
                Code::DestinationUnasked,
                "anna@new.test): does not answer.",
            ),
        ];
        for (said, code, told) in table {
            let found = drawn(said);
            let [(is, text)] = &found[..] else { panic!("{told}: {found:?}") };
            assert!(*is == code && text.contains(told), "{is}: {text}");
        }
        assert_eq!(drawn(room(quota(9_000_000_000), Some(40_000_000))), []);
    }
}
