//! The one failure table. A [`Failure`] says what failed, where, and what to do next; its [`Class`] decides whether to
//! try again, the exit code, the condition reason, the event and the metric label. Nothing else in Mailferry decides
//! any of these.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The result of anything that can fail.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// What kind of failure this is. The table in [`Class::row`] derives everything else from it.
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

/// What is done about a failure without anybody's help.
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

/// What a Kubernetes Job makes of a pod that ends with this class.
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
    /// What happens next without anybody's help.
    pub verdict: Verdict,
    /// The reason in conditions and Events.
    pub reason: &'static str,
    /// What the Job makes of it.
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
            None,
            V::Skip,
            "MessageRefused",
            J::Never,
            "One message could not be carried; it is a named row in the report and stops nothing.",
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

/// The longest wait that a server may ask for.
const ASKED_MAX: Duration = Duration::from_hours(1);

/// What failed, where, and what to do next. Cheap to clone and to store, holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The class; everything that is decided about the failure follows from it.
    pub class: Class,
    /// Where, outermost first: a file and line, a domain, a mailbox, a server, a folder, a UID.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub place: Vec<String>,
    /// What happened, as the rest of a sentence that begins with the place.
    pub what: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// How long to wait before it is tried again, where somebody said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Duration>,
    /// The technical causes, outermost first; shown with `-v`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
}

impl Failure {
    /// A failure of a class. Text from a peer in `what` must have passed [`super::text::printable`].
    pub fn new(class: Class, what: impl Into<String>) -> Self {
        Self { class, place: Vec::new(), what: what.into(), hint: None, wait: None, causes: Vec::new() }
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

    /// Names the place around the places named so far. A folder's name comes from a peer, so places are made printable.
    #[must_use]
    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.place.insert(0, super::text::printable(&place.into()));
        self
    }

    /// Says what to do next; the innermost hint, given first, stays.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert(hint.into());
        self
    }

    /// Keeps how long a server asked us to wait; an hour is the most that is believed.
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

    /// What failed and what to do about it, as whole sentences for a condition or a page. A hint that is a command stays
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
        let mut letters = hint.chars();
        text.extend(letters.next().into_iter().flat_map(char::to_uppercase));
        text.push_str(letters.as_str());
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
    fn what_a_person_must_mend_outranks_what_mends_itself() {
        assert_eq!(Class::Unreachable.worse(Class::Credentials), Class::Credentials);
        assert_eq!(Class::Credentials.worse(Class::Throttled), Class::Credentials);
    }
}
