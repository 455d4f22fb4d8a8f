//! Questions to each mailbox of the destination before anything is copied: whether it lets us in, whether the mail fits,
//! and how folders are called there. Nothing is opened and nothing is written; a mailbox that cannot be asked is
//! reported too.
//!
//! A fault of the server, or of a password that all mailboxes share, is amiss for all of them: it is met once or
//! twice, and not once for each.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;

use super::workers::Tools;
use crate::api::Destination;
use crate::drivers::measure::{FolderNames, Room};
use crate::model::address::Address;
use crate::model::evidence::{
    DestinationSeen, DomainDiscovery, Evidence, Grade, MailboxSize, Outcome, Signal,
};
use crate::model::failure::{Class, Failure, FailureCode, Result};
use crate::model::finding::{Code, Finding};
use crate::model::powershell;
use crate::model::protocol::Protocol;
use crate::model::text::{bytes, counted, printable};
use crate::plan::mailboxes::PlannedMailbox;

/// Mailboxes that are asked at the same time.
const PARALLEL: usize = 4;
/// Those that share a password: a server that locks accounts sees no more refusals in a row.
const PARALLEL_SHARED: usize = 2;
/// Mailboxes that a shared password may be refused for before no further one is asked. Servers delay the answer, and the first
/// of them tell enough.
const REFUSED_MAX: u32 = 20;
/// Mailboxes that one finding names.
const NAMED: usize = 5;
/// Mailboxes in a row that may fail for a reason of the server's before no further one is asked.
const FAILING_MAX: u32 = 2;
/// 10^6 bytes.
const MEGABYTE: u64 = 1_000_000;

/// The answer of one mailbox.
struct Asked<'a> {
    planned: &'a PlannedMailbox,
    /// The name of the application, once its Secret was read.
    client: Option<String>,
    said: Result<Room>,
    /// Whether its password opens others too.
    shared: bool,
    /// Whether it was left out, because what was amiss for others would be amiss for it too.
    spared: bool,
}

/// Asks every mailbox at the destination that a domain's mail goes to, and puts what they say into what discovery saw.
pub(super) async fn look_ahead(tools: &Tools, mailboxes: &[PlannedMailbox], discovery: &mut DomainDiscovery) {
    let asked = ask_all(tools, mailboxes).await;
    let destination = &tools.spec().destination;
    let seen = sum_up(&asked);
    let outcome = match seen.failure.as_ref().filter(|_| seen.open == 0) {
        Some(failure) => Outcome::Failed(failure.clone()),
        None => Outcome::Offered,
    };
    discovery.evidence.push(Evidence {
        signal: if destination.files().is_some() { Signal::Files } else { Signal::Imap },
        grade: if seen.open > 0 { Grade::A } else { Grade::C },
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
    let found = draw(destination, &asked, seen.unusable().is_some(), size_of);
    discovery.findings.extend(found);
    discovery.destination = Some(seen);
}

/// Sums up all their answers.
fn sum_up(asked: &[Asked<'_>]) -> DestinationSeen {
    let failures = || asked.iter().filter_map(|asked| asked.said.as_ref().err());
    let worse = |worst: Failure, next: &Failure| {
        // Of equally bad ones the first represents all.
        let is_worse = worst.class != next.class && worst.class.worse(next.class) == next.class;
        if is_worse { next.clone() } else { worst }
    };
    let mut rest = failures();
    let failure = rest.next().cloned().map(|first| rest.fold(first, worse));
    DestinationSeen {
        mailboxes: asked.len() as u64,
        open: asked.iter().filter(|asked| asked.said.is_ok()).count() as u64,
        refused: failures().filter(|failure| failure.class == Class::Credentials).count() as u64,
        failure,
        lasts: failures().all(|failure| !failure.passes()),
    }
}

/// Asks one mailbox after the other until one says something about itself, then several at a time. Where they share a password,
/// a server counts refusals for that password, whichever mailbox it was to open: after a few, one that it opened is asked
/// again, which ends the count there and here.
async fn ask_all<'a>(tools: &Tools, mailboxes: &'a [PlannedMailbox]) -> Vec<Asked<'a>> {
    let mut round = Round::default();
    let mut asked: Vec<Asked<'a>> = Vec::with_capacity(mailboxes.len());
    while round.stopped.is_none() && asked.len() < mailboxes.len() {
        let rest = &mailboxes[asked.len()..];
        let some: Vec<_> = rest.iter().take(round.at_once()).map(|planned| ask(tools, planned)).collect();
        let come = futures::future::join_all(some).await;
        for asked in &come {
            round.note(asked);
        }
        asked.extend(come);
        if let Some(planned) = round.open_to.filter(|_| round.refused > 0 && round.stopped.is_none()) {
            round.renew(&ask(tools, planned).await);
        }
    }
    if let Some(failure) = round.stopped {
        let shared = asked.last().is_some_and(|asked| asked.shared);
        let unasked =
            |planned| Asked { planned, client: None, said: Err(failure.clone()), shared, spared: true };
        asked.extend(mailboxes[asked.len()..].iter().map(unasked));
    }
    asked
}

/// How it goes with the mailboxes that were asked so far.
#[derive(Default)]
struct Round<'a> {
    /// Whether a mailbox said something about itself.
    begun: bool,
    /// Mailboxes in a row that could not be asked for a reason that concerns all.
    failing: u32,
    /// A mailbox that a shared password opened.
    open_to: Option<&'a PlannedMailbox>,
    /// Mailboxes for which such a password was refused since it opened one.
    refused: u32,
    /// All for which it was refused.
    refused_in_all: u32,
    /// Why no further mailbox is asked.
    stopped: Option<Failure>,
}

