//! What a server's NO, BAD or BYE means: response codes (RFC 5530, RFC 9051 §7.1, RFC 4978 and the habits of known
//! servers) become a failure class, here and nowhere else.

use std::time::Duration;

use super::tokens::{Status, StatusText};
use crate::model::failure::{Class, Failure};

/// What Exchange Online says, to whatever is asked, when it knows who logs in and opens no mailbox.
const NOT_CONNECTED: &str = "authenticated but not connected";
/// What to do about it.
const NOT_CONNECTED_REMEDY: &str = "the mailbox is not there, not licensed, closed to IMAP, or not open to the application: in Exchange Online PowerShell see Get-CASMailbox and Get-MailboxPermission, then Set-CASMailbox -ImapEnabled $true and Add-MailboxPermission -AccessRights FullAccess";

/// What Gmail says, to a login too, once a mailbox was read or asked too much within a day.
const DAY_SPENT: &str = "exceeded command or bandwidth limits";
/// How long it is left alone then. Gmail names no time; whoever asks on and on is locked out for longer.
const DAY_SPENT_PAUSE: Duration = Duration::from_hours(1);
/// What to do about it.
const DAY_SPENT_REMEDY: &str = "nothing: Gmail hands out so much of a mailbox in a day; it is tried again every hour and goes on where it was, and a run that is ended meanwhile goes on when it is begun anew";

/// The failure that a status other than OK stands for.
pub fn explain(command: &str, status: Status, said: &StatusText) -> Failure {
    let text = if said.text.is_empty() { said.code.as_str() } else { said.text.as_str() };
    if let Some(wait) = suggested_wait(text) {
        return Failure::new(Class::Throttled, format!("asks for a pause: {text}")).wait(wait);
    }
    if text.to_ascii_lowercase().contains(DAY_SPENT) {
        let failure = Failure::new(Class::Throttled, format!("asks for a pause: {text}"));
        return failure.wait(DAY_SPENT_PAUSE).hint(DAY_SPENT_REMEDY);
    }
    let class = class_of(command, &said.code, text).unwrap_or(match status {
        Status::Bad => Class::Protocol,
        Status::Bye => Class::Unreachable,
        Status::Ok | Status::No | Status::PreAuth => match command {
            "LOGIN" | "AUTHENTICATE" => Class::Credentials,
            "APPEND" => Class::Message,
            _ => Class::Refused,
        },
    });
    let verb = match status {
        Status::Bad => "did not understand",
        Status::Bye => "ended the session at",
        Status::Ok | Status::No | Status::PreAuth => "refused",
    };
    let code = if said.code.is_empty() { String::new() } else { format!("[{}] ", said.code) };
    let failure = Failure::new(class, format!("{verb} {command}: {code}{text}"));
    if text.to_ascii_lowercase().contains(NOT_CONNECTED) {
        return failure.hint(NOT_CONNECTED_REMEDY);
    }
    match hint_of(class) {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn class_of(command: &str, code: &str, text: &str) -> Option<Class> {
    let by_code = match code {
        // Dovecot has no TOOBIG; a limit that one message exceeds does not go away by waiting.
        "LIMIT" if command == "APPEND" && text.to_ascii_lowercase().contains("size") => Class::Message,
        // Whoever was let in once is not refused, but must come again: with a new token, or the next login tells.
        "EXPIRED" if !["LOGIN", "AUTHENTICATE"].contains(&command) => Class::Unreachable,
        "AUTHENTICATIONFAILED" | "AUTHORIZATIONFAILED" | "EXPIRED" => Class::Credentials,
        "PRIVACYREQUIRED" => Class::Tls,
        "CONTACTADMIN" | "NOPERM" | "CANNOT" | "NOTSAVED" => Class::Refused,
        "OVERQUOTA" => Class::Quota,
        "TOOBIG" | "BADCHARSET" | "UNKNOWN-CTE" => Class::Message,
        "INUSE" | "THROTTLED" | "LIMIT" => Class::Throttled,
        "UNAVAILABLE" => Class::Unreachable,
        "SERVERBUG" | "CLIENTBUG" => Class::Protocol,
        _ => {
            // Servers without codes have words.
            let text = text.to_ascii_lowercase();
            return if text.contains("too many") || text.contains("maximum number of connections") {
                Some(Class::Throttled)
            } else if text.contains("quota exceeded") || text.contains("mailbox is full") {
                Some(Class::Quota)
            } else if text.contains(NOT_CONNECTED) {
                Some(Class::Refused)
            } else {
                None
            };
        }
    };
    let too_many =
        code == "UNAVAILABLE" && text.to_ascii_lowercase().contains("maximum number of connections");
    Some(if too_many { Class::Throttled } else { by_code })
}

fn hint_of(class: Class) -> Option<&'static str> {
    Some(match class {
        Class::Credentials => "check the user name and the password in the Secret",
        Class::Refused => "ask the server's administrator for the permission",
        Class::Quota => "raise the mailbox's quota; the next pass goes on from here",
        Class::Protocol => "please report this with the output of `mailferry run -v`",
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
    fn a_day_that_is_spent_is_a_pause_and_neither_a_full_mailbox_nor_a_wrong_password() {
        for (command, status, line) in [
            ("UID FETCH", Status::No, "[OVERQUOTA] Account exceeded command or bandwidth limits. a1b2"),
            ("the session", Status::Bye, "[OVERQUOTA] Account exceeded command or bandwidth limits."),
            ("LOGIN", Status::No, "[ALERT] Account exceeded command or bandwidth limits. (Failure)"),
        ] {
            let failure = explain(command, status, &StatusText::parse(line.as_bytes()));
            assert_eq!((failure.class, failure.wait), (Class::Throttled, Some(DAY_SPENT_PAUSE)), "{line}");
        }
    }

    #[test]
    fn the_servers_own_time_is_kept() {
        let said = StatusText::parse(b"Request is throttled. Suggested Backoff Time: 299961 milliseconds");
        let failure = explain("APPEND", Status::Bad, &said);
        assert_eq!((failure.class, failure.wait), (Class::Throttled, Some(Duration::from_millis(299_961))));
    }
}
