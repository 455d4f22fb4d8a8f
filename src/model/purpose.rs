//! The purpose of work on a mailbox.

use serde::{Deserialize, Serialize};

/// The purpose of going through a mailbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Purpose {
    /// To carry what is not at the destination yet: a pass.
    #[default]
    Delta,
    /// To hold both sides against each other once more, after a pass that is through. Nothing is carried.
    Verify,
}
