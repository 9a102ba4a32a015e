//! The owners that are to be reconciled.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::Notify;

use super::owner::Owner;

/// A set of owners: adding one twice is the same as adding it once.
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

    /// Takes all owners out of the queue.
    pub(crate) fn take(&self) -> BTreeSet<Owner> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until an owner was added since this last returned.
    pub(crate) async fn added(&self) {
        self.added.notified().await;
    }
}

/// Adds its owner to the queue when dropped, unless settled: a report that is due is not lost if its call fails or is cancelled.
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

    /// The owner was reported.
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
