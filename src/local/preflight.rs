//! What is asked at each mailbox of the destination before anything is copied: whether it lets us in, whether the mail fits,
//! and how folders are called there. Nothing is opened and nothing is written; a mailbox that cannot be asked is told of too.
//!
//! What is amiss with the server, or with a password that all mailboxes share, is amiss for all of them: it is met once or
//! twice, and not once for each.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};

use futures::stream::{self, StreamExt};

use super::workers::Tools;
use crate::api::Destination;
use crate::mail::imap::probe::{FolderNames, Room, ask_room};
use crate::model::address::Address;
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
/// Mailboxes in a row that may fail for a reason of the server's before no further one is asked.
const FAILING_MAX: u32 = 2;
/// 10^6 bytes.
const MEGABYTE: u64 = 1_000_000;

/// What one mailbox said.
struct Asked<'a> {
    planned: &'a PlannedMailbox,
    /// What the application is called, once its Secret was read.
    client: Option<String>,
    said: Result<Room>,
    /// Whether it was left out, because what was amiss for others would be amiss for it too.
    spared: bool,
}

/// Asks every mailbox at the destination that a domain's mail goes to, and puts what they say into what discovery saw.
pub(super) async fn look_ahead(tools: &Tools, mailboxes: &[PlannedMailbox], discovery: &mut DomainDiscovery) {
    let asked = ask_all(tools, mailboxes).await;
    let destination = &tools.spec().destination;
    let open = asked.iter().filter(|asked| asked.said.is_ok()).count();
    let first = asked.iter().find_map(|asked| asked.said.as_ref().err());
    let outcome = match first.filter(|_| open == 0) {
        Some(failure) => Outcome::Failed(failure.clone()),
        None => Outcome::Offered,
    };
    discovery.evidence.push(Evidence {
        signal: Signal::Imap,
        grade: if open > 0 { Grade::A } else { Grade::C },
        at: discovery.finished,
        endpoint: Some(destination.endpoint()),
        trusted: true,
        outcome,
        statement: state(destination, &asked),
        excerpt: None,
    });
    let sizes: HashMap<&Address, &MailboxSize> =
        discovery.mailboxes.iter().filter_map(|seen| Some((&seen.address, seen.size.as_ref()?))).collect();
    let size_of = |mailbox: &Address| sizes.get(mailbox).copied().cloned();
    let found = draw(destination, &asked, size_of);
    discovery.findings.extend(found);
}

/// Asks one mailbox after the other until one says something about itself, then several at a time.
async fn ask_all<'a>(tools: &Tools, mailboxes: &'a [PlannedMailbox]) -> Vec<Asked<'a>> {
    let stop = Mutex::new(Stop::default());
    let mut asked = Vec::with_capacity(mailboxes.len());
    while let Some(planned) = mailboxes.get(asked.len()) {
        asked.push(ask(tools, planned, &stop).await);
        if stop.lock().unwrap_or_else(PoisonError::into_inner).failing == 0 {
            break;
        }
    }
    let rest: Vec<_> = mailboxes[asked.len()..].iter().map(|planned| ask(tools, planned, &stop)).collect();
    asked.extend(stream::iter(rest).buffered(PARALLEL).collect::<Vec<_>>().await);
    asked
}

/// Why no further mailbox is asked.
#[derive(Default)]
struct Stop {
    /// Mailboxes in a row that could not be asked for a reason that concerns all.
    failing: u32,
    why: Option<Failure>,
}

impl Stop {
    fn note(&mut self, said: &Result<Room>, shared: bool) {
        let Some(failure) = said.as_ref().err().filter(|failure| concerns_all(failure, shared)) else {
            self.failing = 0;
            return;
        };
        self.failing += 1;
        // A host that cannot be reached is not reached a moment later either.
        if self.failing >= FAILING_MAX || matches!(failure.class, Class::Unreachable | Class::Tls) {
            self.why.get_or_insert_with(|| failure.clone());
        }
    }
}

/// Whether what happened at one mailbox would happen at the others too.
fn concerns_all(failure: &Failure, shared: bool) -> bool {
    match failure.class {
        Class::Unreachable | Class::Tls | Class::Throttled | Class::Protocol => true,
        Class::Credentials => shared,
        _ => failure.is(FailureCode::NoToken),
    }
}

async fn ask<'a>(tools: &Tools, planned: &'a PlannedMailbox, stop: &Mutex<Stop>) -> Asked<'a> {
    let why = stop.lock().unwrap_or_else(PoisonError::into_inner).why.clone();
    if let Some(failure) = why {
        return Asked { planned, client: None, said: Err(failure), spared: true };
    }
    let (login, trust, shared) = match tools.destination_access(planned) {
        Ok(access) => access,
        Err(failure) => return Asked { planned, client: None, said: Err(failure), spared: false },
    };
    let session = Box::pin(tools.log_in_there(planned, &login, &trust, shared)).await;
    let said = match session {
        Ok(session) => Box::pin(ask_room(session)).await,
        Err(failure) => Err(failure),
    };
    stop.lock().unwrap_or_else(PoisonError::into_inner).note(&said, shared);
    Asked { planned, client: login.administrator, said, spared: false }
}

