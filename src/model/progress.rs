//! The message equation: `source = copied + excluded + failed + pending`, everywhere and always.

use std::ops::AddAssign;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::message::Verdict;
use super::text::count;

/// Messages by what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MessageCounts {
    /// Messages that the source holds or held since the first pass.
    pub source: u64,
    /// Messages that are at the destination.
    pub copied: u64,
    /// Messages that a rule of the manifest leaves out.
    pub excluded: u64,
    /// Messages that cannot be carried; each is a named row in the report.
    pub failed: u64,
    /// Messages that are still to be carried.
    pub pending: u64,
}

impl MessageCounts {
    /// Counts `n` messages with a verdict. One that its folder only shows is counted where it is.
    pub fn add(&mut self, verdict: &Verdict, n: u64) {
        if *verdict == Verdict::Shown {
            return;
        }
        self.source += n;
        match verdict {
            Verdict::Delivered | Verdict::DeliveredAltered(_) => self.copied += n,
            Verdict::Excluded(_) => self.excluded += n,
            Verdict::Quarantined(_) => self.failed += n,
            Verdict::Pending => self.pending += n,
            Verdict::Shown => {}
        }
    }

    /// Whether the equation holds; counts that come from [`Self::add`] alone always do.
    pub fn balances(&self) -> bool {
        self.source == self.copied + self.excluded + self.failed + self.pending
    }
}

impl AddAssign for MessageCounts {
    fn add_assign(&mut self, other: Self) {
        self.source += other.source;
        self.copied += other.copied;
        self.excluded += other.excluded;
        self.failed += other.failed;
        self.pending += other.pending;
    }
}

impl std::fmt::Display for MessageCounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} at the source = {} copied + {} excluded + {} failed + {} pending",
            count(self.source),
            count(self.copied),
            count(self.excluded),
            count(self.failed),
            count(self.pending)
        )
    }
}
