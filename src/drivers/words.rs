//! Words that servers use where they have no response code, or one that may mean anything: the one table of them, with
//! where they were seen. It is looked into where an answer is read ([`super::imap`], [`super::pop3`]) and nowhere else;
//! what it finds goes on as a class and a [`FailureCode`].
//!
//! A pattern is a piece of lower-case text; `*` in it stands for anything, so `quota*exceed` fits "Your quota has been
//! exceeded". The first row that fits counts, so rows about one thing come before those about anything.

use crate::model::failure::{Class, FailureCode};

/// The kind of request that a server refused: some words mean something only there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// To let somebody in.
    Login,
    /// To make a folder, or to call it differently.
    Naming,
    /// To keep a message or its flags.
    Storing,
    /// Anything else.
    Other,
}

/// The meaning of words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meaning {
    /// The class of the failure.
    pub class: Class,
    /// The exact failure.
    pub code: FailureCode,
}

impl Meaning {
    /// A code with the class that goes with it.
    pub const fn of(code: FailureCode) -> Self {
        use FailureCode as F;
        let class = match code {
            F::NoSuchFolder
            | F::FolderExists
            | F::NameReserved
            | F::NameRefused
            | F::NoInferiors
            | F::NoPermission
            | F::NotConnected
            | F::NeedsId
            | F::MechanismRefused
            | F::AddressNotAllowed => Class::Refused,
            F::WrongCredentials | F::TriesSpent => Class::Credentials,
            F::Full => Class::Quota,
            F::TooLarge
            | F::ContentRefused
            | F::DateRefused
            | F::FlagRefused
            | F::NothingCame
            | F::CameShort
            | F::NoticeCame
            | F::NotSeen
            | F::ArrivalMissing
            | F::ArrivalChanged
            | F::StoredShort
            | F::StoredAlike
            | F::NotListed => Class::Message,
            F::Locked | F::TooManySessions | F::DaySpent | F::LimitSpent => Class::Throttled,
            F::NotUnderstood
            | F::WrongState
            | F::ServerFault
            | F::Garbled
            | F::SpeaksAnother
            | F::NoLastingNames => Class::Protocol,
            F::SpeaksTls | F::SpeaksInClear => Class::Tls,
            F::MissingSecret
            | F::BadList
            | F::LoginChanged
            | F::AuthoritiesChanged
            | F::NoToken
            | F::NoSpool => Class::Configuration,
            F::TryLater
            | F::Silent
            | F::ConnectionEnded
            | F::SessionOver
            | F::SourceBrokeOff
            | F::EndsSessions
            | F::NoSuchHost
            | F::NameUnanswered => Class::Unreachable,
        };
        Self { class, code }
    }
}

/// When a row counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Always,
    OnlyAt(Asked),
    NeverAt(Asked),
}

impl When {
    fn fits(self, asked: Asked) -> bool {
        match self {
            Self::Always => true,
            Self::OnlyAt(only) => asked == only,
            Self::NeverAt(never) => asked != never,
        }
    }
}

struct Row {
    when: When,
    means: Meaning,
    /// Servers or public reports that the words are from.
    #[cfg_attr(not(test), expect(dead_code, reason = "for whoever reads the table"))]
    seen: &'static str,
    words: &'static [&'static str],
}