/// What was seen of a domain's mailboxes at the destination, in one line.
fn state(destination: &Destination, asked: &[Asked<'_>]) -> String {
    let rooms = || asked.iter().filter_map(|asked| asked.said.as_ref().ok());
    let whom = if destination.microsoft365().is_some() { "let the application in" } else { "let us in" };
    let mut text = format!(
        "destination: {} of {} at {} {whom}",
        rooms().count(),
        counted(asked.len() as u64, "mailbox", "mailboxes"),
        destination.endpoint().address()
    );
    let names: BTreeSet<&FolderNames> = rooms().filter_map(|room| room.names.as_ref()).collect();
    for names in names {
        let _ = match names.delimiter {
            Some(delimiter) => {
                let shown = printable(&delimiter.to_string());
                write!(text, "; levels of folders are parted by \"{shown}\"")
            }
            None => write!(text, "; folders have no levels"),
        };
        if !names.prefix.is_empty() {
            let _ = write!(text, ", and all but the Inbox stand below \"{}\"", printable(&names.prefix));
        }
    }
    text
}

fn draw(
    destination: &Destination,
    asked: &[Asked<'_>],
    size_of: impl Fn(&Address) -> Option<MailboxSize>,
) -> Vec<Finding> {
    let endpoint = destination.endpoint();
    let mut found = Vec::new();
    // What does not come from a mailbox is the same for many.
    let mut unasked: BTreeMap<String, Vec<&Address>> = BTreeMap::new();
    for Asked { planned, client, said, spared } in asked {
        match said {
            Ok(room) => found.extend(fits(destination, planned, room, size_of(&planned.source).as_ref())),
            Err(failure) if !spared && is_closed(failure) => {
                found.push(closed(destination, planned, client.as_deref(), failure));
            }
            Err(failure) => unasked.entry(failure.what.clone()).or_default().push(&planned.destination),
        }
    }
    for (what, mailboxes) in unasked {
        let named = mailboxes.iter().take(NAMED).map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let more = match mailboxes.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
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

/// A mailbox that does not let us in, with what opens it.
fn closed(
    destination: &Destination,
    planned: &PlannedMailbox,
    client: Option<&str>,
    failure: &Failure,
) -> Finding {
    let mailbox = planned.destination.to_string();
    let (whom, remedy) = match destination {
        Destination::Microsoft365(_) if failure.class == Class::Refused => (
            "the application",
            format!("{}; {}", powershell::show_mailbox(&mailbox), powershell::allow_imap(&mailbox)),
        ),
        Destination::Microsoft365(_) => {
            ("the application", powershell::open_mailbox(&mailbox, client.unwrap_or("CLIENT-ID")))
        }
        Destination::Imap(imap) => (
            "us",
            format!(
                "Make the mailbox if it is not there yet, or correct Secret {}.",
                printable(&imap.credentials_ref.name)
            ),
        ),
    };
    let mailbox = printable(&mailbox);
    let text = format!("{mailbox} is not open to {whom} ({}). {remedy}", failure.what);
    Finding::about(Code::DestinationMailboxClosed, &planned.source, text)
}

/// Whether the mail of the source fits.
fn fits(
    destination: &Destination,
    planned: &PlannedMailbox,
    room: &Room,
    size: Option<&MailboxSize>,
) -> Vec<Finding> {
    let mut found = Vec::new();
    let Some(size) = size else { return found };
    let is_tenant = destination.microsoft365().is_some();
    let address = planned.destination.to_string();
    let mailbox = printable(&address);
    if let Some(quota) = room.quota.filter(|quota| quota.limit.saturating_sub(quota.used) < size.bytes) {
        let wanted = (quota.used + size.bytes).div_ceil(1_000 * MEGABYTE) + 1;
        let remedy = if is_tenant {
            powershell::raise_quota(&address, wanted)
        } else {
            format!("A quota of {wanted} GB is enough.")
        };
        let text = format!(
            "{} MB are to go to {mailbox}, which has room for {} MB. {remedy}",
            size.bytes.div_ceil(MEGABYTE),
            quota.limit.saturating_sub(quota.used) / MEGABYTE,
        );
        found.push(Finding::about(Code::DestinationRoomShort, &planned.source, text));
    }
    if let Some(limit) = room.append_limit.filter(|limit| *limit < size.largest) {
        let remedy = if is_tenant {
            powershell::raise_message_size(&address)
        } else {
            "The server says so itself (APPENDLIMIT).".to_owned()
        };
        let text = format!(
            "The largest message has {} MB, and {mailbox} takes {} MB. {remedy}",
            size.largest.div_ceil(MEGABYTE),
            limit / MEGABYTE,
        );
        found.push(Finding::about(Code::MessageOverLimit, &planned.source, text));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::evidence::Quota;

    fn planned() -> PlannedMailbox {
        PlannedMailbox {
            source: "anna@a.test".parse().unwrap(),
            destination: "anna@new.test".parse().unwrap(),
            login_name: "anna@a.test".into(),
            login_name_is_given: false,
            logins: None,
            beside: Vec::new(),
        }
    }

    fn destination(value: serde_json::Value) -> Destination {
        serde_json::from_value(value).unwrap()
    }

    fn tenant() -> Destination {
        destination(serde_json::json!({"microsoft365": {"credentialsRef": {"name": "tenant"}}}))
    }

    fn imap() -> Destination {
        destination(serde_json::json!({"imap": {"host": "imap.new.test", "credentialsRef": {"name": "new"}}}))
    }

    fn drawn(destination: &Destination, said: Result<Room>) -> Vec<(Code, String)> {
        let planned = planned();
        let size = MailboxSize { bytes: 5_000_000_000, largest: 40_000_000, ..MailboxSize::default() };
        let asked = [Asked { planned: &planned, client: Some("app-1".into()), said, spared: false }];
        let found = draw(destination, &asked, |_| Some(size.clone()));
        found.into_iter().map(|finding| (finding.code, finding.message)).collect()
    }

    #[test]
    fn each_trouble_is_told_with_the_line_that_ends_it() {
        let room = |quota, append_limit| Ok(Room { quota, append_limit, names: None });
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
            let found = drawn(&tenant(), said);
            let [(is, text)] = &found[..] else { panic!("{told}: {found:?}") };
            assert!(*is == code && text.contains(told), "{is}: {text}");
        }
        assert_eq!(drawn(&tenant(), room(quota(9_000_000_000), Some(40_000_000))), []);
    }

    #[test]
    fn an_imap_server_is_told_of_in_its_own_terms() {
        let quota = Some(Quota { used: 1_000_000_000, limit: 2_000_000_000 });
        let table = [
            (
                Err(Failure::new(Class::Credentials, "refused LOGIN: no such user")),
                Code::DestinationMailboxClosed,
                "anna@new.test is not open to us (refused LOGIN: no such user). Make the mailbox if it is not there yet, or correct Secret new.",
            ),
            (
                Ok(Room { quota, ..Room::default() }),
                Code::DestinationRoomShort,
                "5000 MB are to go to anna@new.test, which has room for 1000 MB. A quota of 7 GB is enough.",
            ),
            (
                Ok(Room { append_limit: Some(37_000_000), ..Room::default() }),
                Code::MessageOverLimit,
                "The largest message has 40 MB, and anna@new.test takes 37 MB.",
            ),
        ];
        for (said, code, told) in table {
            let found = drawn(&imap(), said);
            let [(is, text)] = &found[..] else { panic!("{told}: {found:?}") };
            assert!(*is == code && text.starts_with(told), "{is}: {text}");
        }
        let refused = Err(Failure::new(Class::Credentials, "refused LOGIN"));
        let planned = planned();
        let asked = [Asked { planned: &planned, client: None, said: refused, spared: true }];
        let found = draw(&imap(), &asked, |_| None);
        assert_eq!(found[0].code, Code::DestinationUnasked, "it was not asked itself");
    }

    #[test]
    fn what_is_amiss_for_all_is_met_once_or_twice() {
        let refused = || Err(Failure::new(Class::Credentials, "refused"));
        let stops = |said: &[Result<Room>], shared| {
            let mut stop = Stop::default();
            for said in said {
                stop.note(said, shared);
            }
            stop.why.is_some()
        };
        assert!(stops(&[Err(Failure::new(Class::Unreachable, "away"))], false));
        assert!(!stops(&[refused()], true) && stops(&[refused(), refused()], true));
        assert!(!stops(&[refused(), Ok(Room::default()), refused()], true), "it opens some of them");
        assert!(!stops(&[refused(), refused(), refused()], false), "each has a password of its own");
    }

    #[test]
    fn how_folders_are_called_is_told() {
        let planned = planned();
        let names = |delimiter, prefix: &str| Some(FolderNames { delimiter, prefix: prefix.to_owned() });
        let stated = |names| {
            let room = Room { names, ..Room::default() };
            let asked = [Asked { planned: &planned, client: None, said: Ok(room), spared: false }];
            state(&imap(), &asked)
        };
        assert_eq!(
            stated(names(Some('.'), "INBOX.")),
            "destination: 1 of 1 mailbox at imap.new.test:993 let us in; levels of folders are parted by \".\", \
             and all but the Inbox stand below \"INBOX.\""
        );
        assert!(stated(names(None, "")).ends_with("let us in; folders have no levels"));
        assert!(stated(None).ends_with("let us in"));
    }
}
