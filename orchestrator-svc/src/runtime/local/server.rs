//! The state of a supervised server, of what it is compared with, and of the fetch of its package.

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
    /// To be started.
    Waiting { digest: String, next: Next },
    /// Its bridge was started; it is not ready yet.
    Starting {
        run: Run,
        /// The start slot, with the slow one if there is one, and when they must be given up.
        slot: Option<(Slot, Option<Slot>, Instant)>,
    },
    /// Ready to be called. A restart keeps it until its successor, which has the same digest, has got a start slot: other servers may occupy the
    /// slots for long.
    Running { run: Run, next: Option<Next> },
    /// Ended; will be started again at that time.
    BackOff {
        digest: String,
        until: Instant,
        /// Whether its status says so, not that it is being started again.
        has_failed: bool,
    },
}

/// A server that is to be started.
pub(super) enum Next {
    /// Its secrets are to be drawn.
    Due,
    /// Its secrets are being drawn.
    Drawing(Drawing),
    /// It waits for a start slot.
    Queued(Box<Queued>),
}

/// A server that waits for a start slot.
pub(super) struct Queued {
    /// With the secrets.
    pub(super) launch: Launch,
    pub(super) place: Place,
    /// See `Shared::draws`.
    pub(super) drawn: Option<Slot>,
    /// See `Shared::slow_starts`.
    pub(super) slow: Option<Slot>,
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
            Self::Waiting { digest, .. } | Self::BackOff { digest, .. } => Some(digest),
            Self::Starting { run, .. } | Self::Running { run, .. } => Some(&run.digest),
        }
    }

    pub(super) fn run(&mut self) -> Option<&mut Run> {
        match self {
            Self::Starting { run, .. } | Self::Running { run, .. } => Some(run),
            _ => None,
        }
    }

    /// The server that is to be started, if one is.
    pub(super) fn next(&self) -> Option<&Next> {
        match self {
            Self::Waiting { next, .. } => Some(next),
            Self::Running { next, .. } => next.as_ref(),
            _ => None,
        }
    }

    /// Sets the server that is to be started: in place of the one that is ready, if one is, whose digest is the same.
    pub(super) fn set_next(&mut self, digest: String, to_start: Next) {
        match self {
            Self::Running { next, .. } => *next = Some(to_start),
            _ => *self = Self::Waiting { digest, next: to_start },
        }
    }

    /// Takes the server that is to be started, with its digest. Until another is set, this is to be compared with the desired state again.
    pub(super) fn take_next(&mut self) -> Option<(String, Next)> {
        match std::mem::replace(self, Self::Idle) {
            Self::Waiting { digest, next } => Some((digest, next)),
            Self::Running { run, next: Some(next) } => {
                let digest = run.digest.clone();
                *self = Self::Running {
                    run,
                    next: Some(Next::Due),
                };
                Some((digest, next))
            }
            other => {
                *self = other;
                None
            }
        }
    }
}

/// Another spec for the server that runs, whose secrets are being drawn.
pub(super) struct Comparing {
    pub(super) digest: String,
    pub(super) drawing: Drawing,
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
