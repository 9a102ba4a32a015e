//! How many descriptors the process may have.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// For files, databases, pipes to self-hosted servers, and whatever else is no connection of a client or to an upstream.
const OWN: u64 = 256;
/// Listeners, and the connection to an upstream that a call may need.
const EACH: u64 = 2 * 2;
/// Fewer connections than this are no service.
const FEWEST: u64 = 16;
/// Not more without need: self-hosted servers inherit the limit, and some programs try every descriptor there may be.
const ENOUGH: u64 = 1 << 16;

/// Raises the limit to what so many connections of each listener need, as far as the process may, and tells what it is.
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

/// How many connections each listener can have with so many descriptors.
pub(crate) fn connections(descriptors: u64) -> usize {
    let possible = (descriptors.saturating_sub(OWN) / EACH).max(FEWEST);
    usize::try_from(possible).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_descriptors_for_all_else() {
        for descriptors in [1024, 4096, 65_536] {
            let connections = u64::try_from(connections(descriptors)).unwrap();
            assert!(connections >= FEWEST && connections * EACH + OWN <= descriptors);
        }
        assert_eq!(connections(100), 16);
    }

    #[test]
    fn raises_to_what_is_permitted() {
        let (before, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let raised = raise(100_000);
        let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(raised, soft);
        assert_eq!(soft, before.max(hard.min(OWN + EACH * 100_000)));
    }
}