impl<'a> Round<'a> {
    fn at_once(&self) -> usize {
        match (self.begun && self.failing == 0, self.open_to) {
            (false, _) => 1,
            (true, Some(_)) => PARALLEL_SHARED,
            (true, None) => PARALLEL,
        }
    }

    fn note(&mut self, asked: &Asked<'a>) {
        let Err(failure) = &asked.said else {
            (self.begun, self.failing) = (true, 0);
            if asked.shared {
                (self.open_to, self.refused) = (Some(asked.planned), 0);
            }
            return;
        };
        if asked.shared && self.open_to.is_some() && failure.class == Class::Credentials {
            self.refused += 1;
            self.refused_in_all += 1;
            if self.refused_in_all >= REFUSED_MAX {
                self.stopped.get_or_insert_with(|| failure.clone());
            }
        } else if concerns_all(failure, asked.shared) {
            self.failing += 1;
            // A host that cannot be reached is not reached a moment later either.
            if self.failing >= FAILING_MAX || is_of_the_way(failure) {
                self.stopped.get_or_insert_with(|| failure.clone());
            }
        } else {
            (self.begun, self.failing) = (true, 0);
        }
    }

    /// Notes what the mailbox said that was asked again.
    fn renew(&mut self, asked: &Asked<'a>) {
        match &asked.said {
            Ok(_) => self.refused = 0,
            Err(failure) => self.stopped = Some(failure.clone()),
        }
    }
}

/// Whether the way to the server is what is amiss.
fn is_of_the_way(failure: &Failure) -> bool {
    matches!(failure.class, Class::Unreachable | Class::Tls) || failure.is(FailureCode::AddressNotAllowed)
}

/// Whether what happened at one mailbox would happen at the others too.
fn concerns_all(failure: &Failure, shared: bool) -> bool {
    match failure.class {
        Class::Throttled | Class::Protocol => true,
        Class::Credentials => shared,
        _ => is_of_the_way(failure) || failure.is(FailureCode::NoToken),
    }
}

async fn ask<'a>(tools: &Tools, planned: &'a PlannedMailbox) -> Asked<'a> {
    let (login, trust, shared) = match tools.destination_access(planned) {
        Ok(access) => access,
        Err(failure) => {
            return Asked { planned, client: None, said: Err(failure), shared: false, spared: false };
        }
    };
    let session = Box::pin(tools.log_in_there(planned, &login, &trust, shared)).await;
    let said = match session {
        Ok(session) => session.ask_room().await,
        Err(failure) => Err(failure),
    };
    Asked { planned, client: login.administrator, said, shared, spared: false }
}

