//! Decides from facts which steps to take: `decide(migration, observed, now)` is pure and total, so every combination
//! of facts has an answer that a test can look at. Nothing here waits, reads the clock or knows a platform.

mod advice;
pub mod backoff;
pub mod checklist;
pub mod decide;
pub mod document;
pub mod findings;
mod judgement;
pub mod mailboxes;
pub mod observed;
pub mod pass;
pub mod proof;
pub mod records;
mod room;
pub mod schedule;
pub mod status;
#[cfg(test)]
mod tests;
pub mod unmatched;
pub mod verification;

pub use decide::{Decision, Ending, REVIEW, Step, decide, interrupted};
pub use observed::{Discovered, DomainObserved, MailboxObserved, Observed, Obstacle, Patience};
