//! The one failure table. A [`Failure`] says what failed, where, and what to do next; its [`Class`] decides whether to
//! try again, the exit code, the condition reason, the event and the metric label; class and [`FailureCode`] decide what it
//! spoils ([`Failure::spoils`]). Nothing else in Mailferry decides any of these, and nothing looks at the words.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text::whole_sentence;

/// The result of anything that can fail.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// The kind of a failure. The table in [`Class::row`] derives everything else from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Class {
    /// A server or a name cannot be reached for now.
    Unreachable,
    /// Somebody else is changing the same thing.
    Conflict,
    /// The server asked us to slow down.
    Throttled,
    /// The server's certificate or TLS version was refused.
    Tls,
    /// The server refused the user name or the password.
    Credentials,
    /// The server understood and will not: permission, policy, an address that is not allowed.
    Refused,
    /// The manifest, a Secret or the state directory needs a correction.
    Configuration,
    /// The destination is full.
    Quota,
    /// One message cannot be carried; everything else goes on.
    Message,
    /// The server broke its protocol.
    Protocol,
    /// Mailferry broke a promise of its own.
    Internal,
    /// Stopped from outside.
    Interrupted,
}

/// The next step after a failure, without anybody's help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Try again soon, exponentially later, with full jitter.
    Retry,
    /// Wait what the server said; this is not counted as a failure.
    Wait,
    /// Nothing will change until the manifest, a Secret or the server does.
    Stall,
    /// Stall for this mailbox alone and look again every hour.
    StallMailbox,
    /// A named row in the report; the mailbox goes on.
    Skip,
    /// Try a few times, then stall and ask for a bug report.
    RetryFew,
    /// Go on from where it stopped.
    Resume,
}

/// The use that a Kubernetes Job makes of a pod that ends with this class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobPolicy {
    /// Counts against the index's back-off limit.
    Count,
    /// Fails the index at once: trying again is useless.
    FailIndex,
    /// Is not counted at all.
    Ignore,
    /// Never ends a pod.
    Never,
}

/// One line of the failure table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The class this line is about.
    pub class: Class,
    /// The exit code of a command that ends with it; `None` where it never ends a command.
    pub exit: Option<u8>,
    /// The next step, without anybody's help.
    pub verdict: Verdict,
    /// The reason in conditions and Events.
    pub reason: &'static str,
    /// The use that the Job makes of it.
    pub job: JobPolicy,
    /// One sentence for the table in the README.
    pub meaning: &'static str,
}

const TABLE: [Row; 12] = {
    const fn row(
        class: Class,
        exit: Option<u8>,
        verdict: Verdict,
        reason: &'static str,
        job: JobPolicy,
        meaning: &'static str,
    ) -> Row {
        Row { class, exit, verdict, reason, job, meaning }
    }
    use Class as C;
    use JobPolicy as J;
    use Verdict as V;
    [
        row(
            C::Unreachable,
            Some(10),
            V::Retry,
            "Unreachable",
            J::Count,
            "A server or name could not be reached; it is tried again, later each time.",
        ),
        row(
            C::Conflict,
            Some(11),
            V::Retry,
            "Conflict",
            J::Count,
            "Another run holds the same state; it is tried again.",
        ),
        row(
            C::Throttled,
            Some(12),
            V::Wait,
            "Throttled",
            J::Count,
            "The server asked for a pause; it is waited for and not counted as a failure.",
        ),
        row(
            C::Tls,
            Some(20),
            V::Stall,
            "CertificateRejected",
            J::FailIndex,
            "A certificate or TLS version was refused before any password was sent.",
        ),
        row(
            C::Credentials,
            Some(21),
            V::Stall,
            "CredentialsRejected",
            J::FailIndex,
            "A user name or password was refused, or the mailbox is unknown to the server.",
        ),
        row(
            C::Refused,
            Some(22),
            V::Stall,
            "PermissionRefused",
            J::FailIndex,
            "The server or the policy does not allow it.",
        ),
        row(
            C::Configuration,
            Some(23),
            V::Stall,
            "InvalidConfiguration",
            J::FailIndex,
            "The manifest, a Secret or the state directory needs a correction.",
        ),
        row(
            C::Quota,
            Some(24),
            V::StallMailbox,
            "DestinationFull",
            J::FailIndex,
            "The destination mailbox is full; the others go on and this one is tried again every hour.",
        ),
        row(
            C::Message,
            Some(25),
            V::Skip,
            "MessagesFailed",
            J::Never,
            "Everything was gone through, and some messages could not be carried or are not as they arrived, which nobody acknowledged; the report names them.",
        ),
        row(
            C::Protocol,
            Some(30),
            V::RetryFew,
            "UnexpectedResponse",
            J::Count,
            "A server broke its protocol; it is tried a few times, then please report it.",
        ),
        row(
            C::Internal,
            Some(31),
            V::RetryFew,
            "InternalError",
            J::Count,
            "Mailferry broke a promise of its own; please report it.",
        ),
        row(
            C::Interrupted,
            Some(40),
            V::Resume,
            "Interrupted",
            J::Ignore,
            "Stopped from outside; the next run goes on from here.",
        ),
    ]
};