const fn row(when: When, code: FailureCode, seen: &'static str, words: &'static [&'static str]) -> Row {
    Row { when, means: Meaning::of(code), seen, words }
}

const fn slower(seen: &'static str, words: &'static [&'static str]) -> Row {
    let means = Meaning { class: Class::Throttled, code: FailureCode::TryLater };
    Row { when: When::Always, means, seen, words }
}

const ROWS: &[Row] = {
    use Asked::{Login, Naming, Storing};
    use FailureCode as F;
    use When::{Always, NeverAt, OnlyAt};
    &[
        row(Always, F::DaySpent, "Gmail", &["exceeded command or bandwidth limits"]),
        row(Always, F::NotConnected, "Exchange Online", &["authenticated but not connected"]),
        row(Always, F::NeedsId, "NetEase (163.com, 126.com, 188.com)", &["unsafe login"]),
        row(
            Always,
            F::TooManySessions,
            "Dovecot, Gmail, Courier, Cyrus, Yahoo, Zimbra",
            &[
                "too many*connection",
                "too many*session",
                "too many simultaneous",
                "too many concurrent",
                "maximum number of connections",
                "maximum number of sessions",
                "maximum connection",
                "connection limit",
                "session limit",
                "max*connections*reached",
            ],
        ),
        row(
            Always,
            F::Locked,
            "Cyrus (mailbox is locked), Dovecot (timeout while waiting for lock), UW IMAP, qpopper, Solid-POP3, Exchange",
            &[
                "mailbox*locked",
                "maildrop*locked",
                "unable to*lock",
                "cannot*lock",
                "can't*lock",
                "could not*lock",
                "couldn't*lock",
                "failed to*lock",
                "waiting for lock",
                "already locked",
                "lock busy",
                "mailbox is in use",
                "mailbox in use",
                "maildrop is in use",
                "in use by another",
                "being used by another",
                "opened by another",
                "open by another",
            ],
        ),
        slower(
            "Yahoo (rate limit hit), Exchange (request is throttled), Dovecot's auth penalty, Tencent",
            &[
                "rate limit",
                "throttled",
                "slow down",
                "too many*request",
                "too many*attempts",
                "too many*failures",
                "too frequent",
                "frequency limited",
            ],
        ),
        row(
            Always,
            F::Full,
            "GroupWise (storage limit), Oracle and Cyrus (over quota), hMailServer and Courier (quota exceeded), Domino, Dovecot (not enough disk quota), Exchange (maximum mailbox size), errno texts",
            &[
                "over quota",
                "overquota",
                "over the quota",
                "quota*exceed",
                "exceed*quota",
                "reached*quota",
                "quota*reached",
                "quota*full",
                "storage limit*exceeded",
                "over*storage limit",
                "5.2.2",
                "exceed*storage limit",
                "storage quota",
                "not enough disk",
                "not enough space",
                "not enough storage",
                "no space left",
                "no more space",
                "insufficient*space",
                "insufficient*storage",
                "out of*space",
                "out of storage",
                "disk full",
                "disk is full",
                "mailbox full",
                "mailbox is full",
                "is full",
                "maximum mailbox size",
                "mailbox size limit",
            ],
        ),
        row(
            OnlyAt(Storing),
            F::TooLarge,
            "Dovecot (larger than the maximum size), hMailServer and Exchange (maximum message size), maddy, Gmail",
            &[
                "too large",
                "too big",
                "size*larger than",
                "message*larger than",
                "size*exceed",
                "exceed*size",
                "maximum message size",
                "message size limit",
            ],
        ),
        row(OnlyAt(Storing), F::Full, "servers that word it in their own way", &["quota"]),
        row(
            OnlyAt(Storing),
            F::DateRefused,
            "Dovecot (invalid internal date), Cyrus (invalid date-time), Courier",
            &[
                "invalid date",
                "invalid internal date",
                "invalid internaldate",
                "date-time",
                "datetime",
                "date*invalid",
                "date*not valid",
                "bad date",
                "bad internal date",
                "date*out of range",
                "unable to parse*date",
                "illegal date",
            ],
        ),
        row(
            OnlyAt(Storing),
            F::FlagRefused,
            "Dovecot (invalid system flag, too many keywords), Cyrus (invalid flag, too many user flags), Domino (contains deleted flag)",
            &[
                "system flag",
                "invalid flag",
                "invalid keyword",
                "illegal flag",
                "illegal keyword",
                "unknown flag",
                "bad flag",
                "unsupported flag",
                "flag*not supported",
                "flag*not allowed",
                "flag*not permitted",
                "keyword*not supported",
                "keyword*not allowed",
                "keyword*not permitted",
                "keyword*invalid",
                "keyword*too long",
                "flag*invalid",
                "too many*keyword",
                "too many*flag",
                "deleted flag",
            ],
        ),
        row(
            OnlyAt(Storing),
            F::ContentRefused,
            "Cyrus (message contains NUL characters, bare newlines, invalid header), Dovecot (zero byte message), Courier, virus scanners",
            &[
                "message contains",
                "zero byte",
                "empty message",
                "nul character",
                "bare newline",
                "bare lf",
                "non-ascii",
                "invalid header",
                "invalid message",
                "malformed message",
                "message is malformed",
                "header/body separator",
                "line too long",
                "lines too long",
                "line is too long",
                "virus",
            ],
        ),
        row(
            OnlyAt(Naming),
            F::NameReserved,
            "Exchange Online, Yandex",
            &["is reserved", "reserved name", "reserved folder", "reserved mailbox", "reserved for"],
        ),
        row(
            OnlyAt(Naming),
            F::NoInferiors,
            "Dovecot with mbox, Cyrus, UW IMAP",
            &[
                "inferior",
                "have children",
                "allow children",
                "have*subfolder",
                "allow*subfolder",
                "have*submailbox",
                "allow*submailbox",
                "not a directory",
            ],
        ),
        row(
            OnlyAt(Naming),
            F::FolderExists,
            "Dovecot, Cyrus, Gmail (duplicate folder name), UW IMAP (file exists), hMailServer",
            &[
                "already exist",
                "mailbox exists",
                "folder exists",
                "file exists",
                "name exists",
                "duplicate folder",
                "duplicate mailbox",
            ],
        ),
        row(
            OnlyAt(Naming),
            F::NameRefused,
            "Dovecot (character not allowed, name too long), Cyrus and Courier (invalid mailbox name), Yandex (name is too large), WildDuck, rackspace (unsupported folder name)",
            &[
                "invalid*name",
                "name*invalid",
                "name*not valid",
                "name*too long",
                "name*too large",
                "path*too long",
                "name*not allowed",
                "name*not permitted",
                "name must not",
                "name*contains",
                "not allowed in*name",
                "illegal*name",
                "bad*name",
                "unsupported*name",
                "invalid character",
                "illegal character",
                "forbidden character",
                "too deep",
                "too many levels",
                "nesting",
                "maximum*depth",
            ],
        ),
        row(
            NeverAt(Login),
            F::NoSuchFolder,
            "Dovecot, Cyrus, Gmail (unknown mailbox), hMailServer (could not be found), Yandex (no such folder), Kopano (error finding folder)",
            &[
                "mailbox doesn't exist",
                "mailbox does not exist",
                "folder doesn't exist",
                "folder does not exist",
                "no such mailbox",
                "no such folder",
                "unknown mailbox",
                "unknown folder",
                "nonexistent",
                "non-existent",
                "mailbox*not found",
                "folder*not found",
                "folder could not be found",
                "mailbox could not be found",
                "error finding folder",
            ],
        ),
        row(
            NeverAt(Login),
            F::NoPermission,
            "Dovecot, Cyrus, Courier, UW IMAP, Zimbra",
            &[
                "permission denied",
                "access denied",
                "no permission",
                "not permitted",
                "not authorized",
                "insufficient*rights",
                "insufficient*privilege",
                "insufficient*permission",
                "read-only",
                "readonly",
            ],
        ),
        Row {
            when: OnlyAt(Login),
            means: Meaning { class: Class::Tls, code: F::MechanismRefused },
            seen: "Dovecot, Cyrus (RFC 4616 §3 asks for it)",
            words: &[
                "plaintext*disallowed",
                "plain text*disallowed",
                "plaintext*without tls",
                "requires*tls",
            ],
        },
        row(
            OnlyAt(Login),
            F::MechanismRefused,
            "Dovecot (unsupported authentication mechanism), Cyrus (no mechanism available), Courier, Exchange (AUTHENTICATE failed: unsupported)",
            &[
                "mechanism",
                "authentication method",
                "unsupported auth",
                "auth*not supported",
                "auth*unsupported",
            ],
        ),
        row(
            OnlyAt(Login),
            F::TryLater,
            "Dovecot (unable to open mailbox after a crash), qpopper and Courier (unable to open maildrop), directories that are away",
            &[
                "unable to open*mailbox",
                "unable to open*maildrop",
                "cannot open*mailbox",
                "cannot open*maildrop",
                "can't open*mailbox",
                "can't open*maildrop",
                "server down",
                "server is down",
                "ldap*unreachable",
                "maintenance",
                "please retry",
                "being moved",
            ],
        ),
        row(
            Always,
            F::TryLater,
            "Mailo (temporary unavailable), Dovecot (temporary authentication failure), Exchange (server unavailable), Yahoo, iCloud, Tencent (system busy), Cyrus (server(s) unavailable)",
            &[
                "try again",
                "try later",
                "retry later",
                "temporar",
                "server unavailable",
                "server(s) unavailable",
                "service unavailable",
                "service not available",
                "backend unavailable",
                "currently unavailable",
                "system busy",
                "system is busy",
                "server busy",
                "server is busy",
                "shutting down",
                "under maintenance",
            ],
        ),
        row(
            Always,
            F::WrongState,
            "Exchange (command received in invalid state), Yandex (wrong session state), Dovecot (no mailbox selected), Cyrus (select a mailbox first)",
            &[
                "not valid in this state",
                "invalid state",
                "wrong session state",
                "wrong state",
                "illegal in state",
                "no mailbox selected",
                "no mailbox is selected",
                "select a mailbox first",
                "mailbox not selected",
            ],
        ),
        row(
            Always,
            F::ServerFault,
            "Dovecot (internal error occurred), Gmail (system error), Cyrus (system i/o error), iCloud (unexpected exception), Yahoo (server error)",
            &[
                "internal error",
                "internal server error",
                "internal failure",
                "server error",
                "system error",
                "system i/o error",
                "i/o error",
                "unexpected exception",
                "unexpected error",
                "database error",
            ],
        ),
    ]
};

/// The meaning of a server's words, if they are known.
pub fn read(asked: Asked, text: &str) -> Option<Meaning> {
    let text = text.to_ascii_lowercase();
    let fits = |row: &&Row| row.when.fits(asked) && row.words.iter().any(|pattern| occurs(pattern, &text));
    ROWS.iter().find(fits).map(|row| row.means)
}

/// Words of a refused login that are about who logs in, whatever else they say: Dovecot (authentication failed), Cyrus (login
/// incorrect), Courier (LOGIN failed), Exchange (logon failure), Gmail (invalid credentials), Zimbra (invalid name or password).
const ABOUT_CREDENTIALS: [&str; 16] = [
    "auth*fail",
    "auth*error",
    "auth*reject",
    "auth*denied",
    "not authenticated",
    "login",
    "logon",
    "log in",
    "password",
    "credential",
    "incorrect",
    "user",
    "account",
    "access denied",
    "permission denied",
    "not authorized",
];

/// Whether the words of a refused login are about the user name or the password, rather than about the way they were sent.
pub fn doubts_the_credentials(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    ABOUT_CREDENTIALS.iter().any(|pattern| occurs(pattern, &text))
}

/// Whether the pieces of a pattern stand in a text, in their order.
fn occurs(pattern: &str, text: &str) -> bool {
    let mut rest = Some(text);
    for piece in pattern.split('*') {
        rest = rest.and_then(|rest| rest.split_once(piece)).map(|(_, after)| after);
    }
    rest.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_of_servers_without_codes_are_known() {
        use Asked::{Login, Naming, Other, Storing};
        use FailureCode as F;
        for (asked, text, code) in [
            (Storing, "APPEND The 1500 MB storage limit has been exceeded.", F::Full),
            (Storing, "Over quota", F::Full),
            (Storing, "Your quota has been exceeded.", F::Full),
            (Storing, "Not enough space left in mailbox", F::Full),
            (Storing, "Mailbox is over quota", F::Full),
            (Storing, "Not enough disk quota", F::Full),
            (Storing, "Quota exceeded (mailbox for user is full)", F::Full),
            (Storing, "You exceeded your mail quota.", F::Full),
            (Storing, "write(/var/mail) failed: No space left on device", F::Full),
            (Storing, "Disk is full", F::Full),
            (Storing, "Temporary unavailable", F::TryLater),
            (Storing, "Unable to open mailbox, please try again later", F::TryLater),
            (Other, "Server Unavailable. 15", F::TryLater),
            (Login, "Temporary authentication failure.", F::TryLater),
            (Login, "Too many simultaneous connections. (Failure)", F::TooManySessions),
            (Login, "Too many connections, try again later", F::TooManySessions),
            (Login, "Maximum number of connections from user+IP exceeded", F::TooManySessions),
            (Login, "mailbox locked by another session", F::Locked),
            (Login, "Unable to lock maildrop", F::Locked),
            (Other, "Timeout while waiting for lock", F::Locked),
            (Other, "Rate limit hit.", F::TryLater),
            (Storing, "Can't save a zero byte message", F::ContentRefused),
            (Storing, "Message contains NUL characters", F::ContentRefused),
            (Storing, "Message too large", F::TooLarge),
            (
                Storing,
                "Mail size is larger than the maximum size allowed by server configuration",
                F::TooLarge,
            ),
            (Storing, "Message size exceeds fixed maximum message size", F::TooLarge),
            (Storing, "invalid date-time", F::DateRefused),
            (Storing, "Invalid internal date", F::DateRefused),
            (Storing, "Invalid system flag \\Indexed", F::FlagRefused),
            (Storing, "Too many user flags in mailbox", F::FlagRefused),
            (Storing, "APPEND Contains Deleted flag", F::FlagRefused),
            (Other, "Mailbox doesn't exist: Work", F::NoSuchFolder),
            (Other, "Unknown Mailbox: Work (Failure)", F::NoSuchFolder),
            (Storing, "APPEND error finding folder", F::NoSuchFolder),
            (Naming, "Mailbox already exists", F::FolderExists),
            (Naming, "Mailbox exists", F::FolderExists),
            (Naming, "Duplicate folder name Work (Failure)", F::FolderExists),
            (Naming, "Folder name is reserved", F::NameReserved),
            (Naming, "Invalid mailbox name", F::NameRefused),
            (Naming, "Invalid mailbox name: Name must not have '/' characters", F::NameRefused),
            (Naming, "CREATE Folder name is too large.", F::NameRefused),
            (Naming, "Character not allowed in mailbox name: '.'", F::NameRefused),
            (Naming, "Mailbox name too long", F::NameRefused),
            (Naming, "Mailbox doesn't allow inferior mailboxes", F::NoInferiors),
            (Other, "Permission denied", F::NoPermission),
            (Other, "Access denied", F::NoPermission),
            (Other, "SELECT Unsafe Login. Please contact kefu@188.com for help", F::NeedsId),
            (Login, "mechanism not supported", F::MechanismRefused),
            (Login, "Unsupported authentication mechanism.", F::MechanismRefused),
            (Other, "Command received in Invalid state.", F::WrongState),
            (Other, "User is authenticated but not connected.", F::NotConnected),
            (Storing, "Internal error occurred. Refer to server log for more information.", F::ServerFault),
        ] {
            assert_eq!(read(asked, text).map(|meaning| meaning.code), Some(code), "{text}");
        }
    }

    #[test]
    fn words_that_mean_nothing_there_are_not_taken_for_something() {
        use Asked::{Login, Naming, Other, Storing};
        for (asked, text) in [
            (Login, "LOGIN failed."),
            (Login, "Access denied"),
            (Login, "The mailbox does not exist"),
            (Login, "The user account is locked"),
            (Storing, "APPEND failed"),
            (Naming, "CREATE failed"),
            (Other, "that name is invalid"),
            (Other, ""),
        ] {
            assert_eq!(read(asked, text), None, "{text}");
        }
    }

    #[test]
    fn every_row_can_be_reached_and_names_where_it_was_seen() {
        for row in ROWS {
            assert!(!row.seen.is_empty() && !row.words.is_empty());
            let asked = [Asked::Login, Asked::Naming, Asked::Storing, Asked::Other];
            for pattern in row.words {
                assert_eq!(pattern.to_ascii_lowercase(), **pattern, "texts are compared in lower case");
                let text = pattern.replace('*', " ");
                let found = asked.iter().any(|asked| read(*asked, &text) == Some(row.means));
                assert!(found, "a row before it takes \"{pattern}\"");
            }
        }
    }

    #[test]
    fn a_refused_login_that_names_nobody_is_not_about_the_password() {
        for text in [
            "LOGIN failed.",
            "Authentication failed",
            "Invalid credentials (Failure)",
            "incorrect password or account name",
            "Logon failure: unknown user name or bad password.",
            "AUTHENTICATE failed",
            "Access denied",
        ] {
            assert!(doubts_the_credentials(text), "{text}");
        }
        for text in ["mechanism not supported", "PLAIN is disabled", "not here", ""] {
            assert!(!doubts_the_credentials(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn reading_words_never_panics(text in ".{0,200}") {
            for asked in [Asked::Login, Asked::Naming, Asked::Storing, Asked::Other] {
                let _ = read(asked, &text);
            }
        }
    }
}
