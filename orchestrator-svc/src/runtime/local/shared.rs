//! What all supervisors use.

use std::sync::Arc;

use service_kit::Clock;
use tokio::sync::Semaphore;

use super::machine::Machine;
use crate::{config::Backoff, runtime::observations::Observations};

/// Of one runtime.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) machine: Arc<Machine>,
    pub(super) statuses: Observations,
    pub(super) clock: Clock,
    pub(super) backoff: Backoff,
    /// Servers that may start at a time: more would take the processor from each other until none is ready in time.
    pub(super) starts: Arc<Semaphore>,
    pub(super) fetches: Arc<Semaphore>,
}
