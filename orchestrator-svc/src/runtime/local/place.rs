//! Places in the queues for slots. Whoever came first is served first.

use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A slot. It is free again when this is dropped.
pub(super) type Slot = OwnedSemaphorePermit;

/// A place in the queue for a slot. It is given up when this is dropped.
pub(super) struct Place(BoxFuture<'static, Slot>);

impl Place {
    pub(super) fn new(slots: &Arc<Semaphore>) -> Self {
        Self::of(acquire(Arc::clone(slots)))
    }

    /// A place of whoever gets the slot that `waiting` waits for.
    pub(super) fn of(waiting: impl Future<Output = Slot> + Send + 'static) -> Self {
        Self(Box::pin(waiting))
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

pub(super) async fn acquire(slots: Arc<Semaphore>) -> Slot {
    let slot = slots.acquire_owned().await;
    slot.unwrap_or_else(|_| unreachable!("the semaphore is never closed"))
}
