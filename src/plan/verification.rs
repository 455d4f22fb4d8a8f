//! Verifying once more, as `spec.trigger.verify` asks for it: which mailboxes are still to be verified, how far that has come,
//! and which of them could not be. A verification takes nothing back of what the pass came to, so it is judged beside it.

use super::decide::{Standing, Stood, place_mailbox};
use super::observed::Observed;
use crate::model::failure::Failure;
use crate::model::text::counted;

/// How far a verification has come that is not through yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verification {
    /// Mailboxes in which it was tried.
    pub tried: u32,
    /// Mailboxes whose pass is through.
    pub mailboxes: u32,
}

impl Verification {
    /// Of these mailboxes; `None` where there is nothing to verify and nobody at it.
    pub(super) fn of(wanted: &[&Stood]) -> Option<Self> {
        let through = wanted.iter().filter(|stood| stood.standing == Standing::Finished);
        let (mut open, mut mailboxes) = (0, 0);
        for stood in through {
            mailboxes += 1;
            open += u32::from(stood.is_to_be_verified || stood.verifying);
        }
        (open > 0).then(|| Self { tried: mailboxes - open, mailboxes })
    }
}

/// The mailboxes that the wanted verification was tried in and could not be made of, if there are any. It is not tried again by
/// itself, so a person must look at it.
pub(super) fn tell_unverified(wanted: &[&Stood], observed: &Observed) -> Option<Failure> {
    if observed.verification == 0 {
        return None;
    }
    let failed = wanted.iter().filter_map(|stood| {
        let record = &observed.mailboxes.get(&stood.mailbox.source)?.record;
        let is_of_it =
            stood.standing == Standing::Finished && record.verification_number == observed.verification;
        Some((*stood, record.unverified.as_ref().filter(|_| is_of_it)?))
    });
    let failed: Vec<(&Stood, &Failure)> = failed.collect();
    let (stood, first) = failed.iter().copied().reduce(|worst, next| {
        let is_worse = worst.1.class != next.1.class && worst.1.class.worse(next.1.class) == next.1.class;
        if is_worse { next } else { worst }
    })?;
    let others = match failed.len() - 1 {
        0 => String::new(),
        n => format!(", nor could {}", counted(n as u64, "other mailbox", "other mailboxes")),
    };
    let placed = place_mailbox(first, stood);
    let what = format!("it could not be verified again{others}: {}", first.what);
    let hint = match &first.hint {
        Some(hint) => format!("{hint}; then change spec.trigger.verify once more"),
        None => "change spec.trigger.verify once more to try it again".to_owned(),
    };
    Some(Failure { what, hint: Some(hint), ..placed })
}