impl Class {
    /// The whole table, in the order of the exit codes.
    pub fn table() -> &'static [Row] {
        &TABLE
    }

    /// This class's line of the table.
    pub fn row(self) -> &'static Row {
        // The table lists every variant in the order of the enum; a test holds it to that.
        &TABLE[self as usize]
    }

    /// The exit code of a command that ends with this class.
    pub fn exit_code(self) -> u8 {
        self.row().exit.unwrap_or(0)
    }

    /// The condition reason and Event reason.
    pub fn reason(self) -> &'static str {
        self.row().reason
    }

    /// Whether trying again without a change from outside can help.
    pub fn is_retryable(self) -> bool {
        matches!(self.row().verdict, Verdict::Retry | Verdict::Wait | Verdict::RetryFew | Verdict::Resume)
    }

    /// Which of two classes a summary shows: what a person must mend comes before what mends itself.
    #[must_use]
    pub fn worse(self, other: Self) -> Self {
        let weight = |c: Self| match c.row().verdict {
            Verdict::Skip => 0,
            Verdict::Wait => 1,
            Verdict::Resume => 2,
            Verdict::Retry => 3,
            Verdict::StallMailbox => 4,
            Verdict::RetryFew => 5,
            Verdict::Stall => 6,
        };
        if weight(other) > weight(self) { other } else { self }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The exact word or deed of a peer, as far as it is one of the known things: kept where the answer is read, so that nobody
/// has to look into sentences later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum FailureCode {
    /// There is no such folder (NONEXISTENT, TRYCREATE).
    NoSuchFolder,
    /// A folder of this name, or of one that the server takes for the same, is there already.
    FolderExists,
    /// The server keeps the name for itself.
    NameReserved,
    /// The server cannot hold the name: its characters, its length, its depth.
    NameRefused,
    /// Nothing can be put below the folder above.
    NoInferiors,
    /// The user may not do it (NOPERM).
    NoPermission,
    /// The user was let in, and no mailbox is open to them.
    NotConnected,
    /// The mailbox, the account or its disk is full.
    Full,
    /// The message is larger than the server takes.
    TooLarge,
    /// The server does not take what is in the message: bytes or headers of a kind.
    ContentRefused,
    /// The server does not take this arrival date.
    DateRefused,
    /// The server does not take one of the flags.
    FlagRefused,
    /// Somebody else holds the mailbox (INUSE, a lock).
    Locked,
    /// There are too many sessions.
    TooManySessions,
    /// The server asks to come again later.
    TryLater,
    /// The server's limit of what an account may hand out in a day is reached.
    DaySpent,
    /// Our own limit of what is read in a day is reached; the failure says when it goes on.
    LimitSpent,
    /// The server says that it was the user name or the password (AUTHENTICATIONFAILED), and not only that it refuses.
    WrongCredentials,
    /// The server does nothing before the client has said its name (ID, RFC 2971).
    NeedsId,
    /// The server has no means for this way of logging in, or refuses it for all.
    MechanismRefused,
    /// The server does not know the command or its form (BAD).
    NotUnderstood,
    /// The command was right and came at a moment at which the server does not take it.
    WrongState,
    /// The server calls it a fault of its own (SERVERBUG).
    ServerFault,
    /// The peer said nothing for too long.
    Silent,
    /// The connection ended.
    ConnectionEnded,
    /// The session had ended before the next thing was asked for, or may have.
    SessionOver,
    /// The bytes that came are not the protocol, so that nothing on this connection can be told apart any more.
    Garbled,
    /// The source went away in the middle of a message, so that the destination could not be given the rest.
    SourceBrokeOff,
    /// The server lists the message and hands out nothing for it.
    NothingCame,
    /// The source handed out less of the message than it lists.
    CameShort,
    /// The server handed out a notice of its own in place of the message.
    NoticeCame,
    /// The server gives the folder no UIDVALIDITY, so its messages have no lasting names.
    NoLastingNames,
    /// The server counts the message and does not list it.
    NotListed,
    /// The server said that it stored the message, and does not list it.
    NotSeen,
    /// A verification no longer found the message at the destination.
    ArrivalMissing,
    /// A verification read other bytes at the destination than the source has, and nobody had said so when they arrived.
    ArrivalChanged,
    /// The destination took the message whole and keeps only a part of it.
    StoredShort,
    /// The destination stored the message with other bytes that mean the same: other line ends, lines that transport adds,
    /// another encoding, or other signs for letters beyond ASCII. A verification finds it so, or it was changed since.
    StoredAlike,
    /// Sessions end at this message, each time.
    EndsSessions,
    /// A message cannot be kept for a moment on this machine: the temporary directory is full or missing.
    NoSpool,
    /// The DNS has no such name.
    NoSuchHost,
    /// The authorization server gives no token.
    NoToken,
    /// A Secret, or what is needed of it, is missing.
    MissingSecret,
    /// A Secret logs in by another name than the plan says.
    LoginChanged,
    /// Other authorities are trusted than the plan says.
    AuthoritiesChanged,
    /// The port speaks TLS from the first byte, where a plain greeting was waited for.
    SpeaksTls,
    /// The port speaks in clear at first, where TLS was wanted from the first byte.
    SpeaksInClear,
    /// The port greets as one of another protocol.
    SpeaksAnother,
    /// A list of mailboxes has rows that cannot stand.
    BadList,
    /// The name server gave no answer or no proper one, so nothing is known of the name.
    NameUnanswered,
    /// A password was refused as often as we let it be in a day, and is not tried again.
    TriesSpent,
    /// The host is at an address of a network that the manifest does not list.
    AddressNotAllowed,
}

