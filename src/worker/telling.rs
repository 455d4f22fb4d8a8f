//! The news of a mailbox, and their time: pure, so that every case can be looked at.

use jiff::{SignedDuration, Timestamp};

use crate::ledger::Discrepancies;
use crate::model::address::Address;
use crate::model::failure::{Class, Failure, FailureCode};
use crate::model::progress::MessageCounts;
use crate::model::record::MailboxRecord;
use crate::plan::backoff::{jitter, wait_after};

/// The news of an attempt that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Telling {
    /// The mailbox ended for this pod, whether its mail is through or not.
    Ended,
    /// It waits here until the server wants to hear from us again; holds what is said meanwhile.
    Waiting(Box<MailboxRecord>),
    /// Nothing: it is tried again at once, or another worker carries the mailbox and reports it.
    Nothing,
}

/// The news of an attempt that ended with this record.
pub(super) fn after_attempt(mailbox: &Address, record: &MailboxRecord) -> Telling {
    let Some(failure) = &record.failure else { return Telling::Ended };
    if failure.class == Class::Conflict {
        return Telling::Nothing;
    }
    let jitter = jitter(&mailbox.to_string(), record.attempts);
    let Some(wait) = wait_after(failure, record.attempts, jitter) else { return Telling::Ended };
    if failure.class != Class::Throttled {
        return Telling::Nothing;
    }
    let wait = SignedDuration::try_from(wait).unwrap_or_default();
    let until = record.ended.and_then(|ended| ended.checked_add(wait).ok());
    let mut failure = failure.clone();
    // A pause of our own names its time already.
    if let Some(until) = until.filter(|_| !failure.is(FailureCode::LimitSpent)) {
        failure.what = format!("{}; it goes on by itself at {until:.0}", failure.what);
    }
    Telling::Waiting(Box::new(MailboxRecord { failure: Some(failure), ended: None, ..record.clone() }))
}

/// The words about a mailbox from before, which stay until there is something better to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Before {
    failure: Failure,
    ended: Timestamp,
    by: Option<String>,
}

/// The words of a mailbox's record about this very pass, if the pass was given up.
pub(super) fn given_up(record: &MailboxRecord, pass: u32) -> Option<Before> {
    if record.pass != pass {
        return None;
    }
    Some(Before { failure: record.failure.clone()?, ended: record.ended?, by: record.by.clone() })
}

/// An attempt under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attempt {
    /// The pass.
    pub(super) pass: u32,
    /// Which attempt of it.
    pub(super) number: u32,
    /// When it began.
    pub(super) started: Timestamp,
}

impl Attempt {
    /// The attempt that follows a record.
    pub(super) fn after(record: &MailboxRecord, pass: u32, started: Timestamp) -> Self {
        let number = if record.pass == pass { record.attempts + 1 } else { 1 };
        Self { pass, number, started }
    }
}

/// The news of an attempt under way. `known` is how the mailbox stood when it began.
pub(super) fn under_way(
    known: &MailboxRecord,
    attempt: &Attempt,
    before: Option<&Before>,
    (counts, discrepancies): (MessageCounts, Discrepancies),
) -> MailboxRecord {
    MailboxRecord {
        pass: attempt.pass,
        attempts: attempt.number,
        started: Some(attempt.started),
        ended: before.map(|before| before.ended),
        // The worker that gave it up is the author of the current entry; by that the operator sees that this worker has
        // not reported its own end yet.
        by: before.map_or_else(|| known.by.clone(), |before| before.by.clone()),
        failure: before.map(|before| before.failure.clone()),
        counts,
        altered: discrepancies.altered,
        changed: discrepancies.changed,
        truncated: discrepancies.truncated,
        missing: discrepancies.missing,
        ..known.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::plan::backoff::ATTEMPTS_MAX;

    fn record(class: Option<Class>, attempts: u32) -> MailboxRecord {
        MailboxRecord {
            pass: 2,
            attempts,
            ended: Some(Timestamp::UNIX_EPOCH),
            failure: class.map(|class| Failure::new(class, "it failed").wait(Duration::from_mins(2))),
            ..MailboxRecord::default()
        }
    }

    #[test]
    fn ends_are_told_and_what_is_tried_again_here_is_not() {
        let anna: Address = "anna@a.test".parse().unwrap();
        let told = |class, attempts| after_attempt(&anna, &record(class, attempts));
        assert_eq!(told(None, 1), Telling::Ended);
        for class in [Class::Credentials, Class::Configuration, Class::Quota] {
            assert_eq!(told(Some(class), 1), Telling::Ended, "{class}");
        }
        assert_eq!(told(Some(Class::Unreachable), 1), Telling::Nothing);
        assert_eq!(told(Some(Class::Unreachable), ATTEMPTS_MAX), Telling::Ended);
        for attempts in [1, ATTEMPTS_MAX, 99] {
            assert_eq!(told(Some(Class::Conflict), attempts), Telling::Nothing, "somebody else tells of it");
        }
        let Telling::Waiting(waiting) = told(Some(Class::Throttled), 9) else { panic!() };
        assert_eq!((waiting.ended, waiting.attempts), (None, 9));
        let failure = waiting.failure.unwrap();
        assert_eq!(failure.class, Class::Throttled);
        assert_eq!(failure.what, "it failed; it goes on by itself at 1970-01-01T00:02:00Z");
        let what = "enough; it goes on by itself at noon".to_owned();
        let ours = Failure { what, code: Some(FailureCode::LimitSpent), ..failure };
        let record = MailboxRecord { failure: Some(ours.clone()), ..record(None, 1) };
        let Telling::Waiting(waiting) = after_attempt(&anna, &record) else { panic!() };
        assert_eq!(waiting.failure, Some(ours), "one time is told");
    }

    #[test]
    fn what_was_said_of_this_pass_stays_while_it_is_tried_again() {
        let known = MailboxRecord { bytes_sent: 7, ..record(Some(Class::Credentials), 3) };
        let counts = MessageCounts { source: 2, copied: 1, pending: 1, ..MessageCounts::default() };
        let now = Timestamp::from_second(60).unwrap();
        let tell = |pass| {
            let (attempt, before) = (Attempt::after(&known, pass, now), given_up(&known, pass));
            under_way(
                &known,
                &attempt,
                before.as_ref(),
                (counts, Discrepancies { altered: 1, ..Discrepancies::default() }),
            )
        };
        let again = tell(2);
        assert_eq!((again.pass, again.attempts, again.started), (2, 4, Some(now)));
        assert_eq!((again.failure, again.ended), (known.failure.clone(), known.ended));
        assert_eq!((again.counts, again.altered, again.bytes_sent), (counts, 1, 7));
        let next = tell(3);
        assert_eq!((next.pass, next.attempts, next.failure, next.ended), (3, 1, None, None));
        assert_eq!(given_up(&MailboxRecord { ended: None, ..known.clone() }, 2), None, "it only waited");
    }
}
