//! Grades of proof.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much a signal proves; `A` is the best. A protocol is selectable at A, recommended at B, suspected below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Grade {
    /// An authenticated session listed data.
    A,
    /// A protocol greeting, capability or challenge answered.
    B,
    /// Published configuration says so: SRV, autoconfig, the manifest.
    C,
    /// A hint: MX, SPF, a usual name, the names on a certificate.
    D,
}

impl fmt::Display for Grade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
