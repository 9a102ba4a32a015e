//! The queues for slots. Whoever came first is served first.

use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A slot. It is free again when this is dropped.
pub(super) type Slot = OwnedSemaphorePermit;

/// A place in the queue for a slot. It is given up when this is dropped.
pub(super) struct Place(BoxFuture<'static, Slot>);

impl Place {
    pub(super) fn new(slots: &Arc<Semaphore>) -> Self {
        Self(Box::pin(acquire(Arc::clone(slots))))
    }

    /// Waits for the slot, which comes once. The place is kept when the returned future is dropped.
    pub(super) async fn slot(&mut self) -> Slot {
        (&mut self.0).await
    }
}

/// A slot of a semaphore, if there is one.
pub(super) async fn acquire_if(slots: Option<Arc<Semaphore>>) -> Option<Slot> {
    match slots {
        Some(slots) => Some(acquire(slots).await),
        None => None,
    }
}

async fn acquire(slots: Arc<Semaphore>) -> Slot {
    let slot = slots.acquire_owned().await;
    slot.unwrap_or_else(|_| unreachable!("the semaphore is never closed"))
}
