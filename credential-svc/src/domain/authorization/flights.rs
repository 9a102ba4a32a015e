//! In one process, one attempt at a time to get another token for an owner; all callers wait for the same.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};

use tokio_util::task::TaskTracker;

use crate::domain::owner::Owner;

/// Ends when the attempt has ended, however.
pub(super) type Flight = Shared<BoxFuture<'static, ()>>;

/// By owner.
#[derive(Debug, Default)]
pub(super) struct Flights {
    of: Arc<Mutex<HashMap<Owner, Flight>>>,
    tasks: TaskTracker,
}

impl Flights {
    /// The attempts are among these tasks, for which the service waits when it stops.
    pub(super) fn among(tasks: TaskTracker) -> Self {
        Self {
            of: Arc::default(),
            tasks,
        }
    }

    /// The attempt that is under way, or the one that `start` begins. It is completed even if nobody waits for it any more: its outcome
    /// may be a token that nobody else can get.
    pub(super) fn join<F: Future<Output = ()> + Send + 'static>(
        &self,
        owner: &Owner,
        start: impl FnOnce() -> F,
    ) -> Flight {
        let mut flights = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(owner) {
            return flight.clone();
        }
        let (landing, landed) = (Arc::clone(&self.of), owner.clone());
        let attempt = start();
        // The guard is made in the task: a runtime that ends drops a task that has not run while the lock is held here.
        let task = self.tasks.spawn(async move {
            let _landing = Landing {
                flights: landing,
                owner: landed,
            };
            attempt.await;
        });
        let flight = task.map(drop).boxed().shared();
        flights.insert(owner.clone(), flight.clone());
        flight
    }
}

/// Removes the attempt when it has ended, even by a panic.
struct Landing {
    flights: Arc<Mutex<HashMap<Owner, Flight>>>,
    owner: Owner,
}

impl Drop for Landing {
    fn drop(&mut self) {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        flights.remove(&self.owner);
    }
}
