//! The state of a supervised server, and of the fetch of its package.

use std::path::PathBuf;

use tokio::time::Instant;

use super::{
    bridge::Bridge,
    drawing::Drawing,
    packages::Fetch,
    place::{Place, Slot},
};
use crate::domain::spec::Launch;

/// The state of a server. It has processes only in `Starting` and `Running`.
pub(super) enum Server {
    /// To be compared with the desired state.
    Idle,
    /// Must not run.
    Held,
    /// Its secrets are being drawn.
    Drawing { digest: String, drawing: Drawing },
    /// Waits for a start slot.
    Queued {
        digest: String,
        /// With the secrets.
        launch: Launch,
        place: Place,
        /// See `Shared::draws`.
        #[expect(dead_code, reason = "dropping it frees the slot")]
        drawn: Option<Slot>,
    },
    /// Its bridge was started; it is not ready yet.
    Starting {
        run: Run,
        /// The start slot, and when it must be given up.
        slot: Option<(Slot, Instant)>,
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
            Self::Drawing { digest, .. } | Self::Queued { digest, .. } | Self::BackOff { digest, .. } => Some(digest),
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
    pub(super) is_update: bool,
    /// Microseconds since 1970.
    pub(super) started: i64,
    pub(super) step: Step,
}

/// The present step of a fetch.
pub(super) enum Step {
    /// Waits for a fetch slot.
    Queued(Place),
    Running {
        bridge: Box<Bridge>,
        #[expect(dead_code, reason = "dropping it frees the slot")]
        slot: Slot,
    },
}