impl FailureCode {
    const ALL: [Self; 52] = [
        Self::NoSuchFolder,
        Self::FolderExists,
        Self::NameReserved,
        Self::NameRefused,
        Self::NoInferiors,
        Self::NoPermission,
        Self::NotConnected,
        Self::Full,
        Self::TooLarge,
        Self::ContentRefused,
        Self::DateRefused,
        Self::FlagRefused,
        Self::Locked,
        Self::TooManySessions,
        Self::TryLater,
        Self::DaySpent,
        Self::LimitSpent,
        Self::WrongCredentials,
        Self::NeedsId,
        Self::MechanismRefused,
        Self::NotUnderstood,
        Self::WrongState,
        Self::ServerFault,
        Self::Silent,
        Self::ConnectionEnded,
        Self::SessionOver,
        Self::Garbled,
        Self::SourceBrokeOff,
        Self::NothingCame,
        Self::CameShort,
        Self::NoticeCame,
        Self::NotListed,
        Self::NotSeen,
        Self::ArrivalMissing,
        Self::ArrivalChanged,
        Self::StoredShort,
        Self::StoredAlike,
        Self::NoLastingNames,
        Self::EndsSessions,
        Self::NoSpool,
        Self::NoSuchHost,
        Self::NoToken,
        Self::MissingSecret,
        Self::LoginChanged,
        Self::AuthoritiesChanged,
        Self::SpeaksTls,
        Self::SpeaksInClear,
        Self::SpeaksAnother,
        Self::BadList,
        Self::NameUnanswered,
        Self::TriesSpent,
        Self::AddressNotAllowed,
    ];

