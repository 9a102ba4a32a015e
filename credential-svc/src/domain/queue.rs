//! The owners that are to be reconciled.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::owner::Owner;

/// A set of owners: adding one twice is the same as adding it once.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    added: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    now: BTreeSet<Owner>,
    /// With the time when each is due (microseconds since 1970).
    later: BTreeSet<(i64, Owner)>,
}

impl Queue {
    pub(crate) fn add(&self, owners: impl IntoIterator<Item = Owner>) {
        self.waiting().now.extend(owners);
        self.added.notify_one();
    }

    /// Adds an owner whose state changes by itself at this time (microseconds since 1970).
    pub(crate) fn add_at(&self, time: i64, owner: Owner) {
        if self.waiting().later.insert((time, owner)) {
            self.added.notify_one();
        }
    }

    /// Takes all owners out of the queue that are due at the time `now`.
    pub(crate) fn take(&self, now: i64) -> BTreeSet<Owner> {
        let mut waiting = self.waiting();
        let mut due = std::mem::take(&mut waiting.now);
        while waiting.later.first().is_some_and(|(time, _)| *time <= now) {
            due.extend(waiting.later.pop_first().map(|(_, owner)| owner));
        }
        due
    }

    /// When the next one is due (microseconds since 1970) of those that were not when they were added.
    pub(crate) fn due(&self) -> Option<i64> {
        self.waiting().later.first().map(|(time, _)| *time)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_taken_when_it_is_due() {
        let queue = Queue::default();
        let owner = |uid: &str| Owner::Installation(uid.to_owned());
        queue.add([owner("a")]);
        for (time, uid) in [(20, "c"), (10, "b"), (10, "a"), (20, "c")] {
            queue.add_at(time, owner(uid));
        }
        assert_eq!(queue.due(), Some(10));
        for (now, due, next) in [
            (9, vec!["a"], Some(10)),
            (10, vec!["a", "b"], Some(20)),
            (30, vec!["c"], None),
        ] {
            assert_eq!(queue.take(now), due.into_iter().map(owner).collect());
            assert_eq!(queue.due(), next);
        }
    }
}
