//! What is still to be reported.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::Notify;

use super::record::Owner;

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

/// Adds owners to the queue when dropped, unless their report was made: a caller who goes away in between loses nothing.
#[derive(Debug)]
pub(crate) struct Owed {
    queue: Arc<Queue>,
    owners: Vec<Owner>,
}

impl Owed {
    pub(crate) fn new(queue: &Arc<Queue>, owners: Vec<Owner>) -> Self {
        Self {
            queue: Arc::clone(queue),
            owners,
        }
    }

    /// All reports were made.
    pub(crate) fn settle(mut self) {
        self.owners.clear();
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        if !self.owners.is_empty() {
            self.queue.add(self.owners.drain(..));
        }
    }
}
