//! The state that all supervisors share.

use std::{sync::Arc, time::Duration};

use service_kit::Clock;
use tokio::sync::Semaphore;

use super::{machine::Machine, start_slots::StartSlots};
use crate::{config::Backoff, runtime::observations::Observations};

/// The shared state of a local runtime.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) machine: Arc<Machine>,
    pub(super) statuses: Observations,
    pub(super) clock: Clock,
    pub(super) backoff: Backoff,
    /// Slots for servers that are starting. If too many started at a time, none would get enough of the processor to be ready in time.
    pub(super) starts: StartSlots,
    /// Fewer than `starts`. A server whose last start failed after it had used up its slot requires one of these too: servers that never become
    /// ready leave slots to the others.
    pub(super) slow_starts: Arc<Semaphore>,
    /// How long a starting server occupies a slot.
    pub(super) start: Duration,
    /// How long it may have waited before, with the slot, for the end of its predecessor. Calls that take longer to end must not keep others from
    /// starting.
    pub(super) drain: Duration,
    /// Slots for servers whose secrets are being drawn, or were drawn and wait for a start slot: so many secrets are in memory before they are used.
    pub(super) draws: Arc<Semaphore>,
    pub(super) fetches: Arc<Semaphore>,
}
