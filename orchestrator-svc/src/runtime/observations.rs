//! The statuses of a runtime's servers, which can be read and observed.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures::stream::{BoxStream, StreamExt as _};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::domain::{runtime::Observed, status::Status};

/// The status of each owner.
#[derive(Debug, Default)]
pub(crate) struct Observations(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    statuses: HashMap<String, Status>,
    /// Unbounded: a sender must not wait under the lock, and observers take statuses out at once.
    observers: Vec<UnboundedSender<Observed>>,
}

impl Observations {
    pub(crate) fn get(&self, owner: &str) -> Option<Status> {
        self.inner().statuses.get(owner).cloned()
    }

    /// Changes an owner's status, which is `first` to begin with. Observers see it if it differs then.
    pub(crate) fn update(&self, owner: &str, first: impl FnOnce() -> Status, change: impl FnOnce(&mut Status)) {
        let mut inner = self.inner();
        let before = inner.statuses.get(owner).cloned();
        let mut status = before.clone().unwrap_or_else(first);
        change(&mut status);
        if before.as_ref() != Some(&status) {
            inner.statuses.insert(owner.to_owned(), status.clone());
            inner.tell(owner, Some(status));
        }
    }

    /// Removes an owner's status.
    pub(crate) fn forget(&self, owner: &str) {
        let mut inner = self.inner();
        if inner.statuses.remove(owner).is_some() {
            inner.tell(owner, None);
        }
    }

    /// See `Runtime::observe`.
    pub(crate) fn observe(&self) -> BoxStream<'static, Observed> {
        let mut inner = self.inner();
        let (sender, receiver) = unbounded_channel();
        for (owner, status) in &inner.statuses {
            let observed = Observed {
                owner: owner.clone(),
                status: Some(status.clone()),
            };
            let _ = sender.send(observed);
        }
        inner.observers.push(sender);
        futures::stream::unfold(receiver, |mut receiver: UnboundedReceiver<_>| async move {
            receiver.recv().await.map(|observed| (observed, receiver))
        })
        .boxed()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn tell(&mut self, owner: &str, status: Option<Status>) {
        let observed = Observed {
            owner: owner.to_owned(),
            status,
        };
        self.observers
            .retain(|observer| observer.send(observed.clone()).is_ok());
    }
}
