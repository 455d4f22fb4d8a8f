//! The conditions of a status, after kstatus: `Ready`, `Reconciling` and `Stalled`, and positive facts beside them. They
//! are written whole from facts each time, and `lastTransitionTime` moves only when a condition's status changes.

use std::fmt;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::model::failure::Class;
use crate::model::text::{cut, whole_sentence};

/// The longest message of a condition, in bytes. Kubernetes would take 32 KiB.
pub const MESSAGE_MAX: usize = 1024;

macro_rules! words {
    ($(#[doc = $about:literal])+ $name:ident { $($(#[doc = $meaning:literal])+ $word:ident,)+ }) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[doc = $meaning])+ $word,)+ }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$word),+];

            /// The word as a status writes it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$word => stringify!($word)),+ }
            }

            /// When it applies, in one sentence.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$word => concat!($($meaning),+).trim_ascii()),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// The types of condition.
    Type {
        /// The wanted stage is reached and nothing is left to do.
        Ready,
        /// Work is going on or is about to; it stands only while it is true.
        Reconciling,
        /// Nothing goes on until a person changes something; it stands only while it is true.
        Stalled,
        /// Every domain was looked at and every mailbox has a protocol or a finding.
        Discovered,
        /// Every password that was tried was accepted.
        CredentialsAccepted,
        /// A critical finding waits to be mended or acknowledged.
        ReviewRequired,
        /// Every message at the source is copied, excluded or named as failed, as of the last pass.
        Synced,
        /// Every arrival was checked as deep as the policy asks, and is right.
        Verified,
        /// Nothing speaks against moving the domain over.
        CutoverSafe,
    }
}

words! {
    /// The reasons of conditions that are not a failure; a failure's reason is that of its class.
    Reason {
        /// It is done.
        Succeeded,
        /// It was not begun yet.
        NotStarted,
        /// It is going on.
        InProgress,
        /// It waits until an earlier step is done.
        Waiting,
        /// No window of spec.schedule.windows is open.
        WindowClosed,
        /// The stage that the spec asks for does not go so far.
        StageNotReached,
        /// The spec says suspend.
        Suspended,
        /// A critical finding holds it.
        FindingsOpen,
        /// No finding that holds the cutover is open.
        NothingToReview,
        /// The approved plan is not the current plan.
        PlanNotApproved,
        /// Some mailboxes stopped; the others went on.
        MailboxesFailed,
        /// The pilot is through; the rest waits until the pilot is taken out of the spec.
        PilotOnly,
        /// Some arrivals are missing or differ; the report names them.
        Differences,
        /// No node takes a worker's pod.
        PodUnschedulable,
        /// The image of the workers cannot be had.
        ImagePullFailed,
        /// A worker's pod cannot be started.
        PodNotStarted,
        /// The cluster does not let a worker's pod be made.
        PodRefused,
        /// Pods of another migration of this name are still there, and may still be sending.
        ForeignPodRuns,
        /// The cluster refuses an object that the migration is made of, or somebody else's stands under its name.
        ClusterRefuses,
        /// Discovery waits for one of the places that the namespace has.
        WaitsForPlace,
        /// A worker was ended because it used more memory than it may.
        WorkerOutOfMemory,
        /// A worker was killed, and the cluster does not say why; want of memory is most likely.
        WorkerKilled,
        /// A worker's pod was moved off its node.
        WorkerEvicted,
    }
}

/// The state of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It is not known yet.
    Unknown,
}

impl State {
    /// The word as a status writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for State {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// One fact that becomes a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// The subject.
    pub kind: Type,
    /// Whether it holds.
    pub state: State,
    /// One `UpperCamelCase` word.
    pub reason: &'static str,
    /// Whole sentences with the remedy.
    pub message: String,
}

impl Fact {
    /// A fact with one of our own reasons.
    pub fn new(kind: Type, state: impl Into<State>, reason: Reason, message: impl Into<String>) -> Self {
        Self { kind, state: state.into(), reason: reason.as_str(), message: message.into() }
    }

    /// A fact whose reason is the class of a failure.
    pub fn failed(kind: Type, state: impl Into<State>, class: Class, message: impl Into<String>) -> Self {
        Self { kind, state: state.into(), reason: class.reason(), message: message.into() }
    }
}

/// The conditions that follow from `facts`, in their order. A condition keeps its transition time from `before` unless
/// its status changed; conditions that no fact is about are gone.
pub fn set(before: &[Condition], facts: &[Fact], generation: Option<i64>, now: Timestamp) -> Vec<Condition> {
    facts
        .iter()
        .map(|fact| {
            let same =
                before.iter().find(|c| c.type_ == fact.kind.as_str() && c.status == fact.state.as_str());
            Condition {
                type_: fact.kind.as_str().to_owned(),
                status: fact.state.as_str().to_owned(),
                reason: fact.reason.to_owned(),
                message: cut(&whole_sentence(&fact.message), MESSAGE_MAX),
                observed_generation: generation,
                last_transition_time: same
                    .map_or_else(|| Time(whole_second(now)), |c| c.last_transition_time.clone()),
            }
        })
        .collect()
}

/// Kubernetes keeps whole seconds; keeping more here would make every comparison with what was stored differ.
fn whole_second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// Questions to a list of conditions.
pub trait Conditions {
    /// The condition of a type.
    fn of(&self, kind: Type) -> Option<&Condition>;

    /// Whether a condition is there and `True`.
    fn holds(&self, kind: Type) -> bool {
        self.of(kind).is_some_and(|condition| condition.status == State::True.as_str())
    }
}

impl Conditions for [Condition] {
    fn of(&self, kind: Type) -> Option<&Condition> {
        self.iter().find(|condition| condition.type_ == kind.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let fact = |state, message: &str| Fact::new(Type::Synced, state, Reason::InProgress, message);
        let first = set(&[], &[fact(State::False, "1 of 2")], Some(1), at(10));
        let same = set(&first, &[fact(State::False, "2 of 2")], Some(2), at(20));
        assert_eq!(same[0].last_transition_time, first[0].last_transition_time);
        assert_eq!((same[0].message.as_str(), same[0].observed_generation), ("2 of 2", Some(2)));
        let changed = set(&same, &[fact(State::True, "done")], Some(2), at(30));
        assert_eq!(changed[0].last_transition_time, Time(at(30)));
        assert!(changed.holds(Type::Synced) && !changed.holds(Type::Ready));
        // A failure's words go on behind its place; a condition's message is complete by itself.
        assert_eq!(changed[0].message, "Done");
    }

    #[test]
    fn a_condition_without_a_fact_is_gone_and_fractions_of_a_second_are_not_kept() {
        let stalled = Fact::failed(Type::Stalled, true, Class::Tls, "x".repeat(5000));
        let moment: Timestamp = "2026-01-02T03:04:05.678Z".parse().unwrap();
        let before = set(&[], &[stalled], None, moment);
        assert_eq!(before[0].last_transition_time, Time("2026-01-02T03:04:05Z".parse().unwrap()));
        assert_eq!(
            (before[0].reason.as_str(), before[0].message.len()),
            ("CertificateRejected", MESSAGE_MAX)
        );
        assert!(set(&before, &[], None, moment).is_empty());
    }

    #[test]
    fn every_word_is_explained_by_a_sentence() {
        for meaning in Type::ALL.iter().map(|t| t.meaning()).chain(Reason::ALL.iter().map(|r| r.meaning())) {
            assert!(meaning.ends_with('.') && !meaning.starts_with(' '), "{meaning}");
        }
    }
}
