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

/// Adds installations to the queue when dropped, unless they were reported: whatever happens in between, nothing is lost.
#[derive(Debug)]
pub(crate) struct Owed {
    queue: Arc<Queue>,
    installations: Vec<String>,
}

impl Owed {
    pub(crate) fn new(queue: &Arc<Queue>, installations: Vec<String>) -> Self {
        Self {
            queue: Arc::clone(queue),
            installations,
        }
    }

    pub(crate) fn installations(&self) -> &[String] {
        &self.installations
    }

    /// All were reported.
    pub(crate) fn settle(mut self) {
        self.installations.clear();
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        if !self.installations.is_empty() {
            self.queue.add(self.installations.drain(..).map(Owner::Installation));
        }
    }
}
