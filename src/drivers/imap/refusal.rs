//! The meaning of a server's NO, BAD or BYE: its response code (RFC 5530, RFC 9051 §7.1, RFC 4469, RFC 7889 and the
//! habits of known servers) or its words ([`words`]) become a failure's class and code, here and nowhere else.

use std::time::Duration;

use super::tokens::{Status, StatusText};
use crate::drivers::words::{self, Asked, Meaning};
use crate::model::failure::{Class, Failure, FailureCode};

/// The remedy for a mailbox that Exchange Online opens for nobody.
const NOT_CONNECTED_REMEDY: &str = "the mailbox is not there, not licensed, closed to IMAP, or not open to the application: in Exchange Online PowerShell see Get-CASMailbox and Get-MailboxPermission, then Set-CASMailbox -ImapEnabled $true and Add-MailboxPermission -AccessRights FullAccess";
/// How long a mailbox is left alone whose day is spent. Gmail names no time; who asks on and on is locked out for longer.
const DAY_SPENT_PAUSE: Duration = Duration::from_hours(1);
/// The remedy for it.
const DAY_SPENT_REMEDY: &str = "nothing: Gmail hands out so much of a mailbox in a day; it is tried again every hour and goes on where it was, and a run that is ended meanwhile goes on when it is begun anew";

/// Stands in the place of a command where a server speaks of the whole session and answers none.
pub const THE_SESSION: &str = "the session";

