//! A semaphore for each caller, so that a caller with many requests waits only for their own.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::Semaphore;

/// Below this number of callers, unused semaphores are not removed.
const FEW: usize = 64;

/// A semaphore for each caller who has or waits for a permit.
#[derive(Debug)]
pub struct PerCaller {
    permits: usize,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    each: HashMap<Arc<str>, Weak<Semaphore>>,
    /// The number of semaphores at which unused ones are removed.
    most: usize,
}

impl PerCaller {
    /// Gives each caller this many permits.
    pub fn new(permits: usize) -> Self {
        Self {
            permits,
            known: Mutex::default(),
        }
    }

    /// The caller's semaphore, which is never closed.
    pub fn of(&self, caller: &Arc<str>) -> Arc<Semaphore> {
        // Nothing panics between two changes that belong together.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = known.each.get(caller).and_then(Weak::upgrade) {
            return own;
        }
        if known.each.len() >= known.most {
            known.each.retain(|_, own| own.strong_count() > 0);
            known.most = (known.each.len() * 2).max(FEW);
        }
        let own = Arc::new(Semaphore::new(self.permits));
        known.each.insert(Arc::clone(caller), Arc::downgrade(&own));
        own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_caller_has_a_semaphore_while_they_use_it() {
        let permits = PerCaller::new(1);
        let alice: Arc<str> = "users/alice".into();
        let held = permits.of(&alice).try_acquire_owned().unwrap();
        assert!(permits.of(&alice).try_acquire_owned().is_err());
        for caller in 0..1_000 {
            assert!(permits.of(&format!("users/{caller}").into()).try_acquire().is_ok());
        }
        assert!(
            permits.of(&alice).try_acquire_owned().is_err(),
            "her semaphore is the same"
        );
        assert!(
            permits.known.lock().unwrap().each.len() <= FEW,
            "unused semaphores are removed"
        );
        drop(held);
        assert!(permits.of(&alice).try_acquire_owned().is_ok());
    }
}