    /// The code that [`fmt::Display`] wrote; `None` for a word of a newer version.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.to_string() == word)
    }
}

impl fmt::Display for FailureCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Which end of a migration something happened at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Side {
    /// Where mail is read.
    Source,
    /// Where mail is written.
    Destination,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Destination => "destination",
        })
    }
}

/// How much a failure spoils: everything beside it goes on. Ordered from the least to the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Spoils {
    /// One message.
    Item,
    /// One folder; the session can be used for the next.
    Folder,
    /// One session; another one may go on where it was.
    Session,
    /// One mailbox, until somebody mends it.
    Mailbox,
    /// Every mailbox of the host.
    Host,
}

/// The longest wait that a server may ask for.
const ASKED_MAX: Duration = Duration::from_hours(1);

/// A thing that failed, where, and what to do next. Cheap to clone and to store, holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The class: whether to try again, and how it is told.
    pub class: Class,
    /// The exact event, where it is one of the known things.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<FailureCode>,
    /// The end that it happened at, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub side: Option<Side>,
    /// Where, outermost first: a file and line, a domain, a mailbox, a server, a folder, a UID.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub place: Vec<String>,
    /// The event, as the rest of a sentence that begins with the place.
    pub what: String,
    /// The remedy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// How long to wait before it is tried again, where somebody said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Duration>,
    /// The technical causes, outermost first; shown with `-v`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
}

/// The most bytes of a place that are shown: a server may give a folder a name of any length.
const PLACE_MAX: usize = 300;

impl Failure {
    /// A failure of a class. Text from a peer in `what` must have passed [`super::text::printable`].
    pub fn new(class: Class, what: impl Into<String>) -> Self {
        let (what, code, side) = (what.into(), None, None);
        Self { class, code, side, place: Vec::new(), what, hint: None, wait: None, causes: Vec::new() }
    }

    /// Something is wrong in what the user wrote.
    pub fn configuration(what: impl Into<String>) -> Self {
        Self::new(Class::Configuration, what)
    }

    /// A server did what its protocol forbids.
    pub fn protocol(what: impl Into<String>) -> Self {
        Self::new(Class::Protocol, what)
    }

    /// A promise of our own does not hold.
    pub fn internal(what: impl Into<String>) -> Self {
        Self::new(Class::Internal, what)
    }

    /// Says what exactly happened; the innermost code, given first, stays.
    #[must_use]
    pub fn code(mut self, code: FailureCode) -> Self {
        self.code.get_or_insert(code);
        self
    }

    /// Says at which end it happened; the innermost word, given first, stays.
    #[must_use]
    pub fn side(mut self, side: Side) -> Self {
        self.side.get_or_insert(side);
        self
    }

    /// Whether it is this exact thing.
    pub fn is(&self, code: FailureCode) -> bool {
        self.code == Some(code)
    }

    /// Whether it is likely to pass by itself: the peer asks for a pause, or broke off, or a name server has no answer for now.
    pub fn passes(&self) -> bool {
        let code = matches!(
            self.code,
            Some(
                FailureCode::NameUnanswered
                    | FailureCode::TryLater
                    | FailureCode::Locked
                    | FailureCode::TooManySessions
                    | FailureCode::DaySpent
                    | FailureCode::LimitSpent
                    | FailureCode::ConnectionEnded
                    | FailureCode::SessionOver
                    | FailureCode::Silent
            )
        );
        code || matches!(self.class, Class::Throttled | Class::Interrupted)
    }

    /// Whether nothing was done because an end of the mailbox is another than the plan says: who looks again knows it anew.
    pub fn is_off_the_plan(&self) -> bool {
        matches!(self.code, Some(FailureCode::LoginChanged | FailureCode::AuthoritiesChanged))
    }