/// The sight of a domain's mailboxes at the destination, in one line.
fn state(destination: &Destination, asked: &[Asked<'_>]) -> String {
    let rooms = || asked.iter().filter_map(|asked| asked.said.as_ref().ok());
    let whom = match destination {
        Destination::Microsoft365(_) => "let the application in",
        Destination::Imap(_) => "let us in",
        Destination::Files(_) => "can be written",
    };
    let mut text = format!(
        "destination: {} of {} at {} {whom}",
        rooms().count(),
        counted(asked.len() as u64, "mailbox", "mailboxes"),
        destination.endpoint().address()
    );
    let names: BTreeSet<&FolderNames> = rooms().filter_map(|room| room.names.as_ref()).collect();
    if destination.endpoint().protocol == Protocol::Maildir {
        text.push_str("; of more than 26 keywords in a folder, the rest is kept beside it, where only Mailferry reads it");
    }
    // Files have levels, whatever parts them.
    for names in names.into_iter().filter(|_| destination.files().is_none()) {
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
    is_unusable: bool,
    size_of: impl Fn(&Address) -> Option<MailboxSize>,
) -> Vec<Finding> {
    let endpoint = destination.endpoint();
    let mut found = Vec::new();
    // A failure that does not come from a mailbox is the same for many, and its remedy is the failure's own.
    let mut barred = None;
    let is_taken = asked.iter().any(|asked| asked.shared && asked.said.is_ok());
    let mut unasked: BTreeMap<(&str, Option<&str>), Vec<&Address>> = BTreeMap::new();
    for Asked { planned, client, said, shared, spared } in asked {
        match said {
            Ok(room) => found.extend(fits(destination, planned, room, size_of(&planned.source).as_ref())),
            Err(failure) if failure.is(FailureCode::AddressNotAllowed) => barred = Some(failure),
            // Nobody knows whether a mailbox is there as long as the password is refused that opens all of them.
            Err(failure) if *shared && !is_taken && failure.class == Class::Credentials => {
                let name = printable(destination.secret().unwrap_or_default());
                let text = format!(
                    "The password in Secret {name}, which opens the mailboxes at {}, is refused: {}.",
                    endpoint.address(),
                    failure.what.trim_end_matches('.')
                );
                found.push(Finding::about(Code::CredentialsRejected, &planned.source, text));
            }
            Err(failure) if !spared && is_closed(failure, *shared) => {
                found.push(closed(destination, planned, client.as_deref(), failure));
            }
            Err(failure) => {
                let cause = (failure.what.trim_end_matches('.'), failure.hint.as_deref());
                unasked.entry(cause).or_default().push(&planned.destination);
            }
        }
    }
    let makes = asked.iter().filter_map(|asked| asked.said.as_ref().ok()?.replaces_letters);
    if let Some(make) = makes.into_iter().next() {
        let text = format!(
            "{make} replaces letters beyond ASCII in headers that hold them as they are; such messages arrive altered."
        );
        found.push(Finding::about(Code::HeadersLoseLetters, endpoint.address(), text));
    }
    if let Some(failure) = barred {
        let text = format!("{}.", failure.what);
        found.push(Finding::about(Code::AddressNotAllowed, endpoint.address(), text));
    }
    for ((what, hint), mailboxes) in unasked {
        let named = mailboxes.iter().take(NAMED).map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let more = match mailboxes.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let hint = hint.map(|hint| format!("; {}", hint.trim_end_matches('.'))).unwrap_or_default();
        let text = format!(
            "{} at {} could not be asked whether mail can be written to them ({named}{more}): {what}{hint}.",
            counted(mailboxes.len() as u64, "mailbox", "mailboxes"),
            endpoint.address(),
        );
        let code = if is_unusable { Code::DestinationUnusable } else { Code::DestinationUnasked };
        found.push(Finding::about(code, endpoint.address(), text));
    }
    found
}

/// Whether it is the mailbox that is closed, and not the way to it, the token's giver or our own guard. The guard speaks of the mailbox where its password opens no other.
fn is_closed(failure: &Failure, shared: bool) -> bool {
    let is_of_all = failure.is(FailureCode::NoToken) || shared && failure.is(FailureCode::TriesSpent);
    matches!(failure.class, Class::Credentials | Class::Refused) && !is_of_all
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
        Destination::Files(_) => ("us", "Give the user who runs this the right to write there.".to_owned()),
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
            format!(
                "A quota of {} is enough.",
                bytes(quota.used + size.bytes.saturating_add(size.bytes / 10))
            )
        };
        let text = format!(
            "{} are to go to {mailbox}, which has room for {}. {remedy}",
            bytes(size.bytes),
            bytes(quota.limit.saturating_sub(quota.used)),
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
            "The largest message has {}, and {mailbox} takes {}. {remedy}",
            bytes(size.largest),
            bytes(limit),
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
            authorities: None,
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
        let asked =
            [Asked { planned: &planned, client: Some("app-1".into()), said, shared: false, spared: false }];
        let found = draw(destination, &asked, sum_up(&asked).unusable().is_some(), |_| Some(size.clone()));
        found.into_iter().map(|finding| (finding.code, finding.message)).collect()
    }

    #[test]
    fn each_trouble_is_told_with_the_line_that_ends_it() {
        let room = |quota, append_limit| Ok(Room { quota, append_limit, ..Room::default() });
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
                Code::DestinationUnusable,
                "1 mailbox at outlook.office365.com:993 could not be asked",
            ),
            (
                refused(Class::Unreachable, "does not answer"),
                Code::DestinationUnusable,
                "anna@new.test): does not answer.",
            ),
            (
                refused(Class::Throttled, "asks for a pause"),
                Code::DestinationUnasked,
                "anna@new.test): asks for a pause.",
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
                Err(Failure::new(Class::Refused, "imap.new.test is at 10.0.0.1")
                    .code(FailureCode::AddressNotAllowed)),
                Code::AddressNotAllowed,
                "imap.new.test is at 10.0.0.1.",
            ),
            (
                Err(Failure::new(Class::Tls, "refused the certificate").hint("give --ca")),
                Code::DestinationUnusable,
                "1 mailbox at imap.new.test:993 could not be asked whether mail can be written to them (anna@new.test): refused the certificate; give --ca.",
            ),
            (
                Ok(Room { quota, ..Room::default() }),
                Code::DestinationRoomShort,
                "5.0 GB are to go to anna@new.test, which has room for 1.0 GB. A quota of 6.5 GB is enough.",
            ),
            (
                Ok(Room { append_limit: Some(37_000_000), ..Room::default() }),
                Code::MessageOverLimit,
                "The largest message has 40.0 MB, and anna@new.test takes 37.0 MB.",
            ),
        ];
        for (said, code, told) in table {
            let found = drawn(&imap(), said);
            let [(is, text)] = &found[..] else { panic!("{told}: {found:?}") };
            assert!(*is == code && text.starts_with(told), "{is}: {text}");
        }
        let refused = Err(Failure::new(Class::Credentials, "refused LOGIN"));
        let planned = planned();
        let asked = [Asked { planned: &planned, client: None, said: refused, shared: false, spared: true }];
        let found = draw(&imap(), &asked, false, |_| None);
        assert_eq!(found[0].code, Code::DestinationUnasked, "it was not asked itself");
    }

    #[test]
    fn what_is_amiss_for_all_is_met_once_or_twice() {
        let refused = || Err(Failure::new(Class::Credentials, "refused"));
        let planned = planned();
        let stops = |said: &[Result<Room>], shared| {
            let mut round = Round::default();
            for said in said {
                let said = said.clone();
                round.note(&Asked { planned: &planned, client: None, said, shared, spared: false });
            }
            round.stopped.is_some()
        };
        assert!(stops(&[Err(Failure::new(Class::Unreachable, "away"))], false));
        let barred = Failure::new(Class::Refused, "at 10.0.0.1").code(FailureCode::AddressNotAllowed);
        assert!(stops(&[Err(barred)], false), "no other mailbox is at another address");
        assert!(!stops(&[refused()], true) && stops(&[refused(), refused()], true));
        let opened = || Ok(Room::default());
        let some = [refused(), opened(), refused(), refused(), refused()];
        assert!(!stops(&some, true), "it opens some of them");
        let many: Vec<_> = std::iter::once(opened()).chain((0..REFUSED_MAX).map(|_| refused())).collect();
        assert!(stops(&many, true) && !stops(&many[1..], false));
        assert!(!stops(&[refused(), refused(), refused()], false), "each has a password of its own");
    }

    #[test]
    fn how_folders_are_called_is_told() {
        let planned = planned();
        let names = |delimiter, prefix: &str| Some(FolderNames { delimiter, prefix: prefix.to_owned() });
        let stated = |names| {
            let room = Room { names, ..Room::default() };
            let asked =
                [Asked { planned: &planned, client: None, said: Ok(room), shared: false, spared: false }];
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
