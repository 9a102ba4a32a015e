//! The state of a supervised server, and of the fetch of its package.

use std::path::PathBuf;

use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use super::{bridge::Bridge, packages::Fetch};

/// The state of a server. It has processes only in `Starting` and `Running`.
pub(super) enum Server {
    /// To be compared with the desired state.
    Idle,
    /// Must not run.
    Held,
    /// Waits for a start slot.
    Queued { digest: String },
    /// Its bridge was started; it is not ready yet.
    Starting {
        run: Run,
        /// The start slot, and when it must be given up.
        place: Option<(OwnedSemaphorePermit, Instant)>,
    },
    /// Ready to be called.
    Running { run: Run },
    /// Failed; will be started again at that time.
    BackOff { digest: String, until: Instant },
}

/// A server that was started.
pub(super) struct Run {
    pub(super) bridge: Bridge,
    pub(super) socket: PathBuf,
    pub(super) digest: String,
    pub(super) fingerprint: [u8; 32],
    /// Microseconds since 1970.
    pub(super) started: i64,
}

impl Server {
    /// The digest of the spec that runs, or will.
    pub(super) fn digest(&self) -> Option<&str> {
        match self {
            Self::Idle | Self::Held => None,
            Self::Queued { digest } | Self::BackOff { digest, .. } => Some(digest),
            Self::Starting { run, .. } | Self::Running { run } => Some(&run.digest),
        }
    }

    pub(super) fn run(&mut self) -> Option<&mut Run> {
        match self {
            Self::Starting { run, .. } | Self::Running { run } => Some(run),
            _ => None,
        }
    }
}

/// A fetch in progress.
pub(super) struct Fetching {
    pub(super) fetch: Fetch,
    /// Whether it fetches the newest versions instead of the pinned ones.
    pub(super) anew: bool,
    /// Microseconds since 1970.
    pub(super) started: i64,
    /// `None` while it waits for a slot.
    pub(super) running: Option<Running>,
}

/// A running step of a fetch.
pub(super) struct Running {
    pub(super) bridge: Bridge,
    /// The fetch slot.
    #[expect(dead_code, reason = "dropping it frees the slot")]
    pub(super) place: OwnedSemaphorePermit,
}