/// The failure that a status other than OK stands for.
pub fn explain(command: &str, status: Status, said: &StatusText) -> Failure {
    let text = if said.text.is_empty() { said.code.as_str() } else { said.text.as_str() };
    if let Some(wait) = suggested_wait(text) {
        return asks_for_a_pause(text).code(FailureCode::TryLater).wait(wait);
    }
    let meaning = meaning_of(asked_by(command), command, said);
    if meaning.is_some_and(|meaning| meaning.code == FailureCode::DaySpent) {
        return asks_for_a_pause(text)
            .code(FailureCode::DaySpent)
            .wait(DAY_SPENT_PAUSE)
            .hint(DAY_SPENT_REMEDY);
    }
    let (class, code) = match status {
        Status::Bad => bad(meaning),
        Status::Bye => bye(meaning),
        Status::Ok | Status::No | Status::PreAuth => no(command, said, meaning),
    };
    let did = match status {
        Status::Bad => format!("did not understand {command}"),
        // It answered no command: there is nothing that it was at.
        Status::Bye if command == THE_SESSION => format!("ended {THE_SESSION}"),
        Status::Bye => format!("ended the session at {command}"),
        Status::Ok | Status::No | Status::PreAuth => format!("refused {command}"),
    };
    let quoted = if said.code.is_empty() { String::new() } else { format!("[{}] ", said.code) };
    let failure = Failure { code, ..Failure::new(class, format!("{did}: {quoted}{text}")) };
    match hint_of(class, code) {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn asks_for_a_pause(text: &str) -> Failure {
    Failure::new(Class::Throttled, format!("asks for a pause: {text}"))
}

fn asked_by(command: &str) -> Asked {
    match command {
        "LOGIN" | "AUTHENTICATE" => Asked::Login,
        "CREATE" | "RENAME" => Asked::Naming,
        "APPEND" | "UID STORE" => Asked::Storing,
        _ => Asked::Other,
    }
}

/// A refusal: as the code or the words say, else by what was asked.
fn no(command: &str, said: &StatusText, meaning: Option<Meaning>) -> (Class, Option<FailureCode>) {
    if let Some(meaning) = meaning {
        return (meaning.class, Some(meaning.code));
    }
    let class = match (said.code.as_str(), command) {
        ("BADCHARSET" | "UNKNOWN-CTE", _) => Class::Message,
        ("CONTACTADMIN" | "NOPERM", _) => Class::Refused,
        ("CANNOT" | "NOTSAVED", _) if command != "APPEND" => Class::Refused,
        (_, "LOGIN" | "AUTHENTICATE") => Class::Credentials,
        // A permanent refusal concerns this one message.
        (_, "APPEND") => Class::Message,
        _ => Class::Refused,
    };
    (class, None)
}

/// A command that was not understood, unless the server says in words that it was, and why it will not.
fn bad(meaning: Option<Meaning>) -> (Class, Option<FailureCode>) {
    let meaning = meaning.unwrap_or(Meaning::of(FailureCode::NotUnderstood));
    (meaning.class, Some(meaning.code))
}

/// The session is over, whatever the server gives as its reason; some reasons say when to come again.
fn bye(meaning: Option<Meaning>) -> (Class, Option<FailureCode>) {
    let of_the_session = |meaning: &Meaning| {
        matches!(meaning.class, Class::Throttled | Class::Unreachable | Class::Credentials)
    };
    let meaning = meaning.filter(of_the_session).unwrap_or(Meaning::of(FailureCode::ConnectionEnded));
    (meaning.class, Some(meaning.code))
}

/// The meaning of a response code or of words. Codes that say one thing come before words, words before codes that say
/// many.
fn meaning_of(asked: Asked, command: &str, said: &StatusText) -> Option<Meaning> {
    use FailureCode as F;
    let words = words::read(asked, &said.text);
    let is = |code: F| Some(Meaning::of(code));
    let exactly = match said.code.as_str() {
        // Gmail means the day by it as well.
        "OVERQUOTA" if words.is_none_or(|words| words.code != F::DaySpent) => is(F::Full),
        // A session that was let in once is not refused, but must begin anew: with a new token, or the next login tells.
        "EXPIRED" if asked != Asked::Login => is(F::ConnectionEnded),
        "AUTHENTICATIONFAILED" | "AUTHORIZATIONFAILED" | "EXPIRED" => is(F::WrongCredentials),
        "PRIVACYREQUIRED" => Some(Meaning { class: Class::Tls, code: F::MechanismRefused }),
        // The folder is open: where a server cannot find it for a moment, it can later (Kopano).
        "NONEXISTENT" | "TRYCREATE" if command == "APPEND" => {
            Some(Meaning { class: Class::Unreachable, code: F::NoSuchFolder })
        }
        "NONEXISTENT" | "TRYCREATE" => is(F::NoSuchFolder),
        "ALREADYEXISTS" => is(F::FolderExists),
        "TOOBIG" => is(F::TooLarge),
        _ => None,
    };
    let loosely = || match said.code.as_str() {
        "NOPERM" => is(F::NoPermission),
        "INUSE" => is(F::Locked),
        "UNAVAILABLE" => is(F::TryLater),
        "SERVERBUG" | "CORRUPTION" => is(F::ServerFault),
        "CLIENTBUG" => is(F::NotUnderstood),
        "THROTTLED" => Some(Meaning { class: Class::Throttled, code: F::TryLater }),
        "LIMIT" if asked != Asked::Naming => Some(Meaning { class: Class::Throttled, code: F::TryLater }),
        "CANNOT" if asked == Asked::Naming || command == "SUBSCRIBE" => is(F::NameRefused),
        _ => None,
    };
    exactly.or(words).or_else(loosely)
}

fn hint_of(class: Class, code: Option<FailureCode>) -> Option<&'static str> {
    use FailureCode as F;
    Some(match (class, code) {
        (_, Some(F::NotConnected)) => NOT_CONNECTED_REMEDY,
        (_, Some(F::NeedsId)) => {
            "the server wants mail programs to say their name; ask its operator to let this account in by IMAP"
        }
        (_, Some(F::NoSuchFolder)) => {
            "see whether the folder was renamed or removed; the next pass looks again"
        }
        (_, Some(F::ServerFault)) => {
            "the server calls it a fault of its own: ask its operator; it is tried again"
        }
        (
            _,
            Some(
                F::FolderExists
                | F::NameReserved
                | F::NameRefused
                | F::NoInferiors
                | F::WrongState
                | F::MechanismRefused,
            ),
        ) if class != Class::Tls => return None,
        (Class::Credentials, _) => "check the user name and the password in the Secret",
        (Class::Refused, _) => "ask the server's administrator for the permission",
        (Class::Quota, _) => "raise the mailbox's quota; the next pass goes on from here",
        (Class::Protocol, _) => "please report this with the output of `mailferry run -v`",
        _ => return None,
    })
}

/// Exchange says how long to wait: `Request is throttled. Suggested Backoff Time: 299961 milliseconds`.
fn suggested_wait(text: &str) -> Option<Duration> {
    let (_, after) = text.split_once("Suggested Backoff Time:")?;
    let milliseconds = after.split_ascii_whitespace().next()?.parse().ok()?;
    Some(Duration::from_millis(milliseconds).clamp(Duration::from_secs(1), Duration::from_hours(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_of_real_servers_find_their_class() {
        for (command, line, class) in [
            ("LOGIN", "[AUTHENTICATIONFAILED] Authentication failed.", Class::Credentials),
            ("LOGIN", "LOGIN failed.", Class::Credentials),
            ("LOGIN", "[UNAVAILABLE] Temporary authentication failure.", Class::Unreachable),
            ("LOGIN", "[UNAVAILABLE] Maximum number of connections from user+IP exceeded", Class::Throttled),
            ("AUTHENTICATE", "[LIMIT] Too many simultaneous connections", Class::Throttled),
            ("APPEND", "[OVERQUOTA] Quota exceeded (mailbox for user is full)", Class::Quota),
            ("APPEND", "[TOOBIG] Message too large", Class::Message),
            (
                "APPEND",
                "[LIMIT] Mail size is larger than the maximum size allowed by server configuration",
                Class::Message,
            ),
            ("APPEND", "[LIMIT] Slow down", Class::Throttled),
            ("APPEND", "Can't save a zero byte message", Class::Message),
            ("CREATE", "[NOPERM] Permission denied", Class::Refused),
            ("LIST", "User is authenticated but not connected.", Class::Refused),
            ("LOGIN", "[EXPIRED] The password has expired", Class::Credentials),
            ("UID FETCH", "[EXPIRED] The token has expired", Class::Unreachable),
        ] {
            let failure = explain(command, Status::No, &StatusText::parse(line.as_bytes()));
            assert_eq!(failure.class, class, "{command} {line}");
        }
        assert_eq!(explain("UID FETCH", Status::Bad, &StatusText::default()).class, Class::Protocol);
    }

    #[test]
    fn codes_and_words_become_a_class_and_a_code() {
        use FailureCode as F;
        for (command, line, class, code) in [
            ("LOGIN", "NO [AUTHENTICATIONFAILED] no", Class::Credentials, Some(F::WrongCredentials)),
            ("LOGIN", "NO LOGIN failed.", Class::Credentials, None),
            (
                "LOGIN",
                "NO [ALERT] Too many simultaneous connections. (Failure)",
                Class::Throttled,
                Some(F::TooManySessions),
            ),
            ("AUTHENTICATE", "NO mechanism not supported", Class::Refused, Some(F::MechanismRefused)),
            ("AUTHENTICATE", "BAD command unknown", Class::Protocol, Some(F::NotUnderstood)),
            ("LOGIN", "NO [PRIVACYREQUIRED] not here", Class::Tls, Some(F::MechanismRefused)),
            ("EXAMINE", "NO [NONEXISTENT] gone", Class::Refused, Some(F::NoSuchFolder)),
            ("SELECT", "NO [CLIENTBUG] SELECT No such folder. sc=x", Class::Refused, Some(F::NoSuchFolder)),
            ("EXAMINE", "NO [SERVERBUG] it broke", Class::Protocol, Some(F::ServerFault)),
            ("EXAMINE", "NO [INUSE] busy", Class::Throttled, Some(F::Locked)),
            ("EXAMINE", "NO Unsafe Login. Please contact us", Class::Refused, Some(F::NeedsId)),
            ("EXAMINE", "NO it will not", Class::Refused, None),
            ("EXAMINE", "BAD what?", Class::Protocol, Some(F::NotUnderstood)),
            ("STATUS", "BAD not valid in this state", Class::Protocol, Some(F::WrongState)),
            ("SELECT", "BAD SELECT mailbox does not exist", Class::Refused, Some(F::NoSuchFolder)),
            ("CREATE", "NO [ALREADYEXISTS] there", Class::Refused, Some(F::FolderExists)),
            ("CREATE", "NO [CANNOT] Folder name is reserved", Class::Refused, Some(F::NameReserved)),
            ("CREATE", "NO [CANNOT] no", Class::Refused, Some(F::NameRefused)),
            (
                "CREATE",
                "BAD [CLIENTBUG] CREATE Folder name is too large. sc=x",
                Class::Refused,
                Some(F::NameRefused),
            ),
            ("CREATE", "NO [LIMIT] Too many mailboxes", Class::Refused, None),
            ("CREATE", "NO [NOPERM] no", Class::Refused, Some(F::NoPermission)),
            ("CREATE", "NO [OVERQUOTA] no", Class::Quota, Some(F::Full)),
            (
                "APPEND",
                "NO [TRYCREATE] APPEND error finding folder",
                Class::Unreachable,
                Some(F::NoSuchFolder),
            ),
            ("APPEND", "NO Message contains NUL characters", Class::Message, Some(F::ContentRefused)),
            ("APPEND", "NO [LIMIT] Mailbox is over quota", Class::Quota, Some(F::Full)),
            ("APPEND", "NO [TOOBIG] no", Class::Message, Some(F::TooLarge)),
            ("APPEND", "NO [CANNOT] APPEND Contains Deleted flag", Class::Message, Some(F::FlagRefused)),
            ("APPEND", "NO [CANNOT] no", Class::Message, None),
            ("LOGIN", "NO [CONTACTADMIN] no", Class::Refused, None),
            ("LOGIN", "NO [CANNOT] no", Class::Refused, None),
            ("APPEND", "NO [THROTTLED] no", Class::Throttled, Some(F::TryLater)),
            ("APPEND", "NO Temporary unavailable", Class::Unreachable, Some(F::TryLater)),
            ("APPEND", "BAD Invalid date-time in Append command", Class::Message, Some(F::DateRefused)),
            ("APPEND", "BAD Invalid system flag in Append command", Class::Message, Some(F::FlagRefused)),
            ("APPEND", "BAD Command Argument Error. 11", Class::Protocol, Some(F::NotUnderstood)),
            ("UID FETCH", "BYE Internal error occurred.", Class::Unreachable, Some(F::ConnectionEnded)),
            ("UID FETCH", "BYE [UNAVAILABLE] later", Class::Unreachable, Some(F::TryLater)),
            ("UID FETCH", "BYE Mailbox does not exist", Class::Unreachable, Some(F::ConnectionEnded)),
        ] {
            let (status, rest) = line.split_once(' ').unwrap();
            let status = Status::parse(status.as_bytes()).unwrap();
            let failure = explain(command, status, &StatusText::parse(rest.as_bytes()));
            assert_eq!((failure.class, failure.code), (class, code), "{command} {line}");
        }
    }

    #[test]
    fn a_day_that_is_spent_is_a_pause_and_neither_a_full_mailbox_nor_a_wrong_password() {
        for (command, status, line) in [
            ("UID FETCH", Status::No, "[OVERQUOTA] Account exceeded command or bandwidth limits. a1b2"),
            (THE_SESSION, Status::Bye, "[OVERQUOTA] Account exceeded command or bandwidth limits."),
            ("LOGIN", Status::No, "[ALERT] Account exceeded command or bandwidth limits. (Failure)"),
        ] {
            let failure = explain(command, status, &StatusText::parse(line.as_bytes()));
            assert_eq!((failure.class, failure.wait), (Class::Throttled, Some(DAY_SPENT_PAUSE)), "{line}");
        }
    }

    #[test]
    fn a_session_is_ended_at_a_command_or_just_ended() {
        let said = StatusText::parse(b"[UNAVAILABLE] going down");
        for (command, told) in [
            (THE_SESSION, "ended the session: [UNAVAILABLE] going down"),
            ("UID FETCH", "ended the session at UID FETCH: [UNAVAILABLE] going down"),
        ] {
            assert_eq!(explain(command, Status::Bye, &said).what, told);
        }
    }

    #[test]
    fn the_servers_own_time_is_kept() {
        let said = StatusText::parse(b"Request is throttled. Suggested Backoff Time: 299961 milliseconds");
        let failure = explain("APPEND", Status::Bad, &said);
        assert_eq!((failure.class, failure.wait), (Class::Throttled, Some(Duration::from_millis(299_961))));
    }
}