    /// How much is spoiled, whatever is done about it: decided by class and code alone, here and nowhere else.
    pub fn spoils(&self) -> Spoils {
        match (self.class, self.code) {
            (Class::Message, _)
            | (_, Some(FailureCode::TooLarge | FailureCode::NothingCame | FailureCode::NoticeCame)) => {
                Spoils::Item
            }
            (_, Some(FailureCode::NotConnected | FailureCode::NeedsId | FailureCode::NoSpool)) => {
                Spoils::Mailbox
            }
            // The server answered; only what was asked failed.
            (
                _,
                Some(
                    FailureCode::NoSuchFolder
                    | FailureCode::FolderExists
                    | FailureCode::NameReserved
                    | FailureCode::NameRefused
                    | FailureCode::NoInferiors
                    | FailureCode::NoPermission
                    | FailureCode::NoLastingNames
                    | FailureCode::NotUnderstood
                    | FailureCode::WrongState
                    | FailureCode::ServerFault,
                ),
            )
            | (Class::Refused, _) => Spoils::Folder,
            (Class::Tls, _) => Spoils::Host,
            (Class::Unreachable | Class::Conflict | Class::Throttled | Class::Protocol, _) => Spoils::Session,
            (
                Class::Credentials
                | Class::Configuration
                | Class::Quota
                | Class::Internal
                | Class::Interrupted,
                _,
            ) => Spoils::Mailbox,
        }
    }

    /// Whether the session that it happened in can still be used.
    pub fn leaves_the_session(&self) -> bool {
        self.spoils() <= Spoils::Folder
    }

    /// Whether the server asks to come again later, which may be about what was asked alone. The rest of a day or of our
    /// own limit is about the whole account.
    pub fn asks_to_come_later(&self) -> bool {
        match self.code {
            Some(FailureCode::DaySpent | FailureCode::LimitSpent) => false,
            Some(FailureCode::TryLater | FailureCode::Locked | FailureCode::TooManySessions) => {
                self.spoils() == Spoils::Session
            }
            _ => self.class == Class::Throttled,
        }
    }

    /// Names the place around the places named so far. A folder's name comes from a peer, so places are made printable.
    #[must_use]
    pub fn at(mut self, place: impl Into<String>) -> Self {
        let place = super::text::cut(&super::text::printable(&place.into()), PLACE_MAX);
        // A folder is often called the same at both ends.
        if self.place.first() != Some(&place) {
            self.place.insert(0, place);
        }
        self
    }

