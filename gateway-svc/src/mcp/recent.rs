//! The sessions that were seen last. There are many, and only their ids are kept: a moka cache would take more memory for each id.

use std::{
    collections::HashSet,
    mem::take,
    sync::{Mutex, MutexGuard, PoisonError},
};

use aws_lc_rs::aead::NONCE_LEN;

/// The ids of the last `least` sessions, and of as many before them at most.
#[derive(Debug)]
pub(super) struct Recent {
    least: usize,
    ids: Mutex<Ids>,
}

#[derive(Debug, Default)]
struct Ids {
    last: HashSet<[u8; NONCE_LEN]>,
    before: HashSet<[u8; NONCE_LEN]>,
}

impl Recent {
    pub(super) fn new(least: usize) -> Self {
        let ids = Mutex::default();
        Self { least, ids }
    }

    /// A session is seen. Returns whether it was not seen recently.
    pub(super) fn insert(&self, id: [u8; NONCE_LEN]) -> bool {
        let mut ids = self.lock();
        let is_new = !ids.before.contains(&id);
        if ids.last.len() >= self.least && !ids.last.contains(&id) {
            ids.before = take(&mut ids.last);
        }
        ids.last.insert(id) && is_new
    }

    fn lock(&self) -> MutexGuard<'_, Ids> {
        // Nothing panics between two changes that belong together.
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_were_seen_last_are_known_and_no_more_than_twice_as_many() {
        let recent = Recent::new(10);
        for id in 0..100 {
            assert!(recent.insert([id; NONCE_LEN]), "{id}");
            for known in id.saturating_sub(5)..=id {
                assert!(!recent.insert([known; NONCE_LEN]), "{known} after {id}");
            }
            let ids = recent.lock();
            assert!(ids.last.len() + ids.before.len() <= 20);
        }
        assert!(recent.insert([0; NONCE_LEN]));
    }
}
