//! One report of an owner at a time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use super::owner::Owner;

/// A lock for each owner that is being reported.
#[derive(Debug, Default)]
pub(super) struct Locks(Mutex<HashMap<Owner, Weak<tokio::sync::Mutex<()>>>>);

impl Locks {
    pub(super) fn of(&self, owner: &Owner) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = locks.get(owner).and_then(Weak::upgrade) {
            return lock;
        }
        locks.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::new(tokio::sync::Mutex::new(()));
        locks.insert(owner.clone(), Arc::downgrade(&lock));
        lock
    }
}
