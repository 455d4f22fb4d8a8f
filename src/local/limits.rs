//! The limits of the operating system on what this process has at a time. Each connection and each file is a descriptor, and a shell may
//! give no more than 256 of them; what is begun at once is bounded by that, so that nothing fails for want of one.

/// Descriptors that looking at one domain may take: questions to name servers and web sites, probes and logins at once.
const EACH_DISCOVERY: u64 = 48;
/// Descriptors that are left to everything else: the store, the ledgers, the runtime and the streams.
const KEPT: u64 = 64;
/// The most domains that are looked at at once.
const DISCOVERIES_MAX: u64 = 16;

/// How many domains may be looked at at once. The process first takes as many descriptors as it may have.
pub(super) fn discoveries_at_once() -> usize {
    usize::try_from(discoveries_within(raise())).unwrap_or(1)
}

fn discoveries_within(descriptors: u64) -> u64 {
    (descriptors.saturating_sub(KEPT) / EACH_DISCOVERY).clamp(1, DISCOVERIES_MAX)
}

/// How many descriptors the process may have, once it has taken what it may.
#[cfg(unix)]
fn raise() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    /// Nobody here needs more.
    const WANTED: u64 = 65_536;
    let limit = getrlimit(Resource::Nofile);
    // A missing limit is unlimited.
    let (current, most) = (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX));
    let wanted = most.min(WANTED).max(current);
    if wanted > current && setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit }).is_err() {
        return current;
    }
    wanted
}

#[cfg(not(unix))]
fn raise() -> u64 {
    512
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_begun_at_once_fits_the_descriptors() {
        for (descriptors, wanted) in [(32, 1), (64, 1), (256, 4), (1_024, 16), (u64::MAX, 16)] {
            assert_eq!(discoveries_within(descriptors), wanted, "{descriptors}");
        }
        assert!(discoveries_at_once() >= 1);
    }
}
