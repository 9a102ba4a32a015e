//! Draws the secrets of a server before it waits for a start slot, so that a source that does not answer occupies none.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::{
    place::{Slot, acquire_if},
    shared::Shared,
};
use crate::domain::spec::{DrawError, Secrets, ServerSpec};

/// Secrets that are being drawn.
pub(super) struct Drawing(BoxFuture<'static, Drawn>);

/// The outcome.
pub(super) struct Drawn {
    pub(super) spec: Arc<ServerSpec>,
    pub(super) secrets: Result<Secrets, DrawError>,
    /// To be kept until the server is started; `None` for a server without secrets, which draws none.
    pub(super) slot: Option<Slot>,
    /// See `Shared::slow_starts`. It is waited for first: who waits for it must not occupy one of the slots for draws.
    pub(super) slow: Option<Slot>,
}

impl Drawing {
    pub(super) fn new(spec: Arc<ServerSpec>, shared: &Shared, is_slow: bool) -> Self {
        let slow_starts = is_slow.then(|| Arc::clone(&shared.slow_starts));
        let slots = spec.requires_secrets().then(|| Arc::clone(&shared.draws));
        Self(Box::pin(async move {
            let slow = acquire_if(slow_starts).await;
            let slot = acquire_if(slots).await;
            let secrets = spec.secrets.draw().await;
            Drawn {
                spec,
                secrets,
                slot,
                slow,
            }
        }))
    }

    /// Waits for the outcome, which comes once. The draw continues when the returned future is dropped.
    pub(super) async fn drawn(&mut self) -> Drawn {
        (&mut self.0).await
    }
}
