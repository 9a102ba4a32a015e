//! How far a supervised server is, and the fetch of its package.

use std::path::PathBuf;

use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use super::{bridge::Bridge, packages::Fetch};

/// How far the server is. Nothing of it runs but in `Starting` and `Running`.
pub(super) enum Server {
    /// To be looked at.
    Idle,
    /// Nothing should run.
    Held,
    /// Waits for a place among those that start.
    Queued { digest: String },
    /// Its bridge was started.
    Starting {
        run: Run,
        /// Its place, until then.
        place: Option<(OwnedSemaphorePermit, Instant)>,
    },
    /// It can be called.
    Running { run: Run },
    /// It failed, and is started again then.
    BackOff { digest: String, until: Instant },
}

/// A process.
pub(super) struct Run {
    pub(super) bridge: Bridge,
    pub(super) socket: PathBuf,
    pub(super) digest: String,
    pub(super) fingerprint: [u8; 32],
    /// Microseconds since 1970.
    pub(super) started: i64,
}

impl Server {
    /// Of what runs, or is about to.
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

/// A fetch under way.
pub(super) struct Fetching {
    pub(super) fetch: Fetch,
    /// Whether it is of the newest versions.
    pub(super) anew: bool,
    /// Microseconds since 1970.
    pub(super) started: i64,
    /// `None` while it waits for a place.
    pub(super) running: Option<Running>,
}

/// One step of it.
pub(super) struct Running {
    pub(super) bridge: Bridge,
    /// Its place among those that fetch.
    #[expect(dead_code, reason = "it is given up when this is dropped")]
    pub(super) place: OwnedSemaphorePermit,
}