    /// Says what to do next; the innermost hint, given first, stays.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert(hint.into());
        self
    }

    /// Keeps how long a server asked us to wait; an hour is the most that is accepted.
    #[must_use]
    pub fn wait(self, asked: Duration) -> Self {
        self.pause(asked.min(ASKED_MAX))
    }

    /// Keeps how long we wait of our own accord.
    #[must_use]
    pub fn pause(mut self, wait: Duration) -> Self {
        self.wait = Some(wait);
        self
    }

    /// Keeps the chain of causes for `-v`.
    #[must_use]
    pub fn caused_by(mut self, error: &(dyn std::error::Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(cause) = next {
            self.causes.push(super::text::printable(&cause.to_string()));
            next = cause.source();
        }
        self
    }

    /// The failure as one sentence without class and remedy, as conditions and report rows show it.
    pub fn sentence(&self) -> String {
        let mut sentence = self.place.join(": ");
        if !sentence.is_empty() {
            sentence.push_str(": ");
        }
        sentence.push_str(&self.what);
        sentence
    }

    /// The failure and its remedy, as whole sentences for a condition or a page. A hint that is a command stays
    /// one.
    pub fn in_full(&self) -> String {
        let mut text = self.sentence();
        // A server's own words may end as a sentence does.
        if !text.ends_with('.') {
            text.push('.');
        }
        let Some(hint) = &self.hint else { return text };
        text.push(' ');
        if ["kubectl ", "mailferry "].iter().any(|command| hint.starts_with(command)) {
            text.push_str(hint);
            return text;
        }
        text.push_str(&whole_sentence(hint));
        if !hint.ends_with(['.', '!', '?']) {
            text.push('.');
        }
        text
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.sentence())?;
        if let Some(exit) = self.class.row().exit {
            write!(f, "  [{}, exit {exit}]", self.class)?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// Adds a place to the failure of a result.
pub trait Place<T> {
    /// Names the place around the places named so far.
    fn at(self, place: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Place<T> for Result<T> {
    fn at(self, place: impl FnOnce() -> String) -> Self {
        self.map_err(|failure| failure.at(place()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_and_its_hint_are_whole_sentences() {
        let told =
            |hint: &str| Failure::new(Class::Credentials, "was refused").at("a.test").hint(hint).in_full();
        assert_eq!(
            told("correct the Secret, or wait a day"),
            "a.test: was refused. Correct the Secret, or wait a day."
        );
        assert_eq!(told("Is it there?"), "a.test: was refused. Is it there?");
        let quoted = Failure::new(Class::Credentials, "refused LOGIN: Go away.");
        assert_eq!(quoted.in_full(), "refused LOGIN: Go away.");
        assert_eq!(told("kubectl get secret a"), "a.test: was refused. kubectl get secret a");
        assert_eq!(Failure::internal("it broke").in_full(), "it broke.");
    }

    #[test]
    fn the_table_has_one_line_for_each_class_in_order() {
        for (at, row) in Class::table().iter().enumerate() {
            assert_eq!(row.class as usize, at, "{:?} stands in the wrong line", row.class);
        }
        let mut exits: Vec<_> = Class::table().iter().filter_map(|r| r.exit).collect();
        let sorted = exits.clone();
        exits.sort_unstable();
        exits.dedup();
        assert_eq!(exits, sorted, "exit codes are unique and ascending");
    }

    #[test]
    fn a_failure_reads_as_place_what_class_and_remedy() {
        let failure = Failure::new(Class::Tls, "refused")
            .hint("mend it")
            .hint("an outer, vaguer hint")
            .at("pop.shop.example:995")
            .at("shop.example");
        assert_eq!(
            failure.to_string(),
            "shop.example: pop.shop.example:995: refused  [Tls, exit 20]\n  hint: mend it"
        );
    }

    #[test]
    fn a_folder_cannot_write_to_a_terminal_through_its_name() {
        let failure = Failure::new(Class::Refused, "refused").at("Evil\u{1b}[2J\nerror: fake");
        assert_eq!(failure.sentence(), "Evil\\u{1b}[2J\\u{a}error: fake: refused");
    }

    #[test]
    fn class_and_code_decide_what_is_spoiled() {
        use Spoils::{Folder, Host, Item, Mailbox, Session};
        for (class, code, spoils) in [
            (Class::Message, None, Item),
            (Class::Message, Some(FailureCode::TooLarge), Item),
            (Class::Refused, None, Folder),
            (Class::Refused, Some(FailureCode::NoPermission), Folder),
            (Class::Refused, Some(FailureCode::NotConnected), Mailbox),
            (Class::Protocol, Some(FailureCode::NotUnderstood), Folder),
            (Class::Protocol, Some(FailureCode::ServerFault), Folder),
            (Class::Protocol, Some(FailureCode::Garbled), Session),
            (Class::Protocol, None, Session),
            (Class::Unreachable, Some(FailureCode::Silent), Session),
            (Class::Throttled, None, Session),
            (Class::Quota, Some(FailureCode::Full), Mailbox),
            (Class::Refused, Some(FailureCode::NeedsId), Mailbox),
            (Class::Credentials, None, Mailbox),
            (Class::Configuration, Some(FailureCode::NoSpool), Mailbox),
            (Class::Tls, None, Host),
        ] {
            let failure = Failure { code, ..Failure::new(class, "") };
            assert_eq!(failure.spoils(), spoils, "{class:?} {code:?}");
        }
    }

    #[test]
    fn every_code_is_read_back_by_its_word() {
        for code in FailureCode::ALL {
            assert_eq!(FailureCode::from_word(&code.to_string()), Some(code));
        }
        assert_eq!(
            FailureCode::ALL.iter().collect::<std::collections::BTreeSet<_>>().len(),
            FailureCode::ALL.len()
        );
    }

    #[test]
    fn what_a_person_must_mend_outranks_what_mends_itself() {
        assert_eq!(Class::Unreachable.worse(Class::Credentials), Class::Credentials);
        assert_eq!(Class::Credentials.worse(Class::Throttled), Class::Credentials);
    }
}
