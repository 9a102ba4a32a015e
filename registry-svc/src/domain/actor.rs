//! Who makes a change.

use std::fmt;

use service_kit::Workload;

/// Who makes a change: every writing transaction knows it, and the change log keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Actor {
    /// A person: the id in `users/{user}`.
    User(String),
    /// A workload that reports.
    Workload(Workload),
    /// The registry itself: rollouts, expiry, cleanup.
    Registry,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(uid) => write!(f, "users/{uid}"),
            Self::Workload(workload) => write!(f, "workloads/{}", workload.name()),
            Self::Registry => f.write_str("registry"),
        }
    }
}
