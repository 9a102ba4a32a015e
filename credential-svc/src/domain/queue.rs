//! What is still to be reported.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::Notify;

use super::owner::Owner;

/// A set of owners to look at again. To add one twice is to add it once.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: Mutex<BTreeSet<Owner>>,
    added: Notify,
}

impl Queue {
    pub(crate) fn add(&self, owners: impl IntoIterator<Item = Owner>) {
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(owners);
        self.added.notify_one();
    }

    /// Everything that waits; empty if nothing does.
    pub(crate) fn take(&self) -> BTreeSet<Owner> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns after something was added since the last return.
    pub(crate) async fn added(&self) {
        self.added.notified().await;
    }
}

/// Adds its owner to the queue when dropped, unless that was reported: whatever happens in between, nothing is lost.
#[derive(Debug)]
pub(crate) struct Owed {
    queue: Arc<Queue>,
    owner: Option<Owner>,
}

impl Owed {
    pub(crate) fn new(queue: &Arc<Queue>, owner: Owner) -> Self {
        Self {
            queue: Arc::clone(queue),
            owner: Some(owner),
        }
    }

    /// It was reported.
    pub(crate) fn settle(mut self) {
        self.owner = None;
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        if let Some(owner) = self.owner.take() {
            self.queue.add([owner]);
        }
    }
}
