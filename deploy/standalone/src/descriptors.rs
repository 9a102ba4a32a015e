//! Adjusts the limit of open descriptors to the number of connections.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Descriptors for files, databases, pipes to self-hosted servers, and everything else but connections of clients and
/// to upstreams.
const OWN: u64 = 256;
/// Descriptors for a connection of each of the two listeners, with a connection to an upstream for each.
const EACH: u64 = 2 * 2;
/// The smallest number of connections of a listener.
const FEWEST: u64 = 16;
/// The limit is not raised further unless the connections require it: self-hosted servers inherit it, and some programs
/// try every possible descriptor.
const ENOUGH: u64 = 1 << 16;

/// Raises the limit to what `connections` of each listener require, or to the hard limit if that is lower. Returns the
/// limit.
pub(crate) fn raise(connections: usize) -> u64 {
    let connections = u64::try_from(connections).unwrap_or(u64::MAX);
    let (soft, hard) = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok(limits) => limits,
        Err(error) => {
            tracing::warn!(error = %error, "the limit of descriptors cannot be read");
            return 1024;
        }
    };
    let wanted = OWN
        .saturating_add(EACH.saturating_mul(connections))
        .max(ENOUGH)
        .min(hard);
    if soft >= wanted {
        return soft;
    }
    match setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) {
        Ok(()) => {
            tracing::info!(
                descriptors = wanted,
                before = soft,
                "the limit of descriptors was raised"
            );
            wanted
        }
        Err(error) => {
            tracing::warn!(error = %error, descriptors = soft, "the limit of descriptors cannot be raised");
            soft
        }
    }
}

/// How many connections each listener can have with this limit.
pub(crate) fn connections(descriptors: u64) -> usize {
    let possible = (descriptors.saturating_sub(OWN) / EACH).max(FEWEST);
    usize::try_from(possible).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_descriptors_for_everything_else() {
        for descriptors in [1024, 4096, 65_536] {
            let connections = u64::try_from(connections(descriptors)).unwrap();
            assert!(connections >= FEWEST && connections * EACH + OWN <= descriptors);
        }
        assert_eq!(connections(100), 16);
    }

    #[test]
    fn raises_up_to_the_hard_limit() {
        let (before, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let raised = raise(100_000);
        let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(raised, soft);
        assert_eq!(soft, before.max(hard.min(OWN + EACH * 100_000)));
    }
}
