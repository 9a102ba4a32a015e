//! Places at an origin, so that those who ask a slow server wait for each other and nobody waits for them.

use std::sync::Arc;

use service_kit::per_caller::PerCaller;
use tokio::sync::OwnedSemaphorePermit;

use crate::domain::authorization::servers::ServerError;

/// Requests at a time to one origin. Connections that serve so many are kept.
pub(super) const AT_A_TIME: usize = 32;
/// How many more wait for a place: as many as a server of ordinary speed answers while anybody waits.
pub(super) const WAITING: usize = 512;

#[derive(Debug)]
pub(super) struct Places {
    admitted: PerCaller,
    served: PerCaller,
}

/// Given up by dropping it.
#[derive(Debug)]
pub(super) struct Place {
    _served: OwnedSemaphorePermit,
    _admitted: OwnedSemaphorePermit,
}

impl Places {
    pub(super) fn new() -> Self {
        Self {
            admitted: PerCaller::new(AT_A_TIME + WAITING),
            served: PerCaller::new(AT_A_TIME),
        }
    }

    /// Waits for a place, unless many wait already.
    pub(super) async fn take(&self, origin: &Arc<str>) -> Result<Place, ServerError> {
        let admitted = self.admitted.of(origin).try_acquire_owned().map_err(|_full| {
            ServerError::Full(format!(
                "{WAITING} requests wait for {origin} already, so this one was not sent"
            ))
        })?;
        let served = self.served.of(origin).acquire_owned().await;
        Ok(Place {
            _served: served.expect("semaphores of callers are never closed"),
            _admitted: admitted,
        })
    }
}
